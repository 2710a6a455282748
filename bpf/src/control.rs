//! Packets for endpoints of this host that are not plainly direct: admissions, acknowledgements,
//! returns, denials; and direct packets whose flow is not established (DATAPLANE, sections 2, 4).

use mizar_abi::{
    mapped,
    maps::{Cfg, EventKind, Flow, FlowKey, State, VniAddress, addr_flag, ep_flag, flow_flag, identity_of},
    option::{HOPS, Kind, OPTION_LEN, code, flag},
    reason::{Counter, Drop},
};
use mizar_packet::{
    ETH_LEN, Packet,
    flow::{self, Admission, Now, Peer},
    geneve::OUTER_LEN,
    option::Body,
    policy::InForce,
    transit::Tables,
};

use crate::{
    event, log,
    maps::MOVED,
    policy,
    skb::{SHOT, Skb},
    tables::{self, Maps},
    tokens, transit,
    uplink::{ANSWER_IN_PLACE, BACK, DELIVER, DENIED, IN_PLACE, LET_IN, NOT_HERE, TURN},
    walk::{Step, Walk, count, drop, tally},
    watch,
};

/// Milliseconds between events about one flow that is never answered.
const NEED_ACK_MS: u32 = 10;

/// A direct packet without an established flow of its sender.
#[inline(never)]
pub fn not_established(skb: Skb, walk: &mut Walk, cfg: &Cfg) -> Step {
    walk.why = code::NO_FLOW as u32;
    if let Some(flow) = tables::find(&walk.key, &walk.now)
        && flow.peer_host == walk.seen.src
        && flow.peer_host != [0; 4]
        && flow.state != State::Denied as u8
        && let Some(ep) = tables::endpoint(flow.ep_id)
        && ep.vni == walk.seen.vni
    {
        walk.ep_id = flow.ep_id;
        match policy::renew(walk, flow, ep, cfg.number, policy::RECEIVED) {
            policy::GOES_ON => {}
            policy::UNASKED => return TURN,
            outcome => return outdated(skb, walk, flow.cookie, outcome),
        }
        flow::touch(flow, walk.inner.tcp_flags, false, &walk.now);
        log::arrives(flow, skb, walk);
        if flow.state == State::NewIn as u8 {
            walk.flow = *flow;
            flow::confirm(&mut walk.flow);
            if !tables::keep(&walk.key, &walk.flow) {
                return drop(Drop::Helper);
            }
        } else if flow::knows_peer(flow) {
            flow::confirm(flow);
        }
        count(Counter::DirectIn);
        return DELIVER;
    }
    if walk.inner.icmp_error { drop(Drop::IcmpNoFlow) } else { TURN }
}

/// A direct packet of a flow that is not allowed any more, or of which nobody said so in time.
#[inline(always)]
fn outdated(skb: Skb, walk: &mut Walk, cookie: u32, outcome: u32) -> Step {
    let denied = outcome == policy::DENIED;
    if walk.inner.icmp_error {
        return drop(if denied { Drop::Policy } else { Drop::PolicyUnconfirmed });
    }
    if denied {
        walk.why = code::POLICY as u32;
        walk.flow.cookie = cookie;
    } else {
        walk.why = code::EPOCH as u32;
        event::flow(skb, walk, EventKind::Unconfirmed as u32, Drop::PolicyUnconfirmed as u32);
    }
    TURN
}

/// Are an endpoint's groups stateless?
#[inline(always)]
fn is_stateless(ep_id: u32) -> bool {
    matches!(tables::endpoint(ep_id), Some(ep) if tables::in_force(ep).is_stateless())
}

/// Who sent the signed packet first.
#[inline(always)]
fn origin(body: &Body) -> Peer {
    Peer {
        host: body.origin(),
        vni: body.origin_vni(),
        identity: body.identity(),
        generation: body.generation(),
        ep: 0,
    }
}

