//! Label policies, the labels of ports, and what both write into the feed.

use crate::support::{Client, Cloud, id, ids};
use diesel_async::SimpleAsyncConnection as _;
use mizar_wire::{Kind, Scope};
use serde_json::{Value, json};

const PATH: &str = "/v2.0/label-policies";

pub fn manifest(name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": spec,
    })
}

async fn make(client: &Client, manifest: &Value) -> anyhow::Result<Value> {
    let body = json!({"label_policy": {"manifest": manifest}});
    Ok(client.post(PATH, &body).await?.ok(201)?["label_policy"].clone())
}

fn at(policy: &Value) -> String {
    format!("{PATH}/{}", id(policy))
}

/// Kind of scope, its number, kind of entry, of all that are live and about labels.
async fn told(cloud: &Cloud) -> anyhow::Result<Vec<String>> {
    let query = "SELECT concat(scope >> 32, ' ', scope & 4294967295, ' ', kind) FROM entries \
                 WHERE NOT deleted AND scope >> 32 IN (11, 12, 13) ORDER BY scope, kind, key";
    cloud.rows(query).await
}

#[tokio::test]
async fn a_manifest_is_kept_as_it_is_and_shown_listed_changed_and_deleted() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let red = cloud.tenant("red", "member").await?;
    let mut web = manifest("web", json!({"podSelector": {"matchLabels": {"app": "web"}}, "ingress": [{}]}));
    let kept = web.clone();
    web["metadata"]["annotations"] = json!({"a": "b"});
    web["status"] = json!({});
    let policy = make(&red, &web).await?;
    assert_eq!((&policy["name"], &policy["namespace"]), (&json!("web"), &json!("shop")));
    assert_eq!((&policy["manifest"], &policy["project_id"]), (&kept, &json!(red.project)));
    assert_eq!(red.post(PATH, &json!({"label_policy": {"manifest": web}})).await?.fault(), (409, "LabelPolicyExists"));
    let other = make(&red, &manifest("other", json!({"podSelector": {}}))).await?;
    let found = red.get(&format!("{PATH}?namespace=shop&name=web")).await?.ok(200)?;
    assert_eq!(ids(&found["label_policies"]), [id(&policy)]);

    let change =
        async |manifest: &Value| red.put(&at(&policy), Some(&json!({"label_policy": {"manifest": manifest}}))).await;
    let closed = manifest("web", json!({"podSelector": {}}));
    assert_eq!(change(&closed).await?.ok(200)?["label_policy"]["manifest"], closed);
    let renamed = change(&manifest("web2", json!({"podSelector": {}}))).await?;
    assert_eq!(renamed.status, 400);
    for policy in [&policy, &other] {
        red.delete(&at(policy)).await?.ok(204)?;
    }
    assert_eq!(red.get(&at(&policy)).await?.fault(), (404, "LabelPolicyNotFound"));
    cloud.assert_entries_are_right().await
}

#[tokio::test]
async fn what_is_wrong_with_a_manifest_or_labels_is_named_by_its_place() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let red = cloud.tenant("red", "member").await?;
    let (network, _) = red.network("10.0.0.0/24").await?;
    let before = cloud.dump().await?;
    let spec = json!({"podSelector": {}, "ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.0"}}]}]});
    let except: Vec<String> = (0..65).map(|n| format!("10.0.{n}.0/32")).collect();
    let holes =
        json!({"podSelector": {}, "ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": except}}]}]});
    let long: Vec<Value> =
        (0..400).map(|n| json!({"ports": [{"protocol": "TCP", "port": n + 1, "endPort": 999}]})).collect();
    let long = json!({"podSelector": {}, "ingress": long});
    let wrong = [
        (json!({"label_policy": {}}), "manifest"),
        (json!({"label_policy": {"manifest": manifest("n", long)}}), "16384 bytes"),
        (json!({"label_policy": {"manifest": manifest("n", holes)}}), "spec.ingress[0].from[0].ipBlock.except"),
        (json!({"label_policy": {"manifest": manifest("n", spec)}}), "spec.ingress[0].from[0].ipBlock.cidr"),
        (json!({"label_policy": {"manifest": manifest("N", json!({"podSelector": {}}))}}), "metadata.name"),
        (json!({"label_policy": {"manifest": {"apiVersion": "v1"}}}), "apiVersion"),
    ];
    for (body, place) in wrong {
        let answer = red.post(PATH, &body).await?;
        assert_eq!(answer.status, 400, "{body}");
        assert!(answer.text.contains(place), "{place}: {}", answer.text);
    }
    let many: std::collections::BTreeMap<String, String> = (0..31).map(|n| (format!("{n}"), "v".repeat(63))).collect();
    let (some, more) = (json!(many), json!({"a": "v".repeat(63)}));
    let wrong = [
        (json!({"namespace": "shop", "labels": some, "namespace_labels": more}), "2048 bytes"),
        (json!({}), "namespace"),
        (json!({"namespace": "Shop"}), "namespace"),
        (json!({"namespace": "shop", "labels": {"a b": "c"}}), "a b"),
        (json!({"namespace": "shop", "labels": {"a": 1}}), "string"),
        (json!({"namespace": "shop", "colour": "red"}), "colour"),
    ];
    for (labels, place) in wrong {
        let body = json!({"port": {"network_id": network["id"], "mizar:labels": labels}});
        let answer = red.post("/v2.0/ports", &body).await?;
        assert_eq!(answer.status, 400, "{body}");
        assert!(answer.text.contains(place), "{place}: {}", answer.text);
    }
    assert_eq!(cloud.dump().await?, before);
    Ok(())
}

