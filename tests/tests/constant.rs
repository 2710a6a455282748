//! What sets Mizar apart: a port change programs a constant number of hosts, its own and the
//! bouncers of its address, however many ports and hosts the network has. Counted on the real
//! system, by what each agent holds before and after.

use anyhow::{Context, Result, ensure};
use mizar::client::Port;
use mizar::sandbox::endpoint::Kind;
use mizar::sandbox::postgres;
use mizar::sandbox::settings::Settings;
use mizar_tests::bed::{Bed, PATIENCE};
use mizar_tests::harness::Scenario;
use mizar_tests::{bed, harness};
use serde_json::Value;
use std::collections::BTreeSet;
use std::process::ExitCode;

const SCENARIOS: &[Scenario] = &[("a_port_change_programs_a_constant_number_of_hosts", constant)];

/// Hosts of the sandbox.
const HOSTS: usize = 8;
/// Ports that make a shard: the large network has more shards than the small one, so that what does
/// not grow is not merely what never was divided.
const SHARD_PORTS: u32 = 32;
/// Networks compared: ports, and the hosts that these are on.
const SIZES: [(usize, usize); 2] = [(10, 3), (100, HOSTS)];
/// Ports made, moved and deleted in each.
const SAMPLES: usize = 4;

/// What a change of one port did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Effect {
    /// Rows written for the feed.
    rows: usize,
    /// Hosts whose desired state or tables are others than before.
    hosts: usize,
}

/// Everything that a host is told, and what it made of it; flows are its own affair.
fn holdings(bed: &Bed) -> Result<Vec<(Value, Value)>> {
    let of = |host: &mizar::sandbox::layout::HostPlan| {
        let mut dump = bed.sandbox.agent(&host.name).dump()?;
        let mut maps = dump["maps"].take();
        maps.as_object_mut().context("maps by name")?.remove("FLOWS");
        Ok((dump["entries"].take(), maps))
    };
    bed.sandbox.hosts().iter().map(of).collect()
}

fn ask(bed: &Bed, sql: &str) -> Result<String> {
    Ok(postgres::query(&bed.sandbox.database_url(), sql)?.trim().to_owned())
}

fn number(bed: &Bed, sql: &str) -> Result<usize> {
    ask(bed, sql)?.parse().with_context(|| format!("not a number: {sql}"))
}

/// Every role as it is placed; a test of ports means something only while none moves.
fn placement(bed: &Bed) -> Result<String> {
    ask(bed, "SELECT host, scope, lo, hi, role, state, xid FROM subscriptions WHERE role > 1 ORDER BY 1, 2, 3, 5")
}

/// Hosts, from 0, that bounce for the addresses of a port.
fn bouncers(bed: &Bed, port: &Port) -> Result<BTreeSet<usize>> {
    let sql = format!(
        "SELECT DISTINCT h.name FROM entries e \
         JOIN subscriptions s ON s.scope = e.scope AND e.slot BETWEEN s.lo AND s.hi AND s.role = 2 AND NOT s.deleted \
         JOIN hosts h ON h.number = s.host \
         WHERE e.kind = 8 AND substring(e.key FOR 16) = decode('{}', 'hex')",
        port.id.simple()
    );
    let names = ask(bed, &sql)?;
    let index = |name: &str| bed.sandbox.hosts().iter().position(|host| host.name == name).context("a host of it");
    names.lines().map(index).collect()
}

/// Does `change` and counts what it did; only `concerned` hosts may have been touched.
fn effect<T>(
    bed: &Bed,
    concerned: impl FnOnce(&T) -> Result<BTreeSet<usize>>,
    change: impl FnOnce() -> Result<T>,
) -> Result<(T, Effect)> {
    bed.settle()?;
    let (placed, before) = (placement(bed)?, holdings(bed)?);
    let snapshot = ask(bed, "SELECT pg_current_snapshot()")?;
    let done = change()?;
    bed.settle()?;
    let after = holdings(bed)?;
    let rows = number(
        bed,
        &format!("SELECT count(*) FROM entries WHERE NOT pg_visible_in_snapshot(xid::text::xid8, '{snapshot}')"),
    )?;
    ensure!(placement(bed)? == placed, "roles moved meanwhile: the figure is not the port's");
    let touched: BTreeSet<_> = (0..before.len()).filter(|host| before[*host] != after[*host]).collect();
    let concerned = concerned(&done)?;
    ensure!(touched == concerned, "hosts {touched:?} were programmed, {concerned:?} are concerned (from 0)");
    Ok((done, Effect { rows, hosts: touched.len() }))
}

