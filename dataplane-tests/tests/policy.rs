//! Who may reach whom: verdicts of bouncers and of senders' hosts, told as stories of packets.

use mizar_abi::maps::{EventKind, Flow, State, flow_flag};
use mizar_dataplane_tests::{
    World,
    frame::{self, Ip},
    host::UPLINK,
    judged::{CLOSED, DEFAULT, VNI, WEB, pair, state, syn, world},
    policy::{Remote, Rule},
    world::{End, Port, underlay},
};

#[test]
fn members_of_the_default_group_reach_each_other_and_nobody_else_does() {
    let (mut w, a, b) = pair(DEFAULT, DEFAULT);
    w.connect(&a, &b, 1000);
    w.connect(&b, &a, 1000);
    let stranger = w.port_of(WEB, 1, 13, 7, 7).unwrap();
    for xdp in [false, true] {
        w.xdp = xdp;
        w.counts().unwrap();
        assert_eq!(w.assert_refused(&stranger, syn(&stranger, &b, 2000 + u16::from(xdp), 80)), [1, 3, 1]);
        let transit = if xdp { "h3 transit_xdp" } else { "h3 transit_tcx" };
        w.assert_counts(&[
            ("h1 request_out", 1),
            (transit, 1),
            ("h3 denied_out", 1),
            ("h1 denied_in", 1),
            ("h1 p13 dropped policy", 1),
            ("h3 p12 dropped refused", 1),
        ]);
    }
    let events = w.host(1).events().unwrap();
    assert_eq!(events[0][..8], [[EventKind::Denied as u8, 0, 0, 0], stranger.ep_id.to_ne_bytes()].concat());
}

#[test]
fn a_denied_flow_is_dropped_at_its_own_host_for_a_second() {
    let (mut w, a, b) = pair(DEFAULT, WEB);
    w.assert_refused(&a, syn(&a, &b, 1000, 81));
    w.counts().unwrap();
    assert_eq!(w.assert_refused(&a, syn(&a, &b, 1000, 81)), [1]);
    w.assert_counts(&[("h1 p11 dropped flow_denied", 1)]);
    assert_eq!(w.assert_refused(&a, syn(&a, &b, 1001, 81)), [1, 3, 1], "another flow is asked for");
    w.age(1, 1_001).unwrap();
    assert_eq!(w.assert_refused(&a, syn(&a, &b, 1000, 81)), [1, 3, 1]);
}

#[test]
fn ports_and_protocols_count_and_replies_need_no_rule() {
    let (mut w, a, b) = pair(DEFAULT, WEB);
    w.connect(&a, &b, 1000);
    for ip in [
        syn(&a, &b, 1000, 79),
        syn(&a, &b, 1000, 81),
        Ip::udp(a.address, b.address, 1000, 80, b"x"),
        Ip::echo(a.address, b.address, 8, 7),
        syn(&b, &a, 1000, 80),
    ] {
        let from = if ip.src == a.address { a } else { b };
        w.assert_refused(&from, ip);
    }
}

#[test]
fn a_refused_datagram_goes_to_the_endpoints_host_and_no_further() {
    // It might be a reply, which only that host can tell.
    let (mut w, a, b) = pair(DEFAULT, WEB);
    w.counts().unwrap();
    assert_eq!(w.assert_refused(&a, Ip::udp(a.address, b.address, 5, 6, b"x")), [1, 3, 2, 1]);
    w.assert_counts(&[
        ("h1 request_out", 1),
        ("h3 bounced", 1),
        ("h3 reply_only", 1),
        ("h3 transit_tcx", 1),
        ("h2 admitted_in", 1),
        ("h2 denied_out", 1),
        ("h1 denied_in", 1),
        ("h1 p11 dropped policy", 1),
        ("h2 p12 dropped refused", 1),
    ]);
    assert!(w.host(2).flow(b.flow(17, 6, a.address, 5)).is_none(), "nothing is remembered of it");
}

