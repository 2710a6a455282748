//! What hosts see of packets: `drops` of a port or a host, `flows` of a port.

use super::render::{Format, Output, cell};
use super::resource::Resource;
use super::{cloud, tree};
use crate::client::Api;
use anyhow::{Context, Result};
use clap::{Arg, ArgMatches, Command};
use serde_json::{Value, json};

/// The verb.
pub const DROPS: &str = "drops";

/// The verb of ports alone.
pub const FLOWS: &str = "flows";

/// Adds the verbs to the nouns that have them.
pub fn extend(noun: Command) -> Command {
    let (about, example, columns) = match noun.get_name() {
        "port" => (
            "Show why packets from and to a port were dropped, and the last of them",
            "web-1",
            "at its host and its bouncers",
        ),
        "host" => ("Show why a host drops packets, of all ports", "host1", "the most first"),
        _ => return noun,
    };
    let said = noun.get_about().map(ToString::to_string).unwrap_or_default();
    let command = Command::new(DROPS)
        .about(format!("{about}, {columns}"))
        .after_help(format!("Example:\n  mizar {} {DROPS} {example}", noun.get_name()))
        .arg(Arg::new("object").value_name("NAME").required(true).help("Name or id"));
    let noun = noun.about(format!("{said}, {DROPS}")).subcommand(tree::output(command));
    if noun.get_name() != "port" {
        return noun;
    }
    let flows = Command::new(FLOWS)
        .about("Show the flows that a port has now, those in use first")
        .after_help(format!("Example:\n  mizar port {FLOWS} web-1"))
        .arg(Arg::new("object").value_name("NAME").required(true).help("Name or id"));
    noun.about(format!("{said}, {DROPS}, {FLOWS}")).subcommand(tree::output(flows))
}

/// Asks for the flows of a port.
pub fn flows(api: &Api, resource: &Resource, matches: &ArgMatches) -> Result<String> {
    let name = matches.get_one::<String>("object").expect("is required");
    let id = cloud::id(api, resource, name)?;
    let flows = api.get(&format!("/v2.0/mizar/ports/{}/{FLOWS}", cloud::escape(&id)))?[FLOWS].take();
    let output = Output::of(matches);
    match *matches.get_one::<Format>("output").expect("has a default") {
        Format::Table => flows_table(&flows, &output),
        _ => output.object(&flows),
    }
}

fn flows_table(flows: &Value, output: &Output) -> Result<String> {
    let rows: Vec<Value> = flows["flows"].as_array().into_iter().flatten().map(flow_row).collect();
    let mut text = match (rows.as_slice(), flows["error"].as_str()) {
        ([], Some(_)) => format!("the host does not say: {}", cell(&flows["error"])),
        ([], None) if flows["bound"] == false => "no host has the port: it has no flows".to_owned(),
        ([], None) => "the port has no flows".to_owned(),
        (rows, _) => output.list(rows, &["flow", "opened_by", "state", "idle_s"])?,
    };
    match flows["left_out"].as_u64() {
        None | Some(0) => {}
        Some(more) => text += &format!("\nand {more} more"),
    }
    Ok(text)
}

/// A flow as a row.
pub fn flow_row(one: &Value) -> Value {
    json!({
        "port_id": one["port_id"], "flow": flow(one), "opened_by": one["opened_by"], "state": one["state"],
        "idle_s": one["idle_s"],
    })
}

/// `10.0.0.9:40000 > 10.0.0.5:443 tcp`: from whoever opened it.
pub fn flow(one: &Value) -> String {
    let end = |side: &str| match &one[format!("{side}_port")] {
        Value::Number(number) if number.as_u64() != Some(0) => {
            format!("{}:{number}", cell(&one[format!("{side}_address")]))
        }
        _ => cell(&one[format!("{side}_address")]),
    };
    let protocol = protocol(one["protocol"].as_u64().unwrap_or_default());
    let (from, to) = if one["opened_by"] == "peer" { ("remote", "local") } else { ("local", "remote") };
    let message = match one["icmp_type"].as_u64() {
        Some(kind) => format!(" type {kind}"),
        None => String::new(),
    };
    format!("{} > {} {protocol}{message}", end(from), end(to))
}

