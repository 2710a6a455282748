use crate::support::{Answer, Client, Cloud, id};
use futures::future::join_all;
use mizar_wire::{Kind, Scope};
use serde_json::{Value, json};

/// Three hosts, and a port of a virtual machine's on the first.
struct World {
    cloud: Cloud,
    admin: Client,
    hosts: [u32; 3],
    port: Value,
}

async fn world() -> anyhow::Result<World> {
    let cloud = Cloud::start().await?;
    let admin = cloud.admin().await?;
    let mut hosts = [0; 3];
    for (host, last) in hosts.iter_mut().zip(1_u8..) {
        *host = cloud.host(&format!("h{last}"), 1500, last).await?;
    }
    let (network, _) = admin.network("10.0.0.0/24").await?;
    let wish = json!({"network_id": network["id"], "device_owner": "compute:nova", "binding:host_id": "h1",
        "binding:profile": {"of": "h1"}});
    let port = admin.make("port", wish).await?;
    Ok(World { cloud, admin, hosts, port })
}

impl World {
    fn path(&self, rest: &str) -> String {
        format!("/v2.0/ports/{}/bindings{rest}", id(&self.port))
    }

    async fn add(&self, attributes: Value) -> anyhow::Result<Answer> {
        self.admin.post(&self.path(""), &json!({ "binding": attributes })).await
    }

    async fn activate(&self, host: &str) -> anyhow::Result<Answer> {
        // openstacksdk sends what it knows of the binding along.
        let body = json!({"binding": {"host": host}});
        self.admin.put(&self.path(&format!("/{host}/activate")), Some(&body)).await
    }

    /// `host status`, by host.
    async fn bindings(&self, query: &str) -> anyhow::Result<Vec<String>> {
        let list = self.admin.get(&self.path(&format!("?sort_key=host&sort_dir=asc{query}"))).await?.ok(200)?;
        let text = |binding: &Value, name: &str| binding[name].as_str().unwrap_or_default().to_owned();
        let bindings = list["bindings"].as_array().cloned().unwrap_or_default();
        Ok(bindings.iter().map(|binding| format!("{} {}", text(binding, "host"), text(binding, "status"))).collect())
    }
}

