//! Subnet pools: prefixes from which subnets get their ranges.
//!
//! A pool is a set of addresses of one family. What is free of it is the set without the ranges of
//! its subnets; the caller keeps both from changing while it asks (the pool's row lock).

use ipnet::{IpNet, Ipv4Subnets, Ipv6Subnets};
use std::net::{Ipv4Addr, Ipv6Addr};

/// Why a pool, or a range of it, cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubnetPoolError {
    /// A pool has at least one prefix.
    #[error("Empty subnet pool prefix list.")]
    Empty,
    /// A pool has one family.
    #[error("Cannot mix IPv4 and IPv6 prefixes in a subnet pool.")]
    Mixed,
    /// Smallest, default and largest prefix length are not in this order.
    #[error("Illegal prefix bounds: {what}={given}, {limit}={bound}.")]
    Bounds {
        /// The attribute that is wrong.
        what: &'static str,
        /// Its value.
        given: i16,
        /// What it contradicts.
        limit: &'static str,
        /// Its value.
        bound: i16,
    },
    /// An update may only add.
    #[error("Illegal update to prefixes: Existing prefixes must be a subset of the new prefixes.")]
    Shrinks,
    /// Subnets are there.
    #[error("Illegal update to prefixes: One or more the prefixes to be removed is in use by a subnet.")]
    InUse,
    /// A larger range than the pool gives.
    #[error("Unable to allocate subnet with prefix length {asked}, minimum allowed prefix is {least}.")]
    TooLarge {
        /// Asked for.
        asked: i16,
        /// Possible.
        least: i16,
    },
    /// A smaller range than the pool gives.
    #[error("Unable to allocate subnet with prefix length {asked}, maximum allowed prefix is {most}.")]
    TooSmall {
        /// Asked for.
        asked: i16,
        /// Possible.
        most: i16,
    },
    /// The project has as much of the pool as it may have.
    #[error("Per-tenant subnet pool prefix quota exceeded.")]
    Quota,
    /// No gap is large enough.
    #[error("Failed to allocate subnet: Insufficient prefix space to allocate subnet size /{0}.")]
    Full(i16),
    /// Outside of the pool, or another subnet has some of it.
    #[error("Failed to allocate subnet: Cannot allocate requested subnet from the available set of prefixes.")]
    Unavailable,
}

/// Addresses of one family: ranges in ascending order that neither overlap nor touch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prefixes {
    v6: bool,
    ranges: Vec<(u128, u128)>,
}

const fn is_v6(net: &IpNet) -> bool {
    matches!(net, IpNet::V6(_))
}

fn range(net: &IpNet) -> (u128, u128) {
    match net {
        IpNet::V4(net) => (u32::from(net.network()).into(), u32::from(net.broadcast()).into()),
        IpNet::V6(net) => (u128::from(net.network()), u128::from(net.broadcast())),
    }
}

impl Prefixes {
    /// Of a pool: some, of one family.
    pub fn new(prefixes: &[IpNet]) -> Result<Self, SubnetPoolError> {
        let first = prefixes.first().ok_or(SubnetPoolError::Empty)?;
        if prefixes.iter().any(|net| is_v6(net) != is_v6(first)) {
            return Err(SubnetPoolError::Mixed);
        }
        Ok(Self::of(is_v6(first), prefixes.iter().map(range).collect()))
    }

    fn of(v6: bool, mut ranges: Vec<(u128, u128)>) -> Self {
        ranges.sort_unstable();
        let mut merged: Vec<(u128, u128)> = Vec::with_capacity(ranges.len());
        for (start, end) in ranges {
            match merged.last_mut() {
                Some((_, last)) if start <= last.saturating_add(1) => *last = end.max(*last),
                _ => merged.push((start, end)),
            }
        }
        Self { v6, ranges: merged }
    }

    /// 4 or 6.
    pub const fn version(&self) -> i16 {
        if self.v6 { 6 } else { 4 }
    }

