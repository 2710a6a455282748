//! Ports.

use super::text::{FIXED_IPS, PAIRS, joined, name_or_id, with_address};
use super::{Column, Dependent, Extra, Field, Filter, Kind, Part, Resource, Shape, Verbs};

const STATUSES: &[&str] = &["ACTIVE", "BUILD", "DOWN", "ERROR"];

/// Ports.
pub static PORTS: Resource = Resource {
    path: "ports",
    api: "/v2.0/ports",
    singular: "port",
    plural: "ports",
    one: "port",
    many: "Ports",
    about: "A port is one interface of a machine or container: its addresses, and what may reach it.",
    title: name_or_id,
    columns: &[
        Column::new("Name", "name", Shape::Title).sorted(),
        Column::new("Status", "status", Shape::Status).sorted(),
        Column::new("Addresses", "fixed_ips", Shape::By(|ips| joined(FIXED_IPS.show, ips))),
        Column::new("MAC", "mac_address", Shape::Code).sorted(),
        Column::new("Network", "network_id", Shape::Reference("networks")),
        Column::new("Host", "binding:host_id", Shape::Host).operator(),
    ],
    order: None,
    facts: &[
        Column::new("Id", "id", Shape::Code),
        Column::new("Description", "description", Shape::Text),
        Column::new("Status", "status", Shape::Status),
        Column::new("Network", "network_id", Shape::Reference("networks")),
        Column::new("Addresses", "fixed_ips", Shape::By(|ips| joined(FIXED_IPS.show, ips))),
        Column::new("MAC", "mac_address", Shape::Code),
        Column::new("Security groups", "security_groups", Shape::References("security-groups")),
        Column::new("Port security", "port_security_enabled", Shape::Flag("on", "off: it is not filtered")),
        Column::new("Allowed address pairs", "allowed_address_pairs", Shape::By(|pairs| joined(PAIRS.show, pairs))),
        Column::new("Admin state", "admin_state_up", Shape::Flag("up", "down")),
        Column::new("Device", "device_id", Shape::Text),
        Column::new("Device owner", "device_owner", Shape::Text),
        Column::new("DNS name", "dns_name", Shape::Text),
        Column::new("Host", "binding:host_id", Shape::Host).operator(),
        Column::new("Interface", "binding:vif_type", Shape::Text).operator(),
        Column::new("Project", "project_id", Shape::Code).operator(),
        Column::new("Created", "created_at", Shape::Time),
        Column::new("Updated", "updated_at", Shape::Time),
    ],
    filters: &[
        Filter::text("name", "Name"),
        Filter::choice("status", "Status", STATUSES),
        Filter::text("fixed_ips", "Address, or a part").asked(with_address),
        Filter::text("mac_address", "MAC"),
        Filter::text("network_id", "Network id"),
        Filter::text("device_id", "Device"),
        Filter::text("security_groups", "Security group id"),
        Filter::text("binding:host_id", "Host").operator(),
        Filter::text("tags", "Tag"),
    ],
    fields: &[
        Field::new("network_id", "Network", Kind::Reference("networks", "Choose a network")).once().needed(),
        Field::new("name", "Name", Kind::Text),
        Field::new("fixed_ips", "Addresses", Kind::Written(FIXED_IPS))
            .hint("One a line. Empty: a new port gets any free one of the network."),
        Field::new("security_groups", "Security groups", Kind::References("security-groups"))
            .hint("What they let through together may pass. A new port without any gets the project's default group."),
        Field::new("port_security_enabled", "Port security", Kind::Flag(true))
            .hint("Without it the port is not filtered and may use any address; then it has no security groups."),
        Field::new("allowed_address_pairs", "Allowed address pairs", Kind::Written(PAIRS))
            .hint("One a line: an address or range that it may use beside its own, and a MAC if that is another."),
        Field::new("admin_state_up", "Admin state up", Kind::Flag(true)),
        Field::new("device_id", "Device", Kind::Text).hint("Id of the machine or container, for whoever runs it."),
        Field::new("dns_name", "DNS name", Kind::Text).hint("DHCP tells it to the port."),
        Field::new("description", "Description", Kind::Text),
        Field::new("binding:host_id", "Host", Kind::Text).hint("Where the port is; empty: nowhere yet.").operator(),
    ],
    parts: &[Part { of: "floating-ips", by: "port_id", with: "id" }],
    extra: Extra::EffectiveRules,
    dependents: &[Dependent { of: "floating-ips", by: "port_id", blocks: false }],
    doors: &[
        ("reach", "Who can reach it"),
        ("trace", "Follow a packet"),
        ("flows", "Flows"),
        ("flow-log", "Flow log"),
        ("drops", "What is dropped"),
    ],
    verbs: Verbs::TENANT,
};
