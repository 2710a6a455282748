//! Application credentials.

use crate::support::{Answer, Client, Cloud, every_turn, id, role_id, until};
use mizar_api::observe::limits::Limits;
use serde_json::{Value, json};
use std::sync::Arc;

fn path(of: &Client) -> String {
    format!("/v3/users/{}/application_credentials", of.user)
}

async fn make(by: &Client, more: Value) -> anyhow::Result<Answer> {
    let mut credential = json!({"name": "ci"});
    credential.as_object_mut().expect("made as one").extend(more.as_object().cloned().unwrap_or_default());
    by.post(&path(by), &json!({"application_credential": credential})).await
}

fn login(id: &str, secret: &Value) -> Value {
    let proof = json!({"id": id, "secret": secret});
    json!({"auth": {"identity": {"methods": ["application_credential"], "application_credential": proof}}})
}

async fn token(cloud: &Cloud, body: &Value) -> anyhow::Result<(Client, Value)> {
    let answer = cloud.stranger().post("/v3/auth/tokens", body).await?;
    anyhow::ensure!(answer.status == 201, "{}", answer.text);
    let user = answer.body["token"]["user"]["id"].as_str().unwrap_or_default().to_owned();
    let client = cloud.stranger().with_token(answer.headers["x-subject-token"].to_str()?);
    Ok((Client { user, ..client }, answer.body["token"].clone()))
}

#[tokio::test]
async fn a_credential_shows_its_secret_once_and_logs_in_with_some_of_the_roles() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let red = cloud.tenant("red", "member").await?;
    let admin = cloud.admin().await?;
    let role = format!("/v3/projects/{}/users/{}/roles/{}", red.project, red.user, role_id("reader"));
    admin.put(&role, None).await?.ok(204)?;
    let red = cloud.stranger().login("red", "secret", Some("red")).await?;
    let made = make(&red, json!({"roles": [{"name": "reader"}], "description": "d", "access_rules": []})).await?;
    let made = made.ok(201)?["application_credential"].clone();
    assert_eq!(made["secret"].as_str().map(str::len), Some(43));
    assert_eq!((&made["project_id"], &made["unrestricted"]), (&json!(red.project), &json!(false)));
    let shown = red.get(&format!("{}/{}", path(&red), id(&made))).await?.ok(200)?;
    assert_eq!(shown["application_credential"].get("secret"), None);
    assert_eq!(shown["application_credential"]["roles"].as_array().map(Vec::len), Some(1));
    let listed = red.get(&format!("{}?name=ci", path(&red))).await?.ok(200)?;
    assert_eq!(listed["application_credentials"][0]["roles"][0]["name"], "reader");
    assert!(!cloud.dump().await?.iter().any(|row| row.contains(made["secret"].as_str().unwrap_or("?"))));

    let (by_id, said) = token(&cloud, &login(id(&made), &made["secret"])).await?;
    assert_eq!((&said["methods"], &said["project"]["id"]), (&json!(["application_credential"]), &json!(red.project)));
    assert_eq!(said["application_credential"], json!({"id": made["id"], "name": "ci", "restricted": true}));
    let roles: Vec<&str> = said["roles"].as_array().into_iter().flatten().filter_map(|r| r["name"].as_str()).collect();
    assert_eq!(roles, ["reader"]);
    by_id.get("/v2.0/networks").await?.ok(200)?;
    assert_eq!(by_id.post("/v2.0/networks", &json!({"network": {}})).await?.status, 403);
    let named = json!({"name": "ci", "user": {"name": "red", "domain": {"id": "default"}}, "secret": made["secret"]});
    let named = json!({"auth": {"identity": {"methods": ["application_credential"], "application_credential": named}}});
    token(&cloud, &named).await?;

    red.delete(&format!("{}/{}", path(&red), id(&made))).await?.ok(204)?;
    assert_eq!(by_id.get("/v2.0/networks").await?.fault(), (401, "Keystone"));
    red.get("/v2.0/networks").await?.ok(200)?;
    let gone = cloud.stranger().post("/v3/auth/tokens", &login(id(&made), &made["secret"])).await?;
    assert_eq!(gone.fault(), (401, "Keystone"));
    Ok(())
}

