//! Options that tenants add to what DHCP tells a port: `extra_dhcp_opts` (RFC 2132 and its successors; IANA's
//! registry of BOOTP and DHCP parameters).
//!
//! They are named as Neutron's users name them, in dnsmasq's words, or by number. A value becomes the option's bytes
//! when it is set, so what is accepted here is what a host sends later; what could not be sent is refused.

use crate::dns::DnsDomain;
use crate::model;
use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;

/// Options that a port may have.
pub const OPTIONS_MAX: usize = 32;
/// Characters of an option's name.
pub const NAME_MAX: usize = 64;
/// Characters of a value, and bytes of what it becomes: the length of an option is one byte.
pub const VALUE_MAX: usize = 255;

/// Why an option is refused. `Display` is the reason that the client reads.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OptionError {
    /// Neither a name nor a number.
    #[error("'{0}' is no DHCP option: neither a name that is known nor a number from 1 to 254")]
    Unknown(String),
    /// dnsmasq's condition.
    #[error("'{0}' depends on a tag; options are sent to whoever asks")]
    Tagged(String),
    /// The lease is made of it.
    #[error("'{0}' is what DHCP itself works with and cannot be chosen")]
    Own(String),
    /// The value does not fit.
    #[error("'{value}' is not possible for the DHCP option {name}: it takes {takes}")]
    Value {
        /// The option.
        name: String,
        /// What was sent.
        value: String,
        /// What it takes, in words.
        takes: &'static str,
    },
    /// The same option by two names, or by one.
    #[error("Duplicate items in the list: '{0}'")]
    Twice(String),
    /// More than [`OPTIONS_MAX`].
    #[error("{0} options exceed the maximum of {OPTIONS_MAX}")]
    TooMany(usize),
}

/// What an option holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// IPv4 addresses.
    Addresses,
    /// IPv4 addresses in pairs.
    Pairs,
    /// Routes as of RFC 3442: a range and the router to it, alternating.
    Routes,
    /// Text.
    Text,
    /// Domains as of RFC 1035, section 3.1.
    Domains,
    /// 0 or 1.
    Flag,
    /// A number of so many bytes.
    Number(usize),
    /// A number that may be negative, of four bytes.
    Signed,
    /// Whatever it looks like.
    Free,
}

/// The address of the server to go on with (siaddr in the header of BOOTP). Its number marks the end of options, so
/// that no option can have it; dnsmasq uses it like this too.
const NEXT_SERVER: u8 = model::DhcpOption::NEXT_SERVER;

