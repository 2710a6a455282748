//! Flows of ports, and what other rules of a group would do to them, where the hosts are played.

use crate::seeing::{Asking, port};
use crate::support::{Client, id};
use mizar_wire::ask::{Answer, Dropped, Flow, FlowState, Flows, Headers, Question, Sample};
use serde_json::{Value, json};

/// A flow that the other side opened to this port of the port's.
fn entered(port: u32, from: &str, local_port: u16) -> Flow {
    Flow {
        port,
        local: "10.0.0.5".parse().expect("an address"),
        remote: from.parse().expect("an address"),
        protocol: 6,
        local_port,
        remote_port: 40_000,
        state: FlowState::Established,
        egress: None,
        ingress: Some(local_port),
        peer: 0,
        idle_s: 1,
    }
}

/// One that the port opened.
fn left(port: u32, to: &str, remote_port: u16) -> Flow {
    let flow = entered(port, to, 40_000);
    Flow { remote_port, ingress: None, egress: Some(remote_port), ..flow }
}

fn told(flows: Vec<Flow>) -> Answer {
    Answer::Flows(Flows { flows, left_out: 0 })
}

async fn number(asking: &Asking, port: &Value) -> anyhow::Result<u32> {
    let rows = asking.cloud.rows(&format!("SELECT number FROM ports WHERE id = '{}'", id(port))).await?;
    Ok(rows[0].parse()?)
}

async fn preview(client: &Client, group: &Value, change: Value) -> anyhow::Result<Value> {
    let path = format!("/v2.0/security-groups/{}/preview", id(group));
    Ok(client.post(&path, &json!({ "preview": change })).await?.ok(200)?["preview"].clone())
}

/// A group, and the port in it alone.
async fn in_group(owner: &Client, port: &Value) -> anyhow::Result<Value> {
    let group = owner.post("/v2.0/security-groups", &json!({"security_group": {"name": "web"}})).await?.ok(201)?;
    let group = group["security_group"].clone();
    owner.update("port", port, json!({"security_groups": [group["id"]]})).await?.ok(200)?;
    Ok(group)
}

async fn rule(owner: &Client, group: &Value, mut rule: Value) -> anyhow::Result<Value> {
    rule["security_group_id"] = group["id"].clone();
    let made = owner.post("/v2.0/security-group-rules", &json!({"security_group_rule": rule})).await?.ok(201)?;
    Ok(made["security_group_rule"]["id"].clone())
}

fn tcp(port: u16) -> Value {
    json!({"direction": "ingress", "protocol": "tcp", "port_range_min": port, "port_range_max": port})
}

/// The far end and port of flows that would be cut.
fn cut(preview: &Value) -> Vec<(&str, u64)> {
    let flows = preview["cut"].as_array().expect("a list").iter();
    let end = |flow: &Value| {
        if flow["opened_by"] == "peer" { flow["local_port"].as_u64() } else { flow["remote_port"].as_u64() }
    };
    flows.map(|flow| (flow["remote_address"].as_str().expect("an address"), end(flow).expect("a port"))).collect()
}

