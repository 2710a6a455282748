//! The objects that desired state is compiled from, as they stand in the database.
//!
//! Each holds what its entries need and nothing else: no status, no timestamps. Numbers (`number`,
//! `vni`, `generation`) are the short names of the data plane; ids are those of the API.

use crate::id::{AddressGroupId, LabelPolicyId, NetworkId, PortId, ProjectId, SecurityGroupId, SubnetId};
use crate::label_policy::{self, Labels};
use crate::mac::Mac;
use crate::policy;
use ipnet::IpNet;
use std::net::{IpAddr, Ipv4Addr};

pub use mizar_abi::{ABI, SLOTS};

/// An endpoint address as the data plane holds it: 16 bytes, IPv4 mapped into IPv6.
pub fn mapped(address: IpAddr) -> mizar_abi::Address {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// The slot, 0 to 4,095, of an address in the subnet of that number: which bouncers hold it.
pub fn slot(subnet: u32, address: IpAddr) -> u16 {
    mizar_abi::hash::slot(subnet, &mapped(address))
}

/// A host of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Its short name; never 0.
    pub number: u32,
    /// Its name: `binding:host_id`.
    pub name: String,
    /// Outer address of its packets.
    pub underlay: Ipv4Addr,
}

/// A key that signs the options of first packets.
#[derive(Clone, PartialEq, Eq)]
pub struct ClusterKey {
    /// 1 to 255.
    pub id: u8,
    /// The secret.
    pub key: [u8; 16],
    /// This one signs; the others verify only.
    pub signs: bool,
}

impl std::fmt::Debug for ClusterKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClusterKey").field("id", &self.id).field("signs", &self.signs).finish_non_exhaustive()
    }
}

/// A network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// Its id.
    pub id: NetworkId,
    /// 4,096 to 2^24 - 1.
    pub vni: u32,
    /// Bytes of inner IP packet.
    pub mtu: u32,
}

/// A route that a subnet hands to its ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostRoute {
    /// Where to.
    pub destination: IpNet,
    /// Through which address.
    pub nexthop: IpAddr,
}

/// A subnet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subnet {
    /// Its id.
    pub id: SubnetId,
    /// Its short name.
    pub number: u32,
    /// VNI of its network.
    pub vni: u32,
    /// Its addresses.
    pub cidr: IpNet,
    /// The router's address, if it has one.
    pub gateway: Option<IpAddr>,
    /// Whether agents answer DHCP.
    pub dhcp: bool,
    /// Name servers, in the order to be tried.
    pub dns: Vec<IpAddr>,
    /// Further routes.
    pub routes: Vec<HostRoute>,
}

/// One address of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FixedIp {
    /// Number of the subnet.
    pub subnet: u32,
    /// The address.
    pub address: IpAddr,
}

/// Addresses that a port may use as source beside its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AddressPair {
    /// The addresses.
    pub cidr: IpNet,
    /// With this source MAC; `None` = the port's own.
    pub mac: Option<Mac>,
}

/// What DHCP tells a port beside what its subnet says, or instead of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DhcpOption {
    /// Its number.
    pub code: u8,
    /// Its bytes; none take the option out of what the port is told.
    pub value: Vec<u8>,
}

impl DhcpOption {
    /// Not an option, whose numbers end before: the address in the header from where the port boots.
    pub const NEXT_SERVER: u8 = 255;
}

/// A port as its host and its bouncers need it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BoundPort {
    /// Its id.
    pub id: PortId,
    /// Its short name: `ep_id` of the data plane.
    pub number: u32,
    /// Rises with every binding.
    pub generation: u32,
    /// Its name.
    pub name: String,
    /// VNI of its network.
    pub vni: u32,
    /// Its MAC address.
    pub mac: Mac,
    /// Its addresses, in the order of its `fixed_ips`; may be empty.
    pub fixed_ips: Vec<FixedIp>,
    /// Allowed address pairs.
    pub pairs: Vec<AddressPair>,
    /// Anti-spoofing on.
    pub port_security: bool,
    /// `admin_state_up`.
    pub admin_up: bool,
    /// Its security groups; `None` = its packets are not filtered.
    pub set: Option<GroupSet>,
    /// For DHCP, each number once.
    pub dhcp_options: Vec<DhcpOption>,
    /// Number of the host that it is bound to; `None` = not bound, or to a host not known.
    pub host: Option<u32>,
    /// Number of the host that it left within the last five minutes.
    pub moved_from: Option<u32>,
}

/// A combination of security groups that ports have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupSet {
    /// Its short name: policy and identity of the data plane.
    pub number: u32,
    /// Numbers of the groups, in order.
    pub groups: Vec<u32>,
    /// By what label policies know its ports; `None`: they do not.
    pub labels: Option<Labelled>,
}

/// The labels of ports of a project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Labelled {
    /// Short name of the project.
    pub project: u32,
    /// The labels.
    pub labels: Labels,
}

/// A label policy of a project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelPolicy {
    /// Its id.
    pub id: LabelPolicyId,
    /// Short name of the project.
    pub project: u32,
    /// What it says.
    pub policy: label_policy::Policy,
}

/// What a project's label policies have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelProject {
    /// The project.
    pub id: ProjectId,
    /// Its short name.
    pub number: u32,
    /// Rises whenever less may pass than before.
    pub generation: u32,
}

impl GroupSet {
    /// Of a port whose groups are not known: nothing may pass. Its number is never drawn.
    pub const UNKNOWN: Self = Self { number: i32::MAX as u32, groups: Vec::new(), labels: None };
}

/// A security group with its rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecurityGroup {
    /// Its id.
    pub id: SecurityGroupId,
    /// Its short name.
    pub number: u32,
    /// Rises whenever less may pass than before.
    pub generation: u32,
    /// Answers to what may pass may pass too, on ports that have it.
    pub stateful: bool,
    /// Of both directions.
    pub rules: Vec<policy::Rule>,
}

/// Addresses that rules name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressGroup {
    /// Its id.
    pub id: AddressGroupId,
    /// Its short name.
    pub number: u32,
    /// Without host bits, in order, each once.
    pub addresses: Vec<IpNet>,
}

/// Which hosts bounce for a subnet: a decision of placement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardMap {
    /// The subnet.
    pub id: SubnetId,
    /// Its number.
    pub subnet: u32,
    /// There are 2^log2 shards.
    pub log2: u8,
    /// Numbers of the hosts of each shard; 0 = none.
    pub shards: Vec<[u32; 2]>,
}

/// Which hosts divide for a network: a decision of placement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DividerSet {
    /// The network.
    pub id: NetworkId,
    /// Its VNI.
    pub vni: u32,
    /// Numbers of hosts, in pairs; 0 = none.
    pub pairs: Vec<[u32; 2]>,
}
