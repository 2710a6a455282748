//! Types and constants that the kernel programs and user space share.
//!
//! Everything here is `repr(C)` with named padding, so that a map value is the same bytes on
//! both sides; sizes are asserted at compile time. Numbers are in host byte order; addresses,
//! MACs and everything named `wire` are byte arrays in network order. Endpoint addresses are
//! always 16 bytes, an IPv4 address mapped into `::ffff:0:0/96`, so that IPv6 needs no second
//! set of maps. Underlay addresses are IPv4, 4 bytes.
//!
//! `ABI` is raised with every change of a layout here; an agent that finds pinned maps of another
//! number does not adopt them.
#![no_std]
#![deny(unsafe_code)]

pub mod hash;
pub mod maps;
pub mod option;
pub mod reason;

/// Version of every layout in this crate. Agents report it when they register.
pub const ABI: u32 = 4;

/// UDP port of Geneve (RFC 8926).
pub const GENEVE_PORT: u16 = 6081;

/// Bytes that a direct packet is larger on the underlay than its inner IP packet plus nothing:
/// outer IPv4 20, UDP 8, Geneve 8, inner Ethernet 14.
pub const ENCAP_LEN: usize = 50;

/// `ENCAP_LEN` plus the option of a first or control packet (4 + 48).
pub const ENCAP_OPTION_LEN: usize = ENCAP_LEN + option::OPTION_LEN;

/// What an endpoint's MTU is smaller than the underlay's.
pub const MTU_OVERHEAD: u32 = ENCAP_OPTION_LEN as u32;

/// The MAC address that answers every ARP question of an endpoint, and the source of every
/// delivered frame. Locally administered, the same everywhere, so that a migrated endpoint's
/// neighbour table stays right.
pub const VIRTUAL_MAC: [u8; 6] = [0x02, 0x6d, 0x69, 0x7a, 0x61, 0x72];

/// Events of one kind about one port that programs raise at once: a few ports that do their worst still leave
/// room in the ring.
pub const EVENT_BURST: u32 = 50;
/// And a second, in the long run. What is beyond is lost.
pub const EVENT_RATE: u32 = 200;

/// Slots that a subnet's addresses hash to.
pub const SLOTS: u16 = 4096;

/// An endpoint address: IPv4 mapped into IPv6, or IPv6.
pub type Address = [u8; 16];

/// An IPv4 address as the maps hold it.
#[inline(always)]
pub const fn mapped(v4: [u8; 4]) -> Address {
    // As a number, which the kernel programs store in words.
    ((u32::from_le_bytes(v4) as u128) << 96 | 0xffff << 80).to_le_bytes()
}

/// The IPv4 address inside a mapped one; `None` for IPv6.
pub const fn unmapped(address: &Address) -> Option<[u8; 4]> {
    match *address {
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d] => Some([a, b, c, d]),
        _ => None,
    }
}
