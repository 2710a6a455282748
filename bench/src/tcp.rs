//! TCP between containers on two hosts: one stream, eight streams, request and response; with the
//! sender's segmentation offload on, and off (packets as they come off a wire).

use crate::{
    machine,
    paths::{Join, Path, Peer},
    report::{median, spread, table},
    shell::{self, Background, run_in},
};
use anyhow::{Context, Result, bail};

const IPERF_PORT: u16 = 5201;
const RR_PORT: u16 = 5301;

/// How long to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Interleaved rounds.
    pub rounds: usize,
    /// Seconds of each measurement.
    pub seconds: u64,
}

impl Plan {
    /// Reads `--rounds N` and `--seconds N`.
    pub fn from_options(options: &[&str]) -> Result<Self> {
        let mut plan = Self { rounds: 5, seconds: 2 };
        for pair in options.chunks(2) {
            match pair {
                ["--rounds", n] => plan.rounds = n.parse().context("--rounds wants a number")?,
                ["--seconds", n] => plan.seconds = n.parse().context("--seconds wants a number")?,
                _ => bail!("unknown option {}", pair.join(" ")),
            }
        }
        Ok(plan)
    }
}

/// What is measured of a path.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Figure {
    /// Gbit/s of this many streams.
    Bulk(u32),
    /// Microseconds of a round trip, the ends where the kernel puts them or on one core.
    RoundTrip { one_core: bool },
}

const FIGURES: [(Figure, &str); 4] = [
    (Figure::Bulk(1), "1 stream, Gbit/s"),
    (Figure::Bulk(8), "8 streams, Gbit/s"),
    (Figure::RoundTrip { one_core: false }, "TCP_RR, us"),
    (Figure::RoundTrip { one_core: true }, "TCP_RR on one core, us"),
];

fn measure(path: &Path, figure: Figure, seconds: u64) -> Result<f64> {
    let (client, _) = &path.client;
    let (_, server) = &path.server;
    match figure {
        Figure::Bulk(streams) => {
            let line = format!("iperf3 -J -c {server} -p {IPERF_PORT} -t {seconds} -P {streams}");
            let result: serde_json::Value = serde_json::from_str(&run_in(client, &line)?)?;
            let bits = result["end"]["sum_received"]["bits_per_second"].as_f64();
            Ok(bits.context("iperf3 reported no throughput")? / 1e9)
        }
        Figure::RoundTrip { one_core } => {
            let this = std::env::current_exe()?;
            let core = if one_core { " 1" } else { "" };
            let line = format!("{} rr-client {server}:{RR_PORT} {seconds}{core}", this.display());
            run_in(client, &line)?.trim().parse().context("rr-client printed no number")
        }
    }
}

/// Measures every path in turn, round by round: `[path][figure] -> values`.
fn rounds(paths: &[Path], plan: &Plan) -> Result<Vec<Vec<Vec<f64>>>> {
    let mut values = vec![vec![Vec::with_capacity(plan.rounds); FIGURES.len()]; paths.len()];
    for round in 0..plan.rounds {
        eprintln!("round {} of {}: {}", round + 1, plan.rounds, machine::describe());
        for (i, path) in paths.iter().enumerate() {
            for (j, (figure, what)) in FIGURES.iter().enumerate() {
                let value = measure(path, *figure, plan.seconds).with_context(|| format!("{}, {what}", path.name))?;
                values[i][j].push(value);
            }
        }
    }
    Ok(values)
}

fn print(title: &str, paths: &[Path], values: &[Vec<Vec<f64>>], reference: usize) {
    let mut header = vec!["median (min-max)".to_owned()];
    for (_, what) in FIGURES {
        header.push(what.to_owned());
        header.push(format!("/ {}", paths[reference].name));
    }
    let header: Vec<&str> = header.iter().map(String::as_str).collect();
    let rows: Vec<Vec<String>> = paths
        .iter()
        .zip(values)
        .map(|(path, figures)| {
            let mut row = vec![path.name.to_owned()];
            for (mine, other) in figures.iter().zip(&values[reference]) {
                row.push(spread(mine));
                row.push(format!("{:.2}", median(mine) / median(other)));
            }
            row
        })
        .collect();
    table(title, &header, &rows);
}

fn offloads(paths: &[Path], state: &str) -> Result<()> {
    for path in paths {
        let (ns, ifname) = &path.client;
        run_in(ns, &format!("ethtool -K {ifname} tso {state} gso {state}"))?;
    }
    Ok(())
}

/// Makes the peers, measures, prints two tables. `ours` are paths through Mizar.
pub fn run(ours: &[Path], plan: &Plan) -> Result<()> {
    shell::run("iperf3 --version").context("iperf3 is missing: run ./dev setup")?;
    shell::run("ethtool --version").context("ethtool is missing: run ./dev setup")?;
    let peers = [Peer::make(Join::Bridge)?, Peer::make(Join::Vxlan)?];
    let paths: Vec<Path> = peers.iter().map(|p| p.path.clone()).chain(ours.iter().cloned()).collect();
    let this = std::env::current_exe()?;
    let _servers: Vec<[Background; 2]> = paths
        .iter()
        .map(|path| {
            let (ns, address) = &path.server;
            Ok([
                Background::start(ns, &format!("iperf3 -s -p {IPERF_PORT}"))?,
                Background::start(ns, &format!("{} rr-server {address}:{RR_PORT}", this.display()))?,
            ])
        })
        .collect::<Result<_>>()?;
    for path in &paths {
        listening(&path.server.0)?;
    }
    println!("{}; {} interleaved rounds of {} s", machine::describe(), plan.rounds, plan.seconds);
    print("TCP, offloads on", &paths, &rounds(&paths, plan)?, 1);
    offloads(&paths, "off")?;
    print("TCP, sender's tso and gso off", &paths, &rounds(&paths, plan)?, 1);
    offloads(&paths, "on")
}

/// Waits until both servers of a namespace listen.
fn listening(ns: &str) -> Result<()> {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(5);
    while std::time::Instant::now() < deadline {
        let sockets = run_in(ns, "ss -Hltn")?;
        if [IPERF_PORT, RR_PORT].iter().all(|p| sockets.contains(&format!(":{p} "))) {
            return Ok(());
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    bail!("the servers in {ns} do not listen")
}
