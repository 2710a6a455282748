//! `./dev status`: what runs, what each host holds, how far it lags behind, who carries which role.

use crate::client::Host;
use crate::sandbox::layout::Layout;
use crate::sandbox::process::Process;
use crate::sandbox::{Sandbox, need_root};
use anyhow::Result;
use comfy_table::{Table, presets::UTF8_FULL_CONDENSED};
use mizar_wire::local::Status;
use std::collections::BTreeMap;
use std::process::ExitCode;

/// Prints it; fails if a process that should run does not.
pub fn status(layout: &Layout) -> Result<ExitCode> {
    need_root()?;
    let sandbox = Sandbox::open(layout.clone())?;
    let (processes, all_run) = processes(&sandbox);
    println!("{processes}\n");
    if sandbox.settings().web {
        println!("dashboard: {}\n", sandbox.web_url());
    }
    println!("{}", hosts(&sandbox));
    match sandbox.admin().and_then(|admin| admin.roles()) {
        Ok(roles) => {
            println!("\n{}", role_table(roles.iter().map(|r| (r.host.as_str(), r.role.as_str(), r.state.as_str()))))
        }
        Err(error) => println!("\nroles: {error:#}"),
    }
    Ok(if all_run { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_header(header);
    table
}

fn processes(sandbox: &Sandbox) -> (Table, bool) {
    let mut table = table(["process", "id", "memory", "log"]);
    let mut all_run = true;
    for service in sandbox.services() {
        let process: Process = service.process(sandbox.layout());
        let pid = process.pid();
        all_run &= pid.is_some();
        table.add_row([
            service.name(),
            pid.map_or("NOT RUNNING".into(), |pid| pid.to_string()),
            pid.and_then(memory_mb).map_or(String::new(), |mb| format!("{mb:.1} MB")),
            process.log().display().to_string(),
        ]);
    }
    (table, all_run)
}

/// Resident memory.
fn memory_mb(pid: i32) -> Option<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse::<f64>().ok().map(|kb| kb / 1024.0)
}

fn hosts(sandbox: &Sandbox) -> Table {
    let known: BTreeMap<String, Host> = sandbox
        .admin()
        .and_then(|admin| admin.hosts())
        .map(|hosts| hosts.into_iter().map(|host| (host.name.clone(), host)).collect())
        .unwrap_or_default();
    let mut table =
        table(["host", "rack", "transit", "hook", "lease", "ports", "entries", "behind", "failures", "drops"]);
    for host in sandbox.hosts() {
        let said = known.get(&host.name);
        let transit = said.map_or_else(String::new, |said| said.transit.clone());
        let lease = if said.is_some_and(|said| said.alive) { "alive" } else { "lost" }.to_owned();
        let row = match sandbox.agent(&host.name).status() {
            Ok(status) => agent_cells(&status),
            Err(error) => ["?".into(), "?".into(), "?".into(), format!("{error:#}"), "?".into()],
        };
        let ([hook, ports, entries, failures, drops], behind) = (row, behind(said));
        table.add_row([
            host.name.clone(),
            host.rack.into(),
            transit,
            hook,
            lease,
            ports,
            entries,
            behind,
            failures,
            drops,
        ]);
    }
    table
}

fn agent_cells(status: &Status) -> [String; 5] {
    let drops: u64 = status.drops.values().sum();
    [
        status.transit_hook.clone(),
        status.ports.len().to_string(),
        status.entries.to_string(),
        if status.failures.is_empty() { "none".into() } else { status.failures.join("; ") },
        drops.to_string(),
    ]
}

/// What the host has not acknowledged, as the API says.
fn behind(host: Option<&Host>) -> String {
    match host.map(|host| (host.pending_entries, host.oldest_pending_s)) {
        Some((Some(0), _)) => "nothing".into(),
        Some((Some(entries), age)) => format!("{entries} entries, {} s", age.unwrap_or_default()),
        Some((None, _)) | None => "?".into(),
    }
}

fn role_table<'a>(roles: impl Iterator<Item = (&'a str, &'a str, &'a str)>) -> Table {
    let mut counts: BTreeMap<(&str, &str, &str), usize> = BTreeMap::new();
    for role in roles {
        *counts.entry(role).or_default() += 1;
    }
    let mut table = table(["host", "role", "state", "count"]);
    for ((host, role, state), count) in counts {
        table.add_row([host, role, state, &count.to_string()]);
    }
    table
}
