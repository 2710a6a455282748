//! Rules change under traffic: two real hosts, of which one bounces for the other's endpoint.

mod common;

use common::api::Api;
use common::host::{Host, Namespace};
use common::traffic::{Pushing, Traffic, client, echo, ping, socket};
use common::{until, world};
use mizar_agent::clock;
use mizar_agent::dataplane::Pins;
use mizar_agent::dataplane::runtime::Runtime;
use mizar_packet::policy::CONFIRM_MS;
use mizar_wire::EntryKey;
use mizar_wire::body::Body;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

const FAR: u32 = 8;

/// The client, port 5, is on the host that bounces for both; the server, port 6, which echoes, on the
/// other, which thus has to ask.
struct Cloud {
    near: Host,
    far: Host,
    client: Arc<Namespace>,
    server: Namespace,
}

impl Cloud {
    /// The group lets anybody in, to these ports.
    fn new(ports: &[u16]) -> Self {
        let cloud = Self::with(&world::group(1, ports));
        echo(&cloud.server, 6);
        cloud
    }

    fn with(groups: &[(EntryKey, Body)]) -> Self {
        let (near_api, far_api) = (Api::new(), Api::of(FAR));
        for api in [&near_api, &far_api] {
            api.put(world::cloud());
            api.put(world::bouncers([FAR, 0]));
            api.put(groups.to_vec());
        }
        far_api.put(world::member(FAR, 5));
        far_api.put(world::member(world::HOST, 6).split_off(1));
        near_api.put(world::member(world::HOST, 6).drain(..1));
        let mut near = Host::new(near_api);
        let mut far = near.opposite(far_api, [192, 0, 2, 8].into());
        near.start();
        far.start();
        let (client, server) = (Arc::new(Namespace::new()), Namespace::new());
        far.container(world::port_id(5), &client);
        near.container(world::port_id(6), &server);
        Self { near, far, client, server }
    }

    /// Both hosts hear of other rules, the endpoint's first.
    fn change(&self, generation: u32, ports: &[u16]) {
        self.near.api.put(world::group(generation, ports));
        self.far.api.put(world::group(generation, ports));
    }

    fn counter(&self, host: &Host, name: &str) -> u64 {
        host.status().counters[name]
    }
}

/// What the kernel delivers while `send` sends: moments and counts, until two seconds and a half after the rules
/// changed from this generation; and when they did. All by the clock of the programs, so that a loaded
/// machine makes it coarse, but never wrong.
fn watched(runtime: &Runtime, from: u32, mut send: impl FnMut()) -> (Vec<(u32, u64)>, u32) {
    let mut samples = Vec::new();
    let since = until("the rules have changed, two seconds and a half ago", || {
        send();
        let at = clock::now().ms;
        samples.push((at, runtime.counters().unwrap()["direct_in"]));
        let (_, force) = runtime.policy(6).unwrap();
        (force.n != from && at.wrapping_sub(force.rules_since_ms) > 2_500).then_some(force.rules_since_ms)
    });
    (samples, since)
}

#[test]
fn a_flow_whose_rule_goes_ends_within_a_second_though_nobody_opens_it_anew() {
    // Also if the bouncer does not hear of it.
    for told in [true, false] {
        let cloud = Cloud::new(&[7]);
        let socket = client(&cloud.client, 5);
        until("the way is known", || ping(&socket, 6, "hello").then_some(()));
        let pins = cloud.near.bpffs();
        let open = move || Runtime::open(&Pins::open(&pins, mizar_abi::ABI).unwrap()).unwrap();
        let runtime = cloud.near.namespace.run(open);
        let before = runtime.policy(6).unwrap().1.n;
        let to = SocketAddr::new(world::address(6), 7);
        if told {
            cloud.change(2, &[9]);
        } else {
            cloud.near.api.put(world::group(2, &[9]));
        }
        let (samples, since) = watched(&runtime, before, || assert!(socket.send_to(b"still?", to).is_ok()));
        // The programs' clock is a tick behind the agent's at most.
        let over = since.wrapping_add(CONFIRM_MS + 100);
        for pair in samples.windows(2) {
            let late = pair[0].0.wrapping_sub(over) < u32::MAX / 2;
            assert!(!late || pair[0].1 == pair[1].1, "delivered {} ms after the change", pair[0].0.wrapping_sub(since));
        }
        if told {
            assert!(cloud.counter(&cloud.near, "answer_in") > 0, "the bouncer was asked");
            assert!(cloud.counter(&cloud.far, "ask_answered") > 0);
        } else {
            assert!(cloud.counter(&cloud.near, "outdated") > 0, "its word is not taken");
        }
        // What is allowed again is found again.
        socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        cloud.change(2, &[7]);
        until("it is allowed again", || ping(&socket, 6, "again").then_some(()));
    }
}

#[test]
fn flows_that_stay_allowed_lose_nothing_while_rules_change() {
    let cloud = Cloud::new(&[7]);
    let first = client(&cloud.client, 5);
    until("the way is known", || ping(&first, 6, "hello").then_some(()));
    let traffic = Traffic::pings(cloud.client.clone(), 5, 6);
    for generation in 2..12 {
        let before = cloud.counter(&cloud.near, "answer_in");
        cloud.change(generation, &[7, generation as u16]);
        until("the bouncer answered", || (cloud.counter(&cloud.near, "answer_in") > before).then_some(()));
        traffic.goes_on();
    }
    traffic.end();
    assert_eq!(cloud.near.status().drops.get("policy_unconfirmed"), None);
}

/// A server that streams to who asked it once hears of the groups that the other leaves from its host alone:
/// no packet of the other shows them.
#[test]
fn a_silent_client_that_leaves_its_group_is_sent_nothing_more_also_if_its_agent_ends_at_that_moment() {
    for ends in [false, true] {
        let mut cloud = Cloud::with(&world::among_themselves());
        let server = socket(&cloud.server, 6, 7);
        let socket = client(&cloud.client, 5);
        until("the way is known", || {
            socket.send_to(b"subscribe", SocketAddr::new(world::address(6), 7)).unwrap();
            server.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
            server.recv_from(&mut [0; 100]).ok()
        });
        let pushing = Pushing::start(server, socket.local_addr().unwrap());
        let mut bytes = [0; 100];
        for _ in 0..100 {
            socket.recv(&mut bytes).unwrap();
        }
        let pins = cloud.far.bpffs();
        let open = move || Runtime::open(&Pins::open(&pins, mizar_abi::ABI).unwrap()).unwrap();
        let runtime = cloud.far.namespace.run(open);
        cloud.far.api.put(world::member_of(world::OTHER_SET, FAR, 5));
        until("the port is in the other group", || (runtime.policy(5)?.0.set == world::OTHER_SET).then_some(()));
        if ends {
            cloud.far.kill();
            cloud.far.start();
        }
        socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        until("nothing comes for a second", || {
            let quiet = |kind| matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut);
            socket.recv(&mut bytes).err().map(|error| assert!(quiet(error.kind()), "{error}"))
        });
        pushing.end();
    }
}
