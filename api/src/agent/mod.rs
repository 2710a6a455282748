//! The agents' side of the API: registration, sync and snapshots over mutual TLS, on a listener
//! of its own (CONTROLPLANE sections 1, 4, 7).
//!
//! How `main` uses it:
//!
//! ```ignore
//! let agents = agent::start(agent::AgentConfig {
//!     listen: agent::Listen::Address(addr),          // or Listen::Inherited(fd), an open TCP listener
//!     tls: agent::TlsPaths { cert, key, client_ca }, // PEM files
//!     database_url: url.clone(),                     // the feed opens connections of its own
//!     lease: Duration::from_secs(30),
//! }, commands_pool.clone()).await?;                  // listening and caught up with the feed
//! agents.address();                                  // where it listens
//! agents.is_ready();                                 // the tail is alive
//! agents.probe();                                    // for /readyz and /metrics
//! agents.stop().await;                               // answers waiting polls, then ends
//! ```
//!
//! A poll is three steps: what the agent reports is handed to [`reporter`]; what is new for it
//! comes from the [feed](mizar_db::feed), which waits without a connection; the answer says where
//! it now stands. Nothing about a host is kept in memory that another replica could not find in
//! the database: agents may switch replicas from one poll to the next.

mod identity;
mod listener;
mod problem;
mod questions;
mod register;
mod reporter;
mod sessions;
mod snapshot;
mod sync;

pub use listener::{Listen, TlsPaths};

use crate::exchange::{Exchange, Participant};
use crate::observe::metrics::RequestMetrics;
use crate::observe::request::count;
use actix_web::dev::ServerHandle;
use actix_web::middleware::from_fn;
use actix_web::{App, HttpServer, web};
use anyhow::Context as _;
use mizar_db::DbPool;
use mizar_db::feed::follow::{Feed, Follower};
use mizar_db::pool::Use;
use reporter::Reporter;
use sessions::Sessions;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

/// What the agents' listener needs to know.
#[derive(Clone, Debug)]
pub struct AgentConfig {
    /// Where it listens.
    pub listen: Listen,
    /// Who it is, and whose certificates it takes.
    pub tls: TlsPaths,
    /// Of the primary: a standby's snapshots are no cursors.
    pub database_url: String,
    /// How long a host's lease lasts without a sync.
    pub lease: Duration,
}

/// Connections of the feed's readers: for [`SNAPSHOTS`] and some deltas.
const FEED_CONNECTIONS: usize = 12;

/// Connections of the reporter: one task, and one to spare while a broken one is replaced. Its own,
/// so that commands, however many, cannot keep leases from being renewed.
const REPORT_CONNECTIONS: usize = 2;

/// Connections for hosts that register, or that this replica does not know yet: likewise.
const HOST_CONNECTIONS: usize = 4;

/// Snapshots that are read at once; more would take the database from the commands.
const SNAPSHOTS: usize = 8;

/// Largest body that an agent may send: an acknowledgement with many failures.
const BODY: usize = 4 << 20;

/// Longer than the longest poll, so that agents keep their connection.
const KEEP_ALIVE: Duration = Duration::from_secs(75);

/// What every handler sees.
struct Shared {
    /// For who registers, and who holds a host.
    pool: DbPool,
    feed: Arc<Feed>,
    reporter: Reporter,
    exchange: Arc<Exchange>,
    sessions: Arc<Sessions>,
    snapshots: Semaphore,
    polls: Arc<AtomicUsize>,
    lease: Duration,
}

/// A listener at work.
pub struct Agents {
    address: SocketAddr,
    follower: Follower,
    participant: Participant,
    server: ServerHandle,
    running: JoinHandle<std::io::Result<()>>,
    reports: JoinHandle<()>,
    probe: Probe,
}

/// What others may see of it.
#[derive(Clone)]
pub struct Probe {
    feed: Arc<Feed>,
    exchange: Arc<Exchange>,
    reports_pool: DbPool,
    hosts_pool: DbPool,
    polls: Arc<AtomicUsize>,
    requests: RequestMetrics,
}

impl std::fmt::Debug for Probe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Probe").field("polls", &self.polls).finish_non_exhaustive()
    }
}

impl Probe {
    /// Whether the feed is followed: without it agents hear nothing new.
    pub fn is_alive(&self) -> bool {
        self.feed.is_alive()
    }

    /// Since it was read last.
    pub fn feed_age(&self) -> Duration {
        self.feed.age()
    }

    /// Polls that wait for news, or for questions.
    pub fn polls(&self) -> usize {
        self.polls.load(Ordering::Relaxed)
    }

