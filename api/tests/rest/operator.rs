use crate::support::Cloud;
use anyhow::Context as _;
use mizar_wire::Scope;
use serde_json::{Value, json};

#[tokio::test]
async fn hosts_are_listed_shown_by_name_and_labelled() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let admin = cloud.admin().await?;
    cloud.host("h1", 1500, 1).await?;
    let h2 = cloud.host("h2", 1500, 2).await?;
    cloud.sql(&format!("DELETE FROM host_state WHERE host = {h2}")).await?;
    let (network, _) = admin.network("10.0.0.0/24").await?;
    admin.make("port", json!({"network_id": network["id"], "binding:host_id": "h1"})).await?;

    let h1 = admin.get("/v2.0/mizar/hosts/h1").await?.ok(200)?["host"].clone();
    assert_eq!((&h1["alive"], &h1["ports"], &h1["underlay"]), (&json!(true), &json!(1), &json!("192.0.2.1")));
    // The machine may be busy.
    assert!(h1["silent_s"].as_i64().is_some_and(|seconds| (0..30).contains(&seconds)), "{h1}");
    let h2 = admin.get("/v2.0/mizar/hosts?name=h2").await?.ok(200)?["hosts"][0].clone();
    assert_eq!((&h2["alive"], &h2["seen_at"]), (&json!(false), &Value::Null));
    cloud.sql("UPDATE host_state SET seen_at = now() - interval '31 s'").await?;
    assert_eq!(admin.get("/v2.0/mizar/hosts/h1").await?.ok(200)?["host"]["alive"], false);

    let labels = json!({"host": {"transit": "prefer", "weight": 8}});
    let labelled = admin.put("/v2.0/mizar/hosts/h1", Some(&labels)).await?.ok(200)?["host"].clone();
    assert_eq!((&labelled["transit"], &labelled["weight"]), (&json!("prefer"), &json!(8)));
    assert_eq!(
        (&labelled["az"], &labelled["rack"], &labelled["revision_number"]),
        (&json!("az1"), &json!("r1"), &json!(1))
    );
    let before = cloud.dump().await?;
    for body in [
        json!({"transit": "maybe"}),
        json!({"weight": 0}),
        json!({"weight": 1001}),
        json!({"allow_shrink_s": 86401}),
        json!({"shrink_until": null}),
        json!({"believe_gone_s": -1}),
        json!({"gone_until": null}),
        json!({"lost_since": null}),
        json!({"az": "az2"}),
        json!({"rack": "r7"}),
        json!({"mtu": 9000}),
        json!({"colour": "red"}),
    ] {
        let refused = admin.put("/v2.0/mizar/hosts/h1", Some(&json!({ "host": body }))).await?;
        assert_eq!(refused.fault(), (400, "HTTPBadRequest"), "{body}");
    }
    assert_eq!(cloud.dump().await?, before);
    assert_eq!(admin.get("/v2.0/mizar/hosts/h9").await?.fault(), (404, "HostNotFound"));
    Ok(())
}

#[tokio::test]
async fn an_operator_lets_a_host_shrink_for_a_while() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let admin = cloud.admin().await?;
    cloud.host("h1", 1500, 1).await?;
    let allow = |seconds: u32| {
        let (admin, body) = (admin.clone(), json!({"host": {"allow_shrink_s": seconds}}));
        async move { admin.put("/v2.0/mizar/hosts/h1", Some(&body)).await?.ok(200) }
    };
    assert!(allow(600).await?["host"]["shrink_until"].is_string());
    let left = "SELECT extract(epoch FROM shrink_until - now())::int BETWEEN 590 AND 600 FROM hosts";
    assert_eq!(cloud.rows(left).await?, ["true"]);
    assert_eq!(allow(0).await?["host"]["shrink_until"], Value::Null);
    Ok(())
}

#[tokio::test]
async fn an_operator_vouches_that_a_host_is_gone_for_a_while() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let admin = cloud.admin().await?;
    cloud.host("h1", 1500, 1).await?;
    let put = |seconds: u32| {
        let (admin, body) = (admin.clone(), json!({"host": {"believe_gone_s": seconds}}));
        async move { admin.put("/v2.0/mizar/hosts/h1", Some(&body)).await?.ok(200) }
    };
    let host = put(600).await?["host"].clone();
    assert!(host["gone_until"].is_string() && host["shrink_until"].is_null() && host["lost_since"].is_null(), "{host}");
    let left = "SELECT extract(epoch FROM gone_until - now())::int BETWEEN 590 AND 600 FROM hosts";
    assert_eq!(cloud.rows(left).await?, ["true"]);
    assert_eq!(put(0).await?["host"]["gone_until"], Value::Null);
    Ok(())
}

