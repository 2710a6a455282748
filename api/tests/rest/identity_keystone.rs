//! A real Keystone, from PyPI, says who somebody is.

use crate::support::{Client, Cloud, until};
use actix_web::{App as ActixApp, HttpRequest, HttpResponse, HttpServer, web};
use anyhow::{Context as _, ensure};
use mizar_api::identity::authority::{Authority, Setting};
use mizar_api::identity::keystone::Keystone;
use mizar_api::observe::limits::Limits;
use mizar_api::server::{self, Server};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Child;
use tokio::sync::Semaphore;

/// A Keystone with its database in the cloud's directory; ends when dropped.
struct Real {
    url: String,
    /// Keystone ends with its standard input.
    _process: Child,
}

impl Real {
    async fn start(cloud: &Cloud) -> anyhow::Result<Self> {
        let directory = cloud.state_dir().join("keystone");
        std::fs::create_dir(&directory)?;
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/rest/run_keystone.py");
        let log = std::fs::File::create(directory.join("log"))?;
        let mut process = crate::tools::tool("python3")?
            .arg(script)
            .arg(&directory)
            .arg("secret")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()?;
        let mut port = String::new();
        let mut output = BufReader::new(process.stdout.as_mut().context("it is piped")?);
        let said = output.read_line(&mut port);
        tokio::time::timeout(Duration::from_secs(300), said).await.context("Keystone does not start")??;
        let log = || std::fs::read_to_string(directory.join("log")).unwrap_or_default();
        ensure!(!port.is_empty(), "Keystone has ended: {}", log());
        Ok(Self { url: format!("http://127.0.0.1:{}/v3", port.trim()), _process: process })
    }

    /// A token for a project, or what else `scope` says.
    async fn log_in(&self, user: &str, scope: &Value) -> anyhow::Result<String> {
        let identity = json!({"methods": ["password"], "password": {"user": {
            "name": user, "password": "secret", "domain": {"id": "default"},
        }}});
        let body = json!({"auth": {"identity": identity, "scope": scope}});
        let answer = reqwest::Client::new().post(format!("{}/auth/tokens", self.url)).json(&body).send().await?;
        ensure!(answer.status() == 201, "{user}: {}", answer.status());
        Ok(answer.headers()["x-subject-token"].to_str()?.to_owned())
    }

    async fn ask(&self, method: &str, path: &str, token: &str, body: Value) -> anyhow::Result<Value> {
        let request = reqwest::Client::new().request(method.parse()?, format!("{}{path}", self.url));
        let request = request.header("X-Auth-Token", token).header("X-Subject-Token", token);
        let request = if body.is_null() { request } else { request.json(&body) };
        let answer = request.send().await?;
        ensure!(answer.status().is_success(), "{method} {path}: {}", answer.text().await?);
        Ok(serde_json::from_str(&answer.text().await?).unwrap_or_default())
    }
}

fn project(name: &str) -> Value {
    json!({"project": {"name": name, "domain": {"id": "default"}}})
}

/// A server that asks this Keystone, as configured by a file.
async fn serve(cloud: &Cloud, url: &str, cache_s: u64) -> anyhow::Result<(Server, Client)> {
    serve_with(cloud, url, cache_s, Limits::default()).await
}

async fn serve_with(cloud: &Cloud, url: &str, cache_s: u64, limits: Limits) -> anyhow::Result<(Server, Client)> {
    let (file, password) = (cloud.state_dir().join("keystone.json"), cloud.state_dir().join("validator"));
    std::fs::write(&password, "secret\n")?;
    let config = json!({
        "url": url, "username": "admin", "project_name": "admin", "password_file": password, "cache_s": cache_s,
    });
    std::fs::write(&file, config.to_string())?;
    let setting: Setting = format!("keystone={}", file.display()).parse().map_err(anyhow::Error::msg)?;
    let Setting::Keystone(config) = setting else { anyhow::bail!("{setting:?}") };
    let authority = Authority::Keystone(Keystone::new(*config).map_err(anyhow::Error::msg)?);
    let (app, listener) = cloud.app_with(limits, authority)?;
    let server = server::start(app, listener, 2).await?;
    let client = Client { base: format!("http://{}", server.address), ..cloud.stranger() };
    Ok((server, client))
}

