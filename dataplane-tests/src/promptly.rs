//! Stories in which real time passes: some of their steps must follow each other within so many milliseconds, which a
//! machine that has much to do does not always let them.

use std::{
    cell::Cell,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    time::{Duration, Instant},
};

/// How often a story is told at most.
const TIMES: usize = 20;

/// Knows whether the steps that must be done promptly were.
#[derive(Debug, Default)]
pub struct Stopwatch {
    late: Cell<bool>,
}

/// Steps that must be done promptly: those until it goes.
#[must_use = "the steps end where this goes"]
pub struct Steps<'a> {
    watch: &'a Stopwatch,
    since: Instant,
    most: Duration,
}

impl Stopwatch {
    /// What follows must be done within so many milliseconds.
    pub fn within(&self, ms: u64) -> Steps<'_> {
        Steps { watch: self, since: Instant::now(), most: Duration::from_millis(ms) }
    }
}

impl Drop for Steps<'_> {
    fn drop(&mut self) {
        if self.since.elapsed() >= self.most {
            self.watch.late.set(true);
        }
    }
}

/// Tells a story. One that fails is told again if steps of it were late: then it says nothing.
pub fn promptly(story: impl Fn(&Stopwatch)) {
    for _ in 1..TIMES {
        let watch = Stopwatch::default();
        match catch_unwind(AssertUnwindSafe(|| story(&watch))) {
            Ok(()) => return,
            Err(_) if watch.late.get() => {}
            Err(panic) => resume_unwind(panic),
        }
    }
    story(&Stopwatch::default());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_story_that_was_told_too_slowly_is_told_again() {
        let told = Cell::new(0);
        promptly(|watch| {
            told.set(told.get() + 1);
            let _steps = watch.within(if told.get() < 3 { 0 } else { 60_000 });
            assert_eq!(told.get(), 3);
        });
        assert_eq!(told.get(), 3);
    }

    #[test]
    fn a_story_that_fails_in_time_has_failed() {
        let told = Cell::new(0);
        let failed = catch_unwind(AssertUnwindSafe(|| {
            promptly(|watch| {
                told.set(told.get() + 1);
                let _steps = watch.within(60_000);
                panic!("it is wrong");
            });
        }));
        assert!(failed.is_err() && told.get() == 1);
    }

    #[test]
    fn a_story_that_is_never_told_in_time_has_failed() {
        let told = Cell::new(0);
        let failed = catch_unwind(AssertUnwindSafe(|| {
            promptly(|watch| {
                told.set(told.get() + 1);
                let _steps = watch.within(0);
                panic!("it is wrong, or late");
            });
        }));
        assert!(failed.is_err() && told.get() == TIMES);
    }
}
