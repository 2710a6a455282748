//! The planned maps, their keys and values, and operations on them.

use mizar_abi::maps::{
    Addr, Bounce, Cfg, Ep, Epoch, HostAddress, Moved, PolicyAddress, PolicyKey, Route, Shard, ShardKey, Verdict,
    VniAddress, name,
};
use std::net::IpAddr;

/// A map whose content is planned. Flows, counters and the like are not: the programs write them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "each is the map of that name in mizar_abi::maps")]
pub enum Table {
    Cfg,
    Hosts,
    Policy,
    Cidr,
    Epochs,
    Shard,
    Bounce,
    Route,
    Moved,
    Ep,
    Iface,
    Addr,
}

impl Table {
    /// All of them, in the order of [`Key`].
    pub const ALL: [Self; 12] = [
        Self::Cfg,
        Self::Hosts,
        Self::Policy,
        Self::Cidr,
        Self::Epochs,
        Self::Shard,
        Self::Bounce,
        Self::Route,
        Self::Moved,
        Self::Ep,
        Self::Iface,
        Self::Addr,
    ];

    /// Name of the map.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cfg => name::CFG,
            Self::Hosts => name::HOSTS,
            Self::Policy => name::POLICY,
            Self::Cidr => name::CIDR,
            Self::Epochs => name::EPOCHS,
            Self::Shard => name::SHARD,
            Self::Bounce => name::BOUNCE,
            Self::Route => name::ROUTE,
            Self::Moved => name::MOVED,
            Self::Ep => name::EP,
            Self::Iface => name::IFACE,
            Self::Addr => name::ADDR,
        }
    }
}

/// Key of a longest-prefix map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix {
    /// Bits that count, from the VNI's first.
    pub bits: u32,
    /// VNI and address; bits that do not count are 0.
    pub at: VniAddress,
}

impl Prefix {
    /// The prefix of an IPv4 or IPv6 network in a VNI.
    pub fn of(vni: u32, net: &ipnet::IpNet) -> Self {
        Self { bits: 32 + inside(net), at: VniAddress::new(vni, address(net.network())) }
    }

    /// The prefix of one address.
    pub fn single(vni: u32, ip: IpAddr) -> Self {
        Self { bits: VniAddress::BITS, at: VniAddress::new(vni, address(ip)) }
    }
}

/// Key of POLICY: whom a policy allows, and what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rule {
    /// Bits that count.
    pub bits: u32,
    /// Bits that do not count are 0.
    pub at: PolicyKey,
}

/// Key of CIDR: the addresses that a policy tells apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cidr {
    /// Bits that count, from the policy's first.
    pub bits: u32,
    /// Bits that do not count are 0.
    pub at: PolicyAddress,
}

impl Cidr {
    /// The prefix of an IPv4 or IPv6 network in a policy.
    pub fn of(policy: u32, net: &ipnet::IpNet) -> Self {
        Self { bits: 32 + inside(net), at: PolicyAddress::new(policy, address(net.network())) }
    }
}

/// Bits of a network's prefix among those of a mapped address.
fn inside(net: &ipnet::IpNet) -> u32 {
    match net {
        ipnet::IpNet::V4(n) => 96 + u32::from(n.prefix_len()),
        ipnet::IpNet::V6(n) => u32::from(n.prefix_len()),
    }
}

/// An address as the maps hold it.
pub fn address(ip: IpAddr) -> mizar_abi::Address {
    match ip {
        IpAddr::V4(v4) => mizar_abi::mapped(v4.octets()),
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// A key of a planned map. The order is the order of additions: an entry comes after everything
/// that it makes the programs look up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "each is the key of the map of that name in mizar_abi::maps")]
pub enum Key {
    Cfg,
    Host(u32),
    Policy(Rule),
    Cidr(Cidr),
    Epoch(u32),
    Shard(ShardKey),
    Bounce(VniAddress),
    Route(Prefix),
    Moved(VniAddress),
    Ep(u32),
    Iface(u32),
    Addr(Prefix),
}

impl Key {
    /// The map it is in.
    pub const fn table(&self) -> Table {
        match self {
            Self::Cfg => Table::Cfg,
            Self::Host(_) => Table::Hosts,
            Self::Policy(_) => Table::Policy,
            Self::Cidr(_) => Table::Cidr,
            Self::Epoch(_) => Table::Epochs,
            Self::Shard(_) => Table::Shard,
            Self::Bounce(_) => Table::Bounce,
            Self::Route(_) => Table::Route,
            Self::Moved(_) => Table::Moved,
            Self::Ep(_) => Table::Ep,
            Self::Iface(_) => Table::Iface,
            Self::Addr(_) => Table::Addr,
        }
    }
}

/// A value of a planned map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the value of the map of that name in mizar_abi::maps")]
pub enum Value {
    Cfg(Cfg),
    Host(HostAddress),
    Policy(Verdict),
    /// [`mizar_abi::maps::cidr_identity`] of a number of this host's.
    Cidr(u32),
    /// The planner leaves `since_ms` 0: when it came into force, the data plane knows.
    Epoch(Epoch),
    Shard(Shard),
    Bounce(Bounce),
    Route(Route),
    Moved(Moved),
    Ep(Ep),
    Iface(u32),
    Addr(Addr),
}

/// One write to a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Add or overwrite.
    Put(Key, Value),
    /// Remove; a key that is not there is no failure.
    Remove(Key),
}

impl Op {
    /// The key written.
    pub const fn key(&self) -> &Key {
        match self {
            Self::Put(key, _) | Self::Remove(key) => key,
        }
    }
}

/// Additions in the order of their keys, then removals in the reverse order; generations of policies
/// after all that, for a verdict that bears the new one must be of the new rules.
pub fn in_safe_order(ops: &mut [Op]) {
    let last = |op: &Op| matches!(op.key(), Key::Epoch(_));
    ops.sort_by(|a, b| {
        last(a).cmp(&last(b)).then_with(|| match (a, b) {
            (Op::Put(a, _), Op::Put(b, _)) => a.cmp(b),
            (Op::Remove(a), Op::Remove(b)) => b.cmp(a),
            (Op::Put(..), Op::Remove(_)) => std::cmp::Ordering::Less,
            (Op::Remove(_), Op::Put(..)) => std::cmp::Ordering::Greater,
        })
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generation_rises_after_its_rules_have_changed() {
        let rule = |identity| Key::Policy(Rule { bits: PolicyKey::BITS, at: PolicyKey::new(1, identity, 6, 80) });
        let raise = Op::Put(Key::Epoch(1), Value::Epoch(Epoch { n: 2, ..Epoch::default() }));
        let forget = Op::Remove(Key::Epoch(2));
        let (add, remove) = (Op::Put(rule(5), Value::Policy(1)), Op::Remove(rule(6)));
        let mut ops = [raise, forget, remove, add];
        in_safe_order(&mut ops);
        assert_eq!(ops, [add, remove, raise, forget]);
    }
}
