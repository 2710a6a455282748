//! The one Geneve option of first packets and control packets (DATAPLANE, "Option").
//!
//! Layout on the wire: 4 bytes of Geneve option header (class 0xFF01, type 0x81 or 0x02, length
//! in words) and a body, big-endian. Offsets below count from the start of the body.

use crate::hash::mixed;

/// Experimental option class (RFC 8926, section 3.5: 0xFF00 to 0xFFFF).
pub const CLASS: u16 = 0xff01;
/// The signed option; critical bit set.
pub const TYPE_SIGNED: u8 = 0x81;
/// Ports of a direct fragment; 8 bytes in all, unsigned.
pub const TYPE_FRAG: u8 = 0x02;
/// Bytes of the signed option's body.
pub const BODY_LEN: usize = 48;
/// Bytes of the signed option with its header.
pub const OPTION_LEN: usize = 4 + BODY_LEN;
/// Bytes of the fragment option with its header.
pub const FRAG_LEN: usize = 8;
/// Hops that a first packet may take: each bounce and each return takes one.
pub const HOPS: u8 = 6;
/// Seconds that a stamp may differ from the receiver's clock.
pub const STAMP_WINDOW: u32 = 5;

/// What a signed packet asks of its receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Sender to transit: find the endpoint and judge the packet.
    Req = 1,
    /// Transit to the endpoint's host: deliver, and learn the sender.
    Admitted = 2,
    /// Responder's host to the initiator's: send directly from now on.
    Ack = 3,
    /// Transit to the client's host: send to this backend instead (services; a later issue).
    Rewrite = 4,
    /// The packet comes back: ask again.
    Return = 5,
    /// The packet was refused; `reason` says why.
    Denied = 6,
    /// Responder's host to its bouncer: is this flow still allowed?
    Ask = 7,
    /// The answer to `Ask`: no, if it is REPLY_ONLY.
    Answer = 8,
    /// Are you alive? Sent by senders to a transit host that owes an answer.
    Probe = 10,
    /// I am.
    ProbeReply = 11,
}

impl Kind {
    /// Decodes the byte at offset 0; `None` for reserved numbers.
    #[inline(always)]
    pub const fn from_wire(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Req,
            2 => Self::Admitted,
            3 => Self::Ack,
            4 => Self::Rewrite,
            5 => Self::Return,
            6 => Self::Denied,
            7 => Self::Ask,
            8 => Self::Answer,
            10 => Self::Probe,
            11 => Self::ProbeReply,
            _ => return None,
        })
    }
}

/// Flags at offset 1.
pub mod flag {
    /// Deliver only if the receiver already holds the flow.
    pub const REPLY_ONLY: u8 = 1;
    /// The sender's egress policy needs the destination's identity.
    pub const NEED_ID: u8 = 2;
    /// A service's backend was chosen.
    pub const SVC_DONE: u8 = 4;
    /// Already tried at the other replica.
    pub const SIBLING: u8 = 8;
    /// The packet is followed: each host that it comes to says what it did with it. Only a packet with the signed
    /// option can bear it, so nobody without the key makes hosts say anything.
    pub const TRACED: u8 = 16;
    /// The packet was routed between subnets: one TTL less at delivery of every later packet.
    pub const ROUTED: u8 = 32;
    /// REQ: the packet certainly opens a conversation, so a denial is final.
    pub const OPENS: u8 = 64;
    /// With REPLY_ONLY, from the sender's host: its egress policy lets the endpoint open nothing with this
    /// packet, so the receiver's own question is no proof that it is a reply.
    pub const NO_EGRESS: u8 = 128;
}

/// Why a packet came back or was denied: the byte at offset 11.
pub mod code {
    /// No reason given.
    pub const NONE: u8 = 0;
    /// RETURN: the receiver holds no such flow.
    pub const NO_FLOW: u8 = 1;
    /// RETURN: the endpoint moved.
    pub const MOVED: u8 = 2;
    /// RETURN: the verdict is of an outdated policy.
    pub const EPOCH: u8 = 3;
    /// DENIED: no such endpoint.
    pub const UNREACHABLE: u8 = 4;
    /// DENIED: policy.
    pub const POLICY: u8 = 5;
    /// RETURN: the sender's egress policy wants to know the destination's identity, which is in it.
    pub const IDENTITY: u8 = 6;
    /// ACK: nothing is owed; the option is there for its mark ([`flag::TRACED`]), and the packet is as a direct one.
    pub const DIRECT: u8 = 7;
}

/// What stands at [`at::EPOCH`] of a verdict: 16 bits of the generation, and above them 16 that name the set,
/// for a bouncer may know an older set of the port than the port's host, or the other way round. Eight more
/// are [`verdict_set`]. Together they are a mix of the whole number: one of sixteen million others has
/// the same.
#[inline(always)]
pub const fn verdict_epoch(set: u32, n: u32) -> u32 {
    mixed(set) & !GENERATION | n & GENERATION
}

/// What stands at [`at::REASON`] of a verdict.
#[inline(always)]
pub const fn verdict_set(set: u32) -> u8 {
    (mixed(set) >> 8) as u8
}

/// The bits of a generation in [`verdict_epoch`].
pub const GENERATION: u32 = 0xffff;

/// Byte offsets in the body.
pub mod at {
    /// u8
    pub const KIND: usize = 0;
    /// u8
    pub const FLAGS: usize = 1;
    /// u8
    pub const HOPS: usize = 2;
    /// u8
    pub const KEY_ID: usize = 3;
    /// Underlay address of the host whose endpoint sent the first packet.
    pub const ORIGIN: usize = 4;
    /// u24
    pub const ORIGIN_VNI: usize = 8;
    /// u8: [`super::code`], ACK too; REQ: tries before; ADMITTED, ANSWER: [`super::verdict_set`].
    pub const REASON: usize = 11;
    /// u32
    pub const COOKIE: usize = 12;
    /// u16
    pub const SPORT: usize = 16;
    /// u16
    pub const DPORT: usize = 18;
    /// u32: number of the sender's set of groups; 0 = none. RETURN for [`super::code::IDENTITY`]: the destination's.
    pub const IDENTITY: usize = 20;
    /// u32: [`super::verdict_epoch`]. REQ, ASK: what policy judges as port.
    pub const EPOCH: usize = 24;
    /// ADMITTED, ACK: the port's `gen` (u32). RETURN: underlay address of the endpoint's new host, or 0.
    pub const HOST: usize = 28;
    /// u32: the destination's port. ANSWER: number of its set.
    pub const EP_ID: usize = 32;
    /// u32, seconds of UTC
    pub const STAMP: usize = 36;
    /// u64, SipHash-2-4
    pub const TAG: usize = 40;
}
