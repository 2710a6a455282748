//! Who leads: an advisory lock of one dedicated session, and a number that rises with each leader.
//!
//! The lock belongs to a session, so it is never taken on a pooled connection, which others would
//! use and a recycling would keep alive; it ends with the process, however that dies. The lock
//! alone is no safety: a leader cut off from the database does not see its session end. The fence
//! is (see [`super::fenced`]).

use super::Error;
use crate::pool::{self, Use};
use crate::statement::statement;
use diesel::sql_types::{BigInt, Bool, Integer};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use std::time::Duration;

/// The advisory lock on leadership.
pub(super) const LEADER_LOCK: (i32, i32) = (0x6d7a_0002, 1);

statement! {
    TryLock { class: i32 as Integer, key: i32 as Integer } -> Bool
    { "SELECT pg_try_advisory_lock(" class ", " key ")" }
}

statement! {
    RaiseFence {} -> (BigInt, BigInt)
    { "UPDATE leader SET fence = fence + 1 RETURNING fence, (extract(epoch FROM now()) * 1000000)::bigint" }
}

statement! {
    HoldFence {} -> BigInt
    { "SELECT fence FROM leader FOR SHARE" }
}

statement! {
    StillThere {} -> BigInt
    { "SELECT fence FROM leader" }
}

/// A scheduler that would lead: a session without the lock.
pub struct Candidate {
    conn: AsyncPgConnection,
}

/// A scheduler that leads.
pub struct Leadership {
    conn: AsyncPgConnection,
    /// Its number; writes compare it.
    pub fence: i64,
    /// Since when, by the database's clock, as time since the Unix epoch.
    pub since: Duration,
}

impl Candidate {
    /// Opens the session.
    pub async fn connect(url: &str) -> Result<Self, Error> {
        Ok(Self { conn: pool::connect(url.to_owned(), Use::Commands).await? })
    }

    /// Takes the lock if nobody has it.
    pub async fn try_lead(mut self) -> Result<Result<Leadership, Self>, Error> {
        let (class, key) = LEADER_LOCK;
        let locked: bool = TryLock { class, key }.get_result(&mut self.conn).await?;
        if !locked {
            return Ok(Err(self));
        }
        // Waits for writes of the predecessor that hold the row.
        let (fence, micros): (i64, i64) = RaiseFence {}.get_result(&mut self.conn).await?;
        Ok(Ok(Leadership { conn: self.conn, fence, since: super::state::since_epoch(micros) }))
    }
}

impl Leadership {
    /// Fails once the session is gone or another one leads.
    pub async fn confirm(&mut self) -> Result<(), Error> {
        compare(self.fence, StillThere {}.get_result(&mut self.conn).await?)
    }
}

/// Holds the fence in the caller's transaction.
pub(super) async fn hold(conn: &mut AsyncPgConnection, fence: i64) -> Result<(), Error> {
    compare(fence, HoldFence {}.get_result(conn).await?)
}

fn compare(ours: i64, theirs: i64) -> Result<(), Error> {
    if ours == theirs { Ok(()) } else { Err(Error::Deposed { ours, theirs }) }
}
