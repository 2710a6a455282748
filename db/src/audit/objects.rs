//! Objects by id: pages of them, their entries, their locks.

use super::AuditError;
use crate::resources::group_set;
use crate::resources::label_policy;
use crate::resources::network::NetworkRow;
use crate::resources::policy;
use crate::resources::port::{self, PortRow};
use crate::resources::subnet::SubnetRow;
use crate::schema::{
    address_groups, cluster_keys, group_sets, hosts, label_policies, label_projects, networks, ports, security_groups,
    subnets,
};
use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use ipnet::IpNet;
use mizar_compile::{Compiled, Object, compile};
use mizar_domain::model;
use mizar_wire::Kind;
use mizar_wire::entry::EntryKey;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use uuid::Uuid;

/// An object that has entries, there or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Owner {
    /// By number.
    Host(u32),
    /// By number.
    ClusterKey(u8),
    /// By id.
    Network(Uuid),
    /// By id.
    Subnet(Uuid),
    /// By id.
    Port(Uuid),
    /// By id.
    SecurityGroup(Uuid),
    /// By number.
    GroupSet(u32),
    /// By id.
    AddressGroup(Uuid),
    /// By id.
    LabelPolicy(Uuid),
    /// By the project's id.
    LabelProject(Uuid),
}

impl Owner {
    /// Whose entry it is: keys begin with the object's id. `None` if the key is none that this
    /// program makes.
    pub fn of(key: &EntryKey) -> Option<Self> {
        let number = || Some(u32::from_be_bytes(key.key.as_slice().try_into().ok()?));
        let id = || Uuid::from_slice(key.key.get(..16)?).ok();
        match key.kind {
            Kind::Host => number().map(Self::Host),
            Kind::ClusterKey => number()?.try_into().ok().map(Self::ClusterKey),
            Kind::Network | Kind::DividerRole | Kind::DividerSet => id().map(Self::Network),
            Kind::Subnet | Kind::ShardMap => id().map(Self::Subnet),
            Kind::Port | Kind::Bounce | Kind::MovedPort => id().map(Self::Port),
            Kind::Group | Kind::Member => id().map(Self::SecurityGroup),
            Kind::GroupSet => number().map(Self::GroupSet),
            Kind::AddressGroup => id().map(Self::AddressGroup),
            Kind::LabelIngress | Kind::LabelEgress => id().map(Self::LabelPolicy),
            Kind::LabelGeneration => id().map(Self::LabelProject),
        }
    }
}

/// Where objects are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Table {
    Hosts,
    ClusterKeys,
    Networks,
    Subnets,
    Ports,
    SecurityGroups,
    GroupSets,
    AddressGroups,
    LabelPolicies,
    LabelProjects,
}

impl Table {
    pub const FIRST: Self = Self::Hosts;

    pub const fn next(self) -> Option<Self> {
        match self {
            Self::Hosts => Some(Self::ClusterKeys),
            Self::ClusterKeys => Some(Self::Networks),
            Self::Networks => Some(Self::Subnets),
            Self::Subnets => Some(Self::Ports),
            Self::Ports => Some(Self::SecurityGroups),
            Self::SecurityGroups => Some(Self::GroupSets),
            Self::GroupSets => Some(Self::AddressGroups),
            Self::AddressGroups => Some(Self::LabelPolicies),
            Self::LabelPolicies => Some(Self::LabelProjects),
            Self::LabelProjects => None,
        }
    }

