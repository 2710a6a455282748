//! `/metrics`, `/healthz` and `/readyz` of a host.
//!
//! The numbers are those of the local socket's `status`: counted by the programs, read when somebody
//! asks. So the text is made anew each time. Only the sizes of maps are kept for a while: to count a full one takes as
//! many system calls as it has entries, and whoever watches a host looks often.

use crate::core::Shared;
use crate::status::{Observer, Sizes};
use mizar_metrics::{Check, Operated, Process, silent};
use mizar_wire::local::Status;
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

/// How long the sizes of maps are good.
const COUNTED: Duration = Duration::from_secs(10);

/// Longer than a poll waits for news, and some attempts: then the API is away.
const SILENCE: Duration = Duration::from_secs(90);

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Event {
    event: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Reason {
    reason: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Map {
    map: String,
}

/// The agent, as operators ask it.
pub struct Operators {
    core: Shared,
    observer: Observer,
    /// When maps were counted last, and what they had. Held while they are counted: who asks meanwhile waits for the
    /// same count.
    counted: Mutex<Option<(Instant, Sizes)>>,
}

impl Operators {
    /// Of this state; the observer reads the maps.
    pub fn new(core: Shared, observer: Observer) -> Self {
        Self { core, observer, counted: Mutex::default() }
    }

    async fn sizes(&self) -> Result<Sizes, String> {
        let mut counted = self.counted.lock().await;
        match &*counted {
            Some((at, sizes)) if at.elapsed() < COUNTED => Ok(sizes.clone()),
            _ => {
                let sizes = self.observer.sizes().await?;
                *counted = Some((Instant::now(), sizes.clone()));
                Ok(sizes)
            }
        }
    }
}

impl Operated for Operators {
    async fn metrics(&self) -> Result<String, String> {
        let status = self.observer.status_with(&self.core, self.sizes().await?).await?;
        render(&status).map_err(|error| error.to_string())
    }

    /// Forwarding needs none of these; news of ports do.
    async fn checks(&self) -> Vec<Check> {
        let core = self.core.lock();
        let silence = core.api_seen.map(|at| at.elapsed());
        let store = core.store();
        let api = silent(silence, SILENCE);
        let state = store.cursor.is_none().then(|| "nothing is known yet of what is desired".to_owned());
        vec![("api", api), ("state", state)]
    }
}

fn gauge(count: usize) -> Gauge {
    let gauge = Gauge::default();
    gauge.set(mizar_metrics::gauge(count));
    gauge
}

fn render(status: &Status) -> Result<String, std::fmt::Error> {
    let mut registry = Registry::default();
    Process::register(&mut registry).refresh();
    let agent = registry.sub_registry_with_prefix("mizar_agent");
    let about = [
        ("version", env!("CARGO_PKG_VERSION").to_owned()),
        ("host", status.host.clone()),
        ("transit_hook", status.transit_hook.clone()),
    ];
    agent.register("build", "The program and its host", Info::new(about));
    agent.register("entries", "Entries of desired state", gauge(status.entries));
    agent.register("failures", "Entries that could not be applied", gauge(status.failures.len()));
    agent.register("ports", "Ports wired on this host", gauge(status.ports.len()));
    if let Some(seconds) = status.api_seen_s {
        let silence = gauge(usize::try_from(seconds).unwrap_or(usize::MAX));
        agent.register_with_unit("api_silence", "Since the API last answered", Unit::Seconds, silence);
    }
    let (events, drops, maps) = (Family::<_, Counter>::default(), Family::<_, Counter>::default(), Family::default());
    for (event, count) in &status.counters {
        events.get_or_create_owned(&Event { event: event.clone() }).inc_by(*count);
    }
    for (reason, count) in &status.drops {
        drops.get_or_create_owned(&Reason { reason: reason.clone() }).inc_by(*count);
    }
    for (map, entries) in &status.maps {
        let size: Gauge = maps.get_or_create_owned(&Map { map: map.clone() });
        size.set(i64::try_from(*entries).unwrap_or(i64::MAX));
    }
    agent.register("events", "What the programs count", events);
    agent.register("drops", "Packets dropped, of all ports that are here", drops);
    agent.register("map_entries", "Entries of each map", maps);
    let mut text = String::new();
    text::encode(&mut text, &registry)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_becomes_a_page() -> Result<(), std::fmt::Error> {
        let status = Status {
            host: "h\"1".into(),
            number: Some(1),
            cursor: None,
            entries: 12,
            failures: vec!["x".into()],
            api_seen_s: Some(3),
            ports: vec![],
            transit_hook: "tcx".into(),
            counters: [("egress_hit".to_owned(), 7)].into(),
            drops: [("spoofed_source".to_owned(), 2)].into(),
            maps: [("FLOWS".to_owned(), 5)].into(),
        };
        let page = render(&status)?;
        for line in [
            r#"mizar_agent_build_info{version="0.1.0",host="h\"1",transit_hook="tcx"} 1"#,
            "mizar_agent_entries 12",
            "mizar_agent_failures 1",
            "mizar_agent_ports 0",
            "mizar_agent_api_silence_seconds 3",
            r#"mizar_agent_events_total{event="egress_hit"} 7"#,
            r#"mizar_agent_drops_total{reason="spoofed_source"} 2"#,
            r#"mizar_agent_map_entries{map="FLOWS"} 5"#,
            "# EOF",
        ] {
            assert!(page.lines().any(|have| have == line), "{line} is not in\n{page}");
        }
        assert!(!page.contains("process_resident_memory_bytes 0"), "{page}");
        let never = render(&Status { api_seen_s: None, ..status })?;
        assert!(!never.contains("api_silence"), "{never}");
        Ok(())
    }
}
