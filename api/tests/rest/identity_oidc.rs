//! An OIDC issuer says who somebody is: a small one, made here.

use crate::support::{Answer, Client, Cloud, until};
use actix_web::{App as ActixApp, HttpResponse, HttpServer, web};
use anyhow::Context as _;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use mizar_api::identity::authority::{Authority, Setting};
use mizar_api::identity::oidc::Oidc;
use mizar_api::server::{self, Server};
use serde_json::{Value, json};
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// What the issuer publishes, and how often that was asked for.
#[derive(Default)]
struct Published {
    url: String,
    keys: Mutex<Vec<Value>>,
    asked: AtomicUsize,
    /// Takes requests and answers none.
    silent: AtomicBool,
}

struct Issuer {
    published: Arc<Published>,
    handle: actix_web::dev::ServerHandle,
}

/// A key that the issuer signs with.
struct Signer {
    kid: String,
    pem: rcgen::KeyPair,
}

impl Signer {
    fn new(kid: &str) -> anyhow::Result<Self> {
        Ok(Self { kid: kid.into(), pem: rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)? })
    }

    fn key(&self) -> anyhow::Result<EncodingKey> {
        Ok(EncodingKey::from_ec_pem(self.pem.serialize_pem().as_bytes())?)
    }

    fn sign(&self, claims: &Value) -> anyhow::Result<String> {
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some(self.kid.clone());
        Ok(jsonwebtoken::encode(&header, claims, &self.key()?)?)
    }
}

impl Issuer {
    fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let url = format!("http://{}", listener.local_addr()?);
        let published = Arc::new(Published { url, ..Published::default() });
        let shared = web::Data::from(Arc::clone(&published));
        let server = HttpServer::new(move || {
            ActixApp::new()
                .app_data(shared.clone())
                .route("/.well-known/openid-configuration", web::get().to(discovery))
                .route("/keys", web::get().to(keys))
        });
        let server = server.workers(1).disable_signals().listen(listener)?.run();
        let handle = server.handle();
        tokio::spawn(server);
        Ok(Self { published, handle })
    }

    fn publish(&self, signer: &Signer) -> anyhow::Result<()> {
        let mut key = Jwk::from_encoding_key(&signer.key()?, Algorithm::ES256)?;
        key.common.key_id = Some(signer.kid.clone());
        let unknown = json!({"kty": "XYZ", "kid": "of a kind that nobody knows"});
        self.published.keys.lock().expect("nobody panics").extend([unknown, serde_json::to_value(key)?]);
        Ok(())
    }

    fn asked(&self) -> usize {
        self.published.asked.load(Ordering::Relaxed)
    }

    /// A token that is fine, but for what `more` says; null takes a claim away.
    fn claims(&self, more: &Value) -> Value {
        let now = chrono::Utc::now().timestamp();
        let mut claims = json!({
            "iss": self.published.url, "aud": ["other", "mizar"], "sub": "ann-1", "preferred_username": "ann",
            "iat": now, "nbf": now, "exp": now + 600, "project_id": "red", "realm_access": {"roles": ["staff", "dev"]},
        });
        let all = claims.as_object_mut().expect("made as one");
        for (name, value) in more.as_object().into_iter().flatten() {
            all.insert(name.clone(), value.clone());
        }
        all.retain(|_, value| !value.is_null());
        claims
    }
}

async fn discovery(published: web::Data<Published>) -> HttpResponse {
    let url = &published.url;
    HttpResponse::Ok().json(json!({"issuer": url, "jwks_uri": format!("{url}/keys"), "more": 1}))
}

async fn keys(published: web::Data<Published>) -> HttpResponse {
    published.asked.fetch_add(1, Ordering::Relaxed);
    if published.silent.load(Ordering::Relaxed) {
        return futures::future::pending().await;
    }
    HttpResponse::Ok().json(json!({"keys": *published.keys.lock().expect("nobody panics")}))
}

const RED: &str = "9d3c6f2e-8a7b-4c1d-8e5f-60718293a4b5";

