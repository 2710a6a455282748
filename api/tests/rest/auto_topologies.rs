//! Default external networks, and topologies that are made for who asks for one.

use crate::support::{Answer, Client, Cloud, id, ids};
use diesel_async::SimpleAsyncConnection as _;
use futures::future::join_all;
use serde_json::{Value, json};

fn at(client: &Client) -> String {
    format!("/v2.0/auto-allocated-topology/{}", client.project)
}

/// An external network with addresses, and whether it is the default one.
async fn outside(admin: &Client, is_default: bool) -> anyhow::Result<Value> {
    let network = admin.make("network", json!({"router:external": true, "is_default": is_default})).await?;
    admin.make("subnet", json!({"network_id": network["id"], "cidr": "198.51.100.0/24", "ip_version": 4})).await?;
    Ok(network)
}

/// The default pool, of /24s.
async fn pool(admin: &Client) -> anyhow::Result<Value> {
    let pool =
        json!({"name": "p", "prefixes": ["10.0.0.0/16"], "default_prefixlen": 24, "shared": true, "is_default": true});
    admin.make("subnetpool", pool).await
}

fn reason(answer: &Answer) -> (u16, &str, &str) {
    let (status, kind) = answer.fault();
    (status, kind, answer.message())
}

#[tokio::test]
async fn one_external_network_is_the_default() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let (admin, red) = (cloud.admin().await?, cloud.tenant("red", "member").await?);
    let own = red.make("network", json!({"is_default": false})).await?;
    assert_eq!(own["is_default"], false);
    let wish = json!({"network": {"is_default": true}});
    assert_eq!(red.post("/v2.0/networks", &wish).await?.fault(), (403, "PolicyNotAuthorized"));
    assert_eq!(red.update("network", &own, json!({"is_default": true})).await?.fault().0, 403);
    assert_eq!(admin.post("/v2.0/networks", &wish).await?.fault(), (400, "InvalidInput"));
    assert_eq!(admin.update("network", &own, json!({"is_default": true})).await?.fault(), (400, "InvalidInput"));

    // What a version that knows of no default closed keeps nobody from being it.
    cloud.sql(&format!("UPDATE networks SET is_default = true WHERE id = '{}'", id(&own))).await?;
    let (first, second) = (outside(&admin, true).await?, outside(&admin, false).await?);
    assert_eq!(red.show("network", &own).await?["is_default"], false);
    assert_eq!((&first["is_default"], &second["is_default"]), (&json!(true), &json!(false)));
    let list = red.get("/v2.0/networks?is_default=true").await?.ok(200)?;
    assert_eq!(ids(&list["networks"]), [id(&first)]);
    let message = format!("A default external network already exists: {}.", id(&first));
    let exists = (409, "DefaultExternalNetworkExists", message.as_str());
    let two = admin.update("network", &second, json!({"is_default": true})).await?;
    assert_eq!(reason(&two), exists);
    let two = json!({"network": {"router:external": true, "is_default": true}});
    assert_eq!(reason(&admin.post("/v2.0/networks", &two).await?), exists);
    let again = admin.update("network", &first, json!({"is_default": true, "name": "n"})).await?.ok(200)?;
    assert_eq!(again["network"]["is_default"], true);

    // What is closed is no default, by whichever way.
    let closed = admin.update("network", &first, json!({"router:external": false})).await?.ok(200)?;
    assert_eq!(closed["network"]["is_default"], false);
    let moved = admin.update("network", &second, json!({"is_default": true})).await?.ok(200)?;
    assert_eq!(moved["network"]["is_default"], true);
    let policies = admin.get(&format!("/v2.0/rbac-policies?object_id={}", id(&second))).await?.ok(200)?;
    let policy = format!("/v2.0/rbac-policies/{}", id(&policies["rbac_policies"][0]));
    admin.delete(&policy).await?.ok(204)?;
    assert_eq!(admin.show("network", &second).await?["is_default"], false);

    // However many want to be it.
    let wishes = (0..6).map(|_| admin.post("/v2.0/networks", &two));
    let made: Vec<u16> = join_all(wishes).await.into_iter().flatten().map(|answer| answer.status.as_u16()).collect();
    assert_eq!((made.len(), made.iter().filter(|status| **status == 201).count()), (6, 1), "{made:?}");
    assert!(made.iter().all(|status| [201, 409].contains(status)), "{made:?}");
    Ok(())
}

