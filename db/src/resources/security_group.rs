//! Security groups as other objects meet them: the default group of a project, the rules that a new
//! group starts with, the groups of ports.
//!
//! A project's default group is made when somebody first needs it: a port, a list, another group.
//! A unique index makes it one; who comes second waits for the first one's commit and finds it.

use super::port::Port;
use super::{Failure, group_set, policy};
use crate::ledger::{Event, Ledger};
use crate::schema::port_security_groups;
use crate::statement::statement;
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Integer, Nullable, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use mizar_domain::id::SecurityGroupId;
use mizar_domain::port::PortError;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
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
    /// Of named groups those that the port's project sees.
    VisibleGroups {
        places: Vec<i32> as Array<Integer>, projects: Vec<Uuid> as Array<SqlUuid>, named: Vec<Uuid> as Array<SqlUuid>,
    } -> (Integer, SqlUuid)
    {
        "SELECT w.place, g.id FROM unnest("
        places ", " projects ", " named
        ") w (place, project, named) JOIN security_groups g ON g.id = w.named \
         WHERE g.project_id = w.project OR EXISTS (SELECT FROM rbac_policies shares \
         WHERE shares.object_type = 'security_group' AND shares.object_id = g.id \
         AND (shares.target_project IS NULL OR shares.target_project = w.project))"
    }
}

statement! {
    /// The default groups of projects, kept from being deleted.
    DefaultGroups { projects: Vec<Uuid> as Array<SqlUuid> } -> (SqlUuid, SqlUuid, Integer)
    {
        "SELECT project_id, id, number FROM security_groups WHERE is_default AND project_id = ANY((SELECT " projects
        ")::uuid[]) ORDER BY id FOR KEY SHARE"
    }
}

statement! {
    /// The same, with the numbers of the sets of one group that are these groups; those that are used already. They are
    /// kept from being forgotten.
    DefaultGroupsAndSets { projects: Vec<Uuid> as Array<SqlUuid> }
        -> (SqlUuid, SqlUuid, Integer, Nullable<Integer>)
    {
        "WITH g AS MATERIALIZED (SELECT project_id, id, number FROM security_groups WHERE is_default \
         AND project_id = ANY((SELECT " projects ")::uuid[]) ORDER BY id FOR KEY SHARE), \
         s AS MATERIALIZED (SELECT g.number AS of_group, s.number FROM g JOIN group_sets s ON s.groups = ARRAY[g.number] \
         WHERE s.unused_since IS NULL ORDER BY s.number FOR KEY SHARE OF s) \
         SELECT g.project_id, g.id, g.number, s.number FROM g LEFT JOIN s ON s.of_group = g.number"
    }
}

statement! {
    JoinGroups { ports: Vec<Uuid> as Array<SqlUuid>, groups: Vec<Uuid> as Array<SqlUuid> } -> SqlUuid
    {
        "INSERT INTO port_security_groups (port_id, security_group_id) SELECT * FROM unnest(" ports ", " groups ")"
    }
}

statement! {
    /// Keeps groups from being deleted, and from being taken away from those they are shared with;
    /// also keeps the janitor from removing what includes them.
    LockGroups { groups: Vec<Uuid> as Array<SqlUuid> } -> (SqlUuid, Integer)
    { "SELECT id, number FROM security_groups WHERE id = ANY (" groups ") ORDER BY id FOR KEY SHARE" }
}

/// Makes the default groups of projects that have none.
pub async fn ensure_defaults(
    conn: &mut AsyncPgConnection,
    ledger: &mut Ledger,
    projects: &BTreeSet<Uuid>,
) -> Result<(), Failure> {
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
pub async fn add_templates(
    conn: &mut AsyncPgConnection,
    ledger: &mut Ledger,
    groups: Vec<Uuid>,
) -> Result<(), Failure> {
    let counts: Vec<(Uuid, i64)> = InsertTemplates { groups: groups.clone() }.load(conn).await?;
    for (project, count) in counts {
        ledger.count(project, SECURITY_GROUP_RULE, count);
    }
    policy::publish(conn, &groups).await
}

/// What groups a new port joins.
#[derive(Clone, Copy, Debug)]
pub(super) struct Joining<'a> {
    /// Its project.
    pub project: Uuid,
    /// `None`: the default group.
    pub groups: Option<&'a [SecurityGroupId]>,
    /// Whether its packets are filtered.
    pub filtered: bool,
    /// The number of its labels.
    pub labels: Option<i32>,
}

