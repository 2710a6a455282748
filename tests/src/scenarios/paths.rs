//! Every place that a bouncer or divider can have relative to the two ends.

use crate::bed::Bed;
use crate::exchange::{common, http, no_way};
use crate::harness::Scenario;
use crate::tenant::{At, at};
use anyhow::Result;
use mizar::sandbox::endpoint::Kind;

/// All of them.
pub const SCENARIOS: &[Scenario] = &[
    ("bouncer_on_a_third_host", |bed| same_subnet(bed, &[2], 0, 1)),
    ("two_bouncers_on_other_hosts", |bed| same_subnet(bed, &[2, 3], 0, 1)),
    ("bouncer_on_the_destinations_host", |bed| same_subnet(bed, &[1], 0, 1)),
    ("bouncer_on_the_sources_host", |bed| same_subnet(bed, &[0], 0, 1)),
    ("bouncers_on_both_hosts", |bed| same_subnet(bed, &[0, 1], 0, 1)),
    ("both_ends_on_one_host_that_is_no_bouncer", |bed| same_subnet(bed, &[2], 0, 0)),
    ("both_ends_on_one_host_that_is_the_bouncer", |bed| same_subnet(bed, &[0], 0, 0)),
    ("two_subnets_with_transit_elsewhere", |bed| two_subnets(bed, &[2, 3], 0, 1)),
    ("two_subnets_with_all_roles_on_one_other_host", |bed| two_subnets(bed, &[3], 0, 1)),
    ("two_subnets_with_all_roles_on_the_sources_host", |bed| two_subnets(bed, &[0], 0, 1)),
    ("two_subnets_with_all_roles_on_the_destinations_host", |bed| two_subnets(bed, &[1], 0, 1)),
    ("two_subnets_with_roles_on_every_host", |bed| two_subnets(bed, &[0, 1, 2, 3], 0, 1)),
    ("two_subnets_on_one_host_with_roles_elsewhere", |bed| two_subnets(bed, &[2], 1, 1)),
    ("networks_with_the_same_addresses_reach_their_own_only", overlapping),
    ("pages_come_over_http_within_and_across_subnets", pages),
    ("the_host_itself_talks_to_ports_of_both_subnets", host_endpoint),
];

fn same_subnet(bed: &Bed, transit: &[usize], from: usize, to: usize) -> Result<()> {
    bed.transit_on(transit)?;
    let tenant = bed.tenant()?;
    let net = tenant.network(&["10.1.0.0/24"])?;
    let [a, b] = tenant.endpoints(&net, [at(0, from), at(0, to)])?;
    common(&a, &b)
}

fn two_subnets(bed: &Bed, transit: &[usize], from: usize, to: usize) -> Result<()> {
    bed.transit_on(transit)?;
    let tenant = bed.tenant()?;
    let net = tenant.network(&["10.1.0.0/24", "10.2.0.0/24"])?;
    let [a, b] = tenant.endpoints(&net, [at(0, from), at(1, to)])?;
    common(&a, &b)
}

fn pages(bed: &Bed) -> Result<()> {
    bed.transit_on(&[2, 3])?;
    let tenant = bed.tenant()?;
    let net = tenant.network(&["10.1.0.0/24", "10.2.0.0/24"])?;
    let [a, near, far] = tenant.endpoints(&net, [at(0, 0), at(0, 1), at(1, 1)])?;
    for server in [&near, &far] {
        http(&a, server)?;
        http(server, &a)?;
    }
    Ok(())
}

fn overlapping(bed: &Bed) -> Result<()> {
    let (red, blue) = (bed.tenant()?, bed.tenant()?);
    let (red_net, blue_net) = (red.network(&["10.1.0.0/24"])?, blue.network(&["10.1.0.0/24"])?);
    let place = |host, address| At { address: Some(address), ..at(0, host) };
    let [a, b, only_red] =
        red.endpoints(&red_net, [place(0, "10.1.0.10"), place(1, "10.1.0.11"), place(1, "10.1.0.50")])?;
    let [c, d, only_blue] =
        blue.endpoints(&blue_net, [place(0, "10.1.0.10"), place(1, "10.1.0.11"), place(1, "10.1.0.60")])?;
    common(&a, &b)?;
    common(&c, &d)?;
    no_way(&a, &only_blue)?;
    no_way(&c, &only_red)
}

fn host_endpoint(bed: &Bed) -> Result<()> {
    let tenant = bed.tenant()?;
    let net = tenant.network(&["10.1.0.0/24", "10.2.0.0/24"])?;
    let host = At { kind: Kind::Host, ..at(0, 0) };
    let [host, local, remote, other] = tenant.endpoints(&net, [host, at(0, 0), at(0, 1), at(1, 2)])?;
    for peer in [&local, &remote, &other] {
        common(&host, peer)?;
    }
    Ok(())
}
