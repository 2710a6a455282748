//! What the demo tries between ports, what should come of it, and what came.

use super::tenant::{Tenant, in_parallel};
use crate::sandbox::endpoint::Endpoint;
use crate::sandbox::traffic::{PingOptions, TcpServer, ping, tcp_exchange};
use anyhow::Result;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// Port of the demo's servers.
const TCP_PORT: u16 = 8080;
/// Bytes of one TCP exchange each way: several segments, so that wrong sizes show.
const TCP_BYTES: usize = 100_000;

/// Where two ports are to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Relation {
    /// One host, one subnet.
    SameHost,
    /// Two hosts, one subnet.
    AcrossHosts,
    /// One host, two subnets.
    SubnetsSameHost,
    /// Two hosts, two subnets.
    SubnetsAcrossHosts,
    /// Two tenants.
    OtherTenant,
}

impl Relation {
    /// For people.
    pub fn words(self) -> &'static str {
        match self {
            Self::SameHost => "same host",
            Self::AcrossHosts => "across hosts",
            Self::SubnetsSameHost => "across subnets, same host",
            Self::SubnetsAcrossHosts => "across subnets and hosts",
            Self::OtherTenant => "to the other tenant",
        }
    }
}

/// How to try.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Means {
    /// Three ICMP echos.
    Ping,
    /// A connection, its banner, and bytes both ways.
    Tcp,
}

/// One exchange to try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trial {
    /// Index of the tenant that starts.
    pub tenant: usize,
    /// Index of its port.
    pub from: usize,
    /// Address it tries.
    pub to: IpAddr,
    /// Name of the port that must answer; `None`: nobody may.
    pub expected: Option<String>,
    /// Where that port is.
    pub relation: Relation,
    /// How.
    pub means: Means,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What was tried.
    pub trial: Trial,
    /// Name of the tenant.
    pub tenant: String,
    /// Name of the port that tried.
    pub from: String,
    /// Whether it is as expected.
    pub ok: bool,
    /// Who answered, or what went wrong.
    pub seen: String,
    /// How long it took; the average round trip of pings.
    pub time: Duration,
}

/// Every exchange: each port with each other of its tenant (on many hosts: with those of the next
/// three), and each port with what only the other tenant has.
pub fn plan(tenants: &[Tenant]) -> Vec<Trial> {
    let mut trials = Vec::new();
    for (index, tenant) in tenants.iter().enumerate() {
        for (from, source) in tenant.endpoints.iter().enumerate() {
            for (distance, target) in tenant.endpoints.iter().enumerate().filter(|(to, _)| *to != from) {
                let apart = distance.abs_diff(from);
                if apart <= 8 || apart + 8 >= tenant.endpoints.len() {
                    trials.extend(both_means(index, from, target, Some(target.name.clone()), relation(source, target)));
                }
            }
            for other in tenants.iter().filter(|other| other.name != tenant.name) {
                if let Some(target) = other.endpoint("own") {
                    trials.extend(both_means(index, from, target, None, Relation::OtherTenant));
                }
            }
        }
    }
    trials
}

fn both_means(
    tenant: usize,
    from: usize,
    target: &Endpoint,
    expected: Option<String>,
    relation: Relation,
) -> Vec<Trial> {
    let Ok(to) = target.address() else { return Vec::new() };
    [Means::Ping, Means::Tcp]
        .map(|means| Trial { tenant, from, to, expected: expected.clone(), relation, means })
        .into()
}

fn relation(a: &Endpoint, b: &Endpoint) -> Relation {
    let net = |endpoint: &Endpoint| endpoint.attached.addresses.first().map(ipnet::IpNet::trunc);
    match (net(a) == net(b), a.host == b.host) {
        (true, true) => Relation::SameHost,
        (true, false) => Relation::AcrossHosts,
        (false, true) => Relation::SubnetsSameHost,
        (false, false) => Relation::SubnetsAcrossHosts,
    }
}

/// Tries everything, with a server that says its name on every port.
pub fn run(tenants: &[Tenant], trials: &[Trial]) -> Result<Vec<Outcome>> {
    let servers: Vec<TcpServer> = tenants
        .iter()
        .flat_map(|tenant| &tenant.endpoints)
        .map(|e| TcpServer::start(&e.netns, SocketAddr::new(e.address()?, TCP_PORT), &e.name))
        .collect::<Result<_>>()?;
    let outcomes = in_parallel(trials, |trial| Ok(attempt(tenants, trial)));
    drop(servers);
    outcomes
}

fn attempt(tenants: &[Tenant], trial: &Trial) -> Outcome {
    let tenant = &tenants[trial.tenant];
    let source = &tenant.endpoints[trial.from];
    // Nothing answers what must not be reached: there the wait is all there is.
    let patience = Duration::from_secs(if trial.expected.is_some() { 15 } else { 1 });
    let start = Instant::now();
    let (answered, seen, time) = match trial.means {
        Means::Ping => match ping(&source.netns, trial.to, &PingOptions { patience, ..PingOptions::default() }) {
            Ok(pings) => {
                // Which machine echoed cannot be seen from outside: TCP's banner shows that.
                let all = trial.expected.clone().filter(|_| pings.all_answered());
                let seen = format!("{} of {} answered", pings.received, pings.sent);
                (if pings.received == 0 { None } else { all.or(Some("part".into())) }, seen, pings.rtt)
            }
            Err(error) => (Some("error".into()), format!("{error:#}"), None),
        },
        Means::Tcp => match tcp_exchange(&source.netns, SocketAddr::new(trial.to, TCP_PORT), TCP_BYTES, patience) {
            Ok(banner) => (Some(banner.clone()), format!("{banner} answered"), None),
            Err(error) => (None, format!("{error:#}"), None),
        },
    };
    Outcome {
        ok: answered == trial.expected,
        tenant: tenant.name.clone(),
        from: source.name.clone(),
        trial: trial.clone(),
        seen,
        time: time.unwrap_or_else(|| start.elapsed()),
    }
}
