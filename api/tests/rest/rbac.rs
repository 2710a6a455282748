use crate::support::{Client, Cloud, id, ids};
use serde_json::{Value, json};

const PATH: &str = "/v2.0/rbac-policies";

fn policy(object_type: &str, object: &Value, target: &str) -> Value {
    json!({"rbac_policy": {"object_type": object_type, "object_id": object["id"], "target_tenant": target,
        "action": "access_as_shared"}})
}

fn at(policy: &Value) -> String {
    format!("{PATH}/{}", id(policy))
}

#[tokio::test]
async fn a_network_is_shared_with_one_project_and_as_long_as_that_uses_it() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let (red, blue) = (cloud.tenant("red", "member").await?, cloud.tenant("blue", "member").await?);
    let green = cloud.tenant("green", "member").await?;
    let (network, _) = red.network("10.0.0.0/24").await?;
    let made = red.share("network", &network, &blue.project).await?;
    let expected = json!({"id": made["id"], "project_id": red.project, "tenant_id": red.project,
        "object_type": "network", "object_id": network["id"], "target_tenant": blue.project,
        "action": "access_as_shared"});
    assert_eq!(made, expected);
    assert_eq!(blue.show("network", &network).await?["shared"], true);
    assert_eq!(red.show("network", &network).await?["shared"], false, "not with everybody");
    let path = format!("/v2.0/networks/{}", id(&network));
    assert_eq!(green.get(&path).await?.fault(), (404, "NetworkNotFound"));
    assert_eq!(blue.get(&at(&made)).await?.fault(), (404, "RbacPolicyNotFound"), "the policy is its owner's");

    let port = blue.make("port", json!({"network_id": network["id"]})).await?;
    assert_eq!(red.delete(&at(&made)).await?.fault(), (409, "RbacPolicyInUse"));
    let moved = json!({"rbac_policy": {"target_tenant": green.project}});
    assert_eq!(red.put(&at(&made), Some(&moved)).await?.fault(), (409, "RbacPolicyInUse"));
    blue.remove("port", &port).await?.ok(204)?;
    let moved = red.put(&at(&made), Some(&moved)).await?.ok(200)?;
    assert_eq!(moved["rbac_policy"]["target_tenant"], green.project.as_str());
    assert_eq!(blue.get(&path).await?.fault(), (404, "NetworkNotFound"));
    green.get(&path).await?.ok(200)?;
    red.delete(&at(&made)).await?.ok(204)?;
    assert_eq!(green.get(&path).await?.fault(), (404, "NetworkNotFound"));
    Ok(())
}

#[tokio::test]
async fn what_another_policy_still_allows_does_not_hold_one() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let (admin, red) = (cloud.admin().await?, cloud.tenant("red", "member").await?);
    let blue = cloud.tenant("blue", "member").await?;
    let (network, _) = red.network("10.0.0.0/24").await?;
    let one = red.share("network", &network, &blue.project).await?;
    let all = admin.share("network", &network, "*").await?;
    blue.make("port", json!({"network_id": network["id"]})).await?;
    assert_eq!(red.show("network", &network).await?["shared"], true);
    admin.delete(&at(&all)).await?.ok(204)?;
    assert_eq!(red.delete(&at(&one)).await?.fault(), (409, "RbacPolicyInUse"));
    Ok(())
}

#[tokio::test]
async fn only_administrators_share_with_all_or_as_external_and_only_what_is_theirs_is_shared_by_members()
-> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let (red, blue) = (cloud.tenant("red", "member").await?, cloud.tenant("blue", "member").await?);
    let reader = cloud.colleague(&red, "eve", "reader").await?;
    let (network, _) = red.network("10.0.0.0/24").await?;
    let before = cloud.dump().await?;
    let all = policy("network", &network, "*");
    assert_eq!(red.post(PATH, &all).await?.fault(), (403, "PolicyNotAuthorized"));
    let mut external = policy("network", &network, &blue.project);
    external["rbac_policy"]["action"] = json!("access_as_external");
    assert_eq!(red.post(PATH, &external).await?.fault(), (403, "PolicyNotAuthorized"));
    let to_blue = policy("network", &network, &blue.project);
    assert_eq!(reader.post(PATH, &to_blue).await?.fault(), (403, "PolicyNotAuthorized"));
    assert_eq!(blue.post(PATH, &to_blue).await?.fault(), (404, "NetworkNotFound"));
    let nothing = policy("network", &json!({"id": uuid::Uuid::nil()}), &blue.project);
    assert_eq!(red.post(PATH, &nothing).await?.fault(), (404, "NetworkNotFound"));
    for (name, wrong) in [
        ("object_type", json!("port")),
        ("object_type", Value::Null),
        ("object_id", json!("x")),
        ("target_tenant", json!("everybody")),
        ("action", json!("access_as_owner")),
    ] {
        let mut body = to_blue.clone();
        body["rbac_policy"][name] = wrong;
        assert_eq!(red.post(PATH, &body).await?.fault(), (400, "HTTPBadRequest"), "{body}");
        let mut body = to_blue.clone();
        body["rbac_policy"].as_object_mut().expect("an object").remove(name);
        assert_eq!(red.post(PATH, &body).await?.fault(), (400, "HTTPBadRequest"), "{body}");
    }
    assert_eq!(cloud.dump().await?, before);
    Ok(())
}

