//! One packet is followed: it alone bears the mark, wherever it goes, and each host says once what it did with it.

use mizar_abi::{
    maps::{Ep, Event, EventKind, Flow, FlowKey, Hop, Watch, ep_flag, hop_flag, watch_flag},
    option::{Kind, code, flag},
    reason::Drop,
};
use mizar_dataplane_tests::{
    World,
    frame::{self, Ip, at},
    policy::Rule,
    world::{End, HostNumber, Port, underlay},
};

const VNI: u32 = 0x1234;
/// Everything out, nothing in.
const CLIENT: u32 = 1;
/// The name of the watch.
const ID: u32 = 77;

/// a on host 1, b on host 2; the only bouncer is this host.
fn pair(bouncer: HostNumber) -> (World, Port, Port) {
    let mut w = World::new(3).unwrap();
    w.subnet(VNI, 7, [10, 0, 0, 0], &[[bouncer, 0]]).unwrap();
    let a = w.port(1, 11, 7, 5).unwrap();
    let b = w.port(2, 12, 7, 6).unwrap();
    (w, a, b)
}

/// A packet of a port to that address is waited for.
fn watch(w: &mut World, of: &Port, to: [u8; 4]) {
    watch_for(w, of, Watch { id: ID, until: u32::MAX, dst: to, ..Watch::default() });
}

fn watch_for(w: &mut World, of: &Port, watch: Watch) {
    let host = w.host(of.host);
    host.put("WATCH", of.ep_id, watch).unwrap();
    let ep: Ep = host.get("EP", of.ep_id).unwrap();
    host.put("EP", of.ep_id, Ep { flags: ep.flags | ep_flag::WATCHED, ..ep }).unwrap();
}

fn is_watched(w: &mut World, of: &Port) -> bool {
    let host = w.host(of.host);
    let ep: Ep = host.get("EP", of.ep_id).unwrap();
    let armed = host.get::<u32, Watch>("WATCH", of.ep_id).is_some();
    assert_eq!(armed, ep.flags & ep_flag::WATCHED != 0, "the flag says another thing than the map");
    armed
}

/// What a host told of packets that are followed, with the drop's reason and the port concerned.
fn told(w: &mut World, host: HostNumber) -> Vec<(u32, u32, Hop)> {
    let events = w.host(host).events().unwrap();
    let read = |bytes: Vec<u8>| {
        assert_eq!(bytes.len(), size_of::<Event>());
        // SAFETY: as many bytes as an `Event` has, which any bits make a valid one.
        let event = unsafe { bytes.as_ptr().cast::<Event>().read_unaligned() };
        (event.kind == EventKind::Traced as u32).then(|| {
            assert_eq!(event.len as usize, size_of::<Hop>());
            // SAFETY: `frame` is larger than a `Hop`.
            let hop = unsafe { event.frame.as_ptr().cast::<Hop>().read_unaligned() };
            (event.reason, event.ep_id, hop)
        })
    };
    events.into_iter().filter_map(read).collect()
}

/// The only thing that a host told.
fn only(w: &mut World, host: HostNumber) -> (u32, u32, Hop) {
    let told = told(w, host);
    assert_eq!(told.len(), 1, "host {host}: {told:?}");
    told[0]
}

fn assert_silent(w: &mut World) {
    for host in 1..=w.hosts() {
        assert_eq!(told(w, host), [], "host {host}");
    }
}

/// It came so, and was sent so to another host.
fn assert_sent(hop: &Hop, from: HostNumber, came: Option<Kind>, kind: Kind, to: HostNumber) {
    assert_eq!((hop.came, hop.kind), (came.map_or(0, |kind| kind as u8), kind as u8), "{hop:?}");
    assert_eq!((hop.to, hop.to_vni, hop.flags & hop_flag::SENT), (underlay(to), VNI, hop_flag::SENT), "{hop:?}");
    let (host, vni) = if came.is_some() { (underlay(from), VNI) } else { ([0; 4], 0) };
    assert_eq!((hop.from, hop.from_vni), (host, vni), "{hop:?}");
    assert_eq!(hop.watch, if came.is_some() { 0 } else { ID }, "{hop:?}");
}

/// It came so, and went to no other host.
fn assert_ended(hop: &Hop, from: HostNumber, came: Kind) {
    assert_eq!((hop.came, hop.from, hop.from_vni), (came as u8, underlay(from), VNI), "{hop:?}");
    assert_eq!((hop.flags & hop_flag::SENT, hop.kind), (0, 0), "{hop:?}");
}

fn assert_is(hop: &Hop, from: &Port, to: &Port, proto: u8, ports: (u16, u16)) {
    assert_eq!((hop.src, hop.dst, hop.proto), (from.address, to.address, proto));
    assert_eq!((hop.sport, hop.dport), ports);
    assert!(hop.tai_ns > 0);
}

