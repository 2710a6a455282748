//! Sets of security groups whose rules may not be what their generation says, and what is said of them instead.
//!
//! The generation of a set comes with one of its entries, and says that flows which bear it are allowed by its rules:
//! nobody asks about them again. But a snapshot comes in pages, and what is not in force any more goes after the last
//! one; what a doubted snapshot lacks stays until somebody confirms it; and rules may fail to be written, or may not be
//! removed yet. Were the generation in force before all that, flows would be stamped with it that its rules deny, for
//! good. Were the former one still, flows would go on for as long whose rule is gone from here already.
//!
//! So such a set has the number *between* the two, and waits. By it flows of the former generation are asked about, as
//! the rules that are here say, and all of them once more when the generation is in force. Generations rise by two,
//! so that no other rules ever have that number; and as it is the smaller one, who knows the generation takes no verdict
//! for current that bears the number before it.

use crate::store::{Store, names, removed};
use mizar_abi::maps::{Epoch, epoch_flag};
use mizar_wire::Kind;
use mizar_wire::entry::Change;
use std::collections::BTreeSet;

/// Of which rules nobody knows whether they are all, and no more.
#[derive(Debug, Default)]
pub enum Unproven {
    /// None: everything is here, and nothing else.
    #[default]
    None,
    /// All: a snapshot is under way.
    All,
    /// Those that these entries have a part in, which a doubted snapshot would take.
    By(Vec<Change>),
}

/// Sets of which they are.
#[derive(Debug, PartialEq, Eq)]
pub enum Sets {
    /// All.
    All,
    /// These.
    Of(BTreeSet<u32>),
}

impl Sets {
    /// Whether a set is among them.
    pub fn has(&self, set: u32) -> bool {
        match self {
            Self::All => true,
            Self::Of(sets) => sets.contains(&set),
        }
    }
}

fn is_of_rules(change: &Change) -> bool {
    match Kind::from_i16(change.kind) {
        Some(Kind::Group | Kind::Member | Kind::GroupSet | Kind::AddressGroup) => true,
        Some(Kind::LabelIngress | Kind::LabelEgress | Kind::LabelGeneration) => true,
        _ => false,
    }
}

impl Unproven {
    /// By what a snapshot would take that is doubted.
    pub fn by(mut removals: Vec<Change>) -> Self {
        removals.retain(is_of_rules);
        Self::By(removals)
    }

    /// The feed says more: entries that it names are as it says.
    pub fn hear(&mut self, changes: &[Change]) {
        if let Self::By(removals) = self {
            let named: BTreeSet<_> = names(changes).collect();
            removals.retain(|removal| names(std::slice::from_ref(removal)).all(|name| !named.contains(&name)));
        }
    }

    /// The sets, as entries are now: one may have come into use since.
    pub fn sets(&self, store: &Store) -> Sets {
        match self {
            Self::None => Sets::Of(BTreeSet::new()),
            Self::All => Sets::All,
            Self::By(removals) => {
                let kept = removals.iter().filter_map(|removal| removed(store, removal));
                Sets::Of(kept.flat_map(|body| store.planner.sets_by(body)).collect())
            }
        }
    }
}

/// What is said of a set instead of its generation, if something else was said before: it waits, and is of no rules
/// that anybody else has.
pub fn between(before: Option<u32>, epoch: Epoch) -> Epoch {
    let n = match epoch.n {
        0 => 0,
        n if before == Some(n) => n,
        // Generations turn around, and 0 is none.
        1 => u32::MAX,
        n => n - 1,
    };
    Epoch { n, flags: epoch.flags | epoch_flag::WAITS, ..epoch }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_instead_is_of_no_other_rules_and_earlier_than_those_to_come() {
        let epoch = |n, flags| Epoch { n, since_ms: 0, flags };
        let (waits, asks) = (epoch_flag::WAITS, epoch_flag::NEED_ID);
        for before in [None, Some(10), Some(11), Some(40)] {
            assert_eq!(between(before, epoch(12, asks)), epoch(11, asks | waits), "{before:?}");
        }
        assert_eq!(between(Some(12), epoch(12, 0)), epoch(12, waits), "they are here, and perhaps more");
        assert_eq!(between(Some(12), epoch(0, 0)), epoch(0, waits), "that nobody knows may be said");
        let first = between(None, epoch(1, 0)).n;
        assert_eq!((1_u32.wrapping_sub(first) & 0xffff, first == 0), (2, false), "earlier, and not none");
    }
}
