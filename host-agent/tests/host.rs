//! The agent on a real kernel: interfaces, programs, maps, restarts.

mod common;

use common::host::{Host, Namespace};
use common::traffic::{client, ping};
use common::{until, world};
use mizar_abi::maps::{Watch, ep_flag};
use mizar_agent::dataplane::Pins;
use mizar_agent::dataplane::marks::Marks;
use mizar_agent::dataplane::runtime::Runtime;
use mizar_agent::sync::source::SourceError;
use mizar_wire::local::{AttachKind, Attached, Call};
use std::process::{Child, Command, Stdio};

/// A process that ends with the test, whatever becomes of it.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_container_is_configured_wired_and_reported() {
    let mut host = Host::with_ports(&[5]);
    host.start();
    let inside = Namespace::new();
    let attached = host.container(world::port_id(5), &inside);
    assert_eq!((attached.mtu, attached.mac.as_str()), (1398, "fa:16:3e:00:00:05"));
    assert_eq!(attached.addresses, ["10.1.0.5/24".parse().unwrap()]);
    assert_eq!(attached.gateway, Some("10.1.0.1".parse().unwrap()));
    assert_eq!(attached.host_ifname, "tap00000005-00");

    let link = inside.command("ip -d link show eth0");
    assert!(link.contains("mtu 1398") && link.contains("fa:16:3e:00:00:05") && link.contains("state UP"), "{link}");
    assert!(inside.command("ip addr show eth0").contains("inet 10.1.0.5/24"));
    assert!(inside.command("ip link show lo").contains("LOOPBACK,UP"));
    let routes = inside.command("ip route");
    assert!(routes.contains("default via 10.1.0.1 dev eth0"), "{routes}");
    assert!(routes.contains("203.0.113.0/24 via 10.1.0.7 dev eth0"), "{routes}");
    let features = inside.command("ethtool -k eth0");
    for feature in [
        "tcp-segmentation-offload: on",
        "tx-udp_tnl-segmentation: on",
        "tx-udp_tnl-csum-segmentation: on",
        "tx-checksumming: on",
    ] {
        assert!(features.contains(feature), "{feature} in {features}");
    }

    until("the port is reported wired", || (host.api.state().wired.get(&5) == Some(&1)).then_some(()));
    assert_eq!(host.status().ports, [world::port_id(5)]);
    let again = host.container(world::port_id(5), &inside);
    let attached = Attached { waited_us: again.waited_us, ..attached };
    assert_eq!(again, attached, "repeating it changes nothing");
    let other = host.attach(world::port_id(5), AttachKind::Tap).unwrap_err();
    assert!(other.contains("detach it first"), "{other}");
}

#[test]
fn an_attach_waits_for_its_port_and_says_what_was_missing() {
    let mut host = Host::with_ports(&[]);
    host.start();
    let inside = Namespace::new();
    let api = host.api.clone();
    std::thread::scope(|threads| {
        let attach = threads.spawn(|| host.container(world::port_id(6), &inside));
        until("the interface is being prepared", || {
            host.namespace.command("ip link").contains("tap00000006-00").then_some(())
        });
        api.put(world::port(6, 1));
        assert_eq!(attach.join().unwrap().mac, "fa:16:3e:00:00:06");
    });
    let missing = host.attach(world::port_id(7), AttachKind::Tap).unwrap_err();
    assert!(missing.contains("not bound to this host"), "{missing}");
    assert!(!host.namespace.command("ip link").contains("tap00000007"), "nothing is left behind");
    let nowhere = AttachKind::Container { netns: "/nonexistent".into(), ifname: "eth0".into() };
    let refused = host.attach(world::port_id(6), nowhere).unwrap_err();
    assert!(refused.contains("detach it first"), "{refused}");
}

#[test]
fn endpoints_talk_and_go_on_talking_while_the_agent_is_dead_and_after_its_restart() {
    let mut host = Host::with_ports(&[5, 6]);
    let (five, six) = host.start_with_two();
    let before = host.container(world::port_id(5), &five);
    let socket = client(&five, 5);
    assert!(ping(&socket, 6, "first"), "drops: {:?}", host.status().drops);
    let index = host.namespace.command("ip -o link show tap00000005-00");

    host.kill();
    for n in 0..50 {
        assert!(ping(&socket, 6, &format!("dead {n}")));
    }
    host.start();
    for n in 0..50 {
        assert!(ping(&socket, 6, &format!("alive {n}")));
    }
    assert_eq!(host.namespace.command("ip -o link show tap00000005-00"), index, "adopted, not made again");
    let after = host.container(world::port_id(5), &five);
    assert_eq!(after, Attached { waited_us: after.waited_us, ..before });
    host.until_wired(2);
    // A new flow too: what the programs need was adopted.
    assert!(!ping(&client(&six, 6), 5, "nobody echoes here"));
    assert!(ping(&client(&five, 5), 6, "new flow"));
}