#[tokio::test]
async fn a_policy_is_one_entry_a_direction_however_many_ports_it_selects() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let admin = cloud.admin().await?;
    cloud.host("h1", 1500, 1).await?;
    let (network, _) = admin.network("10.0.0.0/24").await?;
    let port = async |labels: Value| {
        admin.make("port", json!({"network_id": network["id"], "binding:host_id": "h1", "mizar:labels": labels})).await
    };
    let web = json!({"namespace": "shop", "namespace_labels": {}, "labels": {"app": "web"}});
    let first = port(web.clone()).await?;
    assert_eq!(first["mizar:labels"], web);
    let project = cloud.rows("SELECT number FROM label_projects").await?.remove(0);
    let sets = |n: usize| vec![format!("13 {project} 13"); n];
    let generations = [format!("11 {project} 17"), format!("12 {project} 17")];
    assert_eq!(told(&cloud).await?, [&generations[..], &sets(1)].concat());
    port(web.clone()).await?;
    assert_eq!(told(&cloud).await?, [&generations[..], &sets(1)].concat(), "the same labels are the same set");
    port(json!({"namespace": "shop", "labels": {"app": "db"}})).await?;
    port(json!(null)).await?;
    cloud.assert_entries_are_right().await?;

    let xid = "SELECT sum(xid) FROM entries WHERE scope >> 32 NOT IN (11, 12, 13)";
    let others = cloud.rows(xid).await?;
    let spec = json!({"podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Ingress", "Egress"],
        "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "db"}}}]}]});
    let policy = make(&admin, &manifest("web", spec)).await?;
    let both = [format!("11 {project} 15"), generations[0].clone(), format!("12 {project} 16"), generations[1].clone()];
    assert_eq!(told(&cloud).await?, [&both[..], &sets(2)].concat());
    assert_eq!(cloud.rows(xid).await?, others, "no port is written for a policy");
    cloud.assert_entries_are_right().await?;

    // Another label is another set; none is none.
    let relabelled = admin.update("port", &first, json!({"mizar:labels": {"namespace": "ops"}})).await?.ok(200)?;
    assert_eq!(relabelled["port"]["mizar:labels"]["namespace"], "ops");
    assert_eq!(told(&cloud).await?, [&both[..], &sets(3)].concat());
    admin.update("port", &first, json!({"mizar:labels": null})).await?.ok(200)?;
    cloud.assert_entries_are_right().await?;
    admin.delete(&at(&policy)).await?.ok(204)?;
    assert_eq!(told(&cloud).await?, [&generations[..], &sets(3)].concat());
    let generation = cloud.rows("SELECT generation FROM label_projects").await?;
    assert_eq!(generation, ["5"], "it came, and it went");
    let (kind, scope) = (Kind::LabelGeneration as i16, Scope::LabelIngress(0).to_i64() >> 32);
    let stored = format!(
        "SELECT convert_from(body, 'UTF8')::json->>'generation' FROM entries WHERE kind = {kind} AND scope >> 32 = {scope}"
    );
    assert_eq!(cloud.rows(&stored).await?, ["5"]);
    cloud.assert_entries_are_right().await
}

#[tokio::test]
async fn policies_that_are_made_together_are_one_change() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let red = cloud.tenant("red", "member").await?;
    let of = |name: &str| json!({"manifest": manifest(name, json!({"podSelector": {}}))});
    red.post(PATH, &json!({"label_policies": [of("a"), of("b"), of("c")]})).await?.ok(201)?;
    assert_eq!(cloud.rows("SELECT generation FROM label_projects").await?, ["3"]);
    cloud.assert_entries_are_right().await
}

#[tokio::test]
async fn the_ports_of_a_project_have_so_many_different_labels() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let (red, blue) = (cloud.tenant("red", "member").await?, cloud.tenant("blue", "member").await?);
    let (network, _) = red.network("10.0.0.0/24").await?;
    let port = async |namespace: &str| {
        let body = json!({"port": {"network_id": network["id"], "mizar:labels": {"namespace": namespace}}});
        red.post("/v2.0/ports", &body).await
    };
    let first = port("a").await?.ok(201)?["port"].clone();
    let more = "INSERT INTO label_sets (labels) SELECT json_build_object('project', project, 'n', n)::text \
                FROM label_sets, generate_series(1, 4998) n";
    cloud.db.connect().await?.batch_execute(more).await?;
    // One more fits, however many ask at once.
    let asked = futures::future::join_all((0..6).map(|n| port(["b", "d", "e", "f", "g", "h"][n]))).await;
    let asked: Vec<_> = asked.into_iter().collect::<anyhow::Result<_>>()?;
    assert_eq!(asked.iter().filter(|answer| answer.status == 201).count(), 1, "{asked:?}");
    assert!(asked.iter().filter(|answer| answer.status != 201).all(|answer| answer.fault() == (409, "OverQuota")));
    assert_eq!(port("c").await?.fault(), (409, "OverQuota"));
    let relabelled = red.update("port", &first, json!({"mizar:labels": {"namespace": "c"}})).await?;
    assert_eq!(relabelled.fault(), (409, "OverQuota"));
    port("a").await?.ok(201)?;
    let (network, _) = blue.network("10.0.0.0/24").await?;
    blue.make("port", json!({"network_id": network["id"], "mizar:labels": {"namespace": "c"}})).await?;
    Ok(())
}

