//! A host: its kernel, clock, uplink, certificates, way to the API, and agent.

use super::certificates;
use super::{Check, Here};
use crate::client::Trust;
use crate::sandbox::agent::Agent;
use aya::maps::MapType;
use aya::programs::ProgramType;
use mizar_abi::MTU_OVERHEAD;
use mizar_abi::option::STAMP_WINDOW;
use mizar_wire::local::Status;
use nix::net::if_::InterfaceFlags;
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::Duration;

/// The first kernel with tcx.
const KERNEL: (u32, u32) = (6, 6);
/// What guests expect of an interface.
const GUEST_MTU: u32 = 1500;
/// An agent that nothing answered for so long has lost its lease or soon will.
const SILENT: u64 = 15;
/// A tenth of what hosts bear in each other's stamps.
const CLOCK_ERROR: Duration = Duration::from_millis(STAMP_WINDOW as u64 * 100);

/// Everything about this host.
pub fn checks(here: &Here) -> Vec<Check> {
    let mut checks =
        vec![kernel(), btf(Path::new("/sys/kernel/btf/vmlinux")), jit(&read("/proc/sys/net/core/bpf_jit_enable"))];
    checks.extend(bpf());
    checks.push(pins(&here.bpffs));
    checks.push(clock());
    checks.extend(uplink(here.uplink.as_deref()));
    checks.extend(certificates::checks(here));
    checks.push(api(here));
    checks.extend(agent(here, Agent::at(here.socket.clone()).status()));
    checks
}