#[test]
fn icmp_is_allowed_by_type_and_code() {
    let (mut w, a, b) = pair(DEFAULT, CLOSED);
    let ping = Rule::ingress(1, (0x0800, 0x0800));
    w.rules(CLOSED, 7, &[ping]).unwrap();
    w.deliver(&a, &b, Ip::echo(a.address, b.address, 8, 7));
    w.deliver(&b, &a, Ip::echo(b.address, a.address, 0, 7));
    w.assert_refused(&a, Ip::echo(a.address, b.address, 13, 8));
    w.assert_refused(&a, Ip::echo(a.address, b.address, 0, 9));
}

#[test]
fn icmp_messages_without_a_question_are_judged_each_by_its_kind() {
    let (mut w, a, b) = pair(DEFAULT, CLOSED);
    // Router advertisements, and echo as it is.
    let allowed = [Rule::ingress(1, (0x0900, 0x0900)), Rule::ingress(1, (0x0800, 0x0800))];
    w.rules(CLOSED, 7, &allowed).unwrap();
    let message = |kind: u8, code: u8| {
        let mut payload = vec![kind, code, 0, 0, 0, 7, 0, 1];
        let sum = frame::checksum(&payload);
        payload[2..4].copy_from_slice(&sum.to_be_bytes());
        Ip::new(a.address, b.address, 1, payload)
    };
    w.deliver(&a, &b, message(9, 0));
    w.deliver(&a, &b, message(8, 0));
    w.deliver(&b, &a, Ip::echo(b.address, a.address, 0, 7));
    for (kind, code) in [(9, 16), (10, 0), (37, 0), (42, 0), (200, 0), (8, 1)] {
        assert_eq!(w.assert_refused(&a, message(kind, code)), [1, 3, 1], "{kind} {code}: for certain");
    }
    w.deliver(&a, &b, message(9, 0));
    w.deliver(&a, &b, message(8, 0));
    // A change of other rules leaves it as it is.
    w.rules(CLOSED, 8, &allowed).unwrap();
    let key = b.flow(1, 0x4900, a.address, 0x0900);
    w.ask(3, &b, key).unwrap();
    assert_eq!(w.host(2).flow(key).unwrap().state, State::NewIn as u8);
}

#[test]
fn equal_echo_ids_in_both_directions_are_judged_apart() {
    let (mut w, a, b) = pair(DEFAULT, WEB);
    w.rules(WEB, 6, &[Rule::ALL_OUT, Rule::ingress(1, (0x0800, 0x08ff))]).unwrap();
    w.deliver(&a, &b, Ip::echo(a.address, b.address, 8, 7));
    w.deliver(&b, &a, Ip::echo(b.address, a.address, 0, 7));
    // b may not ask a, and does not ride on a's question.
    w.assert_refused(&b, Ip::echo(b.address, a.address, 8, 7));
    w.deliver(&a, &b, Ip::echo(a.address, b.address, 8, 7));
    w.deliver(&b, &a, Ip::echo(b.address, a.address, 0, 7));
}

#[test]
fn addresses_are_judged_by_the_longest_prefix_with_what_is_around_it() {
    let (mut w, a, b) = pair(DEFAULT, CLOSED);
    let near = Rule::ingress(6, (80, 80)).from(Remote::Prefix([10, 0, 0, 4], 31));
    let wide = Rule::ingress(6, (443, 443)).from(Remote::Prefix([10, 0, 0, 0], 8));
    let away = Rule::ingress(6, (22, 22)).from(Remote::Prefix([10, 9, 0, 0], 16));
    w.rules(CLOSED, 7, &[near, wide, away]).unwrap();
    let c = w.port_of(DEFAULT, 1, 13, 7, 9).unwrap();
    w.deliver(&a, &b, syn(&a, &b, 1000, 80));
    w.deliver(&a, &b, syn(&a, &b, 1000, 443));
    w.deliver(&c, &b, syn(&c, &b, 1000, 443));
    w.assert_refused(&c, syn(&c, &b, 1000, 80));
    w.assert_refused(&a, syn(&a, &b, 1000, 22));
}

