//! Domains, projects and users: lists with filters, updates, and what they do to tokens.

use crate::support::{Client, Cloud, credentials, id, role_id};
use reqwest::Method;
use serde_json::{Value, json};

async fn patch(by: &Client, path: &str, body: Value) -> anyhow::Result<crate::support::Answer> {
    by.send(Method::PATCH, path, Some(body.to_string()), &[]).await
}

fn names(list: &Value) -> Vec<&str> {
    list.as_array().into_iter().flatten().filter_map(|object| object["name"].as_str()).collect()
}

#[tokio::test]
async fn a_domain_has_its_own_users_and_projects_and_goes_with_them() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let admin = cloud.admin().await?;
    let made = admin.post("/v3/domains", &json!({"domain": {"name": "east"}})).await?.ok(201)?;
    let domain = made["domain"]["id"].as_str().unwrap_or_default().to_owned();
    let taken = admin.post("/v3/domains", &json!({"domain": {"name": "east"}})).await?;
    assert_eq!(taken.fault(), (409, "Keystone"));
    // The same names as in the default domain.
    let user = json!({"user": {"name": "admin", "password": "secret", "domain_id": domain}});
    let user = admin.post("/v3/users", &user).await?.ok(201)?["user"].clone();
    let project = json!({"project": {"name": "admin", "domain_id": domain}});
    let project = admin.post("/v3/projects", &project).await?.ok(201)?["project"].clone();
    for filter in ["users", "projects"] {
        let list = admin.get(&format!("/v3/{filter}?domain_id={domain}")).await?.ok(200)?;
        assert_eq!(names(&list[filter]), ["admin"]);
    }
    let role = role_id("member");
    admin.put(&format!("/v3/projects/{}/users/{}/roles/{role}", id(&project), id(&user)), None).await?.ok(204)?;
    let login = json!({"auth": {
        "identity": {"methods": ["password"], "password": {"user": {
            "name": "admin", "domain": {"name": "east"}, "password": "secret",
        }}},
        "scope": {"project": {"name": "admin", "domain": {"id": domain}}},
    }});
    let answer = cloud.stranger().post("/v3/auth/tokens", &login).await?;
    assert_eq!(answer.body["token"]["project"]["domain"]["name"], "east", "{}", answer.text);
    let east = cloud.stranger().with_token(answer.headers["x-subject-token"].to_str()?);
    east.get("/v2.0/networks").await?.ok(200)?;

    let path = format!("/v3/domains/{domain}");
    assert_eq!(admin.delete(&path).await?.fault(), (403, "Keystone"), "it is enabled");
    patch(&admin, &path, json!({"domain": {"enabled": false, "description": "closed"}})).await?.ok(200)?;
    assert_eq!(east.get("/v2.0/networks").await?.fault(), (401, "Keystone"));
    assert_eq!(cloud.stranger().post("/v3/auth/tokens", &login).await?.status, 401);
    let shown = admin.get(&path).await?.ok(200)?;
    assert_eq!((&shown["domain"]["enabled"], &shown["domain"]["description"]), (&json!(false), &json!("closed")));
    assert_eq!(names(&admin.get("/v3/domains?enabled=false").await?.ok(200)?["domains"]), ["east"]);
    admin.delete(&path).await?.ok(204)?;
    assert_eq!(admin.get(&path).await?.fault(), (404, "Keystone"));
    assert_eq!(admin.get(&format!("/v3/users/{}", id(&user))).await?.fault(), (404, "Keystone"));
    assert_eq!(admin.delete("/v3/domains/default").await?.fault(), (403, "Keystone"));
    admin.get("/v3/users?name=admin").await?.ok(200)?;
    Ok(())
}

#[tokio::test]
async fn a_project_is_renamed_tagged_and_disabled() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let (red, admin) = (cloud.tenant("red", "member").await?, cloud.admin().await?);
    let path = format!("/v3/projects/{}", red.project);
    let change = json!({"project": {"name": "crimson", "description": "d", "tags": ["b", "a", "b"]}});
    let changed = patch(&admin, &path, change).await?.ok(200)?;
    assert_eq!(changed["project"]["tags"], json!(["a", "b"]));
    red.get("/v2.0/networks").await?.ok(200)?;
    for (query, expected) in [
        ("tags=a", vec!["crimson"]),
        ("tags=a,b", vec!["crimson"]),
        ("tags=a,c", vec![]),
        ("tags-any=a,c", vec!["crimson"]),
        ("name=crimson&domain_id=default&enabled=True", vec!["crimson"]),
        ("name=crimson&parent_id=default", vec!["crimson"]),
        ("enabled=0", vec![]),
        ("is_domain=true", vec![]),
    ] {
        let list = admin.get(&format!("/v3/projects?{query}")).await?.ok(200)?;
        assert_eq!(names(&list["projects"]), expected, "{query}");
    }
    assert_eq!(patch(&admin, &path, json!({"project": {"name": "admin"}})).await?.fault(), (409, "Keystone"));
    let before = cloud.dump().await?;
    for body in [
        json!({"project": {"domain_id": "default"}}),
        json!({"project": {"tags": ["a,b"]}}),
        json!({"project": {"tags": vec!["x"; 81]}}),
        json!({"project": {"name": ""}}),
        json!({"project": {"name": "\u{0}"}}),
        json!({"project": {"enabled": "yes"}}),
        json!({"projects": {}}),
    ] {
        assert_eq!(patch(&admin, &path, body.clone()).await?.fault(), (400, "Keystone"), "{body}");
    }
    assert_eq!(admin.get("/v3/projects?name=%00").await?.fault(), (400, "Keystone"));
    assert_eq!(patch(&red, &path, json!({"project": {"name": "x"}})).await?.fault(), (403, "Keystone"));
    assert_eq!(cloud.dump().await?, before);
    patch(&admin, &path, json!({"project": {"enabled": false}})).await?.ok(200)?;
    assert_eq!(red.get("/v2.0/networks").await?.fault(), (401, "Keystone"));
    assert!(cloud.stranger().login("red", "secret", Some("crimson")).await.is_err());
    patch(&admin, &path, json!({"project": {"enabled": true}})).await?.ok(200)?;
    cloud.stranger().login("red", "secret", Some("crimson")).await?.get("/v2.0/networks").await?.ok(200)?;
    Ok(())
}

