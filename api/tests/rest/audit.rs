use crate::support::{Client, Cloud, id, ids, role_id};
use anyhow::ensure;
use reqwest::Method;
use serde_json::{Value, json};

const PATH: &str = "/v2.0/mizar/audit";

#[tokio::test]
async fn every_change_is_in_the_audit_log_with_who_made_it_and_what_was_sent() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let (admin, red) = (cloud.admin().await?, cloud.tenant("red", "member").await?);
    let network = red.make("network", json!({"name": "n"})).await?;
    let answer = red.update("network", &network, json!({"name": "m"})).await?;
    let request = answer.headers["x-openstack-request-id"].to_str()?.to_owned();
    red.put(&format!("/v2.0/networks/{}/tags/t", id(&network)), None).await?.ok(201)?;
    red.remove("network", &network).await?.ok(204)?;

    let log = admin.get(&format!("{PATH}?object_id={}", id(&network))).await?.ok(200)?;
    let events = log["audit_events"].as_array().cloned().unwrap_or_default();
    let said: Vec<_> = events.iter().map(|e| (e["action"].as_str().unwrap_or(""), e["changes"].clone())).collect();
    let expected = [
        ("create", json!({"name": "n"})),
        ("update", json!({"name": "m"})),
        ("update", json!({"tags": ["t"]})),
        ("delete", json!({})),
    ];
    assert_eq!(said, expected, "in the order of time");
    let update = &events[1];
    assert_eq!(update["request_id"], json!(request));
    assert_eq!(update["remote"], "127.0.0.1");
    assert_eq!((&update["user_name"], &update["roles"]), (&json!("red"), &json!(["member"])));
    assert_eq!((&update["project_id"], &update["user_project"]), (&json!(red.project), &json!(red.project)));
    assert_eq!(update["object_type"], "network");
    let shown = admin.get(&format!("{PATH}/{}", id(update))).await?.ok(200)?;
    assert_eq!(shown["audit_event"], *update);

    let page = admin.get(&format!("{PATH}?user_name=red&sort_key=at&sort_dir=desc&limit=2")).await?.ok(200)?;
    assert_eq!(ids(&page["audit_events"]), [id(&events[3]), id(&events[2])]);
    Ok(())
}

#[tokio::test]
async fn what_fails_is_not_in_the_audit_log() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let red = cloud.tenant("red", "member").await?;
    let (network, _) = red.network("10.0.0.0/30").await?;
    let before = cloud.rows("SELECT id FROM audit_events").await?;
    let port = json!({"network_id": network["id"]});
    let ports = json!({"ports": [port, port, port]});
    assert_eq!(red.post("/v2.0/ports", &ports).await?.fault(), (409, "IpAddressGenerationFailure"));
    assert_eq!(cloud.rows("SELECT id FROM audit_events").await?, before);
    Ok(())
}

#[tokio::test]
async fn a_project_sees_what_was_done_to_its_objects_and_neither_from_where_nor_what_was_sent() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let (admin, red) = (cloud.admin().await?, cloud.tenant("red", "member").await?);
    let (reader, blue) = (cloud.colleague(&red, "reader", "reader").await?, cloud.tenant("blue", "member").await?);
    cloud.host("h1", 1500, 11).await?;
    let (network, _) = red.network("10.0.0.0/24").await?;
    let port = red.make("port", json!({"network_id": network["id"]})).await?;
    admin.update("port", &port, json!({"binding:host_id": "h1"})).await?.ok(200)?;
    let blues = blue.make("network", json!({})).await?;

    let seen = red.get(&format!("{PATH}?sort_key=at&sort_dir=desc")).await?.ok(200)?;
    let events = seen["audit_events"].as_array().cloned().unwrap_or_default();
    let moved = &events[0];
    let keys: Vec<&str> = moved.as_object().into_iter().flat_map(|event| event.keys()).map(String::as_str).collect();
    assert_eq!(keys, ["action", "at", "id", "object_id", "object_type", "project_id", "user_name"]);
    assert_eq!((&moved["action"], &moved["object_id"]), (&json!("update"), &port["id"]));
    assert_eq!((&moved["user_name"], &moved["project_id"]), (&json!("admin"), &json!(red.project)));
    assert!(events.iter().all(|event| event["project_id"] == red.project.as_str()), "{seen}");
    assert!(!seen.to_string().contains("h1") && !seen.to_string().contains("127.0.0.1"), "{seen}");
    assert_eq!(reader.get(&format!("{PATH}?sort_key=at&sort_dir=desc")).await?.ok(200)?, seen);
    let shown = reader.get(&format!("{PATH}/{}", id(moved))).await?.ok(200)?;
    assert_eq!(shown["audit_event"], *moved);

    // Nor by asking: what others did, and by what one is not shown.
    let all = admin.get(PATH).await?.ok(200)?;
    let all = all["audit_events"].as_array().cloned().unwrap_or_default();
    let foreign = all.iter().filter(|event| event["project_id"] != red.project.as_str()).collect::<Vec<_>>();
    assert!(foreign.iter().any(|event| event["object_id"] == blues["id"]), "{foreign:?}");
    assert!(foreign.iter().any(|event| event["project_id"].is_null()), "accounts belong to no project: {foreign:?}");
    for event in foreign {
        assert_eq!(red.get(&format!("{PATH}/{}", id(event))).await?.fault(), (404, "AuditEventNotFound"));
        assert_eq!(red.get(&format!("{PATH}?marker={}", id(event))).await?.fault(), (404, "AuditEventNotFound"));
    }
    let of_blue = red.get(&format!("{PATH}?project_id={}", blue.project)).await?.ok(200)?;
    assert_eq!(of_blue["audit_events"], json!([]));
    for hidden in [
        "remote=127.0.0.1",
        "request_id=x",
        "user_id=x",
        "sort_key=remote&sort_dir=asc",
        "sort_key=request_id&sort_dir=asc",
    ] {
        assert_eq!(red.get(&format!("{PATH}?{hidden}")).await?.status, 400, "{hidden}");
    }
    let chosen = red.get(&format!("{PATH}?fields=remote&fields=changes&fields=action&limit=1")).await?.ok(200)?;
    assert_eq!(chosen["audit_events"], json!([{"action": events[events.len() - 1]["action"]}]));
    Ok(())
}

