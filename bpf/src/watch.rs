//! Following one packet (docs/adr/0015).
//!
//! The agent describes a packet of a port in WATCH and marks the port ([`ep_flag::WATCHED`]), so that others pay a test of a
//! flag that they have at hand. The first packet that fits takes the entry away, and bears a mark from then on
//! ([`flag::TRACED`]) in the signed option, which it gets for that if it needs none otherwise. Each program that had it
//! tells once what became of it.

use aya_ebpf::helpers::bpf_ktime_get_tai_ns;
use mizar_abi::{
    maps::{Event, EventKind, Hop, ep_flag, hop_flag, watch_flag},
    option::{OPTION_LEN, flag},
    reason::Counter,
};
use mizar_packet::ipv4::Fragment;

use crate::{
    maps::{EP, EVENTS, WATCH},
    tokens,
    uplink::NOT_ESTABLISHED,
    walk::{Step, Walk, count, reason},
};

/// In `walk.traced`: the packet is followed. The other low bits are [`hop_flag`]; above them stands as what it came.
const MARKED: u32 = flag::TRACED as u32;
const CAME: u32 = 8;

/// In `walk.traced`: it was sent on.
pub const SENT: u32 = hop_flag::SENT as u32;
/// In `walk.traced`: this host is its transit host too.
pub const INLINE: u32 = hop_flag::INLINE as u32;

/// The flag for the option of the packet in hand.
#[inline(always)]
pub const fn mark(walk: &Walk) -> u8 {
    (walk.traced & MARKED) as u8
}

/// Is the packet in `walk.inner` of `walk.ep_id` the one that is waited for? Then it is followed, and no other.
#[inline(never)]
pub fn claims(walk: &mut Walk) -> bool {
    let ep_id = walk.ep_id;
    // SAFETY: see `tables::endpoint`.
    let Some(watch) = (unsafe { WATCH.get(&ep_id) }) else { return false };
    let inner = &walk.inner;
    // A later fragment shows no ports, an error those of another packet.
    if inner.icmp_error || matches!(inner.fragment, Fragment::Later) {
        return false;
    }
    let (given, id) = (watch.given, watch.id);
    let is = |one: [u8; 4], other: [u8; 4]| u32::from_ne_bytes(one) == u32::from_ne_bytes(other);
    let fits = is(watch.dst, inner.dst)
        && watch.until >= walk.now.s
        && (given & watch_flag::SRC == 0 || is(watch.src, inner.src))
        && (given & watch_flag::PROTO == 0 || watch.proto == inner.proto)
        && (given & watch_flag::SPORT == 0 || watch.sport == inner.tuple.sport)
        && (given & watch_flag::PORT == 0 || watch.port == inner.judged_port());
    // On several CPUs, one of those that fit removes it.
    if !fits || WATCH.remove(&ep_id).is_err() {
        return false;
    }
    if let Some(ep) = EP.get_ptr_mut(&ep_id) {
        // SAFETY: as for flows. Where the agent replaces the entry meanwhile, it takes the flag away itself.
        unsafe { (*ep).flags &= !ep_flag::WATCHED };
    }
    walk.traced = MARKED;
    walk.watch = id;
    walk.came_vni = 0;
    true
}

/// A verified packet came with the option in `walk.signed.body`.
#[inline(always)]
pub fn came(walk: &mut Walk) {
    let body = &walk.signed.body;
    walk.traced = body.flags() as u32 & MARKED | (body.kind_number() as u32) << CAME;
    walk.watch = 0;
    walk.came_vni = walk.seen.vni;
}

/// An acknowledgement of nothing, for the sake of its mark: the packet goes the way of a direct one.
#[inline(always)]
pub fn direct(walk: &mut Walk) -> Step {
    walk.key = walk.inner.tuple.received(walk.seen.vni);
    // Whatever options there were beside it are gone.
    walk.seen.options = OPTION_LEN;
    NOT_ESTABLISHED
}

/// A program is done with the packet.
#[inline(always)]
pub fn end(walk: &Walk, step: Step) {
    if walk.traced & MARKED != 0 {
        tell(walk, step);
    }
}

#[inline(never)]
fn tell(walk: &Walk, step: Step) -> u32 {
    // All of them have one bucket: whatever is marked, the agent hears of no more than that.
    if !tokens::for_event(0, EventKind::Traced as u32) {
        count(Counter::EventLost);
        return 0;
    }
    let Some(mut entry) = EVENTS.reserve::<Event>(0) else {
        count(Counter::EventLost);
        return 0;
    };
    let (traced, inner, body, seen) = (walk.traced, &walk.inner, &walk.signed.body, &walk.seen);
    let came = (traced >> CAME) as u8;
    let is_sent = traced & SENT != 0;
    let event = entry.as_mut_ptr();
    // SAFETY: reserved for us; every field but the unused end of `frame` is written. `frame` is aligned and large enough for
    // a `Hop` (`mizar_abi` asserts it).
    unsafe {
        (*event).kind = EventKind::Traced as u32;
        (*event).ep_id = walk.ep_id;
        (*event).reason = reason(step);
        (*event).flow = walk.key;
        (*event).len = size_of::<Hop>() as u32;
        let hop = (&raw mut (*event).frame).cast::<Hop>();
        (*hop).tai_ns = bpf_ktime_get_tai_ns();
        (*hop).watch = walk.watch;
        (*hop).from = if came == 0 { [0; 4] } else { seen.src };
        (*hop).from_vni = walk.came_vni;
        (*hop).to = walk.to;
        (*hop).to_vni = walk.to_vni;
        (*hop).src = inner.src;
        (*hop).dst = inner.dst;
        // Transit does not look at the packet's own ports.
        (*hop).sport = if came == 0 { inner.tuple.sport } else { body.sport() };
        (*hop).dport = if came == 0 { inner.tuple.dport } else { body.dport() };
        (*hop).proto = inner.proto;
        (*hop).came = came;
        (*hop).flags = traced as u8 & (hop_flag::SENT | hop_flag::INLINE);
        (*hop).kind = if is_sent { body.kind_number() } else { 0 };
        (*hop).option_flags = body.flags();
        (*hop).code = body.reason();
        (*hop).source_port = seen.source_port;
        (*hop).identity = body.identity();
        (*hop).epoch = body.epoch();
        (*hop).ep_id = body.ep_id();
        (*hop).pad = 0;
    }
    entry.submit(0);
    1
}