#[test]
fn what_a_port_may_not_send_never_leaves_its_host() {
    let (mut w, a, b) = pair(CLOSED, WEB);
    w.counts().unwrap();
    for ip in [syn(&a, &b, 1000, 80), Ip::udp(a.address, b.address, 5, 80, b"x"), Ip::echo(a.address, b.address, 8, 1)]
    {
        assert_eq!(w.assert_refused(&a, ip), [1]);
    }
    w.assert_counts(&[("h1 p11 dropped policy", 3)]);
    assert!(w.host(1).all::<mizar_abi::maps::FlowKey, Flow>("FLOW_NEW").unwrap().is_empty());
}

#[test]
fn a_port_without_egress_answers_who_may_reach_it() {
    let (mut w, a, b) = pair(DEFAULT, CLOSED);
    w.rules(CLOSED, 7, &[Rule::ingress(6, (80, 80))]).unwrap();
    w.connect(&a, &b, 1000);
    assert_eq!(w.assert_refused(&b, syn(&b, &a, 1000, 80)), [2]);
}

/// a may send to the ports of this set alone.
const TO_WEB: u32 = 9;

fn to_web(bouncers: [u32; 2], host: u32, destination: u32) -> (World, Port, Port) {
    let mut w = world(bouncers);
    let only = Rule { egress: true, ..Rule::all_in(Remote::Set(WEB)) };
    w.rules(TO_WEB, 3, &[only]).unwrap();
    w.rules(DEFAULT, 7, &[Rule::ALL_OUT, Rule::ingress(6, (80, 80))]).unwrap();
    let a = w.port_of(TO_WEB, 1, 11, 7, 5).unwrap();
    let b = w.port_of(destination, host, 12, 7, 6).unwrap();
    (w, a, b)
}

#[test]
fn egress_by_group_asks_for_the_destinations_identity_once() {
    for xdp in [false, true] {
        let (mut w, a, b) = to_web([3, 0], 2, WEB);
        w.xdp = xdp;
        assert_eq!(w.deliver(&a, &b, syn(&a, &b, 1000, 80)), [1, 3, 1, 3, 2]);
        let flow = state(&mut w, &a, (6, 1000, b.address, 80));
        assert_eq!(flow.flags & (flow_flag::I_INIT | flow_flag::NEED_ID), flow_flag::I_INIT);
        assert_eq!(flow.peer_identity, WEB);
        assert_eq!(w.deliver(&a, &b, syn(&a, &b, 1000, 80)), [1, 3, 2], "known by now");
        w.deliver(&b, &a, Ip::tcp(b.address, a.address, 80, 1000, 0x12));
        w.deliver(&a, &b, Ip::tcp(a.address, b.address, 1000, 80, 0x10));
        w.assert_direct(&a, &b, 1000);
    }
}

#[test]
fn egress_by_group_is_denied_by_the_senders_host() {
    let (mut w, a, b) = to_web([3, 0], 2, DEFAULT);
    w.counts().unwrap();
    assert_eq!(w.assert_refused(&a, syn(&a, &b, 1000, 80)), [1, 3, 1]);
    w.assert_counts(&[
        ("h1 request_out", 1),
        ("h3 identified", 1),
        ("h3 return_out", 1),
        ("h3 transit_tcx", 1),
        ("h1 return_in", 1),
        ("h1 p11 dropped policy", 1),
    ]);
    assert_eq!(w.assert_refused(&a, syn(&a, &b, 1000, 80)), [1], "for a second");
    // Who has no groups is in none.
    let (mut w, a, b) = to_web([3, 0], 2, mizar_abi::maps::UNFILTERED);
    w.assert_refused(&a, syn(&a, &b, 1000, 80));
}

/// Lets a frame leave its host, and catches it on the wire.
fn catch(w: &mut World, from: &Port, ip: Ip) -> Vec<u8> {
    w.host(from.host).run("endpoint_egress", &from.frame(ip), from.ifindex, 0).unwrap().frame
}

