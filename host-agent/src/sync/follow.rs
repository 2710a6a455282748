//! The loop of the agent: register, sync, apply, acknowledge, for ever.
//!
//! Whatever the API answers, and whether it answers, the host goes on forwarding; this loop only
//! decides when to ask again (CONTROLPLANE section 7).

use super::backoff::{Backoff, jitter};
use super::source::{SourceError, StateSource};
use crate::core::{Shared, Snapshot, chain};
use mizar_wire::sync::{PROTOCOL, Register, SyncReply, SyncRequest};
use std::convert::Infallible;
use std::time::{Duration, SystemTime};
use tokio::time::Instant;

/// A clock that is off by more than this raises an alarm: signed packets allow 5 s.
const MOST_SKEW_MS: i64 = 2_000;
/// How often a snapshot that lacks too much is asked for again.
const DOUBT: Duration = Duration::from_secs(60);
/// How often an agent asks that the API does not want.
const UNWANTED: (Duration, Duration) = (Duration::from_secs(8), Duration::from_secs(12));

/// What the host says of itself, beside what the core knows.
#[derive(Clone, Debug)]
pub struct Description {
    /// Availability zone.
    pub az: String,
    /// Rack.
    pub rack: String,
    /// `xdp` or `tcx`.
    pub transit_hook: String,
}

/// Follows a source.
pub struct Follower<S> {
    core: Shared,
    source: S,
    description: Description,
    backoff: Backoff,
    skewed: bool,
    complained: Option<String>,
    snapshot_at: Option<Instant>,
}

