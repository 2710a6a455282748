extern crate std;
use super::*;
use std::{vec, vec::Vec};

fn packet(proto: u8, bits: u16, options: usize, l4: &[u8]) -> Vec<u8> {
    let len = (20 + options + l4.len()) as u16;
    let mut p = vec![0x40 | ((20 + options) / 4) as u8, 0x10];
    p.extend_from_slice(&len.to_be_bytes());
    p.extend_from_slice(&[0, 9]);
    p.extend_from_slice(&bits.to_be_bytes());
    p.extend_from_slice(&[64, proto, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    p.resize(20 + options, 1);
    p.extend_from_slice(l4);
    p
}

const TCP: [u8; 20] = [4, 210, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0x02, 0, 0, 0, 0, 0, 0];
const UDP: [u8; 8] = [4, 210, 0, 53, 0, 8, 0, 0];

fn ports(p: &[u8]) -> Result<(u16, u16), Drop> {
    parse(p, 0).map(|i| (i.tuple.sport, i.tuple.dport))
}

#[test]
fn ports_are_found_behind_options_of_any_length() {
    for options in (0..=40).step_by(4) {
        let p = packet(proto::TCP, 0x4000, options, &TCP);
        let inner = parse(&p[..], 0).unwrap();
        assert_eq!((inner.tuple.sport, inner.tuple.dport, inner.tcp_flags), (1234, 80, tcp::SYN));
        assert_eq!(usize::from(inner.header_len), 20 + options);
        assert!(inner.dont_fragment && inner.opens());
        assert_eq!(ports(&packet(proto::UDP, 0, options, &UDP)), Ok((1234, 53)));
    }
}

#[test]
fn every_truncated_length_is_refused() {
    let error = [&[3, 1, 0, 0, 0, 0, 0, 0][..], &packet(proto::UDP, 0, 0, &UDP)].concat();
    let mut quoted = error;
    // The quoted packet's sender is the error's receiver.
    quoted[8 + 12..8 + 20].copy_from_slice(&[10, 0, 0, 2, 10, 0, 0, 1]);
    for p in [
        packet(proto::TCP, 0, 0, &TCP),
        packet(proto::UDP, 0, 8, &UDP),
        packet(proto::ICMP, 0, 0, &[8, 0, 0, 0, 0, 7, 0, 1]),
        packet(proto::ICMP, 0, 0, &quoted),
        packet(47, 0, 0, &[]),
    ] {
        assert!(parse(&p[..], 0).is_ok());
        for len in 0..p.len() {
            assert_eq!(parse(&p[..len], 0), Err(Drop::Malformed), "{len} bytes");
            // And with a total length that agrees with the cut.
            let mut cut = p[..len].to_vec();
            if len >= 4 {
                cut[2..4].copy_from_slice(&(len as u16).to_be_bytes());
                let result = parse(&cut[..], 0);
                assert!(result == Err(Drop::Malformed) || p[9] == 47, "{len} bytes: {result:?}");
            }
        }
    }
}

#[test]
fn a_packet_longer_than_its_header_says_is_padding() {
    let mut p = packet(proto::UDP, 0, 0, &UDP);
    p.extend_from_slice(&[0; 18]);
    assert_eq!(parse(&p[..], 0).unwrap().total_len, 28);
}

#[test]
fn fragments_that_could_hide_ports_or_flags_are_refused() {
    assert_eq!(ports(&packet(proto::TCP, 0x2000, 0, &TCP[..16])), Err(Drop::Malformed));
    assert_eq!(ports(&packet(proto::TCP, 1, 0, &TCP)), Err(Drop::Malformed));
    let first = parse(&packet(proto::TCP, 0x2000, 0, &TCP)[..], 0).unwrap();
    assert_eq!((first.fragment, first.tuple.sport), (Fragment::First, 1234));
    let later = parse(&packet(proto::UDP, 185, 0, &[9; 30])[..], 0).unwrap();
    assert_eq!((later.fragment, later.tuple.sport, later.tuple.dport), (Fragment::Later, 0, 0));
}

#[test]
fn a_tcp_header_longer_than_the_packet_is_refused() {
    for (offset, expected) in [(0x40, Err(Drop::Malformed)), (0x50, Ok((1234, 80))), (0x60, Err(Drop::Malformed))] {
        let mut segment = TCP;
        segment[12] = offset;
        assert_eq!(ports(&packet(proto::TCP, 0, 0, &segment)), expected);
    }
}

/// No two of: a's question, b's answer to it (one flow), b's question (another), for any ids.
#[test]
fn echo_keys_of_both_directions_never_meet() {
    let key = |kind: u8, id: u16| {
        let [h, l] = id.to_be_bytes();
        ports(&packet(proto::ICMP, 0, 0, &[kind, 0, 0, 0, h, l, 0, 1])).unwrap()
    };
    for id in 0..=u16::MAX {
        let (question, answer) = (key(8, id), key(0, id));
        assert_eq!((question.1, question.0), answer, "an answer is the question's flow, seen from there");
        // The other side's question with any id has this key, seen from here: (id' + 1, id').
        assert_ne!(question.0, question.1.wrapping_add(1), "id {id}");
    }
}

/// Errors aside, which are of the flow that they quote.
#[test]
fn icmp_messages_of_each_kind_and_direction_are_flows_of_their_own_unless_they_answer() {
    let of = |kind: u16, id: u16| {
        let [t, c] = kind.to_be_bytes();
        let [h, l] = id.to_be_bytes();
        let inner = parse(&packet(proto::ICMP, 0, 0, &[t, c, 0, 0, h, l, 0, 1])[..], 0).unwrap();
        ((inner.tuple.sport, inner.tuple.dport), inner.opens())
    };
    let answers = [(0x0000, 0x0800), (0x0e00, 0x0d00), (0x1000, 0x0f00), (0x1200, 0x1100), (0x2b00, 0x2a00)];
    let errors = [3, 4, 5, 11, 12];
    let mut seen = std::collections::BTreeMap::new();
    for kind in (0..=u16::MAX).filter(|kind| !errors.contains(&(kind >> 8))) {
        let ((sport, dport), opens) = of(kind, 7);
        if let Some((_, question)) = answers.iter().find(|(answer, _)| *answer == kind) {
            assert!(!opens);
            assert_eq!(of(*question, 7).0, (dport, sport), "{kind:x} answers {question:x}");
            assert_eq!(message(sport, dport), Some(kind));
        } else if !(0x2b01..=0x2b04).contains(&kind) {
            assert!(opens, "{kind:x}");
            assert_eq!(seen.insert((sport, dport), kind), None, "{kind:x}");
            assert_eq!(message(sport, dport), Some(kind));
        }
    }
    for (sport, dport) in seen.keys() {
        assert!(!seen.contains_key(&(*dport, *sport)), "{sport:x} {dport:x}: the other direction");
    }
}

#[test]
fn an_icmp_error_has_the_flow_of_the_packet_it_quotes() {
    let mut sent = packet(proto::UDP, 0, 0, &UDP);
    sent[12..20].copy_from_slice(&[10, 0, 0, 2, 10, 0, 0, 77]);
    let error = packet(proto::ICMP, 0, 0, &[&[11, 0, 0, 0, 0, 0, 0, 0][..], &sent].concat());
    let inner = parse(&error[..], 0).unwrap();
    assert!(inner.icmp_error && !inner.opens());
    assert_eq!(
        inner.tuple,
        Tuple { src: [10, 0, 0, 77], dst: [10, 0, 0, 2], sport: 53, dport: 1234, proto: proto::UDP }
    );
    assert_eq!(inner.src, [10, 0, 0, 1], "the error's own sender");
    // Of a packet that its receiver did not send: refused.
    sent[12] = 11;
    let forged = packet(proto::ICMP, 0, 0, &[&[11, 0, 0, 0, 0, 0, 0, 0][..], &sent].concat());
    assert_eq!(parse(&forged[..], 0), Err(Drop::Malformed));
}

#[test]
fn an_icmp_error_about_a_short_packet_quotes_what_there_is() {
    let error = |number, fragment, upper: &[u8]| {
        let mut sent = packet(number, fragment, 0, upper);
        sent[12..20].copy_from_slice(&[10, 0, 0, 2, 10, 0, 0, 77]);
        let error = packet(proto::ICMP, 0, 0, &[&[3, 1, 0, 0, 0, 0, 0, 0][..], &sent].concat());
        parse(&error[..], 0).map(|inner| (inner.icmp_error, inner.tuple.proto, inner.tuple.sport))
    };
    const GRE: u8 = 47;
    for many in 0..8 {
        assert_eq!(error(GRE, 0, &UDP[..many]), Ok((true, GRE, 0)), "{many} bytes");
        assert_eq!(error(proto::UDP, 185, &UDP[..many]), Ok((true, proto::UDP, 0)), "{many} bytes, a later fragment");
        for number in [proto::UDP, proto::TCP, proto::ICMP] {
            assert_eq!(error(number, 0, &UDP[..many]), Err(Drop::Malformed), "{many} bytes of {number}");
        }
    }
}