#[test]
fn a_peer_that_speaks_before_its_identity_has_come_opens_nothing_that_egress_by_group_forbids() {
    let (mut w, a, b) = to_web([3, 0], 2, DEFAULT);
    let there = || Ip::udp(a.address, b.address, 5, 6, b"secret");
    let question = catch(&mut w, &a, there());
    // b is not in the group, and has sent on the same ports meanwhile. Nobody here waits for a reply yet.
    assert_eq!(w.assert_refused(&b, Ip::udp(b.address, a.address, 6, 5, b"come")), [2, 3, 1, 2]);
    assert_eq!(frame::split(&catch(&mut w, &a, there())).0, underlay(3), "it still asks");
    assert_eq!(w.arrive(3, &question).unwrap().end, End::Dropped(1));
    assert_eq!(w.assert_refused(&a, there()), [1]);
}

#[test]
fn a_bouncer_on_the_senders_host_tells_it_at_once() {
    for (destination, host, way) in [(WEB, 2, Some(vec![1, 2])), (WEB, 1, Some(vec![1])), (DEFAULT, 2, None)] {
        let (mut w, a, b) = to_web([1, 0], host, destination);
        match way {
            Some(way) => {
                assert_eq!(w.deliver(&a, &b, syn(&a, &b, 1000, 80)), way);
                w.connect(&a, &b, 1001);
            }
            None => {
                w.counts().unwrap();
                assert_eq!(w.assert_refused(&a, syn(&a, &b, 1000, 80)), [1]);
                w.assert_counts(&[("h1 p11 dropped policy", 1)]);
            }
        }
    }
}

#[test]
fn verdicts_are_the_same_wherever_the_bouncer_and_the_endpoints_are() {
    for (a_host, b_host) in [(1, 2), (1, 1), (3, 2), (1, 3), (3, 3)] {
        let mut w = world([3, 0]);
        let a = w.port_of(DEFAULT, a_host, 11, 7, 5).unwrap();
        let b = w.port_of(WEB, b_host, 12, 7, 6).unwrap();
        w.connect(&a, &b, 1000);
        w.assert_refused(&a, syn(&a, &b, 1001, 81));
        w.assert_refused(&a, Ip::udp(a.address, b.address, 5, 6, b"x"));
        w.assert_refused(&b, syn(&b, &a, 1001, 80));
        let counts = w.counts().unwrap();
        assert_eq!(counts[&format!("h{a_host} p11 dropped policy")], 2, "{a_host} {b_host}: {counts:?}");
        assert_eq!(counts[&format!("h{b_host} p12 dropped policy")], 1, "{a_host} {b_host}: {counts:?}");
    }
}

#[test]
fn routed_flows_are_judged_too() {
    let mut w = world([3, 0]);
    w.subnet(VNI, 8, [10, 0, 1, 0], &[[3, 0]]).unwrap();
    w.dividers(VNI, &[[4, 0]]).unwrap();
    let a = w.port_of(DEFAULT, 1, 11, 7, 5).unwrap();
    let b = w.port_of(WEB, 2, 12, 8, 6).unwrap();
    assert_eq!(w.connect(&a, &b, 1000), [1, 4, 3, 2]);
    assert_eq!(w.assert_refused(&a, syn(&a, &b, 1001, 81)), [1, 4, 3, 1]);
    let (mut w, a, b) = {
        let only = Rule { egress: true, ..Rule::all_in(Remote::Set(WEB)) };
        w.rules(TO_WEB, 3, &[only]).unwrap();
        let c = w.port_of(TO_WEB, 1, 13, 7, 7).unwrap();
        (w, c, b)
    };
    assert_eq!(w.deliver(&a, &b, syn(&a, &b, 1000, 80)), [1, 4, 3, 1, 4, 3, 2]);
}

#[test]
fn a_port_without_port_security_is_neither_filtered_nor_a_member() {
    let (mut w, a, b) = pair(DEFAULT, mizar_abi::maps::UNFILTERED);
    w.connect(&a, &b, 1000);
    w.deliver(&a, &b, Ip::udp(a.address, b.address, 5, 6, b"x"));
    w.assert_refused(&b, syn(&b, &a, 1001, 80));
}

