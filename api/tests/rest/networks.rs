use crate::support::{Cloud, id};
use serde_json::{Value, json};

#[tokio::test]
async fn a_network_is_made_shown_updated_and_deleted() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let red = cloud.tenant("red", "member").await?;
    let network = red.make("network", json!({"name": "n", "description": "d", "tags": ["b", "a"]})).await?;
    assert_eq!(network["name"], "n");
    assert_eq!(network["project_id"], json!(red.project));
    assert_eq!(network["tenant_id"], network["project_id"]);
    assert_eq!(network["mtu"], 1398);
    assert_eq!(network["status"], "ACTIVE");
    assert_eq!(network["tags"], json!(["a", "b"]));
    assert_eq!(network["subnets"], json!([]));
    assert_eq!(network["revision_number"], 0);
    assert!(network["created_at"].as_str().is_some_and(|at| at.len() == 20 && at.ends_with('Z')));
    assert_eq!(red.show("network", &network).await?, network);

    let changed = red.update("network", &network, json!({"name": "m", "mtu": 1000})).await?.ok(200)?;
    assert_eq!(changed["network"]["name"], "m");
    assert_eq!(changed["network"]["mtu"], 1000);
    assert_eq!(changed["network"]["description"], "d");
    assert_eq!(changed["network"]["revision_number"], 1);
    cloud.assert_entries_are_right().await?;

    red.remove("network", &network).await?.ok(204)?;
    assert_eq!(red.get(&format!("/v2.0/networks/{}", id(&network))).await?.fault(), (404, "NetworkNotFound"));
    cloud.assert_entries_are_right().await
}

#[tokio::test]
async fn provider_attributes_are_for_administrators() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let (red, admin) = (cloud.tenant("red", "member").await?, cloud.admin().await?);
    let own = red.make("network", json!({})).await?;
    assert_eq!(own["provider:segmentation_id"], Value::Null);
    assert!(own.as_object().is_some_and(|fields| !fields.contains_key("provider:network_type")));
    let seen = admin.show("network", &own).await?;
    assert_eq!(seen["provider:network_type"], "geneve");
    assert!(seen["provider:segmentation_id"].as_u64().is_some_and(|vni| (4096..1 << 24).contains(&vni)));

    let wish = json!({"network": {"provider:segmentation_id": 5000, "provider:network_type": "geneve"}});
    assert_eq!(red.post("/v2.0/networks", &wish).await?.fault(), (403, "PolicyNotAuthorized"));
    let made = admin.post("/v2.0/networks", &wish).await?.ok(201)?;
    assert_eq!(made["network"]["provider:segmentation_id"], 5000);
    assert_eq!(admin.post("/v2.0/networks", &wish).await?.fault(), (409, "TunnelIdInUse"));
    let found = admin.get("/v2.0/networks?provider:segmentation_id=5000").await?.ok(200)?;
    assert_eq!(found["networks"][0]["id"], made["network"]["id"]);

    // The same said as a list of segments, of which there is one.
    let of = |segments: Value| json!({"network": {"segments": segments}});
    let segment = |vni: i64| json!({"provider:network_type": "geneve", "provider:segmentation_id": vni});
    assert_eq!(red.post("/v2.0/networks", &of(json!([segment(5001)]))).await?.fault(), (403, "PolicyNotAuthorized"));
    let made = admin.post("/v2.0/networks", &of(json!([segment(5001)]))).await?.ok(201)?;
    assert_eq!(made["network"]["provider:segmentation_id"], 5001);
    admin.post("/v2.0/networks", &of(json!([{}]))).await?.ok(201)?;
    for wrong in [
        json!([]),
        json!([segment(5002), segment(5003)]),
        json!([segment(-1)]),
        json!([{"provider:network_type": "vlan"}]),
        json!([{"provider:physical_network": "p"}]),
        json!([{"x": 1}]),
    ] {
        assert_eq!(admin.post("/v2.0/networks", &of(wrong.clone())).await?.fault(), (400, "HTTPBadRequest"), "{wrong}");
    }
    let both = json!({"network": {"segments": [segment(5002)], "provider:segmentation_id": 5002}});
    let both = admin.post("/v2.0/networks", &both).await?;
    assert_eq!(both.fault(), (400, "SegmentsSetInConjunctionWithProviders"));

    // They stay; what was read may be sent back.
    let (network, vni) = (&made["network"], "provider:segmentation_id");
    let same = json!({"provider:network_type": "geneve", vni: 5001, "provider:physical_network": null, "name": "same"});
    assert_eq!(admin.update("network", network, same.clone()).await?.ok(200)?["network"][vni], 5001);
    assert_eq!(red.update("network", &own, same).await?.fault(), (403, "PolicyNotAuthorized"));
    for (name, value) in
        [(vni, json!(5009)), ("provider:network_type", json!("vlan")), ("provider:physical_network", json!("p"))]
    {
        let moved = admin.update("network", network, json!({name: value})).await?;
        assert_eq!(moved.fault(), (400, "InvalidInput"));
        assert!(moved.message().contains(name), "{}", moved.message());
    }
    Ok(())
}