/// Names, numbers and what they hold.
const OPTIONS: &[(&str, u8, Kind)] = &[
    ("netmask", 1, Kind::Addresses),
    ("time-offset", 2, Kind::Signed),
    ("router", 3, Kind::Addresses),
    ("time-server", 4, Kind::Addresses),
    ("dns-server", 6, Kind::Addresses),
    ("log-server", 7, Kind::Addresses),
    ("lpr-server", 9, Kind::Addresses),
    ("hostname", 12, Kind::Text),
    ("boot-file-size", 13, Kind::Number(2)),
    ("domain-name", 15, Kind::Text),
    ("swap-server", 16, Kind::Addresses),
    ("root-path", 17, Kind::Text),
    ("extension-path", 18, Kind::Text),
    ("ip-forward-enable", 19, Kind::Flag),
    ("non-local-source-routing", 20, Kind::Flag),
    ("policy-filter", 21, Kind::Pairs),
    ("max-datagram-reassembly", 22, Kind::Number(2)),
    ("default-ttl", 23, Kind::Number(1)),
    ("mtu", 26, Kind::Number(2)),
    ("all-subnets-local", 27, Kind::Flag),
    ("broadcast", 28, Kind::Addresses),
    ("router-discovery", 31, Kind::Flag),
    ("router-solicitation", 32, Kind::Addresses),
    ("static-route", 33, Kind::Pairs),
    ("trailer-encapsulation", 34, Kind::Flag),
    ("arp-timeout", 35, Kind::Number(4)),
    ("ethernet-encap", 36, Kind::Flag),
    ("tcp-ttl", 37, Kind::Number(1)),
    ("tcp-keepalive", 38, Kind::Number(4)),
    ("nis-domain", 40, Kind::Text),
    ("nis-server", 41, Kind::Addresses),
    ("ntp-server", 42, Kind::Addresses),
    ("vendor-encap", 43, Kind::Free),
    ("netbios-ns", 44, Kind::Addresses),
    ("netbios-dd", 45, Kind::Addresses),
    ("netbios-nodetype", 46, Kind::Number(1)),
    ("netbios-scope", 47, Kind::Text),
    ("x-windows-fs", 48, Kind::Addresses),
    ("x-windows-dm", 49, Kind::Addresses),
    ("T1", 58, Kind::Number(4)),
    ("T2", 59, Kind::Number(4)),
    ("vendor-class", 60, Kind::Text),
    ("nis+-domain", 64, Kind::Text),
    ("nis+-server", 65, Kind::Addresses),
    ("tftp-server", 66, Kind::Text),
    ("bootfile-name", 67, Kind::Text),
    ("mobile-ip-home", 68, Kind::Addresses),
    ("smtp-server", 69, Kind::Addresses),
    ("pop3-server", 70, Kind::Addresses),
    ("nntp-server", 71, Kind::Addresses),
    ("irc-server", 74, Kind::Addresses),
    ("posix-timezone", 100, Kind::Text),
    ("tzdb-timezone", 101, Kind::Text),
    ("ipv6-only", 108, Kind::Number(4)),
    ("domain-search", 119, Kind::Domains),
    ("sip-server", 120, Kind::Free),
    ("classless-static-route", 121, Kind::Routes),
    ("vendor-id-encap", 125, Kind::Free),
    ("tftp-server-address", 150, Kind::Addresses),
    ("server-ip-address", NEXT_SERVER, Kind::Addresses),
];

/// Those that the exchange itself consists of: the lease, the kinds of messages, who speaks with whom.
const OWN: [(&str, u8); 14] = [
    ("requested-address", 50),
    ("lease-time", 51),
    ("option-overload", 52),
    ("message-type", 53),
    ("server-identifier", 54),
    ("parameter-request", 55),
    ("message", 56),
    ("max-message-size", 57),
    ("client-id", 61),
    ("rapid-commit", 80),
    ("FQDN", 81),
    ("agent-info", 82),
    ("authentication", 90),
    ("subnet-select", 118),
];

/// Options that an empty value takes out of what the port is told. Neutron knows these two.
const BLANK: [u8; 2] = [3, 121];

/// Number and content of a named option.
fn find(name: &str) -> Result<(u8, Kind), OptionError> {
    if name.starts_with("tag:") {
        return Err(OptionError::Tagged(name.to_owned()));
    }
    // Only as one writes a number: `+67` and `067` would come back as they are.
    let written = |number: &u8| (1..=254).contains(number) && number.to_string() == name;
    let number = name.parse::<u8>().ok().filter(written);
    let is = |known: &str, code: u8| known.eq_ignore_ascii_case(name) || number == Some(code);
    if OWN.iter().any(|(known, code)| is(known, *code)) {
        return Err(OptionError::Own(name.to_owned()));
    }
    if let Some((_, code, kind)) = OPTIONS.iter().find(|(known, code, _)| is(known, *code)) {
        return Ok((*code, *kind));
    }
    number.map(|number| (number, Kind::Free)).ok_or_else(|| OptionError::Unknown(name.to_owned()))
}