#[test]
fn a_first_packet_is_told_of_by_each_host_on_its_way_and_the_next_one_by_none() {
    for xdp in [false, true] {
        let (mut w, a, b) = pair(3);
        w.xdp = xdp;
        watch(&mut w, &a, b.address);
        assert_eq!(w.deliver(&a, &b, Ip::tcp(a.address, b.address, 1000, 80, 2)), [1, 3, 2]);
        assert!(!is_watched(&mut w, &a), "the watch stays after its packet");
        let (reason, _, sent) = only(&mut w, 1);
        assert_eq!((reason, sent.flags & hop_flag::INLINE), (0, 0));
        assert_sent(&sent, 0, None, Kind::Req, 3);
        assert_is(&sent, &a, &b, 6, (1000, 80));
        let (reason, _, judged) = only(&mut w, 3);
        assert_eq!((reason, judged.ep_id), (0, b.ep_id));
        assert_sent(&judged, 1, Some(Kind::Req), Kind::Admitted, 2);
        assert_is(&judged, &a, &b, 6, (1000, 80));
        let (reason, ep_id, got) = only(&mut w, 2);
        assert_eq!((reason, ep_id), (0, b.ep_id));
        assert_ended(&got, 3, Kind::Admitted);
        assert_is(&got, &a, &b, 6, (1000, 80));
        w.deliver(&b, &a, Ip::tcp(b.address, a.address, 80, 1000, 0x12));
        w.deliver(&a, &b, Ip::tcp(a.address, b.address, 1001, 80, 2));
        assert_silent(&mut w);
    }
}

#[test]
fn a_packet_of_an_established_flow_is_followed_straight_and_changes_nothing_of_it() {
    let (mut w, a, b) = pair(3);
    w.connect(&a, &b, 1000);
    for (from, to, ports) in [(&a, &b, (1000, 80)), (&b, &a, (80, 1000))] {
        let ip = || Ip::tcp(from.address, to.address, ports.0, ports.1, 0x18);
        let flow = |w: &mut World| w.host(to.host).flow(to.flow(6, ports.1, from.address, ports.0)).unwrap();
        let before = Flow { last_seen: 0, ..flow(&mut w) };
        watch(&mut w, from, to.address);
        let journey = w.send(from, &from.frame(ip())).unwrap();
        assert!(matches!(journey.end, End::Delivered { ep_id, .. } if ep_id == to.ep_id), "{journey:?}");
        assert_eq!(frame::body(&journey.wire[0]).reason(), code::DIRECT);
        assert_eq!(Flow { last_seen: 0, ..flow(&mut w) }, before);
        w.assert_counts(&[(&format!("h{} direct_out", from.host), 1), (&format!("h{} direct_in", to.host), 1)]);
        let (_, _, sent) = only(&mut w, from.host);
        assert_sent(&sent, 0, None, Kind::Ack, to.host);
        assert_is(&sent, from, to, 6, ports);
        let (reason, ep_id, got) = only(&mut w, to.host);
        assert_eq!((reason, ep_id), (0, to.ep_id));
        assert_ended(&got, from.host, Kind::Ack);
        assert_is(&got, from, to, 6, ports);
    }
    w.assert_direct(&a, &b, 1000);
    assert_silent(&mut w);
}

#[test]
fn a_refused_packet_is_told_of_by_who_refused_it_and_by_its_sender_whom_that_came_back_to() {
    for xdp in [false, true] {
        let mut w = World::new(3).unwrap();
        w.xdp = xdp;
        w.subnet(VNI, 7, [10, 0, 0, 0], &[[3, 0]]).unwrap();
        w.rules(CLIENT, 4, &[Rule::ALL_OUT]).unwrap();
        let a = w.port_of(CLIENT, 1, 11, 7, 5).unwrap();
        let b = w.port_of(CLIENT, 2, 12, 7, 6).unwrap();
        watch(&mut w, &a, b.address);
        assert_eq!(w.assert_refused(&a, Ip::tcp(a.address, b.address, 1000, 80, 2)), [1, 3, 1]);
        let (reason, _, refused) = only(&mut w, 3);
        assert_eq!((reason, refused.code), (0, code::POLICY));
        assert_sent(&refused, 1, Some(Kind::Req), Kind::Denied, 1);
        let of_sender = told(&mut w, 1);
        assert_eq!(of_sender.len(), 2, "{of_sender:?}");
        assert_sent(&of_sender[0].2, 0, None, Kind::Req, 3);
        assert_eq!(of_sender[1].0, Drop::Policy as u32);
        assert_ended(&of_sender[1].2, 3, Kind::Denied);
    }
}

