//! What a host's entries mean for its maps: routes by role, held entries, ranks of claims.

use ipnet::IpNet;
use mizar_abi::maps::{EpKind, Epoch, RouteKind, ShardKey, VniAddress, addr_flag, ep_flag, epoch_flag};
use mizar_plan::{EndpointOption, Facts, Key, Op, Planner, Prefix, Value, Wiring};
use mizar_wire::body::{self, Body};
use mizar_wire::{EntryKey, Kind, Scope};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use uuid::Uuid;

const VNI: u32 = 5000;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn put(planner: &mut Planner, scope: Scope, body: Body, number: u32) -> EntryKey {
    let key = EntryKey { scope, slot: 0, kind: body.kind(), key: number.to_be_bytes().to_vec() };
    planner.put(key.clone(), body);
    key
}

fn network(planner: &mut Planner) -> EntryKey {
    put(planner, Scope::Network(VNI), Body::Network(body::Network { id: Uuid::nil(), vni: VNI, mtu: 1398 }), 1)
}

fn subnet(planner: &mut Planner, number: u32, cidr: &str, gateway: Option<&str>) -> EntryKey {
    let body = body::Subnet {
        id: Uuid::nil(),
        number,
        vni: VNI,
        cidr: cidr.parse().unwrap(),
        gateway: gateway.map(ip),
        dhcp: true,
        dns: vec![ip("10.0.0.2")],
        routes: vec![],
    };
    put(planner, Scope::Network(VNI), Body::Subnet(body), number)
}

fn shard_map(planner: &mut Planner, subnet: u32) -> EntryKey {
    put(
        planner,
        Scope::Senders(subnet),
        Body::ShardMap(body::ShardMap { subnet, log2: 1, shards: vec![[1, 2], [3, 0]] }),
        subnet,
    )
}

fn dividers(planner: &mut Planner) -> EntryKey {
    put(planner, Scope::Network(VNI), Body::DividerSet(body::DividerSet { vni: VNI, pairs: vec![[4, 5], [6, 0]] }), 0)
}

fn port(number: u32, addresses: &[(&str, u32)]) -> body::Port {
    body::Port {
        id: Uuid::from_u128(u128::from(number)),
        number,
        generation: 3,
        name: "web".into(),
        vni: VNI,
        mac: "fa:16:3e:00:00:01".into(),
        fixed_ips: addresses.iter().map(|(a, s)| body::FixedIp { address: ip(a), subnet: *s }).collect(),
        pairs: vec![],
        port_security: true,
        admin_up: true,
        set: None,
        dhcp_options: Vec::new(),
    }
}

fn value(planner: &mut Planner, key: Key) -> Option<Value> {
    planner.flush();
    planner.desired().find(|(k, _)| *k == key).map(|(_, v)| v)
}

fn route_kind(planner: &mut Planner, cidr: &str) -> Option<(u32, u32)> {
    let key = Key::Route(Prefix::of(VNI, &cidr.parse::<IpNet>().unwrap()));
    match value(planner, key)? {
        Value::Route(route) => Some((route.kind, route.shards)),
        other => panic!("{other:?} in ROUTE"),
    }
}

#[test]
fn own_subnets_go_to_bouncers_and_others_to_dividers() {
    let mut planner = Planner::new();
    subnet(&mut planner, 1, "10.0.1.0/24", None);
    subnet(&mut planner, 2, "10.0.2.0/24", None);
    assert_eq!(route_kind(&mut planner, "10.0.1.0/24"), None, "nobody was placed yet");
    shard_map(&mut planner, 1);
    let set = dividers(&mut planner);
    assert_eq!(route_kind(&mut planner, "10.0.1.0/24"), Some((RouteKind::Bouncers as u32, 1)));
    assert_eq!(route_kind(&mut planner, "10.0.2.0/24"), Some((RouteKind::Dividers as u32, ShardKey::dividers(VNI))));
    let key = Key::Shard(ShardKey { set: ShardKey::dividers(VNI), shard: 1 });
    assert!(matches!(value(&mut planner, key), Some(Value::Shard(s)) if s.hosts == [6, 0] && s.pairs == 2));
    planner.remove(&set);
    assert_eq!(route_kind(&mut planner, "10.0.2.0/24"), None);
}

