//! Bodies of entries. Each names what it needs by number, never by a copy of another object, so
//! that a change of one object rewrites one entry.

use crate::entry::Kind;
use ipnet::IpNet;
use mizar_domain::label_policy::Selector;
use serde::{Deserialize, Deserializer, Serialize, de::DeserializeOwned};
use std::net::{IpAddr, Ipv4Addr};
use uuid::Uuid;

pub use mizar_domain::label_policy::{Labels, Peer as LabelPeer, Ports as LabelPorts, Rule as LabelRule};

/// A field whose absence must not pass for `None`, because `None` lets more through.
fn stated<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Option<T>, D::Error> {
    Option::deserialize(from)
}

/// A host of the cluster: its number and where it is on the underlay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Host {
    /// What other entries call it.
    pub number: u32,
    /// Its name, for people.
    pub name: String,
    /// Outer address of its packets.
    pub underlay: Ipv4Addr,
}

/// A key that signs options (SipHash-2-4).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterKey {
    /// 1 to 255, rising and wrapping; 0 is never used.
    pub id: u8,
    /// 32 hexadecimal digits.
    pub key: String,
    /// This key signs; otherwise it only verifies (not yet acknowledged by all, or the former).
    pub signs: bool,
}

impl std::fmt::Debug for ClusterKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClusterKey").field("id", &self.id).field("signs", &self.signs).finish_non_exhaustive()
    }
}

/// A network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// Its id.
    pub id: Uuid,
    /// 4,096 to 2^24 - 1.
    pub vni: u32,
    /// Bytes of inner IP packet.
    pub mtu: u32,
}

/// A route that a subnet hands to its ports by DHCP.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostRoute {
    /// Where to.
    pub destination: IpNet,
    /// Through which address.
    pub nexthop: IpAddr,
}

/// A subnet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subnet {
    /// Its id.
    pub id: Uuid,
    /// Its number; below 2^31.
    pub number: u32,
    /// VNI of its network.
    pub vni: u32,
    /// Its addresses.
    pub cidr: IpNet,
    /// The router's address, if it has one.
    pub gateway: Option<IpAddr>,
    /// Whether the agent answers DHCP.
    pub dhcp: bool,
    /// Name servers for DHCP.
    pub dns: Vec<IpAddr>,
    /// Further routes for DHCP and containers.
    pub routes: Vec<HostRoute>,
}

/// The dividers of a network, in pairs; a sender takes one by the path hash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DividerSet {
    /// The network.
    pub vni: u32,
    /// Host numbers; the second is 0 where only one host was eligible.
    pub pairs: Vec<[u32; 2]>,
}

/// Tells a host that it is a divider of the network: it routes straight to bouncers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DividerRole {
    /// The network.
    pub vni: u32,
}

/// One address of a port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FixedIp {
    /// The address.
    pub address: IpAddr,
    /// Number of its subnet.
    pub subnet: u32,
}

/// An address that a port may use beside its own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddressPair {
    /// Source addresses.
    pub cidr: IpNet,
    /// Source MAC; the port's own if absent.
    pub mac: Option<String>,
}

/// What DHCP tells a port beside what its subnet says, or instead of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DhcpOption {
    /// Its number; 255 = not an option, but the address in the header from where the port boots.
    pub code: u8,
    /// Its bytes in hexadecimal; none take the option out of what the port is told.
    pub value: String,
}

/// A port bound to this host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Port {
    /// Its id.
    pub id: Uuid,
    /// Its number: ep_id in the data plane.
    pub number: u32,
    /// Rises with every binding.
    pub generation: u32,
    /// Its name, for people and, where no option says another, for DHCP's host name.
    pub name: String,
    /// VNI of its network.
    pub vni: u32,
    /// Six bytes in colon notation, lower case.
    pub mac: String,
    /// Its addresses; may be empty.
    pub fixed_ips: Vec<FixedIp>,
    /// Allowed address pairs.
    pub pairs: Vec<AddressPair>,
    /// Anti-spoofing on.
    pub port_security: bool,
    /// Forward at all.
    pub admin_up: bool,
    /// Its security groups; `None` = its packets are not filtered.
    #[serde(deserialize_with = "stated")]
    pub set: Option<GroupSet>,
    /// For DHCP, each number once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dhcp_options: Vec<DhcpOption>,
}

