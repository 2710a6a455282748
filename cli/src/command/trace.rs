//! `mizar trace`: what would become of a packet, hop by hop; with `--live`, what became of a real one.

use super::render::{Format, Output, cell};
use super::seeing::protocol;
use super::{cloud, tables};
use crate::client::Api;
use anyhow::Result;
use clap::Args;
use serde_json::{Map, Value, json};
use std::net::IpAddr;

/// For `--help`.
pub const EXAMPLE: &str = "Example:\n  mizar trace --from web-1 --to 10.0.2.12 --proto tcp --dport 443\n  mizar trace --live --from web-1 --to 10.0.2.12 --wait-seconds 30";

/// Which packet.
#[derive(Args)]
pub struct Arguments {
    /// Port that sends it, by name or id.
    #[arg(long, value_name = "PORT")]
    from: String,
    /// Address that it is for.
    #[arg(long, value_name = "ADDRESS")]
    to: IpAddr,
    /// Protocol, by name or number; otherwise tcp, and with --live any.
    #[arg(long, value_name = "PROTOCOL")]
    proto: Option<String>,
    /// Destination port.
    #[arg(long, value_name = "N")]
    dport: Option<u16>,
    /// Source port; otherwise any.
    #[arg(long, value_name = "N")]
    sport: Option<u16>,
    /// Source address; otherwise the port's first, and with --live any.
    #[arg(long, value_name = "ADDRESS")]
    source: Option<IpAddr>,
    /// Type of an ICMP message; otherwise an echo, and with --live any.
    #[arg(long, value_name = "N")]
    icmp_type: Option<u8>,
    /// Its code.
    #[arg(long, value_name = "N")]
    icmp_code: Option<u8>,
    /// Wait for a packet that the port really sends, mark it, and follow it.
    #[arg(long)]
    live: bool,
    /// How long to wait for one.
    #[arg(long, value_name = "N", default_value_t = 10, requires = "live", value_parser = clap::value_parser!(u8).range(1..=50))]
    wait_seconds: u8,
    /// Also which tables were looked into, and what they had.
    #[arg(long)]
    long: bool,
    /// table, json or yaml.
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value = "table", hide_possible_values = true)]
    output: Format,
}

/// Asks.
pub fn run(api: &Api, arguments: &Arguments) -> Result<String> {
    let Arguments { from, to, proto, dport, sport, source, icmp_type, icmp_code, live, wait_seconds, long, output } =
        arguments;
    let mut body = Map::new();
    body.insert("port_id".into(), json!(cloud::id(api, tables::of("port"), from)?));
    body.insert("destination".into(), json!(to));
    let tcp = || (!live).then(|| "tcp".to_owned());
    let given = [
        ("protocol", json!(proto.clone().or_else(tcp))),
        ("wait_seconds", json!(live.then_some(wait_seconds))),
        ("destination_port", json!(dport)),
        ("source_port", json!(sport)),
        ("source", json!(source)),
        ("icmp_type", json!(icmp_type)),
        ("icmp_code", json!(icmp_code)),
    ];
    body.extend(given.into_iter().filter(|(_, value)| !value.is_null()).map(|(name, value)| (name.to_owned(), value)));
    if *live {
        eprintln!("waiting for a packet from {from} to {to}, for {wait_seconds} s at most");
        let trace = api.post("/v2.0/mizar/live-trace", &json!({ "live_trace": body }))?["live_trace"].take();
        return match output {
            Format::Table => followed(&trace, *long),
            format => Output::new(*format, Vec::new()).object(&trace),
        };
    }
    let trace = api.post("/v2.0/mizar/trace", &json!({ "trace": body }))?["trace"].take();
    match output {
        Format::Table => table(&trace, *long),
        format => Output::new(*format, Vec::new()).object(&trace),
    }
}