#[tokio::test]
async fn a_topology_is_made_for_who_asks_and_deleted_with_all_its_parts() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let (admin, red) = (cloud.admin().await?, cloud.tenant("red", "member").await?);
    let reader = cloud.colleague(&red, "watcher", "reader").await?;
    let before = cloud.dump().await?;
    let dry = format!("{}?fields=dry-run", at(&red));
    let no_network = (409, "AutoAllocationFailure", "Deployment error: No default router:external network.");
    assert_eq!(reason(&red.get(&dry).await?), no_network);
    assert_eq!(reason(&red.get(&at(&red)).await?), no_network);
    red.delete(&at(&red)).await?.ok(204)?;
    assert_eq!(cloud.dump().await?, before);
    let out = outside(&admin, true).await?;
    let no_pool = (409, "AutoAllocationFailure", "Deployment error: No default subnetpools defined.");
    assert_eq!(reason(&red.get(&dry).await?), no_pool);
    let pool = pool(&admin).await?;
    let passed = reader.get(&dry).await?.ok(200)?;
    assert_eq!(passed["auto_allocated_topology"]["id"], "dry-run=pass");
    assert_eq!(red.get("/v2.0/networks?router:external=false").await?.ok(200)?["networks"], json!([]));

    // Readers see one, and make none.
    assert_eq!(reader.get(&at(&red)).await?.fault(), (403, "PolicyNotAuthorized"));
    let made = red.get(&at(&red)).await?.ok(200)?;
    let made = &made["auto_allocated_topology"];
    assert_eq!((&made["project_id"], &made["tenant_id"]), (&json!(red.project), &json!(red.project)));
    assert_eq!(&reader.get(&at(&red)).await?.ok(200)?["auto_allocated_topology"], made);
    assert_eq!(&red.get("/v2.0/auto-allocated-topology/None").await?.ok(200)?["auto_allocated_topology"], made);
    assert_eq!(&admin.get(&at(&red)).await?.ok(200)?["auto_allocated_topology"], made);
    let network = red.show("network", made).await?;
    assert_eq!((&network["name"], &network["admin_state_up"]), (&json!("auto_allocated_network"), &json!(true)));
    let subnet = red.show("subnet", &json!({"id": network["subnets"][0]})).await?;
    assert_eq!((&subnet["name"], &subnet["subnetpool_id"]), (&json!("auto_allocated_subnet_v4"), &pool["id"]));
    let routers = red.get("/v2.0/routers?name=auto_allocated_router").await?.ok(200)?;
    assert_eq!(routers["routers"][0]["external_gateway_info"]["network_id"], out["id"]);
    let interfaces = red.get("/v2.0/ports?device_owner=network:router_interface").await?.ok(200)?;
    assert_eq!(interfaces["ports"][0]["network_id"], network["id"]);
    let used = "SELECT resource || used FROM quotas WHERE used <> 0 AND project_id = '";
    let used = format!("{used}{}' ORDER BY 1", red.project);
    assert_eq!(cloud.rows(&used).await?, ["network1", "port1", "router1", "subnet1"]);
    cloud.assert_entries_are_right().await?;
    let events = "SELECT action FROM audit_events WHERE object_type = 'router' ORDER BY id";
    assert_eq!(cloud.rows(events).await?, ["create", "add_router_interface"]);

    let port = red.make("port", json!({"network_id": network["id"], "security_groups": []})).await?;
    assert_eq!(reader.delete(&at(&red)).await?.fault(), (403, "PolicyNotAuthorized"));
    assert_eq!(red.delete(&at(&red)).await?.fault(), (409, "NetworkInUse"));
    assert_eq!(ids(&red.get("/v2.0/routers").await?.ok(200)?["routers"]), ids(&routers["routers"]));
    red.remove("port", &port).await?.ok(204)?;
    // Another network behind the same router is not of the topology.
    let (beside, subnet) = red.network("192.168.0.0/24").await?;
    let interface = json!({"subnet_id": subnet["id"]});
    let router = format!("/v2.0/routers/{}", id(&routers["routers"][0]));
    red.put(&format!("{router}/add_router_interface"), Some(&interface)).await?.ok(200)?;
    assert_eq!(red.delete(&at(&red)).await?.fault(), (409, "RouterInUse"));
    assert_eq!(red.show("network", made).await?["id"], network["id"]);
    red.put(&format!("{router}/remove_router_interface"), Some(&interface)).await?.ok(200)?;
    red.remove("network", &beside).await?.ok(204)?;
    red.delete(&at(&red)).await?.ok(204)?;
    let last = "SELECT action FROM audit_events WHERE object_type = 'router' ORDER BY id DESC LIMIT 2";
    assert_eq!(cloud.rows(last).await?, ["delete", "remove_router_interface"]);
    for list in ["networks?router:external=false", "subnets?name=auto_allocated_subnet_v4", "routers", "ports"] {
        let name = list.split('?').next().unwrap_or_default();
        assert_eq!(red.get(&format!("/v2.0/{list}")).await?.ok(200)?[name], json!([]), "{list}");
    }
    assert!(cloud.rows(&used).await?.is_empty());
    cloud.assert_entries_are_right().await
}

