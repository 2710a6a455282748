//! What a rule of a security group lets pass, and which rules say the same.
//!
//! A protocol is kept twice: as the tenant wrote it, because clients compare what they sent with
//! what they read, and as its number, because `tcp` and `6` are one. Two rules are the same if they
//! let the same packets pass: host bits of a prefix count for nothing, and the prefix of all
//! addresses is no prefix.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use uuid::Uuid;

/// Which way packets go, seen from the port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Direction {
    /// To the port.
    Ingress,
    /// From the port.
    Egress,
}

impl Direction {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Ingress, Self::Egress];

    /// Neutron's word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        }
    }
}

/// `ethertype`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ethertype {
    /// IPv4.
    #[default]
    V4,
    /// IPv6.
    V6,
}

impl Ethertype {
    /// Both.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// Neutron's word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }

    const fn of(net: &IpNet) -> Self {
        match net {
            IpNet::V4(_) => Self::V4,
            IpNet::V6(_) => Self::V6,
        }
    }
}

impl fmt::Display for Ethertype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// As the tenant named it, and its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Protocol {
    /// `tcp`, or `6`.
    pub text: String,
    /// Of the IANA's register of protocol numbers.
    pub number: u8,
}

/// Names with which Neutron knows protocols.
const NAMES: [(&str, u8); 24] = [
    ("ah", 51),
    ("dccp", 33),
    ("egp", 8),
    ("esp", 50),
    ("gre", 47),
    ("hopopt", 0),
    ("icmp", 1),
    ("icmpv6", ICMPV6),
    ("igmp", 2),
    ("ipip", 4),
    ("ipv6-encap", 41),
    ("ipv6-frag", 44),
    ("ipv6-icmp", ICMPV6),
    ("ipv6-nonxt", 59),
    ("ipv6-opts", 60),
    ("ipv6-route", 43),
    ("ospf", 89),
    ("pgm", 113),
    ("rsvp", 46),
    ("sctp", 132),
    ("tcp", 6),
    ("udp", 17),
    ("udplite", 136),
    ("vrrp", 112),
];

pub(crate) const ICMP: u8 = 1;
pub(crate) const ICMPV6: u8 = 58;
/// With ports: DCCP, SCTP, TCP, UDP, UDP-Lite.
const WITH_PORTS: [u8; 5] = [33, 132, 6, 17, 136];
/// Extension headers and companions of IPv6.
const ONLY_IPV6: [u8; 6] = [41, 44, ICMPV6, 59, 60, 43];

/// Why a rule is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// No such protocol.
    #[error(
        "Security group rule protocol {0} not supported. Only protocol names and their integer representation \
         (0 to 255) are supported."
    )]
    Protocol(String),
    /// Neither IPv4 nor IPv6.
    #[error("Security group rule for ethertype '{0}' not supported. Allowed values are ['IPv4', 'IPv6'].")]
    Ethertype(String),
    /// A protocol of the other version of IP.
    #[error("Invalid ethertype {ethertype} for protocol {protocol}.")]
    EthertypeOfProtocol {
        /// Asked for.
        ethertype: Ethertype,
        /// Of the other.
        protocol: String,
    },
    /// A prefix of the other version of IP.
    #[error("Conflicting value ethertype {ethertype} for CIDR {prefix}")]
    EthertypeOfPrefix {
        /// Asked for.
        ethertype: Ethertype,
        /// Of the other.
        prefix: IpNet,
    },
    /// Not an address and not a range.
    #[error("Invalid CIDR {0} given as IP prefix.")]
    Prefix(String),
    /// Ports of which protocol?
    #[error("Must also specify protocol if port range is given.")]
    PortsWithoutProtocol,
    /// It has no ports.
    #[error("Invalid protocol {0} for port range, only supported for DCCP, SCTP, TCP, UDP, UDPLITE.")]
    PortsOfProtocol(u8),
    /// 0, or more than 65535.
    #[error("Invalid value for port {0}")]
    Port(String),
    /// One end is missing, or they stand the wrong way round.
    #[error("For TCP/UDP protocols, port_range_min must be <= port_range_max")]
    PortRange,
    /// More than a byte.
    #[error("Invalid value for ICMP {field} ({attribute}) {value}. It must be 0 to 255.")]
    Icmp {
        /// type or code.
        field: &'static str,
        /// Where it stands.
        attribute: &'static str,
        /// What stands there.
        value: i32,
    },
    /// A code without a type.
    #[error("ICMP code (port-range-max) {0} is provided but ICMP type (port-range-min) is missing.")]
    IcmpCodeAlone(i32),
    /// More than one kind of other side.
    #[error("Only one of remote_ip_prefix, remote_group_id or remote_address_group_id may be provided.")]
    Remotes,
}

