//! Packets as the data plane sees them: parse, classify, sign, encapsulate, decide.
//!
//! Everything here is pure and generic over how bytes are read ([`Packet`]), so that the same
//! code runs over byte slices in tests, in the tcx programs and in XDP. Two rules follow from the
//! kernel's verifier: every array has a constant length, and nothing may panic. What is read from
//! a packet is untrusted until its lengths are checked here and, for control packets, its tag
//! ([`option`]) is verified.
#![no_std]
#![deny(unsafe_code)]

pub mod arp;
pub mod checksum;
pub mod flow;
pub mod geneve;
pub mod icmp;
pub mod introduce;
pub mod ipv4;
pub mod log;
pub mod option;
pub mod path;
pub mod policy;
pub mod transit;
mod words;

pub use words::Words;

/// A packet whose bytes can be read at any offset.
pub trait Packet {
    /// `N` bytes from `offset`; `None` if the packet ends before.
    fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]>;
    /// `2 * N` bytes from an even `offset`; `None` if the packet ends before.
    fn words<const N: usize>(&self, offset: usize) -> Option<Words<N>>;
    /// Bytes in all.
    fn length(&self) -> usize;
}

impl Packet for [u8] {
    fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        let end = offset.checked_add(N)?;
        self.get(offset..end)?.try_into().ok()
    }

    fn words<const N: usize>(&self, offset: usize) -> Option<Words<N>> {
        let end = offset.checked_add(2 * N)?;
        let mut words = Words([0; N]);
        for (word, bytes) in words.0.iter_mut().zip(self.get(offset..end)?.chunks_exact(2)) {
            *word = u16::from_ne_bytes([bytes[0], bytes[1]]);
        }
        Some(words)
    }

    fn length(&self) -> usize {
        self.len()
    }
}

/// Bytes of an Ethernet header.
pub const ETH_LEN: usize = 14;
/// EtherType of IPv4.
pub const ETH_IPV4: u16 = 0x0800;
/// EtherType of ARP.
pub const ETH_ARP: u16 = 0x0806;

/// Two bytes at a constant place, in network order.
#[inline(always)]
pub const fn u16_at<const N: usize>(bytes: &[u8; N], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// Four bytes at a constant place.
#[inline(always)]
pub const fn four_at<const N: usize>(bytes: &[u8; N], at: usize) -> [u8; 4] {
    [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]
}

/// Six bytes at a constant place.
#[inline(always)]
pub const fn six_at<const N: usize>(bytes: &[u8; N], at: usize) -> [u8; 6] {
    [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3], bytes[at + 4], bytes[at + 5]]
}
