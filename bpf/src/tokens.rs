//! Token buckets: what a port does too often costs only itself.

use aya_ebpf::{
    helpers::bpf_ktime_get_ns,
    maps::{HashMap, LruHashMap},
};
use mizar_abi::maps::{Bucket, inbound};

use crate::{
    maps::{BUCKET, EVENT_BUCKET},
    tables::setting,
};

/// New flows a second of one port, in the long run.
#[unsafe(no_mangle)]
static NEW_FLOW_RATE: u32 = 1_000;
/// New flows of one port at once.
#[unsafe(no_mangle)]
static NEW_FLOW_BURST: u32 = 10_000;

/// Flows a second that others open to one port, in the long run.
#[unsafe(no_mangle)]
static NEW_IN_RATE: u32 = 2_000;
/// Such flows at once.
#[unsafe(no_mangle)]
static NEW_IN_BURST: u32 = 10_000;

/// Events a second of one kind about one port, in the long run.
#[unsafe(no_mangle)]
static EVENT_RATE: u32 = mizar_abi::EVENT_RATE;
/// Such events at once.
#[unsafe(no_mangle)]
static EVENT_BURST: u32 = mizar_abi::EVENT_BURST;

/// Takes a token for a new flow of a port, or a packet of it that costs as much.
#[inline(never)]
pub fn for_flow(ep_id: u32) -> bool {
    take(&BUCKET, &ep_id, setting(&NEW_FLOW_RATE), setting(&NEW_FLOW_BURST))
}

/// Takes a token for a flow that another opens to a port.
#[inline(never)]
pub fn for_entry(ep_id: u32) -> bool {
    take(&BUCKET, &inbound(ep_id), setting(&NEW_IN_RATE), setting(&NEW_IN_BURST))
}

/// Takes a token for an event about a port. Each kind has its own: a flood of denials does not
/// cost a port its DHCP.
#[inline(never)]
pub fn for_event(ep_id: u32, kind: u32) -> bool {
    take(&EVENT_BUCKET, &[ep_id, kind], setting(&EVENT_RATE), setting(&EVENT_BURST))
}

/// Takes a token for a flow of a port that is to be logged: of one of four kinds.
#[inline(always)]
pub fn for_log(ep_id: u32, kind: u32, rate: u32, burst: u32) -> bool {
    take(&EVENT_BUCKET, &[ep_id, bucket::LOGGED + (kind & 3)], rate, burst)
}

/// Takes a token for a datagram of a port that comes in parts.
#[inline(always)]
pub fn for_fragments(ep_id: u32, rate: u32, burst: u32) -> bool {
    take(&EVENT_BUCKET, &[ep_id, bucket::FRAGMENTED], rate, burst)
}

/// What has buckets in EVENT_BUCKET beside events, by numbers that no kind of event has.
mod bucket {
    /// The first of four.
    pub const LOGGED: u32 = u32::MAX - 3;
    pub const FRAGMENTED: u32 = LOGGED - 1;
}

/// Takes a token; a bucket that is not there is full. The two fields may be torn between CPUs: a
/// bucket that leaks a little is still a bucket.
#[inline(always)]
fn take<K>(buckets: &impl Buckets<K>, key: &K, rate: u32, burst: u32) -> bool {
    // SAFETY: a plain helper call.
    let now = unsafe { bpf_ktime_get_ns() };
    let Some(bucket) = buckets.bucket(key) else {
        buckets.add(key, &Bucket { refilled: now, tokens: burst.saturating_sub(1), pad: 0 });
        return burst != 0;
    };
    // SAFETY: an entry is replaced, not freed, while a program runs (RCU).
    let bucket = unsafe { &mut *bucket };
    let elapsed_us = now.wrapping_sub(bucket.refilled) / 1_000;
    let earned = elapsed_us.min(10_000_000) * rate as u64 / 1_000_000;
    if earned > 0 {
        bucket.tokens = (bucket.tokens as u64 + earned).min(burst as u64) as u32;
        bucket.refilled = now;
    }
    if bucket.tokens == 0 {
        return false;
    }
    bucket.tokens -= 1;
    true
}

/// The two kinds of hash maps.
trait Buckets<K> {
    fn bucket(&self, key: &K) -> Option<*mut Bucket>;
    fn add(&self, key: &K, bucket: &Bucket);
}

macro_rules! buckets { ($($map:ident),*) => { $(
    impl<K> Buckets<K> for $map<K, Bucket> {
        #[inline(always)]
        fn bucket(&self, key: &K) -> Option<*mut Bucket> {
            self.get_ptr_mut(key)
        }
        #[inline(always)]
        fn add(&self, key: &K, bucket: &Bucket) {
            // A full map limits nothing; it is as large as the map of ports.
            let _ = self.insert(key, bucket, 0);
        }
    }
)* }; }
buckets!(HashMap, LruHashMap);
