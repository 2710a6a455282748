//! What was lost is found again, and no packet with it: evictions, removals, moves, stale tables.

use mizar_abi::maps::{Bounce, State, UNFILTERED};
use mizar_dataplane_tests::{
    World,
    frame::{self, Ip},
    host::UPLINK,
    links,
    world::{End, Port, underlay},
};
use mizar_packet::option::Body;

const VNI: u32 = 0x1234;

fn world() -> (World, Port, Port) {
    let mut w = World::new(5).unwrap();
    w.subnet(VNI, 7, [10, 0, 0, 0], &[[3, 4]]).unwrap();
    let a = w.port(1, 11, 7, 5).unwrap();
    let b = w.port(2, 12, 7, 6).unwrap();
    (w, a, b)
}

#[test]
fn a_flow_lost_by_either_end_or_both_goes_on_whoever_speaks_first() {
    let (mut w, a, b) = world();
    let mut sport = 1000;
    for lost in [vec![1], vec![2], vec![1, 2]] {
        for first_speaks in [true, false] {
            sport += 1;
            w.connect(&a, &b, sport);
            for host in &lost {
                w.host(*host).evict().unwrap();
            }
            let there = (a, b, Ip::tcp(a.address, b.address, sport, 80, 0x18));
            let back = (b, a, Ip::tcp(b.address, a.address, 80, sport, 0x18));
            let order = if first_speaks { [&there, &back, &there, &back] } else { [&back, &there, &back, &there] };
            for (from, to, ip) in order {
                w.deliver(from, to, ip.clone());
            }
            w.assert_direct(&a, &b, sport);
        }
    }
}

#[test]
fn a_direct_packet_without_its_flow_comes_back_and_is_asked_for_again() {
    let (mut w, a, b) = world();
    let bouncer = w.connect(&a, &b, 1000)[1];
    w.host(2).evict().unwrap();
    let way = w.deliver(&a, &b, Ip::tcp(a.address, b.address, 1000, 80, 0x18));
    assert_eq!((way.len(), &way[..3], way[4]), (5, &[1, 2, 1][..], 2));
    let bounced = format!("h{} bounced", way[3]);
    let tcx = format!("h{} transit_tcx", way[3]);
    w.assert_counts(&[
        ("h1 direct_out", 1),
        ("h2 return_out", 1),
        ("h1 return_in", 1),
        ("h1 request_out", 1),
        (&bounced, 1),
        (&tcx, 1),
        ("h2 admitted_in", 1),
    ]);
    assert!([3, 4].contains(&bouncer));
}

#[test]
fn every_packet_of_a_burst_that_was_under_way_is_delivered() {
    let (mut w, a, b) = world();
    w.connect(&a, &b, 1000);
    // Three packets leave before the first comes back.
    let data = a.frame(Ip::tcp(a.address, b.address, 1000, 80, 0x18));
    let sent: Vec<_> = (0..3).map(|_| w.host(1).run("endpoint_egress", &data, a.ifindex, 0).unwrap().frame).collect();
    w.host(2).evict().unwrap();
    let back: Vec<_> = sent.iter().map(|f| w.host(2).run("uplink_tcx", f, UPLINK, 0).unwrap().frame).collect();
    for frame in back {
        let journey = w.arrive(1, &frame).unwrap();
        assert!(matches!(journey.end, End::Delivered { ep_id: 12, .. }), "{journey:?}");
    }
}

#[test]
fn a_moved_port_is_followed_by_its_old_host_and_then_directly() {
    let (mut w, a, b) = world();
    w.connect(&a, &b, 1000);
    let b = w.migrate(&b, 5).unwrap();
    // The bouncers do not know yet. A new flow:
    let way = w.deliver(&a, &b, Ip::tcp(a.address, b.address, 2000, 80, 2));
    assert_eq!((way[0], &way[2..]), (1, &[2, 5][..]), "old host passes the admission on");
    w.deliver(&b, &a, Ip::tcp(b.address, a.address, 80, 2000, 0x12));
    w.assert_direct(&a, &b, 2000);
    // The established one: its next direct packet comes back from the old host.
    let way = w.deliver(&a, &b, Ip::tcp(a.address, b.address, 1000, 80, 0x18));
    assert_eq!((&way[..3], &way[4..]), (&[1, 2, 1][..], &[2, 5][..]));
    w.deliver(&b, &a, Ip::tcp(b.address, a.address, 80, 1000, 0x18));
    w.assert_direct(&a, &b, 1000);
    // Bouncers told, a third flow goes straight.
    w.announce(&b).unwrap();
    let way = w.deliver(&a, &b, Ip::tcp(a.address, b.address, 3000, 80, 2));
    assert_eq!((way.len(), way[2]), (3, 5));
}

