//! The phases of a role: pending, active, draining, gone.
//!
//! Make before break. A new holder is *pending* until it has acknowledged its subscription, and
//! with it every entry that it is to hold; only *active* ones are listed in the senders' map. One
//! that is to go stays listed until those that replace it are active, then is *draining*: no
//! longer listed, still subscribed and forwarding, until every live sender has acknowledged a map
//! without it and a little longer, for packets under way. A holder that is lost cannot forward,
//! so it leaves the list at once.

use mizar_db::placement::roles::RoleChange;
use mizar_db::placement::state::{Phase, Role, RoleKey, RoleState};
use mizar_placement::shards;
use mizar_wire::Scope;
use std::collections::BTreeMap;

/// What is held as one: a shard, or the dividing of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Unit {
    /// [`Scope::Subnet`] or [`Scope::Dividers`].
    pub scope: Scope,
    /// First slot.
    pub lo: u16,
    /// Last slot.
    pub hi: u16,
    /// Which role.
    pub role: Role,
}

impl Unit {
    fn key(self, host: u32) -> RoleKey {
        RoleKey { scope: self.scope, lo: self.lo, host, role: self.role }
    }
}

/// What is known beyond the rows.
pub trait Knowledge {
    /// Whether the host lives.
    fn lives(&self, host: u32) -> bool;
    /// Whether the holder has acknowledged its subscription.
    fn acknowledged(&self, role: &RoleState) -> bool;
    /// Whether nobody can send to the holder any more.
    fn drained(&self, role: &RoleState) -> bool;
}

/// The outcome of a step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// Rows to write.
    pub changes: BTreeMap<RoleKey, RoleChange>,
    /// Hosts to list, rising.
    pub listed: Vec<u32>,
}

/// One step of a unit towards its desired holders. `roles` are the rows of exactly this unit.
pub fn step(unit: Unit, desired: &[u32], roles: &[RoleState], known: &impl Knowledge) -> Step {
    let mut step = Step::default();
    let now = |phase| Some((unit.hi, phase));
    let held = |host: u32| roles.iter().find(|r| r.key.host == host);
    for host in desired {
        match held(*host) {
            // Programmed anew even where it is still draining: its acknowledgement is what counts.
            None => drop(step.changes.insert(unit.key(*host), now(Phase::Pending))),
            Some(role) => match role.phase {
                Phase::Draining => drop(step.changes.insert(role.key, now(Phase::Pending))),
                Phase::Pending if known.acknowledged(role) => {
                    step.changes.insert(role.key, now(Phase::Active));
                    step.listed.push(*host);
                }
                Phase::Pending => {}
                Phase::Active => step.listed.push(*host),
            },
        }
    }
    for role in roles.iter().filter(|r| !desired.contains(&r.key.host)) {
        match role.phase {
            Phase::Pending => drop(step.changes.insert(role.key, None)),
            Phase::Active if known.lives(role.key.host) && step.listed.len() < desired.len() => {
                step.listed.push(role.key.host);
            }
            Phase::Active => drop(step.changes.insert(role.key, now(Phase::Draining))),
            Phase::Draining if known.drained(role) => drop(step.changes.insert(role.key, None)),
            Phase::Draining => {}
        }
    }
    step.listed.sort_unstable();
    step
}

