//! A whole deployment on one machine: database, API, scheduler, and hosts in network namespaces,
//! each with a real agent. Nothing of the machine's own network is touched.
//!
//! [`Sandbox::up`] goes from whatever there is to everything running; [`down`] goes from whatever
//! there is to nothing. Both look at what exists, not at what was done before, so each may be
//! repeated or interrupted at any point.

pub mod agent;
pub mod endpoint;
pub mod kernel;
pub mod layout;
pub mod mounts;
pub mod netns;
pub mod pki;
pub mod postgres;
pub mod process;
pub mod progress;
pub mod provisioning;
pub mod secrets;
pub mod services;
pub mod settings;
pub mod topology;
pub mod traffic;

use crate::client::{Api, Credentials};
use agent::Agent;
use anyhow::{Context, Result, bail};
use kernel::Loaded;
use layout::{HostPlan, Layout};
use netns::Netns;
use nix::sys::signal::Signal;
use process::{Process, wait_until};
use progress::Progress;
use secrets::Secrets;
use services::{Binaries, Service, Starter};
use settings::Settings;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;
use std::time::Duration;

/// The sandbox that `./dev` means unless MIZAR_SANDBOX says otherwise.
pub const DEFAULT_NAME: &str = "main";

/// A running sandbox.
#[derive(Debug)]
pub struct Sandbox {
    layout: Layout,
    settings: Settings,
    binaries: Binaries,
    hosts: Vec<HostPlan>,
}

impl Sandbox {
    /// Starts everything that does not run yet, or was built anew since, and waits until every host has registered and
    /// carries its labels. A sandbox that exists keeps its settings.
    pub fn up(layout: Layout, wanted: Settings, progress: Progress) -> Result<Self> {
        need_root()?;
        claim(&layout)?;
        let existing = Settings::load(&layout)?;
        if let Some(existing) = &existing
            && *existing != wanted.clone().with_ports_of(existing)
        {
            bail!("sandbox {} is up with other settings than these: `./dev down` first", layout.name());
        }
        let settings = match existing {
            Some(existing) => existing,
            None => wanted.with_free_ports(&layout)?,
        };
        settings.store(&layout)?;
        let sandbox =
            Self { hosts: settings.host_plans()?, binaries: Binaries::beside_this_program()?, layout, settings };
        sandbox.start_all(progress)?;
        Ok(sandbox)
    }

    /// The sandbox that is up.
    pub fn open(layout: Layout) -> Result<Self> {
        let Some(settings) = Settings::load(&layout)? else {
            bail!("sandbox {} is not up: run `./dev up`", layout.name());
        };
        Ok(Self { hosts: settings.host_plans()?, binaries: Binaries::beside_this_program()?, layout, settings })
    }

    fn start_all(&self, progress: Progress) -> Result<()> {
        let layout = &self.layout;
        self.stop_outdated(progress)?;
        progress.step(&format!("{} hosts and their underlay", self.hosts.len()), || {
            netns::claim_names(&Layout::names_marker())?;
            topology::up(layout, &self.hosts, self.settings.mtu, self.settings.transit_hook == "xdp")
        })?;
        progress.step("certificates", || pki::up(layout, &self.hosts))?;
        if self.settings.database_url.is_none() {
            progress.step("PostgreSQL", || self.start(&Service::Postgres))?;
        }
        let password = Secrets::load(layout)?.of("admin")?;
        pki::write_private(&layout.dir().join("admin-password"), &password)?;
        progress.step("mizar-api", || self.start(&Service::Api))?;
        progress.step("mizar-scheduler", || self.start(&Service::Scheduler))?;
        progress.step("mizar-agent on every host", || {
            // Loading and verifying the programs is most of it, and each host's is independent.
            std::thread::scope(|scope| {
                let starts: Vec<_> = (self.hosts.iter())
                    .map(|host| scope.spawn(|| self.start(&Service::Agent(host.name.clone()))))
                    .collect();
                starts.into_iter().try_for_each(|s| s.join().unwrap_or_else(|p| std::panic::resume_unwind(p)))
            })
        })?;
        if self.settings.web {
            progress.step("mizar-web", || self.start(&Service::Web))?;
        }
        progress.step("hosts registered", || {
            let admin = self.admin()?;
            admin.wait_hosts(&self.hosts.iter().map(|h| h.name.as_str()).collect::<Vec<_>>())?;
            match self.hosts.last() {
                Some(last) if self.settings.prefer_last => admin.label_host(&last.name, "prefer"),
                _ => Ok(()),
            }
        })?;
        for path in [layout.dev(), layout.dir(), layout.logs()] {
            give_to_owner(layout, &path)?;
        }
        Ok(())
    }

