//! What is measured of a path, and how paths take turns.

use crate::{
    machine,
    paths::Path,
    report::{median, spread, table},
    shell::{self, Background, run_in},
};
use anyhow::{Context, Result, bail};

const IPERF_PORT: u16 = 5201;
const RR_PORT: u16 = 5301;
const CRR_PORT: u16 = 5401;
/// Where the servers listen.
pub const PORTS: [u16; 3] = [IPERF_PORT, RR_PORT, CRR_PORT];
/// Connections of one measurement: half of what a port may begin at once, and it may begin 1,000 a
/// second in the long run, so that others' turns make up for them.
pub const CONNECTIONS: u32 = 5_000;

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
    pub fn from_options(options: &[&str], usual: Self) -> Result<Self> {
        let mut plan = usual;
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
pub enum Figure {
    /// Gbit/s of this many streams.
    Bulk(u32),
    /// Microseconds of a round trip, the ends where the kernel puts them or on one core.
    RoundTrip { one_core: bool },
    /// Short connections a second.
    Connections,
}

impl Figure {
    /// In the table.
    pub fn name(self) -> String {
        match self {
            Self::Bulk(1) => "1 stream, Gbit/s".into(),
            Self::Bulk(streams) => format!("{streams} streams, Gbit/s"),
            Self::RoundTrip { one_core: false } => "TCP_RR, us".into(),
            Self::RoundTrip { one_core: true } => "TCP_RR on one core, us".into(),
            Self::Connections => "connections/s".into(),
        }
    }

    /// By how much one is better than the reference: more than 1 is better, also where less is.
    pub fn ratio(self, mine: f64, reference: f64) -> f64 {
        if matches!(self, Self::RoundTrip { .. }) { reference / mine } else { mine / reference }
    }
}

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
        Figure::Connections => {
            let this = std::env::current_exe()?;
            let line = format!("{} crr-client {server}:{CRR_PORT} {CONNECTIONS}", this.display());
            run_in(client, &line)?.trim().parse().context("crr-client printed no number")
        }
    }
}

/// Measures every path in turn, round by round: `[path][figure] -> values`.
pub fn rounds(paths: &[Path], figures: &[Figure], plan: &Plan) -> Result<Vec<Vec<Vec<f64>>>> {
    let mut values = vec![vec![Vec::with_capacity(plan.rounds); figures.len()]; paths.len()];
    for round in 0..plan.rounds {
        eprintln!("round {} of {}: {}", round + 1, plan.rounds, machine::describe());
        // Another begins each time: who comes after whom must not matter.
        for i in (0..paths.len()).map(|k| (k + round) % paths.len()) {
            let path = &paths[i];
            for (j, figure) in figures.iter().enumerate() {
                let value = measure(path, *figure, plan.seconds);
                values[i][j].push(value.with_context(|| format!("{}, {}", path.name, figure.name()))?);
            }
        }
    }
    Ok(values)
}

/// A figure of a path, and by how much it is better than the reference's.
fn cells(figure: Figure, mine: &[f64], reference: &[f64]) -> [String; 2] {
    [spread(mine), format!("{:.3}", figure.ratio(median(mine), median(reference)))]
}

/// Prints a row for each path, each figure beside its ratio to that of `paths[reference]`, of which more than 1
/// is better.
pub fn print(title: &str, paths: &[Path], figures: &[Figure], values: &[Vec<Vec<f64>>], reference: usize) {
    let mut header = vec!["median (min-max)".to_owned()];
    for figure in figures {
        header.push(figure.name());
        header.push(format!("as good as {}, times", paths[reference].name));
    }
    let header: Vec<&str> = header.iter().map(String::as_str).collect();
    let rows: Vec<Vec<String>> = paths
        .iter()
        .zip(values)
        .map(|(path, of_path)| {
            let all = figures.iter().zip(of_path.iter().zip(&values[reference]));
            let cells = all.flat_map(|(figure, (mine, other))| cells(*figure, mine, other));
            std::iter::once(path.name.to_owned()).chain(cells).collect()
        })
        .collect();
    table(title, &header, &rows);
}

/// Servers of a path, ended with this value.
pub struct Servers(#[expect(dead_code, reason = "held for its end")] [Background; 3]);

impl Servers {
    /// Starts what is measured against, and waits until it listens.
    pub fn start(path: &Path) -> Result<Self> {
        shell::run("iperf3 --version").context("iperf3 is missing: run ./dev setup")?;
        let (ns, address) = &path.server;
        let this = std::env::current_exe()?;
        let servers = Self([
            Background::start(ns, &format!("iperf3 -s -p {IPERF_PORT}"))?,
            Background::start(ns, &format!("{} rr-server {address}:{RR_PORT}", this.display()))?,
            Background::start(ns, &format!("{} crr-server {address}:{CRR_PORT}", this.display()))?,
        ]);
        listening(ns)?;
        Ok(servers)
    }
}

/// Waits until all servers of a namespace listen.
fn listening(ns: &str) -> Result<()> {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(5);
    while std::time::Instant::now() < deadline {
        let sockets = run_in(ns, "ss -Hltn")?;
        if PORTS.iter().all(|p| sockets.contains(&format!(":{p} "))) {
            return Ok(());
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    bail!("the servers in {ns} do not listen")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_one_is_better_of_every_figure() {
        let ratio = |figure, mine: f64| cells(figure, &[mine], &[20.0])[1].clone();
        assert_eq!(ratio(Figure::Bulk(1), 40.0), "2.000");
        assert_eq!(ratio(Figure::Connections, 40.0), "2.000");
        assert_eq!(ratio(Figure::RoundTrip { one_core: true }, 40.0), "0.500", "twice the time is half as good");
    }
}
