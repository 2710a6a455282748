//! Egress of an endpoint: tcx ingress at the host side of its veth or tap.
//!
//! [`fast`] is the path of a packet whose flow is established: one flow looked up, encapsulated,
//! sent. Everything else is a chain of steps (see [`Step`]), each of them off that path.

use mizar_abi::{
    mapped,
    maps::{Cfg, Ep, EventKind, Flow, State, VniAddress, addr_flag, ep_flag, flow_flag, identity_of, revoked},
    option::{HOPS, Kind, code, flag},
    reason::{Counter, Drop},
};
use mizar_packet::{
    ETH_ARP, ETH_IPV4, ETH_LEN, Packet, Words, flow,
    ipv4::{self, proto},
    option::Body,
    path,
    transit::{Action, Tables, choose, shard_on},
};

use crate::{
    decide, event, frag, log, neighbour, policy, reply, send,
    skb::Skb,
    tables::{self, Maps},
    tokens, transit,
    walk::{Step, Walk, begin, count, drop, drop_number, finish, go, icmp, is_unfinished, tally},
    watch,
};

/// An ARP message.
const ARP: Step = go(1);
/// A DHCP message.
const DHCP: Step = go(2);
/// No established flow.
const UNKNOWN: Step = go(3);
/// A flow whose peer's host is known, off the fast path.
const KNOWN: Step = go(4);
/// A fragment, ready to be sent.
const FRAGMENT: Step = go(5);
/// The peer is on this host.
const SAME_HOST: Step = go(6);
/// The way must be asked for.
pub const REQUEST: Step = go(7);
/// Transit is on this host.
const INLINE: Step = go(8);
/// And so is the peer.
const NEIGHBOURS: Step = go(9);
/// Transit here refused.
pub const REFUSED: Step = go(10);
/// `walk.signed.body` is ready to be signed and sent.
const SIGNED: Step = go(11);

/// The program.
#[inline(always)]
pub fn run(skb: Skb) -> i32 {
    let Some((walk, cfg)) = begin() else { return tally(skb.len(), 0, 0, Drop::NoPort as u32, None) };
    let mut step = fast(skb, walk, cfg);
    if is_unfinished(step) {
        if step >= ARP {
            step = slow(skb, walk, cfg, step);
        }
        watch::end(walk, step);
    }
    finish(skb, walk, step)
}

/// The steps in the only order in which they can follow each other.
#[inline(never)]
fn slow(skb: Skb, walk: &mut Walk, cfg: &Cfg, mut step: Step) -> Step {
    walk.opening = 0;
    if step == ARP {
        return reply::arp(skb, walk);
    }
    if step == DHCP {
        return event::frame(skb, walk, EventKind::Dhcp as u32);
    }
    if step == UNKNOWN {
        step = unknown(skb, walk, cfg);
    }
    if step == KNOWN {
        step = known_slowly(skb, walk, cfg);
    }
    if step == FRAGMENT {
        return send::direct_fragment(skb, walk, cfg);
    }
    if step == SAME_HOST {
        step = neighbour::same_host(skb, walk, cfg);
    }
    if step == REQUEST {
        step = request(skb, walk, cfg);
    }
    if step == INLINE {
        step = inline(walk, cfg);
    }
    if step == NEIGHBOURS {
        step = neighbour::both(skb, walk, cfg);
    }
    if step == REFUSED {
        return refuse(skb, walk);
    }
    if step == SIGNED {
        return send::signed(skb, walk, cfg);
    }
    step
}

