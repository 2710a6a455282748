//! Commands on networks and their rules.

use crate::dns::DnsDomain;
use crate::id::{NetworkId, PortId, ProjectId, QosPolicyId};
use crate::patch::Patch;
use crate::text::{Name, Tags};
use crate::vni::Vni;
use mizar_abi::MTU_OVERHEAD;

/// What a network stores that nothing acts on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkExtras {
    /// Domain of its ports' names.
    pub dns_domain: DnsDomain,
    /// Zones in which it is wanted; it is in all.
    pub zone_hints: Vec<String>,
    /// QoS policy of its ports.
    pub qos_policy: Option<QosPolicyId>,
    /// The outside of routers that are made without naming one.
    pub is_default: bool,
}

/// Makes a network.
#[derive(Clone, Debug)]
pub struct CreateNetwork {
    /// Its id, drawn by the caller.
    pub id: NetworkId,
    /// Whose it is.
    pub project: ProjectId,
    /// Name; need not be unique.
    pub name: Name,
    /// Description.
    pub description: Name,
    /// `admin_state_up`.
    pub admin_up: bool,
    /// `None`: as large as the underlay allows.
    pub mtu: Option<u32>,
    /// Every project may put ports on it.
    pub shared: bool,
    /// Routers may have it as their outside.
    pub external: bool,
    /// What its ports get where they do not say.
    pub port_security: bool,
    /// `None`: a random one.
    pub vni: Option<Vni>,
    /// Tags.
    pub tags: Tags,
    /// What else is stored.
    pub extras: NetworkExtras,
}

/// Changes a network. `None` leaves the attribute as it is.
#[derive(Clone, Debug, Default)]
pub struct UpdateNetwork {
    /// Name.
    pub name: Option<Name>,
    /// Description.
    pub description: Option<Name>,
    /// `admin_state_up`.
    pub admin_up: Option<bool>,
    /// MTU; 0 asks for the default.
    pub mtu: Option<u32>,
    /// Every project may put ports on it.
    pub shared: Option<bool>,
    /// Routers may have it as their outside.
    pub external: Option<bool>,
    /// What its ports get where they do not say.
    pub port_security: Option<bool>,
    /// Domain of its ports' names.
    pub dns_domain: Option<DnsDomain>,
    /// QoS policy of its ports.
    pub qos_policy: Patch<QosPolicyId>,
    /// The outside of routers that are made without naming one.
    pub is_default: Option<bool>,
}

/// Why a network cannot be made or changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// The underlay carries less.
    #[error("Invalid input for mtu: {mtu} is larger than {max}, which the underlay carries")]
    MtuTooLarge {
        /// Asked for.
        mtu: u32,
        /// Possible.
        max: u32,
    },
    /// RFC 791: every link carries 68 bytes.
    #[error("Invalid input for mtu: {0} is smaller than 68, the least that IPv4 needs")]
    MtuTooSmall(u32),
    /// Another network has the number that an admin named.
    #[error("Unable to create the network. The tunnel ID {0} is in use.")]
    VniInUse(Vni),
    /// No host is there.
    #[error("AvailabilityZone {0} could not be found.")]
    NoSuchZone(String),
    /// Drawing found only used numbers: the cloud is as good as full.
    #[error("Unable to create the network. No tenant network is available for allocation.")]
    NoVniFree,
    /// `shared` cannot be taken back while others have ports on it.
    #[error("Unable to reconfigure sharing settings for network {0}. Multiple tenants are using it.")]
    SharedInUse(NetworkId),
    /// `router:external` cannot be taken back while routers or floating IPs use it.
    #[error(
        "External network {0} cannot be updated to be made non-external, since it has existing gateway ports or floating IPs."
    )]
    ExternalInUse(NetworkId),
    /// There is one default at most.
    #[error("A default external network already exists: {0}.")]
    DefaultExists(NetworkId),
    /// Topologies are joined to the default one by routers.
    #[error("Invalid input for is_default: only an external network can be the default")]
    DefaultNotExternal,
    /// A host of its bound ports cannot carry the new MTU. Tenants read this: it names no host.
    #[error("Invalid input for mtu: {0} is larger than a host carries that has ports of the network")]
    HostTooSmall(u32),
}

/// Why a network cannot be deleted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeleteNetworkError {
    /// It has ports.
    #[error("Unable to complete operation on network {network}. There are one or more ports still in use on the network, id for these ports is: {}", list(.ports))]
    HasPorts {
        /// Which network.
        network: NetworkId,
        /// Some of the ports.
        ports: Vec<PortId>,
    },
}

fn list(ports: &[PortId]) -> String {
    ports.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// The MTU of endpoints: what the underlay carries less encapsulation with an option (DATAPLANE).
pub const fn max_mtu(underlay_mtu: u32) -> u32 {
    underlay_mtu.saturating_sub(MTU_OVERHEAD)
}

/// What the uplink of a host must carry for a network of this MTU.
pub const fn underlay_for(mtu: u32) -> u32 {
    mtu.saturating_add(MTU_OVERHEAD)
}

/// Checks an MTU that a tenant named; 0 and `None` mean the largest possible.
pub fn check_mtu(mtu: Option<u32>, underlay_mtu: u32) -> Result<u32, NetworkError> {
    let max = max_mtu(underlay_mtu);
    match mtu {
        None | Some(0) => Ok(max),
        Some(mtu) if mtu > max => Err(NetworkError::MtuTooLarge { mtu, max }),
        Some(mtu) if mtu < 68 => Err(NetworkError::MtuTooSmall(mtu)),
        Some(mtu) => Ok(mtu),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_mtu_leaves_room_for_the_encapsulation() {
        assert_eq!(check_mtu(None, 1500), Ok(1398));
        assert_eq!(check_mtu(Some(0), 1500), Ok(1398));
        assert_eq!(check_mtu(Some(1398), 1500), Ok(1398));
        assert_eq!(check_mtu(Some(1399), 1500), Err(NetworkError::MtuTooLarge { mtu: 1399, max: 1398 }));
        assert_eq!(check_mtu(Some(67), 1500), Err(NetworkError::MtuTooSmall(67)));
    }
}
