//! What hosts say of ports, where the hosts are played: what is asked of whom, and who is told what.

use crate::support::{Client, Cloud, id, until};
use mizar_api::app::App;
use mizar_api::exchange::Participant;
use mizar_api::observe::limits::Limits;
use mizar_api::server;
use mizar_db::pool::Use;
use mizar_db::questions;
use mizar_wire::Scope;
use mizar_wire::ask::{Answer, Dropped, Headers, Question, Sample};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A server that can ask hosts, and the clients of it.
pub struct Asking {
    pub cloud: Cloud,
    server: server::Server,
    participant: Participant,
}

impl Asking {
    pub async fn start() -> anyhow::Result<Self> {
        let cloud = Cloud::start().await?;
        let participant = Participant::start(cloud.db.url(), cloud.db.pool(4, Use::Commands)?).await?;
        let (app, listener) = cloud.app(Limits::default())?;
        let app = Arc::into_inner(app).expect("nobody has it yet");
        let app = App { exchange: Some(Arc::clone(participant.exchange())), ..app };
        let server = server::start(Arc::new(app), listener, 2).await?;
        Ok(Self { cloud, server, participant })
    }

    /// The same client, at the server that can ask.
    pub fn at(&self, client: &Client) -> Client {
        Client { base: format!("http://{}", self.server.address), ..client.clone() }
    }

    /// A host's agent: answers what it is asked, until it is dropped.
    pub fn host(
        &self,
        number: u32,
        answer: impl Fn(Question) -> Answer + Send + 'static,
    ) -> tokio::task::JoinHandle<()> {
        let exchange = Arc::clone(self.participant.exchange());
        let host = number.cast_signed();
        tokio::spawn(async move {
            loop {
                let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
                let asked = exchange.questions(host, deadline).await.expect("the database is there");
                let answered = |asked: mizar_wire::ask::Asked| mizar_wire::ask::Answered {
                    id: asked.id,
                    answer: answer(Question::from_value(asked.question).expect("a question")).to_value(),
                };
                let answers = asked.into_iter().map(answered).collect();
                exchange.answer(host, answers).await.expect("the database is there");
            }
        })
    }
}

/// Three hosts: h1 has the port, h2 bounces for the first half of its subnet and h3 for the other.
pub async fn port(cloud: &Cloud, owner: &Client) -> anyhow::Result<(Value, BTreeMap<&'static str, u32>)> {
    let mut hosts = BTreeMap::new();
    for (name, last) in [("h1", 1), ("h2", 2), ("h3", 3)] {
        hosts.insert(name, cloud.host(name, 1500, last).await?);
    }
    let (network, _) = owner.network("10.0.0.0/24").await?;
    let port = owner.make("port", json!({"network_id": network["id"], "name": "web"})).await?;
    cloud.admin().await?.update("port", &port, json!({"binding:host_id": "h1"})).await?.ok(200)?;
    let subnet: u32 = cloud.rows("SELECT number FROM subnets").await?[0].parse()?;
    let slot: u32 = cloud.rows("SELECT slot FROM port_ips").await?[0].parse()?;
    // The bouncer of the port is h2, whichever slot its address has.
    let (mine, others) = if slot < 2048 { ((0, 2047), (2048, 4095)) } else { ((2048, 4095), (0, 2047)) };
    for (host, (lo, hi)) in [("h2", mine), ("h3", others)] {
        let scope = Scope::Subnet(subnet).to_i64();
        let number = hosts[host];
        cloud
            .sql(&format!(
                "INSERT INTO subscriptions (host, scope, lo, hi, role, state) VALUES ({number}, {scope}, {lo}, {hi}, 2, 2)"
            ))
            .await?;
    }
    Ok((port, hosts))
}

/// What the hosts of a port say, once none is silent: where there is much to do, one may be late for the first question.
pub async fn said(of: &Client, path: &str, what: &str) -> anyhow::Result<Value> {
    let mut said = Value::Null;
    let is_late = |host: &Value| host["error"].as_str().is_some_and(|error| error.contains("did not answer"));
    until("every host answers", async || {
        said = of.get(path).await?.ok(200)?[what].clone();
        Ok(!said["hosts"].as_array().expect("a list").iter().any(is_late))
    })
    .await?;
    Ok(said)
}