#[tokio::test]
async fn flows_of_a_port_are_what_its_own_host_says() -> anyhow::Result<()> {
    let asking = Asking::start().await?;
    let maker = asking.cloud.tenant("red", "member").await?;
    let owner = asking.cloud.colleague(&maker, "looker", "reader").await?;
    let (port, hosts) = port(&asking.cloud, &maker).await?;
    let of = number(&asking, &port).await?;
    let at_work = asking.host(hosts["h1"], move |question| {
        assert_eq!(question, Question::Flows { ports: vec![of] });
        let icmp = Flow { protocol: 1, egress: Some(0x0803), ..left(of, "10.0.0.7", 78) };
        // What it was not asked about is not passed on.
        Answer::Flows(Flows {
            flows: vec![entered(of, "10.0.0.9", 443), icmp, entered(of + 1, "10.0.0.9", 1)],
            left_out: 5,
        })
    });
    let path = format!("/v2.0/mizar/ports/{}/flows", id(&port));
    let flows = asking.at(&owner).get(&path).await?.ok(200)?["flows"].clone();
    assert_eq!((&flows["port_id"], &flows["host"], &flows["error"]), (&port["id"], &Value::Null, &Value::Null));
    assert_eq!(
        (&flows["bound"], &flows["left_out"], flows["flows"].as_array().map(Vec::len)),
        (&json!(true), &json!(5), Some(2))
    );
    let https = json!({
        "port_id": port["id"], "opened_by": "peer", "state": "established", "protocol": 6, "local_address": "10.0.0.5",
        "local_port": 443, "remote_address": "10.0.0.9", "remote_port": 40_000, "icmp_type": null, "icmp_code": null, "idle_s": 1,
    });
    assert_eq!(flows["flows"][0], https);
    let ping = &flows["flows"][1];
    assert_eq!((&ping["opened_by"], &ping["icmp_type"], &ping["icmp_code"]), (&json!("port"), &json!(8), &json!(3)));
    assert_eq!((&ping["local_port"], &ping["remote_port"]), (&Value::Null, &Value::Null));
    let admin = asking.at(&asking.cloud.admin().await?).get(&path).await?.ok(200)?;
    assert_eq!(admin["flows"]["host"], "h1");
    at_work.abort();
    // Silence is told as such, and so is that no host has the port.
    let flows = owner.get(&path).await?.ok(200)?["flows"].clone();
    assert!(flows["error"].as_str().is_some_and(|error| error.contains("no hosts")), "{flows}");
    let unbound = maker.make("port", json!({"network_id": port["network_id"]})).await?;
    let flows = owner.get(&format!("/v2.0/mizar/ports/{}/flows", id(&unbound))).await?.ok(200)?["flows"].clone();
    assert_eq!((&flows["bound"], &flows["error"], &flows["flows"]), (&json!(false), &Value::Null, &json!([])));
    let other = asking.cloud.tenant("blue", "member").await?;
    assert_eq!(other.get(&path).await?.fault(), (404, "PortNotFound"));
    Ok(())
}

#[tokio::test]
async fn a_preview_tells_the_flows_that_a_change_of_rules_would_cut_and_no_others() -> anyhow::Result<()> {
    let asking = Asking::start().await?;
    let owner = asking.cloud.tenant("red", "member").await?;
    let (port, hosts) = port(&asking.cloud, &owner).await?;
    let group = in_group(&owner, &port).await?;
    let (https, ssh) = (rule(&owner, &group, tcp(443)).await?, rule(&owner, &group, tcp(22)).await?);
    let of = number(&asking, &port).await?;
    let at_work = asking.host(hosts["h1"], move |question| match question {
        Question::Flows { ports } => {
            assert_eq!(ports, [of]);
            let both = Flow { egress: Some(22), ..entered(of, "10.0.0.8", 22) };
            // One that no rule allows is cut already; one that nobody is known to have opened is no rule's.
            let unknown = Flow { ingress: None, ..entered(of, "10.0.0.9", 22) };
            told(vec![
                entered(of, "10.0.0.9", 443),
                entered(of, "10.0.0.9", 22),
                entered(of, "192.0.2.1", 22),
                entered(of, "10.0.0.9", 8080),
                left(of, "198.51.100.1", 53),
                both,
                unknown,
                entered(of + 1, "10.0.0.9", 443),
            ])
        }
        Question::Drops { .. } => Answer::Drops(vec![]),
        other => panic!("{other:?}"),
    });
    let bouncer = asking.host(hosts["h2"], |question| match question {
        Question::Drops { .. } => Answer::Drops(vec![]),
        other => panic!("a bouncer has no flows of the port: {other:?}"),
    });
    let red = asking.at(&owner);
    let without = preview(&red, &group, json!({"remove": [ssh]})).await?;
    assert_eq!(cut(&without), [("10.0.0.9", 22), ("192.0.2.1", 22)], "{without}");
    assert_eq!((&without["ports"], &without["flows"], &without["allowed"]), (&json!(1), &json!(7), &json!([])));
    assert_eq!((&without["next_marker"], &without["of_all_projects"]), (&Value::Null, &json!(false)));
    let hosts = without["hosts"].as_array().expect("a list");
    assert!(
        hosts.len() == 2 && hosts.iter().all(|host| host["error"].is_null() && host["host"].is_null()),
        "{without}"
    );
    // A narrower rule in its place keeps whom it names.
    let mut narrow = tcp(22);
    narrow["remote_ip_prefix"] = json!("10.0.0.0/24");
    let narrowed = preview(&red, &group, json!({"remove": [ssh], "add": [narrow]})).await?;
    assert_eq!(cut(&narrowed), [("192.0.2.1", 22)]);
    // The whole list at once: then what is not said goes, egress too.
    let whole = preview(&red, &group, json!({"rules": [tcp(443)]})).await?;
    assert_eq!(
        cut(&whole),
        [("10.0.0.9", 22), ("192.0.2.1", 22), ("198.51.100.1", 53), ("10.0.0.8", 40_000)],
        "{whole}"
    );
    assert_eq!(cut(&preview(&red, &group, json!({"rules": []})).await?).len(), 5);
    // Another group of the port lets the same pass.
    let second = owner.post("/v2.0/security-groups", &json!({"security_group": {"name": "second"}})).await?.ok(201)?;
    let second = second["security_group"].clone();
    rule(&owner, &second, tcp(22)).await?;
    owner.update("port", &port, json!({"security_groups": [group["id"], second["id"]]})).await?.ok(200)?;
    assert_eq!(cut(&preview(&red, &group, json!({"remove": [ssh]})).await?), []);
    assert_eq!(cut(&preview(&red, &group, json!({"remove": [https]})).await?), [("10.0.0.9", 443)]);
    // Nothing was changed.
    let there = owner.get(&format!("/v2.0/security-groups/{}", id(&group))).await?.ok(200)?;
    assert_eq!(there["security_group"]["security_group_rules"].as_array().map(Vec::len), Some(4));
    at_work.abort();
    bouncer.abort();
    // Whoever is silent is named, with the ports that he was asked about, in the time that was given.
    let body = json!({"preview": {"remove": [ssh], "wait_seconds": 1}});
    let silent = red.post(&format!("/v2.0/security-groups/{}/preview", id(&group)), &body).await?.ok(200)?;
    let hosts = silent["preview"]["hosts"].as_array().expect("a list");
    let is_silent = |host: &Value| host["error"].as_str().is_some_and(|error| error.contains("time of this request"));
    assert!(hosts.len() == 2 && hosts.iter().all(is_silent), "{silent}");
    assert!(hosts.iter().all(|host| host["ports"] == json!([port["id"]])), "{silent}");
    Ok(())
}

