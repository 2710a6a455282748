use crate::support::{ADMIN_PASSWORD, Client, Cloud, credentials, role_id, until};
use reqwest::Method;
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;

async fn validate(by: &Client, subject: &str) -> anyhow::Result<crate::support::Answer> {
    by.send(Method::GET, "/v3/auth/tokens", None, &[("X-Subject-Token", subject)]).await
}

fn token(client: &Client) -> &str {
    client.token.as_deref().unwrap_or_default()
}

#[tokio::test]
async fn a_password_gets_a_token_with_project_roles_and_catalog() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let scope = json!({"project": {"name": "admin", "domain": {"name": "Default"}}});
    let answer = cloud.stranger().post("/v3/auth/tokens", &credentials("admin", ADMIN_PASSWORD, Some(scope))).await?;
    let said = &answer.body["token"];
    assert_eq!(answer.status, 201);
    assert_eq!(said["user"]["name"], "admin");
    assert_eq!(said["user"]["domain"], json!({"id": "default", "name": "Default"}));
    assert_eq!(said["project"]["name"], "admin");
    assert_eq!(said["roles"][0]["name"], "admin");
    assert_eq!(said["methods"], json!(["password"]));
    let catalog: Vec<&str> =
        said["catalog"].as_array().into_iter().flatten().filter_map(|s| s["type"].as_str()).collect();
    assert_eq!(catalog, ["identity", "network"]);
    assert_eq!(said["catalog"][1]["endpoints"][0]["url"], json!(cloud.url));
    assert_eq!(said["catalog"][0]["endpoints"][0]["url"], json!(format!("{}/v3", cloud.url)));
    Ok(())
}

#[tokio::test]
async fn wrong_credentials_and_foreign_scopes_get_401_and_do_not_say_why() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let (red, _) = (cloud.tenant("red", "member").await?, cloud.tenant("blue", "member").await?);
    let project = |name: &str| Some(json!({"project": {"name": name, "domain": {"id": "default"}}}));
    let cases = [
        credentials("red", "wrong", project("red")),
        credentials("nobody", "secret", project("red")),
        credentials("red", "secret", project("blue")),
        credentials("red", "secret", project("nowhere")),
        credentials("red", "secret", Some(json!({"system": {"all": true}}))),
        credentials("red", "secret", Some(json!({"domain": {"id": "default"}}))),
        credentials("red", "secret", Some(json!({"project": {"id": "not an id"}}))),
        credentials("red\0", "secret", None),
        credentials("red", &"x".repeat(5000), None),
        json!({"auth": {"identity": {"methods": ["token"], "token": {"id": "nonsense"}}}}),
        json!({"auth": {"identity": {"methods": ["password", "totp"], "password": {"user": {"id": red.user, "password": "secret"}}}}}),
        json!({"auth": {"identity": {"methods": ["external"]}}}),
    ];
    let mut messages = std::collections::BTreeSet::new();
    for body in cases {
        let answer = cloud.stranger().post("/v3/auth/tokens", &body).await?;
        assert_eq!(answer.fault(), (401, "Keystone"), "{body}");
        messages.insert(answer.message().to_owned());
    }
    assert_eq!(messages.len(), 1, "{messages:?}");
    for body in [
        json!({}),
        json!({"auth": {}}),
        json!({"auth": {"identity": {"methods": []}}}),
        json!({"auth": {"identity": {"methods": ["password"], "password": {"user": {"name": "red", "password": "secret"}}}}}),
        json!({"auth": {"identity": {"methods": "password"}}}),
        json!({"auth": {"identity": {"methods": ["password"]}}, "more": 1}),
        credentials("red", "secret", Some(json!("moon"))),
        credentials("red", "secret", Some(json!({"project": {"name": "red"}}))),
    ] {
        let answer = cloud.stranger().post("/v3/auth/tokens", &body).await?;
        assert!(
            [400, 401].contains(&answer.status.as_u16()) && answer.fault().1 == "Keystone",
            "{body}: {}",
            answer.text
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_token_is_validated_revoked_and_then_worth_nothing_on_every_replica() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let (red, blue, admin) =
        (cloud.tenant("red", "member").await?, cloud.tenant("blue", "member").await?, cloud.admin().await?);
    assert_eq!(validate(&admin, token(&red)).await?.ok(200)?["token"]["user"]["name"], "red");
    validate(&red, token(&red)).await?.ok(200)?;
    assert_eq!(validate(&blue, token(&red)).await?.fault(), (403, "Keystone"));
    assert_eq!(validate(&admin, "nonsense").await?.fault(), (404, "Keystone"));
    let head = admin.send(Method::HEAD, "/v3/auth/tokens", None, &[("X-Subject-Token", token(&red))]).await?;
    assert_eq!(head.status, 200);

    let replica = cloud.replica().await?;
    let elsewhere = Client { base: format!("http://{}", replica.address), ..red.clone() };
    elsewhere.get("/v2.0/networks").await?.ok(200)?;
    let revoked = admin.send(Method::DELETE, "/v3/auth/tokens", None, &[("X-Subject-Token", token(&red))]).await?;
    assert_eq!(revoked.status, 204);
    assert_eq!(red.get("/v2.0/networks").await?.fault(), (401, "Keystone"));
    assert_eq!(validate(&admin, token(&red)).await?.fault(), (404, "Keystone"));
    let told = async || Ok(elsewhere.get("/v2.0/networks").await?.status == 401);
    until("the replica learns of it", told).await?;
    replica.stop().await;
    Ok(())
}

#[tokio::test]
async fn a_token_gets_a_token_that_does_not_live_longer() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let red = cloud.tenant("red", "member").await?;
    let unscoped = cloud.stranger().login_scoped("red", "secret", Some(json!("unscoped"))).await?;
    let projects = unscoped.get("/v3/auth/projects").await?.ok(200)?;
    assert_eq!(projects["projects"][0]["id"], json!(red.project));
    let identity = json!({"methods": ["token"], "token": {"id": token(&unscoped)}});
    let body = json!({"auth": {"identity": identity, "scope": {"project": {"id": red.project}}}});
    let answer = cloud.stranger().post("/v3/auth/tokens", &body).await?;
    let said = answer.body["token"].clone();
    assert_eq!(said["methods"], json!(["password", "token"]));
    assert_eq!(said["audit_ids"].as_array().map(Vec::len), Some(2));
    let first = validate(&unscoped, token(&unscoped)).await?.ok(200)?;
    assert_eq!(said["expires_at"], first["token"]["expires_at"]);
    assert_eq!(said["project"]["id"], json!(red.project));
    Ok(())
}

