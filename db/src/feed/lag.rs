//! How far hosts are behind: what was written for them since what they last acknowledged.
//!
//! Asked of many hosts at once, and most of them lack nothing. So it begins with the entries that any of them can lack, which
//! are few, and goes from these up to the hosts that receive them, instead of down from each host to all that it receives.

use crate::listing::Predicate;
use crate::schema::hosts;
use diesel::QueryResult;
use diesel::pg::Pg;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::sql_types::{Array, BigInt, Bool, Double, Integer, Nullable};
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

/// The question begins with the hosts that have acknowledged something: which of them is said next.
const KNOWN: &str = "WITH RECURSIVE known AS MATERIALIZED ( \
    SELECT host, cursor::pg_snapshot AS cursor FROM host_state WHERE cursor IS NOT NULL AND ";

/// The entries that any of them can lack; how many are looked at is said next.
const FRESH: &str = "), fresh AS MATERIALIZED ( \
    SELECT scope, slot, xid, changed_at FROM entries WHERE xid >= \
      (SELECT min(pg_snapshot_xmin(cursor)::text::bigint) FROM known) ORDER BY xid LIMIT ";

/// Who receives these, and lacks them: host, number of entries, age of the oldest in seconds.
const LACKS: &str = "), \
    up (scope, slot, of_scope, of_slot) AS ( \
      SELECT DISTINCT scope, slot, scope, slot FROM fresh \
      UNION SELECT i.scope, i.slot, u.of_scope, u.of_slot FROM up u JOIN includes i ON i.target = u.scope \
        WHERE NOT i.deleted), \
    receives AS ( \
      SELECT DISTINCT s.host, u.of_scope, u.of_slot FROM up u JOIN subscriptions s ON s.scope = u.scope \
        AND (u.slot = -1 OR u.slot BETWEEN s.lo AND s.hi) AND NOT s.deleted JOIN known k ON k.host = s.host) \
    SELECT r.host, count(*), extract(epoch FROM clock_timestamp() - min(f.changed_at))::double precision \
    FROM receives r JOIN fresh f ON f.scope = r.of_scope AND f.slot = r.of_slot JOIN known k ON k.host = r.host \
    WHERE NOT pg_visible_in_snapshot(f.xid::text::xid8, k.cursor) GROUP BY 1";

/// The question of some hosts. Not a `statement!`: [`behind_for`] shares its text.
#[derive(QueryId)]
struct SelectLag {
    hosts: Vec<i32>,
    most: i64,
}

impl Query for SelectLag {
    type SqlType = (Integer, BigInt, Double);
}

impl QueryFragment<Pg> for SelectLag {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql(KNOWN);
        out.push_sql("host = ANY(");
        out.push_bind_param::<Array<Integer>, _>(&self.hosts)?;
        out.push_sql(")");
        out.push_sql(FRESH);
        out.push_bind_param::<BigInt, _>(&self.most)?;
        out.push_sql(LACKS);
        Ok(())
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

/// Hosts that were heard of within the lease, and lack an entry for so many seconds.
pub fn behind_for(lease: Duration, seconds: i32) -> Predicate<hosts::table> {
    let term = diesel::dsl::sql::<Nullable<Bool>>(&format!(
        "hosts.number IN (SELECT lag.host FROM ({KNOWN}seen_at > now() - make_interval(secs => "
    ));
    let term = term.bind::<Double, _>(lease.as_secs_f64()).sql(&format!("){FRESH}")).bind::<BigInt, _>(MOST);
    let term = term.sql(&format!("{LACKS}) lag (host, entries, oldest) WHERE lag.oldest >= "));
    Box::new(term.bind::<Double, _>(f64::from(seconds)).sql(")"))
}
