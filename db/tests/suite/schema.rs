//! The schema module and the migrations say the same.

use diesel::sql_types::Text;
use diesel::{QueryableByName, sql_query};
use diesel_async::RunQueryDsl as _;
use mizar_testkit::TestDb;
use std::collections::BTreeSet;

#[derive(QueryableByName)]
struct ColumnRow {
    #[diesel(sql_type = Text)]
    column: String,
}

/// Tables of the API's own resources stand beside their rules, in `stored!`.
fn stored() -> anyhow::Result<BTreeSet<String>> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../api/src/resources");
    let mut found = BTreeSet::new();
    for file in std::fs::read_dir(folder)? {
        let text = std::fs::read_to_string(file?.path())?;
        let mut table = None;
        for line in text.lines().map(str::trim) {
            if let Some(declared) = line.strip_prefix("pub struct ").filter(|line| line.contains(" in "))
                && let Some((_, rest)) = declared.split_once(" in ")
                && let Some((name, kind)) = rest.trim_end_matches(" {").split_once(": ")
            {
                let added: &[&str] = match kind {
                    "owned" => &[
                        "id: Uuid",
                        "project_id: Uuid",
                        "revision_number: Int8",
                        "created_at: Timestamptz",
                        "updated_at: Timestamptz",
                    ],
                    "common" => {
                        &["id: Uuid", "revision_number: Int8", "created_at: Timestamptz", "updated_at: Timestamptz"]
                    }
                    _ => &["id: Uuid"],
                };
                found.extend(added.iter().map(|column| format!("{name}.{column}")));
                table = Some(name.to_owned());
            } else if line == "}" {
                table = None;
            } else if let Some(table) = &table
                && let Some((column, rest)) = line.trim_end_matches(',').split_once(": ")
                && let Some((_, kind)) = rest.rsplit_once(" as ")
            {
                found.insert(format!("{table}.{column}: {kind}"));
            }
        }
    }
    Ok(found)
}

/// Reads the module's own text: what `table!` declares is not there at run time.
fn declared() -> BTreeSet<String> {
    let text = include_str!("../../src/schema.rs");
    let mut table = String::new();
    let mut found = BTreeSet::new();
    for line in text.lines().map(str::trim) {
        if let Some((name, rest)) = line.split_once(" (")
            && rest.ends_with(") {")
        {
            table = name.to_owned();
        } else if let Some((name, kind)) = line.trim_end_matches(',').split_once(" -> ")
            && !line.contains('!')
        {
            found.insert(format!("{table}.{name}: {kind}"));
        }
    }
    found
}

/// A column of a view counts as one that is never null: PostgreSQL does not say.
#[tokio::test]
async fn schema_module_equals_the_migrated_database() -> anyhow::Result<()> {
    let db = TestDb::create().await?;
    let stored = sql_query(
        "SELECT c.relname || '.' || a.attname || ': ' || \
         CASE WHEN a.attnotnull OR i.indisprimary OR c.relkind = 'v' THEN t.name ELSE 'Nullable<' || t.name || '>' END AS column \
         FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped \
         LEFT JOIN pg_index i ON i.indrelid = c.oid AND i.indisprimary AND a.attnum = ANY(i.indkey) \
         CROSS JOIN LATERAL (SELECT CASE a.atttypid::regtype::text \
           WHEN 'text' THEN 'Text' WHEN 'text[]' THEN 'Array<Text>' WHEN 'uuid' THEN 'Uuid' \
           WHEN 'integer[]' THEN 'Array<Int4>' WHEN 'boolean' THEN 'Bool' WHEN 'smallint' THEN 'Int2' WHEN 'integer' THEN 'Int4' \
           WHEN 'bigint' THEN 'Int8' WHEN 'bytea' THEN 'Bytea' WHEN 'jsonb' THEN 'Jsonb' \
           WHEN 'inet' THEN 'Inet' WHEN 'inet[]' THEN 'Array<Inet>' WHEN 'cidr' THEN 'Cidr' \
           WHEN 'macaddr' THEN 'Macaddr' WHEN 'timestamp with time zone' THEN 'Timestamptz' \
           ELSE a.atttypid::regtype::text END AS name) t \
         WHERE c.relkind IN ('r', 'v') AND c.relnamespace = 'public'::regnamespace AND c.relname <> '__diesel_schema_migrations'",
    )
    .load::<ColumnRow>(&mut db.connect().await?)
    .await?;
    let stored: BTreeSet<String> = stored.into_iter().map(|row| row.column).collect();
    let declared = &declared() | &self::stored()?;
    assert_eq!(
        declared.difference(&stored).collect::<Vec<_>>(),
        Vec::<&String>::new(),
        "declared, not in the database"
    );
    assert_eq!(
        stored.difference(&declared).collect::<Vec<_>>(),
        Vec::<&String>::new(),
        "in the database, not declared"
    );
    Ok(())
}
