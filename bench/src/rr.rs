//! TCP_RR: one byte there, one byte back, over one connection. What netperf measures under that
//! name; written here because Debian does not ship netperf in its free part.
//!
//! Where the kernel puts the two ends decides more than the path between them: waking a core that
//! sleeps takes tens of microseconds in a virtual machine, and the kernel changes its mind from
//! run to run. So a client can ask for both ends on its own core: then every step of the path is on that
//! core too, and what differs between two paths is what they do.

use anyhow::{Context, Result};
use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    time::{Duration, Instant},
};

/// Answers every byte of every connection until it is ended.
pub fn serve(address: SocketAddr) -> Result<()> {
    let listener = TcpListener::bind(address).with_context(|| format!("listen on {address}"))?;
    for connection in listener.incoming() {
        let mut connection = connection?;
        connection.set_nodelay(true)?;
        std::thread::spawn(move || {
            let mut byte = [0];
            // The first byte is the core to run on, or no core. A client that hangs up ends its
            // connection, not the server.
            if connection.read_exact(&mut byte).is_err() || stay_on(byte[0]).is_err() {
                return;
            }
            while connection.read_exact(&mut byte).is_ok() && connection.write_all(&byte).is_ok() {}
        });
    }
    Ok(())
}

/// "Wherever the kernel likes", in place of a core.
const NO_CORE: u8 = u8::MAX;

/// Keeps this thread on a core.
fn stay_on(core: u8) -> Result<()> {
    if core != NO_CORE {
        let mut cores = CpuSet::new();
        cores.set(core.into()).context("no such core")?;
        sched_setaffinity(Pid::from_raw(0), &cores).with_context(|| format!("stay on core {core}"))?;
    }
    Ok(())
}

/// Asks for `seconds` and prints the mean microseconds of one round trip. With a core, both ends
/// stay on it.
pub fn ask(address: SocketAddr, seconds: u64, core: Option<u8>) -> Result<()> {
    let core = core.unwrap_or(NO_CORE);
    stay_on(core)?;
    let mut connection = TcpStream::connect(address).with_context(|| format!("connect to {address}"))?;
    connection.set_nodelay(true)?;
    connection.write_all(&[core])?;
    let mut byte = [0];
    for _ in 0..1_000 {
        connection.write_all(&byte)?;
        connection.read_exact(&mut byte)?;
    }
    let (start, limit) = (Instant::now(), Duration::from_secs(seconds));
    let mut rounds = 0u64;
    while start.elapsed() < limit {
        for _ in 0..100 {
            connection.write_all(&byte)?;
            connection.read_exact(&mut byte)?;
        }
        rounds += 100;
    }
    println!("{:.3}", start.elapsed().as_secs_f64() * 1e6 / rounds as f64);
    Ok(())
}
