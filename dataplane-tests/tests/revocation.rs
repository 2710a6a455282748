//! Rules change: what is not allowed any more ends within a second, and nothing else loses a packet.

use mizar_abi::{
    maps::{Epoch, Flow, FlowKey, State, flow_flag},
    option::{Kind, code},
};
use mizar_dataplane_tests::{
    World,
    connection::{
        CLIENT, OPEN, OPENED, OTHER, SERVER, VNI, at_client, at_server, back, connected, long_ago, ntp_packet,
        open_both, there, unconfirmed,
    },
    frame::{self, Ip},
    host::{REDIRECT, SHOT},
    links,
    policy::{Remote, Rule},
    world::{End, Port, underlay},
};

#[test]
fn a_flow_whose_rule_is_gone_ends_with_the_answer_and_its_peer_hears_of_it() {
    let (mut w, a, b) = connected([3, 0], 2);
    w.rules(SERVER, 2, &[Rule::ALL_OUT]).unwrap();
    // The agent has not asked yet.
    assert_eq!(w.deliver(&a, &b, there(&a, &b)), [1, 2]);
    assert_eq!(w.deliver(&b, &a, back(&a, &b)), [2, 1]);
    w.counts().unwrap();
    let journey = w.ask(3, &b, at_server(&a, &b)).unwrap();
    assert_eq!((&journey.hosts[..], &journey.end), (&[3, 2, 1][..], &End::Dropped(1)));
    w.assert_counts(&[("h3 ask_answered", 1), ("h2 answer_in", 1), ("h2 denied_out", 1), ("h1 denied_in", 1)]);
    for (host, key) in [(1, at_client(&a, &b)), (2, at_server(&a, &b))] {
        assert_eq!(w.host(host).flow(key).unwrap().state, State::Denied as u8, "host {host}");
    }
    assert_eq!(w.assert_refused(&a, there(&a, &b)), [1]);
    assert_eq!(w.assert_refused(&b, back(&a, &b)), [2]);
    // After a second they may ask, and hear no.
    w.age(1, 2_000).unwrap();
    w.age(2, 2_000).unwrap();
    w.assert_refused(&a, there(&a, &b));
    w.assert_refused(&b, back(&a, &b));
}

#[test]
fn a_change_that_leaves_the_decision_as_it_was_costs_the_flow_nothing() {
    let (mut w, a, b) = connected([3, 0], 2);
    w.rules(SERVER, 2, &[Rule::ALL_OUT, OPEN, Rule::ingress(17, (53, 53))]).unwrap();
    assert_eq!(w.deliver(&a, &b, there(&a, &b)), [1, 2]);
    w.counts().unwrap();
    let journey = w.ask(3, &b, at_server(&a, &b)).unwrap();
    assert_eq!((&journey.hosts[..], &journey.end), (&[3, 2][..], &End::Dropped(2)), "nothing is delivered");
    w.assert_counts(&[("h3 ask_answered", 1), ("h2 answer_in", 1)]);
    long_ago(&mut w);
    w.assert_direct(&a, &b, 1000);
    assert_eq!(unconfirmed(&mut w, 2), 0);
}

