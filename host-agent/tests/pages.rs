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
use mizar_plan::{Key, Table, Value};
use mizar_wire::body::{self, Body};
use mizar_wire::entry::Change;
use mizar_wire::sync::{SnapshotPage, SyncReply};
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

    /// What changes, by the feed.
    fn sync(&mut self, changes: Vec<Change>) {
        let (scopes_added, scopes_dropped) = (vec![], vec![]);
        let (epoch, cursor) = ("e".into(), "2".into());
        self.core.sync(SyncReply { epoch, cursor, server_ms: 0, changes, scopes_added, scopes_dropped });
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

/// The rule of a group: up to this port from what an address group has.
fn rules(generation: u32, last: u16) -> Vec<(EntryKey, Body)> {
    let from = body::Remote::AddressGroup(7);
    let rule = body::Rule { id: Uuid::nil(), ipv6: false, protocol: Some(6), ports: [1, last], remote: from };
    let of = |rules| body::Group { number: world::GROUP, generation, stateless: false, rules };
    [
        entry(Scope::Group(world::GROUP), Body::Group(of(vec![rule.clone()]))),
        entry(Scope::Member(world::GROUP), Body::Member(of(vec![rule]))),
    ]
    .to_vec()
}

/// A port whose group lets in what an address group has, at this generation of the group.
fn grouped(generation: u32, addresses: &[&str]) -> Vec<Change> {
    let addresses: Vec<IpNet> = addresses.iter().map(|net| net.parse().unwrap()).collect();
    let addresses = Body::AddressGroup(body::AddressGroup { number: 7, addresses });
    let own = [world::member(world::HOST, 5), rules(generation, 9), vec![entry(Scope::AddressGroup(7), addresses)]];
    changes([world::cloud(), own.concat()].concat())
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
        (grouped(1, &["10.0.0.1/32", "10.0.0.2/32"]), grouped(3, &["10.0.0.1/32"])),
        // The policy of "a" is one of those that are gone.
        (labelled(1, &["b", "a"]), labelled(3, &["b"])),
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
                    assert!([first, first + 1].contains(&epoch.n), "cut at {cut}: {epoch:?}");
                    assert!(epoch.n == first || agent.proven(world::SET).is_none(), "cut at {cut}: {epoch:?}");
                    if restarts {
                        agent = Agent::start(plane.clone(), dir.path());
                        assert_eq!(agent.epoch(world::SET), Some(epoch), "cut at {cut}, restarted");
                        agent = Agent::start(Memory::default(), dir.path());
                        assert_eq!(agent.epoch(world::SET), Some(epoch), "cut at {cut}, rebooted");
                        agent = Agent::start(plane.clone(), dir.path());
                    }
                }
                agent.core.prune(snapshot, false).unwrap();
                assert_eq!(agent.proven(world::SET), Some(first + 2), "cut at {cut}: it is whole");
            }
        }
    }
}

/// Most of what the host has, of which no restored database knows.
fn with_others(mut all: Vec<Change>) -> Vec<Change> {
    all.extend(changes((20..60).flat_map(|number| world::port_on(8, number, 1)).collect()));
    all
}

/// An agent with most of all that and a little more, and a snapshot without it.
fn in_doubt(dir: &Path, before: Vec<Change>, doubted: &[Change]) -> Agent {
    let mut agent = Agent::start(Memory::default(), dir);
    agent.core.registered(world::HOST);
    agent.snapshot(&with_others(before), false);
    agent.snapshot(doubted, false);
    assert!(agent.core.is_in_doubt());
    agent
}

fn without(all: &[Change], kinds: &[Kind]) -> Vec<Change> {
    all.iter().filter(|change| !kinds.iter().any(|kind| change.kind == *kind as i16)).cloned().collect()
}

/// Of a port and a group whose addresses the snapshot lacks.
fn without_addresses(dir: &Path) -> (Agent, Vec<Change>) {
    let all = grouped(1, &["10.0.0.1/32"]);
    let doubted = without(&all, &[Kind::AddressGroup]);
    (in_doubt(dir, all, &doubted), doubted)
}

#[test]
fn while_a_snapshot_is_doubted_what_it_would_take_rules_from_has_not_its_generation() {
    let dir = tempfile::tempdir().unwrap();
    let mut agent = in_doubt(dir.path(), labelled(1, &["b", "a"]), &labelled(3, &["b"]));
    let first = 2;
    assert_eq!((agent.epoch(world::SET).map(|epoch| epoch.n), agent.proven(world::SET)), (Some(first + 1), None));
    assert_eq!(agent.core.audit().unwrap(), 0, "it is as it is said to be");
    agent.snapshot(&labelled(3, &["b"]), true);
    assert!(!agent.core.is_in_doubt());
    assert_eq!(agent.proven(world::SET), Some(first + 2));
}

#[test]
fn a_rule_that_goes_while_a_snapshot_is_doubted_is_asked_about_at_once_and_when_that_is_over() {
    let dir = tempfile::tempdir().unwrap();
    let (mut agent, doubted) = without_addresses(dir.path());
    let first = agent.proven(world::SET).expect("nothing has changed");
    let rows = |agent: &Agent| agent.plane.content().maps.keys().filter(|key| key.table() == Table::Policy).count();
    let before = rows(&agent);
    let mut latest = doubted.clone();
    for (generation, last) in [(3, 5), (5, 1)] {
        agent.sync(changes(rules(generation, last)));
        let said = Some(first + generation - 2);
        assert_eq!((agent.epoch(world::SET).map(|epoch| epoch.n), agent.proven(world::SET)), (said, None));
        latest = without(&doubted, &[Kind::Group, Kind::Member]);
        latest.extend(changes(rules(generation, last)));
        agent.snapshot(&latest, false);
        assert!(agent.core.is_in_doubt());
        assert_eq!(agent.epoch(world::SET).map(|epoch| epoch.n), said, "asked about once");
    }
    assert!(rows(&agent) < before, "{} of {before}", rows(&agent));
    agent.snapshot(&latest, true);
    assert!(!agent.core.is_in_doubt());
    assert_eq!(agent.proven(world::SET), None, "its addresses are gone");
    assert_eq!(agent.epoch(world::SET).map(|epoch| epoch.n), Some(first + 4), "asked about once more");
}