impl Kind {
    const fn takes(self) -> &'static str {
        match self {
            Self::Addresses => "IPv4 addresses with commas between them",
            Self::Pairs => "pairs of IPv4 addresses with commas between all of them",
            Self::Routes => "IPv4 ranges, each followed by the address of its router, with commas between all of them",
            Self::Text | Self::Free => "1 to 255 bytes without control characters",
            Self::Domains => "domains with commas between them",
            Self::Flag => "0 or 1",
            Self::Number(1) => "a number from 0 to 255",
            Self::Number(2) => "a number from 0 to 65535",
            Self::Number(_) => "a number from 0 to 4294967295",
            Self::Signed => "a number from -2147483648 to 2147483647",
        }
    }

    /// The bytes of a value that is not empty; `None`: it does not fit.
    fn encode(self, value: &str) -> Option<Vec<u8>> {
        let parts = || value.split(',').map(str::trim);
        let bytes = match self {
            Self::Addresses => addresses(value)?,
            Self::Pairs => addresses(value).filter(|bytes| bytes.len() % 8 == 0)?,
            Self::Routes => routes(&parts().collect::<Vec<_>>())?,
            Self::Text => text(value)?,
            Self::Domains => parts().map(domain).collect::<Option<Vec<_>>>()?.concat(),
            Self::Flag => vec![value.parse().ok().filter(|flag| *flag < 2_u8)?],
            Self::Number(1) => vec![value.parse().ok()?],
            Self::Number(2) => value.parse::<u16>().ok()?.to_be_bytes().to_vec(),
            Self::Number(_) => value.parse::<u32>().ok()?.to_be_bytes().to_vec(),
            Self::Signed => value.parse::<i32>().ok()?.to_be_bytes().to_vec(),
            Self::Free => free(value)?,
        };
        (1..=VALUE_MAX).contains(&bytes.len()).then_some(bytes)
    }
}

fn addresses(value: &str) -> Option<Vec<u8>> {
    let parts = value.split(',').map(|part| part.trim().parse::<Ipv4Addr>().ok());
    Some(parts.collect::<Option<Vec<_>>>()?.into_iter().flat_map(|address| address.octets()).collect())
}

fn routes(parts: &[&str]) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    for pair in parts.chunks(2) {
        let [range, router] = pair else { return None };
        let range: ipnet::Ipv4Net = range.parse().ok()?;
        bytes.push(range.prefix_len());
        let significant = usize::from(range.prefix_len().div_ceil(8));
        bytes.extend(&range.network().octets()[..significant]);
        bytes.extend(router.parse::<Ipv4Addr>().ok()?.octets());
    }
    Some(bytes)
}

fn text(value: &str) -> Option<Vec<u8>> {
    let quoted = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    let value = quoted.unwrap_or(value);
    (!value.chars().any(char::is_control)).then(|| value.as_bytes().to_vec())
}

fn domain(name: &str) -> Option<Vec<u8>> {
    let domain = DnsDomain::new(name).ok().filter(|domain| !domain.is_empty())?;
    let mut bytes = Vec::new();
    for label in domain.as_str().trim_end_matches('.').split('.') {
        bytes.push(u8::try_from(label.len()).ok()?);
        bytes.extend(label.as_bytes());
    }
    bytes.push(0);
    Some(bytes)
}

/// As dnsmasq takes a value whose option it does not know: addresses, bytes (`01:ff`), a number in as few bytes as
/// hold it, or else text; text too is what stands in quotes.
fn free(value: &str) -> Option<Vec<u8>> {
    if let Some(bytes) = addresses(value) {
        return Some(bytes);
    }
    if value.contains(':') {
        let byte = |part: &str| {
            let digits = (1..=2).contains(&part.len()) && part.bytes().all(|digit| digit.is_ascii_hexdigit());
            u8::from_str_radix(part, 16).ok().filter(|_| digits)
        };
        if let Some(bytes) = value.split(':').map(byte).collect() {
            return Some(bytes);
        }
    }
    match value.parse::<u32>() {
        Ok(number) if value.bytes().all(|digit| digit.is_ascii_digit()) => Some(match number {
            0..=0xff => number.to_be_bytes()[3..].to_vec(),
            0x100..=0xffff => number.to_be_bytes()[2..].to_vec(),
            _ => number.to_be_bytes().to_vec(),
        }),
        _ => text(value),
    }
}

