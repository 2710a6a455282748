//! Projects.

use super::revocations::{Of, RevocationRow, revoke_all};
use super::{AccountError, DomainRef, DomainRow, Named, ProjectRow};
use crate::schema::{domains, projects, role_assignments};
use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

/// Which ones a list shows.
#[derive(Clone, Debug, Default)]
pub struct ProjectFilter {
    /// Of this name.
    pub name: Option<String>,
    /// Of this domain.
    pub domain: Option<String>,
    /// In this state.
    pub enabled: Option<bool>,
    /// On which this user has a role.
    pub user: Option<Uuid>,
    /// With all of these tags.
    pub tags: Vec<String>,
    /// With one of these tags, if any are named.
    pub tags_any: Vec<String>,
    /// Without one of these tags at least, if any are named.
    pub not_tags: Vec<String>,
    /// Without any of these tags.
    pub not_tags_any: Vec<String>,
}

/// What changes.
#[derive(Clone, Debug, Default)]
#[expect(missing_docs, reason = "the columns are documented in the migrations")]
pub struct ProjectChange {
    pub name: Option<String>,
    pub description: Option<String>,
    pub enabled: Option<bool>,
    pub tags: Option<Vec<String>>,
}

/// The project that a request means, with its domain, if both exist; enabled or not.
pub async fn find(conn: &mut AsyncPgConnection, named: &Named) -> QueryResult<Option<(ProjectRow, DomainRow)>> {
    let all = projects::table.inner_join(domains::table).select((ProjectRow::as_select(), DomainRow::as_select()));
    match named {
        Named::Id(id) => all.filter(projects::id.eq(id)).first(conn).await.optional(),
        Named::Name { name, domain: DomainRef::Id(domain) } => {
            all.filter(projects::name.eq(name)).filter(domains::id.eq(domain)).first(conn).await.optional()
        }
        Named::Name { name, domain: DomainRef::Name(domain) } => {
            all.filter(projects::name.eq(name)).filter(domains::name.eq(domain)).first(conn).await.optional()
        }
    }
}

/// Projects, by name.
pub async fn list(conn: &mut AsyncPgConnection, filter: &ProjectFilter) -> QueryResult<Vec<ProjectRow>> {
    let mut all = projects::table.select(ProjectRow::as_select()).order(projects::name).into_boxed();
    if let Some(name) = &filter.name {
        all = all.filter(projects::name.eq(name));
    }
    if let Some(domain) = &filter.domain {
        all = all.filter(projects::domain_id.eq(domain));
    }
    if let Some(enabled) = filter.enabled {
        all = all.filter(projects::enabled.eq(enabled));
    }
    if let Some(user) = filter.user {
        let with_role = role_assignments::table
            .filter(role_assignments::user_id.eq(user))
            .filter(role_assignments::project_id.is_not_null())
            .select(role_assignments::project_id.assume_not_null());
        all = all.filter(projects::id.eq_any(with_role));
    }
    if !filter.tags.is_empty() {
        all = all.filter(projects::tags.contains(&filter.tags));
    }
    if !filter.tags_any.is_empty() {
        all = all.filter(projects::tags.overlaps_with(&filter.tags_any));
    }
    if !filter.not_tags.is_empty() {
        all = all.filter(diesel::dsl::not(projects::tags.contains(&filter.not_tags)));
    }
    if !filter.not_tags_any.is_empty() {
        all = all.filter(diesel::dsl::not(projects::tags.overlaps_with(&filter.not_tags_any)));
    }
    all.load(conn).await
}

/// Makes one.
pub async fn create(conn: &mut AsyncPgConnection, row: &ProjectRow) -> Result<(), AccountError> {
    let inserted = diesel::insert_into(projects::table).values(row).execute(conn).await;
    inserted.map(drop).map_err(|error| AccountError::of_write(error, "project", &row.name))
}

/// Changes one; disabled, tokens for it are worth nothing.
pub async fn update(
    conn: &mut AsyncPgConnection,
    id: Uuid,
    change: &ProjectChange,
) -> Result<(ProjectRow, Option<RevocationRow>), AccountError> {
    let old: Option<ProjectRow> =
        projects::table.find(id).select(ProjectRow::as_select()).for_no_key_update().first(conn).await.optional()?;
    let old = old.ok_or_else(|| AccountError::no_such("project", id.simple()))?;
    let ProjectChange { name, description, enabled, tags } = change.clone();
    let new = ProjectRow {
        id,
        domain_id: old.domain_id,
        name: name.unwrap_or(old.name),
        description: description.unwrap_or(old.description),
        enabled: enabled.unwrap_or(old.enabled),
        tags: tags.unwrap_or(old.tags),
    };
    let stored = diesel::update(projects::table.find(id)).set(&new).execute(conn).await;
    stored.map_err(|error| AccountError::of_write(error, "project", &new.name))?;
    let revoked = if new.enabled { None } else { Some(revoke_all(conn, Of::Project(id)).await?) };
    Ok((new, revoked))
}

/// Deletes one. Its networks stay: operators delete them first.
pub async fn delete(conn: &mut AsyncPgConnection, id: Uuid) -> Result<RevocationRow, AccountError> {
    if diesel::delete(projects::table.find(id)).execute(conn).await? == 0 {
        return Err(AccountError::no_such("project", id.simple()));
    }
    Ok(revoke_all(conn, Of::Project(id)).await?)
}
