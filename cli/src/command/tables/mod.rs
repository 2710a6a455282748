//! The resources. A new one is an entry in one of these tables.

mod operators;
mod quality;
mod routing;
mod sharing;

use super::resource::Kind::{Integer, OneOf, Pairs, Project, Ref, Switch, Text};
use super::resource::{Empty, Opt, Resource, Verb};

/// Every noun that is described by data alone.
pub const RESOURCES: [&Resource; 21] = [
    &NETWORK,
    &SUBNET,
    &PORT,
    &SECURITY_GROUP,
    &SECURITY_GROUP_RULE,
    &sharing::ADDRESS_GROUP,
    &routing::ROUTER,
    &routing::FLOATING_IP,
    &SUBNET_POOL,
    &sharing::ADDRESS_SCOPE,
    &sharing::RBAC_POLICY,
    &quality::POLICY,
    &quality::BANDWIDTH_LIMIT,
    &quality::PACKET_RATE_LIMIT,
    &quality::MINIMUM_BANDWIDTH,
    &quality::MINIMUM_PACKET_RATE,
    &quality::DSCP_MARKING,
    &TRUNK,
    &operators::HOST,
    &operators::ROLE,
    &operators::AUDIT,
];

/// The resource of a noun.
pub fn of(noun: &str) -> &'static Resource {
    RESOURCES.into_iter().find(|resource| resource.noun == noun).expect("nouns are of this table")
}

const NAME: Opt = Opt::new("name", "name", Text, "Name").filter();
const DESCRIPTION: Opt = Opt::new("description", "description", Text, "Words about it").empty(Empty::Text);
const PROJECT: Opt =
    Opt::new("project", "project_id", Project, "Project it belongs to, by name or id").fixed().filter();
const STATE: Opt = Opt::new("state", "admin_state_up", Switch("enable", "disable"), "Let it work; or switch it off");
const QOS_POLICY: Opt =
    Opt::new("qos-policy", "qos_policy_id", Ref("qos-policy"), "QoS policy, by name or id").empty(Empty::Null);
const STATUS: Opt = Opt::new("status", "status", Text, "ACTIVE, BUILD, DOWN or ERROR").only_filter();

const PLAIN: Resource = Resource {
    noun: "",
    a: "",
    member: "",
    members: "",
    path: "",
    parent: None,
    key: Some("name"),
    found_by_server: false,
    paged: true,
    tags: false,
    waits: false,
    columns: &[],
    long: &[],
    options: &[],
    verbs: &[],
};

const NETWORK: Resource = Resource {
    noun: "network",
    a: "a network",
    member: "network",
    members: "networks",
    path: "/v2.0/networks",
    tags: true,
    columns: &["id", "name", "subnets", "status"],
    long: &["project_id", "mtu", "admin_state_up", "shared", "router:external", "tags"],
    options: &[
        NAME.positional().required(),
        DESCRIPTION,
        PROJECT,
        STATE,
        STATUS,
        Opt::new("mtu", "mtu", Integer, "Bytes of an IP packet inside"),
        Opt::new("shared", "shared", Switch("share", "no-share"), "Let every project use it (administrators)"),
        Opt::new("external", "router:external", Switch("external", "internal"), "It leads out (administrators)"),
        Opt::new(
            "port-security",
            "port_security_enabled",
            Switch("enable-port-security", "disable-port-security"),
            "Filter packets of its new ports; or do not",
        ),
        Opt::new("dns-domain", "dns_domain", Text, "Domain of its ports' names").empty(Empty::Text),
        QOS_POLICY,
    ],
    verbs: &[
        Verb::List("--long --sort name"),
        Verb::Show("web"),
        Verb::Create("web --description 'web servers'"),
        Verb::Set("web --name front --tag production"),
        Verb::Unset("web --description --tag production"),
        Verb::Delete("web"),
    ],
    ..PLAIN
};

