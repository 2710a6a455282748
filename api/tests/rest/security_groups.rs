use crate::support::{Client, Cloud, id, ids};
use futures::future::join_all;
use serde_json::{Value, json};

const GROUPS: &str = "/v2.0/security-groups";
const RULES: &str = "/v2.0/security-group-rules";

pub async fn group(client: &Client, attributes: Value) -> anyhow::Result<Value> {
    let made = client.post(GROUPS, &json!({"security_group": attributes})).await?.ok(201)?;
    Ok(made["security_group"].clone())
}

pub async fn rule(client: &Client, group: &Value, attributes: Value) -> anyhow::Result<Value> {
    let made = client.post(RULES, &with(group, attributes)).await?.ok(201)?;
    Ok(made["security_group_rule"].clone())
}

/// The body of a rule of a group.
fn with(group: &Value, mut attributes: Value) -> Value {
    attributes["security_group_id"] = group["id"].clone();
    if attributes["direction"].is_null() {
        attributes["direction"] = json!("ingress");
    }
    json!({"security_group_rule": attributes})
}

pub fn at(group: &Value) -> String {
    format!("{GROUPS}/{}", id(group))
}

pub async fn show(client: &Client, group: &Value) -> anyhow::Result<Value> {
    Ok(client.get(&at(group)).await?.ok(200)?["security_group"].clone())
}

/// The default group of a client's project, as a list shows it.
pub async fn default_group(client: &Client) -> anyhow::Result<Value> {
    let path = format!("{GROUPS}?name=default&project_id={}", client.project);
    let found = client.get(&path).await?.ok(200)?;
    let groups = found["security_groups"].as_array().cloned().unwrap_or_default();
    anyhow::ensure!(groups.len() == 1, "{} default groups", groups.len());
    Ok(groups[0].clone())
}

/// What rules say, in order.
fn said(group: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let rules = group["security_group_rules"].as_array().into_iter().flatten();
    let mut all: Vec<String> = rules
        .map(|rule| {
            let remote =
                if rule["remote_group_id"] == group["id"] { "members".into() } else { text(&rule["remote_group_id"]) };
            format!("{} {} {} {remote}", text(&rule["direction"]), text(&rule["ethertype"]), text(&rule["protocol"]))
        })
        .collect();
    all.sort();
    all
}

async fn limit(cloud: &Cloud, client: &Client, resource: &str, limit: i64) -> anyhow::Result<()> {
    let project = &client.project;
    cloud
        .sql(&format!(
            "INSERT INTO quotas (project_id, resource, max) VALUES ('{project}', '{resource}', {limit}) \
             ON CONFLICT (project_id, resource) DO UPDATE SET max = excluded.max"
        ))
        .await
}

async fn used(cloud: &Cloud, client: &Client) -> anyhow::Result<Vec<String>> {
    let project = &client.project;
    let of = format!("WHERE project_id = '{project}' AND resource LIKE 'security_group%'");
    cloud.rows(&format!("SELECT resource || ' ' || used FROM quotas {of} ORDER BY 1")).await
}

#[tokio::test]
async fn a_group_is_made_listed_changed_tagged_and_deleted() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let red = cloud.tenant("red", "member").await?;
    let web = group(&red, json!({"name": "web", "description": "d", "stateful": false, "tags": ["b", "a"]})).await?;
    assert_eq!(said(&web), ["egress IPv4 - -", "egress IPv6 - -"]);
    assert_eq!((&web["stateful"], &web["shared"], &web["tags"]), (&json!(false), &json!(false), &json!(["a", "b"])));
    assert_eq!((&web["project_id"], &web["tenant_id"]), (&json!(red.project), &json!(red.project)));
    let other = group(&red, json!({})).await?;
    assert_eq!((&other["name"], &other["stateful"]), (&json!(""), &json!(true)));

    for (query, expected) in [
        ("name=web", vec![id(&web)]),
        ("stateful=true&name=", vec![id(&other)]),
        ("description=d", vec![id(&web)]),
        ("tags=a", vec![id(&web)]),
        ("shared=true", vec![]),
        ("sort_key=name&sort_dir=desc&limit=1", vec![id(&web)]),
    ] {
        let found = red.get(&format!("{GROUPS}?{query}")).await?.ok(200)?;
        assert_eq!(ids(&found["security_groups"]), expected, "{query}");
    }
    let changed = json!({"security_group": {"name": "www", "description": "", "stateful": true}});
    let changed = red.put(&at(&web), Some(&changed)).await?.ok(200)?["security_group"].clone();
    assert_eq!((&changed["name"], &changed["stateful"]), (&json!("www"), &json!(true)));
    assert_eq!(changed["revision_number"], json!(web["revision_number"].as_i64().unwrap_or_default() + 1));
    red.put(&format!("{}/tags/c", at(&web)), None).await?.ok(201)?;
    assert_eq!(show(&red, &web).await?["tags"], json!(["a", "b", "c"]));
    let stale = [("If-Match", "revision_number=0")];
    let stale = red.send(reqwest::Method::DELETE, &at(&web), None, &stale).await?;
    assert_eq!(stale.fault(), (412, "RevisionNumberConstraintFailed"));
    red.delete(&at(&web)).await?.ok(204)?;
    assert_eq!(red.get(&at(&web)).await?.fault(), (404, "SecurityGroupNotFound"));
    Ok(())
}

