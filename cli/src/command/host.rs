//! `mizar host state`: what a host should have, what it has, and what is between the two; and how full its maps are.

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
        .about("Show what a host should have, what it has, the difference, and how full its maps are")
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

/// Columns of what differs.
const DIFFERENCE: [&str; 5] = ["what", "id", "name", "state", "why"];

/// Columns of maps.
const MAPS: [&str; 4] = ["map", "entries", "most", "full"];

/// Asks the API, which compares, and what the host itself knows.
pub fn state(api: &Api, matches: &ArgMatches) -> Result<String> {
    let name = matches.get_one::<String>("object").expect("is required");
    let host = cloud::find(api, tables::of(NOUN), name)?;
    let path = format!("/v2.0/mizar/hosts/{}", cloud::escape(&text(&host, "id")));
    let mut state = api.get(&format!("{path}/{STATE}"))?[STATE].take();
    let told = api.get(&format!("{path}/maps"))?["maps"].take();
    state["maps"] = told["maps"].as_array().into_iter().flatten().map(filled).collect();
    state["maps_error"] = told["error"].clone();
    if let Some(socket) = matches.get_one::<PathBuf>("socket") {
        let named = Wanted { filters: vec![("binding:host_id".into(), text(&host, "name"))], ..Wanted::default() };
        let ports = cloud::list(api, tables::of("port"), &named)?;
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
    let format = *matches.get_one::<Format>("output").expect("has a default");
    if format != Format::Table || matches.get_many::<String>("column").is_some() {
        return output.object(&state);
    }
    tabled(state, &output)
}

fn text(object: &Value, name: &str) -> String {
    object[name].as_str().unwrap_or_default().to_owned()
}

/// A map with its share in percent.
fn filled(map: &Value) -> Value {
    let number = |name: &str| map[name].as_u64().unwrap_or_default();
    let full = number("entries") * 100 / number("most").max(1);
    json!({"map": map["map"], "entries": map["entries"], "most": map["most"], "full": format!("{full} %")})
}

/// What differs and the maps are tables of their own, under the one of the host.
fn tabled(mut state: Value, output: &Output) -> Result<String> {
    let mut lists = Vec::new();
    for (name, columns) in [("difference", DIFFERENCE.as_slice()), ("maps", MAPS.as_slice())] {
        let rows = state[name].as_array().cloned().unwrap_or_default();
        state[name] = json!(rows.len() as u64 + if name == "difference" { left_out(&state) } else { 0 });
        if !rows.is_empty() {
            lists.push(Output::new(Format::Table, Vec::new()).list(&rows, columns)?);
        }
        if name == "difference" && left_out(&state) > 0 {
            lists.push(format!("and {} more", left_out(&state)));
        }
    }
    let mut shown = output.object(&state)?;
    for list in lists {
        shown += &format!("\n{list}");
    }
    Ok(shown)
}

fn left_out(state: &Value) -> u64 {
    state["left_out"].as_u64().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> Value {
        let failed = json!({"what": "entry", "id": "0a", "name": "Bounce of Subnet(7)", "state": "failed", "why": "the map is full"});
        let maps = [
            filled(&json!({"map": "POLICY", "entries": 97, "most": 100})),
            filled(&json!({"map": "EP", "entries": 1, "most": 0})),
        ];
        json!({"host": "h1", "desired": {"ports": 3}, "applied": {"ports": 1}, "difference": [failed], "left_out": 0,
            "maps": maps, "maps_error": null})
    }

    #[test]
    fn what_differs_and_the_maps_are_tables_under_the_host() {
        let output = Output::new(Format::Table, Vec::new());
        let shown = tabled(state(), &output).expect("a table");
        for line in [
            "│ difference ┆ 1 ",
            "│ maps       ┆ 2 ",
            "│ desired    ┆ ports=3 ",
            "│ entry ┆ 0a ┆ Bounce of Subnet(7) ┆ failed ┆ the map is full │",
            "│ POLICY ┆ 97      ┆ 100  ┆ 97 %  │",
        ] {
            assert!(shown.contains(line), "{line}\n{shown}");
        }
        assert!(!shown.contains("more"), "{shown}");
    }

    #[test]
    fn what_is_not_named_is_counted() {
        let much = Value::Object(
            state()
                .as_object()
                .into_iter()
                .flatten()
                .map(|(name, value)| (name.clone(), if name == "left_out" { json!(30) } else { value.clone() }))
                .collect(),
        );
        let shown = tabled(much, &Output::new(Format::Table, Vec::new())).expect("a table");
        assert!(shown.contains("│ difference ┆ 31 ") && shown.contains("\nand 30 more\n"), "{shown}");
    }
}
