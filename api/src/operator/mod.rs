//! The `mizar` extension: what operators see of hosts and roles.

pub mod hosts;
pub mod roles;

use actix_web::web::ServiceConfig;

/// Routes beside those of the resources.
pub fn mount(config: &mut ServiceConfig) {
    config.configure(roles::mount);
}
