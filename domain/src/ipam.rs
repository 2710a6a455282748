//! Which addresses a port gets.
//!
//! Automatic addresses are drawn at random from the pools, not counted upwards: two requests that
//! run at once then rarely want the same one, so no lock on the subnet is needed and the database's
//! UNIQUE settles the rare tie (CONTROLPLANE C8; a locked subnet row costs a factor of three).

use crate::cidr::Cidr;
use crate::id::{NetworkId, SubnetId};
use crate::pool::Pool;
use rand::{Rng, RngExt};
use std::collections::BTreeSet;
use std::net::Ipv4Addr;

/// What a subnet has to give.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Space {
    /// Which subnet.
    pub subnet: SubnetId,
    /// Its number in the data plane.
    pub number: u32,
    /// Its range.
    pub cidr: Cidr,
    /// Reserved if it has one.
    pub gateway: Option<Ipv4Addr>,
    /// Where automatic addresses come from.
    pub pools: Vec<Pool>,
    /// Owners of devices whose ports it is for; none: all.
    pub service_types: Vec<String>,
}

/// One element of `fixed_ips` as asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FixedIpRequest {
    /// From this subnet.
    pub subnet: Option<SubnetId>,
    /// This address.
    pub address: Option<Ipv4Addr>,
}

/// An address of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lease {
    /// Of which subnet.
    pub subnet: SubnetId,
    /// The address.
    pub address: Ipv4Addr,
}

/// One address to be had, resolved against the network's subnets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Want {
    /// The port has it already.
    Held(Lease),
    /// Exactly this one.
    Exact(Lease),
    /// Any free one of these subnets (indices into the spaces), the first that has one.
    Any(Vec<usize>),
}

/// Fixed addresses that one port may have.
pub const FIXED_IPS_MAX: usize = 32;

/// Why addresses are refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IpamError {
    /// More than [`FIXED_IPS_MAX`].
    #[error("Exceeded maximum amount of fixed ips per port: {FIXED_IPS_MAX}")]
    TooMany,
    /// An element names neither subnet nor address.
    #[error("fixed_ips: IP allocation requires subnet_id or ip_address")]
    Empty,
    /// The same address twice.
    #[error("Duplicate IP address '{0}'")]
    Duplicate(Ipv4Addr),
    /// The subnet is not one of the network's.
    #[error("Failed to create port on network {network}, because fixed_ips included invalid subnet {subnet}")]
    ForeignSubnet {
        /// The port's network.
        network: NetworkId,
        /// The subnet named.
        subnet: SubnetId,
    },
    /// Outside the subnet, or its network or broadcast address.
    #[error("IP address {0} is not a valid IP for the specified subnet.")]
    NotInSubnet(Ipv4Addr),
    /// In none of the network's subnets.
    #[error("IP address {0} is not a valid IP for any of the subnets on the specified network.")]
    NotInNetwork(Ipv4Addr),
    /// Another port's, or the gateway's.
    #[error("Unable to complete operation for network {network}. The IP address {address} is in use.")]
    InUse {
        /// The port's network.
        network: NetworkId,
        /// The address.
        address: Ipv4Addr,
    },
    /// All subnets are for other devices.
    #[error("No valid service subnet for the given device owner, network {network}, service type {owner}.")]
    NoServiceSubnet {
        /// The port's network.
        network: NetworkId,
        /// Its `device_owner`.
        owner: String,
    },
    /// The pools are used up.
    #[error("No more IP addresses available on network {0}.")]
    Exhausted(NetworkId),
}

/// The subnets for the ports of a device: those of its kind first, then those for all.
fn candidates(network: NetworkId, spaces: &[Space], owner: &str) -> Result<Vec<usize>, IpamError> {
    let of = |wanted: fn(&Space, &str) -> bool| {
        spaces.iter().enumerate().filter(move |(_, space)| wanted(space, owner)).map(|(index, _)| index)
    };
    let own = of(|space, owner| space.service_types.iter().any(|kind| kind == owner));
    let all: Vec<usize> = own.chain(of(|space, _| space.service_types.is_empty())).collect();
    if all.is_empty() && !spaces.is_empty() {
        return Err(IpamError::NoServiceSubnet { network, owner: owner.to_owned() });
    }
    Ok(all)
}

