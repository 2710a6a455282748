//! What happens between a change and a login at the same time.

use crate::support::{ADMIN_PASSWORD, Client, Cloud, credentials, every_turn, role_id, until};
use diesel_async::SimpleAsyncConnection as _;
use mizar_api::identity::turns::OF_ACCOUNT;
use mizar_api::observe::limits::Limits;
use serde_json::json;
use std::sync::Arc;

/// A request that gets its token from a token: nothing is hashed, so only locks hold it up.
fn again(of: &Client) -> serde_json::Value {
    let identity = json!({"methods": ["token"], "token": {"id": of.token}});
    json!({"auth": {"identity": identity, "scope": {"project": {"id": of.project}}}})
}

#[tokio::test]
async fn a_login_that_runs_into_the_removal_of_the_role_gets_no_token() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let red = cloud.tenant("red", "member").await?;
    let mut change = cloud.db.connect().await?;
    change
        .batch_execute(&format!(
            "BEGIN; SELECT 1 FROM users WHERE name = 'red' FOR NO KEY UPDATE;
             DELETE FROM role_assignments WHERE project_id = '{}'",
            red.project
        ))
        .await?;
    let (stranger, body) = (cloud.stranger(), again(&red));
    let login = tokio::spawn(async move { stranger.post("/v3/auth/tokens", &body).await });
    cloud.until_waiting(1).await?;
    change.batch_execute("COMMIT").await?;
    assert_eq!(login.await??.fault(), (401, "Keystone"));
    Ok(())
}

#[tokio::test]
async fn a_token_issued_while_a_role_goes_dies_with_it() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let (red, admin) = (cloud.tenant("red", "member").await?, cloud.admin().await?);
    // A login that has locked the account and read its roles, but is not done.
    let mut login = cloud.db.connect().await?;
    login.batch_execute("BEGIN; SELECT 1 FROM users WHERE name = 'red' FOR SHARE").await?;
    let path = format!("/v3/projects/{}/users/{}/roles/{}", red.project, red.user, role_id("member"));
    let removal = tokio::spawn({
        let admin = admin.clone();
        async move { admin.delete(&path).await }
    });
    cloud.until_waiting(1).await?;
    let issued = cloud.stranger().post("/v3/auth/tokens", &again(&red)).await;
    login.batch_execute("COMMIT").await?;
    removal.await??.ok(204)?;
    // Whether it came before or after: what it got is worth nothing now.
    let issued = issued?;
    if let Some(token) = issued.headers.get("x-subject-token") {
        assert_eq!(red.with_token(token.to_str()?).get("/v2.0/networks").await?.fault(), (401, "Keystone"));
    }
    assert_eq!(red.get("/v2.0/networks").await?.fault(), (401, "Keystone"));
    Ok(())
}

#[tokio::test]
async fn a_change_that_cannot_revoke_changes_nothing() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let (red, admin) = (cloud.tenant("red", "member").await?, cloud.admin().await?);
    cloud.sql("ALTER TABLE revoked_tokens ADD CONSTRAINT broken CHECK (audit_id NOT LIKE '%:%') NOT VALID").await?;
    let before = cloud.dump().await?;
    let role = format!("/v3/projects/{}/users/{}/roles/{}", red.project, red.user, role_id("member"));
    let user = format!("/v3/users/{}", red.user);
    for path in [&role, &user, &format!("/v3/projects/{}", red.project)] {
        assert_eq!(admin.delete(path).await?.fault(), (500, "Keystone"), "{path}");
    }
    let change = json!({"user": {"password": "other"}}).to_string();
    let changed = admin.send(reqwest::Method::PATCH, &user, Some(change), &[]).await?;
    assert_eq!(changed.fault(), (500, "Keystone"));
    assert_eq!(cloud.dump().await?, before);
    red.get("/v2.0/networks").await?.ok(200)?;
    Ok(())
}

#[tokio::test]
async fn a_replica_knows_what_is_revoked_before_its_first_answer() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let (red, admin) = (cloud.tenant("red", "member").await?, cloud.admin().await?);
    let subject = red.token.clone().unwrap_or_default();
    let subject = [("X-Subject-Token", subject.as_str())];
    admin.send(reqwest::Method::DELETE, "/v3/auth/tokens", None, &subject).await?.ok(204)?;
    for _ in 0..5 {
        let replica = cloud.replica().await?;
        let elsewhere = Client { base: format!("http://{}", replica.address), ..red.clone() };
        assert_eq!(elsewhere.get("/v2.0/networks").await?.fault(), (401, "Keystone"));
        replica.stop().await;
    }
    Ok(())
}

#[tokio::test]
async fn logins_hold_no_connection_while_they_wait_for_their_hash() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let (mut app, listener) = cloud.app(Limits::default())?;
    let only = Arc::get_mut(&mut app).expect("nobody else has it");
    // If a login held its connection, no second one could come to the hash.
    only.pool = cloud.db.pool(1, mizar_db::pool::Use::Commands)?;
    let held = every_turn(&app).await?;
    let server = mizar_api::server::start(Arc::clone(&app), listener, 2).await?;
    let stranger = Client { base: format!("http://{}", server.address), ..cloud.stranger() };
    let logins: Vec<_> = (0..6)
        .map(|_| {
            let stranger = stranger.clone();
            let body = credentials("admin", ADMIN_PASSWORD, None);
            tokio::spawn(async move { stranger.post("/v3/auth/tokens", &body).await })
        })
        .collect();
    until("all wait for a turn", async || Ok(app.passwords.waiting() == logins.len())).await?;
    drop(held);
    for login in logins {
        login.await??.ok(201)?;
    }
    server.stop().await;
    Ok(())
}

#[tokio::test]
async fn who_is_refused_a_place_in_the_queue_of_logins_learns_nothing_of_who_exists() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let limits = Limits { failed_logins_per_min: 0, ..Limits::default() };
    let (app, listener) = cloud.app(limits)?;
    let held = every_turn(&app).await?;
    let server = mizar_api::server::start(Arc::clone(&app), listener, 2).await?;
    let stranger = Client { base: format!("http://{}", server.address), ..cloud.stranger() };
    let log_in = |name: &str| {
        let (stranger, body) = (stranger.clone(), credentials(name, "wrong", None));
        tokio::spawn(async move { stranger.post("/v3/auth/tokens", &body).await })
    };
    // As many as may wait for one account, of one that is not there.
    let flood: Vec<_> = (0..OF_ACCOUNT).map(|_| log_in("nobody")).collect();
    until("they all wait", async || Ok(app.passwords.waiting() == OF_ACCOUNT)).await?;
    assert_eq!(log_in("nobody").await??.fault(), (429, "Keystone"));
    // Somebody, and another nobody: both have a queue of their own.
    let others = [log_in("admin"), log_in("nobody else")];
    until("both wait", async || Ok(app.passwords.waiting() == OF_ACCOUNT + others.len())).await?;
    drop(held);
    // Accounts take turns: neither waits for the whole flood.
    for other in others {
        assert_eq!(other.await??.fault(), (401, "Keystone"));
    }
    flood.iter().for_each(tokio::task::JoinHandle::abort);
    server.stop().await;
    Ok(())
}