impl FromStr for Direction {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|direction| direction.as_str() == text);
        found.ok_or_else(|| format!("'{text}' is not in ['ingress', 'egress']"))
    }
}

impl FromStr for Ethertype {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        let found = Self::ALL.into_iter().find(|ethertype| ethertype.as_str().eq_ignore_ascii_case(text));
        found.ok_or_else(|| RuleError::Ethertype(text.into()))
    }
}

impl Protocol {
    /// By name or number; `None`: any, as `any`, `-1` and the empty text say.
    pub fn parse(text: &str) -> Result<Option<Self>, RuleError> {
        let lower = text.to_ascii_lowercase();
        if ["", "any", "-1"].contains(&lower.as_str()) {
            return Ok(None);
        }
        let named = NAMES.iter().find(|(name, _)| *name == lower).map(|(_, number)| *number);
        let number = named.or_else(|| lower.parse().ok()).ok_or_else(|| RuleError::Protocol(text.into()))?;
        let text = if named.is_some() { lower } else { number.to_string() };
        Ok(Some(Self { text, number }))
    }

    /// Who says ICMP of IPv6 means ICMPv6.
    fn over(self, ethertype: Ethertype) -> Self {
        match (ethertype, self.text.as_str()) {
            (Ethertype::V6, "icmp" | "icmpv6") => Self { text: "ipv6-icmp".into(), number: ICMPV6 },
            (Ethertype::V6, "1") => Self { text: ICMPV6.to_string(), number: ICMPV6 },
            _ => self,
        }
    }
}

/// An address or a range, as `remote_ip_prefix` and address groups take it: host bits stay.
pub fn parse_prefix(text: &str) -> Result<IpNet, RuleError> {
    let net = text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
    net.ok_or_else(|| RuleError::Prefix(text.into()))
}

/// The other side of a rule. All of them empty: everybody.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Remote {
    /// `remote_ip_prefix`.
    pub prefix: Option<IpNet>,
    /// `remote_group_id`.
    pub group: Option<Uuid>,
    /// `remote_address_group_id`.
    pub addresses: Option<Uuid>,
}

/// What a rule says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Which way.
    pub direction: Direction,
    /// Of which version.
    pub ethertype: Ethertype,
    /// `None`: any.
    pub protocol: Option<Protocol>,
    /// `port_range_min`: first port, or type of ICMP.
    pub low: Option<i32>,
    /// `port_range_max`: last port, or code of ICMP.
    pub high: Option<i32>,
    /// The other side.
    pub remote: Remote,
}

/// Rules with the same key let the same packets pass.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RuleKey {
    direction: Direction,
    ethertype: Ethertype,
    protocol: Option<u8>,
    range: (Option<i32>, Option<i32>),
    prefix: Option<IpNet>,
    groups: (Option<Uuid>, Option<Uuid>),
}

impl Rule {
    /// Checks what the parts say together, and normalises ICMP of IPv6.
    pub fn checked(self) -> Result<Self, RuleError> {
        let rule = Self { protocol: self.protocol.map(|protocol| protocol.over(self.ethertype)), ..self };
        let Remote { prefix, group, addresses } = rule.remote;
        if usize::from(prefix.is_some()) + usize::from(group.is_some()) + usize::from(addresses.is_some()) > 1 {
            return Err(RuleError::Remotes);
        }
        rule.check_range()?;
        match (prefix, &rule.protocol) {
            (Some(prefix), _) if Ethertype::of(&prefix) != rule.ethertype => {
                Err(RuleError::EthertypeOfPrefix { ethertype: rule.ethertype, prefix })
            }
            (_, Some(protocol)) if rule.ethertype == Ethertype::V4 && ONLY_IPV6.contains(&protocol.number) => {
                let protocol = protocol.text.clone();
                Err(RuleError::EthertypeOfProtocol { ethertype: rule.ethertype, protocol })
            }
            _ => Ok(rule),
        }
    }

