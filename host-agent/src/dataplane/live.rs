//! The maps as the programs see them at this moment, for whoever asks what they would do.

use super::kernel::open;
use super::raw::Raw;
use super::{Pins, PlaneError};
use aya::maps::{Array, HashMap, LpmTrie, MapData, lpm_trie};
use mizar_abi::maps::{self, VniAddress, name};
use std::collections::BTreeMap;

type Hash<K, V> = HashMap<MapData, Raw<K>, Raw<V>>;
type Trie<K, V> = LpmTrie<MapData, Raw<K>, Raw<V>>;

/// What can be looked up: one method a map. `None`: there is nothing.
#[expect(missing_docs, reason = "each is the map of that name in mizar_abi::maps")]
pub trait Lookup {
    fn cfg(&self) -> Option<maps::Cfg>;
    fn host(&self, number: u32) -> Option<maps::HostAddress>;
    fn dead(&self, number: u32) -> bool;
    fn ep(&self, port: u32) -> Option<maps::Ep>;
    fn addr(&self, at: &VniAddress) -> Option<maps::Addr>;
    fn flow(&self, key: &maps::FlowKey) -> Option<maps::Flow>;
    fn moved(&self, at: &VniAddress) -> Option<maps::Moved>;
    fn route(&self, at: &VniAddress) -> Option<maps::Route>;
    fn shard(&self, key: &maps::ShardKey) -> Option<maps::Shard>;
    fn bounce(&self, at: &VniAddress) -> Option<maps::Bounce>;
    fn policy(&self, key: &maps::PolicyKey) -> Option<maps::Verdict>;
    fn cidr(&self, key: &maps::PolicyAddress) -> Option<u32>;
    fn epoch(&self, set: u32) -> Option<maps::Epoch>;
}

/// The pinned maps.
pub struct Live {
    cfg: Array<MapData, Raw<maps::Cfg>>,
    hosts: Hash<u32, maps::HostAddress>,
    dead: Hash<u32, u8>,
    iface: Hash<u32, u32>,
    ep: Hash<u32, maps::Ep>,
    addr: Trie<VniAddress, maps::Addr>,
    flow_est: Hash<maps::FlowKey, maps::Flow>,
    flow_new: Hash<maps::FlowKey, maps::Flow>,
    moved: Hash<VniAddress, maps::Moved>,
    route: Trie<VniAddress, maps::Route>,
    shard: Hash<maps::ShardKey, maps::Shard>,
    bounce: Hash<VniAddress, maps::Bounce>,
    policy: Trie<maps::PolicyKey, maps::Verdict>,
    cidr: Trie<maps::PolicyAddress, u32>,
    epochs: Hash<u32, maps::Epoch>,
}

impl Live {
    /// Opens the pins.
    pub fn open(pins: &Pins) -> Result<Self, PlaneError> {
        Ok(Self {
            cfg: open(pins, name::CFG)?,
            hosts: open(pins, name::HOSTS)?,
            dead: open(pins, name::DEAD)?,
            iface: open(pins, name::IFACE)?,
            ep: open(pins, name::EP)?,
            addr: open(pins, name::ADDR)?,
            flow_est: open(pins, name::FLOW_EST)?,
            flow_new: open(pins, name::FLOW_NEW)?,
            moved: open(pins, name::MOVED)?,
            route: open(pins, name::ROUTE)?,
            shard: open(pins, name::SHARD)?,
            bounce: open(pins, name::BOUNCE)?,
            policy: open(pins, name::POLICY)?,
            cidr: open(pins, name::CIDR)?,
            epochs: open(pins, name::EPOCHS)?,
        })
    }

    /// Entries of each planned map. A system call an entry: for a thread that may wait.
    pub fn sizes(&self) -> BTreeMap<&'static str, usize> {
        let cfg = usize::from(self.cfg().is_some());
        [
            (name::CFG, cfg),
            (name::HOSTS, count(self.hosts.keys())),
            (name::POLICY, count(self.policy.keys())),
            (name::CIDR, count(self.cidr.keys())),
            (name::EPOCHS, count(self.epochs.keys())),
            (name::SHARD, count(self.shard.keys())),
            (name::BOUNCE, count(self.bounce.keys())),
            (name::ROUTE, count(self.route.keys())),
            (name::MOVED, count(self.moved.keys())),
            (name::EP, count(self.ep.keys())),
            (name::IFACE, count(self.iface.keys())),
            (name::ADDR, count(self.addr.keys())),
        ]
        .into()
    }
}

/// A map may change while it is walked: an error ends it.
fn count<K, E>(keys: impl Iterator<Item = Result<K, E>>) -> usize {
    keys.take_while(Result::is_ok).count()
}

impl Lookup for Live {
    fn cfg(&self) -> Option<maps::Cfg> {
        // An array has no absent entries: zeros are its nothing.
        self.cfg.get(&0, 0).ok().map(|Raw(cfg)| cfg).filter(|cfg| *cfg != maps::Cfg::default())
    }
    fn host(&self, number: u32) -> Option<maps::HostAddress> {
        self.hosts.get(&Raw(number), 0).ok().map(|found| found.0)
    }
    fn dead(&self, number: u32) -> bool {
        self.dead.get(&Raw(number), 0).is_ok()
    }
    fn ep(&self, port: u32) -> Option<maps::Ep> {
        self.ep.get(&Raw(port), 0).ok().map(|found| found.0)
    }
    fn addr(&self, at: &VniAddress) -> Option<maps::Addr> {
        self.addr.get(&lpm_trie::Key::new(VniAddress::BITS, Raw(*at)), 0).ok().map(|found| found.0)
    }
    fn flow(&self, key: &maps::FlowKey) -> Option<maps::Flow> {
        let found = self.flow_est.get(&Raw(*key), 0).or_else(|_| self.flow_new.get(&Raw(*key), 0));
        found.ok().map(|found| found.0)
    }
    fn moved(&self, at: &VniAddress) -> Option<maps::Moved> {
        self.moved.get(&Raw(*at), 0).ok().map(|found| found.0)
    }
    fn route(&self, at: &VniAddress) -> Option<maps::Route> {
        self.route.get(&lpm_trie::Key::new(VniAddress::BITS, Raw(*at)), 0).ok().map(|found| found.0)
    }
    fn shard(&self, key: &maps::ShardKey) -> Option<maps::Shard> {
        self.shard.get(&Raw(*key), 0).ok().map(|found| found.0)
    }
    fn bounce(&self, at: &VniAddress) -> Option<maps::Bounce> {
        self.bounce.get(&Raw(*at), 0).ok().map(|found| found.0)
    }
    fn policy(&self, key: &maps::PolicyKey) -> Option<maps::Verdict> {
        self.policy.get(&lpm_trie::Key::new(maps::PolicyKey::BITS, Raw(*key)), 0).ok().map(|found| found.0)
    }
    fn cidr(&self, key: &maps::PolicyAddress) -> Option<u32> {
        self.cidr.get(&lpm_trie::Key::new(maps::PolicyAddress::BITS, Raw(*key)), 0).ok().map(|found| found.0)
    }
    fn epoch(&self, set: u32) -> Option<maps::Epoch> {
        self.epochs.get(&Raw(set), 0).ok().map(|found| found.0)
    }
}
