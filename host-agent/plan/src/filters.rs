//! Which sets of security groups this host must know: those of the ports it bounces for, whose
//! ingress rules it applies, and those of its own ports, whose egress rules it applies.

use mizar_wire::body::{Body, GroupSet};
use std::collections::{BTreeMap, BTreeSet};

/// Entries that have a set, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Uses {
    bounces: usize,
    ports: usize,
}

/// What a set is needed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Need<'a> {
    /// Numbers of its groups.
    pub groups: &'a [u32],
    /// An address that this host bounces for has it.
    pub ingress: bool,
    /// A port of this host has it.
    pub egress: bool,
}

/// The sets in use.
#[derive(Debug, Default)]
pub(crate) struct Filters {
    /// By number and groups: one number with two meanings is nothing that the control plane
    /// writes, and must not make the result depend on what came first.
    uses: BTreeMap<(u32, Vec<u32>), Uses>,
    by_group: BTreeMap<u32, BTreeSet<u32>>,
    /// Entries by set and VNI.
    networks: BTreeMap<u32, BTreeMap<u32, usize>>,
}

/// The set of an entry, what for, and in which network.
fn used(body: &Body) -> Option<(&GroupSet, Uses, u32)> {
    match body {
        Body::Bounce(bounce) => Some((bounce.set.as_ref()?, Uses { bounces: 1, ports: 0 }, bounce.vni)),
        Body::Port(port) => Some((port.set.as_ref()?, Uses { bounces: 0, ports: 1 }, port.vni)),
        _ => None,
    }
}

/// The set that an entry has.
pub(crate) fn set_of(body: &Body) -> Option<&GroupSet> {
    used(body).map(|(set, ..)| set)
}

impl Filters {
    /// An entry is there. Returns the set of which more may be needed now, or in one network more.
    pub fn add(&mut self, body: &Body) -> Option<u32> {
        let (set, more, vni) = used(body)?;
        let entries = self.networks.entry(set.number).or_default().entry(vni).or_default();
        *entries += 1;
        let new_network = *entries == 1;
        let uses = self.uses.entry((set.number, set.groups.clone())).or_default();
        let before = *uses;
        uses.bounces += more.bounces;
        uses.ports += more.ports;
        if before == Uses::default() {
            for group in &set.groups {
                self.by_group.entry(*group).or_default().insert(set.number);
            }
        }
        let first = (before.bounces == 0 && more.bounces > 0) || (before.ports == 0 && more.ports > 0);
        (first || new_network).then_some(set.number)
    }

    /// An entry is gone. Returns the set of which less may be needed now, or in one network less.
    pub fn remove(&mut self, body: &Body) -> Option<u32> {
        let (set, less, vni) = used(body)?;
        let key = (set.number, set.groups.clone());
        let uses = self.uses.get_mut(&key)?;
        let networks = self.networks.get_mut(&set.number)?;
        let entries = networks.get_mut(&vni)?;
        *entries -= 1;
        let left_network = *entries == 0;
        if left_network {
            networks.remove(&vni);
            if networks.is_empty() {
                self.networks.remove(&set.number);
            }
        }
        uses.bounces -= less.bounces;
        uses.ports -= less.ports;
        let last = (uses.bounces == 0 && less.bounces > 0) || (uses.ports == 0 && less.ports > 0);
        if *uses == Uses::default() {
            self.uses.remove(&key);
            for group in &set.groups {
                let still = self.meanings(set.number).any(|(groups, _)| groups.contains(group));
                if !still && let Some(sets) = self.by_group.get_mut(group) {
                    sets.remove(&set.number);
                    if sets.is_empty() {
                        self.by_group.remove(group);
                    }
                }
            }
        }
        (last || left_network).then_some(set.number)
    }

    /// The VNIs of the networks in which a set is used.
    pub fn networks(&self, set: u32) -> impl Iterator<Item = u32> + '_ {
        self.networks.get(&set).into_iter().flat_map(BTreeMap::keys).copied()
    }

    fn meanings(&self, set: u32) -> impl Iterator<Item = (&[u32], Uses)> {
        let meanings = self.uses.range((set, Vec::new())..).take_while(move |((number, _), _)| *number == set);
        meanings.map(|((_, groups), uses)| (groups.as_slice(), *uses))
    }

    /// What a set is needed for; `None` = for nothing.
    pub fn need(&self, set: u32) -> Option<Need<'_>> {
        let mut need: Option<Need<'_>> = None;
        for (groups, uses) in self.meanings(set) {
            let (ingress, egress) = need.map_or((false, false), |need| (need.ingress, need.egress));
            need = Some(Need { groups, ingress: ingress || uses.bounces > 0, egress: egress || uses.ports > 0 });
        }
        need
    }

    /// The sets in use that a group is in.
    pub fn with(&self, group: u32) -> impl Iterator<Item = u32> + '_ {
        self.by_group.get(&group).into_iter().flatten().copied()
    }
}