#[test]
fn a_divider_routes_every_subnet_to_its_bouncers_and_never_to_itself() {
    let mut planner = Planner::new();
    subnet(&mut planner, 1, "10.0.1.0/24", None);
    subnet(&mut planner, 2, "10.0.2.0/24", None);
    dividers(&mut planner);
    let role = put(&mut planner, Scope::Dividers(VNI), Body::DividerRole(body::DividerRole { vni: VNI }), 0);
    shard_map(&mut planner, 1);
    assert_eq!(route_kind(&mut planner, "10.0.1.0/24"), Some((RouteKind::Bouncers as u32, 1)));
    assert_eq!(route_kind(&mut planner, "10.0.2.0/24"), None, "its map is not here yet");
    planner.remove(&role);
    assert_eq!(route_kind(&mut planner, "10.0.2.0/24"), Some((RouteKind::Dividers as u32, ShardKey::dividers(VNI))));
}

#[test]
fn a_port_is_held_until_its_network_and_subnet_are_known() {
    let mut planner = Planner::new();
    let key = put(&mut planner, Scope::Host(9), Body::Port(port(5, &[("10.0.1.5", 1)])), 5);
    planner.wire(5, Some(Wiring { ifindex: 40, inner_ifindex: 0, kind: EpKind::Veth }));
    assert!(planner.flush().is_empty());
    assert_eq!(planner.problems()[0].entry, key);
    assert!(planner.problems()[0].reason.contains("network of VNI 5000"));
    network(&mut planner);
    assert!(planner.flush().is_empty());
    assert!(planner.problems()[0].reason.contains("subnet number 1"));
    assert!(planner.endpoint(Uuid::from_u128(5)).is_err());
    subnet(&mut planner, 1, "10.0.1.0/24", Some("10.0.1.1"));
    let ops = planner.flush();
    let tables: Vec<_> = ops.iter().map(|op| op.key().table().name()).collect();
    assert_eq!(tables, ["EP", "IFACE", "ADDR"]);
    assert!(planner.problems().is_empty());
    let Some(Value::Ep(ep)) = value(&mut planner, Key::Ep(5)) else { panic!("no EP") };
    assert_eq!((ep.vni, ep.ifindex, ep.mtu, ep.generation, ep.gateway, ep.flags), (VNI, 40, 1398, 3, [10, 0, 1, 1], 0));
    let endpoint = planner.endpoint(Uuid::from_u128(5)).unwrap();
    assert_eq!(endpoint.addresses, ["10.0.1.5/24".parse::<IpNet>().unwrap()]);
    assert_eq!(
        (endpoint.gateway, endpoint.mtu, endpoint.dhcp),
        (Some(ip("10.0.1.1")), 1398, Some("10.0.1.5/24".parse().unwrap()))
    );
}

#[test]
fn what_dhcp_tells_a_port_is_bytes() {
    let mut planner = Planner::new();
    network(&mut planner);
    subnet(&mut planner, 1, "10.0.1.0/24", None);
    let mut told = |code, value: &str| {
        let dhcp_options = vec![body::DhcpOption { code, value: value.into() }];
        let port = body::Port { dhcp_options, ..port(5, &[("10.0.1.5", 1)]) };
        put(&mut planner, Scope::Host(9), Body::Port(port), 5);
        planner.endpoint(Uuid::from_u128(5)).map(|endpoint| endpoint.dhcp_options)
    };
    assert_eq!(told(67, "61fF00"), Ok(vec![EndpointOption { code: 67, value: vec![0x61, 0xff, 0] }]));
    assert_eq!(told(3, ""), Ok(vec![EndpointOption { code: 3, value: vec![] }]));
    for broken in ["6", "6g", "+1", "6161é", &"00".repeat(256)] {
        assert!(told(67, broken).is_err_and(|reason| reason.starts_with("DHCP option 67 is")), "{broken}");
    }
}

#[test]
fn an_unwired_port_is_in_no_map_and_is_no_problem() {
    let mut planner = Planner::new();
    network(&mut planner);
    subnet(&mut planner, 1, "10.0.1.0/24", None);
    put(&mut planner, Scope::Host(9), Body::Port(port(5, &[("10.0.1.5", 1)])), 5);
    assert!(planner.flush().is_empty());
    assert!(planner.problems().is_empty());
    planner.wire(5, Some(Wiring { ifindex: 40, inner_ifindex: 0, kind: EpKind::Tap }));
    assert_eq!(planner.flush().len(), 3);
    planner.wire(5, None);
    let ops = planner.flush();
    assert_eq!(ops.len(), 3);
    assert!(ops.iter().all(|op| matches!(op, Op::Remove(_))));
    assert!(matches!(ops[0], Op::Remove(Key::Addr(_))), "nothing is delivered before its endpoint goes");
}

