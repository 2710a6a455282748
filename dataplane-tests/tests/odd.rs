//! Flows that are not a plain connection: echo, fragments, ICMP errors, both sides at once.

use mizar_abi::maps::State;
use mizar_dataplane_tests::{
    World,
    frame::{self, Ip},
    host::UPLINK,
    world::{End, Port},
};

const VNI: u32 = 0x1234;

fn world() -> (World, Port, Port) {
    let mut w = World::new(3).unwrap();
    w.subnet(VNI, 7, [10, 0, 0, 0], &[[3, 0]]).unwrap();
    let a = w.port(1, 11, 7, 5).unwrap();
    let b = w.port(2, 12, 7, 6).unwrap();
    (w, a, b)
}

#[test]
fn equal_echo_ids_in_both_directions_are_two_flows() {
    let (mut w, a, b) = world();
    for id in [0, 1, 7, 0xffff] {
        assert_eq!(w.deliver(&a, &b, Ip::echo(a.address, b.address, 8, id)), [1, 3, 2]);
        // b's own question with the same id does not ride on a's flow: it is asked for.
        assert_eq!(w.deliver(&b, &a, Ip::echo(b.address, a.address, 8, id)), [2, 3, 1], "id {id}");
        assert_eq!(w.deliver(&b, &a, Ip::echo(b.address, a.address, 0, id)), [2, 1]);
        assert_eq!(w.deliver(&a, &b, Ip::echo(a.address, b.address, 0, id)), [1, 2]);
        for _ in 0..2 {
            assert_eq!(w.deliver(&a, &b, Ip::echo(a.address, b.address, 8, id)), [1, 2]);
            assert_eq!(w.deliver(&b, &a, Ip::echo(b.address, a.address, 8, id)), [2, 1]);
        }
    }
}

#[test]
fn both_sides_may_open_at_once() {
    let (mut w, a, b) = world();
    let hop = |w: &mut World, host, frame: &[u8]| w.host(host).run("uplink_tcx", frame, UPLINK, 0).unwrap().frame;
    let ntp = |x: &Port, y: &Port| x.frame(Ip::udp(x.address, y.address, 123, 123, b"ntp"));
    // Both requests are on their way before either arrives.
    let from_a = w.host(1).run("endpoint_egress", &ntp(&a, &b), a.ifindex, 0).unwrap().frame;
    let from_b = w.host(2).run("endpoint_egress", &ntp(&b, &a), b.ifindex, 0).unwrap().frame;
    let from_a = hop(&mut w, 3, &from_a);
    let from_b = hop(&mut w, 3, &from_b);
    for (host, frame) in [(2, from_a), (1, from_b)] {
        let journey = w.arrive(host, &frame).unwrap();
        assert!(matches!(journey.end, End::Delivered { .. }), "{journey:?}");
    }
    for (x, y) in [(&a, &b), (&b, &a)] {
        assert_eq!(w.host(x.host).flow(x.flow(17, 123, y.address, 123)).unwrap().state, State::Est as u8);
    }
    for _ in 0..2 {
        for (x, y) in [(&a, &b), (&b, &a)] {
            w.deliver(x, y, Ip::udp(x.address, y.address, 123, 123, b"ntp"));
        }
    }
    w.counts().unwrap();
    let journey = w.send(&a, &ntp(&a, &b)).unwrap();
    assert_eq!(journey.wire[0].len(), ntp(&a, &b).len() + 50, "no option any more");
    w.assert_counts(&[("h1 direct_out", 1), ("h2 direct_in", 1)]);
}

/// The parts of one datagram, 8 bytes of header and ports in the first.
fn fragments(a: &Port, b: &Port, id: u16) -> Vec<Ip> {
    let whole = Ip::udp(a.address, b.address, 5, 6, &[9; 2_000]);
    [(0, 800, true), (800, 1_600, true), (1_600, 2_008, false)]
        .map(|(from, to, more)| Ip {
            id,
            bits: (from / 8) as u16 | if more { 0x2000 } else { 0 },
            payload: whole.payload[from..to].to_vec(),
            ..whole.clone()
        })
        .to_vec()
}

#[test]
fn fragments_follow_their_first_one_first_and_direct() {
    let (mut w, a, b) = world();
    for part in fragments(&a, &b, 1) {
        assert_eq!(w.deliver(&a, &b, part), [1, 3, 2], "asked for, all by the same way");
    }
    assert_eq!(w.deliver(&b, &a, Ip::udp(b.address, a.address, 6, 5, b"thanks")), [2, 1]);
    for part in fragments(&a, &b, 2) {
        assert_eq!(w.deliver(&a, &b, part.clone()), [1, 2]);
        let journey = w.send(&a, &a.frame(part.clone())).unwrap();
        assert_eq!(journey.wire[0].len(), a.frame(part).len() + 58, "an option of 8 bytes names the ports");
    }
    assert_eq!(w.host(1).all::<mizar_abi::maps::FlowKey, mizar_abi::maps::Flow>("FLOW_EST").unwrap().len(), 1);
}

#[test]
fn a_fragment_whose_first_part_was_not_seen_is_dropped() {
    let (mut w, a, b) = world();
    let [_, second, _] = &fragments(&a, &b, 3)[..] else { unreachable!() };
    let journey = w.send(&a, &a.frame(second.clone())).unwrap();
    assert_eq!(journey.end, End::Dropped(1));
    w.assert_counts(&[("h1 p11 dropped frag_no_head", 1)]);
}