#[tokio::test]
async fn a_user_without_password_cannot_log_in_until_it_gets_one() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let admin = cloud.admin().await?;
    let user = json!({"user": {"name": "ann", "email": "ann@example.org", "description": "d", "options": {}}});
    let user = admin.post("/v3/users", &user).await?.ok(201)?["user"].clone();
    assert_eq!((&user["email"], &user["description"]), (&json!("ann@example.org"), &json!("d")));
    for password in ["", "nobody has this password"] {
        let answer = cloud.stranger().post("/v3/auth/tokens", &credentials("ann", password, None)).await?;
        assert_eq!(answer.fault(), (401, "Keystone"));
    }
    let path = format!("/v3/users/{}", id(&user));
    let change = json!({"user": {"password": "secret", "name": "anna", "default_project_id": null}});
    patch(&admin, &path, change).await?.ok(200)?;
    let anna = cloud.stranger().login("anna", "secret", None).await?;
    let shown = anna.get(&path).await?.ok(200)?["user"].clone();
    assert_eq!((&shown["name"], shown.get("password"), shown.get("password_hash")), (&json!("anna"), None, None));
    for (query, expected) in [("name=anna", 1), ("name=ann", 0), ("enabled=false", 0), ("domain_id=default", 2)] {
        let list = admin.get(&format!("/v3/users?{query}")).await?.ok(200)?;
        assert_eq!(list["users"].as_array().map(Vec::len), Some(expected), "{query}");
    }
    let nowhere = json!({"user": {"default_project_id": uuid::Uuid::new_v4()}});
    assert_eq!(patch(&admin, &path, nowhere).await?.fault(), (404, "Keystone"));
    patch(&admin, &path, json!({"user": {"enabled": false}})).await?.ok(200)?;
    assert_eq!(anna.get(&path).await?.fault(), (401, "Keystone"));
    assert!(cloud.stranger().login("anna", "secret", None).await.is_err());
    Ok(())
}

#[tokio::test]
async fn who_knows_the_password_changes_it_and_ends_the_tokens_of_before() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let red = cloud.tenant("red", "member").await?;
    let path = format!("/v3/users/{}/password", red.user);
    let change = |old: &str, new: &str| json!({"user": {"original_password": old, "password": new}});
    let stranger = cloud.stranger();
    assert_eq!(stranger.post(&path, &change("wrong", "other")).await?.fault(), (401, "Keystone"));
    let unknown = format!("/v3/users/{}/password", uuid::Uuid::new_v4().simple());
    assert_eq!(stranger.post(&unknown, &change("secret", "other")).await?.fault(), (401, "Keystone"));
    assert_eq!(stranger.post("/v3/users/x/password", &change("secret", "other")).await?.fault(), (401, "Keystone"));
    assert_eq!(red.post(&path, &change("secret", "")).await?.fault(), (400, "Keystone"));
    red.get("/v2.0/networks").await?.ok(200)?;
    red.post(&path, &change("secret", "other")).await?.ok(204)?;
    assert_eq!(red.get("/v2.0/networks").await?.fault(), (401, "Keystone"));
    assert!(stranger.login("red", "secret", Some("red")).await.is_err());
    stranger.login("red", "other", Some("red")).await?.get("/v2.0/networks").await?.ok(200)?;
    Ok(())
}

#[tokio::test]
async fn the_catalog_is_read_as_services_endpoints_and_regions() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let (red, admin) = (cloud.tenant("red", "reader").await?, cloud.admin().await?);
    let services = admin.get("/v3/services?type=network").await?.ok(200)?;
    let network = services["services"][0].clone();
    assert_eq!((services["services"].as_array().map(Vec::len), &network["name"]), (Some(1), &json!("mizar")));
    let endpoints = admin.get(&format!("/v3/endpoints?service_id={}&interface=public", id(&network))).await?.ok(200)?;
    assert_eq!(endpoints["endpoints"][0]["url"], json!(cloud.url));
    let endpoint = id(&endpoints["endpoints"][0]);
    admin.get(&format!("/v3/endpoints/{endpoint}")).await?.ok(200)?;
    admin.get(&format!("/v3/services/{}", id(&network))).await?.ok(200)?;
    assert_eq!(admin.get("/v3/services/x").await?.fault(), (404, "Keystone"));
    assert_eq!(red.get("/v3/regions").await?.ok(200)?["regions"][0]["id"], "RegionOne");
    red.get("/v3/regions/RegionOne").await?.ok(200)?;
    assert_eq!(red.get("/v3/regions/x").await?.fault(), (404, "Keystone"));
    assert_eq!(red.get("/v3/services").await?.fault(), (403, "Keystone"));
    assert_eq!(red.get("/v3/auth/catalog").await?.ok(200)?["catalog"].as_array().map(Vec::len), Some(2));
    assert_eq!(red.post("/v3/services", &json!({})).await?.status, 405);
    Ok(())
}
