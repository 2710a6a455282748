//! Questions to hosts and their answers: what travels, and what is refused.

use mizar_wire::ask::{Answer, Cause, Fill, Flow, FlowLog, FlowState, Flows, MAP, MAPS, PORTS, Question, TEXT};
use mizar_wire::log::{Decider, Direction, Ended, Logged, READ, Verdict};
use mizar_wire::trace::{self, At, LOOKS, Look, Packet, RULES, Then};
use serde_json::json;
use uuid::Uuid;

fn look() -> Look {
    Look { table: "EP".into(), entry: String::new(), says: "there".into(), rules: Vec::new() }
}

fn trace(looks: Vec<Look>) -> Answer {
    Answer::Trace(trace::Answer { looks, then: Then::Return })
}

fn logged() -> Logged {
    Logged {
        port: 7,
        start_ms: 1,
        end_ms: 2,
        direction: Direction::Egress,
        source: "10.0.0.1".parse().expect("an address"),
        destination: "10.0.0.2".parse().expect("an address"),
        protocol: 6,
        source_port: 40_000,
        destination_port: 443,
        judged: 443,
        verdict: Verdict::Deny,
        reason: Some("policy".into()),
        decided_by: Some(Decider::Peer),
        rules: None,
        packets_out: 1,
        bytes_out: 60,
        packets_in: 0,
        bytes_in: 0,
        ended: Some(Ended::Denied),
    }
}

fn log(records: Vec<Logged>) -> Answer {
    Answer::FlowLog(FlowLog { records, left_out: 0 })
}

fn fill(map: &str, entries: u32, most: u32) -> Fill {
    Fill { map: map.into(), entries, most }
}

fn ask_log(ports: Vec<u32>, limit: u32) -> Question {
    Question::FlowLog { ports, since_ms: Some(5), limit }
}

#[test]
fn words_of_the_flow_log_are_written_as_they_travel() {
    fn written<T: serde::Serialize>(words: &[T]) -> Vec<String> {
        words.iter().map(|word| json!(word).as_str().expect("a word").to_owned()).collect()
    }
    assert_eq!(written(&Ended::ALL), Ended::ALL.map(Ended::as_str));
    assert_eq!(written(&Decider::ALL), Decider::ALL.map(Decider::as_str));
    assert_eq!(written(&Verdict::ALL), Verdict::ALL.map(Verdict::as_str));
    assert_eq!(written(&Direction::ALL), Direction::ALL.map(Direction::as_str));
}

#[test]
fn questions_and_answers_travel_and_come_back_the_same() {
    let packet = Packet {
        source: [10, 0, 0, 1].into(),
        destination: [10, 0, 0, 2].into(),
        protocol: 6,
        source_port: 1,
        destination_port: 2,
    };
    let at = At::Leave { port: 7, identity: None, tries: 0 };
    let flows = Question::Flows { ports: vec![3] };
    let log_of = ask_log(vec![3], READ);
    let drops = Question::Drops { ports: vec![1, 2] };
    for question in [drops, Question::Trace(trace::Question { packet, at }), flows, log_of, Question::Maps {}] {
        assert_eq!(Question::from_value(question.to_value()).expect("it is known"), question);
    }
    let flow = Flow {
        port: 7,
        local: packet.source.into(),
        remote: packet.destination.into(),
        protocol: 6,
        local_port: 443,
        remote_port: 40_000,
        state: FlowState::Established,
        egress: None,
        ingress: Some(443),
        peer: 3,
        idle_s: 1,
    };
    let flows = Answer::Flows(Flows { flows: vec![flow], left_out: 2 });
    let refused = Answer::Refused { reason: "no".into(), cause: Some(Cause::Busy) };
    let maps = Answer::Maps(vec![fill("FLOW_EST", 7, 7)]);
    for answer in [trace(vec![look()]), Answer::Drops(vec![]), flows, log(vec![logged()]), maps, refused] {
        assert_eq!(Answer::from_value(answer.to_value()).expect("it is known"), answer);
    }
}

