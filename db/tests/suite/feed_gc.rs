//! Tombstones, the horizon, restored databases.

use crate::world::{commit, host, put, remove, subscribe};
use chrono::{TimeDelta, Utc};
use diesel_async::SimpleAsyncConnection as _;
use mizar_db::feed::follow::Follower;
use mizar_db::feed::{Gone, Position, delta, gc, restore, tail};
use mizar_db::pool::Use;
use mizar_testkit::TestDb;
use mizar_wire::Scope;
use std::time::{Duration, Instant};

#[tokio::test]
async fn a_cursor_behind_collected_tombstones_is_gone_and_a_newer_one_is_not() -> anyhow::Result<()> {
    let db = TestDb::create().await?;
    let mut conn = db.connect().await?;
    let host = host(&mut conn, "a").await?;
    subscribe(&mut conn, host, Scope::Host(1), (0, 4095), true).await?;
    commit(&mut conn, &[put(Scope::Host(1), 0, 1, 1), put(Scope::Host(1), 0, 2, 1)]).await?;
    let before = Position::read(&mut conn).await?;
    commit(&mut conn, &[remove(Scope::Host(1), 0, 1)]).await?;
    // Transactions of other tests run on the same server: a cursor is beyond the tombstone for
    // good once none of those is left that began before it.
    let written = Position::read(&mut conn).await?.cursor.xmax();
    let mut after = Position::read(&mut conn).await?;
    let deadline = Instant::now() + Duration::from_secs(60);
    while after.cursor.xmin() < written {
        anyhow::ensure!(Instant::now() < deadline, "an older transaction does not end");
        after = Position::read(&mut conn).await?;
    }

    assert_eq!(gc::collect(&mut conn, Utc::now() - TimeDelta::hours(1)).await?, 0, "too young");
    assert!(delta::delta(&mut conn, host, Some(&before.epoch), &before.cursor).await?.is_ok());
    assert_eq!(gc::collect(&mut conn, Utc::now() + TimeDelta::hours(1)).await?, 1);
    assert_eq!(delta::delta(&mut conn, host, Some(&before.epoch), &before.cursor).await?, Err(Gone::Horizon));
    let news = delta::delta(&mut conn, host, Some(&after.epoch), &after.cursor).await?;
    assert!(news.is_ok_and(|news| news.is_empty()));
    Ok(())
}

#[tokio::test]
async fn tombstones_of_subscriptions_and_includes_raise_the_horizon_too() -> anyhow::Result<()> {
    let db = TestDb::create().await?;
    let mut conn = db.connect().await?;
    let host = host(&mut conn, "a").await?;
    let mut horizon = 0;
    for (change, undo) in [
        ("INSERT INTO includes (scope, target) VALUES (1, 2)", "UPDATE includes SET deleted = true, last_used = now()"),
        (
            "INSERT INTO subscriptions (host, scope, role, state) SELECT number, 1, 1, 2 FROM hosts",
            "UPDATE subscriptions SET deleted = true, changed_at = now()",
        ),
    ] {
        conn.batch_execute(change).await?;
        let before = Position::read(&mut conn).await?;
        conn.batch_execute(undo).await?;
        assert_eq!(gc::collect(&mut conn, Utc::now() + TimeDelta::hours(1)).await?, 1);
        assert_eq!(delta::delta(&mut conn, host, Some(&before.epoch), &before.cursor).await?, Err(Gone::Horizon));
        let now = Position::read(&mut conn).await?.horizon;
        assert!(now > horizon);
        horizon = now;
    }
    Ok(())
}

#[tokio::test]
async fn rows_of_another_history_are_stamped_anew_once() -> anyhow::Result<()> {
    let db = TestDb::create().await?;
    let mut conn = db.connect().await?;
    commit(&mut conn, &[put(Scope::Cluster, 0, 7, 1)]).await?;
    let epoch = Position::read(&mut conn).await?.epoch;
    assert!(!restore::adopt(&mut conn).await?, "it is this database's own");
    assert_eq!(Position::read(&mut conn).await?.epoch, epoch);
    // Data alone was restored, past the trigger.
    conn.batch_execute(
        "ALTER TABLE entries DISABLE TRIGGER stamp; UPDATE entries SET xid = 1000000000000; \
         ALTER TABLE entries ENABLE TRIGGER stamp; UPDATE feed SET horizon = 2000000000000",
    )
    .await?;
    let follower = Follower::start(db.url(), db.pool(1, Use::Feed)?).await?;
    let now = Position::read(&mut conn).await?;
    assert!(now.epoch != epoch && now.horizon == 0 && follower.feed().epoch() == now.epoch, "{now:?}");
    assert!(!restore::adopt(&mut conn).await?, "once is enough");
    // An entry that no object has was compiled away; nothing looks new for ever.
    let at = Position::read(&mut conn).await?.cursor;
    let new = tail::tail(&mut conn, &at).await?;
    assert_eq!(new.entries, []);
    Ok(())
}
