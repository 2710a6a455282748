//! Why does it not arrive? What tenants and operators are told, where real packets say whether it is so.

use anyhow::{Context as _, Result, ensure};
use mizar::sandbox::endpoint::Endpoint;
use mizar::sandbox::traffic::{TcpServer, tcp_exchange};
use mizar_tests::bed::Bed;
use mizar_tests::command::Cli;
use mizar_tests::exchange::{PORT, pings};
use mizar_tests::harness::Scenario;
use mizar_tests::tenant::{Net, Tenant, at};
use mizar_tests::{bed, harness};
use serde_json::{Value, json};
use std::net::{SocketAddr, UdpSocket};
use std::process::ExitCode;
use std::time::{Duration, Instant};

const SCENARIOS: &[Scenario] = &[
    ("a_refused_packet_shows_up_at_both_ends_with_its_reason_within_two_seconds", drops),
    ("a_trace_names_the_missing_rule_and_then_the_one_that_lets_packets_in", traces),
    ("a_trace_goes_where_packets_go_between_subnets_and_to_nobody", nobody),
    ("a_real_packet_is_followed_by_its_bouncer_straight_and_to_where_it_is_refused", followed),
    ("a_preview_names_the_flows_that_a_change_of_rules_then_cuts_and_what_it_lets_pass", previews),
    ("the_flow_log_has_what_passed_and_by_which_rule_and_what_was_refused_at_both_ends", logs),
];

/// Within this time a drop must be seen; far less than that is promised, on a machine that does nothing else.
const SEEN: Duration = Duration::from_secs(2);

/// A group that lets nothing in, and the port in it alone.
fn closed(tenant: &Tenant<'_>, port: &Endpoint) -> Result<String> {
    let group = tenant.api.post("/v2.0/security-groups", &json!({"security_group": {"name": "closed"}}))?;
    let id = group["security_group"]["id"].as_str().context("an id")?.to_owned();
    let only = json!({"port": {"security_groups": [id]}});
    tenant.api.put(&format!("/v2.0/ports/{}", port.port), Some(&only))?;
    Ok(id)
}

/// Two ports on different hosts, the second of which lets nothing in.
fn pair<'a>(bed: &'a Bed) -> Result<(Tenant<'a>, Net, Endpoint, Endpoint, String)> {
    let tenant = bed.tenant()?;
    let net = tenant.network(&["10.5.0.0/24"])?;
    let [a, b] = tenant.endpoints(&net, [at(0, 0), at(0, 1)])?;
    let group = closed(&tenant, &b)?;
    bed.settle()?;
    Ok((tenant, net, a, b, group))
}

fn reason<'a>(drops: &'a Value, name: &str) -> Option<&'a Value> {
    drops["reasons"].as_array()?.iter().find(|reason| reason["reason"] == name)
}

fn drops(bed: &Bed) -> Result<()> {
    let (_tenant, _net, a, b, _) = pair(bed)?;
    let red = Cli::of(bed, "tenant0")?;
    let of = |port: &Endpoint| red.json(&format!("port drops {}", port.port));
    ensure!(reason(&of(&b)?, "refused").is_none(), "something was refused already");
    let pinged = pings(&a, &b, 1)?;
    ensure!(pinged.received == 0, "the closed port was reached: {pinged:?}");
    let start = Instant::now();
    let (mut at_b, mut at_a) = (Value::Null, Value::Null);
    let seen = bed.wait("both ends see the drop", || {
        (at_a, at_b) = (of(&a)?, of(&b)?);
        Ok(reason(&at_a, "policy").is_some() && reason(&at_b, "refused").is_some())
    });
    seen.with_context(|| format!("the sender: {at_a}, the receiver: {at_b}"))?;
    let took = start.elapsed();
    println!("seen at both ends after {took:?}");
    ensure!(took < bed::stretched(SEEN)?, "seen after {took:?}");
    // A bouncer of its address refused it, perhaps both did, and its own host may be one.
    let refused = at_b["reasons"].as_array().context("a list")?.iter().filter(|reason| reason["reason"] == "refused");
    for refused in refused {
        let sample = &refused["samples"][0];
        ensure!(sample["source"] == a.address()?.to_string() && sample["protocol"] == 1, "{refused}");
        ensure!(sample["destination"] == b.address()?.to_string(), "{refused}");
        ensure!(refused["role"] == "bouncer" || refused["role"] == "port", "{refused}");
        ensure!(refused["host"].is_null(), "a tenant is told a host's name: {refused}");
    }
    let table = red.run(&format!("port drops {}", b.port))?;
    ensure!(
        table.contains("refused") && table.contains(&format!("{} > {} icmp", a.address()?, b.address()?)),
        "{table}"
    );
    let admin = Cli::of(bed, "admin")?;
    let of_host = admin.json(&format!("host drops {}", bed.host(0)))?;
    let is_it = |reason: &Value| reason["port_id"] == a.port.to_string() && reason["reason"] == "policy";
    ensure!(of_host["reasons"].as_array().context("a list")?.iter().any(is_it), "{of_host}");
    red.fails(&format!("host drops {}", bed.host(0)), 4, "")?;
    Ok(())
}

