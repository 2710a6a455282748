//! Label policies from what tenants write to what is decided: compiled, planned, and looked up by the
//! code that the kernel runs, they let the same packets pass as the reference of Kubernetes does.

mod maps;

use maps::{Maps, Side, plan};
use mizar_abi::maps::{ANYBODY, egress};
use mizar_compile::Compiled;
use mizar_domain::label_policy::{Labels, Peer, Policy, Rule, Selector};
use mizar_domain::model::Labelled;
use mizar_domain::security_group::Direction;
use mizar_drawn::labels::{self, FIRST_SET, Member, OWN};
use mizar_drawn::{Cloud, asked};
use mizar_plan::Planner;
use mizar_wire::{Kind, Scope};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use uuid::Uuid;

const CASES: u32 = 1_000;
const PACKETS: usize = 64;
/// Each packet is judged in both directions.
const _: () = assert!(CASES as usize * PACKETS * 2 >= 100_000);

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES, ..ProptestConfig::default() })]

    #[test]
    fn planned_rows_decide_as_the_reference_of_kubernetes_does(
        cloud in labels::cloud(),
        asked in asked(labels::packet(), PACKETS),
    ) {
        let (all, numbers) = (cloud.compiled(&[0]), cloud.numbers());
        let own = numbers[0];
        let sides = [
            (Side::of(&all, own, Scope::Subnet(1)), Direction::Ingress),
            (Side::of(&all, egress(own), Scope::Host(1)), Direction::Egress),
        ];
        for (side, direction) in &sides {
            prop_assert!(!side.is_stateless(), "answers to what policies let pass need no rule: {direction:?}");
        }
        for (packet, address, peer) in asked {
            let peer = peer.map(|index| index.index(numbers.len()));
            let identity = peer.map_or(ANYBODY, |peer| numbers[peer]);
            for (side, direction) in &sides {
                let (decided, named) = side.judge(packet, identity, address)?;
                let meant = cloud.meant(0, *direction, packet, address, peer);
                prop_assert_eq!(decided, meant, "{:?} {:?} with {:?} at {}", direction, packet, peer, address);
                let by = |policies: &[Policy]| cloud.by_policies(policies, 0, *direction, packet, address, peer);
                if by(&cloud.policies).is_some() {
                    // Those that alone would let it pass: a policy takes nothing from another.
                    let alone = |policy: &Policy| by(std::slice::from_ref(policy)) == Some(true);
                    let allowing = (0..).zip(&cloud.policies).filter(|(_, policy)| alone(policy));
                    let ids: BTreeSet<Uuid> = allowing.map(|(place, _)| Uuid::from_u128(place)).collect();
                    prop_assert_eq!(named, ids, "{:?} {:?} with {:?} at {}", direction, packet, peer, address);
                }
            }
        }
    }
}

fn in_the_group() -> labels::Cloud {
    let labels = Labels { namespace: "shop".into(), namespace_labels: BTreeMap::new(), labels: BTreeMap::new() };
    let member = Member { labels: Some(Labelled { project: OWN, labels }), in_group: true };
    labels::Cloud { policies: vec![], members: vec![member] }
}

/// Whether a packet that the group allows passes in, and out, of a port whose host bounces for it too;
/// and whether the host says that it waits for label policies.
fn passes(all: &Compiled) -> (bool, bool, bool) {
    let planner = plan(all, &[Scope::Host(1), Scope::Subnet(1)]);
    let maps = Maps::of(&planner);
    let decide = |policy| maps.decide(policy, ANYBODY, Ipv4Addr::LOCALHOST, 6, 10);
    let waits = planner.problems().iter().any(|problem| problem.reason.contains("waits for the label policies"));
    (decide(FIRST_SET), decide(egress(FIRST_SET)), waits)
}

/// A host that has not heard of a project's policies lets nothing pass, for any may isolate the port.
#[test]
fn a_port_with_labels_waits_for_the_policies_of_its_project() {
    let mut all = in_the_group().compiled(&[0]);
    assert_eq!(passes(&all), (true, true, false));
    all.entries.retain(|key, _| key.kind != Kind::LabelGeneration);
    assert_eq!(passes(&all), (false, false, true));
}

/// A snapshot comes in pages, and the policies of one direction in another page than those of the other.
#[test]
fn a_host_that_has_heard_of_the_policies_of_one_direction_lets_nothing_pass_in_the_other() {
    let heard = |direction: Scope| {
        let mut all = in_the_group().compiled(&[0]);
        all.entries.retain(|key, _| key.kind != Kind::LabelGeneration || key.scope == direction);
        passes(&all)
    };
    assert_eq!(heard(Scope::LabelEgress(OWN)), (false, true, true));
    assert_eq!(heard(Scope::LabelIngress(OWN)), (true, false, true));
}

/// Each test of a peer against labels is a step, whatever rows come of it, and a host does nothing else
/// meanwhile.
#[test]
fn rules_that_take_too_long_to_work_out_let_nothing_pass() {
    let mut cloud = in_the_group();
    let everybody = Peer::Ports { namespaces: Some(Selector::default()), ports: None };
    let mut passes = |peers: usize| {
        let rule = Rule { peers: vec![everybody.clone(); peers], ports: vec![] };
        let (namespace, ports) = ("shop".to_owned(), Selector::default());
        cloud.policies =
            vec![Policy { name: String::new(), namespace, ports, ingress: Some(vec![rule]), egress: None }];
        let planner =
            maps::planned(Planner::with_budget(100), &cloud.compiled(&[0]), &[Scope::Host(1), Scope::Subnet(1)]);
        let maps = Maps::of(&planner);
        let decide = |policy| maps.decide(policy, FIRST_SET, Ipv4Addr::LOCALHOST, 6, 10);
        let too_long = planner.problems().iter().any(|problem| problem.reason.contains("takes more than 400 steps"));
        (decide(FIRST_SET), decide(egress(FIRST_SET)), too_long)
    };
    assert_eq!(passes(399), (true, true, false));
    assert_eq!(passes(401), (false, false, true), "nor by the group, which decides about what goes out");
}
