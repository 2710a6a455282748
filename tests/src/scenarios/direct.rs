//! After the first exchange no transit host sees a packet of the flow, in either direction.

use crate::bed::{Bed, PATIENCE};
use crate::exchange::PORT;
use crate::harness::Scenario;
use crate::tenant::{Tenant, at};
use anyhow::{Result, ensure};
use mizar::sandbox::endpoint::Endpoint;
use mizar::sandbox::traffic::PingStream;
use mizar_abi::reason::Counter;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

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
    still(bed, &a, &b, || bed.total(Counter::DirectIn))?;
    ensure!(bed.total(Counter::Bounced)? > asked, "the first packet was not bounced: the counter proves nothing");
    Ok(())
}

fn one_host(bed: &Bed) -> Result<()> {
    bed.transit_on(&[2, 3])?;
    let tenant = bed.tenant()?;
    let net = tenant.network(&["10.1.0.0/24"])?;
    let [a, b] = tenant.endpoints(&net, [at(0, 0), at(0, 0)])?;
    let direct = bed.total(Counter::DirectOut)?;
    still(bed, &a, &b, || bed.counter(0, Counter::Local))?;
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

/// Once the flow of a `ping` is direct, as `arrived` counts, a thousand of its requests and their
/// answers must leave the transit hosts' counters alone.
fn still(bed: &Bed, a: &Endpoint, b: &Endpoint, arrived: impl Fn() -> Result<u64>) -> Result<()> {
    let start = arrived()?;
    let flow = PingStream::start(&a.netns, b.address()?, Duration::from_millis(2))?;
    bed.wait("a flow on the direct path", || Ok(arrived()? >= start + 10))?;
    let (before, base) = (transit_counts(bed)?, arrived()?);
    bed.wait("a thousand pings and their answers", || Ok(arrived()? >= base + 2000))?;
    let moved = difference(&before, &transit_counts(bed)?);
    let flow = flow.stop()?;
    ensure!(moved.iter().all(|moved| *moved == 0), "{TRANSIT:?} moved by {moved:?} during {flow:?}");
    ensure!(flow.nothing_lost(), "pings were lost: {flow:?}");
    Ok(())
}

fn transit_counts(bed: &Bed) -> Result<Vec<u64>> {
    TRANSIT.iter().map(|counter| bed.total(*counter)).collect()
}

fn difference(before: &[u64], after: &[u64]) -> Vec<u64> {
    before.iter().zip(after).map(|(before, after)| after - before).collect()
}