#[tokio::test]
async fn nobody_changes_the_audit_log() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let (admin, red) = (cloud.admin().await?, cloud.tenant("red", "member").await?);
    red.make("network", json!({})).await?;
    let log = admin.get(PATH).await?.ok(200)?;
    let event = format!("{PATH}/{}", id(&log["audit_events"][0]));
    assert_eq!(admin.delete(&event).await?.fault(), (405, "HTTPMethodNotAllowed"));
    assert_eq!(admin.post(PATH, &json!({"audit_event": {}})).await?.fault(), (405, "HTTPMethodNotAllowed"));
    for statement in ["UPDATE audit_events SET user_name = 'x'", "DELETE FROM audit_events", "TRUNCATE audit_events"] {
        let refused = cloud.sql(statement).await;
        assert!(refused.is_err_and(|error| format!("{error:#}").contains("append-only")), "{statement}");
    }
    assert_eq!(admin.get(PATH).await?.ok(200)?, log);
    Ok(())
}

#[tokio::test]
async fn what_happens_to_accounts_is_in_the_audit_log_and_no_secret_is() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let (admin, red) = (cloud.admin().await?, cloud.tenant("red", "member").await?);
    let user = format!("/v3/users/{}", red.user);
    let change = json!({"user": {"password": "hunter2", "email": "red@example.org"}}).to_string();
    admin.send(Method::PATCH, &user, Some(change), &[]).await?.ok(200)?;
    let own = json!({"user": {"original_password": "hunter2", "password": "hunter3"}});
    cloud.stranger().post(&format!("{user}/password"), &own).await?.ok(204)?;
    let red = cloud.stranger().login("red", "hunter3", Some("red")).await?;
    let credential = json!({"application_credential": {"name": "ci", "secret": "hunter4"}});
    red.post(&format!("{user}/application_credentials"), &credential).await?.ok(201)?;
    let role = format!("/v3/projects/{}/users/{}/roles/{}", red.project, red.user, role_id("member"));
    admin.delete(&role).await?.ok(204)?;
    assert_eq!(admin.delete(&role).await?.status, 404, "what fails is not in it");
    admin.delete(&user).await?.ok(204)?;

    let said = "SELECT user_name || ': ' || action || ' ' || object_type FROM audit_events ORDER BY at, id";
    let expected = [
        "admin: create project",
        "admin: create user",
        "admin: create role_assignment",
        "admin: update user",
        "red: update user",
        "red: create application_credential",
        "admin: delete role_assignment",
        "admin: delete user",
    ];
    assert_eq!(cloud.rows(said).await?, expected);
    let log =
        admin.get(&format!("{PATH}?object_id={}&action=update&sort_key=at&sort_dir=asc", red.user)).await?.ok(200)?;
    assert_eq!(log["audit_events"][0]["changes"], json!({"password": "***", "email": "red@example.org"}));
    assert!(log["audit_events"][1]["request_id"].as_str().is_some_and(|id| id.starts_with("req-")), "{log}");
    let all = cloud.rows("SELECT to_jsonb(e) FROM audit_events e").await?.concat();
    assert!(!all.contains("hunter") && !all.contains("argon2"), "{all}");
    Ok(())
}

