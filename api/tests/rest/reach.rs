//! What may pass to a port, and who may reach it: which rules decide, and who is told of whom.

use crate::support::{Client, Cloud, id};
use serde_json::{Value, json};

async fn rules(client: &Client, port: &Value) -> anyhow::Result<Value> {
    let answer = client.get(&format!("/v2.0/ports/{}/effective-rules", id(port))).await?.ok(200)?;
    Ok(answer["effective_rules"].clone())
}

async fn reach(client: &Client, port: &Value, query: &str) -> anyhow::Result<Value> {
    let answer = client.get(&format!("/v2.0/ports/{}/reachable-from?{query}", id(port))).await?.ok(200)?;
    Ok(answer["reachable_from"].clone())
}

/// A group with one rule more than new groups have.
async fn group(client: &Client, name: &str, rule: Value) -> anyhow::Result<Value> {
    let body = json!({"security_group": {"name": name}});
    let group = client.post("/v2.0/security-groups", &body).await?.ok(201)?["security_group"].clone();
    let mut rule = rule;
    rule["security_group_id"] = group["id"].clone();
    client.post("/v2.0/security-group-rules", &json!({"security_group_rule": rule})).await?.ok(201)?;
    Ok(group)
}

fn ingress(protocol: &str, port: u16) -> Value {
    json!({"direction": "ingress", "protocol": protocol, "port_range_min": port, "port_range_max": port})
}

fn line(protocol: Option<u8>, port: Option<u16>) -> Value {
    json!({"protocol": protocol, "port_range_min": port, "port_range_max": port})
}

/// Names of ports with what may pass.
fn told(reach: &Value) -> Vec<(&str, &Value)> {
    let ports = reach["ports"].as_array().expect("a list");
    let mut told: Vec<_> = ports.iter().map(|one| (one["name"].as_str().expect("a name"), &one["traffic"])).collect();
    told.sort_by_key(|(name, _)| *name);
    told
}

#[tokio::test]
async fn rules_of_several_groups_that_say_the_same_are_one_line_with_the_names_of_all() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let red = cloud.tenant("red", "member").await?;
    let (network, _) = red.network("10.0.0.0/24").await?;
    let one = group(&red, "one", ingress("tcp", 443)).await?;
    let two = group(&red, "two", ingress("6", 443)).await?;
    let from_one = json!({"direction": "ingress", "protocol": "udp", "remote_group_id": one["id"], "security_group_id": two["id"]});
    red.post("/v2.0/security-group-rules", &json!({"security_group_rule": from_one})).await?.ok(201)?;
    let port = json!({"network_id": network["id"], "security_groups": [one["id"], two["id"]]});
    let port = red.make("port", port).await?;
    let said = rules(&red, &port).await?;
    assert_eq!((&said["filtered"], &said["hidden_security_groups"]), (&json!(true), &json!(0)));
    let ingress = &said["ingress"];
    assert_eq!((&ingress["decided_by"], &ingress["label_policies"]), (&json!("security_groups"), &json!([])));
    let lines = ingress["rules"].as_array().expect("a list");
    assert_eq!(lines.len(), 2, "{ingress}");
    let https = lines.iter().find(|line| line["protocol"] == 6).expect("tcp");
    assert_eq!((&https["port_range_min"], &https["remote_group_id"]), (&json!(443), &Value::Null));
    let by = https["rules"].as_array().expect("a list");
    assert_eq!(
        by.iter().map(|rule| rule["security_group_name"].as_str()).collect::<Vec<_>>(),
        [Some("one"), Some("two")]
    );
    assert!(by.iter().all(|rule| rule["id"].is_string()));
    let udp = lines.iter().find(|line| line["protocol"] == 17).expect("udp");
    assert_eq!((&udp["remote_group_id"], &udp["remote_group_name"]), (&one["id"], &json!("one")));
    // New groups let everything out, of both versions.
    assert_eq!(said["egress"]["rules"].as_array().map(Vec::len), Some(2), "{}", said["egress"]);
    // A port that nothing filters has no rules.
    let free = json!({"network_id": network["id"], "port_security_enabled": false});
    let said = rules(&red, &red.make("port", free).await?).await?;
    let nothing = json!({"decided_by": "nothing", "rules": [], "label_policies": []});
    assert_eq!((&said["filtered"], &said["ingress"], &said["egress"]), (&json!(false), &nothing, &nothing));
    Ok(())
}

