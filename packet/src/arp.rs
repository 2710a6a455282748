//! ARP (RFC 826) of endpoints: every question about another address gets the one virtual MAC.

use crate::{four_at, six_at, u16_at};
use mizar_abi::VIRTUAL_MAC;

/// Bytes of an ARP message for IPv4 over Ethernet.
pub const LEN: usize = 28;

/// A question or an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arp {
    /// 1 = request, 2 = reply.
    pub operation: u16,
    /// The sender's MAC.
    pub sender_mac: [u8; 6],
    /// The sender's address; 0.0.0.0 in a probe (RFC 5227).
    pub sender: [u8; 4],
    /// The address asked for.
    pub target: [u8; 4],
}

impl Arp {
    /// Reads a message; `None` unless it is IPv4 over Ethernet.
    #[inline(always)]
    pub fn parse(bytes: &[u8; LEN]) -> Option<Self> {
        if u16_at(bytes, 0) != 1 || u16_at(bytes, 2) != 0x0800 || bytes[4] != 6 || bytes[5] != 4 {
            return None;
        }
        Some(Self {
            operation: u16_at(bytes, 6),
            sender_mac: six_at(bytes, 8),
            sender: four_at(bytes, 14),
            target: four_at(bytes, 24),
        })
    }

    /// A question that other stations take as an announcement (gratuitous ARP), or an answer
    /// that nobody asked for: in a network where nobody else answers, every answer is one.
    #[inline(always)]
    pub fn announces(&self) -> bool {
        self.operation == 2 || self.sender == self.target
    }

    /// A question before an address is taken into use.
    #[inline(always)]
    pub fn probes(&self) -> bool {
        self.sender == [0; 4]
    }

    /// The Ethernet frame that answers: 14 + 28 bytes.
    #[inline(always)]
    pub fn answer(&self) -> [u8; 14 + LEN] {
        let (v, m, s, t) = (VIRTUAL_MAC, self.sender_mac, self.sender, self.target);
        [
            m[0], m[1], m[2], m[3], m[4], m[5], v[0], v[1], v[2], v[3], v[4], v[5], 8, 6, // Ethernet
            0, 1, 8, 0, 6, 4, 0, 2, // IPv4 over Ethernet, reply
            v[0], v[1], v[2], v[3], v[4], v[5], t[0], t[1], t[2], t[3], //
            m[0], m[1], m[2], m[3], m[4], m[5], s[0], s[1], s[2], s[3],
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: [u8; LEN] = [0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 9, 10, 0, 0, 9, 0, 0, 0, 0, 0, 0, 10, 0, 0, 1];

    #[test]
    fn the_answer_comes_from_the_virtual_mac_and_the_address_asked_for() {
        let asked = Arp::parse(&REQUEST).unwrap();
        assert!(!asked.announces() && !asked.probes());
        let frame = asked.answer();
        assert_eq!(frame[..6], [2, 0, 0, 0, 0, 9]);
        let answer = Arp::parse(frame[14..].try_into().unwrap()).unwrap();
        assert_eq!(answer, Arp { operation: 2, sender_mac: VIRTUAL_MAC, sender: [10, 0, 0, 1], target: [10, 0, 0, 9] });
    }

    #[test]
    fn announcements_and_probes_are_told_apart() {
        let mut frame = REQUEST;
        frame[24..28].copy_from_slice(&[10, 0, 0, 9]);
        assert!(Arp::parse(&frame).unwrap().announces());
        frame[14..18].copy_from_slice(&[0; 4]);
        let probe = Arp::parse(&frame).unwrap();
        assert!(probe.probes() && !probe.announces());
    }

    #[test]
    fn other_hardware_is_no_arp_of_ours() {
        for at in 0..6 {
            let mut frame = REQUEST;
            frame[at] ^= 0x40;
            assert_eq!(Arp::parse(&frame), None, "byte {at}");
        }
    }
}
