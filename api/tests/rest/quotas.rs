use crate::support::{Client, Cloud};
use diesel_async::SimpleAsyncConnection as _;
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

/// What the API says of it.
async fn details(client: &Client, resource: &str) -> anyhow::Result<(i64, i64)> {
    let quota =
        client.get(&format!("/v2.0/quotas/{}/details", client.project)).await?.ok(200)?["quota"][resource].take();
    Ok((quota["limit"].as_i64().unwrap_or(i64::MIN), quota["used"].as_i64().unwrap_or(i64::MIN)))
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

#[tokio::test]
async fn an_operator_sets_and_resets_the_limits_of_a_project_and_they_count_at_once() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let (admin, red) = (cloud.admin().await?, cloud.tenant("red", "member").await?);
    let path = format!("/v2.0/quotas/{}", red.project);
    let default = red.get(&format!("{path}/default.json")).await?.ok(200)?;
    assert_eq!((&default["quota"]["network"], &default["quota"]["subnetpool"]), (&json!(100), &json!(-1)));
    assert_eq!(red.get(&path).await?.ok(200)?, default);
    assert_eq!(admin.get("/v2.0/quotas").await?.ok(200)?, json!({"quotas": []}));

    let set = admin.put(&path, Some(&json!({"quota": {"network": 1, "port": "7", "router": -1}}))).await?.ok(200)?;
    let own = |name: &str| set["quota"][name].clone();
    assert_eq!(
        (own("network"), own("port"), own("router"), own("subnet")),
        (1.into(), 7.into(), (-1).into(), 100.into())
    );
    assert_eq!(red.get(&format!("{path}.json")).await?.ok(200)?, set);
    assert_eq!(red.get(&format!("{path}/default")).await?.ok(200)?, default, "the cloud's stay");
    let list = admin.get("/v2.0/quotas.json").await?.ok(200)?;
    let listed = &list["quotas"][0];
    assert_eq!((&listed["project_id"], &listed["tenant_id"]), (&json!(red.project), &json!(red.project)));
    assert_eq!((&listed["network"], &listed["subnet"]), (&json!(1), &json!(100)));

    red.make("network", json!({})).await?;
    assert_eq!(red.post("/v2.0/networks", &json!({"network": {}})).await?.fault(), (409, "OverQuota"));
    let details = red.get(&format!("{path}/details.json")).await?.ok(200)?;
    assert_eq!(details["quota"]["network"], json!({"limit": 1, "used": 1, "reserved": 0}));
    assert_eq!(details["quota"]["port"], json!({"limit": 7, "used": 0, "reserved": 0}));

    admin.delete(&path).await?.ok(204)?;
    assert_eq!(red.get(&path).await?.ok(200)?, default);
    assert_eq!(admin.get("/v2.0/quotas").await?.ok(200)?, json!({"quotas": []}));
    red.make("network", json!({})).await?;
    assert_eq!(used(&cloud, &red, "network").await?, ["2"], "what is used is still counted");
    let again = admin.delete(&path).await?;
    assert_eq!(again.fault(), (404, "TenantQuotaNotFound"));
    Ok(())
}

#[tokio::test]
async fn a_limit_below_what_is_used_is_refused_unless_it_is_forced() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let (admin, red) = (cloud.admin().await?, cloud.tenant("red", "member").await?);
    red.post("/v2.0/networks", &json!({"networks": [{}, {}, {}]})).await?.ok(201)?;
    let path = format!("/v2.0/quotas/{}", red.project);
    let before = cloud.dump().await?;
    for extra in [json!({}), json!({"check_limit": true}), json!({"check_limit": false}), json!({"force": false})] {
        let mut quota = json!({"network": 2, "port": 9});
        quota
            .as_object_mut()
            .into_iter()
            .for_each(|quota| quota.extend(extra.as_object().cloned().unwrap_or_default()));
        let refused = admin.put(&path, Some(&json!({ "quota": quota }))).await?;
        assert_eq!(refused.fault(), (400, "HTTPBadRequest"), "{extra}");
        let message = "Quota limit 2 for network must be greater than or equal to already used 3";
        assert_eq!(refused.message(), message);
    }
    assert_eq!(cloud.dump().await?, before);
    admin.put(&path, Some(&json!({"quota": {"network": 3, "check_limit": true}}))).await?.ok(200)?;
    admin.put(&path, Some(&json!({"quota": {"network": -1, "check_limit": true}}))).await?.ok(200)?;
    let forced = admin.put(&path, Some(&json!({"quota": {"network": 1, "force": true}}))).await?.ok(200)?;
    assert_eq!(forced["quota"]["network"], 1);
    assert_eq!(red.post("/v2.0/networks", &json!({"network": {}})).await?.fault(), (409, "OverQuota"));
    Ok(())
}

