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
use crate::render::Claim;
use crate::table::{Cidr, Key, Rule, Value};
use crate::work::Spent;
use ipnet::{IpNet, Ipv4Net};
use mizar_abi::hash::Sip13;
use mizar_abi::maps::{ALLOW, ANYBODY, PolicyKey, cidr_identity};
use mizar_wire::body;
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

/// What rules refer to.
pub(crate) trait Peers {
    /// Numbers of the sets that a group is in.
    fn sets_with(&self, group: u32) -> impl Iterator<Item = u32>;
    /// The addresses of an address group.
    fn addresses(&self, group: u32) -> Option<&[IpNet]>;
}

/// The rows of one set of groups in one direction.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Rows {
    /// What may pass by identity or class.
    pub allowed: BTreeMap<u32, Allowed>,
    /// Classes of prefixes.
    pub classes: BTreeMap<Ipv4Net, u32>,
    /// What it took to work them out: the meanings of policies, which other sets may have too, apart.
    pub spent: Spent<Uuid>,
}

impl Rows {
    /// Whether what may pass depends on the security groups of the other side.
    pub fn ask_identity(&self) -> bool {
        self.allowed.keys().any(|identity| *identity != ANYBODY && *identity < SETS)
    }

    /// What they take of a network's budget.
    pub fn cost(&self) -> usize {
        let rows: usize = self.allowed.values().map(|allowed| allowed.covering().count()).sum();
        rows + self.classes.len() * budget::CLASS
    }

    /// The map entries.
    pub fn claims(&self, policy: u32) -> impl Iterator<Item = Claim> + '_ {
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

/// Takes note of the first thing that is wrong.
pub(crate) fn note(problem: &mut Option<String>, what: impl FnOnce() -> String) {
    if problem.is_none() {
        *problem = Some(what());
    }
}

/// Numbers of sets are above 0 and below this, numbers of classes are not.
pub(crate) const SETS: u32 = cidr_identity(0);

/// Makes rows of what is allowed to whom, as long as that takes no more steps than it may: tenants write
/// what is multiplied here, and the host does nothing else meanwhile.
pub(crate) struct Builder {
    everybody: Allowed,
    sets: BTreeMap<u32, Allowed>,
    prefixes: BTreeMap<Ipv4Net, Allowed>,
    most: usize,
    /// Steps that are left; `None`: there were too few.
    left: Option<usize>,
    /// Those of policies' meanings.
    meanings: Vec<(Uuid, usize)>,
}

/// Joins one to another, and says in how many steps. To find them takes as long as to merge some intervals.
fn join(to: &mut Allowed, allowed: &Allowed) -> usize {
    let steps = 1 + (to.len() + allowed.len()) / 16;
    to.join(allowed);
    steps
}

impl Builder {
    /// It may take so many steps.
    pub fn new(most: usize) -> Self {
        let everybody = Allowed::default();
        let (sets, prefixes, meanings) = Default::default();
        Self { everybody, sets, prefixes, most, left: Some(most), meanings }
    }

    /// Takes note of steps; `false`: it is too much.
    pub fn spend(&mut self, steps: usize) -> bool {
        self.left = self.left.and_then(|left| left.checked_sub(steps));
        self.left.is_some()
    }

    /// Takes note of what the meaning of a policy took, also where another set had it worked out: whether a set
    /// has rows must not depend on others. `false`: it is too much.
    pub fn spend_on(&mut self, policy: Uuid, steps: usize) -> bool {
        self.meanings.push((policy, steps));
        self.spend(steps)
    }

    /// Everybody may do this.
    pub fn allow_everybody(&mut self, allowed: &Allowed) {
        let steps = join(&mut self.everybody, allowed);
        self.spend(steps);
    }

    /// Ports of a set may; `false`: it is too much.
    pub fn allow_set(&mut self, set: u32, allowed: &Allowed) -> bool {
        let steps = join(self.sets.entry(set).or_default(), allowed);
        self.spend(steps)
    }

    /// Addresses of a range may; `false`: it is too much.
    pub fn allow_net(&mut self, net: Ipv4Net, allowed: &Allowed) -> bool {
        let steps = join(self.prefixes.entry(net.trunc()).or_default(), allowed);
        self.spend(steps)
    }

