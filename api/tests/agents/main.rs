//! The agents' listener: real TLS, real PostgreSQL, real HTTP; only the data plane is missing.

mod active;
mod errors;
mod held;
mod pki;
mod questions;
mod replicas;
mod restore;
mod server;
mod snapshots;
mod syncs;
mod tls;
