//! What `/metrics` and `/readyz` of a scheduler say.
//!
//! What only the leader knows (hosts, roles, what can be placed) is gone from the page when another
//! one leads: there it stands.

use mizar_db::placement::condition::State;
use mizar_db::placement::state::Phase;
use mizar_metrics::{Check, Operated, Process, gauge, silent};
use mizar_wire::Scope;
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// From a look that finds nothing to a cluster that is placed anew.
const BUCKETS_S: [f64; 10] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0];

/// After this long without a word from the database a scheduler is not ready.
const SILENCE: Duration = Duration::from_secs(5);

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Loop {
    name: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct InState {
    state: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Role {
    role: &'static str,
    phase: &'static str,
}

/// Everything that is measured.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    process: Process,
    leading: Gauge,
    terms: Counter,
    failed: Family<Loop, Counter>,
    round: Histogram,
    hosts: Family<InState, Gauge>,
    roles: Family<Role, Gauge>,
    condition: Family<InState, Gauge>,
    repaired: Counter,
    collected: Counter,
    expired: Counter,
    /// When the database last answered.
    heard: Mutex<Option<Instant>>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::default();
        let process = Process::register(&mut registry);
        let own = Self {
            registry: Registry::default(),
            process,
            leading: Gauge::default(),
            terms: Counter::default(),
            failed: Family::default(),
            round: Histogram::new(BUCKETS_S),
            hosts: Family::default(),
            roles: Family::default(),
            condition: Family::default(),
            repaired: Counter::default(),
            collected: Counter::default(),
            expired: Counter::default(),
            heard: Mutex::default(),
        };
        let all = registry.sub_registry_with_prefix("mizar_scheduler");
        all.register("build", "The program", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
        all.register("leading", "Whether this scheduler leads", own.leading.clone());
        all.register("terms", "How often this scheduler began to lead", own.terms.clone());
        all.register("rounds_failed", "Rounds of a loop that failed and are repeated", own.failed.clone());
        let help = "Rounds of placement, from the look to what was written";
        all.register_with_unit("placement_round", help, Unit::Seconds, own.round.clone());
        all.register("hosts", "Hosts by what is judged of their leases", own.hosts.clone());
        all.register("roles", "Roles by kind and phase", own.roles.clone());
        all.register("condition", "Whether roles can be placed: 1 for the state that holds", own.condition.clone());
        all.register("entries_repaired", "Entries that the auditor found wrong", own.repaired.clone());
        all.register("tombstones_collected", "Tombstones that every agent has seen", own.collected.clone());
        all.register("audit_events_expired", "Audit events older than they are kept", own.expired.clone());
        Self { registry, ..own }
    }
}

impl Metrics {
    /// The database has answered.
    pub fn heard(&self) {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// This one leads, or does no more.
    pub fn leads(&self, leads: bool) {
        self.leading.set(leads.into());
        if leads {
            self.terms.inc();
        } else {
            self.hosts.clear();
            self.roles.clear();
            self.condition.clear();
        }
    }

    /// A round of one of the loops failed.
    pub fn failed(&self, name: &'static str) {
        self.failed.get_or_create_owned(&Loop { name }).inc();
    }

    /// A round of placement that had something to look at took so long.
    pub fn placed(&self, took: Duration) {
        self.round.observe(took.as_secs_f64());
    }

    /// How many hosts live, are lost, or are doubted.
    pub fn judged(&self, all: usize, lost: usize, doubted: usize) {
        let live = all.saturating_sub(lost).saturating_sub(doubted);
        for (state, count) in [("live", live), ("lost", lost), ("doubted", doubted)] {
            self.hosts.get_or_create_owned(&InState { state }).set(gauge(count));
        }
    }

    /// The roles that there are.
    pub fn roles(&self, roles: impl Iterator<Item = (Scope, Phase)>) {
        const PHASES: [(Phase, &str); 3] =
            [(Phase::Pending, "pending"), (Phase::Active, "active"), (Phase::Draining, "draining")];
        let mut counts = [[0; PHASES.len()]; 2];
        for (scope, phase) in roles {
            let of = usize::from(matches!(scope, Scope::Dividers(_)));
            if let Some(at) = PHASES.iter().position(|(known, _)| *known == phase) {
                counts[of][at] += 1;
            }
        }
        for (role, counts) in ["bouncer", "divider"].into_iter().zip(counts) {
            for ((_, phase), count) in PHASES.into_iter().zip(counts) {
                self.roles.get_or_create_owned(&Role { role, phase }).set(count);
            }
        }
    }

    /// What can be done at present.
    pub fn condition(&self, now: State) {
        for state in [State::Normal, State::Frozen, State::Nobody] {
            self.condition.get_or_create_owned(&InState { state: state.name() }).set((state == now).into());
        }
    }

    /// So many entries were wrong.
    pub fn repaired(&self, entries: usize) {
        self.repaired.inc_by(entries as u64);
    }

    /// So many tombstones were collected.
    pub fn collected(&self, tombstones: usize) {
        self.collected.inc_by(tombstones as u64);
    }

    /// So many audit events were older than they are kept.
    pub fn expired(&self, events: usize) {
        self.expired.inc_by(events as u64);
    }

    /// The text.
    pub fn encode(&self) -> Result<String, std::fmt::Error> {
        self.process.refresh();
        let mut text = String::new();
        text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

impl Operated for Metrics {
    async fn metrics(&self) -> Result<String, String> {
        self.encode().map_err(|error| error.to_string())
    }

    /// One that stands by is as ready as the one that leads.
    async fn checks(&self) -> Vec<Check> {
        let heard = *self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        vec![("database", silent(heard.map(|at| at.elapsed()), SILENCE))]
    }
}
