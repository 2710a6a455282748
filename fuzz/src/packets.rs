//! Frames as they come off the underlay, and as endpoints send them.

use mizar_abi::{
    GENEVE_PORT,
    maps::Cfg,
    option::{BODY_LEN, FRAG_LEN},
};
use mizar_packet::{
    ETH_LEN, Packet,
    arp::Arp,
    checksum, geneve,
    icmp::{self, QUOTE_MAX},
    ipv4,
    option::{Body, Bound},
    path,
};

/// Bytes of the outer headers after the Ethernet header: IPv4, UDP, GENEVE.
const OUTER_LEN: usize = 36;
/// Bytes of the signed option's own header.
const OPTION_HEAD: usize = 4;

pub fn run(frame: &[u8]) {
    sent(frame, ETH_LEN);
    arrived(frame);
}

/// What stands at `offset` as the packet of an endpoint.
fn sent(frame: &[u8], offset: usize) {
    if let Some(message) = frame.read(offset)
        && let Some(arp) = Arp::parse(&message)
    {
        assert!(!(arp.announces() && arp.probes()), "{arp:?} is of nobody and of somebody");
        let answer = arp.answer();
        let read = answer[ETH_LEN..].first_chunk().and_then(Arp::parse);
        assert_eq!(read.map(|read| read.target), Some(arp.sender), "the answer to {arp:?}");
    }
    let Ok(inner) = ipv4::parse(frame, offset) else { return };
    let (header, total) = (usize::from(inner.header_len), usize::from(inner.total_len));
    assert!(header >= 20 && header <= total && offset + total <= frame.len(), "{inner:?} ends with its packet");
    assert!(header + usize::from(inner.l4_len) <= total, "{inner:?}: its upper header is in it");
    let quote = icmp::quote_len(&inner);
    assert!((20..=QUOTE_MAX).contains(&quote) && quote <= total, "{inner:?}: {quote} bytes quoted");
    assert!(path::source_port(path::hash(&inner)) >= path::FIRST_PORT);
    // What follows a packet is not of it, wherever it stands.
    let alone = ipv4::parse(&frame[offset..offset + total], 0);
    assert_eq!(alone, Ok(inner), "by itself");
    let (ours, theirs) = (inner.tuple.sent(7), inner.tuple.received(7));
    assert_eq!(
        (ours.local, ours.lport, ours.remote, ours.rport),
        (theirs.remote, theirs.rport, theirs.local, theirs.lport)
    );
    assert_eq!(inner.judged_port(), ipv4::parse(frame, offset).map(|again| again.judged_port()).unwrap_or_default());
    if icmp::may_answer(&inner) {
        let mut quoted = [0; QUOTE_MAX];
        quoted[..quote].copy_from_slice(&frame[offset..offset + quote]);
        let error = icmp::error(icmp::Error::HostUnreachable, [10, 0, 0, 1], inner.src, &quoted, quote);
        let header: &[u8; 20] = error.first_chunk().expect("an error has a header");
        assert_eq!(checksum::finish(checksum::sum(header)), 0, "an error's own header adds up");
        let whole = [&error[..], &quoted[..quote]].concat();
        let seen = ipv4::parse(&whole[..], 0);
        assert!(seen.is_ok_and(|seen| seen.icmp_error), "an error about {inner:?} is seen as one");
    }
}

/// The frame as one of another host.
fn arrived(frame: &[u8]) {
    let Some(header) = frame.words(ETH_LEN) else { return };
    let host = header.four(16);
    if geneve::is_ours(&header, host) {
        assert_eq!(header.short(22), GENEVE_PORT);
    }
    let Ok(seen) = geneve::parse(&header) else { return };
    assert!(seen.options <= 252 && seen.options % 4 == 0 && seen.vni < 1 << 24, "{seen:?}");
    if seen.lengths_agree(frame.len() - ETH_LEN) {
        assert!(ETH_LEN + OUTER_LEN + seen.options <= frame.len(), "{seen:?}: its options are in the frame");
    }
    let start = ETH_LEN + OUTER_LEN;
    let Ok(found) = geneve::options(frame, start, seen.options) else { return };
    for (at, long) in [(found.signed, OPTION_HEAD + BODY_LEN), (found.fragment, FRAG_LEN)] {
        assert!(at == 0 || at - 1 + long <= seen.options, "{found:?} of {seen:?}");
    }
    if found.signed != 0
        && let Some(bytes) = frame.read::<BODY_LEN>(start + found.signed - 1 + OPTION_HEAD)
    {
        signed(&bytes, host, seen.vni);
    }
    sent(frame, start + seen.options + ETH_LEN);
}

/// What is signed verifies, and as it was signed alone. That nobody else makes such a tag is not for a fuzzer to
/// say: it reads the right one where the two are compared.
fn signed(bytes: &[u8; BODY_LEN], receiver: [u8; 4], vni: u32) {
    let mut body = Body::from_bytes(bytes);
    assert_eq!(body.bytes(), *bytes, "a body is its bytes");
    let cfg = Cfg { key_ids: [3, 0], keys: [*b"a key of nobody.", [0; 16]], ..Cfg::default() };
    let bound = Bound { receiver, vni, src: [10, 0, 0, 1], dst: [10, 0, 0, 2], proto: 6 };
    let now = body.stamp().clamp(10, u32::MAX - 10);
    if body.sign(&cfg, now, &bound) {
        assert_eq!(body.verify(&cfg, now, &bound), Ok(()), "{body:?}");
        assert!(body.verify(&cfg, now, &Bound { vni: vni ^ 1, ..bound }).is_err(), "{body:?} in another network");
        let mut bent = body.bytes();
        let bit = bytes.iter().fold(0, |sum, byte| (sum * 31 + usize::from(*byte)) % 65_521) % (8 * BODY_LEN);
        bent[bit / 8] ^= 1 << (bit % 8);
        assert!(Body::from_bytes(&bent).verify(&cfg, now, &bound).is_err(), "{body:?} with bit {bit} turned");
    }
}

/// Two frames of an endpoint, and one of a host with all options.
pub fn seeds() -> Vec<Vec<u8>> {
    let eth = [&[2; 12][..], &[8, 0]].concat();
    let ip = |proto: u8, upper: &[u8]| {
        let total = (20 + upper.len()) as u16;
        let mut header = [0x45, 0, 0, 0, 0, 1, 0x40, 0, 64, proto, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
        header[2..4].copy_from_slice(&total.to_be_bytes());
        [&header[..], upper].concat()
    };
    let tcp = ip(6, &[0x30, 0x39, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0]);
    let udp = ip(17, &[0x30, 0x39, 0, 53, 0, 12, 0, 0, 1, 2, 3, 4]);
    let error = ip(1, &[&[3, 1, 0, 0, 0, 0, 0, 0][..], &udp].concat());
    let inner = |packet: &[u8]| [&eth[..], packet].concat();
    let option = |kind: u8, body: &[u8]| [&[0xff, 1, kind, (body.len() / 4) as u8][..], body].concat();
    let options = [option(0x81, &[1; BODY_LEN]), option(2, &[0, 80, 0, 81])].concat();
    let within = [&[(options.len() / 4) as u8, 0, 0x65, 0x58, 0, 0, 7, 0][..], &options, &inner(&tcp)].concat();
    let geneve = [&[0xc0, 0, 0x17, 0xc1][..], &((8 + within.len()) as u16).to_be_bytes(), &[0, 0], &within].concat();
    vec![inner(&tcp), inner(&udp), inner(&error), inner(&ip(17, &geneve))]
}
