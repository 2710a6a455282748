use crate::support::{Cloud, id};
use serde_json::json;

#[tokio::test]
async fn tags_are_replaced_added_checked_and_removed() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let red = cloud.tenant("red", "member").await?;
    let (network, subnet) = red.network("10.0.0.0/24").await?;
    let port = red.make("port", json!({"network_id": network["id"]})).await?;
    for (kind, object) in [("network", &network), ("subnet", &subnet), ("port", &port)] {
        let tags = format!("/v2.0/{kind}s/{}/tags", id(object));
        let replaced = red.put(&tags, Some(&json!({"tags": ["b", "a"]}))).await?.ok(200)?;
        assert_eq!(replaced, json!({"tags": ["a", "b"]}));
        red.put(&format!("{tags}/c"), None).await?.ok(201)?;
        red.put(&format!("{tags}/c"), None).await?.ok(201)?;
        assert_eq!(red.get(&tags).await?.ok(200)?, json!({"tags": ["a", "b", "c"]}));
        red.get(&format!("{tags}/a")).await?.ok(204)?;
        assert_eq!(red.get(&format!("{tags}/d")).await?.fault(), (404, "TagNotFound"));
        red.delete(&format!("{tags}/a")).await?.ok(204)?;
        assert_eq!(red.delete(&format!("{tags}/a")).await?.fault(), (404, "TagNotFound"));
        let before = red.show(kind, object).await?;
        red.put(&tags, Some(&json!({"tags": ["b", "c"]}))).await?.ok(200)?;
        assert_eq!(red.show(kind, object).await?, before, "the same tags are no change");
        red.post(&tags, &json!({"tags": ["z"]})).await?.ok(201)?;
        assert_eq!(red.show(kind, object).await?["tags"], json!(["b", "c", "z"]));
        red.delete(&tags).await?.ok(204)?;
        assert_eq!(red.show(kind, object).await?["tags"], json!([]));
    }
    Ok(())
}

#[tokio::test]
async fn impossible_tags_are_refused() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let red = cloud.tenant("red", "member").await?;
    let network = red.make("network", json!({})).await?;
    let tags = format!("/v2.0/networks/{}/tags", id(&network));
    let many: Vec<String> = (0..65).map(|n| n.to_string()).collect();
    for body in [
        json!({"tags": ["a", "a"]}),
        json!({"tags": ["a,b"]}),
        json!({"tags": [""]}),
        json!({"tags": [1]}),
        json!({"tags": "a"}),
        json!({"tags": many}),
        json!({"tags": [], "more": 1}),
        json!([]),
    ] {
        assert_eq!(red.put(&tags, Some(&body)).await?.fault(), (400, "HTTPBadRequest"), "{body}");
    }
    assert_eq!(red.put(&format!("{tags}/a%2Cb"), None).await?.fault(), (400, "HTTPBadRequest"));
    assert_eq!(red.show("network", &network).await?["tags"], json!([]));
    Ok(())
}
