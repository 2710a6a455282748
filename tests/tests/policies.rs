//! Security groups with real traffic: what the original's policy tests ask, in their words, what the
//! public recipes of Kubernetes network policies ask, where pods' labels are ports' groups, and what
//! becomes of flows while rules and groups change.
//!
//! To come with load balancers: a policy of a virtual address.

use anyhow::{Context, Result, ensure};
use mizar::sandbox::traffic::TcpStreaming;
use mizar_tests::bed::Bed;
use mizar_tests::groups::Probe::{Ping, Tcp, Udp};
use mizar_tests::groups::Remote::{Addresses, Group, Net};
use mizar_tests::groups::{ANN, BOB, CAT, Case, OPEN, OUT, Probe, Rule, Stage, Talk, WEB, egress, ingress};
use mizar_tests::harness::Scenario;
use mizar_tests::{bed, harness};
use serde_json::json;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

const SCENARIOS: &[Scenario] = &[
    ("rules_by_range_exception_group_and_port_let_pass_what_they_say", |bed| Stage::new(bed)?.play(DIRECTIONS)),
    ("the_recipes_of_kubernetes_policies_hold_for_groups", |bed| Stage::new(bed)?.play(RECIPES)),
    ("a_port_without_port_security_is_filtered_by_nothing", unfiltered),
    ("a_rule_that_goes_ends_its_flows_and_no_others", rules_change),
    ("a_port_that_loses_a_group_loses_what_it_may", groups_change),
    ("what_a_port_asked_for_comes_back_and_nothing_else", states),
];

const HTTP: Probe = Tcp(80);
const HTTPS: Probe = Tcp(443);
const API: Probe = Tcp(5000);
const DNS: Probe = Udp(53);

/// The clients' half of the first subnet.
const CLIENTS: &str = "10.1.0.128/25";
/// That half but for Ann's address.
const NOT_ANN: &[&str] = &[
    "10.1.0.128/31",
    "10.1.0.131/32",
    "10.1.0.132/30",
    "10.1.0.136/29",
    "10.1.0.144/28",
    "10.1.0.160/27",
    "10.1.0.192/26",
];

/// Only the server is filtered; the others let everything pass.
const SERVER: [&[&str]; 4] = [&["tested"], &["open"], &["open"], &["open"]];
/// Only Ann is.
const CLIENT: [&[&str]; 4] = [&["open"], &["tested"], &["open"], &["open"]];

