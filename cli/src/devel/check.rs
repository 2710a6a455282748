//! `./dev check`: what can be said without running anything.

use super::cargo::{cargo, shown};
use super::licences;
use crate::sandbox::progress::Progress;
use anyhow::{Result, bail};
use std::path::Path;
use std::process::{Command, ExitCode};

/// Runs every check, also after one failed.
pub fn check(root: &Path) -> Result<ExitCode> {
    let progress = Progress::Shown;
    let results = [
        progress.step("formatting", || shown(cargo(root)?.args(["fmt", "--all", "--check"]))),
        progress.step("formatting of bpf/", || {
            shown(cargo(root)?.args(["fmt", "--check", "--manifest-path", "bpf/Cargo.toml"]))
        }),
        progress.step("clippy", || {
            shown(cargo(root)?.args(["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"]))
        }),
        progress.step("edges between crates", || {
            shown(cargo(root)?.args(["test", "--quiet", "-p", "mizar-tests", "--test", "edges"]))
        }),
        progress.step("licences of dependencies", || licences::check(root).map(drop)),
        progress.step("generated files are not in git", || nothing_generated(root)),
    ];
    let mut failed = 0;
    for error in results.into_iter().filter_map(Result::err) {
        failed += 1;
        eprintln!("error: {error:#}");
    }
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Objects and state have no place in the history.
fn nothing_generated(root: &Path) -> Result<()> {
    let output =
        Command::new("git").args(["ls-files", "*.o", ".dev", "target", "*/target"]).current_dir(root).output()?;
    let listed = String::from_utf8_lossy(&output.stdout);
    if !listed.is_empty() {
        bail!("in git: {}", listed.trim().replace('\n', ", "));
    }
    Ok(())
}
