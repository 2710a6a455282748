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

/// One row of the table.
struct Case {
    name: &'static str,
    aim: Option<u32>,
    host: u32,
    program: &'static str,
    ifindex: u32,
    frame: Vec<u8>,
    room: i32,
    forget: bool,
    verdict: i32,
}

/// Hosts: 1 sender, 2 receiver, 3 bouncer, 4 divider.
fn world() -> Result<(World, Port, Port, Port)> {
    let mut w = World::new_with(4, |loader| {
        // The bench makes a new flow with every packet of its miss.
        loader.override_global("NEW_FLOW_RATE", &u32::MAX, true).override_global("NEW_FLOW_BURST", &u32::MAX, true);
    })?;
    w.subnet(99, 7, [10, 0, 0, 0], &[[3, 0]])?;
    w.subnet(99, 8, [10, 0, 1, 0], &[[3, 0]])?;
    w.dividers(99, &[[4, 0]])?;
    let a = w.port(1, 11, 7, 5)?;
    let b = w.port(2, 12, 7, 6)?;
    let c = w.port(2, 13, 8, 6)?;
    Ok((w, a, b, c))
}

fn cases(w: &mut World, a: &Port, b: &Port, c: &Port) -> Result<Vec<Case>> {
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
        name,
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
        name,
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
        let (mut w, a, b, c) = world()?;
        for number in 1..=4 {
            let host = w.host(number);
            for program in ["bench_endpoint_egress", "bench_uplink_tcx", "bench_undo_write", "bench_undo_room"] {
                host.load_tcx(program)?;
            }
            for program in ["bench_uplink_xdp", "bench_undo_xdp"] {
                host.load_xdp(program)?;
            }
        }
        let mut cases = cases(&mut w, &a, &b, &c)?;
        cases.retain(|case| case.name.contains(&only));
        ensure!(!cases.is_empty(), "no case is named like {only}");
        let mut measured = vec![(Vec::with_capacity(rounds), Vec::with_capacity(rounds)); cases.len()];
        for _ in 0..rounds {
            for (case, (whole, undo)) in cases.iter().zip(&mut measured) {
                let (w, u) = measure(&mut w, case).with_context(|| case.name)?;
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
            .map(|(case, values)| {
                let aim = case.aim.map_or(String::new(), |aim| {
                    format!("< {aim}{}", if median(values) < f64::from(aim) { "" } else { ", missed" })
                });
                vec![case.name.to_owned(), spread(values), aim]
            })
            .collect();
        println!("{}; {rounds} rounds of {REPEAT} packets of 202 bytes", machine::describe());
        table("Kernel programs, BPF_PROG_TEST_RUN", &["median (min-max)", "ns per packet", "aim"], &rows);
        Ok(())
    })
    .join()
    .map_err(|_| anyhow::anyhow!("the bench panicked"))?
}
