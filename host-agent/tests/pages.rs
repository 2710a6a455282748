//! A snapshot in pages: between any two of them packets pass, and none of them may make a flow look allowed by
//! rules that are not here yet.

mod common;

use common::api::change;
use common::world;
use ipnet::IpNet;
use mizar_abi::maps::{Epoch, epoch_flag};
use mizar_agent::core::{Core, Snapshot};
use mizar_agent::dataplane::memory::Memory;
use mizar_agent::ledger::{Found, Ledger};
use mizar_plan::{Key, Value};
use mizar_wire::body::{self, Body};
use mizar_wire::entry::Change;
use mizar_wire::sync::SnapshotPage;
use mizar_wire::{EntryKey, Kind, Scope};
use std::path::Path;
use tokio::sync::mpsc;
use uuid::Uuid;

const PROJECT: u32 = 1;

struct Agent {
    core: Core,
    plane: Memory,
}

impl Agent {
    fn start(plane: Memory, dir: &Path) -> Self {
        let (ledger, found) = Ledger::open(dir).unwrap();
        let batches = match found {
            Found::Batches(batches) => batches,
            Found::Nothing | Found::Unusable(_) => vec![],
        };
        let (chores, _) = mpsc::unbounded_channel();
        let mut core = Core::new(world::identity(), Box::new(plane.clone()), ledger, &batches, chores);
        core.take_over(vec![]).unwrap();
        Self { core, plane }
    }

    fn page(&mut self, snapshot: &mut Snapshot, entries: &[Change]) {
        let page = SnapshotPage {
            epoch: "e".into(),
            cursor: "1".into(),
            scopes: vec![],
            entries: entries.to_vec(),
            next: None,
            confirmed: false,
        };
        self.core.page(snapshot, page).unwrap();
    }

    fn snapshot(&mut self, entries: &[Change], confirmed: bool) {
        let mut snapshot = Snapshot::default();
        self.page(&mut snapshot, entries);
        self.core.prune(snapshot, confirmed).unwrap();
    }

    fn epoch(&self, set: u32) -> Option<Epoch> {
        match self.plane.content().maps.get(&Key::Epoch(set)) {
            Some(Value::Epoch(epoch)) => Some(*epoch),
            _ => None,
        }
    }

    /// The generation of a set whose rules are all here.
    fn proven(&self, set: u32) -> Option<u32> {
        self.epoch(set).filter(|epoch| epoch.flags & epoch_flag::WAITS == 0).map(|epoch| epoch.n)
    }
}

fn entry(scope: Scope, body: Body) -> (EntryKey, Body) {
    (EntryKey { scope, slot: 0, kind: body.kind(), key: vec![0, 0, 0, 1] }, body)
}

/// In the order in which they come.
fn changes(mut entries: Vec<(EntryKey, Body)>) -> Vec<Change> {
    entries.sort_by(|a, b| a.0.cmp(&b.0));
    entries.iter().map(|(key, body)| change(key, Some(body))).collect()
}

/// A port whose group lets in what an address group has, at this generation of the group.
fn grouped(generation: u32, addresses: &[&str]) -> Vec<Change> {
    let from = body::Remote::AddressGroup(7);
    let rule = body::Rule { id: Uuid::nil(), ipv6: false, protocol: Some(6), ports: [1, 9], remote: from };
    let of = |rules| body::Group { number: world::GROUP, generation, stateless: false, rules };
    let addresses: Vec<IpNet> = addresses.iter().map(|net| net.parse().unwrap()).collect();
    let own = [
        entry(Scope::Group(world::GROUP), Body::Group(of(vec![rule.clone()]))),
        entry(Scope::Member(world::GROUP), Body::Member(of(vec![rule]))),
        entry(Scope::AddressGroup(7), Body::AddressGroup(body::AddressGroup { number: 7, addresses })),
    ];
    changes([world::cloud(), world::member(world::HOST, 5), own.to_vec()].concat())
}

