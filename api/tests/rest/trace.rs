//! Traces, where the hosts are played: whom the API asks what, and what it tells whom.

use crate::label_policies::manifest;
use crate::seeing::{Asking, port};
use crate::support::{Client, id};
use mizar_wire::ask::{Answer, Question};
use mizar_wire::trace::{self, Admission, At, Look, Request, Role, Then, Told};
use serde_json::{Value, json};
use uuid::Uuid;

/// What the sender's host writes.
pub const REQUEST: Request = Request { vni: 5000, identity: 3, flags: 64, tries: 0, source_port: 50_000 };

/// In one table.
pub fn look(table: &str, rules: Vec<Uuid>) -> Look {
    Look { table: table.into(), entry: "host 7".into(), says: format!("{table} says so"), rules }
}

/// With this look.
pub fn answer(look: Look, then: Then) -> Answer {
    Answer::Trace(trace::Answer { looks: vec![look], then })
}

fn asked(question: Question) -> trace::Question {
    match question {
        Question::Trace(question) => question,
        other => panic!("{other:?}"),
    }
}

/// A packet of a port, as it is asked about.
pub fn to(port: &Value) -> Value {
    json!({"port_id": port["id"], "destination": "10.0.0.77", "protocol": "tcp", "destination_port": 443})
}

async fn trace_of(client: &Client, body: &Value) -> anyhow::Result<Value> {
    Ok(client.post("/v2.0/mizar/trace", &json!({ "trace": body })).await?.ok(200)?["trace"].clone())
}

/// A security group with one rule; the rule.
pub async fn rule(client: &Client) -> anyhow::Result<Uuid> {
    let group = client.post("/v2.0/security-groups", &json!({"security_group": {"name": "g"}})).await?.ok(201)?;
    let group = id(&group["security_group"]).to_owned();
    let rule = json!({"security_group_id": group, "direction": "ingress", "protocol": "tcp"});
    let rule = client.post("/v2.0/security-group-rules", &json!({ "security_group_rule": rule })).await?.ok(201)?;
    Ok(id(&rule["security_group_rule"]).parse()?)
}

#[tokio::test]
async fn each_host_is_asked_what_the_one_before_wrote_and_rules_are_named_to_their_owners() -> anyhow::Result<()> {
    let asking = Asking::start().await?;
    let owner = asking.cloud.tenant("red", "member").await?;
    let (port, hosts) = port(&asking.cloud, &owner).await?;
    let (own, foreign) = (rule(&owner).await?, rule(&asking.cloud.tenant("blue", "member").await?).await?);
    let number: u32 = asking.cloud.rows("SELECT number FROM ports").await?[0].parse()?;
    let (bouncer, destination) = (hosts["h2"], hosts["h3"]);
    let admission = Admission { vni: 5000, port: number, epoch: 1, mark: 0, reply_only: false };
    let source = asking.host(hosts["h1"], move |question| {
        let trace::Question { packet, at } = asked(question);
        assert_eq!(
            (packet.destination.to_string().as_str(), packet.protocol, packet.destination_port),
            ("10.0.0.77", 6, 443)
        );
        let At::Leave { port, identity, tries: 0 } = at else { panic!("{at:?}") };
        assert_eq!(port, number);
        // What the bouncer said of the destination comes back to the sender's host.
        assert!(identity.is_none_or(|identity| identity == 9), "{identity:?}");
        let request = Request { flags: u8::from(identity.is_none()), ..REQUEST };
        answer(look("POLICY", vec![own]), Then::Ask { host: bouncer, role: Role::Bouncer, request })
    });
    let judge = asking.host(bouncer, move |question| match asked(question).at {
        At::Carry(request) if request.flags == 1 => answer(look("BOUNCE", vec![]), Then::Identify { identity: 9 }),
        At::Carry(request) => {
            assert_eq!(request, Request { flags: 0, ..REQUEST });
            answer(look("POLICY", vec![foreign]), Then::Admit { host: destination, admission })
        }
        other => panic!("{other:?}"),
    });
    let end = asking.host(destination, move |question| {
        assert_eq!(asked(question).at, At::Arrive(admission));
        answer(look("EP", vec![]), Then::Deliver { port: number })
    });
    let got = trace_of(&asking.at(&owner), &to(&port)).await?;
    let roles: Vec<_> = got["hops"].as_array().expect("a list").iter().map(|hop| hop["role"].as_str()).collect();
    assert_eq!(roles, ["source", "bouncer", "source", "bouncer", "destination"].map(Some), "{got}");
    assert_eq!(
        (&got["verdict"], &got["reason"], &got["destination_port_id"]),
        (&json!("delivered"), &Value::Null, &port["id"])
    );
    assert!(got["receiver_sees"].as_str().is_some_and(|sees| sees.starts_with("the packet, from 10.0.0.")), "{got}");
    let first = &got["hops"][0];
    assert_eq!(
        (&first["host"], &first["looks"][0]["entry"]),
        (&Value::Null, &Value::Null),
        "a tenant is told of hosts"
    );
    assert_eq!(first["looks"][0]["rules"][0]["id"], json!(own));
    assert_eq!(got["hops"][3]["looks"][0]["rules"], json!([]), "another project's rule");
    let admin = trace_of(&asking.at(&asking.cloud.admin().await?), &to(&port)).await?;
    assert_eq!((&admin["hops"][3]["host"], &admin["hops"][3]["looks"][0]["entry"]), (&json!("h2"), &json!("host 7")));
    assert_eq!(admin["hops"][3]["looks"][0]["rules"][0]["id"], json!(foreign));
    [source, judge, end].iter().for_each(|task| task.abort());
    Ok(())
}

