//! End-to-end tests: whole sandboxes, real packets.
//!
//! A test program starts one sandbox ([`bed::Bed`]), runs its scenarios in it one after the other
//! and takes it down ([`harness`]). A scenario gets tenants of its own; when it ends, everything
//! of them is deleted through the API and every map of every host must be empty within five
//! seconds. So each scenario also tests deletion.

pub mod bed;
pub mod command;
pub mod exchange;
pub mod flows;
pub mod groups;
pub mod guest;
pub mod harness;
pub mod scenarios;
pub mod settle;
pub mod tenant;
pub mod wire;
