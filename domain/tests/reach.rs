//! What may pass between two ports as a whole is what the references of Neutron and Kubernetes let
//! pass packet by packet, from any address of the one to any of the other.

use ipnet::{IpNet, Ipv4Net};
use mizar_domain::label_policy::reference::{Other, allows as labels_allow};
use mizar_domain::label_policy::{Is, Labels, Peer, Policy, Ports, Requirement, Rule as LabelRule, Selector};
use mizar_domain::model::{GroupSet, Labelled};
use mizar_domain::policy::reach::{End, Judge, Known, Line, Traffic, between};
use mizar_domain::policy::reference::{Packet, Peer as Side, Transport, allows as groups_allow};
use mizar_domain::policy::{Numbers, Rule, icmp};
use mizar_domain::security_group::{self, Direction, Ethertype, Protocol, Remote};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use uuid::Uuid;

/// Groups of either kind by their numbers.
const GROUPS: std::ops::Range<u32> = 0..3;
/// A project with policies, and one without any but with the same labels.
const OWN: u32 = 1;
const OTHER: u32 = 2;

fn group(number: u32) -> Uuid {
    Uuid::from_u128(number.into())
}

fn at(last: u32) -> Ipv4Addr {
    Ipv4Addr::from(0x0a00_0000 | last)
}

/// Every address that rules and ports have, and one that they have not.
fn every() -> impl Iterator<Item = Ipv4Addr> {
    (0..16).map(at).chain([Ipv4Addr::new(192, 0, 2, 1)])
}

#[derive(Clone, Debug)]
struct Port {
    at: Vec<Ipv4Net>,
    from: Vec<Ipv4Net>,
    set: Option<GroupSet>,
}

#[derive(Clone, Debug)]
struct Cloud {
    rules: BTreeMap<u32, Vec<security_group::Rule>>,
    addresses: BTreeMap<u32, Vec<IpNet>>,
    policies: Vec<Policy>,
}

impl Cloud {
    fn known(&self) -> Known {
        let mut known = Known::default();
        for (number, rules) in &self.rules {
            let rule = |rule: &security_group::Rule| {
                let number = |id: Uuid| u32::try_from(id.as_u128()).expect("a small one");
                let Remote { group, addresses, .. } = rule.remote;
                let numbers = Numbers { group: group.map(number), addresses: addresses.map(number) };
                Rule::of(Uuid::nil(), rule, numbers).expect("a checked rule")
            };
            known.group(*number, rules.iter().map(rule).collect(), true);
        }
        for (number, addresses) in &self.addresses {
            known.addresses(*number, addresses, true);
        }
        for policy in &self.policies {
            known.policy(OWN, policy.clone());
        }
        known
    }

    /// Whether one side lets a packet pass, by the references.
    fn lets(&self, own: &Port, direction: Direction, packet: Packet, peer: &Port, address: Ipv4Addr) -> bool {
        let Some(set) = &own.set else { return true };
        if let Some(labelled) = &set.labels {
            let other = peer.set.as_ref().and_then(|set| set.labels.as_ref());
            let labels = other.filter(|other| other.project == labelled.project).map(|other| &other.labels);
            let policies: &[Policy] = if labelled.project == OWN { &self.policies } else { &[] };
            let other = Other { address: address.into(), labels };
            if let Some(decided) = labels_allow(policies, &labelled.labels, direction, packet, &other) {
                return decided;
            }
        }
        let groups: BTreeSet<Uuid> = peer.set.iter().flat_map(|set| &set.groups).copied().map(group).collect();
        let side = Side { address: address.into(), groups: &groups };
        let addresses = self.addresses.iter().map(|(number, all)| (group(*number), all.clone())).collect();
        let rules = set.groups.iter().filter_map(|number| self.rules.get(number)).flatten();
        groups_allow(rules, direction, packet, &side, &addresses)
    }

    fn passes(&self, source: &Port, target: &Port, packet: Packet) -> bool {
        let within = |nets: &[Ipv4Net]| -> Vec<Ipv4Addr> {
            every().filter(|address| nets.iter().any(|net| net.contains(address))).collect()
        };
        let leaves = |to: &Ipv4Addr| self.lets(source, Direction::Egress, packet, target, *to);
        let enters = |from: &Ipv4Addr| self.lets(target, Direction::Ingress, packet, source, *from);
        within(&target.at).iter().any(leaves) && within(&source.from).iter().any(enters)
    }
}

fn net() -> impl Strategy<Value = Ipv4Net> {
    (0u32..16, 28u8..=32).prop_map(|(last, length)| Ipv4Net::new_assert(at(last), length).trunc())
}

fn prefix() -> impl Strategy<Value = IpNet> {
    prop_oneof![6 => net().prop_map(IpNet::V4), 1 => Just("0.0.0.0/0".parse().expect("a net"))]
}

fn remote() -> impl Strategy<Value = Remote> {
    prop_oneof![
        1 => Just(Remote::default()),
        2 => prefix().prop_map(|prefix| Remote { prefix: Some(prefix), ..Remote::default() }),
        2 => GROUPS.prop_map(|number| Remote { group: Some(group(number)), ..Remote::default() }),
        // One of them nobody knows.
        1 => (0..GROUPS.end + 1).prop_map(|number| Remote { addresses: Some(group(number)), ..Remote::default() }),
    ]
}

