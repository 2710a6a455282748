//! Limits of projects. What is used is counted by the [ledger](crate::ledger): in the same rows, and in
//! stripes where there is no limit.

use crate::schema::quotas;
use crate::statement::statement;
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Integer, Nullable, Text, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

/// A project's use of a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Of what.
    pub resource: String,
    /// So many.
    pub used: i64,
    /// Its own limit, if it has one; −1: as many as it likes.
    pub max: Option<i64>,
}

statement! {
    /// What projects use of one resource or of each, and their own limits.
    ReadUsage { projects: Vec<Uuid> as Array<SqlUuid>, resource: Option<String> as Nullable<Text> }
    -> (SqlUuid, Text, BigInt, Nullable<BigInt>)
    {
        "SELECT u.project_id, u.resource, sum(u.used)::bigint, max(u.max) FROM \
         (SELECT project_id, resource, used, max FROM quotas UNION ALL \
         SELECT project_id, resource, used, NULL FROM quota_stripes) u, (SELECT " resource "::text AS name) wanted \
         WHERE u.project_id = ANY(" projects ") AND (wanted.name IS NULL OR u.resource = wanted.name) \
         GROUP BY u.project_id, u.resource"
    }
}

/// What is known of a project: nothing of what it never had.
pub async fn of(conn: &mut AsyncPgConnection, project: Uuid) -> QueryResult<Vec<Quota>> {
    let rows: Vec<(Uuid, String, i64, Option<i64>)> =
        ReadUsage { projects: vec![project], resource: None }.load(conn).await?;
    Ok(rows.into_iter().map(|(_, resource, used, max)| Quota { resource, used, max }).collect())
}

/// All limits that are projects' own, by project.
pub async fn limits(conn: &mut AsyncPgConnection) -> QueryResult<Vec<(Uuid, String, i64)>> {
    quotas::table
        .filter(quotas::max.is_not_null())
        .select((quotas::project_id, quotas::resource, quotas::max.assume_not_null()))
        .order((quotas::project_id, quotas::resource))
        .load(conn)
        .await
}

/// First key of the advisory locks on projects' limits; the second is a hash of the project. `own_limit` of
/// the database takes it shared.
const LIMIT_LOCK: i32 = 0x6d7a_0002;

statement! {
    Hold { class: i32 as Integer, project: Uuid as SqlUuid } -> Text
    { "SELECT pg_advisory_xact_lock(" class ", uuid_hash(" project "))::text" }
}

/// Waits for the transactions that have counted something of a project and are about to commit, and keeps
/// others from counting, which is the last that they do: whoever counts afterwards goes by the limits as
/// they are then. A matter of milliseconds, and rare.
async fn hold(conn: &mut AsyncPgConnection, project: Uuid) -> QueryResult<()> {
    Hold { class: LIMIT_LOCK, project }.execute(conn).await?;
    Ok(())
}

/// Gives a project a limit of its own, and returns what it uses. Nothing more is used until the
/// transaction ends.
pub async fn set(conn: &mut AsyncPgConnection, project: Uuid, resource: &str, max: i64) -> QueryResult<i64> {
    hold(conn, project).await?;
    diesel::insert_into(quotas::table)
        .values((quotas::project_id.eq(project), quotas::resource.eq(resource), quotas::max.eq(max)))
        .on_conflict((quotas::project_id, quotas::resource))
        .do_update()
        .set(quotas::max.eq(max))
        .execute(conn)
        .await?;
    let statement = ReadUsage { projects: vec![project], resource: Some(resource.to_owned()) };
    let row: (Uuid, String, i64, Option<i64>) = statement.get_result(conn).await?;
    Ok(row.2)
}

/// Takes all limits of its own from a project; returns how many it had.
pub async fn reset(conn: &mut AsyncPgConnection, project: Uuid) -> QueryResult<usize> {
    hold(conn, project).await?;
    diesel::update(quotas::table.filter(quotas::project_id.eq(project)).filter(quotas::max.is_not_null()))
        .set(quotas::max.eq(None::<i64>))
        .execute(conn)
        .await
}
