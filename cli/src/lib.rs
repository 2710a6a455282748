//! The command line, and the sandbox it can start: a whole deployment on one machine.
//!
//! [`command`] is what tenants and operators use, by [`client`] to the cloud that [`config`] finds;
//! [`doctor`] looks at a host or a deployment, [`bundle`] collects what a report of a fault needs.
//!
//! [`sandbox`] runs the real parts (PostgreSQL, API, scheduler, one agent per host) with hosts in
//! network namespaces; [`demo`] shows two tenants in it; [`devel`] holds the verbs of `./dev`.
//! End-to-end tests use the same [`sandbox::Sandbox`], so that what is tested is what a newcomer
//! starts. All of it is blocking code: it waits for processes and enters namespaces, which is the
//! work of threads.

pub mod bundle;
pub mod client;
pub mod command;
pub mod config;
pub mod demo;
pub mod devel;
pub mod doctor;
pub mod sandbox;
