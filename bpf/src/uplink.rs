//! The uplink's tcx program: what the underlay brings. [`fast`] delivers direct packets of
//! established flows; everything else is a chain of steps (see [`Step`]).

use mizar_abi::{
    ENCAP_LEN,
    maps::{Cfg, flow_flag},
    option::{BODY_LEN, Kind, OPTION_LEN},
    reason::{Counter, Drop},
};
use mizar_packet::{
    ETH_IPV4, ETH_LEN, Packet, flow,
    geneve::{self, OUTER_LEN, SIGNED_OPTION, SIGNED_OUTER_LEN, SIGNED_READ_LEN},
    ipv4::{self, Fragment, Tuple},
    option::Bound,
    policy, u16_at,
};

use crate::{
    back, control, egress, log, send,
    skb::{NEXT, Skb},
    tables, transit,
    walk::{Step, Walk, begin, count, drop, finish, go, is_unfinished},
    watch,
};

/// Options or a control packet.
const OPTIONS: Step = go(20);
/// A direct packet without an established flow of its sender.
pub const NOT_ESTABLISHED: Step = go(21);
/// A control packet without a frame, verified.
const CONTROL: Step = go(22);
/// REQ, verified; so are the next ones.
pub const REQUEST: Step = go(23);
/// The inner packet is to be read.
pub const PARSE: Step = go(24);
/// RETURN
const RETURN: Step = go(25);
/// ADMITTED
const ADMITTED: Step = go(26);
/// The endpoint of an admission is not here.
pub const NOT_HERE: Step = go(27);
/// ACK
const ACK: Step = go(28);
/// A direct packet is turned around.
pub const TURN: Step = go(29);
/// A signed packet is turned around, with the kind and reason that its body says.
pub const BACK: Step = go(30);
/// DENIED
pub const DENIED: Step = go(31);
/// An endpoint's packet, without outer headers now, was refused.
pub const REFUSED: Step = go(32);
/// Delivery to `walk.ep_id`, `walk.outer` bytes of headers taken off.
pub const DELIVER: Step = go(33);
/// On to `walk.to`, with the option that `walk.signed.body` holds.
pub const IN_PLACE: Step = go(34);
/// ASK
const ASKED: Step = go(35);
/// ANSWER
const ANSWERED: Step = go(36);
/// As IN_PLACE, for a control packet that names a flow.
pub const ANSWER_IN_PLACE: Step = go(37);
/// An acknowledging packet, in a flow to be judged again, or for an endpoint whose groups are stateless.
pub const LET_IN: Step = go(38);

/// Where the options stand.
const OPTIONS_AT: usize = ETH_LEN + OUTER_LEN;
/// Where the inner frame of a packet with the signed option stands.
const SIGNED_FRAME_AT: usize = ETH_LEN + SIGNED_OUTER_LEN;

/// The program.
#[inline(always)]
pub fn run(skb: Skb) -> i32 {
    let Some((walk, cfg)) = begin() else { return NEXT };
    let mut step = fast(skb, walk, cfg);
    if is_unfinished(step) {
        if step >= OPTIONS {
            step = slow(skb, walk, cfg, step);
        }
        watch::end(walk, step);
    }
    finish(skb, walk, step)
}

/// The steps in the only order in which they can follow each other.
#[inline(never)]
fn slow(skb: Skb, walk: &mut Walk, cfg: &Cfg, mut step: Step) -> Step {
    if step == OPTIONS {
        step = with_options(skb, walk, cfg);
    }
    if step == CONTROL {
        step = control::without_frame(walk, cfg);
    }
    if step == PARSE {
        step = parse(skb, walk);
    }
    if step == RETURN {
        step = back::returned(walk, cfg);
    }
    if step == REQUEST {
        step = transit::request(walk, cfg);
        if step == PARSE {
            // It ends on this host.
            step = parse(skb, walk);
        }
    }
    if step == ADMITTED {
        step = control::admitted(skb, walk, cfg);
    }
    if step == NOT_HERE {
        step = transit::not_here(walk, cfg);
    }
    if step == ACK {
        step = control::acknowledged(skb, walk);
    }
    if step == NOT_ESTABLISHED {
        step = control::not_established(skb, walk, cfg);
    }
    if step == LET_IN {
        step = control::let_in(skb, walk, cfg);
    }
    if step == TURN {
        step = control::turn_around(skb, walk, cfg);
    }
    if step == BACK {
        step = control::send_back(walk, cfg);
    }
    if step == DENIED {
        step = back::denied(skb, walk, cfg);
    }
    if step == REFUSED {
        return egress::refuse(skb, walk);
    }
    if step == ASKED {
        step = transit::asked(walk, cfg);
    }
    if step == ANSWERED {
        step = control::answered(walk, cfg);
    }
    if step == ANSWER_IN_PLACE {
        return send::control_in_place(skb, walk, cfg);
    }
    if step == DELIVER {
        return send::deliver_slowly(skb, walk);
    }
    if step == IN_PLACE {
        return send::in_place(skb, walk, cfg);
    }
    step
}

