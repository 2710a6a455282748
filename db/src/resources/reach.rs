//! What decides about the packets of ports, read at once: for those who analyse policy.

use super::port::{self, Port, PortRow};
use super::security_group::SECURITY_GROUP;
use super::{Failure, ObjectKind, label_policy, policy};
use crate::listing::Visibility;
use crate::schema::{address_groups, label_projects, port_security_groups, ports, security_groups};
use crate::sharing::seen_by;
use crate::statement::statement;
use diesel::prelude::*;
use diesel::sql_types::{Array, Integer, Jsonb, Nullable, Text, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use mizar_domain::model::GroupSet;
use mizar_domain::policy::Remote;
use mizar_domain::policy::reach::Known;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

/// What policies of sharing call an address group.
const ADDRESS_GROUP: &str = "address_group";

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
    (Uuid, Uuid, String, String),
    (Option<i16>, Option<i32>, Option<i32>, Option<String>),
    (Option<Uuid>, Option<Uuid>),
);

statement! {
    RulesOfGroups { groups: Vec<Uuid> as Array<SqlUuid> } -> (
        (SqlUuid, SqlUuid, Text, Text),
        (Nullable<diesel::sql_types::SmallInt>, Nullable<Integer>, Nullable<Integer>, Nullable<Text>),
        (Nullable<SqlUuid>, Nullable<SqlUuid>),
    )
    {
        "SELECT r.id, r.security_group_id, r.direction, r.ethertype, r.protocol_number, r.port_range_min, \
         r.port_range_max, nullif(nullif(r.normalized_cidr, '0.0.0.0/0'), '::/0')::text, r.remote_group_id, \
         r.remote_address_group_id FROM security_group_rules r WHERE r.security_group_id = ANY(" groups ")"
    }
}

/// Those of these security groups that the caller sees, and their names.
async fn seen_groups(
    conn: &mut AsyncPgConnection,
    view: Visibility,
    ids: impl IntoIterator<Item = Uuid>,
) -> QueryResult<BTreeMap<Uuid, String>> {
    let ids: BTreeSet<Uuid> = ids.into_iter().collect();
    let these = security_groups::table.filter(security_groups::id.eq_any(ids));
    let these = these.select((security_groups::id, security_groups::name)).into_boxed();
    let seen: Vec<(Uuid, String)> = match view {
        Visibility::All => these.load(conn).await?,
        Visibility::Project(project) => {
            let seen = seen_by("security_groups", "security_groups.id", SECURITY_GROUP, project);
            these.filter(seen).load(conn).await?
        }
        Visibility::Nothing => Vec::new(),
    };
    Ok(seen.into_iter().collect())
}

/// The numbers of those of these address groups that the caller sees.
async fn seen_addresses(
    conn: &mut AsyncPgConnection,
    view: Visibility,
    numbers: &BTreeSet<i32>,
) -> QueryResult<BTreeSet<u32>> {
    let these = address_groups::table.filter(address_groups::number.eq_any(numbers.clone()));
    let these = these.select(address_groups::number).into_boxed();
    let seen: Vec<i32> = match view {
        Visibility::All => these.load(conn).await?,
        Visibility::Project(project) => {
            let seen = seen_by("address_groups", "address_groups.id", ADDRESS_GROUP, project);
            these.filter(seen).load(conn).await?
        }
        Visibility::Nothing => Vec::new(),
    };
    Ok(seen.into_iter().map(i32::cast_unsigned).collect())
}

