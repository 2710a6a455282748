//! Which rules decide: the tables say only whether.
//!
//! A row of POLICY stands for any number of rules of any number of groups, so what decided is found among the rules that
//! the rows of a set were made of.

use crate::label::{self, LabelPolicies};
use crate::planner::Planner;
use crate::policy::Rules;
use crate::rows::Peers;
use crate::state::State;
use mizar_abi::maps::{cidr_identity, egress};
use mizar_wire::body::{LabelPeer as Peer, LabelPolicy, LabelPorts, Labels, Remote, Rule};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use uuid::Uuid;

/// The first packet of a conversation, as POLICY is asked about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judged {
    /// A set, or its [`egress`].
    pub policy: u32,
    /// Set of the other side.
    pub identity: u32,
    /// Address of the other side.
    pub remote: Ipv4Addr,
    /// IP protocol.
    pub protocol: u8,
    /// Destination port; type and code of ICMP.
    pub port: u16,
}

/// `is_member` says whether the other side has a group.
fn matches(rule: &Rule, judged: &Judged, peers: &impl Peers, is_member: &mut impl FnMut(u32) -> bool) -> bool {
    let address = IpAddr::V4(judged.remote);
    let Rule { id: _, ipv6, protocol, ports: [first, last], remote } = rule;
    let has_number =
        protocol.is_none_or(|protocol| protocol == judged.protocol) && (*first..=*last).contains(&judged.port);
    !ipv6
        && has_number
        && match remote {
            Remote::Any => true,
            Remote::Prefix(net) => net.contains(&address),
            Remote::Group(group) => is_member(*group),
            Remote::AddressGroup(group) => {
                peers.addresses(*group).is_some_and(|nets| nets.iter().any(|net| net.contains(&address)))
            }
        }
}

/// `labels` are those of the other side.
fn matches_labels(policy: &LabelPolicy, judged: &Judged, labels: &[&Labels]) -> bool {
    let is_peer = |peer: &Peer| {
        peer.contains(judged.remote.into()) || labels.iter().any(|labels| peer.names(&policy.namespace, labels))
    };
    let has_number =
        |ports: &LabelPorts| ports.protocol == judged.protocol && (ports.first..=ports.last).contains(&judged.port);
    policy.rules.iter().any(|rule| {
        (rule.ports.is_empty() || rule.ports.iter().any(has_number))
            && (rule.peers.is_empty() || rule.peers.iter().any(is_peer))
    })
}

impl Planner {
    /// The rules that let it pass, or, where label policies decide, these; none: nothing does.
    pub fn rules_about(&self, judged: &Judged) -> Vec<Uuid> {
        let state: &State = self.state();
        let set = judged.policy & !egress(0);
        let is_egress = judged.policy >= cidr_identity(0);
        let Some(need) = state.filters.need(set) else { return Vec::new() };
        if let Some(port) = need.set.labels.as_deref() {
            let selecting: Vec<&LabelPolicy> = if is_egress {
                label::selecting(port, state.egress_policies(port.project)).collect()
            } else {
                label::selecting(port, state.ingress_policies(port.project)).collect()
            };
            if !selecting.is_empty() {
                // Looked for once: there may be many peers, and many sets.
                let labelled = state.labelled(port.project).filter(|(set, _)| *set == judged.identity);
                let labels: Vec<&Labels> = labelled.map(|(_, labels)| labels).collect();
                let deciding = selecting.into_iter().filter(|policy| matches_labels(policy, judged, &labels));
                return deciding.map(|policy| policy.id).collect();
            }
        }
        let groups = &need.set.groups;
        let rules = |group: &u32| if is_egress { state.egress(*group) } else { state.ingress(*group) };
        let all = groups.iter().filter_map(rules).flat_map(|group| &group.rules);
        let mut members = BTreeMap::new();
        let mut is_member = |group: u32| {
            let is_one = || state.sets_with(group).any(|set| set == judged.identity);
            *members.entry(group).or_insert_with(is_one)
        };
        all.filter(|rule| matches(rule, judged, state, &mut is_member)).map(|rule| rule.id).collect()
    }
}
