//! Resources below other objects: `/v2.0/qos/policies/{parent}/bandwidth_limit_rules[/{id}]`.
//!
//! Visibility and rights come from the parent: whoever does not see it gets 404 for everything
//! below. A write locks the parent before the object and raises its revision.

use super::context::Context;
use super::fault::Fault;
use super::hold::resolve;
use super::resource::Resource;
use super::tx::Above;
use diesel::sql_types::Uuid as SqlUuid;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use futures::FutureExt;
use futures::future::BoxFuture;
use mizar_db::listing::{self, Listed, Predicate};
use uuid::Uuid;

type Find = for<'c> fn(&'c mut AsyncPgConnection, &'c Context, &'c str) -> BoxFuture<'c, Result<Above, Fault>>;
type Hold = for<'c> fn(&'c mut AsyncPgConnection, Uuid) -> BoxFuture<'c, Result<(), Fault>>;

/// Below which objects those of `R` lie.
pub struct Parent<R: Resource> {
    /// Of its collection, below /v2.0.
    pub path: &'static str,
    /// In words.
    pub singular: &'static str,
    /// The objects below one parent: usually `|id| Box::new(rules::policy_id.eq(id).nullable())`.
    pub within: fn(Uuid) -> Predicate<<R::Row as Listed>::Table>,
    pub(super) find: Find,
    pub(super) hold: Hold,
}

impl<R: Resource> Clone for Parent<R> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<R: Resource> Copy for Parent<R> {}

impl<R: Resource> Parent<R> {
    /// Below those of `P`.
    pub const fn of<P: Resource>(within: fn(Uuid) -> Predicate<<R::Row as Listed>::Table>) -> Self {
        Self { path: P::PATH, singular: P::SINGULAR, within, find: find::<P>, hold: hold::<P> }
    }
}

fn find<'c, P: Resource>(
    conn: &'c mut AsyncPgConnection,
    context: &'c Context,
    raw: &'c str,
) -> BoxFuture<'c, Result<Above, Fault>> {
    async move {
        let id = resolve::<P>(conn, None, raw).await?;
        let row = listing::find::<P::Row>(conn, context.view, None, id).await?;
        let row = row.ok_or_else(|| P::missing(raw))?;
        Ok(Above { id, project: row.project() })
    }
    .boxed()
}

/// Locks an object and raises its revision, because something below it changes.
pub fn hold<P: Resource>(conn: &mut AsyncPgConnection, id: Uuid) -> BoxFuture<'_, Result<(), Fault>> {
    async move {
        P::lock(conn, id).await?.ok_or_else(|| P::missing(&id.to_string()))?;
        let sql =
            format!("UPDATE {} SET revision_number = revision_number + 1, updated_at = now() WHERE id = $1", P::TABLE);
        diesel::sql_query(sql).bind::<SqlUuid, _>(id).execute(conn).await?;
        Ok(())
    }
    .boxed()
}
