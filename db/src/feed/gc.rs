//! Forgetting tombstones.

use super::FeedError;
use crate::statement::statement;
use chrono::{DateTime, Utc};
use diesel::sql_types::{BigInt, Timestamptz};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

statement! {
    /// All three tables in one statement with the horizon: a reader sees either the tombstones or
    /// the horizon that tells of them.
    Collect { before: DateTime<Utc> as Timestamptz } -> BigInt
    {
        "WITH e AS (DELETE FROM entries WHERE deleted AND changed_at < " before " RETURNING xid), \
         s AS (DELETE FROM subscriptions WHERE deleted AND changed_at < " before " RETURNING xid), \
         i AS (DELETE FROM includes WHERE deleted AND last_used < " before " RETURNING xid), \
         g AS (SELECT xid FROM e UNION ALL SELECT xid FROM s UNION ALL SELECT xid FROM i), \
         u AS (UPDATE feed SET horizon = greatest(horizon, (SELECT max(xid) FROM g)) \
               WHERE EXISTS (SELECT FROM g)) \
         SELECT count(*) FROM g"
    }
}

/// Deletes tombstones that were written before a time (an include's `last_used` is when it was
/// tombstoned) and raises the horizon to the highest transaction among them. Agents whose cursor
/// is not beyond it begin again from a snapshot. Returns how many there were.
pub async fn collect(conn: &mut AsyncPgConnection, before: DateTime<Utc>) -> Result<i64, FeedError> {
    Ok(Collect { before }.get_result(conn).await?)
}