#[test]
fn what_nobody_confirms_within_a_second_is_asked_for_again_by_the_client() {
    for allowed in [true, false] {
        let (mut w, a, b) = connected([3, 0], 2);
        let rules = if allowed { vec![Rule::ALL_OUT, OPEN] } else { vec![Rule::ALL_OUT] };
        w.rules(SERVER, 2, &rules).unwrap();
        w.age(2, 900).unwrap();
        assert_eq!(w.deliver(&a, &b, there(&a, &b)), [1, 2], "not yet");
        w.age(2, 200).unwrap();
        w.counts().unwrap();
        // What the server sends is dropped, and the agent told to ask.
        assert_eq!(w.assert_refused(&b, back(&a, &b)), [2]);
        w.assert_counts(&[("h2 p12 dropped policy_unconfirmed", 1)]);
        assert_eq!(unconfirmed(&mut w, 2), 1);
        if allowed {
            assert_eq!(w.deliver(&a, &b, there(&a, &b)), [1, 2, 1, 3, 2], "not lost");
            w.deliver(&b, &a, back(&a, &b));
            w.deliver(&a, &b, there(&a, &b));
            long_ago(&mut w);
            w.assert_direct(&a, &b, 1000);
        } else {
            assert_eq!(w.assert_refused(&a, there(&a, &b)), [1, 2, 1, 3, 2, 1]);
            let counts = w.counts().unwrap();
            assert_eq!((counts["h2 denied_out"], counts["h1 p11 dropped policy"]), (1, 1), "{counts:?}");
            assert_eq!(w.assert_refused(&b, back(&a, &b)), [2]);
            assert_eq!(w.counts().unwrap()["h2 p12 dropped flow_denied"], 1);
        }
    }
}

#[test]
fn a_server_that_only_pushes_goes_on_across_a_change() {
    // After one question the client is silent, so that nothing of it can be judged again.
    let (mut w, a, b) = connected([3, 0], 2);
    let udp = Rule::ingress(17, (53, 53));
    w.rules(SERVER, 2, &[Rule::ALL_OUT, OPEN, udp]).unwrap();
    w.deliver(&a, &b, Ip::udp(a.address, b.address, 5, 53, b"subscribe"));
    let push = || Ip::udp(b.address, a.address, 53, 5, b"news");
    for _ in 0..3 {
        w.deliver(&b, &a, push());
    }
    long_ago(&mut w);
    for (n, rules, goes_on) in [(3, vec![Rule::ALL_OUT, udp], true), (4, vec![Rule::ALL_OUT, OPEN], false)] {
        w.rules(SERVER, n, &rules).unwrap();
        assert_eq!(w.deliver(&b, &a, push()), [2, 1], "while the agent asks");
        w.ask(3, &b, b.flow(17, 53, a.address, 5)).unwrap();
        long_ago(&mut w);
        w.counts().unwrap();
        if goes_on {
            assert_eq!(w.deliver(&b, &a, push()), [2, 1]);
            w.assert_counts(&[("h2 ack_out", 1), ("h1 ack_in", 1)]);
        } else {
            w.assert_refused(&b, push());
        }
    }
}

#[test]
fn what_is_pushed_to_a_silent_client_ends_with_the_clients_own_rule() {
    // No direct packet of the client comes, so that each push bears an acknowledgement and is none of an established flow
    // of the server.
    let (mut w, a, b) = connected([3, 0], 2);
    let udp = Rule::ingress(17, (53, 53));
    w.rules(SERVER, 2, &[Rule::ALL_OUT, OPEN, udp]).unwrap();
    w.deliver(&a, &b, Ip::udp(a.address, b.address, 5, 53, b"subscribe"));
    let push = || Ip::udp(b.address, a.address, 53, 5, b"news");
    w.deliver(&b, &a, push());
    w.rules(CLIENT, 2, &[Rule { egress: true, ..udp }]).unwrap();
    w.counts().unwrap();
    assert_eq!(w.deliver(&b, &a, push()), [2, 1]);
    w.assert_counts(&[("h2 ack_out", 1), ("h1 ack_in", 1)]);
    w.rules(CLIENT, 3, &[]).unwrap();
    assert_eq!(w.assert_refused(&b, push()), [2, 1, 2], "its host is told");
    assert_eq!(w.host(1).flow(a.flow(17, 5, b.address, 53)).unwrap().state, State::Denied as u8);
    assert_eq!(w.counts().unwrap()["h2 denied_in"], 1);
    assert_eq!(w.assert_refused(&b, push()), [2]);
}

