//! The operations that say what may pass, by the rules that decide.

use super::parts::{Document, answer, body, envelope, named, neutron, only, path, query, request};
use super::seeing::{FAILURES, list, sample, text, whole, word};
use crate::frame::decode::{Decode, plain};
use crate::frame::standard::nullable;
use crate::seeing::{change, drops, reach, rules};
use mizar_domain::security_group::{Direction, Ethertype};
use utoipa::openapi::path::HttpMethod;
use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, Type};
use utoipa::openapi::{RefOr, Schema};
use uuid::Uuid;

/// Adds them.
pub fn document(document: &mut Document) {
    effective(document);
    reachable(document);
    previewed(document);
}

/// What a rule says of packets; `port_range_*` as in a rule: of ICMP they are type and code.
fn packets() -> Vec<(&'static str, RefOr<Schema>)> {
    vec![
        ("protocol", Option::<i64>::schema()),
        ("port_range_min", Option::<i64>::schema()),
        ("port_range_max", Option::<i64>::schema()),
    ]
}

fn directions() -> RefOr<Schema> {
    word(Direction::ALL.map(Direction::as_str))
}

fn effective(document: &mut Document) {
    let rule =
        whole(vec![("id", Uuid::schema()), ("security_group_id", Uuid::schema()), ("security_group_name", text())]);
    let mut line = vec![("ethertype", word(Ethertype::ALL.map(Ethertype::as_str)))];
    line.extend(packets());
    line.extend([
        ("remote_ip_prefix", nullable(text())),
        ("remote_group_id", Option::<Uuid>::schema()),
        ("remote_group_name", nullable(text())),
        ("remote_address_group_id", Option::<Uuid>::schema()),
        ("rules", list(rule)),
    ]);
    document.schema("EffectiveRule", whole(line));
    let rules = ArrayBuilder::new()
        .items(ObjectBuilder::new().schema_type(Type::Object))
        .description(Some("As its manifest has them; null: they and those before are too long for one answer."))
        .build()
        .into();
    let policy = vec![("id", Uuid::schema()), ("namespace", text()), ("name", text()), ("rules", nullable(rules))];
    document.schema("IsolatingPolicy", whole(policy));
    let way = vec![
        ("decided_by", word(rules::DECIDES)),
        ("rules", list(named("EffectiveRule"))),
        ("label_policies", list(named("IsolatingPolicy"))),
    ];
    document.schema("EffectiveDirection", whole(way));
    document.schema(
        "EffectiveRules",
        whole(vec![
            ("port_id", Uuid::schema()),
            ("filtered", bool::schema()),
            ("stateful", bool::schema()),
            ("hidden_security_groups", i64::schema()),
            ("ingress", named("EffectiveDirection")),
            ("egress", named("EffectiveDirection")),
        ]),
    );
    let summary = "What may pass to and from a port: the rules of all its security groups, or the label policies that decide in their place";
    let operation = neutron("seeing", "show_port_effective_rules".into(), summary, FAILURES)
        .parameter(path("port", "Its id"))
        .response("200", answer("What decides, by direction", envelope("effective_rules", named("EffectiveRules"))));
    document.operation(HttpMethod::Get, "/v2.0/ports/{port}/effective-rules", operation.build());
}

fn reachable(document: &mut Document) {
    document.schema("TrafficLine", whole(packets()));
    document.schema(
        "ReachablePort",
        whole(vec![
            ("port_id", Uuid::schema()),
            ("name", text()),
            ("project_id", Uuid::schema()),
            ("addresses", list(text())),
            ("stateful", bool::schema()),
            ("traffic", list(named("TrafficLine"))),
        ]),
    );
    document.schema("ReachableAddresses", whole(vec![("prefix", text()), ("traffic", list(named("TrafficLine")))]));
    document.schema(
        "ReachableFrom",
        whole(vec![
            ("port_id", Uuid::schema()),
            ("direction", directions()),
            ("stateful", bool::schema()),
            ("ports", list(named("ReachablePort"))),
            ("looked_at", i64::schema()),
            ("next_marker", Option::<Uuid>::schema()),
            ("of_all_projects", bool::schema()),
            ("addresses", list(named("ReachableAddresses"))),
            ("more_addresses", bool::schema()),
        ]),
    );
    let number =
        |least: u32, most: usize| RefOr::from(plain(Type::Integer).minimum(Some(least)).maximum(Some(most as f64)));
    let (most, unless) = reach::LIMIT;
    let failures: Vec<_> = FAILURES.iter().copied().chain([(400, "A parameter is not possible")]).collect();
    let summary =
        "Which ports of the network may open a connection to a port, or a port to them, by the rules of both sides";
    let operation = neutron("seeing", "show_port_reachable_from".into(), summary, &failures)
        .parameter(path("port", "Its id"))
        .parameter(query(
            "direction",
            directions(),
            "ingress (if it is not said): who may reach the port; egress: whom it may reach",
        ))
        .parameter(query("protocol", text(), "Only what may pass by this protocol, a name or a number"))
        .parameter(query("destination_port", number(1, 65_535), "Only what may pass to this port of the protocol"))
        .parameter(query(
            "limit",
            number(1, most),
            &format!("Ports of an answer, {unless} if it is not said; a request looks at {} at most", reach::LOOKED_AT),
        ))
        .parameter(query("marker", Uuid::schema(), "Only ports after this one: `next_marker` of the answer before"))
        .response(
            "200",
            answer("Ports with what may pass, and addresses", envelope("reachable_from", named("ReachableFrom"))),
        );
    document.operation(HttpMethod::Get, "/v2.0/ports/{port}/reachable-from", operation.build());
}

fn previewed(document: &mut Document) {
    document.schema("PreviewRequest", request(change::inputs()));
    let mut refused = vec![("port_id", Uuid::schema()), ("direction", directions()), ("reason", text())];
    refused.extend(sample());
    document.schema("RefusedPacket", whole(refused));
    let mut host = vec![("role", word(drops::ROLES)), ("host", nullable(text())), ("error", nullable(text()))];
    host.push(("ports", list(Uuid::schema())));
    document.schema(
        "Preview",
        whole(vec![
            ("security_group_id", Uuid::schema()),
            ("ports", i64::schema()),
            ("next_marker", Option::<Uuid>::schema()),
            ("of_all_projects", bool::schema()),
            ("hosts", list(whole(host))),
            ("flows", i64::schema()),
            ("left_out", i64::schema()),
            ("cut", list(named("Flow"))),
            ("allowed", list(named("RefusedPacket"))),
        ]),
    );
    let more = [(400, "Malformed, or a value is not possible"), (409, "The rules are too many to be judged at once")];
    let failures: Vec<_> = FAILURES.iter().copied().chain(more).collect();
    let summary = "What a change of a security group's rules would do: the flows of its ports that it would cut, and the packets \
                   refused lately that it would let pass; nothing is changed";
    let operation = neutron("seeing", "preview_security_group".into(), summary, &failures)
        .parameter(path("security_group", "Its id"))
        .request_body(Some(body(only("preview", named("PreviewRequest")))))
        .response("200", answer("Flows and packets", envelope("preview", named("Preview"))));
    document.operation(HttpMethod::Post, "/v2.0/security-groups/{security_group}/preview", operation.build());
}
