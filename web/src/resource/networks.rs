//! Networks.

use super::text::name_or_id;
use super::{Column, Dependent, Extra, Field, Filter, Kind, Part, Resource, Shape, Verbs};

const STATUSES: &[&str] = &["ACTIVE", "BUILD", "DOWN", "ERROR"];

/// Networks.
pub static NETWORKS: Resource = Resource {
    path: "networks",
    api: "/v2.0/networks",
    singular: "network",
    plural: "networks",
    one: "network",
    many: "Networks",
    about: "A network is a space of addresses of its own. Its subnets reach each other; other networks do not reach it.",
    title: name_or_id,
    columns: &[
        Column::new("Name", "name", Shape::Title).sorted(),
        Column::new("Status", "status", Shape::Status).sorted(),
        Column::new("Subnets", "subnets", Shape::References("subnets")),
        Column::new("MTU", "mtu", Shape::Text).sorted(),
        Column::new("Shared", "shared", Shape::Flag("shared", "")),
    ],
    order: None,
    facts: &[
        Column::new("Id", "id", Shape::Code),
        Column::new("Description", "description", Shape::Text),
        Column::new("Status", "status", Shape::Status),
        Column::new("MTU", "mtu", Shape::Text),
        Column::new("Shared", "shared", Shape::Flag("with every project", "no")),
        Column::new("External", "router:external", Shape::Flag("yes", "no")),
        Column::new("Port security of new ports", "port_security_enabled", Shape::Flag("on", "off")),
        Column::new("VNI", "provider:segmentation_id", Shape::Code).operator(),
        Column::new("Project", "project_id", Shape::Code).operator(),
        Column::new("Created", "created_at", Shape::Time),
        Column::new("Updated", "updated_at", Shape::Time),
    ],
    filters: &[
        Filter::text("name", "Name"),
        Filter::choice("status", "Status", STATUSES),
        Filter::choice("shared", "Shared", &["true", "false"]),
        Filter::text("tags", "Tag"),
    ],
    fields: &[
        Field::new("name", "Name", Kind::Text).hint("For people; several may be called the same."),
        Field::new("description", "Description", Kind::Text),
        Field::new("mtu", "MTU", Kind::Number(0, 65_535))
            .hint("Bytes of an IP packet. 0, or a new network without it: the largest possible."),
        Field::new("port_security_enabled", "Port security of new ports", Kind::Flag(true))
            .hint("Without it, ports are not filtered and may use any address."),
        Field::new("shared", "Shared with every project", Kind::Flag(false)).operator(),
        Field::new("router:external", "External", Kind::Flag(false)).operator(),
    ],
    parts: &[Part { of: "subnets", by: "network_id", with: "id" }, Part { of: "ports", by: "network_id", with: "id" }],
    extra: Extra::Holders,
    dependents: &[
        Dependent { of: "ports", by: "network_id", blocks: true },
        Dependent { of: "subnets", by: "network_id", blocks: false },
    ],
    doors: &[],
    verbs: Verbs::TENANT,
};