#[tokio::test]
async fn a_project_has_one_default_group_that_its_members_cannot_rename_or_delete() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let red = cloud.tenant("red", "member").await?;
    let default = default_group(&red).await?;
    let members = ["egress IPv4 - -", "egress IPv6 - -", "ingress IPv4 - members", "ingress IPv6 - members"];
    assert_eq!(said(&default), members);
    assert!(default["security_group_rules"].as_array().is_some_and(|rules| {
        rules.iter().all(|rule| rule["belongs_to_default_sg"] == true && rule["project_id"] == json!(red.project))
    }));
    assert_eq!(default_group(&red).await?, default, "a second list makes no second group");
    assert_eq!(used(&cloud, &red).await?, ["security_group 1", "security_group_rule 4"]);
    assert_eq!(red.delete(&at(&default)).await?.fault(), (409, "SecurityGroupCannotRemoveDefault"));
    let renamed = json!({"security_group": {"name": "x"}});
    assert_eq!(red.put(&at(&default), Some(&renamed)).await?.fault(), (409, "SecurityGroupCannotUpdateDefault"));
    let described = json!({"security_group": {"name": "default", "description": "ours"}});
    red.put(&at(&default), Some(&described)).await?.ok(200)?;
    for name in ["default", "Default"] {
        let second = red.post(GROUPS, &json!({"security_group": {"name": name}})).await?;
        assert_eq!(second.fault(), (409, "SecurityGroupDefaultAlreadyExists"));
    }
    let other = group(&red, json!({"name": "other"})).await?;
    let taken = red.put(&at(&other), Some(&json!({"security_group": {"name": "default"}}))).await?;
    assert_eq!(taken.fault(), (409, "SecurityGroupDefaultAlreadyExists"));
    // As in Neutron an administrator may, and the next one who needs it gets a new one.
    cloud.admin().await?.delete(&at(&default)).await?.ok(204)?;
    assert_ne!(default_group(&red).await?["id"], default["id"]);
    let events = "SELECT action FROM audit_events WHERE object_type = 'security_group' AND changes->>'name' = 'default' \
                  AND action = 'create'";
    assert_eq!(cloud.rows(events).await?.len(), 2, "what is made lazily is in the audit log too");
    Ok(())
}

#[tokio::test]
async fn whoever_comes_first_makes_the_default_group_and_all_others_find_it() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    for round in 0..3 {
        let red = cloud.tenant(&format!("red{round}"), "member").await?;
        let (network, _) = red.network("10.0.0.0/24").await?;
        let port = json!({"port": {"network_id": network["id"]}});
        let (ports, lists) = tokio::join!(
            join_all((0..12).map(|_| red.post("/v2.0/ports", &port))),
            join_all((0..12).map(|_| red.get(GROUPS))),
        );
        let default = default_group(&red).await?;
        for answer in lists {
            assert_eq!(ids(&answer?.ok(200)?["security_groups"]), [id(&default)]);
        }
        for answer in ports {
            assert_eq!(answer?.ok(201)?["port"]["security_groups"], json!([default["id"]]));
        }
        assert_eq!(used(&cloud, &red).await?, ["security_group 1", "security_group_rule 4"]);
    }
    Ok(())
}

