//! The last minute of the feed in memory, and who receives what: agents that are caught up are
//! served from here without SQL (CONTROLPLANE S3).
//!
//! The ring holds every row that its `floor` does not see, so it can continue any cursor that
//! covers the floor. It is filtered by the *agent's* cursor, never by its own position: an agent
//! may have been served by another replica in between.
//!
//! A host whose scopes changed after the agent's cursor needs whole scopes, whose entries are not
//! in the ring: it is sent to the tables.

use super::cursor::Cursor;
use super::scopes::{Effective, IncludeRow, Structure, Subscription};
use super::tail::{Batch, Row};
use super::{FeedError, MOST_CHANGES, News, change};
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How far back the ring reaches.
pub const SPAN: Duration = Duration::from_secs(60);

/// Bytes of rows that it holds at most.
pub const BYTES: usize = 64 << 20;

/// What a row costs beyond its key and body, about.
const ROW_BYTES: usize = 128;

#[derive(Debug)]
struct Kept {
    /// Sees the batch's rows and all before.
    cursor: Cursor,
    entries: Vec<Arc<Row>>,
    /// Hosts whose scopes may have changed.
    restructured: HashSet<i32>,
    at: Instant,
    bytes: usize,
}

/// See the module.
#[derive(Debug)]
pub struct Ring {
    epoch: String,
    floor: Cursor,
    latest: Cursor,
    batches: VecDeque<Kept>,
    bytes: usize,
    structure: Structure,
    effective: HashMap<i32, Arc<Effective>>,
}

/// What the ring can do for an agent.
#[derive(Debug)]
pub enum Served {
    /// Something new for it.
    News(News),
    /// It is caught up: wait, and if time is up give it this cursor.
    Nothing(Cursor),
    /// It has seen more than this replica: wait until the tail has caught up with it.
    Behind,
    /// The tables must be read.
    Tables,
}

impl Ring {
    /// An empty ring that continues from a cursor, with the subscriptions and includes that the
    /// cursor sees.
    pub fn new(epoch: String, cursor: Cursor, structure: Structure) -> Self {
        Self {
            epoch,
            floor: cursor.clone(),
            latest: cursor,
            batches: VecDeque::new(),
            bytes: 0,
            structure,
            effective: HashMap::new(),
        }
    }

    /// Which history it follows.
    pub fn epoch(&self) -> &str {
        &self.epoch
    }

    /// How far it has read.
    pub fn latest(&self) -> &Cursor {
        &self.latest
    }

    /// Adds what the tail read from [`Ring::latest`] on; returns the hosts that it concerns.
    pub fn push(&mut self, batch: Batch, now: Instant) -> HashSet<i32> {
        self.latest = batch.cursor.clone();
        let restructured = self.restructure(&batch.subscriptions, &batch.includes);
        let mut concerned = restructured.clone();
        let places: HashSet<(i64, u16)> = batch.entries.iter().map(|row| (row.scope, row.slot)).collect();
        for (scope, slot) in places {
            concerned.extend(self.structure.receivers_of_slot(scope, slot));
        }
        if !batch.entries.is_empty() || !restructured.is_empty() {
            let size = |row: &Arc<Row>| ROW_BYTES + row.key.len() + row.body.as_ref().map_or(0, Vec::len);
            let bytes = batch.entries.iter().map(size).sum::<usize>() + restructured.len() * ROW_BYTES;
            self.bytes += bytes;
            self.batches.push_back(Kept { cursor: batch.cursor, entries: batch.entries, restructured, at: now, bytes });
        }
        self.forget(now);
        concerned
    }

    fn restructure(
        &mut self,
        subscriptions: &[(i32, Subscription, bool)],
        includes: &[(IncludeRow, bool)],
    ) -> HashSet<i32> {
        let mut hosts = HashSet::new();
        for &(host, row, live) in subscriptions {
            hosts.insert(host);
            if live {
                self.structure.subscribe(host, row);
            } else {
                self.structure.unsubscribe(host, row);
            }
        }
        // Before and after: one include may hang on another of the same batch, in either order.
        for &(row, _) in includes {
            hosts.extend(self.structure.receivers(row.scope));
        }
        for &(row, live) in includes {
            if live {
                self.structure.include(row);
            } else {
                self.structure.exclude(row);
            }
        }
        for &(row, _) in includes {
            hosts.extend(self.structure.receivers(row.scope));
        }
        for host in &hosts {
            self.effective.remove(host);
        }
        hosts
    }

