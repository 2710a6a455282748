//! QoS policies and their rules.

use crate::support::{Answer, Client, Cloud, id, ids};
use futures::future::join_all;
use serde_json::{Value, json};
use std::collections::BTreeSet;

const PATH: &str = "/v2.0/qos/policies";

/// The kinds of rules, with attributes of a rule, of a change, and the defaults of what is not sent.
fn kinds() -> [(&'static str, Value, Value, Value); 5] {
    let egress = || json!({"direction": "egress"});
    let burst = |name: &str| json!({"direction": "egress", name: 0});
    [
        ("bandwidth_limit", json!({"max_kbps": 1000}), json!({"max_burst_kbps": 10}), burst("max_burst_kbps")),
        ("dscp_marking", json!({"dscp_mark": 46}), json!({"dscp_mark": 0}), json!({})),
        ("minimum_bandwidth", json!({"min_kbps": 10}), json!({"direction": "ingress"}), egress()),
        ("minimum_packet_rate", json!({"min_kpps": 1}), json!({"direction": "any"}), egress()),
        ("packet_rate_limit", json!({"max_kpps": 5}), json!({"max_burst_kpps": 1}), burst("max_burst_kpps")),
    ]
}

pub async fn policy(admin: &Client, attributes: Value) -> anyhow::Result<Value> {
    Ok(admin.post(PATH, &json!({"policy": attributes})).await?.ok(201)?["policy"].clone())
}

pub fn at(policy: &Value) -> String {
    format!("{PATH}/{}", id(policy))
}

pub async fn update(client: &Client, policy: &Value, attributes: Value) -> anyhow::Result<Answer> {
    client.put(&at(policy), Some(&json!({"policy": attributes}))).await
}

async fn show(client: &Client, policy: &Value) -> anyhow::Result<Value> {
    Ok(client.get(&at(policy)).await?.ok(200)?["policy"].clone())
}

async fn add(client: &Client, policy: &Value, kind: &str, attributes: Value) -> anyhow::Result<Answer> {
    client.post(&format!("{}/{kind}_rules", at(policy)), &json!({format!("{kind}_rule"): attributes})).await
}

fn merged(parts: &[&Value]) -> Value {
    let fields = parts.iter().flat_map(|part| part.as_object().into_iter().flatten());
    fields.map(|(name, value)| (name.clone(), value.clone())).collect::<serde_json::Map<_, _>>().into()
}

#[tokio::test]
async fn a_policy_is_made_listed_changed_and_deleted() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let admin = cloud.admin().await?;
    let gold = policy(&admin, json!({"name": "gold", "description": "d", "tags": ["a"]})).await?;
    for (name, value) in [
        ("name", json!("gold")),
        ("description", json!("d")),
        ("project_id", json!(admin.project)),
        ("tenant_id", json!(admin.project)),
        ("shared", json!(false)),
        ("is_default", json!(false)),
        ("rules", json!([])),
        ("tags", json!(["a"])),
        ("revision_number", json!(0)),
    ] {
        assert_eq!(gold[name], value, "{name}");
    }
    let iron = policy(&admin, json!({"name": "iron", "shared": true, "is_default": true})).await?;
    let find = async |query: &str| admin.get(&format!("{PATH}?{query}")).await?.ok(200);
    for (query, found) in [
        ("name=gold", &gold),
        ("shared=true", &iron),
        ("is_default=false", &gold),
        ("tags=a", &gold),
        ("not-tags=a", &iron),
        ("sort_key=name&sort_dir=desc&limit=1", &iron),
    ] {
        assert_eq!(ids(&find(query).await?["policies"]), [id(found)], "{query}");
    }
    assert_eq!(find("name=gold&fields=rules").await?["policies"], json!([{"rules": []}]));
    assert_eq!(admin.get(&format!("{PATH}?rules=x")).await?.fault(), (400, "HTTPBadRequest"));

    let changed = update(&admin, &gold, json!({"name": "silver", "shared": true})).await?.ok(200)?;
    let changed = &changed["policy"];
    assert_eq!((&changed["name"], &changed["shared"]), (&json!("silver"), &json!(true)));
    assert_eq!(changed["revision_number"], 1);
    let stale = [("If-Match", "revision_number=0")];
    let answer = admin.send("DELETE".parse()?, &at(&gold), None, &stale).await?;
    assert_eq!(answer.fault(), (412, "RevisionNumberConstraintFailed"));
    admin.put(&format!("{}/tags/b", at(&gold)), None).await?.ok(201)?;
    assert_eq!(show(&admin, &gold).await?["tags"], json!(["a", "b"]));
    assert_eq!(update(&admin, &gold, json!({"rules": []})).await?.fault(), (400, "HTTPBadRequest"));

    add(&admin, &gold, "dscp_marking", json!({"dscp_mark": 8})).await?.ok(201)?;
    admin.delete(&at(&gold)).await?.ok(204)?;
    assert_eq!(admin.get(&at(&gold)).await?.fault(), (404, "QosPolicyNotFound"));
    assert_eq!(cloud.rows("SELECT id FROM qos_rules").await?, Vec::<String>::new(), "rules go with their policy");
    let shares = "SELECT object_id FROM rbac_policies WHERE object_type = 'qos_policy'";
    assert_eq!(cloud.rows(shares).await?, [id(&iron)]);
    let made = [json!({"name": "x"}), json!({"name": "y"})];
    let made = admin.post(PATH, &json!({"policies": made})).await?.ok(201)?;
    assert_eq!(made["policies"].as_array().map(Vec::len), Some(2));
    Ok(())
}