/// Checks the packet, and sends it if its flow is established.
#[inline(never)]
fn fast(skb: Skb, walk: &mut Walk, cfg: &Cfg) -> Step {
    tables::clocks(walk, cfg);
    let Some(sender) = tables::sender(skb.ifindex(), walk.tick) else { return drop(Drop::NoPort) };
    let (ep_id, ep) = (sender.ep_id, &sender.ep);
    walk.ep_id = ep_id;
    if ep.flags & ep_flag::DOWN != 0 {
        return drop(Drop::AdminDown);
    }
    let Some(eth) = skb.words::<{ ETH_LEN / 2 }>(0) else { return drop(Drop::Malformed) };
    // A tag that was taken off would come back on the underlay, in another VLAN than ours.
    let kind = if skb.vlan_present() != 0 { 0 } else { eth.short(12) };
    if !eth.is_mac(6, &ep.mac) && ep.flags & ep_flag::ANY_SOURCE == 0 {
        return drop(Drop::Spoof);
    }
    if kind != ETH_IPV4 {
        return if kind == ETH_ARP { ARP } else { drop(Drop::NotIp) };
    }
    walk.inner = match ipv4::parse(&skb, ETH_LEN) {
        Ok(inner) => inner,
        Err(reason) => return drop(reason),
    };
    let inner = &walk.inner;
    if inner.proto == proto::UDP && inner.tuple.dport == 67 && inner.tuple.sport == 68 && !inner.is_fragment() {
        return DHCP;
    }
    let traced = ep.flags & ep_flag::WATCHED != 0 && watch::claims(walk);
    let inner = &walk.inner;
    // Multicast or broadcast, as a frame or as a packet. (240/4 has no endpoints either.)
    if eth.byte(0) & 1 != 0 || inner.dst[0] >= 224 {
        return drop(Drop::Multicast);
    }
    let gso = skb.gso_size();
    let size = if gso == 0 { inner.total_len as u32 } else { gso + inner.header_len as u32 + inner.l4_len as u32 };
    if size > ep.mtu {
        return if inner.dont_fragment { icmp(reply::MTU, Drop::TooBig) } else { drop(Drop::TooBig) };
    }
    if inner.is_fragment() {
        match frag::resolve(walk) {
            frag::KNOWN => {}
            frag::TOO_FAST => return drop(Drop::FragRate),
            _ => return drop(Drop::FragNoHead),
        }
    }
    walk.signed.eth = eth;
    walk.key = walk.inner.tuple.sent(ep.vni);
    // The flow was made by a packet whose source was checked, and dies with the address (the agent
    // sweeps): so a hit of this port needs no second check. An ICMP error has another source.
    if let Some(flow) = tables::established(&walk.key, &walk.now)
        && flow.ep_id == ep_id
        && !walk.inner.icmp_error
        && !flow::reopens(flow, walk.inner.opens())
        && sender.force.passes(flow, flow_flag::I_INIT)
        && !traced
    {
        return known(skb, walk, cfg, ep, flow, &eth, 0);
    }
    UNKNOWN
}

/// The path is known. A packet that is followed gets the option for its mark.
#[inline(always)]
fn known(
    skb: Skb,
    walk: &mut Walk,
    cfg: &Cfg,
    ep: &Ep,
    flow: &mut Flow,
    eth: &Words<{ ETH_LEN / 2 }>,
    mark: u8,
) -> Step {
    if flow.peer_host == cfg.host {
        return SAME_HOST;
    }
    if flow.flags & flow_flag::ROUTED != 0 {
        if walk.inner.ttl <= 1 {
            return icmp(reply::TTL, Drop::TtlExceeded);
        }
        if !send::lower_ttl(skb, ETH_LEN, &mut walk.inner) {
            return drop(Drop::Helper);
        }
    }
    flow::touch(flow, walk.inner.tcp_flags, true, &walk.now);
    log::departs(flow, skb, walk);
    walk.to = flow.peer_host;
    walk.to_vni = flow.peer_vni;
    let owes = flow::owes_ack(flow);
    if owes || mark != 0 {
        // A reply to a side whose host has not seen a direct packet: it learns the way to us.
        let as_reply = if flow::was_reply(flow) { flag::REPLY_ONLY } else { 0 };
        let routed = if flow.flags & flow_flag::ROUTED != 0 { flag::ROUTED } else { 0 };
        body(walk, cfg, ep, Kind::Ack, flow.cookie, routed | as_reply | mark);
        walk.hash = path::hash(&walk.inner);
        if owes {
            count(Counter::AckOut);
        } else {
            walk.signed.body.set_reason(code::DIRECT);
            count(Counter::DirectOut);
        }
        return SIGNED;
    }
    count(Counter::DirectOut);
    if walk.inner.is_fragment() {
        return FRAGMENT;
    }
    send::direct(skb, walk, cfg, eth)
}

