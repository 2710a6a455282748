//! Trunks.

use crate::support::{Answer, Client, Cloud, id, ids};
use futures::future::join_all;
use serde_json::{Value, json};

fn sub(port: &Value, tag: i64) -> Value {
    json!({"port_id": port["id"], "segmentation_type": "vlan", "segmentation_id": tag})
}

/// A network with so many ports of a tenant.
async fn ports(owner: &Client, count: usize) -> anyhow::Result<Vec<Value>> {
    let (network, _) = owner.network("10.0.0.0/24").await?;
    let mut ports = Vec::new();
    for _ in 0..count {
        ports.push(owner.make("port", json!({"network_id": network["id"]})).await?);
    }
    Ok(ports)
}

async fn act(client: &Client, trunk: &Value, action: &str, ports: Value) -> anyhow::Result<Answer> {
    client.put(&format!("/v2.0/trunks/{}/{action}", id(trunk)), Some(&json!({"sub_ports": ports}))).await
}

#[tokio::test]
async fn a_trunk_is_made_listed_changed_and_deleted() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let (red, blue) = (cloud.tenant("red", "member").await?, cloud.tenant("blue", "member").await?);
    let reader = cloud.colleague(&red, "watcher", "reader").await?;
    let held = ports(&red, 3).await?;
    let body = json!({"name": "t", "description": "d", "port_id": held[0]["id"], "sub_ports": [sub(&held[1], 7)],
        "tags": ["a"]});
    let trunk = red.make("trunk", body).await?;
    for (name, value) in [
        ("name", json!("t")),
        ("description", json!("d")),
        ("project_id", json!(red.project)),
        ("tenant_id", json!(red.project)),
        ("port_id", held[0]["id"].clone()),
        ("sub_ports", json!([sub(&held[1], 7)])),
        ("admin_state_up", json!(true)),
        ("status", json!("DOWN")),
        ("tags", json!(["a"])),
        ("revision_number", json!(0)),
    ] {
        assert_eq!(trunk[name], value, "{name}");
    }
    let path = format!("/v2.0/trunks/{}", id(&trunk));
    let other = red.make("trunk", json!({"port_id": held[2]["id"], "admin_state_up": false})).await?;
    assert_eq!(other["sub_ports"], json!([]));
    for query in ["name=t", &format!("port_id={}", id(&held[0])), "admin_state_up=true", "tags=a"] {
        let list = red.get(&format!("/v2.0/trunks?{query}&status=DOWN")).await?.ok(200)?;
        assert_eq!(ids(&list["trunks"]), [id(&trunk)], "{query}");
    }
    let page = red.get("/v2.0/trunks?sort_key=name&sort_dir=desc&limit=1").await?.ok(200)?;
    assert_eq!(ids(&page["trunks"]), [id(&trunk)]);
    assert_eq!(red.get("/v2.0/trunks?sub_ports=x").await?.fault(), (400, "HTTPBadRequest"));

    let changed = red.update("trunk", &trunk, json!({"name": "u", "description": ""})).await?.ok(200)?;
    assert_eq!((&changed["trunk"]["name"], &changed["trunk"]["revision_number"]), (&json!("u"), &json!(1)));
    for wrong in [json!({"port_id": held[2]["id"]}), json!({"sub_ports": []}), json!({"status": "ACTIVE"})] {
        assert_eq!(red.update("trunk", &trunk, wrong).await?.fault(), (400, "HTTPBadRequest"));
    }
    assert_eq!(reader.get(&path).await?.ok(200)?["trunk"], changed["trunk"]);
    assert_eq!(reader.delete(&path).await?.fault(), (403, "PolicyNotAuthorized"));
    assert_eq!(act(&reader, &trunk, "add_subports", json!([])).await?.fault(), (403, "PolicyNotAuthorized"));
    for answer in
        [blue.get(&path).await?, blue.delete(&path).await?, act(&blue, &trunk, "add_subports", json!(1)).await?]
    {
        assert_eq!(answer.fault(), (404, "TrunkNotFound"));
    }
    assert_eq!(blue.get("/v2.0/trunks").await?.ok(200)?["trunks"], json!([]));
    red.delete(&path).await?.ok(204)?;
    assert_eq!(red.get(&path).await?.fault(), (404, "TrunkNotFound"));
    red.make("trunk", json!({"port_id": held[1]["id"], "sub_ports": [sub(&held[0], 7)]})).await?;
    Ok(())
}

