//! The listener and its routes.

use crate::api::Api;
use crate::session::Sessions;
use crate::{guard, handlers};
use actix_web::dev::ServerHandle;
use actix_web::middleware::{Compress, from_fn};
use actix_web::web::{Data, PayloadConfig};
use actix_web::{App, HttpServer};
use anyhow::Context as _;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

/// Bytes of a form.
const FORM: usize = 256 << 10;

/// Pages of all users that follow changes at once.
const STREAMS: usize = 2_000;

/// Connections of each worker.
const CONNECTIONS: usize = 4_000;

/// Seconds that requests may still take when the server is told to stop.
const FAREWELL_S: u64 = 2;

/// What all requests share.
#[derive(Debug)]
pub struct Site {
    /// The API.
    pub api: Api,
    /// Who is signed in.
    pub sessions: Sessions,
    /// How browsers name this server.
    pub public: String,
    /// Addresses of proxies whose `X-Forwarded-For` says who the browser is.
    pub trusted_proxies: Vec<IpAddr>,
    /// Pages that may follow changes now, of all users.
    pub streams: Arc<Semaphore>,
}

impl Site {
    /// A site that calls this API and is named so.
    pub fn new(api: Api, public: &str) -> Self {
        let streams = Arc::new(Semaphore::new(STREAMS));
        Self { api, sessions: Sessions::default(), public: public.to_owned(), trusted_proxies: Vec::new(), streams }
    }

    /// Believes these proxies who the browser is.
    #[must_use]
    pub fn trusting(self, proxies: Vec<IpAddr>) -> Self {
        let trusted_proxies = proxies.iter().map(IpAddr::to_canonical).collect();
        Self { trusted_proxies, ..self }
    }

    /// Whether browsers reach it by TLS.
    pub fn is_secure(&self) -> bool {
        self.public.starts_with("https://")
    }

    /// Name of the cookie: with TLS, one that no other server of the domain can set.
    pub fn cookie(&self) -> &'static str {
        if self.is_secure() { "__Host-mizar-session" } else { "mizar-session" }
    }
}

/// A server that runs.
#[derive(Debug)]
pub struct Running {
    /// Where it listens.
    pub address: SocketAddr,
    handle: ServerHandle,
    task: JoinHandle<std::io::Result<()>>,
}

impl Running {
    /// Ends it; requests that are being answered get their answers.
    pub async fn stop(self) {
        self.handle.stop(true).await;
        match self.task.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "the server ended badly"),
            Err(error) => tracing::error!(%error, "the server ended badly"),
        }
    }
}

/// Starts it.
pub fn start(site: Site, listener: TcpListener, workers: usize) -> anyhow::Result<Running> {
    let address = listener.local_addr()?;
    let site = Data::new(site);
    let server = HttpServer::new(move || {
        App::new()
            .app_data(site.clone())
            .app_data(PayloadConfig::new(FORM))
            .wrap(Compress::default())
            .wrap(from_fn(guard::guard))
            .configure(handlers::routes)
    })
    .workers(workers)
    .max_connections(CONNECTIONS)
    .shutdown_timeout(FAREWELL_S)
    .disable_signals()
    .listen(listener)
    .context("cannot listen")?
    .run();
    let handle = server.handle();
    Ok(Running { address, handle, task: tokio::spawn(server) })
}
