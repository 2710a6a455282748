//! Token buckets: what one port does too often costs only itself.

use aya::EbpfLoader;
use mizar_abi::maps::EventKind;
use mizar_dataplane_tests::{
    World,
    frame::Ip,
    host::SHOT,
    world::{End, Port},
};
use std::time::{Duration, Instant};

/// A world whose settings are these, with ports 11 and 13 on host 1 and 12 on host 2.
fn world(settings: &'static [(&'static str, u32)]) -> (World, [Port; 3]) {
    let mut w = World::new_with(3, |loader: &mut EbpfLoader<'_>| {
        for (name, value) in settings {
            loader.override_global(name, value, true);
        }
    })
    .unwrap();
    w.subnet(99, 7, [10, 0, 0, 0], &[[3, 0]]).unwrap();
    let ports = [(1, 11, 5), (2, 12, 6), (1, 13, 8)].map(|(host, ep_id, last)| w.port(host, ep_id, 7, last).unwrap());
    (w, ports)
}

fn discover(port: &Port) -> Vec<u8> {
    let mut frame = port.frame(Ip { bits: 0, ..Ip::udp([0; 4], [255; 4], 68, 67, &[0x44; 300]) });
    frame[..6].copy_from_slice(&[0xff; 6]);
    frame
}

/// Sends the port's DHCP question `times` times: the frame stays as it is, so one call does it.
fn ask(w: &mut World, port: &Port, times: u32) {
    let outcome = w.host(port.host).run_often("endpoint_egress", &discover(port), port.ifindex, 0, times).unwrap();
    assert_eq!(outcome.verdict, SHOT);
}

/// Events raised since the last call, by kind and port.
fn events(w: &mut World) -> Vec<(u32, u32)> {
    let word = |event: &[u8], at: usize| u32::from_ne_bytes(event[at..at + 4].try_into().unwrap());
    w.host(1).events().unwrap().iter().map(|event| (word(event, 0), word(event, 4))).collect()
}

#[test]
fn a_port_that_makes_flows_too_fast_is_slowed_and_others_are_not() {
    // No tokens are earned, however long the test takes.
    let (mut w, [a, b, c]) = world(&[("NEW_FLOW_RATE", 0), ("NEW_FLOW_BURST", 100)]);
    let mut refused = 0;
    for sport in 1..=150 {
        let journey = w.send(&a, &a.frame(Ip::udp(a.address, b.address, sport, 53, b"?"))).unwrap();
        refused += u64::from(journey.end == End::Dropped(1));
    }
    assert_eq!(refused, 50);
    assert_eq!(w.counts().unwrap()["h1 p11 dropped flow_rate"], refused);
    w.deliver(&c, &b, Ip::udp(c.address, b.address, 5, 6, b"x"));
}

#[test]
fn a_port_to_which_many_flows_are_opened_takes_no_others_place_and_opens_its_own() {
    for (from, to) in [(0, 1), (0, 2)] {
        let (mut w, ports) = world(&[("NEW_IN_RATE", 0), ("NEW_IN_BURST", 20)]);
        let (a, b) = (ports[from], ports[to]);
        let other = ports[3 - to];
        let open = |w: &mut World, sport| w.send(&a, &a.frame(Ip::udp(a.address, b.address, sport, 53, b"?"))).unwrap();
        let refused = (1..=30).filter(|sport| open(&mut w, *sport).end == End::Dropped(b.host)).count();
        assert_eq!(refused, 10);
        let reason = format!("h{} p{} dropped flow_rate", b.host, b.ep_id);
        assert_eq!(w.counts().unwrap()[&reason], 10);
        // What there is goes on, what it asks itself too, and what others get.
        assert!(matches!(open(&mut w, 1).end, End::Delivered { .. }));
        w.deliver(&b, &a, Ip::udp(b.address, a.address, 5, 6, b"x"));
        w.deliver(&a, &other, Ip::udp(a.address, other.address, 5, 6, b"x"));
    }
}

#[test]
fn datagrams_in_fragments_cost_no_flows_and_their_flood_is_its_senders() {
    let (mut w, [a, b, c]) =
        world(&[("NEW_FLOW_RATE", 0), ("NEW_FLOW_BURST", 5), ("FRAGMENTED_RATE", 0), ("FRAGMENTED_BURST", 20)]);
    let head = |from: &Port, id| {
        let whole = Ip::udp(from.address, b.address, 5, 6, &[9; 2_000]);
        Ip { id, bits: 0x2000, payload: whole.payload[..800].to_vec(), ..whole }
    };
    w.deliver(&a, &b, head(&a, 1));
    w.deliver(&b, &a, Ip::udp(b.address, a.address, 6, 5, b"thanks"));
    for id in 2..=20 {
        w.deliver(&a, &b, head(&a, id));
    }
    w.counts().unwrap();
    assert_eq!(w.assert_refused(&a, head(&a, 21)), [1]);
    w.assert_counts(&[("h1 p11 dropped frag_rate", 1)]);
    w.deliver(&a, &b, Ip::udp(a.address, b.address, 7, 8, b"whole"));
    w.deliver(&c, &b, head(&c, 1));
}

#[test]
fn a_port_that_floods_the_agent_with_events_loses_its_own_and_nobody_elses() {
    let (mut w, [a, b, c]) = world(&[("EVENT_RATE", 0)]);
    // Several times what the ring holds.
    ask(&mut w, &a, 5_000);
    ask(&mut w, &c, 1);
    // Another kind about the same port: nobody has this address.
    let lost = Ip::udp(a.address, [10, 0, 0, 77], 1, 2, b"?");
    w.send(&a, &a.frame(lost)).unwrap();
    let seen = events(&mut w);
    let dhcp = EventKind::Dhcp as u32;
    assert_eq!(seen.iter().filter(|event| **event == (dhcp, a.ep_id)).count(), 50, "the burst");
    assert_eq!(seen[50..], [(dhcp, c.ep_id), (EventKind::Denied as u32, a.ep_id)]);
    let counts = w.counts().unwrap();
    assert_eq!(counts["h1 event_lost"], 4_950);
    assert_eq!((counts["h1 p11 dropped event_lost"], counts["h1 p11 dropped to_agent"]), (4_950, 50));
    assert_eq!(counts["h1 p13 dropped to_agent"], 1);
    // What it sends beside that is not concerned.
    w.deliver(&a, &b, Ip::udp(a.address, b.address, 5, 6, b"x"));
}

#[test]
fn a_port_that_flooded_the_agent_is_heard_again_after_a_while() {
    let (mut w, [a, ..]) = world(&[("EVENT_RATE", 20), ("EVENT_BURST", 1)]);
    ask(&mut w, &a, 100);
    assert!(!events(&mut w).is_empty());
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        ask(&mut w, &a, 1);
        if !events(&mut w).is_empty() {
            break;
        }
        assert!(Instant::now() < deadline, "no token came");
    }
}
