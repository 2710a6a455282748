//! Tokens: JWTs signed with ES256 that carry the account, its scope and its roles, so that
//! checking one asks nobody. Only revocation is remembered; every replica reads the list each
//! second, and its own revocations count at once.

use super::keys::{ALGORITHM, Keys};
use chrono::{DateTime, Utc};
use jsonwebtoken::{Header, TokenData, Validation};
use mizar_db::identity::RevocationRow;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::RwLock;
use uuid::Uuid;

/// An id with its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamedRef {
    /// Id in Keystone's form.
    pub id: String,
    /// Name at the time of signing.
    pub name: String,
}

/// A project with its domain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProjectRef {
    /// Id in Keystone's form.
    pub id: String,
    /// Name at the time of signing.
    pub name: String,
    /// Its domain.
    pub domain: NamedRef,
}

/// What a token says. The first six are those of Keystone's own JWS tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claims {
    /// The user's id.
    pub sub: String,
    /// Issued, Unix seconds.
    pub iat: i64,
    /// Expires, Unix seconds.
    pub exp: i64,
    /// How the user proved who it is.
    pub openstack_methods: Vec<String>,
    /// Its own audit id, then that of the first token of the chain.
    pub openstack_audit_ids: Vec<String>,
    /// Project scope.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub openstack_project_id: Option<String>,
    /// The user's name.
    pub user_name: String,
    /// The user's domain.
    pub user_domain: NamedRef,
    /// Project scope, with names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<ProjectRef>,
    /// System scope.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub system: bool,
    /// Names of roles.
    pub roles: Vec<String>,
    /// Issued, Unix milliseconds: an account's tokens are revoked up to a moment, and the next
    /// login may follow within the second.
    pub issued_ms: i64,
}

impl Claims {
    /// The project that the token is for.
    pub fn project_id(&self) -> Option<Uuid> {
        self.openstack_project_id.as_deref().and_then(|id| Uuid::parse_str(id).ok())
    }

    /// The user.
    pub fn user_id(&self) -> Option<Uuid> {
        Uuid::parse_str(&self.sub).ok()
    }

    /// What revocation names.
    pub fn audit_id(&self) -> &str {
        self.openstack_audit_ids.first().map_or("", String::as_str)
    }

    /// When it ends.
    pub fn expires_at(&self) -> DateTime<Utc> {
        DateTime::from_timestamp(self.exp, 0).unwrap_or_default()
    }
}

/// Why a token does not count. Clients are never told which.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// Malformed, of another algorithm, of an unknown key, forged or expired.
    #[error("the token is not valid")]
    Invalid(#[from] jsonwebtoken::errors::Error),
    /// Signed with a key that is not here.
    #[error("the token names an unknown key")]
    UnknownKey,
    /// Taken back.
    #[error("the token is revoked")]
    Revoked,
}

/// Tokens issued before (`None`: whenever) do not count; of no use after `expires_at`.
#[derive(Clone, Copy, Debug)]
struct Revocation {
    issued_before: Option<DateTime<Utc>>,
    expires_at: DateTime<Utc>,
}

/// Key under which all tokens of a user are revoked.
pub fn of_user(id: Uuid) -> String {
    format!("user:{}", id.simple())
}

/// Key under which all tokens of a project are revoked.
pub fn of_project(id: Uuid) -> String {
    format!("project:{}", id.simple())
}

/// Signs and verifies.
#[derive(Debug)]
pub struct Tokens {
    keys: Keys,
    revoked: RwLock<BTreeMap<String, Revocation>>,
}

impl Tokens {
    /// With these keys, and nothing revoked.
    pub fn new(keys: Keys) -> Self {
        Self { keys, revoked: RwLock::new(BTreeMap::new()) }
    }

    /// A new audit id: 16 random bytes, as Keystone writes them.
    pub fn audit_id() -> String {
        use base64::Engine as _;
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(Uuid::new_v4().as_bytes())
    }

    /// Signs.
    pub fn sign(&self, claims: &Claims) -> Result<String, TokenError> {
        let mut header = Header::new(ALGORITHM);
        header.kid = Some(self.keys.signer_id.clone());
        Ok(jsonwebtoken::encode(&header, claims, &self.keys.signer)?)
    }

    /// Checks algorithm, key, signature, times and revocation.
    pub fn verify(&self, token: &str) -> Result<Claims, TokenError> {
        let header = jsonwebtoken::decode_header(token)?;
        let key = header.kid.as_deref().and_then(|kid| self.keys.verifiers.get(kid)).ok_or(TokenError::UnknownKey)?;
        let mut validation = Validation::new(ALGORITHM);
        validation.set_required_spec_claims(&["exp", "sub"]);
        validation.leeway = 0;
        let TokenData { claims, .. } = jsonwebtoken::decode::<Claims>(token, key, &validation)?;
        if self.is_revoked(&claims) { Err(TokenError::Revoked) } else { Ok(claims) }
    }

    /// Whether what is signed here is taken here: the signing key is among those that verify.
    pub fn self_check(&self) -> Result<(), TokenError> {
        if self.keys.verifiers.contains_key(&self.keys.signer_id) { Ok(()) } else { Err(TokenError::UnknownKey) }
    }

    fn is_revoked(&self, claims: &Claims) -> bool {
        let revoked = self.read();
        if revoked.is_empty() {
            return false;
        }
        let keys =
            [Some(claims.audit_id().to_owned()), claims.user_id().map(of_user), claims.project_id().map(of_project)];
        let hits = |revocation: &Revocation| {
            revocation.issued_before.is_none_or(|before| claims.issued_ms <= before.timestamp_millis())
        };
        keys.iter().flatten().filter_map(|key| revoked.get(key)).any(hits)
    }

    /// Counts here and now; the caller has stored it for the other replicas.
    pub fn revoke(&self, row: RevocationRow) {
        self.refresh(vec![row]);
    }

    /// Adds what the database says is revoked, and forgets what has expired.
    pub fn refresh(&self, stored: Vec<RevocationRow>) {
        let now = Utc::now();
        let mut revoked = self.write();
        for RevocationRow { audit_id, issued_before, expires_at } in stored {
            revoked.insert(audit_id, Revocation { issued_before, expires_at });
        }
        revoked.retain(|_, revocation| revocation.expires_at > now);
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, BTreeMap<String, Revocation>> {
        self.revoked.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, BTreeMap<String, Revocation>> {
        self.revoked.write().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
