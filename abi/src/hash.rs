//! SipHash with a chosen number of rounds, for slots (1-3), paths (1-3) and tags (2-4).
//!
//! Source: Aumasson and Bernstein, "SipHash: a fast short-input PRF" (2012). Written out here
//! because the same bits must come from the kernel programs, the agent and the scheduler, and
//! because a verifier wants loops of constant length over whole words.

use crate::{Address, SLOTS};

/// The running state of a SipHash over whole 64-bit words.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Sip<const C: usize, const D: usize> {
    v: [u64; 4],
}

/// Slots and path choice: speed before strength, no secret is protected.
pub type Sip13 = Sip<1, 3>;
/// Tags of options: a message authentication code.
pub type Sip24 = Sip<2, 4>;

impl<const C: usize, const D: usize> Sip<C, D> {
    /// Starts with a 16-byte key, read little-endian as the reference does.
    #[inline(always)]
    pub fn new(key: &[u8; 16]) -> Self {
        // In halves: a key in a map is aligned to four bytes.
        let half = |at: usize| u32::from_le_bytes([key[at], key[at + 1], key[at + 2], key[at + 3]]) as u64;
        let (k0, k1) = (half(0) | half(4) << 32, half(8) | half(12) << 32);
        Self {
            v: [
                k0 ^ 0x736f_6d65_7073_6575,
                k1 ^ 0x646f_7261_6e64_6f6d,
                k0 ^ 0x6c79_6765_6e65_7261,
                k1 ^ 0x7465_6462_7974_6573,
            ],
        }
    }

    #[inline(always)]
    fn round(&mut self) {
        let [mut a, mut b, mut c, mut d] = self.v;
        a = a.wrapping_add(b);
        b = b.rotate_left(13) ^ a;
        a = a.rotate_left(32);
        c = c.wrapping_add(d);
        d = d.rotate_left(16) ^ c;
        a = a.wrapping_add(d);
        d = d.rotate_left(21) ^ a;
        c = c.wrapping_add(b);
        b = b.rotate_left(17) ^ c;
        c = c.rotate_left(32);
        self.v = [a, b, c, d];
    }

    /// Adds eight bytes of the message, as a little-endian word.
    #[inline(always)]
    pub fn word(mut self, m: u64) -> Self {
        self.v[3] ^= m;
        let mut i = 0;
        while i < C {
            self.round();
            i += 1;
        }
        self.v[0] ^= m;
        self
    }

    /// Ends a message of `len` bytes, all of them added as whole words, the tail (0 to 7 bytes)
    /// in `last`, little-endian.
    #[inline(always)]
    pub fn finish(self, len: u64, last: u64) -> u64 {
        let mut s = self.word((len << 56) | last);
        s.v[2] ^= 0xff;
        let mut i = 0;
        while i < D {
            s.round();
            i += 1;
        }
        s.v[0] ^ s.v[1] ^ s.v[2] ^ s.v[3]
    }
}

/// A number whose bits all depend on all of the given one, and no two alike (the finalizer of MurmurHash3).
#[inline(always)]
pub const fn mixed(number: u32) -> u32 {
    let mut h = number ^ number >> 16;
    h = h.wrapping_mul(0x85eb_ca6b);
    h ^= h >> 13;
    h = h.wrapping_mul(0xc2b2_ae35);
    h ^ h >> 16
}

/// Key of the slot hash. Fixed for ever: entries are stored by slot.
const SLOT_KEY: [u8; 16] = *b"mizar slot hash.";

/// The slot, 0 to 4,095, of an address in a subnet: the top 12 bits of SipHash-1-3 over the
/// subnet's number (u32, little-endian) and the 16 bytes of the address.
#[inline(always)]
pub fn slot(subnet: u32, address: &Address) -> u16 {
    let a = address;
    let low = u32::from_le_bytes([a[0], a[1], a[2], a[3]]) as u64;
    let mid = u64::from_le_bytes([a[4], a[5], a[6], a[7], a[8], a[9], a[10], a[11]]);
    let high = u32::from_le_bytes([a[12], a[13], a[14], a[15]]) as u64;
    let h = Sip13::new(&SLOT_KEY).word(subnet as u64 | (low << 32)).word(mid).finish(20, high);
    (h >> 52) as u16 & (SLOTS - 1)
}

/// The shard, of `2^log2` in a subnet, that holds a slot. Shards are aligned ranges of slots.
#[inline(always)]
pub const fn shard_of(slot: u16, log2: u8) -> u16 {
    if log2 >= 12 { slot } else { slot >> (12 - log2) }
}

/// First and last slot of a shard.
pub const fn slots_of(shard: u16, log2: u8) -> (u16, u16) {
    let shift = 12u8.saturating_sub(log2);
    (shard << shift, (shard << shift) | ((1 << shift) - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Vectors of the reference implementation: key 00..0f, messages of 00 01 02 ... .
    #[test]
    fn siphash_2_4_equals_the_reference_vectors() {
        let key: [u8; 16] = core::array::from_fn(|i| i as u8);
        assert_eq!(Sip24::new(&key).finish(0, 0), 0x726f_db47_dd0e_0e31);
        assert_eq!(Sip24::new(&key).finish(1, 0), 0x74f8_39c5_93dc_67fd);
        let m: [u8; 8] = core::array::from_fn(|i| i as u8);
        assert_eq!(Sip24::new(&key).word(u64::from_le_bytes(m)).finish(8, 0), 0x93f5_f579_9a93_2462);
        assert_eq!(
            Sip24::new(&key).word(u64::from_le_bytes(m)).finish(15, u64::from_le_bytes([8, 9, 10, 11, 12, 13, 14, 0])),
            0xa129_ca61_49be_45e5
        );
    }

    /// Stored entries carry these numbers: a change here needs a recompile of every database.
    #[test]
    fn slots_never_change() {
        let slots = [1u32, 2, 77].map(|s| slot(s, &crate::mapped([10, 0, 0, 5])));
        assert_eq!(slots, SLOT_VECTORS);
    }
    const SLOT_VECTORS: [u16; 3] = [654, 3078, 501];

    #[test]
    fn shards_are_aligned_ranges_that_cover_all_slots() {
        for log2 in 0..=12u8 {
            let mut next = 0;
            for shard in 0..1u16 << log2 {
                let (lo, hi) = slots_of(shard, log2);
                assert_eq!(lo, next);
                assert!((lo..=hi).all(|s| shard_of(s, log2) == shard));
                next = hi + 1;
            }
            assert_eq!(next, SLOTS);
        }
    }
}
