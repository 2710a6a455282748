//! The operators' listener: metrics, and what ails the process. No authentication: it belongs on
//! loopback or a management network, which is why it has an address of its own.

use super::health;
use crate::app::App;
use actix_web::dev::ServerHandle;
use actix_web::{App as ActixApp, HttpResponse, HttpServer, web};
use anyhow::Context as _;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use tokio::task::JoinHandle;

/// A listener at work.
#[derive(Debug)]
pub struct Operators {
    /// Where it listens.
    pub address: SocketAddr,
    handle: ServerHandle,
    running: JoinHandle<std::io::Result<()>>,
}

async fn metrics(app: web::Data<App>) -> HttpResponse {
    let pools = [("commands", &app.pool), ("own", &app.own)];
    match app.metrics.encode(pools, app.passwords.waiting(), app.agents.as_ref()) {
        Ok(text) => HttpResponse::Ok().content_type(mizar_metrics::TEXT).body(text),
        Err(error) => {
            tracing::error!(%error, "metrics cannot be written");
            HttpResponse::InternalServerError().finish()
        }
    }
}

/// Serves until [`Operators::stop`].
pub fn start(app: Arc<App>, listener: TcpListener) -> anyhow::Result<Operators> {
    let address = listener.local_addr()?;
    let app = web::Data::from(app);
    let server = HttpServer::new(move || {
        ActixApp::new()
            .app_data(app.clone())
            .route("/metrics", web::get().to(metrics))
            .route("/healthz", web::get().to(health::healthz))
            .route("/readyz", web::get().to(health::explain))
    })
    .workers(1)
    .disable_signals()
    .listen(listener)
    .context("cannot listen for operators")?
    .run();
    let handle = server.handle();
    Ok(Operators { address, handle, running: tokio::spawn(server) })
}

impl Operators {
    /// Ends.
    pub async fn stop(self) {
        self.handle.stop(false).await;
        if let Ok(Err(error)) = self.running.await {
            tracing::error!(%error, "the operators' listener failed");
        }
    }
}
