//! Types and rules of the cloud network, without I/O.

pub mod id;
pub mod mac;
pub mod model;
