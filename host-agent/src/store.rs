//! The desired state: the ledger's batches, applied one after the other.
//!
//! A restart applies what the ledger holds, the sync loop what the API sends, both by
//! [`Store::apply`]: first start, restart and steady state are one path.

use crate::core::chain;
use crate::ledger::Batch;
use mizar_plan::Planner;
use mizar_wire::body::Body;
use mizar_wire::entry::Change;
use mizar_wire::sync::{Failure, ScopeRange};
use mizar_wire::{EntryKey, Kind, Scope};
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

/// An entry's name as it travels.
type RawKey = (i64, u16, i16, String);

/// An entry that this version cannot act on.
struct Foreign {
    change: Change,
    reason: String,
}

/// Entries, what follows from them, and where in the feed they are.
#[derive(Default)]
pub struct Store {
    /// Entries that were understood.
    pub planner: Planner,
    /// Entries that were not, kept so that a later version finds them in the ledger.
    foreign: BTreeMap<RawKey, Foreign>,
    /// The host's number, once registered.
    pub number: Option<u32>,
    /// Epoch of the feed.
    pub epoch: Option<String>,
    /// Where to sync from.
    pub cursor: Option<String>,
    /// Whether everything that the host should have has once arrived.
    pub complete: bool,
    /// Entries are kept that the last snapshot lacked.
    pub doubted: bool,
    /// Generations of sets of security groups as they were said before a snapshot that is under way or doubted.
    pub said: BTreeMap<u32, u32>,
}

fn raw(change: &Change) -> RawKey {
    (change.scope, change.slot, change.kind, change.key.clone())
}

/// Decodes a change strictly; `Err` says what is wrong with it.
fn decode(change: &Change) -> Result<(EntryKey, Option<Body>), String> {
    let scope = Scope::from_i64(change.scope).ok_or_else(|| format!("scope {} is unknown", change.scope))?;
    let kind = Kind::from_i16(change.kind).ok_or_else(|| format!("kind {} is unknown", change.kind))?;
    let key = decode_hex(&change.key).ok_or("key is not hexadecimal")?;
    let body = change.body.clone().map(|body| Body::from_value(kind, body)).transpose().map_err(|e| chain(&e))?;
    Ok((EntryKey { scope, slot: change.slot, kind, key }, body))
}

fn decode_hex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return None;
    }
    text.as_bytes().chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

fn encode_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn change_of(key: &EntryKey, body: Option<&Body>) -> Change {
    let body = body.map(|body| serde_json::from_slice(&body.to_bytes()).expect("a body that was just encoded"));
    Change { scope: key.scope.to_i64(), slot: key.slot, kind: key.kind as i16, key: encode_hex(&key.key), body }
}

impl Store {
    /// Applies a batch. Returns the ports whose entry came, changed or went.
    pub fn apply(&mut self, batch: &Batch) -> BTreeSet<Uuid> {
        let mut ports = BTreeSet::new();
        self.number = batch.number.or(self.number);
        self.epoch = batch.epoch.clone();
        self.cursor = batch.cursor.clone();
        self.complete |= batch.complete;
        self.doubted = batch.doubted;
        if batch.cursor.is_some() {
            self.said.clear();
        } else if !batch.said.is_empty() {
            self.said.clone_from(&batch.said);
        }
        for range in &batch.dropped {
            self.drop_range(range, &BTreeSet::new(), &mut ports);
        }
        if !batch.added.is_empty() {
            let arriving: BTreeSet<RawKey> = batch.changes.iter().map(raw).collect();
            for range in &batch.added {
                self.drop_range(range, &arriving, &mut ports);
            }
        }
        for change in &batch.changes {
            self.change(change, &mut ports);
        }
        let unread = self.foreign.keys().filter_map(|key| Scope::from_i64(key.0));
        self.planner.set_unread(unread.collect());
        ports
    }

    fn change(&mut self, change: &Change, ports: &mut BTreeSet<Uuid>) {
        match decode(change) {
            Ok((key, body)) => {
                self.foreign.remove(&raw(change));
                let old = self.planner.entry(&key);
                for port in [old, body.as_ref()].into_iter().flatten() {
                    if let Body::Port(port) = port {
                        ports.insert(port.id);
                    }
                }
                match body {
                    Some(body) => self.planner.put(key, body),
                    None => drop(self.planner.remove(&key)),
                }
            }
            // Not understood: what was there before stays in force, and the API hears of it.
            Err(reason) if change.body.is_some() => {
                self.foreign.insert(raw(change), Foreign { change: change.clone(), reason });
            }
            Err(_) => drop(self.foreign.remove(&raw(change))),
        }
    }

