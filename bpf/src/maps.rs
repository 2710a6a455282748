//! The maps. Names, keys and values are those of `mizar_abi::maps`; sizes are defaults that the
//! loader may override. Everything that is empty on an idle host is allocated by need; only the
//! LRU tables and the ring are allocated whole.

use aya_ebpf::{
    bindings::BPF_F_NO_PREALLOC,
    macros::map,
    maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, PerCpuHashMap, RingBuf},
};
use mizar_abi::{
    maps::{
        Addr, Bounce, Bucket, Cfg, DropCount, DropKey, Ep, Epoch, Flow, FlowCount, FlowKey, FragKey, Head, HostAddress,
        Moved, Pending, PolicyAddress, PolicyKey, Route, Shard, ShardKey, Verdict, VniAddress, Watch,
    },
    reason::Counter,
};

use crate::{
    front::LinkSeen,
    tables::{HostSeen, Receiver, Sender, ShardSeen},
    walk::Walk,
};

/// Entries of the per-CPU caches; a power of two.
pub const CACHED: u32 = 256;

#[map]
pub static CFG: Array<Cfg> = Array::with_max_entries(1, 0);
#[map]
pub static HOSTS: HashMap<u32, HostAddress> = HashMap::with_max_entries(16_384, BPF_F_NO_PREALLOC);
#[map]
pub static IFACE: HashMap<u32, u32> = HashMap::with_max_entries(8_192, BPF_F_NO_PREALLOC);
#[map]
pub static EP: HashMap<u32, Ep> = HashMap::with_max_entries(8_192, BPF_F_NO_PREALLOC);
#[map]
pub static ADDR: LpmTrie<VniAddress, Addr> = LpmTrie::with_max_entries(65_536, BPF_F_NO_PREALLOC);
#[map]
pub static FLOW_EST: LruHashMap<FlowKey, Flow> = LruHashMap::with_max_entries(131_072, 0);
#[map]
pub static FLOW_NEW: LruHashMap<FlowKey, Flow> = LruHashMap::with_max_entries(32_768, 0);
#[map]
pub static FRAG: LruHashMap<FragKey, Head> = LruHashMap::with_max_entries(8_192, 0);
#[map]
pub static MOVED: HashMap<VniAddress, Moved> = HashMap::with_max_entries(4_096, BPF_F_NO_PREALLOC);
#[map]
pub static ROUTE: LpmTrie<VniAddress, Route> = LpmTrie::with_max_entries(65_536, BPF_F_NO_PREALLOC);
#[map]
pub static SHARD: HashMap<ShardKey, Shard> = HashMap::with_max_entries(65_536, BPF_F_NO_PREALLOC);
#[map]
pub static DEAD: HashMap<u32, u8> = HashMap::with_max_entries(1_024, BPF_F_NO_PREALLOC);
#[map]
pub static BOUNCE: HashMap<VniAddress, Bounce> = HashMap::with_max_entries(131_072, BPF_F_NO_PREALLOC);
#[map]
pub static POLICY: LpmTrie<PolicyKey, Verdict> = LpmTrie::with_max_entries(1_048_576, BPF_F_NO_PREALLOC);
#[map]
pub static CIDR: LpmTrie<PolicyAddress, u32> = LpmTrie::with_max_entries(262_144, BPF_F_NO_PREALLOC);
#[map]
pub static EPOCHS: HashMap<u32, Epoch> = HashMap::with_max_entries(65_536, BPF_F_NO_PREALLOC);
#[map]
pub static BUCKET: HashMap<u32, Bucket> = HashMap::with_max_entries(16_384, BPF_F_NO_PREALLOC);
#[map]
pub static PENDING: LruHashMap<[u8; 4], Pending> = LruHashMap::with_max_entries(4_096, 0);
#[map]
pub static DROPS: PerCpuHashMap<DropKey, DropCount> = PerCpuHashMap::with_max_entries(16_384, BPF_F_NO_PREALLOC);
#[map]
pub static COUNTERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(Counter::SIZE, 0);
#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(256 * 1024, 0);
/// Flows that are logged. Where there are too many, the least recently used make place.
#[map]
pub static FLOW_COUNT: LruHashMap<FlowKey, FlowCount> = LruHashMap::with_max_entries(8_192, 0);
/// Its own ring: what is logged must not take the place of what has to be done.
#[map]
pub static FLOW_LOG: RingBuf = RingBuf::with_byte_size(256 * 1024, 0);
/// Packets that are waited for, one a port.
#[map]
pub static WATCH: HashMap<u32, Watch> = HashMap::with_max_entries(64, BPF_F_NO_PREALLOC);
/// Tokens for events, by port and kind. The programs' own: the least recently used makes place, so
/// nobody has to forget a port.
#[map]
pub static EVENT_BUCKET: LruHashMap<[u32; 2], Bucket> = LruHashMap::with_max_entries(4_096, 0);
/// Working memory: the programs' stack is 512 bytes. They run with softirqs off, and none of them
/// can interrupt another on one CPU.
#[map]
pub static SCRATCH: PerCpuArray<Walk> = PerCpuArray::with_max_entries(1, 0);
/// Endpoints that sent during the current tick, by interface.
#[map]
pub static IFACE_CACHE: PerCpuArray<Sender> = PerCpuArray::with_max_entries(CACHED, 0);
/// Endpoints that received during the current tick, by number.
#[map]
pub static EP_CACHE: PerCpuArray<Receiver> = PerCpuArray::with_max_entries(CACHED, 0);
/// Hosts looked up during the current tick.
#[map]
pub static HOST_CACHE: PerCpuArray<HostSeen> = PerCpuArray::with_max_entries(CACHED, 0);
/// Shards looked up during the current tick.
#[map]
pub static SHARD_CACHE: PerCpuArray<ShardSeen> = PerCpuArray::with_max_entries(CACHED, 0);
/// Ethernet headers that XDP got of the kernel a moment ago.
#[map]
pub static LINK_CACHE: PerCpuArray<LinkSeen> = PerCpuArray::with_max_entries(CACHED, 0);
