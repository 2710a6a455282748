use crate::security_groups::{group, rule};
use crate::support::{Client, Cloud, id, ids};
use futures::future::join_all;
use serde_json::{Value, json};

const PATH: &str = "/v2.0/address-groups";

async fn make(client: &Client, attributes: Value) -> anyhow::Result<Value> {
    Ok(client.post(PATH, &json!({"address_group": attributes})).await?.ok(201)?["address_group"].clone())
}

fn at(group: &Value) -> String {
    format!("{PATH}/{}", id(group))
}

async fn act(client: &Client, group: &Value, action: &str, addresses: Value) -> anyhow::Result<crate::support::Answer> {
    client.put(&format!("{}/{action}", at(group)), Some(&json!({"addresses": addresses}))).await
}

#[tokio::test]
async fn addresses_are_added_and_removed_without_host_bits_and_once() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let red = cloud.tenant("red", "member").await?;
    let office = make(&red, json!({"name": "office", "addresses": ["10.0.0.5/24", "fd00::1"]})).await?;
    assert_eq!(office["addresses"], json!(["10.0.0.0/24", "fd00::1/128"]));
    assert_eq!((&office["shared"], &office["project_id"]), (&json!(false), &json!(red.project)));
    let empty = make(&red, json!({"description": "none"})).await?;
    assert_eq!(empty["addresses"], json!([]));
    let found = red.get(&format!("{PATH}?name=office&shared=false")).await?.ok(200)?;
    assert_eq!(ids(&found["address_groups"]), [id(&office)]);
    let sorted = red.get(&format!("{PATH}?sort_key=description&sort_dir=desc&limit=1")).await?.ok(200)?;
    assert_eq!(ids(&sorted["address_groups"]), [id(&empty)]);

    let added = act(&red, &office, "add_addresses", json!(["10.0.1.0/24", "10.0.1.9/24"])).await?.ok(200)?;
    let added = &added["address_group"];
    assert_eq!(added["addresses"], json!(["10.0.0.0/24", "10.0.1.0/24", "fd00::1/128"]));
    assert!(added["revision_number"].as_i64() > office["revision_number"].as_i64());
    let twice = act(&red, &office, "add_addresses", json!(["10.0.2.0/24", "10.0.1.0/24"])).await?;
    assert_eq!(twice.fault(), (400, "AddressesAlreadyExist"));
    let gone = act(&red, &office, "remove_addresses", json!(["10.0.0.0/24", "fd00::1/128"])).await?.ok(200)?;
    assert_eq!(gone["address_group"]["addresses"], json!(["10.0.1.0/24"]));
    let unknown = act(&red, &office, "remove_addresses", json!(["10.0.0.0/24", "10.0.1.0/24"])).await?;
    assert_eq!(unknown.fault(), (404, "AddressesNotFound"));
    for wrong in [json!(["10.0.0.0/33"]), json!("10.0.0.0/24"), json!([1]), json!(null)] {
        assert_eq!(
            act(&red, &office, "add_addresses", wrong.clone()).await?.fault(),
            (400, "HTTPBadRequest"),
            "{wrong}"
        );
    }
    let many: Vec<String> = (0..1001).map(|n| format!("10.{}.{}.0/24", n / 256, n % 256)).collect();
    assert_eq!(act(&red, &empty, "add_addresses", json!(many)).await?.fault(), (400, "HTTPBadRequest"));
    act(&red, &empty, "add_addresses", json!(many[1..])).await?.ok(200)?;
    let put = red.put(&at(&office), Some(&json!({"address_group": {"addresses": []}}))).await?;
    assert_eq!(put.fault(), (400, "HTTPBadRequest"));
    let put = red.put(&at(&office), Some(&json!({"address_group": {"name": "home"}}))).await?.ok(200)?;
    assert_eq!(
        (&put["address_group"]["name"], &put["address_group"]["addresses"]),
        (&json!("home"), &json!(["10.0.1.0/24"]))
    );
    red.delete(&at(&office)).await?.ok(204)?;
    assert_eq!(red.get(&at(&office)).await?.fault(), (404, "AddressGroupNotFound"));
    Ok(())
}

#[tokio::test]
async fn concurrent_additions_lose_nothing() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let red = cloud.tenant("red", "member").await?;
    let office = make(&red, json!({})).await?;
    let office = &office;
    let red = &red;
    let all = (0..16).map(|n| act(red, office, "add_addresses", json!([format!("10.0.{n}.0/24")])));
    for answer in join_all(all).await {
        answer?.ok(200)?;
    }
    let shown = red.get(&at(office)).await?.ok(200)?;
    assert_eq!(shown["address_group"]["addresses"].as_array().map(Vec::len), Some(16));
    Ok(())
}

#[tokio::test]
async fn a_group_that_a_rule_names_stays_and_others_do_not_see_it() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let red = cloud.tenant("red", "member").await?;
    let reader = cloud.colleague(&red, "reader", "reader").await?;
    let blue = cloud.tenant("blue", "member").await?;
    let office = make(&red, json!({"addresses": ["10.0.0.0/24"]})).await?;
    let web = group(&red, json!({})).await?;
    let named = json!({"protocol": "tcp", "remote_address_group_id": office["id"]});
    let made = rule(&red, &web, named.clone()).await?;
    assert_eq!(made["remote_address_group_id"], office["id"]);
    let rules = "/v2.0/security-group-rules";
    let found = red.get(&format!("{rules}?remote_address_group_id={}", id(&office))).await?.ok(200)?;
    assert_eq!(ids(&found["security_group_rules"]), [id(&made)]);
    assert_eq!(red.delete(&at(&office)).await?.fault(), (409, "AddressGroupInUse"));
    assert_eq!(reader.delete(&at(&office)).await?.fault(), (403, "PolicyNotAuthorized"));
    let add = act(&reader, &office, "add_addresses", json!(["10.0.1.0/24"])).await?;
    assert_eq!(add.fault(), (403, "PolicyNotAuthorized"));
    reader.get(&at(&office)).await?.ok(200)?;
    assert_eq!(act(&blue, &office, "add_addresses", json!([])).await?.fault(), (404, "AddressGroupNotFound"));
    assert_eq!(blue.delete(&at(&office)).await?.fault(), (404, "AddressGroupNotFound"));
    let theirs = group(&blue, json!({})).await?;
    let mut body = named;
    body["security_group_id"] = theirs["id"].clone();
    body["direction"] = json!("ingress");
    let answer = blue.post(rules, &json!({"security_group_rule": body})).await?;
    assert_eq!(answer.fault(), (404, "AddressGroupNotFound"));
    red.delete(&format!("{rules}/{}", id(&made))).await?.ok(204)?;
    red.delete(&at(&office)).await?.ok(204)?;
    Ok(())
}
