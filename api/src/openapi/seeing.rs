//! The operations that look at what hosts do.

use super::parts::{Document, answer, body, envelope, named, neutron, only, path, query, request};
use crate::frame::decode::{Decode, plain};
use crate::frame::standard::{nullable, time_schema};
use crate::seeing::flow_log::wish;
use crate::seeing::{drops, flow_log, flows, live, trace};
use mizar_wire::ask::FlowState;
use mizar_wire::log::{Decider, Direction, Ended, Verdict};
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
    filled(document);
    flowing(document);
    logged(document);
    traced(document);
    traced_live(document);
}

fn flowing(document: &mut Document) {
    document.schema(
        "Flow",
        whole(vec![
            ("port_id", Uuid::schema()),
            ("opened_by", word(flows::OPENERS)),
            ("state", word(FlowState::ALL.map(FlowState::as_str))),
            ("protocol", i64::schema()),
            ("local_address", text()),
            ("local_port", Option::<i64>::schema()),
            ("remote_address", text()),
            ("remote_port", Option::<i64>::schema()),
            ("icmp_type", Option::<i64>::schema()),
            ("icmp_code", Option::<i64>::schema()),
            ("idle_s", i64::schema()),
        ]),
    );
    document.schema(
        "PortFlows",
        whole(vec![
            ("port_id", Uuid::schema()),
            ("bound", bool::schema()),
            ("host", nullable(text())),
            ("error", nullable(text())),
            ("left_out", i64::schema()),
            ("flows", list(named("Flow"))),
        ]),
    );
    let operation = neutron("seeing", "show_port_flows".into(), "The flows that a port has now", FAILURES)
        .parameter(path("port", "Its id"))
        .response("200", answer("Flows, those in use first", envelope("flows", named("PortFlows"))));
    document.operation(HttpMethod::Get, "/v2.0/mizar/ports/{port}/flows", operation.build());
}

/// A packet that was dropped, and when.
pub(super) fn sample() -> Vec<(&'static str, RefOr<Schema>)> {
    vec![
        ("at", nullable(time_schema())),
        ("source", nullable(text())),
        ("destination", nullable(text())),
        ("protocol", Option::<i64>::schema()),
        ("source_port", Option::<i64>::schema()),
        ("destination_port", Option::<i64>::schema()),
    ]
}

/// Rules that decided. A label policy has no group.
fn rules() -> RefOr<Schema> {
    list(whole(vec![("id", Uuid::schema()), ("security_group_id", Option::<Uuid>::schema())]))
}

fn logged(document: &mut Document) {
    let counts = ["packets_out", "bytes_out", "packets_in", "bytes_in"].map(|name| (name, i64::schema()));
    let numbers = ["source_port", "destination_port", "icmp_type", "icmp_code"];
    let mut record = vec![
        ("port_id", Uuid::schema()),
        ("record", word(flow_log::RECORDS)),
        ("role", word(drops::ROLES)),
        ("host", nullable(text())),
        ("start", nullable(time_schema())),
        ("end", nullable(time_schema())),
        ("direction", word(Direction::ALL.map(Direction::as_str))),
        ("source", text()),
        ("destination", text()),
        ("protocol", i64::schema()),
        ("verdict", word(Verdict::ALL.map(Verdict::as_str))),
        ("reason", nullable(text())),
        ("decided_by", nullable(word(Decider::ALL.map(Decider::as_str)))),
        ("rules", nullable(rules())),
        ("ended", nullable(word(Ended::ALL.map(Ended::as_str)))),
    ];
    record.extend(counts);
    record.extend(numbers.map(|name| (name, Option::<i64>::schema())));
    document.schema("FlowRecord", whole(record));
    let asked = vec![("role", word(drops::ROLES)), ("host", nullable(text())), ("error", nullable(text()))];
    document.schema(
        "PortFlowLog",
        whole(vec![
            ("port_id", Uuid::schema()),
            ("hosts", list(whole(asked))),
            ("left_out", i64::schema()),
            ("next_marker", nullable(text())),
            ("records", list(named("FlowRecord"))),
        ]),
    );
    let (most, unless) = wish::LIMIT;
    let number = |most: u32| RefOr::from(plain(Type::Integer).minimum(Some(1)).maximum(Some(f64::from(most))));
    let failures: Vec<_> = FAILURES.iter().copied().chain([(400, "A parameter is not possible")]).collect();
    let operation = neutron("seeing", "show_port_flow_log".into(), "The flows that a port had lately", &failures)
        .parameter(path("port", "Its id"))
        .parameter(query("verdict", word(Verdict::ALL.map(Verdict::as_str)), "Only of flows of which policy says so"))
        .parameter(query(
            "direction",
            word(Direction::ALL.map(Direction::as_str)),
            "egress: only of flows that the port opened; ingress: that others did",
        ))
        .parameter(query("protocol", text(), "Only of this protocol, a name or a number"))
        .parameter(query(
            "remote_address",
            text(),
            "Only of flows whose other side has this address, or one of this prefix",
        ))
        .parameter(query("port_number", number(u32::from(u16::MAX)), "Only of flows with this port, of either side"))
        .parameter(query("limit", number(most), &format!("Records, {unless} if it is not said")))
        .parameter(query("since", text(), "Only of flows in which something passed at this time or later (RFC 3339)"))
        .parameter(query("marker", text(), "Only records after those told before: `next_marker` of that answer"))
        .response("200", answer("Records, the youngest first", envelope("flow_log", named("PortFlowLog"))));
    document.operation(HttpMethod::Get, "/v2.0/mizar/ports/{port}/flow-log", operation.build());
}

