//! A deployment: its API, placement, hosts, roles and ports.

use super::Check;
use crate::client::{Api, refused_status};
use crate::command::failure::{Exit, exit_of};
use crate::command::render::cell;
use crate::config::{self, Choice, Surroundings};
use anyhow::Result;
use mizar_abi::MTU_OVERHEAD;
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;

/// A heartbeat comes every few seconds; the lease ends at 30.
const LATE: i64 = 10;
/// What is named one by one, before it is only counted.
const NAMED: usize = 5;

/// Everything about the deployment that these credentials show.
pub fn checks(choice: &Choice, around: &Surroundings) -> Result<Vec<Check>> {
    let found = config::find(choice, around)?;
    let mut checks = vec![Check::ok("configuration", format!("{}: {}", found.source, found.access.credentials.who()))];
    let api = Api::at(found.access)?;
    let network = match api.network_url() {
        Ok(url) => url,
        Err(error) => {
            checks.push(judge_sign_in(&error, &api.access().identity));
            if refused_status(&error).is_some_and(|status| status >= 500) {
                // Whoever refuses to serve may say which part of it fails.
                checks.push(ready(&api, &api.access().identity));
            }
            return Ok(checks);
        }
    };
    checks.push(Check::ok("sign-in", format!("accepted; the network service is at {network}")));
    checks.push(ready(&api, &network));
    // What was seen before something failed is worth as much as that.
    if let Err(error) = operators(&api, &mut checks) {
        checks.push(Check::fail("API", format!("{error:#}"), "the API's log says why it does not answer that"));
    }
    Ok(checks)
}

/// What only operators see.
fn operators(api: &Api, checks: &mut Vec<Check>) -> Result<()> {
    let asked = api.get("/v2.0/mizar/hosts");
    if asked.as_ref().err().and_then(refused_status) == Some(403) {
        checks.push(Check::warn(
            "hosts",
            "these credentials do not show them",
            "use an administrator's to see hosts and roles",
        ));
        return Ok(());
    }
    let hosts = asked?["hosts"].as_array().cloned().unwrap_or_default();
    checks.push(placement(&api.get("/v2.0/mizar/placement")?["placement"]));
    checks.extend(judge_hosts(&hosts));
    checks.push(versions(&hosts, env!("CARGO_PKG_VERSION")));
    let widest = api.get("/v2.0/networks?sort_key=mtu&sort_dir=desc&limit=1")?;
    checks.push(mtu(&hosts, &widest["networks"][0]));
    checks.push(roles(api.get("/v2.0/mizar/roles")?["roles"].as_array().map(Vec::as_slice).unwrap_or_default()));
    let broken = api.get("/v2.0/ports?status=ERROR&limit=100")?["ports"].as_array().cloned().unwrap_or_default();
    checks.push(ports(&broken));
    Ok(())
}

/// Whoever does not answer is told of other things than whoever does not believe.
fn judge_sign_in(error: &anyhow::Error, identity: &str) -> Check {
    let (seen, status) = (format!("{error:#}"), refused_status(error));
    match (exit_of(error), status) {
        (Exit::Unauthenticated, _) => Check::fail("sign-in", seen, "look at user, password and project of the cloud"),
        (_, Some(429)) => Check::fail("sign-in", seen, "too many logins from here: wait a minute"),
        (Exit::Unreachable, Some(_)) => {
            Check::fail("sign-in", seen, "the service is there and cannot serve: its database is the first to look at")
        }
        (Exit::Unreachable, None) => {
            let seen = format!("nobody serves at {identity}: {seen}");
            Check::fail("sign-in", seen, "is mizar-api running? its log says why it ended; else look at auth_url")
        }
        _ => Check::fail("sign-in", seen, "look at auth_url, and at the project and its region in the catalog"),
    }
}

