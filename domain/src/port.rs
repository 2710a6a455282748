//! Commands on ports and their rules.

use crate::id::{NetworkId, PortId, ProjectId, QosPolicyId, SecurityGroupId};
use crate::ipam::{FixedIpRequest, IpamError};
use crate::mac::Mac;
use crate::model::AddressPair;
use crate::network::underlay_for;
use crate::patch::Patch;
use crate::port_extras::PortExtras;
use crate::text::{Name, Tags};
use std::fmt;

/// Makes a port.
#[derive(Clone, Debug)]
pub struct CreatePort {
    /// Its id, drawn by the caller. Random (version 4): tap devices are named by its first eleven
    /// characters, which a time-ordered id would share with its neighbours.
    pub id: PortId,
    /// Whose it is.
    pub project: ProjectId,
    /// On which network.
    pub network: NetworkId,
    /// Name; need not be unique.
    pub name: Name,
    /// Description.
    pub description: Name,
    /// `admin_state_up`.
    pub admin_up: bool,
    /// `None`: a random one.
    pub mac: Option<Mac>,
    /// `None`: one automatic address.
    pub fixed_ips: Option<Vec<FixedIpRequest>>,
    /// Which machine, in the words of who made it.
    pub device_id: Name,
    /// Who made it: `compute:nova`.
    pub device_owner: Name,
    /// Allowed address pairs.
    pub pairs: Vec<AddressPair>,
    /// `None`: as the network says.
    pub port_security: Option<bool>,
    /// `None`: its project's default group, if it has port security.
    pub security_groups: Option<Vec<SecurityGroupId>>,
    /// `binding:host_id`; `None` = not bound.
    pub host: Option<String>,
    /// `binding:vnic_type`.
    pub vnic_type: VnicType,
    /// `binding:profile`: an object that only its writer understands.
    pub profile: serde_json::Value,
    /// Tags.
    pub tags: Tags,
    /// What else is stored.
    pub extras: PortExtras,
    /// Its own QoS policy.
    pub qos_policy: Option<QosPolicyId>,
}

/// Changes a port. `None` leaves the attribute as it is.
#[derive(Clone, Debug, Default)]
pub struct UpdatePort {
    /// Name.
    pub name: Option<Name>,
    /// Description.
    pub description: Option<Name>,
    /// `admin_state_up`.
    pub admin_up: Option<bool>,
    /// MAC address.
    pub mac: Option<Mac>,
    /// All its addresses.
    pub fixed_ips: Option<Vec<FixedIpRequest>>,
    /// Which machine.
    pub device_id: Option<Name>,
    /// Who made it.
    pub device_owner: Option<Name>,
    /// Allowed address pairs.
    pub pairs: Option<Vec<AddressPair>>,
    /// Anti-spoofing.
    pub port_security: Option<bool>,
    /// All its security groups.
    pub security_groups: Option<Vec<SecurityGroupId>>,
    /// `binding:host_id`.
    pub host: Patch<String>,
    /// `binding:vnic_type`.
    pub vnic_type: Option<VnicType>,
    /// `binding:profile`.
    pub profile: Option<serde_json::Value>,
    /// All of what else is stored.
    pub extras: Option<PortExtras>,
    /// Its own QoS policy.
    pub qos_policy: Patch<QosPolicyId>,
}

/// `binding:vnic_type`. Hosts have virtual interfaces; the others need hardware that we do not drive, and are bound nowhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum VnicType {
    /// A tap device or a veth pair.
    #[default]
    Normal,
    /// A function of a network card.
    Direct,
    /// One behind a macvtap device.
    Macvtap,
    /// A machine's own card, behind a switch.
    Baremetal,
    /// A whole card.
    DirectPhysical,
    /// A card that speaks virtio by way of a relay.
    VirtioForwarder,
    /// A card that forwards by itself.
    SmartNic,
    /// A card that speaks virtio.
    Vdpa,
    /// An accelerator with a function of a card.
    AcceleratorDirect,
    /// An accelerator with a whole card.
    AcceleratorDirectPhysical,
    /// A card that is managed from elsewhere.
    RemoteManaged,
}

