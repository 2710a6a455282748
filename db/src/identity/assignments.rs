//! Who has which role on what.

use super::revocations::{Of, RevocationRow, revoke_all};
use super::{AccountError, RoleRow, users as accounts};
use crate::schema::{application_credentials, domains, projects, role_assignments, roles, users};
use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use std::collections::{BTreeSet, HashMap};
use uuid::Uuid;

/// What a role is on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum On {
    /// A project.
    Project(Uuid),
    /// A domain.
    Domain(String),
    /// Everything.
    System,
}

impl On {
    const fn project(&self) -> Option<Uuid> {
        match self {
            Self::Project(id) => Some(*id),
            Self::Domain(_) | Self::System => None,
        }
    }

    fn domain(&self) -> Option<&str> {
        match self {
            Self::Domain(id) => Some(id),
            Self::Project(_) | Self::System => None,
        }
    }
}

/// The roles of a user on something, by name.
pub async fn roles_on(conn: &mut AsyncPgConnection, user: Uuid, on: &On) -> QueryResult<Vec<RoleRow>> {
    role_assignments::table
        .inner_join(roles::table)
        .filter(role_assignments::user_id.eq(user))
        .filter(role_assignments::project_id.is_not_distinct_from(on.project()))
        .filter(role_assignments::domain_id.is_not_distinct_from(on.domain()))
        .select(RoleRow::as_select())
        .order(roles::name)
        .load(conn)
        .await
}

/// Which ones a list shows.
#[derive(Clone, Debug, Default)]
pub struct AssignmentFilter {
    /// Of this user.
    pub user: Option<Uuid>,
    /// Of this role.
    pub role: Option<Uuid>,
    /// On this.
    pub on: Option<On>,
}

/// One role of one user on one thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// Who.
    pub user: Uuid,
    /// Which.
    pub role: RoleRow,
    /// On what.
    pub on: On,
}

/// Assignments, by user.
pub async fn list(conn: &mut AsyncPgConnection, filter: &AssignmentFilter) -> QueryResult<Vec<Assignment>> {
    let mut all = role_assignments::table
        .inner_join(roles::table)
        .select((
            role_assignments::user_id,
            role_assignments::project_id,
            role_assignments::domain_id,
            RoleRow::as_select(),
        ))
        .order((
            role_assignments::user_id,
            role_assignments::project_id,
            role_assignments::domain_id,
            role_assignments::role,
        ))
        .into_boxed();
    if let Some(user) = filter.user {
        all = all.filter(role_assignments::user_id.eq(user));
    }
    if let Some(role) = filter.role {
        all = all.filter(roles::id.eq(role));
    }
    if let Some(on) = &filter.on {
        all = all
            .filter(role_assignments::project_id.is_not_distinct_from(on.project()))
            .filter(role_assignments::domain_id.is_not_distinct_from(on.domain().map(str::to_owned)));
    }
    let rows: Vec<(Uuid, Option<Uuid>, Option<String>, RoleRow)> = all.load(conn).await?;
    let assignment = |(user, project, domain, role)| {
        let on = match (project, domain) {
            (Some(project), _) => On::Project(project),
            (None, Some(domain)) => On::Domain(domain),
            (None, None) => On::System,
        };
        Assignment { user, role, on }
    };
    Ok(rows.into_iter().map(assignment).collect())
}

/// A user or a project, by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its name.
    pub name: String,
    /// Id of its domain.
    pub domain: String,
}

/// Names of what assignments refer to, by id.
#[derive(Clone, Debug, Default)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Names {
    pub users: HashMap<Uuid, Account>,
    pub projects: HashMap<Uuid, Account>,
    pub domains: HashMap<String, String>,
}

/// The names that these assignments need, and no others.
pub async fn names(conn: &mut AsyncPgConnection, of: &[Assignment]) -> QueryResult<Names> {
    fn accounts(rows: Vec<(Uuid, String, String)>) -> HashMap<Uuid, Account> {
        rows.into_iter().map(|(id, name, domain)| (id, Account { name, domain })).collect()
    }
    let users: BTreeSet<Uuid> = of.iter().map(|one| one.user).collect();
    let projects: BTreeSet<Uuid> = of.iter().filter_map(|one| one.on.project()).collect();
    let users = users::table.filter(users::id.eq_any(users)).select((users::id, users::name, users::domain_id));
    let users = accounts(users.load(conn).await?);
    let projects = projects::table.filter(projects::id.eq_any(projects)).select((
        projects::id,
        projects::name,
        projects::domain_id,
    ));
    let projects = accounts(projects.load(conn).await?);
    let theirs = users.values().chain(projects.values()).map(|account| account.domain.as_str());
    let domains: BTreeSet<&str> = of.iter().filter_map(|one| one.on.domain()).chain(theirs).collect();
    let domains = domains::table.filter(domains::id.eq_any(domains)).select((domains::id, domains::name));
    let domains: Vec<(String, String)> = domains.load(conn).await?;
    Ok(Names { users, projects, domains: domains.into_iter().collect() })
}

/// Gives a user a role; doing it twice is doing it once.
pub async fn assign(conn: &mut AsyncPgConnection, user: Uuid, on: &On, role: &str) -> Result<(), AccountError> {
    let inserted = diesel::insert_into(role_assignments::table)
        .values((
            role_assignments::user_id.eq(user),
            role_assignments::project_id.eq(on.project()),
            role_assignments::domain_id.eq(on.domain()),
            role_assignments::role.eq(role),
        ))
        .on_conflict_do_nothing()
        .execute(conn)
        .await;
    inserted.map(drop).map_err(|error| AccountError::of_write(error, "role assignment", role))
}

/// Takes a role away, with the tokens that carry it, and with the user's application credentials
/// for the project: they may have it too.
pub async fn unassign(
    conn: &mut AsyncPgConnection,
    user: Uuid,
    on: &On,
    role: &str,
) -> Result<RevocationRow, AccountError> {
    accounts::lock(conn, user).await?;
    let row = role_assignments::table
        .filter(role_assignments::user_id.eq(user))
        .filter(role_assignments::project_id.is_not_distinct_from(on.project()))
        .filter(role_assignments::domain_id.is_not_distinct_from(on.domain()))
        .filter(role_assignments::role.eq(role));
    if diesel::delete(row).execute(conn).await? == 0 {
        return Err(AccountError::no_such("role assignment with role", role));
    }
    if let On::Project(project) = on {
        let credentials = application_credentials::table
            .filter(application_credentials::user_id.eq(user))
            .filter(application_credentials::project_id.eq(project));
        diesel::delete(credentials).execute(conn).await?;
    }
    Ok(revoke_all(conn, Of::User(user)).await?)
}
