//! The public API as this program calls it: always with somebody's token.

mod identity;
mod query;

pub use identity::{Grant, Named};
pub use query::Query;

use anyhow::Context as _;
use reqwest::Method;
use serde_json::Value;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Beyond this, somebody who looks at a page has given up.
const PATIENCE: Duration = Duration::from_secs(30);

/// An API that is there takes a connection at once.
const CONNECT: Duration = Duration::from_secs(3);

/// Shorter than servers keep an idle connection (by themselves some only 5 s), so that none is used that is just
/// being closed.
const IDLE: Duration = Duration::from_secs(4);

/// Why a call brought nothing.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CallError {
    /// The API refused it.
    #[error("{0}")]
    Refused(Refused),
    /// There was no answer; why is for the log.
    #[error("the network service does not answer")]
    Unreachable(String),
    /// The answer is not what the API says it is.
    #[error("the network service's answer is not understood: {0}")]
    NotUnderstood(String),
}

/// A refusal, as Neutron or Keystone words it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refused {
    /// HTTP status.
    pub status: u16,
    /// Neutron's name of the error, or Keystone's title.
    pub kind: String,
    /// For people.
    pub message: String,
}

impl Refused {
    /// Reads a refusal's body; one of another form is shown as it is, for what it is worth.
    fn of(status: u16, body: &str) -> Self {
        let said: Value = serde_json::from_str(body).unwrap_or(Value::Null);
        let text = |pointer: &str| said.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        let kind = text("/NeutronError/type").or_else(|| text("/error/title")).unwrap_or_default();
        let message = text("/NeutronError/message").or_else(|| text("/error/message"));
        let message =
            message.unwrap_or_else(|| format!("status {status}: {}", body.chars().take(200).collect::<String>()));
        Self { status, kind, message }
    }
}

/// A client of the API; cheap to clone.
#[derive(Clone, Debug)]
pub struct Api {
    http: reqwest::Client,
    network: Arc<str>,
    identity: Arc<str>,
}

impl Api {
    /// `network` and `identity` are the bases that `/v2.0` and `/v3` follow; `ca` counts instead of the
    /// system's certificates.
    pub fn new(network: &str, identity: Option<&str>, ca: Option<&Path>) -> anyhow::Result<Self> {
        let mut http = reqwest::Client::builder()
            .timeout(PATIENCE)
            .connect_timeout(CONNECT)
            .pool_idle_timeout(IDLE)
            .redirect(reqwest::redirect::Policy::none());
        if let Some(ca) = ca {
            let pem = std::fs::read(ca).with_context(|| format!("cannot read {}", ca.display()))?;
            let bundle = reqwest::Certificate::from_pem_bundle(&pem);
            http = http.tls_certs_only(bundle.with_context(|| format!("{}: no certificates", ca.display()))?);
        }
        let http = http.build().context("HTTP client")?;
        Ok(Self { http, network: network.into(), identity: identity.unwrap_or(network).into() })
    }

    /// Calls with a token, on behalf of a browser at `from`.
    pub fn with(&self, token: &Arc<str>, from: Option<IpAddr>) -> Calls {
        Calls { api: self.clone(), token: Arc::clone(token), from }
    }

    fn request(&self, method: Method, path: &str, from: Option<IpAddr>) -> reqwest::RequestBuilder {
        let base = if path.starts_with("/v3") { &self.identity } else { &self.network };
        let request = self.http.request(method, format!("{base}{path}"));
        // An API that trusts this program (--trusted-proxies) limits and logs by the browser's address.
        match from {
            Some(from) => request.header("X-Forwarded-For", from.to_string()),
            None => request,
        }
    }
}

/// The API with one user's token.
#[derive(Clone)]
pub struct Calls {
    api: Api,
    token: Arc<str>,
    from: Option<IpAddr>,
}

impl std::fmt::Debug for Calls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Calls").field("api", &self.api).finish_non_exhaustive()
    }
}

impl Calls {
    /// GET.
    pub async fn get(&self, path: &str, query: &Query) -> Result<Value, CallError> {
        self.send(self.request(Method::GET, path).query(query.pairs())).await
    }

    /// The list in member `plural` of the answer.
    pub async fn list(&self, path: &str, plural: &str, query: &Query) -> Result<Vec<Value>, CallError> {
        objects(&mut self.get(path, query).await?, plural)
    }

    /// The object in member `singular` of the answer.
    pub async fn one(&self, path: &str, singular: &str) -> Result<Value, CallError> {
        object(self.get(path, &Query::new()).await?, singular)
    }

