//! Which rules decide: the tables say only whether.
//!
//! A row of POLICY stands for any number of rules of any number of groups, so what decided is found among the rules that
//! the rows of a set were made of.

use crate::planner::Planner;
use crate::policy::{Peers, Rules};
use crate::state::State;
use mizar_abi::maps::{cidr_identity, egress};
use mizar_wire::body::{Remote, Rule};
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

fn matches(rule: &Rule, judged: &Judged, peers: &impl Peers) -> bool {
    let address = IpAddr::V4(judged.remote);
    let Rule { id: _, ipv6, protocol, ports: [first, last], remote } = rule;
    let has_number =
        protocol.is_none_or(|protocol| protocol == judged.protocol) && (*first..=*last).contains(&judged.port);
    !ipv6
        && has_number
        && match remote {
            Remote::Any => true,
            Remote::Prefix(net) => net.contains(&address),
            Remote::Group(group) => peers.sets_with(*group).any(|set| set == judged.identity),
            Remote::AddressGroup(group) => {
                peers.addresses(*group).is_some_and(|nets| nets.iter().any(|net| net.contains(&address)))
            }
        }
}

impl Planner {
    /// The rules that let it pass; none: nothing does.
    pub fn rules_about(&self, judged: &Judged) -> Vec<Uuid> {
        let state: &State = self.state();
        let set = judged.policy & !egress(0);
        let is_egress = judged.policy >= cidr_identity(0);
        let groups = state.filters.need(set).map(|need| need.groups).unwrap_or_default();
        let rules = |group: &u32| if is_egress { state.egress(*group) } else { state.ingress(*group) };
        let all = groups.iter().filter_map(rules).flat_map(|group| &group.rules);
        all.filter(|rule| matches(rule, judged, state)).map(|rule| rule.id).collect()
    }
}
