//! Follows the notices of questions and answers for ever.

use super::Exchange;
use mizar_db::chain;
use mizar_db::questions::{Listener, Notice};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often what nobody waits for is removed, which also tries the connection: whether or not something is told on it.
const SWEEPS: Duration = Duration::from_secs(10);
/// Between attempts to connect again.
const RETRY: Duration = Duration::from_millis(250);

pub(super) async fn listen(exchange: Arc<Exchange>, url: String, mut listener: Listener) {
    loop {
        let Err(error) = follow(&exchange, &mut listener).await;
        tracing::warn!(error = chain(&error), "questions to hosts are cut off; connecting again");
        listener = reconnect(&url).await;
        tracing::info!("questions to hosts are followed again");
    }
}

async fn reconnect(url: &str) -> Listener {
    loop {
        tokio::time::sleep(RETRY).await;
        match Listener::connect(url).await {
            Ok(listener) => return listener,
            Err(error) => tracing::debug!(error = chain(&error), "the listener cannot connect yet"),
        }
    }
}

/// Until it fails.
async fn follow(exchange: &Exchange, listener: &mut Listener) -> diesel::QueryResult<std::convert::Infallible> {
    for host in listener.hosts().await? {
        exchange.asked(host);
    }
    exchange.look_again();
    let mut swept = Instant::now();
    loop {
        match listener.next(SWEEPS.saturating_sub(swept.elapsed())).await? {
            Some(Notice::Asked(host)) => exchange.asked(host),
            Some(Notice::Answered(id)) => exchange.answered(id),
            None => {}
        }
        if swept.elapsed() >= SWEEPS {
            listener.sweep().await?;
            swept = Instant::now();
        }
    }
}
