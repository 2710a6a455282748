//! The `mizar` extension: what operators see of hosts, roles and placement.

pub mod hosts;
pub mod placement;
pub mod roles;
pub mod state;

use actix_web::web::ServiceConfig;

/// Routes beside those of the resources.
pub fn mount(config: &mut ServiceConfig) {
    config.configure(roles::mount).configure(placement::mount).configure(state::mount);
}
