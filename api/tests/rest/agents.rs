//! Hosts as Neutron's agents, and their availability zones.

use crate::support::{Cloud, id, ids};
use serde_json::{Value, json};

/// No lease ends during the test, however slow the machine is.
async fn heard(cloud: &Cloud) -> anyhow::Result<()> {
    cloud.sql("UPDATE host_state SET seen_at = now() + interval '1 h'").await
}

#[tokio::test]
async fn each_host_is_an_agent_that_says_what_its_host_does() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let admin = cloud.admin().await?;
    let h1 = cloud.host("h1", 1500, 1).await?;
    let (network, _) = admin.network("10.0.0.0/24").await?;
    admin.make("port", json!({"network_id": network["id"], "binding:host_id": "h1"})).await?;
    heard(&cloud).await?;
    let roles = "INSERT INTO subscriptions (host, scope, lo, role, state, deleted) VALUES";
    cloud
        .sql(&format!("{roles} ({h1}, 5, 0, 2, 2, false), ({h1}, 6, 0, 2, 2, false), ({h1}, 7, 0, 2, 2, true), ({h1}, 8, 0, 3, 2, false)"))
        .await?;

    let list = admin.get("/v2.0/agents").await?.ok(200)?;
    let agent = &list["agents"][0];
    assert_eq!((&agent["host"], &agent["binary"]), (&json!("h1"), &json!("mizar-agent")));
    assert_eq!((&agent["alive"], &agent["admin_state_up"]), (&json!(true), &json!(true)));
    assert_eq!((&agent["availability_zone"], &agent["description"]), (&json!("az1"), &Value::Null));
    for time in ["heartbeat_timestamp", "started_at", "created_at"] {
        assert!(agent[time].as_str().is_some_and(|text| text.ends_with('Z')), "{time}: {agent}");
    }
    let does = &agent["configurations"];
    assert_eq!((&does["bouncers"], &does["dividers"], &does["ports"]), (&json!(2), &json!(1), &json!(1)));
    assert_eq!(
        (&does["transit"], &does["rack"], &does["underlay"]),
        (&json!("yes"), &json!("r1"), &json!("192.0.2.1"))
    );
    assert_eq!(admin.show("agent", agent).await?, *agent);
    assert_eq!(admin.get("/v2.0/agents/h1").await?.fault(), (404, "AgentNotFound"));
    Ok(())
}

#[tokio::test]
async fn agents_are_found_by_what_they_are_and_whether_they_live() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let admin = cloud.admin().await?;
    let mut numbers = Vec::new();
    for (name, byte) in [("h1", 1), ("h2", 2), ("h3", 3)] {
        numbers.push(cloud.host(name, 1500, byte).await?);
    }
    heard(&cloud).await?;
    cloud.sql(&format!("UPDATE hosts SET az = 'az2' WHERE number = {}", numbers[1])).await?;
    cloud.sql(&format!("UPDATE host_state SET seen_at = now() - interval '1 h' WHERE host = {}", numbers[1])).await?;
    cloud.sql(&format!("DELETE FROM host_state WHERE host = {}", numbers[2])).await?;
    let found = async |query: &str| -> anyhow::Result<Vec<String>> {
        let body = admin.get(&format!("/v2.0/agents?sort_key=host&sort_dir=asc&{query}")).await?.ok(200)?;
        let agents = body["agents"].as_array().cloned().unwrap_or_default();
        Ok(agents.iter().filter_map(|agent| agent["host"].as_str().map(str::to_owned)).collect())
    };
    assert_eq!(found("").await?, ["h1", "h2", "h3"]);
    assert_eq!(found("alive=True").await?, ["h1"]);
    assert_eq!(found("alive=false").await?, ["h2", "h3"]);
    assert_eq!(found("alive=true&alive=false").await?.len(), 3);
    assert_eq!(found("host=h2&host=h3").await?, ["h2", "h3"]);
    assert_eq!(found("availability_zone=az2").await?, ["h2"]);
    assert_eq!(found("agent_type=Mizar%20agent&binary=mizar-agent&topic=N/A").await?.len(), 3);
    assert_eq!(found("agent_type=DHCP%20agent").await?.len(), 0);
    assert_eq!(found("binary=neutron-l3-agent").await?.len(), 0);
    assert_eq!(found("admin_state_up=false").await?.len(), 0);
    let last = admin.get("/v2.0/agents?sort_key=host&sort_dir=desc&limit=2").await?.ok(200)?;
    assert_eq!((&last["agents"][0]["host"], &last["agents"][1]["host"]), (&json!("h3"), &json!("h2")));
    assert_eq!(admin.get("/v2.0/agents?alive=perhaps").await?.fault(), (400, "InvalidInput"));
    assert_eq!(admin.get("/v2.0/agents?started_at=x").await?.fault(), (400, "HTTPBadRequest"));
    Ok(())
}

