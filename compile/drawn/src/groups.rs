//! Security groups and address groups.

use crate::{address, distinct, placed};
use ipnet::IpNet;
use mizar_compile::{Compiled, Object, compile};
use mizar_domain::model::{AddressGroup, GroupSet, SecurityGroup};
use mizar_domain::policy::reference::{Packet, Peer, Transport, allows};
use mizar_domain::policy::{self, Numbers};
use mizar_domain::security_group::{Direction, Ethertype, Protocol, Remote, Rule};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use uuid::Uuid;

/// Security groups 1 to 4, address groups 1 to 3.
const GROUPS: u32 = 4;
const ADDRESS_GROUPS: u32 = 3;

/// The id of a security group.
pub fn group_id(number: u32) -> Uuid {
    Uuid::from_u128(0x1000 + u128::from(number))
}

fn addresses_id(number: u32) -> Uuid {
    Uuid::from_u128(0x2000 + u128::from(number))
}

/// What tenants made.
#[derive(Clone, Debug)]
pub struct Cloud {
    /// Rules by group.
    pub groups: BTreeMap<u32, Vec<Rule>>,
    /// Those that are stateless.
    pub stateless: BTreeSet<u32>,
    /// What address groups have.
    pub addresses: BTreeMap<u32, Vec<IpNet>>,
    /// Combinations that ports have, each once.
    pub sets: Vec<BTreeSet<u32>>,
}

impl Cloud {
    /// The number of a combination: any that is above 0.
    pub fn number(set: &BTreeSet<u32>) -> u32 {
        100 + set.iter().map(|group| 1 << group).sum::<u32>()
    }

    fn set(set: &BTreeSet<u32>) -> GroupSet {
        GroupSet { number: Self::number(set), groups: set.iter().copied().collect(), labels: None }
    }

    fn rules(&self, set: usize) -> impl Iterator<Item = &Rule> {
        self.sets[set].iter().flat_map(|group| &self.groups[group])
    }

    /// Where any group of a port is stateful, answers pass.
    pub fn is_stateless(&self, set: usize) -> bool {
        let set = &self.sets[set];
        !set.is_empty() && set.is_subset(&self.stateless)
    }
}

impl crate::Cloud for Cloud {
    fn numbers(&self) -> Vec<u32> {
        self.sets.iter().map(Self::number).collect()
    }

    fn compiled(&self, ports: &[usize]) -> Compiled {
        let mut all = Compiled::default();
        for (number, rules) in &self.groups {
            let numbered = |(place, rule): (u128, &Rule)| {
                let number = |id: Uuid, of: fn(u32) -> Uuid| (1..9).find(|number| of(*number) == id);
                let numbers = Numbers {
                    group: rule.remote.group.and_then(|id| number(id, group_id)),
                    addresses: rule.remote.addresses.and_then(|id| number(id, addresses_id)),
                };
                policy::Rule::of(Uuid::from_u128(place), rule, numbers).expect("a checked rule")
            };
            let rules = (0..).zip(rules).map(numbered).collect();
            let id = group_id(*number).into();
            let stateful = !self.stateless.contains(number);
            let group = SecurityGroup { id, number: *number, generation: 1, stateful, rules };
            all.extend(compile(Object::SecurityGroup(&group)));
        }
        for (number, addresses) in &self.addresses {
            let (id, addresses) = (addresses_id(*number).into(), addresses.clone());
            all.extend(compile(Object::AddressGroup(&AddressGroup { id, number: *number, addresses })));
        }
        for set in &self.sets {
            all.extend(compile(Object::GroupSet(&Self::set(set))));
        }
        all.extend(placed(ports.iter().map(|set| Self::set(&self.sets[*set]))));
        all
    }

    fn meant(&self, own: usize, direction: Direction, packet: Packet, address: Ipv4Addr, peer: Option<usize>) -> bool {
        let groups = peer.iter().flat_map(|peer| &self.sets[*peer]).map(|group| group_id(*group)).collect();
        let addresses = self.addresses.iter().map(|(number, all)| (addresses_id(*number), all.clone())).collect();
        let peer = Peer { address: address.into(), groups: &groups };
        allows(self.rules(own), direction, packet, &peer, &addresses)
    }
}

