//! The address range of a subnet.
//!
//! A `Cidr` is a network address with a prefix: host bits set are refused rather than cleared,
//! because a tenant who writes 10.0.0.5/24 has something else in mind than we would guess.

use ipnet::{IpNet, Ipv4Net};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

/// A range that a subnet can have. IPv4 until the data plane carries IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cidr(Ipv4Net);

/// Why a text is no range for a subnet. Worded as Neutron does where Neutron has the case.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CidrError {
    /// Not `address/prefix`.
    #[error("'{0}' is not a valid IP subnet.")]
    Malformed(String),
    /// Host bits are set, or the prefix is missing.
    #[error("'{given}' isn't a recognized IP subnet cidr, '{recommended}' is recommended")]
    NotCanonical {
        /// What was given.
        given: String,
        /// What was probably meant.
        recommended: String,
    },
    /// Everything.
    #[error("0 is not allowed as CIDR prefix length")]
    ZeroPrefix,
    /// Addresses that no endpoint can have.
    #[error("{0} overlaps with {1}, which hosts cannot use")]
    Unusable(Ipv4Net, &'static str),
    /// Not yet.
    #[error("'{0}' is an IPv6 subnet; the data plane does not carry IPv6 yet")]
    Ipv6(String),
}

/// Ranges that endpoints cannot use: RFC 1122 section 3.2.1.3 (this network, loopback), RFC 3927
/// (link local, where DHCP and metadata answer), RFC 5771 (multicast), RFC 1112 (reserved).
const UNUSABLE: [(Ipv4Net, &str); 5] = [
    (net([0, 0, 0, 0], 8), "0.0.0.0/8 (this network)"),
    (net([127, 0, 0, 0], 8), "127.0.0.0/8 (loopback)"),
    (net([169, 254, 0, 0], 16), "169.254.0.0/16 (link local)"),
    (net([224, 0, 0, 0], 4), "224.0.0.0/4 (multicast)"),
    (net([240, 0, 0, 0], 4), "240.0.0.0/4 (reserved)"),
];

const fn net([a, b, c, d]: [u8; 4], prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

/// A range, if it is of IPv4.
pub const fn v4(net: IpNet) -> Option<Ipv4Net> {
    match net {
        IpNet::V4(net) => Some(net),
        IpNet::V6(_) => None,
    }
}

impl Cidr {
    /// Wraps what the database holds, which was checked when it was written.
    pub const fn stored(net: Ipv4Net) -> Self {
        Self(net)
    }

    /// The range.
    pub const fn net(self) -> Ipv4Net {
        self.0
    }

    /// Whether it has a network and a broadcast address (RFC 3021: /31 and /32 have none).
    const fn has_ends(self) -> bool {
        self.0.prefix_len() < 31
    }

    /// First and last address that a port or a gateway can have.
    pub fn hosts(self) -> (Ipv4Addr, Ipv4Addr) {
        let (first, last) = (u32::from(self.0.network()), u32::from(self.0.broadcast()));
        if self.has_ends() { ((first + 1).into(), (last - 1).into()) } else { (first.into(), last.into()) }
    }

    /// Whether a port or a gateway can have the address.
    pub fn holds_host(self, address: Ipv4Addr) -> bool {
        let (first, last) = self.hosts();
        (first..=last).contains(&address)
    }

    /// The gateway where none is named: the first address. A /31 or /32 has none to spare.
    pub fn default_gateway(self) -> Option<Ipv4Addr> {
        self.has_ends().then(|| self.hosts().0)
    }

    /// Whether DHCP makes sense: it needs a broadcast address.
    pub const fn can_dhcp(self) -> bool {
        self.has_ends()
    }

    /// Whether an address is in both.
    pub fn overlaps(self, other: Self) -> bool {
        self.0.contains(&other.0) || other.0.contains(&self.0)
    }
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        if let Ok(address) = text.parse::<IpAddr>() {
            let prefix = if address.is_ipv4() { 32 } else { 128 };
            return Err(CidrError::NotCanonical { given: text.into(), recommended: format!("{address}/{prefix}") });
        }
        let net = match text.parse::<IpNet>() {
            Ok(IpNet::V4(net)) => net,
            Ok(IpNet::V6(_)) => return Err(CidrError::Ipv6(text.into())),
            Err(_) => return Err(CidrError::Malformed(text.into())),
        };
        if net.prefix_len() == 0 {
            return Err(CidrError::ZeroPrefix);
        }
        if net.trunc() != net {
            return Err(CidrError::NotCanonical { given: text.into(), recommended: net.trunc().to_string() });
        }
        match UNUSABLE.iter().find(|(range, _)| range.contains(&net) || net.contains(range)) {
            Some((_, name)) => Err(CidrError::Unusable(net, name)),
            None => Ok(Self(net)),
        }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_with_host_bits_or_without_prefix_is_refused_with_a_recommendation() {
        let refused = |given: &str, recommended: &str| {
            let expected = CidrError::NotCanonical { given: given.into(), recommended: recommended.into() };
            assert_eq!(given.parse::<Cidr>(), Err(expected));
        };
        refused("10.0.0.5/24", "10.0.0.0/24");
        refused("10.0.0.0", "10.0.0.0/32");
    }

    #[test]
    fn ranges_that_no_endpoint_can_use_are_refused() {
        for text in ["0.0.0.0/8", "127.1.0.0/16", "169.254.169.0/24", "224.0.0.0/3", "255.255.255.0/24", "128.0.0.0/1"]
        {
            assert!(matches!(text.parse::<Cidr>(), Err(CidrError::Unusable(..))), "{text}");
        }
        assert_eq!("0.0.0.0/0".parse::<Cidr>(), Err(CidrError::ZeroPrefix));
        assert!(matches!("fd00::/64".parse::<Cidr>(), Err(CidrError::Ipv6(_))));
        for text in ["", "10.0.0.0/33", "10.0.0/24", "ten", "10.0.0.0/-1", " 10.0.0.0/24"] {
            assert!(matches!(text.parse::<Cidr>(), Err(CidrError::Malformed(_))), "{text}");
        }
    }

    #[test]
    fn network_and_broadcast_are_no_hosts_but_both_ends_of_a_31_are() {
        let cidr: Cidr = "10.0.0.0/29".parse().unwrap();
        assert_eq!(cidr.hosts(), ([10, 0, 0, 1].into(), [10, 0, 0, 6].into()));
        assert_eq!(cidr.default_gateway(), Some([10, 0, 0, 1].into()));
        let pair: Cidr = "10.0.0.0/31".parse().unwrap();
        assert_eq!(pair.hosts(), ([10, 0, 0, 0].into(), [10, 0, 0, 1].into()));
        assert_eq!(pair.default_gateway(), None);
    }
}
