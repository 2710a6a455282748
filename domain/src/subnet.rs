//! Commands on subnets and their rules.

use crate::cidr::Cidr;
use crate::id::{NetworkId, PortId, ProjectId, SubnetId};
use crate::model::HostRoute;
use crate::patch::Patch;
use crate::pool::{Pool, PoolError, check_pools, default_pools};
use crate::text::{Name, Tags};
use std::net::{IpAddr, Ipv4Addr};

/// What a subnet stores beside its layout.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubnetExtras {
    /// The pool that its range is of.
    pub pool: Option<uuid::Uuid>,
    /// Owners of devices whose ports get their addresses here; none: all.
    pub service_types: Vec<ServiceType>,
    /// Addresses of its ports are published in the DNS.
    pub publish_dns: bool,
}

/// A prefix of, or a whole, `device_owner`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceType(String);

/// A service type that no device can have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Subnet service type {0} does not correspond to a valid device owner.")]
pub struct ServiceTypeError(String);

impl ServiceType {
    /// Checks and wraps.
    pub fn new(text: &str) -> Result<Self, ServiceTypeError> {
        let known = ["network:", "compute:", "baremetal:", "trunk:"].iter().any(|owner| text.starts_with(owner));
        let storable = text.chars().count() <= 255 && !text.contains('\0');
        if known && storable {
            Ok(Self(text.to_owned()))
        } else {
            Err(ServiceTypeError(text.chars().take(255).collect()))
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Makes a subnet. `R` is its range: [`Cidr`], or what it still has to be found by.
#[derive(Clone, Debug)]
pub struct CreateSubnet<R = Cidr> {
    /// Its id, drawn by the caller.
    pub id: SubnetId,
    /// Whose it is.
    pub project: ProjectId,
    /// Of which network.
    pub network: NetworkId,
    /// Name; need not be unique.
    pub name: Name,
    /// Description.
    pub description: Name,
    /// Its addresses.
    pub cidr: R,
    /// `Keep`: the first address; `Clear`: none.
    pub gateway: Patch<Ipv4Addr>,
    /// `None`: every address but the gateway's.
    pub pools: Option<Vec<Pool>>,
    /// Whether agents answer DHCP.
    pub dhcp: bool,
    /// Name servers, in the order to be tried.
    pub dns: Vec<IpAddr>,
    /// Further routes.
    pub routes: Vec<HostRoute>,
    /// Tags.
    pub tags: Tags,
    /// What else is stored.
    pub extras: SubnetExtras,
}

/// Changes a subnet. `None` leaves the attribute as it is.
#[derive(Clone, Debug, Default)]
pub struct UpdateSubnet {
    /// Name.
    pub name: Option<Name>,
    /// Description.
    pub description: Option<Name>,
    /// Gateway.
    pub gateway: Patch<Ipv4Addr>,
    /// Pools.
    pub pools: Option<Vec<Pool>>,
    /// Whether agents answer DHCP.
    pub dhcp: Option<bool>,
    /// Name servers.
    pub dns: Option<Vec<IpAddr>>,
    /// Further routes.
    pub routes: Option<Vec<HostRoute>>,
    /// Whose ports get their addresses here.
    pub service_types: Option<Vec<ServiceType>>,
    /// Addresses of its ports are published in the DNS.
    pub publish_dns: Option<bool>,
}

/// Name servers that a subnet may have.
pub const DNS_MAX: usize = 5;
/// Routes that a subnet may have.
pub const ROUTES_MAX: usize = 20;

/// Why a subnet cannot be made or changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubnetError {
    /// Another subnet of the network has some of the addresses.
    #[error(
        "Invalid input for operation: Requested subnet with cidr: {cidr} for network: {network} overlaps with another subnet."
    )]
    Overlap {
        /// Asked for.
        cidr: Cidr,
        /// On which network.
        network: NetworkId,
    },
    /// Outside the range, or its network or broadcast address.
    #[error("Invalid input for operation: Gateway is not valid on subnet: {gateway} is not a host address of {cidr}.")]
    BadGateway {
        /// Asked for.
        gateway: Ipv4Addr,
        /// In which range.
        cidr: Cidr,
    },
    /// Its network's other subnets are of another pool, or of none.
    #[error("Subnets hosted on the same network must be allocated from the same subnet pool.")]
    PoolAffinity,
    /// A port has the address.
    #[error("Current gateway ip {gateway} already in use by port {port}. Unable to update.")]
    GatewayInUse {
        /// Asked for.
        gateway: Ipv4Addr,
        /// Whose it is.
        port: PortId,
    },
    /// Too small to have a broadcast address.
    #[error("Invalid input for operation: Subnet has a prefix length that is incompatible with DHCP service enabled.")]
    NoRoomForDhcp,
    /// Its pools.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// More than [`DNS_MAX`].
    #[error("Unable to complete operation for {0}. The number of DNS nameservers exceeds the limit {DNS_MAX}.")]
    TooManyNameservers(SubnetId),
    /// More than [`ROUTES_MAX`].
    #[error("Unable to complete operation for {0}. The number of host routes exceeds the limit {ROUTES_MAX}.")]
    TooManyRoutes(SubnetId),
    /// Named twice.
    #[error("Invalid input for dns_nameservers. Reason: Duplicate nameserver '{0}'.")]
    DuplicateNameserver(IpAddr),
    /// Named twice.
    #[error("Invalid input for host_routes. Reason: Duplicate hostroute to '{0}'.")]
    DuplicateRoute(ipnet::IpNet),
}

