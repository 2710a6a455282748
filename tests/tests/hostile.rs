//! A tenant who may send any frame: nothing of it reaches another network. The frames are made by
//! scapy, which shares no code with us. And somebody on the underlay who sends again what was seen
//! there.

use anyhow::{Context, Result, bail, ensure};
use mizar::sandbox::endpoint::Endpoint;
use mizar::sandbox::netns::run;
use mizar_tests::bed::Bed;
use mizar_tests::exchange::common;
use mizar_tests::harness::Scenario;
use mizar_tests::scenarios::replay;
use mizar_tests::tenant::{At, at};
use mizar_tests::{bed, harness};
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, Stdio};

const SCENARIOS: &[Scenario] = &[
    ("no_frame_of_a_tenant_reaches_another_tenants_port", |bed| hostile(bed, &[2, 3])),
    ("no_frame_reaches_another_tenant_where_transit_is_on_the_same_host", |bed| hostile(bed, &[0, 1])),
];

/// Frames of each kind.
const FRAMES: u32 = 400;

fn python() -> Result<PathBuf> {
    let dir = std::env::var("MIZAR_PYTHON").map(PathBuf::from).unwrap_or(mizar::devel::root().join(".dev/venv/bin"));
    let python = dir.join("python");
    ensure!(python.exists(), "{} is missing: `./dev test` makes it", python.display());
    Ok(python)
}

fn script(name: &str) -> PathBuf {
    mizar::devel::root().join("tests/scapy").join(name)
}

/// A sniffer on an endpoint that reports every frame which arrives from outside.
struct Watch {
    child: Child,
    at: String,
}

impl Watch {
    fn start(endpoint: &Endpoint) -> Result<Self> {
        let mut child = endpoint
            .netns
            .command(python()?)?
            .arg(script("watch.py"))
            .arg(&endpoint.ifname)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut ready = String::new();
        BufReader::new(child.stdout.as_mut().context("piped above")?).read_line(&mut ready)?;
        if ready.trim() != "ready" {
            bail!("the sniffer said `{}`", ready.trim());
        }
        Ok(Self { child, at: endpoint.name.clone() })
    }

    /// Frames that arrived; closing its input ends it.
    fn stop(mut self) -> Result<String> {
        drop(self.child.stdin.take());
        let mut seen = String::new();
        self.child.stdout.take().context("piped above")?.read_to_string(&mut seen)?;
        ensure!(self.child.wait()?.success(), "the sniffer at {} failed", self.at);
        Ok(seen)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // Both fail after `stop`, which is right.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn hostile(bed: &Bed, transit: &[usize]) -> Result<()> {
    bed.transit_on(transit)?;
    let (red, blue) = (bed.tenant()?, bed.tenant()?);
    let place = |host, address| At { address: Some(address), ..at(0, host) };
    let red_net = red.network(&["10.1.0.0/24"])?;
    let blue_net = blue.network(&["10.1.0.0/24", "10.9.0.0/24"])?;
    let [attacker, friend] = red.endpoints(&red_net, [place(0, "10.1.0.10"), place(1, "10.1.0.11")])?;
    let victims =
        blue.endpoints(&blue_net, [place(0, "10.1.0.11"), place(0, "10.1.0.12"), place(1, "10.1.0.13"), at(1, 1)])?;
    common(&attacker, &friend)?;
    common(&victims[1], &victims[2])?;
    let watches = victims.iter().map(Watch::start).collect::<Result<Vec<_>>>()?;
    let underlay: Vec<_> = bed.sandbox.hosts().iter().map(|h| h.underlay.to_string()).collect();
    let targets: Vec<_> =
        victims.iter().map(|v| Ok(format!("{}={}", v.address()?, v.attached.mac))).collect::<Result<_>>()?;
    let mut attack: Command = attacker.netns.command(python()?)?;
    attack
        .arg(script("attack.py"))
        .args(["--interface", &attacker.ifname, "--mac", &attacker.attached.mac])
        .args(["--address", &attacker.address()?.to_string()])
        .args(["--frames", &FRAMES.to_string()])
        .args(["--underlay", &underlay.join(",")])
        .args(["--targets", &targets.join(",")]);
    let said = run(&mut attack)?;
    ensure!(said.starts_with("sent "), "the attack said `{}`", said.trim());
    // What was sent last has arrived if anything does: an exchange after it on the same path.
    common(&attacker, &friend)?;
    common(&victims[1], &victims[2])?;
    for (watch, victim) in watches.into_iter().zip(&victims) {
        let seen = watch.stop()?;
        // The victims' own exchanges are theirs; what carries the attack's mark is not.
        let foreign: Vec<_> = seen.lines().filter(|line| line.starts_with("MARK ")).collect();
        ensure!(foreign.is_empty(), "{} received frames of another tenant: {foreign:?}", victim.name);
        ensure!(
            victim.address()? != "10.1.0.13".parse::<std::net::IpAddr>()? || seen.lines().count() > 0,
            "the sniffer saw not even the victim's own traffic: it proves nothing"
        );
    }
    Ok(())
}

fn main() -> ExitCode {
    harness::run("thostile", bed::settings(), &[SCENARIOS, replay::SCENARIOS])
}