fn ready(api: &Api, network: &str) -> Check {
    let attempt = || -> Result<(u16, Value)> {
        let client = api.access().trust.client()?.timeout(Duration::from_secs(10)).build()?;
        let answer = client.get(format!("{network}/readyz")).send()?;
        Ok((answer.status().as_u16(), serde_json::from_str(&answer.text()?).unwrap_or_default()))
    };
    match attempt() {
        Ok((status, body)) => judge_ready(status, &body["checks"]),
        Err(error) => {
            Check::fail("API", format!("{error:#}"), "is mizar-api running, and does its address in the catalog fit?")
        }
    }
}

fn judge_ready(status: u16, checks: &Value) -> Check {
    match status {
        200 => Check::ok("API", "ready"),
        503 => {
            let failing = checks.as_object().into_iter().flatten().filter(|(_, state)| **state != "ok");
            let failing: Vec<_> = failing.map(|(name, state)| format!("{name}: {}", cell(state))).collect();
            Check::fail(
                "API",
                format!("not ready: {}", failing.join(", ")),
                "the API's log and its operators' listener say why",
            )
        }
        other => Check::warn(
            "API",
            format!("/readyz answers {other}"),
            "a proxy may keep it from tenants; ask mizar-api itself",
        ),
    }
}

fn placement(condition: &Value) -> Check {
    let seen =
        || format!("{} since {}: {}", cell(&condition["state"]), cell(&condition["since"]), cell(&condition["reason"]));
    match condition["state"].as_str() {
        Some("normal") => Check::ok("placement", "a scheduler leads"),
        Some("frozen") => Check::fail(
            "placement",
            seen(),
            "end the outage; of hosts that are really gone say so by `mizar host set HOST --believe-gone 3600`",
        ),
        Some("nobody") => {
            Check::fail("placement", seen(), "let hosts carry roles: `mizar host set HOST --transit yes`")
        }
        _ => Check::fail("placement", seen(), "start mizar-scheduler, or look at its log"),
    }
}

fn judge_hosts(hosts: &[Value]) -> Vec<Check> {
    if hosts.is_empty() {
        return vec![Check::fail(
            "hosts",
            "none is registered",
            "start mizar-agent on a host; `mizar doctor` there says what it lacks",
        )];
    }
    if hosts.iter().all(|host| host["alive"] != true) {
        return vec![Check::fail(
            "hosts",
            format!("none of {} is heard of", hosts.len()),
            "look at what they share: the API's listener for agents, its certificate, the way there, clocks; \
             `mizar doctor` on one of them says which",
        )];
    }
    let mut checks = Vec::new();
    let (mut good, mut bad) = (0, Vec::new());
    for host in hosts {
        let name = format!("host {}", cell(&host["name"]));
        let silent = host["silent_s"].as_i64();
        let failures: Vec<_> = host["failures"].as_array().into_iter().flatten().map(|f| cell(&f["reason"])).collect();
        if host["alive"] != true {
            let heard = silent.map_or("was never heard".into(), |s| format!("was heard {s} s ago"));
            let seen = format!("its lease ended: it {heard}, with {} ports", cell(&host["ports"]));
            bad.push(Check::fail(&name, seen, "is it up? `mizar doctor` on it says what its agent lacks"));
        } else if !failures.is_empty() {
            let seen = format!("{} entries are not in force: {}", failures.len(), failures.join("; "));
            bad.push(Check::fail(&name, seen, "`mizar host state HOST` shows which; the agent tries again"));
        } else if silent.is_some_and(|silent| silent >= LATE) {
            bad.push(Check::warn(
                &name,
                format!("was heard {} s ago", silent.unwrap_or_default()),
                "look at its load and at the way to the API",
            ));
        } else {
            good += 1;
        }
    }
    if good > 0 {
        checks.push(Check::ok("hosts", format!("{good} of {} are alive and have all that they should", hosts.len())));
    }
    let more = bad.len().saturating_sub(NAMED);
    checks.extend(bad.into_iter().take(NAMED));
    if more > 0 {
        checks.push(Check::fail("hosts", format!("{more} more are not well"), "`mizar host list --long` shows all"));
    }
    checks
}