#[test]
fn a_return_from_a_moved_port_names_its_new_host() {
    let (mut w, a, b) = world();
    w.connect(&a, &b, 1000);
    w.migrate(&b, 5).unwrap();
    let data = a.frame(Ip::tcp(a.address, b.address, 1000, 80, 0x18));
    let journey = w.send(&a, &data).unwrap();
    let returned = frame::body(&journey.wire[1]);
    assert_eq!(returned.new_host(), underlay(5));
    assert_eq!(returned.reason(), mizar_abi::option::code::MOVED);
}

#[test]
fn a_bouncer_that_does_not_know_asks_the_other_one() {
    let (mut w, a, b) = world();
    w.host(3)
        .remove::<mizar_abi::maps::VniAddress, Bounce>(
            "BOUNCE",
            mizar_abi::maps::VniAddress::new(VNI, mizar_abi::mapped(b.address)),
        )
        .unwrap();
    let mut asked_wrong_one = 0;
    for sport in 1000..1020 {
        let way = w.deliver(&a, &b, Ip::udp(a.address, b.address, sport, 53, b"?"));
        match way[..] {
            [1, 3, 4, 2] => asked_wrong_one += 1,
            [1, 4, 2] => {}
            _ => panic!("{way:?}"),
        }
    }
    assert!(asked_wrong_one > 0, "some flows ask host 3 first");
    let counts = w.counts().unwrap();
    assert_eq!(counts["h3 sibling"], asked_wrong_one);
}

#[test]
fn an_admission_for_a_port_that_never_was_here_goes_to_the_other_bouncer_once() {
    let (mut w, a, b) = world();
    // Bouncer 3 believes that b is on host 5; the truth is with 4.
    w.tell(3, &b, Bounce { host: 5, ep_id: b.ep_id, set: UNFILTERED, generation: 1 }).unwrap();
    w.host(5)
        .put_prefix(
            "ROUTE",
            32 + 96 + 24,
            mizar_abi::maps::VniAddress::new(VNI, mizar_abi::mapped([10, 0, 0, 0])),
            mizar_abi::maps::Route { kind: 1, subnet: 7, shards: 7, ..Default::default() },
        )
        .unwrap();
    w.host(5)
        .put(
            "SHARD",
            mizar_abi::maps::ShardKey { set: 7, shard: 0 },
            mizar_abi::maps::Shard { hosts: [3, 4], pairs: 0 },
        )
        .unwrap();
    let ways: Vec<_> = (1000..1020).map(|p| w.deliver(&a, &b, Ip::udp(a.address, b.address, p, 53, b"?"))).collect();
    assert!(ways.contains(&vec![1, 3, 5, 4, 2]), "{ways:?}");
    // If both are wrong, it ends.
    w.tell(4, &b, Bounce { host: 5, ep_id: b.ep_id, set: UNFILTERED, generation: 1 }).unwrap();
    w.counts().unwrap();
    let journey = w.send(&a, &a.frame(Ip::udp(a.address, b.address, 2000, 53, b"?"))).unwrap();
    assert_eq!(journey.end, End::Dropped(5), "{journey:?}");
    assert_eq!(w.counts().unwrap()["h5 p0 dropped no_endpoint"], 1);
}

#[test]
fn a_deleted_port_is_unreachable_for_new_and_old_flows() {
    let (mut w, a, b) = world();
    w.connect(&a, &b, 1000);
    w.withdraw(&b).unwrap();
    w.unwire(&b).unwrap();
    w.host(2).evict().unwrap();
    for (sport, flags) in [(1000, 0x18), (2000, 2)] {
        w.counts().unwrap();
        let journey = w.send(&a, &a.frame(Ip::tcp(a.address, b.address, sport, 80, flags))).unwrap();
        let End::Delivered { ep_id: 11, frame, .. } = &journey.end else { panic!("{journey:?}") };
        let (kind, code, _, from, _) = frame::icmp_error(frame);
        assert_eq!((kind, code, from), (3, 1, [10, 0, 0, 1]));
        let counts = w.counts().unwrap();
        assert_eq!(counts["h1 p11 dropped unreachable"], 1);
        // For a second the flow is refused at once.
        let journey = w.send(&a, &a.frame(Ip::tcp(a.address, b.address, sport, 80, flags))).unwrap();
        assert_eq!((journey.end, journey.hosts), (End::Dropped(1), vec![1]));
        assert_eq!(w.counts().unwrap()["h1 p11 dropped flow_denied"], 1);
    }
}

#[test]
fn a_request_without_an_answer_asks_the_other_bouncer() {
    let (mut w, a, b) = world();
    let syn = a.frame(Ip::tcp(a.address, b.address, 1000, 80, 2));
    let first = w.host(1).run("endpoint_egress", &syn, a.ifindex, 0).unwrap();
    let (asked, _) = frame::split(&first.frame);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(5);
    loop {
        let again = w.host(1).run("endpoint_egress", &syn, a.ifindex, 0).unwrap();
        let (other, _) = frame::split(&again.frame);
        if other != asked {
            assert_eq!(frame::body(&again.frame).reason(), 1, "the number of tries is told");
            break;
        }
        assert!(std::time::Instant::now() < deadline, "always the same one");
    }
    assert_eq!(w.host(1).flow(a.flow(6, 1000, b.address, 80)).unwrap().tries, 1);
}

