//! What may pass to and from a port: the rules that decide, of all its groups together.
//!
//! Rules of several groups that let the same packets pass are one line that names them all. Where
//! label policies isolate the port they decide alone, so the groups' rules are not shown beside them.

use super::{named, own_port};
use crate::app::App;
use crate::cloud::at;
use crate::frame::context::Context;
use crate::frame::fault::Fault;
use actix_web::HttpResponse;
use actix_web::web::{Data, Path, ServiceConfig};
use diesel_async::AsyncPgConnection;
use mizar_db::resources::port::PortRow;
use mizar_db::resources::reach::{self, RuleOfPort, Says};
use mizar_domain::label_policy::manifest;
use mizar_domain::port::is_filtered;
use mizar_domain::security_group::Direction;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use uuid::Uuid;

/// What decides in a direction.
pub const DECIDES: [&str; 3] = ["nothing", "security_groups", "label_policies"];

/// Routes.
pub fn mount(config: &mut ServiceConfig) {
    config.service(at("/v2.0/ports/{port}/effective-rules").get(effective));
}

async fn effective(app: Data<App>, context: Context, path: Path<String>) -> Result<HttpResponse, Fault> {
    let mut conn = app.pool.get().await?;
    let port = own_port(&mut conn, &context, named(&path), "get_port_effective_rules").await?;
    let is_filtered = is_filtered(port.port_security_enabled, &port.device_owner);
    let (rules, hidden) = match is_filtered {
        true => reach::rules_of(&mut conn, port.id, context.view).await?,
        false => (Vec::new(), 0),
    };
    let policies = match is_filtered {
        true => policies(&mut conn, &port).await?,
        false => BTreeMap::new(),
    };
    let way = |direction: Direction| {
        let [nothing, groups, labels] = DECIDES;
        let (by, rules, policies) = match policies.get(&direction) {
            Some(policies) => (labels, Vec::new(), policies.clone()),
            None if is_filtered => (groups, lines(&rules, direction), Vec::new()),
            None => (nothing, Vec::new(), Vec::new()),
        };
        json!({"decided_by": by, "rules": rules, "label_policies": policies})
    };
    let view = json!({
        "port_id": port.id, "filtered": is_filtered, "hidden_security_groups": hidden,
        "ingress": way(Direction::Ingress), "egress": way(Direction::Egress),
    });
    Ok(HttpResponse::Ok().json(json!({ "effective_rules": view })))
}

/// The policies that isolate a port, by direction.
async fn policies(conn: &mut AsyncPgConnection, port: &PortRow) -> Result<BTreeMap<Direction, Vec<Value>>, Fault> {
    let mut isolating: BTreeMap<Direction, Vec<Value>> = BTreeMap::new();
    let Some(labels) = &port.extras.0.labels else { return Ok(isolating) };
    for (id, name, kept) in reach::policies_of(conn, port.project_id, &labels.namespace).await? {
        let policy = manifest::read(&kept).map_err(Fault::internal)?;
        for direction in Direction::ALL.into_iter().filter(|direction| policy.isolates(labels, *direction).is_some()) {
            let rules = match &kept["spec"][direction.as_str()] {
                Value::Array(rules) => rules.clone(),
                _ => Vec::new(),
            };
            let view = json!({"id": id, "namespace": labels.namespace, "name": name, "rules": rules});
            isolating.entry(direction).or_default().push(view);
        }
    }
    Ok(isolating)
}

fn lines(rules: &[RuleOfPort], direction: Direction) -> Vec<Value> {
    let mut by: BTreeMap<&Says, Vec<(Uuid, Uuid, &str)>> = BTreeMap::new();
    for RuleOfPort { id, group, group_name, says } in
        rules.iter().filter(|rule| rule.says.direction == direction.as_str())
    {
        by.entry(says).or_default().push((*id, *group, group_name));
    }
    let line = |(says, of): (&Says, Vec<(Uuid, Uuid, &str)>)| {
        let Says { direction: _, ethertype, protocol, low, high, prefix, group, group_name, addresses } = says;
        let rule = |(id, group, name): (Uuid, Uuid, &str)| json!({"id": id, "security_group_id": group, "security_group_name": name});
        json!({
            "ethertype": ethertype, "protocol": protocol, "port_range_min": low, "port_range_max": high,
            "remote_ip_prefix": prefix, "remote_group_id": group, "remote_group_name": group_name,
            "remote_address_group_id": addresses, "rules": of.into_iter().map(rule).collect::<Vec<_>>(),
        })
    };
    by.into_iter().map(line).collect()
}
