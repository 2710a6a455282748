//! States of a flow (DATAPLANE, "States"): how long each lasts, and what a packet changes.
//!
//! Tables are looked up elsewhere; here is what may be asked of one entry. Timeouts are lazy:
//! an entry past its time counts as absent, and the agent sweeps.

use crate::ipv4::{proto, tcp};
use mizar_abi::maps::{ANYBODY, Flow, State, flow_flag, tcp_seen};

/// A moment since boot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Now {
    /// Seconds.
    pub s: u32,
    /// Milliseconds, wrapping.
    pub ms: u32,
}

impl Now {
    /// From nanoseconds since boot.
    #[inline(always)]
    pub const fn from_ns(ns: u64) -> Self {
        let ms = ns / 1_000_000;
        // Exact for 2^32 ms * 1000 and beyond: a second division of a long costs more.
        Self { s: (ms / 1000) as u32, ms: ms as u32 }
    }
}

/// Milliseconds after which a request without an answer goes to the other replica.
pub const RETRY_MS: u32 = 100;
/// Milliseconds that a denial lasts.
pub const DENIED_MS: u32 = 1_000;
/// Milliseconds during which a path learned from a lower generation is not taken.
const GENERATION_MS: u32 = 10_000;

const NEW_OUT: u8 = State::NewOut as u8;
const NEW_IN: u8 = State::NewIn as u8;
const EST: u8 = State::Est as u8;
const CLOSING: u8 = State::Closing as u8;
const DENIED: u8 = State::Denied as u8;

/// Has nobody said yet, by rules that are in force, that the other side may have opened the flow?
#[inline(always)]
pub const fn is_unconfirmed(flow: &Flow) -> bool {
    flow.flags & flow_flag::R_INIT != 0 && flow.in_epoch == 0
}

/// Does egress policy wait for the destination's identity? Until it is known, nothing of the other side
/// makes the flow one that goes on: that alone would let the local endpoint send what it may not.
#[inline(always)]
pub const fn is_unidentified(flow: &Flow) -> bool {
    flow.flags & flow_flag::NEED_ID != 0
}

/// When a state of waiting that begins now began. Of a flow that waits for a verdict: when that wait began,
/// which is given so much time and no more, whatever the flow does meanwhile.
#[inline(always)]
const fn begins(flow: &Flow, now: &Now) -> u32 {
    if is_unconfirmed(flow) || is_unidentified(flow) { flow.since_ms } else { now.ms }
}

/// A request, or one that came back, is sent again: to the other replica once the first had its
/// time. By time alone, so that packets on the way together keep their order (where the time of waiting
/// for a verdict runs, by turns).
#[inline(always)]
pub fn try_again(flow: &mut Flow, now: &Now) {
    if now.ms.wrapping_sub(flow.since_ms) > RETRY_MS {
        flow.tries = flow.tries.wrapping_add(1);
        flow.since_ms = begins(flow, now);
    }
}

/// Seconds that an entry lives without a packet.
#[inline(always)]
pub const fn timeout(flow: &Flow, number: u8) -> u32 {
    match flow.state {
        EST => match number {
            proto::TCP => 7_440, // RFC 5382: at least 2 h 4 min
            proto::ICMP => 30,
            _ => 180,
        },
        CLOSING => {
            if flow.tcp & tcp_seen::RST != 0 {
                10
            } else {
                60
            }
        }
        NEW_IN => 30,
        NEW_OUT => {
            if number == proto::TCP {
                60
            } else {
                10
            }
        }
        _ => 1,
    }
}

/// Does the entry still count?
#[inline(always)]
pub const fn is_live(flow: &Flow, number: u8, now: &Now) -> bool {
    if flow.state == DENIED {
        return now.ms.wrapping_sub(flow.since_ms) < DENIED_MS;
    }
    let age = now.s.wrapping_sub(flow.last_seen);
    // Another CPU may have written a moment later than `now` was read.
    age <= timeout(flow, number) || age > u32::MAX - 2
}

/// Is the state kept in FLOW_EST? The others are in FLOW_NEW.
#[inline(always)]
pub const fn is_established(flow: &Flow) -> bool {
    flow.state == EST || flow.state == CLOSING
}

/// May packets go straight to `peer_host`?
#[inline(always)]
pub const fn knows_peer(flow: &Flow) -> bool {
    matches!(flow.state, NEW_IN | EST | CLOSING)
}

