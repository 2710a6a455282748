//! Fan-out: how many hosts hear of a change of a rule, how much, and when the last of them has
//! acknowledged it, where the group has ten ports on each of very many hosts.
//!
//! The API, the scheduler and PostgreSQL are real, and so are placement, TLS and the protocol of
//! agents; the hosts are [`hosts`]. All of them share the machine's cores with the servers, which a
//! thousand real ones would not: the times are upper bounds.

mod hosts;

use crate::{
    bed::{Bed, settings},
    machine,
    report::{percentile, table},
};
use anyhow::{Context, Result, ensure};
use hosts::{Hosts, News, name};
use mizar::sandbox::{services::Service, settings::Settings};
use mizar_wire::Kind;
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    io::Write,
    time::{Duration, Instant},
};

const PORTS_OF_HOST: usize = 10;
/// Ports of one request.
const BULK: usize = 100;
/// Rules added, and removed again.
const CHANGES: usize = 10;
/// After so long without news a change has arrived everywhere.
const QUIET: Duration = Duration::from_secs(2);

/// What one change did.
struct Effect {
    /// From the API's answer until the last acknowledgement was taken in, ms.
    all_ms: f64,
    /// Hosts that received rules, and the bytes of such an answer.
    rules: (usize, f64),
    /// Hosts that received anything else, and the bytes of such an answer.
    others: (usize, f64),
}

/// Measures with `count` hosts and prints a table.
pub fn run(count: usize) -> Result<()> {
    ensure!(count > 0, "HOSTS: at least 1");
    let bed = Bed::up("benchfan", Settings { limited: false, ..settings(1) })?;
    // A sandbox has a host at least.
    bed.sandbox.stop(&Service::Agent(bed.sandbox.hosts()[0].name.clone()))?;
    bed.unlimited()?;
    println!("{count} hosts register");
    let hosts = Hosts::start(&bed.sandbox, count)?;
    let group = ports(&bed, count)?;
    println!("placement settles");
    hosts.news(QUIET * 2)?;

    let (mut more, mut less) = (Vec::new(), Vec::new());
    for change in 0..CHANGES {
        let rule = json!({"security_group_rule": {"security_group_id": group, "direction": "ingress",
            "ethertype": "IPv4", "protocol": "tcp", "port_range_min": 2000 + change, "port_range_max": 2000 + change}});
        let made = bed.admin.post("/v2.0/security-group-rules", &rule)?;
        more.push(effect(Instant::now(), &hosts.news(QUIET)?));
        let id = made["security_group_rule"]["id"].as_str().context("a rule without id")?;
        bed.admin.delete(&format!("/v2.0/security-group-rules/{id}"))?;
        less.push(effect(Instant::now(), &hosts.news(QUIET)?));
    }
    println!(
        "{}; a group with {} ports on {count} simulated hosts, {} bouncers",
        machine::describe(),
        count * PORTS_OF_HOST,
        bouncers(&bed)?
    );
    let header = ["change", "times", "hosts with rules", "bytes each", "others", "bytes each", "all, ms p50", "max"];
    table("A rule more, a rule less", &header, &[row("a rule more", &more), row("a rule less", &less)]);
    Ok(())
}

/// Ten ports on each host, of one subnet and of the default group, which is returned.
fn ports(bed: &Bed, hosts: usize) -> Result<String> {
    let network = bed.admin.create_network("fan")?;
    bed.admin.create_subnet(network.id, "fan", "10.66.0.0/16".parse()?)?;
    let all: Vec<Value> = (0..hosts * PORTS_OF_HOST)
        .map(|port| json!({"network_id": network.id, "binding:host_id": name(port % hosts)}))
        .collect();
    for (done, some) in all.chunks(BULK).enumerate() {
        bed.admin.post("/v2.0/ports", &json!({"ports": some}))?;
        print!("\rports: {} of {}", done * BULK + some.len(), all.len());
        std::io::stdout().flush()?;
    }
    println!();
    let groups = bed.admin.get(&format!("/v2.0/security-groups?name=default&project_id={}", bed.admin.project()?))?;
    Ok(groups["security_groups"][0]["id"].as_str().context("no default group")?.to_owned())
}

/// Hosts that bounce for any shard.
fn bouncers(bed: &Bed) -> Result<usize> {
    let roles = bed.admin.roles()?;
    Ok(roles.iter().filter(|role| role.role == "bouncer").map(|role| &role.host).collect::<BTreeSet<_>>().len())
}

fn effect(answered: Instant, news: &[News]) -> Effect {
    let rules = |news: &&News| news.kinds.contains(&(Kind::Group as i16));
    let of = |news: Vec<&News>| {
        let bytes: Vec<f64> = news.iter().map(|news| news.bytes as f64).collect();
        let hosts: BTreeSet<_> = news.iter().map(|news| news.host).collect();
        (hosts.len(), percentile(&bytes, 50))
    };
    let last = news.iter().map(|news| news.acknowledged).max().unwrap_or(answered);
    Effect {
        all_ms: last.saturating_duration_since(answered).as_secs_f64() * 1e3,
        rules: of(news.iter().filter(rules).collect()),
        others: of(news.iter().filter(|news| !rules(news)).collect()),
    }
}

fn row(what: &str, effects: &[Effect]) -> Vec<String> {
    let p50 = |figure: &dyn Fn(&Effect) -> f64| percentile(&effects.iter().map(figure).collect::<Vec<_>>(), 50);
    let whole = |value: f64| if value.is_nan() { "-".to_owned() } else { format!("{value:.0}") };
    vec![
        what.to_owned(),
        effects.len().to_string(),
        whole(p50(&|effect| effect.rules.0 as f64)),
        whole(p50(&|effect| effect.rules.1)),
        whole(p50(&|effect| effect.others.0 as f64)),
        whole(p50(&|effect| effect.others.1)),
        whole(p50(&|effect| effect.all_ms)),
        whole(percentile(&effects.iter().map(|effect| effect.all_ms).collect::<Vec<_>>(), 100)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_with_rules_are_told_from_others_and_the_last_counts() {
        let answered = Instant::now();
        let news = |host, kind: Kind, bytes, ms| News {
            host,
            kinds: vec![kind as i16],
            bytes,
            acknowledged: answered + Duration::from_millis(ms),
        };
        let done = effect(
            answered,
            &[news(0, Kind::Group, 500, 9), news(1, Kind::Member, 90, 30), news(2, Kind::Member, 80, 20)],
        );
        assert_eq!((done.rules, done.others, done.all_ms), ((1, 500.0), (2, 80.0), 30.0));
        let nobody = effect(answered, &[]);
        assert_eq!((nobody.rules.0, nobody.all_ms), (0, 0.0));
    }
}
