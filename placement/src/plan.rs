//! The planner: stored assignments and the present hosts in, the assignments that should be out.
//!
//! It works in the order of how much each step disturbs, and each step only does what the one
//! before could not leave alone:
//!
//! 1. holders that may stay, stay;
//! 2. what is missing is filled, largest first, by rank among hosts that have room;
//! 3. holders that still share a domain without need are replaced (the domain rule);
//! 4. hosts over their cap give away what they would not take again, where someone has room.
//!
//! A host *has room* for a demand if it is not above its fair share, or stays within
//! (1 + epsilon) of it. It is *over its cap* if it holds a demand that it has no room for, all
//! else staying: the same rule, read backwards. (A host that took one large demand while below
//! its share may therefore have to give small ones away: fewer bytes move than if the large one
//! had been refused.) A plan of a plan changes nothing.

use crate::host::Host;
use crate::rank::{self, Score};
use crate::topology::{Counts, Part, Site, Topology};

/// What is to be held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DemandKey {
    /// The shard of a subnet, by its number, that begins with this slot.
    Shard {
        /// Number of the subnet.
        subnet: u32,
        /// First slot.
        lo: u16,
    },
    /// The dividers of a network, by VNI.
    Dividers {
        /// The network.
        vni: u32,
    },
}

impl DemandKey {
    /// Seed of its rendezvous scores.
    pub fn seed(self) -> u64 {
        match self {
            Self::Shard { subnet, lo } => rank::seed([1 << 32 | u64::from(subnet), u64::from(lo)]),
            Self::Dividers { vni } => rank::seed([2 << 32 | u64::from(vni), 0]),
        }
    }
}

/// One demand with what is stored for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Demand {
    /// Which; unique within a plan.
    pub key: DemandKey,
    /// Entries that each holder holds.
    pub load: u64,
    /// Holders wanted; fewer where fewer hosts are eligible.
    pub replicas: usize,
    /// Stored holders.
    pub holders: Vec<u32>,
}

/// The planner's settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Hundredths by which a host may exceed its fair share.
    pub epsilon_percent: u32,
    /// Nothing that is held moves; only demands without any holder are placed.
    pub frozen: bool,
}

impl Default for Rules {
    fn default() -> Self {
        Self { epsilon_percent: 25, frozen: false }
    }
}

/// Holders of every demand, in its order, each list rising. Where no host is eligible everything
/// stays as stored: a label or a lease must not switch a whole cloud off.
pub fn plan(hosts: &[Host], demands: &[Demand], rules: Rules) -> Vec<Vec<u32>> {
    let mut state = State::new(hosts, demands, rules);
    if state.map.sites.is_empty() {
        return demands.iter().map(|d| sorted(d.holders.clone())).collect();
    }
    state.keep();
    state.fill();
    if !rules.frozen {
        state.spread();
        state.shed();
    }
    state.result()
}

fn sorted(mut hosts: Vec<u32>) -> Vec<u32> {
    hosts.sort_unstable();
    hosts.dedup();
    hosts
}

struct State<'a> {
    demands: &'a [Demand],
    rules: Rules,
    seeds: Vec<u64>,
    map: Topology,
    /// Sites that hold each demand.
    held: Vec<Vec<usize>>,
    /// Demands in the order of their keys: results must not depend on the caller's order.
    order: Vec<usize>,
}

impl<'a> State<'a> {
    fn new(hosts: &[Host], demands: &'a [Demand], rules: Rules) -> Self {
        let map = Topology::of(hosts, demands, rules);
        let mut order: Vec<usize> = (0..demands.len()).collect();
        order.sort_unstable_by_key(|i| demands[*i].key);
        Self {
            demands,
            rules,
            seeds: demands.iter().map(|d| d.key.seed()).collect(),
            map,
            held: vec![Vec::new(); demands.len()],
            order,
        }
    }

    fn wanted(&self, demand: usize) -> usize {
        self.demands[demand].replicas.min(self.map.sites.len())
    }

