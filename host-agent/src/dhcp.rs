//! DHCPv4 for endpoints (RFC 2131, 2132, 3442): a question's frame and a port to an answer's.
//!
//! The lease is the port's own address, so there is nothing to remember: the same question always
//! gets the same answer, from whichever host the port is on. The server is the subnet's gateway
//! (no address is used up), or 169.254.169.254 where there is none; an endpoint that moves finds
//! the same server.

use crate::frames::{Path, parse_udp, udp};
use dhcproto::v4::{DhcpOption, HType, Message, MessageType, Opcode, OptionCode};
use dhcproto::{Decodable as _, Decoder, Encodable as _, Encoder};
use ipnet::{IpNet, Ipv4Net};
use mizar_plan::Endpoint;
use std::net::{IpAddr, Ipv4Addr};

/// Ports of server and client.
const PORTS: (u16, u16) = (67, 68);
/// Who answers in a subnet without a gateway.
const NO_GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
/// Seconds of a lease: a day, as Neutron's. It never runs out while the port exists.
const LEASE_S: u32 = 86_400;
/// Shorter messages are padded: BOOTP's length, on which old clients insist.
const LEAST: usize = 300;
/// Bytes that every client takes (RFC 2131: datagrams of 576), without IP and UDP headers.
const MOST: usize = 576 - 28;

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Silence {
    /// The port's subnets have no DHCP, or it has no IPv4 address.
    #[error("the port has no lease")]
    NoLease,
    /// The frame, or the message in it, is malformed.
    #[error("malformed: {0}")]
    Malformed(String),
    /// It is not the port's question: another MAC, a relay, an answer, another server's.
    #[error("not for this server: {0}")]
    NotOurs(&'static str),
    /// A message that wants no answer.
    #[error("{0} wants no answer")]
    NoAnswer(&'static str),
}

/// What a port is told.
struct Lease<'a> {
    endpoint: &'a Endpoint,
    address: Ipv4Net,
    server: Ipv4Addr,
}

fn only_v4(ip: IpAddr) -> Option<Ipv4Addr> {
    match ip {
        IpAddr::V4(ip) => Some(ip),
        IpAddr::V6(_) => None,
    }
}

/// Bytes before the options: BOOTP's header and the magic number.
const HEADER: usize = 240;
/// The options that are read: address, kind, server, size, client identifier.
const READ: [u8; 5] = [50, 53, 54, 57, 61];

/// A question with nothing but the options that are read. The decoder asserts what clients may
/// violate in some others (81, 94, 151 to 155), and an endpoint must not end the agent.
fn essential(payload: &[u8]) -> Option<Vec<u8>> {
    let (header, mut options) = payload.split_at_checked(HEADER)?;
    let mut bytes = header.to_vec();
    while let Some((code, rest)) = options.split_first() {
        match *code {
            0 => options = rest,
            255 => break,
            code => {
                let (len, rest) = rest.split_first()?;
                let (value, rest) = rest.split_at_checked(usize::from(*len))?;
                if READ.contains(&code) {
                    bytes.extend([code, *len]);
                    bytes.extend_from_slice(value);
                }
                options = rest;
            }
        }
    }
    bytes.push(255);
    Some(bytes)
}

/// Answers a question.
pub fn answer(endpoint: &Endpoint, frame: &[u8]) -> Result<Vec<u8>, Silence> {
    let Some(IpNet::V4(address)) = endpoint.dhcp else { return Err(Silence::NoLease) };
    let malformed = |what: &str| Silence::Malformed(what.to_owned());
    let (path, payload) = parse_udp(frame).ok_or_else(|| malformed("no UDP datagram"))?;
    if (path.ports.1, path.ports.0) != PORTS {
        return Err(Silence::NotOurs("other UDP ports"));
    }
    let payload = essential(payload).ok_or_else(|| malformed("options do not end"))?;
    let question = Message::decode(&mut Decoder::new(&payload)).map_err(|e| Silence::Malformed(e.to_string()))?;
    if question.opcode() != Opcode::BootRequest {
        return Err(Silence::NotOurs("not a request"));
    }
    if question.htype() != HType::Eth || question.hlen() != 6 {
        return Err(malformed("not an Ethernet client"));
    }
    if question.chaddr() != endpoint.mac {
        return Err(Silence::NotOurs("another client's MAC"));
    }
    if !question.giaddr().is_unspecified() {
        return Err(Silence::NotOurs("through a relay"));
    }
    let server = endpoint.gateway.and_then(only_v4).unwrap_or(NO_GATEWAY);
    let lease = Lease { endpoint, address, server };
    let kind = lease.kind_of_answer(&question)?;
    let message = lease.message(&question, kind)?;
    Ok(lease.frame(&question, kind, &message))
}

impl Lease<'_> {
    /// RFC 2131, 4.3.
    fn kind_of_answer(&self, question: &Message) -> Result<MessageType, Silence> {
        let ours = self.address.addr();
        let server = match question.opts().get(OptionCode::ServerIdentifier) {
            Some(DhcpOption::ServerIdentifier(server)) => Some(*server),
            _ => None,
        };
        let requested = match question.opts().get(OptionCode::RequestedIpAddress) {
            Some(DhcpOption::RequestedIpAddress(ip)) => Some(*ip),
            _ => None,
        };
        match question.opts().msg_type() {
            Some(MessageType::Discover) => Ok(MessageType::Offer),
            Some(MessageType::Request) => {
                if server.is_some_and(|server| server != self.server) {
                    return Err(Silence::NotOurs("another server was chosen"));
                }
                // SELECTING and INIT-REBOOT name the address in an option, RENEWING and REBINDING
                // in ciaddr.
                let wanted = requested.unwrap_or_else(|| question.ciaddr());
                Ok(if wanted == ours { MessageType::Ack } else { MessageType::Nak })
            }
            Some(MessageType::Inform) => Ok(MessageType::Ack),
            Some(MessageType::Release) => Err(Silence::NoAnswer("DHCPRELEASE")),
            Some(MessageType::Decline) => Err(Silence::NoAnswer("DHCPDECLINE")),
            Some(_) => Err(Silence::NotOurs("a server's message")),
            None => Err(Silence::Malformed("no message type".to_owned())),
        }
    }

    fn message(&self, question: &Message, kind: MessageType) -> Result<Vec<u8>, Silence> {
        let inform = question.opts().has_msg_type(MessageType::Inform);
        let mut message = Message::default();
        message
            .set_opcode(Opcode::BootReply)
            .set_htype(HType::Eth)
            .set_xid(question.xid())
            .set_flags(question.flags())
            .set_chaddr(&self.endpoint.mac);
        let mut options = vec![DhcpOption::MessageType(kind), DhcpOption::ServerIdentifier(self.server)];
        // Clients that sent an identifier get it back (RFC 6842).
        options.extend(question.opts().get(OptionCode::ClientIdentifier).cloned());
        if kind != MessageType::Nak {
            message.set_ciaddr(question.ciaddr());
            if !inform {
                message.set_yiaddr(self.address.addr());
                options.push(DhcpOption::AddressLeaseTime(LEASE_S));
            }
            options.extend(self.configuration());
        }
        let most = match question.opts().get(OptionCode::MaxMessageSize) {
            Some(DhcpOption::MaxMessageSize(size)) => usize::from(*size).saturating_sub(28).clamp(MOST, 1400),
            _ => MOST,
        };
        // What matters least stands last, and is left out first.
        loop {
            let opts = message.opts_mut();
            opts.clear();
            options.iter().cloned().for_each(|option| drop(opts.insert(option)));
            let mut bytes = Vec::with_capacity(LEAST);
            message.encode(&mut Encoder::new(&mut bytes)).map_err(|e| Silence::Malformed(e.to_string()))?;
            if bytes.len() <= most || options.len() <= 2 {
                bytes.resize(bytes.len().max(LEAST), 0);
                return Ok(bytes);
            }
            options.pop();
        }
    }

    /// Options by importance.
    fn configuration(&self) -> Vec<DhcpOption> {
        let endpoint = self.endpoint;
        let mut options = vec![DhcpOption::SubnetMask(self.address.netmask())];
        let gateway = endpoint.gateway.and_then(only_v4);
        options.extend(gateway.map(|gateway| DhcpOption::Router(vec![gateway])));
        if let Ok(mtu) = u16::try_from(endpoint.mtu) {
            options.push(DhcpOption::InterfaceMtu(mtu));
        }
        let dns: Vec<Ipv4Addr> = endpoint.dns.iter().copied().filter_map(only_v4).collect();
        if !dns.is_empty() {
            options.push(DhcpOption::DomainNameServer(dns));
        }
        let mut routes: Vec<(Ipv4Net, Ipv4Addr)> = endpoint
            .routes
            .iter()
            .filter_map(|route| match (route.destination, route.nexthop) {
                (IpNet::V4(to), IpAddr::V4(via)) => Some((to, via)),
                _ => None,
            })
            .collect();
        if !routes.is_empty() {
            // A client that takes these ignores the router option (RFC 3442).
            routes.extend(gateway.map(|gateway| (Ipv4Net::default(), gateway)));
            options.push(DhcpOption::ClasslessStaticRoute(routes));
        }
        options.push(DhcpOption::BroadcastAddr(self.address.broadcast()));
        options.push(DhcpOption::Hostname(self.hostname()));
        options
    }

    /// The port's name if it is a host name (RFC 1123), else one made of the address, as
    /// Neutron's.
    fn hostname(&self) -> String {
        let name = &self.endpoint.name;
        let is_label = (1..=63).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !name.starts_with('-')
            && !name.ends_with('-');
        if is_label { name.clone() } else { format!("host-{}", self.address.addr()).replace('.', "-") }
    }

    fn frame(&self, question: &Message, kind: MessageType, message: &[u8]) -> Vec<u8> {
        let ciaddr = question.ciaddr();
        let broadcast = kind == MessageType::Nak || (ciaddr.is_unspecified() && question.flags().broadcast());
        let (mac, address) = if broadcast {
            ([0xff; 6], Ipv4Addr::BROADCAST)
        } else if ciaddr.is_unspecified() {
            (self.endpoint.mac, self.address.addr())
        } else {
            (self.endpoint.mac, ciaddr)
        };
        let path = Path { macs: (mizar_abi::VIRTUAL_MAC, mac), addresses: (self.server, address), ports: PORTS };
        udp(&path, message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dhcproto::v4::Flags;
    use mizar_plan::EndpointRoute;
    use uuid::Uuid;

    const MAC: [u8; 6] = [0xfa, 0x16, 0x3e, 0, 0, 5];
    const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 1);
    const OURS: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 5);

    fn endpoint() -> Endpoint {
        Endpoint {
            port: Uuid::nil(),
            number: 5,
            generation: 1,
            name: "web-1".into(),
            mac: MAC,
            mtu: 1398,
            addresses: vec!["10.1.0.5/24".parse().unwrap()],
            gateway: Some(GATEWAY.into()),
            routes: vec![EndpointRoute {
                destination: "203.0.113.0/24".parse().unwrap(),
                nexthop: "10.1.0.7".parse().unwrap(),
            }],
            siblings: vec![],
            dns: vec!["10.1.0.2".parse().unwrap(), "2001:db8::1".parse().unwrap()],
            dhcp: Some("10.1.0.5/24".parse().unwrap()),
        }
    }

    fn question(kind: MessageType, with: impl FnOnce(&mut Message)) -> Vec<u8> {
        let mut message = Message::default();
        message.set_opcode(Opcode::BootRequest).set_htype(HType::Eth).set_xid(0x1234_5678).set_chaddr(&MAC);
        message.opts_mut().insert(DhcpOption::MessageType(kind));
        with(&mut message);
        let mut bytes = Vec::new();
        message.encode(&mut Encoder::new(&mut bytes)).unwrap();
        let path =
            Path { macs: (MAC, [0xff; 6]), addresses: (Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST), ports: (68, 67) };
        udp(&path, &bytes)
    }

    fn read(frame: &[u8]) -> (Path, Message) {
        let (path, payload) = parse_udp(frame).unwrap();
        assert!(payload.len() >= LEAST);
        (path, Message::decode(&mut Decoder::new(payload)).unwrap())
    }

    fn ask(endpoint: &Endpoint, kind: MessageType, with: impl FnOnce(&mut Message)) -> (Path, Message) {
        read(&answer(endpoint, &question(kind, with)).unwrap())
    }

    #[test]
    fn a_discover_is_offered_everything_the_port_has() {
        let (path, offer) = ask(&endpoint(), MessageType::Discover, |_| {});
        assert_eq!(path.macs, (mizar_abi::VIRTUAL_MAC, MAC));
        assert_eq!((path.addresses, path.ports), ((GATEWAY, OURS), (67, 68)));
        assert_eq!((offer.opcode(), offer.xid(), offer.yiaddr()), (Opcode::BootReply, 0x1234_5678, OURS));
        let opts = offer.opts();
        assert_eq!(opts.msg_type(), Some(MessageType::Offer));
        for expected in [
            DhcpOption::ServerIdentifier(GATEWAY),
            DhcpOption::AddressLeaseTime(LEASE_S),
            DhcpOption::SubnetMask(Ipv4Addr::new(255, 255, 255, 0)),
            DhcpOption::Router(vec![GATEWAY]),
            DhcpOption::InterfaceMtu(1398),
            DhcpOption::DomainNameServer(vec![Ipv4Addr::new(10, 1, 0, 2)]),
            DhcpOption::ClasslessStaticRoute(vec![
                ("203.0.113.0/24".parse().unwrap(), Ipv4Addr::new(10, 1, 0, 7)),
                ("0.0.0.0/0".parse().unwrap(), GATEWAY),
            ]),
            DhcpOption::BroadcastAddr(Ipv4Addr::new(10, 1, 0, 255)),
            DhcpOption::Hostname("web-1".into()),
        ] {
            assert_eq!(opts.get((&expected).into()), Some(&expected));
        }
    }

    #[test]
    fn a_request_is_acknowledged_for_the_ports_address_and_refused_for_any_other() {
        let other = Ipv4Addr::new(10, 1, 0, 6);
        for (requested, expected) in [(OURS, MessageType::Ack), (other, MessageType::Nak)] {
            // Selecting, rebooting, renewing.
            let selecting = ask(&endpoint(), MessageType::Request, |m| {
                m.opts_mut().insert(DhcpOption::ServerIdentifier(GATEWAY));
                m.opts_mut().insert(DhcpOption::RequestedIpAddress(requested));
            });
            let rebooting = ask(&endpoint(), MessageType::Request, |m| {
                m.opts_mut().insert(DhcpOption::RequestedIpAddress(requested));
            });
            let renewing = ask(&endpoint(), MessageType::Request, |m| {
                m.set_ciaddr(requested);
            });
            for (path, answer) in [selecting, rebooting, renewing] {
                assert_eq!(answer.opts().msg_type(), Some(expected));
                if expected == MessageType::Nak {
                    assert_eq!((path.macs.1, path.addresses.1), ([0xff; 6], Ipv4Addr::BROADCAST));
                    assert!(answer.yiaddr().is_unspecified() && !answer.opts().contains(OptionCode::Router));
                } else {
                    assert_eq!((path.addresses.1, answer.yiaddr()), (OURS, OURS));
                }
            }
        }
    }

    #[test]
    fn a_client_that_cannot_take_unicast_is_answered_by_broadcast() {
        let (path, _) = ask(&endpoint(), MessageType::Discover, |m| {
            m.set_flags(Flags::default().set_broadcast());
        });
        assert_eq!((path.macs.1, path.addresses.1), ([0xff; 6], Ipv4Addr::BROADCAST));
    }

    #[test]
    fn an_inform_gets_configuration_and_no_lease() {
        let (path, ack) = ask(&endpoint(), MessageType::Inform, |m| {
            m.set_ciaddr(OURS);
        });
        assert_eq!((path.addresses.1, ack.yiaddr()), (OURS, Ipv4Addr::UNSPECIFIED));
        assert_eq!(ack.opts().msg_type(), Some(MessageType::Ack));
        assert!(!ack.opts().contains(OptionCode::AddressLeaseTime) && ack.opts().contains(OptionCode::Router));
    }

    #[test]
    fn without_a_gateway_the_link_local_server_answers_and_gives_no_router() {
        let mut endpoint = endpoint();
        endpoint.gateway = None;
        endpoint.routes.clear();
        endpoint.name = "has spaces".into();
        let (path, offer) = ask(&endpoint, MessageType::Discover, |_| {});
        assert_eq!(path.addresses.0, NO_GATEWAY);
        assert_eq!(offer.opts().get(OptionCode::ServerIdentifier), Some(&DhcpOption::ServerIdentifier(NO_GATEWAY)));
        assert!(!offer.opts().contains(OptionCode::Router) && !offer.opts().contains(OptionCode::ClasslessStaticRoute));
        assert_eq!(offer.opts().get(OptionCode::Hostname), Some(&DhcpOption::Hostname("host-10-1-0-5".into())));
    }

    #[test]
    fn what_is_not_for_this_server_gets_no_answer() {
        let silence = |kind, with: fn(&mut Message)| answer(&endpoint(), &question(kind, with)).unwrap_err();
        let not_ours = |s: Silence| assert!(matches!(s, Silence::NotOurs(_)), "{s:?}");
        not_ours(silence(MessageType::Discover, |m| {
            m.set_chaddr(&[2, 0, 0, 0, 0, 9]);
        }));
        not_ours(silence(MessageType::Discover, |m| {
            m.set_giaddr(GATEWAY);
        }));
        not_ours(silence(MessageType::Discover, |m| {
            m.set_opcode(Opcode::BootReply);
        }));
        not_ours(silence(MessageType::Offer, |_| {}));
        not_ours(silence(MessageType::Request, |m| {
            m.opts_mut().insert(DhcpOption::ServerIdentifier(Ipv4Addr::new(10, 1, 0, 3)));
        }));
        for kind in [MessageType::Release, MessageType::Decline] {
            assert!(matches!(silence(kind, |_| {}), Silence::NoAnswer(_)));
        }
        let mut bare = endpoint();
        bare.dhcp = None;
        assert_eq!(answer(&bare, &question(MessageType::Discover, |_| {})), Err(Silence::NoLease));
    }

    #[test]
    fn frames_cut_at_any_byte_or_with_any_byte_changed_never_panic() {
        let frame = question(MessageType::Request, |m| {
            m.opts_mut().insert(DhcpOption::RequestedIpAddress(OURS));
            m.opts_mut().insert(DhcpOption::Hostname("guest".into()));
        });
        for len in 0..frame.len() {
            let _ = answer(&endpoint(), &frame[..len]);
        }
        for at in 0..frame.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut other = frame.clone();
                other[at] = value;
                let _ = answer(&endpoint(), &other);
            }
        }
    }

    #[test]
    fn no_option_of_any_length_keeps_a_question_from_its_answer() {
        let plain = question(MessageType::Discover, |_| {});
        let (path, payload) = parse_udp(&plain).unwrap();
        let expected = answer(&endpoint(), &plain).unwrap();
        for code in (1..=254_u8).filter(|code| !READ.contains(code)) {
            for len in [0, 1, 2, 3, 5, 9] {
                let mut odd = payload[..HEADER].to_vec();
                odd.extend([0, code, len]);
                odd.extend(vec![0xc0; usize::from(len)]);
                odd.extend_from_slice(&payload[HEADER..]);
                assert_eq!(answer(&endpoint(), &udp(&path, &odd)), Ok(expected.clone()), "option {code} of {len}");
            }
        }
        for code in READ {
            for len in 0..20 {
                let mut odd = payload[..HEADER].to_vec();
                odd.extend([code, len]);
                odd.extend(vec![0xc0; usize::from(len)]);
                let _ = answer(&endpoint(), &udp(&path, &odd));
            }
        }
    }

    #[test]
    fn an_answer_that_would_be_too_long_loses_what_matters_least() {
        let mut endpoint = endpoint();
        endpoint.routes = (0..100)
            .map(|n| EndpointRoute {
                destination: format!("203.0.{n}.0/24").parse().unwrap(),
                nexthop: "10.1.0.7".parse().unwrap(),
            })
            .collect();
        let (_, offer) = ask(&endpoint, MessageType::Discover, |_| {});
        assert!(!offer.opts().contains(OptionCode::ClasslessStaticRoute) && offer.opts().contains(OptionCode::Router));
        let (_, offer) = ask(&endpoint, MessageType::Discover, |m| {
            m.opts_mut().insert(DhcpOption::MaxMessageSize(1500));
        });
        assert!(offer.opts().contains(OptionCode::ClasslessStaticRoute));
    }
}
