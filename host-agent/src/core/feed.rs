//! What the API says, on its way into the ledger, the desired state and the maps; and what it is told.

use super::Core;
use super::unproven::Unproven;
use crate::dataplane::PlaneError;
use crate::ledger::Batch;
use crate::store::names;
use mizar_wire::sync::{Ack, PROTOCOL, SnapshotPage, SyncReply, SyncRequest};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;
use uuid::Uuid;

/// Failures that one acknowledgement names: the API refuses more than 5,000, and what is beyond
/// says nothing new.
const FAILURES: usize = 1_000;

/// A snapshot under way.
#[derive(Debug, Default)]
pub struct Snapshot {
    seen: BTreeSet<(i64, u16, i16, String)>,
    start: Option<(String, String)>,
    /// Entries that there were before its first page.
    pub(super) before: usize,
}

/// A page of a snapshot is of another epoch than the first: the database was restored between.
#[derive(Debug, thiserror::Error)]
#[error("the pages of a snapshot are of different epochs")]
pub struct OtherEpoch;

impl Core {
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
            // A restart shall ask for a snapshot again, and believe it no sooner than this process.
            batch.cursor = None;
            batch.doubted = true;
        }
        self.unproven.hear(&batch.changes);
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
            ..Batch::default()
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

    /// What is said of sets, for a successor whose maps are empty.
    fn generations(&self) -> BTreeMap<u32, u32> {
        if self.adopted { self.policies.generations() } else { self.store.said.clone() }
    }

    /// A page of a snapshot: additions only.
    pub fn page(&mut self, snapshot: &mut Snapshot, page: SnapshotPage) -> Result<(), OtherEpoch> {
        let mut said = BTreeMap::new();
        if snapshot.start.is_none() {
            snapshot.before = self.store.len();
            said = self.generations();
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
            said,
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
        self.unproven = if self.doubt { Unproven::by(std::mem::take(&mut prune)) } else { Unproven::None };
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
}