    /// Objects after one, by id.
    pub async fn page(self, conn: &mut AsyncPgConnection, after: Option<Owner>, limit: i64) -> QueryResult<Vec<Owner>> {
        macro_rules! ids {
            ($table:ident) => {{
                let after = match after {
                    Some(
                        Owner::Network(id)
                        | Owner::Subnet(id)
                        | Owner::Port(id)
                        | Owner::SecurityGroup(id)
                        | Owner::AddressGroup(id)
                        | Owner::LabelPolicy(id)
                        | Owner::LabelProject(id),
                    ) => id,
                    _ => Uuid::nil(),
                };
                let page = $table::table.select($table::id).filter($table::id.gt(after)).order($table::id).limit(limit);
                page.load::<Uuid>(conn).await?
            }};
        }
        Ok(match self {
            Self::Hosts => {
                let after = if let Some(Owner::Host(number)) = after { number.cast_signed() } else { i32::MIN };
                let page = hosts::table.select(hosts::number).filter(hosts::number.gt(after)).order(hosts::number);
                page.limit(limit).load(conn).await?.into_iter().map(|n: i32| Owner::Host(n.cast_unsigned())).collect()
            }
            // 255 at most.
            Self::ClusterKeys => {
                let all: Vec<i16> = cluster_keys::table.select(cluster_keys::id).load(conn).await?;
                all.into_iter().filter_map(|id| Some(Owner::ClusterKey(id.try_into().ok()?))).collect()
            }
            Self::Networks => ids!(networks).into_iter().map(Owner::Network).collect(),
            Self::Subnets => ids!(subnets).into_iter().map(Owner::Subnet).collect(),
            Self::Ports => ids!(ports).into_iter().map(Owner::Port).collect(),
            Self::SecurityGroups => ids!(security_groups).into_iter().map(Owner::SecurityGroup).collect(),
            Self::GroupSets => {
                let after = if let Some(Owner::GroupSet(number)) = after { number.cast_signed() } else { 0 };
                let page = group_sets::table.select(group_sets::number).filter(group_sets::number.gt(after));
                let page: Vec<i32> = page.order(group_sets::number).limit(limit).load(conn).await?;
                page.into_iter().map(|number| Owner::GroupSet(number.cast_unsigned())).collect()
            }
            Self::AddressGroups => ids!(address_groups).into_iter().map(Owner::AddressGroup).collect(),
            Self::LabelPolicies => ids!(label_policies).into_iter().map(Owner::LabelPolicy).collect(),
            Self::LabelProjects => ids!(label_projects).into_iter().map(Owner::LabelProject).collect(),
        })
    }
}

/// Owners, sorted by what they are.
#[derive(Default)]
struct Ids {
    hosts: Vec<i32>,
    keys: Vec<i16>,
    networks: Vec<Uuid>,
    subnets: Vec<Uuid>,
    ports: Vec<Uuid>,
    security_groups: Vec<Uuid>,
    group_sets: Vec<i32>,
    address_groups: Vec<Uuid>,
    label_policies: Vec<Uuid>,
    label_projects: Vec<Uuid>,
}

impl Ids {
    fn of(owners: &BTreeSet<Owner>) -> Self {
        let mut ids = Self::default();
        for owner in owners {
            match *owner {
                Owner::Host(number) => ids.hosts.push(number.cast_signed()),
                Owner::ClusterKey(id) => ids.keys.push(id.into()),
                Owner::Network(id) => ids.networks.push(id),
                Owner::Subnet(id) => ids.subnets.push(id),
                Owner::Port(id) => ids.ports.push(id),
                Owner::SecurityGroup(id) => ids.security_groups.push(id),
                Owner::GroupSet(number) => ids.group_sets.push(number.cast_signed()),
                Owner::AddressGroup(id) => ids.address_groups.push(id),
                Owner::LabelPolicy(id) => ids.label_policies.push(id),
                Owner::LabelProject(id) => ids.label_projects.push(id),
            }
        }
        ids
    }
}

/// The networks of objects, by VNI. Hosts, keys and groups have none, nor has what is gone.
pub(super) async fn vnis(conn: &mut AsyncPgConnection, owners: &BTreeSet<Owner>) -> QueryResult<BTreeMap<Owner, u32>> {
    let ids = Ids::of(owners);
    let mut vnis = BTreeMap::new();
    let rows: Vec<(Uuid, i32)> = networks::table
        .filter(networks::id.eq_any(ids.networks))
        .select((networks::id, networks::vni))
        .load(conn)
        .await?;
    vnis.extend(rows.into_iter().map(|(id, vni)| (Owner::Network(id), vni.cast_unsigned())));
    let rows: Vec<(Uuid, i32)> = subnets::table
        .inner_join(networks::table)
        .filter(subnets::id.eq_any(ids.subnets))
        .select((subnets::id, networks::vni))
        .load(conn)
        .await?;
    vnis.extend(rows.into_iter().map(|(id, vni)| (Owner::Subnet(id), vni.cast_unsigned())));
    let rows: Vec<(Uuid, i32)> = ports::table
        .inner_join(networks::table)
        .filter(ports::id.eq_any(ids.ports))
        .select((ports::id, networks::vni))
        .load(conn)
        .await?;
    vnis.extend(rows.into_iter().map(|(id, vni)| (Owner::Port(id), vni.cast_unsigned())));
    Ok(vnis)
}

