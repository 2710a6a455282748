//! Transit in tcx: requests from the underlay, rewritten in place.

use mizar_abi::{
    mapped,
    maps::{Cfg, RouteKind, VniAddress, identity_of},
    option::{Kind, code, flag, verdict_epoch, verdict_set},
    reason::{Counter, Drop},
};
use mizar_packet::{
    ETH_LEN,
    geneve::SIGNED_OUTER_LEN,
    ipv4::Tuple,
    option::Body,
    transit::{Action, Request, Standing, Tables, admits, shard_on, standing},
};

use crate::{
    decide, log,
    maps::MOVED,
    tables::{self, Maps},
    uplink::{ANSWER_IN_PLACE, BACK, IN_PLACE, PARSE},
    walk::{Step, Walk, count, drop, drop_number, tally},
};

/// REQ: to the endpoint's host, to a bouncer, to the other replica, or back.
#[inline(always)]
pub fn request(walk: &mut Walk, cfg: &Cfg) -> Step {
    let error = decide::decide(walk, cfg);
    if error != 0 {
        return drop_number(error);
    }
    count(Counter::TransitTcx);
    apply(walk);
    match walk.decision.action {
        Action::Admit => {
            if walk.to == cfg.host {
                walk.seen.vni = walk.to_vni;
                return PARSE;
            }
        }
        Action::Identify | Action::Unready => return BACK,
        Action::Deny(_) => {
            if walk.signed.body.origin() == cfg.host {
                walk.seen.vni = walk.signed.body.origin_vni();
                return PARSE;
            }
            return BACK;
        }
        Action::Divide | Action::Sibling => {
            tables::next_owes_answer(walk);
        }
    }
    IN_PLACE
}

/// Writes the decision into the option, and counts it.
#[inline(always)]
pub fn apply(walk: &mut Walk) {
    let body = &mut walk.signed.body;
    walk.to = walk.decision.host;
    walk.to_vni = walk.decision.vni;
    match walk.decision.action {
        Action::Admit => {
            count(Counter::Bounced);
            admit(walk);
        }
        Action::Identify => {
            count(Counter::Identified);
            body.set_kind(Kind::Return);
            body.set_reason(code::IDENTITY);
            body.set_identity(identity_of(walk.decision.set));
            body.set_new_host([0; 4]);
        }
        Action::Unready => {
            count(Counter::Outdated);
            body.set_kind(Kind::Return);
            body.set_reason(code::EPOCH);
            body.set_new_host([0; 4]);
        }
        Action::Divide => count(Counter::Divided),
        Action::Sibling => {
            count(Counter::Sibling);
            let flags = body.flags() | flag::SIBLING;
            body.set_flags(flags);
        }
        Action::Deny(why) => {
            body.set_kind(Kind::Denied);
            body.set_reason(why);
            refused(walk, (walk.seen.total_len as u32).saturating_sub(SIGNED_OUTER_LEN as u32));
        }
    }
}

/// Counts what the decision refused for the policy of an endpoint, for that endpoint: its sender's host
/// counts it too, for the sender.
#[inline(always)]
pub fn refused(walk: &mut Walk, bytes: u32) {
    if walk.decision.ep_id == 0 {
        return;
    }
    let (sport, dport) = (walk.signed.body.sport(), walk.signed.body.dport());
    let inner = &mut walk.inner;
    inner.tuple = Tuple { src: inner.src, dst: inner.dst, sport, dport, proto: inner.proto };
    let (ep_id, vni) = (walk.decision.ep_id, walk.decision.vni);
    tally(bytes, ep_id, vni, Drop::Refused as u32, Some(&walk.inner.tuple));
    walk.peer_key = walk.inner.tuple.received(vni);
    let packet = bytes.saturating_sub(ETH_LEN as u32);
    log::refused(&walk.peer_key, ep_id, Drop::Refused as u32, packet, walk.now.ms);
}

/// Writes an admission into the option: to whom, and the verdict.
#[inline(always)]
pub fn admit(walk: &mut Walk) {
    let (decision, body) = (&walk.decision, &mut walk.signed.body);
    body.set_kind(Kind::Admitted);
    body.set_ep_id(decision.ep_id);
    verdict(body, decision.set, decision.epoch, decision.reply_only);
}

/// Writes a verdict.
#[inline(always)]
fn verdict(body: &mut Body, set: u32, epoch: u32, reply_only: bool) {
    if reply_only {
        count(Counter::ReplyOnly);
        let flags = body.flags() | flag::REPLY_ONLY;
        body.set_flags(flags);
    }
    body.set_epoch(verdict_epoch(set, epoch));
    body.set_reason(verdict_set(set));
}

