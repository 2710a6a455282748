//! Hosts as placement sees them.

use std::str::FromStr;

/// How much more a host labelled `prefer` carries than its weight alone says.
pub const PREFER_FACTOR: u64 = 8;

/// The transit label of a host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transit {
    /// Holds roles by its weight.
    #[default]
    Yes,
    /// Holds none.
    No,
    /// Holds [`PREFER_FACTOR`] times as much.
    Prefer,
}

/// A label that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("transit must be yes, no or prefer, not {0:?}")]
pub struct UnknownTransit(String);

impl FromStr for Transit {
    type Err = UnknownTransit;

    fn from_str(text: &str) -> Result<Self, UnknownTransit> {
        match text {
            "yes" => Ok(Self::Yes),
            "no" => Ok(Self::No),
            "prefer" => Ok(Self::Prefer),
            other => Err(UnknownTransit(other.to_owned())),
        }
    }
}

/// A host: where it stands and what it may hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Its number, never 0.
    pub number: u32,
    /// Availability zone.
    pub az: String,
    /// Rack; racks of one name in two zones are two racks.
    pub rack: String,
    /// Its label.
    pub transit: Transit,
    /// Operator's weight, at least 1.
    pub weight: u32,
    /// Whether its lease lives, or is not to be judged yet.
    pub live: bool,
}

impl Host {
    /// Whether it may hold roles.
    pub fn eligible(&self) -> bool {
        self.live && self.transit != Transit::No
    }

    /// What its share is measured by.
    pub fn effective_weight(&self) -> u64 {
        let factor = if self.transit == Transit::Prefer { PREFER_FACTOR } else { 1 };
        u64::from(self.weight.max(1)) * factor
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_outside_the_three_is_refused() {
        assert_eq!("prefer".parse(), Ok(Transit::Prefer));
        assert_eq!(
            "maybe".parse::<Transit>().unwrap_err().to_string(),
            "transit must be yes, no or prefer, not \"maybe\""
        );
    }
}
