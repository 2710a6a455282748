use crate::support::{Cloud, address, id};
use mizar_wire::{Kind, Scope};
use serde_json::{Value, json};

/// What the host of the only bound port is told for DHCP.
async fn told(cloud: &Cloud, host: u32) -> anyhow::Result<Value> {
    let query = format!(
        "SELECT convert_from(body, 'UTF8') FROM entries WHERE scope = {} AND kind = {} AND NOT deleted",
        Scope::Host(host).to_i64(),
        Kind::Port as i16
    );
    let rows = cloud.rows(&query).await?;
    anyhow::ensure!(rows.len() == 1, "{rows:?}");
    Ok(serde_json::from_str::<Value>(&rows[0])?["dhcp_options"].clone())
}

#[tokio::test]
async fn dhcp_options_are_kept_changed_by_name_and_told_to_the_host() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let admin = cloud.admin().await?;
    let host = cloud.host("h1", 1500, 1).await?;
    let (network, _) = admin.network("10.0.0.0/24").await?;
    let option = |name: &str, value: &str| json!({"opt_name": name, "opt_value": value, "ip_version": 4});
    let sent =
        json!([{"opt_name": "bootfile-name", "opt_value": "a"}, option("150", "192.0.2.1"), {"opt_name": "mtu"}]);
    let wish = json!({"network_id": network["id"], "binding:host_id": "h1", "extra_dhcp_opts": sent});
    let port = admin.make("port", wish).await?;
    assert_eq!(port["extra_dhcp_opts"], json!([option("bootfile-name", "a"), option("150", "192.0.2.1")]));
    let entry = json!([{"code": 67, "value": "61"}, {"code": 150, "value": "c0000201"}]);
    assert_eq!(told(&cloud, host).await?, entry);

    cloud.sql("UPDATE ports SET status = 'ACTIVE', wired_generation = generation").await?;
    let sent =
        json!([option("67", "b"), {"opt_name": "150", "opt_value": null}, {"opt_name": "router", "opt_value": ""}]);
    let changed = admin.update("port", &port, json!({"extra_dhcp_opts": sent})).await?.ok(200)?["port"].clone();
    assert_eq!(changed["extra_dhcp_opts"], json!([option("67", "b"), option("router", "")]));
    assert_eq!(changed["status"], "ACTIVE", "packets take no other way");
    assert_eq!(told(&cloud, host).await?, json!([{"code": 67, "value": "62"}, {"code": 3, "value": ""}]));
    for nothing in [json!([]), Value::Null] {
        let kept = admin.update("port", &port, json!({ "extra_dhcp_opts": nothing })).await?.ok(200)?;
        assert_eq!(kept["port"]["extra_dhcp_opts"], changed["extra_dhcp_opts"]);
    }
    assert_eq!(admin.show("port", &port).await?["extra_dhcp_opts"], changed["extra_dhcp_opts"]);
    cloud.assert_entries_are_right().await?;

    let gone = json!([{"opt_name": "bootfile-name", "opt_value": null}, {"opt_name": "router", "opt_value": null}]);
    let bare = admin.update("port", &port, json!({ "extra_dhcp_opts": gone })).await?.ok(200)?;
    assert_eq!(bare["port"]["extra_dhcp_opts"], json!([]));
    assert_eq!(told(&cloud, host).await?, Value::Null);
    assert_eq!(cloud.rows("SELECT extras FROM ports").await?, ["{}"]);
    cloud.assert_entries_are_right().await
}

#[tokio::test]
async fn dhcp_options_that_could_not_be_sent_are_refused_and_change_nothing() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let red = cloud.tenant("red", "member").await?;
    let (network, _) = red.network("10.0.0.0/24").await?;
    let port = red.make("port", json!({"network_id": network["id"]})).await?;
    let many: Vec<Value> = (192..=224).map(|n: i32| json!({"opt_name": n.to_string(), "opt_value": "1"})).collect();
    for (wrong, about) in [
        (json!([{"opt_name": "nonsense", "opt_value": "1"}]), "'nonsense' is no DHCP option"),
        (json!([{"opt_name": "tag:ipxe,67", "opt_value": "x"}]), "depends on a tag"),
        (json!([{"opt_name": "lease-time", "opt_value": "1"}]), "what DHCP itself works with"),
        (json!([{"opt_name": "mtu", "opt_value": "x"}]), "it takes a number from 0 to 65535"),
        (json!([{"opt_name": "67", "opt_value": ""}]), "'' is not possible for the DHCP option 67"),
        (json!([{"opt_name": "67", "opt_value": "x".repeat(256)}]), "exceeds maximum length of 255"),
        (json!([{"opt_name": "x".repeat(65), "opt_value": "x"}]), "exceeds maximum length of 64"),
        (json!([{"opt_name": "67", "opt_value": "a\u{0}b"}]), "NUL"),
        (json!([{"opt_value": "x"}]), "opt_name is required"),
        (json!([{"opt_name": "67", "opt_value": "x", "ip_version": 6}]), "IPv6"),
        (json!([{"opt_name": "67", "opt_value": "x", "ip_version": 5}]), "'5' is not in [4, 6]"),
        (json!([{"opt_name": "67", "opt_value": "x", "more": 1}]), "Unexpected keys supplied: more"),
        (json!([{"opt_name": "67", "opt_value": "x"}, {"opt_name": "bootfile-name", "opt_value": "y"}]), "Duplicate"),
        (json!(many), "33 options exceed the maximum of 32"),
        (json!({"opt_name": "67", "opt_value": "x"}), "is not a list"),
        (json!(["67"]), "is not a dictionary"),
    ] {
        let answer = red.update("port", &port, json!({ "extra_dhcp_opts": wrong, "name": "x" })).await?;
        assert_eq!(answer.fault(), (400, "HTTPBadRequest"), "{wrong}");
        let message = answer.message();
        assert!(message.contains("extra_dhcp_opts") && message.contains(about), "{wrong}: {message}");
        let create = json!({"port": {"network_id": network["id"], "extra_dhcp_opts": wrong}});
        assert_eq!(red.post("/v2.0/ports", &create).await?.fault(), (400, "HTTPBadRequest"), "{wrong}");
    }
    assert_eq!(red.show("port", &port).await?, port);
    red.update("port", &port, json!({"extra_dhcp_opts": many[1..]})).await?.ok(200)?;
    Ok(())
}