#[tokio::test]
async fn operators_describe_agents_and_can_neither_put_them_down_nor_delete_them() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let admin = cloud.admin().await?;
    cloud.host("h1", 1500, 1).await?;
    let agent = admin.get("/v2.0/agents").await?.ok(200)?["agents"][0].clone();
    let described =
        admin.update("agent", &agent, json!({"description": "left", "admin_state_up": true})).await?.ok(200)?;
    assert_eq!(described["agent"]["description"], "left");
    assert_eq!(ids(&admin.get("/v2.0/agents?description=left").await?.ok(200)?["agents"]), [id(&agent)]);
    let again = admin.update("agent", &agent, json!({"description": null})).await?.ok(200)?;
    assert_eq!(again["agent"]["description"], Value::Null);

    heard(&cloud).await?;
    let before = cloud.dump().await?;
    let down = admin.update("agent", &agent, json!({"admin_state_up": false})).await?;
    assert_eq!(down.fault(), (400, "HTTPBadRequest"));
    assert!(down.message().contains("admin_state_up") && down.message().contains("transit"), "{}", down.message());
    for wrong in [json!({"host": "h2"}), json!({"configurations": {}}), json!({"description": 1}), json!({"colour": 1})]
    {
        assert_eq!(admin.update("agent", &agent, wrong.clone()).await?.fault(), (400, "HTTPBadRequest"), "{wrong}");
    }
    let alive = admin.remove("agent", &agent).await?;
    assert_eq!(alive.fault(), (409, "AgentInUse"));
    assert!(alive.message().contains("is alive"), "{}", alive.message());
    assert_eq!(admin.post("/v2.0/agents", &json!({"agent": {}})).await?.fault(), (405, "HTTPMethodNotAllowed"));
    assert_eq!(cloud.dump().await?, before);
    cloud.sql("UPDATE host_state SET seen_at = now() - interval '1 h'").await?;
    let dead = admin.remove("agent", &agent).await?;
    assert_eq!(dead.fault(), (409, "AgentInUse"));
    assert!(dead.message().contains("number"), "{}", dead.message());
    Ok(())
}

#[tokio::test]
async fn agents_are_the_operators_alone() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let (admin, red) = (cloud.admin().await?, cloud.tenant("red", "member").await?);
    cloud.host("h1", 1500, 1).await?;
    let agent = admin.get("/v2.0/agents").await?.ok(200)?["agents"][0].clone();
    assert_eq!(red.get("/v2.0/agents").await?.fault(), (403, "PolicyNotAuthorized"));
    assert_eq!(red.get(&format!("/v2.0/agents/{}", id(&agent))).await?.fault(), (403, "PolicyNotAuthorized"));
    assert_eq!(red.update("agent", &agent, json!({"description": "x"})).await?.status, 404);
    assert_eq!(red.remove("agent", &agent).await?.status, 404);
    Ok(())
}

#[tokio::test]
async fn a_zone_is_available_while_one_of_its_hosts_lives() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let red = cloud.tenant("red", "reader").await?;
    let none = red.get("/v2.0/availability_zones").await?.ok(200)?;
    assert_eq!(none, json!({"availability_zones": []}));
    let mut numbers = Vec::new();
    for (name, byte) in [("h1", 1), ("h2", 2), ("h3", 3)] {
        numbers.push(cloud.host(name, 1500, byte).await?);
    }
    heard(&cloud).await?;
    cloud.sql(&format!("UPDATE hosts SET az = 'az2' WHERE number = {}", numbers[2])).await?;
    let silent = "UPDATE host_state SET seen_at = now() - interval '1 h' WHERE host";
    cloud.sql(&format!("{silent} IN ({}, {})", numbers[0], numbers[2])).await?;
    let zone = |name, state| json!({"name": name, "resource": "network", "state": state});
    let (az1, az2) = (zone("az1", "available"), zone("az2", "unavailable"));
    let zones = red.get("/v2.0/availability_zones.json").await?.ok(200)?;
    assert_eq!(zones["availability_zones"], json!([az1, az2]));
    let zones = red.get("/v2.0/availability_zones?state=unavailable&resource=network").await?.ok(200)?;
    assert_eq!(zones["availability_zones"], json!([az2]));
    let zones = red.get("/v2.0/availability_zones?name=az1&fields=name").await?.ok(200)?;
    assert_eq!(zones["availability_zones"], json!([{"name": "az1"}]));
    assert_eq!(red.get("/v2.0/availability_zones?id=1").await?.fault(), (400, "HTTPBadRequest"));
    assert_eq!(red.post("/v2.0/availability_zones", &json!({})).await?.status, 405);
    assert_eq!(red.get("/v2.0/service-providers").await?.ok(200)?, json!({"service_providers": []}));
    Ok(())
}

#[tokio::test]
async fn started_at_is_when_the_present_boot_registered_first() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let admin = cloud.admin().await?;
    cloud.host("h1", 1500, 1).await?;
    cloud.sql("UPDATE host_state SET started_at = '2020-01-01T00:00:00Z'").await?;
    let started = async || -> anyhow::Result<Value> {
        Ok(admin.get("/v2.0/agents").await?.ok(200)?["agents"][0]["started_at"].clone())
    };
    cloud.host("h1", 1500, 1).await?;
    assert_eq!(started().await?, "2020-01-01T00:00:00Z", "the same boot again");
    cloud.sql("UPDATE host_state SET boot_id = 'earlier', seen_at = now() - interval '1 h'").await?;
    cloud.host("h1", 1500, 1).await?;
    assert_ne!(started().await?, "2020-01-01T00:00:00Z");
    Ok(())
}
