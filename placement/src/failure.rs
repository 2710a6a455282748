//! When a lost lease is a lost host, and when it is the observer that is lost.
//!
//! After an outage of the database, of the API or of a switch between them every lease looks
//! expired, and acting on that would re-place the cloud and take all its ports down while every
//! packet still flows (CONTROLPLANE C3). So losses are believed one by one only: when more than
//! a tenth of all hosts, or of a zone, are lost within a minute or await a decision together,
//! nothing is done to any of them until enough return. One host may always be lost, or else a
//! cluster of four could never heal: the tenth counts from twenty hosts on, below it is one host
//! a minute (ADR 0007). Waiting costs redundancy alone: the other holder of each shard is in
//! another rack, and senders have failed over to it.
//!
//! What no observer can know an operator may say: a host that is vouched to be gone is believed
//! to be lost as soon as its lease ends, and does not count among those that are too many.
//!
//! Lease clocks restart at leadership: a leader that has just come has seen nobody, and judges
//! nobody before one whole lease has passed. Except those whose loss was believed before and that
//! were not heard of since: the decision on them stands, or else the third loss in a week would
//! become a mass failure with the next leader.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Losses within this time count together.
pub const WINDOW: Duration = Duration::from_secs(60);

/// One part of hosts in this many may be lost at once and be believed.
pub const ONE_IN: usize = 10;

/// A host as its lease shows it. Times are those of the database, since an arbitrary start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Number of the host.
    pub host: u32,
    /// Its zone.
    pub az: String,
    /// When it was last heard of; `None` = never.
    pub seen: Option<Duration>,
    /// Its loss was believed, by whichever leader, and it was not heard of since.
    pub lost: bool,
    /// An operator says that it is gone.
    pub gone: bool,
}

/// What has been decided so far; kept by the leader from one judgement to the next.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    /// Lost hosts: since when, and whether their loss was believed.
    lost: BTreeMap<u32, Loss>,
}

#[derive(Clone, Debug)]
struct Loss {
    at: Duration,
    az: String,
    believed: bool,
    /// Whether it is one of those that may be too many.
    counts: bool,
}

/// The outcome of one judgement.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Hosts whose roles are to be replaced and whose ports are down.
    pub lost: BTreeSet<u32>,
    /// Believed just now.
    pub newly_lost: BTreeSet<u32>,
    /// Were lost and are back.
    pub returned: BTreeSet<u32>,
    /// Expired, but too many together: not believed.
    pub doubted: BTreeSet<u32>,
}

impl Verdict {
    /// Too many leases ended together: nothing may move.
    pub fn mass_failure(&self) -> bool {
        !self.doubted.is_empty()
    }
}

impl Ledger {
    /// Judges all leases at `now`, with leadership since `since`.
    pub fn judge(&mut self, leases: &[Lease], now: Duration, since: Duration, lease: Duration) -> Verdict {
        let mut verdict = Verdict::default();
        let known: BTreeSet<u32> = leases.iter().map(|l| l.host).collect();
        self.lost.retain(|host, _| known.contains(host));
        for it in leases {
            let begins = if it.lost { Duration::ZERO } else { since };
            let ends = it.seen.map_or(begins, |seen| seen.max(begins)).saturating_add(lease);
            if ends > now {
                if self.lost.remove(&it.host).is_some_and(|loss| loss.believed) {
                    verdict.returned.insert(it.host);
                }
                continue;
            }
            let new = || Loss { at: ends, az: it.az.clone(), believed: it.lost, counts: !it.lost };
            let loss = self.lost.entry(it.host).or_insert_with(new);
            if it.gone {
                loss.counts = false;
                if !loss.believed {
                    loss.believed = true;
                    verdict.newly_lost.insert(it.host);
                }
            }
        }
        // Each loss waits for its own zone and for the whole; a doubt anywhere is a doubt.
        if self.too_many(leases, now) {
            verdict.doubted = self.lost.iter().filter(|(_, l)| !l.believed).map(|(host, _)| *host).collect();
        } else {
            for (host, loss) in self.lost.iter_mut().filter(|(_, l)| !l.believed) {
                loss.believed = true;
                verdict.newly_lost.insert(*host);
            }
        }
        verdict.lost = self.lost.iter().filter(|(_, l)| l.believed).map(|(host, _)| *host).collect();
        verdict
    }