#[test]
fn a_port_whose_rules_are_not_there_yet_gets_nothing_and_is_denied_nothing_for_good() {
    for xdp in [false, true] {
        let mut w = world([3, 0]);
        w.xdp = xdp;
        let a = w.port_of(DEFAULT, 1, 11, 7, 5).unwrap();
        let b = w.port_of(77, 2, 12, 7, 6).unwrap();
        w.assert_refused(&b, syn(&b, &a, 1000, 80));
        w.counts().unwrap();
        assert_eq!(w.assert_refused(&a, syn(&a, &b, 1000, 80)), [1, 3, 1, 3, 1, 3]);
        let counts = w.counts().unwrap();
        assert_eq!((counts["h3 outdated"], counts["h3 p0 dropped loop"]), (2, 1), "{counts:?}");
        w.rules(77, 1, &[Rule::ingress(6, (80, 80))]).unwrap();
        w.connect(&a, &b, 1000);
    }
}

#[test]
fn a_bouncer_that_has_no_rules_yet_leaves_the_verdict_to_the_other() {
    for inline in [false, true] {
        let mut w = world(if inline { [1, 4] } else { [3, 4] });
        let a = w.port_of(DEFAULT, 1, 11, 7, 5).unwrap();
        let b = w.port_of(77, 2, 12, 7, 6).unwrap();
        for host in [2, 4] {
            w.rules_at(host, 77, 1, &[Rule::ingress(6, (80, 80))]).unwrap();
        }
        for sport in 1000..1010 {
            w.deliver(&a, &b, syn(&a, &b, sport, 80));
        }
    }
}

#[test]
fn a_bouncer_that_has_not_heard_of_a_ports_new_groups_does_not_have_the_last_word() {
    const NEW: u32 = 77;
    let mut w = world([3, 4]);
    w.rules(NEW, 1, &[Rule::ALL_OUT]).unwrap();
    // That the set is in the group that b lets in reaches bouncer 4 first. No rule has changed by that.
    w.rules(CLOSED, 7, &[]).unwrap();
    w.rules_at(4, CLOSED, 7, &[Rule::all_in(Remote::Set(NEW))]).unwrap();
    let a = w.port_of(DEFAULT, 1, 11, 7, 5).unwrap();
    let b = w.port_of(CLOSED, 2, 12, 7, 6).unwrap();
    let a = w.regroup(&a, NEW).unwrap();
    let tried = |w: &mut World, from: u16| {
        let syns = (from..from + 8).map(|sport| syn(&a, &b, sport, 80));
        let datagrams = (from..from + 8).map(|sport| Ip::udp(a.address, b.address, sport, 53, b"?"));
        let ends: Vec<_> = syns.chain(datagrams).map(|ip| w.send(&a, &a.frame(ip)).unwrap().end).collect();
        ends.iter().filter(|end| matches!(end, End::Delivered { ep_id: 12, .. })).count()
    };
    assert_eq!(tried(&mut w, 1000), 16, "what one does not know, the other does");
    w.age(1, 1_100).unwrap();
    assert!((1..16).contains(&tried(&mut w, 2000)), "later no means no");
    // If neither knows, the next packet asks again.
    let a = w.regroup(&a, NEW).unwrap();
    w.rules_at(4, CLOSED, 7, &[]).unwrap();
    w.assert_refused(&a, syn(&a, &b, 3000, 80));
    w.rules(CLOSED, 7, &[Rule::all_in(Remote::Set(NEW))]).unwrap();
    w.deliver(&a, &b, syn(&a, &b, 3000, 80));
}

