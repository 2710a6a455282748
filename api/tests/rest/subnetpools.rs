use crate::support::{Answer, Client, Cloud, id, ids};
use futures::future::try_join_all;
use serde_json::{Value, json};
use std::collections::BTreeSet;

const PATH: &str = "/v2.0/subnetpools";

async fn ask(client: &Client, prefixes: Value, more: Value) -> anyhow::Result<Answer> {
    let mut attributes = json!({"name": "p", "prefixes": prefixes});
    attributes.as_object_mut().expect("made as one").extend(more.as_object().cloned().unwrap_or_default());
    client.post(PATH, &json!({"subnetpool": attributes})).await
}

async fn pool(client: &Client, prefixes: Value, more: Value) -> anyhow::Result<Value> {
    Ok(ask(client, prefixes, more).await?.ok(201)?["subnetpool"].clone())
}

async fn scope(client: &Client, version: u8) -> anyhow::Result<Value> {
    let body = json!({"address_scope": {"name": "s", "ip_version": version}});
    Ok(client.post("/v2.0/address-scopes", &body).await?.ok(201)?["address_scope"].clone())
}

async fn subnet_of(client: &Client, pool: &Value, more: Value) -> anyhow::Result<Answer> {
    let network = client.make("network", json!({})).await?;
    let mut attributes = json!({"network_id": network["id"], "ip_version": 4, "subnetpool_id": pool["id"]});
    attributes.as_object_mut().expect("made as one").extend(more.as_object().cloned().unwrap_or_default());
    client.post("/v2.0/subnets", &json!({"subnet": attributes})).await
}