/// Asks.
pub fn drops(api: &Api, resource: &Resource, matches: &ArgMatches) -> Result<String> {
    let name = matches.get_one::<String>("object").expect("is required");
    let id = cloud::id(api, resource, name)?;
    let plural = resource.path.rsplit('/').next().context("a path")?;
    let drops = api.get(&format!("/v2.0/mizar/{plural}/{}/{DROPS}", cloud::escape(&id)))?[DROPS].take();
    let output = Output::of(matches);
    if *matches.get_one::<Format>("output").expect("has a default") != Format::Table {
        return output.object(&drops);
    }
    let rows: Vec<Value> = drops["reasons"].as_array().into_iter().flatten().map(row).collect();
    let silent = silent(&drops);
    let mut text = match rows.as_slice() {
        [] => none(&silent).to_owned(),
        rows if resource.noun == "port" => {
            output.list(rows, &["reason", "where", "packets", "bytes", "last", "packet", "about"])?
        }
        rows => output.list(rows, &["reason", "port_id", "packets", "bytes", "last", "packet", "about"])?,
    };
    for silent in silent {
        text += &format!("\n{silent}");
    }
    Ok(text)
}

/// Without any reason. That nobody answered is no good news.
fn none(silent: &[String]) -> &'static str {
    if silent.is_empty() { "nothing was dropped" } else { "nobody says that anything was dropped" }
}

/// A reason with the youngest of its packets.
fn row(reason: &Value) -> Value {
    let last = &reason["samples"][0];
    json!({
        "reason": reason["reason"],
        "about": reason["about"],
        "where": if reason["host"].is_null() { &reason["role"] } else { &reason["host"] },
        "port_id": reason["port_id"],
        "packets": reason["packets"],
        "bytes": reason["bytes"],
        "last": last["at"],
        "packet": packet(last),
    })
}

/// `10.0.0.9:40000 > 10.0.0.5:443 tcp`
pub fn packet(sample: &Value) -> String {
    if sample["source"].is_null() {
        return String::new();
    }
    let end = |address: &str, port: &str| match &sample[port] {
        Value::Number(number) if number.as_u64() != Some(0) => format!("{}:{number}", cell(&sample[address])),
        _ => cell(&sample[address]),
    };
    let protocol = protocol(sample["protocol"].as_u64().unwrap_or_default());
    let (source, destination) = match protocol.as_str() {
        // Their ports are made of the id of a question.
        "icmp" => (cell(&sample["source"]), cell(&sample["destination"])),
        _ => (end("source", "source_port"), end("destination", "destination_port")),
    };
    format!("{source} > {destination} {protocol}")
}

/// A protocol's name, of those that everybody knows by it.
pub fn protocol(number: u64) -> String {
    match number {
        1 => "icmp".to_owned(),
        6 => "tcp".to_owned(),
        17 => "udp".to_owned(),
        other => format!("protocol {other}"),
    }
}

