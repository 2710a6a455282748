//! The loop of the agent against an API and maps in memory, in no time at all.

mod common;

use common::api::Api;
use common::links::FakeLinks;
use common::world;
use mizar_agent::attach::Attacher;
use mizar_agent::core::{Core, Shared};
use mizar_agent::dataplane::Dataplane as _;
use mizar_agent::dataplane::memory::Memory;
use mizar_agent::keeper;
use mizar_agent::ledger::{Found, Ledger};
use mizar_agent::sync::follow::{Description, Follower};
use mizar_agent::sync::source::SourceError;
use mizar_plan::{Key, Table, Value};
use mizar_wire::local::AttachKind;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// An agent whose kernel is in memory.
struct Agent {
    core: Shared,
    plane: Memory,
    links: FakeLinks,
    attacher: Attacher<FakeLinks>,
    dir: tempfile::TempDir,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Agent {
    fn start(api: &Api, plane: Memory, dir: tempfile::TempDir) -> Self {
        let (ledger, found) = Ledger::open(dir.path()).unwrap();
        let batches = match found {
            Found::Batches(batches) => batches,
            Found::Nothing | Found::Unusable(_) => vec![],
        };
        let (chores, inbox) = mpsc::unbounded_channel();
        let core = Shared::new(Core::new(world::identity(), Box::new(plane.clone()), ledger, &batches, chores));
        core.lock().take_over(vec![]).unwrap();
        let links = FakeLinks::default();
        let attacher = Attacher::new(core.clone(), links.clone(), plane.guard());
        let description = Description { az: "a".into(), rack: "r".into(), transit_hook: "tcx".into() };
        let follower = Follower::new(core.clone(), api.clone(), description);
        let (forget, _) = mpsc::unbounded_channel();
        let (introduce, _) = mpsc::unbounded_channel();
        let tasks = vec![
            tokio::spawn(async move { match follower.run().await {} }),
            tokio::spawn(keeper::do_chores(inbox, attacher.clone(), forget, introduce)),
        ];
        Self { core, plane, links, attacher, dir, tasks }
    }

    fn new(api: &Api) -> Self {
        Self::start(api, Memory::default(), tempfile::tempdir().unwrap())
    }

    /// Ends it without a word, and starts another over what it left.
    fn restart(self, api: &Api) -> Self {
        self.tasks.iter().for_each(|task| task.abort());
        Self::start(api, self.plane, self.dir)
    }

    fn keys(&self, table: Table) -> Vec<Key> {
        self.plane.content().maps.keys().filter(|k| k.table() == table).copied().collect()
    }

    /// Generation of the only set.
    fn generation(&self) -> Option<u32> {
        match self.plane.content().maps.get(&Key::Epoch(world::SET)) {
            Some(Value::Epoch(epoch)) => Some(epoch.n),
            _ => None,
        }
    }
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(120);
    while !condition() {
        assert!(Instant::now() < deadline, "waited two minutes: {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn news_are_in_force_and_acknowledged_at_once() {
    let api = Api::with_ports(&[]);
    let agent = Agent::new(&api);
    until("the snapshot is acknowledged", || api.state().acked == 1).await;
    assert_eq!(agent.keys(Table::Hosts), [Key::Host(world::HOST)]);
    let start = Instant::now();
    let revision = api.put(world::port(5, 1));
    until("the port's bouncer is programmed", || api.state().acked == revision).await;
    assert!(start.elapsed() < Duration::from_millis(100), "{:?}", start.elapsed());
    assert_eq!(agent.keys(Table::Bounce).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_wiring_is_reported_while_a_poll_waits() {
    let api = Api::with_ports(&[]);
    let revision = api.put(world::port(5, 1));
    let agent = Agent::new(&api);
    until("the poll waits", || api.state().acked == revision).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let start = Instant::now();
    agent.attacher.attach(world::port_id(5), AttachKind::Tap).await.unwrap();
    until("the report is there", || api.state().wired.get(&5) == Some(&1)).await;
    assert!(start.elapsed() < Duration::from_millis(100), "{:?}", start.elapsed());
    let content = agent.plane.content();
    assert_eq!(content.attached.len(), 1);
    assert!(content.maps.contains_key(&Key::Ep(5)));
}

#[tokio::test(start_paused = true)]
async fn a_new_generation_of_a_wired_port_is_reported() {
    let api = Api::with_ports(&[5]);
    let agent = Agent::new(&api);
    agent.attacher.attach(world::port_id(5), AttachKind::Tap).await.unwrap();
    until("wired", || api.state().wired.get(&5) == Some(&1)).await;
    api.put(world::port(5, 2));
    until("wired again", || api.state().wired.get(&5) == Some(&2)).await;
}

#[tokio::test(start_paused = true)]
async fn what_does_not_fit_into_a_map_is_a_failure_until_it_does() {
    let api = Api::with_ports(&[]);
    let agent = Agent::new(&api);
    agent.plane.content().full.insert(Table::Bounce);
    let revision = api.put(world::port(5, 1));
    until("the failure is acknowledged", || api.state().acked == revision && !api.state().failures.is_empty()).await;
    assert!(api.state().failures[0].contains("full"), "{:?}", api.state().failures);
    agent.plane.content().full.clear();
    until("it is tried again with the next sync", || api.state().failures.is_empty()).await;
    assert_eq!(agent.keys(Table::Bounce).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn whatever_the_api_answers_the_maps_stay_and_work_goes_on_afterwards() {
    let refusals: [fn() -> SourceError; 6] = [
        || SourceError::Refused { status: 403, detail: "certificate of another host".into() },
        || SourceError::Refused { status: 404, detail: "no such host".into() },
        || SourceError::Conflict { detail: "another boot".into() },
        || SourceError::Unsupported { detail: "protocol 2".into() },
        || SourceError::Busy { retry_after: Some(Duration::from_secs(3)) },
        || SourceError::Unreachable("connection refused".into()),
    ];
    let api = Api::with_ports(&[5]);
    let agent = Agent::new(&api);
    agent.attacher.attach(world::port_id(5), AttachKind::Tap).await.unwrap();
    for (n, refusal) in refusals.into_iter().enumerate() {
        let maps = agent.plane.content().maps.clone();
        api.state().outage = Some(refusal);
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(agent.plane.content().maps, maps, "{}", refusal());
        api.state().outage = None;
        let revision = api.put(world::port(20 + n as u32, 1));
        until("news after the outage", || api.state().acked == revision).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_restored_database_leads_to_a_snapshot_that_prunes() {
    let api = Api::with_ports(&[5, 6]);
    let agent = Agent::new(&api);
    until("both are there", || agent.keys(Table::Bounce).len() == 2).await;
    api.restore(world::keys(world::port(5, 1)));
    until("one is gone", || agent.keys(Table::Bounce).len() == 1).await;
    let agent = agent.restart(&api);
    assert_eq!(agent.keys(Table::Bounce).len(), 1);
    assert_eq!(agent.core.lock().store().len(), 7, "from the ledger");
}

#[tokio::test(start_paused = true)]
async fn an_attach_that_fails_leaves_nothing_behind() {
    let api = Api::with_ports(&[5]);
    let agent = Agent::new(&api);
    until("the port is there", || agent.keys(Table::Bounce).len() == 1).await;
    agent.links.0.lock().unwrap().broken = true;
    let error = agent.attacher.attach(world::port_id(5), AttachKind::Tap).await.unwrap_err();
    assert!(mizar_agent::core::chain(&error).contains("no more addresses"));
    assert!(agent.links.0.lock().unwrap().there.is_empty());
    let start = Instant::now();
    let error = agent.attacher.attach(world::port_id(6), AttachKind::Tap).await.unwrap_err();
    assert!(error.to_string().contains("not bound to this host"), "{error}");
    assert_eq!(start.elapsed().as_secs(), 10);
    assert!(agent.links.0.lock().unwrap().there.is_empty());
    assert!(agent.plane.content().attached.is_empty());
    assert!(!agent.plane.content().maps.keys().any(|k| matches!(k.table(), Table::Ep | Table::Iface | Table::Addr)));
    assert!(api.state().wired.is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_attach_says_how_long_it_waited_for_the_entry() {
    let api = Api::with_ports(&[]);
    let agent = Agent::new(&api);
    let attacher = agent.attacher.clone();
    let attach = tokio::spawn(async move { attacher.attach(world::port_id(5), AttachKind::Tap).await });
    until("the interface is made", || !agent.links.0.lock().unwrap().there.is_empty()).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    api.put(world::port(5, 1));
    let waited = attach.await.unwrap().unwrap().waited_us;
    assert!((3_000_000..3_100_000).contains(&waited), "{waited}");
    let again = agent.attacher.attach(world::port_id(5), AttachKind::Tap).await.unwrap();
    assert_eq!(again.waited_us, 0, "it was there");
}

#[tokio::test(start_paused = true)]
async fn a_port_that_goes_while_it_is_attached_takes_its_interface_along() {
    let api = Api::with_ports(&[5]);
    let agent = Agent::new(&api);
    agent.attacher.attach(world::port_id(5), AttachKind::Tap).await.unwrap();
    assert!(agent.links.0.lock().unwrap().there.values().all(|(_, finished)| *finished));
    api.remove(world::keys(world::port(5, 1)));
    until("the interface goes", || agent.links.0.lock().unwrap().there.is_empty()).await;
    until("the link goes", || agent.plane.content().attached.is_empty()).await;
    assert!(agent.keys(Table::Ep).is_empty());
}

/// A host that holds roles for others, and no port.
fn transit_only(api: &Api) -> Vec<mizar_wire::EntryKey> {
    api.put(world::cloud());
    let bounces = (20..40).map(|n| world::port(n, 1).into_iter().nth(1).expect("a port has a bounce"));
    api.put(bounces.collect::<Vec<_>>());
    world::keys(world::cloud()).into_iter().chain((20..40).map(|n| world::keys(world::port(n, 1))[1].clone())).collect()
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_without_the_networks_of_attached_ports_takes_nothing_until_it_is_confirmed() {
    let api = Api::with_ports(&[5]);
    let agent = Agent::new(&api);
    agent.attacher.attach(world::port_id(5), AttachKind::Tap).await.unwrap();
    until("wired", || api.state().wired.get(&5) == Some(&1)).await;
    let maps = agent.plane.content().maps.clone();
    // What includes bring is gone; the port's own entry is still there.
    let lost = world::keys(world::cloud()).into_iter().filter(|k| !matches!(k.scope, mizar_wire::Scope::Cluster));
    api.restore(lost);
    let revision = api.put(world::port(6, 1));
    until("the snapshot is acknowledged", || api.state().acked == revision).await;
    assert!(agent.core.lock().is_in_doubt());
    for (key, value) in &maps {
        assert_eq!(agent.plane.content().maps.get(key), Some(value), "{key:?}");
    }
    assert_eq!(agent.plane.content().maps.len(), maps.len() + 1, "and the new port's bounce");
    api.state().confirmed = true;
    until("the port is not in force", || agent.keys(Table::Ep).is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn a_host_that_reboots_in_doubt_of_its_ports_does_not_believe_without_them_what_it_doubted() {
    let api = Api::with_ports(&[5, 6]);
    // Of others there is more.
    let others: Vec<_> = (20..60).map(|n| world::port(n, 1).remove(1)).collect();
    api.put(others);
    let agent = Agent::new(&api);
    for port in [5, 6] {
        agent.attacher.attach(world::port_id(port), AttachKind::Tap).await.unwrap();
    }
    until("wired", || api.state().wired.len() == 2).await;
    let entries = agent.core.lock().store().len();
    api.restore([5, 6].map(world::port_key));
    until("the snapshot is doubted", || agent.core.lock().is_in_doubt()).await;
    agent.tasks.iter().for_each(|task| task.abort());
    let agent = Agent::start(&api, Memory::default(), agent.dir);
    assert!(agent.core.lock().is_in_doubt());
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert!(agent.core.lock().is_in_doubt());
    assert_eq!(agent.core.lock().store().len(), entries);
    api.state().confirmed = true;
    until("the ports go", || agent.core.lock().store().len() == entries - 2).await;
    assert!(!agent.core.lock().is_in_doubt());
}

#[tokio::test(start_paused = true)]
async fn a_transit_host_without_ports_keeps_its_roles_when_a_snapshot_lacks_most_of_them() {
    let api = Api::new();
    let lost = transit_only(&api);
    let agent = Agent::new(&api);
    until("the roles are there", || agent.keys(Table::Bounce).len() == 20).await;
    let maps = agent.plane.content().maps.clone();
    api.restore(lost);
    until("the snapshot is doubted", || agent.core.lock().is_in_doubt()).await;
    assert_eq!(agent.plane.content().maps, maps);
    assert_eq!(agent.core.lock().audit().unwrap(), 0);
    let agent = agent.restart(&api);
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert_eq!(agent.plane.content().maps, maps, "nor does a restart lose them");
    // Without a ledger the maps tell what there was.
    std::fs::write(agent.dir.path().join("ledger"), "nonsense").unwrap();
    let agent = agent.restart(&api);
    until("the snapshot is doubted again", || agent.core.lock().is_in_doubt()).await;
    assert_eq!(agent.plane.content().maps, maps, "nor does a lost ledger");
    api.state().confirmed = true;
    until("the roles go", || agent.keys(Table::Bounce).is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn from_a_stale_ledger_nothing_is_removed_until_the_api_answers() {
    let api = Api::with_ports(&[]);
    let agent = Agent::new(&api);
    until("the snapshot is acknowledged", || api.state().acked == 1).await;
    let stale = std::fs::read(agent.dir.path().join("ledger")).unwrap();
    let revision = api.put(world::port(5, 1));
    until("news", || api.state().acked == revision).await;
    agent.attacher.attach(world::port_id(5), AttachKind::Tap).await.unwrap();
    let mut foreign = agent.plane.content().maps.clone();
    std::fs::write(agent.dir.path().join("ledger"), stale).unwrap();
    api.state().outage = Some(|| SourceError::Unreachable("the cable is cut".into()));
    // Something is missing, and something is there that nobody wants.
    let host = Key::Host(77);
    agent.plane.content().maps.insert(host, Value::Host([192, 0, 2, 77]));
    agent.plane.content().maps.remove(&Key::Host(world::HOST));
    foreign.insert(host, Value::Host([192, 0, 2, 77]));
    let agent = agent.restart(&api);
    tokio::time::sleep(Duration::from_secs(60)).await;
    agent.core.lock().audit().unwrap();
    assert_eq!(agent.plane.content().maps, foreign, "added, and nothing removed");
    assert_eq!(agent.plane.content().attached.len(), 0, "its interface was not found: its program is of no use");
    api.state().outage = None;
    until("what is not wanted goes", || !agent.plane.content().maps.contains_key(&host)).await;
    assert_eq!(agent.keys(Table::Bounce).len(), 1);
}

/// An agent with a port in a group that lets these ports in.
async fn with_group(api: &Api, ports: &[u16]) -> Agent {
    api.put(world::group(1, ports));
    let revision = api.put(world::member(world::HOST, 5));
    let agent = Agent::new(api);
    until("the rules are in force", || api.state().acked == revision).await;
    agent
}

#[tokio::test(start_paused = true)]
async fn a_generation_rises_once_all_rules_of_it_are_in_force() {
    let api = Api::with_ports(&[]);
    let agent = with_group(&api, &[7]).await;
    let before = agent.generation().unwrap();
    agent.plane.content().full.insert(Table::Policy);
    let revision = api.put(world::group(3, &[9]));
    until("the failure is told", || api.state().acked == revision && !api.state().failures.is_empty()).await;
    assert_eq!(agent.generation(), Some(before + 1), "its flows are not judged for good by half of the rules");
    agent.plane.content().full.clear();
    until("it is tried again", || api.state().failures.is_empty()).await;
    assert_eq!(agent.generation(), Some(before + 2));
}

#[tokio::test(start_paused = true)]
async fn while_rules_may_not_go_yet_their_set_has_not_its_generation() {
    let api = Api::with_ports(&[]);
    let agent = with_group(&api, &[7, 9]).await;
    let (before, rules) = (agent.generation().unwrap(), agent.keys(Table::Policy));
    let maps = agent.plane.content().maps.clone();
    let revision = api.put(world::group(3, &[7]));
    until("a rule goes", || api.state().acked == revision).await;
    assert_eq!(agent.generation(), Some(before + 2));
    // It died after the ledger and before the maps, and nobody tells its successor whether that is all.
    api.state().outage = Some(|| SourceError::Unreachable("the cable is cut".into()));
    agent.plane.content().maps = maps;
    let agent = agent.restart(&api);
    tokio::time::sleep(Duration::from_secs(60)).await;
    agent.core.lock().audit().unwrap();
    assert_eq!((agent.generation(), agent.keys(Table::Policy)), (Some(before + 1), rules));
    api.state().outage = None;
    until("the generation follows the rule", || agent.generation() == Some(before + 2)).await;
    assert_eq!(agent.keys(Table::Policy).len(), 2, "port 7 in, everything out");
}

#[tokio::test(start_paused = true)]
async fn an_interface_that_cannot_be_removed_keeps_its_program() {
    let api = Api::with_ports(&[5]);
    let agent = Agent::new(&api);
    agent.attacher.attach(world::port_id(5), AttachKind::Tap).await.unwrap();
    agent.links.0.lock().unwrap().stuck = true;
    agent.attacher.detach(world::port_id(5)).await;
    assert!(agent.keys(Table::Iface).is_empty(), "its packets belong to nobody");
    assert_eq!(agent.plane.content().attached.len(), 1, "and are dropped by the program");
    assert_eq!(agent.links.0.lock().unwrap().there.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn maps_that_packets_do_not_go_by_are_not_acknowledged_and_turned_to_again() {
    let api = Api::with_ports(&[]);
    let plane = Memory::default();
    plane.content().stuck = true;
    let agent = Agent::start(&api, plane, tempfile::tempdir().unwrap());
    until("the maps are filled", || agent.plane.content().maps.contains_key(&Key::Host(world::HOST))).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!((api.state().acked, agent.plane.content().engaged), (0, false));
    agent.plane.content().stuck = false;
    until("the next sync turns to them", || api.state().acked == 1).await;
    assert!(agent.plane.content().engaged);
}
