use crate::support::{Client, Cloud, id, ids};
use serde_json::{Value, json};
use std::collections::BTreeSet;

async fn list(client: &Client, query: &str) -> anyhow::Result<Vec<String>> {
    let body = client.get(&format!("/v2.0/networks?{query}")).await?.ok(200)?;
    Ok(ids(&body["networks"]).into_iter().map(str::to_owned).collect())
}

fn names(list: &Value) -> Vec<&str> {
    list.as_array().into_iter().flatten().filter_map(|object| object["name"].as_str()).collect()
}

#[tokio::test]
async fn a_filter_given_twice_matches_either_and_two_filters_match_both() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let red = cloud.tenant("red", "member").await?;
    for (name, up) in [("a", true), ("b", true), ("b", false), ("c", true)] {
        red.make("network", json!({"name": name, "admin_state_up": up})).await?;
    }
    assert_eq!(list(&red, "name=a&name=c").await?.len(), 2);
    assert_eq!(list(&red, "name=b&admin_state_up=False").await?.len(), 1);
    assert_eq!(list(&red, "name=").await?.len(), 0);
    assert_eq!(list(&red, "id=not-an-id").await?.len(), 0);
    assert_eq!(list(&red, &format!("project_id={}", red.project)).await?.len(), 4);
    assert_eq!(list(&red, "status=ACTIVE&mtu=1398&shared=false&revision_number=0").await?.len(), 4);
    Ok(())
}

#[tokio::test]
async fn every_filter_and_sort_key_of_every_resource_works() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let admin = cloud.admin().await?;
    let (network, _) = admin.network("10.0.0.0/24").await?;
    admin.make("port", json!({"network_id": network["id"]})).await?;
    let document = serde_json::to_value(mizar_api::openapi::document())?;
    let mut tried = 0;
    for (path, item) in document["paths"].as_object().into_iter().flatten() {
        let parameters = item["get"]["parameters"].as_array().cloned().unwrap_or_default();
        if path.contains('{') || !parameters.iter().any(|parameter| parameter["name"] == "sort_key") {
            continue;
        }
        for parameter in &parameters {
            let name = parameter["name"].as_str().unwrap_or_default();
            let query: Vec<String> = match name {
                "sort_key" => {
                    let list = admin.get(path).await?.ok(200)?;
                    let first = list.as_object().and_then(|body| body.values().next()?[0]["id"].as_str());
                    let marker = first.map(|id| format!("&marker={id}")).unwrap_or_default();
                    let keys = parameter["schema"]["items"]["enum"].as_array().into_iter().flatten();
                    let keys = keys.filter_map(Value::as_str);
                    let sorted = |key: &str| {
                        [format!("sort_key={key}&sort_dir=desc"), format!("sort_key={key}&sort_dir=asc{marker}")]
                    };
                    keys.flat_map(sorted).collect()
                }
                "sort_dir" | "marker" => vec![],
                "limit" => vec!["limit=1".into()],
                "page_reverse" => vec!["page_reverse=true".into()],
                // Seconds, which no object shows.
                "behind_s" => vec!["behind_s=0".into()],
                "fixed_ips" => vec!["fixed_ips=ip_address_substr=0.0".into(), "fixed_ips=subnet_id=x".into()],
                name => match admin
                    .get(path)
                    .await?
                    .ok(200)?
                    .as_object()
                    .and_then(|body| body.values().next()?[0].get(name).cloned())
                {
                    Some(Value::String(text)) => vec![format!("{name}={text}")],
                    Some(value @ (Value::Bool(_) | Value::Number(_))) => vec![format!("{name}={value}")],
                    // Of any type, also of a flag that no object shows.
                    _ => vec![format!("{name}=true")],
                },
            };
            for query in query {
                let answer = admin.get(&format!("{path}?{query}")).await?;
                assert_eq!(answer.status, 200, "{path}?{query}: {}", answer.text);
                tried += 1;
            }
        }
    }
    assert!(tried > 80, "only {tried} queries were tried");
    Ok(())
}

