//! The operations of the network service that belong to no resource.

use super::parts::{Document, answer, envelope, keystone, named, neutron, path, query};
use super::seeing::{list as list_of, text, whole, word};
use crate::frame::decode::{Decode, plain};
use crate::frame::standard::{nullable, time_schema};
use crate::operator::{placement, roles, state};
use utoipa::openapi::path::{HttpMethod, OperationBuilder};
use utoipa::openapi::schema::{Array, ObjectBuilder, Type};
use utoipa::openapi::{RefOr, Response, Schema};
use uuid::Uuid;

fn any_object() -> RefOr<Schema> {
    ObjectBuilder::new().schema_type(Type::Object).into()
}

fn open(id: &str, summary: &str, status: &str, response: Response) -> OperationBuilder {
    keystone(id, summary, false, &[]).response(status, response)
}

/// Adds them.
pub fn document(document: &mut Document) {
    document.tag("discovery", "Versions, resources, extensions, health.");
    let versions = open("list_versions", "Versions of both services", "300", answer("They", any_object()));
    document.operation(HttpMethod::Get, "/", versions.build());
    let health = open("healthz", "Whether the process answers", "200", answer("It does", any_object()));
    document.operation(HttpMethod::Get, "/healthz", health.build());
    let ready = open("readyz", "Whether requests can be served", "200", answer("They can", any_object()));
    document.operation(HttpMethod::Get, "/readyz", ready.build());

    let resources = neutron("discovery", "list_resources".into(), "The resources", &[])
        .response("200", answer("They", envelope("resources", Array::new(any_object()))));
    document.operation(HttpMethod::Get, "/v2.0/", resources.build());
    document.schema("Extension", extension());
    let extension = || super::parts::named("Extension");
    let list = neutron("discovery", "list_extensions".into(), "The extensions that behave", &[])
        .response("200", answer("They", envelope("extensions", Array::new(extension()))));
    document.operation(HttpMethod::Get, "/v2.0/extensions", list.build());
    let show = neutron("discovery", "show_extension".into(), "One extension", &[(404, "It is not announced")])
        .parameter(path("alias", "Its alias"))
        .response("200", answer("It", envelope("extension", extension())));
    document.operation(HttpMethod::Get, "/v2.0/extensions/{alias}", show.build());

    document.tag("roles", "Transit roles of hosts; administrators only.");
    document.schema("TransitRole", role());
    let mut list = neutron(
        "roles",
        "list_transit_roles".into(),
        "Who bounces which slots, who divides",
        &[(400, "An unknown filter, or a value that is not possible"), (403, "Not allowed")],
    )
    .response("200", answer("They", envelope("roles", Array::new(super::parts::named("TransitRole")))));
    for name in roles::FILTERS {
        list = list.parameter(query(name, plain(Type::String).into(), "Filter"));
    }
    let limit = plain(Type::Integer).minimum(Some(1));
    list = list.parameter(query("limit", limit.into(), "The first so many"));
    document.operation(HttpMethod::Get, "/v2.0/mizar/roles", list.build());

    document.schema(
        "TransitRoleCount",
        whole(vec![
            ("host", text()),
            ("role", word(roles::ROLES.map(|(name, _)| name))),
            ("state", word(roles::STATES.map(|(name, _)| name))),
            ("count", i64::schema()),
        ]),
    );
    let named_hosts = format!("Whose, by name; at most {} times", roles::HOSTS);
    let counts = neutron(
        "roles",
        "count_transit_roles".into(),
        "How many roles of each kind and state hosts have",
        &[(400, "No host, too many, or an unknown filter"), (403, "Not allowed")],
    )
    .parameter(query("host", list_of(text()), &named_hosts))
    .response("200", answer("They", envelope("role_counts", Array::new(named("TransitRoleCount")))));
    document.operation(HttpMethod::Get, "/v2.0/mizar/role-counts", counts.build());

    document.schema("Placement", placing());
    let show = neutron(
        "roles",
        "show_placement".into(),
        "Whether roles can be placed at present, and why not",
        &[(400, "A query, of which there is none"), (403, "Not allowed")],
    )
    .response("200", answer("It", envelope("placement", super::parts::named("Placement"))));
    document.operation(HttpMethod::Get, "/v2.0/mizar/placement", show.build());
    state_of_host(document);
}

fn state_of_host(document: &mut Document) {
    let counts = || whole(state::COUNTED.map(|kind| (kind, i64::schema())).to_vec());
    document.schema(
        "HostDifference",
        whole(vec![
            ("what", word(state::WHATS)),
            ("id", nullable(text())),
            ("name", text()),
            ("state", text()),
            ("why", text()),
        ]),
    );
    document.schema(
        "HostState",
        whole(vec![
            ("host", text()),
            ("alive", bool::schema()),
            ("silent_s", Option::<i64>::schema()),
            ("lost_since", nullable(time_schema())),
            ("pending_entries", Option::<i64>::schema()),
            ("oldest_pending_s", Option::<i64>::schema()),
            ("desired", counts()),
            ("applied", counts()),
            ("difference", list_of(named("HostDifference"))),
            ("left_out", i64::schema()),
        ]),
    );
    let summary = "What a host should have, what it has, and the difference; administrators only";
    let failures = [(403, "Not allowed"), (404, "It is not there")];
    let show = neutron("roles", "show_host_state".into(), summary, &failures)
        .parameter(path("host", "Its name or id"))
        .response("200", answer("Of each kind the first hundred that differ", envelope("state", named("HostState"))));
    document.operation(HttpMethod::Get, "/v2.0/mizar/hosts/{host}/state", show.build());
}

fn placing() -> RefOr<Schema> {
    ObjectBuilder::new()
        .schema_type(Type::Object)
        .property("state", plain(Type::String).enum_values(Some(placement::STATES)))
        .property("reason", plain(Type::String))
        .property("since", crate::frame::standard::nullable(crate::frame::standard::time_schema()))
        .property("hosts", Array::new(RefOr::from(plain(Type::String))))
        .required("state")
        .required("reason")
        .required("since")
        .required("hosts")
        .into()
}

fn extension() -> RefOr<Schema> {
    let mut object = ObjectBuilder::new().schema_type(Type::Object);
    for name in ["alias", "name", "description", "updated"] {
        object = object.property(name, plain(Type::String)).required(name);
    }
    object.property("links", Array::new(any_object())).required("links").into()
}

fn role() -> RefOr<Schema> {
    ObjectBuilder::new()
        .schema_type(Type::Object)
        .property("host", plain(Type::String))
        .property("role", plain(Type::String).enum_values(Some(["bouncer", "divider"])))
        .property("state", plain(Type::String).enum_values(Some(["pending", "active", "draining"])))
        .property("network_id", Option::<Uuid>::schema())
        .property("subnet_id", Option::<Uuid>::schema())
        .property("first_slot", Option::<i64>::schema())
        .property("last_slot", Option::<i64>::schema())
        .property("since", crate::frame::standard::time_schema())
        .required("host")
        .required("role")
        .required("state")
        .into()
}
