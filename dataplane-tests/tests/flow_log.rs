//! The flow log: which flows are counted, and that the counts are right.

use aya::EbpfLoader;
use mizar_abi::{
    maps::{
        FlowCount, FlowKey, LogStart, State, flow_flag,
        revoked::{ALLOWED, DOUBTFUL},
    },
    reason::Drop,
};
use mizar_dataplane_tests::{
    World,
    frame::Ip,
    policy::Rule,
    promptly::{Stopwatch, promptly},
    world::{End, HostNumber, Port},
};
use mizar_packet::log::is_chosen;

const VNI: u32 = 99;
/// Everything out, nothing in.
const CLOSED: u32 = 1;
/// Nothing at all.
const MUTE: u32 = 2;
/// Stateless: everything out, nothing in.
const DEAF: u32 = 3;

/// Of one in so many flows, and so many tokens that are never earned again, a subnet whose bouncer is host 3.
fn world(one_in: &'static u32, tokens: &'static u32) -> World {
    let mut w = World::new_with(3, |loader: &mut EbpfLoader<'_>| {
        loader.override_global("FLOW_LOG_SAMPLE", one_in, true);
        loader.override_global("FLOW_LOG_RATE", &0u32, true);
        loader.override_global("FLOW_LOG_BURST", tokens, true);
    })
    .unwrap();
    w.subnet(VNI, 7, [10, 0, 0, 0], &[[3, 0]]).unwrap();
    w.rules(CLOSED, 1, &[Rule::ALL_OUT]).unwrap();
    w.rules(MUTE, 1, &[]).unwrap();
    w
}

fn count(w: &mut World, host: HostNumber, key: FlowKey) -> Option<FlowCount> {
    w.host(host).get("FLOW_COUNT", key)
}

/// Packets and bytes out, packets and bytes in.
fn passed(w: &mut World, port: &Port, key: FlowKey) -> (u64, u64, u64, u64) {
    let count = count(w, port.host, key).expect("it is counted");
    assert_eq!(count.ep_id, port.ep_id);
    (count.packets_out, count.bytes_out, count.packets_in, count.bytes_in)
}

fn is_logged(w: &mut World, host: HostNumber, key: FlowKey) -> bool {
    w.host(host).flow(key).expect("a flow").flags & flow_flag::LOGGED != 0
}

/// Of the flows that are logged since the last call, there must be one.
fn started(w: &mut World, host: HostNumber) -> LogStart {
    let [start] = w.host(host).logged().unwrap()[..] else { panic!("one flow is logged on host {host}") };
    start
}

fn syn(from: &Port, to: &Port, sport: u16) -> Ip {
    Ip::tcp(from.address, to.address, sport, 80, 2)
}

#[test]
fn both_ends_of_a_connection_count_the_same_packets() {
    // On different hosts, on one, and where that is the bouncer too.
    for hosts in [[1, 2], [1, 1], [3, 3], [3, 1]] {
        let mut w = world(&1, &100);
        let [a, b] =
            [(11, 5), (12, 6)].map(|(ep_id, last)| w.port(hosts[ep_id as usize - 11], ep_id, 7, last).unwrap());
        // A handshake of three, and four pairs after it.
        w.connect(&a, &b, 1000);
        let size = a.frame(syn(&a, &b, 1000)).len() as u64 - 14;
        let (at_a, at_b) = (a.flow(6, 1000, b.address, 80), b.flow(6, 80, a.address, 1000));
        assert_eq!(passed(&mut w, &a, at_a), (6, 6 * size, 5, 5 * size), "{hosts:?}");
        assert_eq!(passed(&mut w, &b, at_b), (5, 5 * size, 6, 6 * size), "{hosts:?}");
        assert!(is_logged(&mut w, a.host, at_a) && is_logged(&mut w, b.host, at_b));
        let mut starts: Vec<LogStart> = (1..=3).flat_map(|host| w.host(host).logged().unwrap()).collect();
        starts.sort_by_key(|start| start.count.ep_id);
        let told: Vec<_> = starts.iter().map(|start| (start.key, start.count.ep_id, start.count.inbound)).collect();
        assert_eq!(told, [(at_a, 11, 0), (at_b, 12, 1)], "{hosts:?}");
        assert!(starts.iter().all(|start| start.count.started_ns != 0 && start.former == FlowCount::default()));
    }
}

