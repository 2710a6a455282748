//! Growing, jittered pauses: 10,000 agents that lost one API must not come back at once.

use rand::RngExt as _;
use std::time::Duration;

/// Exponential, with full jitter, between bounds.
#[derive(Debug)]
pub struct Backoff {
    first: Duration,
    most: Duration,
    next: Duration,
}

impl Backoff {
    /// Pauses of up to `first`, then up to twice as much, up to `most`.
    pub const fn new(first: Duration, most: Duration) -> Self {
        Self { first, most, next: first }
    }

    /// It went well: the next pause is short again.
    pub const fn reset(&mut self) {
        self.next = self.first;
    }

    /// The next pause: between half of the bound and the whole of it.
    pub fn pause(&mut self) -> Duration {
        let bound = self.next;
        self.next = (bound * 2).min(self.most);
        jitter(bound / 2, bound)
    }
}

/// A time between two.
pub fn jitter(from: Duration, to: Duration) -> Duration {
    let (from, to) = (from.as_micros() as u64, to.as_micros() as u64);
    Duration::from_micros(rand::rng().random_range(from..=to.max(from)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_their_bound_and_begin_anew() {
        let ms = Duration::from_millis;
        let mut backoff = Backoff::new(ms(100), ms(1000));
        for bound in [100, 200, 400, 800, 1000, 1000] {
            let pause = backoff.pause();
            assert!(pause >= ms(bound / 2) && pause <= ms(bound), "{pause:?} of {bound}");
        }
        backoff.reset();
        assert!(backoff.pause() <= ms(100));
    }
}