/// A port with labels, which policies in so many namespaces are about; none of the others is.
fn labelled(generation: u32, namespaces: &[&str]) -> Vec<Change> {
    let labels =
        body::Labels { namespace: "a".into(), namespace_labels: Default::default(), labels: Default::default() };
    let set = || body::GroupSet {
        number: world::SET,
        groups: vec![],
        labels: Some(Box::new(body::Labelled { project: PROJECT, labels: labels.clone() })),
    };
    let with = |(key, body)| match body {
        Body::Port(port) => (key, Body::Port(body::Port { set: Some(set()), ..port })),
        Body::Bounce(bounce) => (key, Body::Bounce(body::Bounce { set: Some(set()), ..bounce })),
        other => (key, other),
    };
    let mut all = world::cloud();
    all.extend(world::port(5, 1).into_iter().map(with));
    for (n, namespace) in (1..).zip(namespaces) {
        let rule = body::LabelRule { peers: vec![], ports: vec![] };
        let (namespace, ports) = ((*namespace).to_owned(), Default::default());
        let policy = body::LabelPolicy { id: Uuid::nil(), project: PROJECT, namespace, ports, rules: vec![rule] };
        let key = |scope, kind| EntryKey { scope, slot: 0, kind, key: vec![n] };
        all.push((key(Scope::LabelIngress(PROJECT), Kind::LabelIngress), Body::LabelIngress(policy.clone())));
        all.push((key(Scope::LabelEgress(PROJECT), Kind::LabelEgress), Body::LabelEgress(policy)));
    }
    for scope in [Scope::LabelIngress(PROJECT), Scope::LabelEgress(PROJECT)] {
        let of = body::LabelGeneration { project: PROJECT, generation };
        all.push(entry(scope, Body::LabelGeneration(of)));
    }
    changes(all)
}

#[test]
fn no_page_of_a_snapshot_brings_a_generation_before_all_that_it_vouches_for() {
    let stories = [
        (grouped(1, &["10.0.0.1/32", "10.0.0.2/32"]), grouped(2, &["10.0.0.1/32"])),
        // The policy of "a" is one of those that are gone.
        (labelled(1, &["b", "a"]), labelled(2, &["b"])),
    ];
    for (before, after) in stories {
        for restarts in [false, true] {
            for cut in 0..=after.len() {
                let (plane, dir) = (Memory::default(), tempfile::tempdir().unwrap());
                let mut agent = Agent::start(plane.clone(), dir.path());
                agent.core.registered(world::HOST);
                agent.snapshot(&before, false);
                let first = agent.proven(world::SET).expect("all is there");
                let mut snapshot = Snapshot::default();
                for page in [&after[..cut], &after[cut..]] {
                    agent.page(&mut snapshot, page);
                    let epoch = agent.epoch(world::SET).expect("the set is known");
                    assert_eq!(epoch.n, first, "cut at {cut}");
                    if restarts {
                        agent = Agent::start(plane.clone(), dir.path());
                        assert_eq!(
                            agent.epoch(world::SET).map(|epoch| epoch.n),
                            Some(first),
                            "cut at {cut}, restarted"
                        );
                    }
                }
                agent.core.prune(snapshot, false).unwrap();
                assert!(agent.proven(world::SET).is_some_and(|n| n != first), "cut at {cut}: it is whole");
            }
        }
    }
}

#[test]
fn while_a_snapshot_is_doubted_what_it_would_take_rules_from_keeps_its_generation() {
    let dir = tempfile::tempdir().unwrap();
    let mut agent = Agent::start(Memory::default(), dir.path());
    agent.core.registered(world::HOST);
    let others: Vec<(EntryKey, Body)> = (20..60).flat_map(|number| world::port_on(8, number, 1)).collect();
    let with = |mut all: Vec<Change>| {
        all.extend(changes(others.clone()));
        all
    };
    agent.snapshot(&with(labelled(1, &["b", "a"])), false);
    let first = agent.proven(world::SET).expect("all is there");
    agent.snapshot(&labelled(2, &["b"]), false);
    assert!(agent.core.is_in_doubt());
    assert_eq!(agent.epoch(world::SET).map(|epoch| epoch.n), Some(first));
    agent.snapshot(&labelled(2, &["b"]), true);
    assert!(!agent.core.is_in_doubt());
    assert!(agent.proven(world::SET).is_some_and(|n| n != first));
}
