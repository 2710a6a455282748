//! What a preview of other rules of a security group reads: the group's ports, who knows of them, and who is at
//! the other end of what hosts say of them.

use super::port::{self, Port, PortRow};
use super::seeing::v4;
use super::{Failure, group_set, policy};
use crate::listing::Visibility;
use crate::schema::{group_sets, port_ips, port_security_groups, ports, security_groups};
use crate::statement::statement;
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Bool, Integer, Text, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use ipnet::IpNet;
use mizar_domain::model::{AddressGroup, GroupSet, SecurityGroup};
use mizar_wire::Scope;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use uuid::Uuid;

/// A group with its rules as tables are made of them; `None`: it is not there any more.
pub async fn group(conn: &mut AsyncPgConnection, id: Uuid) -> Result<Option<SecurityGroup>, Failure> {
    Ok(policy::read(conn, &[id]).await?.pop())
}

/// Ports that have a group, only those of a project if one is named, in the order of their ids.
pub async fn ports_with(
    conn: &mut AsyncPgConnection,
    group: Uuid,
    view: Visibility,
    after: Option<Uuid>,
    limit: i64,
) -> QueryResult<Vec<Port>> {
    let with = port_security_groups::table
        .filter(port_security_groups::security_group_id.eq(group))
        .select(port_security_groups::port_id);
    let mut rows = ports::table.select(PortRow::as_select()).filter(ports::id.eq_any(with)).into_boxed();
    match view {
        Visibility::All => {}
        Visibility::Project(project) => rows = rows.filter(ports::project_id.eq(project)),
        Visibility::Nothing => return Ok(Vec::new()),
    }
    if let Some(after) = after {
        rows = rows.filter(ports::id.gt(after));
    }
    let rows: Vec<PortRow> = rows.order(ports::id).limit(limit).load(conn).await?;
    port::complete(conn, rows).await
}

/// A host, and of which ports it knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Knowing {
    /// Its name.
    pub name: String,
    /// Numbers of the ports that are bound to it.
    pub own: Vec<i32>,
    /// Numbers of those too that have an address it is a bouncer of.
    pub all: Vec<i32>,
}

statement! {
    HostsOfPorts { ports: Vec<Uuid> as Array<SqlUuid>, subnets: i64 as BigInt } -> (Integer, Text, Integer, Bool)
    {
        "WITH asked AS (SELECT number, id, host FROM ports WHERE id = ANY(" ports ")) \
         SELECT h.number, h.name, k.port, bool_or(k.own) FROM (SELECT a.host, a.number AS port, true AS own FROM asked a \
         UNION ALL SELECT s.host, a.number, false FROM asked a JOIN port_ips i ON i.port_id = a.id \
         JOIN subnets n ON n.id = i.subnet_id JOIN subscriptions s ON s.scope = " subnets " + n.number \
         AND i.slot BETWEEN s.lo AND s.hi AND s.role = 2 AND NOT s.deleted) k JOIN hosts h ON h.number = k.host \
         GROUP BY 1, 2, 3 ORDER BY 1, 3"
    }
}

/// The hosts of ports and the bouncers of their addresses, by number.
pub async fn hosts_of(conn: &mut AsyncPgConnection, ports: Vec<Uuid>) -> QueryResult<BTreeMap<i32, Knowing>> {
    let subnets = Scope::Subnet(0).to_i64();
    let rows: Vec<(i32, String, i32, bool)> = HostsOfPorts { ports, subnets }.load(conn).await?;
    let mut hosts: BTreeMap<i32, Knowing> = BTreeMap::new();
    for (number, name, port, is_own) in rows {
        let host = hosts.entry(number).or_insert_with(|| Knowing { name, ..Knowing::default() });
        host.all.push(port);
        if is_own {
            host.own.push(port);
        }
    }
    Ok(hosts)
}

/// Combinations of groups and labels by their numbers; those that are forgotten are not there.
pub async fn sets(conn: &mut AsyncPgConnection, numbers: BTreeSet<i32>) -> QueryResult<BTreeMap<u32, GroupSet>> {
    let rows: Vec<(i32, Vec<i32>)> = group_sets::table
        .filter(group_sets::number.eq_any(numbers))
        .select((group_sets::number, group_sets::groups))
        .load(conn)
        .await?;
    Ok(group_set::models(conn, &rows).await?.into_iter().map(|set| (set.number, set)).collect())
}

/// The combinations of the ports that have addresses of networks; `None`: the port is not filtered. Where no port has
/// the address there is nothing.
pub async fn sets_at(
    conn: &mut AsyncPgConnection,
    at: &BTreeSet<(Uuid, Ipv4Addr)>,
) -> QueryResult<BTreeMap<(Uuid, Ipv4Addr), Option<GroupSet>>> {
    let networks: BTreeSet<Uuid> = at.iter().map(|(network, _)| *network).collect();
    let addresses: BTreeSet<IpNet> = at.iter().map(|(_, address)| IpNet::from(IpAddr::V4(*address))).collect();
    let rows: Vec<(Uuid, IpNet, Uuid)> = port_ips::table
        .filter(port_ips::network_id.eq_any(networks))
        .filter(port_ips::address.eq_any(addresses))
        .select((port_ips::network_id, port_ips::address, port_ips::port_id))
        .load(conn)
        .await?;
    let ids: BTreeSet<Uuid> = rows.iter().map(|(.., port)| *port).collect();
    let found: Vec<PortRow> =
        ports::table.select(PortRow::as_select()).filter(ports::id.eq_any(ids)).load(conn).await?;
    let found = port::complete(conn, found).await?;
    let filters: BTreeMap<Uuid, Option<GroupSet>> = found.iter().map(|port| (port.row.id, port.filter())).collect();
    let row =
        |(network, address, port): (Uuid, IpNet, Uuid)| Some(((network, v4(address)?), filters.get(&port)?.clone()));
    Ok(rows.into_iter().filter_map(row).collect())
}

/// Numbers of security groups.
pub async fn group_numbers(conn: &mut AsyncPgConnection, ids: &BTreeSet<Uuid>) -> QueryResult<BTreeMap<Uuid, u32>> {
    let rows: Vec<(Uuid, i32)> = security_groups::table
        .filter(security_groups::id.eq_any(ids))
        .select((security_groups::id, security_groups::number))
        .load(conn)
        .await?;
    Ok(rows.into_iter().map(|(id, number)| (id, number.cast_unsigned())).collect())
}

/// Address groups by their ids.
pub async fn address_groups(
    conn: &mut AsyncPgConnection,
    ids: &BTreeSet<Uuid>,
) -> Result<BTreeMap<Uuid, AddressGroup>, Failure> {
    Ok(policy::read_addresses(conn, ids.iter().copied().collect()).await?.into_iter().collect())
}
