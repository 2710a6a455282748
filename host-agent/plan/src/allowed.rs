//! Sets of (protocol, number), and the fewest prefixes that cover them.
//!
//! A number is what a rule's interval is of: a destination port, or type and code of ICMP. The
//! kernel finds what a packet may do by one longest-prefix lookup, so an interval becomes prefixes
//! of 16 bits, at most 30 of them; intervals that touch or overlap are one interval first.

use std::collections::BTreeMap;

/// What may pass. Equal sets are equal values.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Allowed {
    /// Everything; then `protocols` is empty.
    everything: bool,
    /// Intervals by protocol, in order, that neither meet nor touch.
    protocols: BTreeMap<u8, Vec<(u16, u16)>>,
}

/// A prefix over protocol and number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cover {
    /// Every protocol.
    Everything,
    /// Of a protocol the numbers that begin like this.
    Numbers {
        /// The protocol.
        protocol: u8,
        /// The first of them.
        number: u16,
        /// Bits that count, 0 to 16.
        bits: u32,
    },
}

impl Allowed {
    /// Whether nothing may pass.
    pub fn is_empty(&self) -> bool {
        !self.everything && self.protocols.is_empty()
    }

    /// Adds an interval; `None` = all protocols.
    pub fn add(&mut self, protocol: Option<u8>, first: u16, last: u16) {
        let Some(protocol) = protocol else {
            *self = Self { everything: true, protocols: BTreeMap::new() };
            return;
        };
        if self.everything || first > last {
            return;
        }
        let intervals = self.protocols.entry(protocol).or_default();
        let (mut first, mut last) = (first, last);
        intervals.retain(|&(lo, hi)| {
            let apart = u32::from(hi) + 1 < u32::from(first) || u32::from(last) + 1 < u32::from(lo);
            if !apart {
                first = first.min(lo);
                last = last.max(hi);
            }
            apart
        });
        let place = intervals.partition_point(|&(lo, _)| lo < first);
        intervals.insert(place, (first, last));
    }

    /// Adds everything that another allows.
    pub fn join(&mut self, other: &Self) {
        if other.everything {
            self.add(None, 0, u16::MAX);
        }
        if self.everything {
            return;
        }
        for (protocol, intervals) in &other.protocols {
            let own = self.protocols.entry(*protocol).or_default();
            // One after the other, and not each into its place: both may be long.
            let mut both = std::mem::take(own);
            both.extend(intervals);
            // Two runs in order, which this sort merges.
            both.sort();
            for (first, last) in both {
                match own.last_mut() {
                    Some((_, end)) if u32::from(first) <= u32::from(*end) + 1 => *end = last.max(*end),
                    _ => own.push((first, last)),
                }
            }
        }
    }

    /// How many intervals there are.
    pub fn len(&self) -> usize {
        usize::from(self.everything) + self.protocols.values().map(Vec::len).sum::<usize>()
    }

    /// Whether it allows everything that another does.
    pub fn covers(&self, other: &Self) -> bool {
        let holds = |protocol: u8, (first, last): (u16, u16)| {
            let own = self.protocols.get(&protocol);
            // Of those that begin no later the last one, for they do not touch.
            let before = own.and_then(|own| own.get(..own.partition_point(|&(lo, _)| lo <= first))?.last());
            before.is_some_and(|&(_, hi)| last <= hi)
        };
        let mut all = other.protocols.iter().flat_map(|(protocol, all)| all.iter().map(move |one| (*protocol, *one)));
        self.everything || (!other.everything && all.all(|(protocol, interval)| holds(protocol, interval)))
    }

