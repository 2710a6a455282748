//! Taps and host endpoints carry packets; so does another uplink.

mod common;

use aya::programs::{SchedClassifier, TcAttachType};
use common::host::{Host, Namespace};
use common::tap::Tap;
use common::traffic::{Traffic, client, echo, ping};
use common::{until, world};
use dhcproto::v4::{DhcpOption, HType, Message, MessageType, Opcode, OptionCode};
use dhcproto::{Decodable as _, Decoder, Encodable as _, Encoder};
use mizar_agent::config::TransitHook;
use mizar_agent::frames::{Path, parse_udp, udp};
use mizar_wire::local::{AttachKind, Call};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

/// MAC and address of a port.
fn mac(number: u8) -> [u8; 6] {
    [0xfa, 0x16, 0x3e, 0, 0, number]
}

fn v4(number: u32) -> Ipv4Addr {
    match world::address(number) {
        IpAddr::V4(v4) => v4,
        IpAddr::V6(v6) => unreachable!("{v6}"),
    }
}

/// A guest behind a tap, with MAC and address of port 5.
struct Guest(Tap);

impl Guest {
    const PORT: u16 = 4000;

    /// Asks who has an address; returns the MAC.
    fn arp(&mut self, of: Ipv4Addr) -> [u8; 6] {
        let question = [0, 1, 8, 0, 6, 4, 0, 1];
        let parts: [&[u8]; 7] =
            [&[0xff; 6], &mac(5), &[8, 6], &question, &[&mac(5)[..], &v4(5).octets()].concat(), &[0; 6], &of.octets()];
        self.0.send(&parts.concat());
        self.0.receive("an answer to ARP", |frame| {
            let is_answer = frame[..6] == mac(5) && frame[12..14] == [8, 6] && frame[20..22] == [0, 2];
            (is_answer && frame[28..32] == of.octets()).then(|| frame[22..28].try_into().unwrap())
        })
    }

    fn datagram(source: [u8; 6], to: [u8; 6], text: &str) -> Vec<u8> {
        let path = Path { macs: (source, to), addresses: (v4(5), v4(6)), ports: (Self::PORT, 7) };
        udp(&path, text.as_bytes())
    }

    /// Sends once to the echo at port 6, and waits until it is back.
    fn ping(&mut self, gateway: [u8; 6], text: &str) {
        self.0.send(&Self::datagram(mac(5), gateway, text));
        self.0.receive(text, |frame| {
            let (path, payload) = parse_udp(frame)?;
            let back = Path { macs: (path.macs.0, mac(5)), addresses: (v4(6), v4(5)), ports: (7, Self::PORT) };
            (path == back && payload == text.as_bytes()).then_some(())
        });
    }
}

#[test]
fn a_tap_and_a_host_endpoint_are_made_as_their_users_need_them() {
    let mut host = Host::with_ports(&[5, 6]);
    host.start();
    let tap = host.attach(world::port_id(5), AttachKind::Tap).unwrap();
    let link = host.namespace.command(&format!("ip -d link show {}", tap.host_ifname));
    assert!(link.contains("tun type tap") && link.contains("persist on") && link.contains("vnet_hdr on"), "{link}");
    assert!(link.contains("mtu 1398"), "{link}");
    host.attach(world::port_id(6), AttachKind::Host { ifname: "mzh".into() }).unwrap();
    assert!(host.namespace.command("ip addr show mzh").contains("inet 10.1.0.6/24"));
    let routes = host.namespace.command("ip route");
    assert!(routes.contains("203.0.113.0/24 via 10.1.0.7 dev mzh") && !routes.contains("default"), "{routes}");
    let taken = host.attach(world::port_id(6), AttachKind::Host { ifname: "up0".into() }).unwrap_err();
    assert!(taken.contains("detach it first"), "{taken}");
    host.call(&Call::Detach { port: world::port_id(6) });
    let taken = host.attach(world::port_id(6), AttachKind::Host { ifname: "up0".into() }).unwrap_err();
    assert!(taken.contains("up0 already"), "{taken}");
    host.kill();
    host.start();
    assert_eq!(host.status().ports, [world::port_id(5)]);
    host.call(&Call::Detach { port: world::port_id(5) });
    assert!(!host.namespace.command("ip link").contains("tap00000005"));
}

