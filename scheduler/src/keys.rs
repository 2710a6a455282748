//! The cluster key: signs the options of first packets, so that nobody without it can teach a
//! host a path (DATAPLANE, rule 21).
//!
//! A new key verifies before it signs: it is sent to every host, and signs once all of them with
//! a live lease have acknowledged it, and refuse it not. The former one then verifies on until the next rotation, for
//! packets under way and hosts that come back. So there are two keys at most, as many as the data
//! plane holds. The very first key signs at once: there is nobody yet whose packets it could fail.
//!
//! While too many leases are doubted at once no key begins to sign: the silent hosts probably
//! forward well, and would understand nothing any more.

use crate::config::Settings;
use crate::metrics::Metrics;
use crate::pace::Pace;
use mizar_db::DbPool;
use mizar_db::placement::Error;
use mizar_db::placement::keys::{StoredKey, read, write};
use mizar_db::placement::state::{self, HostState};
use mizar_domain::model::ClusterKey;
use mizar_wire::Kind;
use std::convert::Infallible;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// How often to look.
const LOOK: Duration = Duration::from_millis(250);

/// Looks after the cluster key until another one leads.
///
/// Lease clocks restart at leadership, `since`; `doubt` says that leases are not to be judged by.
pub async fn run(
    pool: DbPool,
    fence: i64,
    since: Duration,
    settings: Settings,
    doubt: watch::Receiver<bool>,
    metrics: &Metrics,
) -> Result<Infallible, Error> {
    let mut ticks = tokio::time::interval(LOOK);
    let mut pace = Pace::new(LOOK);
    let mut failing = false;
    loop {
        ticks.tick().await;
        if !pace.is_due() {
            continue;
        }
        let started = Instant::now();
        let doubted = *doubt.borrow();
        match round(&pool, fence, since, &settings, doubted).await {
            Ok(()) => failing = false,
            Err(error @ Error::Deposed { .. }) => return Err(error),
            Err(error) => {
                metrics.failed("keys");
                if !failing {
                    tracing::error!(error = mizar_db::chain(&error), "the cluster key could not be looked after");
                }
                failing = true;
            }
        }
        pace.done(started);
    }
}

async fn round(pool: &DbPool, fence: i64, since: Duration, settings: &Settings, doubt: bool) -> Result<(), Error> {
    let mut conn = pool.get().await?;
    let stored = read(&mut conn).await?;
    // Hosts are many; they count only while a key waits for them.
    let waits = stored.last().is_some_and(|newest| !newest.key.signs);
    let hosts = if waits { state::hosts(&mut conn).await? } else { Vec::new() };
    let now = state::clock(&mut conn).await?;
    drop(conn);
    // Who was silent before this leader came may only have been unheard.
    let silent = |h: &HostState| h.seen.map_or(since, |seen| seen.max(since)) + settings.lease <= now;
    let live: Vec<HostState> = hosts.into_iter().filter(|h| !silent(h)).collect();
    let live = if doubt { &[][..] } else { &live };
    let Some(keys) = next(&stored, live, settings.key_rotation, rand::random()) else { return Ok(()) };
    let signs = keys.iter().find(|k| k.signs).map(|k| k.id);
    let newest = keys.last().map(|k| k.id);
    write(pool, fence, stored.into_iter().map(|k| k.key).collect(), keys).await?;
    tracing::info!(signs, newest, "cluster keys changed");
    Ok(())
}

/// The keys that should be, oldest first; `None` if they are. `live` are the hosts that a new key
/// waits for, none if that is not known; `fresh` is the secret of a new one.
fn next(stored: &[StoredKey], live: &[HostState], rotation: Duration, fresh: [u8; 16]) -> Option<Vec<ClusterKey>> {
    let keys = || stored.iter().map(|k| k.key.clone());
    let Some(newest) = stored.last() else {
        return Some(vec![ClusterKey { id: 1, key: fresh, signs: true }]);
    };
    if stored.iter().any(|k| k.xid.is_none()) {
        // An entry is missing or wrong.
        return Some(keys().collect());
    }
    if !newest.key.signs {
        let key = format!("{:08x}", newest.key.id);
        let refuses = |h: &HostState| h.refused.iter().any(|r| r.kind == Kind::ClusterKey as i16 && r.key == key);
        let sees = |h: &HostState| newest.xid.zip(h.cursor.as_ref()).is_some_and(|(xid, cursor)| cursor.sees(xid));
        let holds = |h: &HostState| sees(h) && !refuses(h);
        // Nobody live is an outage, not an agreement; but the first key of all waits for nobody.
        let alone = stored.len() == 1;
        let agreed = !live.is_empty() && live.iter().all(holds);
        if !alone && !agreed {
            return None;
        }
        return Some(keys().map(|k| ClusterKey { signs: k.id == newest.key.id, ..k }).collect());
    }
    if newest.age < rotation {
        return None;
    }
    let id = newest.key.id.checked_add(1).unwrap_or(1);
    Some(vec![newest.key.clone(), ClusterKey { id, key: fresh, signs: false }])
}

