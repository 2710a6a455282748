//! Failure domains as the planner walks them: zones of racks of eligible hosts, with what each host
//! holds and may hold.

use crate::host::Host;
use crate::plan::{Demand, Rules};
use crate::{rank, shares};
use std::cmp::Ordering;
use std::collections::BTreeMap;

/// An eligible host.
pub struct Site {
    pub number: u32,
    pub zone: usize,
    pub rack: usize,
    pub hash: u64,
    pub share: u64,
    pub fair: u64,
    pub cap: u64,
    pub load: u64,
}

impl Site {
    pub fn room_for(&self, load: u64) -> bool {
        self.room_beside(self.load, load)
    }

    /// Whether it would take `load` while it holds `held`.
    pub fn room_beside(&self, held: u64, load: u64) -> bool {
        held <= self.fair || held.saturating_add(load) <= self.cap
    }
}

/// A load in parts of the host's share.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Part {
    pub load: u64,
    pub share: u64,
}

impl Ord for Part {
    fn cmp(&self, other: &Self) -> Ordering {
        (u128::from(self.load) * u128::from(other.share)).cmp(&(u128::from(other.load) * u128::from(self.share)))
    }
}

impl PartialOrd for Part {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// A zone or rack: its members are racks or sites.
pub struct Domain {
    pub hash: u64,
    pub share: u64,
    pub members: Vec<usize>,
    /// Sites in it, at any depth.
    pub sites: usize,
}

/// All eligible hosts and where they are.
pub struct Topology {
    /// By host number, rising.
    pub sites: Vec<Site>,
    pub zones: Vec<Domain>,
    pub racks: Vec<Domain>,
}

impl Topology {
    /// The eligible ones of hosts, holding nothing yet; their caps are their parts of the demands.
    pub fn of(hosts: &[Host], demands: &[Demand], rules: Rules) -> Self {
        let shares = shares::fair(hosts);
        let by_number: BTreeMap<u32, &Host> = hosts.iter().map(|h| (h.number, h)).collect();
        let mut zone_index = BTreeMap::new();
        let mut rack_index = BTreeMap::new();
        let (mut zones, mut racks, mut sites): (Vec<Domain>, Vec<Domain>, Vec<Site>) = Default::default();
        for (number, share) in shares {
            let host = by_number[&number];
            let zone_hash = rank::name(1, &host.az);
            let rack_hash = rank::name(zone_hash, &host.rack);
            let zone = *zone_index.entry(host.az.as_str()).or_insert_with(|| {
                zones.push(Domain { hash: zone_hash, share: 0, members: Vec::new(), sites: 0 });
                zones.len() - 1
            });
            let rack = *rack_index.entry((host.az.as_str(), host.rack.as_str())).or_insert_with(|| {
                racks.push(Domain { hash: rack_hash, share: 0, members: Vec::new(), sites: 0 });
                zones[zone].members.push(racks.len() - 1);
                racks.len() - 1
            });
            racks[rack].members.push(sites.len());
            for domain in [&mut zones[zone], &mut racks[rack]] {
                domain.share += share;
                domain.sites += 1;
            }
            sites.push(Site { number, zone, rack, hash: u64::from(number), share, fair: 0, cap: 0, load: 0 });
        }
        let replicas = |d: &Demand| d.replicas.min(sites.len()) as u64;
        let total: u128 = demands.iter().map(|d| u128::from(d.load) * u128::from(replicas(d))).sum();
        for site in &mut sites {
            let fair = total * u128::from(site.share) / u128::from(shares::ONE);
            site.fair = fair.try_into().unwrap_or(u64::MAX);
            let cap = fair * u128::from(100 + rules.epsilon_percent) / 100;
            site.cap = cap.try_into().unwrap_or(u64::MAX);
        }
        Self { sites, zones, racks }
    }

    pub fn site(&self, number: u32) -> Option<usize> {
        self.sites.binary_search_by_key(&number, |s| s.number).ok()
    }

    /// The lowest count among domains that have a site free.
    fn emptiest(&self, domains: &[Domain], which: impl Iterator<Item = usize>, counts: &Counts) -> Option<usize> {
        which.filter(|d| counts.get(*d) < domains[*d].sites).map(|d| counts.get(d)).min()
    }

    /// The lowest count among zones that have a site free.
    pub fn emptiest_zone(&self, counts: &Counts) -> Option<usize> {
        self.emptiest(&self.zones, 0..self.zones.len(), counts)
    }

    /// The same among the racks of a zone.
    pub fn emptiest_rack(&self, zone: usize, counts: &Counts) -> Option<usize> {
        self.emptiest(&self.racks, self.zones[zone].members.iter().copied(), counts)
    }

    /// Zones and racks that the domain rule admits for one more holder beside `held`: the zones
    /// that hold least and have a site free, and in each its racks that hold least and have one.
    pub fn admitted(&self, held: &[usize]) -> (Vec<usize>, Vec<usize>) {
        let counts = Counts::of(held.iter().map(|s| self.sites[*s].zone));
        let in_racks = Counts::of(held.iter().map(|s| self.sites[*s].rack));
        let least = self.emptiest_zone(&counts);
        let admits = |z: &usize| counts.get(*z) < self.zones[*z].sites && Some(counts.get(*z)) == least;
        let zones: Vec<usize> = (0..self.zones.len()).filter(admits).collect();
        let mut racks = Vec::new();
        for zone in &zones {
            let members = &self.zones[*zone].members;
            let least = self.emptiest_rack(*zone, &in_racks);
            let admits = |r: &usize| in_racks.get(*r) < self.racks[*r].sites && Some(in_racks.get(*r)) == least;
            racks.extend(members.iter().copied().filter(admits));
        }
        (zones, racks)
    }
}

/// How often each domain occurs among a few holders.
pub struct Counts(Vec<(usize, usize)>);

impl Counts {
    pub fn of(domains: impl Iterator<Item = usize>) -> Self {
        let mut counts: Vec<(usize, usize)> = Vec::new();
        for domain in domains {
            match counts.iter_mut().find(|(d, _)| *d == domain) {
                Some((_, n)) => *n += 1,
                None => counts.push((domain, 1)),
            }
        }
        Self(counts)
    }

    pub fn get(&self, domain: usize) -> usize {
        self.0.iter().find(|(d, _)| *d == domain).map_or(0, |(_, n)| *n)
    }

    pub fn max(&self) -> usize {
        self.0.iter().map(|(_, n)| *n).max().unwrap_or(0)
    }
}
