//! How often something may be done that takes the longer the larger the cluster is.

use std::time::{Duration, Instant};

/// Of all time at most one part in this many goes into one kind of round.
const PART: u32 = 20;

/// Comes due at an interval, or later if the last round took long.
#[derive(Debug)]
pub struct Pace {
    interval: Duration,
    due: Option<Instant>,
}

impl Pace {
    /// Due at once, then at the interval.
    pub fn new(interval: Duration) -> Self {
        Self { interval, due: None }
    }

    /// Whether it is due.
    pub fn is_due(&self) -> bool {
        self.due.is_none_or(|due| due <= Instant::now())
    }

    /// A round that began at `started` has ended.
    pub fn done(&mut self, started: Instant) {
        self.due = Some(started + self.interval.max(started.elapsed() * PART));
    }

    /// Due at once.
    pub fn hurry(&mut self) {
        self.due = None;
    }
}
