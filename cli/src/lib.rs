//! The command line, and the sandbox it can start: a whole deployment on one machine.
//!
//! [`sandbox`] runs the real parts (PostgreSQL, API, scheduler, one agent per host) with hosts in
//! network namespaces; [`demo`] shows two tenants in it; [`devel`] holds the verbs of `./dev`.
//! End-to-end tests use the same [`sandbox::Sandbox`], so that what is tested is what a newcomer
//! starts. All of it is blocking code: it waits for processes and enters namespaces, which is the
//! work of threads.

pub mod client;
pub mod demo;
pub mod devel;
pub mod sandbox;