#[test]
fn what_is_unknown_is_refused_at_every_level() {
    for bad in [
        json!({"drops": {"ports": [], "hosts": []}}),
        json!({"drops": {"ports": [-1]}}),
        json!({"flows": {"ports": []}}),
        json!({"flows": {"ports": [1], "of": "all"}}),
        ask_log(vec![], 1).to_value(),
        ask_log(vec![1], 0).to_value(),
        json!({"flow_log": {"ports": [1], "limit": 1, "since": "yesterday"}}),
        json!({"reboot": {}}),
        json!("maps"),
        json!({"maps": {"of": "all"}}),
        json!({"trace": {"packet": {}, "at": {}}}),
        json!({"drops": {"ports": []}, "trace": {}}),
    ] {
        assert!(Question::from_value(bad.clone()).is_err(), "{bad}");
    }
    for bad in [
        json!({"trace": {"looks": [], "then": "return", "more": 1}}),
        json!({"trace": {"looks": [], "then": {"deliver": {"port": 1, "host": 2}}}}),
        json!({"drops": [{"port": 1, "reason": "a", "about": "b", "packets": -1, "bytes": 0, "samples": []}]}),
        json!({"flows": {"flows": [{"port": 1}], "left_out": 0}}),
        json!({"maps": [{"map": "EP", "entries": 1}]}),
        json!({"maps": [{"map": "EP", "entries": 1, "most": 2, "more": 3}]}),
        json!({"maps": [{"map": "EP", "entries": -1, "most": 2}]}),
    ] {
        assert!(Answer::from_value(bad.clone()).is_err(), "{bad}");
    }
}

#[test]
fn nothing_is_longer_than_it_may_be() {
    let ports = vec![1; PORTS + 1];
    let logs = [ask_log(ports.clone(), 1), ask_log(vec![1], READ + 1)];
    for question in [Question::Drops { ports: ports.clone() }, Question::Flows { ports }].into_iter().chain(logs) {
        assert!(Question::from_value(question.to_value()).is_err());
    }
    let long = Look { says: "x".repeat(TEXT + 1), ..look() };
    let many = Look { rules: vec![Uuid::nil(); RULES + 1], ..look() };
    let reason = Logged { reason: Some("x".repeat(TEXT + 1)), ..logged() };
    let rules = Logged { rules: Some(vec![Uuid::nil(); RULES + 1]), ..logged() };
    let logs = [vec![reason], vec![rules], vec![logged(); READ as usize + 1]].map(log);
    for answer in [trace(vec![long]), trace(vec![many]), trace(vec![look(); LOOKS + 1])].into_iter().chain(logs) {
        assert!(Answer::from_value(answer.to_value()).is_err());
    }
    let most = Look { says: "x".repeat(TEXT), rules: vec![Uuid::nil(); RULES], ..look() };
    assert!(Answer::from_value(trace(vec![most; LOOKS]).to_value()).is_ok());
}

#[test]
fn of_every_map_a_share_can_be_made_and_its_name_be_read() {
    let read = |fills: Vec<Fill>| Answer::from_value(Answer::Maps(fills).to_value());
    let longest = "M".repeat(MAP);
    assert!(read(vec![fill(&longest, 0, 1); MAPS]).is_ok());
    assert!(read(vec![fill("EP", 0, 1); MAPS + 1]).is_err(), "too many");
    let names = ["", "ep", "E P", "EP\n", "É", &format!("{longest}M")].map(|name| fill(name, 0, 1));
    for bad in names.into_iter().chain([fill("EP", 0, 0), fill("EP", 3, 2)]) {
        assert!(read(vec![bad.clone()]).is_err(), "{bad:?}");
    }
}

#[test]
fn texts_that_steer_a_terminal_are_refused() {
    for text in ["\u{1b}[2J", "\u{1b}]0;title\u{7}", "a\nb", "a\u{0}b", "\u{9b}2J", "\u{202e}llew si lla"] {
        let drops = |reason: &str, about: &str| json!({"drops": [{"port": 1, "reason": reason, "about": about, "packets": 1, "bytes": 1, "samples": []}]});
        for bad in [
            Answer::Refused { reason: text.into(), cause: None }.to_value(),
            trace(vec![Look { says: text.into(), ..look() }]).to_value(),
            trace(vec![Look { entry: text.into(), ..look() }]).to_value(),
            log(vec![Logged { reason: Some(text.into()), ..logged() }]).to_value(),
            drops(text, ""),
            drops("spoof", text),
        ] {
            assert!(Answer::from_value(bad.clone()).is_err(), "{bad}");
        }
        // An agent that quotes it makes it readable first.
        let refused = Answer::refused(&text.repeat(TEXT));
        assert_eq!(Answer::from_value(refused.to_value()).expect("it is read"), refused);
    }
}
