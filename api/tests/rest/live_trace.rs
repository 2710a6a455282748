//! Following real packets, where the hosts are played: whom the API asks, and what it puts together of the answers.

use crate::seeing::{Asking, port};
use crate::support::{self, Client};
use crate::trace::{REQUEST, answer, look, rule, to};
use mizar_wire::ask::{Answer, Cause, Headers, Question};
use mizar_wire::live::{Came, Kind, Passed, Then, Watch};
use mizar_wire::trace::{self, Admission, Role};
use serde_json::{Value, json};
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU64, Ordering};

const VNI: u32 = 5000;

fn packet(protocol: u8) -> Headers {
    Headers {
        source: Ipv4Addr::new(10, 0, 0, 5).into(),
        destination: Ipv4Addr::new(10, 0, 0, 77).into(),
        protocol,
        source_port: 40_000,
        destination_port: 443,
    }
}

fn passed(serial: u64, at_us: i64, came: Came, then: Then) -> Passed {
    Passed { serial, at_us, age_ms: 0, packet: packet(6), number: 443, came, inline: false, then }
}

async fn ask(client: &Client, body: &Value) -> anyhow::Result<support::Answer> {
    client.post("/v2.0/mizar/live-trace", &json!({ "live_trace": body })).await
}

async fn live(client: &Client, body: &Value) -> anyhow::Result<Value> {
    Ok(ask(client, body).await?.ok(200)?["live_trace"].clone())
}

/// Underlay addresses of hosts by their numbers.
async fn underlay(asking: &Asking, number: u32) -> anyhow::Result<Ipv4Addr> {
    let rows = asking.cloud.rows(&format!("SELECT host(underlay) FROM hosts WHERE number = {number}")).await?;
    Ok(rows[0].parse()?)
}

