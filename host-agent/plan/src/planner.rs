//! Keeps the desired state and what follows from it, incrementally.

use crate::endpoint::Endpoint;
use crate::render::{Claim, Context, Facts, Wiring, configuration, render};
use crate::table::{Key, Op, Value, in_safe_order};
use mizar_wire::body::{self, Body};
use mizar_wire::{EntryKey, Kind, Scope};
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

/// Why an entry is not in force.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The entry.
    pub entry: EntryKey,
    /// For people.
    pub reason: String,
}

/// Who claims a map key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Source {
    Configuration,
    Entry(EntryKey),
}

/// By what an entry is found by those that refer to it, or that it refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Reference {
    ClusterKeys,
    Network(u32),
    Subnet(u32),
    SubnetsOf(u32),
    Dividers(u32),
    DividerRole(u32),
    ShardMap(u32),
    Port(u32),
    PortId(Uuid),
    PortsOf(u32),
    PortsIn(u32),
}

impl Reference {
    fn of(body: &Body) -> Vec<Self> {
        match body {
            Body::ClusterKey(_) => vec![Self::ClusterKeys],
            Body::Network(n) => vec![Self::Network(n.vni)],
            Body::Subnet(s) => vec![Self::Subnet(s.number), Self::SubnetsOf(s.vni)],
            Body::DividerSet(d) => vec![Self::Dividers(d.vni)],
            Body::DividerRole(d) => vec![Self::DividerRole(d.vni)],
            Body::ShardMap(m) => vec![Self::ShardMap(m.subnet)],
            Body::Port(p) => [Self::Port(p.number), Self::PortId(p.id), Self::PortsOf(p.vni)]
                .into_iter()
                .chain(p.fixed_ips.iter().map(|fixed| Self::PortsIn(fixed.subnet)))
                .collect(),
            Body::Host(_)
            | Body::Bounce(_)
            | Body::MovedPort(_)
            | Body::Group(_)
            | Body::Member(_)
            | Body::GroupSet(_)
            | Body::AddressGroup(_) => Vec::new(),
        }
    }
}

struct Held {
    body: Body,
    keys: Vec<Key>,
}

struct State {
    entries: BTreeMap<EntryKey, Held>,
    index: BTreeMap<Reference, BTreeSet<EntryKey>>,
    wirings: BTreeMap<u32, Wiring>,
    most: u32,
}

impl State {
    /// The entry that a reference means. There is one, but for the moment in which an object was
    /// replaced by another with its number; then the greater key, wherever it came from.
    fn find(&self, reference: Reference) -> Option<&Body> {
        let key = self.index.get(&reference)?.last()?;
        self.entries.get(key).map(|held| &held.body)
    }

    fn all(&self, reference: Reference) -> impl Iterator<Item = &Body> {
        let keys = self.index.get(&reference);
        keys.into_iter().flatten().filter_map(|key| self.entries.get(key)).map(|held| &held.body)
    }
}

impl Context for State {
    fn network(&self, vni: u32) -> Option<&body::Network> {
        match self.find(Reference::Network(vni))? {
            Body::Network(n) => Some(n),
            _ => None,
        }
    }
    fn subnet(&self, number: u32) -> Option<&body::Subnet> {
        match self.find(Reference::Subnet(number))? {
            Body::Subnet(s) => Some(s),
            _ => None,
        }
    }
    fn shard_map(&self, subnet: u32) -> Option<&body::ShardMap> {
        match self.find(Reference::ShardMap(subnet))? {
            Body::ShardMap(m) => Some(m),
            _ => None,
        }
    }
    fn has_dividers(&self, vni: u32) -> bool {
        matches!(self.find(Reference::Dividers(vni)), Some(Body::DividerSet(d)) if !d.pairs.is_empty())
    }
    fn is_divider(&self, vni: u32) -> bool {
        self.find(Reference::DividerRole(vni)).is_some()
    }
    fn wiring(&self, port: u32) -> Option<&Wiring> {
        self.wirings.get(&port)
    }
    fn most(&self) -> u32 {
        self.most
    }
}