/// The same for a flow that is not established, or a packet that is not plain.
#[inline(never)]
fn known_slowly(skb: Skb, walk: &mut Walk, cfg: &Cfg) -> Step {
    let Some(flow) = tables::find(&walk.key, &walk.now) else { return REQUEST };
    let Some(ep) = tables::endpoint(walk.ep_id) else { return drop(Drop::NoPort) };
    let (eth, mark) = (walk.signed.eth, watch::mark(walk));
    known(skb, walk, cfg, ep, flow, &eth, mark)
}

/// No established flow, or one of outdated rules: the source is checked in full, then the policy;
/// then the way is asked for.
#[inline(never)]
fn unknown(skb: Skb, walk: &mut Walk, cfg: &Cfg) -> Step {
    let ep_id = walk.ep_id;
    let Some(ep) = tables::endpoint(ep_id) else { return drop(Drop::NoPort) };
    let owner = tables::owner(ep.vni, walk.inner.src);
    if ep.flags & ep_flag::ANY_SOURCE == 0 {
        match owner {
            Some(owner) if owner.ep_id == ep_id && owner.flags & (addr_flag::OWN | addr_flag::PAIR) != 0 => {}
            _ => return drop(Drop::Spoof),
        }
    } else if matches!(owner, Some(owner) if owner.ep_id != ep_id && owner.flags & addr_flag::OWN != 0) {
        // Flows are kept by address: it would take over those of its neighbour.
        return drop(Drop::Spoof);
    }
    if let Some(flow) = tables::find(&walk.key, &walk.now)
        && flow.ep_id == ep_id
        && (walk.inner.icmp_error || !flow::reopens(flow, walk.inner.opens()))
    {
        if flow.state == State::Denied as u8 {
            log::departs(flow, skb, walk);
            return drop(Drop::FlowDenied);
        }
        match policy::renew(walk, flow, ep, cfg.number, policy::SENT) {
            policy::GOES_ON => {}
            policy::ASKS => return REQUEST,
            policy::OVERDUE => return overdue(skb, walk),
            _ => return drop(Drop::Policy),
        }
        return if flow::knows_peer(flow) { KNOWN } else { REQUEST };
    }
    if walk.inner.icmp_error {
        return drop(Drop::IcmpNoFlow);
    }
    if !tokens::for_flow(ep_id) {
        return drop(Drop::FlowRate);
    }
    // Before they are read: what older rules allow must not bear the stamp of later ones.
    walk.stamp = tables::in_force(ep).remembered();
    walk.opening = policy::opening(walk, ep, policy::UNKNOWN);
    if walk.opening == policy::NO {
        log::refused(&walk.key, ep_id, Drop::Policy as u32, skb.len().saturating_sub(ETH_LEN as u32), walk.now.ms);
        return drop(Drop::Policy);
    }
    REQUEST
}

/// Nobody confirmed the flow under the rules in force: the agent asks at once.
#[inline(never)]
pub fn overdue(skb: Skb, walk: &Walk) -> Step {
    event::flow(skb, walk, EventKind::Unconfirmed as u32, Drop::PolicyUnconfirmed as u32);
    drop(Drop::PolicyUnconfirmed)
}

/// An option about the packet in `walk.inner`, sent by `ep`.
#[inline(always)]
pub fn body(walk: &mut Walk, cfg: &Cfg, ep: &Ep, kind: Kind, cookie: u32, flags: u8) {
    let tuple = &walk.inner.tuple;
    let (sport, dport) = (tuple.sport, tuple.dport);
    let body = &mut walk.signed.body;
    *body = Body::default();
    body.set_kind(kind);
    body.set_flags(flags);
    body.set_hops(HOPS);
    body.set_origin(cfg.host);
    body.set_origin_vni(ep.vni);
    body.set_cookie(cookie);
    body.set_sport(sport);
    body.set_dport(dport);
    body.set_identity(identity_of(ep.set));
    body.set_generation(ep.generation);
}

/// Flags of a flow that somebody has opened.
const OPENED: u8 = flow_flag::I_INIT | flow_flag::R_INIT;
/// Flags of the request of one that nobody has.
const UNOPENED: u8 = flag::REPLY_ONLY | flag::NO_EGRESS;

