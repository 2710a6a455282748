//! A flow as the host of its endpoint knows it.

use crate::Address;

/// Key of FLOW_EST and FLOW_NEW: a flow as its local endpoint sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(C)]
pub struct FlowKey {
    /// VNI in the upper 24 bits, IP protocol in the lower 8.
    pub vni_proto: u32,
    /// The local endpoint's address.
    pub local: Address,
    /// The other side's.
    pub remote: Address,
    /// Local port, host order. ICMP questions: the asking side's port is the id, the
    /// answering side's id + 1 to 5 by the kind of question, so that neither direction's key is ever
    /// the other's, nor that of another kind. Other ICMP messages: type and code, and 0x4000 more.
    pub lport: u16,
    /// Remote port.
    pub rport: u16,
}

/// State of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// Requested by the local endpoint, not answered yet.
    NewOut = 1,
    /// Admitted from the other side, no direct packet seen yet.
    NewIn = 2,
    /// Direct both ways.
    Est = 3,
    /// FIN both ways or RST seen.
    Closing = 4,
    /// Refused; kept for a second.
    Denied = 5,
}

/// Flags of [`Flow`].
pub mod flow_flag {
    /// Opened by the local endpoint. Where its groups are stateless: egress rules let its packets out.
    pub const I_INIT: u8 = 1;
    /// Opened by the other side. Where the endpoint's groups are stateless: ingress rules let the other side's in.
    pub const R_INIT: u8 = 2;
    /// A direct packet was seen.
    pub const CONFIRMED: u8 = 4;
    /// Rewritten (services, gateways).
    pub const NAT: u8 = 8;
    /// Its packets are counted in FLOW_COUNT, for the flow log.
    pub const LOGGED: u8 = 16;
    /// Between subnets: every packet loses one TTL.
    pub const ROUTED: u8 = 32;
    /// Egress policy depends on the destination's groups, which are not known yet. Without I_INIT nothing
    /// may be sent but the question; with it the flow was opened under other rules.
    pub const NEED_ID: u8 = 64;
    /// The peer's host asked for a reply and does not know the way: the next packet tells it.
    pub const OWES_ACK: u8 = 128;
}

/// Bits of [`Flow::tcp`].
pub mod tcp_seen {
    /// FIN sent by the local endpoint.
    pub const FIN_OUT: u8 = 1;
    /// FIN received.
    pub const FIN_IN: u8 = 2;
    /// RST either way.
    pub const RST: u8 = 4;
}

/// Value of FLOW_EST and FLOW_NEW.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Flow {
    /// [`State`].
    pub state: u8,
    /// [`flow_flag`].
    pub flags: u8,
    /// [`tcp_seen`].
    pub tcp: u8,
    /// Requests sent so far; which replica is asked follows from it.
    pub tries: u8,
    /// Underlay address of the peer's host; 0 = unknown.
    pub peer_host: [u8; 4],
    /// VNI of the peer's network. While a flow is NEW_OUT: underlay address of the transit host
    /// that was asked last, its four bytes in the order they stand in memory.
    pub peer_vni: u32,
    /// Random; binds control packets to this entry.
    pub cookie: u32,
    /// Set of groups of the peer.
    pub peer_identity: u32,
    /// The ingress policy under which the flow was admitted: a mix of the set's number and its
    /// generation, so that a port that gets another set is as one whose rules changed.
    pub in_epoch: u32,
    /// The same of egress policy.
    pub out_epoch: u32,
    /// Seconds since boot (`bpf_ktime_get_ns`), rewritten when more than 1 s old.
    pub last_seen: u32,
    /// Milliseconds since boot, wrapping: when the current state of waiting began.
    pub since_ms: u32,
    /// The local endpoint.
    pub ep_id: u32,
    /// The peer, if it is on this host; else 0.
    pub peer_ep: u32,
    /// Generation of the peer's binding.
    pub generation: u32,
}
