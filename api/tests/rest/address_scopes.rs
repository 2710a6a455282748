use crate::support::{Client, Cloud, id, ids};
use serde_json::{Value, json};

const PATH: &str = "/v2.0/address-scopes";

async fn make(client: &Client, attributes: Value) -> anyhow::Result<Value> {
    Ok(client.post(PATH, &json!({"address_scope": attributes})).await?.ok(201)?["address_scope"].clone())
}

fn at(scope: &Value) -> String {
    format!("{PATH}/{}", id(scope))
}

#[tokio::test]
async fn an_address_scope_is_made_listed_renamed_and_deleted() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let red = cloud.tenant("red", "member").await?;
    let scope = make(&red, json!({"name": "inside", "ip_version": 4})).await?;
    let expected = json!({"id": scope["id"], "name": "inside", "ip_version": 4, "shared": false,
        "project_id": red.project, "tenant_id": red.project});
    assert_eq!(scope, expected);
    let six = make(&red, json!({"ip_version": "6"})).await?;
    assert_eq!((&six["name"], &six["ip_version"]), (&json!(""), &json!(6)));

    let found = red.get(&format!("{PATH}?name=inside&ip_version=4&shared=false")).await?.ok(200)?;
    assert_eq!(ids(&found["address_scopes"]), [id(&scope)]);
    assert_eq!(red.get(&format!("{PATH}?shared=true")).await?.ok(200)?["address_scopes"], json!([]));
    let page = red.get(&format!("{PATH}?sort_key=ip_version&sort_dir=desc&limit=1")).await?.ok(200)?;
    assert_eq!(ids(&page["address_scopes"]), [id(&six)]);
    assert_eq!(page["address_scopes_links"][0]["rel"], "next");

    let renamed = red.put(&at(&scope), Some(&json!({"address_scope": {"name": "outside"}}))).await?.ok(200)?;
    assert_eq!(renamed["address_scope"]["name"], "outside");
    red.delete(&at(&scope)).await?.ok(204)?;
    assert_eq!(red.get(&at(&scope)).await?.fault(), (404, "AddressScopeNotFound"));
    Ok(())
}

#[tokio::test]
async fn impossible_address_scopes_are_refused() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let red = cloud.tenant("red", "member").await?;
    let before = cloud.dump().await?;
    for attributes in [
        json!({}),
        json!({"ip_version": 5}),
        json!({"ip_version": null}),
        json!({"ip_version": 4, "name": "x".repeat(256)}),
        json!({"ip_version": 4, "prefixes": []}),
        json!({"ip_version": 4, "id": uuid::Uuid::nil()}),
    ] {
        let answer = red.post(PATH, &json!({"address_scope": attributes})).await?;
        assert_eq!(answer.fault(), (400, "HTTPBadRequest"), "{attributes}");
    }
    assert_eq!(cloud.dump().await?, before);
    let scope = make(&red, json!({"ip_version": 4})).await?;
    let answer = red.put(&at(&scope), Some(&json!({"address_scope": {"ip_version": 6}}))).await?;
    assert_eq!(answer.fault(), (400, "HTTPBadRequest"));
    Ok(())
}

#[tokio::test]
async fn an_address_scope_is_seen_by_its_project_and_by_whom_it_is_shared_with() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let (admin, red) = (cloud.admin().await?, cloud.tenant("red", "member").await?);
    let blue = cloud.tenant("blue", "member").await?;
    let scope = make(&red, json!({"name": "s", "ip_version": 4})).await?;
    assert_eq!(blue.get(&at(&scope)).await?.fault(), (404, "AddressScopeNotFound"));
    assert_eq!(blue.get(PATH).await?.ok(200)?["address_scopes"], json!([]));
    assert_eq!(blue.delete(&at(&scope)).await?.fault(), (404, "AddressScopeNotFound"));
    let share = |shared: bool| json!({"address_scope": {"shared": shared}});
    assert_eq!(red.put(&at(&scope), Some(&share(true))).await?.fault(), (403, "PolicyNotAuthorized"));

    let shared = admin.put(&at(&scope), Some(&share(true))).await?.ok(200)?;
    assert_eq!(shared["address_scope"]["shared"], true);
    assert_eq!(blue.get(&at(&scope)).await?.ok(200)?["address_scope"]["shared"], true);
    assert_eq!(ids(&blue.get(&format!("{PATH}?shared=true")).await?.ok(200)?["address_scopes"]), [id(&scope)]);
    assert_eq!(blue.delete(&at(&scope)).await?.fault(), (403, "PolicyNotAuthorized"));
    admin.put(&at(&scope), Some(&share(false))).await?.ok(200)?;
    assert_eq!(blue.get(&at(&scope)).await?.fault(), (404, "AddressScopeNotFound"));

    // A policy for one project.
    cloud
        .sql(&format!(
            "INSERT INTO rbac_policies (id, project_id, object_type, object_id, target_project, action) \
             VALUES (gen_random_uuid(), '{}', 'address_scope', '{}', '{}', 'access_as_shared')",
            red.project,
            id(&scope),
            blue.project
        ))
        .await?;
    assert_eq!(blue.get(&at(&scope)).await?.ok(200)?["address_scope"]["shared"], true);
    assert_eq!(red.get(&at(&scope)).await?.ok(200)?["address_scope"]["shared"], false, "its own is not shared with it");
    red.delete(&at(&scope)).await?.ok(204)?;
    assert_eq!(cloud.rows("SELECT id FROM rbac_policies").await?, Vec::<String>::new());
    Ok(())
}
