//! `mizar host state`: what a host should have, what it has, and what is between the two.

use super::failure::{Exit, Problem};
use super::render::{Format, Output};
use super::{cloud, tables, tree};
use crate::client::Api;
use crate::sandbox::agent::Agent;
use anyhow::Result;
use clap::{Arg, ArgMatches, Command, value_parser};
use cloud::Wanted;
use serde_json::{Value, json};
use std::path::PathBuf;

/// The noun that has it.
pub const NOUN: &str = "host";
/// The verb.
pub const STATE: &str = "state";

/// Adds the verb to the noun.
pub fn extend(noun: Command) -> Command {
    let about = noun.get_about().map(ToString::to_string).unwrap_or_default();
    noun.about(format!("{about}, {STATE}")).subcommand(command())
}

fn command() -> Command {
    let command = Command::new(STATE)
        .about("Show what a host should have, what it has, and the difference")
        .after_help("Example:\n  mizar host state host1")
        .arg(Arg::new("object").value_name("NAME").required(true).help("Name or id"))
        .arg(
            Arg::new("socket")
                .long("socket")
                .value_name("PATH")
                .value_parser(value_parser!(PathBuf))
                .help("Ask its agent too, by its socket on this host, such as /run/mizar/agent.sock"),
        );
    tree::output(command)
}

/// Compares.
pub fn state(api: &Api, matches: &ArgMatches) -> Result<String> {
    let name = matches.get_one::<String>("object").expect("is required");
    let host = cloud::find(api, tables::of(NOUN), name)?;
    let named = |filter: &str| Wanted { filters: vec![(filter.into(), text(&host, "name"))], ..Wanted::default() };
    let ports = cloud::list(api, tables::of("port"), &named("binding:host_id"))?;
    let roles = cloud::list(api, tables::of("role"), &named("host"))?;
    let mut state = compare(&host, &ports, &roles);
    if let Some(socket) = matches.get_one::<PathBuf>("socket") {
        let agent = Agent::at(socket.clone()).status()?;
        if text(&host, "name") != agent.host {
            let message = format!("--socket: the agent there is host {}'s", agent.host);
            return Err(Problem::new(Exit::Usage, message).into());
        }
        let unwired = ports.iter().filter(|port| !agent.ports.iter().any(|wired| port["id"] == wired.to_string()));
        state["agent"] = json!({
            "entries": agent.entries, "api_seen_s": agent.api_seen_s, "failures": agent.failures,
            "wired": agent.ports.len(), "not_wired": unwired.map(|port| port["id"].clone()).collect::<Vec<_>>(),
            "drops": agent.drops, "maps": agent.maps,
        });
    }
    let output = Output::of(matches);
    if *matches.get_one::<Format>("output").expect("has a default") != Format::Table {
        return output.object(&state);
    }
    let difference = state["difference"].as_array().cloned().unwrap_or_default();
    let mut shown = output.object(&state)?;
    if matches.get_many::<String>("column").is_none() {
        let mut summary = state;
        summary["difference"] = json!(difference.len());
        shown = output.object(&summary)?;
        if !difference.is_empty() {
            let list =
                Output::new(Format::Table, Vec::new()).list(&difference, &["what", "id", "name", "state", "why"])?;
            shown += &format!("\n{list}");
        }
    }
    Ok(shown)
}

fn text(object: &Value, name: &str) -> String {
    object[name].as_str().unwrap_or_default().to_owned()
}

/// A port is there once it is ACTIVE, a role once it is active; all else is on its way, or stuck.
fn compare(host: &Value, ports: &[Value], roles: &[Value]) -> Value {
    let is = |object: &Value, field: &str, word: &str| object[field] == word;
    let mut difference = Vec::new();
    for port in ports.iter().filter(|port| !is(port, "status", "ACTIVE")) {
        let reason = match (text(port, "mizar:status_reason"), port["admin_state_up"] == false) {
            (reason, _) if !reason.is_empty() => reason,
            (_, true) => "it is disabled".into(),
            _ => "not attached on the host, or not known to all bouncers of its addresses".into(),
        };
        difference.push(
            json!({"what": "port", "id": port["id"], "name": port["name"], "state": port["status"], "why": reason}),
        );
    }
    for role in roles.iter().filter(|role| !is(role, "state", "active")) {
        let why = if is(role, "state", "pending") {
            "the host has not acknowledged it"
        } else {
            "it goes once every sender knows who follows"
        };
        let id = if role["subnet_id"].is_null() { &role["network_id"] } else { &role["subnet_id"] };
        difference.push(json!({"what": role["role"], "id": id, "name": "", "state": role["state"], "why": why}));
    }
    for failure in host["failures"].as_array().into_iter().flatten() {
        difference.push(
            json!({"what": "entry", "id": failure["key"], "name": "", "state": "failed", "why": failure["reason"]}),
        );
    }
    let count = |all: &[Value], field: &str, word: &str| all.iter().filter(|one| is(one, field, word)).count();
    json!({
        "host": host["name"],
        "alive": host["alive"],
        "silent_s": host["silent_s"],
        "lost_since": host["lost_since"],
        "desired": {"ports": ports.len(), "roles": roles.len()},
        "applied": {"ports": count(ports, "status", "ACTIVE"), "roles": count(roles, "state", "active")},
        "difference": difference,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_applied_is_named_with_its_reason() {
        let host = json!({"name": "h1", "alive": true, "silent_s": 1, "lost_since": null,
            "failures": [{"scope": 1, "kind": 2, "key": "0a", "reason": "the map is full"}]});
        let ports = [
            json!({"id": "p1", "name": "a", "status": "ACTIVE"}),
            json!({"id": "p2", "name": "b", "status": "BUILD", "mizar:status_reason": "", "admin_state_up": true}),
            json!({"id": "p3", "name": "c", "status": "ERROR", "mizar:status_reason": "no such device", "admin_state_up": true}),
        ];
        let roles = [
            json!({"role": "bouncer", "state": "active", "subnet_id": "s1", "network_id": "n1"}),
            json!({"role": "divider", "state": "pending", "subnet_id": null, "network_id": "n1"}),
        ];
        let state = compare(&host, &ports, &roles);
        assert_eq!(state["desired"], json!({"ports": 3, "roles": 2}));
        assert_eq!(state["applied"], json!({"ports": 1, "roles": 1}));
        let whats: Vec<_> = state["difference"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|d| (text(d, "what"), text(d, "id"), text(d, "why")))
            .collect();
        assert_eq!(whats.len(), 4);
        assert_eq!(whats[1], ("port".into(), "p3".into(), "no such device".into()));
        assert_eq!(whats[2].0, "divider");
        assert_eq!(whats[3], ("entry".into(), "0a".into(), "the map is full".into()));
    }
}