const DIRECTIONS: &[Case] = &[
    Case {
        name: "ingress from a range of addresses",
        groups: &[("open", OPEN), ("tested", &[ingress("tcp").with(Net(CLIENTS)), egress("any")])],
        ports: SERVER,
        passes: &[(ANN, WEB, HTTP), (BOB, WEB, HTTP), (WEB, CAT, HTTP), (CAT, ANN, Ping)],
        fails: &[(CAT, WEB, HTTP), (ANN, WEB, Ping), (BOB, WEB, DNS)],
    },
    Case {
        name: "ingress from a range with an exception",
        groups: &[("open", OPEN), ("tested", &[ingress("any").with(Addresses(NOT_ANN)), egress("any")])],
        ports: SERVER,
        passes: &[(BOB, WEB, HTTP), (BOB, WEB, DNS), (BOB, WEB, Ping), (WEB, ANN, HTTP)],
        fails: &[(ANN, WEB, HTTP), (ANN, WEB, DNS), (ANN, WEB, Ping), (CAT, WEB, HTTP)],
    },
    Case {
        name: "egress to a range of addresses",
        groups: &[("open", OPEN), ("tested", &[ingress("any"), egress("any").with(Net("10.1.0.0/25"))])],
        ports: CLIENT,
        passes: &[(ANN, WEB, HTTP), (ANN, WEB, Ping), (BOB, ANN, HTTP), (CAT, ANN, DNS)],
        fails: &[(ANN, BOB, HTTP), (ANN, CAT, DNS), (ANN, BOB, Ping)],
    },
    Case {
        name: "egress to a range with an exception",
        groups: &[
            ("open", OPEN),
            ("tested", &[ingress("any"), egress("tcp").with(Addresses(&["10.1.0.0/25", "10.2.0.0/24"]))]),
        ],
        ports: CLIENT,
        passes: &[(ANN, WEB, HTTP), (ANN, CAT, HTTPS), (BOB, ANN, HTTP)],
        fails: &[(ANN, BOB, HTTP), (ANN, WEB, DNS), (ANN, CAT, Ping)],
    },
    Case {
        name: "ingress from ports with a group",
        groups: &[("open", OPEN), ("friend", OUT), ("tested", &[ingress("any").with(Group("friend")), egress("any")])],
        ports: [&["tested"], &["open", "friend"], &["open"], &["friend"]],
        passes: &[(ANN, WEB, HTTP), (ANN, WEB, DNS), (CAT, WEB, Ping), (CAT, WEB, HTTPS)],
        fails: &[(BOB, WEB, HTTP), (BOB, WEB, Ping), (WEB, CAT, HTTP)],
    },
    Case {
        name: "egress to ports with a group",
        groups: &[("open", OPEN), ("friend", OPEN), ("tested", &[ingress("any"), egress("any").with(Group("friend"))])],
        ports: [&["friend"], &["tested"], &["open"], &["open", "friend"]],
        passes: &[(ANN, WEB, HTTP), (ANN, WEB, DNS), (ANN, CAT, Ping), (BOB, ANN, HTTP)],
        fails: &[(ANN, BOB, HTTP), (ANN, BOB, DNS), (ANN, BOB, Ping)],
    },
    Case {
        name: "ingress to a port",
        groups: &[("open", OPEN), ("tested", &[ingress("tcp").ports(80, 80), egress("any")])],
        ports: SERVER,
        passes: &[(ANN, WEB, HTTP), (BOB, WEB, HTTP), (CAT, WEB, HTTP)],
        fails: &[(ANN, WEB, HTTPS), (BOB, WEB, DNS), (CAT, WEB, Ping)],
    },
    Case {
        name: "egress to a range of ports",
        groups: &[
            ("open", OPEN),
            ("tested", &[ingress("any"), egress("tcp").ports(79, 442), egress("udp").ports(1, 100)]),
        ],
        ports: CLIENT,
        passes: &[(ANN, WEB, HTTP), (ANN, CAT, HTTP), (ANN, BOB, DNS)],
        fails: &[(ANN, WEB, HTTPS), (ANN, BOB, API), (ANN, CAT, Udp(123)), (ANN, WEB, Ping)],
    },
    Case {
        name: "ingress of a type of ICMP",
        groups: &[
            ("open", OPEN),
            ("tested", &[ingress("icmp").kind(8), egress("any")]),
            ("other", &[ingress("icmp").kind(13), egress("any")]),
        ],
        ports: [&["tested"], &["other"], &["open"], &["open"]],
        passes: &[(BOB, WEB, Ping), (CAT, WEB, Ping), (WEB, BOB, Ping)],
        fails: &[(BOB, ANN, Ping), (WEB, ANN, Ping), (BOB, WEB, HTTP)],
    },
    Case {
        name: "all is denied by default",
        groups: &[("open", OPEN)],
        ports: [&[], &["open"], &["open"], &[]],
        passes: &[(ANN, BOB, HTTP), (BOB, ANN, DNS)],
        fails: &[(ANN, WEB, HTTP), (WEB, ANN, HTTP), (CAT, WEB, Ping), (WEB, CAT, DNS), (BOB, CAT, HTTPS)],
    },
    Case {
        name: "all is allowed by default",
        groups: &[("open", OPEN)],
        ports: [&["open"]; 4],
        passes: &[(ANN, WEB, HTTP), (WEB, ANN, HTTPS), (CAT, WEB, Ping), (WEB, CAT, DNS), (BOB, CAT, API)],
        fails: &[],
    },
];

