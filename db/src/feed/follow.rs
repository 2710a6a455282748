//! The follower: one task per replica that reads the tail into the ring, and the polls that wait
//! on it without holding a connection.

use super::cursor::Cursor;
use super::delta::{self, begin, end};
use super::position::{Gone, Position};
use super::restore;
use super::ring::{Ring, Served};
use super::scopes::{IncludeRow, Structure, Subscription};
use super::tail::{moved, tail};
use super::{FeedError, News};
use crate::chain;
use crate::entries::WHOLE_SCOPE;
use crate::pool::{self, DbPool, Use};
use crate::statement::statement;
use diesel::sql_types::{BigInt, Integer, SmallInt};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

/// How often the tail is read.
pub const TICK: Duration = Duration::from_millis(5);

/// How often it is read after nothing has changed for [`CALM`]: what comes then is 10 ms later on
/// average, once, and a cloud at rest costs a quarter.
const IDLE_TICK: Duration = Duration::from_millis(20);

/// See [`IDLE_TICK`].
const CALM: Duration = Duration::from_secs(2);

/// After how long without a read the follower counts as cut off.
const STALE: Duration = Duration::from_secs(5);

/// A read of the tail that takes longer will not end: a proxy may hold a connection open to a
/// server that is gone, where no timeout of TCP sees it.
const SILENCE: Duration = Duration::from_secs(10);

/// Between attempts to connect again.
const RETRY: Duration = Duration::from_millis(250);

statement! {
    AllSubscriptions {} -> (Integer, BigInt, SmallInt, SmallInt, SmallInt)
    { "SELECT host, scope, lo, hi, role FROM subscriptions WHERE NOT deleted" }
}

statement! {
    AllIncludes {} -> (BigInt, SmallInt, BigInt)
    { "SELECT scope, slot, target FROM includes WHERE NOT deleted" }
}

struct State {
    ring: Ring,
    read_at: Instant,
    /// One for every host that ever polled here.
    waiters: HashMap<i32, Arc<Notify>>,
    stopped: bool,
}

/// The feed as a replica sees it.
pub struct Feed {
    state: Mutex<State>,
    /// For deltas and snapshots.
    pool: DbPool,
    /// Counts reads that brought a change of subscriptions.
    placements: watch::Sender<u64>,
}

/// The follower's task; ends with [`Follower::stop`], or with this value.
pub struct Follower {
    feed: Arc<Feed>,
    task: JoinHandle<()>,
}

impl Follower {
    /// Reads subscriptions and includes, and follows the feed from there. `pool` must be one for
    /// [`Use::Feed`].
    pub async fn start(url: &str, pool: DbPool) -> Result<Self, FeedError> {
        let mut conn = pool::connect(url.to_owned(), Use::Feed).await?;
        restore::adopt(&mut conn).await?;
        let ring = load(&mut conn).await?;
        let state = State { ring, read_at: Instant::now(), waiters: HashMap::new(), stopped: false };
        let feed = Arc::new(Feed { state: Mutex::new(state), pool, placements: watch::Sender::new(0) });
        let task = tokio::spawn(follow(Arc::clone(&feed), url.to_owned(), conn));
        Ok(Self { feed, task })
    }

    /// What it follows.
    pub fn feed(&self) -> &Arc<Feed> {
        &self.feed
    }

