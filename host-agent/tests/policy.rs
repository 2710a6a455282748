//! Rules change under traffic: two real hosts, of which one bounces for the other's endpoint.

mod common;

use common::api::Api;
use common::host::{Host, Namespace};
use common::traffic::{Traffic, client, echo, ping};
use common::{until, world};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

const FAR: u32 = 8;

/// The client, port 5, is on the host that bounces for both; the server, port 6, which echoes, on the
/// other, which thus has to ask.
struct Cloud {
    near: Host,
    far: Host,
    client: Arc<Namespace>,
    _server: Namespace,
}

impl Cloud {
    fn new(ports: &[u16]) -> Self {
        let (near_api, far_api) = (Api::new(), Api::of(FAR));
        for api in [&near_api, &far_api] {
            api.put(world::cloud());
            api.put(world::bouncers([FAR, 0]));
            api.put(world::group(1, ports));
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
        echo(&server, 6);
        Self { near, far, client, _server: server }
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

#[test]
fn a_flow_whose_rule_goes_ends_within_a_second_though_nobody_opens_it_anew() {
    let cloud = Cloud::new(&[7]);
    let socket = client(&cloud.client, 5);
    until("the way is known", || ping(&socket, 6, "hello").then_some(()));
    cloud.change(2, &[9]);
    let changed = Instant::now();
    socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let to = SocketAddr::new(world::address(6), 7);
    let mut bytes = [0; 10];
    let mut last = Duration::ZERO;
    // Until nothing has come for two seconds. A loaded machine is late, so the last answer is measured.
    while changed.elapsed() < last + Duration::from_secs(2) {
        socket.send_to(b"still?", to).unwrap();
        if socket.recv(&mut bytes).is_ok() {
            last = changed.elapsed();
        }
        assert!(last < Duration::from_secs(10), "the flow goes on");
    }
    assert!(cloud.counter(&cloud.near, "answer_in") > 0, "the bouncer was asked");
    assert!(cloud.counter(&cloud.far, "ask_answered") > 0);
    // What is allowed again is found again.
    socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    cloud.change(2, &[7]);
    until("it is allowed again", || ping(&socket, 6, "again").then_some(()));
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
