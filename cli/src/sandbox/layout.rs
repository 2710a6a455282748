//! Names and paths of one sandbox: the only place that makes them up.
//!
//! Everything a sandbox leaves on the machine carries its name, so two run side by side and
//! `down` knows what is its own. Addresses repeat: they live in the sandbox's own namespaces.

use anyhow::{Result, bail};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use uuid::Uuid;

/// Address of the underlay bridge, where the API's agent listener is.
pub const UNDERLAY_API: Ipv4Addr = Ipv4Addr::new(172, 31, 0, 1);
/// Port of the agent listener.
pub const AGENT_PORT: u16 = 9697;
/// Port on the loopback of a host's namespace where operators ask its agent.
pub const AGENT_OPERATOR_PORT: u16 = 9698;
/// Prefix length of the underlay.
pub const UNDERLAY_PREFIX: u8 = 24;
/// More hosts than this do not fit the underlay's addresses.
pub const MAX_HOSTS: usize = 200;

/// Runtime directories of all sandboxes. On `/run`, so that a restart of the machine removes them.
const RUNTIMES: &str = "/run/mizar";

/// Names and paths of the sandbox `name` of the checkout at `root`.
#[derive(Clone, Debug)]
pub struct Layout {
    root: PathBuf,
    name: String,
}

impl Layout {
    /// `name`: 1 to 16 of `a-z0-9`, without dashes, since names of namespaces are joined by them.
    pub fn new(root: &Path, name: &str) -> Result<Self> {
        let fits = (1..=16).contains(&name.len());
        if !fits || !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()) {
            bail!("MIZAR_SANDBOX: `{name}` is not 1 to 16 characters of a-z and 0-9");
        }
        Ok(Self { root: root.to_owned(), name: name.to_owned() })
    }

    /// A sandbox of this checkout alone: its name ends with a digest of the checkout's path. Names
    /// are the machine's, and tests of two checkouts must not meet in one sandbox.
    pub fn of_checkout(root: &Path, name: &str) -> Result<Self> {
        Self::new(root, &format!("{name}{:04x}", digest(&[root.as_os_str().as_encoded_bytes()]) & 0xffff))
    }

    /// Where to begin looking for a free port of the loopback: apart from other sandboxes', and
    /// below the ports that the kernel hands to connections, which may take any of those meanwhile.
    pub fn first_port(&self) -> u16 {
        let digest = digest(&[self.root.as_os_str().as_encoded_bytes(), self.name.as_bytes()]);
        20_000 + u16::try_from(digest % 12_000).expect("below 12,000")
    }

    /// The sandbox's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The checkout.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// `.dev` of the checkout: the tools' cache, and every sandbox's directory.
    pub fn dev(&self) -> PathBuf {
        self.root.join(".dev")
    }

    /// Everything of this sandbox that is a file.
    pub fn dir(&self) -> PathBuf {
        self.dev().join(&self.name)
    }

    /// Records of processes.
    pub fn records(&self) -> PathBuf {
        self.dir().join("run")
    }

    /// Logs.
    pub fn logs(&self) -> PathBuf {
        self.dir().join("log")
    }

    /// The log of one process.
    pub fn log(&self, process: &str) -> PathBuf {
        self.logs().join(format!("{process}.log"))
    }

    /// Certificates and keys.
    pub fn pki(&self) -> PathBuf {
        self.dir().join("pki")
    }

    /// The database's files.
    pub fn database(&self) -> PathBuf {
        self.dir().join("postgres")
    }

    /// State of a service: signing keys, ledgers.
    pub fn state(&self, process: &str) -> PathBuf {
        self.dir().join("state").join(process)
    }

    /// Settings, so that a later command finds them.
    pub fn settings(&self) -> PathBuf {
        self.dir().join("sandbox.json")
    }

    /// Passwords of the demo's users and of the administrator, mode 0600.
    pub fn secrets(&self) -> PathBuf {
        self.dir().join("secrets.json")
    }

    /// `clouds.yaml`: of the default sandbox beside the others' directories, where people look.
    pub fn clouds(&self) -> PathBuf {
        self.beside("clouds.yaml")
    }

    /// `openrc`.
    pub fn openrc(&self) -> PathBuf {
        self.beside("openrc")
    }

    fn beside(&self, file: &str) -> PathBuf {
        if self.name == super::DEFAULT_NAME { self.dev().join(file) } else { self.dir().join(file) }
    }

    /// Runtime directory: sockets (whose paths must be short), BPF filesystems, the database seen
    /// by its own user.
    pub fn runtime(&self) -> PathBuf {
        Path::new(RUNTIMES).join(&self.name)
    }

    /// Whether the machine has no sandbox.
    pub fn none_up() -> bool {
        let mut entries = std::fs::read_dir(RUNTIMES).into_iter().flatten().flatten();
        !entries.any(|entry| entry.path().is_dir())
    }

    /// Removes what was common to the sandboxes, unless one was started meanwhile.
    pub fn remove_common() {
        let _ = std::fs::remove_dir(RUNTIMES);
    }

    /// Of all sandboxes of the machine: remembers what the first namespace changed.
    pub fn names_marker() -> PathBuf {
        Path::new(RUNTIMES).join("netns-made")
    }

    /// Says which checkout holds the name.
    pub fn owner(&self) -> PathBuf {
        self.runtime().join("owner")
    }

    /// Where the database's files are mounted for the user that runs it.
    pub fn database_mount(&self) -> PathBuf {
        self.runtime().join("postgres")
    }

    /// Directory of the database's socket.
    pub fn database_socket(&self) -> PathBuf {
        self.runtime().join("pgsocket")
    }

    /// BPF filesystem of a host.
    pub fn bpffs(&self, host: &str) -> PathBuf {
        self.runtime().join(host)
    }

    /// An agent's local socket.
    pub fn agent_socket(&self, host: &str) -> PathBuf {
        self.runtime().join(format!("{host}.sock"))
    }

    /// What names of this sandbox's namespaces begin with.
    pub fn netns_prefix(&self) -> String {
        format!("mz-{}-", self.name)
    }

    /// The underlay's namespace.
    pub fn underlay_netns(&self) -> String {
        format!("{}u", self.netns_prefix())
    }

    /// A host's namespace.
    pub fn host_netns(&self, host: &str) -> String {
        format!("{}{host}", self.netns_prefix())
    }

    /// A port's namespace, by id: names of ports are the tenants' and may repeat.
    pub fn port_netns(&self, port: Uuid) -> String {
        format!("{}p-{}", self.netns_prefix(), &port.to_string()[..13])
    }
}