fn cidr(answer: Answer) -> anyhow::Result<String> {
    Ok(answer.ok(201)?["subnet"]["cidr"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn a_subnet_pool_is_made_listed_changed_and_deleted() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let red = cloud.tenant("red", "member").await?;
    let made = pool(&red, json!(["10.1.0.0/16", "10.0.0.0/16", "10.0.4.0/24"]), json!({"tags": ["t"]})).await?;
    let expected = json!({"id": made["id"], "name": "p", "description": "", "project_id": red.project,
        "tenant_id": red.project, "prefixes": ["10.0.0.0/15"], "ip_version": 4, "min_prefixlen": 8,
        "max_prefixlen": 32, "default_prefixlen": 8, "default_quota": null, "address_scope_id": null,
        "is_default": false, "shared": false, "revision_number": 0, "created_at": made["created_at"],
        "updated_at": made["updated_at"], "tags": ["t"]});
    assert_eq!(made, expected);
    let more = json!({"name": "six", "min_prefixlen": "48", "default_prefixlen": 64, "default_quota": 7});
    let six = pool(&red, json!(["fd00::/32"]), more).await?;
    assert_eq!(
        (&six["ip_version"], &six["max_prefixlen"], &six["min_prefixlen"]),
        (&json!(6), &json!(128), &json!(48))
    );

    for (query, found) in [
        ("name=six", &six),
        ("ip_version=4", &made),
        ("default_prefixlen=64", &six),
        ("default_quota=7", &six),
        ("tags=t", &made),
        ("sort_key=ip_version&sort_dir=desc&limit=1", &six),
        ("is_default=true", &json!(null)),
        ("shared=true", &json!(null)),
    ] {
        let list = red.get(&format!("{PATH}?{query}")).await?.ok(200)?;
        let expected: Vec<&str> = found["id"].as_str().into_iter().collect();
        assert_eq!(ids(&list["subnetpools"]), expected, "{query}");
    }

    let change = json!({"name": "q", "description": "d", "default_quota": 9, "min_prefixlen": 16, "default_prefixlen": 24,
        "prefixes": ["10.0.0.0/14"]});
    let changed = red.update("subnetpool", &made, change).await?.ok(200)?["subnetpool"].clone();
    let now = json!([changed["name"], changed["default_quota"], changed["default_prefixlen"], changed["prefixes"]]);
    assert_eq!((now, &changed["revision_number"]), (json!(["q", 9, 24, ["10.0.0.0/14"]]), &json!(1)));
    let cleared = red.update("subnetpool", &made, json!({"default_quota": null})).await?.ok(200)?;
    assert_eq!(cleared["subnetpool"]["default_quota"], Value::Null);
    red.remove("subnetpool", &made).await?.ok(204)?;
    assert_eq!(red.get(&format!("{PATH}/{}", id(&made))).await?.fault(), (404, "SubnetPoolNotFound"));
    Ok(())
}

#[tokio::test]
async fn impossible_subnet_pools_are_refused() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let red = cloud.tenant("red", "member").await?;
    let ten = || json!(["10.0.0.0/8"]);
    let before = cloud.dump().await?;
    for (prefixes, more, kind) in [
        (json!([]), json!({}), "EmptySubnetPoolPrefixList"),
        (json!(["10.0.0.0/8", "fd00::/8"]), json!({}), "PrefixVersionMismatch"),
        (json!(["10.0.0.1/8"]), json!({}), "HTTPBadRequest"),
        (json!(["fd00::1/8"]), json!({}), "HTTPBadRequest"),
        (json!(["127.0.0.0/8"]), json!({}), "HTTPBadRequest"),
        (json!(["::/0"]), json!({}), "HTTPBadRequest"),
        (json!("10.0.0.0/8"), json!({}), "HTTPBadRequest"),
        (ten(), json!({"name": " "}), "HTTPBadRequest"),
        (ten(), json!({"min_prefixlen": 33}), "IllegalSubnetPoolPrefixBounds"),
        (ten(), json!({"min_prefixlen": 24, "max_prefixlen": 16}), "IllegalSubnetPoolPrefixBounds"),
        (ten(), json!({"default_prefixlen": 4}), "IllegalSubnetPoolPrefixBounds"),
        (ten(), json!({"max_prefixlen": 33}), "IllegalSubnetPoolPrefixBounds"),
        (ten(), json!({"min_prefixlen": -1}), "HTTPBadRequest"),
        (ten(), json!({"default_quota": -1}), "HTTPBadRequest"),
        (ten(), json!({"ip_version": 4}), "HTTPBadRequest"),
    ] {
        let answer = ask(&red, prefixes.clone(), more.clone()).await?;
        assert_eq!(answer.fault(), (400, kind), "{prefixes} {more}");
    }
    for (more, status) in [(json!({"is_default": true}), 403), (json!({"shared": true}), 403)] {
        assert_eq!(ask(&red, ten(), more).await?.status, status);
    }
    let unknown = ask(&red, ten(), json!({"address_scope_id": uuid::Uuid::nil()})).await?;
    assert_eq!(unknown.fault(), (404, "AddressScopeNotFound"));
    assert_eq!(cloud.dump().await?, before);

    let made = pool(&red, json!(["10.0.0.0/16"]), json!({})).await?;
    let before = cloud.dump().await?;
    for (change, kind) in [
        (json!({"prefixes": ["10.0.0.0/17"]}), "IllegalSubnetPoolPrefixUpdate"),
        (json!({"prefixes": ["fd00::/8"]}), "PrefixVersionMismatch"),
        (json!({"min_prefixlen": 9}), "IllegalSubnetPoolPrefixBounds"),
        (json!({"shared": true}), "HTTPBadRequest"),
    ] {
        assert_eq!(red.update("subnetpool", &made, change.clone()).await?.fault(), (400, kind), "{change}");
    }
    assert_eq!(cloud.dump().await?, before);
    Ok(())
}

#[tokio::test]
async fn prefixes_are_added_and_those_without_subnets_removed() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let (red, blue) = (cloud.tenant("red", "member").await?, cloud.tenant("blue", "member").await?);
    let made = pool(&red, json!(["10.0.0.0/16"]), json!({"default_prefixlen": 24})).await?;
    let path = |action: &str| format!("{PATH}/{}/{action}", id(&made));
    let body = |prefixes: Value| json!({ "prefixes": prefixes });
    let added = red.put(&path("add_prefixes"), Some(&body(json!(["10.1.0.0/16", "10.9.0.0/24"])))).await?.ok(200)?;
    assert_eq!(added, body(json!(["10.0.0.0/15", "10.9.0.0/24"])));
    assert_eq!(red.show("subnetpool", &made).await?["revision_number"], 1);
    assert_eq!(cidr(subnet_of(&red, &made, json!({})).await?)?, "10.9.0.0/24");
    for (prefixes, kind) in [
        (json!(["10.9.0.0/25"]), "IllegalSubnetPoolPrefixUpdate"),
        (json!(["0.0.0.0/0"]), "HTTPBadRequest"),
        (json!([]), "HTTPBadRequest"),
        (json!(["fd00::/8"]), "PrefixVersionMismatch"),
    ] {
        let refused = red.put(&path("remove_prefixes"), Some(&body(prefixes.clone()))).await?;
        assert_eq!(refused.fault(), (400, kind), "{prefixes}");
    }
    let removed =
        red.put(&path("remove_prefixes"), Some(&body(json!(["10.1.0.0/16", "10.0.0.0/17"])))).await?.ok(200)?;
    assert_eq!(removed, body(json!(["10.0.128.0/17", "10.9.0.0/24"])));
    let foreign = blue.put(&path("add_prefixes"), Some(&body(json!(["10.5.0.0/16"])))).await?;
    assert_eq!(foreign.fault(), (404, "SubnetPoolNotFound"));

    let small = pool(&red, json!(["10.0.0.0/16"]), json!({})).await?;
    let all = red.put(&format!("{PATH}/{}/remove_prefixes", id(&small)), Some(&body(json!(["10.0.0.0/8"])))).await?;
    assert_eq!(all.fault(), (400, "EmptySubnetPoolPrefixList"));
    Ok(())
}

