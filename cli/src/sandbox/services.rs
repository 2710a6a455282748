//! Mizar's own processes in a sandbox: which there are, how each is started, when it is ready.

use super::layout::{AGENT_OPERATOR_PORT, AGENT_PORT, HostPlan, Layout, UNDERLAY_API};
use super::netns::Netns;
use super::process::Process;
use super::settings::Settings;
use super::{mounts, pki, postgres, topology};
use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// How long a service may take to serve: on a calm machine it needs a second.
const READY: Duration = Duration::from_secs(120);

const API: &str = "mizar-api";
const SCHEDULER: &str = "mizar-scheduler";
const AGENT: &str = "mizar-agent";
const WEB: &str = "mizar-web";

/// One process of a sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Service {
    /// The database, where it is the sandbox's own.
    Postgres,
    /// `mizar-api`.
    Api,
    /// `mizar-scheduler`.
    Scheduler,
    /// `mizar-agent` of a host.
    Agent(String),
    /// `mizar-web`.
    Web,
}

impl Service {
    /// Name of the process.
    pub fn name(&self) -> String {
        match self {
            Self::Postgres => postgres::NAME.into(),
            Self::Api => "api".into(),
            Self::Scheduler => "scheduler".into(),
            Self::Agent(host) => format!("agent-{host}"),
            Self::Web => "web".into(),
        }
    }

    /// The process.
    pub fn process(&self, layout: &Layout) -> Process {
        Process::named(layout, &self.name())
    }
}

/// Where `mizar-api` and the others are.
#[derive(Clone, Debug)]
pub struct Binaries {
    dir: PathBuf,
}

impl Binaries {
    /// Beside this program: `target/debug`, or `deps` below it for a test.
    pub fn beside_this_program() -> Result<Self> {
        let program = std::env::current_exe()?;
        let dir = program.parent().context("this program has no directory")?;
        let dir = if dir.ends_with("deps") { dir.parent().context("no directory above deps")? } else { dir };
        Ok(Self { dir: dir.to_owned() })
    }

    fn command(&self, name: &str) -> Result<Command> {
        Ok(Command::new(self.path(name)?))
    }

    /// A program's path; an error says how to build it.
    pub fn path(&self, name: &str) -> Result<PathBuf> {
        let path = self.dir.join(name);
        if !path.exists() {
            bail!("{} is not built: `./dev up` and `./dev test` build it", path.display());
        }
        Ok(path)
    }
}

/// Everything needed to start a service of one sandbox.
#[derive(Clone, Debug)]
pub struct Starter<'a> {
    /// Paths.
    pub layout: &'a Layout,
    /// Settings.
    pub settings: &'a Settings,
    /// Programs.
    pub binaries: &'a Binaries,
}

