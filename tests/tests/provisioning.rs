//! From the request for a port to ACTIVE: the times of 200 ports, and a host's memory.

use anyhow::{Context, Result, ensure};
use mizar::sandbox::progress::seconds;
use mizar::sandbox::provisioning::{Sample, measure, percentile};
use mizar::sandbox::services::Service;
use mizar_tests::bed::Bed;
use mizar_tests::harness::Scenario;
use mizar_tests::{bed, harness};
use std::process::ExitCode;
use std::time::Duration;

const SCENARIOS: &[Scenario] = &[
    ("an_idle_host_needs_less_than_64_megabytes", memory),
    ("hundreds_of_ports_made_one_by_one_become_active", times),
];

/// Shows the times; `./dev bench` measures them on an optimized build and holds them to the aims.
fn times(bed: &Bed) -> Result<()> {
    let tenant = bed.tenant()?;
    let net = tenant.network(&["10.1.0.0/16"])?;
    let samples = measure(&bed.sandbox, &bed.admin, net.network.id, net.subnets[0].id, 200)?;
    let of = |part: fn(&Sample) -> Duration| {
        format!("p50 {}, p99 {}", seconds(percentile(&samples, 50, part)), seconds(percentile(&samples, 99, part)))
    };
    println!(
        "\n200 ports to ACTIVE: {} (create {}; feed {}; wiring {}; acknowledged {})",
        of(Sample::total),
        of(|s| s.create),
        of(|s| s.feed),
        of(|s| s.wiring),
        of(|s| s.active)
    );
    ensure!(samples.iter().any(|s| !s.feed.is_zero()), "no agent waited for an entry: the parts prove nothing");
    ensure!(samples.len() == 200, "{} of 200 ports became ACTIVE", samples.len());
    Ok(())
}

/// The agent's own memory, and what its maps take in the kernel.
fn memory(bed: &Bed) -> Result<()> {
    let pid = Service::Agent(bed.host(0).into()).process(bed.sandbox.layout()).pid().context("the agent runs")?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
    let resident = resident.split_whitespace().next().context("a number")?.parse::<u64>()? * 1024;
    let maps = map_memory(pid)?;
    let mb = |bytes: u64| bytes as f64 / 1e6;
    println!("\nidle host: agent {:.1} MB, maps {:.1} MB", mb(resident), mb(maps));
    ensure!(maps > 0, "the agent holds no map: the figure proves nothing");
    ensure!(resident + maps < 64_000_000, "agent {:.1} MB and maps {:.1} MB", mb(resident), mb(maps));
    Ok(())
}

/// The kernel says of each map that a process holds how much memory it takes.
fn map_memory(pid: i32) -> Result<u64> {
    let mut by_id = std::collections::BTreeMap::new();
    for descriptor in std::fs::read_dir(format!("/proc/{pid}/fdinfo"))? {
        let Ok(info) = std::fs::read_to_string(descriptor?.path()) else { continue };
        let value = |name: &str| -> Option<u64> {
            info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')?.trim().parse().ok())
        };
        if let (Some(id), Some(bytes)) = (value("map_id"), value("memlock")) {
            by_id.insert(id, bytes);
        }
    }
    Ok(by_id.values().sum())
}

fn main() -> ExitCode {
    harness::run("tprov", bed::settings(), &[SCENARIOS])
}
