//! Where a reader stands: epoch, snapshot, horizon.
//!
//! Transaction ids mean something within one history of one database only. A restored database,
//! another one, or a promoted standby (which lost commits that agents have seen, and gives their
//! numbers out again) has another history: its cursors do not compare, and agents begin again
//! from a snapshot. So the epoch is made of the server's system identifier, the database's oid,
//! the timeline, and a UUID in the table `feed` that an operator may change.

use super::FeedError;
use super::cursor::Cursor;
use crate::statement::statement;
use diesel::sql_types::{BigInt, Text};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

statement! {
    ReadPosition {} -> (Text, Text, BigInt)
    { "SELECT pg_current_snapshot()::text, feed_epoch(), horizon FROM feed" }
}

/// What one statement saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// Its snapshot.
    pub cursor: Cursor,
    /// Which history the snapshot belongs to.
    pub epoch: String,
    /// The highest transaction whose tombstones were collected.
    pub horizon: i64,
}

impl Position {
    /// Of the current statement, or in a REPEATABLE READ transaction of the transaction.
    pub async fn read(conn: &mut AsyncPgConnection) -> Result<Self, FeedError> {
        let (snapshot, epoch, horizon): (String, String, i64) = ReadPosition {}.get_result(conn).await?;
        let cursor = snapshot.parse().map_err(|_| FeedError::Malformed("pg_current_snapshot"))?;
        Ok(Self { cursor, epoch, horizon })
    }

    /// Why a cursor of that epoch cannot be continued here; `None` if it can.
    pub fn refuses(&self, epoch: Option<&str>, cursor: &Cursor) -> Option<Gone> {
        if epoch != Some(self.epoch.as_str()) {
            Some(Gone::Epoch)
        } else if cursor.xmin() <= self.horizon {
            Some(Gone::Horizon)
        } else if cursor.xmax() > self.cursor.xmax() {
            Some(Gone::Future)
        } else {
            None
        }
    }
}

/// Why an agent must begin again from a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Gone {
    /// It has no cursor yet.
    #[error("there is no cursor to continue from")]
    NoCursor,
    /// The cursor belongs to another history.
    #[error("the feed's epoch changed")]
    Epoch,
    /// Removals that the cursor has not seen are forgotten.
    #[error("the cursor is older than the oldest removal that is still known")]
    Horizon,
    /// It names transactions that have not begun, in an epoch that says they had.
    #[error("the cursor is ahead of the database")]
    Future,
    /// A snapshot is cheaper.
    #[error("more than {} rows changed since the cursor", super::MOST_CHANGES)]
    TooMuch,
}
