//! `./dev status`: what runs, what each host holds, how far it lags behind, who carries which role.

use crate::sandbox::layout::Layout;
use crate::sandbox::process::Process;
use crate::sandbox::{Sandbox, need_root, postgres};
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
    let labels: BTreeMap<String, (String, bool)> = sandbox
        .admin()
        .and_then(|admin| admin.hosts())
        .map(|hosts| hosts.into_iter().map(|h| (h.name, (h.transit, h.alive))).collect())
        .unwrap_or_default();
    let mut table =
        table(["host", "rack", "transit", "hook", "lease", "ports", "entries", "behind", "failures", "drops"]);
    for host in sandbox.hosts() {
        let (transit, alive) = labels.get(&host.name).cloned().unwrap_or_default();
        let lease = if alive { "alive" } else { "lost" }.to_owned();
        let row = match sandbox.agent(&host.name).status() {
            Ok(status) => agent_cells(sandbox, &host.name, &status),
            Err(error) => ["?".into(), "?".into(), "?".into(), format!("{error:#}"), "?".into(), "?".into()],
        };
        let [hook, ports, entries, behind, failures, drops] = row;
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

fn agent_cells(sandbox: &Sandbox, host: &str, status: &Status) -> [String; 6] {
    let drops: u64 = status.drops.values().sum();
    let behind = match &status.cursor {
        Some(cursor) => behind(sandbox, host, cursor).unwrap_or_else(|error| format!("{error:#}")),
        None => "no cursor yet".into(),
    };
    [
        status.transit_hook.clone(),
        status.ports.len().to_string(),
        status.entries.to_string(),
        behind,
        if status.failures.is_empty() { "none".into() } else { status.failures.join("; ") },
        drops.to_string(),
    ]
}

/// Entries of what a host receives (its subscriptions, and what these include) that its cursor
/// has not seen, and how long the oldest waits.
fn behind(sandbox: &Sandbox, host: &str, cursor: &str) -> Result<String> {
    // The cursor comes from an agent: only what a snapshot is made of goes into the statement.
    let cursor: String = cursor.chars().filter(|c| c.is_ascii_digit() || ":,".contains(*c)).collect();
    let sql = format!(
        "WITH RECURSIVE received (scope, lo, hi) AS ( \
           SELECT s.scope, s.lo, s.hi FROM subscriptions s JOIN hosts h ON h.number = s.host \
           WHERE h.name = '{host}' AND NOT s.deleted \
           UNION SELECT i.target, 0::smallint, 4095::smallint FROM received r JOIN includes i ON i.scope = r.scope \
           WHERE NOT i.deleted AND (i.slot = -1 OR i.slot BETWEEN r.lo AND r.hi)) \
         SELECT count(*), coalesce(round(extract(epoch FROM now() - min(e.changed_at)), 1), 0) FROM entries e \
         WHERE NOT pg_visible_in_snapshot(e.xid::text::xid8, '{cursor}'::pg_snapshot) \
         AND EXISTS (SELECT FROM received r WHERE r.scope = e.scope AND e.slot BETWEEN r.lo AND r.hi)"
    );
    let row = postgres::query(&sandbox.database_url(), &sql)?;
    Ok(match row.trim().split_once('|') {
        Some(("0", _)) => "nothing".into(),
        Some((count, age)) => format!("{count} entries, {age} s"),
        None => row.trim().to_owned(),
    })
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
