//! What may pass to and from a port: the rules that decide, of all its groups together.
//!
//! Rules of several groups that let the same packets pass are one line that names them all. Where
//! label policies isolate the port they decide alone, so the groups' rules are not shown beside them.
//! Where all groups are stateless, the rules are about each packet, answers too, and no other passes.

use super::{named, own_port};
use crate::app::App;
use crate::cloud::at;
use crate::frame::context::Context;
use crate::frame::fault::Fault;
use actix_web::HttpResponse;
use actix_web::web::{Data, Path, ServiceConfig};
use mizar_db::resources::reach::{self, RuleOfPort, Says};
use mizar_domain::label_policy::{Labels, manifest};
use mizar_domain::port::is_filtered;
use mizar_domain::security_group::Direction;
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use uuid::Uuid;

/// What decides in a direction.
pub const DECIDES: [&str; 3] = ["nothing", "security_groups", "label_policies"];

/// Routes.
pub fn mount(config: &mut ServiceConfig) {
    config.service(at("/v2.0/ports/{port}/effective-rules").get(effective));
}

/// Bytes of the rules of label policies that are told of a direction; beyond them a policy is named without its rules.
pub const TOLD: usize = 1 << 20;

/// A policy that isolates the port.
#[derive(Serialize)]
struct Isolating<'p> {
    id: Uuid,
    namespace: &'p str,
    name: String,
    /// As the manifest has them; `None`: too long for this answer.
    rules: Option<Value>,
}

/// What decides in a direction.
#[derive(Serialize)]
struct Way<'p> {
    decided_by: &'static str,
    rules: Vec<Value>,
    label_policies: Vec<Isolating<'p>>,
}

#[derive(Serialize)]
struct Rules<'p> {
    port_id: Uuid,
    filtered: bool,
    stateful: bool,
    hidden_security_groups: usize,
    ingress: Way<'p>,
    egress: Way<'p>,
}

#[derive(Serialize)]
struct Answer<'p> {
    effective_rules: Rules<'p>,
}

async fn effective(app: Data<App>, context: Context, path: Path<String>) -> Result<HttpResponse, Fault> {
    let mut conn = app.pool.get().await?;
    let port = own_port(&mut conn, &context, named(&path), "get_port_effective_rules").await?;
    let is_filtered = is_filtered(port.port_security_enabled, &port.device_owner);
    let (rules, hidden) = match is_filtered {
        true => reach::rules_of(&mut conn, port.id, context.view).await?,
        false => (Vec::new(), 0),
    };
    let labels = port.extras.0.labels.as_ref().filter(|_| is_filtered);
    // Label policies may isolate a port with labels, and they are stateful.
    let stateful = !is_filtered || labels.is_some() || !reach::has_stateless_groups_alone(&mut conn, port.id).await?;
    let stored = match labels {
        Some(labels) => reach::policies_of(&mut conn, port.project_id, &labels.namespace).await?,
        None => Vec::new(),
    };
    // Others need the connection while this is worked out.
    drop(conn);
    let [mut ingress, mut egress] = isolating(labels, stored)?;
    let mut way = |direction: Direction| {
        let [nothing, by_groups, by_labels] = DECIDES;
        let policies = match direction {
            Direction::Ingress => ingress.take(),
            Direction::Egress => egress.take(),
        };
        let (decided_by, rules) = match &policies {
            Some(_) => (by_labels, Vec::new()),
            None if is_filtered => (by_groups, lines(&rules, direction)),
            None => (nothing, Vec::new()),
        };
        Way { decided_by, rules, label_policies: policies.unwrap_or_default() }
    };
    let (ingress, egress) = (way(Direction::Ingress), way(Direction::Egress));
    let rules =
        Rules { port_id: port.id, filtered: is_filtered, stateful, hidden_security_groups: hidden, ingress, egress };
    Ok(HttpResponse::Ok().json(Answer { effective_rules: rules }))
}

/// The policies that isolate a port with these labels, by direction; none where none does.
fn isolating<'p>(
    labels: Option<&'p Labels>,
    stored: Vec<(Uuid, String, Value)>,
) -> Result<[Option<Vec<Isolating<'p>>>; 2], Fault> {
    let mut isolating = [None, None];
    let Some(labels) = labels else { return Ok(isolating) };
    let mut told = [0, 0];
    for (id, name, mut kept) in stored {
        let policy = manifest::read(&kept).map_err(Fault::internal)?;
        for ((direction, policies), told) in Direction::ALL.into_iter().zip(&mut isolating).zip(&mut told) {
            if policy.isolates(labels, direction).is_none() {
                continue;
            }
            // Moved, not copied: there may be a lot.
            let rules = match kept["spec"][direction.as_str()].take() {
                Value::Null => Value::Array(Vec::new()),
                rules => rules,
            };
            *told += rules.to_string().len();
            let rules = Some(rules).filter(|_| *told <= TOLD);
            policies.get_or_insert_with(Vec::new).push(Isolating {
                id,
                namespace: &labels.namespace,
                name: name.clone(),
                rules,
            });
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
