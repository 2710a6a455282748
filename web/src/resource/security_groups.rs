//! Security groups.

use super::text::name_or_id;
use super::{Column, Dependent, Extra, Field, Filter, Kind, Part, Resource, Shape, Verbs};

/// Security groups.
pub static SECURITY_GROUPS: Resource = Resource {
    path: "security-groups",
    api: "/v2.0/security-groups",
    singular: "security_group",
    plural: "security_groups",
    one: "security group",
    many: "Security groups",
    about: "A security group is a set of rules about what may pass. A port has any number of groups; what one of them lets through may pass.",
    title: name_or_id,
    columns: &[
        Column::new("Name", "name", Shape::Title).sorted(),
        Column::new("Description", "description", Shape::Text),
        Column::new(
            "Rules",
            "security_group_rules",
            Shape::By(|rules| rules.as_array().map_or(0, Vec::len).to_string()),
        ),
        Column::new("Answers", "stateful", Shape::Flag("pass too", "need rules")),
        Column::new("Shared", "shared", Shape::Flag("shared", "")),
    ],
    order: None,
    facts: &[
        Column::new("Id", "id", Shape::Code),
        Column::new("Description", "description", Shape::Text),
        Column::new(
            "Answers to what may pass",
            "stateful",
            Shape::Flag("pass too: it is stateful", "need rules of their own: it is stateless"),
        ),
        Column::new("Shared", "shared", Shape::Flag("yes", "no")),
        Column::new("Project", "project_id", Shape::Code).operator(),
        Column::new("Created", "created_at", Shape::Time),
        Column::new("Updated", "updated_at", Shape::Time),
    ],
    filters: &[Filter::text("name", "Name"), Filter::text("tags", "Tag")],
    fields: &[
        Field::new("name", "Name", Kind::Text),
        Field::new("description", "Description", Kind::Text),
        Field::new("stateful", "Stateful", Kind::Flag(true)).hint(
            "Answers to what may pass may pass too. A port for which that shall not hold has stateless groups alone. \
             It is not changed while ports have the group.",
        ),
    ],
    parts: &[
        Part { of: "security-group-rules", by: "security_group_id", with: "id" },
        Part { of: "ports", by: "security_groups", with: "id" },
    ],
    extra: Extra::None,
    dependents: &[
        Dependent { of: "ports", by: "security_groups", blocks: true },
        Dependent { of: "security-group-rules", by: "security_group_id", blocks: false },
    ],
    doors: &[],
    verbs: Verbs::TENANT,
};
