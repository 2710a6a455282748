//! Incremental equals full: however entries came and went, in whatever batches, the maps hold
//! what a planner that sees only the last state puts into empty maps.

use ipnet::IpNet;
use mizar_abi::maps::{EpKind, epoch_flag};
use mizar_domain::label_policy::{Peer, Selector};
use mizar_plan::{Facts, Key, Op, Planner, Value, Wiring};
use mizar_wire::body::{self, Body};
use mizar_wire::{EntryKey, Kind, Scope};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use uuid::Uuid;

/// A step of a history.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "a step is made once, and most of them put something")]
enum Step {
    Put(EntryKey, Body),
    Remove(prop::sample::Index),
    Wire(u32, Option<Wiring>),
    Facts(i32),
    Flush,
    /// The write of the n-th operation of the next flush fails.
    Fail(prop::sample::Index),
}

fn entry(scope: Scope, kind: Kind, number: u32) -> EntryKey {
    EntryKey { scope, slot: 0, kind, key: number.to_be_bytes().to_vec() }
}

fn ip(last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 0, 0, last))
}

/// A number means the same groups wherever it stands.
fn set() -> impl Strategy<Value = Option<body::GroupSet>> {
    prop::option::of((1u32..8).prop_map(group_set))
}

fn group_set(number: u32) -> body::GroupSet {
    let labels = || body::Labels { namespace: "a".into(), namespace_labels: BTreeMap::new(), labels: BTreeMap::new() };
    let labels = (number & 4 != 0).then(|| Box::new(body::Labelled { project: 1, labels: labels() }));
    body::GroupSet { number, groups: (1..3).filter(|group| number & group != 0).collect(), labels }
}

fn group() -> impl Strategy<Value = body::Group> {
    let remote = prop_oneof![
        Just(body::Remote::Any),
        (0u8..3).prop_map(|a| body::Remote::Prefix(IpNet::from(ip(a)))),
        Just(body::Remote::Prefix(IpNet::new_assert(ip(0), 24))),
        (1u32..3).prop_map(body::Remote::Group),
        (1u32..3).prop_map(body::Remote::AddressGroup),
    ];
    let rule = (any::<bool>(), 0u16..3, 0u16..4, remote).prop_map(|(any, first, last, remote)| body::Rule {
        id: Uuid::nil(),
        ipv6: false,
        protocol: (!any).then_some(6),
        ports: if any { [0, u16::MAX] } else { [first, last] },
        remote,
    });
    let rules = prop::collection::vec(rule, 0..3);
    (1u32..3, 0u32..3, any::<bool>(), rules).prop_map(|(number, generation, stateless, rules)| body::Group {
        number,
        generation,
        stateless,
        rules,
    })
}

fn label_policy() -> impl Strategy<Value = body::LabelPolicy> {
    let peer = prop_oneof![
        Just(Peer::Ports { namespaces: None, ports: None }),
        Just(Peer::Block { cidr: IpNet::new_assert(ip(0), 30), except: vec![IpNet::from(ip(1))] }),
    ];
    let ports = (0u16..3).prop_map(|first| body::LabelPorts { protocol: 6, first, last: 3 });
    let rule = (prop::collection::vec(peer, 0..2), prop::collection::vec(ports, 0..2))
        .prop_map(|(peers, ports)| body::LabelRule { peers, ports });
    ("[ab]", prop::collection::vec(rule, 0..2)).prop_map(|(namespace, rules)| body::LabelPolicy {
        id: Uuid::nil(),
        project: 1,
        namespace,
        ports: Selector::default(),
        rules,
    })
}

