//! What migrations do with rows when they are taken back.

use diesel::sql_types::{Array, Integer};
use diesel::{QueryableByName, sql_query};
use diesel_async::{RunQueryDsl as _, SimpleAsyncConnection as _};
use mizar_testkit::TestDb;

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
