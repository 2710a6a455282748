use super::*;
use mizar_abi::maps::{Flow, State, flow_flag, tcp_seen};

const AT: Now = Now { s: 1_000, ms: 1_000_000 };
const US: Peer = Peer { host: [1, 1, 1, 1], vni: 9, identity: 5, generation: 3, ep: 0 };

fn later(seconds: u32) -> Now {
    Now { s: AT.s + seconds, ms: AT.ms + seconds * 1000 }
}

fn in_state(state: State) -> Flow {
    Flow { state: state as u8, last_seen: AT.s, since_ms: AT.ms, cookie: 77, ..Flow::default() }
}

/// Something that may happen to a flow.
type Happening<'a> = (&'a str, &'a dyn Fn(&mut Flow));

fn admission() -> Admission {
    Admission { ep_id: 4, cookie: 88, stamp: 12, routed: true, ..Admission::default() }
}

#[test]
fn every_state_lives_as_long_as_the_table_says() {
    for (state, number, seconds) in [
        (State::NewOut, proto::TCP, 60),
        (State::NewOut, proto::UDP, 10),
        (State::NewIn, proto::TCP, 30),
        (State::Est, proto::TCP, 7_440),
        (State::Est, proto::UDP, 180),
        (State::Est, proto::ICMP, 30),
        (State::Est, 47, 180),
        (State::Closing, proto::TCP, 60),
    ] {
        let flow = in_state(state);
        assert!(is_live(&flow, number, &later(seconds)), "{state:?} {number}");
        assert!(!is_live(&flow, number, &later(seconds + 1)), "{state:?} {number}");
    }
    let reset = Flow { tcp: tcp_seen::RST, ..in_state(State::Closing) };
    assert!(is_live(&reset, proto::TCP, &later(10)) && !is_live(&reset, proto::TCP, &later(11)));
    let denied = in_state(State::Denied);
    assert!(is_live(&denied, proto::TCP, &Now { ms: AT.ms + 999, ..AT }));
    assert!(!is_live(&denied, proto::TCP, &later(1)));
}

#[test]
fn a_write_of_another_cpu_a_moment_later_ends_no_flow() {
    let flow = Flow { last_seen: AT.s + 1, ..in_state(State::Est) };
    assert!(is_live(&flow, proto::TCP, &AT));
}

#[test]
fn clocks_agree_after_years() {
    for ns in [0, 999_999, 1_000_000, 86_400_000_000_000 * 400] {
        let now = Now::from_ns(ns);
        assert_eq!(now.s as u64, ns / 1_000_000_000);
        assert_eq!(now.ms, (ns / 1_000_000) as u32);
    }
}

#[test]
fn fin_both_ways_or_rst_closes() {
    for (steps, closing) in [
        (&[(tcp::FIN, true)][..], false),
        (&[(tcp::FIN, true), (tcp::FIN, true)][..], false),
        (&[(tcp::FIN, true), (tcp::FIN, false)][..], true),
        (&[(tcp::RST, false)][..], true),
        (&[(tcp::ACK, false)][..], false),
    ] {
        let mut flow = in_state(State::Est);
        for (flags, outgoing) in steps {
            touch(&mut flow, *flags, *outgoing, &AT);
        }
        assert_eq!(flow.state == State::Closing as u8, closing, "{steps:?}");
    }
}

#[test]
fn only_an_opening_packet_reopens_and_only_what_was_closed() {
    assert!(reopens(&in_state(State::Closing), true));
    assert!(!reopens(&in_state(State::Closing), false));
    assert!(!reopens(&in_state(State::Est), true));
}

