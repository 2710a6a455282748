//! Which way a flow takes: the outer source port, and from it the choice among replicas.

use crate::ipv4::Inner;

/// First of the outer source ports (RFC 8926 leaves the choice to the sender; this is the dynamic
/// range of RFC 6335, so that a flow's packets stay on one path and flows spread).
pub const FIRST_PORT: u16 = 49_152;

/// A hash of the inner five-tuple. All fragments of a datagram, the first included, leave the
/// ports out, so that they stay together. No secret is at stake, so this is a multiply-and-fold
/// mix (the finalizer of MurmurHash3), several times cheaper than SipHash.
#[inline(always)]
pub fn hash(inner: &Inner) -> u32 {
    let ports = if inner.is_fragment() { 0 } else { ((inner.tuple.sport as u64) << 16) | inner.tuple.dport as u64 };
    let addresses = ((u32::from_ne_bytes(inner.src) as u64) << 32) | u32::from_ne_bytes(inner.dst) as u64;
    let mut h = addresses ^ (ports << 8 | inner.proto as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    h = (h ^ (h >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    h = (h ^ (h >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    (h >> 32) as u32
}

/// The outer source port, 49152 to 65535.
#[inline(always)]
pub const fn source_port(hash: u32) -> u16 {
    FIRST_PORT | (hash & 0x3fff) as u16
}

/// Which of two replicas a sender asks: by path, the other one after each try.
#[inline(always)]
pub const fn sender_replica(hash: u32, tries: u8) -> usize {
    ((hash >> 14) as usize ^ tries as usize) & 1
}

/// Which of two replicas a divider asks. It has the outer source port alone. The number of tries
/// turns it in the order 0, 1, 1, 0, so that with the sender's choice of divider (0, 1, 0, 1) four
/// tries meet every pair of a divider and a bouncer.
#[inline(always)]
pub const fn divider_replica(source_port: u16, tries: u8) -> usize {
    ((source_port >> 3) as usize ^ (tries as usize >> 1) ^ tries as usize) & 1
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use crate::ipv4::{Fragment, Tuple};

    fn inner(n: u16) -> Inner {
        Inner {
            src: [10, 0, 0, 1],
            dst: [10, 0, 0, 2],
            proto: 6,
            tuple: Tuple { sport: n, dport: 80, ..Tuple::default() },
            ..Inner::default()
        }
    }

    #[test]
    fn neighbouring_ports_spread_over_outer_ports_and_replicas() {
        let ports: std::collections::BTreeSet<u16> = (0..4096).map(|n| source_port(hash(&inner(n)))).collect();
        assert!(ports.iter().all(|p| *p >= FIRST_PORT));
        assert!(ports.len() > 3_400, "{} of 4096 differ", ports.len());
        let first = (0..4096).filter(|n| sender_replica(hash(&inner(*n)), 0) == 0).count();
        assert!((1_850..2_250).contains(&first), "{first} of 4096 ask the first replica");
        let first = (0..4096).filter(|n| divider_replica(source_port(hash(&inner(*n))), 0) == 0).count();
        assert!((1_850..2_250).contains(&first), "{first} of 4096 ask the first bouncer");
    }

    #[test]
    fn all_fragments_of_a_datagram_take_one_path() {
        let head = Inner { fragment: Fragment::First, ..inner(5) };
        let tail = Inner { fragment: Fragment::Later, ..inner(0) };
        assert_eq!(hash(&head), hash(&tail));
    }

    #[test]
    fn four_tries_meet_every_divider_and_bouncer() {
        let pairs: std::collections::BTreeSet<_> =
            (0..4).map(|t| (sender_replica(0, t), divider_replica(FIRST_PORT, t))).collect();
        assert_eq!(pairs.len(), 4);
    }
}
