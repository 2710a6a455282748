//! Clients that generators make of `openapi/mizar.json`, in Rust, Python and TypeScript: generated,
//! compiled, and used against a live server from creating a network to deleting it.
//!
//! Nothing generated is checked in, only what each generator cannot know: a program that uses its
//! client, and a lock file. All generators come from PyPI and npm (`tests/requirements.txt`,
//! `typescript/package-lock.json`), Java and Node.js included.

#[expect(dead_code, reason = "the REST tests use more of it")]
#[path = "../rest/support.rs"]
mod support;

#[path = "../rest/tools.rs"]
mod tools;

use anyhow::{Context as _, ensure};
use std::path::{Path, PathBuf};
use std::time::Duration;
use support::{Client, Cloud};
use tokio::process::Command;
use tools::tool;

/// Compilers on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(400);

fn checked_in(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/generated").join(name)
}

fn document() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../openapi/mizar.json")
}

/// Where a client is made: kept between runs, so that what it depends on is compiled once.
fn workshop(name: &str) -> anyhow::Result<PathBuf> {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("clients").join(name);
    std::fs::create_dir_all(&directory)?;
    Ok(directory)
}

fn copy(from: &Path, names: &[&str], to: &Path) -> anyhow::Result<()> {
    for name in names {
        std::fs::copy(from.join(name), to.join(name)).with_context(|| format!("{}/{name}", from.display()))?;
    }
    Ok(())
}

/// Runs a command to its end; what it printed.
async fn run(command: &mut Command) -> anyhow::Result<String> {
    let shown = format!("{:?}", command.as_std());
    let output = tokio::time::timeout(PATIENCE, command.kill_on_drop(true).output())
        .await
        .with_context(|| format!("{shown} did not end"))?
        .with_context(|| format!("cannot run {shown}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    ensure!(output.status.success(), "{shown}: {}\n{out}\n{err}", output.status);
    Ok(out)
}

/// Runs the program that uses a client; it says `done` at its end.
async fn use_client(command: &mut Command, red: &Client) -> anyhow::Result<()> {
    let token = red.token.as_deref().context("no token")?;
    let said = run(command.env("MIZAR_URL", &red.base).env("MIZAR_TOKEN", token)).await?;
    ensure!(said.trim_end().ends_with("done"), "it ended early: {said}");
    Ok(())
}

async fn cloud() -> anyhow::Result<(Cloud, Client)> {
    let cloud = Cloud::start().await?;
    let red = cloud.tenant("red", "member").await?;
    Ok((cloud, red))
}

/// It left nothing, and did something.
async fn assert_used(cloud: &Cloud) -> anyhow::Result<()> {
    assert_eq!(cloud.rows("SELECT 1 FROM networks UNION ALL SELECT 1 FROM ports").await?.len(), 0);
    assert!(!cloud.rows("SELECT 1 FROM entries WHERE deleted").await?.is_empty(), "nothing was ever made");
    Ok(())
}

#[tokio::test]
async fn a_generated_rust_client_compiles_and_works() -> anyhow::Result<()> {
    let (cloud, red) = cloud().await?;
    let directory = workshop("rust")?;
    // Models that the document no longer has must not be compiled.
    let _ = std::fs::remove_dir_all(directory.join("src"));
    let options = "packageName=mizar_client,library=reqwest,supportMiddleware=false,\
                   useSingleRequestParameter=true";
    let mut generate = tool("openapi-generator-cli")?;
    generate.args(["generate", "--generator-name", "rust", "--additional-properties", options, "--input-spec"]);
    run(generate.arg(document()).arg("--output").arg(&directory)).await?;
    copy(&checked_in("rust"), &["Cargo.toml", "Cargo.lock"], &directory)?;
    std::fs::create_dir_all(directory.join("src/bin"))?;
    copy(&checked_in("rust"), &["lifecycle.rs"], &directory.join("src/bin"))?;
    // The generator gives the many filters of a list no default.
    for entry in std::fs::read_dir(directory.join("src/apis"))? {
        let path = entry?.path();
        let source = std::fs::read_to_string(&path)?;
        let plain = "#[derive(Clone, Debug)]\npub struct List";
        std::fs::write(path, source.replace(plain, "#[derive(Clone, Debug, Default)]\npub struct List"))?;
    }
    let cargo = std::env::var("MIZAR_CARGO").unwrap_or_else(|_| "cargo".into());
    let build = ["build", "--quiet", "--locked", "--manifest-path"];
    let target = directory.join("target");
    run(Command::new(cargo).args(build).arg(directory.join("Cargo.toml")).arg("--target-dir").arg(&target)).await?;
    use_client(&mut Command::new(target.join("debug/lifecycle")), &red).await?;
    assert_used(&cloud).await
}

#[tokio::test]
async fn a_generated_python_client_compiles_and_works() -> anyhow::Result<()> {
    let (cloud, red) = cloud().await?;
    let directory = workshop("python")?;
    let package = directory.join("mizar_client");
    let mut generate = tool("openapi-python-client")?;
    generate.args(["generate", "--overwrite", "--fail-on-warning", "--meta", "none", "--path"]);
    run(generate.arg(document()).arg("--output-path").arg(&package)).await?;
    run(tool("python")?.args(["-m", "compileall", "-q", "-f"]).arg(&package)).await?;
    let program = checked_in("python").join("lifecycle.py");
    use_client(tool("python")?.arg(program).env("PYTHONPATH", &directory), &red).await?;
    assert_used(&cloud).await
}

#[tokio::test]
async fn a_generated_typescript_client_compiles_and_works() -> anyhow::Result<()> {
    let (cloud, red) = cloud().await?;
    let directory = workshop("typescript")?;
    copy(
        &checked_in("typescript"),
        &["package.json", "package-lock.json", "tsconfig.json", "lifecycle.ts"],
        &directory,
    )?;
    run(tool("npm")?.args(["ci", "--no-audit", "--no-fund", "--ignore-scripts"]).current_dir(&directory)).await?;
    let bin = directory.join("node_modules/.bin");
    let node = |script: &str| {
        let mut node = tool("node")?;
        node.arg(bin.join(script)).current_dir(&directory);
        anyhow::Ok(node)
    };
    run(node("openapi-typescript")?.arg(document()).args(["--output", "schema.d.ts"])).await?;
    run(&mut node("tsc")?).await?;
    use_client(tool("node")?.arg("out/lifecycle.js").current_dir(&directory), &red).await?;
    assert_used(&cloud).await
}
