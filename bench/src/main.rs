//! Measurements, each beside a peer in the same run (`./dev bench [WHAT]`).
//!
//! A number of this machine alone means little: what counts is the ratio to the peer that ran a
//! moment before on the same cores. So every table interleaves its rows round by round and
//! reports medians, and says what else the machine was doing.

mod api;
mod bed;
mod crr;
mod fan_out;
mod figures;
mod http;
mod machine;
mod ours;
mod paths;
mod policy;
mod prog;
mod report;
mod revoke;
mod rr;
mod shell;
mod tcp;
mod web;

use anyhow::{Result, bail};
use figures::Plan;

const USAGE: &str = "usage: mizar-bench [all]
       mizar-bench prog [PART OF A NAME [ROUNDS]]
       mizar-bench tcp [--rounds N] [--seconds N]
       mizar-bench policy [--rounds N] [--seconds N]
       mizar-bench revoke [CHANGES]
       mizar-bench fan-out [HOSTS]
       mizar-bench ports [COUNT]
       mizar-bench api
       mizar-bench web [PORTS [ROUNDS]]
       mizar-bench rr-server ADDRESS:PORT
       mizar-bench rr-client ADDRESS:PORT SECONDS [CORE]
       mizar-bench crr-server ADDRESS:PORT
       mizar-bench crr-client ADDRESS:PORT CONNECTIONS

Needs root; tcp and policy also iperf3, ethtool and nft (./dev setup installs them).";

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["rr-server", address] => rr::serve(address.parse()?),
        ["rr-client", address, seconds] => rr::ask(address.parse()?, seconds.parse()?, None),
        ["rr-client", address, seconds, core] => rr::ask(address.parse()?, seconds.parse()?, Some(core.parse()?)),
        ["crr-server", address] => crr::serve(address.parse()?),
        ["crr-client", address, count] => crr::ask(address.parse()?, count.parse()?),
        ["tcp", options @ ..] => tcp(options),
        ["policy", options @ ..] => policy::run(&Plan::from_options(options, policy::USUAL)?),
        ["revoke"] => revoke::run(200),
        ["revoke", changes] => revoke::run(changes.parse()?),
        ["fan-out"] => fan_out::run(1_000),
        ["fan-out", hosts] => fan_out::run(hosts.parse()?),
        ["prog"] => prog::run(7, ""),
        ["prog", only] => prog::run(7, only),
        ["prog", only, rounds] => prog::run(rounds.parse()?, only),
        ["api"] => api::run(),
        ["web"] => web::run(web::PORTS, web::ROUNDS),
        ["web", ports] => web::run(ports.parse()?, web::ROUNDS),
        ["web", ports, rounds] => web::run(ports.parse()?, rounds.parse()?),
        ["ports"] => ours::provisioning(200),
        ["ports", count] => ours::provisioning(count.parse()?),
        [] | ["all"] => {
            prog::run(7, "")?;
            api::run()?;
            web::run(web::PORTS, web::ROUNDS)?;
            ours::provisioning(200)?;
            revoke::run(200)?;
            fan_out::run(1_000)?;
            policy::run(&policy::USUAL)?;
            tcp(&[])
        }
        _ => bail!("{USAGE}"),
    }
}

fn tcp(options: &[&str]) -> Result<()> {
    let plan = Plan::from_options(options, tcp::USUAL)?;
    let tcx = ours::Ours::up("bencht", 2, "tcx")?;
    let xdp = ours::Ours::up("benchx", 2, "xdp")?;
    let gro = ours::Ours::up("benchg", 2, "tcx")?;
    gro.aggregate()?;
    tcp::run(
        &[tcx.path("mizar")?, xdp.path("mizar, uplink with XDP")?, gro.path("mizar, uplink with GRO and a hook")?],
        &plan,
    )
}
