//! The flow log of a port, where the hosts are played.

use crate::seeing::{Asking, port, said};
use crate::support::id;
use mizar_wire::ask::{Answer, FlowLog, Question};
use mizar_wire::log::{Decider, Direction, Ended, Logged, Verdict};
use serde_json::{Value, json};
use uuid::Uuid;

fn logged(port: u32, end_ms: i64) -> Logged {
    Logged {
        port,
        start_ms: 1_700_000_000_123,
        end_ms,
        direction: Direction::Egress,
        source: "10.0.0.5".parse().expect("an address"),
        destination: "10.0.0.9".parse().expect("an address"),
        protocol: 6,
        source_port: 40_000,
        destination_port: 443,
        judged: 443,
        verdict: Verdict::Accept,
        reason: None,
        decided_by: Some(Decider::Port),
        rules: None,
        packets_out: 3,
        bytes_out: 180,
        packets_in: 2,
        bytes_in: 3_000,
        ended: Some(Ended::Closed),
    }
}

/// What somebody tried who was refused: a ping.
fn refused(port: u32, end_ms: i64) -> Logged {
    Logged {
        direction: Direction::Ingress,
        protocol: 1,
        judged: 0x0800,
        verdict: Verdict::Deny,
        reason: Some("refused".into()),
        decided_by: Some(Decider::Bouncer),
        rules: Some(vec![]),
        ended: Some(Ended::Denied),
        ..logged(port, end_ms)
    }
}

#[tokio::test]
async fn the_flow_log_of_a_port_is_what_its_host_and_its_bouncers_say_the_youngest_first() -> anyhow::Result<()> {
    let asking = Asking::start().await?;
    let maker = asking.cloud.tenant("red", "member").await?;
    let owner = asking.cloud.colleague(&maker, "looker", "reader").await?;
    let (port, hosts) = port(&asking.cloud, &maker).await?;
    let of: u32 = asking.cloud.rows("SELECT number FROM ports").await?[0].parse()?;
    let group = port["security_groups"][0].as_str().expect("the default group").to_owned();
    let of_group = format!(
        "SELECT id FROM security_group_rules WHERE direction = 'egress' AND security_group_id = '{group}' LIMIT 1"
    );
    let rules = asking.cloud.rows(&of_group).await?;
    let rule = Uuid::parse_str(&rules[0])?;
    asking.cloud.sql("UPDATE ports SET created_at = '2023-11-14T22:13:20Z'").await?;
    let asked = move |question: &Question| {
        let wanted = Question::FlowLog { ports: vec![of], since_ms: Some(1_700_000_000_000), limit: 3 };
        assert_eq!(*question, wanted);
    };
    let own = asking.host(hosts["h1"], move |question| {
        asked(&question);
        // A rule that nobody of the project knows is not named; nor is another port's flow told.
        let known = Logged { rules: Some(vec![rule, Uuid::nil()]), ..logged(of, 1_700_000_004_000) };
        let goes_on = Logged { ended: None, ..logged(of, 1_700_000_002_000) };
        // Nor one of a port that had its number before it was made.
        let former = Logged { start_ms: 1_699_999_990_000, ..logged(of, 1_700_000_004_000) };
        let records = vec![former, known, logged(of + 1, 1_700_000_003_000), goes_on, logged(of, 1_700_000_001_000)];
        Answer::FlowLog(FlowLog { records, left_out: 5 })
    });
    let bouncer = asking.host(hosts["h2"], move |question| {
        asked(&question);
        Answer::FlowLog(FlowLog { records: vec![refused(of, 1_700_000_003_000)], left_out: 0 })
    });
    let path = format!("/v2.0/mizar/ports/{}/flow-log", id(&port));
    let query = "?limit=3&since=2023-11-14T22:13:20Z";
    let log = said(&asking.at(&owner), &format!("{path}{query}"), "flow_log").await?;
    let role = |role: &str| json!({"role": role, "host": null, "error": null});
    assert_eq!((&log["port_id"], &log["hosts"]), (&port["id"], &json!([role("port"), role("bouncer")])));
    assert_eq!(log["left_out"], 6, "what hosts left out, and what the answer does");
    let records = log["records"].as_array().expect("a list");
    let ends: Vec<_> = records.iter().map(|record| (record["role"].as_str(), record["end"].as_str())).collect();
    let expected = [
        (Some("port"), Some("2023-11-14T22:13:24.000Z")),
        (Some("bouncer"), Some("2023-11-14T22:13:23.000Z")),
        (Some("port"), Some("2023-11-14T22:13:22.000Z")),
    ];
    assert_eq!(ends, expected);
    let first = json!({
        "port_id": port["id"], "record": "final", "role": "port", "host": null, "start": "2023-11-14T22:13:20.123Z",
        "end": "2023-11-14T22:13:24.000Z", "direction": "egress", "source": "10.0.0.5", "destination": "10.0.0.9",
        "protocol": 6, "source_port": 40_000, "destination_port": 443, "icmp_type": null, "icmp_code": null,
        "verdict": "accept", "reason": null, "decided_by": "port", "rules": [{"id": rule, "security_group_id": group}],
        "packets_out": 3, "bytes_out": 180, "packets_in": 2, "bytes_in": 3_000, "ended": "closed",
    });
    assert_eq!(records[0], first);
    let ping = &records[1];
    assert_eq!((&ping["icmp_type"], &ping["source_port"], &ping["rules"]), (&json!(8), &Value::Null, &json!([])));
    assert_eq!((&ping["verdict"], &ping["reason"]), (&json!("deny"), &json!("refused")));
    assert_eq!((&records[2]["record"], &records[2]["rules"]), (&json!("interim"), &Value::Null));
    let admin = said(&asking.at(&asking.cloud.admin().await?), &format!("{path}{query}"), "flow_log").await?;
    assert_eq!(admin["records"][1]["host"], "h2");
    [own, bouncer].iter().for_each(tokio::task::JoinHandle::abort);
    // Silence is told as such.
    let log = owner.get(&path).await?.ok(200)?["flow_log"].clone();
    assert!(log["hosts"][0]["error"].as_str().is_some_and(|error| error.contains("no hosts")), "{log}");
    assert_eq!((&log["records"], &log["left_out"]), (&json!([]), &json!(0)));
    Ok(())
}

