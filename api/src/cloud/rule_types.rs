//! The kinds of QoS rules that policies can have. No host acts on any yet: a type names no driver.

use super::{at, select};
use crate::frame::caller::{Access, Caller};
use crate::frame::decode::Decode as _;
use crate::frame::fault::Fault;
use crate::frame::query::parameters;
use actix_web::web::{Path, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use mizar_domain::qos::RuleKind;
use serde_json::{Value, json};

/// Filters of the list.
pub const FILTERS: [&str; 1] = ["type"];

/// Which types are asked for; every type is of both sets.
pub const SETS: [&str; 2] = ["all_supported", "all_rules"];

/// Routes.
pub fn mount(config: &mut ServiceConfig) {
    config.service(at("/v2.0/qos/rule-types").get(list)).service(at("/v2.0/qos/rule-types/{rule_type}").get(show));
}

async fn list(caller: Caller, request: HttpRequest) -> Result<HttpResponse, Fault> {
    if !caller.has(Access::Reader) {
        return Err(Fault::forbidden("get_rule_type"));
    }
    let (sets, rest): (Vec<_>, Vec<_>) =
        parameters(request.query_string())?.into_iter().partition(|(name, _)| SETS.contains(&name.as_str()));
    for (name, value) in sets {
        bool::decode(&Value::String(value)).map_err(|reason| Fault::invalid_input(format!("'{name}': {reason}")))?;
    }
    let all = RuleKind::ALL.map(|kind| json!({"type": kind.as_str()}));
    Ok(HttpResponse::Ok().json(json!({"rule_types": select(all.to_vec(), &rest, &FILTERS)?})))
}

/// Which drivers act on a type is the operators' to know, as in Neutron.
async fn show(caller: Caller, path: Path<String>) -> Result<HttpResponse, Fault> {
    if !caller.has(Access::Admin) {
        return Err(Fault::forbidden("get_rule_type"));
    }
    let name = path.strip_suffix(".json").unwrap_or(&path);
    let missing = || Fault::not_found("QosRuleTypeNotFound", format!("QoS rule type {name} could not be found."));
    let kind = RuleKind::named(name).ok_or_else(missing)?;
    Ok(HttpResponse::Ok().json(json!({"rule_type": {"type": kind.as_str(), "drivers": []}})))
}
