//! Who somebody is. Three ways, one setting ([`authority`]): the identity service embedded here,
//! a Keystone elsewhere, or an OIDC issuer.
//!
//! The embedded one speaks identity v3, so that a cloud starts with one command: [`auth`] issues
//! tokens, the other modules keep accounts. The network service only ever sees [`token::Claims`].

pub mod application_credentials;
pub mod assignments;
pub mod auth;
pub mod authority;
pub mod catalog;
pub mod common;
pub mod discovery;
pub mod domains;
pub mod keys;
pub mod keystone;
mod login;
pub mod oidc;
pub mod password;
pub mod projects;
mod remote;
pub mod requests;
pub mod roles;
pub mod token;
pub mod turns;
pub mod users;
pub mod views;

use actix_web::web::ServiceConfig;

/// Routes.
pub fn mount(config: &mut ServiceConfig) {
    config
        .configure(discovery::mount)
        .configure(auth::mount)
        .configure(catalog::mount)
        .configure(domains::mount)
        .configure(projects::mount)
        .configure(users::mount)
        .configure(application_credentials::mount)
        .configure(roles::mount)
        .configure(assignments::mount);
}