/// Locks what no network's lock holds, against those who write it: registration and the rotation
/// of keys change their rows before their entries.
pub(super) async fn lock(conn: &mut AsyncPgConnection, owners: &BTreeSet<Owner>) -> QueryResult<()> {
    let ids = Ids::of(owners);
    let Ids { hosts: numbers, keys, security_groups: groups, group_sets: sets, address_groups: named, .. } = ids;
    if !numbers.is_empty() {
        let rows = hosts::table.select(hosts::number).filter(hosts::number.eq_any(numbers)).order(hosts::number);
        rows.for_share().load::<i32>(conn).await?;
    }
    if !keys.is_empty() {
        let rows = cluster_keys::table.select(cluster_keys::id).order(cluster_keys::id);
        rows.for_share().load::<i16>(conn).await?;
    }
    // Commands on rules and addresses hold the group's row; the janitor that of a set.
    if !groups.is_empty() {
        let rows = security_groups::table.select(security_groups::id).filter(security_groups::id.eq_any(groups));
        rows.order(security_groups::id).for_share().load::<Uuid>(conn).await?;
    }
    if !sets.is_empty() {
        let rows = group_sets::table.select(group_sets::number).filter(group_sets::number.eq_any(sets));
        rows.order(group_sets::number).for_share().load::<i32>(conn).await?;
    }
    if !named.is_empty() {
        let rows = address_groups::table.select(address_groups::id).filter(address_groups::id.eq_any(named));
        rows.order(address_groups::id).for_share().load::<Uuid>(conn).await?;
    }
    // Commands on label policies change their project's row last.
    if !ids.label_policies.is_empty() {
        let rows = label_policies::table.filter(label_policies::id.eq_any(ids.label_policies));
        rows.select(label_policies::id).order(label_policies::id).for_share().load::<Uuid>(conn).await?;
    }
    if !ids.label_projects.is_empty() {
        let rows = label_projects::table.filter(label_projects::id.eq_any(ids.label_projects));
        rows.select(label_projects::id).order(label_projects::id).for_share().load::<Uuid>(conn).await?;
    }
    Ok(())
}

/// What objects compile to; those that are gone are left out.
pub(super) async fn compile_all(
    conn: &mut AsyncPgConnection,
    owners: &BTreeSet<Owner>,
) -> Result<BTreeMap<Owner, Compiled>, AuditError> {
    let Ids {
        hosts: numbers,
        keys,
        networks: network_ids,
        subnets: subnet_ids,
        ports: port_ids,
        security_groups,
        group_sets,
        address_groups,
        label_policies,
        label_projects,
    } = Ids::of(owners);
    let mut all = BTreeMap::new();
    compile_policy(conn, security_groups, group_sets, address_groups, &mut all).await?;
    for policy in label_policy::read(conn, label_policies).await? {
        all.insert(Owner::LabelPolicy(policy.id.uuid()), compile(Object::LabelPolicy(&policy)));
    }
    for project in label_policy::read_projects(conn, label_projects).await? {
        all.insert(Owner::LabelProject(project.id.uuid()), compile(Object::LabelProject(&project)));
    }
    if !numbers.is_empty() {
        compile_hosts(conn, numbers, &mut all).await?;
    }
    if !keys.is_empty() {
        compile_keys(conn, keys, &mut all).await?;
    }
    let rows: Vec<PortRow> =
        ports::table.filter(ports::id.eq_any(port_ids)).select(PortRow::as_select()).load(conn).await?;
    let mut ports = port::complete(conn, rows).await?;
    doubt_sets(conn, &mut ports).await?;
    let addressed = ports.iter().flat_map(|port| port.fixed_ips.iter().map(|ip| ip.subnet_id));
    let of_ports: BTreeSet<Uuid> = addressed.chain(subnet_ids).collect();
    let rows: Vec<SubnetRow> =
        subnets::table.filter(subnets::id.eq_any(of_ports)).select(SubnetRow::as_select()).load(conn).await?;
    let subnets: HashMap<Uuid, SubnetRow> = rows.into_iter().map(|row| (row.id, row)).collect();
    let parents = subnets.values().map(|s| s.network_id).chain(ports.iter().map(|p| p.row.network_id));
    let of_all: BTreeSet<Uuid> = parents.chain(network_ids).collect();
    let rows: Vec<NetworkRow> =
        networks::table.filter(networks::id.eq_any(of_all)).select(NetworkRow::as_select()).load(conn).await?;
    let networks: HashMap<Uuid, NetworkRow> = rows.into_iter().map(|row| (row.id, row)).collect();

    for network in networks.values().filter(|n| owners.contains(&Owner::Network(n.id))) {
        all.insert(Owner::Network(network.id), compile(Object::Network(&network.model())));
    }
    for subnet in subnets.values().filter(|s| owners.contains(&Owner::Subnet(s.id))) {
        let Some(network) = networks.get(&subnet.network_id) else { continue };
        all.insert(Owner::Subnet(subnet.id), compile(Object::Subnet(&subnet.model(network)?)));
    }
    for port in &ports {
        let Some(network) = networks.get(&port.row.network_id) else { continue };
        let own = port.fixed_ips.iter().filter_map(|ip| subnets.get(&ip.subnet_id));
        let spaces = own.map(SubnetRow::space).collect::<Result<Vec<_>, _>>()?;
        all.insert(Owner::Port(port.row.id), compile(Object::Port(&port.model(network.vni, &spaces)?)));
    }
    Ok(all)
}

