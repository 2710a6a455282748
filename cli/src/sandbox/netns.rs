//! Network namespaces: made, entered, removed.
//!
//! A thread enters, never the process: what runs in [`Netns::enter`] or [`Netns::command`] sees
//! the namespace, everything else stays where it was. Sockets keep the namespace they were opened
//! in, so one process can hold both ends of a connection between two endpoints.

use super::mounts;
use anyhow::{Context, Result, bail};
use nix::mount::umount;
use nix::sched::{CloneFlags, setns};
use std::fs::File;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where `ip netns` keeps names.
const NAMES: &str = "/run/netns";

/// A named network namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Netns {
    name: String,
}

impl Netns {
    /// The namespace of this name, whether or not it exists.
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: name.into() }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its path, as orchestrators hand it to an agent.
    pub fn path(&self) -> PathBuf {
        Path::new(NAMES).join(&self.name)
    }

    /// Whether the name is taken.
    pub fn exists(&self) -> bool {
        self.path().exists()
    }

    /// Makes it with its loopback up; changes nothing if it exists.
    pub fn create(&self) -> Result<()> {
        if !self.exists() {
            run(Command::new("ip").args(["netns", "add", &self.name]))?;
        }
        self.ip("link set lo up")
    }

    /// Removes it; changes nothing if there is none.
    pub fn delete(&self) -> Result<()> {
        if self.exists() {
            run(Command::new("ip").args(["netns", "delete", &self.name]))?;
        }
        Ok(())
    }

    /// All whose name begins with `prefix`.
    pub fn with_prefix(prefix: &str) -> Result<Vec<Self>> {
        let entries = match std::fs::read_dir(NAMES) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error).context("cannot list network namespaces"),
        };
        let mut found = Vec::new();
        for entry in entries {
            if let Ok(name) = entry?.file_name().into_string()
                && name.starts_with(prefix)
            {
                found.push(Self::named(name));
            }
        }
        found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }

    /// Runs lines of `ip` commands inside, all in one process; stops at the first that fails.
    pub fn ip(&self, batch: &str) -> Result<()> {
        let mut child = Command::new("ip")
            .args(["-n", &self.name, "-batch", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot run `ip` (package iproute2)")?;
        child.stdin.take().expect("piped above").write_all(batch.as_bytes())?;
        let done = child.wait_with_output()?;
        if !done.status.success() {
            bail!("ip -n {}: {}", self.name, String::from_utf8_lossy(&done.stderr).trim());
        }
        Ok(())
    }

    /// Runs `work` on a thread inside.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        let namespace = self.open()?;
        std::thread::scope(|scope| {
            scope
                .spawn(|| {
                    setns(&namespace, CloneFlags::CLONE_NEWNET)
                        .with_context(|| format!("cannot enter namespace {}", self.name))?;
                    Ok(work())
                })
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// A command that will run inside. The filesystem stays the machine's: `/sys` shows the
    /// machine's interfaces, and BPF filesystems stay visible.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Result<Command> {
        let namespace = self.open()?;
        let mut command = Command::new(program);
        // SAFETY: setns is a bare system call; nothing is allocated between fork and exec.
        unsafe {
            command.pre_exec(move || setns(&namespace, CloneFlags::CLONE_NEWNET).map_err(std::io::Error::from));
        }
        Ok(command)
    }

    fn open(&self) -> Result<File> {
        File::open(self.path()).with_context(|| format!("there is no namespace {}", self.name))
    }

    /// Processes inside.
    pub fn processes(&self) -> Result<Vec<i32>> {
        if !self.exists() {
            return Ok(Vec::new());
        }
        let out = Command::new("ip").args(["netns", "pids", &self.name]).output()?;
        Ok(String::from_utf8_lossy(&out.stdout).lines().filter_map(|line| line.trim().parse().ok()).collect())
    }
}

/// Remembers in `marker` that [`NAMES`] was no mount of its own: the first `ip netns add` will make
/// it one, which [`release_names`] undoes.
pub fn claim_names(marker: &Path) -> Result<()> {
    if marker.exists() || mounts::is_mounted(Path::new(NAMES))? {
        return Ok(());
    }
    std::fs::write(marker, if Path::new(NAMES).exists() { "mount" } else { "mount and directory" })
        .with_context(|| format!("cannot write {}", marker.display()))
}

/// Undoes what the sandboxes' first namespace did to [`NAMES`], once it holds no name: of whomever.
pub fn release_names(marker: &Path) -> Result<()> {
    let Ok(made) = std::fs::read_to_string(marker) else { return Ok(()) };
    if Netns::with_prefix("")?.is_empty() {
        // Busy or filled again meanwhile: then it is somebody else's, and stays.
        while mounts::is_mounted(Path::new(NAMES))? && umount(NAMES).is_ok() {}
        if made.contains("directory") {
            let _ = std::fs::remove_dir(NAMES);
        }
    }
    std::fs::remove_file(marker).with_context(|| format!("cannot remove {}", marker.display()))
}

/// Runs a command to its end; an error carries what it printed.
pub fn run(command: &mut Command) -> Result<String> {
    let done =
        command.stdin(Stdio::null()).output().with_context(|| format!("cannot run {:?}", command.get_program()))?;
    if !done.status.success() {
        let arguments: Vec<_> = command.get_args().map(|a| a.to_string_lossy().into_owned()).collect();
        bail!(
            "{} {}: {}: {}",
            command.get_program().to_string_lossy(),
            arguments.join(" "),
            done.status,
            String::from_utf8_lossy(&done.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}