fn read(path: &str) -> Option<String> {
    std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

fn kernel() -> Check {
    match nix::sys::utsname::uname() {
        Ok(name) => judge_kernel(&name.release().to_string_lossy(), &name.machine().to_string_lossy()),
        Err(error) => Check::fail("kernel", error.to_string(), "uname(2) must work"),
    }
}

fn judge_kernel(release: &str, machine: &str) -> Check {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let seen = format!("Linux {release} on {machine}");
    if version < KERNEL {
        return Check::fail("kernel", seen, "install Linux 6.6 or later: the programs attach by tcx");
    }
    if machine != "x86_64" {
        return Check::warn("kernel", seen, "only x86_64 was tried");
    }
    Check::ok("kernel", seen)
}

fn btf(path: &Path) -> Check {
    if path.exists() {
        return Check::ok("kernel types", format!("{} is there", path.display()));
    }
    Check::fail(
        "kernel types",
        format!("{} is missing", path.display()),
        "use a kernel built with CONFIG_DEBUG_INFO_BTF",
    )
}

fn jit(enabled: &Option<String>) -> Check {
    match enabled.as_deref() {
        Some("0") => Check::warn(
            "BPF compiler",
            "off",
            "sysctl net.core.bpf_jit_enable=1: interpreted, packets take many times longer",
        ),
        Some(_) => Check::ok("BPF compiler", "on"),
        None => {
            Check::warn("BPF compiler", "not known", "run this as root, in the host's own network namespace, to see")
        }
    }
}

/// What the programs and maps are made of. Asking means trying, which needs the agent's rights.
fn bpf() -> Vec<Check> {
    let programs = [
        ("programs at interfaces (tc)", ProgramType::SchedClassifier),
        ("programs at the driver (XDP)", ProgramType::Xdp),
    ];
    let maps = [
        ("hash maps", MapType::Hash),
        ("LRU maps", MapType::LruHash),
        ("longest prefix maps", MapType::LpmTrie),
        ("maps per processor", MapType::PerCpuArray),
        ("ring buffers", MapType::RingBuf),
    ];
    let programs = programs.map(|(name, kind)| {
        (name, aya::sys::is_program_supported(kind).map_err(|e| format!("{:#}", anyhow::Error::from(e))))
    });
    let maps = maps.map(|(name, kind)| {
        (name, aya::sys::is_map_supported(kind).map_err(|e| format!("{:#}", anyhow::Error::from(e))))
    });
    programs.into_iter().chain(maps).map(|(name, answer)| judge_bpf(name, answer)).collect()
}

fn judge_bpf(name: &str, answer: Result<bool, String>) -> Check {
    match answer {
        Ok(true) => Check::ok(name, "the kernel has them"),
        Ok(false) => {
            Check::fail(name, "the kernel lacks them", "use a kernel with CONFIG_BPF_SYSCALL and CONFIG_NET_CLS_ACT")
        }
        Err(error) => {
            Check::warn(name, error, "run this as root, or with CAP_BPF and CAP_NET_ADMIN as the agent has them")
        }
    }
}

fn pins(dir: &Path) -> Check {
    match statfs(dir).map(|fs| fs.filesystem_type()) {
        Ok(BPF_FS_MAGIC) => Check::ok("pins", format!("{} is a bpffs", dir.display())),
        Ok(_) => Check::warn(
            "pins",
            format!("{} is no bpffs yet", dir.display()),
            "the agent mounts one when it starts; if it runs, look at its log",
        ),
        Err(_) => Check::warn(
            "pins",
            format!("{} is not there", dir.display()),
            "the agent makes it when it starts; --bpffs names another place",
        ),
    }
}

fn clock() -> Check {
    // SAFETY: all-zero is a valid timex: nothing is to be changed.
    let mut timex: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a timex that outlives the call.
    let state = unsafe { libc::adjtimex(&raw mut timex) };
    if state < 0 {
        return Check::warn(
            "clock",
            std::io::Error::last_os_error().to_string(),
            "adjtimex(2) must work for the agent",
        );
    }
    let error = Duration::from_micros(u64::try_from(timex.maxerror).unwrap_or(u64::MAX));
    judge_clock(state != libc::TIME_ERROR && timex.status & libc::STA_UNSYNC == 0, error, timex.tai)
}

/// Hosts stamp what they sign; the programs read TAI and subtract what the kernel says of it.
fn judge_clock(synchronized: bool, error: Duration, tai: i32) -> Check {
    let seen = format!("error at most {} ms, TAI ahead by {tai} s", error.as_millis());
    if !synchronized {
        return Check::warn(
            "clock",
            format!("not synchronized, {seen}"),
            "run chrony or ntpd: hosts whose clocks are over 5 s apart refuse each other's signed packets",
        );
    }
    if error > CLOCK_ERROR {
        return Check::warn("clock", seen, "look at `chronyc tracking`: hosts' clocks should be within half a second");
    }
    Check::ok("clock", seen)
}

fn uplink(name: Option<&str>) -> Vec<Check> {
    let Some(name) = name else {
        return vec![Check::warn("uplink", "not looked at", "name it by --uplink or MIZAR_UPLINK")];
    };
    judge_uplink(name, link_flags(name), link_mtu(name))
}

/// Asked of the kernel, not read below /sys: that may show another network namespace's interfaces.
fn link_flags(name: &str) -> Option<InterfaceFlags> {
    let mut all = nix::ifaddrs::getifaddrs().ok()?;
    all.find(|interface| interface.interface_name == name).map(|interface| interface.flags)
}

fn link_mtu(name: &str) -> Option<u32> {
    let socket = UdpSocket::bind("127.0.0.1:0").or_else(|_| UdpSocket::bind("0.0.0.0:0")).ok()?;
    // SAFETY: all-zero is a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // The last byte stays zero: the kernel wants the name to end.
    let room = request.ifr_name.len() - 1;
    if name.len() > room {
        return None;
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    // SAFETY: the descriptor is open and the pointer is to an ifreq that outlives the call.
    if unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFMTU, &raw mut request) } < 0 {
        return None;
    }
    // SAFETY: after SIOCGIFMTU this is the member that is set.
    u32::try_from(unsafe { request.ifr_ifru.ifru_mtu }).ok()
}

