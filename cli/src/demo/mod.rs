//! Two tenants with the same addresses, on every host, and proof that each reaches its own and
//! nobody else's.

pub mod clouds;
pub mod matrix;
pub mod table;
pub mod tenant;

use crate::sandbox::Sandbox;
use crate::sandbox::progress::Progress;
use crate::sandbox::secrets::Secrets;
use anyhow::{Context, Result};
use tenant::Tenant;

/// The demo's tenants.
pub const TENANTS: [&str; 2] = ["red", "blue"];

/// Makes the tenants and what they have, tries everything, and returns the outcomes.
pub fn run(sandbox: &Sandbox, progress: Progress) -> Result<Vec<matrix::Outcome>> {
    let tenants = prepare(sandbox, progress)?;
    progress.step("every port ACTIVE", || {
        let admin = sandbox.admin()?;
        tenants
            .iter()
            .flat_map(|t| &t.endpoints)
            .try_for_each(|endpoint| admin.wait_active(endpoint.port, std::time::Duration::from_secs(60)).map(drop))
    })?;
    let trials = matrix::plan(&tenants);
    progress.step(&format!("{} exchanges", trials.len()), || matrix::run(&tenants, &trials))
}

/// Users, projects, networks, ports and their containers; what exists stays.
pub fn prepare(sandbox: &Sandbox, progress: Progress) -> Result<Vec<Tenant>> {
    let admin = sandbox.admin()?;
    progress.step("tenants red and blue", || {
        let mut secrets = Secrets::load(sandbox.layout())?;
        TENANTS.iter().try_for_each(|name| admin.ensure_tenant(name, &secrets.of(name)?))?;
        clouds::write(sandbox, &mut secrets)
    })?;
    progress.step("networks, subnets and ports, attached on every host", || {
        TENANTS
            .iter()
            .map(|name| Tenant::ensure(sandbox, &admin, name).with_context(|| format!("tenant {name}")))
            .collect()
    })
}
