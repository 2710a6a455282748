use crate::support::{Cloud, address, id};
use serde_json::{Value, json};
use std::collections::BTreeSet;

#[tokio::test]
async fn a_port_is_made_shown_updated_and_deleted() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let red = cloud.tenant("red", "member").await?;
    let (network, subnet) = red.network("10.0.0.0/24").await?;
    let wish = json!({"network_id": network["id"], "name": "p", "device_id": "vm", "device_owner": "compute:nova"});
    let port = red.make("port", wish).await?;
    assert_eq!(port["status"], "DOWN");
    assert!(port["mac_address"].as_str().is_some_and(|mac| mac.starts_with("fa:16:3e:")));
    assert_eq!(port["fixed_ips"][0]["subnet_id"], subnet["id"]);
    assert!((2..=254).contains(&address(&port).octets()[3]));
    assert_eq!(port["security_groups"].as_array().map(Vec::len), Some(1), "the default group");
    assert_eq!(port["binding:vnic_type"], "normal");
    assert!(port.as_object().is_some_and(|fields| !fields.contains_key("binding:host_id")));
    assert_eq!(red.show("port", &port).await?, port);

    let changed = red.update("port", &port, json!({"name": "q", "admin_state_up": false})).await?.ok(200)?;
    assert_eq!(changed["port"]["name"], "q");
    assert_eq!(changed["port"]["device_id"], "vm");
    assert_eq!(changed["port"]["fixed_ips"], port["fixed_ips"]);
    assert_eq!(changed["port"]["revision_number"], 1);
    red.remove("port", &port).await?.ok(204)?;
    assert_eq!(red.remove("port", &port).await?.fault(), (404, "PortNotFound"));
    cloud.assert_entries_are_right().await
}

#[tokio::test]
async fn addresses_are_given_by_subnet_by_address_and_several_at_once() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let red = cloud.tenant("red", "member").await?;
    let (network, one) = red.network("10.0.0.0/24").await?;
    let two = json!({"network_id": network["id"], "cidr": "10.0.1.0/24", "ip_version": 4});
    let two = red.make("subnet", two).await?;
    let wish = json!([
        {"subnet_id": two["id"]},
        {"ip_address": "10.0.0.77"},
        {"subnet_id": two["id"], "ip_address": "10.0.1.78"},
    ]);
    let port = red.make("port", json!({"network_id": network["id"], "fixed_ips": wish})).await?;
    let fixed = port["fixed_ips"].as_array().cloned().unwrap_or_default();
    assert_eq!(fixed.len(), 3);
    assert_eq!(fixed[0]["subnet_id"], two["id"]);
    assert_eq!(fixed[1], json!({"subnet_id": one["id"], "ip_address": "10.0.0.77"}));
    assert_eq!(fixed[2]["ip_address"], "10.0.1.78");
    let none = red.make("port", json!({"network_id": network["id"], "fixed_ips": []})).await?;
    assert_eq!(none["fixed_ips"], json!([]));
    let bare = red.make("network", json!({})).await?;
    let bare = red.make("port", json!({"network_id": bare["id"]})).await?;
    assert_eq!(bare["fixed_ips"], json!([]));
    Ok(())
}

#[tokio::test]
async fn an_address_that_is_taken_or_impossible_is_refused() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let red = cloud.tenant("red", "member").await?;
    let (network, subnet) = red.network("10.0.0.0/24").await?;
    let (_, other) = red.network("10.0.0.0/24").await?;
    let with = |fixed: Value| json!({"port": {"network_id": network["id"], "fixed_ips": fixed}});
    red.post("/v2.0/ports", &with(json!([{"ip_address": "10.0.0.9"}]))).await?.ok(201)?;
    let cases = [
        (json!([{"ip_address": "10.0.0.9"}]), (409, "IpAddressInUse")),
        (json!([{"ip_address": "10.0.0.1"}]), (409, "IpAddressInUse")),
        (json!([{"ip_address": "10.0.0.0"}]), (400, "InvalidIpForNetwork")),
        (json!([{"ip_address": "10.0.0.255", "subnet_id": subnet["id"]}]), (400, "InvalidIpForSubnet")),
        (json!([{"ip_address": "10.0.2.1"}]), (400, "InvalidIpForNetwork")),
        (json!([{"subnet_id": other["id"]}]), (400, "InvalidInput")),
        (json!([{"ip_address": "10.0.0.8"}, {"ip_address": "10.0.0.8"}]), (400, "InvalidInput")),
        (json!([{}]), (400, "InvalidInput")),
    ];
    let before = cloud.dump().await?;
    for (fixed, expected) in cases {
        assert_eq!(red.post("/v2.0/ports", &with(fixed.clone())).await?.fault(), expected, "{fixed}");
    }
    assert_eq!(cloud.dump().await?, before);
    Ok(())
}

