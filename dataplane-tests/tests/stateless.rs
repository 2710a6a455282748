//! Ports whose groups are all stateless: each packet needs a rule of its own direction, answers too.

use mizar_abi::maps::{State, UNFILTERED, identity_of};
use mizar_dataplane_tests::{
    World,
    connection::{OPENED, long_ago},
    drawn::{PORTS, some_rules},
    frame::Ip,
    judged::{VNI, data, state, syn},
    policy::{Opening, Remote, Rule, allows},
    random::Random,
    world::{End, Port},
};

/// Stateful: everything out, nothing in.
const PLAIN: u32 = 1;
/// Serves port 80, and may answer.
const SERVER: u32 = 2;
/// Asks whom it likes, and may be answered.
const CLIENT: u32 = 3;
/// Serves port 80, and may say nothing.
const MUTE: u32 = 4;
/// Asks whom it likes, and may not be answered.
const DEAF: u32 = 5;

/// What a port has for new flows, where it earns none.
const TOKENS: u32 = 10;

const IN: Rule = Rule { egress: false, proto: Some(6), ports: Some((80, 80)), remote: Remote::Anybody };
/// TCP to the ports that are asked from.
const ANSWERS: Rule = Rule { ports: Some((1_000, 65_535)), ..IN };

fn answers(egress: bool) -> Rule {
    Rule { egress, ..ANSWERS }
}

/// Hosts 1 to 4, of which 3 and 4 have no ports, and the rules.
fn world() -> World {
    with_rules(World::new(4).unwrap())
}

fn with_rules(mut w: World) -> World {
    w.stateless.extend([SERVER, CLIENT, MUTE, DEAF]);
    w.rules(PLAIN, 1, &[Rule::ALL_OUT]).unwrap();
    w.rules(SERVER, 1, &[IN, answers(true)]).unwrap();
    w.rules(CLIENT, 1, &[Rule::ALL_OUT, answers(false)]).unwrap();
    w.rules(MUTE, 1, &[IN]).unwrap();
    w.rules(DEAF, 1, &[Rule::ALL_OUT]).unwrap();
    w
}

/// Where b is, a being on host 1, and who bounces.
type Place = (u32, [u32; 2]);

/// The usual one.
const APART: Place = (2, [3, 0]);

/// Two ports of a subnet of their own, of this number: what they have to do with each other is nobody else's.
fn ports(w: &mut World, subnet: u32, (a, b): (u32, u32), (b_host, bouncers): Place) -> (Port, Port) {
    w.subnet(VNI, subnet, [10, 0, subnet as u8, 0], &[bouncers]).unwrap();
    let (one, two) = (subnet * 10 + 1, subnet * 10 + 2);
    (w.port_of(a, 1, one, subnet, 5).unwrap(), w.port_of(b, b_host, two, subnet, 6).unwrap())
}

/// Ports 11 and 12.
fn pair(a: u32, b: u32) -> (World, Port, Port) {
    let mut w = world();
    let (a, b) = ports(&mut w, 1, (a, b), APART);
    (w, a, b)
}

fn syn_ack(a: &Port, b: &Port) -> Ip {
    Ip::tcp(b.address, a.address, 80, 1000, 0x12)
}

#[test]
fn with_rules_both_ways_a_connection_is_direct_after_its_first_packets() {
    let mut w = world();
    let places = [APART, (2, [3, 4]), (2, [1, 0]), (2, [2, 1]), (1, [3, 0]), (1, [1, 0])];
    let sets = [(CLIENT, SERVER), (PLAIN, SERVER), (CLIENT, UNFILTERED)];
    for (n, (sets, place)) in (1..).zip(sets.iter().flat_map(|sets| places.map(|place| (*sets, place)))) {
        let (a, b) = ports(&mut w, n, sets, place);
        for (xdp, sport) in [(false, 1000), (true, 1001), (false, 1002)] {
            w.xdp = xdp;
            assert_eq!(w.connect(&a, &b, sport).last(), Some(&b.host), "{sets:?} {place:?}");
        }
    }
}