#[test]
fn a_flow_that_is_not_chosen_is_not_touched_and_both_ends_choose_alike() {
    for one_in in &[0, 3] {
        let mut w = world(one_in, &1_000);
        let (a, b) = (w.port(1, 11, 7, 5).unwrap(), w.port(2, 12, 7, 6).unwrap());
        let mut chosen = 0;
        for sport in 1..60 {
            w.deliver(&a, &b, Ip::udp(a.address, b.address, sport, 53, b"?"));
            w.deliver(&b, &a, Ip::udp(b.address, a.address, 53, sport, b"!"));
            let (at_a, at_b) = (a.flow(17, sport, b.address, 53), b.flow(17, 53, a.address, sport));
            let expected = is_chosen(&at_a, *one_in);
            assert_eq!((is_logged(&mut w, 1, at_a), is_logged(&mut w, 2, at_b)), (expected, expected));
            assert_eq!((count(&mut w, 1, at_a).is_some(), count(&mut w, 2, at_b).is_some()), (expected, expected));
            chosen += usize::from(expected);
        }
        assert_eq!(chosen > 5, *one_in != 0);
        let told = (w.host(1).logged().unwrap().len(), w.host(2).logged().unwrap().len());
        assert_eq!(told, (chosen, chosen));
    }
}

#[test]
fn what_egress_policy_refuses_is_logged_once_and_counted() {
    let mut w = world(&1, &100);
    let (a, b) = (w.port_of(MUTE, 1, 11, 7, 5).unwrap(), w.port(2, 12, 7, 6).unwrap());
    let key = a.flow(6, 1000, b.address, 80);
    let size = a.frame(syn(&a, &b, 1000)).len() as u64 - 14;
    for _ in 0..3 {
        w.assert_refused(&a, syn(&a, &b, 1000));
    }
    assert_eq!(passed(&mut w, &a, key), (3, 3 * size, 0, 0));
    let start = started(&mut w, 1);
    assert_eq!((start.key, start.count.refused, start.count.inbound), (key, Drop::Policy as u8, 0));
    assert_eq!(w.host(1).flow(key), None);
    // Rules let it pass: what follows is another flow.
    w.rules(MUTE, 2, &[Rule::ALL_OUT]).unwrap();
    w.deliver(&a, &b, syn(&a, &b, 1000));
    let start = started(&mut w, 1);
    assert_eq!((start.former.packets_out, start.former.refused), (3, Drop::Policy as u8));
    assert_eq!(passed(&mut w, &a, key), (1, size, 0, 0));
    assert_eq!(count(&mut w, 1, key).map(|count| count.refused), Some(0));
}

#[test]
fn what_the_other_sides_policy_refuses_is_logged_for_both() {
    for xdp in [false, true] {
        promptly(|watch| refused_by_the_other_side(xdp, watch));
    }
}

fn refused_by_the_other_side(xdp: bool, watch: &Stopwatch) {
    let mut w = world(&1, &100);
    w.xdp = xdp;
    let (a, b) = (w.port_of(CLOSED, 1, 11, 7, 5).unwrap(), w.port_of(CLOSED, 2, 12, 7, 6).unwrap());
    {
        let _steps = watch.within(1_000);
        for _ in 0..2 {
            w.assert_refused(&a, syn(&a, &b, 1000));
        }
    }
    let size = a.frame(syn(&a, &b, 1000)).len() as u64 - 14;
    let (at_a, at_b) = (a.flow(6, 1000, b.address, 80), b.flow(6, 80, a.address, 1000));
    // The second one went no further than its host, where the first one's refusal is known.
    assert_eq!(passed(&mut w, &a, at_a), (2, 2 * size, 0, 0));
    let refused = count(&mut w, 1, at_a).unwrap();
    assert_eq!((refused.refused, refused.revoked), (Drop::Policy as u8, 0));
    let at_bouncer = count(&mut w, 3, at_b).expect("the bouncer counts it for the port");
    assert_eq!((at_bouncer.ep_id, at_bouncer.refused, at_bouncer.inbound), (12, Drop::Refused as u8, 1));
    assert_eq!((at_bouncer.packets_in, at_bouncer.bytes_in), (1, size));
    assert_eq!(count(&mut w, 2, at_b), None);
    // A datagram may be an answer: the port's own host says no.
    let datagram = Ip::udp(a.address, b.address, 1000, 53, b"?");
    w.assert_refused(&a, datagram);
    let at_b = b.flow(17, 53, a.address, 1000);
    let at_host = count(&mut w, 2, at_b).expect("the port's host counts it");
    assert_eq!((at_host.ep_id, at_host.refused, at_host.inbound), (12, Drop::Refused as u8, 1));
    assert_eq!((at_host.packets_in, at_host.bytes_in), (1, 29));
    assert_eq!(count(&mut w, 3, at_b), None);
}

