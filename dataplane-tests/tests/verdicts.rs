//! Property: whatever the rules, the verdict of the tables in the kernel is that of a model which
//! reads the rules one by one. In all more than 100,000 decisions: at a bouncer in tcx and in XDP, and
//! by whole journeys, egress and ingress together.

use mizar_abi::{
    maps::{ANYBODY, UNFILTERED, identity_of},
    option::{Kind, code, flag, verdict_epoch, verdict_set},
};
use mizar_dataplane_tests::{
    World,
    drawn::{MESSAGES, PORTS, PROTOCOLS, some_rules},
    frame::{self, Ip},
    host::{UPLINK, XDP, XDP_REDIRECT},
    links::utc,
    policy::{Opening, Rule, allows},
    random::Random,
    world::{End, Port, underlay},
};
use mizar_packet::{
    geneve::{Outer, SIGNED_OPTION},
    option::Body,
};

const VNI: u32 = 77;
const SETS: u32 = 6;
/// Times that rules are drawn.
const ROUNDS: u32 = 60;
/// Decisions of a bouncer in each round.
const REQUESTS: u32 = 1_700;
/// Journeys in each.
const JOURNEYS: u32 = 60;

/// At the edges of the prefixes that rules have.
const ADDRESSES: [[u8; 4]; 10] = [
    [10, 0, 0, 1],
    [10, 0, 0, 15],
    [10, 0, 0, 16],
    [10, 0, 0, 17],
    [10, 0, 0, 18],
    [10, 0, 0, 32],
    [10, 0, 1, 0],
    [192, 168, 127, 255],
    [192, 168, 128, 1],
    [8, 8, 8, 8],
];

fn world(hosts: u32) -> World {
    World::new_with(hosts, |loader| {
        loader.override_global("NEW_FLOW_RATE", &u32::MAX, true).override_global("NEW_FLOW_BURST", &u32::MAX, true);
    })
    .unwrap()
}

/// A request as the host of a port with this identity would send it to the bouncer, host 2.
fn request(opening: &Opening, to: &Port, opens: bool) -> Vec<u8> {
    let inner = Ip::new(opening.address, to.address, opening.proto, vec![0; 40]).frame();
    let outer = Outer {
        src: underlay(1),
        dst: underlay(2),
        tos: 0,
        source_port: 50_000,
        vni: VNI,
        options: 52,
        frame: inner.len(),
    };
    let mut body = Body::default();
    body.set_kind(Kind::Req);
    body.set_flags(if opens { flag::OPENS } else { 0 });
    body.set_hops(6);
    body.set_origin(underlay(1));
    body.set_origin_vni(VNI);
    body.set_cookie(7);
    body.set_sport(1_000);
    body.set_dport(opening.port);
    body.set_identity(opening.identity);
    body.set_epoch(opening.port.into());
    let head = [&[0; 12][..], &[8, 0], &outer.bytes(), &SIGNED_OPTION, &[0; 48], &inner].concat();
    let mut frame = head;
    frame::sign(&mut frame, body, utc());
    frame
}

#[test]
fn a_bouncers_verdict_is_the_models() {
    let mut r = Random(4);
    let mut w = world(2);
    w.subnet(VNI, 7, [10, 0, 0, 0], &[[2, 0]]).unwrap();
    let ports: Vec<Port> = (1..=SETS).map(|set| w.port_of(set, 1, 10 + set, 7, 100 + set as u8).unwrap()).collect();
    let (mut allowed, mut decisions) = (0, 0);
    for round in 1..=ROUNDS {
        let rules: Vec<Vec<Rule>> = (1..=SETS).map(|_| some_rules(&mut r, SETS)).collect();
        for (set, rules) in (1..).zip(&rules) {
            w.rules_at(2, set, round, rules).unwrap();
        }
        for n in 0..REQUESTS {
            let to = *r.one(&ports);
            let proto = if r.below(4) == 0 { 1 } else { *r.one(&PROTOCOLS) };
            let opening = Opening {
                egress: false,
                identity: r.below(SETS + 2),
                address: *r.one(&ADDRESSES),
                proto,
                port: match proto {
                    1 => *r.one(&MESSAGES),
                    47 => 0,
                    _ => r.one(&PORTS).wrapping_add(r.below(3) as u16).wrapping_sub(1),
                },
            };
            let opens = r.below(2) == 0;
            let expected = allows(&rules[to.set as usize - 1], &opening);
            let frame = request(&opening, &to, opens);
            let out = if n % 2 == 0 {
                let out = w.host(2).run(XDP, &frame, 0, 0).unwrap();
                assert_eq!(out.verdict, XDP_REDIRECT, "not decided in XDP");
                out.frame
            } else {
                w.host(2).run("uplink_tcx", &frame, UPLINK, 0).unwrap().frame
            };
            let body = frame::body(&out);
            let reply_only = body.flags() & flag::REPLY_ONLY != 0;
            let verdict = (body.kind(), reply_only);
            let meant = match (expected, opens) {
                (true, _) => (Some(Kind::Admitted), false),
                (false, false) => (Some(Kind::Admitted), true),
                (false, true) => (Some(Kind::Denied), false),
            };
            assert_eq!(verdict, meant, "round {round}: {opening:?} for {:?}", rules[to.set as usize - 1]);
            if body.kind() == Some(Kind::Admitted) {
                assert_eq!((body.epoch(), body.reason()), (verdict_epoch(to.set, round), verdict_set(to.set)));
            } else {
                assert_eq!(body.reason(), code::POLICY);
            }
            allowed += u32::from(expected);
            decisions += 1;
        }
    }
    assert!(decisions >= 100_000, "{decisions}");
    assert!((decisions / 5..decisions * 4 / 5).contains(&allowed), "{allowed} of {decisions} were allowed");
}