fn judge_uplink(name: &str, flags: Option<InterfaceFlags>, mtu: Option<u32>) -> Vec<Check> {
    let Some(flags) = flags else {
        let seen = format!("there is no interface {name}");
        return vec![Check::fail("uplink", seen, "see `ip link`; --uplink or MIZAR_UPLINK names it")];
    };
    let up = if !flags.contains(InterfaceFlags::IFF_UP) {
        Check::fail("uplink", format!("{name} is down"), "`ip link set UPLINK up`, and see who keeps it down")
    } else if !flags.contains(InterfaceFlags::IFF_RUNNING) {
        Check::fail("uplink", format!("{name} has no carrier"), "look at cable and switch")
    } else {
        Check::ok("uplink", format!("{name} is up"))
    };
    let Some(mtu) = mtu else {
        return vec![up, Check::warn("MTU", "not known", "see `ip link`")];
    };
    let inside = mtu.saturating_sub(MTU_OVERHEAD);
    let seen = format!("{name} carries {mtu} bytes, so networks carry {inside}");
    let mtu = match inside {
        GUEST_MTU.. => Check::ok("MTU", seen),
        1280.. => Check::warn(
            "MTU",
            seen,
            "guests that assume 1500 lose packets: an underlay of 1602 bytes or more ends that",
        ),
        _ => Check::fail("MTU", seen, "raise it: IPv6 needs 1280 bytes inside"),
    };
    vec![up, mtu]
}

/// Any answer is one: who may ask what is not the question.
fn api(here: &Here) -> Check {
    let Some(api) = &here.api else {
        return Check::warn("way to the API", "not looked at", "name the agents' listener by --api or MIZAR_API");
    };
    let certificate = here.cert.clone().zip(here.key.clone());
    let trust = Trust { ca: here.ca.clone(), certificate, insecure: false };
    let attempt = || -> anyhow::Result<u16> {
        let client = trust.client()?.timeout(Duration::from_secs(10)).build()?;
        Ok(client.get(api).send()?.status().as_u16())
    };
    match attempt() {
        Ok(status) => Check::ok("way to the API", format!("{api} answers over TLS ({status})")),
        Err(error) => Check::fail(
            "way to the API",
            format!("{error:#}"),
            "is mizar-api running there? then look at firewall, the three PEM files, and the API's own certificate: it \
             must be valid and name this address",
        ),
    }
}

fn agent(here: &Here, status: anyhow::Result<Status>) -> Vec<Check> {
    let status = match status {
        Ok(status) => status,
        Err(error) => {
            return vec![Check::warn(
                "agent",
                format!("{error:#}"),
                "start mizar-agent, or name its socket by --socket; only root and its group may ask it",
            )];
        }
    };
    let mut checks = vec![match status.api_seen_s {
        Some(seconds) if seconds < SILENT => {
            Check::ok("agent", format!("{} with {} ports, API heard {seconds} s ago", status.host, status.ports.len()))
        }
        Some(seconds) => Check::fail(
            "agent",
            format!("the API was heard {seconds} s ago"),
            "traffic goes on; look at the way to the API, then at the agent's log",
        ),
        None => Check::fail("agent", "the API was never heard", "look at the way to the API, then at the agent's log"),
    }];
    if let Some(host) = here.host.as_ref().filter(|host| **host != status.host) {
        checks.push(Check::fail(
            "agent's name",
            format!("it is {}, not {host}", status.host),
            "MIZAR_HOST and --socket must be of one agent",
        ));
    }
    checks.push(if status.failures.is_empty() {
        Check::ok("desired state", format!("{} entries are in force", status.entries))
    } else {
        Check::fail(
            "desired state",
            format!("{} not in force: {}", status.failures.len(), status.failures.join("; ")),
            "the reasons say what is missing; the agent tries again",
        )
    });
    checks
}

#[cfg(test)]
mod tests {
    use super::super::Verdict::{Fail, Ok as Fine, Warn};
    use super::*;

