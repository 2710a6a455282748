//! What a project that asks for much leaves to others.

use crate::support::{Client, Cloud, id, until};
use anyhow::{Context as _, ensure};
use diesel_async::{AsyncPgConnection, SimpleAsyncConnection as _};
use futures::future::try_join_all;
use mizar_api::observe::limits::Limits;
use mizar_api::server::{self, Server};
use mizar_db::pool::Use;
use reqwest::Method;
use serde_json::{Value, json};
use std::sync::Arc;

/// Connections of a server's commands, as by default.
const CONNECTIONS: usize = 16;

/// Requests of a project at once: some would wait for longer than a server is patient.
const CLIENTS: usize = 96;

/// A server that is as patient as those that users have: in tests they are more so.
async fn impatient(cloud: &Cloud) -> anyhow::Result<(Server, String)> {
    let (mut app, listener) = cloud.app(Limits::default())?;
    Arc::get_mut(&mut app).context("nobody else has it")?.pool = cloud.db.pool(CONNECTIONS, Use::Commands)?;
    let server = server::start(app, listener, 2).await?;
    let base = format!("http://{}", server.address);
    Ok((server, base))
}

/// Keeps a network locked.
async fn occupy(cloud: &Cloud, network: &Value) -> anyhow::Result<AsyncPgConnection> {
    let shown = cloud.admin().await?.show("network", network).await?;
    let vni = u32::try_from(shown["provider:segmentation_id"].as_u64().context("no VNI")?)?;
    let mut busy = cloud.db.connect().await?;
    busy.batch_execute("SET idle_in_transaction_session_timeout = 0; BEGIN").await?;
    mizar_db::entries::lock_networks(&mut busy, &[vni]).await?;
    Ok(busy)
}

/// Changes a network, again and again.
async fn insist(client: &Client, network: &Value) -> anyhow::Result<()> {
    loop {
        client.update("network", network, json!({"name": "x"})).await?;
    }
}

/// Many do so at once.
async fn flood(client: &Client, network: &Value) -> anyhow::Result<()> {
    try_join_all((0..CLIENTS).map(|_| insist(client, network))).await?;
    Ok(())
}

async fn waiting(cloud: &Cloud) -> anyhow::Result<usize> {
    let query = "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
    Ok(cloud.rows(query).await?.len())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_project_whose_commands_wait_has_half_of_the_connections_and_others_the_rest() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let (red, blue) = (cloud.tenant("red", "member").await?, cloud.tenant("blue", "member").await?);
    let (server, base) = impatient(&cloud).await?;
    let network = red.make("network", json!({})).await?;
    let busy = occupy(&cloud, &network).await?;
    let at = |client: &Client| Client { base: base.clone(), ..client.clone() };
    let (red, blue) = (at(&red), at(&blue));
    let ask = async {
        cloud.until_waiting(CONNECTIONS / 2).await?;
        for _ in 0..3 {
            let made = blue.make("network", json!({})).await?;
            blue.remove("network", &made).await?.ok(204)?;
            let held = waiting(&cloud).await?;
            ensure!(held <= CONNECTIONS / 2, "{held} of {CONNECTIONS} connections are one project's");
        }
        anyhow::Ok(())
    };
    tokio::select! {
        flooded = flood(&red, &network) => flooded.context("the flood ended")?,
        asked = ask => asked?,
    }
    drop(busy);
    server.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_token_is_known_and_others_are_served_while_two_projects_have_all_connections() -> anyhow::Result<()>
{
    let cloud = Cloud::start().await?;
    let (red, blue) = (cloud.tenant("red", "member").await?, cloud.tenant("blue", "member").await?);
    let green = cloud.tenant("green", "member").await?;
    let (server, base) = impatient(&cloud).await?;
    let at = |client: &Client| Client { base: base.clone(), ..client.clone() };
    let (reds, blues) = (red.make("network", json!({})).await?, blue.make("network", json!({})).await?);
    let busy = (occupy(&cloud, &reds).await?, occupy(&cloud, &blues).await?);
    let (red, blue, served) = (at(&red), at(&blue), at(&green));
    let ask = async {
        cloud.until_waiting(CONNECTIONS).await?;
        let own = served.make("network", json!({})).await?;
        served.get(&format!("/v2.0/networks/{}", id(&own))).await?.ok(200)?;
        let token = green.token.clone().context("a token")?;
        green.send(Method::DELETE, "/v3/auth/tokens", None, &[("X-Subject-Token", &token)]).await?.ok(204)?;
        until("the other server knows of it", async || Ok(served.get("/v2.0/networks").await?.status == 401)).await
    };
    tokio::select! {
        flooded = async { tokio::try_join!(flood(&red, &reds), flood(&blue, &blues)) } => {
            flooded.context("the floods ended")?;
        }
        asked = ask => asked?,
    }
    drop(busy);
    server.stop().await;
    Ok(())
}
