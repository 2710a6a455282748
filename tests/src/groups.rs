//! Security groups and label policies in scenarios: four endpoints, what these say, and what passes
//! between them.

use crate::bed::Bed;
use crate::tenant::{At, Tenant, at};
use anyhow::{Context, Result, bail, ensure};
use mizar::demo::tenant::in_parallel;
use mizar::sandbox::endpoint::Endpoint;
use mizar::sandbox::netns::Netns;
use mizar::sandbox::traffic::{PingOptions, TcpServer, connect, ping, read_banner};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The other side of a rule.
#[derive(Clone, Copy, Debug)]
pub enum Remote {
    /// Whoever it is.
    Anybody,
    /// Addresses.
    Net(&'static str),
    /// Ports with a group of this name.
    Group(&'static str),
    /// An address group of these.
    Addresses(&'static [&'static str]),
}

/// A rule: what may pass.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    direction: &'static str,
    protocol: Option<&'static str>,
    numbers: Option<(u8, u16, u16)>,
    remote: Remote,
}

/// What may come in of a protocol (`any` of all), from anybody.
pub const fn ingress(protocol: &'static str) -> Rule {
    Rule { direction: "ingress", protocol: Some(protocol), numbers: None, remote: Remote::Anybody }
}

/// What may go out of a protocol, to anybody.
pub const fn egress(protocol: &'static str) -> Rule {
    Rule { direction: "egress", ..ingress(protocol) }
}

impl Rule {
    /// Only of, or to, these.
    pub const fn with(self, remote: Remote) -> Self {
        Self { remote, ..self }
    }

    /// Only to these ports.
    pub const fn ports(self, first: u16, last: u16) -> Self {
        Self { numbers: Some((2, first, last)), ..self }
    }

    /// Only messages of ICMP of this type.
    pub const fn kind(self, kind: u16) -> Self {
        Self { numbers: Some((1, kind, 0)), ..self }
    }
}

/// Everything may pass.
pub const OPEN: &[Rule] = &[ingress("any"), egress("any")];
/// Everything may go out, and nothing come in.
pub const OUT: &[Rule] = &[egress("any")];

/// What is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// A connection to this port, to where the server has said who it is.
    Tcp(u16),
    /// A datagram to this port, and its answer.
    Udp(u16),
    /// An echo.
    Ping,
}

/// Where servers listen.
const TCP_PORTS: [u16; 3] = [80, 443, 5000];
/// Where datagrams are answered.
const UDP_PORTS: [u16; 2] = [53, 123];

/// Of the web.
pub const HTTP: Probe = Probe::Tcp(80);
/// Of the web.
pub const HTTPS: Probe = Probe::Tcp(443);
/// Of some application.
pub const API: Probe = Probe::Tcp(5000);
/// Of names.
pub const DNS: Probe = Probe::Udp(53);

/// A probe from one endpoint to another.
pub type Try = (usize, usize, Probe);

/// What the groups of endpoints say, and what follows.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// In words.
    pub name: &'static str,
    /// Groups and their rules.
    pub groups: &'static [(&'static str, &'static [Rule])],
    /// The groups of each endpoint.
    pub ports: [&'static [&'static str]; 4],
    /// What must pass.
    pub passes: &'static [Try],
    /// What must not.
    pub fails: &'static [Try],
}

/// Which endpoint is which: a server and its neighbour of another subnet on one host, and two clients
/// on others, of which one carries transit.
pub const WEB: usize = 0;
/// On the second host.
pub const ANN: usize = 1;
/// On the third host, which bounces.
pub const BOB: usize = 2;
/// In the second subnet, on the server's host.
pub const CAT: usize = 3;

/// The four endpoints' addresses.
pub const ADDRESSES: [&str; 4] = ["10.1.0.10", "10.1.0.130", "10.1.0.131", "10.2.0.10"];

const PATIENCE: Duration = Duration::from_secs(20);
/// What has not passed by then does not: others are tried meanwhile, which do.
pub const GIVE_UP: Duration = Duration::from_millis(700);

