//! Roles, who has them on what, and tokens for a domain and the system.

use crate::support::{Client, Cloud, id, role_id};
use reqwest::Method;
use serde_json::{Value, json};

/// The domain `default`, by id.
fn domain_scope() -> Value {
    json!({"domain": {"id": "default"}})
}

async fn assigned(by: &Client, query: &str) -> anyhow::Result<Vec<Value>> {
    let list = by.get(&format!("/v3/role_assignments?{query}")).await?.ok(200)?;
    Ok(list["role_assignments"].as_array().cloned().unwrap_or_default())
}

#[tokio::test]
async fn a_role_is_given_checked_listed_and_taken_on_projects_domains_and_the_system() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let (red, admin) = (cloud.tenant("red", "member").await?, cloud.admin().await?);
    let reader = role_id("reader");
    for target in [format!("projects/{}", red.project), "domains/default".to_owned(), "system".to_owned()] {
        let all = format!("/v3/{target}/users/{}/roles", red.user);
        let path = format!("{all}/{reader}");
        let head = admin.send(Method::HEAD, &path, None, &[]).await?;
        assert_eq!(head.status, 404, "{target}");
        admin.put(&path, None).await?.ok(204)?;
        admin.put(&path, None).await?.ok(204)?;
        assert_eq!(admin.send(Method::HEAD, &path, None, &[]).await?.status, 204);
        admin.get(&path).await?.ok(204)?;
        let listed = admin.get(&all).await?.ok(200)?;
        let listed = listed["roles"].as_array().into_iter().flatten();
        assert!(listed.filter_map(|role| role["name"].as_str()).any(|name| name == "reader"), "{target}");
        admin.delete(&path).await?.ok(204)?;
        assert_eq!(admin.delete(&path).await?.fault(), (404, "Keystone"), "{target}");
        assert_eq!(admin.get(&path).await?.fault(), (404, "Keystone"), "{target}");
    }
    let nobody = uuid::Uuid::new_v4().simple();
    for path in [
        format!("/v3/projects/{nobody}/users/{}/roles/{reader}", red.user),
        format!("/v3/projects/{}/users/{nobody}/roles/{reader}", red.project),
        format!("/v3/projects/{}/users/{}/roles/{nobody}", red.project, red.user),
        format!("/v3/projects/{}/users/{}/roles/reader", red.project, red.user),
        format!("/v3/domains/nowhere/users/{}/roles/{reader}", red.user),
        format!("/v3/domains/%00/users/{}/roles/{reader}", red.user),
        format!("/v3/system/users/{nobody}/roles/{reader}"),
    ] {
        assert_eq!(admin.put(&path, None).await?.fault(), (404, "Keystone"), "{path}");
        assert_eq!(admin.delete(&path).await?.fault(), (404, "Keystone"), "{path}");
    }
    Ok(())
}

#[tokio::test]
async fn assignments_are_filtered_and_named() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let (red, admin) = (cloud.tenant("red", "member").await?, cloud.admin().await?);
    let reader = role_id("reader");
    admin.put(&format!("/v3/domains/default/users/{}/roles/{reader}", red.user), None).await?.ok(204)?;
    let red = cloud.stranger().login("red", "secret", Some("red")).await?;
    assert_eq!(assigned(&admin, "").await?.len(), 4);
    assert_eq!(assigned(&red, &format!("user.id={}", red.user)).await?.len(), 2);
    assert_eq!(red.get("/v3/role_assignments").await?.fault(), (403, "Keystone"));
    for (query, expected) in [
        (format!("scope.project.id={}", red.project), 1),
        ("scope.domain.id=default".to_owned(), 1),
        ("scope.system=all".to_owned(), 1),
        (format!("role.id={reader}"), 1),
        (format!("role.id={reader}&scope.project.id={}", red.project), 0),
        ("user.id=nobody".to_owned(), 0),
        ("group.id=any".to_owned(), 0),
    ] {
        assert_eq!(assigned(&admin, &query).await?.len(), expected, "{query}");
    }
    let both = format!("/v3/role_assignments?scope.system=all&scope.project.id={}", red.project);
    assert_eq!(admin.get(&both).await?.fault(), (400, "Keystone"));
    let named = assigned(&admin, &format!("user.id={}&include_names=True", red.user)).await?;
    let of_project = named.iter().find(|one| !one["scope"]["project"].is_null()).cloned().unwrap_or_default();
    assert_eq!(of_project["user"]["name"], "red");
    assert_eq!(of_project["user"]["domain"]["name"], "Default");
    assert_eq!(of_project["role"]["name"], "member");
    assert_eq!(of_project["scope"]["project"]["name"], "red");
    assert_eq!(of_project["scope"]["project"]["domain"]["id"], "default");
    let link = of_project["links"]["assignment"].as_str().unwrap_or_default();
    admin.get(link.trim_start_matches(&cloud.url)).await?.ok(204)?;
    Ok(())
}

