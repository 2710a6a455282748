//! Every placement of roles: who is asked, and that the way is direct afterwards.

use mizar_dataplane_tests::{
    World,
    frame::Ip,
    world::{End, Port},
};

const VNI: u32 = 0x1234;

/// a on host 1, b on host 2 or 1, the bouncer on 3.
fn world(b_on: u32) -> (World, Port, Port) {
    let mut w = World::new(3).unwrap();
    w.subnet(VNI, 7, [10, 0, 0, 0], &[[3, 0]]).unwrap();
    let a = w.port(1, 11, 7, 5).unwrap();
    let b = w.port(b_on, 12, 7, 6).unwrap();
    (w, a, b)
}

#[test]
fn the_bouncer_may_be_on_any_host() {
    let mut w = World::new(3).unwrap();
    let mut n = 0;
    for xdp in [false, true] {
        w.xdp = xdp;
        for (bouncer, b_on, way) in
            [(3, 2, vec![1, 3, 2]), (1, 2, vec![1, 2]), (2, 2, vec![1, 2]), (3, 1, vec![1, 3, 1]), (1, 1, vec![1])]
        {
            // A network of its own for each placement.
            n += 1;
            w.subnet(VNI + n, n, [10, 0, 0, 0], &[[bouncer, 0]]).unwrap();
            let a = w.port(1, n * 10 + 1, n, 5).unwrap();
            let b = w.port(b_on, n * 10 + 2, n, 6).unwrap();
            assert_eq!(w.connect(&a, &b, 1000), way, "bouncer on {bouncer}, peer on {b_on}, xdp {xdp}");
        }
    }
}

#[test]
fn xdp_does_transit_and_leaves_everything_else_to_tcx() {
    let (mut w, a, b) = world(2);
    w.xdp = true;
    w.deliver(&a, &b, Ip::udp(a.address, b.address, 5, 6, b"x"));
    w.assert_counts(&[("h1 request_out", 1), ("h3 transit_xdp", 1), ("h3 bounced", 1), ("h2 admitted_in", 1)]);
    let nowhere = a.frame(Ip::udp(a.address, [10, 0, 0, 77], 5, 6, b"x"));
    let journey = w.send(&a, &nowhere).unwrap();
    assert_eq!(journey.hosts, [1, 3, 1]);
    assert!(matches!(journey.end, End::Delivered { ep_id: 11, .. }), "the sender is told: {journey:?}");
    w.assert_counts(&[
        ("h1 request_out", 1),
        ("h3 transit_xdp", 1),
        ("h3 denied_out", 1),
        ("h1 denied_in", 1),
        ("h1 p11 dropped unreachable", 1),
    ]);
}

#[test]
fn two_neighbours_cross_the_wire_once_and_never_again() {
    let (mut w, a, b) = world(1);
    assert_eq!(w.deliver(&a, &b, Ip::udp(a.address, b.address, 5, 6, b"x")), [1, 3, 1]);
    w.assert_counts(&[("h1 request_out", 1), ("h3 bounced", 1), ("h3 transit_tcx", 1), ("h1 admitted_in", 1)]);
    assert_eq!(w.deliver(&b, &a, Ip::udp(b.address, a.address, 6, 5, b"y")), [1]);
    assert_eq!(w.deliver(&a, &b, Ip::udp(a.address, b.address, 5, 6, b"z")), [1]);
    w.assert_counts(&[("h1 local", 2)]);
}

/// Two subnets, dividers and bouncers by choice; a in the first on host 1, b in the second on 2.
fn routed(dividers: &[[u32; 2]], bouncers_b: &[[u32; 2]]) -> (World, Port, Port) {
    let mut w = World::new(5).unwrap();
    w.subnet(VNI, 7, [10, 0, 0, 0], &[[3, 0]]).unwrap();
    w.subnet(VNI, 8, [10, 0, 1, 0], bouncers_b).unwrap();
    w.dividers(VNI, dividers).unwrap();
    let a = w.port(1, 11, 7, 5).unwrap();
    let b = w.port(2, 12, 8, 6).unwrap();
    (w, a, b)
}