#[tokio::test]
async fn ports_join_and_leave_a_trunk() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let red = cloud.tenant("red", "member").await?;
    let held = ports(&red, 4).await?;
    let trunk = red.make("trunk", json!({"port_id": held[0]["id"]})).await?;
    let added = act(&red, &trunk, "add_subports", json!([sub(&held[1], 1), sub(&held[2], 4094)])).await?.ok(200)?;
    assert_eq!(added["sub_ports"], json!([sub(&held[1], 1), sub(&held[2], 4094)]), "the trunk, without an envelope");
    assert_eq!((&added["id"], &added["revision_number"]), (&trunk["id"], &json!(1)));
    assert_eq!(red.show("trunk", &trunk).await?, added);
    let listed = red.get(&format!("/v2.0/trunks/{}/get_subports", id(&trunk))).await?.ok(200)?;
    assert_eq!(listed, json!({"sub_ports": added["sub_ports"]}));
    let joined = red.show("port", &held[1]).await?;
    assert_eq!((&joined["device_owner"], &joined["device_id"]), (&json!("trunk:subport"), &trunk["id"]));

    for (wrong, fault) in [
        (json!([sub(&held[3], 1)]), (409, "DuplicateSubPort")),
        (json!([sub(&held[1], 2)]), (409, "TrunkPortInUse")),
        (json!([sub(&held[0], 2)]), (409, "ParentPortInUse")),
        (json!([sub(&held[3], 0)]), (400, "HTTPBadRequest")),
        (json!([sub(&held[3], 4095)]), (400, "HTTPBadRequest")),
        (json!([sub(&held[3], 2), sub(&held[3], 3)]), (400, "HTTPBadRequest")),
        (json!([sub(&json!({"id": uuid::Uuid::nil()}), 2)]), (404, "PortNotFound")),
        (json!([{"port_id": held[3]["id"]}]), (400, "HTTPBadRequest")),
        (
            json!([{"port_id": held[3]["id"], "segmentation_type": "inherit", "segmentation_id": 2}]),
            (400, "HTTPBadRequest"),
        ),
        (json!([{"segmentation_type": "vlan", "segmentation_id": 2}]), (400, "HTTPBadRequest")),
        (json!({}), (400, "HTTPBadRequest")),
    ] {
        assert_eq!(act(&red, &trunk, "add_subports", wrong.clone()).await?.fault(), fault, "{wrong}");
    }
    let unknown = act(&red, &trunk, "remove_subports", json!([{"port_id": held[3]["id"]}])).await?;
    assert_eq!(unknown.fault(), (404, "SubPortNotFound"));
    let left = act(&red, &trunk, "remove_subports", json!([sub(&held[1], 1)])).await?.ok(200)?;
    assert_eq!(left["sub_ports"], json!([sub(&held[2], 4094)]));
    let gone = red.show("port", &held[1]).await?;
    assert_eq!((&gone["device_owner"], &gone["device_id"]), (&json!(""), &json!("")));
    act(&red, &trunk, "add_subports", json!([sub(&held[1], 5)])).await?.ok(200)?;
    assert_eq!(red.show("trunk", &trunk).await?["revision_number"], 3, "what was refused changed nothing");
    let log = "SELECT action FROM audit_events WHERE object_type = 'trunk' ORDER BY id";
    assert_eq!(cloud.rows(log).await?, ["create", "add_subports", "remove_subports", "add_subports"]);
    // What somebody has said of them since stays said.
    red.update("port", &held[1], json!({"device_id": "vm"})).await?.ok(200)?;
    red.update("port", &held[2], json!({"device_owner": "compute:a"})).await?.ok(200)?;
    act(&red, &trunk, "remove_subports", json!([sub(&held[1], 5), sub(&held[2], 4094)])).await?.ok(200)?;
    for (port, owner, device) in [(&held[1], "trunk:subport", "vm"), (&held[2], "compute:a", "")] {
        let left = red.show("port", port).await?;
        assert_eq!((&left["device_owner"], &left["device_id"]), (&json!(owner), &json!(device)));
    }
    Ok(())
}