#[tokio::test]
async fn a_topology_is_its_projects_and_there_is_one() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let (admin, red) = (cloud.admin().await?, cloud.tenant("red", "member").await?);
    let blue = cloud.tenant("blue", "member").await?;
    outside(&admin, true).await?;
    pool(&admin).await?;
    for answer in [blue.get(&at(&red)).await?, blue.delete(&at(&red)).await?] {
        assert_eq!(answer.fault(), (403, "PolicyNotAuthorized"));
    }
    assert_eq!(admin.get("/v2.0/auto-allocated-topology/nobody").await?.fault(), (404, "ProjectNotFound"));
    assert_eq!(red.get(&format!("{}?fields=id", at(&red))).await?.fault(), (400, "BadRequest"));
    assert_eq!(red.get(&format!("{}?name=x", at(&red))).await?.fault(), (400, "HTTPBadRequest"));
    assert_eq!(red.post(&at(&red), &json!({})).await?.fault(), (405, "HTTPMethodNotAllowed"));

    // Whoever asks first, all get the same; an administrator makes it of the project's own.
    let path = at(&red);
    let answers = join_all((0..6).map(|n| if n % 2 == 0 { red.get(&path) } else { admin.get(&path) })).await;
    let mut networks = Vec::new();
    for answer in answers {
        networks.push(answer?.ok(200)?["auto_allocated_topology"]["id"].clone());
    }
    networks.dedup();
    assert_eq!(networks.len(), 1, "{networks:?}");
    let list = red.get("/v2.0/networks?name=auto_allocated_network").await?.ok(200)?;
    assert_eq!((&list["networks"][0]["id"], &list["networks"][0]["project_id"]), (&networks[0], &json!(red.project)));
    assert_ne!(blue.get(&at(&blue)).await?.ok(200)?["auto_allocated_topology"]["id"], networks[0]);

    // All or nothing.
    let green = cloud.tenant("green", "member").await?;
    admin.put(&format!("/v2.0/quotas/{}", green.project), Some(&json!({"quota": {"router": 0}}))).await?.ok(200)?;
    let before = cloud.dump().await?;
    assert_eq!(green.get(&at(&green)).await?.fault(), (409, "OverQuota"));
    assert_eq!(cloud.dump().await?, before);
    // Nor is anything waited for where it is known before: somebody has the pool, and all topologies.
    let mut other = cloud.db.connect().await?;
    other.batch_execute("BEGIN; SELECT FROM subnetpools FOR UPDATE").await?;
    let class = 0x6d7a_0006;
    let lock = format!("SELECT pg_advisory_xact_lock({class}, hashtext(id::text)) FROM projects");
    other.batch_execute(&lock).await?;
    assert_eq!(green.get(&at(&green)).await?.fault(), (409, "OverQuota"));
    other.batch_execute("ROLLBACK").await?;

    // What its owner took apart is made anew.
    let router = red.get("/v2.0/routers").await?.ok(200)?["routers"][0].clone();
    let by = json!({"subnet_id": list["networks"][0]["subnets"][0]});
    crate::routers::act(&red, &router, "remove_router_interface", by).await?.ok(200)?;
    red.remove("router", &router).await?.ok(204)?;
    red.remove("network", &list["networks"][0]).await?.ok(204)?;
    assert_ne!(red.get(&at(&red)).await?.ok(200)?["auto_allocated_topology"]["id"], networks[0]);
    cloud.assert_entries_are_right().await
}

#[tokio::test]
async fn an_administrator_makes_a_project_no_topology_that_it_could_not_make() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let (admin, red) = (cloud.admin().await?, cloud.tenant("red", "member").await?);
    let blue = cloud.tenant("blue", "member").await?;
    let out = outside(&admin, true).await?;
    pool(&admin).await?;
    let nobody = uuid::Uuid::new_v4().simple();
    let unknown = admin.get(&format!("/v2.0/auto-allocated-topology/{nobody}")).await?;
    assert_eq!(unknown.fault(), (404, "ProjectNotFound"));
    // The outside is blue's alone.
    let policies = admin.get(&format!("/v2.0/rbac-policies?object_id={}", id(&out))).await?.ok(200)?;
    let policy = format!("/v2.0/rbac-policies/{}", id(&policies["rbac_policies"][0]));
    let target = json!({"rbac_policy": {"target_tenant": blue.project}});
    admin.put(&policy, Some(&target)).await?.ok(200)?;
    let before = cloud.dump().await?;
    let no_network = (409, "AutoAllocationFailure", "Deployment error: No default router:external network.");
    assert_eq!(reason(&admin.get(&at(&red)).await?), no_network);
    assert_eq!(reason(&admin.get(&format!("{}?fields=dry-run", at(&red))).await?), no_network);
    assert_eq!(cloud.dump().await?, before);
    admin.get(&at(&blue)).await?.ok(200)?;
    Ok(())
}