    fn drop_range(&mut self, range: &ScopeRange, keep: &BTreeSet<RawKey>, ports: &mut BTreeSet<Uuid>) {
        let goes = |key: &RawKey| !keep.contains(key);
        if let Some(scope) = Scope::from_i64(range.scope) {
            let keys = self.planner.keys_in(scope, range.lo, range.hi);
            let keys: Vec<EntryKey> =
                keys.filter(|k| keep.is_empty() || goes(&raw(&change_of(k, None)))).cloned().collect();
            for key in keys {
                if let Some(Body::Port(port)) = self.planner.remove(&key) {
                    ports.insert(port.id);
                }
            }
        }
        let inside = |key: &RawKey| key.0 == range.scope && (range.lo..=range.hi).contains(&key.1);
        self.foreign.retain(|key, _| !(inside(key) && goes(key)));
    }

    /// The removals that leave nothing but what a snapshot brought.
    pub fn prune(&self, seen: &BTreeSet<RawKey>) -> Vec<Change> {
        let known = self.planner.entries().map(|(key, _)| change_of(key, None));
        let foreign = self.foreign.values().map(|f| Change { body: None, ..f.change.clone() });
        known.chain(foreign).filter(|change| !seen.contains(&raw(change))).collect()
    }

    /// Everything, as batches for a new ledger. `cursor` is what a restart shall sync from.
    pub fn to_batches(&self, cursor: Option<String>) -> Vec<Batch> {
        let known = self.planner.entries().map(|(key, body)| change_of(key, Some(body)));
        let foreign = self.foreign.values().map(|f| f.change.clone());
        let changes: Vec<Change> = known.chain(foreign).collect();
        let head = Batch { number: self.number, epoch: self.epoch.clone(), ..Batch::default() };
        let mut batches: Vec<Batch> =
            changes.chunks(1000).map(|chunk| Batch { changes: chunk.to_vec(), ..head.clone() }).collect();
        // The cursor stands in the last batch: a reader that lost it takes a snapshot.
        let said = if cursor.is_none() { self.said.clone() } else { BTreeMap::new() };
        batches.push(Batch { cursor, complete: self.complete, doubted: self.doubted, said, ..head });
        batches
    }

    /// Entries that are not in force, with reasons.
    pub fn failures(&self) -> Vec<Failure> {
        let foreign = self.foreign.values().map(|f| Failure {
            scope: f.change.scope,
            kind: f.change.kind,
            key: f.change.key.clone(),
            reason: f.reason.clone(),
        });
        let problems = self.planner.problems().into_iter().map(|p| Failure {
            scope: p.entry.scope.to_i64(),
            kind: p.entry.kind as i16,
            key: encode_hex(&p.entry.key),
            reason: p.reason,
        });
        foreign.chain(problems).collect()
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.planner.len() + self.foreign.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Every entry as it travelled, for operators.
    pub fn dump(&self) -> Vec<Change> {
        let known = self.planner.entries().map(|(key, body)| change_of(key, Some(body)));
        known.chain(self.foreign.values().map(|f| f.change.clone())).collect()
    }
}

/// Names of the entries of a snapshot's page.
pub fn names(changes: &[Change]) -> impl Iterator<Item = (i64, u16, i16, String)> + '_ {
    changes.iter().map(raw)
}