#[tokio::test]
async fn impossible_credentials_are_refused_by_name() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let (red, admin) = (cloud.tenant("red", "member").await?, cloud.admin().await?);
    make(&red, json!({})).await?.ok(201)?;
    let before = cloud.dump().await?;
    for (more, status, said) in [
        (json!({}), 409, "ci"),
        (
            json!({"name": "b", "access_rules": [{"path": "/", "method": "GET", "service": "network"}]}),
            400,
            "access_rules",
        ),
        (json!({"name": "b", "roles": [{"name": "admin"}]}), 400, "roles"),
        (json!({"name": "b", "roles": [{}]}), 400, "roles"),
        (json!({"name": "b", "expires_at": "2020-01-01T00:00:00"}), 400, "expires_at"),
        (json!({"name": "b", "expires_at": "soon"}), 400, "expires_at"),
        (json!({"name": "b", "secret": ""}), 400, "secret"),
        (json!({"name": "", "secret": "s"}), 400, "name"),
        (json!({"name": "b", "project_id": admin.project}), 400, "project_id"),
        (json!({"name": "b", "colour": 1}), 400, "colour"),
    ] {
        let answer = make(&red, more.clone()).await?;
        assert_eq!(answer.fault(), (status, "Keystone"), "{more}");
        assert!(answer.message().contains(said), "{more}: {}", answer.message());
    }
    // Not even an administrator makes one for somebody else; but sees and deletes it.
    let body = json!({"application_credential": {"name": "b"}});
    assert_eq!(admin.post(&path(&red), &body).await?.fault(), (403, "Keystone"));
    assert_eq!(red.get(&path(&admin)).await?.fault(), (403, "Keystone"));
    let unscoped = cloud.stranger().login_scoped("red", "secret", Some(json!("unscoped"))).await?;
    assert_eq!(make(&unscoped, json!({"name": "b"})).await?.fault(), (400, "Keystone"));
    assert_eq!(cloud.dump().await?, before);
    let listed = admin.get(&path(&red)).await?.ok(200)?;
    admin.delete(&format!("{}/{}", path(&red), id(&listed["application_credentials"][0]))).await?.ok(204)?;
    Ok(())
}

#[tokio::test]
async fn only_an_unrestricted_credential_makes_others() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let red = cloud.tenant("red", "member").await?;
    for (unrestricted, expected) in [(false, 403), (true, 201)] {
        let name = format!("u{unrestricted}");
        let made =
            make(&red, json!({"name": name, "unrestricted": unrestricted, "secret": "chosen"})).await?.ok(201)?;
        let made = &made["application_credential"];
        assert_eq!(made["secret"], "chosen");
        let (client, _) = token(&cloud, &login(id(made), &json!("chosen"))).await?;
        assert_eq!(make(&client, json!({"name": format!("{name}2")})).await?.status, expected);
        let wanted = if unrestricted { 204 } else { 403 };
        assert_eq!(client.delete(&format!("{}/{}", path(&red), id(made))).await?.status, wanted);
    }
    Ok(())
}

#[tokio::test]
async fn a_credential_is_for_its_project_alone_and_ends_when_it_says() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let (red, blue) = (cloud.tenant("red", "member").await?, cloud.tenant("blue", "member").await?);
    let admin = cloud.admin().await?;
    let role = role_id("member");
    admin.put(&format!("/v3/projects/{}/users/{}/roles/{role}", blue.project, red.user), None).await?.ok(204)?;
    let ends = chrono::Utc::now() + chrono::TimeDelta::minutes(5);
    let made = make(&red, json!({"expires_at": ends.format("%Y-%m-%dT%H:%M:%S").to_string()})).await?.ok(201)?;
    let made = &made["application_credential"];
    let (client, said) = token(&cloud, &login(id(made), &made["secret"])).await?;
    let expires = chrono::DateTime::parse_from_rfc3339(said["expires_at"].as_str().unwrap_or_default())?;
    assert_eq!(expires.timestamp(), ends.timestamp());
    let mut elsewhere = login(id(made), &made["secret"]);
    elsewhere["auth"]["scope"] = json!({"project": {"id": blue.project}});
    assert_eq!(cloud.stranger().post("/v3/auth/tokens", &elsewhere).await?.status, 401);
    // Nor by way of its token.
    let identity = json!({"methods": ["token"], "token": {"id": client.token}});
    let mut again = json!({"auth": {"identity": identity}});
    let (_, said) = token(&cloud, &again).await?;
    assert_eq!((&said["project"]["id"], &said["application_credential"]["name"]), (&json!(red.project), &json!("ci")));
    again["auth"]["scope"] = json!({"project": {"id": blue.project}});
    assert_eq!(cloud.stranger().post("/v3/auth/tokens", &again).await?.status, 401);
    cloud.sql("UPDATE application_credentials SET expires_at = now() - interval '1 s'").await?;
    assert_eq!(cloud.stranger().post("/v3/auth/tokens", &login(id(made), &made["secret"])).await?.status, 401);
    assert_eq!(cloud.stranger().post("/v3/auth/tokens", &login(id(made), &json!("wrong"))).await?.status, 401);
    assert_eq!(cloud.stranger().post("/v3/auth/tokens", &login("x", &json!("wrong"))).await?.status, 401);
    Ok(())
}

