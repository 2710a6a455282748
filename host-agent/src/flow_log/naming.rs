//! How long rules are looked for: who does so holds what others need.
//!
//! What one flow costs depends on the rules of its port, and so on tenants; so it is not flows that are counted, but time. A
//! flow whose turn came too late is named when it is looked at again.

use std::cell::Cell;
use std::time::Duration;

/// What is left of a step's time, by a clock that never goes back.
pub struct Naming<'a> {
    left: Cell<Duration>,
    clock: &'a dyn Fn() -> Duration,
}

impl<'a> Naming<'a> {
    /// So much.
    pub const fn new(left: Duration, clock: &'a dyn Fn() -> Duration) -> Self {
        Self { left: Cell::new(left), clock }
    }

    /// Takes hold of something and does this with it, if there is time. It may take longer than that once; to wait for the
    /// hold costs nothing.
    pub fn hold<G, T>(&self, hold: impl FnOnce() -> G, work: impl FnOnce(&G) -> T) -> Option<T> {
        if self.left.get().is_zero() {
            return None;
        }
        let held = hold();
        let since = (self.clock)();
        let done = work(&held);
        drop(held);
        self.left.set(self.left.get().saturating_sub((self.clock)().saturating_sub(since)));
        Some(done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_slow_is_not_done_without_end_and_nothing_is_held_for_what_is_not_done() {
        let (now, held) = (Cell::new(Duration::ZERO), Cell::new(0));
        let clock = || now.get();
        let takes = |ms| now.set(now.get() + Duration::from_millis(ms));
        let naming = Naming::new(Duration::from_millis(5), &clock);
        let hold = || held.set(held.get() + 1);
        assert_eq!(naming.hold(|| takes(20), |()| 1), Some(1), "who waits has done nothing");
        assert_eq!(naming.hold(hold, |()| takes(4)), Some(()));
        // More than there is, once.
        assert_eq!(naming.hold(hold, |()| takes(9)), Some(()));
        for _ in 0..256 {
            assert_eq!(naming.hold(hold, |()| takes(9)), None);
        }
        assert_eq!((held.get(), now.get()), (2, Duration::from_millis(33)));
    }
}
