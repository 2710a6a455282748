//! What an endpoint must be configured with: for interfaces and for DHCP.

use crate::render::{Context, parse_mac};
use ipnet::IpNet;
use mizar_wire::body;
use std::net::IpAddr;
use uuid::Uuid;

/// A route of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EndpointRoute {
    /// Where to.
    pub destination: IpNet,
    /// Through which address.
    pub nexthop: IpAddr,
}

/// What DHCP tells a port beside what its subnets say, or instead of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointOption {
    /// Its number; 255 = the address in the header from where the port boots.
    pub code: u8,
    /// Its bytes; none take the option away.
    pub value: Vec<u8>,
}

impl EndpointOption {
    fn of(option: &body::DhcpOption) -> Result<Self, String> {
        let broken = || format!("DHCP option {} is not in hexadecimal bytes", option.code);
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let byte = |pair: &[u8]| match pair {
            [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
            _ => None,
        };
        let value: Vec<u8> = option.value.as_bytes().chunks(2).map(byte).collect::<Option<_>>().ok_or_else(broken)?;
        if value.len() > usize::from(u8::MAX) {
            return Err(format!("DHCP option {} is longer than 255 bytes", option.code));
        }
        Ok(Self { code: option.code, value })
    }
}

/// Everything that the inside of a port's interface is configured with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The port.
    pub port: Uuid,
    /// Its number.
    pub number: u32,
    /// Generation of its binding.
    pub generation: u32,
    /// Its name; may be empty.
    pub name: String,
    /// MAC of the inner end.
    pub mac: [u8; 6],
    /// Bytes of IP packet.
    pub mtu: u32,
    /// Addresses with the prefix length of their subnets.
    pub addresses: Vec<IpNet>,
    /// Gateway of the first subnet that has one.
    pub gateway: Option<IpAddr>,
    /// Routes that its subnets hand out.
    pub routes: Vec<EndpointRoute>,
    /// Other subnets of its network, through the gateway: for an endpoint that must not have a
    /// default route (the host's own namespace).
    pub siblings: Vec<EndpointRoute>,
    /// Name servers.
    pub dns: Vec<IpAddr>,
    /// The address that DHCP leases, if the subnet has DHCP: the first IPv4 one.
    pub dhcp: Option<IpNet>,
    /// What else DHCP says, each number once.
    pub dhcp_options: Vec<EndpointOption>,
}

impl Endpoint {
    /// `Err` says what the port still waits for, or what is wrong with it.
    pub(crate) fn of<'a>(
        port: &body::Port,
        context: &impl Context,
        subnets: impl Iterator<Item = &'a body::Subnet>,
    ) -> Result<Self, String> {
        let network = context.network(port.vni).ok_or_else(|| format!("waits for the network of VNI {}", port.vni))?;
        let mut endpoint = Self {
            port: port.id,
            number: port.number,
            generation: port.generation,
            name: port.name.clone(),
            mac: parse_mac(&port.mac)?,
            mtu: network.mtu.min(context.most()),
            addresses: Vec::with_capacity(port.fixed_ips.len()),
            gateway: None,
            routes: Vec::new(),
            siblings: Vec::new(),
            dns: Vec::new(),
            dhcp: None,
            dhcp_options: port.dhcp_options.iter().map(EndpointOption::of).collect::<Result<_, _>>()?,
        };
        for fixed in &port.fixed_ips {
            let subnet =
                context.subnet(fixed.subnet).ok_or_else(|| format!("waits for subnet number {}", fixed.subnet))?;
            let address = IpNet::new(fixed.address, subnet.cidr.prefix_len())
                .map_err(|_| format!("address {} does not fit subnet {}", fixed.address, subnet.cidr))?;
            endpoint.addresses.push(address);
            endpoint.gateway = endpoint.gateway.or(subnet.gateway);
            if subnet.dhcp && endpoint.dhcp.is_none() && fixed.address.is_ipv4() {
                endpoint.dhcp = Some(address);
            }
            for route in &subnet.routes {
                let route = EndpointRoute { destination: route.destination, nexthop: route.nexthop };
                if !endpoint.routes.contains(&route) {
                    endpoint.routes.push(route);
                }
            }
            endpoint.dns.extend(subnet.dns.iter().filter(|d| !endpoint.dns.contains(d)).copied().collect::<Vec<_>>());
        }
        // A port that is a router itself gets no route through itself.
        let own = |ip: &IpAddr| port.fixed_ips.iter().any(|fixed| fixed.address == *ip);
        endpoint.gateway = endpoint.gateway.filter(|ip| !own(ip));
        endpoint.routes.retain(|route| !own(&route.nexthop));
        if let Some(nexthop) = endpoint.gateway {
            endpoint.siblings = subnets
                .filter(|s| !port.fixed_ips.iter().any(|f| f.subnet == s.number))
                .map(|s| EndpointRoute { destination: s.cidr, nexthop })
                .collect();
            endpoint.siblings.sort();
        }
        Ok(endpoint)
    }
}
