//! `mizar port flow-log`: the flows that a port had lately.

use super::render::{Format, Output, cell};
use super::resource::Resource;
use super::seeing::{protocol, silent};
use super::{cloud, tree};
use crate::client::Api;
use anyhow::Result;
use clap::{Arg, ArgMatches, Command, value_parser};
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
        .after_help(format!("Example:\n  mizar {NOUN} {FLOW_LOG} web-1 --limit 20 --since 2026-01-31T08:00:00Z"))
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
        ]);
    let said = noun.get_about().map(ToString::to_string).unwrap_or_default();
    noun.about(format!("{said}, {FLOW_LOG}")).subcommand(tree::output(command))
}

/// Asks for the log.
pub fn run(api: &Api, resource: &Resource, matches: &ArgMatches) -> Result<String> {
    let name = matches.get_one::<String>("object").expect("is required");
    let id = cloud::id(api, resource, name)?;
    let limit = matches.get_one::<u32>("limit").map(|limit| ("limit", limit.to_string()));
    let since = matches.get_one::<String>("since").map(|since| ("since", since.clone()));
    let query = cloud::query(limit.into_iter().chain(since));
    let log = api.get(&format!("/v2.0/mizar/ports/{}/{FLOW_LOG}?{query}", cloud::escape(&id)))?["flow_log"].take();
    let output = Output::of(matches);
    match *matches.get_one::<Format>("output").expect("has a default") {
        Format::Table => table(&log, &output),
        _ => output.object(&log),
    }
}

fn table(log: &Value, output: &Output) -> Result<String> {
    let rows: Vec<Value> = log["records"].as_array().into_iter().flatten().map(row).collect();
    let silent = silent(log);
    let mut text = match rows.as_slice() {
        [] if silent.is_empty() => "the port had no flows that are in the log".to_owned(),
        [] => "nobody says that the port had any flows".to_owned(),
        rows => output.list(rows, &["start", "end", "flow", "verdict", "out", "in", "ended", "decided_by", "rules"])?,
    };
    match log["left_out"].as_u64() {
        None | Some(0) => {}
        Some(more) => text += &format!("\nand {more} more"),
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
        Ok(())
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
        assert_eq!(table(&log(Value::Null), &plain)?, "the port had no flows that are in the log");
        let said = table(&log(json!("it\u{7} slept")), &plain)?;
        assert!(said.contains("port is missing") && !said.contains('\u{7}'), "{said:?}");
        Ok(())
    }
}
