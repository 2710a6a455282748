//! `mizar security-group preview`: which flows a change of a group's rules would cut, and what it would let pass.

use super::cloud;
use super::failure::{Exit, Problem};
use super::render::{Format, Output, cell};
use super::resource::{Pair, Resource};
use super::seeing::{flow_row, packet};
use super::{tables, tree};
use crate::client::Api;
use anyhow::{Context, Result};
use clap::{Arg, ArgAction, ArgMatches, Command};
use serde_json::{Map, Value, json};
use std::path::PathBuf;

/// What has the verb.
const NOUN: &str = "security-group";
/// The verb.
pub const PREVIEW: &str = "preview";

/// Ports that are looked at by one request.
const PAGE: u32 = 100;

/// The noun whose options name the parts of a rule.
const RULE: &str = "security-group-rule";

/// The parts of a rule, by the flags that make one; of which group it is the command says.
fn parts() -> Vec<Pair> {
    let options = tables::of(RULE).options.iter().filter(|opt| opt.create && !opt.set && !opt.positional);
    options.map(|opt| (opt.flag, opt.field, opt.kind)).collect()
}

/// Adds the verb to the noun that has it.
pub fn extend(noun: Command) -> Command {
    if noun.get_name() != NOUN {
        return noun;
    }
    let keys = parts().iter().map(|(key, ..)| *key).collect::<Vec<_>>().join(", ");
    let rules = "direction=ingress,protocol=tcp,port-min=443,port-max=443,remote-ip=192.0.2.0/24";
    let example =
        format!("Example:\n  mizar {NOUN} {PREVIEW} web --remove 6d2d1d4f-0c5c-4f2e-9d0b-0c7c5d1e3f60 --add {rules}");
    let command = Command::new(PREVIEW)
        .about(
            "Show which flows of its ports a change of a security group's rules would cut, and which packets refused \
             lately it would let pass; nothing is changed",
        )
        .after_help(example)
        .arg(Arg::new("object").value_name("NAME").required(true).help("Name or id"))
        .arg(
            Arg::new("remove")
                .long("remove")
                .value_name("RULE")
                .action(ArgAction::Append)
                .help("Without this rule, by id; may be repeated"),
        )
        .arg(
            Arg::new("add")
                .long("add")
                .value_name("KEY=VALUE,…")
                .action(ArgAction::Append)
                .help(format!("With this rule, ingress if nothing else is said: {keys}; may be repeated")),
        )
        .arg(
            Arg::new("rules")
                .long("rules")
                .value_name("FILE")
                .value_parser(clap::value_parser!(PathBuf))
                .conflicts_with_all(["add", "remove"])
                .help("With these rules alone: a JSON list of rules as the API takes them"),
        );
    let said = noun.get_about().map(ToString::to_string).unwrap_or_default();
    noun.about(format!("{said}, {PREVIEW}")).subcommand(tree::output(command))
}

/// Asks, if the verb is this.
pub fn run(api: &Api, resource: &Resource, verb: &str, matches: &ArgMatches) -> Option<Result<String>> {
    (resource.noun == NOUN && verb == PREVIEW).then(|| preview(api, resource, matches))
}

fn change(api: &Api, matches: &ArgMatches) -> Result<Map<String, Value>> {
    let mut change = Map::new();
    if let Some(path) = matches.get_one::<PathBuf>("rules") {
        let text = std::fs::read_to_string(path).with_context(|| format!("--rules: {}", path.display()))?;
        let rules: Vec<Value> = serde_json::from_str(&text)
            .with_context(|| format!("--rules: {} is no JSON list of rules", path.display()))?;
        change.insert("rules".into(), json!(rules));
        return Ok(change);
    }
    let (add, remove) = (tree::many(matches, "add"), tree::many(matches, "remove"));
    if add.is_empty() && remove.is_empty() {
        let problem = Problem::new(Exit::Usage, "which change?".to_owned());
        return Err(problem.hint("--add and --remove say it, or --rules").into());
    }
    let (known, mut rules) = (parts(), Vec::new());
    for word in &add {
        let mut rule = cloud::members(api, "add", &known, word)?;
        rule.entry("direction").or_insert_with(|| json!("ingress"));
        rules.push(rule);
    }
    change.insert("add".into(), json!(rules));
    change.insert("remove".into(), json!(remove));
    Ok(change)
}

fn preview(api: &Api, resource: &Resource, matches: &ArgMatches) -> Result<String> {
    let change = change(api, matches)?;
    let name = matches.get_one::<String>("object").expect("is required");
    let path = format!("{}/{}/{PREVIEW}", resource.path, cloud::escape(&cloud::id(api, resource, name)?));
    let ask = |marker: &Value| -> Result<Value> {
        let mut asked = change.clone();
        asked.insert("limit".into(), json!(PAGE));
        if !marker.is_null() {
            asked.insert("marker".into(), marker.clone());
        }
        Ok(api.post(&path, &json!({ "preview": asked }))?["preview"].take())
    };
    let mut found = ask(&Value::Null)?;
    while found["next_marker"].is_string() {
        let next = ask(&found["next_marker"])?;
        join(&mut found, next);
    }
    let output = Output::of(matches);
    match *matches.get_one::<Format>("output").expect("has a default") {
        Format::Table => table(&found, &output),
        _ => output.object(&found),
    }
}

