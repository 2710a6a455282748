//! Several shards and dividers: three and more bouncers for each of two subnets, three dividers.

use crate::bed::{self, Bed};
use crate::exchange::common;
use crate::harness::Scenario;
use crate::tenant::{At, at};
use anyhow::{Context, Result, ensure};
use mizar::sandbox::postgres;
use mizar::sandbox::settings::Settings;

/// All of them.
pub const SCENARIOS: &[Scenario] = &[
    ("ports_talk_through_three_bouncers_of_each_subnet_and_three_dividers", |bed| talk(bed, 6)),
    ("ports_talk_when_all_are_on_two_of_the_hosts", |bed| talk(bed, 2)),
];

/// Ports of both subnets. A host carries at most five quarters of the mean, so two hosts cannot
/// bounce for eight ports alone where six hosts may.
const PORTS: usize = 16;

fn talk(bed: &Bed, hosts: usize) -> Result<()> {
    let tenant = bed.tenant()?;
    let net = tenant.network(&["10.1.0.0/24", "10.2.0.0/24"])?;
    let places: [At<'_>; PORTS] = std::array::from_fn(|i| at(i % 2, i / 2 % hosts));
    let endpoints = tenant.endpoints(&net, places)?;
    bed.wait("three bouncers of each subnet and three dividers", || {
        Ok(fewest(bed, 2)?.is_some_and(|least| least >= 3) && fewest(bed, 3)?.is_some_and(|least| least >= 3))
    })?;
    bed.settle()?;
    for (index, a) in endpoints.iter().enumerate() {
        for b in endpoints.iter().cycle().skip(index + 1).take(3) {
            common(a, b)?;
        }
    }
    ensure!(fewest(bed, 3)?.is_some_and(|least| least >= 3), "dividers went away during the exchange");
    Ok(())
}

/// Hosts that hold a role for a subnet (bouncers) or network (dividers): of that with the fewest.
fn fewest(bed: &Bed, role: u8) -> Result<Option<u32>> {
    let sql = format!(
        "SELECT min(hosts) FROM (SELECT count(DISTINCT host) AS hosts FROM subscriptions \
         WHERE role = {role} AND state = 2 AND NOT deleted GROUP BY scope) AS scopes"
    );
    let least = postgres::query(&bed.sandbox.database_url(), &sql)?;
    Ok(if least.trim().is_empty() { None } else { Some(least.trim().parse().context("a number")?) })
}

/// Where there are so many.
pub fn settings(transit_hook: &str) -> Settings {
    Settings { hosts: 6, shard_ports: 1, dividers: 3, transit_hook: transit_hook.into(), ..bed::settings() }
}
