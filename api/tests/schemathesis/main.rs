//! schemathesis against the checked-in document and a live server: every check that it has, all
//! phases, links followed; no 5xx, no status that the document does not name, no answer that its
//! schema does not allow. Cases are drawn the same each time.

#[expect(dead_code, reason = "the REST tests use more of it")]
#[path = "../rest/support.rs"]
mod support;
#[path = "../rest/tools.rs"]
mod tools;

use anyhow::{Context as _, ensure};
use mizar_api::observe::limits::Limits;
use mizar_api::server::{self, Server};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;
use support::{Client, Cloud};

/// Several times what it takes on two busy cores.
const PATIENCE: Duration = Duration::from_secs(1_000);

/// A server that lets one caller ask as often as a fuzzer does, and its administrator.
async fn unlimited(cloud: &Cloud) -> anyhow::Result<(Server, Client)> {
    let limits = Limits { project_per_s: 0, failed_logins_per_min: 0, tokens_per_min: 0, ..Limits::default() };
    let (app, listener) = cloud.app(limits)?;
    let server = server::start(app, listener, 2).await?;
    let admin = Client { base: format!("http://{}", server.address), ..cloud.admin().await? };
    Ok((server, admin))
}

/// The directory of a run, where schemathesis looks for files of its own and leaves some.
struct Directory(PathBuf);

impl Directory {
    fn new() -> anyhow::Result<Self> {
        let path = std::env::temp_dir().join(format!("mizar-schemathesis-{}", uuid::Uuid::new_v4().simple()));
        std::fs::create_dir(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Tries the operations below `paths`: what covers each keyword of each schema, `examples` random
/// cases each, and sequences along links. At least `expected` cases.
async fn fuzz(client: &Client, paths: &str, examples: u32, expected: u64) -> anyhow::Result<()> {
    let (here, directory) = (Path::new(env!("CARGO_MANIFEST_DIR")), Directory::new()?);
    let run = tools::tool("schemathesis")?
        .arg("--config-file")
        .arg(here.join("tests/schemathesis/schemathesis.toml"))
        .arg("run")
        .arg(here.join("../openapi/mizar.json"))
        .args(["--url", &client.base, "--checks", "all", "--phases", "examples,coverage,fuzzing,stateful"])
        .args(["--header", &format!("X-Auth-Token: {}", client.token.as_deref().context("no token")?)])
        .args(["--include-path-regex", paths, "--max-examples", &examples.to_string()])
        .args(["--generation-deterministic", "--continue-on-failure", "--no-color", "--warnings", "off"])
        .current_dir(&directory.0)
        .env("HOME", &directory.0)
        .output();
    let output = tokio::time::timeout(PATIENCE, run).await.context("schemathesis did not end")??;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    let cases = said.lines().find_map(|line| line.trim().split_once(" generated")?.0.parse::<u64>().ok());
    let cases = cases.with_context(|| format!("it does not say how many cases: {said}"))?;
    // Not by `println!`, which libtest keeps from who reads a run that passes.
    writeln!(std::io::stdout(), "schemathesis: {cases} cases below {paths}")?;
    ensure!(cases >= expected, "{cases} cases only, of {expected}: {said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_network_service_answers_every_request_as_its_document_says() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    cloud.host("h1", 1500, 1).await?;
    let (server, admin) = unlimited(&cloud).await?;
    fuzz(&admin, "^/v2.0", 5, 2_000).await?;
    server.stop().await;
    cloud.assert_entries_are_right().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_identity_service_answers_every_request_as_its_document_says() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let (server, admin) = unlimited(&cloud).await?;
    fuzz(&admin, "^/v3", 5, 1_000).await?;
    server.stop().await;
    Ok(())
}
