//! Request ids, logs, limits, metrics, readiness.

use crate::program::Program;
use crate::support::{ADMIN_PASSWORD, Answer, Client, Cloud, credentials, id};
use mizar_api::observe::limits::Limits;
use mizar_api::observe::listener;
use mizar_api::server::{self, Server};
use reqwest::Method;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};

const REQUEST_ID: &str = "req-6f9f7c1e-3b8a-4d7f-9c5e-0123456789ab";

fn request_id(answer: &Answer) -> &str {
    answer.headers["x-openstack-request-id"].to_str().expect("ASCII")
}

fn retry_after(answer: &Answer) -> Option<u64> {
    answer.headers.get("retry-after")?.to_str().ok()?.parse().ok()
}

/// Another server on the cloud's database, with limits of its own.
async fn limited(cloud: &Cloud, limits: Limits) -> anyhow::Result<(Server, Client)> {
    let (app, listener) = cloud.app(limits)?;
    let server = server::start(app, listener, 1).await?;
    let stranger = Client { base: format!("http://{}", server.address), ..cloud.stranger() };
    Ok((server, stranger))
}

#[tokio::test]
async fn a_well_formed_request_id_is_kept_and_any_other_replaced() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let nobody = cloud.stranger();
    let ask = async |id: &str| {
        let answer = nobody.send(Method::GET, "/v2.0/ports", None, &[("X-Openstack-Request-Id", id)]).await?;
        anyhow::Ok(request_id(&answer).to_owned())
    };
    assert_eq!(ask(REQUEST_ID).await?, REQUEST_ID);
    for bad in ["", "req-1", "DROP TABLE", &REQUEST_ID[4..]] {
        let made = ask(bad).await?;
        assert!(made.starts_with("req-") && made != bad, "{made}");
    }
    assert_ne!(ask("").await?, ask("").await?);
    Ok(())
}

#[tokio::test]
async fn a_project_that_asks_too_often_is_told_when_to_come_again_and_others_are_served() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let (red, blue) = (cloud.tenant("red", "member").await?, cloud.tenant("blue", "member").await?);
    let (server, nobody) = limited(&cloud, Limits { project_per_s: 1, ..Limits::default() }).await?;
    let at = |client: &Client| Client { base: nobody.base.clone(), ..client.clone() };
    let (red, blue) = (at(&red), at(&blue));
    let mut served = 0;
    let refused = loop {
        let answer = red.get("/v2.0/networks").await?;
        if answer.status != 200 {
            break answer;
        }
        served += 1;
        anyhow::ensure!(served < 1000, "nobody is ever refused");
    };
    assert!(served >= 5, "{served}");
    assert_eq!(refused.fault(), (429, "OverLimit"));
    assert!(retry_after(&refused).is_some_and(|seconds| (1..=2).contains(&seconds)), "{:?}", refused.headers);
    assert_eq!(blue.get("/v2.0/networks").await?.status, 200);
    server.stop().await;
    Ok(())
}

#[tokio::test]
async fn failed_logins_use_up_an_address_and_good_ones_do_not() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let (server, nobody) = limited(&cloud, Limits { failed_logins_per_min: 3, ..Limits::default() }).await?;
    for _ in 0..6 {
        nobody.login("admin", ADMIN_PASSWORD, Some("admin")).await?;
    }
    let wrong = credentials("admin", "wrong", None);
    for _ in 0..3 {
        assert_eq!(nobody.post("/v3/auth/tokens", &wrong).await?.status, 401);
    }
    let right = credentials("admin", ADMIN_PASSWORD, None);
    for body in [&wrong, &right] {
        let refused = nobody.post("/v3/auth/tokens", body).await?;
        assert_eq!(refused.fault(), (429, "Keystone"));
        assert!(retry_after(&refused).is_some_and(|seconds| (1..=21).contains(&seconds)), "{:?}", refused.headers);
    }
    let hidden = nobody.post("/v3/auth/%74okens", &right).await?;
    assert_eq!(hidden.fault(), (429, "Keystone"), "however the path is written");
    assert_eq!(nobody.get("/v3").await?.status, 200, "only logins are refused");
    server.stop().await;
    Ok(())
}