#[tokio::test]
async fn a_packet_is_waited_for_and_then_followed_from_host_to_host() -> anyhow::Result<()> {
    let asking = Asking::start().await?;
    let owner = asking.cloud.tenant("red", "member").await?;
    let (port, hosts) = port(&asking.cloud, &owner).await?;
    let (own, foreign) = (rule(&owner).await?, rule(&asking.cloud.tenant("blue", "member").await?).await?);
    let number: u32 = asking.cloud.rows("SELECT number FROM ports").await?[0].parse()?;
    let (h1, h2, h3) = (hosts["h1"], hosts["h2"], hosts["h3"]);
    let (u1, u2, u3) = (underlay(&asking, h1).await?, underlay(&asking, h2).await?, underlay(&asking, h3).await?);
    let admission = Admission { vni: VNI, port: number, epoch: 1, mark: 0, reply_only: false };
    let asked = AtomicU64::new(0);
    let source = asking.host(h1, move |question| match question {
        Question::Watch(Watch {
            port,
            destination,
            protocol,
            destination_port,
            source: None,
            source_port: None,
            ..
        }) => {
            assert_eq!((port, destination.to_string().as_str()), (number, "10.0.0.77"));
            assert_eq!((protocol, destination_port), (Some(6), Some(443)));
            // It comes when the third question does.
            let third = asked.fetch_add(1, Ordering::Relaxed) % 3 == 2;
            Answer::Watch(third.then(|| passed(4, 1_000_000, Came::Sent, Then::Ask { host: u2, request: REQUEST })))
        }
        Question::Trace(question) => {
            assert_eq!(question.at, trace::At::Leave { port: number, identity: None, tries: 1 });
            answer(look("POLICY", vec![own]), trace::Then::Ask { host: h2, role: Role::Bouncer, request: REQUEST })
        }
        other => panic!("{other:?}"),
    });
    let came = Came::From { host: u1, vni: VNI, kind: Kind::Request };
    let late = AtomicU64::new(0);
    let judge = asking.host(h2, move |question| match question {
        Question::Followed(followed) => {
            assert_eq!(followed.packet, packet(6));
            let other = passed(8, 0, Came::From { host: u3, vni: VNI, kind: Kind::Request }, Then::Deliver { port: 1 });
            let it = passed(9, 1_000_150, came, Then::Admit { host: u3, admission });
            // The host hears of it a little later than the packet passes.
            let there = late.fetch_add(1, Ordering::Relaxed) % 2 == 1;
            Answer::Followed(if there { vec![other, it] } else { vec![other] })
        }
        Question::Trace(question) => {
            assert_eq!(question.at, trace::At::Carry(REQUEST));
            answer(look("BOUNCE", vec![foreign]), trace::Then::Admit { host: h3, admission })
        }
        other => panic!("{other:?}"),
    });
    let end = asking.host(h3, move |question| match question {
        Question::Followed(_) => {
            let came = Came::From { host: u2, vni: VNI, kind: Kind::Admission };
            Answer::Followed(vec![passed(1, 999_900, came, Then::Deliver { port: number })])
        }
        // By now it would do something else: its reasons are those of another moment.
        Question::Trace(_) => answer(look("EPOCHS", vec![]), trace::Then::Return),
        other => panic!("{other:?}"),
    });
    let got = live(&asking.at(&owner), &to(&port)).await?;
    assert_eq!((&got["verdict"], &got["destination_port_id"]), (&json!("delivered"), &port["id"]), "{got}");
    assert_eq!(
        (&got["source"], &got["source_port"], &got["icmp_type"]),
        (&json!("10.0.0.5"), &json!(40_000), &Value::Null)
    );
    let hops = got["hops"].as_array().expect("a list");
    let roles: Vec<_> = hops.iter().map(|hop| (hop["role"].as_str(), hop["since_us"].as_i64())).collect();
    assert_eq!(roles, [(Some("source"), Some(0)), (Some("bouncer"), Some(150)), (Some("destination"), Some(-100))]);
    assert!(hops.iter().all(|hop| hop["host"].is_null()), "a tenant is told of hosts: {got}");
    assert_eq!(hops[0]["at"], "1970-01-01T00:00:01.000Z");
    assert_eq!((&hops[0]["looks"][0]["rules"][0]["id"], &hops[0]["looks"][0]["entry"]), (&json!(own), &Value::Null));
    assert_eq!((&hops[1]["looks"][0]["rules"], &hops[2]["looks"]), (&json!([]), &json!([])), "{got}");
    assert!(got["receiver_sees"].as_str().is_some_and(|sees| sees.contains("10.0.0.5")), "{got}");
    let admin = live(&asking.at(&asking.cloud.admin().await?), &to(&port)).await?;
    assert_eq!(
        (&admin["hops"][1]["host"], &admin["hops"][1]["looks"][0]["rules"][0]["id"]),
        (&json!("h2"), &json!(foreign))
    );
    [source, judge, end].iter().for_each(|task| task.abort());
    Ok(())
}

