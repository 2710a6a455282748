//! A flow from its first packet to the direct path.

use mizar_abi::maps::State;
use mizar_dataplane_tests::{
    World,
    frame::Ip,
    world::{End, Port, underlay},
};

const VNI: u32 = 0x1234;

/// Three hosts: a on 1, b on 2, the only bouncer on 3.
fn two_ports() -> (World, Port, Port) {
    let mut w = World::new(3).unwrap();
    w.subnet(VNI, 7, [10, 0, 0, 0], &[[3, 0]]).unwrap();
    let a = w.port(1, 11, 7, 5).unwrap();
    let b = w.port(2, 12, 7, 6).unwrap();
    (w, a, b)
}

#[test]
fn a_connection_takes_the_bouncer_once_and_is_direct_both_ways_after() {
    let (mut w, a, b) = two_ports();
    let syn = a.frame(Ip::tcp(a.address, b.address, 1000, 80, 2));
    let there = w.send(&a, &syn).unwrap();
    assert_eq!(there.hosts, [1, 3, 2]);
    let End::Delivered { ep_id: 12, frame, .. } = &there.end else { panic!("{there:?}") };
    assert_eq!(frame[14..], syn[14..], "the packet itself is untouched");
    w.assert_counts(&[("h1 request_out", 1), ("h2 admitted_in", 1), ("h3 bounced", 1), ("h3 transit_tcx", 1)]);
    let key = a.flow(6, 1000, b.address, 80);
    assert_eq!(w.host(1).flow(key).unwrap().state, State::NewOut as u8);
    let reply = w.send(&b, &b.frame(Ip::tcp(b.address, a.address, 80, 1000, 0x12))).unwrap();
    assert_eq!(reply.hosts, [2, 1]);
    assert!(matches!(reply.end, End::Delivered { ep_id: 11, .. }), "{reply:?}");
    w.assert_counts(&[("h2 ack_out", 1), ("h1 ack_in", 1)]);
    let flow = w.host(1).flow(key).unwrap();
    assert_eq!((flow.state, flow.peer_host), (State::Est as u8, underlay(2)));
    for _ in 0..10 {
        let there = w.send(&a, &a.frame(Ip::tcp(a.address, b.address, 1000, 80, 0x10))).unwrap();
        assert_eq!(there.hosts, [1, 2]);
        assert_eq!(there.wire[0].len(), 54 + 50, "50 bytes of headers and no option");
        let back = w.send(&b, &b.frame(Ip::tcp(b.address, a.address, 80, 1000, 0x10))).unwrap();
        assert_eq!(back.hosts, [2, 1]);
        assert_eq!(back.wire[0].len(), 54 + 50);
    }
    w.assert_counts(&[("h1 direct_out", 10), ("h1 direct_in", 10), ("h2 direct_out", 10), ("h2 direct_in", 10)]);
}
