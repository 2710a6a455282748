//! `./dev up` and `./dev attach`.

use super::{Up, cargo, root};
use crate::demo;
use crate::sandbox::layout::Layout;
use crate::sandbox::progress::{Progress, seconds};
use crate::sandbox::services::built_bpf_object;
use crate::sandbox::settings::Settings;
use crate::sandbox::{DEFAULT_NAME, Sandbox, endpoint::Kind, need_root};
use anyhow::Result;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Where people expect Neutron.
const NEUTRON_PORT: u16 = 9696;

/// Builds, starts, and shows the demo; fails unless the demo went as expected.
pub fn up(layout: Layout, wanted: Up) -> Result<ExitCode> {
    need_root()?;
    let start = Instant::now();
    let progress = Progress::Shown;
    progress.say(&format!("Sandbox {}", layout.name()));
    progress.step("eBPF programs built", || cargo::build_bpf(&root()))?;
    progress.step("mizar-api, mizar-scheduler, mizar-agent and mizar-web built", || cargo::build_services(&root()))?;
    let settings = Settings {
        hosts: wanted.hosts,
        transit_hook: wanted.transit_hook,
        shard_ports: wanted.shard_ports,
        dividers: wanted.dividers,
        database_url: std::env::var("DATABASE_URL").ok().filter(|url| !url.is_empty()),
        api_port: if layout.name() == DEFAULT_NAME { NEUTRON_PORT } else { 0 },
        bpf_object: built_bpf_object(&root()),
        web: true,
        ..Settings::default()
    };
    let sandbox = Sandbox::up(layout, settings, progress)?;
    if wanted.no_demo {
        let (api, web) = (sandbox.api_url(), sandbox.web_url());
        progress.say(&format!("Up after {}: API {api}, dashboard {web}", seconds(start.elapsed())));
        return Ok(ExitCode::SUCCESS);
    }
    let outcomes = demo::run(&sandbox, progress)?;
    println!("{}", demo::table::render(&outcomes));
    let failed = outcomes.iter().filter(|outcome| !outcome.ok).count();
    let layout = sandbox.layout();
    println!(
        "{} of {} exchanges as expected; up after {}.\n\
         dashboard    {} (sign in as admin, red or blue; passwords in {})\n\
         API          {}\n\
         credentials  {} (clouds mizar-admin, red, blue), {}\n\
         try          ./dev exec red-a1 -- ping -c 3 10.0.2.12\n\
         metrics      {}\n\
         logs         {}\n\
         end          ./dev down",
        outcomes.len() - failed,
        outcomes.len(),
        seconds(start.elapsed()),
        sandbox.web_url(),
        layout.clouds().display(),
        sandbox.api_url(),
        layout.clouds().display(),
        layout.openrc().display(),
        sandbox.metrics_urls().join(", "),
        layout.logs().display(),
    );
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Binds and attaches a port, and says what was made.
pub fn attach(sandbox: &Sandbox, port: &str, host: &str, kind: Kind) -> Result<ExitCode> {
    need_root()?;
    let admin = sandbox.admin()?;
    let port = admin.find_port(port)?;
    let endpoint = sandbox.attach(&admin, &port, host, kind)?;
    let active = admin.wait_active(port.id, Duration::from_secs(60));
    let attached = &endpoint.attached;
    let addresses: Vec<_> = attached.addresses.iter().map(ToString::to_string).collect();
    println!(
        "{} on {host}: {} in namespace {}, MAC {}, MTU {}, addresses {}",
        endpoint.name,
        if kind == Kind::Tap { &attached.host_ifname } else { &endpoint.ifname },
        endpoint.netns.name(),
        attached.mac,
        attached.mtu,
        addresses.join(" "),
    );
    let waited = active?;
    println!("ACTIVE after {}", seconds(waited));
    Ok(ExitCode::SUCCESS)
}
