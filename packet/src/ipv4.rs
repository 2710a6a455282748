//! IPv4 of endpoints: headers with options, fragments, ports, and ICMP with what it quotes.

use crate::{Packet, Words};
use mizar_abi::{mapped, maps::FlowKey, reason::Drop};

/// Protocol numbers.
pub mod proto {
    /// RFC 792
    pub const ICMP: u8 = 1;
    /// RFC 9293
    pub const TCP: u8 = 6;
    /// RFC 768
    pub const UDP: u8 = 17;
    /// RFC 4340; ports where UDP has them.
    pub const DCCP: u8 = 33;
    /// RFC 9260; ports where UDP has them.
    pub const SCTP: u8 = 132;
    /// RFC 3828; ports where UDP has them.
    pub const UDP_LITE: u8 = 136;
}

/// Bits of the TCP flags byte.
pub mod tcp {
    /// No more data from the sender.
    pub const FIN: u8 = 1;
    /// Opens a connection.
    pub const SYN: u8 = 2;
    /// Ends it at once.
    pub const RST: u8 = 4;
    /// The acknowledgement field counts.
    pub const ACK: u8 = 16;
}

/// Bytes of an IPv4 header without options.
pub const HEADER_LEN: usize = 20;

/// Which part of a datagram a packet is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Fragment {
    /// All of it.
    #[default]
    None = 0,
    /// The first fragment: it has the ports.
    First = 1,
    /// A later one: it has none.
    Later = 2,
}

/// What a flow is keyed by, in the direction of the packet. That of an ICMP error is the quoted
/// packet's, turned around: the error travels as a packet of that flow would.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(4))]
pub struct Tuple {
    /// Source address.
    pub src: [u8; 4],
    /// Destination address.
    pub dst: [u8; 4],
    /// Source port.
    pub sport: u16,
    /// Destination port.
    pub dport: u16,
    /// Protocol.
    pub proto: u8,
}

impl Tuple {
    /// The key at the sender's host.
    #[inline(always)]
    pub fn sent(&self, vni: u32) -> FlowKey {
        FlowKey {
            vni_proto: (vni << 8) | self.proto as u32,
            local: mapped(self.src),
            remote: mapped(self.dst),
            lport: self.sport,
            rport: self.dport,
        }
    }

    /// The key at the receiver's host.
    #[inline(always)]
    pub fn received(&self, vni: u32) -> FlowKey {
        FlowKey {
            vni_proto: (vni << 8) | self.proto as u32,
            local: mapped(self.dst),
            remote: mapped(self.src),
            lport: self.dport,
            rport: self.sport,
        }
    }
}

/// An IPv4 packet of an endpoint, its lengths checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(4))]
pub struct Inner {
    /// What its flow is keyed by.
    pub tuple: Tuple,
    /// Source address.
    pub src: [u8; 4],
    /// Destination address.
    pub dst: [u8; 4],
    /// Bytes, header included.
    pub total_len: u16,
    /// Identification.
    pub id: u16,
    /// Header checksum as it stands.
    pub checksum: u16,
    /// Bytes of the header, 20 to 60.
    pub header_len: u8,
    /// Type of service.
    pub tos: u8,
    /// Time to live.
    pub ttl: u8,
    /// Protocol.
    pub proto: u8,
    /// Which part of a datagram.
    pub fragment: Fragment,
    /// ICMP type and code, as policy judges them; 0 for other protocols.
    pub icmp: u16,
    /// TCP flags; 0 for other protocols.
    pub tcp_flags: u8,
    /// Bytes of the TCP or UDP header; 0 for other protocols.
    pub l4_len: u8,
    /// Don't Fragment.
    pub dont_fragment: bool,
    /// An ICMP error; `tuple` is the quoted packet's, turned around.
    pub icmp_error: bool,
    /// An ICMP message that is no answer: an echo, timestamp or similar question, or something that has none.
    pub icmp_request: bool,
}

impl Inner {
    /// Is it any part of a larger datagram?
    #[inline(always)]
    pub const fn is_fragment(&self) -> bool {
        !matches!(self.fragment, Fragment::None)
    }

    /// What policy judges as port: the destination's, or type and code of ICMP.
    #[inline(always)]
    pub const fn judged_port(&self) -> u16 {
        if self.proto == proto::ICMP { self.icmp } else { self.tuple.dport }
    }

