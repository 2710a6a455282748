//! Which scopes a host receives: its subscriptions, and what these include, transitively.
//!
//! Pure, and used twice: by the ring, whose [`Structure`] follows the tables in memory, and by
//! the readers over SQL, which load one host's part of them.

use super::slots::{LAST, Slots};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// Scopes (as column values) with the slots of each.
pub type Effective = BTreeMap<i64, Slots>;

/// What a subscription's row says of one host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Subscription {
    /// The scope.
    pub scope: i64,
    /// First slot: part of the row's key.
    pub lo: u16,
    /// Last slot.
    pub hi: u16,
    /// Part of the row's key.
    pub role: i16,
}

/// An include's row. `slot` = `None`: the whole scope needs the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IncludeRow {
    /// The scope that needs.
    pub scope: i64,
    /// The slot of it that needs.
    pub slot: Option<u16>,
    /// The scope that is needed, whole.
    pub target: i64,
}

/// Includes by the scope that needs.
pub type Includes = HashMap<i64, BTreeSet<(Option<u16>, i64)>>;

/// Everything that is received through some ranges of scopes.
pub fn effective(ranges: impl IntoIterator<Item = (i64, u16, u16)>, includes: &Includes) -> Effective {
    let mut received = Effective::new();
    let mut grown: Vec<i64> = Vec::new();
    for (scope, lo, hi) in ranges {
        if received.entry(scope).or_default().insert(lo, hi) {
            grown.push(scope);
        }
    }
    while let Some(scope) = grown.pop() {
        let Some(needs) = includes.get(&scope) else { continue };
        let slots = received.get(&scope).cloned().unwrap_or_default();
        for &(slot, target) in needs {
            let needed = slot.is_none_or(|slot| slots.contains(slot));
            if needed && received.entry(target).or_default().insert(0, LAST) {
                grown.push(target);
            }
        }
    }
    received.retain(|_, slots| !slots.is_empty());
    received
}

/// What is in `left` and not in `right`.
pub fn difference(left: &Effective, right: &Effective) -> Effective {
    let rest = left
        .iter()
        .map(|(&scope, slots)| (scope, right.get(&scope).map_or_else(|| slots.clone(), |other| slots.without(other))));
    rest.filter(|(_, slots)| !slots.is_empty()).collect()
}

/// All live subscriptions and includes, indexed both ways.
#[derive(Debug, Default)]
pub struct Structure {
    /// By host, then by the rest of the row's key.
    by_host: HashMap<i32, BTreeMap<(i64, u16, i16), u16>>,
    hosts_of: HashMap<i64, HashSet<i32>>,
    includes: Includes,
    needed_by: HashMap<i64, HashSet<i64>>,
}

impl Structure {
    /// Takes a live subscription over.
    pub fn subscribe(&mut self, host: i32, row: Subscription) {
        self.by_host.entry(host).or_default().insert((row.scope, row.lo, row.role), row.hi);
        self.hosts_of.entry(row.scope).or_default().insert(host);
    }

    /// Forgets a subscription.
    pub fn unsubscribe(&mut self, host: i32, row: Subscription) {
        let Some(rows) = self.by_host.get_mut(&host) else { return };
        rows.remove(&(row.scope, row.lo, row.role));
        let still = rows.keys().any(|&(scope, ..)| scope == row.scope);
        if rows.is_empty() {
            self.by_host.remove(&host);
        }
        if !still && let Some(hosts) = self.hosts_of.get_mut(&row.scope) {
            hosts.remove(&host);
            if hosts.is_empty() {
                self.hosts_of.remove(&row.scope);
            }
        }
    }

    /// Takes a live include over.
    pub fn include(&mut self, row: IncludeRow) {
        self.includes.entry(row.scope).or_default().insert((row.slot, row.target));
        self.needed_by.entry(row.target).or_default().insert(row.scope);
    }

    /// Forgets an include.
    pub fn exclude(&mut self, row: IncludeRow) {
        let Some(needs) = self.includes.get_mut(&row.scope) else { return };
        needs.remove(&(row.slot, row.target));
        let still = needs.iter().any(|&(_, target)| target == row.target);
        if needs.is_empty() {
            self.includes.remove(&row.scope);
        }
        if !still && let Some(scopes) = self.needed_by.get_mut(&row.target) {
            scopes.remove(&row.scope);
            if scopes.is_empty() {
                self.needed_by.remove(&row.target);
            }
        }
    }

