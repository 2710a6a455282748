//! Ports that come, go, come back elsewhere.

use crate::bed::Bed;
use crate::exchange::{common, pings};
use crate::harness::Scenario;
use crate::tenant::{At, at};
use anyhow::{Context, Result, ensure};
use mizar::sandbox::endpoint::Kind;
use mizar::sandbox::netns::Netns;
use mizar::sandbox::traffic::{PingOptions, PingStream, ping};
use mizar_abi::reason::Counter;
use std::time::Duration;

/// All of them.
pub const SCENARIOS: &[Scenario] = &[
    ("a_port_made_again_with_another_address_leaves_the_old_one_dead", another_address),
    ("survivors_talk_on_after_neighbours_are_deleted", survivors),
    ("an_address_that_is_given_to_another_port_reaches_that_one", address_reused),
    ("a_port_that_moves_to_another_host_is_reached_there", moved),
    ("attaching_twice_changes_nothing", attached_twice),
    ("a_detached_port_is_down_and_can_be_attached_again", detached),
];

fn another_address(bed: &Bed) -> Result<()> {
    let tenant = bed.tenant()?;
    let net = tenant.network(&["10.1.0.0/24"])?;
    let place = |host, address| At { address: Some(address), ..at(0, host) };
    let [a, old] = tenant.endpoints(&net, [place(0, "10.1.0.10"), place(1, "10.1.0.11")])?;
    common(&a, &old)?;
    let dead = old.address()?;
    tenant.delete_port(&old)?;
    let new = tenant.endpoint(&net, place(1, "10.1.0.12"))?;
    bed.settle()?;
    common(&a, &new)?;
    let seen = ping(&a.netns, dead, &PingOptions::default())?;
    ensure!(seen.received == 0, "the deleted address answered: {seen:?}");
    Ok(())
}

fn survivors(bed: &Bed) -> Result<()> {
    let tenant = bed.tenant()?;
    let net = tenant.network(&["10.1.0.0/24"])?;
    let [a, b, c, d, e] = tenant.endpoints(&net, [at(0, 0), at(0, 0), at(0, 0), at(0, 0), at(0, 1)])?;
    common(&a, &b)?;
    common(&a, &e)?;
    tenant.delete_port(&c)?;
    tenant.delete_port(&d)?;
    bed.settle()?;
    common(&a, &b)?;
    common(&a, &e)
}

fn address_reused(bed: &Bed) -> Result<()> {
    let tenant = bed.tenant()?;
    let net = tenant.network(&["10.1.0.0/24"])?;
    let place = |host, address| At { address: Some(address), ..at(0, host) };
    let [a, first] = tenant.endpoints(&net, [place(0, "10.1.0.10"), place(1, "10.1.0.11")])?;
    common(&a, &first)?;
    tenant.delete_port(&first)?;
    let second = tenant.endpoint(&net, place(2, "10.1.0.11"))?;
    bed.settle()?;
    // The sender still holds flows towards the former host: `common` uses new ports for TCP and
    // UDP but the same ones may come again, and must find the new place as well.
    common(&a, &second)
}

fn moved(bed: &Bed) -> Result<()> {
    bed.transit_on(&[3])?;
    let tenant = bed.tenant()?;
    let net = tenant.network(&["10.1.0.0/24"])?;
    let [a, b] = tenant.endpoints(&net, [at(0, 0), at(0, 1)])?;
    common(&a, &b)?;
    let port = bed.admin.port(b.port)?;
    let sent_on = || -> Result<u64> { Ok(bed.counter(1, Counter::ReturnOut)? + bed.counter(1, Counter::MovedOn)?) };
    let before = sent_on()?;
    let stream = PingStream::start(&a.netns, b.address()?, Duration::from_millis(10))?;
    let there = bed.sandbox.attach(&bed.admin, &port, bed.host(2), Kind::Container)?;
    bed.admin.wait_active(port.id, crate::bed::PATIENCE)?;
    bed.settle()?;
    // The same flow, which the old host knew, must have found the new one by now.
    let after = pings(&a, &there, 3)?;
    ensure!(after.all_answered(), "after the move: {after:?}");
    let flow = stream.stop()?;
    ensure!(flow.received > 0 && flow.duplicates == 0, "the flow during the move: {flow:?}");
    ensure!(sent_on()? > before, "the former host turned no packet of the flow around");
    common(&a, &there)
}

fn attached_twice(bed: &Bed) -> Result<()> {
    let tenant = bed.tenant()?;
    let net = tenant.network(&["10.1.0.0/24"])?;
    let [a, b] = tenant.endpoints(&net, [at(0, 0), at(0, 1)])?;
    let port = bed.admin.port(a.port)?;
    let mut again = bed.sandbox.attach(&bed.admin, &port, &a.host, Kind::Container)?;
    // How long the call took is nothing of the endpoint.
    again.attached.waited_us = a.attached.waited_us;
    ensure!(again.attached == a.attached, "{:?} became {:?}", a.attached, again.attached);
    ensure!(bed.admin.port(a.port)?.status == "ACTIVE", "the port is no longer ACTIVE");
    common(&a, &b)
}

fn detached(bed: &Bed) -> Result<()> {
    let tenant = bed.tenant()?;
    let net = tenant.network(&["10.1.0.0/24"])?;
    let [a, b] = tenant.endpoints(&net, [at(0, 0), at(0, 1)])?;
    let port = bed.admin.port(b.port)?;
    bed.sandbox.detach(&bed.admin, &port)?;
    bed.wait("the detached port DOWN", || Ok(bed.admin.port(b.port)?.status == "DOWN"))?;
    ensure!(!Netns::named(bed.sandbox.layout().port_netns(b.port)).exists(), "its namespace is left");
    let again = bed.sandbox.attach(&bed.admin, &port, bed.host(2), Kind::Container)?;
    tenant.api.wait_active(b.port, crate::bed::PATIENCE).context("attached again")?;
    bed.settle()?;
    common(&a, &again)
}
