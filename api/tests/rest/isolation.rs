use crate::support::{Cloud, id};
use anyhow::Context as _;
use diesel_async::SimpleAsyncConnection as _;
use serde_json::json;

#[tokio::test]
async fn what_belongs_to_another_project_is_not_there() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let (red, blue) = (cloud.tenant("red", "member").await?, cloud.tenant("blue", "member").await?);
    let (network, subnet) = red.network("10.0.0.0/24").await?;
    let port = red.make("port", json!({"network_id": network["id"]})).await?;
    for (kind, object, missing) in [
        ("network", &network, "NetworkNotFound"),
        ("subnet", &subnet, "SubnetNotFound"),
        ("port", &port, "PortNotFound"),
    ] {
        let path = format!("/v2.0/{kind}s/{}", id(object));
        assert_eq!(blue.get(&path).await?.fault(), (404, missing));
        assert_eq!(blue.update(kind, object, json!({"name": "x"})).await?.fault(), (404, missing));
        assert_eq!(blue.update(kind, object, json!({"no": "such"})).await?.fault(), (404, missing));
        assert_eq!(blue.remove(kind, object).await?.fault(), (404, missing));
        assert_eq!(blue.get(&format!("{path}/tags")).await?.fault(), (404, missing));
        assert_eq!(blue.put(&format!("{path}/tags/a"), None).await?.fault(), (404, missing));
        let list = blue.get(&format!("/v2.0/{kind}s?id={}", id(object))).await?.ok(200)?;
        assert_eq!(list[format!("{kind}s")], json!([]));
        assert_eq!(blue.get(&format!("/v2.0/{kind}s?marker={}", id(object))).await?.fault(), (404, missing));
    }
    let on_foreign = json!({"port": {"network_id": network["id"]}});
    assert_eq!(blue.post("/v2.0/ports", &on_foreign).await?.fault(), (404, "NetworkNotFound"));
    let on_foreign = json!({"subnet": {"network_id": network["id"], "cidr": "10.9.0.0/24", "ip_version": 4}});
    assert_eq!(blue.post("/v2.0/subnets", &on_foreign).await?.fault(), (404, "NetworkNotFound"));
    let theirs = json!({"network": {"project_id": red.project}});
    assert_eq!(blue.post("/v2.0/networks", &theirs).await?.fault(), (400, "HTTPBadRequest"));
    Ok(())
}

#[tokio::test]
async fn a_reader_reads_and_writes_nothing() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let red = cloud.tenant("red", "member").await?;
    let reader = cloud.colleague(&red, "reader", "reader").await?;
    let (network, subnet) = red.network("10.0.0.0/24").await?;
    let port = red.make("port", json!({"network_id": network["id"]})).await?;
    let before = cloud.dump().await?;
    for (kind, object) in [("network", &network), ("subnet", &subnet), ("port", &port)] {
        assert_eq!(reader.show(kind, object).await?, red.show(kind, object).await?);
        let path = format!("/v2.0/{kind}s");
        assert_eq!(reader.post(&path, &json!({ kind: {} })).await?.fault(), (403, "PolicyNotAuthorized"));
        assert_eq!(reader.update(kind, object, json!({"name": "x"})).await?.fault(), (403, "PolicyNotAuthorized"));
        assert_eq!(reader.remove(kind, object).await?.fault(), (403, "PolicyNotAuthorized"));
        let tag = format!("{path}/{}/tags/a", id(object));
        assert_eq!(reader.put(&tag, None).await?.fault(), (403, "PolicyNotAuthorized"));
    }
    assert_eq!(cloud.dump().await?, before);
    Ok(())
}

#[tokio::test]
async fn an_administrator_sees_all_and_makes_objects_for_others() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let (red, admin) = (cloud.tenant("red", "member").await?, cloud.admin().await?);
    let network = admin.make("network", json!({"tenant_id": red.project})).await?;
    assert_eq!(red.show("network", &network).await?["project_id"], json!(red.project));
    let differ = json!({"network": {"tenant_id": red.project, "project_id": admin.project}});
    assert_eq!(admin.post("/v2.0/networks", &differ).await?.fault(), (400, "HTTPBadRequest"));
    admin.update("network", &network, json!({"name": "x"})).await?.ok(200)?;
    admin.remove("network", &network).await?.ok(204)?;
    Ok(())
}

