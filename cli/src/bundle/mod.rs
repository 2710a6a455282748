//! `mizar support-bundle`: what somebody else needs to understand a fault, in one archive.
//!
//! It goes to people who must not get into the cloud, so nothing that lets one in may be in it:
//! clouds.yaml, keys and the agent's dump (which has the keys that hosts sign with) are not
//! collected at all, and what is collected goes through [`redact`].

mod redact;

use crate::client::Api;
use crate::config::{self, Choice, Surroundings};
use crate::doctor;
use crate::sandbox::agent::Agent;
use anyhow::{Context, Result};
use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Shown by `--help`.
pub const EXAMPLE: &str = "Example:\n  mizar support-bundle --log /var/log/mizar/agent.log";

/// Of a log the end matters.
const LOG: u64 = 8 << 20;

/// What to collect.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The archive; otherwise mizar-support-HOST-TIME.tar.gz here.
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
    /// A log to take the end of; may be repeated.
    #[arg(long, value_name = "FILE")]
    log: Vec<PathBuf>,
    #[command(flatten)]
    here: doctor::Here,
}

/// Writes it; the text says where, and what is missing.
pub fn run(arguments: &Arguments, choice: &Choice, around: &Surroundings) -> Result<String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let name = nix::sys::utsname::uname()?.nodename().to_string_lossy().into_owned();
    let directory = format!("mizar-support-{name}-{now}");
    let path = arguments.to.clone().unwrap_or_else(|| PathBuf::from(format!("{directory}.tar.gz")));
    let Collected { files, missing } = collect(arguments, choice, around)?;
    // Made anew: what is there may be a bundle that nobody has sent yet, or a link to elsewhere.
    let file = File::options().write(true).create_new(true).mode(0o600).open(&path);
    let file = file.with_context(|| format!("cannot write {}", path.display()))?;
    let mut archive = tar::Builder::new(GzEncoder::new(file, Compression::default()));
    for (name, text) in &files {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(now);
        archive.append_data(&mut header, format!("{directory}/{name}"), text.as_bytes())?;
    }
    archive.into_inner()?.finish()?.sync_all()?;
    let mut said =
        format!("{}: {} files, secrets redacted; look at it before it leaves your hands", path.display(), files.len());
    for what in missing {
        said += &format!("\nwithout {what}");
    }
    Ok(said)
}

/// What was found.
struct Collected {
    /// Names and texts.
    files: Vec<(String, String)>,
    /// What could not be had, and why.
    missing: Vec<String>,
}

fn collect(arguments: &Arguments, choice: &Choice, around: &Surroundings) -> Result<Collected> {
    let mut files = vec![("versions.json".to_owned(), pretty(&versions())?)];
    let mut missing = Vec::new();
    let mut add = |name: &str, content: Result<Value>| -> Result<()> {
        match content {
            Ok(content) => files.push((name.to_owned(), pretty(&redact::value(content))?)),
            Err(error) => missing.push(format!("{name}: {error:#}")),
        }
        Ok(())
    };
    let as_value = |checks: Vec<doctor::Check>| Ok(serde_json::to_value(checks)?);
    add("doctor-host.json", as_value(doctor::of_host(&arguments.here)))?;
    let agent = Agent::at(arguments.here.socket.clone()).status();
    add("agent.json", agent.and_then(|status| Ok(serde_json::to_value(status)?)))?;
    add("doctor-cloud.json", doctor::of_cloud(choice, around).and_then(as_value))?;
    match config::find(choice, around).map_err(Into::into).and_then(|found| Api::at(found.access)) {
        Ok(api) => {
            for (name, path) in [
                ("hosts.json", "/v2.0/mizar/hosts"),
                ("roles.json", "/v2.0/mizar/roles"),
                ("placement.json", "/v2.0/mizar/placement"),
                ("extensions.json", "/v2.0/extensions"),
            ] {
                add(name, api.get(path))?;
            }
        }
        Err(error) => add("hosts.json", Err(error))?,
    }
    for path in &arguments.log {
        // A log that was asked for and cannot be read is a word mistyped.
        let text = end_of(path).with_context(|| format!("--log: {}", path.display()))?;
        let name = path.file_name().map_or_else(|| "log".into(), |name| name.to_string_lossy().into_owned());
        files.push((format!("logs/{}-{name}", files.len()), redact::text(&text)));
    }
    Ok(Collected { files, missing })
}

fn pretty(value: &Value) -> Result<String> {
    Ok(serde_json::to_string_pretty(value)? + "\n")
}

fn versions() -> Value {
    let read = |path: &str| std::fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default();
    json!({
        "mizar": env!("CARGO_PKG_VERSION"),
        "abi": mizar_abi::ABI,
        "kernel": read("/proc/version"),
        "system": read("/etc/os-release"),
        "processors": std::thread::available_parallelism().map_or(0, usize::from),
        "load": read("/proc/loadavg"),
        "memory": read("/proc/meminfo").lines().take(3).collect::<Vec<_>>(),
        "uptime": read("/proc/uptime"),
    })
}

fn end_of(path: &Path) -> Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LOG)))?;
    let mut bytes = Vec::new();
    file.take(LOG).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn a_bundle_has_no_secret_is_private_and_replaces_nothing() -> Result<()> {
        let dir = std::env::temp_dir().join(format!("mz-bundle-{}", std::process::id()));
        std::fs::create_dir_all(&dir)?;
        let log = dir.join("agent.log");
        std::fs::write(&log, "started\nOS_PASSWORD=hunter2 X-Auth-Token: gAAAAAsecret\n")?;
        let clouds = "clouds:\n  c:\n    auth: {auth_url: 'http://127.0.0.1:1', username: u, password: hunter2}\n";
        std::fs::write(dir.join("clouds.yaml"), clouds)?;
        let around = Surroundings { variables: Default::default(), directory: dir.clone(), site: dir.join("none") };
        let here = doctor::Here { socket: dir.join("none.sock"), ..Default::default() };
        let arguments = Arguments { to: Some(dir.join("b.tar.gz")), log: vec![log], here };
        let said = run(&arguments, &Choice::default(), &around)?;
        assert!(said.contains("without agent.json") && said.contains("without hosts.json"), "{said}");
        assert_eq!(std::fs::metadata(dir.join("b.tar.gz"))?.mode() & 0o777, 0o600);
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(File::open(dir.join("b.tar.gz"))?));
        let mut names = Vec::new();
        for entry in archive.entries()? {
            let mut entry = entry?;
            names.push(entry.path()?.file_name().unwrap_or_default().to_string_lossy().into_owned());
            let mut text = String::new();
            entry.read_to_string(&mut text)?;
            assert!(!text.contains("hunter2") && !text.contains("gAAAAAsecret"), "{names:?}: {text}");
        }
        assert!(
            ["versions.json", "doctor-host.json", "doctor-cloud.json"].iter().all(|n| names.contains(&(*n).to_owned())),
            "{names:?}"
        );
        assert!(names.iter().any(|name| name.ends_with("-agent.log")), "{names:?}");
        assert!(run(&arguments, &Choice::default(), &around).is_err(), "it was replaced");
        std::fs::remove_dir_all(&dir)?;
        Ok(())
    }
}