/// Is it ours, is it sound; and if it is a plain direct packet of an established flow, delivery.
#[inline(never)]
fn fast(skb: Skb, walk: &mut Walk, cfg: &Cfg) -> Step {
    if skb.protocol() != ETH_IPV4.to_be() as u32 || skb.vlan_present() != 0 {
        return NEXT;
    }
    let Some(outer) = skb.words::<{ OUTER_LEN / 2 }>(ETH_LEN) else { return NEXT };
    if !geneve::is_ours(&outer, cfg.host) {
        return NEXT;
    }
    walk.seen = match geneve::parse(&outer) {
        Ok(seen) => seen,
        Err(reason) => return drop(reason),
    };
    if skb.gso_size() == 0 && !walk.seen.lengths_agree((skb.len() as usize).wrapping_sub(ETH_LEN)) {
        return drop(Drop::BadGeneve);
    }
    tables::clocks(walk, cfg);
    if walk.seen.options != 0 || walk.seen.control {
        return OPTIONS;
    }
    match eth_type(skb, OPTIONS_AT) {
        Some(ETH_IPV4) => {}
        _ => return drop(Drop::BadGeneve),
    }
    walk.inner = match ipv4::parse(&skb, OPTIONS_AT + ETH_LEN) {
        Ok(inner) => inner,
        Err(reason) => return drop(reason),
    };
    if matches!(walk.inner.fragment, Fragment::Later) {
        return drop(Drop::FragNoHead);
    }
    walk.outer = ENCAP_LEN as u32;
    walk.key = walk.inner.tuple.received(walk.seen.vni);
    if let Some(flow) = tables::established(&walk.key, &walk.now)
        && flow.peer_host == walk.seen.src
        && let Some(receiver) = tables::receiver(flow.ep_id, walk.tick)
        && receiver.ep.vni == walk.seen.vni
        // An ICMP error goes with what it is about.
        && receiver.force.passes(flow, if walk.inner.icmp_error { flow_flag::I_INIT } else { flow_flag::R_INIT })
    {
        walk.ep_id = flow.ep_id;
        flow::confirm(flow);
        flow::touch(flow, walk.inner.tcp_flags, false, &walk.now);
        log::arrives(flow, skb, walk);
        count(Counter::DirectIn);
        return send::deliver(skb, &receiver.ep, ENCAP_LEN);
    }
    NOT_ESTABLISHED
}

#[inline(always)]
fn eth_type(skb: Skb, frame_at: usize) -> Option<u16> {
    skb.words::<1>(frame_at + 12).map(|kind| kind.short(0))
}

/// A packet with options, or a control packet. Signed ones are verified here, once for all kinds.
#[inline(never)]
fn with_options(skb: Skb, walk: &mut Walk, cfg: &Cfg) -> Step {
    let options = walk.seen.options & 0xff;
    let mut signed_at = 0;
    let plain = options == OPTION_LEN && skb.read::<4>(OPTIONS_AT) == Some(SIGNED_OPTION);
    if plain {
        signed_at = 1;
    } else if options != 0 {
        let found = match geneve::options(&skb, OPTIONS_AT, options) {
            Ok(found) => found,
            Err(reason) => return drop(reason),
        };
        if found.signed == 0 && !walk.seen.control {
            return direct(skb, walk, options, found.fragment & 0xff);
        }
        signed_at = found.signed & 0xff;
    }
    if signed_at == 0 {
        // Whoever sends a control packet must sign it.
        return drop(Drop::BadTag);
    }
    if !read_signed(skb, walk, options, signed_at) {
        return drop(Drop::BadGeneve);
    }
    let mut bound = Bound { receiver: cfg.host, vni: walk.seen.vni, ..Bound::default() };
    // What agents and bouncers say of a flow names it by headers, though it carries nothing.
    let mut framed = !walk.seen.control;
    let about_flow = match walk.signed.body.kind() {
        Some(Kind::Ack) => ACK,
        Some(Kind::Ask) => ASKED,
        Some(Kind::Answer) => ANSWERED,
        Some(Kind::Denied) => DENIED,
        _ => CONTROL,
    };
    if !framed && about_flow != CONTROL {
        let headers = (&raw mut walk.signed.eth).cast();
        // SAFETY: 34 bytes from `eth` on are `eth` and `inner`.
        if !unsafe { skb.read_into(SIGNED_FRAME_AT, headers, (ETH_LEN + ipv4::HEADER_LEN) as u32) } {
            return drop(Drop::BadGeneve);
        }
        framed = true;
    }
    let signed = &walk.signed;
    if framed {
        bound.src = signed.inner.four(12);
        bound.dst = signed.inner.four(16);
        bound.proto = signed.inner.byte(9);
    }
    if let Err(reason) = signed.body.verify_noting(cfg, walk.utc, &bound, &mut walk.midstate) {
        return drop(reason);
    }
    if !framed {
        return CONTROL;
    }
    if signed.eth.short(12) != ETH_IPV4 {
        return drop(Drop::BadGeneve);
    }
    if signed.inner.byte(0) >> 4 != 4 {
        return drop(Drop::Malformed);
    }
    walk.inner.src = bound.src;
    walk.inner.dst = bound.dst;
    walk.inner.proto = bound.proto;
    if walk.seen.control {
        let (sport, dport) = (signed.body.sport(), signed.body.dport());
        walk.inner.tuple = Tuple { src: bound.src, dst: bound.dst, sport, dport, proto: bound.proto };
        walk.inner.tcp_flags = 0;
        walk.inner.icmp_error = false;
        return about_flow;
    }
    watch::came(walk);
    if walk.signed.body.kind() == Some(Kind::Req) { REQUEST } else { PARSE }
}

