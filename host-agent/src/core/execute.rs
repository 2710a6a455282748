//! Operations of the planner on the maps, and what follows from them.

use super::{Chore, Core, Forget, chain};
use mizar_plan::{Key, Op, Value};
use std::collections::BTreeSet;

impl Core {
    /// Does what it can; what fails is tried again with the next flush.
    ///
    /// A generation says that the rules of its set are those of it, and flows that bear it are not asked
    /// about again. So while one of these rules could not be written or removed, or may not be removed
    /// yet, the set keeps its former one.
    pub(super) fn execute(&mut self, ops: Vec<Op>) {
        let mut forget = Forget::default();
        let mut failing = BTreeSet::new();
        let mut rules_changed = false;
        let mut behind = self.withheld.clone();
        for op in ops {
            let op = match op {
                Op::Put(key @ Key::Epoch(set), Value::Epoch(epoch)) if !behind.contains(&set) => {
                    let instead = self.unproven.instead(set, self.policies.epoch(set), epoch);
                    if instead.is_some() {
                        failing.insert(key);
                        let reason = format!("rules of the set {set} of security groups may not all be here yet");
                        self.store.planner.failed(key, reason);
                    }
                    match instead {
                        None => op,
                        Some(Some(epoch)) => Op::Put(key, Value::Epoch(epoch)),
                        Some(None) => continue,
                    }
                }
                op => op,
            };
            if let Op::Put(key @ Key::Epoch(set), _) = op
                && behind.contains(&set)
            {
                failing.insert(key);
                self.store
                    .planner
                    .failed(key, format!("rules of the set {set} of security groups are not as they should be"));
                continue;
            }
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
}