/// An option with its value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "Written", from = "Written")]
pub struct ExtraOption {
    name: String,
    value: String,
    bytes: Option<model::DhcpOption>,
}

/// An option as it was written.
#[derive(Serialize, Deserialize)]
struct Written {
    name: String,
    value: String,
}

impl From<ExtraOption> for Written {
    fn from(option: ExtraOption) -> Self {
        Self { name: option.name, value: option.value }
    }
}

/// What another version stored is shown and can be removed, though this one would refuse it: it is
/// only not sent.
impl From<Written> for ExtraOption {
    fn from(Written { name, value }: Written) -> Self {
        let bytes = Self::new(name.as_str(), value.as_str()).ok().and_then(|option| option.bytes);
        Self { name, value, bytes }
    }
}

impl ExtraOption {
    /// Checks and wraps.
    pub fn new(name: impl Into<String>, value: impl Into<String>) -> Result<Self, OptionError> {
        let (name, value) = (name.into(), value.into());
        let (code, kind) = find(&name)?;
        let bytes = if value.is_empty() && BLANK.contains(&code) {
            Some(Vec::new())
        } else {
            // There is room for one next server.
            kind.encode(&value).filter(|bytes| code != NEXT_SERVER || bytes.len() == 4)
        };
        match bytes {
            Some(value_bytes) => Ok(Self { name, value, bytes: Some(model::DhcpOption { code, value: value_bytes }) }),
            None => Err(OptionError::Value { name, value, takes: kind.takes() }),
        }
    }

    /// As it was written.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// As it was written.
    pub fn value(&self) -> &str {
        &self.value
    }

    /// As it is sent.
    pub const fn sent(&self) -> Option<&model::DhcpOption> {
        self.bytes.as_ref()
    }

    fn is_code(&self, code: u8) -> bool {
        self.bytes.as_ref().is_some_and(|bytes| bytes.code == code)
    }
}

/// What a request says about one option; without a value the option goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OptionChange {
    /// Name or number.
    pub name: String,
    /// Value.
    pub value: Option<String>,
}

