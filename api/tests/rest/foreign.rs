//! What somebody may do to objects of others, and what he learns of them.

use crate::support::{Client, Cloud, id};
use anyhow::Context as _;
use diesel_async::{AsyncPgConnection, SimpleAsyncConnection as _};
use serde_json::{Value, json};

const POLICIES: &str = "/v2.0/rbac-policies";

fn policy(object_type: &str, object: &Value, target: &str, action: &str) -> Value {
    json!({"rbac_policy": {"object_type": object_type, "object_id": object["id"], "target_tenant": target,
        "action": action}})
}

fn subnet_on(network: &Value, cidr: &str) -> Value {
    json!({"network_id": network["id"], "cidr": cidr, "ip_version": 4})
}

async fn used(cloud: &Cloud, client: &Client) -> anyhow::Result<Vec<String>> {
    let project = &client.project;
    cloud.rows(&format!("SELECT used FROM quotas WHERE project_id = '{project}' AND resource = 'rbac_policy'")).await
}

/// Somebody who works on a network, and whom others would have to wait for.
async fn busy(cloud: &Cloud, network: &Value) -> anyhow::Result<AsyncPgConnection> {
    let shown = cloud.admin().await?.show("network", network).await?;
    let vni = u32::try_from(shown["provider:segmentation_id"].as_u64().context("no VNI")?)?;
    let mut busy = cloud.db.connect().await?;
    busy.batch_execute("BEGIN").await?;
    mizar_db::entries::lock_networks(&mut busy, &[vni]).await?;
    Ok(busy)
}

#[tokio::test]
async fn a_service_that_is_a_member_somewhere_writes_only_there() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let red = cloud.tenant("red", "member").await?;
    let nova = cloud.tenant("nova", "service").await?;
    let member = crate::support::role_id("member");
    let both = format!("/v3/projects/{}/users/{}/roles/{member}", nova.project, nova.user);
    cloud.admin().await?.put(&both, None).await?.ok(204)?;
    let nova = cloud.stranger().login("nova", "secret", Some("nova")).await?;
    let (network, subnet) = red.network("10.0.0.0/24").await?;
    nova.show("network", &network).await?;
    for (kind, object) in [("network", &network), ("subnet", &subnet)] {
        assert_eq!(nova.update(kind, object, json!({"name": "x"})).await?.fault(), (403, "PolicyNotAuthorized"));
        assert_eq!(nova.remove(kind, object).await?.fault(), (403, "PolicyNotAuthorized"));
    }
    let subnet = json!({"subnet": subnet_on(&network, "10.9.0.0/24")});
    assert_eq!(nova.post("/v2.0/subnets", &subnet).await?.fault(), (404, "NetworkNotFound"));
    // Ports are services' work everywhere, and its own project's objects a member's.
    let port = red.make("port", json!({"network_id": network["id"]})).await?;
    nova.update("port", &port, json!({"device_id": "vm"})).await?.ok(200)?;
    let (own, _) = nova.network("10.0.0.0/24").await?;
    nova.remove("network", &own).await?.ok(204)?;
    Ok(())
}

#[tokio::test]
async fn who_may_not_change_a_network_never_waits_for_it_nor_locks_it() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let (red, blue) = (cloud.tenant("red", "member").await?, cloud.tenant("blue", "member").await?);
    let admin = cloud.admin().await?;
    let (shared, _) = red.network("10.0.0.0/24").await?;
    admin.update("network", &shared, json!({"shared": true})).await?.ok(200)?;
    let (hidden, _) = red.network("10.1.0.0/24").await?;
    let mut working = busy(&cloud, &shared).await?;
    let mut also = busy(&cloud, &hidden).await?;
    let on_shared = json!({"subnet": subnet_on(&shared, "10.9.0.0/24")});
    assert_eq!(blue.post("/v2.0/subnets", &on_shared).await?.fault(), (403, "PolicyNotAuthorized"));
    let on_hidden = json!({"subnet": subnet_on(&hidden, "10.9.0.0/24")});
    assert_eq!(blue.post("/v2.0/subnets", &on_hidden).await?.fault(), (404, "NetworkNotFound"));
    let port = json!({"port": {"network_id": hidden["id"]}});
    assert_eq!(blue.post("/v2.0/ports", &port).await?.fault(), (404, "NetworkNotFound"));
    let own = policy("network", &shared, &blue.project, "access_as_shared");
    assert_eq!(blue.post(POLICIES, &own).await?.fault(), (404, "NetworkNotFound"));
    assert_eq!(red.post("/v2.0/subnets", &on_shared).await?.fault(), (503, "ServiceUnavailable"), "the lock is there");
    working.batch_execute("ROLLBACK").await?;
    also.batch_execute("ROLLBACK").await?;
    Ok(())
}