#[tokio::test]
async fn what_no_list_understands_is_refused_by_name() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let red = cloud.tenant("red", "member").await?;
    let cases = [
        ("colour=red", "HTTPBadRequest", "['colour'] is invalid attribute for filtering"),
        ("mtu_=1&zz=2", "HTTPBadRequest", "['mtu_', 'zz'] is invalid attribute for filtering"),
        ("admin_state_up=perhaps", "InvalidInput", "'perhaps' cannot be converted to boolean"),
        ("sort_key=created_at&sort_dir=asc", "HTTPBadRequest", "['created_at'] is invalid attribute for sort_key"),
        ("sort_key=name&sort_dir=up", "HTTPBadRequest", "['up'] is invalid value for sort_dirs"),
        ("sort_key=name&sort_dir=asc&sort_dir=asc", "HTTPBadRequest", "number of sort_keys and sort_dirs must be same"),
        ("sort_key=name", "HTTPBadRequest", "number of sort_keys and sort_dirs must be same"),
        ("sort_dir=asc", "HTTPBadRequest", "number of sort_keys and sort_dirs must be same"),
        ("sort_key=name&sort_dir=", "HTTPBadRequest", "number of sort_keys and sort_dirs must be same"),
        ("limit=-1", "BadRequest", "Limit must be an integer 0 or greater and not '-1'"),
        ("limit=ten", "BadRequest", "Limit must be an integer 0 or greater and not 'ten'"),
        ("name=%00", "BadRequest", "NUL"),
    ];
    for (query, kind, message) in cases {
        let answer = red.get(&format!("/v2.0/networks?{query}")).await?;
        assert_eq!(answer.fault(), (400, kind), "{query}");
        assert!(answer.message().contains(message), "{query}: {}", answer.message());
    }
    let unknown = uuid::Uuid::new_v4();
    assert_eq!(red.get(&format!("/v2.0/networks?marker={unknown}")).await?.fault(), (404, "NetworkNotFound"));
    Ok(())
}

#[tokio::test]
async fn fields_select_attributes_in_lists_and_shows() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let red = cloud.tenant("red", "member").await?;
    let network = red.make("network", json!({"name": "n"})).await?;
    let body = red.get("/v2.0/networks?fields=name&fields=mtu&fields=provider:segmentation_id").await?.ok(200)?;
    assert_eq!(body, json!({"networks": [{"name": "n", "mtu": 1398}]}));
    let body = red.get(&format!("/v2.0/networks/{}?fields=name", id(&network))).await?.ok(200)?;
    assert_eq!(body, json!({"network": {"name": "n"}}));
    Ok(())
}

/// Follows `rel` links from page to page.
async fn walk(client: &Client, first: &str, rel: &str) -> anyhow::Result<Vec<Vec<String>>> {
    let (mut pages, mut next) = (Vec::new(), Some(first.to_owned()));
    while let Some(path) = next.take() {
        let body = client.get(&path).await?.ok(200)?;
        pages.push(ids(&body["networks"]).into_iter().map(str::to_owned).collect());
        let links = body["networks_links"].as_array().cloned().unwrap_or_default();
        let link = links.iter().find(|link| link["rel"] == rel).and_then(|link| link["href"].as_str());
        next = link.map(|href| href.strip_prefix(client.base.as_str()).unwrap_or(href).to_owned());
        anyhow::ensure!(pages.len() < 100, "the links never end");
    }
    Ok(pages)
}

#[tokio::test]
async fn pages_cover_a_sorted_list_exactly_forwards_and_backwards() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let red = cloud.tenant("red", "member").await?;
    // Names repeat, so that the order within one depends on the id.
    let bodies: Vec<Value> = (0..23).map(|n| json!({"name": format!("n{}", n % 4), "mtu": 1000 + n % 3})).collect();
    red.post("/v2.0/networks", &json!({"networks": bodies})).await?.ok(201)?;
    for sort in [
        "",
        "&sort_key=name&sort_dir=asc",
        "&sort_key=name&sort_dir=desc&sort_key=mtu&sort_dir=asc",
        "&sort_key=mtu&sort_dir=desc&sort_key=name&sort_dir=desc&sort_key=id&sort_dir=desc",
    ] {
        let whole = list(&red, sort.trim_start_matches('&')).await?;
        assert_eq!(whole.iter().collect::<BTreeSet<_>>().len(), 23);
        let pages = walk(&red, &format!("/v2.0/networks?limit=5{sort}"), "next").await?;
        assert_eq!(pages.concat(), whole, "{sort}");
        assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), [5, 5, 5, 5, 3]);
        let last = &whole[22];
        let back =
            walk(&red, &format!("/v2.0/networks?limit=5{sort}&marker={last}&page_reverse=True"), "previous").await?;
        let backwards: Vec<String> = back.into_iter().rev().flatten().collect();
        assert_eq!(backwards, whole[..22], "{sort}");
    }
    let all = red.get("/v2.0/networks?limit=0").await?.ok(200)?;
    assert_eq!(ids(&all["networks"]).len(), 23);
    assert_eq!(all["networks_links"], Value::Null);
    Ok(())
}

