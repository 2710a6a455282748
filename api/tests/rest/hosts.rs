//! Hosts as operators look at them: which need a look, what of their desired state is in force, how full their maps are.

use crate::seeing::Asking;
use crate::support::{Client, Cloud, id};
use mizar_wire::Scope;
use mizar_wire::ask::{Answer, Fill, Question};
use serde_json::{Value, json};

/// The names of hosts in the order of a list.
async fn listed(admin: &Client, query: &str) -> anyhow::Result<Vec<String>> {
    let body = admin.get(&format!("/v2.0/mizar/hosts?{query}")).await?.ok(200)?;
    let hosts = body["hosts"].as_array().into_iter().flatten();
    Ok(hosts.filter_map(|host| host["name"].as_str()).map(str::to_owned).collect())
}

/// The same, a page of one after the other.
async fn walked(admin: &Client, query: &str) -> anyhow::Result<Vec<String>> {
    let (mut names, mut marker) = (Vec::new(), String::new());
    loop {
        let body = admin.get(&format!("/v2.0/mizar/hosts?{query}&limit=1{marker}")).await?.ok(200)?;
        let Some(host) = body["hosts"].get(0) else { return Ok(names) };
        anyhow::ensure!(names.len() < 100, "without an end: {names:?}");
        names.push(host["name"].as_str().unwrap_or_default().to_owned());
        marker = format!("&marker={}", id(host));
    }
}

/// Four hosts: `late` was heard of an hour ago, `old` a day ago, `new` and `now` at this moment, and for some minutes to come,
/// so that no test is too slow for them.
async fn four(cloud: &Cloud) -> anyhow::Result<()> {
    for (name, last) in [("new", 1), ("late", 2), ("old", 3), ("now", 4)] {
        cloud.host(name, 1500, last).await?;
    }
    let heard = |name: &str, ago: &str| {
        format!(
            "INSERT INTO host_state (host, boot_id, seen_at) SELECT number, 'b', now() - interval '{ago}' FROM hosts \
             WHERE name = '{name}' ON CONFLICT (host) DO UPDATE SET seen_at = excluded.seen_at; "
        )
    };
    let all =
        [("new", "-10 min"), ("late", "1 h"), ("old", "1 d"), ("now", "-11 min")].map(|(name, ago)| heard(name, ago));
    cloud.sql(&all.concat()).await
}

#[tokio::test]
async fn hosts_are_narrowed_to_those_that_live_or_do_not() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let admin = cloud.admin().await?;
    four(&cloud).await?;
    assert_eq!(listed(&admin, "alive=false&sort_key=name&sort_dir=asc").await?, ["late", "old"]);
    assert_eq!(listed(&admin, "alive=true&sort_key=name&sort_dir=asc").await?, ["new", "now"]);
    assert_eq!(listed(&admin, "alive=true&alive=false").await?.len(), 4);
    assert_eq!(admin.get("/v2.0/mizar/hosts?alive=perhaps").await?.status, 400);
    Ok(())
}

#[tokio::test]
async fn hosts_are_sorted_by_when_they_were_heard_of_and_those_that_live_keep_their_places() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let admin = cloud.admin().await?;
    four(&cloud).await?;
    cloud.host("never", 1500, 9).await?;
    cloud.sql("DELETE FROM host_state s USING hosts h WHERE h.number = s.host AND h.name = 'never'").await?;
    assert_eq!(listed(&admin, "sort_key=seen_at&sort_dir=asc").await?[..3], ["never", "old", "late"]);
    assert_eq!(listed(&admin, "sort_key=seen_at&sort_dir=desc").await?[2..], ["late", "old", "never"]);
    for dir in ["asc", "desc"] {
        let query = format!("sort_key=seen_at&sort_dir={dir}");
        let before = listed(&admin, &query).await?;
        // The first of them is heard of again.
        let first = before.iter().find(|name| ["new", "now"].contains(&name.as_str())).expect("one of them");
        let heard = format!(
            "UPDATE host_state s SET seen_at = seen_at + interval '5 min' FROM hosts h WHERE h.number = s.host AND h.name = '{first}'"
        );
        cloud.sql(&heard).await?;
        assert_eq!(walked(&admin, &query).await?, before, "{dir}");
    }
    Ok(())
}