/// Of more ports the same.
fn join(found: &mut Value, mut next: Value) {
    for list in ["hosts", "cut", "allowed"] {
        let more = next[list].as_array_mut().map(std::mem::take).unwrap_or_default();
        if let Some(all) = found[list].as_array_mut() {
            all.extend(more);
        }
    }
    for count in ["ports", "flows", "left_out"] {
        found[count] = json!(found[count].as_u64().unwrap_or_default() + next[count].as_u64().unwrap_or_default());
    }
    found["next_marker"] = next["next_marker"].take();
}

fn each(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

fn table(found: &Value, output: &Output) -> Result<String> {
    let cut: Vec<Value> = each(&found["cut"]).map(flow_row).collect();
    let (ports, flows) = (cell(&found["ports"]), cell(&found["flows"]));
    let mut text = match cut.as_slice() {
        [] => format!("of {flows} flows of {ports} ports none would be cut"),
        cut => format!(
            "of {flows} flows of {ports} ports {} would be cut:\n{}",
            cut.len(),
            output.list(cut, &["port_id", "flow", "opened_by", "state", "idle_s"])?
        ),
    };
    let allowed: Vec<Value> = each(&found["allowed"])
        .map(|one| json!({"port_id": one["port_id"], "direction": one["direction"], "packet": packet(one), "at": one["at"], "reason": one["reason"]}))
        .collect();
    if !allowed.is_empty() {
        let list = output.list(&allowed, &["port_id", "direction", "packet", "at", "reason"])?;
        text += &format!("\nof the last packets that were refused these would pass:\n{list}");
    }
    match found["left_out"].as_u64() {
        None | Some(0) => {}
        Some(more) => text += &format!("\n{more} more flows were not looked at"),
    }
    for host in each(&found["hosts"]).filter(|host| host["error"].is_string()) {
        let who = if host["host"].is_null() { cell(&host["role"]) } else { cell(&host["host"]) };
        text += &format!("\n{who} is missing: {}", cell(&host["error"]));
    }
    if found["of_all_projects"] == false {
        text += "\nports of other projects that have the group are not looked at";
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::super::seeing::flow;
    use super::*;

    fn found() -> Value {
        let tcp = json!({
            "port_id": "p1", "opened_by": "peer", "state": "established", "protocol": 6, "local_address": "10.0.0.5",
            "local_port": 443, "remote_address": "10.0.0.9", "remote_port": 40000, "icmp_type": null, "icmp_code": null, "idle_s": 2,
        });
        let packet = json!({
            "port_id": "p1", "direction": "ingress", "reason": "refused", "at": "now", "source": "10.0.0.9",
            "destination": "10.0.0.5", "protocol": 6, "source_port": 40001, "destination_port": 22,
        });
        json!({
            "ports": 1, "flows": 3, "left_out": 0, "cut": [tcp], "allowed": [packet], "of_all_projects": true,
            "hosts": [{"role": "port", "host": null, "error": "it slept"}], "next_marker": null,
        })
    }

    #[test]
    fn flows_that_would_be_cut_and_packets_that_would_pass_are_told() -> Result<()> {
        let plain = Output::new(Format::Value, Vec::new());
        let golden = "\
of 3 flows of 1 ports 1 would be cut:
p1\t10.0.0.9:40000 > 10.0.0.5:443 tcp\tpeer\testablished\t2
of the last packets that were refused these would pass:
p1\tingress\t10.0.0.9:40001 > 10.0.0.5:22 tcp\tnow\trefused
port is missing: it slept";
        assert_eq!(table(&found(), &plain)?, golden);
        let none = json!({"ports": 1, "flows": 3, "left_out": 7, "cut": [], "allowed": [], "of_all_projects": false});
        let golden = "\
of 3 flows of 1 ports none would be cut
7 more flows were not looked at
ports of other projects that have the group are not looked at";
        assert_eq!(table(&none, &plain)?, golden);
        Ok(())
    }

    #[test]
    fn pages_are_added_up() {
        let (mut all, next) = (found(), found());
        join(&mut all, next);
        assert_eq!((&all["ports"], &all["flows"]), (&json!(2), &json!(6)));
        assert_eq!(all["cut"].as_array().map(Vec::len), Some(2));
        assert_eq!(flow(&all["cut"][0]), "10.0.0.9:40000 > 10.0.0.5:443 tcp");
    }
}
