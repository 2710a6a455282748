//! Who knows of a port, and what names mean: for those who look at what hosts do.

use crate::listing::Visibility;
use crate::schema::{hosts, port_ips, ports, subnets};
use crate::statement::statement;
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Bool, Integer, Nullable, Text, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use ipnet::IpNet;
use mizar_wire::Scope;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use uuid::Uuid;

/// A host that knows of a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Knowing {
    /// Its number.
    pub number: i32,
    /// Its name.
    pub name: String,
    /// The port is bound to it; else it is a bouncer of an address of the port.
    pub is_own: bool,
}

statement! {
    HostsOf { port: Uuid as SqlUuid, subnets: i64 as BigInt } -> (Integer, Text, Bool)
    {
        "SELECT h.number, h.name, bool_or(k.own) FROM (SELECT p.host AS number, true AS own FROM ports p WHERE p.id = " port
        " UNION ALL SELECT s.host, false FROM port_ips i JOIN subnets n ON n.id = i.subnet_id JOIN subscriptions s ON s.scope = "
        subnets " + n.number AND i.slot BETWEEN s.lo AND s.hi AND s.role = 2 AND NOT s.deleted WHERE i.port_id = " port
        ") k JOIN hosts h ON h.number = k.number GROUP BY 1, 2 ORDER BY 3 DESC, 1"
    }
}

/// The host of a port, then the bouncers of its addresses.
pub async fn hosts_of(conn: &mut AsyncPgConnection, port: Uuid) -> QueryResult<Vec<Knowing>> {
    let rows: Vec<(i32, String, bool)> = HostsOf { port, subnets: Scope::Subnet(0).to_i64() }.load(conn).await?;
    Ok(rows.into_iter().map(|(number, name, is_own)| Knowing { number, name, is_own }).collect())
}

/// The ids of ports by their numbers.
pub async fn ports_numbered(conn: &mut AsyncPgConnection, numbers: &[i32]) -> QueryResult<BTreeMap<i32, Uuid>> {
    let rows: Vec<(i32, Uuid)> =
        ports::table.filter(ports::number.eq_any(numbers)).select((ports::number, ports::id)).load(conn).await?;
    Ok(rows.into_iter().collect())
}

/// An IPv4 address of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// The address.
    pub address: Ipv4Addr,
    /// Of its subnet's router.
    pub gateway: Option<Ipv4Addr>,
}

pub(super) fn v4(net: IpNet) -> Option<Ipv4Addr> {
    match net.addr() {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    }
}

/// The IPv4 addresses of a port, in order.
pub async fn addresses(conn: &mut AsyncPgConnection, port: Uuid) -> QueryResult<Vec<Address>> {
    let rows: Vec<(IpNet, Option<IpNet>)> = port_ips::table
        .inner_join(subnets::table)
        .filter(port_ips::port_id.eq(port))
        .order(port_ips::position)
        .select((port_ips::address, subnets::gateway_ip))
        .load(conn)
        .await?;
    let own = |(address, gateway): (IpNet, Option<IpNet>)| {
        Some(Address { address: v4(address)?, gateway: gateway.and_then(v4) })
    };
    Ok(rows.into_iter().filter_map(own).collect())
}

/// Names of hosts by their numbers.
pub async fn host_names(conn: &mut AsyncPgConnection, numbers: &[i32]) -> QueryResult<BTreeMap<i32, String>> {
    let rows: Vec<(i32, String)> =
        hosts::table.filter(hosts::number.eq_any(numbers)).select((hosts::number, hosts::name)).load(conn).await?;
    Ok(rows.into_iter().collect())
}

/// Number of the host with this underlay address.
pub async fn host_at(conn: &mut AsyncPgConnection, underlay: Ipv4Addr) -> QueryResult<Option<i32>> {
    let underlay = IpNet::from(IpAddr::V4(underlay));
    hosts::table.filter(hosts::underlay.eq(underlay)).select(hosts::number).first(conn).await.optional()
}

/// Underlay address of a host.
pub async fn underlay(conn: &mut AsyncPgConnection, number: i32) -> QueryResult<Option<Ipv4Addr>> {
    let found: Option<IpNet> =
        hosts::table.filter(hosts::number.eq(number)).select(hosts::underlay).first(conn).await.optional()?;
    Ok(found.and_then(v4))
}

/// The id of a port that a project, or an operator, may know.
pub async fn port_of(conn: &mut AsyncPgConnection, number: i32, own: Visibility) -> QueryResult<Option<Uuid>> {
    let port = ports::table.filter(ports::number.eq(number)).select((ports::id, ports::project_id));
    let found: Option<(Uuid, Uuid)> = port.first(conn).await.optional()?;
    Ok(found.filter(|(_, project)| is_own(own, *project)).map(|(id, _)| id))
}

/// The security groups of rules, of those that a project, or an operator, may know. A label policy decides as a whole, and
/// belongs to no group.
pub async fn rules_of(
    conn: &mut AsyncPgConnection,
    rules: &[Uuid],
    own: Visibility,
) -> QueryResult<BTreeMap<Uuid, Option<Uuid>>> {
    let rows: Vec<(Uuid, Option<Uuid>, Uuid)> = RulesOf { rules: rules.to_vec() }.load(conn).await?;
    let own = rows.into_iter().filter(|(_, _, project)| is_own(own, *project));
    Ok(own.map(|(rule, group, _)| (rule, group)).collect())
}

fn is_own(own: Visibility, project: Uuid) -> bool {
    match own {
        Visibility::All => true,
        Visibility::Project(own) => own == project,
        Visibility::Nothing => false,
    }
}

statement! {
    RulesOf { rules: Vec<Uuid> as Array<SqlUuid> } -> (SqlUuid, Nullable<SqlUuid>, SqlUuid)
    {
        "SELECT r.id, r.security_group_id, g.project_id FROM security_group_rules r \
         JOIN security_groups g ON g.id = r.security_group_id WHERE r.id = ANY(" rules ") \
         UNION ALL SELECT p.id, NULL::uuid, p.project_id FROM label_policies p WHERE p.id = ANY(" rules ")"
    }
}
