//! External networks and routers.

use crate::support::{Client, Cloud, id, ids};
use futures::future::join_all;
use serde_json::{Value, json};

/// An external network 198.51.100.0/24 of the administrator's. What is not asked for by address gets one from .100 to .200.
pub async fn outside(admin: &Client) -> anyhow::Result<(Value, Value)> {
    let network = admin.make("network", json!({"name": "out", "router:external": true})).await?;
    let subnet = json!({"network_id": network["id"], "cidr": "198.51.100.0/24", "ip_version": 4, "name": "o",
        "allocation_pools": [{"start": "198.51.100.100", "end": "198.51.100.200"}]});
    Ok((network, admin.make("subnet", subnet).await?))
}

pub async fn act(client: &Client, router: &Value, action: &str, body: Value) -> anyhow::Result<crate::support::Answer> {
    client.put(&format!("/v2.0/routers/{}/{action}", id(router)), Some(&body)).await
}

async fn used(cloud: &Cloud, client: &Client, resource: &str) -> anyhow::Result<String> {
    let project = &client.project;
    let query = format!("SELECT used FROM quotas WHERE project_id = '{project}' AND resource = '{resource}'");
    Ok(cloud.rows(&query).await?.pop().unwrap_or_default())
}

#[tokio::test]
async fn an_external_network_is_seen_by_all_and_made_by_administrators() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let (admin, red) = (cloud.admin().await?, cloud.tenant("red", "member").await?);
    let own = red.make("network", json!({"router:external": false})).await?;
    let create = red.post("/v2.0/networks", &json!({"network": {"router:external": true}})).await?;
    assert_eq!(create.fault(), (403, "PolicyNotAuthorized"));
    assert_eq!(red.update("network", &own, json!({"router:external": true})).await?.fault().0, 403);
    let (network, subnet) = outside(&admin).await?;
    assert_eq!(network["router:external"], true);
    let seen = red.show("network", &network).await?;
    assert_eq!((&seen["router:external"], &seen["shared"]), (&json!(true), &json!(false)));
    assert_eq!(red.show("subnet", &subnet).await?["cidr"], "198.51.100.0/24");
    let found = |flag: bool| format!("/v2.0/networks?router:external={flag}");
    assert_eq!(ids(&red.get(&found(true)).await?.ok(200)?["networks"]), [id(&network)]);
    assert_eq!(ids(&red.get(&found(false)).await?.ok(200)?["networks"]), [id(&own)]);
    let policies = "SELECT action FROM rbac_policies WHERE target_project IS NULL";
    assert_eq!(cloud.rows(policies).await?, ["access_as_external"]);

    let closed = admin.update("network", &network, json!({"router:external": false})).await?.ok(200)?;
    assert_eq!(closed["network"]["router:external"], false);
    assert_eq!(red.get(&format!("/v2.0/networks/{}", id(&network))).await?.fault(), (404, "NetworkNotFound"));
    let opened = admin.update("network", &network, json!({"router:external": true})).await?.ok(200)?;
    assert_eq!(opened["network"]["router:external"], true);
    admin.remove("network", &network).await?.ok(204)?;
    assert!(cloud.rows(policies).await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn a_router_is_made_listed_changed_and_deleted() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let (red, blue) = (cloud.tenant("red", "member").await?, cloud.tenant("blue", "member").await?);
    let reader = cloud.colleague(&red, "watcher", "reader").await?;
    let router = red.make("router", json!({"name": "r", "description": "d", "tags": ["a"]})).await?;
    for (name, value) in [
        ("name", json!("r")),
        ("description", json!("d")),
        ("admin_state_up", json!(true)),
        ("status", json!("DOWN")),
        ("external_gateway_info", Value::Null),
        ("routes", json!([])),
        ("availability_zone_hints", json!([])),
        ("availability_zones", json!([])),
        ("project_id", json!(red.project)),
        ("revision_number", json!(0)),
        ("tags", json!(["a"])),
    ] {
        assert_eq!(router[name], value, "{name}");
    }
    let down = red.make("router", json!({"admin_state_up": false})).await?;
    let found = red.get("/v2.0/routers?name=r&admin_state_up=true&tags=a&status=DOWN").await?.ok(200)?;
    assert_eq!(ids(&found["routers"]), [id(&router)]);
    let sorted = red.get("/v2.0/routers?sort_key=admin_state_up&sort_dir=asc&limit=1").await?.ok(200)?;
    assert_eq!(ids(&sorted["routers"]), [id(&down)]);
    let changed = red.update("router", &router, json!({"name": "s", "admin_state_up": false})).await?.ok(200)?;
    assert_eq!((&changed["router"]["name"], &changed["router"]["revision_number"]), (&json!("s"), &json!(1)));

    assert_eq!(reader.show("router", &router).await?["name"], "s");
    assert_eq!(reader.update("router", &router, json!({"name": "x"})).await?.fault(), (403, "PolicyNotAuthorized"));
    assert_eq!(reader.post("/v2.0/routers", &json!({"router": {}})).await?.fault().0, 403);
    assert_eq!(blue.get(&format!("/v2.0/routers/{}", id(&router))).await?.fault(), (404, "RouterNotFound"));
    for action in ["add_router_interface", "remove_router_interface", "add_extraroutes", "remove_extraroutes"] {
        assert_eq!(act(&blue, &router, action, json!({})).await?.fault(), (404, "RouterNotFound"), "{action}");
        let refused = act(&reader, &router, action, json!({})).await?;
        assert_eq!(refused.fault(), (403, "PolicyNotAuthorized"), "{action}");
    }
    assert_eq!(used(&cloud, &red, "router").await?, "2");
    let bulk = json!({"routers": vec![json!({}); 9]});
    assert_eq!(red.post("/v2.0/routers", &bulk).await?.fault(), (409, "OverQuota"));
    red.remove("router", &router).await?.ok(204)?;
    assert_eq!(used(&cloud, &red, "router").await?, "1");
    for (body, expected) in [
        (json!({"ha": true}), (400, "HTTPBadRequest")),
        (json!({"routes": []}), (400, "HTTPBadRequest")),
        (json!({"status": "ACTIVE"}), (400, "HTTPBadRequest")),
        (json!({"availability_zone_hints": ["nowhere"]}), (404, "AvailabilityZoneNotFound")),
    ] {
        assert_eq!(red.post("/v2.0/routers", &json!({"router": body})).await?.fault(), expected, "{body}");
    }
    cloud.host("h1", 1600, 1).await?;
    let zoned = red.make("router", json!({"availability_zone_hints": ["az1"]})).await?;
    assert_eq!(zoned["availability_zone_hints"], json!(["az1"]));
    Ok(())
}