#[test]
fn a_ports_own_address_counts_before_anothers_allowed_pair() {
    let mut planner = Planner::new();
    network(&mut planner);
    subnet(&mut planner, 1, "10.0.1.0/24", None);
    let mut pair = port(6, &[("10.0.1.6", 1)]);
    pair.pairs.push(body::AddressPair { cidr: "10.0.1.5/32".parse().unwrap(), mac: None });
    pair.admin_up = false;
    put(&mut planner, Scope::Host(9), Body::Port(pair), 6);
    let own = put(&mut planner, Scope::Host(9), Body::Port(port(5, &[("10.0.1.5", 1)])), 5);
    for (number, ifindex) in [(5, 40), (6, 41)] {
        planner.wire(number, Some(Wiring { ifindex, inner_ifindex: 0, kind: EpKind::Veth }));
    }
    let key = Key::Addr(Prefix::single(VNI, ip("10.0.1.5")));
    assert!(matches!(value(&mut planner, key), Some(Value::Addr(a)) if a.ep_id == 5 && a.flags == addr_flag::OWN));
    planner.remove(&own);
    assert!(matches!(value(&mut planner, key), Some(Value::Addr(a)) if a.ep_id == 6 && a.flags == addr_flag::PAIR));
    assert!(matches!(value(&mut planner, Key::Ep(6)), Some(Value::Ep(ep)) if ep.flags == ep_flag::DOWN));
}

#[test]
fn an_address_that_changed_hands_belongs_to_the_bound_port() {
    let mut planner = Planner::new();
    let bounce = |port: u32, host: u32| {
        let body = body::Bounce { vni: VNI, address: ip("10.0.1.5"), subnet: 1, host, port, generation: 1, set: None };
        let key = EntryKey { scope: Scope::Subnet(1), slot: 0, kind: Kind::Bounce, key: vec![port as u8] };
        (key, Body::Bounce(body))
    };
    let key = Key::Bounce(VniAddress::new(VNI, mizar_abi::mapped([10, 0, 1, 5])));
    for (port, host) in [(8, 2), (9, 0), (7, 1)] {
        let (key, body) = bounce(port, host);
        planner.put(key, body);
    }
    assert!(matches!(value(&mut planner, key), Some(Value::Bounce(b)) if b.ep_id == 8 && b.host == 2));
    planner.remove(&bounce(8, 2).0);
    assert!(matches!(value(&mut planner, key), Some(Value::Bounce(b)) if b.ep_id == 7));
}

#[test]
fn malformed_bodies_are_problems_and_touch_nothing_else() {
    let mut planner = Planner::new();
    network(&mut planner);
    let bad = put(
        &mut planner,
        Scope::Senders(1),
        Body::ShardMap(body::ShardMap { subnet: 1, log2: 3, shards: vec![[1, 2]] }),
        1,
    );
    let mut port = port(5, &[]);
    port.mac = "not a mac".into();
    let worse = put(&mut planner, Scope::Host(9), Body::Port(port), 5);
    let key = put(
        &mut planner,
        Scope::Cluster,
        Body::ClusterKey(body::ClusterKey { id: 1, key: "secret".into(), signs: true }),
        1,
    );
    planner.set_facts(Facts {
        number: 9,
        underlay: Ipv4Addr::new(192, 0, 2, 9),
        uplink: 2,
        mtu: 1500,
        xdp_tx: false,
        tai_offset: 0,
    });
    assert_eq!(planner.flush().len(), 1, "configuration alone");
    let problems = planner.problems();
    let entries: Vec<_> = problems.iter().map(|p| &p.entry).collect();
    assert_eq!(entries.len(), 3);
    assert!([&bad, &worse, &key].iter().all(|k| entries.contains(k)));
    assert!(problems.iter().all(|p| !p.reason.contains("secret")), "a key is not repeated in an error");
}

#[test]
fn a_port_that_is_a_router_gets_no_route_through_itself() {
    let mut planner = Planner::new();
    network(&mut planner);
    subnet(&mut planner, 1, "10.0.1.0/24", Some("10.0.1.1"));
    subnet(&mut planner, 2, "10.0.2.0/24", None);
    put(&mut planner, Scope::Host(9), Body::Port(port(5, &[("10.0.1.1", 1)])), 5);
    put(&mut planner, Scope::Host(9), Body::Port(port(6, &[("10.0.1.6", 1)])), 6);
    let router = planner.endpoint(Uuid::from_u128(5)).unwrap();
    assert_eq!((router.gateway, router.siblings.len()), (None, 0));
    let other = planner.endpoint(Uuid::from_u128(6)).unwrap();
    assert_eq!((other.gateway, other.siblings.len()), (Some(ip("10.0.1.1")), 1));
}

