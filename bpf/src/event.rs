//! What the agent must hear of.

use mizar_abi::{
    maps::{EVENT_FRAME, Event},
    reason::{Counter, Drop},
};

use crate::{
    maps::EVENTS,
    skb::Skb,
    tokens,
    walk::{Step, Walk, count, drop},
};

/// Hands the endpoint's frame to the agent, its first bytes: that is how it ends here.
#[inline(never)]
pub fn frame(skb: Skb, walk: &Walk, kind: u32) -> Step {
    let told = raise(skb, walk, kind, 0, (skb.len()).min(EVENT_FRAME as u32));
    drop(if told != 0 { Drop::ToAgent } else { Drop::EventLost })
}

/// Raises an event about `walk.ep_id` and `walk.key`. A port that causes too many loses them, and
/// so does a full ring: every event is about something that will be tried again.
#[inline(never)]
pub fn flow(skb: Skb, walk: &Walk, kind: u32, reason: u32) -> u32 {
    raise(skb, walk, kind, reason, 0)
}

#[inline(always)]
fn raise(skb: Skb, walk: &Walk, kind: u32, reason: u32, len: u32) -> u32 {
    if !tokens::for_event(walk.ep_id, kind) {
        count(Counter::EventLost);
        return 0;
    }
    let Some(mut entry) = EVENTS.reserve::<Event>(0) else {
        count(Counter::EventLost);
        return 0;
    };
    let event = entry.as_mut_ptr();
    // SAFETY: reserved for us; every field but the unused end of `frame` is written.
    unsafe {
        (*event).kind = kind;
        (*event).ep_id = walk.ep_id;
        (*event).reason = reason;
        (*event).flow = walk.key;
        (*event).len = 0;
        if len > 0 && len <= EVENT_FRAME as u32 && skb.read_into(0, (&raw mut (*event).frame).cast(), len) {
            (*event).len = len;
        }
    }
    entry.submit(0);
    1
}