#[test]
fn a_port_that_may_send_nothing_cannot_answer_a_question_that_was_never_let_in() {
    for destination_host in [2, 1] {
        // Nothing into a and nothing out of it; b would like to hear of it, and asks for it. b's
        // questions look as what it expects would reply to.
        let mut w = world([3, 0]);
        let a = w.port_of(CLOSED, 1, 11, 7, 5).unwrap();
        let b = w.port_of(DEFAULT, destination_host, 12, 7, 6).unwrap();
        catch(&mut w, &b, Ip::tcp(b.address, a.address, 1000, 80, 0x10));
        catch(&mut w, &b, Ip::echo(b.address, a.address, 8, 7));
        let segment = Ip::tcp(a.address, b.address, 80, 1000, 0x18);
        w.assert_refused(&a, segment);
        w.assert_refused(&a, Ip::echo(a.address, b.address, 0, 7));
    }
}

#[test]
fn both_sides_may_open_at_once_though_neither_lets_anybody_in() {
    let mut w = world([3, 0]);
    w.rules(CLOSED, 7, &[Rule::ALL_OUT]).unwrap();
    let a = w.port_of(CLOSED, 1, 11, 7, 5).unwrap();
    let b = w.port_of(CLOSED, 2, 12, 7, 6).unwrap();
    let ntp = |x: &Port, y: &Port| x.frame(Ip::udp(x.address, y.address, 123, 123, b"ntp"));
    let leave = |w: &mut World, x: &Port, y: &Port| {
        w.host(x.host).run("endpoint_egress", &ntp(x, y), x.ifindex, 0).unwrap().frame
    };
    let (from_a, from_b) = (leave(&mut w, &a, &b), leave(&mut w, &b, &a));
    for frame in [from_a, from_b] {
        let journey = w.arrive(3, &frame).unwrap();
        assert!(matches!(journey.end, End::Delivered { .. }), "{journey:?}");
    }
    for (x, y) in [(&a, &b), (&b, &a), (&a, &b), (&b, &a)] {
        w.deliver(x, y, Ip::udp(x.address, y.address, 123, 123, b"ntp"));
    }
    let c = w.port_of(CLOSED, 1, 13, 7, 7).unwrap();
    w.assert_refused(&c, Ip::udp(c.address, b.address, 123, 123, b"ntp"));
}

fn fragments(whole: &Ip, id: u16) -> [Ip; 3] {
    [(0, 800, true), (800, 1_600, true), (1_600, whole.payload.len(), false)].map(|(from, to, more)| Ip {
        id,
        bits: (from / 8) as u16 | if more { 0x2000 } else { 0 },
        payload: whole.payload[from..to].to_vec(),
        ..whole.clone()
    })
}

#[test]
fn all_fragments_of_a_datagram_get_the_verdict_of_the_first() {
    let (mut w, a, b) = pair(DEFAULT, CLOSED);
    w.rules(CLOSED, 7, &[Rule::ingress(17, (53, 53)), Rule::ingress(1, (0x0800, 0x0800))]).unwrap();
    let udp = |dport| Ip::udp(a.address, b.address, 5, dport, &[9; 2_000]);
    let ping = |kind| Ip {
        payload: [&[kind, 0, 0, 0, 0, 7, 0, 1][..], &[0x61; 2_000]].concat(),
        ..Ip::echo(a.address, b.address, kind, 7)
    };
    for (i, whole) in [udp(53), ping(8)].into_iter().enumerate() {
        for part in fragments(&whole, i as u16) {
            assert_eq!(w.deliver(&a, &b, part), [1, 3, 2]);
        }
    }
    for (i, whole) in [udp(54), ping(13)].into_iter().enumerate() {
        for part in fragments(&whole, 10 + i as u16) {
            w.assert_refused(&a, part);
        }
    }
    // Returned ones, of which the later ones do not show their type, too.
    w.deliver(&b, &a, Ip::echo(b.address, a.address, 0, 7));
    w.deliver(&a, &b, Ip::echo(a.address, b.address, 8, 7));
    w.host(2).evict().unwrap();
    let sent: Vec<_> = fragments(&ping(8), 20)
        .map(|part| w.host(1).run("endpoint_egress", &a.frame(part), a.ifindex, 0).unwrap().frame)
        .into_iter()
        .collect();
    for direct in &sent[1..] {
        let back = w.host(2).run("uplink_tcx", direct, UPLINK, 0).unwrap().frame;
        if frame::is_encapsulated(&back) {
            let journey = w.arrive(1, &back).unwrap();
            assert!(matches!(journey.end, End::Delivered { ep_id: 12, .. }), "{journey:?}");
        }
    }
}

