//! Allocation pools: the ranges of a subnet that automatic addresses are drawn from.

use crate::cidr::Cidr;
use std::fmt;
use std::net::Ipv4Addr;

/// A range of addresses, both ends in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pool {
    /// First address.
    pub start: Ipv4Addr,
    /// Last address, not before the first.
    pub end: Ipv4Addr,
}

/// Why pools are refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    /// It ends before it starts.
    #[error("The allocation pool {0} is not valid.")]
    Reversed(Pool),
    /// It leaves the subnet, or takes its network or broadcast address.
    #[error("The allocation pool {pool} spans beyond the subnet cidr {cidr}.")]
    OutOfBounds {
        /// Which.
        pool: Pool,
        /// Beyond what.
        cidr: Cidr,
    },
    /// Two hold one address.
    #[error("Found overlapping allocation pools: {first} {second} for subnet {cidr}.")]
    Overlap {
        /// The one.
        first: Pool,
        /// The other.
        second: Pool,
        /// Of which subnet.
        cidr: Cidr,
    },
    /// The gateway's address would be given to a port.
    #[error("Gateway ip {gateway} conflicts with allocation pool {pool}.")]
    HoldsGateway {
        /// The gateway.
        gateway: Ipv4Addr,
        /// The pool it is in.
        pool: Pool,
    },
}

impl Pool {
    /// How many addresses; at least one.
    pub fn len(self) -> u64 {
        u64::from(u32::from(self.end)) - u64::from(u32::from(self.start)) + 1
    }

    /// Never: a pool holds at least its first address.
    pub const fn is_empty(self) -> bool {
        false
    }

    /// Whether the address is in it.
    pub fn contains(self, address: Ipv4Addr) -> bool {
        (self.start..=self.end).contains(&address)
    }

    /// The address at a place, counted from 0; within [`Pool::len`].
    pub fn at(self, place: u64) -> Ipv4Addr {
        debug_assert!(place < self.len());
        Ipv4Addr::from(u32::from(self.start) + place as u32)
    }
}

impl fmt::Display for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.start, self.end)
    }
}

/// The pools where none are named: every host address but the gateway's.
pub fn default_pools(cidr: Cidr, gateway: Option<Ipv4Addr>) -> Vec<Pool> {
    let (first, last) = cidr.hosts();
    let Some(gateway) = gateway.filter(|gateway| cidr.holds_host(*gateway)) else {
        return vec![Pool { start: first, end: last }];
    };
    let at = u32::from(gateway);
    let mut pools = Vec::with_capacity(2);
    if gateway > first {
        pools.push(Pool { start: first, end: (at - 1).into() });
    }
    if gateway < last {
        pools.push(Pool { start: (at + 1).into(), end: last });
    }
    pools
}

/// Checks pools that a tenant named, and sorts them.
pub fn check_pools(cidr: Cidr, gateway: Option<Ipv4Addr>, mut pools: Vec<Pool>) -> Result<Vec<Pool>, PoolError> {
    for pool in &pools {
        if pool.start > pool.end {
            return Err(PoolError::Reversed(*pool));
        }
        if !cidr.holds_host(pool.start) || !cidr.holds_host(pool.end) {
            return Err(PoolError::OutOfBounds { pool: *pool, cidr });
        }
        if let Some(gateway) = gateway.filter(|gateway| pool.contains(*gateway)) {
            return Err(PoolError::HoldsGateway { gateway, pool: *pool });
        }
    }
    pools.sort_unstable();
    match pools.windows(2).find(|pair| pair[0].end >= pair[1].start) {
        Some(pair) => Err(PoolError::Overlap { first: pair[0], second: pair[1], cidr }),
        None => Ok(pools),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn pool(start: u32, end: u32) -> Pool {
        Pool { start: start.into(), end: end.into() }
    }

    /// A subnet of up to 256 addresses.
    fn small_cidr() -> impl Strategy<Value = Cidr> {
        (0u8..=255, 24u8..=32).prop_map(|(byte, prefix)| {
            let net = ipnet::Ipv4Net::new([10, 0, byte, byte].into(), prefix).unwrap().trunc();
            Cidr::stored(net)
        })
    }

    proptest! {
        /// The oracle: the set of host addresses without the gateway, counted one by one.
        #[test]
        fn default_pools_hold_every_host_address_but_the_gateway_exactly_once(cidr in small_cidr(), pick in any::<prop::sample::Index>(), has_gateway: bool) {
            // `Ipv4Net::hosts` counts by itself: without network and broadcast, and by RFC 3021.
            let hosts: Vec<Ipv4Addr> = cidr.net().hosts().collect();
            let gateway = has_gateway.then(|| hosts[pick.index(hosts.len())]);
            let mut expected: BTreeSet<Ipv4Addr> = hosts.into_iter().collect();
            if let Some(gateway) = gateway {
                expected.remove(&gateway);
            }
            let pools = default_pools(cidr, gateway);
            let drawn: Vec<Ipv4Addr> = pools.iter().flat_map(|pool| (0..pool.len()).map(|n| pool.at(n))).collect();
            prop_assert_eq!(drawn.len(), expected.len());
            prop_assert_eq!(drawn.into_iter().collect::<BTreeSet<_>>(), expected);
            prop_assert_eq!(check_pools(cidr, gateway, pools.clone()), Ok(pools));
        }

        /// The oracle: each rule by itself, address by address.
        #[test]
        fn pools_are_taken_exactly_if_inside_apart_and_without_the_gateway(ranges in prop::collection::vec((0u32..40, 0u32..40), 0..4), gateway in 1u32..31) {
            let cidr: Cidr = "10.0.0.0/27".parse().unwrap();
            let base = u32::from(cidr.net().network());
            let pools: Vec<Pool> = ranges.iter().map(|(a, b)| pool(base + a, base + b)).collect();
            let gateway = Ipv4Addr::from(base + gateway);
            let in_order = pools.iter().all(|p| p.start <= p.end);
            let mut seen = BTreeSet::new();
            let sound = in_order && pools.iter().all(|p| (0..p.len()).all(|n| {
                let address = p.at(n);
                address != gateway && cidr.holds_host(address) && seen.insert(address)
            }));
            prop_assert_eq!(check_pools(cidr, Some(gateway), pools).is_ok(), sound);
        }
    }
}
