//! Tokens of an OIDC issuer: JWTs, checked by the keys that it publishes (JWKS, RFC 7517).
//!
//! Configuration says what counts: algorithms (asymmetric ones only, so that a public key can
//! never be taken for a shared secret), issuer, audience, and which claims are user, project and
//! roles. A role of the issuer counts only if it is mapped: that somebody calls a group `admin`
//! must not open the cloud.
//!
//! Keys are fetched when a token names one that is not known, and once an hour, so that those that
//! the issuer withdraws are forgotten; but no oftener than [`Config::refetch_s`] says, whatever
//! strangers send. When the issuer is away the keys stay as they are. Revocation cannot be seen:
//! tokens of the issuer should be short.

use super::remote::{check_url, client, unavailable};
use super::token::{Claims, NamedRef, ProjectRef, TokenError};
use super::views::id_text;
use crate::frame::caller::Role;
use jsonwebtoken::jwk::{Jwk, JwkSet, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, TokenData, Validation};
use reqwest::Client;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};
use uuid::Uuid;

/// The file that `oidc=FILE` names.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// What `iss` must be; its `/.well-known/openid-configuration` says where the keys are.
    pub issuer: String,
    /// What `aud` must name.
    pub audience: String,
    /// Where the keys are, if the issuer is not to be asked.
    #[serde(default)]
    pub jwks_url: Option<String>,
    /// Which signatures count.
    #[serde(default = "algorithms")]
    pub algorithms: Vec<Algorithm>,
    /// Seconds by which clocks may differ, at most 120.
    #[serde(default = "leeway_s")]
    pub leeway_s: u64,
    /// Least seconds between two requests for keys, at least 1.
    #[serde(default = "refetch_s")]
    pub refetch_s: u64,
    /// Certificates that sign the issuer's, beside the system's (PEM).
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// Which claims say what. Dots lead into objects: `realm_access.roles`.
    #[serde(default)]
    pub claims: ClaimNames,
    /// The issuer's roles, and which of ours each is: `{"cloud-admins": "admin"}`.
    pub roles: BTreeMap<String, String>,
    /// The issuer's projects, where the claim is no UUID, and the id of each.
    #[serde(default)]
    pub projects: BTreeMap<String, Uuid>,
}

/// Which claims say what.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClaimNames {
    /// Who: anything that does not change.
    pub user_id: String,
    /// What people call it.
    pub user_name: String,
    /// The project: a UUID, or a name of [`Config::projects`].
    pub project: String,
    /// A list of roles, or a text with spaces between them.
    pub roles: String,
}

impl Default for ClaimNames {
    fn default() -> Self {
        Self {
            user_id: "sub".into(),
            user_name: "preferred_username".into(),
            project: "project_id".into(),
            roles: "roles".into(),
        }
    }
}

fn algorithms() -> Vec<Algorithm> {
    vec![Algorithm::RS256, Algorithm::ES256]
}

const fn leeway_s() -> u64 {
    10
}

const fn refetch_s() -> u64 {
    10
}

/// Keys older than this are fetched again.
const KEYS_MAX_AGE: Duration = Duration::from_secs(3600);

impl Config {
    /// What is wrong with it.
    pub fn check(&self) -> Result<(), String> {
        check_url("issuer", &self.issuer)?;
        if let Some(url) = &self.jwks_url {
            check_url("jwks_url", url)?;
        }
        if self.audience.is_empty() {
            return Err("audience: it may not be empty".into());
        }
        let shared =
            |algorithm: &&Algorithm| matches!(algorithm, Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512);
        if let Some(algorithm) = self.algorithms.iter().find(shared) {
            return Err(format!("algorithms: {algorithm:?} has no public key"));
        }
        if self.algorithms.is_empty() {
            return Err("algorithms: one is needed".into());
        }
        if self.leeway_s > 120 {
            return Err("leeway_s: at most 120".into());
        }
        if self.refetch_s == 0 {
            return Err("refetch_s: at least 1".into());
        }
        if let Some(role) = self.roles.values().find(|role| Role::named(role).is_none()) {
            return Err(format!("roles: there is no role {role} here"));
        }
        if self.roles.is_empty() { Err("roles: nobody could do anything".into()) } else { Ok(()) }
    }
}