/// Of github.com/ahmetb/kubernetes-network-policy-recipes, in its words. A namespace is a group that all
/// ports of it have; "some pods of another namespace" is a group of both.
const RECIPES: &[Case] = &[
    Case {
        name: "deny all traffic to an application",
        groups: &[("open", OPEN), ("web", OUT)],
        ports: [&["web"], &["open"], &["open"], &["open"]],
        passes: &[(WEB, ANN, HTTP), (ANN, BOB, HTTP)],
        fails: &[(ANN, WEB, HTTP), (CAT, WEB, HTTP)],
    },
    Case {
        name: "limit traffic to an application",
        groups: &[
            ("open", OPEN),
            ("bookstore", &[]),
            ("api", &[ingress("any").with(Group("bookstore")), egress("any")]),
        ],
        ports: [&["api"], &["open", "bookstore"], &["open"], &["open"]],
        passes: &[(ANN, WEB, HTTP)],
        fails: &[(BOB, WEB, HTTP), (CAT, WEB, HTTP)],
    },
    Case {
        name: "allow all traffic to an application, whatever else is denied",
        groups: &[("open", OPEN), ("denied", OUT), ("web", &[ingress("any")])],
        ports: [&["denied", "web"], &["denied"], &["open"], &["open"]],
        passes: &[(ANN, WEB, HTTP), (BOB, WEB, DNS), (CAT, WEB, Ping)],
        fails: &[(BOB, ANN, HTTP)],
    },
    Case {
        name: "deny all traffic in a namespace that is not on a list",
        groups: &[("namespace", OUT), ("listed", &[ingress("tcp").ports(80, 80).with(Group("namespace"))])],
        ports: [&["namespace", "listed"], &["namespace"], &["namespace"], &["namespace"]],
        passes: &[(ANN, WEB, HTTP), (CAT, WEB, HTTP)],
        fails: &[(WEB, ANN, HTTP), (BOB, CAT, HTTP), (ANN, WEB, HTTPS)],
    },
    Case {
        name: "deny all traffic from other namespaces",
        groups: &[
            ("bar", &[ingress("any").with(Group("bar")), egress("any")]),
            ("foo", &[ingress("any").with(Group("foo")), egress("any")]),
        ],
        ports: [&["bar"], &["bar"], &["foo"], &["foo"]],
        passes: &[(ANN, WEB, HTTP), (WEB, ANN, Ping), (BOB, CAT, DNS)],
        fails: &[(BOB, WEB, HTTP), (CAT, ANN, HTTP), (WEB, CAT, Ping), (ANN, BOB, DNS)],
    },
    Case {
        name: "allow traffic to an application from all namespaces",
        groups: &[
            ("bar", &[ingress("any").with(Group("bar")), egress("any")]),
            ("foo", OUT),
            ("web", &[ingress("any")]),
        ],
        ports: [&["bar", "web"], &["bar"], &["foo"], &["foo"]],
        passes: &[(ANN, WEB, HTTP), (BOB, WEB, HTTP), (CAT, WEB, HTTP)],
        fails: &[(BOB, ANN, HTTP), (CAT, ANN, HTTP)],
    },
    Case {
        name: "allow all traffic from a namespace",
        groups: &[
            ("production", OUT),
            ("development", OUT),
            ("web", &[ingress("any").with(Group("production")), egress("any")]),
        ],
        ports: [&["web"], &["production"], &["development"], &["production"]],
        passes: &[(ANN, WEB, HTTP), (CAT, WEB, HTTP)],
        fails: &[(BOB, WEB, HTTP)],
    },
    Case {
        name: "allow traffic from some pods in another namespace",
        groups: &[
            ("operations", OUT),
            ("monitoring", OUT),
            ("operations-monitoring", &[]),
            ("web", &[ingress("any").with(Group("operations-monitoring")), egress("any")]),
        ],
        ports: [&["web"], &["operations", "monitoring", "operations-monitoring"], &["operations"], &["monitoring"]],
        passes: &[(ANN, WEB, HTTP)],
        fails: &[(BOB, WEB, HTTP), (CAT, WEB, HTTP)],
    },
    Case {
        name: "allow traffic from external clients",
        groups: &[("foo", OUT), ("web", &[ingress("tcp").ports(80, 80).with(Net("0.0.0.0/0")), egress("any")])],
        ports: [&["web"], &["foo"], &["foo"], &["foo"]],
        passes: &[(ANN, WEB, HTTP), (CAT, WEB, HTTP)],
        fails: &[(ANN, WEB, API), (CAT, WEB, Ping)],
    },
    Case {
        name: "allow traffic only to a port of an application",
        groups: &[
            ("open", OPEN),
            ("monitoring", OUT),
            ("apiserver", &[ingress("tcp").ports(5000, 5000).with(Group("monitoring")), egress("any")]),
        ],
        ports: [&["apiserver"], &["monitoring"], &["open"], &["monitoring"]],
        passes: &[(ANN, WEB, API), (CAT, WEB, API)],
        fails: &[(ANN, WEB, HTTP), (CAT, WEB, HTTPS), (BOB, WEB, API)],
    },
    Case {
        name: "allow traffic using several selectors",
        groups: &[
            ("search", OUT),
            ("catalogue", OUT),
            ("open", OPEN),
            ("db", &[ingress("any").with(Group("search")), ingress("tcp").with(Group("catalogue")), egress("any")]),
        ],
        ports: [&["db"], &["search"], &["catalogue"], &["open"]],
        passes: &[(ANN, WEB, HTTP), (BOB, WEB, HTTPS), (ANN, WEB, Ping)],
        fails: &[(CAT, WEB, HTTP), (BOB, WEB, Ping)],
    },
    Case {
        name: "deny egress traffic from an application, but for names",
        groups: &[("open", OPEN), ("foo", &[ingress("any"), egress("udp").ports(53, 53), egress("tcp").ports(53, 53)])],
        ports: [&["open"], &["foo"], &["open"], &["open"]],
        passes: &[(ANN, WEB, DNS), (ANN, CAT, DNS), (BOB, ANN, HTTP)],
        fails: &[(ANN, WEB, HTTP), (ANN, CAT, Ping), (ANN, BOB, Udp(123))],
    },
    Case {
        name: "deny all egress traffic from a namespace that is not on a list",
        groups: &[("namespace", &[ingress("any")]), ("listed", &[egress("tcp").with(Group("namespace"))])],
        ports: [&["namespace"], &["namespace", "listed"], &["namespace"], &["namespace"]],
        passes: &[(ANN, WEB, HTTP), (ANN, CAT, HTTPS)],
        fails: &[(WEB, ANN, HTTP), (BOB, WEB, DNS), (CAT, WEB, Ping), (ANN, WEB, DNS)],
    },
    Case {
        name: "deny external egress traffic",
        groups: &[
            ("foo", &[ingress("any"), egress("udp").ports(53, 53), egress("any").with(Group("namespace"))]),
            ("namespace", OPEN),
        ],
        // Cat stands for the world outside.
        ports: [&["namespace"], &["foo"], &["namespace"], &["foo"]],
        passes: &[(ANN, WEB, HTTP), (ANN, BOB, Ping), (ANN, CAT, DNS)],
        fails: &[(ANN, CAT, HTTP), (ANN, CAT, Ping)],
    },
];

