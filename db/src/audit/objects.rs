//! Objects by id: pages of them, their entries, their locks.

use super::AuditError;
use crate::resources::network::NetworkRow;
use crate::resources::port::{self, PortRow};
use crate::resources::subnet::SubnetRow;
use crate::schema::{cluster_keys, hosts, networks, ports, subnets};
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
            Kind::Group | Kind::Member | Kind::GroupSet | Kind::AddressGroup => None,
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
}

impl Table {
    pub const FIRST: Self = Self::Hosts;

    pub const fn next(self) -> Option<Self> {
        match self {
            Self::Hosts => Some(Self::ClusterKeys),
            Self::ClusterKeys => Some(Self::Networks),
            Self::Networks => Some(Self::Subnets),
            Self::Subnets => Some(Self::Ports),
            Self::Ports => None,
        }
    }

    /// Objects after one, by id.
    pub async fn page(self, conn: &mut AsyncPgConnection, after: Option<Owner>, limit: i64) -> QueryResult<Vec<Owner>> {
        macro_rules! ids {
            ($table:ident) => {{
                let after = match after {
                    Some(Owner::Network(id) | Owner::Subnet(id) | Owner::Port(id)) => id,
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
            }
        }
        ids
    }
}

/// The networks of objects, by VNI. Hosts and keys have none, nor has what is gone.
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
    let Ids { hosts: numbers, keys, .. } = Ids::of(owners);
    if !numbers.is_empty() {
        let rows = hosts::table.select(hosts::number).filter(hosts::number.eq_any(numbers)).order(hosts::number);
        rows.for_share().load::<i32>(conn).await?;
    }
    if !keys.is_empty() {
        let rows = cluster_keys::table.select(cluster_keys::id).order(cluster_keys::id);
        rows.for_share().load::<i16>(conn).await?;
    }
    Ok(())
}

/// What objects compile to; those that are gone are left out.
pub(super) async fn compile_all(
    conn: &mut AsyncPgConnection,
    owners: &BTreeSet<Owner>,
) -> Result<BTreeMap<Owner, Compiled>, AuditError> {
    let Ids { hosts: numbers, keys, networks: network_ids, subnets: subnet_ids, ports: port_ids } = Ids::of(owners);
    let mut all = BTreeMap::new();
    if !numbers.is_empty() {
        compile_hosts(conn, numbers, &mut all).await?;
    }
    if !keys.is_empty() {
        compile_keys(conn, keys, &mut all).await?;
    }
    let rows: Vec<PortRow> =
        ports::table.filter(ports::id.eq_any(port_ids)).select(PortRow::as_select()).load(conn).await?;
    let ports = port::complete(conn, rows).await?;
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
