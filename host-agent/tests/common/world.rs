//! Entries of a small cloud: one network, one subnet, ports on host 9, which is its bouncer too.

use mizar_agent::core::Identity;
use mizar_wire::body::{self, Body};
use mizar_wire::{EntryKey, Kind, Scope};
use std::net::{IpAddr, Ipv4Addr};
use uuid::Uuid;

pub const HOST: u32 = 9;
pub const VNI: u32 = 5000;
pub const SUBNET: u32 = 3;
pub const UNDERLAY: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 9);

/// The host, as an agent sees it that has no kernel below.
pub fn identity() -> Identity {
    Identity { host: "h9".into(), boot_id: "boot".into(), underlay: UNDERLAY, uplink: 2, mtu: 1500, xdp_tx: false }
}

fn entry(scope: Scope, slot: u16, key: &[u8], body: Body) -> (EntryKey, Body) {
    (EntryKey { scope, slot, kind: body.kind(), key: key.to_vec() }, body)
}

pub fn port_id(number: u32) -> Uuid {
    // The first 11 characters name the interface.
    Uuid::from_u128(u128::from(number) << 96)
}

pub fn address(number: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 1, 0, number as u8))
}

/// What every test begins with.
pub fn cloud() -> Vec<(EntryKey, Body)> {
    vec![
        entry(
            Scope::Cluster,
            0,
            &HOST.to_be_bytes(),
            Body::Host(body::Host { number: HOST, name: "h9".into(), underlay: UNDERLAY }),
        ),
        entry(
            Scope::Cluster,
            0,
            &[0, 0, 0, 1],
            Body::ClusterKey(body::ClusterKey { id: 1, key: "000102030405060708090a0b0c0d0e0f".into(), signs: true }),
        ),
        entry(
            Scope::Network(VNI),
            0,
            Uuid::from_u128(1).as_bytes(),
            Body::Network(body::Network { id: Uuid::from_u128(1), vni: VNI, mtu: 1398 }),
        ),
        entry(
            Scope::Network(VNI),
            0,
            Uuid::from_u128(2).as_bytes(),
            Body::Subnet(body::Subnet {
                id: Uuid::from_u128(2),
                number: SUBNET,
                vni: VNI,
                cidr: "10.1.0.0/24".parse().unwrap(),
                gateway: Some("10.1.0.1".parse().unwrap()),
                dhcp: true,
                dns: vec!["10.1.0.2".parse().unwrap()],
                routes: vec![body::HostRoute {
                    destination: "203.0.113.0/24".parse().unwrap(),
                    nexthop: "10.1.0.7".parse().unwrap(),
                }],
            }),
        ),
    ]
    .into_iter()
    .chain(bouncers([HOST, 0]))
    .collect()
}

/// The subnet's bouncers. Host 8 is at an address where nobody answers.
pub fn bouncers(hosts: [u32; 2]) -> Vec<(EntryKey, Body)> {
    let absent = body::Host { number: 8, name: "h8".into(), underlay: Ipv4Addr::new(192, 0, 2, 8) };
    let map = body::ShardMap { subnet: SUBNET, log2: 0, shards: vec![hosts] };
    let map = entry(Scope::Senders(SUBNET), 0, Uuid::from_u128(2).as_bytes(), Body::ShardMap(map));
    let absent = entry(Scope::Cluster, 0, &8u32.to_be_bytes(), Body::Host(absent));
    std::iter::once(map).chain(hosts.contains(&8).then_some(absent)).collect()
}

/// A port bound to this host, with its bouncer's entry.
pub fn port(number: u32, generation: u32) -> Vec<(EntryKey, Body)> {
    port_on(HOST, number, generation)
}

/// A port bound to a host, with its bouncer's entry.
pub fn port_on(host: u32, number: u32, generation: u32) -> Vec<(EntryKey, Body)> {
    let id = port_id(number);
    let slot = mizar_abi::hash::slot(SUBNET, &mizar_abi::mapped([10, 1, 0, number as u8]));
    vec![
        entry(
            Scope::Host(host),
            0,
            id.as_bytes(),
            Body::Port(body::Port {
                id,
                number,
                generation,
                name: format!("port-{number}"),
                vni: VNI,
                mac: format!("fa:16:3e:00:00:{number:02x}"),
                fixed_ips: vec![body::FixedIp { address: address(number), subnet: SUBNET }],
                pairs: vec![],
                port_security: true,
                admin_up: true,
                set: None,
                dhcp_options: Vec::new(),
            }),
        ),
        entry(
            Scope::Subnet(SUBNET),
            slot,
            &[id.as_bytes().as_slice(), &[number as u8]].concat(),
            Body::Bounce(body::Bounce {
                vni: VNI,
                address: address(number),
                subnet: SUBNET,
                host,
                port: number,
                generation,
                set: None,
            }),
        ),
    ]
}

