//! Why does it not arrive? What tenants and operators are told, where real packets say whether it is so.

use anyhow::{Context as _, Result, ensure};
use mizar::sandbox::endpoint::Endpoint;
use mizar_tests::bed::Bed;
use mizar_tests::command::Cli;
use mizar_tests::exchange::pings;
use mizar_tests::harness::Scenario;
use mizar_tests::tenant::{Net, Tenant, at};
use mizar_tests::{bed, harness};
use serde_json::{Value, json};
use std::process::ExitCode;
use std::time::{Duration, Instant};

const SCENARIOS: &[Scenario] = &[("a_refused_packet_shows_up_at_both_ends_with_its_reason_within_two_seconds", drops)];

/// Within this time a drop must be seen; far less than that is promised, on a machine that does nothing else.
const SEEN: Duration = Duration::from_secs(2);

/// A group that lets nothing in, and the port in it alone.
fn closed(tenant: &Tenant<'_>, port: &Endpoint) -> Result<String> {
    let group = tenant.api.post("/v2.0/security-groups", &json!({"security_group": {"name": "closed"}}))?;
    let id = group["security_group"]["id"].as_str().context("an id")?.to_owned();
    let only = json!({"port": {"security_groups": [id]}});
    tenant.api.put(&format!("/v2.0/ports/{}", port.port), Some(&only))?;
    Ok(id)
}

/// Two ports on different hosts, the second of which lets nothing in.
fn pair<'a>(bed: &'a Bed) -> Result<(Tenant<'a>, Net, Endpoint, Endpoint, String)> {
    let tenant = bed.tenant()?;
    let net = tenant.network(&["10.5.0.0/24"])?;
    let [a, b] = tenant.endpoints(&net, [at(0, 0), at(0, 1)])?;
    let group = closed(&tenant, &b)?;
    bed.settle()?;
    Ok((tenant, net, a, b, group))
}

fn reason<'a>(drops: &'a Value, name: &str) -> Option<&'a Value> {
    drops["reasons"].as_array()?.iter().find(|reason| reason["reason"] == name)
}

fn drops(bed: &Bed) -> Result<()> {
    let (_tenant, _net, a, b, _) = pair(bed)?;
    let red = Cli::of(bed, "tenant0")?;
    let of = |port: &Endpoint| red.json(&format!("port drops {}", port.port));
    ensure!(reason(&of(&b)?, "refused").is_none(), "something was refused already");
    let pinged = pings(&a, &b, 1)?;
    ensure!(pinged.received == 0, "the closed port was reached: {pinged:?}");
    let start = Instant::now();
    let (mut at_b, mut at_a) = (Value::Null, Value::Null);
    bed.wait("both ends see the drop", || {
        (at_a, at_b) = (of(&a)?, of(&b)?);
        Ok(reason(&at_a, "policy").is_some() && reason(&at_b, "refused").is_some())
    })?;
    let took = start.elapsed();
    println!("seen at both ends after {took:?}");
    ensure!(took < bed::stretched(SEEN)?, "seen after {took:?}");
    let refused = reason(&at_b, "refused").context("a reason")?;
    let sample = &refused["samples"][0];
    ensure!(sample["source"] == a.address()?.to_string() && sample["protocol"] == 1, "{refused}");
    ensure!(sample["destination"] == b.address()?.to_string() && refused["role"] == "bouncer", "{refused}");
    ensure!(refused["host"].is_null(), "a tenant is told a host's name: {refused}");
    let table = red.run(&format!("port drops {}", b.port))?;
    ensure!(
        table.contains("refused") && table.contains(&format!("{} > {} icmp", a.address()?, b.address()?)),
        "{table}"
    );
    let admin = Cli::of(bed, "admin")?;
    let of_host = admin.json(&format!("host drops {}", bed.host(0)))?;
    let is_it = |reason: &Value| reason["port_id"] == a.port.to_string() && reason["reason"] == "policy";
    ensure!(of_host["reasons"].as_array().context("a list")?.iter().any(is_it), "{of_host}");
    red.fails(&format!("host drops {}", bed.host(0)), 4, "")?;
    Ok(())
}

fn main() -> ExitCode {
    harness::run("tseeing", bed::settings(), &[SCENARIOS])
}
