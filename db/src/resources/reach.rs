//! What decides about the packets of ports, read at once: for those who analyse policy.

use super::port::{self, Port, PortRow};
use super::{Failure, label_policy, policy};
use crate::listing::Visibility;
use crate::schema::{address_groups, label_projects, ports, security_groups};
use crate::statement::statement;
use diesel::prelude::*;
use diesel::sql_types::{Array, Bool, Integer, Jsonb, Nullable, Text, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use mizar_domain::model::GroupSet;
use mizar_domain::policy::Remote;
use mizar_domain::policy::reach::Known;
use serde_json::Value;
use std::collections::BTreeSet;
use uuid::Uuid;

/// A rule of one of a port's security groups, with the names that the caller may know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleOfPort {
    /// Its id.
    pub id: Uuid,
    /// Its group.
    pub group: Uuid,
    /// Its group's name.
    pub group_name: String,
    /// What it says.
    pub says: Says,
}

/// What a rule says, as tenants wrote it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Says {
    /// `ingress`, `egress`.
    pub direction: String,
    /// `IPv4`, `IPv6`.
    pub ethertype: String,
    /// By number, so that the same traffic is the same.
    pub protocol: Option<i16>,
    /// First port, or type.
    pub low: Option<i32>,
    /// Last port, or code.
    pub high: Option<i32>,
    /// Without host bits.
    pub prefix: Option<String>,
    /// The security group of the other side.
    pub group: Option<Uuid>,
    /// Its name, where the caller may see it.
    pub group_name: Option<String>,
    /// The address group of the other side.
    pub addresses: Option<Uuid>,
}

type RuleColumns = (
    (Uuid, Uuid, String, String, String),
    (Option<i16>, Option<i32>, Option<i32>, Option<String>),
    (Option<Uuid>, Option<String>, Option<Uuid>),
);

statement! {
    /// Who has no project here sees everything.
    RulesOfPort { port: Uuid as SqlUuid, own: Option<Uuid> as Nullable<SqlUuid> } -> (
        (SqlUuid, SqlUuid, Text, Text, Text),
        (Nullable<diesel::sql_types::SmallInt>, Nullable<Integer>, Nullable<Integer>, Nullable<Text>),
        (Nullable<SqlUuid>, Nullable<Text>, Nullable<SqlUuid>),
    )
    {
        "WITH caller AS (SELECT " own " AS project), \
         seen AS NOT MATERIALIZED (SELECT g.id, g.name FROM security_groups g, caller c WHERE c.project IS NULL OR g.project_id = c.project \
         OR EXISTS (SELECT FROM rbac_policies shares WHERE shares.object_type = 'security_group' \
         AND shares.object_id = g.id AND (shares.target_project IS NULL OR shares.target_project = c.project))) \
         SELECT r.id, g.id, g.name, r.direction, r.ethertype, r.protocol_number, r.port_range_min, r.port_range_max, \
         nullif(nullif(r.normalized_cidr, '0.0.0.0/0'), '::/0')::text, r.remote_group_id, o.name, \
         r.remote_address_group_id FROM port_security_groups p JOIN seen g ON g.id = p.security_group_id \
         JOIN security_group_rules r ON r.security_group_id = g.id LEFT JOIN seen o ON o.id = r.remote_group_id \
         WHERE p.port_id = " port " ORDER BY g.name, g.id, r.id"
    }
}

statement! {
    HiddenGroups { port: Uuid as SqlUuid, own: Option<Uuid> as Nullable<SqlUuid> } -> Bool
    {
        "WITH caller AS (SELECT " own " AS project) \
         SELECT TRUE FROM port_security_groups p JOIN security_groups g ON g.id = p.security_group_id, caller c \
         WHERE p.port_id = " port " AND c.project IS NOT NULL AND g.project_id <> c.project \
         AND NOT EXISTS (SELECT FROM rbac_policies shares WHERE shares.object_type = 'security_group' \
         AND shares.object_id = g.id AND (shares.target_project IS NULL OR shares.target_project = c.project))"
    }
}

const fn project(view: Visibility) -> Option<Uuid> {
    match view {
        Visibility::All => None,
        Visibility::Project(project) => Some(project),
        Visibility::Nothing => Some(Uuid::nil()),
    }
}

/// The rules of those groups of a port that the caller sees, and how many of its groups he does not.
pub async fn rules_of(
    conn: &mut AsyncPgConnection,
    port: Uuid,
    view: Visibility,
) -> QueryResult<(Vec<RuleOfPort>, usize)> {
    let own = project(view);
    let rows: Vec<RuleColumns> = RulesOfPort { port, own }.load(conn).await?;
    let hidden: Vec<bool> = HiddenGroups { port, own }.load(conn).await?;
    let rule = |columns: RuleColumns| {
        let ((id, of, of_name, direction, ethertype), (protocol, low, high, prefix), other) = columns;
        let (group, group_name, addresses) = other;
        let says = Says { direction, ethertype, protocol, low, high, prefix, group, group_name, addresses };
        RuleOfPort { id, group: of, group_name: of_name, says }
    };
    Ok((rows.into_iter().map(rule).collect(), hidden.len()))
}

