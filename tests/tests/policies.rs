//! Security groups and label policies with real traffic: what the original's policy tests ask, in their words, what the
//! public recipes of Kubernetes network policies ask, once with groups in the place of labels and once with
//! their own manifests, and what
//! becomes of flows while rules and groups change.
//!
//! To come with load balancers: a policy of a virtual address.

use anyhow::{Context, Result, ensure};
use mizar::sandbox::traffic::TcpStreaming;
use mizar_abi::reason::Drop;
use mizar_tests::bed::Bed;
use mizar_tests::groups::Probe::Ping;
use mizar_tests::groups::Remote::{Group, Net};
use mizar_tests::groups::{
    ANN, BOB, CAT, DNS, GIVE_UP, HTTP, HTTPS, OPEN, OUT, Rule, Stage, Talk, WEB, egress, ingress,
};
use mizar_tests::harness::Scenario;
use mizar_tests::scenarios::{group_cases as cases, label_policies};
use mizar_tests::{bed, harness};
use serde_json::json;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

const SCENARIOS: &[Scenario] = &[
    ("rules_by_range_exception_group_and_port_let_pass_what_they_say", |bed| Stage::new(bed)?.play(cases::DIRECTIONS)),
    ("the_recipes_of_kubernetes_policies_hold_for_groups", |bed| Stage::new(bed)?.play(cases::RECIPES)),
    ("a_port_without_port_security_is_filtered_by_nothing", unfiltered),
    ("a_port_speaks_by_an_address_of_an_allowed_pair_and_by_no_other", address_pairs),
    ("a_rule_that_goes_ends_its_flows_and_no_others", rules_change),
    ("a_port_that_loses_a_group_loses_what_it_may", groups_change),
    ("what_a_port_asked_for_comes_back_and_nothing_else", states),
    ("answers_need_rules_of_their_own_where_all_groups_are_stateless", stateless),
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

/// An address beside a port's own, and how long it may be used.
fn address_pairs(bed: &Bed) -> Result<()> {
    const SHARED: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 200);
    const OTHER: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 201);
    let mut stage = Stage::new(bed)?;
    let groups: &[(&str, &[Rule])] = &[
        ("open", OPEN),
        ("friend", &[ingress("any"), egress("udp").ports(53, 53)]),
        ("web", &[ingress("udp").with(Net("10.1.0.200/32")), egress("any")]),
        ("by-group", &[ingress("udp").with(Group("friend")), egress("any")]),
    ];
    stage.set(groups, [&["web"], &["friend"], &["open"], &["by-group"]])?;
    let ann = &stage.ends[ANN];
    let lines = [SHARED, OTHER].map(|address| format!("addr add {address}/32 dev {}\n", ann.ifname));
    ann.netns.ip(&lines.concat())?;
    let talk = |from: Ipv4Addr, to: usize, port: u16| {
        Talk::start_as(&stage.ends[ANN], from, SocketAddr::new(stage.ends[to].address()?, port))
    };
    let reaches = |from, to| anyhow::Ok(talk(from, to, 53)?.answers_within(bed::PATIENCE));
    // Whether what it sends from there is dropped for the address, at its own host.
    let is_spoof = |from, to| {
        let before = bed.drops(1, Drop::Spoof)?;
        let answered = talk(from, to, 53)?.answers_within(GIVE_UP);
        anyhow::Ok(!answered && bed.drops(1, Drop::Spoof)? > before)
    };
    for to in [WEB, BOB, CAT] {
        ensure!(is_spoof(SHARED, to)?, "a foreign address was let out");
    }

    stage.change(ANN, &json!({"allowed_address_pairs": [{"ip_address": SHARED}]}))?;
    bed.settle()?;
    // By rules that name the address, those that name a group of the port, and those that name nobody, its own too.
    for to in [WEB, BOB, CAT] {
        ensure!(reaches(SHARED, to)?, "an allowed address does not reach {to}");
        ensure!(is_spoof(OTHER, to)?, "a foreign address was let out");
    }
    ensure!(!talk(SHARED, BOB, 123)?.answers_within(GIVE_UP), "the port's egress rules do not count");
    stage.check(&[(ANN, BOB, DNS), (ANN, CAT, DNS)], &[(ANN, WEB, DNS), (ANN, BOB, HTTP)])?;

    let (goes, stays) = (talk(SHARED, CAT, 53)?, talk(Ipv4Addr::UNSPECIFIED, CAT, 53)?);
    ensure!(goes.answers_within(bed::PATIENCE) && stays.answers_within(bed::PATIENCE), "a flow does not begin");
    stage.change(ANN, &json!({"allowed_address_pairs": []}))?;
    let last = goes.ends()?;
    ensure!(last < Duration::from_secs(10), "a flow went on for {last:?} after its address was the port's");
    ensure!(stays.answers_within(bed::PATIENCE), "the flow of the port's own address ended");
    ensure!(is_spoof(SHARED, BOB)?, "an address that is allowed no more was let out");
    Ok(())
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

