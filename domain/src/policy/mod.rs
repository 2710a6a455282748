//! The algebra of rules: from what a tenant wrote to what tables are made of.
//!
//! Whatever protocol a rule is about, it allows one *interval* of 16-bit numbers: destination ports
//! where there are ports; type and code, as upper and lower byte, where it is ICMP; everything
//! elsewhere. So ranges, ICMP and "any" are one case from here on, and tables need nothing but
//! prefixes over (protocol, number). Other objects are named by number, as the data plane names
//! them.
//!
//! [`reference`] says the same slowly, from Neutron's documentation and not by way of intervals:
//! what the tables decide is tested against it. [`reach`] says what may pass between two ports at all.

pub mod reach;
pub mod reference;

use crate::security_group::{self, Direction, Ethertype, ICMP, ICMPV6};
use ipnet::IpNet;
use uuid::Uuid;

/// A rule as tables are made of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its id.
    pub id: Uuid,
    /// Which way.
    pub direction: Direction,
    /// Of which version of IP.
    pub ethertype: Ethertype,
    /// `None`: any.
    pub protocol: Option<u8>,
    /// First of the interval.
    pub first: u16,
    /// Last of the interval.
    pub last: u16,
    /// The other side.
    pub remote: Remote,
}

/// The other side of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remote {
    /// Everybody.
    Any,
    /// Addresses, without host bits.
    Prefix(IpNet),
    /// Ports with this security group, by its number.
    Group(u32),
    /// The addresses of this address group, by its number.
    AddressGroup(u32),
}

/// Numbers of the groups that a rule names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Numbers {
    /// Of the remote group.
    pub group: Option<u32>,
    /// Of the remote address group.
    pub addresses: Option<u32>,
}

impl Rule {
    /// What a checked rule comes to. `None`: a group that it names has no number here, so that it
    /// allows nothing.
    pub fn of(id: Uuid, rule: &security_group::Rule, numbers: Numbers) -> Option<Self> {
        let security_group::Rule { direction, ethertype, protocol, low, high, remote } = rule;
        let protocol = protocol.as_ref().map(|protocol| protocol.number);
        let (first, last) = interval(protocol, *low, *high)?;
        let remote = match (rule.narrowing_prefix(), remote.group, remote.addresses) {
            (Some(prefix), ..) => Remote::Prefix(prefix),
            (None, Some(_), _) => Remote::Group(numbers.group?),
            (None, None, Some(_)) => Remote::AddressGroup(numbers.addresses?),
            (None, None, None) => Remote::Any,
        };
        Some(Self { id, direction: *direction, ethertype: *ethertype, protocol, first, last, remote })
    }
}

/// The interval of a rule's numbers; `None` if they are none that a checked rule has.
fn interval(protocol: Option<u8>, low: Option<i32>, high: Option<i32>) -> Option<(u16, u16)> {
    if protocol.is_some_and(|protocol| protocol == ICMP || protocol == ICMPV6) {
        let byte = |number: i32| u8::try_from(number).ok();
        return match (low, high) {
            (None, _) => Some((0, u16::MAX)),
            (Some(kind), None) => byte(kind).map(|kind| (icmp(kind, 0), icmp(kind, u8::MAX))),
            (Some(kind), Some(code)) => {
                let only = icmp(byte(kind)?, byte(code)?);
                Some((only, only))
            }
        };
    }
    match (low, high) {
        (None, None) => Some((0, u16::MAX)),
        (low, high) => Some((u16::try_from(low?).ok()?, u16::try_from(high?).ok()?)),
    }
}

/// The number that stands for a message of ICMP.
pub const fn icmp(kind: u8, code: u8) -> u16 {
    u16::from_be_bytes([kind, code])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::security_group::{Protocol, parse_prefix};

    fn rule(protocol: &str, low: Option<i32>, high: Option<i32>) -> security_group::Rule {
        security_group::Rule {
            direction: Direction::Ingress,
            ethertype: Ethertype::V4,
            protocol: Protocol::parse(protocol).unwrap(),
            low,
            high,
            remote: security_group::Remote::default(),
        }
        .checked()
        .unwrap()
    }

    fn normal(rule: &security_group::Rule) -> Option<Rule> {
        Rule::of(Uuid::nil(), rule, Numbers { group: Some(7), addresses: Some(8) })
    }

    #[test]
    fn ports_types_and_codes_are_one_interval() {
        let numbers = |protocol, low, high| normal(&rule(protocol, low, high)).map(|r| (r.protocol, r.first, r.last));
        assert_eq!(numbers("any", None, None), Some((None, 0, 65535)));
        assert_eq!(numbers("tcp", None, None), Some((Some(6), 0, 65535)));
        assert_eq!(numbers("tcp", Some(80), Some(443)), Some((Some(6), 80, 443)));
        assert_eq!(numbers("gre", None, None), Some((Some(47), 0, 65535)));
        assert_eq!(numbers("icmp", None, None), Some((Some(1), 0, 65535)));
        assert_eq!(numbers("icmp", Some(8), None), Some((Some(1), 0x0800, 0x08ff)));
        assert_eq!(numbers("icmp", Some(3), Some(4)), Some((Some(1), 0x0304, 0x0304)));
    }

    #[test]
    fn the_prefix_of_all_addresses_is_everybody_and_groups_have_numbers() {
        let to = |remote| normal(&security_group::Rule { remote, ..rule("tcp", None, None) }).map(|rule| rule.remote);
        let prefix = |text: &str| security_group::Remote {
            prefix: Some(parse_prefix(text).unwrap()),
            ..security_group::Remote::default()
        };
        assert_eq!(to(prefix("0.0.0.0/0")), Some(Remote::Any));
        assert_eq!(to(prefix("10.1.2.3/8")), Some(Remote::Prefix("10.0.0.0/8".parse().unwrap())));
        let group = security_group::Remote { group: Some(Uuid::nil()), ..security_group::Remote::default() };
        assert_eq!(to(group), Some(Remote::Group(7)));
        let addresses = security_group::Remote { addresses: Some(Uuid::nil()), ..security_group::Remote::default() };
        assert_eq!(to(addresses), Some(Remote::AddressGroup(8)));
        let unknown = security_group::Rule { remote: group, ..rule("tcp", None, None) };
        assert_eq!(Rule::of(Uuid::nil(), &unknown, Numbers::default()), None);
    }
}
