//! Whatever comes over the wire is decoded strictly: what we write is read back as it was, and
//! what is not exactly that is an error, never a panic and never a guess.

use mizar_domain::label_policy::{Is, Peer, Requirement, Selector};
use mizar_wire::body::{
    AddressGroup, AddressPair, Body, Bounce, ClusterKey, DhcpOption, DividerRole, DividerSet, FixedIp, Group, GroupSet,
    Host, HostRoute, LabelGeneration, LabelPolicy, LabelPorts, LabelRule, Labelled, Labels, MovedPort, Network, Port,
    Remote, Rule, ShardMap, Subnet,
};
use mizar_wire::entry::{Change, Kind, Scope};
use mizar_wire::local::{Answer, AttachKind, Call};
use mizar_wire::sync::{Ack, Failure, PortWiring, Ports, Register, SnapshotPage, SyncReply, SyncRequest};
use proptest::prelude::*;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};
use std::net::{IpAddr, Ipv4Addr};
use uuid::Uuid;

fn id() -> impl Strategy<Value = Uuid> {
    any::<u128>().prop_map(Uuid::from_u128)
}

fn ip() -> impl Strategy<Value = IpAddr> {
    any::<[u8; 4]>().prop_map(|a| Ipv4Addr::from(a).into())
}

fn net() -> impl Strategy<Value = ipnet::IpNet> {
    (ip(), 0u8..=32).prop_map(|(ip, len)| ipnet::IpNet::new_assert(ip, len))
}

fn body() -> impl Strategy<Value = Body> {
    let pairs = || prop::collection::vec(any::<[u32; 2]>(), 0..4);
    let fixed = || (ip(), any::<u32>()).prop_map(|(address, subnet)| FixedIp { address, subnet });
    let pair = || (net(), any::<Option<String>>()).prop_map(|(cidr, mac)| AddressPair { cidr, mac });
    let route = || (net(), ip()).prop_map(|(destination, nexthop)| HostRoute { destination, nexthop });
    prop_oneof![
        (any::<u32>(), any::<String>(), any::<[u8; 4]>()).prop_map(|(number, name, ip)| Body::Host(Host {
            number,
            name,
            underlay: ip.into()
        })),
        (any::<u8>(), any::<String>(), any::<bool>()).prop_map(|(id, key, signs)| Body::ClusterKey(ClusterKey {
            id,
            key,
            signs
        })),
        (id(), any::<u32>(), any::<u32>()).prop_map(|(id, vni, mtu)| Body::Network(Network { id, vni, mtu })),
        (
            (id(), any::<u32>(), any::<u32>(), net(), prop::option::of(ip()), any::<bool>()),
            prop::collection::vec(ip(), 0..3),
            prop::collection::vec(route(), 0..3)
        )
            .prop_map(|((id, number, vni, cidr, gateway, dhcp), dns, routes)| Body::Subnet(Subnet {
                id,
                number,
                vni,
                cidr,
                gateway,
                dhcp,
                dns,
                routes
            })),
        (any::<u32>(), pairs()).prop_map(|(vni, pairs)| Body::DividerSet(DividerSet { vni, pairs })),
        any::<u32>().prop_map(|vni| Body::DividerRole(DividerRole { vni })),
        (
            (id(), any::<u32>(), any::<u32>(), any::<String>(), any::<u32>(), any::<String>()),
            prop::collection::vec(fixed(), 0..3),
            prop::collection::vec(pair(), 0..3),
            (any::<bool>(), any::<bool>(), prop::option::of(set())),
            prop::collection::vec((any::<u8>(), any::<String>()), 0..3)
        )
            .prop_map(|((id, number, generation, name, vni, mac), fixed_ips, pairs, flags, options)| {
                Body::Port(Port {
                    id,
                    number,
                    generation,
                    name,
                    vni,
                    mac,
                    fixed_ips,
                    pairs,
                    port_security: flags.0,
                    admin_up: flags.1,
                    set: flags.2,
                    dhcp_options: options.into_iter().map(|(code, value)| DhcpOption { code, value }).collect(),
                })
            }),
        (any::<[u32; 5]>(), ip(), prop::option::of(set())).prop_map(
            |([vni, subnet, host, port, generation], address, set)| Body::Bounce(Bounce {
                vni,
                address,
                subnet,
                host,
                port,
                generation,
                set
            })
        ),
        (any::<u32>(), any::<u8>(), pairs()).prop_map(|(subnet, log2, shards)| Body::ShardMap(ShardMap {
            subnet,
            log2,
            shards
        })),
        (any::<[u32; 4]>(), prop::collection::vec(ip(), 0..3)).prop_map(
            |([number, generation, vni, host], addresses)| Body::MovedPort(MovedPort {
                number,
                generation,
                vni,
                addresses,
                host
            })
        ),
        group().prop_map(Body::Group),
        group().prop_map(Body::Member),
        set().prop_map(Body::GroupSet),
        (any::<u32>(), prop::collection::vec(net(), 0..3))
            .prop_map(|(number, addresses)| Body::AddressGroup(AddressGroup { number, addresses })),
        label_policy().prop_map(Body::LabelIngress),
        label_policy().prop_map(Body::LabelEgress),
        any::<[u32; 2]>()
            .prop_map(|[project, generation]| Body::LabelGeneration(LabelGeneration { project, generation })),
    ]
}

