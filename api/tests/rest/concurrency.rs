use crate::support::{Cloud, address, id};
use futures::future::try_join_all;
use serde_json::{Value, json};
use std::collections::BTreeSet;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_address_is_given_twice_and_none_is_lost_when_many_want_one() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let red = cloud.tenant("red", "member").await?;
    // 61 addresses for 16 clients that take 5 each: some must go without.
    let (network, _) = red.network("10.0.0.0/26").await?;
    let clients = (0..16).map(|_| {
        let (red, body) = (red.clone(), json!({"port": {"network_id": network["id"]}}));
        async move {
            let mut made = Vec::new();
            for _ in 0..5 {
                let answer = red.post("/v2.0/ports", &body).await?;
                match answer.fault() {
                    (201, _) => made.push(answer.body["port"].clone()),
                    (409, "IpAddressGenerationFailure") => {}
                    other => anyhow::bail!("{other:?}: {}", answer.text),
                }
            }
            anyhow::Ok(made)
        }
    });
    let ports: Vec<Value> = try_join_all(clients).await?.concat();
    let addresses: BTreeSet<_> = ports.iter().map(address).collect();
    assert_eq!((ports.len(), addresses.len()), (61, 61));
    cloud.assert_entries_are_right().await?;

    let deletes = ports.iter().map(|port| red.remove("port", port));
    for answer in try_join_all(deletes).await? {
        answer.ok(204)?;
    }
    assert_eq!(cloud.rows("SELECT 1 FROM port_ips").await?.len(), 0);
    assert_eq!(cloud.rows("SELECT 1 FROM entries WHERE kind IN (7, 8) AND NOT deleted").await?.len(), 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_many_name_goes_to_one() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let red = cloud.tenant("red", "member").await?;
    let (network, _) = red.network("10.0.0.0/24").await?;
    let body = json!({"port": {"network_id": network["id"], "fixed_ips": [{"ip_address": "10.0.0.9"}]}});
    let answers = try_join_all((0..12).map(|_| red.post("/v2.0/ports", &body))).await?;
    let mut faults: Vec<(u16, &str)> = answers.iter().map(crate::support::Answer::fault).collect();
    faults.sort_unstable();
    assert_eq!(faults[0].0, 201);
    assert!(faults[1..].iter().all(|fault| *fault == (409, "IpAddressInUse")), "{faults:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bulk_creates_that_cross_each_other_all_end() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let red = cloud.tenant("red", "member").await?;
    let (one, _) = red.network("10.0.0.0/24").await?;
    let (two, _) = red.network("10.0.0.0/24").await?;
    let bulk = |first: &Value, second: &Value| {
        let port = |network: &Value, last: u8| json!({"network_id": network["id"], "fixed_ips": [{"ip_address": format!("10.0.0.{last}")}]});
        json!({"ports": (10..30).flat_map(|n| [port(first, n), port(second, 40 - n + 10)]).collect::<Vec<_>>()})
    };
    let (ab, ba) = (bulk(&one, &two), bulk(&two, &one));
    let answers = try_join_all([&ab, &ba, &ab, &ba].map(|body| red.post("/v2.0/ports", body))).await?;
    let made = answers.iter().filter(|answer| answer.status == 201).count();
    assert_eq!(made, 1, "{:?}", answers.iter().map(crate::support::Answer::fault).collect::<Vec<_>>());
    assert!(answers.iter().all(|answer| [201, 409, 503].contains(&answer.status.as_u16())));
    assert_eq!(cloud.rows("SELECT 1 FROM ports").await?.len(), 40);
    cloud.assert_entries_are_right().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ports_subnets_and_their_network_may_be_changed_at_once() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let admin = cloud.admin().await?;
    cloud.host("h1", 1500, 1).await?;
    cloud.host("h2", 1500, 2).await?;
    let (network, _) = admin.network("10.0.0.0/24").await?;
    let ports = (0..6).map(|n| {
        let (admin, network) = (admin.clone(), network.clone());
        async move {
            for round in 0..4 {
                let host = |n: usize| if n.is_multiple_of(2) { "h1" } else { "h2" };
                let port = admin.make("port", json!({"network_id": network["id"], "binding:host_id": host(n)})).await?;
                admin.update("port", &port, json!({"binding:host_id": host(n + 1)})).await?.ok(200)?;
                if round % 2 == 0 {
                    admin.remove("port", &port).await?.ok(204)?;
                }
            }
            anyhow::Ok(())
        }
    });
    let subnets = async {
        for n in 1..6 {
            let body = json!({"network_id": network["id"], "cidr": format!("10.0.{n}.0/24"), "ip_version": 4});
            let subnet = admin.make("subnet", body).await?;
            admin.update("network", &network, json!({"name": format!("n{n}")})).await?.ok(200)?;
            let path = format!("/v2.0/subnets/{}", id(&subnet));
            let answer = admin.delete(&path).await?;
            anyhow::ensure!([204, 409].contains(&answer.status.as_u16()), "{}", answer.text);
        }
        anyhow::Ok(())
    };
    let (done, changed) = futures::join!(try_join_all(ports), subnets);
    done?;
    changed?;
    assert_eq!(cloud.rows("SELECT 1 FROM ports").await?.len(), 12);
    cloud.assert_entries_are_right().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broken_database_connections_are_replaced_and_never_seen_as_a_server_error() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let red = cloud.tenant("red", "member").await?;
    let (network, _) = red.network("10.0.0.0/24").await?;
    let body = json!({"port": {"network_id": network["id"]}});
    let mut made = 0;
    for _ in 0..8 {
        let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                    WHERE datname = current_database() AND pid <> pg_backend_pid()";
        let requests = try_join_all((0..6).map(|_| red.post("/v2.0/ports", &body)));
        let (killed, answers) = futures::join!(cloud.rows(kill), requests);
        killed?;
        for answer in answers? {
            assert!([201, 503].contains(&answer.status.as_u16()), "{}: {}", answer.status, answer.text);
            made += usize::from(answer.status == 201);
        }
    }
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while red.post("/v2.0/ports", &body).await?.status != 201 {
        anyhow::ensure!(std::time::Instant::now() < deadline, "the pool did not recover");
    }
    // An answer may be lost with its connection, but never half of a port.
    assert!(cloud.rows("SELECT 1 FROM ports").await?.len() > made);
    assert_eq!(cloud.rows("SELECT 1 FROM port_ips").await?.len(), cloud.rows("SELECT 1 FROM ports").await?.len());
    cloud.assert_entries_are_right().await
}
