//! What wakes the scheduler: networks and subnets that commands wrote since the last look.
//!
//! A tail of the feed like that of the API (see [`crate::feed`]), of ids alone: every look may
//! come too often, none may come too late. Ports wake nobody; how full subnets are is read with
//! the full state.

use super::Error;
use crate::feed::Cursor;
use crate::statement::statement;
use diesel::sql_types::{Array, BigInt, Binary, Nullable, SmallInt, Text};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use mizar_wire::Kind;
use std::collections::BTreeSet;
use uuid::Uuid;

/// More changes than this at once are not told one by one.
const MOST: usize = 1000;

statement! {
    /// Both arms walk the index (xid, scope); of networks' scopes only the two kinds count.
    ReadChanges {
        xmax: i64 as BigInt,
        running: Vec<i64> as Array<BigInt>,
    } -> (Text, Nullable<SmallInt>, Nullable<Binary>)
    {
        "WITH s AS MATERIALIZED (SELECT pg_current_snapshot()::text AS snap) \
         SELECT s.snap, e.kind, e.key FROM s LEFT JOIN ( \
         (SELECT kind, key FROM entries WHERE xid >= " xmax
        " AND scope >= 3::bigint << 32 AND scope < 4::bigint << 32 AND kind IN (3, 4) LIMIT 1001) \
         UNION ALL SELECT l.* FROM unnest(" running
        ") x (id) CROSS JOIN LATERAL (SELECT kind, key FROM entries WHERE xid = x.id \
         AND scope >= 3::bigint << 32 AND scope < 4::bigint << 32 AND kind IN (3, 4) LIMIT 1001) l) e ON true"
    }
}

/// What changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Networks written or deleted.
    pub networks: BTreeSet<Uuid>,
    /// Subnets written or deleted.
    pub subnets: BTreeSet<Uuid>,
    /// Too many to tell: everything may have changed.
    pub everything: bool,
}

impl Changes {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        !self.everything && self.networks.is_empty() && self.subnets.is_empty()
    }
}

/// Where the tail stands.
#[derive(Debug)]
pub struct Watch {
    cursor: Cursor,
}

impl Watch {
    /// Begins here: what is already committed is for the full read that must follow.
    pub async fn begin(conn: &mut AsyncPgConnection) -> Result<Self, Error> {
        let text: String = ReadSnapshot {}.get_result(conn).await?;
        Ok(Self { cursor: cursor(&text)? })
    }

    /// What has been committed since the last call, and perhaps a little of before.
    pub async fn changes(&mut self, conn: &mut AsyncPgConnection) -> Result<Changes, Error> {
        let statement = ReadChanges { xmax: self.cursor.xmax(), running: self.cursor.running().to_vec() };
        let rows: Vec<(String, Option<i16>, Option<Vec<u8>>)> = statement.load(conn).await?;
        let mut changes = Changes { everything: rows.len() > MOST, ..Changes::default() };
        for (snapshot, kind, key) in rows {
            self.cursor = cursor(&snapshot)?;
            let (Some(kind), Some(key)) = (kind, key) else { continue };
            match Uuid::from_slice(&key) {
                Ok(id) if kind == Kind::Network as i16 => changes.networks.insert(id),
                Ok(id) => changes.subnets.insert(id),
                Err(_) => {
                    changes.everything = true;
                    continue;
                }
            };
        }
        Ok(changes)
    }
}

statement! {
    ReadSnapshot {} -> Text
    { "SELECT pg_current_snapshot()::text" }
}

fn cursor(text: &str) -> Result<Cursor, Error> {
    text.parse().map_err(|_| Error::Corrupt { table: "snapshot", column: "text", value: text.to_owned() })
}
