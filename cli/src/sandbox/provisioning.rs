//! How long a port takes from the request that makes it until it is ACTIVE, and where the time
//! goes: for tests and the bench.

use super::Sandbox;
use super::endpoint::IFNAME;
use super::netns::Netns;
use super::process::wait_until;
use crate::client::{Api, Port};
use anyhow::{Context, Result};
use mizar_wire::local::AttachKind;
use serde_json::json;
use std::time::{Duration, Instant};
use uuid::Uuid;

/// One port.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// The request that makes it, bound.
    pub create: Duration,
    /// What the agent, asked to attach it right after the answer, waited for its entry: the feed.
    pub feed: Duration,
    /// The rest of that call: the interface, its programs as far as they were not ready by then, its addresses.
    pub wiring: Duration,
    /// From there until the API shows it ACTIVE.
    pub active: Duration,
}

impl Sample {
    /// All of it.
    pub fn total(&self) -> Duration {
        self.create + self.feed + self.wiring + self.active
    }
}

/// Makes `count` ports one after the other, on the hosts in turn, each in a namespace that is
/// ready before, as an orchestrator would have it; removes each.
pub fn measure(sandbox: &Sandbox, admin: &Api, network: Uuid, subnet: Uuid, count: usize) -> Result<Vec<Sample>> {
    let netns = Netns::named(format!("{}p-measure", sandbox.layout().netns_prefix()));
    netns.create()?;
    let samples = (0..count).map(|n| one(sandbox, admin, network, subnet, n, &netns)).collect();
    netns.delete()?;
    samples
}

fn one(sandbox: &Sandbox, admin: &Api, network: Uuid, subnet: Uuid, n: usize, netns: &Netns) -> Result<Sample> {
    let host = &sandbox.hosts()[n % sandbox.hosts().len()].name;
    let body = json!({"port": {
        "network_id": network, "name": format!("measure-{n}"),
        "fixed_ips": [{"subnet_id": subnet}], "binding:host_id": host,
    }});
    let container =
        AttachKind::Container { netns: netns.path().to_str().context("text")?.to_owned(), ifname: IFNAME.into() };
    let start = Instant::now();
    let mut made = admin.post("/v2.0/ports", &body)?;
    let create = start.elapsed();
    let port: Port = serde_json::from_value(made["port"].take())?;
    let attached = sandbox.agent(host).attach(port.id, container)?;
    let attach = start.elapsed() - create;
    admin.wait_active(port.id, Duration::from_secs(60))?;
    let active = start.elapsed() - create - attach;
    admin.delete(&format!("/v2.0/ports/{}", port.id))?;
    // The next one uses the same namespace and name of interface.
    wait_until(Duration::from_secs(30), || netns.ip(&format!("link show {IFNAME}\n")).is_err())
        .with_context(|| format!("the interface of deleted port {} stays", port.id))?;
    let feed = Duration::from_micros(attached.waited_us).min(attach);
    Ok(Sample { create, feed, wiring: attach - feed, active })
}

/// The value below which `percent` of the samples lie.
pub fn percentile(samples: &[Sample], percent: usize, of: impl Fn(&Sample) -> Duration) -> Duration {
    let mut times: Vec<_> = samples.iter().map(of).collect();
    times.sort();
    let at = (times.len() * percent).div_ceil(100).saturating_sub(1);
    times.get(at).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_sorted_samples() {
        let zero = Duration::ZERO;
        let sample = |ms| Sample { create: Duration::from_millis(ms), feed: zero, wiring: zero, active: zero };
        let samples: Vec<_> = (1..=200).rev().map(sample).collect();
        assert_eq!(percentile(&samples, 50, Sample::total), Duration::from_millis(100));
        assert_eq!(percentile(&samples, 99, Sample::total), Duration::from_millis(198));
        assert_eq!(percentile(&samples, 100, Sample::total), Duration::from_millis(200));
        assert_eq!(percentile(&[], 50, Sample::total), Duration::ZERO);
    }
}
