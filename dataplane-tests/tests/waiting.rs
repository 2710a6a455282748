//! Rules are missing on a host for a while: flows that they let begin go on, and nobody is denied for good.

use mizar_abi::maps::State;
use mizar_dataplane_tests::{
    connection::{CLIENT, OPEN, SERVER, at_server, back, connected, long_ago, there},
    frame::Ip,
    policy::{Remote, Rule},
    promptly::promptly,
};

#[test]
fn a_host_that_misses_a_group_of_the_server_lets_flows_go_on_for_a_second() {
    for comes_back in [true, false] {
        promptly(|watch| {
            let (mut w, a, b) = connected([3, 0], 2);
            {
                let _steps = watch.within(400);
                w.waits_at(2, SERVER, 0).unwrap();
                assert_eq!(w.deliver(&a, &b, there(&a, &b)), [1, 2]);
                assert_eq!(w.deliver(&b, &a, back(&a, &b)), [2, 1]);
                w.age(2, 600).unwrap();
                assert_eq!(w.deliver(&a, &b, there(&a, &b)), [1, 2]);
            }
            if comes_back {
                w.rules_at(2, SERVER, 1, &[Rule::ALL_OUT, OPEN]).unwrap();
                long_ago(&mut w);
                w.assert_direct(&a, &b, 1000);
            } else {
                w.age(2, 500).unwrap();
                w.assert_refused(&a, there(&a, &b));
                w.assert_refused(&b, back(&a, &b));
            }
        });
    }
}

#[test]
fn a_host_that_misses_a_group_of_the_client_lets_flows_go_on_for_a_second() {
    promptly(|watch| {
        let (mut w, a, b) = connected([3, 0], 2);
        {
            let _steps = watch.within(1_000);
            w.rules_at(1, CLIENT, 1, &[]).unwrap();
            w.waits_at(1, CLIENT, 0).unwrap();
            for _ in 0..2 {
                assert_eq!(w.deliver(&a, &b, there(&a, &b)), [1, 2]);
                assert_eq!(w.deliver(&b, &a, back(&a, &b)), [2, 1]);
            }
        }
        // What begins now, by no rule that is there, does not.
        assert_eq!(w.assert_refused(&a, Ip::tcp(a.address, b.address, 1001, 80, 2)), [1]);
        w.age(1, 1_100).unwrap();
        assert_eq!(w.assert_refused(&a, there(&a, &b)), [1]);
    });
    // While the rule that allows it is there, it goes on, and nobody is asked for the way of it.
    let (mut w, a, b) = connected([3, 0], 2);
    w.waits_at(1, CLIENT, 0).unwrap();
    for ms in [0, 1_100, 5_000] {
        w.age(1, ms).unwrap();
        assert_eq!(w.deliver(&a, &b, there(&a, &b)), [1, 2]);
        assert_eq!(w.deliver(&b, &a, back(&a, &b)), [2, 1]);
    }
}

#[test]
fn a_bouncer_that_misses_a_rule_denies_nothing_and_the_others_verdicts_count() {
    let (mut w, a, b) = connected([3, 4], 2);
    // A rule about addresses has come; who they are, only bouncer 4 has heard.
    let rules = [Rule::ALL_OUT, OPEN, Rule::ingress(17, (53, 53)).from(Remote::Prefix(a.address, 32))];
    w.rules_at(4, SERVER, 2, &rules).unwrap();
    for host in [2, 3] {
        w.waits_at(host, SERVER, 2).unwrap();
    }
    // What none of its rules allows it says nothing of.
    let udp = b.flow(17, 53, a.address, 2_000);
    w.deliver(&a, &b, Ip::udp(a.address, b.address, 2_000, 53, b"?"));
    w.counts().unwrap();
    w.ask(3, &b, udp).unwrap();
    w.assert_counts(&[("h3 p0 dropped policy_unconfirmed", 1)]);
    w.ask(4, &b, at_server(&a, &b)).unwrap();
    long_ago(&mut w);
    w.assert_direct(&a, &b, 1000);
    for sport in 2_000..2_010 {
        w.deliver(&a, &b, Ip::udp(a.address, b.address, sport, 53, b"?"));
        w.assert_refused(&a, Ip::udp(a.address, b.address, sport, 54, b"?"));
    }
}

/// One rule that never becomes right must not be the end of what the others allow.
#[test]
fn bouncers_that_miss_a_rule_let_in_what_the_others_allow() {
    let (mut w, a, b) = connected([3, 4], 2);
    w.rules(SERVER, 2, &[Rule::ALL_OUT, OPEN]).unwrap();
    for host in 2..=4 {
        w.waits_at(host, SERVER, 2).unwrap();
    }
    w.ask(3, &b, at_server(&a, &b)).unwrap();
    long_ago(&mut w);
    w.assert_direct(&a, &b, 1000);
    let new = Ip::tcp(a.address, b.address, 1001, 80, 2);
    assert_eq!(w.deliver(&a, &b, new).last(), Some(&2));
    w.assert_refused(&a, Ip::tcp(a.address, b.address, 1001, 81, 2));
}

#[test]
fn another_bouncer_is_asked_about_an_endpoint_of_one_that_misses_a_rule() {
    promptly(|watch| {
        let (mut w, a, b) = connected([2, 4], 2);
        w.rules_at(4, SERVER, 2, &[Rule::ALL_OUT, OPEN]).unwrap();
        {
            let _steps = watch.within(1_000);
            w.rules_at(2, SERVER, 2, &[Rule::ALL_OUT]).unwrap();
            w.waits_at(2, SERVER, 2).unwrap();
            w.deliver(&b, &a, back(&a, &b));
        }
        w.ask(4, &b, at_server(&a, &b)).unwrap();
        long_ago(&mut w);
        w.assert_direct(&a, &b, 1000);
    });
}

#[test]
fn a_bouncer_that_misses_a_rule_ends_no_flow_of_its_own_endpoint() {
    promptly(|watch| {
        let (mut w, a, b) = connected([2, 0], 2);
        {
            let _steps = watch.within(1_000);
            w.rules_at(2, SERVER, 2, &[Rule::ALL_OUT]).unwrap();
            w.waits_at(2, SERVER, 2).unwrap();
            w.deliver(&a, &b, there(&a, &b));
            w.deliver(&b, &a, back(&a, &b));
        }
        w.age(2, 1_100).unwrap();
        w.assert_refused(&b, back(&a, &b));
        assert_eq!(w.host(2).flow(at_server(&a, &b)).unwrap().state, State::Est as u8, "it waits");
        w.rules_at(2, SERVER, 2, &[Rule::ALL_OUT, OPEN]).unwrap();
        w.deliver(&b, &a, back(&a, &b));
        w.deliver(&a, &b, there(&a, &b));
    });
}
