//! Standing by, leading, stepping down.

use crate::config::Settings;
use crate::metrics::Metrics;
use crate::placer::Placer;
use crate::{auditor, janitor, keys};
use mizar_db::DbPool;
use mizar_db::feed::{FeedError, restore};
use mizar_db::placement::Error;
use mizar_db::placement::leader::{Candidate, Leadership};
use mizar_db::pool::{PoolError, Use};
use std::convert::Infallible;
use std::time::Duration;
use tokio::sync::watch;

/// How often a standby tries.
const TRY: Duration = Duration::from_millis(250);
/// How often a leader confirms that it leads.
const CONFIRM: Duration = Duration::from_secs(1);
/// After this long without an answer the session counts as gone.
const SILENCE: Duration = Duration::from_secs(5);

/// Runs a scheduler: leads whenever nobody else does. Never returns.
pub async fn run(url: &str, settings: Settings, metrics: &Metrics) -> Infallible {
    let mut said = String::new();
    loop {
        let error = match stand(url, metrics).await {
            Ok(leadership) => {
                said.clear();
                metrics.leads(true);
                let ended = lead(url, leadership, settings, metrics).await;
                metrics.leads(false);
                ended
            }
            Err(error) => error,
        };
        // A database that is away is said once, not every second.
        let text = mizar_db::chain(&error);
        if text != said {
            tracing::error!(error = text, "not leading");
            said = text;
        }
        tokio::time::sleep(CONFIRM).await;
    }
}

/// Waits until this one leads.
async fn stand(url: &str, metrics: &Metrics) -> Result<Leadership, Error> {
    let mut candidate = Candidate::connect(url).await?;
    let mut waits = false;
    loop {
        let tried = tokio::time::timeout(SILENCE, candidate.try_lead()).await;
        let tried = tried.map_err(|_| Error::Pool(PoolError::Timeout))??;
        metrics.heard();
        candidate = match tried {
            Ok(leadership) => return Ok(leadership),
            Err(candidate) => candidate,
        };
        if !waits {
            tracing::info!("standing by: another scheduler leads");
            waits = true;
        }
        tokio::time::sleep(TRY).await;
    }
}

/// Leads until that ends, and says why. All loops end with it, and the session with the lock last.
async fn lead(url: &str, mut leadership: Leadership, settings: Settings, metrics: &Metrics) -> Error {
    let fence = leadership.fence;
    let since = leadership.since;
    let loops = async {
        let reads = DbPool::new(url, 2, Use::Feed)?;
        let writes = DbPool::new(url, 4, Use::Commands)?;
        let mut conn = reads.get().await?;
        restore::adopt(&mut conn).await.map_err(|error| match error {
            FeedError::Database(error) => Error::Database(error),
            FeedError::Restored(error) => Error::Audit(error),
            other => Error::Corrupt { table: "feed", column: "history", value: other.to_string() },
        })?;
        drop(conn);
        tracing::info!(fence, "leading");
        let (doubt, doubted) = watch::channel(true);
        let placer = Placer::new(reads, writes.clone(), fence, since, settings, doubt, metrics);
        let never: Result<Infallible, Error> = tokio::select! {
            ended = placer.run() => ended,
            ended = keys::run(writes.clone(), fence, since, settings, doubted, metrics) => ended,
            ended = janitor::run(writes.clone(), fence, settings, metrics) => ended,
            ended = auditor::run(writes.clone(), fence, settings, metrics) => ended,
        };
        never
    };
    let ended = tokio::select! {
        ended = loops => ended,
        ended = confirm(&mut leadership, metrics) => ended,
    };
    match ended {
        Err(error) => error,
        Ok(never) => match never {},
    }
}

async fn confirm(leadership: &mut Leadership, metrics: &Metrics) -> Result<Infallible, Error> {
    loop {
        tokio::time::sleep(CONFIRM).await;
        match tokio::time::timeout(SILENCE, leadership.confirm()).await {
            Ok(confirmed) => {
                confirmed?;
                metrics.heard();
            }
            Err(_) => return Err(Error::Pool(PoolError::Timeout)),
        }
    }
}
