//! Hosts forget flows that policy would not let begin again: one end that remembers is enough.

use mizar_abi::maps::{EventKind, State, flow_flag};
use mizar_dataplane_tests::{
    World,
    frame::Ip,
    judged::{CLOSED, DEFAULT, WEB, data, pair, state, syn},
    policy::Rule,
    world::Port,
};

/// a opened the connection, and nobody may open one to it.
fn one_way() -> (World, Port, Port) {
    let (mut w, a, b) = pair(DEFAULT, WEB);
    w.connect(&a, &b, 1000);
    (w, a, b)
}

#[test]
fn a_server_whose_host_forgot_the_flow_goes_on_speaking_to_a_client_that_lets_nobody_in() {
    let (mut w, a, b) = one_way();
    w.host(2).evict().unwrap();
    w.counts().unwrap();
    assert_eq!(w.deliver(&b, &a, data(&b, &a, 80, 1000)), [2, 3, 1]);
    let counts = w.counts().unwrap();
    assert_eq!((counts["h3 reply_only"], counts["h1 admitted_in"]), (1, 1), "{counts:?}");
    // The client's host tells the way, and that it was a reply: so the client opened the flow, and
    // the server's own policy is to be asked about that.
    assert_eq!(w.deliver(&a, &b, data(&a, &b, 1000, 80)), [1, 2]);
    let flow = state(&mut w, &b, (6, 80, a.address, 1000));
    assert_eq!(flow.flags & (flow_flag::I_INIT | flow_flag::R_INIT), flow_flag::R_INIT);
    assert_eq!(flow.peer_identity, DEFAULT);
    let events = w.host(2).events().unwrap();
    assert_eq!(events.last().unwrap()[..4], [EventKind::Unconfirmed as u8, 0, 0, 0]);
    w.ask(3, &b, b.flow(6, 80, a.address, 1000)).unwrap();
    w.age(2, 2_000).unwrap();
    w.assert_direct(&a, &b, 1000);
}

#[test]
fn a_client_that_only_listens_is_acknowledged_by_its_agent() {
    let (mut w, a, b) = one_way();
    w.host(2).evict().unwrap();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    let mut events = Vec::new();
    w.host(1).events().unwrap();
    while events.is_empty() && std::time::Instant::now() < deadline {
        w.deliver(&b, &a, data(&b, &a, 80, 1000));
        events = w.host(1).events().unwrap();
    }
    assert_eq!(events[0][..4], [EventKind::NeedAck as u8, 0, 0, 0]);
}

#[test]
fn a_client_whose_host_forgot_the_flow_finds_it_again_by_speaking() {
    let (mut w, a, b) = one_way();
    w.host(1).evict().unwrap();
    // Nobody here remembers that it was a that opened the flow.
    w.assert_refused(&b, data(&b, &a, 80, 1000));
    assert_eq!(state(&mut w, &b, (6, 80, a.address, 1000)).state, State::Denied as u8);
    w.deliver(&a, &b, data(&a, &b, 1000, 80));
    w.deliver(&b, &a, data(&b, &a, 80, 1000));
    w.deliver(&a, &b, data(&a, &b, 1000, 80));
    w.assert_direct(&a, &b, 1000);
}

#[test]
fn a_flow_that_both_hosts_forgot_goes_on_if_the_client_speaks_first_and_else_waits_for_it() {
    for server_first in [false, true] {
        let (mut w, a, b) = one_way();
        w.host(1).evict().unwrap();
        w.host(2).evict().unwrap();
        if server_first {
            assert_eq!(w.assert_refused(&b, data(&b, &a, 80, 1000)), [2, 3, 1, 2]);
            assert_eq!(w.assert_refused(&b, data(&b, &a, 80, 1000)), [2], "for a second");
        }
        w.deliver(&a, &b, data(&a, &b, 1000, 80));
        w.deliver(&b, &a, data(&b, &a, 80, 1000));
        w.deliver(&a, &b, data(&a, &b, 1000, 80));
        w.assert_direct(&a, &b, 1000);
    }
}

#[test]
fn a_server_without_egress_whose_host_forgot_the_flow_still_answers() {
    let (mut w, a, b) = pair(DEFAULT, CLOSED);
    w.rules(CLOSED, 7, &[Rule::ingress(6, (80, 80))]).unwrap();
    w.connect(&a, &b, 1000);
    w.host(2).evict().unwrap();
    assert_eq!(w.deliver(&b, &a, data(&b, &a, 80, 1000)), [2, 3, 1]);
    w.deliver(&a, &b, data(&a, &b, 1000, 80));
    assert_eq!(w.deliver(&b, &a, data(&b, &a, 80, 1000)), [2, 1]);
    // What nobody opened is not made a conversation that way, though a would let it in.
    let (mut w, a, b) = pair(mizar_abi::maps::UNFILTERED, CLOSED);
    w.assert_refused(&b, data(&b, &a, 80, 1000));
    w.assert_refused(&b, Ip::echo(b.address, a.address, 0, 3));
    assert_eq!(w.assert_refused(&b, syn(&b, &a, 80, 1000)), [2]);
}