/// Action, kind and changes of what was done to an object, in order; all of it is in the log of its project.
async fn said(admin: &Client, object: &Value, project: Option<&str>) -> anyhow::Result<Vec<Value>> {
    let log = admin.get(&format!("{PATH}?object_id={}&sort_key=at&sort_dir=asc", id(object))).await?.ok(200)?;
    let events = log["audit_events"].as_array().cloned().unwrap_or_default();
    ensure!(events.iter().all(|event| event["project_id"].as_str() == project), "{events:?}");
    Ok(events.iter().map(|event| json!([event["action"], event["object_type"], event["changes"]])).collect())
}

async fn last(admin: &Client, object: &Value, project: Option<&str>) -> anyhow::Result<Value> {
    Ok(said(admin, object, project).await?.pop().unwrap_or_default())
}

#[tokio::test]
async fn subnets_that_go_with_their_network_are_in_the_audit_log() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let (admin, red) = (cloud.admin().await?, cloud.tenant("red", "member").await?);
    let (network, subnet) = red.network("10.0.0.0/24").await?;
    red.remove("network", &network).await?.ok(204)?;
    assert_eq!(last(&admin, &subnet, Some(&red.project)).await?, json!(["delete", "subnet", {}]));
    Ok(())
}

#[tokio::test]
async fn rules_that_go_with_a_group_are_in_the_audit_log_of_whose_they_were() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let (admin, red) = (cloud.admin().await?, cloud.tenant("red", "member").await?);
    let blue = cloud.tenant("blue", "member").await?;
    let group = crate::security_groups::group(&red, json!({"name": "web"})).await?;
    let own = group["security_group_rules"][0].clone();
    red.share("security_group", &group, &blue.project).await?;
    let theirs = crate::security_groups::group(&blue, json!({"name": "db"})).await?;
    let naming = json!({"direction": "ingress", "ethertype": "IPv4", "remote_group_id": group["id"]});
    let naming = crate::security_groups::rule(&blue, &theirs, naming).await?;
    admin.delete(&crate::security_groups::at(&group)).await?.ok(204)?;
    for (rule, project) in [(&own, &red.project), (&naming, &blue.project)] {
        assert_eq!(last(&admin, rule, Some(project)).await?, json!(["delete", "security_group_rule", {}]), "{rule}");
    }
    Ok(())
}

#[tokio::test]
async fn the_port_of_a_gateway_that_goes_with_its_router_is_in_the_audit_log() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let (admin, red) = (cloud.admin().await?, cloud.tenant("red", "member").await?);
    let (outside, _) = crate::routers::outside(&admin).await?;
    let router = red.make("router", json!({"external_gateway_info": {"network_id": outside["id"]}})).await?;
    let gateway = admin.get(&format!("/v2.0/ports?device_id={}", id(&router))).await?.ok(200)?["ports"][0].clone();
    red.remove("router", &router).await?.ok(204)?;
    assert_eq!(last(&admin, &gateway, None).await?, json!(["delete", "port", {}]));
    Ok(())
}

#[tokio::test]
async fn ports_that_join_or_leave_a_trunk_change_in_the_audit_log() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let (admin, red) = (cloud.admin().await?, cloud.tenant("red", "member").await?);
    let (network, _) = red.network("10.0.0.0/24").await?;
    let mut ports = Vec::new();
    for _ in 0..3 {
        ports.push(red.make("port", json!({"network_id": network["id"]})).await?);
    }
    let member =
        |port: &Value, tag| json!({"port_id": port["id"], "segmentation_type": "vlan", "segmentation_id": tag});
    let trunk = json!({"port_id": ports[0]["id"], "sub_ports": [member(&ports[1], 1)]});
    let trunk = red.make("trunk", trunk).await?;
    let path = |action: &str| format!("/v2.0/trunks/{}/{action}", id(&trunk));
    let joining = json!({"sub_ports": [member(&ports[2], 2)]});
    red.put(&path("add_subports"), Some(&joining)).await?.ok(200)?;
    red.put(&path("remove_subports"), Some(&joining)).await?.ok(200)?;
    red.remove("trunk", &trunk).await?.ok(204)?;
    let joined = json!(["update", "port", {"device_id": trunk["id"], "device_owner": "trunk:subport"}]);
    let left = json!(["update", "port", {"device_id": "", "device_owner": ""}]);
    for port in &ports[1..] {
        assert_eq!(said(&admin, port, Some(&red.project)).await?[1..], [joined.clone(), left.clone()], "{port}");
    }
    let own = said(&admin, &ports[0], Some(&red.project)).await?;
    assert_eq!(own.len(), 1, "the trunk's own port does not change");
    Ok(())
}
