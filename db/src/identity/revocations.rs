//! Which tokens count no more.

use super::{AccountError, users};
use crate::schema::revoked_tokens;
use crate::statement::statement;
use chrono::{DateTime, TimeDelta, Utc};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Nullable, Text, Timestamptz};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

diesel::define_sql_function! {
    /// The time now, not that of the transaction's beginning.
    fn clock_timestamp() -> diesel::sql_types::Timestamptz;
}

/// No token lives longer, whatever the configuration says now or said when it was signed.
pub const TOKEN_TTL_MAX: TimeDelta = TimeDelta::days(1);

/// What is not to count any more, until it would expire anyway.
#[derive(Clone, Debug, PartialEq, Eq, Queryable, Selectable, Insertable, AsChangeset)]
#[diesel(table_name = revoked_tokens, check_for_backend(Pg), treat_none_as_null = true)]
pub struct RevocationRow {
    /// Audit id of a token; or what [`Of`] writes, for all of an account.
    pub audit_id: String,
    /// Those issued before; `None`: whenever.
    pub issued_before: Option<DateTime<Utc>>,
    /// When the last of them would expire anyway.
    pub expires_at: DateTime<Utc>,
}

/// Whose tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Of<'a> {
    /// All of a user.
    User(Uuid),
    /// All that are for a project.
    Project(Uuid),
    /// All that are for a domain, for a project of it, or of a user of it.
    Domain(&'a str),
    /// All from an application credential.
    Credential(Uuid),
}

impl Of<'_> {
    /// As [`RevocationRow::audit_id`] holds it. Audit ids have no colon.
    pub fn key(&self) -> String {
        match self {
            Self::User(id) => format!("user:{}", id.simple()),
            Self::Project(id) => format!("project:{}", id.simple()),
            Self::Domain(id) => format!("domain:{id}"),
            Self::Credential(id) => format!("credential:{}", id.simple()),
        }
    }
}

/// The database's time: that of all replicas.
pub(super) async fn time(conn: &mut AsyncPgConnection) -> QueryResult<DateTime<Utc>> {
    diesel::select(clock_timestamp()).get_result(conn).await
}

/// Revokes all tokens of an account, up to now. The caller has locked the account's row.
pub(super) async fn revoke_all(conn: &mut AsyncPgConnection, of: Of<'_>) -> QueryResult<RevocationRow> {
    let now = time(conn).await?;
    let row = RevocationRow { audit_id: of.key(), issued_before: Some(now), expires_at: now + TOKEN_TTL_MAX };
    revoke(conn, &row).await?;
    Ok(row)
}

async fn revoke(conn: &mut AsyncPgConnection, row: &RevocationRow) -> QueryResult<()> {
    diesel::insert_into(revoked_tokens::table)
        .values(row)
        .on_conflict(revoked_tokens::audit_id)
        .do_update()
        .set(row)
        .execute(conn)
        .await?;
    Ok(())
}

/// Single tokens of one user that may be revoked at a time.
pub const SINGLE_MAX: i64 = 1_000;

/// Revokes one token of a user. With more than [`SINGLE_MAX`] of them, all of the user's so far are
/// revoked instead, which is one row: nobody fills the memory of the replicas by taking back what
/// he issues.
pub async fn revoke_one(
    conn: &mut AsyncPgConnection,
    user: Uuid,
    audit_id: &str,
    expires_at: DateTime<Utc>,
) -> Result<RevocationRow, AccountError> {
    users::lock(conn, user).await?;
    let own = revoked_tokens::table.filter(revoked_tokens::user_id.eq(user));
    if own.count().get_result::<i64>(conn).await? >= SINGLE_MAX {
        let all = revoke_all(conn, Of::User(user)).await?;
        diesel::delete(own).execute(conn).await?;
        return Ok(all);
    }
    let row = RevocationRow { audit_id: audit_id.to_owned(), issued_before: None, expires_at };
    diesel::insert_into(revoked_tokens::table)
        .values((&row, revoked_tokens::user_id.eq(user)))
        .on_conflict_do_nothing()
        .execute(conn)
        .await?;
    Ok(row)
}

/// What of a token may be revoked: its audit id and the keys of its accounts, and since when it is.
#[derive(Clone, Debug)]
pub struct Issued {
    /// As [`RevocationRow::audit_id`] holds them.
    pub keys: Vec<String>,
    /// The database's time then.
    pub at: DateTime<Utc>,
}

/// Whether a token has been taken back, as the database knows it: a replica's memory is behind.
pub(super) async fn is_revoked(conn: &mut AsyncPgConnection, issued: &Issued) -> QueryResult<bool> {
    let hits = revoked_tokens::issued_before.is_null().or(revoked_tokens::issued_before.ge(issued.at));
    let found =
        revoked_tokens::table.filter(revoked_tokens::audit_id.eq_any(&issued.keys)).filter(hits.assume_not_null());
    diesel::select(diesel::dsl::exists(found)).get_result(conn).await
}

statement! {
    /// What transactions from `since` on have written, and which are the next to look at: all
    /// before have ended. When numbers went backwards (the database was restored), everything.
    Changed { since: i64 as BigInt } -> (BigInt, Nullable<Text>, Nullable<Timestamptz>, Nullable<Timestamptz>)
    {
        "SELECT h.xmin, r.audit_id, r.issued_before, r.expires_at \
         FROM (SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS xmin) h \
         LEFT JOIN revoked_tokens r ON h.xmin < " since " OR r.xid >= " since ""
    }
}

/// What was revoked since the last call, which returned `since` (at first 0), and the next `since`.
pub async fn revoked_since(conn: &mut AsyncPgConnection, since: i64) -> QueryResult<(Vec<RevocationRow>, i64)> {
    type Row = (i64, Option<String>, Option<DateTime<Utc>>, Option<DateTime<Utc>>);
    let rows: Vec<Row> = Changed { since }.load(conn).await?;
    let next = if let [(next, ..), ..] = rows.as_slice() { *next } else { since };
    let revoked = rows.into_iter().filter_map(|(_, audit_id, issued_before, expires_at)| {
        Some(RevocationRow { audit_id: audit_id?, issued_before, expires_at: expires_at? })
    });
    Ok((revoked.collect(), next))
}

/// Deletes what has expired.
pub async fn forget_expired(conn: &mut AsyncPgConnection) -> QueryResult<()> {
    let expired = revoked_tokens::table.filter(revoked_tokens::expires_at.lt(clock_timestamp()));
    diesel::delete(expired).execute(conn).await.map(drop)
}
