//! What an endpoint may not do, and what it is told.

use mizar_abi::{
    mapped,
    maps::{Addr, Ep, EventKind, VniAddress, addr_flag, ep_flag},
};
use mizar_dataplane_tests::{
    World,
    frame::{self, Ip, arp_request, icmp_error},
    host::{REDIRECT, SHOT},
    world::{End, Port},
};

const VNI: u32 = 0x1234;

fn world() -> (World, Port, Port) {
    let mut w = World::new(3).unwrap();
    w.subnet(VNI, 7, [10, 0, 0, 0], &[[3, 0]]).unwrap();
    w.subnet(VNI, 8, [10, 0, 1, 0], &[[3, 0]]).unwrap();
    w.dividers(VNI, &[[3, 0]]).unwrap();
    let a = w.port(1, 11, 7, 5).unwrap();
    let b = w.port(2, 12, 7, 6).unwrap();
    (w, a, b)
}

/// Sends a frame that must be dropped on its own host for exactly this reason.
fn assert_dropped(w: &mut World, from: &Port, frame: &[u8], reason: &str) {
    w.counts().unwrap();
    let journey = w.send(from, frame).unwrap();
    assert_eq!(journey.end, End::Dropped(from.host), "{reason}");
    w.assert_counts(&[(&format!("h{} p{} dropped {reason}", from.host, from.ep_id), 1)]);
}

#[test]
fn a_foreign_source_is_dropped_even_on_a_flow_that_exists() {
    let (mut w, a, b) = world();
    w.connect(&a, &b, 1000);
    let own = Ip::tcp(a.address, b.address, 1000, 80, 0x18);
    let mac = Ip { mac: b.mac, ..own.clone() }.frame();
    assert_dropped(&mut w, &a, &mac, "spoof");
    let stranger = a.frame(Ip { src: [10, 0, 0, 99], ..own.clone() });
    assert_dropped(&mut w, &a, &stranger, "spoof");
    // Another port of the same host has the address, and a flow.
    let c = w.port(1, 13, 7, 8).unwrap();
    let as_a = c.frame(own);
    assert_dropped(&mut w, &c, &as_a, "spoof");
}

#[test]
fn an_allowed_pair_may_be_a_source_and_a_destination() {
    let (mut w, a, b) = world();
    let shared = [10, 0, 0, 200];
    let key = VniAddress::new(VNI, mapped(shared));
    w.host(1).put_prefix("ADDR", VniAddress::BITS, key, Addr { ep_id: a.ep_id, flags: addr_flag::PAIR }).unwrap();
    let way = w.deliver(&a, &b, Ip::udp(shared, b.address, 5, 6, b"x"));
    assert_eq!(way, [1, 3, 2]);
    assert_eq!(w.deliver(&b, &a, Ip::udp(b.address, shared, 6, 5, b"y")), [2, 1]);
}

#[test]
fn a_port_without_port_security_may_send_anything_but_not_as_another_flow() {
    let (mut w, a, b) = world();
    let mut ep: Ep = w.host(1).get("EP", a.ep_id).unwrap();
    ep.flags = ep_flag::ANY_SOURCE;
    w.host(1).put("EP", a.ep_id, ep).unwrap();
    let frame = Ip { mac: [2; 6], ..Ip::udp([192, 168, 9, 9], b.address, 5, 6, b"x") }.frame();
    let journey = w.send(&a, &frame).unwrap();
    assert!(matches!(journey.end, End::Delivered { ep_id: 12, .. }), "{journey:?}");
    // Flows are kept by address: with that of a neighbour on its host it would take them over.
    let neighbour = w.port(1, 13, a.subnet, 7).unwrap();
    let frame = a.frame(Ip::udp(neighbour.address, b.address, 5, 6, b"x"));
    assert_dropped(&mut w, &a, &frame, "spoof");
}

#[test]
fn frames_that_are_no_unicast_ipv4_are_dropped_by_name() {
    let (mut w, a, b) = world();
    let good = a.frame(Ip::udp(a.address, b.address, 5, 6, &[0; 40]));
    let mut ipv6 = good.clone();
    ipv6[12..14].copy_from_slice(&[0x86, 0xdd]);
    assert_dropped(&mut w, &a, &ipv6, "not_ip");
    let mut broadcast = good.clone();
    broadcast[..6].copy_from_slice(&[0xff; 6]);
    assert_dropped(&mut w, &a, &broadcast, "multicast");
    for dst in [[224, 0, 0, 5], [255, 255, 255, 255]] {
        let frame = a.frame(Ip::udp(a.address, dst, 5, 6, b"x"));
        assert_dropped(&mut w, &a, &frame, "multicast");
    }
    for (at, value) in [(14, 0x65), (14, 0x44), (16, 0xff), (17, 10)] {
        let mut bad = good.clone();
        bad[at] = value;
        assert_dropped(&mut w, &a, &bad, "malformed");
    }
}

