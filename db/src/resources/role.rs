//! Transit roles, as operators see them. The scheduler writes them.

use crate::statement::statement;
use chrono::{DateTime, Utc};
use diesel::sql_types::{Array, BigInt, Nullable, SmallInt, Text, Timestamptz, Uuid as SqlUuid};
use diesel::{QueryResult, Queryable};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

/// A role of a host.
#[derive(Clone, Debug, PartialEq, Eq, Queryable)]
pub struct RoleRow {
    /// The host's name.
    pub host: String,
    /// 2: bouncer, 3: divider.
    pub role: i16,
    /// 1: pending, 2: active, 3: draining.
    pub state: i16,
    /// The network; `None` while what the role was for is gone and the role is not yet.
    pub network_id: Option<Uuid>,
    /// The subnet of a bouncer.
    pub subnet_id: Option<Uuid>,
    /// First slot of a bouncer.
    pub lo: i16,
    /// Last slot of a bouncer.
    pub hi: i16,
    /// Since when in this state.
    pub changed_at: DateTime<Utc>,
}

/// Which roles are asked for; `None`: all.
#[derive(Clone, Debug, Default)]
pub struct RoleFilter {
    /// Of this host.
    pub host: Option<String>,
    /// Of this network and its subnets.
    pub network_id: Option<Uuid>,
    /// Of this subnet.
    pub subnet_id: Option<Uuid>,
    /// 2 or 3.
    pub role: Option<i16>,
    /// 1 to 3.
    pub state: Option<i16>,
    /// The first so many.
    pub limit: Option<i64>,
}

statement! {
    /// Scope numbers are `kind << 32 | number`: subnets by number, dividers by VNI.
    SelectRoles {
        host: Option<String> as Nullable<Text>,
        network: Option<Uuid> as Nullable<SqlUuid>,
        subnet: Option<Uuid> as Nullable<SqlUuid>,
        role: Option<i16> as Nullable<SmallInt>,
        state: Option<i16> as Nullable<SmallInt>,
        mask: i64 as BigInt,
        limit: Option<i64> as Nullable<BigInt>,
    } -> (Text, SmallInt, SmallInt, Nullable<SqlUuid>, Nullable<SqlUuid>, SmallInt, SmallInt, Timestamptz)
    {
        "WITH f AS (SELECT "
        host " AS host, " network " AS network, " subnet " AS subnet, " role " AS role, " state " AS state, " mask
        " AS mask), r AS (SELECT h.name AS host, s.role, s.state, coalesce(n.id, b.network_id) AS network_id, \
         b.id AS subnet_id, s.lo, s.hi, s.changed_at FROM f CROSS JOIN subscriptions s \
         JOIN hosts h ON h.number = s.host \
         LEFT JOIN subnets b ON s.role = 2 AND b.number = (s.scope & f.mask)::integer \
         LEFT JOIN networks n ON s.role = 3 AND n.vni = (s.scope & f.mask)::integer \
         WHERE s.role IN (2, 3) AND NOT s.deleted) \
         SELECT r.* FROM r, f WHERE (f.host IS NULL OR r.host = f.host) \
         AND (f.network IS NULL OR r.network_id = f.network) AND (f.subnet IS NULL OR r.subnet_id = f.subnet) \
         AND (f.role IS NULL OR r.role = f.role) AND (f.state IS NULL OR r.state = f.state) \
         ORDER BY r.network_id, r.subnet_id, r.role, r.lo, r.host LIMIT " limit ""
    }
}

statement! {
    CountRoles { hosts: Vec<String> as Array<Text> } -> (Text, SmallInt, SmallInt, BigInt)
    {
        "SELECT h.name, s.role, s.state, count(*) FROM hosts h JOIN subscriptions s ON s.host = h.number WHERE h.name = ANY("
        hosts ") AND s.role IN (2, 3) AND NOT s.deleted GROUP BY h.name, s.role, s.state ORDER BY h.name, s.role, s.state"
    }
}

/// How many roles of a kind in a state a host has.
#[derive(Clone, Debug, PartialEq, Eq, Queryable)]
pub struct RoleCount {
    /// The host's name.
    pub host: String,
    /// 2: bouncer, 3: divider.
    pub role: i16,
    /// 1: pending, 2: active, 3: draining.
    pub state: i16,
    /// So many.
    pub count: i64,
}

/// How many roles these hosts have, by host, kind and state; what none is of is not among them.
pub async fn counts(conn: &mut AsyncPgConnection, hosts: Vec<String>) -> QueryResult<Vec<RoleCount>> {
    CountRoles { hosts }.load(conn).await
}

/// Roles, by network, subnet, slot and host.
pub async fn list(conn: &mut AsyncPgConnection, filter: RoleFilter) -> QueryResult<Vec<RoleRow>> {
    let RoleFilter { host, network_id, subnet_id, role, state, limit } = filter;
    SelectRoles { host, network: network_id, subnet: subnet_id, role, state, mask: i64::from(u32::MAX), limit }
        .load(conn)
        .await
}
