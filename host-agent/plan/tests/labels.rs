//! Label policies from what tenants write to what is decided: compiled, planned, and looked up by the
//! code that the kernel runs, they let the same packets pass as the reference of Kubernetes does.

mod maps;

use ipnet::IpNet;
use maps::{Maps, Side, address, plan};
use mizar_abi::maps::{ANYBODY, egress};
use mizar_compile::{Compiled, Object, compile};
use mizar_domain::id::{LabelPolicyId, PortId, ProjectId, SecurityGroupId};
use mizar_domain::label_policy::reference::{Other, allows};
use mizar_domain::label_policy::{
    Is, Labels, NAMESPACE_NAME, Peer, Policy, Ports, Requirement, Rule as LabelRule, Selector,
};
use mizar_domain::mac::Mac;
use mizar_domain::model::{BoundPort, FixedIp, GroupSet, LabelPolicy, LabelProject, Labelled, SecurityGroup};
use mizar_domain::policy::reference::{Packet, Transport};
use mizar_domain::policy::{Remote, Rule};
use mizar_domain::security_group::{Direction, Ethertype};
use mizar_plan::Planner;
use mizar_wire::{Kind, Scope};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use uuid::Uuid;

/// Whose policies they are, and a project with the same labels.
const OWN: u32 = 1;
const OTHER: u32 = 2;

/// A port, as far as policies know it: of a project or of none, with the security group or without.
#[derive(Clone, Debug, PartialEq)]
struct Member {
    labels: Option<Labelled>,
    in_group: bool,
}

/// The security group lets this pass in both directions.
fn group_allows(packet: Packet) -> bool {
    packet.protocol == 6 && matches!(packet.transport, Transport::Port(10..=20))
}

#[derive(Clone, Debug)]
struct Cloud {
    policies: Vec<Policy>,
    /// The first is the port that is asked about. Numbers of sets are places in this list.
    members: Vec<Member>,
}

const FIRST_SET: u32 = 100;

impl Cloud {
    fn number(&self, member: &Member) -> u32 {
        let place = self.members.iter().position(|known| known == member).expect("a known member");
        FIRST_SET + u32::try_from(place).expect("few")
    }

    fn set(&self, member: &Member) -> GroupSet {
        let groups = if member.in_group { vec![1] } else { vec![] };
        GroupSet { number: self.number(member), groups, labels: member.labels.clone() }
    }

    fn compiled(&self) -> Compiled {
        let mut all = Compiled::default();
        for (place, policy) in (0..).zip(&self.policies) {
            let id = LabelPolicyId::from(Uuid::from_u128(place));
            all.extend(compile(Object::LabelPolicy(&LabelPolicy { id, project: OWN, policy: policy.clone() })));
        }
        for number in [OWN, OTHER] {
            let id = ProjectId::from(Uuid::from_u128(number.into()));
            all.extend(compile(Object::LabelProject(&LabelProject { id, number, generation: 1 })));
        }
        let rule = |direction| Rule {
            id: Uuid::nil(),
            direction,
            ethertype: Ethertype::V4,
            protocol: Some(6),
            first: 10,
            last: 20,
            remote: Remote::Any,
        };
        let rules = vec![rule(Direction::Ingress), rule(Direction::Egress)];
        let id = SecurityGroupId::from(Uuid::from_u128(1));
        all.extend(compile(Object::SecurityGroup(&SecurityGroup {
            stateful: true,
            id,
            number: 1,
            generation: 1,
            rules,
        })));
        for member in &self.members {
            all.extend(compile(Object::GroupSet(&self.set(member))));
        }
        let port = BoundPort {
            id: PortId::from(Uuid::from_u128(1)),
            number: 1,
            generation: 1,
            name: String::new(),
            vni: 5000,
            mac: Mac([2, 0, 0, 0, 0, 1]),
            fixed_ips: vec![FixedIp { subnet: 1, address: Ipv4Addr::new(10, 9, 9, 9).into() }],
            pairs: vec![],
            port_security: true,
            admin_up: true,
            set: Some(self.set(&self.members[0])),
            dhcp_options: vec![],
            host: Some(1),
            moved_from: None,
        };
        all.extend(compile(Object::Port(&port)));
        all
    }

    fn own(&self) -> &Member {
        &self.members[0]
    }