#[tokio::test]
async fn a_network_with_ports_stays_and_one_without_takes_its_subnets_along() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let red = cloud.tenant("red", "member").await?;
    let (network, subnet) = red.network("10.0.0.0/24").await?;
    let port = red.make("port", json!({"network_id": network["id"]})).await?;
    let refused = red.remove("network", &network).await?;
    assert_eq!(refused.fault(), (409, "NetworkInUse"));
    assert!(refused.message().contains(id(&port)));
    red.remove("port", &port).await?.ok(204)?;
    red.remove("network", &network).await?.ok(204)?;
    assert_eq!(red.get(&format!("/v2.0/subnets/{}", id(&subnet))).await?.fault(), (404, "SubnetNotFound"));
    // The project's default security group stays, in the scopes of groups.
    assert_eq!(cloud.rows("SELECT 1 FROM entries WHERE NOT deleted AND scope >> 32 < 7").await?.len(), 0);
    cloud.assert_entries_are_right().await
}

#[tokio::test]
async fn a_bulk_create_makes_all_or_none() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let red = cloud.tenant("red", "member").await?;
    let made = red.post("/v2.0/networks", &json!({"networks": [{"name": "a"}, {"name": "b"}]})).await?.ok(201)?;
    let names: Vec<&Value> = made["networks"].as_array().into_iter().flatten().map(|n| &n["name"]).collect();
    assert_eq!(names, ["a", "b"]);
    let before = cloud.dump().await?;
    let half = json!({"networks": [{"name": "c"}, {"name": "d", "mtu": 9000}]});
    assert_eq!(red.post("/v2.0/networks", &half).await?.fault(), (400, "InvalidInput"));
    assert_eq!(cloud.dump().await?, before);
    Ok(())
}

#[tokio::test]
async fn a_shared_network_is_used_by_all_and_changed_by_its_owner() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let (red, blue, admin) =
        (cloud.tenant("red", "member").await?, cloud.tenant("blue", "member").await?, cloud.admin().await?);
    let (network, subnet) = red.network("10.0.0.0/24").await?;
    assert_eq!(red.update("network", &network, json!({"shared": true})).await?.fault(), (403, "PolicyNotAuthorized"));
    admin.update("network", &network, json!({"shared": true})).await?.ok(200)?;

    assert_eq!(blue.show("network", &network).await?["shared"], true);
    assert_eq!(blue.show("subnet", &subnet).await?["id"], subnet["id"]);
    let refused = blue.update("network", &network, json!({"name": "mine"})).await?;
    assert_eq!(refused.fault(), (403, "PolicyNotAuthorized"));
    assert_eq!(blue.remove("network", &network).await?.fault(), (403, "PolicyNotAuthorized"));
    let wish = json!({"subnet": {"network_id": network["id"], "cidr": "10.1.0.0/24", "ip_version": 4}});
    assert_eq!(blue.post("/v2.0/subnets", &wish).await?.fault(), (403, "PolicyNotAuthorized"));

    let port = blue.make("port", json!({"network_id": network["id"]})).await?;
    assert_eq!(red.show("port", &port).await?["project_id"], json!(blue.project));
    for (attribute, value) in [
        ("mac_address", json!("fa:16:3e:00:00:01")),
        ("fixed_ips", json!([{"ip_address": "10.0.0.9"}])),
        ("port_security_enabled", json!(false)),
        ("allowed_address_pairs", json!([{"ip_address": "10.0.0.9"}])),
        ("device_owner", json!("network:router_interface")),
    ] {
        let body = json!({"port": {"network_id": network["id"], attribute: value}});
        assert_eq!(blue.post("/v2.0/ports", &body).await?.fault(), (403, "PolicyNotAuthorized"), "{attribute}");
        let refused = blue.update("port", &port, json!({attribute: value})).await?;
        assert_eq!(refused.fault(), (403, "PolicyNotAuthorized"), "PUT {attribute}");
    }
    let same = json!({"fixed_ips": port["fixed_ips"], "port_security_enabled": true, "name": "mine"});
    blue.update("port", &port, same).await?.ok(200)?;
    let taken_back = admin.update("network", &network, json!({"shared": false})).await?;
    assert_eq!(taken_back.fault(), (409, "InvalidSharedSetting"));
    Ok(())
}

