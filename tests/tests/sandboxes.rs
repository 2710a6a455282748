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
use mizar_tests::command::{Cli, openstack};
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
    ("the_verbs_for_ports_and_status_do_and_show_what_they_say", verbs),
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
    by_the_files_of_up(&layout)?;
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

/// What `up` says to use: the clouds of its `clouds.yaml`, and its `openrc`.
fn by_the_files_of_up(layout: &Layout) -> Result<()> {
    let environment = vec![("OS_CLIENT_CONFIG_FILE", layout.clouds().display().to_string())];
    let by_cloud = Cli { program: openstack()?, environment };
    let red = |words: &str| -> Result<Value> {
        Ok(serde_json::from_str(&by_cloud.run(&format!("--os-cloud red {words} -f json"))?)?)
    };
    let networks = red("network list")?;
    ensure!(networks.as_array().is_some_and(|l| l.len() == 1 && l[0]["Name"] == "demo"), "red sees {networks}");
    let made = red("port create --network demo by-openstack")?;
    let shown = red("port show by-openstack")?;
    ensure!(made["id"].is_string() && shown["id"] == made["id"] && shown["status"] == "DOWN", "{made}: {shown}");
    let subnet = red("subnet create --network demo --subnet-range 10.0.9.0/24 by-openstack")?;
    ensure!(subnet["cidr"] == "10.0.9.0/24" && subnet["network_id"] == made["network_id"], "{subnet}");
    // With nothing but what the file exports.
    let shell = Cli { program: "bash".into(), environment: Vec::new() };
    let mut sourced = shell.command();
    sourced.args(["-ec", ". \"$0\"; exec \"$@\""]).arg(layout.openrc()).arg(openstack()?);
    let networks: Value = serde_json::from_str(&run(sourced.args(["network", "list", "-f", "json"]))?)?;
    let demos = networks.as_array().map(|all| all.iter().filter(|network| network["Name"] == "demo").count());
    ensure!(demos == Some(demo::TENANTS.len()), "the administrator sees {networks}");
    Ok(())
}

/// `./dev exec`, `attach`, `detach` and `status`, as the script runs them.
fn verbs(bed: &Bed) -> Result<()> {
    let tenant = bed.tenant()?;
    let net = tenant.network(&["10.1.0.0/24"])?;
    let [a, b] = tenant.endpoints(&net, [at(0, 0), at(0, 1)])?;
    let (id, name) = (a.port, bed.sandbox.layout().name().to_owned());
    let dev = Cli { program: bed.sandbox.binaries().path("mizar")?, environment: vec![("MIZAR_SANDBOX", name)] };
    let ping = format!("dev exec {id} -- ping -n -c 3 -i 0.02 {}", b.address()?);
    ensure!(dev.run(&ping)?.contains(" 3 received"), "no answers within the port's namespace");
    let address = dev.run(&format!("dev exec {id} -- cat /sys/class/net/{}/address", a.ifname))?;
    ensure!(address.trim() == a.attached.mac, "/sys shows {address}, not the port's interface");
    // As the command ends, so does this.
    dev.fails(&format!("dev exec {id} -- ls /nonexistent"), 2, "/nonexistent")?;
    dev.fails(&format!("dev exec {} -- true", a.name), 1, "give an id")?;
    dev.run(&format!("dev detach {id}"))?;
    bed.wait("the detached port DOWN", || Ok(tenant.api.port(id)?.status == "DOWN"))?;
    dev.fails(&format!("dev exec {id} -- true"), 1, "./dev attach")?;
    dev.fails(&format!("dev attach {id} --host nowhere"), 1, "the sandbox has no `nowhere`")?;
    let said = dev.run(&format!("dev attach {id} --host {}", bed.host(2)))?;
    ensure!(said.contains("ACTIVE after") && said.contains(&a.attached.mac), "{said}");
    bed.settle()?;
    ensure!(dev.run(&ping)?.contains(" 3 received"), "no answers after it was attached elsewhere");
    status(bed, &dev)
}

fn status(bed: &Bed, dev: &Cli) -> Result<()> {
    let said = dev.run("dev status")?;
    for service in bed.sandbox.services() {
        let pid = service.process(bed.sandbox.layout()).pid().context("it runs")?.to_string();
        let shown = said.lines().any(|line| line.contains(&service.name()) && line.contains(&pid));
        ensure!(shown, "{} is not shown: {said}", service.name());
    }
    for host in bed.sandbox.hosts() {
        let well = |line: &str| {
            [&host.name, host.rack, "tcx", "alive", "nothing", "none"].iter().all(|cell| line.contains(cell))
        };
        ensure!(said.lines().any(well), "{} is not shown well: {said}", host.name);
    }
    ensure!(["bouncer", "divider", "active"].iter().all(|cell| said.contains(cell)), "no roles: {said}");
    bed.sandbox.kill(&Service::Scheduler)?;
    let broken = dev.raw("dev status")?;
    ensure!(broken.code == 1 && broken.out.contains("NOT RUNNING"), "a dead scheduler: {}", broken.out);
    bed.sandbox.start(&Service::Scheduler)?;
    dev.run("dev status").map(drop)
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
