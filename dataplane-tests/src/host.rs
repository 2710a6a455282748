//! One host: the object, its maps, and a way to push a frame through a program.

use crate::{links, pod::Plain};
use anyhow::{Context, Result};
use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, HashMap, LpmTrie, MapData, PerCpuArray, PerCpuHashMap, RingBuf, lpm_trie::Key},
    programs::{Program, SchedClassifier, TestRun, TestRunOptions, Xdp},
};
use mizar_abi::{
    maps::{Cfg, DropCount, DropKey, Flow, FlowKey, LogStart},
    reason::{Counter, Drop},
};
use std::{cell::Cell, collections::BTreeMap};

/// What became of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The program's return value.
    pub verdict: i32,
    /// The frame afterwards.
    pub frame: Vec<u8>,
    /// Nanoseconds of a run, the mean of all.
    pub nanoseconds: u32,
}

/// tcx: dropped.
pub const SHOT: i32 = 2;
/// tcx: redirected.
pub const REDIRECT: i32 = 7;
/// tcx: left to others.
pub const NEXT: i32 = -1;
/// XDP: passed on.
pub const XDP_PASS: i32 = 2;
/// XDP: sent out where it came from.
pub const XDP_TX: i32 = 3;
/// XDP: sent out of an interface, in our case the same one.
pub const XDP_REDIRECT: i32 = 4;

/// Interface number of every host's uplink.
pub const UPLINK: u32 = *links::IFINDEXES.end();

/// Names of the tcx programs.
pub const TCX: [&str; 2] = ["endpoint_egress", "uplink_tcx"];
/// Name of the XDP program.
pub const XDP: &str = "uplink_xdp";

/// A host.
pub struct Host {
    ebpf: Ebpf,
    /// The programs cache some look-ups for a tick of the kernel: a change of these tables
    /// counts from the next one on.
    changed: Cell<bool>,
    /// Its configuration, as the maps have it.
    pub cfg: Cfg,
}

/// Does the kernel take this frame for a test run? Not one that is shorter than the IP header that
/// its EtherType promises.
pub fn is_runnable(frame: &[u8]) -> bool {
    match frame.get(12..14) {
        Some([0x08, 0x00]) => frame.len() >= 34,
        Some([0x86, 0xdd]) => frame.len() >= 54,
        Some(_) => true,
        None => false,
    }
}

/// The object, as built by bpf/build.sh.
pub fn object() -> Result<Vec<u8>> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/bpf/mizar-bpf.o");
    std::fs::read(path).context("target/bpf/mizar-bpf.o is missing: run ./dev bpf")
}

impl Host {
    /// Loads the object; small tables, so that many hosts fit.
    pub fn load(cfg: Cfg) -> Result<Self> {
        Self::load_with(cfg, |_| {})
    }

