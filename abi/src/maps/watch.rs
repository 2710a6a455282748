//! A packet that is followed (docs/adr/0015-a-packet-that-is-followed-bears-a-signed-mark.md), and what hosts say of it.

use super::{EVENT_FRAME, Event};

/// Value of WATCH, hash by ep_id: the one packet of a port that is waited for. Whoever removes the entry has it: that is
/// the program, for the first packet that fits, or the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Watch {
    /// Names it on this host; not 0.
    pub id: u32,
    /// Seconds since boot after which nothing fits.
    pub until: u32,
    /// Source address.
    pub src: [u8; 4],
    /// Destination address.
    pub dst: [u8; 4],
    /// Source port, host order.
    pub sport: u16,
    /// What policy judges as port: the destination's, or type and code of ICMP.
    pub port: u16,
    /// IP protocol.
    pub proto: u8,
    /// Which of the above count: [`watch_flag`]. The destination does always.
    pub given: u8,
    /// Reserved, 0.
    pub pad: u16,
}

/// What a [`Watch`] looks at beside the destination.
pub mod watch_flag {
    /// `src`
    pub const SRC: u8 = 1;
    /// `proto`
    pub const PROTO: u8 = 2;
    /// `sport`
    pub const SPORT: u8 = 4;
    /// `port`
    pub const PORT: u8 = 8;
}

/// What a host did with a packet that is followed: the beginning of an [`Event`]'s `frame`. [`Event::reason`] says why it
/// was dropped; if it was delivered, [`Event::ep_id`] to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Hop {
    /// Nanoseconds by the kernel's TAI clock.
    pub tai_ns: u64,
    /// [`Watch::id`] at the sender's host; 0 where the packet came with the mark.
    pub watch: u32,
    /// Host that it came from, if it came by the underlay.
    pub from: [u8; 4],
    /// Outer VNI that it came with.
    pub from_vni: u32,
    /// Host that it was sent to, with [`hop_flag::SENT`].
    pub to: [u8; 4],
    /// Outer VNI that it was sent with.
    pub to_vni: u32,
    /// Source address.
    pub src: [u8; 4],
    /// Destination address.
    pub dst: [u8; 4],
    /// Source port, as flows have it.
    pub sport: u16,
    /// Destination port.
    pub dport: u16,
    /// IP protocol.
    pub proto: u8,
    /// [`crate::option::Kind`] that it came as; 0: an endpoint here sent it.
    pub came: u8,
    /// [`hop_flag`].
    pub flags: u8,
    /// [`crate::option::Kind`] that it was sent as; what follows are fields of that option.
    pub kind: u8,
    /// [`crate::option::flag`]
    pub option_flags: u8,
    /// [`crate::option::at::REASON`]
    pub code: u8,
    /// Outer source port.
    pub source_port: u16,
    /// [`crate::option::at::IDENTITY`]
    pub identity: u32,
    /// [`crate::option::at::EPOCH`]
    pub epoch: u32,
    /// [`crate::option::at::EP_ID`]
    pub ep_id: u32,
    /// Reserved, 0.
    pub pad: u32,
}

/// Flags of [`Hop`].
pub mod hop_flag {
    /// It was sent on, to another host. Neither this nor a reason to drop it: it was delivered.
    pub const SENT: u8 = 1;
    /// The sender's own host acted as its transit host too.
    pub const INLINE: u8 = 2;
}

const _: () = assert!(core::mem::size_of::<Hop>() <= EVENT_FRAME);
// The programs write it in place.
const _: () = assert!(core::mem::offset_of!(Event, frame) % core::mem::align_of::<Hop>() == 0);
