//! A server with a database, and clients of it.

use anyhow::{Context as _, ensure};
use diesel::QueryableByName;
use diesel::sql_types::{Nullable, Text};
use diesel_async::{RunQueryDsl as _, SimpleAsyncConnection as _};
use mizar_api::app::{App, Settings};
use mizar_api::frame::quota::Quotas;
use mizar_api::identity::authority::Authority;
use mizar_api::identity::keys::Keys;
use mizar_api::identity::password::Passwords;
use mizar_api::identity::token::Tokens;
use mizar_api::identity::turns::{Party, Turn};
use mizar_api::observe::limits::Limits;
use mizar_api::server::{self, Server};
use mizar_db::agents::register::{Registration, register};
use mizar_db::pool::Use;
use mizar_testkit::TestDb;
use mizar_wire::{Kind, Scope};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub const ADMIN_PASSWORD: &str = "correct horse battery staple";

/// A running cloud; gone when dropped.
pub struct Cloud {
    pub url: String,
    pub db: TestDb,
    state: PathBuf,
    announce_all: bool,
    server: Option<Server>,
    http: reqwest::Client,
}

impl Drop for Cloud {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.state);
    }
}

impl Cloud {
    pub async fn start() -> anyhow::Result<Self> {
        Self::announcing(false).await
    }

    /// One that says whether it announces what is only stored yet, too.
    pub async fn announcing(announce_all: bool) -> anyhow::Result<Self> {
        // RUST_LOG=info shows what the server says.
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
        let db = TestDb::create().await?;
        let state = std::env::temp_dir().join(format!("mizar-api-test-{}", uuid::Uuid::new_v4().simple()));
        std::fs::create_dir(&state)?;
        let http = reqwest::Client::new();
        let mut cloud = Self { url: String::new(), db, state, announce_all, server: None, http };
        let password = cloud.state.join("password");
        std::fs::write(&password, ADMIN_PASSWORD)?;
        server::bootstrap(&cloud.db.pool(1, Use::Commands)?, &password).await?;
        let server = cloud.replica().await?;
        cloud.url = format!("http://{}", server.address);
        cloud.server = Some(server);
        Ok(cloud)
    }

    /// Another server on the same database, with the same keys.
    pub async fn replica(&self) -> anyhow::Result<Server> {
        let (app, listener) = self.app(Limits::default())?;
        server::start(app, listener, 2).await
    }

    /// What a server on the same database consists of.
    pub fn app(&self, limits: Limits) -> anyhow::Result<(Arc<App>, TcpListener)> {
        self.app_with(limits, Tokens::new(Keys::open(&self.state)?).into())
    }

    /// The same, where somebody else says who somebody is.
    pub fn app_of(&self, authority: Authority) -> anyhow::Result<(Arc<App>, TcpListener)> {
        self.app_with(Limits::default(), authority)
    }

