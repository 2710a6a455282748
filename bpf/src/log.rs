//! The flow log (docs/adr/0014): which flows are in it, and what passed of them.
//!
//! It is decided when a flow's entry is made; the entry bears the decision. A packet of a flow that is not logged
//! costs a look at flags that are at hand; one that is costs a look-up of its counts.

use aya_ebpf::helpers::bpf_ktime_get_coarse_ns;
use mizar_abi::{
    maps::{Flow, FlowCount, FlowKey, LogStart, State, flow_flag, revoked},
    reason::{Counter, Drop},
};
use mizar_packet::{ETH_LEN, flow::Now, log};

use crate::{
    maps::{FLOW_COUNT, FLOW_LOG},
    skb::Skb,
    tables::setting,
    tokens,
    walk::{Walk, count},
};

/// One flow in so many is logged; 0: none.
#[unsafe(no_mangle)]
static FLOW_LOG_SAMPLE: u32 = 0;
/// Flows of one port, one direction and one verdict that are logged in a second, in the long run.
#[unsafe(no_mangle)]
static FLOW_LOG_RATE: u32 = 50;
/// Such flows at once.
#[unsafe(no_mangle)]
static FLOW_LOG_BURST: u32 = 500;

/// A packet of the local endpoint.
const OUT: u32 = 0;
/// One for it.
const IN: u32 = 1;

/// The flow leaves the log.
const LEAVES: u32 = 1;

/// Is it?
#[inline(always)]
pub const fn is_logged(flow: &Flow) -> bool {
    flow.flags & flow_flag::LOGGED != 0
}

/// The local endpoint has just opened the flow: is it logged?
#[inline(never)]
pub fn opened(key: &FlowKey, flow: &mut Flow, now: &Now) -> u32 {
    begun(key, flow, now.ms, OUT)
}

/// The same of one that the other side opened.
#[inline(never)]
pub fn entered(key: &FlowKey, flow: &mut Flow, now: &Now) -> u32 {
    begun(key, flow, now.ms, IN)
}

#[inline(always)]
fn begun(key: &FlowKey, flow: &mut Flow, ms: u32, inbound: u32) -> u32 {
    if setting(&FLOW_LOG_SAMPLE) != 0 && begin(key, flow.ep_id, ms, inbound) != 0 {
        flow.flags |= flow_flag::LOGGED;
    }
    0
}

/// Begins to count, and tells the agent so; 0: not of this flow. The lower byte of `how` says whether it is inbound, the
/// next one the reason for which it is refused.
#[inline(never)]
fn begin(key: &FlowKey, ep_id: u32, ms: u32, how: u32) -> u32 {
    if !log::is_chosen(key, setting(&FLOW_LOG_SAMPLE)) {
        return 0;
    }
    // Each has tokens of its own: who is refused, or lets many in, takes nothing from the rest of the port's log.
    let kind = (how & 1) | ((how > 0xff) as u32) << 1;
    if !tokens::for_log(ep_id, kind, setting(&FLOW_LOG_RATE), setting(&FLOW_LOG_BURST)) {
        count(Counter::FlowLogLost);
        return 0;
    }
    let Some(mut entry) = FLOW_LOG.reserve::<LogStart>(0) else {
        count(Counter::FlowLogLost);
        return 0;
    };
    let start = entry.as_mut_ptr();
    // SAFETY: reserved for us, and every field is written; values are replaced, not freed, while a program runs (RCU).
    let kept = unsafe {
        (*start).key = *key;
        (*start).former = match FLOW_COUNT.get(key) {
            Some(former) => *former,
            None => FlowCount::default(),
        };
        (*start).count = FlowCount {
            started_ns: bpf_ktime_get_coarse_ns(),
            last_ms: ms,
            ep_id,
            refused: (how >> 8) as u8,
            inbound: how as u8,
            ..FlowCount::default()
        };
        // From where it stands: the stack is short.
        FLOW_COUNT.insert(key, &(*start).count, 0).is_ok()
    };
    if !kept {
        entry.discard(0);
        count(Counter::FlowLogLost);
        return 0;
    }
    entry.submit(0);
    1
}

/// Adds a packet. Two processors that carry one direction of a flow at once may miss one.
#[inline(always)]
fn add(counted: &mut FlowCount, (packets, bytes): (u64, u64), ms: u32, inbound: u32) {
    if inbound == IN {
        counted.packets_in += packets;
        counted.bytes_in += bytes;
    } else {
        counted.packets_out += packets;
        counted.bytes_out += bytes;
    }
    counted.last_ms = ms;
}

/// Counts the packet of `walk.inner`, which has so many bytes of outer headers, for a flow that is logged; [`LEAVES`]: it
/// cannot be counted any more.
#[inline(always)]
fn tally(skb: Skb, walk: &Walk, flow: &Flow, key: &FlowKey, outer: u32, inbound: u32) -> u32 {
    let counted = match FLOW_COUNT.get_ptr_mut(key) {
        Some(counted) => counted,
        None => {
            // Too many flows: its counts made place for others, and begin again. Not those of one that is over.
            let over = flow.state == State::Closing as u8 || flow.state == State::Denied as u8;
            if over || begin(key, flow.ep_id, walk.now.ms, inbound) == 0 {
                return LEAVES;
            }
            let Some(counted) = FLOW_COUNT.get_ptr_mut(key) else { return 0 };
            counted
        }
    };
    let bytes = skb.len().saturating_sub(outer + ETH_LEN as u32);
    let headers = walk.inner.header_len as u32 + walk.inner.l4_len as u32;
    // SAFETY: as in `begin`; writers on two CPUs write single fields.
    add(unsafe { &mut *counted }, log::counted(bytes, headers, skb.gso_size()), walk.now.ms, inbound);
    0
}

