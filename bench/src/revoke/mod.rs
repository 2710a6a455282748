//! Revocation: how long packets of a flow arrive after the API has said that its rule is gone, and
//! what that costs the flows that stay allowed.
//!
//! Two tenants with two lanes each, at once ([`lane`]): a server with a group of its own and three
//! flows of 1,000 datagrams a second to it ([`traffic`]). One of the three loses its rule again and
//! again, in each of the ways in which a rule can go or become narrower; the other two are allowed
//! all the time, and each of their datagrams is counted.
//!
//! Time runs from the API's answer to the last datagram that the server's socket got before the
//! rule was added again, which is [`lane::WINDOW`] of silence later: a flow that came back within
//! would count as one that went on. What is not measured stands in docs/BENCHMARKS.md.

mod lane;
mod traffic;

use crate::{
    bed::{Bed, settings},
    machine,
    report::{percentile, table},
};
use anyhow::{Context, Result};
use lane::{Change, KINDS, Lane};
use mizar::{demo::tenant::in_parallel, sandbox::settings::Settings};
use std::time::Duration;
use traffic::Stayed;

/// Aims of the 50th and the 99th of 100 changes.
const AIMS: [(usize, Duration); 2] = [(50, Duration::from_millis(200)), (99, Duration::from_secs(1))];
const TENANTS: [&str; 2] = ["red", "blue"];
/// Of each tenant.
const LANES: usize = 2;
const HOSTS: usize = 4;

/// Measures `changes` changes and prints two tables.
pub fn run(changes: usize) -> Result<()> {
    // Limits of requests are for tenants in a hurry, which this is.
    let bed = Bed::up("benchrevoke", Settings { limited: false, ..settings(HOSTS) })?;
    let tenants = TENANTS
        .iter()
        .map(|name| lane::Tenant::new(&bed, name).with_context(|| format!("tenant {name}")))
        .collect::<Result<Vec<_>>>()?;
    let places: Vec<_> = tenants.iter().flat_map(|tenant| (0..LANES).map(move |number| (tenant, number))).collect();
    let lanes = in_parallel(&places, |(tenant, number)| Lane::new(&bed, tenant, *number))?;
    let lanes: Vec<_> = lanes.into_iter().enumerate().collect();
    let done = in_parallel(&lanes, |(i, lane)| {
        lane.run(changes / lanes.len() + usize::from(i % lanes.len() < changes % lanes.len()))
    })?;
    let (changes, stayed): (Vec<_>, Vec<_>) = done.into_iter().unzip();
    print(&changes.concat(), &stayed.concat());
    Ok(())
}

fn print(changes: &[Change], stayed: &[Stayed]) {
    println!(
        "{}; {} tenants, {} flows of 1,000 datagrams a second",
        machine::describe(),
        TENANTS.len(),
        3 * LANES * TENANTS.len()
    );
    let row = |what: &str, of: &[&Change]| {
        let ms = |figure: fn(&Change) -> Duration, percent| {
            let all: Vec<f64> = of.iter().map(|change| figure(change).as_secs_f64() * 1e3).collect();
            format!("{:.0}", percentile(&all, percent))
        };
        let mut row = vec![what.to_owned(), of.len().to_string()];
        row.extend([50, 99, 100].map(|percent| ms(|change| change.last, percent)));
        row.extend([50, 99].map(|percent| ms(|change| change.request, percent)));
        row.extend([50, 99].map(|percent| ms(|change| change.back, percent)));
        row
    };
    let mut rows: Vec<_> = KINDS
        .iter()
        .enumerate()
        .map(|(kind, name)| (name, changes.iter().filter(|change| change.kind == kind).collect::<Vec<_>>()))
        .filter(|(_, changes)| !changes.is_empty())
        .map(|(name, changes)| row(name, &changes))
        .collect();
    rows.push(row("all", &changes.iter().collect::<Vec<_>>()));
    let header = ["what went", "changes", "last packet p50", "p99", "max", "request p50", "p99", "back p50", "p99"];
    table("Revocation: from the API's answer to the last packet, ms", &header, &rows);
    let last: Vec<f64> = changes.iter().map(|change| change.last.as_secs_f64()).collect();
    for (percent, aim) in AIMS {
        let verdict = if percentile(&last, percent) < aim.as_secs_f64() { "met" } else { "missed" };
        println!("aim: p{percent} under {} ms, {verdict}", aim.as_millis());
    }
    let rows: Vec<_> = stayed
        .iter()
        .map(|flow| vec![flow.name.clone(), flow.sent.to_string(), flow.lost.to_string(), flow.again.to_string()])
        .collect();
    table("Flows that stay allowed, datagrams", &["flow", "sent", "lost", "arrived twice"], &rows);
    let lost: usize = stayed.iter().map(|flow| flow.lost).sum();
    println!("aim: none lost, {}", if lost == 0 { "met" } else { "missed" });
}
