//! What the programs count of flows that are logged, and the flows themselves, for the flow log alone: opened for as long as
//! the agent lives.

use super::kernel::{open, size, unless_absent};
use super::raw::Raw;
use super::{Pins, PlaneError};
use aya::maps::{HashMap, MapData, PerCpuArray, RingBuf};
use mizar_abi::maps::{Flow, FlowCount, FlowKey, LogStart, name};
use mizar_abi::reason::Counter;

type Hash<K, V> = HashMap<MapData, Raw<K>, Raw<V>>;

/// See the module.
pub struct Counts {
    counts: Hash<FlowKey, FlowCount>,
    size: usize,
    flow_est: Hash<FlowKey, Flow>,
    flow_new: Hash<FlowKey, Flow>,
    counters: PerCpuArray<MapData, u64>,
}

/// Opens the ring of flows that are logged. There is one reader.
pub fn starts(pins: &Pins) -> Result<RingBuf<MapData>, PlaneError> {
    open(pins, name::FLOW_LOG)
}

/// A record of the ring; `None` if it is of another size, and so of another version.
pub fn raw_start(bytes: &[u8]) -> Option<LogStart> {
    if bytes.len() != size_of::<LogStart>() {
        return None;
    }
    // SAFETY: the bytes are as many as a `LogStart` has, which any bits make a valid one.
    Some(unsafe { bytes.as_ptr().cast::<LogStart>().read_unaligned() })
}

impl Counts {
    /// Opens the pins.
    pub fn open(pins: &Pins) -> Result<Self, PlaneError> {
        Ok(Self {
            counts: open(pins, name::FLOW_COUNT)?,
            size: size(pins, name::FLOW_COUNT)?,
            flow_est: open(pins, name::FLOW_EST)?,
            flow_new: open(pins, name::FLOW_NEW)?,
            counters: open(pins, name::COUNTERS)?,
        })
    }

    /// Of one flow.
    pub fn count(&self, key: &FlowKey) -> Option<FlowCount> {
        self.counts.get(&Raw(*key), 0).ok().map(|Raw(count)| count)
    }

    /// Of all. A walk that starts over, where an entry vanished under it, ends all the same.
    pub fn all(&self) -> Vec<(FlowKey, FlowCount)> {
        let entries = self.counts.iter().take(2 * self.size).filter_map(Result::ok);
        entries.map(|(Raw(key), Raw(count))| (key, count)).collect()
    }

    /// Its entry, wherever it is kept.
    pub fn flow(&self, key: &FlowKey) -> Option<Flow> {
        let found = self.flow_est.get(&Raw(*key), 0).or_else(|_| self.flow_new.get(&Raw(*key), 0));
        found.ok().map(|Raw(flow)| flow)
    }

    /// Nobody needs its counts any more.
    pub fn forget(&mut self, key: &FlowKey) -> Result<(), PlaneError> {
        unless_absent(self.counts.remove(&Raw(*key)))
            .map_err(|source| PlaneError::Map { map: name::FLOW_COUNT, source })
    }

    /// Flows that programs should have logged and did not, since the maps were made.
    pub fn lost(&self) -> u64 {
        self.counters.get(&(Counter::FlowLogLost as u32), 0).map_or(0, |values| values.iter().sum())
    }
}