    /// The same with settings.
    pub fn load_with(cfg: Cfg, settings: impl FnOnce(&mut EbpfLoader<'_>)) -> Result<Self> {
        let mut loader = EbpfLoader::new();
        for map in ["FLOW_EST", "FLOW_NEW", "FLOW_COUNT"] {
            loader.map_max_entries(map, 4_096);
        }
        settings(&mut loader);
        let ebpf = loader.load(&object()?).context("load the object")?;
        let mut host = Self { ebpf, changed: Cell::new(false), cfg };
        for name in TCX {
            host.load_tcx(name)?;
        }
        host.load_xdp(XDP)?;
        host.configure(cfg)?;
        Ok(host)
    }

    /// Loads a tcx program.
    pub fn load_tcx(&mut self, name: &'static str) -> Result<()> {
        let program: &mut SchedClassifier = self.ebpf.program_mut(name).context(name)?.try_into()?;
        program.load().with_context(|| format!("the verifier refused {name}"))
    }

    /// Loads an XDP program.
    pub fn load_xdp(&mut self, name: &'static str) -> Result<()> {
        let program: &mut Xdp = self.ebpf.program_mut(name).context(name)?.try_into()?;
        program.load().with_context(|| format!("the verifier refused {name}"))
    }

    /// Writes an entry of an array.
    pub fn put_at<V: aya::Pod>(&mut self, map: &str, index: u32, value: V) -> Result<()> {
        let mut map: Array<_, V> = self.ebpf.map_mut(map).context("no such map")?.try_into()?;
        Ok(map.set(index, value, 0)?)
    }

    /// Writes CFG.
    pub fn configure(&mut self, cfg: Cfg) -> Result<()> {
        self.cfg = cfg;
        self.put_at("CFG", 0, Plain(cfg))
    }

    /// Writes an entry of a hash or LRU map.
    pub fn put<K: Copy + 'static, V: Copy + 'static>(&mut self, map: &str, key: K, value: V) -> Result<()> {
        self.note_change(map);
        let mut map: HashMap<_, Plain<K>, Plain<V>> = self.ebpf.map_mut(map).context("no such map")?.try_into()?;
        Ok(map.insert(Plain(key), Plain(value), 0)?)
    }

    /// Reads one.
    pub fn get<K: Copy + 'static, V: Copy + 'static>(&self, map: &str, key: K) -> Option<V> {
        let map: HashMap<_, Plain<K>, Plain<V>> = self.ebpf.map(map)?.try_into().ok()?;
        map.get(&Plain(key), 0).ok().map(|v| v.0)
    }

    /// Removes one.
    pub fn remove<K: Copy + 'static, V: Copy + 'static>(&mut self, map: &str, key: K) -> Result<()> {
        self.note_change(map);
        let mut map: HashMap<_, Plain<K>, Plain<V>> = self.ebpf.map_mut(map).context("no such map")?.try_into()?;
        Ok(map.remove(&Plain(key))?)
    }

    fn note_change(&self, map: &str) {
        if ["IFACE", "EP", "EPOCHS", "HOSTS", "DEAD", "SHARD"].contains(&map) {
            self.changed.set(true);
        }
    }

    /// All of a map.
    pub fn all<K: Copy + 'static, V: Copy + 'static>(&self, map: &str) -> Result<Vec<(K, V)>> {
        let map: HashMap<_, Plain<K>, Plain<V>> = self.ebpf.map(map).context("no such map")?.try_into()?;
        map.iter().map(|entry| Ok(entry.map(|(k, v)| (k.0, v.0))?)).collect()
    }

    /// Writes a prefix.
    pub fn put_prefix<K: Copy + 'static, V: Copy + 'static>(
        &mut self,
        map: &str,
        bits: u32,
        key: K,
        value: V,
    ) -> Result<()> {
        let mut map: LpmTrie<_, Plain<K>, Plain<V>> = self.ebpf.map_mut(map).context("no such map")?.try_into()?;
        Ok(map.insert(&Key::new(bits, Plain(key)), Plain(value), 0)?)
    }

    /// Removes one.
    pub fn remove_prefix<K: Copy + 'static, V: Copy + 'static>(&mut self, map: &str, bits: u32, key: K) -> Result<()> {
        let mut map: LpmTrie<_, Plain<K>, Plain<V>> = self.ebpf.map_mut(map).context("no such map")?.try_into()?;
        Ok(map.remove(&Key::new(bits, Plain(key)))?)
    }

    /// All prefixes of a map.
    pub fn prefixes<K: Copy + 'static, V: Copy + 'static>(&self, map: &str) -> Result<Vec<(u32, K)>> {
        let map: LpmTrie<_, Plain<K>, Plain<V>> = self.ebpf.map(map).context("no such map")?.try_into()?;
        map.keys().map(|key| Ok(key.map(|key| (key.prefix_len(), key.data().0))?)).collect()
    }

    /// A flow, wherever it is kept.
    pub fn flow(&self, key: FlowKey) -> Option<Flow> {
        self.get("FLOW_EST", key).or_else(|| self.get("FLOW_NEW", key))
    }

    /// Forgets all flows: what eviction does.
    pub fn evict(&mut self) -> Result<()> {
        for map in ["FLOW_EST", "FLOW_NEW"] {
            for (key, _) in self.all::<FlowKey, Flow>(map)? {
                self.remove::<FlowKey, Flow>(map, key)?;
            }
        }
        Ok(())
    }

    /// Counters that are not 0.
    pub fn counters(&self) -> Result<BTreeMap<&'static str, u64>> {
        let map: PerCpuArray<_, u64> = self.ebpf.map("COUNTERS").context("COUNTERS")?.try_into()?;
        let mut counted = BTreeMap::new();
        for counter in Counter::ALL {
            let sum = map.get(&(*counter as u32), 0)?.iter().sum();
            if sum != 0 {
                counted.insert(counter.name(), sum);
            }
        }
        Ok(counted)
    }

    /// Packets dropped, by port and reason.
    pub fn drops(&self) -> Result<BTreeMap<(u32, &'static str), u64>> {
        let map: PerCpuHashMap<_, Plain<DropKey>, Plain<DropCount>> =
            self.ebpf.map("DROPS").context("DROPS")?.try_into()?;
        map.iter()
            .map(|entry| {
                let (key, values) = entry?;
                let reason = Drop::from_number(key.0.reason).context("an unnamed reason")?;
                Ok(((key.0.ep_id, reason.name()), values.iter().map(|v| v.0.packets).sum()))
            })
            .collect()
    }

