//! Tokens of a Keystone: it is asked about each once in a while.
//!
//! An answer counts for [`Config::cache_s`], and never longer than the token: that is how long a
//! token that Keystone has revoked may still work here. Many requests with one token ask once: who
//! comes while somebody asks waits for the same answer. What Keystone does not know is not
//! remembered. Questions at once are bounded, and so are those about tokens that turn out to be
//! nobody's, by address ([`Toll`]): a flood of nonsense holds up its sender, and nobody else.
//!
//! A question goes on when its client goes away: else nonsense would cost nothing to who does not wait
//! for the answer, and what is somebody's token would be asked about again.

use super::remote::{check_url, client, unavailable};
use super::token::{Claims, NamedRef, ProjectRef, TokenError};
use crate::observe::limits::{Paid, Toll};
use chrono::{DateTime, Utc};
use reqwest::{Client, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedMutexGuard, Semaphore};

/// The file that `keystone=FILE` names.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Of version 3: `https://keystone.example.org/v3`.
    pub url: String,
    /// Who validates tokens: a user with the role `service` or `admin` on the project.
    pub username: String,
    /// File with its password.
    pub password_file: PathBuf,
    /// Its domain, by name.
    #[serde(default = "default_domain")]
    pub user_domain_name: String,
    /// The project of its token.
    #[serde(default = "service_project")]
    pub project_name: String,
    /// The project's domain, by name.
    #[serde(default = "default_domain")]
    pub project_domain_name: String,
    /// Certificates that sign Keystone's, beside the system's (PEM).
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// Seconds for which an answer counts, 0 to 300.
    #[serde(default = "cache_s")]
    pub cache_s: u64,
}

fn default_domain() -> String {
    "Default".into()
}

fn service_project() -> String {
    "service".into()
}

const fn cache_s() -> u64 {
    60
}

impl Config {
    /// What is wrong with it.
    pub fn check(&self) -> Result<(), String> {
        check_url("url", &self.url)?;
        if self.cache_s > 300 {
            return Err("cache_s: at most 300".into());
        }
        self.password().map(drop)
    }

    fn password(&self) -> Result<String, String> {
        let named = |error| format!("password_file: {}: {error}", self.password_file.display());
        let text = std::fs::read_to_string(&self.password_file).map_err(named)?;
        Ok(text.trim_end_matches(['\r', '\n']).to_owned())
    }
}

/// Answers that are remembered.
const ANSWERS: usize = 10_000;

/// Questions at once.
const QUESTIONS: usize = 16;

/// How long a question waits for its turn.
const PATIENCE: Duration = Duration::from_secs(5);

/// Longer ones are of nobody: Fernet tokens have some 250 characters, JWS 600.
const TOKEN_MAX: usize = 8192;

/// What a token is remembered by: whoever reads our memory finds no token there.
type Digest = [u8; 32];

/// The answer about one token, and until when it counts. Whoever asks holds the lock.
type Answer = Arc<tokio::sync::Mutex<Option<(Claims, Instant)>>>;

/// A Keystone.
pub struct Keystone(Arc<Service>);

/// The service, and what it answered.
struct Service {
    config: Config,
    http: Client,
    /// Our own token.
    own: tokio::sync::Mutex<Option<String>>,
    answers: Mutex<HashMap<Digest, Answer>>,
    questions: Arc<Semaphore>,
}

impl std::fmt::Debug for Keystone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keystone").field("url", &self.0.config.url).finish_non_exhaustive()
    }
}

impl Keystone {
    /// Asks nobody yet.
    pub fn new(mut config: Config) -> Result<Self, String> {
        config.url.truncate(config.url.trim_end_matches('/').len());
        Ok(Self(Arc::new(Service {
            http: client(config.ca_file.as_deref())?,
            config,
            own: tokio::sync::Mutex::default(),
            answers: Mutex::default(),
            questions: Arc::new(Semaphore::new(QUESTIONS)),
        })))
    }