#[tokio::test]
async fn every_address_of_the_pools_is_given_once_and_then_none() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let red = cloud.tenant("red", "member").await?;
    let (network, _) = red.network("10.0.0.0/28").await?;
    let mut seen = BTreeSet::new();
    for _ in 0..13 {
        let port = red.make("port", json!({"network_id": network["id"]})).await?;
        assert!(seen.insert(address(&port)));
    }
    let full = red.post("/v2.0/ports", &json!({"port": {"network_id": network["id"]}})).await?;
    assert_eq!(full.fault(), (409, "IpAddressGenerationFailure"));
    let again = red.get("/v2.0/ports?limit=1").await?.ok(200)?;
    red.remove("port", &again["ports"][0]).await?.ok(204)?;
    let port = red.make("port", json!({"network_id": network["id"]})).await?;
    assert_eq!(address(&port), address(&again["ports"][0]));
    cloud.assert_entries_are_right().await
}

#[tokio::test]
async fn a_second_subnet_serves_when_the_first_is_full() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let red = cloud.tenant("red", "member").await?;
    let (network, _) = red.network("10.0.0.0/30").await?;
    let two = json!({"network_id": network["id"], "cidr": "10.0.1.0/30", "ip_version": 4});
    let two = red.make("subnet", two).await?;
    red.make("port", json!({"network_id": network["id"]})).await?;
    let port = red.make("port", json!({"network_id": network["id"]})).await?;
    assert_eq!(port["fixed_ips"][0]["subnet_id"], two["id"]);
    Ok(())
}

#[tokio::test]
async fn bulk_ports_get_different_addresses_or_none_is_made() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let red = cloud.tenant("red", "member").await?;
    let (network, _) = red.network("10.0.0.0/27").await?;
    let many = |count: usize| json!({"ports": vec![json!({"network_id": network["id"]}); count]});
    let before = cloud.dump().await?;
    assert_eq!(red.post("/v2.0/ports", &many(30)).await?.fault(), (409, "IpAddressGenerationFailure"));
    assert_eq!(cloud.dump().await?, before);
    let made = red.post("/v2.0/ports", &many(29)).await?.ok(201)?;
    let ports = made["ports"].as_array().cloned().unwrap_or_default();
    let addresses: BTreeSet<_> = ports.iter().map(address).collect();
    let macs: BTreeSet<String> = ports.iter().map(|port| port["mac_address"].to_string()).collect();
    assert_eq!((addresses.len(), macs.len()), (29, 29));
    cloud.assert_entries_are_right().await
}

#[tokio::test]
async fn an_update_of_addresses_keeps_takes_and_gives_back() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let red = cloud.tenant("red", "member").await?;
    let (network, subnet) = red.network("10.0.0.0/24").await?;
    let fixed = json!([{"ip_address": "10.0.0.7"}, {"ip_address": "10.0.0.8"}]);
    let port = red.make("port", json!({"network_id": network["id"], "fixed_ips": fixed})).await?;
    let wish = json!({"fixed_ips": [{"ip_address": "10.0.0.9"}, {"ip_address": "10.0.0.8"}]});
    let changed = red.update("port", &port, wish).await?.ok(200)?;
    let expected = json!([
        {"subnet_id": subnet["id"], "ip_address": "10.0.0.9"},
        {"subnet_id": subnet["id"], "ip_address": "10.0.0.8"},
    ]);
    assert_eq!(changed["port"]["fixed_ips"], expected);
    assert_eq!(red.show("port", &port).await?["fixed_ips"], expected);
    let by_subnet = json!({"fixed_ips": [{"subnet_id": subnet["id"]}]});
    let kept = red.update("port", &port, by_subnet).await?.ok(200)?;
    assert_eq!(kept["port"]["fixed_ips"], json!([expected[0]]));
    red.make("port", json!({"network_id": network["id"], "fixed_ips": [{"ip_address": "10.0.0.7"}]})).await?;
    let taken = json!({"fixed_ips": [{"ip_address": "10.0.0.7"}]});
    assert_eq!(red.update("port", &port, taken).await?.fault(), (409, "IpAddressInUse"));
    assert_eq!(red.show("port", &port).await?["fixed_ips"], json!([expected[0]]));
    cloud.assert_entries_are_right().await
}

