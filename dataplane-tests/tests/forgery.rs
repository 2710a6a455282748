//! The underlay is not trusted: what is forged, replayed or malformed changes nothing.

use mizar_abi::{
    maps::{Flow, FlowKey},
    option::Kind,
};
use mizar_dataplane_tests::{
    World,
    frame::{self, Ip, at},
    host::{NEXT, SHOT, UPLINK},
    links::utc,
    world::{End, Port, underlay},
};

const VNI: u32 = 0x1234;

fn world() -> (World, Port, Port) {
    let mut w = World::new(4).unwrap();
    w.subnet(VNI, 7, [10, 0, 0, 0], &[[3, 0]]).unwrap();
    let a = w.port(1, 11, 7, 5).unwrap();
    let b = w.port(2, 12, 7, 6).unwrap();
    (w, a, b)
}

fn flows(w: &mut World) -> Vec<Vec<(FlowKey, Flow)>> {
    (1..=4)
        .map(|h| {
            let mut all: Vec<(FlowKey, Flow)> = w.host(h).all("FLOW_EST").unwrap();
            all.extend(w.host(h).all::<FlowKey, Flow>("FLOW_NEW").unwrap());
            all.sort_by_key(|(k, _)| *k);
            all
        })
        .collect()
}

/// A frame that must be dropped by a host's uplink for this reason, and change no flow.
fn assert_refused(w: &mut World, host: u32, frame: &[u8], port: u32, reason: &str) {
    w.counts().unwrap();
    let before = flows(w);
    for xdp in [true, false] {
        w.xdp = xdp;
        let journey = w.arrive(host, frame).unwrap();
        assert_eq!(journey.end, End::Dropped(host), "{reason}");
        w.assert_counts(&[(&format!("h{host} p{port} dropped {reason}"), 1)]);
    }
    assert_eq!(flows(w), before, "{reason}");
}

/// The request of a fresh flow, as it is on the wire to the bouncer.
fn request(w: &mut World, a: &Port, b: &Port, sport: u16) -> Vec<u8> {
    let frame = a.frame(Ip::tcp(a.address, b.address, sport, 80, 2));
    w.host(1).run("endpoint_egress", &frame, a.ifindex, 0).unwrap().frame
}

#[test]
fn any_changed_byte_of_option_vni_or_inner_addresses_spoils_the_tag() {
    let (mut w, a, b) = world();
    let request = request(&mut w, &a, &b, 1000);
    let inner = at::BODY + 48 + 14;
    let covered = (at::BODY..at::BODY + 48).chain(46..49).chain(inner + 12..inner + 20).chain([inner + 9]);
    for byte in covered {
        let mut forged = request.clone();
        forged[byte] ^= 1;
        let reason = "bad_tag";
        assert_refused(&mut w, 3, &forged, 0, reason);
    }
}

#[test]
fn a_request_replayed_to_another_host_or_later_is_refused() {
    let (mut w, a, b) = world();
    let request = request(&mut w, &a, &b, 1000);
    let mut elsewhere = request.clone();
    frame::set_outer(&mut elsewhere, underlay(1), underlay(2));
    assert_refused(&mut w, 2, &elsewhere, 0, "bad_tag");
    for now in [utc() - 7, utc() + 7] {
        let mut late = request.clone();
        let body = frame::body(&late);
        frame::sign(&mut late, body, now);
        assert_refused(&mut w, 3, &late, 0, "bad_stamp");
    }
}

#[test]
fn without_a_key_nothing_signed_is_sent_or_accepted() {
    let (mut w, a, b) = world();
    let good = request(&mut w, &a, &b, 1000);
    let keyless = |cfg: mizar_abi::maps::Cfg| mizar_abi::maps::Cfg { key_ids: [0, 0], ..cfg };
    let cfg = keyless(w.host(3).cfg);
    w.host(3).configure(cfg).unwrap();
    assert_refused(&mut w, 3, &good, 0, "bad_tag");
    let cfg = keyless(w.host(1).cfg);
    w.host(1).configure(cfg).unwrap();
    let frame = a.frame(Ip::tcp(a.address, b.address, 2000, 80, 2));
    assert_eq!(w.host(1).run("endpoint_egress", &frame, a.ifindex, 0).unwrap().verdict, SHOT);
}

