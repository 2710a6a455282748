//! [`StateSource`] over HTTP with mutual TLS.

use super::source::{SourceError, StateSource};
use mizar_wire::ask::{Poll, Questions};
use mizar_wire::sync::{Register, Registered, SnapshotPage, SyncReply, SyncRequest};
use reqwest::{Certificate, Client, Identity, RequestBuilder, Response, StatusCode, header};
use serde::de::DeserializeOwned;
use std::path::Path;
use std::time::Duration;

/// Entries in a page of a snapshot.
const PAGE: u32 = 5000;
/// What a request may take beyond the time it asked the API to wait.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of an error's body that are read.
const DETAIL: usize = 500;

/// The API's agent listener.
#[derive(Clone, Debug)]
pub struct Http {
    client: Client,
    host: String,
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file of the configuration.
    #[error("{flag}: reading {path}")]
    File {
        /// The flag that names it.
        flag: &'static str,
        /// Its path.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// What is in it.
    #[error("{flag}: not usable")]
    Content {
        /// The flag that names it.
        flag: &'static str,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
}

fn read(flag: &'static str, path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|source| TlsError::File { flag, path: path.display().to_string(), source })
}

impl Http {
    /// Reads certificates and key; connects later.
    pub fn new(api: &str, host: &str, ca: &Path, cert: &Path, key: &Path) -> Result<Self, TlsError> {
        let content = |flag| move |source| TlsError::Content { flag, source };
        let roots = Certificate::from_pem_bundle(&read("--ca", ca)?).map_err(content("--ca"))?;
        let mut identity = read("--cert", cert)?;
        identity.push(b'\n');
        identity.extend(read("--key", key)?);
        let identity = Identity::from_pem(&identity).map_err(content("--cert and --key"))?;
        let client = Client::builder()
            .https_only(true)
            .tls_certs_only(roots)
            .identity(identity)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(Duration::from_secs(5))
            .tcp_keepalive(Duration::from_secs(5))
            // One connection waits for news, one for questions, and one reports what happens meanwhile.
            .pool_max_idle_per_host(3)
            .pool_idle_timeout(Duration::from_secs(60))
            .build()
            .map_err(content("--api"))?;
        Ok(Self { client, host: format!("{}/agent/v1/hosts/{host}", api.trim_end_matches('/')) })
    }
}

fn unreachable(error: reqwest::Error) -> SourceError {
    // The address is in every log line of the connection already.
    SourceError::Unreachable(Box::new(error.without_url()))
}

async fn answer<T: DeserializeOwned>(request: RequestBuilder) -> Result<T, SourceError> {
    let response = request.send().await.map_err(unreachable)?;
    let status = response.status();
    if status == StatusCode::OK {
        let body = response.bytes().await.map_err(unreachable)?;
        return serde_json::from_slice(&body).map_err(|e| SourceError::Unreachable(Box::new(e)));
    }
    let retry_after = response
        .headers()
        .get(header::RETRY_AFTER)
        .and_then(|v| v.to_str().ok()?.parse().ok())
        .map(Duration::from_secs);
    let detail = detail(response).await;
    Err(match status {
        StatusCode::GONE => SourceError::Gone,
        StatusCode::CONFLICT => SourceError::Conflict { detail },
        StatusCode::UPGRADE_REQUIRED => SourceError::Unsupported { detail },
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => SourceError::Busy { retry_after },
        status if status.is_server_error() => {
            SourceError::Unreachable(format!("status {}: {detail}", status.as_u16()).into())
        }
        status => SourceError::Refused { status: status.as_u16(), detail },
    })
}

/// The beginning of an error's body, in one line.
async fn detail(mut response: Response) -> String {
    let mut bytes = Vec::new();
    while bytes.len() < DETAIL
        && let Ok(Some(chunk)) = response.chunk().await
    {
        bytes.extend_from_slice(&chunk);
    }
    bytes.truncate(DETAIL);
    String::from_utf8_lossy(&bytes).chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

impl StateSource for Http {
    async fn register(&self, body: &Register) -> Result<Registered, SourceError> {
        answer(self.client.put(&self.host).timeout(PATIENCE).json(body)).await
    }

    async fn sync(&self, body: &SyncRequest) -> Result<SyncReply, SourceError> {
        let timeout = PATIENCE + Duration::from_secs(body.wait_s.into());
        answer(self.client.post(format!("{}/sync", self.host)).timeout(timeout).json(body)).await
    }

    async fn snapshot(&self, after: Option<&str>) -> Result<SnapshotPage, SourceError> {
        let mut request = self.client.get(format!("{}/snapshot", self.host)).query(&[("limit", PAGE)]);
        if let Some(after) = after {
            request = request.query(&[("after", after)]);
        }
        // A page of 5,000 entries is read from the database first.
        answer(request.timeout(PATIENCE * 3)).await
    }

    async fn questions(&self, poll: &Poll) -> Result<Questions, SourceError> {
        let timeout = PATIENCE + Duration::from_secs(poll.wait_s.into());
        answer(self.client.post(format!("{}/questions", self.host)).timeout(timeout).json(poll)).await
    }
}
