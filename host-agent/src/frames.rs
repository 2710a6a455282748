//! Frames that the agent makes itself: Ethernet, IPv4 and UDP around a payload.

use std::net::Ipv4Addr;

/// EtherType of IPv4.
const IPV4: [u8; 2] = [0x08, 0x00];
/// Bytes of an Ethernet header.
const ETH_LEN: usize = 14;
/// Bytes of an IPv4 header without options.
const IP_LEN: usize = 20;
/// Bytes of a UDP header.
const UDP_LEN: usize = 8;

/// Where a UDP datagram comes from and goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Path {
    /// Source and destination MAC.
    pub macs: ([u8; 6], [u8; 6]),
    /// Source and destination address.
    pub addresses: (Ipv4Addr, Ipv4Addr),
    /// Source and destination port.
    pub ports: (u16, u16),
}

/// The Internet checksum (RFC 1071).
fn checksum(parts: &[&[u8]]) -> u16 {
    let mut sum = 0u32;
    for part in parts {
        for pair in part.chunks(2) {
            sum += u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// A frame with a UDP datagram. The payload's length must fit one.
pub fn udp(path: &Path, payload: &[u8]) -> Vec<u8> {
    let udp_len = (UDP_LEN + payload.len()) as u16;
    let (source, destination) = (path.addresses.0.octets(), path.addresses.1.octets());
    let mut ip = [0u8; IP_LEN];
    ip[0] = 0x45;
    ip[2..4].copy_from_slice(&(IP_LEN as u16 + udp_len).to_be_bytes());
    ip[6] = 0x40;
    ip[8] = 64;
    ip[9] = 17;
    ip[12..16].copy_from_slice(&source);
    ip[16..20].copy_from_slice(&destination);
    let sum = checksum(&[&ip]);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());

    let mut udp = [0u8; UDP_LEN];
    udp[0..2].copy_from_slice(&path.ports.0.to_be_bytes());
    udp[2..4].copy_from_slice(&path.ports.1.to_be_bytes());
    udp[4..6].copy_from_slice(&udp_len.to_be_bytes());
    let sum = match checksum(&[&source, &destination, &[0, 17], &udp_len.to_be_bytes(), &udp, payload]) {
        // Zero would mean that there is none (RFC 768).
        0 => 0xffff,
        sum => sum,
    };
    udp[6..8].copy_from_slice(&sum.to_be_bytes());
    [path.macs.1.as_slice(), &path.macs.0, &IPV4, &ip, &udp, payload].concat()
}

/// Takes a frame apart; `None` if it is not a whole, unfragmented UDP datagram over IPv4. What
/// the kernel cut off at the end is missing from the payload. Checksums are not looked at: an
/// endpoint leaves them to a device that there is not.
pub fn parse_udp(frame: &[u8]) -> Option<(Path, &[u8])> {
    let (eth, packet) = frame.split_first_chunk::<ETH_LEN>()?;
    let ip = packet.first_chunk::<IP_LEN>()?;
    let header_len = usize::from(ip[0] & 0xf) * 4;
    let total_len = usize::from(u16::from_be_bytes([ip[2], ip[3]]));
    let is_whole = u16::from_be_bytes([ip[6], ip[7]]) & 0x3fff == 0;
    if eth[12..] != IPV4 || ip[0] >> 4 != 4 || header_len < IP_LEN || ip[9] != 17 || !is_whole {
        return None;
    }
    let packet = &packet[..packet.len().min(total_len)];
    let (udp, payload) = packet.get(header_len..)?.split_first_chunk::<UDP_LEN>()?;
    let udp_len = usize::from(u16::from_be_bytes([udp[4], udp[5]]));
    let payload = &payload[..payload.len().min(udp_len.checked_sub(UDP_LEN)?)];
    let mac = |at: usize| <[u8; 6]>::try_from(&eth[at..at + 6]).ok();
    let address = |at: usize| Ipv4Addr::new(ip[at], ip[at + 1], ip[at + 2], ip[at + 3]);
    let port = |at: usize| u16::from_be_bytes([udp[at], udp[at + 1]]);
    let path = Path { macs: (mac(6)?, mac(0)?), addresses: (address(12), address(16)), ports: (port(0), port(2)) };
    Some((path, payload))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: Path = Path {
        macs: ([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]),
        addresses: (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2)),
        ports: (67, 68),
    };

    #[test]
    fn a_frame_parses_as_it_was_built_and_its_checksums_are_right() {
        let frame = udp(&PATH, b"odd");
        assert_eq!(parse_udp(&frame), Some((PATH, b"odd".as_slice())));
        assert_eq!(checksum(&[&frame[14..34]]), 0);
        assert_eq!(checksum(&[&frame[26..34], &[0, 17, 0, 11], &frame[34..]]), 0);
    }

    #[test]
    fn frames_cut_anywhere_or_of_other_kinds_are_no_datagrams_and_no_panic() {
        let frame = udp(&PATH, b"payload");
        for len in 0..frame.len() {
            let parsed = parse_udp(&frame[..len]);
            assert!(parsed.is_none_or(|(path, payload)| path == PATH && b"payload".starts_with(payload)), "{len}");
        }
        for (at, value) in [(12, 0x86), (14, 0x65), (14, 0x41), (20, 0x20), (23, 6), (39, 3)] {
            let mut other = frame.clone();
            other[at] = value;
            assert_eq!(parse_udp(&other), None, "byte {at}");
        }
    }
}
