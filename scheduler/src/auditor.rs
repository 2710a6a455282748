//! Incremental equals full, also on the live database: every object is compiled from nothing and
//! compared with what commands have written step by step.
//!
//! A finding is a bug somewhere, or somebody's hand in the database; it is repaired and always
//! reported. Page by page and network by network, so that nobody waits for an audit however large
//! the cluster is (see [`mizar_db::audit`]); a network whose lock cannot be had, or whose rows
//! cannot be read, keeps no other one from being repaired.

use crate::config::Settings;
use crate::metrics::Metrics;
use mizar_db::DbPool;
use mizar_db::audit::{Finding, Walk, batches};
use mizar_db::placement::Error;
use mizar_db::placement::auditor::mend;
use std::convert::Infallible;
use std::time::Instant;

/// Findings that are named one by one.
const NAMED: usize = 10;

/// Audits until another one leads.
pub async fn run(pool: DbPool, fence: i64, settings: Settings, metrics: &Metrics) -> Result<Infallible, Error> {
    loop {
        tokio::time::sleep(settings.audit).await;
        match round(&pool, fence, &settings, metrics).await {
            Ok(()) => {}
            Err(error @ Error::Deposed { .. }) => return Err(error),
            Err(error) => {
                metrics.failed("auditor");
                tracing::error!(error = mizar_db::chain(&error), "the audit failed");
            }
        }
    }
}

async fn round(pool: &DbPool, fence: i64, settings: &Settings, metrics: &Metrics) -> Result<(), Error> {
    let (mut walk, mut repaired) = (Walk::default(), 0);
    loop {
        let started = Instant::now();
        let mut conn = pool.get().await?;
        let Some(findings) = walk.next(&mut conn).await? else { break };
        let batches = batches(&mut conn, findings).await?;
        drop(conn);
        for batch in batches {
            match mend(pool, fence, batch).await {
                Ok(mended) => {
                    report(&mended, repaired);
                    repaired += mended.len();
                    metrics.repaired(mended.len());
                }
                Err(error @ Error::Deposed { .. }) => return Err(error),
                Err(error) => tracing::error!(error = mizar_db::chain(&error), "a repair failed and will be repeated"),
            }
        }
        tokio::time::sleep(started.elapsed() * settings.audit_part.saturating_sub(1)).await;
    }
    match repaired {
        0 => tracing::debug!("the audit found nothing"),
        entries => tracing::error!(entries, "the audit repaired entries: this is a bug, or a hand in the database"),
    }
    Ok(())
}

fn report(mended: &[Finding], before: usize) {
    for finding in mended.iter().take(NAMED.saturating_sub(before)) {
        let (what, key) = match finding {
            Finding::Missing(entry) => ("missing", format!("{:?}", entry.key)),
            Finding::Differs(entry) => ("other than compiled", format!("{:?}", entry.key)),
            Finding::Left(key) => ("left over", format!("{key:?}")),
            Finding::Unincluded(include, _) => ("missing", format!("{include:?}")),
        };
        tracing::error!(what, key, "an entry was wrong and has been repaired");
    }
}