#[tokio::test]
async fn the_same_policy_is_refused_and_the_quota_holds() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let (red, blue) = (cloud.tenant("red", "member").await?, cloud.tenant("blue", "member").await?);
    let scope = red.post("/v2.0/address-scopes", &json!({"address_scope": {"ip_version": 4}})).await?.ok(201)?;
    let scope = scope["address_scope"].clone();
    let made = red.share("address_scope", &scope, &blue.project).await?;
    let again = red.post(PATH, &policy("address_scope", &scope, &blue.project)).await?;
    assert_eq!(again.fault(), (409, "DuplicateRbacPolicy"));
    let query = format!("{PATH}?target_tenant={}&object_type=address_scope&fields=id", blue.project);
    assert_eq!(ids(&red.get(&query).await?.ok(200)?["rbac_policies"]), [id(&made)]);
    assert_eq!(red.get(&format!("{PATH}?target_tenant=*")).await?.ok(200)?["rbac_policies"], json!([]));
    for number in 1..10 {
        red.share("address_scope", &scope, &uuid::Uuid::from_u128(number).simple().to_string()).await?;
    }
    let eleventh = policy("address_scope", &scope, &uuid::Uuid::from_u128(11).simple().to_string());
    assert_eq!(red.post(PATH, &eleventh).await?.fault(), (409, "OverQuota"));
    Ok(())
}

/// A policy that makes a network the outside of a project's routers.
async fn open_to(admin: &Client, network: &Value, project: &str) -> anyhow::Result<Value> {
    let mut body = policy("network", network, project);
    body["rbac_policy"]["action"] = json!("access_as_external");
    Ok(admin.post(PATH, &body).await?.ok(201)?["rbac_policy"].clone())
}

#[tokio::test]
async fn an_external_network_stays_open_to_a_project_as_long_as_its_routers_or_addresses_are_there()
-> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let (admin, blue) = (cloud.admin().await?, cloud.tenant("blue", "member").await?);
    let green = cloud.tenant("green", "member").await?;
    let (network, _) = admin.network("198.51.100.0/24").await?;
    let opened = open_to(&admin, &network, &blue.project).await?;
    let moved = json!({"rbac_policy": {"target_tenant": green.project}});
    let held = async |by: &str| -> anyhow::Result<()> {
        for answer in [admin.delete(&at(&opened)).await?, admin.put(&at(&opened), Some(&moved)).await?] {
            assert_eq!(answer.fault(), (409, "RbacPolicyInUse"), "{by}");
            assert!(answer.message().contains(by), "{by}: {}", answer.message());
        }
        Ok(())
    };
    let info = json!({"external_gateway_info": {"network_id": network["id"]}});
    let router = blue.make("router", info.clone()).await?;
    held("routers").await?;
    blue.update("router", &router, json!({"external_gateway_info": null})).await?.ok(200)?;
    let floating = blue.make("floatingip", json!({"floating_network_id": network["id"]})).await?;
    held("floating IPs").await?;

    // Another policy that shows it to blue keeps it: the network is external as long as it is to anybody.
    let other = open_to(&admin, &network, &green.project).await?;
    let shared = admin.share("network", &network, &blue.project).await?;
    admin.delete(&at(&opened)).await?.ok(204)?;
    assert_eq!(admin.delete(&at(&other)).await?.fault(), (409, "RbacPolicyInUse"), "the last that makes it external");
    assert_eq!(admin.delete(&at(&shared)).await?.fault(), (409, "RbacPolicyInUse"));
    blue.remove("floatingip", &floating).await?.ok(204)?;
    admin.delete(&at(&shared)).await?.ok(204)?;

    // The owner's own routers need that it is external, and none of the others.
    let own = admin.make("router", info.clone()).await?;
    let opened = open_to(&admin, &network, &blue.project).await?;
    admin.delete(&at(&opened)).await?.ok(204)?;
    assert_eq!(admin.delete(&at(&other)).await?.fault(), (409, "RbacPolicyInUse"));
    admin.remove("router", &own).await?.ok(204)?;
    admin.delete(&at(&other)).await?.ok(204)?;
    assert_eq!(green.get("/v2.0/networks").await?.ok(200)?["networks"], json!([]));
    Ok(())
}

#[tokio::test]
async fn ports_of_nobodys_do_not_keep_a_network_shared() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let (admin, blue) = (cloud.admin().await?, cloud.tenant("blue", "member").await?);
    let (network, _) = admin.network("198.51.100.0/24").await?;
    open_to(&admin, &network, &blue.project).await?;
    let router = blue.make("router", json!({"external_gateway_info": {"network_id": network["id"]}})).await?;
    let all = admin.share("network", &network, "*").await?;
    admin.delete(&at(&all)).await?.ok(204)?;
    admin.update("network", &network, json!({"shared": true})).await?.ok(200)?;
    admin.update("network", &network, json!({"shared": false})).await?.ok(200)?;

    // But the outside of a router that only sees it because it is shared does.
    let green = cloud.tenant("green", "member").await?;
    let all = admin.share("network", &network, "*").await?;
    let theirs = green.make("router", json!({"external_gateway_info": {"network_id": network["id"]}})).await?;
    assert_eq!(admin.delete(&at(&all)).await?.fault(), (409, "RbacPolicyInUse"));
    let hidden = admin.update("network", &network, json!({"shared": false})).await?;
    assert_eq!(hidden.fault(), (409, "InvalidSharedSetting"));
    green.remove("router", &theirs).await?.ok(204)?;
    admin.update("network", &network, json!({"shared": false})).await?.ok(200)?;
    blue.remove("router", &router).await?.ok(204)?;
    Ok(())
}
