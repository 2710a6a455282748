//! `mizar-agent`: boots the agent of a host.

use anyhow::Context as _;
use clap::Parser as _;
use mizar_agent::config::{Config, ConfigError};
use mizar_agent::run;
use mizar_agent::sync::http::{Http, TlsError};
use std::io::IsTerminal as _;
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

/// Bad configuration (sysexits.h: EX_USAGE): nothing was bound, made or changed.
const EX_USAGE: u8 = 64;

fn main() -> ExitCode {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    // A panic anywhere ends the process: the kernel goes on forwarding, a fresh agent adopts it.
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        report(info);
        std::process::abort();
    }));
    match boot() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "the agent ends");
            let usage = error.is::<clap::Error>() || error.is::<ConfigError>() || error.is::<TlsError>();
            if usage { ExitCode::from(EX_USAGE) } else { ExitCode::FAILURE }
        }
    }
}

fn boot() -> anyhow::Result<()> {
    let config = match Config::try_parse() {
        Ok(config) => config,
        // Help and version are asked for, not mistakes.
        Err(asked) if !asked.use_stderr() => asked.exit(),
        Err(error) => return Err(error.into()),
    };
    config.check()?;
    let source = Http::new(&config.api, &config.host, &config.ca, &config.cert, &config.key)?;
    // One thread: the work is system calls of microseconds, and waiting.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(8)
        .thread_stack_size(512 << 10)
        .build()
        .context("starting the runtime")?;
    runtime.block_on(run::run(config, source, mizar_abi::ABI))
}