#[test]
fn what_answers_is_asked_of_a_bouncer_once_and_needs_it_no_more() {
    let (mut w, a, b) = pair(CLIENT, SERVER);
    assert_eq!(w.deliver(&a, &b, syn(&a, &b, 1000, 80)), [1, 3, 2]);
    w.counts().unwrap();
    assert_eq!(w.deliver(&b, &a, syn_ack(&a, &b)), [2, 1, 2, 3, 1], "a's host has the way, and no verdict");
    w.assert_counts(&[
        ("h2 ack_out", 1),
        ("h1 ack_in", 1),
        ("h1 return_out", 1),
        ("h2 return_in", 1),
        ("h2 request_out", 1),
        ("h3 bounced", 1),
        ("h3 transit_tcx", 1),
        ("h1 admitted_in", 1),
    ]);
    assert_eq!(w.deliver(&a, &b, Ip::tcp(a.address, b.address, 1000, 80, 0x10)), [1, 2]);
    w.assert_direct(&a, &b, 1000);
    for (port, flow) in [(&a, (6, 1000, b.address, 80)), (&b, (6, 80, a.address, 1000))] {
        assert_eq!(state(&mut w, port, flow).flags & OPENED, OPENED, "rules let both directions pass");
    }
}

#[test]
fn an_answer_without_an_egress_rule_stays_on_its_host_and_what_is_let_in_goes_on_coming() {
    let mut w = world();
    for (n, place) in (1..).zip([APART, (2, [2, 0]), (1, [3, 0]), (1, [1, 0])]) {
        let (a, b) = ports(&mut w, n, (PLAIN, MUTE), place);
        w.deliver(&a, &b, syn(&a, &b, 1000, 80));
        w.counts().unwrap();
        for _ in 0..3 {
            assert_eq!(w.assert_refused(&b, syn_ack(&a, &b)), [b.host]);
        }
        assert_eq!(w.counts().unwrap()[&format!("h{} p{} dropped policy", b.host, b.ep_id)], 3);
        w.deliver(&a, &b, syn(&a, &b, 1000, 80));
        w.assert_refused(&b, syn(&b, &a, 2000, 80));
        w.assert_refused(&b, data(&b, &a, 80, 2000));
    }
}

#[test]
fn an_answer_without_an_ingress_rule_comes_back_and_a_bouncer_denies_it() {
    let (mut w, a, b) = pair(DEAF, SERVER);
    w.deliver(&a, &b, syn(&a, &b, 1000, 80));
    w.counts().unwrap();
    assert_eq!(w.assert_refused(&b, syn_ack(&a, &b)), [2, 1, 2, 3, 1, 2]);
    w.assert_counts(&[
        ("h2 ack_out", 1),
        ("h1 ack_in", 1),
        ("h1 return_out", 1),
        ("h2 return_in", 1),
        ("h2 request_out", 1),
        ("h3 bounced", 1),
        ("h3 reply_only", 1),
        ("h3 transit_tcx", 1),
        ("h1 admitted_in", 1),
        ("h1 p11 dropped refused", 1),
        ("h1 denied_out", 1),
        ("h2 denied_in", 1),
        ("h2 p12 dropped policy", 1),
    ]);
    // What a sends is let in all the same.
    for _ in 0..3 {
        w.deliver(&a, &b, data(&a, &b, 1000, 80));
        w.assert_refused(&b, data(&b, &a, 80, 1000));
    }
    assert_ne!(state(&mut w, &a, (6, 1000, b.address, 80)).state, State::Denied as u8);
}

#[test]
fn an_answer_without_an_ingress_rule_is_refused_wherever_the_ends_and_bouncers_are() {
    let mut w = world();
    let places = [APART, (2, [1, 0]), (2, [2, 1]), (1, [3, 0]), (1, [1, 0])];
    let servers = [SERVER, UNFILTERED];
    for (n, (server, place)) in (1..).zip(servers.iter().flat_map(|server| places.map(|place| (*server, place)))) {
        let (a, b) = ports(&mut w, n, (DEAF, server), place);
        for _ in 0..3 {
            w.deliver(&a, &b, syn(&a, &b, 1000, 80));
            w.assert_refused(&b, syn_ack(&a, &b));
            w.assert_refused(&b, data(&b, &a, 80, 1000));
        }
        // Nor as what a's host might have forgotten, or never knew.
        w.assert_refused(&b, data(&b, &a, 80, 3000));
        w.host(1).evict().unwrap();
        w.assert_refused(&b, data(&b, &a, 80, 1000));
    }
}

