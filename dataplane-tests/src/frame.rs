//! Frames of endpoints, written and read independently of `mizar_packet`; and forged signed ones,
//! for which the real signature is needed.

use mizar_abi::{
    maps::Cfg,
    option::{CLASS, FRAG_LEN, Kind, TYPE_FRAG},
};
use mizar_packet::{
    geneve::{Outer, SIGNED_OPTION},
    ipv4::{self, Tuple},
    option::{Body, Bound},
};

/// MAC that endpoints send to.
pub const ROUTER: [u8; 6] = mizar_abi::VIRTUAL_MAC;

/// Internet checksum.
pub fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes.chunks(2).map(|c| u32::from(c[0]) << 8 | u32::from(*c.get(1).unwrap_or(&0))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// An IPv4 packet to be sent by an endpoint.
#[derive(Clone, Debug)]
pub struct Ip {
    /// Source MAC.
    pub mac: [u8; 6],
    /// Source.
    pub src: [u8; 4],
    /// Destination.
    pub dst: [u8; 4],
    /// Time to live.
    pub ttl: u8,
    /// Protocol.
    pub proto: u8,
    /// Type of service.
    pub tos: u8,
    /// Identification.
    pub id: u16,
    /// Flags and fragment offset.
    pub bits: u16,
    /// IPv4 options, a multiple of 4 bytes.
    pub options: Vec<u8>,
    /// What follows.
    pub payload: Vec<u8>,
}

impl Ip {
    /// A TCP segment without payload, with these flags.
    pub fn tcp(src: [u8; 4], dst: [u8; 4], sport: u16, dport: u16, flags: u8) -> Self {
        let mut l4 = vec![0; 20];
        l4[..2].copy_from_slice(&sport.to_be_bytes());
        l4[2..4].copy_from_slice(&dport.to_be_bytes());
        l4[12] = 5 << 4;
        l4[13] = flags;
        Self::new(src, dst, 6, l4)
    }

    /// An ICMP error of whoever got this: port unreachable.
    pub fn unreachable(of: &Self) -> Self {
        let mut l4 = vec![3, 3, 0, 0, 0, 0, 0, 0];
        l4.extend_from_slice(&of.packet()[..28]);
        let sum = checksum(&l4);
        l4[2..4].copy_from_slice(&sum.to_be_bytes());
        Self::new(of.dst, of.src, 1, l4)
    }

    /// A UDP datagram.
    pub fn udp(src: [u8; 4], dst: [u8; 4], sport: u16, dport: u16, payload: &[u8]) -> Self {
        let mut l4 = Vec::new();
        for word in [sport, dport, (8 + payload.len()) as u16, 0] {
            l4.extend_from_slice(&word.to_be_bytes());
        }
        l4.extend_from_slice(payload);
        Self::new(src, dst, 17, l4)
    }

    /// An ICMP message of type 8 (request) or 0 (reply).
    pub fn echo(src: [u8; 4], dst: [u8; 4], kind: u8, id: u16) -> Self {
        let mut l4 = vec![kind, 0, 0, 0];
        l4.extend_from_slice(&id.to_be_bytes());
        l4.extend_from_slice(&[0, 1]);
        l4.extend_from_slice(&[0x61; 48]);
        let sum = checksum(&l4);
        l4[2..4].copy_from_slice(&sum.to_be_bytes());
        Self::new(src, dst, 1, l4)
    }

    /// Any protocol.
    pub fn new(src: [u8; 4], dst: [u8; 4], proto: u8, payload: Vec<u8>) -> Self {
        Self { mac: [0; 6], src, dst, ttl: 64, proto, tos: 0, id: 1, bits: 0x4000, options: Vec::new(), payload }
    }

    /// Without Ethernet.
    pub fn packet(&self) -> Vec<u8> {
        let header_len = 20 + self.options.len();
        let mut p = vec![0x40 | (header_len / 4) as u8, self.tos];
        p.extend_from_slice(&((header_len + self.payload.len()) as u16).to_be_bytes());
        p.extend_from_slice(&self.id.to_be_bytes());
        p.extend_from_slice(&self.bits.to_be_bytes());
        p.extend_from_slice(&[self.ttl, self.proto, 0, 0]);
        p.extend_from_slice(&self.src);
        p.extend_from_slice(&self.dst);
        p.extend_from_slice(&self.options);
        let sum = checksum(&p);
        p[10..12].copy_from_slice(&sum.to_be_bytes());
        p.extend_from_slice(&self.payload);
        p
    }

    /// With Ethernet.
    pub fn frame(&self) -> Vec<u8> {
        let mut frame = [ROUTER, self.mac].concat();
        frame.extend_from_slice(&[8, 0]);
        frame.extend_from_slice(&self.packet());
        frame
    }
}

/// An ARP question.
pub fn arp_request(mac: [u8; 6], sender: [u8; 4], target: [u8; 4]) -> Vec<u8> {
    let mut frame = [[0xff; 6], mac].concat();
    frame.extend_from_slice(&[8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend_from_slice(&mac);
    frame.extend_from_slice(&sender);
    frame.extend_from_slice(&[0; 6]);
    frame.extend_from_slice(&target);
    frame
}

/// Offsets in an encapsulated frame.
pub mod at {
    /// Outer IPv4.
    pub const IP: usize = 14;
    /// Outer UDP.
    pub const UDP: usize = 34;
    /// Geneve.
    pub const GENEVE: usize = 42;
    /// Options.
    pub const OPTIONS: usize = 50;
    /// Body of the signed option, where it is.
    pub const BODY: usize = 54;
}

/// Four bytes.
pub fn four(frame: &[u8], at: usize) -> [u8; 4] {
    frame[at..at + 4].try_into().expect("four bytes")
}

/// Is it Geneve to port 6081?
pub fn is_encapsulated(frame: &[u8]) -> bool {
    frame.len() >= 50 && frame[12..14] == [8, 0] && frame[23] == 17 && frame[36..38] == [0x17, 0xc1]
}

/// Outer destination, and the inner frame.
pub fn split(frame: &[u8]) -> ([u8; 4], &[u8]) {
    let options = usize::from(frame[at::GENEVE] & 0x3f) * 4;
    (four(frame, 30), &frame[at::OPTIONS + options..])
}

/// Checks the outer headers for what every receiver on the underlay may expect.
pub fn assert_outer_is_sound(frame: &[u8]) {
    assert_eq!(checksum(&frame[14..34]), 0, "outer IPv4 checksum");
    let total = usize::from(u16::from_be_bytes([frame[16], frame[17]]));
    assert_eq!(total, frame.len() - 14, "outer IPv4 length");
    assert_eq!(usize::from(u16::from_be_bytes([frame[38], frame[39]])), total - 20, "outer UDP length");
    assert_eq!(frame[20] & 0x40, 0x40, "outer DF");
    assert_eq!(frame[22], 64, "outer TTL");
    assert!(u16::from_be_bytes([frame[34], frame[35]]) >= 49_152, "outer source port");
}

/// An encapsulated frame with the signed option: its body.
pub fn body(frame: &[u8]) -> Body {
    assert_eq!(frame[at::OPTIONS..at::BODY], SIGNED_OPTION, "the signed option");
    Body::from_bytes(frame[at::BODY..at::BODY + 48].try_into().expect("48 bytes"))
}

/// The tests' key.
fn keys() -> Cfg {
    Cfg { key_ids: [1, 0], keys: [crate::world::KEY, [0; 16]], ..Cfg::default() }
}

/// What a tag covers beside the body. A control packet about a flow has headers that name it, from `inner` on.
fn bound(frame: &[u8], inner: usize) -> Bound {
    let mut bound = Bound { receiver: four(frame, 30), vni: vni(frame), ..Bound::default() };
    if frame.len() > inner {
        bound.src = four(frame, inner + 12);
        bound.dst = four(frame, inner + 16);
        bound.proto = frame[inner + 9];
    }
    bound
}

/// The VNI of an encapsulated frame.
pub fn vni(frame: &[u8]) -> u32 {
    u32::from_be_bytes([0, frame[46], frame[47], frame[48]])
}

/// Writes a body back, signed with the tests' key for the frame's outer destination, as a host
/// that knows the key would. This is how a test forges everything but the tag.
pub fn sign(frame: &mut [u8], mut body: Body, utc: u32) {
    assert!(body.sign(&keys(), utc, &bound(frame, at::BODY + 48 + 14)));
    frame[at::BODY..at::BODY + 48].copy_from_slice(&body.bytes());
}

/// Where the inner packet of a frame of the underlay stands, if it has one.
fn inner_at(frame: &[u8]) -> Option<usize> {
    let inner = at::OPTIONS + usize::from(*frame.get(at::GENEVE)? & 0x3f) * 4 + 14;
    (frame.len() >= inner + 20).then_some(inner)
}

/// Does a frame that carries a packet bear a tag of the tests' key which holds now?
pub fn is_signed(frame: &[u8], utc: u32) -> bool {
    let Some(inner) = inner_at(frame) else { return false };
    inner >= at::BODY + 48 + 14
        && frame[at::OPTIONS..at::BODY] == SIGNED_OPTION
        && body(frame).verify(&keys(), utc, &bound(frame, inner)).is_ok()
}

/// The flow of the packet that a frame of the underlay carries, in its direction.
pub fn carried(frame: &[u8]) -> Option<Tuple> {
    let inner = inner_at(frame)?;
    let packet = ipv4::parse(frame, inner).ok()?;
    let mut tuple = packet.tuple;
    // A later fragment brings its ports along.
    let ([high, low], option) = (CLASS.to_be_bytes(), &frame[at::OPTIONS..inner]);
    if packet.fragment == ipv4::Fragment::Later
        && option.len() >= FRAG_LEN + 14
        && option[..3] == [high, low, TYPE_FRAG]
    {
        let port = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
        (tuple.sport, tuple.dport) = (port(at::OPTIONS + 4), port(at::OPTIONS + 6));
    }
    Some(tuple)
}

/// Sets the outer addresses, and the checksum with them.
pub fn set_outer(frame: &mut [u8], src: [u8; 4], dst: [u8; 4]) {
    frame[26..30].copy_from_slice(&src);
    frame[30..34].copy_from_slice(&dst);
    frame[24..26].copy_from_slice(&[0, 0]);
    let sum = checksum(&frame[14..34]);
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
}

/// A control packet without a frame, signed.
pub fn control(kind: Kind, src: [u8; 4], dst: [u8; 4], cookie: u32, utc: u32) -> Vec<u8> {
    let mut frame = vec![0u8; 14];
    frame[12] = 8;
    let outer = Outer { src, dst, tos: 0, source_port: 50_000, vni: 0, options: 52, frame: 0 };
    frame.extend_from_slice(&outer.bytes());
    frame.extend_from_slice(&SIGNED_OPTION);
    frame.extend_from_slice(&[0; 48]);
    let mut body = Body::default();
    body.set_kind(kind);
    body.set_origin(src);
    body.set_cookie(cookie);
    sign(&mut frame, body, utc);
    frame
}

/// What the agent sends for an endpoint that only receives: ACK with the headers of a packet of the
/// flow, and nothing to deliver.
pub fn acknowledgement(src: [u8; 4], dst: [u8; 4], vni: u32, inner: &Ip, body: Body, utc: u32) -> Vec<u8> {
    about_flow(Kind::Ack, src, dst, vni, inner, body, utc)
}

/// Any control packet that names a flow.
pub fn about_flow(kind: Kind, src: [u8; 4], dst: [u8; 4], vni: u32, inner: &Ip, mut body: Body, utc: u32) -> Vec<u8> {
    let mut frame = vec![0u8; 14];
    frame[12] = 8;
    let outer = Outer { src, dst, tos: 0, source_port: 50_000, vni, options: 52, frame: 0 };
    frame.extend_from_slice(&outer.bytes());
    frame.extend_from_slice(&SIGNED_OPTION);
    frame.extend_from_slice(&[0; 48]);
    frame.extend_from_slice(&inner.frame()[..34]);
    // The outer headers were written for a packet that ends at the option.
    let (total, udp) = (frame.len() as u16 - 14, frame.len() as u16 - 34);
    frame[16..18].copy_from_slice(&total.to_be_bytes());
    frame[38..40].copy_from_slice(&udp.to_be_bytes());
    set_outer(&mut frame, src, dst);
    body.set_kind(kind);
    body.set_origin(src);
    sign(&mut frame, body, utc);
    frame
}

/// The parts of an ICMP error that an endpoint got: type, code, second word, source, quote.
pub fn icmp_error(frame: &[u8]) -> (u8, u8, u32, [u8; 4], &[u8]) {
    assert_eq!(frame[23], 1, "ICMP");
    assert_eq!(checksum(&frame[14..34]), 0, "IPv4 checksum of the error");
    assert_eq!(checksum(&frame[34..]), 0, "ICMP checksum of the error");
    assert_eq!(usize::from(u16::from_be_bytes([frame[16], frame[17]])), frame.len() - 14);
    (frame[34], frame[35], u32::from_be_bytes(four(frame, 38)), four(frame, 26), &frame[42..])
}