#[tokio::test]
async fn where_a_label_policy_isolates_a_port_it_alone_is_shown_to_decide() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let red = cloud.tenant("red", "member").await?;
    let (network, _) = red.network("10.0.0.0/24").await?;
    let labels = |app: &str| json!({"namespace": "shop", "labels": {"app": app}});
    let port = async |name: &str| {
        red.make("port", json!({"network_id": network["id"], "name": name, "mizar:labels": labels(name)})).await
    };
    let (web, db, _) = (port("web").await?, port("db").await?, port("job").await?);
    let from_web = json!([{"from": [{"podSelector": {"matchLabels": {"app": "web"}}}], "ports": [{"protocol": "TCP", "port": 5432}]}]);
    let spec = json!({"podSelector": {"matchLabels": {"app": "db"}}, "policyTypes": ["Ingress"], "ingress": from_web});
    let manifest = crate::label_policies::manifest("db", spec);
    red.post("/v2.0/label-policies", &json!({"label_policy": {"manifest": manifest}})).await?.ok(201)?;
    let said = rules(&red, &db).await?;
    assert_eq!((&said["ingress"]["decided_by"], &said["ingress"]["rules"]), (&json!("label_policies"), &json!([])));
    let policy = &said["ingress"]["label_policies"][0];
    assert_eq!((&policy["name"], &policy["namespace"], &policy["rules"]), (&json!("db"), &json!("shop"), &from_web));
    assert_eq!(said["egress"]["decided_by"], "security_groups");
    assert_eq!(rules(&red, &web).await?["ingress"]["decided_by"], "security_groups");
    // Of the default group both others are members, but the policy names one of them.
    assert_eq!(told(&reach(&red, &db, "").await?), [("web", &json!([line(Some(6), Some(5432))]))]);
    let all = json!([line(None, None)]);
    assert_eq!(told(&reach(&red, &web, "").await?), [("db", &all), ("job", &all)]);
    Ok(())
}

#[tokio::test]
async fn rules_beyond_measure_are_refused_instead_of_multiplied() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let red = cloud.tenant("red", "member").await?;
    let (network, _) = red.network("10.0.0.0/24").await?;
    let labelled =
        json!({"network_id": network["id"], "name": "p", "mizar:labels": {"namespace": "shop", "labels": {}}});
    let (port, _) = (red.make("port", labelled.clone()).await?, red.make("port", labelled).await?);
    // Every odd port to everybody, said many times: whom and what would be half a million pairs.
    let (all, odd) = (vec![json!({"podSelector": {}}); 100], (0..650).map(|n| json!({"port": 2 * n + 1})));
    let rule = json!({"from": all, "ports": odd.collect::<Vec<_>>()});
    let spec = json!({"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [rule]});
    let apply = async |name: String| {
        let manifest = crate::label_policies::manifest(&name, spec.clone());
        red.post("/v2.0/label-policies", &json!({"label_policy": {"manifest": manifest}})).await?.ok(201)
    };
    apply("first".into()).await?;
    let said = reach(&red, &port, "").await?;
    assert_eq!(told(&said)[0].1.as_array().map(Vec::len), Some(650), "each interval once");
    for n in 0..14 {
        apply(format!("more-{n}")).await?;
    }
    let answer = red.get(&format!("/v2.0/ports/{}/reachable-from", id(&port))).await?;
    assert_eq!(answer.fault(), (409, "TooManyRules"), "{}", answer.text);
    Ok(())
}

#[tokio::test]
async fn an_address_group_that_the_caller_may_not_see_is_not_told_by_what_it_lets_in() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let (red, blue) = (cloud.tenant("red", "member").await?, cloud.tenant("blue", "member").await?);
    let (network, _) = red.network("10.0.0.0/24").await?;
    let secret = json!({"address_group": {"name": "secret", "addresses": ["203.0.113.0/28"]}});
    let secret = blue.post("/v2.0/address-groups", &secret).await?.ok(201)?["address_group"].clone();
    let own = group(&red, "own", ingress("tcp", 2)).await?;
    let about = json!({"direction": "ingress", "remote_address_group_id": secret["id"], "security_group_id": own["id"],
        "project_id": red.project});
    let admin = cloud.admin().await?;
    admin.post("/v2.0/security-group-rules", &json!({"security_group_rule": about})).await?.ok(201)?;
    let port = red.make("port", json!({"network_id": network["id"], "security_groups": [own["id"]]})).await?;
    let said = reach(&red, &port, "").await?;
    assert!(!said.to_string().contains("203.0.113"), "{said}");
    assert_eq!(said["more_addresses"], true, "{said}");
    let said = reach(&admin, &port, "").await?;
    assert!(said.to_string().contains("203.0.113.0/28"), "{said}");
    assert_eq!(said["more_addresses"], false, "{said}");
    Ok(())
}

