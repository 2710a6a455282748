//! Names in the DNS, as tenants write them.

use std::fmt;

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
}

/// The domain of a network's names, or none: empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DnsDomain(String);

impl DnsDomain {
    /// Checks and wraps.
    pub fn new(text: &str) -> Result<Self, DnsError> {
        let name = || text.chars().take(NAME_MAX + 2).collect::<String>();
        let trimmed = text.strip_suffix('.').unwrap_or(text);
        if text.is_empty() {
            return Ok(Self::default());
        }
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
            _ => Ok(Self(text.to_owned())),
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DnsDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
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
}