#[tokio::test]
async fn tags_filter_by_all_any_and_their_absence() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let red = cloud.tenant("red", "member").await?;
    for (name, tags) in [("none", vec![]), ("a", vec!["a"]), ("b", vec!["b"]), ("ab", vec!["a", "b"])] {
        red.make("network", json!({"name": name, "tags": tags})).await?;
    }
    for (query, expected) in [
        ("tags=a", vec!["a", "ab"]),
        ("tags=a,b", vec!["ab"]),
        ("tags-any=a,b", vec!["a", "ab", "b"]),
        ("not-tags=a,b", vec!["a", "b", "none"]),
        ("not-tags-any=a,b", vec!["none"]),
        ("tags=b&not-tags=a", vec!["b"]),
    ] {
        let body = red.get(&format!("/v2.0/networks?sort_key=name&sort_dir=asc&{query}")).await?.ok(200)?;
        assert_eq!(names(&body["networks"]), expected, "{query}");
    }
    Ok(())
}

#[tokio::test]
async fn ports_are_found_by_subnet_address_and_part_of_an_address() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let red = cloud.tenant("red", "member").await?;
    let (network, one) = red.network("10.0.0.0/24").await?;
    let two = json!({"network_id": network["id"], "cidr": "10.0.77.0/24", "ip_version": 4});
    let two = red.make("subnet", two).await?;
    for (name, fixed) in [
        ("a", json!([{"ip_address": "10.0.0.7"}])),
        ("b", json!([{"ip_address": "10.0.77.8"}])),
        ("c", json!([{"ip_address": "10.0.0.77"}, {"ip_address": "10.0.77.9"}])),
    ] {
        red.make("port", json!({"network_id": network["id"], "name": name, "fixed_ips": fixed})).await?;
    }
    for (query, expected) in [
        (format!("fixed_ips=subnet_id={}", id(&one)), vec!["a", "c"]),
        (format!("fixed_ips=subnet_id={}", id(&two)), vec!["b", "c"]),
        ("fixed_ips=ip_address=10.0.0.7".into(), vec!["a"]),
        ("fixed_ips=ip_address=10.0.0.7&fixed_ips=ip_address=10.0.77.8".into(), vec!["a", "b"]),
        ("fixed_ips=ip_address_substr=.77.".into(), vec!["b", "c"]),
        ("fixed_ips=ip_address_substr=0.7".into(), vec!["a", "b", "c"]),
        ("fixed_ips=ip_address_substr=%25".into(), vec![]),
        ("fixed_ips=ip_address_substr=1_.0".into(), vec![]),
        ("fixed_ips=ip_address=nonsense".into(), vec![]),
    ] {
        let body = red.get(&format!("/v2.0/ports?sort_key=name&sort_dir=asc&{query}")).await?.ok(200)?;
        assert_eq!(names(&body["ports"]), expected, "{query}");
    }
    let answer = red.get("/v2.0/ports?fixed_ips=10.0.0.7").await?;
    assert_eq!(answer.fault(), (400, "InvalidInput"));
    Ok(())
}

/// Queries are built one level deeper for some parameters: their number must not be the caller's
/// choice.
#[tokio::test]
async fn a_query_is_not_as_deep_as_its_caller_likes() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let red = cloud.tenant("red", "reader").await?;
    let repeated = |parameter: &str, times: usize| vec![parameter; times].join("&");
    for (query, kind) in [
        ("sort_key=name&sort_key=name&sort_dir=asc&sort_dir=asc".to_owned(), "HTTPBadRequest"),
        (repeated("sort_key=id&sort_dir=asc", 2500), "HTTPBadRequest"),
        (repeated("name=a", 501), "HTTPBadRequest"),
        (repeated("fixed_ips=ip_address_substr=1", 21), "InvalidInput"),
    ] {
        let answer = red.get(&format!("/v2.0/ports?{query}")).await?;
        assert_eq!(answer.fault(), (400, kind), "{}", &query[..30.min(query.len())]);
    }
    red.get(&format!("/v2.0/ports?{}", repeated("name=a", 500))).await?.ok(200)?;
    red.get(&format!("/v2.0/ports?{}", repeated("fixed_ips=ip_address_substr=1", 20))).await?.ok(200)?;
    Ok(())
}
