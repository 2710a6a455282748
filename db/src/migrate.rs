//! Migrations, embedded in every binary that needs the schema.

use diesel::migration::MigrationSource;
use diesel::{Connection as _, RunQueryDsl as _};
use diesel_async::AsyncPgConnection;
use diesel_async::async_connection_wrapper::AsyncConnectionWrapper;
use diesel_migrations::{EmbeddedMigrations, MigrationHarness as _, embed_migrations};

const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations");

/// `pg_advisory_lock` key under which migrations run, so that replicas that start together do
/// not run them twice. Any constant that nothing else locks.
const LOCK: i64 = 0x6d69_7a61_725f_6462;

/// Why the schema is not up to date.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// The database is away or refuses us.
    #[error("cannot connect to the database")]
    Connect(#[from] diesel::ConnectionError),
    /// The lock that keeps replicas apart could not be taken.
    #[error("cannot lock the database for migration")]
    Lock(#[from] diesel::result::Error),
    /// A migration failed; its transaction was rolled back.
    #[error("a migration failed")]
    Migration(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The thread that ran them ended early.
    #[error("the migration was interrupted")]
    Interrupted(#[from] tokio::task::JoinError),
}

/// Brings the schema up to date; returns the migrations that were run. Any number of processes
/// may do it at once: one works, the others wait.
pub async fn migrate(url: &str) -> Result<Vec<String>, MigrateError> {
    let url = url.to_owned();
    // On a thread for blocking work: diesel's harness is synchronous, and actix's runtimes are
    // single-threaded.
    tokio::task::spawn_blocking(move || {
        let mut conn = AsyncConnectionWrapper::<AsyncPgConnection>::establish(&url)?;
        // Held until the connection closes, at the end of this function.
        diesel::sql_query(format!("SELECT pg_advisory_lock({LOCK})")).execute(&mut conn)?;
        let run = conn.run_pending_migrations(MIGRATIONS).map_err(MigrateError::Migration)?;
        Ok(run.iter().map(ToString::to_string).collect())
    })
    .await?
}

/// Whether the newest migration that this binary knows has been run.
pub async fn is_current(conn: &mut AsyncPgConnection) -> Result<bool, MigrateError> {
    let query = diesel::sql_query("SELECT 1 FROM __diesel_schema_migrations WHERE version = $1");
    let query = query.bind::<diesel::sql_types::Text, _>(newest()?);
    let found = diesel_async::RunQueryDsl::execute(query, conn).await?;
    Ok(found == 1)
}

/// Version of the newest migration, digits only: names the schema that this binary expects.
pub fn newest() -> Result<String, MigrateError> {
    let migrations = MigrationSource::<diesel::pg::Pg>::migrations(&MIGRATIONS).map_err(MigrateError::Migration)?;
    let newest = migrations.iter().map(|migration| migration.name().version().to_string()).max();
    Ok(newest.unwrap_or_default())
}
