//! Boots mizar-api: configuration, keys, database, agents, public listener; then waits to be told
//! to stop.

use anyhow::Context as _;
use clap::Parser;
use mizar_api::agent::{self, AgentConfig, Listen, TlsPaths};
use mizar_api::app::App;
use mizar_api::config::{Config, LogFormat};
use mizar_api::identity::authority::{Authority, Setting};
use mizar_api::identity::keys::Keys;
use mizar_api::identity::keystone::Keystone;
use mizar_api::identity::oidc::Oidc;
use mizar_api::identity::token::Tokens;
use mizar_api::observe::listener::{self, Operators};
use mizar_api::server;
use mizar_db::DbPool;
use mizar_db::pool::Use;
use std::io::IsTerminal as _;
use std::net::{SocketAddr, TcpListener};
use std::process::ExitCode;
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// EX_USAGE of sysexits.h: a supervisor shall not restart us for that.
const BAD_CONFIGURATION: u8 = 64;

/// An allocator that gives memory back: a list of ten thousand ports takes some tens of megabytes for a
/// moment, and the C library by itself would keep them, in an arena for each thread. Large pieces are mapped and
/// unmapped one by one, and few arenas are shared by all.
fn spare_memory() {
    // SAFETY: sets parameters of the allocator before any other thread is there.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 2);
        libc::mallopt(libc::M_MMAP_THRESHOLD, 256 << 10);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 1 << 20);
    }
}

fn main() -> ExitCode {
    spare_memory();
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
            tracing::error!(error = format!("{error:#}"), "mizar-api ends");
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
    let authority = authority(&config)?;
    for migration in mizar_db::migrate::migrate(&config.database_url).await.context("cannot migrate the database")? {
        tracing::info!(migration, "migrated the database");
    }
    let pool = DbPool::new(&config.database_url, config.database_connections.into(), Use::Commands)?;
    if let Some(file) = &config.bootstrap_admin_password_file {
        server::bootstrap(&pool, file).await?;
    }
    let agents = agent::start(agent_config(&config)?, pool.clone()).await.context("cannot serve agents")?;
    let app = Arc::new(App::new(pool, authority, config.settings(), Some(agents.probe()))?);
    let operators = match config.operator_listen {
        Some(address) => Some(operators(address, &app)?),
        None => None,
    };
    let listener = TcpListener::bind(config.listen).with_context(|| format!("cannot listen on {}", config.listen))?;
    let workers = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let public = server::start(app, listener, workers).await?;
    tracing::info!(public = %public.address, agents = %agents.address(), "ready");

    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    tracing::info!("stopping");
    public.stop().await;
    agents.stop().await;
    if let Some(operators) = operators {
        operators.stop().await;
    }
    Ok(())
}

fn authority(config: &Config) -> anyhow::Result<Authority> {
    let unusable = anyhow::Error::msg;
    Ok(match config.identity.clone() {
        Setting::Embedded => {
            let keys = Keys::open(&config.state_dir).context("cannot open the keys that sign tokens")?;
            Authority::Embedded(Tokens::new(keys))
        }
        Setting::Keystone(setting) => Authority::Keystone(Keystone::new(*setting).map_err(unusable)?),
        Setting::Oidc(setting) => Authority::Oidc(Oidc::new(*setting).map_err(unusable)?),
    })
}

fn operators(address: SocketAddr, app: &Arc<App>) -> anyhow::Result<Operators> {
    let socket = TcpListener::bind(address).with_context(|| format!("cannot listen for operators on {address}"))?;
    let operators = listener::start(Arc::clone(app), socket)?;
    tracing::info!(address = %operators.address, "listening for operators");
    Ok(operators)
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