#[test]
fn a_ping_needs_a_rule_for_the_question_and_one_for_the_answer() {
    let mut w = world();
    for (n, place) in (1..).zip([APART, (2, [1, 0]), (1, [1, 0])]) {
        let icmp = |kind: u16| Rule::ingress(1, (kind << 8, kind << 8 | 0xff));
        let (a, b) = ports(&mut w, n, (CLIENT, SERVER), place);
        w.rules(CLIENT, 10 * n, &[Rule::ALL_OUT, ANSWERS]).unwrap();
        let (ping, pong) = (Ip::echo(a.address, b.address, 8, 7), Ip::echo(b.address, a.address, 0, 7));
        let answer = Rule { egress: true, ..icmp(0) };
        // Of the answer to another question, none.
        w.rules(SERVER, 10 * n + 2, &[icmp(8), Rule { egress: true, ..icmp(14) }]).unwrap();
        w.deliver(&a, &b, ping.clone());
        w.assert_refused(&b, pong.clone());
        w.rules(SERVER, 10 * n + 3, &[icmp(8), answer]).unwrap();
        w.rules(CLIENT, 10 * n + 2, &[Rule::ALL_OUT, icmp(14)]).unwrap();
        w.deliver(&a, &b, ping.clone());
        w.assert_refused(&b, pong.clone());
        w.rules(CLIENT, 10 * n + 3, &[Rule::ALL_OUT, icmp(0)]).unwrap();
        for host in [1, 2] {
            w.host(host).evict().unwrap();
        }
        for _ in 0..3 {
            w.deliver(&a, &b, ping.clone());
            w.deliver(&b, &a, pong.clone());
        }
        // The same when rules change that say the same of it.
        w.rules(CLIENT, 10 * n + 4, &[Rule::ALL_OUT, icmp(0), ANSWERS]).unwrap();
        if place == APART {
            w.ask(3, &a, a.flow(1, 7, b.address, 8)).unwrap();
        }
        long_ago(&mut w);
        let way = if b.host == 1 { vec![1] } else { vec![1, 2] };
        assert_eq!(w.deliver(&a, &b, ping), way);
        assert_eq!(w.deliver(&b, &a, pong).len(), way.len());
    }
}

#[test]
fn a_rule_that_goes_takes_its_direction_and_leaves_the_other() {
    let (mut w, a, b) = pair(CLIENT, SERVER);
    w.connect(&a, &b, 1000);
    long_ago(&mut w);
    // The client may not be answered any more.
    w.rules(CLIENT, 2, &[Rule::ALL_OUT]).unwrap();
    assert_eq!(w.deliver(&b, &a, data(&b, &a, 80, 1000)), [2, 1], "while the agent asks");
    assert_eq!(w.ask(3, &a, a.flow(6, 1000, b.address, 80)).unwrap().end, End::Dropped(1));
    assert_eq!(w.assert_refused(&b, data(&b, &a, 80, 1000)), [2, 1, 2, 3, 1, 2]);
    assert_eq!(w.deliver(&a, &b, data(&a, &b, 1000, 80)), [1, 2, 1, 3, 2]);
    // It may again.
    w.rules(CLIENT, 3, &[Rule::ALL_OUT, ANSWERS]).unwrap();
    w.deliver(&b, &a, data(&b, &a, 80, 1000));
    w.deliver(&a, &b, data(&a, &b, 1000, 80));
    w.ask(3, &a, a.flow(6, 1000, b.address, 80)).unwrap();
    long_ago(&mut w);
    w.deliver(&b, &a, data(&b, &a, 80, 1000));
    w.assert_direct(&a, &b, 1000);
    // The server may not answer any more, at once.
    w.rules(SERVER, 2, &[IN]).unwrap();
    assert_eq!(w.assert_refused(&b, data(&b, &a, 80, 1000)), [2]);
    assert_eq!(w.deliver(&a, &b, data(&a, &b, 1000, 80)), [1, 2]);
    w.ask(3, &b, b.flow(6, 80, a.address, 1000)).unwrap();
    w.rules(SERVER, 3, &[IN, answers(true)]).unwrap();
    assert_eq!(w.deliver(&b, &a, data(&b, &a, 80, 1000)), [2, 1]);
}

#[test]
fn what_nobody_confirms_within_a_second_is_asked_for_again() {
    let (mut w, a, b) = pair(CLIENT, SERVER);
    w.connect(&a, &b, 1000);
    w.rules(CLIENT, 2, &[Rule::ALL_OUT, ANSWERS]).unwrap();
    w.age(1, 1_100).unwrap();
    assert_eq!(w.deliver(&a, &b, data(&a, &b, 1000, 80)), [1, 2], "what a sends is judged by its own host");
    assert_eq!(w.deliver(&b, &a, data(&b, &a, 80, 1000)), [2, 1, 2, 3, 1], "not lost");
    w.deliver(&a, &b, data(&a, &b, 1000, 80));
    w.assert_direct(&a, &b, 1000);
}

