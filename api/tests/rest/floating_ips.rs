use crate::routers::{act, outside};
use crate::support::{Client, Cloud, address, id, ids};
use futures::future::join_all;
use serde_json::{Value, json};

/// A network of a tenant's that a router joins to the outside, and a port on it.
struct World {
    cloud: Cloud,
    admin: Client,
    red: Client,
    out: Value,
    network: Value,
    subnet: Value,
    router: Value,
    port: Value,
}

async fn world() -> anyhow::Result<World> {
    let cloud = Cloud::start().await?;
    let (admin, red) = (cloud.admin().await?, cloud.tenant("red", "member").await?);
    let (out, _) = outside(&admin).await?;
    let (network, subnet) = red.network("10.0.0.0/24").await?;
    let router = json!({"external_gateway_info": {"network_id": out["id"]}});
    let router = red.make("router", router).await?;
    act(&red, &router, "add_router_interface", json!({"subnet_id": subnet["id"]})).await?.ok(200)?;
    let port = red.make("port", json!({"network_id": network["id"], "name": "vm"})).await?;
    Ok(World { cloud, admin, red, out, network, subnet, router, port })
}

impl World {
    async fn floating(&self, mut more: Value) -> anyhow::Result<crate::support::Answer> {
        more["floating_network_id"] = self.out["id"].clone();
        self.red.post("/v2.0/floatingips", &json!({ "floatingip": more })).await
    }

    async fn made(&self, more: Value) -> anyhow::Result<Value> {
        Ok(self.floating(more).await?.ok(201)?["floatingip"].clone())
    }
}

#[tokio::test]
async fn a_floating_ip_takes_an_address_outside_and_stands_for_a_port() -> anyhow::Result<()> {
    let w = world().await?;
    let free = w.made(json!({"description": "d", "tags": ["a"], "dns_name": "Web", "dns_domain": "a.org."})).await?;
    assert_eq!((&free["dns_name"], &free["dns_domain"]), (&json!("web"), &json!("a.org.")));
    assert_eq!(w.floating(json!({"dns_name": "a..b"})).await?.fault(), (400, "HTTPBadRequest"));
    for name in ["port_id", "fixed_ip_address", "router_id", "port_details"] {
        assert_eq!(free[name], Value::Null, "{name}");
    }
    assert_eq!((&free["status"], &free["floating_network_id"]), (&json!("DOWN"), &w.out["id"]));
    let outside: std::net::Ipv4Addr = free["floating_ip_address"].as_str().unwrap_or_default().parse()?;
    assert_eq!(outside.octets()[..3], [198, 51, 100]);
    let held = w.admin.get(&format!("/v2.0/ports?device_id={}", id(&free))).await?.ok(200)?;
    assert_eq!(held["ports"][0]["device_owner"], "network:floatingip");
    assert_eq!(w.admin.remove("port", &held["ports"][0]).await?.fault(), (409, "ServicePortInUse"));

    let set = w.red.update("floatingip", &free, json!({"port_id": w.port["id"]})).await?.ok(200)?;
    let set = &set["floatingip"];
    assert_eq!(
        (&set["port_id"], &set["fixed_ip_address"], &set["router_id"], &set["status"]),
        (&w.port["id"], &json!(address(&w.port)), &w.router["id"], &json!("DOWN"))
    );
    assert_eq!((&set["port_details"]["name"], &set["revision_number"]), (&json!("vm"), &json!(1)));
    let found = format!(
        "/v2.0/floatingips?port_id={}&router_id={}&fixed_ip_address={}&floating_ip_address={outside}&status=DOWN&tags=a",
        id(&w.port),
        id(&w.router),
        address(&w.port)
    );
    assert_eq!(ids(&w.red.get(&found).await?.ok(200)?["floatingips"]), [id(&free)]);
    let described = w.red.update("floatingip", &free, json!({"description": "e"})).await?.ok(200)?;
    assert_eq!(described["floatingip"]["port_id"], w.port["id"], "what is not mentioned stays");

    // It needs its way.
    let remove = act(&w.red, &w.router, "remove_router_interface", json!({"subnet_id": w.subnet["id"]})).await?;
    assert_eq!(remove.fault(), (409, "RouterInterfaceInUseByFloatingIP"));
    let close = w.red.update("router", &w.router, json!({"external_gateway_info": null})).await?;
    assert_eq!(close.fault(), (409, "RouterExternalGatewayInUseByFloatingIp"));
    let close = w.admin.update("network", &w.out, json!({"router:external": false})).await?;
    assert_eq!(close.fault(), (409, "ExternalNetworkInUse"));

    let unset = w.red.update("floatingip", &free, json!({"port_id": null})).await?.ok(200)?;
    for name in ["port_id", "fixed_ip_address", "router_id"] {
        assert_eq!(unset["floatingip"][name], Value::Null, "{name}");
    }
    w.red.remove("floatingip", &free).await?.ok(204)?;
    assert_eq!(w.admin.get(&format!("/v2.0/ports?device_id={}", id(&free))).await?.ok(200)?["ports"], json!([]));
    w.cloud.assert_entries_are_right().await
}

