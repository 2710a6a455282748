//! Everything that a host needs, page by page.
//!
//! Every page is read in a transaction of its own: the agent syncs from the *first* page's
//! cursor, so whatever changed between the pages is delivered again.

use super::delta::{RangeColumns, RowColumns, RowValues, begin, end, received_now, to_row};
use super::position::Position;
use super::{FeedError, change, from_hex, ranges, to_hex};
use crate::statement::statement;
use diesel::sql_types::{Array, BigInt, Binary, Bool, Integer, SmallInt};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use mizar_wire::sync::SnapshotPage;
use std::fmt;
use std::str::FromStr;

/// Entries of a page, at most.
pub const PAGE: usize = 5_000;

/// Ranges that one statement reads: it may find up to a page in each.
const RANGES: usize = 64;

/// The place of an entry in the order of pages.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct After {
    scope: i64,
    slot: i16,
    kind: i16,
    key: Vec<u8>,
}

/// A text that names no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'after' is the 'next' of a page, unchanged")]
pub struct AfterError;

impl fmt::Display for After {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}.{}", self.scope, self.slot, self.kind, to_hex(&self.key))
    }
}

impl FromStr for After {
    type Err = AfterError;

    fn from_str(text: &str) -> Result<Self, AfterError> {
        let mut parts = text.split('.');
        let (Some(scope), Some(slot), Some(kind), Some(key), None) =
            (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(AfterError);
        };
        Ok(Self {
            scope: scope.parse().map_err(|_| AfterError)?,
            slot: slot.parse().map_err(|_| AfterError)?,
            kind: kind.parse().map_err(|_| AfterError)?,
            key: from_hex(key).ok_or(AfterError)?,
        })
    }
}

statement! {
    PageOf {
        scope: Vec<i64> as Array<BigInt>,
        lo: Vec<i16> as Array<SmallInt>,
        hi: Vec<i16> as Array<SmallInt>,
        after_scope: i64 as BigInt,
        after_slot: i16 as SmallInt,
        after_kind: i16 as SmallInt,
        after_key: Vec<u8> as Binary,
        limit: i64 as BigInt,
    } -> RowColumns
    {
        "SELECT e.scope, e.slot, e.kind, e.key, e.body, e.deleted, e.xid FROM unnest("
        scope ", " lo ", " hi ") r(scope, lo, hi) CROSS JOIN LATERAL (SELECT * FROM entries \
         WHERE scope = r.scope AND slot BETWEEN r.lo AND r.hi AND NOT deleted AND (scope, slot, kind, key) > ("
        after_scope ", " after_slot ", " after_kind ", " after_key
        ") ORDER BY scope, slot, kind, key LIMIT " limit ") e ORDER BY e.scope, e.slot, e.kind, e.key LIMIT " limit ""
    }
}

statement! {
    MayShrink { host: i32 as Integer } -> Bool
    { "SELECT coalesce(shrink_until > now(), false) FROM hosts WHERE number = " host "" }
}

/// The page after a place; the first, without one.
pub async fn page(
    conn: &mut AsyncPgConnection,
    host: i32,
    after: Option<&After>,
    limit: usize,
) -> Result<SnapshotPage, FeedError> {
    begin(conn).await?;
    let read = read_page(conn, host, after, limit.clamp(1, PAGE)).await;
    end(conn).await?;
    read
}

async fn read_page(
    conn: &mut AsyncPgConnection,
    host: i32,
    after: Option<&After>,
    limit: usize,
) -> Result<SnapshotPage, FeedError> {
    let position = Position::read(conn).await?;
    let scopes = ranges(&received_now(conn, host).await?);
    let confirmed: Vec<bool> = MayShrink { host }.load(conn).await?;
    let first = After { scope: i64::MIN, ..After::default() };
    let after = after.unwrap_or(&first);
    // Ranges come sorted; those before the place are done.
    let left: Vec<(i64, u16, u16)> = scopes
        .iter()
        .filter(|range| (range.scope, range.hi.cast_signed()) >= (after.scope, after.slot))
        .map(|range| (range.scope, range.lo, range.hi))
        .collect();
    // One more than asked for: whether there is a next page.
    let mut rows: Vec<RowValues> = Vec::new();
    for some in left.chunks(RANGES) {
        let columns = RangeColumns::of(some.iter().copied());
        let statement = PageOf {
            scope: columns.scope,
            lo: columns.lo,
            hi: columns.hi,
            after_scope: after.scope,
            after_slot: after.slot,
            after_kind: after.kind,
            after_key: after.key.clone(),
            limit: (limit + 1 - rows.len()) as i64,
        };
        rows.extend(statement.load::<RowValues>(conn).await?);
        if rows.len() > limit {
            break;
        }
    }
    let more = rows.len() > limit;
    rows.truncate(limit);
    let last = rows.last().map(|row| After { scope: row.0, slot: row.1, kind: row.2, key: row.3.clone() });
    let entries = rows.into_iter().map(|row| change(&to_row(row))).collect::<Result<_, _>>()?;
    Ok(SnapshotPage {
        epoch: position.epoch,
        cursor: position.cursor.to_string(),
        scopes,
        entries,
        next: last.filter(|_| more).map(|place| place.to_string()),
        confirmed: confirmed.as_slice().first().copied().unwrap_or(false),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_as_it_is_written() {
        let place = After { scope: -3, slot: 4095, kind: 8, key: vec![0, 255, 16] };
        assert_eq!(place.to_string().parse(), Ok(place));
    }

    #[test]
    fn what_is_no_place_is_refused() {
        for text in ["", "1.2.3", "1.2.3.4", "1.2.3.zz", "1.2.3.00.00", "1.99999.3.00", "a.2.3.00"] {
            assert_eq!(text.parse::<After>(), Err(AfterError), "{text}");
        }
    }
}