#[test]
fn a_port_that_is_down_neither_sends_nor_receives() {
    let (mut w, a, b) = world();
    w.connect(&a, &b, 1000);
    let mut ep: Ep = w.host(2).get("EP", b.ep_id).unwrap();
    ep.flags = ep_flag::DOWN;
    w.host(2).put("EP", b.ep_id, ep).unwrap();
    let frame = b.frame(Ip::tcp(b.address, a.address, 80, 1000, 0x18));
    assert_dropped(&mut w, &b, &frame, "admin_down");
    for ip in [Ip::tcp(a.address, b.address, 1000, 80, 0x18), Ip::tcp(a.address, b.address, 2000, 80, 2)] {
        w.counts().unwrap();
        let journey = w.send(&a, &a.frame(ip)).unwrap();
        assert_eq!(journey.end, End::Dropped(2));
        assert_eq!(w.counts().unwrap()["h2 p12 dropped admin_down"], 1);
    }
}

#[test]
fn an_interface_of_no_port_gets_nothing_out() {
    let (mut w, a, b) = world();
    let frame = a.frame(Ip::udp(a.address, b.address, 5, 6, b"x"));
    let outcome = w.host(1).run("endpoint_egress", &frame, 8, 0).unwrap();
    assert_eq!(outcome.verdict, SHOT);
    w.assert_counts(&[("h1 p0 dropped no_port", 1)]);
}

#[test]
fn too_large_a_packet_is_answered_with_the_mtu() {
    let (mut w, a, b) = world();
    let fits = Ip::udp(a.address, b.address, 5, 6, &[7; 1398 - 28]);
    w.deliver(&a, &b, fits);
    w.counts().unwrap();
    let large = Ip::udp(a.address, b.address, 5, 6, &[7; 1398 - 27]);
    let journey = w.send(&a, &a.frame(large.clone())).unwrap();
    let End::Delivered { ep_id: 11, frame, .. } = &journey.end else { panic!("{journey:?}") };
    let (kind, code, mtu, from, quote) = icmp_error(frame);
    assert_eq!((kind, code, mtu, from), (3, 4, 1398, [10, 0, 0, 1]));
    assert_eq!(quote, &large.packet()[..40], "header and 20 bytes are quoted");
    w.assert_counts(&[("h1 p11 dropped too_big", 1)]);
    let may_be_cut = a.frame(Ip { bits: 0, ..large });
    assert_dropped(&mut w, &a, &may_be_cut, "too_big");
}

#[test]
fn segments_are_measured_one_by_one() {
    let (mut w, a, b) = world();
    let mut segments = Ip::tcp(a.address, b.address, 1000, 80, 0x18);
    segments.payload.extend_from_slice(&[0; 3_500]);
    let frame = a.frame(segments);
    // A test run's packet has a segment size but no type, so the kernel refuses to encapsulate it:
    // what counts here is that its size was no reason.
    let journey = w.send_segmented(&a, &frame, 1398 - 40).unwrap();
    assert_eq!(journey.end, End::Dropped(1));
    assert!(!w.counts().unwrap().contains_key("h1 p11 dropped too_big"));
    let journey = w.send_segmented(&a, &frame, 1398 - 39).unwrap();
    let End::Delivered { ep_id: 11, frame, .. } = &journey.end else { panic!("{:?}", journey.hosts) };
    assert_eq!(icmp_error(frame).2, 1398);
}

#[test]
fn a_ttl_that_ends_at_the_router_is_answered_by_the_gateway() {
    let (mut w, a, _) = world();
    let c = w.port(2, 13, 8, 9).unwrap();
    let packet = Ip { ttl: 1, ..Ip::udp(a.address, c.address, 5, 33434, b"trace") };
    let journey = w.send(&a, &a.frame(packet.clone())).unwrap();
    let End::Delivered { ep_id: 11, frame, .. } = &journey.end else { panic!("{journey:?}") };
    let (kind, code, _, from, quote) = icmp_error(frame);
    assert_eq!((kind, code, from), (11, 0, [10, 0, 0, 1]));
    assert_eq!(quote, packet.packet());
    w.assert_counts(&[("h1 p11 dropped ttl_exceeded", 1)]);
    // On the direct path too.
    w.connect(&a, &c, 1000);
    w.counts().unwrap();
    let journey = w.send(&a, &a.frame(Ip { ttl: 1, ..Ip::tcp(a.address, c.address, 1000, 80, 0x18) })).unwrap();
    assert!(matches!(journey.end, End::Delivered { ep_id: 11, .. }), "{journey:?}");
    w.assert_counts(&[("h1 p11 dropped ttl_exceeded", 1)]);
    // In the own subnet nobody counts.
    let (mut w, a, b) = world();
    w.deliver(&a, &b, Ip { ttl: 1, ..Ip::udp(a.address, b.address, 5, 6, b"x") });
}

