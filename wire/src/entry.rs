//! Names of entries: scope, slot, kind, key.

use crate::body::Body;
use serde::{Deserialize, Serialize};

/// Who an entry is for. Hosts subscribe to scopes, or reach them by includes.
///
/// In the database a scope is one `bigint`: its kind in the upper 32 bits, its number in the
/// lower 32, so that no table is needed to name one (ADR 0002).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// Every host: hosts' addresses, cluster keys.
    Cluster,
    /// One host, by its number: its ports.
    Host(u32),
    /// Hosts with a port on a network, by VNI: the network and its subnets.
    Network(u32),
    /// Dividers of a network, by VNI.
    Dividers(u32),
    /// Bouncers of a subnet, by its number: one entry per address, in slots.
    Subnet(u32),
    /// Senders to a subnet, by its number: the shard map.
    Senders(u32),
    /// Bouncers of ports with a security group, by its number: its ingress rules.
    Group(u32),
    /// Hosts with ports of a security group, by its number: its egress rules.
    Member(u32),
    /// Whoever has a rule that names a security group as the other side, by its number: the sets
    /// that the group is in, which are what packets carry.
    Peers(u32),
    /// Whoever has a rule that names an address group, by its number.
    AddressGroup(u32),
    /// Bouncers of ports with labels, by the number of their project: its label policies of ingress.
    LabelIngress(u32),
    /// Hosts with ports with labels, by the number of their project: its label policies of egress.
    LabelEgress(u32),
    /// Whoever has a label policy of a project that names labels, by its number: its sets with
    /// labels.
    Labelled(u32),
}

impl Scope {
    /// The column value.
    pub const fn to_i64(self) -> i64 {
        let (kind, number) = match self {
            Self::Cluster => (1i64, 0),
            Self::Host(n) => (2, n),
            Self::Network(n) => (3, n),
            Self::Dividers(n) => (4, n),
            Self::Subnet(n) => (5, n),
            Self::Senders(n) => (6, n),
            Self::Group(n) => (7, n),
            Self::Member(n) => (8, n),
            Self::Peers(n) => (9, n),
            Self::AddressGroup(n) => (10, n),
            Self::LabelIngress(n) => (11, n),
            Self::LabelEgress(n) => (12, n),
            Self::Labelled(n) => (13, n),
        };
        (kind << 32) | number as i64
    }

    /// The scope of a column value; `None` for kinds of a later version.
    pub const fn from_i64(column: i64) -> Option<Self> {
        let number = column as u32;
        Some(match column >> 32 {
            1 if number == 0 => Self::Cluster,
            2 => Self::Host(number),
            3 => Self::Network(number),
            4 => Self::Dividers(number),
            5 => Self::Subnet(number),
            6 => Self::Senders(number),
            7 => Self::Group(number),
            8 => Self::Member(number),
            9 => Self::Peers(number),
            10 => Self::AddressGroup(number),
            11 => Self::LabelIngress(number),
            12 => Self::LabelEgress(number),
            13 => Self::Labelled(number),
            _ => return None,
        })
    }
}

/// What an entry's body is. The number is stored and sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(i16)]
pub enum Kind {
    /// [`crate::body::Host`] in `Cluster`; key = host number.
    Host = 1,
    /// [`crate::body::ClusterKey`] in `Cluster`; key = key id.
    ClusterKey = 2,
    /// [`crate::body::Network`] in `Network`; key = network id.
    Network = 3,
    /// [`crate::body::Subnet`] in `Network`; key = subnet id.
    Subnet = 4,
    /// [`crate::body::DividerSet`] in `Network`; key = network id. Written by the scheduler.
    DividerSet = 5,
    /// [`crate::body::DividerRole`] in `Dividers`; key = network id.
    DividerRole = 6,
    /// [`crate::body::Port`] in `Host`; key = port id.
    Port = 7,
    /// [`crate::body::Bounce`] in `Subnet`, in the slot of its address; key = port id, address.
    Bounce = 8,
    /// [`crate::body::ShardMap`] in `Senders`; key = subnet id. Written by the scheduler.
    ShardMap = 9,
    /// [`crate::body::MovedPort`] in `Host` of the former host; key = port id.
    MovedPort = 10,
    /// [`crate::body::Group`] with ingress rules in `Group`; key = security group id.
    Group = 11,
    /// [`crate::body::Group`] with egress rules in `Member`; key = security group id.
    Member = 12,
    /// [`crate::body::GroupSet`] in `Peers` of each of its groups, and in `Labelled` of its project if it
    /// has labels; key = number of the set.
    GroupSet = 13,
    /// [`crate::body::AddressGroup`] in `AddressGroup`; key = address group id.
    AddressGroup = 14,
    /// [`crate::body::LabelPolicy`] with rules of ingress in `LabelIngress`; key = label policy id.
    LabelIngress = 15,
    /// [`crate::body::LabelPolicy`] with rules of egress in `LabelEgress`; key = label policy id.
    LabelEgress = 16,
    /// [`crate::body::LabelGeneration`] in `LabelIngress` and `LabelEgress`; key = project id.
    LabelGeneration = 17,
}

impl Kind {
    /// Decodes a stored number.
    pub const fn from_i16(number: i16) -> Option<Self> {
        Some(match number {
            1 => Self::Host,
            2 => Self::ClusterKey,
            3 => Self::Network,
            4 => Self::Subnet,
            5 => Self::DividerSet,
            6 => Self::DividerRole,
            7 => Self::Port,
            8 => Self::Bounce,
            9 => Self::ShardMap,
            10 => Self::MovedPort,
            11 => Self::Group,
            12 => Self::Member,
            13 => Self::GroupSet,
            14 => Self::AddressGroup,
            15 => Self::LabelIngress,
            16 => Self::LabelEgress,
            17 => Self::LabelGeneration,
            _ => return None,
        })
    }
}

/// The identity of an entry. `key` begins with the id of the object it was compiled from, so
/// that two objects never write the same entry.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryKey {
    /// Whom it is for.
    pub scope: Scope,
    /// 0, or the slot of the address in scope `Subnet`.
    pub slot: u16,
    /// What the body is.
    pub kind: Kind,
    /// Big-endian number, 16-byte UUID, or UUID and 16-byte address.
    pub key: Vec<u8>,
}

/// An entry with its body.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Its identity.
    pub key: EntryKey,
    /// Its content.
    pub body: Body,
}

/// `scope` needs `target`: whoever receives the first (in that slot, or all slots if `None`)
/// receives the second too. Transitive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Include {
    /// The scope that needs.
    pub scope: Scope,
    /// One slot of it, or the whole.
    pub slot: Option<u16>,
    /// The scope that is needed.
    pub target: Scope,
}

/// An entry as it travels: numbers where the sender may know kinds that the receiver does not.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// [`Scope::to_i64`].
    pub scope: i64,
    /// 0 to 4,095.
    pub slot: u16,
    /// [`Kind`] as a number.
    pub kind: i16,
    /// Hexadecimal, lower case.
    pub key: String,
    /// The body as JSON; `None` = the entry is gone.
    pub body: Option<serde_json::Value>,
}