impl VnicType {
    /// All.
    pub const ALL: [Self; 11] = [
        Self::Normal,
        Self::Direct,
        Self::Macvtap,
        Self::Baremetal,
        Self::DirectPhysical,
        Self::VirtioForwarder,
        Self::SmartNic,
        Self::Vdpa,
        Self::AcceleratorDirect,
        Self::AcceleratorDirectPhysical,
        Self::RemoteManaged,
    ];

    /// Neutron's word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Direct => "direct",
            Self::Macvtap => "macvtap",
            Self::Baremetal => "baremetal",
            Self::DirectPhysical => "direct-physical",
            Self::VirtioForwarder => "virtio-forwarder",
            Self::SmartNic => "smart-nic",
            Self::Vdpa => "vdpa",
            Self::AcceleratorDirect => "accelerator-direct",
            Self::AcceleratorDirectPhysical => "accelerator-direct-physical",
            Self::RemoteManaged => "remote-managed",
        }
    }

    /// The one of a word, as columns hold it.
    pub fn named(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }
}

/// Allowed address pairs that a port may have.
pub const PAIRS_MAX: usize = 10;

/// Why a port cannot be made or changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PortError {
    /// Its addresses.
    #[error(transparent)]
    Ipam(#[from] IpamError),
    /// Another port of the network has it.
    #[error("Unable to complete operation for network {network}. The mac address {mac} is in use.")]
    MacInUse {
        /// On which network.
        network: NetworkId,
        /// The address.
        mac: Mac,
    },
    /// The address of a group of stations, or all zero.
    #[error("Invalid input for mac_address. Reason: '{0}' is not the address of a single station.")]
    BadMac(Mac),
    /// The interface has the old address already.
    #[error("Unable to complete operation on port {0}, port is already bound: its mac_address cannot change.")]
    MacOfBoundPort(PortId),
    /// More than [`PAIRS_MAX`].
    #[error("The number of allowed address pair exceeds the maximum {PAIRS_MAX}.")]
    TooManyPairs,
    /// Named twice.
    #[error("Request contains duplicate address pair: mac_address {mac} ip_address {cidr}.")]
    DuplicatePair {
        /// The pair's MAC address, or the port's.
        mac: String,
        /// The pair's addresses.
        cidr: ipnet::IpNet,
    },
    /// Pairs loosen the anti-spoofing that the port does not have.
    #[error("Port Security must be enabled in order to have allowed address pairs on a port.")]
    PairsWithoutSecurity,
    /// Not there, or not for the port's project.
    #[error("Security group {0} does not exist")]
    NoSuchGroup(SecurityGroupId),
    /// What anti-spoofing does not guard, groups cannot either.
    #[error("Port security must be enabled and port must have an IP address in order to use security groups.")]
    GroupsWithoutSecurity,
    /// They have to go first.
    #[error(
        "Port has security group associated. Cannot disable port security or IP address until security group is \
         removed."
    )]
    SecurityOfGroups,
}

/// A host as far as binding asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostFacts {
    /// Its number.
    pub number: u32,
    /// MTU of its uplink.
    pub mtu: u32,
}

/// What became of `binding:host_id`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Binding {
    /// Nobody asked.
    Unbound,
    /// To the host of that number.
    Bound(u32),
    /// Asked for, but impossible. As in Neutron the request succeeds and `binding:vif_type` says
    /// so, because Nova looks there.
    Failed(BindingFailure),
}

/// Why a host cannot take a port.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BindingFailure {
    /// Never registered.
    #[error("the host that it was bound to is not known")]
    UnknownHost,
    /// It wants hardware.
    #[error("hosts have only interfaces of vnic_type normal, it asks for {}", .0.as_str())]
    NoSuchInterface(VnicType),
    /// Its uplink would have to fragment.
    #[error("its host has an uplink of MTU {has}, the network needs {needs}")]
    SmallUplink {
        /// Its MTU.
        has: u32,
        /// The network's MTU and the encapsulation.
        needs: u32,
    },
}

