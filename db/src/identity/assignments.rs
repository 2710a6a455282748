//! Who has which role on what.

use super::revocations::{Of, RevocationRow, revoke_all};
use super::{AccountError, RoleRow, users};
use crate::schema::{application_credentials, role_assignments, roles};
use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
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
    users::lock(conn, user).await?;
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