#[tokio::test]
async fn who_may_reach_a_port_is_what_both_sides_allow() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let red = cloud.tenant("red", "member").await?;
    let (network, _) = red.network("10.0.0.0/24").await?;
    let (far, _) = red.network("10.0.0.0/24").await?;
    let clients =
        group(&red, "clients", json!({"direction": "ingress", "protocol": "icmp", "port_range_min": 8})).await?;
    let from_clients = json!({"direction": "ingress", "protocol": "tcp", "port_range_min": 80, "port_range_max": 90, "remote_group_id": clients["id"]});
    let servers = group(&red, "servers", from_clients).await?;
    let office = json!({"direction": "ingress", "protocol": "tcp", "port_range_min": 22, "port_range_max": 22, "remote_ip_prefix": "10.0.0.128/25", "security_group_id": servers["id"]});
    red.post("/v2.0/security-group-rules", &json!({"security_group_rule": office})).await?.ok(201)?;
    // Whoever has this sends to port 88 and nowhere else.
    let mute = red.post("/v2.0/security-groups", &json!({"security_group": {"name": "mute"}})).await?.ok(201)?["security_group"].clone();
    for rule in mute["security_group_rules"].as_array().expect("a list") {
        red.delete(&format!("/v2.0/security-group-rules/{}", id(rule))).await?.ok(204)?;
    }
    let out = json!({"direction": "egress", "protocol": "tcp", "port_range_min": 88, "port_range_max": 99, "security_group_id": mute["id"]});
    red.post("/v2.0/security-group-rules", &json!({"security_group_rule": out})).await?.ok(201)?;
    let port = async |name: &str, network: &Value, address: &str, groups: Value| {
        let fixed_ips = json!([{"ip_address": address}]);
        red.make(
            "port",
            json!({"network_id": network["id"], "name": name, "fixed_ips": fixed_ips, "security_groups": groups}),
        )
        .await
    };
    let server = port("server", &network, "10.0.0.5", json!([servers["id"]])).await?;
    port("client", &network, "10.0.0.6", json!([clients["id"]])).await?;
    port("office", &network, "10.0.0.200", json!([servers["id"]])).await?;
    port("mute", &network, "10.0.0.7", json!([mute["id"]])).await?;
    let both = port("both", &network, "10.0.0.8", json!([mute["id"], clients["id"]])).await?;
    port("far", &far, "10.0.0.6", json!([clients["id"]])).await?;
    let clients_only = json!([mute["id"]]);
    let range = |first: u16, last: u16| json!({"protocol": 6, "port_range_min": first, "port_range_max": last});

    let found = reach(&red, &server, "").await?;
    let web = json!([range(80, 90)]);
    assert_eq!(told(&found), [("both", &web), ("client", &web), ("office", &json!([range(22, 22)]))]);
    assert_eq!(found["addresses"], json!([{"prefix": "10.0.0.128/25", "traffic": [range(22, 22)]}]));
    assert_eq!((&found["next_marker"], &found["of_all_projects"]), (&Value::Null, &json!(false)));
    // With the narrower sender alone only what it sends passes.
    red.update("port", &both, json!({"security_groups": clients_only})).await?.ok(200)?;
    assert_eq!(told(&reach(&red, &server, "").await?).len(), 2, "it is no client any more");
    let found = reach(&red, &both, "direction=egress").await?;
    assert_eq!(told(&found), [], "nobody takes in what it sends");
    assert_eq!(found["addresses"], json!([{"prefix": "0.0.0.0/0", "traffic": [range(88, 99)]}]));
    let found = reach(&red, &server, "direction=egress").await?;
    assert_eq!(told(&found), [("client", &json!([{"protocol": 1, "port_range_min": 8, "port_range_max": null}]))]);

    let found = reach(&red, &server, "protocol=tcp&destination_port=22").await?;
    assert_eq!(told(&found), [("office", &json!([range(22, 22)]))]);
    assert_eq!(told(&reach(&red, &server, "protocol=udp").await?), []);
    // Page by page it is the same.
    let (mut names, mut marker) = (Vec::new(), String::new());
    loop {
        let page = reach(&red, &server, &format!("limit=1{marker}")).await?;
        names.extend(told(&page).into_iter().map(|(name, _)| name.to_owned()));
        let Some(next) = page["next_marker"].as_str() else { break };
        marker = format!("&marker={next}");
    }
    names.sort();
    assert_eq!(names, ["client", "office"]);
    Ok(())
}

