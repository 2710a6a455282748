//! One host's part of the feed since its cursor, from the tables, in one REPEATABLE READ READ
//! ONLY transaction.
//!
//! The tables hold rows as they are, not as they were, so what the host received at its cursor is
//! known only within bounds. Rows that the cursor saw have not changed since: what they alone
//! give is certain (`sure`). Live rows, and tombstones that the cursor has not seen, give at most
//! what it received (`possible`). So a range arrives whole unless it was surely received, and is
//! dropped if it was possibly received and no longer is: an agent may be sent what it holds, or
//! told to drop what it never had, and neither does harm; it never misses a row or keeps one.

use super::cursor::Cursor;
use super::position::{Gone, Position};
use super::scopes::{self, Effective, Includes};
use super::slots::LAST;
use super::tail::Row;
use super::{FeedError, MOST_CHANGES, News, change, ranges};
use crate::entries::WHOLE_SCOPE;
use crate::statement::statement;
use diesel::sql_types::{Array, BigInt, Binary, Bool, Integer, SmallInt};
use diesel_async::{AnsiTransactionManager, AsyncPgConnection, RunQueryDsl, TransactionManager};

statement! {
    SubscriptionsOf { host: i32 as Integer } -> (BigInt, SmallInt, SmallInt, Bool, BigInt)
    { "SELECT scope, lo, hi, deleted, xid FROM subscriptions WHERE host = " host "" }
}

statement! {
    /// All that can be reached, deleted or not, by whichever slot: the exact answer is computed
    /// from these rows.
    IncludesFrom { scopes: Vec<i64> as Array<BigInt> } -> (BigInt, SmallInt, BigInt, Bool, BigInt)
    {
        "WITH RECURSIVE r(scope) AS (SELECT unnest(" scopes ") UNION \
         SELECT i.target FROM r JOIN includes i ON i.scope = r.scope) \
         SELECT i.scope, i.slot, i.target, i.deleted, i.xid FROM r JOIN includes i ON i.scope = r.scope"
    }
}

pub(super) type RowColumns = (BigInt, SmallInt, SmallInt, Binary, Binary, Bool, BigInt);

statement! {
    /// As the tail, for some ranges of scopes.
    NewIn {
        scope: Vec<i64> as Array<BigInt>,
        lo: Vec<i16> as Array<SmallInt>,
        hi: Vec<i16> as Array<SmallInt>,
        xmax: i64 as BigInt,
        running: Vec<i64> as Array<BigInt>,
        limit: i64 as BigInt,
    } -> RowColumns
    {
        "SELECT e.scope, e.slot, e.kind, e.key, e.body, e.deleted, e.xid FROM unnest("
        scope ", " lo ", " hi ") r(scope, lo, hi) CROSS JOIN LATERAL (\
         SELECT * FROM entries WHERE scope = r.scope AND xid >= " xmax " AND slot BETWEEN r.lo AND r.hi \
         UNION ALL SELECT l.* FROM unnest(" running ") x(id) CROSS JOIN LATERAL (\
         SELECT * FROM entries WHERE scope = r.scope AND xid = x.id AND slot BETWEEN r.lo AND r.hi) l\
         ) e LIMIT " limit ""
    }
}

statement! {
    /// Everything live in some ranges of scopes.
    LiveIn {
        scope: Vec<i64> as Array<BigInt>,
        lo: Vec<i16> as Array<SmallInt>,
        hi: Vec<i16> as Array<SmallInt>,
        limit: i64 as BigInt,
    } -> RowColumns
    {
        "SELECT e.scope, e.slot, e.kind, e.key, e.body, e.deleted, e.xid FROM unnest("
        scope ", " lo ", " hi ") r(scope, lo, hi) JOIN entries e \
         ON e.scope = r.scope AND e.slot BETWEEN r.lo AND r.hi AND NOT e.deleted LIMIT " limit ""
    }
}

/// What a host received at its cursor, within bounds, and receives now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Received {
    /// Certainly at the cursor.
    pub sure: Effective,
    /// At most at the cursor.
    pub possible: Effective,
    /// Now.
    pub now: Effective,
}