    /// Does the packet open a conversation for certain: a TCP SYN without ACK, an ICMP message that is no answer?
    #[inline(always)]
    pub const fn opens(&self) -> bool {
        match self.proto {
            proto::TCP => self.tcp_flags & (tcp::SYN | tcp::ACK) == tcp::SYN,
            proto::ICMP => self.icmp_request,
            _ => false,
        }
    }
}

/// An ICMP message that has an id.
#[derive(Clone, Copy)]
struct Query {
    /// A question, else its answer.
    asks: bool,
    /// What the port that stands for the answering side is above the id, which stands for the asking
    /// one. Kinds of questions differ in it, so that each is a flow of its own and says which it is.
    /// It is never 0, or a question with id 0 in one direction would have the key of one in the
    /// other: (a, a+i) = (b+j, b) has no solution for such small i and j.
    above: u16,
}

/// What an ICMP message that is neither question nor answer has for ports: its type and code, and that much
/// above it. So each kind is a flow of its own that says which it is, and of its own in each direction:
/// (a, a+i) = (b+i, b) has no solution for this i either.
const ONE_WAY: u16 = 0x4000;

/// Type and code of a message with these ports, its sender's first: of a question, of its answer, or of what is
/// neither. The ports of an answer do not tell its code.
#[inline(always)]
pub const fn message(sport: u16, dport: u16) -> Option<u16> {
    const ANSWERS: u16 = 5_u16.wrapping_neg();
    let above = dport.wrapping_sub(sport);
    Some(match above {
        1 => 8 << 8,
        2 => 13 << 8,
        3 => 15 << 8,
        4 => 17 << 8,
        5 => 42 << 8,
        ONE_WAY => sport,
        ANSWERS.. => match above.wrapping_neg() {
            1 => 0,
            2 => 14 << 8,
            3 => 16 << 8,
            4 => 18 << 8,
            _ => 43 << 8,
        },
        _ => return None,
    })
}

/// Is an ICMP message of this type and code a question or an answer? What has another code than the
/// protocol gives it is no part of the conversation that was judged by its first question.
#[inline(always)]
const fn query(kind: u16) -> Option<Query> {
    let (asks, above) = match kind {
        0x0800 => (true, 1),
        0x0000 => (false, 1),
        0x0d00 => (true, 2),
        0x0e00 => (false, 2),
        0x0f00 => (true, 3),
        0x1000 => (false, 3),
        0x1100 => (true, 4),
        0x1200 => (false, 4),
        // RFC 8335; the answer's code says what was found.
        0x2a00 => (true, 5),
        0x2b00..=0x2b04 => (false, 5),
        _ => return None,
    };
    Some(Query { asks, above })
}

#[inline(always)]
const fn has_ports(number: u8) -> bool {
    matches!(number, proto::TCP | proto::UDP | proto::DCCP | proto::SCTP | proto::UDP_LITE)
}

/// The two ports of the first 8 bytes of a transport header.
#[inline(always)]
fn ports_of(number: u8, l4: &Words<4>) -> (u16, u16) {
    if has_ports(number) {
        return (l4.short(0), l4.short(2));
    }
    if number != proto::ICMP {
        return (0, 0);
    }
    let (kind, id) = (l4.short(0), l4.short(4));
    match query(kind) {
        Some(Query { asks: true, above }) => (id, id.wrapping_add(above)),
        Some(Query { asks: false, above }) => (id.wrapping_add(above), id),
        None => (kind, kind.wrapping_add(ONE_WAY)),
    }
}

/// Reads the IPv4 packet at `offset`.
#[inline(always)]
pub fn parse<P: Packet + ?Sized>(packet: &P, offset: usize) -> Result<Inner, Drop> {
    let header = packet.words(offset).ok_or(Drop::Malformed)?;
    parse_with_header(packet, offset, &header)
}