/// What the issuer published, and when we asked.
struct Keys {
    keys: Arc<[Jwk]>,
    at: Instant,
}

/// An OIDC issuer.
pub struct Oidc {
    config: Config,
    http: Client,
    keys: RwLock<Option<Keys>>,
    /// When we last asked; whoever asks holds the lock.
    asked: tokio::sync::Mutex<Option<Instant>>,
}

impl std::fmt::Debug for Oidc {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Oidc").field("issuer", &self.config.issuer).finish_non_exhaustive()
    }
}

/// Where the issuer says that its keys are.
#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

impl Oidc {
    /// Asks nobody yet.
    pub fn new(config: Config) -> Result<Self, String> {
        let http = client(config.ca_file.as_deref())?;
        Ok(Self { http, config, keys: RwLock::default(), asked: tokio::sync::Mutex::default() })
    }

    /// Who sends this token.
    pub async fn verify(&self, token: &str) -> Result<Claims, TokenError> {
        let header = jsonwebtoken::decode_header(token)?;
        if !self.config.algorithms.contains(&header.alg) {
            return Err(TokenError::Unknown);
        }
        let key = self.key(header.kid.as_deref(), header.alg).await?;
        let mut validation = Validation::new(header.alg);
        validation.set_required_spec_claims(&["exp", "iss", "aud"]);
        validation.set_issuer(&[&self.config.issuer]);
        validation.set_audience(&[&self.config.audience]);
        validation.validate_nbf = true;
        validation.leeway = self.config.leeway_s;
        let TokenData { claims, .. } = jsonwebtoken::decode::<Value>(token, &key, &validation)?;
        self.claims(&claims)
    }

    async fn key(&self, kid: Option<&str>, algorithm: Algorithm) -> Result<DecodingKey, TokenError> {
        let mut known = self.known();
        let old = known.as_ref().is_none_or(|(_, at)| at.elapsed() > KEYS_MAX_AGE);
        let found = |known: &Option<(Arc<[Jwk]>, Instant)>| {
            known.as_ref().and_then(|(keys, _)| choose(keys, kid, algorithm).cloned())
        };
        if old || found(&known).is_none() {
            match self.fetch(known.as_ref().map(|(_, at)| *at)).await {
                Ok(()) => known = self.known(),
                Err(error) if known.is_none() => return Err(error),
                Err(error) => {
                    tracing::warn!(
                        error = mizar_db::chain(&error),
                        "cannot fetch the issuer's keys; the old ones stay"
                    );
                }
            }
        }
        let key = found(&known).ok_or(TokenError::UnknownKey)?;
        Ok(DecodingKey::from_jwk(&key)?)
    }

    fn known(&self) -> Option<(Arc<[Jwk]>, Instant)> {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        keys.as_ref().map(|keys| (Arc::clone(&keys.keys), keys.at))
    }

    /// Fetches the keys, unless somebody else has since `seen`, or not long ago.
    async fn fetch(&self, seen: Option<Instant>) -> Result<(), TokenError> {
        let mut asked = self.asked.lock().await;
        if self.known().is_some_and(|(_, at)| Some(at) != seen) {
            return Ok(());
        }
        if asked.is_some_and(|at| at.elapsed() < Duration::from_secs(self.config.refetch_s)) {
            return if seen.is_some() { Ok(()) } else { Err(unavailable("the issuer's keys could not be fetched")) };
        }
        *asked = Some(Instant::now());
        let url = match &self.config.jwks_url {
            Some(url) => url.clone(),
            None => self.discover().await?,
        };
        let set: RawSet = self.get(&url).await?;
        // Kinds of keys that we do not know are no reason to forget the others.
        let keys = set.keys.into_iter().filter_map(|key| serde_json::from_value::<Jwk>(key).ok());
        let set = JwkSet { keys: keys.collect() };
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        *keys = Some(Keys { keys: set.keys.into(), at: Instant::now() });
        Ok(())
    }