#[tokio::test]
async fn each_kind_of_rule_is_made_shown_changed_and_deleted() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let admin = cloud.admin().await?;
    let gold = policy(&admin, json!({})).await?;
    let other = policy(&admin, json!({})).await?;
    for (place, (kind, new, change, defaults)) in kinds().into_iter().enumerate() {
        let (one, many) = (format!("{kind}_rule"), format!("{kind}_rules"));
        let rule = add(&admin, &gold, kind, new.clone()).await?.ok(201)?[&one].clone();
        assert_eq!(rule, merged(&[&json!({"id": rule["id"]}), &defaults, &new]), "{kind}");
        let shown = show(&admin, &gold).await?;
        assert_eq!(shown["revision_number"], place * 2 + 1, "the revision rises with the rules");
        let in_policy = json!({"type": kind, "qos_policy_id": gold["id"]});
        assert_eq!(shown["rules"][place], merged(&[&rule, &in_policy]), "{kind}");

        let path = format!("{}/{many}/{}", at(&gold), id(&rule));
        let changed = admin.put(&path, Some(&json!({&one: change}))).await?.ok(200)?;
        assert_eq!(changed[&one], merged(&[&rule, &change]), "{kind}");
        assert_eq!(admin.get(&path).await?.ok(200)?[&one], changed[&one]);
        for (name, value) in changed[&one].as_object().into_iter().flatten() {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let list = admin
                .get(&format!("{}/{many}?{name}={value}&sort_key={name}&sort_dir=asc", at(&gold)))
                .await?
                .ok(200)?;
            assert_eq!(ids(&list[&many]), [id(&rule)], "{kind}: {name}={value}");
        }
        assert_eq!(admin.get(&format!("{}/{many}", at(&other))).await?.ok(200)?[&many], json!([]));
        let elsewhere = format!("{}/{many}/{}", at(&other), id(&rule));
        assert_eq!(admin.get(&elsewhere).await?.fault(), (404, "QosRuleNotFound"));
        assert_eq!(admin.put(&elsewhere, Some(&json!({&one: change}))).await?.fault(), (404, "QosRuleNotFound"));
        assert_eq!(admin.delete(&elsewhere).await?.fault(), (404, "QosRuleNotFound"));
    }
    assert_eq!(show(&admin, &gold).await?["rules"].as_array().map(Vec::len), Some(5));
    for (kind, ..) in kinds() {
        let many = format!("{kind}_rules");
        let list = admin.get(&format!("{}/{many}", at(&gold))).await?.ok(200)?;
        let path = format!("{}/{many}/{}", at(&gold), id(&list[&many][0]));
        admin.delete(&path).await?.ok(204)?;
        assert_eq!(admin.delete(&path).await?.fault(), (404, "QosRuleNotFound"));
    }
    assert_eq!(show(&admin, &gold).await?["rules"], json!([]));
    Ok(())
}

