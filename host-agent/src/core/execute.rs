//! Operations of the planner on the maps, and what follows from them.

use super::unproven::{Sets, between};
use super::{Chore, Core, Forget, chain};
use mizar_abi::maps::{Epoch, epoch_flag};
use mizar_plan::{Key, Op, Value};
use std::collections::BTreeSet;

impl Core {
    /// Does what it can; what fails is tried again with the next flush.
    ///
    /// A generation says that the rules of its set are those of it, and flows that bear it are not asked
    /// about again. So while one of these rules could not be written or removed, or may not be removed
    /// yet, or the set is [`super::unproven`], something else is said of it.
    pub(super) fn execute(&mut self, ops: Vec<Op>) {
        let mut forget = Forget::default();
        let mut failing = BTreeSet::new();
        let mut rules_changed = false;
        let mut behind = self.withheld.clone();
        let unproven = self.unproven.sets(&self.store);
        for op in ops {
            let op = match op {
                Op::Put(key @ Key::Epoch(set), Value::Epoch(epoch)) => {
                    let (said, why) = self.said(set, epoch, behind.contains(&set), &unproven);
                    if let Some(why) = why {
                        failing.insert(key);
                        let reason = format!("rules of the set {set} of security groups {why}");
                        self.store.planner.failed(key, reason);
                    }
                    Op::Put(key, Value::Epoch(said))
                }
                op => op,
            };
            let done = match &op {
                Op::Put(key, value) => self.plane.put(key, value),
                Op::Remove(key) => self.plane.remove(key),
            };
            match (done, op) {
                (Ok(()), op) => {
                    forget.moved.extend(self.holders.done(&op));
                    rules_changed |= self.policies.done(&op);
                    if let Op::Remove(Key::Ep(number)) = op {
                        forget.ports.insert(number);
                    }
                }
                (Err(error), op) => {
                    let reason = chain(&error);
                    if !self.failing.contains(op.key()) {
                        tracing::error!(key = ?op.key(), error = reason, "a map could not be written; it is tried again with every sync");
                    }
                    behind.extend(op.key().set());
                    failing.insert(*op.key());
                    self.store.planner.failed(*op.key(), reason);
                }
            }
        }
        self.failing = failing;
        if rules_changed {
            self.rules_changed.notify_one();
        }
        let regrouped = self.policies.take_regrouped();
        if !regrouped.is_empty() {
            self.chore(Chore::Introduce(regrouped));
        }
        forget.moved.retain(|port| !forget.ports.contains(port));
        if !forget.is_empty() {
            if !forget.moved.is_empty() {
                forget.holders = self.holders.clone();
            }
            self.chore(Chore::Forget(forget));
        }
    }

    /// Whether a set has what is said of it, though its generation should be another.
    pub(super) fn is_said(&self, op: &Op, unproven: &Sets) -> bool {
        let Op::Put(Key::Epoch(set), Value::Epoch(epoch)) = op else { return false };
        self.policies.epoch(*set) == Some(self.said(*set, *epoch, self.withheld.contains(set), unproven).0)
    }

    /// What is said of a set whose generation this should be; and why it is something else, if it is.
    fn said(&self, set: u32, epoch: Epoch, behind: bool, unproven: &Sets) -> (Epoch, Option<&'static str>) {
        let before = self.policies.epoch(set);
        if epoch.n == 0 {
            // Groups are missing, any of which may make its ports stateful.
            let flags = before.map_or(0, |before| before.flags & epoch_flag::STATELESS);
            return (Epoch { flags: epoch.flags | flags, ..epoch }, None);
        }
        let before = before.map(|before| before.n).filter(|n| *n != 0).or_else(|| self.store.said.get(&set).copied());
        if behind {
            (between(before, epoch), Some("are not as they should be"))
        } else if unproven.has(set) && before != Some(epoch.n) {
            (between(before, epoch), Some("may not all be here yet, or be too many"))
        } else {
            (epoch, None)
        }
    }
}
