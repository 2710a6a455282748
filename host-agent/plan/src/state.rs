//! The entries, and how one is found by what another refers to.

use crate::filters::Filters;
use crate::label::LabelPolicies;
use crate::policy::Rules;
use crate::render::{Context, Wiring};
use crate::rows::Peers;
use crate::table::Key;
use ipnet::IpNet;
use mizar_wire::body::{self, Body};
use mizar_wire::{EntryKey, Scope};
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

/// By what an entry is found by those that refer to it, or that it refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reference {
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
    Group(u32),
    Member(u32),
    NamesGroup(u32),
    NamesAddressGroup(u32),
    SetsWith(u32),
    AddressGroup(u32),
    LabelIngress(u32),
    LabelEgress(u32),
    LabelGeneration(u32),
    Labelled(u32),
}

impl Reference {
    pub fn of(body: &Body) -> Vec<Self> {
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
            Body::Group(g) => Self::of_rules(Self::Group(g.number), g),
            Body::Member(g) => Self::of_rules(Self::Member(g.number), g),
            Body::GroupSet(s) => {
                let labelled = s.labels.iter().map(|labelled| Self::Labelled(labelled.project));
                s.groups.iter().map(|group| Self::SetsWith(*group)).chain(labelled).collect()
            }
            Body::AddressGroup(g) => vec![Self::AddressGroup(g.number)],
            Body::LabelIngress(p) => vec![Self::LabelIngress(p.project)],
            Body::LabelEgress(p) => vec![Self::LabelEgress(p.project)],
            Body::LabelGeneration(g) => vec![Self::LabelGeneration(g.project)],
            Body::Host(_) | Body::Bounce(_) | Body::MovedPort(_) => Vec::new(),
        }
    }
}

impl Reference {
    fn of_rules(own: Self, group: &body::Group) -> Vec<Self> {
        let named = group.rules.iter().filter_map(|rule| match rule.remote {
            body::Remote::Group(number) => Some(Self::NamesGroup(number)),
            body::Remote::AddressGroup(number) => Some(Self::NamesAddressGroup(number)),
            body::Remote::Any | body::Remote::Prefix(_) => None,
        });
        std::iter::once(own).chain(named).collect()
    }
}

/// An entry, and the map keys that it claims.
pub(crate) struct Held {
    pub body: Body,
    pub keys: Vec<Key>,
}

/// Everything that was put into the planner.
pub(crate) struct State {
    pub entries: BTreeMap<EntryKey, Held>,
    pub index: BTreeMap<Reference, BTreeSet<EntryKey>>,
    pub filters: Filters,
    pub wirings: BTreeMap<u32, Wiring>,
    pub most: u32,
    /// Scopes that hold something which was not understood.
    pub unread: BTreeSet<Scope>,
}

impl State {
    /// The entry that a reference means. There is one, but for the moment in which an object was
    /// replaced by another with its number; then the greater key, wherever it came from.
    pub fn find(&self, reference: Reference) -> Option<&Body> {
        let key = self.index.get(&reference)?.last()?;
        self.entries.get(key).map(|held| &held.body)
    }

    pub fn all(&self, reference: Reference) -> impl Iterator<Item = &Body> {
        let keys = self.index.get(&reference);
        keys.into_iter().flatten().filter_map(|key| self.entries.get(key)).map(|held| &held.body)
    }

    /// The generation of a project's label policies in one direction. Each scope arrives by itself: having
    /// heard of the one is not having heard of the other. Nor does it know them that cannot read one.
    fn generation_in(&self, scope: Scope, project: u32) -> Option<u32> {
        if self.unread.contains(&scope) {
            return None;
        }
        let key = self.index.get(&Reference::LabelGeneration(project))?.iter().rfind(|key| key.scope == scope)?;
        match self.entries.get(key)?.body {
            Body::LabelGeneration(ref of) => Some(of.generation),
            _ => None,
        }
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

impl Peers for State {
    fn sets_with(&self, group: u32) -> impl Iterator<Item = u32> {
        self.all(Reference::SetsWith(group)).filter_map(|body| match body {
            Body::GroupSet(set) => Some(set.number),
            _ => None,
        })
    }
    fn addresses(&self, group: u32) -> Option<&[IpNet]> {
        match self.find(Reference::AddressGroup(group))? {
            Body::AddressGroup(group) => Some(&group.addresses),
            _ => None,
        }
    }
}

impl LabelPolicies for State {
    fn ingress_policies(&self, project: u32) -> impl Iterator<Item = &body::LabelPolicy> {
        self.all(Reference::LabelIngress(project)).filter_map(|body| match body {
            Body::LabelIngress(policy) => Some(policy),
            _ => None,
        })
    }
    fn egress_policies(&self, project: u32) -> impl Iterator<Item = &body::LabelPolicy> {
        self.all(Reference::LabelEgress(project)).filter_map(|body| match body {
            Body::LabelEgress(policy) => Some(policy),
            _ => None,
        })
    }
    fn ingress_generation(&self, project: u32) -> Option<u32> {
        self.generation_in(Scope::LabelIngress(project), project)
    }
    fn egress_generation(&self, project: u32) -> Option<u32> {
        self.generation_in(Scope::LabelEgress(project), project)
    }
    fn labelled(&self, project: u32) -> impl Iterator<Item = (u32, &body::Labels)> {
        self.all(Reference::Labelled(project)).filter_map(|body| match body {
            Body::GroupSet(set) => Some((set.number, &set.labels.as_ref()?.labels)),
            _ => None,
        })
    }
}

impl Rules for State {
    fn ingress(&self, group: u32) -> Option<&body::Group> {
        match self.find(Reference::Group(group))? {
            Body::Group(group) => Some(group),
            _ => None,
        }
    }
    fn egress(&self, group: u32) -> Option<&body::Group> {
        match self.find(Reference::Member(group))? {
            Body::Member(group) => Some(group),
            _ => None,
        }
    }
}