/// The most that creating, moving and deleting a port did in a network of this size.
fn measure(bed: &Bed, ports: usize, hosts: usize, cidr: &str) -> Result<[Effect; 3]> {
    let tenant = bed.tenant()?;
    let net = tenant.network(&[cidr])?;
    let make = |host: usize| -> Result<Port> {
        let port = tenant.port(&net, 0, None)?;
        bed.admin.bind_port(port.id, bed.host(host))
    };
    let places: Vec<_> = (0..ports).map(|n| n % hosts).collect();
    mizar::demo::tenant::in_parallel(&places, |host| make(*host))?;
    let mut most = [Effect::default(); 3];
    for sample in 0..SAMPLES {
        let (from, to) = (sample % hosts, (sample + 1) % hosts);
        let own = |port: &Port, hosts: &[usize]| -> Result<BTreeSet<usize>> {
            Ok(bouncers(bed, port)?.into_iter().chain(hosts.iter().copied()).collect())
        };
        let attach = |port: &Port, host| -> Result<()> {
            bed.sandbox.attach(&bed.admin, port, bed.host(host), Kind::Container)?;
            bed.admin.wait_active(port.id, PATIENCE).map(drop)
        };
        let (port, create) = effect(
            bed,
            |port| own(port, &[from]),
            || {
                let port = make(from)?;
                attach(&port, from)?;
                Ok(port)
            },
        )?;
        let (_, moved) = effect(bed, |()| own(&port, &[from, to]), || attach(&port, to))?;
        // Who bounces for it is known only while it is there; its former host forgets it too.
        let concerned = own(&port, &[from, to])?;
        let delete = || bed.admin.delete(&format!("/v2.0/ports/{}", port.id));
        let (_, deleted) = effect(bed, |()| Ok(concerned), delete)?;
        for (most, this) in most.iter_mut().zip([create, moved, deleted]) {
            *most = Effect { rows: most.rows.max(this.rows), hosts: most.hosts.max(this.hosts) };
        }
    }
    Ok(most)
}

fn constant(bed: &Bed) -> Result<()> {
    let mut figures = Vec::new();
    println!("\nhosts programmed by one port change, of {HOSTS} (rows written), the most of {SAMPLES}");
    for (index, (ports, hosts)) in SIZES.into_iter().enumerate() {
        let [create, moved, deleted] = measure(bed, ports, hosts, &format!("10.{index}.0.0/16"))?;
        let show = |effect: Effect| format!("{} ({})", effect.hosts, effect.rows);
        println!(
            "{ports:>4} ports on {hosts} hosts: create {}, move {}, delete {}",
            show(create),
            show(moved),
            show(deleted)
        );
        figures.push([create, moved, deleted]);
    }
    for figure in &figures {
        // Its own host and two bouncers; a move has two hosts of its own.
        for (effect, most) in figure.iter().zip([3, 4, 4]) {
            ensure!(effect.hosts <= most, "{effect:?} where at most {most} hosts are concerned");
        }
    }
    for (small, large) in figures[0].iter().zip(figures[1]) {
        ensure!(small.rows == large.rows, "rows grow with the network: {small:?} became {large:?}");
    }
    let reached = |subnet: usize| {
        number(
            bed,
            &format!(
                "SELECT count(DISTINCT s.host) FROM subscriptions s JOIN subnets n ON s.scope = (5::bigint << 32) + n.number \
                 WHERE n.cidr = '10.{subnet}.0.0/16' AND s.role = 2 AND NOT s.deleted"
            ),
        )
    };
    ensure!(reached(1)? > reached(0)?, "the large network is no wider than the small one: it proves nothing");
    Ok(())
}

fn main() -> ExitCode {
    let settings = Settings { hosts: HOSTS, shard_ports: SHARD_PORTS, ..bed::settings() };
    harness::run("tconst", settings, &[SCENARIOS])
}