    fn check_range(&self) -> Result<(), RuleError> {
        if self.low.is_none() && self.high.is_none() {
            return Ok(());
        }
        let protocol = self.protocol.as_ref().ok_or(RuleError::PortsWithoutProtocol)?.number;
        if WITH_PORTS.contains(&protocol) {
            for port in [self.low, self.high].into_iter().flatten() {
                if !(1..=65535).contains(&port) {
                    return Err(RuleError::Port(port.to_string()));
                }
            }
            return match (self.low, self.high) {
                (Some(low), Some(high)) if low <= high => Ok(()),
                _ => Err(RuleError::PortRange),
            };
        }
        if protocol != ICMP && protocol != ICMPV6 {
            return Err(RuleError::PortsOfProtocol(protocol));
        }
        for (value, field, attribute) in [(self.low, "type", "port_range_min"), (self.high, "code", "port_range_max")] {
            if let Some(value) = value.filter(|value| !(0..=255).contains(value)) {
                return Err(RuleError::Icmp { field, attribute, value });
            }
        }
        match (self.low, self.high) {
            (None, Some(code)) => Err(RuleError::IcmpCodeAlone(code)),
            _ => Ok(()),
        }
    }

    /// `normalized_cidr`: the prefix without host bits.
    pub fn normalized_cidr(&self) -> Option<IpNet> {
        self.remote.prefix.map(|prefix| prefix.trunc())
    }

    /// The prefix, if it leaves anybody out.
    pub fn narrowing_prefix(&self) -> Option<IpNet> {
        self.normalized_cidr().filter(|cidr| !EVERYBODY.contains(cidr))
    }

    /// What it is compared by.
    pub fn key(&self) -> RuleKey {
        RuleKey {
            direction: self.direction,
            ethertype: self.ethertype,
            protocol: self.protocol.as_ref().map(|protocol| protocol.number),
            range: (self.low, self.high),
            prefix: self.narrowing_prefix(),
            groups: (self.remote.group, self.remote.addresses),
        }
    }
}