#[tokio::test]
async fn values_that_no_rule_has_are_refused() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let admin = cloud.admin().await?;
    let gold = policy(&admin, json!({})).await?;
    for (kind, wrong) in [
        ("bandwidth_limit", json!({})),
        ("bandwidth_limit", json!({"max_kbps": null})),
        ("bandwidth_limit", json!({"max_kbps": -1})),
        ("bandwidth_limit", json!({"max_kbps": 2_147_483_648_i64})),
        ("bandwidth_limit", json!({"max_kbps": 1, "max_burst_kbps": "x"})),
        ("bandwidth_limit", json!({"max_kbps": 1, "direction": "any"})),
        ("bandwidth_limit", json!({"max_kbps": 1, "min_kbps": 1})),
        ("dscp_marking", json!({"dscp_mark": 1})),
        ("dscp_marking", json!({"dscp_mark": 8, "direction": "egress"})),
        ("minimum_bandwidth", json!({"min_kbps": 1, "direction": null})),
        ("minimum_packet_rate", json!({"min_kpps": 1, "direction": "both"})),
        ("packet_rate_limit", json!({"max_kpps": [1]})),
    ] {
        let answer = add(&admin, &gold, kind, wrong.clone()).await?;
        assert_eq!(answer.fault(), (400, "HTTPBadRequest"), "{kind} {wrong}");
    }
    // Clients of the command line send numbers as texts.
    add(&admin, &gold, "dscp_marking", json!({"dscp_mark": "8"})).await?.ok(201)?;
    let nowhere = json!({"id": uuid::Uuid::nil()});
    let answer = add(&admin, &nowhere, "dscp_marking", json!({"dscp_mark": 8})).await?;
    assert_eq!(answer.fault(), (404, "QosPolicyNotFound"));
    Ok(())
}

#[tokio::test]
async fn rules_of_one_policy_neither_repeat_nor_contradict_each_other() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let admin = cloud.admin().await?;
    let gold = policy(&admin, json!({})).await?;
    let make = async |kind: &str, attributes: Value| add(&admin, &gold, kind, attributes).await;
    let limit = make("bandwidth_limit", json!({"max_kbps": 100})).await?.ok(201)?["bandwidth_limit_rule"].clone();
    let again = make("bandwidth_limit", json!({"max_kbps": 200})).await?;
    assert_eq!(again.fault(), (409, "QoSRulesConflict"));
    assert!(again.message().contains(id(&limit)), "{}", again.message());
    make("bandwidth_limit", json!({"max_kbps": 200, "direction": "ingress"})).await?.ok(201)?;
    let above = make("minimum_bandwidth", json!({"min_kbps": 101})).await?;
    assert_eq!(above.fault(), (409, "QoSRuleParameterConflict"));
    make("minimum_bandwidth", json!({"min_kbps": 100})).await?.ok(201)?;
    let path = format!("{}/bandwidth_limit_rules/{}", at(&gold), id(&limit));
    let lower = admin.put(&path, Some(&json!({"bandwidth_limit_rule": {"max_kbps": 99}}))).await?;
    assert_eq!(lower.fault(), (409, "QoSRuleParameterConflict"));
    let turned = admin.put(&path, Some(&json!({"bandwidth_limit_rule": {"direction": "ingress"}}))).await?;
    assert_eq!(turned.fault(), (409, "QoSRulesConflict"));
    admin.put(&path, Some(&json!({"bandwidth_limit_rule": {"max_kbps": 100}}))).await?.ok(200)?;

    make("minimum_packet_rate", json!({"min_kpps": 1, "direction": "ingress"})).await?.ok(201)?;
    let any = make("minimum_packet_rate", json!({"min_kpps": 1, "direction": "any"})).await?;
    assert_eq!(any.fault(), (409, "QoSRuleParameterConflict"));
    make("dscp_marking", json!({"dscp_mark": 8})).await?.ok(201)?;
    assert_eq!(make("dscp_marking", json!({"dscp_mark": 10})).await?.fault(), (409, "QoSRulesConflict"));
    // Of a bulk create too, and nothing of it stays.
    let two = json!({"packet_rate_limit_rules": [{"max_kpps": 1}, {"max_kpps": 2}]});
    let answer = admin.post(&format!("{}/packet_rate_limit_rules", at(&gold)), &two).await?;
    assert_eq!(answer.fault(), (409, "QoSRulesConflict"));
    assert_eq!(show(&admin, &gold).await?["rules"].as_array().map(Vec::len), Some(5));
    Ok(())
}

