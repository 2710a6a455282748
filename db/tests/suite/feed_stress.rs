//! Writers, rollbacks, a writer left open, hosts whose scopes move, several readers: nothing is
//! missed, nothing comes twice.

use crate::world::{Held, host, put, remove, subscribe};
use anyhow::{Context as _, ensure};
use diesel_async::{AsyncPgConnection, SimpleAsyncConnection as _};
use mizar_compile::Write;
use mizar_db::entries::apply;
use mizar_db::feed::follow::Follower;
use mizar_db::feed::tail::{Row, tail};
use mizar_db::feed::{Cursor, Position, delta};
use mizar_db::pool::Use;
use mizar_testkit::TestDb;
use mizar_wire::Scope;
use mizar_wire::entry::Include;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

const WRITERS: u32 = 6;
const TRANSACTIONS: u32 = 120;
const SCOPES: u32 = 8;
const HOT: u32 = 10;
const PATIENCE: Duration = Duration::from_secs(60);

/// Committed versions of keys that are written once: (key, version).
type Written = BTreeSet<(u32, u32)>;

fn scope(number: u32) -> Scope {
    Scope::Subnet(1 + number % SCOPES)
}

/// New keys, rewrites of hot ones, removals; every seventh transaction is rolled back.
async fn write(db: Arc<TestDb>, writer: u32, done: Arc<AtomicU32>) -> anyhow::Result<Written> {
    let mut conn = db.connect().await?;
    let mut written = Written::new();
    for n in 0..TRANSACTIONS {
        let key = 1_000 + writer * TRANSACTIONS + n;
        let hot = (n * 7 + writer) % HOT;
        let mut writes = vec![put(scope(key), (key % 4096) as u16, key, n), put(scope(hot), hot as u16, hot, key)];
        if n % 5 == 4 {
            writes.push(remove(scope(hot + 1), (hot + 1) as u16, hot + 1));
        }
        let rolled_back = n % 7 == 3;
        conn.batch_execute("BEGIN").await?;
        apply(&mut conn, &writes).await?;
        if n % 3 == 0 {
            tokio::task::yield_now().await;
        }
        conn.batch_execute(if rolled_back { "ROLLBACK" } else { "COMMIT" }).await?;
        if !rolled_back {
            written.insert((key, n));
        }
        done.fetch_add(1, Ordering::Relaxed);
    }
    Ok(written)
}

/// Writes, and commits only after half of the others' transactions.
async fn write_slowly(db: Arc<TestDb>, done: Arc<AtomicU32>) -> anyhow::Result<Written> {
    let mut conn = db.connect().await?;
    conn.batch_execute("BEGIN").await?;
    apply(&mut conn, &[put(scope(1), 1, 900, 1), put(scope(2), 2, 901, 1)]).await?;
    let deadline = Instant::now() + PATIENCE;
    while done.load(Ordering::Relaxed) < WRITERS * TRANSACTIONS / 2 {
        ensure!(Instant::now() < deadline, "the others did not get on beside an open writer");
        conn.batch_execute("SELECT pg_sleep(0.01)").await?;
    }
    conn.batch_execute("COMMIT").await?;
    Ok(Written::from([(900, 1), (901, 1)]))
}

/// Moves subscriptions of slot ranges between two hosts, and an include to and fro.
async fn place(db: Arc<TestDb>, hosts: [i32; 2], done: Arc<AtomicU32>) -> anyhow::Result<()> {
    let mut conn = db.connect().await?;
    let mut turn = 0u32;
    while done.load(Ordering::Relaxed) < WRITERS * TRANSACTIONS {
        let (to, from) = if turn.is_multiple_of(2) { (hosts[0], hosts[1]) } else { (hosts[1], hosts[0]) };
        let scope = scope(turn);
        let range = [(0, 2047), (2048, 4095)][turn as usize / 2 % 2];
        conn.batch_execute("BEGIN").await?;
        subscribe(&mut conn, to, scope, range, true).await?;
        subscribe(&mut conn, from, scope, range, false).await?;
        if turn.is_multiple_of(3) {
            let include = Include { scope, slot: None, target: Scope::Senders(1) };
            apply(&mut conn, &[put(Scope::Senders(1), 0, 5, turn), Write::Include(include)]).await?;
        } else if turn % 3 == 1 {
            conn.batch_execute("UPDATE includes SET deleted = true WHERE NOT deleted").await?;
        }
        conn.batch_execute("COMMIT").await?;
        turn += 1;
    }
    Ok(())
}

#[derive(Default)]
struct Seen {
    versions: HashSet<(i64, Vec<u8>, i64)>,
    twice: usize,
    current: BTreeMap<(i64, u16, Vec<u8>), Option<Vec<u8>>>,
}

impl Seen {
    fn take(&mut self, row: &Row) {
        if !self.versions.insert((row.scope, row.key.clone(), row.xid)) {
            self.twice += 1;
        }
        self.current.insert((row.scope, row.slot, row.key.clone()), row.body.clone());
    }
}

