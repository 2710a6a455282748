//! `./dev exec`: a command in a port's namespace.

use crate::sandbox::Sandbox;
use anyhow::{Context, Result};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use std::ffi::OsString;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

/// Becomes the command; returns only if that fails.
pub fn exec(sandbox: &Sandbox, port: &str, command: &[OsString]) -> Result<ExitCode> {
    crate::sandbox::need_root()?;
    let port = sandbox.admin()?.find_port(port)?;
    let netns = sandbox.container(&port)?;
    let namespace = File::open(netns.path())?;
    setns(&namespace, CloneFlags::CLONE_NEWNET).context("cannot enter the port's namespace")?;
    show_own_interfaces().context("cannot show the namespace's interfaces in /sys")?;
    let (program, arguments) = command.split_first().context("-- CMD is missing")?;
    let error = Command::new(program).args(arguments).exec();
    Err(error).with_context(|| format!("cannot run {}", program.to_string_lossy()))
}

/// `/sys` shows the network namespace it was mounted in: the command gets one of its own.
fn show_own_interfaces() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_SLAVE, None::<&str>)?;
    umount2("/sys", MntFlags::MNT_DETACH)?;
    mount(Some("sysfs"), "/sys", Some("sysfs"), MsFlags::empty(), None::<&str>)?;
    Ok(())
}