#[test]
fn a_removed_port_takes_its_interface_and_everything_in_the_maps_along() {
    let mut host = Host::with_ports(&[5, 6]);
    let (five, _six) = host.start_with_two();
    assert!(ping(&client(&five, 5), 6, "hello"));
    host.api.remove(world::keys(world::port(5, 1)));
    until("the interface goes", || (!host.namespace.command("ip link").contains("tap00000005")).then_some(()));
    assert!(!five.command("ip link").contains("eth0"));
    assert_eq!(host.status().ports, [world::port_id(6)]);

    let keep = |body: &mizar_wire::Body| matches!(body, mizar_wire::Body::Host(_) | mizar_wire::Body::ClusterKey(_));
    let rest = world::cloud().into_iter().filter(|(_, body)| !keep(body)).collect();
    host.api.remove([world::keys(world::port(6, 1)), world::keys(rest)].concat());
    let left = until("every map is empty but configuration, hosts and counters", || {
        let left = host.filled_maps();
        (left == ["CFG", "HOSTS"]).then_some(left)
    });
    assert_eq!(left.len(), 2);
    assert_eq!(host.api.state().failures, Vec::<String>::new());
}

#[test]
fn a_detached_port_is_reported_lost_and_can_be_attached_again() {
    let mut host = Host::with_ports(&[5]);
    host.start();
    let inside = Namespace::new();
    host.container(world::port_id(5), &inside);
    until("wired", || host.api.state().wired.get(&5).copied());
    host.call(&Call::Detach { port: world::port_id(5) });
    until("lost", || (!host.api.state().wired.contains_key(&5)).then_some(()));
    assert!(!host.namespace.command("ip link").contains("tap00000005"));
    let maps = host.filled_maps();
    assert!(!maps.iter().any(|m| m == "EP" || m == "IFACE" || m == "ADDR"), "{maps:?}");
    host.call(&Call::Detach { port: world::port_id(5) });
    host.container(world::port_id(5), &inside);
    until("wired again", || host.api.state().wired.get(&5).copied());
}

#[test]
fn a_container_that_vanishes_is_reported_lost() {
    let mut host = Host::with_ports(&[5]);
    host.start();
    let inside = Namespace::new();
    host.container(world::port_id(5), &inside);
    until("wired", || host.api.state().wired.get(&5).copied());
    drop(inside);
    until("lost", || (!host.api.state().wired.contains_key(&5)).then_some(()));
    assert!(host.status().ports.is_empty());
    host.call(&Call::Detach { port: world::port_id(5) });
}

#[test]
fn what_changed_while_the_agent_was_dead_arrives_after_its_restart() {
    let mut host = Host::with_ports(&[5, 6]);
    host.start();
    let (five, six) = (Namespace::new(), Namespace::new());
    host.container(world::port_id(5), &five);
    host.container(world::port_id(6), &six);
    host.until_wired(2);
    host.kill();
    host.api.remove(world::keys(world::port(5, 1)));
    host.api.put(world::port(6, 2));
    host.api.put(world::port(7, 1));
    drop(six);
    host.start();
    until("port 5 is gone", || (!host.namespace.command("ip link").contains("tap00000005")).then_some(()));
    until("port 6 is known to be lost", || (!host.api.state().wired.contains_key(&6)).then_some(()));
    let seven = Namespace::new();
    host.container(world::port_id(7), &seven);
    until("port 7 is wired", || host.api.state().wired.get(&7).copied());
}

#[test]
fn without_the_api_a_restarted_agent_forwards_from_its_ledger() {
    let mut host = Host::with_ports(&[5, 6]);
    let (five, _six) = host.start_with_two();
    until("everything is acknowledged", || (host.api.state().acked >= 3).then_some(()));
    host.kill();
    host.api.state().outage = Some(|| SourceError::Unreachable("the cable is cut".into()));
    host.start();
    assert!(ping(&client(&five, 5), 6, "hello"));
    let seven = Namespace::new();
    host.call(&Call::Detach { port: world::port_id(5) });
    let again =
        host.attach(world::port_id(5), AttachKind::Container { netns: seven.path.clone(), ifname: "eth0".into() });
    assert!(again.is_ok(), "{again:?}");
    assert!(ping(&client(&seven, 5), 6, "from elsewhere"));
}

