//! From what tenants write to what is decided: security groups, address groups and ports are
//! compiled, a host gets what its scopes include, its planner makes rows of that, and these rows,
//! looked up by the code that the kernel runs, let the same packets pass as Neutron's reference does.

mod maps;

use ipnet::IpNet;
use maps::{Maps, Side, address, plan};
use mizar_abi::maps::{ANYBODY, egress};
use mizar_compile::{Compiled, Object, compile};
use mizar_domain::id::PortId;
use mizar_domain::mac::Mac;
use mizar_domain::model::{AddressGroup, BoundPort, FixedIp, GroupSet, SecurityGroup};
use mizar_domain::policy::reference::{Packet, Peer, Transport, allows};
use mizar_domain::policy::{self, Numbers};
use mizar_domain::security_group::{Direction, Ethertype, Protocol, Remote, Rule};
use mizar_wire::Scope;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use uuid::Uuid;

/// Security groups 1 to 4, address groups 1 to 3.
const GROUPS: u32 = 4;
const ADDRESS_GROUPS: u32 = 3;

fn group_id(number: u32) -> Uuid {
    Uuid::from_u128(0x1000 + u128::from(number))
}

fn addresses_id(number: u32) -> Uuid {
    Uuid::from_u128(0x2000 + u128::from(number))
}

/// What tenants made.
#[derive(Clone, Debug)]
struct Cloud {
    /// Rules by group.
    groups: BTreeMap<u32, Vec<Rule>>,
    /// Those that are stateless.
    stateless: BTreeSet<u32>,
    addresses: BTreeMap<u32, Vec<IpNet>>,
    /// Combinations that ports have.
    sets: BTreeSet<BTreeSet<u32>>,
}

impl Cloud {
    /// The number of a combination: any that is above 0.
    fn number(set: &BTreeSet<u32>) -> u32 {
        100 + set.iter().map(|group| 1 << group).sum::<u32>()
    }

    fn set(set: &BTreeSet<u32>) -> GroupSet {
        GroupSet { number: Self::number(set), groups: set.iter().copied().collect(), labels: None }
    }

    fn rules(&self, set: &BTreeSet<u32>) -> impl Iterator<Item = &Rule> {
        set.iter().flat_map(|group| &self.groups[group])
    }