    /// What may pass by these policies, if any isolates the port.
    fn meant(
        &self,
        policies: &[Policy],
        direction: Direction,
        packet: Packet,
        address: Ipv4Addr,
        peer: Option<&Member>,
    ) -> Option<bool> {
        let own = self.own().labels.as_ref().filter(|own| own.project == OWN)?;
        let labelled = peer.and_then(|peer| peer.labels.as_ref());
        let labels = labelled.filter(|other| other.project == OWN).map(|other| &other.labels);
        allows(policies, &own.labels, direction, packet, &Other { address: IpAddr::V4(address), labels })
    }
}

fn key() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["app", "tier"]).prop_map(str::to_owned)
}

fn value() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["", "web", "db"]).prop_map(str::to_owned)
}

fn namespace() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["shop", "ops"]).prop_map(str::to_owned)
}

fn member() -> impl Strategy<Value = Member> {
    let map = || prop::collection::btree_map(key(), value(), 0..3);
    let labels = (prop_oneof![4 => Just(OWN), 1 => Just(OTHER)], namespace(), map(), map());
    let labels = labels.prop_map(|(project, namespace, namespace_labels, labels)| Labelled {
        project,
        labels: Labels { namespace, namespace_labels, labels },
    });
    let labels = prop_oneof![6 => labels.prop_map(Some), 1 => Just(None)];
    (labels, any::<bool>()).prop_map(|(labels, in_group)| Member { labels, in_group })
}

fn selector(name: bool) -> impl Strategy<Value = Selector> {
    let values = || prop::collection::btree_set(value(), 1..3);
    let is = prop_oneof![
        3 => values().prop_map(Is::In),
        1 => values().prop_map(Is::NotIn),
        1 => Just(Is::There),
        1 => Just(Is::Absent),
    ];
    let own = (key(), is).prop_map(|(key, is)| Requirement { key, is });
    let by_name = namespace()
        .prop_map(|namespace| Requirement { key: NAMESPACE_NAME.to_owned(), is: Is::In(BTreeSet::from([namespace])) });
    let requirement = prop_oneof![2 => own, u32::from(name) => by_name];
    prop::collection::vec(requirement, 0..3).prop_map(Selector)
}

fn net() -> impl Strategy<Value = IpNet> {
    (address(), prop_oneof![Just(0u8), 1u8..=32, Just(8), Just(16)])
        .prop_map(|(address, length)| IpNet::new_assert(address.into(), length).trunc())
}

fn peer() -> impl Strategy<Value = Peer> {
    // As a manifest has them: exceptions lie within the range.
    let block = (net(), prop::collection::vec(net(), 0..4)).prop_map(|(cidr, except)| {
        let except = except.into_iter().filter(|hole| cidr.contains(hole) && *hole != cidr).collect();
        Peer::Block { cidr, except }
    });
    let ports = (prop::option::of(selector(true)), prop::option::of(selector(false)))
        .prop_map(|(namespaces, ports)| Peer::Ports { namespaces, ports });
    prop_oneof![2 => block, 3 => ports]
}

fn port() -> impl Strategy<Value = u16> {
    prop_oneof![4 => 1u16..40, 1 => Just(u16::MAX)]
}

fn rule() -> impl Strategy<Value = LabelRule> {
    let protocol = prop::sample::select(vec![6u8, 17, 132]);
    let ports = (protocol, port(), port(), any::<bool>()).prop_map(|(protocol, a, b, all)| {
        let (first, last) = if all { (0, u16::MAX) } else { (a.min(b), a.max(b)) };
        Ports { protocol, first, last }
    });
    (prop::collection::vec(peer(), 0..3), prop::collection::vec(ports, 0..3))
        .prop_map(|(peers, ports)| LabelRule { peers, ports })
}

fn policy() -> impl Strategy<Value = Policy> {
    let rules = || prop::option::of(prop::collection::vec(rule(), 0..3));
    (namespace(), selector(false), rules(), rules()).prop_map(|(namespace, ports, ingress, egress)| Policy {
        name: String::new(),
        namespace,
        ports,
        ingress,
        egress,
    })
}

fn cloud() -> impl Strategy<Value = Cloud> {
    let members = prop::collection::vec(member(), 1..6).prop_map(|all| {
        let mut known: Vec<Member> = Vec::new();
        for member in all {
            if !known.contains(&member) {
                known.push(member);
            }
        }
        known
    });
    (prop::collection::vec(policy(), 0..5), members).prop_map(|(policies, members)| Cloud { policies, members })
}

