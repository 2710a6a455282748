//! What a transaction leaves behind beside its rows: audit events and the use of quotas.
//!
//! Both are written by one statement at the end of the transaction. The counter of a project and
//! resource is updated last, because its row lock is held until the commit: creates of one project
//! wait for each other's commit, and not for each other's work (CONTROLPLANE C8). Where a project has
//! no limit nobody waits: its use is counted in stripes, one for each connection as far as they go
//! (migration `quota_stripes`).

use crate::statement::statement;
use diesel::QueryResult;
use diesel::sql_types::{Array, BigInt, Jsonb, Nullable, Text, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

/// Who acts.
#[derive(Clone, Debug, Default)]
pub struct Actor {
    /// The request, as its answer names it.
    pub request_id: String,
    /// Address of the other end.
    pub remote: String,
    /// Id of the account.
    pub user_id: String,
    /// Its name.
    pub user_name: String,
    /// What its token is for.
    pub project: Option<Uuid>,
    /// Names of its roles.
    pub roles: Vec<String>,
}

/// Something was changed.
#[derive(Clone, Debug)]
pub struct Event {
    /// `create`, `update`, `delete`, or an action's name.
    pub action: &'static str,
    /// Kind of the object: `port`.
    pub object_type: &'static str,
    /// Which.
    pub object_id: Uuid,
    /// Whose it is.
    pub project: Option<Uuid>,
    /// What was sent.
    pub changes: Value,
}

/// Events and charges of one transaction.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    events: Vec<Event>,
    charges: BTreeMap<(Uuid, &'static str), i64>,
    /// Those that may be too much.
    limited: BTreeSet<(Uuid, &'static str)>,
}

/// The use of a quota after a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Of what.
    pub resource: String,
    /// So many.
    pub used: i64,
    /// The project's own limit; none: the cloud's default counts.
    pub limit: Option<i64>,
}

statement! {
    /// All in one round trip. Whether a project is limited stays as `own_limit` reads it until the commit: who
    /// changes that waits for it ([`quotas::set`](crate::quotas::set)). Since a wait may be in it, and a statement
    /// reads what was committed when it began, what others counted before is read by `used_in_stripes`.
    WriteLedger {
        request_id: String as Text, remote: String as Text, user_id: String as Text, user_name: String as Text,
        user_project: Option<Uuid> as Nullable<SqlUuid>, roles: Vec<String> as Array<Text>,
        ids: Vec<Uuid> as Array<SqlUuid>, actions: Vec<&'static str> as Array<Text>,
        kinds: Vec<&'static str> as Array<Text>, objects: Vec<Uuid> as Array<SqlUuid>,
        owners: Vec<Option<Uuid>> as Array<Nullable<SqlUuid>>, changes: Vec<Value> as Array<Jsonb>,
        projects: Vec<Uuid> as Array<SqlUuid>, resources: Vec<&'static str> as Array<Text>,
        counts: Vec<i64> as Array<BigInt>, defaults: Vec<i64> as Array<BigInt>,
    } -> (Text, BigInt, Nullable<BigInt>)
    {
        "WITH said AS (INSERT INTO audit_events (request_id, remote, user_id, user_name, user_project, roles, \
         id, action, object_type, object_id, project_id, changes) SELECT "
        request_id ", " remote ", " user_id ", " user_name ", " user_project ", " roles
        ", e.* FROM unnest(" ids ", " actions ", " kinds ", " objects ", " owners ", " changes ") e), \
         charged AS MATERIALIZED (SELECT n.*, COALESCE(own_limit(n.project, n.resource), n.cloud) < 0 AS unlimited \
         FROM unnest(" projects ", " resources ", " counts ", " defaults ") n (project, resource, count, cloud)), \
         striped AS (INSERT INTO quota_stripes AS s (project_id, resource, stripe, used) \
         SELECT project, resource, pg_backend_pid() % 64, count FROM charged WHERE unlimited ORDER BY 1, 2 \
         ON CONFLICT (project_id, resource, stripe) DO UPDATE SET used = s.used + excluded.used) \
         INSERT INTO quotas AS q (project_id, resource, used) \
         SELECT project, resource, count FROM charged WHERE NOT unlimited ORDER BY 1, 2 \
         ON CONFLICT (project_id, resource) DO UPDATE SET used = q.used + excluded.used \
         RETURNING q.resource, q.used + used_in_stripes(q.project_id, q.resource), q.max"
    }
}

impl Ledger {
    /// Something was changed.
    pub fn record(&mut self, event: Event) {
        self.events.push(event);
    }

    /// A project has so many more objects, or fewer.
    pub fn charge(&mut self, project: Uuid, resource: &'static str, count: i64) {
        self.count(project, resource, count);
        if count > 0 {
            self.limited.insert((project, resource));
        }
    }

    /// The same of what nobody asked for, like a project's default security group: it counts, but
    /// is no reason to refuse the request that it came with.
    pub fn count(&mut self, project: Uuid, resource: &'static str, count: i64) {
        *self.charges.entry((project, resource)).or_default() += count;
    }

    /// Writes everything; returns what is used now of each quota of which more was asked for, and that
    /// is limited. The caller rolls back if that is too much. `defaults` are the cloud's limits for projects
    /// that have none of their own; −1: none.
    pub async fn close(
        self,
        conn: &mut AsyncPgConnection,
        actor: &Actor,
        defaults: impl Fn(&str) -> i64,
    ) -> QueryResult<Vec<Usage>> {
        let charges: Vec<_> = self.charges.into_iter().filter(|(_, count)| *count != 0).collect();
        if self.events.is_empty() && charges.is_empty() {
            return Ok(Vec::new());
        }
        let limited = |key: &(Uuid, &'static str)| self.limited.contains(key);
        let rising = charges.iter().filter(|(key, count)| *count > 0 && limited(key));
        let rising: Vec<&str> = rising.map(|((_, kind), _)| *kind).collect();
        let events = &self.events;
        let statement = WriteLedger {
            request_id: actor.request_id.clone(),
            remote: actor.remote.clone(),
            user_id: actor.user_id.clone(),
            user_name: actor.user_name.clone(),
            user_project: actor.project,
            roles: actor.roles.clone(),
            ids: events.iter().map(|_| Uuid::now_v7()).collect(),
            actions: events.iter().map(|event| event.action).collect(),
            kinds: events.iter().map(|event| event.object_type).collect(),
            objects: events.iter().map(|event| event.object_id).collect(),
            owners: events.iter().map(|event| event.project).collect(),
            changes: events.iter().map(|event| event.changes.clone()).collect(),
            projects: charges.iter().map(|((project, _), _)| *project).collect(),
            resources: charges.iter().map(|((_, resource), _)| *resource).collect(),
            counts: charges.iter().map(|(_, count)| *count).collect(),
            defaults: charges.iter().map(|((_, resource), _)| defaults(resource)).collect(),
        };
        let rows: Vec<(String, i64, Option<i64>)> = statement.load(conn).await?;
        let usage = rows.into_iter().map(|(resource, used, limit)| Usage { resource, used, limit });
        Ok(usage.filter(|usage| rising.contains(&usage.resource.as_str())).collect())
    }
}

/// What projects use of a resource now: used, and the project's own limit. A project that is not
/// in the answer has used none.
pub async fn usage(
    conn: &mut AsyncPgConnection,
    resource: &str,
    projects: &[Uuid],
) -> QueryResult<BTreeMap<Uuid, (i64, Option<i64>)>> {
    let statement = crate::quotas::ReadUsage { projects: projects.to_vec(), resource: Some(resource.to_owned()) };
    let rows: Vec<(Uuid, String, i64, Option<i64>)> = statement.load(conn).await?;
    let rows = rows.into_iter().map(|(project, _, used, limit)| (project, used, limit));
    Ok(rows.map(|(project, used, limit)| (project, (used, limit))).collect())
}