#[tokio::test]
async fn the_state_of_placement_has_a_reason_and_a_time() -> anyhow::Result<()> {
    use mizar_db::placement::condition::{State, write};
    use mizar_db::placement::leader::Candidate;
    let cloud = Cloud::start().await?;
    let admin = cloud.admin().await?;
    let (h1, h2) = (cloud.host("h1", 1500, 1).await?, cloud.host("h2", 1500, 2).await?);
    let state = || async { anyhow::Ok(admin.get("/v2.0/mizar/placement").await?.ok(200)?["placement"].clone()) };
    let unled = state().await?;
    assert_eq!((&unled["state"], &unled["since"]), (&json!("unled"), &Value::Null), "{unled}");
    let leader = Candidate::connect(cloud.db.url()).await?.try_lead().await?.ok().context("nobody leads")?;
    let normal = state().await?;
    assert_eq!((&normal["state"], &normal["reason"]), (&json!("normal"), &json!("")), "{normal}");
    assert!(normal["since"].is_string());

    let pool = cloud.db.pool(1, mizar_db::pool::Use::Commands)?;
    let hosts = [h1, h2];
    write(&pool, leader.fence, State::Frozen, hosts.into()).await?;
    let frozen = state().await?;
    assert_eq!((&frozen["state"], &frozen["hosts"]), (&json!("frozen"), &json!(["h1", "h2"])));
    assert!(frozen["reason"].as_str().is_some_and(|reason| reason.contains("2 hosts")), "{frozen}");
    // One returns: frozen since the same time.
    write(&pool, leader.fence, State::Frozen, hosts[..1].into()).await?;
    let still = state().await?;
    assert_eq!((&still["since"], &still["hosts"]), (&frozen["since"], &json!(["h1"])));
    assert!(write(&pool, leader.fence + 1, State::Normal, vec![]).await.is_err(), "another leader's fence");
    write(&pool, leader.fence, State::Nobody, vec![]).await?;
    assert_eq!(state().await?["state"], "nobody");
    assert_eq!(admin.get("/v2.0/mizar/placement?colour=red").await?.status, 400);
    drop(leader);
    Ok(())
}

#[tokio::test]
async fn a_host_that_is_behind_says_by_how_much_and_a_silent_one_only_that_it_is_silent() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let admin = cloud.admin().await?;
    let number = cloud.host("h1", 1500, 1).await?;
    cloud.host("h2", 1500, 2).await?;
    let lag = async |name: &str| {
        let host = admin.get(&format!("/v2.0/mizar/hosts/{name}")).await?.ok(200)?["host"].clone();
        anyhow::Ok((host["pending_entries"].clone(), host["oldest_pending_s"].clone()))
    };
    assert_eq!(lag("h1").await?, (Value::Null, Value::Null), "it was never heard of");
    let heard = "UPDATE host_state SET cursor = pg_current_snapshot()::text, seen_at = now()";
    let state =
        format!("INSERT INTO host_state (host, boot_id, seen_at) VALUES ({number}, 'b', now()) ON CONFLICT DO NOTHING");
    cloud.sql(&state).await?;
    cloud.sql(heard).await?;
    assert_eq!(lag("h1").await?, (json!(0), Value::Null));
    // Every host hears of a new host.
    cloud.host("h3", 1500, 3).await?;
    cloud.sql("UPDATE entries SET changed_at = now() - interval '90 s'").await?;
    let (entries, age) = lag("h1").await?;
    assert!(entries.as_i64() > Some(0) && age.as_i64() >= Some(90), "{entries} {age}");
    let listed = admin.get("/v2.0/mizar/hosts?name=h1").await?.ok(200)?["hosts"][0].clone();
    assert_eq!(listed["pending_entries"], entries);
    cloud.sql("UPDATE host_state SET seen_at = now() - interval '1 h'").await?;
    assert_eq!(lag("h1").await?, (Value::Null, Value::Null));
    Ok(())
}