impl Binding {
    /// Decides.
    pub fn decide(host: Option<&str>, facts: Option<&HostFacts>, vnic: VnicType, network_mtu: u32) -> Self {
        if host.is_none() {
            return Self::Unbound;
        }
        let Some(facts) = facts else { return Self::Failed(BindingFailure::UnknownHost) };
        if vnic != VnicType::Normal {
            return Self::Failed(BindingFailure::NoSuchInterface(vnic));
        }
        let needs = underlay_for(network_mtu);
        if facts.mtu < needs {
            return Self::Failed(BindingFailure::SmallUplink { has: facts.mtu, needs });
        }
        Self::Bound(facts.number)
    }

    /// `binding:vif_type`.
    pub const fn vif_type(&self) -> &'static str {
        match self {
            Self::Unbound => "unbound",
            Self::Bound(_) => "tap",
            Self::Failed(_) => "binding_failed",
        }
    }

    /// The host's number.
    pub const fn host(&self) -> Option<u32> {
        match self {
            Self::Bound(number) => Some(*number),
            Self::Unbound | Self::Failed(_) => None,
        }
    }

    /// The status right after, before any host has reported.
    pub const fn status(&self, admin_up: bool) -> Status {
        match self {
            Self::Bound(_) if admin_up => Status::Build,
            Self::Failed(_) => Status::Error,
            Self::Bound(_) | Self::Unbound => Status::Down,
        }
    }

    /// What the tenant can read about the status.
    pub fn reason(&self) -> String {
        match self {
            Self::Failed(failure) => failure.to_string(),
            Self::Unbound | Self::Bound(_) => String::new(),
        }
    }
}

/// `status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Wired, and every active bouncer knows it.
    Active,
    /// On the way there.
    Build,
    /// Not bound, switched off, or its interface is gone.
    Down,
    /// It needs somebody: `status_reason` says what.
    Error,
}

