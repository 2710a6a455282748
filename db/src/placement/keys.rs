//! Cluster keys: rows and entries, always written together.

use super::{Error, fenced};
use crate::schema::cluster_keys;
use crate::statement::statement;
use crate::{DbPool, entries};
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Binary, Nullable, SmallInt};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use futures::FutureExt;
use mizar_compile::{Object, compile};
use mizar_domain::model::ClusterKey;
use std::sync::Arc;
use std::time::Duration;

/// A stored key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredKey {
    /// The key.
    pub key: ClusterKey,
    /// How old it is by the database's clock.
    pub age: Duration,
    /// The transaction that wrote its entry; `None` = it has none, or another one.
    pub xid: Option<i64>,
}

statement! {
    ReadKeys { kind: i16 as SmallInt } -> (SmallInt, Binary, diesel::sql_types::Bool, BigInt, Nullable<Binary>, Nullable<BigInt>)
    {
        "SELECT k.id, k.key, k.signs, (extract(epoch FROM now() - k.created_at) * 1000000)::bigint, e.body, e.xid \
         FROM cluster_keys k LEFT JOIN entries e ON e.scope = 1::bigint << 32 AND NOT e.deleted \
         AND e.key = int4send(k.id) AND e.kind = " kind " ORDER BY k.created_at, k.id"
    }
}

type KeyTuple = (i16, Vec<u8>, bool, i64, Option<Vec<u8>>, Option<i64>);

/// All keys, oldest first.
pub async fn read(conn: &mut AsyncPgConnection) -> Result<Vec<StoredKey>, Error> {
    let statement = ReadKeys { kind: mizar_wire::Kind::ClusterKey as i16 };
    let rows: Vec<KeyTuple> = statement.load(conn).await?;
    let row = |(id, key, signs, age, body, xid): KeyTuple| {
        let corrupt = |column| Error::Corrupt { table: "cluster_keys", column, value: format!("key {id}") };
        let key = ClusterKey {
            id: id.try_into().map_err(|_| corrupt("id"))?,
            key: key.try_into().map_err(|_| corrupt("key"))?,
            signs,
        };
        let expected = compile(Object::ClusterKey(&key)).entries.into_values().next().map(|body| body.to_bytes());
        let xid = xid.filter(|_| body == expected);
        Ok(StoredKey { key, age: super::state::since_epoch(age), xid })
    };
    rows.into_iter().map(row).collect()
}

/// Replaces the keys: those of `old` that are not in `new` go, new ones come, and entries follow.
/// A conflict (another leader was faster) fails the whole.
pub async fn write(pool: &DbPool, fence: i64, old: Vec<ClusterKey>, new: Vec<ClusterKey>) -> Result<(), Error> {
    let (old, new) = (Arc::new(old), Arc::new(new));
    fenced(pool, fence, move |conn| {
        let (old, new) = (Arc::clone(&old), Arc::clone(&new));
        async move {
            let kept = |key: &ClusterKey| new.iter().any(|k| k.id == key.id && k.key == key.key);
            let gone: Vec<i16> = old.iter().filter(|k| !kept(k)).map(|k| k.id.into()).collect();
            diesel::delete(cluster_keys::table.filter(cluster_keys::id.eq_any(gone))).execute(conn).await?;
            for key in new.iter() {
                let id = i16::from(key.id);
                let values = (
                    cluster_keys::id.eq(id),
                    cluster_keys::key.eq(key.key.to_vec()),
                    cluster_keys::signs.eq(key.signs),
                );
                diesel::insert_into(cluster_keys::table)
                    .values(values)
                    .on_conflict(cluster_keys::id)
                    .do_update()
                    .set(cluster_keys::signs.eq(key.signs))
                    .execute(conn)
                    .await?;
            }
            let compiled = |keys: &[ClusterKey]| {
                let mut all = mizar_compile::Compiled::default();
                keys.iter().for_each(|key| all.extend(compile(Object::ClusterKey(key))));
                all
            };
            // Entries that went missing are written again: only what goes is a difference.
            let mut writes = mizar_compile::change(&compiled(&old), &compiled(&new));
            let all = mizar_compile::change(&mizar_compile::Compiled::default(), &compiled(&new));
            writes.retain(|write| matches!(write, mizar_compile::Write::Remove(_)));
            writes.extend(all);
            entries::apply(conn, &writes).await?;
            Ok(())
        }
        .boxed()
    })
    .await
}
