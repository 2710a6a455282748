//! A sandbox for tests, and what scenarios ask of it.

use crate::tenant::Tenant;
use anyhow::{Context, Result, bail, ensure};
use mizar::client::Api;
use mizar::devel::root;
use mizar::sandbox::layout::Layout;
use mizar::sandbox::process::wait_until;
use mizar::sandbox::progress::{Progress, seconds};
use mizar::sandbox::services::built_bpf_object;
use mizar::sandbox::settings::Settings;
use mizar::sandbox::{self, Sandbox};
use mizar_abi::reason::{Counter, Drop};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Maps that hold something on a host without ports: configuration, hosts, counts.
const STANDING_MAPS: [&str; 5] = ["CFG", "HOSTS", "DROPS", "COUNTERS", "EVENTS"];

/// How long to wait for an ordinary change: far longer than it takes, since what is asked is whether
/// it comes, and others may keep the machine busy.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Within this time after the last deletion nothing of it is left in any map.
const GONE: Duration = Duration::from_secs(5);

/// A sandbox with a client of its administrator.
pub struct Bed {
    /// The sandbox.
    pub sandbox: Sandbox,
    /// The administrator.
    pub admin: Api,
    tenants: AtomicU32,
    emptied: Option<Emptied>,
}

/// How long it took after the last deletion until every map was empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Emptied {
    /// The time.
    pub after: Duration,
    /// What it had to be within, the machine being as busy as it was.
    pub within: Duration,
}

/// Settings of tests: four hosts, none preferred, no waiting for the disk.
pub fn settings() -> Settings {
    Settings { prefer_last: false, durable: false, bpf_object: built_bpf_object(&root()), ..Settings::default() }
}

/// A time that is promised of a machine with room to spare, on this one as it is now: longer by as
/// much as there are more tasks that would run than processors.
pub fn stretched(time: Duration) -> Result<Duration> {
    let load = std::fs::read_to_string("/proc/loadavg")?;
    let waiting: f64 = load.split(' ').next().context("no load")?.parse()?;
    let processors = std::thread::available_parallelism()?.get();
    Ok(time.mul_f64((waiting / processors as f64).clamp(1.0, 8.0)))
}

impl Bed {
    /// Starts this checkout's sandbox of this name; what a killed run left of it goes first.
    pub fn up(name: &str, settings: Settings) -> Result<Self> {
        let layout = Layout::of_checkout(&root(), name)?;
        sandbox::down(&layout, false, Progress::Silent).context("what an earlier run left cannot be removed")?;
        let sandbox = match Sandbox::up(layout.clone(), settings, Progress::Silent) {
            Ok(sandbox) => sandbox,
            Err(error) => {
                sandbox::down(&layout, true, Progress::Silent)?;
                return Err(error);
            }
        };
        Ok(Self { admin: sandbox.admin()?, sandbox, tenants: AtomicU32::new(0), emptied: None })
    }

    /// Takes it down; logs stay if they are needed.
    pub fn down(self, keep_logs: bool) -> Result<()> {
        sandbox::down(self.sandbox.layout(), keep_logs, Progress::Silent)
    }

    /// Runs one scenario, deletes all that its tenants have, and wants every map empty after.
    pub fn run(&mut self, scenario: fn(&Self) -> Result<()>) -> Result<()> {
        let result = scenario(self);
        let cleaned = self.clean();
        result?;
        cleaned.context("after the scenario")
    }

    fn clean(&mut self) -> Result<()> {
        for service in self.sandbox.services() {
            self.sandbox.start(&service)?;
        }
        for index in 0..std::mem::take(self.tenants.get_mut()) {
            Tenant::reopen(self, index)?.remove()?;
        }
        let deleted = Instant::now();
        self.transit_on(&(0..self.sandbox.hosts().len()).collect::<Vec<_>>())?;
        let within = stretched(GONE)?;
        self.maps_empty_within(within.saturating_sub(deleted.elapsed()))?;
        self.emptied = self.emptied.max(Some(Emptied { after: deleted.elapsed(), within }));
        Ok(())
    }

    /// The longest that it took after any scenario; `None`: after none.
    pub fn emptied(&self) -> Option<Emptied> {
        self.emptied
    }

    /// A new tenant.
    pub fn tenant(&self) -> Result<Tenant<'_>> {
        Tenant::create(self, self.tenants.fetch_add(1, Ordering::Relaxed))
    }

    /// Name of the host at `index`, from 0.
    pub fn host(&self, index: usize) -> &str {
        &self.sandbox.hosts()[index].name
    }

    /// Only these hosts may carry transit roles from now on.
    pub fn transit_on(&self, hosts: &[usize]) -> Result<()> {
        for (index, host) in self.sandbox.hosts().iter().enumerate() {
            let label = if hosts.contains(&index) { "yes" } else { "no" };
            self.admin.label_host(&host.name, label)?;
        }
        Ok(())
    }

    /// A counter of one host.
    pub fn counter(&self, host: usize, counter: Counter) -> Result<u64> {
        let status = self.sandbox.agent(self.host(host)).status()?;
        let counted = status.counters.get(counter.name()).copied();
        counted.with_context(|| format!("{} does not count {}", status.host, counter.name()))
    }

    /// A counter, all hosts together.
    pub fn total(&self, counter: Counter) -> Result<u64> {
        (0..self.sandbox.hosts().len()).map(|host| self.counter(host, counter)).sum()
    }

    /// Packets of a host dropped for a reason.
    pub fn drops(&self, host: usize, reason: Drop) -> Result<u64> {
        let status = self.sandbox.agent(self.host(host)).status()?;
        Ok(status.drops.get(reason.name()).copied().unwrap_or_default())
    }

    /// Waits until no host holds anything of any port, network or flow.
    pub fn maps_empty_within(&self, patience: Duration) -> Result<()> {
        let mut left = BTreeMap::new();
        let mut failed = None;
        let done = wait_until(patience, || match self.left_in_maps() {
            Ok(now) => {
                left = now;
                left.is_empty()
            }
            Err(error) => {
                failed = Some(error);
                true
            }
        });
        if let Some(error) = failed {
            return Err(error);
        }
        ensure!(done.is_some(), "left in maps after {}: {left:?}", seconds(patience));
        Ok(())
    }

    fn left_in_maps(&self) -> Result<BTreeMap<String, usize>> {
        let mut left = BTreeMap::new();
        for host in self.sandbox.hosts() {
            let status = self.sandbox.agent(&host.name).status()?;
            if status.maps.is_empty() {
                bail!("{} reports no maps", host.name);
            }
            for (map, entries) in status.maps {
                if entries > 0 && !STANDING_MAPS.contains(&map.as_str()) {
                    left.insert(format!("{}/{map}", host.name), entries);
                }
            }
        }
        Ok(left)
    }

    /// Waits for a condition; `what` says which in the error.
    pub fn wait(&self, what: &str, mut done: impl FnMut() -> Result<bool>) -> Result<()> {
        let mut failed = None;
        let waited = wait_until(PATIENCE, || match done() {
            Ok(done) => done,
            Err(error) => {
                failed = Some(error);
                true
            }
        });
        if let Some(error) = failed {
            return Err(error.context(what.to_owned()));
        }
        ensure!(waited.is_some(), "not within {} s: {what}", PATIENCE.as_secs());
        Ok(())
    }
}