/// The request of `walk.flow`, for the packet in `walk.inner`.
#[inline(always)]
pub fn request_body(walk: &mut Walk, cfg: &Cfg, ep: &Ep) {
    let (flow, mut flags) = (walk.flow, watch::mark(walk));
    if flow.flags & flow_flag::ROUTED != 0 {
        flags |= flag::ROUTED;
    }
    if flow.flags & flow_flag::NEED_ID != 0 {
        flags |= flag::NEED_ID;
    }
    if flow.flags & (OPENED | flow_flag::NEED_ID) == 0 {
        flags |= UNOPENED;
    }
    if walk.inner.opens() {
        flags |= flag::OPENS;
    }
    body(walk, cfg, ep, Kind::Req, flow.cookie, flags);
    let port = walk.inner.judged_port();
    walk.signed.body.set_epoch(port as u32);
    walk.signed.body.set_reason(flow.tries);
}

/// Asks for the path: the flow becomes or stays NEW_OUT, and the packet goes to transit.
#[inline(never)]
fn request(skb: Skb, walk: &mut Walk, cfg: &Cfg) -> Step {
    let ep_id = walk.ep_id;
    let Some(ep) = tables::endpoint(ep_id) else { return drop(Drop::NoPort) };
    let Some(route) = tables::route(ep.vni, walk.inner.dst) else { return icmp(reply::NET, Drop::NoRoute) };
    let routed = !matches!(tables::route(ep.vni, walk.inner.src), Some(own) if own.subnet == route.subnet);
    if routed {
        if walk.inner.ttl <= 1 {
            return icmp(reply::TTL, Drop::TtlExceeded);
        }
        if !send::lower_ttl(skb, ETH_LEN, &mut walk.inner) {
            return drop(Drop::Helper);
        }
    }
    match tables::find(&walk.key, &walk.now) {
        Some(old) if old.ep_id == ep_id && old.state == State::NewOut as u8 => {
            walk.flow = *old;
            let flow = &mut walk.flow;
            flow::try_again(flow, &walk.now);
            flow.last_seen = walk.now.s;
            flow.flags = flow.flags & !flow_flag::ROUTED | if routed { flow_flag::ROUTED } else { 0 };
        }
        // 0 stands for a packet that shows no cookie.
        _ => {
            let flags = walk.opening as u8 | if routed { flow_flag::ROUTED } else { 0 };
            walk.flow = flow::request(ep_id, tables::random() | 1, flags, walk.stamp, &walk.now);
            log::opened(&walk.key, &mut walk.flow, &walk.now);
        }
    }
    walk.hash = path::hash(&walk.inner);
    let Some(shard) = shard_on(&Maps { tick: walk.tick }, route, walk.inner.dst, walk.hash >> 15) else {
        return drop(Drop::NoTransit);
    };
    let Some((host, address)) =
        choose(&Maps { tick: walk.tick }, &shard, path::sender_replica(walk.hash, walk.flow.tries), 0)
    else {
        return drop(Drop::NoTransit);
    };
    // While a flow waits, the field names the host that owes the answer.
    walk.flow.peer_vni = u32::from_ne_bytes(address);
    log::departs_as_kept(skb, walk);
    if !tables::keep(&walk.key, &walk.flow) {
        return drop(Drop::Helper);
    }
    request_body(walk, cfg, ep);
    walk.to = address;
    walk.to_vni = ep.vni;
    if host == cfg.number {
        return INLINE;
    }
    tables::owes_answer(&walk.to, &walk.now);
    count(Counter::RequestOut);
    SIGNED
}

