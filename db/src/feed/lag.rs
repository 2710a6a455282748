//! How far hosts are behind: what was written for them since what they last acknowledged.
//!
//! Asked of many hosts at once, and most of them lack nothing. So it begins with the entries that any of them can lack, which
//! are few, and goes from these up to the hosts that receive them, instead of down from each host to all that it receives.

use crate::statement::statement;
use diesel::QueryResult;
use diesel::sql_types::{Array, BigInt, Double, Integer};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use std::collections::BTreeMap;
use std::time::Duration;

/// Entries that are looked at: who lacks more is as far behind as can be.
pub const MOST: i64 = 10_000;

/// What a host has not acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lag {
    /// Entries, removals included; at most [`MOST`].
    pub entries: i64,
    /// Since when the oldest of them waits.
    pub oldest: Duration,
}

statement! {
    SelectLag { hosts: Vec<i32> as Array<Integer>, most: i64 as BigInt } -> (Integer, BigInt, Double)
    {
        "WITH RECURSIVE known AS MATERIALIZED ( \
           SELECT host, cursor::pg_snapshot AS cursor FROM host_state WHERE cursor IS NOT NULL AND host = ANY(" hosts ")), \
         fresh AS MATERIALIZED ( \
           SELECT scope, slot, xid, changed_at FROM entries WHERE xid >= \
             (SELECT min(pg_snapshot_xmin(cursor)::text::bigint) FROM known) ORDER BY xid LIMIT " most "), \
         up (scope, slot, of_scope, of_slot) AS ( \
           SELECT DISTINCT scope, slot, scope, slot FROM fresh \
           UNION SELECT i.scope, i.slot, u.of_scope, u.of_slot FROM up u JOIN includes i ON i.target = u.scope \
             WHERE NOT i.deleted), \
         receives AS ( \
           SELECT DISTINCT s.host, u.of_scope, u.of_slot FROM up u JOIN subscriptions s ON s.scope = u.scope \
             AND (u.slot = -1 OR u.slot BETWEEN s.lo AND s.hi) AND NOT s.deleted JOIN known k ON k.host = s.host) \
         SELECT r.host, count(*), extract(epoch FROM clock_timestamp() - min(f.changed_at))::double precision \
         FROM receives r JOIN fresh f ON f.scope = r.of_scope AND f.slot = r.of_slot JOIN known k ON k.host = r.host \
         WHERE NOT pg_visible_in_snapshot(f.xid::text::xid8, k.cursor) GROUP BY 1"
    }
}

/// How far these hosts are behind. Those that lack nothing, or never acknowledged anything, are not in it.
pub async fn lag(conn: &mut AsyncPgConnection, hosts: &[i32]) -> QueryResult<BTreeMap<i32, Lag>> {
    let rows: Vec<(i32, i64, f64)> = SelectLag { hosts: hosts.to_vec(), most: MOST }.load(conn).await?;
    // A clock that was set back makes no negative age.
    let lag = |(host, entries, seconds): (i32, i64, f64)| {
        (host, Lag { entries, oldest: Duration::try_from_secs_f64(seconds).unwrap_or_default() })
    };
    Ok(rows.into_iter().map(lag).collect())
}
