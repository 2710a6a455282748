//! Clears away what nobody takes back: former paths of ports that moved, includes that nothing
//! has needed for an hour, tombstones that every agent has seen or must do without, audit events that are
//! older than the operator keeps them.

use crate::config::Settings;
use crate::metrics::Metrics;
use crate::pace::Pace;
use mizar_db::DbPool;
use mizar_db::feed::{FeedError, gc};
use mizar_db::placement::Error;
use mizar_db::placement::groups::{self, UnusedRules, forget_sets};
use mizar_db::placement::janitor::{EXPIRY_BATCH, UnusedInclude, expire_audit_events, forget_moved, remove, unused};
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::time::{Duration, Instant};

/// How often to look.
const LOOK: Duration = Duration::from_secs(5);

/// Clears away until another one leads.
pub async fn run(pool: DbPool, fence: i64, settings: Settings, metrics: &Metrics) -> Result<Infallible, Error> {
    let look = LOOK.min(settings.moved.min(settings.unused) / 4).max(Duration::from_millis(20));
    let mut janitor = Janitor {
        pool,
        fence,
        settings,
        metrics,
        unused: Unused::default(),
        unused_rules: Unused::default(),
        includes: Pace::new((settings.unused / 12).max(look)),
        tombstones: Pace::new(settings.collection),
        events: Pace::new(settings.collection),
    };
    let mut ticks = tokio::time::interval(look);
    let mut failing = false;
    loop {
        ticks.tick().await;
        match janitor.round().await {
            Ok(()) => failing = false,
            Err(error @ Error::Deposed { .. }) => return Err(error),
            Err(error) => {
                janitor.metrics.failed("janitor");
                if !failing {
                    tracing::error!(error = mizar_db::chain(&error), "clearing away failed and will be repeated");
                }
                failing = true;
            }
        }
    }
}

struct Janitor<'m> {
    pool: DbPool,
    fence: i64,
    settings: Settings,
    metrics: &'m Metrics,
    unused: Unused<UnusedInclude>,
    unused_rules: Unused<UnusedRules>,
    includes: Pace,
    tombstones: Pace,
    events: Pace,
}

impl Janitor<'_> {
    async fn round(&mut self) -> Result<(), Error> {
        while forget_moved(&self.pool, self.fence, self.settings.moved).await? > 0 {}
        if self.includes.is_due() {
            let started = Instant::now();
            self.clear_includes(started).await?;
            self.clear_rules(started).await?;
            let forgotten = forget_sets(&self.pool, self.fence, self.settings.sets).await?;
            if forgotten > 0 {
                tracing::info!(forgotten, "combinations of security groups and labels forgotten");
            }
            self.includes.done(started);
        }
        if self.tombstones.is_due() {
            let started = Instant::now();
            self.collect().await?;
            self.tombstones.done(started);
        }
        if let Some(days) = self.settings.audit_days
            && self.events.is_due()
        {
            let started = Instant::now();
            // The rest comes with the next look: a log of years shall hold up nothing else.
            if self.expire(days).await? < EXPIRY_BATCH {
                self.events.done(started);
            }
        }
        Ok(())
    }

    /// Takes one batch away; returns how many that were.
    async fn expire(&self, days: u32) -> Result<usize, Error> {
        let expired = expire_audit_events(&self.pool, self.fence, days).await?;
        self.metrics.expired(expired);
        if expired > 0 {
            tracing::info!(expired, days, "audit events expired");
        }
        Ok(expired)
    }

    async fn clear_includes(&mut self, now: Instant) -> Result<(), Error> {
        let mut conn = self.pool.get().await?;
        let seen = unused(&mut conn).await?;
        drop(conn);
        let mut by_network: BTreeMap<Option<u32>, Vec<UnusedInclude>> = BTreeMap::new();
        for include in self.unused.look(seen, now, self.settings.unused) {
            by_network.entry(include.vni).or_default().push(include);
        }
        for (vni, includes) in by_network {
            let removed = remove(&self.pool, self.fence, vni, includes).await?;
            tracing::info!(vni, removed, "includes that nothing needs removed");
        }
        Ok(())
    }

    async fn clear_rules(&mut self, now: Instant) -> Result<(), Error> {
        let mut conn = self.pool.get().await?;
        let seen = groups::unused(&mut conn).await?;
        drop(conn);
        let mut by_group: BTreeMap<i32, Vec<UnusedRules>> = BTreeMap::new();
        for include in self.unused_rules.look(seen, now, self.settings.unused) {
            by_group.entry(include.group).or_default().push(include);
        }
        for (group, includes) in by_group {
            let removed = groups::remove(&self.pool, self.fence, group, includes).await?;
            tracing::info!(group, removed, "includes of security groups that nothing needs removed");
        }
        Ok(())
    }

    async fn collect(&self) -> Result<(), Error> {
        let mut conn = self.pool.get().await?;
        let before = chrono::TimeDelta::from_std(self.settings.tombstones).unwrap_or(chrono::TimeDelta::MAX);
        let now = mizar_db::placement::state::clock(&mut conn).await?;
        let now = chrono::DateTime::from_timestamp_micros(i64::try_from(now.as_micros()).unwrap_or(i64::MAX));
        let Some(before) = now.and_then(|now| now.checked_sub_signed(before)) else { return Ok(()) };
        let collected = gc::collect(&mut conn, before).await.map_err(|error| match error {
            FeedError::Database(error) => Error::Database(error),
            other => Error::Corrupt { table: "feed", column: "horizon", value: other.to_string() },
        })?;
        self.metrics.collected(usize::try_from(collected).unwrap_or(usize::MAX));
        if collected > 0 {
            tracing::info!(collected, "tombstones collected");
        }
        Ok(())
    }
}

/// Since when each include has been seen unused. In memory alone: a new leader waits an hour more.
struct Unused<T>(BTreeMap<T, Instant>);

impl<T> Default for Unused<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T: Copy + Ord> Unused<T> {
    /// Takes note of what is unused now; returns what has been for so long.
    fn look(&mut self, seen: BTreeSet<T>, now: Instant, long: Duration) -> Vec<T> {
        self.0.retain(|include, _| seen.contains(include));
        for include in seen {
            self.0.entry(include).or_insert(now);
        }
        self.0.iter().filter(|(_, since)| now.duration_since(**since) >= long).map(|(include, _)| *include).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_include_must_be_unused_without_a_break() {
        let include = UnusedInclude { scope: 1, slot: -1, target: 2, vni: None };
        let (start, hour) = (Instant::now(), Duration::from_secs(3600));
        let mut unused = Unused::default();
        let seen = || BTreeSet::from([include]);
        assert!(unused.look(seen(), start, hour).is_empty());
        assert!(unused.look(BTreeSet::new(), start + hour / 2, hour).is_empty());
        assert!(unused.look(seen(), start + hour, hour).is_empty());
        assert_eq!(unused.look(seen(), start + hour * 2, hour), [include]);
    }
}
