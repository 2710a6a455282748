//! The resources. A new one is a file here and a line in [`all`].

pub(crate) mod address_groups;
mod address_scopes;
pub mod agents;
mod audit_events;
mod default_security_group_rules;
mod floating_ips;
mod l3;
mod label_policies;
pub mod network_ip_availabilities;
pub mod networks;
mod port_attached;
mod port_bindings;
mod port_extras;
pub mod ports;
mod qos_policies;
mod qos_rule_kinds;
mod qos_rules;
mod qos_use;
mod rbac_policies;
pub(crate) mod router_actions;
pub(crate) mod routers;
mod security_group_rules;
pub(crate) mod security_groups;
pub(crate) mod security_rule;
mod segments;
pub(crate) mod subnet_allocation;
mod subnetpools;
pub mod subnets;
mod trunk_actions;
mod trunks;

use self::qos_rules::Alias;
use crate::frame::extension::Extension;
use crate::frame::handlers;
use crate::frame::plain::Item;
use crate::frame::resource::Resource;
use crate::openapi::document_resource;
use crate::openapi::parts::Document;
use actix_web::web::ServiceConfig;
use mizar_db::resources::{host::Host, network::Network, port::Port};

/// What the frame does with a resource, whatever its type.
#[derive(Clone, Copy)]
pub struct Registered {
    /// As in `{"ports": …}`.
    pub plural: &'static str,
    /// As in `{"port": …}`.
    pub singular: &'static str,
    /// Below /v2.0, or below its parent.
    pub path: &'static str,
    /// Whether it lies below objects of another.
    pub nested: bool,
    /// Routes.
    pub mount: fn(&mut ServiceConfig),
    /// Operations and schemas.
    pub document: fn(&mut Document),
    /// What it adds to /v2.0/extensions.
    pub extensions: &'static [Extension],
    /// Asserts what every resource must keep.
    #[cfg(test)]
    check: fn(),
}

impl Registered {
    const fn of<R: Resource>() -> Self {
        Self {
            plural: R::PLURAL,
            singular: R::SINGULAR,
            path: R::PATH,
            nested: R::PARENT.is_some(),
            mount: handlers::mount::<R>,
            document: document_resource::<R>,
            extensions: R::EXTENSIONS,
            #[cfg(test)]
            check: tests::check::<R>,
        }
    }
}

/// Every resource.
pub fn all() -> Vec<Registered> {
    vec![
        Registered::of::<Network>(),
        Registered::of::<subnets::Subnet>(),
        Registered::of::<Port>(),
        Registered::of::<port_bindings::PortBinding>(),
        Registered::of::<Host>(),
        Registered::of::<Item<address_scopes::AddressScope>>(),
        Registered::of::<Item<subnetpools::SubnetPool>>(),
        Registered::of::<Item<audit_events::AuditEvent>>(),
        Registered::of::<Item<routers::Router>>(),
        Registered::of::<Item<floating_ips::FloatingIp>>(),
        Registered::of::<Item<rbac_policies::RbacPolicy>>(),
        Registered::of::<Item<security_groups::SecurityGroup>>(),
        Registered::of::<Item<security_group_rules::SecurityGroupRule>>(),
        Registered::of::<Item<default_security_group_rules::DefaultRule>>(),
        Registered::of::<Item<address_groups::AddressGroup>>(),
        Registered::of::<Item<label_policies::LabelPolicy>>(),
        Registered::of::<Item<qos_policies::QosPolicy>>(),
        Registered::of::<Item<qos_rule_kinds::BandwidthLimitRule>>(),
        Registered::of::<Item<qos_rule_kinds::DscpMarkingRule>>(),
        Registered::of::<Item<qos_rule_kinds::MinimumBandwidthRule>>(),
        Registered::of::<Item<qos_rule_kinds::MinimumPacketRateRule>>(),
        Registered::of::<Item<qos_rule_kinds::PacketRateLimitRule>>(),
        Registered::of::<Alias<qos_rule_kinds::BandwidthLimitRule>>(),
        Registered::of::<Alias<qos_rule_kinds::DscpMarkingRule>>(),
        Registered::of::<Alias<qos_rule_kinds::MinimumBandwidthRule>>(),
        Registered::of::<Alias<qos_rule_kinds::MinimumPacketRateRule>>(),
        Registered::of::<Item<trunks::Trunk>>(),
        Registered::of::<Item<segments::Segment>>(),
        Registered::of::<agents::Agent>(),
        Registered::of::<network_ip_availabilities::NetworkIpAvailability>(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    pub fn check<R: Resource>() {
        let mut names = BTreeSet::new();
        for attribute in R::map().iter() {
            assert!(names.insert(attribute.name), "{} has {} twice", R::PLURAL, attribute.name);
            assert!(!attribute.required || attribute.post.is_some(), "{} requires what nobody may send", R::PLURAL);
        }
        let id = R::map().get("id");
        assert!(id.is_some_and(|id| id.filter.is_some() && id.sort.is_some()), "{} is not paged by id", R::PLURAL);
    }

    #[test]
    fn every_attribute_map_has_each_name_once_and_sorts_by_id() {
        for resource in all() {
            (resource.check)();
        }
    }
}