#[tokio::test]
async fn a_subnet_gets_a_range_of_its_pool_which_then_stays() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let red = cloud.tenant("red", "member").await?;
    let lengths = json!({"default_prefixlen": 24, "min_prefixlen": 20, "max_prefixlen": 28});
    let made = pool(&red, json!(["10.0.0.0/16"]), lengths).await?;
    assert_eq!(cidr(subnet_of(&red, &made, json!({})).await?)?, "10.0.0.0/24");
    assert_eq!(cidr(subnet_of(&red, &made, json!({"prefixlen": 26})).await?)?, "10.0.1.0/26");
    let named = subnet_of(&red, &made, json!({"cidr": "10.0.7.0/24"})).await?.ok(201)?["subnet"].clone();
    assert_eq!((&named["cidr"], &named["subnetpool_id"]), (&json!("10.0.7.0/24"), &made["id"]));
    assert_eq!((&named["gateway_ip"], &named["shared"]), (&json!("10.0.7.1"), &json!(false)));
    let list = red.get(&format!("/v2.0/subnets?subnetpool_id={}&cidr=10.0.7.0/24", id(&made))).await?.ok(200)?;
    assert_eq!(ids(&list["subnets"]), [id(&named)]);

    for (more, fault) in [
        (json!({"cidr": "10.0.7.128/25"}), (409, "SubnetAllocationError")),
        (json!({"cidr": "10.1.0.0/24"}), (409, "SubnetAllocationError")),
        (json!({"prefixlen": 19}), (400, "MinPrefixSubnetAllocationError")),
        (json!({"prefixlen": 29}), (400, "MaxPrefixSubnetAllocationError")),
        (json!({"prefixlen": 24, "cidr": "10.0.8.0/24"}), (400, "BadRequest")),
        (json!({"prefixlen": 129}), (400, "HTTPBadRequest")),
        (json!({"use_default_subnetpool": true}), (400, "BadRequest")),
        (json!({"subnetpool_id": uuid::Uuid::nil()}), (404, "SubnetPoolNotFound")),
        (json!({"subnetpool_id": null}), (400, "BadRequest")),
        (json!({"allocation_pools": [{"start": "10.0.2.5", "end": "10.0.2.9"}]}), (400, "BadRequest")),
    ] {
        assert_eq!(subnet_of(&red, &made, more.clone()).await?.fault(), fault, "{more}");
    }
    let used = red.remove("subnetpool", &made).await?;
    assert_eq!(used.fault(), (400, "SubnetPoolDeleteError"));

    let network = red.make("network", json!({})).await?;
    let two: Vec<Value> =
        vec![json!({"network_id": network["id"], "ip_version": 4, "subnetpool_id": made["id"], "prefixlen": 25}); 2];
    let both = red.post("/v2.0/subnets", &json!({ "subnets": two })).await?.ok(201)?;
    assert_eq!(
        (&both["subnets"][0]["cidr"], &both["subnets"][1]["cidr"]),
        (&json!("10.0.1.128/25"), &json!("10.0.6.0/25"))
    );
    let other = json!({"subnet": {"network_id": network["id"], "ip_version": 4, "cidr": "10.77.0.0/24"}});
    assert_eq!(red.post("/v2.0/subnets", &other).await?.fault(), (400, "NetworkSubnetPoolAffinityError"));
    cloud.assert_entries_are_right().await
}

