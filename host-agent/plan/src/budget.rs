//! How much of POLICY and CIDR a network may have on a host, and who of those that share it.
//!
//! The rows of a set are its rules times the sets that these name, so a tenant can write few rules
//! that come to a great many rows, and the maps are shared. Each network has a budget on every host,
//! and all networks together have one that leaves an eighth of the maps free, for rows are written
//! before others are removed. Where more is needed than may be had, whoever needs little has it, and
//! the others have equal shares; the largest sets of a share go without rows: nothing passes, and the
//! agent reports why. A set that several networks use stays where any of them has room for it.
//!
//! Hosts know networks, not projects; how many networks a project may have is a quota. In a network
//! that projects share each is known by its sets' owner ([`crate::filters::Filters::owner`]).

use std::collections::{BTreeMap, BTreeSet};

/// An eighth of POLICY.
pub(crate) const DEFAULT: usize = 131_072;

/// Networks whose budgets together are what all may have.
const NETWORKS: usize = 7;

/// Steps to work out what a set may do for each row that its network may have.
const STEPS: usize = 4;

/// What a class of addresses costs, for CIDR is a quarter of POLICY.
pub(crate) const CLASS: usize = 4;

/// What sets need, and which may have it.
#[derive(Debug)]
pub(crate) struct Budget {
    most: usize,
    needs: BTreeMap<u32, usize>,
    total: usize,
    refused: BTreeSet<u32>,
}

impl Budget {
    /// Every network may have so many rows, and all together those of [`NETWORKS`].
    pub fn new(most: usize) -> Self {
        Self { most, needs: BTreeMap::new(), total: 0, refused: BTreeSet::new() }
    }

    /// What a network may have, and so a set.
    pub const fn most(&self) -> usize {
        self.most
    }

    /// What all networks may have together.
    pub const fn together(&self) -> usize {
        self.most.saturating_mul(NETWORKS)
    }

    /// Steps that it may take to work out the rows of a set in one direction.
    pub const fn steps(&self) -> usize {
        self.most.saturating_mul(STEPS)
    }

    /// A set needs so many rows now.
    pub fn need(&mut self, set: u32, rows: usize) {
        let before = match rows {
            0 => self.needs.remove(&set),
            rows => self.needs.insert(set, rows),
        };
        self.total = self.total + rows - before.unwrap_or(0);
    }

    /// Decides anew, given the networks that use each set, and its owner. Returns the sets about which
    /// it is decided otherwise now.
    pub fn decide<N: Iterator<Item = u32>, O: Ord>(
        &mut self,
        networks: impl Fn(u32) -> N,
        owner: impl Fn(u32) -> O,
    ) -> Vec<u32> {
        let refused = if self.total <= self.most { BTreeSet::new() } else { self.beyond(networks, owner) };
        let changed = self.refused.symmetric_difference(&refused).copied().collect();
        self.refused = refused;
        changed
    }

    fn beyond<N: Iterator<Item = u32>, O: Ord>(
        &self,
        networks: impl Fn(u32) -> N,
        owner: impl Fn(u32) -> O,
    ) -> BTreeSet<u32> {
        let mut of_network: BTreeMap<u32, BTreeMap<O, Vec<Need>>> = BTreeMap::new();
        for (set, rows) in &self.needs {
            for network in networks(*set) {
                of_network.entry(network).or_default().entry(owner(*set)).or_default().push((*rows, *set));
            }
        }
        // A set is there once, however many networks use it: it is told of the first that has room for it.
        let (mut seen, mut by_network) = (BTreeSet::new(), Vec::new());
        for owners in of_network.into_values() {
            let granted = share(self.most, owners.into_values().collect());
            by_network.push(granted.into_iter().filter(|(_, set)| seen.insert(*set)).collect());
        }
        let granted = share(self.together(), by_network);
        let granted: BTreeSet<u32> = granted.into_iter().map(|(_, set)| set).collect();
        self.needs.keys().filter(|set| !granted.contains(set)).copied().collect()
    }

    /// Why a set has no rows; `None` = it may have them.
    pub fn refusal(&self, set: u32) -> Option<String> {
        let rows = self.needs.get(&set).filter(|_| self.refused.contains(&set))?;
        let most = self.most;
        Some(format!(
            "needs {rows} rows of policy, for which the {most} of its network on this host, or those of all networks, \
             leave no room"
        ))
    }
}

/// What a set needs, and its number.
type Need = (usize, u32);