#[test]
fn a_guest_behind_a_tap_asks_talks_and_goes_on_talking_without_the_agent() {
    let mut host = Host::with_ports(&[5, 6]);
    host.start();
    let inside = Namespace::new();
    let tap = host.attach(world::port_id(5), AttachKind::Tap).unwrap();
    host.container(world::port_id(6), &inside);
    echo(&inside, 6);
    let mut guest = Guest(Tap::open(&host.namespace, &tap.host_ifname));

    // As it comes up: by DHCP.
    let mut question = Message::default();
    question.set_opcode(Opcode::BootRequest).set_htype(HType::Eth).set_xid(0x1234_5678).set_chaddr(&mac(5));
    question.opts_mut().insert(DhcpOption::MessageType(MessageType::Discover));
    let mut bytes = Vec::new();
    question.encode(&mut Encoder::new(&mut bytes)).unwrap();
    let nobody = (Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST);
    guest.0.send(&udp(&Path { macs: (mac(5), [0xff; 6]), addresses: nobody, ports: (68, 67) }, &bytes));
    let offer = guest.0.receive("an offer", |frame| {
        let (path, payload) = parse_udp(frame)?;
        (path.ports == (67, 68)).then(|| Message::decode(&mut Decoder::new(payload)).unwrap())
    });
    assert_eq!((offer.xid(), offer.yiaddr()), (0x1234_5678, v4(5)));
    assert_eq!(offer.opts().get(OptionCode::MessageType), Some(&DhcpOption::MessageType(MessageType::Offer)));
    assert_eq!(offer.opts().get(OptionCode::InterfaceMtu), Some(&DhcpOption::InterfaceMtu(1398)));

    let gateway = guest.arp(v4(6));
    assert_eq!(gateway, mizar_abi::VIRTUAL_MAC);
    guest.ping(gateway, "hello");
    // And the other way: a question of the container reaches the guest, who answers.
    let asker = client(&inside, 6);
    asker.send_to(b"who?", (world::address(5), 9)).unwrap();
    let way = guest.0.receive("the container's question", |frame| {
        let (path, payload) = parse_udp(frame)?;
        (payload == b"who?").then_some(path)
    });
    assert_eq!((way.addresses, way.ports.1, way.macs.1), ((v4(6), v4(5)), 9, mac(5)));
    let back = Path { macs: (mac(5), way.macs.0), addresses: (v4(5), v4(6)), ports: (9, way.ports.0) };
    guest.0.send(&udp(&back, b"me"));
    let mut bytes = [0; 10];
    assert_eq!(asker.recv(&mut bytes).map(|len| &bytes[..len]).unwrap(), b"me");

    guest.0.send(&Guest::datagram(mac(6), gateway, "in another's name"));
    until("the forgery is counted", || (host.status().drops.get("spoof") == Some(&1)).then_some(()));
    host.kill();
    guest.ping(gateway, "nobody looks");
    host.start();
    guest.ping(gateway, "somebody looks");
}

#[test]
fn a_host_endpoint_talks_to_containers_from_the_hosts_own_namespace() {
    let mut host = Host::with_ports(&[5, 6]);
    host.start();
    let inside = Namespace::new();
    host.container(world::port_id(5), &inside);
    host.attach(world::port_id(6), AttachKind::Host { ifname: "mzh".into() }).unwrap();
    echo(&inside, 5);
    echo(&host.namespace, 6);
    for n in 0..10 {
        assert!(ping(&client(&host.namespace, 6), 5, &format!("out {n}")), "drops: {:?}", host.status().drops);
        assert!(ping(&client(&inside, 5), 6, &format!("in {n}")), "drops: {:?}", host.status().drops);
    }
    let traffic = Traffic::pings(Arc::new(inside), 5, 6);
    host.kill();
    traffic.goes_on();
    host.start();
    traffic.goes_on();
    traffic.end();
}

#[test]
fn another_uplink_gets_the_programs_and_the_former_loses_them() {
    let mut host = Host::with_ports(&[5, 6]);
    host.namespace.command("ip link add other0 type veth peer name other1");
    host.namespace.command("ip link set other0 up");
    host.namespace.command("ip link set other1 up");
    // tcx and XDP programs, and whether the kernel forwards what comes in.
    let uplink = |host: &Host, of: &str| {
        let ifname = of.to_owned();
        let (_, programs) =
            host.namespace.run(move || SchedClassifier::query_tcx(ifname.as_str(), TcAttachType::Ingress).unwrap());
        let tcx = programs.iter().any(|program| program.name() == b"uplink_tcx");
        let xdp = host.namespace.command(&format!("ip link show {of}")).contains("prog/xdp");
        let forwarding = host.namespace.command(&format!("cat /proc/sys/net/ipv4/conf/{of}/forwarding"));
        (tcx, xdp, forwarding.trim() == "1")
    };
    host.transit_hook = TransitHook::Tcx;
    let (five, _six) = host.start_with_two();
    let traffic = Traffic::pings(Arc::new(five), 5, 6);
    assert_eq!(uplink(&host, "up0"), (true, false, false), "nothing in tcx needs the host to forward");
    assert_eq!(uplink(&host, "other0"), (false, false, false));
    let steps = [
        ("up0", TransitHook::Xdp, (true, true, true), (false, false, false)),
        ("other0", TransitHook::Xdp, (false, false, true), (true, true, true)),
        ("other0", TransitHook::Tcx, (false, false, true), (true, false, true)),
        ("up0", TransitHook::Auto, (true, false, true), (false, false, true)),
    ];
    for (name, hook, up0, other0) in steps {
        host.kill();
        if name != host.uplink {
            // As when a bond or a bridge takes over from its first member, address and all.
            host.namespace.command(&format!("ip addr del 192.0.2.9/24 dev {}", host.uplink));
            host.namespace.command(&format!("ip addr add 192.0.2.9/24 dev {name}"));
        }
        (host.uplink, host.transit_hook) = (name, hook);
        host.start();
        // A link that lost its pin goes a moment later.
        until(&format!("{hook:?} on {name} alone"), || {
            (uplink(&host, "up0") == up0 && uplink(&host, "other0") == other0).then_some(())
        });
        assert_eq!(host.status().transit_hook, if hook == TransitHook::Xdp { "xdp" } else { "tcx" });
        traffic.goes_on();
    }
    traffic.end();
}
