//! Of the way that is put together of what hosts say.

use super::*;
use mizar_wire::ask::Headers;
use mizar_wire::trace::{Admission, Then as Would};

const VNI: u32 = 5000;
const REQUEST: Request = Request { vni: VNI, identity: 3, flags: 64, tries: 0, source_port: 50_000 };
const ADMISSION: Admission = Admission { vni: VNI, port: 12, epoch: 1, mark: 0, reply_only: false };

fn host(number: u8) -> Ipv4Addr {
    [172, 16, 0, number].into()
}

fn passed(serial: u64, came: Came, then: Then) -> Passed {
    let packet = Headers {
        source: IpAddr::from([10, 0, 0, 5]),
        destination: IpAddr::from([10, 0, 0, 6]),
        protocol: 6,
        source_port: 40_000,
        destination_port: 443,
    };
    Passed { serial, at_us: 0, age_ms: 0, packet, number: 443, came, inline: false, then }
}

fn step(number: u8, serial: u64, came: Came, then: Then) -> Step {
    Step { host: number.into(), at: host(number), passed: passed(serial, came, then) }
}

fn from(number: u8, kind: Kind) -> Came {
    Came::From { host: host(number), vni: VNI, kind }
}

fn ask(number: u8) -> Then {
    Then::Ask { host: host(number), request: REQUEST }
}

fn admit(number: u8) -> Then {
    Then::Admit { host: host(number), admission: ADMISSION }
}

fn deny(number: u8) -> Then {
    Then::Deny { host: host(number), vni: VNI, reason: "refused".into(), about: "Not let in.".into() }
}

fn dropped(reason: &str) -> Then {
    Then::Drop { reason: reason.into(), about: format!("About {reason}.") }
}

/// By a divider and a bouncer.
fn way() -> Vec<Step> {
    vec![
        step(1, 1, Came::Sent, ask(2)),
        step(2, 1, from(1, Kind::Request), ask(3)),
        step(3, 1, from(2, Kind::Request), admit(4)),
        step(4, 1, from(3, Kind::Admission), Then::Deliver { port: 12 }),
    ]
}

fn roles(steps: &[Step]) -> Vec<&'static str> {
    (0..steps.len()).map(|number| role(steps, number)).collect()
}

#[test]
fn each_host_is_expected_to_have_what_the_one_before_sent() {
    let steps = way();
    for (step, after) in steps.iter().zip(&steps[1..]) {
        let expected = next(step).expect("it goes on");
        assert_eq!((expected.at, expected.came), (after.at, after.passed.came));
        assert!(pick(&expected, vec![after.passed.clone()], &steps[..1], after.host, 0).is_some());
    }
    assert_eq!(next(&steps[3]), None);
    assert_eq!(roles(&steps), ROLES);
    for number in 0..3 {
        assert_eq!(end(&steps[..=number]), None);
    }
    assert_eq!(end(&steps), Some(End::Delivered { port: 12 }));
    assert_eq!(end(&[]), None);
}

#[test]
fn what_came_otherwise_earlier_or_is_known_already_is_not_the_next_step() {
    let steps = way();
    let expected = next(&steps[0]).expect("it goes on");
    let right = passed(7, from(1, Kind::Request), ask(3));
    let of = |said: Vec<Passed>, before: &[Step]| pick(&expected, said, before, 2, 1_000).map(|passed| passed.serial);
    assert_eq!(of(vec![right.clone()], &steps[..1]), Some(7));
    assert_eq!(of(vec![], &steps[..1]), None);
    let other = |came| Passed { came, ..right.clone() };
    let foreign = Came::From { host: host(1), vni: VNI + 1, kind: Kind::Request };
    for came in [Came::Sent, from(9, Kind::Request), from(1, Kind::Direct), foreign] {
        assert_eq!(of(vec![other(came), Passed { serial: 8, ..right.clone() }], &steps[..1]), Some(8), "{came:?}");
    }
    assert_eq!(of(vec![Passed { age_ms: 1_001, ..right.clone() }], &steps[..1]), None, "of another packet, before");
    // It came to the same host twice: the second time is the next step.
    let before = [steps[0].clone(), step(2, 7, from(1, Kind::Request), ask(3))];
    assert_eq!(of(vec![right.clone(), Passed { serial: 9, ..right.clone() }], &before), Some(9));
    // Each host counts by itself.
    let elsewhere = [steps[0].clone(), step(3, 7, from(1, Kind::Request), ask(3))];
    assert_eq!(of(vec![right], &elsewhere), Some(7));
}

