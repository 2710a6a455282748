//! The five kinds of QoS rules: what each holds.

use super::qos_policies::QosPolicy;
use super::qos_rules::{Alias, Aliased, Direction, Dscp, KindOfRule, Rate, check, visible};
use crate::frame::attribute::{Attribute, AttributeMap};
use crate::frame::extension::Extension;
use crate::frame::fault::Fault;
use crate::frame::fields::Fields;
use crate::frame::parent::Parent;
use crate::frame::plain::{Item, Plain};
use crate::frame::resource::{Operations, Tx};
use crate::{column, stored};
use diesel::{ExpressionMethods as _, NullableExpressionMethods as _};
use mizar_db::listing::Predicate;
use mizar_domain::qos::{Rule, RuleKind};
use std::sync::LazyLock;
use uuid::Uuid;

stored! {
    /// No more than so many kilobits a second.
    pub struct BandwidthLimitRule in qos_bandwidth_limit_rules: common {
        qos_policy_id: Uuid as Uuid,
        max_kbps: i32 as Int4,
        max_burst_kbps: i32 as Int4,
        direction: String as Text,
    }
}

stored! {
    /// Packets leave with this code point.
    pub struct DscpMarkingRule in qos_dscp_marking_rules: common {
        qos_policy_id: Uuid as Uuid,
        dscp_mark: i32 as Int4,
    }
}

stored! {
    /// So many kilobits a second at least.
    pub struct MinimumBandwidthRule in qos_minimum_bandwidth_rules: common {
        qos_policy_id: Uuid as Uuid,
        min_kbps: i32 as Int4,
        direction: String as Text,
    }
}

stored! {
    /// So many thousands of packets a second at least.
    pub struct MinimumPacketRateRule in qos_minimum_packet_rate_rules: common {
        qos_policy_id: Uuid as Uuid,
        min_kpps: i32 as Int4,
        direction: String as Text,
    }
}

stored! {
    /// No more than so many thousands of packets a second.
    pub struct PacketRateLimitRule in qos_packet_rate_limit_rules: common {
        qos_policy_id: Uuid as Uuid,
        max_kpps: i32 as Int4,
        max_burst_kpps: i32 as Int4,
        direction: String as Text,
    }
}

/// What makes a row a resource: its kind and name, which of its columns is the amount, and which
/// the burst and the direction, if it has them.
macro_rules! rule {
    (@option) => { None };
    (@option $value:expr) => { Some($value) };
    (
        @attributes $object:ty, $row:ident in $table:ident: $required:ident,
        amount $amount:ident: $unit:ty $(, burst $burst:ident)? $(, direction $direction:ident: $way:ty)?
    ) => {
        vec![
            column!($object, $table, $row, id: Uuid),
            column!($object, $table, $row, $amount: i32 as $unit).$required().put(),
            $(column!($object, $table, $row, $burst: i32 as Rate).writable(),)?
            $(column!($object, $table, $row, $direction: String as $way).writable(),)?
        ]
    };
    (
        $row:ident in $table:ident: $kind:expr, $name:literal,
        amount $amount:ident: $unit:ty $(, burst $burst:ident)? $(, direction $direction:ident: $way:ty)?;
        $($extension:expr),*
    ) => {
        impl $row {
            fn update_from(&mut self, fields: &mut Fields<'_>) -> Result<(), Fault> {
                if let Some(amount) = fields.optional::<$unit>(stringify!($amount))? {
                    self.$amount = amount.0;
                }
                $(if let Some(Rate(burst)) = fields.optional(stringify!($burst))? {
                    self.$burst = burst;
                })?
                $(if let Some(way) = fields.optional::<$way>(stringify!($direction))? {
                    self.$direction = way.0;
                })?
                Ok(())
            }
        }

        impl KindOfRule for $row {
            fn rule(&self) -> Rule {
                Rule {
                    policy: self.qos_policy_id.into(),
                    id: self.id,
                    kind: $kind,
                    direction: rule!(@option $(self.$direction.clone())?),
                    amount: self.$amount,
                    burst: rule!(@option $(self.$burst)?),
                }
            }
        }

        impl Plain for $row {
            type More = ();

            const SINGULAR: &'static str = concat!($name, "_rule");
            const PLURAL: &'static str = concat!($name, "_rules");
            const KIND: &'static str = stringify!($row);
            const NOT_FOUND: &'static str = "QosRuleNotFound";
            const OPERATIONS: Operations = Operations::MANAGED;
            const EXTENSIONS: &'static [Extension] = &[$($extension),*];
            const PARENT: Option<Parent<Item<Self>>> =
                Some(Parent::of::<Item<QosPolicy>>(|policy| Box::new($table::qos_policy_id.eq(policy).nullable())));

            fn attributes() -> Vec<Attribute<Item<Self>>> {
                rule!(
                    @attributes Item<$row>, $row in $table: required,
                    amount $amount: $unit $(, burst $burst)? $(, direction $direction: $way)?
                )
            }

            fn visible(project: Uuid) -> Predicate<$table::table> {
                visible(concat!(stringify!($table), ".qos_policy_id"), project)
            }

            fn create(fields: &mut Fields<'_>) -> Result<Self, Fault> {
                let mut row = Self { qos_policy_id: fields.parent()?, ..Self::new() };
                $(row.$direction = <$way>::default().0;)?
                row.update_from(fields)?;
                Ok(row)
            }

            fn update(&mut self, fields: &mut Fields<'_>) -> Result<(), Fault> {
                self.update_from(fields)
            }

            async fn before_create(tx: &mut Tx<'_>, rows: &mut [Self]) -> Result<(), Fault> {
                check(tx, rows).await
            }

            async fn before_update(tx: &mut Tx<'_>, _: &Item<Self>, new: &mut Self) -> Result<(), Fault> {
                check(tx, std::slice::from_ref(new)).await
            }
        }
    };
}