fn set() -> impl Strategy<Value = GroupSet> {
    let labels =
        prop::option::of((any::<u32>(), labels()).prop_map(|(project, labels)| Box::new(Labelled { project, labels })));
    let groups = prop::collection::vec(any::<u32>(), 0..3);
    (any::<u32>(), groups, labels).prop_map(|(number, groups, labels)| GroupSet { number, groups, labels })
}

fn labels() -> impl Strategy<Value = Labels> {
    let map = || prop::collection::btree_map("[a-z]", "[a-z]?", 0..3);
    ("[a-z]", map(), map()).prop_map(|(namespace, namespace_labels, labels)| Labels {
        namespace,
        namespace_labels,
        labels,
    })
}

fn selector() -> impl Strategy<Value = Selector> {
    let values = || prop::collection::btree_set("[a-z]?", 1..3);
    let is = prop_oneof![values().prop_map(Is::In), values().prop_map(Is::NotIn), Just(Is::There), Just(Is::Absent)];
    prop::collection::vec(("[a-z]", is).prop_map(|(key, is)| Requirement { key, is }), 0..3).prop_map(Selector)
}

fn label_policy() -> impl Strategy<Value = LabelPolicy> {
    let ports = || prop::option::of(selector());
    let peer = prop_oneof![
        (net(), prop::collection::vec(net(), 0..2)).prop_map(|(cidr, except)| Peer::Block { cidr, except }),
        (ports(), ports()).prop_map(|(namespaces, ports)| Peer::Ports { namespaces, ports }),
    ];
    let ports = any::<(u8, u16, u16)>().prop_map(|(protocol, first, last)| LabelPorts { protocol, first, last });
    let rule = (prop::collection::vec(peer, 0..3), prop::collection::vec(ports, 0..3))
        .prop_map(|(peers, ports)| LabelRule { peers, ports });
    (id(), any::<u32>(), "[a-z]", selector(), prop::collection::vec(rule, 0..3))
        .prop_map(|(id, project, namespace, ports, rules)| LabelPolicy { id, project, namespace, ports, rules })
}

fn group() -> impl Strategy<Value = Group> {
    let remote = prop_oneof![
        Just(Remote::Any),
        net().prop_map(Remote::Prefix),
        any::<u32>().prop_map(Remote::Group),
        any::<u32>().prop_map(Remote::AddressGroup),
    ];
    let rule = (id(), any::<bool>(), any::<Option<u8>>(), any::<[u16; 2]>(), remote)
        .prop_map(|(id, ipv6, protocol, ports, remote)| Rule { id, ipv6, protocol, ports, remote });
    let rules = prop::collection::vec(rule, 0..3);
    (any::<u32>(), any::<u32>(), any::<bool>(), rules).prop_map(|(number, generation, stateless, rules)| Group {
        number,
        generation,
        stateless,
        rules,
    })
}

