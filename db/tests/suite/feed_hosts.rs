//! What one host hears: deltas, pages, removals, what cannot be continued.

use crate::world::{Held, commit, host, put, remove, subscribe};
use anyhow::Context as _;
use diesel_async::{AsyncPgConnection, SimpleAsyncConnection as _};
use mizar_compile::Write;
use mizar_db::feed::follow::Follower;
use mizar_db::feed::{Cursor, Gone, News, Position, delta, snapshot};
use mizar_db::pool::Use;
use mizar_testkit::TestDb;
use mizar_wire::Scope;
use mizar_wire::entry::Include;
use mizar_wire::sync::ScopeRange;
use std::time::{Duration, Instant};

async fn hear(conn: &mut AsyncPgConnection, host: i32, at: &Position) -> anyhow::Result<News> {
    delta::delta(conn, host, Some(&at.epoch), &at.cursor).await?.context("gone")
}

fn whole(scope: Scope) -> ScopeRange {
    ScopeRange { scope: scope.to_i64(), lo: 0, hi: 4095 }
}

#[tokio::test]
async fn a_new_include_delivers_its_target_whole_and_an_old_one_only_what_changed() -> anyhow::Result<()> {
    let db = TestDb::create().await?;
    let mut conn = db.connect().await?;
    let host = host(&mut conn, "a").await?;
    subscribe(&mut conn, host, Scope::Host(1), (0, 4095), true).await?;
    commit(&mut conn, &[put(Scope::Network(5), 0, 1, 1), put(Scope::Network(5), 0, 2, 1)]).await?;
    let at = Position::read(&mut conn).await?;

    let include = Write::Include(Include { scope: Scope::Host(1), slot: None, target: Scope::Network(5) });
    commit(&mut conn, std::slice::from_ref(&include)).await?;
    let news = hear(&mut conn, host, &at).await?;
    assert_eq!((news.changes.len(), &news.added), (2, &vec![whole(Scope::Network(5))]));

    let at = Position::read(&mut conn).await?;
    commit(&mut conn, &[include, put(Scope::Network(5), 0, 2, 2)]).await?;
    let news = hear(&mut conn, host, &at).await?;
    assert_eq!((news.changes.len(), news.added.len()), (1, 0), "a live include is not stamped again");
    Ok(())
}

#[tokio::test]
async fn a_scope_that_is_still_reached_another_way_is_not_dropped() -> anyhow::Result<()> {
    let db = TestDb::create().await?;
    let mut conn = db.connect().await?;
    let host = host(&mut conn, "a").await?;
    for scope in [Scope::Host(1), Scope::Dividers(5)] {
        subscribe(&mut conn, host, scope, (0, 4095), true).await?;
        let include = Include { scope, slot: None, target: Scope::Network(5) };
        commit(&mut conn, &[Write::Include(include), put(Scope::Network(5), 0, 1, 1)]).await?;
    }
    let at = Position::read(&mut conn).await?;
    subscribe(&mut conn, host, Scope::Dividers(5), (0, 4095), false).await?;
    assert_eq!(hear(&mut conn, host, &at).await?.dropped, [whole(Scope::Dividers(5))]);

    let at = Position::read(&mut conn).await?;
    subscribe(&mut conn, host, Scope::Host(1), (0, 4095), false).await?;
    assert_eq!(hear(&mut conn, host, &at).await?.dropped, [whole(Scope::Host(1)), whole(Scope::Network(5))]);
    Ok(())
}

#[tokio::test]
async fn a_host_hears_its_slots_only() -> anyhow::Result<()> {
    let db = TestDb::create().await?;
    let mut conn = db.connect().await?;
    let host = host(&mut conn, "a").await?;
    subscribe(&mut conn, host, Scope::Subnet(1), (1024, 2047), true).await?;
    let at = Position::read(&mut conn).await?;
    let writes: Vec<Write> =
        [0, 1023, 1024, 2047, 2048].map(|slot| put(Scope::Subnet(1), slot, u32::from(slot), 1)).into();
    commit(&mut conn, &writes).await?;
    let slots: Vec<u16> = hear(&mut conn, host, &at).await?.changes.iter().map(|change| change.slot).collect();
    assert_eq!(slots, [1024, 2047]);
    Ok(())
}