/// A packet that opens a conversation, and what is judged of it.
fn some_packet(r: &mut Random, from: &Port, to: &Port, sport: u16) -> (Ip, u8, u16) {
    let dport = *r.one(&PORTS);
    match r.below(4) {
        0 => (Ip::udp(from.address, to.address, sport, dport, b"x"), 17, dport),
        1 => {
            let kind = *r.one(&[8, 13, 17]);
            (Ip::echo(from.address, to.address, kind, sport), 1, u16::from(kind) << 8)
        }
        2 => (Ip::new(from.address, to.address, 47, vec![0; 8]), 47, 0),
        _ => (Ip::tcp(from.address, to.address, sport, dport, 2), 6, dport),
    }
}

#[test]
fn what_arrives_is_what_both_ends_allow() {
    let mut r = Random(5);
    let mut w = world(3);
    w.subnet(VNI, 7, [10, 0, 0, 0], &[[3, 1]]).unwrap();
    let mut ports = Vec::new();
    for (ep_id, set) in (10..).zip((1..=SETS).chain([UNFILTERED])) {
        // Addresses at both sides of the prefixes' edges.
        ports.push(w.port_of(set, 1, ep_id, 7, ep_id as u8).unwrap());
        ports.push(w.port_of(set, 2, ep_id + 20, 7, ep_id as u8 + 7).unwrap());
    }
    let mut arrived = 0;
    for round in 1..=ROUNDS {
        let mut rules: Vec<Vec<Rule>> = (1..=SETS).map(|_| some_rules(&mut r, SETS)).collect();
        rules.iter_mut().for_each(|rules| rules.extend((r.below(3) == 0).then_some(Rule::ALL_OUT)));
        for (set, rules) in (1..).zip(&rules) {
            w.rules(set, round, rules).unwrap();
        }
        let judge = |port: &Port, opening: Opening| match port.set {
            UNFILTERED => true,
            set => allows(&rules[set as usize - 1], &opening),
        };
        for n in 0..JOURNEYS {
            let (from, to) = (*r.one(&ports), *r.one(&ports));
            if from == to {
                continue;
            }
            w.xdp = n % 2 == 0;
            // No flow of an earlier journey.
            for host in 1..=2 {
                w.host(host).evict().unwrap();
            }
            let (ip, proto, port) = some_packet(&mut r, &from, &to, n as u16);
            let opening = |egress, other: &Port| Opening {
                egress,
                identity: identity_of(other.set),
                address: other.address,
                proto,
                port,
            };
            let expected = judge(&from, opening(true, &to)) && judge(&to, opening(false, &from));
            let journey = w.send(&from, &from.frame(ip)).unwrap();
            let delivered = matches!(journey.end, End::Delivered { ep_id, .. } if ep_id == to.ep_id);
            assert_eq!(
                delivered, expected,
                "round {round}: {proto} {port} from {from:?} to {to:?}: {:?}",
                journey.hosts
            );
            arrived += u32::from(delivered);
        }
    }
    assert!(arrived > ROUNDS * JOURNEYS / 10, "{arrived} arrived: the property means something");
    assert_eq!(identity_of(UNFILTERED), ANYBODY);
}
