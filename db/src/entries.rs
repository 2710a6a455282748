//! Writing the feed: the locks, entries and includes of commands and the scheduler.
//!
//! The order in a transaction is: networks' locks (by VNI), rows (networks, subnets, ports, each
//! by id), then [`apply`] once with all writes. Take a lock in one statement and read in the
//! next: a READ COMMITTED statement that waited sees the locked row anew but nothing else
//! (CONTROLPLANE C1).

use crate::statement::statement;
use diesel::QueryResult;
use diesel::sql_types::{Array, BigInt, Binary, Bool, Integer, SmallInt, Text};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use mizar_compile::Write;
use mizar_wire::entry::{EntryKey, Include};
use mizar_wire::{Body, Scope};
use std::collections::{BTreeMap, BTreeSet};

/// First key of the advisory locks on networks; the second is the VNI.
pub(crate) const NETWORK_LOCK: i32 = 0x6d7a_0001;

/// First key of the advisory lock on which network is the default one.
pub(crate) const DEFAULT_LOCK: i32 = 0x6d7a_0005;

/// First key of the advisory locks on topologies that make themselves; the second is a hash of the project.
pub(crate) const TOPOLOGY_LOCK: i32 = 0x6d7a_0006;

statement! {
    LockShared { class: i32 as Integer, vnis: Vec<i32> as Array<Integer> } -> Text
    { "SELECT pg_advisory_xact_lock_shared(" class ", n)::text FROM unnest(" vnis ") n" }
}

statement! {
    LockExclusive { class: i32 as Integer, vnis: Vec<i32> as Array<Integer> } -> Text
    { "SELECT pg_advisory_xact_lock(" class ", n)::text FROM unnest(" vnis ") n" }
}

fn in_order(vnis: &[u32]) -> Vec<i32> {
    let sorted: BTreeSet<i32> = vnis.iter().map(|vni| vni.cast_signed()).collect();
    sorted.into_iter().collect()
}

/// Locks networks against whoever makes or deletes subnets of them, or removes their
/// subscriptions and includes, until the transaction ends. Every command on a network's ports
/// takes it; any number at once.
pub async fn lock_networks_shared(conn: &mut AsyncPgConnection, vnis: &[u32]) -> QueryResult<()> {
    LockShared { class: NETWORK_LOCK, vnis: in_order(vnis) }.execute(conn).await?;
    Ok(())
}

/// Locks networks against every other command on them until the transaction ends: subnet create
/// and delete, network delete, the janitor. Keep it under 50 ms.
pub async fn lock_networks(conn: &mut AsyncPgConnection, vnis: &[u32]) -> QueryResult<()> {
    LockExclusive { class: NETWORK_LOCK, vnis: in_order(vnis) }.execute(conn).await?;
    Ok(())
}

statement! {
    /// One statement, whatever the number of rows; the rows are sorted, so that two writers of
    /// the same keys wait for each other instead of for ever.
    UpsertEntries {
        scope: Vec<i64> as Array<BigInt>,
        slot: Vec<i16> as Array<SmallInt>,
        kind: Vec<i16> as Array<SmallInt>,
        key: Vec<Vec<u8>> as Array<Binary>,
        body: Vec<Vec<u8>> as Array<Binary>,
        deleted: Vec<bool> as Array<Bool>,
    } -> BigInt
    {
        "INSERT INTO entries (scope, slot, kind, key, body, deleted) SELECT * FROM unnest("
        scope ", " slot ", " kind ", " key ", " body ", " deleted
        ") ON CONFLICT (scope, slot, kind, key) DO UPDATE SET body = excluded.body, \
         deleted = excluded.deleted, changed_at = now()"
    }
}

statement! {
    /// Leaves live rows alone: stamping one anew would send its whole target again, and locking
    /// it would make port creates on one host wait for each other.
    UpsertIncludes {
        scope: Vec<i64> as Array<BigInt>,
        slot: Vec<i16> as Array<SmallInt>,
        target: Vec<i64> as Array<BigInt>,
    } -> BigInt
    {
        "INSERT INTO includes (scope, slot, target) SELECT v.* FROM unnest("
        scope ", " slot ", " target
        ") v (scope, slot, target) WHERE NOT EXISTS (SELECT FROM includes i WHERE i.scope = v.scope \
         AND i.slot = v.slot AND i.target = v.target AND NOT i.deleted) \
         ON CONFLICT (scope, slot, target) DO UPDATE SET deleted = false, last_used = now() \
         WHERE includes.deleted"
    }
}

