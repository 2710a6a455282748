//! What a tenant with many sets can make a host work: no more than is fair, and always the same.

use ipnet::IpNet;
use mizar_domain::label_policy::{Peer, Selector};
use mizar_plan::{Key, Op, Planner};
use mizar_wire::body::{self, Body};
use mizar_wire::{EntryKey, Kind, Scope};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use uuid::Uuid;

const PROJECT: u32 = 1;
const OTHER: u32 = 2;
/// Sets of the project, each used by an address that this host bounces for.
const SETS: u32 = 200;
/// Rows of policy that a network may have. Four times as many steps may a set take, and eight times as many
/// as that all sets of the project.
const BUDGET: usize = 100;
/// Sets that have a turn where a policy allows everybody: the policy looks at 200 sets, once, and each set joins 200.
const TURNS: u32 = 15;

fn labelled(project: u32, number: u32) -> body::GroupSet {
    let labels = BTreeMap::from([("n".to_owned(), number.to_string())]);
    let labels = body::Labels { namespace: "a".into(), namespace_labels: BTreeMap::new(), labels };
    body::GroupSet { number, groups: vec![], labels: Some(Box::new(body::Labelled { project, labels })) }
}

/// A set that is known, and in use.
fn set(project: u32, number: u32) -> [(EntryKey, Body); 2] {
    let key = number.to_be_bytes().to_vec();
    let of = |scope, kind| EntryKey { scope, slot: 0, kind, key: key.clone() };
    let [_, _, a, b] = number.to_be_bytes();
    let bounce = body::Bounce {
        vni: 5000 + project,
        address: IpAddr::V4(Ipv4Addr::new(10, 0, a, b)),
        subnet: 1,
        host: 1,
        port: number,
        generation: 1,
        set: Some(labelled(project, number)),
    };
    [
        (of(Scope::Labelled(project), Kind::GroupSet), Body::GroupSet(labelled(project, number))),
        (of(Scope::Subnet(project), Kind::Bounce), Body::Bounce(bounce)),
    ]
}

/// A policy for all ports of the project, with this peer.
fn policy(project: u32, peer: Peer) -> (EntryKey, Body) {
    let scope = Scope::LabelIngress(project);
    let rule = body::LabelRule { peers: vec![peer], ports: vec![] };
    let (namespace, ports) = ("a".to_owned(), Selector::default());
    let policy = body::LabelPolicy { id: Uuid::nil(), project, namespace, ports, rules: vec![rule] };
    (EntryKey { scope, slot: 0, kind: Kind::LabelIngress, key: vec![1] }, Body::LabelIngress(policy))
}

fn generation(project: u32) -> (EntryKey, Body) {
    let scope = Scope::LabelIngress(project);
    let body = Body::LabelGeneration(body::LabelGeneration { project, generation: 1 });
    (EntryKey { scope, slot: 0, kind: Kind::LabelGeneration, key: vec![1] }, body)
}

/// All ports of the project: a test of a label for each set, and a row for each.
fn everybody() -> Peer {
    Peer::Ports { namespaces: None, ports: None }
}

fn one_address() -> Peer {
    Peer::Block { cidr: IpNet::new_assert(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)), 32), except: vec![] }
}

/// Sets by what is said of them: they need too many rows, or come after those that took all steps.
fn refused(planner: &Planner) -> (Vec<u32>, Vec<u32>) {
    let problems = planner.problems();
    let which = |what: &str| {
        let those = problems.iter().filter(|problem| problem.reason.contains(what));
        those.map(|problem| u32::from_be_bytes(problem.entry.key.clone().try_into().unwrap())).collect()
    };
    (which("rows of policy"), which("steps to work out for all sets"))
}

/// Sets with rows.
fn in_force(planner: &Planner) -> BTreeSet<u32> {
    let epoch = |(key, _)| match key {
        Key::Epoch(set) => Some(set),
        _ => None,
    };
    planner.desired().filter_map(epoch).collect()
}

#[test]
fn many_sets_that_are_each_too_much_are_worked_out_only_until_they_took_their_share() {
    let neighbour = [set(OTHER, 900), [policy(OTHER, one_address()), generation(OTHER)]].concat();
    let mut planner = Planner::with_budget(BUDGET);
    for (key, body) in (1..=SETS).flat_map(|number| set(PROJECT, number)).chain(neighbour) {
        planner.put(key, body);
    }
    for (key, body) in [policy(PROJECT, everybody()), generation(PROJECT)] {
        planner.put(key, body);
    }
    planner.flush();
    assert_eq!(refused(&planner), ((1..=TURNS).collect(), (TURNS + 1..=SETS).collect()));
    assert_eq!(in_force(&planner), BTreeSet::from([900]), "nobody else is the worse for it");
    // The policy is mended.
    let (key, body) = policy(PROJECT, one_address());
    planner.put(key, body);
    planner.flush();
    assert_eq!(refused(&planner), ((21..=SETS).collect(), vec![]), "five rows each");
    assert_eq!(in_force(&planner).len(), 20 + 1);
}

#[test]
fn whose_turn_it_is_does_not_depend_on_what_came_first() {
    let all: Vec<_> = [policy(PROJECT, everybody()), generation(PROJECT)]
        .into_iter()
        .chain((1..=SETS).flat_map(|number| set(PROJECT, number)))
        .collect();
    let ends = |order: &mut dyn Iterator<Item = &(EntryKey, Body)>| {
        let mut planner = Planner::with_budget(BUDGET);
        let mut maps = BTreeMap::new();
        for (n, (key, body)) in order.enumerate() {
            planner.put(key.clone(), body.clone());
            let ops = if n % 7 == 0 || n + 1 == all.len() { planner.flush() } else { vec![] };
            for op in ops {
                match op {
                    Op::Put(key, value) => maps.insert(key, value),
                    Op::Remove(key) => maps.remove(&key),
                };
            }
        }
        (refused(&planner), maps)
    };
    let forwards = ends(&mut all.iter());
    assert_eq!(forwards, ends(&mut all.iter().rev()));
    assert_eq!(forwards.0.1.len(), (SETS - TURNS) as usize);
}
