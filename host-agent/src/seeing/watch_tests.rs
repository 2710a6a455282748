//! Of the book of packets that are followed, and of what programs tell.

use super::*;
use mizar_abi::maps::{EVENT_FRAME, EventKind, FlowKey};

fn refused(turn: Turn, cause: Cause, says: &str) {
    let is_so = matches!(&turn, Turn::Refuse(why) if why.cause == cause && why.reason.contains(says));
    assert!(is_so, "{turn:?}");
}

fn watch(id: u128, port: u32) -> Watch {
    let destination = [10, 0, 0, 6].into();
    let (source, protocol, source_port, destination_port) = (None, None, None, None);
    Watch {
        id: Uuid::from_u128(id),
        port,
        owner: Uuid::from_u128(port.into()),
        source,
        destination,
        protocol,
        source_port,
        destination_port,
        within_ms: 10_000,
    }
}

fn hop() -> Hop {
    Hop {
        tai_ns: 37_000_001_000,
        src: [10, 0, 0, 5],
        dst: [10, 0, 0, 6],
        sport: 1000,
        dport: 80,
        proto: 6,
        ..Hop::default()
    }
}

fn event(reason: u32) -> Event {
    let (kind, flow, frame) = (EventKind::Traced as u32, FlowKey::default(), [0; EVENT_FRAME]);
    Event { kind, ep_id: 12, len: size_of::<Hop>() as u32, reason, flow, frame }
}

fn passed(hop: &Hop) -> Passed {
    read(&event(0), hop, 37).expect("a hop that is known")
}

fn at(hop: Hop) -> Then {
    passed(&Hop { flags: hop_flag::SENT, to: [172, 16, 0, 3], to_vni: 5, ..hop }).then
}

#[test]
fn a_packet_is_waited_for_once_however_often_one_asks() {
    let (mut book, now) = (Book::default(), Instant::now());
    let (one, other) = (watch(1, 12), watch(2, 13));
    assert_eq!(book.ask(&one, 7, now), Turn::Arm(7));
    assert_eq!(book.ask(&one, 8, now), Turn::Wait);
    assert_eq!(book.ask(&other, 9, now), Turn::Arm(9));
    // What came with a mark is not what is waited for here.
    assert_eq!(book.heard(0, passed(&hop()), now), None);
    assert_eq!(book.ask(&one, 8, now), Turn::Wait);
    assert_eq!(book.heard(7, passed(&hop()), now), Some((12, 7)));
    let late = now + Duration::from_millis(1_500);
    let Turn::Passed(seen) = book.ask(&one, 8, late) else { panic!("it has come") };
    assert_eq!((seen.serial, seen.age_ms), (2, 1_500));
    assert_eq!(book.heard(7, passed(&hop()), late), None, "it has come already");
    let Turn::Passed(again) = book.ask(&one, 8, late) else { panic!("it has come") };
    assert_eq!(again, seen);
}

#[test]
fn of_one_port_one_packet_is_waited_for_and_of_all_a_few() {
    let (mut book, now) = (Book::default(), Instant::now());
    for number in 0..WATCHES as u32 {
        assert_eq!(book.ask(&watch(number.into(), number), number + 1, now), Turn::Arm(number + 1));
    }
    refused(book.ask(&watch(90, 3), 90, now), Cause::Conflict, "another packet of the port");
    refused(book.ask(&watch(91, 99), 91, now), Cause::Busy, "the host waits for 16 packets");
    assert_eq!(book.heard(4, passed(&hop()), now), Some((3, 4)));
    assert_eq!(book.ask(&watch(92, 3), 92, now), Turn::Arm(92), "it has come");
    book.forget(Uuid::from_u128(92));
    assert_eq!(book.ask(&watch(93, 99), 93, now), Turn::Arm(93), "it was not armed");
    let over = now + Duration::from_secs(11);
    assert_eq!(book.ask(&watch(94, 99), 94, over), Turn::Arm(94), "nobody waits any more");
}

#[test]
fn an_owner_of_many_ports_leaves_places_to_others() {
    let (mut book, now) = (Book::default(), Instant::now());
    let of = |id: u128, port: u32, owner: u128| Watch { owner: Uuid::from_u128(owner), ..watch(id, port) };
    for number in 1..=OF_OWNER as u32 {
        assert_eq!(book.ask(&of(number.into(), number, 1), number, now), Turn::Arm(number));
    }
    refused(book.ask(&of(20, 20, 1), 20, now), Cause::Limit, "4 packets of the project");
    assert_eq!(book.ask(&of(21, 21, 2), 21, now), Turn::Arm(21));
    // Those that came are remembered, within bounds.
    for number in 1..=OF_OWNER as u32 {
        book.heard(number, passed(&hop()), now);
    }
    for number in 100..100 + (LATELY - OF_OWNER) as u32 {
        assert_eq!(book.ask(&of(number.into(), 1, 1), number, now), Turn::Arm(number));
        book.heard(number, passed(&hop()), now);
    }
    refused(book.ask(&of(300, 1, 1), 300, now), Cause::Limit, "in a minute");
    assert_eq!(book.ask(&of(301, 22, 2), 301, now), Turn::Arm(301));
    book.tidy(now + Duration::from_secs(71));
    assert_eq!(book.ask(&of(302, 1, 1), 302, now + Duration::from_secs(71)), Turn::Arm(302));
}