#[tokio::test]
async fn the_limit_of_bodies_is_a_setting() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let admin = cloud.admin().await?;
    let (server, nobody) = limited(&cloud, Limits { body_bytes: 5_000, ..Limits::default() }).await?;
    let admin = Client { base: nobody.base.clone(), ..admin };
    let body = |size| json!({"network": {"name": "n", "description": "", "": "x".repeat(size)}});
    assert_eq!(admin.post("/v2.0/networks", &body(4_000)).await?.status, 400, "small enough to be looked at");
    assert_eq!(admin.post("/v2.0/networks", &body(5_000)).await?.fault(), (413, "RequestTooLarge"));
    server.stop().await;
    Ok(())
}

/// The value of a series.
fn value(text: &str, series: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
}

#[tokio::test]
async fn metrics_count_by_pattern_name_no_tenant_and_are_not_public() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let red = cloud.tenant("crimson", "member").await?;
    let mut program = Program::start(&cloud, &["--requests-per-s", "1"]).await?;
    let red = program.client(&red);
    let port = red.make("network", json!({})).await?;
    red.show("network", &port).await?;
    red.get("/v2.0/nothing/here").await?;
    red.send(Method::from_bytes(b"BREW")?, "/v2.0/networks", None, &[]).await?;
    while red.get("/v2.0/networks").await?.status != 429 {}
    let operator = Client { base: program.operators.clone(), ..cloud.stranger() };
    let text = operator.http.get(format!("{}/metrics", operator.base)).send().await?.text().await?;
    let answered = |method, route, status| {
        value(&text, &format!(r#"mizar_api_requests_total{{method="{method}",route="{route}",status="{status}"}}"#))
    };
    assert_eq!(answered("POST", "/v2.0/networks", 201), Some(1.0), "{text}");
    assert_eq!(answered("GET", "/v2.0/networks/{id}", 200), Some(1.0));
    assert_eq!(answered("GET", "none", 404), Some(1.0));
    assert_eq!(answered("other", "/v2.0/networks", 405), Some(1.0));
    assert_eq!(answered("GET", "/v2.0/networks", 429), Some(1.0));
    assert_eq!(value(&text, r#"mizar_api_rate_limited_total{limit="project"}"#), Some(1.0));
    let took = r#"mizar_api_request_duration_seconds_count{method="POST",route="/v2.0/networks"}"#;
    assert_eq!(value(&text, took), Some(1.0));
    for pool in ["commands", "own", "feed", "reports", "registrations"] {
        assert!(value(&text, &format!(r#"mizar_api_database_connections_max{{pool="{pool}"}}"#)) > Some(0.0));
    }
    assert!(value(&text, "mizar_api_feed_age_seconds").is_some_and(|age| (0.0..5.0).contains(&age)));
    assert_eq!(value(&text, "mizar_api_polls_waiting"), Some(0.0));
    assert_eq!(value(&text, "mizar_api_password_hashing_waiting"), Some(0.0));
    assert!(value(&text, "process_resident_memory_bytes") > Some(1e6));
    assert!(value(&text, "process_cpu_seconds_total") > Some(0.0));
    assert!(text.ends_with("# EOF\n"));
    for secret in [id(&port), &red.project, &red.user, "crimson", ADMIN_PASSWORD] {
        assert!(!text.contains(secret), "{secret} is in the metrics");
    }
    let public = Client { base: program.url.clone(), ..cloud.stranger() };
    assert_eq!(public.get("/metrics").await?.status, 404);
    program.line(|line| line["status"] == 429).await?;
    program.kill().await
}

#[tokio::test]
async fn each_request_is_one_line_of_json_without_secrets() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let red = cloud.tenant("red", "member").await?;
    let mut program = Program::start(&cloud, &[]).await?;
    let red = program.client(&red);
    let network = red.make("network", json!({"name": "on-mars"})).await?;
    let path = format!("/v2.0/networks/{}", id(&network));
    red.send(Method::GET, &format!("{path}?fields=name"), None, &[("X-Openstack-Request-Id", REQUEST_ID)]).await?;
    let fresh = red.stranger_at(&program.url).login("red", "secret", Some("red")).await?;
    let refused = red.stranger_at(&program.url).login("red", "guessed wrong", Some("red")).await;
    assert!(refused.is_err(), "a wrong password");
    red.stranger_at(&program.url).get("/v2.0/%0a%22forged").await?;
    program.line(|line| line["span"]["path"] == "/v2.0/%0a%22forged").await?;
    let lines = program.log()?;
    let of = |id: &str| lines.iter().filter(|line| line["span"]["id"] == id).collect::<Vec<&Value>>();
    let shown = of(REQUEST_ID);
    assert_eq!(shown.len(), 1, "{lines:#?}");
    let line = shown[0];
    assert_eq!((&line["route"], &line["status"]), (&json!("/v2.0/networks/{id}"), &json!(200)));
    assert_eq!((&line["project"], &line["user"]), (&json!(red.project), &json!(red.user)));
    assert_eq!((&line["span"]["method"], &line["span"]["path"]), (&json!("GET"), &json!(path)));
    assert!(line["ms"].as_f64().is_some_and(|ms| ms > 0.0));
    let answered = lines.iter().filter(|line| line["message"] == "answered").count();
    assert_eq!(answered, 5, "{lines:#?}");
    let text = lines.iter().map(Value::to_string).collect::<String>();
    let tokens = [&red.token, &fresh.token].map(|token| token.clone().expect("a token"));
    for secret in ["secret", "guessed wrong", "on-mars", &tokens[0], &tokens[1], "fields=name"] {
        assert!(!text.contains(secret), "{secret} is in the log");
    }
    program.kill().await
}

#[tokio::test]
async fn readiness_says_what_is_missing_and_only_operators_why() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let nobody = cloud.stranger();
    let ready = nobody.get("/readyz").await?.ok(200)?;
    assert_eq!(ready["checks"]["database"], "ok");
    assert_eq!(ready["checks"]["signing_keys"], "ok");

    let (app, _) = cloud.app(Limits::default())?;
    let operators = listener::start(Arc::clone(&app), std::net::TcpListener::bind("127.0.0.1:0")?)?;
    let explain = async || {
        let answer = cloud.http().get(format!("http://{}/readyz", operators.address)).send().await?;
        anyhow::Ok((answer.status().as_u16(), answer.json::<Value>().await?))
    };
    assert_eq!(explain().await?.0, 200);
    cloud.sql("DELETE FROM __diesel_schema_migrations WHERE version = (SELECT max(version) FROM __diesel_schema_migrations)").await?;
    // Everybody's answer may be a second old.
    let deadline = Instant::now() + Duration::from_secs(20);
    let unready = loop {
        let answer = nobody.get("/readyz").await?;
        if answer.status == 503 {
            break answer.body;
        }
        anyhow::ensure!(Instant::now() < deadline, "{}", answer.text);
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!((&unready["checks"]["database"], &unready["checks"]["migrations"]), (&json!("ok"), &json!("failing")));
    let (status, why) = explain().await?;
    assert_eq!(status, 503);
    assert!(why["checks"]["migrations"].as_str().is_some_and(|why| why.contains("older")), "{why}");
    app.own.close();
    let (status, why) = explain().await?;
    assert_eq!(status, 503);
    assert!(why["checks"]["database"].as_str().is_some_and(|why| why != "ok" && why != "failing"), "{why}");
    assert_eq!(nobody.get("/healthz").await?.status, 200);
    operators.stop().await;
    Ok(())
}