/// The rows of a subnet after a cut into `2^log2` shards: each row that spans several is replaced
/// by one for each, in the same phase. Returns the rows and what must be written for it.
pub fn split(roles: &[RoleState], log2: u8) -> (Vec<RoleState>, BTreeMap<RoleKey, RoleChange>) {
    let mut rows = Vec::with_capacity(roles.len());
    let mut changes = BTreeMap::new();
    for role in roles {
        let inside = |(lo, hi): &(u16, u16)| role.key.lo <= *lo && *hi <= role.hi;
        let parts: Vec<(u16, u16)> = shards::ranges(log2).filter(inside).collect();
        if parts == [(role.key.lo, role.hi)] {
            rows.push(*role);
            continue;
        }
        // A range that is no union of shards was never written by a scheduler: its holder is not
        // known to hold any shard whole.
        let aligned = shards::log2_of_range(role.key.lo, role.hi).is_some();
        if !aligned || parts.is_empty() {
            changes.insert(role.key, None);
            continue;
        }
        for (lo, hi) in parts {
            let key = RoleKey { lo, ..role.key };
            changes.insert(key, Some((hi, role.phase)));
            rows.push(RoleState { key, hi, ..*role });
        }
    }
    (rows, changes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::time::Duration;

    #[derive(Default)]
    struct Known {
        dead: BTreeSet<u32>,
        acknowledged: BTreeSet<u32>,
        drained: BTreeSet<u32>,
    }

    impl Knowledge for Known {
        fn lives(&self, host: u32) -> bool {
            !self.dead.contains(&host)
        }
        fn acknowledged(&self, role: &RoleState) -> bool {
            self.acknowledged.contains(&role.key.host)
        }
        fn drained(&self, role: &RoleState) -> bool {
            self.drained.contains(&role.key.host)
        }
    }

    const UNIT: Unit = Unit { scope: Scope::Subnet(1), lo: 0, hi: 4095, role: Role::Bouncer };

    fn role(host: u32, phase: Phase) -> RoleState {
        RoleState { key: UNIT.key(host), hi: UNIT.hi, phase, xid: 7, changed: Duration::ZERO }
    }

    fn changes(step: &Step) -> Vec<(u32, Option<Phase>)> {
        step.changes.iter().map(|(key, change)| (key.host, change.map(|(_, phase)| phase))).collect()
    }

    #[test]
    fn a_new_holder_is_listed_only_once_it_has_acknowledged() {
        let mut known = Known::default();
        let first = step(UNIT, &[1, 2], &[], &known);
        assert_eq!(
            (changes(&first), first.listed),
            (vec![(1, Some(Phase::Pending)), (2, Some(Phase::Pending))], vec![])
        );
        known.acknowledged.insert(2);
        let rows = [role(1, Phase::Pending), role(2, Phase::Pending)];
        let second = step(UNIT, &[1, 2], &rows, &known);
        assert_eq!((changes(&second), second.listed), (vec![(2, Some(Phase::Active))], vec![2]));
    }

    #[test]
    fn a_holder_that_goes_is_listed_until_its_replacement_is_active() {
        let mut known = Known::default();
        let rows = [role(1, Phase::Active), role(2, Phase::Active), role(3, Phase::Pending)];
        let waiting = step(UNIT, &[1, 3], &rows, &known);
        assert_eq!((changes(&waiting), waiting.listed), (vec![], vec![1, 2]));
        known.acknowledged.insert(3);
        let moved = step(UNIT, &[1, 3], &rows, &known);
        assert_eq!(changes(&moved), [(2, Some(Phase::Draining)), (3, Some(Phase::Active))]);
        assert_eq!(moved.listed, [1, 3]);
    }

    #[test]
    fn a_lost_holder_is_not_listed_while_its_replacement_is_pending() {
        let known = Known { dead: BTreeSet::from([2]), ..Known::default() };
        let rows = [role(1, Phase::Active), role(2, Phase::Active), role(3, Phase::Pending)];
        let moved = step(UNIT, &[1, 3], &rows, &known);
        assert_eq!((changes(&moved), moved.listed), (vec![(2, Some(Phase::Draining))], vec![1]));
    }

    #[test]
    fn a_draining_holder_goes_once_nobody_sends_to_it() {
        let mut known = Known::default();
        let rows = [role(1, Phase::Active), role(2, Phase::Draining)];
        assert_eq!(step(UNIT, &[1], &rows, &known).changes, BTreeMap::new());
        known.drained.insert(2);
        assert_eq!(changes(&step(UNIT, &[1], &rows, &known)), [(2, None)]);
    }

    #[test]
    fn a_draining_holder_that_is_wanted_again_acknowledges_again() {
        let rows = [role(1, Phase::Draining)];
        let again = step(UNIT, &[1], &rows, &Known::default());
        assert_eq!((changes(&again), again.listed), (vec![(1, Some(Phase::Pending))], vec![]));
    }

    #[test]
    fn a_pending_holder_that_is_no_longer_wanted_goes_at_once() {
        let rows = [role(1, Phase::Active), role(2, Phase::Pending)];
        assert_eq!(changes(&step(UNIT, &[1], &rows, &Known::default())), [(2, None)]);
    }

    #[test]
    fn settled_holders_are_left_alone() {
        let rows = [role(2, Phase::Active), role(1, Phase::Active)];
        assert_eq!(step(UNIT, &[1, 2], &rows, &Known::default()), Step { listed: vec![1, 2], ..Step::default() });
    }

    #[test]
    fn the_halves_of_a_split_repeat_their_holders_in_their_phases() {
        let rows = [role(1, Phase::Active), role(2, Phase::Draining)];
        let (after, changes) = split(&rows, 1);
        let flat: Vec<_> = after.iter().map(|r| (r.key.host, r.key.lo, r.hi, r.phase)).collect();
        assert_eq!(
            flat,
            [
                (1, 0, 2047, Phase::Active),
                (1, 2048, 4095, Phase::Active),
                (2, 0, 2047, Phase::Draining),
                (2, 2048, 4095, Phase::Draining)
            ]
        );
        assert_eq!(changes.len(), 4, "{changes:?}");
        assert_eq!(split(&after, 1), (after.clone(), BTreeMap::new()));
    }

    #[test]
    fn a_range_that_no_cut_yields_is_dropped() {
        let odd = RoleState { hi: 2500, ..role(1, Phase::Active) };
        let (after, changes) = split(&[odd], 1);
        assert_eq!((after.len(), changes), (0, BTreeMap::from([(odd.key, None)])));
    }
}