/// A row of `subscriptions` of one host.
type SubscriptionRow = (i64, i16, i16, bool, i64);
/// A row of `includes`.
type IncludeColumns = (i64, i16, i64, bool, i64);

impl Received {
    async fn read(conn: &mut AsyncPgConnection, host: i32, since: Option<&Cursor>) -> Result<Self, FeedError> {
        let subscriptions: Vec<SubscriptionRow> = SubscriptionsOf { host }.load(conn).await?;
        let scopes = subscriptions.iter().map(|row| row.0).collect();
        let includes: Vec<IncludeColumns> = IncludesFrom { scopes }.load(conn).await?;
        Ok(Self::of(&subscriptions, &includes, since))
    }

    /// Pure part: bounds from rows.
    fn of(subscriptions: &[SubscriptionRow], includes: &[IncludeColumns], since: Option<&Cursor>) -> Self {
        let seen = |xid: i64| since.is_some_and(|cursor| cursor.sees(xid));
        let closure = |wanted: &dyn Fn(bool, i64) -> bool, widened: bool| {
            let ranges = subscriptions.iter().filter(|row| wanted(row.3, row.4)).map(|&(scope, lo, hi, _, xid)| {
                // A row that changed may have had another end: its key has only the beginning.
                let hi = if widened && !seen(xid) { LAST } else { hi.cast_unsigned() };
                (scope, lo.cast_unsigned(), hi)
            });
            let mut needs = Includes::new();
            for &(scope, slot, target, deleted, xid) in includes {
                if wanted(deleted, xid) {
                    let slot = (slot != WHOLE_SCOPE).then_some(slot.cast_unsigned());
                    needs.entry(scope).or_default().insert((slot, target));
                }
            }
            scopes::effective(ranges, &needs)
        };
        Self {
            sure: closure(&|deleted, xid| !deleted && seen(xid), false),
            possible: closure(&|deleted, xid| !deleted || !seen(xid), true),
            now: closure(&|deleted, _| !deleted, false),
        }
    }
}

/// Scopes of a host as of now, for snapshots.
pub(super) async fn received_now(conn: &mut AsyncPgConnection, host: i32) -> Result<Effective, FeedError> {
    Ok(Received::read(conn, host, None).await?.now)
}

/// The columns of a statement over ranges.
pub(super) struct RangeColumns {
    pub scope: Vec<i64>,
    pub lo: Vec<i16>,
    pub hi: Vec<i16>,
}

impl RangeColumns {
    pub fn of(ranges: impl IntoIterator<Item = (i64, u16, u16)>) -> Self {
        let mut columns = Self { scope: vec![], lo: vec![], hi: vec![] };
        for (scope, lo, hi) in ranges {
            columns.scope.push(scope);
            columns.lo.push(lo.cast_signed());
            columns.hi.push(hi.cast_signed());
        }
        columns
    }

    fn whole(scopes: &Effective) -> Self {
        Self::of(ranges(scopes).into_iter().map(|range| (range.scope, range.lo, range.hi)))
    }
}

/// What `host` has not heard since `cursor`, or why it must begin again.
pub async fn delta(
    conn: &mut AsyncPgConnection,
    host: i32,
    epoch: Option<&str>,
    cursor: &Cursor,
) -> Result<Result<News, Gone>, FeedError> {
    begin(conn).await?;
    let read = read_delta(conn, host, epoch, cursor).await;
    end(conn).await?;
    read
}

