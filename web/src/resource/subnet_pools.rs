//! Subnet pools.

use super::text::{CIDRS, name_or_id};
use super::{Column, Dependent, Extra, Field, Filter, Kind, Part, Resource, Shape, Verbs};

/// Subnet pools.
pub static SUBNET_POOLS: Resource = Resource {
    path: "subnet-pools",
    api: "/v2.0/subnetpools",
    singular: "subnetpool",
    plural: "subnetpools",
    one: "subnet pool",
    many: "Subnet pools",
    about: "A subnet pool gives ranges to subnets, so that no two of them overlap.",
    title: name_or_id,
    columns: &[
        Column::new("Name", "name", Shape::Title).sorted(),
        Column::new("Prefixes", "prefixes", Shape::List),
        Column::new("Default prefix length", "default_prefixlen", Shape::Text).sorted(),
        Column::new("Shared", "shared", Shape::Flag("shared", "")),
    ],
    order: None,
    facts: &[
        Column::new("Id", "id", Shape::Code),
        Column::new("Description", "description", Shape::Text),
        Column::new("Prefixes", "prefixes", Shape::List),
        Column::new("Default prefix length", "default_prefixlen", Shape::Text),
        Column::new("Minimum prefix length", "min_prefixlen", Shape::Text),
        Column::new("Maximum prefix length", "max_prefixlen", Shape::Text),
        Column::new("Addresses for a project", "default_quota", Shape::Text),
        Column::new("Default pool", "is_default", Shape::Flag("yes", "no")),
        Column::new("Shared", "shared", Shape::Flag("with every project", "no")),
        Column::new("Project", "project_id", Shape::Code).operator(),
        Column::new("Created", "created_at", Shape::Time),
        Column::new("Updated", "updated_at", Shape::Time),
    ],
    filters: &[
        Filter::text("name", "Name"),
        Filter::choice("shared", "Shared", &["true", "false"]),
        Filter::text("tags", "Tag"),
    ],
    fields: &[
        Field::new("name", "Name", Kind::Text).needed(),
        Field::new("prefixes", "Prefixes", Kind::Written(CIDRS))
            .hint("One a line, such as 10.64.0.0/16. A change may only add to them.")
            .needed(),
        Field::new("default_prefixlen", "Default prefix length", Kind::Number(1, 128))
            .hint("Where a subnet says none."),
        Field::new("min_prefixlen", "Minimum prefix length", Kind::Number(1, 128)),
        Field::new("max_prefixlen", "Maximum prefix length", Kind::Number(1, 128)),
        Field::new("description", "Description", Kind::Text),
        Field::new("shared", "Shared with every project", Kind::Flag(false)).once().operator(),
        Field::new("is_default", "Default pool", Kind::Flag(false)).operator(),
    ],
    parts: &[Part { of: "subnets", by: "subnetpool_id", with: "id" }],
    extra: Extra::None,
    dependents: &[Dependent { of: "subnets", by: "subnetpool_id", blocks: true }],
    doors: &[],
    verbs: Verbs::TENANT,
};
