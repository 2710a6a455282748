//! schemathesis against the checked-in document and a live server: every check that it has, all
//! phases, links followed; no 5xx, no status that the document does not name, no answer that its
//! schema does not allow. Deterministic: the same cases each time.

#[expect(dead_code, reason = "the REST tests use more of it")]
#[path = "../rest/support.rs"]
mod support;

use anyhow::{Context as _, ensure};
use std::path::{Path, PathBuf};
use std::time::Duration;
use support::{Client, Cloud};
use tokio::process::Command;

const PATIENCE: Duration = Duration::from_secs(500);

fn program() -> anyhow::Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let bin = std::env::var_os("MIZAR_PYTHON").map_or_else(|| root.join(".dev/venv/bin"), PathBuf::from);
    let program = bin.join("schemathesis");
    let hint = "python3 -m venv .dev/venv && .dev/venv/bin/pip install -r tests/requirements.txt";
    ensure!(program.exists(), "{} is missing: `./dev test` makes it, or: {hint}", program.display());
    Ok(program)
}

/// Tries the operations below `paths`, `examples` random cases each beside those that cover each
/// keyword of a schema; how many cases there were.
async fn fuzz(client: &Client, paths: &str, examples: u32) -> anyhow::Result<u64> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let directory = std::env::temp_dir().join(format!("mizar-schemathesis-{}", uuid::Uuid::new_v4().simple()));
    std::fs::create_dir(&directory)?;
    let run = Command::new(program()?)
        .arg("--config-file")
        .arg(here.join("tests/schemathesis/schemathesis.toml"))
        .arg("run")
        .arg(here.join("../openapi/mizar.json"))
        .args(["--url", &client.base, "--checks", "all", "--phases", "examples,coverage,fuzzing,stateful"])
        .args(["--header", &format!("X-Auth-Token: {}", client.token.as_deref().context("no token")?)])
        .args(["--include-path-regex", paths, "--max-examples", &examples.to_string()])
        .args(["--generation-deterministic", "--continue-on-failure", "--no-color", "--warnings", "off"])
        // Where it would look for and leave files of its own.
        .current_dir(&directory)
        .env("HOME", &directory)
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(PATIENCE, run).await;
    std::fs::remove_dir_all(&directory)?;
    let output = output.context("schemathesis did not end")??;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    let cases = said.lines().find_map(|line| line.trim().split_once(" generated")?.0.parse().ok());
    cases.with_context(|| format!("it does not say how many cases: {said}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_network_service_answers_every_request_as_its_document_says() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    cloud.host("h1", 1500, 1).await?;
    let cases = fuzz(&cloud.admin().await?, "^/v2.0", 10).await?;
    println!("{cases} cases");
    assert!(cases > 2_000, "only {cases} cases");
    cloud.assert_entries_are_right().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_identity_service_answers_every_request_as_its_document_says() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let cases = fuzz(&cloud.admin().await?, "^/v3", 10).await?;
    println!("{cases} cases");
    assert!(cases > 500, "only {cases} cases");
    Ok(())
}
