//! Label policies: what Kubernetes calls a NetworkPolicy (networking.k8s.io/v1).
//!
//! A port that is in a *namespace* has labels, and policies of its project select it by them. What
//! selects no port does nothing; a port that any policy selects for a direction is *isolated* in it:
//! what no rule of those policies allows does not pass. Rules name the other side by labels of ports
//! and of namespaces, or by blocks of addresses.
//!
//! [`manifest`] reads a manifest as it is written for Kubernetes, [`limits`] says how much one may ask
//! for, [`reference`] what passes, slowly.

pub mod limits;
pub mod manifest;
pub mod reference;

use crate::security_group::Direction;
use ipnet::{IpNet, Ipv4Net};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// The label that every namespace has: its name.
pub const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";

/// By what policies know a port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Labels {
    /// The namespace that it is in.
    pub namespace: String,
    /// The labels of its namespace, but for the name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub namespace_labels: BTreeMap<String, String>,
    /// Its own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

impl Labels {
    fn in_namespace(&self, key: &str) -> Option<&String> {
        if key == NAMESPACE_NAME { Some(&self.namespace) } else { self.namespace_labels.get(key) }
    }
}

/// What labels must be like. Without requirements it is everybody.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Selector(pub Vec<Requirement>);

/// What one label must be like.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Requirement {
    /// Its name.
    pub key: String,
    /// What is asked of it.
    pub is: Is,
}

/// What is asked of a label.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Is {
    /// Its value is one of these.
    In(BTreeSet<String>),
    /// It is not there, or its value is none of these.
    NotIn(BTreeSet<String>),
    /// It is there.
    There,
    /// It is not.
    Absent,
}

impl Selector {
    fn holds<'l>(&self, label: impl Fn(&str) -> Option<&'l String>) -> bool {
        self.0.iter().all(|Requirement { key, is }| match (is, label(key)) {
            (Is::In(values), found) => found.is_some_and(|value| values.contains(value)),
            (Is::NotIn(values), found) => found.is_none_or(|value| !values.contains(value)),
            (Is::There, found) => found.is_some(),
            (Is::Absent, found) => found.is_none(),
        })
    }

    /// Whether a port's own labels are like this.
    pub fn selects(&self, labels: &Labels) -> bool {
        self.holds(|key| labels.labels.get(key))
    }

    /// Whether those of its namespace are.
    pub fn selects_namespace(&self, labels: &Labels) -> bool {
        self.holds(|key| labels.in_namespace(key))
    }
}

/// The other side of a rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Peer {
    /// Addresses.
    Block {
        /// Of this range.
        cidr: IpNet,
        /// But for these.
        except: Vec<IpNet>,
    },
    /// Ports by their labels.
    Ports {
        /// In namespaces like this; `None`: in the policy's own.
        namespaces: Option<Selector>,
        /// Like this; `None`: all of them.
        ports: Option<Selector>,
    },
}

impl Peer {
    /// Whether a port with these labels, of the policy's project, is meant.
    pub fn names(&self, namespace: &str, labels: &Labels) -> bool {
        let Self::Ports { namespaces, ports } = self else { return false };
        let inside = match namespaces {
            Some(selector) => selector.selects_namespace(labels),
            None => labels.namespace == namespace,
        };
        inside && ports.as_ref().is_none_or(|selector| selector.selects(labels))
    }

    /// Whether an address is meant.
    pub fn contains(&self, address: IpAddr) -> bool {
        let Self::Block { cidr, except } = self else { return false };
        cidr.contains(&address) && !except.iter().any(|hole| hole.contains(&address))
    }

    /// The IPv4 addresses that are meant, as the fewest ranges. They do not overlap.
    pub fn blocks(&self) -> Vec<Ipv4Net> {
        let Self::Block { cidr: IpNet::V4(cidr), except } = self else { return Vec::new() };
        let holes = except.iter().filter_map(|hole| match hole {
            IpNet::V4(hole) => Some(hole.trunc()),
            IpNet::V6(_) => None,
        });
        let mut left = Vec::new();
        without(cidr.trunc(), &holes.collect::<Vec<_>>(), &mut left);
        left
    }
}

