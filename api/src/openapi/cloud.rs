//! The operations on quotas, availability zones and service providers.

use super::parts::{Document, WRITE_FAILURES, answer, body, empty, envelope, named, neutron, path, query};
use crate::cloud::{auto_topologies, quotas, rule_types, zones};
use crate::frame::decode::{Decode, plain};
use crate::frame::quota::Quotas;
use crate::frame::standard::project_schema;
use utoipa::openapi::path::HttpMethod;
use utoipa::openapi::schema::{AdditionalProperties, Array, ObjectBuilder, Type};
use utoipa::openapi::{RefOr, Schema};

const READ: &[(u16, &str)] = &[(403, "Not allowed"), (404, "No project has such an id")];
const LIST: &[(u16, &str)] = &[(400, "An unknown filter"), (403, "Not allowed")];

fn limit() -> RefOr<Schema> {
    plain(Type::Integer).minimum(Some(-1)).maximum(Some(quotas::MAX)).into()
}

/// An object with a property for each resource that has a quota.
fn each(schema: fn() -> RefOr<Schema>, required: bool) -> ObjectBuilder {
    let mut object = ObjectBuilder::new().schema_type(Type::Object);
    for (name, _) in Quotas::default().iter() {
        object = object.property(name, schema());
        if required {
            object = object.required(name);
        }
    }
    object
}

fn detail() -> RefOr<Schema> {
    let object = ObjectBuilder::new().schema_type(Type::Object);
    let object = object.property("limit", limit()).property("used", i64::schema()).property("reserved", i64::schema());
    object.required("limit").required("used").required("reserved").into()
}

fn texts(names: &[&str]) -> ObjectBuilder {
    names.iter().fold(ObjectBuilder::new().schema_type(Type::Object), |object, name| {
        object.property(*name, plain(Type::String)).required(*name)
    })
}

/// Adds them.
pub fn document(document: &mut Document) {
    quota(document);
    auto_topology(document);
    document.tag("availability_zones", "Zones of hosts.");
    let zone = ObjectBuilder::new()
        .schema_type(Type::Object)
        .property("name", plain(Type::String))
        .property("resource", plain(Type::String).enum_values(Some(["network"])))
        .property("state", plain(Type::String).enum_values(Some(zones::STATES)));
    document.schema("AvailabilityZone", zone.required("name").required("resource").required("state").into());
    let mut list = neutron("availability_zones", "list_availability_zones".into(), "The zones of hosts", LIST)
        .response("200", answer("They", envelope("availability_zones", Array::new(named("AvailabilityZone")))));
    for name in zones::ZONE_FILTERS {
        list = list.parameter(query(name, plain(Type::String).into(), "Filter"));
    }
    document.operation(HttpMethod::Get, "/v2.0/availability_zones", list.build());
    rule_types(document);
    let providers = envelope("service_providers", Array::new(texts(&["service_type", "name"])));
    let mut list = neutron("discovery", "list_service_providers".into(), "None: services have one provider", LIST)
        .response("200", answer("They", providers));
    for name in zones::PROVIDER_FILTERS {
        list = list.parameter(query(name, plain(Type::String).into(), "Filter"));
    }
    document.operation(HttpMethod::Get, "/v2.0/service-providers", list.build());
}

fn auto_topology(document: &mut Document) {
    const TAG: &str = "auto_allocated_topologies";
    document.tag(TAG, "A network, a subnet and a router for projects that describe none.");
    let failures = &[
        (400, "An unknown field or filter"),
        (403, "Not allowed"),
        (404, "No project has such an id"),
        (409, "There is no default external network or subnet pool, or a quota is used up"),
    ];
    let one = texts(&["id"]).property("project_id", project_schema()).property("tenant_id", project_schema());
    document.schema("AutoAllocatedTopology", one.required("project_id").required("tenant_id").into());
    let dry_run = plain(Type::String).enum_values(Some([auto_topologies::DRY_RUN]));
    let project = || path("project", "Its id, or None: the token's");
    let show = neutron(
        TAG,
        "show_auto_allocated_topology".into(),
        "The network of a project; made if there is none",
        failures,
    )
    .parameter(project())
    .parameter(query("fields", dry_run.into(), "Only say whether it could be made"))
    .response("200", answer("It", envelope("auto_allocated_topology", named("AutoAllocatedTopology"))));
    document.operation(HttpMethod::Get, "/v2.0/auto-allocated-topology/{project}", show.build());
    let failures = &[
        (403, "Not allowed"),
        (404, "No project has such an id"),
        (409, "Ports are on the network, or floating IPs need the router"),
    ];
    let delete = neutron(TAG, "delete_auto_allocated_topology".into(), "Delete what was made so", failures)
        .parameter(project())
        .response("204", empty("It is gone"));
    document.operation(HttpMethod::Delete, "/v2.0/auto-allocated-topology/{project}", delete.build());
}