    /// Whether there is no address.
    pub const fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Whether all addresses of the other are here.
    pub fn holds(&self, other: &Self) -> bool {
        let inside =
            |(start, end): &(u128, u128)| self.ranges.iter().any(|(first, last)| first <= start && end <= last);
        self.v6 == other.v6 && other.ranges.iter().all(inside)
    }

    /// Whether an address is in both.
    pub fn overlaps(&self, other: &Self) -> bool {
        let meets = |(start, end): &(u128, u128)| self.ranges.iter().any(|(first, last)| first <= end && start <= last);
        self.v6 == other.v6 && other.ranges.iter().any(meets)
    }

    /// The addresses of both.
    #[must_use]
    pub fn with(&self, other: &Self) -> Self {
        Self::of(self.v6, self.ranges.iter().chain(&other.ranges).copied().collect())
    }

    /// The addresses that the other has not.
    #[must_use]
    pub fn without(&self, other: &Self) -> Self {
        let mut left = self.ranges.clone();
        for (start, end) in &other.ranges {
            let mut cut = Vec::with_capacity(left.len() + 1);
            for (first, last) in left {
                if end < &first || &last < start {
                    cut.push((first, last));
                    continue;
                }
                if first < *start {
                    cut.push((first, start - 1));
                }
                if *end < last {
                    cut.push((end + 1, last));
                }
            }
            left = cut;
        }
        Self { v6: self.v6, ranges: left }
    }

    /// The fewest prefixes that are the same addresses, in ascending order.
    pub fn to_nets(&self) -> Vec<IpNet> {
        let nets = |(first, last): &(u128, u128)| -> Vec<IpNet> {
            if self.v6 {
                Ipv6Subnets::new(Ipv6Addr::from(*first), Ipv6Addr::from(*last), 0).map(IpNet::V6).collect()
            } else {
                // Ranges of this family are made of IPv4 networks only.
                let address = |number: u128| Ipv4Addr::from(u32::try_from(number).unwrap_or(u32::MAX));
                Ipv4Subnets::new(address(*first), address(*last), 0).map(IpNet::V4).collect()
            }
        };
        self.ranges.iter().flat_map(nets).collect()
    }
}

/// Lengths of the prefixes that a pool gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lengths {
    /// Of the largest subnet.
    pub min: i16,
    /// Of the smallest.
    pub max: i16,
    /// Where a subnet does not say.
    pub default: i16,
}

impl Lengths {
    /// What was named, the rest as Neutron fills it in.
    pub fn new(
        version: i16,
        min: Option<i16>,
        max: Option<i16>,
        default: Option<i16>,
    ) -> Result<Self, SubnetPoolError> {
        let (least, most) = if version == 6 { (64, 128) } else { (8, 32) };
        let (min, max) = (min.unwrap_or(least), max.unwrap_or(most));
        let default = default.unwrap_or(min);
        let bounds = |what, given, limit, bound| Err(SubnetPoolError::Bounds { what, given, limit, bound });
        if max > most {
            return bounds("max_prefixlen", max, "ip_version_max", most);
        }
        if min > max {
            return bounds("min_prefixlen", min, "max_prefixlen", max);
        }
        if default < min {
            return bounds("default_prefixlen", default, "min_prefixlen", min);
        }
        if default > max {
            return bounds("default_prefixlen", default, "max_prefixlen", max);
        }
        Ok(Self { min, max, default })
    }
}

/// What a new subnet wants of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Any range of this length; `None`: of the default length.
    Any(Option<i16>),
    /// This range.
    Exactly(IpNet),
}

/// A pool as it is when a subnet is made.
#[derive(Clone, Debug)]
pub struct SubnetPool {
    /// Its addresses.
    pub prefixes: Prefixes,
    /// What it gives.
    pub lengths: Lengths,
    /// Units (addresses, /64 of IPv6) that each project may have.
    pub quota: Option<i32>,
}