/// What a bouncer says of the packet with this option, for an endpoint with this policy.
#[inline(always)]
pub fn admission(body: &Body, ep_id: u32, force: &InForce, opens: bool) -> Admission {
    let flags = body.flags();
    Admission {
        ep_id,
        cookie: body.cookie(),
        stamp: if force.counts(body.epoch(), body.reason()) { force.stamp } else { 0 },
        routed: flags & flag::ROUTED != 0,
        opens,
        reply_only: flags & flag::REPLY_ONLY != 0,
        no_egress: flags & flag::NO_EGRESS != 0,
        stateless: force.is_stateless(),
    }
}

/// The other side may send nothing more in a flow, if it ever might. What the endpoint sends goes on where its
/// groups are stateless.
#[inline(never)]
pub fn shut(key: &FlowKey, flow: &mut Flow, stateless: bool, now: &Now) -> bool {
    if flow.flags & flow_flag::R_INIT == 0 {
        return false;
    }
    if stateless && flow::closes(flow, flow_flag::R_INIT) {
        return tables::keep(key, flow);
    }
    tables::deny(key, flow, now)
}

/// RETURN of a direct packet, or DENIED: the same packet, room made for the option.
#[inline(never)]
pub fn turn_around(skb: Skb, walk: &mut Walk, cfg: &Cfg) -> Step {
    let vni = walk.seen.vni;
    let mut new_host = [0; 4];
    let mut why = walk.why as u8;
    let denied = why == code::POLICY;
    // SAFETY: see `tables::endpoint`.
    if let Some(moved) = unsafe { MOVED.get(&VniAddress::new(vni, mapped(walk.inner.dst))) }
        && moved.until > walk.now.s
        && !denied
    {
        why = code::MOVED;
        new_host = (Maps { tick: walk.tick }).address(moved.host).unwrap_or_default();
    }
    let options = walk.seen.options & 0xff;
    let Some(eth) = skb.words::<{ ETH_LEN / 2 }>(ETH_LEN + OUTER_LEN + options) else { return drop(Drop::BadGeneve) };
    if options != OPTION_LEN && !skb.resize(OPTION_LEN as i32 - options as i32) {
        return drop(Drop::Helper);
    }
    walk.signed.eth = eth;
    let (sport, dport) = (walk.inner.tuple.sport, walk.inner.tuple.dport);
    let cookie = if denied { walk.flow.cookie } else { 0 };
    let mark = watch::mark(walk);
    let body = &mut walk.signed.body;
    *body = Body::default();
    body.set_kind(if denied { Kind::Denied } else { Kind::Return });
    body.set_flags(mark);
    body.set_cookie(cookie);
    body.set_hops(HOPS - 1);
    body.set_origin(cfg.host);
    body.set_origin_vni(vni);
    body.set_reason(why);
    body.set_sport(sport);
    body.set_dport(dport);
    body.set_new_host(new_host);
    walk.to = walk.seen.src;
    walk.to_vni = vni;
    count(if denied { Counter::DeniedOut } else { Counter::ReturnOut });
    IN_PLACE
}

/// A signed packet goes back to its origin: RETURN or DENIED, as its body says by now.
#[inline(never)]
pub fn send_back(walk: &mut Walk, cfg: &Cfg) -> Step {
    let body = &mut walk.signed.body;
    let denied = body.kind_number() == Kind::Denied as u8;
    // A denial has arrived where it goes: who asks anew after it takes the hop.
    if !denied {
        let hops = body.hops();
        if hops == 0 {
            return drop(Drop::Loop);
        }
        body.set_hops(hops - 1);
    }
    walk.to = body.origin();
    walk.to_vni = body.origin_vni();
    body.set_origin(cfg.host);
    count(if denied { Counter::DeniedOut } else { Counter::ReturnOut });
    if walk.to == cfg.host {
        if denied && walk.ep_id != 0 {
            // Both endpoints are here, and this host's policy said no to a bouncer's maybe.
            walk.seen.vni = walk.to_vni;
            return DENIED;
        }
        // Only a forged origin, or one that moved since: there is nobody to tell.
        return drop(Drop::NoFlow);
    }
    IN_PLACE
}