/// Makes a kind of rules reachable by their own ids.
macro_rules! alias {
    (
        $row:ident in $table:ident: $name:literal, $path:literal,
        amount $amount:ident: $unit:ty $(, burst $burst:ident)? $(, direction $direction:ident: $way:ty)?;
        $($extension:expr),*
    ) => {
        impl Aliased for $row {
            const ALIAS: &'static str = concat!("alias_", $name, "_rule");
            const ALIASES: &'static str = concat!("alias_", $name, "_rules");
            const ALIAS_PATH: &'static str = concat!("qos/alias-", $path, "-rules");
            const ALIAS_ALSO: &'static str = concat!("qos/alias_", $name, "_rules");
            const ALIAS_KIND: &'static str = concat!("Alias", stringify!($row));
            const ALIAS_EXTENSIONS: &'static [Extension] = &[$($extension),*];

            fn alias_map() -> &'static AttributeMap<Alias<Self>> {
                static MAP: LazyLock<AttributeMap<Alias<$row>>> = LazyLock::new(|| {
                    AttributeMap::new(rule!(
                        @attributes Alias<$row>, $row in $table: put,
                        amount $amount: $unit $(, burst $burst)? $(, direction $direction: $way)?
                    ))
                });
                &MAP
            }
        }
    };
}

rule! {
    BandwidthLimitRule in qos_bandwidth_limit_rules: RuleKind::BandwidthLimit, "bandwidth_limit",
    amount max_kbps: Rate, burst max_burst_kbps, direction direction: Direction<false>;
    Extension::stored_only("qos-bw-limit-direction", "QoS bandwidth limit direction", "Limits are for a direction.")
}
alias! {
    BandwidthLimitRule in qos_bandwidth_limit_rules: "bandwidth_limit", "bandwidth-limit",
    amount max_kbps: Rate, burst max_burst_kbps, direction direction: Direction<false>;
    Extension::stored_only("qos-rules-alias", "QoS rules alias", "Rules are reached without their policy.")
}

rule! {
    DscpMarkingRule in qos_dscp_marking_rules: RuleKind::DscpMarking, "dscp_marking", amount dscp_mark: Dscp;
}
alias! {
    DscpMarkingRule in qos_dscp_marking_rules: "dscp_marking", "dscp-marking", amount dscp_mark: Dscp;
}

rule! {
    MinimumBandwidthRule in qos_minimum_bandwidth_rules: RuleKind::MinimumBandwidth, "minimum_bandwidth",
    amount min_kbps: Rate, direction direction: Direction<false>;
    Extension::stored_only("qos-bw-minimum-ingress", "QoS ingress minimum bandwidth", "Minima are for a direction.")
}
alias! {
    MinimumBandwidthRule in qos_minimum_bandwidth_rules: "minimum_bandwidth", "minimum-bandwidth",
    amount min_kbps: Rate, direction direction: Direction<false>;
}

rule! {
    MinimumPacketRateRule in qos_minimum_packet_rate_rules: RuleKind::MinimumPacketRate, "minimum_packet_rate",
    amount min_kpps: Rate, direction direction: Direction<true>;
    Extension::stored_only("qos-pps-minimum", "QoS minimum packet rate", "So many packets a second at least.")
}
alias! {
    MinimumPacketRateRule in qos_minimum_packet_rate_rules: "minimum_packet_rate", "minimum-packet-rate",
    amount min_kpps: Rate, direction direction: Direction<true>;
    Extension::stored_only("qos-pps-minimum-rule-alias", "QoS minimum packet rate alias", "Without their policy.")
}

rule! {
    PacketRateLimitRule in qos_packet_rate_limit_rules: RuleKind::PacketRateLimit, "packet_rate_limit",
    amount max_kpps: Rate, burst max_burst_kpps, direction direction: Direction<false>;
    Extension::stored_only("qos-pps", "QoS packet rate limit", "No more than so many packets a second.")
}