#[tokio::test]
async fn hosts_are_sorted_by_name_zone_and_rack() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let admin = cloud.admin().await?;
    four(&cloud).await?;
    cloud.sql("UPDATE hosts SET az = 'B' WHERE name IN ('new', 'old'); UPDATE hosts SET az = 'a' WHERE az <> 'B'; UPDATE hosts SET rack = name").await?;
    assert_eq!(listed(&admin, "sort_key=name&sort_dir=desc").await?, ["old", "now", "new", "late"]);
    for query in
        ["sort_key=az&sort_key=name&sort_dir=asc&sort_dir=asc", "sort_key=az&sort_key=rack&sort_dir=asc&sort_dir=asc"]
    {
        assert_eq!(listed(&admin, query).await?, ["new", "old", "late", "now"]);
        assert_eq!(walked(&admin, query).await?, ["new", "old", "late", "now"]);
    }
    assert_eq!(admin.get("/v2.0/mizar/hosts?sort_key=pending_entries&sort_dir=asc").await?.status, 400);
    Ok(())
}

#[tokio::test]
async fn hosts_are_narrowed_to_those_that_lag_or_could_not_apply_something() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let admin = cloud.admin().await?;
    four(&cloud).await?;
    let none: [&str; 0] = [];
    assert_eq!(listed(&admin, "behind_s=0").await?, none, "nobody acknowledged anything");
    cloud.sql("UPDATE host_state SET cursor = pg_current_snapshot()::text").await?;
    assert_eq!(listed(&admin, "behind_s=0").await?, none, "nobody lacks anything");
    // Every host hears of a new host; of those that are silent it is not asked how far they are.
    cloud.host("more", 1500, 5).await?;
    cloud.sql("UPDATE entries SET changed_at = now() - interval '90 s'").await?;
    cloud.sql("UPDATE host_state SET cursor = pg_current_snapshot()::text WHERE host = (SELECT number FROM hosts WHERE name = 'now')").await?;
    assert_eq!(listed(&admin, "behind_s=90").await?, ["new"]);
    assert_eq!(listed(&admin, "behind_s=3600").await?, none);
    assert_eq!(listed(&admin, "behind_s=3600&behind_s=5").await?, ["new"], "any of them");
    for bad in ["behind_s=-1", "behind_s=soon", "behind_s=86401", "failing=soon"] {
        assert_eq!(admin.get(&format!("/v2.0/mizar/hosts?{bad}")).await?.status, 400, "{bad}");
    }
    let failure = "[{\"scope\": 1, \"kind\": 8, \"key\": \"0a\", \"reason\": \"no room\"}]";
    cloud
        .sql(&format!(
            "UPDATE host_state SET failures = '{failure}' WHERE host = (SELECT number FROM hosts WHERE name = 'late')"
        ))
        .await?;
    assert_eq!(listed(&admin, "failing=true").await?, ["late"]);
    assert_eq!(listed(&admin, "failing=false&sort_key=name&sort_dir=asc").await?, ["more", "new", "now", "old"]);
    Ok(())
}

#[tokio::test]
async fn the_state_of_a_host_is_what_it_should_have_what_it_has_and_why_they_differ() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let admin = cloud.admin().await?;
    let number = cloud.host("h1", 1500, 1).await?;
    cloud.host("h2", 1500, 2).await?;
    let (network, subnet) = admin.network("10.0.0.0/24").await?;
    let port = async |name: &str, host: &str| {
        admin.make("port", json!({"network_id": network["id"], "name": name, "binding:host_id": host})).await
    };
    let (there, on_its_way) = (port("there", "h1").await?, port("on its way", "h1").await?);
    port("elsewhere", "h2").await?;
    cloud.sql(&format!("UPDATE ports SET status = 'ACTIVE' WHERE id = '{}'", id(&there))).await?;
    let scope = Scope::Subnet(cloud.rows("SELECT number FROM subnets").await?[0].parse()?).to_i64();
    let divides = Scope::Dividers(cloud.rows("SELECT vni FROM networks").await?[0].parse()?).to_i64();
    cloud
        .sql(&format!(
            "INSERT INTO subscriptions (host, scope, lo, hi, role, state) VALUES ({number}, {scope}, 0, 2047, 2, 2); \
             INSERT INTO subscriptions (host, scope, lo, hi, role, state) VALUES ({number}, {scope}, 2048, 4095, 2, 1); \
             INSERT INTO subscriptions (host, scope, role, state) VALUES ({number}, {divides}, 3, 3)"
        ))
        .await?;
    let failure = json!([{"scope": scope, "kind": 8, "key": "0a", "reason": "no room"}]);
    cloud
        .sql(&format!(
            "INSERT INTO host_state (host, boot_id, seen_at, failures) VALUES ({number}, 'b', now(), '{failure}') \
             ON CONFLICT (host) DO UPDATE SET failures = excluded.failures"
        ))
        .await?;
    let state = admin.get("/v2.0/mizar/hosts/h1/state").await?.ok(200)?["state"].clone();
    assert_eq!((&state["host"], &state["alive"]), (&json!("h1"), &json!(true)));
    assert_eq!(state["desired"], json!({"ports": 2, "bouncers": 2, "dividers": 1}));
    assert_eq!(state["applied"], json!({"ports": 1, "bouncers": 1, "dividers": 0}));
    assert_eq!(state["left_out"], 0);
    let difference = state["difference"].as_array().expect("a list");
    let whats: Vec<_> = difference.iter().map(|one| (one["what"].clone(), one["id"].clone())).collect();
    let expected = [
        (json!("port"), on_its_way["id"].clone()),
        (json!("bouncer"), subnet["id"].clone()),
        (json!("divider"), network["id"].clone()),
        (json!("entry"), json!("0a")),
    ];
    assert!(expected.iter().all(|one| whats.contains(one)) && whats.len() == 4, "{state:#}");
    assert_eq!((&whats[0], &whats[3]), (&expected[0], &expected[3]), "ports come first and entries last");
    assert_eq!((&difference[3]["why"], &difference[3]["state"]), (&json!("no room"), &json!("failed")));
    assert!(difference.iter().all(|one| one["why"].as_str().is_some_and(|why| !why.is_empty())), "{state:#}");
    let by_id = cloud.rows("SELECT id FROM hosts WHERE name = 'h1'").await?[0].clone();
    assert_eq!(admin.get(&format!("/v2.0/mizar/hosts/{by_id}/state.json")).await?.ok(200)?["state"]["host"], "h1");
    assert_eq!(admin.get("/v2.0/mizar/hosts/h9/state").await?.fault(), (404, "HostNotFound"));
    Ok(())
}