/// The rules of those groups of a port that the caller sees, and how many of its groups he does not.
pub async fn rules_of(
    conn: &mut AsyncPgConnection,
    port: Uuid,
    view: Visibility,
) -> QueryResult<(Vec<RuleOfPort>, usize)> {
    let of_port = port_security_groups::table.filter(port_security_groups::port_id.eq(port));
    let groups: Vec<Uuid> = of_port.select(port_security_groups::security_group_id).load(conn).await?;
    let seen = seen_groups(conn, view, groups.iter().copied()).await?;
    let rows: Vec<RuleColumns> = RulesOfGroups { groups: seen.keys().copied().collect() }.load(conn).await?;
    let others = seen_groups(conn, view, rows.iter().filter_map(|(.., (other, _))| *other)).await?;
    let rule = |columns: RuleColumns| {
        let ((id, of, direction, ethertype), (protocol, low, high, prefix), (group, addresses)) = columns;
        let group_name = group.and_then(|group| others.get(&group).cloned());
        let says = Says { direction, ethertype, protocol, low, high, prefix, group, group_name, addresses };
        RuleOfPort { id, group: of, group_name: seen.get(&of).cloned().unwrap_or_default(), says }
    };
    let mut rules: Vec<RuleOfPort> = rows.into_iter().map(rule).collect();
    rules.sort_by(|one, two| (&one.group_name, one.group, one.id).cmp(&(&two.group_name, two.group, two.id)));
    Ok((rules, groups.len().saturating_sub(seen.len())))
}

/// Whether a port has security groups, and stateless ones alone.
pub async fn has_stateless_groups_alone(conn: &mut AsyncPgConnection, port: Uuid) -> QueryResult<bool> {
    let of_port = port_security_groups::table.filter(port_security_groups::port_id.eq(port));
    let groups = of_port.select(port_security_groups::security_group_id);
    let these = security_groups::table.filter(security_groups::id.eq_any(groups));
    let stateful: Vec<bool> = these.select(security_groups::stateful).distinct().load(conn).await?;
    Ok(stateful == [false])
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

/// The port that a list of ports goes on after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// One that the caller names.
    Named(Uuid),
    /// One that was read before, and may be gone meanwhile.
    Read {
        /// Its id.
        id: Uuid,
        /// Its MAC address.
        mac: [u8; 6],
    },
}

impl After {
    /// After this port.
    pub const fn read(port: &Port) -> Self {
        Self::Read { id: port.row.id, mac: port.row.mac }
    }

    /// Its id.
    pub const fn id(self) -> Uuid {
        match self {
            Self::Named(id) | Self::Read { id, .. } => id,
        }
    }
}

/// Ports of a network after one of them, in an order that stays: those of the caller's project, or all if he sees all.
pub async fn members(
    conn: &mut AsyncPgConnection,
    network: Uuid,
    view: Visibility,
    after: Option<After>,
    limit: i64,
) -> Result<Vec<Port>, Failure> {
    let of_network = ports::table.select(PortRow::as_select()).filter(ports::network_id.eq(network)).limit(limit);
    let rows: Vec<PortRow> = match (view, after) {
        (Visibility::Nothing, _) => Vec::new(),
        (Visibility::Project(project), after) => {
            let own = of_network.filter(ports::project_id.eq(project)).order(ports::id);
            own.filter(ports::id.gt(after.map(After::id).unwrap_or_default())).load(conn).await?
        }
        // Of all projects by the one index that begins with the network, that of its MAC addresses: another would cost
        // every port that is made.
        (Visibility::All, None) => of_network.order(ports::mac).load(conn).await?,
        (Visibility::All, Some(after)) => {
            let marker = match after {
                After::Read { mac, .. } => mac,
                After::Named(id) => {
                    let found = ports::table.find(id).select(ports::mac).first(conn).await.optional()?;
                    found.ok_or_else(|| Failure::not_found(ObjectKind::Port, id))?
                }
            };
            of_network.filter(ports::mac.gt(marker)).order(ports::mac).load(conn).await?
        }
    };
    Ok(port::complete(conn, rows).await?)
}

statement! {
    PoliciesOfProjects { projects: Vec<Uuid> as Array<SqlUuid> } -> SqlUuid
    { "SELECT id FROM label_policies WHERE project_id = ANY(" projects ") ORDER BY id" }
}

