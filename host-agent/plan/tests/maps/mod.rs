//! The maps of a host in memory, filled from the feed and asked by the code that the kernel runs.

use mizar_abi::maps::{ANYBODY, PolicyAddress, PolicyKey, Verdict, egress, epoch_flag};
use mizar_compile::Compiled;
use mizar_domain::policy::reference::Packet;
use mizar_drawn::number;
use mizar_packet::policy::{Question, Rules};
use mizar_plan::{Judged, Key, Planner, Value};
use mizar_wire::Scope;
use proptest::prelude::*;
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use uuid::Uuid;

/// What a host with these subscriptions receives, and plans.
pub fn plan(all: &Compiled, subscribed: &[Scope]) -> Planner {
    planned(Planner::new(), all, subscribed)
}

/// The same by this planner.
pub fn planned(mut planner: Planner, all: &Compiled, subscribed: &[Scope]) -> Planner {
    for (key, body) in mizar_drawn::received(all, subscribed) {
        planner.put(key.clone(), body.clone());
    }
    planner.flush();
    planner
}

/// One direction of a set on the host that decides about it.
pub struct Side {
    planner: Planner,
    maps: Maps,
    policy: u32,
}

impl Side {
    /// `policy` is the set's number, or that of its egress; the host has one subscription.
    pub fn of(all: &Compiled, policy: u32, subscribed: Scope) -> Self {
        let planner = plan(all, &[subscribed]);
        Self { maps: Maps::of(&planner), planner, policy }
    }

    /// Whether answers need a rule too.
    pub fn is_stateless(&self) -> bool {
        let set = self.policy.checked_sub(egress(0)).unwrap_or(self.policy);
        self.maps.flags[&set] & epoch_flag::STATELESS != 0
    }

    /// Whether a packet passes, and what rules are named for it: some just where it passes.
    pub fn judge(
        &self,
        packet: Packet,
        identity: u32,
        address: Ipv4Addr,
    ) -> Result<(bool, BTreeSet<Uuid>), TestCaseError> {
        let Self { planner, maps, policy } = self;
        let (policy, protocol, port) = (*policy, packet.protocol, number(packet.transport));
        let decided = maps.decide(policy, identity, address, protocol, port);
        let named = planner.rules_about(&Judged { policy, identity, remote: address, protocol, port });
        prop_assert_eq!(!named.is_empty(), decided, "{:?} is named: {:?}", named, packet);
        // Where the host is told that addresses decide, it does not ask for identities.
        let own = policy.checked_sub(egress(0));
        if own.is_some_and(|set| maps.flags[&set] & epoch_flag::NEED_ID == 0) {
            let without = maps.decide(policy, ANYBODY, address, protocol, port);
            prop_assert_eq!(without, decided, "not asked for its identity");
        }
        Ok((decided, named.into_iter().collect()))
    }
}

/// A longest-prefix map in memory.
#[derive(Default)]
struct Lpm<V> {
    entries: BTreeMap<(u32, Vec<u8>), V>,
    lengths: BTreeSet<u32>,
    lookups: Cell<u32>,
}

impl<V: Copy> Lpm<V> {
    fn masked(bits: u32, data: &[u8]) -> Vec<u8> {
        let byte = |(place, byte): (u32, &u8)| match bits.saturating_sub(place * 8) {
            0 => 0,
            left @ 1..8 => byte & !(0xff >> left),
            _ => *byte,
        };
        (0..).zip(data).map(byte).collect()
    }

    fn insert(&mut self, bits: u32, data: &[u8], value: V) {
        assert_eq!(Self::masked(bits, data), data, "bits that do not count are 0");
        self.entries.insert((bits, data.to_vec()), value);
        self.lengths.insert(bits);
    }

    fn get(&self, data: &[u8]) -> Option<V> {
        self.lookups.set(self.lookups.get() + 1);
        let longest_first = self.lengths.iter().rev();
        longest_first.copied().find_map(|bits| self.entries.get(&(bits, Self::masked(bits, data))).copied())
    }
}

/// The maps of a host.
#[derive(Default)]
pub struct Maps {
    policy: Lpm<u32>,
    cidr: Lpm<u32>,
    /// Of the generations.
    pub flags: BTreeMap<u32, u32>,
}

impl Maps {
    pub fn of(planner: &Planner) -> Self {
        let mut maps = Self::default();
        for (key, value) in planner.desired() {
            match (key, value) {
                (Key::Policy(rule), Value::Policy(verdict)) => {
                    let PolicyKey { policy, identity, proto, pad, port } = rule.at;
                    let data = [&policy[..], &identity, &[proto, pad], &port].concat();
                    maps.policy.insert(rule.bits, &data, verdict);
                }
                (Key::Cidr(cidr), Value::Cidr(identity)) => {
                    let data = [&cidr.at.policy[..], &cidr.at.address].concat();
                    maps.cidr.insert(cidr.bits, &data, identity);
                }
                (Key::Epoch(set), Value::Epoch(epoch)) => drop(maps.flags.insert(set, epoch.flags)),
                _ => {}
            }
        }
        maps
    }

    /// As the programs decide, with the identity of the other side at hand.
    pub fn decide(&self, policy: u32, identity: u32, address: Ipv4Addr, proto: u8, port: u16) -> bool {
        let before = self.policy.lookups.get() + self.cidr.lookups.get();
        let remote = mizar_abi::mapped(address.octets());
        let allowed = mizar_packet::policy::allows(self, &Question { policy, identity, remote, proto, port });
        let lookups = self.policy.lookups.get() + self.cidr.lookups.get() - before;
        assert!(lookups <= 4, "{lookups} lookups");
        allowed
    }
}

impl Rules for Maps {
    fn policy(&self, key: &PolicyKey) -> Option<Verdict> {
        let PolicyKey { policy, identity, proto, pad, port } = key;
        self.policy.get(&[&policy[..], identity, &[*proto, *pad], port].concat())
    }

    fn cidr(&self, key: &PolicyAddress) -> Option<u32> {
        self.cidr.get(&[&key.policy[..], &key.address].concat())
    }
}
