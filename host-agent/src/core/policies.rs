//! Which policies are in force, as it was written to the maps, and when a change of them puts flows in
//! doubt.

use mizar_abi::maps::{Epoch, epoch_flag};
use mizar_plan::{Key, Op, Value};
use std::collections::{BTreeMap, BTreeSet};

/// Sets of ports, and generations of sets.
#[derive(Debug, Default)]
pub struct Policies {
    sets: BTreeMap<u32, u32>,
    /// Ports whose set has become another one.
    regrouped: BTreeSet<u32>,
    generations: BTreeMap<u32, Epoch>,
}

impl Policies {
    /// An operation was done. True if flows may have been allowed by other rules than those that are
    /// in force now.
    pub fn done(&mut self, op: &Op) -> bool {
        match op {
            Op::Put(key, value) => self.put(key, value),
            Op::Remove(Key::Ep(port)) => {
                self.sets.remove(port);
                false
            }
            Op::Remove(Key::Epoch(set)) => {
                self.generations.remove(set);
                false
            }
            Op::Remove(_) => false,
        }
    }

    /// What is said of the rules of a set.
    pub fn epoch(&self, set: u32) -> Option<Epoch> {
        self.generations.get(&set).copied()
    }

    /// The generations of all sets that have one.
    pub fn generations(&self) -> BTreeMap<u32, u32> {
        self.generations.iter().map(|(set, epoch)| (*set, epoch.n)).filter(|(_, n)| *n != 0).collect()
    }

    /// Ports that got another set since the last call.
    pub fn take_regrouped(&mut self) -> BTreeSet<u32> {
        std::mem::take(&mut self.regrouped)
    }

    /// The same of an entry that is there.
    pub fn put(&mut self, key: &Key, value: &Value) -> bool {
        match (key, value) {
            // A port that is new has no flows.
            (Key::Ep(port), Value::Ep(ep)) => {
                let other = self.sets.insert(*port, ep.set).is_some_and(|before| before != ep.set);
                if other {
                    self.regrouped.insert(*port);
                }
                other
            }
            // The first generation of a set may come after the first port that has it; and who waited for rules
            // had no answer yet, for nobody else may have had them either.
            (Key::Epoch(set), Value::Epoch(epoch)) => {
                let waits = |epoch: &Epoch| epoch.flags & epoch_flag::WAITS != 0;
                let before = self.generations.insert(*set, *epoch);
                before.is_none_or(|before| before.n != epoch.n || waits(&before) && !waits(epoch))
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mizar_abi::maps::{Ep, epoch_flag::WAITS};

    fn ep(port: u32, set: u32) -> Op {
        Op::Put(Key::Ep(port), Value::Ep(Ep { set, ..Ep::default() }))
    }

    fn epoch(set: u32, n: u32, flags: u32) -> Op {
        Op::Put(Key::Epoch(set), Value::Epoch(Epoch { n, since_ms: 0, flags }))
    }

    #[test]
    fn another_set_or_generation_and_rules_that_were_missing_put_flows_in_doubt_and_nothing_else_does() {
        let mut policies = Policies::default();
        for (op, doubt) in [
            (ep(1, 5), false),
            (epoch(5, 1, 0), true),
            (ep(1, 5), false),
            (epoch(5, 1, 1), false),
            (epoch(5, 2, 1), true),
            (epoch(5, 2, WAITS), false),
            (epoch(5, 2, WAITS), false),
            (epoch(5, 2, 0), true),
            (epoch(5, 2, 0), false),
            (ep(1, 6), true),
            (Op::Remove(Key::Ep(1)), false),
            (ep(1, 5), false),
            (Op::Remove(Key::Epoch(5)), false),
            (epoch(5, 2, 1), true),
        ] {
            assert_eq!(policies.done(&op), doubt, "{op:?}");
        }
        assert_eq!(policies.take_regrouped(), BTreeSet::from([1]));
        assert_eq!(policies.take_regrouped(), BTreeSet::new());
    }
}