#[tokio::test]
async fn label_policies_that_decided_are_named_to_their_owners() -> anyhow::Result<()> {
    let asking = Asking::start().await?;
    let (owner, other) = (asking.cloud.tenant("red", "member").await?, asking.cloud.tenant("blue", "member").await?);
    let (port, hosts) = port(&asking.cloud, &owner).await?;
    let policy = async |client: &Client| {
        let manifest = manifest("web", json!({"podSelector": {}, "ingress": [{}]}));
        let body = json!({"label_policy": {"manifest": manifest}});
        let made = client.post("/v2.0/label-policies", &body).await?.ok(201)?;
        anyhow::Ok(id(&made["label_policy"]).parse::<Uuid>()?)
    };
    let (own, foreign) = (policy(&owner).await?, policy(&other).await?);
    let source = asking.host(hosts["h1"], move |_| {
        let drop = Then::Drop { reason: "refused".into(), about: "Not let in.".into(), told: None };
        answer(look("POLICY", vec![own, foreign]), drop)
    });
    let named = async |client: &Client| {
        let trace = trace_of(&asking.at(client), &to(&port)).await?;
        anyhow::Ok(trace["hops"][0]["looks"][0]["rules"].clone())
    };
    let of = |policy: Uuid| json!({"id": policy, "security_group_id": null});
    assert_eq!(named(&owner).await?, json!([of(own)]), "another project's policy");
    assert_eq!(named(&asking.cloud.admin().await?).await?, json!([of(own), of(foreign)]));
    source.abort();
    Ok(())
}

