//! Transit in XDP: the same decisions as in `transit`, before a socket buffer is made.
//!
//! It acts on requests that go on to another host, and on probes, and only if the kernel knows
//! the neighbour. Whatever is odd, local or unresolved is passed on *untouched*: the tcx program
//! behind does it, and names the reason if it is dropped there.

use aya_ebpf::{
    bindings::{bpf_fib_lookup as FibLookup, xdp_md},
    helpers::{bpf_fib_lookup, bpf_redirect, bpf_xdp_load_bytes, bpf_xdp_store_bytes},
};
use mizar_abi::{
    GENEVE_PORT,
    maps::Cfg,
    option::{Kind, OPTION_LEN, flag},
    reason::Counter,
};
use mizar_packet::{
    ETH_IPV4, ETH_LEN, Words,
    geneve::{self, OUTER_LEN, OuterWords, SIGNED_LEN, SIGNED_OPTION, SIGNED_OUTER_LEN, SIGNED_PAD, SIGNED_READ_LEN},
    option::Bound,
    transit::Action,
};

use crate::{
    decide,
    maps::{CACHED, LINK_CACHE},
    send, tables, transit,
    walk::{Walk, begin, count},
};

/// To the stack.
const PASS: u32 = 2;
/// Out where it came from.
const TX: u32 = 3;
/// AF_INET
const INET: u8 = 2;

/// The program. `#[inline(always)]`: one copy each for the two sections (plain, and for frames in
/// several buffers).
#[inline(always)]
pub fn run(ctx: *mut xdp_md) -> u32 {
    let Some((walk, cfg)) = begin() else { return PASS };
    let kind = classify(ctx, cfg);
    if kind == Kind::Req as u8 {
        bounce(ctx, walk, cfg)
    } else if kind == Kind::Probe as u8 {
        answer(ctx, walk, cfg)
    } else {
        PASS
    }
}

/// The kind of signed packet, or 0. Most packets are none, and end here.
#[inline(always)]
fn classify(ctx: *mut xdp_md, cfg: &Cfg) -> u8 {
    const LEN: usize = ETH_LEN + OUTER_LEN + 6;
    // SAFETY: the context is valid as long as the program runs.
    let (start, end) = unsafe { ((*ctx).data as usize, (*ctx).data_end as usize) };
    if start + LEN > end {
        return 0;
    }
    // SAFETY: LEN bytes are there.
    let h = unsafe { &*(start as *const Words<{ LEN / 2 }>) };
    let ours = h.short(12) == ETH_IPV4
        && h.byte(14) == 0x45
        && h.byte(23) == 17
        && h.short(36) == GENEVE_PORT
        && h.byte(42) == (OPTION_LEN / 4) as u8
        && u32::from_ne_bytes(h.four(30)) == u32::from_ne_bytes(cfg.host)
        && u32::from_ne_bytes(h.four(50)) == u32::from_ne_bytes(SIGNED_OPTION);
    if ours { h.byte(54) } else { 0 }
}

/// Reads the first `len` bytes into `walk.signed` and checks the outer headers.
#[inline(always)]
fn read(ctx: *mut xdp_md, walk: &mut Walk, cfg: &Cfg, len: usize) -> bool {
    // SAFETY: `Signed` has ETH_LEN + SIGNED_READ_LEN bytes from `link` on.
    if unsafe { bpf_xdp_load_bytes(ctx, 0, link(walk).cast(), len as u32) } != 0 {
        return false;
    }
    let outer = outer(&walk.signed.outer);
    if !geneve::is_ours(&outer, cfg.host) {
        return false;
    }
    match geneve::parse(&outer) {
        Ok(seen) => walk.seen = seen,
        Err(_) => return false,
    }
    tables::clocks(walk, cfg);
    // SAFETY: as in `classify`.
    let bytes = unsafe { (*ctx).data_end as usize - (*ctx).data as usize };
    // In several buffers, the first says nothing of the length; the helper reads any of them.
    walk.seen.lengths_agree(if bytes < walk.seen.total_len as usize + ETH_LEN { whole(ctx) } else { bytes - ETH_LEN })
}

