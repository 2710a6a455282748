//! What the janitor reads while it holds a row that commands wait for.

use diesel::sql_types::{Integer, Nullable, Text};
use diesel::{QueryableByName, sql_query};
use diesel_async::{RunQueryDsl as _, SimpleAsyncConnection as _};
use mizar_testkit::TestDb;

/// Ports of a hundred projects, on networks that do not matter.
const PORTS: &str = "
    SET session_replication_role = replica;
    INSERT INTO ports (id, project_id, network_id, mac, group_set, host, extras)
        SELECT gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), '02:00:00:00:00:01', 1, 1,
            jsonb_build_object('label_set', jsonb_build_object('project', n % 100, 'number', 1))
        FROM generate_series(1, 20000) n;
    ANALYZE ports;
";

#[derive(QueryableByName)]
struct Line {
    #[diesel(sql_type = Text, column_name = "QUERY PLAN")]
    line: String,
}

#[tokio::test]
async fn of_ports_with_labels_only_those_of_the_project_are_read() -> anyhow::Result<()> {
    let db = TestDb::create().await?;
    let mut conn = db.connect().await?;
    conn.batch_execute(PORTS).await?;
    let plan: Vec<Line> = sql_query(format!("EXPLAIN {}", mizar_db::placement::groups::text()))
        .bind::<Nullable<Integer>, _>(-1)
        .load(&mut conn)
        .await?;
    let plan: Vec<String> = plan.into_iter().map(|line| line.line).collect();
    let found = plan.iter().position(|line| line.contains("Index Cond") && line.contains("label_set"));
    let by = found.and_then(|at| plan.get(at.checked_sub(1)?));
    assert!(by.is_some_and(|by| by.contains("ports_label_project")), "{}", plan.join("\n"));
    Ok(())
}
