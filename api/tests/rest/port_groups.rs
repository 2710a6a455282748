//! The security groups of ports.

use crate::security_groups::{at, default_group, group};
use crate::support::{Cloud, id, ids};
use futures::future::join_all;
use serde_json::json;

#[tokio::test]
async fn a_port_gets_the_default_group_of_its_project_or_those_that_it_names() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let red = cloud.tenant("red", "member").await?;
    let (network, _) = red.network("10.0.0.0/24").await?;
    let network = &network["id"];
    let plain = red.make("port", json!({"network_id": network})).await?;
    let default = default_group(&red).await?;
    let (web, db) = (group(&red, json!({"name": "web"})).await?, group(&red, json!({"name": "db"})).await?);
    assert_eq!(plain["security_groups"], json!([default["id"]]));
    let null = red.make("port", json!({"network_id": network, "security_groups": null})).await?;
    assert_eq!(null["security_groups"], json!([default["id"]]));
    let none = red.make("port", json!({"network_id": network, "security_groups": []})).await?;
    assert_eq!(none["security_groups"], json!([]));
    let mut both = [id(&web), id(&db)];
    both.sort_unstable();
    let two = red.make("port", json!({"network_id": network, "security_groups": [db["id"], web["id"]]})).await?;
    assert_eq!(two["security_groups"], json!(both));
    assert_eq!(red.show("port", &two).await?, two);
    let open = red.make("port", json!({"network_id": network, "port_security_enabled": false})).await?;
    assert_eq!(open["security_groups"], json!([]));
    // Neutron leaves what belongs to the network itself alone.
    let dhcp = red.make("port", json!({"network_id": network, "device_owner": "network:dhcp"})).await?;
    assert_eq!(dhcp["security_groups"], json!([]));

    let of = async |query: String| Ok::<_, anyhow::Error>(red.get(&format!("/v2.0/ports?{query}")).await?.ok(200)?);
    let found = of(format!("security_groups={}", id(&web))).await?;
    assert_eq!(ids(&found["ports"]), [id(&two)]);
    let found =
        of(format!("security_groups={}&security_groups={}&sort_key=id&sort_dir=asc", id(&db), id(&default))).await?;
    let mut expected = [id(&plain), id(&null), id(&two)];
    expected.sort_unstable();
    assert_eq!(ids(&found["ports"]), expected);
    assert_eq!(of("security_groups=x".into()).await?["ports"], json!([]));
    let listed = of("fields=id&fields=security_groups".into()).await?;
    for port in listed["ports"].as_array().into_iter().flatten() {
        assert_eq!(port["security_groups"], red.show("port", port).await?["security_groups"]);
    }

    let bulk = json!({"ports": [
        {"network_id": network, "name": "a"},
        {"network_id": network, "name": "b", "security_groups": [web["id"]]},
        {"network_id": network, "name": "c", "security_groups": []},
    ]});
    let made = red.post("/v2.0/ports", &bulk).await?.ok(201)?;
    let groups: Vec<_> = made["ports"].as_array().into_iter().flatten().map(|p| p["security_groups"].clone()).collect();
    assert_eq!(groups, [json!([default["id"]]), json!([web["id"]]), json!([])]);
    Ok(())
}

#[tokio::test]
async fn groups_of_a_port_are_replaced_and_go_with_it() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let red = cloud.tenant("red", "member").await?;
    let (network, _) = red.network("10.0.0.0/24").await?;
    let (web, db) = (group(&red, json!({"name": "web"})).await?, group(&red, json!({"name": "db"})).await?);
    let port = json!({"network_id": network["id"], "security_groups": [web["id"]]});
    let port = red.make("port", port).await?;
    for (sent, expected) in [
        (json!([db["id"]]), json!([db["id"]])),
        (json!([]), json!([])),
        (json!([web["id"]]), json!([web["id"]])),
        (json!(null), json!([])),
        (json!([web["id"]]), json!([web["id"]])),
    ] {
        let answer = red.update("port", &port, json!({"security_groups": sent})).await?.ok(200)?;
        assert_eq!(answer["port"]["security_groups"], expected, "{sent}");
        assert_eq!(red.show("port", &port).await?["security_groups"], expected, "{sent}");
    }
    red.update("port", &port, json!({"name": "x"})).await?.ok(200)?;
    assert_eq!(red.show("port", &port).await?["security_groups"], json!([web["id"]]));
    assert_eq!(red.delete(&at(&web)).await?.fault(), (409, "SecurityGroupInUse"));
    let stateless = json!({"security_group": {"stateful": false}});
    assert_eq!(red.put(&at(&web), Some(&stateless)).await?.fault(), (409, "SecurityGroupInUse"));
    red.put(&at(&db), Some(&stateless)).await?.ok(200)?;
    red.remove("port", &port).await?.ok(204)?;
    red.delete(&at(&web)).await?.ok(204)?;
    assert_eq!(cloud.rows("SELECT port_id FROM port_security_groups").await?, Vec::<String>::new());
    Ok(())
}