#[tokio::test]
async fn a_full_pool_gives_nothing_and_takes_back_what_is_deleted() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let red = cloud.tenant("red", "member").await?;
    let made = pool(&red, json!(["10.0.0.0/24"]), json!({"default_prefixlen": 25})).await?;
    let first = subnet_of(&red, &made, json!({})).await?.ok(201)?["subnet"].clone();
    subnet_of(&red, &made, json!({})).await?.ok(201)?;
    let full = subnet_of(&red, &made, json!({})).await?;
    assert_eq!(full.fault(), (409, "SubnetAllocationError"));
    assert_eq!(full.message(), "Failed to allocate subnet: Insufficient prefix space to allocate subnet size /25.");
    red.remove("subnet", &first).await?.ok(204)?;
    assert_eq!(cidr(subnet_of(&red, &made, json!({})).await?)?, "10.0.0.0/25");
    Ok(())
}

#[tokio::test]
async fn each_project_has_its_own_quota_of_a_shared_pool() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let (admin, red) = (cloud.admin().await?, cloud.tenant("red", "member").await?);
    let blue = cloud.tenant("blue", "member").await?;
    let more = json!({"default_prefixlen": 24, "default_quota": 512, "shared": true, "is_default": true});
    let made = pool(&admin, json!(["10.0.0.0/16"]), more).await?;
    assert_eq!(red.show("subnetpool", &made).await?["shared"], true);
    subnet_of(&red, &made, json!({})).await?.ok(201)?;
    assert_eq!(subnet_of(&red, &made, json!({"prefixlen": 23})).await?.fault(), (409, "SubnetPoolQuotaExceeded"));
    let default = json!({"subnetpool_id": null, "use_default_subnetpool": true});
    assert_eq!(cidr(subnet_of(&red, &made, default.clone()).await?)?, "10.0.1.0/24");
    assert_eq!(subnet_of(&red, &made, json!({})).await?.fault(), (409, "SubnetPoolQuotaExceeded"));
    subnet_of(&blue, &made, default).await?.ok(201)?;
    assert_eq!(red.update("subnetpool", &made, json!({"name": "mine"})).await?.fault(), (403, "PolicyNotAuthorized"));
    assert_eq!(red.remove("subnetpool", &made).await?.fault(), (403, "PolicyNotAuthorized"));

    let second = ask(&admin, json!(["10.5.0.0/16"]), json!({"is_default": true})).await?;
    assert_eq!(second.fault(), (400, "InvalidInput"));
    pool(&admin, json!(["fd00::/16"]), json!({"is_default": true})).await?;
    Ok(())
}

#[tokio::test]
async fn a_pool_is_seen_and_used_by_its_project_and_by_whom_it_is_shared_with() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let (red, blue) = (cloud.tenant("red", "member").await?, cloud.tenant("blue", "member").await?);
    let reader = cloud.colleague(&red, "eve", "reader").await?;
    let made = pool(&red, json!(["10.0.0.0/16"]), json!({"default_prefixlen": 24})).await?;
    assert_eq!(reader.show("subnetpool", &made).await?["id"], made["id"]);
    assert_eq!(ask(&reader, json!(["10.0.0.0/16"]), json!({})).await?.status, 403);
    assert_eq!(blue.get(&format!("{PATH}/{}", id(&made))).await?.fault(), (404, "SubnetPoolNotFound"));
    assert_eq!(blue.get(PATH).await?.ok(200)?["subnetpools"], json!([]));
    assert_eq!(subnet_of(&blue, &made, json!({})).await?.fault(), (404, "SubnetPoolNotFound"));

    let policy = red.share("subnetpool", &made, &blue.project).await?;
    let subnet = subnet_of(&blue, &made, json!({})).await?.ok(201)?["subnet"].clone();
    let policies = format!("/v2.0/rbac-policies/{}", id(&policy));
    assert_eq!(red.delete(&policies).await?.fault(), (409, "RbacPolicyInUse"));
    blue.remove("subnet", &subnet).await?.ok(204)?;
    red.delete(&policies).await?.ok(204)?;
    assert_eq!(subnet_of(&blue, &made, json!({})).await?.fault(), (404, "SubnetPoolNotFound"));
    Ok(())
}