/// Hosts that said nothing: what they drop is missing.
pub fn silent(drops: &Value) -> Vec<String> {
    let of_host = drops["error"].is_string().then(|| format!("the host does not say: {}", cell(&drops["error"])));
    let of_port = drops["hosts"].as_array().into_iter().flatten().filter_map(|host| {
        let who = if host["host"].is_null() { cell(&host["role"]) } else { cell(&host["host"]) };
        host["error"].is_string().then(|| format!("{who} is missing: {}", cell(&host["error"])))
    });
    of_host.into_iter().chain(of_port).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_packet_reads_as_people_write_it() {
        let tcp = json!({"source": "10.0.0.9", "destination": "10.0.0.5", "protocol": 6, "source_port": 40000, "destination_port": 443});
        assert_eq!(packet(&tcp), "10.0.0.9:40000 > 10.0.0.5:443 tcp");
        let icmp = json!({"source": "10.0.0.9", "destination": "10.0.0.5", "protocol": 1, "source_port": 7, "destination_port": 8});
        assert_eq!(packet(&icmp), "10.0.0.9 > 10.0.0.5 icmp");
        let gre = json!({"source": "10.0.0.9", "destination": "10.0.0.5", "protocol": 47, "source_port": 0, "destination_port": 0});
        assert_eq!(packet(&gre), "10.0.0.9 > 10.0.0.5 protocol 47");
        assert_eq!(packet(&json!({"source": null})), "");
    }

    #[test]
    fn a_flow_reads_from_whoever_opened_it() -> Result<()> {
        let of = |opened_by: &str, protocol: u8, ports: (Value, Value), message: Value| {
            json!({
                "port_id": "p", "opened_by": opened_by, "state": "established", "protocol": protocol, "idle_s": 1,
                "local_address": "10.0.0.5", "local_port": ports.0, "remote_address": "10.0.0.9", "remote_port": ports.1,
                "icmp_type": message, "icmp_code": message,
            })
        };
        let none = || (Value::Null, Value::Null);
        let tcp = || (json!(443), json!(40000));
        assert_eq!(flow(&of("peer", 6, tcp(), Value::Null)), "10.0.0.9:40000 > 10.0.0.5:443 tcp");
        assert_eq!(flow(&of("both", 17, tcp(), Value::Null)), "10.0.0.5:443 > 10.0.0.9:40000 udp");
        assert_eq!(flow(&of("port", 1, none(), json!(8))), "10.0.0.5 > 10.0.0.9 icmp type 8");
        assert_eq!(flow(&of("peer", 47, (json!(0), json!(0)), Value::Null)), "10.0.0.9 > 10.0.0.5 protocol 47");
        let plain = Output::new(Format::Value, Vec::new());
        let flows = json!({"bound": true, "error": null, "left_out": 2, "flows": [of("peer", 6, tcp(), Value::Null)]});
        assert_eq!(flows_table(&flows, &plain)?, "10.0.0.9:40000 > 10.0.0.5:443 tcp\tpeer\testablished\t1\nand 2 more");
        let none = |bound: bool, error: Value| json!({"bound": bound, "error": error, "left_out": 0, "flows": []});
        assert_eq!(flows_table(&none(false, Value::Null), &plain)?, "no host has the port: it has no flows");
        assert_eq!(flows_table(&none(true, Value::Null), &plain)?, "the port has no flows");
        assert_eq!(flows_table(&none(true, json!("it\u{7} slept")), &plain)?.matches(char::is_control).count(), 0);
        Ok(())
    }

    #[test]
    fn a_host_that_said_nothing_is_named() {
        let drops = json!({"hosts": [
            {"role": "port", "host": null, "error": "it slept"}, {"role": "bouncer", "host": "h2", "error": null},
        ]});
        assert_eq!(silent(&drops), ["port is missing: it slept"]);
        assert_eq!(silent(&json!({"host": "h1", "error": "it slept"})), ["the host does not say: it slept"]);
    }

    #[test]
    fn nothing_was_dropped_only_if_everybody_answered() {
        assert_eq!(none(&[]), "nothing was dropped");
        let silent = silent(&json!({"host": "h1", "error": "it slept"}));
        assert!(!none(&silent).contains("nothing was dropped"));
    }

    #[test]
    fn what_a_host_says_steers_no_terminal() {
        let said = json!("\u{1b}[2Jall is well\u{7}");
        let of_host = silent(&json!({"host": "h1", "error": said}));
        let of_port = silent(&json!({"hosts": [{"role": "port", "host": "h1", "error": said}]}));
        for text in [of_host, of_port].concat() {
            assert!(text.contains("all is well") && !text.contains(char::is_control), "{text:?}");
        }
    }
}