/// The options of a port after a request; what it does not name stays.
pub fn change(mut options: Vec<ExtraOption>, changes: Vec<OptionChange>) -> Result<Vec<ExtraOption>, OptionError> {
    let mut named = Vec::with_capacity(changes.len());
    for OptionChange { name, value } in changes {
        if value.is_none() && find(&name).is_err() && options.iter().any(|option| option.name == name) {
            // Of another version.
            options.retain(|option| option.name != name);
            continue;
        }
        let (code, _) = find(&name)?;
        if named.contains(&code) {
            return Err(OptionError::Twice(name));
        }
        named.push(code);
        let held = options.iter().position(|option| option.is_code(code));
        match (value.map(|value| ExtraOption::new(name, value)).transpose()?, held) {
            (Some(option), Some(place)) => options[place] = option,
            (Some(option), None) => options.push(option),
            (None, Some(place)) => drop(options.remove(place)),
            (None, None) => {}
        }
    }
    if options.len() > OPTIONS_MAX { Err(OptionError::TooMany(options.len())) } else { Ok(options) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn bytes(name: &str, value: &str) -> Vec<u8> {
        ExtraOption::new(name, value).unwrap().bytes.unwrap().value
    }

    #[test]
    fn values_become_the_bytes_of_their_options() {
        assert_eq!(bytes("bootfile-name", "pxelinux.0"), b"pxelinux.0");
        assert_eq!(bytes("tftp-server", "192.0.2.1"), b"192.0.2.1");
        assert_eq!(bytes("67", "7"), b"7");
        assert_eq!(bytes("server-ip-address", "192.0.2.1"), [192, 0, 2, 1]);
        assert_eq!(bytes("ntp-server", "192.0.2.1, 192.0.2.2"), [192, 0, 2, 1, 192, 0, 2, 2]);
        assert_eq!(bytes("mtu", "1400"), [0x05, 0x78]);
        assert_eq!(bytes("time-offset", "-3600"), (-3600_i32).to_be_bytes());
        assert_eq!(bytes("ip-forward-enable", "1"), [1]);
        assert_eq!(bytes("static-route", "10.0.0.0,10.1.0.1"), [10, 0, 0, 0, 10, 1, 0, 1]);
        // RFC 3442's own example.
        let routes = "10.0.0.0/8,10.1.0.1, 10.17.0.0/16,10.1.0.2,10.27.129.0/24,10.1.0.3,0.0.0.0/0,10.1.0.1";
        let sent =
            [&[8, 10, 10, 1, 0, 1][..], &[16, 10, 17, 10, 1, 0, 2], &[24, 10, 27, 129, 10, 1, 0, 3], &[0, 10, 1, 0, 1]];
        assert_eq!(bytes("classless-static-route", routes), sent.concat());
        assert_eq!(bytes("domain-search", "a.example.org,B"), b"\x01a\x07example\x03org\x00\x01b\x00");
    }

    #[test]
    fn what_another_version_stored_is_shown_and_removed_but_not_sent() {
        let stored = r#"[{"name": "mtu", "value": "1400", "added": 1}, {"name": "of-tomorrow", "value": "x"}]"#;
        let options: Vec<ExtraOption> = serde_json::from_str(stored).unwrap();
        assert_eq!(options.iter().map(|option| option.sent().is_some()).collect::<Vec<_>>(), [true, false]);
        let gone = |name: &str| OptionChange { name: name.into(), value: None };
        assert_eq!(change(options.clone(), vec![gone("of-tomorrow")]).unwrap(), options[..1]);
        assert_eq!(change(options.clone(), vec![gone("mtu")]).unwrap(), options[1..]);
        assert!(change(options, vec![gone("never-was")]).is_err());
    }

    #[test]
    fn a_number_is_written_in_one_way() {
        assert!(ExtraOption::new("67", "x").is_ok());
        for name in ["+67", "067", "0", "255", "256"] {
            assert_eq!(ExtraOption::new(name, "x"), Err(OptionError::Unknown(name.to_owned())), "{name}");
        }
    }

    #[test]
    fn a_value_of_an_option_without_a_name_is_what_it_looks_like() {
        assert_eq!(bytes("200", "192.0.2.1,192.0.2.2").len(), 8);
        assert_eq!(bytes("200", "01:ff:A"), [1, 255, 10]);
        assert_eq!(bytes("200", "7"), [7]);
        assert_eq!(bytes("200", "256"), [1, 0]);
        assert_eq!(bytes("200", "65536"), [0, 1, 0, 0]);
        assert_eq!(bytes("200", "\"7\""), b"7");
        assert_eq!(bytes("200", "http://x/"), b"http://x/");
        assert_eq!(bytes("200", "99999999999"), b"99999999999");
    }

    #[test]
    fn what_could_not_be_sent_is_refused() {
        for name in ["", "0", "255", "256", "-1", "nonsense", "option:router"] {
            assert_eq!(ExtraOption::new(name, "1"), Err(OptionError::Unknown(name.into())), "{name}");
        }
        for name in ["51", "lease-time", "Message-Type", "54", "client-id", "82"] {
            assert_eq!(ExtraOption::new(name, "1"), Err(OptionError::Own(name.into())), "{name}");
        }
        assert_eq!(ExtraOption::new("tag:ipxe,67", "x"), Err(OptionError::Tagged("tag:ipxe,67".into())));
        for (name, value) in [
            ("router", "10.0.0.300"),
            ("router", "2001:db8::1"),
            ("static-route", "10.0.0.0"),
            ("classless-static-route", "10.0.0.0/8"),
            ("classless-static-route", "10.0.0.0/33,10.0.0.1"),
            ("mtu", "65536"),
            ("default-ttl", "256"),
            ("ip-forward-enable", "2"),
            ("bootfile-name", ""),
            ("bootfile-name", "a\nb"),
            ("200", ""),
            ("200", "\"\""),
            ("domain-search", "a..b"),
            ("domain-search", ""),
            ("server-ip-address", "192.0.2.1,192.0.2.2"),
        ] {
            assert!(matches!(ExtraOption::new(name, value), Err(OptionError::Value { .. })), "{name}={value}");
        }
        assert!(ExtraOption::new("bootfile-name", "x".repeat(256)).is_err());
        let many = vec!["192.0.2.1"; 64].join(",");
        assert!(ExtraOption::new("ntp-server", many).is_err());
    }

    #[test]
    fn an_empty_value_takes_routers_and_routes_away() {
        assert!(bytes("router", "").is_empty() && bytes("121", "").is_empty());
    }

    #[test]
    fn a_request_changes_what_it_names() {
        let change = |held: &[ExtraOption], changes: &[(&str, Option<&str>)]| {
            let changes = changes
                .iter()
                .map(|(name, value)| OptionChange { name: (*name).to_owned(), value: value.map(str::to_owned) });
            super::change(held.to_vec(), changes.collect())
        };
        let held = change(&[], &[("bootfile-name", Some("a")), ("mtu", Some("1400")), ("6", None)]).unwrap();
        assert_eq!(held.iter().map(ExtraOption::value).collect::<Vec<_>>(), ["a", "1400"]);
        // By its number too.
        let held = change(&held, &[("67", Some("b")), ("ntp-server", Some("192.0.2.1"))]).unwrap();
        assert_eq!(held.iter().map(ExtraOption::name).collect::<Vec<_>>(), ["67", "mtu", "ntp-server"]);
        assert_eq!(change(&held, &[("bootfile-name", None), ("mtu", None)]).unwrap(), &held[2..]);
        assert_eq!(change(&held, &[("mtu", None), ("26", Some("1"))]), Err(OptionError::Twice("26".into())));
        assert_eq!(change(&held, &[("nonsense", None)]), Err(OptionError::Unknown("nonsense".into())));
        let names: Vec<String> = (200..200 + OPTIONS_MAX + 1).map(|code| code.to_string()).collect();
        let many: Vec<_> = names.iter().map(|name| (name.as_str(), Some("1"))).collect();
        assert_eq!(change(&[], &many), Err(OptionError::TooMany(OPTIONS_MAX + 1)));
        assert!(change(&[], &many[1..]).is_ok());
    }

    #[test]
    fn every_option_has_one_name_and_one_number() {
        let known = OPTIONS.iter().map(|(name, code, _)| (*name, *code)).chain(OWN);
        let (names, codes): (BTreeSet<String>, BTreeSet<u8>) =
            known.map(|(name, code)| (name.to_ascii_lowercase(), code)).unzip();
        assert_eq!((names.len(), codes.len()), (OPTIONS.len() + OWN.len(), OPTIONS.len() + OWN.len()));
    }

    #[test]
    fn an_option_is_stored_as_it_was_written() {
        let option = ExtraOption::new("mtu", "1400").unwrap();
        let stored = serde_json::to_string(&option).unwrap();
        assert_eq!(stored, r#"{"name":"mtu","value":"1400"}"#);
        assert_eq!(serde_json::from_str::<ExtraOption>(&stored).unwrap(), option);
        let unfit = serde_json::from_str::<ExtraOption>(r#"{"name":"mtu","value":"x"}"#).unwrap();
        assert_eq!(unfit.sent(), None);
    }
}
