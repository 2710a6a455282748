//! A sandbox of the bench.

use anyhow::{Context, Result};
use mizar::{
    client::{Api, refused_status},
    devel::root,
    sandbox::{
        self, Sandbox, layout::Layout, progress::Progress, secrets::Secrets, services::built_bpf_object,
        settings::Settings,
    },
};
use serde_json::json;

/// A sandbox that ends with this value.
pub struct Bed {
    /// The sandbox.
    pub sandbox: Sandbox,
    /// Its administrator.
    pub admin: Api,
}

/// As operators have it: a durable database, limits of requests; no host is preferred for transit.
pub fn settings(hosts: usize) -> Settings {
    Settings { hosts, prefer_last: false, bpf_object: built_bpf_object(&root()), ..Settings::default() }
}

impl Bed {
    /// Starts this checkout's sandbox of this name; what a killed run left of it goes first.
    pub fn up(name: &str, settings: Settings) -> Result<Self> {
        let layout = Layout::of_checkout(&root(), name)?;
        sandbox::down(&layout, false, Progress::Silent).context("what an earlier run left cannot be removed")?;
        let made = Sandbox::up(layout.clone(), settings, Progress::Silent)
            .and_then(|sandbox| Ok(Self { admin: sandbox.admin()?, sandbox }));
        if made.is_err() {
            sandbox::down(&layout, true, Progress::Silent)?;
        }
        made
    }

    /// A new tenant's client.
    pub fn tenant(&self, name: &str) -> Result<Api> {
        let password = Secrets::load(self.sandbox.layout())?.of(name)?;
        self.admin.ensure_tenant(name, &password)?;
        self.sandbox.tenant(name)
    }

    /// Quotas are for tenants; what is measured is not theirs.
    pub fn unlimited(&self) -> Result<()> {
        self.unlimited_in(&self.admin.project()?)
    }

    /// Takes the quotas of a project away.
    pub fn unlimited_in(&self, project: &str) -> Result<()> {
        let none = json!({"quota": {"network": -1, "subnet": -1, "port": -1, "security_group": -1,
            "security_group_rule": -1}});
        match self.admin.put(&format!("/v2.0/quotas/{project}"), Some(&none)) {
            Err(error) if refused_status(&error) == Some(404) => Ok(()),
            answer => answer.map(drop),
        }
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        if let Err(error) = sandbox::down(self.sandbox.layout(), false, Progress::Silent) {
            eprintln!("the sandbox of the bench is not gone, run ./dev down: {error:#}");
        }
    }
}
