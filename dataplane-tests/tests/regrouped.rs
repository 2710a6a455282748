//! Ports get other groups: by their own rules, and by those that name the groups, flows go on or end.

use mizar_abi::maps::{State, UNFILTERED, flow_flag};
use mizar_dataplane_tests::{
    connection::{
        CLIENT, OPEN, OPENED, OTHER, SERVER, at_server, back, connected, long_ago, open_both, there, unconfirmed,
    },
    frame::Ip,
    policy::{Remote, Rule},
    world::End,
};

#[test]
fn a_destination_that_leaves_a_group_is_sent_nothing_more_by_who_may_send_to_the_group() {
    for server_host in [2, 1] {
        let (mut w, a, b) = connected([3, 0], server_host);
        w.rules(CLIENT, 2, &[Rule { egress: true, ..Rule::all_in(Remote::Set(SERVER)) }]).unwrap();
        w.deliver(&a, &b, there(&a, &b));
        w.rules(OTHER, 2, &[Rule::ALL_OUT, OPEN]).unwrap();
        let b = w.regroup(&b, OTHER).unwrap();
        w.announce(&b).unwrap();
        w.ask(3, &b, at_server(&a, &b)).unwrap();
        w.deliver(&a, &b, there(&a, &b));
        w.age(server_host, 600).unwrap();
        if server_host == 2 {
            // Whatever comes between.
            w.deliver(&a, &b, there(&a, &b));
            let told = w.introduce(&b).unwrap();
            assert!(matches!(&told[..], [journey] if journey.end == End::Dropped(1)), "{told:?}");
        } else {
            // The next packet sees it.
            w.deliver(&a, &b, there(&a, &b));
        }
        // It asks who that is, and may answer no more either.
        w.assert_refused(&a, there(&a, &b));
        w.assert_refused(&a, Ip::tcp(a.address, b.address, 1001, 80, 2));
    }
}

#[test]
fn a_client_that_leaves_a_group_while_it_is_silent_is_sent_nothing_more() {
    for server_host in [2, 1] {
        let (mut w, a, b) = connected([3, 0], server_host);
        w.rules(SERVER, 2, &[Rule::ALL_OUT, OPEN.from(Remote::Set(CLIENT))]).unwrap();
        w.ask(3, &b, at_server(&a, &b)).unwrap();
        long_ago(&mut w);
        w.deliver(&b, &a, back(&a, &b));
        let a = w.regroup(&a, OTHER).unwrap();
        w.age(1, 600).unwrap();
        w.host(server_host).events().unwrap();
        if server_host == 2 {
            // A packet of the server comes before its host hears of it.
            assert_eq!(w.deliver(&b, &a, back(&a, &b)), [2, 1]);
            let told = w.introduce(&a).unwrap();
            assert!(matches!(&told[..], [journey] if journey.end == End::Dropped(2)), "{told:?}");
        } else {
            w.deliver(&b, &a, back(&a, &b));
        }
        assert_eq!(unconfirmed(&mut w, server_host), 1, "its bouncers are asked");
        assert_eq!(w.deliver(&b, &a, back(&a, &b)).len(), if server_host == 2 { 2 } else { 1 }, "meanwhile");
        w.ask(3, &b, at_server(&a, &b)).unwrap();
        w.assert_refused(&b, back(&a, &b));
    }
}

