//! Flows whose verdict is not of the rules in force: what a change of rules costs is paid here, off
//! the fast path, once a flow (`mizar_packet::policy` says what is judged).
//!
//! Egress policy is this host's own, so it is asked again in place. Ingress policy is the bouncers':
//! if this host is one, in place too; else the agent asks one, and the flow goes on meanwhile.
//!
//! Where the groups of an endpoint are stateless, each packet needs what rules say of its own direction: one that is
//! sent egress rules, asked here, one that is got an ingress verdict, without which the other side asks the
//! bouncers. An ICMP error goes with the packets that it is about, which go the other way.

use mizar_abi::{
    mapped,
    maps::{ANYBODY, Ep, Flow, FlowKey, State, UNFILTERED, VniAddress, flow_flag},
};
use mizar_packet::{
    flow,
    ipv4::{Inner, proto},
    policy::{self, Question},
    transit::Tables,
};

use crate::{
    maps::BOUNCE,
    tables::{self, Maps},
    walk::Walk,
};

/// The flow goes on.
pub const GOES_ON: u32 = 0;
/// It does, but the way of what the endpoint sends is to be asked for again: it shows another identity now,
/// or that of the other side counts.
pub const ASKS: u32 = 1;
/// Nobody has confirmed it in time.
pub const OVERDUE: u32 = 2;
/// It is denied from now on; where groups are stateless, its packets of this direction are, and those of the other
/// go on.
pub const DENIED: u32 = 3;
/// The groups are stateless, and nobody was asked yet whether the other side's packets may come in.
pub const UNASKED: u32 = 4;

/// A packet of the local endpoint, flow `walk.key`.
pub const SENT: u32 = 0;
/// One for the local endpoint, flow `walk.key`.
pub const RECEIVED: u32 = 1;
/// One between two endpoints here: the receiver's flow `walk.peer_key`.
pub const NEXT_DOOR: u32 = 2;

/// Not allowed, in [`opening`].
pub const NO: u32 = u32::MAX;

/// Brings a flow of `ep` up to date with its policy.
#[inline(never)]
pub fn renew(walk: &mut Walk, flow: &mut Flow, ep: &Ep, me: u32, how: u32) -> u32 {
    let force = tables::in_force(ep);
    let mut directions = flow.flags & (flow_flag::I_INIT | flow_flag::R_INIT);
    if force.is_stateless() {
        let outward = (how == SENT) != walk.inner.icmp_error;
        directions = if outward { flow_flag::I_INIT } else { flow_flag::R_INIT };
    } else if force.covers(flow) {
        return GOES_ON;
    }
    if directions & flow_flag::I_INIT != 0 && !(flow.flags & flow_flag::I_INIT != 0 && flow.out_epoch == force.stamp) {
        let step = renew_egress(walk, flow, ep, how);
        if step != GOES_ON {
            return step;
        }
    }
    if directions & flow_flag::R_INIT != 0 && !(flow.flags & flow_flag::R_INIT != 0 && flow.in_epoch == force.stamp) {
        return renew_ingress(walk, flow, ep, me, how);
    }
    GOES_ON
}

#[inline(always)]
fn renew_ingress(walk: &mut Walk, flow: &mut Flow, ep: &Ep, me: u32, how: u32) -> u32 {
    let force = tables::in_force(ep);
    let key = if how == NEXT_DOOR { &walk.peer_key } else { &walk.key };
    match if force.is_known() { judge_here(key, flow, ep, me) } else { 0 } {
        YES => {
            flow.flags |= flow_flag::R_INIT;
            flow.in_epoch = force.remembered();
        }
        NO if force.is_complete() => {
            if !flow::closes(flow, flow_flag::R_INIT) {
                tables::deny(key, flow, &walk.now);
                return DENIED;
            }
            if force.is_stateless() {
                return DENIED;
            }
        }
        _ if flow.flags & flow_flag::R_INIT == 0 => return UNASKED,
        _ if force.tolerates(flow, &walk.now) => {}
        _ => return OVERDUE,
    }
    GOES_ON
}

