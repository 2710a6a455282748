//! What belongs to a project or to the whole cloud, and has no objects with ids: quotas,
//! topologies that make themselves, availability zones, kinds of QoS rules, providers of services. Too unlike the resources of the frame; each is a
//! file of handlers here, and their document is `openapi/cloud.rs`.

pub mod auto_topologies;
pub mod quotas;
pub mod rule_types;
pub mod zones;

use crate::frame::extension::Extension;
use crate::frame::fault::Fault;
use crate::frame::handlers::method_not_allowed;
use crate::frame::query::fields;
use actix_web::web::{self, ServiceConfig};
use serde_json::Value;

/// What `/v2.0/` lists beside the resources: names of one and of all, and the path.
pub const COLLECTIONS: &[(&str, &str, &str)] = &[
    ("quota", "quotas", "quotas"),
    ("availability_zone", "availability_zones", "availability_zones"),
    ("rule_type", "rule_types", "qos/rule-types"),
    ("auto_allocated_topology", "auto_allocated_topologies", "auto-allocated-topology"),
    ("service_provider", "service_providers", "service-providers"),
];

/// What is announced.
pub const EXTENSIONS: &[Extension] = &[
    Extension::new("quotas", "Quota management support", "Operators limit what projects may have."),
    Extension::new("quota_details", "Quota details management support", "Projects see what they use of their quotas."),
    Extension::new("quota-check-limit", "Quota engine limit check", "A limit below what is used is refused."),
    Extension::stored_only(
        "auto-allocated-topology",
        "Auto Allocated Topology Services",
        "Networks with a router for who describes none.",
    ),
    Extension::stored_only("qos-rule-type-details", "Details of QoS rule types", "Which drivers act on a type."),
    Extension::stored_only("qos-rule-type-filter", "QoS rule type filter", "Types of all rules, or of supported ones."),
    Extension::new("availability_zone", "Availability Zone", "Hosts say in which zone they are."),
    Extension::new("service-type", "Neutron Service Type Management", "Lists providers of advanced services."),
];

/// Routes.
pub fn mount(config: &mut ServiceConfig) {
    config
        .configure(auto_topologies::mount)
        .configure(quotas::mount)
        .configure(rule_types::mount)
        .configure(zones::mount);
}

/// A resource that takes nothing but the methods that are added to it.
pub(crate) fn at(path: &str) -> actix_web::Resource {
    web::resource([path.to_owned(), format!("{path}.json")]).default_service(web::to(method_not_allowed))
}

/// The objects that a query asks for: equal to any of the values of each filter, cut to `fields`.
fn select(all: Vec<Value>, pairs: &[(String, String)], filters: &[&str]) -> Result<Vec<Value>, Fault> {
    let wanted = fields(pairs);
    let mut kept = all;
    for (name, _) in pairs.iter().filter(|(name, _)| name != "fields") {
        if !filters.contains(&name.as_str()) {
            return Err(Fault::bad_request(format!("['{name}'] is invalid attribute for filtering")));
        }
        kept.retain(|object| {
            pairs.iter().any(|(other, value)| other == name && object[name.as_str()] == value.as_str())
        });
    }
    if !wanted.is_empty() {
        for object in &mut kept {
            if let Value::Object(object) = object {
                object.retain(|name, _| wanted.contains(name));
            }
        }
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::query::parameters;
    use serde_json::json;

    #[test]
    fn a_query_filters_by_any_value_of_each_name_and_cuts_to_the_fields() {
        let all = || vec![json!({"a": "1", "b": "x"}), json!({"a": "2", "b": "x"}), json!({"a": "3", "b": "y"})];
        let select = |query| select(all(), &parameters(query)?, &["a", "b"]);
        let select = |query| select(query).map_err(|fault: Fault| fault.status().as_u16());
        assert_eq!(select(""), Ok(all()));
        assert_eq!(select("a=1&a=3&b=x"), Ok(vec![json!({"a": "1", "b": "x"})]));
        assert_eq!(select("a=2&fields=b"), Ok(vec![json!({"b": "x"})]));
        assert_eq!(select("c=1"), Err(400));
    }
}
