//! Errors of this surface, as RFC 9457 problem details, and what an agent does about each
//! (CONTROLPLANE section 7).

use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_TYPE, RETRY_AFTER};
use actix_web::web::Bytes;
use actix_web::{HttpRequest, HttpResponse, ResponseError};
use mizar_db::agents::register::RegisterError;
use mizar_db::chain;
use mizar_db::feed::{FeedError, Gone};
use mizar_db::pool::PoolError;
use std::fmt;

/// A refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    status: StatusCode,
    /// Last part of the type's URN: what a program looks at.
    kind: &'static str,
    title: &'static str,
    detail: String,
    /// Seconds.
    retry_after: Option<u64>,
}

impl Problem {
    fn new(status: StatusCode, kind: &'static str, title: &'static str, detail: impl Into<String>) -> Self {
        Self { status, kind, title, detail: detail.into(), retry_after: None }
    }

    /// The request is malformed; repeating it is useless.
    pub fn malformed(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "malformed", "The request is malformed", detail)
    }

    /// The certificate does not allow it.
    pub fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "wrong-host", "The certificate does not name this host", detail)
    }

    /// The agent must register (again). It keeps forwarding.
    pub fn unregistered(host: &str) -> Self {
        let detail = format!("host {host} is not registered");
        Self::new(StatusCode::NOT_FOUND, "not-registered", "The host is not registered", detail)
    }

    /// Another boot holds the host.
    pub fn held(detail: impl Into<String>, retry_after: u64) -> Self {
        let title = "Another boot holds this host";
        Self { retry_after: Some(retry_after), ..Self::new(StatusCode::CONFLICT, "boot-held", title, detail) }
    }

    /// Another host has what this one claims.
    pub fn taken(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "underlay-taken", "The underlay address is taken", detail)
    }

    /// Begin again from a snapshot.
    pub fn gone(why: Gone) -> Self {
        Self::new(StatusCode::GONE, "snapshot-needed", "A snapshot is needed", why.to_string())
    }

    /// The agent is too old or too new for this server.
    pub fn upgrade(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UPGRADE_REQUIRED, "unsupported", "Protocol or ABI is not supported", detail)
    }

    /// Try again, not all at once.
    pub fn busy(detail: impl Into<String>) -> Self {
        let retry_after = Some(rand::random_range(1..=5));
        Self { retry_after, ..Self::new(StatusCode::SERVICE_UNAVAILABLE, "busy", "Try again later", detail) }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.title, self.detail)
    }
}

impl std::error::Error for Problem {}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        self.status
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = HttpResponse::build(self.status);
        response.insert_header((CONTENT_TYPE, "application/problem+json"));
        if let Some(seconds) = self.retry_after {
            response.insert_header((RETRY_AFTER, seconds));
        }
        if self.status == StatusCode::UPGRADE_REQUIRED {
            // RFC 9110, 15.5.22: what to upgrade to.
            response.insert_header(("Upgrade", format!("mizar-agent/{}", mizar_wire::sync::PROTOCOL)));
        }
        let body = serde_json::json!({
            "type": format!("urn:mizar:problem:{}", self.kind),
            "title": self.title,
            "status": self.status.as_u16(),
            "detail": self.detail,
        });
        response.body(body.to_string())
    }
}

/// Logged here, once, with the chain; the agent hears only that it should try again.
pub(super) fn unavailable(error: &(dyn std::error::Error + 'static)) -> Problem {
    tracing::error!(error = chain(error), "an agent's request failed");
    Problem::busy("the database cannot be used at the moment")
}

impl From<FeedError> for Problem {
    fn from(error: FeedError) -> Self {
        unavailable(&error)
    }
}

impl From<PoolError> for Problem {
    fn from(error: PoolError) -> Self {
        unavailable(&error)
    }
}

impl From<diesel::result::Error> for Problem {
    fn from(error: diesel::result::Error) -> Self {
        unavailable(&error)
    }
}

impl From<RegisterError> for Problem {
    fn from(error: RegisterError) -> Self {
        match &error {
            RegisterError::Held { left } => {
                Self::held(error.to_string(), u64::try_from(left.num_seconds()).unwrap_or(0) + 1)
            }
            RegisterError::UnderlayTaken(_) => Self::taken(error.to_string()),
            RegisterError::Pool(_) | RegisterError::Database(_) => unavailable(&error),
        }
    }
}

/// A path that is none.
pub(super) async fn nowhere(request: HttpRequest) -> Problem {
    let detail = format!("{} is no resource", request.path());
    Problem::new(StatusCode::NOT_FOUND, "no-resource", "There is no such resource", detail)
}

/// A method that the path does not have.
pub(super) async fn method(request: HttpRequest) -> Problem {
    let detail = format!("{} has no {}", request.path(), request.method());
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "no-method", "The method is not allowed", detail)
}

impl actix_web::Responder for Problem {
    type Body = actix_web::body::BoxBody;

    fn respond_to(self, _: &HttpRequest) -> HttpResponse {
        self.error_response()
    }
}

/// A body, or why it was not read to its end.
pub(super) type Body = Result<Bytes, actix_web::Error>;

/// Reads a body strictly, whatever its content type says.
pub(super) fn decode<T: serde::de::DeserializeOwned>(body: Body) -> Result<T, Problem> {
    let body = body.map_err(|error| {
        let status = error.as_response_error().status_code();
        Problem::new(status, "unreadable", "The body cannot be read", error.to_string())
    })?;
    serde_json::from_slice(&body).map_err(|error| Problem::malformed(error.to_string()))
}

/// Refuses what this server does not speak.
pub(super) fn speaks(protocol: u32) -> Result<(), Problem> {
    if protocol != mizar_wire::sync::PROTOCOL {
        let ours = mizar_wire::sync::PROTOCOL;
        return Err(Problem::upgrade(format!("protocol {protocol} is not supported; this server speaks {ours}")));
    }
    Ok(())
}

/// The same, and data planes that it does not know.
pub(super) fn supported(protocol: u32, abi: u32) -> Result<(), Problem> {
    speaks(protocol)?;
    if abi != mizar_domain::model::ABI {
        let ours = mizar_domain::model::ABI;
        return Err(Problem::upgrade(format!("data plane ABI {abi} is not supported; this server knows {ours}")));
    }
    Ok(())
}