#[tokio::test]
async fn an_update_names_the_revision_that_it_is_based_on() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let red = cloud.tenant("red", "member").await?;
    let network = red.make("network", json!({"name": "n"})).await?;
    let path = format!("/v2.0/networks/{}", id(&network));
    let body = Some(json!({"network": {"name": "m"}}).to_string());
    let put = |revision: &'static str| {
        let (red, path, body) = (red.clone(), path.clone(), body.clone());
        async move { red.send(reqwest::Method::PUT, &path, body, &[("If-Match", revision)]).await }
    };
    assert_eq!(put("revision_number=7").await?.fault(), (412, "RevisionNumberConstraintFailed"));
    assert_eq!(put("\"abc\"").await?.fault(), (400, "HTTPBadRequest"));
    put("revision_number=0").await?.ok(200)?;
    assert_eq!(put("revision_number=0").await?.fault(), (412, "RevisionNumberConstraintFailed"));
    let deleted = red.send(reqwest::Method::DELETE, &path, None, &[("If-Match", "revision_number=0")]).await?;
    assert_eq!(deleted.fault(), (412, "RevisionNumberConstraintFailed"));
    Ok(())
}

#[tokio::test]
async fn a_networks_revision_rises_with_its_subnets() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let red = cloud.tenant("red", "member").await?;
    let (network, subnet) = red.network("10.0.0.0/24").await?;
    let seen = red.show("network", &network).await?;
    assert_eq!((&seen["revision_number"], &seen["subnets"]), (&json!(1), &json!([subnet["id"]])));
    red.remove("subnet", &subnet).await?.ok(204)?;
    let seen = red.show("network", &network).await?;
    assert_eq!((&seen["revision_number"], &seen["subnets"]), (&json!(2), &json!([])));
    Ok(())
}

#[tokio::test]
async fn a_network_says_its_zones_and_keeps_its_hints_and_its_domain() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let red = cloud.tenant("red", "member").await?;
    let none = red.make("network", json!({})).await?;
    assert_eq!((&none["availability_zones"], &none["availability_zone_hints"]), (&json!([]), &json!([])));
    cloud.host("h1", 1500, 1).await?;
    cloud.host("h2", 1500, 2).await?;
    cloud.sql("INSERT INTO hosts (id, name, underlay, mtu, az, rack) VALUES (gen_random_uuid(), 'h3', '192.0.2.3', 1500, 'az0', 'r')").await?;
    let sent = json!({"availability_zone_hints": ["az1"], "dns_domain": "example.org.", "vlan_transparent": false});
    let network = red.make("network", sent).await?;
    assert_eq!(network["availability_zones"], json!(["az0", "az1"]));
    assert_eq!(network["availability_zone_hints"], json!(["az1"]));
    assert_eq!((&network["dns_domain"], &network["is_default"]), (&json!("example.org."), &json!(false)));
    let changed = red.update("network", &network, json!({"dns_domain": ""})).await?.ok(200)?;
    assert_eq!(changed["network"]["dns_domain"], "");
    assert_eq!(changed["network"]["availability_zones"], json!(["az0", "az1"]));
    let before = cloud.dump().await?;
    for (attributes, fault) in [
        (json!({"availability_zone_hints": ["az7"]}), (404, "AvailabilityZoneNotFound")),
        (json!({"availability_zone_hints": ["az1", "az1"]}), (400, "HTTPBadRequest")),
        (json!({"availability_zone_hints": "az1"}), (400, "HTTPBadRequest")),
        (json!({"dns_domain": "-x"}), (400, "HTTPBadRequest")),
        (json!({"vlan_transparent": true}), (400, "HTTPBadRequest")),
        (json!({"ha": true}), (403, "PolicyNotAuthorized")),
        (json!({"is_default": true}), (403, "PolicyNotAuthorized")),
    ] {
        let answer = red.post("/v2.0/networks", &json!({ "network": attributes })).await?;
        assert_eq!(answer.fault(), fault, "{attributes}");
    }
    let late = red.update("network", &network, json!({"availability_zone_hints": []})).await?;
    assert_eq!(late.fault(), (400, "HTTPBadRequest"));
    assert_eq!(cloud.dump().await?, before);
    Ok(())
}
