//! The first property: no frame of an endpoint ever reaches an endpoint of another network; nor
//! does any frame from the underlay without a valid tag or an established flow of its sender (`filtered.rs`).
//!
//! `MIZAR_FUZZ_ROUNDS` and `MIZAR_FUZZ_SEED` make it longer, and another one (`fuzz/README.md`).

use aya::EbpfLoader;
use mizar_abi::{
    mapped,
    maps::{Flow, FlowKey, State, UNFILTERED, flow_flag, identity_of},
};
use mizar_dataplane_tests::{
    World,
    drawn::{some_frame, some_packet, some_rules},
    frame::{self, Ip},
    host::{UPLINK, is_runnable},
    links::utc,
    policy::{Opening, Remote, Rule, allows},
    random::{Random, rounds},
    world::{End, Port, underlay},
};
use mizar_packet::{
    ETH_LEN,
    ipv4::{self, Fragment},
};

/// Three hosts that log every flow.
fn hosts() -> World {
    World::new_with(3, |loader: &mut EbpfLoader<'_>| {
        loader.override_global("FLOW_LOG_SAMPLE", &1_u32, true);
        loader.override_global("FLOW_LOG_RATE", &u32::MAX, true);
        loader.override_global("FLOW_LOG_BURST", &u32::MAX, true);
    })
    .unwrap()
}

/// Rounds after which the rings of the log are read, before they are full.
const RINGS: u32 = 200;

fn read_rings(w: &mut World) {
    for host in 1..=3 {
        w.host(host).logged().unwrap();
    }
}

/// Whatever happened to a flow, it is in the log; one that is over may be so there too.
fn assert_logged(w: &mut World) {
    for host in 1..=3 {
        for map in ["FLOW_EST", "FLOW_NEW"] {
            for (key, flow) in w.host(host).all::<FlowKey, Flow>(map).unwrap() {
                let over = [State::Closing as u8, State::Denied as u8].contains(&flow.state);
                assert!(over || flow.flags & flow_flag::LOGGED != 0, "host {host}: {key:?} {flow:?}");
            }
        }
    }
}

/// Two networks with the same addresses over three hosts, all roles shared, flows in both.
fn world() -> (World, Vec<Port>) {
    let mut w = hosts();
    let mut ports = Vec::new();
    for (vni, subnet, ep) in [(100, 1, 10), (200, 11, 20)] {
        w.subnet(vni, subnet, [10, 0, 0, 0], &[[3, 1]]).unwrap();
        w.subnet(vni, subnet + 1, [10, 0, 1, 0], &[[2, 3]]).unwrap();
        w.dividers(vni, &[[3, 2]]).unwrap();
        ports.push(w.port(1, ep + 1, subnet, 5).unwrap());
        ports.push(w.port(2, ep + 2, subnet, 6).unwrap());
        ports.push(w.port(1, ep + 3, subnet + 1, 5).unwrap());
    }
    for net in ports.clone().chunks(3) {
        w.connect(&net[0], &net[1], 1000);
        w.connect(&net[0], &net[2], 1000);
        w.connect(&net[1], &net[2], 1000);
    }
    (w, ports)
}

fn vni_of(ports: &[Port], ep_id: u32) -> u32 {
    ports.iter().find(|p| p.ep_id == ep_id).expect("a known port").vni
}

#[test]
fn no_frame_of_an_endpoint_reaches_another_network() {
    let (mut w, ports) = world();
    let mut r = Random::of_story(1);
    let (mut delivered, rounds) = (0, rounds(20_000));
    for round in 0..rounds {
        w.xdp = round % 2 == 0;
        if round % RINGS == 0 {
            read_rings(&mut w);
        }
        let from = *r.one(&ports);
        let frame = some_frame(&mut r, round, &from, &ports);
        if !is_runnable(&frame) {
            continue;
        }
        let journey = w.send(&from, &frame).unwrap();
        if let End::Delivered { ep_id, .. } = journey.end {
            delivered += 1;
            assert_eq!(vni_of(&ports, ep_id), from.vni, "round {round}: {frame:02x?} from {from:?}");
        }
    }
    assert!(delivered > rounds / 20, "{delivered} of {rounds} reached someone: the property means something");
    assert_logged(&mut w);
}

/// Sets of which only the last one is stateful.
const SETS: u32 = 5;