/// The groups of a port.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Chosen {
    /// Ids and numbers.
    pub groups: BTreeMap<Uuid, i32>,
    /// The number of its labels.
    labels: Option<i32>,
    /// The number of the combination; none where packets are not filtered.
    pub set: Option<i32>,
}

impl Chosen {
    /// The ids, in order.
    pub fn ids(&self) -> Vec<Uuid> {
        self.groups.keys().copied().collect()
    }

    fn parts(&self) -> Vec<i32> {
        group_set::parts(self.labels, self.groups.values().copied())
    }

    /// The numbers, in order.
    pub fn numbers(&self) -> Vec<i32> {
        let mut numbers: Vec<i32> = self.groups.values().copied().collect();
        numbers.sort_unstable();
        numbers
    }
}

/// What is there of default groups already; all of it stays until the transaction ends.
#[derive(Debug)]
pub(super) struct Defaults {
    groups: BTreeMap<Uuid, (Uuid, i32)>,
    sets: group_set::Numbers,
}

/// Reads the default groups of projects, beside other statements: what most ports have is one of them and no other.
pub(super) async fn defaults(mut conn: &AsyncPgConnection, projects: &BTreeSet<Uuid>) -> QueryResult<Defaults> {
    let mut defaults = Defaults { groups: BTreeMap::new(), sets: group_set::Numbers::new() };
    if projects.is_empty() {
        return Ok(defaults);
    }
    let statement = DefaultGroupsAndSets { projects: projects.iter().copied().collect() };
    let rows: Vec<(Uuid, Uuid, i32, Option<i32>)> = statement.load(&mut conn).await?;
    for (project, id, number, set) in rows {
        defaults.groups.insert(project, (id, number));
        defaults.sets.extend(set.map(|set| (vec![number], set)));
    }
    Ok(defaults)
}

