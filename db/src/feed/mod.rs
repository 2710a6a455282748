//! The feed: how API replicas and agents follow desired state (CONTROLPLANE sections 1 and 2).
//!
//! Every row of `entries`, `subscriptions` and `includes` carries the transaction that wrote it
//! last, set by a trigger. A reader keeps the snapshot of its last read; a row is new to it
//! exactly if that snapshot did not see the row's transaction. Rows and the next cursor come from
//! one snapshot (one statement, or one REPEATABLE READ transaction), so nothing is missed,
//! whatever commits in between, and no second write, sequencer or leader is needed.
//!
//! - [`tail`]: everything new, for the replica that keeps the ring.
//! - [`ring`]: the last minute in memory, and who receives what: serves caught-up agents
//!   without SQL.
//! - [`follow`]: the task that feeds the ring, and how polls wait on it.
//! - [`delta`], [`snapshot`]: one host's part from the tables, for those not caught up.
//! - [`gc`]: forgets tombstones, raises the horizon.
//! - [`restore`]: takes over a database that was restored from a dump.
//!
//! Read on the primary only: a standby lists running transactions differently.

pub mod cursor;
pub mod delta;
pub mod follow;
pub mod gc;
pub mod lag;
pub mod position;
pub mod restore;
pub mod ring;
pub mod scopes;
pub mod slots;
pub mod snapshot;
pub mod tail;

pub use cursor::Cursor;
pub use position::{Gone, Position};

use mizar_wire::entry::Change;
use mizar_wire::sync::ScopeRange;
use scopes::Effective;

/// Rows of a delta beyond which a snapshot is asked for.
pub const MOST_CHANGES: usize = 5_000;

/// Why the feed could not be read.
#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    /// No connection.
    #[error(transparent)]
    Pool(#[from] crate::pool::PoolError),
    /// No connection of the follower's own.
    #[error("the feed cannot connect")]
    Connect(#[from] diesel::ConnectionError),
    /// A statement failed.
    #[error("the feed cannot be read")]
    Database(#[from] diesel::result::Error),
    /// A read did not end.
    #[error("the database has not answered within {} s", .0.as_secs())]
    Silent(std::time::Duration),
    /// A stored value is not what the schema promises.
    #[error("the database holds a malformed {0}")]
    Malformed(&'static str),
    /// See [`restore::adopt`].
    #[error("the restored database cannot be taken over")]
    Restored(#[from] crate::audit::AuditError),
}

/// What a host gets to hear.
#[derive(Clone, Debug, PartialEq)]
pub struct News {
    /// Where it stands afterwards.
    pub cursor: Cursor,
    /// Which history the cursor belongs to.
    pub epoch: String,
    /// Upserts and removals.
    pub changes: Vec<Change>,
    /// Ranges that arrive whole.
    pub added: Vec<ScopeRange>,
    /// Ranges that are gone, if they were held.
    pub dropped: Vec<ScopeRange>,
}

impl News {
    /// Whether there is nothing but a new cursor.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.added.is_empty() && self.dropped.is_empty()
    }
}

/// A row as it travels.
pub(crate) fn change(row: &tail::Row) -> Result<Change, FeedError> {
    let body = match &row.body {
        Some(bytes) => Some(serde_json::from_slice(bytes).map_err(|_| FeedError::Malformed("body of an entry"))?),
        None => None,
    };
    Ok(Change { scope: row.scope, slot: row.slot, kind: row.kind, key: to_hex(&row.key), body })
}

fn ranges(scopes: &Effective) -> Vec<ScopeRange> {
    let all =
        scopes.iter().flat_map(|(&scope, slots)| slots.ranges().map(move |(lo, hi)| ScopeRange { scope, lo, hi }));
    all.collect()
}

fn to_hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.map(|digit| char::from(DIGITS[usize::from(digit)])).collect()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}
