//! `mizar-scheduler`: gives hosts their transit roles and looks after what nobody asks for.
//!
//! Any number of schedulers run, one leads ([`election`]). A leader that dies at any point leaves
//! nothing half done: every step is one transaction, and every round begins from what is stored,
//! never from what happened before.
//!
//! The leader's loops:
//! - [`placer`]: bouncers of every shard and dividers of every network. Reads ([`world`]), judges
//!   leases and decides ([`decide`], pure, over `mizar-placement`), writes one network at a time.
//!   Roles come and go in phases ([`phases`], pure).
//! - [`keys`]: the cluster key, drawn, distributed, rotated.
//! - [`auditor`]: compares what is stored with what it should be.
//! - [`janitor`]: tombstones, former paths of ports, includes that nothing needs, old audit events.
//!
//! [`metrics`]: what operators see of it.

pub mod auditor;
pub mod config;
pub mod decide;
pub mod election;
pub mod janitor;
pub mod keys;
pub mod metrics;
mod pace;
pub mod phases;
pub mod placer;
mod remains;
mod view;
pub mod world;

pub use config::Settings;
pub use election::run;
