//! Which policies are in force, as it was written to the maps, and when a change of them puts flows in
//! doubt.

use mizar_abi::maps::egress;
use mizar_plan::{Key, Op, Value};
use std::collections::{BTreeMap, BTreeSet};

/// The set whose rules a key is of.
pub fn set_of(key: &Key) -> Option<u32> {
    let policy = match key {
        Key::Policy(rule) => rule.at.policy,
        Key::Cidr(cidr) => cidr.at.policy,
        _ => return None,
    };
    Some(u32::from_be_bytes(policy) & !egress(0))
}

/// Sets of ports, and generations of sets.
#[derive(Debug, Default)]
pub struct Policies {
    sets: BTreeMap<u32, u32>,
    /// Ports whose set has become another one.
    regrouped: BTreeSet<u32>,
    generations: BTreeMap<u32, u32>,
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
            // The first generation of a set may come after the first port that has it.
            (Key::Epoch(set), Value::Epoch(epoch)) => self.generations.insert(*set, epoch.n) != Some(epoch.n),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mizar_abi::maps::{Ep, Epoch};

    fn ep(port: u32, set: u32) -> Op {
        Op::Put(Key::Ep(port), Value::Ep(Ep { set, ..Ep::default() }))
    }

    fn epoch(set: u32, n: u32, flags: u32) -> Op {
        Op::Put(Key::Epoch(set), Value::Epoch(Epoch { n, since_ms: 0, flags }))
    }

    #[test]
    fn rules_of_both_directions_are_their_sets() {
        use mizar_abi::maps::{PolicyAddress, PolicyKey};
        use mizar_plan::{Cidr, Rule};
        for policy in [5, egress(5)] {
            assert_eq!(set_of(&Key::Policy(Rule { bits: 64, at: PolicyKey::new(policy, 9, 0, 0) })), Some(5));
            assert_eq!(set_of(&Key::Cidr(Cidr { bits: 32, at: PolicyAddress::new(policy, [0; 16]) })), Some(5));
        }
        assert_eq!(set_of(&Key::Epoch(5)), None);
    }

    #[test]
    fn another_set_or_generation_puts_flows_in_doubt_and_nothing_else_does() {
        let mut policies = Policies::default();
        for (op, doubt) in [
            (ep(1, 5), false),
            (epoch(5, 1, 0), true),
            (ep(1, 5), false),
            (epoch(5, 1, 1), false),
            (epoch(5, 2, 1), true),
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