#[tokio::test]
async fn pages_cover_everything_in_order_and_redelivery_from_the_first_cursor_is_harmless() -> anyhow::Result<()> {
    let db = TestDb::create().await?;
    let mut conn = db.connect().await?;
    let host = host(&mut conn, "a").await?;
    subscribe(&mut conn, host, Scope::Subnet(1), (0, 2047), true).await?;
    subscribe(&mut conn, host, Scope::Subnet(1), (3000, 4095), true).await?;
    subscribe(&mut conn, host, Scope::Host(9), (0, 4095), true).await?;
    let mut writes: Vec<Write> = (0..400).map(|n| put(Scope::Subnet(1), (n * 10) as u16, n, 1)).collect();
    writes.extend((0..30).map(|n| put(Scope::Host(9), 0, n, 1)));
    commit(&mut conn, &writes).await?;

    let (mut held, mut next, mut first, mut pages, mut places) = (Held::default(), None, None, 0, vec![]);
    loop {
        let page = snapshot::page(&mut conn, host, next.as_ref(), 37).await?;
        for change in &page.entries {
            held.change(change);
            places.push((change.scope, change.slot, change.kind, change.key.clone()));
        }
        first.get_or_insert(Position { cursor: page.cursor.parse()?, epoch: page.epoch, horizon: 0 });
        pages += 1;
        // Written between the pages, before and behind the place where the reader is.
        commit(&mut conn, &[put(Scope::Host(9), 0, 1, 100 + pages), remove(Scope::Subnet(1), 0, 0)]).await?;
        match page.next {
            Some(place) => next = Some(place.parse()?),
            None => break,
        }
    }
    assert!(pages > 5 && places.is_sorted(), "{pages} pages");
    let news = hear(&mut conn, host, &first.context("no page")?).await?;
    held.hear(&news);
    assert_eq!(held, Held::truth(&mut conn, host).await?);
    held.hear(&news);
    assert_eq!(held, Held::truth(&mut conn, host).await?, "heard twice");
    Ok(())
}

#[tokio::test]
async fn a_cursor_of_another_history_or_from_the_future_is_gone() -> anyhow::Result<()> {
    let db = TestDb::create().await?;
    let mut conn = db.connect().await?;
    let host = host(&mut conn, "a").await?;
    let at = Position::read(&mut conn).await?;
    let ahead: Cursor = format!("{0}:{0}:", at.cursor.xmax() + 1_000_000).parse()?;
    assert_eq!(delta::delta(&mut conn, host, Some(&at.epoch), &ahead).await?, Err(Gone::Future));
    assert_eq!(delta::delta(&mut conn, host, None, &at.cursor).await?, Err(Gone::Epoch));
    conn.batch_execute("UPDATE feed SET epoch = gen_random_uuid()").await?;
    assert_eq!(delta::delta(&mut conn, host, Some(&at.epoch), &at.cursor).await?, Err(Gone::Epoch));
    Ok(())
}

#[tokio::test]
async fn more_than_a_delta_holds_asks_for_a_snapshot() -> anyhow::Result<()> {
    let db = TestDb::create().await?;
    let mut conn = db.connect().await?;
    let host = host(&mut conn, "a").await?;
    subscribe(&mut conn, host, Scope::Host(1), (0, 4095), true).await?;
    let at = Position::read(&mut conn).await?;
    let most = mizar_db::feed::MOST_CHANGES as u32;
    commit(&mut conn, &(0..most).map(|n| put(Scope::Host(1), 0, n, 1)).collect::<Vec<_>>()).await?;
    assert_eq!(hear(&mut conn, host, &at).await?.changes.len(), most as usize);
    commit(&mut conn, &[put(Scope::Host(1), 0, most, 1)]).await?;
    assert_eq!(delta::delta(&mut conn, host, Some(&at.epoch), &at.cursor).await?, Err(Gone::TooMuch));
    Ok(())
}