#[test]
fn a_bouncer_on_the_endpoints_own_host_needs_no_question() {
    for server_host in [2, 1] {
        let (mut w, a, b) = connected([server_host, 0], server_host);
        w.rules(SERVER, 2, &[Rule::ALL_OUT, OPEN, Rule::ingress(17, (5, 5))]).unwrap();
        long_ago(&mut w);
        w.assert_direct(&a, &b, 1000);
        assert_eq!(unconfirmed(&mut w, server_host), 0);
        w.rules(SERVER, 3, &[Rule::ALL_OUT]).unwrap();
        w.assert_refused(&a, there(&a, &b));
        w.assert_refused(&b, back(&a, &b));
        let counts = w.counts().unwrap();
        assert_eq!(counts["h1 p11 dropped policy"], 1, "{counts:?}");
        assert_eq!(w.host(1).flow(at_client(&a, &b)).unwrap().state, State::Denied as u8);
    }
}

#[test]
fn neighbours_with_a_bouncer_elsewhere_are_judged_by_it() {
    for allowed in [true, false] {
        let (mut w, a, b) = connected([3, 0], 1);
        let rules = if allowed { vec![Rule::ALL_OUT, OPEN] } else { vec![Rule::ALL_OUT] };
        w.rules(SERVER, 2, &rules).unwrap();
        w.assert_direct(&a, &b, 1000);
        if allowed {
            w.ask(3, &b, at_server(&a, &b)).unwrap();
            long_ago(&mut w);
            w.assert_direct(&a, &b, 1000);
        } else {
            let journey = w.ask(3, &b, at_server(&a, &b)).unwrap();
            assert_eq!(journey.hosts, [3, 1]);
            assert_eq!(w.assert_refused(&a, there(&a, &b)), [1]);
        }
        // Without an answer the client asks for the way again.
        let (mut w, a, b) = connected([3, 0], 1);
        w.rules(SERVER, 2, &rules).unwrap();
        w.age(1, 1_200).unwrap();
        if allowed {
            assert_eq!(w.deliver(&a, &b, there(&a, &b)), [1, 3, 1]);
            w.assert_direct(&a, &b, 1000);
        } else {
            w.assert_refused(&a, there(&a, &b));
            assert_eq!(w.host(1).flow(at_client(&a, &b)).unwrap().state, State::Denied as u8);
            w.assert_refused(&b, back(&a, &b));
        }
    }
}

#[test]
fn egress_rules_are_judged_again_in_place() {
    let (mut w, a, b) = connected([3, 0], 2);
    let to_80 = Rule { egress: true, ..OPEN };
    w.rules(CLIENT, 2, &[to_80]).unwrap();
    w.counts().unwrap();
    assert_eq!(w.deliver(&a, &b, there(&a, &b)), [1, 2]);
    w.assert_counts(&[("h1 direct_out", 1), ("h2 direct_in", 1)]);
    w.rules(CLIENT, 3, &[Rule { ports: Some((81, 81)), ..to_80 }]).unwrap();
    assert_eq!(w.assert_refused(&a, there(&a, &b)), [1]);
    w.assert_counts(&[("h1 p11 dropped policy", 1)]);
    // What the other side still sends is not let in either: nobody here may have asked for it.
    w.assert_refused(&b, back(&a, &b));
}

#[test]
fn the_first_packet_from_the_other_side_is_enough_to_end_what_egress_forbids() {
    let (mut w, a, b) = connected([3, 0], 2);
    w.rules(CLIENT, 2, &[]).unwrap();
    assert_eq!(w.assert_refused(&b, back(&a, &b)), [2, 1, 2]);
    assert_eq!(w.host(1).flow(at_client(&a, &b)).unwrap().state, State::Denied as u8);
    assert_eq!(w.counts().unwrap()["h2 denied_in"], 1);
}