#[test]
fn what_is_dropped_before_it_leaves_is_told_of_too() {
    let (mut w, a, b) = pair(3);
    let (source, to) = (a.address, b.address);
    let large = Ip::udp(source, to, 5, 6, &[0; 1400]);
    for (ip, reason) in [
        (Ip::udp([10, 0, 0, 99], to, 5, 6, b"x"), Drop::Spoof),
        (large, Drop::TooBig),
        (Ip::udp(source, [192, 0, 2, 1], 5, 6, b"x"), Drop::NoRoute),
        (Ip::udp(source, [224, 0, 0, 1], 5, 6, b"x"), Drop::Multicast),
    ] {
        watch(&mut w, &a, ip.dst);
        w.send(&a, &a.frame(ip)).unwrap();
        let (told, ep_id, hop) = only(&mut w, 1);
        assert_eq!((Drop::from_number(told), ep_id, hop.came), (Some(reason), a.ep_id, 0));
        assert_eq!((hop.watch, hop.flags & hop_flag::SENT, hop.dport), (ID, 0, 6));
    }
}

#[test]
fn a_packet_that_comes_back_keeps_its_mark() {
    let (mut w, a, b) = pair(3);
    w.connect(&a, &b, 1000);
    w.host(2).evict().unwrap();
    watch(&mut w, &a, b.address);
    assert_eq!(w.deliver(&a, &b, Ip::tcp(a.address, b.address, 1000, 80, 0x18)), [1, 2, 1, 3, 2]);
    let of_sender = told(&mut w, 1);
    assert_eq!(of_sender.len(), 2, "{of_sender:?}");
    assert_sent(&of_sender[0].2, 0, None, Kind::Ack, 2);
    assert_sent(&of_sender[1].2, 2, Some(Kind::Return), Kind::Req, 3);
    assert_sent(&only(&mut w, 3).2, 1, Some(Kind::Req), Kind::Admitted, 2);
    let of_receiver = told(&mut w, 2);
    assert_eq!(of_receiver.len(), 2, "{of_receiver:?}");
    assert_sent(&of_receiver[0].2, 1, Some(Kind::Ack), Kind::Return, 1);
    assert_eq!(of_receiver[0].2.code, code::NO_FLOW);
    assert_ended(&of_receiver[1].2, 3, Kind::Admitted);
}

#[test]
fn a_host_that_is_its_own_transit_host_or_the_receivers_says_so() {
    let (mut w, a, b) = pair(1);
    watch(&mut w, &a, b.address);
    assert_eq!(w.deliver(&a, &b, Ip::echo(a.address, b.address, 8, 9)), [1, 2]);
    let (_, _, sent) = only(&mut w, 1);
    assert_sent(&sent, 0, None, Kind::Admitted, 2);
    assert_eq!(sent.flags & hop_flag::INLINE, hop_flag::INLINE);
    assert_is(&sent, &a, &b, 1, (9, 10));
    assert_ended(&only(&mut w, 2).2, 1, Kind::Admitted);
    let c = w.port(1, 13, 7, 7).unwrap();
    // The first packet, and one of the flow that it made.
    for inline in [hop_flag::INLINE, 0] {
        watch(&mut w, &a, c.address);
        assert_eq!(w.deliver(&a, &c, Ip::udp(a.address, c.address, 5, 6, b"x")), [1]);
        let (reason, ep_id, hop) = only(&mut w, 1);
        assert_eq!((reason, ep_id, hop.came, hop.flags), (0, c.ep_id, 0, inline));
    }
    let (mut w, a, b) = pair(2);
    watch(&mut w, &a, b.address);
    assert_eq!(w.deliver(&a, &b, Ip::udp(a.address, b.address, 5, 6, b"x")), [1, 2]);
    let (reason, ep_id, got) = only(&mut w, 2);
    assert_eq!((reason, ep_id), (0, b.ep_id));
    assert_ended(&got, 1, Kind::Req);
}

#[test]
fn a_packet_that_does_not_fit_is_left_alone_and_the_watch_goes_on() {
    let (mut w, a, b) = pair(3);
    let fits = Watch {
        id: ID,
        until: u32::MAX,
        src: a.address,
        dst: b.address,
        sport: 1000,
        port: 80,
        proto: 6,
        given: watch_flag::SRC | watch_flag::PROTO | watch_flag::SPORT | watch_flag::PORT,
        pad: 0,
    };
    watch_for(&mut w, &a, fits);
    w.connect(&a, &b, 1001);
    for other in [
        Ip::tcp(a.address, b.address, 1000, 81, 2),
        Ip::udp(a.address, b.address, 1000, 80, b"x"),
        Ip::udp(a.address, [10, 0, 0, 99], 1000, 80, b"x"),
        Ip::tcp([10, 0, 0, 98], b.address, 1000, 80, 2),
    ] {
        w.send(&a, &a.frame(other)).unwrap();
        assert_silent(&mut w);
        assert!(is_watched(&mut w, &a));
    }
    // Nor one that comes too late.
    watch_for(&mut w, &a, Watch { until: 0, ..fits });
    w.deliver(&a, &b, Ip::tcp(a.address, b.address, 1000, 80, 2));
    assert_silent(&mut w);
    watch_for(&mut w, &a, fits);
    w.deliver(&a, &b, Ip::tcp(a.address, b.address, 1000, 80, 0x10));
    assert_eq!(only(&mut w, 1).2.watch, ID);
    assert!(!is_watched(&mut w, &a));
}