statement! {
    PoliciesOf { project: Uuid as SqlUuid, namespace: String as Text } -> (SqlUuid, Text, Jsonb)
    {
        "SELECT id, name, manifest FROM label_policies WHERE project_id = " project " AND namespace = " namespace
        " ORDER BY name"
    }
}

/// The label policies of a namespace of a project: id, name and manifest.
pub async fn policies_of(
    conn: &mut AsyncPgConnection,
    project: Uuid,
    namespace: &str,
) -> QueryResult<Vec<(Uuid, String, Value)>> {
    PoliciesOf { project, namespace: namespace.to_owned() }.load(conn).await
}

/// Ports of a network, only those of a project if one is named, in the order of their ids.
pub async fn members(
    conn: &mut AsyncPgConnection,
    network: Uuid,
    view: Visibility,
    after: Option<Uuid>,
    limit: i64,
) -> QueryResult<Vec<Port>> {
    let mut rows = ports::table.select(PortRow::as_select()).filter(ports::network_id.eq(network)).into_boxed();
    if let Some(project) = project(view) {
        rows = rows.filter(ports::project_id.eq(project));
    }
    if let Some(after) = after {
        rows = rows.filter(ports::id.gt(after));
    }
    let rows: Vec<PortRow> = rows.order(ports::id).limit(limit).load(conn).await?;
    port::complete(conn, rows).await
}

statement! {
    PoliciesOfProjects { projects: Vec<Uuid> as Array<SqlUuid> } -> SqlUuid
    { "SELECT id FROM label_policies WHERE project_id = ANY(" projects ") ORDER BY id" }
}

statement! {
    SeenAddressGroups { numbers: Vec<i32> as Array<Integer>, own: Option<Uuid> as Nullable<SqlUuid> } -> Integer
    {
        "WITH caller AS (SELECT " own " AS project) SELECT a.number FROM address_groups a, caller c \
         WHERE a.number = ANY(" numbers ") AND (c.project IS NULL OR a.project_id = c.project \
         OR EXISTS (SELECT FROM rbac_policies shares WHERE shares.object_type = 'address_group' \
         AND shares.object_id = a.id AND (shares.target_project IS NULL OR shares.target_project = c.project)))"
    }
}

/// All that decides about ports with these sets. Address groups that the caller does not see decide too, and
/// are not told.
pub async fn known<'s>(
    conn: &mut AsyncPgConnection,
    view: Visibility,
    sets: impl IntoIterator<Item = &'s GroupSet>,
) -> Result<Known, Failure> {
    let (mut groups, mut projects) = (BTreeSet::new(), BTreeSet::new());
    for set in sets {
        groups.extend(set.groups.iter().map(|group| group.cast_signed()));
        projects.extend(set.labels.iter().map(|own| own.project.cast_signed()));
    }
    let mut known = Known::default();
    let groups: Vec<Uuid> = security_groups::table
        .filter(security_groups::number.eq_any(groups))
        .select(security_groups::id)
        .load(conn)
        .await?;
    let mut addresses = BTreeSet::new();
    for group in policy::read(conn, &groups).await? {
        addresses.extend(group.rules.iter().filter_map(|rule| match rule.remote {
            Remote::AddressGroup(number) => Some(number.cast_signed()),
            Remote::Any | Remote::Prefix(_) | Remote::Group(_) => None,
        }));
        known.group(group.number, group.rules);
    }
    if !addresses.is_empty() {
        let numbers: Vec<i32> = addresses.iter().copied().collect();
        let seen: Vec<i32> = SeenAddressGroups { numbers, own: project(view) }.load(conn).await?;
        let seen: BTreeSet<u32> = seen.into_iter().map(i32::cast_unsigned).collect();
        let addresses: Vec<Uuid> = address_groups::table
            .filter(address_groups::number.eq_any(addresses))
            .select(address_groups::id)
            .load(conn)
            .await?;
        for (_, group) in policy::read_addresses(conn, addresses).await? {
            known.addresses(group.number, &group.addresses, seen.contains(&group.number));
        }
    }
    if !projects.is_empty() {
        let projects: Vec<Uuid> = label_projects::table
            .filter(label_projects::number.eq_any(projects))
            .select(label_projects::id)
            .load(conn)
            .await?;
        let policies: Vec<Uuid> = PoliciesOfProjects { projects }.load(conn).await?;
        for own in label_policy::read(conn, policies).await? {
            known.policy(own.project, own.policy);
        }
    }
    Ok(known)
}