/// ADMITTED: a bouncer sends a packet for an endpoint that should be here.
#[inline(never)]
pub fn admitted(skb: Skb, walk: &mut Walk, cfg: &Cfg) -> Step {
    count(Counter::AdmittedIn);
    let body = &walk.signed.body;
    let vni = walk.seen.vni;
    let ep_id = body.ep_id();
    let here = matches!(tables::owner(vni, walk.inner.dst),
        Some(owner) if owner.ep_id == ep_id && owner.flags & (addr_flag::OWN | addr_flag::PAIR) != 0);
    let Some(ep) = tables::endpoint(ep_id) else { return NOT_HERE };
    if !here || ep.vni != vni {
        return NOT_HERE;
    }
    walk.ep_id = ep_id;
    if ep.flags & ep_flag::DOWN != 0 {
        return drop(Drop::AdminDown);
    }
    if walk.inner.icmp_error {
        // Its sender's host asked for the way when the endpoint said this.
        let no_egress = body.flags() & flag::NO_EGRESS != 0;
        walk.key = walk.inner.tuple.received(vni);
        return match tables::find(&walk.key, &walk.now) {
            Some(flow) if flow.ep_id == ep_id && flow::is_concerned(flow, no_egress) => DELIVER,
            _ => drop(Drop::IcmpNoFlow),
        };
    }
    let mut peer = origin(body);
    let force = tables::in_force(ep);
    let current = force.counts(body.epoch(), body.reason());
    let admission = admission(body, ep_id, &force, walk.inner.opens());
    walk.key = walk.inner.tuple.received(vni);
    walk.flow = tables::find(&walk.key, &walk.now).map_or(Flow::default(), |f| *f);
    if !current && !force.is_young(&walk.now) {
        // Another bouncer knows better, or this one soon does.
        count(Counter::Outdated);
        walk.signed.body.set_kind(Kind::Return);
        walk.signed.body.set_reason(code::EPOCH);
        walk.signed.body.set_new_host([0; 4]);
        return BACK;
    }
    let local = peer.host == cfg.host;
    if local {
        peer.ep = tables::owner(peer.vni, walk.inner.src).map_or(0, |o| o.ep_id);
    }
    if walk.flow.state == 0 && !admission.reply_only && !tokens::for_entry(ep_id) {
        return drop(Drop::FlowRate);
    }
    let (owed, since) = (flow::owes_ack(&walk.flow), walk.flow.since_ms);
    let anew = flow::begins_anew(&walk.flow, admission.opens);
    if !flow::enters(&mut walk.flow, &admission, &peer, &walk.now) {
        let bytes = skb.len().saturating_sub(walk.outer);
        if !shut(&walk.key, &mut walk.flow, admission.stateless, &walk.now) {
            let packet = bytes.saturating_sub(ETH_LEN as u32);
            log::refused(&walk.key, ep_id, Drop::Refused as u32, packet, walk.now.ms);
        }
        tally(bytes, ep_id, vni, Drop::Refused as u32, Some(&walk.inner.tuple));
        walk.signed.body.set_kind(Kind::Denied);
        walk.signed.body.set_reason(code::POLICY);
        return BACK;
    }
    flow::touch(&mut walk.flow, walk.inner.tcp_flags, false, &walk.now);
    if anew && walk.flow.state == State::NewIn as u8 {
        log::entered(&walk.key, &mut walk.flow, &walk.now);
    }
    log::arrives_as_kept(skb, walk);
    if local {
        // Both ends are here: nothing needs to be acknowledged.
        walk.peer_key = walk.inner.tuple.sent(peer.vni);
        if let Some(theirs) = tables::find(&walk.peer_key, &walk.now) {
            walk.peer_flow = *theirs;
            let us = Peer { host: cfg.host, vni, identity: identity_of(ep.set), generation: ep.generation, ep: ep_id };
            let as_reply = flow::was_reply(&walk.flow) && !is_stateless(peer.ep);
            if theirs.ep_id == peer.ep
                && flow::acknowledged(&mut walk.peer_flow, admission.cookie, &us, as_reply, &walk.now)
            {
                tables::keep(&walk.peer_key, &walk.peer_flow);
                flow::confirm(&mut walk.flow);
            }
        }
    } else if owed && flow::owes_ack(&walk.flow) {
        // The endpoint receives and never answers: the agent acknowledges in its stead.
        if walk.now.ms.wrapping_sub(since) >= NEED_ACK_MS {
            event::flow(skb, walk, EventKind::NeedAck as u32, 0);
        } else {
            walk.flow.since_ms = since;
        }
    }
    if !tables::keep(&walk.key, &walk.flow) {
        return drop(Drop::Helper);
    }
    if !current || flow::is_unconfirmed(&walk.flow) {
        event::flow(skb, walk, EventKind::Unconfirmed as u32, 0);
    }
    DELIVER
}

