//! Ways out of a network: routers and floating IPs.

use super::{DESCRIPTION, NAME, PLAIN, PROJECT, QOS_POLICY, STATE, STATUS};
use crate::command::resource::Kind::{Pairs, Ref, Switch, Text};
use crate::command::resource::{Act, Empty, Opt, Resource, Verb};

/// What an interface of a router is to: both ways the API is told the same.
const INTERFACE: &[Opt] = &[
    Opt::new("subnet", "subnet_id", Ref("subnet"), "The interface of this subnet, by name or id"),
    Opt::new("port", "port_id", Ref("port"), "The interface that is this port, by name or id"),
];

const ADD_INTERFACE: Act = Act {
    name: "add-interface",
    about: "Connect a subnet to a router, at the subnet's gateway address, or by a port made for it",
    path: "add_router_interface",
    options: INTERFACE,
    example: "edge --subnet web-a",
};

const REMOVE_INTERFACE: Act = Act {
    name: "remove-interface",
    about: "Take a subnet off a router; the interface's port is deleted",
    path: "remove_router_interface",
    options: INTERFACE,
    example: "edge --subnet web-a",
};

/// A router.
pub const ROUTER: Resource = Resource {
    noun: "router",
    a: "a router",
    member: "router",
    members: "routers",
    path: "/v2.0/routers",
    tags: true,
    columns: &["id", "name", "status", "admin_state_up"],
    long: &["project_id", "external_gateway_info", "routes", "tags"],
    options: &[
        NAME.positional().required(),
        DESCRIPTION,
        PROJECT,
        STATE,
        STATUS,
        Opt::new(
            "gateway",
            "external_gateway_info",
            Pairs(&[
                ("network", "network_id", Ref("network")),
                ("snat", "enable_snat", Switch("yes", "no")),
                ("qos-policy", "qos_policy_id", Ref("qos-policy")),
            ]),
            "Way out, network=NETWORK with snat=yes|no (administrators) and qos-policy=POLICY, if wanted",
        )
        .empty(Empty::Null),
        Opt::new(
            "route",
            "routes",
            Pairs(&[("destination", "destination", Text), ("nexthop", "nexthop", Text)]),
            "Route, destination=CIDR,nexthop=ADDRESS",
        )
        .later()
        .many(),
    ],
    verbs: &[
        Verb::List("--long"),
        Verb::Show("edge"),
        Verb::Create("edge --gateway network=public"),
        Verb::Set("edge --route destination=192.0.2.0/24,nexthop=10.0.0.9"),
        Verb::Unset("edge --gateway"),
        Verb::Act(&ADD_INTERFACE),
        Verb::Act(&REMOVE_INTERFACE),
        Verb::Delete("edge"),
    ],
    ..PLAIN
};

/// A floating IP.
pub const FLOATING_IP: Resource = Resource {
    noun: "floating-ip",
    a: "a floating IP",
    member: "floatingip",
    members: "floatingips",
    path: "/v2.0/floatingips",
    key: Some("floating_ip_address"),
    tags: true,
    columns: &["id", "floating_ip_address", "fixed_ip_address", "port_id", "status"],
    long: &["project_id", "floating_network_id", "router_id", "description", "tags"],
    options: &[
        Opt::new("network", "floating_network_id", Ref("network"), "External network it is of, by name or id")
            .fixed()
            .positional()
            .required()
            .filter(),
        Opt::new("address", "floating_ip_address", Text, "The address").fixed().filter(),
        Opt::new("port", "port_id", Ref("port"), "Port it leads to, by name or id").filter().empty(Empty::Null),
        Opt::new("fixed-address", "fixed_ip_address", Text, "Which of the port's addresses").filter(),
        DESCRIPTION,
        PROJECT,
        STATUS,
        QOS_POLICY,
    ],
    verbs: &[
        Verb::List("--network public"),
        Verb::Show("203.0.113.10"),
        Verb::Create("public --port web-1"),
        Verb::Set("203.0.113.10 --port web-2"),
        Verb::Unset("203.0.113.10 --port"),
        Verb::Delete("203.0.113.10"),
    ],
    ..PLAIN
};
