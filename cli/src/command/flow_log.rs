//! `mizar port flow-log`: the flows that a port had lately.

use super::render::{Format, Output, cell};
use super::resource::Resource;
use super::seeing::{protocol, silent};
use super::{cloud, tree};
use crate::client::Api;
use anyhow::Result;
use clap::{Arg, ArgMatches, Command, value_parser};
use mizar_wire::log::{Direction, Verdict};
use serde_json::{Value, json};

/// The verb.
pub const FLOW_LOG: &str = "flow-log";

const NOUN: &str = "port";

/// Adds the verb to the noun that has it.
pub fn extend(noun: Command) -> Command {
    if noun.get_name() != NOUN {
        return noun;
    }
    let command = Command::new(FLOW_LOG)
        .about("Show the flows that a port had lately, allowed and refused, the youngest first")
        .after_help(format!(
            "Example:\n  mizar {NOUN} {FLOW_LOG} web-1 --verdict deny --proto tcp --port 443 --limit 20"
        ))
        .arg(Arg::new("object").value_name("NAME").required(true).help("Name or id"))
        .args([
            Arg::new("limit")
                .long("limit")
                .value_name("N")
                .value_parser(value_parser!(u32).range(1..))
                .help("So many records; 100 if it is not said, 500 at most"),
            Arg::new("since")
                .long("since")
                .value_name("TIME")
                .help("Only flows in which something passed at this time or later, such as 2026-01-31T08:00:00Z"),
            Arg::new("verdict")
                .long("verdict")
                .value_parser(Verdict::ALL.map(Verdict::as_str))
                .help("Only flows of which policy says so"),
            Arg::new("direction")
                .long("direction")
                .value_parser(Direction::ALL.map(Direction::as_str))
                .help("egress: only flows that the port opened; ingress: that others did"),
            Arg::new("proto").long("proto").value_name("PROTOCOL").help("Only of this protocol, a name or a number"),
            Arg::new("remote")
                .long("remote")
                .value_name("ADDRESS")
                .help("Only flows whose other side has this address, or one of this prefix"),
            Arg::new("port")
                .long("port")
                .value_name("N")
                .value_parser(value_parser!(u16).range(1..))
                .help("Only flows with this port number, of either side"),
            Arg::new("marker")
                .long("marker")
                .value_name("MARKER")
                .help("Only what comes after an answer before, which says this at its end"),
        ]);
    let said = noun.get_about().map(ToString::to_string).unwrap_or_default();
    noun.about(format!("{said}, {FLOW_LOG}")).subcommand(tree::output(command))
}

/// Asks for the log.
pub fn run(api: &Api, resource: &Resource, matches: &ArgMatches) -> Result<String> {
    let name = matches.get_one::<String>("object").expect("is required");
    let id = cloud::id(api, resource, name)?;
    let query = cloud::query(asked(matches));
    let log = api.get(&format!("/v2.0/mizar/ports/{}/{FLOW_LOG}?{query}", cloud::escape(&id)))?["flow_log"].take();
    let output = Output::of(matches);
    match *matches.get_one::<Format>("output").expect("has a default") {
        Format::Table => table(&log, &output),
        _ => output.object(&log),
    }
}

/// What the API is asked for.
fn asked(matches: &ArgMatches) -> Vec<(&'static str, String)> {
    const TEXTS: [(&str, &str); 6] = [
        ("since", "since"),
        ("verdict", "verdict"),
        ("direction", "direction"),
        ("proto", "protocol"),
        ("remote", "remote_address"),
        ("marker", "marker"),
    ];
    let text = |(flag, name)| Some((name, matches.get_one::<String>(flag)?.clone()));
    let limit = matches.get_one::<u32>("limit").map(|limit| ("limit", limit.to_string()));
    let port = matches.get_one::<u16>("port").map(|port| ("port_number", port.to_string()));
    limit.into_iter().chain(port).chain(TEXTS.into_iter().filter_map(text)).collect()
}

fn table(log: &Value, output: &Output) -> Result<String> {
    let rows: Vec<Value> = log["records"].as_array().into_iter().flatten().map(row).collect();
    let silent = silent(log);
    let mut text = match rows.as_slice() {
        [] if silent.is_empty() => "the log has no such flows of the port".to_owned(),
        [] => "nobody says that the port had such flows".to_owned(),
        rows => output.list(rows, &["start", "end", "flow", "verdict", "out", "in", "ended", "decided_by", "rules"])?,
    };
    match log["left_out"].as_u64() {
        None | Some(0) => {}
        Some(more) => {
            text += &format!("\nand {more} more");
            if let Some(marker) = log["next_marker"].as_str() {
                text += &format!(" (--marker {})", cell(&json!(marker)));
            }
        }
    }
    for silent in silent {
        text += &format!("\n{silent}");
    }
    Ok(text)
}

