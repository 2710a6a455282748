//! ICMP errors that the network sends to an endpoint, as a router would (RFC 792, 1812, 1191).

use crate::{
    checksum,
    ipv4::{Fragment, HEADER_LEN, Inner},
};

/// Bytes before the quoted packet: IPv4 and ICMP.
pub const ERROR_LEN: usize = HEADER_LEN + 8;
/// Bytes of transport header that are quoted: all of TCP's, as its sender may want to see the
/// sequence number, and as the kernel cannot cut a packet before the checksum it still owes.
pub const QUOTED_L4: usize = 20;
/// Bytes of the longest quote.
pub const QUOTE_MAX: usize = 60 + QUOTED_L4;

/// What went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// No route.
    NetUnreachable,
    /// No such endpoint.
    HostUnreachable,
    /// Larger than this MTU and DF set.
    FragmentationNeeded(u16),
    /// TTL ran out in transit.
    TimeExceeded,
}

impl Error {
    /// Type, code and the second half of the last word (the MTU).
    #[inline(always)]
    const fn words(self) -> (u8, u8, u16) {
        match self {
            Self::NetUnreachable => (3, 0, 0),
            Self::HostUnreachable => (3, 1, 0),
            Self::FragmentationNeeded(mtu) => (3, 4, mtu),
            Self::TimeExceeded => (11, 0, 0),
        }
    }
}

/// May this packet be answered with an error? Not an error itself, not a later fragment
/// (RFC 1122, section 3.2.2).
#[inline(always)]
pub const fn may_answer(inner: &Inner) -> bool {
    !inner.icmp_error && !matches!(inner.fragment, Fragment::Later)
}

/// Bytes that are quoted of a packet.
#[inline(always)]
pub const fn quote_len(inner: &Inner) -> usize {
    let all = inner.total_len as usize;
    let most = inner.header_len as usize + QUOTED_L4;
    if all < most { all } else { most }
}

/// IPv4 and ICMP header before a quote of `len` bytes, which stand in `quote`, zeros after.
#[inline(always)]
pub const fn error(error: Error, from: [u8; 4], to: [u8; 4], quote: &[u8; QUOTE_MAX], len: usize) -> [u8; ERROR_LEN] {
    let (kind, code, mtu) = error.words();
    let [m0, m1] = mtu.to_be_bytes();
    let total = (ERROR_LEN + len) as u16;
    let [l0, l1] = total.to_be_bytes();
    let ip = [
        0x45, 0xc0, l0, l1, 0, 0, 0x40, 0, 64, 1, 0, 0, from[0], from[1], from[2], from[3], to[0], to[1], to[2], to[3],
    ];
    let [i0, i1] = checksum::finish(checksum::sum(&ip)).to_be_bytes();
    let icmp = checksum::sum(&[kind, code, 0, 0, 0, 0, m0, m1]) + checksum::sum(quote);
    let [c0, c1] = checksum::finish(icmp).to_be_bytes();
    [
        0x45, 0xc0, l0, l1, 0, 0, 0x40, 0, 64, 1, i0, i1, from[0], from[1], from[2], from[3], to[0], to[1], to[2],
        to[3], kind, code, c0, c1, 0, 0, m0, m1,
    ]
}

#[cfg(test)]
#[path = "icmp_tests.rs"]
mod tests;
