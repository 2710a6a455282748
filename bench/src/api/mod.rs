//! The REST API: latency of one client, throughput of many, bulk, long lists, memory.
//!
//! The API, the scheduler and a durable PostgreSQL on the same cores as the client; no agent runs. Beside the figures stand Neutron's, which cannot run here each time: measured once,
//! on a machine of this kind (Neutron 29 with MariaDB, two uwsgi processes, tokens cached).

use crate::{
    bed::{Bed, settings},
    http::Connection,
    machine,
    report::{percentile, table},
};
use anyhow::{Context, Result};
use mizar::sandbox::{services::Service, settings::Settings};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Requests of each kind that one client makes.
const SAMPLES: usize = 300;

/// Pages are slower, and vary less.
const PAGES: usize = 30;

/// How long many clients are measured.
const SPAN: Duration = Duration::from_secs(8);

/// A sandbox that ends with this value.
struct Cloud {
    bed: Bed,
    server: String,
    token: String,
}

impl Cloud {
    fn up() -> Result<Self> {
        let bed = Bed::up("benchapi", Settings { limited: false, ..settings(1) })?;
        // A sandbox has a host at least.
        bed.sandbox.stop(&Service::Agent(bed.sandbox.hosts()[0].name.clone()))?;
        bed.unlimited()?;
        let server = bed.sandbox.api_url().trim_start_matches("http://").to_owned();
        Ok(Self { server, token: bed.admin.token()?, bed })
    }

    fn client(&self) -> Result<Connection> {
        Connection::to_api(&self.server, &self.token)
    }

    fn rss_mib(&self) -> Result<f64> {
        let pid = Service::Api.process(self.bed.sandbox.layout()).pid().context("the API does not run")?;
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"));
        Ok(kib.context("no VmRSS")?.trim().parse::<f64>()? / 1024.0)
    }
}

fn id(answer: &[u8], kind: &str) -> Result<String> {
    let object: Value = serde_json::from_slice(answer)?;
    Ok(object[kind]["id"].as_str().with_context(|| format!("no {kind}"))?.to_owned())
}

/// What one client waited for.
struct Series {
    what: &'static str,
    neutron: &'static str,
    ms: Vec<f64>,
}

impl Series {
    fn measure(
        what: &'static str,
        neutron: &'static str,
        count: usize,
        mut call: impl FnMut(usize) -> Result<()>,
    ) -> Result<Self> {
        let mut ms = Vec::with_capacity(count);
        for round in 0..count {
            let start = Instant::now();
            call(round)?;
            ms.push(start.elapsed().as_secs_f64() * 1e3);
        }
        Ok(Self { what, neutron, ms })
    }

    fn row(&self) -> Vec<String> {
        let at = |percent| format!("{:.1}", percentile(&self.ms, percent));
        vec![self.what.into(), at(50), at(95), at(99), self.neutron.into()]
    }
}

