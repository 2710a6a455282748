//! Which transit hosts are alive, as far as the senders of this host need to know.
//!
//! A host that owes an answer is probed, and avoided when it does not answer that either:
//! 50 ms after a request without an answer the first probe goes out, the others 50 ms apart, and
//! 200 ms after the request the host counts as dead. A host that is merely in use is probed once
//! a second. So an idle cloud is silent (probing everything at ten a second is quadratic in the
//! number of hosts: DATAPLANE, rule 29), and a lost bouncer is avoided in less than 300 ms: at the
//! worst three looks, 75 ms apart, and what a busy machine takes to let the agent look. The kernel
//! answers probes, so a host that is merely busy does not miss three.
//!
//! Never more than half of the hosts in the shard maps are avoided: whoever thinks that most of
//! the cloud is dead has lost its own uplink.
//!
//! Pure: [`Prober::judge`] sees the tables and a moment, and says what to do.

use mizar_abi::maps::Pending;
use mizar_packet::flow::Now;
use std::collections::{BTreeMap, BTreeSet};

/// An underlay address.
pub type Address = [u8; 4];

/// An answer is overdue.
const OVERDUE_MS: u32 = 50;
/// Between probes of a host that owes an answer.
const EAGER_MS: u32 = 50;
/// Without an answer for so long, in spite of probes, a host is dead.
const DEAD_MS: u32 = 200;
/// Probes that must have gone unanswered: one can get lost.
const DEAD_PROBES: u8 = 3;
/// Between probes of a host in use, or dead.
const CALM_MS: u32 = 1_000;
/// A host that was asked nothing for so long is not in use.
const IDLE_S: u32 = 10;

/// What is known of a transit host.
#[derive(Clone, Copy, Debug, Default)]
struct State {
    /// Moment of the last probe.
    probed: Option<u32>,
    /// Moment of the first probe that was not answered.
    waiting: Option<u32>,
    /// Probes since an answer was overdue.
    misses: u8,
    dead: bool,
}

/// What to do.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Send these a probe.
    pub probe: Vec<Address>,
    /// Hosts, by number, that are dead from now on, or alive again.
    pub turned: Vec<(u32, bool)>,
    /// Remove these from PENDING: they are not asked any more.
    pub forget: Vec<Address>,
}

/// Remembers transit hosts from one look to the next.
#[derive(Debug, Default)]
pub struct Prober {
    hosts: BTreeMap<Address, State>,
}

/// Milliseconds from one moment to another, of a clock that wraps.
const fn since(now: u32, then: u32) -> u32 {
    now.wrapping_sub(then)
}

/// Whether `a` is before `b`, less than 24 days apart.
const fn is_before(a: u32, b: u32) -> bool {
    b.wrapping_sub(a).wrapping_sub(1) < u32::MAX / 2
}

impl Prober {
    /// Looks at who owes answers. `transit`: who may be asked, by address; `dead`: what the map
    /// says, which is right after a restart too.
    pub fn judge(
        &mut self,
        now: &Now,
        pending: &[(Address, Pending)],
        transit: &BTreeMap<Address, u32>,
        dead: &BTreeSet<u32>,
    ) -> Verdict {
        let mut verdict = Verdict::default();
        // Whoever lost the role is nobody's to avoid, nor to remember.
        let holders: BTreeSet<u32> = transit.values().copied().collect();
        verdict.turned.extend(dead.iter().filter(|n| !holders.contains(n)).map(|n| (*n, false)));
        self.hosts.retain(|address, _| transit.contains_key(address));
        let mut ejected = dead.iter().filter(|n| holders.contains(n)).count();

        let asked: BTreeMap<Address, Pending> = pending.iter().copied().collect();
        for address in asked.keys().filter(|a| !transit.contains_key(*a)) {
            verdict.forget.push(*address);
        }
        for (address, number) in transit {
            let is_dead = dead.contains(number);
            let Some(pending) = asked.get(address) else {
                if is_dead {
                    // Nothing tells of it any more: who asks it next will see.
                    verdict.turned.push((*number, false));
                    ejected -= 1;
                }
                self.hosts.remove(address);
                continue;
            };
            let state = self.hosts.entry(*address).or_default();
            state.dead = is_dead;
            if !is_dead && now.s.wrapping_sub(pending.used) > IDLE_S && now.s >= pending.used {
                verdict.forget.push(*address);
                self.hosts.remove(address);
                continue;
            }
            state.judge(now.ms, pending);
            if state.wants_probe(now.ms, pending) {
                state.sent(now.ms);
                verdict.probe.push(*address);
            }
            let half = transit.len() / 2;
            if !state.dead && state.is_lost(now.ms, pending) && ejected < half {
                state.dead = true;
                ejected += 1;
                verdict.turned.push((*number, true));
            } else if state.dead && state.waiting.is_none() && state.probed.is_some() {
                state.dead = false;
                ejected -= 1;
                verdict.turned.push((*number, false));
            }
        }
        verdict
    }
}