#[test]
fn without_its_ledger_an_agent_leaves_everything_as_it_is_until_a_snapshot() {
    let mut host = Host::with_ports(&[5, 6]);
    let (five, _six) = host.start_with_two();
    let socket = client(&five, 5);
    assert!(ping(&socket, 6, "hello"));
    host.kill();
    std::fs::write(host.ledger(), "nonsense").unwrap();
    host.api.state().outage = Some(|| SourceError::Unreachable("the cable is cut".into()));
    host.start();
    assert!(ping(&socket, 6, "still there"));
    assert!(ping(&client(&five, 5), 6, "new flows too"));
    host.api.state().outage = None;
    until("the snapshot is in force", || (host.status().entries == 9).then_some(()));
    assert!(ping(&socket, 6, "and after it"));
    host.until_wired(2);
}

#[test]
fn a_snapshot_that_lacks_over_half_of_the_ports_takes_none_until_it_is_confirmed() {
    let mut host = Host::with_ports(&[5, 6, 7]);
    host.start();
    let inside: Vec<_> = [5, 6, 7].into_iter().map(|n| (n, Namespace::new())).collect();
    for (number, namespace) in &inside {
        host.container(world::port_id(*number), namespace);
    }
    host.until_wired(3);
    host.kill();
    host.api.restore([world::port_key(5), world::port_key(6)]);
    host.start();
    host.api.put(world::port(8, 1));
    until("news arrive", || (host.api.state().acked >= 5).then_some(()));
    assert_eq!(host.status().ports.len(), 3);
    assert!(host.namespace.command("ip link").contains("tap00000005"));
    host.kill();
    host.api.state().confirmed = true;
    host.start();
    until("the ports go", || (host.status().ports.len() == 1).then_some(()));
}