const SUBNET: Resource = Resource {
    noun: "subnet",
    a: "a subnet",
    member: "subnet",
    members: "subnets",
    path: "/v2.0/subnets",
    tags: true,
    columns: &["id", "name", "network_id", "cidr", "gateway_ip"],
    long: &["project_id", "enable_dhcp", "allocation_pools", "dns_nameservers", "host_routes", "tags"],
    options: &[
        NAME.positional().required(),
        DESCRIPTION,
        PROJECT,
        Opt::new("network", "network_id", Ref("network"), "Network it is of, by name or id")
            .fixed()
            .required()
            .filter(),
        Opt::new("cidr", "cidr", Text, "Range of addresses, such as 10.0.0.0/24").fixed().filter(),
        Opt::new("ip-version", "ip_version", Integer, "4 or 6").fixed().default("4").filter(),
        Opt::new("subnet-pool", "subnetpool_id", Ref("subnet-pool"), "Pool to take the range from").fixed().filter(),
        Opt::new("prefix-length", "prefixlen", Integer, "Size of the range that the pool gives").fixed(),
        Opt::new("gateway", "gateway_ip", Text, "Address of its router").empty(Empty::Null),
        Opt::new("dhcp", "enable_dhcp", Switch("dhcp", "no-dhcp"), "Tell guests their addresses; or do not"),
        Opt::new("dns-nameserver", "dns_nameservers", Text, "Name server that guests are told").many(),
        Opt::new(
            "allocation-pool",
            "allocation_pools",
            Pairs(&[("start", "start", Text), ("end", "end", Text)]),
            "Addresses to give to ports, start=ADDRESS,end=ADDRESS",
        )
        .many(),
        Opt::new(
            "host-route",
            "host_routes",
            Pairs(&[("destination", "destination", Text), ("nexthop", "nexthop", Text)]),
            "Route that guests are told, destination=CIDR,nexthop=ADDRESS",
        )
        .many(),
    ],
    verbs: &[
        Verb::List("--network web"),
        Verb::Show("web-a"),
        Verb::Create("web-a --network web --cidr 10.0.0.0/24 --dns-nameserver 192.0.2.53"),
        Verb::Set("web-a --dns-nameserver 192.0.2.54"),
        Verb::Unset("web-a --dns-nameserver 192.0.2.53 --gateway"),
        Verb::Delete("web-a"),
    ],
    ..PLAIN
};

const PORT: Resource = Resource {
    noun: "port",
    a: "a port",
    member: "port",
    members: "ports",
    path: "/v2.0/ports",
    tags: true,
    waits: true,
    columns: &["id", "name", "mac_address", "fixed_ips.ip_address", "status"],
    long: &[
        "project_id",
        "network_id",
        "binding:host_id",
        "device_owner",
        "security_groups",
        "mizar:status_reason",
        "tags",
    ],
    options: &[
        NAME.positional(),
        DESCRIPTION,
        PROJECT,
        STATE,
        STATUS,
        Opt::new("network", "network_id", Ref("network"), "Network it is on, by name or id")
            .fixed()
            .required()
            .filter(),
        Opt::new(
            "fixed-ip",
            "fixed_ips",
            Pairs(&[("subnet", "subnet_id", Ref("subnet")), ("ip-address", "ip_address", Text)]),
            "Address, subnet=SUBNET,ip-address=ADDRESS, either or both",
        )
        .many()
        .filter(),
        Opt::new("mac-address", "mac_address", Text, "MAC address").fixed().filter(),
        Opt::new("security-group", "security_groups", Ref("security-group"), "Security group, by name or id")
            .many()
            .filter(),
        Opt::new(
            "port-security",
            "port_security_enabled",
            Switch("enable-port-security", "disable-port-security"),
            "Filter its packets; or do not",
        ),
        Opt::new(
            "allowed-address",
            "allowed_address_pairs",
            Pairs(&[("ip-address", "ip_address", Text), ("mac-address", "mac_address", Text)]),
            "Other address it may send from, ip-address=CIDR,mac-address=MAC",
        )
        .many(),
        Opt::new("host", "binding:host_id", Text, "Host it is on (administrators)").filter().empty(Empty::Text),
        Opt::new("device", "device_id", Text, "What it is plugged into").filter().empty(Empty::Text),
        Opt::new("device-owner", "device_owner", Text, "Whose that is, such as compute:nova")
            .filter()
            .empty(Empty::Text),
        QOS_POLICY,
    ],
    verbs: &[
        Verb::List("--network web --status ERROR --long"),
        Verb::Show("web-1 --wait"),
        Verb::Create("web-1 --network web --fixed-ip subnet=web-a,ip-address=10.0.0.10"),
        Verb::Set("web-1 --security-group web --host host1 --wait"),
        Verb::Unset("web-1 --security-group web"),
        Verb::Delete("web-1 web-2"),
    ],
    ..PLAIN
};

const SECURITY_GROUP: Resource = Resource {
    noun: "security-group",
    a: "a security group",
    member: "security_group",
    members: "security_groups",
    path: "/v2.0/security-groups",
    tags: true,
    columns: &["id", "name", "description"],
    long: &["project_id", "stateful", "shared", "tags"],
    options: &[
        NAME.positional().required(),
        DESCRIPTION,
        PROJECT,
        Opt::new("stateful", "stateful", Switch("stateful", "stateless"), "Answers pass without a rule; or not"),
    ],
    verbs: &[
        Verb::List("--long"),
        Verb::Show("web"),
        Verb::Create("web --description 'who may speak to web servers'"),
        Verb::Set("web --name front"),
        Verb::Unset("web --description"),
        Verb::Delete("web"),
    ],
    ..PLAIN
};

