//! Networks, ports and floating IPs that have QoS policies.

use crate::qos::{at, policy, update};
use crate::support::{Client, Cloud, id};
use futures::future::join;
use serde_json::{Value, json};

/// One object of each resource that may have a policy, of a tenant.
async fn objects(cloud: &Cloud, red: &Client) -> anyhow::Result<[(&'static str, Value); 3]> {
    let (network, _) = red.network("10.0.0.0/24").await?;
    let port = red.make("port", json!({"network_id": network["id"]})).await?;
    let (outside, _) = crate::routers::outside(&cloud.admin().await?).await?;
    let floating = red.make("floatingip", json!({"floating_network_id": outside["id"]})).await?;
    Ok([("network", network), ("port", port), ("floatingip", floating)])
}

#[tokio::test]
async fn a_policy_is_given_taken_and_not_deleted_while_something_has_it() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let (admin, red) = (cloud.admin().await?, cloud.tenant("red", "member").await?);
    let gold = policy(&admin, json!({"project_id": red.project})).await?;
    for (kind, object) in objects(&cloud, &red).await? {
        assert_eq!(object["qos_policy_id"], Value::Null, "{kind}");
        let given = red.update(kind, &object, json!({"qos_policy_id": gold["id"]})).await?.ok(200)?;
        assert_eq!(given[kind]["qos_policy_id"], gold["id"], "{kind}");
        assert_eq!(red.show(kind, &object).await?["qos_policy_id"], gold["id"], "{kind}");
        let refused = admin.delete(&at(&gold)).await?;
        assert_eq!(refused.fault(), (409, "QosPolicyInUse"));
        assert!(refused.message().contains(&format!("{kind} {}", id(&object))), "{}", refused.message());
        let named = red.update(kind, &object, json!({"description": "d"})).await?.ok(200)?;
        assert_eq!(named[kind]["qos_policy_id"], gold["id"], "{kind}: what is not sent stays");
        let taken = red.update(kind, &object, json!({"qos_policy_id": null})).await?.ok(200)?;
        assert_eq!(taken[kind]["qos_policy_id"], Value::Null, "{kind}");
        assert_eq!(red.show(kind, &object).await?["qos_policy_id"], Value::Null, "{kind}");
        let nothing = json!({"qos_policy_id": uuid::Uuid::nil()});
        assert_eq!(red.update(kind, &object, nothing).await?.fault(), (404, "QosPolicyNotFound"), "{kind}");
        let wrong = red.update(kind, &object, json!({"qos_policy_id": "gold"})).await?;
        assert_eq!(wrong.fault(), (400, "HTTPBadRequest"), "{kind}");
        red.update(kind, &object, json!({"qos_policy_id": gold["id"]})).await?.ok(200)?;
        if kind != "network" {
            red.remove(kind, &object).await?.ok(204)?;
            continue;
        }
        red.update(kind, &object, json!({"qos_policy_id": null})).await?.ok(200)?;
    }
    admin.delete(&at(&gold)).await?.ok(204)?;
    Ok(())
}

#[tokio::test]
async fn new_objects_have_the_policy_that_is_named() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let (admin, red) = (cloud.admin().await?, cloud.tenant("red", "member").await?);
    let gold = policy(&admin, json!({"project_id": red.project})).await?;
    let hidden = policy(&admin, json!({})).await?;
    let (network, _) = red.network("10.0.0.0/24").await?;
    let (outside, _) = crate::routers::outside(&admin).await?;
    for (kind, base) in [
        ("network", json!({})),
        ("port", json!({"network_id": network["id"]})),
        ("floatingip", json!({"floating_network_id": outside["id"]})),
    ] {
        let with = |policy: &Value| {
            let mut body = base.clone();
            body["qos_policy_id"] = policy["id"].clone();
            body
        };
        let made = red.make(kind, with(&gold)).await?;
        assert_eq!(made["qos_policy_id"], gold["id"], "{kind}");
        assert_eq!(red.show(kind, &made).await?["qos_policy_id"], gold["id"], "{kind}");
        let refused = red.post(&format!("/v2.0/{kind}s"), &json!({kind: with(&hidden)})).await?;
        assert_eq!(refused.fault(), (404, "QosPolicyNotFound"), "{kind}");
        let many = json!({format!("{kind}s"): [with(&gold), base.clone()]});
        let made = red.post(&format!("/v2.0/{kind}s"), &many).await?.ok(201)?;
        let policies: Vec<&Value> =
            made[format!("{kind}s")].as_array().into_iter().flatten().map(|made| &made["qos_policy_id"]).collect();
        assert_eq!(policies, [&gold["id"], &Value::Null], "{kind}");
    }
    Ok(())
}

