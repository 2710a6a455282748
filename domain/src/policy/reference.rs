//! Whether security groups let a packet pass, as Neutron's reference says it, with no thought of
//! speed: every rule of every group is asked.
//!
//! From the networking API reference (security groups, security group rules) and Neutron's
//! administration guide: groups are allow lists, and what no rule of any group allows is dropped.
//! A rule is about one direction and one version of IP. `protocol` null is any. `port_range_min`
//! and `port_range_max` are the first and last *destination* port in both directions; of ICMP they
//! are type and code, each of them any if null. At most one of three attributes names the other
//! side: a prefix, a security group (whoever has it on his port), an address group.

use crate::security_group::{Direction, Ethertype, ICMP, ICMPV6, Rule};
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use uuid::Uuid;

/// The first packet of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Of IP.
    pub protocol: u8,
    /// What rules look at beyond that.
    pub transport: Transport,
}

/// What a packet carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// A destination port.
    Port(u16),
    /// A type and a code.
    Icmp(u8, u8),
    /// Nothing that rules know.
    Other,
}

/// The other side of a packet.
#[derive(Clone, Debug)]
pub struct Peer<'a> {
    /// Its address.
    pub address: IpAddr,
    /// Its security groups; none if it is no port of the cloud.
    pub groups: &'a BTreeSet<Uuid>,
}

/// Whether any of the rules, which are those of a port's groups, lets the packet pass.
pub fn allows<'r>(
    rules: impl IntoIterator<Item = &'r Rule>,
    direction: Direction,
    packet: Packet,
    peer: &Peer<'_>,
    addresses: &BTreeMap<Uuid, Vec<IpNet>>,
) -> bool {
    rules.into_iter().any(|rule| rule.direction == direction && matches(rule, packet, peer, addresses))
}

fn matches(rule: &Rule, packet: Packet, peer: &Peer<'_>, addresses: &BTreeMap<Uuid, Vec<IpNet>>) -> bool {
    let version = match peer.address {
        IpAddr::V4(_) => Ethertype::V4,
        IpAddr::V6(_) => Ethertype::V6,
    };
    if rule.ethertype != version {
        return false;
    }
    if let Some(protocol) = &rule.protocol
        && protocol.number != packet.protocol
    {
        return false;
    }
    of_range(rule, packet.transport) && of_remote(rule, peer, addresses)
}

fn of_range(rule: &Rule, transport: Transport) -> bool {
    let is_icmp = rule.protocol.as_ref().is_some_and(|protocol| [ICMP, ICMPV6].contains(&protocol.number));
    match transport {
        Transport::Icmp(kind, code) if is_icmp => {
            rule.low.is_none_or(|low| low == i32::from(kind)) && rule.high.is_none_or(|high| high == i32::from(code))
        }
        Transport::Port(port) => match (rule.low, rule.high) {
            (Some(low), Some(high)) => (low..=high).contains(&i32::from(port)),
            _ => true,
        },
        Transport::Icmp(..) | Transport::Other => true,
    }
}

fn of_remote(rule: &Rule, peer: &Peer<'_>, addresses: &BTreeMap<Uuid, Vec<IpNet>>) -> bool {
    if let Some(prefix) = rule.remote.prefix {
        return prefix.contains(&peer.address);
    }
    if let Some(group) = rule.remote.group {
        return peer.groups.contains(&group);
    }
    if let Some(group) = rule.remote.addresses {
        return addresses.get(&group).is_some_and(|all| all.iter().any(|net| net.contains(&peer.address)));
    }
    true
}