fn dropped(port: u32, reason: &str, packets: u64) -> Dropped {
    let packet = Headers {
        source: "10.0.0.9".parse().expect("an address"),
        destination: "10.0.0.5".parse().expect("an address"),
        protocol: 6,
        source_port: 40000,
        destination_port: 443,
    };
    Dropped {
        port,
        reason: reason.into(),
        about: "Because.".into(),
        packets,
        bytes: packets * 60,
        samples: vec![Sample { at_ms: 1_700_000_000_123, packet: Some(packet) }, Sample { at_ms: 5, packet: None }],
    }
}

async fn number(cloud: &Cloud) -> anyhow::Result<u32> {
    Ok(cloud.rows("SELECT number FROM ports").await?[0].parse()?)
}

#[tokio::test]
async fn drops_of_a_port_are_those_of_its_host_and_its_bouncers_and_hosts_have_no_names_for_tenants()
-> anyhow::Result<()> {
    let asking = Asking::start().await?;
    let owner = asking.cloud.tenant("red", "reader").await?;
    let maker = asking.cloud.colleague(&owner, "maker", "member").await?;
    let (port, hosts) = port(&asking.cloud, &maker).await?;
    let of = number(&asking.cloud).await?;
    let answer = |reason: &'static str, packets| {
        move |question| {
            assert_eq!(question, Question::Drops { ports: vec![of] });
            // What it was not asked about is not passed on.
            Answer::Drops(vec![dropped(of, reason, packets), dropped(of + 1, "spoof", 9)])
        }
    };
    let hosts_at_work =
        [asking.host(hosts["h1"], answer("no_flow", 2)), asking.host(hosts["h2"], answer("refused", 3))];
    let path = format!("/v2.0/mizar/ports/{}/drops", id(&port));
    let drops = said(&asking.at(&owner), &path, "drops").await?;
    assert_eq!(drops["port_id"], port["id"]);
    let role = |role: &str, error: Value| json!({"role": role, "host": null, "error": error});
    assert_eq!(drops["hosts"], json!([role("port", Value::Null), role("bouncer", Value::Null)]));
    let reasons = drops["reasons"].as_array().expect("a list");
    let told: Vec<_> =
        reasons.iter().map(|r| (r["role"].as_str(), r["reason"].as_str(), r["packets"].as_u64())).collect();
    assert_eq!(told, [(Some("port"), Some("no_flow"), Some(2)), (Some("bouncer"), Some("refused"), Some(3))]);
    let sample = json!({
        "at": "2023-11-14T22:13:20.123Z", "source": "10.0.0.9", "destination": "10.0.0.5", "protocol": 6,
        "source_port": 40000, "destination_port": 443,
    });
    assert_eq!(reasons[0]["samples"][0], sample);
    assert_eq!(reasons[0]["samples"][1]["source"], Value::Null);
    let admin = said(&asking.at(&asking.cloud.admin().await?), &path, "drops").await?;
    assert_eq!((&admin["hosts"][0]["host"], &admin["reasons"][1]["host"]), (&json!("h1"), &json!("h2")));
    hosts_at_work.iter().for_each(|task| task.abort());
    Ok(())
}

#[tokio::test]
async fn a_silent_host_is_named_as_silent_and_the_others_are_heard() -> anyhow::Result<()> {
    let asking = Asking::start().await?;
    let owner = asking.cloud.tenant("red", "member").await?;
    let (port, hosts) = port(&asking.cloud, &owner).await?;
    let of = number(&asking.cloud).await?;
    let at_work = asking.host(hosts["h2"], move |_| Answer::Drops(vec![dropped(of, "refused", 1)]));
    let path = format!("/v2.0/mizar/ports/{}/drops", id(&port));
    let drops = asking.at(&owner).get(&path).await?.ok(200)?["drops"].clone();
    assert!(drops["hosts"][0]["error"].as_str().is_some_and(|error| error.contains("did not answer")), "{drops}");
    assert_eq!((&drops["hosts"][1]["error"], &drops["reasons"][0]["packets"]), (&Value::Null, &json!(1)));
    at_work.abort();
    // Of a server that speaks to no hosts the same is heard.
    let drops = owner.get(&path).await?.ok(200)?["drops"].clone();
    assert_eq!(drops["reasons"], json!([]));
    assert!(drops["hosts"][1]["error"].as_str().is_some_and(|error| error.contains("no hosts")), "{drops}");
    Ok(())
}