#[tokio::test]
async fn what_is_shared_as_external_is_seen_but_takes_no_ports() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let (red, blue) = (cloud.tenant("red", "member").await?, cloud.tenant("blue", "member").await?);
    let admin = cloud.admin().await?;
    let (network, _) = red.network("10.0.0.0/24").await?;
    admin.post(POLICIES, &policy("network", &network, &blue.project, "access_as_external")).await?.ok(201)?;
    blue.show("network", &network).await?;
    let port = json!({"port": {"network_id": network["id"]}});
    assert_eq!(blue.post("/v2.0/ports", &port).await?.fault(), (403, "PolicyNotAuthorized"));
    admin.post(POLICIES, &policy("network", &network, &blue.project, "access_as_shared")).await?.ok(201)?;
    blue.post("/v2.0/ports", &port).await?.ok(201)?;
    Ok(())
}

#[tokio::test]
async fn every_policy_counts_and_is_audited_however_it_comes_and_goes() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let (red, blue) = (cloud.tenant("red", "member").await?, cloud.tenant("blue", "member").await?);
    let admin = cloud.admin().await?;
    let (network, _) = red.network("10.0.0.0/24").await?;
    red.post(POLICIES, &policy("network", &network, &blue.project, "access_as_shared")).await?.ok(201)?;
    for (shared, count) in [(true, "2"), (true, "2"), (false, "1"), (true, "2")] {
        admin.update("network", &network, json!({"shared": shared})).await?.ok(200)?;
        assert_eq!(used(&cloud, &red).await?, [count]);
    }
    red.remove("network", &network).await?.ok(204)?;
    assert_eq!(used(&cloud, &red).await?, ["0"]);
    let log = "SELECT action FROM audit_events WHERE object_type = 'rbac_policy' ORDER BY at, action";
    assert_eq!(cloud.rows(log).await?, ["create", "create", "delete", "create", "delete", "delete"]);
    admin.make("network", json!({"project_id": red.project, "shared": true})).await?;
    assert_eq!(used(&cloud, &red).await?, ["1"]);
    Ok(())
}

#[tokio::test]
async fn who_deletes_a_policy_waits_for_the_network_before_he_holds_the_policy() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let (red, blue) = (cloud.tenant("red", "member").await?, cloud.tenant("blue", "member").await?);
    let (network, _) = red.network("10.0.0.0/24").await?;
    let made = red.post(POLICIES, &policy("network", &network, &blue.project, "access_as_shared")).await?.ok(201)?;
    let made = made["rbac_policy"].clone();
    let mut working = busy(&cloud, &network).await?;
    let (at, red) = (format!("{POLICIES}/{}", id(&made)), red.clone());
    let waiting = tokio::spawn(async move { red.delete(&at).await });
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while cloud.rows("SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted").await?.is_empty() {
        anyhow::ensure!(std::time::Instant::now() < deadline && !waiting.is_finished(), "nobody waits");
        tokio::task::yield_now().await;
    }
    // Who deletes the network, and holds it, deletes the policy next.
    let take = format!("DO $$ BEGIN PERFORM FROM rbac_policies WHERE id = '{}' FOR UPDATE NOWAIT; END $$", id(&made));
    working.batch_execute(&take).await?;
    working.batch_execute("ROLLBACK").await?;
    let answer = waiting.await??.status.as_u16();
    assert!([204, 503].contains(&answer), "{answer}");
    Ok(())
}

#[tokio::test]
async fn a_tenant_cannot_ask_by_what_only_operators_see() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let (admin, red) = (cloud.admin().await?, cloud.tenant("red", "member").await?);
    let (network, _) = red.network("10.0.0.0/24").await?;
    for query in
        ["ports?binding:host_id=h", "networks?provider:segmentation_id=1", "networks?provider:network_type=geneve"]
    {
        assert_eq!(red.get(&format!("/v2.0/{query}")).await?.fault(), (400, "HTTPBadRequest"), "{query}");
        admin.get(&format!("/v2.0/{query}")).await?.ok(200)?;
    }
    cloud.host("secret-host", 1500, 7).await?;
    let bound = json!({"network_id": network["id"], "binding:host_id": "secret-host", "project_id": red.project});
    admin.make("port", bound).await?;
    let failed = json!({"network_id": network["id"], "binding:host_id": "lost-host", "project_id": red.project});
    let failed = admin.make("port", failed).await?;
    let reason = red.show("port", &failed).await?["mizar:status_reason"].clone();
    assert_eq!(reason, "the host that it was bound to is not known");
    cloud.sql("UPDATE hosts SET mtu = 1400").await?;
    let refused = red.update("network", &network, json!({"mtu": 1398})).await?;
    assert_eq!(refused.fault(), (409, "MtuInUse"));
    assert!(!refused.message().contains("secret-host"), "{}", refused.message());
    Ok(())
}

