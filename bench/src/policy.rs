//! What policy costs: the same two hosts and the same sandbox, pairs of containers that differ in their
//! security groups alone; beside them a bridge without and with the kernel's own connection tracking.

use crate::{
    figures::{CONNECTIONS, Figure, PORTS, Plan, Servers, print, rounds},
    machine,
    ours::Ours,
    paths::{Join, Path, Peer},
    report::median,
};
use anyhow::{Context, Result};
use mizar::client::Api;
use serde_json::{Value, json};

const FIGURES: [Figure; 3] = [Figure::Bulk(1), Figure::RoundTrip { one_core: true }, Figure::Connections];

/// Many short rounds: what is looked for is smaller than what a machine changes in a minute.
pub const USUAL: Plan = Plan { rounds: 9, seconds: 1 };

/// Where Mizar without policy is among the paths: what the others are held against.
const REFERENCE: usize = 2;
/// What of throughput and round trips may go.
const AIM: f64 = 0.03;
/// Rules that one request makes.
const BULK: usize = 100;

/// Measures and prints a table.
pub fn run(plan: &Plan) -> Result<()> {
    let peers = [Peer::make(Join::Bridge)?, Peer::make(Join::Filtered)?];
    let ours = Ours::up("benchpolicy", 2, "tcx")?;
    ours.bed.unlimited()?;
    let api = &ours.bed.admin;
    let open = json!({"port_security_enabled": false, "security_groups": []});
    let with = |group: String| json!({"security_groups": [group]});
    let pairs = [
        ("mizar, no port security", open),
        ("mizar, default group", Value::Null),
        ("mizar, 10 rules", with(group(api, 10)?)),
        ("mizar, 1,000 rules", with(group(api, 1_000)?)),
    ];
    let mut paths: Vec<Path> = peers.iter().map(|peer| peer.path.clone()).collect();
    for (name, attributes) in pairs {
        paths.push(ours.pair(name, &attributes).with_context(|| name)?);
    }
    ours.stop_control()?;
    let _servers: Vec<Servers> = paths.iter().map(Servers::start).collect::<Result<_>>()?;
    println!(
        "{}; {} interleaved rounds of {} s and {CONNECTIONS} connections",
        machine::describe(),
        plan.rounds,
        plan.seconds
    );
    let values = rounds(&paths, &FIGURES, plan)?;
    print("TCP through policy", &paths, &FIGURES, &values, REFERENCE);
    for (path, figures) in paths.iter().zip(&values).skip(REFERENCE + 1) {
        // Connections have no aim: their first packets are what policy is about.
        for (at, figure) in FIGURES.iter().enumerate().take(2) {
            let less = 1.0 - figure.ratio(median(&figures[at]), median(&values[REFERENCE][at]));
            let verdict = if less <= AIM { "met" } else { "missed" };
            println!(
                "aim: {}, {} within {:.0} %: {:+.1} %, {verdict}",
                path.name,
                figure.name(),
                AIM * 1e2,
                -less * 1e2
            );
        }
    }
    Ok(())
}

/// A group of `many` rules for what comes in, of which those that matter are found last: by the prefix of an
/// address. What it lets out is what every new group does.
fn group(api: &Api, many: usize) -> Result<String> {
    let body = json!({"security_group": {"name": format!("{many}-rules")}});
    let made = api.post("/v2.0/security-groups", &body)?["security_group"].take();
    let id = made["id"].as_str().context("no id in the answer")?.to_owned();
    let rule = |protocol: &str, range: Option<(u16, u16)>, remote: Value| {
        let mut rule =
            json!({"security_group_id": id, "direction": "ingress", "ethertype": "IPv4", "protocol": protocol});
        if let Some((first, last)) = range {
            rule["port_range_min"] = json!(first);
            rule["port_range_max"] = json!(last);
        }
        rule.as_object_mut().expect("made as an object").extend(remote.as_object().cloned().unwrap_or_default());
        rule
    };
    let here = json!({"remote_ip_prefix": crate::ours::CIDR});
    let matter = PORTS.iter().map(|port| rule("tcp", Some((*port, *port)), here.clone())).chain([rule(
        "icmp",
        None,
        here.clone(),
    )]);
    let other = |n: u16| match n % 3 {
        0 => rule("tcp", Some((n, n + n / 7)), json!({"remote_group_id": id})),
        1 => rule("tcp", Some((n, n + n / 7)), Value::Null),
        _ => rule("udp", Some((n, n)), json!({"remote_ip_prefix": format!("192.168.{}.{}/32", n >> 8, n & 0xff)})),
    };
    // From 10,000 on none is for a port that matters.
    let rules: Vec<Value> = matter.chain((10_000..).map(other)).take(many).collect();
    for some in rules.chunks(BULK) {
        api.post("/v2.0/security-group-rules", &json!({"security_group_rules": some}))?;
    }
    Ok(id)
}
