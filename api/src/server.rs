//! The public server.

use crate::app::{App, routes};
use crate::identity::password::Passwords;
use crate::identity::token::Tokens;
use crate::identity::turns::Party;
use actix_web::dev::ServerHandle;
use actix_web::{App as ActixApp, HttpServer, web};
use anyhow::Context as _;
use futures::FutureExt as _;
use mizar_db::DbPool;
use mizar_db::identity::{bootstrap as accounts, revocations};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// A running server.
#[derive(Debug)]
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    handle: ServerHandle,
    running: JoinHandle<std::io::Result<()>>,
    revocations: JoinHandle<()>,
}

/// How often replicas learn of each other's revocations.
const REVOCATIONS: Duration = Duration::from_secs(1);

/// How often those are forgotten whose tokens have expired.
const SWEEP: Duration = Duration::from_secs(60);

/// Requests in flight end before the process does.
const SHUTDOWN_S: u64 = 5;

/// A connection on which nothing happens is kept for longer than clients keep one: whoever closes first must
/// not be the server, or a request may meet the end of its connection, which nobody may send again if it
/// changes something. Go's clients and reqwest keep 90 seconds, proxies 60; the `openstack` command pauses for
/// as long as its user.
const KEEP_ALIVE: Duration = Duration::from_secs(120);

/// Makes the first account, if there is none and a password is given.
pub async fn bootstrap(pool: &DbPool, password_file: &Path) -> anyhow::Result<()> {
    let named = || format!("cannot read the admin's password from {}", password_file.display());
    let password = std::fs::read_to_string(password_file).with_context(named)?;
    let password = password.trim_end_matches(['\r', '\n']).to_owned();
    anyhow::ensure!(!password.is_empty(), "{} is empty", password_file.display());
    let hash = Passwords::default().hash(Party::default(), password).await?;
    let made = pool.transaction(move |conn| {
        let hash = hash.clone();
        async move { accounts::bootstrap(conn, &hash).await }.boxed()
    });
    if made.await.context("cannot make the first account")? {
        tracing::info!("made the domain default, the project admin and the user admin");
    }
    Ok(())
}

/// Serves until [`Server::stop`]. What is revoked is known before the first request: a token that
/// was taken back must not come to life with a replica.
pub async fn start(app: Arc<App>, listener: TcpListener, workers: usize) -> anyhow::Result<Server> {
    let address = listener.local_addr()?;
    let app = web::Data::from(app);
    let seen = match app.authority.embedded() {
        Some(tokens) => read_revocations(&app.own, tokens, 0).await.context("cannot read revoked tokens")?,
        None => 0,
    };
    let revocations = tokio::spawn(follow_revocations(app.clone(), seen));
    let server =
        HttpServer::new(move || ActixApp::new().app_data(app.clone()).configure(|config| routes(&app, config)))
            .workers(workers)
            .keep_alive(KEEP_ALIVE)
            .shutdown_timeout(SHUTDOWN_S)
            .disable_signals()
            .listen(listener)
            .context("cannot listen")?
            .run();
    let handle = server.handle();
    let running = tokio::spawn(server);
    Ok(Server { address, handle, running, revocations })
}

/// Reads what was revoked since `seen`; returns what to go on from.
async fn read_revocations(pool: &DbPool, tokens: &Tokens, seen: i64) -> anyhow::Result<i64> {
    let (revoked, seen) = revocations::revoked_since(&mut *pool.get().await?, seen).await?;
    if !revoked.is_empty() {
        tokens.revoke(revoked);
    }
    Ok(seen)
}

async fn forget_expired(pool: &DbPool, tokens: &Tokens) -> anyhow::Result<()> {
    tokens.forget_expired();
    Ok(revocations::forget_expired(&mut *pool.get().await?).await?)
}

/// Ends at once where another service revokes.
async fn follow_revocations(app: web::Data<App>, mut seen: i64) {
    let Some(tokens) = app.authority.embedded() else { return };
    let mut swept_at = Instant::now();
    loop {
        tokio::time::sleep(REVOCATIONS).await;
        match read_revocations(&app.own, tokens, seen).await {
            Ok(next) => seen = next,
            Err(error) => tracing::warn!(error = format!("{error:#}"), "cannot read revoked tokens"),
        }
        if swept_at.elapsed() >= SWEEP {
            swept_at = Instant::now();
            if let Err(error) = forget_expired(&app.own, tokens).await {
                tracing::warn!(error = format!("{error:#}"), "cannot forget expired revocations");
            }
        }
    }
}

impl Server {
    /// Ends once the requests in flight are answered.
    pub async fn stop(self) {
        self.revocations.abort();
        self.handle.stop(true).await;
        if let Ok(Err(error)) = self.running.await {
            tracing::error!(%error, "the listener failed");
        }
    }
}
