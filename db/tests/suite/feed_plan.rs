//! The tail's plan, with as many rows of one transaction as a full recompile leaves, and with a
//! transaction that runs for long.

use crate::world::{commit, put};
use diesel::sql_types::{Array, BigInt, Text};
use diesel::{QueryableByName, sql_query};
use diesel_async::{RunQueryDsl as _, SimpleAsyncConnection as _};
use mizar_db::feed::Position;
use mizar_db::feed::tail::tail;
use mizar_db::pool::{Use, connect};
use mizar_testkit::TestDb;
use mizar_wire::Scope;

#[derive(QueryableByName)]
struct Line {
    #[diesel(sql_type = Text, column_name = "QUERY PLAN")]
    line: String,
}

/// Many rows that share one transaction: what misleads the planner about the selectivity of xid.
const ROWS: i64 = 300_000;

#[tokio::test]
async fn the_tail_reads_by_transaction_and_never_a_whole_table() -> anyhow::Result<()> {
    let db = TestDb::create().await?;
    let mut conn = db.connect().await?;
    sql_query(
        "INSERT INTO entries (scope, slot, kind, key, body) \
         SELECT (5::bigint << 32) | (n % 1000), n % 4096, 8, int8send(n), '{}' FROM generate_series(1, $1) n",
    )
    .bind::<BigInt, _>(ROWS)
    .execute(&mut conn)
    .await?;
    conn.batch_execute("ANALYZE entries").await?;
    // One that stays open, so that the cursor carries it, and a few that commit after it.
    let mut open = db.connect().await?;
    open.batch_execute("BEGIN; SELECT pg_current_xact_id()").await?;
    commit(&mut conn, &[put(Scope::Host(1), 0, 1, 1)]).await?;
    let at = Position::read(&mut conn).await?;
    assert!(!at.cursor.running().is_empty());
    for n in 0..20 {
        commit(&mut conn, &[put(Scope::Host(1), 0, n, 1)]).await?;
    }

    let mut reader = connect(db.url().to_owned(), Use::Feed).await?;
    assert_eq!(tail(&mut reader, &at.cursor).await?.entries.len(), 20);
    let plan: Vec<Line> = sql_query(format!("EXPLAIN (ANALYZE, BUFFERS) {}", mizar_db::feed::tail::text()))
        .bind::<BigInt, _>(at.cursor.xmax())
        .bind::<Array<BigInt>, _>(at.cursor.running().to_vec())
        .bind::<BigInt, _>(at.cursor.xmax())
        .bind::<Array<BigInt>, _>(at.cursor.running().to_vec())
        .bind::<BigInt, _>(at.cursor.xmax())
        .bind::<Array<BigInt>, _>(at.cursor.running().to_vec())
        .load(&mut reader)
        .await?;
    let plan = plan.into_iter().map(|line| line.line).collect::<Vec<_>>().join("\n");
    assert_eq!(plan.matches("using entries_feed on entries").count(), 2, "{plan}");
    assert!(!plan.contains("Seq Scan on entries") && !plan.contains("entries_scope"), "{plan}");
    let read: u64 = plan
        .lines()
        .find_map(|line| line.trim().strip_prefix("Buffers: "))
        .and_then(|buffers| buffers.split(' ').find_map(|part| part.strip_prefix("hit=")))
        .and_then(|hit| hit.parse().ok())
        .unwrap_or(u64::MAX);
    assert!(read < 200, "{read} pages were read:\n{plan}");
    Ok(())
}
