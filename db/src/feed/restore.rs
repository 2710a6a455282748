//! Taking over a database that was restored from a dump.
//!
//! Its rows carry transaction ids of the database that they were dumped from. Here these lie in the
//! future, where they look new for ever, or in the past, where agents that are ahead of the dump
//! believe that they have seen them. Which database stamped the rows is written in the table
//! `feed`; whoever starts first on another one stamps all of them anew and changes the epoch, so
//! that every agent begins again from a snapshot and prunes what the dump does not know (the agent
//! guards itself against a snapshot that would take most of its ports).
//!
//! What is derived may be missing from the dump: hosts' subscriptions to themselves are made again
//! and every object is compiled, before any agent is served. Roles that are missing are placed
//! again by the scheduler.
//!
//! Not for physical copies: a promoted standby goes on counting transactions, and its timeline is
//! part of the epoch.

use super::FeedError;
use crate::audit;
use crate::statement::statement;
use diesel::sql_types::{BigInt, Bool};
use diesel_async::{AnsiTransactionManager, AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection, TransactionManager};

statement! {
    /// Another database's stamps, or stamps that this one has not given out yet (data alone was
    /// restored, past the trigger).
    IsForeign {} -> Bool
    {
        "SELECT f.history <> feed_history() OR coalesce(greatest((SELECT max(xid) FROM entries), \
         (SELECT max(xid) FROM subscriptions), (SELECT max(xid) FROM includes)) \
         >= pg_snapshot_xmax(pg_current_snapshot())::text::bigint, false) FROM feed f"
    }
}

statement! {
    LockFeed {} -> BigInt
    { "SELECT horizon FROM feed FOR UPDATE" }
}

/// The time limits of a session are for commands. The order of the locks is that of commands, so
/// that whoever writes meanwhile waits.
const BEGIN: &str = "SET LOCAL lock_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0; \
     LOCK TABLE host_state, entries, includes, subscriptions IN SHARE ROW EXCLUSIVE MODE";

/// The trigger stamps what is updated. Of tombstones nobody needs to hear: there are no cursors.
const STAMP: &str = "DELETE FROM entries WHERE deleted; DELETE FROM subscriptions WHERE deleted; \
     DELETE FROM includes WHERE deleted; \
     UPDATE entries SET xid = 0; UPDATE subscriptions SET xid = 0; UPDATE includes SET xid = 0; \
     INSERT INTO subscriptions (host, scope, role, state) \
       SELECT h.number, s.scope, 1, 2 FROM hosts h, LATERAL (VALUES (1::bigint << 32), (2::bigint << 32 | h.number)) s (scope) \
       ON CONFLICT (host, scope, lo, role) DO NOTHING; \
     UPDATE host_state SET epoch = NULL, cursor = NULL, failures = '[]'";

/// The new history begins.
const SETTLE: &str = "UPDATE feed SET epoch = gen_random_uuid(), horizon = 0, history = feed_history()";

/// Takes the database over if another one stamped its rows. Any number of processes may try at
/// once: one works, the others wait. Whether there was anything to do.
pub async fn adopt(conn: &mut AsyncPgConnection) -> Result<bool, FeedError> {
    let foreign: bool = IsForeign {}.get_result(conn).await?;
    if !foreign {
        return Ok(false);
    }
    AnsiTransactionManager::begin_transaction(conn).await?;
    match stamp(conn).await {
        Ok(done) => {
            AnsiTransactionManager::commit_transaction(conn).await?;
            if done {
                tracing::warn!("the database was restored from a dump: agents begin again from a snapshot");
            }
            Ok(done)
        }
        Err(error) => {
            // If even this fails the connection is broken, and its user finds out.
            if let Err(rollback) = AnsiTransactionManager::rollback_transaction(conn).await {
                tracing::warn!(error = %rollback, "a failed transaction could not be rolled back");
            }
            Err(error)
        }
    }
}

async fn stamp(conn: &mut AsyncPgConnection) -> Result<bool, FeedError> {
    conn.batch_execute("SET LOCAL lock_timeout = 0").await?;
    LockFeed {}.execute(conn).await?;
    // Somebody else may have been faster.
    let foreign: bool = IsForeign {}.get_result(conn).await?;
    if !foreign {
        return Ok(false);
    }
    conn.batch_execute(BEGIN).await?;
    conn.batch_execute(STAMP).await?;
    let compiled = audit::recompile(conn).await?;
    if compiled > 0 {
        tracing::warn!(compiled, "entries that the dump did not have were compiled");
    }
    conn.batch_execute(SETTLE).await?;
    Ok(true)
}
