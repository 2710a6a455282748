//! The middle of the agent: desired state in, operations out.
//!
//! Everything that changes what this host forwards goes through [`Core`], one step at a time:
//! batches from the feed, interfaces that came or went. It does no waiting: map operations take
//! microseconds; interfaces are made and removed by others, who tell it.
//!
//! Until the desired state is known to be complete (from the ledger, or after the first
//! snapshot), nothing is written to the maps at all: an agent that has lost its ledger forwards
//! what its predecessor programmed until it knows better.
//!
//! What is only in the ledger may be stale: from it alone entries are added and updated. Interfaces
//! and map entries that it does not know go once the API has answered this process.

mod adoption;
mod doubt;
mod execute;
mod feed;
mod holders;
mod policies;
mod ports;
mod unproven;

pub use feed::{OtherEpoch, Snapshot};
pub use holders::{Forget, Holders};

use crate::dataplane::{Dataplane, PlaneError};
use crate::ledger::{Batch, Ledger};
use crate::links::Interface;
use crate::reports::Reports;
use crate::store::Store;
use mizar_plan::{Facts, Key, Table};
use policies::Policies;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tokio::sync::{Notify, mpsc, watch};
use unproven::Unproven;
use uuid::Uuid;

/// Work that follows from a step, for those who may wait.
#[derive(Debug, PartialEq, Eq)]
pub enum Chore {
    /// An interface of ours serves no port any more.
    RemoveInterface(Interface),
    /// Ports or addresses are no longer here: flows, and whatever else names them, go.
    Forget(Forget),
    /// Ports are in other groups now: those with whom they have flows hear of it.
    Introduce(BTreeSet<u32>),
}

/// What is known of the host before it is registered.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Its name.
    pub host: String,
    /// The kernel's boot id.
    pub boot_id: String,
    /// Underlay address.
    pub underlay: Ipv4Addr,
    /// Interface index of the uplink.
    pub uplink: u32,
    /// MTU of the uplink.
    pub mtu: u32,
    /// Whether XDP can send out of the uplink what came in there: a NIC can, a veth cannot.
    pub xdp_tx: bool,
}

/// An interface that serves a port.
#[derive(Clone, Debug)]
pub struct AttachedPort {
    /// The interface.
    pub interface: Interface,
    /// Number under which it is wired in the planner.
    number: Option<u32>,
}

/// The state of the agent.
pub struct Core {
    identity: Identity,
    store: Store,
    plane: Box<dyn Dataplane>,
    ledger: Ledger,
    /// An append failed: the ledger must be rewritten before it can go on.
    ledger_gap: bool,
    tai_offset: i32,
    attached: BTreeMap<Uuid, AttachedPort>,
    holders: Holders,
    reports: Reports,
    /// The maps are ours: what is desired is in them.
    adopted: bool,
    /// The API has answered this process: what the ledger knows is no longer all there is.
    trusted: bool,
    /// Since it did, what is not desired was removed from the maps.
    settled: bool,
    /// A snapshot would have taken too much: nothing goes until one confirms it.
    doubt: bool,
    /// The policies in force.
    policies: Policies,
    /// Sets of groups of which the maps hold rules that nobody wants and that may not go yet.
    withheld: BTreeSet<u32>,
    /// Rules that may be more or less than their sets' generations say.
    unproven: Unproven,
    rules_changed: Arc<Notify>,
    /// Keys whose last write failed, to log each failure once.
    failing: BTreeSet<Key>,
    chores: mpsc::UnboundedSender<Chore>,
    changed: watch::Sender<u64>,
    news: Arc<Notify>,
    /// When the API last answered.
    pub api_seen: Option<Instant>,
}

/// The core, shared by the agent's tasks.
#[derive(Clone)]
pub struct Shared(Arc<Mutex<Core>>);

impl Shared {
    /// Shares it.
    pub fn new(core: Core) -> Self {
        Self(Arc::new(Mutex::new(core)))
    }

    /// Waits for nobody longer than a few map operations. A task that panicked with the core in
    /// its hands left a state that the next plan repairs.
    pub fn lock(&self) -> MutexGuard<'_, Core> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Core {
    /// An agent that has read its ledger and touched nothing yet.
    pub fn new(
        identity: Identity,
        plane: Box<dyn Dataplane>,
        ledger: Ledger,
        batches: &[Batch],
        chores: mpsc::UnboundedSender<Chore>,
    ) -> Self {
        let mut store = Store::default();
        for batch in batches {
            store.apply(batch);
        }
        // The predecessor ended while a snapshot was under way, or doubted.
        let unproven = if store.cursor.is_some() { Unproven::None } else { Unproven::All };
        let doubt = store.doubted;
        Self {
            identity,
            store,
            plane,
            ledger,
            ledger_gap: false,
            tai_offset: 0,
            attached: BTreeMap::new(),
            holders: Holders::default(),
            reports: Reports::default(),
            adopted: false,
            trusted: false,
            settled: false,
            doubt,
            policies: Policies::default(),
            withheld: BTreeSet::new(),
            unproven,
            rules_changed: Arc::new(Notify::new()),
            failing: BTreeSet::new(),
            chores,
            changed: watch::Sender::new(0),
            news: Arc::new(Notify::new()),
            api_seen: None,
        }
    }

    fn update_facts(&mut self) {
        if let Some(number) = self.store.number {
            self.store.planner.set_facts(Facts {
                number,
                underlay: self.identity.underlay,
                uplink: self.identity.uplink,
                mtu: self.identity.mtu,
                xdp_tx: self.identity.xdp_tx,
                tai_offset: self.tai_offset,
            });
        }
    }

    /// Seconds that the kernel's TAI clock is ahead of UTC.
    pub fn set_tai_offset(&mut self, seconds: i32) {
        if self.tai_offset != seconds {
            self.tai_offset = seconds;
            self.update_facts();
            self.flush();
        }
    }

    /// A handle to flush the ledger with, in the background.
    pub fn ledger_flusher(&self) -> std::io::Result<std::fs::File> {
        self.ledger.flusher()
    }

    /// Bytes in the ledger.
    pub fn ledger_size(&self) -> u64 {
        self.ledger.size()
    }

    fn chore(&self, chore: Chore) {
        // The receiver is gone only while the agent ends.
        let _ = self.chores.send(chore);
    }

    /// Executes what the planner wants.
    fn flush(&mut self) {
        if self.adopted {
            let ops = self.store.planner.flush();
            self.execute(ops);
        }
    }

    /// Whether interfaces wait to be reported.
    pub fn has_reports(&self) -> bool {
        self.reports.is_pending()
    }

    /// Notified when a report waits.
    pub fn news(&self) -> Arc<Notify> {
        self.news.clone()
    }

    /// Notified when rules changed under flows that were allowed by them.
    pub fn rules_changed(&self) -> Arc<Notify> {
        self.rules_changed.clone()
    }

    /// Changes with every batch.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// The desired state.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// What is known of the host.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Ports with an interface.
    pub fn attached(&self) -> &BTreeMap<Uuid, AttachedPort> {
        &self.attached
    }

    /// Everything in the planned maps, as they are.
    pub fn dump(&self) -> Result<Vec<(Key, mizar_plan::Value)>, PlaneError> {
        let mut all = Vec::new();
        for table in Table::ALL {
            all.extend(self.plane.dump(table)?);
        }
        Ok(all)
    }
}

/// An error with everything that caused it, in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text = format!("{text}: {inner}");
        source = inner.source();
    }
    text
}
