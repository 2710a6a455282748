//! Two sandboxes side by side, the demo in one of them, and what `down` leaves: nothing.

use anyhow::{Context, Result, ensure};
use mizar::client::Port;
use mizar::demo;
use mizar::sandbox::Sandbox;
use mizar::sandbox::layout::Layout;
use mizar::sandbox::mounts::{is_mounted, mounted_below};
use mizar::sandbox::netns::{self, Netns, run};
use mizar::sandbox::progress::Progress;
use mizar::sandbox::services::Service;
use mizar::sandbox::settings::Settings;
use mizar_tests::bed::Bed;
use mizar_tests::exchange::common;
use mizar_tests::harness::Scenario;
use mizar_tests::tenant::at;
use mizar_tests::{bed, harness};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, ExitCode};

const SCENARIOS: &[Scenario] = &[
    ("two_sandboxes_run_side_by_side_and_down_leaves_nothing_of_one", side_by_side),
    ("the_first_sandbox_undoes_what_its_first_namespace_changed", first_namespace),
    ("up_again_changes_nothing", up_again),
    ("up_again_restarts_what_was_built_anew_and_nothing_else", built_anew),
];

/// Where everything of one sandbox could be left: namespaces, mounts, interfaces and processes that
/// carry its name, and these kernel objects. What others on the machine do meanwhile is theirs.
#[derive(Debug)]
struct Traces {
    layout: Layout,
    kernel: BTreeSet<(&'static str, u64)>,
}

/// Kinds of kernel objects.
const KINDS: [&str; 3] = ["prog", "map", "link"];

impl Traces {
    /// Of a sandbox that runs.
    fn of(sandbox: &Sandbox) -> Result<Self> {
        let layout = sandbox.layout().clone();
        let mut kernel = BTreeSet::new();
        for kind in KINDS {
            let pinned = |object: &&Value| {
                let at = |path: &Value| path.as_str().is_some_and(|path| Path::new(path).starts_with(layout.runtime()));
                object["pinned"].as_array().is_some_and(|paths| paths.iter().any(at))
            };
            kernel.extend(objects(kind)?.iter().filter(pinned).filter_map(|o| Some((kind, o["id"].as_u64()?))));
        }
        let pids = sandbox.services().into_iter().filter_map(|service| service.process(&layout).pid());
        for pid in pids {
            for descriptor in std::fs::read_dir(format!("/proc/{pid}/fdinfo"))?.flatten() {
                let info = std::fs::read_to_string(descriptor.path()).unwrap_or_default();
                kernel.extend(KINDS.into_iter().filter_map(|kind| {
                    let id = info.lines().find_map(|line| line.strip_prefix(&format!("{kind}_id:")))?;
                    Some((kind, id.trim().parse().ok()?))
                }));
            }
        }
        Ok(Self { layout, kernel })
    }