#[tokio::test]
async fn one_that_is_lost_or_never_comes_is_told_with_what_to_do() -> anyhow::Result<()> {
    let asking = Asking::start().await?;
    let owner = asking.cloud.tenant("red", "reader").await?;
    let maker = asking.cloud.colleague(&owner, "maker", "member").await?;
    let (port, hosts) = port(&asking.cloud, &maker).await?;
    let u2 = underlay(&asking, hosts["h2"]).await?;
    let source = asking.host(hosts["h1"], move |question| match question {
        Question::Watch(Watch { protocol: Some(17), .. }) => Answer::refused("the port is being watched"),
        Question::Watch(Watch { protocol: Some(1), .. }) => {
            let sent = passed(1, 0, Came::Sent, Then::Direct { host: u2, vni: VNI });
            Answer::Watch(Some(Passed { packet: packet(1), number: 8 << 8, ..sent }))
        }
        Question::Watch(Watch { within_ms, .. }) => {
            assert!(within_ms <= 1_000, "{within_ms}");
            Answer::Watch(None)
        }
        _ => Answer::refused("it does not say"),
    });
    let lost = asking.host(hosts["h2"], |_| Answer::Followed(vec![]));
    let client = asking.at(&owner);
    let base = json!({"port_id": port["id"], "destination": "10.0.0.77", "wait_seconds": 1});
    let with = |more: Value| {
        let mut body = base.clone();
        body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        body
    };
    let nothing = live(&client, &base).await?;
    assert_eq!(
        (&nothing["verdict"], &nothing["hops"], &nothing["protocol"]),
        (&json!("not_seen"), &json!([]), &Value::Null)
    );
    assert!(nothing["about"].as_str().is_some_and(|about| about.contains("ping 10.0.0.77")), "{nothing}");
    let gone = live(&client, &with(json!({"protocol": "icmp", "icmp_type": 8}))).await?;
    assert_eq!((&gone["verdict"], gone["hops"].as_array().map(Vec::len)), (&json!("unknown"), Some(1)), "{gone}");
    assert!(gone["about"].as_str().is_some_and(|about| about.contains("lost between")), "{gone}");
    assert_eq!((&gone["icmp_type"], &gone["destination_port"]), (&json!(8), &Value::Null));
    lost.abort();
    let silent = live(&client, &with(json!({"protocol": "icmp"}))).await?;
    assert_eq!(silent["verdict"], "unknown");
    assert!(silent["error"].as_str().is_some_and(|error| error.contains("did not answer")), "{silent}");
    let refused = ask(&client, &with(json!({"protocol": "udp"}))).await?;
    assert_eq!(refused.fault(), (409, "LiveTraceRefused"));
    assert!(refused.message().contains("the port is being watched"), "{}", refused.message());
    source.abort();
    let nobody = live(&client, &base).await?;
    assert_eq!((&nobody["verdict"], &nobody["hops"]), (&json!("unknown"), &json!([])));
    assert!(nobody["error"].as_str().is_some_and(|error| error.contains("did not answer")), "{nobody}");
    let unbound = maker.make("port", json!({"network_id": port["network_id"]})).await?;
    let idle = live(&client, &with(json!({"port_id": unbound["id"]}))).await?;
    assert_eq!((&idle["verdict"], &idle["reason"]), (&json!("dropped"), &json!("not_bound")));
    Ok(())
}

#[tokio::test]
async fn who_waits_is_answered_in_time_with_what_is_known_however_slow_the_hosts_are() -> anyhow::Result<()> {
    let asking = Asking::start().await?;
    let owner = asking.cloud.tenant("red", "member").await?;
    let (port, hosts) = port(&asking.cloud, &owner).await?;
    let mut at = Vec::new();
    for host in ["h1", "h2", "h3"] {
        at.push(underlay(&asking, hosts[host]).await?);
    }
    let (u1, u2, u3) = (at[0], at[1], at[2]);
    let source = asking.host(hosts["h1"], move |question| match question {
        Question::Watch(_) => {
            Answer::Watch(Some(passed(1, 1_000_000, Came::Sent, Then::Ask { host: u2, request: REQUEST })))
        }
        _ => Answer::refused("it does not say"),
    });
    // Each has it from the other, over and over, and says so a second later than it might.
    let slow = |host: &str, here: Ipv4Addr, other: Ipv4Addr| {
        let asked = AtomicU64::new(0);
        asking.host(hosts[host], move |question| match question {
            Question::Followed(_) => {
                let turn = asked.fetch_add(1, Ordering::Relaxed);
                let to = || Then::Ask { host: other, request: REQUEST };
                let came = |from| Came::From { host: from, vni: VNI, kind: Kind::Request };
                let times = (0..turn / 6).map(|time| {
                    let from = if time == 0 && here == u2 { u1 } else { other };
                    passed(time + 1, 1_000_000, came(from), to())
                });
                Answer::Followed(times.collect())
            }
            _ => Answer::refused("it does not say"),
        })
    };
    let (two, three) = (slow("h2", u2, u3), slow("h3", u3, u2));
    let began = std::time::Instant::now();
    let got = live(&asking.at(&owner), &to(&port)).await?;
    assert!(began.elapsed().as_secs() < 12, "{:?}", began.elapsed());
    assert_eq!(got["verdict"], "unknown", "{got}");
    assert!(got["about"].as_str().is_some_and(|about| about.contains("within 5 s")), "{got}");
    let hops = got["hops"].as_array().map_or(0, Vec::len);
    assert!((2..8).contains(&hops), "{got}");
    [source, two, three].iter().for_each(|task| task.abort());
    Ok(())
}

