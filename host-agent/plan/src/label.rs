//! Label policies: the rows of a port that some of them isolate.
//!
//! A port's labels are part of its set, so its number is an identity by which rules about labels are
//! looked up like those about groups. Which sets a selector means is found here, on the hosts that
//! need the policy, so that a policy is one entry in the feed however many ports it selects.
//!
//! In a direction in which any policy isolates the port, policies alone decide; in the other, and
//! where none does, its security groups do.

use crate::policy::{Builder, note};
use mizar_wire::body::{LabelPolicy, Labelled, Labels};

/// What a host knows of the policies of a project.
pub(crate) trait LabelPolicies {
    /// Those about what comes in.
    fn ingress_policies(&self, project: u32) -> impl Iterator<Item = &LabelPolicy>;
    /// Those about what goes out.
    fn egress_policies(&self, project: u32) -> impl Iterator<Item = &LabelPolicy>;
    /// How often less may pass than before; `None`: the host has not heard of all those about what comes in.
    fn ingress_generation(&self, project: u32) -> Option<u32>;
    /// The same of what goes out. Either comes after the policies of its direction, and alone.
    fn egress_generation(&self, project: u32) -> Option<u32>;
    /// Its sets, by what they are labelled.
    fn labelled(&self, project: u32) -> impl Iterator<Item = (u32, &Labels)>;
}

/// Those of a project's policies that select a port.
pub(crate) fn selecting<'p>(
    port: &Labelled,
    policies: impl Iterator<Item = &'p LabelPolicy>,
) -> impl Iterator<Item = &'p LabelPolicy> {
    policies.filter(|policy| policy.namespace == port.labels.namespace && policy.ports.selects(&port.labels))
}

/// Adds what policies allow a port. Returns whether any of them isolates it.
pub(crate) fn add<'p>(
    to: &mut Builder,
    port: &Labelled,
    policies: impl Iterator<Item = &'p LabelPolicy>,
    context: &impl LabelPolicies,
    problem: &mut Option<String>,
) -> bool {
    let mut isolated = false;
    for policy in selecting(port, policies) {
        isolated = true;
        for rule in &policy.rules {
            if let Some(wrong) = rule.ports.iter().find(|ports| ports.first > ports.last) {
                let wrong = *wrong;
                note(problem, || format!("label policy {} has {wrong:?}, which are no interval", policy.id));
            }
            let grant = rule.ports.iter().fold(Grant::of(rule.ports.is_empty()), Grant::with);
            for peer in &rule.peers {
                for (set, labels) in context.labelled(port.project) {
                    if peer.names(&policy.namespace, labels) {
                        to.allow_set(set, &grant.0);
                    }
                }
                for net in peer.blocks() {
                    to.allow_net(net, &grant.0);
                }
            }
            if rule.peers.is_empty() {
                to.allow_everybody(&grant.0);
            }
        }
    }
    isolated
}

/// What one rule lets pass.
struct Grant(crate::allowed::Allowed);

impl Grant {
    fn of(everything: bool) -> Self {
        let mut allowed = crate::allowed::Allowed::default();
        if everything {
            allowed.add(None, 0, u16::MAX);
        }
        Self(allowed)
    }

    fn with(mut self, ports: &mizar_wire::body::LabelPorts) -> Self {
        self.0.add(Some(ports.protocol), ports.first, ports.last);
        self
    }
}