/// `long`: with what each table said, which is for people who know the data plane.
fn table(trace: &Value, long: bool) -> Result<String> {
    let mut rows = Vec::new();
    for hop in trace["hops"].as_array().into_iter().flatten() {
        let at = place(hop);
        for look in hop["looks"].as_array().into_iter().flatten() {
            let rules = look["rules"].as_array().into_iter().flatten().map(|rule| cell(&rule["id"]));
            rows.push(json!({
                "at": at, "table": look["table"], "says": look["says"], "entry": look["entry"],
                "rules": rules.collect::<Vec<_>>(),
            }));
        }
        if let Some(error) = hop["error"].as_str() {
            rows.push(json!({"at": at, "table": "", "says": error, "entry": null, "rules": []}));
        }
    }
    let columns = ["at", "says", "rules", "table", "entry"];
    let shown = if !long {
        3
    } else if rows.iter().all(|row| row["entry"].is_null()) {
        4
    } else {
        5
    };
    let mut text = Output::new(Format::Table, Vec::new()).list(&rows, &columns[..shown])?;
    text += &format!("\n{} {}: {}", packet(trace), cell(&trace["verdict"]), cell(&trace["about"]));
    for (who, sees) in [("sender", "sender_sees"), ("receiver", "receiver_sees")] {
        if trace[sees].is_string() {
            text += &format!("\nthe {who} sees {}", cell(&trace[sees]));
        }
    }
    Ok(text.trim_end_matches(": ").to_owned())
}

/// Where a real packet went: of the tables what rules decided, or with `long` all.
fn followed(trace: &Value, long: bool) -> Result<String> {
    let mut rows = Vec::new();
    for hop in trace["hops"].as_array().into_iter().flatten() {
        let us = hop["since_us"].as_i64().unwrap_or_default();
        rows.push(json!({"at": place(hop), "us": us, "says": hop["says"], "rules": []}));
        for look in hop["looks"].as_array().into_iter().flatten() {
            let rules: Vec<_> = look["rules"].as_array().into_iter().flatten().map(|rule| cell(&rule["id"])).collect();
            if long || look["table"] == "POLICY" {
                rows.push(json!({"at": "", "us": "", "says": look["says"], "rules": rules}));
            }
        }
    }
    let mut text = match rows.is_empty() {
        true => String::new(),
        false => Output::new(Format::Table, Vec::new()).list(&rows, &["at", "us", "says", "rules"])? + "\n",
    };
    let number = |name: &str| trace[name].as_u64();
    let protocol = number("protocol").map_or("any protocol".to_owned(), protocol);
    let end = |address: &str, port: &str| match number(port) {
        Some(port) => format!("{}:{port}", cell(&trace[address])),
        None if trace[address].is_null() => "the port".to_owned(),
        None => cell(&trace[address]),
    };
    let message = match (number("icmp_type"), number("icmp_code")) {
        (Some(kind), Some(code)) => format!(" type {kind} code {code}"),
        _ => String::new(),
    };
    let (from, to) = (end("source", "source_port"), end("destination", "destination_port"));
    let verdict = cell(&trace["verdict"]).replace('_', " ");
    text += &format!("{from} > {to} {protocol}{message} {verdict}: {}", cell(&trace["about"]));
    let mut text = text.trim_end_matches(": ").to_owned();
    if trace["error"].is_string() {
        text += &format!("\n{}", cell(&trace["error"]));
    }
    for (who, sees) in [("sender", "sender_sees"), ("receiver", "receiver_sees")] {
        if trace[sees].is_string() {
            text += &format!("\nthe {who} sees {}", cell(&trace[sees]));
        }
    }
    if trace["hops"].as_array().is_some_and(|hops| hops.len() > 1) {
        text += "\nus: microseconds since the first, by the clock of each host";
    }
    Ok(text)
}

/// What a host is to the packet, and which it is, where that is told.
fn place(hop: &Value) -> String {
    match hop["host"].is_null() {
        true => cell(&hop["role"]),
        false => format!("{} ({})", cell(&hop["role"]), cell(&hop["host"])),
    }
}