/// The endpoints, with servers on each.
pub struct Stage<'a> {
    bed: &'a Bed,
    tenant: Tenant<'a>,
    /// In the order of the constants.
    pub ends: [Endpoint; 4],
    groups: BTreeMap<String, String>,
    addresses: Vec<String>,
    /// Names of groups that are made stateless.
    pub stateless: &'static [&'static str],
    _servers: Vec<TcpServer>,
    _echoes: Vec<Echo>,
}

impl<'a> Stage<'a> {
    /// Makes them.
    pub fn new(bed: &'a Bed) -> Result<Self> {
        bed.transit_on(&[2, 3])?;
        let tenant = bed.tenant()?;
        let net = tenant.network(&["10.1.0.0/24", "10.2.0.0/24"])?;
        let place = |end: usize, subnet, host| At { address: Some(ADDRESSES[end]), ..at(subnet, host) };
        let places = [place(WEB, 0, 0), place(ANN, 0, 1), place(BOB, 0, 2), place(CAT, 1, 0)];
        let ends = tenant.endpoints(&net, places)?;
        let (mut servers, mut echoes) = (Vec::new(), Vec::new());
        for end in &ends {
            let address = end.address()?;
            for port in TCP_PORTS {
                servers.push(TcpServer::start(&end.netns, SocketAddr::new(address, port), &end.port.to_string())?);
            }
            for port in UDP_PORTS {
                echoes.push(Echo::start(&end.netns, SocketAddr::new(address, port))?);
            }
        }
        let (groups, addresses) = (BTreeMap::new(), Vec::new());
        Ok(Self { bed, tenant, ends, groups, addresses, stateless: &[], _servers: servers, _echoes: echoes })
    }

    /// Every case, one after the other. The error names those that are wrong, and what was.
    pub fn play(&mut self, cases: &[Case]) -> Result<()> {
        let mut wrong = Vec::new();
        for case in cases {
            self.set(case.groups, case.ports).with_context(|| format!("preparing: {}", case.name))?;
            let failed = self.judge(case.passes, case.fails)?;
            if !failed.is_empty() {
                wrong.push(format!("{}: {}", case.name, failed.join(", ")));
            }
        }
        ensure!(wrong.is_empty(), "{}", wrong.join("; "));
        Ok(())
    }

    /// Gives the endpoints these groups, and removes those of before; every host knows when this
    /// returns.
    pub fn set(&mut self, groups: &[(&str, &[Rule])], ports: [&[&str]; 4]) -> Result<()> {
        let (old, old_addresses) = (std::mem::take(&mut self.groups), std::mem::take(&mut self.addresses));
        for (name, _) in groups {
            let id = self.make(name)?;
            self.groups.insert((*name).to_owned(), id);
        }
        for (name, rules) in groups {
            for rule in *rules {
                self.add(name, *rule)?;
            }
        }
        for (end, names) in ports.into_iter().enumerate() {
            self.give(end, names)?;
        }
        for id in old.into_values() {
            self.tenant.api.delete(&format!("/v2.0/security-groups/{id}"))?;
        }
        for id in old_addresses {
            self.tenant.api.delete(&format!("/v2.0/address-groups/{id}"))?;
        }
        self.bed.settle()
    }

    /// A group without rules: what new groups begin with goes.
    fn make(&self, name: &str) -> Result<String> {
        let body = json!({"security_group": {"name": name, "stateful": !self.stateless.contains(&name)}});
        let made = self.tenant.api.post("/v2.0/security-groups", &body)?["security_group"].take();
        for rule in made["security_group_rules"].as_array().into_iter().flatten() {
            self.tenant.api.delete(&format!("/v2.0/security-group-rules/{}", text(rule, "id")?))?;
        }
        text(&made, "id")
    }

    fn group(&self, name: &str) -> Result<&String> {
        self.groups.get(name).with_context(|| format!("the case has no group {name}"))
    }