#[test]
fn what_is_over_is_ended_once_and_forgotten_after_a_minute() {
    let (mut book, now) = (Book::default(), Instant::now());
    book.ask(&watch(1, 12), 7, now);
    book.heard(0, passed(&hop()), now);
    assert!(book.tidy(now + Duration::from_secs(9)).is_empty());
    assert_eq!(book.tidy(now + Duration::from_secs(10)), [(12, 7)]);
    let later = now + Duration::from_secs(11);
    assert!(book.tidy(later).is_empty());
    assert_eq!(book.ask(&watch(1, 12), 8, later), Turn::Wait, "a late question arms it again");
    // One that came at the last moment is told.
    assert_eq!(book.heard(7, passed(&hop()), later), Some((12, 7)));
    assert!(matches!(book.ask(&watch(1, 12), 8, later), Turn::Passed(_)));
    let packet = passed(&hop()).packet;
    assert_eq!(book.followed(&packet, later).len(), 2);
    assert!(book.tidy(now + Duration::from_secs(60)).is_empty());
    assert_eq!(book.followed(&packet, later).len(), 1);
    book.tidy(now + Duration::from_secs(71));
    assert_eq!(book.followed(&packet, later).len(), 0);
    assert_eq!(book.ask(&watch(1, 12), 8, later), Turn::Arm(8));
}

#[test]
fn a_watch_that_is_over_is_named_though_another_of_its_port_has_begun() {
    let (mut book, now) = (Book::default(), Instant::now());
    book.ask(&watch(1, 12), 7, now);
    let later = now + Duration::from_secs(11);
    assert_eq!(book.ask(&watch(2, 12), 8, later), Turn::Arm(8));
    assert_eq!(book.tidy(later), [(12, 7)]);
    assert_eq!(book.heard(8, passed(&hop()), later), Some((12, 8)));
}

#[test]
fn a_packet_is_found_by_its_headers_the_oldest_first_and_floods_are_forgotten() {
    let (mut book, now) = (Book::default(), Instant::now());
    let other = passed(&Hop { dport: 81, ..hop() });
    for _ in 0..2 * HOPS {
        book.heard(0, other.clone(), now);
    }
    book.heard(0, passed(&hop()), now);
    book.heard(0, passed(&hop()), now);
    let serials: Vec<u64> = book.followed(&passed(&hop()).packet, now).iter().map(|one| one.serial).collect();
    assert_eq!(serials, [2 * HOPS as u64 + 1, 2 * HOPS as u64 + 2]);
    let flood = book.followed(&other.packet, now);
    assert_eq!((flood.len(), flood.last().map(|one| one.serial)), (PASSED, Some(2 * HOPS as u64)));
    assert!(book.hops.len() <= HOPS);
}

#[test]
fn what_a_program_says_is_read_as_what_it_did() {
    let from = Hop { came: option::Kind::Req as u8, from: [172, 16, 0, 1], from_vni: 5, ..hop() };
    let seen = passed(&from);
    assert_eq!(seen.came, Came::From { host: [172, 16, 0, 1].into(), vni: 5, kind: Kind::Request });
    assert_eq!((seen.at_us, seen.number, seen.then), (1, 80, Then::Deliver { port: 12 }));
    assert_eq!(passed(&hop()).came, Came::Sent);
    let host = [172, 16, 0, 3].into();
    let said = |kind: option::Kind, code: u8| Hop { kind: kind as u8, code, option_flags: flag::TRACED, ..hop() };
    let request = Request { vni: 5, identity: 0, flags: 0, tries: 2, source_port: 0 };
    assert_eq!(at(said(option::Kind::Req, 2)), Then::Ask { host, request });
    let mut admitted = said(option::Kind::Admitted, 9);
    (admitted.ep_id, admitted.epoch) = (12, 70);
    let admission = Admission { vni: 5, port: 12, epoch: 70, mark: 9, reply_only: false };
    assert_eq!(at(admitted), Then::Admit { host, admission });
    admitted.option_flags |= flag::REPLY_ONLY;
    assert_eq!(at(admitted), Then::Admit { host, admission: Admission { reply_only: true, ..admission } });
    assert_eq!(at(said(option::Kind::Ack, code::DIRECT)), Then::Direct { host, vni: 5 });
    for (number, why) in [
        (code::NO_FLOW, Why::NoFlow),
        (code::MOVED, Why::Moved),
        (code::EPOCH, Why::Rules),
        (code::IDENTITY, Why::Identity { identity: 0 }),
    ] {
        assert_eq!(at(said(option::Kind::Return, number)), Then::Return { host, vni: 5, why });
    }
    for (number, name) in [(code::POLICY, "refused"), (code::UNREACHABLE, "unreachable")] {
        let then = at(said(option::Kind::Denied, number));
        assert!(matches!(&then, Then::Deny { reason, .. } if reason == name), "{then:?}");
    }
    let dropped = read(&event(Drop::Spoof as u32), &hop(), 0).expect("a hop that is known");
    assert!(matches!(&dropped.then, Then::Drop { reason, .. } if reason == "spoof"), "{dropped:?}");
    // What this version does not know is nothing.
    assert!(read(&event(250), &hop(), 0).is_none());
    for unknown in [Hop { came: 9, ..hop() }, Hop { kind: 99, flags: hop_flag::SENT, ..hop() }] {
        assert!(read(&event(0), &unknown, 0).is_none());
    }
}

#[test]
fn only_what_was_given_counts() {
    let any = pattern(&watch(1, 12), 7, 100);
    assert_eq!((any.id, any.until, any.dst, any.given), (7, 110, [10, 0, 0, 6], 0));
    let one =
        Watch { source: Some([10, 0, 0, 5].into()), protocol: Some(0), destination_port: Some(0), ..watch(1, 12) };
    let one = pattern(&one, 7, 100);
    assert_eq!((one.src, one.given), ([10, 0, 0, 5], watch_flag::SRC | watch_flag::PROTO | watch_flag::PORT));
    assert_eq!(pattern(&Watch { source_port: Some(9), ..watch(1, 12) }, 7, 100).given, watch_flag::SPORT);
}
