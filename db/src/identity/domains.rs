//! Domains.

use super::revocations::{Of, RevocationRow, revoke_all};
use super::{AccountError, DEFAULT_DOMAIN, DomainRef, DomainRow};
use crate::schema::{domains, projects, users};
use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};

/// Which ones a list shows.
#[derive(Clone, Debug, Default)]
pub struct DomainFilter {
    /// Of this name.
    pub name: Option<String>,
    /// In this state.
    pub enabled: Option<bool>,
}

/// What changes.
#[derive(Clone, Debug, Default)]
#[expect(missing_docs, reason = "the columns are documented in the migrations")]
pub struct DomainChange {
    pub name: Option<String>,
    pub description: Option<String>,
    pub enabled: Option<bool>,
}

/// The domain that a request means.
pub async fn find(conn: &mut AsyncPgConnection, named: &DomainRef) -> QueryResult<Option<DomainRow>> {
    let all = domains::table.select(DomainRow::as_select());
    match named {
        DomainRef::Id(id) => all.filter(domains::id.eq(id)).first(conn).await.optional(),
        DomainRef::Name(name) => all.filter(domains::name.eq(name)).first(conn).await.optional(),
    }
}

/// Domains, by name.
pub async fn list(conn: &mut AsyncPgConnection, filter: &DomainFilter) -> QueryResult<Vec<DomainRow>> {
    let mut all = domains::table.select(DomainRow::as_select()).order(domains::name).into_boxed();
    if let Some(name) = &filter.name {
        all = all.filter(domains::name.eq(name));
    }
    if let Some(enabled) = filter.enabled {
        all = all.filter(domains::enabled.eq(enabled));
    }
    all.load(conn).await
}

/// Makes one.
pub async fn create(conn: &mut AsyncPgConnection, row: &DomainRow) -> Result<(), AccountError> {
    let inserted = diesel::insert_into(domains::table).values(row).execute(conn).await;
    inserted.map(drop).map_err(|error| AccountError::of_write(error, "domain", &row.name))
}

async fn lock(conn: &mut AsyncPgConnection, id: &str) -> Result<DomainRow, AccountError> {
    let found = domains::table.find(id).select(DomainRow::as_select()).for_no_key_update().first(conn).await;
    found.optional()?.ok_or_else(|| AccountError::no_such("domain", id))
}

/// Changes one; disabled, its tokens are worth nothing.
pub async fn update(
    conn: &mut AsyncPgConnection,
    id: &str,
    change: &DomainChange,
) -> Result<(DomainRow, Option<RevocationRow>), AccountError> {
    let old = lock(conn, id).await?;
    let DomainChange { name, description, enabled } = change.clone();
    let new = DomainRow {
        id: old.id.clone(),
        name: name.unwrap_or(old.name),
        description: description.unwrap_or(old.description),
        enabled: enabled.unwrap_or(old.enabled),
    };
    let stored = diesel::update(domains::table.find(id)).set(&new).execute(conn).await;
    stored.map_err(|error| AccountError::of_write(error, "domain", &new.name))?;
    let revoked = if new.enabled { None } else { Some(revoke_all(conn, Of::Domain(id)).await?) };
    Ok((new, revoked))
}

/// Deletes one with its users and projects. It must be disabled before, as in Keystone: nobody
/// loses a domain by a slip of the hand.
pub async fn delete(conn: &mut AsyncPgConnection, id: &str) -> Result<RevocationRow, AccountError> {
    if id == DEFAULT_DOMAIN {
        return Err(AccountError::Forbidden("the default domain cannot be deleted"));
    }
    if lock(conn, id).await?.enabled {
        return Err(AccountError::Forbidden("cannot delete a domain that is enabled, please disable it first"));
    }
    diesel::delete(users::table.filter(users::domain_id.eq(id))).execute(conn).await?;
    diesel::delete(projects::table.filter(projects::domain_id.eq(id))).execute(conn).await?;
    diesel::delete(domains::table.find(id)).execute(conn).await?;
    Ok(revoke_all(conn, Of::Domain(id)).await?)
}