impl<S: StateSource> Follower<S> {
    /// Starts nothing yet.
    pub fn new(core: Shared, source: S, description: Description) -> Self {
        let backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(10));
        Self { core, source, description, backoff, skewed: false, complained: None, snapshot_at: None }
    }

    /// Follows for ever.
    pub async fn run(mut self) -> Infallible {
        loop {
            self.register().await;
            loop {
                let Err(error) = self.session().await;
                // Who is not known any more, or replaced, registers again.
                let again = matches!(
                    error,
                    SourceError::Refused { .. } | SourceError::Conflict { .. } | SourceError::Unsupported { .. }
                );
                self.pause(error).await;
                if again {
                    break;
                }
            }
        }
    }

    async fn register(&mut self) {
        loop {
            let body = {
                let core = self.core.lock();
                let identity = core.identity();
                Register {
                    protocol: PROTOCOL,
                    abi: mizar_abi::ABI,
                    boot_id: identity.boot_id.clone(),
                    version: env!("CARGO_PKG_VERSION").to_owned(),
                    underlay: identity.underlay,
                    mtu: identity.mtu,
                    az: self.description.az.clone(),
                    rack: self.description.rack.clone(),
                    transit_hook: self.description.transit_hook.clone(),
                }
            };
            match self.source.register(&body).await {
                Ok(registered) => {
                    tracing::info!(number = registered.number, lease_s = registered.lease_s, "registered");
                    self.core.lock().registered(registered.number);
                    self.went_well();
                    return;
                }
                Err(error) => self.pause(error).await,
            }
        }
    }

    /// Syncs until something fails.
    async fn session(&mut self) -> Result<Infallible, SourceError> {
        // With nothing to wait for first: what this host says may be all the API waits for.
        let mut wait_s = 0;
        loop {
            if self.core.lock().is_in_doubt() && self.snapshot_at.is_none_or(|at| at.elapsed() > DOUBT) {
                self.core.lock().forget_cursor();
            }
            let request = self.core.lock().request(wait_s);
            let reply = tokio::select! {
                reply = self.source.sync(&request) => reply,
                never = report(&self.core, &self.source), if wait_s > 0 => match never {},
            };
            match reply {
                // Restored while it waited: the changes since are of another history.
                Ok(reply) if request.epoch.as_ref() != Some(&reply.epoch) => {
                    self.core.lock().answered(&request);
                    self.snapshot().await?;
                    wait_s = 0;
                }
                Ok(reply) => {
                    self.check_clock(&reply);
                    let mut core = self.core.lock();
                    core.answered(&request);
                    // News are acknowledged at once, by a sync that does not wait.
                    let news = core.sync(reply);
                    wait_s = if news || core.has_reports() { 0 } else { jitter_s() };
                    drop(core);
                    self.went_well();
                }
                Err(SourceError::Gone) => {
                    self.snapshot().await?;
                    wait_s = 0;
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn snapshot(&mut self) -> Result<(), SourceError> {
        let mut snapshot = Snapshot::default();
        let mut after: Option<String> = None;
        self.snapshot_at = Some(Instant::now());
        loop {
            let page = self.source.snapshot(after.as_deref()).await?;
            let (next, confirmed) = (page.next.clone(), page.confirmed);
            if self.core.lock().page(&mut snapshot, page).is_err() {
                // The database was restored between two pages.
                (snapshot, after) = (Snapshot::default(), None);
                continue;
            }
            match next {
                Some(_) => after = next,
                None => {
                    if let Err(error) = self.core.lock().prune(snapshot, confirmed) {
                        tracing::error!(error = chain(&error), "the maps could not be adopted");
                    }
                    self.went_well();
                    return Ok(());
                }
            }
        }
    }

    fn went_well(&mut self) {
        self.backoff.reset();
        if self.complained.take().is_some() {
            tracing::info!("the API answers again");
        }
    }

    /// Waits as the error demands, and logs it once.
    async fn pause(&mut self, error: SourceError) {
        let text = chain(&error);
        if self.complained.as_ref() != Some(&text) {
            match &error {
                SourceError::Busy { .. } | SourceError::Gone => tracing::info!(error = text, "asking again later"),
                SourceError::Unreachable(_) => tracing::warn!(error = text, "forwarding goes on, changes wait"),
                SourceError::Refused { .. } | SourceError::Conflict { .. } | SourceError::Unsupported { .. } => {
                    tracing::error!(error = text, "the API does not want this agent; forwarding goes on, changes wait");
                }
            }
            self.complained = Some(text);
        }
        let pause = match error {
            SourceError::Busy { retry_after: Some(after) } => {
                let after = after.min(Duration::from_secs(60));
                jitter(after, after + after / 2 + Duration::from_millis(500))
            }
            SourceError::Refused { .. } | SourceError::Conflict { .. } | SourceError::Unsupported { .. } => {
                jitter(UNWANTED.0, UNWANTED.1)
            }
            SourceError::Busy { retry_after: None } | SourceError::Gone | SourceError::Unreachable(_) => {
                self.backoff.pause()
            }
        };
        tokio::time::sleep(pause).await;
    }

    fn check_clock(&mut self, reply: &SyncReply) {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let skew_ms = i64::try_from(now.as_millis()).unwrap_or(i64::MAX).saturating_sub(reply.server_ms);
        let skewed = skew_ms.abs() > MOST_SKEW_MS;
        if skewed && !self.skewed {
            tracing::error!(skew_ms, "this host's clock is off: other hosts refuse its packets from 5 s on");
        }
        self.skewed = skewed;
    }
}

/// Between 8 and 10 s: each sync renews a lease of 30 s, and agents do not march in step.
fn jitter_s() -> u32 {
    jitter(Duration::from_secs(8), Duration::from_millis(10_999)).as_secs() as u32
}

/// Reports interfaces while a long poll is under way, by a request of its own. What its answer
/// brings is left to the poll, which gets the same: of two answers to one cursor nobody can tell
/// which is the younger.
async fn report(core: &Shared, source: &impl StateSource) -> Infallible {
    let news = core.lock().news();
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
    loop {
        news.notified().await;
        while core.lock().has_reports() {
            let request = SyncRequest { ack: None, ..core.lock().request(0) };
            match source.sync(&request).await {
                Ok(_) => core.lock().answered(&request),
                Err(error) => {
                    // The poll meets the same trouble, and logs it.
                    tracing::debug!(error = chain(&error), "report not answered");
                    tokio::time::sleep(backoff.pause()).await;
                    continue;
                }
            }
            backoff.reset();
        }
    }
}