#[test]
fn another_subnet_is_reached_by_a_divider_and_then_directly() {
    let mut w = World::new(5).unwrap();
    let mut n = 0;
    for xdp in [false, true] {
        w.xdp = xdp;
        for (divider, bouncer, way) in [
            (4, 5, vec![1, 4, 5, 2]),
            (4, 4, vec![1, 4, 2]),
            (1, 5, vec![1, 5, 2]),
            (1, 1, vec![1, 2]),
            (2, 5, vec![1, 2, 5, 2]),
            (2, 2, vec![1, 2]),
            // Who is a bouncer of the other subnet holds its shards, and asks it without a divider.
            (4, 1, vec![1, 2]),
        ] {
            n += 2;
            let vni = VNI + n;
            w.subnet(vni, n, [10, 0, 0, 0], &[[3, 0]]).unwrap();
            w.subnet(vni, n + 1, [10, 0, 1, 0], &[[bouncer, 0]]).unwrap();
            w.dividers(vni, &[[divider, 0]]).unwrap();
            let a = w.port(1, n * 10 + 1, n, 5).unwrap();
            let b = w.port(2, n * 10 + 2, n + 1, 6).unwrap();
            assert_eq!(w.connect(&a, &b, 1000), way, "divider on {divider}, bouncer on {bouncer}, xdp {xdp}");
        }
    }
}

#[test]
fn a_routed_packet_loses_one_ttl_each_way_first_and_direct() {
    let (mut w, a, b) = routed(&[[4, 0]], &[[5, 0]]);
    for _ in 0..3 {
        for (x, y, flags) in [(a, b, 2), (b, a, 0x12)] {
            let (sport, dport) = if x == a { (1000, 80) } else { (80, 1000) };
            let frame = x.frame(Ip::tcp(x.address, y.address, sport, dport, flags));
            let journey = w.send(&x, &frame).unwrap();
            let End::Delivered { frame, .. } = journey.end else { panic!("{journey:?}") };
            assert_eq!(frame[22], 63);
            assert_eq!(mizar_dataplane_tests::frame::checksum(&frame[14..34]), 0);
        }
    }
}

#[test]
fn flows_spread_over_both_replicas_and_all_pairs_of_dividers() {
    let (mut w, a, b) = routed(&[[3, 4], [5, 0]], &[[4, 5]]);
    let (mut dividers, mut bouncers) = (std::collections::BTreeMap::new(), std::collections::BTreeMap::new());
    for sport in 1000..1200 {
        let way = w.deliver(&a, &b, Ip::udp(a.address, b.address, sport, 53, b"?"));
        *dividers.entry(way[1]).or_insert(0) += 1;
        *bouncers.entry(way[way.len() - 2]).or_insert(0) += 1;
    }
    assert_eq!(dividers.keys().copied().collect::<Vec<_>>(), [3, 4, 5]);
    assert!(dividers.values().all(|n| *n > 25), "{dividers:?}");
    assert_eq!(bouncers.keys().copied().collect::<Vec<_>>(), [4, 5]);
    assert!(bouncers.values().all(|n| *n > 50), "{bouncers:?}");
}

#[test]
fn a_large_subnet_is_held_in_shards() {
    let mut w = World::new(5).unwrap();
    w.subnet(VNI, 7, [10, 0, 0, 0], &[[2, 0], [3, 0], [4, 0], [5, 0]]).unwrap();
    let a = w.port(1, 11, 7, 5).unwrap();
    let mut asked = std::collections::BTreeSet::new();
    for last in 10..17 {
        let b = w.port(1, 100 + u32::from(last), 7, last);
        let Ok(b) = b else { break };
        let bouncer = w.bouncers_of(7, b.address)[0];
        assert_eq!(w.deliver(&a, &b, Ip::udp(a.address, b.address, 5, 6, b"x")), [1, bouncer, 1]);
        asked.insert(bouncer);
    }
    assert!(asked.len() > 1, "{asked:?}");
}

#[test]
fn networks_with_the_same_addresses_do_not_meet() {
    let mut w = World::new(3).unwrap();
    w.subnet(100, 7, [10, 0, 0, 0], &[[3, 0]]).unwrap();
    w.subnet(200, 8, [10, 0, 0, 0], &[[3, 0]]).unwrap();
    let red = [w.port(1, 11, 7, 5).unwrap(), w.port(2, 12, 7, 6).unwrap()];
    let blue = [w.port(1, 21, 8, 5).unwrap(), w.port(2, 22, 8, 6).unwrap()];
    for ports in [&red, &blue] {
        w.connect(&ports[0], &ports[1], 1000);
    }
    let only_red = w.port(2, 13, 7, 9).unwrap();
    let frame = blue[0].frame(Ip::udp(blue[0].address, only_red.address, 5, 6, b"x"));
    let journey = w.send(&blue[0], &frame).unwrap();
    assert!(matches!(journey.end, End::Delivered { ep_id: 21, .. }), "an ICMP error for blue: {journey:?}");
}
