//! Several shards and dividers: three and more bouncers for each of two subnets, three dividers.

use anyhow::{Context, Result, ensure};
use mizar::sandbox::postgres;
use mizar::sandbox::settings::Settings;
use mizar_tests::bed::Bed;
use mizar_tests::exchange::common;
use mizar_tests::harness::Scenario;
use mizar_tests::tenant::{At, at};
use mizar_tests::{bed, harness};
use std::process::ExitCode;

const SCENARIOS: &[Scenario] = &[
    ("ports_of_two_subnets_talk_through_three_bouncers_each_and_three_dividers", |bed| talk(bed, [0, 1, 2, 3, 4, 5])),
    ("ports_talk_when_roles_are_on_their_own_hosts", |bed| talk(bed, [0, 0, 1, 1, 2, 2])),
];

fn talk(bed: &Bed, hosts: [usize; 6]) -> Result<()> {
    let tenant = bed.tenant()?;
    let net = tenant.network(&["10.1.0.0/24", "10.2.0.0/24"])?;
    let places: [At<'_>; 6] = std::array::from_fn(|i| at(i % 2, hosts[i]));
    let endpoints = tenant.endpoints(&net, places)?;
    bed.wait(
        "three bouncers of each subnet and three dividers",
        || Ok(holders(bed, 2)? >= 6 && holders(bed, 3)? >= 3),
    )?;
    bed.settle()?;
    for (index, a) in endpoints.iter().enumerate() {
        for b in &endpoints[index + 1..] {
            common(a, b)?;
        }
    }
    ensure!(holders(bed, 3)? >= 3, "dividers went away during the exchange");
    Ok(())
}

/// Hosts that hold a role, counted once per subnet or network.
fn holders(bed: &Bed, role: u8) -> Result<u32> {
    let sql = format!(
        "SELECT count(DISTINCT (scope, host)) FROM subscriptions WHERE role = {role} AND state = 2 AND NOT deleted"
    );
    postgres::query(&bed.sandbox.database_url(), &sql)?.trim().parse().context("a number")
}

fn main() -> ExitCode {
    let settings = Settings { hosts: 6, shard_ports: 1, dividers: 3, ..bed::settings() };
    harness::run("tmany", settings, &[SCENARIOS])
}
