//! Security groups: what bouncers need of them, what hosts with their ports need, and who has whom
//! for a peer.
//!
//! A group's ingress rules are one entry and its egress rules another, because different hosts
//! need them. Both carry the generation: a host asks again about flows into its ports when the
//! bouncers' rules have become narrower, and needs no ingress rule for that.

use crate::Compiled;
use crate::object::{id_key, number_key};
use mizar_domain::model;
use mizar_domain::policy::{Remote, Rule};
use mizar_domain::security_group::{Direction, Ethertype};
use mizar_wire::{Body, Scope, body};

pub(crate) fn set_body(set: &model::GroupSet) -> body::GroupSet {
    let model::GroupSet { number, groups } = set;
    body::GroupSet { number: *number, groups: groups.clone() }
}

pub(crate) fn security_group(group: &model::SecurityGroup) -> Compiled {
    let model::SecurityGroup { id, number, generation, rules } = group;
    let (number, generation) = (*number, *generation);
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
        let body = body::Group { number, generation, rules };
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

/// A set is told to whoever has a rule about one of its groups.
pub(crate) fn group_set(set: &model::GroupSet) -> Compiled {
    let mut out = Compiled::default();
    for group in &set.groups {
        out.put(Scope::Peers(*group), 0, number_key(set.number), Body::GroupSet(set_body(set)));
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
