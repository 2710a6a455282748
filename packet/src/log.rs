//! Which flows are logged, and what a packet counts for.

use mizar_abi::{Address, maps::FlowKey};

#[inline(always)]
const fn folded(address: &Address) -> u32 {
    let a = u128::from_ne_bytes(*address);
    (a ^ (a >> 32) ^ (a >> 64) ^ (a >> 96)) as u32
}

/// Is the flow one of those, one in so many, that are logged? By its addresses, ports and protocol alone, of which
/// neither side comes first: so both ends log the same flows, and those of a port are logged wherever it is. 0: none is.
#[inline(always)]
pub const fn is_chosen(key: &FlowKey, one_in: u32) -> bool {
    if one_in <= 1 {
        return one_in == 1;
    }
    let (a, b) = (folded(&key.local), folded(&key.remote));
    let addresses = (a.wrapping_add(b) as u64) << 32 | (a ^ b) as u64;
    let (l, r) = (key.lport as u64, key.rport as u64);
    let ports = (l + r) << 16 | (l ^ r);
    // As in `path::hash`.
    let mut h = addresses ^ (ports << 8 | (key.vni_proto & 0xff) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    h = (h ^ (h >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    h = (h ^ (h >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    ((h >> 32) * one_in as u64) >> 32 == 0
}

/// Packets and bytes, as IP packets, that a frame counts for: of a frame with so many bytes of IP packet and of headers
/// in it, which is segmented later into segments of so many bytes, or, if that is 0, is not.
#[inline(always)]
pub const fn counted(bytes: u32, headers: u32, segment: u32) -> (u64, u64) {
    if segment == 0 || bytes <= headers {
        return (1, bytes as u64);
    }
    let more = (bytes - headers - 1) / segment;
    (more as u64 + 1, bytes as u64 + more as u64 * headers as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use mizar_abi::mapped;

    fn key(n: u16) -> FlowKey {
        FlowKey {
            vni_proto: 5000 << 8 | 6,
            local: mapped([10, 0, 0, 5]),
            remote: mapped([10, 0, 1, 9]),
            lport: 443,
            rport: n,
        }
    }

    #[test]
    fn one_in_so_many_flows_is_chosen_and_at_the_other_end_the_same_ones() {
        for one_in in [2u32, 10, 100] {
            let chosen = (0..50_000).map(key).filter(|key| is_chosen(key, one_in)).count() as u32;
            let expected = 50_000 / one_in;
            assert!((expected * 8 / 10..=expected * 12 / 10).contains(&chosen), "{chosen} of 50000, one in {one_in}");
        }
        let there = |key: FlowKey| FlowKey {
            vni_proto: 6000 << 8 | 6,
            local: key.remote,
            remote: key.local,
            lport: key.rport,
            rport: key.lport,
        };
        assert!((0..5_000).map(key).all(|key| is_chosen(&key, 10) == is_chosen(&there(key), 10)));
        assert!((0..100).map(key).all(|key| is_chosen(&key, 1) && !is_chosen(&key, 0)));
    }

    #[test]
    fn a_packet_that_is_segmented_later_counts_as_its_segments() {
        assert_eq!(counted(1_500, 40, 0), (1, 1_500));
        assert_eq!(counted(40 + 1_460, 40, 1_460), (1, 1_500));
        assert_eq!(counted(40 + 1_461, 40, 1_460), (2, 1_501 + 40));
        assert_eq!(counted(40 + 10 * 1_000, 40, 1_000), (10, 10 * 1_040));
        assert_eq!(counted(40, 40, 1_000), (1, 40));
    }
}