#[tokio::test]
async fn the_owner_of_a_network_sees_the_ports_on_it_and_takes_them_off_but_does_not_change_them() -> anyhow::Result<()>
{
    let cloud = Cloud::start().await?;
    let (red, blue, admin) =
        (cloud.tenant("red", "member").await?, cloud.tenant("blue", "member").await?, cloud.admin().await?);
    let (reader, green) = (cloud.colleague(&red, "reader", "reader").await?, cloud.tenant("green", "member").await?);
    let (network, _) = red.network("10.0.0.0/24").await?;
    admin.update("network", &network, json!({"shared": true})).await?.ok(200)?;
    let port = blue.make("port", json!({"network_id": network["id"]})).await?;
    red.show("port", &port).await?;
    assert_eq!(red.update("port", &port, json!({"name": "x"})).await?.fault(), (403, "PolicyNotAuthorized"));
    let tag = format!("/v2.0/ports/{}/tags/a", id(&port));
    assert_eq!(red.put(&tag, None).await?.fault(), (403, "PolicyNotAuthorized"));
    assert_eq!(reader.remove("port", &port).await?.fault(), (403, "PolicyNotAuthorized"));
    assert_eq!(green.remove("port", &port).await?.fault(), (404, "PortNotFound"), "to share it is not to own it");
    assert_eq!(red.remove("network", &network).await?.fault(), (409, "NetworkInUse"));
    let used = format!("SELECT used FROM quotas WHERE project_id = '{}' AND resource = 'port'", blue.project);
    assert_eq!(cloud.rows(&used).await?, ["1"]);
    red.remove("port", &port).await?.ok(204)?;
    assert_eq!(cloud.rows(&used).await?, ["0"], "it counts for whose it was");
    let log = blue.get(&format!("/v2.0/mizar/audit?object_id={}&action=delete", id(&port))).await?.ok(200)?;
    assert_eq!(log["audit_events"][0]["user_name"], "red", "whose port it was is told who took it off");
    // What others may have but not take off is nobody's to delete on theirs.
    let own = red.make("port", json!({"network_id": network["id"]})).await?;
    assert_eq!(blue.remove("port", &own).await?.fault(), (404, "PortNotFound"));
    red.remove("port", &own).await?.ok(204)?;
    red.remove("network", &network).await?.ok(204)?;
    cloud.assert_entries_are_right().await
}

#[tokio::test]
async fn without_a_project_nothing_is_seen_or_made() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    cloud.tenant("red", "member").await?;
    let unscoped = cloud.stranger().login_scoped("red", "secret", Some(json!("unscoped"))).await?;
    assert_eq!(unscoped.get("/v2.0/networks").await?.fault(), (403, "PolicyNotAuthorized"));
    assert_eq!(unscoped.post("/v2.0/networks", &json!({"network": {}})).await?.fault(), (403, "PolicyNotAuthorized"));
    let system = json!({"system": {"all": true}});
    let admin = cloud.stranger().login_scoped("admin", crate::support::ADMIN_PASSWORD, Some(system)).await?;
    admin.get("/v2.0/networks").await?.ok(200)?;
    assert_eq!(admin.post("/v2.0/networks", &json!({"network": {}})).await?.fault(), (400, "HTTPBadRequest"));
    Ok(())
}

#[tokio::test]
async fn who_does_not_see_an_object_does_not_wait_for_it_and_nobody_waits_for_him() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let (red, blue) = (cloud.tenant("red", "member").await?, cloud.tenant("blue", "member").await?);
    let admin = cloud.admin().await?;
    let (network, subnet) = red.network("10.0.0.0/24").await?;
    let port = red.make("port", json!({"network_id": network["id"]})).await?;
    let shown = admin.show("network", &network).await?;
    let vni = u32::try_from(shown["provider:segmentation_id"].as_u64().context("no VNI")?)?;
    // Somebody works on the network.
    let mut busy = cloud.db.connect().await?;
    busy.batch_execute("BEGIN").await?;
    mizar_db::entries::lock_networks(&mut busy, &[vni]).await?;
    for (kind, object, fault) in [
        ("network", &network, "NetworkNotFound"),
        ("subnet", &subnet, "SubnetNotFound"),
        ("port", &port, "PortNotFound"),
    ] {
        assert_eq!(blue.remove(kind, object).await?.fault(), (404, fault));
        assert_eq!(blue.update(kind, object, json!({"name": "mine"})).await?.fault(), (404, fault));
    }
    assert_eq!(red.remove("network", &network).await?.fault(), (503, "ServiceUnavailable"), "the lock is there");
    busy.batch_execute("ROLLBACK").await?;
    Ok(())
}