#[tokio::test]
async fn rules_are_reached_by_their_own_ids_on_both_paths() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let (admin, red) = (cloud.admin().await?, cloud.tenant("red", "member").await?);
    let gold = policy(&admin, json!({})).await?;
    for (kind, new, change, _) in kinds().into_iter().take(4) {
        let rule = add(&admin, &gold, kind, new).await?.ok(201)?[format!("{kind}_rule")].clone();
        let one = format!("alias_{kind}_rule");
        let documented = format!("/v2.0/qos/alias_{kind}_rules");
        let served = documented.replace('_', "-");
        for path in [&documented, &served] {
            let list = admin.get(path).await?.ok(200)?;
            assert_eq!(ids(&list[format!("{one}s")]), [id(&rule)], "{path}");
            let item = format!("{path}/{}", id(&rule));
            assert_eq!(admin.get(&item).await?.ok(200)?[&one], rule);
            assert_eq!(red.get(&item).await?.fault(), (404, "QosRuleNotFound"));
            assert_eq!(red.get(path).await?.ok(200)?[format!("{one}s")], json!([]));
            assert_eq!(red.put(&item, Some(&json!({&one: change}))).await?.fault(), (404, "QosRuleNotFound"));
            assert_eq!(admin.post(path, &json!({&one: {}})).await?.fault(), (405, "HTTPMethodNotAllowed"));
        }
        let item = format!("{served}/{}", id(&rule));
        let revision = show(&admin, &gold).await?["revision_number"].as_i64();
        let changed = admin.put(&item, Some(&json!({&one: change}))).await?.ok(200)?;
        assert_eq!(changed[&one], merged(&[&rule, &change]));
        assert_eq!(show(&admin, &gold).await?["revision_number"].as_i64(), revision.map(|number| number + 1));
        update(&admin, &gold, json!({"shared": true})).await?.ok(200)?;
        assert_eq!(red.get(&item).await?.ok(200)?[&one], changed[&one]);
        assert_eq!(red.delete(&item).await?.fault(), (403, "PolicyNotAuthorized"));
        update(&admin, &gold, json!({"shared": false})).await?.ok(200)?;
        admin.delete(&item).await?.ok(204)?;
        assert_eq!(admin.delete(&item).await?.fault(), (404, "QosRuleNotFound"));
    }
    let limit = add(&admin, &gold, "bandwidth_limit", json!({"max_kbps": 5})).await?.ok(201)?;
    add(&admin, &gold, "minimum_bandwidth", json!({"min_kbps": 5})).await?.ok(201)?;
    let item = format!("/v2.0/qos/alias-bandwidth-limit-rules/{}", id(&limit["bandwidth_limit_rule"]));
    let lower = admin.put(&item, Some(&json!({"alias_bandwidth_limit_rule": {"max_kbps": 4}}))).await?;
    assert_eq!(lower.fault(), (409, "QoSRuleParameterConflict"), "the rules are the same on every path");
    Ok(())
}

