//! Nanoseconds per packet of the kernel programs, by BPF_PROG_TEST_RUN.
//!
//! The kernel runs a program many times on the packet that the last run left, so the object has
//! variants that put the packet back (bpf/src/bench.rs). What that costs is measured by itself, in
//! the same round, and taken off. One detail differs: the kernel marks a packet as encapsulated for
//! good, and refuses to do it again. So from the second run on, egress takes the way of a packet
//! that is a tunnel's already: one refused helper call more, and inner header offsets not set.

use crate::{
    machine,
    report::{median, spread, table},
};
use anyhow::{Context, Result, bail, ensure};
use mizar_dataplane_tests::{
    World,
    frame::{self, Ip},
    host::{REDIRECT, UPLINK, XDP_REDIRECT},
    pod::Plain,
    policy::{Remote, Rule},
    world::Port,
};

/// As `bench::Undo` of the object.
#[derive(Clone, Copy)]
#[repr(C)]
struct Undo {
    room: i32,
    forget: u32,
    head: [u8; HEAD],
}
const HEAD: usize = 160;
/// Bytes of payload: the packets are small, and longer than HEAD with and without headers.
const PAYLOAD: [u8; 160] = [0x61; 160];
const REPEAT: u32 = 100_000;

/// Set of the ports that have rules.
const SET: u32 = 1;

/// One row of the table.
struct Case {
    name: String,
    aim: Option<u32>,
    host: u32,
    program: &'static str,
    ifindex: u32,
    frame: Vec<u8>,
    room: i32,
    forget: bool,
    verdict: i32,
}

/// `many` rules, of which the one that matters is found last: by the prefix of an address.
fn rules(many: usize) -> Vec<Rule> {
    let matters = Rule::ingress(17, (53, 53)).from(Remote::Prefix([10, 0, 0, 0], 16));
    let other = |n: u16| match n % 3 {
        0 => Rule::ingress(6, (n, n + n / 7)).from(Remote::Set(1_000 + u32::from(n))),
        1 => Rule::ingress(6, (n, n + n / 7)),
        _ => Rule::ingress(17, (n, n)).from(Remote::Prefix([192, 168, (n >> 8) as u8, n as u8], 32)),
    };
    [matters, Rule::ALL_OUT].into_iter().chain((100..).take(many.saturating_sub(2)).map(other)).collect()
}

/// Hosts: 1 sender, 2 receiver, 3 bouncer, 4 divider. With rules, or without port security.
fn world(many: Option<usize>) -> Result<(World, Port, Port, Port)> {
    let mut w = World::new_with(4, |loader| {
        // The bench makes a new flow with every packet of its miss.
        for limit in ["NEW_FLOW_RATE", "NEW_FLOW_BURST", "NEW_IN_RATE", "NEW_IN_BURST"] {
            loader.override_global(limit, &u32::MAX, true);
        }
    })?;
    w.subnet(99, 7, [10, 0, 0, 0], &[[3, 0]])?;
    w.subnet(99, 8, [10, 0, 1, 0], &[[3, 0]])?;
    w.dividers(99, &[[4, 0]])?;
    if let Some(many) = many {
        w.rules(SET, 1, &rules(many))?;
    }
    let mut port = |host, ep_id, subnet, last| match many {
        Some(_) => w.port_of(SET, host, ep_id, subnet, last),
        None => w.port(host, ep_id, subnet, last),
    };
    let (a, b, c) = (port(1, 11, 7, 5)?, port(2, 12, 7, 6)?, port(2, 13, 8, 6)?);
    for number in 1..=w.hosts() {
        let host = w.host(number);
        for program in ["bench_endpoint_egress", "bench_uplink_tcx", "bench_undo_write", "bench_undo_room"] {
            host.load_tcx(program)?;
        }
        for program in ["bench_uplink_xdp", "bench_undo_xdp"] {
            host.load_xdp(program)?;
        }
    }
    Ok((w, a, b, c))
}

