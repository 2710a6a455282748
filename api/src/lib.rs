//! Everything of `mizar-api` but its boot sequence (`main.rs`), so that tests start the real thing.

pub mod agent;
pub mod app;
pub mod cloud;
pub mod config;
pub mod exchange;
pub mod frame;
pub mod identity;
pub mod neutron;
pub mod observe;
pub mod openapi;
pub mod operator;
pub mod resources;
pub mod seeing;
pub mod server;
