//! Commands in namespaces, with their words in the error.

use anyhow::{Context, Result, bail};
use std::{
    io::Write,
    process::{Child, Command, Stdio},
};

/// Runs a command line (split at spaces) and returns what it printed.
pub fn run(line: &str) -> Result<String> {
    let mut words = line.split_whitespace();
    let output = Command::new(words.next().context("an empty command")?)
        .args(words)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("start `{line}`"))?;
    if !output.status.success() {
        bail!("`{line}` failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs one with something to read.
pub fn run_with(line: &str, input: &str) -> Result<()> {
    let mut words = line.split_whitespace();
    let mut child = Command::new(words.next().context("an empty command")?)
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("start `{line}`"))?;
    // One that ends before it has read all says why.
    let written = child.stdin.take().context("piped above")?.write_all(input.as_bytes());
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!("`{line}` failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(written?)
}

/// Runs a command line in a network namespace, and returns what it printed.
pub fn run_in(netns: &str, line: &str) -> Result<String> {
    run(&format!("ip netns exec {netns} {line}"))
}

/// A server in a namespace that ends with this value.
pub struct Background(Child);

impl Background {
    /// Starts it; `ip netns exec` replaces itself by the command, so its id is the server's.
    pub fn start(netns: &str, line: &str) -> Result<Self> {
        let child = Command::new("ip")
            .args(["netns", "exec", netns])
            .args(line.split_whitespace())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("start `{line}` in {netns}"))?;
        Ok(Self(child))
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