    /// Who sends this token.
    pub async fn verify(&self, token: &str, toll: Toll) -> Result<Claims, TokenError> {
        if token.is_empty() || token.len() > TOKEN_MAX {
            return Err(TokenError::Unknown);
        }
        let (service, digest) = (&self.0, Digest::from(Sha256::digest(token)));
        let answer = service.slot(digest).lock_owned().await;
        if let Some(claims) = counting(&answer) {
            return Ok(claims.clone());
        }
        let turn = tokio::time::timeout(PATIENCE, Arc::clone(&service.questions).acquire_owned()).await;
        let turn = turn.map_err(|_| unavailable("too many ask Keystone"))?.map_err(unavailable)?;
        // Only now: of those who wait for their turn nobody knows yet whose tokens they bring.
        let paid = toll.pay().map_err(TokenError::Flood)?;
        let (service, token) = (Arc::clone(service), token.to_owned());
        let question = async move {
            let _turn = turn;
            service.learn(&token, digest, answer, paid).await
        };
        tokio::spawn(question).await.map_err(unavailable)?
    }
}

impl Service {
    /// Asks, and remembers the answer if it is one.
    async fn learn(
        &self,
        token: &str,
        digest: Digest,
        mut answer: OwnedMutexGuard<Option<(Claims, Instant)>>,
        paid: Paid,
    ) -> Result<Claims, TokenError> {
        *answer = None;
        let asked_at = Instant::now();
        let asked = self.ask(token).await;
        match &asked {
            Ok(claims) => *answer = Some((claims.clone(), asked_at + Duration::from_secs(self.config.cache_s))),
            Err(error) => {
                self.answers.lock().unwrap_or_else(PoisonError::into_inner).remove(&digest);
                if matches!(error, TokenError::Unknown) {
                    paid.keep();
                }
            }
        }
        asked
    }

    fn slot(&self, digest: Digest) -> Answer {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = answers.get(&digest) {
            return Arc::clone(slot);
        }
        if answers.len() >= ANSWERS {
            let now = Instant::now();
            // One that is locked is in use.
            answers.retain(|_, slot| {
                slot.try_lock().map_or(true, |it| it.as_ref().is_some_and(|(_, until)| now < *until))
            });
            // What others were told stays: whoever brings nonsense must not make them ask again.
            if answers.len() >= ANSWERS {
                return Answer::default();
            }
        }
        Arc::clone(answers.entry(digest).or_default())
    }

    async fn ask(&self, token: &str) -> Result<Claims, TokenError> {
        let mut own = self.own_token(None).await?;
        for last in [false, true] {
            let url = format!("{}/auth/tokens?nocatalog", self.config.url);
            let request = self.http.get(url).header("X-Auth-Token", &own).header("X-Subject-Token", token);
            let response = request.send().await.map_err(unavailable)?;
            match response.status() {
                StatusCode::OK => {
                    let said: Said = response.json().await.map_err(unavailable)?;
                    return Ok(said.token.into_claims());
                }
                StatusCode::NOT_FOUND => return Err(TokenError::Unknown),
                // Ours has expired, or was revoked.
                StatusCode::UNAUTHORIZED if !last => own = self.own_token(Some(&own)).await?,
                status => return Err(unavailable(format!("Keystone validates no tokens for us: {status}"))),
            }
        }
        Err(unavailable("Keystone refuses the token that it has just given us"))
    }

    /// Our own token, other than the one that is of no use any more.
    async fn own_token(&self, spent: Option<&str>) -> Result<String, TokenError> {
        let mut own = self.own.lock().await;
        if let Some(token) = &*own
            && spent != Some(token.as_str())
        {
            return Ok(token.clone());
        }
        *own = None;
        let token = self.log_in().await?;
        *own = Some(token.clone());
        Ok(token)
    }

