//! What changed since a cursor, over all scopes: one statement, so one snapshot.
//!
//! The form matters. `xid >= $1 OR xid = ANY($2)` scans the whole index under a generic plan (745
//! ms measured, instead of 1); so there is one arm for the transactions that had not begun and
//! one lookup for each that was running, both led by the index (xid, ...), with plans made for the
//! values (see [`crate::pool::Use::Feed`]). A test looks at the plan.

use super::FeedError;
use super::cursor::Cursor;
use super::scopes::{IncludeRow, Subscription};
use crate::entries::WHOLE_SCOPE;
use crate::statement::statement;
use diesel::sql_types::{Array, BigInt, Binary, Bool, Integer, Nullable, SmallInt, Text};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use std::sync::Arc;

/// Rows of one arm beyond which the tail gives up: readers then go to the tables.
pub const LIMIT: usize = 50_000;

type TailRow = (
    Text,
    Text,
    Nullable<Integer>,
    Nullable<BigInt>,
    Nullable<SmallInt>,
    Nullable<SmallInt>,
    Nullable<SmallInt>,
    Nullable<Binary>,
    Nullable<Bool>,
    Nullable<Binary>,
    Nullable<BigInt>,
    Nullable<BigInt>,
);

statement! {
    /// Columns: snapshot, feed's epoch, table, scope, slot or lo, hi, kind or role, key, deleted,
    /// body, host or target, xid.
    Tail { xmax: i64 as BigInt, running: Vec<i64> as Array<BigInt> } -> TailRow
    {
        "WITH s AS MATERIALIZED (SELECT pg_current_snapshot()::text AS snap, epoch::text AS epoch FROM feed) \
         SELECT s.snap, s.epoch, c.* FROM s LEFT JOIN (\
         (SELECT 1 AS t, scope, slot, NULL::smallint AS hi, kind, key, deleted, body, NULL::bigint AS other, xid \
            FROM entries WHERE xid >= " xmax " ORDER BY xid, scope LIMIT 50000) \
         UNION ALL (SELECT l.* FROM unnest(" running ") x(id) CROSS JOIN LATERAL (\
            SELECT 1, scope, slot, NULL::smallint, kind, key, deleted, body, NULL::bigint, xid \
            FROM entries WHERE xid = x.id ORDER BY xid, scope LIMIT 50000) l) \
         UNION ALL (SELECT 2, scope, lo, hi, role, NULL, deleted, NULL, host, xid \
            FROM subscriptions WHERE xid >= " xmax " ORDER BY xid, subscriptions.host LIMIT 50000) \
         UNION ALL (SELECT l.* FROM unnest(" running ") x(id) CROSS JOIN LATERAL (\
            SELECT 2, scope, lo, hi, role, NULL::bytea, deleted, NULL::bytea, host::bigint, xid \
            FROM subscriptions WHERE xid = x.id ORDER BY xid, subscriptions.host LIMIT 50000) l) \
         UNION ALL (SELECT 3, scope, slot, NULL, NULL, NULL, deleted, NULL, target, xid \
            FROM includes WHERE xid >= " xmax " ORDER BY xid, scope LIMIT 50000) \
         UNION ALL (SELECT l.* FROM unnest(" running ") x(id) CROSS JOIN LATERAL (\
            SELECT 3, scope, slot, NULL::smallint, NULL::smallint, NULL::bytea, deleted, NULL::bytea, target, xid \
            FROM includes WHERE xid = x.id ORDER BY xid, scope LIMIT 50000) l)\
         ) c ON true"
    }
}

/// The current version of an entry, with the transaction that wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Column `scope`.
    pub scope: i64,
    /// Column `slot`.
    pub slot: u16,
    /// Column `kind`.
    pub kind: i16,
    /// Column `key`.
    pub key: Vec<u8>,
    /// `None` = a tombstone.
    pub body: Option<Vec<u8>>,
    /// Who wrote it.
    pub xid: i64,
}