#[test]
fn direct_fragments_of_a_flow_that_was_lost_come_back_and_arrive() {
    let (mut w, a, b) = world();
    for part in fragments(&a, &b, 1) {
        w.deliver(&a, &b, part);
    }
    w.deliver(&b, &a, Ip::udp(b.address, a.address, 6, 5, b"thanks"));
    w.host(2).evict().unwrap();
    for (i, part) in fragments(&a, &b, 2).into_iter().enumerate() {
        let way = w.deliver(&a, &b, part);
        assert_eq!(way, if i == 0 { vec![1, 2, 1, 3, 2] } else { vec![1, 3, 2] });
    }
}

#[test]
fn ports_that_an_option_names_are_believed_of_later_fragments_alone() {
    let (mut w, a, b) = world();
    for part in fragments(&a, &b, 1) {
        w.deliver(&a, &b, part);
    }
    w.deliver(&b, &a, Ip::udp(b.address, a.address, 6, 5, b"thanks"));
    let first = fragments(&a, &b, 2).swap_remove(0);
    let mut wire = w.send(&a, &a.frame(first)).unwrap().wire[0].clone();
    // Who can send from a's host, but knows no key, sends to another port under the name of the one that is open.
    let ports = 58 + 14 + 20;
    assert_eq!(wire[ports..ports + 4], [0, 5, 0, 6]);
    wire[ports + 3] = 7;
    let journey = w.arrive(2, &wire).unwrap();
    assert_eq!((journey.end, journey.hosts), (End::Dropped(1), vec![2, 1]), "back to where nobody knows of it");
}

#[test]
fn an_icmp_error_travels_with_the_flow_it_is_about_and_no_other() {
    let (mut w, a, b) = world();
    let question = Ip::udp(a.address, b.address, 5, 33434, b"anyone?");
    w.deliver(&a, &b, question.clone());
    let about = |ip: &Ip| {
        let mut l4 = vec![3, 3, 0, 0, 0, 0, 0, 0];
        l4.extend_from_slice(&ip.packet()[..28]);
        let sum = frame::checksum(&l4);
        l4[2..4].copy_from_slice(&sum.to_be_bytes());
        Ip::new(b.address, a.address, 1, l4)
    };
    assert_eq!(w.deliver(&b, &a, about(&question)), [2, 1], "as an acknowledgement");
    assert_eq!(w.deliver(&a, &b, question.clone()), [1, 2]);
    assert_eq!(w.deliver(&b, &a, about(&question)), [2, 1]);
    w.counts().unwrap();
    let invented = Ip::udp(a.address, b.address, 6, 33434, b"never sent");
    let journey = w.send(&b, &b.frame(about(&invented))).unwrap();
    assert_eq!(journey.end, End::Dropped(2));
    w.assert_counts(&[("h2 p12 dropped icmp_no_flow", 1)]);
}

#[test]
fn other_protocols_are_flows_without_ports() {
    let (mut w, a, b) = world();
    assert_eq!(w.deliver(&a, &b, Ip::new(a.address, b.address, 47, vec![0; 40])), [1, 3, 2]);
    assert_eq!(w.deliver(&b, &a, Ip::new(b.address, a.address, 47, vec![0; 40])), [2, 1]);
    assert_eq!(w.deliver(&a, &b, Ip::new(a.address, b.address, 47, Vec::new())), [1, 2]);
    // SCTP has ports where UDP has them.
    let sctp = |x: &Port, y: &Port, s: u16, d: u16| {
        Ip::new(x.address, y.address, 132, [s.to_be_bytes(), d.to_be_bytes(), [0; 2], [0; 2], [0; 2], [0; 2]].concat())
    };
    assert_eq!(w.deliver(&a, &b, sctp(&a, &b, 1, 2)), [1, 3, 2]);
    assert_eq!(w.deliver(&a, &b, sctp(&a, &b, 3, 2)), [1, 3, 2], "another flow");
    assert_eq!(w.deliver(&b, &a, sctp(&b, &a, 2, 1)), [2, 1]);
}

#[test]
fn ipv4_options_and_type_of_service_survive() {
    let (mut w, a, b) = world();
    let odd = Ip { options: vec![1; 40], tos: 0xb8, ..Ip::udp(a.address, b.address, 5, 6, b"x") };
    for _ in 0..2 {
        let journey = w.send(&a, &a.frame(odd.clone())).unwrap();
        let End::Delivered { ep_id: 12, frame, .. } = &journey.end else { panic!("{journey:?}") };
        assert_eq!(frame[14..], a.frame(odd.clone())[14..]);
        assert!(journey.wire.iter().all(|f| f[15] == 0xb8), "the outer type of service is the inner one's");
    }
}

#[test]
fn a_connection_through_options_that_nobody_knows_still_works() {
    // Another version's non-critical option beside ours is skipped; the answer has ours alone.
    let (mut w, a, b) = world();
    let request =
        w.host(1).run("endpoint_egress", &a.frame(Ip::udp(a.address, b.address, 5, 6, b"x")), a.ifindex, 0).unwrap();
    let mut wider = request.frame.clone();
    wider.splice(50..50, [0x12, 0x34, 0x01, 1, 9, 9, 9, 9]);
    wider[42] += 2;
    let (total, udp) = (wider.len() as u16 - 14, wider.len() as u16 - 34);
    wider[16..18].copy_from_slice(&total.to_be_bytes());
    wider[38..40].copy_from_slice(&udp.to_be_bytes());
    let (src, dst) = (frame::four(&wider, 26), frame::four(&wider, 30));
    frame::set_outer(&mut wider, src, dst);
    let journey = w.arrive(3, &wider).unwrap();
    assert!(matches!(journey.end, End::Delivered { ep_id: 12, .. }), "{journey:?}");
    assert_eq!(journey.wire[0].len(), request.frame.len());
}