    /// POST.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Value, CallError> {
        self.send(self.request(Method::POST, path).json(body)).await
    }

    /// PUT; with a revision, it is refused with 412 where the object is another by now.
    pub async fn put(&self, path: &str, body: Option<&Value>, revision: Option<i64>) -> Result<Value, CallError> {
        let mut request = self.request(Method::PUT, path);
        if let Some(body) = body {
            request = request.json(body);
        }
        if let Some(revision) = revision {
            request = request.header("If-Match", format!("revision_number={revision}"));
        }
        self.send(request).await
    }

    /// DELETE.
    pub async fn delete(&self, path: &str) -> Result<(), CallError> {
        self.send(self.request(Method::DELETE, path)).await.map(drop)
    }

    fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.api.request(method, path, self.from).header("X-Auth-Token", &*self.token)
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Result<Value, CallError> {
        read(request.send().await.map_err(unreachable)?).await
    }
}

fn unreachable(error: reqwest::Error) -> CallError {
    // Without the address, which holds ids; what went wrong stands at the end of the chain.
    let error = error.without_url();
    let causes = std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source());
    CallError::Unreachable(causes.map(ToString::to_string).collect::<Vec<_>>().join(": "))
}

async fn read(response: reqwest::Response) -> Result<Value, CallError> {
    let status = response.status();
    let body = response.text().await.map_err(unreachable)?;
    if !status.is_success() {
        return Err(CallError::Refused(Refused::of(status.as_u16(), &body)));
    }
    if body.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_str(&body).map_err(|error| CallError::NotUnderstood(error.to_string()))
}

/// The list in a member of an answer; each of its items is an object.
pub fn objects(answer: &mut Value, plural: &str) -> Result<Vec<Value>, CallError> {
    match answer.get_mut(plural).map(Value::take) {
        Some(Value::Array(list)) if list.iter().all(Value::is_object) => Ok(list),
        _ => Err(CallError::NotUnderstood(format!("there is no list `{plural}`"))),
    }
}

/// The object in a member of an answer.
pub fn object(mut answer: Value, singular: &str) -> Result<Value, CallError> {
    match answer.get_mut(singular).map(Value::take) {
        Some(object @ Value::Object(_)) => Ok(object),
        _ => Err(CallError::NotUnderstood(format!("there is no object `{singular}`"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn refusals_of_both_services_are_read() {
        let neutron = r#"{"NeutronError": {"type": "NetworkInUse", "message": "It is used.", "detail": ""}}"#;
        let refused = Refused::of(409, neutron);
        assert_eq!((refused.kind.as_str(), refused.message.as_str()), ("NetworkInUse", "It is used."));
        let keystone = Refused::of(401, r#"{"error": {"code": 401, "title": "Unauthorized", "message": "No."}}"#);
        assert_eq!((keystone.kind.as_str(), keystone.message.as_str()), ("Unauthorized", "No."));
        assert_eq!(Refused::of(502, "<html>").message, "status 502: <html>");
    }

    #[test]
    fn an_answer_of_another_form_is_an_error() {
        assert!(objects(&mut json!({"ports": [{}]}), "ports").is_ok());
        for wrong in [json!({"ports": [1]}), json!({"ports": {}}), json!([]), json!(null)] {
            assert!(objects(&mut wrong.clone(), "ports").is_err(), "{wrong}");
        }
        assert!(object(json!({"port": {}}), "port").is_ok());
        assert!(object(json!({"port": []}), "port").is_err());
    }

    #[tokio::test]
    async fn the_log_says_why_there_is_no_answer_and_the_page_does_not() -> anyhow::Result<()> {
        // A port that was free a moment ago, and that nobody listens at.
        let gone = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let calls = Api::new(&format!("http://{gone}"), None, None)?.with(&"secret-token".into(), None);
        let error = calls.get("/v2.0/ports", &Query::new()).await.expect_err("nobody is there");
        assert_eq!(error.to_string(), "the network service does not answer");
        let CallError::Unreachable(why) = error else { panic!("{error:?}") };
        assert!(why.contains("refused") && !why.contains("v2.0") && !why.contains("secret"), "{why}");
        Ok(())
    }

    #[test]
    fn nothing_that_is_logged_holds_a_token() -> anyhow::Result<()> {
        let calls = Api::new("http://127.0.0.1:1", None, None)?.with(&"secret-token".into(), None);
        assert!(!format!("{calls:?}").contains("secret-token"));
        Ok(())
    }
}
