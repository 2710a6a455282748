//! A client of the public API: what any OpenStack client could do, and Mizar's own extensions.

mod identity;
mod network;
mod operator;

pub use network::{FixedIp, Network, Port, PortRequest, Subnet};
pub use operator::{Host, Role};

use anyhow::{Context, Result};
use reqwest::Method;
use reqwest::blocking::{Client, Response};
use serde_json::{Value, json};
use std::fmt;
use std::sync::Mutex;
use std::time::Duration;

/// Who calls, and in which project.
#[derive(Clone)]
pub struct Credentials {
    user: String,
    project: String,
    password: String,
}

impl Credentials {
    /// A user of domain `Default`, scoped to a project of it.
    pub fn new(user: &str, project: &str, password: &str) -> Self {
        Self { user: user.into(), project: project.into(), password: password.into() }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("user", &self.user).field("project", &self.project).finish_non_exhaustive()
    }
}

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

/// A client with one user's token, fetched at the first call and again when it is no longer taken.
pub struct Api {
    http: Client,
    base: String,
    credentials: Credentials,
    token: Mutex<Option<String>>,
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Api").field("base", &self.base).field("credentials", &self.credentials).finish_non_exhaustive()
    }
}

impl Api {
    /// `base` is such as `http://127.0.0.1:9696`.
    pub fn new(base: &str, credentials: Credentials) -> Result<Self> {
        let http = Client::builder().timeout(Duration::from_secs(60)).build()?;
        Ok(Self { http, base: base.into(), credentials, token: Mutex::new(None) })
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
        self.attempt(method, path, body).with_context(|| what)
    }

    fn attempt(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value> {
        let token = self.token()?;
        let response = self.send(method.clone(), path, body, &token)?;
        if response.status().as_u16() != 401 {
            return read(response);
        }
        self.forget(&token);
        read(self.send(method, path, body, &self.token()?)?)
    }

    fn send(&self, method: Method, path: &str, body: Option<&Value>, token: &str) -> Result<Response> {
        let mut request = self.http.request(method, format!("{}{path}", self.base)).header("X-Auth-Token", token);
        if let Some(body) = body {
            request = request.json(body);
        }
        Ok(request.send()?)
    }

    /// The user's token.
    pub fn token(&self) -> Result<String> {
        let mut token = self.token.lock().expect("no holder of the lock panics");
        if let Some(token) = &*token {
            return Ok(token.clone());
        }
        let Credentials { user, project, password } = &self.credentials;
        let domain = json!({"id": "default"});
        let body = json!({"auth": {
            "identity": {"methods": ["password"],
                         "password": {"user": {"name": user, "domain": domain, "password": password}}},
            "scope": {"project": {"name": project, "domain": domain}},
        }});
        let response = self.http.post(format!("{}/v3/auth/tokens", self.base)).json(&body).send()?;
        let fresh = response.headers().get("X-Subject-Token").and_then(|v| v.to_str().ok()).map(str::to_owned);
        read(response).context("cannot sign in")?;
        let fresh = fresh.context("the answer to signing in carries no X-Subject-Token")?;
        *token = Some(fresh.clone());
        Ok(fresh)
    }

    fn forget(&self, stale: &str) {
        let mut token = self.token.lock().expect("no holder of the lock panics");
        if token.as_deref() == Some(stale) {
            *token = None;
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
