//! The audit log: of a project for its members, of all for administrators.

use super::text::plain;
use super::{Column, Extra, Filter, Resource, Shape, Verbs};

/// Events of the audit log.
pub static AUDIT: Resource = Resource {
    path: "audit",
    api: "/v2.0/mizar/audit",
    singular: "audit_event",
    plural: "audit_events",
    one: "change",
    many: "Audit log",
    about: "Who changed what, and when. Nobody can alter it.",
    title: |event| format!("{} {}", plain(&event["action"]), plain(&event["object_type"])),
    columns: &[
        Column::new("When", "at", Shape::Time).sorted(),
        Column::new("What", "action", Shape::Title).sorted(),
        Column::new("Object", "object_id", Shape::Subject),
        Column::new("By", "user_name", Shape::Text).sorted(),
        Column::new("From", "remote", Shape::Code).sorted().operator(),
    ],
    // Ids of events sort by time: the newest first.
    order: Some(("id", "desc")),
    facts: &[
        Column::new("When", "at", Shape::Time),
        Column::new("Action", "action", Shape::Text),
        Column::new("Kind of object", "object_type", Shape::Text),
        Column::new("Object", "object_id", Shape::Subject),
        Column::new("Object id", "object_id", Shape::Code),
        Column::new("Project of the object", "project_id", Shape::Code).operator(),
        Column::new("By", "user_name", Shape::Text),
        Column::new("In project", "user_project", Shape::Code).operator(),
        Column::new("With roles", "roles", Shape::List).operator(),
        Column::new("From", "remote", Shape::Code).operator(),
        Column::new("Request", "request_id", Shape::Code).operator(),
        Column::new("What was sent", "changes", Shape::By(plain)).operator(),
    ],
    filters: &[
        Filter::text("user_name", "By"),
        Filter::text("action", "Action"),
        Filter::text("object_type", "Kind of object"),
        Filter::text("object_id", "Object id"),
        Filter::text("project_id", "Project id").operator(),
        Filter::text("request_id", "Request").operator(),
    ],
    fields: &[],
    parts: &[],
    extra: Extra::None,
    dependents: &[],
    doors: &[],
    verbs: Verbs { operator: false, ..Verbs::SHOWN },
};
