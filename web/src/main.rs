//! Boots mizar-web: configuration, the client of the API, the listener; then waits to be told to stop.

use anyhow::Context as _;
use clap::Parser;
use mizar_web::api::Api;
use mizar_web::config::{Config, LogFormat};
use mizar_web::server::{self, Site};
use std::io::IsTerminal as _;
use std::net::TcpListener;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// EX_USAGE of sysexits.h: a supervisor shall not restart us for that.
const BAD_CONFIGURATION: u8 = 64;

fn main() -> ExitCode {
    let config = match Config::try_parse() {
        Ok(config) => config,
        Err(error) => {
            let code = if error.use_stderr() { BAD_CONFIGURATION } else { 0 };
            // If the message cannot be printed, the code still says it.
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    log(config.log_format);
    match run(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "mizar-web ends");
            ExitCode::FAILURE
        }
    }
}

/// Lines to stderr: for people, or one JSON object each for machines.
fn log(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => lines.json().flatten_event(true).with_span_list(false).init(),
    }
}

#[tokio::main]
async fn run(config: Config) -> anyhow::Result<()> {
    let api = Api::new(&config.api, config.identity.as_deref(), config.api_ca.as_deref())?;
    let public = config.public_url.clone().unwrap_or_else(|| format!("http://{}", config.listen));
    if !config.listen.ip().is_loopback() && !public.starts_with("https://") {
        tracing::warn!(
            "passwords and cookies cross the network in the clear: put a proxy with TLS before this program, and \
             name its address with --public-url https://..."
        );
    }
    let listener = TcpListener::bind(config.listen).with_context(|| format!("cannot listen on {}", config.listen))?;
    let workers = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let running = server::start(Site::new(api, &public).trusting(config.trusted_proxies), listener, workers)?;
    tracing::info!(address = %running.address, public, api = config.api, "ready");

    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    tracing::info!("stopping");
    running.stop().await;
    Ok(())
}