#[tokio::test]
async fn credentials_go_with_the_role_on_their_project() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let (red, admin) = (cloud.tenant("red", "member").await?, cloud.admin().await?);
    let made = make(&red, json!({})).await?.ok(201)?;
    let made = &made["application_credential"];
    let (client, _) = token(&cloud, &login(id(made), &made["secret"])).await?;
    let role = format!("/v3/projects/{}/users/{}/roles/{}", red.project, red.user, role_id("member"));
    admin.delete(&role).await?.ok(204)?;
    assert_eq!(client.get("/v2.0/networks").await?.fault(), (401, "Keystone"));
    admin.put(&role, None).await?.ok(204)?;
    assert_eq!(cloud.stranger().post("/v3/auth/tokens", &login(id(made), &made["secret"])).await?.status, 401);
    assert_eq!(cloud.rows("SELECT name FROM application_credentials").await?.len(), 0);
    Ok(())
}

#[tokio::test]
async fn a_generated_secret_waits_for_no_turn_and_a_guessed_name_tells_nothing() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let red = cloud.tenant("red", "member").await?;
    let made = make(&red, json!({})).await?.ok(201)?;
    let made = &made["application_credential"];
    let stored = cloud.rows("SELECT secret_hash FROM application_credentials").await?.concat();
    assert!(stored.starts_with("$sha256$"), "{stored}");
    // Its own secret and no other, by id and by name.
    let named = |name: &str, secret: &Value| {
        let named = json!({"name": name, "user": {"id": red.user}, "secret": secret});
        json!({"auth": {"identity": {"methods": ["application_credential"], "application_credential": named}}})
    };
    for (secret, status) in [(made["secret"].clone(), 201), (json!("wrong"), 401), (json!(stored), 401)] {
        for body in [login(id(made), &secret), named("ci", &secret)] {
            assert_eq!(cloud.stranger().post("/v3/auth/tokens", &body).await?.status, status, "{body}");
        }
    }
    // While all turns are somebody's: who has the secret needs none, nor does an id that nobody guesses.
    let (app, listener) = cloud.app(Limits::default())?;
    let held = every_turn(&app).await?;
    let server = mizar_api::server::start(Arc::clone(&app), listener, 2).await?;
    let stranger = cloud.stranger().stranger_at(&format!("http://{}", server.address));
    for body in [login(id(made), &made["secret"]), named("ci", &made["secret"])] {
        stranger.post("/v3/auth/tokens", &body).await?.ok(201)?;
    }
    for id in [id(made), &uuid::Uuid::new_v4().to_string()] {
        assert_eq!(stranger.post("/v3/auth/tokens", &login(id, &json!("wrong"))).await?.status, 401);
    }
    // A name that is there and one that is not wait alike.
    let guesses = ["ci", "not there"].map(|name| {
        let (stranger, body) = (stranger.clone(), named(name, &json!("wrong")));
        tokio::spawn(async move { stranger.post("/v3/auth/tokens", &body).await })
    });
    until("both wait", async || Ok(app.passwords.waiting() == guesses.len())).await?;
    drop(held);
    for guess in guesses {
        assert_eq!(guess.await??.status, 401);
    }
    server.stop().await;
    Ok(())
}

#[tokio::test]
async fn a_user_has_a_bounded_number_of_credentials() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let (red, blue) = (cloud.tenant("red", "member").await?, cloud.tenant("blue", "member").await?);
    let most = mizar_db::identity::credentials::CREDENTIALS_MAX;
    let fill = format!(
        "INSERT INTO application_credentials (id, user_id, project_id, name, secret_hash) \
         SELECT gen_random_uuid(), '{}', '{}', 'c' || n, 'x' FROM generate_series(2, {most}) n",
        red.user, red.project
    );
    cloud.sql(&fill).await?;
    // The last place goes to one of two who want it at once.
    let (one, two) = futures::join!(make(&red, json!({"name": "one"})), make(&red, json!({"name": "two"})));
    let mut statuses = [one?.status.as_u16(), two?.status.as_u16()];
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 403]);
    make(&blue, json!({"name": "one"})).await?.ok(201)?;
    Ok(())
}