/// Where the outer Ethernet header stands in the working memory.
#[inline(always)]
fn link(walk: &mut Walk) -> *mut u8 {
    // SAFETY: within `link`.
    unsafe { (&raw mut walk.signed.link).cast::<u8>().add(SIGNED_PAD) }
}

/// Outer headers in the units in which they are read.
#[inline(always)]
fn outer(words: &[u32; OUTER_LEN / 4]) -> OuterWords {
    // SAFETY: as many bytes, of a type that any bits make a valid one.
    unsafe { (&raw const *words).cast::<OuterWords>().read() }
}

/// Bytes after the Ethernet header of a frame in several buffers; 0 for others.
#[inline(always)]
fn whole(ctx: *mut xdp_md) -> usize {
    // SAFETY: a plain helper call.
    let len = unsafe { aya_ebpf::helpers::bpf_xdp_get_buff_len(ctx) };
    (len as usize).saturating_sub(ETH_LEN)
}

/// A request.
#[inline(never)]
fn bounce(ctx: *mut xdp_md, walk: &mut Walk, cfg: &Cfg) -> u32 {
    if !read(ctx, walk, cfg, ETH_LEN + SIGNED_READ_LEN) || walk.seen.control {
        return PASS;
    }
    let header = &walk.signed.inner;
    // What is followed is told of by the program behind.
    let followed = walk.signed.body.flags() & flag::TRACED != 0;
    if walk.signed.eth.short(12) != ETH_IPV4 || header.byte(0) >> 4 != 4 || followed {
        return PASS;
    }
    let (src, dst, proto) = (header.four(12), header.four(16), header.byte(9));
    let bound = Bound { receiver: cfg.host, vni: walk.seen.vni, src, dst, proto };
    if walk.signed.body.verify_noting(cfg, walk.utc, &bound, &mut walk.midstate).is_err() {
        return PASS;
    }
    walk.inner.src = src;
    walk.inner.dst = dst;
    walk.inner.proto = proto;
    if decide::decide(walk, cfg) != 0 {
        return PASS;
    }
    let denied = matches!(walk.decision.action, Action::Deny(_));
    let back = denied || matches!(walk.decision.action, Action::Identify | Action::Unready);
    let hops = walk.signed.body.hops();
    let origin = walk.signed.body.origin();
    let to = if back { origin } else { walk.decision.host };
    if to == cfg.host || (back && !denied && hops == 0) || !neighbour(ctx, walk, cfg, to) {
        return PASS;
    }
    transit::apply(walk);
    if back {
        // As in `control::send_back`.
        if !denied {
            walk.signed.body.set_hops(hops - 1);
        }
        walk.signed.body.set_origin(cfg.host);
        walk.to_vni = walk.signed.body.origin_vni();
        walk.to = origin;
        count(if denied { Counter::DeniedOut } else { Counter::ReturnOut });
    } else if !matches!(walk.decision.action, Action::Admit) {
        tables::next_owes_answer(walk);
    }
    count(Counter::TransitXdp);
    let frame = (walk.seen.total_len as usize).saturating_sub(SIGNED_OUTER_LEN);
    out(ctx, walk, cfg, frame, ETH_LEN + SIGNED_LEN)
}

/// A probe.
#[inline(never)]
fn answer(ctx: *mut xdp_md, walk: &mut Walk, cfg: &Cfg) -> u32 {
    if !read(ctx, walk, cfg, ETH_LEN + SIGNED_OUTER_LEN) || !walk.seen.control {
        return PASS;
    }
    let bound = Bound { receiver: cfg.host, vni: walk.seen.vni, ..Bound::default() };
    if walk.signed.body.verify_noting(cfg, walk.utc, &bound, &mut walk.midstate).is_err() {
        return PASS;
    }
    let to = walk.seen.src;
    if walk.seen.total_len as usize != SIGNED_OUTER_LEN || !neighbour(ctx, walk, cfg, to) {
        return PASS;
    }
    transit::answer_probe(walk, cfg);
    count(Counter::Probe);
    out(ctx, walk, cfg, 0, ETH_LEN + SIGNED_OUTER_LEN)
}

