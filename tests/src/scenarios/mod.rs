//! Scenarios that more than one test program runs, with other settings.

pub mod direct;
pub mod errors;
pub mod lifecycle;
pub mod paths;
pub mod replay;