/// ACK: the other side's host tells the way to it, on a packet of the flow.
#[inline(never)]
pub fn acknowledged(skb: Skb, walk: &mut Walk) -> Step {
    if walk.signed.body.reason() == code::DIRECT && !walk.seen.control {
        return watch::direct(walk);
    }
    let peer = origin(&walk.signed.body);
    let mut as_reply = walk.signed.body.flags() & flag::REPLY_ONLY != 0;
    let cookie = walk.signed.body.cookie();
    let vni = walk.seen.vni;
    walk.key = walk.inner.tuple.received(vni);
    if let Some(found) = tables::find(&walk.key, &walk.now)
        && found.state != State::Denied as u8
        && let Some(ep) = tables::endpoint(found.ep_id)
        && ep.vni == vni
    {
        walk.flow = *found;
        walk.ep_id = found.ep_id;
        // Nobody vouches for what stateless groups let in but their bouncers.
        let force = tables::in_force(ep);
        as_reply &= !force.is_stateless();
        let asked = walk.flow.peer_vni.to_ne_bytes();
        let waited = walk.flow.state == State::NewOut as u8;
        let learned = flow::acknowledged(&mut walk.flow, cookie, &peer, as_reply, &walk.now);
        // Both sides may have asked at once: then the cookie is another, and the peer known.
        let of_peer = walk.flow.peer_host == walk.seen.src && walk.flow.peer_host != [0; 4];
        let doubtful = if learned {
            flow::is_unconfirmed(&walk.flow)
        } else {
            // `origin` is signed, the outer source is not: both must say so.
            of_peer
                && walk.seen.control
                && peer.host == walk.flow.peer_host
                && flow::introduced(&mut walk.flow, &peer, &walk.now)
        };
        if doubtful {
            event::flow(skb, walk, EventKind::Unconfirmed as u32, 0);
        }
        if learned {
            count(Counter::AckIn);
            if waited && flow::knows_peer(&walk.flow) {
                tables::answered(&asked, &walk.now);
            }
        }
        if learned || of_peer {
            if flow::knows_peer(&walk.flow) {
                flow::confirm(&mut walk.flow);
            }
            flow::touch(&mut walk.flow, walk.inner.tcp_flags, false, &walk.now);
            // A client that is silent while its server pushes sends nothing that could be judged again: each push
            // bears an acknowledgement, for no direct packet of the client comes.
            let side = if walk.inner.icmp_error { flow_flag::I_INIT } else { flow_flag::R_INIT };
            let passes = force.passes(&walk.flow, side);
            // The agent's own carries nothing.
            if !walk.seen.control && passes {
                log::arrives_as_kept(skb, walk);
            }
            if !tables::keep(&walk.key, &walk.flow) {
                return drop(Drop::Helper);
            }
            if walk.seen.control {
                return SHOT;
            }
            return if passes { DELIVER } else { LET_IN };
        }
        walk.ep_id = 0;
    }
    if walk.seen.control {
        return drop(Drop::NoFlow);
    }
    // A flow that this side lost, or another of the same key: its sender asks again.
    if walk.inner.icmp_error {
        return drop(Drop::IcmpNoFlow);
    }
    walk.signed.body.set_kind(Kind::Return);
    walk.signed.body.set_reason(code::NO_FLOW);
    walk.signed.body.set_new_host([0; 4]);
    BACK
}

