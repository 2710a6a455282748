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

mod doubt;
mod execute;
mod holders;
mod policies;
mod ports;
mod unproven;

pub use holders::{Forget, Holders};

use crate::dataplane::{Dataplane, PlaneError};
use crate::ledger::{Batch, Ledger};
use crate::links::Interface;
use crate::reports::Reports;
use crate::store::{Store, names, removed};
use mizar_plan::{Facts, Key, Op, Table};
use mizar_wire::sync::{Ack, PROTOCOL, SnapshotPage, SyncReply, SyncRequest};
use policies::Policies;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tokio::sync::{Notify, mpsc, watch};
use unproven::Unproven;
use uuid::Uuid;

/// Failures that one acknowledgement names: the API refuses more than 5,000, and what is beyond
/// says nothing new.
const FAILURES: usize = 1_000;

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

/// A snapshot under way.
#[derive(Debug, Default)]
pub struct Snapshot {
    seen: BTreeSet<(i64, u16, i16, String)>,
    start: Option<(String, String)>,
    /// Entries that there were before its first page.
    before: usize,
}

/// A page of a snapshot is of another epoch than the first: the database was restored between.
#[derive(Debug, thiserror::Error)]
#[error("the pages of a snapshot are of different epochs")]
pub struct OtherEpoch;

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
    /// Sets whose rules may not be what their generation says.
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
            doubt: false,
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

    /// Takes over what the predecessor left: its interfaces, and the maps if the ledger says what
    /// they should hold.
    pub fn take_over(&mut self, interfaces: Vec<Interface>) -> Result<(), PlaneError> {
        for interface in interfaces {
            self.attached.insert(interface.port, AttachedPort { interface, number: None });
        }
        // An interface keeps its program for as long as it is there, whoever its port belongs to:
        // without one its packets would go wherever the host routes them.
        let live = self.attached.values().map(|a| a.interface.made.ifindex).collect();
        self.plane.detach_others(&live)?;
        if self.store.complete { self.adopt() } else { Ok(()) }
    }

    /// Brings maps of any content to what is desired.
    fn adopt(&mut self) -> Result<(), PlaneError> {
        self.update_facts();
        self.reconcile_ports(None);
        let ops = self.difference()?;
        tracing::info!(entries = self.store.len(), operations = ops.len(), trusted = self.trusted, "maps adopted");
        self.execute(ops);
        if !self.adopted {
            self.engage()?;
        }
        // Rules may have changed while no agent looked.
        self.rules_changed.notify_one();
        self.settled = self.may_remove();
        if self.settled {
            // What was removed while no agent looked left its flows behind.
            let here = self.store.planner.ports().map(|port| port.number).collect();
            self.chore(Chore::Forget(Forget { others: Some(here), ..Forget::default() }));
        }
        self.report();
        Ok(())
    }

    /// What makes the maps, as they are, what they should be.
    fn difference(&mut self) -> Result<Vec<Op>, PlaneError> {
        let observed = self.dump()?;
        self.holders = Holders::default();
        observed.iter().for_each(|(key, value)| self.holders.observe(key, value));
        self.policies = Policies::default();
        for (key, value) in &observed {
            self.policies.put(key, value);
        }
        let mut ops = self.store.planner.adopt(&observed);
        self.withheld.clear();
        if !self.may_remove() {
            let stay = ops.iter().filter(|op| matches!(op, Op::Remove(_)));
            self.withheld = stay.filter_map(|op| op.key().set()).collect();
            ops.retain(|op| matches!(op, Op::Put(..)));
        }
        Ok(ops)
    }

    /// Whether what the desired state lacks may go, rather than only what was expressly removed.
    fn may_remove(&self) -> bool {
        self.trusted && !self.doubt
    }

    /// Removes what no answer of the API wants, once there is one; or adopts the maps, if that
    /// failed before.
    fn settle(&mut self) {
        let due = if self.adopted { !self.settled && self.may_remove() } else { self.store.complete };
        if due && let Err(error) = self.adopt() {
            tracing::error!(error = chain(&error), "the maps could not be adopted; it is tried again with every sync");
        }
    }

    /// Compares the maps with what they should hold and repairs them. Only a bug or a foreign
    /// hand makes a difference.
    pub fn audit(&mut self) -> Result<usize, PlaneError> {
        if !self.adopted {
            return Ok(0);
        }
        self.flush();
        let ops = self.difference()?;
        let repairs = ops.len();
        self.execute(ops);
        Ok(repairs)
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

    /// The API has told the host's number.
    pub fn registered(&mut self, number: u32) {
        if self.store.number != Some(number) {
            let batch = Batch {
                number: Some(number),
                epoch: self.store.epoch.clone(),
                cursor: self.store.cursor.clone(),
                ..Batch::default()
            };
            self.apply(batch);
            self.update_facts();
            self.flush();
        }
        self.api_seen = Some(Instant::now());
    }

    /// Ledger first, then the planner; maps at the next flush.
    fn apply(&mut self, mut batch: Batch) -> BTreeSet<Uuid> {
        let cursor = batch.cursor.clone();
        if self.doubt {
            // A restart shall ask for a snapshot again.
            batch.cursor = None;
        }
        self.write_ledger(&batch);
        let ports = self.store.apply(&batch);
        self.store.cursor = cursor;
        ports
    }

    fn write_ledger(&mut self, batch: &Batch) {
        let rewrite = self.ledger_gap || self.ledger.is_bloated();
        let written = if rewrite {
            let cursor = self.store.cursor.clone().filter(|_| !self.doubt);
            self.ledger.rewrite(&self.store.to_batches(cursor)).and_then(|()| self.ledger.append(batch))
        } else {
            self.ledger.append(batch)
        };
        if let Err(error) = &written
            && !self.ledger_gap
        {
            tracing::error!(%error, "the ledger cannot be written; a restart would begin with what it holds");
        }
        self.ledger_gap = written.is_err();
    }

    /// A handle to flush the ledger with, in the background.
    pub fn ledger_flusher(&self) -> std::io::Result<std::fs::File> {
        self.ledger.flusher()
    }

    /// Bytes in the ledger.
    pub fn ledger_size(&self) -> u64 {
        self.ledger.size()
    }

    /// Changes from a sync. True if there were any.
    pub fn sync(&mut self, reply: SyncReply) -> bool {
        let news = !(reply.changes.is_empty() && reply.scopes_added.is_empty() && reply.scopes_dropped.is_empty());
        let ports = self.apply(Batch {
            number: None,
            epoch: Some(reply.epoch),
            cursor: Some(reply.cursor),
            complete: self.store.complete,
            dropped: reply.scopes_dropped,
            added: reply.scopes_added,
            changes: reply.changes,
        });
        self.trusted = true;
        self.reconcile_ports(Some(&ports).filter(|_| self.settled));
        // Without news too: operations that failed are repeated.
        self.flush();
        self.settle();
        self.report();
        if news {
            self.changed.send_modify(|n| *n += 1);
        }
        news
    }

    /// A page of a snapshot: additions only.
    pub fn page(&mut self, snapshot: &mut Snapshot, page: SnapshotPage) -> Result<(), OtherEpoch> {
        if snapshot.start.is_none() {
            snapshot.before = self.store.len();
        }
        let start = snapshot.start.get_or_insert_with(|| (page.epoch.clone(), page.cursor.clone()));
        if start.0 != page.epoch {
            return Err(OtherEpoch);
        }
        snapshot.seen.extend(names(&page.entries));
        self.unproven = Unproven::All;
        let ports = self.apply(Batch {
            epoch: Some(page.epoch),
            complete: self.store.complete,
            changes: page.entries,
            ..Batch::default()
        });
        self.reconcile_ports(Some(&ports));
        self.flush();
        self.changed.send_modify(|n| *n += 1);
        Ok(())
    }

    /// After the last page: everything that the snapshot did not bring goes, unless that is too
    /// much to be believed and nobody confirmed it.
    pub fn prune(&mut self, snapshot: Snapshot, confirmed: bool) -> Result<(), PlaneError> {
        let Some((epoch, cursor)) = snapshot.start.clone() else { return Ok(()) };
        let mut prune = self.store.prune(&snapshot.seen);
        self.doubt = self.doubts(&snapshot, &prune, confirmed)?;
        self.unproven = Unproven::None;
        if self.doubt {
            let going = prune.iter().filter_map(|change| removed(&self.store, change));
            self.unproven = Unproven::Of(going.flat_map(|body| self.store.planner.sets_by(body)).collect());
            prune.clear();
        }
        self.trusted = true;
        let complete = self.store.complete || !self.doubt;
        self.apply(Batch { epoch: Some(epoch), cursor: Some(cursor), complete, changes: prune, ..Batch::default() });
        if self.adopted {
            self.reconcile_ports(None);
            self.flush();
            self.settle();
            self.report();
        } else if !self.doubt {
            self.adopt()?;
        }
        self.changed.send_modify(|n| *n += 1);
        Ok(())
    }

    /// Whether entries are kept that the last snapshot did not have.
    pub fn is_in_doubt(&self) -> bool {
        self.doubt
    }

    /// Forgets the cursor: the next sync leads to a snapshot.
    pub fn forget_cursor(&mut self) {
        self.store.cursor = None;
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

    /// The next request. What it acknowledges is in force.
    pub fn request(&self, wait_s: u32) -> SyncRequest {
        let (ports, ports_complete) = self.reports.next();
        let cursor = self.store.cursor.clone();
        let failures = || {
            let mut failures = self.store.failures();
            failures.truncate(FAILURES);
            failures
        };
        let ack = cursor.clone().filter(|_| self.adopted).map(|cursor| Ack { cursor, failures: failures() });
        SyncRequest {
            protocol: PROTOCOL,
            abi: mizar_abi::ABI,
            boot_id: self.identity.boot_id.clone(),
            epoch: self.store.epoch.clone().filter(|_| cursor.is_some()),
            cursor,
            wait_s,
            ack,
            ports,
            ports_complete,
        }
    }

    /// A request was answered with 200.
    pub fn answered(&mut self, request: &SyncRequest) {
        self.reports.answered(&request.ports, request.ports_complete);
        self.api_seen = Some(Instant::now());
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
