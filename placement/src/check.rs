//! An independent checker: the rules of a placement stated directly, with no regard to speed and
//! no line shared with the planner but the fair shares. The property tests run it after every
//! plan, and the scheduler's tests on what is stored.

use crate::host::Host;
use crate::plan::{Demand, DemandKey, Rules};
use crate::shares;
use std::collections::{BTreeMap, BTreeSet};

/// A rule that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what each field is")]
pub enum Finding {
    #[error("{key:?} is held by {host}, which is not eligible")]
    Ineligible { key: DemandKey, host: u32 },
    #[error("{key:?} is held twice by {host}")]
    Twice { key: DemandKey, host: u32 },
    #[error("{key:?} has {held} holders instead of {wanted}")]
    Count { key: DemandKey, held: usize, wanted: usize },
    #[error("{key:?} is held by {host} while {instead}, in an emptier zone, could")]
    Zone { key: DemandKey, host: u32, instead: u32 },
    #[error("{key:?} is held by {host} while {instead}, in an emptier rack of its zone, could")]
    Rack { key: DemandKey, host: u32, instead: u32 },
    #[error("{host} is over its cap with {key:?}, which {instead} has room for")]
    Cap { key: DemandKey, host: u32, instead: u32 },
}

/// Everything that is wrong with a placement, `demands[i].holders` being the holders. The cap
/// counts as broken where one move that the domain rule allows would mend it.
pub fn check(hosts: &[Host], demands: &[Demand], rules: Rules) -> Vec<Finding> {
    let eligible: BTreeMap<u32, &Host> = hosts.iter().filter(|h| h.eligible()).map(|h| (h.number, h)).collect();
    let mut findings = Vec::new();
    for demand in demands {
        let key = demand.key;
        let unique: BTreeSet<u32> = demand.holders.iter().copied().collect();
        for host in &unique {
            if !eligible.contains_key(host) {
                findings.push(Finding::Ineligible { key, host: *host });
            }
            if demand.holders.iter().filter(|h| *h == host).count() > 1 {
                findings.push(Finding::Twice { key, host: *host });
            }
        }
        let wanted = demand.replicas.min(eligible.len());
        if demand.holders.len() != wanted {
            findings.push(Finding::Count { key, held: demand.holders.len(), wanted });
        }
        for host in &demand.holders {
            for instead in eligible.values().filter(|h| !unique.contains(&h.number)) {
                findings.extend(better(&eligible, demand, *host, instead));
            }
        }
    }
    findings.extend(caps(hosts, &eligible, demands, rules));
    findings
}

/// How many holders other than `but` stand where `same` says.
fn others(eligible: &BTreeMap<u32, &Host>, demand: &Demand, but: u32, same: impl Fn(&Host) -> bool) -> usize {
    demand.holders.iter().filter(|h| **h != but).filter(|h| eligible.get(h).is_some_and(|h| same(h))).count()
}

/// Whether the domain rule asks that `instead` holds the demand in place of `host`.
fn better(eligible: &BTreeMap<u32, &Host>, demand: &Demand, host: u32, instead: &Host) -> Option<Finding> {
    let held = eligible.get(&host)?;
    let key = demand.key;
    let in_zone = |h: &Host| others(eligible, demand, host, |o| o.az == h.az);
    let in_rack = |h: &Host| others(eligible, demand, host, |o| o.az == h.az && o.rack == h.rack);
    if in_zone(instead) < in_zone(held) {
        return Some(Finding::Zone { key, host, instead: instead.number });
    }
    if instead.az == held.az && in_rack(instead) < in_rack(held) {
        return Some(Finding::Rack { key, host, instead: instead.number });
    }
    None
}

fn moved(demand: &Demand, from: u32, to: u32) -> Demand {
    let holders = demand.holders.iter().map(|h| if *h == from { to } else { *h }).collect();
    Demand { holders, ..demand.clone() }
}

/// Whether the domain rule holds.
fn apart(eligible: &BTreeMap<u32, &Host>, demand: &Demand) -> bool {
    let free = || eligible.values().filter(|h| !demand.holders.contains(&h.number));
    demand.holders.iter().all(|host| free().all(|instead| better(eligible, demand, *host, instead).is_none()))
}

fn caps(hosts: &[Host], eligible: &BTreeMap<u32, &Host>, demands: &[Demand], rules: Rules) -> Vec<Finding> {
    let shares = shares::fair(hosts);
    let mut loads: BTreeMap<u32, u64> = BTreeMap::new();
    let mut total = 0u128;
    for demand in demands {
        total += u128::from(demand.load) * demand.replicas.min(eligible.len()) as u128;
        for host in &demand.holders {
            *loads.entry(*host).or_default() += demand.load;
        }
    }
    let load_of = |host: u32| loads.get(&host).copied().unwrap_or(0);
    let room = |host: u32, held: u64, load: u64| {
        let fair = total * u128::from(shares[&host]) / u128::from(shares::ONE);
        u128::from(held) <= fair || u128::from(held + load) <= fair * u128::from(100 + rules.epsilon_percent) / 100
    };
    let mut findings = Vec::new();
    for demand in demands {
        for host in demand.holders.iter().filter(|h| eligible.contains_key(h)) {
            if room(*host, load_of(*host) - demand.load, demand.load) {
                continue;
            }
            let relief = eligible.values().find(|h| {
                !demand.holders.contains(&h.number)
                    && room(h.number, load_of(h.number), demand.load)
                    // It may not only pass the trouble on, nor break the domain rule.
                    && u128::from(load_of(h.number) + demand.load) * u128::from(shares[host])
                        < u128::from(load_of(*host)) * u128::from(shares[&h.number])
                    && apart(eligible, &moved(demand, *host, h.number))
            });
            if let Some(relief) = relief {
                findings.push(Finding::Cap { key: demand.key, host: *host, instead: relief.number });
            }
        }
    }
    findings
}