#[tokio::test]
async fn operators_write_policies_and_projects_see_what_is_shared_with_them() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let (admin, red) = (cloud.admin().await?, cloud.tenant("red", "member").await?);
    let (reader, blue) = (cloud.colleague(&red, "watcher", "reader").await?, cloud.tenant("blue", "member").await?);
    for client in [&red, &reader] {
        assert_eq!(client.post(PATH, &json!({"policy": {}})).await?.fault(), (403, "PolicyNotAuthorized"));
    }
    let own = policy(&admin, json!({"name": "own", "project_id": red.project})).await?;
    let shared = policy(&admin, json!({"name": "shared"})).await?;
    let hidden = policy(&admin, json!({"name": "hidden"})).await?;
    admin.share("qos_policy", &shared, &red.project).await?;
    for client in [&red, &reader] {
        let list = client.get(&format!("{PATH}?sort_key=name&sort_dir=asc")).await?.ok(200)?;
        assert_eq!(ids(&list["policies"]), [id(&own), id(&shared)]);
        assert_eq!(show(client, &shared).await?["shared"], true);
        for policy in [&own, &shared] {
            assert_eq!(update(client, policy, json!({"name": "x"})).await?.fault(), (403, "PolicyNotAuthorized"));
            assert_eq!(client.delete(&at(policy)).await?.fault(), (403, "PolicyNotAuthorized"));
            let rule = add(client, policy, "dscp_marking", json!({"dscp_mark": 8})).await?;
            assert_eq!(rule.fault(), (403, "PolicyNotAuthorized"));
        }
        assert_eq!(update(client, &hidden, json!({"name": "x"})).await?.fault(), (404, "QosPolicyNotFound"));
        assert_eq!(client.delete(&at(&hidden)).await?.fault(), (404, "QosPolicyNotFound"));
        let rule = add(client, &hidden, "dscp_marking", json!({"dscp_mark": 8})).await?;
        assert_eq!(rule.fault(), (404, "QosPolicyNotFound"));
    }
    assert_eq!(blue.get(PATH).await?.ok(200)?["policies"], json!([]));
    assert_eq!(blue.get(&format!("{}/dscp_marking_rules", at(&own))).await?.fault(), (404, "QosPolicyNotFound"));
    Ok(())
}

#[tokio::test]
async fn of_many_at_once_one_is_the_default_and_one_limit_is_made() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let admin = cloud.admin().await?;
    let body = json!({"policy": {"is_default": true}});
    let answers = join_all((0..8).map(|_| admin.post(PATH, &body))).await;
    let mut made = Vec::new();
    for answer in answers {
        let answer = answer?;
        if answer.status == 201 {
            made.push(answer.body["policy"].clone());
        } else {
            assert_eq!(answer.fault(), (409, "QoSPolicyDefaultAlreadyExists"));
        }
    }
    assert_eq!(made.len(), 1);
    let plain = policy(&admin, json!({})).await?;
    assert_eq!(update(&admin, &plain, json!({"is_default": true})).await?.fault().0, 409);
    let elsewhere = cloud.tenant("red", "member").await?.project;
    policy(&admin, json!({"is_default": true, "project_id": elsewhere})).await?;

    // Minima and limits that exclude each other, too: no order of the two may leave both.
    let (limit, least) = (json!({"max_kbps": 5}), json!({"min_kbps": 6}));
    let requests = (0..4).flat_map(|_| [("bandwidth_limit", &limit), ("minimum_bandwidth", &least)]);
    let answers = join_all(requests.map(|(kind, rule)| add(&admin, &plain, kind, rule.clone()))).await;
    let statuses: Vec<u16> =
        answers.into_iter().map(|answer| Ok(answer?.status.as_u16())).collect::<anyhow::Result<_>>()?;
    assert_eq!(statuses.iter().filter(|status| **status == 201).count(), 1, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|status| **status == 409).count(), 7, "{statuses:?}");
    Ok(())
}

#[tokio::test]
async fn rule_types_are_listed_and_name_no_driver() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let (admin, red) = (cloud.admin().await?, cloud.tenant("red", "reader").await?);
    let types = |list: &Value| -> BTreeSet<String> {
        let all = list["rule_types"].as_array().into_iter().flatten();
        all.filter_map(|kind| kind["type"].as_str().map(str::to_owned)).collect()
    };
    let expected: BTreeSet<String> = kinds().iter().map(|(kind, ..)| (*kind).to_owned()).collect();
    for query in ["", "?all_supported=true", "?all_rules=True"] {
        let list = red.get(&format!("/v2.0/qos/rule-types{query}")).await?.ok(200)?;
        assert_eq!(types(&list), expected, "{query}");
    }
    let one = red.get("/v2.0/qos/rule-types?type=dscp_marking").await?.ok(200)?;
    assert_eq!(one["rule_types"], json!([{"type": "dscp_marking"}]));
    assert_eq!(red.get("/v2.0/qos/rule-types?all_rules=x").await?.fault(), (400, "InvalidInput"));
    assert_eq!(red.get("/v2.0/qos/rule-types?color=x").await?.fault(), (400, "HTTPBadRequest"));
    let path = "/v2.0/qos/rule-types/bandwidth_limit";
    assert_eq!(red.get(path).await?.fault(), (403, "PolicyNotAuthorized"));
    let shown = admin.get(path).await?.ok(200)?;
    assert_eq!(shown["rule_type"], json!({"type": "bandwidth_limit", "drivers": []}));
    assert_eq!(admin.get("/v2.0/qos/rule-types/x").await?.fault(), (404, "QosRuleTypeNotFound"));
    Ok(())
}

