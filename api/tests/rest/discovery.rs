use crate::support::Cloud;
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

#[tokio::test]
async fn versions_are_shown_to_everyone() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let stranger = cloud.stranger();
    let root = stranger.get("/").await?.ok(300)?;
    assert_eq!(root["versions"]["values"][0]["id"], "v3.14");
    assert_eq!(stranger.get("/v3").await?.ok(200)?["version"]["status"], "stable");
    assert_eq!(stranger.get("/v3/").await?.ok(200)?["version"]["id"], "v3.14");
    stranger.get("/healthz").await?.ok(200)?;
    stranger.get("/readyz").await?.ok(200)?;
    Ok(())
}

#[tokio::test]
async fn resources_and_extensions_are_listed() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let red = cloud.tenant("red", "member").await?;
    let resources = red.get("/v2.0/").await?.ok(200)?;
    let names: Vec<Value> =
        resources["resources"].as_array().into_iter().flatten().map(|r| r["collection"].clone()).collect();
    for name in
        ["networks", "ports", "address_scopes", "subnetpools", "rbac_policies", "security_groups", "address_groups"]
    {
        assert!(names.iter().any(|listed| listed == name), "{name}");
    }
    for name in
        ["hosts", "audit_events", "agents", "network_ip_availabilities", "quotas", "policies", "trunks", "segments"]
    {
        assert!(names.iter().any(|listed| listed == name), "{name}");
    }
    let (all, distinct) = (names.len(), names.iter().map(ToString::to_string).collect::<BTreeSet<_>>().len());
    assert_eq!(all, distinct, "{names:?}");
    let list = red.get("/v2.0/extensions").await?.ok(200)?;
    let aliases: Vec<_> =
        list["extensions"].as_array().into_iter().flatten().filter_map(|e| e["alias"].as_str()).collect();
    for alias in ["mizar", "binding", "provider", "standard-attr-tag", "project-id", "stateful-security-group"] {
        assert!(aliases.contains(&alias), "{alias}");
    }
    for alias in ["router", "external-net", "trunk", "qos"] {
        assert!(!aliases.contains(&alias), "{alias} is announced but does not behave");
    }
    assert_eq!(red.get("/v2.0/extensions/mizar").await?.ok(200)?["extension"]["alias"], "mizar");
    assert_eq!(red.get("/v2.0/extensions/router").await?.fault(), (404, "ExtensionNotFound"));
    Ok(())
}

#[tokio::test]
async fn methods_and_paths_that_do_not_exist_are_refused_in_neutrons_form() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let red = cloud.tenant("red", "member").await?;
    for (method, path) in [
        (Method::PATCH, "/v2.0/networks"),
        (Method::DELETE, "/v2.0/networks"),
        (Method::PUT, "/v2.0/ports"),
        (Method::POST, "/v2.0/ports/00000000-0000-0000-0000-000000000000"),
        (Method::POST, "/v2.0/mizar/hosts"),
        (Method::DELETE, "/v2.0/mizar/hosts/x"),
        (Method::POST, "/v2.0/mizar/roles"),
        (Method::PUT, "/v3/auth/tokens"),
    ] {
        let answer = red.send(method.clone(), path, Some(json!({}).to_string()), &[]).await?;
        assert_eq!(answer.fault(), (405, "HTTPMethodNotAllowed"), "{method} {path}");
    }
    for path in ["/v2.0/flavors", "/v2.0/networks/x/y", "/v1", "/v2.0/networks/../../etc/passwd"] {
        assert_eq!(red.get(path).await?.status, 404, "{path}");
    }
    Ok(())
}

#[tokio::test]
async fn the_page_to_try_the_api_comes_from_this_server_alone() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let http = reqwest::Client::new();
    let page = http.get(format!("{}/swagger/", cloud.url)).send().await?;
    assert_eq!(page.status(), 200);
    let text = page.text().await?;
    assert!(text.contains("swagger-ui"));
    assert!(!text.contains("https://"), "the page loads from elsewhere: {text}");
    for asset in ["swagger-ui-bundle.js", "swagger-ui.css", "swagger-initializer.js"] {
        assert_eq!(http.get(format!("{}/swagger/{asset}", cloud.url)).send().await?.status(), 200, "{asset}");
    }
    let document: serde_json::Value = http.get(format!("{}/openapi.json", cloud.url)).send().await?.json().await?;
    assert_eq!(document["openapi"], "3.1.0");
    Ok(())
}

/// What arrives until nothing does for so long; fails when the server closes the connection.
async fn said(stream: &mut TcpStream, silence: Duration) -> anyhow::Result<String> {
    let (mut text, mut part) = (Vec::new(), [0; 4096]);
    while let Ok(read) = timeout(silence, stream.read(&mut part)).await {
        let read = read?;
        anyhow::ensure!(read > 0, "the server closed the connection");
        text.extend_from_slice(&part[..read]);
    }
    Ok(String::from_utf8(text)?)
}

#[tokio::test]
async fn a_connection_is_kept_while_its_client_thinks() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let mut stream = TcpStream::connect(cloud.url.trim_start_matches("http://")).await?;
    for _ in 0..2 {
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: mizar\r\n\r\n").await?;
        // Longer than the five seconds after which the framework by itself would close it.
        let answer = said(&mut stream, Duration::from_secs(7)).await?;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    Ok(())
}