    /// What was built anew since it was started ends here; it is started again like what never ran.
    fn stop_outdated(&self, progress: Progress) -> Result<()> {
        let mut outdated = Vec::new();
        for service in self.services() {
            if self.starter().is_outdated(&service)? {
                outdated.push(service);
            }
        }
        if outdated.is_empty() {
            return Ok(());
        }
        let names: Vec<_> = outdated.iter().map(Service::name).collect();
        progress.step(&format!("built anew, so started again: {}", names.join(", ")), || {
            outdated.iter().try_for_each(|service| self.stop(service))
        })
    }

    /// Its names and paths.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Its settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Its hosts.
    pub fn hosts(&self) -> &[HostPlan] {
        &self.hosts
    }

    /// The host of that name.
    pub fn host(&self, name: &str) -> Result<&HostPlan> {
        self.hosts.iter().find(|h| h.name == name).with_context(|| {
            let names: Vec<_> = self.hosts.iter().map(|h| h.name.as_str()).collect();
            format!("--host: the sandbox has no `{name}`; it has {}", names.join(", "))
        })
    }

    /// A host's namespace.
    pub fn host_netns(&self, host: &str) -> Netns {
        Netns::named(self.layout.host_netns(host))
    }

    /// The agent of a host.
    pub fn agent(&self, host: &str) -> Agent {
        Agent::at(self.layout.agent_socket(host))
    }

    /// Base of the API's addresses.
    pub fn api_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.settings.api_port)
    }

    /// Base of the dashboard's addresses.
    pub fn web_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.settings.web_port)
    }

    /// A page of a service's operators' listener: its status and text.
    pub fn ask_operators(&self, service: &Service, path: &str) -> Result<(u16, String)> {
        services::ask_operators(&self.layout, &self.settings, service, path)
    }

    /// Where metrics of the API and of the scheduler are; those of agents are in their hosts' namespaces.
    pub fn metrics_urls(&self) -> [String; 2] {
        let Settings { api_operator_port, scheduler_operator_port, .. } = &self.settings;
        [api_operator_port, scheduler_operator_port].map(|port| format!("http://127.0.0.1:{port}/metrics"))
    }

    /// What the services connect to.
    pub fn database_url(&self) -> String {
        self.settings.database_url.clone().unwrap_or_else(|| postgres::url(&self.layout))
    }

    /// A client of the administrator.
    pub fn admin(&self) -> Result<Api> {
        let password = Secrets::load(&self.layout)?.of("admin")?;
        Api::new(&self.api_url(), Credentials::new("admin", "admin", &password))
    }

    /// A client of a user in the project of the same name.
    pub fn tenant(&self, name: &str) -> Result<Api> {
        let password = Secrets::load(&self.layout)?.of(name)?;
        Api::new(&self.api_url(), Credentials::new(name, name, &password))
    }

    /// Starts a service and waits until it serves.
    pub fn start(&self, service: &Service) -> Result<()> {
        self.starter().start(service).with_context(|| format!("cannot start {}", service.name()))
    }

    fn starter(&self) -> Starter<'_> {
        Starter { layout: &self.layout, settings: &self.settings, binaries: &self.binaries }
    }

    /// Where its services' programs are.
    pub fn binaries(&self) -> &Binaries {
        &self.binaries
    }

    /// Ends a service orderly.
    pub fn stop(&self, service: &Service) -> Result<()> {
        services::stop(&self.layout, service)
    }

    /// Ends a service as a crash would.
    pub fn kill(&self, service: &Service) -> Result<()> {
        service.process(&self.layout).stop(Signal::SIGKILL, Duration::from_secs(30))
    }

    /// Every service it should have.
    pub fn services(&self) -> Vec<Service> {
        let own_database = self.settings.database_url.is_none().then_some(Service::Postgres);
        own_database
            .into_iter()
            .chain([Service::Api, Service::Scheduler])
            .chain(self.hosts.iter().map(|h| Service::Agent(h.name.clone())))
            .chain(self.settings.web.then_some(Service::Web))
            .collect()
    }
}