    /// Step 1.
    fn keep(&mut self) {
        for demand in 0..self.demands.len() {
            let stored = sorted(self.demands[demand].holders.clone());
            let mut held: Vec<usize> = stored.iter().filter_map(|h| self.map.site(*h)).collect();
            if !self.rules.frozen {
                while held.len() > self.wanted(demand) {
                    let worst = self.worst(demand, &held, |_| true);
                    held.retain(|s| Some(*s) != worst);
                }
            }
            for site in &held {
                self.map.sites[*site].load += self.demands[demand].load;
            }
            self.held[demand] = held;
        }
    }

    /// A holder that shares its zone or rack while another stands empty by comparison.
    fn crowded(&self, demand: usize, held: &[usize]) -> Option<usize> {
        if held.len() < 2 {
            return None;
        }
        let zones = Counts::of(held.iter().map(|s| self.map.sites[*s].zone));
        let emptiest = self.map.emptiest_zone(&zones)?;
        let full = zones.max();
        if full >= emptiest + 2 {
            return self.worst(demand, held, |s| zones.get(self.map.sites[s].zone) == full);
        }
        let racks = Counts::of(held.iter().map(|s| self.map.sites[*s].rack));
        held.iter().find_map(|site| {
            let Site { zone, rack, .. } = self.map.sites[*site];
            let emptiest = self.map.emptiest_rack(zone, &racks)?;
            let full = racks.get(rack);
            (full >= emptiest + 2).then(|| self.worst(demand, held, |s| self.map.sites[s].rack == rack)).flatten()
        })
    }

    /// Of the holders in question the one to let go: from the fullest zone, then the fullest
    /// rack, then the last in rank.
    fn worst(&self, demand: usize, held: &[usize], among: impl Fn(usize) -> bool) -> Option<usize> {
        let zones = Counts::of(held.iter().map(|s| self.map.sites[*s].zone));
        let racks = Counts::of(held.iter().map(|s| self.map.sites[*s].rack));
        held.iter().copied().filter(|s| among(*s)).max_by_key(|s| {
            let site = &self.map.sites[*s];
            (zones.get(site.zone), racks.get(site.rack), self.score(demand, site.hash, site.share))
        })
    }

    fn score(&self, demand: usize, hash: u64, share: u64) -> Score {
        Score::new(self.seeds[demand], hash, share)
    }

    /// Step 2.
    fn fill(&mut self) {
        let mut order = self.order.clone();
        order.sort_by_key(|d| std::cmp::Reverse(self.demands[*d].load));
        for demand in order {
            if self.rules.frozen && !self.demands[demand].holders.is_empty() {
                continue;
            }
            self.complete(demand);
        }
    }

    fn complete(&mut self, demand: usize) {
        while self.held[demand].len() < self.wanted(demand) {
            let held = &self.held[demand];
            let Some(site) = self.pick(demand, held, |_| true).or_else(|| self.pick_anyway(demand, held)) else {
                break;
            };
            self.held[demand].push(site);
            self.map.sites[site].load += self.demands[demand].load;
        }
    }

    /// Step 3. After filling, since a lost holder leaves its domain empty only until then.
    fn spread(&mut self) {
        for demand in self.order.clone() {
            while let Some(worst) = self.crowded(demand, &self.held[demand]) {
                self.held[demand].retain(|s| *s != worst);
                self.map.sites[worst].load -= self.demands[demand].load;
                self.complete(demand);
            }
        }
    }

    /// The best site by rank with room, of those that the domain rule admits beside `held`.
    /// What `also` refuses still counts as a free site of its domains, but is no candidate.
    fn pick(&self, demand: usize, held: &[usize], also: impl Fn(&Site) -> bool) -> Option<usize> {
        let load = self.demands[demand].load;
        let fits = |site: usize| {
            let it = &self.map.sites[site];
            it.room_for(load) && !held.contains(&site) && also(it)
        };
        // Most calls in a full cluster end here, before anything is hashed.
        if !(0..self.map.sites.len()).any(fits) {
            return None;
        }
        let (zones, racks) = self.map.admitted(held);
        let mut zones = zones;
        zones.sort_by_cached_key(|z| self.score(demand, self.map.zones[*z].hash, self.map.zones[*z].share));
        for zone in zones {
            let mut within: Vec<usize> =
                racks.iter().copied().filter(|r| self.map.zones[zone].members.contains(r)).collect();
            within.sort_by_cached_key(|r| self.score(demand, self.map.racks[*r].hash, self.map.racks[*r].share));
            for rack in within {
                let candidates = self.map.racks[rack].members.iter().copied().filter(|s| fits(*s));
                let best =
                    candidates.min_by_key(|s| self.score(demand, self.map.sites[*s].hash, self.map.sites[*s].share));
                if best.is_some() {
                    return best;
                }
            }
        }
        None
    }

