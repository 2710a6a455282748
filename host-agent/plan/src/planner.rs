//! Keeps the desired state and what follows from it, incrementally.

use crate::budget::{self, Budget};
use crate::endpoint::Endpoint;
use crate::filters::{self, Filters, Part};
use crate::policy::{Draft, Meant};
use crate::render::{Claim, Facts, Wiring, configuration, render};
use crate::state::{Held, Reference, State};
use crate::table::{Key, Op, Value, in_safe_order};
use crate::work::Work;
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
pub(crate) enum Source {
    Configuration,
    /// The rules of a set of security groups.
    Policy(u32),
    Entry(EntryKey),
}

/// Desired state, and the map entries that follow from it.
pub struct Planner {
    pub(crate) state: State,
    facts: Option<Facts>,
    /// Claims by key, the one in force last.
    desired: Desired,
    pub(crate) dirty: BTreeSet<Source>,
    /// What sets of groups claim.
    policies: BTreeMap<u32, Vec<Key>>,
    pub(crate) budget: Budget,
    /// What they took to work out, by whose they are.
    pub(crate) work: Work<Part, Meant>,
    /// Sets whose rules are not all in force, and why.
    unruly: BTreeMap<u32, String>,
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
        Self::with_budget(budget::DEFAULT)
    }

    /// The same; every network may have so many rows of policy.
    pub fn with_budget(rows: usize) -> Self {
        let budget = Budget::new(rows);
        Self {
            state: State {
                entries: BTreeMap::new(),
                index: BTreeMap::new(),
                filters: Filters::default(),
                wirings: BTreeMap::new(),
                most: u32::MAX,
                unread: BTreeSet::new(),
            },
            facts: None,
            desired: BTreeMap::new(),
            dirty: BTreeSet::new(),
            policies: BTreeMap::new(),
            work: Work::new(budget.steps()),
            budget,
            unruly: BTreeMap::new(),
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

    /// What follows from entries together.
    pub(crate) const fn state(&self) -> &State {
        &self.state
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
            let set = self.state.filters.remove(&old);
            self.touch_policies(set);
        } else {
            let keys = self.orphans.remove(&key).unwrap_or_default();
            let held = Held { body: body.clone(), keys };
            self.state.entries.insert(key.clone(), held);
        }
        for reference in Reference::of(&body) {
            self.state.index.entry(reference).or_default().insert(key.clone());
        }
        self.touch_dependents(&body);
        let set = self.state.filters.add(&body);
        self.touch_policies(set);
        self.dirty.insert(Source::Entry(key));
    }

    /// An entry is gone. Returns what it was.
    pub fn remove(&mut self, key: &EntryKey) -> Option<Body> {
        let held = self.state.entries.remove(key)?;
        self.unindex(key, &held.body);
        self.touch_dependents(&held.body);
        let set = self.state.filters.remove(&held.body);
        self.touch_policies(set);
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

    /// These scopes hold entries that are not understood. A security group that lacks a rule lets less
    /// pass; a project that lacks a label policy lets more, so none of its ports trusts the others.
    pub fn set_unread(&mut self, scopes: BTreeSet<Scope>) {
        let before = std::mem::replace(&mut self.state.unread, scopes);
        let changed: Vec<Scope> = before.symmetric_difference(&self.state.unread).copied().collect();
        for scope in changed {
            if let Scope::LabelIngress(project) | Scope::LabelEgress(project) = scope {
                self.touch_with(Part::Project(project));
            }
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

    pub(crate) fn touch_policies(&mut self, sets: impl IntoIterator<Item = u32>) {
        self.dirty.extend(sets.into_iter().map(Source::Policy));
    }

    /// Marks the sets that something is part of.
    fn touch_with(&mut self, part: Part) {
        let sets: Vec<u32> = self.state.filters.with(part).collect();
        self.touch_policies(sets);
    }

    /// The sets in use whose rules depend on this entry.
    pub fn sets_by(&self, body: &Body) -> BTreeSet<u32> {
        let with = |part| self.state.filters.with(part);
        match body {
            Body::Group(g) | Body::Member(g) => with(Part::Group(g.number)).collect(),
            Body::GroupSet(s) => {
                let named = s.groups.iter().flat_map(|group| self.naming(Reference::NamesGroup(*group)));
                named.chain(s.labels.iter().flat_map(|labelled| with(Part::Project(labelled.project)))).collect()
            }
            Body::LabelIngress(p) | Body::LabelEgress(p) => with(Part::Project(p.project)).collect(),
            Body::LabelGeneration(g) => with(Part::Project(g.project)).collect(),
            Body::AddressGroup(g) => self.naming(Reference::NamesAddressGroup(g.number)).collect(),
            _ => BTreeSet::new(),
        }
    }

    /// The sets with groups whose rules name something.
    fn naming(&self, named: Reference) -> impl Iterator<Item = u32> {
        let groups = self.state.all(named).filter_map(|body| match body {
            Body::Group(group) | Body::Member(group) => Some(group.number),
            _ => None,
        });
        groups.flat_map(|group| self.state.filters.with(Part::Group(group)))
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
            Body::Group(_) | Body::Member(_) | Body::GroupSet(_) | Body::AddressGroup(_) => {
                self.touch_policies(self.sets_by(body));
            }
            Body::LabelIngress(_) | Body::LabelEgress(_) | Body::LabelGeneration(_) => {
                self.touch_policies(self.sets_by(body));
            }
            Body::Host(_) | Body::Port(_) | Body::Bounce(_) | Body::MovedPort(_) => {}
        }
    }

    /// The operations that bring maps, which held what was desired at the last flush, to what is
    /// desired now. Operations that failed before are among them again.
    pub fn flush(&mut self) -> Vec<Op> {
        let mut before: BTreeMap<Key, Option<Value>> = BTreeMap::new();
        let mut drafts = self.draft_policies();
        for source in std::mem::take(&mut self.dirty) {
            let (old, claims) = match &source {
                Source::Configuration => (vec![Key::Cfg], self.render_configuration()),
                Source::Policy(set) => self.render_policy(*set, drafts.remove(set)),
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
        // What a write that failed left there nobody knows.
        in_safe_order(ops, |key| *before.get(key).filter(|_| !failed.contains_key(key))?, |set| self.gives_up(set))
    }

    /// Whether a set is in use and has no rows.
    fn gives_up(&self, set: u32) -> bool {
        !self.policies.contains_key(&set) && self.state.filters.need(set).is_some()
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

    fn render_policy(&mut self, set: u32, draft: Option<Draft>) -> (Vec<Key>, Vec<Claim>) {
        let (claims, problem) = match (self.budget.refusal(set), draft) {
            (Some(refusal), _) => (Vec::new(), Some(refusal)),
            (None, None) => (Vec::new(), None),
            (None, Some(draft)) => draft.into_claims(set),
        };
        match problem {
            Some(reason) => self.unruly.insert(set, reason),
            None => self.unruly.remove(&set),
        };
        let keys: Vec<Key> = claims.iter().map(|c| c.key).collect();
        let old = match keys.is_empty() {
            true => self.policies.remove(&set),
            false => self.policies.insert(set, keys),
        };
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
        in_safe_order(ops, |key| observed.get(key).copied(), |set| self.gives_up(set))
    }

    /// Everything desired, as of the last flush.
    pub fn desired(&self) -> impl Iterator<Item = (Key, Value)> + '_ {
        self.desired.keys().filter_map(|key| Some((*key, in_force(&self.desired, key)?)))
    }

    /// Entries that are not in force, as of the last flush, with reasons.
    pub fn problems(&self) -> Vec<Problem> {
        let rendered =
            self.problems.iter().map(|(entry, reason)| Problem { entry: entry.clone(), reason: reason.clone() });
        let mut unruly: BTreeMap<u32, &String> = self.unruly.iter().map(|(set, reason)| (*set, reason)).collect();
        let mut written = Vec::new();
        for (key, reason) in &self.failed {
            match self.desired.get(key).and_then(|claims| claims.last()) {
                Some((_, Source::Entry(entry), _)) => {
                    written.push(Problem { entry: entry.clone(), reason: reason.clone() });
                }
                Some((_, Source::Policy(set), _)) => drop(unruly.entry(*set).or_insert(reason)),
                Some((_, Source::Configuration, _)) | None => {}
            }
        }
        let mut problems: Vec<Problem> = rendered.chain(written).collect();
        problems.extend(self.filtered_by(&unruly));
        problems.sort();
        problems.dedup_by(|a, b| a.entry == b.entry);
        problems
    }

    /// The problems of sets, told of one entry that has each: rules are no entry's alone.
    fn filtered_by(&self, unruly: &BTreeMap<u32, &String>) -> Vec<Problem> {
        let mut told: BTreeMap<u32, Problem> = BTreeMap::new();
        if !unruly.is_empty() {
            for (entry, held) in &self.state.entries {
                let set = filters::set_of(&held.body);
                if let Some((set, reason)) = set.and_then(|set| Some((set.number, *unruly.get(&set.number)?))) {
                    told.entry(set).or_insert_with(|| Problem { entry: entry.clone(), reason: reason.clone() });
                }
            }
        }
        told.into_values().collect()
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