/// Signs, writes the first `len` bytes back, and sends.
#[inline(always)]
fn out(ctx: *mut xdp_md, walk: &mut Walk, cfg: &Cfg, frame: usize, len: usize) -> u32 {
    // Verified under the same configuration a moment ago, so there is a key.
    if !send::seal(walk, cfg, frame) {
        return PASS;
    }
    // SAFETY: see `read`.
    if unsafe { bpf_xdp_store_bytes(ctx, 0, link(walk).cast(), len as u32) } != 0 {
        return PASS;
    }
    if cfg.xdp_tx != 0 {
        return TX;
    }
    // SAFETY: the context is valid as long as the program runs; a plain helper call.
    unsafe { bpf_redirect((*ctx).ingress_ifindex, 0) as u32 }
}

/// An Ethernet header that the kernel gave.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct LinkSeen {
    /// Milliseconds since boot then, wrapping.
    since_ms: u32,
    /// For this host,
    host: [u8; 4],
    /// by this interface;
    interface: u32,
    pad: u32,
    /// as [`mizar_packet::geneve::Signed`] has it.
    link: [u64; 2],
}

/// Milliseconds for which it is believed: asking costs as much as everything else together. (The
/// tcx program asks for every packet.)
const LINK_MS: u32 = 100;

/// Writes the Ethernet header for a host. False unless the way leads out of the interface that the
/// packet came in by.
#[inline(always)]
fn neighbour(ctx: *mut xdp_md, walk: &mut Walk, cfg: &Cfg, to: [u8; 4]) -> bool {
    let slot = (u32::from_be_bytes(to).wrapping_mul(0x9e37_79b1) >> 24) & (CACHED - 1);
    let Some(seen) = LINK_CACHE.get_ptr_mut(slot) else { return false };
    // SAFETY: per CPU; the context is valid as long as the program runs.
    let (seen, interface) = unsafe { (&mut *seen, (*ctx).ingress_ifindex) };
    let fresh = walk.now.ms.wrapping_sub(seen.since_ms) < LINK_MS;
    if !fresh || u32::from_ne_bytes(seen.host) != u32::from_ne_bytes(to) || seen.interface != interface {
        let Some(link) = ask(ctx, cfg, to, interface) else { return false };
        *seen = LinkSeen { since_ms: walk.now.ms, host: to, interface, pad: 0, link };
    }
    walk.signed.link = seen.link;
    true
}

/// Asks the kernel. It answers only if forwarding is on for the interface, and the neighbour known.
#[inline(always)]
fn ask(ctx: *mut xdp_md, cfg: &Cfg, to: [u8; 4], interface: u32) -> Option<[u64; 2]> {
    // SAFETY: zeros are a valid query, which the fields below complete.
    unsafe {
        let mut query: FibLookup = core::mem::zeroed();
        query.family = INET;
        query.l4_protocol = 17;
        query.ifindex = interface;
        query.__bindgen_anon_3.ipv4_src = u32::from_ne_bytes(cfg.host);
        query.__bindgen_anon_4.ipv4_dst = u32::from_ne_bytes(to);
        if bpf_fib_lookup(ctx.cast(), &mut query, size_of::<FibLookup>() as i32, 0) != 0 || query.ifindex != interface {
            return None;
        }
        let (d, s) = (query.dmac, query.smac);
        Some([
            u64::from_ne_bytes([0, 0, d[0], d[1], d[2], d[3], d[4], d[5]]),
            u64::from_ne_bytes([s[0], s[1], s[2], s[3], s[4], s[5], 8, 0]),
        ])
    }
}
