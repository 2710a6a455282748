//! The verbs of `./dev`. The script installs what is missing and builds this program; all that
//! has logic is here.

mod cargo;
mod check;
mod exec;
mod licences;
mod status;
mod test;
mod up;

use crate::sandbox::layout::Layout;
use crate::sandbox::progress::Progress;
use crate::sandbox::{self, DEFAULT_NAME, Sandbox, endpoint::Kind};
use anyhow::Result;
use clap::{Args, Subcommand, ValueEnum};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// A verb of `./dev`.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Build everything and start a sandbox: hosts, agents, API, scheduler, database, demo.
    Up(Up),
    /// Run a command in the namespace of a port: `./dev exec red-a1 -- ping -c 3 10.0.1.12`.
    Exec {
        /// Name or id.
        port: String,
        /// The command and its arguments.
        #[arg(last = true, required = true)]
        command: Vec<std::ffi::OsString>,
    },
    /// Bind a port to a host and make its interface there.
    Attach {
        /// Name or id.
        port: String,
        /// Which host.
        #[arg(long)]
        host: String,
        /// As what.
        #[arg(long, value_enum, default_value = "container")]
        kind: AttachAs,
    },
    /// Remove a port's interface and its binding.
    Detach {
        /// Name or id.
        port: String,
    },
    /// Processes, hosts, how far each lags behind, roles.
    Status,
    /// Leave nothing of the sandbox: no namespace, pin, process or mount.
    Down,
    /// Run every test, or those that NAME names: a phase, a package, or a part of a test's name.
    Test {
        /// unit, e2e, clients; a package; or a part of a test's name.
        name: Option<String>,
        /// Run tests that failed once more, each by itself: those that pass then are unsteady, and
        /// named at the end. More than three failures in a program are a fault and stay failures.
        #[arg(long)]
        again: bool,
    },
    /// Measure, with peers in the same run.
    Bench {
        /// Handed to the bench.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<std::ffi::OsString>,
    },
    /// Formatting, lints, edges between crates, licences of dependencies.
    Check,
    /// Build the eBPF object.
    Bpf,
}

/// How the sandbox is made.
#[derive(Debug, Args)]
pub struct Up {
    /// Number of hosts.
    #[arg(long, default_value_t = 4)]
    hosts: usize,
    /// Start everything, but make no tenants.
    #[arg(long)]
    no_demo: bool,
    /// Where transit runs on the hosts.
    #[arg(long, default_value = "auto", value_parser = ["auto", "xdp", "tcx"])]
    transit_hook: String,
    /// Ports of a subnet that make one shard.
    #[arg(long, default_value_t = 250)]
    shard_ports: u32,
    /// Dividers of a network.
    #[arg(long, default_value_t = 2)]
    dividers: u32,
}

/// Kinds of attachment, as arguments.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum AttachAs {
    /// A namespace with an interface in it.
    Container,
    /// A tap for a virtual machine.
    Tap,
    /// An interface of the host itself.
    Host,
}

impl From<AttachAs> for Kind {
    fn from(kind: AttachAs) -> Self {
        match kind {
            AttachAs::Container => Self::Container,
            AttachAs::Tap => Self::Tap,
            AttachAs::Host => Self::Host,
        }
    }
}

/// The checkout that this program was built from.
pub fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest).to_owned()
}

fn layout() -> Result<Layout> {
    let name = std::env::var("MIZAR_SANDBOX").unwrap_or_else(|_| DEFAULT_NAME.to_owned());
    Layout::new(&root(), &name)
}

/// Does what the verb says.
pub fn run(verb: Verb) -> Result<ExitCode> {
    match verb {
        Verb::Up(wanted) => up::up(layout()?, wanted),
        Verb::Exec { port, command } => exec::exec(&Sandbox::open(layout()?)?, &port, &command),
        Verb::Attach { port, host, kind } => up::attach(&Sandbox::open(layout()?)?, &port, &host, kind.into()),
        Verb::Detach { port } => {
            let sandbox = Sandbox::open(layout()?)?;
            let admin = sandbox.admin()?;
            sandbox.detach(&admin, &admin.find_port(&port)?)?;
            Ok(ExitCode::SUCCESS)
        }
        Verb::Status => status::status(&layout()?),
        Verb::Down => sandbox::down(&layout()?, true, Progress::Shown).map(|()| ExitCode::SUCCESS),
        Verb::Test { name, again } => test::test(&root(), name.as_deref(), again),
        Verb::Bench { arguments } => cargo::bench(&root(), &arguments),
        Verb::Check => check::check(&root()),
        Verb::Bpf => cargo::build_bpf(&root()).map(|()| ExitCode::SUCCESS),
    }
}