#[tokio::test]
async fn a_rule_keeps_what_was_written_and_is_known_by_what_it_means() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let red = cloud.tenant("red", "member").await?;
    let web = group(&red, json!({"name": "web"})).await?;
    let ssh = json!({"protocol": "TCP", "port_range_min": 22, "port_range_max": "22", "ethertype": "ipv4",
        "remote_ip_prefix": "10.0.0.5/24", "description": "ssh"});
    let made = rule(&red, &web, ssh.clone()).await?;
    let expected = json!({"id": made["id"], "project_id": red.project, "tenant_id": red.project, "description": "ssh",
        "security_group_id": web["id"], "direction": "ingress", "ethertype": "IPv4", "protocol": "tcp",
        "port_range_min": 22, "port_range_max": 22, "remote_ip_prefix": "10.0.0.5/24",
        "normalized_cidr": "10.0.0.0/24", "remote_group_id": null, "remote_address_group_id": null,
        "belongs_to_default_sg": false, "revision_number": 0, "created_at": made["created_at"],
        "updated_at": made["updated_at"]});
    assert_eq!(made, expected);
    let after = show(&red, &web).await?;
    assert_eq!(after["revision_number"], json!(web["revision_number"].as_i64().unwrap_or_default() + 1));
    assert!(after["security_group_rules"].as_array().is_some_and(|rules| rules.contains(&made)));

    let same = json!({"protocol": 6, "port_range_min": 22, "port_range_max": 22, "remote_ip_prefix": "10.0.0.0/24"});
    let twice = red.post(RULES, &with(&web, same)).await?;
    assert_eq!(twice.fault(), (409, "SecurityGroupRuleExists"));
    assert!(twice.message().contains(id(&made)), "{}", twice.message());
    rule(&red, &web, json!({"protocol": "icmp", "ethertype": "IPv6"})).await?;
    let six = red.get(&format!("{RULES}?ethertype=IPv6&protocol=ipv6-icmp")).await?.ok(200)?;
    assert_eq!(six["security_group_rules"].as_array().map(Vec::len), Some(1));
    rule(&red, &web, json!({"protocol": "udp"})).await?;
    let everybody = json!({"protocol": "17", "remote_ip_prefix": "0.0.0.0/0"});
    assert_eq!(red.post(RULES, &with(&web, everybody)).await?.fault(), (409, "SecurityGroupRuleExists"));
    rule(&red, &web, json!({"protocol": "icmp", "port_range_min": 8, "port_range_max": 0})).await?;

    for (query, count) in [
        (format!("security_group_id={}&direction=ingress", id(&web)), 4),
        ("remote_ip_prefix=10.0.0.5/24".into(), 1),
        ("normalized_cidr=10.0.0.0/24".into(), 1),
        ("port_range_min=8".into(), 1),
        ("protocol=udp&protocol=tcp".into(), 2),
        ("belongs_to_default_sg=true".into(), 4),
        ("description=ssh".into(), 1),
    ] {
        let found = red.get(&format!("{RULES}?{query}")).await?.ok(200)?;
        assert_eq!(found["security_group_rules"].as_array().map(Vec::len), Some(count), "{query}");
    }
    let mut seen = Vec::new();
    let mut marker = String::new();
    for _ in 0..10 {
        let page = format!("{RULES}?sort_key=protocol&sort_dir=desc&limit=1{marker}");
        let page = red.get(&page).await?.ok(200)?;
        let Some(first) = page["security_group_rules"].get(0) else { break };
        seen.push(first["protocol"].as_str().unwrap_or("").to_owned());
        marker = format!("&marker={}", id(first));
    }
    assert_eq!(
        seen,
        ["udp", "tcp", "ipv6-icmp", "icmp", "", "", "", "", "", ""],
        "null sorts first, and pages pass it"
    );

    let path = format!("{RULES}/{}", id(&made));
    let described = json!({"security_group_rule": {"description": "new"}});
    assert_eq!(red.put(&path, Some(&described)).await?.ok(200)?["security_group_rule"]["description"], "new");
    let changed = red.put(&path, Some(&json!({"security_group_rule": {"protocol": "udp"}}))).await?;
    assert_eq!(changed.fault(), (400, "HTTPBadRequest"));
    red.delete(&path).await?.ok(204)?;
    assert_eq!(red.get(&path).await?.fault(), (404, "SecurityGroupRuleNotFound"));
    assert_eq!(used(&cloud, &red).await?, ["security_group 2", "security_group_rule 9"]);
    Ok(())
}