#[tokio::test]
async fn a_port_migrates_when_its_waiting_binding_is_activated() -> anyhow::Result<()> {
    let w = world().await?;
    let made = w.add(json!({"host": "h2", "vnic_type": "normal", "profile": {"of": "h2"}})).await?.ok(201)?;
    let h2 = json!({"host": "h2", "status": "INACTIVE", "vif_type": "tap", "vnic_type": "normal",
        "vif_details": {"port_filter": true, "connectivity": "l3"}, "profile": {"of": "h2"}});
    assert_eq!(made, json!({ "binding": h2 }));
    assert_eq!(w.admin.get(&w.path("/h2")).await?.ok(200)?, made);
    assert_eq!(w.bindings("").await?, ["h1 ACTIVE", "h2 INACTIVE"]);
    assert_eq!(w.bindings("&status=INACTIVE").await?, ["h2 INACTIVE"]);
    assert_eq!(w.bindings("&host=h1&host=h3").await?, ["h1 ACTIVE"]);
    let only = w.admin.get(&w.path("/h1?fields=host&fields=profile")).await?.ok(200)?;
    assert_eq!(only, json!({"binding": {"host": "h1", "profile": {"of": "h1"}}}));
    // What waits is programmed nowhere.
    assert_eq!(w.admin.show("port", &w.port).await?["binding:host_id"], "h1");
    assert!(w.cloud.entries(Scope::Host(w.hosts[1]), Kind::Port).await?.is_empty());
    w.cloud.assert_entries_are_right().await?;

    w.cloud.sql("UPDATE ports SET status = 'ACTIVE', wired_generation = generation").await?;
    let before = w.admin.show("port", &w.port).await?;
    let mut active = h2.clone();
    active["status"] = json!("ACTIVE");
    assert_eq!(w.activate("h2").await?.ok(200)?, active);
    let port = w.admin.show("port", &w.port).await?;
    assert_eq!((&port["binding:host_id"], &port["binding:profile"]), (&json!("h2"), &json!({"of": "h2"})));
    assert_eq!(port["status"], "BUILD", "its new host has not wired it");
    assert!(port["revision_number"].as_i64() > before["revision_number"].as_i64());
    assert_eq!(w.bindings("").await?, ["h1 INACTIVE", "h2 ACTIVE"]);
    assert_eq!(w.admin.get(&w.path("/h1")).await?.ok(200)?["binding"]["profile"], json!({"of": "h1"}));
    assert!(w.cloud.entries(Scope::Host(w.hosts[0]), Kind::Port).await?.is_empty());
    let moved = &w.cloud.entries(Scope::Host(w.hosts[0]), Kind::MovedPort).await?[0];
    assert_eq!((&moved["host"], &moved["generation"]), (&json!(w.hosts[1]), &json!(2)));
    let there = &w.cloud.entries(Scope::Host(w.hosts[1]), Kind::Port).await?[0];
    assert_eq!((&there["generation"], &there["mac"]), (&json!(2), &port["mac_address"]));
    w.cloud.assert_entries_are_right().await?;
    let audited = "SELECT action || ' ' || object_type FROM audit_events WHERE action <> 'create' ORDER BY id";
    let audited = w.cloud.rows(audited).await?;
    assert!(audited.contains(&"activate binding".into()) && audited.contains(&"update port".into()), "{audited:?}");

    // The migration is over, or was in vain.
    w.admin.delete(&w.path("/h1")).await?.ok(204)?;
    assert_eq!(w.bindings("").await?, ["h2 ACTIVE"]);
    assert_eq!(w.admin.get(&w.path("/h1")).await?.fault(), (404, "PortBindingNotFound"));
    w.admin.remove("port", &w.port).await?.ok(204)?;
    assert_eq!(w.cloud.rows("SELECT count(*) FROM port_bindings").await?, ["0"]);
    w.cloud.assert_entries_are_right().await
}

#[tokio::test]
async fn a_binding_is_changed_active_or_not() -> anyhow::Result<()> {
    let w = world().await?;
    w.add(json!({"host": "h2"})).await?.ok(201)?;
    for host in ["h1", "h2"] {
        let body = json!({"binding": {"profile": {"new": host}, "vnic_type": "normal"}});
        let changed = w.admin.put(&w.path(&format!("/{host}")), Some(&body)).await?.ok(200)?;
        assert_eq!(changed["binding"]["profile"], json!({"new": host}));
        assert_eq!(w.admin.get(&w.path(&format!("/{host}"))).await?.ok(200)?, changed);
    }
    let port = w.admin.show("port", &w.port).await?;
    assert_eq!((&port["binding:profile"], &port["binding:host_id"]), (&json!({"new": "h1"}), &json!("h1")));
    let body = json!({"binding": {"profile": null}});
    assert_eq!(w.admin.put(&w.path("/h2"), Some(&body)).await?.ok(200)?["binding"]["profile"], json!({}));
    Ok(())
}

#[tokio::test]
async fn binding_the_port_takes_the_place_of_the_binding_that_waited() -> anyhow::Result<()> {
    let w = world().await?;
    w.add(json!({"host": "h2"})).await?.ok(201)?;
    w.add(json!({"host": "h3"})).await?.ok(201)?;
    w.admin.update("port", &w.port, json!({"binding:host_id": "h2"})).await?.ok(200)?;
    assert_eq!(w.bindings("").await?, ["h2 ACTIVE", "h3 INACTIVE"]);
    // Without its active binding the port is on no host.
    w.admin.delete(&w.path("/h2")).await?.ok(204)?;
    let port = w.admin.show("port", &w.port).await?;
    assert_eq!((&port["binding:host_id"], &port["binding:vif_type"]), (&json!(""), &json!("unbound")));
    assert_eq!(port["status"], "DOWN");
    assert_eq!(w.cloud.entries(Scope::Host(w.hosts[1]), Kind::MovedPort).await?[0]["host"], 0);
    assert_eq!(w.bindings("").await?, [" ACTIVE", "h3 INACTIVE"]);
    w.activate("h3").await?.ok(200)?;
    assert_eq!(w.bindings("").await?, ["h3 ACTIVE"], "nothing is left of a binding to no host");
    w.cloud.assert_entries_are_right().await
}

