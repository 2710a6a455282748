//! DHCPv4 for endpoints (RFC 2131, 2132, 3442): a question's frame and a port to an answer's.
//!
//! The lease is the port's own address, so there is nothing to remember: the same question always
//! gets the same answer, from whichever host the port is on. The server is the subnet's gateway
//! (no address is used up), or 169.254.169.254 where there is none; an endpoint that moves finds
//! the same server.
//!
//! Options that the port has of its own take the place of those of its subnet, and are sent whether
//! the client asks for them or not.

use crate::frames::{Path, parse_udp, udp};
use dhcproto::v4::{DhcpOption, HType, Message, MessageType, Opcode, OptionCode, UnknownOption};
use dhcproto::{Decodable as _, Decoder, Encodable as _, Encoder};
use ipnet::{IpNet, Ipv4Net};
use mizar_plan::{Endpoint, EndpointOption};
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

/// The router; classless routes hold it too.
const ROUTER: u8 = 3;
/// A port's "option" that is the address in the header from where it boots.
const NEXT_SERVER: u8 = 255;

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

/// Of an option that holds addresses.
fn first_address(option: &EndpointOption) -> Option<Ipv4Addr> {
    option.value.first_chunk::<4>().map(|octets| Ipv4Addr::from(*octets))
}

/// An option as its bytes.
fn raw(option: &EndpointOption) -> DhcpOption {
    DhcpOption::Unknown(UnknownOption::new(option.code.into(), option.value.clone()))
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
            if let Some(next) = self.own(NEXT_SERVER).and_then(first_address) {
                message.set_siaddr(next);
            }
            options.extend(self.configuration());
        }
        let most = match question.opts().get(OptionCode::MaxMessageSize) {
            Some(DhcpOption::MaxMessageSize(size)) => usize::from(*size).saturating_sub(28).clamp(MOST, 1400),
            _ => MOST,
        };
        let encode = |message: &Message| {
            let mut bytes = Vec::with_capacity(LEAST);
            let encoded = message.encode(&mut Encoder::new(&mut bytes));
            encoded.map(|()| bytes).map_err(|error| Silence::Malformed(error.to_string()))
        };
        // What matters least stands last; what does not fit any more is left out.
        let mut bytes = encode(&message)?;
        for (place, option) in options.into_iter().enumerate() {
            let code = OptionCode::from(&option);
            message.opts_mut().insert(option);
            let longer = encode(&message)?;
            // Without its kind and its server it would be no answer.
            if longer.len() <= most || place < 2 {
                bytes = longer;
            } else {
                message.opts_mut().remove(code);
            }
        }
        bytes.resize(bytes.len().max(LEAST), 0);
        Ok(bytes)
    }

    /// The port's own option of a code.
    fn own(&self, code: u8) -> Option<&EndpointOption> {
        self.endpoint.dhcp_options.iter().find(|option| option.code == code)
    }

    /// The router that the port is told of.
    fn gateway(&self) -> Option<Ipv4Addr> {
        match self.own(ROUTER) {
            Some(own) => first_address(own),
            None => self.endpoint.gateway.and_then(only_v4),
        }
    }

    /// Options by importance: the port's own in place of its subnet's.
    fn configuration(&self) -> Vec<DhcpOption> {
        let own = &self.endpoint.dhcp_options;
        let is_own = |option: &DhcpOption| self.own(OptionCode::from(option).into()).is_some();
        let mut options = self.of_subnet();
        let names = [DhcpOption::BroadcastAddr(self.address.broadcast()), DhcpOption::Hostname(self.hostname())];
        options.retain(|option| !is_own(option));
        options.extend(own.iter().filter(|option| option.code != NEXT_SERVER && !option.value.is_empty()).map(raw));
        options.extend(names.into_iter().filter(|option| !is_own(option)));
        options
    }

    fn of_subnet(&self) -> Vec<DhcpOption> {
        let endpoint = self.endpoint;
        let mut options = vec![DhcpOption::SubnetMask(self.address.netmask())];
        let gateway = self.gateway();
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
mod tests;
