//! Rules and frames as good as drawn, for properties.

use crate::{
    frame::Ip,
    policy::{Remote, Rule},
    random::Random,
    world::Port,
};

/// Ports near which something happens.
pub const PORTS: [u16; 16] =
    [0, 1, 22, 79, 80, 81, 443, 1_023, 1_024, 8_191, 8_192, 32_767, 32_768, 50_000, 65_534, 65_535];
/// Protocols.
pub const PROTOCOLS: [u8; 4] = [6, 17, 132, 47];
/// Types and codes of ICMP.
pub const MESSAGES: [u16; 6] = [0x0800, 0x0801, 0x0000, 0x0d00, 0x1100, 0xffff];
/// Prefixes that lie in each other.
const PREFIXES: [([u8; 4], u8); 9] = [
    ([0, 0, 0, 0], 0),
    ([10, 0, 0, 0], 8),
    ([10, 0, 0, 0], 24),
    ([10, 0, 0, 0], 28),
    ([10, 0, 0, 16], 28),
    ([10, 0, 0, 16], 31),
    ([10, 0, 0, 17], 32),
    ([192, 168, 0, 0], 16),
    ([192, 168, 128, 0], 17),
];

fn some_rule(r: &mut Random, sets: u32) -> Rule {
    let proto = match r.below(6) {
        0 => None,
        1 => Some(1),
        _ => Some(*r.one(&PROTOCOLS)),
    };
    let ports = match proto {
        Some(1) if r.below(3) > 0 => {
            let kind = *r.one(&MESSAGES);
            // A type with all of its codes, or one code.
            Some(if r.below(2) == 0 { (kind & 0xff00, kind | 0xff) } else { (kind, kind) })
        }
        Some(6 | 17 | 132) if r.below(4) > 0 => {
            let (a, b) = (*r.one(&PORTS), *r.one(&PORTS));
            Some((a.min(b), a.max(b)))
        }
        _ => None,
    };
    let remote = match r.below(4) {
        0 => Remote::Anybody,
        1 => {
            let (net, bits) = *r.one(&PREFIXES);
            Remote::Prefix(net, bits)
        }
        _ => Remote::Set(1 + r.below(sets)),
    };
    Rule { egress: r.below(2) == 0, proto, ports, remote }
}

/// Rules of one of so many sets, numbered from 1, about any of them.
pub fn some_rules(r: &mut Random, sets: u32) -> Vec<Rule> {
    let many = *r.one(&[0, 1, 2, 4, 9, 30]);
    (0..many).map(|_| some_rule(r, sets)).collect()
}

/// A packet of a port: mostly sound, for any of these or as if from it.
pub fn some_packet(r: &mut Random, from: &Port, ports: &[Port]) -> Ip {
    let to = r.one(ports).address;
    let sport = *r.one(&[80, 1000, 123, r.0 as u16]);
    let dport = *r.one(&[80, 1000, 123, r.0 as u16]);
    let mut ip = match r.below(6) {
        0 => Ip::tcp(from.address, to, sport, dport, r.next() as u8),
        1 => Ip::udp(from.address, to, sport, dport, &[1; 30]),
        2 => Ip::echo(from.address, to, *r.one(&[0, 8, 3, 5, 11]), *r.one(&[1000, 7])),
        3 => {
            let mut error = vec![3, 1, 0, 0, 0, 0, 0, 0];
            error.extend(Ip::tcp(to, from.address, sport, dport, 2).packet());
            Ip::new(from.address, to, 1, error)
        }
        4 => Ip::new(from.address, r.one(ports).address, r.next() as u8, vec![3; 40]),
        _ => Ip { bits: r.next() as u16 & 0x3fff, ..Ip::udp(from.address, to, sport, dport, &[1; 30]) },
    };
    if r.below(8) == 0 {
        ip.src = r.one(ports).address;
    }
    ip
}

/// A frame of a port for others: in even rounds with a few bytes changed, some cut, some with a tail.
pub fn some_frame(r: &mut Random, round: u32, from: &Port, ports: &[Port]) -> Vec<u8> {
    let mut frame = from.frame(some_packet(r, from, ports));
    if round.is_multiple_of(2) {
        for _ in 0..1 + r.below(3) {
            let at = r.below(frame.len());
            frame[at] = r.next() as u8;
        }
    }
    match r.below(20) {
        0 => frame.truncate(14 + r.below(frame.len() - 14)),
        1 => frame.extend(r.bytes(40)),
        2 => frame = r.bytes(60),
        _ => {}
    }
    frame
}