#[test]
fn an_endpoint_never_sends_more_than_the_uplink_takes() {
    let facts =
        |mtu| Facts { number: 9, underlay: Ipv4Addr::new(192, 0, 2, 9), uplink: 2, mtu, xdp_tx: false, tai_offset: 0 };
    let mut planner = Planner::new();
    network(&mut planner);
    subnet(&mut planner, 1, "10.0.1.0/24", None);
    put(&mut planner, Scope::Host(9), Body::Port(port(5, &[("10.0.1.5", 1)])), 5);
    planner.wire(5, Some(Wiring { ifindex: 7, inner_ifindex: 0, kind: mizar_abi::maps::EpKind::Veth }));
    let mtu = |planner: &mut Planner| match value(planner, Key::Ep(5)) {
        Some(Value::Ep(ep)) => (ep.mtu, planner.endpoint(Uuid::from_u128(5)).unwrap().mtu),
        other => panic!("{other:?}"),
    };
    planner.set_facts(facts(9000));
    let networks = mtu(&mut planner);
    assert_eq!(networks.0, networks.1);
    planner.set_facts(facts(networks.0 + 102));
    assert_eq!(mtu(&mut planner), networks);
    planner.set_facts(facts(networks.0 + 101));
    assert_eq!(mtu(&mut planner), (networks.0 - 1, networks.0 - 1));
}

/// An address bounced here for a port of this set.
fn bounced(planner: &mut Planner, number: u32, vni: u32, groups: &[u32]) -> EntryKey {
    let set = Some(body::GroupSet { number, groups: groups.to_vec(), labels: None });
    let address = ip("10.0.1.5");
    let body = body::Bounce { vni, address, subnet: 1, host: 8, port: number, generation: 1, set };
    put(planner, Scope::Subnet(1), Body::Bounce(body), number)
}

/// A group that lets TCP in at these ports, from everybody.
fn group(planner: &mut Planner, number: u32, ports: impl Iterator<Item = u16>) -> EntryKey {
    let remote = || body::Remote::Any;
    let rule =
        |port| body::Rule { id: Uuid::nil(), ipv6: false, protocol: Some(6), ports: [port, port], remote: remote() };
    let body = body::Group { number, generation: 4, stateless: false, rules: ports.map(rule).collect() };
    put(planner, Scope::Group(number), Body::Group(body), number)
}

/// What a host lets in to a set: ports, and the generation by which it may deny.
fn lets_in(planner: &mut Planner, set: u32) -> (Vec<u16>, Option<u32>) {
    planner.flush();
    let of_set = planner.desired().filter_map(|(key, _)| match key {
        Key::Policy(rule) => Some(rule.at).filter(|at| at.policy == set.to_be_bytes()),
        _ => None,
    });
    let ports = of_set.map(|at| u16::from_be_bytes(at.port)).collect();
    let epoch = planner.value(&Key::Epoch(set)).and_then(|value| match value {
        Value::Epoch(epoch) => epoch.is_complete().then_some(epoch.n),
        _ => None,
    });
    (ports, epoch)
}

#[test]
fn a_missing_group_takes_no_other_groups_rules_with_it() {
    let mut planner = Planner::new();
    let port = bounced(&mut planner, 7, VNI, &[1, 2]);
    group(&mut planner, 1, [80].into_iter());
    assert_eq!(lets_in(&mut planner, 7), (vec![80], None), "without a generation no denial is the last word");
    assert_eq!(planner.problems()[0].entry, port);
    assert!(planner.problems()[0].reason.contains("security group number 2"));
    let second = group(&mut planner, 2, [443].into_iter());
    assert_eq!(lets_in(&mut planner, 7), (vec![80, 443], Some(9)), "generations are above 0");
    assert!(planner.problems().is_empty());
    planner.remove(&second);
    assert_eq!(lets_in(&mut planner, 7), (vec![80], None));
    // The host goes on to know that it does not know it, since when: flows have a second.
    let waits = Epoch { n: 0, since_ms: 0, flags: epoch_flag::WAITS };
    assert_eq!(planner.value(&Key::Epoch(7)), Some(Value::Epoch(waits)));
    let none = bounced(&mut planner, 8, VNI, &[]);
    assert_eq!(lets_in(&mut planner, 8), (vec![], Some(1)));
    planner.remove(&none);
}

