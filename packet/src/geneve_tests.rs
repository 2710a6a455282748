extern crate std;
use super::*;
use std::{vec, vec::Vec};

const OUTER: Outer = Outer {
    src: [172, 16, 0, 1],
    dst: [172, 16, 0, 2],
    tos: 0xb8,
    source_port: 50_123,
    vni: 0x123456,
    options: 0,
    frame: 100,
};

fn read(bytes: &[u8]) -> OuterWords {
    bytes.words(0).unwrap()
}

#[test]
fn the_bytes_are_those_of_the_standards() {
    let b = OUTER.bytes();
    assert_eq!(checksum::finish(checksum::sum(&<[u8; 20]>::try_from(&b[..20]).unwrap())), 0, "RFC 791");
    assert_eq!(u16_at(&b, 2), 136, "IPv4 length");
    assert_eq!(u16_at(&b, 24), 116, "UDP length");
    assert_eq!((u16_at(&b, 20), u16_at(&b, 22), u16_at(&b, 26)), (50_123, 6081, 0));
    assert_eq!(b[28..], [0, 0, 0x65, 0x58, 0x12, 0x34, 0x56, 0], "RFC 8926, section 3.4");
    let first = Outer { options: OPTION_LEN, ..OUTER }.bytes();
    assert_eq!(first[28..30], [13, 0x40], "13 words, the critical bit");
    let control = Outer { options: OPTION_LEN, frame: 0, ..OUTER }.bytes();
    assert_eq!(control[29], 0xc0, "the control bit too");
    assert_eq!(u16_at(&control, 2), 88);
}

#[test]
fn what_is_written_is_read_back() {
    for options in [0, FRAG_LEN, OPTION_LEN] {
        let outer = Outer { options, ..OUTER };
        let seen = parse(&read(&outer.bytes())).unwrap();
        assert!(is_ours(&read(&outer.bytes()), OUTER.dst) && !is_ours(&read(&outer.bytes()), OUTER.src));
        assert_eq!((seen.src, seen.tos, seen.source_port, seen.vni), (OUTER.src, 0xb8, 50_123, 0x123456));
        assert_eq!((seen.options, seen.control), (options, false));
        assert!(seen.lengths_agree(136 + options) && !seen.lengths_agree(135 + options));
    }
}

#[test]
fn the_sum_of_a_segmented_packet_may_wrap_and_harms_nothing() {
    let b = Outer { frame: 65_550, ..OUTER }.bytes();
    assert!(parse(&read(&b)).is_ok());
}

#[test]
fn other_versions_and_payloads_are_refused_by_name() {
    for (at, value) in [(28, 0x40), (28, 0x80), (30, 0x08), (31, 0)] {
        let mut b = OUTER.bytes();
        b[at] = value;
        assert_eq!(parse(&read(&b)), Err(Drop::BadGeneve), "byte {at}");
    }
}

#[test]
fn what_is_not_ours_is_told_apart() {
    for (at, value) in [(0, 0x46), (9, 6), (19, 9), (22, 0), (6, 0x20), (7, 1)] {
        let mut b = OUTER.bytes();
        b[at] = value;
        assert!(!is_ours(&read(&b), OUTER.dst), "byte {at}");
    }
}

fn option(class: u16, kind: u8, words: u8) -> Vec<u8> {
    let mut o = class.to_be_bytes().to_vec();
    o.extend_from_slice(&[kind, words]);
    o.resize(4 + 4 * usize::from(words & 0x1f), 0xee);
    o
}

#[test]
fn options_are_found_among_others() {
    let signed = option(CLASS, TYPE_SIGNED, 12);
    let fragment = fragment_option(Ports { sport: 1, dport: 2 }).to_vec();
    let other = option(0x0102, 0x01, 3);
    for (list, expected) in [
        (vec![], Ok((0, 0))),
        (vec![&signed], Ok((1, 0))),
        (vec![&fragment], Ok((0, 1))),
        (vec![&other, &signed], Ok((17, 0))),
        (vec![&other, &fragment, &other], Ok((0, 17))),
        (vec![&signed, &signed], Err(Drop::BadGeneve)),
        (vec![&other; 4], Ok((0, 0))),
        (vec![&other; 5], Err(Drop::BadGeneve)),
    ] {
        let bytes: Vec<u8> = list.into_iter().flatten().copied().collect();
        let found = options(&bytes[..], 0, bytes.len()).map(|f| (f.signed, f.fragment));
        assert_eq!(found, expected);
        for cut in 1..bytes.len() {
            // A length that ends within an option is refused, wherever it ends.
            let result = options(&bytes[..cut], 0, bytes.len());
            assert!(result.is_err() || cut + 52 > bytes.len(), "{cut} of {}", bytes.len());
        }
    }
}

#[test]
fn unknown_critical_options_and_wrong_lengths_are_refused() {
    for bytes in [option(0x0102, 0x81, 1), option(CLASS, TYPE_SIGNED, 11), option(CLASS, TYPE_FRAG, 2)] {
        assert_eq!(options(&bytes[..], 0, bytes.len()), Err(Drop::BadGeneve));
    }
    let whole = option(0x0102, 0x01, 3);
    for len in 1..whole.len() {
        assert_eq!(options(&whole[..], 0, len), Err(Drop::BadGeneve), "{len} bytes");
    }
}