#[tokio::test]
async fn a_real_keystone_decides_who_may_what_and_its_revocations_count_within_the_cache_s_age() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let keystone = Real::start(&cloud).await?;
    let root = keystone.log_in("admin", &project("admin")).await?;
    let make = async |kind: &str, body: Value| {
        let made = keystone.ask("POST", &format!("/{kind}s"), &root, json!({ kind: body })).await?;
        anyhow::Ok(made[kind]["id"].as_str().unwrap_or_default().to_owned())
    };
    let red_project = make("project", json!({"name": "red"})).await?;
    let red_user = make("user", json!({"name": "red", "password": "secret"})).await?;
    let reader_user = make("user", json!({"name": "ann", "password": "secret"})).await?;
    let roles = keystone.ask("GET", "/roles", &root, Value::Null).await?;
    let role = |name: &str| {
        let mut all = roles["roles"].as_array().into_iter().flatten();
        all.find(|role| role["name"] == name).and_then(|role| role["id"].as_str()).unwrap_or_default().to_owned()
    };
    for (user, role) in [(&red_user, role("member")), (&reader_user, role("reader"))] {
        keystone.ask("PUT", &format!("/projects/{red_project}/users/{user}/roles/{role}"), &root, Value::Null).await?;
    }

    let (server, anybody) = serve(&cloud, &keystone.url, 2).await?;
    let red = anybody.with_token(&keystone.log_in("red", &project("red")).await?);
    let ann = anybody.with_token(&keystone.log_in("ann", &project("red")).await?);
    let admin = anybody.with_token(&root);
    let network = red.make("network", json!({"name": "n"})).await?;
    assert_eq!(network["project_id"].as_str().map(|id| id.replace('-', "")), Some(red_project.clone()));
    assert_eq!(ann.show("network", &network).await?["name"], "n");
    assert_eq!(ann.post("/v2.0/networks", &json!({"network": {}})).await?.status, 403);
    let shared = json!({"network": {"shared": true}});
    assert_eq!(red.post("/v2.0/networks", &shared).await?.status, 403);
    admin.post("/v2.0/networks", &shared).await?.ok(201)?;
    for token in ["", "nonsense", &"x".repeat(10_000)] {
        assert_eq!(anybody.with_token(token).get("/v2.0/networks").await?.fault(), (401, "Keystone"));
    }
    // An unscoped token is of nobody's project; our own tokens are worth nothing here.
    let unscoped = anybody.with_token(&keystone.log_in("red", &json!("unscoped")).await?);
    assert_eq!(unscoped.post("/v2.0/networks", &json!({"network": {}})).await?.status, 403);
    let ours = cloud.admin().await?.token.unwrap_or_default();
    assert_eq!(anybody.with_token(&ours).get("/v2.0/networks").await?.fault(), (401, "Keystone"));
    // Accounts are not kept here.
    assert_eq!(admin.get("/v3/users").await?.status, 404);
    assert_eq!(anybody.get("/").await?.body["versions"]["values"], json!([]));

    // Revoked there; remembered here, but not for long.
    keystone.ask("DELETE", "/auth/tokens", red.token.as_deref().unwrap_or_default(), Value::Null).await?;
    until("it is worth nothing", async || Ok(red.get("/v2.0/networks").await?.status == 401)).await?;
    ann.get("/v2.0/networks").await?.ok(200)?;

    // The validator's own token is revoked: it gets another.
    let (other, stranger) = serve(&cloud, &keystone.url, 0).await?;
    let ann = stranger.with_token(ann.token.as_deref().unwrap_or_default());
    ann.get("/v2.0/networks").await?.ok(200)?;
    let admin_id = keystone.ask("GET", "/users?name=admin", &root, Value::Null).await?["users"][0]["id"].clone();
    let change = json!({"user": {"password": "secret", "original_password": "secret"}});
    let path = format!("/users/{}/password", admin_id.as_str().unwrap_or_default());
    keystone.ask("POST", &path, &root, change).await?;
    // Keystone's times are whole seconds: what it gives within the second of the change is revoked
    // with what it gave before, and until then it cannot be asked.
    until("it gets another token", async || {
        let answer = ann.get("/v2.0/networks").await?;
        assert!(answer.status == 200 || answer.fault() == (503, "Keystone"), "{}", answer.text);
        Ok(answer.status == 200)
    })
    .await?;

    // Without Keystone nobody is let in, and nobody is told that the token is wrong.
    drop(keystone);
    let away = stranger.with_token("another").get("/v2.0/networks").await?;
    assert_eq!(away.fault(), (503, "Keystone"));
    server.stop().await;
    other.stop().await;
    Ok(())
}