#[tokio::test]
async fn of_stateless_groups_a_flow_is_cut_that_loses_either_direction() -> anyhow::Result<()> {
    let asking = Asking::start().await?;
    let owner = asking.cloud.tenant("red", "member").await?;
    let (port, hosts) = port(&asking.cloud, &owner).await?;
    let made = json!({"security_group": {"name": "web", "stateful": false}});
    let group = owner.post("/v2.0/security-groups", &made).await?.ok(201)?["security_group"].clone();
    owner.update("port", &port, json!({"security_groups": [group["id"]]})).await?.ok(200)?;
    let https = rule(&owner, &group, tcp(443)).await?;
    let answers = json!({"direction": "egress", "protocol": "tcp", "port_range_min": 40_000, "port_range_max": 40_000});
    rule(&owner, &group, answers.clone()).await?;
    let out = group["security_group_rules"].as_array().expect("a list").iter();
    let out: Vec<Value> = out.map(|rule| rule["id"].clone()).collect();
    let of = number(&asking, &port).await?;
    let at_work = asking.host(hosts["h1"], move |question| match question {
        Question::Flows { .. } => {
            let answered = Flow { egress: Some(40_000), ..entered(of, "10.0.0.9", 443) };
            told(vec![answered, entered(of, "10.0.0.8", 443), left(of, "10.0.0.7", 53)])
        }
        _ => Answer::Drops(vec![]),
    });
    let bouncer = asking.host(hosts["h2"], |_| Answer::Drops(vec![]));
    let red = asking.at(&owner);
    let far = async |change: Value| -> anyhow::Result<Vec<String>> {
        let preview = preview(&red, &group, change).await?;
        let cut = preview["cut"].as_array().expect("a list").iter();
        Ok(cut.map(|flow| flow["remote_address"].as_str().expect("an address").to_owned()).collect())
    };
    assert_eq!(far(json!({"remove": [https]})).await?, ["10.0.0.9", "10.0.0.8"]);
    // The rule for answers is left, and then it is not.
    assert_eq!(far(json!({"remove": out})).await?, ["10.0.0.7"]);
    assert_eq!(far(json!({"rules": [tcp(443)]})).await?, ["10.0.0.9", "10.0.0.7"]);
    assert_eq!(far(json!({"rules": [tcp(443), answers]})).await?, ["10.0.0.7"]);
    at_work.abort();
    bouncer.abort();
    Ok(())
}