/// The same entries of a port that DHCP tells more: codes, and bytes in hexadecimal.
pub fn told(mut entries: Vec<(EntryKey, Body)>, options: &[(u8, &str)]) -> Vec<(EntryKey, Body)> {
    for (_, body) in &mut entries {
        if let Body::Port(port) = body {
            let option = |(code, value): &(u8, &str)| body::DhcpOption { code: *code, value: (*value).to_owned() };
            port.dhcp_options = options.iter().map(option).collect();
        }
    }
    entries
}

pub fn keys(entries: Vec<(EntryKey, Body)>) -> Vec<EntryKey> {
    entries.into_iter().map(|(key, _)| key).collect()
}

/// The key of a port's entry on its host.
pub fn port_key(number: u32) -> EntryKey {
    EntryKey { scope: Scope::Host(HOST), slot: 0, kind: Kind::Port, key: port_id(number).as_bytes().to_vec() }
}

/// A security group.
pub const GROUP: u32 = 4;
/// The number of the set of it alone.
pub const SET: u32 = 1;
/// Another security group, and the set of it alone.
const OTHER_GROUP: u32 = 5;
pub const OTHER_SET: u32 = 2;

fn rule(protocol: u8, ports: [u16; 2]) -> body::Rule {
    body::Rule { id: Uuid::nil(), ipv6: false, protocol: Some(protocol), ports, remote: body::Remote::Any }
}

/// The group's rules: out everything, in UDP to these ports.
pub fn group(generation: u32, ports: &[u16]) -> Vec<(EntryKey, Body)> {
    group_of(GROUP, generation, ports.iter().map(|port| rule(17, [*port, *port])).collect())
}

/// A group that lets in what these rules say, and everything out.
fn group_of(number: u32, generation: u32, ingress: Vec<body::Rule>) -> Vec<(EntryKey, Body)> {
    let of = |rules| body::Group { number, generation, stateless: false, rules };
    let everything = body::Rule { protocol: None, ..rule(0, [0, u16::MAX]) };
    [
        entry(Scope::Group(number), 0, &number.to_be_bytes(), Body::Group(of(ingress))),
        entry(Scope::Member(number), 0, &number.to_be_bytes(), Body::Member(of(vec![everything]))),
    ]
    .to_vec()
}

/// The group lets in what its own ports send in UDP, and the other group nothing.
pub fn among_themselves() -> Vec<(EntryKey, Body)> {
    let among = body::Rule { remote: body::Remote::Group(GROUP), ..rule(17, [0, u16::MAX]) };
    let peers = entry(Scope::Peers(GROUP), 0, &SET.to_be_bytes(), Body::GroupSet(set_of(SET)));
    [group_of(GROUP, 1, vec![among]), group_of(OTHER_GROUP, 1, vec![]), vec![peers]].concat()
}

fn set_of(number: u32) -> body::GroupSet {
    let group = if number == SET { GROUP } else { OTHER_GROUP };
    body::GroupSet { number, groups: vec![group], labels: None }
}

/// A port's entries, in the group.
pub fn member(host: u32, number: u32) -> Vec<(EntryKey, Body)> {
    member_of(SET, host, number)
}

/// A port's entries, in the group that is the set.
pub fn member_of(set: u32, host: u32, number: u32) -> Vec<(EntryKey, Body)> {
    let set = || Some(set_of(set));
    let in_group = |(key, body)| match body {
        Body::Port(port) => (key, Body::Port(body::Port { set: set(), ..port })),
        Body::Bounce(bounce) => (key, Body::Bounce(body::Bounce { set: set(), ..bounce })),
        other => (key, other),
    };
    port_on(host, number, 1).into_iter().map(in_group).collect()
}