/// Leaves nothing of the sandbox: no process, namespace, mount or pin; and no file, except logs
/// where `keep_logs`, and the passwords of a database that is not the sandbox's own: that lives on,
/// and its users with it.
pub fn down(layout: &Layout, keep_logs: bool, progress: Progress) -> Result<()> {
    need_root()?;
    check_owner(layout)?;
    let loaded = Loaded::of(layout)?;
    progress.step("processes", || {
        // Everything at once, the database last: what still runs would log its loss.
        let (database, others): (Vec<_>, Vec<_>) =
            Process::recorded(layout)?.into_iter().partition(|p| p.name() == postgres::NAME);
        let pids: Vec<i32> = others.iter().chain(&database).filter_map(Process::pid).collect();
        for process in &others {
            process.signal(Signal::SIGTERM)?;
        }
        for process in &others {
            process.stop(Signal::SIGTERM, Duration::from_secs(10))?;
        }
        if !database.is_empty() {
            postgres::down(layout)?;
        }
        // `ps` shows them until init has asked how they ended. Some do that once a second, and some never.
        wait_until(Duration::from_secs(3), || pids.iter().all(|pid| !Path::new(&format!("/proc/{pid}")).exists()));
        Ok(())
    })?;
    progress.step("namespaces", || {
        for namespace in Netns::with_prefix(&layout.netns_prefix())? {
            end_processes_inside(&namespace)?;
            namespace.delete()?;
        }
        Ok(())
    })?;
    progress.step("mounts and files", || {
        mounts::down(layout)?;
        remove_dir(&layout.runtime())?;
        if Layout::none_up() {
            netns::release_names(&Layout::names_marker())?;
            Layout::remove_common();
        }
        remove_files(layout, keep_logs)?;
        for file in [layout.clouds(), layout.openrc()] {
            if file.exists() {
                std::fs::remove_file(file)?;
            }
        }
        Ok(())
    })?;
    progress.step("programs and maps in the kernel", || loaded.wait_freed())
}

fn remove_files(layout: &Layout, keep_logs: bool) -> Result<()> {
    let mut kept = Vec::new();
    kept.extend(keep_logs.then(|| layout.logs()));
    kept.extend((!layout.database().exists()).then(|| layout.secrets()));
    let mut left = false;
    for entry in std::fs::read_dir(layout.dir()).into_iter().flatten() {
        let path = entry?.path();
        if kept.contains(&path) {
            left = true;
        } else if path.is_dir() {
            remove_dir(&path)?;
        } else {
            std::fs::remove_file(&path)?;
        }
    }
    if left { Ok(()) } else { remove_dir(&layout.dir()) }
}

/// What was started with `./dev exec` and still runs: the namespace is the sandbox's, and so is
/// everything inside. (A namespace that a process is in would live on without a name.)
fn end_processes_inside(namespace: &Netns) -> Result<()> {
    for pid in namespace.processes()? {
        match nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGKILL) {
            Ok(()) | Err(nix::errno::Errno::ESRCH) => {}
            Err(error) => return Err(error).with_context(|| format!("cannot end process {pid}")),
        }
    }
    Ok(())
}

fn remove_dir(path: &Path) -> Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Namespaces, mounts and BPF need it.
pub fn need_root() -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        bail!("this needs root (namespaces, eBPF): run it by `./dev`, which asks sudo");
    }
    Ok(())
}