/// What decides about ports, as far as it was read. Rules and address groups that the caller does not see decide
/// too, and are not told.
#[derive(Debug)]
pub struct Deciding {
    known: Known,
    view: Visibility,
    groups: BTreeSet<u32>,
    addresses: BTreeSet<i32>,
    projects: BTreeSet<u32>,
}

impl Deciding {
    /// Nothing yet, for a caller of this view.
    pub fn seen_as(view: Visibility) -> Self {
        let (groups, addresses, projects) = Default::default();
        Self { known: Known::default(), view, groups, addresses, projects }
    }

    /// What is known.
    pub const fn known(&self) -> &Known {
        &self.known
    }

    /// Reads what decides about ports with these sets, as far as it is not known; the policies of projects that none
    /// of them is of are forgotten.
    pub async fn read<'s>(
        &mut self,
        conn: &mut AsyncPgConnection,
        sets: impl IntoIterator<Item = &'s GroupSet>,
    ) -> Result<(), Failure> {
        let (mut groups, mut projects) = (BTreeSet::new(), BTreeSet::new());
        for set in sets {
            groups.extend(set.groups.iter().copied().filter(|group| !self.groups.contains(group)));
            projects.extend(set.labels.iter().map(|own| own.project));
        }
        self.read_groups(conn, &groups).await?;
        self.known.keep_policies(&projects);
        self.projects.retain(|project| projects.contains(project));
        projects.retain(|project| !self.projects.contains(project));
        self.read_policies(conn, &projects).await?;
        self.groups.extend(groups);
        self.projects.extend(projects);
        Ok(())
    }

    async fn read_groups(&mut self, conn: &mut AsyncPgConnection, groups: &BTreeSet<u32>) -> Result<(), Failure> {
        if groups.is_empty() {
            return Ok(());
        }
        let numbers: Vec<i32> = groups.iter().map(|group| group.cast_signed()).collect();
        let groups: Vec<Uuid> = security_groups::table
            .filter(security_groups::number.eq_any(numbers))
            .select(security_groups::id)
            .load(conn)
            .await?;
        let seen = seen_groups(conn, self.view, groups.iter().copied()).await?;
        let mut addresses = BTreeSet::new();
        for group in policy::read(conn, &groups).await? {
            addresses.extend(group.rules.iter().filter_map(|rule| match rule.remote {
                Remote::AddressGroup(number) => Some(number.cast_signed()),
                Remote::Any | Remote::Prefix(_) | Remote::Group(_) => None,
            }));
            if !group.stateful {
                self.known.stateless(group.number);
            }
            self.known.group(group.number, group.rules, seen.contains_key(&group.id.uuid()));
        }
        addresses.retain(|number| !self.addresses.contains(number));
        if addresses.is_empty() {
            return Ok(());
        }
        let seen = seen_addresses(conn, self.view, &addresses).await?;
        let ids: Vec<Uuid> = address_groups::table
            .filter(address_groups::number.eq_any(addresses.clone()))
            .select(address_groups::id)
            .load(conn)
            .await?;
        for (_, group) in policy::read_addresses(conn, ids).await? {
            self.known.addresses(group.number, &group.addresses, seen.contains(&group.number));
        }
        self.addresses.extend(addresses);
        Ok(())
    }

    async fn read_policies(&mut self, conn: &mut AsyncPgConnection, projects: &BTreeSet<u32>) -> Result<(), Failure> {
        if projects.is_empty() {
            return Ok(());
        }
        let numbers: Vec<i32> = projects.iter().map(|project| project.cast_signed()).collect();
        let projects: Vec<Uuid> = label_projects::table
            .filter(label_projects::number.eq_any(numbers))
            .select(label_projects::id)
            .load(conn)
            .await?;
        let policies: Vec<Uuid> = PoliciesOfProjects { projects }.load(conn).await?;
        for own in label_policy::read(conn, policies).await? {
            self.known.policy(own.project, own.policy);
        }
        Ok(())
    }
}
