//! Accounts of the embedded identity service: users, projects, role assignments, revoked tokens.

use crate::schema::{domains, projects, revoked_tokens, role_assignments, users};
use chrono::{DateTime, Utc};
use diesel::dsl::now;
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::result::{DatabaseErrorKind, Error};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

/// The only domain until there is need for more.
pub const DEFAULT_DOMAIN: &str = "default";

/// A domain: a name space of users and projects.
#[derive(Clone, Debug, PartialEq, Eq, Queryable, Selectable)]
#[diesel(table_name = domains, check_for_backend(Pg))]
#[expect(missing_docs, reason = "the columns are documented in the migrations")]
pub struct DomainRow {
    pub id: String,
    pub name: String,
    pub enabled: bool,
}

/// A project: a tenant.
#[derive(Clone, Debug, PartialEq, Eq, Queryable, Selectable, Insertable)]
#[diesel(table_name = projects, check_for_backend(Pg))]
#[expect(missing_docs, reason = "the columns are documented in the migrations")]
pub struct ProjectRow {
    pub id: Uuid,
    pub domain_id: String,
    pub name: String,
    pub description: String,
    pub enabled: bool,
}

/// A user.
#[derive(Clone, PartialEq, Eq, Queryable, Selectable, Insertable)]
#[diesel(table_name = users, check_for_backend(Pg))]
#[expect(missing_docs, reason = "the columns are documented in the migrations")]
pub struct UserRow {
    pub id: Uuid,
    pub domain_id: String,
    pub name: String,
    pub password_hash: String,
    pub enabled: bool,
    pub default_project_id: Option<Uuid>,
}

impl std::fmt::Debug for UserRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UserRow").field("id", &self.id).field("name", &self.name).finish_non_exhaustive()
    }
}

/// How a request names a user or a project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Named {
    /// By id.
    Id(Uuid),
    /// By name, in a domain that is named by id or by name.
    Name {
        /// The name.
        name: String,
        /// Id or name of the domain.
        domain: DomainRef,
    },
}

/// How a request names a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DomainRef {
    /// By id.
    Id(String),
    /// By name.
    Name(String),
}

/// The domain that a request means.
pub async fn domain(conn: &mut AsyncPgConnection, named: &DomainRef) -> QueryResult<Option<DomainRow>> {
    let all = domains::table.select(DomainRow::as_select());
    match named {
        DomainRef::Id(id) => all.filter(domains::id.eq(id)).first(conn).await.optional(),
        DomainRef::Name(name) => all.filter(domains::name.eq(name)).first(conn).await.optional(),
    }
}

/// All domains.
pub async fn list_domains(conn: &mut AsyncPgConnection) -> QueryResult<Vec<DomainRow>> {
    domains::table.select(DomainRow::as_select()).order(domains::id).load(conn).await
}