#[tokio::test]
async fn what_cannot_be_asked_is_refused_by_name() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let red = cloud.tenant("red", "member").await?;
    let (network, _) = red.network("10.0.0.0/24").await?;
    let port = red.make("port", json!({"network_id": network["id"]})).await?;
    for (query, name) in [
        ("direction=up", "direction"),
        ("protocol=nonsense", "protocol"),
        ("protocol=any", "protocol"),
        ("destination_port=22", "destination_port"),
        ("protocol=icmp&destination_port=22", "destination_port"),
        ("protocol=tcp&destination_port=0", "destination_port"),
        ("limit=0", "limit"),
        ("marker=x", "marker"),
        ("name=x", "name"),
    ] {
        let answer = red.get(&format!("/v2.0/ports/{}/reachable-from?{query}", id(&port))).await?;
        assert_eq!(answer.fault().0, 400, "{query}");
        assert!(answer.message().contains(name), "{query}: {}", answer.message());
    }
    Ok(())
}

#[tokio::test]
async fn who_sees_a_port_is_not_told_of_its_rules_and_ports_of_others_are_not_named() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let (red, blue) = (cloud.tenant("red", "member").await?, cloud.tenant("blue", "member").await?);
    let admin = cloud.admin().await?;
    let (network, _) = blue.network("10.0.0.0/24").await?;
    let share = json!({"object_type": "network", "object_id": network["id"], "target_tenant": red.project, "action": "access_as_shared"});
    blue.post("/v2.0/rbac-policies", &json!({"rbac_policy": share})).await?.ok(201)?;
    let open = group(
        &red,
        "open",
        json!({"direction": "ingress", "protocol": "tcp", "port_range_min": 1, "port_range_max": 9}),
    )
    .await?;
    let port = json!({"network_id": network["id"], "name": "red", "security_groups": [open["id"]]});
    let mine = red.make("port", port).await?;
    let theirs = blue.make("port", json!({"network_id": network["id"], "name": "blue"})).await?;
    let green = cloud.tenant("green", "member").await?;
    for path in ["effective-rules", "reachable-from"] {
        let path = format!("/v2.0/ports/{}/{path}", id(&mine));
        // On its own network blue sees the port, and no more.
        assert_eq!(blue.show("port", &mine).await?["id"], mine["id"]);
        assert_eq!(blue.get(&path).await?.fault(), (403, "PolicyNotAuthorized"));
        assert_eq!(green.get(&path).await?.fault(), (404, "PortNotFound"));
        assert_eq!(admin.get(&path).await?.status, 200);
    }
    let found = reach(&red, &mine, "").await?;
    assert_eq!((told(&found), &found["looked_at"]), (vec![], &json!(1)), "{found}");
    assert!(!found.to_string().contains(id(&theirs)));
    assert_eq!(found["addresses"][0]["prefix"], "0.0.0.0/0");
    assert_eq!(told(&reach(&blue, &theirs, "direction=egress").await?), []);
    let found = reach(&admin, &mine, "").await?;
    assert_eq!(told(&found).len(), 1, "{found}");
    assert_eq!(found["of_all_projects"], true);
    Ok(())
}

