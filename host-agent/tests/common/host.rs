//! A host: an agent on a thread of its own, in network and mount namespaces of its own, with an
//! uplink; and containers. Everything goes with its thread.

use super::api::Api;
use super::traffic::echo;
use super::world::{self, UNDERLAY};
use mizar_agent::config::{Config, TransitHook};
use mizar_agent::run;
use mizar_wire::local::{Answer, AttachKind, Attached, Call, Status};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::Ipv4Addr;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;
use std::sync::mpsc;
use std::thread::JoinHandle;
use uuid::Uuid;

type Job = Box<dyn FnOnce() + Send>;

/// A thread in namespaces of its own that does what it is told.
pub struct Namespace {
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    /// Path of its network namespace.
    pub path: String,
}

impl Namespace {
    /// Needs root: says so instead of passing.
    pub fn new() -> Self {
        let root = nix::unistd::geteuid().is_root();
        assert!(root, "this test makes network namespaces: run `sudo -E cargo test -p mizar-agent`");
        let (jobs, inbox) = mpsc::channel::<Job>();
        let (ready, path) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).unwrap();
            mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
            ready.send(format!("/proc/{}/task/{}/ns/net", std::process::id(), nix::unistd::gettid())).unwrap();
            for job in inbox {
                job();
            }
        });
        Self { jobs: Some(jobs), thread: Some(thread), path: path.recv().unwrap() }
    }

    /// Runs something inside and returns what it returns.
    pub fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        self.try_run(work).expect("the work inside the namespace panicked")
    }

    /// `None` if the thread is dead, for those who must not panic.
    fn try_run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let (answer, result) = mpsc::channel();
        self.jobs.as_ref()?.send(Box::new(move || drop(answer.send(work())))).ok()?;
        result.recv().ok()
    }

    /// Index of an interface inside.
    pub fn ifindex(&self, ifname: &str) -> u32 {
        let line = self.command(&format!("ip -o link show {ifname}"));
        line.split(':').next().unwrap().parse().unwrap()
    }

    /// Runs a command inside; returns what it printed.
    pub fn command(&self, line: &str) -> String {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let line = line.to_owned();
        self.run(move || {
            let output = Command::new(&words[0]).args(&words[1..]).output().unwrap();
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(output.status.success(), "{line}: {}{text}", String::from_utf8_lossy(&output.stderr));
            text
        })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        self.jobs.take();
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been reported by whoever waited for it.
            let _ = thread.join();
        }
    }
}

/// An agent's host.
pub struct Host {
    pub namespace: Namespace,
    pub api: Api,
    dir: tempfile::TempDir,
    /// Settings of the next start.
    pub uplink: &'static str,
    pub transit_hook: TransitHook,
    /// Number under which the agent pins its maps.
    pub abi: u32,
    agent: Option<(tokio::sync::oneshot::Sender<()>, JoinHandle<()>)>,
}

/// The object that `./dev bpf` builds.
pub fn object() -> PathBuf {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/bpf/mizar-bpf.o");
    assert!(path.exists(), "there is no {}: build it with `bpf/build.sh`", path.display());
    path
}

impl Host {
    /// A host with an uplink, and no agent yet.
    pub fn new(api: Api) -> Self {
        let host = Self::bare(api);
        host.namespace.command("ip link add up0 type veth peer name up1");
        host.namespace.command("ip link set up1 up");
        host.raise_uplink(UNDERLAY);
        host
    }

    /// The same; its cloud has these ports.
    pub fn with_ports(ports: &[u32]) -> Self {
        Self::new(Api::with_ports(ports))
    }

    /// A host at the other end of this one's uplink.
    pub fn opposite(&self, api: Api, underlay: Ipv4Addr) -> Self {
        let other = Self::bare(api);
        self.namespace.command(&format!("ip link set up1 netns {} name up0", other.namespace.path));
        other.raise_uplink(underlay);
        other
    }

    fn bare(api: Api) -> Self {
        let namespace = Namespace::new();
        namespace.command("ip link set lo up");
        Self {
            namespace,
            api,
            dir: tempfile::tempdir().unwrap(),
            uplink: "up0",
            transit_hook: TransitHook::Auto,
            abi: mizar_abi::ABI,
            agent: None,
        }
    }

    fn raise_uplink(&self, underlay: Ipv4Addr) {
        self.namespace.command(&format!("ip addr add {underlay}/24 dev up0"));
        self.namespace.command("ip link set up0 up");
    }