fn unfiltered(bed: &Bed) -> Result<()> {
    let mut stage = Stage::new(bed)?;
    let nothing: &[&str] = &[];
    stage.set(&[("open", OPEN)], [nothing, &["open"], &["open"], nothing])?;
    stage.check(&[], &[(ANN, WEB, HTTP), (WEB, CAT, Ping)])?;
    stage.change(WEB, &json!({"port_security_enabled": false}))?;
    bed.settle()?;
    let opened = [(ANN, WEB, HTTP), (WEB, BOB, DNS), (BOB, WEB, Ping)];
    stage.check(&opened, &[(WEB, CAT, HTTP), (CAT, WEB, HTTP), (ANN, CAT, HTTP)])?;
    stage.change(WEB, &json!({"port_security_enabled": true}))?;
    bed.settle()?;
    stage.check(&[], &opened)
}

/// The policies of the original could be updated; rules are made and deleted.
fn rules_change(bed: &Bed) -> Result<()> {
    let mut stage = Stage::new(bed)?;
    let clients: &[Rule] = &[egress("any")];
    stage.set(&[("open", OPEN), ("web", clients)], [&["web"], &["open"], &["open"], &["open"]])?;
    stage.check(&[], &[(ANN, WEB, HTTP), (BOB, WEB, DNS)])?;
    stage.add("web", ingress("tcp").with(Net("10.1.0.130/32")))?;
    let all = stage.add("web", ingress("any"))?;
    bed.settle()?;
    stage.check(&[(ANN, WEB, HTTP), (BOB, WEB, DNS), (CAT, WEB, Ping)], &[])?;

    let web = stage.ends[WEB].address()?;
    let stays = TcpStreaming::start(&stage.ends[ANN].netns, SocketAddr::new(web, 80))?;
    let goes: Vec<Talk> = [BOB, CAT]
        .into_iter()
        .map(|end| Talk::start(&stage.ends[end], SocketAddr::new(web, 53)))
        .collect::<Result<_>>()?;
    ensure!(goes.iter().all(|flow| flow.answers_within(bed::PATIENCE)), "a flow that is allowed does not begin");
    stage.remove(&all)?;
    let before = stays.exchanged();
    for flow in &goes {
        // A second by design; a loaded machine is late.
        let last = flow.ends()?;
        ensure!(last < Duration::from_secs(10), "a flow went on for {last:?} without a rule");
    }
    bed.wait("the flow that is still allowed", || Ok(stays.exchanged() > before))?;
    let stayed = stays.stop().context("the flow that is still allowed")?;
    ensure!(stayed.lost == 0, "{} segments of a flow that is still allowed were lost", stayed.lost);
    stage.check(&[(ANN, WEB, HTTP)], &[(BOB, WEB, HTTP), (CAT, WEB, DNS), (ANN, WEB, DNS)])
}