/// What the hosts in this role say, of all that they were asked.
fn said<'a>(trace: &'a Value, role: &'a str) -> impl Iterator<Item = &'a Value> {
    let hops = trace["hops"].as_array().into_iter().flatten().filter(move |hop| hop["role"] == role);
    hops.flat_map(|hop| hop["looks"].as_array().into_iter().flatten())
}

fn traces(bed: &Bed) -> Result<()> {
    let (_tenant, _net, a, b, _) = pair(bed)?;
    let red = Cli::of(bed, "tenant0")?;
    let line = |more: &str| Ok::<_, anyhow::Error>(format!("trace --from {} --to {} {more}", a.port, b.address()?));
    let closed = red.json(&line("--proto icmp")?)?;
    ensure!(closed["verdict"] == "dropped" && closed["reason"] == "refused", "{closed}");
    let missing = "no ingress rule of the destination lets it in";
    ensure!(said(&closed, "bouncer").any(|look| look["says"] == missing && look["table"] == "POLICY"), "{closed}");
    ensure!(closed["hops"].as_array().is_some_and(|hops| hops.iter().all(|hop| hop["host"].is_null())), "{closed}");
    let table = red.run(&line("--proto tcp --dport 443")?)?;
    ensure!(table.contains("dropped") && table.contains("the sender sees nothing"), "{table}");
    // Nothing was sent: nothing was counted, and no flow was denied for a second.
    let counted = red.json(&format!("port drops {}", b.port))?;
    ensure!(reason(&counted, "refused").is_none(), "a trace is counted as a packet: {counted}");
    ensure!(pings(&a, &b, 1)?.received == 0, "the closed port was reached");

    let rule = red.json("security-group-rule create closed --protocol icmp")?;
    bed.settle()?;
    let open = red.json(&line("--proto icmp")?)?;
    ensure!(open["verdict"] == "delivered" && open["destination_port_id"] == b.port.to_string(), "{open}");
    let lets = said(&open, "bouncer").filter_map(|look| look["rules"].as_array()).flatten();
    ensure!(lets.map(|rule| &rule["id"]).eq([&rule["id"]]), "not the rule that was made: {open}");
    ensure!(said(&open, "destination").next().is_some(), "the destination's host was not asked: {open}");
    let tcp = red.json(&line("--proto tcp --dport 443")?)?;
    ensure!(tcp["verdict"] == "dropped", "a rule about ICMP lets TCP pass: {tcp}");
    bed.wait("what a trace says of a ping is so", || Ok(pings(&a, &b, 1)?.received == 1))?;
    let admin = Cli::of(bed, "admin")?.json(&line("--proto icmp")?)?;
    ensure!(admin["hops"][0]["host"] == bed.host(0), "{admin}");
    let elsewhere = admin["hops"].as_array().and_then(|hops| hops.last()).context("hops")?;
    ensure!(elsewhere["role"] == "destination" && elsewhere["host"] == bed.host(1), "{admin}");
    Ok(())
}

fn nobody(bed: &Bed) -> Result<()> {
    let tenant = bed.tenant()?;
    let net = tenant.network(&["10.5.0.0/24", "10.6.0.0/24"])?;
    let [a, b] = tenant.endpoints(&net, [at(0, 0), at(1, 1)])?;
    let red = Cli::of(bed, "tenant0")?;
    let of = |to: &str| red.json(&format!("trace --from {} --to {to} --proto udp --dport 53", a.port));
    let routed = of(&b.address()?.to_string())?;
    ensure!(routed["verdict"] == "delivered", "{routed}");
    ensure!(
        said(&routed, "source").any(|look| look["says"].as_str().is_some_and(|says| says.contains("loses one TTL"))),
        "{routed}"
    );
    let free = of("10.6.0.250")?;
    ensure!(free["verdict"] == "dropped" && free["reason"] == "unreachable", "{free}");
    ensure!(free["sender_sees"] == "ICMP host unreachable from 10.5.0.1", "{free}");
    let outside = of("198.51.100.1")?;
    ensure!(
        outside["reason"] == "no_route" && outside["sender_sees"] == "ICMP network unreachable from 10.5.0.1",
        "{outside}"
    );
    let spoofed = red.json(&format!("trace --from {} --to {} --dport 80 --source 10.5.0.250", a.port, b.address()?))?;
    ensure!(spoofed["reason"] == "spoof", "{spoofed}");
    Ok(())
}

