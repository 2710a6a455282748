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
    /// Its groups and labels.
    pub set: &'a GroupSet,
    /// An address that this host bounces for has it.
    pub ingress: bool,
    /// A port of this host has it.
    pub egress: bool,
}

/// What a set is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    /// A security group.
    Group(u32),
    /// The project of its labels.
    Project(u32),
}

fn parts(set: &GroupSet) -> impl Iterator<Item = Part> + '_ {
    let project = set.labels.as_ref().map(|labelled| Part::Project(labelled.project));
    set.groups.iter().map(|group| Part::Group(*group)).chain(project)
}

/// The sets in use.
#[derive(Debug, Default)]
pub(crate) struct Filters {
    /// By number and meaning: one number with two meanings is nothing that the control plane
    /// writes, and must not make the result depend on what came first.
    uses: BTreeMap<GroupSet, Uses>,
    by_part: BTreeMap<Part, BTreeSet<u32>>,
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
        let uses = self.uses.entry(set.clone()).or_default();
        let before = *uses;
        uses.bounces += more.bounces;
        uses.ports += more.ports;
        if before == Uses::default() {
            for part in parts(set) {
                self.by_part.entry(part).or_default().insert(set.number);
            }
        }
        let first = (before.bounces == 0 && more.bounces > 0) || (before.ports == 0 && more.ports > 0);
        (first || new_network).then_some(set.number)
    }

    /// An entry is gone. Returns the set of which less may be needed now, or in one network less.
    pub fn remove(&mut self, body: &Body) -> Option<u32> {
        let (set, less, vni) = used(body)?;
        let uses = self.uses.get_mut(set)?;
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
            self.uses.remove(set);
            for part in parts(set) {
                let still = self.meanings(set.number).any(|(other, _)| parts(other).any(|other| other == part));
                if !still && let Some(sets) = self.by_part.get_mut(&part) {
                    sets.remove(&set.number);
                    if sets.is_empty() {
                        self.by_part.remove(&part);
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

    /// By whom a set is counted: the project of its labels, or the first of its groups. Hosts do not know
    /// whose groups are, and a project has few of them.
    pub fn owner(&self, set: u32) -> Option<Part> {
        let (set, _) = self.meanings(set).next()?;
        let project = parts(set).find(|part| matches!(part, Part::Project(_)));
        project.or_else(|| parts(set).min())
    }

    fn meanings(&self, number: u32) -> impl Iterator<Item = (&GroupSet, Uses)> {
        let first = GroupSet { number, groups: Vec::new(), labels: None };
        self.uses.range(first..).take_while(move |(set, _)| set.number == number).map(|(set, uses)| (set, *uses))
    }

    /// What a set is needed for; `None` = for nothing.
    pub fn need(&self, number: u32) -> Option<Need<'_>> {
        let mut need: Option<Need<'_>> = None;
        for (set, uses) in self.meanings(number) {
            let (ingress, egress) = need.map_or((false, false), |need| (need.ingress, need.egress));
            need = Some(Need { set, ingress: ingress || uses.bounces > 0, egress: egress || uses.ports > 0 });
        }
        need
    }

    /// The sets in use that something is part of.
    pub fn with(&self, part: Part) -> impl Iterator<Item = u32> + '_ {
        self.by_part.get(&part).into_iter().flatten().copied()
    }
}