#[tokio::test]
async fn roles_say_who_bounces_and_divides() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let admin = cloud.admin().await?;
    let (h1, h2) = (cloud.host("h1", 1500, 1).await?, cloud.host("h2", 1500, 2).await?);
    let (network, subnet) = admin.network("10.0.0.0/24").await?;
    let number: u32 = cloud.rows("SELECT number FROM subnets").await?[0].parse()?;
    let vni: u32 = cloud.rows("SELECT vni FROM networks").await?[0].parse()?;
    cloud
        .sql(&format!(
            "INSERT INTO subscriptions (host, scope, lo, hi, role, state) VALUES ({h1}, {}, 0, 2047, 2, 2); \
             INSERT INTO subscriptions (host, scope, role, state) VALUES ({h2}, {}, 3, 1)",
            Scope::Subnet(number).to_i64(),
            Scope::Dividers(vni).to_i64(),
        ))
        .await?;
    let all = admin.get("/v2.0/mizar/roles").await?.ok(200)?;
    assert_eq!(all["roles"].as_array().map(Vec::len), Some(2), "{all}");
    let bouncers =
        admin.get(&format!("/v2.0/mizar/roles?subnet_id={}", subnet["id"].as_str().unwrap_or(""))).await?.ok(200)?;
    let bouncer = &bouncers["roles"][0];
    assert_eq!(
        (&bouncer["host"], &bouncer["role"], &bouncer["state"]),
        (&json!("h1"), &json!("bouncer"), &json!("active"))
    );
    assert_eq!((&bouncer["first_slot"], &bouncer["last_slot"]), (&json!(0), &json!(2047)));
    assert_eq!(bouncer["network_id"], network["id"]);
    let dividers = admin.get("/v2.0/mizar/roles?role=divider&state=pending&host=h2").await?.ok(200)?;
    assert_eq!(dividers["roles"][0]["network_id"], network["id"]);
    assert_eq!(dividers["roles"][0]["first_slot"], Value::Null);
    let first = admin.get("/v2.0/mizar/roles?limit=1").await?.ok(200)?;
    assert_eq!(first["roles"], json!([all["roles"][0]]));
    for query in ["role=king", "state=gone", "subnet_id=x", "colour=red", "limit=0", "limit=all"] {
        assert_eq!(admin.get(&format!("/v2.0/mizar/roles?{query}")).await?.status, 400, "{query}");
    }
    let counts = admin.get("/v2.0/mizar/role-counts?host=h2&host=h1&host=nobody").await?.ok(200)?;
    let expected = json!([
        {"host": "h1", "role": "bouncer", "state": "active", "count": 1},
        {"host": "h2", "role": "divider", "state": "pending", "count": 1},
    ]);
    assert_eq!(counts["role_counts"], expected);
    let many = "host=h1&".repeat(101);
    for (query, named) in [("", "of which"), (many.trim_end_matches('&'), "at most 100"), ("hosts=h1", "hosts")] {
        let refused = admin.get(&format!("/v2.0/mizar/role-counts?{query}")).await?;
        assert_eq!(refused.status, 400, "{query}");
        assert!(refused.body["NeutronError"]["message"].as_str().is_some_and(|text| text.contains(named)), "{query}");
    }
    Ok(())
}

#[tokio::test]
async fn hosts_and_roles_are_for_administrators() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let red = cloud.tenant("red", "member").await?;
    cloud.host("h1", 1500, 1).await?;
    for path in [
        "/v2.0/mizar/hosts",
        "/v2.0/mizar/hosts/h1",
        "/v2.0/mizar/roles",
        "/v2.0/mizar/role-counts?host=h1",
        "/v2.0/mizar/placement",
        "/v2.0/mizar/hosts/h1/state",
        "/v2.0/mizar/hosts/h1/maps",
    ] {
        assert_eq!(red.get(path).await?.fault(), (403, "PolicyNotAuthorized"), "{path}");
    }
    let labels = json!({"host": {"transit": "no"}});
    assert_eq!(red.put("/v2.0/mizar/hosts/h1", Some(&labels)).await?.fault(), (404, "HostNotFound"));
    Ok(())
}
