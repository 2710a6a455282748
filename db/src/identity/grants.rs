//! What a token may say, read so that no change can slip between.

use super::assignments::{On, roles_on};
use super::credentials::{CredentialRow, roles_of};
use super::revocations::{Issued, is_revoked, time};
use super::{DomainRef, DomainRow, Named, ProjectRow, RoleRow, UserRow, domains, projects};
use crate::schema::{application_credentials as credentials, domains as domain, projects as project, users as user};
use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

/// What was proven. The row is looked at again under its lock: it may have changed since.
#[derive(Clone, Debug)]
pub enum Proof {
    /// A password, which has this hash.
    Password(String),
    /// A token, which has been verified.
    Token,
    /// The secret of this application credential.
    Credential(CredentialRow),
}

/// What the token is wanted for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Nothing in particular: the user's default project, if it has a role there.
    Default,
    /// Nothing, explicitly.
    Unscoped,
    /// A project.
    Project(Named),
    /// A domain.
    Domain(DomainRef),
    /// The whole system.
    System,
}

/// What the token is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Nothing.
    Unscoped,
    /// A project, with its domain.
    Project(ProjectRow, DomainRow),
    /// A domain.
    Domain(DomainRow),
    /// The whole system.
    System,
}

/// What the token may say.
#[derive(Clone, Debug)]
pub struct Grant {
    /// Who.
    pub user: UserRow,
    /// Its domain.
    pub domain: DomainRow,
    /// For what.
    pub scope: Scope,
    /// With which roles; none only without scope.
    pub roles: Vec<RoleRow>,
    /// The database's time, after the account was locked and before its roles were read.
    pub issued_at: DateTime<Utc>,
}

/// What a token for `target` may say, or `None` if there is to be none: clients are never told
/// why. `from` is the token that it is got for, if there is one. In a transaction.
pub async fn grant(
    conn: &mut AsyncPgConnection,
    id: Uuid,
    proof: &Proof,
    from: Option<&Issued>,
    target: &Target,
) -> QueryResult<Option<Grant>> {
    let found: Option<UserRow> =
        user::table.find(id).select(UserRow::as_select()).for_share().first(conn).await.optional()?;
    let Some(user) = found.filter(|user| user.enabled) else { return Ok(None) };
    let Some(domain) = hold_domain(conn, &user.domain_id).await? else { return Ok(None) };
    let proven = match proof {
        Proof::Password(hash) => user.password_hash.as_ref() == Some(hash),
        Proof::Token => true,
        Proof::Credential(row) => {
            let still = credentials::table.find(row.id).select(credentials::id).for_share();
            still.first::<Uuid>(conn).await.optional()?.is_some()
        }
    };
    if !proven {
        return Ok(None);
    }
    // The new token would be younger than the revocation of the old one, and outlive it.
    if let Some(from) = from
        && is_revoked(conn, from).await?
    {
        return Ok(None);
    }
    let Some(scope) = hold_scope(conn, &user, target).await? else { return Ok(None) };
    let issued_at = time(conn).await?;
    let roles = match (&scope, proof) {
        (Scope::Unscoped, _) => Vec::new(),
        (_, Proof::Credential(row)) => roles_of(conn, &[row.id]).await?.into_iter().map(|(_, role)| role).collect(),
        (Scope::Project(project, _), _) => roles_on(conn, user.id, &On::Project(project.id)).await?,
        (Scope::Domain(domain), _) => roles_on(conn, user.id, &On::Domain(domain.id.clone())).await?,
        (Scope::System, _) => roles_on(conn, user.id, &On::System).await?,
    };
    let scope = match scope {
        scope if !roles.is_empty() || scope == Scope::Unscoped => scope,
        // The default project counts only where the user has a role.
        _ if *target == Target::Default => Scope::Unscoped,
        _ => return Ok(None),
    };
    Ok(Some(Grant { user, domain, scope, roles, issued_at }))
}

/// An enabled domain that stays so until the transaction ends.
async fn hold_domain(conn: &mut AsyncPgConnection, id: &str) -> QueryResult<Option<DomainRow>> {
    let found: Option<DomainRow> =
        domain::table.find(id).select(DomainRow::as_select()).for_share().first(conn).await.optional()?;
    Ok(found.filter(|domain| domain.enabled))
}

async fn hold_project(conn: &mut AsyncPgConnection, id: Uuid) -> QueryResult<Option<Scope>> {
    let found: Option<ProjectRow> =
        project::table.find(id).select(ProjectRow::as_select()).for_share().first(conn).await.optional()?;
    let Some(project) = found.filter(|project| project.enabled) else { return Ok(None) };
    let domain = hold_domain(conn, &project.domain_id).await?;
    Ok(domain.map(|domain| Scope::Project(project, domain)))
}

async fn hold_scope(conn: &mut AsyncPgConnection, user: &UserRow, target: &Target) -> QueryResult<Option<Scope>> {
    match target {
        Target::Unscoped => Ok(Some(Scope::Unscoped)),
        Target::System => Ok(Some(Scope::System)),
        Target::Default => {
            let Some(id) = user.default_project_id else { return Ok(Some(Scope::Unscoped)) };
            Ok(Some(hold_project(conn, id).await?.unwrap_or(Scope::Unscoped)))
        }
        Target::Project(named) => match projects::find(conn, named).await? {
            Some((project, _)) => hold_project(conn, project.id).await,
            None => Ok(None),
        },
        Target::Domain(named) => match domains::find(conn, named).await? {
            Some(domain) => Ok(hold_domain(conn, &domain.id).await?.map(Scope::Domain)),
            None => Ok(None),
        },
    }
}
