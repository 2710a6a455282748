//! Maps of any content become what they should be: at the start, when the API has first answered, and when they are
//! audited.

use super::{AttachedPort, Chore, Core, Forget, Holders, chain};
use crate::core::policies::Policies;
use crate::dataplane::PlaneError;
use crate::links::Interface;
use mizar_plan::Op;

impl Core {
    /// Takes over what the predecessor left: its interfaces, and the maps if the ledger says what
    /// they should hold.
    pub fn take_over(&mut self, interfaces: Vec<Interface>) -> Result<(), PlaneError> {
        for interface in interfaces {
            self.attached.insert(interface.port, AttachedPort { interface, number: None });
        }
        // An interface keeps its program for as long as it is there, whoever its port belongs to:
        // without one its packets would go wherever the host routes them.
        let live = self.attached.values().map(|a| a.interface.made.ifindex).collect();
        self.plane.detach_others(&live)?;
        if self.store.complete { self.adopt() } else { Ok(()) }
    }

    /// Brings maps of any content to what is desired.
    pub(super) fn adopt(&mut self) -> Result<(), PlaneError> {
        self.update_facts();
        self.reconcile_ports(None);
        let ops = self.difference()?;
        tracing::info!(entries = self.store.len(), operations = ops.len(), trusted = self.trusted, "maps adopted");
        self.execute(ops);
        if !self.adopted {
            self.engage()?;
        }
        // Rules may have changed while no agent looked.
        self.rules_changed.notify_one();
        self.settled = self.may_remove();
        if self.settled {
            // What was removed while no agent looked left its flows behind.
            let here = self.store.planner.ports().map(|port| port.number).collect();
            self.chore(Chore::Forget(Forget { others: Some(here), ..Forget::default() }));
        }
        self.report();
        Ok(())
    }

    /// What makes the maps, as they are, what they should be.
    fn difference(&mut self) -> Result<Vec<Op>, PlaneError> {
        let observed = self.dump()?;
        self.holders = Holders::default();
        observed.iter().for_each(|(key, value)| self.holders.observe(key, value));
        self.policies = Policies::default();
        for (key, value) in &observed {
            self.policies.put(key, value);
        }
        let mut ops = self.store.planner.adopt(&observed);
        self.withheld.clear();
        if !self.may_remove() {
            let stay = ops.iter().filter(|op| matches!(op, Op::Remove(_)));
            self.withheld = stay.filter_map(|op| op.key().set()).collect();
            ops.retain(|op| matches!(op, Op::Put(..)));
        }
        Ok(ops)
    }

    /// Whether what the desired state lacks may go, rather than only what was expressly removed.
    pub(super) fn may_remove(&self) -> bool {
        self.trusted && !self.doubt
    }

    /// Removes what no answer of the API wants, once there is one; or adopts the maps, if that
    /// failed before.
    pub(super) fn settle(&mut self) {
        let due = if self.adopted { !self.settled && self.may_remove() } else { self.store.complete };
        if due && let Err(error) = self.adopt() {
            tracing::error!(error = chain(&error), "the maps could not be adopted; it is tried again with every sync");
        }
    }

    /// Compares the maps with what they should hold and repairs them. Only a bug or a foreign
    /// hand makes a difference.
    pub fn audit(&mut self) -> Result<usize, PlaneError> {
        if !self.adopted {
            return Ok(0);
        }
        self.flush();
        let ops = self.difference()?;
        let unproven = self.unproven.sets(&self.store);
        let repairs = ops.iter().filter(|op| !self.is_said(op, &unproven)).count();
        self.execute(ops);
        Ok(repairs)
    }
}
