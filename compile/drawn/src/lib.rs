//! Clouds as good as drawn, for properties of the rules: what tenants may write, what the compiler makes of it, and
//! what the references of Neutron and Kubernetes say of a packet. The planner's rows are held to that in memory
//! (`host-agent/plan/tests`), and by the programs in the kernel (`dataplane-tests/tests/verdicts`).

pub mod groups;
pub mod labels;

use mizar_compile::{Compiled, Object, compile};
use mizar_domain::id::PortId;
use mizar_domain::mac::Mac;
use mizar_domain::model::{BoundPort, FixedIp, GroupSet};
use mizar_domain::policy::icmp;
use mizar_domain::policy::reference::{Packet, Transport};
use mizar_domain::security_group::Direction;
use mizar_wire::entry::{EntryKey, Include};
use mizar_wire::{Body, Scope};
use proptest::prelude::*;
use proptest::sample::Index;
use std::collections::BTreeSet;
use std::fmt::Debug;
use std::net::Ipv4Addr;
use uuid::Uuid;

/// A cloud whose ports have sets of groups and labels. These are named by their places in a list, which has at least
/// one.
pub trait Cloud: Debug {
    /// Their numbers.
    fn numbers(&self) -> Vec<u32>;

    /// All of the feed, with a port of each of these sets: the n-th of them, from 1, is on host n, and is bounced for
    /// in subnet 1.
    fn compiled(&self, ports: &[usize]) -> Compiled;

    /// Whether, by the references, a packet passes that opens a conversation between a port of a set and this address,
    /// which a port of the set `peer` has, or nobody of the cloud.
    fn meant(&self, own: usize, direction: Direction, packet: Packet, address: Ipv4Addr, peer: Option<usize>) -> bool;
}

/// A packet, the address of the other side, and a set that it has.
pub type Asked = (Packet, Ipv4Addr, Option<Index>);

/// So many questions about these packets.
pub fn asked(packet: impl Strategy<Value = Packet>, many: usize) -> impl Strategy<Value = Vec<Asked>> {
    prop::collection::vec((packet, address(), prop::option::of(any::<Index>())), many)
}

/// So few octets that ranges nest and addresses fall into them.
pub fn address() -> impl Strategy<Value = Ipv4Addr> {
    let octet = || prop_oneof![Just(0u8), Just(1), Just(127), Just(128), Just(255)];
    (prop_oneof![Just(10u8), Just(11)], octet(), octet(), octet()).prop_map(|(a, b, c, d)| Ipv4Addr::new(a, b, c, d))
}

/// What tables have intervals of, of a packet.
pub fn number(transport: Transport) -> u16 {
    match transport {
        Transport::Port(port) => port,
        Transport::Icmp(kind, code) => icmp(kind, code),
        Transport::Other => 0,
    }
}

/// What a host with these subscriptions receives.
pub fn received<'a>(all: &'a Compiled, subscribed: &[Scope]) -> impl Iterator<Item = (&'a EntryKey, &'a Body)> {
    let mut received: BTreeSet<Scope> = subscribed.iter().copied().collect();
    loop {
        let more = all.includes.iter().filter(|Include { scope, .. }| received.contains(scope)).map(|i| i.target);
        let more: Vec<Scope> = more.filter(|target| !received.contains(target)).collect();
        if more.is_empty() {
            break;
        }
        received.extend(more);
    }
    all.entries.iter().filter(move |(key, _)| received.contains(&key.scope))
}

/// Each once.
fn distinct<T: PartialEq>(all: Vec<T>) -> Vec<T> {
    let mut known = Vec::new();
    for one in all {
        if !known.contains(&one) {
            known.push(one);
        }
    }
    known
}

/// Ports of these sets, each of the number of its host.
fn placed(sets: impl IntoIterator<Item = GroupSet>) -> Compiled {
    let mut all = Compiled::default();
    for (number, set) in (1u8..).zip(sets) {
        let port = BoundPort {
            id: PortId::from(Uuid::from_u128(number.into())),
            number: number.into(),
            generation: 1,
            name: String::new(),
            vni: 5000,
            mac: Mac([2, 0, 0, 0, 0, number]),
            fixed_ips: vec![FixedIp { subnet: 1, address: Ipv4Addr::new(10, 9, 9, number).into() }],
            pairs: vec![],
            port_security: true,
            admin_up: true,
            set: Some(set),
            dhcp_options: vec![],
            host: Some(number.into()),
            moved_from: None,
        };
        all.extend(compile(Object::Port(&port)));
    }
    all
}
