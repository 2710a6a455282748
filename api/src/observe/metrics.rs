//! What `/metrics` says, in OpenMetrics' text form.
//!
//! Counters and histograms are written as requests end; everything that has a present value (pools,
//! queues, the feed's age, memory) is read when somebody asks. Names carry their unit. Label sets
//! are bounded by the program: a route is a pattern of the router, a method one that HTTP defines.

use crate::agent::Probe;
use actix_web::http::Method;
use mizar_db::DbPool;
use mizar_metrics::{Process, gauge};
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use std::sync::atomic::AtomicU64;
use std::time::Duration;

/// From a cached answer to the longest poll.
const BUCKETS_S: [f64; 13] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0];

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Operation {
    method: &'static str,
    route: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Outcome {
    method: &'static str,
    route: String,
    status: u16,
}

/// Requests of one listener. Clones count together.
#[derive(Clone, Debug)]
pub struct RequestMetrics {
    answered: Family<Outcome, Counter>,
    took: Family<Operation, Histogram>,
    in_flight: Gauge,
}

impl Default for RequestMetrics {
    fn default() -> Self {
        let histogram: fn() -> Histogram = || Histogram::new(BUCKETS_S);
        Self { answered: Family::default(), took: Family::new_with_constructor(histogram), in_flight: Gauge::default() }
    }
}

/// Counts a request as in flight as long as it lives: also one whose client went away.
pub struct InFlight(Gauge);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl RequestMetrics {
    /// A request came.
    pub fn begin(&self) -> InFlight {
        self.in_flight.inc();
        InFlight(self.in_flight.clone())
    }

    /// It was answered.
    pub fn answered(&self, method: &Method, route: &str, status: u16, took: Duration) {
        let method = known(method);
        self.took.get_or_create_owned(&Operation { method, route: route.into() }).observe(took.as_secs_f64());
        self.answered.get_or_create_owned(&Outcome { method, route: route.into(), status }).inc();
    }

    fn register(&self, registry: &mut Registry) {
        registry.register("requests", "Requests answered", self.answered.clone());
        let help = "From the request's head to the answer's";
        registry.register_with_unit("request_duration", help, Unit::Seconds, self.took.clone());
        registry.register("requests_in_flight", "Requests being answered", self.in_flight.clone());
    }
}

/// Anybody can send any word as a method.
fn known(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct PoolState {
    pool: &'static str,
    state: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct PoolName {
    pool: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Limit {
    limit: &'static str,
}

type Seconds = Gauge<f64, AtomicU64>;

/// Everything that is measured.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    process: Process,
    /// Of the public listener.
    pub requests: RequestMetrics,
    limited: Family<Limit, Counter>,
    connections: Family<PoolState, Gauge>,
    connections_max: Family<PoolName, Gauge>,
    waiting: Family<PoolName, Gauge>,
    feed_age: Seconds,
    polls: Gauge,
    hashing: Gauge,
}

impl Metrics {
    /// With everything at zero. `agents`: the other listener of this process.
    pub fn new(agents: Option<&Probe>) -> Self {
        let mut registry = Registry::default();
        let process = Process::register(&mut registry);
        let mut metrics = Self {
            registry: Registry::default(),
            process,
            requests: RequestMetrics::default(),
            limited: Family::default(),
            connections: Family::default(),
            connections_max: Family::default(),
            waiting: Family::default(),
            feed_age: Seconds::default(),
            polls: Gauge::default(),
            hashing: Gauge::default(),
        };
        let api = registry.sub_registry_with_prefix("mizar_api");
        api.register("build", "The program", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
        metrics.requests.register(api);
        api.register("rate_limited", "Requests refused with 429, by which limit", metrics.limited.clone());
        api.register("database_connections", "Connections of a pool", metrics.connections.clone());
        api.register("database_connections_max", "Size that a pool may have", metrics.connections_max.clone());
        api.register("database_waiting", "Who waits for a connection of a pool", metrics.waiting.clone());
        api.register("password_hashing_waiting", "Logins that wait for their turn", metrics.hashing.clone());
        if let Some(agents) = agents {
            agents.requests().register(api.sub_registry_with_prefix("agent"));
            let help = "Since the feed was last read: what agents may lag behind";
            api.register_with_unit("feed_age", help, Unit::Seconds, metrics.feed_age.clone());
            api.register("polls_waiting", "Agents' polls that wait for news", metrics.polls.clone());
        }
        metrics.registry = registry;
        metrics
    }

    /// A request was refused with 429.
    pub fn refused(&self, limit: &'static str) {
        self.limited.get_or_create_owned(&Limit { limit }).inc();
    }

    /// The text. `hashing`: how many logins wait for their turn.
    pub fn encode(
        &self,
        pools: [(&'static str, &DbPool); 2],
        hashing: usize,
        agents: Option<&Probe>,
    ) -> Result<String, std::fmt::Error> {
        for (name, pool) in pools {
            self.pool(name, pool);
        }
        if let Some(agents) = agents {
            for (name, pool) in agents.pools() {
                self.pool(name, pool);
            }
            self.feed_age.set(agents.feed_age().as_secs_f64());
            self.polls.set(gauge(agents.polls()));
        }
        self.hashing.set(gauge(hashing));
        self.process.refresh();
        let mut text = String::new();
        text::encode(&mut text, &self.registry)?;
        Ok(text)
    }

    fn pool(&self, pool: &'static str, connections: &DbPool) {
        let now = connections.usage();
        let set = |state, count: usize| {
            self.connections.get_or_create_owned(&PoolState { pool, state }).set(gauge(count));
        };
        set("idle", now.idle);
        set("in_use", now.in_use);
        self.connections_max.get_or_create_owned(&PoolName { pool }).set(gauge(now.max));
        self.waiting.get_or_create_owned(&PoolName { pool }).set(gauge(now.waiting));
    }
}