/// Desired state, and the map entries that follow from it.
pub struct Planner {
    state: State,
    facts: Option<Facts>,
    /// Claims by key, the one in force last.
    desired: Desired,
    dirty: BTreeSet<Source>,
    /// Keys of entries that went since the last flush.
    orphans: BTreeMap<EntryKey, Vec<Key>>,
    /// Entries that render nothing, and why.
    problems: BTreeMap<EntryKey, String>,
    /// Keys whose last operation failed.
    failed: BTreeMap<Key, String>,
}

impl Default for Planner {
    fn default() -> Self {
        Self::new()
    }
}

impl Planner {
    /// Desires nothing.
    pub fn new() -> Self {
        Self {
            state: State { entries: BTreeMap::new(), index: BTreeMap::new(), wirings: BTreeMap::new(), most: u32::MAX },
            facts: None,
            desired: BTreeMap::new(),
            dirty: BTreeSet::new(),
            orphans: BTreeMap::new(),
            problems: BTreeMap::new(),
            failed: BTreeMap::new(),
        }
    }

    /// What is known of this host.
    pub fn set_facts(&mut self, facts: Facts) {
        if self.facts != Some(facts) {
            self.facts = Some(facts);
            self.dirty.insert(Source::Configuration);
            // A network may be larger than this host's uplink takes; what is sent must not be.
            let most = facts.mtu.saturating_sub(mizar_abi::MTU_OVERHEAD);
            if std::mem::replace(&mut self.state.most, most) != most {
                let ports = self.state.entries.keys().filter(|key| key.kind == Kind::Port);
                self.dirty.extend(ports.cloned().map(Source::Entry));
            }
        }
    }

    /// What was last told of this host.
    pub fn facts(&self) -> Option<&Facts> {
        self.facts.as_ref()
    }

    /// An entry is now like this.
    pub fn put(&mut self, key: EntryKey, body: Body) {
        if let Some(held) = self.state.entries.get_mut(&key) {
            if held.body == body {
                return;
            }
            let old = std::mem::replace(&mut held.body, body.clone());
            self.unindex(&key, &old);
            self.touch_dependents(&old);
        } else {
            let keys = self.orphans.remove(&key).unwrap_or_default();
            let held = Held { body: body.clone(), keys };
            self.state.entries.insert(key.clone(), held);
        }
        for reference in Reference::of(&body) {
            self.state.index.entry(reference).or_default().insert(key.clone());
        }
        self.touch_dependents(&body);
        self.dirty.insert(Source::Entry(key));
    }

    /// An entry is gone. Returns what it was.
    pub fn remove(&mut self, key: &EntryKey) -> Option<Body> {
        let held = self.state.entries.remove(key)?;
        self.unindex(key, &held.body);
        self.touch_dependents(&held.body);
        self.orphans.insert(key.clone(), held.keys);
        self.dirty.insert(Source::Entry(key.clone()));
        Some(held.body)
    }

    /// An interface of a port appeared, changed or (`None`) went.
    pub fn wire(&mut self, port: u32, wiring: Option<Wiring>) {
        let before = match wiring {
            Some(wiring) => self.state.wirings.insert(port, wiring),
            None => self.state.wirings.remove(&port),
        };
        if before != wiring {
            self.touch(Reference::Port(port));
        }
    }

    fn unindex(&mut self, key: &EntryKey, body: &Body) {
        for reference in Reference::of(body) {
            if let Some(keys) = self.state.index.get_mut(&reference) {
                keys.remove(key);
                if keys.is_empty() {
                    self.state.index.remove(&reference);
                }
            }
        }
    }

    fn touch(&mut self, reference: Reference) {
        let keys = self.state.index.get(&reference);
        self.dirty.extend(keys.into_iter().flatten().cloned().map(Source::Entry));
    }