#[tokio::test]
async fn rules_that_make_no_sense_are_refused_and_change_nothing() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let red = cloud.tenant("red", "member").await?;
    let blue = cloud.tenant("blue", "member").await?;
    let (web, foreign) = (group(&red, json!({})).await?, default_group(&blue).await?);
    let nobody = uuid::Uuid::new_v4();
    let before = cloud.dump().await?;
    let bad = (400, "HTTPBadRequest");
    let no_group = (404, "SecurityGroupNotFound");
    for (attributes, expected) in [
        (json!({"direction": "inward"}), bad),
        (json!({"direction": 1}), bad),
        (json!({"ethertype": "IPv5"}), (400, "SecurityGroupRuleInvalidEtherType")),
        (json!({"protocol": "tcpp"}), (400, "SecurityGroupRuleInvalidProtocol")),
        (json!({"protocol": 256}), (400, "SecurityGroupRuleInvalidProtocol")),
        (json!({"protocol": "a\0"}), bad),
        (json!({"protocol": ["tcp"]}), bad),
        (json!({"protocol": "icmpv6"}), (400, "SecurityGroupEthertypeConflictWithProtocol")),
        (json!({"port_range_min": 1, "port_range_max": 2}), (400, "SecurityGroupProtocolRequiredWithPorts")),
        (json!({"protocol": "gre", "port_range_min": 1}), (400, "SecurityGroupInvalidProtocolForPort")),
        (json!({"protocol": "tcp", "port_range_min": 1}), (400, "SecurityGroupInvalidPortRange")),
        (json!({"protocol": "tcp", "port_range_min": 2, "port_range_max": 1}), (400, "SecurityGroupInvalidPortRange")),
        (
            json!({"protocol": "tcp", "port_range_min": 1, "port_range_max": 65536}),
            (400, "SecurityGroupInvalidPortValue"),
        ),
        (
            json!({"protocol": "tcp", "port_range_min": "ssh", "port_range_max": 22}),
            (400, "SecurityGroupInvalidPortValue"),
        ),
        (json!({"protocol": "icmp", "port_range_min": 256}), (400, "SecurityGroupInvalidIcmpValue")),
        (json!({"protocol": "icmp", "port_range_max": 0}), (400, "SecurityGroupMissingIcmpType")),
        (json!({"remote_ip_prefix": "10.0.0.0/33"}), (400, "InvalidCIDR")),
        (json!({"remote_ip_prefix": "fd00::/64"}), (400, "SecurityGroupRuleParameterConflict")),
        (json!({"remote_group_id": "x"}), no_group),
        (json!({"remote_group_id": nobody}), no_group),
        (json!({"remote_group_id": foreign["id"]}), no_group),
        (json!({"remote_address_group_id": nobody}), (404, "AddressGroupNotFound")),
        (
            json!({"remote_group_id": web["id"], "remote_ip_prefix": "10.0.0.0/8"}),
            (400, "SecurityGroupMultipleRemoteEntites"),
        ),
        (json!({"normalized_cidr": "10.0.0.0/8"}), bad),
        (json!({"description": "x".repeat(256)}), bad),
        (json!({"sport": 1}), bad),
    ] {
        let answer = red.post(RULES, &with(&web, attributes.clone())).await?;
        assert_eq!(answer.fault(), expected, "{attributes}: {}", answer.text);
    }
    assert_eq!(red.post(RULES, &with(&foreign, json!({}))).await?.fault(), no_group);
    let without = json!({"security_group_rule": {"direction": "ingress"}});
    assert_eq!(red.post(RULES, &without).await?.fault(), bad);
    let own = default_group(&red).await?;
    let bulk = |one: &Value, other: &Value, second: Value| {
        let inner = |body: Value| body["security_group_rule"].clone();
        json!({"security_group_rules": [inner(with(one, json!({"protocol": "tcp"}))), inner(with(other, second))]})
    };
    let two = red.post(RULES, &bulk(&web, &own, json!({"protocol": "udp"}))).await?;
    assert_eq!(two.fault(), (400, "SecurityGroupNotSingleGroupRules"));
    let twice = red.post(RULES, &bulk(&web, &web, json!({"protocol": "6"}))).await?;
    assert_eq!(twice.fault(), (409, "DuplicateSecurityGroupRuleInPost"));
    assert_eq!(cloud.dump().await?, before);
    red.post(RULES, &bulk(&web, &web, json!({"protocol": "udp"}))).await?.ok(201)?;
    Ok(())
}

