//! What happens between a change and a login at the same time.

use crate::support::{ADMIN_PASSWORD, Client, Cloud, credentials, role_id, until};
use diesel_async::SimpleAsyncConnection as _;
use serde_json::json;
use std::time::Duration;

/// Waits until so many sessions of the test's database wait for a lock.
async fn until_waiting(cloud: &Cloud, sessions: usize) -> anyhow::Result<()> {
    let query = "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
    until(&format!("{sessions} wait"), async || Ok(cloud.rows(query).await?.len() >= sessions)).await
}

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
    until_waiting(&cloud, 1).await?;
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
    until_waiting(&cloud, 1).await?;
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
    let (mut app, listener) = cloud.app(mizar_api::observe::limits::Limits::default())?;
    let only = std::sync::Arc::get_mut(&mut app).expect("nobody else has it");
    // If a login held its connection, no second one could come to the hash.
    only.pool = cloud.db.pool(1, mizar_db::pool::Use::Commands)?;
    let server = mizar_api::server::start(app, listener, 2).await?;
    let stranger = Client { base: format!("http://{}", server.address), ..cloud.stranger() };
    let turns = std::thread::available_parallelism()?.get();
    let logins: Vec<_> = (0..turns + 6)
        .map(|_| {
            let stranger = stranger.clone();
            let body = credentials("admin", ADMIN_PASSWORD, None);
            tokio::spawn(async move { stranger.post("/v3/auth/tokens", &body).await })
        })
        .collect();
    let mut seen = 0;
    while seen < 2 && !logins.iter().all(tokio::task::JoinHandle::is_finished) {
        seen = seen.max(mizar_api::identity::password::waiting());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(seen >= 2, "{seen} waited for a turn");
    for login in logins {
        // 503: the machine is so busy that the turn did not come in time.
        let answer = login.await??;
        assert!([201, 503].contains(&answer.status.as_u16()), "{}", answer.text);
    }
    server.stop().await;
    Ok(())
}