#[tokio::test]
async fn a_mac_address_is_unique_on_its_network_and_changed_by_administrators_and_services() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let (red, admin) = (cloud.tenant("red", "member").await?, cloud.admin().await?);
    let (network, _) = red.network("10.0.0.0/24").await?;
    let wish = json!({"network_id": network["id"], "mac_address": "FA:16:3E:00:00:01"});
    let port = red.make("port", wish.clone()).await?;
    assert_eq!(port["mac_address"], "fa:16:3e:00:00:01");
    assert_eq!(red.post("/v2.0/ports", &json!({"port": wish})).await?.fault(), (409, "MacAddressInUse"));
    let other = red.make("port", json!({"network_id": network["id"]})).await?;
    let steal = json!({"mac_address": "fa:16:3e:00:00:01"});
    assert_eq!(red.update("port", &other, steal.clone()).await?.fault(), (403, "PolicyNotAuthorized"));
    assert_eq!(admin.update("port", &other, steal).await?.fault(), (409, "MacAddressInUse"));
    admin.update("port", &other, json!({"mac_address": "fa:16:3e:00:00:02"})).await?.ok(200)?;
    let service = cloud.tenant("nova", "service").await?;
    let moved = service.update("port", &other, json!({"mac_address": "fa:16:3e:00:00:03"})).await?.ok(200)?;
    assert_eq!(moved["port"]["mac_address"], "fa:16:3e:00:00:03");
    Ok(())
}

#[tokio::test]
async fn address_pairs_are_kept_shown_and_need_port_security() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let red = cloud.tenant("red", "member").await?;
    let (network, _) = red.network("10.0.0.0/24").await?;
    let pairs =
        json!([{"ip_address": "10.0.0.200"}, {"ip_address": "10.9.0.0/16", "mac_address": "fa:16:3e:aa:00:01"}]);
    let port = red.make("port", json!({"network_id": network["id"], "allowed_address_pairs": pairs})).await?;
    let own = port["mac_address"].clone();
    assert_eq!(port["allowed_address_pairs"][0], json!({"ip_address": "10.0.0.200", "mac_address": own}));
    assert_eq!(port["allowed_address_pairs"][1], pairs[1]);
    let off = red.update("port", &port, json!({"port_security_enabled": false})).await?;
    assert_eq!(off.fault(), (409, "AddressPairAndPortSecurityRequired"));
    let both = json!({"port_security_enabled": false, "allowed_address_pairs": [], "security_groups": []});
    red.update("port", &port, both).await?.ok(200)?;
    let double = json!([{"ip_address": "10.0.0.200"}, {"ip_address": "10.0.0.200/32"}]);
    let body = json!({"port": {"network_id": network["id"], "allowed_address_pairs": double}});
    assert_eq!(red.post("/v2.0/ports", &body).await?.fault(), (400, "DuplicateAddressPairInRequest"));
    Ok(())
}

#[tokio::test]
async fn ports_follow_their_networks_port_security_unless_they_say() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let red = cloud.tenant("red", "member").await?;
    let open = red.make("network", json!({"port_security_enabled": false})).await?;
    let port = red.make("port", json!({"network_id": open["id"]})).await?;
    assert_eq!(port["port_security_enabled"], false);
    let port = red.make("port", json!({"network_id": open["id"], "port_security_enabled": true})).await?;
    assert_eq!(port["port_security_enabled"], true);
    assert_eq!(red.get(&format!("/v2.0/ports/{}.json", id(&port))).await?.status, 200);
    Ok(())
}

#[tokio::test]
async fn a_port_says_whether_it_has_addresses() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let red = cloud.tenant("red", "member").await?;
    let (network, _) = red.network("10.0.0.0/24").await?;
    let with = red.make("port", json!({"network_id": network["id"]})).await?;
    let without = red.make("port", json!({"network_id": network["id"], "fixed_ips": []})).await?;
    assert_eq!((&with["ip_allocation"], &without["ip_allocation"]), (&json!("immediate"), &json!("none")));
    assert_eq!(with["resource_request"], json!(null));
    for (kinds, count) in
        [("ip_allocation=none", 1), ("ip_allocation=none&ip_allocation=immediate", 2), ("ip_allocation=x", 0)]
    {
        let list = red.get(&format!("/v2.0/ports?{kinds}")).await?.ok(200)?;
        assert_eq!(list["ports"].as_array().map(Vec::len), Some(count), "{kinds}");
    }
    let list = red.get("/v2.0/ports?ip_allocation=none").await?.ok(200)?;
    assert_eq!(list["ports"][0]["id"], without["id"]);
    Ok(())
}