#[tokio::test]
async fn a_preview_knows_who_is_in_a_remote_group_by_his_set_and_by_his_address() -> anyhow::Result<()> {
    let asking = Asking::start().await?;
    let owner = asking.cloud.tenant("red", "member").await?;
    let (port, hosts) = port(&asking.cloud, &owner).await?;
    let group = in_group(&owner, &port).await?;
    let friends =
        owner.post("/v2.0/security-groups", &json!({"security_group": {"name": "friends"}})).await?.ok(201)?;
    let friends = friends["security_group"].clone();
    let peer = json!({"network_id": port["network_id"], "security_groups": [friends["id"]]});
    let peer = owner.make("port", peer).await?;
    let stranger = owner.make("port", json!({"network_id": port["network_id"]})).await?;
    let at = |port: &Value| port["fixed_ips"][0]["ip_address"].as_str().expect("an address").to_owned();
    let (of_peer, of_stranger) = (at(&peer), at(&stranger));
    let set = asking.cloud.rows(&format!("SELECT group_set FROM ports WHERE id = '{}'", id(&peer))).await?;
    let set: u32 = set[0].parse()?;
    let open = rule(&owner, &group, tcp(443)).await?;
    let of = number(&asking, &port).await?;
    let (known, unknown) = (of_peer.clone(), of_stranger.clone());
    let at_work = asking.host(hosts["h1"], move |question| match question {
        Question::Flows { .. } => told(vec![
            entered(of, &known, 443),
            entered(of, &unknown, 443),
            // From an address that is not its own, with the set that it showed.
            Flow { peer: set, ..entered(of, "192.0.2.77", 443) },
        ]),
        _ => Answer::Drops(vec![]),
    });
    let bouncer = asking.host(hosts["h2"], |_| Answer::Drops(vec![]));
    let mut only = tcp(443);
    only["remote_group_id"] = friends["id"].clone();
    let change = json!({"remove": [open], "add": [only]});
    let found = preview(&asking.at(&owner), &group, change.clone()).await?;
    assert_eq!(cut(&found), [(of_stranger.as_str(), 443)], "{found}");
    // A new rule may name an address group that none named before.
    let listed = json!({"address_group": {"addresses": [format!("{of_peer}/32"), "192.0.2.77/32"]}});
    let listed = owner.post("/v2.0/address-groups", &listed).await?.ok(201)?["address_group"]["id"].clone();
    let mut by_address = tcp(443);
    by_address["remote_address_group_id"] = listed;
    let found = preview(&asking.at(&owner), &group, json!({"remove": [open], "add": [by_address]})).await?;
    assert_eq!(cut(&found), [(of_stranger.as_str(), 443)], "{found}");
    at_work.abort();
    bouncer.abort();
    Ok(())
}

