//! Names in the DNS, as tenants write them.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::IpAddr;

/// Characters of a name without its last dot (RFC 1035 section 2.3.4).
const NAME_MAX: usize = 253;
/// Characters of a label.
const LABEL_MAX: usize = 63;

/// Why a text is no name in the DNS. `Display` is Neutron's wording of the reason.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DnsError {
    /// The whole.
    #[error("'{0}' exceeds the {NAME_MAX} character FQDN limit")]
    TooLong(String),
    /// Two dots, or one at the begin.
    #[error("'{0}' not a valid PQDN or FQDN. Reason: Encountered an empty component")]
    EmptyLabel(String),
    /// A label.
    #[error(
        "'{name}' not a valid PQDN or FQDN. Reason: Name '{label}' must be 1-63 characters long, each of which can \
         only be alphanumeric or a hyphen that is not at an end"
    )]
    BadLabel {
        /// Of this name.
        name: String,
        /// Which.
        label: String,
    },
    /// A top-level domain is never a number.
    #[error("'{0}' not a valid PQDN or FQDN. Reason: TLD must not be all numeric")]
    NumericTld(String),
    /// Together with the domain of the cloud.
    #[error(
        "The dns_name passed is a PQDN and its size is '{0}'. With the domain {CLOUD_DOMAIN} of this cloud the \
         resulting length exceeds the maximum size of '{NAME_MAX}'"
    )]
    TooLongInDomain(usize),
}

/// Where ports have their names that are in no other domain: Neutron's default.
pub const CLOUD_DOMAIN: &str = "openstacklocal.";

/// Labels with dots between them, and perhaps one at the end.
fn check(text: &str) -> Result<(), DnsError> {
    let name = || text.chars().take(NAME_MAX + 2).collect::<String>();
    let trimmed = text.strip_suffix('.').unwrap_or(text);
    if trimmed.len() > NAME_MAX {
        return Err(DnsError::TooLong(name()));
    }
    let labels: Vec<&str> = trimmed.split('.').collect();
    for label in &labels {
        if label.is_empty() {
            return Err(DnsError::EmptyLabel(name()));
        }
        let letters = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        if !letters || label.len() > LABEL_MAX || label.starts_with('-') || label.ends_with('-') {
            return Err(DnsError::BadLabel { name: name(), label: (*label).to_owned() });
        }
    }
    match labels[..] {
        [_, .., tld] if tld.bytes().all(|byte| byte.is_ascii_digit()) => Err(DnsError::NumericTld(name())),
        _ => Ok(()),
    }
}

/// What both kinds of names are: a text that was checked.
macro_rules! checked_text {
    ($kind:ident) => {
        impl $kind {
            /// Whether there is none.
            pub const fn is_empty(&self) -> bool {
                self.0.is_empty()
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<$kind> for String {
            fn from(checked: $kind) -> Self {
                checked.0
            }
        }

        impl TryFrom<String> for $kind {
            type Error = DnsError;

            fn try_from(text: String) -> Result<Self, DnsError> {
                Self::new(&text)
            }
        }
    };
}

checked_text!(DnsDomain);
checked_text!(DnsName);

/// The domain of names, or none: empty. In lower case, as names in the DNS are equal whatever their case.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct DnsDomain(String);

impl DnsDomain {
    /// Checks and wraps.
    pub fn new(text: &str) -> Result<Self, DnsError> {
        if !text.is_empty() {
            check(text)?;
        }
        Ok(Self(text.to_ascii_lowercase()))
    }
}

impl fmt::Display for DnsDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of a port, or none: empty. With a dot at the end it is in no domain.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct DnsName(String);

impl DnsName {
    /// Checks and wraps.
    pub fn new(text: &str) -> Result<Self, DnsError> {
        if !text.is_empty() {
            check(text)?;
            let together = text.len() + 1 + CLOUD_DOMAIN.trim_end_matches('.').len();
            if !text.ends_with('.') && together > NAME_MAX {
                return Err(DnsError::TooLongInDomain(text.len()));
            }
        }
        Ok(Self(text.to_ascii_lowercase()))
    }

    /// What a machine of that name calls itself.
    pub fn host(&self) -> &str {
        self.0.split('.').next().unwrap_or_default()
    }

    /// Host name and full name of an address, as `dns_assignment` shows them. Without a name the address makes one.
    pub fn assigned(&self, domain: &str, address: IpAddr) -> (String, String) {
        let host = match self.as_str() {
            "" => format!("host-{address}").replace(['.', ':'], "-"),
            name => name.to_owned(),
        };
        let whole = if host.ends_with('.') { host.clone() } else { format!("{host}.{domain}") };
        (host, whole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domains_are_labels_with_dots_between_them() {
        for right in ["", "example.org.", "example.org", "a-1.b", "net", "10.in-addr.arpa."] {
            assert_eq!(DnsDomain::new(right).map(|domain| domain.to_string()), Ok(right.to_owned()));
        }
        for wrong in
            [".", "a..b", ".a", "-a.b", "a-.b", "a_b.c", "a.7", "a b", "é.org", &"a".repeat(64), &"a.".repeat(128)]
        {
            assert!(DnsDomain::new(wrong).is_err(), "{wrong}");
        }
    }
    #[test]
    fn a_domain_has_no_case() {
        assert_eq!(DnsDomain::new("Example.ORG."), DnsDomain::new("example.org."));
    }

    #[test]
    fn an_address_is_named_by_its_port_or_by_itself() {
        let address = "10.0.0.5".parse().unwrap();
        let assigned = |name: &str| DnsName::new(name).unwrap().assigned("example.org.", address);
        assert_eq!(assigned("Web"), ("web".into(), "web.example.org.".into()));
        assert_eq!(assigned("web.example.com."), ("web.example.com.".into(), "web.example.com.".into()));
        assert_eq!(assigned(""), ("host-10-0-0-5".into(), "host-10-0-0-5.example.org.".into()));
        assert_eq!(DnsName::new("web.example.com.").unwrap().host(), "web");
    }

    #[test]
    fn a_name_fits_with_the_domain_of_the_cloud() {
        let label = "a".repeat(63);
        let most = NAME_MAX - 1 - CLOUD_DOMAIN.len() + 1;
        let long = [label.as_str(); 4].join(".");
        assert!(DnsName::new(&long[..most]).is_ok());
        assert_eq!(DnsName::new(&long[..=most]), Err(DnsError::TooLongInDomain(most + 1)));
        assert!(DnsName::new(&format!("{}.", &long[..=most])).is_ok());
    }
}
