//! From the rules of a set of security groups to the rows that decide.
//!
//! A decision is four lookups, whatever the number of rules: the identity that a packet carries
//! and POLICY under it, the class of its address in CIDR and POLICY under that, and POLICY under 0
//! for rules about everybody. All of them allow, so a longest match is any match.
//!
//! - A rule about a *group* stands under every identity (set of groups) that the group is in.
//! - A rule about *addresses* stands under a class. CIDR finds one prefix only, the longest; so a
//!   prefix's class has the rules of every prefix around it too. A class is what it allows, and so
//!   is its number, by a hash: the rows under a number mean the same for ever, and a prefix whose
//!   rules change moves, in one write, to another class whose rows are there already.
//!
//! What everybody may do is not repeated under identities and classes.
//!
//! Rules about IPv6 make no rows: the programs drop IPv6 packets, and a row under an identity
//! would let IPv4 packets through.

use crate::allowed::{Allowed, Cover};
use crate::budget;
use crate::filters::Need;
use crate::label::{self, LabelPolicies};
use crate::render::Claim;
use crate::table::{Cidr, Key, Rule, Value};
use ipnet::{IpNet, Ipv4Net};
use mizar_abi::hash::Sip13;
use mizar_abi::maps::{ALLOW, ANYBODY, Epoch, PolicyKey, cidr_identity, egress, epoch_flag};
use mizar_wire::body::{self, GroupSet, LabelPolicy, Labelled};
use std::collections::{BTreeMap, BTreeSet};

/// What rules refer to.
pub(crate) trait Peers {
    /// Numbers of the sets that a group is in.
    fn sets_with(&self, group: u32) -> impl Iterator<Item = u32>;
    /// The addresses of an address group.
    fn addresses(&self, group: u32) -> Option<&[IpNet]>;
}

/// The rules of groups.
pub(crate) trait Rules {
    /// What a group lets in.
    fn ingress(&self, group: u32) -> Option<&body::Group>;
    /// What a group lets out.
    fn egress(&self, group: u32) -> Option<&body::Group>;
}

/// The rows of one set of groups in one direction.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Rows {
    /// What may pass by identity or class.
    pub allowed: BTreeMap<u32, Allowed>,
    /// Classes of prefixes.
    pub classes: BTreeMap<Ipv4Net, u32>,
}

impl Rows {
    /// Whether what may pass depends on the security groups of the other side.
    pub fn ask_identity(&self) -> bool {
        self.allowed.keys().any(|identity| *identity != ANYBODY && *identity < SETS)
    }

    fn cost(&self) -> usize {
        let rows: usize = self.allowed.values().map(|allowed| allowed.covering().count()).sum();
        rows + self.classes.len() * budget::CLASS
    }

    fn claims(&self, policy: u32) -> impl Iterator<Item = Claim> + '_ {
        let rules = self
            .allowed
            .iter()
            .flat_map(move |(identity, allowed)| allowed.covering().map(move |cover| rule(policy, *identity, cover)));
        let classes = self
            .classes
            .iter()
            .map(move |(net, class)| Claim::new(Key::Cidr(Cidr::of(policy, &IpNet::V4(*net))), Value::Cidr(*class)));
        rules.chain(classes)
    }
}

fn rule(policy: u32, identity: u32, cover: Cover) -> Claim {
    let (bits, protocol, number) = match cover {
        Cover::Everything => (PolicyKey::ANY_BITS, 0, 0),
        Cover::Numbers { protocol, number, bits } => (PolicyKey::PROTO_BITS + bits, protocol, number),
    };
    let at = PolicyKey::new(policy, identity, protocol, number);
    Claim::new(Key::Policy(Rule { bits, at }), Value::Policy(ALLOW))
}

/// The rows of a set in both directions, as far as this host needs them.
#[derive(Debug, Default)]
pub(crate) struct Draft {
    egress: Rows,
    ingress: Rows,
    /// None until all rules are there: without a generation a denial is not the last word.
    epoch: Option<Epoch>,
    /// What it waits for, or what is wrong with it. The other rules are in force.
    problem: Option<String>,
}

impl Draft {
    /// What it takes of its network's budget.
    pub fn cost(&self) -> usize {
        self.egress.cost() + self.ingress.cost()
    }

    /// The map entries, and why they are not all.
    pub fn into_claims(self, set: u32) -> (Vec<Claim>, Option<String>) {
        let rows = self.egress.claims(egress(set)).chain(self.ingress.claims(set));
        let epoch = self.epoch.map(|epoch| Claim::new(Key::Epoch(set), Value::Epoch(epoch)));
        (rows.chain(epoch).collect(), self.problem)
    }
}

