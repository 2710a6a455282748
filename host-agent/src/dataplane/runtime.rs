//! What the programs write by themselves: flows, counters, who owes an answer.

use super::kernel::{open, size, unless_absent};
use super::raw::{Plain, Raw};
use super::{Pins, PlaneError};
use crate::core::Forget;
use aya::maps::{HashMap, LpmTrie, MapData, MapError, PerCpuArray, PerCpuHashMap, RingBuf, lpm_trie};
use mizar_abi::hash::{shard_of, slot};
use mizar_abi::maps::{self, RouteKind, ShardKey, State, VniAddress, name};
use mizar_abi::reason::{Counter, Drop};
use mizar_packet::flow::{Now, is_live};
use mizar_packet::introduce::concerns;
use mizar_packet::policy::InForce;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

type Hash<K, V> = HashMap<MapData, Raw<K>, Raw<V>>;

/// Maps of the programs, opened a second time.
pub struct Runtime {
    flow_est: Hash<maps::FlowKey, maps::Flow>,
    flow_new: Hash<maps::FlowKey, maps::Flow>,
    ep: Hash<u32, maps::Ep>,
    epochs: Hash<u32, maps::Epoch>,
    route: LpmTrie<MapData, Raw<VniAddress>, Raw<maps::Route>>,
    frag: Hash<maps::FragKey, maps::Head>,
    bucket: Hash<u32, maps::Bucket>,
    /// Size of `flow_est`.
    flow_entries: usize,
    pending: Hash<[u8; 4], maps::Pending>,
    dead: Hash<u32, u8>,
    hosts: Hash<u32, [u8; 4]>,
    shard: Hash<maps::ShardKey, maps::Shard>,
    drops: PerCpuHashMap<MapData, Raw<maps::DropKey>, Raw<maps::DropCount>>,
    counters: PerCpuArray<MapData, u64>,
    watch: Hash<u32, maps::Watch>,
}

/// Opens the ring of events. There is one reader.
pub fn events(pins: &Pins) -> Result<RingBuf<MapData>, PlaneError> {
    open(pins, name::EVENTS)
}

/// Removes the entries that `goes` picks. An entry that changes or goes meanwhile is fine: the
/// table is the programs', and a flow that is removed a moment too early is admitted again.
fn prune<K: Plain, V: Plain>(
    map: &'static str,
    table: &mut Hash<K, V>,
    mut goes: impl FnMut(&K, &V) -> bool,
) -> Result<usize, PlaneError> {
    let mut keys = Vec::new();
    for key in table.keys() {
        // The walk starts over where an entry vanished under it; missing some is fine.
        let Ok(key) = key else { break };
        if let Ok(value) = table.get(&key, 0)
            && goes(&key.0, &value.0)
        {
            keys.push(key);
        }
    }
    for key in &keys {
        unless_absent(table.remove(key)).map_err(|source| PlaneError::Map { map, source })?;
    }
    Ok(keys.len())
}

/// Is the flow of rules that are no longer in force?
fn is_doubtful(flow: &maps::Flow, force: &InForce) -> bool {
    flow.state != State::Denied as u8 && force.doubts(flow)
}

/// Of a nearly full table of established flows one port may have one part in so many.
const SHARE: usize = 4;

/// The oldest flows, by their age, of ports that hold more than their share of a table of so many entries; none
/// while a quarter of it is free.
fn beyond(held: BTreeMap<u32, Vec<(u32, maps::FlowKey)>>, entries: usize) -> Vec<maps::FlowKey> {
    let total: usize = held.values().map(Vec::len).sum();
    if total * 4 < entries * 3 {
        return Vec::new();
    }
    let oldest = held.into_values().flat_map(|mut flows| {
        flows.sort_unstable();
        flows.split_off(flows.len().min(entries / SHARE))
    });
    oldest.map(|(_, key)| key).collect()
}

fn count<K: Plain, V: Plain>(table: &Hash<K, V>) -> usize {
    table.keys().filter(Result::is_ok).count()
}

impl Runtime {
    /// Opens the pins.
    pub fn open(pins: &Pins) -> Result<Self, PlaneError> {
        Ok(Self {
            flow_est: open(pins, name::FLOW_EST)?,
            flow_new: open(pins, name::FLOW_NEW)?,
            ep: open(pins, name::EP)?,
            epochs: open(pins, name::EPOCHS)?,
            route: open(pins, name::ROUTE)?,
            frag: open(pins, name::FRAG)?,
            bucket: open(pins, name::BUCKET)?,
            flow_entries: size(pins, name::FLOW_EST)?,
            pending: open(pins, name::PENDING)?,
            dead: open(pins, name::DEAD)?,
            hosts: open(pins, name::HOSTS)?,
            shard: open(pins, name::SHARD)?,
            drops: open(pins, name::DROPS)?,
            counters: open(pins, name::COUNTERS)?,
            watch: open(pins, name::WATCH)?,
        })
    }

