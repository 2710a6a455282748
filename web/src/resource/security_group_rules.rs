//! Rules of security groups: never changed, only made and deleted.

use super::text::{CIDR, rule, traffic};
use super::{Column, Extra, Field, Filter, Kind, Resource, Shape, Verbs};

const DIRECTIONS: &[(&str, &str)] =
    &[("ingress", "In: to ports of the group"), ("egress", "Out: from ports of the group")];
const FAMILIES: &[(&str, &str)] = &[("IPv4", "IPv4"), ("IPv6", "IPv6")];

/// Rules.
pub static RULES: Resource = Resource {
    path: "security-group-rules",
    api: "/v2.0/security-group-rules",
    singular: "security_group_rule",
    plural: "security_group_rules",
    one: "rule",
    many: "Rules of security groups",
    about: "A rule lets some packets in to, or out of, the ports of its group. Answers to what may pass may pass too, unless all groups of the port are stateless.",
    title: rule,
    columns: &[
        Column::new("What", "id", Shape::Title),
        Column::new("Direction", "direction", Shape::By(|way| if way == "ingress" { "in" } else { "out" }.into()))
            .sorted(),
        Column::new("Traffic", "protocol", Shape::Whole(traffic)),
        Column::new("Other side: range", "remote_ip_prefix", Shape::Code).sorted(),
        Column::new("Other side: group", "remote_group_id", Shape::Reference("security-groups")),
        Column::new("Group", "security_group_id", Shape::Reference("security-groups")),
    ],
    order: None,
    facts: &[
        Column::new("Id", "id", Shape::Code),
        Column::new("Group", "security_group_id", Shape::Reference("security-groups")),
        Column::new("Direction", "direction", Shape::Text),
        Column::new("Traffic", "protocol", Shape::Whole(traffic)),
        Column::new("Other side: range", "remote_ip_prefix", Shape::Code),
        Column::new("Other side: group", "remote_group_id", Shape::Reference("security-groups")),
        Column::new("Description", "description", Shape::Text),
        Column::new("Created", "created_at", Shape::Time),
    ],
    filters: &[
        Filter::choice("direction", "Direction", &["ingress", "egress"]),
        Filter::text("protocol", "Protocol"),
        Filter::text("security_group_id", "Group id"),
    ],
    fields: &[
        Field::new("security_group_id", "Group", Kind::Reference("security-groups", "Choose a group")).once().needed(),
        Field::new("direction", "Direction", Kind::Choice(DIRECTIONS)).once().needed(),
        Field::new("ethertype", "Ether type", Kind::Choice(FAMILIES)).once(),
        Field::new("protocol", "Protocol", Kind::Text).hint("tcp, udp, icmp, or a number; empty: any.").once(),
        Field::new("port_range_min", "First port", Kind::Number(0, 65_535)).hint("Of ICMP: its type.").once(),
        Field::new("port_range_max", "Last port", Kind::Number(0, 65_535)).hint("Of ICMP: its code.").once(),
        Field::new("remote_ip_prefix", "Other side: range", Kind::Written(CIDR))
            .hint("Such as 203.0.113.0/24; empty: anywhere, or the group below.")
            .once(),
        Field::new("remote_group_id", "Other side: group", Kind::Reference("security-groups", "Any")).once(),
        Field::new("description", "Description", Kind::Text).once(),
    ],
    parts: &[],
    extra: Extra::None,
    dependents: &[],
    doors: &[],
    verbs: Verbs { edit: false, tags: false, ..Verbs::TENANT },
};