/// Why a subnet cannot be deleted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeleteSubnetError {
    /// Ports have addresses of it.
    #[error("Unable to complete operation on subnet {0}: One or more ports have an IP allocation from this subnet.")]
    InUse(SubnetId),
}

/// What a subnet is beside its names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Its addresses.
    pub cidr: Cidr,
    /// The router's address.
    pub gateway: Option<Ipv4Addr>,
    /// Where automatic addresses come from; sorted.
    pub pools: Vec<Pool>,
    /// Whether agents answer DHCP.
    pub dhcp: bool,
    /// Name servers.
    pub dns: Vec<IpAddr>,
    /// Further routes.
    pub routes: Vec<HostRoute>,
}

impl<R> CreateSubnet<R> {
    /// The same, where its range is found.
    pub fn at(&self, cidr: Cidr, pool: Option<uuid::Uuid>) -> CreateSubnet {
        CreateSubnet {
            id: self.id,
            project: self.project,
            network: self.network,
            name: self.name.clone(),
            description: self.description.clone(),
            cidr,
            gateway: self.gateway,
            pools: self.pools.clone(),
            dhcp: self.dhcp,
            dns: self.dns.clone(),
            routes: self.routes.clone(),
            tags: self.tags.clone(),
            extras: SubnetExtras { pool, ..self.extras.clone() },
        }
    }
}

impl CreateSubnet {
    /// Fills in what was left open, and checks the whole.
    pub fn layout(&self) -> Result<Layout, SubnetError> {
        let cidr = self.cidr;
        let gateway = match self.gateway {
            Patch::Keep => cidr.default_gateway(),
            Patch::Clear => None,
            Patch::Set(gateway) => Some(gateway),
        };
        let (dns, routes) = (self.dns.clone(), self.routes.clone());
        let mut layout = Layout { cidr, gateway, pools: Vec::new(), dhcp: self.dhcp, dns, routes };
        layout.check(self.id)?;
        layout.pools = match &self.pools {
            Some(pools) => check_pools(cidr, gateway, pools.clone())?,
            None => default_pools(cidr, gateway),
        };
        Ok(layout)
    }
}

impl UpdateSubnet {
    /// The layout after the update. Pools that are not mentioned stay, so a new gateway must lie
    /// outside of them.
    pub fn layout(&self, id: SubnetId, old: Layout) -> Result<Layout, SubnetError> {
        let mut layout = old;
        layout.gateway = self.gateway.over(layout.gateway);
        layout.dhcp = self.dhcp.unwrap_or(layout.dhcp);
        if let Some(dns) = &self.dns {
            layout.dns.clone_from(dns);
        }
        if let Some(routes) = &self.routes {
            layout.routes.clone_from(routes);
        }
        layout.check(id)?;
        let pools = self.pools.clone().unwrap_or(layout.pools);
        layout.pools = check_pools(layout.cidr, layout.gateway, pools)?;
        Ok(layout)
    }
}

impl Layout {
    fn check(&self, id: SubnetId) -> Result<(), SubnetError> {
        if let Some(gateway) = self.gateway.filter(|gateway| !self.cidr.holds_host(*gateway)) {
            return Err(SubnetError::BadGateway { gateway, cidr: self.cidr });
        }
        if self.dhcp && !self.cidr.can_dhcp() {
            return Err(SubnetError::NoRoomForDhcp);
        }
        if self.dns.len() > DNS_MAX {
            return Err(SubnetError::TooManyNameservers(id));
        }
        if self.routes.len() > ROUTES_MAX {
            return Err(SubnetError::TooManyRoutes(id));
        }
        if let Some(twice) = twice(&self.dns) {
            return Err(SubnetError::DuplicateNameserver(*twice));
        }
        match twice(&self.routes) {
            Some(route) => Err(SubnetError::DuplicateRoute(route.destination)),
            None => Ok(()),
        }
    }
}