impl Status {
    /// Neutron's word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "ACTIVE",
            Self::Build => "BUILD",
            Self::Down => "DOWN",
            Self::Error => "ERROR",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Checks a MAC address that an admin named.
pub fn check_mac(mac: Mac) -> Result<Mac, PortError> {
    if mac.is_multicast() || mac.0 == [0; 6] { Err(PortError::BadMac(mac)) } else { Ok(mac) }
}

/// The groups that a new port asks for; `None`: the default group of its project. Neutron leaves
/// ports of the network itself (DHCP, routers) without.
pub fn new_groups(command: &CreatePort, port_security: bool) -> Result<Option<&[SecurityGroupId]>, PortError> {
    match command.security_groups.as_deref() {
        Some([_, ..]) if !port_security => Err(PortError::GroupsWithoutSecurity),
        Some(groups) => Ok(Some(groups)),
        None if is_filtered(port_security, command.device_owner.as_str()) => Ok(None),
        None => Ok(Some(&[])),
    }
}

/// Whether security groups filter the packets of a port. The network's own ports (DHCP, routers)
/// pass what they are sent, as in Neutron.
pub fn is_filtered(port_security: bool, device_owner: &str) -> bool {
    port_security && !device_owner.starts_with("network:")
}

/// Checks the groups of a port that changes. `held`: those that it has.
pub fn check_groups(command: &UpdatePort, held: usize, port_security: bool) -> Result<(), PortError> {
    match command.security_groups.as_deref() {
        _ if port_security => Ok(()),
        Some([_, ..]) => Err(PortError::GroupsWithoutSecurity),
        None if held > 0 => Err(PortError::SecurityOfGroups),
        _ => Ok(()),
    }
}

/// Checks allowed address pairs. A pair without MAC stands for the port's own.
pub fn check_pairs(pairs: &[AddressPair], own: Option<Mac>, port_security: bool) -> Result<(), PortError> {
    if pairs.is_empty() {
        return Ok(());
    }
    if !port_security {
        return Err(PortError::PairsWithoutSecurity);
    }
    if pairs.len() > PAIRS_MAX {
        return Err(PortError::TooManyPairs);
    }
    for (at, pair) in pairs.iter().enumerate() {
        let same = |other: &AddressPair| other.cidr == pair.cidr && other.mac.or(own) == pair.mac.or(own);
        if pairs[..at].iter().any(same) {
            let mac = pair.mac.or(own).map_or_else(|| "of the port".to_owned(), |mac| mac.to_string());
            return Err(PortError::DuplicatePair { mac, cidr: pair.cidr });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_bound_if_known_and_if_its_uplink_carries_the_network() {
        let facts = |mtu| HostFacts { number: 7, mtu };
        let decide =
            |host: Option<&str>, facts: Option<&HostFacts>, mtu| Binding::decide(host, facts, VnicType::Normal, mtu);
        assert_eq!(decide(None, None, 1398), Binding::Unbound);
        assert_eq!(decide(Some("h"), Some(&facts(1500)), 1398), Binding::Bound(7));
        let unknown = decide(Some("h"), None, 1398);
        assert_eq!((unknown.vif_type(), unknown.status(true)), ("binding_failed", Status::Error));
        let small = decide(Some("h"), Some(&facts(1499)), 1398);
        assert_eq!(small.reason(), "its host has an uplink of MTU 1499, the network needs 1500");
        for vnic in VnicType::ALL {
            let bound = Binding::decide(Some("h"), Some(&facts(1500)), vnic, 1398);
            assert_eq!(bound == Binding::Bound(7), vnic == VnicType::Normal, "{vnic:?}");
            assert_eq!(VnicType::named(vnic.as_str()), Some(vnic));
        }
    }

    #[test]
    fn a_port_that_is_switched_off_is_down_even_if_bound() {
        assert_eq!(Binding::Bound(1).status(true), Status::Build);
        assert_eq!(Binding::Bound(1).status(false), Status::Down);
        assert_eq!(Binding::Unbound.status(true), Status::Down);
    }

    #[test]
    fn pairs_are_bounded_named_once_and_need_port_security() {
        let own: Mac = "fa:16:3e:00:00:01".parse().unwrap();
        let pair = |mac| AddressPair { cidr: "10.0.0.9/32".parse().unwrap(), mac };
        assert_eq!(check_pairs(&[pair(None)], Some(own), true), Ok(()));
        assert_eq!(check_pairs(&[], Some(own), false), Ok(()));
        assert_eq!(check_pairs(&[pair(None)], Some(own), false), Err(PortError::PairsWithoutSecurity));
        let twice = check_pairs(&[pair(None), pair(Some(own))], Some(own), true);
        assert!(matches!(twice, Err(PortError::DuplicatePair { .. })));
        let many: Vec<AddressPair> = (0..11)
            .map(|n| AddressPair { cidr: ipnet::IpNet::new([10, 0, 0, n].into(), 32).unwrap(), mac: None })
            .collect();
        assert_eq!(check_pairs(&many, Some(own), true), Err(PortError::TooManyPairs));
    }

    #[test]
    fn groups_need_port_security_and_keep_it() {
        let asks = |groups: Option<usize>| UpdatePort {
            security_groups: groups.map(|count| vec![SecurityGroupId::random(); count]),
            ..UpdatePort::default()
        };
        assert_eq!(check_groups(&asks(Some(1)), 0, true), Ok(()));
        assert_eq!(check_groups(&asks(Some(1)), 0, false), Err(PortError::GroupsWithoutSecurity));
        assert_eq!(check_groups(&asks(None), 1, false), Err(PortError::SecurityOfGroups));
        assert_eq!(check_groups(&asks(None), 0, false), Ok(()));
        assert_eq!(check_groups(&asks(Some(0)), 1, false), Ok(()));
    }

    #[test]
    fn only_the_address_of_one_station_is_a_mac_of_a_port() {
        for text in ["00:00:00:00:00:00", "01:00:5e:00:00:01", "ff:ff:ff:ff:ff:ff"] {
            let mac: Mac = text.parse().unwrap();
            assert_eq!(check_mac(mac), Err(PortError::BadMac(mac)));
        }
    }
}
