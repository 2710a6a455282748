//! Application credentials: a secret that stands for a user on one project, with some of its roles.

use super::assignments::{On, roles_on};
use super::revocations::{Of, RevocationRow, revoke_all};
use super::{AccountError, RoleRow, users};
use crate::schema::{application_credential_roles, application_credentials, roles};
use chrono::{DateTime, Utc};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

/// An application credential.
#[derive(Clone, PartialEq, Eq, Queryable, Selectable, Insertable)]
#[diesel(table_name = application_credentials, check_for_backend(Pg))]
#[expect(missing_docs, reason = "the columns are documented in the migrations")]
pub struct CredentialRow {
    pub id: Uuid,
    pub user_id: Uuid,
    pub project_id: Uuid,
    pub name: String,
    pub description: String,
    pub secret_hash: String,
    pub unrestricted: bool,
    pub expires_at: Option<DateTime<Utc>>,
}

impl std::fmt::Debug for CredentialRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CredentialRow").field("id", &self.id).field("name", &self.name).finish_non_exhaustive()
    }
}

/// How a login names one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CredentialRef {
    /// By id.
    Id(Uuid),
    /// By name, of a user.
    Name(Uuid, String),
}

/// So many a user may have: each is looked at when the user's roles change.
pub const CREDENTIALS_MAX: i64 = 200;

/// Makes one with roles, which the user must have; returns them.
pub async fn create(
    conn: &mut AsyncPgConnection,
    row: &CredentialRow,
    names: &[String],
    on: &On,
) -> Result<Vec<RoleRow>, AccountError> {
    let failed = |error| AccountError::of_write(error, "application_credential", &row.name);
    // No role goes until this is stored: taking it away finds the credential and deletes it.
    users::lock(conn, row.user_id).await?;
    let has = roles_on(conn, row.user_id, on).await?;
    if let Some(name) = names.iter().find(|name| has.iter().all(|role| role.name != **name)) {
        return Err(AccountError::no_such("role assignment with role", name));
    }
    let own = application_credentials::table.filter(application_credentials::user_id.eq(row.user_id));
    if own.count().get_result::<i64>(conn).await? >= CREDENTIALS_MAX {
        return Err(AccountError::Forbidden("the user has as many application credentials as there may be"));
    }
    diesel::insert_into(application_credentials::table).values(row).execute(conn).await.map_err(failed)?;
    let rows: Vec<_> = names
        .iter()
        .map(|name| {
            (application_credential_roles::credential_id.eq(row.id), application_credential_roles::role.eq(name))
        })
        .collect();
    diesel::insert_into(application_credential_roles::table).values(rows).execute(conn).await.map_err(failed)?;
    Ok(has.into_iter().filter(|role| names.contains(&role.name)).collect())
}

/// The one that a login means.
pub async fn find(conn: &mut AsyncPgConnection, named: &CredentialRef) -> QueryResult<Option<CredentialRow>> {
    let all = application_credentials::table.select(CredentialRow::as_select());
    match named {
        CredentialRef::Id(id) => all.find(id).first(conn).await.optional(),
        CredentialRef::Name(user, name) => {
            let named = application_credentials::user_id.eq(user).and(application_credentials::name.eq(name));
            all.filter(named).first(conn).await.optional()
        }
    }
}

/// Those of a user, all or of one name, by name.
pub async fn list(conn: &mut AsyncPgConnection, user: Uuid, name: Option<&str>) -> QueryResult<Vec<CredentialRow>> {
    let mut all = application_credentials::table
        .filter(application_credentials::user_id.eq(user))
        .select(CredentialRow::as_select())
        .order(application_credentials::name)
        .into_boxed();
    if let Some(name) = name {
        all = all.filter(application_credentials::name.eq(name));
    }
    all.load(conn).await
}

/// The roles of several, each with the id of its credential.
pub async fn roles_of(conn: &mut AsyncPgConnection, ids: &[Uuid]) -> QueryResult<Vec<(Uuid, RoleRow)>> {
    application_credential_roles::table
        .inner_join(roles::table)
        .filter(application_credential_roles::credential_id.eq_any(ids))
        .select((application_credential_roles::credential_id, RoleRow::as_select()))
        .order(roles::name)
        .load(conn)
        .await
}

/// Deletes one of a user, with its tokens.
pub async fn delete(conn: &mut AsyncPgConnection, user: Uuid, id: Uuid) -> Result<RevocationRow, AccountError> {
    let own = application_credentials::table.find(id).filter(application_credentials::user_id.eq(user));
    if diesel::delete(own).execute(conn).await? == 0 {
        return Err(AccountError::no_such("Application Credential", id.simple()));
    }
    Ok(revoke_all(conn, Of::Credential(id)).await?)
}