/// The table of states under an admission.
#[test]
fn an_admission_makes_a_flow_or_joins_one() {
    for (before, after, flags) in [
        (None, State::NewIn, flow_flag::R_INIT | flow_flag::ROUTED),
        (Some(State::Denied), State::NewIn, flow_flag::R_INIT | flow_flag::ROUTED),
        (Some(State::NewIn), State::NewIn, flow_flag::R_INIT | flow_flag::ROUTED),
        (Some(State::NewOut), State::Est, flow_flag::I_INIT | flow_flag::R_INIT | flow_flag::ROUTED),
        (Some(State::Est), State::Est, flow_flag::I_INIT | flow_flag::R_INIT | flow_flag::ROUTED),
    ] {
        let mut flow = before.map_or(Flow::default(), in_state);
        if matches!(before, Some(State::NewOut | State::Est)) {
            flow.flags = flow_flag::I_INIT | flow_flag::CONFIRMED;
        }
        admitted(&mut flow, &admission(), &US, &AT);
        assert_eq!((flow.state, flow.flags), (after as u8, flags), "{before:?}");
        assert_eq!((flow.peer_host, flow.cookie, flow.ep_id, flow.peer_identity), (US.host, 88, 4, 5));
        assert_eq!(flow.in_epoch, 12);
        assert!(owes_ack(&flow));
    }
}

#[test]
fn a_closed_flow_is_joined_by_data_and_replaced_by_an_opening() {
    let mut flow = Flow { tcp: tcp_seen::FIN_IN | tcp_seen::FIN_OUT, ..in_state(State::Closing) };
    admitted(&mut flow, &admission(), &US, &AT);
    assert_eq!(flow.state, State::Closing as u8);
    admitted(&mut flow, &Admission { opens: true, ..admission() }, &US, &AT);
    assert_eq!((flow.state, flow.tcp), (State::NewIn as u8, 0));
}

#[test]
fn a_straggler_of_an_older_binding_does_not_move_a_path_back() {
    let mut flow = Flow::default();
    admitted(&mut flow, &admission(), &Peer { generation: 8, ..US }, &AT);
    let old = Peer { host: [2, 2, 2, 2], generation: 7, ..US };
    admitted(&mut flow, &admission(), &old, &later(1));
    assert_eq!(flow.peer_host, US.host);
    flow.state = State::Est as u8;
    assert!(acknowledged(&mut flow, 88, &old, false, &later(1)));
    assert_eq!(flow.peer_host, US.host);
    // After ten seconds it is a new port of the same address.
    admitted(&mut flow, &admission(), &old, &later(11));
    assert_eq!(flow.peer_host, old.host);
    // Newer and equal ones count at once.
    admitted(&mut flow, &admission(), &Peer { generation: 9, ..US }, &later(11));
    assert_eq!(flow.peer_host, US.host);
}

#[test]
fn an_acknowledgement_needs_the_cookie_and_a_flow_that_may_have_one() {
    for (state, cookie, learned) in [
        (State::NewOut, 77, true),
        (State::Est, 77, true),
        (State::Closing, 77, true),
        (State::NewOut, 78, false),
        (State::Denied, 77, false),
        (State::NewIn, 77, false),
    ] {
        let mut flow = in_state(state);
        assert_eq!(acknowledged(&mut flow, cookie, &US, false, &AT), learned, "{state:?}");
        assert_eq!(flow.peer_host == US.host, learned, "{state:?}");
        if learned && state == State::NewOut {
            assert_eq!(flow.state, State::Est as u8);
        }
    }
}

#[test]
fn a_direct_packet_ends_the_debt_of_an_acknowledgement() {
    let mut flow = Flow::default();
    admitted(&mut flow, &admission(), &US, &AT);
    confirm(&mut flow);
    assert_eq!(flow.state, State::Est as u8);
    assert!(!owes_ack(&flow));
}

#[test]
fn nothing_that_happens_gives_a_flow_that_waits_for_a_verdict_more_time() {
    let confirmed = Flow { flags: flow_flag::R_INIT, in_epoch: 9, ..in_state(State::NewOut) };
    let unconfirmed = Flow { in_epoch: 0, ..confirmed };
    let unidentified = Flow { flags: flow_flag::I_INIT | flow_flag::NEED_ID, ..confirmed };
    let at = later(5);
    let provisional = Admission { stamp: 0, ..admission() };
    let events: [Happening<'_>; 4] = [
        ("a retry", &|flow| try_again(flow, &at)),
        ("a new question", &|flow| ask_again(flow, &at)),
        ("an acknowledgement", &|flow| assert!(acknowledged(flow, 77, &US, true, &at))),
        ("an admission by other rules", &|flow| assert!(enters(flow, &provisional, &US, &at))),
    ];
    for (event, happens) in events {
        for (before, since) in [(confirmed, at.ms), (unconfirmed, AT.ms), (unidentified, AT.ms)] {
            let mut flow = before;
            happens(&mut flow);
            assert_eq!(flow.since_ms, since, "{event}: {before:?}");
        }
    }
}