#[test]
fn a_guest_configures_itself_by_dhcp() {
    let mut host = Host::with_ports(&[5]);
    let options =
        [(66, "626f6f74"), (67, "7078652e30"), (15, "6578616d706c652e6f7267"), (6, "0a010003"), (12, "776562")];
    host.api.put(world::told(world::port(5, 1), &options));
    host.start();
    let inside = Namespace::new();
    host.container(world::port_id(5), &inside);
    inside.command("ip addr flush dev eth0");
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let request = "subnet-mask, routers, domain-name-servers, interface-mtu, host-name, domain-name, \
        tftp-server-name, bootfile-name, rfc3442-classless-static-routes";
    std::fs::write(
        at("dhclient.conf"),
        format!("option rfc3442-classless-static-routes code 121 = array of unsigned integer 8;\nrequest {request};\n"),
    )
    .unwrap();
    // Told in one piece: whoever sees the file sees all of it.
    let script = format!(
        "#!/bin/sh\ncase $reason in BOUND) env > {part} && mv {part} {told};; esac\n",
        part = at("part").display(),
        told = at("told").display()
    );
    std::fs::write(at("script"), script).unwrap();
    std::fs::set_permissions(at("script"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    // In the foreground: a client that goes to the background returns before its process id is
    // written down.
    let mut dhclient = Command::new("dhclient");
    dhclient.args(["-4", "-d", "-1"]).stdout(Stdio::null()).stderr(Stdio::null());
    for (flag, file) in [("-cf", "dhclient.conf"), ("-sf", "script"), ("-lf", "leases"), ("-pf", "pid")] {
        dhclient.arg(flag).arg(at(file));
    }
    dhclient.arg("eth0");
    let client = Ended(inside.run(move || dhclient.spawn().unwrap()));
    let told = until("the lease is told", || std::fs::read_to_string(at("told")).ok());
    drop(client);
    for expected in [
        "new_ip_address=10.1.0.5",
        "new_subnet_mask=255.255.255.0",
        "new_routers=10.1.0.1",
        "new_domain_name_servers=10.1.0.3",
        "new_domain_name=example.org",
        "new_tftp_server_name=boot",
        "new_bootfile_name=pxe.0",
        "new_interface_mtu=1398",
        "new_dhcp_lease_time=86400",
        "new_dhcp_server_identifier=10.1.0.1",
        "new_host_name=web",
        "new_rfc3442_classless_static_routes=24 203 0 113 10 1 0 7 0 10 1 0 1",
    ] {
        assert!(told.lines().any(|line| line == expected), "{expected} in {told}");
    }
}

#[test]
fn a_bouncer_that_does_not_answer_is_avoided_and_no_flow_is_lost() {
    let mut host = Host::with_ports(&[5, 6]);
    // Host 8 is on the underlay's wire, but nobody is there.
    host.api.put(world::bouncers([8, world::HOST]));
    let (five, _six) = host.start_with_two();
    // Flows spread over both bouncers by their ports: some of these ask host 8.
    let asked = until("host 8 is asked", || {
        ping(&client(&five, 5), 6, "hello");
        host.status().maps.get("PENDING").filter(|n| **n > 0).copied()
    });
    assert_eq!(asked, 1);
    until("host 8 is avoided", || (host.status().maps["DEAD"] == 1).then_some(()));
    for n in 0..20 {
        assert!(ping(&client(&five, 5), 6, &format!("flow {n}")), "drops: {:?}", host.status().drops);
    }
    // Its role goes elsewhere: nothing is remembered of it.
    host.api.put(world::bouncers([world::HOST, 0]));
    until("host 8 is forgotten", || {
        let maps = host.status().maps;
        (maps["DEAD"] == 0 && maps["PENDING"] == 0).then_some(())
    });
}

#[test]
fn a_path_that_means_another_namespace_gets_an_interface_of_its_own() {
    let mut host = Host::with_ports(&[5]);
    host.start();
    let (old, new) = (Namespace::new(), Namespace::new());
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("netns");
    let kind = AttachKind::Container { netns: path.display().to_string(), ifname: "eth0".into() };
    std::os::unix::fs::symlink(&old.path, &path).unwrap();
    host.attach(world::port_id(5), kind.clone()).unwrap();
    std::fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink(&new.path, &path).unwrap();
    host.attach(world::port_id(5), kind).unwrap();
    assert!(new.command("ip addr show eth0").contains("inet 10.1.0.5/24"));
    assert!(!old.command("ip link").contains("eth0"));
    until("reported", || host.api.state().wired.get(&5).copied());
}

#[test]
fn what_is_no_network_namespace_is_refused_at_once_and_leaves_nothing() {
    let mut host = Host::with_ports(&[5]);
    host.start();
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("pipe");
    let absent = dir.path().join("absent");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    for (netns, why) in [
        (pipe.to_str().unwrap(), "is no network namespace"),
        ("/dev/null", "is no network namespace"),
        ("/proc/self/ns/mnt", "Invalid argument"),
        (absent.to_str().unwrap(), "No such file"),
        ("proc/self/ns/net", "is no absolute path"),
    ] {
        let kind = AttachKind::Container { netns: netns.into(), ifname: "eth0".into() };
        let refused = host.attach(world::port_id(5), kind).unwrap_err();
        assert!(refused.contains(why), "{netns}: {refused}");
    }
    let named_by_the_kernel = AttachKind::Host { ifname: "eth%d".into() };
    let refused = host.attach(world::port_id(5), named_by_the_kernel).unwrap_err();
    assert!(refused.contains("no interface name"), "{refused}");
    assert!(!host.namespace.command("ip link").contains("tap00000005"));
}

#[test]
fn an_address_that_a_port_gives_up_takes_its_flows_along() {
    let mut host = Host::with_ports(&[5, 6]);
    let (five, _six) = host.start_with_two();
    let socket = client(&five, 5);
    assert!(ping(&socket, 6, "hello"));
    let flows = || host.status().maps["FLOW_EST"] + host.status().maps["FLOW_NEW"];
    let both = flows();
    assert!(both >= 2, "one for each end");
    let mut moved = world::port(5, 1);
    moved.truncate(1);
    if let mizar_wire::Body::Port(port) = &mut moved[0].1 {
        port.fixed_ips[0].address = world::address(50);
    }
    host.api.put(moved);
    until("the flow of the former address goes", || (flows() < both).then_some(()));
}

#[test]
fn a_packet_that_is_waited_for_is_not_forgotten_when_an_earlier_one_of_its_port_is_over() {
    let mut host = Host::with_ports(&[5]);
    host.start();
    let inside = Namespace::new();
    host.container(world::port_id(5), &inside);
    let path = host.bpffs();
    host.namespace.run(move || {
        let pins = Pins::open(&path, mizar_abi::ABI).unwrap();
        let (mut marks, runtime) = (Marks::open(&pins).unwrap(), Runtime::open(&pins).unwrap());
        let until = mizar_agent::clock::now().s + 60;
        let watched = || runtime.policy(5).unwrap().0.flags & ep_flag::WATCHED != 0;
        for id in [7, 8] {
            assert!(marks.set(5, Watch { id, until, dst: [10, 1, 0, 6], ..Watch::default() }).unwrap());
        }
        // The former is over, and whoever was told so acts on it only now.
        marks.clear(5, 7).unwrap();
        assert!(watched());
        marks.clear(5, 8).unwrap();
        assert!(!watched());
    });
    assert_eq!(host.status().maps["WATCH"], 0);
}

#[test]
fn flows_of_ports_that_went_while_no_agent_looked_are_swept_at_the_start() {
    let mut host = Host::with_ports(&[5, 6]);
    let (five, _six) = host.start_with_two();
    assert!(ping(&client(&five, 5), 6, "hello"));
    host.kill();
    host.api.remove(world::keys(world::port(5, 1)));
    host.api.remove(world::keys(world::port(6, 1)));
    host.start();
    until("nothing is remembered", || {
        let left = host.filled_maps();
        (!["FLOW_EST", "FLOW_NEW", "BUCKET", "DROPS"].iter().any(|map| left.iter().any(|l| l == map))).then_some(())
    });
}