    /// Takes belief back from losses that could not be acted on: they are judged again.
    pub fn doubt(&mut self, hosts: &BTreeSet<u32>) {
        for host in hosts {
            if let Some(loss) = self.lost.get_mut(host) {
                loss.believed = false;
            }
        }
    }

    fn too_many(&self, leases: &[Lease], now: Duration) -> bool {
        let counts = |loss: &Loss| loss.counts && (!loss.believed || loss.at + WINDOW > now);
        let exceeds = |lost: usize, of: usize| lost > (of / ONE_IN).max(1);
        let mut zones: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
        for lease in leases {
            zones.entry(&lease.az).or_default().1 += 1;
        }
        for loss in self.lost.values().filter(|l| counts(l)) {
            zones.entry(&loss.az).or_default().0 += 1;
        }
        let lost = zones.values().map(|(lost, _)| lost).sum();
        exceeds(lost, leases.len()) || zones.values().any(|(lost, of)| exceeds(*lost, *of))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(30);
    const START: Duration = Duration::from_secs(1000);

    fn s(seconds: u64) -> Duration {
        START + Duration::from_secs(seconds)
    }

    fn leases(zones: &[&str], seen: impl Fn(u32) -> Option<u64>) -> Vec<Lease> {
        let lease = |(az, host): (&&str, u32)| Lease {
            host,
            az: (*az).into(),
            seen: seen(host).map(s),
            lost: false,
            gone: false,
        };
        zones.iter().zip(1..).map(lease).collect()
    }

    #[test]
    fn one_lost_host_of_four_is_believed_and_its_return_is_seen() {
        let mut ledger = Ledger::default();
        let four = ["a"; 4];
        let verdict = ledger.judge(&leases(&four, |h| Some(if h == 2 { 0 } else { 31 })), s(31), START, LEASE);
        assert_eq!((verdict.lost.clone(), verdict.newly_lost.clone()), (BTreeSet::from([2]), BTreeSet::from([2])));
        assert!(!verdict.mass_failure());
        let verdict = ledger.judge(&leases(&four, |_| Some(32)), s(32), START, LEASE);
        assert_eq!((verdict.lost.len(), verdict.returned.clone()), (0, BTreeSet::from([2])));
    }

    #[test]
    fn no_lease_ends_before_one_lease_of_leadership() {
        let mut ledger = Ledger::default();
        let old = leases(&["a"; 4], |_| None);
        assert_eq!(ledger.judge(&old, s(29), START, LEASE), Verdict::default());
        assert!(ledger.judge(&old, s(30), START, LEASE).mass_failure());
    }

    #[test]
    fn a_mass_failure_is_never_believed_however_long_it_lasts() {
        let mut ledger = Ledger::default();
        let half = leases(&["a"; 20], |h| Some(if h <= 10 { 0 } else { 100_000 }));
        for at in [31, 100, 5_000] {
            let verdict = ledger.judge(&half, s(at), START, LEASE);
            assert_eq!((verdict.lost.len(), verdict.doubted.len()), (0, 10));
        }
        let most_are_back = leases(&["a"; 20], |h| Some(if h <= 2 { 0 } else { 100_000 }));
        let verdict = ledger.judge(&most_are_back, s(5_001), START, LEASE);
        assert_eq!((verdict.lost.clone(), verdict.returned.len()), (BTreeSet::from([1, 2]), 0));
    }

    #[test]
    fn a_second_loss_within_a_minute_waits_for_the_minute_to_pass() {
        let mut ledger = Ledger::default();
        let at = |first: u64, second: u64| {
            leases(&["a"; 4], move |h| {
                Some(match h {
                    1 => first,
                    2 => second,
                    _ => 1000,
                })
            })
        };
        assert_eq!(ledger.judge(&at(0, 1000), s(30), START, LEASE).newly_lost, BTreeSet::from([1]));
        let verdict = ledger.judge(&at(0, 10), s(40), START, LEASE);
        assert_eq!((verdict.lost.clone(), verdict.doubted.clone()), (BTreeSet::from([1]), BTreeSet::from([2])));
        let verdict = ledger.judge(&at(0, 10), s(90), START, LEASE);
        assert_eq!(verdict.lost, BTreeSet::from([1, 2]));
    }

    #[test]
    fn a_zone_that_fails_is_not_believed_though_it_is_a_small_part_of_all() {
        let mut zones = vec!["big"; 96];
        zones.extend(["small"; 4]);
        let mut ledger = Ledger::default();
        let verdict = ledger.judge(&leases(&zones, |h| Some(if h > 97 { 0 } else { 1000 })), s(31), START, LEASE);
        assert_eq!(verdict.doubted, BTreeSet::from([98, 99, 100]));
    }

    #[test]
    fn a_host_that_was_removed_is_forgotten() {
        let mut ledger = Ledger::default();
        ledger.judge(&leases(&["a"; 4], |h| Some(if h == 4 { 0 } else { 1000 })), s(31), START, LEASE);
        let verdict = ledger.judge(&leases(&["a"; 3], |_| Some(1000)), s(32), START, LEASE);
        assert_eq!(verdict, Verdict::default());
    }

    fn with(mut leases: Vec<Lease>, hosts: &[u32], change: impl Fn(&mut Lease)) -> Vec<Lease> {
        leases.iter_mut().filter(|l| hosts.contains(&l.host)).for_each(change);
        leases
    }

    #[test]
    fn hosts_that_an_operator_says_are_gone_are_believed_and_the_others_are_not() {
        let mut ledger = Ledger::default();
        let three = || leases(&["a"; 4], |h| Some(if h < 4 { 0 } else { 1000 }));
        let verdict = ledger.judge(&three(), s(31), START, LEASE);
        assert_eq!((verdict.lost.len(), verdict.doubted.len()), (0, 3));
        let verdict = ledger.judge(&with(three(), &[1], |l| l.gone = true), s(32), START, LEASE);
        assert_eq!(
            (verdict.newly_lost.clone(), verdict.doubted.clone()),
            (BTreeSet::from([1]), BTreeSet::from([2, 3]))
        );
        // Two are vouched for, the third is a loss like any other.
        let verdict = ledger.judge(&with(three(), &[1, 2], |l| l.gone = true), s(33), START, LEASE);
        assert_eq!((verdict.newly_lost.clone(), verdict.doubted.len()), (BTreeSet::from([2, 3]), 0));
        // The operator's word ends; what was believed stays so.
        let verdict = ledger.judge(&three(), s(34), START, LEASE);
        assert_eq!((verdict.lost.len(), verdict.newly_lost.len(), verdict.doubted.len()), (3, 0, 0));
    }

    #[test]
    fn an_operator_cannot_make_a_host_lost_that_lives() {
        let mut ledger = Ledger::default();
        let all = with(leases(&["a"; 4], |_| Some(30)), &[1, 2, 3, 4], |l| l.gone = true);
        assert_eq!(ledger.judge(&all, s(31), START, LEASE), Verdict::default());
    }

    #[test]
    fn what_was_believed_stands_under_the_next_leader() {
        let mut ledger = Ledger::default();
        let lost = || with(leases(&["a"; 4], |h| Some(if h < 4 { 0 } else { 1000 })), &[1, 2, 3], |l| l.lost = true);
        // Before one lease of leadership, and no mass failure after it.
        for at in [500, 600] {
            let verdict = ledger.judge(&lost(), s(at), s(490), LEASE);
            assert_eq!((verdict.lost.len(), verdict.newly_lost.len(), verdict.doubted.len()), (3, 0, 0));
        }
        let back = leases(&["a"; 4], |h| Some(if h == 2 { 601 } else { 1000 }));
        let verdict = ledger.judge(&with(back, &[1, 3], |l| l.seen = Some(s(0))), s(602), s(490), LEASE);
        assert_eq!((verdict.lost, verdict.returned), (BTreeSet::from([1, 3]), BTreeSet::from([2])));
    }
}