impl Starter<'_> {
    /// Starts it and waits until it serves; changes nothing if it runs.
    pub fn start(&self, service: &Service) -> Result<()> {
        if service.process(self.layout).pid().is_some() {
            return Ok(());
        }
        match service {
            Service::Postgres => postgres::up(self.layout, self.settings.durable),
            Service::Api => self.api(),
            Service::Scheduler => self.scheduler(),
            Service::Web => self.web(),
            Service::Agent(name) => {
                let hosts = self.settings.host_plans()?;
                let host = hosts.iter().find(|h| h.name == *name);
                self.agent(host.with_context(|| format!("the sandbox has no host `{name}`"))?)
            }
        }
    }

    /// Whether it runs, but was built anew since.
    pub fn is_outdated(&self, service: &Service) -> Result<bool> {
        let process = service.process(self.layout);
        let program = match service {
            Service::Postgres => return Ok(false),
            Service::Api => API,
            Service::Scheduler => SCHEDULER,
            Service::Agent(_) => AGENT,
            Service::Web => WEB,
        };
        let object = matches!(service, Service::Agent(_)).then_some(self.settings.bpf_object.as_ref()).flatten();
        let old_object = object.is_some_and(|object| process.runs_since_before(object));
        Ok(old_object || process.runs_other_than(&self.binaries.path(program)?))
    }

    fn database_url(&self) -> String {
        self.settings.database_url.clone().unwrap_or_else(|| postgres::url(self.layout))
    }

    /// The API serves users on the machine's loopback and agents on the underlay. One process
    /// cannot listen in two namespaces by address, so the agents' socket is opened there and
    /// handed over.
    fn api(&self) -> Result<()> {
        let process = Service::Api.process(self.layout);
        let listener = Netns::named(self.layout.underlay_netns())
            .enter(|| TcpListener::bind((UNDERLAY_API, AGENT_PORT)))?
            .context("cannot open the agents' socket in the underlay")?;
        let state = self.state_dir("api")?;
        let server = pki::server(self.layout);
        let public = loopback(self.settings.api_port);
        let mut command = self.binaries.command(API)?;
        command
            .env("MIZAR_DATABASE_URL", self.database_url())
            .arg("--listen")
            .arg(public.to_string())
            .arg("--public-url")
            .arg(format!("http://{public}"))
            .args(["--agent-fd", "3"])
            .arg("--tls-cert")
            .arg(&server.cert)
            .arg("--tls-key")
            .arg(&server.key)
            .arg("--tls-client-ca")
            .arg(pki::ca(self.layout))
            .arg("--state-dir")
            .arg(state)
            .arg("--underlay-mtu")
            .arg(self.settings.mtu.to_string())
            .arg("--lease-s")
            .arg(self.settings.lease_s.to_string())
            .arg("--bootstrap-admin-password-file")
            .arg(self.layout.dir().join("admin-password"))
            .arg("--operator-listen")
            .arg(loopback(self.settings.api_operator_port).to_string());
        if !self.settings.limited {
            command.args(["--requests-per-s", "0"]);
        }
        if self.settings.web {
            // The dashboard calls from here, and says for whose browser.
            command.args(["--trusted-proxies", "127.0.0.1"]);
        }
        hand_over(&mut command, listener.into());
        process.start(command)?;
        process.wait_ready(READY, || answers(public, "/readyz"))
    }

    fn scheduler(&self) -> Result<()> {
        let process = Service::Scheduler.process(self.layout);
        let mut command = self.binaries.command(SCHEDULER)?;
        command
            .env("MIZAR_DATABASE_URL", self.database_url())
            .arg("--shard-ports")
            .arg(self.settings.shard_ports.to_string())
            .arg("--dividers")
            .arg(self.settings.dividers.to_string())
            .arg("--lease-s")
            .arg(self.settings.lease_s.to_string())
            .arg("--operator-listen")
            .arg(loopback(self.settings.scheduler_operator_port).to_string());
        process.start(command)?;
        Ok(())
    }

    fn web(&self) -> Result<()> {
        let process = Service::Web.process(self.layout);
        let listen = loopback(self.settings.web_port);
        let mut command = self.binaries.command(WEB)?;
        command
            .arg("--listen")
            .arg(listen.to_string())
            .arg("--api")
            .arg(format!("http://{}", loopback(self.settings.api_port)));
        process.start(command)?;
        process.wait_ready(READY, || answers(listen, "/healthz"))
    }

    fn agent(&self, host: &HostPlan) -> Result<()> {
        let process = Service::Agent(host.name.clone()).process(self.layout);
        let state = self.state_dir(&process_state(&host.name))?;
        let pair = pki::host(self.layout, &host.name);
        let bpffs = self.layout.bpffs(&host.name);
        mounts::bpffs(&bpffs)?;
        let socket = self.layout.agent_socket(&host.name);
        let mut command = Netns::named(self.layout.host_netns(&host.name)).command(self.binaries.path(AGENT)?)?;
        command
            .args(["--host", &host.name, "--az", host.az, "--rack", host.rack, "--uplink", topology::UPLINK])
            .arg("--api")
            .arg(format!("https://{UNDERLAY_API}:{AGENT_PORT}"))
            .arg("--ca")
            .arg(pki::ca(self.layout))
            .arg("--cert")
            .arg(&pair.cert)
            .arg("--key")
            .arg(&pair.key)
            .arg("--state-dir")
            .arg(state)
            .arg("--bpffs")
            .arg(&bpffs)
            .arg("--socket")
            .arg(&socket)
            .arg("--operator-listen")
            .arg(loopback(AGENT_OPERATOR_PORT).to_string())
            .args(["--transit-hook", &self.settings.transit_hook])
            .arg("--flow-entries")
            .arg(self.settings.flow_entries.to_string());
        if let Some(object) = &self.settings.bpf_object {
            command.arg("--bpf-object").arg(object);
        }
        process.start(command)?;
        process.wait_ready(READY, || UnixStream::connect(&socket).is_ok())
    }

    fn state_dir(&self, process: &str) -> Result<PathBuf> {
        let dir = self.layout.state(process);
        std::fs::create_dir_all(&dir)?;
        Ok(dir)
    }
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

