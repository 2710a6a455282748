//! Who sees an object of somebody else: role-based access policies.
//!
//! A policy names an object and a project, or everybody. Every resource that can be shared names
//! its `object_type` once; the predicates here are the only place where policies enter a query.
//! `shared: true` is nothing but a policy for everybody.

use crate::listing::Predicate;
use crate::schema::rbac_policies as policies;
use diesel::prelude::*;
use diesel::sql_types::{Bool, Nullable, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use std::collections::BTreeSet;
use uuid::Uuid;

/// Seen and used.
pub const SHARED: &str = "access_as_shared";

/// Seen, and used as the outside of routers.
pub const EXTERNAL: &str = "access_as_external";

/// Of the project, whatever else is shared with it. Names are constants of the program, never a
/// client's text.
pub fn owned<T: 'static>(table: &'static str, project: Uuid) -> Predicate<T> {
    let term = diesel::dsl::sql::<Nullable<Bool>>(&format!("{table}.project_id = "));
    Box::new(term.bind::<SqlUuid, _>(project))
}

/// Shared with the project by any policy. `id` is the column that holds the shared object's id:
/// `networks.id`, or `subnets.network_id`.
pub fn shared_with<T: 'static>(id: &'static str, object_type: &'static str, project: Uuid) -> Predicate<T> {
    let term = format!(
        "EXISTS (SELECT FROM rbac_policies shares WHERE shares.object_type = '{object_type}' \
         AND shares.object_id = {id} AND (shares.target_project IS NULL OR shares.target_project = "
    );
    Box::new(diesel::dsl::sql::<Nullable<Bool>>(&term).bind::<SqlUuid, _>(project).sql("))"))
}

/// Whether routers may have it as their outside. `id` is the column that holds the network's id.
pub fn external<T: 'static>(id: &'static str, external: bool) -> Predicate<T> {
    let not = if external { "" } else { "NOT " };
    Box::new(diesel::dsl::sql::<Nullable<Bool>>(&format!(
        "{not}EXISTS (SELECT FROM rbac_policies shares WHERE shares.object_type = 'network' \
         AND shares.object_id = {id} AND shares.action = '{EXTERNAL}')"
    )))
}

/// Which of these networks are outside of routers.
pub async fn external_among(conn: &mut AsyncPgConnection, networks: &[Uuid]) -> QueryResult<BTreeSet<Uuid>> {
    let found: Vec<Uuid> = policies::table
        .filter(policies::object_type.eq("network"))
        .filter(policies::object_id.eq_any(networks))
        .filter(policies::action.eq(EXTERNAL))
        .select(policies::object_id)
        .load(conn)
        .await?;
    Ok(found.into_iter().collect())
}

/// Shared with everybody: what a filter `shared=true` asks for.
pub fn shared_with_all<T: 'static>(id: &'static str, object_type: &'static str, shared: bool) -> Predicate<T> {
    let not = if shared { "" } else { "NOT " };
    Box::new(diesel::dsl::sql::<Nullable<Bool>>(&format!(
        "{not}EXISTS (SELECT FROM rbac_policies shares WHERE shares.object_type = '{object_type}' \
         AND shares.object_id = {id} AND shares.target_project IS NULL AND shares.action = '{SHARED}')"
    )))
}

/// Which of these objects are shared, as a caller of this project is told.
pub async fn shared_among(
    conn: &mut AsyncPgConnection,
    object_type: &str,
    ids: &[Uuid],
    project: Option<Uuid>,
) -> QueryResult<BTreeSet<Uuid>> {
    let found: Vec<Uuid> = policies::table
        .filter(policies::object_type.eq(object_type))
        .filter(policies::object_id.eq_any(ids))
        .filter(policies::action.eq(SHARED))
        .filter(policies::target_project.is_null().or(policies::target_project.is_not_distinct_from(project)))
        .select(policies::object_id)
        .load(conn)
        .await?;
    Ok(found.into_iter().collect())
}

/// Shares an object with everybody, or takes that back. Other policies stay.
pub async fn share_with_all(
    conn: &mut AsyncPgConnection,
    object_type: &str,
    object: Uuid,
    project: Uuid,
    shared: bool,
) -> QueryResult<()> {
    open_to_all(conn, SHARED, object_type, object, project, shared).await
}

/// Gives everybody a kind of access to an object, or takes it back. Other policies stay.
pub async fn open_to_all(
    conn: &mut AsyncPgConnection,
    action: &str,
    object_type: &str,
    object: Uuid,
    project: Uuid,
    open: bool,
) -> QueryResult<()> {
    if open {
        diesel::insert_into(policies::table)
            .values((
                policies::id.eq(Uuid::new_v4()),
                policies::project_id.eq(project),
                policies::object_type.eq(object_type),
                policies::object_id.eq(object),
                policies::action.eq(action),
            ))
            .on_conflict_do_nothing()
            .execute(conn)
            .await?;
    } else {
        let of_object =
            policies::table.filter(policies::object_type.eq(object_type)).filter(policies::object_id.eq(object));
        let for_all = of_object.filter(policies::target_project.is_null()).filter(policies::action.eq(action));
        diesel::delete(for_all).execute(conn).await?;
    }
    Ok(())
}

/// The object is deleted: nobody shares it any more.
pub async fn forget(conn: &mut AsyncPgConnection, object_type: &str, object: Uuid) -> QueryResult<()> {
    let of_object =
        policies::table.filter(policies::object_type.eq(object_type)).filter(policies::object_id.eq(object));
    diesel::delete(of_object).execute(conn).await?;
    Ok(())
}