#[test]
fn a_try_that_a_bouncer_refuses_does_not_spoil_the_counts_of_the_ports_own_flow() {
    let mut w = world(&1, &100);
    // The bouncer has the port.
    let open = Rule::ingress(6, (80, 80));
    w.rules(CLOSED, 2, &[Rule::ALL_OUT, open]).unwrap();
    let (a, b) = (w.port_of(CLOSED, 1, 11, 7, 5).unwrap(), w.port_of(CLOSED, 3, 12, 7, 6).unwrap());
    w.connect(&a, &b, 1000);
    let at_b = b.flow(6, 80, a.address, 1000);
    let before = count(&mut w, 3, at_b).unwrap();
    w.rules_at(3, CLOSED, 3, &[Rule::ALL_OUT]).unwrap();
    // The client has forgotten the connection, and asks for it again.
    w.host(1).evict().unwrap();
    w.assert_refused(&a, syn(&a, &b, 1000));
    let after = count(&mut w, 3, at_b).unwrap();
    assert_eq!((after.started_ns, after.packets_in), (before.started_ns, before.packets_in));
}

#[test]
fn a_port_with_new_groups_is_refused_in_doubt() {
    promptly(|watch| {
        let mut w = world(&1, &100);
        let (a, b) = (w.port_of(CLOSED, 1, 11, 7, 5).unwrap(), w.port_of(CLOSED, 2, 12, 7, 6).unwrap());
        let _steps = watch.within(1_000);
        let a = w.regroup(&a, CLOSED).unwrap();
        w.assert_refused(&a, syn(&a, &b, 1000));
        let refused = count(&mut w, 1, a.flow(6, 1000, b.address, 80)).unwrap();
        assert_eq!((refused.refused, refused.revoked, refused.packets_out), (Drop::Policy as u8, DOUBTFUL, 1));
    });
}

/// What b says to a is refused, by groups that let in nothing, not even answers.
fn deaf_client(w: &mut World) -> (Port, Port) {
    w.stateless.insert(DEAF);
    w.rules(DEAF, 1, &[Rule::ALL_OUT]).unwrap();
    w.rules(CLOSED, 2, &[Rule::ALL_OUT, Rule::ingress(6, (80, 80))]).unwrap();
    (w.port_of(DEAF, 1, 11, 7, 5).unwrap(), w.port_of(CLOSED, 2, 12, 7, 6).unwrap())
}

#[test]
fn a_flow_that_was_let_in_and_whose_answers_are_refused_was_allowed() {
    let mut w = world(&1, &100);
    let (a, b) = deaf_client(&mut w);
    w.deliver(&a, &b, syn(&a, &b, 1000));
    w.assert_refused(&b, Ip::tcp(b.address, a.address, 80, 1000, 0x12));
    let at_b = b.flow(6, 80, a.address, 1000);
    let answered = count(&mut w, 2, at_b).unwrap();
    assert_eq!((answered.inbound, answered.refused, answered.revoked), (1, Drop::Policy as u8, ALLOWED));
    assert_eq!((answered.packets_in, answered.packets_out), (1, 1));
}

#[test]
fn a_flow_that_was_let_in_goes_on_where_its_answers_are_refused_in_doubt() {
    promptly(|watch| {
        let mut w = world(&1, &100);
        let (a, b) = deaf_client(&mut w);
        w.deliver(&a, &b, syn(&a, &b, 1000));
        let _steps = watch.within(1_000);
        let b = w.regroup(&b, CLOSED).unwrap();
        w.assert_refused(&b, Ip::tcp(b.address, a.address, 80, 1000, 0x12));
        let doubted = count(&mut w, 2, b.flow(6, 80, a.address, 1000)).unwrap();
        assert_eq!((doubted.inbound, doubted.refused, doubted.revoked), (1, 0, 0));
    });
}

#[test]
fn a_flow_that_rules_end_is_revoked() {
    let mut w = world(&1, &100);
    let (a, b) = (w.port_of(CLOSED, 1, 11, 7, 5).unwrap(), w.port(2, 12, 7, 6).unwrap());
    w.connect(&a, &b, 1000);
    let key = a.flow(6, 1000, b.address, 80);
    let (out, ..) = passed(&mut w, &a, key);
    w.rules(CLOSED, 2, &[]).unwrap();
    w.assert_refused(&a, Ip::tcp(a.address, b.address, 1000, 80, 0x18));
    w.assert_refused(&a, Ip::tcp(a.address, b.address, 1000, 80, 0x18));
    let count = count(&mut w, 1, key).unwrap();
    assert_eq!((count.refused, count.revoked), (Drop::Policy as u8, ALLOWED));
    // The first one is what it was judged by.
    assert_eq!(count.packets_out, out + 1);
}

