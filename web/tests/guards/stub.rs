//! A small API that remembers what it was asked: tokens for two users, networks of theirs.

use actix_web::dev::ServerHandle;
use actix_web::http::StatusCode;
use actix_web::web::{Bytes, Data, Query};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use anyhow::Context as _;
use chrono::{TimeDelta, Utc};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::TcpListener;
use std::sync::{Arc, Mutex, MutexGuard};

/// Ann's network in project red.
pub const REDS: &str = "6f1c2f60-0000-4000-8000-000000000001";

/// A question that came.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Method and path.
    pub what: String,
    /// `X-Auth-Token`, or the token that shall be revoked.
    pub token: String,
    /// `X-Forwarded-For`.
    pub from: String,
}

#[derive(Debug)]
struct State {
    asked: Vec<Asked>,
    networks: BTreeMap<String, Value>,
    /// It answers nobody, as behind a proxy that it is not there for.
    away: bool,
    /// How long its tokens count.
    lives: TimeDelta,
}

/// The API that runs.
#[derive(Debug)]
pub struct Stub {
    /// Its base.
    pub url: String,
    state: Arc<Mutex<State>>,
    handle: ServerHandle,
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl Stub {
    /// Starts it.
    pub fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let url = format!("http://{}", listener.local_addr()?);
        let network = json!({"id": REDS, "name": "front", "description": "", "project_id": "red", "revision_number": 3,
            "status": "ACTIVE", "admin_state_up": true, "shared": false, "mtu": 1400, "subnets": []});
        let networks = BTreeMap::from([(REDS.to_owned(), network)]);
        let state =
            Arc::new(Mutex::new(State { asked: Vec::new(), networks, away: false, lives: TimeDelta::hours(1) }));
        let shared = Data::from(Arc::clone(&state));
        let server = HttpServer::new(move || App::new().app_data(shared.clone()).default_service(web::to(answer)))
            .workers(1)
            .disable_signals()
            .listen(listener)?
            .run();
        let handle = server.handle();
        tokio::spawn(server);
        Ok(Self { url, state, handle })
    }

    /// What it was asked since this was called last.
    pub fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut lock(&self.state).asked)
    }

    /// Changes Ann's network, as another client would.
    pub fn rename(&self, name: &str) -> anyhow::Result<()> {
        let mut state = lock(&self.state);
        let network = state.networks.get_mut(REDS).context("the network")?;
        network["name"] = json!(name);
        network["revision_number"] = json!(network["revision_number"].as_i64().context("a revision")? + 1);
        Ok(())
    }

    /// Goes away, or comes back.
    pub fn away(&self, away: bool) {
        lock(&self.state).away = away;
    }

    /// Its next tokens count so long.
    pub fn tokens_live(&self, lives: TimeDelta) {
        lock(&self.state).lives = lives;
    }

    /// Ends it.
    pub async fn stop(self) {
        self.handle.stop(false).await;
    }
}

fn refusal(status: StatusCode, kind: &str) -> HttpResponse {
    HttpResponse::build(status)
        .json(json!({"NeutronError": {"type": kind, "message": format!("{kind}."), "detail": ""}}))
}

/// A token says whose it is and for which project: `ann/red`.
fn grant(body: &Value, token: &str, lives: TimeDelta) -> Option<HttpResponse> {
    let identity = &body["auth"]["identity"];
    let user = identity["password"]["user"]["name"].as_str().or_else(|| token.split('/').next())?;
    let wanted = body["auth"]["scope"]["project"]["id"].as_str();
    let project = wanted.unwrap_or(if user == "ann" { "red" } else { "green" });
    let said = json!({"token": {
        "user": {"id": user, "name": user}, "project": {"id": project, "name": project},
        "roles": [{"name": "member"}], "expires_at": (Utc::now() + lives).to_rfc3339(),
    }});
    Some(HttpResponse::Created().insert_header(("X-Subject-Token", format!("{user}/{project}"))).json(said))
}

async fn answer(state: Data<Mutex<State>>, request: HttpRequest, body: Bytes) -> HttpResponse {
    let header = |name: &str| {
        let value = request.headers().get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or_default().to_owned()
    };
    let (path, method) = (request.path(), request.method().as_str());
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let of_token = body["auth"]["identity"]["token"]["id"].as_str().unwrap_or_default();
    let token = [header("x-subject-token"), header("x-auth-token"), of_token.to_owned()];
    let token = token.into_iter().find(|token| !token.is_empty()).unwrap_or_default();
    let mut state = lock(&state);
    state.asked.push(Asked { what: format!("{method} {path}"), token: token.clone(), from: header("x-forwarded-for") });
    if state.away {
        return HttpResponse::ServiceUnavailable().body("<html>");
    }
    let (user, project) = token.split_once('/').unwrap_or_default();
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    match (method, segments.as_slice()) {
        ("POST", ["v3", "auth", "tokens"]) => {
            grant(&body, &token, state.lives).unwrap_or_else(|| refusal(StatusCode::UNAUTHORIZED, "Unauthorized"))
        }
        ("DELETE", ["v3", "auth", "tokens"]) => HttpResponse::NoContent().finish(),
        ("GET", ["v3", "auth", "projects"]) => {
            let own: &[&str] = if user == "ann" { &["red", "blue"] } else { &["green"] };
            let own: Vec<Value> = own.iter().map(|name| json!({"id": name, "name": name})).collect();
            HttpResponse::Ok().json(json!({ "projects": own }))
        }
        ("GET", ["v2.0", "networks"]) => {
            let marker = Query::<BTreeMap<String, String>>::from_query(request.query_string()).ok();
            let marker = marker.and_then(|query| query.get("marker").cloned());
            if marker.is_some_and(|marker| !state.networks.contains_key(&marker)) {
                return refusal(StatusCode::NOT_FOUND, "NetworkNotFound");
            }
            let own: Vec<&Value> = state.networks.values().filter(|it| it["project_id"] == project).collect();
            HttpResponse::Ok().json(json!({ "networks": own }))
        }
        ("POST", ["v2.0", "networks"]) => {
            let mut network = body["network"].clone();
            network["id"] = json!(uuid::Uuid::new_v4());
            HttpResponse::Created().json(json!({ "network": network }))
        }
        ("DELETE", ["v2.0", "networks", _]) => refusal(StatusCode::CONFLICT, "NetworkInUse"),
        (_, ["v2.0", "networks", id]) => {
            let Some(network) = state.networks.get_mut(*id).filter(|it| it["project_id"] == project) else {
                return refusal(StatusCode::NOT_FOUND, "NetworkNotFound");
            };
            if method == "PUT" {
                if header("if-match") != format!("revision_number={}", network["revision_number"]) {
                    return refusal(StatusCode::PRECONDITION_FAILED, "RevisionNumberConstraintFailed");
                }
                for (name, value) in body["network"].as_object().into_iter().flatten() {
                    network[name] = value.clone();
                }
            }
            HttpResponse::Ok().json(json!({ "network": network }))
        }
        ("GET", ["v2.0", plural]) => HttpResponse::Ok().json(json!({ *plural: [] })),
        _ => refusal(StatusCode::NOT_FOUND, "NotFound"),
    }
}
