//! What nobody else clears away: paths of ports that moved, includes that nothing needs, audit events
//! that are older than they are kept.
//!
//! Commands only ever add includes, since two of them would race for the removal of the last use
//! (CONTROLPLANE C7). The janitor removes, under the network's exclusive lock, what it has seen
//! unused for an hour; how long is its caller's to remember, because a time of last use in the
//! row would be a write for every port.

use super::{Error, fenced, unsigned};
use crate::ledger::{Actor, Event, Ledger};
use crate::statement::statement;
use crate::{DbPool, entries};
use diesel::sql_types::{Array, BigInt, Bool, Integer, Nullable, SmallInt, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use futures::FutureExt;
use mizar_compile::Write;
use mizar_wire::entry::EntryKey;
use mizar_wire::{Kind, Scope};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// Ports that one transaction clears: it holds their rows.
const BATCH: i64 = 200;

statement! {
    ReadMoved { older: i64 as BigInt, most: i64 as BigInt } -> (SqlUuid, Integer)
    {
        "SELECT p.id, n.vni FROM ports p JOIN networks n ON n.id = p.network_id WHERE p.moved_from IS NOT NULL \
         AND p.moved_at < now() - " older " * interval '1 microsecond' ORDER BY p.moved_at LIMIT " most ""
    }
}

statement! {
    ForgetMoved { ids: Vec<Uuid> as Array<SqlUuid>, older: i64 as BigInt } -> (SqlUuid, Integer)
    {
        "WITH locked AS MATERIALIZED (SELECT id, moved_from FROM ports WHERE id = ANY(" ids
        ") AND moved_from IS NOT NULL AND moved_at < now() - " older
        " * interval '1 microsecond' ORDER BY id FOR UPDATE) \
         UPDATE ports p SET moved_from = NULL, moved_at = NULL FROM locked l WHERE p.id = l.id \
         RETURNING p.id, l.moved_from"
    }
}

/// Ends the forwarding at former hosts of ports that moved longer ago than `older`. Returns how
/// many there were, at most a batch.
pub async fn forget_moved(pool: &DbPool, fence: i64, older: Duration) -> Result<usize, Error> {
    let older = i64::try_from(older.as_micros()).unwrap_or(i64::MAX);
    fenced(pool, fence, move |conn| {
        async move {
            let moved: Vec<(Uuid, i32)> = ReadMoved { older, most: BATCH }.load(conn).await?;
            if moved.is_empty() {
                return Ok(0);
            }
            let vnis: Vec<u32> = moved.iter().map(|(_, vni)| vni.cast_unsigned()).collect();
            entries::lock_networks_shared(conn, &vnis).await?;
            let ids = moved.into_iter().map(|(id, _)| id).collect();
            let forgotten: Vec<(Uuid, i32)> = ForgetMoved { ids, older }.load(conn).await?;
            let mut writes = Vec::with_capacity(forgotten.len());
            for (id, host) in &forgotten {
                // The entry that compiling the port no longer yields.
                let scope = Scope::Host(unsigned("ports", "moved_from", *host)?);
                writes.push(Write::Remove(EntryKey {
                    scope,
                    slot: 0,
                    kind: Kind::MovedPort,
                    key: id.as_bytes().to_vec(),
                }));
            }
            entries::apply(conn, &writes).await?;
            Ok(forgotten.len())
        }
        .boxed()
    })
    .await
}

/// An include, by its column values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnusedInclude {
    /// The scope that needed.
    pub scope: i64,
    /// The slot of it.
    pub slot: i16,
    /// What it needed.
    pub target: i64,
    /// VNI of the network that both belong to; `None` = it is gone.
    pub vni: Option<u32>,
}

