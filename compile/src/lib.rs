//! From one object to its entries: pure and local (CONTROLPLANE section 8).
//!
//! [`compile`] reads one object and nothing else: no placement, no other tenant object, no
//! database. So a command writes what its own object says, two commands that touch different
//! objects commute, and the full state is the union over all objects. Keys begin with the id of
//! the object that they were compiled from, so no two objects write one entry.
//!
//! Handlers never write entries themselves: they compile the object before and after, and apply
//! [`change`] in the transaction that changes the rows. The auditor compiles every object anew
//! and compares; both use this crate, and a property test shows that they agree.

mod object;
mod policy;

use mizar_domain::model;
use mizar_wire::entry::{Entry, EntryKey, Include};
use mizar_wire::{Body, Kind, Scope};
use std::collections::{BTreeMap, BTreeSet};

/// What can be compiled.
#[derive(Clone, Copy, Debug)]
pub enum Object<'a> {
    /// Registered by its agent.
    Host(&'a model::Host),
    /// Drawn by the scheduler.
    ClusterKey(&'a model::ClusterKey),
    /// A tenant's.
    Network(&'a model::Network),
    /// A tenant's.
    Subnet(&'a model::Subnet),
    /// A tenant's, bound or not.
    Port(&'a model::BoundPort),
    /// A tenant's, with its rules.
    SecurityGroup(&'a model::SecurityGroup),
    /// A combination of security groups; made by the first port that has it.
    GroupSet(&'a model::GroupSet),
    /// A tenant's.
    AddressGroup(&'a model::AddressGroup),
    /// A tenant's.
    LabelPolicy(&'a model::LabelPolicy),
    /// What these of one tenant have in common.
    LabelProject(&'a model::LabelProject),
    /// Decided by the scheduler.
    ShardMap(&'a model::ShardMap),
    /// Decided by the scheduler.
    DividerSet(&'a model::DividerSet),
}

/// The entries of an object, and the scopes that these need.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Compiled {
    /// Body by identity.
    pub entries: BTreeMap<EntryKey, Body>,
    /// Which scope needs which.
    pub includes: BTreeSet<Include>,
}

impl Compiled {
    fn put(&mut self, scope: Scope, slot: u16, key: Vec<u8>, body: Body) {
        let key = EntryKey { scope, slot, kind: body.kind(), key };
        self.entries.insert(key, body);
    }

    fn include(&mut self, scope: Scope, target: Scope) {
        self.includes.insert(Include { scope, slot: None, target });
    }

    fn include_at(&mut self, scope: Scope, slot: u16, target: Scope) {
        self.includes.insert(Include { scope, slot: Some(slot), target });
    }

    /// Adds what another object compiled to.
    pub fn extend(&mut self, other: Compiled) {
        self.entries.extend(other.entries);
        self.includes.extend(other.includes);
    }

    /// Entries of one kind.
    pub fn of(&self, kind: Kind) -> impl Iterator<Item = (&EntryKey, &Body)> {
        self.entries.iter().filter(move |(key, _)| key.kind == kind)
    }
}

/// The entries of an object.
pub fn compile(object: Object<'_>) -> Compiled {
    match object {
        Object::Host(host) => object::host(host),
        Object::ClusterKey(key) => object::cluster_key(key),
        Object::Network(network) => object::network(network),
        Object::Subnet(subnet) => object::subnet(subnet),
        Object::Port(port) => object::port(port),
        Object::SecurityGroup(group) => policy::security_group(group),
        Object::GroupSet(set) => policy::group_set(set),
        Object::AddressGroup(group) => policy::address_group(group),
        Object::LabelPolicy(policy) => policy::label_policy(policy),
        Object::LabelProject(project) => policy::label_project(project),
        Object::ShardMap(map) => object::shard_map(map),
        Object::DividerSet(set) => object::divider_set(set),
    }
}

/// One write to the feed.
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    /// The entry is new, or its body another.
    Put(Entry),
    /// The entry is gone: a tombstone, so that whoever holds it hears.
    Remove(EntryKey),
    /// The include is needed. Nobody but the scheduler's janitor takes one back, an hour after
    /// its last use and under the network's exclusive lock: two commands would race for it.
    Include(Include),
}

/// What turns the entries of `old` into those of `new`: entries by key, then includes, each
/// sorted, so that all writers lock rows in one order.
///
/// Includes that both hold are repeated: the janitor may have removed them since, and applying
/// one that is live costs nothing.
pub fn change(old: &Compiled, new: &Compiled) -> Vec<Write> {
    let keys: BTreeSet<&EntryKey> = old.entries.keys().chain(new.entries.keys()).collect();
    let entries = keys.into_iter().filter_map(|key| match (old.entries.get(key), new.entries.get(key)) {
        (before, Some(body)) if before != Some(body) => {
            Some(Write::Put(Entry { key: key.clone(), body: body.clone() }))
        }
        (Some(_), None) => Some(Write::Remove(key.clone())),
        _ => None,
    });
    entries.chain(new.includes.iter().copied().map(Write::Include)).collect()
}

/// What a new object writes.
pub fn create(object: Object<'_>) -> Vec<Write> {
    change(&Compiled::default(), &compile(object))
}

/// What a changed object writes. `old` is what the database held under the lock that the command
/// holds, never what a client believed.
pub fn update(old: Object<'_>, new: Object<'_>) -> Vec<Write> {
    change(&compile(old), &compile(new))
}

/// What a deleted object writes.
pub fn delete(object: Object<'_>) -> Vec<Write> {
    change(&compile(object), &Compiled::default())
}
