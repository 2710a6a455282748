//! Two endpoints of this host: their packets go from one to the other, and both entries say so.

use mizar_abi::{
    maps::{Cfg, EventKind, Flow, State, flow_flag, identity_of},
    option::code,
    reason::{Counter, Drop},
};
use mizar_packet::{
    ETH_LEN,
    flow::{self, Peer},
};

use crate::{
    control,
    egress::{REFUSED, REQUEST},
    event, log, policy, reply, send,
    skb::Skb,
    tables, tokens,
    walk::{Step, Walk, count, drop, icmp, tally},
};

/// The peer is here, or was: its own entry must say so too.
#[inline(never)]
pub fn same_host(skb: Skb, walk: &mut Walk, cfg: &Cfg) -> Step {
    let Some(flow) = tables::find(&walk.key, &walk.now) else { return REQUEST };
    let peer_ep = flow.peer_ep;
    walk.peer_key = walk.inner.tuple.received(flow.peer_vni);
    if let Some(peer) = tables::endpoint(peer_ep)
        && peer.vni == flow.peer_vni
        && let Some(there) = tables::find(&walk.peer_key, &walk.now)
        && there.ep_id == peer_ep
        && flow::knows_peer(there)
    {
        let allowed = policy::renew(walk, there, peer, cfg.number, policy::NEXT_DOOR);
        if allowed == policy::DENIED {
            // Of stateless groups this direction is denied, not the flow.
            if !tables::in_force(peer).is_stateless() {
                tables::deny(&walk.key, flow, &walk.now);
            }
            return drop(Drop::Policy);
        }
        if allowed != policy::GOES_ON {
            return lost_neighbour(walk, flow);
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
        flow::touch(there, walk.inner.tcp_flags, false, &walk.now);
        log::departs(flow, skb, walk);
        log::arrives_here(there, skb, walk);
        let shown = identity_of(peer.set);
        if flow.peer_identity != shown
            && !tables::in_force(peer).settles(&walk.now)
            && flow::shows(flow, shown, &walk.now)
        {
            event::flow(skb, walk, EventKind::Unconfirmed as u32, 0);
        }
        count(Counter::Local);
        walk.ep_id = peer_ep;
        return send::deliver(skb, peer, 0);
    }
    lost_neighbour(walk, flow)
}

/// The peer's own entry says otherwise: a bouncer is asked again.
#[inline(always)]
fn lost_neighbour(walk: &mut Walk, flow: &Flow) -> Step {
    walk.flow = *flow;
    walk.flow.peer_host = [0; 4];
    flow::ask_again(&mut walk.flow, &walk.now);
    tables::keep(&walk.key, &walk.flow);
    REQUEST
}

/// Sender, bouncer and endpoint are one host: both entries are made at once.
#[inline(never)]
pub fn both(skb: Skb, walk: &mut Walk, cfg: &Cfg) -> Step {
    let ep_id = walk.ep_id;
    let (peer_id, peer_vni) = (walk.decision.ep_id, walk.to_vni);
    let Some(ep) = tables::endpoint(ep_id) else { return drop(Drop::NoPort) };
    let here = matches!(tables::owner(peer_vni, walk.inner.dst), Some(owner) if owner.ep_id == peer_id);
    let Some(peer) = tables::endpoint(peer_id) else {
        walk.signed.body.set_reason(code::UNREACHABLE);
        return REFUSED;
    };
    if !here || peer.vni != peer_vni {
        walk.signed.body.set_reason(code::UNREACHABLE);
        return REFUSED;
    }
    let force = tables::in_force(peer);
    let admission = control::admission(&walk.signed.body, peer_id, &force, walk.inner.opens());
    walk.peer_key = walk.inner.tuple.received(peer_vni);
    walk.peer_flow = tables::find(&walk.peer_key, &walk.now).map_or(Flow::default(), |f| *f);
    if walk.inner.icmp_error {
        if walk.peer_flow.ep_id != peer_id || !flow::is_concerned(&walk.peer_flow, admission.no_egress) {
            return drop(Drop::IcmpNoFlow);
        }
        count(Counter::Local);
        walk.ep_id = peer_id;
        return send::deliver(skb, peer, 0);
    }
    let us = Peer { host: cfg.host, vni: ep.vni, identity: identity_of(ep.set), generation: ep.generation, ep: ep_id };
    if walk.peer_flow.state == 0 && !admission.reply_only && !tokens::for_entry(peer_id) {
        walk.ep_id = peer_id;
        return drop(Drop::FlowRate);
    }
    let anew = flow::begins_anew(&walk.peer_flow, admission.opens);
    if !flow::enters(&mut walk.peer_flow, &admission, &us, &walk.now) {
        let bytes = skb.len().saturating_sub(ETH_LEN as u32);
        if !control::shut(&walk.peer_key, &mut walk.peer_flow, admission.stateless, &walk.now) {
            log::refused(&walk.peer_key, peer_id, Drop::Refused as u32, bytes, walk.now.ms);
        }
        tally(skb.len(), peer_id, peer_vni, Drop::Refused as u32, Some(&walk.inner.tuple));
        walk.signed.body.set_reason(code::POLICY);
        return REFUSED;
    }
    if anew && walk.peer_flow.state == State::NewIn as u8 {
        log::entered(&walk.peer_key, &mut walk.peer_flow, &walk.now);
    }
    log::arrives_here_as_kept(skb, walk);
    let as_reply = flow::was_reply(&walk.peer_flow) && !tables::in_force(ep).is_stateless();
    flow::confirm(&mut walk.peer_flow);
    flow::touch(&mut walk.peer_flow, walk.inner.tcp_flags, false, &walk.now);
    // `walk.flow` is the sender's entry, as `request` made it.
    let them = Peer {
        host: cfg.host,
        vni: peer_vni,
        identity: identity_of(peer.set),
        generation: peer.generation,
        ep: peer_id,
    };
    flow::acknowledged(&mut walk.flow, admission.cookie, &them, as_reply, &walk.now);
    flow::touch(&mut walk.flow, walk.inner.tcp_flags, true, &walk.now);
    if !tables::keep(&walk.peer_key, &walk.peer_flow) || !tables::keep(&walk.key, &walk.flow) {
        return drop(Drop::Helper);
    }
    count(Counter::Local);
    walk.ep_id = peer_id;
    send::deliver(skb, peer, 0)
}