    /// Removes flows whose time is over. Programs ignore them; this gives their place back. If the table of
    /// established flows is nearly full, ports that hold more than their share of it lose their oldest ones,
    /// before others lose theirs.
    pub fn expire_flows(&mut self, now: &Now) -> Result<usize, PlaneError> {
        let over = |key: &maps::FlowKey, flow: &maps::Flow| !is_live(flow, key.vni_proto as u8, now);
        let mut held: BTreeMap<u32, Vec<(u32, maps::FlowKey)>> = BTreeMap::new();
        let counted = |key: &maps::FlowKey, flow: &maps::Flow| {
            let over = over(key, flow);
            if !over {
                held.entry(flow.ep_id).or_default().push((now.s.wrapping_sub(flow.last_seen), *key));
            }
            over
        };
        let mut gone =
            prune(name::FLOW_EST, &mut self.flow_est, counted)? + prune(name::FLOW_NEW, &mut self.flow_new, over)?;
        for key in beyond(held, self.flow_entries) {
            let done = unless_absent(self.flow_est.remove(&Raw(key)));
            done.map_err(|source| PlaneError::Map { map: name::FLOW_EST, source })?;
            gone += 1;
        }
        Ok(gone)
    }

    /// Removes everything that names ports that are gone, and flows at addresses that their ports
    /// do not hold any more.
    pub fn forget(&mut self, what: &Forget) -> Result<(), PlaneError> {
        // 0 is no port: what is counted for it stays.
        let gone = |port: u32| {
            port != 0 && (what.ports.contains(&port) || what.others.as_ref().is_some_and(|here| !here.contains(&port)))
        };
        let over = |key: &maps::FlowKey, flow: &maps::Flow| {
            gone(flow.ep_id)
                // The peer's number means something only while it is here.
                || what.ports.contains(&flow.peer_ep)
                || (what.moved.contains(&flow.ep_id) && what.holders.is_stale(flow.ep_id, key))
        };
        prune(name::FLOW_EST, &mut self.flow_est, over)?;
        prune(name::FLOW_NEW, &mut self.flow_new, over)?;
        prune(name::FRAG, &mut self.frag, |key, _| gone(key.ep_id))?;
        prune(name::BUCKET, &mut self.bucket, |key, _| gone(*key & !maps::inbound(0)))?;
        // Others than this host's ports have counts here: those that it bounces for.
        self.forget_drops(|key, _| what.ports.contains(&key.ep_id))
    }

    /// Removes the counts of ports that are not on this host, and of which nothing was dropped for so long.
    pub fn expire_drops(&mut self, now_ns: u64, after: Duration) -> Result<(), PlaneError> {
        let oldest = now_ns.saturating_sub(u64::try_from(after.as_nanos()).unwrap_or(u64::MAX));
        let here: BTreeSet<u32> = self.ep.keys().filter_map(Result::ok).map(|port| port.0).collect();
        self.forget_drops(|key, counts| {
            key.ep_id != 0 && !here.contains(&key.ep_id) && counts.iter().all(|count| count.last_ns < oldest)
        })
    }

    fn forget_drops(&mut self, goes: impl Fn(&maps::DropKey, &[maps::DropCount]) -> bool) -> Result<(), PlaneError> {
        let counts = self.drop_counts();
        for (key, _) in counts.iter().filter(|(key, counts)| goes(key, counts)) {
            unless_absent(self.drops.remove(&Raw(*key)))
                .map_err(|source| PlaneError::Map { map: name::DROPS, source })?;
        }
        Ok(())
    }

    /// Flows that other sides opened, and that the rules in force have not been asked about, with their ports.
    pub fn doubtful_flows(&self) -> Vec<(u32, maps::FlowKey)> {
        let mut policies = BTreeMap::new();
        let tables = self.flow_est.iter().chain(self.flow_new.iter());
        let mut doubtful = Vec::new();
        // The walk starts over where an entry vanished under it; that one is asked about twice.
        for (Raw(key), Raw(flow)) in tables.filter_map(Result::ok) {
            let policy = policies.entry(flow.ep_id).or_insert_with(|| self.policy(flow.ep_id));
            if policy.is_some_and(|(_, force)| is_doubtful(&flow, &force)) {
                doubtful.push((flow.ep_id, key));
            }
        }
        doubtful
    }