fn policy() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => group().prop_map(|g| Step::Put(entry(Scope::Group(g.number), Kind::Group, g.number), Body::Group(g))),
        2 => group().prop_map(|g| Step::Put(entry(Scope::Member(g.number), Kind::Member, g.number), Body::Member(g))),
        1 => (4u32..8).prop_map(|number| Step::Put(
            entry(Scope::Labelled(1), Kind::GroupSet, number),
            Body::GroupSet(group_set(number)),
        )),
        1 => label_policy().prop_map(|p| Step::Put(
            entry(Scope::LabelIngress(1), Kind::LabelIngress, 1),
            Body::LabelIngress(p),
        )),
        1 => label_policy().prop_map(|p| Step::Put(
            entry(Scope::LabelEgress(1), Kind::LabelEgress, 1),
            Body::LabelEgress(p),
        )),
        2 => (any::<bool>(), 0u32..3).prop_map(|(ingress, generation)| Step::Put(
            entry(if ingress { Scope::LabelIngress(1) } else { Scope::LabelEgress(1) }, Kind::LabelGeneration, 1),
            Body::LabelGeneration(body::LabelGeneration { project: 1, generation }),
        )),
        2 => (1u32..3, 1u32..4).prop_map(|(group, number)| Step::Put(
            entry(Scope::Peers(group), Kind::GroupSet, number),
            Body::GroupSet(group_set(number)),
        )),
        1 => (1u32..3, 0u8..3).prop_map(|(number, count)| Step::Put(
            entry(Scope::AddressGroup(number), Kind::AddressGroup, number),
            Body::AddressGroup(body::AddressGroup { number, addresses: (0..count).map(|a| ip(a).into()).collect() }),
        )),
    ]
}

/// A universe so small that everything collides: two networks, three subnets, four ports.
fn step() -> impl Strategy<Value = Step> {
    let vni = 5000u32..5002;
    let subnet = 1u32..4;
    let port = 1u32..5;
    let host = 0u32..3;
    let generation = 0u32..3;
    let put = prop_oneof![
        (host.clone(), 0u8..2).prop_map(|(number, last)| Step::Put(
            entry(Scope::Cluster, Kind::Host, number),
            Body::Host(body::Host { number, name: String::new(), underlay: Ipv4Addr::new(192, 0, 2, last) }),
        )),
        (1u8..5, any::<bool>(), any::<bool>()).prop_map(|(id, signs, good)| Step::Put(
            entry(Scope::Cluster, Kind::ClusterKey, u32::from(id)),
            Body::ClusterKey(body::ClusterKey {
                id,
                signs,
                key: if good { format!("{id:032x}") } else { "bad".into() }
            }),
        )),
        // Two objects may hold one VNI for a moment: `twin` is part of the key alone.
        (vni.clone(), 0u32..2, 1390u32..1392).prop_map(|(vni, twin, mtu)| Step::Put(
            entry(Scope::Network(vni), Kind::Network, twin),
            Body::Network(body::Network { id: Uuid::nil(), vni, mtu }),
        )),
        (vni.clone(), subnet.clone(), any::<bool>(), 0u8..2).prop_map(|(vni, number, gateway, net)| Step::Put(
            entry(Scope::Network(vni), Kind::Subnet, number),
            Body::Subnet(body::Subnet {
                id: Uuid::nil(),
                number,
                vni,
                cidr: IpNet::new(IpAddr::V4(Ipv4Addr::new(10, 0, net, 0)), 24).unwrap(),
                gateway: gateway.then(|| ip(1)),
                dhcp: true,
                dns: vec![],
                routes: vec![],
            }),
        )),
        (vni.clone(), 0usize..3).prop_map(|(vni, n)| Step::Put(
            entry(Scope::Network(vni), Kind::DividerSet, vni),
            Body::DividerSet(body::DividerSet { vni, pairs: vec![[1, 2]; n] }),
        )),
        vni.clone().prop_map(|vni| Step::Put(
            entry(Scope::Dividers(vni), Kind::DividerRole, vni),
            Body::DividerRole(body::DividerRole { vni }),
        )),
        (subnet.clone(), 0u8..3, 0usize..5).prop_map(|(subnet, log2, n)| Step::Put(
            entry(Scope::Senders(subnet), Kind::ShardMap, subnet),
            Body::ShardMap(body::ShardMap { subnet, log2, shards: vec![[1, 2]; n] }),
        )),
        (
            port.clone(),
            vni.clone(),
            generation.clone(),
            prop::collection::vec((1u8..4, subnet), 0..3),
            prop::option::of(0u8..3),
            any::<bool>(),
            set()
        )
            .prop_map(|(number, vni, generation, addresses, pair, up, set)| Step::Put(
                entry(Scope::Host(9), Kind::Port, number),
                Body::Port(body::Port {
                    id: Uuid::from_u128(u128::from(number)),
                    number,
                    generation,
                    name: String::new(),
                    vni,
                    mac: "fa:16:3e:00:00:01".into(),
                    fixed_ips: addresses
                        .into_iter()
                        .map(|(a, subnet)| body::FixedIp { address: ip(a), subnet })
                        .collect(),
                    pairs: pair
                        .map(|a| body::AddressPair { cidr: IpNet::from(ip(a)), mac: None })
                        .into_iter()
                        .collect(),
                    port_security: up,
                    admin_up: up,
                    set,
                    dhcp_options: Vec::new(),
                }),
            )),
        (port.clone(), vni.clone(), 1u8..3, host.clone(), generation.clone(), set()).prop_map(
            |(port, vni, a, host, generation, set)| Step::Put(
                EntryKey { scope: Scope::Subnet(1), slot: 4, kind: Kind::Bounce, key: vec![port as u8, a] },
                Body::Bounce(body::Bounce { vni, address: ip(a), subnet: 1, host, port, generation, set }),
            )
        ),
        (port.clone(), vni, prop::collection::vec(1u8..4, 0..3), host, generation).prop_map(
            |(number, vni, a, host, generation)| Step::Put(
                entry(Scope::Host(9), Kind::MovedPort, number),
                Body::MovedPort(body::MovedPort {
                    number,
                    generation,
                    vni,
                    addresses: a.into_iter().map(ip).collect(),
                    host
                }),
            )
        ),
    ];
    prop_oneof![
        8 => put,
        6 => policy(),
        4 => any::<prop::sample::Index>().prop_map(Step::Remove),
        2 => (port, prop::option::of(3u32..6)).prop_map(|(port, ifindex)| Step::Wire(
            port,
            ifindex.map(|ifindex| Wiring { ifindex, inner_ifindex: 0, kind: EpKind::Veth }),
        )),
        1 => (0i32..2).prop_map(Step::Facts),
        3 => Just(Step::Flush),
        1 => any::<prop::sample::Index>().prop_map(Step::Fail),
    ]
}