fn config(issuer: &Issuer) -> Value {
    json!({
        "issuer": issuer.published.url,
        "audience": "mizar",
        "refetch_s": 1,
        "leeway_s": 2,
        "claims": {"roles": "realm_access.roles"},
        "roles": {"dev": "member", "look": "reader", "operators": "admin"},
        "projects": {"red": RED},
    })
}

async fn serve(cloud: &Cloud, issuer: &Issuer) -> anyhow::Result<(Server, Client)> {
    serve_as(cloud, &config(issuer)).await
}

async fn serve_as(cloud: &Cloud, config: &Value) -> anyhow::Result<(Server, Client)> {
    let file = cloud.state_dir().join("oidc.json");
    std::fs::write(&file, config.to_string())?;
    let setting: Setting = format!("oidc={}", file.display()).parse().map_err(anyhow::Error::msg)?;
    let Setting::Oidc(config) = setting else { anyhow::bail!("{setting:?}") };
    let authority = Authority::Oidc(Oidc::new(*config).map_err(anyhow::Error::msg)?);
    let (app, listener) = cloud.app_of(authority)?;
    let server = server::start(app, listener, 2).await?;
    let client = Client { base: format!("http://{}", server.address), ..cloud.stranger() };
    Ok((server, client))
}

async fn list(anybody: &Client, token: &str) -> anyhow::Result<Answer> {
    anybody.with_token(token).get("/v2.0/networks").await
}

#[tokio::test]
async fn claims_become_user_project_and_roles_as_configured() -> anyhow::Result<()> {
    let (cloud, issuer, signer) = (Cloud::start().await?, Issuer::start()?, Signer::new("k1")?);
    issuer.publish(&signer)?;
    let (server, anybody) = serve(&cloud, &issuer).await?;
    let with = |more: Value| Ok::<_, anyhow::Error>(anybody.with_token(&signer.sign(&issuer.claims(&more))?));
    let ann = with(json!({}))?;
    let network = ann.make("network", json!({"name": "n"})).await?;
    assert_eq!(network["project_id"].as_str().map(|id| id.replace('-', "")), Some(RED.replace('-', "")));
    let looker = with(json!({"realm_access": {"roles": "look other"}, "project_id": RED}))?;
    assert_eq!(looker.show("network", &network).await?["name"], "n");
    assert_eq!(looker.post("/v2.0/networks", &json!({"network": {}})).await?.status, 403);
    let shared = json!({"network": {"shared": true}});
    with(json!({"realm_access": {"roles": ["operators"]}}))?.post("/v2.0/networks", &shared).await?.ok(201)?;
    // What the issuer calls admin is nothing here.
    let named = with(json!({"realm_access": {"roles": ["admin", "member"]}}))?;
    assert_eq!(named.post("/v2.0/networks", &json!({"network": {}})).await?.status, 403);
    let stranger = with(json!({"project_id": uuid::Uuid::new_v4()}))?;
    assert_eq!(stranger.get(&format!("/v2.0/networks/{}", crate::support::id(&network))).await?.status, 404);
    let homeless = with(json!({"project_id": null}))?;
    assert_eq!(homeless.get("/v2.0/networks").await?.ok(200)?["networks"], json!([]));
    assert_eq!(ann.get("/v3/users").await?.status, 404);
    server.stop().await;
    issuer.handle.stop(false).await;
    Ok(())
}

