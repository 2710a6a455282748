//! What migrations do with rows when they are taken back.

use diesel::sql_types::{Array, BigInt, Integer};
use diesel::{QueryableByName, sql_query};
use diesel_async::{RunQueryDsl as _, SimpleAsyncConnection as _};
use mizar_testkit::TestDb;
use std::time::{Duration, Instant};

/// One port with labels and a security group, one with labels alone.
const LABELLED: &str = "
    INSERT INTO networks (id, project_id, vni, mtu) VALUES (gen_random_uuid(), gen_random_uuid(), 5000, 1450);
    INSERT INTO security_groups (id, project_id, name, description, stateful, is_default)
        SELECT gen_random_uuid(), project_id, 'g', '', true, false FROM networks;
    INSERT INTO group_sets (groups) SELECT ARRAY[-1, number] FROM security_groups;
    INSERT INTO group_sets (groups) VALUES (ARRAY[-1]);
    INSERT INTO ports (id, project_id, network_id, mac, group_set)
        SELECT gen_random_uuid(), n.project_id, n.id, ('02:00:00:00:00:0' || s.number)::macaddr, s.number
        FROM networks n, group_sets s;
    INSERT INTO port_security_groups SELECT p.id, g.id FROM security_groups g, ports p
        JOIN group_sets s ON s.number = p.group_set AND cardinality(s.groups) = 2;
";

const NO_LABELS: &str = include_str!("../../migrations/2026-11-23-000041_label_policies/down.sql");
const NOT_COMPUTED: &str = include_str!("../../migrations/2026-11-23-000040_sets_computed/down.sql");

#[derive(QueryableByName)]
struct Filter {
    #[diesel(sql_type = Array<Integer>)]
    groups: Vec<i32>,
}

#[tokio::test]
async fn ports_with_labels_are_filtered_by_their_groups_once_label_policies_are_taken_back() -> anyhow::Result<()> {
    let db = TestDb::create().await?;
    let mut conn = db.connect().await?;
    conn.batch_execute(LABELLED).await?;
    conn.batch_execute(&format!("BEGIN; {NO_LABELS} COMMIT; BEGIN; {NOT_COMPUTED} COMMIT;")).await?;
    let filters = "SELECT s.groups FROM ports p JOIN group_sets s ON s.number = p.group_set ORDER BY s.groups";
    let filters: Vec<Filter> = sql_query(filters).load(&mut conn).await?;
    let groups: Vec<Vec<i32>> = filters.into_iter().map(|filter| filter.groups).collect();
    assert_eq!(groups, [vec![], vec![1]]);
    Ok(())
}

/// For the version before, a port without a combination is one that nothing filters.
#[tokio::test]
async fn a_port_whose_combination_is_not_computed_keeps_the_migration_from_being_taken_back() -> anyhow::Result<()> {
    let db = TestDb::create().await?;
    let mut conn = db.connect().await?;
    conn.batch_execute(LABELLED).await?;
    conn.batch_execute(NO_LABELS).await?;
    conn.batch_execute("UPDATE ports SET group_set = NULL").await?;
    let error = conn.batch_execute(NOT_COMPUTED).await.expect_err("they would be open");
    assert!(error.to_string().contains("not computed"), "{error}");
    conn.batch_execute("UPDATE ports SET port_security_enabled = false").await?;
    conn.batch_execute(NOT_COMPUTED).await?;
    Ok(())
}

const LABEL_BOUNDS: &str = include_str!("../../migrations/2026-11-23-000070_label_bounds/down.sql");

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    count: i64,
}

async fn count(db: &TestDb, query: &str) -> anyhow::Result<i64> {
    let counted: Count = sql_query(query).get_result(&mut db.connect().await?).await?;
    Ok(counted.count)
}

async fn until(db: &TestDb, query: &str, wanted: i64) -> anyhow::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(60);
    while count(db, query).await? != wanted {
        anyhow::ensure!(Instant::now() < deadline, "in vain: {query} is {wanted}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

/// As if a migration had not been run.
async fn take_back(db: &TestDb, version: &str, down: &str) -> anyhow::Result<()> {
    let forget = format!("{down}; DELETE FROM __diesel_schema_migrations WHERE version = '{version}'");
    Ok(db.connect().await?.batch_execute(&forget).await?)
}

#[tokio::test]
async fn a_migration_that_waits_for_a_lock_lets_others_pass_and_tries_again() -> anyhow::Result<()> {
    let db = TestDb::create().await?;
    take_back(&db, "20261123000070", LABEL_BOUNDS).await?;
    let mut reader = db.connect().await?;
    // It is idle for longer than others may.
    reader
        .batch_execute("SET idle_in_transaction_session_timeout = 0; BEGIN; LOCK TABLE label_sets IN ACCESS SHARE MODE")
        .await?;
    let url = db.url().to_owned();
    let migrating = tokio::spawn(async move { mizar_db::migrate::migrate(&url).await });
    let waiting = "SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database \
                   WHERE d.datname = current_database() AND l.relation = 'label_sets'::regclass AND NOT l.granted";
    for _ in 0..2 {
        until(&db, waiting, 1).await?;
        until(&db, waiting, 0).await?;
    }
    reader.batch_execute("COMMIT").await?;
    assert_eq!(migrating.await??.len(), 1);
    Ok(())
}

/// Whoever makes an index waits for every snapshot, also that of a process which waits for its turn to migrate.
#[tokio::test]
async fn processes_that_make_an_index_at_once_do_not_wait_for_each_other() -> anyhow::Result<()> {
    let db = TestDb::create().await?;
    // And somebody was interrupted.
    let unfinished = "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'ports_label_project'::regclass";
    take_back(&db, "20261123000081", unfinished).await?;
    let run = (0..3).map(|_| mizar_db::migrate::migrate(db.url()));
    let run: Vec<Vec<String>> = futures::future::try_join_all(run).await?;
    assert_eq!(run.iter().map(Vec::len).sum::<usize>(), 1, "{run:?}");
    assert_eq!(count(&db, "SELECT count(*) FROM pg_index WHERE NOT indisvalid").await?, 0);
    assert_eq!(count(&db, "SELECT count(*) FROM pg_class WHERE relname = 'ports_label_project'").await?, 1);
    Ok(())
}