impl State {
    /// Takes note of answers.
    fn judge(&mut self, now: u32, pending: &Pending) {
        if let Some(waiting) = self.waiting
            && pending.answered_ms != 0
            && is_before(waiting, pending.answered_ms.wrapping_add(1))
            && since(now, pending.answered_ms) < u32::MAX / 2
        {
            (self.waiting, self.misses) = (None, 0);
        }
    }

    /// Since when an answer is owed.
    fn owed_since(&self, pending: &Pending) -> Option<u32> {
        let request = (pending.since_ms != 0).then_some(pending.since_ms);
        match (request, self.waiting) {
            (Some(a), Some(b)) => Some(if is_before(a, b) { a } else { b }),
            (a, b) => a.or(b),
        }
    }

    fn wants_probe(&self, now: u32, pending: &Pending) -> bool {
        let last = self.probed.map(|probed| since(now, probed));
        if self.dead {
            return last.is_none_or(|last| last >= CALM_MS);
        }
        match self.owed_since(pending) {
            // It owes one: soon, and often.
            Some(owed) if since(now, owed) >= OVERDUE_MS => last.is_none_or(|last| last >= EAGER_MS),
            Some(_) => false,
            None => last.is_none_or(|last| last >= CALM_MS),
        }
    }

    fn sent(&mut self, now: u32) {
        self.probed = Some(now);
        self.waiting = self.waiting.or(Some(now));
        self.misses = self.misses.saturating_add(1);
    }

