//! What is refused, how, and that it changes nothing.

use crate::server::{Agent, Server, expect, registration};
use mizar_wire::sync::PROTOCOL;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

async fn refused(agent: &Agent, request: &Value, status: StatusCode) -> anyhow::Result<String> {
    let answer = expect(agent.post(request).await?, status).await?;
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
    let problem: Value = answer.json().await?;
    assert_eq!(problem["status"], status.as_u16());
    Ok(problem["detail"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn malformed_syncs_are_refused_by_name() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let agent = server.agent("a", 1).await?;
    let right = serde_json::to_value(agent.request(0))?;
    let cases = [
        ("unknown field `extra`", "/extra", json!(1)),
        ("wait_s", "/wait_s", json!(31)),
        ("invalid type", "/wait_s", json!("0")),
        ("invalid value", "/wait_s", json!(-1)),
        ("cursor", "/cursor", json!("5")),
        ("cursor", "/cursor", json!("9:5:")),
        ("ack.cursor", "/ack/cursor", json!("1:2:3:4")),
        ("unknown field", "/ack/why", json!("x")),
        ("ports.wired", "/ports/wired", json!([{"port": u32::MAX, "generation": 1}])),
        ("ports.lost", "/ports/lost", json!([{"port": 1, "generation": u32::MAX}])),
        ("ack", "/epoch", json!(null)),
        ("missing field", "/ports", json!({"wired": []})),
    ];
    for (names, path, value) in cases {
        let mut request = right.clone();
        let (parent, field) = path.rsplit_once('/').unwrap_or_default();
        request.pointer_mut(parent).and_then(Value::as_object_mut).expect("an object").insert(field.into(), value);
        let detail = refused(&agent, &request, StatusCode::BAD_REQUEST).await?;
        assert!(detail.contains(names), "{path}: {detail}");
    }
    for body in ["", "[]", "{", "null", "\u{0}"] {
        expect(agent.send(Method::POST, "/sync", body).await?, StatusCode::BAD_REQUEST).await?;
    }
    let large = format!("{{\"x\":\"{}\"}}", "x".repeat(5 << 20));
    let answer = expect(agent.send(Method::POST, "/sync", &large).await?, StatusCode::PAYLOAD_TOO_LARGE).await?;
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
    Ok(())
}

#[tokio::test]
async fn malformed_registrations_make_no_host() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let agent = server.stranger("a")?;
    let right = serde_json::to_value(registration("boot", 1))?;
    let fields = ["protocol", "abi", "boot_id", "version", "underlay", "mtu", "az", "rack", "transit_hook"];
    for field in fields {
        let mut said = right.clone();
        said[field] = Value::Null;
        expect(agent.put(&said).await?, StatusCode::BAD_REQUEST).await?;
        said.as_object_mut().expect("an object").remove(field);
        expect(agent.put(&said).await?, StatusCode::BAD_REQUEST).await?;
    }
    expect(agent.page("").await?, StatusCode::NOT_FOUND).await?;
    Ok(())
}

#[tokio::test]
async fn versions_that_are_not_spoken_are_426_and_say_which_are() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let agent = server.agent("a", 1).await?;
    for field in ["protocol", "abi"] {
        let mut request = serde_json::to_value(agent.request(0))?;
        request[field] = json!(77);
        refused(&agent, &request, StatusCode::UPGRADE_REQUIRED).await?;
        let mut said = serde_json::to_value(registration("boot", 1))?;
        said[field] = json!(77);
        let answer = expect(agent.put(&said).await?, StatusCode::UPGRADE_REQUIRED).await?;
        assert_eq!(answer.headers()["upgrade"], format!("mizar-agent/{PROTOCOL}"));
    }
    Ok(())
}

#[tokio::test]
async fn who_is_not_registered_is_404() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let agent = server.stranger("a")?;
    let detail = refused(&agent, &serde_json::to_value(agent.request(0))?, StatusCode::NOT_FOUND).await?;
    assert!(detail.contains("not registered"), "{detail}");
    Ok(())
}

#[tokio::test]
async fn another_boot_is_409_until_the_lease_ends_and_then_the_former_one_is() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let mut agent = server.agent("a", 1).await?;
    agent.sync(0).await?;
    let former = agent.boot_id.clone();
    agent.boot_id = "another".into();
    let held = expect(agent.put(&registration(&agent.boot_id, 1)).await?, StatusCode::CONFLICT).await?;
    assert!(held.headers()["retry-after"].to_str()?.parse::<u64>()? <= 31);
    refused(&agent, &serde_json::to_value(agent.request(0))?, StatusCode::CONFLICT).await?;

    server.sql("UPDATE host_state SET seen_at = now() - interval '1 minute'").await?;
    agent.register(1).await?;
    agent.sync(0).await?;
    agent.boot_id = former;
    refused(&agent, &serde_json::to_value(agent.request(0))?, StatusCode::CONFLICT).await?;
    Ok(())
}

#[tokio::test]
async fn an_underlay_address_belongs_to_one_host() -> anyhow::Result<()> {
    let server = Server::start().await?;
    server.stranger("a")?.register(1).await?;
    let other = server.stranger("b")?;
    let answer = expect(other.put(&registration("boot", 1)).await?, StatusCode::CONFLICT).await?;
    assert!(answer.text().await?.contains("10.9.0.1 belongs to another host"));
    Ok(())
}

#[tokio::test]
async fn paths_and_methods_that_are_none_are_problems_too() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let agent = server.agent("a", 1).await?;
    for (method, path, status) in [
        (Method::GET, "/sync", StatusCode::METHOD_NOT_ALLOWED),
        (Method::DELETE, "", StatusCode::METHOD_NOT_ALLOWED),
        (Method::POST, "/snapshot", StatusCode::METHOD_NOT_ALLOWED),
        (Method::GET, "/nothing", StatusCode::NOT_FOUND),
    ] {
        let answer = expect(agent.send(method, path, "").await?, status).await?;
        assert_eq!(answer.headers()["content-type"], "application/problem+json");
    }
    Ok(())
}