fn cases(w: &mut World, many: Option<usize>, a: &Port, b: &Port, c: &Port) -> Result<Vec<Case>> {
    let named = |name: &str| many.map_or(name.to_owned(), |many| format!("{name}, {many} rules"));
    let udp = |to: &Port, sport: u16| a.frame(Ip::udp(a.address, to.address, sport, 53, &PAYLOAD));
    let known = udp(b, 1000);
    w.send(a, &known)?;
    w.send(b, &b.frame(Ip::udp(b.address, a.address, 53, 1000, b"!")))?;
    w.send(a, &known)?;
    let direct = w.send(a, &known)?.wire[0].clone();
    ensure!(direct.len() == known.len() + 50, "not the direct path");
    let near = w.send(a, &udp(b, 2000))?.wire[0].clone();
    let far = w.send(a, &udp(c, 2000))?.wire[0].clone();
    let egress = |name, frame, room, forget, aim| Case {
        name: named(name),
        aim,
        host: 1,
        program: "bench_endpoint_egress",
        ifindex: a.ifindex,
        frame,
        room,
        forget,
        verdict: REDIRECT,
    };
    let uplink = |name, host, program, frame, room, verdict, aim| Case {
        name: named(name),
        aim,
        host,
        program,
        ifindex: if program == "bench_uplink_xdp" { 0 } else { UPLINK },
        frame,
        room,
        forget: false,
        verdict,
    };
    Ok(vec![
        egress("endpoint egress, hit", known, -50, false, Some(250)),
        egress("endpoint egress, miss", udp(b, 3000), -102, true, None),
        uplink("delivery", 2, "bench_uplink_tcx", direct, 50, REDIRECT, Some(250)),
        uplink("bouncer, tcx", 3, "bench_uplink_tcx", near.clone(), 0, REDIRECT, Some(350)),
        uplink("bouncer, XDP", 3, "bench_uplink_xdp", near, 0, XDP_REDIRECT, Some(350)),
        uplink("divider, tcx", 4, "bench_uplink_tcx", far.clone(), 0, REDIRECT, Some(350)),
        uplink("divider, XDP", 4, "bench_uplink_xdp", far, 0, XDP_REDIRECT, Some(350)),
    ])
}

/// Nanoseconds of one case, and of putting the packet back.
fn measure(w: &mut World, case: &Case) -> Result<(f64, f64)> {
    // Signed packets age: a stamp counts for 5 seconds.
    let mut frame = case.frame.clone();
    if frame::is_encapsulated(&frame) && frame[42] == 13 {
        let body = frame::body(&frame);
        frame::sign(&mut frame, body, mizar_dataplane_tests::links::utc());
    }
    let mut head = [0; HEAD];
    head.copy_from_slice(&frame[..HEAD]);
    let host = w.host(case.host);
    host.put_at("BENCH", 0, Plain(Undo { room: case.room, forget: u32::from(case.forget), head }))?;
    let run = |program: &str, expected: Option<i32>| -> Result<f64> {
        let outcome = host.run_often(program, &frame, case.ifindex, 0, REPEAT)?;
        if let Some(expected) = expected
            && outcome.verdict != expected
        {
            bail!("{}: verdict {}", case.name, outcome.verdict);
        }
        ensure!(expected.is_none() || outcome.frame == frame, "{}: the packet was not put back", case.name);
        Ok(f64::from(outcome.nanoseconds))
    };
    let undo = if case.program == "bench_uplink_xdp" {
        run("bench_undo_xdp", None)?
    } else if case.room == 0 {
        run("bench_undo_write", None)?
    } else {
        let write = run("bench_undo_write", None)?;
        write + (run("bench_undo_room", None)? - write) / 2.0
    };
    Ok((run(case.program, Some(case.verdict))?, undo))
}

/// Measures and prints the table, of the cases whose name contains `only`.
pub fn run(rounds: usize, only: &str) -> Result<()> {
    let only = only.to_owned();
    // The kernel takes interface numbers of the calling thread's namespace, and the world makes
    // one: so this thread is the bench's own.
    std::thread::spawn(move || {
        let mut worlds = Vec::new();
        let mut cases = Vec::new();
        for many in [None, Some(10), Some(1_000)] {
            let (mut w, a, b, c) = world(many)?;
            let here = self::cases(&mut w, many, &a, &b, &c)?.into_iter().filter(|case| case.name.contains(&only));
            cases.extend(here.map(|case| (worlds.len(), case)));
            worlds.push(w);
        }
        ensure!(!cases.is_empty(), "no case is named like {only}");
        let mut measured = vec![(Vec::with_capacity(rounds), Vec::with_capacity(rounds)); cases.len()];
        for _ in 0..rounds {
            for ((world, case), (whole, undo)) in cases.iter().zip(&mut measured) {
                let (w, u) = measure(&mut worlds[*world], case).with_context(|| case.name.clone())?;
                whole.push(w);
                undo.push(u);
            }
        }
        // The median of what putting back costs: a difference of two noisy values would be noisier.
        let values: Vec<Vec<f64>> =
            measured.iter().map(|(whole, undo)| whole.iter().map(|value| value - median(undo)).collect()).collect();
        let rows: Vec<Vec<String>> = cases
            .iter()
            .zip(&values)
            .map(|((_, case), values)| {
                let aim = case.aim.map_or(String::new(), |aim| {
                    format!("< {aim}{}", if median(values) < f64::from(aim) { "" } else { ", missed" })
                });
                vec![case.name.clone(), spread(values), aim]
            })
            .collect();
        println!("{}; {rounds} rounds of {REPEAT} packets of 202 bytes", machine::describe());
        table("Kernel programs, BPF_PROG_TEST_RUN", &["median (min-max)", "ns per packet", "aim"], &rows);
        Ok(())
    })
    .join()
    .map_err(|_| anyhow::anyhow!("the bench panicked"))?
}
