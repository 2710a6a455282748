//! Which tokens count no more.

use crate::schema::revoked_tokens;
use chrono::{DateTime, TimeDelta, Utc};
use diesel::pg::Pg;
use diesel::prelude::*;
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

/// Revokes.
pub async fn revoke(conn: &mut AsyncPgConnection, row: &RevocationRow) -> QueryResult<()> {
    diesel::insert_into(revoked_tokens::table)
        .values(row)
        .on_conflict(revoked_tokens::audit_id)
        .do_update()
        .set(row)
        .execute(conn)
        .await?;
    Ok(())
}

/// Forgets what has expired, and lists the rest.
pub async fn revoked(conn: &mut AsyncPgConnection) -> QueryResult<Vec<RevocationRow>> {
    diesel::delete(revoked_tokens::table.filter(revoked_tokens::expires_at.lt(clock_timestamp())))
        .execute(conn)
        .await?;
    revoked_tokens::table.select(RevocationRow::as_select()).load(conn).await
}
