//! Who knows of a port, and what names mean: for those who look at what hosts do.

use crate::schema::{hosts, ports};
use crate::statement::statement;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Bool, Integer, Text, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use ipnet::IpNet;
use mizar_wire::Scope;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
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

/// Name of the host with this number.
pub async fn host_name(conn: &mut AsyncPgConnection, number: i32) -> QueryResult<Option<String>> {
    hosts::table.filter(hosts::number.eq(number)).select(hosts::name).first(conn).await.optional()
}

/// Number of the host with this underlay address.
pub async fn host_at(conn: &mut AsyncPgConnection, underlay: Ipv4Addr) -> QueryResult<Option<i32>> {
    let underlay = IpNet::from(std::net::IpAddr::V4(underlay));
    hosts::table.filter(hosts::underlay.eq(underlay)).select(hosts::number).first(conn).await.optional()
}