/// A network with a subnet of 65,000 addresses.
fn network(client: &mut Connection) -> Result<String> {
    let network = id(&client.call("POST", "/v2.0/networks", r#"{"network":{"name":"bench"}}"#, 201)?, "network")?;
    let subnet = json!({"subnet": {"network_id": network, "ip_version": 4, "cidr": "10.66.0.0/16"}});
    client.call("POST", "/v2.0/subnets", &subnet.to_string(), 201)?;
    Ok(network)
}

/// Runs everything.
pub fn run() -> Result<()> {
    let cloud = Cloud::up()?;
    println!("{}", machine::describe());
    let idle = cloud.rss_mib()?;
    latency(&cloud)?;
    throughput(&cloud)?;
    bulk_and_list(&cloud)?;
    let rows = [vec!["mizar-api".into(), format!("{idle:.0}"), format!("{:.0}", cloud.rss_mib()?), "530".into()]];
    table("Memory, MiB", &["process", "at start", "after all", "Neutron"], &rows);
    Ok(())
}

fn latency(cloud: &Cloud) -> Result<()> {
    let mut client = cloud.client()?;
    let mut networks = Vec::new();
    let create_network = Series::measure("create network", "158", SAMPLES, |_| {
        networks.push(id(&client.call("POST", "/v2.0/networks", r#"{"network":{"name":"n"}}"#, 201)?, "network")?);
        Ok(())
    })?;
    let create_subnet = Series::measure("create subnet", "156", SAMPLES, |round| {
        let subnet = json!({"subnet": {"network_id": networks[round], "ip_version": 4, "cidr": "10.66.0.0/16"}});
        client.call("POST", "/v2.0/subnets", &subnet.to_string(), 201).map(drop)
    })?;
    let body = json!({"port": {"network_id": networks[0]}}).to_string();
    let mut ports = Vec::new();
    let create_port = Series::measure("create port", "368", SAMPLES, |_| {
        ports.push(id(&client.call("POST", "/v2.0/ports", &body, 201)?, "port")?);
        Ok(())
    })?;
    let path = |round: usize| format!("/v2.0/ports/{}", ports[round]);
    let show =
        Series::measure("show port", "44", SAMPLES, |round| client.call("GET", &path(round), "", 200).map(drop))?;
    let update = Series::measure("update port", "204", SAMPLES, |round| {
        client.call("PUT", &path(round), r#"{"port":{"name":"renamed"}}"#, 200).map(drop)
    })?;
    for _ in 0..8 {
        fill(&mut client, &networks[0], 100)?;
    }
    let list = Series::measure("list 1,000 ports", "1417", PAGES, |_| {
        client.call("GET", "/v2.0/ports?limit=1000", "", 200).map(drop)
    })?;
    let delete =
        Series::measure("delete port", "236", SAMPLES, |round| client.call("DELETE", &path(round), "", 204).map(drop))?;
    let delete_network = Series::measure("delete network with subnet", "", SAMPLES - 1, |round| {
        client.call("DELETE", &format!("/v2.0/networks/{}", networks[round + 1]), "", 204).map(drop)
    })?;
    let rows: Vec<_> = [create_network, create_subnet, create_port, show, update, list, delete, delete_network]
        .iter()
        .map(Series::row)
        .collect();
    table("One client, ms", &["request", "p50", "p95", "p99", "Neutron p50"], &rows);
    Ok(())
}

/// Makes ports in one request.
fn fill(client: &mut Connection, network: &str, count: usize) -> Result<()> {
    let port = json!({"network_id": network});
    client.call("POST", "/v2.0/ports", &json!({"ports": vec![port; count]}).to_string(), 201).map(drop)
}

fn throughput(cloud: &Cloud) -> Result<()> {
    let network = network(&mut cloud.client()?)?;
    let body = json!({"port": {"network_id": network}}).to_string();
    let mut rows = Vec::new();
    for (clients, neutron) in [(1, "3.0"), (8, "7.1"), (32, "8.3"), (64, "7.5")] {
        let created = load(cloud, clients, |client, _| client.call("POST", "/v2.0/ports", &body, 201).map(drop))?;
        let listed = load(cloud, clients, |client, _| client.call("GET", "/v2.0/ports?limit=1", "", 200).map(drop))?;
        rows.push(vec![
            clients.to_string(),
            format!("{:.0}", created.per_s),
            format!("{:.1}", percentile(&created.ms, 50)),
            format!("{:.1}", percentile(&created.ms, 99)),
            neutron.into(),
            format!("{:.0}", listed.per_s),
        ]);
    }
    let header = ["clients", "creates/s", "p50 ms", "p99 ms", "Neutron creates/s", "lists of one/s"];
    table("Ports of one subnet, many clients", &header, &rows);
    Ok(())
}

struct Load {
    per_s: f64,
    ms: Vec<f64>,
}

/// `clients` connections, each asking again as soon as it is answered, for [`SPAN`].
fn load(cloud: &Cloud, clients: usize, call: impl Fn(&mut Connection, usize) -> Result<()> + Sync) -> Result<Load> {
    let connections = (0..clients).map(|_| cloud.client()).collect::<Result<Vec<_>>>()?;
    let (start, count) = (Instant::now(), AtomicUsize::new(0));
    let ms = std::thread::scope(|scope| {
        let (call, count) = (&call, &count);
        let work = |mut connection: Connection| {
            let mut ms = Vec::new();
            while start.elapsed() < SPAN {
                let asked = Instant::now();
                call(&mut connection, count.fetch_add(1, Ordering::Relaxed))?;
                ms.push(asked.elapsed().as_secs_f64() * 1e3);
            }
            anyhow::Ok(ms)
        };
        let threads: Vec<_> = connections.into_iter().map(|connection| scope.spawn(move || work(connection))).collect();
        let ended = threads.into_iter().map(|thread| thread.join().unwrap_or_else(|p| std::panic::resume_unwind(p)));
        ended.collect::<Result<Vec<_>>>()
    })?;
    let ms = ms.concat();
    Ok(Load { per_s: ms.len() as f64 / start.elapsed().as_secs_f64(), ms })
}

fn bulk_and_list(cloud: &Cloud) -> Result<()> {
    let mut client = cloud.client()?;
    let network = network(&mut client)?;
    let mut per_s = Vec::new();
    for _ in 0..100 {
        let start = Instant::now();
        fill(&mut client, &network, 100)?;
        per_s.push(100.0 / start.elapsed().as_secs_f64());
    }
    let of = |query: &str| format!("/v2.0/ports?network_id={network}{query}");
    let mut rows = vec![vec![
        "bulk of 100, ports/s".into(),
        format!("{:.0}", percentile(&per_s, 50)),
        String::new(),
        "3.9".into(),
    ]];
    for (what, query, neutron) in [("list 10,000, ms", "", "12300"), ("the same, only id, ms", "&fields=id", "11400")] {
        let mut bytes = 0;
        let series = Series::measure("", "", 15, |_| {
            bytes = client.call("GET", &of(query), "", 200)?.len();
            Ok(())
        })?;
        let size = format!("{:.2}", bytes as f64 / 1e6);
        rows.push(vec![what.into(), format!("{:.0}", percentile(&series.ms, 50)), size, neutron.into()]);
    }
    table("Many at once, p50", &["request", "mizar", "MB", "Neutron"], &rows);
    Ok(())
}
