//! Into how many ranges of slots a subnet is cut.
//!
//! A subnet's addresses hash to 4,096 slots, aligned ranges of which are shards. Their number
//! doubles when a shard would hold more than the setting on average, and never shrinks here: a
//! merge would ask hosts to take what they do not hold, for no gain that anyone could measure.

use mizar_abi::hash::slots_of;

/// 2^12 shards of one slot: no subnet is cut finer.
pub const MAX_LOG2: u8 = 12;

/// Shards for so many ports, as a power of two: the least number at which a shard holds at most
/// `per_shard` on average, and never fewer than there are.
pub fn log2(ports: u64, per_shard: u32, current: u8) -> u8 {
    let per_shard = u64::from(per_shard.max(1));
    let needed = (0..MAX_LOG2).find(|log2| ports <= per_shard << log2).unwrap_or(MAX_LOG2);
    needed.max(current.min(MAX_LOG2))
}

/// The power of two whose shards are ranges like `lo..=hi`; `None` if it is no shard's range.
pub fn log2_of_range(lo: u16, hi: u16) -> Option<u8> {
    (0..=MAX_LOG2).find(|log2| {
        let width = 1u32 << (MAX_LOG2 - log2);
        u32::from(hi) + 1 == u32::from(lo) + width && u32::from(lo).is_multiple_of(width) && hi < mizar_abi::SLOTS
    })
}

/// All ranges of a subnet cut into `2^log2` shards, in order.
pub fn ranges(log2: u8) -> impl Iterator<Item = (u16, u16)> {
    let log2 = log2.min(MAX_LOG2);
    (0..1u16 << log2).map(move |shard| slots_of(shard, log2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subnet_splits_only_when_a_shard_would_exceed_the_setting() {
        assert_eq!([0, 1, 250, 251, 500, 501, 1_000_000].map(|ports| log2(ports, 250, 0)), [0, 0, 0, 1, 1, 2, 12]);
    }

    #[test]
    fn a_subnet_never_merges() {
        assert_eq!(log2(0, 250, 3), 3);
        assert_eq!(log2(0, 250, 200), MAX_LOG2);
    }

    #[test]
    fn a_setting_of_zero_counts_as_one() {
        assert_eq!(log2(4, 0, 0), 2);
    }

    #[test]
    fn every_range_of_a_cut_names_its_cut() {
        for cut in 0..=MAX_LOG2 {
            assert!(ranges(cut).all(|(lo, hi)| log2_of_range(lo, hi) == Some(cut)));
        }
        assert_eq!([log2_of_range(1, 2), log2_of_range(5, 4), log2_of_range(2048, 4096)], [None; 3]);
    }
}