/// One read of the tail.
#[derive(Debug)]
pub struct Batch {
    /// The next cursor.
    pub cursor: Cursor,
    /// The UUID in the table `feed`: if it changed, so did the epoch.
    pub epoch: String,
    /// Entries.
    pub entries: Vec<Arc<Row>>,
    /// Subscriptions, with whether they are live.
    pub subscriptions: Vec<(i32, Subscription, bool)>,
    /// Includes, with whether they are live.
    pub includes: Vec<(IncludeRow, bool)>,
    /// A limit was reached: rows are missing, and the cursor stands after them all the same.
    pub overflow: bool,
}

type Columns = (
    String,
    String,
    Option<i32>,
    Option<i64>,
    Option<i16>,
    Option<i16>,
    Option<i16>,
    Option<Vec<u8>>,
    Option<bool>,
    Option<Vec<u8>>,
    Option<i64>,
    Option<i64>,
);

statement! {
    Now {} -> (Text, Text) { "SELECT pg_current_snapshot()::text, epoch::text FROM feed" }
}

/// Whether anything may have been committed after `since`: the tail's plan alone costs more than
/// this question, and a quiet database is asked 200 times a second.
pub async fn moved(conn: &mut AsyncPgConnection, since: &Cursor, epoch: &str) -> Result<bool, FeedError> {
    let (snapshot, current): (String, String) = Now {}.get_result(conn).await?;
    let now: Cursor = snapshot.parse().map_err(|_| FeedError::Malformed("pg_current_snapshot"))?;
    Ok(now != *since || !epoch.ends_with(&current))
}

/// Everything that `since` does not see.
pub async fn tail(conn: &mut AsyncPgConnection, since: &Cursor) -> Result<Batch, FeedError> {
    let statement = Tail { xmax: since.xmax(), running: since.running().to_vec() };
    let rows: Vec<Columns> = statement.load(conn).await?;
    let (snapshot, epoch) = match rows.as_slice().first() {
        Some((snapshot, epoch, ..)) => (snapshot.parse(), epoch.clone()),
        None => return Err(FeedError::Malformed("feed")),
    };
    let cursor = snapshot.map_err(|_| FeedError::Malformed("pg_current_snapshot"))?;
    let mut batch = Batch { cursor, epoch, entries: vec![], subscriptions: vec![], includes: vec![], overflow: false };
    for row in rows {
        batch.add(row)?;
    }
    batch.overflow = [batch.entries.len(), batch.subscriptions.len(), batch.includes.len()].iter().any(|&n| n >= LIMIT);
    Ok(batch)
}

/// The statement, for a look at its plan: `xmax` and `running` three times each.
pub fn text() -> String {
    let statement = Tail { xmax: 0, running: vec![] };
    diesel::debug_query::<diesel::pg::Pg, _>(&statement)
        .to_string()
        .split(" -- binds")
        .next()
        .unwrap_or_default()
        .to_owned()
}

impl Batch {
    /// Whether there is nothing but a new cursor.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.subscriptions.is_empty() && self.includes.is_empty()
    }

    fn add(&mut self, row: Columns) -> Result<(), FeedError> {
        match row {
            (
                _,
                _,
                Some(1),
                Some(scope),
                Some(slot),
                None,
                Some(kind),
                Some(key),
                Some(deleted),
                Some(body),
                None,
                Some(xid),
            ) => {
                let body = (!deleted).then_some(body);
                self.entries.push(Arc::new(Row { scope, slot: slot.cast_unsigned(), kind, key, body, xid }));
            }
            (
                _,
                _,
                Some(2),
                Some(scope),
                Some(lo),
                Some(hi),
                Some(role),
                None,
                Some(deleted),
                None,
                Some(host),
                Some(_),
            ) => {
                let host = i32::try_from(host).map_err(|_| FeedError::Malformed("subscriptions.host"))?;
                let row = Subscription { scope, lo: lo.cast_unsigned(), hi: hi.cast_unsigned(), role };
                self.subscriptions.push((host, row, !deleted));
            }
            (_, _, Some(3), Some(scope), Some(slot), None, None, None, Some(deleted), None, Some(target), Some(_)) => {
                let slot = (slot != WHOLE_SCOPE).then_some(slot.cast_unsigned());
                self.includes.push((IncludeRow { scope, slot, target }, !deleted));
            }
            // The left join's row when nothing changed.
            (_, _, None, ..) => {}
            _ => return Err(FeedError::Malformed("the tail")),
        }
        Ok(())
    }
}