fn process_state(host: &str) -> String {
    format!("agent-{host}")
}

/// Stops a service in the way that is kind to it.
pub fn stop(layout: &Layout, service: &Service) -> Result<()> {
    match service {
        Service::Postgres => postgres::down(layout),
        _ => service.process(layout).stop(Signal::SIGTERM, Duration::from_secs(10)),
    }
}

/// The child finds `socket` as descriptor 3.
fn hand_over(command: &mut Command, socket: OwnedFd) {
    // SAFETY: dup2 and fcntl are bare system calls. dup2 clears close-on-exec on the copy, except
    // when the socket is 3 already: then fcntl does.
    unsafe {
        command.pre_exec(move || {
            let from = socket.as_raw_fd();
            let done = if from == 3 { libc::fcntl(3, libc::F_SETFD, 0) } else { libc::dup2(from, 3) };
            if done < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
        });
    }
}

/// Whether an HTTP server answers 200 there.
fn answers(server: SocketAddr, path: &str) -> bool {
    get(server, path).is_ok_and(|(status, _)| status == 200)
}

/// Status and body of an answer.
fn get(server: SocketAddr, path: &str) -> std::io::Result<(u16, String)> {
    use std::io::{Error, Read, Write};
    let mut stream = TcpStream::connect_timeout(&server, Duration::from_millis(500))?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let status = answer.get(9..12).and_then(|code| code.parse().ok());
    let (_, body) = answer.split_once("\r\n\r\n").ok_or_else(|| Error::other("no head"))?;
    Ok((status.ok_or_else(|| Error::other("no status"))?, body.to_owned()))
}

/// Asks the operators' listener of a service.
pub fn ask_operators(layout: &Layout, settings: &Settings, service: &Service, path: &str) -> Result<(u16, String)> {
    let answer = match service {
        Service::Postgres => bail!("PostgreSQL has no listener for operators"),
        Service::Web => bail!("the dashboard has no listener for operators"),
        Service::Api => get(loopback(settings.api_operator_port), path),
        Service::Scheduler => get(loopback(settings.scheduler_operator_port), path),
        Service::Agent(host) => {
            Netns::named(layout.host_netns(host)).enter(|| get(loopback(AGENT_OPERATOR_PORT), path))?
        }
    };
    answer.with_context(|| format!("{} does not answer {path}", service.name()))
}

/// Ports of the loopback that nobody listens on: `wanted` is the first if it is given and free.
pub fn free_ports<const N: usize>(layout: &Layout, wanted: u16) -> Result<[u16; N]> {
    let first = layout.first_port();
    let wanted = (wanted != 0).then_some(wanted);
    // Each once: a port that was tried is free again at once.
    let others = (first..first.saturating_add(500)).filter(|port| Some(*port) != wanted);
    let free = wanted.into_iter().chain(others).filter(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok());
    let ports: Vec<u16> = free.take(N).collect();
    ports.try_into().ok().context("no port of the loopback is free")
}

/// The eBPF object of a checkout, if it was built there.
pub fn built_bpf_object(root: &Path) -> Option<PathBuf> {
    let object = root.join("target/bpf/mizar-bpf.o");
    object.exists().then_some(object)
}
