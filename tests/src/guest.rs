//! A guest without a hypervisor: a namespace with an interface of its own, and a thread that does
//! what a hypervisor does, moving frames between it and the port's tap.

use anyhow::{Context, Result, ensure};
use libc::{IFF_NO_PI, IFF_TAP, c_short};
use mizar::sandbox::endpoint::Endpoint;
use mizar::sandbox::netns::{Netns, run};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// The guest's interface.
const IFNAME: &str = "eth0";

/// A running guest; gone when dropped.
pub struct Guest {
    netns: Netns,
    stop: Arc<AtomicBool>,
    pump: Option<JoinHandle<()>>,
}

impl Guest {
    /// Plugs a guest into the tap of `endpoint`. It has the port's MAC and knows nothing else.
    pub fn plug(endpoint: &Endpoint) -> Result<Self> {
        Self::at_tap(&endpoint.attached.host_ifname, &endpoint.netns, &endpoint.attached.mac)
    }

    /// The same to the tap of this name in a host's namespace.
    pub fn at_tap(tap: &str, host: &Netns, mac: &str) -> Result<Self> {
        let netns = Netns::named(format!("{}-guest", host.name()));
        netns.create()?;
        let outer = host.enter(|| open_tap(tap))?.context("the port's tap")?;
        let inner = netns.enter(|| open_tap(IFNAME))?.context("the guest's interface")?;
        netns.ip(&format!("link set {IFNAME} address {mac} up\n"))?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let pump = std::thread::spawn(move || pump(outer, inner, &stopped));
        Ok(Self { netns, stop, pump: Some(pump) })
    }

    /// Where its commands run.
    pub fn netns(&self) -> &Netns {
        &self.netns
    }

    /// The port as seen from inside.
    pub fn endpoint(&self, outside: &Endpoint) -> Endpoint {
        Endpoint { netns: self.netns.clone(), ifname: IFNAME.into(), ..outside.clone() }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(pump) = self.pump.take() {
            let _ = pump.join();
        }
        // A namespace that stays is found by the sandbox's removal, by its name.
        let _ = self.netns.delete();
    }
}

fn open_tap(name: &str) -> Result<File> {
    let tap = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open("/dev/net/tun")?;
    // SAFETY: all-zero is a valid ifreq; the name is cut to its field, the rest stays zero.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    ensure!(name.len() < request.ifr_name.len(), "{name} is no interface name");
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags = c_short::try_from(IFF_TAP | IFF_NO_PI)?;
    // SAFETY: the descriptor is a tun device's and the request outlives the call.
    let done = unsafe { libc::ioctl(tap.as_raw_fd(), libc::TUNSETIFF, &request) };
    if done < 0 {
        return Err(std::io::Error::last_os_error()).with_context(|| format!("cannot open {name}"));
    }
    Ok(tap)
}

/// Moves frames both ways until told to stop. A frame that the other side does not take is lost,
/// as it would be in hardware.
fn pump(outer: File, inner: File, stop: &AtomicBool) {
    let mut frame = vec![0; 70_000];
    while !stop.load(Ordering::Relaxed) {
        let mut ready = [PollFd::new(outer.as_fd(), PollFlags::POLLIN), PollFd::new(inner.as_fd(), PollFlags::POLLIN)];
        match poll(&mut ready, PollTimeout::from(50u8)) {
            Ok(0) | Err(nix::errno::Errno::EINTR) => continue,
            Ok(_) => {}
            Err(_) => return,
        }
        for (from, to) in [(&outer, &inner), (&inner, &outer)] {
            loop {
                let mut from = from;
                match from.read(&mut frame) {
                    Ok(length) => {
                        let mut to = to;
                        let _ = to.write(&frame[..length]);
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    // The interface went away: the port was deleted.
                    Err(_) => return,
                }
            }
        }
    }
}

/// What a DHCP client was given, by ISC's names.
#[derive(Debug)]
pub struct Lease {
    given: String,
}

impl Lease {
    /// The value of an option.
    pub fn option(&self, name: &str) -> Option<&str> {
        self.given.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
    }
}

/// Runs ISC's client on an interface until it has configured it, at most for `patience`.
pub fn dhclient(netns: &Netns, ifname: &str, patience: Duration) -> Result<Lease> {
    let files = Files::new(netns)?;
    let given = files.dir.join("given");
    let mut command = netns.command("dhclient")?;
    command
        .args(["-4", "-1", "-d", "-v"])
        .arg("-cf")
        .arg(files.write("dhclient.conf", CONFIGURATION, 0o644)?)
        .arg("-sf")
        .arg(files.write("script", &script(&given)?, 0o755)?)
        .arg("-lf")
        .arg(files.dir.join("leases"))
        .arg("-pf")
        .arg(files.dir.join("pid"))
        .arg(ifname);
    let mut client =
        command.stderr(File::create(files.dir.join("log"))?).stdout(File::create(files.dir.join("out"))?).spawn()?;
    let waited = mizar::sandbox::process::wait_until(patience, || {
        given.exists() || client.try_wait().is_ok_and(|ended| ended.is_some())
    });
    client.kill()?;
    client.wait()?;
    let log = std::fs::read_to_string(files.dir.join("log"))?;
    ensure!(waited.is_some() && given.exists(), "no lease: {}", log.trim());
    Ok(Lease { given: std::fs::read_to_string(given)? })
}

/// Asks for what clouds give, classless routes among them.
const CONFIGURATION: &str = "
option rfc3442-classless-static-routes code 121 = array of unsigned integer 8;
request subnet-mask, routers, domain-name-servers, interface-mtu, rfc3442-classless-static-routes, host-name;
timeout 60;
retry 1;
";

/// Configures the interface and writes down what was given; the last step names the file. The path
/// stands in the script: what the client hands on of the environment is its own affair, and without
/// the path the script would write wherever it was started.
fn script(given: &Path) -> Result<String> {
    let given = given.to_str().context("the temporary directory's path is not text")?;
    ensure!(!given.contains('\''), "the temporary directory's path holds a quote: {given}");
    Ok(format!("#!/bin/sh\nGIVEN='{given}'\n{SCRIPT}"))
}

const SCRIPT: &str = r#"
case "$reason" in
BOUND|RENEW|REBIND|REBOOT)
  ip address replace "$new_ip_address/$new_subnet_mask" dev "$interface"
  [ -z "$new_interface_mtu" ] || ip link set "$interface" mtu "$new_interface_mtu"
  [ -z "$new_routers" ] || ip route replace default via "$new_routers" dev "$interface"
  env | grep ^new_ > "$GIVEN.part"
  mv "$GIVEN.part" "$GIVEN"
  ;;
esac
"#;

/// A directory of one client, gone with it.
struct Files {
    dir: PathBuf,
}

impl Files {
    fn new(netns: &Netns) -> Result<Self> {
        let dir = std::env::temp_dir().join(format!("{}-dhcp", netns.name()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir)?;
        Ok(Self { dir })
    }

    fn write(&self, name: &str, content: &str, mode: u32) -> Result<PathBuf> {
        let path = self.dir.join(name);
        std::fs::write(&path, content)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode))?;
        Ok(path)
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// The MTU of an interface.
pub fn mtu(netns: &Netns, ifname: &str) -> Result<u32> {
    let mut show = netns.command("ip")?;
    let text = run(show.args(["-j", "link", "show", ifname]))?;
    let links: serde_json::Value = serde_json::from_str(&text)?;
    let mtu = links[0]["mtu"].as_u64().with_context(|| format!("{ifname} has no MTU"))?;
    Ok(u32::try_from(mtu)?)
}