#[tokio::test]
async fn manifests_are_measured_as_they_are_kept_and_what_is_stored_may_be_said_again() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let red = cloud.tenant("red", "member").await?;
    let mut noted = manifest("noted", json!({"podSelector": {}}));
    noted["metadata"]["annotations"] = json!({"last-applied": "x".repeat(20_000)});
    make(&red, &noted).await?;

    // Some 15 kB.
    let ports = |n: u32| json!({"ports": [{"protocol": "TCP", "port": n + 1, "endPort": 9999}]});
    let long = |name: &str, rules: u32| {
        let rules: Vec<Value> = (0..rules).map(ports).collect();
        manifest(name, json!({"podSelector": {}, "policyTypes": ["Ingress"], "ingress": rules}))
    };
    let policy = make(&red, &long("long", 280)).await?;
    let change =
        async |manifest: &Value| red.put(&at(&policy), Some(&json!({"label_policy": {"manifest": manifest}}))).await;
    let copies = "INSERT INTO label_policies (id, project_id, name, namespace, manifest) \
                  SELECT gen_random_uuid(), project_id, name || n, namespace, \
                  jsonb_set(manifest, '{metadata,name}', to_jsonb(name || n)) \
                  FROM label_policies, generate_series(1, 80) n WHERE name = 'long'";
    cloud.sql(copies).await?;
    let refused =
        red.post(PATH, &json!({"label_policy": {"manifest": manifest("n", json!({"podSelector": {}}))}})).await?;
    assert_eq!(refused.fault(), (409, "OverQuota"));
    assert!(refused.message().contains("1048576 bytes"), "{}", refused.message());
    assert_eq!(change(&long("long", 281)).await?.fault(), (409, "OverQuota"));
    change(&long("long", 280)).await?.ok(200)?;
    change(&long("long", 279)).await?.ok(200)?;

    // What decides about a port is told, without the rules that are too many for one answer.
    let (network, _) = red.network("10.0.0.0/24").await?;
    let port = json!({"network_id": network["id"], "mizar:labels": {"namespace": "shop"}});
    let port = red.make("port", port).await?;
    let answer = red.get(&format!("/v2.0/ports/{}/effective-rules", id(&port))).await?;
    assert!(answer.text.len() < 1_100_000, "{}", answer.text.len());
    let told = answer.ok(200)?["effective_rules"]["ingress"]["label_policies"].take();
    let told = told.as_array().expect("a list");
    let bare = told.iter().filter(|policy| policy["rules"].is_null()).count();
    assert!(told.len() == 82 && (1..40).contains(&bare), "{bare} of {}", told.len());

    // From before there were bounds.
    let stored = "UPDATE label_policies SET manifest = jsonb_set(manifest, '{spec,ingress}', \
                  (manifest->'spec'->'ingress') || (manifest->'spec'->'ingress')) WHERE name = 'long'; \
                  DELETE FROM label_policies WHERE name ~ '^long.'";
    cloud.sql(stored).await?;
    let shown = red.get(&at(&policy)).await?.ok(200)?["label_policy"]["manifest"].clone();
    change(&shown).await?.ok(200)?;
    let mut other = shown.clone();
    other["spec"]["policyTypes"] = json!(["Ingress", "Egress"]);
    let other = change(&other).await?;
    assert!(other.status == 400 && other.text.contains("16384 bytes"), "{}", other.text);
    Ok(())
}

#[tokio::test]
async fn labels_from_before_there_were_bounds_may_be_said_again() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let red = cloud.tenant("red", "member").await?;
    let (network, _) = red.network("10.0.0.0/24").await?;
    let port = json!({"network_id": network["id"], "mizar:labels": {"namespace": "shop"}});
    let port = red.make("port", port).await?;
    let many = "UPDATE ports SET extras = jsonb_set(extras, '{labels,labels}', \
                (SELECT jsonb_object_agg('n' || n, 'v') FROM generate_series(1, 70) n))";
    cloud.sql(many).await?;
    let labels = red.show("port", &port).await?["mizar:labels"].clone();
    assert_eq!(labels["labels"].as_object().map(serde_json::Map::len), Some(70));
    red.update("port", &port, json!({"mizar:labels": labels, "name": "n"})).await?.ok(200)?;
    let mut more = labels;
    more["labels"]["another"] = json!("v");
    assert_eq!(red.update("port", &port, json!({"mizar:labels": more})).await?.status, 400);
    Ok(())
}