#[tokio::test]
async fn a_router_joins_subnets_by_ports_that_are_its_own() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let (red, blue) = (cloud.tenant("red", "member").await?, cloud.tenant("blue", "member").await?);
    let admin = cloud.admin().await?;
    let (network, subnet) = red.network("10.0.0.0/24").await?;
    let router = red.make("router", json!({})).await?;
    let by_subnet = json!({"subnet_id": subnet["id"]});
    let added = act(&red, &router, "add_router_interface", by_subnet.clone()).await?.ok(200)?;
    assert_eq!(
        (&added["id"], &added["subnet_id"], &added["subnet_ids"], &added["network_id"], &added["project_id"]),
        (&router["id"], &subnet["id"], &json!([subnet["id"]]), &network["id"], &json!(red.project))
    );
    let port = red.get(&format!("/v2.0/ports/{}", added["port_id"].as_str().unwrap_or_default())).await?.ok(200)?;
    let port = port["port"].clone();
    assert_eq!(port["fixed_ips"], json!([{"subnet_id": subnet["id"], "ip_address": "10.0.0.1"}]));
    assert_eq!(
        (&port["device_owner"], &port["device_id"], &port["status"]),
        (&json!("network:router_interface"), &router["id"], &json!("DOWN"))
    );
    assert_eq!(red.show("router", &router).await?["revision_number"], 1);
    assert_eq!(used(&cloud, &red, "port").await?, "1");

    // Nobody takes it from the router behind its back.
    for client in [&red, &admin] {
        assert_eq!(client.remove("port", &port).await?.fault(), (409, "ServicePortInUse"));
        for change in [json!({"device_id": ""}), json!({"device_owner": "x"}), json!({"fixed_ips": []})] {
            assert_eq!(client.update("port", &port, change).await?.fault(), (409, "ServicePortInUse"));
        }
    }
    red.update("port", &port, json!({"name": "gw"})).await?.ok(200)?;
    let moved = red.update("subnet", &subnet, json!({"gateway_ip": "10.0.0.254"})).await?;
    assert_eq!(moved.fault().0, 409, "{}", moved.text);
    assert_eq!(red.remove("subnet", &subnet).await?.fault(), (409, "SubnetInUse"));
    assert_eq!(red.remove("network", &network).await?.fault(), (409, "NetworkInUse"));
    assert_eq!(red.remove("router", &router).await?.fault(), (409, "RouterInUse"));

    let refused = |answer: crate::support::Answer| (answer.fault().0, answer.fault().1.to_owned(), answer.text);
    let bad = |body: Value| {
        let (red, router) = (red.clone(), router.clone());
        async move { anyhow::Ok(refused(act(&red, &router, "add_router_interface", body).await?)) }
    };
    let (_, overlapping) = red.network("10.0.0.128/25").await?;
    let no_gateway = json!({"network_id": network["id"], "cidr": "10.9.0.0/24", "ip_version": 4, "gateway_ip": null});
    let no_gateway = red.make("subnet", no_gateway).await?;
    let taken = red.make("port", json!({"network_id": network["id"], "device_id": "vm"})).await?;
    let bare = red.make("port", json!({"network_id": network["id"], "fixed_ips": []})).await?;
    let none = uuid::Uuid::nil();
    for (body, expected) in [
        (by_subnet.clone(), (400, "BadRequest")),
        (json!({"subnet_id": overlapping["id"]}), (400, "BadRequest")),
        (json!({"subnet_id": no_gateway["id"]}), (400, "BadRequest")),
        (json!({}), (400, "BadRequest")),
        (json!({"subnet_id": subnet["id"], "port_id": port["id"]}), (400, "BadRequest")),
        (json!({"subnet_id": none}), (404, "SubnetNotFound")),
        (json!({"port_id": none}), (404, "PortNotFound")),
        (json!({"port_id": taken["id"]}), (409, "PortInUse")),
        (json!({"port_id": port["id"]}), (409, "PortInUse")),
        (json!({"port_id": bare["id"]}), (400, "BadRequest")),
        (json!({"subnet": subnet["id"]}), (400, "HTTPBadRequest")),
        (json!({"subnet_id": "x"}), (400, "HTTPBadRequest")),
    ] {
        let (status, kind, text) = bad(body.clone()).await?;
        assert_eq!((status, kind.as_str()), expected, "{body}: {text}");
    }
    // A shared subnet's gateway address is its owner's to give.
    let theirs = admin.make("network", json!({"shared": true})).await?;
    let theirs = json!({"network_id": theirs["id"], "cidr": "10.7.0.0/24", "ip_version": 4});
    let theirs = admin.make("subnet", theirs).await?;
    assert_eq!(bad(json!({"subnet_id": theirs["id"]})).await?.0, 400);
    let (_, hidden) = blue.network("10.8.0.0/24").await?;
    assert_eq!(bad(json!({"subnet_id": hidden["id"]})).await?.1, "SubnetNotFound");

    // By a port that is there.
    let (second, other) = red.network("10.1.0.0/24").await?;
    let given = red.make("port", json!({"network_id": second["id"]})).await?;
    let added = act(&red, &router, "add_router_interface", json!({"port_id": given["id"]})).await?.ok(200)?;
    assert_eq!((&added["port_id"], &added["subnet_id"]), (&given["id"], &other["id"]));
    assert_eq!(red.show("port", &given).await?["device_id"], router["id"]);

    for (body, expected) in [
        (json!({}), (400, "BadRequest")),
        (json!({"port_id": taken["id"]}), (404, "RouterInterfaceNotFound")),
        (json!({"subnet_id": overlapping["id"]}), (404, "RouterInterfaceNotFoundForSubnet")),
        (json!({"subnet_id": subnet["id"], "port_id": given["id"]}), (409, "SubnetMismatchForPort")),
    ] {
        let answer = act(&red, &router, "remove_router_interface", body.clone()).await?;
        assert_eq!(answer.fault(), expected, "{body}");
    }
    let removed = act(&red, &router, "remove_router_interface", json!({"port_id": given["id"]})).await?.ok(200)?;
    assert_eq!(removed["subnet_ids"], json!([other["id"]]));
    act(&red, &router, "remove_router_interface", by_subnet).await?.ok(200)?;
    for gone in [&port, &given] {
        assert_eq!(red.get(&format!("/v2.0/ports/{}", id(gone))).await?.fault(), (404, "PortNotFound"));
    }
    assert_eq!(used(&cloud, &red, "port").await?, "2");
    red.remove("router", &router).await?.ok(204)?;
    cloud.assert_entries_are_right().await
}