/// Where an address is: what a bouncer needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bounce {
    /// VNI of the network.
    pub vni: u32,
    /// The address.
    pub address: IpAddr,
    /// Number of the subnet.
    pub subnet: u32,
    /// Number of the port's host.
    pub host: u32,
    /// Number of the port.
    pub port: u32,
    /// Generation of its binding.
    pub generation: u32,
    /// Its security groups; `None` = its packets are not filtered.
    #[serde(deserialize_with = "stated")]
    pub set: Option<GroupSet>,
}

/// The shard map of a subnet: what senders need.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShardMap {
    /// The subnet.
    pub subnet: u32,
    /// There are 2^log2 shards.
    pub log2: u8,
    /// Hosts of each shard, in order; 0 = none.
    pub shards: Vec<[u32; 2]>,
}

/// A port that left this host: packets still on their way here are sent on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MovedPort {
    /// Number of the port.
    pub number: u32,
    /// Generation of its new binding.
    pub generation: u32,
    /// VNI of the network.
    pub vni: u32,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Number of its new host; 0 = not bound.
    pub host: u32,
}

/// A set of security groups, and labels: what a port is filtered by, and what its packets carry as identity.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupSet {
    /// 1 to 2^31 - 1. One combination of groups and labels has one number for ever.
    pub number: u32,
    /// Numbers of the groups, in order. None: nothing may pass, in or out.
    pub groups: Vec<u32>,
    /// By what label policies know its ports; absent: they do not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<Box<Labelled>>,
}

/// The labels of ports of a project.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Labelled {
    /// Number of the project.
    pub project: u32,
    /// The labels.
    pub labels: Labels,
}

/// By how much generations of rules rise, each time. What is between two of them says that a host has rules of the later
/// one, but does not know whether these are all, and no others: no other rules have it.
pub const GENERATION: u32 = 2;

/// The rules of a security group in one direction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// Number of the group.
    pub number: u32,
    /// Rises by [`GENERATION`] whenever less may pass than before, in either direction: flows are asked about again.
    pub generation: u32,
    /// Answers need a rule too, on ports that have stateless groups alone. Only such groups say it: hosts that know
    /// nothing of it take no other entry for malformed.
    #[serde(default, skip_serializing_if = "is_false")]
    pub stateless: bool,
    /// What may pass; the order means nothing.
    pub rules: Vec<Rule>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
const fn is_false(value: &bool) -> bool {
    !*value
}

/// One rule of a security group. A packet passes if any rule matches it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Its id, for telling what decided.
    pub id: Uuid,
    /// IPv6 packets; else IPv4 packets.
    pub ipv6: bool,
    /// `None` = any.
    #[serde(deserialize_with = "stated")]
    pub protocol: Option<u8>,
    /// First and last destination port; of ICMP: type in the upper byte, code in the lower.
    pub ports: [u16; 2],
    /// The other side.
    pub remote: Remote,
}

/// The other side of a rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Remote {
    /// Everybody.
    Any,
    /// Addresses.
    Prefix(IpNet),
    /// Ports with a security group, by its number.
    Group(u32),
    /// The addresses of an address group, by its number.
    AddressGroup(u32),
}

/// Addresses with a name, for rules.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddressGroup {
    /// Its number.
    pub number: u32,
    /// Without host bits, in order, each once; of either version of IP.
    pub addresses: Vec<IpNet>,
}

/// A label policy in one direction: it isolates the ports that it selects in that.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabelPolicy {
    /// Its id, for telling what decided.
    pub id: Uuid,
    /// Number of its project, whose ports alone it selects and names.
    pub project: u32,
    /// The namespace of the ports that it selects.
    pub namespace: String,
    /// What their labels are like.
    pub ports: Selector,
    /// What may pass; the order means nothing.
    pub rules: Vec<LabelRule>,
}

/// How often a project's label policies have let less pass than before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabelGeneration {
    /// Number of the project.
    pub project: u32,
    /// Rises by [`GENERATION`], in either direction: flows are asked about again.
    pub generation: u32,
}

/// The body of an entry.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "each variant is its struct")]
pub enum Body {
    Host(Host),
    ClusterKey(ClusterKey),
    Network(Network),
    Subnet(Subnet),
    DividerSet(DividerSet),
    DividerRole(DividerRole),
    Port(Port),
    Bounce(Bounce),
    ShardMap(ShardMap),
    MovedPort(MovedPort),
    Group(Group),
    Member(Group),
    GroupSet(GroupSet),
    AddressGroup(AddressGroup),
    LabelIngress(LabelPolicy),
    LabelEgress(LabelPolicy),
    LabelGeneration(LabelGeneration),
}