#[tokio::test]
async fn wrong_bindings_are_refused_and_change_nothing() -> anyhow::Result<()> {
    let w = world().await?;
    w.cloud.host("small", 1450, 9).await?;
    w.add(json!({"host": "h2"})).await?.ok(201)?;
    let before = w.cloud.rows("SELECT b::text FROM port_bindings b ORDER BY host").await?;
    let bad = (400, "HTTPBadRequest");
    for (attributes, expected) in [
        (json!({"host": "h1"}), (409, "PortBindingAlreadyExists")),
        (json!({"host": "h2"}), (409, "PortBindingAlreadyExists")),
        (json!({"host": "nowhere"}), (409, "PortBindingError")),
        (json!({"host": "small"}), (409, "PortBindingError")),
        (json!({}), bad),
        (json!({"host": ""}), bad),
        (json!({"host": 7}), bad),
        (json!({"host": "h3", "vnic_type": "direct"}), (409, "PortBindingError")),
        (json!({"host": "h3", "vnic_type": "sr-iov"}), bad),
        (json!({"host": "h3", "profile": []}), bad),
        (json!({"host": "h3", "status": "ACTIVE"}), bad),
        (json!({"host": "h3", "vif_type": "tap"}), bad),
        (json!({"host": "h3", "nonsense": 1}), bad),
    ] {
        assert_eq!(w.add(attributes.clone()).await?.fault(), expected, "{attributes}");
    }
    assert_eq!(w.activate("h1").await?.fault(), (409, "PortBindingAlreadyActive"));
    for host in ["h3", "nowhere", "00000000-0000-0000-0000-000000000000"] {
        assert_eq!(w.activate(host).await?.fault(), (404, "PortBindingNotFound"), "{host}");
        assert_eq!(w.admin.delete(&w.path(&format!("/{host}"))).await?.fault(), (404, "PortBindingNotFound"));
    }
    let host = json!({"binding": {"host": "h3"}});
    assert_eq!(w.admin.put(&w.path("/h2"), Some(&host)).await?.fault(), bad);
    assert_eq!(w.admin.get(&w.path("?profile=x")).await?.fault(), bad);
    let nobody = "/v2.0/ports/00000000-0000-0000-0000-000000000000/bindings";
    assert_eq!(w.admin.get(nobody).await?.fault(), (404, "PortNotFound"));
    assert_eq!(w.cloud.rows("SELECT b::text FROM port_bindings b ORDER BY host").await?, before);
    // A host that has become too small between the two: the port stays where it is.
    w.cloud.sql("UPDATE hosts SET mtu = 1400 WHERE name = 'h2'").await?;
    assert_eq!(w.activate("h2").await?.fault(), (409, "PortBindingError"));
    assert_eq!(w.cloud.rows("SELECT b::text FROM port_bindings b ORDER BY host").await?, before);

    // Only ports of virtual machines migrate.
    w.admin.update("port", &w.port, json!({"device_owner": "baremetal:none"})).await?.ok(200)?;
    assert_eq!(w.add(json!({"host": "h3"})).await?.fault(), (400, "BadRequest"));
    assert_eq!(w.activate("h2").await?.fault(), (400, "BadRequest"));
    let profile = json!({"binding": {"profile": {}}});
    assert_eq!(w.admin.put(&w.path("/h2"), Some(&profile)).await?.fault(), (400, "BadRequest"));
    w.cloud.assert_entries_are_right().await
}