#[tokio::test]
async fn ports_that_serve_something_else_are_not_for_a_trunk() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    cloud.host("h1", 1500, 1).await?;
    let (admin, red) = (cloud.admin().await?, cloud.tenant("red", "member").await?);
    let blue = cloud.tenant("blue", "member").await?;
    let held = ports(&red, 3).await?;
    let network = &held[0]["network_id"];
    let machine = red.make("port", json!({"network_id": network, "device_id": "vm"})).await?;
    let bound =
        admin.make("port", json!({"network_id": network, "binding:host_id": "h1", "project_id": red.project})).await?;
    let foreign = ports(&blue, 1).await?.remove(0);
    let jumbo = red.make("network", json!({})).await?;
    let small = red.make("network", json!({"mtu": 1000})).await?;
    let slim = red.make("port", json!({"network_id": small["id"], "fixed_ips": []})).await?;
    let large = red.make("port", json!({"network_id": jumbo["id"], "fixed_ips": []})).await?;
    let router = red.make("router", json!({})).await?;
    let subnet = json!({"subnet_id": held[0]["fixed_ips"][0]["subnet_id"]});
    let gateway = crate::routers::act(&red, &router, "add_router_interface", subnet).await?.ok(200)?;
    let gateway = json!({"id": gateway["port_id"]});
    let trunk = |port: &Value, members: Vec<Value>| json!({"trunk": {"port_id": port["id"], "sub_ports": members}});
    for (body, fault) in [
        (trunk(&bound, vec![]), (409, "ParentPortInUse")),
        (trunk(&gateway, vec![]), (409, "ParentPortInUse")),
        (trunk(&held[0], vec![sub(&gateway, 1)]), (409, "PortInUse")),
        (trunk(&held[0], vec![sub(&held[0], 1)]), (409, "ParentPortInUse")),
        (trunk(&held[0], vec![sub(&machine, 1)]), (409, "PortInUse")),
        (trunk(&slim, vec![sub(&large, 1)]), (409, "SubPortMtuGreaterThanTrunkPortMtu")),
        (trunk(&foreign, vec![]), (404, "PortNotFound")),
        (trunk(&held[0], vec![sub(&foreign, 1)]), (404, "PortNotFound")),
        (json!({"trunk": {}}), (400, "HTTPBadRequest")),
        (trunk(&held[0], vec![sub(&held[1], 1), sub(&held[2], 1)]), (400, "HTTPBadRequest")),
        (
            json!({"trunks": [trunk(&held[0], vec![])["trunk"], trunk(&held[0], vec![])["trunk"]]}),
            (409, "TrunkPortInUse"),
        ),
    ] {
        assert_eq!(red.post("/v2.0/trunks", &body).await?.fault(), fault, "{body}");
    }
    assert_eq!(red.get("/v2.0/trunks").await?.ok(200)?["trunks"], json!([]));
    // Whoever owns a network sees the ports of others on it, and leaves them alone.
    red.share("network", &json!({"id": network}), &blue.project).await?;
    let guest = blue.make("port", json!({"network_id": network})).await?;
    assert_eq!(red.post("/v2.0/trunks", &trunk(&guest, vec![])).await?.fault(), (403, "PolicyNotAuthorized"));

    let carried = blue.make("port", json!({"network_id": network})).await?;
    blue.post("/v2.0/trunks", &trunk(&guest, vec![sub(&carried, 7)])).await?.ok(201)?;
    assert_eq!(blue.show("port", &guest).await?["trunk_details"]["sub_ports"][0]["segmentation_id"], 7);
    assert_eq!(
        red.show("port", &guest).await?["trunk_details"],
        Value::Null,
        "the network's owner sees the port alone"
    );

    let made = red.post("/v2.0/trunks", &trunk(&held[0], vec![sub(&held[1], 1)])).await?.ok(201)?["trunk"].clone();
    for (body, fault) in [
        (trunk(&held[0], vec![]), "ParentPortInUse"),
        (trunk(&held[1], vec![]), "TrunkPortInUse"),
        (trunk(&held[2], vec![sub(&held[0], 1)]), "ParentPortInUse"),
        (trunk(&held[2], vec![sub(&held[1], 1)]), "TrunkPortInUse"),
    ] {
        assert_eq!(red.post("/v2.0/trunks", &body).await?.fault(), (409, fault), "{body}");
    }
    let carrier = json!({"port_id": held[0]["id"]});
    let answer = crate::routers::act(&red, &router, "add_router_interface", carrier).await?;
    assert_eq!(answer.fault(), (409, "PortInUseAsTrunkParent"), "a router would delete it");
    admin.update("port", &held[0], json!({"binding:host_id": "h1"})).await?.ok(200)?;
    assert_eq!(red.remove("trunk", &made).await?.fault(), (409, "TrunkInUse"));
    admin.update("port", &held[0], json!({"binding:host_id": ""})).await?.ok(200)?;
    red.update("trunk", &made, json!({"admin_state_up": false})).await?.ok(200)?;
    for answer in [
        act(&red, &made, "add_subports", json!([])).await?,
        act(&red, &made, "remove_subports", json!([])).await?,
        red.remove("trunk", &made).await?,
    ] {
        assert_eq!(answer.fault(), (409, "TrunkDisabled"));
    }
    red.update("trunk", &made, json!({"admin_state_up": true})).await?.ok(200)?;
    red.remove("trunk", &made).await?.ok(204)?;
    assert_eq!(red.show("port", &held[1]).await?["device_owner"], "");
    cloud.assert_entries_are_right().await
}