#[tokio::test]
async fn a_host_that_does_not_wait_for_a_packet_is_refused_by_its_cause() -> anyhow::Result<()> {
    let asking = Asking::start().await?;
    let owner = asking.cloud.tenant("red", "member").await?;
    let (port, hosts) = port(&asking.cloud, &owner).await?;
    let causes = [
        (Some(Cause::Conflict), (409, "LiveTraceRefused")),
        (Some(Cause::Limit), (409, "LiveTraceLimit")),
        (Some(Cause::Busy), (503, "LiveTraceUnavailable")),
        (Some(Cause::Failed), (503, "LiveTraceUnavailable")),
        (Some(Cause::Absent), (404, "LiveTracePortNotAttached")),
        (None, (409, "LiveTraceRefused")),
    ];
    let turn = AtomicU64::new(0);
    let host = asking.host(hosts["h1"], move |_| {
        let (cause, _) = causes[turn.fetch_add(1, Ordering::Relaxed) as usize];
        Answer::Refused { reason: "it says why".into(), cause }
    });
    for (cause, fault) in causes {
        let refused = ask(&asking.at(&owner), &to(&port)).await?;
        assert_eq!(refused.fault(), fault, "{cause:?}");
        assert!(refused.message().contains("it says why"), "{}", refused.message());
    }
    host.abort();
    Ok(())
}

#[tokio::test]
async fn one_that_makes_no_sense_names_the_attribute_and_only_owners_and_operators_may() -> anyhow::Result<()> {
    let asking = Asking::start().await?;
    let (owner, other) = (asking.cloud.tenant("red", "member").await?, asking.cloud.tenant("blue", "member").await?);
    let (port, _) = port(&asking.cloud, &owner).await?;
    for (change, named) in [
        (json!({"port_id": null}), "port_id"),
        (json!({"destination": "2001:db8::1"}), "destination"),
        (json!({"protocol": "quic"}), "protocol"),
        (json!({"protocol": null}), "destination_port"),
        (json!({"protocol": "gre"}), "destination_port"),
        (json!({"destination_port": 0}), "destination_port"),
        (json!({"source_port": 65536}), "source_port"),
        (json!({"source": "10.0.0.0/24"}), "source"),
        (json!({"icmp_type": 8}), "icmp_type"),
        (json!({"protocol": "icmp", "destination_port": null, "icmp_code": 0}), "icmp_code"),
        (json!({"wait_seconds": 0}), "wait_seconds"),
        (json!({"wait_seconds": 51}), "wait_seconds"),
        (json!({"colour": "red"}), "colour"),
    ] {
        let mut body = to(&port);
        let body_of = body.as_object_mut().expect("an object");
        body_of.extend(change.as_object().expect("an object").clone());
        if named != "port_id" {
            body_of.retain(|_, value| !value.is_null());
        }
        let refused = ask(&owner, &body).await?;
        assert_eq!(refused.fault(), (400, "HTTPBadRequest"), "{change}");
        assert!(refused.message().contains(named), "{change}: {}", refused.message());
    }
    assert_eq!(ask(&other, &to(&port)).await?.fault(), (404, "PortNotFound"));
    assert_eq!(ask(&asking.cloud.stranger(), &to(&port)).await?.status, 401);
    // No host answers this server: that is no failure of the request.
    assert_eq!(live(&owner, &to(&port)).await?["verdict"], "unknown");
    Ok(())
}
