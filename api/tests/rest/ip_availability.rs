use crate::support::{Cloud, id};
use serde_json::json;

#[tokio::test]
async fn a_network_says_how_many_addresses_it_has_and_how_many_are_used() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let red = cloud.tenant("red", "member").await?;
    let (network, subnet) = red.network_with("10.0.0.0/24", None).await?;
    let pools = json!([{"start": "10.0.1.10", "end": "10.0.1.13"}, {"start": "10.0.1.20", "end": "10.0.1.20"}]);
    let second =
        json!({"network_id": network["id"], "cidr": "10.0.1.0/24", "ip_version": 4, "allocation_pools": pools});
    let second = red.make("subnet", second).await?;
    let outside = json!([{"subnet_id": second["id"], "ip_address": "10.0.1.99"}]);
    red.make("port", json!({"network_id": network["id"], "fixed_ips": outside})).await?;
    for _ in 0..2 {
        let within = json!([{"subnet_id": subnet["id"]}]);
        red.make("port", json!({"network_id": network["id"], "fixed_ips": within})).await?;
    }

    let path = format!("/v2.0/network-ip-availabilities/{}", id(&network));
    let shown = red.get(&path).await?.ok(200)?["network_ip_availability"].clone();
    assert_eq!((&shown["network_id"], &shown["network_name"]), (&network["id"], &json!("n")));
    assert_eq!((&shown["project_id"], &shown["tenant_id"]), (&json!(red.project), &json!(red.project)));
    // 254 hosts without the gateway, and five of the second's pools.
    assert_eq!((&shown["total_ips"], &shown["used_ips"]), (&json!(258), &json!(3)));
    let mut subnets = shown["subnet_ip_availability"].as_array().cloned().unwrap_or_default();
    subnets.sort_by_key(|subnet| subnet["cidr"].to_string());
    let details = |total, of_pools, used, used_of_pools| {
        json!({"total_ips_in_subnet": total, "total_ips_in_allocation_pool": of_pools, "used_ips_in_subnet": used,
            "used_ips_in_allocation_pool": used_of_pools})
    };
    let of = |subnet: &serde_json::Value, cidr, total, used, used_of_pools| {
        json!({"subnet_id": subnet["id"], "subnet_name": "", "cidr": cidr, "ip_version": 4, "total_ips": total,
            "used_ips": used, "ip_availability_details": details(254, total, used, used_of_pools)})
    };
    assert_eq!(subnets, [of(&subnet, "10.0.0.0/24", 253, 2, 2), of(&second, "10.0.1.0/24", 5, 1, 0)]);
    assert_eq!(shown["ip_availability_details"], details(508, 258, 3, 2));
    Ok(())
}

#[tokio::test]
async fn a_query_for_an_ip_version_counts_only_its_subnets() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let red = cloud.tenant("red", "member").await?;
    let (dual, _) = red.network("10.0.0.0/30").await?;
    let empty = red.make("network", json!({"name": "empty"})).await?;
    // Stored as it would be: the data plane carries no IPv6 yet, and the API takes none.
    let six = "INSERT INTO subnets (id, project_id, network_id, ip_version, cidr, allocation_pools) VALUES";
    let pools = r#"[{"start": "2001:db8::1", "end": "2001:db8::ffff:ffff:ffff:ffff"}]"#;
    cloud
        .sql(&format!("{six} (gen_random_uuid(), '{}', '{}', 6, '2001:db8::/64', '{pools}')", red.project, id(&dual)))
        .await?;
    let totals = async |query: &str| -> anyhow::Result<Vec<String>> {
        let answer = red.get(&format!("/v2.0/network-ip-availabilities{query}")).await?;
        anyhow::ensure!(answer.status == 200, "{}", answer.text);
        let list = answer.body["network_ip_availabilities"].as_array().cloned().unwrap_or_default();
        Ok(list.iter().map(|network| network["total_ips"].to_string()).collect())
    };
    assert_eq!(totals("?ip_version=4").await?, ["1"]);
    assert_eq!(totals("?ip_version=6").await?, ["18446744073709551615"]);
    // More than 64 bits hold, and so read as text.
    let both = red.get(&format!("/v2.0/network-ip-availabilities/{}", id(&dual))).await?;
    assert!(both.text.contains("\"total_ips\":18446744073709551616,"), "{}", both.text);
    assert_eq!(totals("?ip_version=5").await?.len(), 0);
    assert_eq!(totals(&format!("?network_id={}", id(&empty))).await?, ["0"]);
    assert_eq!(totals("?network_name=empty").await?, ["0"]);
    assert_eq!(
        totals(&format!("?project_id={}&limit=1&sort_key=network_name&sort_dir=asc", red.project)).await?,
        ["0"]
    );
    assert_eq!(red.get("/v2.0/network-ip-availabilities?total_ips=1").await?.fault(), (400, "HTTPBadRequest"));
    Ok(())
}

#[tokio::test]
async fn who_sees_a_network_sees_its_addresses_and_nobody_writes_them() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let (admin, red) = (cloud.admin().await?, cloud.tenant("red", "member").await?);
    let blue = cloud.tenant("blue", "reader").await?;
    let (network, _) = red.network("10.0.0.0/24").await?;
    let path = format!("/v2.0/network-ip-availabilities/{}", id(&network));
    assert_eq!(blue.get(&path).await?.fault(), (404, "NetworkNotFound"));
    let list = blue.get("/v2.0/network-ip-availabilities").await?.ok(200)?;
    assert_eq!(list, json!({"network_ip_availabilities": []}));
    admin.update("network", &network, json!({"shared": true})).await?.ok(200)?;
    blue.get(&path).await?.ok(200)?;
    let list = blue.get("/v2.0/network-ip-availabilities").await?.ok(200)?;
    assert_eq!(list["network_ip_availabilities"][0]["network_id"], network["id"]);
    let body = json!({"network_ip_availability": {"total_ips": 1}});
    assert_eq!(red.put(&path, Some(&body)).await?.fault(), (405, "HTTPMethodNotAllowed"));
    assert_eq!(red.delete(&path).await?.fault(), (405, "HTTPMethodNotAllowed"));
    Ok(())
}