/// A change of a label, where labels are groups: of whom it comes from, then of whom it is for.
fn groups_change(bed: &Bed) -> Result<()> {
    let mut stage = Stage::new(bed)?;
    let groups: &[(&str, &[Rule])] = &[
        ("plain", OUT),
        ("friend", &[]),
        ("web", &[ingress("any").with(Group("friend")), egress("any")]),
        ("closed", OUT),
    ];
    stage.set(groups, [&["web"], &["plain", "friend"], &["plain", "friend"], &["plain"]])?;
    let web = SocketAddr::new(stage.ends[WEB].address()?, 53);
    let (ann, bob) = (Talk::start(&stage.ends[ANN], web)?, Talk::start(&stage.ends[BOB], web)?);
    for flow in [&ann, &bob] {
        ensure!(flow.answers_within(bed::PATIENCE), "a friend's flow does not begin");
    }
    stage.check(&[], &[(CAT, WEB, HTTP)])?;

    stage.give(ANN, &["plain"])?;
    stage.give(CAT, &["plain", "friend"])?;
    bed.settle()?;
    let last = ann.ends()?;
    ensure!(last < Duration::from_secs(10), "a flow went on for {last:?} after its port was a friend");
    ensure!(bob.answers_within(bed::PATIENCE), "the other friend's flow ended");
    stage.check(&[(CAT, WEB, HTTP), (BOB, WEB, Ping)], &[(ANN, WEB, HTTP), (ANN, WEB, Ping)])?;

    stage.give(WEB, &["closed"])?;
    bed.settle()?;
    let last = bob.ends()?;
    ensure!(last < Duration::from_secs(10), "a flow went on for {last:?} to a port that is closed");
    stage.check(&[], &[(BOB, WEB, HTTP), (CAT, WEB, DNS)])?;
    stage.give(WEB, &["web"])?;
    bed.settle()?;
    stage.check(&[(BOB, WEB, HTTP), (CAT, WEB, DNS)], &[(ANN, WEB, DNS)])?;
    ensure!(bob.answers_within(bed::PATIENCE), "the friend's flow does not go on");
    Ok(())
}

/// Connection states: nothing may come in, and what comes back does.
fn states(bed: &Bed) -> Result<()> {
    let mut stage = Stage::new(bed)?;
    stage.set(&[("open", OPEN), ("out", OUT)], [&["out"], &["open"], &["open"], &["open"]])?;
    let answered = [(WEB, ANN, HTTP), (WEB, BOB, DNS), (WEB, CAT, Ping), (WEB, CAT, HTTPS)];
    stage.check(&answered, &[(ANN, WEB, HTTP), (BOB, WEB, DNS), (CAT, WEB, Ping)])?;

    // A stranger's datagram to the port from where another one was asked is none of that flow.
    let ann = SocketAddr::new(stage.ends[ANN].address()?, 53);
    let asked = Talk::start(&stage.ends[WEB], ann)?;
    ensure!(asked.answers_within(bed::PATIENCE), "the answer did not come");
    let open = stage.ends[WEB].netns.enter(|| std::net::UdpSocket::bind("0.0.0.0:0"))??;
    open.set_read_timeout(Some(Duration::from_millis(500)))?;
    open.send_to(b"asked", ann)?;
    let mut buffer = [0; 64];
    ensure!(open.recv_from(&mut buffer).context("the answer did not come")?.1 == ann, "somebody else answered");
    let at = SocketAddr::new(stage.ends[WEB].address()?, open.local_addr()?.port());
    for stranger in [ANN, BOB, CAT] {
        let stranger = stage.ends[stranger].netns.enter(|| std::net::UdpSocket::bind("0.0.0.0:0"))??;
        stranger.send_to(b"a stranger's", at)?;
    }
    ensure!(open.recv_from(&mut buffer).is_err(), "a stranger's datagram came in as an answer");
    open.send_to(b"again", ann)?;
    ensure!(open.recv_from(&mut buffer).context("the second answer did not come")?.1 == ann, "somebody else answered");

    // An error about what it sent belongs to its flow.
    let refused = Talk::start(&stage.ends[WEB], SocketAddr::new(stage.ends[BOB].address()?, 9))?;
    bed.wait("the error about a port where nobody listens", || {
        let sent = refused.socket.send(b"anybody?");
        let got = sent.and_then(|_| refused.socket.recv(&mut buffer));
        Ok(got.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused))
    })
}

fn main() -> ExitCode {
    harness::run("tpolicies", bed::settings(), &[SCENARIOS])
}