    /// Where hosts are asked.
    pub fn exchange(&self) -> &Arc<Exchange> {
        &self.exchange
    }

    /// Requests of agents.
    pub fn requests(&self) -> &RequestMetrics {
        &self.requests
    }

    /// Connections of its own.
    pub fn pools(&self) -> [(&'static str, &DbPool); 3] {
        [("feed", self.feed.pool()), ("reports", &self.reports_pool), ("registrations", &self.hosts_pool)]
    }
}

/// Counts a poll as waiting as long as it lives: its agent may hang up.
struct Waiting(Arc<AtomicUsize>);

impl Shared {
    fn waiting(&self) -> Waiting {
        self.polls.fetch_add(1, Ordering::Relaxed);
        Waiting(Arc::clone(&self.polls))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Agents {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether the feed is followed: without it agents hear nothing new.
    pub fn is_ready(&self) -> bool {
        self.follower.feed().is_alive()
    }

    /// For metrics and `/readyz`.
    pub fn probe(&self) -> Probe {
        self.probe.clone()
    }

    /// Answers the polls that wait, stores what was reported, and ends.
    pub async fn stop(self) {
        self.follower.stop();
        self.participant.stop();
        self.server.stop(true).await;
        if let Ok(Err(error)) = self.running.await {
            tracing::error!(%error, "the agents' listener failed");
        }
        // Ends once the handlers are gone, which hold its senders.
        if let Err(error) = self.reports.await {
            tracing::error!(%error, "the agents' last reports were not stored");
        }
    }
}

/// Opens the listener and follows the feed; returns once both work. `pool` is that of the
/// commands: hosts are asked through it. Registrations and reports have small ones of their own.
pub async fn start(config: AgentConfig, pool: DbPool) -> anyhow::Result<Agents> {
    let tls = config.tls.load()?;
    let listener = config.listen.open()?;
    let address = listener.local_addr()?;
    let feed_pool = DbPool::new(&config.database_url, FEED_CONNECTIONS, Use::Feed)?;
    let follower = Follower::start(&config.database_url, feed_pool).await.context("cannot follow the feed")?;
    let feed = Arc::clone(follower.feed());
    let sessions = Arc::new(Sessions::default());
    let reports_pool = DbPool::new(&config.database_url, REPORT_CONNECTIONS, Use::Commands)?;
    let hosts_pool = pool.beside(HOST_CONNECTIONS)?;
    let asking = Participant::start(&config.database_url, pool).await;
    let participant = asking.context("cannot hear of questions to hosts")?;
    let exchange = Arc::clone(participant.exchange());
    let probe = Probe {
        feed: Arc::clone(&feed),
        exchange: Arc::clone(&exchange),
        reports_pool: reports_pool.clone(),
        hosts_pool: hosts_pool.clone(),
        polls: Arc::default(),
        requests: RequestMetrics::default(),
    };
    let (reporter, reports) = reporter::start(reports_pool, Arc::clone(&feed), Arc::clone(&sessions), config.lease);
    let shared = web::Data::new(Shared {
        pool: hosts_pool,
        feed,
        reporter,
        exchange,
        sessions,
        snapshots: Semaphore::new(SNAPSHOTS),
        polls: Arc::clone(&probe.polls),
        lease: config.lease,
    });
    let requests = web::Data::new(probe.requests.clone());
    let app = move || {
        let counted = App::new().app_data(shared.clone()).app_data(requests.clone());
        counted.wrap(from_fn(count)).configure(routes)
    };
    let server = HttpServer::new(app)
        .on_connect(identity::remember_peer)
        .keep_alive(KEEP_ALIVE)
        .shutdown_timeout(5)
        .disable_signals()
        .listen_rustls_0_23(listener, tls)
        .context("cannot listen for agents")?
        .run();
    let handle = server.handle();
    let running = tokio::spawn(server);
    tracing::info!(%address, "listening for agents");
    Ok(Agents { address, follower, participant, server: handle, running, reports, probe })
}

fn routes(config: &mut web::ServiceConfig) {
    config
        .app_data(web::PayloadConfig::new(BODY))
        .service(
            web::scope("/agent/v1/hosts/{host}")
                .service(snapshot::resource())
                .service(
                    web::resource("/sync").route(web::post().to(sync::sync)).default_service(web::to(problem::method)),
                )
                .service(
                    web::resource("/questions")
                        .route(web::post().to(questions::questions))
                        .default_service(web::to(problem::method)),
                )
                .service(
                    web::resource("")
                        .route(web::put().to(register::register))
                        .default_service(web::to(problem::method)),
                ),
        )
        .default_service(web::to(problem::nowhere));
}
