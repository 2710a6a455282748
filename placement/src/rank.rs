//! Weighted rendezvous hashing with a fixed hash.
//!
//! A candidate's score is `-log2(u) / weight`, where u in (0, 1) is the hash of (demand,
//! candidate); the lowest score wins. Each candidate then wins in proportion to its weight, and a
//! candidate that comes or goes, or whose weight changes, leaves the order of all others as it
//! was (Schindelhauer and Schomaker, "Weighted distributed hash tables", 2005). The hash is the
//! SipHash-1-3 of `mizar-abi` and the logarithm is computed in integers: the standard library's
//! hasher may change with a release and the C library's `log` with a machine, and a stored
//! placement outlives both.

use mizar_abi::hash::Sip13;
use std::cmp::Ordering;

/// Key of the placement hash. Changing it moves nothing that is stored, but new choices differ.
const KEY: [u8; 16] = *b"mizar placement.";

/// Fraction bits of a logarithm.
const FRACTION: u32 = 32;

/// Hash of a demand, the first half of every score.
pub fn seed(words: [u64; 2]) -> u64 {
    Sip13::new(&KEY).word(words[0]).word(words[1]).finish(16, 0)
}

/// Hash of a name under a parent's hash; the length is part of it.
pub fn name(parent: u64, name: &str) -> u64 {
    let mut sip = Sip13::new(&KEY).word(parent);
    let chunks = name.as_bytes().chunks_exact(8);
    let tail = chunks.remainder();
    for chunk in chunks {
        sip = sip.word(le_word(chunk));
    }
    // Only the low byte of the length fits into SipHash's last word; names that differ by 256
    // bytes differ in their words.
    sip.finish((8 + name.len() as u64) & 0xff, le_word(tail))
}

fn le_word(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |word, byte| (word << 8) | u64::from(*byte))
}

/// A candidate's place in the order for one demand: lower comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Score {
    /// `-log2(u)`, fixed point; at least 1 so that weight always counts.
    log: u64,
    weight: u64,
    /// Separates equal scores.
    tie: u64,
}

impl Score {
    /// Of the candidate with this hash and weight, for the demand with this seed.
    pub fn new(seed: u64, candidate: u64, weight: u64) -> Self {
        let hash = Sip13::new(&KEY).word(seed).word(candidate).finish(16, 0);
        Self { log: minus_log2(hash).max(1), weight: weight.max(1), tie: candidate }
    }
}

impl Ord for Score {
    fn cmp(&self, other: &Self) -> Ordering {
        let left = u128::from(self.log) * u128::from(other.weight);
        let right = u128::from(other.log) * u128::from(self.weight);
        left.cmp(&right).then(self.tie.cmp(&other.tie))
    }
}

impl PartialOrd for Score {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// `-log2((hash + 1) / 2^64)` with [`FRACTION`] bits, by repeated squaring of the mantissa.
fn minus_log2(hash: u64) -> u64 {
    let Some(hash) = hash.checked_add(1) else { return 0 };
    let shift = hash.leading_zeros();
    let mut mantissa = hash << shift;
    let mut fraction = 0u64;
    for _ in 0..FRACTION {
        let square = u128::from(mantissa) * u128::from(mantissa);
        fraction <<= 1;
        mantissa = if square >> 127 == 1 {
            fraction |= 1;
            (square >> 64) as u64
        } else {
            (square >> 63) as u64
        };
    }
    let whole = u64::from(63 - shift);
    (64 << FRACTION) - ((whole << FRACTION) | fraction)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logarithms_agree_with_floating_point() {
        for hash in [0, 1, 2, 1000, u64::MAX / 3, u64::MAX / 2, u64::MAX - 1, u64::MAX, 0x1234_5678_9abc_def0] {
            let expected = 64.0 - ((hash as f64) + 1.0).log2();
            let seen = minus_log2(hash) as f64 / 2f64.powi(FRACTION as i32);
            assert!((seen - expected).abs() < 1e-6, "{hash}: {seen} and {expected}");
        }
    }

    /// New choices of every deployment depend on these: a change here is a change of behaviour.
    #[test]
    fn hashes_never_change() {
        assert_eq!([seed([1, 2]), name(0, ""), name(7, "rack-1"), name(7, "a name longer than eight")], HASH_VECTORS);
    }
    const HASH_VECTORS: [u64; 4] =
        [0xf8eb_7135_4f46_7d8a, 0x10c8_a4f9_f247_c1d1, 0x4204_81b1_ee69_076e, 0xc445_b572_d0f6_84f3];

    #[test]
    fn candidates_win_in_proportion_to_their_weight() {
        let weights = [1u64, 2, 5, 8];
        let mut wins = [0u32; 4];
        for demand in 0..16_000 {
            let best =
                (0..4).min_by_key(|i| Score::new(seed([demand, 0]), *i as u64, weights[*i])).expect("four candidates");
            wins[best] += 1;
        }
        for (weight, wins) in weights.iter().zip(wins) {
            let expected = *weight as f64 * 1000.0;
            assert!((f64::from(wins) - expected).abs() < 4.0 * expected.sqrt(), "weight {weight} won {wins} times");
        }
    }

    #[test]
    fn names_do_not_run_together() {
        assert_ne!(name(name(0, "a"), "bc"), name(name(0, "ab"), "c"));
        assert_ne!(name(0, "a\0"), name(0, "a"));
    }
}