/// No connection states: what comes back needs a rule, at whichever end has stateless groups.
fn stateless(bed: &Bed) -> Result<()> {
    const SERVER: &[Rule] = &[
        ingress("tcp").ports(80, 80),
        ingress("udp").ports(53, 53),
        ingress("icmp").kind(8),
        egress("tcp").ports(1024, 65535),
        egress("udp").ports(1024, 65535),
        egress("icmp").kind(0),
    ];
    const ANSWERED: &[Rule] =
        &[ingress("tcp").ports(1024, 65535), ingress("udp").ports(1024, 65535), ingress("icmp").kind(0), egress("any")];
    let mut stage = Stage::new(bed)?;
    stage.stateless = &["server", "mute", "answered", "deaf"];
    let groups: &[(&str, &[Rule])] =
        &[("server", SERVER), ("mute", &[ingress("any")]), ("answered", ANSWERED), ("deaf", OUT), ("plain", OUT)];
    // Ann may be answered, Bob not; Cat's group is stateful.
    stage.set(groups, [&["server"], &["answered"], &["deaf"], &["plain"]])?;
    let all = |from| [(from, WEB, HTTP), (from, WEB, DNS), (from, WEB, Ping)];
    stage.check(&[all(ANN), all(CAT)].concat(), &[&all(BOB)[..], &[(ANN, WEB, HTTPS), (WEB, CAT, HTTP)]].concat())?;

    // One stateful group makes the port so.
    stage.give(BOB, &["deaf", "plain"])?;
    bed.settle()?;
    stage.check(&all(BOB), &[(ANN, BOB, HTTP)])?;

    // Flows end with the rule for the answers alone, and go on with it.
    let web = SocketAddr::new(stage.ends[WEB].address()?, 53);
    let (ann, cat) = (Talk::start(&stage.ends[ANN], web)?, Talk::start(&stage.ends[CAT], web)?);
    ensure!(ann.answers_within(bed::PATIENCE) && cat.answers_within(bed::PATIENCE), "a flow does not begin");
    stage.give(WEB, &["mute"])?;
    bed.settle()?;
    for flow in [&ann, &cat] {
        let last = flow.ends()?;
        ensure!(last < Duration::from_secs(10), "answers went on for {last:?} without a rule");
    }
    stage.check(&[], &[all(ANN), all(CAT)].concat())?;
    stage.give(WEB, &["server"])?;
    bed.settle()?;
    ensure!(ann.answers_within(bed::PATIENCE) && cat.answers_within(bed::PATIENCE), "a flow does not go on");
    stage.check(&[all(ANN), all(BOB), all(CAT)].concat(), &[])
}

fn main() -> ExitCode {
    harness::run("tpolicies", bed::settings(), &[SCENARIOS, label_policies::SCENARIOS])
}
