//! What somebody with an account, or none, might try on the identity service.

use crate::support::{ADMIN_PASSWORD, Client, Cloud, credentials, until};
use diesel_async::SimpleAsyncConnection as _;
use mizar_api::observe::limits::Limits;
use mizar_api::server;
use mizar_db::pool::Use;
use reqwest::Method;
use serde_json::{Value, json};

/// A request that gets its token from a token.
fn exchange(of: &Client) -> Value {
    json!({"auth": {"identity": {"methods": ["token"], "token": {"id": of.token}}}})
}

async fn audit_id(of: &Client) -> anyhow::Result<String> {
    let token = of.token.clone().unwrap_or_default();
    let shown = of.send(Method::GET, "/v3/auth/tokens", None, &[("X-Subject-Token", &token)]).await?.ok(200)?;
    Ok(shown["token"]["audit_ids"][0].as_str().unwrap_or_default().to_owned())
}

async fn until_refused(of: &Client) -> anyhow::Result<()> {
    until("the token counts no more", async || Ok(of.get("/v2.0/networks").await?.status == 401)).await
}

#[tokio::test]
async fn a_revoked_token_gets_no_other_before_the_replica_knows_it() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    for name in ["token", "user", "project"] {
        let red = cloud.tenant(name, "member").await?;
        let key = match name {
            "token" => audit_id(&red).await?,
            "user" => format!("user:{}", red.user),
            _ => format!("project:{}", red.project),
        };
        cloud.stranger().post("/v3/auth/tokens", &exchange(&red)).await?.ok(201)?;
        // As another replica writes it; this one reads the list once a second.
        cloud
            .sql(&format!(
                "INSERT INTO revoked_tokens VALUES ('{key}', now() + interval '1 s', now() + interval '1 h')"
            ))
            .await?;
        assert_eq!(
            cloud.stranger().post("/v3/auth/tokens", &exchange(&red)).await?.fault(),
            (401, "Keystone"),
            "{name}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_revocation_that_commits_late_is_read_though_later_ones_were() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let (red, blue) = (cloud.tenant("red", "member").await?, cloud.tenant("blue", "member").await?);
    let insert = |of: &Client| {
        let user = &of.user;
        format!("INSERT INTO revoked_tokens VALUES ('user:{user}', now() + interval '1 s', now() + interval '1 h')")
    };
    let mut late = cloud.db.connect().await?;
    late.batch_execute(&format!("BEGIN; {}", insert(&red))).await?;
    cloud.sql(&insert(&blue)).await?;
    until_refused(&blue).await?;
    red.get("/v2.0/networks").await?.ok(200)?;
    late.batch_execute("COMMIT").await?;
    until_refused(&red).await
}

#[tokio::test]
async fn whoever_takes_back_very_many_tokens_fills_no_list() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let (red, blue) = (cloud.tenant("red", "member").await?, cloud.tenant("blue", "member").await?);
    let other = cloud.stranger().login("red", "secret", Some("red")).await?;
    cloud
        .sql(&format!(
            "INSERT INTO revoked_tokens (audit_id, expires_at, user_id)
             SELECT 'a' || n, now() + interval '1 h', '{}' FROM generate_series(1, 1000) n",
            red.user
        ))
        .await?;
    let token = other.token.clone().unwrap_or_default();
    red.send(Method::DELETE, "/v3/auth/tokens", None, &[("X-Subject-Token", &token)]).await?.ok(204)?;
    assert_eq!(cloud.rows("SELECT audit_id FROM revoked_tokens").await?, [format!("user:{}", red.user)]);
    assert_eq!(other.get("/v2.0/networks").await?.status, 401);
    assert_eq!(red.get("/v2.0/networks").await?.status, 401, "all of the user's, instead of a thousand single ones");
    blue.get("/v2.0/networks").await?.ok(200)?;
    cloud.stranger().login("red", "secret", Some("red")).await?.get("/v2.0/networks").await?.ok(200)?;
    Ok(())
}

#[tokio::test]
async fn a_user_gets_so_many_tokens_a_minute_and_strangers_use_none_of_them_up() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let red = cloud.tenant("red", "member").await?;
    let (app, listener) = cloud.app(Limits { tokens_per_min: 2, ..Limits::default() })?;
    let replica = server::start(app, listener, 1).await?;
    let nobody = cloud.stranger().stranger_at(&format!("http://{}", replica.address));
    for _ in 0..4 {
        assert_eq!(nobody.post("/v3/auth/tokens", &credentials("red", "wrong", None)).await?.status, 401);
    }
    for _ in 0..2 {
        nobody.post("/v3/auth/tokens", &exchange(&red)).await?.ok(201)?;
    }
    let refused = nobody.post("/v3/auth/tokens", &exchange(&red)).await?;
    assert_eq!(refused.fault(), (429, "Keystone"));
    assert!(refused.headers.contains_key("retry-after"));
    nobody.post("/v3/auth/tokens", &credentials("admin", ADMIN_PASSWORD, None)).await?.ok(201)?;
    replica.stop().await;
    Ok(())
}

#[tokio::test]
async fn an_administrator_who_was_renamed_or_disabled_is_not_made_anew() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let password = cloud.state_dir().join("password");
    for change in ["name = 'root'", "enabled = false"] {
        cloud.sql(&format!("UPDATE users SET {change}")).await?;
        let before = cloud.dump().await?;
        server::bootstrap(&cloud.db.pool(1, Use::Commands)?, &password).await?;
        assert_eq!(cloud.dump().await?, before, "{change}");
    }
    Ok(())
}

#[tokio::test]
async fn a_manager_is_a_member_of_the_project_and_no_administrator() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let red = cloud.tenant("red", "reader").await?;
    let (admin, manager) = (cloud.admin().await?, "6d616e61676582008000000000000000");
    let path = format!("/v3/projects/{}/users/{}/roles/{manager}", red.project, red.user);
    admin.put(&path, None).await?.ok(204)?;
    let red = cloud.stranger().login("red", "secret", Some("red")).await?;
    red.make("network", json!({"name": "n"})).await?;
    assert_eq!(red.get("/v3/users").await?.fault(), (403, "Keystone"));
    Ok(())
}
