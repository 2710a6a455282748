//! Two sandboxes side by side, the demo in one of them, and what `down` leaves: nothing.

use anyhow::{Context, Result, ensure};
use mizar::client::Port;
use mizar::demo;
use mizar::sandbox::netns::run;
use mizar::sandbox::progress::Progress;
use mizar::sandbox::settings::Settings;
use mizar_tests::bed::Bed;
use mizar_tests::exchange::common;
use mizar_tests::harness::Scenario;
use mizar_tests::tenant::at;
use mizar_tests::{bed, harness};
use std::collections::BTreeSet;
use std::process::{Command, ExitCode};

const SCENARIOS: &[Scenario] = &[
    ("two_sandboxes_run_side_by_side_and_down_leaves_nothing_of_one", side_by_side),
    ("up_again_changes_nothing", up_again),
];

/// What the machine shows of namespaces, programs, maps, mounts, interfaces and processes.
fn machine() -> Result<BTreeSet<String>> {
    let mut seen = BTreeSet::new();
    let mut note = |kind: &str, text: &str, field: fn(&str) -> Option<&str>| {
        seen.extend(text.lines().filter_map(field).map(|item| format!("{kind} {item}")));
    };
    let first_word: fn(&str) -> Option<&str> = |line| line.split_whitespace().next();
    note("netns", &run(Command::new("ip").args(["netns", "list"]))?, first_word);
    note("link", &run(Command::new("ip").args(["-o", "link"]))?, |line| line.split(": ").nth(1));
    note("mount", &std::fs::read_to_string("/proc/self/mountinfo")?, |line| line.split(' ').nth(4));
    for what in ["prog", "map", "link"] {
        // Lines that begin with a number begin an object; the others go on about it.
        let text = run(Command::new("bpftool").args([what, "show"]))?;
        note(&format!("bpf {what}"), &text, |line| {
            line.split_once(": ").map(|(id, _)| id).filter(|id| id.parse::<u32>().is_ok())
        });
    }
    for process in std::fs::read_dir("/proc")?.flatten() {
        let command = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
        let text = String::from_utf8_lossy(&command).replace('\0', " ");
        if text.contains("mizar") && text.contains(OTHER) {
            seen.insert(format!("process {text}"));
        }
    }
    Ok(seen)
}

/// The second sandbox; its name is in every command line of its processes.
const OTHER: &str = "tother";

fn side_by_side(bed: &Bed) -> Result<()> {
    let tenant = bed.tenant()?;
    let net = tenant.network(&["10.1.0.0/24"])?;
    let [a, b] = tenant.endpoints(&net, [at(0, 0), at(0, 1)])?;
    common(&a, &b)?;
    let before = machine()?;
    let other = Bed::up(OTHER, Settings { hosts: 2, ..bed::settings() })?;
    let shown = demo::run(&other.sandbox, Progress::Silent).and_then(|outcomes| {
        let wrong: Vec<_> = outcomes.iter().filter(|outcome| !outcome.ok).collect();
        ensure!(wrong.is_empty(), "the demo of the second sandbox: {wrong:?}");
        ensure!(!outcomes.is_empty(), "the demo tried nothing");
        common(&a, &b).context("the first sandbox, while the second runs")?;
        ensure!(machine()?.len() > before.len(), "the second sandbox shows nowhere: the comparison proves nothing");
        Ok(())
    });
    other.down(shown.is_err())?;
    shown?;
    let mut left = Vec::new();
    // Programs and maps are freed after a grace period of the kernel's.
    let gone = bed.wait("nothing left of the second sandbox", || {
        left = machine()?.difference(&before).cloned().collect();
        Ok(left.is_empty())
    });
    gone.with_context(|| format!("left: {left:?}"))?;
    common(&a, &b).context("the first sandbox, after the second is gone")
}

fn up_again(bed: &Bed) -> Result<()> {
    let layout = bed.sandbox.layout().clone();
    let pids = || bed.sandbox.services().iter().map(|s| s.process(&layout).pid()).collect::<Vec<_>>();
    let ports = || -> Result<BTreeSet<_>> { Ok(bed.admin.ports()?.iter().map(|p: &Port| p.id).collect()) };
    demo::run(&bed.sandbox, Progress::Silent)?;
    let (before, ports_before) = (pids(), ports()?);
    let again = mizar::sandbox::Sandbox::up(layout.clone(), bed.sandbox.settings().clone(), Progress::Silent)?;
    let outcomes = demo::run(&again, Progress::Silent)?;
    ensure!(outcomes.iter().all(|outcome| outcome.ok), "the second demo: {outcomes:?}");
    ensure!(pids() == before, "processes were started again");
    ensure!(ports()? == ports_before, "ports were made again");
    for name in demo::TENANTS {
        let api = bed.sandbox.tenant(name)?;
        for network in api.networks()? {
            let ports = api.ports_of(network.id)?;
            api.delete_network_whole(network.id)?;
            for port in ports {
                mizar::sandbox::netns::Netns::named(layout.port_netns(port.id)).delete()?;
            }
        }
        bed.admin.delete_tenant(name)?;
    }
    Ok(())
}

fn main() -> ExitCode {
    harness::run("tside", bed::settings(), &[SCENARIOS])
}
