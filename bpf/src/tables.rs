//! Typed look-ups.

use aya_ebpf::{
    helpers::{bpf_get_prandom_u32, bpf_ktime_get_coarse_ns, bpf_ktime_get_ns, bpf_ktime_get_tai_ns},
    maps::lpm_trie::Key,
};
use mizar_abi::{
    mapped,
    maps::{Addr, Bounce, Bucket, Cfg, Ep, Flow, FlowKey, Pending, Route, Shard, ShardKey, VniAddress},
};
use mizar_packet::{
    flow::{self, Now},
    transit::Tables,
};

use crate::maps::{ADDR, BOUNCE, BUCKET, DEAD, EP, FLOW_EST, FLOW_NEW, HOSTS, PENDING, ROUTE, SHARD};

/// New flows a second of one port, in the long run.
#[unsafe(no_mangle)]
static NEW_FLOW_RATE: u32 = 1_000;
/// New flows of one port at once.
#[unsafe(no_mangle)]
static NEW_FLOW_BURST: u32 = 10_000;

/// A setting that the loader may have overwritten.
#[inline(always)]
fn setting(value: &'static u32) -> u32 {
    // SAFETY: a valid reference; volatile, as the compiler must not take the default for granted.
    unsafe { core::ptr::read_volatile(value) }
}

/// The clock of flows: cheap, a few milliseconds coarse.
#[inline(always)]
pub fn now() -> Now {
    // SAFETY: a plain helper call.
    Now::from_ns(unsafe { bpf_ktime_get_coarse_ns() })
}

/// Seconds of UTC, for stamps.
#[inline(always)]
pub fn utc(cfg: &Cfg) -> u32 {
    // SAFETY: a plain helper call.
    let tai = unsafe { bpf_ktime_get_tai_ns() } / 1_000_000_000;
    (tai as u32).wrapping_sub(cfg.tai_offset as u32)
}

/// 32 random bits.
#[inline(always)]
pub fn random() -> u32 {
    // SAFETY: a plain helper call.
    unsafe { bpf_get_prandom_u32() }
}

/// A local endpoint.
#[inline(always)]
pub fn endpoint(ep_id: u32) -> Option<&'static Ep> {
    // SAFETY: values are replaced, not freed, while a program runs (RCU).
    unsafe { EP.get(&ep_id) }
}

/// Who has an address here.
#[inline(always)]
pub fn owner(vni: u32, address: [u8; 4]) -> Option<&'static Addr> {
    ADDR.get(&Key::new(VniAddress::BITS, VniAddress::new(vni, mapped(address))))
}

/// The subnet of an address.
#[inline(always)]
pub fn route(vni: u32, address: [u8; 4]) -> Option<&'static Route> {
    ROUTE.get(&Key::new(VniAddress::BITS, VniAddress::new(vni, mapped(address))))
}

#[inline(always)]
fn live(entry: Option<*mut Flow>, key: &FlowKey, now: &Now) -> Option<&'static mut Flow> {
    // SAFETY: as for `endpoint`; writers on two CPUs write single fields, last one wins.
    let entry = unsafe { &mut *entry? };
    flow::is_live(entry, key.vni_proto as u8, now).then_some(entry)
}

/// A flow with a known path.
#[inline(always)]
pub fn established(key: &FlowKey, now: &Now) -> Option<&'static mut Flow> {
    live(FLOW_EST.get_ptr_mut(key), key, now)
}

/// A flow without one.
#[inline(always)]
pub fn waiting(key: &FlowKey, now: &Now) -> Option<&'static mut Flow> {
    live(FLOW_NEW.get_ptr_mut(key), key, now)
}

/// A flow in any state, off the fast path.
#[inline(never)]
fn any_flow(key: &FlowKey, now: &Now) -> *mut Flow {
    let found = match established(key, now) {
        Some(found) => Some(found),
        None => waiting(key, now),
    };
    found.map_or(core::ptr::null_mut(), |f| f as *mut Flow)
}