/// The same, with the header's first 20 bytes read already.
#[inline(always)]
pub fn parse_with_header<P: Packet + ?Sized>(
    packet: &P,
    offset: usize,
    header: &Words<{ HEADER_LEN / 2 }>,
) -> Result<Inner, Drop> {
    let header_len = (header.byte(0) & 0x0f) * 4;
    let total_len = header.short(2);
    if header.byte(0) >> 4 != 4
        || (header_len as usize) < HEADER_LEN
        || total_len < header_len as u16
        || offset + total_len as usize > packet.length()
    {
        return Err(Drop::Malformed);
    }
    let bits = header.short(6);
    let mut inner = Inner {
        src: header.four(12),
        dst: header.four(16),
        total_len,
        id: header.short(4),
        checksum: header.short(10),
        header_len,
        tos: header.byte(1),
        ttl: header.byte(8),
        proto: header.byte(9),
        fragment: match (bits & 0x1fff, bits & 0x2000) {
            (0, 0) => Fragment::None,
            (0, _) => Fragment::First,
            _ => Fragment::Later,
        },
        dont_fragment: bits & 0x4000 != 0,
        ..Inner::default()
    };
    inner.tuple = Tuple { src: inner.src, dst: inner.dst, proto: inner.proto, sport: 0, dport: 0 };
    if matches!(inner.fragment, Fragment::Later) {
        // RFC 3128: a fragment at offset 1 would overwrite the TCP flags that were judged.
        return if inner.proto == proto::TCP && bits & 0x1fff == 1 { Err(Drop::Malformed) } else { Ok(inner) };
    }
    let room = total_len - header_len as u16;
    let at = offset + header_len as usize;
    if inner.proto == proto::TCP {
        // The whole header, so that no later fragment holds the flags (RFC 1858).
        if room < 20 {
            return Err(Drop::Malformed);
        }
        let l4: Words<7> = packet.words(at).ok_or(Drop::Malformed)?;
        inner.tuple.sport = l4.short(0);
        inner.tuple.dport = l4.short(2);
        inner.tcp_flags = l4.byte(13);
        inner.l4_len = (l4.byte(12) >> 4) * 4;
        return if inner.l4_len < 20 || room < inner.l4_len as u16 { Err(Drop::Malformed) } else { Ok(inner) };
    }
    if !has_ports(inner.proto) && inner.proto != proto::ICMP {
        return Ok(inner);
    }
    if room < 8 {
        return Err(Drop::Malformed);
    }
    let l4: Words<4> = packet.words(at).ok_or(Drop::Malformed)?;
    if inner.proto == proto::ICMP {
        if matches!(l4.byte(0), 3 | 4 | 5 | 11 | 12) {
            return quoted(packet, at + 8, room - 8, inner);
        }
        inner.icmp = l4.short(0);
        inner.icmp_request = !matches!(query(inner.icmp), Some(query) if !query.asks);
    } else {
        inner.l4_len = 8;
    }
    (inner.tuple.sport, inner.tuple.dport) = ports_of(inner.proto, &l4);
    Ok(inner)
}

/// Takes the tuple of an ICMP error from the packet that it quotes (RFC 792: the header and 8 bytes,
/// which not every packet has), which the error's receiver must have sent. Of what shows ports these
/// bytes are needed.
#[inline(always)]
fn quoted<P: Packet + ?Sized>(packet: &P, offset: usize, room: u16, mut inner: Inner) -> Result<Inner, Drop> {
    let header: Words<{ HEADER_LEN / 2 }> = packet.words(offset).ok_or(Drop::Malformed)?;
    let header_len = (header.byte(0) & 0x0f) * 4;
    let (sender, number) = (header.four(12), header.byte(9));
    // A later fragment shows no ports: its flow cannot be told, and no flow has port 0 by chance.
    let shows_ports = header.short(6) & 0x1fff == 0 && (has_ports(number) || number == proto::ICMP);
    if header.byte(0) >> 4 != 4
        || (header_len as usize) < HEADER_LEN
        || room < header_len as u16 + if shows_ports { 8 } else { 0 }
        || sender != inner.dst
    {
        return Err(Drop::Malformed);
    }
    let mut tuple = Tuple { src: header.four(16), dst: sender, proto: number, sport: 0, dport: 0 };
    if shows_ports {
        let l4: Words<4> = packet.words(offset + header_len as usize).ok_or(Drop::Malformed)?;
        (tuple.dport, tuple.sport) = ports_of(tuple.proto, &l4);
    }
    inner.tuple = tuple;
    inner.icmp_error = true;
    Ok(inner)
}

#[cfg(test)]
#[path = "ipv4_tests.rs"]
mod tests;