    /// Where nobody has room: the admitted site that is least over its share afterwards.
    fn pick_anyway(&self, demand: usize, held: &[usize]) -> Option<usize> {
        let load = self.demands[demand].load;
        let (_, racks) = self.map.admitted(held);
        let candidates =
            racks.iter().flat_map(|r| self.map.racks[*r].members.iter().copied()).filter(|s| !held.contains(s));
        candidates.min_by(|a, b| {
            let (a, b) = (&self.map.sites[*a], &self.map.sites[*b]);
            let part = |s: &Site| Part { load: s.load.saturating_add(load), share: s.share };
            let score = |s: &Site| self.score(demand, s.hash, s.share);
            part(a).cmp(&part(b)).then_with(|| score(a).cmp(&score(b)))
        })
    }

    /// Step 4. Every move leaves both hosts below what the giver had, in parts of their shares;
    /// the sorted list of these parts falls with each, so it ends.
    fn shed(&mut self) {
        if self.map.sites.iter().all(|s| s.load <= s.cap) {
            return;
        }
        let mut items: Vec<Vec<usize>> = vec![Vec::new(); self.map.sites.len()];
        for demand in &self.order {
            for site in &self.held[*demand] {
                items[*site].push(*demand);
            }
        }
        loop {
            let mut moved = false;
            for site in 0..self.map.sites.len() {
                moved |= self.relieve(site, &mut items);
            }
            if !moved {
                return;
            }
        }
    }

    fn relieve(&mut self, site: usize, items: &mut [Vec<usize>]) -> bool {
        let mut moved = false;
        while self.map.sites[site].load > self.map.sites[site].cap {
            let Some((demand, to)) = self.relief(site, &items[site]) else { break };
            let load = self.demands[demand].load;
            self.map.sites[site].load -= load;
            self.map.sites[to].load += load;
            items[site].retain(|d| *d != demand);
            items[to].push(demand);
            let slot = self.held[demand].iter().position(|s| *s == site).expect("items mirror holders");
            self.held[demand][slot] = to;
            moved = true;
        }
        moved
    }

    /// The largest demand that the site would not take again and that another one takes.
    fn relief(&self, site: usize, items: &[usize]) -> Option<(usize, usize)> {
        let over = &self.map.sites[site];
        let load = |d: usize| self.demands[d].load;
        let mut movable: Vec<usize> =
            items.iter().copied().filter(|d| !over.room_beside(over.load - load(*d), load(*d))).collect();
        movable.sort_by_key(|d| (std::cmp::Reverse(load(*d)), self.demands[*d].key));
        movable.into_iter().find_map(|demand| {
            let rest: Vec<usize> = self.held[demand].iter().copied().filter(|s| *s != site).collect();
            let load = load(demand);
            let had = Part { load: over.load, share: over.share };
            // `over` itself would not pass: taking the demand back is no relief. Nor would a host
            // in another zone if the racks of this one were left uneven.
            let to = self.pick(demand, &rest, |to| {
                let held = || rest.iter().copied().chain(self.map.site(to.number)).collect::<Vec<_>>();
                Part { load: to.load.saturating_add(load), share: to.share } < had
                    && (rest.len() < 2 || self.crowded(demand, &held()).is_none())
            });
            to.map(|to| (demand, to))
        })
    }

    fn result(self) -> Vec<Vec<u32>> {
        let number = |s: &usize| self.map.sites[*s].number;
        self.held
            .iter()
            .zip(self.demands)
            .map(|(held, demand)| match self.rules.frozen && !demand.holders.is_empty() {
                true => sorted(demand.holders.clone()),
                false => sorted(held.iter().map(number).collect()),
            })
            .collect()
    }
}
