//! How far hosts are behind, compared with what they would be sent.

use crate::world::{commit, host, put, remove, subscribe};
use diesel::sql_types::{Integer, Text};
use diesel_async::{AsyncPgConnection, RunQueryDsl as _};
use mizar_compile::Write;
use mizar_db::feed::lag::lag;
use mizar_db::feed::{Position, delta};
use mizar_testkit::TestDb;
use mizar_wire::Scope;
use mizar_wire::entry::Include;
use std::time::Duration;

fn include(scope: Scope, slot: Option<u16>, target: Scope) -> Write {
    Write::Include(Include { scope, slot, target })
}

/// The host acknowledges everything up to this position.
async fn acknowledge(conn: &mut AsyncPgConnection, host: i32, at: &Position) -> anyhow::Result<()> {
    diesel::sql_query(
        "INSERT INTO host_state (host, boot_id, epoch, cursor, seen_at) VALUES ($1, 'b', $2, $3, now()) \
         ON CONFLICT (host) DO UPDATE SET epoch = excluded.epoch, cursor = excluded.cursor",
    )
    .bind::<Integer, _>(host)
    .bind::<Text, _>(&at.epoch)
    .bind::<Text, _>(at.cursor.to_string())
    .execute(conn)
    .await?;
    Ok(())
}

#[tokio::test]
async fn a_host_lacks_what_a_poll_would_bring_it_and_others_nothing() -> anyhow::Result<()> {
    let db = TestDb::create().await?;
    let mut conn = db.connect().await?;
    let mut hosts = Vec::new();
    for name in ["a", "b", "c", "never"] {
        hosts.push(host(&mut conn, name).await?);
    }
    let [a, b, c, never] = hosts[..] else { anyhow::bail!("four hosts") };
    subscribe(&mut conn, a, Scope::Host(1), (0, 4095), true).await?;
    subscribe(&mut conn, b, Scope::Subnet(7), (0, 2047), true).await?;
    subscribe(&mut conn, c, Scope::Subnet(7), (2048, 4095), true).await?;
    subscribe(&mut conn, never, Scope::Host(1), (0, 4095), true).await?;
    // Includes of whole scopes and of slots, in two steps, and one that is gone.
    let structure = [
        include(Scope::Host(1), None, Scope::Network(5)),
        include(Scope::Network(5), None, Scope::Peers(9)),
        include(Scope::Subnet(7), Some(5), Scope::Group(2)),
        include(Scope::Subnet(7), Some(3000), Scope::Group(3)),
        include(Scope::Group(2), None, Scope::Peers(9)),
        include(Scope::Host(1), None, Scope::Group(3)),
    ];
    commit(&mut conn, &structure).await?;
    diesel::sql_query("UPDATE includes SET deleted = true WHERE scope = $1 AND target = $2")
        .bind::<diesel::sql_types::BigInt, _>(Scope::Host(1).to_i64())
        .bind::<diesel::sql_types::BigInt, _>(Scope::Group(3).to_i64())
        .execute(&mut conn)
        .await?;
    commit(&mut conn, &[put(Scope::Network(5), 0, 1, 1), put(Scope::Subnet(7), 5, 9, 1)]).await?;
    let at = Position::read(&mut conn).await?;
    for host in [a, b, c] {
        acknowledge(&mut conn, host, &at).await?;
    }
    assert_eq!(lag(&mut conn, &hosts).await?, [].into(), "nobody lacks anything");
    let writes = [
        put(Scope::Network(5), 0, 1, 2),
        remove(Scope::Subnet(7), 5, 9),
        put(Scope::Subnet(7), 4095, 10, 1),
        put(Scope::Group(2), 0, 11, 1),
        put(Scope::Group(3), 0, 12, 1),
        put(Scope::Peers(9), 0, 13, 1),
        put(Scope::AddressGroup(4), 0, 14, 1),
    ];
    commit(&mut conn, &writes).await?;
    diesel::sql_query("UPDATE entries SET changed_at = changed_at - interval '1 minute' WHERE slot = 4095")
        .execute(&mut conn)
        .await?;
    let lags = lag(&mut conn, &hosts).await?;
    let mut told = Vec::new();
    for host in [a, b, c] {
        let news = delta::delta(&mut conn, host, Some(&at.epoch), &at.cursor).await?.expect("the cursor is good");
        assert_eq!(lags.get(&host).map(|lag| lag.entries), Some(news.changes.len() as i64), "host {host}");
        told.push(news.changes.len());
    }
    assert_eq!(told, [2, 3, 2]);
    assert!(lags[&c].oldest >= Duration::from_secs(60) && lags[&a].oldest < Duration::from_secs(60), "{lags:?}");
    assert_eq!(lags.get(&never), None, "nobody knows what it holds");
    assert_eq!(lag(&mut conn, &[b]).await?.keys().copied().collect::<Vec<_>>(), [b], "only who is asked about");
    let at = Position::read(&mut conn).await?;
    acknowledge(&mut conn, b, &at).await?;
    assert_eq!(lag(&mut conn, &[b]).await?, [].into());
    Ok(())
}