#[inline(never)]
fn renew_egress(walk: &mut Walk, flow: &mut Flow, ep: &Ep, how: u32) -> u32 {
    let force = tables::in_force(ep);
    let key = if how == NEXT_DOOR { &walk.peer_key } else { &walk.key };
    let asks = flow.state == State::NewOut as u8;
    if ep.set == UNFILTERED || maps(walk).allows(&policy::sent(key, ep.set, flow.peer_identity)) {
        flow.flags |= flow_flag::I_INIT;
        if !asks && flow.out_epoch != 0 && force.is_other_set(flow.out_epoch) {
            if how != SENT || force.settles(&walk.now) {
                // Its own next packet asks, or one a little later. It alone: a flow that asks has no peer to
                // whom the agent could tell of the new groups, and would never be judged while it is silent.
                return GOES_ON;
            }
            return ask_again(walk, flow, 0, force.remembered());
        }
        flow.flags &= !flow_flag::NEED_ID;
        if force.is_known() {
            flow.out_epoch = force.stamp;
        }
        return GOES_ON;
    }
    if force.spares(flow, &walk.now) {
        return GOES_ON;
    }
    // Who was let in by stateless groups has shown his identity: it is judged as it is.
    let shown = force.is_stateless() && flow.flags & flow_flag::R_INIT != 0;
    if force.needs_identity() && !shown {
        // The identity that is known of the other side may be outdated, or none. Until it has come, the
        // flow bears no stamp: whatever becomes of it meanwhile is looked at again.
        let waits = asks && flow.flags & flow_flag::NEED_ID != 0;
        if how == SENT {
            return if waits { GOES_ON } else { ask_again(walk, flow, flow_flag::NEED_ID, 0) };
        }
        if force.waits(flow, &walk.now) {
            return GOES_ON;
        }
        if waits {
            return OVERDUE;
        }
    }
    if flow::closes(flow, flow_flag::I_INIT) {
        return if force.is_stateless() { DENIED } else { GOES_ON };
    }
    tables::deny(key, flow, &walk.now);
    DENIED
}

/// Only for flows of `walk.key`.
#[inline(always)]
fn ask_again(walk: &mut Walk, flow: &mut Flow, flags: u8, stamp: u32) -> u32 {
    walk.flow = *flow;
    flow::ask_again(&mut walk.flow, &walk.now);
    walk.flow.flags |= flags;
    walk.flow.out_epoch = stamp;
    tables::keep(&walk.key, &walk.flow);
    ASKS
}

#[inline(always)]
fn maps(walk: &Walk) -> Maps {
    Maps { tick: walk.tick }
}

const YES: u32 = 1;

/// What this host says as a bouncer of a flow that the other side opened; 0 if it is none.
#[inline(always)]
fn judge_here(key: &FlowKey, flow: &Flow, ep: &Ep, me: u32) -> u32 {
    if ep.set == UNFILTERED {
        return YES;
    }
    // SAFETY: see `tables::endpoint`.
    let Some(bounce) = (unsafe { BOUNCE.get(&VniAddress::new(key.vni_proto >> 8, key.local)) }) else { return 0 };
    if bounce.host != me || bounce.ep_id != flow.ep_id || bounce.set != ep.set {
        return 0;
    }
    if (Maps { tick: 0 }).allows(&policy::received(key, ep.set, flow.peer_identity)) { YES } else { NO }
}

/// Can the packet be a reply? Of TCP and of ICMP it is known which ones open a conversation.
#[inline(always)]
pub fn may_reply(inner: &Inner) -> bool {
    (inner.proto == proto::TCP || inner.proto == proto::ICMP) && !inner.opens()
}

/// Egress policy about `walk.inner`, for which there is no flow: flags of the flow that it begins, or
/// [`NO`].
#[inline(never)]
pub fn opening(walk: &Walk, ep: &Ep, identity: u32) -> u32 {
    let inner = &walk.inner;
    if ep.set == UNFILTERED {
        return flow_flag::I_INIT as u32;
    }
    let question = Question {
        policy: mizar_abi::maps::egress(ep.set),
        identity: if identity == UNKNOWN { ANYBODY } else { identity },
        remote: mapped(inner.dst),
        proto: inner.proto,
        port: inner.judged_port(),
    };
    if maps(walk).allows(&question) {
        return flow_flag::I_INIT as u32;
    }
    let force = tables::in_force(ep);
    if identity == UNKNOWN && force.needs_identity() {
        return flow_flag::NEED_ID as u32;
    }
    // A reply whose flow this host forgot: the other side's host may remember.
    if may_reply(inner) && !force.is_stateless() { 0 } else { NO }
}

/// No identity at all: [`opening`] then says whether it is needed. No set has this number, but a class
/// of addresses may: nothing is looked up under it.
pub const UNKNOWN: u32 = UNFILTERED;