fn dropped(document: &mut Document) {
    document.schema("DropSample", whole(sample()));
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

fn filled(document: &mut Document) {
    document.schema("MapFill", whole(vec![("map", text()), ("entries", i64::schema()), ("most", i64::schema())]));
    document.schema(
        "HostMaps",
        whole(vec![("host", text()), ("error", nullable(text())), ("maps", list(named("MapFill")))]),
    );
    let summary = "How full the maps of a host's programs are; administrators only";
    let host = neutron("seeing", "show_host_maps".into(), summary, &[(403, "Not allowed"), (404, "It is not there")])
        .parameter(path("host", "Its name or id"))
        .response("200", answer("Maps, the fullest first", envelope("maps", named("HostMaps"))));
    document.operation(HttpMethod::Get, "/v2.0/mizar/hosts/{host}/maps", host.build());
}

fn traced(document: &mut Document) {
    document.schema("TraceRequest", request(trace::inputs()));
    document.schema(
        "TraceLook",
        whole(vec![("table", text()), ("says", text()), ("entry", nullable(text())), ("rules", rules())]),
    );
    document.schema(
        "TraceHop",
        whole(vec![
            ("role", word(trace::ROLES)),
            ("host", nullable(text())),
            ("error", nullable(text())),
            ("looks", list(named("TraceLook"))),
        ]),
    );
    document.schema(
        "Trace",
        whole(vec![
            ("port_id", Uuid::schema()),
            ("source", text()),
            ("destination", text()),
            ("protocol", i64::schema()),
            ("source_port", i64::schema()),
            ("destination_port", i64::schema()),
            ("destination_port_id", Option::<Uuid>::schema()),
            ("verdict", word(trace::VERDICTS)),
            ("reason", nullable(text())),
            ("about", nullable(text())),
            ("sender_sees", nullable(text())),
            ("receiver_sees", nullable(text())),
            ("hops", list(named("TraceHop"))),
        ]),
    );
    let failures: Vec<_> = FAILURES.iter().copied().chain([(400, "Malformed, or a value is not possible")]).collect();
    let summary = "Follow a packet from a port through the tables of the hosts on its way; none is sent";
    let create = neutron("seeing", "create_trace".into(), summary, &failures)
        .request_body(Some(body(only("trace", named("TraceRequest")))))
        .response("200", answer("Where it ends and why, hop by hop", envelope("trace", named("Trace"))));
    document.operation(HttpMethod::Post, "/v2.0/mizar/trace", create.build());
}

fn traced_live(document: &mut Document) {
    document.schema("LiveTraceRequest", request(live::inputs()));
    document.schema(
        "LiveTraceHop",
        whole(vec![
            ("role", word(trace::ROLES)),
            ("host", nullable(text())),
            ("at", nullable(time_schema())),
            ("since_us", i64::schema()),
            ("says", text()),
            ("looks", list(named("TraceLook"))),
        ]),
    );
    document.schema(
        "LiveTrace",
        whole(vec![
            ("port_id", Uuid::schema()),
            ("source", nullable(text())),
            ("destination", text()),
            ("protocol", Option::<i64>::schema()),
            ("source_port", Option::<i64>::schema()),
            ("destination_port", Option::<i64>::schema()),
            ("icmp_type", Option::<i64>::schema()),
            ("icmp_code", Option::<i64>::schema()),
            ("destination_port_id", Option::<Uuid>::schema()),
            ("verdict", word(live::VERDICTS)),
            ("reason", nullable(text())),
            ("about", nullable(text())),
            ("error", nullable(text())),
            ("sender_sees", nullable(text())),
            ("receiver_sees", nullable(text())),
            ("hops", list(named("LiveTraceHop"))),
        ]),
    );
    let more = [
        (400, "Malformed, or a value is not possible"),
        (409, "Another packet of the port, or too many of the project, are waited for"),
    ];
    let failures: Vec<_> = FAILURES.iter().copied().chain(more).collect();
    let summary = "Mark the next packet of a port that fits and follow it; answers when it has ended, or none came";
    let create = neutron("seeing", "create_live_trace".into(), summary, &failures)
        .request_body(Some(body(only("live_trace", named("LiveTraceRequest")))))
        .response(
            "200",
            answer("Where it went, hop by hop, and how it ended", envelope("live_trace", named("LiveTrace"))),
        )
        .response("404", answer("It is not there, not visible, or not attached to its host", named("NeutronError")))
        .response(
            "503",
            answer(
                "The port's host or this server follows as many packets as it can, or is overloaded",
                named("NeutronError"),
            ),
        );
    document.operation(HttpMethod::Post, "/v2.0/mizar/live-trace", create.build());
}