/// Follows a packet, while `send` is done again and again.
fn live(cli: &Cli, line: &str, send: impl Fn() -> Result<()>) -> Result<Value> {
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| cli.json(&format!("trace --live --wait-seconds 40 {line}")));
        while !asked.is_finished() {
            send()?;
        }
        asked.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn roles(trace: &Value) -> Vec<&str> {
    trace["hops"].as_array().into_iter().flatten().filter_map(|hop| hop["role"].as_str()).collect()
}

fn followed(bed: &Bed) -> Result<()> {
    // Neither end's host is a bouncer.
    bed.transit_on(&[2, 3])?;
    let (_tenant, _net, a, b, _) = pair(bed)?;
    let (red, admin) = (Cli::of(bed, "tenant0")?, Cli::of(bed, "admin")?);
    let line = format!("--from {} --to {}", a.port, b.address()?);
    // Each of them begins a flow.
    let ping = || pings(&a, &b, 1).map(drop);
    let refused = live(&admin, &format!("{line} --proto icmp"), ping)?;
    ensure!(refused["verdict"] == "dropped" && refused["reason"] == "refused", "{refused}");
    let way = roles(&refused);
    // Both bouncers are asked where the groups of a port are new.
    ensure!(way[..2] == ["source", "bouncer"] && way.last() == Some(&"source"), "{refused}");
    let missing = "no ingress rule of the destination lets it in";
    ensure!(said(&refused, "bouncer").any(|look| look["says"] == missing && look["table"] == "POLICY"), "{refused}");
    let blocks = &refused["hops"][1]["host"];
    ensure!([2, 3].iter().any(|host| *blocks == bed.host(*host)), "not by a bouncer: {refused}");
    ensure!(refused["source"] == a.address()?.to_string() && refused["icmp_type"] == 8, "{refused}");

    let rule = red.json("security-group-rule create closed")?;
    bed.settle()?;
    bed.wait("the rule lets pings in", || Ok(pings(&a, &b, 1)?.received == 1))?;
    let first = live(&red, &line, ping)?;
    ensure!(first["verdict"] == "delivered" && first["destination_port_id"] == b.port.to_string(), "{first}");
    let way = roles(&first);
    ensure!(way[..2] == ["source", "bouncer"] && way.last() == Some(&"destination"), "{first}");
    ensure!(first["hops"].as_array().is_some_and(|hops| hops.iter().all(|hop| hop["host"].is_null())), "{first}");
    let lets = said(&first, "bouncer").filter_map(|look| look["rules"].as_array()).flatten();
    ensure!(lets.map(|rule| &rule["id"]).eq([&rule["id"]]), "not the rule that was made: {first}");

    // One flow, whose packets all arrive, marked or not.
    let server = b.netns.enter(|| UdpSocket::bind((b.address()?, 7001)).map_err(anyhow::Error::from))??;
    let client = a.netns.enter(|| UdpSocket::bind((a.address()?, 0)).map_err(anyhow::Error::from))??;
    client.connect(server.local_addr()?)?;
    for socket in [&server, &client] {
        socket.set_read_timeout(Some(Duration::from_secs(10)))?;
    }
    let exchange = || {
        let mut byte = [0; 1];
        client.send(&[1])?;
        let (_, peer) = server.recv_from(&mut byte).context("a packet to the server was lost")?;
        server.send_to(&[2], peer)?;
        client.recv(&mut byte).map(drop).context("an answer of the server was lost")
    };
    for _ in 0..3 {
        exchange()?;
    }
    let there = live(&red, &format!("{line} --proto udp --dport 7001"), exchange)?;
    let back = live(&red, &format!("--from {} --to {} --proto udp --sport 7001", b.port, a.address()?), exchange)?;
    for (direct, to) in [(&there, &b), (&back, &a)] {
        ensure!(direct["verdict"] == "delivered" && roles(direct) == ["source", "destination"], "{direct}");
        ensure!(direct["destination_port_id"] == to.port.to_string(), "{direct}");
        ensure!(said(direct, "destination").any(|look| look["table"] == "FLOW"), "{direct}");
    }
    let told = red.raw(&format!("trace --live {line} --proto tcp --dport 99 --wait-seconds 1"))?;
    ensure!(told.code == 0 && told.error.contains("waiting for a packet"), "{} {}", told.code, told.error);
    ensure!(told.out.contains("not seen") && told.out.contains("ping"), "{}", told.out);
    Ok(())
}

