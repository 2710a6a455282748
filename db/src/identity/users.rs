//! Users.

use super::revocations::{Of, RevocationRow, revoke_all};
use super::{AccountError, DomainRef, DomainRow, Named, UserRow};
use crate::schema::{domains, users};
use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use mizar_domain::patch::Patch;
use uuid::Uuid;

/// Which ones a list shows.
#[derive(Clone, Debug, Default)]
pub struct UserFilter {
    /// Of this name.
    pub name: Option<String>,
    /// Of this domain.
    pub domain: Option<String>,
    /// In this state.
    pub enabled: Option<bool>,
}

/// What changes.
#[derive(Clone, Default)]
#[expect(missing_docs, reason = "the columns are documented in the migrations")]
pub struct UserChange {
    pub name: Option<String>,
    pub password_hash: Option<String>,
    pub enabled: Option<bool>,
    pub default_project_id: Patch<Uuid>,
    pub email: Option<String>,
    pub description: Option<String>,
}

/// The user that a request means, with the domain, if both exist; enabled or not.
pub async fn find(conn: &mut AsyncPgConnection, named: &Named) -> QueryResult<Option<(UserRow, DomainRow)>> {
    let all = users::table.inner_join(domains::table).select((UserRow::as_select(), DomainRow::as_select()));
    match named {
        Named::Id(id) => all.filter(users::id.eq(id)).first(conn).await.optional(),
        Named::Name { name, domain: DomainRef::Id(domain) } => {
            all.filter(users::name.eq(name)).filter(domains::id.eq(domain)).first(conn).await.optional()
        }
        Named::Name { name, domain: DomainRef::Name(domain) } => {
            all.filter(users::name.eq(name)).filter(domains::name.eq(domain)).first(conn).await.optional()
        }
    }
}

/// Users, by name.
pub async fn list(conn: &mut AsyncPgConnection, filter: &UserFilter) -> QueryResult<Vec<UserRow>> {
    let mut all = users::table.select(UserRow::as_select()).order(users::name).into_boxed();
    if let Some(name) = &filter.name {
        all = all.filter(users::name.eq(name));
    }
    if let Some(domain) = &filter.domain {
        all = all.filter(users::domain_id.eq(domain));
    }
    if let Some(enabled) = filter.enabled {
        all = all.filter(users::enabled.eq(enabled));
    }
    all.load(conn).await
}

/// Makes one.
pub async fn create(conn: &mut AsyncPgConnection, row: &UserRow) -> Result<(), AccountError> {
    let inserted = diesel::insert_into(users::table).values(row).execute(conn).await;
    inserted.map(drop).map_err(|error| AccountError::of_write(error, "user", &row.name))
}

/// Keeps tokens from being issued to a user, until the transaction ends.
pub(super) async fn lock(conn: &mut AsyncPgConnection, id: Uuid) -> Result<UserRow, AccountError> {
    let found = users::table.find(id).select(UserRow::as_select()).for_no_key_update().first(conn).await;
    found.optional()?.ok_or_else(|| AccountError::no_such("user", id.simple()))
}

/// Changes one. With another password, or disabled, the tokens so far are worth nothing.
pub async fn update(
    conn: &mut AsyncPgConnection,
    id: Uuid,
    change: &UserChange,
) -> Result<(UserRow, Option<RevocationRow>), AccountError> {
    let old = lock(conn, id).await?;
    let UserChange { name, password_hash, enabled, default_project_id, email, description } = change.clone();
    let revokes = password_hash.is_some() || enabled == Some(false);
    let new = UserRow {
        id,
        domain_id: old.domain_id,
        name: name.unwrap_or(old.name),
        password_hash: password_hash.or(old.password_hash),
        enabled: enabled.unwrap_or(old.enabled),
        default_project_id: default_project_id.over(old.default_project_id),
        email: email.unwrap_or(old.email),
        description: description.unwrap_or(old.description),
    };
    let stored = diesel::update(users::table.find(id)).set(&new).execute(conn).await;
    stored.map_err(|error| AccountError::of_write(error, "user", &new.name))?;
    let revoked = if revokes { Some(revoke_all(conn, Of::User(id)).await?) } else { None };
    Ok((new, revoked))
}

/// Replaces a password that was proven; `None` if it has been changed meanwhile.
pub async fn change_password(
    conn: &mut AsyncPgConnection,
    id: Uuid,
    proven: &str,
    new: String,
) -> Result<Option<RevocationRow>, AccountError> {
    if lock(conn, id).await?.password_hash.as_deref() != Some(proven) {
        return Ok(None);
    }
    Ok(update(conn, id, &UserChange { password_hash: Some(new), ..UserChange::default() }).await?.1)
}

/// Deletes one.
pub async fn delete(conn: &mut AsyncPgConnection, id: Uuid) -> Result<RevocationRow, AccountError> {
    if diesel::delete(users::table.find(id)).execute(conn).await? == 0 {
        return Err(AccountError::no_such("user", id.simple()));
    }
    Ok(revoke_all(conn, Of::User(id)).await?)
}