#[test]
fn outside_the_network_there_is_no_route() {
    let (mut w, a, _) = world();
    let packet = Ip { options: vec![1, 1, 1, 0], ..Ip::udp(a.address, [8, 8, 8, 8], 5, 53, b"dns, please") };
    let journey = w.send(&a, &a.frame(packet.clone())).unwrap();
    let End::Delivered { ep_id: 11, frame, .. } = &journey.end else { panic!("{journey:?}") };
    let (kind, code, _, from, quote) = icmp_error(frame);
    assert_eq!((kind, code, from), (3, 0, [10, 0, 0, 1]));
    assert_eq!(quote, &packet.packet()[..packet.packet().len().min(44)], "IPv4 options are quoted");
    w.assert_counts(&[("h1 p11 dropped no_route", 1)]);
}

#[test]
fn arp_is_answered_for_every_address_but_ones_own() {
    let (mut w, a, b) = world();
    for target in [b.address, [10, 0, 0, 1], [10, 0, 0, 250], [10, 0, 1, 9], [169, 254, 169, 254]] {
        let outcome = w.host(1).run("endpoint_egress", &arp_request(a.mac, a.address, target), a.ifindex, 0).unwrap();
        assert_eq!(outcome.verdict, REDIRECT);
        assert_eq!(outcome.frame[..6], a.mac);
        assert_eq!(outcome.frame[20..22], [0, 2], "a reply");
        assert_eq!(outcome.frame[22..28], mizar_abi::VIRTUAL_MAC);
        assert_eq!(frame::four(&outcome.frame, 28), target);
        assert_eq!(outcome.frame[32..38], a.mac);
        assert_eq!(frame::four(&outcome.frame, 38), a.address);
    }
    w.assert_counts(&[("h1 arp", 5)]);
    for (sender, target, reason) in [
        (a.address, a.address, "arp_ignored"),
        ([0, 0, 0, 0], b.address, "arp_ignored"),
        ([0, 0, 0, 0], a.address, "arp_ignored"),
        (a.address, [8, 8, 8, 8], "no_route"),
        (b.address, a.address, "spoof"),
    ] {
        let frame = arp_request(a.mac, sender, target);
        assert_dropped(&mut w, &a, &frame, reason);
    }
    let mut forged = arp_request(a.mac, a.address, b.address);
    forged[22..28].copy_from_slice(&b.mac);
    assert_dropped(&mut w, &a, &forged, "spoof");
}

#[test]
fn an_announced_pair_is_told_to_the_agent() {
    let (mut w, a, _) = world();
    let shared = [10, 0, 0, 200];
    let key = VniAddress::new(VNI, mapped(shared));
    w.host(1).put_prefix("ADDR", VniAddress::BITS, key, Addr { ep_id: a.ep_id, flags: addr_flag::PAIR }).unwrap();
    let announcement = arp_request(a.mac, shared, shared);
    assert_dropped(&mut w, &a, &announcement, "to_agent");
    let events = w.host(1).events().unwrap();
    assert_eq!(events.len(), 1);
    assert_eq!(events[0][..8], [[EventKind::Claim as u8, 0, 0, 0], a.ep_id.to_ne_bytes()].concat());
}

#[test]
fn dhcp_goes_to_the_agent_whole_and_nowhere_else() {
    let (mut w, a, _) = world();
    let discover = Ip { bits: 0, ..Ip::udp([0; 4], [255; 4], 68, 67, &[0x44; 300]) };
    let mut frame = a.frame(discover);
    frame[..6].copy_from_slice(&[0xff; 6]);
    assert_dropped(&mut w, &a, &frame, "to_agent");
    let events = w.host(1).events().unwrap();
    assert_eq!(events.len(), 1);
    assert_eq!(events[0][..8], [[EventKind::Dhcp as u8, 0, 0, 0], a.ep_id.to_ne_bytes()].concat());
    assert_eq!(u32::from_ne_bytes(events[0][8..12].try_into().unwrap()) as usize, frame.len());
    assert_eq!(events[0][56..56 + frame.len()], frame);
}