#[tokio::test]
async fn the_same_rule_made_by_many_at_once_is_there_once() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let red = cloud.tenant("red", "member").await?;
    let web = group(&red, json!({})).await?;
    for port in 1..4 {
        let body = with(&web, json!({"protocol": "tcp", "port_range_min": port, "port_range_max": port}));
        let answers = join_all((0..12).map(|_| red.post(RULES, &body))).await;
        let answers: Vec<_> = answers.into_iter().collect::<anyhow::Result<_>>()?;
        assert_eq!(answers.iter().filter(|answer| answer.status == 201).count(), 1);
        let others = answers.iter().filter(|answer| answer.status != 201);
        assert!(others.into_iter().all(|answer| answer.fault() == (409, "SecurityGroupRuleExists")));
    }
    Ok(())
}

#[tokio::test]
async fn only_members_of_the_project_and_administrators_change_groups_and_rules() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let red = cloud.tenant("red", "member").await?;
    let reader = cloud.colleague(&red, "reader", "reader").await?;
    let blue = cloud.tenant("blue", "member").await?;
    let admin = cloud.admin().await?;
    let web = group(&red, json!({"name": "web"})).await?;
    let ssh = rule(&red, &web, json!({"protocol": "tcp"})).await?;
    let path = format!("{RULES}/{}", id(&ssh));
    let forbidden = (403, "PolicyNotAuthorized");
    assert_eq!(show(&reader, &web).await?["name"], "web");
    let name = json!({"security_group": {"name": "x"}});
    assert_eq!(reader.put(&at(&web), Some(&name)).await?.fault(), forbidden);
    assert_eq!(reader.post(GROUPS, &name).await?.fault(), forbidden);
    assert_eq!(reader.post(RULES, &with(&web, json!({}))).await?.fault(), forbidden);
    assert_eq!(reader.delete(&path).await?.fault(), forbidden);
    for answer in [blue.get(&at(&web)).await?, blue.delete(&at(&web)).await?, blue.put(&at(&web), Some(&name)).await?] {
        assert_eq!(answer.fault(), (404, "SecurityGroupNotFound"));
    }
    assert_eq!(blue.delete(&path).await?.fault(), (404, "SecurityGroupRuleNotFound"));

    // A policy shows the group, its rules included, and lets nobody else change it.
    let policy = json!({"rbac_policy": {"object_type": "security_group", "object_id": web["id"],
        "target_tenant": blue.project, "action": "access_as_shared"}});
    let policy = red.post("/v2.0/rbac-policies", &policy).await?.ok(201)?["rbac_policy"].clone();
    let policy = format!("/v2.0/rbac-policies/{}", id(&policy));
    assert_eq!(show(&blue, &web).await?["shared"], true);
    assert_eq!(ids(&blue.get(&format!("{RULES}?protocol=tcp")).await?.ok(200)?["security_group_rules"]), [id(&ssh)]);
    assert_eq!(blue.delete(&path).await?.fault(), forbidden);
    assert_eq!(blue.post(RULES, &with(&web, json!({"protocol": "udp"}))).await?.fault(), forbidden);
    let (network, _) = blue.network("10.0.0.0/24").await?;
    let port = json!({"network_id": network["id"], "security_groups": [web["id"]]});
    let port = blue.make("port", port).await?;
    assert_eq!(port["security_groups"], json!([web["id"]]));
    assert_eq!(red.delete(&at(&web)).await?.fault(), (409, "SecurityGroupInUse"));
    assert_eq!(red.delete(&policy).await?.fault(), (409, "RbacPolicyInUse"));
    blue.remove("port", &port).await?.ok(204)?;
    let own = default_group(&blue).await?;
    let named = rule(&blue, &own, json!({"remote_group_id": web["id"]})).await?;
    assert_eq!(red.delete(&policy).await?.fault(), (409, "RbacPolicyInUse"));
    blue.delete(&format!("{RULES}/{}", id(&named))).await?.ok(204)?;
    red.delete(&policy).await?.ok(204)?;
    assert_eq!(blue.get(&at(&web)).await?.fault(), (404, "SecurityGroupNotFound"));

    let made = rule(&admin, &web, json!({"protocol": "udp"})).await?;
    assert_eq!(made["project_id"], json!(red.project), "a rule belongs to its group's project");
    let other = group(&admin, json!({"name": "x", "project_id": blue.project})).await?;
    assert_eq!(other["project_id"], json!(blue.project));
    assert_eq!(red.post(GROUPS, &json!({"security_group": {"project_id": blue.project}})).await?.status, 400);
    Ok(())
}