#[tokio::test]
async fn ports_show_the_trunk_that_they_carry_and_stay_while_they_are_in_one() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let red = cloud.tenant("red", "member").await?;
    let held = ports(&red, 2).await?;
    let trunk = red.make("trunk", json!({"port_id": held[0]["id"], "sub_ports": [sub(&held[1], 9)]})).await?;
    assert_eq!(held[0]["trunk_details"], Value::Null);
    let mut shown = sub(&held[1], 9);
    shown["mac_address"] = held[1]["mac_address"].clone();
    let expected = json!({"trunk_id": trunk["id"], "sub_ports": [shown]});
    assert_eq!(red.show("port", &held[0]).await?["trunk_details"], expected);
    assert_eq!(red.show("port", &held[1]).await?["trunk_details"], Value::Null);
    let list = red.get(&format!("/v2.0/ports?id={}", id(&held[0]))).await?.ok(200)?;
    assert_eq!(list["ports"][0]["trunk_details"], expected);
    let renamed = red.update("port", &held[0], json!({"name": "p"})).await?.ok(200)?;
    assert_eq!(renamed["port"]["trunk_details"], expected);

    assert_eq!(red.remove("port", &held[0]).await?.fault(), (409, "PortInUseAsTrunkParent"));
    assert_eq!(red.remove("port", &held[1]).await?.fault(), (409, "PortInUseAsSubPort"));
    red.remove("trunk", &trunk).await?.ok(204)?;
    red.remove("port", &held[0]).await?.ok(204)?;
    red.remove("port", &held[1]).await?.ok(204)?;
    Ok(())
}

#[tokio::test]
async fn trunks_count_against_their_quota() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let (admin, red) = (cloud.admin().await?, cloud.tenant("red", "member").await?);
    let held = ports(&red, 2).await?;
    admin.put(&format!("/v2.0/quotas/{}", red.project), Some(&json!({"quota": {"trunk": 1}}))).await?.ok(200)?;
    let body = |port: &Value| json!({"trunk": {"port_id": port["id"]}});
    let answers = join_all(held.iter().map(|port| {
        let (red, body) = (red.clone(), body(port));
        async move { red.post("/v2.0/trunks", &body).await }
    }))
    .await;
    let mut statuses = Vec::new();
    for answer in answers {
        statuses.push(answer?.status.as_u16());
    }
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 409]);
    let made = red.get("/v2.0/trunks").await?.ok(200)?["trunks"][0].clone();
    let free = held.iter().find(|port| port["id"] != made["port_id"]).cloned().unwrap_or_default();
    assert_eq!(red.post("/v2.0/trunks", &body(&free)).await?.fault(), (409, "OverQuota"));
    red.remove("trunk", &made).await?.ok(204)?;
    red.make("trunk", json!({"port_id": free["id"]})).await?;
    Ok(())
}

#[tokio::test]
async fn a_port_that_many_want_is_in_one_trunk() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let red = cloud.tenant("red", "member").await?;
    let held = ports(&red, 6).await?;
    let mut trunks = Vec::new();
    for port in &held[..4] {
        trunks.push(red.make("trunk", json!({"port_id": port["id"]})).await?);
    }
    // Each wants both, in turned orders.
    let wishes = trunks.iter().enumerate().map(|(place, trunk)| {
        let (first, second) = if place % 2 == 0 { (4, 5) } else { (5, 4) };
        act(&red, trunk, "add_subports", json!([sub(&held[first], 1), sub(&held[second], 2)]))
    });
    let mut taken = 0;
    for answer in join_all(wishes).await {
        let answer = answer?;
        match answer.status.as_u16() {
            200 => taken += 1,
            _ => assert_eq!(answer.fault(), (409, "TrunkPortInUse")),
        }
    }
    assert_eq!(taken, 1);
    // A port that is deleted while a trunk takes it is either.
    let extra = red.make("port", json!({"network_id": held[0]["network_id"]})).await?;
    let wish = act(&red, &trunks[0], "add_subports", json!([sub(&extra, 9)]));
    let (added, deleted) = futures::future::join(wish, red.remove("port", &extra)).await;
    let (added, deleted) = (added?, deleted?);
    match (added.status.as_u16(), deleted.status.as_u16()) {
        (200, 409) => assert_eq!(deleted.fault().1, "PortInUseAsSubPort"),
        (404, 204) => assert_eq!(added.fault().1, "PortNotFound"),
        other => panic!("{other:?}: {} {}", added.text, deleted.text),
    }
    for trunk in &trunks {
        red.remove("trunk", trunk).await?.ok(204)?;
    }
    assert_eq!(cloud.rows("SELECT port_id FROM trunk_ports").await?, Vec::<String>::new());
    Ok(())
}