#[test]
fn an_icmp_error_of_a_side_whose_host_asks_for_the_way_arrives_too() {
    for (server_host, bouncers) in [(2, [3, 0]), (1, [3, 0]), (1, [1, 0])] {
        let mut w = world(bouncers);
        let a = w.port_of(DEFAULT, 1, 11, 7, 5).unwrap();
        let b = w.port_of(WEB, server_host, 12, 7, 6).unwrap();
        w.rules(WEB, 6, &[Rule::ALL_OUT, Rule::ingress(17, (53, 53))]).unwrap();
        let question = Ip::udp(a.address, b.address, 5, 53, b"anyone?");
        w.deliver(&a, &b, question.clone());
        // b's host has lost the way, and b says something else first.
        let answer = Ip::udp(b.address, a.address, 53, 5, b"wait");
        let key = b.flow(17, 53, a.address, 5);
        let flow = w.host(server_host).flow(key).unwrap();
        let lost = Flow { state: State::NewOut as u8, flags: flow_flag::R_INIT, ..flow };
        for map in ["FLOW_EST", "FLOW_NEW"] {
            let _ = w.host(server_host).remove::<mizar_abi::maps::FlowKey, Flow>(map, key);
        }
        w.host(server_host).put("FLOW_NEW", key, lost).unwrap();
        let before = state(&mut w, &a, (17, 5, b.address, 53));
        w.deliver(&b, &a, Ip::unreachable(&question));
        assert_eq!(state(&mut w, &a, (17, 5, b.address, 53)).flags, before.flags, "an error opens nothing");
        w.assert_refused(&b, Ip::unreachable(&Ip::udp(a.address, b.address, 6, 53, b"never sent")));
        w.deliver(&b, &a, answer);
    }
}

#[test]
fn an_icmp_error_belongs_to_the_flow_it_is_about_and_needs_no_rule() {
    let (mut w, a, b) = pair(DEFAULT, CLOSED);
    w.rules(CLOSED, 7, &[Rule::ingress(17, (53, 53))]).unwrap();
    let question = Ip::udp(a.address, b.address, 5, 53, b"anyone?");
    w.deliver(&a, &b, question.clone());
    assert_eq!(w.deliver(&b, &a, Ip::unreachable(&question)), [2, 1]);
    let invented = Ip::udp(a.address, b.address, 6, 53, b"never sent");
    w.assert_refused(&b, Ip::unreachable(&invented));
}

#[test]
fn a_verdict_cannot_be_written_by_anybody_without_the_key() {
    let (mut w, a, b) = pair(DEFAULT, WEB);
    let frame = a.frame(Ip::udp(a.address, b.address, 5, 6, b"x"));
    let request = w.host(1).run("endpoint_egress", &frame, a.ifindex, 0).unwrap().frame;
    let admitted = w.host(3).run("uplink_tcx", &request, UPLINK, 0).unwrap().frame;
    let body = frame::body(&admitted);
    assert_eq!(body.flags() & mizar_abi::option::flag::REPLY_ONLY, mizar_abi::option::flag::REPLY_ONLY);
    // REPLY_ONLY, generation, the set's byte.
    for at in [frame::at::BODY + 1, frame::at::BODY + 27, frame::at::BODY + 24] {
        let mut forged = admitted.clone();
        forged[at] ^= 1;
        w.counts().unwrap();
        assert_eq!(w.arrive(2, &forged).unwrap().end, End::Dropped(2));
        w.assert_counts(&[("h2 p0 dropped bad_tag", 1)]);
    }
    // Nor is one good for another host.
    let mut elsewhere = admitted;
    frame::set_outer(&mut elsewhere, underlay(3), underlay(1));
    assert_eq!(w.arrive(1, &elsewhere).unwrap().end, End::Dropped(1));
    w.assert_counts(&[("h1 p0 dropped bad_tag", 1)]);
}
