//! Follows the notices of questions and answers for ever.

use super::Exchange;
use mizar_db::chain;
use mizar_db::questions::{Listener, Notice};
use std::sync::Arc;
use std::time::Duration;

/// How often a connection on which nothing is told is tried.
const QUIET: Duration = Duration::from_secs(10);
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
    loop {
        match listener.next(QUIET).await? {
            Some(Notice::Asked(host)) => exchange.asked(host),
            Some(Notice::Answered(id)) => exchange.answered(id),
            None => {}
        }
    }
}
