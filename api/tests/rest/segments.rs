//! Segments: how operators see in which form networks exist.

use crate::support::{Cloud, id, ids};
use serde_json::{Value, json};

#[tokio::test]
async fn each_network_has_one_segment_for_operators_to_see() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let (admin, red) = (cloud.admin().await?, cloud.tenant("red", "member").await?);
    let network = admin.make("network", json!({"provider:segmentation_id": 7777})).await?;
    let other = red.make("network", json!({})).await?;
    let path = format!("/v2.0/segments/{}", id(&network));
    let segment = admin.get(&path).await?.ok(200)?["segment"].clone();
    for (name, value) in [
        ("id", network["id"].clone()),
        ("network_id", network["id"].clone()),
        ("network_type", json!("geneve")),
        ("segmentation_id", json!(7777)),
        ("physical_network", Value::Null),
        ("name", Value::Null),
        ("description", json!("")),
    ] {
        assert_eq!(segment[name], value, "{name}");
    }
    for (query, found) in [
        (format!("network_id={}", id(&network)), vec![id(&network)]),
        ("segmentation_id=7777&network_type=geneve".into(), vec![id(&network)]),
        ("network_type=vlan".into(), vec![]),
        ("physical_network=x".into(), vec![]),
        (format!("id={}", id(&other)), vec![id(&other)]),
    ] {
        let list = admin.get(&format!("/v2.0/segments?{query}")).await?.ok(200)?;
        assert_eq!(ids(&list["segments"]), found, "{query}");
    }
    let list = admin.get("/v2.0/segments?sort_key=segmentation_id&sort_dir=asc&limit=5").await?.ok(200)?;
    let tags: Vec<i64> =
        list["segments"].as_array().into_iter().flatten().filter_map(|s| s["segmentation_id"].as_i64()).collect();
    assert!(tags.len() == 2 && tags.is_sorted(), "{tags:?}");
    for answer in [red.get("/v2.0/segments").await?, red.get(&format!("/v2.0/segments/{}", id(&other))).await?] {
        assert_eq!(answer.fault(), (403, "PolicyNotAuthorized"));
    }
    let body = json!({"segment": {"network_id": network["id"]}});
    assert_eq!(admin.post("/v2.0/segments", &body).await?.fault(), (405, "HTTPMethodNotAllowed"));
    assert_eq!(admin.delete(&path).await?.fault(), (405, "HTTPMethodNotAllowed"));
    admin.remove("network", &network).await?.ok(204)?;
    assert_eq!(admin.get(&path).await?.fault(), (404, "SegmentNotFound"));
    Ok(())
}
