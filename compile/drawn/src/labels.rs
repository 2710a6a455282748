//! Label policies, beside a security group.

use crate::{address, distinct, placed};
use ipnet::IpNet;
use mizar_compile::{Compiled, Object, compile};
use mizar_domain::id::{LabelPolicyId, ProjectId, SecurityGroupId};
use mizar_domain::label_policy::reference::{Other, allows};
use mizar_domain::label_policy::{Is, Labels, NAMESPACE_NAME, Peer, Policy, Ports, Requirement, Rule, Selector};
use mizar_domain::model::{GroupSet, LabelPolicy, LabelProject, Labelled, SecurityGroup};
use mizar_domain::policy;
use mizar_domain::policy::reference::{Packet, Transport};
use mizar_domain::security_group::{Direction, Ethertype};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use uuid::Uuid;

/// Whose policies they are.
pub const OWN: u32 = 1;
/// A project with the same labels.
const OTHER: u32 = 2;

/// The number of the first set.
pub const FIRST_SET: u32 = 100;

/// A port, as far as policies know it: of a project or of none, with the security group or without.
#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    /// Its labels.
    pub labels: Option<Labelled>,
    /// Whether it has the group.
    pub in_group: bool,
}

/// The security group lets this pass in both directions.
fn group_allows(packet: Packet) -> bool {
    packet.protocol == 6 && matches!(packet.transport, Transport::Port(10..=20))
}

/// What tenants made.
#[derive(Clone, Debug)]
pub struct Cloud {
    /// In the order of their ids, which are their places.
    pub policies: Vec<Policy>,
    /// Each once. Numbers of sets are places in this list.
    pub members: Vec<Member>,
}

impl Cloud {
    fn number(place: usize) -> u32 {
        FIRST_SET + u32::try_from(place).expect("few")
    }

    fn set(&self, place: usize) -> GroupSet {
        let member = &self.members[place];
        let groups = if member.in_group { vec![1] } else { vec![] };
        GroupSet { number: Self::number(place), groups, labels: member.labels.clone() }
    }

    /// What may pass by these policies, if any isolates the port.
    pub fn by_policies(
        &self,
        policies: &[Policy],
        own: usize,
        direction: Direction,
        packet: Packet,
        address: Ipv4Addr,
        peer: Option<usize>,
    ) -> Option<bool> {
        let own = self.members[own].labels.as_ref().filter(|own| own.project == OWN)?;
        let labelled = peer.and_then(|peer| self.members[peer].labels.as_ref());
        let labels = labelled.filter(|other| other.project == OWN).map(|other| &other.labels);
        allows(policies, &own.labels, direction, packet, &Other { address: IpAddr::V4(address), labels })
    }
}

impl crate::Cloud for Cloud {
    fn numbers(&self) -> Vec<u32> {
        (0..self.members.len()).map(Self::number).collect()
    }

    fn compiled(&self, ports: &[usize]) -> Compiled {
        let mut all = Compiled::default();
        for (place, policy) in (0..).zip(&self.policies) {
            let id = LabelPolicyId::from(Uuid::from_u128(place));
            all.extend(compile(Object::LabelPolicy(&LabelPolicy { id, project: OWN, policy: policy.clone() })));
        }
        for number in [OWN, OTHER] {
            let id = ProjectId::from(Uuid::from_u128(number.into()));
            all.extend(compile(Object::LabelProject(&LabelProject { id, number, generation: 1 })));
        }
        let rule = |direction| policy::Rule {
            id: Uuid::nil(),
            direction,
            ethertype: Ethertype::V4,
            protocol: Some(6),
            first: 10,
            last: 20,
            remote: policy::Remote::Any,
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
        for member in 0..self.members.len() {
            all.extend(compile(Object::GroupSet(&self.set(member))));
        }
        all.extend(placed(ports.iter().map(|member| self.set(*member))));
        all
    }

    fn meant(&self, own: usize, direction: Direction, packet: Packet, address: Ipv4Addr, peer: Option<usize>) -> bool {
        let by_groups = self.members[own].in_group && group_allows(packet);
        self.by_policies(&self.policies, own, direction, packet, address, peer).unwrap_or(by_groups)
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

fn rule() -> impl Strategy<Value = Rule> {
    let protocol = prop::sample::select(vec![6u8, 17, 132]);
    let ports = (protocol, port(), port(), any::<bool>()).prop_map(|(protocol, a, b, all)| {
        let (first, last) = if all { (0, u16::MAX) } else { (a.min(b), a.max(b)) };
        Ports { protocol, first, last }
    });
    (prop::collection::vec(peer(), 0..3), prop::collection::vec(ports, 0..3))
        .prop_map(|(peers, ports)| Rule { peers, ports })
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

/// Any cloud.
pub fn cloud() -> impl Strategy<Value = Cloud> {
    let members = prop::collection::vec(member(), 1..6).prop_map(distinct);
    (prop::collection::vec(policy(), 0..5), members).prop_map(|(policies, members)| Cloud { policies, members })
}

/// What policies and the group may be about.
pub fn packet() -> impl Strategy<Value = Packet> {
    let with_port = prop::sample::select(vec![6u8, 17, 132]);
    prop_oneof![
        5 => (with_port, port()).prop_map(|(protocol, port)| Packet { protocol, transport: Transport::Port(port) }),
        1 => Just(Packet { protocol: 1, transport: Transport::Icmp(8, 0) }),
        1 => Just(Packet { protocol: 47, transport: Transport::Other }),
    ]
}