/// A Keystone that knows the tokens that begin with `good`, and counts questions.
struct Small {
    url: String,
    asked: web::Data<AtomicUsize>,
    /// Answers that it may give; [`Self::start`] gives it enough of them.
    answers: web::Data<Semaphore>,
    handle: actix_web::dev::ServerHandle,
}

impl Small {
    fn start() -> anyhow::Result<Self> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        let url = format!("http://{}/v3", listener.local_addr()?);
        let asked = web::Data::new(AtomicUsize::new(0));
        let answers = web::Data::new(Semaphore::new(10_000));
        let (counter, allowed) = (asked.clone(), answers.clone());
        let server = HttpServer::new(move || {
            let tokens = web::resource("/v3/auth/tokens").get(Self::validate).post(Self::log_in);
            ActixApp::new().app_data(counter.clone()).app_data(allowed.clone()).service(tokens)
        });
        let server = server.workers(1).disable_signals().listen(listener)?.run();
        let handle = server.handle();
        tokio::spawn(server);
        Ok(Self { url, asked, answers, handle })
    }

    /// From now on it answers only what [`Semaphore::add_permits`] allows.
    fn hold_back(&self) {
        self.answers.forget_permits(self.answers.available_permits());
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    async fn log_in() -> HttpResponse {
        HttpResponse::Created().insert_header(("X-Subject-Token", "own")).finish()
    }

    async fn validate(
        request: HttpRequest,
        asked: web::Data<AtomicUsize>,
        answers: web::Data<Semaphore>,
    ) -> HttpResponse {
        asked.fetch_add(1, Ordering::Relaxed);
        answers.acquire().await.expect("never closed").forget();
        let token = request.headers().get("X-Subject-Token").and_then(|token| token.to_str().ok());
        if !token.is_some_and(|token| token.starts_with("good")) {
            return HttpResponse::NotFound().finish();
        }
        let domain = json!({"id": "default", "name": "Default"});
        let (now, id) = (chrono::Utc::now(), uuid::Uuid::nil().simple());
        HttpResponse::Ok().json(json!({"token": {
            "methods": ["password"], "audit_ids": ["a"],
            "issued_at": now, "expires_at": now + chrono::TimeDelta::hours(1),
            "user": {"id": "u", "name": "ann", "domain": domain},
            "project": {"id": id, "name": "red", "domain": domain},
            "roles": [{"id": "r", "name": "member"}],
        }}))
    }
}

#[tokio::test]
async fn who_brings_tokens_that_nobody_knows_is_stopped_before_keystone_is_asked() -> anyhow::Result<()> {
    let (cloud, keystone) = (Cloud::start().await?, Small::start()?);
    let allowed = 20;
    let limits = || Limits { unknown_tokens_per_min: 20, ..Limits::default() };
    let (server, anybody) = serve_with(&cloud, &keystone.url, 300, limits()).await?;
    let status =
        async |token: &str| Ok::<_, anyhow::Error>(anybody.with_token(token).get("/v2.0/networks").await?.status);
    assert_eq!(status("good").await?, 200);
    let mut refused = 0;
    for n in 0..allowed + 40 {
        match status(&format!("nonsense{n}")).await?.as_u16() {
            401 => {}
            429 => refused += 1,
            other => anyhow::bail!("{other}"),
        }
    }
    assert!(refused > 0, "{allowed} and 40 more were let through");
    assert_eq!(keystone.asked(), 1 + allowed + 40 - refused, "each that was let through, once");
    // What was told before counts on, also from this address.
    assert_eq!(status("good").await?, 200);
    assert_eq!(status("good too").await?, 429);
    server.stop().await;
    // Where there was no flood: known ones use nothing up.
    let (server, anybody) = serve_with(&cloud, &keystone.url, 300, limits()).await?;
    for n in 0..allowed + 40 {
        anybody.with_token(&format!("good{n}")).get("/v2.0/networks").await?.ok(200)?;
    }
    server.stop().await;
    keystone.handle.stop(false).await;
    Ok(())
}