    /// Adds a rule; returns its id.
    pub fn add(&mut self, group: &str, rule: Rule) -> Result<String> {
        let Rule { direction, protocol, numbers, remote } = rule;
        let mut body = json!({"security_group_id": self.group(group)?, "direction": direction, "protocol": protocol});
        if let Some((count, first, second)) = numbers {
            body["port_range_min"] = json!(first);
            if count == 2 {
                body["port_range_max"] = json!(second);
            }
        }
        match remote {
            Remote::Anybody => {}
            Remote::Net(net) => body["remote_ip_prefix"] = json!(net),
            Remote::Group(name) => body["remote_group_id"] = json!(self.group(name)?),
            Remote::Addresses(addresses) => {
                let group = json!({"address_group": {"name": group, "addresses": addresses}});
                let made = text(&self.tenant.api.post("/v2.0/address-groups", &group)?["address_group"], "id")?;
                body["remote_address_group_id"] = json!(made);
                self.addresses.push(made);
            }
        }
        let made = self.tenant.api.post("/v2.0/security-group-rules", &json!({"security_group_rule": body}))?;
        text(&made["security_group_rule"], "id")
    }

    /// Takes a rule away; every host knows when this returns.
    pub fn remove(&self, rule: &str) -> Result<()> {
        self.tenant.api.delete(&format!("/v2.0/security-group-rules/{rule}"))?;
        self.bed.settle()
    }

    /// Gives an endpoint these groups.
    pub fn give(&self, end: usize, names: &[&str]) -> Result<()> {
        let ids: Vec<&String> = names.iter().map(|name| self.group(name)).collect::<Result<_>>()?;
        self.change(end, &json!({"security_groups": ids}))
    }

    /// Labels an endpoint, in a namespace with labels of its own.
    pub fn label(&self, end: usize, labels: &Value) -> Result<()> {
        self.change(end, &json!({"mizar:labels": labels}))
    }

    /// Makes these the label policies, as a manifest's name and spec in a namespace; every host knows when this
    /// returns. Others go; what is there under the same name is changed in its place.
    pub fn policies(&self, policies: &[(&str, &str, Value)]) -> Result<()> {
        let old = self.tenant.api.get("/v2.0/label-policies?fields=id&fields=namespace&fields=name")?;
        for policy in old["label_policies"].as_array().into_iter().flatten() {
            if !policies.iter().any(|(namespace, name, _)| policy["namespace"] == *namespace && policy["name"] == *name)
            {
                self.tenant.api.delete(&format!("/v2.0/label-policies/{}", text(policy, "id")?))?;
            }
        }
        let manifest = |(namespace, name, spec): &(&str, &str, Value)| {
            serde_saphyr::to_string(&json!({
                "apiVersion": "networking.k8s.io/v1",
                "kind": "NetworkPolicy",
                "metadata": {"name": name, "namespace": namespace},
                "spec": spec,
            }))
        };
        let manifests: Vec<String> = policies.iter().map(manifest).collect::<Result<_, _>>()?;
        if !manifests.is_empty() {
            self.apply(&manifests.join("\n---\n"))?;
        }
        self.bed.settle()
    }

    /// Applies manifests as a file of them is applied; what the command says of each.
    pub fn apply(&self, manifests: &str) -> Result<String> {
        let file = self.bed.sandbox.layout().dir().join("policies.yaml");
        std::fs::write(&file, manifests)?;
        let said = self.tenant.cli()?.run(&format!("policy apply -f {}", file.display()));
        std::fs::remove_file(&file)?;
        said
    }

    /// Changes an endpoint's port.
    pub fn change(&self, end: usize, attributes: &Value) -> Result<()> {
        let path = format!("/v2.0/ports/{}", self.ends[end].port);
        self.tenant.api.put(&path, Some(&json!({"port": attributes}))).map(drop)
    }

    /// Wants what passes and what does not.
    pub fn check(&self, passes: &[Try], fails: &[Try]) -> Result<()> {
        let failed = self.judge(passes, fails)?;
        ensure!(failed.is_empty(), "{}", failed.join(", "));
        Ok(())
    }