#[tokio::test]
async fn bindings_are_for_administrators_and_services() -> anyhow::Result<()> {
    let w = world().await?;
    let red = w.cloud.tenant("red", "member").await?;
    let (network, _) = red.network("10.0.0.0/24").await?;
    let port = red.make("port", json!({"network_id": network["id"], "device_owner": "compute:x"})).await?;
    let path = format!("/v2.0/ports/{}/bindings", id(&port));
    let body = json!({"binding": {"host": "h1"}});
    assert_eq!(red.get(&path).await?.fault(), (403, "PolicyNotAuthorized"));
    assert_eq!(red.post(&path, &body).await?.fault(), (403, "PolicyNotAuthorized"));
    // It is on no host: that is its active binding, as in Neutron.
    let nova = w.cloud.tenant("nova", "service").await?;
    let list = nova.get(&path).await?.ok(200)?;
    assert_eq!((&list["bindings"][0]["host"], &list["bindings"][0]["vif_type"]), (&json!(""), &json!("unbound")));
    nova.post(&path, &body).await?.ok(201)?;
    for path in [format!("{path}/h1"), format!("{path}/h1/activate")] {
        assert_eq!(red.put(&path, Some(&json!({"binding": {}}))).await?.fault().0, 403, "{path}");
    }
    assert_eq!(red.delete(&format!("{path}/h1")).await?.fault().0, 403);
    nova.put(&format!("{path}/h1/activate"), None).await?.ok(200)?;
    assert_eq!(nova.show("port", &port).await?["binding:host_id"], "h1");
    Ok(())
}

#[tokio::test]
async fn bindings_come_in_pages() -> anyhow::Result<()> {
    let w = world().await?;
    w.add(json!({"host": "h2"})).await?.ok(201)?;
    w.add(json!({"host": "h3"})).await?.ok(201)?;
    let mut next = Some(w.path("?limit=1&sort_key=host&sort_dir=desc"));
    let mut seen = Vec::new();
    while let Some(path) = next.take() {
        let page = w.admin.get(&path).await?.ok(200)?;
        seen.extend(page["bindings"][0]["host"].as_str().map(str::to_owned));
        let link = page["bindings_links"].as_array().into_iter().flatten().find(|link| link["rel"] == "next");
        next = link.and_then(|link| link["href"].as_str()).map(|href| href.replace(&w.cloud.url, ""));
        anyhow::ensure!(seen.len() < 10, "pages without end");
    }
    assert_eq!(seen, ["h3", "h2", "h1"]);
    Ok(())
}

#[tokio::test]
async fn of_activations_at_once_each_is_whole() -> anyhow::Result<()> {
    let w = world().await?;
    w.add(json!({"host": "h2"})).await?.ok(201)?;
    w.add(json!({"host": "h3"})).await?.ok(201)?;
    let rounds: Vec<&str> = ["h1", "h2", "h3"].repeat(8);
    let mut moves = 0;
    for (host, answer) in rounds.iter().zip(join_all(rounds.iter().map(|host| w.activate(host))).await) {
        let answer = answer?;
        match answer.status.as_u16() {
            200 => {
                assert_eq!((&answer.body["host"], &answer.body["status"]), (&json!(host), &json!("ACTIVE")));
                moves += 1;
            }
            _ => assert_eq!(answer.fault(), (409, "PortBindingAlreadyActive"), "{}", answer.text),
        }
    }
    assert!(moves > 0);
    assert_eq!(w.cloud.rows("SELECT generation FROM ports").await?, [(1 + moves).to_string()]);
    let bindings = w.bindings("").await?;
    let active: Vec<&str> = bindings.iter().filter_map(|binding| binding.strip_suffix(" ACTIVE")).collect();
    assert_eq!((bindings.len(), active.len()), (3, 1), "{bindings:?}");
    assert_eq!(w.admin.show("port", &w.port).await?["binding:host_id"], active[0]);
    w.cloud.assert_entries_are_right().await
}
