//! Geneve (RFC 8926) over IPv4 and UDP: the outer headers that are written, and those that come.
//!
//! Three shapes are written, each as one run of bytes after the outer Ethernet header, which the
//! kernel fills in when it resolves the neighbour: [`Direct`], [`DirectFragment`], [`Signed`].

use crate::{ETH_LEN, Packet, Words, checksum, ipv4::HEADER_LEN, option::Body, u16_at};
use mizar_abi::{
    GENEVE_PORT,
    maps::Ports,
    option::{CLASS, FRAG_LEN, OPTION_LEN, TYPE_FRAG, TYPE_SIGNED},
    reason::Drop,
};

/// Bytes of outer IPv4, UDP and Geneve without options.
pub const OUTER_LEN: usize = 36;

/// What varies in the outer headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outer {
    /// This host.
    pub src: [u8; 4],
    /// The receiver.
    pub dst: [u8; 4],
    /// Type of service, copied from the inner packet.
    pub tos: u8,
    /// From the path hash.
    pub source_port: u16,
    /// VNI of the receiving endpoint.
    pub vni: u32,
    /// Bytes of options.
    pub options: usize,
    /// Bytes of the inner frame, its Ethernet header included; 0 in control packets. Of a packet
    /// that is segmented later, the sum: the kernel writes the lengths again.
    pub frame: usize,
}

impl Outer {
    /// The headers, as they stand in memory. IPv4 with DF, TTL 64; UDP checksum 0 (RFC 8926, section 3.3).
    #[inline(always)]
    pub const fn words(&self) -> [u32; OUTER_LEN / 4] {
        let udp_len = (16 + self.options + self.frame) as u16;
        let len = udp_len.wrapping_add(20);
        let (src, dst) = (u32::from_be_bytes(self.src), u32::from_be_bytes(self.dst));
        let version_tos_len = 0x4500_0000 | (self.tos as u32) << 16 | len as u32;
        let dont_fragment = 0x4000;
        let ttl_protocol = 64 << 24 | 17 << 16;
        let sum = (version_tos_len >> 16)
            + (version_tos_len & 0xffff)
            + dont_fragment
            + (ttl_protocol >> 16)
            + (src >> 16)
            + (src & 0xffff)
            + (dst >> 16)
            + (dst & 0xffff);
        let critical = if self.options == OPTION_LEN { 0x40 << 16 } else { 0 };
        let control = if self.frame == 0 { 0x80 << 16 } else { 0 };
        [
            version_tos_len.to_be(),
            dont_fragment.to_be(),
            (ttl_protocol | checksum::finish(sum) as u32).to_be(),
            src.to_be(),
            dst.to_be(),
            ((self.source_port as u32) << 16 | GENEVE_PORT as u32).to_be(),
            ((udp_len as u32) << 16).to_be(),
            (((self.options / 4) as u32) << 24 | control | critical | 0x6558).to_be(),
            (self.vni << 8).to_be(),
        ]
    }

    /// The same as bytes.
    pub const fn bytes(&self) -> [u8; OUTER_LEN] {
        let words = self.words();
        let mut bytes = [0; OUTER_LEN];
        let mut i = 0;
        while i < OUTER_LEN {
            bytes[i] = words[i / 4].to_ne_bytes()[i % 4];
            i += 1;
        }
        bytes
    }
}

/// A direct packet's headers: 50 bytes.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Direct {
    /// Outer IPv4, UDP, Geneve.
    pub outer: [u32; OUTER_LEN / 4],
    /// Inner Ethernet.
    pub eth: Words<{ ETH_LEN / 2 }>,
    /// Reserved, 0 (not written).
    pub tail: [u8; 2],
}

/// A direct fragment's: 58 bytes.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct DirectFragment {
    /// Outer IPv4, UDP, Geneve.
    pub outer: [u32; OUTER_LEN / 4],
    /// The option.
    pub option: [u8; FRAG_LEN],
    /// Inner Ethernet.
    pub eth: Words<{ ETH_LEN / 2 }>,
    /// Reserved, 0 (not written).
    pub tail: [u8; 2],
}

/// A signed packet's: 102 bytes after the outer Ethernet header, of which transit rewrites the
/// first 88 in place. The body is eight-byte aligned.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(8))]
pub struct Signed {
    /// Two bytes that are not written, and outer Ethernet (XDP only: in tcx the kernel writes it).
    pub link: [u64; 2],
    /// Outer IPv4, UDP, Geneve.
    pub outer: [u32; OUTER_LEN / 4],
    /// Header of the option.
    pub option: [u8; 4],
    /// Its body.
    pub body: Body,
    /// Inner Ethernet.
    pub eth: Words<{ ETH_LEN / 2 }>,
    /// First 20 bytes of the inner IPv4 header (only read; not part of what is written).
    pub inner: Words<{ HEADER_LEN / 2 }>,
    /// Reserved, 0.
    pub tail: [u8; 6],
}

