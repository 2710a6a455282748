use crate::support::{Cloud, address};
use mizar_wire::{Kind, Scope};
use serde_json::{Value, json};

async fn number(cloud: &Cloud, query: &str) -> anyhow::Result<u32> {
    Ok(cloud.rows(query).await?.first().map(String::as_str).unwrap_or_default().parse()?)
}

#[tokio::test]
async fn a_bound_port_is_an_entry_of_its_host_and_of_its_bouncers() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let admin = cloud.admin().await?;
    let host = cloud.host("h1", 1500, 1).await?;
    let (network, _) = admin.network("10.0.0.0/24").await?;
    let wish = json!({"network_id": network["id"], "binding:host_id": "h1", "name": "p"});
    let port = admin.make("port", wish).await?;
    assert_eq!(port["status"], "BUILD");
    assert_eq!(port["binding:host_id"], "h1");
    assert_eq!(port["binding:vif_type"], "tap");
    assert_eq!(port["binding:vif_details"]["port_filter"], true);

    let subnet = number(&cloud, "SELECT number FROM subnets").await?;
    let on_host = cloud.entries(Scope::Host(host), Kind::Port).await?;
    assert_eq!(on_host.len(), 1);
    assert_eq!(on_host[0]["mac"], port["mac_address"]);
    assert_eq!(on_host[0]["generation"], 1);
    let bounces = cloud.entries(Scope::Subnet(subnet), Kind::Bounce).await?;
    assert_eq!(bounces.len(), 1);
    assert_eq!(bounces[0]["address"], json!(address(&port)));
    assert_eq!(bounces[0]["host"], host);
    cloud.assert_entries_are_right().await?;

    admin.remove("port", &port).await?.ok(204)?;
    assert!(cloud.entries(Scope::Host(host), Kind::Port).await?.is_empty());
    assert!(cloud.entries(Scope::Subnet(subnet), Kind::Bounce).await?.is_empty());
    cloud.assert_entries_are_right().await
}

#[tokio::test]
async fn a_port_that_moves_leaves_word_at_its_former_host() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let admin = cloud.admin().await?;
    let (h1, h2) = (cloud.host("h1", 1500, 1).await?, cloud.host("h2", 1500, 2).await?);
    let (network, _) = admin.network("10.0.0.0/24").await?;
    let port = admin.make("port", json!({"network_id": network["id"], "binding:host_id": "h1"})).await?;
    let moved = admin.update("port", &port, json!({"binding:host_id": "h2"})).await?.ok(200)?;
    assert_eq!(moved["port"]["binding:host_id"], "h2");
    assert_eq!(moved["port"]["status"], "BUILD");
    assert!(cloud.entries(Scope::Host(h1), Kind::Port).await?.is_empty());
    let word = cloud.entries(Scope::Host(h1), Kind::MovedPort).await?;
    assert_eq!((word.len(), &word[0]["host"], &word[0]["generation"]), (1, &json!(h2), &json!(2)));
    assert_eq!(cloud.entries(Scope::Host(h2), Kind::Port).await?.len(), 1);
    cloud.assert_entries_are_right().await?;

    let back = admin.update("port", &port, json!({"binding:host_id": "h1"})).await?.ok(200)?;
    assert_eq!(back["port"]["binding:host_id"], "h1");
    assert!(cloud.entries(Scope::Host(h1), Kind::MovedPort).await?.is_empty());
    assert_eq!(cloud.entries(Scope::Host(h2), Kind::MovedPort).await?.len(), 1);
    let off = admin.update("port", &port, json!({"binding:host_id": ""})).await?.ok(200)?;
    assert_eq!((&off["port"]["binding:vif_type"], &off["port"]["status"]), (&json!("unbound"), &json!("DOWN")));
    assert_eq!(cloud.entries(Scope::Host(h1), Kind::MovedPort).await?[0]["host"], 0);
    cloud.assert_entries_are_right().await
}

#[tokio::test]
async fn binding_again_to_the_same_host_changes_nothing() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let admin = cloud.admin().await?;
    cloud.host("h1", 1500, 1).await?;
    let (network, _) = admin.network("10.0.0.0/24").await?;
    let port = admin.make("port", json!({"network_id": network["id"], "binding:host_id": "h1"})).await?;
    cloud.sql("UPDATE ports SET status = 'ACTIVE', wired_generation = generation").await?;
    let again = admin.update("port", &port, json!({"binding:host_id": "h1"})).await?.ok(200)?;
    assert_eq!(again["port"]["status"], "ACTIVE");
    assert_eq!(cloud.rows("SELECT generation FROM ports").await?, ["1"]);
    Ok(())
}

#[tokio::test]
async fn binding_to_an_unknown_or_too_small_host_fails_visibly_and_may_be_tried_again() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let admin = cloud.admin().await?;
    cloud.host("small", 1450, 1).await?;
    let (network, _) = admin.network("10.0.0.0/24").await?;
    for (host, reason) in [("nowhere", "not known"), ("small", "uplink of MTU 1450")] {
        let port = admin.make("port", json!({"network_id": network["id"], "binding:host_id": host})).await?;
        assert_eq!(port["binding:vif_type"], "binding_failed", "{host}");
        assert_eq!(port["status"], "ERROR");
        assert!(port["mizar:status_reason"].as_str().is_some_and(|text| text.contains(reason)), "{port}");
    }
    let wish = json!({"network_id": network["id"], "binding:host_id": "late"});
    let port = admin.make("port", wish).await?;
    cloud.host("late", 1500, 3).await?;
    let again = admin.update("port", &port, json!({"binding:host_id": "late"})).await?.ok(200)?;
    assert_eq!(again["port"]["binding:vif_type"], "tap");
    assert_eq!(again["port"]["mizar:status_reason"], "");
    cloud.assert_entries_are_right().await
}