fn versions(hosts: &[Value], own: &str) -> Check {
    let mut count: BTreeMap<String, usize> = BTreeMap::new();
    for host in hosts {
        *count.entry(cell(&host["version"])).or_default() += 1;
    }
    let seen: Vec<_> = count.iter().map(|(version, hosts)| format!("{version} on {hosts} hosts")).collect();
    let seen = format!("{}; this program is {own}", seen.join(", "));
    if count.len() > 1 {
        return Check::warn("versions", seen, "fine during an upgrade; else bring the agents to one version");
    }
    Check::ok("versions", seen)
}

/// The largest packets that a network promises must fit into the underlay of every host.
fn mtu(hosts: &[Value], widest: &Value) -> Check {
    let Some(inside) = widest["mtu"].as_u64() else { return Check::ok("MTU", "there are no networks yet") };
    let needed = inside + u64::from(MTU_OVERHEAD);
    let small = hosts.iter().filter(|host| host["mtu"].as_u64().is_some_and(|mtu| mtu < needed));
    let small: Vec<_> = small.map(|host| format!("{} {}", cell(&host["name"]), cell(&host["mtu"]))).collect();
    if small.is_empty() {
        return Check::ok("MTU", format!("every host carries networks of {inside} bytes"));
    }
    let more = small.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    Check::fail(
        "MTU",
        format!(
            "networks of {inside} bytes, such as {}, need {needed}: too small are {}{more}",
            cell(&widest["id"]),
            small[..small.len().min(NAMED)].join(", ")
        ),
        "raise the MTU of these hosts' uplinks and of what is between; or lower the networks', and --underlay-mtu",
    )
}

fn roles(roles: &[Value]) -> Check {
    let count = |state: &str| roles.iter().filter(|role| role["state"] == state).count();
    let (active, pending, draining) = (count("active"), count("pending"), count("draining"));
    let seen = format!("{active} active, {pending} pending, {draining} draining");
    if pending + draining > 0 {
        return Check::warn(
            "roles",
            seen,
            "ordinary for a second after a change; if it stays, `mizar role list --state pending` names the hosts",
        );
    }
    Check::ok("roles", seen)
}

fn ports(broken: &[Value]) -> Check {
    let Some(first) = broken.first() else { return Check::ok("ports", "none is in ERROR") };
    let at_least = if broken.len() == 100 { "at least " } else { "" };
    let seen = format!(
        "{at_least}{} in ERROR, such as {} on {}: {}",
        broken.len(),
        cell(&first["id"]),
        cell(&first["binding:host_id"]),
        cell(&first["mizar:status_reason"])
    );
    Check::warn("ports", seen, "`mizar port list --status ERROR --long` shows all with their reasons")
}

#[cfg(test)]
mod tests {
    use super::super::Verdict::{Fail, Ok as Fine, Warn};
    use super::*;
    use serde_json::json;

    fn host(name: &str, alive: bool, silent: i64, failures: Value) -> Value {
        json!({"name": name, "alive": alive, "silent_s": silent, "failures": failures, "version": "0.1.0", "ports": 3})
    }

    #[test]
    fn sick_hosts_are_named_and_the_well_are_counted() {
        let hosts = [
            host("h1", true, 1, json!([])),
            host("h2", false, 90, json!([])),
            host("h3", true, 1, json!([{"reason": "the map is full"}])),
            host("h4", true, 20, json!([])),
        ];
        let checks = judge_hosts(&hosts);
        let verdicts: Vec<_> = checks.iter().map(|check| (check.check.as_str(), check.verdict)).collect();
        assert_eq!(verdicts, [("hosts", Fine), ("host h2", Fail), ("host h3", Fail), ("host h4", Warn)]);
        assert!(checks[2].seen.contains("the map is full"), "{checks:?}");
        assert_eq!(judge_hosts(&[])[0].verdict, Fail);
        let mut many: Vec<_> = (0..200).map(|n| host(&format!("h{n}"), false, 90, json!([]))).collect();
        let all = judge_hosts(&many);
        assert_eq!((all.len(), all[0].verdict, all[0].seen.as_str()), (1, Fail, "none of 200 is heard of"));
        many.push(host("the-last", true, 1, json!([])));
        let checks = judge_hosts(&many);
        assert_eq!(checks.len(), NAMED + 2);
        assert!(checks[NAMED + 1].seen.contains("195 more"), "{checks:?}");
    }

