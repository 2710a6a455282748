//! Label policies: the rows of a port that some of them isolate.
//!
//! A port's labels are part of its set, so its number is an identity by which rules about labels are
//! looked up like those about groups. Which sets a selector means is found here, on the hosts that
//! need the policy, so that a policy is one entry in the feed however many ports it selects.
//!
//! In a direction in which any policy isolates the port, policies alone decide; in the other, and
//! where none does, its security groups do.

use crate::allowed::Allowed;
use crate::rows::{Builder, note};
use ipnet::Ipv4Net;
use mizar_wire::body::{LabelPeer, LabelPolicy, LabelPorts, Labelled, Labels};
use std::collections::{BTreeMap, BTreeSet};

/// What a host knows of the policies of a project.
pub(crate) trait LabelPolicies {
    /// Those about what comes in.
    fn ingress_policies(&self, project: u32) -> impl Iterator<Item = &LabelPolicy>;
    /// Those about what goes out.
    fn egress_policies(&self, project: u32) -> impl Iterator<Item = &LabelPolicy>;
    /// How often less may pass than before; `None`: the host has not heard of all those about what comes in.
    fn ingress_generation(&self, project: u32) -> Option<u32>;
    /// The same of what goes out. Either comes after the policies of its direction, and alone.
    fn egress_generation(&self, project: u32) -> Option<u32>;
    /// Its sets, by what they are labelled.
    fn labelled(&self, project: u32) -> impl Iterator<Item = (u32, &Labels)>;
}

/// Those of a project's policies that select a port.
pub(crate) fn selecting<'p>(
    port: &Labelled,
    policies: impl Iterator<Item = &'p LabelPolicy>,
) -> impl Iterator<Item = &'p LabelPolicy> {
    policies.filter(|policy| policy.namespace == port.labels.namespace && policy.ports.selects(&port.labels))
}

/// Adds what policies allow a port. Returns whether any of them isolates it.
pub(crate) fn add<'p>(
    to: &mut Builder,
    port: &Labelled,
    policies: impl Iterator<Item = &'p LabelPolicy>,
    context: &'p impl LabelPolicies,
    meanings: &mut Meanings<'p>,
    problem: &mut Option<String>,
) -> bool {
    let mut isolated = false;
    for policy in selecting(port, policies) {
        isolated = true;
        let meaning = meanings.of(policy, context);
        if !to.spend_on(policy.id, meaning.steps) {
            break;
        }
        if let Some(wrong) = meaning.wrong {
            note(problem, || format!("label policy {} has {wrong:?}, which are no interval", policy.id));
        }
        for Meant { allowed, everybody, sets, nets } in &meaning.rules {
            if *everybody {
                to.allow_everybody(allowed);
            }
            let all = sets.iter().all(|set| to.allow_set(*set, allowed));
            if !all || !nets.iter().all(|net| to.allow_net(*net, allowed)) {
                break;
            }
        }
    }
    isolated
}

/// What policies come to, each worked out once for all the sets that it selects.
pub(crate) struct Meanings<'p> {
    most: usize,
    labelled: BTreeMap<u32, Vec<(u32, &'p Labels)>>,
    /// By the entry itself, which stays where it is as long as this lives.
    of: BTreeMap<*const LabelPolicy, Meaning>,
    held: usize,
}

/// Sets, ranges and intervals that are remembered: 8 MB or so.
const HELD: usize = 1 << 20;

impl<'p> Meanings<'p> {
    /// A policy, and a set in one direction, may take so many steps.
    pub const fn new(most: usize) -> Self {
        Self { most, labelled: BTreeMap::new(), of: BTreeMap::new(), held: 0 }
    }

    /// How many steps it may take to work out the rows of a set in one direction.
    pub const fn most(&self) -> usize {
        self.most
    }

    fn of(&mut self, policy: &'p LabelPolicy, context: &'p impl LabelPolicies) -> &Meaning {
        if self.held > HELD {
            self.of.clear();
            self.held = 0;
        }
        self.of.entry(std::ptr::from_ref(policy)).or_insert_with(|| {
            let labelled = || context.labelled(policy.project).collect();
            let labelled = self.labelled.entry(policy.project).or_insert_with(labelled);
            let meaning = Meaning::of(policy, labelled, self.most);
            self.held += meaning.rules.iter().map(Meant::size).sum::<usize>();
            meaning
        })
    }
}

/// What a policy comes to.
#[derive(Default)]
struct Meaning {
    rules: Vec<Meant>,
    /// What it took. More than may be: then there are no rules.
    steps: usize,
    wrong: Option<LabelPorts>,
}

/// What one rule lets pass, and whom.
struct Meant {
    allowed: Allowed,
    everybody: bool,
    sets: Vec<u32>,
    nets: Vec<Ipv4Net>,
}

impl Meant {
    fn size(&self) -> usize {
        self.allowed.len() + self.sets.len() + self.nets.len()
    }
}

impl Meaning {
    fn of(policy: &LabelPolicy, labelled: &[(u32, &Labels)], most: usize) -> Self {
        let mut all = Self::default();
        for rule in &policy.rules {
            let mut allowed = Allowed::default();
            if rule.ports.is_empty() {
                allowed.add(None, 0, u16::MAX);
            }
            for ports in &rule.ports {
                if ports.first > ports.last {
                    all.wrong = all.wrong.or(Some(*ports));
                }
                allowed.add(Some(ports.protocol), ports.first, ports.last);
            }
            let (mut sets, mut nets) = (BTreeSet::new(), Vec::new());
            for peer in &rule.peers {
                all.steps += match peer {
                    LabelPeer::Block { except, .. } => 1 + except.len(),
                    LabelPeer::Ports { .. } => labelled.len(),
                };
                if all.steps > most {
                    return Self { rules: Vec::new(), ..all };
                }
                let named = labelled.iter().filter(|(_, labels)| peer.names(&policy.namespace, labels));
                sets.extend(named.map(|(set, _)| *set));
                nets.extend(peer.blocks());
            }
            let (everybody, sets) = (rule.peers.is_empty(), sets.into_iter().collect());
            all.rules.push(Meant { allowed, everybody, sets, nets });
        }
        all
    }
}