/// Must a reply carry an acknowledgement: the other side asked, and no direct packet of it was
/// seen since?
#[inline(always)]
pub const fn owes_ack(flow: &Flow) -> bool {
    flow.flags & flow_flag::OWES_ACK != 0
        || flow.flags & (flow_flag::R_INIT | flow_flag::CONFIRMED) == flow_flag::R_INIT
}

/// A packet of the flow passed. Writes only what changes, so that the cache line stays shared.
#[inline(always)]
pub fn touch(flow: &mut Flow, tcp_flags: u8, outgoing: bool, now: &Now) {
    if tcp_flags & (tcp::FIN | tcp::RST) != 0 {
        if tcp_flags & tcp::RST != 0 {
            flow.tcp |= tcp_seen::RST;
        } else {
            flow.tcp |= if outgoing { tcp_seen::FIN_OUT } else { tcp_seen::FIN_IN };
        }
        let both = tcp_seen::FIN_OUT | tcp_seen::FIN_IN;
        if flow.state == EST && (flow.tcp & tcp_seen::RST != 0 || flow.tcp & both == both) {
            flow.state = CLOSING;
        }
    }
    if flow.last_seen != now.s {
        flow.last_seen = now.s;
    }
}

/// Is what an admission makes of the entry another flow than the one that it held?
#[inline(always)]
pub const fn begins_anew(flow: &Flow, opens: bool) -> bool {
    !matches!(flow.state, NEW_OUT | NEW_IN | EST | CLOSING) || reopens(flow, opens)
}

/// Does this packet begin a new connection on the key of one that was closed?
#[inline(always)]
pub const fn reopens(flow: &Flow, opens: bool) -> bool {
    flow.state == CLOSING && opens
}

/// The local endpoint asks: a new entry, or an old one whose path is unknown. It opens the flow if
/// `flags` say so; with NEED_ID nobody knows yet whether it may; else its packet can only be a reply.
/// `stamp`: the egress policy that allowed it.
#[inline(always)]
pub fn request(ep_id: u32, cookie: u32, flags: u8, stamp: u32, now: &Now) -> Flow {
    Flow {
        state: NEW_OUT,
        flags,
        out_epoch: if flags & flow_flag::I_INIT != 0 { stamp } else { 0 },
        cookie,
        ep_id,
        last_seen: now.s,
        since_ms: now.ms,
        ..Flow::default()
    }
}

/// Back from a known path to asking: what is known of the flow itself stays. So does the former
/// peer: packets of it are still on their way, returned ones and others.
#[inline(always)]
pub fn ask_again(flow: &mut Flow, now: &Now) {
    flow.state = NEW_OUT;
    flow.peer_ep = 0;
    flow.tries = 0;
    flow.since_ms = begins(flow, now);
    flow.last_seen = now.s;
}

/// What an admission or an acknowledgement says of the other side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// Underlay address.
    pub host: [u8; 4],
    /// VNI of its network.
    pub vni: u32,
    /// Its set of groups.
    pub identity: u32,
    /// Generation of its binding.
    pub generation: u32,
    /// Its port, if it is on this host.
    pub ep: u32,
}

/// The other side shows this identity. What was said of it by another, unless that was nobody's, is to be said
/// again: who is in groups may do whatever somebody may who is in none.
#[inline(always)]
const fn show(flow: &mut Flow, identity: u32) {
    if flow.peer_identity != identity && flow.peer_identity != ANYBODY {
        flow.out_epoch = 0;
        flow.in_epoch = 0;
    }
    flow.peer_identity = identity;
}

/// The other side shows this identity, without a word of the way to it. True if the bouncers are to be asked
/// about the flow.
#[inline(always)]
pub const fn shows(flow: &mut Flow, identity: u32, now: &Now) -> bool {
    let since_ms = begins(flow, now);
    show(flow, identity);
    if is_unconfirmed(flow) {
        flow.since_ms = since_ms;
        return true;
    }
    false
}

/// An older binding than the one known, seen so soon after that it is a straggler. Later, the
/// number belongs to another port of the same address and says nothing.
#[inline(always)]
const fn is_straggler(flow: &Flow, peer: &Peer, now: &Now) -> bool {
    knows_peer(flow)
        && flow.generation.wrapping_sub(peer.generation).wrapping_sub(1) < u32::MAX / 2
        && now.ms.wrapping_sub(flow.since_ms) < GENERATION_MS
}

