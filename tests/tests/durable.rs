//! What the API has answered with 2xx is there, whatever dies and whenever: the API and the
//! database are killed under writers, with the database waiting for the disk as in production.

use anyhow::{Context, Result, ensure};
use mizar::client::{Api, Port, refused_status};
use mizar::sandbox::postgres;
use mizar::sandbox::process::wait_until;
use mizar::sandbox::services::Service;
use mizar::sandbox::settings::Settings;
use mizar_tests::bed::{Bed, PATIENCE};
use mizar_tests::harness::Scenario;
use mizar_tests::{bed, harness};
use serde_json::json;
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::SystemTime;
use uuid::Uuid;

const SCENARIOS: &[Scenario] =
    &[("every_2xx_outlives_kills_of_the_api_and_of_the_database_and_nothing_is_half_done", survives)];

/// Those who write at the same time.
const WRITERS: usize = 4;
/// Kills.
const KILLS: usize = 12;

/// What a writer was told of its ports, by name.
#[derive(Clone, Debug)]
enum Told {
    /// 201: this is the port.
    Made(Box<Port>),
    /// 201, and then 204.
    Deleted,
    /// No answer: either may be true, but wholly.
    Nothing,
}

/// Numbers as good as drawn, the same again for the same seed (SplitMix64).
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }
}

/// A request's place.
struct Writer<'a> {
    api: &'a Api,
    network: Uuid,
    subnet: Uuid,
    host: &'a str,
    answered: &'a AtomicUsize,
    stop: &'a AtomicBool,
}

impl Writer<'_> {
    /// Makes ports, each bound, and deletes every third of them, until told to stop.
    fn write(&self, writer: usize) -> Result<BTreeMap<String, Told>> {
        let mut told = BTreeMap::new();
        for number in 0.. {
            if self.stop.load(Ordering::Relaxed) {
                break;
            }
            let name = format!("w{writer}-{number}");
            let body = json!({"port": {
                "network_id": self.network, "name": name, "binding:host_id": self.host,
                "fixed_ips": [{"subnet_id": self.subnet}],
            }});
            let mut outcome = match self.api.post("/v2.0/ports", &body) {
                Ok(mut made) => {
                    let port: Port = serde_json::from_value(made["port"].take())?;
                    Told::Made(Box::new(port))
                }
                Err(error) => unanswered(error)?,
            };
            if number % 3 == 2
                && let Told::Made(port) = &outcome
            {
                outcome = match self.api.delete(&format!("/v2.0/ports/{}", port.id)) {
                    Ok(()) => Told::Deleted,
                    Err(error) => unanswered(error)?,
                };
            }
            if matches!(outcome, Told::Nothing) {
                wait_until(PATIENCE, || self.stop.load(Ordering::Relaxed) || self.api.get("/v2.0/networks").is_ok());
            } else {
                self.answered.fetch_add(1, Ordering::Relaxed);
            }
            told.insert(name, outcome);
        }
        Ok(told)
    }
}

/// A server that is being killed may say 5xx or nothing; anything else is a mistake.
fn unanswered(error: anyhow::Error) -> Result<Told> {
    match refused_status(&error) {
        Some(status) if status < 500 => Err(error),
        _ => Ok(Told::Nothing),
    }
}

fn survives(bed: &Bed) -> Result<()> {
    let tenant = bed.tenant()?;
    let net = tenant.network(&["10.1.0.0/16"])?;
    let seed = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
    let mut random = Random(seed);
    let (stop, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    let writer = Writer {
        api: &bed.admin,
        network: net.network.id,
        subnet: net.subnets[0].id,
        host: bed.host(0),
        answered: &answered,
        stop: &stop,
    };
    let (killed, told) = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|n| {
                scope.spawn({
                    let writer = &writer;
                    move || writer.write(n)
                })
            })
            .collect();
        let killed = kill_often(bed, &mut random, &answered);
        stop.store(true, Ordering::Relaxed);
        let join = |w: std::thread::ScopedJoinHandle<'_, _>| w.join().unwrap_or_else(|p| std::panic::resume_unwind(p));
        (killed, writers.into_iter().map(join).collect::<Result<Vec<_>>>())
    });
    killed.with_context(|| format!("seed {seed}"))?;
    let told: BTreeMap<String, Told> = told?.into_iter().flatten().collect();
    bed.wait("the API serving again", || Ok(bed.admin.ports().is_ok()))?;
    let silent = told.values().filter(|told| matches!(told, Told::Nothing)).count();
    println!(
        "\n{} answers with 2xx outlived {KILLS} kills; {silent} requests got none (seed {seed})",
        told.len() - silent
    );
    check(bed, &told).with_context(|| format!("seed {seed}"))?;
    // They are another project's than the tenant, who could not delete them.
    for port in bed.admin.ports_of(net.network.id)? {
        bed.admin.delete(&format!("/v2.0/ports/{}", port.id))?;
    }
    Ok(())
}