#[test]
fn what_was_refused_ends_at_its_sender_with_the_reason_of_who_refused_it() {
    let mut steps = [
        step(1, 1, Came::Sent, ask(3)),
        step(3, 1, from(1, Kind::Request), deny(1)),
        step(1, 2, from(3, Kind::Denial), dropped("policy")),
    ];
    assert_eq!(roles(&steps), ["source", "bouncer", "source"]);
    let refused = End::Dropped { reason: "refused".into(), about: "Not let in.".into(), told: None };
    assert_eq!(end(&steps), Some(refused));
    let about = "No such port.".to_owned();
    steps[1].passed.then = Then::Deny { host: host(1), vni: VNI, reason: "unreachable".into(), about: about.clone() };
    steps[2].passed.then = dropped("unreachable");
    let unreachable = End::Dropped { reason: "unreachable".into(), about, told: Some(Told::HostUnreachable) };
    assert_eq!(end(&steps), Some(unreachable));
    let of = |came, then| end(&[step(1, 1, came, then)]);
    let net =
        End::Dropped { reason: "no_route".into(), about: "About no_route.".into(), told: Some(Told::NetUnreachable) };
    assert_eq!(of(Came::Sent, dropped("no_route")), Some(net));
    let lost = End::Dropped { reason: "unreachable".into(), about: "About unreachable.".into(), told: None };
    assert_eq!(of(from(3, Kind::Admission), dropped("unreachable")), Some(lost), "nobody tells its sender");
}

#[test]
fn a_packet_that_never_ends_is_given_up() {
    let round = || step(1, 1, from(2, Kind::Return), ask(2));
    let steps: Vec<Step> = (0..STEPS).map(|_| round()).collect();
    assert_eq!(end(&steps[1..]), None);
    assert!(matches!(end(&steps), Some(End::Unknown { why }) if why.contains("circles")));
}

#[test]
fn who_passes_on_is_a_divider_and_who_asks_the_other_one_a_bouncer() {
    let sibling = Then::Ask { host: host(4), request: Request { flags: 72, ..REQUEST } };
    let mut steps = way();
    steps[1].passed.then = sibling;
    assert_eq!(role(&steps, 1), "bouncer");
    assert!(says(&steps, 1).contains("other bouncer"), "{}", says(&steps, 1));
    assert!(says(&way(), 1).ends_with("sent on to a bouncer of the destination"));
    steps[2].passed.then = Then::Deliver { port: 12 };
    assert_eq!((role(&steps, 2), role(&steps, 3)), ("bouncer", "destination"));
}

#[test]
fn every_step_says_what_came_and_what_became_of_it() {
    let text = |came, then| says(&[step(1, 1, came, then)], 0);
    for (came, then, parts) in [
        (Came::Sent, ask(2), ["the port sent it", "asked for it"]),
        (
            Came::Sent,
            Then::Direct { host: host(2), vni: VNI },
            ["the port sent it", "straight to the other side's host"],
        ),
        (from(2, Kind::Direct), Then::Deliver { port: 1 }, ["came straight", "delivered to the port's interface"]),
        (from(2, Kind::Request), admit(3), ["question for the way", "let in"]),
        (from(2, Kind::Request), deny(1), ["question for the way", "sent back to the sender's host: Not let in."]),
        (from(2, Kind::Admission), dropped("spoof"), ["let in by a bouncer", "dropped: About spoof."]),
        (from(2, Kind::Return), ask(2), ["asked for again", "sent to a transit host"]),
        (from(2, Kind::Denial), dropped("policy"), ["came back, refused", "dropped"]),
    ] {
        let text = text(came, then);
        assert!(parts.iter().all(|part| text.contains(part)), "{text}");
    }
    for (why, part) in [
        (Why::NoFlow, "not known"),
        (Why::Moved, "moved"),
        (Why::Rules, "rules have changed"),
        (Why::Identity { identity: 9 }, "groups"),
    ] {
        let text = text(from(2, Kind::Direct), Then::Return { host: host(2), vni: VNI, why });
        assert!(text.contains(part), "{text}");
    }
    let answer = Then::Admit { host: host(3), admission: Admission { reply_only: true, ..ADMISSION } };
    assert!(text(from(2, Kind::Request), answer).contains("in case that it is an answer"));
    let mut inline = [step(1, 1, Came::Sent, admit(3))];
    inline[0].passed.inline = true;
    assert!(says(&inline, 0).contains("transit host for it too"));
}

