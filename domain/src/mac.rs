//! MAC addresses.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// An Ethernet address. Written in colon notation, lower case, as Neutron does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Mac(pub [u8; 6]);

/// What is wrong with a text that should be a MAC address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a valid MAC address: six pairs of hexadecimal digits, separated by colons")]
pub struct MacError(pub String);

impl Mac {
    /// A random address under fa:16:3e, OpenStack's prefix (locally administered). 24 random bits:
    /// whoever draws must be ready to draw again.
    pub fn random() -> Self {
        let [a, b, c] = rand::random();
        Self([0xfa, 0x16, 0x3e, a, b, c])
    }

    /// Bit 0 of the first byte: the address of a group of stations. A port cannot have one.
    pub const fn is_multicast(self) -> bool {
        self.0[0] & 1 != 0
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for Mac {
    type Err = MacError;

    fn from_str(text: &str) -> Result<Self, MacError> {
        let refused = || MacError(text.to_owned());
        let mut bytes = [0; 6];
        let mut pairs = text.split(':');
        for byte in &mut bytes {
            let pair = pairs.next().ok_or_else(refused)?;
            // `from_str_radix` alone would take "+f".
            if pair.len() != 2 || !pair.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                return Err(refused());
            }
            *byte = u8::from_str_radix(pair, 16).map_err(|_| refused())?;
        }
        if pairs.next().is_some() { Err(refused()) } else { Ok(Self(bytes)) }
    }
}

impl From<Mac> for String {
    fn from(mac: Mac) -> Self {
        mac.to_string()
    }
}

impl TryFrom<String> for Mac {
    type Error = MacError;

    fn try_from(text: String) -> Result<Self, MacError> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mac_is_written_as_it_is_read_but_in_lower_case() {
        assert_eq!("FA:16:3e:00:0A:ff".parse::<Mac>().map(|mac| mac.to_string()), Ok("fa:16:3e:00:0a:ff".into()));
    }

    #[test]
    fn what_is_not_a_mac_is_refused() {
        for text in [
            "",
            "fa:16:3e:00:00",
            "fa:16:3e:00:00:00:00",
            "fa-16-3e-00-00-00",
            "fa:16:3e:00:00:+f",
            "fa:16:3e:00:00:0g",
        ] {
            assert_eq!(text.parse::<Mac>(), Err(MacError(text.into())));
        }
    }
}
