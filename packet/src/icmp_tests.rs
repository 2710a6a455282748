extern crate std;
use super::*;
use crate::u16_at;

/// RFC 1071 again, over any slice.
fn sums_to_zero(bytes: &[u8]) -> bool {
    let total: u32 = bytes.chunks(2).map(|c| (c[0] as u32) << 8 | *c.get(1).unwrap_or(&0) as u32).sum();
    let folded = (total & 0xffff) + (total >> 16);
    (folded & 0xffff) + (folded >> 16) == 0xffff
}

#[test]
fn both_checksums_are_right_for_every_length_of_the_quote() {
    for len in 28..=QUOTE_MAX {
        let quote: [u8; QUOTE_MAX] = core::array::from_fn(|i| if i < len { i as u8 ^ 0x5a } else { 0 });
        for what in
            [Error::NetUnreachable, Error::HostUnreachable, Error::FragmentationNeeded(1398), Error::TimeExceeded]
        {
            let head = error(what, [10, 0, 0, 1], [10, 0, 0, 5], &quote, len);
            let whole = [&head[..], &quote[..len]].concat();
            assert!(sums_to_zero(&whole[..20]) && sums_to_zero(&whole[20..]), "{what:?} {len}");
            assert_eq!(u16_at(&head, 2) as usize, whole.len());
        }
    }
}

#[test]
fn the_mtu_stands_where_rfc_1191_says() {
    let head = error(Error::FragmentationNeeded(1398), [0; 4], [0; 4], &[0; QUOTE_MAX], 28);
    assert_eq!((head[20], head[21], u16_at(&head, 26)), (3, 4, 1398));
}

#[test]
fn errors_and_later_fragments_are_not_answered() {
    let plain = Inner::default();
    assert!(may_answer(&plain));
    assert!(!may_answer(&Inner { icmp_error: true, ..plain }));
    assert!(may_answer(&Inner { fragment: Fragment::First, ..plain }));
    assert!(!may_answer(&Inner { fragment: Fragment::Later, ..plain }));
}

#[test]
fn a_quote_is_header_and_twenty_bytes_or_less() {
    let inner = |total_len, header_len| Inner { total_len, header_len, ..Inner::default() };
    assert_eq!(quote_len(&inner(1_398, 20)), 40);
    assert_eq!(quote_len(&inner(1_398, 60)), QUOTE_MAX);
    assert_eq!(quote_len(&inner(28, 20)), 28);
}
