//! Why packets do not arrive: `drops` of a port or a host.

use super::render::{Format, Output, cell};
use super::resource::Resource;
use super::{cloud, tree};
use crate::client::Api;
use anyhow::{Context, Result};
use clap::{Arg, ArgMatches, Command};
use serde_json::{Value, json};

/// The verb.
pub const DROPS: &str = "drops";

/// Adds the verb to the nouns that have it.
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
    noun.about(format!("{said}, {DROPS}")).subcommand(tree::output(command))
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
fn packet(sample: &Value) -> String {
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
fn silent(drops: &Value) -> Vec<String> {
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
