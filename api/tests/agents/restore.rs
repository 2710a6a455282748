//! A database that was restored from a dump: agents begin again, reach the same state, lose nothing.

use crate::active::{create_port, world};
use crate::held::Held;
use crate::server::{Moved, Server, commit, expect};
use diesel_async::SimpleAsyncConnection as _;
use mizar_compile::{Object, Write, create};
use mizar_db::audit;
use mizar_domain::model::Host;
use mizar_wire::Kind;
use reqwest::StatusCode;

fn host(number: u32) -> Vec<Write> {
    let host = Host { number, name: format!("h{number}"), underlay: std::net::Ipv4Addr::from(0x0a0a_0000 + number) };
    create(Object::Host(&host))
}

/// Writes the missing entries of rows that tests insert without them.
async fn complete(server: &Server) -> anyhow::Result<()> {
    let mut conn = server.db.connect().await?;
    let found = audit::audit(&mut conn).await?;
    conn.batch_execute("BEGIN").await?;
    audit::repair(&mut conn, &found).await?;
    Ok(conn.batch_execute("COMMIT").await?)
}

/// A cloud of two agents and forty ports on another database; the first one's, and what the agents
/// held of it.
async fn restored(without: &[&str]) -> anyhow::Result<(Server, Moved, [crate::server::Agent; 2], [Held; 2])> {
    let server = Server::start().await?;
    // The other server is far behind: rows come from its future.
    let burn = "DO $$ BEGIN FOR i IN 1..3000 LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$";
    server.sql(burn).await?;
    let (mut a, mut b) = world(&server).await?;
    let mut conn = server.db.connect().await?;
    for number in 1..=40 {
        create_port(&mut conn, a.number, number).await?;
    }
    complete(&server).await?;
    // A removal that the dump knows as a tombstone.
    server.sql("UPDATE entries SET deleted = true, body = '' WHERE kind = 7 AND key = (SELECT uuid_send(id) FROM ports WHERE number = 40); \
         UPDATE ports SET host = NULL, generation = 2 WHERE number = 40").await?;
    complete(&server).await?;
    let before = [Held::by(&mut a).await?, Held::by(&mut b).await?];
    assert_eq!(before.each_ref().map(|held| held.clone().only(&[Kind::Port]).0.len()), [39, 0]);
    assert_eq!(before.each_ref().map(|held| held.clone().only(&[Kind::Bounce]).0.len()), [0, 39]);
    let db = server.db.restored(without).await?;
    let moved = server.moved_to(db).await?;
    for (agent, name) in [(&mut a, "a"), (&mut b, "b")] {
        agent.url = format!("https://{}/agent/v1/hosts/{name}", moved.agents.address());
        // Whatever it held belongs to another history.
        expect(agent.post(&agent.request(0)).await?, StatusCode::GONE).await?;
    }
    Ok((server, moved, [a, b], before))
}

#[tokio::test]
async fn agents_of_a_restored_database_begin_again_and_reach_the_same_state() -> anyhow::Result<()> {
    let (_server, moved, mut agents, before) = restored(&[]).await?;
    let mut conn = moved.db.connect().await?;
    for (agent, before) in agents.iter_mut().zip(before) {
        let held = Held::by(agent).await?;
        assert!(held == before, "{} holds {} instead of {} entries", agent.url, held.0.len(), before.0.len());
    }
    // The feed goes on: what is new is heard, and nothing old looks new.
    commit(&mut conn, &host(1000)).await?;
    for agent in &mut agents {
        let news = agent.sync(20).await?;
        let heard: Vec<&str> = news.changes.iter().map(|change| change.key.as_str()).collect();
        assert_eq!(heard, ["000003e8"]);
    }
    // Another replica finds nothing to do: cursors stay good.
    let again = mizar_db::feed::restore::adopt(&mut conn).await?;
    assert!(!again);
    assert_eq!(agents[0].sync(0).await?.changes, []);
    moved.agents.stop().await;
    Ok(())
}

#[tokio::test]
async fn a_dump_without_the_feed_restores_to_the_same_objects() -> anyhow::Result<()> {
    let (_server, moved, mut agents, before) = restored(&["entries", "includes", "subscriptions"]).await?;
    for (agent, before) in agents.iter_mut().zip(before) {
        // Roles are placed again by a scheduler; all else is there before anybody can ask.
        let own = [Kind::Host, Kind::Port, Kind::Network, Kind::Subnet];
        let held = Held::by(agent).await?;
        match agent.number {
            1 => assert!(held == before.only(&own), "{} entries", held.0.len()),
            _ => assert_eq!(held, before.only(&[Kind::Host])),
        }
    }
    assert_eq!(audit::audit(&mut moved.db.connect().await?).await?, []);
    moved.agents.stop().await;
    Ok(())
}