/// Resolves what a port of a device asks for. `None` asks for one automatic address, if the network has a
/// subnet at all; who names a subnet gets it, whatever it is for. `held` are the addresses that the port has: an element that one of them
/// satisfies keeps it.
pub fn resolve(
    network: NetworkId,
    spaces: &[Space],
    owner: &str,
    requests: Option<&[FixedIpRequest]>,
    held: &[Lease],
) -> Result<Vec<Want>, IpamError> {
    let Some(requests) = requests else {
        let any = candidates(network, spaces, owner)?;
        return Ok(if any.is_empty() { Vec::new() } else { vec![Want::Any(any)] });
    };
    if requests.len() > FIXED_IPS_MAX {
        return Err(IpamError::TooMany);
    }
    let named: Vec<Ipv4Addr> = requests.iter().filter_map(|request| request.address).collect();
    let mut kept = BTreeSet::new();
    let mut wants = Vec::with_capacity(requests.len());
    for request in requests {
        wants.push(match (request.subnet, request.address) {
            (None, None) => return Err(IpamError::Empty),
            (Some(subnet), None) => {
                let index = spaces
                    .iter()
                    .position(|space| space.subnet == subnet)
                    .ok_or(IpamError::ForeignSubnet { network, subnet })?;
                // Keep an address of that subnet unless another element names it.
                let held = held
                    .iter()
                    .find(|lease| lease.subnet == subnet && !named.contains(&lease.address) && !kept.contains(*lease));
                match held {
                    Some(lease) => {
                        kept.insert(*lease);
                        Want::Held(*lease)
                    }
                    None => Want::Any(vec![index]),
                }
            }
            (subnet, Some(address)) => {
                let space = match subnet {
                    Some(subnet) => {
                        let space = spaces
                            .iter()
                            .find(|space| space.subnet == subnet)
                            .ok_or(IpamError::ForeignSubnet { network, subnet })?;
                        if !space.cidr.holds_host(address) {
                            return Err(IpamError::NotInSubnet(address));
                        }
                        space
                    }
                    None => spaces
                        .iter()
                        .find(|space| space.cidr.holds_host(address))
                        .ok_or(IpamError::NotInNetwork(address))?,
                };
                let lease = Lease { subnet: space.subnet, address };
                if !kept.insert(lease) {
                    return Err(IpamError::Duplicate(address));
                }
                if held.contains(&lease) {
                    Want::Held(lease)
                } else if space.gateway == Some(address) {
                    return Err(IpamError::InUse { network, address });
                } else {
                    Want::Exact(lease)
                }
            }
        });
    }
    Ok(wants)
}

impl Space {
    fn size(&self) -> u64 {
        self.pools.iter().map(|pool| pool.len()).sum()
    }

    /// The pools' address at a place, counted through all pools; `place` below [`Space::size`].
    fn at(&self, mut place: u64) -> Option<Ipv4Addr> {
        for pool in &self.pools {
            if place < pool.len() {
                return Some(pool.at(place));
            }
            place -= pool.len();
        }
        None
    }

    /// Up to `count` different random addresses of the pools that are not in `avoid`. Fewer, or
    /// none, where the pools are small or `avoid` large: this guesses, [`Space::draw_free`] knows.
    pub fn guess(&self, count: usize, avoid: &BTreeSet<Lease>, rng: &mut impl Rng) -> Vec<Ipv4Addr> {
        let size = self.size();
        let mut drawn = Vec::with_capacity(count);
        if size == 0 {
            return drawn;
        }
        for _ in 0..2 * count {
            let Some(address) = self.at(rng.random_range(0..size)) else { continue };
            let lease = Lease { subnet: self.subnet, address };
            if !drawn.contains(&address) && !avoid.contains(&lease) {
                drawn.push(address);
                if drawn.len() == count {
                    break;
                }
            }
        }
        drawn
    }

