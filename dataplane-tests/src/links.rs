//! Interfaces for `ctx.ifindex`: the kernel takes only numbers of interfaces that exist, in the
//! network namespace of the calling thread.

use anyhow::{Context, Result, ensure};
use std::process::Command;

/// First and last interface number that [`private_namespace`] makes. 1 is `lo`.
pub const IFINDEXES: std::ops::RangeInclusive<u32> = 2..=9;

/// Moves this thread into a network namespace of its own, which ends with the thread, and makes
/// interfaces there.
pub fn private_namespace() -> Result<()> {
    // SAFETY: a plain system call; it concerns this thread alone.
    let code = unsafe { libc::unshare(libc::CLONE_NEWNET) };
    ensure!(code == 0, "unshare: {} (root is needed)", std::io::Error::last_os_error());
    for i in IFINDEXES.step_by(2) {
        let line = format!("link add name a{i} index {i} type veth peer name b{i} index {}", i + 1);
        let output = Command::new("ip").args(line.split(' ')).output().context("start ip")?;
        ensure!(output.status.success(), "ip {line}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}