async fn read_delta(
    conn: &mut AsyncPgConnection,
    host: i32,
    epoch: Option<&str>,
    cursor: &Cursor,
) -> Result<Result<News, Gone>, FeedError> {
    let position = Position::read(conn).await?;
    if let Some(gone) = position.refuses(epoch, cursor) {
        return Ok(Err(gone));
    }
    let received = Received::read(conn, host, Some(cursor)).await?;
    let added = scopes::difference(&received.now, &received.sure);
    let dropped = scopes::difference(&received.possible, &received.now);
    let kept = scopes::difference(&received.now, &added);
    let limit = MOST_CHANGES as i64 + 1;

    let columns = RangeColumns::whole(&kept);
    let statement = NewIn {
        scope: columns.scope,
        lo: columns.lo,
        hi: columns.hi,
        xmax: cursor.xmax(),
        running: cursor.running().to_vec(),
        limit,
    };
    let mut rows: Vec<RowValues> = statement.load(conn).await?;
    let columns = RangeColumns::whole(&added);
    let statement = LiveIn { scope: columns.scope, lo: columns.lo, hi: columns.hi, limit };
    rows.extend(statement.load::<RowValues>(conn).await?);
    if rows.len() > MOST_CHANGES {
        return Ok(Err(Gone::TooMuch));
    }
    let changes = rows.into_iter().map(|row| change(&to_row(row))).collect::<Result<_, _>>()?;
    Ok(Ok(News {
        cursor: position.cursor,
        epoch: position.epoch,
        changes,
        added: ranges(&added),
        dropped: ranges(&dropped),
    }))
}

/// The values of [`RowColumns`].
pub(super) type RowValues = (i64, i16, i16, Vec<u8>, Vec<u8>, bool, i64);

pub(super) fn to_row((scope, slot, kind, key, body, deleted, xid): RowValues) -> Row {
    Row { scope, slot: slot.cast_unsigned(), kind, key, body: (!deleted).then_some(body), xid }
}

/// One snapshot for all that follows.
pub(super) async fn begin(conn: &mut AsyncPgConnection) -> Result<(), FeedError> {
    let sql = "BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY";
    Ok(AnsiTransactionManager::begin_transaction_sql(conn, sql).await?)
}

/// Nothing was written, so there is nothing to commit.
pub(super) async fn end(conn: &mut AsyncPgConnection) -> Result<(), FeedError> {
    Ok(AnsiTransactionManager::rollback_transaction(conn).await?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feed::slots::Slots;

    fn cursor() -> Cursor {
        "10:10:".parse().expect("a cursor")
    }

    fn ranges_of(scopes: &Effective) -> Vec<(i64, u16, u16)> {
        ranges(scopes).into_iter().map(|range| (range.scope, range.lo, range.hi)).collect()
    }

    #[test]
    fn a_new_include_is_added_whole_and_an_old_one_is_sure() {
        let got =
            Received::of(&[(1, 0, 4095, false, 5)], &[(1, -1, 2, false, 5), (1, -1, 3, false, 12)], Some(&cursor()));
        assert_eq!(ranges_of(&scopes::difference(&got.now, &got.sure)), [(3, 0, LAST)]);
        assert_eq!(ranges_of(&scopes::difference(&got.possible, &got.now)), []);
    }

    #[test]
    fn a_deleted_include_drops_its_target_unless_another_way_leads_there() {
        let subscriptions = [(1, 0, 4095, false, 5)];
        let gone = [(1, -1, 2, true, 12), (2, -1, 3, false, 5)];
        let got = Received::of(&subscriptions, &gone, Some(&cursor()));
        assert_eq!(ranges_of(&scopes::difference(&got.possible, &got.now)), [(2, 0, LAST), (3, 0, LAST)]);
        let held = [(1, -1, 2, true, 12), (2, -1, 3, false, 5), (1, -1, 3, false, 5)];
        let got = Received::of(&subscriptions, &held, Some(&cursor()));
        assert_eq!(ranges_of(&scopes::difference(&got.possible, &got.now)), [(2, 0, LAST)]);
    }

    #[test]
    fn a_removal_that_the_cursor_saw_is_not_dropped_again() {
        let got = Received::of(&[(1, 0, 4095, true, 5)], &[], Some(&cursor()));
        assert_eq!(got, Received::default());
    }

    #[test]
    fn a_shortened_subscription_drops_its_end() {
        let got = Received::of(&[(1, 0, 9, false, 12)], &[], Some(&cursor()));
        assert_eq!(ranges_of(&scopes::difference(&got.possible, &got.now)), [(1, 10, LAST)]);
        assert_eq!(got.now.get(&1), Some(&Slots::range(0, 9)));
    }
}