#[tokio::test]
async fn a_deleted_group_takes_its_rules_along_and_those_that_name_it() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let red = cloud.tenant("red", "member").await?;
    let (web, db) = (group(&red, json!({"name": "web"})).await?, group(&red, json!({"name": "db"})).await?);
    rule(&red, &web, json!({"protocol": "tcp"})).await?;
    let from_web = rule(&red, &db, json!({"protocol": "tcp", "remote_group_id": web["id"]})).await?;
    let found = red.get(&format!("{RULES}?remote_group_id={}", id(&web))).await?.ok(200)?;
    assert_eq!(ids(&found["security_group_rules"]), [id(&from_web)]);
    let before = show(&red, &db).await?;
    assert_eq!(used(&cloud, &red).await?, ["security_group 3", "security_group_rule 10"]);
    red.delete(&at(&web)).await?.ok(204)?;
    let after = show(&red, &db).await?;
    assert_eq!(said(&after), ["egress IPv4 - -", "egress IPv6 - -"]);
    assert!(after["revision_number"].as_i64() > before["revision_number"].as_i64());
    assert_eq!(used(&cloud, &red).await?, ["security_group 2", "security_group_rule 6"]);
    Ok(())
}

#[tokio::test]
async fn groups_and_rules_have_quotas_and_the_default_group_is_made_without_asking() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let red = cloud.tenant("red", "member").await?;
    limit(&cloud, &red, "security_group", 0).await?;
    limit(&cloud, &red, "security_group_rule", 0).await?;
    assert_eq!(red.post(GROUPS, &json!({"security_group": {}})).await?.fault(), (409, "OverQuota"));
    let (network, _) = red.network("10.0.0.0/24").await?;
    let port = red.make("port", json!({"network_id": network["id"]})).await?;
    let default = default_group(&red).await?;
    assert_eq!(port["security_groups"], json!([default["id"]]));
    assert_eq!(red.post(RULES, &with(&default, json!({"protocol": "tcp"}))).await?.fault(), (409, "OverQuota"));
    limit(&cloud, &red, "security_group", 2).await?;
    limit(&cloud, &red, "security_group_rule", 7).await?;
    let empty = json!({"security_group": {}});
    let answers = join_all((0..8).map(|_| red.post(GROUPS, &empty))).await;
    let answers: Vec<_> = answers.into_iter().collect::<anyhow::Result<_>>()?;
    assert_eq!(answers.iter().filter(|answer| answer.status == 201).count(), 1);
    assert!(answers.iter().filter(|a| a.status != 201).all(|answer| answer.fault() == (409, "OverQuota")));
    rule(&red, &default, json!({"protocol": "tcp"})).await?;
    assert_eq!(red.post(RULES, &with(&default, json!({"protocol": "udp"}))).await?.fault(), (409, "OverQuota"));
    assert_eq!(used(&cloud, &red).await?, ["security_group 2", "security_group_rule 7"]);
    Ok(())
}

#[tokio::test]
async fn rules_made_at_once_count_for_whose_group_it_is_and_not_for_who_makes_them() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let (admin, red) = (cloud.admin().await?, cloud.tenant("red", "member").await?);
    let web = group(&red, json!({"name": "web"})).await?;
    limit(&cloud, &admin, "security_group_rule", 0).await?;
    let two = |ports: [i64; 2]| {
        let rule = |port: i64| json!({"protocol": "tcp", "port_range_min": port, "port_range_max": port});
        let rules = ports.map(|port| with(&web, rule(port))["security_group_rule"].clone());
        json!({"security_group_rules": rules})
    };
    admin.post(RULES, &two([80, 443])).await?.ok(201)?;
    limit(&cloud, &red, "security_group_rule", 0).await?;
    limit(&cloud, &admin, "security_group_rule", -1).await?;
    assert_eq!(admin.post(RULES, &two([22, 25])).await?.fault(), (409, "OverQuota"));
    Ok(())
}
