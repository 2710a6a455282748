//! Notices that programs name more flows than they can.
//!
//! Programs name a flow in doubt by an event, and of those they raise so many about a port and no more: a burst of
//! them, and then so many a second ([`mizar_abi::EVENT_BURST`], [`mizar_abi::EVENT_RATE`]). When a thousand peers of
//! a port get other groups at once, a thousand flows are in doubt, of which some hundreds are named before their
//! second is over. So the events are counted here as they are there; where a port comes near to what it may raise,
//! all flows are looked through once, shortly after, when those that were in doubt together are.
//!
//! They are looked through as well when this host's rules changed: at once, but a tenant who changes his rules again and
//! again has no more than half of a processor's time.

use mizar_abi::{EVENT_BURST, EVENT_RATE};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Events about a port that count as a burst: some less than there can be, for the programs' clock is another.
const MANY: u32 = EVENT_BURST / 2;
/// Flows that are in doubt for one reason are so within this time.
const TOGETHER: Duration = Duration::from_millis(100);
/// From one look to the next: half of the time that a flow has. More where a look takes long, of which nobody
/// shall do little else.
const APART: Duration = Duration::from_millis(500);
/// Of all time, a look may take one part in so many.
const PARTS: u32 = 5;
/// From one look for a change of rules to the next. Flows of the last change have a second.
const CHANGES_APART: Duration = Duration::from_millis(100);
/// Of all time, such looks may take one part in so many.
const CHANGES_PARTS: u32 = 2;
/// Ports that are counted at most; those of which nothing was heard lately go first.
const PORTS: usize = 10_000;

/// Events that were raised and not made up for by time.
#[derive(Debug)]
struct Level {
    events: u32,
    at: Instant,
}

/// When to look for one reason.
#[derive(Debug, Default)]
struct Pace {
    due: Option<Instant>,
    /// Not before that again.
    rest: Option<Instant>,
}

impl Pace {
    /// From then on, or after the rest; what is due already stays so.
    fn ask(&mut self, from: Instant) {
        self.due.get_or_insert(self.rest.map_or(from, |rest| from.max(rest)));
    }

    /// That was done, from then until now. The next time is `apart` from it, and so that looks take one part in so many.
    fn done(&mut self, from: Instant, now: Instant, apart: Duration, parts: u32) {
        *self = Self { due: None, rest: Some(from + apart.max(now.saturating_duration_since(from) * parts)) };
    }
}

/// Events by port, and when to look through all flows.
#[derive(Debug, Default)]
pub struct Bursts {
    levels: BTreeMap<u32, Level>,
    /// For flows that programs could not name.
    unnamed: Pace,
    /// For those of rules that changed.
    changes: Pace,
}

impl Level {
    /// What time has made up for goes.
    fn drain(&mut self, now: Instant) {
        let earned = now.saturating_duration_since(self.at).as_millis() * u128::from(EVENT_RATE) / 1_000;
        if earned > 0 {
            self.events = self.events.saturating_sub(u32::try_from(earned).unwrap_or(u32::MAX));
            self.at = now;
        }
    }
}

impl Bursts {
    /// A flow of a port was named.
    pub fn named(&mut self, port: u32, now: Instant) {
        if self.levels.len() >= PORTS {
            self.levels.retain(|_, level| {
                level.drain(now);
                level.events > 0
            });
        }
        let level = self.levels.entry(port).or_insert(Level { events: 0, at: now });
        level.drain(now);
        level.events = level.events.saturating_add(1);
        if level.events >= MANY {
            self.lost(now);
        }
    }

    /// Others were surely not.
    pub fn lost(&mut self, now: Instant) {
        self.unnamed.ask(now + TOGETHER);
    }

    /// Rules changed.
    pub fn changed(&mut self, now: Instant) {
        self.changes.ask(now);
    }

    /// When to look through all flows.
    pub fn due(&self) -> Option<Instant> {
        self.unnamed.due.into_iter().chain(self.changes.due).min()
    }

    /// Is that, whenever it is, because rules changed too?
    pub const fn is_of_change(&self) -> bool {
        self.changes.due.is_some()
    }

    /// That was done, from then until now.
    pub fn looked(&mut self, from: Instant, now: Instant) {
        self.unnamed.done(from, now, APART, PARTS);
        self.changes.done(from, now, CHANGES_APART, CHANGES_PARTS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_burst_of_one_port_leads_to_one_look_and_the_next_comes_later() {
        let (mut bursts, start) = (Bursts::default(), Instant::now());
        for _ in 0..EVENT_BURST {
            bursts.named(5, start);
        }
        assert_eq!(bursts.due(), Some(start + TOGETHER), "however many they are");
        bursts.looked(start + TOGETHER, start + TOGETHER + MS * 20);
        assert_eq!(bursts.due(), None);
        // They go on: nobody has all of his time taken by looks.
        for ms in 0..400 {
            bursts.named(5, start + TOGETHER + MS * ms);
        }
        assert_eq!(bursts.due(), Some(start + TOGETHER + APART));
        bursts.looked(start + APART * 2, start + APART * 3);
        bursts.lost(start + APART * 3);
        assert_eq!(bursts.due(), Some(start + APART * (2 + PARTS)), "a look that takes long is not had as often");
    }

    #[test]
    fn a_change_of_rules_is_looked_at_once_and_many_of_them_take_half_of_the_time() {
        let (mut bursts, start) = (Bursts::default(), Instant::now());
        bursts.changed(start);
        assert_eq!((bursts.due(), bursts.is_of_change()), (Some(start), true));
        bursts.looked(start, start + MS * 5);
        assert_eq!((bursts.due(), bursts.is_of_change()), (None, false));
        bursts.changed(start + MS * 6);
        bursts.changed(start + MS * 7);
        assert_eq!(bursts.due(), Some(start + CHANGES_APART));
        bursts.looked(start + CHANGES_APART, start + MS * 500);
        bursts.changed(start + MS * 501);
        assert_eq!(bursts.due(), Some(start + MS * 900), "as long as the look took");
        bursts.looked(start + MS * 900, start + MS * 905);
        bursts.changed(start + MS * 5_000);
        assert_eq!(bursts.due(), Some(start + MS * 5_000), "after a rest at once");
    }

    #[test]
    fn before_programs_lose_an_event_a_look_is_due() {
        // As many at once, and then as fast, as programs raise none that is lost.
        for (at_once, each_ms) in [(EVENT_BURST, 1_000), (1, 4), (10, 5), (EVENT_BURST - 1, 5)] {
            let (mut bursts, start) = (Bursts::default(), Instant::now());
            let mut tokens = EVENT_BURST * 1_000;
            let mut lost = false;
            for n in 0..2_000u32 {
                let ms = n.saturating_sub(at_once) * each_ms;
                if n > at_once {
                    tokens = (tokens + each_ms * EVENT_RATE).min(EVENT_BURST * 1_000);
                }
                if tokens < 1_000 {
                    lost = true;
                    break;
                }
                tokens -= 1_000;
                bursts.named(5, start + MS * ms);
            }
            assert!(!lost || bursts.due().is_some(), "{at_once} at once, then one in {each_ms} ms");
        }
    }

    #[test]
    fn what_few_ports_name_by_and_by_leads_to_no_look() {
        let (mut bursts, start) = (Bursts::default(), Instant::now());
        for ms in 0..5_000 {
            bursts.named(ms % 20, start + MS * ms);
        }
        assert_eq!(bursts.due(), None);
    }
}
