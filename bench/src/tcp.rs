//! TCP between containers on two hosts: one stream, eight streams, request and response; with the
//! sender's segmentation offload on, and off (packets as they come off a wire).

use crate::{
    figures::{Figure, Plan, Servers, print, rounds},
    machine,
    paths::{Join, Path, Peer},
    shell::{self, run_in},
};
use anyhow::{Context, Result};

const FIGURES: [Figure; 4] =
    [Figure::Bulk(1), Figure::Bulk(8), Figure::RoundTrip { one_core: false }, Figure::RoundTrip { one_core: true }];

/// How long it is measured unless somebody says otherwise.
pub const USUAL: Plan = Plan { rounds: 5, seconds: 2 };

fn offloads(paths: &[Path], state: &str) -> Result<()> {
    for path in paths {
        let (ns, ifname) = &path.client;
        run_in(ns, &format!("ethtool -K {ifname} tso {state} gso {state}"))?;
    }
    Ok(())
}

/// Makes the peers, measures, prints two tables. `ours` are paths through Mizar.
pub fn run(ours: &[Path], plan: &Plan) -> Result<()> {
    shell::run("ethtool --version").context("ethtool is missing: run ./dev setup")?;
    let peers = [Peer::make(Join::Bridge)?, Peer::make(Join::Vxlan)?];
    let paths: Vec<Path> = peers.iter().map(|p| p.path.clone()).chain(ours.iter().cloned()).collect();
    let _servers: Vec<Servers> = paths.iter().map(Servers::start).collect::<Result<_>>()?;
    println!("{}; {} interleaved rounds of {} s", machine::describe(), plan.rounds, plan.seconds);
    print("TCP, offloads on", &paths, &FIGURES, &rounds(&paths, &FIGURES, plan)?, 1);
    offloads(&paths, "off")?;
    print("TCP, sender's tso and gso off", &paths, &FIGURES, &rounds(&paths, &FIGURES, plan)?, 1);
    offloads(&paths, "on")
}
