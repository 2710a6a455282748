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
        dhcp_options: vec![],
    }
}

fn own(code: u8, value: &[u8]) -> EndpointOption {
    EndpointOption { code, value: value.to_vec() }
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
fn options_of_the_port_take_the_place_of_its_subnets_and_of_its_name() {
    let mut endpoint = endpoint();
    endpoint.dhcp_options = vec![
        own(67, b"pxelinux.0"),
        own(66, b"boot.example.org"),
        own(NEXT_SERVER, &[192, 0, 2, 9]),
        own(26, &[0x05, 0x00]),
        own(6, &[192, 0, 2, 1, 192, 0, 2, 2]),
        own(12, b"web"),
        own(224, &[0, 1]),
    ];
    for kind in [MessageType::Discover, MessageType::Inform] {
        let (_, answer) = ask(&endpoint, kind, |m| {
            m.set_ciaddr(if kind == MessageType::Inform { OURS } else { Ipv4Addr::UNSPECIFIED });
        });
        assert_eq!(answer.siaddr(), Ipv4Addr::new(192, 0, 2, 9));
        for expected in [
            DhcpOption::BootfileName(b"pxelinux.0".to_vec()),
            DhcpOption::TFTPServerName(b"boot.example.org".to_vec()),
            DhcpOption::InterfaceMtu(1280),
            DhcpOption::DomainNameServer(vec![Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2)]),
            DhcpOption::Hostname("web".into()),
            DhcpOption::Unknown(UnknownOption::new(OptionCode::Unknown(224), vec![0, 1])),
            DhcpOption::Router(vec![GATEWAY]),
        ] {
            assert_eq!(answer.opts().get((&expected).into()), Some(&expected));
        }
    }
    let (_, refused) = ask(&endpoint, MessageType::Request, |m| {
        m.opts_mut().insert(DhcpOption::RequestedIpAddress(Ipv4Addr::new(10, 1, 0, 6)));
    });
    assert!(refused.siaddr().is_unspecified() && !refused.opts().contains(OptionCode::BootfileName));
}

#[test]
fn a_port_may_be_told_another_router_or_none() {
    let mut endpoint = endpoint();
    let other = Ipv4Addr::new(10, 1, 0, 9);
    endpoint.dhcp_options = vec![own(ROUTER, &other.octets())];
    let routes = |endpoint: &Endpoint| {
        let (_, offer) = ask(endpoint, MessageType::Discover, |_| {});
        let opts = offer.opts();
        (opts.get(OptionCode::Router).cloned(), opts.get(OptionCode::ClasslessStaticRoute).cloned())
    };
    let of_subnet = ("203.0.113.0/24".parse().unwrap(), "10.1.0.7".parse().unwrap());
    let by_default = (Ipv4Net::default(), other);
    let both = Some(DhcpOption::ClasslessStaticRoute(vec![of_subnet, by_default]));
    assert_eq!(routes(&endpoint), (Some(DhcpOption::Router(vec![other])), both));
    endpoint.dhcp_options = vec![own(ROUTER, &[])];
    assert_eq!(routes(&endpoint), (None, Some(DhcpOption::ClasslessStaticRoute(vec![of_subnet]))));
    endpoint.dhcp_options = vec![own(121, &[])];
    assert_eq!(routes(&endpoint), (Some(DhcpOption::Router(vec![GATEWAY])), None));
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
