//! Whether a snapshot may be believed that takes very much away.
//!
//! A snapshot of a database restored from an old backup, or of a feed that lost what it includes,
//! looks like any other; to obey it would end most of what this host forwards. So one that takes
//! over half of the attached ports, or of all entries, takes nothing: additions and changes are in
//! force, removals wait until a later snapshot has what was missing, or an operator confirms it.

use super::{Core, Snapshot};
use crate::dataplane::PlaneError;
use crate::store::removed;
use mizar_plan::{Op, Table};
use mizar_wire::body::Body;
use mizar_wire::entry::Change;
use std::collections::BTreeSet;
use uuid::Uuid;

/// Of fewer entries than this half is soon reached.
const FEW: usize = 8;

fn is_most(gone: usize, of: usize) -> bool {
    of >= FEW && gone * 2 > of
}

impl Core {
    /// Whether these removals, of what a snapshot did not bring, are too many to be believed
    /// without an operator's word.
    pub(super) fn doubts(
        &mut self,
        snapshot: &Snapshot,
        prune: &[Change],
        confirmed: bool,
    ) -> Result<bool, PlaneError> {
        let (gone, attached) = self.unserved(prune, self.attached.keys());
        // After a reboot none is attached: what was doubted before it is no more believable for that.
        let of_all = || self.unserved(prune, self.store.planner.ports().map(|port| &port.id));
        let (lost, here) = if self.doubt { of_all() } else { (0, 0) };
        // Without a ledger the maps alone tell what there was.
        let (going, before) = if self.adopted { (prune.len(), snapshot.before) } else { self.unwanted()? };
        let doubt = !confirmed && (gone * 2 > attached || lost * 2 > here || is_most(going, before));
        if doubt {
            tracing::error!(
                gone,
                attached,
                going,
                before,
                "the snapshot lacks over half of what this host has: nothing is removed until it is confirmed"
            );
        }
        Ok(doubt)
    }

    /// How many of these ports these removals would end: their own entry goes, or one without
    /// which it renders nothing. And how many they are.
    fn unserved<'p>(&self, prune: &[Change], of: impl Iterator<Item = &'p Uuid>) -> (usize, usize) {
        let (mut ports, mut networks, mut subnets) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for body in prune.iter().filter_map(|change| removed(&self.store, change)) {
            match body {
                Body::Port(port) => drop(ports.insert(port.id)),
                Body::Network(network) => drop(networks.insert(network.vni)),
                Body::Subnet(subnet) => drop(subnets.insert(subnet.number)),
                _ => {}
            }
        }
        let unserved = |id: &Uuid| {
            self.store.planner.port(*id).is_none_or(|port| {
                ports.contains(id)
                    || networks.contains(&port.vni)
                    || port.fixed_ips.iter().any(|fixed| subnets.contains(&fixed.subnet))
            })
        };
        of.fold((0, 0), |(gone, all), id| (gone + usize::from(unserved(id)), all + 1))
    }

    /// Entries in the maps that nobody desires, and how many there are. Those of endpoints are
    /// left out: they follow from interfaces, which were counted.
    fn unwanted(&mut self) -> Result<(usize, usize), PlaneError> {
        let mut observed = Vec::new();
        for table in [Table::Hosts, Table::Shard, Table::Bounce, Table::Route, Table::Moved] {
            observed.extend(self.plane.dump(table)?);
        }
        let ops = self.store.planner.adopt(&observed);
        Ok((ops.iter().filter(|op| matches!(op, Op::Remove(_))).count(), observed.len()))
    }
}
