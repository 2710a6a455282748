//! How much work the sets of one owner may be on a host, all together.
//!
//! What one set may take to work out is bounded, but whoever has one set may have hundreds, and a change
//! of a label policy makes work of all of them at once, during which the host does nothing else. So sets
//! of an owner have turns in the order of their numbers, until together they have taken as many steps
//! as an owner may; those that come after go without rows. What each took is remembered, so that who has a
//! turn follows from the rules alone, and neither from what changed last nor from what came first.
//!
//! What several sets have in common, the meaning of a policy, is worked out once, and so it counts once:
//! with hundreds of ports that one policy selects, that is nearly all there is.

use std::collections::{BTreeMap, BTreeSet};

/// So many times what one set may take in one direction, all sets of an owner may.
const SETS: usize = 8;

/// What a set took to work out, in steps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Spent<P> {
    /// For itself.
    pub own: usize,
    /// For what others may have too, each once.
    pub shared: Vec<(P, usize)>,
}

/// What sets took to work out.
#[derive(Debug)]
pub(crate) struct Work<O, P> {
    most: usize,
    owners: BTreeMap<u32, O>,
    /// `None`: those before it had taken all that there is.
    taken: BTreeMap<O, BTreeMap<u32, Option<Spent<P>>>>,
}

impl<O: Ord + Copy, P: Ord + Copy> Work<O, P> {
    /// A set may take so many steps in one direction.
    pub const fn new(steps: usize) -> Self {
        Self { most: steps.saturating_mul(SETS), owners: BTreeMap::new(), taken: BTreeMap::new() }
    }

    /// What all sets of an owner may take, before the last one that has a turn.
    pub const fn most(&self) -> usize {
        self.most
    }

    /// These sets changed, or are gone. Has those worked out whose turn it is, by `work_out`, which says what it
    /// took: changed ones, and others that had none before. Returns those that have none: changed ones, and
    /// others that had one before.
    pub fn turns(
        &mut self,
        changed: &BTreeSet<u32>,
        owner: impl Fn(u32) -> Option<O>,
        mut work_out: impl FnMut(u32) -> Spent<P>,
    ) -> Vec<u32> {
        let mut owners = BTreeSet::new();
        for set in changed {
            if let Some(before) = self.owners.remove(set) {
                owners.insert(before);
                self.taken.entry(before).or_default().remove(set);
            }
            if let Some(now) = owner(*set) {
                owners.insert(now);
                self.owners.insert(*set, now);
                self.taken.entry(now).or_default().insert(*set, None);
            }
        }
        let mut without = Vec::new();
        for owner in owners {
            let (mut all, mut counted) = (0_usize, BTreeSet::new());
            for (set, taken) in self.taken.entry(owner).or_default() {
                if all >= self.most {
                    if taken.take().is_some() || changed.contains(set) {
                        without.push(*set);
                    }
                } else {
                    let spent = taken.get_or_insert_with(|| work_out(*set));
                    let shared = spent.shared.iter().filter(|(what, _)| counted.insert(*what)).map(|(_, steps)| *steps);
                    all = shared.fold(all.saturating_add(spent.own), usize::saturating_add);
                }
            }
            if self.taken.get(&owner).is_some_and(BTreeMap::is_empty) {
                self.taken.remove(&owner);
            }
        }
        without
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which sets are worked out, and which go without; each takes as many steps as `takes` says.
    fn turns(work: &mut Work<u32, u32>, changed: &[u32], takes: &BTreeMap<u32, usize>) -> (Vec<u32>, Vec<u32>) {
        let mut worked = Vec::new();
        let owner = |set: u32| takes.contains_key(&set).then_some(set / 100);
        let without = work.turns(&changed.iter().copied().collect(), owner, |set| {
            worked.push(set);
            Spent { own: takes[&set], shared: vec![] }
        });
        (worked, without)
    }

    #[test]
    fn what_sets_have_in_common_counts_once() {
        let mut work: Work<u32, char> = Work::new(10);
        let changed = (0..100).collect();
        // 10 for the first policy and as many for the second; 3 for each of 20 sets are the rest of 80.
        let spent = |set: u32| Spent { own: 3, shared: vec![('a', 10), (if set < 10 { 'a' } else { 'b' }, 10)] };
        let without = work.turns(&changed, |_| Some(7), spent);
        assert_eq!(without, (20..100).collect::<Vec<_>>());
    }

    #[test]
    fn sets_of_an_owner_have_turns_by_their_numbers_until_they_took_too_much() {
        let (mut work, mut takes) = (Work::new(10), BTreeMap::new());
        takes.extend((0..20).map(|set| (set, 10)));
        takes.insert(100, 5);
        let all: Vec<u32> = takes.keys().copied().collect();
        let first: Vec<u32> = (0..8).chain([100]).collect();
        assert_eq!(turns(&mut work, &all, &takes), (first, (8..20).collect()), "another owner has turns of its own");
        // Whatever comes first, the same sets have one.
        let mut work = Work::new(10);
        assert_eq!(turns(&mut work, &all[10..20], &takes), ((10..18).collect(), vec![18, 19]));
        assert_eq!(turns(&mut work, &all[..10], &takes), ((0..8).collect(), (8..18).collect()));
    }

    #[test]
    fn a_set_that_takes_less_or_goes_leaves_its_turn_to_others() {
        let (mut work, mut takes) = (Work::new(10), BTreeMap::new());
        takes.extend((0..10).map(|set| (set, 10)));
        turns(&mut work, &(0..10).collect::<Vec<_>>(), &takes);
        takes.insert(3, 0);
        assert_eq!(turns(&mut work, &[3], &takes), (vec![3, 8], vec![]));
        takes.remove(&5);
        assert_eq!(turns(&mut work, &[5], &takes), (vec![9], vec![]));
        takes.insert(0, 30);
        assert_eq!(turns(&mut work, &[0], &takes), (vec![0], vec![8, 9]));
        for set in 0..10 {
            takes.remove(&set);
            turns(&mut work, &[set], &takes);
        }
        assert!(work.taken.is_empty() && work.owners.is_empty());
    }
}