fn numbers() -> impl Strategy<Value = (&'static str, Option<i32>, Option<i32>)> {
    let range = |name| (1i32..30, 1i32..30).prop_map(move |(a, b)| (name, Some(a.min(b)), Some(a.max(b))));
    prop_oneof![
        1 => Just(("any", None, None)),
        1 => Just(("tcp", None, None)),
        1 => Just(("gre", None, None)),
        1 => Just(("icmp", None, None)),
        4 => range("tcp"),
        2 => range("udp"),
        1 => (0i32..10, prop::option::of(0i32..3)).prop_map(|(kind, code)| ("icmp", Some(kind), code)),
    ]
}

fn rule() -> impl Strategy<Value = security_group::Rule> {
    let direction = prop::sample::select(Direction::ALL.to_vec());
    let ipv6 = prop_oneof![6 => Just(false), 1 => Just(true)];
    (direction, numbers(), remote(), ipv6).prop_map(|(direction, (protocol, low, high), remote, ipv6)| {
        let protocol = Protocol::parse(protocol).expect("a protocol");
        let (ethertype, remote) = match ipv6 {
            true => (Ethertype::V6, Remote { prefix: None, ..remote }),
            false => (Ethertype::V4, remote),
        };
        let rule = security_group::Rule { direction, ethertype, protocol, low, high, remote };
        rule.checked().expect("a rule that is taken")
    })
}

