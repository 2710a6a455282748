//! Out to the underlay, or to an endpoint of this host.

use mizar_abi::{
    ENCAP_LEN, ENCAP_OPTION_LEN, VIRTUAL_MAC,
    maps::{Cfg, Ep, EpKind, Ports, ep_flag},
    option::{FRAG_LEN, OPTION_LEN},
    reason::Drop,
};
use mizar_packet::{
    ETH_LEN, Words, checksum,
    geneve::{Direct, DirectFragment, OUTER_LEN, Outer, SIGNED_LEN, SIGNED_OPTION, SIGNED_OUTER_LEN, fragment_option},
    ipv4::Inner,
    option::Bound,
    path,
};

use crate::{
    skb::Skb,
    tables,
    walk::{Step, Walk, drop},
    watch,
};

/// Where the IPv4 header stands.
const IP_AT: usize = ETH_LEN;

/// Lowers the TTL of the packet's IPv4 header at `offset`. The caller has seen that it is above 1.
#[inline(always)]
pub fn lower_ttl(skb: Skb, offset: usize, inner: &mut Inner) -> bool {
    inner.ttl = inner.ttl.wrapping_sub(1);
    inner.checksum = checksum::after_ttl(inner.checksum);
    let [c0, c1] = inner.checksum.to_be_bytes();
    skb.write(offset + 8, &[inner.ttl, inner.proto, c0, c1])
}

/// Straight to `walk.to`: 50 bytes of headers.
#[inline(always)]
pub fn direct(skb: Skb, walk: &Walk, cfg: &Cfg, eth: &Words<7>) -> Step {
    let headers = Direct { outer: outer(skb, walk, cfg, 0), eth: *eth, tail: [0; 2] };
    // SAFETY: `Direct` has no padding and begins with the ENCAP_LEN bytes.
    if !skb.encapsulate(ENCAP_LEN) || !unsafe { skb.write_from(IP_AT, (&raw const headers).cast(), ENCAP_LEN as u32) } {
        return drop(Drop::Helper);
    }
    skb.to_underlay(cfg.uplink)
}

#[inline(always)]
fn outer(skb: Skb, walk: &Walk, cfg: &Cfg, options: usize) -> [u32; OUTER_LEN / 4] {
    Outer {
        src: cfg.host,
        dst: walk.to,
        tos: walk.inner.tos,
        source_port: path::source_port(path::hash(&walk.inner)),
        vni: walk.to_vni,
        options,
        frame: skb.len() as usize,
    }
    .words()
}

/// The same for a fragment, whose ports the option names.
#[inline(never)]
pub fn direct_fragment(skb: Skb, walk: &Walk, cfg: &Cfg) -> Step {
    const LEN: usize = ENCAP_LEN + FRAG_LEN;
    let tuple = &walk.inner.tuple;
    let headers = DirectFragment {
        outer: outer(skb, walk, cfg, FRAG_LEN),
        option: fragment_option(Ports { sport: tuple.sport, dport: tuple.dport }),
        eth: walk.signed.eth,
        tail: [0; 2],
    };
    // SAFETY: `DirectFragment` has no padding and begins with the LEN bytes.
    if !skb.encapsulate(LEN) || !unsafe { skb.write_from(IP_AT, (&raw const headers).cast(), LEN as u32) } {
        return drop(Drop::Helper);
    }
    skb.to_underlay(cfg.uplink)
}

/// Writes the outer headers of `walk.signed` for a frame of `frame` bytes to `walk.to`, and signs.
#[inline(always)]
pub fn seal(walk: &mut Walk, cfg: &Cfg, frame: usize) -> bool {
    let inner = &walk.inner;
    let (receiver, vni) = (walk.to, walk.to_vni);
    let bound = if frame == 0 {
        Bound { receiver, vni, ..Bound::default() }
    } else {
        Bound { receiver, vni, src: inner.src, dst: inner.dst, proto: inner.proto }
    };
    let signed = &mut walk.signed;
    signed.option = SIGNED_OPTION;
    signed.outer = Outer {
        src: cfg.host,
        dst: receiver,
        tos: walk.seen.tos,
        source_port: walk.seen.source_port | path::FIRST_PORT,
        vni,
        options: OPTION_LEN,
        frame,
    }
    .words();
    signed.body.sign_after(cfg, walk.utc, &bound, &walk.midstate)
}