fn twice<T: PartialEq>(items: &[T]) -> Option<&T> {
    items.iter().enumerate().find(|(at, item)| items[..*at].contains(item)).map(|(_, item)| item)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnet(cidr: &str) -> CreateSubnet {
        CreateSubnet {
            id: SubnetId::random(),
            project: ProjectId::random(),
            network: NetworkId::random(),
            name: Name::default(),
            description: Name::default(),
            cidr: cidr.parse().unwrap(),
            gateway: Patch::Keep,
            pools: None,
            dhcp: true,
            dns: vec![],
            routes: vec![],
            tags: Tags::default(),
            extras: SubnetExtras::default(),
        }
    }

    fn pool(start: [u8; 4], end: [u8; 4]) -> Pool {
        Pool { start: start.into(), end: end.into() }
    }

    #[test]
    fn the_gateway_is_the_first_address_unless_named_or_null() {
        let layout = subnet("10.0.0.0/24").layout().unwrap();
        assert_eq!(layout.gateway, Some([10, 0, 0, 1].into()));
        assert_eq!(layout.pools, [pool([10, 0, 0, 2], [10, 0, 0, 254])]);
        let none = CreateSubnet { gateway: Patch::Clear, ..subnet("10.0.0.0/24") }.layout().unwrap();
        assert_eq!((none.gateway, none.pools), (None, vec![pool([10, 0, 0, 1], [10, 0, 0, 254])]));
        let named =
            CreateSubnet { gateway: Patch::Set([10, 0, 0, 9].into()), ..subnet("10.0.0.0/24") }.layout().unwrap();
        assert_eq!(named.pools, [pool([10, 0, 0, 1], [10, 0, 0, 8]), pool([10, 0, 0, 10], [10, 0, 0, 254])]);
    }

    #[test]
    fn a_gateway_outside_or_at_an_end_of_the_range_is_refused() {
        for gateway in [[10, 0, 1, 1], [10, 0, 0, 0], [10, 0, 0, 255]] {
            let refused = CreateSubnet { gateway: Patch::Set(gateway.into()), ..subnet("10.0.0.0/24") }.layout();
            assert!(matches!(refused, Err(SubnetError::BadGateway { .. })), "{gateway:?}");
        }
    }

    #[test]
    fn a_subnet_without_broadcast_address_cannot_have_dhcp() {
        assert_eq!(subnet("10.0.0.0/31").layout(), Err(SubnetError::NoRoomForDhcp));
        assert!(CreateSubnet { dhcp: false, ..subnet("10.0.0.0/31") }.layout().is_ok());
    }

    #[test]
    fn an_update_may_not_move_the_gateway_into_a_pool_that_stays() {
        let create = subnet("10.0.0.0/24");
        let old = create.layout().unwrap();
        let moved = UpdateSubnet { gateway: Patch::Set([10, 0, 0, 9].into()), ..Default::default() };
        assert!(matches!(moved.layout(create.id, old.clone()), Err(SubnetError::Pool(PoolError::HoldsGateway { .. }))));
        let with_pools = UpdateSubnet { pools: Some(vec![pool([10, 0, 0, 10], [10, 0, 0, 20])]), ..moved };
        assert_eq!(with_pools.layout(create.id, old).unwrap().gateway, Some([10, 0, 0, 9].into()));
    }

    #[test]
    fn service_types_are_those_that_devices_can_have() {
        assert_eq!(ServiceType::new("compute:nova").map(|kind| kind.as_str().to_owned()), Ok("compute:nova".into()));
        for wrong in ["", "compute", "x:y", " network:dhcp", "compute:\0", &format!("compute:{}", "x".repeat(255))] {
            assert!(ServiceType::new(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn name_servers_and_routes_are_bounded_and_named_once() {
        let server = IpAddr::from([10, 0, 0, 53]);
        let twice = CreateSubnet { dns: vec![server; 2], ..subnet("10.0.0.0/24") };
        assert_eq!(twice.layout(), Err(SubnetError::DuplicateNameserver(server)));
        let many = CreateSubnet { dns: (0..6).map(|n| IpAddr::from([10, 0, 1, n])).collect(), ..subnet("10.0.0.0/24") };
        assert_eq!(many.layout(), Err(SubnetError::TooManyNameservers(many.id)));
        let route = HostRoute { destination: "10.9.0.0/16".parse().unwrap(), nexthop: server };
        let twice = CreateSubnet { routes: vec![route; 2], ..subnet("10.0.0.0/24") };
        assert_eq!(twice.layout(), Err(SubnetError::DuplicateRoute(route.destination)));
    }
}