/// What a change removes, if it removes something that was understood.
pub fn removed<'a>(store: &'a Store, change: &Change) -> Option<&'a Body> {
    match decode(change) {
        Ok((key, None)) => store.planner.entry(&key),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(number: u32, last: u8) -> Change {
        let body = serde_json::json!({"number": number, "name": "h", "underlay": format!("192.0.2.{last}")});
        Change { scope: Scope::Cluster.to_i64(), slot: 0, kind: 1, key: format!("{number:08x}"), body: Some(body) }
    }

    fn gone(change: &Change) -> Change {
        Change { body: None, ..change.clone() }
    }

    fn batch(changes: Vec<Change>) -> Batch {
        Batch { changes, epoch: Some("e".into()), cursor: Some("c".into()), complete: true, ..Batch::default() }
    }

    #[test]
    fn a_rewritten_store_is_the_same_store() {
        let mut store = Store::default();
        let unknown = Change { kind: 999, ..host(3, 3) };
        store.apply(&batch(vec![host(1, 1), host(2, 2), unknown.clone()]));
        store.apply(&batch(vec![gone(&host(1, 1))]));
        let mut again = Store::default();
        for batch in store.to_batches(Some("c".into())) {
            again.apply(&batch);
        }
        assert_eq!(store.dump(), again.dump());
        assert_eq!(store.failures(), again.failures());
        assert_eq!((again.len(), again.complete, again.cursor), (2, true, Some("c".into())));
    }

    #[test]
    fn what_is_not_understood_is_a_failure_until_it_goes_and_leaves_the_rest_alone() {
        let mut store = Store::default();
        let mut wrong = host(1, 1);
        wrong.body = Some(serde_json::json!({"number": 1, "name": "h", "underlay": "192.0.2.1", "colour": "blue"}));
        let unknown_scope = Change { scope: 99 << 32, ..host(2, 2) };
        let bad_key = Change { key: "0G".into(), ..host(2, 2) };
        store.apply(&batch(vec![wrong.clone(), unknown_scope.clone(), bad_key.clone(), host(4, 4)]));
        let reasons: Vec<String> = store.failures().into_iter().map(|f| f.reason).collect();
        assert_eq!(reasons.len(), 3);
        assert!(reasons.iter().any(|r| r.contains("colour")) && reasons.iter().any(|r| r.contains("scope")));
        assert_eq!(store.planner.len(), 1);
        store.apply(&batch(vec![host(1, 1), gone(&unknown_scope), gone(&bad_key)]));
        assert!(store.failures().is_empty());
        assert_eq!(store.planner.len(), 2);
    }

    /// Whether a port with labels is filtered by its security group, which lets everything in.
    fn is_open(store: &mut Store) -> bool {
        store.planner.flush();
        store.planner.desired().any(|(key, _)| matches!(key, mizar_plan::Key::Policy(_)))
    }

    #[test]
    fn nothing_passes_where_a_label_policy_is_not_understood() {
        let change = |scope: Scope, kind: Kind, body: serde_json::Value| Change {
            scope: scope.to_i64(),
            slot: 0,
            kind: kind as i16,
            key: "00000001".into(),
            body: Some(body),
        };
        let set =
            serde_json::json!({"number": 9, "groups": [1], "labels": {"project": 3, "labels": {"namespace": "shop"}}});
        let bounce = serde_json::json!({
            "vni": 5000, "address": "10.0.0.1", "subnet": 1, "host": 1, "port": 1, "generation": 1, "set": set,
        });
        let rule = serde_json::json!({
            "id": Uuid::nil(), "ipv6": false, "protocol": null, "ports": [0, 65535], "remote": "any",
        });
        let group = serde_json::json!({"number": 1, "generation": 1, "rules": [rule]});
        let mut policy = serde_json::json!({
            "id": Uuid::nil(), "project": 3, "namespace": "shop", "ports": [], "rules": [], "colour": "blue",
        });
        let label = |body: &serde_json::Value| change(Scope::LabelIngress(3), Kind::LabelIngress, body.clone());
        let heard = serde_json::json!({"project": 3, "generation": 1});
        let all = [
            change(Scope::Subnet(1), Kind::Bounce, bounce),
            change(Scope::Group(1), Kind::Group, group),
            change(Scope::LabelIngress(3), Kind::LabelGeneration, heard.clone()),
        ];
        let mut store = Store::default();
        store.apply(&batch(all.to_vec()));
        assert_eq!((is_open(&mut store), store.failures()), (true, vec![]));

        let later =
            change(Scope::LabelIngress(3), Kind::LabelGeneration, serde_json::json!({"project": 3, "generation": 2}));
        store.apply(&batch(vec![label(&policy), later]));
        assert!(!is_open(&mut store));
        assert!(store.failures().iter().any(|failure| failure.reason.contains("colour")));
        let mut again = Store::default();
        for batch in store.to_batches(Some("c".into())) {
            again.apply(&batch);
        }
        assert!(!is_open(&mut again), "a restart makes no difference");

        store.apply(&batch(vec![gone(&label(&policy))]));
        assert_eq!((is_open(&mut store), store.failures()), (true, vec![]));
        policy["namespace"] = "elsewhere".into();
        policy.as_object_mut().map(|members| members.remove("colour"));
        store.apply(&batch(vec![label(&policy)]));
        assert!(is_open(&mut store), "one that is understood, and selects it not");
    }

    #[test]
    fn a_scope_that_is_added_again_arrives_whole() {
        let mut store = Store::default();
        store.apply(&batch(vec![host(1, 1), host(2, 2)]));
        let range = ScopeRange { scope: Scope::Cluster.to_i64(), lo: 0, hi: 4095 };
        store.apply(&Batch { added: vec![range], ..batch(vec![host(2, 9), host(3, 3)]) });
        let keys: Vec<String> = store.dump().into_iter().map(|c| c.key).collect();
        assert_eq!(keys, ["00000002", "00000003"]);
        store.apply(&Batch { dropped: vec![range], ..batch(vec![]) });
        assert!(store.is_empty());
    }

    #[test]
    fn pruning_leaves_what_the_snapshot_brought() {
        let mut store = Store::default();
        store.apply(&batch(vec![host(1, 1), host(2, 2), Change { kind: 999, ..host(3, 3) }]));
        let seen = names(&[host(2, 2)]).collect();
        let prune = store.prune(&seen);
        assert_eq!(prune.len(), 2);
        store.apply(&batch(prune));
        assert_eq!(store.dump(), [host(2, 2)]);
    }
}
