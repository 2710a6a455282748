//! How much of POLICY and CIDR a network may have on a host.
//!
//! The rows of a set are its rules times the sets that these name, so a tenant can write few rules
//! that come to a great many rows, and the maps are shared. Each network has a budget on every host;
//! of a network whose sets need more together, the largest sets go without rows: nothing passes, and
//! the agent reports why. A set that several networks use stays where any of them has room for it.
//!
//! Hosts know networks, not projects; how many networks a project may have is a quota.

use std::collections::{BTreeMap, BTreeSet};

/// An eighth of POLICY.
pub(crate) const DEFAULT: usize = 131_072;

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
    /// Every network may have so many rows.
    pub fn new(most: usize) -> Self {
        Self { most, needs: BTreeMap::new(), total: 0, refused: BTreeSet::new() }
    }

    /// A set needs so many rows now.
    pub fn need(&mut self, set: u32, rows: usize) {
        let before = match rows {
            0 => self.needs.remove(&set),
            rows => self.needs.insert(set, rows),
        };
        self.total = self.total + rows - before.unwrap_or(0);
    }

    /// Decides anew, given the networks that use each set. Returns the sets about which it is
    /// decided otherwise now.
    pub fn decide<N: Iterator<Item = u32>>(&mut self, networks: impl Fn(u32) -> N) -> Vec<u32> {
        let refused = if self.total <= self.most { BTreeSet::new() } else { self.beyond(networks) };
        let changed = self.refused.symmetric_difference(&refused).copied().collect();
        self.refused = refused;
        changed
    }

    fn beyond<N: Iterator<Item = u32>>(&self, networks: impl Fn(u32) -> N) -> BTreeSet<u32> {
        let mut of_network: BTreeMap<u32, Vec<(usize, u32)>> = BTreeMap::new();
        for (set, rows) in &self.needs {
            for network in networks(*set) {
                of_network.entry(network).or_default().push((*rows, *set));
            }
        }
        let mut granted = BTreeSet::new();
        for mut sets in of_network.into_values() {
            sets.sort_unstable();
            let mut left = self.most;
            for (rows, set) in sets {
                let Some(rest) = left.checked_sub(rows) else { break };
                left = rest;
                granted.insert(set);
            }
        }
        self.needs.keys().filter(|set| !granted.contains(set)).copied().collect()
    }

    /// Why a set has no rows; `None` = it may have them.
    pub fn refusal(&self, set: u32) -> Option<String> {
        let rows = self.needs.get(&set).filter(|_| self.refused.contains(&set))?;
        let most = self.most;
        Some(format!("needs {rows} rows of policy, for which the {most} of its network on this host leave no room"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sets below 10 are in network 1, the others in network 2, and set 5 in both.
    fn networks(set: u32) -> impl Iterator<Item = u32> {
        let (one, two) = (set < 10, set >= 10 || set == 5);
        [one.then_some(1), two.then_some(2)].into_iter().flatten()
    }

    fn refused(budget: &Budget) -> Vec<u32> {
        (0..20).filter(|set| budget.refusal(*set).is_some()).collect()
    }

    #[test]
    fn the_largest_sets_of_a_network_that_needs_too_much_go_without() {
        let mut budget = Budget::new(100);
        for (set, rows) in [(1, 60), (2, 50), (3, 10), (11, 100)] {
            budget.need(set, rows);
        }
        assert_eq!(budget.decide(networks), [1]);
        assert_eq!(refused(&budget), [1], "the other network has a budget of its own");
        budget.need(2, 0);
        assert_eq!(budget.decide(networks), [1], "there is room again");
        assert!(refused(&budget).is_empty());
    }

    #[test]
    fn a_set_of_two_networks_stays_where_either_has_room_for_it() {
        let mut budget = Budget::new(100);
        budget.need(1, 90);
        budget.need(5, 95);
        assert!(budget.decide(networks).is_empty());
        budget.need(11, 10);
        budget.decide(networks);
        assert_eq!(refused(&budget), [5]);
    }
}