/// Kills the API or the database, or both, each time after a random number of answers.
fn kill_often(bed: &Bed, random: &mut Random, answered: &AtomicUsize) -> Result<()> {
    for _ in 0..KILLS {
        let until = answered.load(Ordering::Relaxed) + 5 + usize::try_from(random.below(40))?;
        bed.wait("answers", || Ok(answered.load(Ordering::Relaxed) >= until))?;
        let victims: &[Service] = match random.below(3) {
            0 => &[Service::Api],
            1 => &[Service::Postgres],
            _ => &[Service::Postgres, Service::Api],
        };
        for victim in victims {
            bed.sandbox.kill(victim)?;
        }
        for victim in victims {
            bed.sandbox.start(victim)?;
        }
    }
    Ok(())
}

fn ask(bed: &Bed, sql: &str) -> Result<String> {
    Ok(postgres::query(&bed.sandbox.database_url(), sql)?.trim().to_owned())
}

fn check(bed: &Bed, told: &BTreeMap<String, Told>) -> Result<()> {
    let mut there: BTreeMap<String, Port> = BTreeMap::new();
    for port in bed.admin.ports()? {
        let name = port.name.clone();
        ensure!(there.insert(name.clone(), port).is_none(), "{name} was made twice");
    }
    for (name, told) in told {
        match (told, there.get(name)) {
            (Told::Made(told), Some(port)) => {
                let same = told.id == port.id
                    && told.fixed_ips == port.fixed_ips
                    && told.mac_address == port.mac_address
                    && told.host == port.host;
                ensure!(same, "{name} is {port:?}, but {told:?} was answered");
            }
            (Told::Made(_), None) => anyhow::bail!("{name} was answered with 201 and is lost"),
            (Told::Deleted, Some(port)) => anyhow::bail!("{name} was answered with 204 and is there: {port:?}"),
            (Told::Deleted, None) | (Told::Nothing, _) => {}
        }
    }
    // Nothing half done: each port with its one address, and with what its host and its bouncers
    // are told; and nobody told of a port that is not there.
    for (what, sql) in [
        (
            "ports without their address",
            "SELECT p.name FROM ports p WHERE (SELECT count(*) FROM port_ips i WHERE i.port_id = p.id) <> 1",
        ),
        (
            "ports without their entries",
            "SELECT p.name FROM ports p WHERE (SELECT array_agg(e.kind ORDER BY e.kind) FROM entries e \
             WHERE substring(e.key FOR 16) = uuid_send(p.id) AND NOT e.deleted) IS DISTINCT FROM ARRAY[7, 8]::smallint[]",
        ),
        (
            "entries of no port",
            "SELECT encode(e.key, 'hex') FROM entries e WHERE e.kind IN (7, 8, 10) AND NOT e.deleted \
             AND NOT EXISTS (SELECT 1 FROM ports p WHERE uuid_send(p.id) = substring(e.key FOR 16))",
        ),
    ] {
        let wrong = ask(bed, sql)?;
        ensure!(wrong.is_empty(), "{what}: {}", wrong.replace('\n', ", "));
    }
    ensure!(ask(bed, "SHOW fsync")? == "on", "the database does not wait for the disk: it proves little");
    // And what was told to the host is what the database says.
    bed.settle()?;
    let entries = bed.sandbox.agent(bed.host(0)).dump()?["entries"].take();
    let ports = entries.as_array().context("entries")?.iter().filter(|entry| entry["kind"] == 7).count();
    ensure!(ports == there.len(), "the host holds {ports} ports of {}", there.len());
    Ok(())
}

fn main() -> ExitCode {
    let settings = Settings { hosts: 2, durable: true, ..bed::settings() };
    harness::run("tdurable", settings, &[SCENARIOS])
}