/// FNV-1a: the same in every build, since `down` must find what an older one started.
fn digest(parts: &[&[u8]]) -> u64 {
    let bytes = parts.iter().flat_map(|part| part.iter().chain(&[0]));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

/// A host of the sandbox, as the topology makes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPlan {
    /// `host1`, `host2`, ...
    pub name: String,
    /// Its underlay address.
    pub underlay: Ipv4Addr,
    /// Availability zone.
    pub az: &'static str,
    /// `r1` and `r2` in turn.
    pub rack: &'static str,
    /// Last byte of its uplink's MAC.
    pub index: u8,
}

/// The hosts of a sandbox of `count`.
pub fn hosts(count: usize) -> Result<Vec<HostPlan>> {
    if !(1..=MAX_HOSTS).contains(&count) {
        bail!("--hosts: {count} is not from 1 to {MAX_HOSTS}");
    }
    Ok((1..=count)
        .map(|n| {
            let index = u8::try_from(n).expect("bounded by MAX_HOSTS");
            HostPlan {
                name: format!("host{n}"),
                underlay: Ipv4Addr::new(172, 31, 0, 10 + index),
                az: "az1",
                rack: if n % 2 == 1 { "r1" } else { "r2" },
                index,
            }
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_run_into_each_other_are_refused() {
        for bad in ["", "a-b", "UP", "a/b", "..", "awaytoolongnamex1"] {
            assert!(Layout::new(Path::new("/x"), bad).is_err(), "{bad} was accepted");
        }
    }

    #[test]
    fn namespaces_of_two_sandboxes_never_share_a_prefix() {
        let of = |name| Layout::new(Path::new("/x"), name).expect("valid").netns_prefix();
        assert!(!of("ab").starts_with(&of("a")));
    }

    #[test]
    fn the_same_sandbox_of_two_checkouts_shares_neither_name_nor_port() {
        let of = |root| Layout::of_checkout(Path::new(root), "tpathst").expect("valid");
        let (a, b) = (of("/a/mizar"), of("/b/mizar"));
        assert_ne!(a.netns_prefix(), b.netns_prefix());
        assert_ne!(a.runtime(), b.runtime());
        assert_ne!(a.first_port(), b.first_port());
        assert_eq!(a.name(), of("/a/mizar").name(), "it is found again");
        assert!((20_000..32_000).contains(&a.first_port()));
    }

    #[test]
    fn a_port_and_a_host_never_share_a_namespace() {
        let layout = Layout::new(Path::new("/x"), "a").expect("valid");
        let port = layout.port_netns(Uuid::nil());
        assert!(hosts(MAX_HOSTS).expect("fits").iter().all(|h| layout.host_netns(&h.name) != port));
        assert_ne!(layout.underlay_netns(), port);
    }

    #[test]
    fn racks_alternate_and_underlay_addresses_differ() {
        let hosts = hosts(MAX_HOSTS).expect("fits");
        assert_eq!((hosts[0].rack, hosts[1].rack, hosts[2].rack), ("r1", "r2", "r1"));
        let mut seen: Vec<_> = hosts.iter().map(|h| h.underlay).collect();
        seen.dedup();
        assert_eq!(seen.len(), MAX_HOSTS);
        assert!(!seen.contains(&UNDERLAY_API));
        assert!(super::hosts(0).is_err() && super::hosts(MAX_HOSTS + 1).is_err());
    }
}