/// The user that a request means, with the domain, if both exist; enabled or not.
pub async fn user(conn: &mut AsyncPgConnection, named: &Named) -> QueryResult<Option<(UserRow, DomainRow)>> {
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

/// The project that a request means, with its domain, if both exist; enabled or not.
pub async fn project(conn: &mut AsyncPgConnection, named: &Named) -> QueryResult<Option<(ProjectRow, DomainRow)>> {
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

/// Names of the roles of a user on a project, or on the whole system (`None`).
pub async fn roles(conn: &mut AsyncPgConnection, user: Uuid, project: Option<Uuid>) -> QueryResult<Vec<String>> {
    role_assignments::table
        .filter(role_assignments::user_id.eq(user))
        .filter(role_assignments::project_id.is_not_distinct_from(project))
        .select(role_assignments::role)
        .order(role_assignments::role)
        .load(conn)
        .await
}

/// Enabled projects on which a user has a role.
pub async fn projects_of(conn: &mut AsyncPgConnection, user: Uuid) -> QueryResult<Vec<ProjectRow>> {
    let with_role = role_assignments::table
        .filter(role_assignments::user_id.eq(user))
        .filter(role_assignments::project_id.is_not_null())
        .select(role_assignments::project_id.assume_not_null());
    projects::table
        .filter(projects::id.eq_any(with_role))
        .filter(projects::enabled)
        .select(ProjectRow::as_select())
        .order(projects::name)
        .load(conn)
        .await
}

/// Projects, all or of one name, by name.
pub async fn list_projects(conn: &mut AsyncPgConnection, name: Option<&str>) -> QueryResult<Vec<ProjectRow>> {
    let mut all = projects::table.select(ProjectRow::as_select()).order(projects::name).into_boxed();
    if let Some(name) = name {
        all = all.filter(projects::name.eq(name));
    }
    all.load(conn).await
}

/// Users, all or of one name, by name.
pub async fn list_users(conn: &mut AsyncPgConnection, name: Option<&str>) -> QueryResult<Vec<UserRow>> {
    let mut all = users::table.select(UserRow::as_select()).order(users::name).into_boxed();
    if let Some(name) = name {
        all = all.filter(users::name.eq(name));
    }
    all.load(conn).await
}

/// Why an account cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// The domain has one of that name.
    #[error("it is not permitted to have two of the same name in the same domain: {0}")]
    NameTaken(String),
    /// It names what does not exist.
    #[error("{0} could not be found")]
    NoSuch(&'static str),
    /// A statement failed.
    #[error("a database statement failed")]
    Database(#[source] Error),
}

impl AccountError {
    fn from_insert(error: Error, name: &str) -> Self {
        match error {
            Error::DatabaseError(DatabaseErrorKind::UniqueViolation, _) => Self::NameTaken(name.to_owned()),
            Error::DatabaseError(DatabaseErrorKind::ForeignKeyViolation, _) => Self::NoSuch("domain"),
            other => Self::Database(other),
        }
    }
}

/// Makes a project.
pub async fn create_project(conn: &mut AsyncPgConnection, row: &ProjectRow) -> Result<(), AccountError> {
    let inserted = diesel::insert_into(projects::table).values(row).execute(conn).await;
    inserted.map(drop).map_err(|error| AccountError::from_insert(error, &row.name))
}

/// Makes a user.
pub async fn create_user(conn: &mut AsyncPgConnection, row: &UserRow) -> Result<(), AccountError> {
    let inserted = diesel::insert_into(users::table).values(row).execute(conn).await;
    inserted.map(drop).map_err(|error| AccountError::from_insert(error, &row.name))
}

/// Deletes a user; `false` if there is none.
pub async fn delete_user(conn: &mut AsyncPgConnection, id: Uuid) -> QueryResult<bool> {
    Ok(diesel::delete(users::table.find(id)).execute(conn).await? > 0)
}

/// Deletes a project; `false` if there is none. Its networks stay: operators delete them first.
pub async fn delete_project(conn: &mut AsyncPgConnection, id: Uuid) -> QueryResult<bool> {
    Ok(diesel::delete(projects::table.find(id)).execute(conn).await? > 0)
}

/// New password or state of a user; `false` if there is none.
pub async fn update_user(
    conn: &mut AsyncPgConnection,
    id: Uuid,
    password_hash: Option<&str>,
    enabled: Option<bool>,
) -> QueryResult<bool> {
    let mut found = false;
    if let Some(hash) = password_hash {
        found |= diesel::update(users::table.find(id)).set(users::password_hash.eq(hash)).execute(conn).await? > 0;
    }
    if let Some(enabled) = enabled {
        found |= diesel::update(users::table.find(id)).set(users::enabled.eq(enabled)).execute(conn).await? > 0;
    }
    Ok(found)
}

/// Gives a user a role on a project, or on the whole system (`None`); doing it twice is doing it
/// once.
pub async fn assign_role(
    conn: &mut AsyncPgConnection,
    user: Uuid,
    project: Option<Uuid>,
    role: &str,
) -> Result<(), AccountError> {
    let inserted = diesel::insert_into(role_assignments::table)
        .values((
            role_assignments::user_id.eq(user),
            role_assignments::project_id.eq(project),
            role_assignments::role.eq(role),
        ))
        .on_conflict_do_nothing()
        .execute(conn)
        .await;
    match inserted {
        Err(Error::DatabaseError(DatabaseErrorKind::ForeignKeyViolation, _)) => {
            Err(AccountError::NoSuch("user or project"))
        }
        other => other.map(drop).map_err(AccountError::Database),
    }
}

/// Takes a role away; `false` if the user did not have it.
pub async fn remove_role(
    conn: &mut AsyncPgConnection,
    user: Uuid,
    project: Option<Uuid>,
    role: &str,
) -> QueryResult<bool> {
    let row = role_assignments::table
        .filter(role_assignments::user_id.eq(user))
        .filter(role_assignments::project_id.is_not_distinct_from(project))
        .filter(role_assignments::role.eq(role));
    Ok(diesel::delete(row).execute(conn).await? > 0)
}

/// What is not to count any more, until it would expire anyway.
#[derive(Clone, Debug, PartialEq, Eq, Queryable, Selectable, Insertable, AsChangeset)]
#[diesel(table_name = revoked_tokens, check_for_backend(Pg))]
pub struct RevocationRow {
    /// Audit id of a token; or `user:ID`, `project:ID` for all of an account.
    pub audit_id: String,
    /// Those issued before; `None`: whenever.
    pub issued_before: Option<DateTime<Utc>>,
    /// When the last of them would expire anyway.
    pub expires_at: DateTime<Utc>,
}

/// Revokes tokens.
pub async fn revoke(conn: &mut AsyncPgConnection, row: &RevocationRow) -> QueryResult<()> {
    diesel::insert_into(revoked_tokens::table)
        .values(row)
        .on_conflict(revoked_tokens::audit_id)
        .do_update()
        .set(row)
        .execute(conn)
        .await?;
    Ok(())
}

/// Forgets what has expired, and lists the rest.
pub async fn revoked(conn: &mut AsyncPgConnection) -> QueryResult<Vec<RevocationRow>> {
    let gone = now.into_sql::<diesel::sql_types::Timestamptz>();
    diesel::delete(revoked_tokens::table.filter(revoked_tokens::expires_at.lt(gone))).execute(conn).await?;
    revoked_tokens::table.select(RevocationRow::as_select()).load(conn).await
}

/// What a cloud starts with: the domain, a project and a user `admin` with the role admin on it
/// and on the system. Does nothing if there is a user of that name already: a password that was
/// changed since stays changed.
pub async fn bootstrap(conn: &mut AsyncPgConnection, password_hash: &str) -> Result<bool, AccountError> {
    diesel::insert_into(domains::table)
        .values((domains::id.eq(DEFAULT_DOMAIN), domains::name.eq("Default")))
        .on_conflict_do_nothing()
        .execute(conn)
        .await
        .map_err(AccountError::Database)?;
    let by_name = |name: &str| Named::Name { name: name.into(), domain: DomainRef::Id(DEFAULT_DOMAIN.into()) };
    if user(conn, &by_name("admin")).await.map_err(AccountError::Database)?.is_some() {
        return Ok(false);
    }
    let project_id = match project(conn, &by_name("admin")).await.map_err(AccountError::Database)? {
        Some((project, _)) => project.id,
        None => {
            let row = ProjectRow {
                id: Uuid::new_v4(),
                domain_id: DEFAULT_DOMAIN.into(),
                name: "admin".into(),
                description: "The operators' project".into(),
                enabled: true,
            };
            create_project(conn, &row).await?;
            row.id
        }
    };
    let row = UserRow {
        id: Uuid::new_v4(),
        domain_id: DEFAULT_DOMAIN.into(),
        name: "admin".into(),
        password_hash: password_hash.into(),
        enabled: true,
        default_project_id: Some(project_id),
    };
    create_user(conn, &row).await?;
    assign_role(conn, row.id, Some(project_id), "admin").await?;
    assign_role(conn, row.id, None, "admin").await?;
    Ok(true)
}