#[test]
fn asking_again_keeps_the_former_peer_and_who_opened() {
    let mut flow = Flow { flags: flow_flag::I_INIT, peer_host: [1, 1, 1, 1], tries: 3, ..in_state(State::Est) };
    ask_again(&mut flow, &later(5));
    assert_eq!((flow.state, flow.flags, flow.tries), (State::NewOut as u8, flow_flag::I_INIT, 0));
    assert_eq!((flow.peer_host, flow.cookie), ([1, 1, 1, 1], 77));
    assert!(!knows_peer(&flow));
}

#[test]
fn a_reply_is_taken_only_by_who_opened_the_flow() {
    for (state, flags, taken) in [
        (State::NewOut, flow_flag::I_INIT, true),
        (State::Est, flow_flag::I_INIT, true),
        (State::Closing, flow_flag::I_INIT | flow_flag::R_INIT, true),
        (State::NewOut, 0, false),
        (State::Est, flow_flag::R_INIT, false),
        (State::NewIn, flow_flag::R_INIT, false),
        (State::Denied, flow_flag::I_INIT, false),
    ] {
        let before = Flow { flags: flags | flow_flag::CONFIRMED, out_epoch: 9, ..in_state(state) };
        let mut flow = before;
        assert_eq!(replied(&mut flow, &admission(), &US, &later(1)), taken, "{state:?} {flags}");
        if !taken {
            assert_eq!(flow, before, "{state:?} {flags}");
            continue;
        }
        assert_eq!((flow.peer_host, flow.cookie, flow.out_epoch), (US.host, 88, 9));
        assert_eq!(flow.flags & (flow_flag::I_INIT | flow_flag::R_INIT), flags, "nobody opened it anew");
        assert!(is_established(&flow) && owes_ack(&flow), "the sender's host is told the way");
        confirm(&mut flow);
        assert!(!owes_ack(&flow));
    }
}

#[test]
fn no_reply_is_taken_by_who_has_stateless_groups_whatever_it_opened() {
    let answer = Admission { reply_only: true, stateless: true, ..admission() };
    for state in [State::NewOut, State::Est, State::Closing] {
        for flags in [flow_flag::I_INIT, flow_flag::I_INIT | flow_flag::R_INIT] {
            let before = Flow { flags: flags | flow_flag::CONFIRMED, ..in_state(state) };
            let mut flow = before;
            assert!(!enters(&mut flow, &answer, &US, &AT), "{state:?} {flags}");
            assert_eq!(flow, before);
            assert!(enters(&mut flow, &Admission { stateless: false, ..answer }, &US, &AT), "{state:?} {flags}");
            let mut flow = before;
            assert!(enters(&mut flow, &Admission { reply_only: false, ..answer }, &US, &AT), "a rule lets it in");
            assert_eq!(flow.flags & flow_flag::R_INIT, flow_flag::R_INIT);
        }
    }
}

#[test]
fn a_denial_by_outdated_rules_ends_nothing_that_the_other_side_had_opened() {
    let denial = Admission { reply_only: true, stamp: 0, ..admission() };
    for (state, flags, enters_) in [
        (State::NewIn, flow_flag::R_INIT, true),
        (State::Est, flow_flag::R_INIT, true),
        (State::Closing, flow_flag::R_INIT, true),
        (State::NewOut, flow_flag::R_INIT, true),
        (State::Denied, flow_flag::R_INIT, false),
        (State::Est, 0, false),
        (State::NewOut, 0, false),
    ] {
        let before = Flow { flags, in_epoch: 9, peer_identity: US.identity, ..in_state(state) };
        let mut flow = before;
        assert_eq!(enters(&mut flow, &denial, &US, &AT), enters_, "{state:?} {flags}");
        if enters_ {
            assert_eq!((flow.in_epoch, flow.flags & flow_flag::R_INIT), (9, flow_flag::R_INIT), "it stays what it was");
            let other = Peer { identity: 6, ..US };
            assert!(enters(&mut flow, &denial, &other, &AT));
            assert_eq!((flow.in_epoch, flow.peer_identity), (0, 6), "nobody has said so of this one");
        }
        let mut flow = before;
        let current = Admission { stamp: 12, ..denial };
        assert!(!enters(&mut flow, &current, &US, &AT), "{state:?} {flags}: by the rules in force");
        assert_eq!(flow, before);
    }
}

