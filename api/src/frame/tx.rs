//! A command's transaction: rows, quotas and audit events stand or fall together.

use super::context::Context;
use super::fault::Fault;
use crate::app::App;
use diesel_async::AsyncPgConnection;
use futures::FutureExt;
use futures::future::BoxFuture;
use mizar_db::ledger::{self, Event, Ledger};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use uuid::Uuid;

/// What a command works with. Run again from its beginning when two transactions meet, so rules
/// have no effect outside of it.
pub struct Tx<'c> {
    /// In the transaction.
    pub conn: &'c mut AsyncPgConnection,
    /// The request.
    pub context: &'c Context,
    /// The parent of a nested resource's objects, named by the path.
    pub above: Option<Above>,
    /// Charges and audit events so far; commands of the database's crate write them themselves.
    pub ledger: Ledger,
}

/// The object below which a nested resource lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Above {
    /// Its id.
    pub id: Uuid,
    /// Whose it is, and so whose what lies below it is.
    pub project: Option<Uuid>,
}

impl Tx<'_> {
    /// A project has so many more objects of a kind, or fewer: the frame does this for what its
    /// handlers create and delete; rules do it for what they create and delete beside that.
    pub fn charge(&mut self, project: Uuid, resource: &'static str, count: i64) {
        self.ledger.charge(project, resource, count);
    }

    /// An audit event: the frame writes those of its handlers; rules those of other objects that
    /// they change.
    pub fn record(
        &mut self,
        action: &'static str,
        object_type: &'static str,
        object_id: Uuid,
        project: Option<Uuid>,
        changes: Value,
    ) {
        self.ledger.record(Event { action, object_type, object_id, project, changes: bounded(changes) });
    }

    /// Refuses what would be too much anyway before the work is done. The charge still judges:
    /// others may be faster.
    pub async fn foresee(&mut self, resource: &'static str, more: &BTreeMap<Uuid, i64>) -> Result<(), Fault> {
        let projects: Vec<Uuid> = more.keys().copied().collect();
        let usage = ledger::usage(self.conn, resource, &projects).await?;
        let default = self.context.settings.quotas.limit(resource);
        let over = more.iter().any(|(project, count)| {
            let (used, limit) = usage.get(project).copied().unwrap_or_default();
            let limit = limit.unwrap_or(default);
            limit >= 0 && used + count > limit
        });
        if over { Err(Fault::over_quota(&[resource.to_owned()])) } else { Ok(()) }
    }

    /// Writes the ledger, as the last statement before the commit.
    async fn close(self) -> Result<(), Fault> {
        let quotas = &self.context.settings.quotas;
        let usage = self.ledger.close(self.conn, &self.context.actor(), |resource| quotas.limit(resource)).await?;
        let over: Vec<String> = usage
            .into_iter()
            .filter(|usage| {
                let limit = usage.limit.unwrap_or_else(|| quotas.limit(&usage.resource));
                limit >= 0 && usage.used > limit
            })
            .map(|usage| usage.resource)
            .collect();
        if over.is_empty() { Ok(()) } else { Err(Fault::over_quota(&over)) }
    }
}

/// Bytes of one attribute that an audit event keeps. Descriptions and tags fit.
const CHANGE_MAX: usize = 2048;

/// Of larger values only the size: the log is kept for longer than the objects.
fn bounded(changes: Value) -> Value {
    let short = |value: Value| match value.to_string().len() {
        length if length > CHANGE_MAX => Value::String(format!("{length} bytes")),
        _ => value,
    };
    match changes {
        Value::Object(fields) => Value::Object(fields.into_iter().map(|(name, value)| (name, short(value))).collect()),
        other => short(other),
    }
}

/// Runs a command in a transaction.
pub async fn transaction<T, F>(app: &App, context: &Arc<Context>, work: F) -> Result<T, Fault>
where
    F: for<'t> Fn(&'t mut Tx<'_>) -> BoxFuture<'t, Result<T, Fault>> + Send + Sync + 'static,
    T: Send + 'static,
{
    let context = Arc::clone(context);
    let work = Arc::new(work);
    app.pool
        .transaction(move |conn| {
            let (context, work) = (Arc::clone(&context), Arc::clone(&work));
            async move {
                let mut tx = Tx { conn, context: &context, above: None, ledger: Ledger::default() };
                let done = work(&mut tx).await?;
                tx.close().await?;
                Ok(done)
            }
            .boxed()
        })
        .await
}