#[tokio::test]
async fn quotas_that_cannot_be_are_refused_by_name_and_change_nothing() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let (admin, red) = (cloud.admin().await?, cloud.tenant("red", "member").await?);
    let path = format!("/v2.0/quotas/{}", red.project);
    let before = cloud.dump().await?;
    for (body, named) in [
        (json!({"quota": {"network": -2}}), "network"),
        (json!({"quota": {"network": 2_147_483_648_i64}}), "network"),
        (json!({"quota": {"network": "many"}}), "network"),
        (json!({"quota": {"network": null}}), "network"),
        (json!({"quota": {"network": 5, "cupboard": 1}}), "cupboard"),
        (json!({"quota": {"project_id": red.project}}), "project_id"),
        (json!({"quota": {"network": 5, "force": "perhaps"}}), "force"),
        (json!({"quota": {"network": 5, "force": true, "check_limit": true}}), "check_limit"),
        (json!({"quota": 5}), "dictionary"),
        (json!({"network": 5}), "quota"),
        (json!({"quota": {}, "port": 1}), "port"),
        (json!([]), "dictionary"),
    ] {
        let refused = admin.put(&path, Some(&body)).await?;
        assert_eq!(refused.fault(), (400, "HTTPBadRequest"), "{body}");
        assert!(refused.message().contains(named), "{body}: {}", refused.message());
    }
    assert_eq!(admin.get("/v2.0/quotas/red").await?.fault(), (404, "ProjectNotFound"));
    assert_eq!(admin.put("/v2.0/quotas/red", Some(&json!({"quota": {}}))).await?.fault(), (404, "ProjectNotFound"));
    assert_eq!(admin.post("/v2.0/quotas", &json!({"quota": {}})).await?.fault(), (405, "HTTPMethodNotAllowed"));
    assert_eq!(cloud.dump().await?, before);
    Ok(())
}

#[tokio::test]
async fn a_project_reads_its_own_quotas_and_only_operators_write_them() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let (admin, red) = (cloud.admin().await?, cloud.tenant("red", "member").await?);
    let (reader, blue) = (cloud.colleague(&red, "rita", "reader").await?, cloud.tenant("blue", "member").await?);
    let path = format!("/v2.0/quotas/{}", red.project);
    let body = json!({"quota": {"network": 7}});
    for own in ["", "/default", "/details"] {
        reader.get(&format!("{path}{own}")).await?.ok(200)?;
        assert_eq!(blue.get(&format!("{path}{own}")).await?.fault(), (403, "PolicyNotAuthorized"));
    }
    for caller in [&red, &reader, &blue] {
        assert_eq!(caller.get("/v2.0/quotas").await?.fault(), (403, "PolicyNotAuthorized"));
        assert_eq!(caller.put(&path, Some(&body)).await?.fault(), (403, "PolicyNotAuthorized"));
        assert_eq!(caller.delete(&path).await?.fault(), (403, "PolicyNotAuthorized"));
    }
    assert_eq!(red.get("/v2.0/quotas/tenant").await?.ok(200)?, json!({"tenant": {"tenant_id": red.project}}));
    assert_eq!(red.get("/v2.0/quotas/project.json").await?.ok(200)?, json!({"project": {"project_id": red.project}}));

    admin.put(&path, Some(&body)).await?.ok(200)?;
    admin.delete(&path).await?.ok(204)?;
    let uuid = uuid::Uuid::parse_str(&red.project)?;
    let events = admin.get(&format!("/v2.0/mizar/audit?object_type=quota&object_id={uuid}")).await?.ok(200)?;
    let said: Vec<_> = events["audit_events"].as_array().into_iter().flatten().collect();
    let actions: Vec<_> = said.iter().map(|event| (&event["action"], &event["project_id"])).collect();
    let project = json!(red.project);
    assert_eq!(actions, [(&json!("update"), &project), (&json!("delete"), &project)]);
    assert_eq!(said[0]["changes"], json!({"network": 7}));
    Ok(())
}

