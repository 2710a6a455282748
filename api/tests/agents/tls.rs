//! Who is let in.

use crate::pki::Authority;
use crate::server::{Server, expect, registration};
use mizar_api::agent::Listen;
use reqwest::{Method, StatusCode};
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::IntoRawFd as _;

#[tokio::test]
async fn without_a_certificate_of_the_authority_nobody_gets_as_far_as_http() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let foreign = Authority::new()?.host("a")?;
    for identity in [None, Some(&foreign)] {
        let refused = server.client(identity)?.get(format!("{}/snapshot", server.url("a"))).send().await;
        assert!(refused.is_err(), "{refused:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_host_can_act_for_itself_only() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let mut agent = server.stranger("a")?;
    agent.register(1).await?;
    agent.url = server.url("b");
    for (method, path) in [(Method::PUT, ""), (Method::POST, "/sync"), (Method::GET, "/snapshot")] {
        let refused = expect(agent.send(method, path, "{}").await?, StatusCode::FORBIDDEN).await?;
        assert_eq!(refused.headers()["content-type"], "application/problem+json");
        let problem: serde_json::Value = refused.json().await?;
        assert_eq!(problem["type"], "urn:mizar:problem:wrong-host");
    }
    Ok(())
}

#[tokio::test]
async fn a_certificate_must_name_exactly_one_host() -> anyhow::Result<()> {
    let server = Server::start().await?;
    for uris in [&[][..], &["mizar://host/"], &["mizar://host/a", "mizar://host/b"], &["https://host/a"]] {
        let client = server.client(Some(&server.authority.uris(uris)?))?;
        let refused = client.put(server.url("a")).json(&registration("boot", 1)).send().await?;
        assert_eq!(refused.status(), StatusCode::FORBIDDEN, "{uris:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_listening_socket_is_inherited() -> anyhow::Result<()> {
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = socket.local_addr()?;
    let server = Server::start_on(Listen::Inherited(socket.into_raw_fd())).await?;
    assert_eq!(server.agents.address(), address);
    server.stranger("a")?.register(1).await
}

#[tokio::test]
async fn what_is_no_listening_socket_is_refused() -> anyhow::Result<()> {
    for fd in [-1, 0, 2] {
        assert!(Server::start_on(Listen::Inherited(fd)).await.is_err(), "descriptor {fd}");
    }
    Ok(())
}
