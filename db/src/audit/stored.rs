//! Entries and includes as they are stored. Those of kinds and scopes that this version does not
//! know are another version's.

use crate::entries::WHOLE_SCOPE;
use crate::statement::statement;
use diesel::QueryResult;
use diesel::sql_types::{Array, BigInt, Binary, SmallInt};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use mizar_wire::entry::{EntryKey, Include};
use mizar_wire::{Kind, Scope};
use std::collections::{BTreeMap, BTreeSet};

/// Scope, slot, kind, key.
type KeyColumns = (i64, i16, i16, Vec<u8>);

/// The same, and the body.
type BodyColumns = (i64, i16, i16, Vec<u8>, Vec<u8>);

/// The place of an entry in the order of the primary key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place(KeyColumns);

statement! {
    /// Kinds 5 and 9 are placement's.
    ReadPage {
        scope: i64 as BigInt,
        slot: i16 as SmallInt,
        kind: i16 as SmallInt,
        key: Vec<u8> as Binary,
        limit: i64 as BigInt,
    } -> (BigInt, SmallInt, SmallInt, Binary)
    {
        "SELECT scope, slot, kind, key FROM entries WHERE NOT deleted AND kind NOT IN (5, 9) \
         AND (scope, slot, kind, key) > (" scope ", " slot ", " kind ", " key
        ") ORDER BY scope, slot, kind, key LIMIT " limit ""
    }
}

statement! {
    ReadBodies {
        scope: Vec<i64> as Array<BigInt>,
        slot: Vec<i16> as Array<SmallInt>,
        kind: Vec<i16> as Array<SmallInt>,
        key: Vec<Vec<u8>> as Array<Binary>,
    } -> (BigInt, SmallInt, SmallInt, Binary, Binary)
    {
        "SELECT e.scope, e.slot, e.kind, e.key, e.body FROM unnest(" scope ", " slot ", " kind ", " key
        ") k (scope, slot, kind, key) JOIN entries e ON e.scope = k.scope AND e.slot = k.slot AND e.kind = k.kind \
         AND e.key = k.key AND NOT e.deleted"
    }
}

statement! {
    ReadIncludes {
        scope: Vec<i64> as Array<BigInt>,
        slot: Vec<i16> as Array<SmallInt>,
        target: Vec<i64> as Array<BigInt>,
    } -> (BigInt, SmallInt, BigInt)
    {
        "SELECT i.scope, i.slot, i.target FROM unnest(" scope ", " slot ", " target
        ") k (scope, slot, target) JOIN includes i ON i.scope = k.scope AND i.slot = k.slot AND i.target = k.target \
         AND NOT i.deleted"
    }
}

fn key((scope, slot, kind, key): KeyColumns) -> Option<EntryKey> {
    Some(EntryKey { scope: Scope::from_i64(scope)?, slot: slot.cast_unsigned(), kind: Kind::from_i16(kind)?, key })
}

/// Live entries after a place, and the last one's place if there may be more.
pub(super) async fn page(
    conn: &mut AsyncPgConnection,
    after: Option<&Place>,
    limit: i64,
) -> QueryResult<(Vec<EntryKey>, Option<Place>)> {
    let (scope, slot, kind, first) = after.map_or((i64::MIN, 0, 0, Vec::new()), |place| place.0.clone());
    let rows: Vec<KeyColumns> = ReadPage { scope, slot, kind, key: first, limit }.load(conn).await?;
    let last = rows.last().filter(|_| rows.len() as i64 == limit).cloned().map(Place);
    Ok((rows.into_iter().filter_map(key).collect(), last))
}

/// The live ones of entries, with their bodies.
pub(super) async fn bodies(
    conn: &mut AsyncPgConnection,
    keys: impl Iterator<Item = &EntryKey> + Clone,
) -> QueryResult<BTreeMap<EntryKey, Vec<u8>>> {
    let statement = ReadBodies {
        scope: keys.clone().map(|key| key.scope.to_i64()).collect(),
        slot: keys.clone().map(|key| key.slot.cast_signed()).collect(),
        kind: keys.clone().map(|key| key.kind as i16).collect(),
        key: keys.map(|key| key.key.clone()).collect(),
    };
    let rows: Vec<BodyColumns> = statement.load(conn).await?;
    let row = |(scope, slot, kind, bytes, body): BodyColumns| Some((key((scope, slot, kind, bytes))?, body));
    Ok(rows.into_iter().filter_map(row).collect())
}

/// The live ones of includes.
pub(super) async fn includes(
    conn: &mut AsyncPgConnection,
    wanted: impl Iterator<Item = &Include> + Clone,
) -> QueryResult<BTreeSet<Include>> {
    let statement = ReadIncludes {
        scope: wanted.clone().map(|include| include.scope.to_i64()).collect(),
        slot: wanted.clone().map(|include| include.slot.map_or(WHOLE_SCOPE, u16::cast_signed)).collect(),
        target: wanted.map(|include| include.target.to_i64()).collect(),
    };
    let rows: Vec<(i64, i16, i64)> = statement.load(conn).await?;
    let row = |(scope, slot, target): (i64, i16, i64)| {
        let slot = (slot != WHOLE_SCOPE).then_some(slot.cast_unsigned());
        Some(Include { scope: Scope::from_i64(scope)?, slot, target: Scope::from_i64(target)? })
    };
    Ok(rows.into_iter().filter_map(row).collect())
}
