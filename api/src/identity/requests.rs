//! The body of POST /v3/auth/tokens.

use super::common::bad;
use crate::frame::fault::Fault;
use mizar_db::identity::grants::Target;
use mizar_db::identity::{DomainRef, Named};
use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;
use uuid::Uuid;

/// Body of POST /v3/auth/tokens.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"auth": {
    "identity": {
        "methods": ["password"],
        "password": {"user": {"name": "ann", "domain": {"id": "default"}, "password": "secret"}}
    },
    "scope": {"project": {"name": "red", "domain": {"id": "default"}}}
}}))]
pub struct TokenRequest {
    /// Proof and scope.
    pub(super) auth: Auth,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Auth {
    pub identity: IdentityProof,
    #[serde(default)]
    pub scope: Option<TokenScope>,
}

/// One of the three, which `methods` names.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct IdentityProof {
    #[schema(example = json!(["password"]))]
    pub methods: Vec<String>,
    #[serde(default)]
    pub password: Option<PasswordMethod>,
    #[serde(default)]
    pub token: Option<TokenMethod>,
    #[serde(default)]
    pub application_credential: Option<CredentialMethod>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PasswordMethod {
    pub user: UserPassword,
}

/// By id, or by name and domain.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct UserPassword {
    #[serde(default)]
    pub id: Option<String>,
    #[serde(default)]
    pub name: Option<String>,
    #[serde(default)]
    pub domain: Option<DomainReference>,
    pub password: String,
}

/// By id, or by name and domain. Who waits for a turn to hash is told apart by it, as it was sent.
#[derive(Default, Hash, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct UserReference {
    #[serde(default)]
    pub id: Option<String>,
    #[serde(default)]
    pub name: Option<String>,
    #[serde(default)]
    pub domain: Option<DomainReference>,
}

impl UserReference {
    /// By its id alone, or what is sent for one.
    pub fn of_id(id: impl Into<String>) -> Self {
        Self { id: Some(id.into()), ..Self::default() }
    }
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TokenMethod {
    pub id: String,
}

/// By id, or by name and user.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CredentialMethod {
    #[serde(default)]
    pub id: Option<String>,
    #[serde(default)]
    pub name: Option<String>,
    #[serde(default)]
    pub user: Option<UserReference>,
    pub secret: String,
}

/// Keystone takes a name or an id; clients send either, sometimes both.
#[derive(Hash, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct DomainReference {
    #[serde(default)]
    pub id: Option<String>,
    #[serde(default)]
    pub name: Option<String>,
}

/// By id, or by name and domain.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ProjectReference {
    #[serde(default)]
    pub id: Option<String>,
    #[serde(default)]
    pub name: Option<String>,
    #[serde(default)]
    pub domain: Option<DomainReference>,
}

/// `"unscoped"`, or an object.
#[derive(Deserialize, ToSchema)]
#[serde(untagged)]
pub(super) enum TokenScope {
    Word(String),
    Object(ScopeObject),
}

/// One of the four.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ScopeObject {
    #[serde(default)]
    project: Option<ProjectReference>,
    #[serde(default)]
    system: Option<WholeSystem>,
    #[serde(default)]
    domain: Option<DomainReference>,
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    unscoped: Option<Map<String, Value>>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct WholeSystem {
    all: bool,
}

fn clean(text: &str) -> bool {
    !text.contains('\0')
}

/// `None`: what the database would not take as a text names nothing.
fn domain(domain: Option<DomainReference>) -> Result<Option<DomainRef>, Fault> {
    let named = match domain {
        Some(DomainReference { id: Some(id), .. }) => clean(&id).then_some(DomainRef::Id(id)),
        Some(DomainReference { name: Some(name), .. }) => clean(&name).then_some(DomainRef::Name(name)),
        _ => return Err(bad("a name needs a domain, by id or by name")),
    };
    Ok(named)
}

/// What an id, or a name in a domain, means; `None`: it cannot name anything.
pub(super) fn named(
    id: Option<String>,
    name: Option<String>,
    of: Option<DomainReference>,
) -> Result<Option<Named>, Fault> {
    match (id, name) {
        (Some(id), _) => Ok(Uuid::parse_str(&id).ok().map(Named::Id)),
        (None, Some(name)) => {
            let of = domain(of)?;
            Ok(of.filter(|_| clean(&name)).map(|domain| Named::Name { name, domain }))
        }
        (None, None) => Err(bad("id or name is required")),
    }
}

/// What the token is wanted for; `None`: for what cannot be.
pub(super) fn target(scope: TokenScope) -> Result<Option<Target>, Fault> {
    let object = match scope {
        TokenScope::Word(word) if word == "unscoped" => return Ok(Some(Target::Unscoped)),
        TokenScope::Word(word) => return Err(bad(format!("scope '{word}' is not known"))),
        TokenScope::Object(object) => object,
    };
    match object {
        ScopeObject { project: Some(project), system: None, domain: None, unscoped: None } => {
            let ProjectReference { id, name, domain } = project;
            Ok(named(id, name, domain)?.map(Target::Project))
        }
        ScopeObject { project: None, system: Some(WholeSystem { all: true }), domain: None, unscoped: None } => {
            Ok(Some(Target::System))
        }
        ScopeObject { project: None, system: None, domain: Some(of), unscoped: None } => {
            Ok(domain(Some(of))?.map(Target::Domain))
        }
        ScopeObject { project: None, system: None, domain: None, unscoped: Some(_) } => Ok(Some(Target::Unscoped)),
        _ => Err(bad("scope must be one of project, domain, system, unscoped")),
    }
}