#[test]
fn a_direct_packet_from_another_host_than_the_peers_is_not_delivered() {
    let (mut w, a, b) = world();
    w.connect(&a, &b, 1000);
    let data = a.frame(Ip::tcp(a.address, b.address, 1000, 80, 0x18));
    let mut forged = w.send(&a, &data).unwrap().wire[0].clone();
    for src in [underlay(3), underlay(4), [0, 0, 0, 0], [192, 0, 2, 1]] {
        frame::set_outer(&mut forged, src, underlay(2));
        let before = flows(&mut w);
        let outcome = w.host(2).run("uplink_tcx", &forged, UPLINK, 0).unwrap();
        // It is turned around to where it claims to come from, which knows no such flow.
        assert!(frame::is_encapsulated(&outcome.frame));
        assert_eq!(frame::split(&outcome.frame).0, src);
        assert_eq!(flows(&mut w), before);
    }
    let returned = {
        frame::set_outer(&mut forged, underlay(4), underlay(2));
        w.arrive(2, &forged).unwrap()
    };
    assert_eq!((returned.end, returned.hosts), (End::Dropped(4), vec![2, 4]));
}

#[test]
fn a_direct_packet_for_a_waiting_flow_without_a_peer_is_not_delivered() {
    // The peer of a waiting flow is 0.0.0.0: an outer source of 0.0.0.0 must not equal it.
    let (mut w, a, b) = world();
    request(&mut w, &a, &b, 1000);
    let mut forged = b.frame(Ip::tcp(b.address, a.address, 80, 1000, 0x12));
    let outer = mizar_packet::geneve::Outer {
        src: [0; 4],
        dst: underlay(1),
        tos: 0,
        source_port: 50_000,
        vni: VNI,
        options: 0,
        frame: forged.len(),
    };
    let inner = forged.split_off(0);
    let mut forged = [&[0; 12][..], &[8, 0], &outer.bytes(), &inner].concat();
    let outcome = w.host(1).run("uplink_tcx", &forged, UPLINK, 0).unwrap();
    assert!(frame::is_encapsulated(&outcome.frame), "turned around, not delivered");
    frame::set_outer(&mut forged, underlay(4), underlay(1));
    let journey = w.arrive(1, &forged).unwrap();
    assert_eq!(journey.end, End::Dropped(4));
}

/// The acknowledging reply of a fresh connection on the wire, before the initiator's host has it.
fn acknowledgement(w: &mut World, a: &Port, b: &Port, sport: u16) -> Vec<u8> {
    w.deliver(a, b, Ip::tcp(a.address, b.address, sport, 80, 2));
    let reply = b.frame(Ip::tcp(b.address, a.address, 80, sport, 0x12));
    w.host(2).run("endpoint_egress", &reply, b.ifindex, 0).unwrap().frame
}

#[test]
fn an_acknowledgement_with_another_cookie_teaches_nothing() {
    let (mut w, a, b) = world();
    let ack = acknowledgement(&mut w, &a, &b, 1000);
    let mut forged = ack.clone();
    let mut body = frame::body(&ack);
    body.set_cookie(body.cookie() ^ 1);
    body.set_origin(underlay(4));
    frame::set_outer(&mut forged, underlay(4), underlay(1));
    frame::sign(&mut forged, body, utc());
    let before = flows(&mut w);
    let journey = w.arrive(1, &forged).unwrap();
    assert!(matches!(journey.end, End::Dropped(_)), "{journey:?}");
    assert_eq!(flows(&mut w), before);
    let journey = w.arrive(1, &ack).unwrap();
    assert!(matches!(journey.end, End::Delivered { ep_id: 11, .. }), "the genuine one still counts");
}

