//! Incremental equals full: whatever commands come in whatever order, applying each one's change
//! leaves the same as compiling everything from nothing.

use mizar_compile::{Compiled, Object, Write, compile, create, delete, update};
use mizar_domain::id::{NetworkId, PortId, SubnetId};
use mizar_domain::mac::Mac;
use mizar_domain::model::{AddressPair, BoundPort, FixedIp, Host, Network, Subnet};
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
    DropNetwork(u8),
    DropSubnet(u8),
    DropPort(u8),
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
    (ips, host.clone(), host, 1u32..5, any::<bool>(), 0usize..2).prop_map(
        |(ips, host, moved_from, generation, admin_up, pairs)| BoundPort {
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
            set: 0,
            host,
            moved_from,
        },
    )
}

fn command() -> impl Strategy<Value = Command> {
    let n = 0u8..3;
    prop_oneof![
        (n.clone(), 1300u32..1303).prop_map(|(n, mtu)| Command::PutNetwork(n, mtu)),
        (n.clone(), n.clone(), any::<bool>()).prop_map(|(n, of, dhcp)| Command::PutSubnet(n, of, dhcp)),
        (0u8..6, port()).prop_map(|(n, port)| Command::PutPort(n, port)),
        (1u8..4, 0u8..3).prop_map(|(n, address)| Command::PutHost(n, address)),
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
                put(&mut self.ports, n, port, |o| Object::Port(o))
            }
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
            .chain(self.hosts.values().map(Object::Host));
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
        set: 0,
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
