//! Rules of QoS policies, and which cannot stand beside each other.

use crate::id::QosPolicyId;
use uuid::Uuid;

/// What a rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleKind {
    /// No more than so many kilobits a second.
    BandwidthLimit,
    /// Packets leave with this code point.
    DscpMarking,
    /// So many kilobits a second at least.
    MinimumBandwidth,
    /// So many thousands of packets a second at least.
    MinimumPacketRate,
    /// No more than so many thousands of packets a second.
    PacketRateLimit,
}

impl RuleKind {
    /// All, in the order of their names.
    pub const ALL: [Self; 5] = [
        Self::BandwidthLimit,
        Self::DscpMarking,
        Self::MinimumBandwidth,
        Self::MinimumPacketRate,
        Self::PacketRateLimit,
    ];

    /// Neutron's name of the type.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BandwidthLimit => "bandwidth_limit",
            Self::DscpMarking => "dscp_marking",
            Self::MinimumBandwidth => "minimum_bandwidth",
            Self::MinimumPacketRate => "minimum_packet_rate",
            Self::PacketRateLimit => "packet_rate_limit",
        }
    }

    /// The type of a name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// Attribute that holds the amount.
    pub const fn amount(self) -> &'static str {
        match self {
            Self::BandwidthLimit => "max_kbps",
            Self::DscpMarking => "dscp_mark",
            Self::MinimumBandwidth => "min_kbps",
            Self::MinimumPacketRate => "min_kpps",
            Self::PacketRateLimit => "max_kpps",
        }
    }

    /// Attribute that holds the burst, if rules of this kind have one.
    pub const fn burst(self) -> Option<&'static str> {
        match self {
            Self::BandwidthLimit => Some("max_burst_kbps"),
            Self::PacketRateLimit => Some("max_burst_kpps"),
            Self::DscpMarking | Self::MinimumBandwidth | Self::MinimumPacketRate => None,
        }
    }
}

/// Both directions together, of a minimum of packets.
const ANY: &str = "any";

/// A rule of any kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its policy.
    pub policy: QosPolicyId,
    /// Its id.
    pub id: Uuid,
    /// What it does.
    pub kind: RuleKind,
    /// As its port sees it; none: marking has no direction.
    pub direction: Option<String>,
    /// How much.
    pub amount: i32,
    /// How much more for a moment.
    pub burst: Option<i32>,
}

/// Why a policy cannot have a rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleConflict {
    /// It has one of this kind and direction.
    #[error("Rule {kind} conflicts with rule {id} which already exists in QoS Policy {policy}.", kind = .kind.as_str())]
    Again {
        /// Kind of both.
        kind: RuleKind,
        /// The rule that it has.
        id: Uuid,
        /// The policy.
        policy: QosPolicyId,
    },
    /// No packet could obey both.
    #[error(
        "Unable to add the rule with value {value} to the policy {policy} as the existing rule of type {kind} \
         restricts the bandwidth to {existing}.",
        kind = .kind.as_str()
    )]
    Contradiction {
        /// Of the new rule.
        value: String,
        /// The policy.
        policy: QosPolicyId,
        /// Kind of the rule that it has.
        kind: RuleKind,
        /// Of that rule.
        existing: String,
    },
}

impl Rule {
    /// Whether the rule can stand beside others of its policy. Itself, as it was, is none of them.
    pub fn check(&self, others: &[Self]) -> Result<(), RuleConflict> {
        for other in others.iter().filter(|other| other.id != self.id) {
            if other.kind == self.kind && other.direction == self.direction {
                return Err(RuleConflict::Again { kind: self.kind, id: other.id, policy: self.policy });
            }
            if let Some((value, existing)) = self.contradicts(other) {
                return Err(RuleConflict::Contradiction { value, policy: self.policy, kind: other.kind, existing });
            }
        }
        Ok(())
    }

    /// What of the two does not go together.
    fn contradicts(&self, other: &Self) -> Option<(String, String)> {
        let amounts = || (self.amount.to_string(), other.amount.to_string());
        let same_way = self.direction == other.direction;
        match (self.kind, other.kind) {
            (RuleKind::BandwidthLimit, RuleKind::MinimumBandwidth) if same_way && self.amount < other.amount => {
                Some(amounts())
            }
            (RuleKind::MinimumBandwidth, RuleKind::BandwidthLimit) if same_way && self.amount > other.amount => {
                Some(amounts())
            }
            // One minimum for both directions, or one for each.
            (RuleKind::MinimumPacketRate, RuleKind::MinimumPacketRate) => {
                let (new, old) = (self.direction.as_deref()?, other.direction.as_deref()?);
                ((new == ANY) != (old == ANY)).then(|| (new.to_owned(), old.to_owned()))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(kind: RuleKind, direction: &str, amount: i32) -> Rule {
        let direction = (kind != RuleKind::DscpMarking).then(|| direction.to_owned());
        let policy = QosPolicyId::from(Uuid::nil());
        Rule { policy, id: Uuid::new_v4(), kind, direction, amount, burst: None }
    }

    #[test]
    fn a_policy_has_one_rule_of_each_kind_and_direction() {
        use RuleKind::{BandwidthLimit, DscpMarking, MinimumPacketRate};
        let old = [rule(BandwidthLimit, "egress", 10), rule(DscpMarking, "", 8)];
        for again in [rule(BandwidthLimit, "egress", 20), rule(DscpMarking, "", 10)] {
            assert!(matches!(again.check(&old), Err(RuleConflict::Again { .. })), "{again:?}");
        }
        for new in [rule(BandwidthLimit, "ingress", 20), rule(MinimumPacketRate, "egress", 1)] {
            assert_eq!(new.check(&old), Ok(()));
        }
        let changed = Rule { amount: 5, ..old[0].clone() };
        assert_eq!(changed.check(&old), Ok(()), "a rule does not conflict with itself");
    }

    #[test]
    fn a_minimum_is_not_above_the_limit_of_its_direction() {
        use RuleKind::{BandwidthLimit, MinimumBandwidth, PacketRateLimit};
        let limit = [rule(BandwidthLimit, "egress", 100)];
        assert_eq!(rule(MinimumBandwidth, "egress", 100).check(&limit), Ok(()));
        assert_eq!(rule(MinimumBandwidth, "ingress", 101).check(&limit), Ok(()));
        let message = rule(MinimumBandwidth, "egress", 101).check(&limit).map_err(|error| error.to_string());
        assert!(message.is_err_and(|text| text.contains("value 101") && text.contains("bandwidth to 100.")));
        let least = [rule(MinimumBandwidth, "ingress", 100)];
        assert!(rule(BandwidthLimit, "ingress", 99).check(&least).is_err());
        assert_eq!(rule(BandwidthLimit, "egress", 99).check(&least), Ok(()));
        assert_eq!(rule(PacketRateLimit, "ingress", 1).check(&least), Ok(()), "packets are not bits");
    }

    #[test]
    fn a_minimum_of_packets_is_for_both_directions_or_for_each() {
        let rate = |direction| rule(RuleKind::MinimumPacketRate, direction, 1);
        assert!(rate("any").check(&[rate("ingress")]).is_err());
        assert!(rate("egress").check(&[rate("any")]).is_err());
        assert_eq!(rate("egress").check(&[rate("ingress")]), Ok(()));
    }

    #[test]
    fn every_kind_has_a_name_of_its_own() {
        for kind in RuleKind::ALL {
            assert_eq!(RuleKind::named(kind.as_str()), Some(kind));
        }
        assert_eq!(RuleKind::named("bandwidth"), None);
    }
}
