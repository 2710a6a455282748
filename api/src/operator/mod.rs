//! The `mizar` extension: what operators see of hosts and roles.

use actix_web::web::ServiceConfig;

/// Routes.
pub fn mount(_config: &mut ServiceConfig) {}
