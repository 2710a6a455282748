//! What the scheduler reads and writes: leadership, the state that placement decides on, roles,
//! cluster keys, leases, and what its janitor clears away.
//!
//! Every write of a scheduler goes through [`fenced`]: it locks the row of table `leader` FOR
//! SHARE and compares the fence that the scheduler got when it was elected. A successor raises
//! the fence before it does anything, and so waits for writes under way and outdates all later
//! ones, even if its predecessor believes for a while that it still leads.

pub mod auditor;
pub mod changes;
pub mod condition;
pub mod groups;
pub mod janitor;
pub mod keys;
pub mod leader;
pub mod leases;
pub mod roles;
pub mod state;

use crate::DbPool;
use crate::pool::{Conflict, PoolError, is_conflict};
use diesel_async::AsyncPgConnection;
use futures::FutureExt;
use futures::future::BoxFuture;

/// Why the scheduler could not do what it wanted.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another scheduler leads: this one must stop.
    #[error("deposed: fence {ours} was replaced by {theirs}")]
    Deposed {
        /// The fence of this scheduler.
        ours: i64,
        /// The fence in force.
        theirs: i64,
    },
    /// A stored value is not what this program ever writes.
    #[error("column {column} of {table} holds {value:?}, which cannot be read")]
    Corrupt {
        /// Where.
        table: &'static str,
        /// Where in it.
        column: &'static str,
        /// What.
        value: String,
    },
    /// What is stored could not be compared with what it should be.
    #[error(transparent)]
    Audit(#[from] crate::audit::AuditError),
    /// No connection.
    #[error("the database cannot be reached")]
    Pool(#[from] PoolError),
    /// No connection of one's own.
    #[error("the database cannot be reached")]
    Connect(#[from] diesel::ConnectionError),
    /// A statement failed.
    #[error("a database statement failed")]
    Database(#[from] diesel::result::Error),
}

impl Conflict for Error {
    fn is_conflict(&self) -> bool {
        match self {
            Self::Database(error) | Self::Audit(crate::audit::AuditError::Database(error)) => is_conflict(error),
            _ => false,
        }
    }
}

/// Runs `work` in a transaction that commits only while `fence` is in force.
pub async fn fenced<T, F>(pool: &DbPool, fence: i64, work: F) -> Result<T, Error>
where
    T: Send + 'static,
    F: for<'c> Fn(&'c mut AsyncPgConnection) -> BoxFuture<'c, Result<T, Error>> + Clone + Send + Sync + 'static,
{
    pool.transaction(move |conn| {
        let work = work.clone();
        async move {
            leader::hold(conn, fence).await?;
            work(conn).await
        }
        .boxed()
    })
    .await
}

/// A number that the database holds as a signed integer and that is never negative.
fn unsigned(table: &'static str, column: &'static str, value: i32) -> Result<u32, Error> {
    value.try_into().map_err(|_| Error::Corrupt { table, column, value: value.to_string() })
}

/// A slot likewise.
fn slot(table: &'static str, column: &'static str, value: i16) -> Result<u16, Error> {
    value.try_into().map_err(|_| Error::Corrupt { table, column, value: value.to_string() })
}