    async fn discover(&self) -> Result<String, TokenError> {
        let url = format!("{}/.well-known/openid-configuration", self.config.issuer.trim_end_matches('/'));
        let Discovery { issuer, jwks_uri } = self.get(&url).await?;
        if issuer != self.config.issuer {
            return Err(unavailable(format!("{url} is of another issuer: {issuer}")));
        }
        Ok(jwks_uri)
    }

    async fn get<T: serde::de::DeserializeOwned>(&self, url: &str) -> Result<T, TokenError> {
        let response = self.http.get(url).send().await.and_then(reqwest::Response::error_for_status);
        response.map_err(unavailable)?.json().await.map_err(unavailable)
    }

    /// The claims, as configuration maps them.
    fn claims(&self, said: &Value) -> Result<Claims, TokenError> {
        let names = &self.config.claims;
        let text = |name: &str| lookup(said, name).and_then(Value::as_str).map(str::to_owned);
        let seconds = |name: &str| lookup(said, name).and_then(Value::as_f64).map(|time| time as i64);
        let sub = text(&names.user_id).filter(|id| !id.is_empty()).ok_or(TokenError::Unknown)?;
        let exp = seconds("exp").ok_or(TokenError::Unknown)?;
        let iat = seconds("iat").unwrap_or(exp);
        let domain = NamedRef { id: self.config.issuer.clone(), name: self.config.issuer.clone() };
        let project = match text(&names.project) {
            None => None,
            Some(name) => {
                let id = self.config.projects.get(&name).copied().or_else(|| Uuid::parse_str(&name).ok());
                // A project that we cannot place is no token without project.
                let id = id_text(id.ok_or(TokenError::Unknown)?);
                Some(ProjectRef { id, name, domain: domain.clone() })
            }
        };
        let mut roles: Vec<NamedRef> = Vec::new();
        for role in words(lookup(said, &names.roles)) {
            let ours = self.config.roles.get(role).and_then(|name| Role::named(name));
            if let Some(ours) = ours.filter(|ours| roles.iter().all(|role| role.name != ours.as_str())) {
                roles.push(NamedRef { id: id_text(ours.id()), name: ours.as_str().to_owned() });
            }
        }
        Ok(Claims {
            user_name: text(&names.user_name).unwrap_or_else(|| sub.clone()),
            sub,
            iat,
            exp,
            openstack_methods: vec!["openid".into()],
            openstack_audit_ids: Vec::new(),
            openstack_project_id: project.as_ref().map(|project| project.id.clone()),
            user_domain: domain,
            project,
            domain: None,
            system: false,
            roles,
            credential: None,
            issued_us: iat.saturating_mul(1_000_000),
        })
    }
}

/// Keys as they come: each is looked at by itself.
#[derive(Deserialize)]
struct RawSet {
    keys: Vec<Value>,
}

/// The key of that name; without a name, the only one. For signatures, and of the algorithm, where
/// the key says so.
fn choose<'a>(keys: &'a [Jwk], kid: Option<&str>, algorithm: Algorithm) -> Option<&'a Jwk> {
    let fits = |key: &&Jwk| {
        let common = &key.common;
        common.public_key_use.as_ref().is_none_or(|used| *used == PublicKeyUse::Signature)
            && common.key_algorithm.is_none_or(|named| named == algorithm.into())
    };
    match kid {
        Some(kid) => keys.iter().filter(fits).find(|key| key.common.key_id.as_deref() == Some(kid)),
        None => {
            let mut fitting = keys.iter().filter(fits);
            let only = fitting.next();
            only.filter(|_| fitting.next().is_none())
        }
    }
}

/// A claim; first as it is called, then along the dots.
fn lookup<'a>(said: &'a Value, name: &str) -> Option<&'a Value> {
    said.get(name).or_else(|| name.split('.').try_fold(said, |value, part| value.get(part)))
}

fn words(value: Option<&Value>) -> Vec<&str> {
    match value {
        Some(Value::String(text)) => text.split_whitespace().collect(),
        Some(Value::Array(items)) => items.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}