#[tokio::test]
async fn ports_show_the_policy_of_their_network_beside_their_own() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let (admin, red) = (cloud.admin().await?, cloud.tenant("red", "member").await?);
    let (gold, iron) =
        (policy(&admin, json!({"shared": true})).await?, policy(&admin, json!({"project_id": red.project})).await?);
    let (network, _) = red.network("10.0.0.0/24").await?;
    red.update("network", &network, json!({"qos_policy_id": gold["id"]})).await?.ok(200)?;
    let port = red.make("port", json!({"network_id": network["id"]})).await?;
    assert_eq!((&port["qos_policy_id"], &port["qos_network_policy_id"]), (&Value::Null, &gold["id"]));
    let changed = red.update("port", &port, json!({"qos_policy_id": iron["id"], "name": "p"})).await?.ok(200)?;
    assert_eq!(changed["port"]["qos_policy_id"], iron["id"]);
    assert_eq!(changed["port"]["qos_network_policy_id"], gold["id"]);
    let listed = red.get("/v2.0/ports").await?.ok(200)?;
    assert_eq!(listed["ports"][0], changed["port"]);
    assert_eq!(red.update("port", &port, json!({"qos_network_policy_id": null})).await?.fault().0, 400);
    Ok(())
}

#[tokio::test]
async fn new_networks_of_a_project_have_its_default_policy() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let (admin, red) = (cloud.admin().await?, cloud.tenant("red", "member").await?);
    let standard = policy(&admin, json!({"project_id": red.project, "is_default": true})).await?;
    let gold = policy(&admin, json!({"shared": true})).await?;
    assert_eq!(red.make("network", json!({})).await?["qos_policy_id"], standard["id"]);
    // As in Neutron null asks for the default too.
    assert_eq!(red.make("network", json!({"qos_policy_id": null})).await?["qos_policy_id"], standard["id"]);
    assert_eq!(red.make("network", json!({"qos_policy_id": gold["id"]})).await?["qos_policy_id"], gold["id"]);
    assert_eq!(admin.make("network", json!({})).await?["qos_policy_id"], Value::Null, "it is another project's");
    update(&admin, &standard, json!({"is_default": false})).await?.ok(200)?;
    assert_eq!(red.make("network", json!({})).await?["qos_policy_id"], Value::Null);
    Ok(())
}

#[tokio::test]
async fn what_an_operator_gave_without_showing_it_stays() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let (admin, red) = (cloud.admin().await?, cloud.tenant("red", "member").await?);
    let limit = policy(&admin, json!({})).await?;
    let own = policy(&admin, json!({"project_id": red.project})).await?;
    for (kind, object) in objects(&cloud, &red).await? {
        admin.update(kind, &object, json!({"qos_policy_id": limit["id"]})).await?.ok(200)?;
        for wish in [Value::Null, own["id"].clone()] {
            let refused = red.update(kind, &object, json!({"qos_policy_id": wish})).await?;
            assert_eq!(refused.fault(), (403, "PolicyRemoveAuthorizationError"), "{kind} {wish}");
        }
        let same = red.update(kind, &object, json!({"qos_policy_id": limit["id"]})).await?.ok(200)?;
        assert_eq!(same[kind]["qos_policy_id"], limit["id"], "{kind}: to say what is, is no change");
        red.update(kind, &object, json!({"description": "d"})).await?.ok(200)?;
        assert_eq!(red.show(kind, &object).await?["qos_policy_id"], limit["id"], "{kind}");
        admin.update(kind, &object, json!({"qos_policy_id": null})).await?.ok(200)?;
    }
    Ok(())
}