/// All of one network, in sets with rules as good as drawn. An ICMP error goes with what it is about, and of a fragment
/// the first part alone says what it is of.
#[test]
fn no_frame_passes_a_stateless_port_without_a_rule_of_its_direction() {
    let mut r = Random::of_story(5);
    let mut w = hosts();
    w.subnet(100, 1, [10, 0, 0, 0], &[[3, 1]]).unwrap();
    w.stateless.extend(1..SETS);
    let mut rules: Vec<Vec<Rule>> = Vec::new();
    let mut ports = Vec::new();
    let (mut delivered, mut refused, rounds) = (0, 0, rounds(20_000));
    for round in 0..rounds {
        w.xdp = round % 2 == 0;
        if round % RINGS == 0 {
            read_rings(&mut w);
            assert_logged(&mut w);
            // What was let in by other rules goes on for a while.
            (1..=3).for_each(|host| w.host(host).evict().unwrap());
            rules = (1..=SETS).map(|_| some_rules(&mut r, SETS)).collect();
            for (set, rules) in (1..).zip(&mut rules) {
                rules.extend((r.below(2) == 0).then_some(Rule::ALL_OUT));
                rules.extend((r.below(2) == 0).then_some(Rule::all_in(Remote::Anybody)));
                w.rules(set, 1 + round / RINGS, rules).unwrap();
            }
        }
        if ports.is_empty() {
            for (last, set) in (10..).zip((1..=SETS).chain([UNFILTERED])) {
                ports.push(w.port_of(set, 1, u32::from(last), 1, last).unwrap());
                ports.push(w.port_of(set, 2, u32::from(last) + 20, 1, last + 20).unwrap());
            }
        }
        let from = *r.one(&ports);
        let frame = some_frame(&mut r, round, &from, &ports);
        if !is_runnable(&frame) {
            continue;
        }
        let journey = w.send(&from, &frame).unwrap();
        let End::Delivered { ep_id, frame: got, .. } = journey.end else {
            refused += 1;
            continue;
        };
        delivered += 1;
        let to = ports.iter().find(|port| port.ep_id == ep_id).expect("a known port");
        let inner = ipv4::parse(&got[..], ETH_LEN).expect("what is delivered is a packet");
        if inner.icmp_error || matches!(inner.fragment, Fragment::Later) {
            continue;
        }
        for (own, other, egress) in [(&from, to, true), (to, &from, false)] {
            if w.stateless.contains(&own.set) {
                let (identity, address) = (identity_of(other.set), other.address);
                let opening = Opening { egress, identity, address, proto: inner.proto, port: inner.judged_port() };
                let rules = &rules[own.set as usize - 1];
                assert!(allows(rules, &opening), "round {round}: {frame:02x?}: {opening:?} of {own:?} by {rules:?}");
            }
        }
    }
    let least = rounds / 20;
    assert!(delivered > least && refused > least, "{delivered} delivered, {refused} not: the property means something");
    assert_logged(&mut w);
}

/// An attacker on the underlay without the key, who guesses the flow but not its peer's host.
#[test]
fn well_formed_direct_packets_of_strangers_are_never_delivered() {
    let (mut w, ports) = world();
    let mut r = Random::of_story(3);
    for _ in 0..rounds(5_000) {
        let victim = *r.one(&ports);
        let claimed = *r.one(&ports);
        let inner = some_packet(&mut r, &claimed, &ports);
        let inner = Ip { dst: victim.address, ..inner }.frame();
        let outer = mizar_packet::geneve::Outer {
            src: [172, 16, 0, 200],
            dst: underlay(victim.host),
            tos: 0,
            source_port: 50_000,
            vni: victim.vni,
            options: 0,
            frame: inner.len(),
        };
        let forged = [&[0; 12][..], &[8, 0], &outer.bytes(), &inner].concat();
        let outcome = w.host(victim.host).run("uplink_tcx", &forged, UPLINK, 0).unwrap();
        assert!(outcome.verdict == 2 || frame::is_encapsulated(&outcome.frame), "delivered: {inner:02x?}");
    }
}

/// Even with the key: no verdict makes a host deliver into a network that the port is not in, and
/// every flow that exists belongs to a port of its network.
#[test]
fn signed_packets_with_arbitrary_fields_never_cross_networks() {
    let (mut w, ports) = world();
    let mut r = Random::of_story(4);
    let from = ports[0];
    let template =
        w.send(&from, &from.frame(Ip::tcp(from.address, ports[1].address, 5000, 80, 2))).unwrap().wire[0].clone();
    let (mut delivered, rounds) = (0, rounds(20_000));
    for round in 0..rounds {
        w.xdp = round % 2 == 0;
        if round % RINGS == 0 {
            read_rings(&mut w);
        }
        let mut frame = template.clone();
        let host = 1 + r.below(3) as u32;
        let vni = *r.one(&[100u32, 200, 300]);
        frame[46..49].copy_from_slice(&vni.to_be_bytes()[1..]);
        let inner = 54 + 48 + 14;
        let (src, dst) = (r.one(&ports).address, r.one(&ports).address);
        frame[inner + 12..inner + 16].copy_from_slice(&src);
        frame[inner + 16..inner + 20].copy_from_slice(&dst);
        frame::set_outer(&mut frame, underlay(1 + r.below(3) as u32), underlay(host));
        let mut body = frame::body(&frame);
        body.set_kind_number(1 + r.below(12) as u8);
        body.set_flags(*r.one(&[0, 1, 8, 32, 0xff]));
        body.set_hops(r.below(7) as u8);
        body.set_origin(underlay(1 + r.below(3) as u32));
        body.set_origin_vni(*r.one(&[100, 200]));
        body.set_ep_id(r.one(&ports).ep_id);
        body.set_cookie(if r.below(2) == 0 { 0 } else { r.next() as u32 });
        body.set_sport(*r.one(&[80, 1000, 5000]));
        body.set_dport(*r.one(&[80, 1000, 5000]));
        frame::sign(&mut frame, body, utc());
        let journey = w.arrive(host, &frame).unwrap();
        if let End::Delivered { ep_id, .. } = journey.end {
            delivered += 1;
            let port = ports.iter().find(|p| p.ep_id == ep_id).unwrap();
            // To its destination; or back in the VNI of its origin, as an error or to be asked again.
            assert!(port.vni == vni || port.vni == body.origin_vni(), "round {round}: {body:?} reached {port:?}");
        }
    }
    assert!(delivered > rounds / 40, "{delivered} of {rounds}");
    assert_logged(&mut w);
    for host in 1..=3 {
        for map in ["FLOW_EST", "FLOW_NEW"] {
            for (key, flow) in w.host(host).all::<FlowKey, Flow>(map).unwrap() {
                let port = ports.iter().find(|p| p.ep_id == flow.ep_id).expect("a flow of a known port");
                assert_eq!((key.vni_proto >> 8, key.local), (port.vni, mapped(port.address)), "{key:?} {flow:?}");
                assert_eq!(port.host, host);
            }
        }
    }
}