#[tokio::test]
async fn a_limit_and_creates_at_the_same_time_leave_no_more_than_the_limit() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let (admin, red) = (cloud.admin().await?, cloud.tenant("red", "member").await?);
    let path = format!("/v2.0/quotas/{}", red.project);
    let body = json!({"quota": {"network": 4}});
    for _ in 0..4 {
        let network = json!({"network": {}});
        let creates = join_all((0..12).map(|_| red.post("/v2.0/networks", &network)));
        let (made, set) = tokio::join!(creates, admin.put(&path, Some(&body)));
        let made: Vec<_> = made.into_iter().collect::<anyhow::Result<Vec<_>>>()?;
        let (made, set) = (made.into_iter().filter(|answer| answer.status == 201).collect::<Vec<_>>(), set?);
        // Either the limit came first and held, or it came too late and was refused.
        match set.status.as_u16() {
            200 => assert!(made.len() <= 4, "{}", made.len()),
            400 => assert!(made.len() > 4, "{}", made.len()),
            other => panic!("{other}: {}", set.text),
        }
        for answer in made {
            red.remove("network", &answer.body["network"]).await?.ok(204)?;
        }
        admin.delete(&path).await?;
    }
    Ok(())
}

#[tokio::test]
async fn what_was_made_without_a_limit_counts_when_there_is_one() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let (admin, red) = (cloud.admin().await?, cloud.tenant("red", "member").await?);
    let path = format!("/v2.0/quotas/{}", red.project);
    let set = async |limit: i64| admin.put(&path, Some(&json!({"quota": {"network": limit}}))).await;
    red.make("network", json!({"name": "limited"})).await?;
    set(-1).await?.ok(200)?;
    let made = join_all((0..6).map(|_| red.make("network", json!({})))).await;
    let made: Vec<Value> = made.into_iter().collect::<anyhow::Result<_>>()?;
    assert_eq!(used(&cloud, &red, "network").await?, ["1"], "nobody takes turns");
    assert_eq!(details(&red, "network").await?, (-1, 7));
    assert_eq!(set(6).await?.status, 400, "more is used");
    set(7).await?.ok(200)?;
    assert_eq!(red.post("/v2.0/networks", &json!({"network": {}})).await?.fault(), (409, "OverQuota"));
    assert_eq!(red.post("/v2.0/networks", &json!({"networks": [{}, {}]})).await?.fault(), (409, "OverQuota"));
    for network in &made[..2] {
        red.remove("network", network).await?.ok(204)?;
    }
    assert_eq!(details(&red, "network").await?, (7, 5));
    red.post("/v2.0/networks", &json!({"networks": [{}, {}]})).await?.ok(201)?;
    assert_eq!(red.post("/v2.0/networks", &json!({"network": {}})).await?.fault(), (409, "OverQuota"));
    // And back: what was made under the limit is given back to nobody's counter but the project's.
    set(-1).await?.ok(200)?;
    for network in red.get("/v2.0/networks").await?.ok(200)?["networks"].as_array().into_iter().flatten() {
        red.remove("network", network).await?.ok(204)?;
    }
    assert_eq!(details(&red, "network").await?, (-1, 0));
    Ok(())
}

#[tokio::test]
async fn a_limit_waits_for_those_who_counted_without_it() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let (admin, red) = (cloud.admin().await?, cloud.tenant("red", "member").await?);
    let path = format!("/v2.0/quotas/{}", red.project);
    admin.put(&path, Some(&json!({"quota": {"network": -1}}))).await?.ok(200)?;
    // A create that has counted, and is about to commit.
    let mut late = cloud.db.connect().await?;
    let project = &red.project;
    let counted = format!(
        "BEGIN; SELECT own_limit('{project}', 'network'); \
         INSERT INTO quota_stripes VALUES ('{project}', 'network', 0, 3)"
    );
    late.batch_execute(&counted).await?;
    // It holds up no other project's.
    let other = format!("/v2.0/quotas/{}", admin.project);
    admin.put(&other, Some(&json!({"quota": {"network": 2}}))).await?.ok(200)?;
    admin.delete(&other).await?.ok(204)?;
    let limit = tokio::spawn(async move { admin.put(&path, Some(&json!({"quota": {"network": 2}}))).await });
    cloud.until_waiting(1).await?;
    late.batch_execute("COMMIT").await?;
    let refused = limit.await??;
    assert_eq!(refused.status, 400, "{}", refused.text);
    assert_eq!(details(&red, "network").await?, (-1, 3));
    Ok(())
}
