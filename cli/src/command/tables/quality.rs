//! Quality of service: policies, and their rules, which are parts of them.

use super::{DESCRIPTION, NAME, PLAIN, PROJECT};
use crate::command::resource::Kind::{Integer, OneOf, Switch};
use crate::command::resource::{Opt, Resource, Verb};

/// A policy.
pub const POLICY: Resource = Resource {
    noun: "qos-policy",
    a: "a QoS policy",
    member: "policy",
    members: "policies",
    path: "/v2.0/qos/policies",
    tags: true,
    columns: &["id", "name", "shared", "is_default"],
    long: &["project_id", "rules", "description", "tags"],
    options: &[
        NAME.positional().required(),
        DESCRIPTION,
        PROJECT,
        Opt::new("shared", "shared", Switch("share", "no-share"), "Let every project use it (administrators)"),
        Opt::new("default", "is_default", Switch("default", "no-default"), "It is for the project's new networks"),
    ],
    verbs: &[
        Verb::List("--long"),
        Verb::Show("gold"),
        Verb::Create("gold --description 'one gigabit'"),
        Verb::Set("gold --default"),
        Verb::Unset("gold --description"),
        Verb::Delete("gold"),
    ],
    ..PLAIN
};

const RULE: Resource = Resource { parent: Some(("qos-policy", "POLICY")), key: None, ..PLAIN };
const DIRECTION: Opt = Opt::new("direction", "direction", OneOf(&["egress", "ingress"]), "Which way").filter();

const fn number(flag: &'static str, field: &'static str, help: &'static str) -> Opt {
    Opt::new(flag, field, Integer, help).filter()
}

/// At most so much.
pub const BANDWIDTH_LIMIT: Resource = Resource {
    noun: "qos-bandwidth-limit-rule",
    a: "a rule of a QoS policy: at most so much",
    member: "bandwidth_limit_rule",
    members: "bandwidth_limit_rules",
    path: "/v2.0/qos/policies/{}/bandwidth_limit_rules",
    columns: &["id", "direction", "max_kbps", "max_burst_kbps"],
    options: &[
        number("max-kbps", "max_kbps", "Kilobits a second").required(),
        number("max-burst-kbps", "max_burst_kbps", "Kilobits at once"),
        DIRECTION,
    ],
    verbs: &[
        Verb::List("gold"),
        Verb::Show("gold 6d2d1d4f-0c5c-4f2e-9d0b-0c7c5d1e3f60"),
        Verb::Create("gold --max-kbps 1000000 --direction egress"),
        Verb::Set("gold 6d2d1d4f-0c5c-4f2e-9d0b-0c7c5d1e3f60 --max-kbps 2000000"),
        Verb::Delete("gold 6d2d1d4f-0c5c-4f2e-9d0b-0c7c5d1e3f60"),
    ],
    ..RULE
};

/// At most so many packets.
pub const PACKET_RATE_LIMIT: Resource = Resource {
    noun: "qos-packet-rate-limit-rule",
    a: "a rule of a QoS policy: at most so many packets",
    member: "packet_rate_limit_rule",
    members: "packet_rate_limit_rules",
    path: "/v2.0/qos/policies/{}/packet_rate_limit_rules",
    columns: &["id", "direction", "max_kpps", "max_burst_kpps"],
    options: &[
        number("max-kpps", "max_kpps", "Thousands of packets a second").required(),
        number("max-burst-kpps", "max_burst_kpps", "Thousands of packets at once"),
        DIRECTION,
    ],
    verbs: &[
        Verb::List("gold"),
        Verb::Show("gold 6d2d1d4f-0c5c-4f2e-9d0b-0c7c5d1e3f60"),
        Verb::Create("gold --max-kpps 500"),
        Verb::Set("gold 6d2d1d4f-0c5c-4f2e-9d0b-0c7c5d1e3f60 --max-kpps 800"),
        Verb::Delete("gold 6d2d1d4f-0c5c-4f2e-9d0b-0c7c5d1e3f60"),
    ],
    ..RULE
};

/// At least so much.
pub const MINIMUM_BANDWIDTH: Resource = Resource {
    noun: "qos-minimum-bandwidth-rule",
    a: "a rule of a QoS policy: at least so much",
    member: "minimum_bandwidth_rule",
    members: "minimum_bandwidth_rules",
    path: "/v2.0/qos/policies/{}/minimum_bandwidth_rules",
    columns: &["id", "direction", "min_kbps"],
    options: &[number("min-kbps", "min_kbps", "Kilobits a second").required(), DIRECTION],
    verbs: &[
        Verb::List("gold"),
        Verb::Show("gold 6d2d1d4f-0c5c-4f2e-9d0b-0c7c5d1e3f60"),
        Verb::Create("gold --min-kbps 100000"),
        Verb::Set("gold 6d2d1d4f-0c5c-4f2e-9d0b-0c7c5d1e3f60 --min-kbps 200000"),
        Verb::Delete("gold 6d2d1d4f-0c5c-4f2e-9d0b-0c7c5d1e3f60"),
    ],
    ..RULE
};

/// At least so many packets.
pub const MINIMUM_PACKET_RATE: Resource = Resource {
    noun: "qos-minimum-packet-rate-rule",
    a: "a rule of a QoS policy: at least so many packets",
    member: "minimum_packet_rate_rule",
    members: "minimum_packet_rate_rules",
    path: "/v2.0/qos/policies/{}/minimum_packet_rate_rules",
    columns: &["id", "direction", "min_kpps"],
    options: &[
        number("min-kpps", "min_kpps", "Thousands of packets a second").required(),
        Opt { kind: OneOf(&["egress", "ingress", "any"]), ..DIRECTION },
    ],
    verbs: &[
        Verb::List("gold"),
        Verb::Show("gold 6d2d1d4f-0c5c-4f2e-9d0b-0c7c5d1e3f60"),
        Verb::Create("gold --min-kpps 100 --direction any"),
        Verb::Set("gold 6d2d1d4f-0c5c-4f2e-9d0b-0c7c5d1e3f60 --min-kpps 200"),
        Verb::Delete("gold 6d2d1d4f-0c5c-4f2e-9d0b-0c7c5d1e3f60"),
    ],
    ..RULE
};

/// With this mark.
pub const DSCP_MARKING: Resource = Resource {
    noun: "qos-dscp-marking-rule",
    a: "a rule of a QoS policy: with this mark",
    member: "dscp_marking_rule",
    members: "dscp_marking_rules",
    path: "/v2.0/qos/policies/{}/dscp_marking_rules",
    columns: &["id", "dscp_mark"],
    options: &[number("dscp-mark", "dscp_mark", "Code point of RFC 2474, such as 46").required()],
    verbs: &[
        Verb::List("gold"),
        Verb::Show("gold 6d2d1d4f-0c5c-4f2e-9d0b-0c7c5d1e3f60"),
        Verb::Create("gold --dscp-mark 46"),
        Verb::Set("gold 6d2d1d4f-0c5c-4f2e-9d0b-0c7c5d1e3f60 --dscp-mark 26"),
        Verb::Delete("gold 6d2d1d4f-0c5c-4f2e-9d0b-0c7c5d1e3f60"),
    ],
    ..RULE
};
