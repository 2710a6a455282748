//! Incremental equals full: whatever commands come in whatever order, applying each one's change
//! leaves the same as compiling everything from nothing.

use mizar_compile::{Compiled, Object, Write, compile, create, delete, update};
use mizar_domain::id::{AddressGroupId, LabelPolicyId, NetworkId, PortId, ProjectId, SecurityGroupId, SubnetId};
use mizar_domain::label_policy::{self, Labels, Peer};
use mizar_domain::mac::Mac;
use mizar_domain::model::{
    AddressGroup, AddressPair, BoundPort, DhcpOption, FixedIp, GroupSet, Host, LabelPolicy, LabelProject, Labelled,
    Network, SecurityGroup, Subnet, slot,
};
use mizar_domain::policy::{Remote, Rule};
use mizar_domain::security_group::{Direction, Ethertype};
use mizar_wire::entry::{EntryKey, Include};
use mizar_wire::{Body, Kind, Scope};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use uuid::Uuid;

/// What the table holds.
#[derive(Debug, Default)]
struct Store {
    entries: BTreeMap<EntryKey, Body>,
    includes: BTreeSet<Include>,
}

impl Store {
    fn apply(&mut self, writes: Vec<Write>) {
        for write in writes {
            match write {
                Write::Put(entry) => {
                    assert_eq!(entry.key.kind, entry.body.kind());
                    let former = self.entries.insert(entry.key.clone(), entry.body.clone());
                    assert_ne!(former, Some(entry.body), "an unchanged entry was written");
                }
                Write::Remove(key) => assert!(self.entries.remove(&key).is_some(), "{key:?} was not there"),
                Write::Include(include) => {
                    self.includes.insert(include);
                }
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Command {
    PutNetwork(u8, u32),
    PutSubnet(u8, u8, bool),
    PutPort(u8, BoundPort),
    PutHost(u8, u8),
    PutGroup(u8, SecurityGroup),
    PutAddresses(u8, u8),
    DropNetwork(u8),
    DropSubnet(u8),
    DropPort(u8),
    DropGroup(u8),
    DropAddresses(u8),
    PutLabelPolicy(u8, LabelPolicy),
    PutLabelProject(u8, u32),
    DropLabelPolicy(u8),
}

fn network(n: u8, mtu: u32) -> Network {
    Network { id: NetworkId::from(Uuid::from_u128(n.into())), vni: 5000 + u32::from(n), mtu }
}

fn subnet(n: u8, of: u8, dhcp: bool) -> Subnet {
    Subnet {
        id: SubnetId::from(Uuid::from_u128(100 + u128::from(n))),
        number: n.into(),
        vni: 5000 + u32::from(of),
        cidr: "10.0.0.0/24".parse().expect("a network"),
        gateway: None,
        dhcp,
        dns: vec![],
        routes: vec![],
    }
}

fn host(n: u8, address: u8) -> Host {
    Host { number: n.into(), name: format!("h{n}"), underlay: Ipv4Addr::new(10, 9, 0, address) }
}

fn port() -> impl Strategy<Value = BoundPort> {
    let ips = proptest::collection::btree_set((0u32..3, 1u8..5), 0..3);
    let host = proptest::option::of(1u32..4);
    let set = proptest::option::of(4u8..8);
    (ips, host.clone(), host, 1u32..5, any::<bool>(), 0usize..2, set, 0usize..2).prop_map(
        |(ips, host, moved_from, generation, admin_up, pairs, set, options)| BoundPort {
            id: PortId::from(Uuid::nil()),
            number: 0,
            generation,
            name: String::new(),
            vni: 5000,
            mac: Mac([2, 0, 0, 0, 0, 1]),
            fixed_ips: ips
                .into_iter()
                .map(|(subnet, last)| FixedIp { subnet, address: Ipv4Addr::new(10, 0, 0, last).into() })
                .collect(),
            pairs: vec![AddressPair { cidr: "10.0.0.9/32".parse().expect("a network"), mac: None }; pairs],
            port_security: true,
            admin_up,
            set: set.map(group_set),
            dhcp_options: vec![DhcpOption { code: 67, value: b"boot".to_vec() }; options],
            host,
            moved_from,
        },
    )
}

/// A number means the same groups wherever it stands.
fn group_set(number: u8) -> GroupSet {
    let groups = (1..3).filter(|group| number & group != 0).map(u32::from).collect();
    let labels = || Labels { namespace: "a".into(), namespace_labels: BTreeMap::new(), labels: BTreeMap::new() };
    let labels = (number >= 6).then(|| Labelled { project: 1, labels: labels() });
    GroupSet { number: number.into(), groups, labels }
}

fn label_policy() -> impl Strategy<Value = LabelPolicy> {
    let peer = prop_oneof![
        Just(Peer::Ports { namespaces: None, ports: None }),
        Just(Peer::Block { cidr: "10.0.0.0/8".parse().expect("a network"), except: vec![] }),
    ];
    let rule = proptest::collection::vec(peer, 0..2).prop_map(|peers| label_policy::Rule { peers, ports: vec![] });
    let rules = || proptest::option::of(proptest::collection::vec(rule.clone(), 0..2));
    ("[ab]", rules(), rules()).prop_map(|(namespace, ingress, egress)| LabelPolicy {
        id: LabelPolicyId::from(Uuid::nil()),
        project: 1,
        policy: label_policy::Policy {
            name: String::new(),
            namespace,
            ports: label_policy::Selector::default(),
            ingress,
            egress,
        },
    })
}

fn label_project(n: u8, generation: u32) -> LabelProject {
    LabelProject { id: ProjectId::from(Uuid::from_u128(500 + u128::from(n))), number: n.into(), generation }
}

fn group() -> impl Strategy<Value = SecurityGroup> {
    let remote = prop_oneof![
        Just(Remote::Any),
        Just(Remote::Prefix("10.0.0.0/8".parse().expect("a network"))),
        (1u32..3).prop_map(Remote::Group),
        (1u32..3).prop_map(Remote::AddressGroup),
    ];
    let rule = (any::<bool>(), any::<bool>(), 0u16..2, remote).prop_map(|(ingress, v4, first, remote)| Rule {
        id: Uuid::nil(),
        direction: if ingress { Direction::Ingress } else { Direction::Egress },
        ethertype: if v4 { Ethertype::V4 } else { Ethertype::V6 },
        protocol: Some(6),
        first,
        last: 2,
        remote,
    });
    let rules = proptest::collection::vec(rule, 0..4);
    (0u32..2, any::<bool>(), rules).prop_map(|(generation, stateful, mut rules)| {
        for (id, rule) in (0u128..).zip(&mut rules) {
            rule.id = Uuid::from_u128(id);
        }
        SecurityGroup { id: SecurityGroupId::from(Uuid::nil()), number: 0, generation, stateful, rules }
    })
}

fn addresses(n: u8, count: u8) -> AddressGroup {
    let id = AddressGroupId::from(Uuid::from_u128(300 + u128::from(n)));
    let address = |last| std::net::IpAddr::from(Ipv4Addr::new(10, 0, 0, last)).into();
    AddressGroup { id, number: n.into(), addresses: (0..count).map(address).collect() }
}

fn command() -> impl Strategy<Value = Command> {
    let n = 0u8..3;
    prop_oneof![
        (n.clone(), 1300u32..1303).prop_map(|(n, mtu)| Command::PutNetwork(n, mtu)),
        (n.clone(), n.clone(), any::<bool>()).prop_map(|(n, of, dhcp)| Command::PutSubnet(n, of, dhcp)),
        (0u8..6, port()).prop_map(|(n, port)| Command::PutPort(n, port)),
        (1u8..4, 0u8..3).prop_map(|(n, address)| Command::PutHost(n, address)),
        (1u8..3, group()).prop_map(|(n, group)| Command::PutGroup(n, group)),
        (1u8..3, 0u8..3).prop_map(|(n, count)| Command::PutAddresses(n, count)),
        (1u8..3, label_policy()).prop_map(|(n, policy)| Command::PutLabelPolicy(n, policy)),
        (1u8..3, 0u32..3).prop_map(|(n, generation)| Command::PutLabelProject(n, generation)),
        (1u8..3).prop_map(Command::DropLabelPolicy),
        (1u8..3).prop_map(Command::DropGroup),
        (1u8..3).prop_map(Command::DropAddresses),
        n.clone().prop_map(Command::DropNetwork),
        n.prop_map(Command::DropSubnet),
        (0u8..6).prop_map(Command::DropPort),
    ]
}

#[derive(Default)]
struct Tables {
    networks: BTreeMap<u8, Network>,
    subnets: BTreeMap<u8, Subnet>,
    ports: BTreeMap<u8, BoundPort>,
    hosts: BTreeMap<u8, Host>,
    groups: BTreeMap<u8, SecurityGroup>,
    /// Made by the first port that has one, forgotten with any of its groups.
    sets: BTreeMap<u8, GroupSet>,
    addresses: BTreeMap<u8, AddressGroup>,
    label_policies: BTreeMap<u8, LabelPolicy>,
    label_projects: BTreeMap<u8, LabelProject>,
}

/// Stores the object and returns what its command writes.
fn put<T>(table: &mut BTreeMap<u8, T>, n: u8, new: T, object: impl for<'a> Fn(&'a T) -> Object<'a>) -> Vec<Write> {
    let writes = match table.get(&n) {
        Some(old) => update(object(old), object(&new)),
        None => create(object(&new)),
    };
    table.insert(n, new);
    writes
}

fn drop_it<T>(table: &mut BTreeMap<u8, T>, n: u8, object: impl for<'a> Fn(&'a T) -> Object<'a>) -> Vec<Write> {
    table.remove(&n).map(|old| delete(object(&old))).unwrap_or_default()
}

impl Tables {
    fn run(&mut self, command: Command) -> Vec<Write> {
        match command {
            Command::PutNetwork(n, mtu) => put(&mut self.networks, n, network(n, mtu), |o| Object::Network(o)),
            Command::PutSubnet(n, of, dhcp) => put(&mut self.subnets, n, subnet(n, of, dhcp), |o| Object::Subnet(o)),
            Command::PutPort(n, port) => {
                let port = BoundPort { id: PortId::from(Uuid::from_u128(n.into())), number: n.into(), ..port };
                let mut writes = Vec::new();
                if let Some(set) = port.set.clone() {
                    let number = set.number as u8;
                    writes.extend(put(&mut self.sets, number, set, |o| Object::GroupSet(o)));
                }
                writes.extend(put(&mut self.ports, n, port, |o| Object::Port(o)));
                writes
            }
            Command::PutGroup(n, group) => {
                let id = SecurityGroupId::from(Uuid::from_u128(200 + u128::from(n)));
                let group = SecurityGroup { id, number: n.into(), ..group };
                put(&mut self.groups, n, group, |o| Object::SecurityGroup(o))
            }
            Command::PutAddresses(n, count) => {
                put(&mut self.addresses, n, addresses(n, count), |o| Object::AddressGroup(o))
            }
            Command::DropGroup(n) => {
                let mut writes = drop_it(&mut self.groups, n, |o| Object::SecurityGroup(o));
                let with: Vec<u8> =
                    self.sets.iter().filter(|(_, set)| set.groups.contains(&n.into())).map(|(n, _)| *n).collect();
                for set in with {
                    writes.extend(drop_it(&mut self.sets, set, |o| Object::GroupSet(o)));
                }
                writes
            }
            Command::PutLabelPolicy(n, policy) => {
                let id = LabelPolicyId::from(Uuid::from_u128(400 + u128::from(n)));
                put(&mut self.label_policies, n, LabelPolicy { id, ..policy }, |o| Object::LabelPolicy(o))
            }
            Command::PutLabelProject(n, generation) => {
                put(&mut self.label_projects, n, label_project(n, generation), |o| Object::LabelProject(o))
            }
            Command::DropLabelPolicy(n) => drop_it(&mut self.label_policies, n, |o| Object::LabelPolicy(o)),
            Command::DropAddresses(n) => drop_it(&mut self.addresses, n, |o| Object::AddressGroup(o)),
            Command::PutHost(n, address) => put(&mut self.hosts, n, host(n, address), |o| Object::Host(o)),
            Command::DropNetwork(n) => drop_it(&mut self.networks, n, |o| Object::Network(o)),
            Command::DropSubnet(n) => drop_it(&mut self.subnets, n, |o| Object::Subnet(o)),
            Command::DropPort(n) => drop_it(&mut self.ports, n, |o| Object::Port(o)),
        }
    }

    fn all(&self) -> Compiled {
        let mut all = Compiled::default();
        let objects = (self.networks.values().map(Object::Network))
            .chain(self.subnets.values().map(Object::Subnet))
            .chain(self.ports.values().map(Object::Port))
            .chain(self.hosts.values().map(Object::Host))
            .chain(self.groups.values().map(Object::SecurityGroup))
            .chain(self.sets.values().map(Object::GroupSet))
            .chain(self.addresses.values().map(Object::AddressGroup))
            .chain(self.label_policies.values().map(Object::LabelPolicy))
            .chain(self.label_projects.values().map(Object::LabelProject));
        for object in objects {
            let compiled = compile(object);
            let before = all.entries.len();
            let more = compiled.entries.len();
            all.extend(compiled);
            assert_eq!(all.entries.len(), before + more, "two objects share an entry");
        }
        all
    }
}

proptest! {
    #[test]
    fn incremental_equals_full(commands in proptest::collection::vec(command(), 0..60)) {
        let (mut tables, mut store) = (Tables::default(), Store::default());
        for command in commands {
            store.apply(tables.run(command));
            let all = tables.all();
            prop_assert_eq!(&store.entries, &all.entries);
            // Includes are taken back by the janitor alone.
            prop_assert!(all.includes.is_subset(&store.includes));
        }
    }

    #[test]
    fn changes_come_in_the_order_of_keys(old in port(), new in port()) {
        let writes = update(Object::Port(&old), Object::Port(&new));
        let keys: Vec<_> = writes.iter().filter_map(|write| match write {
            Write::Put(entry) => Some(&entry.key),
            Write::Remove(key) => Some(key),
            Write::Include(_) => None,
        }).collect();
        prop_assert!(keys.is_sorted());
    }
}

fn plain_port() -> BoundPort {
    BoundPort {
        id: PortId::from(Uuid::from_u128(9)),
        number: 9,
        generation: 1,
        name: "web".into(),
        vni: 5000,
        mac: Mac([2, 0, 0, 0, 0, 9]),
        fixed_ips: vec![FixedIp { subnet: 4, address: Ipv4Addr::new(10, 0, 0, 5).into() }],
        pairs: vec![],
        port_security: true,
        admin_up: true,
        set: None,
        dhcp_options: Vec::new(),
        host: Some(1),
        moved_from: None,
    }
}

#[test]
fn a_port_reaches_its_host_and_the_bouncers_of_its_address_and_nobody_else() {
    let compiled = compile(Object::Port(&plain_port()));
    let places: Vec<_> = compiled.entries.keys().map(|key| (key.scope, key.kind)).collect();
    assert_eq!(places, [(Scope::Host(1), Kind::Port), (Scope::Subnet(4), Kind::Bounce)]);
    let include = |target| Include { scope: Scope::Host(1), slot: None, target };
    assert_eq!(compiled.includes, BTreeSet::from([include(Scope::Network(5000)), include(Scope::Senders(4))]));
}

#[test]
fn what_dhcp_tells_a_port_is_for_its_host_alone() {
    let options = vec![DhcpOption { code: 67, value: b"a\xff".to_vec() }];
    let told = BoundPort { dhcp_options: options, ..plain_port() };
    let changed = update(Object::Port(&plain_port()), Object::Port(&told));
    let entries: Vec<_> = changed
        .iter()
        .filter_map(|write| match write {
            Write::Put(entry) => Some(entry),
            Write::Remove(_) | Write::Include(_) => None,
        })
        .collect();
    let [entry] = entries.as_slice() else { panic!("{entries:?}") };
    assert_eq!(entry.key.scope, Scope::Host(1));
    match &entry.body {
        Body::Port(port) => assert_eq!((port.dhcp_options[0].code, port.dhcp_options[0].value.as_str()), (67, "61ff")),
        other => panic!("{other:?}"),
    }
    // A port without is stored as it was before there were any.
    let plain = compile(Object::Port(&plain_port()));
    assert!(plain.entries.values().all(|body| !String::from_utf8_lossy(&body.to_bytes()).contains("dhcp_options")));
}

#[test]
fn a_port_that_moved_is_announced_to_its_former_host_alone() {
    let moved = BoundPort { host: Some(2), moved_from: Some(1), generation: 2, ..plain_port() };
    let compiled = compile(Object::Port(&moved));
    let former: Vec<_> = compiled.of(Kind::MovedPort).map(|(key, _)| key.scope).collect();
    assert_eq!(former, [Scope::Host(1)]);
    let back = BoundPort { host: Some(1), moved_from: Some(1), generation: 3, ..plain_port() };
    assert_eq!(compile(Object::Port(&back)).of(Kind::MovedPort).count(), 0, "it is there again");
}

#[test]
fn a_port_without_a_host_has_no_entries() {
    let unbound = BoundPort { host: None, ..plain_port() };
    assert_eq!(compile(Object::Port(&unbound)), Compiled::default());
}

#[test]
fn the_key_of_a_cluster_key_is_hidden_from_debug_output() {
    let key = mizar_domain::model::ClusterKey { id: 3, key: [0xab; 16], signs: true };
    let compiled = compile(Object::ClusterKey(&key));
    assert!(!format!("{key:?}{compiled:?}").contains("abab"));
    match compiled.entries.into_values().next() {
        Some(Body::ClusterKey(body)) => assert_eq!(body.key, "ab".repeat(16)),
        other => panic!("{other:?}"),
    }
}

/// The bouncer without a port of its own: what its sibling is found by reaches it by includes.
#[test]
fn a_bouncer_is_told_the_subnets_and_the_shard_map() {
    let subnet = subnet(4, 1, true);
    let compiled = compile(Object::Subnet(&subnet));
    let needed: Vec<Scope> =
        compiled.includes.iter().filter(|i| i.scope == Scope::Subnet(subnet.number)).map(|i| i.target).collect();
    assert_eq!(needed, [Scope::Network(subnet.vni), Scope::Senders(subnet.number)]);
}

/// What a rule change costs: the entry of its group and direction, whatever ports have the group.
#[test]
fn a_rule_is_one_entry_of_its_direction_and_a_narrower_group_tells_both() {
    let rule = |direction, remote| Rule {
        id: Uuid::from_u128(direction as u128 + 1),
        direction,
        ethertype: Ethertype::V4,
        protocol: None,
        first: 0,
        last: 65535,
        remote,
    };
    let id = SecurityGroupId::from(Uuid::from_u128(3));
    let rules = vec![rule(Direction::Egress, Remote::Any)];
    let out = SecurityGroup { id, number: 3, generation: 0, stateful: true, rules };
    let mut more = out.clone();
    more.rules.push(rule(Direction::Ingress, Remote::Group(4)));
    let narrower = SecurityGroup { generation: 1, ..out.clone() };
    let scopes = |old: &SecurityGroup, new: &SecurityGroup| -> Vec<Scope> {
        let writes = update(Object::SecurityGroup(old), Object::SecurityGroup(new));
        let put = |write: &Write| match write {
            Write::Put(entry) => Some(entry.key.scope),
            Write::Remove(_) | Write::Include(_) => None,
        };
        writes.iter().filter_map(put).collect()
    };
    assert_eq!(scopes(&out, &more), [Scope::Group(3)]);
    assert_eq!(scopes(&more, &narrower), [Scope::Group(3), Scope::Member(3)]);
    let stateless = SecurityGroup { stateful: false, ..out.clone() };
    assert_eq!(scopes(&out, &stateless), [Scope::Group(3), Scope::Member(3)]);
    let peers = Include { scope: Scope::Group(3), slot: None, target: Scope::Peers(4) };
    assert_eq!(compile(Object::SecurityGroup(&more)).includes, BTreeSet::from([peers]));
}

/// A label policy is as much to write however many ports it selects, and reaches them by includes.
#[test]
fn a_label_policy_is_one_entry_for_each_direction_that_it_is_about() {
    let labels = Labels { namespace: "shop".into(), namespace_labels: BTreeMap::new(), labels: BTreeMap::new() };
    let set = GroupSet { number: 8, groups: vec![], labels: Some(Labelled { project: 3, labels }) };
    let port = BoundPort { set: Some(set.clone()), ..plain_port() };
    let address = port.fixed_ips[0];
    let slot = slot(address.subnet, address.address);
    let includes = compile(Object::Port(&port)).includes;
    assert!(includes.contains(&Include { scope: Scope::Subnet(4), slot: Some(slot), target: Scope::LabelIngress(3) }));
    assert!(includes.contains(&Include { scope: Scope::Host(1), slot: None, target: Scope::LabelEgress(3) }));
    let told: Vec<Scope> = compile(Object::GroupSet(&set)).entries.keys().map(|key| key.scope).collect();
    assert_eq!(told, [Scope::Labelled(3)]);

    let everybody = label_policy::Rule::default();
    let neighbours = Peer::Ports { namespaces: None, ports: None };
    let policy = label_policy::Policy {
        name: "n".into(),
        namespace: "shop".into(),
        ports: label_policy::Selector::default(),
        ingress: Some(vec![label_policy::Rule { peers: vec![neighbours], ports: vec![] }]),
        egress: Some(vec![everybody]),
    };
    let id = LabelPolicyId::from(Uuid::from_u128(3));
    let compiled = compile(Object::LabelPolicy(&LabelPolicy { id, project: 3, policy }));
    let scopes: Vec<Scope> = compiled.entries.keys().map(|key| key.scope).collect();
    assert_eq!(scopes, [Scope::LabelIngress(3), Scope::LabelEgress(3)]);
    let peers = Include { scope: Scope::LabelIngress(3), slot: None, target: Scope::Labelled(3) };
    assert_eq!(compiled.includes, BTreeSet::from([peers]), "rules about everybody need nobody's labels");
}

#[test]
fn a_port_brings_rules_to_its_slot_and_its_host_and_its_set_to_peers_of_each_group() {
    let set = GroupSet { number: 8, groups: vec![2, 5], labels: None };
    let port = BoundPort { set: Some(set.clone()), ..plain_port() };
    let address = port.fixed_ips[0];
    let slot = slot(address.subnet, address.address);
    let includes = compile(Object::Port(&port)).includes;
    for group in [2, 5] {
        assert!(includes.contains(&Include { scope: Scope::Subnet(4), slot: Some(slot), target: Scope::Group(group) }));
        assert!(includes.contains(&Include { scope: Scope::Host(1), slot: None, target: Scope::Member(group) }));
    }
    assert_eq!(includes.len(), 2 + 4);
    let told: Vec<Scope> = compile(Object::GroupSet(&set)).entries.keys().map(|key| key.scope).collect();
    assert_eq!(told, [Scope::Peers(2), Scope::Peers(5)]);
}