#[test]
fn egress_by_group_looks_at_the_identity_again() {
    let to = |set| Rule { egress: true, ..Rule::all_in(Remote::Set(set)) };
    let (mut w, a, b) = connected([3, 0], 2);
    w.rules(CLIENT, 2, &[to(SERVER)]).unwrap();
    assert_eq!(w.deliver(&a, &b, there(&a, &b)), [1, 2], "it came with the acknowledgement");
    // b leaves the group for one that a may not reach; a's rules change for another reason.
    let b = w.regroup(&b, OTHER).unwrap();
    w.announce(&b).unwrap();
    w.rules(OTHER, 2, &[Rule::ALL_OUT, OPEN]).unwrap();
    w.rules(CLIENT, 3, &[to(CLIENT)]).unwrap();
    // It could still be a reply, but b's host knows better.
    assert_eq!(w.assert_refused(&a, there(&a, &b)), [1, 3, 1, 3, 2, 1]);
    w.rules(CLIENT, 4, &[to(OTHER)]).unwrap();
    w.age(1, 2_000).unwrap();
    assert_eq!(w.deliver(&a, &b, there(&a, &b)), [1, 3, 1, 3, 2]);
}

#[test]
fn a_flow_whose_peers_groups_are_asked_for_is_not_let_go_on_by_a_reply() {
    let (mut w, a, b) = connected([3, 0], 2);
    w.rules(CLIENT, 2, &[Rule { egress: true, ..Rule::all_in(Remote::Set(OTHER)) }]).unwrap();
    let leave = |w: &mut World| w.host(1).run("endpoint_egress", &a.frame(there(&a, &b)), a.ifindex, 0).unwrap().frame;
    let question = leave(&mut w);
    // b's host has forgotten the flow, so what b says goes by a bouncer. It is heard while the answer is
    // on its way.
    w.host(2).evict().unwrap();
    w.deliver(&b, &a, back(&a, &b));
    assert_eq!(frame::split(&leave(&mut w)).0, underlay(3), "a's host still asks");
    assert_eq!(w.host(1).flow(at_client(&a, &b)).unwrap().out_epoch, 0, "no verdict, no stamp");
    let journey = w.arrive(3, &question).unwrap();
    assert!(matches!(journey.end, End::Dropped(_)), "{journey:?}");
    w.assert_refused(&a, there(&a, &b));
}

#[test]
fn a_verdict_of_a_replica_that_is_behind_counts_for_a_second() {
    let mut w = World::new(4).unwrap();
    w.subnet(VNI, 7, [10, 0, 0, 0], &[[3, 4]]).unwrap();
    w.rules(CLIENT, 1, &[Rule::ALL_OUT]).unwrap();
    w.rules(SERVER, 1, &[Rule::ALL_OUT, OPEN]).unwrap();
    let a = w.port_of(CLIENT, 1, 11, 7, 5).unwrap();
    let b = w.port_of(SERVER, 2, 12, 7, 6).unwrap();
    // The rule goes: host 2 and bouncer 4 have heard, bouncer 3 has not.
    w.rules_at(2, SERVER, 2, &[Rule::ALL_OUT]).unwrap();
    w.rules_at(4, SERVER, 2, &[Rule::ALL_OUT]).unwrap();
    let by = |w: &mut World, bouncer: u32, from: u16| -> u16 {
        (from..from + 64)
            .find(|sport| {
                let syn = a.frame(Ip::tcp(a.address, b.address, *sport, 80, 2));
                let sent = w.host(1).run("endpoint_egress", &syn, a.ifindex, 0).unwrap().frame;
                w.host(1).remove::<FlowKey, Flow>("FLOW_NEW", a.flow(6, *sport, b.address, 80)).unwrap();
                frame::split(&sent).0 == underlay(bouncer)
            })
            .expect("half of the flows ask it")
    };
    let old = by(&mut w, 3, 1000);
    w.counts().unwrap();
    assert_eq!(w.deliver(&a, &b, Ip::tcp(a.address, b.address, old, 80, 2)), [1, 3, 2]);
    assert_eq!(unconfirmed(&mut w, 2), 1, "the agent asks");
    let key = b.flow(6, 80, a.address, old);
    assert_eq!(w.ask(3, &b, key).unwrap().end, End::Dropped(2));
    assert_eq!(w.counts().unwrap()["h2 outdated"], 1, "it still does not know");
    w.deliver(&b, &a, Ip::tcp(b.address, a.address, 80, old, 0x12));
    w.ask(4, &b, key).unwrap();
    w.assert_refused(&b, Ip::tcp(b.address, a.address, 80, old, 0x12));
    // Later such a verdict is sent back, and the other replica asked.
    w.age(2, 1_500).unwrap();
    let late = by(&mut w, 3, old + 1);
    w.counts().unwrap();
    let syn = Ip::tcp(a.address, b.address, late, 80, 2);
    assert_eq!(w.assert_refused(&a, syn), [1, 3, 2, 1, 4, 1]);
    let counts = w.counts().unwrap();
    assert_eq!((counts["h2 outdated"], counts["h4 denied_out"]), (1, 1), "{counts:?}");
}