fn remote() -> impl Strategy<Value = Remote> {
    prop_oneof![
        3 => Just(Remote::default()),
        4 => net().prop_map(|net| Remote { prefix: Some(net), ..Remote::default() }),
        4 => (1..=GROUPS).prop_map(|group| Remote { group: Some(group_id(group)), ..Remote::default() }),
        2 => (1..=ADDRESS_GROUPS)
            .prop_map(|group| Remote { addresses: Some(addresses_id(group)), ..Remote::default() }),
    ]
}

fn net() -> impl Strategy<Value = IpNet> {
    let length = prop_oneof![Just(0u8), 1u8..=32, Just(8), Just(16), Just(32)];
    (address(), length).prop_map(|(address, length)| IpNet::new_assert(address.into(), length))
}

fn port() -> impl Strategy<Value = u16> {
    prop_oneof![3 => 1u16..40, 1 => any::<u16>().prop_map(|port| port.max(1)), 1 => 65500u16..=65535, 1 => Just(1024)]
}

fn byte() -> impl Strategy<Value = u8> {
    prop_oneof![Just(0u8), Just(3), Just(8), Just(255)]
}

/// Any rule that the API takes.
fn rule() -> impl Strategy<Value = Rule> {
    let range = prop_oneof![
        1 => Just((None, None)),
        4 => (port(), port()).prop_map(|(a, b)| (Some(i32::from(a.min(b))), Some(i32::from(a.max(b))))),
        2 => (byte(), prop::option::of(byte())).prop_map(|(kind, code)| (Some(kind.into()), code.map(i32::from))),
    ];
    let protocol =
        prop::sample::select(vec!["", "tcp", "6", "udp", "icmp", "1", "47", "sctp", "ipv6-icmp", "0", "255"]);
    let ethertype = prop_oneof![9 => Just(Ethertype::V4), 1 => Just(Ethertype::V6)];
    let parts = (any::<bool>(), ethertype, protocol, range, remote());
    parts.prop_filter_map("the API refuses it", |(ingress, ethertype, protocol, (low, high), remote)| {
        let direction = if ingress { Direction::Ingress } else { Direction::Egress };
        let protocol = Protocol::parse(protocol).expect("a protocol");
        Rule { direction, ethertype, protocol, low, high, remote }.checked().ok()
    })
}

fn set() -> impl Strategy<Value = BTreeSet<u32>> {
    prop::collection::btree_set(1..=GROUPS, 0..4)
}

/// Any cloud.
pub fn cloud() -> impl Strategy<Value = Cloud> {
    let rules = prop::collection::vec(prop::collection::vec(rule(), 0..7), GROUPS as usize);
    let v6 = Just("2001:db8::/32".parse::<IpNet>().expect("a network"));
    let listed = prop::collection::btree_set(prop_oneof![9 => net().prop_map(|net| net.trunc()), 1 => v6], 0..5);
    let addresses = prop::collection::vec(listed, ADDRESS_GROUPS as usize);
    let stateless = prop_oneof![1 => Just(BTreeSet::new()), 2 => set(), 1 => Just((1..=GROUPS).collect())];
    let sets = prop::collection::vec(set(), 1..6).prop_map(distinct);
    (rules, addresses, sets, stateless).prop_map(|(rules, addresses, sets, stateless)| Cloud {
        groups: (1..).zip(rules).collect(),
        stateless,
        addresses: (1..).zip(addresses.into_iter().map(|all| all.into_iter().collect())).collect(),
        sets,
    })
}

/// What rules may be about.
pub fn packet() -> impl Strategy<Value = Packet> {
    let with_port = prop::sample::select(vec![6u8, 17, 132]);
    prop_oneof![
        5 => (with_port, port()).prop_map(|(protocol, port)| Packet { protocol, transport: Transport::Port(port) }),
        3 => (byte(), byte())
            .prop_map(|(kind, code)| Packet { protocol: 1, transport: Transport::Icmp(kind, code) }),
        1 => prop::sample::select(vec![47u8, 0, 58, 255])
            .prop_map(|protocol| Packet { protocol, transport: Transport::Other }),
    ]
}
