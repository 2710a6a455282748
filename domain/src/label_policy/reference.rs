//! Whether label policies let a packet pass, as the API reference of Kubernetes says it, with no
//! thought of speed.
//!
//! From "Network Policies" and the reference of NetworkPolicySpec: "a pod is isolated for ingress if
//! there is any NetworkPolicy that both selects the pod and has "Ingress" in its policyTypes"; then
//! "the only allowed connections into the pod are those [..] allowed by the ingress list of some
//! NetworkPolicy that applies to the pod for ingress", and the lists "combine additively". The
//! same for egress. `from` "empty or missing: matches all sources"; `ports` likewise "all ports". A
//! peer with both selectors means the ports of the one in the namespaces of the other, one with
//! podSelector alone those of the policy's own namespace. An ipBlock's `except` "should not be included
//! within" it. Answers to what may pass may pass.

use super::{Is, Labels, NAMESPACE_NAME, Peer, Policy, Requirement, Rule, Selector};
use crate::policy::reference::{Packet, Transport};
use crate::security_group::Direction;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// The other side of a packet.
#[derive(Clone, Copy, Debug)]
pub struct Other<'a> {
    /// Its address.
    pub address: IpAddr,
    /// Its labels, if it is a port of the same project in a namespace.
    pub labels: Option<&'a Labels>,
}

/// Whether the policies of a project let a packet of a port pass; `None`: the port is not isolated in
/// this direction, so that they say nothing.
pub fn allows(
    policies: &[Policy],
    port: &Labels,
    direction: Direction,
    packet: Packet,
    other: &Other<'_>,
) -> Option<bool> {
    let mut isolated = false;
    let mut allowed = false;
    for policy in policies {
        let applies = policy.namespace == port.namespace && matches(&policy.ports, &port.labels);
        let rules = match direction {
            Direction::Ingress => &policy.ingress,
            Direction::Egress => &policy.egress,
        };
        if let (true, Some(rules)) = (applies, rules) {
            isolated = true;
            for rule in rules {
                allowed = allowed || of_ports(rule, packet) && of_peers(rule, &policy.namespace, other);
            }
        }
    }
    isolated.then_some(allowed)
}

fn of_ports(rule: &Rule, packet: Packet) -> bool {
    if rule.ports.is_empty() {
        return true;
    }
    let Transport::Port(asked) = packet.transport else { return false };
    rule.ports.iter().any(|ports| ports.protocol == packet.protocol && ports.first <= asked && asked <= ports.last)
}

fn of_peers(rule: &Rule, namespace: &str, other: &Other<'_>) -> bool {
    rule.peers.is_empty() || rule.peers.iter().any(|peer| is_peer(peer, namespace, other))
}

fn is_peer(peer: &Peer, namespace: &str, other: &Other<'_>) -> bool {
    match peer {
        Peer::Block { cidr, except } => {
            cidr.contains(&other.address) && except.iter().all(|hole| !hole.contains(&other.address))
        }
        Peer::Ports { namespaces, ports } => {
            let Some(labels) = other.labels else { return false };
            let mut namespace_labels = labels.namespace_labels.clone();
            namespace_labels.insert(NAMESPACE_NAME.to_owned(), labels.namespace.clone());
            match (namespaces, ports) {
                (None, None) => labels.namespace == namespace,
                (None, Some(ports)) => labels.namespace == namespace && matches(ports, &labels.labels),
                (Some(namespaces), None) => matches(namespaces, &namespace_labels),
                (Some(namespaces), Some(ports)) => {
                    matches(namespaces, &namespace_labels) && matches(ports, &labels.labels)
                }
            }
        }
    }
}

/// "The requirements are ANDed."
fn matches(selector: &Selector, labels: &BTreeMap<String, String>) -> bool {
    for Requirement { key, is } in &selector.0 {
        let value = labels.get(key);
        let fits = match is {
            Is::In(values) => matches!(value, Some(value) if values.contains(value)),
            Is::NotIn(values) => !matches!(value, Some(value) if values.contains(value)),
            Is::There => value.is_some(),
            Is::Absent => value.is_none(),
        };
        if !fits {
            return false;
        }
    }
    true
}
