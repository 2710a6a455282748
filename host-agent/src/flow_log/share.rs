//! Who fills the files: a port that has much to say does not make go what others have said.
//!
//! The files that all write are filled within [`FILLED`] and no sooner, however many ports write however much: those that
//! have much to write at the moment share the rate, equally. Each may be ahead of its share by some, and who never is
//! has all its records there; what is beyond goes elsewhere. Time is since boot, and an argument.

use std::collections::BTreeMap;
use std::time::Duration;

/// In so long they may be filled.
pub const FILLED: Duration = Duration::from_hours(4);
/// By so much of that a port may be ahead.
const AHEAD: Duration = Duration::from_mins(30);

/// See the module.
#[derive(Debug)]
pub struct Shares {
    /// Bytes of all files together.
    room: u64,
    /// When each port has written no more than its share: those that have written more.
    even: BTreeMap<u32, Duration>,
}

impl Shares {
    /// Of files of so many bytes.
    pub const fn new(room: u64) -> Self {
        Self { room, even: BTreeMap::new() }
    }

    /// Forgets who has not written more than its share.
    pub fn settle(&mut self, now: Duration) {
        self.even.retain(|_, even| *even > now);
    }

    /// May a port write so many bytes there? If so, it has.
    pub fn take(&mut self, port: u32, bytes: u64, now: Duration) -> bool {
        let even = self.even.get(&port).map_or(now, |even| (*even).max(now));
        if even - now >= AHEAD {
            return false;
        }
        let others = self.even.len() - usize::from(self.even.contains_key(&port));
        let cost = FILLED.as_nanos() * u128::from(bytes) * (others as u128 + 1) / u128::from(self.room.max(1));
        // A line may be longer than a file.
        let cost = Duration::from_nanos(u64::try_from(cost).unwrap_or(u64::MAX)).min(FILLED);
        self.even.insert(port, even + cost);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: u64 = 1_000_000;
    const LINE: u64 = 100;

    /// What ports write that try so many lines a second each, for an hour.
    fn written(tries: &[(u32, u32)]) -> BTreeMap<u32, u64> {
        let mut shares = Shares::new(ROOM);
        let mut written = BTreeMap::new();
        for second in 0..3_600 {
            let now = Duration::from_secs(1_000_000 + second);
            shares.settle(now);
            for (port, often) in tries {
                let some = (0..*often).filter(|_| shares.take(*port, LINE, now)).count() as u64;
                *written.entry(*port).or_default() += some * LINE;
            }
        }
        written
    }

    #[test]
    fn one_port_fills_the_files_no_sooner_than_it_may() {
        let written = written(&[(1, 50)]);
        // A quarter in an hour, and an eighth ahead.
        assert!((ROOM * 7 / 20..ROOM * 2 / 5).contains(&written[&1]), "{written:?}");
    }

    #[test]
    fn many_ports_fill_them_hardly_sooner_and_have_the_same_share() {
        let all: Vec<(u32, u32)> = (1..=20).map(|port| (port, 50)).collect();
        let written = written(&all);
        let sum: u64 = written.values().sum();
        assert!(sum < ROOM * 3 / 4, "{written:?}");
        let (least, most) = (written.values().min(), written.values().max());
        // The first ones have been ahead alone.
        assert!(
            least.zip(most).is_some_and(|(least, most)| *least >= ROOM / 4 / 20 && *most < least * 2),
            "{written:?}"
        );
    }

    #[test]
    fn who_writes_little_has_all_of_it_whatever_others_write() {
        let busy = (1..=20).map(|port| (port, 50));
        let quiet = std::iter::once((99, 1));
        let mut shares = Shares::new(ROOM);
        let mut refused = 0;
        for second in 0..3_600_u64 {
            let now = Duration::from_secs(1_000_000 + second);
            shares.settle(now);
            for (port, often) in busy.clone().chain(quiet.clone()) {
                // The quiet one, once a minute.
                let often = if port == 99 { u32::from(second % 60 == 0) } else { often };
                let some = (0..often).filter(|_| !shares.take(port, LINE, now)).count();
                refused += if port == 99 { some } else { 0 };
            }
        }
        assert_eq!(refused, 0);
        shares.settle(Duration::from_secs(1_000_000 + 3_600 + 4 * 3_600));
        assert!(shares.even.is_empty(), "nobody is remembered for ever");
    }
}