    /// The last packet that was dropped for a reason, of those that each processor saw.
    pub fn last_drop(&self, ep_id: u32, reason: Drop) -> Result<Option<DropCount>> {
        let map: PerCpuHashMap<_, Plain<DropKey>, Plain<DropCount>> =
            self.ebpf.map("DROPS").context("DROPS")?.try_into()?;
        let counts = match map.get(&Plain(DropKey { ep_id, reason: reason as u32 }), 0) {
            Ok(counts) => counts,
            Err(aya::maps::MapError::KeyNotFound) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        Ok(counts.iter().map(|count| count.0).filter(|count| count.packets > 0).max_by_key(|count| count.last_ns))
    }

    /// Sets all counts to 0.
    pub fn forget_counts(&mut self) -> Result<()> {
        let keys: Vec<Plain<DropKey>> = {
            let map: PerCpuHashMap<_, Plain<DropKey>, Plain<DropCount>> =
                self.ebpf.map("DROPS").context("DROPS")?.try_into()?;
            map.keys().collect::<Result<_, _>>()?
        };
        let mut map: PerCpuHashMap<_, Plain<DropKey>, Plain<DropCount>> =
            self.ebpf.map_mut("DROPS").context("DROPS")?.try_into()?;
        for key in keys {
            map.remove(&key)?;
        }
        let mut map: PerCpuArray<_, u64> = self.ebpf.map_mut("COUNTERS").context("COUNTERS")?.try_into()?;
        for counter in Counter::ALL {
            let zeros = vec![0; aya::util::nr_cpus().map_err(|(_, e)| e)?];
            map.set(*counter as u32, zeros.try_into()?, 0)?;
        }
        Ok(())
    }

    /// Events raised since the last call.
    pub fn events(&mut self) -> Result<Vec<Vec<u8>>> {
        self.ring("EVENTS")
    }

    fn ring(&mut self, map: &str) -> Result<Vec<Vec<u8>>> {
        let mut ring: RingBuf<&mut MapData> = self.ebpf.map_mut(map).context("no such map")?.try_into()?;
        let mut records = Vec::new();
        while let Some(item) = ring.next() {
            records.push(item.to_vec());
        }
        Ok(records)
    }

    /// Flows that are logged since the last call.
    pub fn logged(&mut self) -> Result<Vec<LogStart>> {
        let read = |record: Vec<u8>| {
            assert_eq!(record.len(), size_of::<LogStart>());
            // SAFETY: as many bytes, of a type that any bits make a valid one.
            unsafe { record.as_ptr().cast::<LogStart>().read_unaligned() }
        };
        Ok(self.ring("FLOW_LOG")?.into_iter().map(read).collect())
    }

    /// Pushes a frame through a program, as if it came in by `ifindex`. A `gso_size` other than 0
    /// marks a packet that will be segmented.
    pub fn run(&self, program: &str, frame: &[u8], ifindex: u32, gso_size: u32) -> Result<Outcome> {
        self.run_often(program, frame, ifindex, gso_size, 1)
    }

    /// The same `repeat` times, on the frame that the last run left.
    pub fn run_often(&self, program: &str, frame: &[u8], ifindex: u32, gso_size: u32, repeat: u32) -> Result<Outcome> {
        if self.changed.replace(false) {
            links::next_tick();
        }
        let mut out = vec![0; frame.len() + 512];
        let mut context = [0u8; 192];
        let options =
            TestRunOptions { data_in: Some(frame), data_out: Some(&mut out), repeat, ..TestRunOptions::new() };
        let result = match self.ebpf.program(program).context("no such program")? {
            Program::SchedClassifier(p) => {
                // Offsets in `struct __sk_buff`: ifindex 40, gso_size 176.
                context[40..44].copy_from_slice(&ifindex.to_ne_bytes());
                context[176..180].copy_from_slice(&gso_size.to_ne_bytes());
                p.test_run(TestRunOptions { ctx_in: Some(&context), ..options })?
            }
            Program::Xdp(p) => p.test_run(options)?,
            _ => anyhow::bail!("{program} is of another kind"),
        };
        let len = result.data_size_out as usize;
        out.truncate(len);
        Ok(Outcome { verdict: result.return_value as i32, frame: out, nanoseconds: result.duration.as_nanos() as u32 })
    }
}