#[tokio::test]
async fn tokens_that_the_issuer_did_not_make_for_us_now_are_worth_nothing() -> anyhow::Result<()> {
    let (cloud, issuer, signer) = (Cloud::start().await?, Issuer::start()?, Signer::new("k1")?);
    issuer.publish(&signer)?;
    let (server, anybody) = serve(&cloud, &issuer).await?;
    let now = chrono::Utc::now().timestamp();
    let good = signer.sign(&issuer.claims(&json!({})))?;
    list(&anybody, &good).await?.ok(200)?;
    let mut tokens = Vec::new();
    for (name, more) in [
        ("another issuer", json!({"iss": "https://elsewhere.example.org"})),
        ("no issuer", json!({"iss": null})),
        ("for somebody else", json!({"aud": "other"})),
        ("for nobody", json!({"aud": null})),
        ("expired", json!({"exp": now - 60})),
        ("without end", json!({"exp": null})),
        ("not yet", json!({"nbf": now + 600})),
        ("of nobody", json!({"sub": null})),
        ("of an unknown project", json!({"project_id": "blue"})),
    ] {
        tokens.push((name, signer.sign(&issuer.claims(&more))?));
    }
    let claims = issuer.claims(&json!({}));
    tokens.push(("forged", Signer::new("k1")?.sign(&claims)?));
    let mut header = Header::new(Algorithm::HS256);
    header.kid = Some("k1".into());
    let secret = EncodingKey::from_secret(signer.pem.public_key_pem().as_bytes());
    tokens.push(("the public key as a secret", jsonwebtoken::encode(&header, &claims, &secret)?));
    let rest = good.split_once('.').context("a token has dots")?.1;
    // {"alg":"none","kid":"k1"}
    tokens.push(("unsigned", format!("eyJhbGciOiJub25lIiwia2lkIjoiazEifQ.{rest}")));
    tokens.push(("cut", good[..good.len() - 4].to_owned()));
    tokens.push(("nonsense", "nonsense".into()));
    tokens.push(("our own", cloud.admin().await?.token.unwrap_or_default()));
    for (name, token) in tokens {
        assert_eq!(list(&anybody, &token).await?.fault(), (401, "Keystone"), "{name}");
    }
    list(&anybody, &good).await?.ok(200)?;
    server.stop().await;
    issuer.handle.stop(false).await;
    Ok(())
}

#[tokio::test]
async fn new_keys_are_fetched_when_they_are_used_and_not_whenever_somebody_likes() -> anyhow::Result<()> {
    let (cloud, issuer, first) = (Cloud::start().await?, Issuer::start()?, Signer::new("k1")?);
    issuer.publish(&first)?;
    let (server, anybody) = serve(&cloud, &issuer).await?;
    let old = first.sign(&issuer.claims(&json!({})))?;
    for _ in 0..5 {
        list(&anybody, &old).await?.ok(200)?;
    }
    assert_eq!(issuer.asked(), 1);
    let second = Signer::new("k2")?;
    issuer.publish(&second)?;
    let new = second.sign(&issuer.claims(&json!({})))?;
    until("the new key is fetched", async || Ok(list(&anybody, &new).await?.status == 200)).await?;
    list(&anybody, &old).await?.ok(200)?;
    // A flood of names that nobody has: at most one request a second, however long this takes.
    let (before, started) = (issuer.asked(), Instant::now());
    for n in 0..60 {
        let token = Signer::new(&format!("x{n}"))?.sign(&issuer.claims(&json!({})))?;
        assert_eq!(list(&anybody, &token).await?.status, 401);
    }
    let allowed = started.elapsed().as_secs() as usize + 1;
    assert!(issuer.asked() - before <= allowed, "{} in {allowed} s", issuer.asked() - before);
    // The issuer goes away; what is known stays known.
    issuer.handle.stop(false).await;
    list(&anybody, &old).await?.ok(200)?;
    let unknown = Signer::new("y")?.sign(&issuer.claims(&json!({})))?;
    assert_eq!(list(&anybody, &unknown).await?.status, 401);
    server.stop().await;
    let (server, anybody) = serve(&cloud, &issuer).await?;
    assert_eq!(list(&anybody, &old).await?.fault(), (503, "Keystone"));
    server.stop().await;
    Ok(())
}