#[tokio::test]
async fn a_gateway_is_a_port_of_nobodys_on_an_external_network() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let (admin, red) = (cloud.admin().await?, cloud.tenant("red", "member").await?);
    let (network, subnet) = outside(&admin).await?;
    let (inside, _) = red.network("10.0.0.0/24").await?;
    let info = json!({"network_id": network["id"]});
    let router = red.make("router", json!({"external_gateway_info": info})).await?;
    let gateway = &router["external_gateway_info"];
    assert_eq!((&gateway["network_id"], &gateway["enable_snat"]), (&network["id"], &json!(true)));
    assert_eq!(gateway["external_fixed_ips"][0]["subnet_id"], subnet["id"]);
    let of_router = format!("/v2.0/ports?device_id={}", id(&router));
    assert_eq!(red.get(&of_router).await?.ok(200)?["ports"], json!([]));
    let ports = admin.get(&of_router).await?.ok(200)?;
    let port = &ports["ports"][0];
    assert_eq!((&port["device_owner"], &port["network_id"]), (&json!("network:router_gateway"), &network["id"]));
    assert_eq!(port["fixed_ips"], gateway["external_fixed_ips"]);
    assert_eq!(admin.remove("port", port).await?.fault(), (409, "ServicePortInUse"));
    assert_eq!(used(&cloud, &red, "port").await?, "");
    let closing = admin.update("network", &network, json!({"router:external": false})).await?;
    assert_eq!(closing.fault(), (409, "ExternalNetworkInUse"));

    let again = red.update("router", &router, json!({"external_gateway_info": info})).await?.ok(200)?;
    assert_eq!(&again["router"]["external_gateway_info"], gateway, "the same outside keeps its address");
    for (body, expected) in [
        (json!({"network_id": network["id"], "enable_snat": false}), (403, "PolicyNotAuthorized")),
        (json!({"network_id": network["id"], "external_fixed_ips": []}), (403, "PolicyNotAuthorized")),
        (json!({"network_id": inside["id"]}), (400, "BadRequest")),
        (json!({"network_id": uuid::Uuid::nil()}), (404, "NetworkNotFound")),
        (json!({"enable_snat": true}), (400, "HTTPBadRequest")),
        (json!({"network_id": network["id"], "x": 1}), (400, "HTTPBadRequest")),
        (json!([]), (400, "HTTPBadRequest")),
    ] {
        let answer = red.update("router", &router, json!({"external_gateway_info": body})).await?;
        assert_eq!(answer.fault(), expected, "{body}: {}", answer.text);
    }
    let chosen = json!({"network_id": network["id"], "enable_snat": false,
        "external_fixed_ips": [{"ip_address": "198.51.100.77"}]});
    let chosen = admin.update("router", &router, json!({"external_gateway_info": chosen})).await?.ok(200)?;
    let expected = json!({"network_id": network["id"], "enable_snat": false, "qos_policy_id": null,
        "external_fixed_ips": [{"subnet_id": subnet["id"], "ip_address": "198.51.100.77"}]});
    assert_eq!(chosen["router"]["external_gateway_info"], expected);

    // What is outside may not be inside too.
    let same = red.make("network", json!({})).await?;
    let same = json!({"network_id": same["id"], "cidr": "198.51.100.128/25", "ip_version": 4});
    let same = red.make("subnet", same).await?;
    let overlap = act(&red, &router, "add_router_interface", json!({"subnet_id": same["id"]})).await?;
    assert_eq!(overlap.fault(), (400, "BadRequest"));
    let cleared = red.update("router", &router, json!({"external_gateway_info": {}})).await?.ok(200)?;
    assert_eq!(cleared["router"]["external_gateway_info"], Value::Null);
    assert_eq!(admin.get(&of_router).await?.ok(200)?["ports"], json!([]));
    act(&red, &router, "add_router_interface", json!({"subnet_id": same["id"]})).await?.ok(200)?;
    let refused = red.update("router", &router, json!({"external_gateway_info": info})).await?;
    assert_eq!(refused.fault(), (400, "BadRequest"));
    act(&red, &router, "remove_router_interface", json!({"subnet_id": same["id"]})).await?.ok(200)?;
    red.update("router", &router, json!({"external_gateway_info": info})).await?.ok(200)?;
    red.remove("router", &router).await?.ok(204)?;
    admin.remove("network", &network).await?.ok(204)?;
    cloud.assert_entries_are_right().await
}

