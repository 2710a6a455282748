//! What holds for every packet.

use mizar_abi::{
    GENEVE_PORT,
    maps::Cfg,
    option::{BODY_LEN, HOPS},
    reason::Drop,
};
use mizar_packet::{
    Packet,
    arp::Arp,
    geneve, icmp, ipv4,
    option::{Body, Bound},
    path,
};
use proptest::prelude::*;

/// An IPv4 packet that is nearly right, so that parsing gets somewhere.
fn nearly_ipv4() -> impl Strategy<Value = Vec<u8>> {
    (
        prop::collection::vec(any::<u8>(), 20..200),
        prop_oneof![Just(0x45u8), Just(0x4f), 0x44..0x50u8],
        prop_oneof![Just(1u8), Just(6), Just(17), Just(132), any::<u8>()],
        prop_oneof![Just(0u16), Just(0x4000), Just(0x2000), Just(100), any::<u16>()],
        any::<bool>(),
    )
        .prop_map(|(mut bytes, first, proto, bits, honest)| {
            bytes[0] = first;
            bytes[9] = proto;
            bytes[6..8].copy_from_slice(&bits.to_be_bytes());
            if honest {
                let len = bytes.len() as u16;
                bytes[2..4].copy_from_slice(&len.to_be_bytes());
            }
            bytes
        })
}

proptest! {
    #[test]
    fn what_is_parsed_lies_within_the_packet(bytes in nearly_ipv4()) {
        if let Ok(inner) = ipv4::parse(&bytes[..], 0) {
            prop_assert!(usize::from(inner.total_len) <= bytes.len());
            prop_assert!(usize::from(inner.header_len) >= 20 && inner.header_len as u16 <= inner.total_len);
            prop_assert!(u16::from(inner.header_len) + u16::from(inner.l4_len) <= inner.total_len);
            prop_assert_eq!(&inner.src[..], &bytes[12..16]);
            let quote = icmp::quote_len(&inner);
            prop_assert!(quote <= bytes.len() && (20..=icmp::QUOTE_MAX).contains(&quote));
            if inner.icmp_error {
                prop_assert_eq!(inner.tuple.dst, inner.dst);
            } else {
                prop_assert_eq!((inner.tuple.src, inner.tuple.dst), (inner.src, inner.dst));
            }
        }
    }

    #[test]
    fn both_ends_of_a_flow_have_the_same_key_seen_from_each(bytes in nearly_ipv4(), vni in 0u32..1 << 24) {
        if let Ok(inner) = ipv4::parse(&bytes[..], 0) {
            let (sent, received) = (inner.tuple.sent(vni), inner.tuple.received(vni));
            prop_assert_eq!((sent.local, sent.lport), (received.remote, received.rport));
            prop_assert_eq!((sent.remote, sent.rport), (received.local, received.lport));
            prop_assert_eq!(sent.vni_proto, received.vni_proto);
            prop_assert_eq!(sent.vni_proto >> 8, vni);
        }
    }

    #[test]
    fn a_tail_or_another_offset_changes_nothing(bytes in nearly_ipv4(), before in prop::collection::vec(any::<u8>(), 0..40)) {
        let plain = ipv4::parse(&bytes[..], 0);
        let longer = [&bytes[..], &[0xaa; 30]].concat();
        if plain.is_ok() {
            prop_assert_eq!(ipv4::parse(&longer[..], 0), plain);
        }
        let shifted = [&before[..], &bytes[..]].concat();
        prop_assert_eq!(ipv4::parse(&shifted[..], before.len()), plain);
    }

    #[test]
    fn no_bytes_make_a_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..160), offset in 0usize..170, len in 0usize..260) {
        let _ = ipv4::parse(&bytes[..], offset);
        let _ = geneve::options(&bytes[..], offset, len);
        if let Some(header) = bytes[..].words::<18>(offset) {
            if geneve::is_ours(&header, [0; 4]) {
                prop_assert_eq!(header.short(22), GENEVE_PORT);
            }
            if let Ok(seen) = geneve::parse(&header) {
                prop_assert!(seen.options <= 252 && seen.vni < 1 << 24);
            }
        }
        if let Some(message) = bytes[..].read::<28>(offset) {
            let _ = Arp::parse(&message);
        }
    }

    #[test]
    fn only_the_signed_packet_verifies(
        fields in prop::array::uniform32(any::<u8>()),
        key: [u8; 16],
        vni in 0u32..1 << 24,
        addresses: [[u8; 4]; 3],
        proto: u8,
        byte in 0usize..BODY_LEN,
        bit in 0u8..8,
        now in 10u32..u32::MAX - 10,
    ) {
        let cfg = Cfg { key_ids: [3, 0], keys: [key, [0; 16]], ..Cfg::default() };
        let [receiver, src, dst] = addresses;
        let bound = Bound { receiver, vni, src, dst, proto };
        let mut bytes = [0; BODY_LEN];
        bytes[..32].copy_from_slice(&fields);
        let mut body = Body::from_bytes(&bytes);
        body.set_hops(HOPS);
        prop_assert!(body.sign(&cfg, now, &bound));
        prop_assert_eq!(body.verify(&cfg, now, &bound), Ok(()));
        let mut changed = body.bytes();
        changed[byte] ^= 1 << bit;
        let changed = Body::from_bytes(&changed);
        prop_assert_eq!(changed.verify(&cfg, now, &bound), Err(Drop::BadTag));
        let other = Cfg { keys: [core::array::from_fn(|i| key[i] ^ u8::from(i == byte % 16)), [0; 16]], ..cfg };
        prop_assert_eq!(body.verify(&other, now, &bound), Err(Drop::BadTag));
        for elsewhere in [
            Bound { receiver: [receiver[0] ^ 1, receiver[1], receiver[2], receiver[3]], ..bound },
            Bound { vni: vni ^ 1, ..bound },
            Bound { vni: vni ^ 0x80_0000, ..bound },
            Bound { src: dst, dst: src, ..bound },
            Bound { proto: proto ^ 0x80, ..bound },
        ] {
            if elsewhere != bound {
                prop_assert_eq!(body.verify(&cfg, now, &elsewhere), Err(Drop::BadTag));
            }
        }
    }

    #[test]
    fn the_outer_source_port_is_dynamic_and_of_the_flow(bytes in nearly_ipv4(), ttl: u8, id: u16) {
        if let Ok(mut inner) = ipv4::parse(&bytes[..], 0) {
            let hash = path::hash(&inner);
            prop_assert!(path::source_port(hash) >= path::FIRST_PORT);
            (inner.ttl, inner.id) = (ttl, id);
            prop_assert_eq!(path::hash(&inner), hash);
        }
    }
}