#[tokio::test]
async fn binding_is_for_administrators_and_services() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let red = cloud.tenant("red", "member").await?;
    let nova = cloud.tenant("nova", "service").await?;
    cloud.host("h1", 1500, 1).await?;
    let (network, _) = red.network("10.0.0.0/24").await?;
    let port = red.make("port", json!({"network_id": network["id"]})).await?;
    for attributes in [json!({"binding:host_id": "h1"}), json!({"binding:profile": {}})] {
        assert_eq!(red.update("port", &port, attributes).await?.fault(), (403, "PolicyNotAuthorized"));
    }
    let bound =
        nova.update("port", &port, json!({"binding:host_id": "h1", "binding:profile": {"a": 1}})).await?.ok(200)?;
    assert_eq!(bound["port"]["binding:profile"], json!({"a": 1}));
    assert_eq!(red.show("port", &port).await?["binding:host_id"], Value::Null);
    let refused = nova.update("network", &network, json!({"name": "x"})).await?;
    assert_eq!(refused.fault(), (403, "PolicyNotAuthorized"));
    Ok(())
}

#[tokio::test]
async fn a_bound_port_keeps_its_mac_address_and_goes_down_when_switched_off() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let admin = cloud.admin().await?;
    cloud.host("h1", 1500, 1).await?;
    let (network, _) = admin.network("10.0.0.0/24").await?;
    let port = admin.make("port", json!({"network_id": network["id"], "binding:host_id": "h1"})).await?;
    let other = json!({"mac_address": "fa:16:3e:00:00:02"});
    assert_eq!(admin.update("port", &port, other).await?.fault(), (409, "PortBound"));
    let off = admin.update("port", &port, json!({"admin_state_up": false})).await?.ok(200)?;
    assert_eq!(off["port"]["status"], "DOWN");
    let on = admin.update("port", &port, json!({"admin_state_up": true})).await?.ok(200)?;
    assert_eq!(on["port"]["status"], "BUILD");
    let bigger = admin.update("network", &network, json!({"mtu": 1398})).await?;
    bigger.ok(200)?;
    cloud.assert_entries_are_right().await
}

#[tokio::test]
async fn a_network_does_not_outgrow_the_hosts_that_it_is_on() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let admin = cloud.admin().await?;
    cloud.host("small", 1450, 1).await?;
    let network = admin.make("network", json!({"mtu": 1300})).await?;
    admin.make("port", json!({"network_id": network["id"], "binding:host_id": "small"})).await?;
    assert_eq!(admin.update("network", &network, json!({"mtu": 1398})).await?.fault(), (409, "MtuInUse"));
    admin.update("network", &network, json!({"mtu": 1348})).await?.ok(200)?;
    Ok(())
}

#[tokio::test]
async fn an_interface_that_needs_hardware_is_asked_for_and_bound_nowhere() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let (admin, red) = (cloud.admin().await?, cloud.tenant("red", "member").await?);
    cloud.host("h1", 1500, 1).await?;
    let (network, _) = red.network("10.0.0.0/24").await?;
    let port = red.make("port", json!({"network_id": network["id"], "binding:vnic_type": "direct"})).await?;
    assert_eq!((&port["binding:vnic_type"], &port["status"]), (&json!("direct"), &json!("DOWN")));
    let said = async |attributes: Value| -> anyhow::Result<[Value; 4]> {
        let port = admin.update("port", &port, attributes).await?.ok(200)?["port"].clone();
        let said = ["binding:host_id", "binding:vif_type", "status", "mizar:status_reason"];
        Ok(said.map(|name| port[name].clone()))
    };
    let failed = |kind: &str| {
        let reason = format!("hosts have only interfaces of vnic_type normal, it asks for {kind}");
        [json!("h1"), json!("binding_failed"), json!("ERROR"), json!(reason)]
    };
    assert_eq!(said(json!({"binding:host_id": "h1"})).await?, failed("direct"));
    cloud.assert_entries_are_right().await?;
    let bound = said(json!({"binding:vnic_type": "normal"})).await?;
    assert_eq!(bound, [json!("h1"), json!("tap"), json!("BUILD"), json!("")]);
    assert_eq!(said(json!({"binding:vnic_type": "smart-nic", "name": "x"})).await?, failed("smart-nic"));
    assert_eq!(cloud.rows("SELECT 1 FROM ports WHERE host IS NOT NULL").await?.len(), 0);
    cloud.assert_entries_are_right().await?;
    let unbound = said(json!({"binding:host_id": ""})).await?;
    assert_eq!(unbound, [json!(""), json!("unbound"), json!("DOWN"), json!("")]);
    assert_eq!(said(json!({"binding:vnic_type": "vdpa"})).await?, unbound, "on no host it fails nowhere");
    Ok(())
}