    /// Marks what looks this body up while it is rendered.
    fn touch_dependents(&mut self, body: &Body) {
        match body {
            Body::ClusterKey(_) => {
                self.dirty.insert(Source::Configuration);
            }
            Body::Network(n) => self.touch(Reference::PortsOf(n.vni)),
            Body::Subnet(s) => self.touch(Reference::PortsIn(s.number)),
            Body::DividerSet(d) => self.touch(Reference::SubnetsOf(d.vni)),
            Body::DividerRole(d) => self.touch(Reference::SubnetsOf(d.vni)),
            Body::ShardMap(m) => self.touch(Reference::Subnet(m.subnet)),
            Body::Host(_)
            | Body::Port(_)
            | Body::Bounce(_)
            | Body::MovedPort(_)
            | Body::Group(_)
            | Body::Member(_)
            | Body::GroupSet(_)
            | Body::AddressGroup(_) => {}
        }
    }

    /// The operations that bring maps, which held what was desired at the last flush, to what is
    /// desired now. Operations that failed before are among them again.
    pub fn flush(&mut self) -> Vec<Op> {
        let mut before: BTreeMap<Key, Option<Value>> = BTreeMap::new();
        for source in std::mem::take(&mut self.dirty) {
            let (old, claims) = match &source {
                Source::Configuration => (vec![Key::Cfg], self.render_configuration()),
                Source::Entry(key) => self.render_entry(key),
            };
            for key in old.iter().chain(claims.iter().map(|c| &c.key)) {
                before.entry(*key).or_insert_with(|| in_force(&self.desired, key));
            }
            for key in &old {
                withdraw(&mut self.desired, key, &source);
            }
            for claim in claims {
                let all = self.desired.entry(claim.key).or_default();
                all.push((claim.rank, source.clone(), claim.value));
                all.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
            }
        }
        let failed = std::mem::take(&mut self.failed);
        let mut ops: Vec<Op> = Vec::new();
        for (key, old) in &before {
            let now = in_force(&self.desired, key);
            if *old != now && !failed.contains_key(key) {
                ops.push(now.map_or(Op::Remove(*key), |value| Op::Put(*key, value)));
            }
        }
        for key in failed.keys() {
            ops.push(in_force(&self.desired, key).map_or(Op::Remove(*key), |value| Op::Put(*key, value)));
        }
        in_safe_order(&mut ops);
        ops
    }

    fn render_configuration(&self) -> Vec<Claim> {
        let keys = self.state.all(Reference::ClusterKeys).filter_map(|body| match body {
            Body::ClusterKey(key) => Some(key),
            _ => None,
        });
        let value = self.facts.as_ref().map(|facts| Value::Cfg(configuration(facts, keys)));
        value.map(|value| Claim { key: Key::Cfg, value, rank: 0 }).into_iter().collect()
    }

    fn render_entry(&mut self, key: &EntryKey) -> (Vec<Key>, Vec<Claim>) {
        let rendered = self.state.entries.get(key).map(|held| render(&held.body, &self.state));
        let claims = match rendered {
            Some(Ok(claims)) => {
                self.problems.remove(key);
                claims
            }
            Some(Err(reason)) => {
                self.problems.insert(key.clone(), reason);
                Vec::new()
            }
            None => {
                self.problems.remove(key);
                return (self.orphans.remove(key).unwrap_or_default(), Vec::new());
            }
        };
        let keys = claims.iter().map(|c| c.key).collect();
        let old = self.state.entries.get_mut(key).map(|held| std::mem::replace(&mut held.keys, keys));
        (old.unwrap_or_default(), claims)
    }

    /// An operation failed; the next flush repeats it.
    pub fn failed(&mut self, key: Key, reason: String) {
        self.failed.insert(key, reason);
    }

    /// The operations that bring maps with this content to what is desired: what is desired and
    /// absent or different is written, everything else goes.
    pub fn adopt(&mut self, observed: &[(Key, Value)]) -> Vec<Op> {
        self.flush();
        self.failed.clear();
        let observed: BTreeMap<Key, Value> = observed.iter().copied().collect();
        let mut ops: Vec<Op> =
            observed.keys().filter(|k| !self.desired.contains_key(k)).map(|k| Op::Remove(*k)).collect();
        for key in self.desired.keys() {
            if let Some(value) = in_force(&self.desired, key)
                && observed.get(key) != Some(&value)
            {
                ops.push(Op::Put(*key, value));
            }
        }
        in_safe_order(&mut ops);
        ops
    }

