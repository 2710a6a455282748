//! OpenStack's own clients from PyPI, unmodified, over every resource: the suites of `tests/clients`
//! against a server that announces everything, with a database of its own.
//!
//! Each suite says how many commands it ran and how many passed. That line is shown even when the
//! test passes: it is the figure.

#[expect(dead_code, reason = "the REST tests use more of it")]
#[path = "../rest/support.rs"]
mod support;

#[path = "../rest/tools.rs"]
mod tools;

use anyhow::{Context as _, ensure};
use serde_json::json;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;
use support::{ADMIN_PASSWORD, Cloud};
use tokio::process::Command;
use tools::{tool, tool_of};

/// Hundreds of commands, on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(900);

fn clients() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/clients")
}

/// A cloud of two hosts whose leases outlast the suite.
async fn cloud() -> anyhow::Result<Cloud> {
    let cloud = Cloud::announcing(true).await?;
    cloud.host("h1", 1500, 1).await?;
    cloud.host("h2", 1500, 2).await?;
    cloud.sql("UPDATE host_state SET seen_at = now() + interval '1 h'").await?;
    Ok(cloud)
}

/// A client that finds no settings and no files of whoever runs the tests.
fn apart(mut command: Command, cloud: &Cloud) -> Command {
    for name in std::env::vars_os().map(|(name, _)| name) {
        if name.as_encoded_bytes().starts_with(b"OS_") {
            command.env_remove(name);
        }
    }
    command.env("HOME", cloud.state_dir()).env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

/// Runs a client to its end; what it printed.
async fn run(command: &mut Command) -> anyhow::Result<String> {
    let shown = format!("{:?}", command.as_std().get_args());
    let output = tokio::time::timeout(PATIENCE, command.output()).await;
    let output = output.with_context(|| format!("{shown} did not end"))??;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success(), "{shown}: {}\n{said}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    Ok(said)
}

/// Shows a line whether the test passes or not: the harness keeps back only what `print!` writes.
fn show(line: &str) -> anyhow::Result<()> {
    Ok(writeln!(std::io::stdout(), "{line}")?)
}

/// Runs a suite; its last line tells how many calls it made, and that all passed.
async fn suite(program: &str, least: usize) -> anyhow::Result<()> {
    let cloud = cloud().await?;
    let mut python = apart(tool("python3")?, &cloud);
    python.arg(clients().join(program)).env("MIZAR_URL", &cloud.url).env("MIZAR_ADMIN_PASSWORD", ADMIN_PASSWORD);
    let said = run(&mut python).await?;
    let figure = said.lines().last().with_context(|| format!("{program} said nothing"))?;
    show(figure)?;
    let numbers: Vec<usize> = figure.split(' ').filter_map(|word| word.parse().ok()).collect();
    ensure!(numbers.len() == 2 && numbers[0] == numbers[1] && numbers[0] >= least, "{program}: {figure}");
    cloud.assert_entries_are_right().await
}

#[tokio::test]
async fn the_openstack_command_does_all_that_its_files_say_of_every_resource() -> anyhow::Result<()> {
    suite("commands.py", 700).await
}

#[tokio::test]
async fn openstacksdk_does_all_that_its_stories_say_of_every_resource() -> anyhow::Result<()> {
    suite("calls.py", 500).await
}

/// Plays a playbook; how many tasks were done, and how many of them changed something.
async fn play(book: &str, cloud: &Cloud) -> anyhow::Result<(usize, usize)> {
    let mut ansible = apart(tool_of("venv-ansible", "requirements-ansible.txt", "ansible-playbook")?, cloud);
    let python = Path::new(ansible.as_std().get_program()).with_file_name("python3");
    let home = cloud.state_dir().join("ansible");
    ansible
        .args(["--inventory", "localhost,", "--connection", "local", "--extra-vars"])
        .arg(json!({"ansible_python_interpreter": python}).to_string())
        .arg(clients().join("playbook").join(book))
        .env("OS_CLIENT_CONFIG_FILE", cloud.state_dir().join("clouds.yaml"))
        .env("ANSIBLE_HOME", &home)
        .env("ANSIBLE_REMOTE_TEMP", home.join("tmp"))
        .env("ANSIBLE_NOCOLOR", "1")
        .env("LC_ALL", "C.UTF-8");
    let said = run(&mut ansible).await?;
    // localhost  : ok=11  changed=2  …
    let recap = said.lines().rfind(|line| line.starts_with("localhost")).with_context(|| said.clone())?;
    let count = |what: &str| {
        let mut words = recap.split_whitespace();
        words.find_map(|word| word.strip_prefix(what)?.strip_prefix('=')?.parse().ok()).context("no such count")
    };
    let (done, changed) = (count("ok")?, count("changed")?);
    show(&format!("ansible-playbook {book}: {done} tasks done, {changed} changed something"))?;
    Ok((done, changed))
}

#[tokio::test]
async fn an_ansible_playbook_builds_a_network_once_and_changes_nothing_when_played_again() -> anyhow::Result<()> {
    let cloud = cloud().await?;
    cloud.tenant("red", "member").await?;
    let account = |user: &str, password: &str| {
        let auth = json!({
            "auth_url": format!("{}/v3", cloud.url), "username": user, "password": password, "project_name": user,
            "user_domain_id": "default", "project_domain_id": "default",
        });
        json!({"auth": auth, "region_name": "RegionOne"})
    };
    let clouds = json!({"clouds": {"red": account("red", "secret"), "operator": account("admin", ADMIN_PASSWORD)}});
    std::fs::write(cloud.state_dir().join("clouds.yaml"), clouds.to_string())?;
    let (tasks, changed) = play("make.yml", &cloud).await?;
    assert_eq!((tasks, changed), (13, 13), "every task makes something");
    let made = "SELECT revision_number FROM networks UNION ALL SELECT revision_number FROM ports";
    let before = cloud.rows(made).await?;
    assert_eq!(play("make.yml", &cloud).await?, (13, 0), "nothing is left to do");
    assert_eq!(cloud.rows(made).await?, before, "and nothing was done");
    assert_eq!(play("unmake.yml", &cloud).await?, (7, 7));
    assert_eq!(cloud.rows("SELECT 1 FROM networks UNION ALL SELECT 1 FROM routers").await?.len(), 0);
    cloud.assert_entries_are_right().await
}
