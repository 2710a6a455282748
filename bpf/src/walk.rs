//! What is known of the packet under way. Kept in per-CPU memory, handed down to every step.

use aya_ebpf::helpers::bpf_ktime_get_coarse_ns;
use mizar_abi::{
    mapped,
    maps::{Cfg, DropCount, DropKey, Flow, FlowKey},
    reason::{Counter, Drop},
};
use mizar_packet::{
    flow::Now,
    geneve::{Seen, Signed},
    icmp::QUOTE_MAX,
    ipv4::{Inner, Tuple},
    option::Midstate,
    transit::Decision,
};

use crate::{
    maps::{CFG, COUNTERS, DROPS, SCRATCH},
    skb::{SHOT, Skb},
};

/// What a step of the walk leaves to be done: a verdict of the kernel's (-1 to 7), or one of the
/// below. Steps return instead of calling the next one, because the kernel allows 8 frames and
/// 512 bytes of stack in a chain of calls; and so every step is verified once.
pub type Step = i32;

const DROP: Step = 0x1_0000;
const ICMP: Step = 0x2_0000;
const GO: Step = 0x4_0000;

/// The packet is dropped for this reason.
#[inline(always)]
pub const fn drop(reason: Drop) -> Step {
    DROP | reason as Step
}

/// The same by the reason's number.
#[inline(always)]
pub const fn drop_number(reason: u32) -> Step {
    DROP | (reason as Step & 0xff)
}

/// The packet is dropped for this reason, and its endpoint told so by an ICMP error
/// (`crate::reply`).
#[inline(always)]
pub const fn icmp(error: u8, reason: Drop) -> Step {
    ICMP | (error as Step) << 8 | reason as Step
}

/// Another step follows.
#[inline(always)]
pub const fn go(step: Step) -> Step {
    GO | step
}

/// Is there more to do than to return the step to the kernel?
#[inline(always)]
pub const fn is_unfinished(step: Step) -> bool {
    step >= DROP
}

/// Number of the reason for which the packet is dropped; 0: it is not.
#[inline(always)]
pub const fn reason(step: Step) -> u32 {
    if step < DROP { 0 } else { step as u32 & 0xff }
}

/// Carries out a drop, or an ICMP error for an endpoint whose packet stands without outer headers.
#[inline(always)]
pub fn finish(skb: Skb, walk: &mut Walk, step: Step) -> i32 {
    if step < DROP {
        return step;
    }
    tally(skb.len(), walk.ep_id, walk.vni(), step as u32 & 0xff, walk.read());
    if step & ICMP != 0 { crate::reply::icmp(skb, walk, step as u32 >> 8 & 0xff) } else { SHOT }
}

/// Working memory of one packet.
#[repr(C)]
pub struct Walk {
    /// Headers that came, or that will be written.
    pub signed: Signed,
    /// The endpoint's packet.
    pub inner: Inner,
    /// Its flow's key.
    pub key: FlowKey,
    /// Outer headers as they came.
    pub seen: Seen,
    /// The kernel's tick when `now` and `utc` were computed.
    pub tick: u64,
    /// When.
    pub now: Now,
    /// Seconds of UTC.
    pub utc: u32,
    /// Path hash.
    pub hash: u32,
    /// How far the next tag is that of the packet that came.
    pub midstate: Midstate,
    /// What transit decided.
    pub decision: Decision,
    /// What an ICMP error quotes.
    pub quote: [u8; QUOTE_MAX],
    /// Key of the flow as the other end sees it, when that is here too.
    pub peer_key: FlowKey,
    /// The flow as it will be kept.
    pub flow: Flow,
    /// The other end's.
    pub peer_flow: Flow,
    /// The endpoint concerned; 0 = not known yet.
    pub ep_id: u32,
    /// Underlay address of the next host.
    pub to: [u8; 4],
    /// Outer VNI on the way there.
    pub to_vni: u32,
    /// Bytes of outer headers to take off before delivery.
    pub outer: u32,
    /// Flags of the flow that the packet may open ([`crate::policy::opening`]); none unless policy
    /// said so.
    pub opening: u32,
    /// [`mizar_packet::policy::stamp`] of the rules that said so.
    pub stamp: u32,
    /// Why a direct packet is turned around: [`mizar_abi::option::code`].
    pub why: u32,
    /// Whether the packet is followed, and what of it: see [`crate::watch`].
    pub traced: u32,
    /// The watch that it was waited for by, at its sender's host.
    pub watch: u32,
    /// The outer VNI that it came with.
    pub came_vni: u32,
}

impl Walk {
    /// The endpoint's packet, if its headers have been read: `inner` may be that of an earlier one.
    #[inline(always)]
    fn read(&self) -> Option<&Tuple> {
        if self.inner.total_len != 0 { Some(&self.inner.tuple) } else { None }
    }

    /// The network of its endpoint, once a flow was looked for.
    #[inline(always)]
    fn vni(&self) -> u32 {
        self.key.vni_proto >> 8
    }
}

/// This CPU's working memory and this host's configuration; `None` before the agent wrote it.
#[inline(always)]
pub fn begin() -> Option<(&'static mut Walk, &'static Cfg)> {
    let cfg = CFG.get(0)?;
    let walk = SCRATCH.get_ptr_mut(0)?;
    // SAFETY: a per-CPU value, zeros at first, which is a valid `Walk`; nothing else on this CPU runs until the program ends (see SCRATCH).
    let walk = unsafe { &mut *walk };
    walk.ep_id = 0;
    walk.inner.total_len = 0;
    walk.key.vni_proto = 0;
    walk.traced = 0;
    Some((walk, cfg))
}

/// Adds one to a counter.
#[inline(always)]
pub fn count(counter: Counter) {
    if let Some(value) = COUNTERS.get_ptr_mut(counter as u32) {
        // SAFETY: per CPU.
        unsafe { *value += 1 }
    }
}

/// Counts a packet of so many bytes under the reason for which it is not passed on, and remembers it.
#[inline(never)]
pub fn tally(bytes: u32, ep_id: u32, vni: u32, reason: u32, seen: Option<&Tuple>) -> i32 {
    let key = DropKey { ep_id, reason };
    let Some(count) = DROPS.get_ptr_mut(&key).or_else(|| {
        // A full table loses the count, never the packet's verdict.
        let _ = DROPS.insert(&key, &DropCount::default(), 0);
        DROPS.get_ptr_mut(&key)
    }) else {
        return SHOT;
    };
    // SAFETY: per CPU.
    let count = unsafe { &mut *count };
    count.packets += 1;
    count.bytes += bytes as u64;
    // SAFETY: a plain helper call.
    count.last_ns = unsafe { bpf_ktime_get_coarse_ns() };
    if let Some(seen) = seen {
        count.vni_proto = vni << 8 | seen.proto as u32;
        (count.sport, count.dport) = (seen.sport, seen.dport);
        (count.src, count.dst) = (mapped(seen.src), mapped(seen.dst));
    }
    SHOT
}
