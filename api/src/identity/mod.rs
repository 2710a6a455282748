//! A Keystone-v3-compatible issuer of tokens, embedded, so that a cloud starts with one command.

pub mod accounts;
pub mod auth;
pub mod catalog;
pub mod discovery;
pub mod keys;
pub mod password;
pub mod token;

use actix_web::web::ServiceConfig;

/// Routes.
pub fn mount(config: &mut ServiceConfig) {
    config.configure(discovery::mount).configure(auth::mount).configure(accounts::mount);
}
