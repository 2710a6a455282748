//! Transit roles: who bounces which slots, who divides.

use crate::app::App;
use crate::frame::caller::{Access, Caller};
use crate::frame::fault::Fault;
use crate::frame::handlers::method_not_allowed;
use crate::frame::query::parameters;
use actix_web::web::ServiceConfig;
use actix_web::{HttpRequest, HttpResponse, web};
use mizar_db::resources::role::{self, RoleFilter, RoleRow};
use serde_json::{Value, json};

/// Names of `subscriptions.role`.
pub(super) const ROLES: [(&str, i16); 2] = [("bouncer", 2), ("divider", 3)];

/// Names of `subscriptions.state`.
pub(super) const STATES: [(&str, i16); 3] = [("pending", 1), ("active", 2), ("draining", 3)];

/// Filters of the list.
pub const FILTERS: [&str; 5] = ["host", "network_id", "subnet_id", "role", "state"];

/// Routes.
pub fn mount(config: &mut ServiceConfig) {
    config.service(
        web::resource(["/v2.0/mizar/roles", "/v2.0/mizar/roles.json"])
            .default_service(web::to(method_not_allowed))
            .route(web::get().to(index)),
    );
}

fn number(names: &[(&str, i16)], parameter: &str, word: &str) -> Result<i16, Fault> {
    let known = names.iter().find(|(name, _)| *name == word).map(|(_, number)| *number);
    known.ok_or_else(|| Fault::invalid_input(format!("'{parameter}': '{word}' is not known")))
}

pub(super) fn name(names: &'static [(&'static str, i16)], number: i16) -> &'static str {
    names.iter().find(|(_, known)| *known == number).map_or("unknown", |(name, _)| *name)
}

fn filter(query: &str) -> Result<RoleFilter, Fault> {
    let mut filter = RoleFilter::default();
    for (parameter, value) in parameters(query)? {
        let id = || value.parse().map_err(|_| Fault::invalid_input(format!("'{parameter}': '{value}' is not a UUID")));
        match parameter.as_str() {
            "host" => filter.host = Some(value),
            "network_id" => filter.network_id = Some(id()?),
            "subnet_id" => filter.subnet_id = Some(id()?),
            "role" => filter.role = Some(number(&ROLES, &parameter, &value)?),
            "state" => filter.state = Some(number(&STATES, &parameter, &value)?),
            _ => return Err(Fault::bad_request(format!("['{parameter}'] is invalid attribute for filtering"))),
        }
    }
    Ok(filter)
}

fn view(row: &RoleRow) -> Value {
    let is_bouncer = row.subnet_id.is_some();
    json!({
        "host": row.host,
        "role": name(&ROLES, row.role),
        "state": name(&STATES, row.state),
        "network_id": row.network_id,
        "subnet_id": row.subnet_id,
        "first_slot": is_bouncer.then_some(row.lo),
        "last_slot": is_bouncer.then_some(row.hi),
        "since": crate::frame::standard::time(row.changed_at),
    })
}

async fn index(app: web::Data<App>, caller: Caller, request: HttpRequest) -> Result<HttpResponse, Fault> {
    if !caller.has(Access::Admin) {
        return Err(Fault::forbidden("get_mizar_roles"));
    }
    let filter = filter(request.query_string())?;
    let mut conn = app.pool.get().await?;
    let rows = role::list(&mut conn, filter).await?;
    Ok(HttpResponse::Ok().json(json!({"roles": rows.iter().map(view).collect::<Vec<_>>()})))
}