#[tokio::test]
async fn extra_routes_lead_to_neighbours_and_keep_their_interface() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let red = cloud.tenant("red", "member").await?;
    let (_, subnet) = red.network("10.0.0.0/24").await?;
    let router = red.make("router", json!({})).await?;
    act(&red, &router, "add_router_interface", json!({"subnet_id": subnet["id"]})).await?.ok(200)?;
    let route = |n: u8, hop: &str| json!({"destination": format!("10.{n}.0.0/16"), "nexthop": hop});
    let (one, two) = (route(1, "10.0.0.9"), route(2, "10.0.0.9"));
    let set = red.update("router", &router, json!({"routes": [one]})).await?.ok(200)?;
    assert_eq!(set["router"]["routes"], json!([one]));
    let wrapped = |routes: &[&Value]| json!({"router": {"routes": routes}});
    let added = act(&red, &router, "add_extraroutes", wrapped(&[&one, &two])).await?.ok(200)?;
    assert_eq!(added["router"]["routes"], json!([one, two]));
    assert_eq!(used(&cloud, &red, "router_route").await?, "2");
    let refused = act(&red, &router, "remove_router_interface", json!({"subnet_id": subnet["id"]})).await?;
    assert_eq!(refused.fault(), (409, "RouterInterfaceInUseByRoute"));
    for (routes, expected) in [
        (json!([route(3, "10.5.0.1")]), (400, "InvalidRoutes")),
        (json!([route(3, "10.0.0.1")]), (400, "InvalidRoutes")),
        (json!([one, one]), (400, "HTTPBadRequest")),
        (json!([{"destination": "10.1.0.0/16"}]), (400, "HTTPBadRequest")),
        (json!("x"), (400, "HTTPBadRequest")),
    ] {
        let put = red.update("router", &router, json!({"routes": routes})).await?;
        assert_eq!(put.fault(), expected, "{routes}");
        let add = act(&red, &router, "add_extraroutes", json!({"router": {"routes": routes}})).await?;
        assert_eq!(add.fault(), expected, "{routes}");
    }
    assert_eq!(act(&red, &router, "add_extraroutes", json!({"routes": []})).await?.fault().0, 400);
    let many: Vec<Value> = (10..40).map(|n| route(n, "10.0.0.9")).collect();
    let many = json!({"router": {"routes": many}});
    assert_eq!(act(&red, &router, "add_extraroutes", many).await?.fault(), (409, "OverQuota"));
    let removed = act(&red, &router, "remove_extraroutes", wrapped(&[&one, &route(9, "10.0.0.9")])).await?.ok(200)?;
    assert_eq!(removed["router"]["routes"], json!([two]));
    let cleared = red.update("router", &router, json!({"routes": null})).await?.ok(200)?;
    assert_eq!(cleared["router"]["routes"], json!([]));
    assert_eq!(used(&cloud, &red, "router_route").await?, "0");
    act(&red, &router, "remove_router_interface", json!({"subnet_id": subnet["id"]})).await?.ok(200)?;
    Ok(())
}