#[test]
fn an_error_concerns_whoever_takes_part_in_the_flow() {
    for (state, flags, concerned) in [
        (State::NewOut, flow_flag::I_INIT, true),
        (State::NewIn, flow_flag::R_INIT, true),
        (State::NewOut, flow_flag::R_INIT, true),
        (State::Est, flow_flag::R_INIT, true),
        (State::Est, flow_flag::I_INIT, true),
        (State::Denied, flow_flag::R_INIT, false),
        (State::Denied, flow_flag::I_INIT, false),
        (State::NewOut, 0, false),
        (State::NewOut, flow_flag::NEED_ID, false),
    ] {
        let flow = Flow { flags, ..in_state(state) };
        assert_eq!(is_concerned(&flow, false), concerned, "{state:?} {flags}");
    }
    assert!(!is_concerned(&Flow { flags: flow_flag::I_INIT, ..in_state(State::NewOut) }, true));
}

#[test]
fn who_may_send_nothing_is_taken_to_reply_only_once_it_was_reached() {
    let sender = Admission { no_egress: true, ..admission() };
    for (state, flags, taken) in [
        (State::NewOut, 0, false),
        (State::NewOut, flow_flag::CONFIRMED, true),
        (State::Est, 0, true),
        (State::Closing, 0, true),
    ] {
        let mut flow = Flow { flags: flags | flow_flag::I_INIT, ..in_state(state) };
        assert_eq!(replied(&mut flow, &sender, &US, &AT), taken, "{state:?} {flags}");
    }
}

#[test]
fn who_is_told_that_he_replied_did_not_open_the_flow() {
    let asked = Flow { flags: flow_flag::I_INIT, in_epoch: 3, ..in_state(State::NewOut) };
    let mut flow = asked;
    assert!(acknowledged(&mut flow, 77, &US, true, &AT));
    assert_eq!((flow.state, flow.peer_identity, flow.in_epoch), (State::Est as u8, US.identity, 0));
    assert_eq!(flow.flags & (flow_flag::I_INIT | flow_flag::R_INIT), flow_flag::R_INIT);
    assert!(!owes_ack(&flow));
    let mut flow = asked;
    assert!(acknowledged(&mut flow, 77, &US, false, &AT));
    assert_eq!((flow.flags, flow.in_epoch), (flow_flag::I_INIT, 3));
    let both = Flow { flags: flow_flag::I_INIT | flow_flag::R_INIT, in_epoch: 3, ..in_state(State::Est) };
    let mut flow = both;
    assert!(acknowledged(&mut flow, 77, &US, true, &AT));
    assert_eq!((flow.flags, flow.in_epoch), (both.flags, 3), "the other side had been let in before");
}

#[test]
fn what_was_said_of_one_identity_is_not_said_of_another() {
    let known = Flow { flags: flow_flag::I_INIT, out_epoch: 7, peer_identity: 4, ..in_state(State::Est) };
    let reply = Admission { reply_only: true, ..admission() };
    let events: [Happening<'_>; 4] = [
        ("an acknowledgement", &|flow| assert!(acknowledged(flow, 77, &US, false, &AT))),
        ("a reply", &|flow| assert!(enters(flow, &reply, &US, &AT))),
        ("an admission", &|flow| assert!(enters(flow, &admission(), &US, &AT))),
        ("a neighbour", &|flow| assert!(!shows(flow, US.identity, &AT))),
    ];
    for (event, happens) in events {
        for (before, stamp) in [(4, 0), (US.identity, 7), (ANYBODY, 7)] {
            let mut flow = Flow { peer_identity: before, ..known };
            happens(&mut flow);
            assert_eq!((flow.out_epoch, flow.peer_identity), (stamp, US.identity), "{event}: {before}");
        }
    }
    // What the other side opened is confirmed anew, in the usual time.
    let opened = Flow { flags: flow_flag::R_INIT, in_epoch: 7, ..known };
    let mut flow = opened;
    assert!(acknowledged(&mut flow, 77, &US, false, &later(5)));
    assert_eq!((flow.in_epoch, flow.since_ms), (0, later(5).ms));
    let mut flow = opened;
    assert!(shows(&mut flow, US.identity, &later(5)));
    assert_eq!((flow.in_epoch, flow.since_ms), (0, later(5).ms));
    assert!(shows(&mut flow, US.identity, &later(6)), "until it is");
    assert_eq!(flow.since_ms, later(5).ms);
}

