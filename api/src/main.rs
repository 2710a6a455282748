//! Boots mizar-api: configuration, keys, database, agents, public listener; then waits to be told
//! to stop.

use anyhow::Context as _;
use clap::Parser;
use mizar_api::agent::{self, AgentConfig, Listen, TlsPaths};
use mizar_api::app::App;
use mizar_api::config::Config;
use mizar_api::identity::keys::Keys;
use mizar_api::identity::token::Tokens;
use mizar_api::server;
use mizar_db::DbPool;
use mizar_db::pool::Use;
use std::io::IsTerminal as _;
use std::net::TcpListener;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
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
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
    match run(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "mizar-api ends");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn run(config: Config) -> anyhow::Result<()> {
    let keys = Keys::open(&config.state_dir).context("cannot open the keys that sign tokens")?;
    for migration in mizar_db::migrate::migrate(&config.database_url).await.context("cannot migrate the database")? {
        tracing::info!(migration, "migrated the database");
    }
    let pool = DbPool::new(&config.database_url, config.database_connections.into(), Use::Commands)?;
    if let Some(file) = &config.bootstrap_admin_password_file {
        server::bootstrap(&pool, file).await?;
    }
    let agents = agent::start(agent_config(&config)?, pool.clone()).await.context("cannot serve agents")?;
    let follows = Arc::new(AtomicBool::new(agents.is_ready()));
    let ready = Arc::clone(&follows);
    let app = App {
        pool,
        tokens: Tokens::new(keys),
        settings: config.settings(),
        ready: Box::new(move || ready.load(Ordering::Relaxed)),
    };
    let listener = TcpListener::bind(config.listen).with_context(|| format!("cannot listen on {}", config.listen))?;
    let workers = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let public = server::start(app, listener, workers)?;
    tracing::info!(public = %public.address, agents = %agents.address(), "ready");

    let mut terminate = signal(SignalKind::terminate())?;
    let mut watch = tokio::time::interval(std::time::Duration::from_millis(200));
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = tokio::signal::ctrl_c() => break,
            _ = watch.tick() => follows.store(agents.is_ready(), Ordering::Relaxed),
        }
    }
    tracing::info!("stopping");
    public.stop().await;
    agents.stop().await;
    Ok(())
}

fn agent_config(config: &Config) -> anyhow::Result<AgentConfig> {
    let listen = match (config.agent_listen, config.agent_fd) {
        (Some(address), None) => Listen::Address(address),
        (None, Some(descriptor)) => Listen::Inherited(descriptor),
        _ => anyhow::bail!("one of --agent-listen and --agent-fd is needed"),
    };
    Ok(AgentConfig {
        listen,
        tls: TlsPaths {
            cert: config.tls_cert.clone(),
            key: config.tls_key.clone(),
            client_ca: config.tls_client_ca.clone(),
        },
        database_url: config.database_url.clone(),
        lease: std::time::Duration::from_secs(config.lease_s.into()),
    })
}
