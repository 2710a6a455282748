//! Subnets.

use super::text::{ADDRESSES, CIDR, GATEWAY, POOLS, ROUTES, joined, name_or_id};
use super::{Column, Extra, Field, Filter, Kind, Resource, Shape, Verbs};

/// Subnets.
pub static SUBNETS: Resource = Resource {
    path: "subnets",
    api: "/v2.0/subnets",
    singular: "subnet",
    plural: "subnets",
    one: "subnet",
    many: "Subnets",
    about: "A subnet is a range of addresses of a network. Ports get their addresses from it.",
    title: name_or_id,
    columns: &[
        Column::new("Name", "name", Shape::Title).sorted(),
        Column::new("CIDR", "cidr", Shape::Code).sorted(),
        Column::new("Network", "network_id", Shape::Reference("networks")),
        Column::new("Gateway", "gateway_ip", Shape::Code),
        Column::new("DHCP", "enable_dhcp", Shape::Flag("on", "off")).sorted(),
    ],
    order: None,
    facts: &[
        Column::new("Id", "id", Shape::Code),
        Column::new("Description", "description", Shape::Text),
        Column::new("Network", "network_id", Shape::Reference("networks")),
        Column::new("CIDR", "cidr", Shape::Code),
        Column::new("Gateway", "gateway_ip", Shape::Code),
        Column::new("DHCP", "enable_dhcp", Shape::Flag("on", "off")),
        Column::new("Allocation pools", "allocation_pools", Shape::By(|pools| joined(POOLS.show, pools))),
        Column::new("DNS name servers", "dns_nameservers", Shape::List),
        Column::new("Host routes", "host_routes", Shape::By(|routes| joined(ROUTES.show, routes))),
        Column::new("Pool", "subnetpool_id", Shape::Reference("subnet-pools")),
        Column::new("Project", "project_id", Shape::Code).operator(),
        Column::new("Created", "created_at", Shape::Time),
        Column::new("Updated", "updated_at", Shape::Time),
    ],
    filters: &[
        Filter::text("name", "Name"),
        Filter::text("cidr", "CIDR"),
        Filter::text("gateway_ip", "Gateway"),
        Filter::text("network_id", "Network id"),
        Filter::choice("enable_dhcp", "DHCP", &["true", "false"]),
        Filter::text("tags", "Tag"),
    ],
    fields: &[
        Field::new("network_id", "Network", Kind::Reference("networks", "Choose a network")).once().needed(),
        Field::new("name", "Name", Kind::Text),
        Field::new("cidr", "CIDR", Kind::Written(CIDR))
            .hint("Such as 10.0.1.0/24. Subnets of one network do not overlap. Empty: from the pool.")
            .once(),
        Field::new("subnetpool_id", "Pool", Kind::Reference("subnet-pools", "None: the range is written above")).once(),
        Field::new("prefixlen", "Prefix length from the pool", Kind::Number(1, 32))
            .hint("Empty: the pool's own.")
            .once(),
        Field::new("gateway_ip", "Gateway", Kind::Written(GATEWAY))
            .hint("Empty: the first address of a new subnet; none: there is no gateway."),
        Field::new("enable_dhcp", "DHCP", Kind::Flag(true)),
        Field::new("allocation_pools", "Allocation pools", Kind::Written(POOLS))
            .hint("One range a line, such as 10.0.1.10 - 10.0.1.99. Empty: all but the gateway."),
        Field::new("dns_nameservers", "DNS name servers", Kind::Written(ADDRESSES)).hint("One address a line."),
        Field::new("host_routes", "Host routes", Kind::Written(ROUTES))
            .hint("One a line, such as 192.0.2.0/24 via 10.0.1.3."),
        Field::new("description", "Description", Kind::Text),
    ],
    parts: &[],
    extra: Extra::None,
    dependents: &[],
    doors: &[],
    verbs: Verbs::TENANT,
};