#[tokio::test]
async fn a_name_is_assigned_to_addresses_in_the_ports_networks_or_clouds_domain() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let admin = cloud.admin().await?;
    let host = cloud.host("h1", 1500, 1).await?;
    let (network, _) = admin.network("10.0.0.0/24").await?;
    let wish = json!({"network_id": network["id"], "binding:host_id": "h1", "dns_name": "Web"});
    let port = admin.make("port", wish).await?;
    let assigned = |port: &Value, hostname: &str, fqdn: &str| {
        assert_eq!(port["dns_assignment"], json!([{"ip_address": address(port), "hostname": hostname, "fqdn": fqdn}]));
    };
    assert_eq!((&port["dns_name"], &port["dns_domain"]), (&json!("web"), &json!("")));
    assigned(&port, "web", "web.openstacklocal.");
    assert_eq!(told(&cloud, host).await?, json!([{"code": 12, "value": "776562"}]));

    admin.update("network", &network, json!({"dns_domain": "Of.Network."})).await?.ok(200)?;
    assigned(&admin.show("port", &port).await?, "web", "web.of.network.");
    let listed = admin.get(&format!("/v2.0/ports?id={}", id(&port))).await?.ok(200)?["ports"][0].clone();
    assigned(&listed, "web", "web.of.network.");
    let second = admin.make("port", json!({"network_id": network["id"], "dns_name": "second"})).await?;
    assigned(&second, "second", "second.of.network.");
    let nameless = admin.make("port", json!({"network_id": network["id"], "dns_domain": "own.org."})).await?;
    let by_address = format!("host-{}", address(&nameless)).replace('.', "-");
    assigned(&nameless, &by_address, &format!("{by_address}.openstacklocal."));
    let none = admin.make("port", json!({"network_id": network["id"], "fixed_ips": [], "dns_name": "x"})).await?;
    assert_eq!(none["dns_assignment"], json!([]));

    let own = admin.update("port", &port, json!({"dns_domain": "own.org."})).await?.ok(200)?["port"].clone();
    assigned(&own, "web", "web.own.org.");
    let whole = admin.update("port", &port, json!({"dns_name": "a.example.org."})).await?.ok(200)?["port"].clone();
    assigned(&whole, "a.example.org.", "a.example.org.");
    let domain = "own.org".bytes().map(|byte| format!("{byte:02x}")).collect::<String>();
    assert_eq!(told(&cloud, host).await?, json!([{"code": 12, "value": "61"}, {"code": 15, "value": domain}]));
    let cleared = admin.update("port", &port, json!({"dns_name": "", "dns_domain": ""})).await?.ok(200)?;
    assert_eq!((&cleared["port"]["dns_name"], &cleared["port"]["dns_domain"]), (&json!(""), &json!("")));
    assert_eq!(told(&cloud, host).await?, Value::Null);
    cloud.assert_entries_are_right().await?;

    for (name, wrong) in [
        ("dns_name", json!("a..b")),
        ("dns_name", json!("-a")),
        ("dns_name", json!("a.7")),
        ("dns_name", json!("a".repeat(64))),
        ("dns_name", json!(["a".repeat(60).as_str(); 4].join("."))),
        ("dns_name", json!(7)),
        ("dns_name", json!(null)),
        ("dns_domain", json!("a b")),
        ("dns_assignment", json!([])),
    ] {
        let answer = admin.update("port", &port, json!({ name: wrong })).await?;
        assert_eq!(answer.fault(), (400, "HTTPBadRequest"), "{name}: {wrong}");
        assert!(answer.message().contains(name), "{}", answer.message());
    }
    Ok(())
}

