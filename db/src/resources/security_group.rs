//! Security groups as other objects meet them: the default group of a project, the rules that a new
//! group starts with, the groups of ports.
//!
//! A project's default group is made when somebody first needs it: a port, a list, another group.
//! A unique index makes it one; who comes second waits for the first one's commit and finds it.

use super::port::Port;
use super::{Failure, violated};
use crate::ledger::{Event, Ledger};
use crate::schema::port_security_groups;
use crate::statement::statement;
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Nullable, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use mizar_domain::id::SecurityGroupId;
use mizar_domain::port::PortError;
use serde_json::json;
use std::collections::BTreeSet;
use uuid::Uuid;

/// Object type of audit events and policies, and name of the quota.
pub const SECURITY_GROUP: &str = "security_group";

/// The same of rules.
pub const SECURITY_GROUP_RULE: &str = "security_group_rule";

/// As Neutron names it.
pub const DEFAULT_NAME: &str = "default";

statement! {
    /// The default groups of projects that have none.
    InsertDefaults { ids: Vec<Uuid> as Array<SqlUuid>, projects: Vec<Uuid> as Array<SqlUuid> } -> (SqlUuid, SqlUuid)
    {
        "INSERT INTO security_groups (id, project_id, name, description, stateful, is_default) \
         SELECT n.id, n.project, 'default', 'Default security group', true, true FROM unnest("
        ids ", " projects
        ") n (id, project) ON CONFLICT (project_id) WHERE is_default DO NOTHING RETURNING id, project_id"
    }
}

statement! {
    /// The rules that new groups start with; how many each project got.
    InsertTemplates { groups: Vec<Uuid> as Array<SqlUuid> } -> (SqlUuid, BigInt)
    {
        "WITH made AS (INSERT INTO security_group_rules (id, project_id, security_group_id, belongs_to_default_sg, \
         description, direction, ethertype, protocol, protocol_number, port_range_min, port_range_max, \
         remote_ip_prefix, normalized_cidr, remote_group_id, remote_address_group_id) \
         SELECT gen_random_uuid(), g.project_id, g.id, g.is_default, t.description, t.direction, t.ethertype, \
         t.protocol, t.protocol_number, t.port_range_min, t.port_range_max, t.remote_ip_prefix, t.normalized_cidr, \
         CASE WHEN t.remote_parent THEN g.id ELSE t.remote_group_id END, t.remote_address_group_id \
         FROM security_groups g CROSS JOIN default_security_group_rules t WHERE g.id = ANY ("
        groups
        ") AND CASE WHEN g.is_default THEN t.used_in_default_sg ELSE t.used_in_non_default_sg END \
         RETURNING project_id) SELECT project_id, count(*) FROM made GROUP BY project_id"
    }
}

statement! {
    /// Gives ports their groups: those that are named, if the port's project sees them, and the
    /// project's default group where none is named.
    InsertGroups {
        ports: Vec<Uuid> as Array<SqlUuid>, projects: Vec<Uuid> as Array<SqlUuid>,
        named: Vec<Option<Uuid>> as Array<Nullable<SqlUuid>>,
    } -> (SqlUuid, SqlUuid)
    {
        "WITH wanted AS (SELECT * FROM unnest("
        ports ", " projects ", " named
        ") w (port, project, named)) \
         INSERT INTO port_security_groups (port_id, security_group_id) \
         SELECT w.port, g.id FROM wanted w JOIN security_groups g ON g.id = w.named \
         WHERE g.project_id = w.project OR EXISTS (SELECT FROM rbac_policies shares \
         WHERE shares.object_type = 'security_group' AND shares.object_id = g.id \
         AND (shares.target_project IS NULL OR shares.target_project = w.project)) \
         UNION ALL SELECT w.port, g.id FROM wanted w JOIN security_groups g ON g.project_id = w.project \
         AND g.is_default WHERE w.named IS NULL \
         RETURNING port_id, security_group_id"
    }
}

statement! {
    /// Keeps groups from being deleted, and from being taken away from those they are shared with.
    LockGroups { groups: Vec<Uuid> as Array<SqlUuid> } -> SqlUuid
    { "SELECT id FROM security_groups WHERE id = ANY (" groups ") ORDER BY id FOR KEY SHARE" }
}

/// Makes the default groups of projects that have none.
pub async fn ensure_defaults(
    conn: &mut AsyncPgConnection,
    ledger: &mut Ledger,
    projects: &BTreeSet<Uuid>,
) -> QueryResult<()> {
    let projects: Vec<Uuid> = projects.iter().copied().collect();
    let ids = projects.iter().map(|_| Uuid::new_v4()).collect();
    let made: Vec<(Uuid, Uuid)> = InsertDefaults { ids, projects }.load(conn).await?;
    if made.is_empty() {
        return Ok(());
    }
    for (id, project) in &made {
        let (project, changes) = (*project, json!({"name": DEFAULT_NAME}));
        ledger.count(project, SECURITY_GROUP, 1);
        ledger.record(Event {
            action: "create",
            object_type: SECURITY_GROUP,
            object_id: *id,
            project: Some(project),
            changes,
        });
    }
    add_templates(conn, ledger, made.into_iter().map(|(id, _)| id).collect()).await
}