#[tokio::test]
async fn a_login_without_scope_gets_the_default_project() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let (red, admin) = (cloud.tenant("red", "member").await?, cloud.admin().await?);
    let user = json!({"user": {"name": "ann", "password": "secret", "default_project_id": red.project}});
    let user = admin.post("/v3/users", &user).await?.ok(201)?;
    assert_eq!(user["user"]["default_project_id"], json!(red.project));
    let before = cloud.stranger().login_scoped("ann", "secret", None).await?;
    assert_eq!(before.project, "", "no role, no scope");
    let user = user["user"]["id"].as_str().unwrap_or_default().to_owned();
    admin
        .put(&format!("/v3/projects/{}/users/{user}/roles/{}", red.project, role_id("member")), None)
        .await?
        .ok(204)?;
    assert_eq!(cloud.stranger().login_scoped("ann", "secret", None).await?.project, red.project);
    Ok(())
}

#[tokio::test]
async fn tokens_end_with_the_role_the_password_and_the_account() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let (red, admin) = (cloud.tenant("red", "member").await?, cloud.admin().await?);
    let role = format!("/v3/projects/{}/users/{}/roles/{}", red.project, red.user, role_id("member"));
    admin.delete(&role).await?.ok(204)?;
    assert_eq!(red.get("/v2.0/networks").await?.fault(), (401, "Keystone"));
    assert_eq!(admin.delete(&role).await?.fault(), (404, "Keystone"));
    admin.put(&role, None).await?.ok(204)?;
    let red = cloud.stranger().login("red", "secret", Some("red")).await?;
    red.get("/v2.0/networks").await?.ok(200)?;

    let path = format!("/v3/users/{}", red.user);
    let change = json!({"user": {"password": "other"}}).to_string();
    admin.send(Method::PATCH, &path, Some(change), &[]).await?.ok(200)?;
    assert_eq!(red.get("/v2.0/networks").await?.fault(), (401, "Keystone"));
    assert!(cloud.stranger().login("red", "secret", Some("red")).await.is_err());
    let red = cloud.stranger().login("red", "other", Some("red")).await?;
    admin.delete(&path).await?.ok(204)?;
    assert_eq!(red.get("/v2.0/networks").await?.fault(), (401, "Keystone"));
    assert!(cloud.stranger().login("red", "other", Some("red")).await.is_err());
    Ok(())
}