/// A range without others: itself, if none of them touches it, or what is left of its halves. So it takes
/// a step for each bit by which a hole is longer, however many there are beside it.
fn without(net: Ipv4Net, holes: &[Ipv4Net], left: &mut Vec<Ipv4Net>) {
    let inside: Vec<Ipv4Net> = holes.iter().filter(|hole| net.contains(*hole)).copied().collect();
    if holes.iter().any(|hole| hole.contains(&net)) {
        return;
    }
    if inside.is_empty() {
        left.push(net);
    } else if let Ok(halves) = net.subnets(net.prefix_len() + 1) {
        halves.for_each(|half| without(half, &inside, left));
    }
}

/// Destination ports of a protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ports {
    /// Its number.
    pub protocol: u8,
    /// The first.
    pub first: u16,
    /// The last.
    pub last: u16,
}

/// What may pass.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// To or from any of these; none: everybody.
    pub peers: Vec<Peer>,
    /// To any of these; none: everything, of every protocol.
    pub ports: Vec<Ports>,
}

/// A label policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Its name, one in its namespace.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Which ports of the namespace it is for.
    pub ports: Selector,
    /// What may come in to them; `None`: it says nothing about that.
    pub ingress: Option<Vec<Rule>>,
    /// What may go out.
    pub egress: Option<Vec<Rule>>,
}

impl Policy {
    /// What it allows a port with these labels, of its project, in a direction; `None`: it does not isolate it.
    pub fn isolates(&self, labels: &Labels, direction: Direction) -> Option<&[Rule]> {
        let rules = match direction {
            Direction::Ingress => &self.ingress,
            Direction::Egress => &self.egress,
        };
        let selects = self.namespace == labels.namespace && self.ports.selects(labels);
        rules.as_deref().filter(|_| selects)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::Ipv4Addr;

    proptest! {
        #[test]
        fn a_block_is_its_range_without_its_exceptions_and_no_address_twice(
            base in 0u32..64, length in 26u8..=32,
            holes in prop::collection::vec((0u32..64, 26u8..=32), 0..4),
        ) {
            let net = |(base, length): (u32, u8)| {
                Ipv4Net::new_assert(Ipv4Addr::from(0x0a00_0000 | base), length).trunc()
            };
            let (cidr, holes) = (net((base, length)), holes.into_iter().map(net).collect::<Vec<_>>());
            let block = Peer::Block { cidr: cidr.into(), except: holes.iter().map(|hole| (*hole).into()).collect() };
            let blocks = block.blocks();
            for address in (0..64).map(|last| Ipv4Addr::from(0x0a00_0000 | last)) {
                let meant = cidr.contains(&address) && !holes.iter().any(|hole| hole.contains(&address));
                prop_assert_eq!(blocks.iter().filter(|net| net.contains(&address)).count(), usize::from(meant));
                prop_assert_eq!(block.contains(address.into()), meant);
            }
        }
    }

    #[test]
    fn what_is_not_there_is_not_in_but_neither_in() {
        let labels = Labels {
            namespace: "shop".into(),
            namespace_labels: BTreeMap::from([("stage".into(), "live".into())]),
            labels: BTreeMap::from([("app".into(), "web".into())]),
        };
        let selector = |key: &str, is| Selector(vec![Requirement { key: key.into(), is }]);
        let of = |value: &str| BTreeSet::from([value.to_owned()]);
        assert!(Selector::default().selects(&labels) && Selector::default().selects_namespace(&labels));
        assert!(selector("app", Is::In(of("web"))).selects(&labels));
        assert!(!selector("app", Is::In(of("db"))).selects(&labels));
        assert!(!selector("tier", Is::In(of("web"))).selects(&labels));
        assert!(selector("tier", Is::NotIn(of("web"))).selects(&labels));
        assert!(!selector("app", Is::NotIn(of("web"))).selects(&labels));
        assert!(selector("app", Is::There).selects(&labels) && !selector("tier", Is::There).selects(&labels));
        assert!(selector("tier", Is::Absent).selects(&labels) && !selector("app", Is::Absent).selects(&labels));
        assert!(selector(NAMESPACE_NAME, Is::In(of("shop"))).selects_namespace(&labels));
        assert!(selector("stage", Is::In(of("live"))).selects_namespace(&labels));
        assert!(!selector("app", Is::There).selects_namespace(&labels), "a port's label is none of its namespace");
    }
}