#[test]
fn a_port_that_gets_other_groups_is_judged_by_them() {
    // The server: in its own policy.
    let (mut w, a, b) = connected([3, 0], 2);
    let b = w.regroup(&b, OTHER).unwrap();
    w.announce(&b).unwrap();
    assert_eq!(w.deliver(&a, &b, there(&a, &b)), [1, 2], "for a second");
    w.ask(3, &b, at_server(&a, &b)).unwrap();
    w.assert_refused(&a, there(&a, &b));
    // The client: by its new identity, for which the way is asked for again.
    let (mut w, a, b) = connected([3, 0], 2);
    w.rules(SERVER, 2, &[Rule::ALL_OUT, OPEN.from(Remote::Set(CLIENT))]).unwrap();
    w.ask(3, &b, at_server(&a, &b)).unwrap();
    w.assert_direct(&a, &b, 1000);
    let a = w.regroup(&a, OTHER).unwrap();
    assert_eq!(w.deliver(&a, &b, there(&a, &b)), [1, 2], "bouncers hear of it first");
    w.age(1, 600).unwrap();
    assert_eq!(w.assert_refused(&a, there(&a, &b))[..4], [1, 3, 2, 1]);
    w.assert_refused(&b, back(&a, &b));
    // To one that may as well.
    let (mut w, a, b) = connected([3, 0], 2);
    let a = w.regroup(&a, OTHER).unwrap();
    w.age(1, 600).unwrap();
    assert_eq!(w.deliver(&a, &b, there(&a, &b)), [1, 3, 2]);
    assert_eq!(w.host(2).flow(at_server(&a, &b)).unwrap().peer_identity, OTHER);
    w.deliver(&b, &a, back(&a, &b));
    w.deliver(&a, &b, there(&a, &b));
    w.assert_direct(&a, &b, 1000);
}

#[test]
fn a_verdict_of_a_set_that_the_port_had_is_not_taken_for_one_of_its_new_set() {
    // Numbers that once looked alike, from one byte; and the bouncer's rules are of a later generation.
    for (old, new) in [(SERVER, SERVER ^ 0x0101), (UNFILTERED, 257)] {
        let (mut w, a, b) = connected([3, 0], 2);
        w.rules(new, 1, &[Rule::ALL_OUT]).unwrap();
        let b = w.regroup(&b, old).unwrap();
        w.announce(&b).unwrap();
        // The host hears first.
        let b = w.regroup(&b, new).unwrap();
        w.age(2, 300).unwrap();
        w.deliver(&a, &b, Ip::tcp(a.address, b.address, 1001, 80, 2));
        let flow = w.host(2).flow(b.flow(6, 80, a.address, 1001)).unwrap();
        assert_eq!(flow.in_epoch, 0, "{old} is not {new}");
        assert_eq!(unconfirmed(&mut w, 2), 1);
        w.announce(&b).unwrap();
        w.ask(3, &b, b.flow(6, 80, a.address, 1001)).unwrap();
        assert_eq!(w.host(2).flow(b.flow(6, 80, a.address, 1001)).unwrap().state, State::Denied as u8);
    }
}

#[test]
fn port_security_that_is_turned_on_ends_what_it_does_not_allow() {
    let (mut w, a, b) = connected([2, 0], 2);
    let open = w.regroup(&b, UNFILTERED).unwrap();
    w.announce(&open).unwrap();
    w.deliver(&a, &b, Ip::udp(a.address, b.address, 5, 6, b"x"));
    w.deliver(&a, &b, there(&a, &b));
    let b = w.regroup(&open, SERVER).unwrap();
    w.announce(&b).unwrap();
    w.assert_refused(&a, Ip::udp(a.address, b.address, 5, 6, b"x"));
    w.deliver(&a, &b, there(&a, &b));
}

#[test]
fn a_side_that_leaves_a_group_is_heard_of_though_both_opened_the_flow_and_neither_knows_the_others_cookie() {
    let (mut w, a, b) = connected([3, 0], 2);
    let ntp = |set| Rule::ingress(17, (123, 123)).from(Remote::Set(set));
    for (set, from) in [(SERVER, CLIENT), (CLIENT, SERVER)] {
        w.rules(set, 2, &[Rule::ALL_OUT, ntp(from)]).unwrap();
    }
    let key = open_both(&mut w, &a, &b);
    assert_ne!(w.host(2).flow(key).unwrap().cookie, w.host(1).flow(a.flow(17, 123, b.address, 123)).unwrap().cookie);
    long_ago(&mut w);
    let a = w.regroup(&a, OTHER).unwrap();
    w.age(1, 600).unwrap();
    w.host(2).events().unwrap();
    assert_eq!(w.introduce(&a).unwrap().len(), 2);
    assert_eq!(w.host(2).flow(key).unwrap().peer_identity, OTHER);
    assert_eq!(unconfirmed(&mut w, 2), 2, "bouncers are asked, as about the connection");
    w.ask(3, &b, key).unwrap();
    assert_eq!(w.host(2).flow(key).unwrap().flags & OPENED, flow_flag::I_INIT, "what b asked for goes on");
}
