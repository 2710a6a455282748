//! Mizar's own extension, for operators: hosts and their transit roles.

use super::Api;
use crate::sandbox::process::wait_until;
use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Duration;

/// What is used of a host.
#[derive(Clone, Debug, Deserialize)]
pub struct Host {
    /// Its name.
    pub name: String,
    /// Its underlay address.
    pub underlay: std::net::IpAddr,
    /// Availability zone.
    pub az: String,
    /// Rack.
    pub rack: String,
    /// Label `transit`.
    pub transit: String,
    /// `xdp` or `tcx`.
    pub transit_hook: String,
    /// Its lease lives.
    pub alive: bool,
    /// Entries that its agent has not acknowledged; `None`: it is silent.
    pub pending_entries: Option<u64>,
    /// Seconds since the oldest of them was written.
    pub oldest_pending_s: Option<u64>,
}

/// A transit role of a host.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Role {
    /// The host's name.
    pub host: String,
    /// `bouncer` or `divider`.
    pub role: String,
    /// pending, active or draining.
    pub state: String,
}

impl Api {
    /// Every host.
    pub fn hosts(&self) -> Result<Vec<Host>> {
        Ok(serde_json::from_value(self.get("/v2.0/mizar/hosts")?["hosts"].take())?)
    }

    /// Sets a host's label `transit`: yes, no or prefer.
    pub fn label_host(&self, name: &str, transit: &str) -> Result<()> {
        self.put(&format!("/v2.0/mizar/hosts/{name}"), Some(&json!({"host": {"transit": transit}}))).map(drop)
    }

    /// Every transit role.
    pub fn roles(&self) -> Result<Vec<Role>> {
        let mut list: Value = self.get("/v2.0/mizar/roles")?;
        Ok(serde_json::from_value(list["roles"].take())?)
    }

    /// Waits until all of them are registered and alive.
    pub fn wait_hosts(&self, names: &[&str]) -> Result<()> {
        let patience = Duration::from_secs(120);
        let mut seen = Vec::new();
        let done = wait_until(patience, || {
            seen = self.hosts().unwrap_or_default();
            names.iter().all(|name| seen.iter().any(|host| host.name == *name && host.alive))
        });
        if done.is_none() {
            // The call itself may be what fails; then that is the reason to show.
            self.hosts().context("cannot list hosts")?;
            bail!("hosts {names:?} should be alive after {} s, but only {seen:?} are known", patience.as_secs());
        }
        Ok(())
    }
}
