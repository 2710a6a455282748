//! Programs from PyPI that tests run: real clients, generators, an identity service.

use anyhow::ensure;
use std::path::{Path, PathBuf};
use tokio::process::Command;

/// A program of the virtual environment that `./dev test` makes of `tests/requirements.txt`. What it
/// starts by name it finds there too.
pub fn tool(name: &str) -> anyhow::Result<Command> {
    tool_of("venv", "requirements.txt", name)
}

/// The same of another environment, beside that.
pub fn tool_of(environment: &str, requirements: &str, name: &str) -> anyhow::Result<Command> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let bin = std::env::var_os("MIZAR_PYTHON").map_or_else(|| root.join(".dev/venv/bin"), PathBuf::from);
    let bin = bin.join("../..").join(environment).join("bin");
    let program = bin.join(name);
    let made =
        format!("python3 -m venv .dev/{environment} && .dev/{environment}/bin/pip install -r tests/{requirements}");
    ensure!(program.exists(), "{} is missing: `./dev test` makes it, or: {made}", program.display());
    let mut command = Command::new(program);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let paths = std::iter::once(bin).chain(std::env::split_paths(&path));
    command.env("PATH", std::env::join_paths(paths)?).kill_on_drop(true);
    Ok(command)
}