    /// Ends the task; waiting polls are answered.
    pub fn stop(&self) {
        self.task.abort();
        let mut state = self.feed.state();
        state.stopped = true;
        state.waiters.values().for_each(|waiter| waiter.notify_waiters());
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Subscriptions and includes as one snapshot has them, and an empty ring after it.
async fn load(conn: &mut AsyncPgConnection) -> Result<Ring, FeedError> {
    begin(conn).await?;
    let read = async {
        let position = Position::read(conn).await?;
        let mut structure = Structure::default();
        let subscriptions: Vec<(i32, i64, i16, i16, i16)> = AllSubscriptions {}.load(conn).await?;
        for (host, scope, lo, hi, role) in subscriptions {
            structure.subscribe(host, Subscription { scope, lo: lo.cast_unsigned(), hi: hi.cast_unsigned(), role });
        }
        let includes: Vec<(i64, i16, i64)> = AllIncludes {}.load(conn).await?;
        for (scope, slot, target) in includes {
            let slot = (slot != WHOLE_SCOPE).then_some(slot.cast_unsigned());
            structure.include(IncludeRow { scope, slot, target });
        }
        Ok(Ring::new(position.epoch, position.cursor, structure))
    }
    .await;
    end(conn).await?;
    read
}

async fn follow(feed: Arc<Feed>, url: String, mut conn: AsyncPgConnection) {
    loop {
        let Err(error) = read_on(&feed, &mut conn).await;
        tracing::warn!(error = %chain(&error), "the feed is cut off; connecting again");
        conn = reconnect(&feed, &url).await;
        tracing::info!("the feed is followed again");
    }
}

/// Fails after [`SILENCE`]; the connection is then of no more use.
async fn bounded<T>(read: impl Future<Output = Result<T, FeedError>>) -> Result<T, FeedError> {
    tokio::time::timeout(SILENCE, read).await.map_err(|_| FeedError::Silent(SILENCE))?
}

/// Until it fails.
async fn read_on(feed: &Feed, conn: &mut AsyncPgConnection) -> Result<std::convert::Infallible, FeedError> {
    let mut changed = Instant::now();
    loop {
        let started = Instant::now();
        let tick = if started.duration_since(changed) < CALM { TICK } else { IDLE_TICK };
        tokio::time::sleep_until((started + tick).into()).await;
        let (since, epoch) = feed.position();
        if !bounded(moved(conn, &since, &epoch)).await? {
            feed.state().read_at = Instant::now();
            continue;
        }
        let batch = bounded(tail(conn, &since)).await?;
        // Transactions that wrote nothing of the feed (leases, cursors) are no reason to hurry.
        if !batch.is_empty() {
            changed = Instant::now();
        }
        // Another UUID in the table, or more rows than one read holds: the ring is worth nothing.
        if batch.overflow || !epoch.ends_with(&batch.epoch) {
            let ring = load(conn).await?;
            tracing::info!(epoch = ring.epoch(), overflow = batch.overflow, "the ring begins anew");
            feed.replace(ring);
            continue;
        }
        let placed = !batch.subscriptions.is_empty();
        feed.push(batch);
        if placed {
            feed.placements.send_modify(|count| *count += 1);
        }
    }
}

/// After a failover the history may be another one; otherwise the ring goes on where it was.
async fn reconnect(feed: &Feed, url: &str) -> AsyncPgConnection {
    loop {
        tokio::time::sleep(RETRY).await;
        let attempt = async {
            let mut conn = pool::connect(url.to_owned(), Use::Feed).await?;
            if bounded(Position::read(&mut conn)).await?.epoch != feed.state().ring.epoch() {
                restore::adopt(&mut conn).await?;
                let ring = load(&mut conn).await?;
                feed.replace(ring);
            }
            Ok::<_, FeedError>(conn)
        };
        match attempt.await {
            Ok(conn) => return conn,
            Err(error) => tracing::debug!(error = %chain(&error), "the feed cannot connect yet"),
        }
    }
}

impl Feed {
    /// Nothing between lock and unlock can panic halfway through a change that matters.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn position(&self) -> (Cursor, String) {
        let state = self.state();
        (state.ring.latest().clone(), state.ring.epoch().to_owned())
    }

    fn push(&self, batch: super::tail::Batch) {
        let mut state = self.state();
        let now = Instant::now();
        state.read_at = now;
        for host in state.ring.push(batch, now) {
            if let Some(waiter) = state.waiters.get(&host) {
                waiter.notify_waiters();
            }
        }
    }

    fn replace(&self, ring: Ring) {
        let mut state = self.state();
        state.ring = ring;
        state.read_at = Instant::now();
        state.waiters.values().for_each(|waiter| waiter.notify_waiters());
    }

    /// Whether the tail was read of late.
    pub fn is_alive(&self) -> bool {
        self.age() < STALE
    }

    /// Since the tail was last read.
    pub fn age(&self) -> Duration {
        self.state().read_at.elapsed()
    }

    /// Which history is followed.
    pub fn epoch(&self) -> String {
        self.state().ring.epoch().to_owned()
    }

    /// How far the tail has been read.
    pub fn latest(&self) -> Cursor {
        self.state().ring.latest().clone()
    }

    /// Changes whenever subscriptions did.
    pub fn placements(&self) -> watch::Receiver<u64> {
        self.placements.subscribe()
    }

    /// The pool for reading the tables.
    pub fn pool(&self) -> &DbPool {
        &self.pool
    }

    /// What `host` has not seen, as soon as there is something; at the deadline, or when the
    /// follower stops, only a new cursor. Holds a connection while it reads the tables, never
    /// while it waits. The cursor that is returned covers the one that was given.
    pub async fn next(
        &self,
        host: i32,
        epoch: Option<&str>,
        cursor: &Cursor,
        deadline: Instant,
    ) -> Result<Result<News, Gone>, FeedError> {
        let waiter = Arc::clone(self.state().waiters.entry(host).or_default());
        let mut cursor = cursor.clone();
        loop {
            // Registered before looking, so that what comes after the look is heard.
            let woken = waiter.notified();
            tokio::pin!(woken);
            woken.as_mut().enable();
            let served = self.state().ring.serve(host, epoch, &cursor)?;
            let mut until = deadline;
            match served {
                Served::News(news) => return Ok(Ok(news)),
                Served::Nothing(latest) => cursor = latest,
                Served::Behind => until = until.min(Instant::now() + TICK),
                Served::Tables => {
                    let read = delta::delta(&mut *self.pool.get().await?, host, epoch, &cursor).await?;
                    match read {
                        // Old, but there is nothing: from here on the ring can serve it.
                        Ok(news) if news.is_empty() => cursor = news.cursor,
                        other => return Ok(other),
                    }
                    if Instant::now() < deadline {
                        continue;
                    }
                }
            }
            let stopped = self.state().stopped;
            if stopped || Instant::now() >= deadline {
                let epoch = epoch.unwrap_or_default().to_owned();
                return Ok(Ok(News { cursor, epoch, changes: vec![], added: vec![], dropped: vec![] }));
            }
            // Woken or not: the next look decides.
            let _ = tokio::time::timeout_at(until.into(), woken).await;
        }
    }
}