/// A group that another project shared and shows no more stays on the port, but its name is not told.
#[tokio::test]
async fn a_group_that_the_caller_may_not_see_has_no_name() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let (red, blue) = (cloud.tenant("red", "member").await?, cloud.tenant("blue", "member").await?);
    let (network, _) = red.network("10.0.0.0/24").await?;
    let secret = group(&blue, "secret", ingress("tcp", 1)).await?;
    let own = group(&red, "own", ingress("tcp", 2)).await?;
    let about = json!({"direction": "ingress", "remote_group_id": secret["id"], "security_group_id": own["id"], "project_id": red.project});
    cloud.admin().await?.post("/v2.0/security-group-rules", &json!({"security_group_rule": about})).await?.ok(201)?;
    let port = red.make("port", json!({"network_id": network["id"], "security_groups": [own["id"]]})).await?;
    let said = rules(&red, &port).await?;
    let line =
        said["ingress"]["rules"].as_array().into_iter().flatten().find(|line| line["remote_group_id"] == secret["id"]);
    assert_eq!(line.map(|line| &line["remote_group_name"]), Some(&Value::Null), "{said}");
    let port_id = id(&port);
    cloud.sql(&format!("INSERT INTO port_security_groups VALUES ('{port_id}', '{}')", id(&secret))).await?;
    let said = rules(&red, &port).await?;
    assert_eq!(said["hidden_security_groups"], 1);
    assert!(!said.to_string().contains("secret"), "{said}");
    let admin = cloud.admin().await?;
    let said = rules(&admin, &port).await?;
    assert!(said.to_string().contains("secret"), "{said}");
    // Nor are its rules told by what they let in.
    let tcp = |first: u16, last: u16| json!([{"protocol": 6, "port_range_min": first, "port_range_max": last}]);
    for (client, traffic, more) in [(&red, tcp(2, 2), true), (&admin, tcp(1, 2), false)] {
        let said = reach(client, &port, "").await?;
        assert_eq!(said["addresses"], json!([{"prefix": "0.0.0.0/0", "traffic": traffic}]));
        assert_eq!(said["more_addresses"], more, "{said}");
    }
    Ok(())
}