/// Bytes of [`Signed`] before what is written.
pub const SIGNED_PAD: usize = 2;
/// Bytes of [`Signed`] up to and without the inner Ethernet header.
pub const SIGNED_OUTER_LEN: usize = OUTER_LEN + OPTION_LEN;
/// Bytes of [`Signed`] without the inner IPv4 header.
pub const SIGNED_LEN: usize = SIGNED_OUTER_LEN + 14;
/// Bytes of [`Signed`] with the inner IPv4 header.
pub const SIGNED_READ_LEN: usize = SIGNED_LEN + 20;

/// The header of the signed option.
pub const SIGNED_OPTION: [u8; 4] = {
    let [c0, c1] = CLASS.to_be_bytes();
    [c0, c1, TYPE_SIGNED, (OPTION_LEN / 4 - 1) as u8]
};

/// The fragment option.
#[inline(always)]
pub const fn fragment_option(ports: Ports) -> [u8; FRAG_LEN] {
    let [c0, c1] = CLASS.to_be_bytes();
    let ([s0, s1], [d0, d1]) = (ports.sport.to_be_bytes(), ports.dport.to_be_bytes());
    [c0, c1, TYPE_FRAG, 1, s0, s1, d0, d1]
}

/// Outer headers as they are read.
pub type OuterWords = Words<{ OUTER_LEN / 2 }>;

/// Outer headers as they came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(8))]
pub struct Seen {
    /// Outer source: untrusted unless a tag covers the packet.
    pub src: [u8; 4],
    /// Type of service.
    pub tos: u8,
    /// Outer source port.
    pub source_port: u16,
    /// VNI.
    pub vni: u32,
    /// Bytes of options.
    pub options: usize,
    /// A control packet (OAM bit).
    pub control: bool,
    /// Outer IPv4 length.
    pub total_len: u16,
    /// UDP length.
    pub udp_len: u16,
}

/// Is this whole IPv4/UDP packet for our port at this host? What is not is passed on untouched.
#[inline(always)]
pub const fn is_ours(header: &OuterWords, host: [u8; 4]) -> bool {
    header.byte(0) == 0x45
        && header.byte(9) == 17
        && header.short(6) & 0x3fff == 0
        && header.short(22) == GENEVE_PORT
        && u32::from_ne_bytes(header.four(16)) == u32::from_ne_bytes(host)
}

/// Reads outer headers that are ours.
#[inline(always)]
pub const fn parse(h: &OuterWords) -> Result<Seen, Drop> {
    let options = (h.byte(28) & 0x3f) as usize * 4;
    if h.byte(28) >> 6 != 0 || h.short(30) != 0x6558 {
        return Err(Drop::BadGeneve);
    }
    Ok(Seen {
        src: h.four(12),
        tos: h.byte(1),
        source_port: h.short(20),
        vni: u32::from_be_bytes(h.four(32)) >> 8,
        options,
        control: h.byte(29) & 0x80 != 0,
        total_len: h.short(2),
        udp_len: h.short(24),
    })
}

impl Seen {
    /// Do the lengths agree with each other and with the `bytes` after the outer Ethernet header?
    /// Not asked of packets that the kernel will segment: theirs are a sum that may wrap.
    #[inline(always)]
    pub const fn lengths_agree(&self, bytes: usize) -> bool {
        self.total_len as usize <= bytes
            && self.total_len == self.udp_len.wrapping_add(20)
            && self.udp_len as usize >= 16 + self.options
    }
}

/// Options that are walked at most: more is refused.
const MAX_OPTIONS: usize = 4;

/// Where the options that we know stand, from the start of the options.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// The signed option's header is at this offset, plus one; 0 = there is none.
    pub signed: usize,
    /// The fragment option's.
    pub fragment: usize,
}

/// Walks options at `offset`, `len` bytes in all. Unknown ones are skipped, unless critical.
#[inline(always)]
pub fn options<P: Packet + ?Sized>(packet: &P, offset: usize, len: usize) -> Result<Options, Drop> {
    let mut found = Options::default();
    let mut at = 0;
    let mut n = 0;
    while n < MAX_OPTIONS && at < len {
        let header: [u8; 4] = packet.read(offset + at).ok_or(Drop::BadGeneve)?;
        let size = 4 + (header[3] & 0x1f) as usize * 4;
        match (u16_at(&header, 0), header[2]) {
            (CLASS, TYPE_SIGNED) if size == OPTION_LEN && found.signed == 0 => found.signed = at + 1,
            (CLASS, TYPE_FRAG) if size == FRAG_LEN && found.fragment == 0 => found.fragment = at + 1,
            (CLASS, TYPE_SIGNED | TYPE_FRAG) => return Err(Drop::BadGeneve),
            (_, kind) if kind & 0x80 != 0 => return Err(Drop::BadGeneve),
            _ => {}
        }
        at += size;
        n += 1;
    }
    if at == len { Ok(found) } else { Err(Drop::BadGeneve) }
}

#[cfg(test)]
#[path = "geneve_tests.rs"]
mod tests;