fn labels() -> impl Strategy<Value = Labels> {
    let word = |words: &[&str]| prop::sample::select(words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
    let own = prop::collection::btree_map(word(&["app", "tier"]), word(&["web", "db"]), 0..3);
    (word(&["shop", "ops"]), own).prop_map(|(namespace, labels)| Labels {
        namespace,
        namespace_labels: BTreeMap::new(),
        labels,
    })
}

fn selector() -> impl Strategy<Value = Selector> {
    let requirement = (prop::sample::select(vec!["app", "tier"]), prop::sample::select(vec!["web", "db"]), 0..4u8);
    let requirement = requirement.prop_map(|(key, value, kind)| {
        let values = BTreeSet::from([value.to_owned()]);
        let is = [Is::In(values.clone()), Is::NotIn(values), Is::There, Is::Absent];
        Requirement { key: key.to_owned(), is: is[usize::from(kind)].clone() }
    });
    prop::collection::vec(requirement, 0..2).prop_map(Selector)
}

fn policy() -> impl Strategy<Value = Policy> {
    let block = (net(), prop::collection::vec(net(), 0..2)).prop_map(|(cidr, except)| {
        let holes = except.into_iter().filter(|hole| cidr.contains(hole) && *hole != cidr).map(IpNet::V4);
        Peer::Block { cidr: cidr.into(), except: holes.collect() }
    });
    let labelled = (prop::option::of(Just(Selector::default())), prop::option::of(selector()))
        .prop_map(|(namespaces, ports)| Peer::Ports { namespaces, ports });
    let ports = (prop::sample::select(vec![6u8, 17]), 1u16..30, 1u16..30).prop_map(|(protocol, a, b)| Ports {
        protocol,
        first: a.min(b),
        last: a.max(b),
    });
    let peer = prop_oneof![block, labelled];
    let rule = (prop::collection::vec(peer, 0..3), prop::collection::vec(ports, 0..3))
        .prop_map(|(peers, ports)| LabelRule { peers, ports });
    let rules = || prop::option::of(prop::collection::vec(rule.clone(), 0..3));
    (prop::sample::select(vec!["shop", "ops"]), selector(), rules(), rules()).prop_map(
        |(namespace, ports, ingress, egress)| Policy {
            name: String::new(),
            namespace: namespace.to_owned(),
            ports,
            ingress,
            egress,
        },
    )
}

fn cloud() -> impl Strategy<Value = Cloud> {
    let rules = prop::collection::vec(prop::collection::vec(rule(), 0..6), GROUPS.len());
    let addresses = prop::collection::vec(prop::collection::vec(prefix(), 0..3), GROUPS.len());
    (rules, addresses, prop::collection::vec(policy(), 0..3)).prop_map(|(rules, addresses, policies)| Cloud {
        rules: GROUPS.zip(rules).collect(),
        addresses: GROUPS.zip(addresses).collect(),
        policies,
    })
}

fn port() -> impl Strategy<Value = Port> {
    let labels = (prop_oneof![3 => Just(OWN), 1 => Just(OTHER)], labels());
    let labels = prop::option::of(labels.prop_map(|(project, labels)| Labelled { project, labels }));
    let groups = prop::collection::btree_set(GROUPS, 0..3);
    let set = (groups, labels).prop_map(|(groups, labels)| GroupSet {
        number: 7,
        groups: groups.into_iter().collect(),
        labels,
    });
    let addresses = prop::collection::vec((0u32..16).prop_map(|last| Ipv4Net::from(at(last))), 0..3);
    let set = prop_oneof![8 => set.prop_map(Some), 1 => Just(None)];
    (addresses, prop::collection::vec(net(), 0..2), set, any::<bool>()).prop_map(|(at, pairs, set, any)| {
        let from = match (&set, any) {
            (None, true) => vec![Ipv4Net::default()],
            _ => at.iter().copied().chain(pairs).collect(),
        };
        Port { at, from, set }
    })
}

/// The borders of what rules name, and what is beside them.
fn packets() -> impl Iterator<Item = Packet> {
    let ports = [6u8, 17].into_iter().flat_map(|protocol| {
        (0..31).chain([u16::MAX]).map(move |port| Packet { protocol, transport: Transport::Port(port) })
    });
    let messages = (0..11u8)
        .flat_map(|kind| (0..4u8).map(move |code| Packet { protocol: 1, transport: Transport::Icmp(kind, code) }));
    let others = [47u8, 89].map(|protocol| Packet { protocol, transport: Transport::Other });
    ports.chain(messages).chain(others)
}

fn number(transport: Transport) -> u16 {
    match transport {
        Transport::Port(port) => port,
        Transport::Icmp(kind, code) => icmp(kind, code),
        Transport::Other => 0,
    }
}

/// Whether what is said in lines has a packet.
fn says(lines: &[Line], packet: Packet) -> bool {
    lines.iter().any(|line| {
        let within = match packet.transport {
            Transport::Icmp(kind, code) if line.protocol.is_some() => {
                line.low.is_none_or(|low| low == u16::from(kind))
                    && line.high.is_none_or(|high| high == u16::from(code))
            }
            Transport::Port(port) => {
                line.low.is_none_or(|low| low <= port) && line.high.is_none_or(|high| port <= high)
            }
            Transport::Icmp(..) | Transport::Other => true,
        };
        line.protocol.is_none_or(|protocol| protocol == packet.protocol) && within
    })
}

fn end(port: &Port) -> End<'_> {
    End { at: port.at.clone(), from: port.from.clone(), set: port.set.as_ref() }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    #[test]
    fn what_may_pass_is_what_the_references_let_pass(cloud in cloud(), source in port(), target in port()) {
        let known = cloud.known();
        let leaves = Judge::of(&known, source.set.as_ref(), Direction::Egress);
        let enters = Judge::of(&known, target.set.as_ref(), Direction::Ingress);
        let traffic = between(&leaves, &end(&source), &enters, &end(&target));
        let lines = traffic.lines();
        let mut any = false;
        for packet in packets() {
            let meant = cloud.passes(&source, &target, packet);
            any |= meant;
            prop_assert_eq!(traffic.contains(packet.protocol, number(packet.transport)), meant, "{:?}", packet);
            prop_assert_eq!(says(&lines, packet), meant, "{:?} by {:?}", packet, lines);
        }
        // Of what rules here are about, packets have everything.
        prop_assert_eq!(any, !traffic.is_nothing(), "{:?}", traffic);
    }

    #[test]
    fn one_packet_passes_a_side_if_the_references_let_it(
        cloud in cloud(), own in port(), peer in port(), packet in 0usize..100,
    ) {
        let known = cloud.known();
        let packet = packets().nth(packet).expect("so many");
        for direction in Direction::ALL {
            let judge = Judge::of(&known, own.set.as_ref(), direction);
            for address in every() {
                let meant = cloud.lets(&own, direction, packet, &peer, address);
                let said = judge.lets(peer.set.as_ref(), address, packet.protocol, number(packet.transport));
                prop_assert_eq!(said, meant, "{:?} {:?} {}", direction, packet, address);
            }
        }
    }

    #[test]
    fn what_addresses_alone_may_do_anybody_there_may(cloud in cloud(), target in port(), packet in 0usize..100) {
        let known = cloud.known();
        let enters = Judge::of(&known, target.set.as_ref(), Direction::Ingress);
        let (by_address, _) = enters.by_address(usize::MAX);
        let stranger = Port { at: vec![], from: vec![], set: None };
        let packet = packets().nth(packet).expect("so many");
        for address in every() {
            let meant = cloud.lets(&target, Direction::Ingress, packet, &stranger, address);
            let here = by_address.iter().filter(|(net, _)| net.contains(&address));
            let said = here.clone().any(|(_, traffic)| traffic.contains(packet.protocol, number(packet.transport)));
            prop_assert_eq!(said, meant, "{:?} from {}", packet, address);
        }
    }
}

#[test]
fn messages_are_told_by_type_and_code() {
    let line = |low, high| Line { protocol: Some(1), low, high };
    let lines = |first, last| Traffic::of(1, first, last).lines();
    assert_eq!(lines(0, u16::MAX), [line(None, None)]);
    assert_eq!(lines(icmp(3, 4), icmp(3, 4)), [line(Some(3), Some(4))]);
    assert_eq!(
        lines(icmp(8, 254), icmp(10, 0)),
        [line(Some(8), Some(254)), line(Some(8), Some(255)), line(Some(9), None), line(Some(10), Some(0)),]
    );
}