    /// What a host receives.
    pub fn effective(&self, host: i32) -> Effective {
        let rows = self.by_host.get(&host).into_iter().flatten();
        effective(rows.map(|(&(scope, lo, _), &hi)| (scope, lo, hi)), &self.includes)
    }

    /// Hosts that may receive a scope, in whichever slots: none too few, perhaps some too many.
    pub fn receivers(&self, scope: i64) -> HashSet<i32> {
        let mut hosts = HashSet::new();
        let mut seen = HashSet::from([scope]);
        let mut left = vec![scope];
        while let Some(scope) = left.pop() {
            hosts.extend(self.hosts_of.get(&scope).into_iter().flatten());
            left.extend(self.needed_by.get(&scope).into_iter().flatten().filter(|&&by| seen.insert(by)));
        }
        hosts
    }

    /// Hosts that receive one slot of a scope directly or the scope through an include.
    pub fn receivers_of_slot(&self, scope: i64, slot: u16) -> HashSet<i32> {
        let direct = self.hosts_of.get(&scope).into_iter().flatten().copied().filter(|host| {
            let rows = self.by_host.get(host).into_iter().flat_map(|rows| rows.range((scope, 0, i16::MIN)..));
            rows.take_while(|((of, ..), _)| *of == scope).any(|(&(_, lo, _), &hi)| (lo..=hi).contains(&slot))
        });
        let mut hosts: HashSet<i32> = direct.collect();
        for &by in self.needed_by.get(&scope).into_iter().flatten() {
            hosts.extend(self.receivers(by));
        }
        hosts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn includes(rows: &[(i64, Option<u16>, i64)]) -> Includes {
        let mut map = Includes::new();
        for &(scope, slot, target) in rows {
            map.entry(scope).or_default().insert((slot, target));
        }
        map
    }

    #[test]
    fn includes_are_transitive_and_may_run_in_circles() {
        let got = effective([(1, 0, LAST)], &includes(&[(1, None, 2), (2, None, 3), (3, None, 1)]));
        assert_eq!(got.keys().copied().collect::<Vec<_>>(), [1, 2, 3]);
    }

    #[test]
    fn an_include_of_a_slot_needs_the_slot() {
        let rows = includes(&[(1, Some(7), 2)]);
        assert!(!effective([(1, 8, LAST)], &rows).contains_key(&2));
        assert!(effective([(1, 8, LAST), (1, 7, 7)], &rows).contains_key(&2));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Subscribe(i32, Subscription),
        Unsubscribe(i32, Subscription),
        Include(IncludeRow),
        Exclude(IncludeRow),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let subscription = (1i64..6, 0u16..4, 0u16..6, 1i16..3).prop_map(|(scope, lo, more, role)| Subscription {
            scope,
            lo,
            hi: lo + more,
            role,
        });
        let include = (1i64..6, proptest::option::of(0u16..8), 1i64..6).prop_map(|(scope, slot, target)| IncludeRow {
            scope,
            slot,
            target,
        });
        let host = 1i32..4;
        let step = prop_oneof![
            3 => (host.clone(), subscription.clone()).prop_map(|(host, row)| Step::Subscribe(host, row)),
            1 => (host, subscription).prop_map(|(host, row)| Step::Unsubscribe(host, row)),
            3 => include.clone().prop_map(Step::Include),
            1 => include.prop_map(Step::Exclude),
        ];
        proptest::collection::vec(step, 0..40)
    }

    proptest! {
        /// The indexes never forget a receiver: a change would be lost to it.
        #[test]
        fn receivers_are_the_hosts_whose_effective_scopes_hold_it(steps in steps()) {
            let mut all = Structure::default();
            for step in steps {
                match step {
                    Step::Subscribe(host, row) => all.subscribe(host, row),
                    Step::Unsubscribe(host, row) => all.unsubscribe(host, row),
                    Step::Include(row) => all.include(row),
                    Step::Exclude(row) => all.exclude(row),
                }
            }
            for scope in 1..6 {
                for slot in 0..10 {
                    let named = all.receivers_of_slot(scope, slot);
                    for host in 1..4 {
                        let holds = all.effective(host).get(&scope).is_some_and(|slots| slots.contains(slot));
                        prop_assert!(!holds || named.contains(&host), "host {} lacks {}/{}", host, scope, slot);
                        prop_assert!(!holds || all.receivers(scope).contains(&host));
                    }
                }
            }
        }
    }
}
