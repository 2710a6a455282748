use crate::support::{Cloud, id};
use serde_json::{Value, json};

#[tokio::test]
async fn a_subnet_gets_a_gateway_and_pools_where_it_names_none() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let red = cloud.tenant("red", "member").await?;
    let (network, subnet) = red.network_with("10.0.0.0/24", None).await?;
    assert_eq!(subnet["network_id"], network["id"]);
    assert_eq!(subnet["gateway_ip"], "10.0.0.1");
    assert_eq!(subnet["allocation_pools"], json!([{"start": "10.0.0.2", "end": "10.0.0.254"}]));
    assert_eq!(subnet["enable_dhcp"], true);
    assert_eq!(subnet["ip_version"], 4);
    assert_eq!(red.show("subnet", &subnet).await?, subnet);
    cloud.assert_entries_are_right().await
}

#[tokio::test]
async fn a_subnet_takes_gateway_pools_servers_and_routes_as_named() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let red = cloud.tenant("red", "member").await?;
    let network = red.make("network", json!({})).await?;
    let subnet = red
        .make("subnet", json!({
            "network_id": network["id"], "cidr": "10.0.0.0/24", "ip_version": 4, "name": "s",
            "gateway_ip": null,
            "allocation_pools": [{"start": "10.0.0.100", "end": "10.0.0.110"}, {"start": "10.0.0.10", "end": "10.0.0.20"}],
            "dns_nameservers": ["9.9.9.9", "1.1.1.1"],
            "host_routes": [{"destination": "172.16.0.0/12", "nexthop": "10.0.0.7"}],
            "enable_dhcp": false, "subnetpool_id": null, "ipv6_ra_mode": null,
            "service_types": ["compute:nova", "compute:nova", "network:dhcp"], "dns_publish_fixed_ip": true,
            "segment_id": null,
        }))
        .await?;
    assert_eq!(subnet["gateway_ip"], Value::Null);
    assert_eq!(subnet["allocation_pools"][0]["start"], "10.0.0.10");
    assert_eq!(subnet["dns_nameservers"], json!(["9.9.9.9", "1.1.1.1"]));
    assert_eq!(subnet["host_routes"], json!([{"destination": "172.16.0.0/12", "nexthop": "10.0.0.7"}]));
    assert_eq!(subnet["service_types"], json!(["compute:nova", "network:dhcp"]));
    let changed = red.update("subnet", &subnet, json!({"service_types": []})).await?.ok(200)?["subnet"].clone();
    assert_eq!((&changed["service_types"], &changed["dns_publish_fixed_ip"]), (&json!([]), &json!(true)));
    cloud.assert_entries_are_right().await
}

#[tokio::test]
async fn subnets_of_one_network_do_not_overlap_but_those_of_two_may() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let red = cloud.tenant("red", "member").await?;
    let (network, _) = red.network("10.0.0.0/24").await?;
    for cidr in ["10.0.0.0/24", "10.0.0.128/25", "10.0.0.0/16"] {
        let body = json!({"subnet": {"network_id": network["id"], "cidr": cidr, "ip_version": 4}});
        let refused = red.post("/v2.0/subnets", &body).await?;
        assert_eq!(refused.fault(), (400, "InvalidInput"), "{cidr}");
        assert!(refused.message().contains("overlaps with another subnet"), "{}", refused.message());
    }
    red.network("10.0.0.0/24").await?;
    Ok(())
}

#[tokio::test]
async fn a_subnet_with_addresses_in_use_stays() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let red = cloud.tenant("red", "member").await?;
    let (network, subnet) = red.network("10.0.0.0/24").await?;
    let port = red.make("port", json!({"network_id": network["id"]})).await?;
    assert_eq!(red.remove("subnet", &subnet).await?.fault(), (409, "SubnetInUse"));
    red.remove("port", &port).await?.ok(204)?;
    red.remove("subnet", &subnet).await?.ok(204)?;
    cloud.assert_entries_are_right().await
}

#[tokio::test]
async fn an_update_changes_what_it_names_and_keeps_the_rest() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let red = cloud.tenant("red", "member").await?;
    let (_, subnet) = red.network_with("10.0.0.0/24", None).await?;
    let changed = red.update("subnet", &subnet, json!({"dns_nameservers": ["9.9.9.9"], "name": "s"})).await?.ok(200)?;
    assert_eq!(changed["subnet"]["gateway_ip"], "10.0.0.1");
    assert_eq!(changed["subnet"]["dns_nameservers"], json!(["9.9.9.9"]));
    assert_eq!(changed["subnet"]["revision_number"], 1);
    let conflict = red.update("subnet", &subnet, json!({"gateway_ip": "10.0.0.9"})).await?;
    assert_eq!(conflict.fault(), (409, "GatewayConflictWithAllocationPools"));
    let none = red.update("subnet", &subnet, json!({"gateway_ip": null})).await?.ok(200)?;
    assert_eq!(none["subnet"]["gateway_ip"], Value::Null);
    let fixed = red.update("subnet", &subnet, json!({"cidr": "10.1.0.0/24"})).await?;
    assert_eq!(fixed.fault(), (400, "HTTPBadRequest"));
    cloud.assert_entries_are_right().await
}

#[tokio::test]
async fn a_gateway_cannot_take_the_address_of_a_port() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let red = cloud.tenant("red", "member").await?;
    let network = red.make("network", json!({})).await?;
    let pools = json!([{"start": "10.0.0.10", "end": "10.0.0.20"}]);
    let subnet =
        json!({"network_id": network["id"], "cidr": "10.0.0.0/24", "ip_version": 4, "allocation_pools": pools});
    let subnet = red.make("subnet", subnet).await?;
    let fixed = json!([{"ip_address": "10.0.0.5"}]);
    let port = red.make("port", json!({"network_id": network["id"], "fixed_ips": fixed})).await?;
    let refused = red.update("subnet", &subnet, json!({"gateway_ip": "10.0.0.5"})).await?;
    assert_eq!(refused.fault(), (409, "GatewayIpInUse"));
    assert!(refused.message().contains(id(&port)));
    Ok(())
}

#[tokio::test]
async fn a_port_gets_its_address_of_a_subnet_for_its_device() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let red = cloud.tenant("red", "member").await?;
    let network = red.make("network", json!({})).await?;
    let subnet = |cidr: &str, kinds: Value| json!({"network_id": network["id"], "ip_version": 4, "cidr": cidr, "service_types": kinds});
    let nova = red.make("subnet", subnet("10.0.0.0/24", json!(["compute:nova"]))).await?;
    let port = |owner: &str| json!({"network_id": network["id"], "device_owner": owner});
    let refused = red.post("/v2.0/ports", &json!({"port": port("")})).await?;
    assert_eq!(refused.fault(), (409, "IpAddressGenerationFailureNoMatchingSubnet"));
    let made = red.make("port", port("compute:nova")).await?;
    assert_eq!(made["fixed_ips"][0]["subnet_id"], nova["id"]);
    let rest = red.make("subnet", subnet("10.0.1.0/24", json!([]))).await?;
    assert_eq!(red.make("port", port("")).await?["fixed_ips"][0]["subnet_id"], rest["id"]);
    assert_eq!(red.make("port", port("compute:nova")).await?["fixed_ips"][0]["subnet_id"], nova["id"]);
    let named = json!({"network_id": network["id"], "fixed_ips": [{"subnet_id": nova["id"]}]});
    assert_eq!(red.make("port", named).await?["fixed_ips"][0]["subnet_id"], nova["id"]);
    Ok(())
}