#[inline(never)]
fn sent(skb: Skb, walk: &Walk, flow: &Flow) -> u32 {
    tally(skb, walk, flow, &walk.key, 0, OUT)
}

#[inline(never)]
fn received(skb: Skb, walk: &Walk, flow: &Flow) -> u32 {
    tally(skb, walk, flow, &walk.key, walk.outer, IN)
}

#[inline(never)]
fn received_here(skb: Skb, walk: &Walk, flow: &Flow) -> u32 {
    tally(skb, walk, flow, &walk.peer_key, 0, IN)
}

/// A packet of the local endpoint, of this flow of `walk.key`.
#[inline(always)]
pub fn departs(flow: &mut Flow, skb: Skb, walk: &Walk) {
    if is_logged(flow) && sent(skb, walk, flow) == LEAVES {
        flow.flags &= !flow_flag::LOGGED;
    }
}

/// The same of `walk.flow`, which is about to be kept.
#[inline(always)]
pub fn departs_as_kept(skb: Skb, walk: &mut Walk) {
    if is_logged(&walk.flow) && sent(skb, walk, &walk.flow) == LEAVES {
        walk.flow.flags &= !flow_flag::LOGGED;
    }
}

/// One for it is about to be delivered, with outer headers yet.
#[inline(always)]
pub fn arrives(flow: &mut Flow, skb: Skb, walk: &Walk) {
    if is_logged(flow) && received(skb, walk, flow) == LEAVES {
        flow.flags &= !flow_flag::LOGGED;
    }
}

/// The same of `walk.flow`, which is about to be kept.
#[inline(always)]
pub fn arrives_as_kept(skb: Skb, walk: &mut Walk) {
    if is_logged(&walk.flow) && received(skb, walk, &walk.flow) == LEAVES {
        walk.flow.flags &= !flow_flag::LOGGED;
    }
}

/// One from a neighbour on this host, of this flow of `walk.peer_key`.
#[inline(always)]
pub fn arrives_here(flow: &mut Flow, skb: Skb, walk: &Walk) {
    if is_logged(flow) && received_here(skb, walk, flow) == LEAVES {
        flow.flags &= !flow_flag::LOGGED;
    }
}

/// The same of `walk.peer_flow`, which is about to be kept.
#[inline(always)]
pub fn arrives_here_as_kept(skb: Skb, walk: &mut Walk) {
    if is_logged(&walk.peer_flow) && received_here(skb, walk, &walk.peer_flow) == LEAVES {
        walk.peer_flow.flags &= !flow_flag::LOGGED;
    }
}

/// The flow, which is logged, is refused from now on. One that the other side opened had been let in before, whatever
/// becomes of answers: it was allowed, and who refuses it in doubt ends nothing.
#[inline(never)]
pub fn denied(key: &FlowKey, peer_identity: u32, revoked: u32, reason: u32) -> u32 {
    if let Some(counted) = FLOW_COUNT.get_ptr_mut(key) {
        // SAFETY: as in `tally`.
        let counted = unsafe { &mut *counted };
        let admitted = counted.inbound == IN as u8 && counted.refused == 0;
        if admitted && revoked == revoked::DOUBTFUL as u32 {
            return 0;
        }
        counted.peer_identity = peer_identity;
        counted.refused = reason as u8;
        if counted.revoked != revoked::ALLOWED {
            counted.revoked = if admitted { revoked::ALLOWED } else { revoked as u8 };
        }
    }
    0
}

/// A packet without a flow, of so many bytes, is refused by the rules for what the port of `ep_id` gets (for
/// [`Drop::Refused`]) or sends.
#[inline(never)]
pub fn refused(key: &FlowKey, ep_id: u32, reason: u32, bytes: u32, ms: u32) -> u32 {
    if setting(&FLOW_LOG_SAMPLE) == 0 {
        return 0;
    }
    let inbound = if reason == Drop::Refused as u32 { IN } else { OUT };
    if !is_counted(key, inbound) && begin(key, ep_id, ms, reason << 8 | inbound) == 0 {
        return 0;
    }
    if let Some(counted) = FLOW_COUNT.get_ptr_mut(key) {
        // SAFETY: as in `tally`.
        let counted = unsafe { &mut *counted };
        if counted.refused != 0 {
            add(counted, (1, bytes as u64), ms, inbound);
        }
    }
    0
}

/// Are there counts already? Those of a flow that the port opened, and that was not refused, are over by now; not so
/// one of a port for which this host, as its bouncer, refuses another try.
#[inline(always)]
fn is_counted(key: &FlowKey, inbound: u32) -> bool {
    // SAFETY: as in `begin`.
    match unsafe { FLOW_COUNT.get(key) } {
        Some(counted) => inbound == IN || counted.refused != 0,
        None => false,
    }
}