/// Rows of policy: so few that sets often need more.
const BUDGET: usize = 8;

fn facts(tai_offset: i32) -> Facts {
    Facts { number: 9, underlay: Ipv4Addr::new(192, 0, 2, 9), uplink: 2, mtu: 1500, xdp_tx: false, tai_offset }
}

/// Executes operations on maps in memory, checking their order; `fail` says which one fails.
fn execute(maps: &mut BTreeMap<Key, Value>, planner: &mut Planner, ops: Vec<Op>, fail: Option<usize>) {
    let of_generation = |op: &Op| matches!(op, Op::Put(Key::Epoch(_), _));
    let unsure = |op: &Op| match op {
        Op::Put(Key::Epoch(_), Value::Epoch(epoch)) => epoch.n == 0 || epoch.flags & epoch_flag::WAITS != 0,
        op => matches!(op, Op::Remove(Key::Epoch(_))),
    };
    let (first, rest) = ops.split_at(ops.iter().position(|op| !unsure(op)).unwrap_or(ops.len()));
    let (rules, generations) = rest.split_at(rest.iter().position(of_generation).unwrap_or(rest.len()));
    assert!(generations.iter().all(of_generation), "generations after the rules that they are of");
    assert!(first.iter().chain(generations).all(|op| op.key().set().is_none()));
    let removes = |op: &Op| matches!(op, Op::Remove(_));
    // Sets that have no room any more leave theirs to others.
    let (given_up, rules) = rules.split_at(rules.iter().position(|op| !removes(op)).unwrap_or(0));
    assert!(given_up.iter().all(|op| op.key().set().is_some()), "nothing else goes before additions");
    let first_removal = rules.iter().position(removes).unwrap_or(rules.len());
    assert!(rules[first_removal..].iter().all(removes), "removals after additions");
    assert!(rules[..first_removal].is_sorted_by(|a, b| a.key() < b.key()), "additions in the order of references");
    // Without additions between them nobody can tell the two apart.
    if first_removal > 0 {
        assert!(rules[first_removal..].is_sorted_by(|a, b| a.key() > b.key()), "removals in the reverse order");
    }
    for (n, op) in ops.into_iter().enumerate() {
        if fail == Some(n) {
            planner.failed(*op.key(), "map is full".into());
            continue;
        }
        match op {
            Op::Put(key, value) => maps.insert(key, value),
            Op::Remove(key) => maps.remove(&key),
        };
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn any_history_ends_in_the_maps_of_its_last_state(steps in prop::collection::vec(step(), 1..80)) {
        let mut planner = Planner::with_budget(BUDGET);
        let mut maps = BTreeMap::new();
        let mut state: BTreeMap<EntryKey, Body> = BTreeMap::new();
        let mut wirings = BTreeMap::new();
        let mut known = None;
        let mut fail = None;
        for step in steps {
            match step {
                Step::Put(key, body) => {
                    planner.put(key.clone(), body.clone());
                    state.insert(key, body);
                }
                Step::Remove(index) if !state.is_empty() => {
                    let key = state.keys().nth(index.index(state.len())).unwrap().clone();
                    prop_assert_eq!(planner.remove(&key), state.remove(&key));
                }
                Step::Remove(_) => {}
                Step::Wire(port, wiring) => {
                    planner.wire(port, wiring);
                    wirings.insert(port, wiring);
                }
                Step::Facts(offset) => {
                    planner.set_facts(facts(offset));
                    known = Some(offset);
                }
                Step::Fail(index) => fail = Some(index),
                Step::Flush => {
                    let ops = planner.flush();
                    let fail = fail.take().filter(|_| !ops.is_empty()).map(|f: prop::sample::Index| f.index(ops.len()));
                    execute(&mut maps, &mut planner, ops, fail);
                }
            }
        }
        // The last flush repeats what failed before.
        let ops = planner.flush();
        execute(&mut maps, &mut planner, ops, None);
        prop_assert!(planner.flush().is_empty(), "nothing is left to do");

        let mut fresh = Planner::with_budget(BUDGET);
        known.into_iter().for_each(|offset| fresh.set_facts(facts(offset)));
        wirings.into_iter().for_each(|(port, wiring)| fresh.wire(port, wiring));
        state.into_iter().for_each(|(key, body)| fresh.put(key, body));
        let mut full = BTreeMap::new();
        let ops = fresh.flush();
        execute(&mut full, &mut fresh, ops, None);
        prop_assert_eq!(&maps, &full);
        prop_assert_eq!(planner.problems(), fresh.problems());
        prop_assert_eq!(planner.desired().collect::<BTreeMap<_, _>>(), full);
    }

    /// A restarted agent finds maps of some other state, and ends in the same content.
    #[test]
    fn adopting_any_content_leads_to_what_is_desired(
        before in prop::collection::vec(step(), 0..40), after in prop::collection::vec(step(), 0..40),
    ) {
        let build = |steps: Vec<Step>| {
            let mut planner = Planner::new();
            for step in steps {
                match step {
                    Step::Put(key, body) => planner.put(key, body),
                    Step::Wire(port, wiring) => planner.wire(port, wiring),
                    Step::Facts(offset) => planner.set_facts(facts(offset)),
                    Step::Remove(_) | Step::Flush | Step::Fail(_) => {}
                }
            }
            planner
        };
        let mut maps = BTreeMap::new();
        let mut old = build(before);
        let ops = old.flush();
        execute(&mut maps, &mut old, ops, None);
        let mut new = build(after);
        let observed: Vec<_> = maps.iter().map(|(k, v)| (*k, *v)).collect();
        let ops = new.adopt(&observed);
        execute(&mut maps, &mut new, ops, None);
        prop_assert_eq!(maps, new.desired().collect::<BTreeMap<_, _>>());
        prop_assert!(new.flush().is_empty());
    }
}
