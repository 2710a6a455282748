//! Accounts as answers show them.

use crate::app::Settings;
use mizar_db::identity::assignments::{Assignment, On};
use mizar_db::identity::credentials::CredentialRow;
use mizar_db::identity::{DomainRow, ProjectRow, RoleRow, UserRow};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;
use uuid::Uuid;

/// An id in Keystone's form: 32 hexadecimal digits.
pub fn id_text(id: Uuid) -> String {
    id.simple().to_string()
}

/// Where an object is.
#[derive(Debug, Serialize, ToSchema)]
pub struct Links {
    /// Its own address.
    #[serde(rename = "self")]
    pub own: String,
}

fn links(settings: &Settings, plural: &str, id: &str) -> Links {
    Links { own: format!("{}/v3/{plural}/{id}", settings.public_url) }
}

/// Always empty here; clients expect it.
type Options = Map<String, Value>;

/// A name space of users and projects.
#[derive(Debug, Serialize, ToSchema)]
#[expect(missing_docs, reason = "Keystone's attributes")]
pub struct Domain {
    #[schema(example = "default")]
    pub id: String,
    #[schema(example = "Default")]
    pub name: String,
    pub description: String,
    pub enabled: bool,
    pub tags: Vec<String>,
    #[schema(value_type = Object)]
    pub options: Options,
    pub links: Links,
}

/// A tenant.
#[derive(Debug, Serialize, ToSchema)]
#[expect(missing_docs, reason = "Keystone's attributes")]
pub struct Project {
    #[schema(example = "9d3c6f2e8a7b4c1d8e5f60718293a4b5")]
    pub id: String,
    #[schema(example = "red")]
    pub name: String,
    pub description: String,
    #[schema(example = "default")]
    pub domain_id: String,
    /// The domain: projects are not nested.
    #[schema(example = "default")]
    pub parent_id: String,
    pub is_domain: bool,
    pub enabled: bool,
    pub tags: Vec<String>,
    #[schema(value_type = Object)]
    pub options: Options,
    pub links: Links,
}

/// An account.
#[derive(Debug, Serialize, ToSchema)]
#[expect(missing_docs, reason = "Keystone's attributes")]
pub struct User {
    #[schema(example = "1f0e2d3c4b5a69788796a5b4c3d2e1f0")]
    pub id: String,
    #[schema(example = "ann")]
    pub name: String,
    #[schema(example = "default")]
    pub domain_id: String,
    pub enabled: bool,
    pub default_project_id: Option<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    #[schema(required = false)]
    pub email: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    #[schema(required = false)]
    pub description: String,
    /// Passwords do not expire.
    pub password_expires_at: Option<String>,
    #[schema(value_type = Object)]
    pub options: Options,
    pub links: Links,
}

/// What a user may be on a project, a domain or the system.
#[derive(Debug, Serialize, ToSchema)]
#[expect(missing_docs, reason = "Keystone's attributes")]
pub struct IdentityRole {
    #[schema(example = "6d656d62657280008000000000000000")]
    pub id: String,
    #[schema(example = "member")]
    pub name: String,
    pub description: String,
    /// Roles belong to no domain.
    pub domain_id: Option<String>,
    pub options: RoleOptions,
    pub links: Links,
}

/// Options of a role.
#[derive(Debug, Serialize, ToSchema)]
pub struct RoleOptions {
    /// A built-in role: neither changed nor deleted.
    pub immutable: bool,
}

/// An id, with its name where names are asked for.
#[derive(Debug, Serialize, ToSchema)]
#[expect(missing_docs, reason = "Keystone's attributes")]
pub struct Reference {
    pub id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    pub name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, no_recursion)]
    pub domain: Option<Box<Reference>>,
}

impl Reference {
    /// Of an id alone.
    pub fn to(id: String) -> Self {
        Self { id, name: None, domain: None }
    }
}

/// What a role is on: one of the three.
#[derive(Debug, Default, Serialize, ToSchema)]
#[expect(missing_docs, reason = "Keystone's attributes")]
pub struct AssignmentScope {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub project: Option<Reference>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domain: Option<Reference>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system: Option<All>,
}

/// The whole system.
#[derive(Debug, Serialize, ToSchema)]
pub struct All {
    /// Always true.
    pub all: bool,
}