#[tokio::test]
async fn a_silent_issuer_holds_up_nobody_whose_key_is_known() -> anyhow::Result<()> {
    let (cloud, issuer, signer) = (Cloud::start().await?, Issuer::start()?, Signer::new("k1")?);
    issuer.publish(&signer)?;
    let mut config = config(&issuer);
    config["keys_max_age_s"] = json!(1);
    let (server, anybody) = serve_as(&cloud, &config).await?;
    let token = signer.sign(&issuer.claims(&json!({})))?;
    list(&anybody, &token).await?.ok(200)?;
    issuer.published.silent.store(true, Ordering::Relaxed);
    let before = issuer.asked();
    // Until the keys are so old that they are asked for again.
    until("the issuer is asked", async || {
        list(&anybody, &token).await?.ok(200)?;
        Ok(issuer.asked() > before)
    })
    .await?;
    // Somebody asks now, and is not answered. Ten strangers wait for him, all for the one question.
    let strangers = (0..10).map(|n| {
        let (anybody, claims) = (&anybody, issuer.claims(&json!({})));
        async move { list(anybody, &Signer::new(&format!("x{n}"))?.sign(&claims)?).await }
    });
    let strangers = futures::future::try_join_all(strangers);
    let known = async {
        for _ in 0..3 {
            list(&anybody, &token).await?.ok(200)?;
        }
        anyhow::Ok(())
    };
    tokio::pin!(strangers);
    tokio::select! {
        done = known => done?,
        _ = &mut strangers => anyhow::bail!("strangers were answered first"),
    }
    for answer in strangers.await? {
        assert_eq!(answer.fault(), (401, "Keystone"));
    }
    assert!(issuer.asked() <= before + 3, "{} questions", issuer.asked() - before);
    server.stop().await;
    issuer.handle.stop(false).await;
    Ok(())
}

#[tokio::test]
async fn keys_that_the_issuer_does_not_confirm_count_no_more_after_their_time() -> anyhow::Result<()> {
    let (cloud, issuer, signer) = (Cloud::start().await?, Issuer::start()?, Signer::new("k1")?);
    issuer.publish(&signer)?;
    let mut config = config(&issuer);
    (config["keys_max_age_s"], config["keys_expire_s"]) = (json!(1), json!(3));
    let (server, anybody) = serve_as(&cloud, &config).await?;
    let token = signer.sign(&issuer.claims(&json!({})))?;
    list(&anybody, &token).await?.ok(200)?;
    // For as long as it answers they count, however old they get meanwhile.
    let started = Instant::now();
    until("they are older than they may be", async || {
        list(&anybody, &token).await?.ok(200)?;
        Ok(started.elapsed() > Duration::from_secs(5))
    })
    .await?;
    issuer.handle.stop(false).await;
    until("they have expired", async || {
        let answer = list(&anybody, &token).await?;
        assert!(answer.status == 200 || answer.fault() == (503, "Keystone"), "{}", answer.text);
        Ok(answer.status == 503)
    })
    .await?;
    server.stop().await;
    Ok(())
}

#[tokio::test]
async fn a_wrong_file_of_an_issuer_is_refused_by_field() -> anyhow::Result<()> {
    let issuer = Issuer::start()?;
    let file = std::env::temp_dir().join(format!("mizar-oidc-{}.json", uuid::Uuid::new_v4().simple()));
    for (name, value, said) in [
        ("issuer", json!("nowhere"), "issuer"),
        ("audience", json!(""), "audience"),
        ("algorithms", json!(["HS256"]), "HS256"),
        ("algorithms", json!(["none"]), "none"),
        ("algorithms", json!([]), "algorithms"),
        ("leeway_s", json!(121), "leeway_s"),
        ("refetch_s", json!(0), "refetch_s"),
        ("keys_max_age_s", json!(0), "keys_max_age_s"),
        ("keys_expire_s", json!(3600), "keys_expire_s"),
        ("roles", json!({}), "roles"),
        ("roles", json!({"dev": "king"}), "king"),
        ("projects", json!({"red": "red"}), "UUID"),
        ("colour", json!(1), "colour"),
    ] {
        let mut config = config(&issuer);
        config[name] = value;
        std::fs::write(&file, config.to_string())?;
        let refused = format!("oidc={}", file.display()).parse::<Setting>().err().with_context(|| name.to_owned())?;
        assert!(refused.contains(said), "{name}: {refused}");
    }
    std::fs::remove_file(&file)?;
    issuer.handle.stop(false).await;
    Ok(())
}