#[test]
fn each_host_is_asked_for_its_reasons_as_the_packet_came_to_it() {
    let steps = way();
    let sends = |identity, tries| Some(At::Leave { port: 11, identity, tries });
    assert_eq!(at(&steps, 0, 11), sends(None, 1), "its flow is known by now");
    assert_eq!(at(&steps, 2, 11), Some(At::Carry(REQUEST)));
    assert_eq!(at(&steps, 3, 11), Some(At::Arrive(ADMISSION)));
    let direct = Then::Direct { host: host(4), vni: VNI };
    let steps = [step(1, 1, Came::Sent, direct), step(4, 1, from(1, Kind::Direct), Then::Deliver { port: 12 })];
    assert_eq!(at(&steps, 0, 11), sends(None, 0));
    assert_eq!(at(&steps, 1, 11), Some(At::Direct { vni: VNI, from: host(1) }));
    let told = Then::Return { host: host(1), vni: VNI, why: Why::Identity { identity: 9 } };
    let steps = [step(3, 1, from(1, Kind::Request), told), step(1, 2, from(3, Kind::Return), ask(3))];
    assert_eq!(at(&steps, 1, 11), sends(Some(9), 1));
    assert_eq!(at(&steps, 0, 11), None, "nobody knows what came");
    assert_eq!(at(&[step(1, 2, from(3, Kind::Denial), dropped("policy"))], 0, 11), None);
}

#[test]
fn reasons_of_another_moment_are_not_taken_for_those_of_the_packet() {
    let would = |reason: &str| Would::Drop { reason: reason.into(), about: String::new(), told: None };
    assert!(agrees(&deny(1), &would("refused"), false) && agrees(&dropped("spoof"), &would("spoof"), false));
    assert!(!agrees(&dropped("spoof"), &would("policy"), false) && !agrees(&deny(1), &Would::Return, false));
    let let_in = Would::Admit { host: 4, admission: ADMISSION };
    assert!(agrees(&admit(4), &let_in, false) && !agrees(&deny(1), &let_in, false));
    let delivered = Then::Deliver { port: 12 };
    assert!(agrees(&delivered, &let_in, true) && !agrees(&delivered, &let_in, false));
    assert!(agrees(&delivered, &Would::Deliver { port: 12 }, false));
}

#[test]
fn hosts_are_asked_about_packets_that_begin_a_conversation() {
    let seen = passed(1, Came::Sent, ask(2));
    let asked = packet(&seen).expect("a packet");
    assert_eq!((asked.protocol, asked.source_port, asked.destination_port), (6, 40_000, 443));
    let icmp = Headers { protocol: 1, ..seen.packet };
    let question = Passed { packet: icmp, number: 8 << 8, ..seen.clone() };
    assert_eq!(packet(&question).map(|packet| packet.destination_port), Some(8 << 8));
    for answer in [u16::MAX, 0x0000, 0x0e00, 0x2b00] {
        assert_eq!(packet(&Passed { number: answer, ..question.clone() }), None, "{answer:04x}");
    }
    // Of another protocol it is a port like others.
    assert!(packet(&Passed { number: u16::MAX, ..seen }).is_some());
}