/// A record as a row.
fn row(one: &Value) -> Value {
    let passed =
        |way: &str| format!("{} / {} B", cell(&one[format!("packets_{way}")]), cell(&one[format!("bytes_{way}")]));
    let verdict = match one["reason"].as_str() {
        Some(_) => format!("{} ({})", cell(&one["verdict"]), cell(&one["reason"])),
        None => cell(&one["verdict"]),
    };
    let rules: Vec<String> = one["rules"].as_array().into_iter().flatten().map(|rule| cell(&rule["id"])).collect();
    json!({
        "start": one["start"], "end": one["end"], "flow": flow(one), "verdict": verdict, "out": passed("out"),
        "in": passed("in"), "ended": one["ended"], "decided_by": one["decided_by"], "rules": rules.join(" "),
    })
}

/// `10.0.0.9:40000 > 10.0.0.5:443 tcp`
fn flow(one: &Value) -> String {
    let end = |side: &str| match &one[format!("{side}_port")] {
        Value::Number(number) if number.as_u64() != Some(0) => format!("{}:{number}", cell(&one[side])),
        _ => cell(&one[side]),
    };
    let message = match one["icmp_type"].as_u64() {
        Some(kind) => format!(" type {kind}"),
        None => String::new(),
    };
    let protocol = protocol(one["protocol"].as_u64().unwrap_or_default());
    format!("{} > {} {protocol}{message}", end("source"), end("destination"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Value {
        json!({
            "start": "2026-01-31T08:00:00.000Z", "end": "2026-01-31T08:00:01.000Z", "source": "10.0.0.9",
            "destination": "10.0.0.5", "protocol": 6, "source_port": 40_000, "destination_port": 443, "icmp_type": null,
            "verdict": "accept", "reason": null, "decided_by": "port", "rules": [{"id": "r"}], "packets_out": 3,
            "bytes_out": 180, "packets_in": 2, "bytes_in": 3_000, "ended": "closed",
        })
    }

    #[test]
    fn a_record_reads_as_a_line() -> Result<()> {
        let plain = Output::new(Format::Value, Vec::new());
        let log =
            json!({"records": [record()], "left_out": 3, "hosts": [{"role": "port", "host": null, "error": null}]});
        let expected = "2026-01-31T08:00:00.000Z\t2026-01-31T08:00:01.000Z\t10.0.0.9:40000 > 10.0.0.5:443 tcp\t\
                        accept\t3 / 180 B\t2 / 3000 B\tclosed\tport\tr\nand 3 more";
        assert_eq!(table(&log, &plain)?, expected);
        let mut paged = log;
        paged["next_marker"] = json!("5.1");
        assert!(table(&paged, &plain)?.ends_with("\nand 3 more (--marker 5.1)"));
        Ok(())
    }

    #[test]
    fn flags_are_what_the_api_is_asked_for() {
        let line = "mizar port flow-log web-1 --verdict deny --direction ingress --proto tcp --remote 10.0.0.0/24 --port 443 \
                    --limit 7 --since 2026-01-31T08:00:00Z --marker 5.1";
        let matches = crate::command::tree().try_get_matches_from(line.split(' ')).expect("a line");
        let (_, noun) = matches.subcommand().expect("a noun");
        let (_, verb) = noun.subcommand().expect("a verb");
        let expected = [
            ("limit", "7"),
            ("port_number", "443"),
            ("since", "2026-01-31T08:00:00Z"),
            ("verdict", "deny"),
            ("direction", "ingress"),
            ("protocol", "tcp"),
            ("remote_address", "10.0.0.0/24"),
            ("marker", "5.1"),
        ];
        assert_eq!(asked(verb), expected.map(|(name, value)| (name, value.to_owned())));
    }

    #[test]
    fn a_refused_ping_says_why() {
        let mut ping = record();
        for (name, value) in [
            ("protocol", json!(1)),
            ("source_port", Value::Null),
            ("destination_port", Value::Null),
            ("icmp_type", json!(8)),
            ("verdict", json!("deny")),
            ("reason", json!("policy")),
            ("rules", json!([])),
        ] {
            ping[name] = value;
        }
        let row = row(&ping);
        assert_eq!(
            (&row["flow"], &row["verdict"]),
            (&json!("10.0.0.9 > 10.0.0.5 icmp type 8"), &json!("deny (policy)"))
        );
    }

    #[test]
    fn no_record_is_no_flow_only_if_everybody_answered() -> Result<()> {
        let plain = Output::new(Format::Value, Vec::new());
        let log = |error: Value| json!({"records": [], "left_out": 0, "hosts": [{"role": "port", "host": null, "error": error}]});
        assert_eq!(table(&log(Value::Null), &plain)?, "the log has no such flows of the port");
        let said = table(&log(json!("it\u{7} slept")), &plain)?;
        assert!(said.contains("port is missing") && !said.contains('\u{7}'), "{said:?}");
        Ok(())
    }
}
