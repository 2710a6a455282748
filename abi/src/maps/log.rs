//! What the flow log counts (docs/adr/0014-the-flow-log.md).

use super::FlowKey;

/// Value of FLOW_COUNT, LRU by [`FlowKey`]: what passed of a flow that is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(C)]
pub struct FlowCount {
    /// Packets that the local endpoint sent; one that is segmented later counts as its segments. Of a flow
    /// that was refused, those that were refused.
    pub packets_out: u64,
    /// Bytes of them, as IP packets.
    pub bytes_out: u64,
    /// Packets that it got.
    pub packets_in: u64,
    /// Bytes of them.
    pub bytes_in: u64,
    /// Nanoseconds since boot, by the coarse clock, of the first one; never 0.
    pub started_ns: u64,
    /// Milliseconds since boot, wrapping, of the last one.
    pub last_ms: u32,
    /// The local endpoint; on a bouncer that refused the flow, the port elsewhere for which it did.
    pub ep_id: u32,
    /// Once it is refused: the set of groups that the other side had shown.
    pub peer_identity: u32,
    /// [`crate::reason::Drop`] for which the flow was refused; 0 = it was not.
    pub refused: u8,
    /// 1: the first packet was one for the local endpoint, else one of it.
    pub inbound: u8,
    /// Of one that was refused: [`revoked`], or 0.
    pub revoked: u8,
    /// Reserved, 0.
    pub pad: u8,
}

/// Record of the ring buffer FLOW_LOG: a flow that is logged from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(C)]
pub struct LogStart {
    /// What FLOW_COUNT begins with.
    pub count: FlowCount,
    /// What it had of an earlier flow of the same key, which has ended; zeros: nothing.
    pub former: FlowCount,
    /// The flow.
    pub key: FlowKey,
}

/// Values of [`FlowCount::revoked`].
pub mod revoked {
    /// It was refused after it had been allowed.
    pub const ALLOWED: u8 = 1;
    /// It was refused by somebody who may not have heard of the port's groups yet.
    pub const DOUBTFUL: u8 = 2;
}