#[test]
fn a_flow_that_nobody_confirms_is_given_no_more_time_because_it_asks_for_its_way() {
    let (mut w, a, b) = connected([3, 0], 2);
    w.rules_at(2, SERVER, 2, &[Rule::ALL_OUT, OPEN]).unwrap();
    w.deliver(&a, &b, Ip::tcp(a.address, b.address, 1001, 80, 2));
    // Nobody answers the host's questions, nor those of the flow, whose way it lost.
    let key = b.flow(6, 80, a.address, 1001);
    let flow = w.host(2).flow(key).unwrap();
    assert_eq!(flow.in_epoch, 0);
    w.host(2).put("FLOW_NEW", key, Flow { state: State::NewOut as u8, ..flow }).unwrap();
    let answer = b.frame(Ip::tcp(b.address, a.address, 80, 1001, 0x12));
    for (ms, verdict) in [(0, REDIRECT), (600, REDIRECT), (600, SHOT)] {
        w.age(2, ms).unwrap();
        assert_eq!(w.host(2).run("endpoint_egress", &answer, b.ifindex, 0).unwrap().verdict, verdict, "after {ms}");
    }
}

#[test]
fn a_host_that_hears_later_than_the_bouncers_takes_their_word() {
    let (mut w, a, b) = connected([3, 0], 2);
    w.rules_at(3, SERVER, 2, &[Rule::ALL_OUT, OPEN]).unwrap();
    w.connect(&a, &b, 2000);
    assert_eq!(unconfirmed(&mut w, 2), 0);
}

#[test]
fn a_flow_that_both_sides_opened_outlives_the_rules_of_one() {
    let (mut w, a, b) = connected([3, 0], 2);
    let ntp = Rule::ingress(17, (123, 123));
    w.rules(SERVER, 2, &[Rule::ALL_OUT, OPEN, ntp]).unwrap();
    let key = open_both(&mut w, &a, &b);
    w.rules(SERVER, 3, &[Rule::ALL_OUT]).unwrap();
    w.ask(3, &b, key).unwrap();
    assert_eq!(w.host(2).flow(key).unwrap().flags & OPENED, flow_flag::I_INIT);
    w.deliver(&b, &a, ntp_packet(&b, &a));
}

