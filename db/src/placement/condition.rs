//! Whether roles can be placed at present: written by the leader, read by operators.

use super::{Error, fenced};
use crate::DbPool;
use crate::statement::statement;
use chrono::{DateTime, Utc};
use diesel::QueryResult;
use diesel::sql_types::{Array, BigInt, Bool, Integer, Text, Timestamptz};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use futures::FutureExt;

/// What the leader can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Place roles.
    Normal,
    /// Nothing: too many leases ended together (CONTROLPLANE C3).
    Frozen,
    /// Nothing: no host may hold a role.
    Nobody,
}

impl State {
    /// Column `state`, and what operators read.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Frozen => "frozen",
            Self::Nobody => "nobody",
        }
    }
}

statement! {
    WriteCondition { state: String as Text, hosts: Vec<i32> as Array<Integer> } -> BigInt
    {
        "UPDATE placement_state p SET state = v.state, hosts = v.hosts, \
         since = CASE WHEN p.state = v.state THEN p.since ELSE now() END FROM (SELECT "
        state " AS state, " hosts " AS hosts) v WHERE (p.state, p.hosts) IS DISTINCT FROM (v.state, v.hosts)"
    }
}

/// Stores it; `hosts` are those whose leases ended together. Since when it is so stays as it is
/// while the state does.
pub async fn write(pool: &DbPool, fence: i64, state: State, hosts: Vec<u32>) -> Result<(), Error> {
    let hosts: Vec<i32> = hosts.into_iter().map(u32::cast_signed).collect();
    fenced(pool, fence, move |conn| {
        let statement = WriteCondition { state: state.name().to_owned(), hosts: hosts.clone() };
        async move {
            statement.execute(conn).await?;
            Ok(())
        }
        .boxed()
    })
    .await
}

/// As operators see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// A [`State::name`].
    pub state: String,
    /// Since when.
    pub since: DateTime<Utc>,
    /// Names of the hosts whose leases ended together.
    pub hosts: Vec<String>,
    /// Whether a scheduler leads. If none does the rest is what the last one said.
    pub led: bool,
}

statement! {
    /// The lock on leadership is looked at, not taken: trying it could keep a scheduler from it.
    ReadCondition { class: i32 as Integer, key: i32 as Integer } -> (Text, Timestamptz, Array<Text>, Bool)
    {
        "SELECT p.state, p.since, ARRAY(SELECT h.name FROM hosts h WHERE h.number = ANY(p.hosts) ORDER BY h.name), \
         EXISTS (SELECT FROM pg_locks l WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2 \
           AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database()) \
           AND l.classid = " class "::bigint::oid AND l.objid = " key "::bigint::oid) FROM placement_state p"
    }
}

/// What the leader said last, and whether there is one.
pub async fn read(conn: &mut AsyncPgConnection) -> QueryResult<Condition> {
    let (class, key) = super::leader::LEADER_LOCK;
    let (state, since, hosts, led) = ReadCondition { class, key }.get_result(conn).await?;
    Ok(Condition { state, since, hosts, led })
}
