//! Texts as messages: of agents, of the API, of those who attach ports.
//!
//! The first byte says which; what is understood is written, and must be understood as the same.

use mizar_wire::{
    ask,
    body::Body,
    entry::{Change, Kind, Scope},
    local, sync,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

type Read = fn(&[u8]);

const READERS: [(&str, Read); 13] = [
    ("Register", whole::<sync::Register>),
    ("Registered", whole::<sync::Registered>),
    ("SyncRequest", whole::<sync::SyncRequest>),
    ("SyncReply", whole::<sync::SyncReply>),
    ("SnapshotPage", whole::<sync::SnapshotPage>),
    ("Change", change),
    ("Call", whole::<local::Call>),
    ("Answer", whole::<local::Answer>),
    ("Poll", whole::<ask::Poll>),
    ("Questions", whole::<ask::Questions>),
    ("Answered", whole::<ask::Answered>),
    ("asked", question),
    ("answered", answer),
];

pub fn run(bytes: &[u8]) {
    if let [which, text @ ..] = bytes {
        let (_, read) = READERS[usize::from(*which) % READERS.len()];
        read(text);
    }
}

fn whole<T: Serialize + DeserializeOwned>(text: &[u8]) {
    if let Ok(message) = serde_json::from_slice::<T>(text) {
        comes_back(&message);
    }
}

fn written<T: Serialize>(message: &T) -> Value {
    serde_json::to_value(message).expect("what was read can be written")
}

fn comes_back<T: Serialize + DeserializeOwned>(message: &T) {
    let value = written(message);
    let again: T = serde_json::from_value(value.clone()).expect("what was written can be read");
    assert_eq!(written(&again), value, "as it was");
}

/// A change is read in two steps: its body by its kind.
fn change(text: &[u8]) {
    let Ok(change) = serde_json::from_slice::<Change>(text) else { return };
    comes_back(&change);
    if let Some(scope) = Scope::from_i64(change.scope) {
        assert_eq!(scope.to_i64(), change.scope);
    }
    if let (Some(kind), Some(body)) = (Kind::from_i16(change.kind), change.body)
        && let Ok(body) = Body::from_value(kind, body)
    {
        assert_eq!(body.kind(), kind);
        let value: Value = serde_json::from_slice(&body.to_bytes()).expect("JSON");
        assert_eq!(Body::from_value(kind, value).expect("our own"), body);
    }
}

fn question(text: &[u8]) {
    if let Ok(question) = serde_json::from_slice(text).map(ask::Question::from_value)
        && let Ok(question) = question
    {
        assert_eq!(ask::Question::from_value(question.to_value()).expect("our own"), question);
    }
}

fn answer(text: &[u8]) {
    if let Ok(answer) = serde_json::from_slice(text).map(ask::Answer::from_value)
        && let Ok(answer) = answer
    {
        assert_eq!(ask::Answer::from_value(answer.to_value()).expect("our own"), answer);
    }
    // Whatever an agent says why it refuses can be told on.
    let refused = ask::Answer::refused(&String::from_utf8_lossy(text));
    assert!(ask::Answer::from_value(refused.to_value()).is_ok(), "{refused:?} cannot be told on");
}

/// One of each that is short.
pub fn seeds() -> Vec<Vec<u8>> {
    let id = "00000000-0000-0000-0000-000000000001";
    let change =
        |kind: i16, body: Value| json!({"scope": 1i64 << 32, "slot": 0, "kind": kind, "key": "00000001", "body": body});
    let network = change(3, json!({"id": id, "vni": 7, "mtu": 1400}));
    let wiring = json!({"port": 3, "generation": 1});
    let seed = |name: &str, value: &Value| {
        let which = READERS.iter().position(|(reader, _)| *reader == name).expect("a reader's name");
        [&[which as u8][..], value.to_string().as_bytes()].concat()
    };
    vec![
        seed(
            "Register",
            &json!({"protocol": 1, "abi": 1, "boot_id": "b", "version": "0.1.0", "underlay": "172.31.0.11", "mtu": 1500,
                "az": "az1", "rack": "r1", "transit_hook": "tcx"}),
        ),
        seed(
            "SyncRequest",
            &json!({"protocol": 1, "abi": 1, "boot_id": "b", "epoch": "e", "cursor": "1:1:", "wait_s": 9,
                "ack": {"cursor": "1:1:", "failures": [{"scope": 1, "kind": 1, "key": "00", "reason": "why"}]},
                "ports": {"wired": [wiring], "lost": []}, "ports_complete": true}),
        ),
        seed(
            "SyncReply",
            &json!({"epoch": "e", "cursor": "1:1:", "server_ms": 1, "changes": [network], "scopes_added": [],
                "scopes_dropped": []}),
        ),
        seed(
            "SnapshotPage",
            &json!({"epoch": "e", "cursor": "1:1:", "scopes": [], "entries": [network], "next": null, "confirmed": false}),
        ),
        seed("Change", &network),
        seed("Change", &change(1, json!({"number": 1, "name": "h1", "underlay": "172.31.0.11"}))),
        seed("Change", &change(6, json!({"vni": 7}))),
        seed(
            "Call",
            &json!({"attach": {"port": id, "kind": {"container": {"netns": "/run/netns/x", "ifname": "eth0"}}}}),
        ),
        seed("asked", &json!({"drops": {"ports": [1, 2]}})),
        seed("asked", &json!({"maps": {}})),
        seed("answered", &json!({"refused": {"reason": "no"}})),
        seed("answered", &json!({"maps": [{"map": "FLOW_EST", "entries": 5, "most": 8}]})),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A seed that nobody understands would be the beginning of nothing.
    #[test]
    fn seeds_are_understood() {
        for seed in seeds() {
            let (name, _) = READERS[usize::from(seed[0])];
            let text = &seed[1..];
            let understood = match name {
                "Register" => serde_json::from_slice::<sync::Register>(text).map(drop),
                "SyncRequest" => serde_json::from_slice::<sync::SyncRequest>(text).map(drop),
                "SyncReply" => serde_json::from_slice::<sync::SyncReply>(text).map(drop),
                "SnapshotPage" => serde_json::from_slice::<sync::SnapshotPage>(text).map(drop),
                "Call" => serde_json::from_slice::<local::Call>(text).map(drop),
                "asked" => serde_json::from_slice::<ask::Question>(text).map(drop),
                "answered" => serde_json::from_slice::<ask::Answer>(text).map(drop),
                _ => serde_json::from_slice::<Change>(text).map(|change| {
                    let kind = Kind::from_i16(change.kind).expect("a kind");
                    Body::from_value(kind, change.body.expect("a body")).map(drop).expect("a body of its kind");
                }),
            };
            assert!(understood.is_ok(), "{name}: {understood:?}");
        }
    }
}
