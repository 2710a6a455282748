//! The scheduler against a real PostgreSQL, with agents that do nothing but acknowledge.

mod cluster;
mod deletion;
mod failure;
mod fan_out;
mod housekeeping;
mod leadership;
mod placement;
mod watch;