impl SubnetPool {
    /// A range for a subnet. `taken` are those of all its subnets, `own` those of the project.
    ///
    /// The smallest gap that is large enough is cut at its begin, which keeps large gaps for who
    /// needs them.
    pub fn allocate(&self, wish: Wish, taken: &[IpNet], own: &[IpNet]) -> Result<IpNet, SubnetPoolError> {
        let Lengths { min, max, default } = self.lengths;
        let asked = match wish {
            Wish::Any(length) => length.unwrap_or(default),
            Wish::Exactly(net) => net.prefix_len().into(),
        };
        if asked < min {
            return Err(SubnetPoolError::TooLarge { asked, least: min });
        }
        if asked > max {
            return Err(SubnetPoolError::TooSmall { asked, most: max });
        }
        if let Some(quota) = self.quota {
            let lengths = own.iter().map(|net| i16::from(net.prefix_len()));
            let used = lengths.chain([asked]).fold(0_u128, |sum, length| sum.saturating_add(self.units(length)));
            if used > u128::from(quota.unsigned_abs()) {
                return Err(SubnetPoolError::Quota);
            }
        }
        let taken = Prefixes::of(self.prefixes.v6, taken.iter().map(range).collect());
        let free = self.prefixes.without(&taken);
        match wish {
            Wish::Exactly(net) => {
                let fits = Prefixes::new(&[net]).is_ok_and(|wanted| free.holds(&wanted));
                if fits { Ok(net) } else { Err(SubnetPoolError::Unavailable) }
            }
            Wish::Any(_) => {
                let length = u8::try_from(asked).map_err(|_| SubnetPoolError::Full(asked))?;
                let gaps = free.to_nets().into_iter().filter(|gap| gap.prefix_len() <= length);
                // Of several of one length the first: `max_by_key` would take the last.
                let gap = gaps.min_by_key(|gap| u8::MAX - gap.prefix_len()).ok_or(SubnetPoolError::Full(asked))?;
                let first = IpNet::new(gap.network(), length);
                first.map_err(|_| SubnetPoolError::Full(asked))
            }
        }
    }

