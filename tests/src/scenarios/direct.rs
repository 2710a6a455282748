//! After the first exchange no transit host sees a packet of the flow, in either direction.

use crate::bed::{Bed, PATIENCE};
use crate::exchange::{PORT, pings};
use crate::harness::Scenario;
use crate::tenant::{Tenant, at};
use anyhow::{Result, ensure};
use mizar::sandbox::endpoint::Endpoint;
use mizar_abi::reason::Counter;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};

/// All of them.
pub const SCENARIOS: &[Scenario] = &[
    ("a_thousand_pings_in_a_subnet_ask_no_bouncer", |bed| across_hosts(bed, &["10.1.0.0/24"], 0)),
    ("a_thousand_pings_across_subnets_ask_no_divider", |bed| across_hosts(bed, &["10.1.0.0/24", "10.2.0.0/24"], 1)),
    ("a_thousand_pings_on_one_host_never_reach_the_wire", one_host),
    ("datagrams_in_one_direction_only_go_direct_in_a_subnet", |bed| one_way(bed, &["10.1.0.0/24"], 0)),
    ("datagrams_in_one_direction_only_go_direct_across_subnets", |bed| {
        one_way(bed, &["10.1.0.0/24", "10.2.0.0/24"], 1)
    }),
];

/// What transit hosts count, and what senders count when they ask them.
const TRANSIT: [Counter; 4] = [Counter::RequestOut, Counter::Bounced, Counter::Divided, Counter::Sibling];

fn across_hosts(bed: &Bed, cidrs: &[&str], subnet: usize) -> Result<()> {
    bed.transit_on(&[2, 3])?;
    let tenant: Tenant<'_> = bed.tenant()?;
    let net = tenant.network(cidrs)?;
    let [a, b] = tenant.endpoints(&net, [at(0, 0), at(subnet, 1)])?;
    let asked = bed.total(Counter::Bounced)?;
    let direct = bed.total(Counter::DirectIn)?;
    still(bed, &a, &b)?;
    ensure!(bed.total(Counter::Bounced)? > asked, "the first packet was not bounced: the counter proves nothing");
    let delivered = bed.total(Counter::DirectIn)? - direct;
    ensure!(delivered >= 2000, "only {delivered} packets were received on the direct path");
    Ok(())
}

fn one_host(bed: &Bed) -> Result<()> {
    bed.transit_on(&[2, 3])?;
    let tenant = bed.tenant()?;
    let net = tenant.network(&["10.1.0.0/24"])?;
    let [a, b] = tenant.endpoints(&net, [at(0, 0), at(0, 0)])?;
    let local = bed.counter(0, Counter::Local)?;
    let direct = bed.total(Counter::DirectOut)?;
    still(bed, &a, &b)?;
    ensure!(bed.counter(0, Counter::Local)? - local >= 2000, "the pings were not delivered locally");
    ensure!(bed.total(Counter::DirectOut)? == direct, "packets between ports of one host crossed the wire");
    Ok(())
}

/// Nothing comes back that could carry an acknowledgement: the receiver's agent sends one.
fn one_way(bed: &Bed, cidrs: &[&str], subnet: usize) -> Result<()> {
    const DATAGRAMS: u64 = 1_000;
    bed.transit_on(&[2, 3])?;
    let tenant = bed.tenant()?;
    let net = tenant.network(cidrs)?;
    let [a, b] = tenant.endpoints(&net, [at(0, 0), at(subnet, 1)])?;
    let to = SocketAddr::new(b.address()?, PORT);
    let receiver = b.netns.enter(|| UdpSocket::bind(to))??;
    receiver.set_read_timeout(Some(PATIENCE))?;
    let sender = a.netns.enter(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)))??;
    sender.connect(to)?;
    let asked = bed.total(Counter::Bounced)?;
    let mut first = 0u64;
    // Each is received before the next is sent, so that no queue on the way can overflow.
    let exchange = |number: u64| -> Result<()> {
        sender.send(&number.to_be_bytes())?;
        let mut seen = [0; 8];
        ensure!(receiver.recv(&mut seen)? == 8 && u64::from_be_bytes(seen) == number, "another datagram arrived");
        Ok(())
    };
    bed.wait("the first datagram on the direct path", || {
        let direct = bed.counter(0, Counter::DirectOut)?;
        first += 1;
        exchange(first)?;
        Ok(bed.counter(0, Counter::DirectOut)? > direct)
    })?;
    ensure!(bed.total(Counter::Bounced)? > asked, "the first packet was not bounced: the counter proves nothing");
    let (before, direct) = (transit_counts(bed)?, bed.counter(1, Counter::DirectIn)?);
    (first + 1..=first + DATAGRAMS).try_for_each(exchange)?;
    let moved = difference(&before, &transit_counts(bed)?);
    ensure!(moved.iter().all(|moved| *moved == 0), "{TRANSIT:?} moved by {moved:?} during {DATAGRAMS} datagrams");
    ensure!(bed.counter(1, Counter::DirectIn)? - direct >= DATAGRAMS, "they were not received on the direct path");
    Ok(())
}

/// One `ping` of 1,003 requests is one flow: its first ones set the path up, and then a thousand
/// must leave the counters alone. The first run shows what setting up costs at most.
fn still(bed: &Bed, a: &Endpoint, b: &Endpoint) -> Result<()> {
    let before = transit_counts(bed)?;
    let first = pings(a, b, 3)?;
    ensure!(first.all_answered(), "the first exchange: {first:?}");
    let set_up = difference(&before, &transit_counts(bed)?);
    let before = transit_counts(bed)?;
    let flow = pings(a, b, 1003)?;
    ensure!(flow.all_answered(), "the flow: {flow:?}");
    let moved = difference(&before, &transit_counts(bed)?);
    for ((counter, allowed), moved) in TRANSIT.iter().zip(set_up).zip(moved) {
        ensure!(moved <= allowed, "{} moved by {moved} during 1,003 pings, by {allowed} during 3", counter.name());
    }
    Ok(())
}

fn transit_counts(bed: &Bed) -> Result<Vec<u64>> {
    TRANSIT.iter().map(|counter| bed.total(*counter)).collect()
}

fn difference(before: &[u64], after: &[u64]) -> Vec<u64> {
    before.iter().zip(after).map(|(before, after)| after - before).collect()
}