#[tokio::test]
async fn a_port_that_goes_or_changes_its_address_frees_its_floating_ip() -> anyhow::Result<()> {
    let w = world().await?;
    let floating = w.made(json!({"port_id": w.port["id"]})).await?;
    let same = json!({"fixed_ips": [{"ip_address": address(&w.port)}], "name": "x"});
    w.red.update("port", &w.port, same).await?.ok(200)?;
    assert_eq!(w.red.show("floatingip", &floating).await?["port_id"], w.port["id"]);
    w.red.update("port", &w.port, json!({"fixed_ips": [{"ip_address": "10.0.0.200"}]})).await?.ok(200)?;
    let freed = w.red.show("floatingip", &floating).await?;
    assert_eq!((&freed["port_id"], &freed["router_id"]), (&Value::Null, &Value::Null));
    let set = json!({"port_id": w.port["id"], "fixed_ip_address": "10.0.0.200"});
    w.red.update("floatingip", &floating, set).await?.ok(200)?;
    w.red.remove("port", &w.port).await?.ok(204)?;
    let freed = w.red.show("floatingip", &floating).await?;
    assert_eq!((&freed["port_id"], &freed["fixed_ip_address"]), (&Value::Null, &Value::Null));
    assert_eq!(freed["floating_ip_address"], floating["floating_ip_address"]);
    Ok(())
}

#[tokio::test]
async fn impossible_floating_ips_are_refused() -> anyhow::Result<()> {
    let w = world().await?;
    let blue = w.cloud.tenant("blue", "member").await?;
    let (_, lonely) = w.red.network("10.3.0.0/24").await?;
    let far = w.red.make("port", json!({"network_id": lonely["network_id"]})).await?;
    let bare = w.red.make("port", json!({"network_id": w.network["id"], "fixed_ips": []})).await?;
    let two = json!({"network_id": w.network["id"], "fixed_ips": [{"subnet_id": w.subnet["id"]}, {"subnet_id": w.subnet["id"]}]});
    let two = w.red.make("port", two).await?;
    let taken = w.made(json!({"port_id": w.port["id"]})).await?;
    let before = w.cloud.dump().await?;
    for (body, expected) in [
        (json!({"port_id": far["id"]}), (404, "ExternalGatewayForFloatingIPNotFound")),
        (json!({"port_id": bare["id"]}), (400, "BadRequest")),
        (json!({"port_id": two["id"]}), (400, "BadRequest")),
        (json!({"port_id": uuid::Uuid::nil()}), (404, "PortNotFound")),
        (json!({"port_id": w.port["id"]}), (409, "FloatingIPPortAlreadyAssociated")),
        (json!({"port_id": w.port["id"], "fixed_ip_address": "10.99.0.250"}), (400, "BadRequest")),
        (json!({"fixed_ip_address": "10.99.0.250"}), (400, "BadRequest")),
        (json!({"floating_ip_address": "198.51.100.9"}), (403, "PolicyNotAuthorized")),
        (json!({"subnet_id": w.subnet["id"]}), (400, "InvalidInput")),
        (json!({"router_id": w.router["id"]}), (400, "HTTPBadRequest")),
    ] {
        let answer = w.floating(body.clone()).await?;
        assert_eq!(answer.fault(), expected, "{body}: {}", answer.text);
    }
    let inside = json!({"floatingip": {"floating_network_id": w.network["id"]}});
    assert_eq!(w.red.post("/v2.0/floatingips", &inside).await?.fault(), (400, "BadRequest"));
    let nowhere = json!({"floatingip": {}});
    assert_eq!(w.red.post("/v2.0/floatingips", &nowhere).await?.fault(), (400, "HTTPBadRequest"));
    assert_eq!(w.cloud.dump().await?, before, "a refusal changes nothing");

    assert_eq!(blue.get(&format!("/v2.0/floatingips/{}", id(&taken))).await?.fault(), (404, "FloatingIPNotFound"));
    let theirs = json!({"floatingip": {"floating_network_id": w.out["id"], "port_id": w.port["id"]}});
    assert_eq!(blue.post("/v2.0/floatingips", &theirs).await?.fault(), (404, "PortNotFound"));
    let chosen = json!({"floatingip": {"floating_network_id": w.out["id"], "floating_ip_address": "198.51.100.9",
        "project_id": w.red.project}});
    let chosen = w.admin.post("/v2.0/floatingips", &chosen).await?.ok(201)?["floatingip"].clone();
    assert_eq!(
        (&chosen["floating_ip_address"], &chosen["project_id"]),
        (&json!("198.51.100.9"), &json!(w.red.project))
    );
    let set = json!({"port_id": two["id"], "fixed_ip_address": two["fixed_ips"][1]["ip_address"]});
    let set = w.red.update("floatingip", &chosen, set).await?.ok(200)?;
    assert_eq!(set["floatingip"]["fixed_ip_address"], two["fixed_ips"][1]["ip_address"]);
    let other = json!({"fixed_ip_address": two["fixed_ips"][0]["ip_address"]});
    let set = w.red.update("floatingip", &chosen, other).await?.ok(200)?;
    assert_eq!(set["floatingip"]["fixed_ip_address"], two["fixed_ips"][0]["ip_address"]);
    Ok(())
}