    /// Tries everything at once; what went otherwise, in words.
    fn judge(&self, passes: &[Try], fails: &[Try]) -> Result<Vec<String>> {
        let all: Vec<(Try, bool)> =
            passes.iter().map(|one| (*one, true)).chain(fails.iter().map(|one| (*one, false))).collect();
        let done = in_parallel(&all, |(one, passes)| self.passes(*one, if *passes { PATIENCE } else { GIVE_UP }))?;
        let wrong = all.iter().zip(done).filter(|((_, wanted), got)| wanted != got);
        let words = |((from, to, probe), wanted): &(Try, bool)| {
            let what = if *wanted { "did not pass" } else { "passed" };
            format!("{probe:?} from {} to {} {what}", ADDRESSES[*from], ADDRESSES[*to])
        };
        Ok(wrong.map(|(one, _)| words(one)).collect())
    }

    fn passes(&self, (from, to, probe): Try, patience: Duration) -> Result<bool> {
        let (from, to) = (&self.ends[from], &self.ends[to]);
        let address = to.address()?;
        match probe {
            Probe::Tcp(port) => {
                let Ok(mut stream) = connect(&from.netns, SocketAddr::new(address, port), patience) else {
                    return Ok(false);
                };
                let banner = read_banner(&mut stream)?;
                ensure!(banner == to.port.to_string(), "{banner} answered for {}", to.port);
                Ok(true)
            }
            Probe::Udp(port) => Ok(Talk::start(from, SocketAddr::new(address, port))?.answers_within(patience)),
            Probe::Ping => {
                let options = PingOptions { count: 1, patience, ..PingOptions::default() };
                Ok(ping(&from.netns, address, &options)?.received == 1)
            }
        }
    }
}

fn text(of: &Value, member: &str) -> Result<String> {
    of[member].as_str().map(str::to_owned).with_context(|| format!("no `{member}` in {of}"))
}

/// A flow of datagrams from an endpoint's socket, each of which is to be answered.
#[derive(Debug)]
pub struct Talk {
    /// Connected.
    pub socket: UdpSocket,
}

impl Talk {
    /// From any port.
    pub fn start(from: &Endpoint, to: SocketAddr) -> Result<Self> {
        Self::start_as(from, Ipv4Addr::UNSPECIFIED, to)
    }

    /// From any port of this address.
    pub fn start_as(from: &Endpoint, address: Ipv4Addr, to: SocketAddr) -> Result<Self> {
        let socket = from.netns.enter(|| -> std::io::Result<UdpSocket> {
            let socket = UdpSocket::bind((address, 0))?;
            socket.connect(to)?;
            Ok(socket)
        })??;
        socket.set_read_timeout(Some(Duration::from_millis(50)))?;
        Ok(Self { socket })
    }

    /// Sends until an answer comes.
    pub fn answers_within(&self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            if self.is_answered() {
                return true;
            }
        }
        false
    }

    /// Sends once. Errors are of ICMP, and no answers.
    fn is_answered(&self) -> bool {
        let mut buffer = [0; 16];
        self.socket.send(b"still there?").is_ok() && self.socket.recv(&mut buffer).is_ok()
    }

    /// Goes on until nothing has come back for two seconds; how long after the beginning of this call
    /// something did.
    pub fn ends(&self) -> Result<Duration> {
        let start = Instant::now();
        let mut last = Duration::ZERO;
        while start.elapsed() < last + Duration::from_secs(2) {
            if self.is_answered() {
                last = start.elapsed();
            }
            if last > PATIENCE {
                bail!("the flow goes on");
            }
        }
        Ok(last)
    }
}

/// Answers datagrams with themselves.
#[derive(Debug)]
struct Echo {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Echo {
    fn start(netns: &Netns, at: SocketAddr) -> Result<Self> {
        let socket = netns.enter(|| UdpSocket::bind(at))??;
        socket.set_read_timeout(Some(Duration::from_millis(50)))?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut buffer = [0; 64];
            while !stopped.load(Ordering::Relaxed) {
                // Errors are of the clock, or of ICMP about an answer that nobody waited for.
                if let Ok((length, peer)) = socket.recv_from(&mut buffer) {
                    let _ = socket.send_to(&buffer[..length], peer);
                }
            }
        });
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic has printed itself.
            let _ = thread.join();
        }
    }
}