    fn is_lost(&self, now: u32, pending: &Pending) -> bool {
        self.misses >= DEAD_PROBES && self.owed_since(pending).is_some_and(|owed| since(now, owed) >= DEAD_MS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hosts with numbers 1 to 4 at addresses ending so, and the tables.
    struct World {
        prober: Prober,
        pending: BTreeMap<Address, Pending>,
        transit: BTreeMap<Address, u32>,
        dead: BTreeSet<u32>,
        now: u32,
    }

    fn address(number: u32) -> Address {
        [192, 0, 2, number as u8]
    }

    impl World {
        fn new(start: u32) -> Self {
            let transit = (1..=4).map(|n| (address(n), n)).collect();
            Self { prober: Prober::default(), pending: BTreeMap::new(), transit, dead: BTreeSet::new(), now: start }
        }

        fn s(&self) -> u32 {
            // The second hand does not wrap with the milliseconds.
            10_000 + self.now.wrapping_sub(u32::MAX - 60_000) / 1000
        }

        fn ask(&mut self, number: u32) {
            let (now, used) = (self.now, self.s());
            let pending = self.pending.entry(address(number)).or_default();
            pending.used = used;
            if pending.since_ms == 0 {
                pending.since_ms = now;
            }
        }

        /// Lets time pass in steps of 25 ms; `alive` hosts answer probes at once. Returns probes
        /// sent, with the time from the start.
        fn pass(&mut self, ms: u32, alive: &[u32]) -> Vec<(u32, u32)> {
            let start = self.now;
            let mut probes = Vec::new();
            while self.now.wrapping_sub(start) < ms {
                self.now = self.now.wrapping_add(25);
                let now = Now { s: self.s(), ms: self.now };
                let pending: Vec<_> = self.pending.iter().map(|(k, v)| (*k, *v)).collect();
                let verdict = self.prober.judge(&now, &pending, &self.transit, &self.dead);
                for (number, dead) in verdict.turned {
                    assert_ne!(self.dead.contains(&number), dead, "no news");
                    if dead {
                        self.dead.insert(number)
                    } else {
                        self.dead.remove(&number)
                    };
                }
                for address in verdict.forget {
                    self.pending.remove(&address);
                }
                for address in verdict.probe {
                    probes.push((self.now.wrapping_sub(start), u32::from(address[3])));
                    if alive.contains(&u32::from(address[3])) {
                        let pending = self.pending.get_mut(&address).unwrap();
                        (pending.since_ms, pending.answered_ms) = (0, self.now);
                    }
                }
            }
            probes
        }
    }

    #[test]
    fn a_silent_host_is_dead_after_200_ms_and_three_probes_also_when_the_clock_wraps() {
        for start in [1_000_000, u32::MAX - 100] {
            let mut world = World::new(start);
            world.ask(1);
            let probes = world.pass(175, &[]);
            assert_eq!(probes, [(50, 1), (100, 1), (150, 1)]);
            assert!(world.dead.is_empty());
            world.pass(25, &[]);
            assert_eq!(world.dead, [1].into(), "start {start}");
        }
    }

    #[test]
    fn a_host_that_answers_its_probe_stays() {
        let mut world = World::new(1_000_000);
        world.ask(1);
        let probes = world.pass(2_000, &[1]);
        assert_eq!(probes, [(50, 1), (1_050, 1)], "then once a second");
        assert!(world.dead.is_empty());
    }

    #[test]
    fn a_host_in_use_that_falls_silent_is_noticed_without_a_request() {
        let mut world = World::new(1_000_000);
        world.ask(1);
        world.pass(1_000, &[1]);
        world.ask(1);
        world.pass(1_000, &[]);
        assert_eq!(world.dead, [1].into());
    }

    #[test]
    fn a_dead_host_is_probed_calmly_and_used_again_when_it_answers() {
        let mut world = World::new(1_000_000);
        world.ask(1);
        world.pass(300, &[]);
        assert_eq!(world.dead, [1].into());
        let probes = world.pass(20_000, &[]);
        assert!((18..=21).contains(&probes.len()), "{} probes in 20 s", probes.len());
        assert_eq!(world.dead, [1].into());
        world.pass(1_100, &[1]);
        assert!(world.dead.is_empty());
    }

    #[test]
    fn never_more_than_half_are_avoided() {
        let mut world = World::new(1_000_000);
        for number in 1..=4 {
            world.ask(number);
        }
        world.pass(2_000, &[]);
        assert_eq!(world.dead.len(), 2);
        world.transit = [(address(1), 1)].into();
        world.dead.clear();
        world.pending.clear();
        world.ask(1);
        world.pass(2_000, &[]);
        assert!(world.dead.is_empty(), "the only one is never given up");
    }

    #[test]
    fn idle_hosts_and_those_without_a_role_are_forgotten() {
        let mut world = World::new(1_000_000);
        world.ask(1);
        world.ask(2);
        world.pass(1_000, &[1, 2]);
        let probes = world.pass(12_000, &[1, 2]);
        assert!(probes.len() <= 22, "not probed for longer than 10 s: {}", probes.len());
        assert!(world.pending.is_empty());
        assert!(world.pass(5_000, &[]).is_empty(), "an idle cloud is silent");
        world.ask(3);
        world.pass(300, &[]);
        assert_eq!(world.dead, [3].into());
        world.transit.remove(&address(3));
        world.pass(25, &[]);
        assert!(world.dead.is_empty() && world.pending.is_empty());
    }

    #[test]
    fn a_restarted_agent_goes_on_with_what_the_map_says() {
        let mut world = World::new(1_000_000);
        world.ask(1);
        world.pass(300, &[]);
        world.prober = Prober::default();
        world.pass(2_000, &[]);
        assert_eq!(world.dead, [1].into());
        world.prober = Prober::default();
        world.pass(1_100, &[1]);
        assert!(world.dead.is_empty());
    }
}