statement! {
    /// Numbers in scopes: host (2), network by VNI (3), dividers by VNI (4), subnet (5, 6). Those
    /// of security groups are in [`super::groups`].
    FindUnused { every: bool as Bool, targets: Vec<i64> as Array<BigInt> }
        -> (BigInt, SmallInt, BigInt, Nullable<Integer>)
    {
        "SELECT i.scope, i.slot, i.target, CASE i.target >> 32 \
           WHEN 3 THEN (SELECT n.vni FROM networks n WHERE n.vni = i.target & 4294967295) \
           ELSE (SELECT n.vni FROM subnets s JOIN networks n ON n.id = s.network_id \
                 WHERE s.number = i.target & 4294967295) END \
         FROM includes i WHERE NOT i.deleted AND (" every " OR i.target = ANY(" targets
        ")) AND CASE \
           WHEN i.scope >> 32 = 2 AND i.target >> 32 = 3 THEN NOT EXISTS ( \
             SELECT FROM ports p JOIN networks n ON n.id = p.network_id \
             WHERE p.host = i.scope & 4294967295 AND n.vni = i.target & 4294967295) \
           WHEN i.scope >> 32 = 2 AND i.target >> 32 = 6 THEN NOT EXISTS ( \
             SELECT FROM ports p JOIN port_ips a ON a.port_id = p.id JOIN subnets s ON s.id = a.subnet_id \
             WHERE p.host = i.scope & 4294967295 AND s.number = i.target & 4294967295) \
           WHEN i.target >> 32 = 3 THEN NOT EXISTS (SELECT FROM networks n WHERE n.vni = i.target & 4294967295) \
           WHEN i.target >> 32 = 6 THEN NOT EXISTS (SELECT FROM subnets s WHERE s.number = i.target & 4294967295) \
           ELSE false END"
    }
}

async fn find(conn: &mut AsyncPgConnection, targets: Option<Vec<i64>>) -> Result<BTreeSet<UnusedInclude>, Error> {
    let statement = FindUnused { every: targets.is_none(), targets: targets.unwrap_or_default() };
    let rows: Vec<(i64, i16, i64, Option<i32>)> = statement.load(conn).await?;
    let row = |(scope, slot, target, vni): (i64, i16, i64, Option<i32>)| {
        let vni = vni.map(|vni| unsigned("networks", "vni", vni)).transpose()?;
        Ok(UnusedInclude { scope, slot, target, vni })
    };
    rows.into_iter().map(row).collect()
}

/// Includes that nothing needs at this moment.
pub async fn unused(conn: &mut AsyncPgConnection) -> Result<BTreeSet<UnusedInclude>, Error> {
    find(conn, None).await
}

/// Removes those of the includes, all of one network, that are still unused under its exclusive
/// lock. Returns how many.
pub async fn remove(pool: &DbPool, fence: i64, vni: Option<u32>, includes: Vec<UnusedInclude>) -> Result<usize, Error> {
    let includes = Arc::new(includes);
    fenced(pool, fence, move |conn| {
        let includes = Arc::clone(&includes);
        async move {
            if let Some(vni) = vni {
                entries::lock_networks(conn, &[vni]).await?;
            }
            let still = find(conn, Some(includes.iter().map(|i| i.target).collect())).await?;
            let gone = includes.iter().filter(|i| still.contains(i)).map(|i| (i.scope, i.slot, i.target));
            Ok(entries::remove_includes(conn, gone).await?)
        }
        .boxed()
    })
    .await
}

/// Audit events that one transaction takes away.
pub const EXPIRY_BATCH: usize = 5_000;

statement! {
    ExpireAuditEvents { days: i32 as Integer, most: i64 as BigInt } -> BigInt
    { "SELECT expire_audit_events(make_interval(days => " days "), " most ")" }
}

/// Takes away the oldest audit events, if they are so many days old, and says so in the log itself.
/// Returns how many there were, at most a batch. Of the last 30 days the database gives none away.
pub async fn expire_audit_events(pool: &DbPool, fence: i64, days: u32) -> Result<usize, Error> {
    let days = i32::try_from(days).unwrap_or(i32::MAX);
    fenced(pool, fence, move |conn| {
        async move {
            let statement = ExpireAuditEvents { days, most: EXPIRY_BATCH as i64 };
            let gone: i64 = statement.get_result(conn).await?;
            if gone > 0 {
                let mut ledger = Ledger::default();
                ledger.record(Event {
                    action: "expire",
                    object_type: "audit_event",
                    object_id: Uuid::nil(),
                    project: None,
                    changes: serde_json::json!({"count": gone, "days": days}),
                });
                let actor = Actor { user_name: "mizar-scheduler".to_owned(), ..Actor::default() };
                ledger.close(conn, &actor, |_| -1).await?;
            }
            Ok(usize::try_from(gone).unwrap_or_default())
        }
        .boxed()
    })
    .await
}
