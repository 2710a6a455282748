//! Pages.

use crate::server::{Server, expect};
use diesel_async::SimpleAsyncConnection as _;
use mizar_compile::{Object, Write, create};
use mizar_domain::model::Host;
use mizar_wire::sync::SnapshotPage;
use mizar_wire::{Kind, Scope};
use reqwest::StatusCode;
use std::net::Ipv4Addr;

/// Hosts are what every agent receives.
fn hosts(numbers: std::ops::Range<u32>) -> Vec<Write> {
    let host = |number: u32| {
        let underlay = Ipv4Addr::from(0x0a0a_0000 + number);
        create(Object::Host(&Host { number, name: format!("h{number}"), underlay }))
    };
    numbers.flat_map(host).collect()
}

#[tokio::test]
async fn pages_hold_everything_once_and_in_order() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let agent = server.agent("a", 1).await?;
    server.commit(&hosts(1000..1250)).await?;
    let (mut entries, mut query) = (Vec::new(), "?limit=60".to_owned());
    loop {
        let page: SnapshotPage = expect(agent.page(&query).await?, StatusCode::OK).await?.json().await?;
        assert!(page.entries.len() <= 60 && !page.confirmed);
        assert!(page.scopes.iter().any(|range| range.scope == Scope::Host(agent.number).to_i64()));
        entries.extend(page.entries);
        match page.next {
            Some(next) => query = format!("?limit=60&after={next}"),
            None => break,
        }
    }
    let keys: Vec<_> = entries.iter().map(|entry| (entry.scope, entry.slot, entry.kind, entry.key.clone())).collect();
    assert!(keys.is_sorted() && keys.windows(2).all(|pair| pair[0] != pair[1]));
    assert_eq!(entries.iter().filter(|entry| entry.kind == Kind::Host as i16).count(), 251);
    assert!(entries.iter().all(|entry| entry.body.is_some()));
    Ok(())
}

#[tokio::test]
async fn pages_travel_compressed() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let agent = server.agent("a", 1).await?;
    server.commit(&hosts(1000..3000)).await?;
    // One that shows what travels.
    let raw = server.builder(Some(&server.authority.host("a")?))?.no_zstd().no_gzip().build()?;
    let answer = raw.get(format!("{}/snapshot", agent.url)).header("accept-encoding", "zstd").send().await?;
    assert_eq!(answer.headers()["content-encoding"], "zstd");
    let bytes = answer.bytes().await?;
    assert_eq!(bytes[..4], [0x28, 0xb5, 0x2f, 0xfd], "the magic number of RFC 8878");
    let page: SnapshotPage = expect(agent.page("").await?, StatusCode::OK).await?.json().await?;
    assert!(bytes.len() * 4 < serde_json::to_vec(&page)?.len(), "{} bytes", bytes.len());
    Ok(())
}

#[tokio::test]
async fn an_operator_confirms_that_a_host_may_shrink() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let mut agent = server.agent("a", 1).await?;
    server.sql("UPDATE hosts SET shrink_until = now() + interval '1 hour'").await?;
    assert!(agent.snapshot().await?[0].confirmed);
    server.sql("UPDATE hosts SET shrink_until = now() - interval '1 s'").await?;
    assert!(!agent.snapshot().await?[0].confirmed);
    Ok(())
}

#[tokio::test]
async fn a_place_or_limit_that_is_none_is_refused() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let agent = server.agent("a", 1).await?;
    for query in ["?after=x", "?after=1.2.3.x", "?limit=0", "?limit=5001", "?limit=-1", "?limit=x", "?what=1"] {
        expect(agent.page(query).await?, StatusCode::BAD_REQUEST).await?;
    }
    Ok(())
}

#[tokio::test]
async fn more_than_a_few_snapshots_at_once_are_told_to_come_again() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let agent = server.agent("a", 1).await?;
    // Readers wait for this lock, and so hold their places.
    let mut blocker = server.db.connect().await?;
    blocker.batch_execute("BEGIN; LOCK TABLE entries IN ACCESS EXCLUSIVE MODE").await?;
    let answers = futures::future::join_all((0..20).map(|_| agent.page(""))).await;
    blocker.batch_execute("ROLLBACK").await?;
    let mut told = 0;
    for answer in answers {
        let answer = answer?;
        if answer.status() == StatusCode::SERVICE_UNAVAILABLE {
            let seconds: u64 = answer.headers()["retry-after"].to_str()?.parse()?;
            assert!((1..=5).contains(&seconds));
            told += 1;
        }
    }
    assert!(told >= 12, "only {told} of 20");
    expect(agent.page("").await?, StatusCode::OK).await?;
    Ok(())
}