/// Drafts the rows of a set. A group that is not there takes no other group's rules with it.
pub(crate) fn draft(need: &Need<'_>, context: &(impl Peers + Rules + LabelPolicies)) -> Draft {
    let GroupSet { number, groups, labels } = need.set;
    let nothing = |problem| Draft { problem: Some(problem), ..Draft::default() };
    if *number == 0 || *number >= SETS {
        return nothing(format!("number {number} of a set of security groups is not in 1 to 2^31 - 1"));
    }
    let (mut draft, mut epoch) = (Draft::default(), Epoch::default());
    let project = labels.as_deref().map(|labelled| labelled.project);
    let outward = project.map_or(Some(0), |project| context.egress_generation(project)).filter(|_| need.egress);
    let inward = project.map_or(Some(0), |project| context.ingress_generation(project)).filter(|_| need.ingress);
    if let Some(project) = project
        && (outward.is_some(), inward.is_some()) != (need.egress, need.ingress)
    {
        // Whether any isolates it is not known, so in that direction nothing passes.
        draft.problem = Some(format!("waits for the label policies of project number {project}"));
    }
    // Where one direction has heard of more changes than the other, flows are not stamped with them yet.
    let labelled = outward.into_iter().chain(inward).min().unwrap_or(0);
    if outward.is_some() {
        let groups = known(groups, |group| context.egress(group), &mut draft.problem);
        epoch.n = generation(&groups).wrapping_add(labelled).max(1);
        let policies = |project| context.egress_policies(project);
        draft.egress = rows(&groups, labels.as_deref(), policies, context, &mut draft.problem);
        epoch.flags = if draft.egress.ask_identity() { epoch_flag::NEED_ID } else { 0 };
    }
    if inward.is_some() {
        let groups = known(groups, |group| context.ingress(group), &mut draft.problem);
        epoch.n = generation(&groups).wrapping_add(labelled).max(1);
        let policies = |project| context.ingress_policies(project);
        draft.ingress = rows(&groups, labels.as_deref(), policies, context, &mut draft.problem);
    }
    draft.epoch = draft.problem.is_none().then_some(epoch);
    draft
}

/// The rows of one direction: of label policies, if any isolates the port, else of its groups.
fn rows<'p, P: Iterator<Item = &'p LabelPolicy>>(
    groups: &[&body::Group],
    labels: Option<&Labelled>,
    policies: impl Fn(u32) -> P,
    context: &(impl Peers + LabelPolicies),
    problem: &mut Option<String>,
) -> Rows {
    let mut builder = Builder::default();
    let isolated = labels.is_some_and(|port| label::add(&mut builder, port, policies(port.project), context, problem));
    if !isolated {
        builder.add_rules(groups.iter().flat_map(|group| &group.rules), context, problem);
    }
    builder.finish()
}

/// Those groups that are there; takes note of the first that is not.
fn known<'g>(
    groups: &[u32],
    find: impl Fn(u32) -> Option<&'g body::Group>,
    problem: &mut Option<String>,
) -> Vec<&'g body::Group> {
    let mut there = Vec::with_capacity(groups.len());
    for group in groups {
        match find(*group) {
            Some(group) => there.push(group),
            None => note(problem, || format!("waits for the rules of security group number {group}")),
        }
    }
    there
}

pub(crate) fn note(problem: &mut Option<String>, what: impl FnOnce() -> String) {
    if problem.is_none() {
        *problem = Some(what());
    }
}

/// Rises whenever that of any group rises. 0 is what a host has that knows none.
fn generation(groups: &[&body::Group]) -> u32 {
    groups.iter().fold(1, |sum, group| sum.wrapping_add(group.generation))
}

/// Numbers of sets are above 0 and below this, numbers of classes are not.
const SETS: u32 = cidr_identity(0);

/// Makes rows of what is allowed to whom.
#[derive(Default)]
pub(crate) struct Builder {
    everybody: Allowed,
    sets: BTreeMap<u32, Allowed>,
    prefixes: BTreeMap<Ipv4Net, Allowed>,
}

impl Builder {
    /// Everybody may do this.
    pub fn allow_everybody(&mut self, allowed: &Allowed) {
        self.everybody.join(allowed);
    }

    /// Ports of a set may.
    pub fn allow_set(&mut self, set: u32, allowed: &Allowed) {
        self.sets.entry(set).or_default().join(allowed);
    }

    /// Addresses of a range may.
    pub fn allow_net(&mut self, net: Ipv4Net, allowed: &Allowed) {
        self.prefixes.entry(net.trunc()).or_default().join(allowed);
    }

