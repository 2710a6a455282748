//! What several projects or rules use together: address groups, address scopes, and who may use what.

use super::{DESCRIPTION, NAME, PLAIN, PROJECT};
use crate::command::resource::Kind::{Integer, OneOf, Projects, RefOf, Switch, Text};
use crate::command::resource::{Opt, Resource, Verb};

/// An address group.
pub const ADDRESS_GROUP: Resource = Resource {
    noun: "address-group",
    a: "an address group: ranges with a name, for rules",
    member: "address_group",
    members: "address_groups",
    path: "/v2.0/address-groups",
    columns: &["id", "name", "addresses"],
    long: &["project_id", "shared", "description"],
    options: &[
        NAME.positional().required(),
        DESCRIPTION,
        PROJECT,
        Opt::new("address", "addresses", Text, "Address or range, such as 192.0.2.0/24")
            .many_by("add_addresses", "remove_addresses"),
    ],
    verbs: &[
        Verb::List("--long"),
        Verb::Show("offices"),
        Verb::Create("offices --address 192.0.2.0/24 --address 198.51.100.7/32"),
        Verb::Set("offices --address 203.0.113.0/24"),
        Verb::Unset("offices --address 192.0.2.0/24"),
        Verb::Delete("offices"),
    ],
    ..PLAIN
};

/// An address scope.
pub const ADDRESS_SCOPE: Resource = Resource {
    noun: "address-scope",
    a: "an address scope: in it ranges of subnet pools are unique",
    member: "address_scope",
    members: "address_scopes",
    path: "/v2.0/address-scopes",
    columns: &["id", "name", "ip_version", "shared"],
    long: &["project_id"],
    options: &[
        NAME.positional().required(),
        PROJECT,
        Opt::new("ip-version", "ip_version", Integer, "4 or 6").fixed().default("4").filter(),
        Opt::new("shared", "shared", Switch("share", "no-share"), "Let every project use it (administrators)"),
    ],
    verbs: &[
        Verb::List("--long"),
        Verb::Show("inside"),
        Verb::Create("inside --ip-version 4"),
        Verb::Set("inside --name within"),
        Verb::Delete("inside"),
    ],
    ..PLAIN
};

/// What can be shared, and what it is to the command line.
const SHARABLE: &[(&str, &str)] = &[
    ("address_group", "address-group"),
    ("address_scope", "address-scope"),
    ("network", "network"),
    ("qos_policy", "qos-policy"),
    ("security_group", "security-group"),
    ("subnetpool", "subnet-pool"),
];
const TYPES: [&str; SHARABLE.len()] = {
    let (mut types, mut at) = ([""; SHARABLE.len()], 0);
    while at < types.len() {
        types[at] = SHARABLE[at].0;
        at += 1;
    }
    types
};

/// Whom an object is shared with.
pub const RBAC_POLICY: Resource = Resource {
    noun: "rbac-policy",
    a: "an RBAC policy: a project may use an object of another",
    member: "rbac_policy",
    members: "rbac_policies",
    path: "/v2.0/rbac-policies",
    key: None,
    columns: &["id", "object_type", "object_id", "action", "target_tenant"],
    long: &["project_id"],
    options: &[
        Opt::new("type", "object_type", OneOf(&TYPES), "What the object is").fixed().required().filter(),
        Opt::new("object", "object_id", RefOf("type", SHARABLE), "Object that is shared, by name or id")
            .fixed()
            .required()
            .filter(),
        Opt::new("action", "action", OneOf(&["access_as_shared", "access_as_external"]), "What may be done with it")
            .fixed()
            .default("access_as_shared")
            .filter(),
        Opt::new(
            "target",
            "target_tenant",
            Projects,
            "Project that may, by name or id, or `*` for all (administrators)",
        )
        .required()
        .filter(),
        PROJECT,
    ],
    verbs: &[
        Verb::List("--type network"),
        Verb::Show("6d2d1d4f-0c5c-4f2e-9d0b-0c7c5d1e3f60"),
        Verb::Create("--type network --object web --target 0c7c5d1e3f604d2e8f6b2d1d4f0c5c4f"),
        Verb::Set("6d2d1d4f-0c5c-4f2e-9d0b-0c7c5d1e3f60 --target '*'"),
        Verb::Delete("6d2d1d4f-0c5c-4f2e-9d0b-0c7c5d1e3f60"),
    ],
    ..PLAIN
};