#[test]
fn who_says_in_which_groups_the_other_side_is_now_is_believed_unless_it_speaks_of_former_times() {
    let opened = Flow { flags: flow_flag::R_INIT, in_epoch: 7, peer_identity: 4, ..in_state(State::Est) };
    let mut flow = opened;
    assert!(introduced(&mut flow, &US, &later(5)));
    assert_eq!((flow.in_epoch, flow.peer_identity, flow.since_ms), (0, US.identity, later(5).ms));
    assert_eq!((flow.peer_host, flow.cookie), (opened.peer_host, opened.cookie), "nothing else is learned");
    let moved = Flow { generation: US.generation + 1, ..opened };
    let asks = Flow { flags: flow_flag::R_INIT | flow_flag::NEED_ID, ..opened };
    for before in [moved, asks] {
        let mut flow = before;
        assert!(!introduced(&mut flow, &US, &later(5)));
        assert_eq!(flow, before);
    }
}

#[test]
fn a_flow_that_both_sides_opened_survives_the_loss_of_one_right() {
    let both = flow_flag::I_INIT | flow_flag::R_INIT;
    for init in [flow_flag::I_INIT, flow_flag::R_INIT] {
        let mut flow = Flow { flags: both, ..in_state(State::Est) };
        assert!(closes(&mut flow, init));
        assert_eq!(flow.flags, both & !init);
        assert!(!closes(&mut flow, both & !init), "the last one is not given up");
        assert_eq!(flow.flags, both & !init);
    }
}

#[test]
fn a_request_opens_only_what_it_may() {
    for (flags, stamp) in [(flow_flag::I_INIT, 12), (flow_flag::NEED_ID, 0), (0, 0)] {
        let flow = request(4, 77, flags, 12, &AT);
        assert_eq!((flow.state, flow.flags, flow.out_epoch, flow.cookie), (State::NewOut as u8, flags, stamp, 77));
    }
}

/// What the peer's host and bouncers say before egress policy knows the peer's groups.
#[test]
fn while_an_identity_is_asked_for_nothing_makes_the_flow_one_that_goes_on() {
    // An old flow that is judged again is spoken to; one that nobody has allowed yet is not.
    for (flags, heard) in [(flow_flag::NEED_ID, false), (flow_flag::NEED_ID | flow_flag::I_INIT, true)] {
        let before = Flow { flags, ..in_state(State::NewOut) };
        let mut flow = before;
        assert_eq!(replied(&mut flow, &admission(), &US, &AT), heard);
        assert_eq!(acknowledged(&mut flow, 77, &US, false, &AT), heard);
        assert_eq!(acknowledged(&mut flow, 77, &US, true, &AT), heard);
        assert_eq!(flow, before, "nothing is learned");
        // The other side may open it: then it alone did.
        admitted(&mut flow, &admission(), &US, &AT);
        let opened = flow_flag::I_INIT | flow_flag::R_INIT | flow_flag::NEED_ID;
        assert_eq!((flow.state, flow.flags & opened), (State::Est as u8, flow_flag::R_INIT));
    }
}

#[test]
fn a_side_that_loses_its_right_is_not_asked_about_any_more() {
    let opened = flow_flag::I_INIT | flow_flag::R_INIT;
    let mut flow = Flow { flags: opened | flow_flag::NEED_ID, ..in_state(State::NewOut) };
    assert!(closes(&mut flow, flow_flag::I_INIT));
    assert_eq!(flow.flags, flow_flag::R_INIT);
}
