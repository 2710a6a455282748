use crate::security_groups::{default_group, group};
use crate::support::{Cloud, id, ids};
use serde_json::{Value, json};

const PATH: &str = "/v2.0/default-security-group-rules";

/// Rules of a group for a protocol.
fn of_protocol(group: &Value, protocol: &str) -> Vec<Value> {
    let rules = group["security_group_rules"].as_array().cloned().unwrap_or_default();
    rules.into_iter().filter(|rule| rule["protocol"] == protocol).collect()
}

#[tokio::test]
async fn new_groups_start_with_the_templates_of_their_kind() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let (admin, red) = (cloud.admin().await?, cloud.tenant("red", "member").await?);
    let legacy = red.get(PATH).await?.ok(200)?["default_security_group_rules"].clone();
    assert_eq!(legacy.as_array().map(Vec::len), Some(4));
    let parents = red.get(&format!("{PATH}?remote_group_id=PARENT")).await?.ok(200)?;
    assert_eq!(parents["default_security_group_rules"].as_array().map(Vec::len), Some(2));
    let make = async |attributes: Value| {
        let made = admin.post(PATH, &json!({"default_security_group_rule": attributes})).await?.ok(201)?;
        Ok::<_, anyhow::Error>(made["default_security_group_rule"].clone())
    };
    let ssh = json!({"direction": "ingress", "protocol": "tcp", "port_range_min": 22, "port_range_max": 22,
        "description": "ssh"});
    let ssh = make(ssh).await?;
    assert_eq!((&ssh["used_in_default_sg"], &ssh["used_in_non_default_sg"]), (&json!(false), &json!(true)));
    let ping = json!({"direction": "ingress", "protocol": "icmp", "remote_group_id": "PARENT",
        "used_in_default_sg": true, "used_in_non_default_sg": true});
    let ping = make(ping).await?;
    assert_eq!(ping["remote_group_id"], "PARENT");

    let (web, default) = (group(&red, json!({})).await?, default_group(&red).await?);
    assert_eq!((of_protocol(&web, "tcp").len(), of_protocol(&default, "tcp").len()), (1, 0));
    assert_eq!(of_protocol(&web, "tcp")[0]["description"], "ssh");
    assert_eq!(of_protocol(&web, "icmp")[0]["remote_group_id"], web["id"]);
    assert_eq!(of_protocol(&default, "icmp")[0]["remote_group_id"], default["id"]);
    let used = "SELECT used FROM quotas WHERE resource = 'security_group_rule'";
    assert_eq!(cloud.rows(used).await?, ["9"]);

    // Groups that are there keep their rules; those to come do without.
    admin.delete(&format!("{PATH}/{}", id(&ssh))).await?.ok(204)?;
    let later = group(&red, json!({})).await?;
    assert_eq!((of_protocol(&later, "tcp").len(), of_protocol(&later, "icmp").len()), (0, 1));
    let found = red.get(&format!("{PATH}?used_in_default_sg=true&protocol=icmp")).await?.ok(200)?;
    assert_eq!(ids(&found["default_security_group_rules"]), [id(&ping)]);
    Ok(())
}

#[tokio::test]
async fn templates_are_the_operators_and_each_says_something_new() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let (admin, red) = (cloud.admin().await?, cloud.tenant("red", "member").await?);
    let body = |attributes: Value| json!({"default_security_group_rule": attributes});
    let tcp = json!({"direction": "ingress", "protocol": "tcp"});
    assert_eq!(red.post(PATH, &body(tcp.clone())).await?.fault(), (403, "PolicyNotAuthorized"));
    let made = admin.post(PATH, &body(tcp.clone())).await?.ok(201)?["default_security_group_rule"].clone();
    let path = format!("{PATH}/{}", id(&made));
    assert_eq!(red.get(&path).await?.ok(200)?["default_security_group_rule"], made);
    assert_eq!(red.delete(&path).await?.fault(), (403, "PolicyNotAuthorized"));
    assert_eq!(admin.put(&path, Some(&body(json!({})))).await?.fault(), (405, "HTTPMethodNotAllowed"));
    let same = json!({"direction": "ingress", "protocol": "6", "used_in_default_sg": true});
    let twice = admin.post(PATH, &body(same)).await?;
    assert_eq!(twice.fault(), (409, "DefaultSecurityGroupRuleExists"));
    assert!(twice.message().contains(id(&made)));
    let only = json!({"direction": "ingress", "protocol": "tcp", "used_in_default_sg": true,
        "used_in_non_default_sg": false});
    admin.post(PATH, &body(only)).await?.ok(201)?;
    let udp = json!({"direction": "ingress", "protocol": "udp"});
    let bulk = json!({"default_security_group_rules": [udp.clone(), udp]});
    assert_eq!(admin.post(PATH, &bulk).await?.fault(), (409, "DuplicateDefaultSgRuleInPost"));
    for (attributes, expected) in [
        (json!({"direction": "ingress", "remote_group_id": "x"}), (404, "SecurityGroupNotFound")),
        (json!({"direction": "ingress", "remote_group_id": uuid::Uuid::new_v4()}), (404, "SecurityGroupNotFound")),
        (
            json!({"direction": "ingress", "remote_group_id": "PARENT", "remote_ip_prefix": "10.0.0.0/8"}),
            (400, "SecurityGroupMultipleRemoteEntites"),
        ),
        (json!({"protocol": "udp"}), (400, "HTTPBadRequest")),
    ] {
        assert_eq!(admin.post(PATH, &body(attributes.clone())).await?.fault(), expected, "{attributes}");
    }
    // A template may name a group, which then stays.
    let web = group(&admin, json!({})).await?;
    let named = json!({"direction": "egress", "protocol": "udp", "remote_group_id": web["id"]});
    let named = admin.post(PATH, &body(named)).await?.ok(201)?["default_security_group_rule"].clone();
    let at = format!("/v2.0/security-groups/{}", id(&web));
    assert_eq!(admin.delete(&at).await?.fault(), (409, "SecurityGroupInUse"));
    assert_eq!(of_protocol(&group(&red, json!({})).await?, "udp")[0]["remote_group_id"], web["id"]);
    admin.delete(&format!("{PATH}/{}", id(&named))).await?.ok(204)?;
    admin.delete(&at).await?.ok(204)?;
    Ok(())
}