/// Reads the tail until a read after the writers' end.
async fn read_tail(db: Arc<TestDb>, since: Cursor, end: Arc<AtomicU32>, pause: Duration) -> anyhow::Result<Seen> {
    let mut conn = mizar_db::pool::connect(db.url().to_owned(), Use::Feed).await?;
    let (mut seen, mut cursor) = (Seen::default(), since);
    loop {
        let last = end.load(Ordering::Acquire) == 1;
        let batch = tail(&mut conn, &cursor).await?;
        assert!(batch.cursor.covers(&cursor), "{} after {cursor}", batch.cursor);
        batch.entries.iter().for_each(|row| seen.take(row));
        cursor = batch.cursor;
        if last {
            return Ok(seen);
        }
        tokio::time::sleep(pause).await;
    }
}

/// A host that reads the tables.
async fn read_deltas(db: Arc<TestDb>, host: i32, at: Position, end: Arc<AtomicU32>) -> anyhow::Result<Held> {
    let mut conn = mizar_db::pool::connect(db.url().to_owned(), Use::Feed).await?;
    let (mut held, mut cursor) = (Held::default(), at.cursor);
    loop {
        let last = end.load(Ordering::Acquire) == 1;
        let news = delta::delta(&mut conn, host, Some(&at.epoch), &cursor).await?.context("gone")?;
        held.hear(&news);
        cursor = news.cursor;
        if last {
            return Ok(held);
        }
    }
}

/// A host that polls two replicas in turn, as agents behind a balancer do.
async fn poll(
    replicas: [&Follower; 2],
    host: i32,
    at: Position,
    end: Arc<AtomicU32>,
) -> anyhow::Result<(Held, Cursor)> {
    let (mut held, mut cursor) = (Held::default(), at.cursor);
    for turn in 0.. {
        let last = end.load(Ordering::Acquire) == 1;
        let wait = Instant::now() + Duration::from_millis(if last { 0 } else { 50 });
        let feed = replicas[turn % 2].feed();
        let news = feed.next(host, Some(&at.epoch), &cursor, wait).await?.context("gone")?;
        assert!(news.cursor.covers(&cursor), "{} after {cursor}", news.cursor);
        held.hear(&news);
        cursor = news.cursor;
        if last && turn % 2 == 1 {
            break;
        }
    }
    Ok((held, cursor))
}

async fn subscribed(conn: &mut AsyncPgConnection) -> anyhow::Result<[i32; 4]> {
    let mut hosts = [0; 4];
    for (n, number) in hosts.iter_mut().enumerate() {
        *number = host(conn, &format!("h{n}")).await?;
    }
    // Two that hold half of the scopes each, two between which others move.
    for number in 0..SCOPES {
        subscribe(conn, hosts[number as usize % 2], scope(number), (0, 4095), true).await?;
    }
    Ok(hosts)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_is_missed_and_nothing_comes_twice() -> anyhow::Result<()> {
    let db = Arc::new(TestDb::create().await?);
    let mut conn = db.connect().await?;
    let hosts = subscribed(&mut conn).await?;
    let start = Position::read(&mut conn).await?;
    let (done, end) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let pool = db.pool(8, Use::Feed)?;
    let replicas = [Follower::start(db.url(), pool.clone()).await?, Follower::start(db.url(), pool).await?];

    let tails: Vec<_> = [0, 3, 40]
        .map(|pause| {
            tokio::spawn(read_tail(db.clone(), start.cursor.clone(), end.clone(), Duration::from_millis(pause)))
        })
        .into();
    let deltas: Vec<_> =
        hosts.map(|host| tokio::spawn(read_deltas(db.clone(), host, start.clone(), end.clone()))).into();
    let replicas = Arc::new(replicas);
    let polls: Vec<_> = hosts
        .map(|host| {
            let (replicas, start, end) = (replicas.clone(), start.clone(), end.clone());
            tokio::spawn(async move { poll([&replicas[0], &replicas[1]], host, start, end).await })
        })
        .into();
    let mut writers: Vec<_> = (0..WRITERS).map(|n| tokio::spawn(write(db.clone(), n, done.clone()))).collect();
    writers.push(tokio::spawn(write_slowly(db.clone(), done.clone())));
    let placer = tokio::spawn(place(db.clone(), [hosts[2], hosts[3]], done.clone()));

    let mut written = Written::new();
    for writer in writers {
        written.extend(writer.await??);
    }
    placer.await??;
    // The replicas must have read up to here, or the last polls would rightly wait for more.
    let finished = Position::read(&mut conn).await?.cursor;
    let deadline = Instant::now() + PATIENCE;
    while !replicas.iter().all(|replica| replica.feed().latest().covers(&finished)) {
        ensure!(Instant::now() < deadline, "the replicas fell behind");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    end.store(1, Ordering::Release);

    ensure!(written.len() > 500, "only {} writes were committed", written.len());
    for tail in tails {
        let seen = tail.await??;
        assert_eq!(seen.twice, 0);
        let once: Written = seen
            .current
            .iter()
            .filter_map(|((_, _, key), body)| {
                let key = u32::from_be_bytes(key.as_slice().try_into().ok()?);
                let body: serde_json::Value = serde_json::from_slice(body.as_ref()?).ok()?;
                (key >= 900).then_some((key, body["key"].as_str()?.parse().ok()?))
            })
            .collect();
        assert_eq!(once, written);
    }
    for ((host, deltas), polls) in hosts.into_iter().zip(deltas).zip(polls) {
        let truth = Held::truth(&mut conn, host).await?;
        assert_eq!(deltas.await??, truth, "by deltas, host {host}");
        assert_eq!(polls.await??.0, truth, "by polls, host {host}");
    }
    Ok(())
}