#[tokio::test]
async fn a_bulk_create_over_its_quota_is_refused_before_the_work() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let red = cloud.tenant("red", "member").await?;
    let (network, _) = red.network("10.0.0.0/24").await?;
    let project = &red.project;
    cloud.sql(&format!("INSERT INTO quotas (project_id, resource, max) VALUES ('{project}', 'port', 1)")).await?;
    let mut working = busy(&cloud, &network).await?;
    let port = json!({"network_id": network["id"]});
    let two = json!({"ports": [port, port]});
    assert_eq!(red.post("/v2.0/ports", &two).await?.fault(), (409, "OverQuota"), "without waiting for the network");
    working.batch_execute("ROLLBACK").await?;
    Ok(())
}

#[tokio::test]
async fn the_audit_log_comes_in_pages_and_keeps_no_large_values() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let (admin, red) = (cloud.admin().await?, cloud.tenant("red", "member").await?);
    let (network, _) = red.network("10.0.0.0/24").await?;
    let profile = json!({"blob": "x".repeat(3000)});
    let port = admin.make("port", json!({"network_id": network["id"], "binding:profile": profile})).await?;
    let event = format!("/v2.0/mizar/audit?object_id={}", id(&port));
    let event = admin.get(&event).await?.ok(200)?["audit_events"][0].clone();
    assert_eq!(event["changes"], json!({"network_id": network["id"], "binding:profile": "3011 bytes"}));
    cloud
        .sql(
            "INSERT INTO audit_events (id, request_id, remote, user_id, user_name, roles, action, object_type, \
             object_id, changes) SELECT gen_random_uuid(), '', '', '', '', '{}', 'x', 'x', gen_random_uuid(), '{}' \
             FROM generate_series(1, 1100)",
        )
        .await?;
    for query in ["", "?limit=0", "?limit=5000"] {
        let page = admin.get(&format!("/v2.0/mizar/audit{query}")).await?.ok(200)?;
        assert_eq!(page["audit_events"].as_array().map(Vec::len), Some(1000), "{query}");
        assert_eq!(page["audit_events_links"][0]["rel"], "next");
    }
    Ok(())
}

#[tokio::test]
async fn a_connection_keeps_the_statement_of_the_plain_list_alone() -> anyhow::Result<()> {
    use mizar_db::listing::{Dir, Listing, SortKey, Visibility, list};
    use mizar_db::resources::network::NetworkRow;
    use mizar_db::schema::networks;
    let cloud = Cloud::start().await?;
    let mut conn = cloud.db.connect().await?;
    let name: SortKey<NetworkRow> = mizar_db::sort_key!(NetworkRow, networks::name, |row| row.name.clone());
    let by_id: SortKey<NetworkRow> = mizar_db::sort_key!(NetworkRow, networks::id, |row| row.id);
    for _ in 0..2 {
        for view in [Visibility::All, Visibility::Project(uuid::Uuid::nil())] {
            for sorts in [vec![by_id], vec![name, by_id], vec![by_id, name]] {
                let sorts = sorts.into_iter().map(|key| (key, Dir::Asc)).collect();
                list(&mut conn, view, Listing { filters: Vec::new(), sorts, marker: None, limit: None }).await?;
            }
        }
    }
    #[derive(diesel::QueryableByName)]
    struct Count {
        #[diesel(sql_type = diesel::sql_types::BigInt)]
        count: i64,
    }
    let kept = "SELECT count(*) AS count FROM pg_prepared_statements WHERE statement LIKE '%FROM _networks_%' \
                AND statement NOT LIKE '%pg_prepared%'";
    let kept: Count = diesel_async::RunQueryDsl::get_result(diesel::sql_query(kept), &mut conn).await?;
    assert_eq!(kept.count, 2, "one for each view");
    Ok(())
}
