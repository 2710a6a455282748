//! The operations that look at what hosts do.

use super::parts::{Document, answer, envelope, named, neutron, path};
use crate::frame::decode::{Decode, plain};
use crate::frame::standard::{nullable, time_schema};
use crate::seeing::drops;
use utoipa::openapi::path::HttpMethod;
use utoipa::openapi::schema::{Array, ObjectBuilder, Type};
use utoipa::openapi::{RefOr, Schema};
use uuid::Uuid;

pub(super) const FAILURES: &[(u16, &str)] =
    &[(403, "It is visible, but another project's"), (404, "It is not there or not visible")];

/// An object all of whose properties are there.
pub(super) fn whole(properties: Vec<(&str, RefOr<Schema>)>) -> RefOr<Schema> {
    let object = ObjectBuilder::new().schema_type(Type::Object);
    properties.into_iter().fold(object, |object, (name, schema)| object.property(name, schema).required(name)).into()
}

pub(super) fn text() -> RefOr<Schema> {
    plain(Type::String).into()
}

pub(super) fn word<const N: usize>(words: [&'static str; N]) -> RefOr<Schema> {
    plain(Type::String).enum_values(Some(words)).into()
}

pub(super) fn list(of: RefOr<Schema>) -> RefOr<Schema> {
    Array::new(of).into()
}

/// Adds them.
pub fn document(document: &mut Document) {
    document.tag(
        "seeing",
        "Why packets do not arrive: asked of the hosts at this moment. Hosts are named to administrators only; one that \
         does not answer has an error in its place.",
    );
    dropped(document);
}

fn dropped(document: &mut Document) {
    document.schema(
        "DropSample",
        whole(vec![
            ("at", nullable(time_schema())),
            ("source", nullable(text())),
            ("destination", nullable(text())),
            ("protocol", Option::<i64>::schema()),
            ("source_port", Option::<i64>::schema()),
            ("destination_port", Option::<i64>::schema()),
        ]),
    );
    let reason = || {
        vec![
            ("reason", text()),
            ("about", text()),
            ("packets", i64::schema()),
            ("bytes", i64::schema()),
            ("samples", list(named("DropSample"))),
        ]
    };
    let of_port = vec![("role", word(drops::ROLES)), ("host", nullable(text()))];
    document.schema("PortDropReason", whole(reason().into_iter().chain(of_port).collect()));
    let of_host = vec![("port_id", Option::<Uuid>::schema())];
    document.schema("HostDropReason", whole(reason().into_iter().chain(of_host).collect()));
    let asked = vec![("role", word(drops::ROLES)), ("host", nullable(text())), ("error", nullable(text()))];
    document.schema(
        "PortDrops",
        whole(vec![
            ("port_id", Uuid::schema()),
            ("hosts", list(whole(asked))),
            ("reasons", list(named("PortDropReason"))),
        ]),
    );
    document.schema(
        "HostDrops",
        whole(vec![("host", text()), ("error", nullable(text())), ("reasons", list(named("HostDropReason")))]),
    );
    let port = neutron("seeing", "show_port_drops".into(), "Why packets from and to a port were dropped", FAILURES)
        .parameter(path("port", "Its id"))
        .response("200", answer("Reasons with counts and the last packets", envelope("drops", named("PortDrops"))));
    document.operation(HttpMethod::Get, "/v2.0/mizar/ports/{port}/drops", port.build());
    let summary = "Why a host drops packets, of all ports; administrators only";
    let host = neutron("seeing", "show_host_drops".into(), summary, &[(403, "Not allowed"), (404, "It is not there")])
        .parameter(path("host", "Its name or id"))
        .response("200", answer("Reasons, the most first", envelope("drops", named("HostDrops"))));
    document.operation(HttpMethod::Get, "/v2.0/mizar/hosts/{host}/drops", host.build());
}
