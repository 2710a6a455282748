//! What one port may send to another, as a whole: every packet that may begin a conversation, not one
//! of them.
//!
//! Both sides decide: what leaves is judged by the rules of whoever sends, what arrives by those of
//! whoever receives ([`Judge`]). A side may be reached at several addresses, or send from several; each
//! rule fits some of them. What passes is the union over its addresses, since a sender chooses: so a
//! rule counts as soon as it fits any, and the two sides are joined last.
//!
//! Of IPv4 only, which is what is carried.

use super::{Remote, Rule};
use crate::cidr::v4;
use crate::label_policy::{self, Peer, Policy};
use crate::model::GroupSet;
use crate::security_group::{Direction, Ethertype, ICMP};
use ipnet::{IpNet, Ipv4Net};
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

/// Rules of whatever ports name, by their numbers.
#[derive(Clone, Debug, Default)]
pub struct Known {
    groups: BTreeMap<u32, Group>,
    stateless: BTreeSet<u32>,
    addresses: BTreeMap<u32, Listed>,
    policies: BTreeMap<u32, Vec<Policy>>,
}

impl Known {
    /// A security group, and whether its rules may be told. One that is not known allows nothing, as a group without
    /// rules does.
    pub fn group(&mut self, number: u32, rules: Vec<Rule>, told: bool) {
        self.groups.insert(number, Group { rules, told });
    }

    /// That a security group is stateless.
    pub fn stateless(&mut self, number: u32) {
        self.stateless.insert(number);
    }

    /// Whether each packet of a port is judged by itself, answers too: where all of its groups are stateless. One with
    /// labels has label policies for a part, which are stateful; `None`: the port is not filtered.
    pub fn is_stateless(&self, set: Option<&GroupSet>) -> bool {
        let all = |set: &GroupSet| {
            let mut groups = set.groups.iter();
            set.labels.is_none() && !set.groups.is_empty() && groups.all(|group| self.stateless.contains(group))
        };
        set.is_some_and(all)
    }

    /// An address group, and whether its addresses may be told.
    pub fn addresses(&mut self, number: u32, addresses: &[IpNet], told: bool) {
        self.addresses.insert(number, Listed { nets: Nets::of(addresses.iter().copied().filter_map(v4)), told });
    }

    /// A label policy of a project.
    pub fn policy(&mut self, project: u32, policy: Policy) {
        self.policies.entry(project).or_default().push(policy);
    }

    /// Forgets the label policies of all other projects.
    pub fn keep_policies(&mut self, projects: &BTreeSet<u32>) {
        self.policies.retain(|project, _| projects.contains(project));
    }
}

/// The rules of a security group.
#[derive(Clone, Debug)]
struct Group {
    rules: Vec<Rule>,
    told: bool,
}

/// The addresses of an address group.
#[derive(Clone, Debug)]
struct Listed {
    nets: Nets,
    told: bool,
}

/// Addresses, as ranges in order that neither overlap nor touch.
#[derive(Clone, Debug, Default)]
struct Nets(Vec<(u32, u32)>);

impl Nets {
    fn of(nets: impl IntoIterator<Item = Ipv4Net>) -> Self {
        Self(merged(nets.into_iter().map(ends).collect(), |last| last.saturating_add(1)))
    }

    fn meets(&self, net: Ipv4Net) -> bool {
        let (first, last) = ends(net);
        let place = self.0.partition_point(|range| range.1 < first);
        self.0.get(place).is_some_and(|range| range.0 <= last)
    }
}

/// Intervals in order, those that overlap or touch as one; `next` comes after a last one.
fn merged<N: Copy + Ord>(mut all: Vec<(N, N)>, next: fn(N) -> N) -> Vec<(N, N)> {
    all.sort_unstable();
    let mut merged: Vec<(N, N)> = Vec::with_capacity(all.len());
    for (first, last) in all {
        match merged.last_mut() {
            Some(before) if first <= next(before.1) => before.1 = before.1.max(last),
            _ => merged.push((first, last)),
        }
    }
    merged
}

fn ends(net: Ipv4Net) -> (u32, u32) {
    (net.network().to_bits(), net.broadcast().to_bits())
}

