//! The frame that every resource shares. [`resource`] says what a resource is.

pub mod attribute;
pub mod caller;
pub mod decode;
pub mod fault;
pub mod fields;
pub mod handlers;
pub mod query;
pub mod resource;
pub mod standard;
pub mod tags;
