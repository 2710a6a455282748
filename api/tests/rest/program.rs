//! The program itself, as a process of its own, on the database of a [`Cloud`].

#[expect(dead_code, reason = "the agents' tests use more of it")]
#[path = "../agents/pki.rs"]
mod pki;

use crate::support::{Client, Cloud};
use anyhow::{Context as _, ensure};
use pki::{Authority, Directory};
use serde_json::Value;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::process::{Child, Command};

pub struct Program {
    pub url: String,
    /// Where `/metrics` is.
    pub operators: String,
    child: Child,
    log: PathBuf,
    _files: Directory,
}

const PATIENCE: Duration = Duration::from_secs(30);

impl Program {
    /// Ready when this returns. It has the keys of the cloud's own server: tokens count at both.
    pub async fn start(cloud: &Cloud, more: &[&str]) -> anyhow::Result<Self> {
        let (files, authority) = (Directory::new()?, Authority::new()?);
        let pair = authority.server()?;
        let log = files.put("log", "")?;
        let mut command = Command::new(env!("CARGO_BIN_EXE_mizar-api"));
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("MIZAR_") || name == "RUST_LOG") {
            command.env_remove(name);
        }
        let child = command
            .env("MIZAR_DATABASE_URL", cloud.db.url())
            .args(["--listen", "127.0.0.1:0", "--operator-listen", "127.0.0.1:0", "--agent-listen", "127.0.0.1:0"])
            .args(["--log-format", "json"])
            .arg("--tls-cert")
            .arg(files.put("cert.pem", &pair.cert)?)
            .arg("--tls-key")
            .arg(files.put("key.pem", &pair.key)?)
            .arg("--tls-client-ca")
            .arg(files.put("ca.pem", &authority.pem)?)
            .arg("--state-dir")
            .arg(cloud.state_dir())
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::options().append(true).open(&log)?)
            .kill_on_drop(true)
            .spawn()?;
        let mut program = Self { url: String::new(), operators: String::new(), child, log, _files: files };
        let ready = program.line(|line| line["message"] == "ready").await?;
        let operators = program.line(|line| line["message"] == "listening for operators").await?;
        let url = |value: &Value| value.as_str().map(|address| format!("http://{address}")).context("no address");
        (program.url, program.operators) = (url(&ready["public"])?, url(&operators["address"])?);
        Ok(program)
    }

    /// A client of the cloud, speaking to this process.
    pub fn client(&self, of: &Client) -> Client {
        Client { base: self.url.clone(), ..of.clone() }
    }

    /// What it has logged, line by line.
    pub fn log(&self) -> anyhow::Result<Vec<Value>> {
        let text = std::fs::read_to_string(&self.log)?;
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole.lines().map(|line| serde_json::from_str(line).with_context(|| line.to_owned())).collect()
    }

    /// The first line that fits.
    pub async fn line(&mut self, fits: impl Fn(&Value) -> bool) -> anyhow::Result<Value> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(line) = self.log()?.into_iter().find(&fits) {
                return Ok(line);
            }
            let ended = self.child.try_wait()?;
            let text = || std::fs::read_to_string(&self.log).unwrap_or_default();
            ensure!(ended.is_none() && Instant::now() < deadline, "no such line ({ended:?}): {}", text());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// kill -9.
    pub async fn kill(mut self) -> anyhow::Result<()> {
        Ok(self.child.kill().await?)
    }
}
