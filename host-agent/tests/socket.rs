//! The local socket against callers who send anything: each line gets one answer, nothing that was
//! sent is silently ignored, and nothing but a call does anything.

mod common;

use common::links::FakeLinks;
use common::world;
use mizar_agent::attach::Attacher;
use mizar_agent::core::{Core, Shared};
use mizar_agent::dataplane::Dataplane as _;
use mizar_agent::dataplane::memory::Memory;
use mizar_agent::ledger::Ledger;
use mizar_agent::socket::{self, Server};
use mizar_agent::status::Observer;
use mizar_wire::local::{Answer, AttachKind, Call};
use proptest::prelude::*;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::sync::mpsc;

/// A server over an agent in memory, whose interfaces are these.
fn serve(dir: &std::path::Path) -> (FakeLinks, Memory) {
    let (links, plane) = (FakeLinks::default(), Memory::default());
    let (ledger, _) = Ledger::open(dir).unwrap();
    let (chores, _) = mpsc::unbounded_channel();
    let core = Shared::new(Core::new(world::identity(), Box::new(plane.clone()), ledger, &[], chores));
    let attacher = Attacher::new(core.clone(), links.clone(), plane.guard());
    let observer = Observer::new(None, "tcx");
    tokio::spawn(Server { core, attacher, observer }.run(socket::bind(&dir.join("socket")).unwrap()));
    (links, plane)
}

/// Sends each line on a connection; returns the answers.
fn answers(lines: Vec<Vec<u8>>) -> Vec<Answer> {
    // Time is paused: whoever waits for a port's entry has waited long enough at once.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let dir = tempfile::tempdir().unwrap();
        let (links, plane) = serve(dir.path());
        let mut answers = Vec::new();
        for line in lines {
            let (read, mut write) = UnixStream::connect(dir.path().join("socket")).await.unwrap().into_split();
            let sender = async {
                // The server may have had enough before the end.
                let _ = write.write_all(&line).await;
                let _ = write.shutdown().await;
            };
            let mut read = BufReader::new(read);
            let receiver = async {
                let mut text = String::new();
                read.read_line(&mut text).await.unwrap();
                let mut more = Vec::new();
                // A server that refused closes on what it did not read.
                let _ = read.read_to_end(&mut more).await;
                assert!(more.is_empty(), "a second answer: {}", String::from_utf8_lossy(&more));
                text
            };
            let ((), text) = tokio::join!(sender, receiver);
            answers.push(serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text:?}")));
        }
        assert!(links.0.lock().unwrap().there.is_empty(), "an interface was left behind");
        assert!(plane.content().maps.is_empty(), "a map was written");
        answers
    })
}

fn call() -> impl Strategy<Value = Call> {
    let text = || "[ -~]{0,20}";
    let kind = prop_oneof![
        Just(AttachKind::Tap),
        text().prop_map(|ifname| AttachKind::Host { ifname }),
        (text(), text()).prop_map(|(netns, ifname)| AttachKind::Container { netns, ifname }),
    ];
    let port = any::<u128>().prop_map(uuid::Uuid::from_u128);
    prop_oneof![
        (port.clone(), kind).prop_map(|(port, kind)| Call::Attach { port, kind }),
        port.prop_map(|port| Call::Detach { port }),
        Just(Call::Status),
        Just(Call::Dump),
    ]
}

/// A call with some of its bytes replaced, removed, or written twice.
fn nearly_a_call() -> impl Strategy<Value = Vec<u8>> {
    let edit = (any::<prop::sample::Index>(), 0..3_u8, any::<u8>());
    (call(), prop::collection::vec(edit, 1..4)).prop_map(|(call, edits)| {
        let mut bytes = serde_json::to_vec(&call).unwrap();
        for (at, what, byte) in edits {
            let at = at.index(bytes.len());
            match what {
                0 => bytes[at] = byte,
                1 if bytes.len() > 1 => drop(bytes.remove(at)),
                _ => bytes.insert(at, bytes[at]),
            }
        }
        bytes.retain(|byte| *byte != b'\n');
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn every_line_gets_one_answer_and_only_a_call_another_than_an_error(
        lines in prop::collection::vec(prop_oneof![
            nearly_a_call(),
            call().prop_map(|call| serde_json::to_vec(&call).unwrap()),
            prop::collection::vec(any::<u8>().prop_filter("one line", |byte| *byte != b'\n'), 1..200),
        ], 1..20)
    ) {
        for (line, answer) in lines.iter().zip(answers(lines.clone())) {
            let call = serde_json::from_slice::<Call>(line).ok();
            let fits = match (&call, &answer) {
                // No port is here.
                (None | Some(Call::Attach { .. }), Answer::Error { .. }) => true,
                (Some(Call::Detach { .. }), Answer::Detached) => true,
                (Some(Call::Status), Answer::Status(_)) => true,
                (Some(Call::Dump), Answer::Dump(_)) => true,
                _ => false,
            };
            prop_assert!(fits, "{call:?} {answer:?}");
        }
    }
}

proptest! {
    #[test]
    fn what_is_taken_for_a_call_says_nothing_else(line in nearly_a_call()) {
        let Ok(call) = serde_json::from_slice::<Call>(&line) else { return Ok(()) };
        let mut sent: serde_json::Value = serde_json::from_slice(&line).unwrap();
        // A UUID may be written in several ways.
        for of in ["attach", "detach"] {
            if let Some(port) = sent.get_mut(of).and_then(|fields| fields.get_mut("port")) {
                let parsed: uuid::Uuid = port.as_str().unwrap().parse().unwrap();
                *port = parsed.to_string().into();
            }
        }
        prop_assert_eq!(sent, serde_json::to_value(&call).unwrap());
    }
}

#[test]
fn hostile_lines_are_refused_whatever_their_size_and_depth() {
    let attach = |kind: &str| format!(r#"{{"attach":{{"port":"{}","kind":{kind}}}}}"#, world::port_id(5)).into_bytes();
    let long = format!(r#"{{"host":{{"ifname":"{}"}}}}"#, "x".repeat(1 << 20));
    let lines = vec![
        b"\n".to_vec(),
        b"[".repeat(60_000),
        br#"{"attach":"#.repeat(5_000),
        b"\xff\xfe\x00".to_vec(),
        b"9".repeat(60_000),
        attach(&long),
        attach(r#"{"tap":{}}"#),
        attach(r#"{"host":{"ifname":"a","ifname":"b"}}"#),
        attach(r#"{"host":{"ifname":"a"},"tap":null}"#),
        attach(r#"{"container":{"netns":"/x"}}"#),
        attach("null"),
    ];
    for (line, answer) in lines.clone().into_iter().zip(answers(lines)) {
        let start = String::from_utf8_lossy(&line[..line.len().min(60)]).into_owned();
        let Answer::Error { message } = answer else { panic!("{start}: {answer:?}") };
        assert!(message.starts_with("not a call") || message.starts_with("a call has at most"), "{start}: {message}");
    }
}