/// More than are read at once, so that the second batch knows what the first did and what it did not.
#[tokio::test]
async fn of_many_ports_each_is_told_once_whoever_asks_and_however_the_pages_fall() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let (admin, red) = (cloud.admin().await?, cloud.tenant("red", "member").await?);
    let quota = json!({"quota": {"port": -1, "security_group": -1}});
    admin.put(&format!("/v2.0/quotas/{}", red.project), Some(&quota)).await?.ok(200)?;
    let (network, _) = red.network("10.0.0.0/20").await?;
    let server = group(&red, "server", ingress("icmp", 8)).await?;
    let mut groups = Vec::new();
    for number in 1..=3_u16 {
        let client = group(&red, &format!("client {number}"), ingress("icmp", 8)).await?;
        let mut from = ingress("tcp", number);
        (from["remote_group_id"], from["security_group_id"]) = (client["id"].clone(), server["id"].clone());
        red.post("/v2.0/security-group-rules", &json!({"security_group_rule": from})).await?.ok(201)?;
        groups.push(client);
    }
    let port = json!({"network_id": network["id"], "name": "server", "security_groups": [server["id"]]});
    let port = red.make("port", port).await?;
    const CLIENTS: usize = 720;
    let one = |n: usize| json!({"network_id": network["id"], "name": format!("{}", n % 3 + 1), "security_groups": [groups[n % 3]["id"]]});
    let many: Vec<Value> = (0..CLIENTS).map(one).collect();
    red.post("/v2.0/ports", &json!({ "ports": many })).await?.ok(201)?;
    for client in [&red, &admin] {
        for limit in [1000, 510, 500] {
            let (mut told, mut looked_at, mut marker) = (std::collections::BTreeMap::new(), 0, String::new());
            loop {
                let page = reach(client, &port, &format!("protocol=tcp&limit={limit}{marker}")).await?;
                looked_at += page["looked_at"].as_u64().unwrap_or_default();
                for one in page["ports"].as_array().into_iter().flatten() {
                    let number: u16 = one["name"].as_str().unwrap_or_default().parse()?;
                    let only = json!([{"protocol": 6, "port_range_min": number, "port_range_max": number}]);
                    assert_eq!(one["traffic"], only);
                    assert!(told.insert(one["port_id"].to_string(), number).is_none(), "{one} comes twice");
                }
                let Some(next) = page["next_marker"].as_str() else { break };
                marker = format!("&marker={next}");
            }
            assert_eq!((told.len(), looked_at), (CLIENTS, CLIENTS as u64 + 1), "by {limit}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_port_is_stateful_where_any_of_its_groups_is_or_labels_are_its_own() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let red = cloud.tenant("red", "member").await?;
    let (network, _) = red.network("10.0.0.0/24").await?;
    let group = async |stateful: bool| {
        let body = json!({"security_group": {"name": "g", "stateful": stateful}});
        anyhow::Ok(red.post("/v2.0/security-groups", &body).await?.ok(201)?["security_group"]["id"].clone())
    };
    let (plain, one, two) = (group(true).await?, group(false).await?, group(false).await?);
    let everybody = json!({"security_group_id": one, "direction": "ingress"});
    red.post("/v2.0/security-group-rules", &json!({"security_group_rule": everybody})).await?.ok(201)?;
    let labels = json!({"namespace": "shop", "labels": {"app": "db"}});
    for (name, groups, more, stateful) in [
        ("one", json!([one]), json!({}), false),
        ("both", json!([one, two]), json!({}), false),
        ("mixed", json!([one, plain]), json!({}), true),
        ("labelled", json!([one]), json!({"mizar:labels": labels}), true),
        ("closed", json!([]), json!({}), true),
        ("free", json!([]), json!({"port_security_enabled": false}), true),
    ] {
        let mut port = json!({"network_id": network["id"], "name": name, "security_groups": groups});
        port.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        let port = red.make("port", port).await?;
        assert_eq!(rules(&red, &port).await?["stateful"], json!(stateful), "{name}");
        assert_eq!(reach(&red, &port, "").await?["stateful"], json!(stateful), "{name}");
    }
    let of_one = red.get("/v2.0/ports?name=one").await?.ok(200)?["ports"][0].clone();
    let found = reach(&red, &of_one, "").await?;
    let mut told: Vec<_> =
        found["ports"].as_array().expect("a list").iter().map(|one| (&one["name"], &one["stateful"])).collect();
    told.sort_by_key(|(name, _)| name.to_string());
    let expected = [("both", false), ("free", true), ("labelled", true), ("mixed", true)];
    assert_eq!(told, expected.map(|(name, stateful)| (json!(name), json!(stateful))).each_ref().map(|(a, b)| (a, b)));
    Ok(())
}