/// Names are the machine's: two checkouts must not both think that one is theirs.
fn claim(layout: &Layout) -> Result<()> {
    check_owner(layout)?;
    std::fs::create_dir_all(layout.runtime())?;
    std::fs::write(layout.owner(), layout.root().as_os_str().as_encoded_bytes())?;
    Ok(())
}

fn check_owner(layout: &Layout) -> Result<()> {
    match std::fs::read(layout.owner()) {
        Ok(owner) if owner != layout.root().as_os_str().as_encoded_bytes() => bail!(
            "sandbox {} belongs to the checkout at {}: choose another name by MIZAR_SANDBOX",
            layout.name(),
            String::from_utf8_lossy(&owner)
        ),
        _ => Ok(()),
    }
}

/// User and group of the checkout, if this is root by sudo. Root by itself (a container) stays root:
/// its tools may be where nobody else can read.
pub fn owner_under_sudo(root: &Path) -> Result<Option<(u32, u32)>> {
    if std::env::var_os("SUDO_UID").is_none() || !nix::unistd::geteuid().is_root() {
        return Ok(None);
    }
    owner(root).map(Some)
}

fn owner(root: &Path) -> Result<(u32, u32)> {
    let of = std::fs::metadata(root).with_context(|| format!("cannot look at {}", root.display()))?;
    Ok((of.uid(), of.gid()))
}

/// Under sudo, files for people belong to the owner of the checkout.
pub fn give_to_owner(layout: &Layout, path: &Path) -> Result<()> {
    if let Some((uid, gid)) = owner_under_sudo(layout.root())?
        && path.exists()
    {
        chown(path, Some(uid), Some(gid))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(name: &str) -> Result<Layout> {
        let root = std::env::temp_dir().join(format!("mz-{name}-{}", std::process::id()));
        let layout = Layout::new(&root, name)?;
        Secrets::load(&layout)?.of("admin")?;
        Settings::default().store(&layout)?;
        std::fs::create_dir_all(layout.logs())?;
        Ok(layout)
    }

    fn left(layout: &Layout, keep_logs: bool) -> Result<Vec<std::path::PathBuf>> {
        remove_files(layout, keep_logs)?;
        let mut left: Vec<_> =
            std::fs::read_dir(layout.dir()).into_iter().flatten().map(|e| Ok(e?.path())).collect::<Result<_>>()?;
        left.sort();
        Ok(left)
    }

    #[test]
    fn passwords_go_with_the_database_that_knows_them() -> Result<()> {
        let layout = files("foreign")?;
        let mut both = vec![layout.logs(), layout.secrets()];
        both.sort();
        assert_eq!(left(&layout, true)?, both);
        assert_eq!(left(&layout, false)?, [layout.secrets()]);
        assert_eq!(left(&layout, false)?, [layout.secrets()], "however often");
        std::fs::create_dir_all(layout.database())?;
        assert_eq!(left(&layout, false)?, [""; 0].map(std::path::PathBuf::from));
        assert!(!layout.dir().exists());
        remove_dir(layout.root())
    }

    #[test]
    fn settings_may_hold_a_password_so_nobody_else_reads_them() -> Result<()> {
        let layout = files("private")?;
        let mode = || Ok::<_, anyhow::Error>(std::fs::metadata(layout.settings())?.mode() & 0o777);
        assert_eq!(mode()?, 0o600);
        std::fs::set_permissions(layout.settings(), std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
        Settings::default().store(&layout)?;
        assert_eq!(mode()?, 0o600, "also where an older file was open");
        remove_dir(layout.root())
    }

    #[test]
    fn the_owner_is_the_checkouts_whoever_calls() -> Result<()> {
        let root = std::env::temp_dir().join(format!("mz-owner-{}", std::process::id()));
        std::fs::create_dir_all(&root)?;
        if nix::unistd::geteuid().is_root() {
            chown(&root, Some(4711), Some(4712))?;
            assert_eq!(owner(&root)?, (4711, 4712));
        }
        remove_dir(&root)
    }
}
