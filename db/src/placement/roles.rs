//! Writing roles and maps, one network at a time, under its lock.

use super::state::{Phase, RoleKey};
use super::{Error, fenced};
use crate::statement::statement;
use crate::{DbPool, entries};
use diesel::sql_types::{Array, BigInt, Bool, Integer, SmallInt, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use futures::FutureExt;
use mizar_compile::Write;
use mizar_wire::Scope;
use std::collections::BTreeMap;
use std::sync::Arc;
use uuid::Uuid;

/// The new state of a role: last slot and phase; `None` = gone.
pub type RoleChange = Option<(u16, Phase)>;

/// What changes for one network.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NetworkChange {
    /// The network.
    pub network: Uuid,
    /// Its VNI.
    pub vni: u32,
    /// Subnets that the change rests on.
    pub subnets: Vec<Uuid>,
    /// Roles.
    pub roles: BTreeMap<RoleKey, RoleChange>,
    /// Shard maps and divider sets.
    pub writes: Vec<Write>,
}

/// Whether a change was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is committed.
    Done,
    /// The network or a subnet is no longer there; nothing was written.
    Outdated,
}

statement! {
    CountStanding { network: Uuid as SqlUuid, vni: i32 as Integer, subnets: Vec<Uuid> as Array<SqlUuid> }
        -> (Bool, BigInt)
    {
        "SELECT EXISTS (SELECT FROM networks WHERE id = " network " AND vni = " vni
        "), (SELECT count(*) FROM subnets WHERE id = ANY(" subnets "))"
    }
}

statement! {
    UpsertRoles {
        host: Vec<i32> as Array<Integer>,
        scope: Vec<i64> as Array<BigInt>,
        lo: Vec<i16> as Array<SmallInt>,
        hi: Vec<i16> as Array<SmallInt>,
        role: Vec<i16> as Array<SmallInt>,
        state: Vec<i16> as Array<SmallInt>,
        deleted: Vec<bool> as Array<Bool>,
    } -> BigInt
    {
        "INSERT INTO subscriptions (host, scope, lo, hi, role, state, deleted) SELECT * FROM unnest("
        host ", " scope ", " lo ", " hi ", " role ", " state ", " deleted
        ") ON CONFLICT (host, scope, lo, role) DO UPDATE SET hi = excluded.hi, state = excluded.state, \
         deleted = excluded.deleted, changed_at = now()"
    }
}

/// Writes a change, if what it rests on still stands. The shared lock keeps it standing until the
/// commit: networks and subnets are deleted under the exclusive one.
pub async fn apply(pool: &DbPool, fence: i64, change: NetworkChange) -> Result<Outcome, Error> {
    let change = Arc::new(change);
    fenced(pool, fence, move |conn| {
        let change = Arc::clone(&change);
        async move {
            entries::lock_networks_shared(conn, &[change.vni]).await?;
            let statement = CountStanding {
                network: change.network,
                vni: change.vni.cast_signed(),
                subnets: change.subnets.clone(),
            };
            let (network, subnets): (bool, i64) = statement.get_result(conn).await?;
            if !network || subnets != change.subnets.len() as i64 {
                return Ok(Outcome::Outdated);
            }
            upsert(conn, &change.roles).await?;
            entries::apply(conn, &change.writes).await?;
            Ok(Outcome::Done)
        }
        .boxed()
    })
    .await
}

async fn upsert(conn: &mut AsyncPgConnection, roles: &BTreeMap<RoleKey, RoleChange>) -> Result<(), Error> {
    if roles.is_empty() {
        return Ok(());
    }
    // A role that goes keeps the range it had: the column says nothing once it is deleted.
    let gone = |key: &RoleKey| (key.lo, Phase::Draining);
    let state = |(key, change): (&RoleKey, &RoleChange)| change.unwrap_or_else(|| gone(key));
    let statement = UpsertRoles {
        host: roles.keys().map(|key| key.host.cast_signed()).collect(),
        scope: roles.keys().map(|key| key.scope.to_i64()).collect(),
        lo: roles.keys().map(|key| key.lo.cast_signed()).collect(),
        hi: roles.iter().map(|role| state(role).0.cast_signed()).collect(),
        role: roles.keys().map(|key| key.role as i16).collect(),
        state: roles.iter().map(|role| state(role).1 as i16).collect(),
        deleted: roles.values().map(Option::is_none).collect(),
    };
    statement.execute(conn).await?;
    Ok(())
}

/// What is left of a deleted network or subnet.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Remains {
    /// Ids that must be gone.
    pub ids: Vec<Uuid>,
    /// Scopes whose roles and entries go.
    pub scopes: Vec<Scope>,
    /// Further entries that go.
    pub writes: Vec<Write>,
}

statement! {
    CountBack { networks: Vec<Uuid> as Array<SqlUuid>, subnets: Vec<Uuid> as Array<SqlUuid> } -> BigInt
    {
        "SELECT (SELECT count(*) FROM networks WHERE id = ANY(" networks
        ")) + (SELECT count(*) FROM subnets WHERE id = ANY(" subnets "))"
    }
}

statement! {
    TombstoneRoles { scopes: Vec<i64> as Array<BigInt> } -> BigInt
    {
        "UPDATE subscriptions SET deleted = true, changed_at = now() \
         WHERE NOT deleted AND role IN (2, 3) AND scope = ANY(" scopes ")"
    }
}

/// Tombstones what is left of a network or subnet that is gone. No lock: its deletion is
/// committed, so no command can write for it any more.
pub async fn bury(pool: &DbPool, fence: i64, remains: Remains) -> Result<Outcome, Error> {
    let remains = Arc::new(remains);
    fenced(pool, fence, move |conn| {
        let remains = Arc::clone(&remains);
        async move {
            let statement = CountBack { networks: remains.ids.clone(), subnets: remains.ids.clone() };
            if statement.get_result::<i64>(conn).await? > 0 {
                return Ok(Outcome::Outdated);
            }
            TombstoneRoles { scopes: remains.scopes.iter().map(|s| s.to_i64()).collect() }.execute(conn).await?;
            entries::tombstone_scopes(conn, &remains.scopes).await?;
            entries::apply(conn, &remains.writes).await?;
            Ok(Outcome::Done)
        }
        .boxed()
    })
    .await
}