/// Applies writes, in the caller's transaction. If two of them name one entry, the later wins.
pub async fn apply(conn: &mut AsyncPgConnection, writes: &[Write]) -> QueryResult<()> {
    let mut entries: BTreeMap<&EntryKey, Option<&Body>> = BTreeMap::new();
    let mut includes: BTreeSet<Include> = BTreeSet::new();
    for write in writes {
        match write {
            Write::Put(entry) => entries.insert(&entry.key, Some(&entry.body)),
            Write::Remove(key) => entries.insert(key, None),
            Write::Include(include) => {
                includes.insert(*include);
                continue;
            }
        };
    }
    // In one round trip.
    let conn = &*conn;
    futures::try_join!(upsert_entries(conn, &entries), upsert_includes(conn, &includes))?;
    Ok(())
}

async fn upsert_entries(mut conn: &AsyncPgConnection, entries: &BTreeMap<&EntryKey, Option<&Body>>) -> QueryResult<()> {
    if entries.is_empty() {
        return Ok(());
    }
    let statement = UpsertEntries {
        scope: entries.keys().map(|key| key.scope.to_i64()).collect(),
        slot: entries.keys().map(|key| key.slot.cast_signed()).collect(),
        kind: entries.keys().map(|key| key.kind as i16).collect(),
        key: entries.keys().map(|key| key.key.clone()).collect(),
        body: entries.values().map(|body| body.map(Body::to_bytes).unwrap_or_default()).collect(),
        deleted: entries.values().map(|body| body.is_none()).collect(),
    };
    statement.execute(&mut conn).await?;
    Ok(())
}

async fn upsert_includes(mut conn: &AsyncPgConnection, includes: &BTreeSet<Include>) -> QueryResult<()> {
    if includes.is_empty() {
        return Ok(());
    }
    let statement = UpsertIncludes {
        scope: includes.iter().map(|include| include.scope.to_i64()).collect(),
        slot: includes.iter().map(|include| include.slot.map_or(WHOLE_SCOPE, u16::cast_signed)).collect(),
        target: includes.iter().map(|include| include.target.to_i64()).collect(),
    };
    statement.execute(&mut conn).await?;
    Ok(())
}

/// The `slot` of an include that a whole scope needs.
pub const WHOLE_SCOPE: i16 = -1;

statement! {
    RemoveIncludes {
        scope: Vec<i64> as Array<BigInt>,
        slot: Vec<i16> as Array<SmallInt>,
        target: Vec<i64> as Array<BigInt>,
    } -> BigInt
    {
        "UPDATE includes i SET deleted = true, last_used = now() FROM unnest(" scope ", " slot ", " target
        ") v (scope, slot, target) WHERE i.scope = v.scope AND i.slot = v.slot AND i.target = v.target \
         AND NOT i.deleted"
    }
}

/// Takes includes back, by their column values; only the janitor may. Returns how many there were.
pub(crate) async fn remove_includes(
    conn: &mut AsyncPgConnection,
    includes: impl IntoIterator<Item = (i64, i16, i64)>,
) -> QueryResult<usize> {
    let mut statement = RemoveIncludes { scope: Vec::new(), slot: Vec::new(), target: Vec::new() };
    for (scope, slot, target) in includes {
        statement.scope.push(scope);
        statement.slot.push(slot);
        statement.target.push(target);
    }
    statement.execute(conn).await
}

statement! {
    TombstoneScopes { scopes: Vec<i64> as Array<BigInt> } -> BigInt
    {
        "WITH locked AS MATERIALIZED (SELECT scope, slot, kind, key FROM entries WHERE NOT deleted AND scope = ANY("
        scopes ") ORDER BY scope, slot, kind, key FOR UPDATE) \
         UPDATE entries e SET body = '', deleted = true, changed_at = now() FROM locked l \
         WHERE e.scope = l.scope AND e.slot = l.slot AND e.kind = l.kind AND e.key = l.key"
    }
}

/// Tombstones everything that is left in scopes, in the caller's transaction: what the scheduler
/// does with the scopes of a network or subnet that is gone. Returns how many there were.
pub async fn tombstone_scopes(conn: &mut AsyncPgConnection, scopes: &[Scope]) -> QueryResult<usize> {
    TombstoneScopes { scopes: scopes.iter().map(|scope| scope.to_i64()).collect() }.execute(conn).await
}
