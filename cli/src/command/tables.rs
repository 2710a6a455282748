//! The resources. A new one is an entry here.

use super::resource::Kind::{Integer, OneOf, Pairs, Project, Ref, Switch, Text};
use super::resource::{Empty, Opt, Resource, Verb};

/// Every noun that is described by data alone.
pub const RESOURCES: [&Resource; 11] = [
    &NETWORK,
    &SUBNET,
    &PORT,
    &SECURITY_GROUP,
    &SECURITY_GROUP_RULE,
    &ROUTER,
    &FLOATING_IP,
    &SUBNET_POOL,
    &HOST,
    &ROLE,
    &AUDIT,
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
const STATUS: Opt = Opt::new("status", "status", Text, "ACTIVE, BUILD, DOWN or ERROR").only_filter();

const PLAIN: Resource = Resource {
    noun: "",
    a: "",
    member: "",
    members: "",
    path: "",
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
            Pairs(&[("start", "start", None), ("end", "end", None)]),
            "Addresses to give to ports, start=ADDRESS,end=ADDRESS",
        )
        .many(),
        Opt::new(
            "host-route",
            "host_routes",
            Pairs(&[("destination", "destination", None), ("nexthop", "nexthop", None)]),
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
            Pairs(&[("subnet", "subnet_id", Some("subnet")), ("ip-address", "ip_address", None)]),
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
            Pairs(&[("ip-address", "ip_address", None), ("mac-address", "mac_address", None)]),
            "Other address it may send from, ip-address=CIDR,mac-address=MAC",
        )
        .many(),
        Opt::new("host", "binding:host_id", Text, "Host it is on (administrators)").filter().empty(Empty::Text),
        Opt::new("device", "device_id", Text, "What it is plugged into").filter().empty(Empty::Text),
        Opt::new("device-owner", "device_owner", Text, "Whose that is, such as compute:nova")
            .filter()
            .empty(Empty::Text),
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

const ROUTER: Resource = Resource {
    noun: "router",
    a: "a router",
    member: "router",
    members: "routers",
    path: "/v2.0/routers",
    tags: true,
    columns: &["id", "name", "status", "admin_state_up"],
    long: &["project_id", "external_gateway_info", "routes", "tags"],
    options: &[NAME.positional().required(), DESCRIPTION, PROJECT, STATE],
    verbs: &[
        Verb::List("--long"),
        Verb::Show("edge"),
        Verb::Create("edge --description 'the way out'"),
        Verb::Set("edge --name way-out"),
        Verb::Unset("edge --description"),
        Verb::Delete("edge"),
    ],
    ..PLAIN
};

const FLOATING_IP: Resource = Resource {
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

const HOST: Resource = Resource {
    noun: "host",
    a: "a host (operators)",
    member: "host",
    members: "hosts",
    path: "/v2.0/mizar/hosts",
    found_by_server: true,
    columns: &["name", "underlay", "az", "rack", "transit", "alive", "ports", "version"],
    long: &[
        "pending_entries",
        "oldest_pending_s",
        "silent_s",
        "weight",
        "transit_hook",
        "mtu",
        "abi",
        "failures",
        "lost_since",
    ],
    options: &[
        Opt::new("az", "az", Text, "Availability zone").only_filter(),
        Opt::new("rack", "rack", Text, "Rack").only_filter(),
        Opt::new("transit", "transit", OneOf(&["yes", "no", "prefer"]), "Whether it bounces and divides for others")
            .later()
            .filter(),
        Opt::new("weight", "weight", Integer, "Its share of that, 1 to 1000").later(),
        Opt::new("allow-shrink", "allow_shrink_s", Integer, "For so many seconds its agent may drop most of its ports")
            .later(),
        Opt::new(
            "believe-gone",
            "believe_gone_s",
            Integer,
            "For so many seconds: if it is silent it is lost, however many others are",
        )
        .later(),
    ],
    verbs: &[Verb::List("--az zone1 --long"), Verb::Show("host1"), Verb::Set("host1 --transit no")],
    ..PLAIN
};

const ROLE: Resource = Resource {
    noun: "role",
    a: "a transit role of a host (operators)",
    member: "role",
    members: "roles",
    path: "/v2.0/mizar/roles",
    key: None,
    paged: false,
    columns: &["host", "role", "state", "network_id", "subnet_id", "first_slot", "last_slot"],
    long: &["since"],
    options: &[
        Opt::new("host", "host", Text, "Host that has it").only_filter(),
        Opt::new("network", "network_id", Ref("network"), "Network it is for, by name or id").only_filter(),
        Opt::new("subnet", "subnet_id", Ref("subnet"), "Subnet it is for, by name or id").only_filter(),
        Opt::new("role", "role", OneOf(&["bouncer", "divider"]), "Which").only_filter(),
        Opt::new("state", "state", OneOf(&["pending", "active", "draining"]), "How far it is").only_filter(),
    ],
    verbs: &[Verb::List("--network web --role bouncer")],
    ..PLAIN
};

const AUDIT: Resource = Resource {
    noun: "audit",
    a: "an entry of the audit log (operators)",
    member: "audit_event",
    members: "audit_events",
    path: "/v2.0/mizar/audit",
    key: None,
    columns: &["at", "user_name", "action", "object_type", "object_id"],
    long: &["id", "project_id", "remote", "request_id", "changes"],
    options: &[
        Opt::new("user", "user_name", Text, "Who, by name").only_filter(),
        Opt::new("action", "action", Text, "What was done").only_filter(),
        Opt::new("object-type", "object_type", Text, "To what kind of object").only_filter(),
        Opt::new("object", "object_id", Text, "To which object, by id").only_filter(),
        PROJECT.only_filter(),
    ],
    verbs: &[Verb::List("--sort at:desc --limit 20"), Verb::Show("0193565e-7c1d-7000-8000-3f1e5d0c0a01")],
    ..PLAIN
};