fn packet(trace: &Value) -> String {
    let number = |name: &str| trace[name].as_u64().unwrap_or_default();
    let (from, to) = (cell(&trace["source"]), cell(&trace["destination"]));
    let protocol = protocol(number("protocol"));
    match number("protocol") {
        1 => {
            let message = number("destination_port");
            format!("{from} > {to} {protocol} type {} code {}", message >> 8, message & 0xff)
        }
        _ if number("destination_port") == 0 => format!("{from} > {to} {protocol}"),
        _ => format!("{from}:{} > {to}:{} {protocol}", number("source_port"), number("destination_port")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_ends_with_what_the_ends_see() -> Result<()> {
        let look = json!({"table": "POLICY", "says": "no rule", "entry": null, "rules": [{"id": "r1", "security_group_id": "g1"}]});
        let trace = json!({
            "source": "10.0.0.9", "destination": "10.0.0.5", "protocol": 6, "source_port": 40000, "destination_port": 443,
            "verdict": "dropped", "about": "Denied by policy.", "sender_sees": "nothing", "receiver_sees": "nothing",
            "hops": [
                {"role": "bouncer", "host": "h1", "error": null, "looks": [look]},
                {"role": "destination", "host": null, "error": "it slept", "looks": []},
            ],
        });
        assert!(!table(&trace, false)?.contains("POLICY") && table(&trace, true)?.contains("POLICY"));
        let text = table(&trace, false)?;
        assert!(text.contains("bouncer (h1)") && text.contains("r1") && text.contains("it slept"), "{text}");
        let end = "10.0.0.9:40000 > 10.0.0.5:443 tcp dropped: Denied by policy.\nthe sender sees nothing\nthe receiver sees nothing";
        assert!(text.ends_with(end), "{text}");
        Ok(())
    }

    #[test]
    fn a_packet_that_was_followed_shows_where_it_was_and_when() -> Result<()> {
        let look = |table: &str| json!({"table": table, "says": format!("{table} says so"), "entry": null, "rules": [{"id": "r1"}]});
        let mut trace = json!({
            "source": "10.0.0.9", "destination": "10.0.0.5", "protocol": 6, "source_port": 40000, "destination_port": 443,
            "icmp_type": null, "icmp_code": null, "verdict": "dropped", "reason": "refused", "about": "Not let in.", "error": null,
            "sender_sees": "nothing", "receiver_sees": null,
            "hops": [
                {"role": "source", "host": null, "since_us": 0, "says": "the port sent it", "looks": []},
                {"role": "bouncer", "host": "h1", "since_us": -12, "says": "sent back", "looks": [look("BOUNCE"), look("POLICY")]},
            ],
        });
        let text = followed(&trace, false)?;
        assert!(text.contains("bouncer (h1)") && text.contains("-12") && text.contains("r1"), "{text}");
        assert!(!text.contains("BOUNCE says so") && followed(&trace, true)?.contains("BOUNCE says so"), "{text}");
        assert!(
            text.contains("\n10.0.0.9:40000 > 10.0.0.5:443 tcp dropped: Not let in.\nthe sender sees nothing\n"),
            "{text}"
        );
        for (name, value) in [("hops", json!([])), ("verdict", json!("not_seen")), ("source", Value::Null)] {
            trace[name] = value;
        }
        for (name, value) in [("protocol", json!(1)), ("icmp_type", json!(8)), ("icmp_code", json!(0))] {
            trace[name] = value;
        }
        for name in ["source_port", "destination_port"] {
            trace[name] = Value::Null;
        }
        let text = followed(&trace, false)?;
        assert!(text.starts_with("the port > 10.0.0.5 icmp type 8 code 0 not seen: Not let in."), "{text}");
        Ok(())
    }

    #[test]
    fn icmp_has_a_type_and_others_may_have_nothing() {
        let of = |protocol: u64, number: u64| {
            packet(
                &json!({"source": "a", "destination": "b", "protocol": protocol, "source_port": 7, "destination_port": number}),
            )
        };
        assert_eq!(of(1, 0x0800), "a > b icmp type 8 code 0");
        assert_eq!(of(47, 0), "a > b protocol 47");
    }
}