#[tokio::test]
async fn floating_ips_have_a_quota_and_an_address_each_whoever_asks_at_once() -> anyhow::Result<()> {
    let w = world().await?;
    let project = &w.red.project;
    let limit = format!("INSERT INTO quotas (project_id, resource, max) VALUES ('{project}', 'floatingip', 5)");
    w.cloud.sql(&limit).await?;
    let answers = join_all((0..12).map(|_| w.floating(json!({})))).await;
    let answers: Vec<_> = answers.into_iter().collect::<anyhow::Result<_>>()?;
    let made: Vec<&Value> = answers.iter().filter(|a| a.status == 201).map(|a| &a.body["floatingip"]).collect();
    assert_eq!(made.len(), 5, "{answers:?}");
    assert!(answers.iter().filter(|a| a.status != 201).all(|a| a.fault() == (409, "OverQuota")));
    // One port, five floating IPs: one gets it.
    let port = json!({"port_id": w.port["id"]});
    let sets = join_all(made.iter().map(|ip| w.red.update("floatingip", ip, port.clone()))).await;
    let sets: Vec<_> = sets.into_iter().collect::<anyhow::Result<_>>()?;
    assert_eq!(sets.iter().filter(|a| a.status == 200).count(), 1, "{sets:?}");
    let lost = (409, "FloatingIPPortAlreadyAssociated");
    assert!(sets.iter().filter(|a| a.status != 200).all(|a| a.fault() == lost), "{sets:?}");
    // The port goes while others still want it: whoever comes later finds none.
    let gone = w.red.remove("port", &w.port);
    let (gone, sets) = tokio::join!(gone, join_all(made.iter().map(|ip| w.red.update("floatingip", ip, port.clone()))));
    gone?.ok(204)?;
    for answer in sets {
        let answer = answer?;
        assert!([200, 404, 409].contains(&answer.status.as_u16()), "{answer:?}");
    }
    for ip in made {
        assert_eq!(w.red.show("floatingip", ip).await?["port_id"], Value::Null);
        w.red.remove("floatingip", ip).await?.ok(204)?;
    }
    assert_eq!(w.cloud.rows("SELECT count(*) FROM ports WHERE device_owner = 'network:floatingip'").await?, ["0"]);
    Ok(())
}

#[tokio::test]
async fn where_several_routers_lead_to_a_port_its_gateway_is_taken_and_nobody_names_another() -> anyhow::Result<()> {
    let w = world().await?;
    let second = json!({"external_gateway_info": {"network_id": w.out["id"]}});
    let second = w.red.make("router", second).await?;
    let leg = w.red.make("port", json!({"network_id": w.network["id"]})).await?;
    act(&w.red, &second, "add_router_interface", json!({"port_id": leg["id"]})).await?.ok(200)?;
    // As Neutron, which chooses itself: also another project's router could be named on a shared network.
    for router in [&second["id"], &Value::Null] {
        let answer = w.floating(json!({"port_id": w.port["id"], "router_id": router})).await?;
        assert_eq!((answer.status.as_u16(), answer.message()), (400, "Attribute 'router_id' not allowed in POST"));
    }
    let made = w.made(json!({"port_id": w.port["id"]})).await?;
    assert_eq!(made["router_id"], w.router["id"], "the gateway of its subnet");
    let named = w.red.update("floatingip", &made, json!({"router_id": second["id"]})).await?;
    assert_eq!((named.status.as_u16(), named.message()), (400, "Cannot update read-only attribute router_id"));

    // When the gateway is another, who says what is so already changes nothing; who asks anew gets that.
    let gateway = leg["fixed_ips"][0]["ip_address"].as_str().unwrap_or_default();
    w.cloud.sql(&format!("UPDATE subnets SET gateway_ip = '{gateway}' WHERE id = '{}'", id(&w.subnet))).await?;
    let same = json!({"port_id": w.port["id"], "fixed_ip_address": made["fixed_ip_address"], "description": "d"});
    let same = w.red.update("floatingip", &made, same).await?.ok(200)?;
    assert_eq!(same["floatingip"]["router_id"], w.router["id"]);
    let freed = w.red.update("floatingip", &made, json!({"port_id": null})).await?.ok(200)?;
    assert_eq!(freed["floatingip"]["router_id"], Value::Null);
    let anew = w.red.update("floatingip", &made, json!({"port_id": w.port["id"]})).await?.ok(200)?;
    assert_eq!(anew["floatingip"]["router_id"], second["id"]);
    Ok(())
}