    /// The same, with limits.
    pub fn app_with(&self, limits: Limits, authority: Authority) -> anyhow::Result<(Arc<App>, TcpListener)> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let settings = Settings {
            public_url: format!("http://{}", listener.local_addr()?),
            region: "RegionOne".into(),
            underlay_mtu: 1500,
            lease: Duration::from_secs(30),
            token_ttl: Duration::from_secs(3600),
            limits,
            quotas: Quotas::default(),
            announce_all: self.announce_all,
        };
        // On a machine that does much else the last of many clients waits long, and is to be answered.
        let pool = self.db.pool(16, Use::Commands)?.with_patience(Duration::from_secs(60));
        Ok((Arc::new(App::new(pool, authority, settings, None)?), listener))
    }

    pub fn http(&self) -> &reqwest::Client {
        &self.http
    }

    pub fn state_dir(&self) -> &std::path::Path {
        &self.state
    }

    /// Somebody without token.
    pub fn stranger(&self) -> Client {
        Client {
            http: self.http.clone(),
            base: self.url.clone(),
            token: None,
            project: String::new(),
            user: String::new(),
        }
    }

    /// Scoped to the project `admin`.
    pub async fn admin(&self) -> anyhow::Result<Client> {
        self.stranger().login("admin", ADMIN_PASSWORD, Some("admin")).await
    }

    /// A new project with a user of the same name who has a role on it.
    pub async fn tenant(&self, name: &str, role: &str) -> anyhow::Result<Client> {
        let admin = self.admin().await?;
        let project = admin.post("/v3/projects", &json!({"project": {"name": name}})).await?.ok(201)?;
        let project = project["project"]["id"].as_str().context("no id")?.to_owned();
        self.user(name, &project, role).await?;
        self.stranger().login(name, "secret", Some(name)).await
    }

    /// A new user with a role on a project.
    pub async fn user(&self, name: &str, project: &str, role: &str) -> anyhow::Result<String> {
        let admin = self.admin().await?;
        let user = admin.post("/v3/users", &json!({"user": {"name": name, "password": "secret"}})).await?.ok(201)?;
        let user = user["user"]["id"].as_str().context("no id")?.to_owned();
        let role = role_id(role);
        admin.put(&format!("/v3/projects/{project}/users/{user}/roles/{role}"), None).await?.ok(204)?;
        Ok(user)
    }

    /// Another user on the project of a tenant.
    pub async fn colleague(&self, of: &Client, name: &str, role: &str) -> anyhow::Result<Client> {
        self.user(name, &of.project, role).await?;
        let scope = json!({"project": {"id": of.project}});
        self.stranger().login_scoped(name, "secret", Some(scope)).await
    }

    /// A host, registered as its agent would.
    pub async fn host(&self, name: &str, mtu: u16, last_byte: u8) -> anyhow::Result<u32> {
        let said = Registration {
            name: name.into(),
            boot_id: "boot".into(),
            version: "test".into(),
            abi: 1,
            underlay: [192, 0, 2, last_byte].into(),
            mtu,
            az: "az1".into(),
            rack: "r1".into(),
            transit_hook: "tcx".into(),
        };
        Ok(register(&self.db.pool(1, Use::Commands)?, &said, chrono::TimeDelta::seconds(30)).await?)
    }

    pub async fn sql(&self, statements: &str) -> anyhow::Result<()> {
        Ok(self.db.connect().await?.batch_execute(statements).await?)
    }

    /// One text per row.
    pub async fn rows(&self, query: &str) -> anyhow::Result<Vec<String>> {
        #[derive(QueryableByName)]
        struct Row {
            #[diesel(sql_type = Nullable<Text>)]
            text: Option<String>,
        }
        let query = format!("SELECT q.text::text AS text FROM ({query}) q (text)");
        let rows: Vec<Row> = diesel::sql_query(query).load(&mut self.db.connect().await?).await?;
        Ok(rows.into_iter().map(|row| row.text.unwrap_or_default()).collect())
    }

    /// Bodies of the live entries of a kind in a scope.
    pub async fn entries(&self, scope: Scope, kind: Kind) -> anyhow::Result<Vec<Value>> {
        let query = format!(
            "SELECT convert_from(body, 'UTF8') FROM entries WHERE scope = {} AND kind = {} AND NOT deleted",
            scope.to_i64(),
            kind as i16
        );
        self.rows(&query).await?.iter().map(|text| Ok(serde_json::from_str(text)?)).collect()
    }

    /// Waits until so many sessions wait for a lock.
    pub async fn until_waiting(&self, sessions: usize) -> anyhow::Result<()> {
        let query = "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
        until(&format!("{sessions} wait"), async || Ok(self.rows(query).await?.len() >= sessions)).await
    }

    /// Every row of every table.
    pub async fn dump(&self) -> anyhow::Result<Vec<String>> {
        let tables = self.rows("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1").await?;
        ensure!(tables.len() > 10, "only {tables:?}");
        let mut all = Vec::new();
        for table in tables {
            all.extend(self.rows(&format!("SELECT '{table} ' || t::text FROM {table} t ORDER BY 1")).await?);
        }
        Ok(all)
    }

    /// That desired state is what the tables say.
    pub async fn assert_entries_are_right(&self) -> anyhow::Result<()> {
        let findings = mizar_db::audit::audit(&mut self.db.connect().await?).await?;
        ensure!(findings.is_empty(), "{findings:#?}");
        Ok(())
    }
}