#[test]
fn a_port_that_opens_flows_without_end_has_a_bounded_number_in_the_log() {
    let mut w = world(&1, &20);
    let (a, b) = (w.port(1, 11, 7, 5).unwrap(), w.port(2, 12, 7, 6).unwrap());
    let other = w.port(1, 13, 7, 8).unwrap();
    for sport in 1..=50 {
        w.deliver(&a, &b, Ip::udp(a.address, b.address, sport, 53, b"?"));
    }
    assert_eq!(w.host(1).logged().unwrap().len(), 20);
    assert_eq!(w.counts().unwrap()["h1 flow_log_lost"], 30);
    // Those that are not logged are carried like the others.
    let key = a.flow(17, 50, b.address, 53);
    assert_eq!((is_logged(&mut w, 1, key), count(&mut w, 1, key)), (false, None));
    w.deliver(&other, &b, Ip::udp(other.address, b.address, 5, 53, b"?"));
    assert_eq!(started(&mut w, 1).count.ep_id, 13);
}

#[test]
fn who_is_refused_without_end_takes_nothing_from_the_log_of_what_is_let_in() {
    let mut w = world(&1, &5);
    w.rules(CLOSED, 2, &[Rule::ALL_OUT, Rule::ingress(6, (80, 80))]).unwrap();
    // The bouncer has b.
    let (a, b) = (w.port(1, 11, 7, 5).unwrap(), w.port_of(CLOSED, 3, 12, 7, 6).unwrap());
    let kinds = |w: &mut World| {
        let starts = w.host(3).logged().unwrap();
        starts.iter().map(|start| (start.count.inbound, start.count.refused)).collect::<Vec<_>>()
    };
    for sport in 1..=20 {
        w.assert_refused(&a, Ip::udp(a.address, b.address, sport, 53, b"?"));
        w.assert_refused(&a, Ip::tcp(a.address, b.address, sport, 81, 2));
    }
    assert_eq!(kinds(&mut w), [(1, Drop::Refused as u8); 5]);
    for sport in 1..=20 {
        w.deliver(&a, &b, syn(&a, &b, sport));
    }
    assert_eq!(kinds(&mut w), [(1, 0); 5]);
    for sport in 1..=20 {
        w.deliver(&b, &a, Ip::udp(b.address, a.address, sport, 53, b"?"));
    }
    assert_eq!(kinds(&mut w), [(0, 0); 5]);
    w.rules(CLOSED, 3, &[]).unwrap();
    for sport in 1..=20 {
        w.assert_refused(&b, Ip::udp(b.address, a.address, sport, 54, b"?"));
    }
    assert_eq!(kinds(&mut w), [(0, Drop::Policy as u8); 5]);
}

/// Its counts make place for those of others.
fn make_place(w: &mut World, at: &[(HostNumber, FlowKey)]) {
    for (host, key) in at {
        w.host(*host).remove::<FlowKey, FlowCount>("FLOW_COUNT", *key).unwrap();
        w.host(*host).logged().unwrap();
    }
}

#[test]
fn a_flow_whose_counts_made_place_for_others_is_counted_again() {
    for hosts in [[1, 2], [1, 1]] {
        let mut w = world(&1, &100);
        let (a, b) = (w.port(hosts[0], 11, 7, 5).unwrap(), w.port(hosts[1], 12, 7, 6).unwrap());
        w.connect(&a, &b, 1000);
        let (at_a, at_b) = (a.flow(6, 1000, b.address, 80), b.flow(6, 80, a.address, 1000));
        make_place(&mut w, &[(a.host, at_a), (b.host, at_b)]);
        let ip = Ip::tcp(a.address, b.address, 1000, 80, 0x18);
        let size = a.frame(ip.clone()).len() as u64 - 14;
        for n in 1..=3 {
            w.deliver(&a, &b, ip.clone());
            assert_eq!(passed(&mut w, &a, at_a), (n, n * size, 0, 0), "{hosts:?}");
            assert_eq!(passed(&mut w, &b, at_b), (0, 0, n, n * size), "{hosts:?}");
        }
        let starts: Vec<LogStart> = (1..=2).flat_map(|host| w.host(host).logged().unwrap()).collect();
        assert_eq!(starts.len(), 2, "{hosts:?}");
        assert!(starts.iter().all(|start| start.former == FlowCount::default() && start.count.refused == 0));
        // What asks for its way again is no other flow either.
        make_place(&mut w, &[(a.host, at_a), (b.host, at_b)]);
        w.host(b.host).evict().unwrap();
        w.deliver(&a, &b, ip.clone());
        assert!(count(&mut w, a.host, at_a).is_some() && count(&mut w, b.host, at_b).is_some(), "{hosts:?}");
    }
}

