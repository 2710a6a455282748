//! Entry point of `mizar-scheduler`: configuration, log, signals, then the election.

use anyhow::Context as _;
use clap::Parser;
use mizar_scheduler::metrics::Metrics;
use mizar_scheduler::{Settings, config::Config};
use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

/// `EX_USAGE` of sysexits.h: a wrong configuration, found before anything was touched.
const USAGE: u8 = 64;

fn main() -> ExitCode {
    let config = match Config::try_parse() {
        Ok(config) => config,
        Err(error) => {
            let wanted = !error.use_stderr();
            // Nothing is left to do if even that cannot be printed.
            let _ = error.print();
            return if wanted { ExitCode::SUCCESS } else { ExitCode::from(USAGE) };
        }
    };
    let filter = tracing_subscriber::EnvFilter::builder()
        .with_env_var("MIZAR_LOG")
        .with_default_directive(tracing_subscriber::filter::LevelFilter::INFO.into());
    match filter.from_env() {
        Ok(filter) => tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(std::io::stderr)
            .with_ansi(std::io::stderr().is_terminal())
            .init(),
        Err(error) => {
            eprintln!("MIZAR_LOG: {error}");
            return ExitCode::from(USAGE);
        }
    }
    match serve(&config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "cannot start");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main(worker_threads = 2)]
async fn serve(config: &Config) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let metrics = Arc::new(Metrics::default());
    if let Some(address) = config.operator_listen {
        let listener = TcpListener::bind(address).await;
        let listener = listener.with_context(|| format!("cannot listen for operators on {address}"))?;
        tracing::info!(address = %listener.local_addr()?, "listening for operators");
        tokio::spawn(mizar_metrics::serve(listener, Arc::clone(&metrics)));
    }
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "started");
    // Dropping the election ends its sessions: the lock is free for the next one at once, and what
    // was being written is rolled back.
    tokio::select! {
        never = mizar_scheduler::run(&config.database_url, Settings::from(config), &metrics) => match never {},
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("stopped");
    Ok(())
}