/// The peer's host says in which groups the other side is, of a flow that both sides opened at once: then each
/// has the other's cookie, so that this one is not known here. True as for [`shows`].
#[inline(always)]
pub const fn introduced(flow: &mut Flow, peer: &Peer, now: &Now) -> bool {
    // Who waits for the identity is told it by a bouncer.
    !is_straggler(flow, peer, now) && !is_unidentified(flow) && shows(flow, peer.identity, now)
}

#[inline(always)]
fn learn(flow: &mut Flow, peer: &Peer, since_ms: u32, now: &Now) {
    flow.peer_host = peer.host;
    flow.peer_vni = peer.vni;
    flow.peer_ep = peer.ep;
    flow.generation = peer.generation;
    flow.since_ms = since_ms;
    flow.last_seen = now.s;
    flow.tries = 0;
}

/// An admission, beside the peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Admission {
    /// The local endpoint.
    pub ep_id: u32,
    /// The sender's cookie.
    pub cookie: u32,
    /// [`crate::policy::stamp`] of the verdict; 0 if it is of outdated rules.
    pub stamp: u32,
    /// Between subnets.
    pub routed: bool,
    /// [`crate::ipv4::Inner::opens`]
    pub opens: bool,
    /// Policy lets it open nothing.
    pub reply_only: bool,
    /// [`mizar_abi::option::flag::NO_EGRESS`]
    pub no_egress: bool,
    /// [`crate::policy::InForce::is_stateless`]: an answer needs a rule.
    pub stateless: bool,
}

/// A packet came by a bouncer: may it be delivered? `flow` is the entry there was, or `Flow::default()`.
#[inline(always)]
pub fn enters(flow: &mut Flow, admission: &Admission, peer: &Peer, now: &Now) -> bool {
    if !admission.reply_only {
        admitted(flow, admission, peer, now);
        return true;
    }
    !admission.stateless && replied(flow, admission, peer, now)
        || admission.stamp == 0 && doubted(flow, admission, peer, now)
}

/// Rules that are not in force any more deny what the other side sends. If it had opened the flow, that is
/// no reason to end it, but one to ask; else false. What was said of it by the rules in force holds as long as it
/// is who it was.
#[inline(always)]
fn doubted(flow: &mut Flow, admission: &Admission, peer: &Peer, now: &Now) -> bool {
    if flow.flags & flow_flag::R_INIT == 0 || !matches!(flow.state, NEW_OUT | NEW_IN | EST | CLOSING) {
        return false;
    }
    let stamp = if flow.peer_identity == peer.identity { flow.in_epoch } else { 0 };
    admitted(flow, &Admission { stamp, ..*admission }, peer, now);
    true
}

/// A request of the other side was admitted. Afterwards it is NEW_IN, or EST if this side had asked or known the other before.
#[inline(always)]
fn admitted(flow: &mut Flow, admission: &Admission, peer: &Peer, now: &Now) {
    if begins_anew(flow, admission.opens) {
        *flow = Flow { state: NEW_IN, ..Flow::default() };
    } else if is_straggler(flow, peer, now) {
        return;
    }
    let since_ms = begins(flow, now);
    if flow.state == NEW_OUT {
        flow.state = EST;
    }
    if is_unidentified(flow) {
        // Who opened it is the other side, until egress policy has said that both did.
        flow.flags &= !(flow_flag::I_INIT | flow_flag::NEED_ID);
    }
    flow.flags = (flow.flags & !(flow_flag::CONFIRMED | flow_flag::ROUTED | flow_flag::OWES_ACK))
        | flow_flag::R_INIT
        | if admission.routed { flow_flag::ROUTED } else { 0 };
    flow.ep_id = admission.ep_id;
    flow.cookie = admission.cookie;
    show(flow, peer.identity);
    flow.in_epoch = admission.stamp;
    learn(flow, peer, since_ms, now);
}