#[tokio::test]
async fn managers_write_the_policies_of_their_project_and_no_others() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let (admin, member) = (cloud.admin().await?, cloud.tenant("red", "member").await?);
    let manager = cloud.colleague(&member, "manager", "manager").await?;
    let other = policy(&admin, json!({"name": "gold", "shared": true})).await?;
    add(&admin, &other, "dscp_marking", json!({"dscp_mark": 46})).await?.ok(201)?;
    assert_eq!(member.post(PATH, &json!({"policy": {}})).await?.fault(), (403, "PolicyNotAuthorized"));

    let own = policy(&manager, json!({"name": "own", "tags": ["a"]})).await?;
    assert_eq!(own["project_id"], json!(member.project));
    let rule = add(&manager, &own, "bandwidth_limit", json!({"max_kbps": 1000})).await?.ok(201)?;
    let rule = &rule["bandwidth_limit_rule"];
    let alias = |rule: &Value| format!("/v2.0/qos/alias-bandwidth-limit-rules/{}", id(rule));
    let change = json!({"alias_bandwidth_limit_rule": {"max_kbps": 2000}});
    assert_eq!(member.put(&alias(rule), Some(&change)).await?.fault(), (403, "PolicyNotAuthorized"));
    manager.put(&alias(rule), Some(&change)).await?.ok(200)?;
    update(&manager, &own, json!({"description": "d"})).await?.ok(200)?;
    assert_eq!(show(&member, &own).await?["rules"][0]["max_kbps"], 2000);

    // Not for everybody, and not what is only shared with it.
    for answer in [
        update(&manager, &own, json!({"shared": true})).await?,
        update(&manager, &other, json!({"name": "x"})).await?,
        add(&manager, &other, "bandwidth_limit", json!({"max_kbps": 1})).await?,
        manager
            .put(&alias_of(&admin, &other).await?, Some(&json!({"alias_dscp_marking_rule": {"dscp_mark": 0}})))
            .await?,
        manager.delete(&at(&other)).await?,
        manager.put(&format!("/v2.0/quotas/{}", member.project), Some(&json!({"quota": {"port": 1}}))).await?,
    ] {
        assert_eq!(answer.fault(), (403, "PolicyNotAuthorized"), "{}", answer.text);
    }
    let theirs = json!({"policy": {"project_id": admin.project}});
    assert_eq!(manager.post(PATH, &theirs).await?.status, 400);
    manager.get(&format!("/v2.0/quotas/{}", member.project)).await?.ok(200)?;
    manager.delete(&alias(rule)).await?.ok(204)?;
    manager.delete(&at(&own)).await?.ok(204)?;

    // And the address of a floating IP.
    let (outside, _) = crate::routers::outside(&admin).await?;
    let wish = json!({"floatingip": {"floating_network_id": outside["id"], "floating_ip_address": "198.51.100.9"}});
    assert_eq!(member.post("/v2.0/floatingips", &wish).await?.fault(), (403, "PolicyNotAuthorized"));
    let made = manager.post("/v2.0/floatingips", &wish).await?.ok(201)?["floatingip"].clone();
    assert_eq!((&made["floating_ip_address"], &made["project_id"]), (&json!("198.51.100.9"), &json!(member.project)));
    Ok(())
}

/// The one rule of a policy, by its own id.
async fn alias_of(client: &Client, policy: &Value) -> anyhow::Result<String> {
    let rule = show(client, policy).await?["rules"][0].clone();
    Ok(format!("/v2.0/qos/alias-dscp-marking-rules/{}", id(&rule)))
}