#[test]
fn an_answer_counts_with_the_cookie_and_the_key_alone() {
    let (mut w, a, b) = connected([3, 0], 2);
    w.rules(SERVER, 2, &[Rule::ALL_OUT]).unwrap();
    let key = at_server(&a, &b);
    let flow = w.host(2).flow(key).unwrap();
    let question = w.question(3, &b, key, &flow);
    let answer = w.host(3).run("uplink_tcx", &question, mizar_dataplane_tests::host::UPLINK, 0).unwrap().frame;
    assert_eq!(frame::body(&answer).kind(), Some(Kind::Answer));
    for (name, change) in [("bad_tag", None), ("bad_cookie", Some(1))] {
        let mut forged = answer.clone();
        match change {
            None => forged[frame::at::BODY + 1] ^= 1,
            Some(bits) => {
                let mut body = frame::body(&answer);
                body.set_cookie(body.cookie() ^ bits);
                frame::sign(&mut forged, body, links::utc());
            }
        }
        w.counts().unwrap();
        assert_eq!(w.arrive(2, &forged).unwrap().end, End::Dropped(2));
        let port = if change.is_some() { 12 } else { 0 };
        w.assert_counts(&[(&format!("h2 p{port} dropped {name}"), 1)]);
        assert_eq!(w.host(2).flow(key).unwrap().state, State::Est as u8);
    }
    assert_eq!(w.arrive(2, &answer).unwrap().end, End::Dropped(1), "the genuine one counts");
}

#[test]
fn a_denial_by_rules_that_have_changed_ends_no_flow() {
    for server_host in [2, 1] {
        let (mut w, a, b) = connected([3, 0], server_host);
        // A rule went and came back, of which the bouncer has not heard yet; and the client's host has
        // forgotten the flow, so that it asks.
        w.rules(SERVER, 2, &[Rule::ALL_OUT]).unwrap();
        w.rules_at(server_host, SERVER, 3, &[Rule::ALL_OUT, OPEN]).unwrap();
        w.host(1).remove::<FlowKey, Flow>("FLOW_EST", at_client(&a, &b)).unwrap();
        w.deliver(&a, &b, there(&a, &b));
        assert_eq!(unconfirmed(&mut w, server_host), 1, "the agent asks");
        w.deliver(&b, &a, back(&a, &b));
        w.deliver(&a, &b, there(&a, &b));
        w.rules_at(3, SERVER, 3, &[Rule::ALL_OUT, OPEN]).unwrap();
        w.ask(3, &b, at_server(&a, &b)).unwrap();
        long_ago(&mut w);
        w.assert_direct(&a, &b, 1000);
    }
}

/// What a bouncer answers about the server's flow now.
fn answer(w: &mut World, bouncer: u32, b: &Port, key: FlowKey) -> Vec<u8> {
    let flow = w.host(b.host).flow(key).unwrap();
    let question = w.question(bouncer, b, key, &flow);
    w.host(bouncer).run("uplink_tcx", &question, mizar_dataplane_tests::host::UPLINK, 0).unwrap().frame
}

#[test]
fn an_answer_counts_for_the_identity_that_was_asked_about_and_only_while_it_is_waited_for() {
    // The client's new groups may; those that it had when the question was sent may not any more.
    let (mut w, a, b) = connected([3, 0], 2);
    let key = at_server(&a, &b);
    w.rules(SERVER, 2, &[Rule::ALL_OUT, OPEN.from(Remote::Set(OTHER))]).unwrap();
    let no = answer(&mut w, 3, &b, key);
    let a = w.regroup(&a, OTHER).unwrap();
    w.age(1, 1_000).unwrap();
    assert_eq!(w.deliver(&a, &b, there(&a, &b)), [1, 3, 2]);
    assert_eq!(w.arrive(2, &no).unwrap().end, End::Dropped(2));
    w.deliver(&a, &b, there(&a, &b));
    // The other way round: what was allowed does not speak for another identity, nor twice.
    let (mut w, a, b) = connected([3, 0], 2);
    w.rules(SERVER, 2, &[Rule::ALL_OUT, OPEN.from(Remote::Set(CLIENT))]).unwrap();
    let yes = answer(&mut w, 3, &b, key);
    let flow = w.host(2).flow(key).unwrap();
    w.host(2).put("FLOW_EST", key, Flow { peer_identity: OTHER, ..flow }).unwrap();
    w.arrive(2, &yes).unwrap();
    assert_eq!(w.host(2).flow(key).unwrap().in_epoch, flow.in_epoch, "still in doubt");
    w.ask(3, &b, key).unwrap();
    w.assert_refused(&a, there(&a, &b));
    w.arrive(2, &yes).unwrap();
    assert_eq!(w.host(2).flow(key).unwrap().state, State::Denied as u8);
}

