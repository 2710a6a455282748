//! Packets of endpoints of this host that come back: to be asked for again, or refused.

use mizar_abi::{
    ENCAP_OPTION_LEN,
    maps::{Cfg, Ep, EventKind, State, flow_flag},
    option::{code, flag},
    reason::{Counter, Drop},
};
use mizar_packet::{
    flow, path,
    transit::{choose, shard_on},
};

use crate::{
    egress, event,
    skb::{SHOT, Skb},
    tables::{self, Maps},
    tokens,
    uplink::{IN_PLACE, REFUSED, REQUEST},
    walk::{Step, Walk, count, drop},
};

const NEW_OUT: u8 = State::NewOut as u8;
const NEW_IN: u8 = State::NewIn as u8;

/// RETURN: a packet of an endpoint of this host comes back, to be asked for again.
#[inline(never)]
pub fn returned(walk: &mut Walk, cfg: &Cfg) -> Step {
    let vni = walk.seen.vni;
    let cookie = walk.signed.body.cookie();
    walk.key = walk.inner.tuple.sent(vni);
    let Some(found) = tables::find(&walk.key, &walk.now) else { return drop(Drop::NoFlow) };
    walk.flow = *found;
    walk.ep_id = found.ep_id;
    let flow = &mut walk.flow;
    // A direct packet shows no cookie, so neither does its return: it must come from the peer.
    // `origin` is signed, the outer source is not: both must say so.
    let origin = walk.signed.body.origin();
    let from_peer = flow.peer_host == walk.seen.src && flow.peer_host == origin && origin != [0; 4];
    let genuine = if cookie != 0 { flow.cookie == cookie } else { from_peer };
    if !genuine || flow.state == State::Denied as u8 {
        return drop(Drop::BadCookie);
    }
    let Some(ep) = tables::endpoint(flow.ep_id) else { return drop(Drop::NoEndpoint) };
    if ep.vni != vni {
        return drop(Drop::NoEndpoint);
    }
    let hops = walk.signed.body.hops();
    if hops == 0 {
        return drop(Drop::Loop);
    }
    // Whoever is admitted and whose answers are refused (stateless groups) would ask for each of them, for ever.
    if matches!(flow.state, NEW_OUT | NEW_IN) && !tokens::for_flow(flow.ep_id) {
        return drop(Drop::ReturnRate);
    }
    if flow.state == NEW_OUT {
        flow::try_again(flow, &walk.now);
    } else {
        flow::ask_again(flow, &walk.now);
    }
    count(Counter::ReturnIn);
    let reason = walk.signed.body.reason();
    if reason == code::EPOCH {
        // The replica that was asked is behind.
        walk.flow.tries = walk.flow.tries.wrapping_add(1);
    }
    if reason == code::IDENTITY && walk.flow.flags & flow_flag::NEED_ID != 0 {
        let identity = walk.signed.body.identity();
        if !egress::identified(walk, ep, identity) {
            tables::deny(&walk.key, &walk.flow, &walk.now);
            return drop(Drop::Policy);
        }
    }
    ask_again(walk, cfg, ep, hops, 0)
}

/// Asks for the way of `walk.flow` with a packet that came back, which has so many hops left and bears these
/// flags beside those of any request.
#[inline(never)]
fn ask_again(walk: &mut Walk, cfg: &Cfg, ep: &Ep, hops: u8, flags: u8) -> Step {
    let tries = walk.flow.tries;
    let Some(route) = tables::route(ep.vni, walk.inner.dst) else { return drop(Drop::NoRoute) };
    walk.hash = path::hash(&walk.inner);
    let Some(shard) = shard_on(&Maps { tick: walk.tick }, route, walk.inner.dst, walk.hash >> 15) else {
        return drop(Drop::NoTransit);
    };
    let Some((host, address)) = choose(&Maps { tick: walk.tick }, &shard, path::sender_replica(walk.hash, tries), 0)
    else {
        return drop(Drop::NoTransit);
    };
    walk.flow.peer_vni = u32::from_ne_bytes(address);
    if !tables::keep(&walk.key, &walk.flow) {
        return drop(Drop::Helper);
    }
    // Its TTL was lowered when it was sent first.
    egress::request_body(walk, cfg, ep);
    let flags = walk.signed.body.flags() | flags;
    walk.signed.body.set_flags(flags);
    walk.signed.body.set_hops(hops.saturating_sub(1));
    if host == cfg.number {
        return REQUEST;
    }
    walk.to = address;
    walk.to_vni = ep.vni;
    tables::owes_answer(&walk.to, &walk.now);
    count(Counter::RequestOut);
    IN_PLACE
}

/// DENIED: a packet of an endpoint of this host was refused.
#[inline(never)]
pub fn denied(skb: Skb, walk: &mut Walk, cfg: &Cfg) -> Step {
    count(Counter::DeniedIn);
    walk.key = walk.inner.tuple.sent(walk.seen.vni);
    let Some(flow) = tables::find(&walk.key, &walk.now) else { return drop(Drop::NoFlow) };
    walk.ep_id = flow.ep_id;
    let body = &walk.signed.body;
    let waits = flow.state == State::NewOut as u8;
    // A flow that has found its way is denied by policy alone, and by nobody but its peer's host.
    let origin = body.origin();
    let by_peer = body.reason() == code::POLICY && flow.peer_host == origin && flow.peer_host == walk.seen.src;
    if flow.cookie != body.cookie() || flow.state == State::Denied as u8 || !(waits || by_peer) {
        return drop(Drop::BadCookie);
    }
    if waits {
        let asked = flow.peer_vni.to_ne_bytes();
        tables::answered(&asked, &walk.now);
    }
    if walk.seen.control {
        // It is about a flow, and brings no packet back.
        tables::deny(&walk.key, flow, &walk.now);
        event::flow(skb, walk, EventKind::Denied as u32, Drop::Policy as u32);
        return SHOT;
    }
    let hops = body.hops();
    if waits
        && body.reason() == code::POLICY
        && hops != 0
        && body.flags() & flag::SIBLING == 0
        && let Some(ep) = tables::endpoint(flow.ep_id)
        && ep.vni == walk.seen.vni
        && tables::in_force(ep).is_new_set(&walk.now)
        && tokens::for_flow(flow.ep_id)
    {
        // Whoever refused it may not have heard yet in which groups the endpoint is now; the other replica may.
        walk.flow = *flow;
        walk.flow.tries = walk.flow.tries.wrapping_add(1);
        return match ask_again(walk, cfg, ep, hops, flag::SIBLING) {
            // This host is the other, and its packets ask it at once.
            REQUEST => drop(Drop::Policy),
            step => step,
        };
    }
    if !skb.resize(-(ENCAP_OPTION_LEN as i32)) {
        return drop(Drop::Helper);
    }
    REFUSED
}