/// Why a body could not be decoded.
#[derive(Debug, thiserror::Error)]
#[error("body of kind {kind:?} is malformed")]
pub struct BodyError {
    /// What it should have been.
    pub kind: Kind,
    #[source]
    source: serde_json::Error,
}

impl Body {
    /// The kind that goes with it.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Host(_) => Kind::Host,
            Self::ClusterKey(_) => Kind::ClusterKey,
            Self::Network(_) => Kind::Network,
            Self::Subnet(_) => Kind::Subnet,
            Self::DividerSet(_) => Kind::DividerSet,
            Self::DividerRole(_) => Kind::DividerRole,
            Self::Port(_) => Kind::Port,
            Self::Bounce(_) => Kind::Bounce,
            Self::ShardMap(_) => Kind::ShardMap,
            Self::MovedPort(_) => Kind::MovedPort,
            Self::Group(_) => Kind::Group,
            Self::Member(_) => Kind::Member,
            Self::GroupSet(_) => Kind::GroupSet,
            Self::AddressGroup(_) => Kind::AddressGroup,
            Self::LabelIngress(_) => Kind::LabelIngress,
            Self::LabelEgress(_) => Kind::LabelEgress,
            Self::LabelGeneration(_) => Kind::LabelGeneration,
        }
    }

    /// The stored bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let encoded = match self {
            Self::Host(b) => serde_json::to_vec(b),
            Self::ClusterKey(b) => serde_json::to_vec(b),
            Self::Network(b) => serde_json::to_vec(b),
            Self::Subnet(b) => serde_json::to_vec(b),
            Self::DividerSet(b) => serde_json::to_vec(b),
            Self::DividerRole(b) => serde_json::to_vec(b),
            Self::Port(b) => serde_json::to_vec(b),
            Self::Bounce(b) => serde_json::to_vec(b),
            Self::ShardMap(b) => serde_json::to_vec(b),
            Self::MovedPort(b) => serde_json::to_vec(b),
            Self::Group(b) | Self::Member(b) => serde_json::to_vec(b),
            Self::GroupSet(b) => serde_json::to_vec(b),
            Self::AddressGroup(b) => serde_json::to_vec(b),
            Self::LabelIngress(b) | Self::LabelEgress(b) => serde_json::to_vec(b),
            Self::LabelGeneration(b) => serde_json::to_vec(b),
        };
        encoded.expect("structs of numbers, strings and addresses always serialize")
    }

    /// Decodes a stored or received body, strictly.
    pub fn from_value(kind: Kind, value: serde_json::Value) -> Result<Self, BodyError> {
        fn read<T: DeserializeOwned>(kind: Kind, value: serde_json::Value) -> Result<T, BodyError> {
            serde_json::from_value(value).map_err(|source| BodyError { kind, source })
        }
        Ok(match kind {
            Kind::Host => Self::Host(read(kind, value)?),
            Kind::ClusterKey => Self::ClusterKey(read(kind, value)?),
            Kind::Network => Self::Network(read(kind, value)?),
            Kind::Subnet => Self::Subnet(read(kind, value)?),
            Kind::DividerSet => Self::DividerSet(read(kind, value)?),
            Kind::DividerRole => Self::DividerRole(read(kind, value)?),
            Kind::Port => Self::Port(read(kind, value)?),
            Kind::Bounce => Self::Bounce(read(kind, value)?),
            Kind::ShardMap => Self::ShardMap(read(kind, value)?),
            Kind::MovedPort => Self::MovedPort(read(kind, value)?),
            Kind::Group => Self::Group(read(kind, value)?),
            Kind::Member => Self::Member(read(kind, value)?),
            Kind::GroupSet => Self::GroupSet(read(kind, value)?),
            Kind::AddressGroup => Self::AddressGroup(read(kind, value)?),
            Kind::LabelIngress => Self::LabelIngress(read(kind, value)?),
            Kind::LabelEgress => Self::LabelEgress(read(kind, value)?),
            Kind::LabelGeneration => Self::LabelGeneration(read(kind, value)?),
        })
    }
}
