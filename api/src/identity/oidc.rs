//! Tokens of an OIDC issuer: JWTs, checked by the keys that it publishes (JWKS, RFC 7517).
//!
//! Configuration says what counts: algorithms (asymmetric ones only, so that a public key can
//! never be taken for a shared secret), issuer, audience, and which claims are user, project and
//! roles. A role of the issuer counts only if it is mapped: that somebody calls a group `admin`
//! must not open the cloud.
//!
//! Keys are fetched when a token names one that is not known, and now and then, so that those that
//! the issuer withdraws are forgotten; by one task at a time, and no oftener than
//! [`Config::refetch_s`] says, whatever strangers send: a name that the issuer has just not had is refused
//! without asking. Only who brings an unknown name waits for the task; a key that is known is used,
//! however silent the issuer is. When it is away the keys stay as they are, but not for ever: those that it has
//! not confirmed for [`Config::keys_expire_s`] are forgotten, since it may have withdrawn them. Revocation cannot
//! be seen: tokens of the issuer should be short.

use super::remote::{check_url, client, unavailable};
use super::token::{Claims, NamedRef, ProjectRef, TokenError};
use super::views::id_text;
use crate::frame::caller::Role;
use jsonwebtoken::jwk::{Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, TokenData, Validation};
use reqwest::Client;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};
use tokio::sync::watch;
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
    /// Seconds after which keys are fetched again though they are known, at least `refetch_s`.
    #[serde(default = "keys_max_age_s")]
    pub keys_max_age_s: u64,
    /// Seconds after which keys count no more if they could not be fetched again, more than `keys_max_age_s`.
    #[serde(default = "keys_expire_s")]
    pub keys_expire_s: u64,
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

const fn keys_max_age_s() -> u64 {
    3600
}

const fn keys_expire_s() -> u64 {
    86_400
}

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
        if self.keys_max_age_s < self.refetch_s {
            return Err("keys_max_age_s: at least refetch_s".into());
        }
        if self.keys_expire_s <= self.keys_max_age_s {
            return Err("keys_expire_s: more than keys_max_age_s".into());
        }
        if let Some(role) = self.roles.values().find(|role| Role::named(role).is_none()) {
            return Err(format!("roles: there is no role {role} here"));
        }
        if self.roles.is_empty() { Err("roles: nobody could do anything".into()) } else { Ok(()) }
    }
}

/// What the issuer published, and when.
#[derive(Clone)]
struct Keys {
    keys: Arc<[Jwk]>,
    at: Instant,
}

/// The task that fetches keys.
#[derive(Default)]
struct Fetching {
    /// Ends with the task.
    task: Option<watch::Receiver<()>>,
    /// When the last one ended, well or badly.
    ended: Option<Instant>,
}

/// The issuer, and what is known of it.
struct Issuer {
    config: Config,
    http: Client,
    keys: RwLock<Option<Keys>>,
    fetching: Mutex<Fetching>,
}

/// An OIDC issuer.
pub struct Oidc(Arc<Issuer>);

impl std::fmt::Debug for Oidc {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Oidc").field("issuer", &self.0.config.issuer).finish_non_exhaustive()
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
        Ok(Self(Arc::new(Issuer { http, config, keys: RwLock::default(), fetching: Mutex::default() })))
    }

    /// Who sends this token.
    pub async fn verify(&self, token: &str) -> Result<Claims, TokenError> {
        let config = &self.0.config;
        let header = jsonwebtoken::decode_header(token)?;
        if !config.algorithms.contains(&header.alg) {
            return Err(TokenError::Unknown);
        }
        let key = self.0.key(header.kid.as_deref(), header.alg).await?;
        let mut validation = Validation::new(header.alg);
        validation.set_required_spec_claims(&["exp", "iss", "aud"]);
        validation.set_issuer(&[&config.issuer]);
        validation.set_audience(&[&config.audience]);
        validation.validate_nbf = true;
        validation.leeway = config.leeway_s;
        let TokenData { claims, .. } = jsonwebtoken::decode::<Value>(token, &key, &validation)?;
        self.0.claims(&claims)
    }
}

impl Issuer {
    async fn key(self: &Arc<Self>, kid: Option<&str>, algorithm: Algorithm) -> Result<DecodingKey, TokenError> {
        let find = |known: &Option<Keys>| known.as_ref().and_then(|known| choose(&known.keys, kid, algorithm).cloned());
        let known = self.known();
        if let Some(key) = find(&known) {
            let max_age = Duration::from_secs(self.config.keys_max_age_s);
            if known.is_some_and(|known| known.at.elapsed() > max_age) {
                // Nobody waits for that.
                drop(self.fetch());
            }
            return Ok(DecodingKey::from_jwk(&key)?);
        }
        if let Some(mut task) = self.fetch() {
            // Nothing is ever sent: it ends when the task does.
            let _ = task.changed().await;
        }
        match self.known() {
            None => Err(unavailable("the issuer's keys could not be fetched")),
            known => Ok(DecodingKey::from_jwk(&find(&known).ok_or(TokenError::UnknownKey)?)?),
        }
    }

    /// The keys, unless they are too old to count.
    fn known(&self) -> Option<Keys> {
        let known = self.keys.read().unwrap_or_else(PoisonError::into_inner).clone();
        known.filter(|known| known.at.elapsed() < Duration::from_secs(self.config.keys_expire_s))
    }

    /// The task that fetches the keys: one that is at work, or a new one, unless the last ended not
    /// long ago.
    fn fetch(self: &Arc<Self>) -> Option<watch::Receiver<()>> {
        let mut fetching = self.fetching.lock().unwrap_or_else(PoisonError::into_inner);
        // One whose runtime has ended is gone too.
        if let Some(task) = fetching.task.as_ref().filter(|task| task.has_changed().is_ok()) {
            return Some(task.clone());
        }
        if fetching.ended.is_some_and(|at| at.elapsed() < Duration::from_secs(self.config.refetch_s)) {
            return None;
        }
        let (ends, task) = watch::channel(());
        fetching.task = Some(task.clone());
        let issuer = Arc::clone(self);
        tokio::spawn(async move {
            if let Err(error) = issuer.fetch_now().await {
                tracing::warn!(
                    error = mizar_db::chain(&error),
                    "cannot fetch the issuer's keys; those that are known stay until they expire"
                );
            }
            issuer.fetching.lock().unwrap_or_else(PoisonError::into_inner).ended = Some(Instant::now());
            drop(ends);
        });
        Some(task)
    }

    async fn fetch_now(&self) -> Result<(), TokenError> {
        let url = match &self.config.jwks_url {
            Some(url) => url.clone(),
            None => self.discover().await?,
        };
        let set: RawSet = self.get(&url).await?;
        // Kinds of keys that we do not know are no reason to forget the others.
        let keys = set.keys.into_iter().filter_map(|key| serde_json::from_value::<Jwk>(key).ok()).collect();
        let mut known = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        *known = Some(Keys { keys, at: Instant::now() });
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