fn packet() -> impl Strategy<Value = Packet> {
    let with_port = prop::sample::select(vec![6u8, 17, 132]);
    prop_oneof![
        5 => (with_port, port()).prop_map(|(protocol, port)| Packet { protocol, transport: Transport::Port(port) }),
        1 => Just(Packet { protocol: 1, transport: Transport::Icmp(8, 0) }),
        1 => Just(Packet { protocol: 47, transport: Transport::Other }),
    ]
}

const CASES: u32 = 1_000;
const PACKETS: usize = 64;
/// Each packet is judged in both directions.
const _: () = assert!(CASES as usize * PACKETS * 2 >= 100_000);

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES, ..ProptestConfig::default() })]

    #[test]
    fn planned_rows_decide_as_the_reference_of_kubernetes_does(
        cloud in cloud(),
        asked in prop::collection::vec((packet(), address(), prop::option::of(any::<prop::sample::Index>())), PACKETS),
    ) {
        let all = cloud.compiled();
        let own = cloud.number(cloud.own());
        let sides = [
            (Side::of(&all, own, Scope::Subnet(1)), Direction::Ingress),
            (Side::of(&all, egress(own), Scope::Host(1)), Direction::Egress),
        ];
        for (side, direction) in &sides {
            prop_assert!(!side.is_stateless(), "answers to what policies let pass need no rule: {direction:?}");
        }
        for (packet, address, peer) in asked {
            let peer = peer.map(|index| &cloud.members[index.index(cloud.members.len())]);
            let identity = peer.map_or(ANYBODY, |peer| cloud.number(peer));
            for (side, direction) in &sides {
                let (decided, named) = side.judge(packet, identity, address)?;
                let meant = cloud.meant(&cloud.policies, *direction, packet, address, peer);
                let by_groups = cloud.own().in_group && group_allows(packet);
                prop_assert_eq!(decided, meant.unwrap_or(by_groups), "{:?} {:?} with {:?} at {}", direction, packet, peer, address);
                if meant.is_some() {
                    // Those that alone would let it pass: a policy takes nothing from another.
                    let alone = |policy: &Policy| cloud.meant(std::slice::from_ref(policy), *direction, packet, address, peer);
                    let allowing = (0..).zip(&cloud.policies).filter(|(_, policy)| alone(policy) == Some(true));
                    let ids: BTreeSet<Uuid> = allowing.map(|(place, _)| Uuid::from_u128(place)).collect();
                    prop_assert_eq!(named, ids, "{:?} {:?} with {:?} at {}", direction, packet, peer, address);
                }
            }
        }
    }
}

fn in_the_group() -> Cloud {
    let labels = Labels { namespace: "shop".into(), namespace_labels: BTreeMap::new(), labels: BTreeMap::new() };
    let member = Member { labels: Some(Labelled { project: OWN, labels }), in_group: true };
    Cloud { policies: vec![], members: vec![member] }
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
    let mut all = in_the_group().compiled();
    assert_eq!(passes(&all), (true, true, false));
    all.entries.retain(|key, _| key.kind != Kind::LabelGeneration);
    assert_eq!(passes(&all), (false, false, true));
}

/// A snapshot comes in pages, and the policies of one direction in another page than those of the other.
#[test]
fn a_host_that_has_heard_of_the_policies_of_one_direction_lets_nothing_pass_in_the_other() {
    let heard = |direction: Scope| {
        let mut all = in_the_group().compiled();
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
        let rule = LabelRule { peers: vec![everybody.clone(); peers], ports: vec![] };
        let (namespace, ports) = ("shop".to_owned(), Selector::default());
        cloud.policies =
            vec![Policy { name: String::new(), namespace, ports, ingress: Some(vec![rule]), egress: None }];
        let planner = maps::planned(Planner::with_budget(100), &cloud.compiled(), &[Scope::Host(1), Scope::Subnet(1)]);
        let maps = Maps::of(&planner);
        let decide = |policy| maps.decide(policy, FIRST_SET, Ipv4Addr::LOCALHOST, 6, 10);
        let too_long = planner.problems().iter().any(|problem| problem.reason.contains("takes more than 400 steps"));
        (decide(FIRST_SET), decide(egress(FIRST_SET)), too_long)
    };
    assert_eq!(passes(399), (true, true, false));
    assert_eq!(passes(401), (false, false, true), "nor by the group, which decides about what goes out");
}