#[tokio::test]
async fn what_is_dropped_says_where_why_and_what_the_ends_see() -> anyhow::Result<()> {
    let asking = Asking::start().await?;
    let owner = asking.cloud.tenant("red", "reader").await?;
    let maker = asking.cloud.colleague(&owner, "maker", "member").await?;
    let (port, hosts) = port(&asking.cloud, &maker).await?;
    let drop = |told| Then::Drop { reason: "refused".into(), about: "Not let in.".into(), told };
    let source = asking.host(hosts["h1"], move |question| match asked(question).packet.destination_port {
        80 => answer(look("POLICY", vec![]), drop(None)),
        81 => answer(look("ROUTE", vec![]), drop(Some(Told::NetUnreachable))),
        // For ever between two hosts.
        _ => answer(look("SHARD", vec![]), Then::Return),
    });
    let client = asking.at(&owner);
    let of = async |port: &Value, number: u16| {
        let mut body = to(port);
        body["destination_port"] = json!(number);
        trace_of(&client, &body).await
    };
    let silent = of(&port, 80).await?;
    assert_eq!(
        (&silent["verdict"], &silent["reason"], &silent["about"]),
        (&json!("dropped"), &json!("refused"), &json!("Not let in."))
    );
    assert_eq!(
        (&silent["sender_sees"], &silent["receiver_sees"]),
        (&json!("nothing: it waits until it gives up"), &json!("nothing"))
    );
    let told = of(&port, 81).await?;
    assert_eq!(told["sender_sees"], "ICMP network unreachable from 10.0.0.1");
    let round = of(&port, 82).await?;
    assert_eq!((&round["verdict"], round["hops"].as_array().map(Vec::len)), (&json!("unknown"), Some(3)), "{round}");
    source.abort();
    let nobody = of(&port, 80).await?;
    assert_eq!((&nobody["verdict"], &nobody["sender_sees"]), (&json!("unknown"), &Value::Null));
    assert!(nobody["hops"][0]["error"].as_str().is_some_and(|error| error.contains("did not answer")), "{nobody}");
    let unbound = maker.make("port", json!({"network_id": port["network_id"]})).await?;
    assert_eq!(of(&unbound, 80).await?["reason"], "not_bound");
    Ok(())
}

#[tokio::test]
async fn a_trace_that_makes_no_sense_names_the_attribute() -> anyhow::Result<()> {
    let asking = Asking::start().await?;
    let owner = asking.cloud.tenant("red", "member").await?;
    let (port, _) = port(&asking.cloud, &owner).await?;
    let good = to(&port);
    for (change, named) in [
        (json!({"port_id": null}), "port_id"),
        (json!({"destination": "2001:db8::1"}), "destination"),
        (json!({"destination": "everywhere"}), "destination"),
        (json!({"protocol": "any"}), "protocol"),
        (json!({"protocol": "quic"}), "protocol"),
        (json!({"destination_port": null}), "destination_port"),
        (json!({"destination_port": 0}), "destination_port"),
        (json!({"destination_port": 65536}), "destination_port"),
        (json!({"source_port": -1}), "source_port"),
        (json!({"source": "10.0.0.0/24"}), "source"),
        (json!({"icmp_type": 8}), "icmp_type"),
        (json!({"protocol": "icmp"}), "destination_port"),
        (json!({"protocol": "gre"}), "destination_port"),
        (json!({"colour": "red"}), "colour"),
    ] {
        let mut body = good.clone();
        body.as_object_mut().expect("an object").extend(change.as_object().expect("an object").clone());
        let refused = owner.post("/v2.0/mizar/trace", &json!({ "trace": body })).await?;
        assert_eq!(refused.fault(), (400, "HTTPBadRequest"), "{change}");
        assert!(refused.message().contains(named), "{change}: {}", refused.message());
    }
    let error = json!({"port_id": port["id"], "destination": "10.0.0.77", "protocol": "icmp", "icmp_type": 3});
    let refused = owner.post("/v2.0/mizar/trace", &json!({ "trace": error })).await?;
    assert!(refused.message().contains("icmp_type"), "{}", refused.message());
    for body in [json!({}), json!({"trace": good.clone(), "x": 1}), json!([]), json!({"trace": []})] {
        assert_eq!(owner.post("/v2.0/mizar/trace", &body).await?.status, 400, "{body}");
    }
    assert_eq!(owner.get("/v2.0/mizar/trace").await?.status, 405);
    Ok(())
}

#[tokio::test]
async fn only_the_owner_of_a_port_and_operators_trace_from_it() -> anyhow::Result<()> {
    let asking = Asking::start().await?;
    let (owner, other) = (asking.cloud.tenant("red", "member").await?, asking.cloud.tenant("blue", "member").await?);
    let (port, _) = port(&asking.cloud, &owner).await?;
    let body = json!({ "trace": to(&port) });
    assert_eq!(other.post("/v2.0/mizar/trace", &body).await?.fault(), (404, "PortNotFound"));
    assert_eq!(asking.cloud.stranger().post("/v2.0/mizar/trace", &body).await?.status, 401);
    assert_eq!(owner.post("/v2.0/mizar/trace", &body).await?.status, 200);
    Ok(())
}
