//! Floating IPs.

use super::text::{IPV4, name_or_id, plain};
use super::{Column, Extra, Field, Filter, Kind, Resource, Shape, Verbs};

/// Floating IPs.
pub static FLOATING_IPS: Resource = Resource {
    path: "floating-ips",
    api: "/v2.0/floatingips",
    singular: "floatingip",
    plural: "floatingips",
    one: "floating IP",
    many: "Floating IPs",
    about: "A floating IP is an address of an outside network that stands for a port. Hosts do not translate them yet: what is set here is kept, and the status is DOWN.",
    title: |ip| match ip["floating_ip_address"].as_str() {
        Some(address) => address.to_owned(),
        None => name_or_id(ip),
    },
    columns: &[
        Column::new("Address", "floating_ip_address", Shape::Title).sorted(),
        Column::new("Status", "status", Shape::Status).sorted(),
        Column::new("Port", "port_id", Shape::Reference("ports")),
        Column::new("Fixed IP address", "fixed_ip_address", Shape::Code),
        Column::new("External network", "floating_network_id", Shape::Reference("networks")).sorted(),
    ],
    order: None,
    facts: &[
        Column::new("Id", "id", Shape::Code),
        Column::new("Address", "floating_ip_address", Shape::Code),
        Column::new("Status", "status", Shape::Status),
        Column::new("External network", "floating_network_id", Shape::Reference("networks")),
        Column::new("Port", "port_id", Shape::Reference("ports")),
        Column::new("Fixed IP address", "fixed_ip_address", Shape::Code),
        Column::new("Router", "router_id", Shape::Reference("routers")),
        Column::new("Description", "description", Shape::Text),
        Column::new("Project", "project_id", Shape::By(plain)).operator(),
        Column::new("Created", "created_at", Shape::Time),
        Column::new("Updated", "updated_at", Shape::Time),
    ],
    filters: &[
        Filter::text("floating_ip_address", "Address"),
        Filter::text("port_id", "Port id"),
        Filter::text("tags", "Tag"),
    ],
    fields: &[
        Field::new("floating_network_id", "External network", Kind::Reference("networks", "Choose an outside network"))
            .hint("One that is an outside for routers.")
            .among(&[("router:external", "true")])
            .once()
            .needed(),
        Field::new("port_id", "Port", Kind::Reference("ports", "None"))
            .hint("One whose subnet a router joins with the outside network."),
        Field::new("fixed_ip_address", "Fixed IP address", Kind::Written(IPV4)).hint("If the port has several."),
        Field::new("description", "Description", Kind::Text),
    ],
    parts: &[],
    extra: Extra::None,
    dependents: &[],
    doors: &[],
    verbs: Verbs::TENANT,
};