/// One side of a conversation.
#[derive(Clone, Debug)]
pub struct End<'a> {
    /// Addresses at which it is reached.
    pub at: Vec<Ipv4Net>,
    /// Addresses from which it may send: also those of allowed pairs, and any without port security.
    pub from: Vec<Ipv4Net>,
    /// Its security groups and labels; `None`: it is not filtered.
    pub set: Option<&'a GroupSet>,
}

/// Which packets: for each protocol the intervals of its numbers ([`super::Rule`]).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    everything: bool,
    /// In order, neither overlapping nor touching.
    of: BTreeMap<u8, Vec<(u16, u16)>>,
}

/// Packets in the words of a rule: an ICMP message by type and code, others by ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    /// `None`: any.
    pub protocol: Option<u8>,
    /// First port, or type; `None`: any.
    pub low: Option<u16>,
    /// Last port, or code; `None`: any.
    pub high: Option<u16>,
}

impl Traffic {
    /// Every packet.
    pub fn everything() -> Self {
        Self { everything: true, of: BTreeMap::new() }
    }

    /// Those of one protocol with numbers of one interval.
    pub fn of(protocol: u8, first: u16, last: u16) -> Self {
        Self { everything: false, of: BTreeMap::from([(protocol, vec![(first, last)])]) }
    }

    /// None.
    pub fn is_nothing(&self) -> bool {
        !self.everything && self.of.is_empty()
    }

    /// Whether it has a packet.
    pub fn contains(&self, protocol: u8, number: u16) -> bool {
        let within = |(first, last): &(u16, u16)| (*first..=*last).contains(&number);
        self.everything || self.of.get(&protocol).is_some_and(|all| all.iter().any(within))
    }

    /// Adds what a rule is about. One about any protocol is about every number.
    fn add(&mut self, protocol: Option<u8>, first: u16, last: u16) {
        match protocol {
            _ if self.everything => {}
            None => *self = Self::everything(),
            Some(protocol) => self.of.entry(protocol).or_default().push((first, last)),
        }
    }

    fn in_order(mut self) -> Self {
        for all in self.of.values_mut() {
            *all = merged(std::mem::take(all), |last| last.saturating_add(1));
        }
        self
    }

    /// What both have.
    #[must_use]
    pub fn both(&self, other: &Self) -> Self {
        match (self.everything, other.everything) {
            (true, _) => return other.clone(),
            (_, true) => return self.clone(),
            (false, false) => {}
        }
        let mut of = BTreeMap::new();
        for (protocol, mine) in &self.of {
            let Some(theirs) = other.of.get(protocol) else { continue };
            let common = in_common(mine, theirs);
            if !common.is_empty() {
                of.insert(*protocol, common);
            }
        }
        Self { everything: false, of }
    }

    /// It, as rules would say it.
    pub fn lines(&self) -> Vec<Line> {
        if self.everything {
            return vec![Line { protocol: None, low: None, high: None }];
        }
        let line = |protocol: u8, (first, last): (u16, u16)| match (first, last) {
            (0, u16::MAX) => vec![Line { protocol: Some(protocol), low: None, high: None }],
            _ if protocol == ICMP => messages(first, last),
            _ => vec![Line { protocol: Some(protocol), low: Some(first), high: Some(last) }],
        };
        self.of.iter().flat_map(|(protocol, all)| all.iter().flat_map(|one| line(*protocol, *one))).collect()
    }
}

/// What lies in intervals of both, which are in order: in as many steps as there are intervals.
fn in_common(mine: &[(u16, u16)], theirs: &[(u16, u16)]) -> Vec<(u16, u16)> {
    let (mut mine, mut theirs) = (mine.iter().copied().peekable(), theirs.iter().copied().peekable());
    let mut common = Vec::new();
    while let (Some(one), Some(two)) = (mine.peek(), theirs.peek()) {
        common.extend(meet(*one, *two));
        // The one that ends first meets nothing more.
        if one.1 < two.1 {
            mine.next()
        } else {
            theirs.next()
        };
    }
    common
}

fn meet(one: (u16, u16), two: (u16, u16)) -> Option<(u16, u16)> {
    let (first, last) = (one.0.max(two.0), one.1.min(two.1));
    (first <= last).then_some((first, last))
}