    #[test]
    fn kernels_are_judged_by_their_first_two_numbers() {
        assert_eq!(judge_kernel("6.18.44-web1", "x86_64").verdict, Fine);
        assert_eq!(judge_kernel("6.6.0", "x86_64").verdict, Fine);
        assert_eq!(judge_kernel("6.1.0-30-amd64", "x86_64").verdict, Fail);
        assert_eq!(judge_kernel("10.0", "aarch64").verdict, Warn);
        assert_eq!(judge_kernel("what", "x86_64").verdict, Fail);
    }

    #[test]
    fn what_the_kernel_lacks_fails_and_what_cannot_be_seen_warns() {
        assert_eq!(judge_bpf("LRU maps", Ok(false)).verdict, Fail);
        assert_eq!(judge_bpf("LRU maps", Err("not permitted".into())).verdict, Warn);
        assert_eq!(jit(&Some("0".into())).verdict, Warn);
        assert_eq!(btf(Path::new("/nowhere")).verdict, Fail);
        assert_eq!(pins(Path::new("/proc")).verdict, Warn);
    }

    #[test]
    fn a_clock_must_be_synchronized_and_near() {
        let near = Duration::from_millis(3);
        assert_eq!(judge_clock(true, near, 37).verdict, Fine);
        assert_eq!(judge_clock(false, near, 0).verdict, Warn);
        assert_eq!(judge_clock(true, Duration::from_secs(16), 0).verdict, Warn);
    }

    #[test]
    fn an_uplink_is_judged_by_what_fits_inside() {
        let up = InterfaceFlags::IFF_UP;
        let running = up | InterfaceFlags::IFF_RUNNING;
        let verdicts =
            |flags, mtu| judge_uplink("eth0", flags, mtu).iter().map(|check| check.verdict).collect::<Vec<_>>();
        assert_eq!(verdicts(Some(running), Some(9000)), [Fine, Fine]);
        assert_eq!(verdicts(Some(running), Some(1500)), [Fine, Warn]);
        assert_eq!(verdicts(Some(up), Some(1300)), [Fail, Fail]);
        assert_eq!(verdicts(Some(InterfaceFlags::empty()), Some(9000)), [Fail, Fine]);
        assert_eq!(verdicts(None, None), [Fail]);
    }

    #[test]
    fn an_interface_is_asked_for_by_its_name() {
        assert!(link_flags("lo").is_some_and(|flags| flags.contains(InterfaceFlags::IFF_LOOPBACK)));
        assert!(link_mtu("lo").is_some_and(|mtu| mtu >= 1500));
        for nobody in ["", "no-such-link", "a-name-that-is-far-too-long-for-an-interface", "../lo"] {
            assert_eq!((link_flags(nobody), link_mtu(nobody)), (None, None), "{nobody}");
        }
    }

    #[test]
    fn an_agent_that_hears_nobody_or_cannot_apply_fails() {
        let status = |seen, failures: &[&str]| Status {
            host: "h1".into(),
            number: Some(1),
            cursor: None,
            entries: 3,
            failures: failures.iter().map(|f| (*f).to_owned()).collect(),
            api_seen_s: seen,
            ports: Vec::new(),
            transit_hook: "tcx".into(),
            counters: Default::default(),
            drops: Default::default(),
            maps: Default::default(),
        };
        let verdicts = |status| agent(&Here::default(), Ok(status)).iter().map(|c| c.verdict).collect::<Vec<_>>();
        assert_eq!(verdicts(status(Some(1), &[])), [Fine, Fine]);
        assert_eq!(verdicts(status(Some(60), &["the map is full"])), [Fail, Fail]);
        assert_eq!(verdicts(status(None, &[])), [Fail, Fine]);
        let other = Here { host: Some("h2".into()), ..Here::default() };
        assert_eq!(agent(&other, Ok(status(Some(1), &[])))[1].verdict, Fail);
        assert_eq!(agent(&other, Err(anyhow::anyhow!("cannot connect")))[0].verdict, Warn);
    }
}