const EVERYBODY: [IpNet; 2] = [
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0)),
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 0)),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(ethertype: Ethertype, protocol: &str, low: Option<i32>, high: Option<i32>) -> Rule {
        let protocol = Protocol::parse(protocol).unwrap();
        Rule { direction: Direction::Ingress, ethertype, protocol, low, high, remote: Remote::default() }
    }

    fn with(prefix: &str) -> Rule {
        let ethertype = if prefix.contains(':') { Ethertype::V6 } else { Ethertype::V4 };
        let remote = Remote { prefix: Some(parse_prefix(prefix).unwrap()), ..Remote::default() };
        Rule { remote, ..rule(ethertype, "tcp", Some(22), Some(22)) }
    }

    #[test]
    fn a_protocol_is_a_name_or_a_number_and_stays_as_written() {
        let parsed = |text: &str| Protocol::parse(text).map(|p| p.map(|p| (p.text, p.number)));
        assert_eq!(parsed("TCP"), Ok(Some(("tcp".into(), 6))));
        assert_eq!(parsed("6"), Ok(Some(("6".into(), 6))));
        assert_eq!(parsed("006"), Ok(Some(("6".into(), 6))));
        assert_eq!(parsed("0"), Ok(Some(("0".into(), 0))));
        for any in ["any", "-1", ""] {
            assert_eq!(parsed(any), Ok(None));
        }
        for wrong in ["256", "-2", "tcp6", "1.0", " tcp", "0x6"] {
            assert_eq!(parsed(wrong), Err(RuleError::Protocol(wrong.into())));
        }
    }

    #[test]
    fn icmp_over_ipv6_is_icmpv6_and_icmpv6_over_ipv4_is_refused() {
        for (given, stored) in [("icmp", "ipv6-icmp"), ("icmpv6", "ipv6-icmp"), ("1", "58"), ("58", "58")] {
            let protocol = rule(Ethertype::V6, given, None, None).checked().unwrap().protocol.unwrap();
            assert_eq!((protocol.text.as_str(), protocol.number), (stored, 58));
        }
        for given in ["icmpv6", "ipv6-icmp", "58", "ipv6-frag", "43"] {
            let refused = rule(Ethertype::V4, given, None, None).checked();
            assert!(matches!(refused, Err(RuleError::EthertypeOfProtocol { .. })), "{given}");
        }
    }

    #[test]
    fn ports_belong_to_protocols_that_have_them_and_stand_in_order() {
        let check = |protocol, low, high| rule(Ethertype::V4, protocol, low, high).checked().map(drop);
        for protocol in ["tcp", "17", "sctp", "udplite", "33"] {
            assert_eq!(check(protocol, Some(1), Some(65535)), Ok(()));
        }
        assert_eq!(check("any", Some(1), Some(2)), Err(RuleError::PortsWithoutProtocol));
        assert_eq!(check("gre", Some(1), Some(2)), Err(RuleError::PortsOfProtocol(47)));
        assert_eq!(check("tcp", Some(2), Some(1)), Err(RuleError::PortRange));
        assert_eq!(check("tcp", Some(2), None), Err(RuleError::PortRange));
        assert_eq!(check("tcp", None, Some(2)), Err(RuleError::PortRange));
        assert_eq!(check("tcp", Some(0), Some(2)), Err(RuleError::Port("0".into())));
        assert_eq!(check("tcp", Some(1), Some(65536)), Err(RuleError::Port("65536".into())));
    }

    #[test]
    fn icmp_has_a_type_and_perhaps_a_code() {
        let check = |low, high| rule(Ethertype::V4, "icmp", low, high).checked().map(drop);
        assert_eq!(
            (check(Some(0), None), check(Some(8), Some(0)), check(Some(255), Some(255))),
            (Ok(()), Ok(()), Ok(()))
        );
        assert_eq!(check(None, Some(3)), Err(RuleError::IcmpCodeAlone(3)));
        assert!(matches!(check(Some(256), None), Err(RuleError::Icmp { field: "type", .. })));
        assert!(matches!(check(Some(8), Some(-1)), Err(RuleError::Icmp { field: "code", .. })));
    }

    #[test]
    fn rules_that_let_the_same_packets_pass_have_one_key() {
        assert_eq!(with("10.0.0.5/24").checked().unwrap().key(), with("10.0.0.0/24").key());
        assert_ne!(with("10.0.0.5").key(), with("10.0.0.0/24").key());
        assert_eq!(with("0.0.0.0/0").key(), rule(Ethertype::V4, "6", Some(22), Some(22)).key());
        assert_ne!(with("::/0").key(), with("0.0.0.0/0").key());
        assert_ne!(Rule { direction: Direction::Egress, ..with("10.0.0.0/8") }.key(), with("10.0.0.0/8").key());
    }

    #[test]
    fn a_rule_has_one_other_side_of_its_own_version() {
        let both = Remote { group: Some(Uuid::nil()), ..with("10.0.0.0/8").remote };
        assert_eq!(Rule { remote: both, ..with("10.0.0.0/8") }.checked(), Err(RuleError::Remotes));
        let two = Remote { group: Some(Uuid::nil()), addresses: Some(Uuid::nil()), prefix: None };
        assert_eq!(Rule { remote: two, ..with("10.0.0.0/8") }.checked(), Err(RuleError::Remotes));
        let mixed = Rule { ethertype: Ethertype::V6, ..with("10.0.0.0/8") }.checked();
        assert!(matches!(mixed, Err(RuleError::EthertypeOfPrefix { .. })));
    }
}
