//! Sets of security groups whose rules may not all be what their generation says.
//!
//! The generation of a set comes with one of its entries, and says that flows which bear it are allowed by all
//! of its rules. But a snapshot comes in pages, and what is not in force any more goes after the last one. If
//! the generation were in force before that, flows would be stamped with it that the new rules deny, and
//! nobody would ever ask about them again. So until then such a set keeps the generation that it had, and
//! waits. Of a snapshot that is doubted the same holds for what it would take rules from.

use mizar_abi::maps::{Epoch, epoch_flag};
use std::collections::BTreeSet;

/// Which sets these are.
#[derive(Debug, Default)]
pub enum Unproven {
    /// None: everything is here, and nothing else.
    #[default]
    None,
    /// All: a snapshot is under way.
    All,
    /// Those that a doubted snapshot would take something from.
    Of(BTreeSet<u32>),
}

impl Unproven {
    fn has(&self, set: u32) -> bool {
        match self {
            Self::None => false,
            Self::All => true,
            Self::Of(sets) => sets.contains(&set),
        }
    }

    /// What may be said of a set instead of its new generation, given what is said of it: `Some(None)` is nothing.
    /// `None`: it may be said.
    pub fn instead(&self, set: u32, before: Option<Epoch>, epoch: Epoch) -> Option<Option<Epoch>> {
        let before = before.filter(|before| before.n != 0);
        let same = before.is_some_and(|before| before.n == epoch.n);
        if epoch.n == 0 || same || !self.has(set) {
            return None;
        }
        Some(before.map(|Epoch { n, .. }| Epoch { n, flags: epoch.flags | epoch_flag::WAITS, ..epoch }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_that_is_unproven_keeps_its_generation_and_waits() {
        let epoch = |n, flags| Epoch { n, since_ms: 0, flags };
        let (waits, asks) = (epoch_flag::WAITS, epoch_flag::NEED_ID);
        for unproven in [Unproven::All, Unproven::Of(BTreeSet::from([5]))] {
            let instead = |before, now| unproven.instead(5, before, now);
            assert_eq!(instead(Some(epoch(1, 0)), epoch(2, asks)), Some(Some(epoch(1, asks | waits))));
            assert_eq!(instead(Some(epoch(1, waits)), epoch(2, 0)), Some(Some(epoch(1, waits))));
            assert_eq!(instead(None, epoch(2, 0)), Some(None), "one that is new has none yet");
            assert_eq!(instead(Some(epoch(0, waits)), epoch(2, 0)), Some(None));
            assert_eq!(instead(Some(epoch(1, 0)), epoch(0, waits)), None, "that nobody knows may be said");
            assert_eq!(instead(Some(epoch(1, waits)), epoch(1, 0)), None);
        }
        assert_eq!(Unproven::Of(BTreeSet::from([6])).instead(5, Some(epoch(1, 0)), epoch(2, 0)), None);
        assert_eq!(Unproven::None.instead(5, Some(epoch(1, 0)), epoch(2, 0)), None);
    }
}
