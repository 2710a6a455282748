//! What the tests of the feed set up and look at.

use diesel::sql_types::{BigInt, Bool, Integer, SmallInt, Text};
use diesel::{QueryableByName, sql_query};
use diesel_async::{AsyncPgConnection, RunQueryDsl as _, SimpleAsyncConnection as _};
use mizar_compile::Write;
use mizar_db::feed::News;
use mizar_wire::entry::{Change, Entry, EntryKey};
use mizar_wire::{Body, Kind, Scope, body};
use std::collections::BTreeMap;

/// A host, subscribed to nothing; returns its number.
pub async fn host(conn: &mut AsyncPgConnection, name: &str) -> anyhow::Result<i32> {
    #[derive(QueryableByName)]
    struct Number {
        #[diesel(sql_type = Integer)]
        number: i32,
    }
    let row: Number = sql_query(
        "INSERT INTO hosts (id, name, underlay, mtu, az, rack) \
         SELECT gen_random_uuid(), $1, '10.0.0.0'::inet + (SELECT count(*) FROM hosts), 1500, 'a', 'r' RETURNING number",
    )
    .bind::<Text, _>(name)
    .get_result(conn)
    .await?;
    Ok(row.number)
}

/// Subscribes a host to slots of a scope, or takes the subscription back.
pub async fn subscribe(
    conn: &mut AsyncPgConnection,
    host: i32,
    scope: Scope,
    (lo, hi): (i16, i16),
    live: bool,
) -> anyhow::Result<()> {
    sql_query(
        "INSERT INTO subscriptions (host, scope, lo, hi, role, state, deleted) VALUES ($1, $2, $3, $4, 2, 2, $5) \
         ON CONFLICT (host, scope, lo, role) DO UPDATE SET hi = excluded.hi, deleted = excluded.deleted, changed_at = now()",
    )
    .bind::<Integer, _>(host)
    .bind::<BigInt, _>(scope.to_i64())
    .bind::<SmallInt, _>(lo)
    .bind::<SmallInt, _>(hi)
    .bind::<Bool, _>(!live)
    .execute(conn)
    .await?;
    Ok(())
}

/// An entry whose body tells one version from another.
pub fn entry(scope: Scope, slot: u16, key: u32, version: u32) -> Entry {
    let body = Body::ClusterKey(body::ClusterKey { id: 1, key: format!("{version}"), signs: false });
    Entry { key: EntryKey { scope, slot, kind: Kind::ClusterKey, key: key.to_be_bytes().to_vec() }, body }
}

pub fn put(scope: Scope, slot: u16, key: u32, version: u32) -> Write {
    Write::Put(entry(scope, slot, key, version))
}

pub fn remove(scope: Scope, slot: u16, key: u32) -> Write {
    Write::Remove(entry(scope, slot, key, 0).key)
}

type Place = (i64, u16, i16, String);

/// What an agent holds, by what it was told.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Held(pub BTreeMap<Place, serde_json::Value>);

impl Held {
    pub fn hear(&mut self, news: &News) {
        for range in news.dropped.iter().chain(&news.added) {
            self.0.retain(|&(scope, slot, ..), _| scope != range.scope || slot < range.lo || slot > range.hi);
        }
        for change in &news.changes {
            self.change(change);
        }
    }

    pub fn change(&mut self, change: &Change) {
        let place = (change.scope, change.slot, change.kind, change.key.clone());
        match &change.body {
            Some(body) => self.0.insert(place, body.clone()),
            None => self.0.remove(&place),
        };
    }

    /// Everything that a host is to hold, by an independent reading of the tables.
    pub async fn truth(conn: &mut AsyncPgConnection, host: i32) -> anyhow::Result<Self> {
        #[derive(QueryableByName)]
        struct Stored {
            #[diesel(sql_type = BigInt)]
            scope: i64,
            #[diesel(sql_type = SmallInt)]
            slot: i16,
            #[diesel(sql_type = SmallInt)]
            kind: i16,
            #[diesel(sql_type = Text)]
            key: String,
            #[diesel(sql_type = Text)]
            body: String,
        }
        let rows: Vec<Stored> = sql_query(
            "WITH RECURSIVE r(scope, slot) AS (\
               SELECT s.scope, g.slot FROM subscriptions s, generate_series(s.lo::int, s.hi::int) g(slot) \
                WHERE s.host = $1 AND NOT s.deleted \
               UNION SELECT i.target, g.slot FROM r JOIN includes i ON i.scope = r.scope AND NOT i.deleted \
                 AND i.slot IN (-1, r.slot), generate_series(0, 4095) g(slot)) \
             SELECT DISTINCT e.scope, e.slot, e.kind, encode(e.key, 'hex') AS key, convert_from(e.body, 'UTF8') AS body \
             FROM r JOIN entries e ON e.scope = r.scope AND e.slot = r.slot WHERE NOT e.deleted",
        )
        .bind::<Integer, _>(host)
        .load(conn)
        .await?;
        let held = rows.into_iter().map(|row| {
            Ok(((row.scope, row.slot.cast_unsigned(), row.kind, row.key), serde_json::from_str(&row.body)?))
        });
        Ok(Self(held.collect::<anyhow::Result<_>>()?))
    }
}

/// Runs writes in a transaction of their own.
pub async fn commit(conn: &mut AsyncPgConnection, writes: &[Write]) -> anyhow::Result<()> {
    conn.batch_execute("BEGIN").await?;
    mizar_db::entries::apply(conn, writes).await?;
    Ok(conn.batch_execute("COMMIT").await?)
}