#[test]
fn who_forgets_a_flow_finds_it_again_by_the_rules_alone() {
    let (mut w, a, b) = pair(CLIENT, SERVER);
    for (sport, (forgetful, first)) in (1000..).zip([(1, 1), (1, 2), (2, 1), (2, 2)]) {
        w.connect(&a, &b, sport);
        w.host(forgetful).evict().unwrap();
        for side in [first, 3 - first, 1, 2] {
            if side == 1 {
                w.deliver(&a, &b, data(&a, &b, sport, 80));
            } else {
                w.deliver(&b, &a, data(&b, &a, 80, sport));
            }
        }
        w.assert_direct(&a, &b, sport);
    }
}

#[test]
fn answers_that_are_refused_again_and_again_cost_their_port_what_new_flows_do() {
    // No tokens are earned, however long the test takes.
    let world = World::new_with(4, |loader| {
        loader.override_global("NEW_FLOW_RATE", &0_u32, true).override_global("NEW_FLOW_BURST", &TOKENS, true);
    });
    let mut w = with_rules(world.unwrap());
    let (a, b) = ports(&mut w, 1, (DEAF, SERVER), APART);
    w.deliver(&a, &b, syn(&a, &b, 1000, 80));
    for _ in 0..3 * TOKENS {
        // What may come in is let in each time, and so its answer is asked about anew.
        w.send(&a, &a.frame(data(&a, &b, 1000, 80))).unwrap();
        w.assert_refused(&b, data(&b, &a, 80, 1000));
    }
    let counts = w.counts().unwrap();
    // One and the next: where its packet came from a flow that had its way, it asks without a token once.
    assert_eq!(counts["h2 request_out"], u64::from(2 * TOKENS), "{counts:?}");
    assert_eq!(counts["h2 p12 dropped return_rate"], u64::from(TOKENS), "{counts:?}");
}

#[test]
fn an_icmp_error_goes_with_what_it_is_about_and_needs_no_rule() {
    let mut w = world();
    let places = [APART, (2, [2, 0]), (1, [3, 0]), (1, [1, 0])];
    let clients = [DEAF, CLIENT];
    for (n, (client, place)) in (1..).zip(clients.iter().flat_map(|client| places.map(|place| (*client, place)))) {
        let (a, b) = ports(&mut w, n, (client, MUTE), place);
        let sent = data(&a, &b, 1000, 80);
        w.deliver(&a, &b, sent.clone());
        w.deliver(&b, &a, Ip::unreachable(&sent));
        // Of what was never sent there is none.
        w.assert_refused(&b, Ip::unreachable(&data(&a, &b, 1001, 80)));
        w.assert_refused(&b, data(&b, &a, 80, 1000));
    }
}

#[test]
fn an_icmp_error_about_what_a_port_may_not_send_any_more_does_not_come_in() {
    let (mut w, a, b) = pair(PLAIN, SERVER);
    w.connect(&a, &b, 1000);
    w.rules(SERVER, 2, &[IN]).unwrap();
    w.ask(3, &b, b.flow(6, 80, a.address, 1000)).unwrap();
    long_ago(&mut w);
    w.assert_refused(&b, data(&b, &a, 80, 1000));
    for _ in 0..2 {
        let error = Ip::unreachable(&data(&b, &a, 80, 1000));
        assert_eq!(w.assert_refused(&a, error), [1, 2]);
        assert_eq!(w.deliver(&a, &b, data(&a, &b, 1000, 80)), [1, 2]);
    }
}

#[test]
fn egress_by_group_of_answers_is_judged_by_who_has_asked() {
    const BY_GROUP: u32 = 6;
    let mut w = world();
    w.stateless.insert(BY_GROUP);
    for (n, rule, passes) in [(1, Remote::Set(PLAIN), true), (2, Remote::Set(DEAF), false)] {
        w.rules(BY_GROUP, n, &[IN, answers(true).from(rule)]).unwrap();
        let (a, b) = ports(&mut w, n, (PLAIN, BY_GROUP), APART);
        w.deliver(&a, &b, syn(&a, &b, 1000, 80));
        if passes {
            assert_eq!(w.deliver(&b, &a, syn_ack(&a, &b)), [2, 1]);
            w.deliver(&a, &b, data(&a, &b, 1000, 80));
            w.assert_direct(&a, &b, 1000);
        } else {
            assert_eq!(w.assert_refused(&b, syn_ack(&a, &b)), [2]);
            w.deliver(&a, &b, syn(&a, &b, 1000, 80));
        }
    }
}

const SETS: u32 = 6;
/// Times that rules are drawn.
const ROUNDS: u32 = 60;
/// Conversations in each.
const CONVERSATIONS: u32 = 60;

