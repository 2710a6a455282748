//! Accounts of the embedded identity service: domains, users, projects, roles, application
//! credentials, and which tokens count no more.
//!
//! A token carries the roles of its moment, so whatever takes something away also revokes, in one
//! transaction: the functions that do return what they revoked, and the caller's replica counts it
//! at once. No token slips between: [`grants::grant`] reads the roles and the time under a shared
//! lock of the account's row, and a change reads its own time after it has locked the same row, so
//! every token from before the change is older than the revocation, whatever the clocks of the
//! replicas say. Functions with a `&mut AsyncPgConnection` that write expect a transaction.

pub mod assignments;
pub mod bootstrap;
pub mod credentials;
pub mod domains;
pub mod grants;
pub mod projects;
pub mod revocations;
pub mod roles;
pub mod users;

use crate::pool::{Conflict, PoolError, is_conflict};
use crate::resources::violated;
use crate::schema;
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::result::{DatabaseErrorKind, Error};
use uuid::Uuid;

/// The domain of accounts that name none.
pub const DEFAULT_DOMAIN: &str = "default";

/// A domain: a name space of users and projects.
#[derive(Clone, Debug, PartialEq, Eq, Queryable, Selectable, Insertable, AsChangeset)]
#[diesel(table_name = schema::domains, check_for_backend(Pg))]
#[expect(missing_docs, reason = "the columns are documented in the migrations")]
pub struct DomainRow {
    pub id: String,
    pub name: String,
    pub enabled: bool,
    pub description: String,
}

/// A project: a tenant.
#[derive(Clone, Debug, PartialEq, Eq, Queryable, Selectable, Insertable, AsChangeset)]
#[diesel(table_name = schema::projects, check_for_backend(Pg))]
#[expect(missing_docs, reason = "the columns are documented in the migrations")]
pub struct ProjectRow {
    pub id: Uuid,
    pub domain_id: String,
    pub name: String,
    pub description: String,
    pub enabled: bool,
    pub tags: Vec<String>,
}

/// A user.
#[derive(Clone, PartialEq, Eq, Queryable, Selectable, Insertable, AsChangeset)]
#[diesel(table_name = schema::users, check_for_backend(Pg), treat_none_as_null = true)]
#[expect(missing_docs, reason = "the columns are documented in the migrations")]
pub struct UserRow {
    pub id: Uuid,
    pub domain_id: String,
    pub name: String,
    pub password_hash: Option<String>,
    pub enabled: bool,
    pub default_project_id: Option<Uuid>,
    pub email: String,
    pub description: String,
}

impl std::fmt::Debug for UserRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UserRow").field("id", &self.id).field("name", &self.name).finish_non_exhaustive()
    }
}

/// A role. Rights hang on the names of the built-in ones; others are for other services.
#[derive(Clone, Debug, PartialEq, Eq, Queryable, Selectable, Insertable, AsChangeset)]
#[diesel(table_name = schema::roles, check_for_backend(Pg))]
#[expect(missing_docs, reason = "the columns are documented in the migrations")]
pub struct RoleRow {
    pub id: Uuid,
    pub name: String,
    pub description: String,
    pub builtin: bool,
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

/// Why an account stays as it is. `Display` is Keystone's wording.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// There is one of that name.
    #[error("Conflict occurred attempting to store {kind} - Duplicate entry found with name {name}.")]
    NameTaken {
        /// Of which kind.
        kind: &'static str,
        /// Which name.
        name: String,
    },
    /// It, or what it names, is not there.
    #[error("Could not find {kind}: {id}.")]
    NoSuch {
        /// Of which kind.
        kind: &'static str,
        /// As it was named.
        id: String,
    },
    /// Not even administrators may.
    #[error("You are not authorized to perform the requested action: {0}.")]
    Forbidden(&'static str),
    /// No connection.
    #[error("the database cannot be reached")]
    Pool(#[from] PoolError),
    /// A statement failed.
    #[error("a database statement failed")]
    Database(#[from] Error),
}

impl Conflict for AccountError {
    fn is_conflict(&self) -> bool {
        matches!(self, Self::Database(error) if is_conflict(error))
    }
}

impl AccountError {
    pub(crate) fn no_such(kind: &'static str, id: impl std::fmt::Display) -> Self {
        Self::NoSuch { kind, id: id.to_string() }
    }

    /// Of a statement that stored `name`: which constraint it broke says what is wrong.
    pub(crate) fn of_write(error: Error, kind: &'static str, name: &str) -> Self {
        if matches!(error, Error::DatabaseError(DatabaseErrorKind::UniqueViolation, _)) {
            return Self::NameTaken { kind, name: name.to_owned() };
        }
        let missing = match violated(&error) {
            Some("projects_domain_id_fkey" | "users_domain_id_fkey" | "role_assignments_domain_id_fkey") => "domain",
            Some("users_default_project_id_fkey" | "role_assignments_project_id_fkey") => "project",
            Some("application_credentials_project_id_fkey") => "project",
            Some("role_assignments_user_id_fkey" | "application_credentials_user_id_fkey") => "user",
            Some("role_assignments_role_fkey" | "application_credential_roles_role_fkey") => "role",
            _ => return Self::Database(error),
        };
        Self::no_such(missing, format!("named by {kind} {name}"))
    }
}