/// Somebody who sends requests.
#[derive(Clone)]
pub struct Client {
    pub http: reqwest::Client,
    pub base: String,
    pub token: Option<String>,
    pub project: String,
    pub user: String,
}

/// An answer, read whole.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: reqwest::header::HeaderMap,
    pub body: Value,
    pub text: String,
}

impl Answer {
    /// The body, if the status is as expected.
    pub fn ok(self, status: u16) -> anyhow::Result<Value> {
        ensure!(self.status.as_u16() == status, "expected {status}: {} {}", self.status, self.text);
        Ok(self.body)
    }

    /// Status and type of a failure.
    pub fn fault(&self) -> (u16, &str) {
        let kind = self.body["NeutronError"]["type"].as_str();
        let keystone = self.body["error"]["code"].as_u64().map(|_| "Keystone");
        (self.status.as_u16(), kind.or(keystone).unwrap_or("no error body"))
    }

    pub fn message(&self) -> &str {
        let neutron = self.body["NeutronError"]["message"].as_str();
        neutron.or(self.body["error"]["message"].as_str()).unwrap_or_default()
    }
}

impl Client {
    pub async fn login(&self, user: &str, password: &str, project: Option<&str>) -> anyhow::Result<Self> {
        let scope = project.map(|name| json!({"project": {"name": name, "domain": {"id": "default"}}}));
        self.login_scoped(user, password, scope).await
    }

    pub async fn login_scoped(&self, user: &str, password: &str, scope: Option<Value>) -> anyhow::Result<Self> {
        let answer = self.post("/v3/auth/tokens", &credentials(user, password, scope)).await?;
        ensure!(answer.status == 201, "{}: {}", answer.status, answer.text);
        let token = answer.headers["x-subject-token"].to_str()?.to_owned();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let project = text(&answer.body["token"]["project"]["id"]);
        let user = text(&answer.body["token"]["user"]["id"]);
        Ok(Self { token: Some(token), project, user, ..self.clone() })
    }

    /// Somebody without token, at another server.
    pub fn stranger_at(&self, base: &str) -> Self {
        Self { token: None, base: base.to_owned(), ..self.clone() }
    }

    pub fn with_token(&self, token: &str) -> Self {
        Self { token: Some(token.to_owned()), ..self.clone() }
    }

