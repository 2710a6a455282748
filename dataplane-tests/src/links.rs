//! Interfaces for `ctx.ifindex`: the kernel takes only numbers of interfaces that exist, in the
//! network namespace of the calling thread.

use anyhow::{Context, Result, ensure};
use std::{
    io::Write,
    process::{Command, Stdio},
};

/// First and last interface number that [`private_namespace`] makes. 1 is `lo`.
pub const IFINDEXES: std::ops::RangeInclusive<u32> = 2..=31;

/// Moves this thread into a network namespace of its own, which ends with the thread, and makes
/// interfaces there.
pub fn private_namespace() -> Result<()> {
    // SAFETY: a plain system call; it concerns this thread alone.
    let code = unsafe { libc::unshare(libc::CLONE_NEWNET) };
    ensure!(code == 0, "unshare: {} (root is needed)", std::io::Error::last_os_error());
    let mut batch = String::new();
    for i in IFINDEXES.step_by(2) {
        batch += &format!("link add name a{i} index {i} type veth peer name b{i} index {}\n", i + 1);
    }
    // XDP test runs come in by `lo`, and ask the kernel for the way to another host: all of the
    // underlay is there, with one neighbour.
    batch += "link set lo up\nroute add 172.16.0.0/24 dev lo\n";
    batch += "neigh add 172.16.0.1 lladdr 02:00:00:00:00:77 dev lo nud permanent\n";
    std::fs::write("/proc/sys/net/ipv4/conf/lo/forwarding", "1").context("forwarding on lo")?;
    let mut child = Command::new("ip")
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("start ip")?;
    child.stdin.take().context("a pipe to ip")?.write_all(batch.as_bytes())?;
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "ip: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// Seconds that the kernel's TAI clock is ahead of UTC here.
pub fn tai_offset() -> i32 {
    (seconds(libc::CLOCK_TAI) - seconds(libc::CLOCK_REALTIME)) as i32
}

/// Seconds of UTC.
pub fn utc() -> u32 {
    seconds(libc::CLOCK_REALTIME) as u32
}

/// Milliseconds since boot.
pub fn since_boot_ms() -> u64 {
    let (seconds, nanoseconds) = read(libc::CLOCK_MONOTONIC);
    seconds as u64 * 1_000 + nanoseconds as u64 / 1_000_000
}

/// Returns when the kernel's tick has come for certain, within a few milliseconds: the coarse clock
/// moves with it, but an adjustment of the clock may also move it between two ticks.
pub fn next_tick() {
    let nanoseconds = |(seconds, rest): (i64, i64)| seconds * 1_000_000_000 + rest;
    let mut step = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a plain system call; the clock always exists.
    unsafe { libc::clock_getres(libc::CLOCK_MONOTONIC_COARSE, &mut step) };
    let until = nanoseconds(read(libc::CLOCK_MONOTONIC_COARSE)) + 2 * step.tv_nsec;
    while nanoseconds(read(libc::CLOCK_MONOTONIC_COARSE)) < until {
        std::thread::yield_now();
    }
}

fn seconds(clock: libc::clockid_t) -> i64 {
    read(clock).0
}

fn read(clock: libc::clockid_t) -> (i64, i64) {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a plain system call; these clocks always exist.
    unsafe { libc::clock_gettime(clock, &mut time) };
    (time.tv_sec, time.tv_nsec)
}