    /// The fewest prefixes.
    pub fn covering(&self) -> impl Iterator<Item = Cover> + '_ {
        let everything = self.everything.then_some(Cover::Everything);
        let numbers = self.protocols.iter().flat_map(|(protocol, intervals)| {
            let prefixes = intervals.iter().flat_map(|&(first, last)| prefixes(first, last));
            prefixes.map(|(number, bits)| Cover::Numbers { protocol: *protocol, number, bits })
        });
        everything.into_iter().chain(numbers)
    }

    /// One word for each interval: equal sets have equal words.
    pub fn words(&self) -> impl Iterator<Item = u64> + '_ {
        let everything = self.everything.then_some(1 << 63);
        let intervals = self.protocols.iter().flat_map(|(protocol, intervals)| {
            let word = |(first, last): &(u16, u16)| u64::from(*first) << 16 | u64::from(*last);
            intervals.iter().map(move |interval| u64::from(*protocol) << 32 | word(interval))
        });
        everything.into_iter().chain(intervals)
    }
}

/// The fewest prefixes that cover an interval: always the largest aligned block that begins at the
/// first number left and does not reach beyond the last.
fn prefixes(first: u16, last: u16) -> impl Iterator<Item = (u16, u32)> {
    let end = u32::from(last) + 1;
    let mut at = u32::from(first);
    std::iter::from_fn(move || {
        let left = end.checked_sub(at).filter(|left| *left > 0)?;
        let size = at.trailing_zeros().min(left.ilog2()).min(16);
        let number = u16::try_from(at).ok()?;
        at += 1 << size;
        Some((number, 16 - size))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_interval_becomes_its_aligned_blocks() {
        let of = |first, last| prefixes(first, last).collect::<Vec<_>>();
        assert_eq!(of(0, 65535), [(0, 0)]);
        assert_eq!(of(80, 80), [(80, 16)]);
        assert_eq!(of(1, 4), [(1, 16), (2, 15), (4, 16)]);
        assert_eq!(of(65535, 65535), [(65535, 16)]);
        assert_eq!(of(1, 65534).len(), 30, "the worst case");
    }

    fn made_of(intervals: &[(Option<u8>, u16, u16)]) -> Allowed {
        let mut all = Allowed::default();
        for (protocol, first, last) in intervals {
            all.add(*protocol, *first, *last);
        }
        all
    }

    fn matches(cover: Cover, of: u8, asked: u16) -> bool {
        match cover {
            Cover::Everything => true,
            Cover::Numbers { protocol, number, bits } => {
                protocol == of && (bits == 0 || (asked ^ number) >> (16 - bits) == 0)
            }
        }
    }

    fn intervals() -> impl Strategy<Value = Vec<(Option<u8>, u16, u16)>> {
        // Narrow, so that intervals meet and touch; and the end of the numbers.
        let number = prop_oneof![0u16..40, 65500u16..=65535];
        let one = (prop::option::weighted(0.97, 6u8..8), number.clone(), number);
        prop::collection::vec(one.prop_map(|(protocol, a, b)| (protocol, a.min(b), a.max(b))), 0..8)
    }

    proptest! {
        #[test]
        fn prefixes_cover_what_was_added_and_nothing_else(a in intervals(), b in intervals()) {
            let (one, other) = (made_of(&a), made_of(&b));
            let mut both = one.clone();
            both.join(&other);
            prop_assert_eq!(&both, &made_of(&[a.clone(), b.clone()].concat()), "the order means nothing");
            let holds = |all: &[(Option<u8>, u16, u16)], of: u8, asked: u16| {
                all.iter().any(|(p, first, last)| p.is_none_or(|p| p == of && (*first..=*last).contains(&asked)))
            };
            let mut covered = true;
            for of in 5..9u8 {
                for asked in (0..50).chain(65490..=65535) {
                    let count = one.covering().filter(|cover| matches(*cover, of, asked)).count();
                    prop_assert_eq!(count == 1, holds(&a, of, asked), "{} {}", of, asked);
                    prop_assert!(count <= 1, "two prefixes for one number");
                    covered &= !holds(&b, of, asked) || holds(&a, of, asked);
                }
            }
            // What was asked about is all that can differ.
            prop_assert_eq!(one.covers(&other), covered);
        }
    }
}
