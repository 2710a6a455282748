//! Applying writes: one statement, sorted, and locks that keep out what must be kept out.

use crate::world::{commit, put, remove};
use diesel_async::{AsyncPgConnection, SimpleAsyncConnection as _};
use mizar_compile::Write;
use mizar_db::entries::{apply, lock_networks, lock_networks_shared, tombstone_scopes};
use mizar_db::feed::Position;
use mizar_db::feed::tail::{Batch, tail};
use mizar_db::pool::is_lock_timeout;
use mizar_testkit::TestDb;
use mizar_wire::Scope;
use mizar_wire::entry::Include;

async fn since(conn: &mut AsyncPgConnection, at: &Position) -> anyhow::Result<Batch> {
    Ok(tail(conn, &at.cursor).await?)
}

#[tokio::test]
async fn the_later_of_two_writes_of_one_entry_wins() -> anyhow::Result<()> {
    let db = TestDb::create().await?;
    let mut conn = db.connect().await?;
    let at = Position::read(&mut conn).await?;
    let scope = Scope::Host(1);
    commit(&mut conn, &[put(scope, 0, 1, 1), put(scope, 0, 1, 2), put(scope, 0, 2, 1), remove(scope, 0, 2)]).await?;
    let bodies: Vec<bool> = since(&mut conn, &at).await?.entries.iter().map(|row| row.body.is_some()).collect();
    assert_eq!(bodies, [true, false]);
    Ok(())
}

#[tokio::test]
async fn a_removed_include_comes_back_to_life_and_a_live_one_is_left_alone() -> anyhow::Result<()> {
    let db = TestDb::create().await?;
    let mut conn = db.connect().await?;
    let include = Write::Include(Include { scope: Scope::Host(1), slot: Some(3), target: Scope::Network(5) });
    commit(&mut conn, std::slice::from_ref(&include)).await?;
    let at = Position::read(&mut conn).await?;
    commit(&mut conn, std::slice::from_ref(&include)).await?;
    assert!(since(&mut conn, &at).await?.includes.is_empty());
    conn.batch_execute("UPDATE includes SET deleted = true").await?;
    commit(&mut conn, &[include]).await?;
    let batch = since(&mut conn, &at).await?;
    assert_eq!(batch.includes.iter().map(|(_, live)| *live).collect::<Vec<_>>(), [true]);
    Ok(())
}

#[tokio::test]
async fn scopes_of_what_is_gone_are_tombstoned_once() -> anyhow::Result<()> {
    let db = TestDb::create().await?;
    let mut conn = db.connect().await?;
    commit(
        &mut conn,
        &[put(Scope::Network(5), 0, 1, 1), put(Scope::Senders(6), 0, 2, 1), put(Scope::Network(7), 0, 3, 1)],
    )
    .await?;
    assert_eq!(tombstone_scopes(&mut conn, &[Scope::Network(5), Scope::Senders(6)]).await?, 2);
    assert_eq!(tombstone_scopes(&mut conn, &[Scope::Network(5), Scope::Senders(6)]).await?, 0);
    Ok(())
}

#[tokio::test]
async fn writers_of_the_same_keys_in_any_order_do_not_deadlock() -> anyhow::Result<()> {
    let db = TestDb::create().await?;
    let mut tasks = Vec::new();
    for writer in 0..4u32 {
        let mut conn = db.connect().await?;
        tasks.push(tokio::spawn(async move {
            for n in 0..40 {
                let mut writes: Vec<Write> = (0..20).map(|key| put(Scope::Host(key % 3), 0, key, n)).collect();
                writes.rotate_left((writer * 5) as usize);
                if writer % 2 == 0 {
                    writes.reverse();
                }
                commit(&mut conn, &writes).await?;
            }
            anyhow::Ok(())
        }));
    }
    for task in tasks {
        task.await??;
    }
    Ok(())
}

#[tokio::test]
async fn shared_locks_of_a_network_go_together_and_an_exclusive_one_waits() -> anyhow::Result<()> {
    let db = TestDb::create().await?;
    let (mut a, mut b) = (db.connect().await?, db.connect().await?);
    a.batch_execute("BEGIN").await?;
    b.batch_execute("BEGIN").await?;
    lock_networks_shared(&mut a, &[5000, 6000]).await?;
    lock_networks_shared(&mut b, &[6000, 5000]).await?;
    b.batch_execute("COMMIT; BEGIN; SET LOCAL lock_timeout = '50ms'").await?;
    let refused = lock_networks(&mut b, &[6000]).await;
    assert!(refused.is_err_and(|error| is_lock_timeout(&error)));
    b.batch_execute("ROLLBACK; BEGIN").await?;
    lock_networks(&mut b, &[7000]).await?;
    apply(&mut b, &[]).await?;
    Ok(())
}
