//! Sets of slots: ranges of 0 to 4,095.

/// The last slot.
pub const LAST: u16 = mizar_domain::model::SLOTS - 1;

/// A set of slots as sorted ranges that neither meet nor touch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Slots(Vec<(u16, u16)>);

impl Slots {
    /// Every slot.
    pub fn all() -> Self {
        Self(vec![(0, LAST)])
    }

    /// The slots from `lo` to `hi`, both included; none if `lo > hi`.
    pub fn range(lo: u16, hi: u16) -> Self {
        if lo > hi { Self::default() } else { Self(vec![(lo, hi)]) }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the slot is one of them.
    pub fn contains(&self, slot: u16) -> bool {
        let after = self.0.partition_point(|&(lo, _)| lo <= slot);
        after > 0 && slot <= self.0[after - 1].1
    }

    /// The ranges, in order.
    pub fn ranges(&self) -> impl Iterator<Item = (u16, u16)> + '_ {
        self.0.iter().copied()
    }

    /// Adds slots; says whether any was new.
    pub fn insert(&mut self, lo: u16, hi: u16) -> bool {
        if lo > hi || self.0.iter().any(|&(l, h)| l <= lo && hi <= h) {
            return false;
        }
        let (mut lo, mut hi) = (lo, hi);
        // Those that meet or touch the new one melt into it.
        self.0.retain(|&(l, h)| {
            let apart = u32::from(h) + 1 < u32::from(lo) || u32::from(hi) + 1 < u32::from(l);
            if !apart {
                lo = lo.min(l);
                hi = hi.max(h);
            }
            apart
        });
        let at = self.0.partition_point(|&(l, _)| l < lo);
        self.0.insert(at, (lo, hi));
        true
    }

    /// Those that are not in `other`.
    pub fn without(&self, other: &Self) -> Self {
        let mut left = Vec::new();
        for &(lo, hi) in &self.0 {
            // Wider than a slot, so that one past the last is a number.
            let mut from = u32::from(lo);
            for &(l, h) in other.0.iter().filter(|&&(l, h)| h >= lo && l <= hi) {
                if u32::from(l) > from {
                    left.push((from as u16, l - 1));
                }
                from = from.max(u32::from(h) + 1);
            }
            if from <= u32::from(hi) {
                left.push((from as u16, hi));
            }
        }
        Self(left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn made_of(ranges: &[(u16, u16)]) -> (Slots, BTreeSet<u16>) {
        let mut slots = Slots::default();
        let mut oracle = BTreeSet::new();
        for &(lo, hi) in ranges {
            let news = (lo..=hi).any(|slot| !oracle.contains(&slot));
            assert_eq!(slots.insert(lo, hi), news);
            oracle.extend(lo..=hi);
        }
        (slots, oracle)
    }

    fn ranges() -> impl Strategy<Value = Vec<(u16, u16)>> {
        // Narrow, so that ranges meet and touch often; the end, so that the last slot is tried.
        let slot = prop_oneof![0u16..40, LAST - 10..=LAST];
        proptest::collection::vec((slot.clone(), slot), 0..12)
    }

    proptest! {
        #[test]
        fn slots_behave_as_a_set_of_numbers(a in ranges(), b in ranges()) {
            let (a, a_oracle) = made_of(&a);
            let (b, b_oracle) = made_of(&b);
            let flat = |slots: &Slots| slots.ranges().flat_map(|(lo, hi)| lo..=hi).collect::<Vec<_>>();
            prop_assert_eq!(flat(&a), a_oracle.iter().copied().collect::<Vec<_>>());
            prop_assert_eq!(flat(&a.without(&b)), a_oracle.difference(&b_oracle).copied().collect::<Vec<_>>());
            for slot in (0..45).chain(LAST - 12..=LAST) {
                prop_assert_eq!(a.contains(slot), a_oracle.contains(&slot));
            }
            prop_assert!(a.0.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0), "ranges meet: {:?}", a);
        }
    }
}