#[test]
fn of_icmp_type_and_code_count() {
    let (mut w, a, b) = pair(3);
    let given = watch_flag::PROTO | watch_flag::PORT;
    let echo = Watch { id: ID, until: u32::MAX, dst: b.address, port: 8 << 8, proto: 1, given, ..Watch::default() };
    watch_for(&mut w, &a, Watch { port: 13 << 8, ..echo });
    w.deliver(&a, &b, Ip::echo(a.address, b.address, 8, 9));
    assert_silent(&mut w);
    watch_for(&mut w, &a, echo);
    w.deliver(&a, &b, Ip::echo(a.address, b.address, 8, 9));
    assert_is(&only(&mut w, 1).2, &a, &b, 1, (9, 10));
}

#[test]
fn a_forged_mark_makes_no_host_say_anything_and_a_replayed_one_not_much() {
    let (mut w, a, b) = pair(3);
    let syn = a.frame(Ip::tcp(a.address, b.address, 1000, 80, 2));
    let plain = w.host(1).run("endpoint_egress", &syn, a.ifindex, 0).unwrap().frame;
    assert_eq!(plain[at::BODY + 1] & flag::TRACED, 0);
    let mut forged = plain.clone();
    forged[at::BODY + 1] |= flag::TRACED;
    w.counts().unwrap();
    for xdp in [true, false] {
        w.xdp = xdp;
        assert_eq!(w.arrive(3, &forged).unwrap().end, End::Dropped(3));
        w.assert_counts(&[("h3 p0 dropped bad_tag", 1)]);
    }
    assert_silent(&mut w);
    // Who has the key may sign one: of all of them together only a few are told.
    let mut body = frame::body(&plain);
    body.set_flags(body.flags() | flag::TRACED);
    frame::sign(&mut forged, body, mizar_dataplane_tests::links::utc());
    let start = std::time::Instant::now();
    for _ in 0..350 {
        w.arrive(3, &forged).unwrap();
    }
    let most = 51.0 + 200.0 * start.elapsed().as_secs_f64();
    let told = told(&mut w, 3).len();
    assert!(told >= 50 && told as f64 <= most, "{told} of {most}");
}

#[test]
fn of_a_fragmented_packet_the_part_with_the_ports_is_followed() {
    let (mut w, a, b) = pair(3);
    let mut first = Ip::udp(a.address, b.address, 5, 6, &[7; 64]);
    first.bits = 0x2000;
    watch(&mut w, &a, b.address);
    w.deliver(&a, &b, first);
    assert_is(&only(&mut w, 1).2, &a, &b, 17, (5, 6));
    assert_ended(&only(&mut w, 2).2, 3, Kind::Admitted);
    only(&mut w, 3);
    // A later fragment shows no ports: it is not the one.
    let mut later = Ip::udp(a.address, b.address, 5, 6, &[7; 64]);
    later.bits = 8;
    watch(&mut w, &a, b.address);
    w.send(&a, &a.frame(later)).unwrap();
    assert!(is_watched(&mut w, &a));
}

/// Keys stay what they are: a flow that was never followed is no other than one that was.
#[test]
fn following_makes_no_flow_that_would_not_be_there() {
    let flows = |w: &mut World| {
        let mut keys: Vec<FlowKey> = Vec::new();
        for host in 1..=3 {
            keys.extend(w.host(host).all::<FlowKey, Flow>("FLOW_NEW").unwrap().into_iter().map(|(key, _)| key));
            keys.extend(w.host(host).all::<FlowKey, Flow>("FLOW_EST").unwrap().into_iter().map(|(key, _)| key));
        }
        keys.sort();
        keys
    };
    let of = |followed: bool| {
        let (mut w, a, b) = pair(3);
        for ip in [Ip::tcp(a.address, b.address, 1000, 80, 2), Ip::udp(a.address, b.address, 5, 6, b"x")] {
            if followed {
                watch(&mut w, &a, b.address);
            }
            w.deliver(&a, &b, ip);
        }
        flows(&mut w)
    };
    assert_eq!(of(true), of(false));
}