    fn forget(&mut self, now: Instant) {
        while let Some(oldest) = self.batches.front() {
            if self.bytes <= BYTES && now.saturating_duration_since(oldest.at) <= SPAN {
                return;
            }
            self.bytes -= oldest.bytes;
            self.floor = oldest.cursor.clone();
            self.batches.pop_front();
        }
    }

    /// What `host` has not seen.
    pub fn serve(&mut self, host: i32, epoch: Option<&str>, cursor: &Cursor) -> Result<Served, FeedError> {
        if epoch != Some(self.epoch.as_str()) || !cursor.covers(&self.floor) {
            return Ok(Served::Tables);
        }
        if !self.latest.covers(cursor) {
            return Ok(Served::Behind);
        }
        let first = self.batches.partition_point(|kept| cursor.covers(&kept.cursor));
        let unseen = self.batches.range(first..);
        if unseen.clone().any(|kept| kept.restructured.contains(&host)) {
            return Ok(Served::Tables);
        }
        let effective = match self.effective.get(&host) {
            Some(known) => Arc::clone(known),
            None => {
                let known = Arc::new(self.structure.effective(host));
                self.effective.insert(host, Arc::clone(&known));
                known
            }
        };
        // Of several versions the last read is the newest, whatever their transactions' numbers.
        let mut newest: BTreeMap<(i64, u16, i16, &[u8]), &Row> = BTreeMap::new();
        for row in unseen.flat_map(|kept| &kept.entries) {
            if effective.get(&row.scope).is_some_and(|slots| slots.contains(row.slot)) {
                newest.insert((row.scope, row.slot, row.kind, &row.key), row);
            }
        }
        newest.retain(|_, row| !cursor.sees(row.xid));
        if newest.is_empty() {
            return Ok(Served::Nothing(self.latest.clone()));
        }
        if newest.len() > MOST_CHANGES {
            return Ok(Served::Tables);
        }
        let changes = newest.values().map(|row| change(row)).collect::<Result<_, _>>()?;
        Ok(Served::News(News {
            cursor: self.latest.clone(),
            epoch: self.epoch.clone(),
            changes,
            added: vec![],
            dropped: vec![],
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feed::slots::LAST;

    fn cursor(text: &str) -> Cursor {
        text.parse().expect("a cursor")
    }

    fn row(scope: i64, slot: u16, key: u8, body: &str, xid: i64) -> Arc<Row> {
        Arc::new(Row { scope, slot, kind: 7, key: vec![key], body: Some(body.into()), xid })
    }

    fn batch(at: &str, entries: Vec<Arc<Row>>) -> Batch {
        Batch {
            cursor: cursor(at),
            epoch: String::new(),
            entries,
            subscriptions: vec![],
            includes: vec![],
            overflow: false,
        }
    }

    /// Host 1 receives scope 10 whole, host 2 its slots 0 to 99; scope 10 needs scope 20.
    fn ring() -> Ring {
        let mut structure = Structure::default();
        structure.subscribe(1, Subscription { scope: 10, lo: 0, hi: LAST, role: 1 });
        structure.subscribe(2, Subscription { scope: 10, lo: 0, hi: 99, role: 2 });
        structure.include(IncludeRow { scope: 10, slot: None, target: 20 });
        Ring::new("e".into(), cursor("5:5:"), structure)
    }

    fn keys(served: Served) -> Vec<String> {
        match served {
            Served::News(news) => news.changes.into_iter().map(|change| change.key).collect(),
            other => panic!("no news: {other:?}"),
        }
    }

    #[test]
    fn a_change_wakes_and_reaches_those_who_receive_its_slot() {
        let mut ring = ring();
        let woken = ring.push(batch("6:6:", vec![row(10, 100, 1, "1", 5)]), Instant::now());
        assert_eq!(woken, HashSet::from([1]));
        assert_eq!(keys(ring.serve(1, Some("e"), &cursor("5:5:")).expect("served")), ["01"]);
        assert!(matches!(ring.serve(2, Some("e"), &cursor("5:5:")), Ok(Served::Nothing(_))));
    }

    #[test]
    fn an_included_scope_reaches_every_holder() {
        let mut ring = ring();
        let woken = ring.push(batch("6:6:", vec![row(20, 0, 1, "1", 5)]), Instant::now());
        assert_eq!(woken, HashSet::from([1, 2]));
        assert_eq!(keys(ring.serve(2, Some("e"), &cursor("5:5:")).expect("served")), ["01"]);
    }

    #[test]
    fn a_row_that_the_agent_saw_elsewhere_is_not_sent_again() {
        let mut ring = ring();
        // Transactions 5 and 6; another replica read while 6 was running, and sent 5.
        ring.push(batch("7:7:", vec![row(10, 0, 1, "1", 5), row(10, 0, 2, "2", 6)]), Instant::now());
        assert_eq!(keys(ring.serve(1, Some("e"), &cursor("6:7:6")).expect("served")), ["02"]);
    }

    #[test]
    fn the_newest_version_is_the_one_that_was_read_last() {
        let mut ring = ring();
        // Transaction 6 wrote first; 5, which began earlier, wrote after it.
        ring.push(batch("5:7:5", vec![row(10, 0, 1, "\"old\"", 6)]), Instant::now());
        ring.push(batch("7:7:", vec![row(10, 0, 1, "\"new\"", 5)]), Instant::now());
        match ring.serve(1, Some("e"), &cursor("5:5:")).expect("served") {
            Served::News(news) => assert_eq!(news.changes[0].body, Some("new".into())),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_host_whose_scopes_changed_is_sent_to_the_tables_until_it_has_seen_that() {
        let mut ring = ring();
        let mut change = batch("6:6:", vec![]);
        change.includes.push((IncludeRow { scope: 20, slot: None, target: 30 }, true));
        assert_eq!(ring.push(change, Instant::now()), HashSet::from([1, 2]));
        assert!(matches!(ring.serve(1, Some("e"), &cursor("5:5:")), Ok(Served::Tables)));
        assert!(matches!(ring.serve(1, Some("e"), &cursor("6:6:")), Ok(Served::Nothing(_))));
        ring.push(batch("7:7:", vec![row(30, 0, 1, "1", 6)]), Instant::now());
        assert_eq!(keys(ring.serve(2, Some("e"), &cursor("6:6:")).expect("served")), ["01"]);
    }

    #[test]
    fn a_replica_behind_the_agent_waits() {
        assert!(matches!(ring().serve(1, Some("e"), &cursor("6:6:")), Ok(Served::Behind)));
    }

    #[test]
    fn what_the_ring_forgot_is_read_from_the_tables() {
        let mut ring = ring();
        let start = Instant::now();
        ring.push(batch("6:6:", vec![row(10, 0, 1, "1", 5)]), start);
        ring.push(batch("7:7:", vec![row(10, 0, 2, "2", 6)]), start + SPAN + Duration::from_secs(1));
        assert!(matches!(ring.serve(1, Some("e"), &cursor("5:5:")), Ok(Served::Tables)));
        assert_eq!(keys(ring.serve(1, Some("e"), &cursor("6:6:")).expect("served")), ["02"]);
    }

    #[test]
    fn the_ring_holds_no_more_than_its_bytes() {
        let mut ring = ring();
        let big = format!("\"{}\"", "x".repeat(1 << 20));
        for xid in 5..105 {
            ring.push(batch(&format!("{0}:{0}:", xid + 1), vec![row(10, 0, 1, &big, xid)]), Instant::now());
        }
        assert!(ring.bytes <= BYTES && ring.batches.len() > 50, "{} bytes", ring.bytes);
    }
}