#[tokio::test]
async fn the_flow_log_is_narrowed_and_paged_among_all_that_hosts_have() -> anyhow::Result<()> {
    let asking = Asking::start().await?;
    let owner = asking.cloud.tenant("red", "member").await?;
    let (port, hosts) = port(&asking.cloud, &owner).await?;
    let of: u32 = asking.cloud.rows("SELECT number FROM ports").await?[0].parse()?;
    asking.cloud.sql("UPDATE ports SET created_at = '2023-11-14T22:13:20Z'").await?;
    let at = |n: i64| 1_700_000_001_000 + n;
    let told = move |records: Vec<Logged>, left_out: u64| {
        move |question: Question| {
            let Question::FlowLog { limit, .. } = question else { panic!("{question:?}") };
            let all = records.len() as u64;
            let records: Vec<Logged> = records.iter().take(limit as usize).cloned().collect();
            let left_out = left_out + all - records.len() as u64;
            Answer::FlowLog(FlowLog { records, left_out })
        }
    };
    // The youngest first: three that the port opened, then two that it was refused for.
    let opened = [9, 8, 7].map(|n| Logged { source_port: 40_000 + n as u16, ..logged(of, at(n)) });
    let _own = asking.host(hosts["h1"], told(opened.into(), 0));
    let _bouncer = asking.host(hosts["h2"], told([refused(of, at(5)), refused(of, at(4))].into(), 0));
    let path = format!("/v2.0/mizar/ports/{}/flow-log", id(&port));
    let caller = asking.at(&owner);
    let ends = |log: &Value| -> Vec<String> {
        let records = log["records"].as_array().into_iter().flatten();
        records.filter_map(|one| one["end"].as_str()?.get(20..23).map(str::to_owned)).collect()
    };
    for (query, expected) in [
        ("limit=1&verdict=deny", vec!["005"]),
        ("verdict=accept", vec!["009", "008", "007"]),
        ("direction=ingress&protocol=icmp", vec!["005", "004"]),
        ("protocol=6&port_number=40008", vec!["008"]),
        ("remote_address=10.0.0.8/30&direction=egress", vec!["009", "008", "007"]),
        ("remote_address=10.0.0.5", vec!["005", "004"]),
        ("remote_address=10.0.0.1", vec![]),
    ] {
        let log = said(&caller, &format!("{path}?{query}"), "flow_log").await?;
        assert_eq!(ends(&log), expected, "{query}");
    }
    let (mut seen, mut query) = (Vec::new(), "limit=2".to_owned());
    loop {
        let log = said(&caller, &format!("{path}?{query}"), "flow_log").await?;
        seen.push(ends(&log));
        assert_eq!(log["left_out"].as_u64(), Some(5 - seen.concat().len() as u64), "{log}");
        let Some(marker) = log["next_marker"].as_str() else { break };
        query = format!("limit=2&marker={marker}");
    }
    assert_eq!(seen, [vec!["009", "008"], vec!["007", "005"], vec!["004"]]);
    Ok(())
}

#[tokio::test]
async fn the_flow_log_is_the_owners_and_its_parameters_are_read_strictly() -> anyhow::Result<()> {
    let asking = Asking::start().await?;
    let owner = asking.cloud.tenant("red", "member").await?;
    let (port, _) = port(&asking.cloud, &owner).await?;
    let path = format!("/v2.0/mizar/ports/{}/flow-log", id(&port));
    for (query, named) in [
        ("limit=0", "limit"),
        ("limit=many", "limit"),
        ("since=yesterday", "since"),
        ("since=2023-11-14", "since"),
        ("until=2023-11-14T22:13:20Z", "until"),
        ("verdict=maybe", "verdict"),
        ("direction=up", "direction"),
        ("protocol=none", "protocol"),
        ("remote_address=10.0.0.0/33", "remote_address"),
        ("port_number=65536", "port_number"),
        ("marker=youngest", "marker"),
        ("verdict=deny&verdict=accept", "verdict"),
    ] {
        let refused = owner.get(&format!("{path}?{query}")).await?;
        assert_eq!(refused.status, 400, "{query}");
        assert!(refused.body["NeutronError"]["message"].as_str().is_some_and(|text| text.contains(named)), "{query}");
    }
    // More than an answer has is as much as it has.
    owner.get(&format!("{path}?limit=1000000")).await?.ok(200)?;
    let other = asking.cloud.tenant("blue", "member").await?;
    assert_eq!(other.get(&path).await?.fault(), (404, "PortNotFound"));
    Ok(())
}
