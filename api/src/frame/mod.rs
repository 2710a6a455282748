//! The frame that every resource shares. [`resource`] says what a resource is.

pub mod action;
pub mod attribute;
pub mod caller;
pub mod context;
pub mod decode;
pub mod extension;
pub mod fault;
pub mod fields;
pub mod handlers;
pub mod hold;
pub mod parent;
pub mod place;
pub mod plain;
pub mod query;
pub mod quota;
pub mod resource;
pub mod standard;
pub mod stored;
pub mod tags;
pub mod tx;