#[test]
fn a_rule_whose_addresses_are_missing_takes_the_generation_from_no_flow_but_nobody_is_denied_by_it() {
    let mut planner = Planner::new();
    bounced(&mut planner, 7, VNI, &[1]);
    let rule =
        |port, remote| body::Rule { id: Uuid::nil(), ipv6: false, protocol: Some(6), ports: [port, port], remote };
    let change = |planner: &mut Planner, generation, rules| {
        put(planner, Scope::Group(1), Body::Group(body::Group { number: 1, generation, stateless: false, rules }), 1);
        planner.flush();
    };
    let epoch = |planner: &Planner| match planner.value(&Key::Epoch(7)) {
        Some(Value::Epoch(epoch)) => (epoch.n, epoch.is_complete()),
        other => panic!("{other:?}"),
    };
    let any = || rule(80, body::Remote::Any);
    change(&mut planner, 4, vec![any()]);
    assert_eq!(epoch(&planner), (5, true));
    change(&mut planner, 5, vec![any(), rule(443, body::Remote::AddressGroup(3))]);
    assert_eq!(epoch(&planner), (6, false));
    assert_eq!(lets_in(&mut planner, 7), (vec![80], None));
    let addresses = body::AddressGroup { number: 3, addresses: vec!["10.7.0.0/16".parse().unwrap()] };
    put(&mut planner, Scope::AddressGroup(3), Body::AddressGroup(addresses), 3);
    planner.flush();
    assert_eq!(epoch(&planner), (6, true));
}

#[test]
fn a_port_is_stateless_where_all_of_its_groups_are_and_labels_make_it_stateful() {
    let mut planner = Planner::new();
    let say = |planner: &mut Planner, number, stateless| {
        let group = body::Group { number, generation: 4, stateless, rules: vec![] };
        put(planner, Scope::Group(number), Body::Group(group.clone()), number);
        put(planner, Scope::Member(number), Body::Member(group), number);
    };
    let is_stateless = |planner: &mut Planner, set| {
        planner.flush();
        match planner.value(&Key::Epoch(set)) {
            Some(Value::Epoch(epoch)) => epoch.flags & epoch_flag::STATELESS != 0,
            other => panic!("{other:?}"),
        }
    };
    bounced(&mut planner, 7, VNI, &[1, 2]);
    bounced(&mut planner, 8, VNI, &[1]);
    bounced(&mut planner, 9, VNI, &[]);
    let labels = body::Labels { namespace: "shop".into(), namespace_labels: BTreeMap::new(), labels: BTreeMap::new() };
    let labels = Some(Box::new(body::Labelled { project: 3, labels }));
    let set = Some(body::GroupSet { number: 10, groups: vec![1], labels });
    let address = ip("10.0.1.6");
    let labelled = body::Bounce { vni: VNI, address, subnet: 1, host: 8, port: 10, generation: 1, set };
    put(&mut planner, Scope::Subnet(1), Body::Bounce(labelled), 10);
    say(&mut planner, 1, true);
    assert!(!is_stateless(&mut planner, 7), "the other group is missing, and may be stateful");
    for (other, expected) in [(true, true), (false, false)] {
        say(&mut planner, 2, other);
        assert_eq!(is_stateless(&mut planner, 7), expected);
        assert!(is_stateless(&mut planner, 8));
    }
    assert!(!is_stateless(&mut planner, 9), "who has no groups gets and sends nothing at all");
    assert!(!is_stateless(&mut planner, 10));
    say(&mut planner, 1, false);
    assert!(!is_stateless(&mut planner, 8));
}

#[test]
fn a_network_whose_rules_are_too_many_loses_its_largest_set_and_no_other_network_any() {
    let mut planner = Planner::with_budget(10);
    // No two of them are neighbours, so that each is a row.
    group(&mut planner, 1, (1..=7).map(|port| port * 2));
    group(&mut planner, 2, (1..=4).map(|port| port * 2));
    bounced(&mut planner, 21, VNI, &[1]);
    bounced(&mut planner, 22, VNI, &[2]);
    bounced(&mut planner, 23, VNI + 1, &[1]);
    assert_eq!(lets_in(&mut planner, 22).0.len(), 4);
    assert_eq!(lets_in(&mut planner, 23).0.len(), 7);
    assert_eq!(lets_in(&mut planner, 21), (vec![], None));
    let problem = planner.problems().remove(0);
    assert!(problem.reason.contains("needs 7 rows of policy"), "{}", problem.reason);
    // It has them as soon as there is room.
    group(&mut planner, 2, (1..=3).map(|port| port * 2));
    assert_eq!(lets_in(&mut planner, 21).0.len(), 7);
    assert!(planner.problems().is_empty());
}
