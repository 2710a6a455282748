//! The planned maps, their keys and values, and operations on them.

use mizar_abi::maps::{Addr, Bounce, Cfg, Ep, HostAddress, Moved, Route, Shard, ShardKey, VniAddress, name};
use std::net::IpAddr;

/// A map whose content is planned. Flows, counters and the like are not: the programs write them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "each is the map of that name in mizar_abi::maps")]
pub enum Table {
    Cfg,
    Hosts,
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
    pub const ALL: [Self; 9] = [
        Self::Cfg,
        Self::Hosts,
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
        let inside = match net {
            ipnet::IpNet::V4(n) => 96 + u32::from(n.prefix_len()),
            ipnet::IpNet::V6(n) => u32::from(n.prefix_len()),
        };
        Self { bits: 32 + inside, at: VniAddress::new(vni, address(net.network())) }
    }

    /// The prefix of one address.
    pub fn single(vni: u32, ip: IpAddr) -> Self {
        Self { bits: VniAddress::BITS, at: VniAddress::new(vni, address(ip)) }
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

/// Additions in the order of their keys, then removals in the reverse order.
pub fn in_safe_order(ops: &mut [Op]) {
    ops.sort_by(|a, b| match (a, b) {
        (Op::Put(a, _), Op::Put(b, _)) => a.cmp(b),
        (Op::Remove(a), Op::Remove(b)) => b.cmp(a),
        (Op::Put(..), Op::Remove(_)) => std::cmp::Ordering::Less,
        (Op::Remove(_), Op::Put(..)) => std::cmp::Ordering::Greater,
    });
}