    /// A random address of the pools that is not taken; `None` if all are.
    pub fn draw_free(&self, taken: &BTreeSet<Ipv4Addr>, rng: &mut impl Rng) -> Option<Ipv4Addr> {
        let used: u64 = self.pools.iter().map(|pool| taken.range(pool.start..=pool.end).count() as u64).sum();
        let free = self.size().checked_sub(used).filter(|free| *free > 0)?;
        let mut skip = rng.random_range(0..free);
        // Walk the gaps between taken addresses: as long as what is taken, not as the pools.
        for pool in &self.pools {
            let mut gap_start = u64::from(u32::from(pool.start));
            let end = u64::from(u32::from(pool.end));
            let taken_here = taken.range(pool.start..=pool.end).map(|address| u64::from(u32::from(*address)));
            for next_taken in taken_here.chain([end + 1]) {
                let gap = next_taken - gap_start;
                if skip < gap {
                    return u32::try_from(gap_start + skip).ok().map(Ipv4Addr::from);
                }
                skip -= gap;
                gap_start = next_taken + 1;
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::{check_pools, default_pools};
    use proptest::prelude::*;
    use rand::{SeedableRng, rngs::StdRng};

    fn space(text: &str) -> Space {
        let cidr: Cidr = text.parse().unwrap();
        let gateway = cidr.default_gateway();
        Space {
            subnet: SubnetId::random(),
            number: 1,
            cidr,
            gateway,
            pools: default_pools(cidr, gateway),
            service_types: vec![],
        }
    }

    fn by_address(address: &str) -> FixedIpRequest {
        FixedIpRequest { subnet: None, address: Some(address.parse().unwrap()) }
    }

    fn by_subnet(space: &Space) -> FixedIpRequest {
        FixedIpRequest { subnet: Some(space.subnet), address: None }
    }

    proptest! {
        /// The oracle: the set of pool addresses minus the taken ones, counted one by one.
        #[test]
        fn a_drawn_address_is_always_free_and_none_is_drawn_only_if_none_is(
            ranges in prop::collection::vec((1u32..62, 0u32..12), 0..4),
            taken in prop::collection::btree_set(0u32..64, 0..64),
            seed: u64,
        ) {
            let cidr: Cidr = "10.0.0.0/26".parse().unwrap();
            let base = u32::from(cidr.net().network());
            let pools = ranges.iter().map(|(start, len)| Pool { start: (base + start).into(), end: (base + (start + len).min(62)).into() }).collect();
            let Ok(pools) = check_pools(cidr, None, pools) else { return Ok(()) };
            let space = Space { subnet: SubnetId::random(), number: 1, cidr, gateway: None, pools, service_types: vec![] };
            let taken: BTreeSet<Ipv4Addr> = taken.into_iter().map(|n| (base + n).into()).collect();
            let free: BTreeSet<Ipv4Addr> = space.pools.iter().flat_map(|pool| (0..pool.len()).map(|n| pool.at(n))).filter(|a| !taken.contains(a)).collect();
            let mut rng = StdRng::seed_from_u64(seed);
            match space.draw_free(&taken, &mut rng) {
                Some(address) => prop_assert!(free.contains(&address)),
                None => prop_assert!(free.is_empty()),
            }
            for address in space.guess(8, &BTreeSet::new(), &mut rng) {
                prop_assert!(space.pools.iter().any(|pool| pool.contains(address)));
            }
        }

        #[test]
        fn every_free_address_can_be_drawn(seed: u64) {
            let space = space("10.0.0.0/29");
            let taken: BTreeSet<Ipv4Addr> = [[10, 0, 0, 3].into()].into();
            let mut rng = StdRng::seed_from_u64(seed);
            let drawn: BTreeSet<Ipv4Addr> = (0..200).filter_map(|_| space.draw_free(&taken, &mut rng)).collect();
            let all: BTreeSet<Ipv4Addr> = [2u8, 4, 5, 6].map(|n| [10, 0, 0, n].into()).into();
            prop_assert_eq!(drawn, all);
        }
    }

    #[test]
    fn without_a_wish_a_port_gets_one_address_of_any_subnet_or_none_where_there_is_no_subnet() {
        let spaces = [space("10.0.0.0/24"), space("10.0.1.0/24")];
        assert_eq!(resolve(NetworkId::random(), &spaces, "", None, &[]), Ok(vec![Want::Any(vec![0, 1])]));
        assert_eq!(resolve(NetworkId::random(), &[], "", None, &[]), Ok(vec![]));
        assert_eq!(resolve(NetworkId::random(), &spaces, "", Some(&[]), &[]), Ok(vec![]));
    }

    #[test]
    fn an_address_finds_its_subnet() {
        let spaces = [space("10.0.0.0/24"), space("10.0.1.0/24")];
        let lease = Lease { subnet: spaces[1].subnet, address: [10, 0, 1, 7].into() };
        assert_eq!(
            resolve(NetworkId::random(), &spaces, "", Some(&[by_address("10.0.1.7")]), &[]),
            Ok(vec![Want::Exact(lease)])
        );
    }

    #[test]
    fn addresses_that_no_port_can_have_are_refused() {
        let network = NetworkId::random();
        let spaces = [space("10.0.0.0/24")];
        let refusal = |request: FixedIpRequest| resolve(network, &spaces, "", Some(&[request]), &[]).unwrap_err();
        for ends in ["10.0.0.0", "10.0.0.255", "10.0.1.1"] {
            let address = ends.parse().unwrap();
            assert_eq!(refusal(by_address(ends)), IpamError::NotInNetwork(address));
            let both = FixedIpRequest { subnet: Some(spaces[0].subnet), address: Some(address) };
            assert_eq!(refusal(both), IpamError::NotInSubnet(address));
        }
        assert_eq!(refusal(by_address("10.0.0.1")), IpamError::InUse { network, address: [10, 0, 0, 1].into() });
        let foreign = SubnetId::random();
        let stranger = FixedIpRequest { subnet: Some(foreign), address: None };
        assert_eq!(refusal(stranger), IpamError::ForeignSubnet { network, subnet: foreign });
        assert_eq!(refusal(FixedIpRequest { subnet: None, address: None }), IpamError::Empty);
        let twice = [by_address("10.0.0.9"), by_address("10.0.0.9")];
        assert_eq!(resolve(network, &spaces, "", Some(&twice), &[]), Err(IpamError::Duplicate([10, 0, 0, 9].into())));
        let many = vec![by_subnet(&spaces[0]); FIXED_IPS_MAX + 1];
        assert_eq!(resolve(network, &spaces, "", Some(&many), &[]), Err(IpamError::TooMany));
    }

    #[test]
    fn an_update_by_subnet_keeps_the_address_that_the_port_has() {
        let spaces = [space("10.0.0.0/24")];
        let held = Lease { subnet: spaces[0].subnet, address: [10, 0, 0, 9].into() };
        let resolved = |requests: &[FixedIpRequest]| resolve(NetworkId::random(), &spaces, "", Some(requests), &[held]);
        assert_eq!(resolved(&[by_subnet(&spaces[0])]), Ok(vec![Want::Held(held)]));
        assert_eq!(resolved(&[by_subnet(&spaces[0]); 2]), Ok(vec![Want::Held(held), Want::Any(vec![0])]));
        assert_eq!(
            resolved(&[by_subnet(&spaces[0]), by_address("10.0.0.9")]),
            Ok(vec![Want::Any(vec![0]), Want::Held(held)])
        );
    }

    #[test]
    fn ports_of_a_device_take_addresses_of_its_subnets_first_and_of_no_other_devices() {
        let of = |text: &str, kinds: &[&str]| {
            let service_types = kinds.iter().map(|kind| (*kind).to_owned()).collect();
            Space { service_types, ..space(text) }
        };
        let spaces = [of("10.0.0.0/24", &[]), of("10.0.1.0/24", &["compute:nova", "network:dhcp"])];
        let network = NetworkId::random();
        let resolved = |spaces: &[Space], owner| resolve(network, spaces, owner, None, &[]);
        assert_eq!(resolved(&spaces, "compute:nova"), Ok(vec![Want::Any(vec![1, 0])]));
        assert_eq!(resolved(&spaces, "compute:kvm"), Ok(vec![Want::Any(vec![0])]));
        assert_eq!(resolved(&spaces, ""), Ok(vec![Want::Any(vec![0])]));
        let none = IpamError::NoServiceSubnet { network, owner: "compute:kvm".into() };
        assert_eq!(resolved(&spaces[1..], "compute:kvm"), Err(none));
        let named = FixedIpRequest { subnet: Some(spaces[1].subnet), address: None };
        assert_eq!(resolve(network, &spaces, "", Some(&[named]), &[]), Ok(vec![Want::Any(vec![1])]));
    }
}