#[test]
fn a_host_that_reboots_while_it_doubts_a_snapshot_comes_back_with_what_it_had() {
    let dir = tempfile::tempdir().unwrap();
    let (mut agent, doubted) = without_addresses(dir.path());
    let mut changed = doubted.clone();
    for narrowed in [false, true] {
        if narrowed {
            changed = without(&doubted, &[Kind::Group, Kind::Member]);
            changed.extend(changes(rules(3, 5)));
            agent.sync(changes(rules(3, 5)));
        }
        let maps = agent.plane.content().maps.clone();
        assert_eq!(agent.proven(world::SET).is_none(), narrowed);
        agent = Agent::start(Memory::default(), dir.path());
        assert_eq!(agent.plane.content().maps, maps);
        agent.snapshot(&changed, false);
        assert!(agent.core.is_in_doubt());
        assert_eq!(agent.plane.content().maps, maps);
    }
    agent.snapshot(&changed, true);
    agent = Agent::start(Memory::default(), dir.path());
    assert!(!agent.core.is_in_doubt());
    assert_eq!(agent.epoch(world::SET).map(|epoch| epoch.n), Some(4));
}

#[test]
fn what_comes_into_use_while_a_snapshot_is_doubted_is_not_vouched_for() {
    const PORTS: [Kind; 2] = [Kind::Port, Kind::Bounce];
    for (all, lacking) in [
        (grouped(1, &["10.0.0.1/32"]), &[Kind::AddressGroup][..]),
        (grouped(1, &["10.0.0.1/32"]), &[Kind::Group, Kind::Member]),
        (labelled(1, &["b", "a"]), &[Kind::LabelIngress]),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let doubted = without(&all, &[&PORTS[..], lacking].concat());
        let mut agent = in_doubt(dir.path(), without(&all, &PORTS), &doubted);
        let is_port = |change: &&Change| PORTS.iter().any(|kind| change.kind == *kind as i16);
        agent.sync(all.iter().filter(is_port).cloned().collect());
        let epoch = agent.epoch(world::SET).expect("the port is not left without rules");
        assert!(epoch.n != 0 && agent.proven(world::SET).is_none(), "{lacking:?}: {epoch:?}");
        // What the feed says of it once more is believed.
        let said = |change: &&Change| lacking.iter().any(|kind| change.kind == *kind as i16);
        agent.sync(all.iter().filter(said).cloned().collect());
        assert!(agent.core.is_in_doubt());
        assert_eq!(agent.proven(world::SET), Some(2), "{lacking:?}");
    }
}

#[test]
fn while_a_group_is_missing_its_ports_are_as_stateless_as_they_were() {
    const OTHER: u32 = 5;
    let of = |number: u32, stateless: bool| {
        let body = body::Group { number, generation: 1, stateless, rules: vec![] };
        let key = |scope, kind| EntryKey { scope, slot: 0, kind, key: number.to_be_bytes().to_vec() };
        [
            (key(Scope::Group(number), Kind::Group), Body::Group(body.clone())),
            (key(Scope::Member(number), Kind::Member), Body::Member(body)),
        ]
    };
    let set = || Some(body::GroupSet { number: world::SET, groups: vec![world::GROUP, OTHER], labels: None });
    let with = |(key, body)| match body {
        Body::Port(port) => (key, Body::Port(body::Port { set: set(), ..port })),
        Body::Bounce(bounce) => (key, Body::Bounce(body::Bounce { set: set(), ..bounce })),
        other => (key, other),
    };
    for stateless in [false, true] {
        let (plane, dir) = (Memory::default(), tempfile::tempdir().unwrap());
        let mut agent = Agent::start(plane.clone(), dir.path());
        agent.core.registered(world::HOST);
        let port: Vec<_> = world::port(5, 1).into_iter().map(with).collect();
        agent.snapshot(&changes([world::cloud(), port, of(world::GROUP, true).to_vec()].concat()), false);
        let flags = |agent: &Agent| agent.epoch(world::SET).expect("the set is in use").flags;
        let is_stateless = |agent: &Agent| flags(agent) & epoch_flag::STATELESS != 0;
        assert!(!is_stateless(&agent), "the one that is missing may be stateful");
        let other = of(OTHER, stateless);
        agent.sync(changes(other.to_vec()));
        assert_eq!(is_stateless(&agent), stateless);
        agent.sync(other.iter().map(|(key, _)| change(key, None)).collect());
        assert_eq!((is_stateless(&agent), agent.epoch(world::SET).map(|epoch| epoch.n)), (stateless, Some(0)));
        let mut agent = Agent::start(plane, dir.path());
        assert_eq!(is_stateless(&agent), stateless, "restarted");
        agent.sync(changes(of(OTHER, !stateless).to_vec()));
        assert_eq!(is_stateless(&agent), !stateless);
    }
}