    /// Starts the agent; attaches ports 5 and 6 as containers, of which the second echoes.
    pub fn start_with_two(&mut self) -> (Namespace, Namespace) {
        self.start();
        let (five, six) = (Namespace::new(), Namespace::new());
        self.container(world::port_id(5), &five);
        self.container(world::port_id(6), &six);
        echo(&six, 6);
        (five, six)
    }

    /// Waits until as many ports are reported wired.
    pub fn until_wired(&self, ports: usize) {
        super::until(&format!("{ports} ports are reported wired"), || {
            (self.api.state().wired.len() == ports).then_some(())
        });
    }

    pub fn bpffs(&self) -> PathBuf {
        self.dir.path().join("bpffs")
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("agent.sock")
    }

    pub fn ledger(&self) -> PathBuf {
        self.dir.path().join("state/ledger")
    }

    fn config(&self) -> Config {
        let dir = self.dir.path();
        let any = PathBuf::from("/nonexistent");
        Config {
            host: format!("h{}", self.api.number),
            api: "https://192.0.2.1:1".into(),
            ca: any.clone(),
            cert: any.clone(),
            key: any,
            uplink: self.uplink.into(),
            az: "a".into(),
            rack: "r".into(),
            state_dir: dir.join("state"),
            bpffs: self.bpffs(),
            socket: self.socket(),
            transit_hook: self.transit_hook,
            flow_entries: 4096,
            flow_log_sample: 1,
            flow_log_rate: 50,
            flow_log_mib: 1,
            flow_log_files: 1,
            operator_listen: None,
            bpf_object: Some(object()),
        }
    }

    /// Starts the agent, and waits until it takes calls.
    pub fn start(&mut self) {
        let (config, api, abi) = (self.config(), self.api.clone(), self.abi);
        let (stop, stopping) = tokio::sync::oneshot::channel();
        let agent = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                tokio::select! {
                    ended = run::run(config, api, abi) => panic!("the agent ended: {ended:?}"),
                    _ = stopping => {}
                }
            });
            // Dropped with everything in it, at whatever point it is: as good as a kill.
            drop(runtime);
        };
        // A thread inherits the namespaces of the one that starts it.
        let thread = self.namespace.run(move || std::thread::spawn(agent));
        self.agent = Some((stop, thread));
        super::until("the agent takes calls", || UnixStream::connect(self.socket()).ok());
    }

    /// Ends the agent without a word to it.
    pub fn kill(&mut self) {
        let (stop, thread) = self.agent.take().expect("an agent runs");
        stop.send(()).expect("the agent runs still");
        thread.join().expect("the agent did not panic");
    }

    pub fn call(&self, call: &Call) -> Answer {
        let mut stream = UnixStream::connect(self.socket()).unwrap();
        writeln!(stream, "{}", serde_json::to_string(call).unwrap()).unwrap();
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}"))
    }

    pub fn attach(&self, port: Uuid, kind: AttachKind) -> Result<Attached, String> {
        match self.call(&Call::Attach { port, kind }) {
            Answer::Attached(attached) => Ok(attached),
            Answer::Error { message } => Err(message),
            other => panic!("{other:?}"),
        }
    }

    pub fn container(&self, port: Uuid, inside: &Namespace) -> Attached {
        self.attach(port, AttachKind::Container { netns: inside.path.clone(), ifname: "eth0".into() }).unwrap()
    }

    pub fn status(&self) -> Status {
        match self.call(&Call::Status) {
            Answer::Status(status) => status,
            other => panic!("{other:?}"),
        }
    }

    /// Maps with entries of ports. What an interface sends while its port is not in the maps, a
    /// guest's question for IPv6 routers for instance, is counted too, but for no port.
    pub fn filled_maps(&self) -> Vec<String> {
        let Status { maps, drops, .. } = self.status();
        let by_no_port = drops.keys().all(|reason| reason == "no_port");
        let filled = maps.into_iter().filter(|(name, n)| *n > 0 && !(name == "DROPS" && by_no_port));
        filled.map(|(name, _)| name).collect()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.agent.take() {
            let _ = stop.send(());
            let _ = thread.join();
        }
        let bpffs = self.bpffs();
        // Inside, where it is mounted; programs and maps go with their pins.
        self.namespace.try_run(move || {
            let _ = nix::mount::umount(&bpffs);
        });
    }
}