    #[test]
    fn each_state_of_placement_and_api_has_its_verdict() {
        for (state, verdict) in [("normal", Fine), ("frozen", Fail), ("nobody", Fail), ("unled", Fail)] {
            assert_eq!(placement(&json!({"state": state})).verdict, verdict, "{state}");
        }
        let failing = judge_ready(503, &json!({"database": "failing", "feed": "ok"}));
        assert_eq!((failing.verdict, failing.seen.as_str()), (Fail, "not ready: database: failing"));
        assert_eq!(judge_ready(200, &Value::Null).verdict, Fine);
        assert_eq!(judge_ready(404, &Value::Null).verdict, Warn);
    }

    #[test]
    fn hosts_must_carry_what_networks_promise() {
        let sized = |name: &str, mtu: u32| json!({"name": name, "mtu": mtu});
        let hosts = [sized("h1", 1500), sized("h2", 1400)];
        assert_eq!(mtu(&hosts, &Value::Null).verdict, Fine);
        assert_eq!(mtu(&hosts, &json!({"id": "n", "mtu": 1298})).verdict, Fine);
        let small = mtu(&hosts, &json!({"id": "n", "mtu": 1398}));
        assert_eq!(small.verdict, Fail);
        assert_eq!(small.seen, "networks of 1398 bytes, such as n, need 1500: too small are h2 1400");
        let many: Vec<_> = (0..9).map(|n| sized(&format!("h{n}"), 1400)).collect();
        assert!(mtu(&many, &json!({"id": "n", "mtu": 1398})).seen.ends_with("h4 1400 and 4 more"));
    }

    #[test]
    fn who_does_not_answer_is_told_from_who_does_not_believe() {
        let todo = |status: u16| {
            let refused = crate::client::Refused { status, kind: String::new(), message: "no".into() };
            judge_sign_in(&refused.into(), "http://127.0.0.1:1").todo
        };
        assert!(todo(401).contains("password") && todo(503).contains("database") && todo(429).contains("wait"));
        let nobody = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port");
        let base = format!("http://{nobody}");
        let api = Api::new(&base, crate::client::Credentials::new("u", "p", "w")).expect("a client");
        let check = judge_sign_in(&api.token().expect_err("nobody listens"), &base);
        assert!(check.seen.contains(&base) && check.todo.contains("mizar-api"), "{check:?}");
    }

    #[test]
    fn mixed_versions_waiting_roles_and_broken_ports_want_a_look() {
        let mut hosts = vec![host("h1", true, 1, json!([])), host("h2", true, 1, json!([]))];
        assert_eq!(versions(&hosts, "0.1.0").verdict, Fine);
        hosts[1]["version"] = json!("0.2.0");
        assert_eq!(versions(&hosts, "0.1.0").verdict, Warn);
        assert_eq!(roles(&[json!({"state": "active"})]).verdict, Fine);
        assert_eq!(roles(&[json!({"state": "draining"})]).verdict, Warn);
        assert_eq!(ports(&[]).verdict, Fine);
        let broken = ports(&[json!({"id": "p1", "binding:host_id": "h1", "mizar:status_reason": "no device"})]);
        assert_eq!((broken.verdict, broken.seen.as_str()), (Warn, "1 in ERROR, such as p1 on h1: no device"));
    }
}
