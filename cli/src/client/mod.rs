//! A client of the public API: what any OpenStack client could do, and Mizar's own extensions.

pub(crate) mod access;
mod identity;
mod network;
mod operator;

pub use access::{Access, Credentials, Trust};
pub use network::{FixedIp, Network, Port, PortRequest, Subnet};
pub use operator::{Host, Role};

use anyhow::{Context, Result};
use reqwest::Method;
use reqwest::blocking::{Client, Response};
use serde_json::Value;
use std::fmt;
use std::sync::Mutex;
use std::time::Duration;

/// A request that the API refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// HTTP status.
    pub status: u16,
    /// Neutron's or Keystone's name of the error.
    pub kind: String,
    /// For people.
    pub message: String,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.status, self.kind, self.message)
    }
}

impl std::error::Error for Refused {}

/// The status with which a call was refused, if it was.
pub fn refused_status(error: &anyhow::Error) -> Option<u16> {
    error.downcast_ref::<Refused>().map(|refused| refused.status)
}

/// What signing in brought.
#[derive(Clone)]
struct Session {
    token: String,
    /// Where the network service is.
    network: String,
    project: Option<String>,
}

/// A client with one user's token, fetched at the first call and again when it is no longer taken.
pub struct Api {
    http: Client,
    access: Access,
    session: Mutex<Option<Session>>,
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Api").field("access", &self.access).finish_non_exhaustive()
    }
}

impl Api {
    /// Both services below `base`, such as `http://127.0.0.1:9696`.
    pub fn new(base: &str, credentials: Credentials) -> Result<Self> {
        Self::at(Access::of_base(base, credentials))
    }

    /// Services where `access` says.
    pub fn at(access: Access) -> Result<Self> {
        let http = access.trust.client()?.timeout(Duration::from_secs(60)).build().context("HTTP client")?;
        Ok(Self { http, access, session: Mutex::new(None) })
    }

    /// How it signs in.
    pub fn access(&self) -> &Access {
        &self.access
    }

    /// GET.
    pub fn get(&self, path: &str) -> Result<Value> {
        self.call(Method::GET, path, None)
    }

    /// POST.
    pub fn post(&self, path: &str, body: &Value) -> Result<Value> {
        self.call(Method::POST, path, Some(body))
    }

    /// PUT.
    pub fn put(&self, path: &str, body: Option<&Value>) -> Result<Value> {
        self.call(Method::PUT, path, body)
    }

    /// DELETE.
    pub fn delete(&self, path: &str) -> Result<()> {
        self.call(Method::DELETE, path, None).map(drop)
    }

    /// Any call; an empty answer is `null`, a refusal is [`Refused`].
    pub fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value> {
        let what = format!("{method} {path}");
        self.attempt(method, path, body, None).with_context(|| what)
    }

    /// A call with the header `If-Match: revision_number=N`: refused with 412 if the object is another by now.
    pub fn put_at_revision(&self, path: &str, body: &Value, revision: i64) -> Result<Value> {
        let attempt = self.attempt(Method::PUT, path, Some(body), Some(revision));
        attempt.with_context(|| format!("PUT {path}"))
    }

    fn attempt(&self, method: Method, path: &str, body: Option<&Value>, revision: Option<i64>) -> Result<Value> {
        let session = self.session()?;
        let response = self.send(method.clone(), path, body, revision, &session)?;
        if response.status().as_u16() != 401 {
            return read(response);
        }
        self.forget(&session.token);
        read(self.send(method, path, body, revision, &self.session()?)?)
    }

    fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        revision: Option<i64>,
        session: &Session,
    ) -> Result<Response> {
        let base = if path.starts_with("/v3") { &self.access.identity } else { &session.network };
        let mut request = self.http.request(method, format!("{base}{path}")).header("X-Auth-Token", &session.token);
        if let Some(body) = body {
            request = request.json(body);
        }
        if let Some(revision) = revision {
            request = request.header("If-Match", format!("revision_number={revision}"));
        }
        Ok(request.send()?)
    }

    /// The user's token.
    pub fn token(&self) -> Result<String> {
        Ok(self.session()?.token)
    }

    /// The project that the token is for.
    pub fn project(&self) -> Result<String> {
        self.session()?.project.context("these credentials are not for a project: name one, by --os-project-name")
    }

    /// Base of the network service's addresses, as the catalog says.
    pub fn network_url(&self) -> Result<String> {
        Ok(self.session()?.network)
    }

    fn session(&self) -> Result<Session> {
        let mut session = self.session.lock().expect("no holder of the lock panics");
        if let Some(session) = &*session {
            return Ok(session.clone());
        }
        let url = format!("{}/v3/auth/tokens", self.access.identity);
        let response = self.http.post(&url).json(&self.access.credentials.request()).send()?;
        let token = response.headers().get("X-Subject-Token").and_then(|v| v.to_str().ok()).map(str::to_owned);
        let body = read(response).context("cannot sign in")?;
        let token = token.context("the answer to signing in carries no X-Subject-Token")?;
        let project = body.pointer("/token/project/id").and_then(Value::as_str).map(str::to_owned);
        let fresh = Session { token, network: self.access.network_of(&body)?, project };
        *session = Some(fresh.clone());
        Ok(fresh)
    }

    fn forget(&self, stale: &str) {
        let mut session = self.session.lock().expect("no holder of the lock panics");
        if session.as_ref().is_some_and(|session| session.token == stale) {
            *session = None;
        }
    }
}

fn read(response: Response) -> Result<Value> {
    let status = response.status();
    let text = response.text()?;
    if status.is_success() {
        return if text.is_empty() { Ok(Value::Null) } else { Ok(serde_json::from_str(&text)?) };
    }
    let body: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
    let text_at = |pointer: &str| body.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    Err(Refused {
        status: status.as_u16(),
        kind: text_at("/NeutronError/type").or(text_at("/error/title")).unwrap_or_default(),
        message: text_at("/NeutronError/message").or(text_at("/error/message")).unwrap_or(text),
    }
    .into())
}