#[tokio::test]
async fn a_waiting_poll_is_woken_by_a_change_and_holds_no_connection() -> anyhow::Result<()> {
    let db = TestDb::create().await?;
    let mut conn = db.connect().await?;
    let host = host(&mut conn, "a").await?;
    subscribe(&mut conn, host, Scope::Host(1), (0, 4095), true).await?;
    // A pool without connections: whoever asks for one fails.
    let pool = db.pool(1, Use::Feed)?;
    let _held = pool.get().await?;
    let follower = Follower::start(db.url(), pool).await?;
    let feed = follower.feed().clone();
    let (epoch, cursor) = (feed.epoch(), feed.latest());
    let poll = tokio::spawn(async move {
        let news = feed.next(host, Some(&epoch), &cursor, Instant::now() + Duration::from_secs(20)).await;
        (news, Instant::now())
    });
    tokio::task::yield_now().await;
    commit(&mut conn, &[put(Scope::Host(2), 0, 1, 1)]).await?;
    let written = Instant::now();
    commit(&mut conn, &[put(Scope::Host(1), 0, 7, 1)]).await?;
    let (news, heard) = poll.await?;
    assert_eq!(news?.context("gone")?.changes.len(), 1);
    // Well before the poll's own deadline: it was woken.
    assert!(heard.duration_since(written) < Duration::from_secs(10), "after {:?}", heard.duration_since(written));
    Ok(())
}

#[tokio::test]
async fn a_poll_without_news_returns_a_newer_cursor_at_its_deadline() -> anyhow::Result<()> {
    let db = TestDb::create().await?;
    let mut conn = db.connect().await?;
    let host = host(&mut conn, "a").await?;
    let at = Position::read(&mut conn).await?;
    let follower = Follower::start(db.url(), db.pool(2, Use::Feed)?).await?;
    commit(&mut conn, &[put(Scope::Host(2), 0, 1, 1)]).await?;
    let written = Position::read(&mut conn).await?.cursor;
    let deadline = Instant::now() + Duration::from_millis(200);
    let news = follower.feed().next(host, Some(&at.epoch), &at.cursor, deadline).await?.context("gone")?;
    assert!(Instant::now() >= deadline && news.is_empty());
    assert!(news.cursor.covers(&written), "{} is older than {written}", news.cursor);
    Ok(())
}

#[tokio::test]
async fn a_follower_that_lost_its_connection_goes_on_where_it_was() -> anyhow::Result<()> {
    let db = TestDb::create().await?;
    let mut conn = db.connect().await?;
    let host = host(&mut conn, "a").await?;
    subscribe(&mut conn, host, Scope::Host(1), (0, 4095), true).await?;
    let follower = Follower::start(db.url(), db.pool(2, Use::Feed)?).await?;
    let (epoch, cursor) = (follower.feed().epoch(), follower.feed().latest());
    conn.batch_execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )
    .await?;
    commit(&mut conn, &[put(Scope::Host(1), 0, 7, 1)]).await?;
    let deadline = Instant::now() + Duration::from_secs(20);
    let news = follower.feed().next(host, Some(&epoch), &cursor, deadline).await?.context("gone")?;
    assert_eq!(news.changes.len(), 1);
    Ok(())
}

#[tokio::test]
async fn another_epoch_reaches_waiting_polls_as_gone() -> anyhow::Result<()> {
    let db = TestDb::create().await?;
    let mut conn = db.connect().await?;
    let host = host(&mut conn, "a").await?;
    let follower = Follower::start(db.url(), db.pool(2, Use::Feed)?).await?;
    let feed = follower.feed().clone();
    let (epoch, cursor) = (feed.epoch(), feed.latest());
    let poll =
        tokio::spawn(
            async move { feed.next(host, Some(&epoch), &cursor, Instant::now() + Duration::from_secs(20)).await },
        );
    conn.batch_execute("UPDATE feed SET epoch = gen_random_uuid()").await?;
    assert_eq!(poll.await??, Err(Gone::Epoch));
    Ok(())
}