#[tokio::test]
async fn accounts_are_for_administrators() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let (red, admin) = (cloud.tenant("red", "member").await?, cloud.admin().await?);
    for path in ["/v3/projects", "/v3/users", "/v3/domains"] {
        assert_eq!(red.get(path).await?.fault(), (403, "Keystone"), "{path}");
        admin.get(path).await?.ok(200)?;
    }
    assert_eq!(red.post("/v3/projects", &json!({"project": {"name": "x"}})).await?.fault(), (403, "Keystone"));
    let grab = format!("/v3/projects/{}/users/{}/roles/{}", red.project, red.user, role_id("admin"));
    assert_eq!(red.put(&grab, None).await?.fault(), (403, "Keystone"));
    let roles = red.get("/v3/roles?name=member").await?.ok(200)?;
    assert_eq!(roles["roles"].as_array().map(Vec::len), Some(1));
    let role = roles["roles"][0]["id"].as_str().unwrap_or_default();
    assert_eq!(red.get(&format!("/v3/roles/{role}")).await?.ok(200)?["role"]["name"], "member");
    assert_eq!(red.get("/v3/domains/default").await?.ok(200)?["domain"]["name"], "Default");
    red.get(&format!("/v3/projects/{}", red.project)).await?.ok(200)?;
    red.get(&format!("/v3/users/{}", red.user)).await?.ok(200)?;
    assert_eq!(red.get(&format!("/v3/users/{}", admin.user)).await?.fault(), (403, "Keystone"));

    let named = admin.get("/v3/projects?name=red").await?.ok(200)?;
    assert_eq!(named["projects"].as_array().map(Vec::len), Some(1));
    let double = admin.post("/v3/projects", &json!({"project": {"name": "red"}})).await?;
    assert_eq!(double.fault(), (409, "Keystone"));
    let double = admin.post("/v3/users", &json!({"user": {"name": "red", "password": "x"}})).await?;
    assert_eq!(double.fault(), (409, "Keystone"));
    let before = cloud.dump().await?;
    for body in [
        json!({"project": {"name": ""}}),
        json!({"project": {"name": "  "}}),
        json!({"project": {"name": "x".repeat(65)}}),
        json!({"project": {"name": "x\u{0}"}}),
        json!({"project": {"name": "x", "colour": 1}}),
        json!({"project": {"name": "x", "is_domain": true}}),
        json!({"project": {}}),
        json!({}),
    ] {
        assert_eq!(admin.post("/v3/projects", &body).await?.fault(), (400, "Keystone"), "{body}");
    }
    let nowhere = json!({"project": {"name": "x", "domain_id": "nowhere"}});
    assert_eq!(admin.post("/v3/projects", &nowhere).await?.fault(), (404, "Keystone"));
    assert_eq!(admin.post("/v3/users", &json!({"user": {"password": "x"}})).await?.fault(), (400, "Keystone"));
    assert_eq!(admin.put("/v3/projects/x/users/y/roles/member", None).await?.fault(), (404, "Keystone"));
    assert_eq!(cloud.dump().await?, before);
    Ok(())
}

#[tokio::test]
async fn a_deleted_project_takes_its_tokens_along() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let (red, admin) = (cloud.tenant("red", "member").await?, cloud.admin().await?);
    admin.delete(&format!("/v3/projects/{}", red.project)).await?.ok(204)?;
    assert_eq!(red.get("/v2.0/networks").await?.fault(), (401, "Keystone"));
    assert_eq!(admin.delete(&format!("/v3/projects/{}", red.project)).await?.fault(), (404, "Keystone"));
    Ok(())
}

#[tokio::test]
async fn the_signing_key_is_made_once_and_readable_by_its_owner_only() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let red = cloud.tenant("red", "member").await?;
    let keys: Vec<_> = std::fs::read_dir(cloud.state_dir().join("token-keys"))?.collect::<Result<_, _>>()?;
    assert_eq!(keys.len(), 1);
    assert_eq!(keys[0].metadata()?.permissions().mode() & 0o777, 0o600);
    let replica = cloud.replica().await?;
    let elsewhere = Client { base: format!("http://{}", replica.address), ..red };
    elsewhere.get("/v2.0/networks").await?.ok(200)?;
    replica.stop().await;
    assert_eq!(std::fs::read_dir(cloud.state_dir().join("token-keys"))?.count(), 1);
    Ok(())
}

#[tokio::test]
async fn bootstrapping_again_changes_nothing() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let before = cloud.dump().await?;
    let password = cloud.state_dir().join("password");
    std::fs::write(&password, "another")?;
    mizar_api::server::bootstrap(&cloud.db.pool(1, mizar_db::pool::Use::Commands)?, &password).await?;
    assert_eq!(cloud.dump().await?, before);
    cloud.admin().await?;
    assert_eq!(Value::Null, cloud.stranger().get("/v3").await?.body["error"]);
    Ok(())
}
