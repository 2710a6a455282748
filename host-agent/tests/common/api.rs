//! An API in memory, with the semantics of the agent protocol: what the agent under test follows.

use mizar_agent::sync::source::{SourceError, StateSource};
use mizar_wire::ask::{Poll, Questions};
use mizar_wire::body::Body;
use mizar_wire::entry::Change;
use mizar_wire::sync::{PortWiring, Register, Registered, ScopeRange, SnapshotPage, SyncReply, SyncRequest};
use mizar_wire::{EntryKey, Scope};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};
use tokio::sync::watch;

/// Everything that the API holds of one host.
#[derive(Default)]
pub struct State {
    revision: u64,
    epoch: u32,
    /// Entries and removals, with the revision that made them.
    entries: BTreeMap<EntryKey, (u64, Option<Body>)>,
    /// Ports that the host reported wired, by number.
    pub wired: BTreeMap<u32, u32>,
    /// The last acknowledged revision, and what failed.
    pub acked: u64,
    pub failures: Vec<String>,
    /// Requests that were answered.
    pub syncs: usize,
    /// Fail every request like this.
    pub outage: Option<fn() -> SourceError>,
    /// Snapshots carry the operator's confirmation.
    pub confirmed: bool,
}

/// The API.
#[derive(Clone)]
pub struct Api {
    /// The host's number.
    pub number: u32,
    state: Arc<Mutex<State>>,
    revision: watch::Sender<u64>,
}

impl Api {
    pub fn new() -> Self {
        Self::of(super::world::HOST)
    }

    /// One whose cloud has these ports.
    pub fn with_ports(ports: &[u32]) -> Self {
        let api = Self::new();
        api.put(super::world::cloud());
        for port in ports {
            api.put(super::world::port(*port, 1));
        }
        api
    }

    /// What another host would follow.
    pub fn of(number: u32) -> Self {
        Self { number, state: Arc::default(), revision: watch::Sender::new(0) }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn change(&self, entries: impl IntoIterator<Item = (EntryKey, Option<Body>)>) -> u64 {
        let mut state = self.state();
        state.revision += 1;
        let revision = state.revision;
        for (key, body) in entries {
            state.entries.insert(key, (revision, body));
        }
        drop(state);
        self.revision.send_replace(revision);
        revision
    }

    /// Upserts entries in one step; returns its revision.
    pub fn put(&self, entries: impl IntoIterator<Item = (EntryKey, Body)>) -> u64 {
        self.change(entries.into_iter().map(|(k, b)| (k, Some(b))))
    }

    /// Removes entries in one step.
    pub fn remove(&self, keys: impl IntoIterator<Item = EntryKey>) -> u64 {
        self.change(keys.into_iter().map(|k| (k, None)))
    }

    /// A restore from backup: cursors of before mean nothing, removals are forgotten, and so are
    /// these entries.
    pub fn restore(&self, lost: impl IntoIterator<Item = EntryKey>) {
        let mut state = self.state();
        state.epoch += 1;
        for key in lost {
            state.entries.remove(&key);
        }
        state.entries.retain(|_, (_, body)| body.is_some());
        drop(state);
        self.revision.send_modify(|r| *r += 0);
    }

    fn fail(&self) -> Result<(), SourceError> {
        self.state().outage.map_or(Ok(()), |make| Err(make()))
    }
}

/// As it travels.
pub fn change(key: &EntryKey, body: Option<&Body>) -> Change {
    Change {
        scope: key.scope.to_i64(),
        slot: key.slot,
        kind: key.kind as i16,
        key: key.key.iter().map(|b| format!("{b:02x}")).collect(),
        body: body.map(|b| serde_json::from_slice(&b.to_bytes()).unwrap()),
    }
}

impl StateSource for Api {
    async fn register(&self, _: &Register) -> Result<Registered, SourceError> {
        self.fail()?;
        Ok(Registered { number: self.number, lease_s: 30 })
    }

    async fn sync(&self, request: &SyncRequest) -> Result<SyncReply, SourceError> {
        self.fail()?;
        let mut revisions = self.revision.subscribe();
        let since = {
            let mut state = self.state();
            if request.ports_complete {
                state.wired.clear();
            }
            for PortWiring { port, generation } in &request.ports.wired {
                state.wired.insert(*port, *generation);
            }
            for PortWiring { port, .. } in &request.ports.lost {
                state.wired.remove(port);
            }
            if let Some(ack) = &request.ack {
                state.acked = ack.cursor.parse().unwrap();
                state.failures = ack.failures.iter().map(|f| f.reason.clone()).collect();
            }
            state.syncs += 1;
            match &request.cursor {
                Some(cursor) if request.epoch == Some(state.epoch.to_string()) => cursor.parse::<u64>().unwrap(),
                _ => return Err(SourceError::Gone),
            }
        };
        let news = revisions.wait_for(|r| *r > since);
        let _ = tokio::time::timeout(Duration::from_secs(request.wait_s.into()), news).await;
        self.fail()?;
        let state = self.state();
        let changes = state.entries.iter().filter(|(_, (r, _))| *r > since).map(|(k, (_, b))| change(k, b.as_ref()));
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        Ok(SyncReply {
            epoch: state.epoch.to_string(),
            cursor: state.revision.to_string(),
            server_ms: now.as_millis() as i64,
            changes: changes.collect(),
            scopes_added: vec![],
            scopes_dropped: vec![],
        })
    }

    async fn snapshot(&self, after: Option<&str>) -> Result<SnapshotPage, SourceError> {
        self.fail()?;
        let state = self.state();
        let from = after.map_or(0, |a| a.parse::<usize>().unwrap());
        let live: Vec<_> = state.entries.iter().filter(|(_, (_, b))| b.is_some()).collect();
        // Small pages, so that there are several.
        let page: Vec<Change> = live.iter().skip(from).take(3).map(|(k, (_, b))| change(k, b.as_ref())).collect();
        let end = from + page.len();
        Ok(SnapshotPage {
            epoch: state.epoch.to_string(),
            cursor: state.revision.to_string(),
            scopes: vec![ScopeRange { scope: Scope::Cluster.to_i64(), lo: 0, hi: 4095 }],
            entries: page,
            next: (end < live.len()).then(|| end.to_string()),
            confirmed: state.confirmed,
        })
    }

    /// Nobody asks anything here.
    async fn questions(&self, _: &Poll) -> Result<Questions, SourceError> {
        std::future::pending().await
    }
}
