//! The Internet checksum (RFC 1071) over headers of constant length, and its update (RFC 1624).

/// The sum of `N` bytes as 16-bit words, not folded. `N` must be even.
#[inline(always)]
pub const fn sum<const N: usize>(bytes: &[u8; N]) -> u32 {
    const { assert!(N.is_multiple_of(2)) };
    let mut total = 0u32;
    let mut i = 0;
    while i < N {
        total += ((bytes[i] as u32) << 8) | bytes[i + 1] as u32;
        i += 2;
    }
    total
}

/// Folds a sum and complements it: the value of the checksum field.
#[inline(always)]
pub const fn finish(sum: u32) -> u16 {
    let folded = (sum & 0xffff) + (sum >> 16);
    !(((folded & 0xffff) + (folded >> 16)) as u16)
}

/// The checksum of an IPv4 header after its TTL went down by one. The TTL is the upper half of
/// its word, so the complemented sum rises by 0x0100 (RFC 1141; the end-around carry is kept).
#[inline(always)]
pub const fn after_ttl(checksum: u16) -> u16 {
    let raised = checksum as u32 + 0x0100;
    ((raised & 0xffff) + (raised >> 16)) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_rfc_1071_sums_up() {
        assert_eq!(finish(sum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7])), !0xddf2);
    }

    #[test]
    fn lowering_the_ttl_equals_summing_again() {
        for ttl in 1..=255u8 {
            for id in 0..=255u8 {
                let mut header = [0x45, 0, 0, 84, id, 7, 0x40, 0, ttl, 6, 0, 0, 10, 0, id, 1, 10, 0, 0, ttl];
                let before = finish(sum(&header));
                header[8] -= 1;
                let full = finish(sum(&header));
                let updated = after_ttl(before);
                // 0x0000 and 0xffff are the same number in one's complement.
                assert!(updated == full || (updated ^ full) == 0xffff && (full == 0 || updated == 0));
            }
        }
    }
}