#[tokio::test]
async fn what_is_for_others_to_read_is_kept_and_has_its_rights() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let admin = cloud.admin().await?;
    let red = cloud.tenant("red", "member").await?;
    let (network, _) = red.network("10.0.0.0/24").await?;
    let plain = red.make("port", json!({"network_id": network["id"]})).await?;
    assert_eq!(plain["propagate_uplink_status"], true);
    for name in ["device_profile", "numa_affinity_policy", "data_plane_status", "resource_request"] {
        assert_eq!(plain.get(name), Some(&Value::Null), "{name}");
    }
    for name in ["hints", "trusted"] {
        assert!(plain.get(name).is_none(), "{name}");
        assert_eq!(admin.show("port", &plain).await?.get(name), Some(&Value::Null), "{name}");
    }
    let wish = json!({"network_id": network["id"], "device_profile": "gpu", "numa_affinity_policy": "socket",
        "propagate_uplink_status": false});
    let port = red.make("port", wish).await?;
    assert_eq!((&port["device_profile"], &port["numa_affinity_policy"]), (&json!("gpu"), &json!("socket")));
    assert_eq!(port["propagate_uplink_status"], false);
    let changed = json!({"numa_affinity_policy": null, "propagate_uplink_status": true});
    let changed = red.update("port", &port, changed).await?.ok(200)?["port"].clone();
    assert_eq!((&changed["numa_affinity_policy"], &changed["propagate_uplink_status"]), (&Value::Null, &json!(true)));
    assert_eq!(changed["device_profile"], "gpu");

    for (name, value) in [("data_plane_status", json!("DOWN")), ("hints", json!({})), ("trusted", json!(true))] {
        let answer = red.update("port", &port, json!({ name: value })).await?;
        assert_eq!(answer.fault(), (403, "PolicyNotAuthorized"), "{name}");
    }
    let nova = cloud.tenant("nova", "service").await?;
    let down = nova.update("port", &port, json!({"data_plane_status": "DOWN"})).await?.ok(200)?;
    assert_eq!((&down["port"]["data_plane_status"], &down["port"]["status"]), (&json!("DOWN"), &json!("DOWN")));
    let hints = json!({"openvswitch": {"other_config": {"tx-steering": "hash"}}});
    let set = json!({"hints": hints, "trusted": true, "data_plane_status": null});
    let set = admin.update("port", &port, set).await?.ok(200)?["port"].clone();
    assert_eq!((&set["hints"], &set["trusted"], &set["data_plane_status"]), (&hints, &json!(true), &Value::Null));
    assert_eq!(admin.show("port", &port).await?, set);
    let unset = json!({"hints": null, "trusted": null});
    let unset = admin.update("port", &port, unset).await?.ok(200)?["port"].clone();
    assert_eq!((&unset["hints"], &unset["trusted"]), (&Value::Null, &Value::Null));

    for (attributes, name) in [
        (json!({"device_profile": "other"}), "device_profile"),
        (json!({"numa_affinity_policy": "any"}), "numa_affinity_policy"),
        (json!({"data_plane_status": "BUILD"}), "data_plane_status"),
        (json!({"propagate_uplink_status": null}), "propagate_uplink_status"),
        (json!({"hints": []}), "hints"),
        (json!({"trusted": "perhaps"}), "trusted"),
        (json!({"resource_request": {}}), "resource_request"),
        (json!({"ip_allocation": "none"}), "ip_allocation"),
    ] {
        let answer = admin.update("port", &port, attributes).await?;
        assert_eq!(answer.fault(), (400, "HTTPBadRequest"), "{name}");
        assert!(answer.message().contains(name), "{}", answer.message());
    }
    let create = json!({"port": {"network_id": network["id"], "data_plane_status": "DOWN"}});
    assert_eq!(admin.post("/v2.0/ports", &create).await?.fault(), (400, "HTTPBadRequest"));
    Ok(())
}

#[tokio::test]
async fn a_subnet_says_whether_its_network_is_outside() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let admin = cloud.admin().await?;
    let (_, outside) = crate::routers::outside(&admin).await?;
    let (network, inside) = admin.network("10.0.0.0/24").await?;
    assert_eq!((&outside["router:external"], &inside["router:external"]), (&json!(true), &json!(false)));
    for (flag, subnet) in [(true, &outside), (false, &inside)] {
        let list = admin.get(&format!("/v2.0/subnets?router:external={flag}")).await?.ok(200)?;
        assert_eq!(crate::support::ids(&list["subnets"]), [id(subnet)]);
    }
    assert_eq!(
        admin.update("subnet", &inside, json!({"router:external": true})).await?.fault(),
        (400, "HTTPBadRequest")
    );
    admin.update("network", &network, json!({"router:external": true})).await?.ok(200)?;
    assert_eq!(admin.show("subnet", &inside).await?["router:external"], true);
    Ok(())
}