#[tokio::test]
async fn who_sees_a_port_may_not_look_into_it_unless_it_is_his() -> anyhow::Result<()> {
    let asking = Asking::start().await?;
    let (owner, other) = (asking.cloud.tenant("red", "member").await?, asking.cloud.tenant("blue", "member").await?);
    let admin = asking.cloud.admin().await?;
    // On a network of blue's that red may use, blue sees red's port.
    let (network, _) = other.network("10.0.0.0/24").await?;
    let policy = json!({"object_type": "network", "object_id": network["id"], "target_tenant": owner.project, "action": "access_as_shared"});
    other.post("/v2.0/rbac-policies", &json!({ "rbac_policy": policy })).await?.ok(201)?;
    let port = owner.make("port", json!({"network_id": network["id"]})).await?;
    let path = format!("/v2.0/mizar/ports/{}/drops", id(&port));
    assert_eq!(other.show("port", &port).await?["id"], port["id"]);
    assert_eq!(other.get(&path).await?.fault(), (403, "PolicyNotAuthorized"));
    assert_eq!(asking.cloud.tenant("green", "member").await?.get(&path).await?.fault(), (404, "PortNotFound"));
    assert_eq!(owner.get(&format!("{path}.json")).await?.status, 200);
    assert_eq!(owner.get("/v2.0/mizar/ports/nonsense/drops").await?.fault(), (404, "PortNotFound"));
    assert_eq!(owner.get("/v2.0/mizar/hosts/h1/drops").await?.fault(), (403, "PolicyNotAuthorized"));
    assert_eq!(admin.get("/v2.0/mizar/hosts/h9/drops").await?.fault(), (404, "HostNotFound"));
    Ok(())
}

#[tokio::test]
async fn an_operator_sees_the_drops_of_a_host_by_port() -> anyhow::Result<()> {
    let asking = Asking::start().await?;
    let owner = asking.cloud.tenant("red", "member").await?;
    let (port, hosts) = port(&asking.cloud, &owner).await?;
    let of = number(&asking.cloud).await?;
    let at_work = asking.host(hosts["h1"], move |question| {
        assert_eq!(question, Question::Drops { ports: vec![] });
        Answer::Drops(vec![dropped(of, "spoof", 9), dropped(0, "bad_tag", 1)])
    });
    let admin = asking.at(&asking.cloud.admin().await?);
    let drops = admin.get("/v2.0/mizar/hosts/h1/drops").await?.ok(200)?["drops"].clone();
    assert_eq!((&drops["host"], &drops["error"]), (&json!("h1"), &Value::Null));
    assert_eq!((&drops["reasons"][0]["port_id"], &drops["reasons"][1]["port_id"]), (&port["id"], &Value::Null));
    at_work.abort();
    Ok(())
}

#[tokio::test]
async fn a_host_is_asked_only_so_much_at_once() -> anyhow::Result<()> {
    let asking = Asking::start().await?;
    let mut conn = asking.cloud.db.connect().await?;
    let host = asking.cloud.host("h1", 1500, 1).await?.cast_signed();
    let within = std::time::Duration::from_secs(600);
    for _ in 0..questions::OPEN {
        assert!(questions::put(&mut conn, uuid::Uuid::new_v4(), host, "{}".into(), within).await?);
    }
    assert!(!questions::put(&mut conn, uuid::Uuid::new_v4(), host, "{}".into(), within).await?);
    assert!(
        questions::put(&mut conn, uuid::Uuid::new_v4(), host + 1, "{}".into(), within).await?,
        "another host's place"
    );
    asking.cloud.sql("UPDATE host_questions SET until = now() - interval '2 minutes'").await?;
    // Whoever listens may have been first.
    questions::sweep(&mut conn).await?;
    assert_eq!(asking.cloud.rows("SELECT count(*) FROM host_questions").await?, ["0"]);
    Ok(())
}
