//! Transactions that met others are run again.

use diesel_async::SimpleAsyncConnection as _;
use futures::FutureExt as _;
use mizar_db::pool::Use;
use mizar_db::resources::Failure;
use mizar_testkit::TestDb;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use tokio::sync::Barrier;

#[tokio::test]
async fn a_transaction_that_knows_only_that_a_statement_failed_before_is_run_again() -> anyhow::Result<()> {
    let db = TestDb::create().await?;
    let pool = db.pool(1, Use::Commands)?;
    let runs = Arc::new(AtomicU32::new(0));
    let done: Result<u32, Failure> = pool
        .transaction(move |conn| {
            let runs = Arc::clone(&runs);
            async move {
                let run = runs.fetch_add(1, Ordering::Relaxed);
                if run == 0 {
                    // As with statements that were sent together, of which the second is heard of first.
                    let cause = conn.batch_execute("SELECT 1 / 0").await;
                    assert!(cause.is_err_and(|error| error.to_string().contains("division by zero")));
                }
                conn.batch_execute("SELECT 1").await?;
                Ok(run)
            }
            .boxed()
        })
        .await;
    assert_eq!(done?, 1);
    Ok(())
}

#[tokio::test]
async fn two_transactions_that_wait_for_each_other_both_succeed() -> anyhow::Result<()> {
    let db = TestDb::create().await?;
    let pool = db.pool(2, Use::Commands)?;
    let mut conn = db.connect().await?;
    conn.batch_execute("CREATE TABLE pairs (id int PRIMARY KEY, n int); INSERT INTO pairs VALUES (1, 0), (2, 0)")
        .await?;
    let (met, tries) = (Arc::new(Barrier::new(2)), Arc::new(AtomicU32::new(0)));
    let both = async |first: i32, second: i32| -> Result<(), Failure> {
        let (met, tries) = (Arc::clone(&met), Arc::clone(&tries));
        pool.transaction(move |conn| {
            let (met, tries) = (Arc::clone(&met), Arc::clone(&tries));
            async move {
                let raise = |id: i32| format!("UPDATE pairs SET n = n + 1 WHERE id = {id}");
                conn.batch_execute(&raise(first)).await?;
                // Only the first runs meet; who is run again is alone.
                if tries.fetch_add(1, Ordering::Relaxed) < 2 {
                    met.wait().await;
                }
                conn.batch_execute(&raise(second)).await?;
                Ok(())
            }
            .boxed()
        })
        .await
    };
    futures::try_join!(both(1, 2), both(2, 1))?;
    assert_eq!(tries.load(Ordering::Relaxed), 3, "one of them was the victim, once");
    conn.batch_execute("DO $$ BEGIN ASSERT (SELECT min(n) FROM pairs) = 2; END $$").await?;
    Ok(())
}