#[tokio::test]
async fn groups_that_a_port_cannot_have_are_refused_and_change_nothing() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let red = cloud.tenant("red", "member").await?;
    let blue = cloud.tenant("blue", "member").await?;
    let admin = cloud.admin().await?;
    let (network, _) = red.network("10.0.0.0/24").await?;
    let (web, foreign) = (group(&red, json!({})).await?, default_group(&blue).await?);
    let port = red.make("port", json!({"network_id": network["id"], "security_groups": [web["id"]]})).await?;
    let open = json!({"network_id": network["id"], "port_security_enabled": false});
    let open = red.make("port", open).await?;
    let before = cloud.dump().await?;
    let (bad, missing) = ((400, "HTTPBadRequest"), (404, "SecurityGroupNotFound"));
    let nobody = uuid::Uuid::new_v4();
    for (groups, expected) in [
        (json!([nobody]), missing),
        (json!([web["id"], foreign["id"]]), missing),
        (json!([web["id"], web["id"]]), bad),
        (json!(["x"]), bad),
        (json!("x"), bad),
        (json!({}), bad),
    ] {
        let body = json!({"port": {"network_id": network["id"], "security_groups": groups}});
        assert_eq!(red.post("/v2.0/ports", &body).await?.fault(), expected, "POST {groups}");
        let answer = red.update("port", &port, json!({"security_groups": groups})).await?;
        assert_eq!(answer.fault(), expected, "PUT {groups}");
    }
    // The port's project counts, not who asks.
    let of_admin = json!({"port": {"network_id": network["id"], "security_groups": [web["id"]]}});
    assert_eq!(admin.post("/v2.0/ports", &of_admin).await?.fault(), missing);

    let without = (400, "PortSecurityAndIPRequiredForSecurityGroups");
    let both = json!({"port_security_enabled": false, "security_groups": [web["id"]]});
    let mut body = both.clone();
    body["network_id"] = network["id"].clone();
    assert_eq!(red.post("/v2.0/ports", &json!({"port": body})).await?.fault(), without);
    assert_eq!(red.update("port", &port, both).await?.fault(), without);
    assert_eq!(red.update("port", &open, json!({"security_groups": [web["id"]]})).await?.fault(), without);
    let off = red.update("port", &port, json!({"port_security_enabled": false})).await?;
    assert_eq!(off.fault(), (409, "PortSecurityPortHasSecurityGroup"));
    assert_eq!(cloud.dump().await?, before);
    let off = json!({"port_security_enabled": false, "security_groups": []});
    red.update("port", &port, off).await?.ok(200)?;
    Ok(())
}

#[tokio::test]
async fn a_group_is_deleted_or_joined_but_never_both() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let red = cloud.tenant("red", "member").await?;
    let (network, _) = red.network("10.0.0.0/24").await?;
    for _ in 0..6 {
        let web = group(&red, json!({})).await?;
        let body = json!({"port": {"network_id": network["id"], "security_groups": [web["id"]]}});
        let path = at(&web);
        let (ports, gone) = tokio::join!(join_all((0..4).map(|_| red.post("/v2.0/ports", &body))), red.delete(&path));
        let gone = gone?;
        let ports: Vec<_> = ports.into_iter().collect::<anyhow::Result<_>>()?;
        let made: Vec<_> = ports.iter().filter(|port| port.status == 201).collect();
        for refused in ports.iter().filter(|port| port.status != 201) {
            assert_eq!(refused.fault(), (404, "SecurityGroupNotFound"));
        }
        if gone.status == 204 {
            assert!(made.is_empty(), "a port has a group that is gone");
        } else {
            assert_eq!(gone.fault(), (409, "SecurityGroupInUse"));
            assert!(!made.is_empty());
        }
    }
    Ok(())
}
