//! Limits of projects. What is used is counted by the [ledger](crate::ledger), in the same rows.

use crate::schema::quotas;
use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

/// A project's use of a resource.
#[derive(Clone, Debug, PartialEq, Eq, Queryable)]
pub struct Quota {
    /// Of what.
    pub resource: String,
    /// So many.
    pub used: i64,
    /// Its own limit, if it has one; −1: as many as it likes.
    pub max: Option<i64>,
}

/// What is known of a project: nothing of what it never had.
pub async fn of(conn: &mut AsyncPgConnection, project: Uuid) -> QueryResult<Vec<Quota>> {
    let rows = quotas::table.filter(quotas::project_id.eq(project));
    rows.select((quotas::resource, quotas::used, quotas::max)).load(conn).await
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

/// Gives a project a limit of its own, and returns what it uses. The row stays locked: nothing more
/// is used until the transaction ends. Who sets several does so in the order of their names, as the
/// ledger does.
pub async fn set(conn: &mut AsyncPgConnection, project: Uuid, resource: &str, max: i64) -> QueryResult<i64> {
    diesel::insert_into(quotas::table)
        .values((quotas::project_id.eq(project), quotas::resource.eq(resource), quotas::max.eq(max)))
        .on_conflict((quotas::project_id, quotas::resource))
        .do_update()
        .set(quotas::max.eq(max))
        .returning(quotas::used)
        .get_result(conn)
        .await
}

/// Takes all limits of its own from a project; returns how many it had.
pub async fn reset(conn: &mut AsyncPgConnection, project: Uuid) -> QueryResult<usize> {
    diesel::update(quotas::table.filter(quotas::project_id.eq(project)).filter(quotas::max.is_not_null()))
        .set(quotas::max.eq(None::<i64>))
        .execute(conn)
        .await
}