    async fn log_in(&self) -> Result<String, TokenError> {
        let Config { username, user_domain_name, project_name, project_domain_name, .. } = &self.config;
        // Read each time: passwords are changed while programs run.
        let password = self.config.password().map_err(unavailable)?;
        let user = json!({"name": username, "domain": {"name": user_domain_name}, "password": password});
        let body = json!({"auth": {
            "identity": {"methods": ["password"], "password": {"user": user}},
            "scope": {"project": {"name": project_name, "domain": {"name": project_domain_name}}},
        }});
        let url = format!("{}/auth/tokens?nocatalog", self.config.url);
        let response = self.http.post(url).json(&body).send().await.map_err(unavailable)?;
        if response.status() != StatusCode::CREATED {
            return Err(unavailable(format!("Keystone does not let {username} in: {}", response.status())));
        }
        let token = response.headers().get("X-Subject-Token").and_then(|value| value.to_str().ok());
        token.map(str::to_owned).ok_or_else(|| unavailable("Keystone gives no token"))
    }
}

/// An answer that still counts.
fn counting(answer: &Option<(Claims, Instant)>) -> Option<&Claims> {
    let (claims, until) = answer.as_ref()?;
    (Instant::now() < *until && Utc::now() < claims.expires_at()).then_some(claims)
}

/// Keystone's token document, as far as we need it: newer ones may say more.
#[derive(Deserialize)]
struct Said {
    token: Document,
}

#[derive(Deserialize)]
struct Document {
    methods: Vec<String>,
    audit_ids: Vec<String>,
    issued_at: DateTime<Utc>,
    expires_at: DateTime<Utc>,
    user: Owned,
    project: Option<Owned>,
    domain: Option<Named>,
    system: Option<Value>,
    #[serde(default)]
    roles: Vec<Named>,
}

#[derive(Deserialize)]
struct Named {
    id: String,
    name: String,
}

#[derive(Deserialize)]
struct Owned {
    id: String,
    name: String,
    domain: Named,
}

impl From<Named> for NamedRef {
    fn from(Named { id, name }: Named) -> Self {
        Self { id, name }
    }
}

impl Document {
    fn into_claims(self) -> Claims {
        let Self { methods, audit_ids, issued_at, expires_at, user, project, domain, system, roles } = self;
        let project = project.map(|Owned { id, name, domain }| ProjectRef { id, name, domain: domain.into() });
        Claims {
            sub: user.id,
            iat: issued_at.timestamp(),
            exp: expires_at.timestamp(),
            openstack_methods: methods,
            openstack_audit_ids: audit_ids,
            openstack_project_id: project.as_ref().map(|project| project.id.clone()),
            user_name: user.name,
            user_domain: user.domain.into(),
            project,
            domain: domain.map(Into::into),
            system: system.is_some(),
            roles: roles.into_iter().map(Into::into).collect(),
            credential: None,
            issued_us: issued_at.timestamp_micros(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_with_more_than_we_know_becomes_claims() -> serde_json::Result<()> {
        let said: Said = serde_json::from_value(json!({"token": {
            "methods": ["password"], "audit_ids": ["a"], "is_domain": false, "new": 1,
            "issued_at": "2026-01-01T00:00:00.000000Z", "expires_at": "2026-01-01T01:00:00.000000Z",
            "user": {"id": "u", "name": "ann", "domain": {"id": "default", "name": "Default"}, "password_expires_at": null},
            "project": {"id": "p", "name": "red", "domain": {"id": "default", "name": "Default"}},
            "roles": [{"id": "r", "name": "member", "domain_id": null}],
        }}))?;
        let claims = said.token.into_claims();
        assert_eq!((claims.sub.as_str(), claims.exp - claims.iat), ("u", 3600));
        assert_eq!(claims.roles[0].name, "member");
        assert_eq!(claims.project.map(|project| project.name).as_deref(), Some("red"));
        Ok(())
    }
}
