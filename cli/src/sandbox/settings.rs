//! Settings of a sandbox; kept beside it, so that later commands and restarts use the same.

use super::layout::{self, HostPlan, Layout};
use super::pki::write_private;
use super::services::free_ports;
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// How a sandbox is made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Number of hosts.
    pub hosts: usize,
    /// The last host carries transit roles before the others do.
    pub prefer_last: bool,
    /// MTU of the underlay.
    pub mtu: u32,
    /// `auto`, `xdp` or `tcx`.
    pub transit_hook: String,
    /// Ports of a subnet that make one shard.
    pub shard_ports: u32,
    /// Dividers of a network.
    pub dividers: u32,
    /// Seconds that a host's lease lasts.
    pub lease_s: u32,
    /// Established flows that a host can hold.
    pub flow_entries: u32,
    /// The sandbox's database waits for the disk.
    pub durable: bool,
    /// A database of the user's instead of the sandbox's own.
    pub database_url: Option<String>,
    /// Port of the API on the loopback; 0 = any free one.
    pub api_port: u16,
    /// There is a dashboard.
    pub web: bool,
    /// Port of the dashboard on the loopback.
    pub web_port: u16,
    /// Where on the loopback operators ask the API.
    pub api_operator_port: u16,
    /// The same of the scheduler.
    pub scheduler_operator_port: u16,
    /// One client may ask the API only so often, as in production.
    pub limited: bool,
    /// The eBPF object, where it is not embedded.
    pub bpf_object: Option<PathBuf>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            hosts: 4,
            prefer_last: true,
            mtu: 1500,
            transit_hook: "auto".into(),
            shard_ports: 250,
            dividers: 2,
            lease_s: 30,
            flow_entries: 131_072,
            durable: true,
            database_url: None,
            api_port: 0,
            web: false,
            web_port: 0,
            api_operator_port: 0,
            scheduler_operator_port: 0,
            limited: true,
            bpf_object: None,
        }
    }
}

impl Settings {
    /// With ports of the loopback that nobody has.
    pub fn with_free_ports(self, layout: &Layout) -> Result<Self> {
        let [api_port, web_port, api_operator_port, scheduler_operator_port] = free_ports(layout, self.api_port)?;
        Ok(Self { api_port, web_port, api_operator_port, scheduler_operator_port, ..self })
    }

    /// With the ports of another sandbox, or of the same at another time.
    pub fn with_ports_of(self, other: &Self) -> Self {
        let Self { api_port, web_port, api_operator_port, scheduler_operator_port, .. } = *other;
        Self { api_port, web_port, api_operator_port, scheduler_operator_port, ..self }
    }

    /// Those of the sandbox that is up; `None` when there is none.
    pub fn load(layout: &Layout) -> Result<Option<Self>> {
        match std::fs::read(layout.settings()) {
            Ok(text) => serde_json::from_slice(&text)
                .map(Some)
                .with_context(|| format!("{} is not understood: `./dev down` removes it", layout.settings().display())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes them beside the sandbox, for its owner only: a URL may hold a password.
    pub fn store(&self, layout: &Layout) -> Result<()> {
        std::fs::create_dir_all(layout.dir())?;
        write_private(&layout.settings(), &serde_json::to_string_pretty(self)?)
    }

    /// The hosts.
    pub fn host_plans(&self) -> Result<Vec<HostPlan>> {
        layout::hosts(self.hosts)
    }
}