    /// Ports here whose set was given to them not longer ago than so many milliseconds.
    pub fn regrouped(&self, within_ms: u32, now: &Now) -> BTreeSet<u32> {
        let lately = |ep: &maps::Ep| now.ms.wrapping_sub(ep.set_since_ms) <= within_ms;
        self.ep.iter().filter_map(Result::ok).filter(|(_, Raw(ep))| lately(ep)).map(|(Raw(port), _)| port).collect()
    }

    /// Flows of these ports whose other side's host, which is another than this, can be told of them, by port.
    pub fn peers(&self, of: &BTreeSet<u32>, here: [u8; 4]) -> BTreeMap<u32, Vec<maps::FlowKey>> {
        let mut peers: BTreeMap<u32, Vec<maps::FlowKey>> = BTreeMap::new();
        let tables = self.flow_est.iter().chain(self.flow_new.iter());
        for (Raw(key), Raw(flow)) in tables.filter_map(Result::ok) {
            if of.contains(&flow.ep_id) && concerns(&flow, here) {
                peers.entry(flow.ep_id).or_default().push(key);
            }
        }
        peers
    }

    /// One of them as it is now, with its endpoint.
    pub fn peer(&self, key: &maps::FlowKey, here: [u8; 4]) -> Option<(maps::Flow, maps::Ep)> {
        let flow = self.flow(key).filter(|flow| concerns(flow, here))?;
        Some((flow, self.ep.get(&Raw(flow.ep_id), 0).ok()?.0))
    }

    /// One of them with its endpoint and the policy of that; `None` once it has its verdict.
    pub fn doubtful(&self, key: &maps::FlowKey) -> Option<(maps::Flow, maps::Ep, InForce)> {
        let flow = self.flow(key)?;
        let (ep, force) = self.policy(flow.ep_id)?;
        is_doubtful(&flow, &force).then_some((flow, ep, force))
    }

    /// A port here, and its policy in force.
    pub fn policy(&self, port: u32) -> Option<(maps::Ep, InForce)> {
        let Raw(ep) = self.ep.get(&Raw(port), 0).ok()?;
        let epoch = self.epochs.get(&Raw(ep.set), 0).ok().map(|Raw(epoch)| epoch);
        Some((ep, InForce::of(&ep, epoch)))
    }

    /// Underlay addresses of the bouncers of a local endpoint's address.
    pub fn bouncers(&self, vni: u32, address: &mizar_abi::Address) -> Vec<[u8; 4]> {
        let at = lpm_trie::Key::new(VniAddress::BITS, Raw(VniAddress::new(vni, *address)));
        let Ok(Raw(route)) = self.route.get(&at, 0) else { return Vec::new() };
        if route.kind != RouteKind::Bouncers as u32 {
            return Vec::new();
        }
        let shard = u32::from(shard_of(slot(route.subnet, address), route.log2 as u8));
        let Ok(Raw(shard)) = self.shard.get(&Raw(ShardKey { set: route.shards, shard }), 0) else { return Vec::new() };
        let known = shard.hosts.into_iter().filter(|number| *number != 0);
        known.filter_map(|number| Some(self.hosts.get(&Raw(number), 0).ok()?.0)).collect()
    }

    /// Transit hosts that were asked something, by underlay address.
    pub fn pending(&self) -> Vec<([u8; 4], maps::Pending)> {
        self.pending.iter().filter_map(Result::ok).map(|(k, v)| (k.0, v.0)).collect()
    }

    /// Forgets that a transit host was asked.
    pub fn forget_pending(&mut self, host: [u8; 4]) -> Result<(), PlaneError> {
        unless_absent(self.pending.remove(&Raw(host))).map_err(|source| PlaneError::Map { map: name::PENDING, source })
    }

    /// Underlay addresses and numbers of the hosts that senders here may ask.
    pub fn transit_hosts(&self) -> BTreeMap<[u8; 4], u32> {
        let shards = self.shard.iter().filter_map(Result::ok);
        let numbers: BTreeSet<u32> = shards.flat_map(|(_, Raw(shard))| shard.hosts).filter(|n| *n != 0).collect();
        numbers.into_iter().filter_map(|n| Some((self.hosts.get(&Raw(n), 0).ok()?.0, n))).collect()
    }