/// Types and codes of an interval: a type whose codes are all there is one line.
fn messages(first: u16, last: u16) -> Vec<Line> {
    let mut lines = Vec::new();
    for kind in first >> 8..=last >> 8 {
        let whole = (kind << 8, (kind << 8) | 0xff);
        let Some((low, high)) = meet(whole, (first, last)) else { continue };
        let line = |code| Line { protocol: Some(ICMP), low: Some(kind), high: code };
        if (low, high) == whole {
            lines.push(line(None));
        } else {
            lines.extend((low..=high).map(|number| line(Some(number & 0xff))));
        }
    }
    lines
}

/// The other side of a rule.
#[derive(Clone, Debug)]
enum Who<'k> {
    Anybody,
    At(Nets),
    Listed(&'k Listed),
    Group(u32),
    Labels { project: u32, namespace: &'k str, peer: &'k Peer },
}

impl Who<'_> {
    /// Does it mean somebody with this set at one of these addresses?
    fn means(&self, set: Option<&GroupSet>, addresses: &[Ipv4Net]) -> bool {
        match self {
            Self::Anybody => true,
            Self::At(nets) => addresses.iter().any(|net| nets.meets(*net)),
            Self::Listed(listed) => addresses.iter().any(|net| listed.nets.meets(*net)),
            Self::Group(number) => set.is_some_and(|set| set.groups.contains(number)),
            Self::Labels { project, namespace, peer } => set
                .and_then(|set| set.labels.as_ref())
                .is_some_and(|other| other.project == *project && peer.names(namespace, &other.labels)),
        }
    }
}

/// A rule: each of these may do all of that. The two are never multiplied: a manifest of a few kilobytes
/// would be hundreds of thousands of pairs.
#[derive(Clone, Debug)]
struct Allowed<'k> {
    who: Vec<Who<'k>>,
    what: Vec<(Option<u8>, u16, u16)>,
    told: bool,
}

/// What the rules of a port say in one direction.
#[derive(Clone, Debug)]
pub struct Judge<'k> {
    /// `None`: nothing is filtered.
    allowed: Option<Vec<Allowed<'k>>>,
}

impl<'k> Judge<'k> {
    /// Of a port with these security groups and labels; `None`: it is not filtered.
    pub fn of(known: &'k Known, set: Option<&GroupSet>, direction: Direction) -> Self {
        let Some(set) = set else { return Self { allowed: None } };
        let labelled = set.labels.iter().flat_map(|own| {
            let policies = known.policies.get(&own.project).into_iter().flatten();
            policies.filter_map(|policy| Some((own.project, policy, policy.isolates(&own.labels, direction)?)))
        });
        let (mut isolated, mut allowed) = (false, Vec::new());
        for (project, policy, rules) in labelled {
            isolated = true;
            for rule in rules {
                of_policy(project, &policy.namespace, rule, &mut allowed);
            }
        }
        if !isolated {
            for group in set.groups.iter().filter_map(|group| known.groups.get(group)) {
                let is_meant = |rule: &&Rule| rule.direction == direction && rule.ethertype == Ethertype::V4;
                let own = group.rules.iter().filter(is_meant);
                allowed.extend(own.filter_map(|rule| of_group(known, rule, group.told)));
            }
        }
        Self { allowed: Some(allowed) }
    }

    /// What may pass to or from somebody with this set at any of these addresses.
    pub fn allows(&self, set: Option<&GroupSet>, addresses: &[Ipv4Net]) -> Traffic {
        let Some(allowed) = &self.allowed else { return Traffic::everything() };
        let mut traffic = Traffic::default();
        for Allowed { who, what, .. } in allowed {
            if who.iter().any(|who| who.means(set, addresses)) {
                what.iter().for_each(|(protocol, first, last)| traffic.add(*protocol, *first, *last));
            }
        }
        traffic.in_order()
    }

