//! What only operators see: hosts, their roles, who did what.

use super::{PLAIN, PROJECT};
use crate::command::resource::Kind::{Integer, OneOf, Ref, Switch, Text};
use crate::command::resource::{Opt, Resource, Verb};

/// A host.
pub const HOST: Resource = Resource {
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
        Opt::new("alive", "alive", Switch("alive", "silent"), "Heard of within the lease").only_filter(),
        Opt::new("behind", "behind_s", Integer, "Lives, and lacks an entry for so many seconds or longer")
            .only_filter(),
        Opt::new("failing", "failing", Switch("failing", "sound"), "Could not apply something").only_filter(),
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

/// A transit role.
pub const ROLE: Resource = Resource {
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

/// An entry of the audit log.
pub const AUDIT: Resource = Resource {
    noun: "audit",
    a: "an entry of the audit log",
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