    /// Everything in the feed, with a port of one combination on host 1, whose address is bounced
    /// for in subnet 1.
    fn compiled(&self, own: &BTreeSet<u32>) -> Compiled {
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
        for set in self.sets.iter().chain([own]) {
            all.extend(compile(Object::GroupSet(&Self::set(set))));
        }
        let port = BoundPort {
            id: PortId::from(Uuid::from_u128(1)),
            number: 1,
            generation: 1,
            name: String::new(),
            vni: 5000,
            mac: Mac([2, 0, 0, 0, 0, 1]),
            fixed_ips: vec![FixedIp { subnet: 1, address: Ipv4Addr::new(10, 9, 9, 9).into() }],
            pairs: vec![],
            port_security: true,
            admin_up: true,
            set: Some(Self::set(own)),
            dhcp_options: vec![],
            host: Some(1),
            moved_from: None,
        };
        all.extend(compile(Object::Port(&port)));
        all
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

fn cloud() -> impl Strategy<Value = Cloud> {
    let rules = prop::collection::vec(prop::collection::vec(rule(), 0..7), GROUPS as usize);
    let v6 = Just("2001:db8::/32".parse::<IpNet>().expect("a network"));
    let listed = prop::collection::btree_set(prop_oneof![9 => net().prop_map(|net| net.trunc()), 1 => v6], 0..5);
    let addresses = prop::collection::vec(listed, ADDRESS_GROUPS as usize);
    let stateless = prop_oneof![1 => Just(BTreeSet::new()), 2 => set(), 1 => Just((1..=GROUPS).collect())];
    let sets = prop::collection::btree_set(set(), 0..5);
    (rules, addresses, sets, stateless).prop_map(|(rules, addresses, sets, stateless)| Cloud {
        groups: (1..).zip(rules).collect(),
        stateless,
        addresses: (1..).zip(addresses.into_iter().map(|all| all.into_iter().collect())).collect(),
        sets,
    })
}

fn packet() -> impl Strategy<Value = Packet> {
    let with_port = prop::sample::select(vec![6u8, 17, 132]);
    prop_oneof![
        5 => (with_port, port()).prop_map(|(protocol, port)| Packet { protocol, transport: Transport::Port(port) }),
        3 => (byte(), byte())
            .prop_map(|(kind, code)| Packet { protocol: 1, transport: Transport::Icmp(kind, code) }),
        1 => prop::sample::select(vec![47u8, 0, 58, 255])
            .prop_map(|protocol| Packet { protocol, transport: Transport::Other }),
    ]
}

const CASES: u32 = 1_000;
const PACKETS: usize = 64;
/// Each packet is judged in both directions.
const _: () = assert!(CASES as usize * PACKETS * 2 >= 100_000);

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES, ..ProptestConfig::default() })]

    #[test]
    fn planned_rows_decide_as_the_reference_does(
        cloud in cloud(),
        own in set(),
        asked in prop::collection::vec((packet(), address(), prop::option::of(any::<prop::sample::Index>())), PACKETS),
    ) {
        let all = cloud.compiled(&own);
        let policy = Cloud::number(&own);
        let sides = [
            (Side::of(&all, policy, Scope::Subnet(1)), Direction::Ingress),
            (Side::of(&all, egress(policy), Scope::Host(1)), Direction::Egress),
        ];
        let addresses = cloud.addresses.iter().map(|(number, all)| (addresses_id(*number), all.clone())).collect();
        // Where any group of a port is stateful, answers pass.
        let stateless = !own.is_empty() && own.is_subset(&cloud.stateless);
        for (side, direction) in &sides {
            prop_assert_eq!(side.is_stateless(), stateless, "{:?}", direction);
        }
        let known: Vec<&BTreeSet<u32>> = cloud.sets.iter().chain([&own]).collect();
        for (packet, address, peer) in asked {
            let peer = peer.map(|index| known[index.index(known.len())]);
            let groups: BTreeSet<Uuid> = peer.into_iter().flatten().map(|group| group_id(*group)).collect();
            let identity = peer.map_or(ANYBODY, Cloud::number);
            let peer = Peer { address: address.into(), groups: &groups };
            for (side, direction) in &sides {
                let (decided, _) = side.judge(packet, identity, address)?;
                let meant = allows(cloud.rules(&own), *direction, packet, &peer, &addresses);
                prop_assert_eq!(decided, meant, "{:?} {:?} with {:?}", direction, packet, peer);
            }
        }
    }
}

/// The number of rules changes the number of rows, not that of lookups.
#[test]
fn two_thousand_rules_are_decided_by_four_lookups() {
    let rule = |port: u16, remote| Rule {
        direction: Direction::Ingress,
        ethertype: Ethertype::V4,
        protocol: Protocol::parse("tcp").expect("a protocol"),
        low: Some(port.into()),
        high: Some(port.into()),
        remote,
    };
    let to_group = Remote { group: Some(group_id(2)), ..Remote::default() };
    let from = |port: u16| {
        let net = IpNet::new_assert(Ipv4Addr::from(0x0a00_0000 | u32::from(port) << 8).into(), 24);
        Remote { prefix: Some(net), ..Remote::default() }
    };
    let rules = (1..=1000).flat_map(|at| [rule(at * 2, to_group), rule(at * 2, from(at))]).collect();
    let (own, peers) = (BTreeSet::from([1]), BTreeSet::from([2]));
    let cloud = Cloud {
        groups: BTreeMap::from([(1, rules), (2, vec![])]),
        stateless: BTreeSet::new(),
        addresses: BTreeMap::new(),
        sets: BTreeSet::from([peers.clone()]),
    };
    let maps = Maps::of(&plan(&cloud.compiled(&own), &[Scope::Subnet(1)]));
    for at in 1..=1000u16 {
        let decide =
            |identity, address: u32, port| maps.decide(Cloud::number(&own), identity, Ipv4Addr::from(address), 6, port);
        let inside = 0x0a00_0000 | u32::from(at) << 8 | 7;
        assert!(decide(Cloud::number(&peers), 0x0b00_0000, at * 2) && decide(ANYBODY, inside, at * 2));
        assert!(!decide(Cloud::number(&peers), 0x0b00_0000, at * 2 + 1) && !decide(ANYBODY, inside, at * 2 + 1));
        assert!(!decide(ANYBODY, 0x0b00_0000, at * 2) && !decide(Cloud::number(&own), 0x0b00_0000, at * 2));
    }
}
