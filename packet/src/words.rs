//! Headers in units of 16 bits.
//!
//! The BPF back end reads memory of unknown alignment byte by byte, and puts the bytes together
//! with shifts: several hundred instructions for the headers of one packet, half of its cost.
//! Frames begin at even addresses, and every header begins at an even place of its frame; so
//! headers are read two bytes at a time, which is sound on every machine.

/// `2 * N` bytes as they stand in memory. Places count bytes, and are constants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct Words<const N: usize>(pub [u16; N]);

impl<const N: usize> Words<N> {
    /// One byte.
    #[inline(always)]
    pub const fn byte(&self, at: usize) -> u8 {
        let word = self.0[at / 2].to_le();
        if at.is_multiple_of(2) { word as u8 } else { (word >> 8) as u8 }
    }

    /// Two bytes at an even place, in network order.
    #[inline(always)]
    pub const fn short(&self, at: usize) -> u16 {
        u16::from_be(self.0[at / 2])
    }

    /// Four bytes at an even place.
    #[inline(always)]
    pub const fn four(&self, at: usize) -> [u8; 4] {
        let (low, high) = (self.0[at / 2].to_le(), self.0[at / 2 + 1].to_le());
        ((high as u32) << 16 | low as u32).to_le_bytes()
    }

    /// Is this MAC at an even place?
    #[inline(always)]
    pub const fn is_mac(&self, at: usize, mac: &[u8; 6]) -> bool {
        let at = at / 2;
        self.0[at] == u16::from_ne_bytes([mac[0], mac[1]])
            && self.0[at + 1] == u16::from_ne_bytes([mac[2], mac[3]])
            && self.0[at + 2] == u16::from_ne_bytes([mac[4], mac[5]])
    }
}

#[cfg(test)]
mod tests {
    use crate::Packet;

    #[test]
    fn words_are_the_bytes_in_order() {
        let bytes = [1u8, 2, 3, 4, 5, 6, 7, 8, 9];
        let words = bytes[..].words::<3>(2).unwrap();
        assert_eq!((words.byte(0), words.byte(1), words.byte(5)), (3, 4, 8));
        assert_eq!((words.short(0), words.short(4)), (0x0304, 0x0708));
        assert_eq!((words.four(0), words.four(2)), ([3, 4, 5, 6], [5, 6, 7, 8]));
        assert!(words.is_mac(0, &[3, 4, 5, 6, 7, 8]));
        for at in 0..6 {
            let mut other = [3, 4, 5, 6, 7, 8];
            other[at] ^= 1;
            assert!(!words.is_mac(0, &other), "byte {at}");
        }
        assert_eq!(bytes[..].words::<4>(2), None, "the last byte is not there");
    }
}
