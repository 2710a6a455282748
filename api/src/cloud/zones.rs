//! Availability zones, as hosts name theirs; and the providers of advanced services, of which
//! there are none.

use super::{at, select};
use crate::app::App;
use crate::frame::caller::{Access, Caller};
use crate::frame::fault::Fault;
use crate::frame::query::parameters;
use actix_web::web::ServiceConfig;
use actix_web::{HttpRequest, HttpResponse, web};
use mizar_db::resources::host;
use serde_json::{Value, json};

/// Filters of the list of zones.
pub const ZONE_FILTERS: [&str; 3] = ["name", "resource", "state"];

/// Filters of the list of providers.
pub const PROVIDER_FILTERS: [&str; 3] = ["service_type", "name", "default"];

/// States of a zone: whether one of its hosts lives.
pub const STATES: [&str; 2] = ["available", "unavailable"];

/// Routes.
pub fn mount(config: &mut ServiceConfig) {
    config.service(at("/v2.0/availability_zones").get(zones)).service(at("/v2.0/service-providers").get(providers));
}

async fn zones(app: web::Data<App>, caller: Caller, request: HttpRequest) -> Result<HttpResponse, Fault> {
    if !caller.has(Access::Reader) {
        return Err(Fault::forbidden("get_availability_zone"));
    }
    let mut conn = app.pool.get().await?;
    let zones = host::zones(&mut conn, app.settings.lease).await?;
    let view = |(name, lives): (String, bool)| json!({"name": name, "resource": "network", "state": STATES[usize::from(!lives)]});
    let zones: Vec<Value> = zones.into_iter().map(view).collect();
    let zones = select(zones, &parameters(request.query_string())?, &ZONE_FILTERS)?;
    Ok(HttpResponse::Ok().json(json!({ "availability_zones": zones })))
}

async fn providers(caller: Caller, request: HttpRequest) -> Result<HttpResponse, Fault> {
    if !caller.has(Access::Reader) {
        return Err(Fault::forbidden("get_service_provider"));
    }
    let none = select(Vec::new(), &parameters(request.query_string())?, &PROVIDER_FILTERS)?;
    Ok(HttpResponse::Ok().json(json!({ "service_providers": none })))
}