/// Can a packet of the other side be a reply to the local endpoint? Who may send nothing but replies must
/// have been reached before: to have asked is not enough, for the other side never let this one in, and
/// two who agree would have a way past egress policy.
#[inline(always)]
const fn waits_for_reply(flow: &Flow, no_egress: bool) -> bool {
    flow.flags & flow_flag::I_INIT != 0
        && match flow.state {
            EST | CLOSING => true,
            NEW_OUT => !no_egress || flow.flags & flow_flag::CONFIRMED != 0,
            _ => false,
        }
}

/// A packet of the other side came that policy does not let open a flow. False unless it belongs to
/// one that the local endpoint opened; then the way to the sender is learned from it.
#[inline(always)]
fn replied(flow: &mut Flow, admission: &Admission, peer: &Peer, now: &Now) -> bool {
    if !waits_for_reply(flow, admission.no_egress) {
        return false;
    }
    if is_straggler(flow, peer, now) || is_unidentified(flow) {
        return true;
    }
    let since_ms = begins(flow, now);
    if flow.state == NEW_OUT {
        flow.state = EST;
    }
    flow.flags = (flow.flags & !(flow_flag::CONFIRMED | flow_flag::ROUTED))
        | flow_flag::OWES_ACK
        | if admission.routed { flow_flag::ROUTED } else { 0 };
    flow.cookie = admission.cookie;
    show(flow, peer.identity);
    learn(flow, peer, since_ms, now);
    true
}

/// Is an ICMP error of the other side, which came by a bouncer, about what the local endpoint sends? Either
/// side may have opened the flow; policy does not judge errors. Nothing is learned of one.
#[inline(always)]
pub const fn is_concerned(flow: &Flow, no_egress: bool) -> bool {
    waits_for_reply(flow, no_egress)
        || flow.flags & flow_flag::R_INIT != 0 && matches!(flow.state, NEW_OUT | NEW_IN | EST | CLOSING)
}

/// Was the last packet of the other side taken as a reply?
#[inline(always)]
pub const fn was_reply(flow: &Flow) -> bool {
    flow.flags & flow_flag::OWES_ACK != 0
}

/// The other side's host acknowledges: from now on direct. False if the cookie is not the flow's.
///
/// `as_reply`: it let the packet through as a reply alone, so it was the other side that opened the
/// flow, though this host has forgotten. Whether it still may, nobody has said yet.
#[inline(always)]
pub fn acknowledged(flow: &mut Flow, cookie: u32, peer: &Peer, as_reply: bool, now: &Now) -> bool {
    if flow.cookie != cookie || !matches!(flow.state, NEW_OUT | EST | CLOSING) {
        return false;
    }
    if is_unidentified(flow) {
        return flow.flags & (flow_flag::I_INIT | flow_flag::R_INIT) != 0;
    }
    if is_straggler(flow, peer, now) {
        return true;
    }
    let since_ms = begins(flow, now);
    if flow.state == NEW_OUT {
        flow.state = EST;
    }
    show(flow, peer.identity);
    if as_reply && flow.flags & flow_flag::R_INIT == 0 {
        flow.flags = flow.flags & !flow_flag::I_INIT | flow_flag::R_INIT | flow_flag::CONFIRMED;
        flow.in_epoch = 0;
    }
    learn(flow, peer, since_ms, now);
    true
}

/// A direct packet of the known peer came.
#[inline(always)]
pub const fn confirm(flow: &mut Flow) {
    if flow.state == NEW_IN {
        flow.state = EST;
    }
    if flow.flags & (flow_flag::CONFIRMED | flow_flag::OWES_ACK) != flow_flag::CONFIRMED {
        flow.flags = flow.flags & !flow_flag::OWES_ACK | flow_flag::CONFIRMED;
    }
}

/// One side may not open the flow any more: `init` is its flag. The flow goes on if the other side
/// opened it too; else false, and it is to be denied.
#[inline(always)]
pub const fn closes(flow: &mut Flow, init: u8) -> bool {
    let other = (flow_flag::I_INIT | flow_flag::R_INIT) & !init;
    if flow.flags & other == 0 {
        return false;
    }
    // Whether the local side may has been answered, then.
    flow.flags &= !if init == flow_flag::I_INIT { init | flow_flag::NEED_ID } else { init };
    true
}

/// The flow was refused.
#[inline(always)]
pub const fn denied(flow: &mut Flow, now: &Now) {
    flow.state = DENIED;
    flow.since_ms = now.ms;
}

#[cfg(test)]
#[path = "flow_tests.rs"]
mod tests;
