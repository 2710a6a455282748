//! Migrations, embedded in every binary that needs the schema.

use crate::pool;
use diesel::connection::SimpleConnection as _;
use diesel::migration::{Migration, MigrationSource};
use diesel::pg::Pg;
use diesel::sql_types::{Bool, Text};
use diesel::{QueryableByName, RunQueryDsl as _};
use diesel_async::AsyncPgConnection;
use diesel_async::async_connection_wrapper::AsyncConnectionWrapper;
use diesel_migrations::{EmbeddedMigrations, MigrationHarness as _, embed_migrations};
use std::time::Duration;

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

/// How long a migration waits for a lock. Whoever comes after it waits for it too, so it lets them pass and tries again.
const SOON: &str = "SET lock_timeout = '1s'";

/// A migration that runs outside of a transaction makes an index beside whoever writes: it waits for them, and nobody
/// for it.
const WHENEVER: &str = "SET lock_timeout = 0";

/// Times that a migration is tried: with the pauses, five minutes.
const TRIES: u32 = 100;

/// Between two tries.
const PAUSE: Duration = Duration::from_secs(2);

/// Between two looks whether another process is done.
const LOOK: Duration = Duration::from_millis(100);

/// Brings the schema up to date; returns the migrations that were run. Any number of processes
/// may do it at once: one works, the others wait.
pub async fn migrate(url: &str) -> Result<Vec<String>, MigrateError> {
    let conn = pool::connect_bare(url).await?;
    // On a thread for blocking work: diesel's harness is synchronous, and actix's runtimes are
    // single-threaded.
    tokio::task::spawn_blocking(move || {
        let mut conn = Blocking::from(conn);
        lock(&mut conn)?;
        let pending = conn.pending_migrations(MIGRATIONS).map_err(MigrateError::Migration)?;
        pending.iter().map(|migration| run(&mut conn, migration.as_ref())).collect()
    })
    .await?
}

type Blocking = AsyncConnectionWrapper<AsyncPgConnection>;

#[derive(QueryableByName)]
struct Locked {
    #[diesel(sql_type = Bool)]
    locked: bool,
}

/// Held until the connection closes. Asked for again and again: a statement that waits has a snapshot, and whoever makes
/// an index waits until it is gone.
fn lock(conn: &mut Blocking) -> Result<(), MigrateError> {
    let asked = format!("SELECT pg_try_advisory_lock({LOCK}) AS locked");
    let mut waits = false;
    while !diesel::sql_query(&asked).get_result::<Locked>(conn)?.locked {
        if !waits {
            tracing::info!("another process migrates the database");
            waits = true;
        }
        std::thread::sleep(LOOK);
    }
    Ok(())
}

#[derive(QueryableByName)]
struct Statement {
    #[diesel(sql_type = Text)]
    text: String,
}

/// Whoever was interrupted while he made an index left it unfinished: it serves nobody, and has the name of the one that is
/// to be made.
fn drop_unfinished(conn: &mut Blocking) -> Result<(), MigrateError> {
    let unfinished = "SELECT format('DROP INDEX CONCURRENTLY %s', i.indexrelid::regclass) AS text FROM pg_index i \
        WHERE NOT i.indisvalid AND i.indrelid IN (SELECT format('public.%I', tablename)::regclass FROM pg_tables \
        WHERE schemaname = 'public') AND NOT EXISTS (SELECT FROM pg_stat_progress_create_index p \
        WHERE p.index_relid = i.indexrelid)";
    for Statement { text } in diesel::sql_query(unfinished).load::<Statement>(conn)? {
        conn.batch_execute(&text)?;
    }
    Ok(())
}

/// Processes of before wait for their turn in a statement, and whoever makes an index waits for that: PostgreSQL ends one.
fn met_others(error: &str) -> bool {
    [pool::LOCK_TIMEOUT, "deadlock detected"].iter().any(|met| error.ends_with(met))
}

fn run(conn: &mut Blocking, migration: &dyn Migration<Pg>) -> Result<String, MigrateError> {
    let in_transaction = migration.metadata().run_in_transaction();
    conn.batch_execute(if in_transaction { SOON } else { WHENEVER })?;
    let (name, mut tries) = (migration.name().to_string(), 1);
    loop {
        if !in_transaction {
            drop_unfinished(conn)?;
            tracing::info!(migration = name, "waits for transactions that are open now, and nobody for it");
        }
        match conn.run_migration(migration) {
            Ok(_) => return Ok(name),
            // The harness hides what failed in an error that it keeps to itself: the text must do.
            Err(error) if met_others(&error.to_string()) && tries < TRIES => {
                tracing::info!(migration = name, tries, "others hold a lock that the migration needs: trying again");
                tries += 1;
                std::thread::sleep(PAUSE);
            }
            Err(error) => return Err(MigrateError::Migration(error)),
        }
    }
}

/// Whether the newest migration that this binary knows has been run.
pub async fn is_current(conn: &mut AsyncPgConnection) -> Result<bool, MigrateError> {
    let query = diesel::sql_query("SELECT 1 FROM __diesel_schema_migrations WHERE version = $1");
    let query = query.bind::<Text, _>(newest()?);
    let found = diesel_async::RunQueryDsl::execute(query, conn).await?;
    Ok(found == 1)
}

/// Version of the newest migration, digits only: names the schema that this binary expects.
pub fn newest() -> Result<String, MigrateError> {
    let migrations = MigrationSource::<diesel::pg::Pg>::migrations(&MIGRATIONS).map_err(MigrateError::Migration)?;
    let newest = migrations.iter().map(|migration| migration.name().version().to_string()).max();
    Ok(newest.unwrap_or_default())
}
