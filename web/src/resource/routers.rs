//! Routers.

use super::text::{FIXED_IPS, ROUTES, joined, name_or_id};
use super::{Column, Extra, Field, Filter, Kind, Resource, Shape, Verbs};
use serde_json::Value;

const EXTERNAL: &[(&str, &str)] = &[("router:external", "true")];

/// The addresses that it has outside.
fn outside(info: &Value) -> String {
    joined(FIXED_IPS.show, &info["external_fixed_ips"])
}

/// Routers.
pub static ROUTERS: Resource = Resource {
    path: "routers",
    api: "/v2.0/routers",
    singular: "router",
    plural: "routers",
    one: "router",
    many: "Routers",
    about: "A router joins subnets of different networks. Hosts do not forward for routers yet: what is set here is kept, and a router's status is DOWN.",
    title: name_or_id,
    columns: &[
        Column::new("Name", "name", Shape::Title).sorted(),
        Column::new("Status", "status", Shape::Status).sorted(),
        Column::new("Admin state", "admin_state_up", Shape::Flag("up", "down")).sorted(),
        Column::new("Description", "description", Shape::Text),
    ],
    order: None,
    facts: &[
        Column::new("Id", "id", Shape::Code),
        Column::new("Description", "description", Shape::Text),
        Column::new("Status", "status", Shape::Status),
        Column::new("Admin state", "admin_state_up", Shape::Flag("up", "down")),
        Column::new("External gateway", "external_gateway_info", Shape::Member("network_id", "networks")),
        Column::new("Addresses outside", "external_gateway_info", Shape::By(outside)),
        Column::new("Routes", "routes", Shape::By(|routes| joined(ROUTES.show, routes))),
        Column::new("Project", "project_id", Shape::Code).operator(),
        Column::new("Created", "created_at", Shape::Time),
        Column::new("Updated", "updated_at", Shape::Time),
    ],
    filters: &[Filter::text("name", "Name"), Filter::text("tags", "Tag")],
    fields: &[
        Field::new("name", "Name", Kind::Text),
        Field::new("external_gateway_info", "External gateway", Kind::Reference("networks", "None"))
            .inside("network_id")
            .among(EXTERNAL)
            .hint("The external network that the router leads to; it gets an address of it."),
        Field::new("admin_state_up", "Admin state up", Kind::Flag(true)),
        Field::new("routes", "Routes", Kind::Written(ROUTES))
            .hint(
                "One a line, such as 192.0.2.0/24 via 10.0.1.3; the address must be of a subnet that the router joins.",
            )
            .later(),
        Field::new("description", "Description", Kind::Text),
    ],
    parts: &[],
    extra: Extra::Interfaces,
    dependents: &[],
    doors: &[],
    verbs: Verbs::TENANT,
};