#[tokio::test]
async fn of_concurrent_interfaces_that_overlap_one_wins() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let red = cloud.tenant("red", "member").await?;
    let router = red.make("router", json!({})).await?;
    let mut subnets = Vec::new();
    for _ in 0..6 {
        subnets.push(red.network("10.0.0.0/24").await?.1);
    }
    for _ in 0..3 {
        let adds = subnets.iter().map(|s| act(&red, &router, "add_router_interface", json!({"subnet_id": s["id"]})));
        let answers = join_all(adds).await.into_iter().collect::<anyhow::Result<Vec<_>>>()?;
        let won: Vec<&Value> = answers.iter().filter(|a| a.status == 200).map(|a| &a.body["subnet_id"]).collect();
        assert_eq!(won.len(), 1, "{answers:?}");
        assert!(answers.iter().filter(|a| a.status != 200).all(|a| a.fault() == (400, "BadRequest")));
        assert_eq!(used(&cloud, &red, "port").await?, "1");
        // Removing it and deleting the router at once: either order is right, no other.
        let gone = act(&red, &router, "remove_router_interface", json!({"subnet_id": won[0]}));
        let (removed, deleted) = tokio::join!(gone, red.remove("router", &router));
        removed?.ok(200)?;
        let deleted = deleted?;
        if deleted.status == 204 {
            return Ok(());
        }
        assert_eq!(deleted.fault(), (409, "RouterInUse"));
    }
    Ok(())
}