/// Finds the groups of new ports, in their order, and keeps them; makes default groups and
/// combinations that are not there yet.
pub(super) async fn choose(
    conn: &mut AsyncPgConnection,
    ledger: &mut Ledger,
    joining: &[Joining<'_>],
    known: Defaults,
) -> Result<Vec<Chosen>, Failure> {
    let named: Vec<(Uuid, &[SecurityGroupId])> =
        joining.iter().map(|joining| (joining.project, joining.groups.unwrap_or_default())).collect();
    let numbers = named_groups(conn, &named).await?;
    let number = |id: &Uuid| numbers.get(id).map(|number| (*id, *number));
    let wanting: BTreeSet<Uuid> = joining.iter().filter(|j| j.groups.is_none()).map(|j| j.project).collect();
    let defaults = default_groups(conn, ledger, &wanting, known.groups).await?;
    let mut chosen = Vec::with_capacity(joining.len());
    for joining in joining {
        let groups = match joining.groups {
            Some(named) => named.iter().filter_map(|group| number(&group.uuid())).collect(),
            None => defaults.get(&joining.project).copied().into_iter().collect(),
        };
        chosen.push(Chosen { groups, labels: joining.labels, set: None });
    }
    let filtered: Vec<&mut Chosen> =
        chosen.iter_mut().zip(joining).filter(|(_, joining)| joining.filtered).map(|(chosen, _)| chosen).collect();
    number_sets(conn, filtered, known.sets).await?;
    Ok(chosen)
}

async fn number_sets(
    conn: &mut AsyncPgConnection,
    chosen: Vec<&mut Chosen>,
    known: group_set::Numbers,
) -> Result<(), Failure> {
    let wanted = chosen.iter().map(|chosen| chosen.parts()).collect();
    let sets = group_set::numbers(conn, wanted, known).await?;
    for chosen in chosen {
        chosen.set = Some(sets.get(&chosen.parts()).copied().ok_or(Failure::Contended)?);
    }
    Ok(())
}

/// Keeps the groups that projects name, if these see them all; returns their numbers.
async fn named_groups(
    conn: &mut AsyncPgConnection,
    named: &[(Uuid, &[SecurityGroupId])],
) -> Result<BTreeMap<Uuid, i32>, Failure> {
    let wishes: Vec<(i32, Uuid, Uuid)> = (0..)
        .zip(named)
        .flat_map(|(place, (project, groups))| groups.iter().map(move |group| (place, *project, group.uuid())))
        .collect();
    if wishes.is_empty() {
        return Ok(BTreeMap::new());
    }
    let statement = VisibleGroups {
        places: wishes.iter().map(|(place, ..)| *place).collect(),
        projects: wishes.iter().map(|(_, project, _)| *project).collect(),
        named: wishes.iter().map(|(.., group)| *group).collect(),
    };
    // Locked in one statement, judged in the next: what was taken away meanwhile is seen.
    let (numbers, visible) = {
        let mut conn = &*conn;
        let wanted = wishes.iter().map(|(.., group)| *group).collect();
        futures::try_join!(lock(conn, wanted), statement.load::<(i32, Uuid)>(&mut conn))?
    };
    let visible: BTreeSet<(i32, Uuid)> = visible.into_iter().collect();
    match wishes.iter().find(|(place, _, group)| !visible.contains(&(*place, *group))) {
        Some((.., group)) => Err(PortError::NoSuchGroup((*group).into()).into()),
        None => Ok(numbers),
    }
}

async fn default_groups(
    conn: &mut AsyncPgConnection,
    ledger: &mut Ledger,
    projects: &BTreeSet<Uuid>,
    mut found: BTreeMap<Uuid, (Uuid, i32)>,
) -> Result<BTreeMap<Uuid, (Uuid, i32)>, Failure> {
    let left: BTreeSet<Uuid> = projects.iter().filter(|project| !found.contains_key(*project)).copied().collect();
    if !left.is_empty() {
        ensure_defaults(conn, ledger, &left).await?;
        found.extend(found_defaults(conn, &left).await?);
    }
    // Otherwise somebody deletes default groups as fast as they are made.
    if projects.iter().all(|project| found.contains_key(project)) { Ok(found) } else { Err(Failure::Contended) }
}

async fn found_defaults(
    mut conn: &AsyncPgConnection,
    projects: &BTreeSet<Uuid>,
) -> QueryResult<BTreeMap<Uuid, (Uuid, i32)>> {
    if projects.is_empty() {
        return Ok(BTreeMap::new());
    }
    let statement = DefaultGroups { projects: projects.iter().copied().collect() };
    let rows: Vec<(Uuid, Uuid, i32)> = statement.load(&mut conn).await?;
    Ok(rows.into_iter().map(|(project, id, number)| (project, (id, number))).collect())
}

/// Keeps groups until the transaction ends; returns the numbers of those that are there.
pub(super) async fn lock(mut conn: &AsyncPgConnection, groups: Vec<Uuid>) -> QueryResult<BTreeMap<Uuid, i32>> {
    if groups.is_empty() {
        return Ok(BTreeMap::new());
    }
    let rows: Vec<(Uuid, i32)> = LockGroups { groups }.load(&mut conn).await?;
    Ok(rows.into_iter().collect())
}

/// Puts ports into groups that are kept: port, group, number of the group.
pub(super) async fn join(mut conn: &AsyncPgConnection, memberships: &[(Uuid, Uuid, i32)]) -> QueryResult<()> {
    if !memberships.is_empty() {
        let (ports, groups) = memberships.iter().map(|(port, group, _)| (*port, *group)).unzip();
        JoinGroups { ports, groups }.execute(&mut conn).await?;
    }
    Ok(())
}

/// Replaces the groups of a port, if others are asked for, and finds its combination. What the
/// port has it may keep, seen or not.
pub(super) async fn exchange(
    conn: &mut AsyncPgConnection,
    held: &Port,
    wanted: Option<&[SecurityGroupId]>,
    filtered: bool,
    labels: Option<i32>,
) -> Result<Chosen, Failure> {
    let wanted: BTreeSet<Uuid> = match wanted {
        Some(groups) => groups.iter().map(|group| group.uuid()).collect(),
        None => held.security_groups.iter().copied().collect(),
    };
    let mut numbers = lock(conn, wanted.iter().copied().collect()).await?;
    let new: Vec<SecurityGroupId> =
        wanted.iter().filter(|group| !held.security_groups.contains(group)).map(|group| (*group).into()).collect();
    numbers.extend(named_groups(conn, &[(held.row.project_id, &new)]).await?);
    let gone: Vec<Uuid> = held.security_groups.iter().filter(|group| !wanted.contains(group)).copied().collect();
    if !gone.is_empty() {
        let of_port = port_security_groups::table.filter(port_security_groups::port_id.eq(held.row.id));
        diesel::delete(of_port.filter(port_security_groups::security_group_id.eq_any(gone))).execute(conn).await?;
    }
    let new: Vec<_> = new.iter().map(|group| (held.row.id, group.uuid(), 0)).collect();
    join(conn, &new).await?;
    let mut chosen = Chosen { groups: numbers, labels, set: None };
    if filtered {
        number_sets(conn, vec![&mut chosen], group_set::Numbers::new()).await?;
    }
    Ok(chosen)
}
