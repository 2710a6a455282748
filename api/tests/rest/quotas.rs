use crate::support::{Client, Cloud};
use futures::future::join_all;
use serde_json::{Value, json};

async fn limit(cloud: &Cloud, client: &Client, resource: &str, limit: i64) -> anyhow::Result<()> {
    cloud
        .sql(&format!(
            "INSERT INTO quotas (project_id, resource, max) VALUES ('{}', '{resource}', {limit}) \
             ON CONFLICT (project_id, resource) DO UPDATE SET max = excluded.max",
            client.project
        ))
        .await
}

async fn used(cloud: &Cloud, client: &Client, resource: &str) -> anyhow::Result<Vec<String>> {
    let project = &client.project;
    cloud.rows(&format!("SELECT used FROM quotas WHERE project_id = '{project}' AND resource = '{resource}'")).await
}

#[tokio::test]
async fn a_project_has_no_more_than_its_quota_and_gets_back_what_it_deletes() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let (red, blue) = (cloud.tenant("red", "member").await?, cloud.tenant("blue", "member").await?);
    limit(&cloud, &red, "network", 2).await?;
    let first = red.make("network", json!({})).await?;
    let before = cloud.dump().await?;
    let two = json!({"networks": [{}, {}]});
    let refused = red.post("/v2.0/networks", &two).await?;
    assert_eq!(refused.fault(), (409, "OverQuota"));
    assert_eq!(refused.message(), "Quota exceeded for resources: ['network'].");
    assert_eq!(cloud.dump().await?, before, "a bulk create is all or nothing");
    red.make("network", json!({})).await?;
    assert_eq!(red.post("/v2.0/networks", &json!({"network": {}})).await?.fault(), (409, "OverQuota"));
    blue.post("/v2.0/networks", &two).await?.ok(201)?;
    red.remove("network", &first).await?.ok(204)?;
    red.make("network", json!({})).await?;
    assert_eq!(used(&cloud, &red, "network").await?, ["2"]);
    Ok(())
}

#[tokio::test]
async fn the_subnets_that_go_with_a_network_are_given_back() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let red = cloud.tenant("red", "member").await?;
    let (network, _) = red.network("10.0.0.0/24").await?;
    red.make("subnet", json!({"network_id": network["id"], "cidr": "10.0.1.0/24", "ip_version": 4})).await?;
    assert_eq!(used(&cloud, &red, "subnet").await?, ["2"]);
    red.remove("network", &network).await?.ok(204)?;
    assert_eq!(
        (used(&cloud, &red, "subnet").await?, used(&cloud, &red, "network").await?),
        (vec!["0".into()], vec!["0".into()])
    );
    Ok(())
}

#[tokio::test]
async fn an_unlimited_quota_refuses_nothing_and_the_default_counts_without_a_limit() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let red = cloud.tenant("red", "member").await?;
    let many = |count: usize| json!({"networks": vec![json!({}); count]});
    assert_eq!(red.post("/v2.0/networks", &many(101)).await?.fault(), (409, "OverQuota"));
    limit(&cloud, &red, "network", -1).await?;
    red.post("/v2.0/networks", &many(101)).await?.ok(201)?;
    Ok(())
}

#[tokio::test]
async fn concurrent_creates_never_exceed_a_quota_by_one() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let red = cloud.tenant("red", "member").await?;
    let (network, _) = red.network("10.0.0.0/24").await?;
    limit(&cloud, &red, "port", 7).await?;
    let port = json!({"port": {"network_id": network["id"]}});
    for _ in 0..3 {
        let answers = join_all((0..24).map(|_| red.post("/v2.0/ports", &port))).await;
        let answers: Vec<_> = answers.into_iter().collect::<anyhow::Result<_>>()?;
        let made: Vec<Value> = answers.iter().filter(|a| a.status == 201).map(|a| a.body["port"].clone()).collect();
        assert_eq!(made.len(), 7);
        assert!(answers.iter().filter(|a| a.status != 201).all(|a| a.fault() == (409, "OverQuota")));
        assert_eq!(used(&cloud, &red, "port").await?, ["7"]);
        let gone = join_all(made.iter().map(|port| red.remove("port", port))).await;
        assert!(gone.into_iter().all(|answer| answer.is_ok_and(|answer| answer.status == 204)));
        assert_eq!(used(&cloud, &red, "port").await?, ["0"]);
    }
    Ok(())
}