/// An endpoint's packet to `walk.to` with the option that `walk.signed.body` holds: 102 bytes of
/// headers.
#[inline(never)]
pub fn signed(skb: Skb, walk: &mut Walk, cfg: &Cfg) -> Step {
    walk.seen.tos = walk.inner.tos;
    walk.seen.source_port = path::source_port(walk.hash);
    if !seal(walk, cfg, skb.len() as usize) {
        return drop(Drop::BadTag);
    }
    // SAFETY: from `outer` on, `Signed` has no padding and SIGNED_LEN bytes before `inner`.
    if !skb.encapsulate(ENCAP_OPTION_LEN)
        || !unsafe { skb.write_from(IP_AT, (&raw const walk.signed.outer).cast(), SIGNED_LEN as u32) }
    {
        return drop(Drop::Helper);
    }
    walk.traced |= watch::SENT;
    skb.to_underlay(cfg.uplink)
}

/// A packet that came with room for the option, on to `walk.to`: headers are overwritten.
#[inline(always)]
pub fn in_place(skb: Skb, walk: &mut Walk, cfg: &Cfg) -> Step {
    let frame = (skb.len() as usize).saturating_sub(ETH_LEN + SIGNED_OUTER_LEN);
    if !seal(walk, cfg, frame) {
        return drop(Drop::BadTag);
    }
    // SAFETY: see `signed`.
    if !unsafe { skb.write_from(IP_AT, (&raw const walk.signed.outer).cast(), SIGNED_OUTER_LEN as u32) } {
        return drop(Drop::Helper);
    }
    walk.traced |= watch::SENT;
    skb.to_underlay(cfg.uplink)
}

/// The same for a control packet: its headers name a flow, and are no packet.
#[inline(never)]
pub fn control_in_place(skb: Skb, walk: &mut Walk, cfg: &Cfg) -> Step {
    const CONTROL: u32 = 0x80 << 16;
    const FLAGS: usize = 7;
    let frame = (skb.len() as usize).saturating_sub(ETH_LEN + SIGNED_OUTER_LEN);
    if !seal(walk, cfg, frame) {
        return drop(Drop::BadTag);
    }
    walk.signed.outer[FLAGS] |= CONTROL.to_be();
    // SAFETY: see `signed`.
    if !unsafe { skb.write_from(IP_AT, (&raw const walk.signed.outer).cast(), SIGNED_OUTER_LEN as u32) } {
        return drop(Drop::Helper);
    }
    skb.to_underlay(cfg.uplink)
}

/// To an endpoint of this host, after taking `outer` bytes of headers away.
#[inline(always)]
pub fn deliver(skb: Skb, ep: &Ep, outer: usize) -> Step {
    if ep.flags & ep_flag::DOWN != 0 {
        return drop(Drop::AdminDown);
    }
    if outer != 0 && !skb.resize(-(outer as i32)) {
        return drop(Drop::Helper);
    }
    let (m, v) = (ep.mac, VIRTUAL_MAC);
    let pair = |mac: &[u8; 6], at: usize| u16::from_ne_bytes([mac[at], mac[at + 1]]);
    let macs = [pair(&m, 0), pair(&m, 2), pair(&m, 4), pair(&v, 0), pair(&v, 2), pair(&v, 4)];
    // SAFETY: 12 bytes.
    if !unsafe { skb.write_from(0, macs.as_ptr().cast(), 12) } {
        return drop(Drop::Helper);
    }
    if outer == 0 {
        skb.mark_for_host();
    }
    const TAP: u8 = EpKind::Tap as u8;
    const HOST: u8 = EpKind::Host as u8;
    match ep.kind {
        TAP => skb.out_of(ep.ifindex),
        HOST => skb.in_by(ep.inner_ifindex),
        _ => skb.to_peer_of(ep.ifindex),
    }
}

/// The same to `walk.ep_id`, off the fast path.
#[inline(never)]
pub fn deliver_slowly(skb: Skb, walk: &Walk) -> Step {
    let outer = walk.outer;
    if outer > 512 {
        return drop(Drop::BadGeneve);
    }
    match tables::endpoint(walk.ep_id) {
        Some(ep) => deliver(skb, ep, outer as usize),
        None => drop(Drop::NoEndpoint),
    }
}