fn previews(bed: &Bed) -> Result<()> {
    let (_tenant, _net, a, b, _) = pair(bed)?;
    let red = Cli::of(bed, "tenant0")?;
    // A host that is late is asked again: what it would have said is missing, and named.
    let preview = |change: &str| {
        let mut said = Value::Null;
        bed.wait("every host says what it knows", || {
            said = red.json(&format!("security-group preview closed {change}"))?;
            Ok(said["hosts"].as_array().is_some_and(|hosts| hosts.iter().all(|host| host["error"].is_null())))
        })?;
        anyhow::Ok(said)
    };
    let list = |of: &Value, name: &str| of[name].as_array().cloned().context("a list");
    let (from, to) = (json!(a.address()?), json!(b.address()?));
    ensure!(pings(&a, &b, 1)?.received == 0, "the closed port was reached");
    let mut open = Value::Null;
    bed.wait("the ping that was refused is known", || {
        open = preview("--add protocol=icmp,port-min=8")?;
        Ok(open["allowed"] != json!([]))
    })?;
    let allowed = list(&open, "allowed")?;
    let is_ping = |one: &Value| one["source"] == from && one["destination"] == to && one["protocol"] == 1;
    ensure!(!allowed.is_empty() && allowed.iter().all(is_ping), "{open}");
    ensure!(open["cut"] == json!([]) && open["ports"] == 1, "{open}");
    ensure!(preview("--add protocol=tcp")?["allowed"] == json!([]), "a rule about TCP would let a ping pass");
    ensure!(pings(&a, &b, 1)?.received == 0, "a preview opened the port");

    let rule = red.json("security-group-rule create closed --protocol icmp")?;
    bed.settle()?;
    bed.wait("the rule lets pings in", || Ok(pings(&a, &b, 1)?.received == 1))?;
    let is_its = |flow: &Value| flow["opened_by"] == "peer" && flow["remote_address"] == from && flow["icmp_type"] == 8;
    bed.wait("the flow of a ping goes straight", || {
        if pings(&a, &b, 2)?.received == 0 {
            return Ok(false);
        }
        let flows = list(&red.json(&format!("port flows {}", b.port))?, "flows")?;
        Ok(flows.iter().any(|flow| is_its(flow) && flow["state"] == "established"))
    })?;
    let table = red.run(&format!("port flows {}", b.port))?;
    ensure!(table.contains(&format!("{} > {} icmp type 8", a.address()?, b.address()?)), "{table}");
    let id = rule["id"].as_str().context("an id")?;
    let without = preview(&format!("--remove {id}"))?;
    let cut = list(&without, "cut")?;
    ensure!(cut.iter().any(is_its) && cut.iter().all(|flow| flow["port_id"] == b.port.to_string()), "{without}");
    let narrowed = preview(&format!("--remove {id} --add protocol=icmp,remote-ip={}", a.address()?))?;
    ensure!(narrowed["cut"] == json!([]) && narrowed["flows"] != 0, "{narrowed}");
    let elsewhere = preview(&format!("--remove {id} --add protocol=icmp,remote-ip=192.0.2.1"))?;
    ensure!(list(&elsewhere, "cut")?.iter().any(is_its), "{elsewhere}");
    ensure!(pings(&a, &b, 3)?.received > 0, "a preview cut a flow");
    // And so it comes.
    red.run(&format!("security-group-rule delete {id}"))?;
    bed.wait("pings are cut", || Ok(pings(&a, &b, 1)?.received == 0))
}

/// The last record of a port of which this is so.
fn record(cli: &Cli, port: &Endpoint, fits: impl Fn(&Value) -> bool) -> Result<Option<Value>> {
    let log = cli.json(&format!("port flow-log {}", port.port))?;
    Ok(log["records"].as_array().context("a list")?.iter().find(|record| fits(record)).cloned())
}

