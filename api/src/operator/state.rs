//! What a host should have, what it has, and what is between the two.

use super::{hosts, roles};
use crate::app::App;
use crate::cloud::at;
use crate::frame::caller::Access;
use crate::frame::context::Context;
use crate::frame::fault::Fault;
use crate::frame::standard::time;
use crate::seeing::named;
use actix_web::HttpResponse;
use actix_web::web::{Data, Path, ServiceConfig};
use mizar_db::resources::applied::{self, Applied, Count, NAMED, Waiting};
use mizar_db::resources::host::Host;
use mizar_db::resources::role::RoleRow;
use mizar_wire::{Kind, Scope};
use serde_json::{Value, json};

/// What can be between the two.
pub const WHATS: [&str; 4] = ["port", "bouncer", "divider", "entry"];

/// What is counted.
pub const COUNTED: [&str; 3] = ["ports", "bouncers", "dividers"];

/// Routes.
pub fn mount(config: &mut ServiceConfig) {
    config.service(at("/v2.0/mizar/hosts/{host}/state").get(show));
}

async fn show(app: Data<App>, context: Context, path: Path<String>) -> Result<HttpResponse, Fault> {
    if !context.caller.has(Access::Admin) {
        return Err(Fault::forbidden("get_host_state"));
    }
    let mut conn = app.pool.get().await?;
    let host = hosts::found(&mut conn, &context, named(&path)).await?;
    let applied = applied::of(&mut conn, host.row.number, &host.row.name).await?;
    Ok(HttpResponse::Ok().json(json!({ "state": view(&host, &applied) })))
}

/// A port that is not ACTIVE, and why.
fn waiting(port: &Waiting) -> Value {
    let Waiting { id, name, status, status_reason, admin_state_up } = port;
    let why = match (status_reason.as_str(), admin_state_up) {
        ("", false) => "it is disabled",
        ("", true) => "not attached on the host, or not known to all bouncers of its addresses",
        (reason, _) => reason,
    };
    json!({"what": WHATS[0], "id": id, "name": name, "state": status, "why": why})
}

/// A role that is not active, and why.
fn changing(role: &RoleRow) -> Value {
    let state = roles::name(&roles::STATES, role.state);
    let why = match state {
        "pending" => "the host has not acknowledged it",
        _ => "it goes once every sender knows who follows",
    };
    let slots = role.subnet_id.map_or_else(String::new, |_| format!("slots {} to {}", role.lo, role.hi));
    let what = roles::name(&roles::ROLES, role.role);
    json!({"what": what, "id": role.subnet_id.or(role.network_id), "name": slots, "state": state, "why": why})
}

/// An entry that the host could not apply; what a later version calls it stays a number.
fn failed(failure: &Value) -> Value {
    let kind = failure["kind"].as_i64().and_then(|number| Kind::from_i16(number.try_into().ok()?));
    let scope = failure["scope"].as_i64().and_then(Scope::from_i64);
    let name = match (kind, scope) {
        (Some(kind), Some(scope)) => format!("{kind:?} of {scope:?}"),
        _ => format!("kind {} of scope {}", failure["kind"], failure["scope"]),
    };
    json!({"what": WHATS[3], "id": failure["key"], "name": name, "state": "failed", "why": failure["reason"]})
}

fn view(host: &Host, applied: &Applied) -> Value {
    let Applied { ports, bouncers, dividers, waiting: missing, changing: between } = applied;
    let counts = [ports, bouncers, dividers];
    let counted = |of: fn(&Count) -> i64| -> serde_json::Map<String, Value> {
        COUNTED.into_iter().zip(counts).map(|(kind, count)| (kind.to_owned(), json!(of(count)))).collect()
    };
    let failures: Vec<&Value> =
        host.state.iter().flat_map(|state| state.failures.as_array().into_iter().flatten()).collect();
    let mut difference: Vec<Value> = missing.iter().map(waiting).collect();
    difference.extend(between.iter().map(changing));
    difference.extend(failures.iter().take(NAMED).map(|failure| failed(failure)));
    let differ = counts.iter().map(|count| count.desired - count.applied).sum::<i64>() + failures.len() as i64;
    let left_out = (differ - difference.len() as i64).max(0);
    json!({
        "host": host.row.name, "alive": host.alive, "silent_s": host.silent_s(), "lost_since": host.row.lost_since.map(time),
        "pending_entries": host.lag.map(|lag| lag.entries),
        "oldest_pending_s": host.lag.filter(|lag| lag.entries > 0).map(|lag| lag.oldest.as_secs()),
        "desired": counted(|count| count.desired), "applied": counted(|count| count.applied),
        "difference": difference, "left_out": left_out,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_that_failed_is_called_by_its_kind_and_whom_it_is_for() {
        let failure =
            |kind: i16, scope: i64| json!({"scope": scope, "kind": kind, "key": "0a", "reason": "the map is full"});
        let known = failed(&failure(8, Scope::Subnet(7).to_i64()));
        let expected = json!({"what": "entry", "id": "0a", "name": "Bounce of Subnet(7)", "state": "failed", "why": "the map is full"});
        assert_eq!(known, expected);
        assert_eq!(failed(&failure(999, 5))["name"], "kind 999 of scope 5");
    }

    #[test]
    fn a_port_that_is_not_there_says_why() {
        let port = |reason: &str, up| Waiting {
            id: uuid::Uuid::nil(),
            name: "web".into(),
            status: "DOWN".into(),
            status_reason: reason.into(),
            admin_state_up: up,
        };
        let why = |reason, up| waiting(&port(reason, up))["why"].as_str().unwrap_or_default().to_owned();
        assert_eq!(why("no such device", true), "no such device");
        assert_eq!(why("", false), "it is disabled");
        assert!(why("", true).starts_with("not attached"));
    }
}