/// Any JSON value at all.
fn anything() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec(("[a-z_]{1,10}", inner), 0..6)
                .prop_map(|fields| Value::from(fields.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

/// Name of a type, a valid value of it, and whether a value is one.
type Message = (&'static str, Value, fn(Value) -> bool);

/// One valid message of each type that crosses a line.
fn messages() -> Vec<Message> {
    fn reads<T: DeserializeOwned>(value: Value) -> bool {
        serde_json::from_value::<T>(value).is_ok()
    }
    fn written<T: Serialize>(message: &T) -> Value {
        serde_json::to_value(message).expect("messages serialize")
    }
    let wiring = PortWiring { port: 3, generation: 1 };
    let change = Change { scope: 1 << 32, slot: 0, kind: 1, key: "00000001".into(), body: Some(json!({})) };
    let register = Register {
        protocol: 1,
        abi: 1,
        boot_id: "b".into(),
        version: "0.1.0".into(),
        underlay: Ipv4Addr::new(172, 31, 0, 11),
        mtu: 1500,
        az: "az1".into(),
        rack: "r1".into(),
        transit_hook: "tcx".into(),
    };
    let failure = Failure { scope: 1, kind: 1, key: "00".into(), reason: "why".into() };
    let request = SyncRequest {
        protocol: 1,
        abi: 1,
        boot_id: "b".into(),
        epoch: Some("e".into()),
        cursor: Some("1:1:".into()),
        wait_s: 9,
        ack: Some(Ack { cursor: "1:1:".into(), failures: vec![failure] }),
        ports: Ports { wired: vec![wiring], lost: vec![wiring] },
        ports_complete: true,
    };
    let reply = SyncReply {
        epoch: "e".into(),
        cursor: "1:1:".into(),
        server_ms: 1,
        changes: vec![change.clone()],
        scopes_added: vec![],
        scopes_dropped: vec![],
    };
    let page = SnapshotPage {
        epoch: "e".into(),
        cursor: "1:1:".into(),
        scopes: vec![],
        entries: vec![change.clone()],
        next: None,
        confirmed: false,
    };
    let attach = Call::Attach {
        port: Uuid::nil(),
        kind: AttachKind::Container { netns: "/run/netns/x".into(), ifname: "eth0".into() },
    };
    vec![
        ("Register", written(&register), reads::<Register>),
        ("SyncRequest", written(&request), reads::<SyncRequest>),
        ("SyncReply", written(&reply), reads::<SyncReply>),
        ("SnapshotPage", written(&page), reads::<SnapshotPage>),
        ("Change", written(&change), reads::<Change>),
        ("Call", written(&attach), reads::<Call>),
        ("Answer", written(&Answer::Error { message: "m".into() }), reads::<Answer>),
    ]
}

/// Every object inside a value, as a path to it.
fn objects(value: &Value, at: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            found.push(at.to_owned());
            for (name, field) in fields {
                objects(field, &format!("{at}/{name}"), found);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                objects(item, &format!("{at}/{index}"), found);
            }
        }
        _ => {}
    }
}

#[test]
fn a_field_that_nobody_knows_is_refused_wherever_it_stands() {
    for (name, message, reads) in messages() {
        assert!(reads(message.clone()), "{name} as written");
        let mut places = Vec::new();
        objects(&message, "", &mut places);
        // What is inside an entry's body is judged by `Body::from_value`, by its kind.
        for place in places.iter().filter(|place| !place.ends_with("/body")) {
            let mut changed = message.clone();
            let object = changed.pointer_mut(place).and_then(Value::as_object_mut).expect("an object");
            object.insert("surplus".into(), json!(1));
            assert!(!reads(changed), "{name} with a surplus field in {place:?}");
        }
    }
}

#[test]
fn numbers_of_scopes_and_kinds_that_nobody_knows_are_not_guessed() {
    assert_eq!(Scope::from_i64(14 << 32), None);
    assert_eq!(Scope::from_i64(-1), None);
    assert_eq!(Scope::from_i64((1 << 32) | 5), None, "the cluster has no number");
    assert!([0, 18, -1, i16::MAX].into_iter().all(|number| Kind::from_i16(number).is_none()));
}

proptest! {
    #[test]
    fn bodies_come_back_as_they_were(body in body()) {
        let value: Value = serde_json::from_slice(&body.to_bytes()).expect("JSON");
        prop_assert_eq!(Body::from_value(body.kind(), value).expect("our own"), body);
    }

    #[test]
    fn a_body_with_a_field_more_or_less_is_refused(body in body(), which in any::<prop::sample::Index>()) {
        let value: Value = serde_json::from_slice(&body.to_bytes()).expect("JSON");
        let mut more = value.clone();
        more.as_object_mut().expect("an object").insert("surplus".into(), json!(0));
        prop_assert!(Body::from_value(body.kind(), more).is_err());
        let mut less = value;
        let fields = less.as_object_mut().expect("an object");
        let name = which.get(&fields.keys().cloned().collect::<Vec<_>>()).clone();
        fields.remove(&name);
        // The only fields that may be absent: a subnet without a router, a port without options of its own, a set without
        // labels, a group that is stateful.
        let optional = ["gateway", "dhcp_options", "labels", "stateless"].contains(&name.as_str());
        prop_assert_eq!(Body::from_value(body.kind(), less).is_ok(), optional, "without {}", name);
    }

    #[test]
    fn arbitrary_json_never_panics_a_decoder(value in anything(), number in any::<i16>()) {
        for (_, _, reads) in messages() {
            reads(value.clone());
        }
        if let Some(kind) = Kind::from_i16(number.rem_euclid(18)) {
            let _ = Body::from_value(kind, value);
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic_the_local_socket(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(serde_json::from_slice::<Call>(&bytes).is_err());
    }

    #[test]
    fn scopes_come_back_as_they_were(kind in 1i64..=13, number in any::<u32>()) {
        let number = if kind == 1 { 0 } else { number };
        let column = (kind << 32) | i64::from(number);
        prop_assert_eq!(Scope::from_i64(column).map(Scope::to_i64), Some(column));
    }
}