fn logs(bed: &Bed) -> Result<()> {
    const BYTES: usize = 300_000;
    let (_tenant, _net, a, b, _) = pair(bed)?;
    let red = Cli::of(bed, "tenant0")?;
    let wait = |what: &str, port: &Endpoint, fits: &dyn Fn(&Value) -> bool| {
        let mut found = None;
        bed.wait(what, || {
            found = record(&red, port, fits)?;
            Ok(found.is_some())
        })?;
        found.context("a record")
    };
    let (from, to) = (a.address()?, b.address()?);
    let between = |record: &Value| record["source"] == from.to_string() && record["destination"] == to.to_string();
    ensure!(pings(&a, &b, 1)?.received == 0, "the closed port was reached");
    let is_ping = |record: &Value| between(record) && record["icmp_type"] == 8 && record["record"] == "final";
    let sent = wait("the sender's log has the refused ping", &a, &is_ping)?;
    ensure!(sent["verdict"] == "deny" && sent["reason"] == "policy" && sent["ended"] == "denied", "{sent}");
    ensure!(sent["direction"] == "egress" && sent["decided_by"] == "peer" && sent["rules"].is_null(), "{sent}");
    ensure!(sent["packets_out"] == 1 && sent["packets_in"] == 0 && sent["host"].is_null(), "{sent}");
    let got = wait("the log of whom it was for has it too", &b, &is_ping)?;
    ensure!(got["verdict"] == "deny" && got["reason"] == "refused" && got["direction"] == "ingress", "{got}");
    ensure!(got["decided_by"] == "bouncer" && got["rules"] == json!([]), "{got}");

    red.json(&format!("security-group-rule create closed --protocol tcp --port-min {PORT} --port-max {PORT}"))?;
    bed.settle()?;
    let server = TcpServer::start(&b.netns, SocketAddr::new(to, PORT), "b")?;
    let patience = Duration::from_secs(15);
    bed.wait("the rule lets TCP in", || Ok(tcp_exchange(&a.netns, server.address(), BYTES, patience).is_ok()))?;
    let whole = |record: &Value| {
        let enough = |way: &str| record[way].as_u64().is_some_and(|bytes| bytes > BYTES as u64);
        between(record)
            && record["protocol"] == 6
            && record["record"] == "final"
            && enough("bytes_out")
            && enough("bytes_in")
    };
    let opened = wait("the client's log has the connection", &a, &whole)?;
    ensure!(opened["verdict"] == "accept" && opened["ended"] == "closed" && opened["reason"].is_null(), "{opened}");
    ensure!(opened["direction"] == "egress" && opened["destination_port"] == PORT, "{opened}");
    // A packet of the endpoint is no larger than its MTU, whatever it is segmented from.
    for way in ["out", "in"] {
        let of = |what: &str| opened[format!("{what}_{way}")].as_u64();
        let (bytes, packets) = of("bytes").zip(of("packets")).context("counts")?;
        ensure!(packets > 0 && bytes / packets <= 1_500, "{opened}");
    }
    let rules = red.json(&format!("port rules {}", a.port))?.to_string();
    let rule = opened["rules"][0]["id"].as_str().context("a rule")?;
    ensure!(opened["decided_by"] == "port" && rules.contains(rule), "{rule} is no rule of {rules}");
    let entered = wait("so has the server's", &b, &whole)?;
    ensure!(entered["direction"] == "ingress" && entered["decided_by"] == "bouncer", "{entered}");
    ensure!(entered["ended"] == "closed" && entered["start"].as_str() <= entered["end"].as_str(), "{entered}");
    let table = red.run(&format!("port flow-log {}", a.port))?;
    ensure!(table.contains(&format!("> {to}:{PORT} tcp")) && table.contains("accept"), "{table}");
    let none = red.json(&format!("port flow-log {} --since 2999-01-01T00:00:00Z", a.port))?;
    ensure!(none["records"] == json!([]), "{none}");

    // The same is in the host's file.
    let file = bed.sandbox.layout().state(&format!("agent-{}", bed.host(0))).join("flow-log/current.jsonl");
    let text = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    let lines: Vec<Value> = text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let own = |line: &&Value| line["port_id"] == a.port.to_string() && line["record"] == "final";
    let verdicts: Vec<&Value> = lines.iter().filter(own).map(|line| &line["verdict"]).collect();
    ensure!(verdicts.contains(&&json!("accept")) && verdicts.contains(&&json!("deny")), "{text}");
    ensure!(lines.iter().filter(own).all(|line| line["network_id"].is_string()), "{text}");
    Ok(())
}

fn main() -> ExitCode {
    harness::run("tseeing", bed::settings(), &[SCENARIOS])
}