#[tokio::test]
async fn pools_of_one_address_scope_do_not_overlap() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let red = cloud.tenant("red", "member").await?;
    let (inside, six) = (scope(&red, 4).await?, scope(&red, 6).await?);
    let in_scope = || json!({"address_scope_id": inside["id"], "default_prefixlen": 24});
    let made = pool(&red, json!(["10.0.0.0/16"]), in_scope()).await?;
    let overlap = ask(&red, json!(["10.0.4.0/24"]), in_scope()).await?;
    assert_eq!(overlap.fault(), (409, "AddressScopePrefixConflict"));
    let body = |prefix: &str| json!({"name": "b", "prefixes": [prefix], "address_scope_id": inside["id"]});
    let bulk = red.post(PATH, &json!({"subnetpools": [body("10.8.0.0/16"), body("10.8.4.0/24")]})).await?;
    assert_eq!(bulk.fault(), (409, "AddressScopePrefixConflict"));
    let family = ask(&red, json!(["10.3.0.0/16"]), json!({"address_scope_id": six["id"]})).await?;
    assert_eq!(family.fault(), (400, "IllegalSubnetPoolIpVersionAssociationToAddressScope"));

    let other = pool(&red, json!(["10.0.0.0/24"]), json!({})).await?;
    let moved = red.update("subnetpool", &other, json!({"address_scope_id": inside["id"]})).await?;
    assert_eq!(moved.fault(), (409, "AddressScopePrefixConflict"));
    let next = pool(&red, json!(["10.1.0.0/24"]), in_scope()).await?;
    let grown = red.update("subnetpool", &next, json!({"prefixes": ["10.1.0.0/24", "10.0.9.0/24"]})).await?;
    assert_eq!(grown.fault(), (409, "AddressScopePrefixConflict"));
    let add = json!({"prefixes": ["10.0.9.0/24"]});
    let added = red.put(&format!("{PATH}/{}/add_prefixes", id(&next)), Some(&add)).await?;
    assert_eq!(added.fault(), (409, "AddressScopePrefixConflict"));

    let subnet = subnet_of(&red, &made, json!({})).await?.ok(201)?["subnet"].clone();
    let network = red.get(&format!("/v2.0/networks/{}", subnet["network_id"].as_str().unwrap_or_default())).await?;
    let network = network.ok(200)?["network"].clone();
    assert_eq!((&network["ipv4_address_scope"], &network["ipv6_address_scope"]), (&inside["id"], &Value::Null));
    let used = red.delete(&format!("/v2.0/address-scopes/{}", id(&inside))).await?;
    assert_eq!(used.fault(), (409, "AddressScopeInUse"));
    let out = red.update("subnetpool", &made, json!({"address_scope_id": null})).await?.ok(200)?;
    assert_eq!(out["subnetpool"]["address_scope_id"], Value::Null);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_range_is_given_twice_and_no_quota_passed_when_many_want_one() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let admin = cloud.admin().await?;
    let (red, blue) = (cloud.tenant("red", "member").await?, cloud.tenant("blue", "member").await?);
    // 8 ranges, 5 of them for each project: together they want 16.
    let more = json!({"default_prefixlen": 27, "default_quota": 160, "shared": true});
    let made = pool(&admin, json!(["10.0.0.0/24"]), more).await?;
    let wants = (0..16).map(|n| {
        let (client, made) = (if n % 2 == 0 { &red } else { &blue }, &made);
        async move { subnet_of(client, made, json!({})).await }
    });
    let answers = try_join_all(wants).await?;
    let given: Vec<&Answer> = answers.iter().filter(|answer| answer.status == 201).collect();
    let ranges: BTreeSet<&str> = given.iter().filter_map(|answer| answer.body["subnet"]["cidr"].as_str()).collect();
    assert_eq!((given.len(), ranges.len()), (8, 8));
    for refused in answers.iter().filter(|answer| answer.status != 201) {
        assert!(
            matches!(refused.fault(), (409, "SubnetPoolQuotaExceeded" | "SubnetAllocationError")),
            "{}",
            refused.text
        );
    }
    for client in [&red, &blue] {
        let own = given.iter().filter(|answer| answer.body["subnet"]["project_id"] == client.project.as_str());
        assert!(own.count() <= 5);
    }
    cloud.assert_entries_are_right().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_overlapping_pools_that_want_into_one_scope_at_once_one_gets_in() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let red = cloud.tenant("red", "member").await?;
    let inside = scope(&red, 4).await?;
    let wants = (0..8).map(|_| ask(&red, json!(["10.0.0.0/16"]), json!({"address_scope_id": inside["id"]})));
    let answers = try_join_all(wants).await?;
    let mut faults: Vec<(u16, &str)> = answers.iter().map(Answer::fault).collect();
    faults.sort_unstable();
    assert_eq!(faults[0].0, 201);
    assert!(faults[1..].iter().all(|fault| *fault == (409, "AddressScopePrefixConflict")), "{faults:?}");
    Ok(())
}