/// A question, its answer, and what of each is judged.
fn some_conversation(r: &mut Random, a: &Port, b: &Port) -> (u8, [(Ip, u16); 2]) {
    let (a, b) = (a.address, b.address);
    let (sport, dport) = (*r.one(&PORTS), *r.one(&PORTS));
    match r.below(4) {
        0 => (17, [(Ip::udp(a, b, sport, dport, b"?"), dport), (Ip::udp(b, a, dport, sport, b"!"), sport)]),
        1 => {
            let (asks, answers) = *r.one(&[(8, 0), (13, 14), (17, 18)]);
            let message = |from, to, kind: u8| (Ip::echo(from, to, kind, sport), u16::from(kind) << 8);
            (1, [message(a, b, asks), message(b, a, answers)])
        }
        2 => (47, [(Ip::new(a, b, 47, vec![0; 8]), 0), (Ip::new(b, a, 47, vec![0; 8]), 0)]),
        _ => (6, [(Ip::tcp(a, b, sport, dport, 2), dport), (Ip::tcp(b, a, dport, sport, 0x12), sport)]),
    }
}

/// The reference, packet by packet: a stateful port lets pass what answers, both ways; a stateless one what a
/// rule of its direction allows, whatever was before.
#[test]
fn whatever_the_rules_answers_pass_where_a_port_is_stateful_and_by_rules_where_it_is_not() {
    let mut r = Random(6);
    let mut w = World::new_with(3, |loader| {
        loader.override_global("NEW_FLOW_RATE", &u32::MAX, true).override_global("NEW_FLOW_BURST", &u32::MAX, true);
    })
    .unwrap();
    w.subnet(VNI, 7, [10, 0, 0, 0], &[[3, 1]]).unwrap();
    let mut ports = Vec::new();
    for (ep_id, set) in (10..).zip((1..=SETS).chain([UNFILTERED])) {
        ports.push(w.port_of(set, 1, ep_id, 7, ep_id as u8).unwrap());
        ports.push(w.port_of(set, 2, ep_id + 20, 7, ep_id as u8 + 7).unwrap());
    }
    let (mut answered, mut refused) = (0, 0);
    for round in 1..=ROUNDS {
        w.stateless = (1..=SETS).filter(|_| r.below(3) > 0).collect();
        let mut rules: Vec<Vec<Rule>> = (1..=SETS).map(|_| some_rules(&mut r, SETS)).collect();
        for rules in &mut rules {
            rules.extend((r.below(3) == 0).then_some(Rule::ALL_OUT));
            rules.extend((r.below(3) == 0).then_some(Rule::all_in(Remote::Anybody)));
        }
        for (set, rules) in (1..).zip(&rules) {
            w.rules(set, round, rules).unwrap();
        }
        for n in 0..CONVERSATIONS {
            let (a, b) = (*r.one(&ports), *r.one(&ports));
            if a == b {
                continue;
            }
            w.xdp = n % 2 == 0;
            for host in 1..=2 {
                w.host(host).evict().unwrap();
            }
            let (proto, [question, answer]) = some_conversation(&mut r, &a, &b);
            let passes = |from: &Port, to: &Port, port: u16, answers: bool| {
                let judge = |own: &Port, other: &Port, egress: bool| {
                    if own.set == UNFILTERED || answers && !w.stateless.contains(&own.set) {
                        return true;
                    }
                    let (identity, address) = (identity_of(other.set), other.address);
                    allows(&rules[own.set as usize - 1], &Opening { egress, identity, address, proto, port })
                };
                judge(from, to, true) && judge(to, from, false)
            };
            let asked = passes(&a, &b, question.1, false);
            let meant = [asked, asked && passes(&b, &a, answer.1, true)];
            // What is refused in one direction takes nothing from the other.
            for turn in 0..3 {
                for (meant, (from, to, (ip, _))) in meant.iter().zip([(&a, &b, &question), (&b, &a, &answer)]) {
                    if !asked && turn + usize::from(from == &b) > 0 {
                        break;
                    }
                    let journey = w.send(from, &from.frame(ip.clone())).unwrap();
                    let delivered = matches!(journey.end, End::Delivered { ep_id, .. } if ep_id == to.ep_id);
                    let stateless = &w.stateless;
                    assert_eq!(
                        delivered, *meant,
                        "round {round}.{n}, turn {turn}: {proto} {ip:?} from {from:?} to {to:?}: {:?}; {stateless:?} {rules:?}",
                        journey.hosts
                    );
                }
            }
            answered += u32::from(meant == [true, true]);
            refused += u32::from(meant == [true, false]);
        }
    }
    assert!(answered > ROUNDS && refused > ROUNDS, "{answered} answered, {refused} not: the property means something");
}