    /// Everything desired, as of the last flush.
    pub fn desired(&self) -> impl Iterator<Item = (Key, Value)> + '_ {
        self.desired.keys().filter_map(|key| Some((*key, in_force(&self.desired, key)?)))
    }

    /// Entries that are not in force, as of the last flush, with reasons.
    pub fn problems(&self) -> Vec<Problem> {
        let rendered =
            self.problems.iter().map(|(entry, reason)| Problem { entry: entry.clone(), reason: reason.clone() });
        let written = self.failed.iter().filter_map(|(key, reason)| match self.desired.get(key)?.last()? {
            (_, Source::Entry(entry), _) => Some(Problem { entry: entry.clone(), reason: reason.clone() }),
            (_, Source::Configuration, _) => None,
        });
        let mut problems: Vec<Problem> = rendered.chain(written).collect();
        problems.sort();
        problems.dedup_by(|a, b| a.entry == b.entry);
        problems
    }

    /// What a map entry should be, as of the last flush.
    pub fn value(&self, key: &Key) -> Option<Value> {
        in_force(&self.desired, key)
    }

    /// Whether a map entry is desired and was written, as far as the executor told.
    pub fn is_in_force(&self, key: &Key) -> bool {
        self.desired.contains_key(key) && !self.failed.contains_key(key)
    }

    /// Every entry.
    pub fn entries(&self) -> impl Iterator<Item = (&EntryKey, &Body)> {
        self.state.entries.iter().map(|(key, held)| (key, &held.body))
    }

    /// The keys of a scope's entries in a range of slots.
    pub fn keys_in(&self, scope: Scope, lo: u16, hi: u16) -> impl Iterator<Item = &EntryKey> {
        let from = EntryKey { scope, slot: lo, kind: Kind::Host, key: Vec::new() };
        let keys = self.state.entries.range(from..).map(|(key, _)| key);
        keys.take_while(move |key| key.scope == scope && key.slot <= hi)
    }

    /// One entry.
    pub fn entry(&self, key: &EntryKey) -> Option<&Body> {
        self.state.entries.get(key).map(|held| &held.body)
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.state.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.state.entries.is_empty()
    }

    /// The ports bound to this host.
    pub fn ports(&self) -> impl Iterator<Item = &body::Port> {
        self.entries().filter_map(|(key, body)| match body {
            Body::Port(port) if key.kind == Kind::Port => Some(port),
            _ => None,
        })
    }

    /// The port with this id, if its entry is here.
    pub fn port(&self, id: Uuid) -> Option<&body::Port> {
        match self.state.find(Reference::PortId(id))? {
            Body::Port(port) => Some(port),
            _ => None,
        }
    }

    /// The port with this number, if its entry is here.
    pub fn port_by_number(&self, number: u32) -> Option<&body::Port> {
        match self.state.find(Reference::Port(number))? {
            Body::Port(port) => Some(port),
            _ => None,
        }
    }

    /// What a port's interface is to be configured with; `Err` says what is missing or wrong.
    pub fn endpoint(&self, id: Uuid) -> Result<Endpoint, String> {
        let port = self.port(id).ok_or_else(|| format!("port {id} is not bound to this host"))?;
        let subnets = self.state.all(Reference::SubnetsOf(port.vni)).filter_map(|body| match body {
            Body::Subnet(subnet) => Some(subnet),
            _ => None,
        });
        Endpoint::of(port, &self.state, subnets)
    }

    /// Interfaces by port number.
    pub fn wirings(&self) -> &BTreeMap<u32, Wiring> {
        &self.state.wirings
    }
}

type Desired = BTreeMap<Key, Vec<(u64, Source, Value)>>;

fn in_force(desired: &Desired, key: &Key) -> Option<Value> {
    desired.get(key)?.last().map(|claim| claim.2)
}

fn withdraw(desired: &mut Desired, key: &Key, source: &Source) {
    if let Some(claims) = desired.get_mut(key) {
        claims.retain(|claim| claim.1 != *source);
        if claims.is_empty() {
            desired.remove(key);
        }
    }
}
