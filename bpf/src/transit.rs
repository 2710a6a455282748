//! Transit in tcx: requests from the underlay, rewritten in place.

use mizar_abi::{
    mapped,
    maps::{Cfg, RouteKind, VniAddress},
    option::{Kind, flag},
    reason::{Counter, Drop},
};
use mizar_packet::{
    option::Body,
    transit::{Action, Tables, shard_on},
};

use crate::{
    decide,
    maps::MOVED,
    tables::{self, Maps},
    uplink::{BACK, IN_PLACE, PARSE},
    walk::{Step, Walk, count, drop, drop_number},
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
            body.set_kind(Kind::Admitted);
            body.set_ep_id(walk.decision.ep_id);
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
        }
    }
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
