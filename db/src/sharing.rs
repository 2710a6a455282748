//! Who sees an object of somebody else: role-based access policies.
//!
//! A policy names an object and a project, or everybody. Every resource that can be shared names
//! its `object_type` once; the predicates here are the only place where policies enter a query.
//! `shared: true` is nothing but a policy for everybody.

use crate::ledger::{Event, Ledger};
use crate::listing::Predicate;
use crate::schema::rbac_policies as policies;
use diesel::expression::{AppearsOnTable, SelectableExpression, ValidGrouping, is_aggregate};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::query_builder::{AstPass, QueryFragment, QueryId};
use diesel::sql_types::{Bool, Nullable, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use serde_json::json;
use std::collections::BTreeSet;
use uuid::Uuid;

/// Seen and used.
pub const SHARED: &str = "access_as_shared";

/// Seen, and used as the outside of routers.
pub const EXTERNAL: &str = "access_as_external";

/// SQL of the program, never a client's text, with a project's id in it. What it says is one of
/// few texts, so its statements may be prepared once and kept, which `diesel::dsl::sql` forbids.
#[derive(Clone, Debug)]
struct OfProject {
    before: String,
    project: Uuid,
    after: &'static str,
}

impl Expression for OfProject {
    type SqlType = Nullable<Bool>;
}

impl<QS> SelectableExpression<QS> for OfProject {}

impl<QS> AppearsOnTable<QS> for OfProject {}

impl<GB> ValidGrouping<GB> for OfProject {
    type IsAggregate = is_aggregate::Never;
}

impl QueryId for OfProject {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl QueryFragment<Pg> for OfProject {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql(&self.before);
        out.push_bind_param::<SqlUuid, _>(&self.project)?;
        out.push_sql(self.after);
        Ok(())
    }
}

/// Of the project, whatever else is shared with it.
pub fn owned<T: 'static>(table: &'static str, project: Uuid) -> Predicate<T> {
    Box::new(OfProject { before: format!("{table}.project_id = "), project, after: "" })
}

/// Shared with the project by any policy. `id` is the column that holds the shared object's id:
/// `networks.id`, or `subnets.network_id`.
///
/// An array that is read once, not EXISTS for every row: beside `project_id = …` PostgreSQL then
/// reads two indexes instead of everybody's rows.
pub fn shared_with<T: 'static>(id: &'static str, object_type: &'static str, project: Uuid) -> Predicate<T> {
    let before = format!(
        "{id} = ANY (ARRAY(SELECT shares.object_id FROM rbac_policies shares WHERE shares.object_type = \
         '{object_type}' AND (shares.target_project IS NULL OR shares.target_project = "
    );
    Box::new(OfProject { before, project, after: ")))" })
}

/// Of the project, or shared with it by any policy.
pub fn seen_by<T: 'static>(
    table: &'static str,
    id: &'static str,
    object_type: &'static str,
    project: Uuid,
) -> Predicate<T> {
    let own: Predicate<T> = owned(table, project);
    Box::new(own.or(shared_with::<T>(id, object_type, project)))
}

/// On a network of the project. `id` is the column that holds the network's id.
pub fn on_own_network<T: 'static>(id: &'static str, project: Uuid) -> Predicate<T> {
    below_own(id, "networks", project)
}

/// Below an object of the project. `id` is the column that holds that object's id, `table` where it is.
pub fn below_own<T: 'static>(id: &'static str, table: &'static str, project: Uuid) -> Predicate<T> {
    let before = format!("{id} = ANY (ARRAY(SELECT own.id FROM {table} own WHERE own.project_id = ");
    Box::new(OfProject { before, project, after: "))" })
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

/// Shared, as a caller of this project is told ([`shared_among`]): what a filter `shared=true` asks for.
pub fn told_shared<T: 'static>(
    id: &'static str,
    object_type: &'static str,
    project: Option<Uuid>,
    shared: bool,
) -> Predicate<T> {
    let not = if shared { "" } else { "NOT " };
    let before = format!(
        "{not}EXISTS (SELECT FROM rbac_policies shares WHERE shares.object_type = '{object_type}' \
         AND shares.object_id = {id} AND shares.action = '{SHARED}' AND (shares.target_project IS NULL"
    );
    match project {
        Some(project) => {
            let before = before + " OR shares.target_project = ";
            Box::new(OfProject { before, project, after: "))" })
        }
        None => Box::new(diesel::dsl::sql::<Nullable<Bool>>(&(before + "))"))),
    }
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

/// What quotas and the audit log call a policy.
const POLICY: &str = "rbac_policy";

/// Shares an object with everybody, or takes that back. Other policies stay. Such policies count,
/// but are refused to nobody: only administrators write `shared`.
pub async fn share_with_all(
    conn: &mut AsyncPgConnection,
    ledger: &mut Ledger,
    object_type: &str,
    object: Uuid,
    project: Uuid,
    shared: bool,
) -> QueryResult<()> {
    open_to_all(conn, ledger, SHARED, object_type, object, project, shared).await
}

/// Gives everybody a kind of access to an object, or takes it back. Other policies stay.
pub async fn open_to_all(
    conn: &mut AsyncPgConnection,
    ledger: &mut Ledger,
    action: &str,
    object_type: &str,
    object: Uuid,
    project: Uuid,
    open: bool,
) -> QueryResult<()> {
    if open {
        let made: Option<Uuid> = diesel::insert_into(policies::table)
            .values((
                policies::id.eq(Uuid::new_v4()),
                policies::project_id.eq(project),
                policies::object_type.eq(object_type),
                policies::object_id.eq(object),
                policies::action.eq(action),
            ))
            .on_conflict_do_nothing()
            .returning(policies::id)
            .get_result(conn)
            .await
            .optional()?;
        if let Some(policy) = made {
            let changes =
                json!({"object_type": object_type, "object_id": object, "target_tenant": "*", "action": action});
            ledger.count(project, POLICY, 1);
            let project = Some(project);
            ledger.record(Event { action: "create", object_type: POLICY, object_id: policy, project, changes });
        }
    } else {
        let of_object =
            policies::table.filter(policies::object_type.eq(object_type)).filter(policies::object_id.eq(object));
        let for_all = of_object.filter(policies::target_project.is_null()).filter(policies::action.eq(action));
        let gone = diesel::delete(for_all).returning((policies::id, policies::project_id)).get_results(conn).await?;
        gave_back(ledger, gone);
    }
    Ok(())
}

/// The object is deleted: nobody shares it any more.
pub async fn forget(
    conn: &mut AsyncPgConnection,
    ledger: &mut Ledger,
    object_type: &str,
    object: Uuid,
) -> QueryResult<()> {
    let of_object =
        policies::table.filter(policies::object_type.eq(object_type)).filter(policies::object_id.eq(object));
    let gone = diesel::delete(of_object).returning((policies::id, policies::project_id)).get_results(conn).await?;
    gave_back(ledger, gone);
    Ok(())
}

fn gave_back(ledger: &mut Ledger, policies: Vec<(Uuid, Uuid)>) {
    for (object_id, project) in policies {
        ledger.count(project, POLICY, -1);
        let (project, changes) = (Some(project), json!({}));
        ledger.record(Event { action: "delete", object_type: POLICY, object_id, project, changes });
    }
}