    /// What a range of this length counts: its addresses, or its /64 where it has several.
    fn units(&self, length: i16) -> u128 {
        let unit: i16 = if self.prefixes.v6 { 64 } else { 32 };
        1_u128.checked_shl(u32::try_from(unit - length).unwrap_or(0)).unwrap_or(u128::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn nets(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| net(text)).collect()
    }

    fn pool(prefixes: &[&str], quota: Option<i32>) -> SubnetPool {
        let prefixes = Prefixes::new(&nets(prefixes)).unwrap();
        let lengths = Lengths::new(prefixes.version(), None, None, None).unwrap();
        SubnetPool { prefixes, lengths, quota }
    }

    #[test]
    fn prefixes_are_merged_and_of_one_family() {
        let merged = Prefixes::new(&nets(&["10.0.1.0/24", "10.0.0.0/24", "10.0.0.128/25", "10.0.4.0/24"])).unwrap();
        assert_eq!(merged.to_nets(), nets(&["10.0.0.0/23", "10.0.4.0/24"]));
        assert_eq!(Prefixes::new(&[]), Err(SubnetPoolError::Empty));
        assert_eq!(Prefixes::new(&nets(&["10.0.0.0/8", "fd00::/8"])), Err(SubnetPoolError::Mixed));
    }

    #[test]
    fn lengths_are_in_order_and_filled_in() {
        assert_eq!(Lengths::new(4, None, None, None), Ok(Lengths { min: 8, max: 32, default: 8 }));
        assert_eq!(Lengths::new(6, None, None, Some(80)), Ok(Lengths { min: 64, max: 128, default: 80 }));
        for (min, max, default) in [
            (Some(33), None, None),
            (None, Some(33), None),
            (Some(24), Some(16), None),
            (Some(24), None, Some(23)),
            (None, Some(24), Some(25)),
        ] {
            let refused = Lengths::new(4, min, max, default);
            assert!(matches!(refused, Err(SubnetPoolError::Bounds { .. })), "{min:?} {max:?} {default:?}");
        }
    }

    #[test]
    fn the_smallest_gap_that_is_large_enough_is_taken() {
        let pool = pool(&["10.0.0.0/16", "10.9.0.0/24"], None);
        assert_eq!(pool.allocate(Wish::Any(Some(26)), &[], &[]), Ok(net("10.9.0.0/26")));
        let taken = nets(&["10.9.0.0/24", "10.0.0.0/18"]);
        assert_eq!(pool.allocate(Wish::Any(Some(24)), &taken, &[]), Ok(net("10.0.64.0/24")));
        let taken = nets(&["10.9.0.0/24", "10.0.0.0/17", "10.0.128.0/18", "10.0.192.0/18"]);
        assert_eq!(pool.allocate(Wish::Any(Some(24)), &taken, &[]), Err(SubnetPoolError::Full(24)));
    }

    #[test]
    fn a_named_range_must_be_in_the_pool_and_free() {
        let pool = pool(&["10.0.0.0/16"], None);
        let ask = |text: &str, taken: &[&str]| pool.allocate(Wish::Exactly(net(text)), &nets(taken), &[]);
        assert_eq!(ask("10.0.3.0/24", &["10.0.2.0/24"]), Ok(net("10.0.3.0/24")));
        for (text, taken) in [("10.1.0.0/24", &[][..]), ("10.0.0.0/15", &[]), ("10.0.3.0/24", &["10.0.0.0/22"])] {
            assert_eq!(ask(text, taken), Err(SubnetPoolError::Unavailable), "{text}");
        }
        assert_eq!(ask("10.0.0.0/7", &[]), Err(SubnetPoolError::TooLarge { asked: 7, least: 8 }));
    }

    #[test]
    fn a_project_gets_no_more_than_its_quota_of_addresses() {
        let pool = pool(&["10.0.0.0/16"], Some(512));
        let own = nets(&["10.0.0.0/24"]);
        assert!(pool.allocate(Wish::Any(Some(24)), &own, &own).is_ok());
        assert_eq!(pool.allocate(Wish::Any(Some(23)), &own, &own), Err(SubnetPoolError::Quota));
        let none = SubnetPool { quota: Some(0), ..pool };
        assert_eq!(none.allocate(Wish::Any(Some(32)), &[], &[]), Err(SubnetPoolError::Quota));
    }

    proptest! {
        /// Whatever was given before, what is given next is in the pool and apart from it.
        #[test]
        fn ranges_given_never_overlap(lengths in proptest::collection::vec(18_i16..=28, 1..40)) {
            let pool = pool(&["10.0.0.0/17", "10.0.192.0/18"], None);
            let mut taken: Vec<IpNet> = Vec::new();
            for length in lengths {
                match pool.allocate(Wish::Any(Some(length)), &taken, &[]) {
                    Ok(given) => {
                        let set = Prefixes::new(&[given]).unwrap();
                        prop_assert_eq!(i16::from(given.prefix_len()), length);
                        prop_assert!(pool.prefixes.holds(&set));
                        prop_assert!(taken.is_empty() || !Prefixes::new(&taken).unwrap().overlaps(&set));
                        taken.push(given);
                    }
                    Err(error) => prop_assert_eq!(error, SubnetPoolError::Full(length)),
                }
            }
        }

        #[test]
        fn taking_away_and_giving_back_changes_nothing(lengths in proptest::collection::vec((0_u32..65_536, 16_u8..=32), 1..20)) {
            let all = Prefixes::new(&[net("10.7.0.0/16")]).unwrap();
            let some: Vec<IpNet> = lengths
                .into_iter()
                .map(|(at, length)| IpNet::new(Ipv4Addr::from(0x0a07_0000 + at).into(), length).unwrap().trunc())
                .collect();
            let some = Prefixes::new(&some).unwrap();
            let rest = all.without(&some);
            prop_assert!(!rest.overlaps(&some));
            prop_assert_eq!(rest.with(&some), all);
        }
    }
}
