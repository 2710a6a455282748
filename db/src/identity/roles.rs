//! Roles.

use super::revocations::{Of, RevocationRow, revoke_all};
use super::{AccountError, RoleRow};
use crate::schema::{application_credential_roles, application_credentials, role_assignments, roles, users};
use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

const BUILTIN: AccountError = AccountError::Forbidden("the role is built in and cannot be changed or deleted");

/// Roles, all or of one name, by name.
pub async fn list(conn: &mut AsyncPgConnection, name: Option<&str>) -> QueryResult<Vec<RoleRow>> {
    let mut all = roles::table.select(RoleRow::as_select()).order(roles::name).into_boxed();
    if let Some(name) = name {
        all = all.filter(roles::name.eq(name));
    }
    all.load(conn).await
}

/// The role of an id.
pub async fn find(conn: &mut AsyncPgConnection, id: Uuid) -> QueryResult<Option<RoleRow>> {
    roles::table.filter(roles::id.eq(id)).select(RoleRow::as_select()).first(conn).await.optional()
}

/// Makes one.
pub async fn create(conn: &mut AsyncPgConnection, row: &RoleRow) -> Result<(), AccountError> {
    let inserted = diesel::insert_into(roles::table).values(row).execute(conn).await;
    inserted.map(drop).map_err(|error| AccountError::of_write(error, "role", &row.name))
}

/// The role, if it may change, with its holders locked and their tokens revoked: these carry its
/// name.
async fn take(conn: &mut AsyncPgConnection, id: Uuid) -> Result<(RoleRow, Vec<RevocationRow>), AccountError> {
    let found = roles::table.filter(roles::id.eq(id)).select(RoleRow::as_select()).for_update().first(conn).await;
    let role: RoleRow = found.optional()?.ok_or_else(|| AccountError::no_such("role", id.simple()))?;
    if role.builtin {
        return Err(BUILTIN);
    }
    let holders =
        role_assignments::table.filter(role_assignments::role.eq(&role.name)).select(role_assignments::user_id);
    let holders: Vec<Uuid> = users::table
        .filter(users::id.eq_any(holders))
        .select(users::id)
        .order(users::id)
        .for_no_key_update()
        .load(conn)
        .await?;
    let mut revoked = Vec::new();
    for user in holders {
        revoked.push(revoke_all(conn, Of::User(user)).await?);
    }
    Ok((role, revoked))
}

/// Renames or describes one.
pub async fn update(
    conn: &mut AsyncPgConnection,
    id: Uuid,
    name: Option<String>,
    description: Option<String>,
) -> Result<(RoleRow, Vec<RevocationRow>), AccountError> {
    let (old, revoked) = take(conn, id).await?;
    let new = RoleRow {
        id,
        name: name.unwrap_or(old.name),
        description: description.unwrap_or(old.description),
        builtin: false,
    };
    let stored = diesel::update(roles::table.filter(roles::id.eq(id)))
        .set((roles::name.eq(&new.name), roles::description.eq(&new.description)))
        .execute(conn)
        .await;
    stored.map_err(|error| AccountError::of_write(error, "role", &new.name))?;
    Ok((new, revoked))
}

/// Deletes one, and takes it from everybody; application credentials that had it go.
pub async fn delete(conn: &mut AsyncPgConnection, id: Uuid) -> Result<Vec<RevocationRow>, AccountError> {
    let (role, revoked) = take(conn, id).await?;
    let with_it = application_credential_roles::table
        .filter(application_credential_roles::role.eq(&role.name))
        .select(application_credential_roles::credential_id);
    diesel::delete(application_credentials::table.filter(application_credentials::id.eq_any(with_it)))
        .execute(conn)
        .await?;
    diesel::delete(roles::table.filter(roles::id.eq(id))).execute(conn).await?;
    Ok(revoked)
}