/// The sets that have room, of those of each party: the smallest of its equal share, and of what is left
/// of all shares the smallest of all.
fn share(room: usize, mut parties: Vec<Vec<Need>>) -> Vec<Need> {
    let needs = parties.iter().map(|sets| sets.iter().map(|(rows, _)| rows).sum());
    let most = level(room, needs.collect());
    let (mut left, mut granted, mut rest) = (room, Vec::new(), Vec::new());
    for sets in &mut parties {
        sets.sort_unstable();
        let mut own = most;
        let fits = |(rows, _): &&Need| own.checked_sub(*rows).map(|less| own = less).is_some();
        let (inside, beyond) = sets.split_at(sets.iter().take_while(fits).count());
        left -= inside.iter().map(|(rows, _)| rows).sum::<usize>();
        granted.extend(inside);
        rest.extend(beyond);
    }
    rest.sort_unstable();
    let fits = |(rows, _): &Need| left.checked_sub(*rows).map(|less| left = less).is_some();
    granted.extend(rest.into_iter().take_while(fits));
    granted
}

/// The most that any may have if those that need less have that, and all together no more than there is.
fn level(room: usize, mut needs: Vec<usize>) -> usize {
    needs.sort_unstable();
    let mut left = room;
    for (place, need) in needs.iter().enumerate() {
        let share = left / (needs.len() - place);
        if *need > share {
            return share;
        }
        left -= need;
    }
    room
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sets below 10 are in network 1, the others in network 2, and set 5 in both.
    fn networks(set: u32) -> impl Iterator<Item = u32> {
        let (one, two) = (set < 10, set >= 10 || set == 5);
        [one.then_some(1), two.then_some(2)].into_iter().flatten()
    }

    /// Of each network the odd ones, and the even ones.
    fn owner(set: u32) -> u32 {
        set % 2
    }

    fn decide(budget: &mut Budget) -> Vec<u32> {
        budget.decide(networks, owner)
    }

    fn refused(budget: &Budget) -> Vec<u32> {
        (0..20).filter(|set| budget.refusal(*set).is_some()).collect()
    }

    #[test]
    fn the_largest_sets_of_a_network_that_needs_too_much_go_without() {
        let mut budget = Budget::new(100);
        for (set, rows) in [(1, 60), (7, 50), (3, 10), (11, 100)] {
            budget.need(set, rows);
        }
        assert_eq!(decide(&mut budget), [1]);
        assert_eq!(refused(&budget), [1], "the other network has a budget of its own");
        budget.need(7, 0);
        assert_eq!(decide(&mut budget), [1], "there is room again");
        assert!(refused(&budget).is_empty());
    }

    #[test]
    fn a_set_of_two_networks_stays_where_either_has_room_for_it() {
        let mut budget = Budget::new(100);
        budget.need(1, 90);
        budget.need(5, 95);
        assert!(decide(&mut budget).is_empty());
        budget.need(11, 10);
        decide(&mut budget);
        assert_eq!(refused(&budget), [5]);
    }

    #[test]
    fn many_small_sets_of_one_owner_leave_another_its_share_of_a_network() {
        let mut budget = Budget::new(100);
        (1..10).step_by(2).filter(|set| *set != 5).for_each(|set| budget.need(set, 30));
        budget.need(2, 50);
        decide(&mut budget);
        assert_eq!(refused(&budget), [3, 7, 9], "half of it is the other's");
        budget.need(2, 20);
        decide(&mut budget);
        assert_eq!(refused(&budget), [7, 9], "who needs less leaves the rest");
        budget.need(2, 70);
        decide(&mut budget);
        assert_eq!(refused(&budget), [2, 9], "what nobody's share has room for is the smallest ones'");
    }

    /// What is refused where every set has a network of its own.
    fn apart(needs: &[(u32, usize)]) -> Vec<u32> {
        let mut budget = Budget::new(100);
        needs.iter().for_each(|(set, rows)| budget.need(*set, *rows));
        budget.decide(|set| std::iter::once(set / 10), |_| ())
    }

    #[test]
    fn all_networks_together_leave_room_and_those_that_need_much_give_it() {
        let seven: Vec<(u32, usize)> = (1..=7).map(|network| (network * 10, 100)).collect();
        assert!(apart(&seven).is_empty());
        // Six of 100, one of two of 50, and one of 20.
        let more: Vec<_> = [&seven[..6], &[(70, 50), (71, 50), (80, 20)]].concat();
        let refused = apart(&more);
        assert_eq!(refused, [60], "in shares of 97 six have no room; five of them in what is left");
    }

    #[test]
    fn a_set_that_many_networks_use_is_counted_once() {
        let mut budget = Budget::new(100);
        budget.need(1, 60);
        budget.need(2, 60);
        let networks = |set: u32| (0..50).map(move |network| network * 2 + set % 2);
        assert!(budget.decide(networks, |_| ()).is_empty());
    }

    #[test]
    fn levels_leave_nothing_that_somebody_needs() {
        assert_eq!(level(100, vec![10, 20, 30]), 100);
        assert_eq!(level(100, vec![10, 60, 60]), 45);
        assert_eq!(level(100, vec![50, 51]), 50);
        assert_eq!(level(0, vec![1]), 0);
        assert_eq!(level(7, vec![]), 7);
    }
}
