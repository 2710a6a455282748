//! Security groups: what bouncers need of them, what hosts with their ports need, and who has whom
//! for a peer.
//!
//! A group's ingress rules are one entry and its egress rules another, because different hosts
//! need them. Both carry the generation: a host asks again about flows into its ports when the
//! bouncers' rules have become narrower, and needs no ingress rule for that.

use crate::Compiled;
use crate::object::{id_key, number_key};
use mizar_domain::label_policy::{Peer, Policy};
use mizar_domain::model;
use mizar_domain::policy::{Remote, Rule};
use mizar_domain::security_group::{Direction, Ethertype};
use mizar_wire::{Body, Scope, body};

pub(crate) fn set_body(set: &model::GroupSet) -> body::GroupSet {
    let model::GroupSet { number, groups, labels } = set;
    let boxed = |labelled: &model::Labelled| {
        let model::Labelled { project, labels } = labelled;
        Box::new(body::Labelled { project: *project, labels: labels.clone() })
    };
    let labels = labels.as_ref().map(boxed);
    body::GroupSet { number: *number, groups: groups.clone(), labels }
}

pub(crate) fn security_group(group: &model::SecurityGroup) -> Compiled {
    let model::SecurityGroup { id, number, generation, stateful, rules } = group;
    let (number, generation, stateless) = (*number, *generation, !*stateful);
    let mut out = Compiled::default();
    for (direction, scope) in [(Direction::Ingress, Scope::Group(number)), (Direction::Egress, Scope::Member(number))] {
        let rules: Vec<&Rule> = rules.iter().filter(|rule| rule.direction == direction).collect();
        for rule in &rules {
            match rule.remote {
                Remote::Group(peer) => out.include(scope, Scope::Peers(peer)),
                Remote::AddressGroup(addresses) => out.include(scope, Scope::AddressGroup(addresses)),
                Remote::Any | Remote::Prefix(_) => {}
            }
        }
        let mut rules: Vec<body::Rule> = rules.into_iter().map(rule_body).collect();
        // As the tables hold them they are in no order; an entry must not change without reason.
        rules.sort_by_key(|rule| rule.id);
        let body = body::Group { number, generation, stateless, rules };
        let body = match direction {
            Direction::Ingress => Body::Group(body),
            Direction::Egress => Body::Member(body),
        };
        out.put(scope, 0, id_key(*id), body);
    }
    out
}

fn rule_body(rule: &Rule) -> body::Rule {
    let Rule { id, direction: _, ethertype, protocol, first, last, remote } = *rule;
    let remote = match remote {
        Remote::Any => body::Remote::Any,
        Remote::Prefix(prefix) => body::Remote::Prefix(prefix),
        Remote::Group(number) => body::Remote::Group(number),
        Remote::AddressGroup(number) => body::Remote::AddressGroup(number),
    };
    body::Rule { id, ipv6: ethertype == Ethertype::V6, protocol, ports: [first, last], remote }
}

/// A set is told to whoever has a rule about one of its groups, or about labels like its own.
pub(crate) fn group_set(set: &model::GroupSet) -> Compiled {
    let mut out = Compiled::default();
    for group in &set.groups {
        out.put(Scope::Peers(*group), 0, number_key(set.number), Body::GroupSet(set_body(set)));
    }
    if let Some(model::Labelled { project, .. }) = set.labels {
        out.put(Scope::Labelled(project), 0, number_key(set.number), Body::GroupSet(set_body(set)));
    }
    out
}

/// Each direction that a policy is about is an entry. Which ports it selects, and which it names, is
/// found where it is needed: a policy is as much to write however many these are.
pub(crate) fn label_policy(policy: &model::LabelPolicy) -> Compiled {
    let model::LabelPolicy { id, project, policy } = policy;
    let Policy { name: _, namespace, ports, ingress, egress } = policy;
    let mut out = Compiled::default();
    for (direction, rules) in [(Direction::Ingress, ingress), (Direction::Egress, egress)] {
        let Some(rules) = rules else { continue };
        let body = body::LabelPolicy {
            id: id.uuid(),
            project: *project,
            namespace: namespace.clone(),
            ports: ports.clone(),
            rules: rules.clone(),
        };
        let (scope, body) = match direction {
            Direction::Ingress => (Scope::LabelIngress(*project), Body::LabelIngress(body)),
            Direction::Egress => (Scope::LabelEgress(*project), Body::LabelEgress(body)),
        };
        if rules.iter().flat_map(|rule| &rule.peers).any(|peer| matches!(peer, Peer::Ports { .. })) {
            out.include(scope, Scope::Labelled(*project));
        }
        out.put(scope, 0, id_key(*id), body);
    }
    out
}

/// Without this a host does not know whether it has heard of a project's policies.
pub(crate) fn label_project(project: &model::LabelProject) -> Compiled {
    let model::LabelProject { id, number, generation } = *project;
    let mut out = Compiled::default();
    for scope in [Scope::LabelIngress(number), Scope::LabelEgress(number)] {
        let body = body::LabelGeneration { project: number, generation };
        out.put(scope, 0, id_key(id), Body::LabelGeneration(body));
    }
    out
}

pub(crate) fn address_group(group: &model::AddressGroup) -> Compiled {
    let model::AddressGroup { id, number, addresses } = group;
    let mut out = Compiled::default();
    let body = body::AddressGroup { number: *number, addresses: addresses.clone() };
    out.put(Scope::AddressGroup(*number), 0, id_key(*id), Body::AddressGroup(body));
    out
}