#[tokio::test]
async fn of_much_that_differs_a_hundred_of_a_kind_are_named_and_the_others_counted() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let admin = cloud.admin().await?;
    let number = cloud.host("h1", 1500, 1).await?;
    let failures: Vec<Value> =
        (0..130).map(|key| json!({"scope": 1, "kind": 8, "key": format!("{key:04}"), "reason": "no room"})).collect();
    cloud.sql("INSERT INTO host_state (host, boot_id, seen_at) SELECT number, 'b', now() FROM hosts ON CONFLICT DO NOTHING").await?;
    cloud.sql(&format!("UPDATE host_state SET failures = '{}' WHERE host = {number}", json!(failures))).await?;
    let state = admin.get("/v2.0/mizar/hosts/h1/state").await?.ok(200)?["state"].clone();
    assert_eq!((state["difference"].as_array().map(Vec::len), &state["left_out"]), (Some(100), &json!(30)));
    Ok(())
}

#[tokio::test]
async fn an_operator_sees_how_full_the_maps_of_a_host_are() -> anyhow::Result<()> {
    let asking = Asking::start().await?;
    let number = asking.cloud.host("h1", 1500, 1).await?;
    let at_work = asking.host(number, |question| {
        assert_eq!(question, Question::Maps {});
        let fill = |map: &str, entries| Fill { map: map.into(), entries, most: 100 };
        Answer::Maps(vec![fill("EP", 3), fill("POLICY", 97), fill("HOSTS", 5)])
    });
    let admin = asking.at(&asking.cloud.admin().await?);
    let path = "/v2.0/mizar/hosts/h1/maps";
    let maps = admin.get(path).await?.ok(200)?["maps"].clone();
    let row = |map: &str, entries: u32| json!({"map": map, "entries": entries, "most": 100});
    let expected = json!({"host": "h1", "error": null, "maps": [row("POLICY", 97), row("HOSTS", 5), row("EP", 3)]});
    assert_eq!(maps, expected, "the fullest first");
    at_work.abort();
    // Of a server that speaks to no hosts nothing is heard, and that is said.
    let alone = asking.cloud.admin().await?.get(path).await?.ok(200)?["maps"].clone();
    assert!(alone["error"].as_str().is_some_and(|error| error.contains("no hosts")) && alone["maps"] == json!([]));
    // Nobody waits for a host that is known to be silent: of that nobody asked it is told by what is said.
    asking.cloud.sql("UPDATE host_state SET seen_at = now() - interval '1 h'").await?;
    let silent = admin.get(path).await?.ok(200)?["maps"].clone();
    assert!(silent["error"].as_str().is_some_and(|error| error.contains("lease")), "{silent}");
    Ok(())
}

#[tokio::test]
async fn what_cannot_be_a_fill_is_not_passed_on() -> anyhow::Result<()> {
    let asking = Asking::start().await?;
    let number = asking.cloud.host("h1", 1500, 1).await?;
    let at_work = asking.host(number, |_| Answer::Maps(vec![Fill { map: "EP".into(), entries: 9, most: 0 }]));
    let admin = asking.at(&asking.cloud.admin().await?);
    let maps = admin.get("/v2.0/mizar/hosts/h1/maps").await?.ok(200)?["maps"].clone();
    assert!(maps["error"].is_string() && maps["maps"] == json!([]), "{maps}");
    at_work.abort();
    Ok(())
}