/// The same as a reference.
#[inline(always)]
pub fn find(key: &FlowKey, now: &Now) -> Option<&'static mut Flow> {
    // SAFETY: null or an entry.
    unsafe { any_flow(key, now).as_mut() }
}

/// Writes a flow into the table of its state, and out of the other.
#[inline(never)]
pub fn keep(key: &FlowKey, flow: &Flow) -> bool {
    // Removing what is not there fails; nothing follows from it.
    if flow::is_established(flow) {
        let kept = FLOW_EST.insert(key, flow, 0).is_ok();
        let _ = FLOW_NEW.remove(key);
        kept
    } else {
        let kept = FLOW_NEW.insert(key, flow, 0).is_ok();
        let _ = FLOW_EST.remove(key);
        kept
    }
}

/// Takes a token for a new flow of a port. The two fields may be torn between CPUs: a bucket that
/// leaks a little is still a bucket.
#[inline(never)]
pub fn take_token(ep_id: u32) -> bool {
    // SAFETY: a plain helper call.
    let now = unsafe { bpf_ktime_get_ns() };
    let burst = setting(&NEW_FLOW_BURST);
    let Some(bucket) = BUCKET.get_ptr_mut(&ep_id) else {
        let _ = BUCKET.insert(&ep_id, &Bucket { refilled: now, tokens: burst.saturating_sub(1), pad: 0 }, 0);
        return burst != 0;
    };
    // SAFETY: see above.
    let bucket = unsafe { &mut *bucket };
    let elapsed_us = now.wrapping_sub(bucket.refilled) / 1_000;
    let earned = elapsed_us.min(10_000_000) * setting(&NEW_FLOW_RATE) as u64 / 1_000_000;
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

/// A transit host owes an answer: the agent probes the one that owes it for long.
#[inline(never)]
pub fn owes_answer(host: &[u8; 4], now: &Now) -> u32 {
    // 0 means nobody waits, so a request in millisecond 0 counts from 1.
    let since = now.ms | (now.ms == 0) as u32;
    match PENDING.get_ptr_mut(host) {
        // SAFETY: as for flows.
        Some(pending) => unsafe {
            if (*pending).since_ms == 0 {
                (*pending).since_ms = since;
            }
            if (*pending).used != now.s {
                (*pending).used = now.s;
            }
        },
        None => {
            let _ = PENDING.insert(host, &Pending { since_ms: since, used: now.s, answered_ms: 0 }, 0);
        }
    }
    0
}

/// It answered, or answered a probe.
#[inline(never)]
pub fn answered(host: &[u8; 4], now: &Now) -> u32 {
    if let Some(pending) = PENDING.get_ptr_mut(host) {
        // SAFETY: as for flows.
        unsafe {
            (*pending).since_ms = 0;
            (*pending).answered_ms = now.ms;
        }
    }
    0
}

/// The maps, as transit asks them.
pub struct Maps;

impl Tables for Maps {
    #[inline(always)]
    fn bounce(&self, key: &VniAddress) -> Option<Bounce> {
        // SAFETY: as for `endpoint`.
        unsafe { BOUNCE.get(key) }.copied()
    }
    #[inline(always)]
    fn route(&self, key: &VniAddress) -> Option<Route> {
        ROUTE.get(&Key::new(VniAddress::BITS, *key)).copied()
    }
    #[inline(always)]
    fn shard(&self, key: &ShardKey) -> Option<Shard> {
        // SAFETY: as for `endpoint`.
        unsafe { SHARD.get(key) }.copied()
    }
    #[inline(always)]
    fn address(&self, host: u32) -> Option<[u8; 4]> {
        // SAFETY: as for `endpoint`.
        unsafe { HOSTS.get(&host) }.copied()
    }
    #[inline(always)]
    fn is_dead(&self, host: u32) -> bool {
        // SAFETY: as for `endpoint`.
        unsafe { DEAD.get(&host) }.is_some()
    }
}