fn rule_types(document: &mut Document) {
    document.tag("rule_types", "Kinds of QoS rules.");
    let mut list = neutron("rule_types", "list_rule_types".into(), "The kinds of QoS rules", LIST)
        .response("200", answer("They", envelope("rule_types", Array::new(texts(&["type"])))));
    for name in rule_types::FILTERS {
        list = list.parameter(query(name, plain(Type::String).into(), "Filter"));
    }
    for name in rule_types::SETS {
        list = list.parameter(query(name, bool::schema(), "Every type is of this set"));
    }
    document.operation(HttpMethod::Get, "/v2.0/qos/rule-types", list.build());
    let one = texts(&["type"]).property("drivers", Array::new(plain(Type::Object))).required("drivers");
    let failures = &[(403, "Not allowed"), (404, "There is no such type")];
    let show = neutron("rule_types", "show_rule_type".into(), "Which drivers act on a kind of QoS rules", failures)
        .parameter(path("rule_type", "Its name"))
        .response("200", answer("It", envelope("rule_type", one)));
    document.operation(HttpMethod::Get, "/v2.0/qos/rule-types/{rule_type}", show.build());
}

fn quota(document: &mut Document) {
    document.tag("quotas", "What projects may have. Operators set it, a project reads its own.");
    let listed = each(limit, true).property("project_id", project_schema()).property("tenant_id", project_schema());
    document.schema("ProjectQuota", listed.required("project_id").required("tenant_id").into());
    document.schema("Quota", each(limit, true).into());
    document.schema("QuotaDetails", each(detail, true).into());
    let strict = Some(AdditionalProperties::FreeForm(false));
    let update = each(limit, false).property("force", bool::schema()).property("check_limit", bool::schema());
    document.schema("QuotaUpdate", update.additional_properties(strict).into());

    let list =
        neutron("quotas", "list_quotas".into(), "Projects that have limits of their own", &[(403, "Not allowed")])
            .response("200", answer("They", envelope("quotas", Array::new(named("ProjectQuota")))));
    document.operation(HttpMethod::Get, "/v2.0/quotas", list.build());
    for name in ["tenant", "project"] {
        let id = format!("{name}_id");
        let whose = neutron("quotas", format!("show_quota_{name}"), "The token's project", &[(400, "It has none")])
            .response("200", answer("It", envelope(name, envelope(&id, project_schema()))));
        document.operation(HttpMethod::Get, &format!("/v2.0/quotas/{name}"), whose.build());
    }
    let one = || envelope("quota", named("Quota"));
    let project = || path("project", "Its id");
    let show = neutron("quotas", "show_quota".into(), "The limits of a project", READ)
        .parameter(project())
        .response("200", answer("They", one()));
    document.operation(HttpMethod::Get, "/v2.0/quotas/{project}", show.build());
    let update = neutron("quotas", "update_quota".into(), "Give a project limits of its own", WRITE_FAILURES)
        .parameter(project())
        .request_body(Some(body(envelope("quota", named("QuotaUpdate")))))
        .response("200", answer("Done", one()));
    document.operation(HttpMethod::Put, "/v2.0/quotas/{project}", update.build());
    let reset = neutron("quotas", "delete_quota".into(), "Take a project's own limits from it", READ)
        .parameter(project())
        .response("204", empty("Done"));
    document.operation(HttpMethod::Delete, "/v2.0/quotas/{project}", reset.build());
    let default = neutron("quotas", "show_quota_default".into(), "The limits of a project without own ones", READ)
        .parameter(project())
        .response("200", answer("They", one()));
    document.operation(HttpMethod::Get, "/v2.0/quotas/{project}/default", default.build());
    let details = neutron("quotas", "show_quota_details".into(), "Limits and use of a project", READ)
        .parameter(project())
        .response("200", answer("They", envelope("quota", named("QuotaDetails"))));
    document.operation(HttpMethod::Get, "/v2.0/quotas/{project}/details", details.build());
}