#[tokio::test]
async fn a_role_on_a_domain_gives_a_token_of_the_domain_and_no_right_on_networks() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let (red, admin) = (cloud.tenant("red", "member").await?, cloud.admin().await?);
    assert!(cloud.stranger().login_scoped("red", "secret", Some(domain_scope())).await.is_err());
    let path = format!("/v3/domains/default/users/{}/roles/{}", red.user, role_id("admin"));
    admin.put(&path, None).await?.ok(204)?;
    let of_domain = cloud.stranger().login_scoped("red", "secret", Some(domain_scope())).await?;
    let subject = of_domain.token.clone().unwrap_or_default();
    let said = of_domain.send(Method::GET, "/v3/auth/tokens", None, &[("X-Subject-Token", &subject)]).await?.ok(200)?;
    assert_eq!(said["token"]["domain"], json!({"id": "default", "name": "Default"}));
    assert_eq!((&said["token"]["roles"][0]["name"], said["token"].get("project")), (&json!("admin"), None));
    let domains = of_domain.get("/v3/auth/domains").await?.ok(200)?;
    assert_eq!(domains["domains"][0]["id"], "default");
    // The whole default domain is not the whole cloud.
    assert_eq!(of_domain.get("/v3/users").await?.fault(), (403, "Keystone"));
    assert_eq!(of_domain.post("/v2.0/networks", &json!({"network": {}})).await?.status, 403);
    admin.delete(&path).await?.ok(204)?;
    assert_eq!(of_domain.get("/v3/auth/domains").await?.fault(), (401, "Keystone"));
    Ok(())
}

#[tokio::test]
async fn an_administrator_of_the_system_needs_no_project() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let red = cloud.tenant("red", "member").await?;
    let scope = Some(json!({"system": {"all": true}}));
    let system = cloud.stranger().login_scoped("admin", crate::support::ADMIN_PASSWORD, scope.clone()).await?;
    assert_eq!(system.get("/v3/auth/system").await?.ok(200)?["system"], json!([{"all": true}]));
    system.get("/v3/users").await?.ok(200)?;
    assert_eq!(red.get("/v3/auth/system").await?.ok(200)?["system"], json!([]));
    assert!(cloud.stranger().login_scoped("red", "secret", scope).await.is_err());
    Ok(())
}

#[tokio::test]
async fn roles_of_ones_own_come_and_go_and_built_in_ones_stay() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let (red, admin) = (cloud.tenant("red", "member").await?, cloud.admin().await?);
    let made = admin.post("/v3/roles", &json!({"role": {"name": "auditor"}})).await?.ok(201)?["role"].clone();
    assert_eq!(admin.post("/v3/roles", &json!({"role": {"name": "auditor"}})).await?.fault(), (409, "Keystone"));
    assert_eq!(red.post("/v3/roles", &json!({"role": {"name": "x"}})).await?.fault(), (403, "Keystone"));
    let path = format!("/v3/roles/{}", id(&made));
    admin.put(&format!("/v3/projects/{}/users/{}/roles/{}", red.project, red.user, id(&made)), None).await?.ok(204)?;
    let holder = cloud.stranger().login("red", "secret", Some("red")).await?;
    let change = json!({"role": {"name": "inspector", "description": "d"}}).to_string();
    admin.send(Method::PATCH, &path, Some(change), &[]).await?.ok(200)?;
    assert_eq!(holder.get("/v2.0/networks").await?.fault(), (401, "Keystone"), "its name is another");
    let holder = cloud.stranger().login("red", "secret", Some("red")).await?;
    admin.delete(&path).await?.ok(204)?;
    assert_eq!(holder.get("/v2.0/networks").await?.fault(), (401, "Keystone"));
    assert_eq!(admin.get(&path).await?.fault(), (404, "Keystone"));
    assert_eq!(assigned(&admin, &format!("user.id={}", red.user)).await?.len(), 1);
    for name in ["admin", "manager", "member", "reader", "service"] {
        let list = admin.get(&format!("/v3/roles?name={name}")).await?.ok(200)?;
        assert_eq!(list["roles"][0]["options"]["immutable"], true, "{name}");
        let path = format!("/v3/roles/{}", id(&list["roles"][0]));
        assert_eq!(admin.delete(&path).await?.fault(), (403, "Keystone"), "{name}");
        let change = json!({"role": {"name": "x"}}).to_string();
        assert_eq!(admin.send(Method::PATCH, &path, Some(change), &[]).await?.fault(), (403, "Keystone"), "{name}");
    }
    Ok(())
}