    /// What of it there still is.
    fn left(&self) -> Result<Vec<String>> {
        let mut left = Vec::new();
        for kind in KINDS {
            let ids = objects(kind)?.into_iter().filter_map(|object| Some((kind, object["id"].as_u64()?)));
            left.extend(ids.filter(|id| self.kernel.contains(id)).map(|(kind, id)| format!("bpf {kind} {id}")));
        }
        let namespaces = Netns::with_prefix(&self.layout.netns_prefix())?;
        left.extend(namespaces.iter().map(|namespace| format!("namespace {}", namespace.name())));
        left.extend(mounted_below(&self.layout.runtime())?.iter().map(|at| format!("mount {}", at.display())));
        let files = [self.layout.runtime(), self.layout.dir()].into_iter().filter(|path| path.exists());
        left.extend(files.map(|path| format!("file {}", path.display())));
        for process in std::fs::read_dir("/proc")?.flatten() {
            let command = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
            let text = String::from_utf8_lossy(&command).replace('\0', " ");
            // Its name is in every command line of its processes.
            if text.contains("mizar") && text.contains(self.layout.name()) {
                left.push(format!("process {text}"));
            }
        }
        Ok(left)
    }
}

/// Every program, map or link of the kernel, with the paths that it is pinned at.
fn objects(kind: &str) -> Result<Vec<Value>> {
    Ok(serde_json::from_str(&run(Command::new("bpftool").args(["-j", "-f", kind, "show"]))?)?)
}

/// Interfaces of the machine's own namespace.
fn interfaces() -> Result<BTreeSet<String>> {
    let text = run(Command::new("ip").args(["-o", "link"]))?;
    Ok(text.lines().filter_map(|line| line.split(": ").nth(1)).map(str::to_owned).collect())
}

/// The second sandbox.
const OTHER: &str = "tother";

fn side_by_side(bed: &Bed) -> Result<()> {
    let tenant = bed.tenant()?;
    let net = tenant.network(&["10.1.0.0/24"])?;
    let [a, b] = tenant.endpoints(&net, [at(0, 0), at(0, 1)])?;
    common(&a, &b)?;
    let before = interfaces()?;
    let other = Bed::up(OTHER, Settings { hosts: 2, ..bed::settings() })?;
    let shown = demo::run(&other.sandbox, Progress::Silent).and_then(|outcomes| {
        let wrong: Vec<_> = outcomes.iter().filter(|outcome| !outcome.ok).collect();
        ensure!(wrong.is_empty(), "the demo of the second sandbox: {wrong:?}");
        ensure!(!outcomes.is_empty(), "the demo tried nothing");
        common(&a, &b).context("the first sandbox, while the second runs")?;
        let traces = Traces::of(&other.sandbox)?;
        let shown = traces.left()?;
        for what in ["bpf prog", "bpf map", "bpf link", "namespace", "mount", "file", "process"] {
            ensure!(shown.iter().any(|trace| trace.starts_with(what)), "{what}: nothing to be seen: it proves nothing");
        }
        Ok(traces)
    });
    other.down(shown.is_err())?;
    let traces = shown?;
    let mut left = traces.left()?;
    left.extend(interfaces()?.difference(&before).map(|name| format!("interface {name}")));
    ensure!(left.is_empty(), "`down` came back, and there is still: {left:?}");
    common(&a, &b).context("the first sandbox, after the second is gone")
}

/// On a machine that never had a network namespace, which this one is only behind a fresh `/run`.
fn first_namespace(_: &Bed) -> Result<()> {
    let alone = std::thread::spawn(|| -> Result<()> {
        let none = None::<&str>;
        // Of this thread only: mounts, and what it starts sees them too.
        unshare(CloneFlags::CLONE_NEWNS)?;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
        // What this machine mounted there would show through in the table of mounts.
        while umount2("/run/netns", MntFlags::MNT_DETACH).is_ok() {}
        mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), none)?;
        let (names, marker) = (Path::new("/run/netns"), Path::new("/run/marker"));
        let namespace = Netns::named("mz-first");
        for foreign in [false, true] {
            netns::claim_names(marker)?;
            namespace.create()?;
            ensure!(is_mounted(names)?, "`ip netns add` mounted nothing: this proves nothing");
            if foreign {
                netns::release_names(marker)?;
                ensure!(namespace.exists(), "somebody's namespace lost its name");
            }
            namespace.delete()?;
            netns::release_names(marker)?;
            ensure!(names.exists() == foreign, "held by others: {foreign}; still there: {}", names.exists());
        }
        Ok(())
    });
    alone.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn up_again(bed: &Bed) -> Result<()> {
    let layout = bed.sandbox.layout().clone();
    let pids = || bed.sandbox.services().iter().map(|s| s.process(&layout).pid()).collect::<Vec<_>>();
    let ports = || -> Result<BTreeSet<_>> { Ok(bed.admin.ports()?.iter().map(|p: &Port| p.id).collect()) };
    demo::run(&bed.sandbox, Progress::Silent)?;
    let (before, ports_before) = (pids(), ports()?);
    let again = Sandbox::up(layout.clone(), bed.sandbox.settings().clone(), Progress::Silent)?;
    let outcomes = demo::run(&again, Progress::Silent)?;
    ensure!(outcomes.iter().all(|outcome| outcome.ok), "the second demo: {outcomes:?}");
    ensure!(pids() == before, "processes were started again");
    ensure!(ports()? == ports_before, "ports were made again");
    for name in demo::TENANTS {
        let api = bed.sandbox.tenant(name)?;
        for network in api.networks()? {
            let ports = api.ports_of(network.id)?;
            api.delete_network_whole(network.id)?;
            for port in ports {
                Netns::named(layout.port_netns(port.id)).delete()?;
            }
        }
        bed.admin.delete_tenant(name)?;
    }
    Ok(())
}

fn built_anew(bed: &Bed) -> Result<()> {
    let tenant = bed.tenant()?;
    let net = tenant.network(&["10.1.0.0/24"])?;
    let [a, b] = tenant.endpoints(&net, [at(0, 0), at(0, 1)])?;
    let layout = bed.sandbox.layout().clone();
    let pid = |service: &Service| service.process(&layout).pid();
    let before: Vec<_> = bed.sandbox.services().into_iter().map(|service| (pid(&service), service)).collect();
    // Another file at the same path is what a build leaves, whatever is in it.
    for program in ["mizar-scheduler", "mizar-agent"] {
        let at = bed.sandbox.binaries().path(program)?;
        let part = at.with_extension("part");
        std::fs::copy(&at, &part)?;
        std::fs::rename(part, at)?;
    }
    Sandbox::up(layout.clone(), bed.sandbox.settings().clone(), Progress::Silent)?;
    for (former, service) in before {
        let anew = matches!(service, Service::Scheduler | Service::Agent(_));
        ensure!(pid(&service).is_some(), "{} does not run", service.name());
        ensure!((pid(&service) != former) == anew, "{}: {former:?} became {:?}", service.name(), pid(&service));
    }
    bed.settle()?;
    common(&a, &b)?;
    let c = tenant.endpoint(&net, at(0, 2))?;
    bed.settle()?;
    common(&a, &c)
}

fn main() -> ExitCode {
    harness::run("tside", bed::settings(), &[SCENARIOS])
}