/// One role of one user on one thing.
#[derive(Debug, Serialize, ToSchema)]
#[expect(missing_docs, reason = "Keystone's attributes")]
pub struct RoleAssignment {
    pub user: Reference,
    pub role: Reference,
    pub scope: AssignmentScope,
    pub links: AssignmentLinks,
}

/// Where an assignment is.
#[derive(Debug, Serialize, ToSchema)]
pub struct AssignmentLinks {
    /// PUT makes it, DELETE takes it away.
    pub assignment: String,
}

/// A secret that stands for a user on one project.
#[derive(Debug, Serialize, ToSchema)]
#[expect(missing_docs, reason = "Keystone's attributes")]
pub struct ApplicationCredential {
    pub id: String,
    #[schema(example = "ci")]
    pub name: String,
    pub description: String,
    pub user_id: String,
    pub project_id: String,
    pub roles: Vec<IdentityRole>,
    /// Whether its tokens may manage application credentials.
    pub unrestricted: bool,
    #[schema(example = "2030-01-01T00:00:00.000000")]
    pub expires_at: Option<String>,
    /// Shown once, when it is made.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    pub secret: Option<String>,
    pub links: Links,
}

/// Of a row.
pub fn domain(row: DomainRow, settings: &Settings) -> Domain {
    let DomainRow { id, name, enabled, description } = row;
    let links = links(settings, "domains", &id);
    Domain { id, name, description, enabled, tags: Vec::new(), options: Options::new(), links }
}

/// Of a row.
pub fn project(row: ProjectRow, settings: &Settings) -> Project {
    let ProjectRow { id, domain_id, name, description, enabled, tags } = row;
    let id = id_text(id);
    let links = links(settings, "projects", &id);
    let (parent_id, options) = (domain_id.clone(), Options::new());
    Project { id, name, description, domain_id, parent_id, is_domain: false, enabled, tags, options, links }
}

/// Of a row.
pub fn user(row: UserRow, settings: &Settings) -> User {
    let UserRow { id, domain_id, name, password_hash: _, enabled, default_project_id, email, description } = row;
    let id = id_text(id);
    User {
        links: links(settings, "users", &id),
        id,
        name,
        domain_id,
        enabled,
        default_project_id: default_project_id.map(id_text),
        email,
        description,
        password_expires_at: None,
        options: Options::new(),
    }
}

/// Of a row.
pub fn role(row: RoleRow, settings: &Settings) -> IdentityRole {
    let RoleRow { id, name, description, builtin } = row;
    let id = id_text(id);
    let links = links(settings, "roles", &id);
    IdentityRole { id, name, description, domain_id: None, options: RoleOptions { immutable: builtin }, links }
}

/// Of an assignment, without names.
pub fn assignment(assignment: Assignment, settings: &Settings) -> RoleAssignment {
    let Assignment { user, role, on } = assignment;
    let (user, role) = (id_text(user), id_text(role.id));
    let (scope, target) = match on {
        On::Project(id) => {
            let project = Some(Reference::to(id_text(id)));
            (AssignmentScope { project, ..AssignmentScope::default() }, format!("projects/{}", id.simple()))
        }
        On::Domain(id) => {
            let target = format!("domains/{id}");
            (AssignmentScope { domain: Some(Reference::to(id)), ..AssignmentScope::default() }, target)
        }
        On::System => {
            (AssignmentScope { system: Some(All { all: true }), ..AssignmentScope::default() }, "system".into())
        }
    };
    let link = format!("{}/v3/{target}/users/{user}/roles/{role}", settings.public_url);
    RoleAssignment {
        user: Reference::to(user),
        role: Reference::to(role),
        scope,
        links: AssignmentLinks { assignment: link },
    }
}

/// Of a row, without the secret.
pub fn application_credential(row: CredentialRow, roles: Vec<RoleRow>, settings: &Settings) -> ApplicationCredential {
    let CredentialRow { id, user_id, project_id, name, description, secret_hash: _, unrestricted, expires_at } = row;
    let (id, user_id) = (id_text(id), id_text(user_id));
    ApplicationCredential {
        links: links(settings, &format!("users/{user_id}/application_credentials"), &id),
        id,
        name,
        description,
        user_id,
        project_id: id_text(project_id),
        roles: roles.into_iter().map(|row| role(row, settings)).collect(),
        unrestricted,
        expires_at: expires_at.map(|time| time.format("%Y-%m-%dT%H:%M:%S%.6f").to_string()),
        secret: None,
    }
}