#[tokio::test]
async fn many_at_once_with_a_token_that_is_somebodys_make_one_question_and_none_is_refused() -> anyhow::Result<()> {
    let (cloud, keystone) = (Cloud::start().await?, Small::start()?);
    let limits = Limits { unknown_tokens_per_min: 5, ..Limits::default() };
    let (server, anybody) = serve_with(&cloud, &keystone.url, 300, limits).await?;
    keystone.hold_back();
    let good = anybody.with_token("good");
    let all: Vec<_> = (0..60)
        .map(|_| {
            let good = good.clone();
            tokio::spawn(async move { good.get("/v2.0/networks").await })
        })
        .collect();
    // Who would be refused is answered now, and nobody else.
    until("Keystone is asked", async || Ok(keystone.asked() == 1)).await?;
    keystone.answers.add_permits(1);
    for one in all {
        one.await??.ok(200)?;
    }
    assert_eq!(keystone.asked(), 1);
    server.stop().await;
    keystone.handle.stop(false).await;
    Ok(())
}

/// Sends a request with a token, and goes away once Keystone was asked about it, before its answer.
async fn goes_away(anybody: &Client, token: &str, keystone: &Small) -> anyhow::Result<()> {
    let (before, asker) = (keystone.asked(), anybody.with_token(token));
    let request = tokio::spawn(async move { asker.get("/v2.0/networks").await.map(|answer| answer.status) });
    until("Keystone is asked", async || Ok(keystone.asked() > before || request.is_finished())).await?;
    ensure!(!request.is_finished(), "it was answered: {}", request.await??);
    request.abort();
    // The connection is closed once the task is gone; the server finds that out in its own time.
    let _ = request.await;
    keystone.answers.add_permits(1);
    Ok(())
}

#[tokio::test]
async fn who_goes_away_pays_for_nonsense_and_for_nothing_else() -> anyhow::Result<()> {
    let (cloud, keystone) = (Cloud::start().await?, Small::start()?);
    let allowed = 8;
    let limits = Limits { unknown_tokens_per_min: 8, ..Limits::default() };
    let (server, anybody) = serve_with(&cloud, &keystone.url, 300, limits).await?;
    keystone.hold_back();
    for n in 0..3 * allowed {
        goes_away(&anybody, &format!("good{n}"), &keystone).await?;
    }
    // What was asked for them is remembered.
    let asked = keystone.asked();
    for n in 0..3 * allowed {
        anybody.with_token(&format!("good{n}")).get("/v2.0/networks").await?.ok(200)?;
    }
    assert_eq!(keystone.asked(), asked);
    let mut paid = 0;
    for n in 0..3 * allowed {
        match goes_away(&anybody, &format!("nonsense{n}"), &keystone).await {
            Ok(()) => paid += 1,
            Err(error) => ensure!(error.to_string().contains("429"), "{error}"),
        }
    }
    assert!((allowed..2 * allowed).contains(&paid), "{paid}");
    server.stop().await;
    keystone.handle.stop(false).await;
    Ok(())
}

#[tokio::test]
async fn a_wrong_file_of_a_keystone_is_refused_by_field() -> anyhow::Result<()> {
    let file = std::env::temp_dir().join(format!("mizar-keystone-{}.json", uuid::Uuid::new_v4().simple()));
    let good = json!({"url": "http://127.0.0.1:1/v3", "username": "u", "password_file": "/dev/null"});
    for (name, value) in [
        ("url", json!("nowhere")),
        ("cache_s", json!(301)),
        ("password_file", json!("/nonexistent/file")),
        ("password", json!("secret")),
        ("username", Value::Null),
    ] {
        let mut config = good.clone();
        config[name] = value;
        std::fs::write(&file, config.to_string())?;
        let refused = format!("keystone={}", file.display()).parse::<Setting>();
        let said = refused.err().with_context(|| name.to_owned())?;
        assert!(said.contains(name) || said.contains("null"), "{name}: {said}");
    }
    std::fs::remove_file(&file)?;
    assert!("keystone=/nonexistent/file".parse::<Setting>().is_err());
    assert!("ldap".parse::<Setting>().is_err());
    Ok(())
}