    /// Adds rules of any number of groups; leaves out, and takes note of, what waits for something or
    /// is wrong.
    fn add_rules<'r>(
        &mut self,
        rules: impl IntoIterator<Item = &'r body::Rule>,
        peers: &impl Peers,
        problem: &mut Option<String>,
    ) {
        for rule in rules.into_iter().filter(|rule| !rule.ipv6) {
            let body::Rule { id, ipv6: _, protocol, ports: [first, last], remote } = rule;
            if first > last || (protocol.is_none() && (*first, *last) != (0, u16::MAX)) {
                note(problem, || format!("rule {id} is about no interval of ports"));
                continue;
            }
            let mut allowed = Allowed::default();
            allowed.add(*protocol, *first, *last);
            let nets: &[IpNet] = match remote {
                body::Remote::Any => {
                    self.allow_everybody(&allowed);
                    &[]
                }
                body::Remote::Group(group) => {
                    peers.sets_with(*group).for_each(|set| self.allow_set(set, &allowed));
                    &[]
                }
                body::Remote::Prefix(net) => std::slice::from_ref(net),
                body::Remote::AddressGroup(group) => peers.addresses(*group).unwrap_or_else(|| {
                    note(problem, || format!("waits for address group number {group}"));
                    &[]
                }),
            };
            for net in nets {
                if let IpNet::V4(net) = net {
                    self.allow_net(*net, &allowed);
                }
            }
        }
    }

    fn finish(self) -> Rows {
        let Self { everybody, sets, prefixes } = self;
        let classes = classes(prefixes, &everybody);
        let numbers = numbers(classes.values().cloned().collect());
        let mut allowed: BTreeMap<u32, Allowed> = sets.into_iter().filter(|(_, one)| !everybody.covers(one)).collect();
        let classes = classes.into_iter().filter_map(|(net, class)| Some((net, *numbers.get(&class)?))).collect();
        allowed.extend(numbers.into_iter().map(|(class, number)| (number, class)));
        if !everybody.is_empty() {
            allowed.insert(ANYBODY, everybody);
        }
        Rows { allowed, classes }
    }
}

/// What the addresses of each prefix may do, with the rules of the prefixes around it. Prefixes
/// with which nothing changes are left out.
fn classes(prefixes: BTreeMap<Ipv4Net, Allowed>, everybody: &Allowed) -> BTreeMap<Ipv4Net, Allowed> {
    let mut classes = BTreeMap::new();
    // In this order a prefix comes after those around it.
    let mut around: Vec<(Ipv4Net, Allowed)> = Vec::new();
    for (net, mut allowed) in prefixes {
        while around.last().is_some_and(|(outer, _)| !outer.contains(&net)) {
            around.pop();
        }
        let changes = match around.last() {
            Some((_, outer)) => {
                allowed.join(outer);
                allowed != *outer
            }
            None => true,
        };
        if changes && !everybody.covers(&allowed) {
            classes.insert(net, allowed.clone());
        }
        around.push((net, allowed));
    }
    classes
}

/// A number for each class, from what it allows. Two of one set seldom meet; the one later in order
/// then takes the next free number, so that the numbers follow from the classes alone.
fn numbers(classes: BTreeSet<Allowed>) -> BTreeMap<Allowed, u32> {
    let mut taken = BTreeSet::new();
    let number = |class: Allowed| {
        let mut number = cidr_identity(hash(&class));
        // The last number stands for no class.
        while number == u32::MAX || !taken.insert(number) {
            number = cidr_identity(number.wrapping_add(1));
        }
        (class, number)
    };
    classes.into_iter().map(number).collect()
}