/// Reads the inner packet of a signed one, which transit need not, and tells the kinds apart.
#[inline(never)]
fn parse(skb: Skb, walk: &mut Walk) -> Step {
    let header = walk.signed.inner;
    walk.inner = match ipv4::parse_with_header(&skb, SIGNED_FRAME_AT + ETH_LEN, &header) {
        Ok(inner) => inner,
        Err(reason) => return drop(reason),
    };
    // The sender's host knows them of fragments too.
    walk.inner.tuple.sport = walk.signed.body.sport();
    let tuple = &mut walk.inner.tuple;
    tuple.dport = walk.signed.body.dport();
    if matches!(walk.inner.fragment, Fragment::Later) && tuple.proto == ipv4::proto::ICMP {
        walk.inner.icmp = policy::opened_port(tuple.proto, tuple.sport, tuple.dport);
    }
    walk.outer = (ENCAP_LEN + OPTION_LEN) as u32;
    match walk.signed.body.kind() {
        Some(Kind::Admitted) => ADMITTED,
        Some(Kind::Ack) => ACK,
        Some(Kind::Return) => RETURN,
        Some(Kind::Denied) => DENIED,
        _ => drop(Drop::UnknownKind),
    }
}

/// A direct packet with options: the ports of a later fragment are the only ones that say anything.
#[inline(always)]
fn direct(skb: Skb, walk: &mut Walk, options: usize, fragment_at: usize) -> Step {
    if eth_type(skb, OPTIONS_AT + options) != Some(ETH_IPV4) {
        return drop(Drop::BadGeneve);
    }
    walk.inner = match ipv4::parse(&skb, OPTIONS_AT + options + ETH_LEN) {
        Ok(inner) => inner,
        Err(reason) => return drop(reason),
    };
    // What is whole, or a first part, shows its ports itself: those of another flow would be judged in their stead.
    if matches!(walk.inner.fragment, Fragment::Later) {
        if fragment_at == 0 {
            return drop(Drop::FragNoHead);
        }
        let Some(ports) = skb.read::<4>(OPTIONS_AT + fragment_at - 1 + 4) else { return drop(Drop::BadGeneve) };
        walk.inner.tuple.sport = u16_at(&ports, 0);
        walk.inner.tuple.dport = u16_at(&ports, 2);
    }
    walk.outer = (ENCAP_LEN + options) as u32;
    walk.key = walk.inner.tuple.received(walk.seen.vni);
    NOT_ESTABLISHED
}

/// Reads headers, option and the start of the inner packet into `walk.signed`. Should there be
/// other options beside ours, they go: afterwards the frame stands where it always does.
#[inline(always)]
fn read_signed(skb: Skb, walk: &mut Walk, options: usize, signed_at: usize) -> bool {
    let signed = &mut walk.signed;
    if options != OPTION_LEN {
        // SAFETY: `Body` has BODY_LEN bytes.
        let read =
            unsafe { skb.read_into(OPTIONS_AT + signed_at - 1 + 4, (&raw mut signed.body).cast(), BODY_LEN as u32) };
        if !read || !skb.resize(OPTION_LEN as i32 - options as i32) {
            return false;
        }
        if walk.seen.control {
            return true;
        }
        // SAFETY: 34 bytes from `eth` on are `eth` and `inner`.
        return unsafe {
            skb.read_into(SIGNED_FRAME_AT, (&raw mut signed.eth).cast(), (ETH_LEN + ipv4::HEADER_LEN) as u32)
        };
    }
    let len = if walk.seen.control { SIGNED_OUTER_LEN } else { SIGNED_READ_LEN };
    // SAFETY: `Signed` has SIGNED_READ_LEN bytes from `outer` on.
    unsafe { skb.read_into(ETH_LEN, (&raw mut signed.outer).cast(), len as u32) }
}