#[test]
fn a_dead_bouncer_is_not_asked_unless_both_are() {
    let (mut w, a, b) = world();
    w.host(1).put("DEAD", 3u32, 1u8).unwrap();
    for sport in 1000..1020 {
        assert_eq!(w.deliver(&a, &b, Ip::udp(a.address, b.address, sport, 53, b"?")), [1, 4, 2]);
    }
    w.host(1).put("DEAD", 4u32, 1u8).unwrap();
    let asked: std::collections::BTreeSet<_> =
        (2000..2020).map(|p| w.deliver(&a, &b, Ip::udp(a.address, b.address, p, 53, b"?"))[1]).collect();
    assert_eq!(asked.into_iter().collect::<Vec<_>>(), [3, 4]);
}

#[test]
fn a_closed_connection_reopens_by_syn_and_by_nothing_else() {
    let (mut w, a, b) = world();
    w.connect(&a, &b, 1000);
    w.deliver(&a, &b, Ip::tcp(a.address, b.address, 1000, 80, 0x11));
    w.deliver(&b, &a, Ip::tcp(b.address, a.address, 80, 1000, 0x11));
    w.deliver(&a, &b, Ip::tcp(a.address, b.address, 1000, 80, 0x10));
    let key = a.flow(6, 1000, b.address, 80);
    assert_eq!(w.host(1).flow(key).unwrap().state, State::Closing as u8);
    let way = w.connect(&a, &b, 1000);
    assert_eq!(way.len(), 3, "asked again: {way:?}");
    assert_eq!(w.host(1).flow(key).unwrap().state, State::Est as u8);
}

#[test]
fn a_one_way_stream_raises_an_event_for_an_acknowledgement() {
    let (mut w, a, b) = world();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(5);
    let mut events = Vec::new();
    while events.is_empty() && std::time::Instant::now() < deadline {
        w.deliver(&a, &b, Ip::udp(a.address, b.address, 5, 6, b"x"));
        events = w.host(2).events().unwrap();
    }
    let kind = u32::from_ne_bytes(events[0][..4].try_into().unwrap());
    let ep_id = u32::from_ne_bytes(events[0][4..8].try_into().unwrap());
    assert_eq!((kind, ep_id), (mizar_abi::maps::EventKind::NeedAck as u32, b.ep_id));
}

#[test]
fn the_agents_acknowledgement_makes_a_one_way_stream_direct_and_reaches_no_endpoint() {
    let (mut w, a, b) = world();
    let ip = || Ip::udp(a.address, b.address, 5, 6, b"x");
    w.deliver(&a, &b, ip());
    let asked = w.host(1).flow(a.flow(17, 5, b.address, 6)).unwrap();
    let mut body = Body::default();
    body.set_hops(6);
    body.set_origin_vni(VNI);
    body.set_cookie(asked.cookie);
    body.set_sport(6);
    body.set_dport(5);
    let back = Ip::udp(b.address, a.address, 6, 5, b"");
    w.counts().unwrap();
    for forged in [asked.cookie ^ 1, asked.cookie] {
        body.set_cookie(forged);
        let ack = frame::acknowledgement(underlay(2), underlay(1), VNI, &back, body, links::utc());
        assert_eq!(w.arrive(1, &ack).unwrap().end, End::Dropped(1), "nothing is delivered");
        let learned = w.host(1).flow(a.flow(17, 5, b.address, 6)).unwrap().state == State::Est as u8;
        assert_eq!(learned, forged == asked.cookie);
    }
    w.assert_counts(&[("h1 ack_in", 1), ("h1 p0 dropped no_flow", 1)]);
    assert_eq!(w.deliver(&a, &b, ip()), [1, 2], "direct from now on");
}

#[test]
fn a_thousand_packets_under_way_come_back_and_none_is_lost() {
    let (mut w, a, b) = world();
    w.connect(&a, &b, 1000);
    let frame = a.frame(Ip::tcp(a.address, b.address, 1000, 80, 0x18));
    let sent: Vec<Vec<u8>> =
        (0..1000).map(|_| w.host(1).run("endpoint_egress", &frame, a.ifindex, 0).unwrap().frame).collect();
    w.host(2).evict().unwrap();
    let mut direct = sent.into_iter();
    // The first ones come back before any of them has taught host 2 anything.
    let returned: Vec<Vec<u8>> = direct
        .by_ref()
        .take(500)
        .map(|packet| w.host(2).run("uplink_tcx", &packet, UPLINK, 0).unwrap().frame)
        .collect();
    for packet in returned.iter().chain(direct.as_slice()) {
        let at = if frame::split(packet).0[3] == 1 { 1 } else { 2 };
        let journey = w.arrive(at, packet).unwrap();
        assert!(matches!(journey.end, End::Delivered { ep_id, .. } if ep_id == b.ep_id), "{journey:?}");
    }
}