fn hash(class: &Allowed) -> u32 {
    let mut sip = Sip13::new(b"mizar class hash");
    let mut bytes = 0;
    for word in class.words() {
        sip = sip.word(word);
        bytes += 8;
    }
    sip.finish(bytes, 0) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    struct World(BTreeMap<u32, Vec<u32>>, BTreeMap<u32, Vec<IpNet>>);

    impl Peers for World {
        fn sets_with(&self, group: u32) -> impl Iterator<Item = u32> {
            self.0.get(&group).into_iter().flatten().copied()
        }

        fn addresses(&self, group: u32) -> Option<&[IpNet]> {
            self.1.get(&group).map(Vec::as_slice)
        }
    }

    /// The rows of rules with which nothing is wrong.
    fn right(rules: &[body::Rule]) -> Rows {
        let (rows, problem) = made(rules);
        assert_eq!(problem, None);
        rows
    }

    fn made(rules: &[body::Rule]) -> (Rows, Option<String>) {
        let (mut builder, mut problem) = (Builder::default(), None);
        builder.add_rules(rules, &world(), &mut problem);
        (builder.finish(), problem)
    }

    fn world() -> World {
        World(
            BTreeMap::from([(1, vec![10, 11])]),
            BTreeMap::from([(2, vec![net("10.1.0.0/16"), net("2001:db8::/32")])]),
        )
    }

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn tcp(ports: [u16; 2], remote: body::Remote) -> body::Rule {
        body::Rule { id: Uuid::nil(), ipv6: false, protocol: Some(6), ports, remote }
    }

    fn allowed(intervals: &[(u16, u16)]) -> Allowed {
        let mut all = Allowed::default();
        intervals.iter().for_each(|(first, last)| all.add(Some(6), *first, *last));
        all
    }

    #[test]
    fn a_rule_about_a_group_stands_under_every_set_that_the_group_is_in() {
        let got = right(&[tcp([22, 22], body::Remote::Group(1)), tcp([22, 22], body::Remote::Group(7))]);
        assert_eq!(got.allowed, BTreeMap::from([(10, allowed(&[(22, 22)])), (11, allowed(&[(22, 22)]))]));
        assert!(got.ask_identity());
    }

    #[test]
    fn an_inner_prefix_has_the_rules_of_the_outer_ones_too() {
        let rules = [
            tcp([1, 1], body::Remote::Prefix(net("10.0.0.0/8"))),
            tcp([2, 2], body::Remote::AddressGroup(2)),
            tcp([3, 3], body::Remote::Prefix(net("11.0.0.0/8"))),
            tcp([1, 1], body::Remote::Prefix(net("10.9.0.0/16"))),
        ];
        let got = right(&rules);
        let under = |prefix: &str| {
            let number = got.classes.get(&prefix.parse().unwrap())?;
            got.allowed.get(number).cloned()
        };
        assert_eq!(under("10.0.0.0/8"), Some(allowed(&[(1, 1)])));
        assert_eq!(under("10.1.0.0/16"), Some(allowed(&[(1, 2)])));
        assert_eq!(under("11.0.0.0/8"), Some(allowed(&[(3, 3)])));
        assert_eq!(under("10.9.0.0/16"), None, "the prefix around it says the same");
        assert!(!got.ask_identity());
    }

    #[test]
    fn what_everybody_may_do_is_not_repeated() {
        let rules = [
            tcp([0, 100], body::Remote::Any),
            tcp([5, 6], body::Remote::Group(1)),
            tcp([7, 7], body::Remote::Prefix(net("10.0.0.0/8"))),
        ];
        let got = right(&rules);
        assert_eq!((got.allowed, got.classes), (BTreeMap::from([(0, allowed(&[(0, 100)]))]), BTreeMap::new()));
    }

    #[test]
    fn the_rows_of_a_class_never_change_their_meaning() {
        let one = [tcp([1, 1], body::Remote::Prefix(net("10.0.0.0/8")))];
        let more = [one[0].clone(), tcp([2, 2], body::Remote::Prefix(net("10.1.0.0/16")))];
        let (before, after) = (right(&one), right(&more));
        for (number, allowed) in &before.allowed {
            assert_eq!(after.allowed.get(number), Some(allowed));
        }
    }

    #[test]
    fn classes_whose_hashes_meet_get_numbers_of_their_own() {
        let classes: BTreeSet<Allowed> = (0..200u16).map(|port| allowed(&[(port, port)])).collect();
        let numbers = super::numbers(classes.clone());
        assert_eq!(numbers.values().collect::<BTreeSet<_>>().len(), 200);
        assert!(numbers.values().all(|number| *number >= SETS));
    }

    #[test]
    fn a_rule_that_is_about_nothing_known_is_left_out_and_named() {
        let fine = tcp([1, 1], body::Remote::Any);
        let wrong = [
            tcp([1, 1], body::Remote::AddressGroup(9)),
            tcp([2, 1], body::Remote::Any),
            body::Rule { protocol: None, ..tcp([2, 3], body::Remote::Any) },
        ];
        for wrong in wrong {
            let (rows, problem) = made(&[wrong, fine.clone()]);
            assert_eq!(rows.allowed, BTreeMap::from([(0, allowed(&[(1, 1)]))]));
            assert!(problem.is_some());
        }
        let v6 = [body::Rule { ipv6: true, ..tcp([1, 1], body::Remote::Any) }];
        assert_eq!(right(&v6), Rows::default(), "IPv6 rules let no IPv4 packet pass");
    }
}
