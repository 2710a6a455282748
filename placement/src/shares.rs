//! The fair share of each host, weighted by its label and clipped by the failure domains.
//!
//! Weight alone would ask the impossible: in a cluster of two racks with one and nine hosts every
//! pair needs the lonely host, whatever its weight. Since the two replicas of a pair go to
//! different zones (or racks, where there is one zone; or hosts, where there is one rack), no
//! member of that first level that has a choice can carry more than half of everything. So: at
//! that level a share above one half is clipped to it and the rest goes to the others by weight;
//! below it, weight alone decides.

use crate::host::Host;
use std::collections::BTreeMap;

/// The whole, in fixed point.
pub const ONE: u64 = 1 << 40;

/// Shares of `ONE` by host number, for the eligible hosts.
pub fn fair(hosts: &[Host]) -> BTreeMap<u32, u64> {
    let eligible: Vec<&Host> = hosts.iter().filter(|h| h.eligible()).collect();
    let zones = group(&eligible, |h| (h.az.as_str(), ""));
    if zones.len() > 1 {
        return clip(zones);
    }
    let racks = group(&eligible, |h| (h.az.as_str(), h.rack.as_str()));
    if racks.len() > 1 {
        return clip(racks);
    }
    clip(eligible.into_iter().map(|h| vec![h]).collect())
}

fn group<'a>(hosts: &[&'a Host], by: impl Fn(&'a Host) -> (&'a str, &'a str)) -> Vec<Vec<&'a Host>> {
    let mut groups: BTreeMap<_, Vec<&Host>> = BTreeMap::new();
    for host in hosts {
        groups.entry(by(host)).or_default().push(host);
    }
    groups.into_values().collect()
}

fn clip(groups: Vec<Vec<&Host>>) -> BTreeMap<u32, u64> {
    let weight = |group: &[&Host]| group.iter().map(|h| u128::from(h.effective_weight())).sum::<u128>();
    let total: u128 = groups.iter().map(|g| weight(g)).sum();
    let single = groups.len() == 1;
    let heavy = groups.iter().map(|g| weight(g)).max().unwrap_or(0);
    let clipped = !single && heavy * 2 > total;
    let mut shares = BTreeMap::new();
    for group in &groups {
        let own = weight(group);
        // The part of ONE that this group divides, as a fraction of `of`.
        let (part, of) = match clipped {
            true if own == heavy => (u128::from(ONE / 2), heavy),
            true => (u128::from(ONE / 2), total - heavy),
            false => (u128::from(ONE), total),
        };
        for host in group {
            let share = part * u128::from(host.effective_weight()) / of;
            shares.insert(host.number, (share as u64).max(1));
        }
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Transit;

    fn host(number: u32, az: &str, rack: &str, transit: Transit, weight: u32) -> Host {
        Host { number, az: az.into(), rack: rack.into(), transit, weight, live: true }
    }

    fn near(shares: &BTreeMap<u32, u64>, host: u32, expected: f64) {
        let seen = shares[&host] as f64 / ONE as f64;
        assert!((seen - expected).abs() < 1e-6, "host {host}: {seen}, not {expected}");
    }

    #[test]
    fn a_preferred_host_carries_eight_times_as_much_where_domains_allow() {
        let hosts: Vec<Host> = (1..=20)
            .map(|n| host(n, "a", &format!("r{}", n % 5), if n == 1 { Transit::Prefer } else { Transit::Yes }, 1))
            .collect();
        let shares = fair(&hosts);
        near(&shares, 1, 8.0 / 27.0);
        near(&shares, 2, 1.0 / 27.0);
    }

    #[test]
    fn a_rack_never_counts_for_more_than_half() {
        let hosts = [
            host(1, "a", "r1", Transit::Prefer, 1),
            host(2, "a", "r1", Transit::Yes, 1),
            host(3, "a", "r2", Transit::Yes, 1),
            host(4, "a", "r2", Transit::Yes, 1),
        ];
        let shares = fair(&hosts);
        near(&shares, 1, 0.5 * 8.0 / 9.0);
        near(&shares, 2, 0.5 / 9.0);
        near(&shares, 3, 0.25);
    }

    #[test]
    fn in_one_rack_a_host_never_counts_for_more_than_half() {
        let hosts = [
            host(1, "a", "r", Transit::Prefer, 9),
            host(2, "a", "r", Transit::Yes, 1),
            host(3, "a", "r", Transit::Yes, 3),
        ];
        let shares = fair(&hosts);
        near(&shares, 1, 0.5);
        near(&shares, 2, 0.125);
        near(&shares, 3, 0.375);
    }

    #[test]
    fn a_single_host_has_everything_and_ineligible_ones_nothing() {
        let mut dead = host(2, "a", "r", Transit::Yes, 1);
        dead.live = false;
        let shares = fair(&[host(1, "a", "r", Transit::Yes, 1), dead, host(3, "a", "r", Transit::No, 1)]);
        assert_eq!(shares, BTreeMap::from([(1, ONE)]));
    }
}