    /// Whether one packet may pass to or from somebody with this set at this address: `number` as in a rule's interval.
    pub fn lets(&self, set: Option<&GroupSet>, at: Ipv4Addr, protocol: u8, number: u16) -> bool {
        let Some(allowed) = &self.allowed else { return true };
        let at = [Ipv4Net::from(at)];
        allowed.iter().any(|Allowed { who, what, .. }| {
            // A rule about any protocol is about every number.
            let is_about = |(of, first, last): &(Option<u8>, u16, u16)| {
                of.is_none_or(|of| of == protocol && (*first..=*last).contains(&number))
            };
            what.iter().any(is_about) && who.iter().any(|who| who.means(set, &at))
        })
    }

    /// How much there is to look at for each packet or other side.
    pub fn size(&self) -> usize {
        let of = |Allowed { who, what, .. }: &Allowed<'_>| {
            let who: usize = who.iter().map(|who| if let Who::At(nets) = who { nets.0.len() } else { 1 }).sum();
            who + what.len()
        };
        self.allowed.iter().flatten().map(of).sum()
    }

    /// What may pass by address alone, whoever has it, by at most so many prefixes; and whether there are more,
    /// or such as may not be told.
    pub fn by_address(&self, at_most: usize) -> (BTreeMap<Ipv4Net, Traffic>, bool) {
        let everybody = Ipv4Net::default();
        let Some(allowed) = &self.allowed else {
            return (BTreeMap::from([(everybody, Traffic::everything())]), false);
        };
        let (mut by_address, mut more): (BTreeMap<Ipv4Net, Traffic>, bool) = (BTreeMap::new(), false);
        for Allowed { who, what, told } in allowed {
            for who in who {
                let nets = match who {
                    Who::Group(_) | Who::Labels { .. } => continue,
                    who if !told || matches!(who, Who::Listed(Listed { told: false, .. })) => {
                        more = true;
                        continue;
                    }
                    Who::Anybody => vec![everybody],
                    Who::At(nets) | Who::Listed(Listed { nets, .. }) => nets.prefixes(),
                };
                for net in nets {
                    if by_address.len() >= at_most && !by_address.contains_key(&net) {
                        more = true;
                        continue;
                    }
                    let traffic = by_address.entry(net).or_default();
                    what.iter().for_each(|(protocol, first, last)| traffic.add(*protocol, *first, *last));
                }
            }
        }
        (by_address.into_iter().map(|(net, traffic)| (net, traffic.in_order())).collect(), more)
    }
}

impl Nets {
    fn prefixes(&self) -> Vec<Ipv4Net> {
        let range = |(first, last): &(u32, u32)| ipnet::Ipv4Subnets::new((*first).into(), (*last).into(), 0);
        self.0.iter().flat_map(range).collect()
    }
}

fn of_group<'k>(known: &'k Known, rule: &Rule, told: bool) -> Option<Allowed<'k>> {
    let who = match rule.remote {
        Remote::Any => Who::Anybody,
        Remote::Prefix(prefix) => Who::At(Nets::of(v4(prefix))),
        Remote::Group(number) => Who::Group(number),
        Remote::AddressGroup(number) => Who::Listed(known.addresses.get(&number)?),
    };
    Some(Allowed { who: vec![who], what: vec![(rule.protocol, rule.first, rule.last)], told })
}

fn of_policy<'k>(project: u32, namespace: &'k str, rule: &'k label_policy::Rule, allowed: &mut Vec<Allowed<'k>>) {
    let mut who: Vec<Who<'k>> = rule
        .peers
        .iter()
        .map(|peer| match peer {
            Peer::Block { .. } => Who::At(Nets::of(peer.blocks())),
            Peer::Ports { .. } => Who::Labels { project, namespace, peer },
        })
        .collect();
    if who.is_empty() {
        who.push(Who::Anybody);
    }
    let mut what: Vec<_> = rule.ports.iter().map(|ports| (Some(ports.protocol), ports.first, ports.last)).collect();
    if what.is_empty() {
        what.push((None, 0, u16::MAX));
    }
    // A project sees its own policies.
    allowed.push(Allowed { who, what, told: true });
}

/// What one port may send to another: what leaves the one and enters the other.
pub fn between(leaves: &Judge<'_>, source: &End<'_>, enters: &Judge<'_>, target: &End<'_>) -> Traffic {
    if source.from.is_empty() || target.at.is_empty() {
        return Traffic::default();
    }
    leaves.allows(target.set, &target.at).both(&enters.allows(source.set, &source.from))
}
