//! The seam to the API.

use mizar_wire::ask::{Poll, Questions};
use mizar_wire::sync::{Register, Registered, SnapshotPage, SyncReply, SyncRequest};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

/// Why the API did not answer as hoped: what to do follows from it (CONTROLPLANE section 7).
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// 410: take a snapshot.
    #[error("the cursor is outdated")]
    Gone,
    /// 401, 403, 404: keep forwarding, alarm, try again.
    #[error("refused with status {status}: {detail}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// What the API says.
        detail: String,
    },
    /// 409: another boot of this host holds it.
    #[error("another boot of this host holds it: {detail}")]
    Conflict {
        /// What the API says.
        detail: String,
    },
    /// 426: this agent is too old or too new.
    #[error("protocol or ABI not supported: {detail}")]
    Unsupported {
        /// What the API says.
        detail: String,
    },
    /// 429, 503: try again later.
    #[error("the API is busy")]
    Busy {
        /// When, if it said so.
        retry_after: Option<Duration>,
    },
    /// No answer, or one that is no answer.
    #[error("the API cannot be reached")]
    Unreachable(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Desired state, from wherever.
pub trait StateSource: Send + Sync + 'static {
    /// `PUT /agent/v1/hosts/{name}`
    fn register(&self, body: &Register) -> impl Future<Output = Result<Registered, SourceError>> + Send;
    /// `POST /agent/v1/hosts/{name}/sync`
    fn sync(&self, body: &SyncRequest) -> impl Future<Output = Result<SyncReply, SourceError>> + Send;
    /// `GET /agent/v1/hosts/{name}/snapshot`
    fn snapshot(&self, after: Option<&str>) -> impl Future<Output = Result<SnapshotPage, SourceError>> + Send;
    /// `POST /agent/v1/hosts/{name}/questions`
    fn questions(&self, poll: &Poll) -> impl Future<Output = Result<Questions, SourceError>> + Send;
}

/// Whoever follows and whoever answers share one.
impl<S: StateSource> StateSource for Arc<S> {
    async fn register(&self, body: &Register) -> Result<Registered, SourceError> {
        S::register(self, body).await
    }

    async fn sync(&self, body: &SyncRequest) -> Result<SyncReply, SourceError> {
        S::sync(self, body).await
    }

    async fn snapshot(&self, after: Option<&str>) -> Result<SnapshotPage, SourceError> {
        S::snapshot(self, after).await
    }

    async fn questions(&self, poll: &Poll) -> Result<Questions, SourceError> {
        S::questions(self, poll).await
    }
}
