//! Tokens: JWTs signed with ES256 that carry the account, its scope and its roles, so that
//! checking one asks nobody. Only revocation is remembered; every replica reads the list each
//! second, and its own revocations count at once.
//!
//! What a token says cannot change, so a signature that was checked is not checked again: who was let in is
//! known by the token's digest until it expires. Whether it is revoked is asked each time.

use super::keys::{ALGORITHM, Keys};
use chrono::{DateTime, Utc};
use jsonwebtoken::{Header, TokenData, Validation};
use mizar_db::identity::revocations::{Issued, Of, RevocationRow};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, HashMap};
use std::sync::{PoisonError, RwLock};
use utoipa::ToSchema;
use uuid::Uuid;

/// An id with its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NamedRef {
    /// Id in Keystone's form.
    pub id: String,
    /// Name at the time of signing.
    pub name: String,
}

/// A project with its domain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProjectRef {
    /// Id in Keystone's form.
    pub id: String,
    /// Name at the time of signing.
    pub name: String,
    /// Its domain.
    pub domain: NamedRef,
}

/// The application credential that a token comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CredentialClaim {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Whether the token may not manage application credentials.
    pub restricted: bool,
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
    /// Domain scope.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<NamedRef>,
    /// System scope.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub system: bool,
    /// Roles on the scope.
    pub roles: Vec<NamedRef>,
    /// Where the token comes from an application credential.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<CredentialClaim>,
    /// Issued, Unix microseconds of the database's clock: an account's tokens are revoked up to a
    /// moment, and the next login may follow within the second.
    pub issued_us: i64,
}

impl Claims {
    /// The project that the token is for.
    pub fn project_id(&self) -> Option<Uuid> {
        self.openstack_project_id.as_deref().and_then(|id| Uuid::parse_str(id).ok())
    }

    /// Whether it is for anything.
    pub const fn is_scoped(&self) -> bool {
        self.project.is_some() || self.domain.is_some() || self.system
    }

    /// The user.
    pub fn user_id(&self) -> Option<Uuid> {
        Uuid::parse_str(&self.sub).ok()
    }

    /// What revocation names.
    pub fn audit_id(&self) -> &str {
        self.openstack_audit_ids.first().map_or("", String::as_str)
    }

    /// What of it may be revoked, and since when it is.
    pub fn issued(&self) -> Issued {
        let credential = self.credential.as_ref().and_then(|credential| Uuid::parse_str(&credential.id).ok());
        let domains = [Some(&self.user_domain), self.project.as_ref().map(|project| &project.domain)];
        let domains = domains.into_iter().chain([self.domain.as_ref()]).flatten().map(|domain| Of::Domain(&domain.id));
        let accounts =
            [self.user_id().map(Of::User), self.project_id().map(Of::Project), credential.map(Of::Credential)];
        let keys = accounts.into_iter().flatten().chain(domains).map(|of| of.key());
        Issued {
            keys: keys.chain([self.audit_id().to_owned()]).collect(),
            at: DateTime::from_timestamp_micros(self.issued_us).unwrap_or_default(),
        }
    }

    /// Whether it has not ended yet: at its last second it has not.
    fn is_current(&self) -> bool {
        Utc::now().timestamp() <= self.exp
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
    /// Not of a form, an algorithm or content that counts; or whoever issues tokens does not know it.
    #[error("the token is not known")]
    Unknown,
    /// It cannot be known now: whoever issues tokens does not answer.
    #[error("the identity service cannot be asked")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Taken back.
    #[error("the token is revoked")]
    Revoked,
    /// Whoever issues tokens is not asked: too many of this sender's are nobody's.
    #[error("too many tokens of one sender are not known")]
    Flood(std::time::Duration),
}

/// Tokens issued before (`None`: whenever) do not count; of no use after `expires_at`.
#[derive(Clone, Copy, Debug)]
struct Revocation {
    issued_before: Option<DateTime<Utc>>,
    expires_at: DateTime<Utc>,
}

/// Signs and verifies.
#[derive(Debug)]
pub struct Tokens {
    keys: Keys,
    revoked: RwLock<BTreeMap<String, Revocation>>,
    /// What tokens say whose signatures were checked, by their digests.
    checked: RwLock<HashMap<[u8; 32], Claims>>,
}

/// Checked tokens that are remembered, of about a kilobyte each.
const CHECKED: usize = 4_096;

impl Tokens {
    /// With these keys, and nothing revoked.
    pub fn new(keys: Keys) -> Self {
        Self { keys, revoked: RwLock::default(), checked: RwLock::default() }
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
        let digest = <[u8; 32]>::from(Sha256::digest(token));
        let known = self.checked.read().unwrap_or_else(PoisonError::into_inner).get(&digest).cloned();
        let claims = match known.filter(Claims::is_current) {
            Some(claims) => claims,
            None => self.check(token, digest)?,
        };
        if self.is_revoked(&claims) { Err(TokenError::Revoked) } else { Ok(claims) }
    }

    /// Checks what does not change, and the times.
    fn check(&self, token: &str, digest: [u8; 32]) -> Result<Claims, TokenError> {
        let header = jsonwebtoken::decode_header(token)?;
        let key = header.kid.as_deref().and_then(|kid| self.keys.verifiers.get(kid)).ok_or(TokenError::UnknownKey)?;
        let mut validation = Validation::new(ALGORITHM);
        validation.set_required_spec_claims(&["exp", "sub"]);
        validation.leeway = 0;
        let TokenData { claims, .. } = jsonwebtoken::decode::<Claims>(token, key, &validation)?;
        let mut checked = self.checked.write().unwrap_or_else(PoisonError::into_inner);
        if checked.len() >= CHECKED {
            checked.retain(|_, claims| claims.is_current());
        }
        if checked.len() >= CHECKED {
            // They are checked again when they are used again.
            checked.clear();
        }
        checked.insert(digest, claims.clone());
        Ok(claims)
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
        let Issued { keys, at } = claims.issued();
        let hits = |revocation: &Revocation| revocation.issued_before.is_none_or(|before| at <= before);
        keys.iter().filter_map(|key| revoked.get(key)).any(hits)
    }

    /// From now on these count here: what this replica has stored, or another one.
    pub fn revoke(&self, stored: impl IntoIterator<Item = RevocationRow>) {
        let mut revoked = self.write();
        for RevocationRow { audit_id, issued_before, expires_at } in stored {
            revoked.insert(audit_id, Revocation { issued_before, expires_at });
        }
    }

    /// Forgets revocations of what has expired anyway.
    pub fn forget_expired(&self) {
        let now = Utc::now();
        self.write().retain(|_, revocation| revocation.expires_at > now);
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, BTreeMap<String, Revocation>> {
        self.revoked.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, BTreeMap<String, Revocation>> {
        self.revoked.write().unwrap_or_else(PoisonError::into_inner)
    }
}