/// A number that stands for other groups than the port has is none: rather nothing passes than what
/// other rules allow.
async fn doubt_sets(conn: &mut AsyncPgConnection, ports: &mut [port::Port]) -> QueryResult<()> {
    let named: BTreeSet<i32> = ports.iter().filter_map(|port| port.row.group_set).collect();
    let rows =
        group_sets::table.filter(group_sets::number.eq_any(named)).select((group_sets::number, group_sets::groups));
    let known: HashMap<i32, Vec<i32>> = rows.load::<(i32, Vec<i32>)>(conn).await?.into_iter().collect();
    for port in ports {
        let parts = port.parts();
        port.row.group_set = port.row.group_set.filter(|number| known.get(number) == Some(&parts));
    }
    Ok(())
}

async fn compile_policy(
    conn: &mut AsyncPgConnection,
    groups: Vec<Uuid>,
    sets: Vec<i32>,
    named: Vec<Uuid>,
    all: &mut BTreeMap<Owner, Compiled>,
) -> Result<(), AuditError> {
    for group in policy::read(conn, &groups).await? {
        all.insert(Owner::SecurityGroup(group.id.uuid()), compile(Object::SecurityGroup(&group)));
    }
    if !sets.is_empty() {
        let columns = (group_sets::number, group_sets::groups);
        let rows = group_sets::table.filter(group_sets::number.eq_any(sets)).select(columns);
        let rows: Vec<(i32, Vec<i32>)> = rows.load(conn).await?;
        for set in group_set::models(conn, &rows).await? {
            all.insert(Owner::GroupSet(set.number), compile(Object::GroupSet(&set)));
        }
    }
    for (id, group) in policy::read_addresses(conn, named).await? {
        all.insert(Owner::AddressGroup(id), compile(Object::AddressGroup(&group)));
    }
    Ok(())
}

async fn compile_hosts(
    conn: &mut AsyncPgConnection,
    numbers: Vec<i32>,
    all: &mut BTreeMap<Owner, Compiled>,
) -> Result<(), AuditError> {
    let columns = (hosts::number, hosts::name, hosts::underlay);
    let rows = hosts::table.filter(hosts::number.eq_any(numbers)).select(columns);
    for (number, name, underlay) in rows.load::<(i32, String, IpNet)>(conn).await? {
        let IpAddr::V4(underlay) = underlay.addr() else {
            return Err(AuditError::Corrupt { table: "hosts", column: "underlay" });
        };
        let number = number.cast_unsigned();
        all.insert(Owner::Host(number), compile(Object::Host(&model::Host { number, name, underlay })));
    }
    Ok(())
}

async fn compile_keys(
    conn: &mut AsyncPgConnection,
    ids: Vec<i16>,
    all: &mut BTreeMap<Owner, Compiled>,
) -> Result<(), AuditError> {
    let columns = (cluster_keys::id, cluster_keys::key, cluster_keys::signs);
    let rows = cluster_keys::table.filter(cluster_keys::id.eq_any(ids)).select(columns);
    for (id, key, signs) in rows.load::<(i16, Vec<u8>, bool)>(conn).await? {
        let corrupt = |column| AuditError::Corrupt { table: "cluster_keys", column };
        let id = id.try_into().map_err(|_| corrupt("id"))?;
        let key = key.try_into().map_err(|_| corrupt("key"))?;
        all.insert(Owner::ClusterKey(id), compile(Object::ClusterKey(&model::ClusterKey { id, key, signs })));
    }
    Ok(())
}