    /// Numbers of hosts that senders here avoid.
    pub fn dead(&self) -> BTreeSet<u32> {
        self.dead.keys().filter_map(Result::ok).map(|k| k.0).collect()
    }

    /// Says whether senders here shall avoid a host.
    pub fn set_dead(&mut self, host: u32, dead: bool) -> Result<(), PlaneError> {
        let done =
            if dead { self.dead.insert(Raw(host), Raw(1), 0) } else { unless_absent(self.dead.remove(&Raw(host))) };
        done.map_err(|source| PlaneError::Map { map: name::DEAD, source })
    }

    /// Counters of this host by name.
    pub fn counters(&self) -> Result<BTreeMap<String, u64>, PlaneError> {
        let read = |counter: &Counter| -> Result<(String, u64), MapError> {
            let values = self.counters.get(&(*counter as u32), 0)?;
            Ok((counter.name().to_owned(), values.iter().sum()))
        };
        let all: Result<_, _> = Counter::ALL.iter().map(read).collect();
        all.map_err(|source| PlaneError::Map { map: name::COUNTERS, source })
    }

    /// Packets dropped, by port and reason, as each processor counted them.
    pub fn drop_counts(&self) -> BTreeMap<maps::DropKey, Vec<maps::DropCount>> {
        let entries = self.drops.iter().filter_map(Result::ok);
        entries.map(|(Raw(key), values)| (key, values.iter().map(|value| value.0).collect())).collect()
    }

    /// The same of one port, which needs no walk over those of all.
    pub fn drop_counts_of(&self, ep_id: u32) -> Vec<(maps::DropKey, Vec<maps::DropCount>)> {
        let of = |reason: &Drop| {
            let key = maps::DropKey { ep_id, reason: *reason as u32 };
            let values = self.drops.get(&Raw(key), 0).ok()?;
            Some((key, values.iter().map(|value| value.0).collect()))
        };
        Drop::ALL.iter().filter_map(of).collect()
    }

    /// Packets dropped, by the reason's name, all ports together.
    pub fn drops_by_reason(&self) -> BTreeMap<String, u64> {
        let mut sums = BTreeMap::new();
        for (maps::DropKey { reason, .. }, counts) in self.drop_counts() {
            let name = Drop::from_number(reason).map_or_else(|| format!("reason_{reason}"), |r| r.name().to_owned());
            *sums.entry(name).or_insert(0) += counts.iter().map(|count| count.packets).sum::<u64>();
        }
        sums
    }

    /// Entries of each map.
    pub fn sizes(&self) -> BTreeMap<&'static str, usize> {
        [
            (name::FLOW_EST, count(&self.flow_est)),
            (name::FLOW_NEW, count(&self.flow_new)),
            (name::FRAG, count(&self.frag)),
            (name::BUCKET, count(&self.bucket)),
            (name::PENDING, count(&self.pending)),
            (name::DEAD, count(&self.dead)),
            (name::WATCH, count(&self.watch)),
            (name::DROPS, self.drops.keys().filter(Result::is_ok).count()),
        ]
        .into()
    }

    /// One flow.
    pub fn flow(&self, key: &maps::FlowKey) -> Option<maps::Flow> {
        let found = self.flow_new.get(&Raw(*key), 0).or_else(|_| self.flow_est.get(&Raw(*key), 0));
        found.ok().map(|Raw(flow)| flow)
    }

    /// Flows, for operators.
    pub fn flows(&self) -> Vec<(maps::FlowKey, maps::Flow)> {
        let tables = self.flow_est.iter().chain(self.flow_new.iter());
        tables.filter_map(Result::ok).map(|(k, v)| (k.0, v.0)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_nearly_full_table_the_oldest_flows_of_who_has_most_go() {
        let flow = |age, lport| (age, maps::FlowKey { lport, ..maps::FlowKey::default() });
        let hog = |n: u16| (0..n).map(|lport| flow(100 - u32::from(lport), lport)).collect::<Vec<_>>();
        let held = |n| BTreeMap::from([(1, hog(n)), (2, vec![flow(5_000, 999); 20])]);
        assert_eq!(beyond(held(54), 100), [], "there is room");
        let gone: Vec<u16> = beyond(held(60), 100).iter().map(|key| key.lport).collect();
        assert_eq!(gone, (0..35).rev().collect::<Vec<u16>>(), "and not the older ones of others");
    }
}