#[test]
fn a_denial_of_a_flow_that_has_its_way_is_its_peers_to_give() {
    let (mut w, a, b) = connected([3, 0], 2);
    w.rules(SERVER, 2, &[Rule::ALL_OUT]).unwrap();
    let denial = w.ask(3, &b, at_server(&a, &b)).unwrap().wire[1].clone();
    assert_eq!((frame::body(&denial).kind(), frame::body(&denial).reason()), (Some(Kind::Denied), code::POLICY));
    let (mut w, a, b) = {
        let (mut w, a, b) = connected([3, 0], 2);
        let cookie = w.host(1).flow(at_client(&a, &b)).unwrap().cookie;
        // Another host with the key says so, and the peer's host of another reason.
        for (from, reason) in [(underlay(4), code::POLICY), (underlay(2), code::UNREACHABLE)] {
            let mut forged = denial.clone();
            frame::set_outer(&mut forged, from, underlay(1));
            let mut body = frame::body(&denial);
            body.set_cookie(cookie);
            body.set_origin(from);
            body.set_reason(reason);
            frame::sign(&mut forged, body, links::utc());
            assert_eq!(w.arrive(1, &forged).unwrap().end, End::Dropped(1));
            assert_eq!(w.counts().unwrap()["h1 p11 dropped bad_cookie"], 1);
        }
        (w, a, b)
    };
    w.assert_direct(&a, &b, 1000);
}

#[test]
fn a_bouncer_that_lost_the_rules_ends_no_flow() {
    let (mut w, a, b) = connected([3, 4], 2);
    w.rules(SERVER, 2, &[Rule::ALL_OUT, OPEN]).unwrap();
    w.host(3).remove::<u32, Epoch>("EPOCHS", SERVER).unwrap();
    w.counts().unwrap();
    assert_eq!(w.ask(3, &b, at_server(&a, &b)).unwrap().end, End::Dropped(3));
    w.assert_counts(&[("h3 p0 dropped policy_unconfirmed", 1)]);
    w.ask(4, &b, at_server(&a, &b)).unwrap();
    long_ago(&mut w);
    w.assert_direct(&a, &b, 1000);
}

#[test]
fn a_host_that_does_not_know_the_generation_takes_no_verdict() {
    let (mut w, a, b) = connected([3, 0], 2);
    w.host(2).remove::<u32, Epoch>("EPOCHS", SERVER).unwrap();
    w.assert_refused(&b, back(&a, &b));
    let syn = Ip::tcp(a.address, b.address, 1001, 80, 2);
    assert_eq!(w.assert_refused(&a, syn), [1, 3, 2, 1, 3, 2, 1, 3]);
    let counts = w.counts().unwrap();
    assert_eq!(counts["h2 outdated"], 2, "{counts:?}");
    // What its endpoint sends, it judges by what it has, each packet anew.
    assert!(matches!(w.send(&b, &b.frame(Ip::tcp(b.address, a.address, 5, 6, 2))).unwrap().hosts[..], [2, 3, ..]));
}

#[test]
fn a_question_about_an_address_that_a_bouncer_does_not_know_is_not_answered() {
    let (mut w, a, b) = connected([3, 0], 2);
    w.withdraw(&b).unwrap();
    w.counts().unwrap();
    assert_eq!(w.ask(3, &b, at_server(&a, &b)).unwrap().end, End::Dropped(3));
    w.assert_counts(&[("h3 p0 dropped unreachable", 1)]);
}