#[test]
fn a_return_counts_from_the_peer_or_with_the_cookie_only() {
    let (mut w, a, b) = world();
    w.connect(&a, &b, 1000);
    let data = a.frame(Ip::tcp(a.address, b.address, 1000, 80, 0x18));
    let direct = w.send(&a, &data).unwrap().wire[0].clone();
    let saved = flows(&mut w);
    w.host(2).evict().unwrap();
    let genuine = w.host(2).run("uplink_tcx", &direct, UPLINK, 0).unwrap().frame;
    for (key, flow) in &saved[1] {
        w.host(2).put("FLOW_EST", *key, *flow).unwrap();
    }
    let body = frame::body(&genuine);
    let mut from_elsewhere = genuine.clone();
    frame::set_outer(&mut from_elsewhere, underlay(4), underlay(1));
    frame::sign(&mut from_elsewhere, body, utc());
    assert_refused(&mut w, 1, &from_elsewhere, 11, "bad_cookie");
    // Another host that knows the key may not speak in the peer's name either.
    let mut signed_elsewhere = genuine.clone();
    let mut foreign = body;
    foreign.set_origin(underlay(4));
    frame::sign(&mut signed_elsewhere, foreign, utc());
    assert_refused(&mut w, 1, &signed_elsewhere, 11, "bad_cookie");
    let mut wrong = genuine.clone();
    let mut body = frame::body(&genuine);
    body.set_cookie(77);
    frame::sign(&mut wrong, body, utc());
    assert_refused(&mut w, 1, &wrong, 11, "bad_cookie");
    let mut tired = genuine.clone();
    let mut body = frame::body(&genuine);
    body.set_hops(0);
    frame::sign(&mut tired, body, utc());
    assert_refused(&mut w, 1, &tired, 11, "loop");
    assert!(matches!(w.arrive(1, &genuine).unwrap().end, End::Delivered { ep_id: 12, .. }));
}

#[test]
fn a_denial_needs_the_cookie_and_a_flow_that_waits() {
    let (mut w, a, b) = world();
    let mut denial = request(&mut w, &a, &b, 1000);
    let mut body = frame::body(&denial);
    body.set_kind(Kind::Denied);
    body.set_reason(mizar_abi::option::code::UNREACHABLE);
    let genuine = body;
    frame::set_outer(&mut denial, underlay(3), underlay(1));
    body.set_cookie(body.cookie() ^ 1);
    frame::sign(&mut denial, body, utc());
    w.counts().unwrap();
    let before = flows(&mut w);
    assert_eq!(w.arrive(1, &denial).unwrap().end, End::Dropped(1));
    w.assert_counts(&[("h1 denied_in", 1), ("h1 p11 dropped bad_cookie", 1)]);
    assert_eq!(flows(&mut w), before);
    // An established flow is not cut, not even by a denial that knows its cookie.
    w.connect(&a, &b, 2000);
    let mut late = denial.clone();
    let inner = at::BODY + 48 + 14;
    late[inner + 20..inner + 22].copy_from_slice(&2000u16.to_be_bytes());
    let mut body = genuine;
    body.set_sport(2000);
    let flow = w.host(1).flow(a.flow(6, 2000, b.address, 80)).unwrap();
    body.set_cookie(flow.cookie);
    frame::sign(&mut late, body, utc());
    assert_eq!(w.arrive(1, &late).unwrap().end, End::Dropped(1));
    w.assert_direct(&a, &b, 2000);
}