const SECURITY_GROUP_RULE: Resource = Resource {
    noun: "security-group-rule",
    a: "a rule of a security group",
    member: "security_group_rule",
    members: "security_group_rules",
    path: "/v2.0/security-group-rules",
    key: None,
    columns: &[
        "id",
        "direction",
        "ethertype",
        "protocol",
        "port_range_min",
        "port_range_max",
        "remote_ip_prefix",
        "remote_group_id",
    ],
    long: &["security_group_id", "project_id", "remote_address_group_id", "description"],
    options: &[
        Opt::new("group", "security_group_id", Ref("security-group"), "Security group it is of, by name or id")
            .fixed()
            .positional()
            .required()
            .filter(),
        Opt::new("direction", "direction", OneOf(&["ingress", "egress"]), "Which way")
            .fixed()
            .default("ingress")
            .filter(),
        Opt::new("ethertype", "ethertype", OneOf(&["IPv4", "IPv6"]), "Of which protocol").fixed().filter(),
        Opt::new("protocol", "protocol", Text, "tcp, udp, icmp, any other name or number").fixed().filter(),
        Opt::new("port-min", "port_range_min", Integer, "First port, or ICMP type").fixed().filter(),
        Opt::new("port-max", "port_range_max", Integer, "Last port, or ICMP code").fixed().filter(),
        Opt::new("remote-ip", "remote_ip_prefix", Text, "Who it is at the other end, by range").fixed().filter(),
        Opt::new("remote-group", "remote_group_id", Ref("security-group"), "Or by security group").fixed().filter(),
        Opt::new("remote-address-group", "remote_address_group_id", Ref("address-group"), "Or by address group")
            .fixed()
            .filter(),
        DESCRIPTION,
    ],
    verbs: &[
        Verb::List("--group web"),
        Verb::Show("6d2d1d4f-0c5c-4f2e-9d0b-0c7c5d1e3f60"),
        Verb::Create("web --protocol tcp --port-min 443 --port-max 443 --remote-ip 192.0.2.0/24"),
        Verb::Set("6d2d1d4f-0c5c-4f2e-9d0b-0c7c5d1e3f60 --description 'from the office'"),
        Verb::Delete("6d2d1d4f-0c5c-4f2e-9d0b-0c7c5d1e3f60"),
    ],
    ..PLAIN
};

const SUBNET_POOL: Resource = Resource {
    noun: "subnet-pool",
    a: "a pool of ranges for subnets",
    member: "subnetpool",
    members: "subnetpools",
    path: "/v2.0/subnetpools",
    tags: true,
    columns: &["id", "name", "prefixes", "default_prefixlen"],
    long: &["project_id", "min_prefixlen", "max_prefixlen", "shared", "is_default", "tags"],
    options: &[
        NAME.positional().required(),
        DESCRIPTION,
        PROJECT,
        Opt::new("prefix", "prefixes", Text, "Range it holds").many().required(),
        Opt::new("default-prefix-length", "default_prefixlen", Integer, "Size of a subnet that asks for none"),
        Opt::new("min-prefix-length", "min_prefixlen", Integer, "Size of the largest subnet"),
        Opt::new("max-prefix-length", "max_prefixlen", Integer, "Size of the smallest subnet"),
        Opt::new("address-scope", "address_scope_id", Ref("address-scope"), "Scope in which its ranges are unique")
            .filter()
            .empty(Empty::Null),
        Opt::new("shared", "shared", Switch("share", "no-share"), "Let every project use it (administrators)").fixed(),
    ],
    verbs: &[
        Verb::List("--long"),
        Verb::Show("private"),
        Verb::Create("private --prefix 10.0.0.0/8 --default-prefix-length 24"),
        Verb::Set("private --default-prefix-length 26"),
        Verb::Unset("private --description"),
        Verb::Delete("private"),
    ],
    ..PLAIN
};

const TRUNK: Resource = Resource {
    noun: "trunk",
    a: "a trunk: a port that carries others by VLAN tag",
    member: "trunk",
    members: "trunks",
    path: "/v2.0/trunks",
    tags: true,
    columns: &["id", "name", "port_id", "status"],
    long: &["project_id", "sub_ports", "admin_state_up", "description", "tags"],
    options: &[
        NAME.positional().required(),
        DESCRIPTION,
        PROJECT,
        STATE,
        STATUS,
        Opt::new("port", "port_id", Ref("port"), "Port that carries the others, by name or id")
            .fixed()
            .required()
            .filter(),
        Opt::new(
            "subport",
            "sub_ports",
            Pairs(&[
                ("port", "port_id", Ref("port")),
                ("segmentation-type", "segmentation_type", Text),
                ("segmentation-id", "segmentation_id", Integer),
            ]),
            "Port that is carried, port=PORT,segmentation-type=vlan,segmentation-id=TAG; to take it away port=PORT",
        )
        .many_by("add_subports", "remove_subports"),
    ],
    verbs: &[
        Verb::List("--long"),
        Verb::Show("uplink"),
        Verb::Create("uplink --port vm-1 --subport port=vm-1-blue,segmentation-type=vlan,segmentation-id=100"),
        Verb::Set("uplink --subport port=vm-1-red,segmentation-type=vlan,segmentation-id=101"),
        Verb::Unset("uplink --subport port=vm-1-red"),
        Verb::Delete("uplink"),
    ],
    ..PLAIN
};