#[cfg(test)]
mod tests {
    use super::*;
    use mizar_db::placement::state::Refused;

    const DAY: Duration = Duration::from_secs(24 * 3600);
    fn key(id: u8, signs: bool, age: Duration) -> StoredKey {
        StoredKey { key: ClusterKey { id, key: [id; 16], signs }, age, xid: Some(50) }
    }

    fn host(number: u32, cursor: &str) -> HostState {
        HostState {
            number,
            name: format!("host{number}"),
            az: "a".into(),
            rack: "r".into(),
            transit: "yes".into(),
            weight: 1,
            seen: None,
            cursor: cursor.parse().ok(),
            refused: Vec::new(),
            lost: false,
            gone: false,
        }
    }

    fn ids(stored: &[StoredKey], live: &[HostState]) -> Option<Vec<(u8, bool)>> {
        let keys = next(stored, live, DAY, [9; 16]);
        keys.map(|keys| keys.iter().map(|k| (k.id, k.signs)).collect())
    }

    #[test]
    fn the_first_key_signs_at_once() {
        assert_eq!(ids(&[], &[host(1, "10:10:")]), Some(vec![(1, true)]));
    }

    #[test]
    fn a_key_is_followed_after_a_day_by_one_that_does_not_sign_yet() {
        assert_eq!(ids(&[key(1, true, DAY / 2)], &[]), None);
        assert_eq!(ids(&[key(1, true, DAY)], &[]), Some(vec![(1, true), (2, false)]));
    }

    #[test]
    fn the_key_before_last_goes_with_the_next_rotation() {
        assert_eq!(ids(&[key(4, false, DAY * 2), key(5, true, DAY)], &[]), Some(vec![(5, true), (6, false)]));
    }

    #[test]
    fn ids_run_from_255_to_1() {
        assert_eq!(ids(&[key(255, true, DAY)], &[]), Some(vec![(255, true), (1, false)]));
    }

    #[test]
    fn a_new_key_signs_once_every_live_host_has_it() {
        let keys = [key(1, true, DAY), key(2, false, Duration::ZERO)];
        let (has, lacks) = ("60:60:", "40:40:");
        assert_eq!(ids(&keys, &[host(1, has), host(2, lacks)]), None);
        assert_eq!(ids(&keys, &[host(1, has)]), Some(vec![(1, false), (2, true)]));
    }

    #[test]
    fn no_key_begins_to_sign_while_nobody_is_known_to_live() {
        let keys = [key(1, true, DAY), key(2, false, Duration::ZERO)];
        assert_eq!(ids(&keys, &[]), None);
    }

    #[test]
    fn an_entry_that_went_missing_is_written_again() {
        let lost = StoredKey { xid: None, ..key(3, true, Duration::ZERO) };
        assert_eq!(ids(&[lost], &[]), Some(vec![(3, true)]));
    }

    #[test]
    fn a_key_that_a_live_host_refuses_does_not_sign() {
        let stored = [key(1, true, DAY), key(2, false, DAY)];
        let mut hosts = [host(1, "60:60:"), host(2, "60:60:")];
        let refused = |key: &str| Refused { scope: 1 << 32, kind: Kind::ClusterKey as i16, key: key.into() };
        hosts[1].refused = vec![refused("00000002")];
        assert_eq!(ids(&stored, &hosts), None);
        hosts[1].refused = vec![refused("00000001")];
        assert_eq!(ids(&stored, &hosts), Some(vec![(1, false), (2, true)]));
    }
}