#[tokio::test]
async fn a_preview_tells_which_refused_packets_would_pass() -> anyhow::Result<()> {
    let asking = Asking::start().await?;
    let owner = asking.cloud.tenant("red", "member").await?;
    let (port, hosts) = port(&asking.cloud, &owner).await?;
    let group = in_group(&owner, &port).await?;
    let of = number(&asking, &port).await?;
    let own = crate::support::address(&port);
    let sample = move |protocol: u8, ports: (u16, u16)| Sample {
        at_ms: 1_700_000_000_123,
        packet: Some(Headers {
            source: "10.0.0.9".parse().expect("an address"),
            destination: own.into(),
            protocol,
            source_port: ports.0,
            destination_port: ports.1,
        }),
    };
    let dropped = move |reason: &str, samples: Vec<Sample>| Dropped {
        port: of,
        reason: reason.into(),
        about: String::new(),
        packets: 9,
        bytes: 540,
        samples,
    };
    let at_work = asking.host(hosts["h1"], |question| match question {
        Question::Flows { .. } => told(vec![]),
        _ => Answer::Drops(vec![]),
    });
    let bouncer = asking.host(hosts["h2"], move |_| {
        let refused = vec![
            sample(6, (40_000, 8080)),
            sample(6, (40_000, 9090)),
            sample(1, (77, 78)),
            Sample { at_ms: 1, packet: None },
        ];
        // What was dropped for another reason no rule would let pass.
        Answer::Drops(vec![dropped("refused", refused), dropped("spoof", vec![sample(6, (40_000, 8080))])])
    });
    let allowed = async |add: Value| -> anyhow::Result<Vec<(Value, Value)>> {
        let found = preview(&asking.at(&owner), &group, json!({"add": [add]})).await?;
        let list = found["allowed"].as_array().expect("a list");
        assert!(list.iter().all(|one| one["direction"] == "ingress" && one["reason"] == "refused"), "{found}");
        Ok(list.iter().map(|one| (one["protocol"].clone(), one["destination_port"].clone())).collect())
    };
    assert_eq!(allowed(tcp(8080)).await?, [(json!(6), json!(8080))]);
    assert_eq!(allowed(tcp(81)).await?, []);
    let ping = json!({"direction": "ingress", "protocol": "icmp", "port_range_min": 8});
    assert_eq!(allowed(ping).await?, [(json!(1), json!(78))]);
    assert_eq!(allowed(json!({"direction": "egress", "protocol": "udp"})).await?, []);
    at_work.abort();
    bouncer.abort();
    Ok(())
}

#[tokio::test]
async fn a_preview_is_for_whose_group_it_is_and_says_what_is_wrong_with_a_change() -> anyhow::Result<()> {
    let asking = Asking::start().await?;
    let (owner, other) = (asking.cloud.tenant("red", "member").await?, asking.cloud.tenant("blue", "member").await?);
    let group = owner.post("/v2.0/security-groups", &json!({"security_group": {"name": "web"}})).await?.ok(201)?;
    let group = group["security_group"].clone();
    let path = format!("/v2.0/security-groups/{}/preview", id(&group));
    let ask = async |client: &Client, change: Value| client.post(&path, &json!({ "preview": change })).await;
    assert_eq!(ask(&other, json!({"rules": []})).await?.fault(), (404, "SecurityGroupNotFound"));
    owner.share("security_group", &group, &other.project).await?;
    assert_eq!(ask(&other, json!({"rules": []})).await?.fault(), (403, "PolicyNotAuthorized"));
    let reader = asking.cloud.colleague(&owner, "looker", "reader").await?;
    assert_eq!(ask(&reader, json!({"rules": []})).await?.ok(200)?["preview"]["ports"], 0);
    let foreign = other.post("/v2.0/security-groups", &json!({"security_group": {"name": "hidden"}})).await?.ok(201)?;
    let mut hidden = tcp(22);
    hidden["remote_group_id"] = foreign["security_group"]["id"].clone();
    assert_eq!(ask(&owner, json!({"add": [hidden]})).await?.fault(), (404, "SecurityGroupNotFound"));
    let unknown = uuid::Uuid::new_v4();
    for (change, names) in [
        (json!({}), "'rules'"),
        (json!({"rules": [], "add": [tcp(22)]}), "rules"),
        (json!({"remove": [unknown]}), "remove"),
        (json!({"add": [{"direction": "up"}]}), "direction"),
        (json!({"add": [{"protocol": "tcp"}]}), "direction"),
        (json!({"add": [{"direction": "ingress", "port": 22}]}), "port"),
        (json!({"add": ["tcp"]}), "add"),
        (json!({"add": [], "limit": 0}), "limit"),
        (json!({"add": [], "limit": 101}), "limit"),
        (json!({"add": [], "hosts": []}), "hosts"),
        (json!({"add": [], "wait_seconds": 11}), "wait_seconds"),
        (json!({"add": vec![tcp(22); 1_001]}), "add"),
    ] {
        let refused = ask(&owner, change.clone()).await?;
        assert!(refused.status == 400 && refused.message().contains(names), "{change}: {}", refused.message());
    }
    Ok(())
}
