//! Long polls.

use crate::server::{Server, expect, until};
use anyhow::Context as _;
use diesel::QueryDsl as _;
use diesel_async::RunQueryDsl as _;
use mizar_compile::{Object, create};
use mizar_db::feed::Cursor;
use mizar_db::schema::host_state;
use mizar_domain::model::Host;
use mizar_wire::Kind;
use reqwest::StatusCode;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

fn host(number: u32) -> Vec<mizar_compile::Write> {
    create(Object::Host(&Host { number, name: format!("h{number}"), underlay: Ipv4Addr::from(0x0a0a_0000 + number) }))
}

#[tokio::test]
async fn an_agent_without_a_cursor_or_of_another_epoch_is_sent_to_the_snapshot() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let mut agent = server.agent("a", 1).await?;
    let (epoch, cursor) = (agent.epoch.clone(), agent.cursor.clone());
    agent.cursor = None;
    expect(agent.post(&agent.request(5)).await?, StatusCode::GONE).await?;
    (agent.epoch, agent.cursor) = (Some("another".into()), cursor);
    expect(agent.post(&agent.request(5)).await?, StatusCode::GONE).await?;
    agent.epoch = epoch;
    agent.sync(0).await?;
    server.sql("UPDATE feed SET horizon = 1000000").await?;
    agent.cursor = Some("3:3:".into());
    expect(agent.post(&agent.request(5)).await?, StatusCode::GONE).await?;
    Ok(())
}

#[tokio::test]
async fn a_change_is_heard_at_once_and_only_once() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let mut agent = server.agent("a", 1).await?;
    let mut took = Vec::new();
    for number in 1000..1040 {
        let request = agent.request(20);
        let (reply, written) = tokio::join!(agent.sync_with(&request), async {
            server.commit(&host(number)).await?;
            anyhow::Ok(Instant::now())
        });
        let reply = reply?;
        took.push(written?.elapsed());
        assert_eq!(reply.changes.iter().map(|change| change.kind).collect::<Vec<_>>(), [Kind::Host as i16]);
        assert_eq!(reply.changes[0].key, format!("{number:08x}"));
        assert!((reply.server_ms - chrono::Utc::now().timestamp_millis()).abs() < 2_000);
    }
    took.sort();
    println!("commit to reply: p50 {:?}, worst {:?}", took[took.len() / 2], took[took.len() - 1]);
    // Well before the poll's own end: it was woken.
    assert!(took[took.len() / 2] < Duration::from_secs(10));
    let reply = agent.sync(0).await?;
    assert!(reply.changes.is_empty());
    Ok(())
}

#[tokio::test]
async fn an_idle_poll_is_answered_in_time_with_a_new_cursor() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let mut agent = server.agent("a", 1).await?;
    let before: Cursor = agent.cursor.clone().context("a cursor")?.parse()?;
    // Transactions that concern nobody.
    server.sql("SELECT pg_current_xact_id()").await?;
    let start = Instant::now();
    let reply = agent.sync(1).await?;
    assert!(start.elapsed() >= Duration::from_secs(1) && start.elapsed() < Duration::from_secs(10));
    let after: Cursor = reply.cursor.parse()?;
    assert!(reply.changes.is_empty() && after.covers(&before) && after != before, "{after} after {before}");
    Ok(())
}

#[tokio::test]
async fn what_is_delivered_twice_is_the_same() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let mut agent = server.agent("a", 1).await?;
    server.commit(&host(1000)).await?;
    let request = agent.request(5);
    let first = agent.sync_with(&request).await?;
    // As if the first answer was lost.
    let again = agent.sync_with(&request).await?;
    assert_eq!(first.changes, again.changes);
    Ok(())
}

#[tokio::test]
async fn syncs_renew_the_lease_and_store_what_was_acknowledged() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let mut agent = server.agent("a", 1).await?;
    server.sql("UPDATE host_state SET seen_at = now() - interval '20 s'").await?;
    server.commit(&host(1000)).await?;
    let reply = agent.sync(5).await?;
    agent.sync(0).await?;
    let mut conn = server.db.connect().await?;
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let (cursor, epoch, seen): (Option<String>, Option<String>, chrono::DateTime<chrono::Utc>) = host_state::table
            .select((host_state::cursor, host_state::epoch, host_state::seen_at))
            .first(&mut conn)
            .await?;
        let fresh = chrono::Utc::now() - seen < chrono::TimeDelta::seconds(15);
        if fresh && cursor.as_ref() == Some(&reply.cursor) && epoch == agent.epoch {
            return Ok(());
        }
        anyhow::ensure!(Instant::now() < deadline, "{cursor:?} of {epoch:?} at {seen}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn stopping_answers_the_polls_that_wait() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let mut agent = server.agent("a", 1).await?;
    let start = Instant::now();
    let poll = tokio::spawn(async move { agent.sync(30).await });
    // Renewed only once the poll has arrived.
    until("the poll arrives", || async {
        let seen: Option<String> =
            host_state::table.select(host_state::cursor).first(&mut server.db.connect().await?).await?;
        Ok(seen.is_some())
    })
    .await?;
    server.agents.stop().await;
    assert!(poll.await??.changes.is_empty());
    assert!(start.elapsed() < Duration::from_secs(20), "after {:?}", start.elapsed());
    Ok(())
}

#[tokio::test]
async fn two_replicas_serve_one_agent_in_turn() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let mut agent = server.agent("a", 1).await?;
    // A second one on the same database: the agent's cursors must be good at both.
    let other = server.replica().await?;
    let urls = [agent.url.clone(), format!("https://{}/agent/v1/hosts/a", other.address())];
    for number in 1000..1030u32 {
        server.commit(&host(number)).await?;
        agent.url = urls[number as usize % 2].clone();
        let reply = agent.sync(20).await?;
        assert_eq!(reply.changes.len(), 1, "at {number}");
        assert_eq!(reply.changes[0].key, format!("{number:08x}"));
    }
    other.stop().await;
    Ok(())
}
