//! `mizar doctor`: looks, judges, says what to do. It changes nothing.
//!
//! Looking (files, system calls, requests) is apart from judging, so that every judgement can be
//! tested with what a sick host would show.

mod certificates;
mod cloud;
mod host;

use crate::command::failure::Exit;
use crate::command::render::{Format, Output, printable};
use crate::config::{Choice, Surroundings};
use anyhow::Result;
use serde::Serialize;
use serde_json::Value;
use std::path::PathBuf;
use std::process::ExitCode;

/// Shown by `--help`.
pub const EXAMPLE: &str = "Example:\n  mizar doctor --uplink eth0\n  mizar doctor --cloud -o json";

/// What to look at.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Check the deployment by its API, instead of this host.
    #[arg(long)]
    cloud: bool,
    #[command(flatten)]
    here: Here,
    /// How to write it.
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value = "table")]
    output: Format,
}

/// What this host's agent is started with. Its own variables count, so that its unit's environment fits.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Here {
    /// Name of this host, as its certificate has it.
    #[arg(long, env = "MIZAR_HOST", hide_env_values = true)]
    pub host: Option<String>,
    /// Agents' listener of the API, such as https://192.0.2.1:9697.
    #[arg(long, env = "MIZAR_API", hide_env_values = true)]
    pub api: Option<String>,
    /// Certificates that the API's must be signed by (PEM).
    #[arg(long, env = "MIZAR_CA", hide_env_values = true)]
    pub ca: Option<PathBuf>,
    /// This host's certificate (PEM).
    #[arg(long, env = "MIZAR_CERT", hide_env_values = true)]
    pub cert: Option<PathBuf>,
    /// Its private key (PEM).
    #[arg(long, env = "MIZAR_KEY", hide_env_values = true)]
    pub key: Option<PathBuf>,
    /// Interface towards the underlay.
    #[arg(long, env = "MIZAR_UPLINK", hide_env_values = true)]
    pub uplink: Option<String>,
    /// Directory of pinned programs and maps.
    #[arg(long, env = "MIZAR_BPFFS", hide_env_values = true, default_value = "/run/mizar/bpffs")]
    pub bpffs: PathBuf,
    /// The agent's socket.
    #[arg(long, env = "MIZAR_SOCKET", hide_env_values = true, default_value = "/run/mizar/agent.sock")]
    pub socket: PathBuf,
}

/// How it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// It works, or was not looked at, but somebody should.
    Warn,
    /// It does not work.
    Fail,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What.
    pub check: String,
    /// How it is.
    pub verdict: Verdict,
    /// What was seen.
    pub seen: String,
    /// What to do; empty if nothing.
    pub todo: String,
}

impl Check {
    fn of(check: &str, verdict: Verdict, seen: impl Into<String>, todo: &str) -> Self {
        Self { check: check.to_owned(), verdict, seen: seen.into(), todo: todo.to_owned() }
    }

    fn ok(check: &str, seen: impl Into<String>) -> Self {
        Self::of(check, Verdict::Ok, seen, "")
    }

    fn warn(check: &str, seen: impl Into<String>, todo: &str) -> Self {
        Self::of(check, Verdict::Warn, seen, todo)
    }

    fn fail(check: &str, seen: impl Into<String>, todo: &str) -> Self {
        Self::of(check, Verdict::Fail, seen, todo)
    }
}

/// What can be seen of this host.
pub fn of_host(here: &Here) -> Vec<Check> {
    host::checks(here)
}

/// What these credentials show of a deployment.
pub fn of_cloud(choice: &Choice, around: &Surroundings) -> Result<Vec<Check>> {
    cloud::checks(choice, around)
}

/// Looks, and ends with 1 if a check failed.
pub fn run(arguments: &Arguments, choice: &Choice, around: &Surroundings) -> Result<(String, ExitCode)> {
    let checks = if arguments.cloud { of_cloud(choice, around)? } else { of_host(&arguments.here) };
    let count = |verdict| checks.iter().filter(|check| check.verdict == verdict).count();
    let text = if arguments.output == Format::Table {
        let [ok, warn, fail] = [Verdict::Ok, Verdict::Warn, Verdict::Fail].map(count);
        format!("{}\n{ok} ok, {warn} to look at, {fail} failed", lines(&checks))
    } else {
        let rows: Vec<Value> = checks.iter().map(serde_json::to_value).collect::<Result<_, _>>()?;
        Output::new(arguments.output, Vec::new()).list(&rows, &["verdict", "check", "seen", "todo"])?
    };
    let code = if count(Verdict::Fail) > 0 { ExitCode::from(Exit::Failed as u8) } else { ExitCode::SUCCESS };
    Ok((text, code))
}

/// A line for each check, and below it what to do: sentences do not fit into a table.
fn lines(checks: &[Check]) -> String {
    let width = checks.iter().map(|check| check.check.chars().count()).max().unwrap_or(0);
    let line = |Check { check, verdict, seen, todo }: &Check| {
        let word = match verdict {
            Verdict::Ok => "ok  ",
            Verdict::Warn => "warn",
            Verdict::Fail => "FAIL",
        };
        let todo = if todo.is_empty() { String::new() } else { format!("\n      {:width$}  -> {todo}", "") };
        format!("{word}  {check:width$}  {}{todo}", printable(seen))
    };
    checks.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_check_is_a_line_with_what_to_do_below() {
        let checks = [Check::ok("kernel", "new"), Check::fail("way to the API", "closed\u{1b}", "open it")];
        let expected =
            "ok    kernel          new\nFAIL  way to the API  closed\\u{1b}\n                      -> open it";
        assert_eq!(lines(&checks), expected);
    }
}