/// ASK: a host of an endpoint wants to know whether a flow of it is still allowed.
#[inline(never)]
pub fn asked(walk: &mut Walk, cfg: &Cfg) -> Step {
    let (vni, maps) = (walk.seen.vni, Maps { tick: walk.tick });
    let Some(bounce) = maps.bounce(&VniAddress::new(vni, mapped(walk.inner.dst))) else {
        // The host asks the other replica next.
        return drop(Drop::Unreachable);
    };
    let Some(Standing { n: epoch, complete }) = standing(&maps, bounce.set) else {
        return drop(Drop::PolicyUnconfirmed);
    };
    let body = &walk.signed.body;
    let request = Request {
        vni,
        src: walk.inner.src,
        dst: walk.inner.dst,
        proto: walk.inner.proto,
        port: body.epoch() as u16,
        identity: body.identity(),
        flags: 0,
        tries: 0,
        source_port: 0,
    };
    let allowed = admits(&maps, bounce.set, &request);
    if !allowed && !complete {
        // A rule that is missing here may allow it.
        return drop(Drop::PolicyUnconfirmed);
    }
    let body = &mut walk.signed.body;
    walk.to = body.origin();
    walk.to_vni = vni;
    body.set_kind(Kind::Answer);
    body.set_flags(if allowed { 0 } else { flag::REPLY_ONLY });
    body.set_origin(cfg.host);
    body.set_epoch(verdict_epoch(bounce.set, epoch));
    body.set_reason(verdict_set(bounce.set));
    body.set_ep_id(bounce.set);
    count(Counter::AskAnswered);
    ANSWER_IN_PLACE
}

/// ADMITTED for an endpoint that is not here: to where it moved, or once to the other replica.
#[inline(never)]
pub fn not_here(walk: &mut Walk, cfg: &Cfg) -> Step {
    let vni = walk.seen.vni;
    let hops = walk.signed.body.hops();
    if hops == 0 {
        return drop(Drop::Loop);
    }
    walk.signed.body.set_hops(hops - 1);
    walk.to_vni = vni;
    let key = VniAddress::new(vni, mapped(walk.inner.dst));
    // SAFETY: see `tables::endpoint`.
    if let Some(moved) = unsafe { MOVED.get(&key) }
        && moved.until > walk.now.s
        && let Some(host) = (Maps { tick: walk.tick }).address(moved.host)
        && host != cfg.host
    {
        walk.signed.body.set_ep_id(moved.ep_id);
        walk.to = host;
        count(Counter::MovedOn);
        return IN_PLACE;
    }
    let flags = walk.signed.body.flags();
    if flags & flag::SIBLING != 0 {
        return drop(Drop::NoEndpoint);
    }
    let Some(route) = tables::route(vni, walk.inner.dst) else { return drop(Drop::NoEndpoint) };
    if route.kind != RouteKind::Bouncers as u32 {
        return drop(Drop::NoEndpoint);
    }
    let Some(shard) = shard_on(&Maps { tick: walk.tick }, route, walk.inner.dst, 0) else {
        return drop(Drop::NoEndpoint);
    };
    let first = (Maps { tick: walk.tick }).address(shard.hosts[0]).unwrap_or_default();
    let second = (Maps { tick: walk.tick }).address(shard.hosts[1]).unwrap_or_default();
    // The replica that sent it here, or this host itself, knows no better.
    let sender = walk.seen.src;
    let useless = |host: [u8; 4]| host == [0; 4] || host == cfg.host || host == sender;
    let other = if useless(first) { second } else { first };
    if useless(other) {
        return drop(Drop::NoEndpoint);
    }
    walk.signed.body.set_kind(Kind::Req);
    walk.signed.body.set_flags(flags | flag::SIBLING);
    // A verdict stood in these places.
    walk.signed.body.set_reason(0);
    let port = walk.inner.judged_port();
    walk.signed.body.set_epoch(port as u32);
    walk.to = other;
    count(Counter::Sibling);
    IN_PLACE
}

/// Makes the answer to the probe in `walk.signed.body`.
#[inline(always)]
pub fn answer_probe(walk: &mut Walk, cfg: &Cfg) {
    let cookie = walk.signed.body.cookie();
    let body = &mut walk.signed.body;
    *body = Body::default();
    body.set_kind(Kind::ProbeReply);
    body.set_origin(cfg.host);
    body.set_cookie(cookie);
    walk.to = walk.seen.src;
    walk.to_vni = 0;
}