    /// Adds rules of any number of groups; leaves out, and takes note of, what waits for something or
    /// is wrong.
    pub fn add_rules<'r>(
        &mut self,
        rules: impl IntoIterator<Item = &'r body::Rule>,
        peers: &impl Peers,
        problem: &mut Option<String>,
    ) {
        // By what they name, for that is what there may be much of.
        let (mut groups, mut prefixes): (BTreeMap<u32, Allowed>, BTreeMap<IpNet, Allowed>) = Default::default();
        let mut lists: BTreeMap<u32, Allowed> = BTreeMap::new();
        for rule in rules.into_iter().filter(|rule| !rule.ipv6) {
            let body::Rule { id, ipv6: _, protocol, ports: [first, last], remote } = rule;
            if first > last || (protocol.is_none() && (*first, *last) != (0, u16::MAX)) {
                note(problem, || format!("rule {id} is about no interval of ports"));
                continue;
            }
            let allowed = match remote {
                body::Remote::Any => &mut self.everybody,
                body::Remote::Group(group) => groups.entry(*group).or_default(),
                body::Remote::Prefix(net) => prefixes.entry(*net).or_default(),
                body::Remote::AddressGroup(group) => lists.entry(*group).or_default(),
            };
            allowed.add(*protocol, *first, *last);
        }
        for (group, allowed) in &groups {
            if !peers.sets_with(*group).all(|set| self.allow_set(set, allowed)) {
                return;
            }
        }
        let listed = lists.iter().flat_map(|(group, allowed)| {
            let nets = peers.addresses(*group).unwrap_or_else(|| {
                note(problem, || format!("waits for address group number {group}"));
                &[]
            });
            nets.iter().map(move |net| (net, allowed))
        });
        for (net, allowed) in prefixes.iter().chain(listed) {
            if let IpNet::V4(net) = net
                && !self.allow_net(*net, allowed)
            {
                return;
            }
        }
    }

    /// `None`: it took too long.
    pub fn finish(self) -> Option<Rows> {
        let Self { everybody, sets, prefixes, most, left, meanings: shared } = self;
        let mut left = left?;
        let classes = classes(prefixes, &everybody, &mut left)?;
        // One after the other: there may be many prefixes of few classes.
        let mut distinct = BTreeSet::new();
        for class in classes.values() {
            if !distinct.contains(class) {
                distinct.insert(class.clone());
            }
        }
        let numbers = numbers(distinct);
        let mut allowed: BTreeMap<u32, Allowed> = sets.into_iter().filter(|(_, one)| !everybody.covers(one)).collect();
        let classes = classes.into_iter().filter_map(|(net, class)| Some((net, *numbers.get(&class)?))).collect();
        allowed.extend(numbers.into_iter().map(|(class, number)| (number, class)));
        if !everybody.is_empty() {
            allowed.insert(ANYBODY, everybody);
        }
        let own = most - left - shared.iter().map(|(_, steps)| steps).sum::<usize>();
        Some(Rows { allowed, classes, spent: Spent { own, shared } })
    }
}

/// What the addresses of each prefix may do, with the rules of the prefixes around it. Prefixes
/// with which nothing changes are left out. `None`: there are not so many steps left.
fn classes(
    prefixes: BTreeMap<Ipv4Net, Allowed>,
    everybody: &Allowed,
    left: &mut usize,
) -> Option<BTreeMap<Ipv4Net, Allowed>> {
    let mut classes = BTreeMap::new();
    // In this order a prefix comes after those around it.
    let mut around: Vec<(Ipv4Net, Allowed)> = Vec::new();
    for (net, mut allowed) in prefixes {
        while around.last().is_some_and(|(outer, _)| !outer.contains(&net)) {
            around.pop();
        }
        let changes = match around.last() {
            Some((_, outer)) => {
                *left = left.checked_sub(join(&mut allowed, outer))?;
                allowed != *outer
            }
            None => true,
        };
        if changes && !everybody.covers(&allowed) {
            classes.insert(net, allowed.clone());
        }
        around.push((net, allowed));
    }
    Some(classes)
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
        let (mut builder, mut problem) = (Builder::new(1_000), None);
        builder.add_rules(rules, &world(), &mut problem);
        (builder.finish().expect("few steps"), problem)
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
    fn joins_are_counted_and_too_many_make_no_rows() {
        let groups: Vec<_> = (0..40).map(|_| tcp([1, 1], body::Remote::Group(1))).collect();
        let nets: Vec<_> = (0..40).map(|n| tcp([1, 1], body::Remote::Prefix(net(&format!("10.{n}.0.0/16"))))).collect();
        let made = |rules: &[body::Rule], most| {
            let mut builder = Builder::new(most);
            builder.add_rules(rules, &world(), &mut None);
            builder.finish().is_some()
        };
        assert!(made(&groups, 2) && !made(&groups, 1), "one for each set of the group, however many rules name it");
        assert!(made(&nets, 40) && !made(&nets, 39));
        let around = [nets, vec![tcp([2, 2], body::Remote::Prefix(net("10.0.0.0/8")))]].concat();
        assert!(made(&around, 81) && !made(&around, 80), "each has the rules of the one around it");
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