/// Gives new groups the rules that they start with.
pub async fn add_templates(conn: &mut AsyncPgConnection, ledger: &mut Ledger, groups: Vec<Uuid>) -> QueryResult<()> {
    let counts: Vec<(Uuid, i64)> = InsertTemplates { groups }.load(conn).await?;
    for (project, count) in counts {
        ledger.count(project, SECURITY_GROUP_RULE, count);
    }
    Ok(())
}

/// What groups a new port joins.
#[derive(Clone, Copy, Debug)]
pub struct Joining<'a> {
    /// The port.
    pub port: Uuid,
    /// Its project.
    pub project: Uuid,
    /// `None`: the default group.
    pub groups: Option<&'a [SecurityGroupId]>,
}

/// One port and one group; `None`: the default group.
#[derive(Clone, Copy)]
struct Wish {
    port: Uuid,
    project: Uuid,
    named: Option<Uuid>,
}

/// Puts new ports into their groups; returns ports with groups.
pub(super) async fn join_groups(
    conn: &mut AsyncPgConnection,
    ledger: &mut Ledger,
    joining: &[Joining<'_>],
) -> Result<Vec<(Uuid, Uuid)>, Failure> {
    let wish = |joining: &Joining<'_>, named| Wish { port: joining.port, project: joining.project, named };
    let named = joining.iter().flat_map(|joining| {
        joining.groups.unwrap_or_default().iter().map(move |group| wish(joining, Some(group.uuid())))
    });
    let (named, default): (Vec<Wish>, Vec<Wish>) =
        (named.collect(), joining.iter().filter(|joining| joining.groups.is_none()).map(|j| wish(j, None)).collect());
    let mut done = insert(conn, &[named.as_slice(), default.as_slice()].concat()).await?;
    check_named(&named, &done)?;
    let served: BTreeSet<Uuid> = done.iter().map(|(port, _)| *port).collect();
    let left: Vec<Wish> = default.into_iter().filter(|wish| !served.contains(&wish.port)).collect();
    if !left.is_empty() {
        ensure_defaults(conn, ledger, &left.iter().map(|wish| wish.project).collect()).await?;
        let more = insert(conn, &left).await?;
        if more.len() != left.len() {
            // Somebody deletes default groups as fast as they are made.
            return Err(Failure::Contended);
        }
        done.extend(more);
    }
    Ok(done)
}

/// Replaces the groups of a port; returns them in order.
pub(super) async fn exchange(
    conn: &mut AsyncPgConnection,
    held: &Port,
    groups: &[SecurityGroupId],
) -> Result<Vec<Uuid>, Failure> {
    let wanted: BTreeSet<Uuid> = groups.iter().map(|group| group.uuid()).collect();
    let gone: Vec<Uuid> = held.security_groups.iter().filter(|group| !wanted.contains(group)).copied().collect();
    if !gone.is_empty() {
        let of_port = port_security_groups::table.filter(port_security_groups::port_id.eq(held.row.id));
        diesel::delete(of_port.filter(port_security_groups::security_group_id.eq_any(gone))).execute(conn).await?;
    }
    let new = wanted.iter().filter(|group| !held.security_groups.contains(group));
    let new: Vec<Wish> =
        new.map(|group| Wish { port: held.row.id, project: held.row.project_id, named: Some(*group) }).collect();
    let done = insert(conn, &new).await?;
    check_named(&new, &done)?;
    Ok(wanted.into_iter().collect())
}

async fn insert(conn: &mut AsyncPgConnection, wishes: &[Wish]) -> Result<Vec<(Uuid, Uuid)>, Failure> {
    if wishes.is_empty() {
        return Ok(Vec::new());
    }
    let groups: Vec<Uuid> = wishes.iter().filter_map(|wish| wish.named).collect();
    if !groups.is_empty() {
        let _there: Vec<Uuid> = LockGroups { groups }.load(conn).await?;
    }
    let statement = InsertGroups {
        ports: wishes.iter().map(|wish| wish.port).collect(),
        projects: wishes.iter().map(|wish| wish.project).collect(),
        named: wishes.iter().map(|wish| wish.named).collect(),
    };
    statement.load(conn).await.map_err(|error| match violated(&error) {
        // An administrator deleted the default group at this moment.
        Some("port_security_groups_security_group_id_fkey") => Failure::Contended,
        _ => error.into(),
    })
}

fn check_named(wishes: &[Wish], done: &[(Uuid, Uuid)]) -> Result<(), Failure> {
    let done: BTreeSet<(Uuid, Uuid)> = done.iter().copied().collect();
    let missing = wishes.iter().filter_map(|wish| Some((wish.port, wish.named?))).find(|pair| !done.contains(pair));
    match missing {
        Some((_, group)) => Err(PortError::NoSuchGroup(group.into()).into()),
        None => Ok(()),
    }
}