    pub async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<String>,
        headers: &[(&str, &str)],
    ) -> anyhow::Result<Answer> {
        let mut request = self.http.request(method, format!("{}{path}", self.base));
        if let Some(token) = &self.token {
            request = request.header("X-Auth-Token", token);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(body) = body {
            request = request.header("Content-Type", "application/json").body(body);
        }
        let response = request.send().await?;
        let (status, headers) = (response.status(), response.headers().clone());
        let text = response.text().await?;
        let body = serde_json::from_str(&text).unwrap_or(Value::Null);
        ensure!(headers.contains_key("x-openstack-request-id"), "{path}: no request id");
        Ok(Answer { status, headers, body, text })
    }

    pub async fn get(&self, path: &str) -> anyhow::Result<Answer> {
        self.send(Method::GET, path, None, &[]).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Answer> {
        self.send(Method::POST, path, Some(body.to_string()), &[]).await
    }

    pub async fn put(&self, path: &str, body: Option<&Value>) -> anyhow::Result<Answer> {
        self.send(Method::PUT, path, body.map(Value::to_string), &[]).await
    }

    pub async fn delete(&self, path: &str) -> anyhow::Result<Answer> {
        self.send(Method::DELETE, path, None, &[]).await
    }

    /// Makes an object, and returns it.
    pub async fn make(&self, kind: &str, attributes: Value) -> anyhow::Result<Value> {
        let body = self.post(&format!("/v2.0/{kind}s"), &json!({ kind: attributes })).await?.ok(201)?;
        Ok(body[kind].clone())
    }

    pub async fn update(&self, kind: &str, object: &Value, attributes: Value) -> anyhow::Result<Answer> {
        self.put(&format!("/v2.0/{kind}s/{}", id(object)), Some(&json!({ kind: attributes }))).await
    }

    pub async fn show(&self, kind: &str, object: &Value) -> anyhow::Result<Value> {
        let body = self.get(&format!("/v2.0/{kind}s/{}", id(object))).await?.ok(200)?;
        Ok(body[kind].clone())
    }

    pub async fn remove(&self, kind: &str, object: &Value) -> anyhow::Result<Answer> {
        self.delete(&format!("/v2.0/{kind}s/{}", id(object))).await
    }

    /// Shows an object of one's own to another project; returns the policy.
    pub async fn share(&self, object_type: &str, object: &Value, project: &str) -> anyhow::Result<Value> {
        let policy = json!({"object_type": object_type, "object_id": object["id"], "target_tenant": project,
            "action": "access_as_shared"});
        let made = self.post("/v2.0/rbac-policies", &json!({ "rbac_policy": policy })).await?.ok(201)?;
        Ok(made["rbac_policy"].clone())
    }

    /// A network with one subnet. In a /24 those who name no address get one from .129 to .199: they are drawn at
    /// random, and must not meet one that a test names.
    pub async fn network(&self, cidr: &str) -> anyhow::Result<(Value, Value)> {
        let drawn =
            cidr.strip_suffix(".0/24").map(|net| json!([{"start": format!("{net}.129"), "end": format!("{net}.199")}]));
        self.network_with(cidr, drawn).await
    }

    /// The same with these allocation pools, or those that a subnet has which names none.
    pub async fn network_with(&self, cidr: &str, pools: Option<Value>) -> anyhow::Result<(Value, Value)> {
        let network = self.make("network", json!({"name": "n"})).await?;
        let mut subnet = json!({"network_id": network["id"], "cidr": cidr, "ip_version": 4});
        if let Some(pools) = pools {
            subnet["allocation_pools"] = pools;
        }
        let subnet = self.make("subnet", subnet).await?;
        Ok((network, subnet))
    }
}

pub fn credentials(user: &str, password: &str, scope: Option<Value>) -> Value {
    let user = json!({"name": user, "password": password, "domain": {"id": "default"}});
    let mut auth = json!({"identity": {"methods": ["password"], "password": {"user": user}}});
    if let Some(scope) = scope {
        auth["scope"] = scope;
    }
    json!({ "auth": auth })
}

/// The id of a built-in role, as paths name it.
pub fn role_id(name: &str) -> String {
    mizar_api::frame::caller::Role::named(name).expect("a built-in role").id().simple().to_string()
}

pub fn id(object: &Value) -> &str {
    object["id"].as_str().expect("an object of the API has an id")
}

/// The first address of a port.
pub fn address(port: &Value) -> std::net::Ipv4Addr {
    port["fixed_ips"][0]["ip_address"].as_str().expect("the port has an address").parse().expect("it is one")
}

/// Ids of a list.
pub fn ids(list: &Value) -> Vec<&str> {
    list.as_array().into_iter().flatten().map(id).collect()
}

/// All turns to hash a password: while these are held, who wants one waits.
pub async fn every_turn(app: &App) -> anyhow::Result<Vec<Turn>> {
    let mut held = Vec::new();
    for _ in 0..Passwords::at_once() {
        held.push(app.passwords.turn(Party::default()).await?);
    }
    Ok(held)
}

/// Asks until the answer is yes; after half a minute it says what was waited for in vain.
pub async fn until(what: &str, mut ask: impl AsyncFnMut() -> anyhow::Result<bool>) -> anyhow::Result<()> {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while !ask().await? {
        anyhow::ensure!(std::time::Instant::now() < deadline, "in vain: {what}");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    Ok(())
}