/// Transit on the sender's own host: a frame to oneself would not come back from the switch.
#[inline(never)]
fn inline(walk: &mut Walk, cfg: &Cfg) -> Step {
    walk.traced |= watch::INLINE;
    if walk.signed.body.flags() & flag::NEED_ID != 0 {
        let step = identify_here(walk);
        if step != INLINE {
            return step;
        }
    }
    walk.seen.source_port = path::source_port(walk.hash);
    walk.seen.vni = walk.to_vni;
    let error = decide::decide(walk, cfg);
    if error != 0 {
        return drop_number(error);
    }
    count(Counter::TransitInline);
    walk.to = walk.decision.host;
    walk.to_vni = walk.decision.vni;
    match walk.decision.action {
        Action::Admit => {
            count(Counter::Bounced);
            transit::admit(walk);
            return if walk.to == cfg.host { NEIGHBOURS } else { SIGNED };
        }
        // It was told what this host knows, and the entry is gone since.
        Action::Identify => return drop(Drop::Unreachable),
        // Its next packet asks again.
        Action::Unready => return drop(Drop::PolicyUnconfirmed),
        Action::Divide => count(Counter::Divided),
        Action::Sibling => {
            count(Counter::Sibling);
            let flags = walk.signed.body.flags() | flag::SIBLING;
            walk.signed.body.set_flags(flags);
        }
        Action::Deny(why) => {
            walk.signed.body.set_reason(why);
            transit::refused(walk, walk.inner.total_len as u32 + ETH_LEN as u32);
            return REFUSED;
        }
    }
    tables::owes_answer(&walk.to, &walk.now);
    SIGNED
}

/// Egress policy wants the destination's identity, and this host may be the one that knows it.
#[inline(never)]
fn identify_here(walk: &mut Walk) -> Step {
    let maps = Maps { tick: walk.tick };
    let vni = match tables::route(walk.to_vni, walk.inner.dst) {
        Some(route) if route.out_vni != 0 => route.out_vni,
        _ => walk.to_vni,
    };
    let Some(bounce) = maps.bounce(&VniAddress::new(vni, mapped(walk.inner.dst))) else { return INLINE };
    let Some(ep) = tables::endpoint(walk.ep_id) else { return drop(Drop::NoPort) };
    if !identified(walk, ep, identity_of(bounce.set)) {
        walk.signed.body.set_reason(code::POLICY);
        return REFUSED;
    }
    if !tables::keep(&walk.key, &walk.flow) {
        return drop(Drop::Helper);
    }
    let flags = walk.signed.body.flags() & !flag::NEED_ID;
    let reply = if walk.flow.flags & OPENED == 0 { UNOPENED } else { 0 };
    walk.signed.body.set_flags(flags | reply);
    INLINE
}

/// The destination of `walk.flow` has this identity: does egress policy allow it, or has the other side
/// opened the flow?
#[inline(always)]
pub fn identified(walk: &mut Walk, ep: &Ep, identity: u32) -> bool {
    const ASKED: u8 = flow_flag::I_INIT | flow_flag::NEED_ID;
    let stamp = tables::in_force(ep).remembered();
    let opening = policy::opening(walk, ep, identity);
    let stateless = tables::in_force(ep).is_stateless();
    let flow = &mut walk.flow;
    let opening = match opening {
        policy::NO if stateless || flow.flags & flow_flag::R_INIT == 0 => return false,
        policy::NO => 0,
        opening => opening as u8,
    };
    flow.flags = flow.flags & !ASKED | opening;
    flow.out_epoch = stamp;
    flow.peer_identity = identity;
    true
}

/// The request of `walk.ep_id` was refused, as `walk.signed.body` says; the packet has no outer
/// headers.
#[inline(never)]
pub fn refuse(skb: Skb, walk: &mut Walk) -> Step {
    let unreachable = walk.signed.body.reason() == code::UNREACHABLE;
    // Who does not know the endpoint's groups yet does not say no for a second.
    let new = matches!(tables::endpoint(walk.ep_id), Some(ep) if tables::in_force(ep).is_new_set(&walk.now));
    let reason = if unreachable { Drop::Unreachable } else { Drop::Policy };
    if let Some(flow) = tables::find(&walk.key, &walk.now) {
        let (logged, identity, doubtful) = (log::is_logged(flow), flow.peer_identity, new && !unreachable);
        if !doubtful {
            tables::deny(&walk.key, flow, &walk.now);
        }
        if logged && (unreachable || doubtful) {
            log::denied(&walk.key, identity, if doubtful { revoked::DOUBTFUL as u32 } else { 0 }, reason as u32);
        }
    }
    event::flow(skb, walk, EventKind::Denied as u32, reason as u32);
    if unreachable { icmp(reply::HOST, reason) } else { drop(reason) }
}
