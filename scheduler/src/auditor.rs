//! Incremental equals full, also on the live database: everything is compiled from nothing and
//! compared with what commands have written step by step.
//!
//! A finding is a bug somewhere, or somebody's hand in the database; it is repaired and always
//! reported. The maps that placement writes are left out: [`placer`](crate::placer) compares them
//! in every round.

use crate::config::Settings;
use mizar_db::audit::{Finding, audit};
use mizar_db::placement::Error;
use mizar_db::placement::auditor::mend;
use mizar_db::{Connection, DbPool};
use std::convert::Infallible;
use std::time::{Duration, Instant};

/// Of all time at most one part in this many: an audit reads everything.
const PART: u32 = 100;
/// Findings that are named one by one.
const NAMED: usize = 10;

/// Audits until another one leads.
pub async fn run(pool: DbPool, fence: i64, settings: Settings) -> Result<Infallible, Error> {
    let mut pause = Duration::ZERO;
    loop {
        tokio::time::sleep(settings.audit.max(pause)).await;
        let started = Instant::now();
        match round(&pool, fence).await {
            Ok(()) => {}
            Err(error @ Error::Deposed { .. }) => return Err(error),
            Err(error) => tracing::error!(error = mizar_db::chain(&error), "the audit failed"),
        }
        pause = started.elapsed() * PART;
    }
}

async fn round(pool: &DbPool, fence: i64) -> Result<(), Error> {
    let mut conn: Connection = pool.get().await?;
    let findings = audit(&mut conn, None).await?;
    drop(conn);
    if findings.is_empty() {
        tracing::debug!("the audit found nothing");
        return Ok(());
    }
    let mended = mend(pool, fence, findings).await?;
    for finding in mended.iter().take(NAMED) {
        let (what, key) = match finding {
            Finding::Missing(entry) => ("missing", format!("{:?}", entry.key)),
            Finding::Differs(entry) => ("other than compiled", format!("{:?}", entry.key)),
            Finding::Left(key, _) => ("left over", format!("{key:?}")),
            Finding::Unincluded(include) => ("missing", format!("{include:?}")),
        };
        tracing::error!(what, key, "an entry was wrong and has been repaired");
    }
    if !mended.is_empty() {
        tracing::error!(entries = mended.len(), "the audit repaired entries: this is a bug, or a hand in the database");
    }
    Ok(())
}