#[tokio::test]
async fn a_policy_is_shared_as_long_as_others_use_it() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let (admin, red) = (cloud.admin().await?, cloud.tenant("red", "member").await?);
    let gold = policy(&admin, json!({})).await?;
    let shared = admin.share("qos_policy", &gold, &red.project).await?;
    let rule = format!("/v2.0/rbac-policies/{}", id(&shared));
    for (kind, object) in objects(&cloud, &red).await? {
        red.update(kind, &object, json!({"qos_policy_id": gold["id"]})).await?.ok(200)?;
        assert_eq!(admin.delete(&rule).await?.fault(), (409, "RbacPolicyInUse"), "{kind}");
        update(&admin, &gold, json!({"shared": true})).await?.ok(200)?;
        // The other policy still lets him in.
        update(&admin, &gold, json!({"shared": false})).await?.ok(200)?;
        red.update(kind, &object, json!({"qos_policy_id": null})).await?.ok(200)?;
    }
    admin.delete(&rule).await?.ok(204)?;
    update(&admin, &gold, json!({"shared": true})).await?.ok(200)?;
    let network = red.make("network", json!({"qos_policy_id": gold["id"]})).await?;
    assert_eq!(update(&admin, &gold, json!({"shared": false})).await?.fault(), (409, "RbacPolicyInUse"));
    assert_eq!(red.show("network", &network).await?["qos_policy_id"], gold["id"]);
    red.remove("network", &network).await?.ok(204)?;
    update(&admin, &gold, json!({"shared": false})).await?.ok(200)?;
    Ok(())
}

#[tokio::test]
async fn a_gateway_has_a_policy_until_it_goes() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let (admin, red) = (cloud.admin().await?, cloud.tenant("red", "member").await?);
    let (gold, hidden) = (policy(&admin, json!({"shared": true})).await?, policy(&admin, json!({})).await?);
    let (outside, _) = crate::routers::outside(&admin).await?;
    let gateway =
        |policy: &Value| json!({"external_gateway_info": {"network_id": outside["id"], "qos_policy_id": policy["id"]}});
    let given = |router: &Value| router["external_gateway_info"]["qos_policy_id"].clone();
    let router = red.make("router", gateway(&gold)).await?;
    assert_eq!(given(&router), gold["id"]);
    let refused = admin.delete(&at(&gold)).await?;
    assert_eq!(refused.fault(), (409, "QosPolicyInUse"));
    assert!(refused.message().contains(&format!("router {}", id(&router))), "{}", refused.message());
    assert_eq!(update(&admin, &gold, json!({"shared": false})).await?.fault(), (409, "RbacPolicyInUse"));
    for (policy, fault) in [(&hidden, (404, "QosPolicyNotFound")), (&json!({"id": "gold"}), (400, "HTTPBadRequest"))] {
        assert_eq!(red.update("router", &router, gateway(policy)).await?.fault(), fault);
        assert_eq!(red.post("/v2.0/routers", &json!({"router": gateway(policy)})).await?.fault(), fault);
    }
    let again = json!({"external_gateway_info": {"network_id": outside["id"]}});
    let again = red.update("router", &router, again).await?.ok(200)?;
    assert_eq!(given(&again["router"]), gold["id"], "what is not sent stays");
    let taken = red.update("router", &router, gateway(&Value::Null)).await?.ok(200)?;
    assert_eq!(given(&taken["router"]), Value::Null);
    // What an operator gave without showing it goes with the gateway, and not before.
    admin.update("router", &router, gateway(&hidden)).await?.ok(200)?;
    let refused = red.update("router", &router, gateway(&Value::Null)).await?;
    assert_eq!(refused.fault(), (403, "PolicyRemoveAuthorizationError"));
    red.update("router", &router, json!({"external_gateway_info": null})).await?.ok(200)?;
    admin.delete(&at(&hidden)).await?.ok(204)?;
    admin.delete(&at(&gold)).await?.ok(204)?;
    Ok(())
}

#[tokio::test]
async fn a_policy_that_is_deleted_while_it_is_given_is_either() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let (admin, red) = (cloud.admin().await?, cloud.tenant("red", "member").await?);
    let (network, _) = red.network("10.0.0.0/24").await?;
    let port = red.make("port", json!({"network_id": network["id"]})).await?;
    for round in 0..10 {
        let gold = policy(&admin, json!({"project_id": red.project})).await?;
        let (kind, object) = if round % 2 == 0 { ("port", &port) } else { ("network", &network) };
        let wish = json!({"qos_policy_id": gold["id"]});
        let path = at(&gold);
        let (given, deleted) = join(red.update(kind, object, wish), admin.delete(&path)).await;
        let (given, deleted) = (given?, deleted?);
        let shown = red.show(kind, object).await?["qos_policy_id"].clone();
        match (given.status.as_u16(), deleted.status.as_u16()) {
            (200, 409) => assert_eq!(shown, gold["id"]),
            (404, 204) => assert_eq!(shown, Value::Null),
            other => panic!("{other:?}: {} {}", given.text, deleted.text),
        }
        red.update(kind, object, json!({"qos_policy_id": null})).await?.ok(200)?;
    }
    Ok(())
}
