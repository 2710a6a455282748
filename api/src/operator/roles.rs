//! Transit roles: who bounces which slots, who divides.

use crate::app::App;
use crate::frame::caller::{Access, Caller};
use crate::frame::fault::Fault;
use crate::frame::handlers::method_not_allowed;
use crate::frame::query::parameters;
use actix_web::web::ServiceConfig;
use actix_web::{HttpRequest, HttpResponse, web};
use mizar_db::resources::role::{self, RoleCount, RoleFilter, RoleRow};
use serde_json::{Value, json};

/// Names of `subscriptions.role`.
pub(crate) const ROLES: [(&str, i16); 2] = [("bouncer", 2), ("divider", 3)];

/// Names of `subscriptions.state`.
pub(crate) const STATES: [(&str, i16); 3] = [("pending", 1), ("active", 2), ("draining", 3)];

/// Filters of the list.
pub const FILTERS: [&str; 5] = ["host", "network_id", "subnet_id", "role", "state"];

/// Hosts whose roles one request counts.
pub const HOSTS: usize = 100;

/// Routes.
pub fn mount(config: &mut ServiceConfig) {
    let paths = web::resource(["/v2.0/mizar/roles", "/v2.0/mizar/roles.json"]);
    let counts = web::resource(["/v2.0/mizar/role-counts", "/v2.0/mizar/role-counts.json"]);
    config
        .service(paths.default_service(web::to(method_not_allowed)).route(web::get().to(index)))
        .service(counts.default_service(web::to(method_not_allowed)).route(web::get().to(count)));
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
            "limit" => {
                let one = value.parse().ok().filter(|limit: &i64| *limit > 0);
                let wrong = || Fault::invalid_input(format!("'limit': '{value}' is no number above 0"));
                filter.limit = Some(one.ok_or_else(wrong)?);
            }
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

/// The hosts of a query: some, and not too many.
fn hosts(query: &str) -> Result<Vec<String>, Fault> {
    let mut hosts = Vec::new();
    for (parameter, value) in parameters(query)? {
        match parameter.as_str() {
            "host" => hosts.push(value),
            _ => return Err(Fault::bad_request(format!("['{parameter}'] is invalid attribute for filtering"))),
        }
    }
    match hosts.len() {
        1..=HOSTS => Ok(hosts),
        0 => Err(Fault::bad_query("host: of which hosts? It names one, and may be repeated")),
        many => Err(Fault::bad_query(format!("host: {many} are named, and at most {HOSTS} may be"))),
    }
}

async fn count(app: web::Data<App>, caller: Caller, request: HttpRequest) -> Result<HttpResponse, Fault> {
    if !caller.has(Access::Admin) {
        return Err(Fault::forbidden("get_mizar_role_counts"));
    }
    let hosts = hosts(request.query_string())?;
    let counts = role::counts(&mut *app.pool.get().await?, hosts).await?;
    let view = |RoleCount { host, role, state, count }: &RoleCount| json!({"host": host, "role": name(&ROLES, *role), "state": name(&STATES, *state), "count": count});
    Ok(HttpResponse::Ok().json(json!({"role_counts": counts.iter().map(view).collect::<Vec<_>>()})))
}
