//! Virtual network identifiers.

use rand::RngExt;
use std::fmt;

/// The number of a network on the wire: 24 bits in Geneve (RFC 8926, section 3.4). Numbers below
/// 4,096 are left to networks that operators may map to VLANs by hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Vni(u32);

/// A number that no network can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not between {min} and {max}", min = Vni::MIN, max = Vni::MAX)]
pub struct VniError(pub i64);

impl Vni {
    /// The lowest.
    pub const MIN: u32 = 4096;
    /// The highest.
    pub const MAX: u32 = (1 << 24) - 1;

    /// Checks and wraps.
    pub fn new(number: i64) -> Result<Self, VniError> {
        match u32::try_from(number) {
            Ok(vni @ Self::MIN..=Self::MAX) => Ok(Self(vni)),
            _ => Err(VniError(number)),
        }
    }

    /// A random one. The database's UNIQUE says whether it is free; with a million networks one
    /// draw in sixteen is not, so callers draw again.
    pub fn random() -> Self {
        Self(rand::rng().random_range(Self::MIN..=Self::MAX))
    }

    /// The number.
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Vni {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_24_bits_above_the_reserved_range_make_a_vni() {
        for refused in [i64::MIN, -1, 0, 4095, 1 << 24, i64::MAX] {
            assert_eq!(Vni::new(refused), Err(VniError(refused)));
        }
        for taken in [4096, (1 << 24) - 1] {
            assert_eq!(Vni::new(taken).map(|vni| i64::from(vni.get())), Ok(taken));
        }
    }
}