#[test]
fn an_admission_for_another_networks_port_is_not_delivered() {
    let (mut w, a, b) = world();
    w.subnet(0x9999, 9, [10, 0, 0, 0], &[[4, 0]]).unwrap();
    let other = w.port(2, 22, 9, 6).unwrap();
    let mut admission = w.send(&a, &a.frame(Ip::tcp(a.address, b.address, 1000, 80, 2))).unwrap().wire[1].clone();
    let mut body = frame::body(&admission);
    assert_eq!(body.kind(), Some(Kind::Admitted));
    // A bouncer gone wrong (or an attacker with the key) names the other network's port.
    body.set_ep_id(other.ep_id);
    frame::sign(&mut admission, body, utc());
    let journey = w.arrive(2, &admission).unwrap();
    assert!(!matches!(journey.end, End::Delivered { .. }), "{journey:?}");
}

#[test]
fn hops_end_a_loop() {
    let (mut w, a, b) = world();
    let mut request = request(&mut w, &a, &b, 1000);
    let mut body = frame::body(&request);
    body.set_hops(0);
    frame::sign(&mut request, body, utc());
    assert_refused(&mut w, 3, &request, 0, "loop");
}

#[test]
fn malformed_geneve_is_dropped_by_name_and_what_is_not_ours_is_left_alone() {
    let (mut w, a, b) = world();
    w.connect(&a, &b, 1000);
    let direct = w.send(&a, &a.frame(Ip::tcp(a.address, b.address, 1000, 80, 0x18))).unwrap().wire[0].clone();
    for (at, value, reason) in [
        (42, 0x40, "bad_geneve"), // version 1
        (42, 0x3f, "bad_geneve"), // more options than there is packet
        (42, 0x01, "bad_geneve"), // an option's header out of the inner MAC
        (44, 0x08, "bad_geneve"), // no Ethernet inside
        (43, 0x80, "bad_tag"),    // a control packet that nobody signed
        (17, 0xff, "bad_geneve"), // outer length
        (39, 0x00, "bad_geneve"), // UDP length
        (62, 0x86, "bad_geneve"), // inner EtherType
        (64, 0x4f, "malformed"),  // inner header longer than the packet
        (67, 0x10, "malformed"),  // inner length shorter than its header
    ] {
        let mut bad = direct.clone();
        bad[at] = value;
        assert_refused(&mut w, 2, &bad, 0, reason);
    }
    for (at, value) in [(12, 0x86), (14, 0x46), (23, 6), (33, 77), (36, 1), (20, 0x20)] {
        let mut other = direct.clone();
        other[at] = value;
        for program in ["uplink_tcx", "uplink_xdp"] {
            let outcome = w.host(2).run(program, &other, if program == "uplink_tcx" { UPLINK } else { 0 }, 0).unwrap();
            assert_eq!(outcome.verdict, if program == "uplink_tcx" { NEXT } else { 2 }, "byte {at}");
            assert_eq!(outcome.frame, other, "untouched");
        }
    }
    assert!(w.counts().unwrap().keys().all(|k| !k.contains("dropped")));
}

#[test]
fn every_truncated_length_is_survived() {
    let (mut w, a, b) = world();
    let first = w.send(&a, &a.frame(Ip::tcp(a.address, b.address, 1000, 80, 2))).unwrap();
    for whole in [&first.wire[0], &first.wire[1]] {
        for len in 34..whole.len() {
            for host in [2, 3] {
                for (program, ifindex) in [("uplink_xdp", 0), ("uplink_tcx", UPLINK)] {
                    let outcome = w.host(host).run(program, &whole[..len], ifindex, 0).unwrap();
                    assert!([NEXT, SHOT, 2].contains(&outcome.verdict), "{len} bytes: {}", outcome.verdict);
                }
            }
        }
    }
    let frame = a.frame(Ip::tcp(a.address, b.address, 1000, 80, 2));
    for len in 34..frame.len() {
        let outcome = w.host(1).run("endpoint_egress", &frame[..len], a.ifindex, 0).unwrap();
        assert_eq!(outcome.verdict, SHOT, "{len} bytes");
    }
}