/// A packet told the way to the other side, in a flow whose verdict is not of the rules in force, or for an endpoint whose
/// groups are stateless: may it come in?
#[inline(never)]
pub fn let_in(skb: Skb, walk: &mut Walk, cfg: &Cfg) -> Step {
    let Some(flow) = tables::find(&walk.key, &walk.now) else { return drop(Drop::NoFlow) };
    let Some(ep) = tables::endpoint(walk.ep_id) else { return drop(Drop::NoEndpoint) };
    let outcome = policy::renew(walk, flow, ep, cfg.number, policy::RECEIVED);
    if outcome == policy::GOES_ON {
        log::arrives(flow, skb, walk);
        return DELIVER;
    }
    if walk.inner.icmp_error {
        return drop(if outcome == policy::OVERDUE { Drop::PolicyUnconfirmed } else { Drop::Policy });
    }
    let stateless = tables::in_force(ep).is_stateless();
    if outcome == policy::OVERDUE {
        event::flow(skb, walk, EventKind::Unconfirmed as u32, Drop::PolicyUnconfirmed as u32);
    }
    // What is let in by its own rule alone may come by a bouncer that allows it: its sender's host is to ask.
    let body = &mut walk.signed.body;
    let (kind, reason) = match outcome {
        policy::DENIED if !stateless => (Kind::Denied, code::POLICY),
        policy::OVERDUE => (Kind::Return, code::EPOCH),
        _ => (Kind::Return, code::NO_FLOW),
    };
    body.set_kind(kind);
    body.set_reason(reason);
    body.set_new_host([0; 4]);
    BACK
}

/// ANSWER: a bouncer says whether a flow that the other side opened is still allowed.
#[inline(never)]
pub fn answered(walk: &mut Walk, cfg: &Cfg) -> Step {
    let vni = walk.seen.vni;
    walk.key = walk.inner.tuple.received(vni);
    let Some(flow) = tables::find(&walk.key, &walk.now) else { return drop(Drop::NoFlow) };
    walk.ep_id = flow.ep_id;
    let body = &walk.signed.body;
    if flow.cookie != body.cookie() || flow.state == State::Denied as u8 {
        return drop(Drop::BadCookie);
    }
    let Some(ep) = tables::endpoint(flow.ep_id) else { return drop(Drop::NoEndpoint) };
    if ep.vni != vni || flow.flags & flow_flag::R_INIT == 0 {
        return drop(Drop::NoFlow);
    }
    count(Counter::AnswerIn);
    let force = tables::in_force(ep);
    if !force.doubts(flow) || body.identity() != flow.peer_identity {
        // It has its verdict, or was admitted anew since, perhaps of another identity.
        return SHOT;
    }
    if !force.counts(body.epoch(), body.reason()) || body.ep_id() != force.set {
        // The agent asks again, of the other one.
        count(Counter::Outdated);
        return SHOT;
    }
    if body.flags() & flag::REPLY_ONLY == 0 {
        flow.in_epoch = force.remembered();
        return SHOT;
    }
    if flow::closes(flow, flow_flag::R_INIT) {
        return SHOT;
    }
    let (peer_host, peer_vni) = (flow.peer_host, flow.peer_vni);
    tables::deny(&walk.key, flow, &walk.now);
    count(Counter::DeniedOut);
    if peer_host == cfg.host {
        walk.peer_key = walk.inner.tuple.sent(peer_vni);
        if let Some(theirs) = tables::find(&walk.peer_key, &walk.now) {
            tables::deny(&walk.peer_key, theirs, &walk.now);
        }
        return SHOT;
    }
    walk.signed.body.set_kind(Kind::Denied);
    walk.signed.body.set_flags(0);
    walk.signed.body.set_reason(code::POLICY);
    walk.signed.body.set_origin(cfg.host);
    walk.to = peer_host;
    walk.to_vni = peer_vni;
    ANSWER_IN_PLACE
}

/// Control packets without a frame: probes and their replies.
#[inline(never)]
pub fn without_frame(walk: &mut Walk, cfg: &Cfg) -> Step {
    match walk.signed.body.kind() {
        Some(Kind::Probe) => {
            count(Counter::Probe);
            transit::answer_probe(walk, cfg);
            IN_PLACE
        }
        Some(Kind::ProbeReply) => {
            count(Counter::ProbeReply);
            tables::answered(&walk.seen.src, &walk.now);
            SHOT
        }
        _ => drop(Drop::UnknownKind),
    }
}
