//! What a sender is told when a packet cannot arrive, and what no sender may do.

use crate::bed::Bed;
use crate::exchange::common;
use crate::guest::Guest;
use crate::harness::Scenario;
use crate::tenant::{At, at};
use anyhow::{Result, ensure};
use mizar::sandbox::endpoint::Kind;
use mizar::sandbox::netns::run;
use mizar::sandbox::traffic::{PingOptions, Pings, ping};
use mizar_abi::reason::Drop;
use std::net::IpAddr;
use std::time::Duration;

/// All of them.
pub const SCENARIOS: &[Scenario] = &[
    ("an_address_that_nobody_has_is_said_to_be_unreachable", unreachable),
    ("a_ttl_that_runs_out_at_the_router_is_said_so", ttl),
    ("a_packet_over_the_mtu_is_answered_with_the_mtu", too_big),
    ("full_size_packets_pass_from_the_first_one", full_size),
    ("a_source_address_of_another_port_is_dropped", spoofed_address),
    ("a_source_mac_of_another_port_is_dropped", spoofed_mac),
];

fn quiet() -> PingOptions {
    PingOptions { count: 3, patience: Duration::from_secs(1), ..PingOptions::default() }
}

fn says(pings: &Pings, words: &str) -> Result<()> {
    ensure!(pings.received == 0, "there was an answer: {pings:?}");
    ensure!(pings.errors.iter().any(|error| error.contains(words)), "not told `{words}`: {pings:?}");
    Ok(())
}

fn unreachable(bed: &Bed) -> Result<()> {
    let tenant = bed.tenant()?;
    let net = tenant.network(&["10.1.0.0/24", "10.2.0.0/24"])?;
    let [a] = tenant.endpoints(&net, [at(0, 0)])?;
    for nobody in ["10.1.0.200", "10.2.0.200"] {
        says(&ping(&a.netns, nobody.parse()?, &quiet())?, "Destination Host Unreachable")?;
    }
    says(&ping(&a.netns, "192.0.2.1".parse()?, &quiet())?, "Unreachable")
}

fn ttl(bed: &Bed) -> Result<()> {
    let tenant = bed.tenant()?;
    let net = tenant.network(&["10.1.0.0/24", "10.2.0.0/24"])?;
    let [a, near, far] = tenant.endpoints(&net, [at(0, 0), at(0, 1), at(1, 1)])?;
    let ttl_1 = PingOptions { more: vec!["-t".into(), "1".into()], ..quiet() };
    says(&ping(&a.netns, far.address()?, &ttl_1)?, "Time to live exceeded")?;
    let within = ping(&a.netns, near.address()?, &ttl_1)?;
    ensure!(within.all_answered(), "no router lies within a subnet: {within:?}");
    let ttl_2 = PingOptions { more: vec!["-t".into(), "2".into()], ..quiet() };
    let across = ping(&a.netns, far.address()?, &ttl_2)?;
    ensure!(across.all_answered(), "exactly one router lies between subnets: {across:?}");
    Ok(())
}

/// A container's interface has the right MTU and its kernel refuses by itself; a guest may ignore
/// what DHCP says.
fn too_big(bed: &Bed) -> Result<()> {
    let tenant = bed.tenant()?;
    let net = tenant.network(&["10.1.0.0/24"])?;
    let [tap, b] = tenant.endpoints(&net, [At { kind: Kind::Tap, ..at(0, 0) }, at(0, 1)])?;
    let guest = Guest::plug(&tap)?;
    guest.netns().ip(&format!("address add {}/24 dev eth0\n", tap.address()?))?;
    let mtu = tap.attached.mtu;
    // With its headers 28 bytes over.
    let whole = PingOptions { size: mtu, more: vec!["-M".into(), "do".into()], ..quiet() };
    says(&ping(guest.netns(), b.address()?, &whole)?, &format!("mtu = {mtu}"))
}

fn full_size(bed: &Bed) -> Result<()> {
    bed.transit_on(&[2, 3])?;
    let tenant = bed.tenant()?;
    let net = tenant.network(&["10.1.0.0/24", "10.2.0.0/24"])?;
    let [a, b, c] = tenant.endpoints(&net, [at(0, 0), at(0, 1), at(1, 1)])?;
    ensure!(a.attached.mtu == 1398, "MTU {} on an underlay of 1500", a.attached.mtu);
    for to in [&b, &c] {
        let full = PingOptions { size: a.attached.mtu - 28, more: vec!["-M".into(), "do".into()], ..quiet() };
        let seen = ping(&a.netns, to.address()?, &full)?;
        ensure!(seen.all_answered(), "full-size pings to {:?}: {seen:?}", to.address());
        let fragmented = PingOptions { size: 4000, more: vec!["-M".into(), "dont".into()], ..quiet() };
        let seen = ping(&a.netns, to.address()?, &fragmented)?;
        ensure!(seen.all_answered(), "fragmented pings to {:?}: {seen:?}", to.address());
    }
    Ok(())
}

fn spoofed_address(bed: &Bed) -> Result<()> {
    let tenant = bed.tenant()?;
    let net = tenant.network(&["10.1.0.0/24"])?;
    let [a, b, c] = tenant.endpoints(&net, [at(0, 0), at(0, 1), at(0, 2)])?;
    common(&a, &b)?;
    let stolen: IpAddr = c.address()?;
    a.netns.ip(&format!("address add {stolen}/32 dev {}\n", a.ifname))?;
    let before = bed.drops(0, Drop::Spoof)?;
    let options = PingOptions { more: vec!["-I".into(), stolen.to_string()], ..quiet() };
    let seen = ping(&a.netns, b.address()?, &options)?;
    ensure!(seen.received == 0, "a stolen address was answered: {seen:?}");
    ensure!(bed.drops(0, Drop::Spoof)? >= before + 3, "the drops are not counted as spoof");
    Ok(())
}

fn spoofed_mac(bed: &Bed) -> Result<()> {
    let tenant = bed.tenant()?;
    let net = tenant.network(&["10.1.0.0/24"])?;
    let [a, b] = tenant.endpoints(&net, [at(0, 0), at(0, 1)])?;
    common(&a, &b)?;
    let mut set = a.netns.command("ip")?;
    run(set.args(["link", "set", &a.ifname, "address", "02:00:00:00:00:99"]))?;
    let before = bed.drops(0, Drop::Spoof)?;
    let seen = ping(&a.netns, b.address()?, &quiet())?;
    ensure!(seen.received == 0, "a foreign MAC was answered: {seen:?}");
    ensure!(bed.drops(0, Drop::Spoof)? > before, "the drops are not counted as spoof");
    Ok(())
}