#[test]
fn a_flow_that_cannot_be_counted_again_leaves_the_log_which_is_said_once() {
    let mut w = world(&1, &1);
    let (a, b) = (w.port(1, 11, 7, 5).unwrap(), w.port(2, 12, 7, 6).unwrap());
    w.connect(&a, &b, 1000);
    let keys = [(1, a.flow(6, 1000, b.address, 80)), (2, b.flow(6, 80, a.address, 1000))];
    make_place(&mut w, &keys);
    w.counts().unwrap();
    for _ in 0..3 {
        w.deliver(&a, &b, Ip::tcp(a.address, b.address, 1000, 80, 0x18));
    }
    let counts = w.counts().unwrap();
    assert_eq!((counts["h1 flow_log_lost"], counts["h2 flow_log_lost"]), (1, 1));
    for (host, key) in keys {
        assert_eq!((is_logged(&mut w, host, key), count(&mut w, host, key)), (false, None), "host {host}");
    }
}

#[test]
fn what_comes_after_the_end_of_a_connection_begins_no_other() {
    let mut w = world(&1, &100);
    let (a, b) = (w.port(1, 11, 7, 5).unwrap(), w.port(2, 12, 7, 6).unwrap());
    w.connect(&a, &b, 1000);
    w.deliver(&a, &b, Ip::tcp(a.address, b.address, 1000, 80, 0x14));
    let keys = [(1, a.flow(6, 1000, b.address, 80)), (2, b.flow(6, 80, a.address, 1000))];
    make_place(&mut w, &keys);
    w.counts().unwrap();
    for _ in 0..2 {
        w.deliver(&b, &a, Ip::tcp(b.address, a.address, 80, 1000, 0x10));
    }
    for (host, key) in keys {
        assert_eq!((count(&mut w, host, key), w.host(host).logged().unwrap().len()), (None, 0), "host {host}");
    }
    assert!(w.counts().unwrap().keys().all(|name| !name.ends_with("flow_log_lost")));
}

#[test]
fn a_connection_on_the_ports_of_one_that_was_closed_is_counted_anew() {
    let mut w = world(&1, &100);
    let (a, b) = (w.port(1, 11, 7, 5).unwrap(), w.port(2, 12, 7, 6).unwrap());
    w.connect(&a, &b, 1000);
    w.deliver(&a, &b, Ip::tcp(a.address, b.address, 1000, 80, 0x14));
    let keys = [(1, a.flow(6, 1000, b.address, 80)), (2, b.flow(6, 80, a.address, 1000))];
    for (host, key) in keys {
        assert_eq!(w.host(host).flow(key).map(|flow| flow.state), Some(State::Closing as u8));
        started(&mut w, host);
    }
    w.deliver(&a, &b, syn(&a, &b, 1000));
    for (host, key) in keys {
        let start = started(&mut w, host);
        assert_eq!((start.key, start.former.packets_out + start.former.packets_in), (key, 12), "host {host}");
        let now = count(&mut w, host, key).unwrap();
        assert_eq!(now.packets_out + now.packets_in, 1, "host {host}");
    }
}

#[test]
fn what_is_segmented_later_counts_as_its_segments() {
    // On one host: the kernel does not encapsulate such a packet of a test run.
    let mut w = world(&1, &100);
    let (a, b) = (w.port(1, 11, 7, 5).unwrap(), w.port(1, 12, 7, 6).unwrap());
    w.deliver(&a, &b, Ip::udp(a.address, b.address, 5, 53, b"?"));
    w.deliver(&b, &a, Ip::udp(b.address, a.address, 53, 5, b"!"));
    let (at_a, at_b) = (a.flow(17, 5, b.address, 53), b.flow(17, 53, a.address, 5));
    let (before, there) = (passed(&mut w, &a, at_a), passed(&mut w, &b, at_b));
    let frame = a.frame(Ip::udp(a.address, b.address, 5, 53, &[7; 2_500]));
    let journey = w.send_segmented(&a, &frame, 1_000).unwrap();
    assert!(matches!(journey.end, End::Delivered { ep_id: 12, .. }), "{journey:?}");
    let bytes = 2_500 + 3 * 28;
    let (after, arrived) = (passed(&mut w, &a, at_a), passed(&mut w, &b, at_b));
    assert_eq!((after.0 - before.0, after.1 - before.1), (3, bytes));
    assert_eq!((arrived.2 - there.2, arrived.3 - there.3), (3, bytes));
}
