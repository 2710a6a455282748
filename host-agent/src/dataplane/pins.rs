//! Where programs, maps and links are pinned, so that they outlive the agent.
//!
//! `ROOT/abi-N/MAP` (a directory per ABI: an agent never opens maps of another layout),
//! `ROOT/programs/NAME`, and `ROOT/links/NAME`, which survive a change of the ABI: a link is
//! turned from the old program to the new one in one step.
//!
//! Directories of two ABIs mean that one agent takes over from another of a different version, or
//! began to and died. Which of them the links use, nobody needs to know: the next agent fills its
//! own, turns every link to it, and only then removes the other.

use super::PlaneError;
use nix::mount::{MsFlags, mount};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};
use std::path::{Path, PathBuf};

/// The directory of pins.
#[derive(Clone, Debug)]
pub struct Pins {
    root: PathBuf,
    abi: u32,
}

impl Pins {
    /// Opens the directory; makes it, and mounts a bpffs on it, if need be. The mount belongs to
    /// the mount namespace of the agent: one that is private to the process would go with it.
    pub fn open(root: &Path, abi: u32) -> Result<Self, PlaneError> {
        std::fs::create_dir_all(root).map_err(PlaneError::io(root))?;
        let kind = statfs(root).map_err(|e| PlaneError::io(root)(e.into()))?.filesystem_type();
        if kind != BPF_FS_MAGIC {
            mount(Some("bpf"), root, Some("bpf"), MsFlags::empty(), Some("mode=0700"))
                .map_err(|e| PlaneError::io(root)(e.into()))?;
            tracing::info!(path = %root.display(), "bpffs mounted");
        }
        let pins = Self { root: root.to_owned(), abi };
        for dir in [pins.maps(), pins.links(), pins.programs()] {
            std::fs::create_dir_all(&dir).map_err(PlaneError::io(&dir))?;
        }
        Ok(pins)
    }

    fn maps(&self) -> PathBuf {
        self.root.join(format!("abi-{}", self.abi))
    }

    fn links(&self) -> PathBuf {
        self.root.join("links")
    }

    fn programs(&self) -> PathBuf {
        self.root.join("programs")
    }

    /// Pin of a map.
    pub fn map(&self, name: &str) -> PathBuf {
        self.maps().join(name)
    }

    /// Pin of a program.
    pub fn program(&self, name: &str) -> PathBuf {
        self.programs().join(name)
    }

    /// Pin of a link at the uplink. An interface has its own, so that another one gets its link
    /// before the former loses it.
    pub fn uplink(&self, hook: &str, ifindex: u32) -> PathBuf {
        self.links().join(format!("uplink-{hook}-{ifindex}"))
    }

    /// Removes the pins of a hook's links at interfaces other than this.
    pub fn remove_other_uplinks(&self, hook: &str, but: Option<u32>) -> Result<(), PlaneError> {
        let (dir, hook_prefix) = (self.links(), format!("uplink-{hook}"));
        let keep = but.map(|ifindex| self.uplink(hook, ifindex));
        for entry in std::fs::read_dir(&dir).map_err(PlaneError::io(&dir))? {
            let path = entry.map_err(PlaneError::io(&dir))?.path();
            let is_hooks = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&hook_prefix));
            if is_hooks && Some(&path) != keep.as_ref() {
                Self::remove(&path)?;
            }
        }
        Ok(())
    }

    /// Pin of the link at an endpoint's interface.
    pub fn endpoint(&self, ifindex: u32) -> PathBuf {
        self.links().join(format!("endpoint-{ifindex}"))
    }

    /// Interfaces with a pinned link.
    pub fn endpoints(&self) -> Result<Vec<u32>, PlaneError> {
        let dir = self.links();
        let entries = std::fs::read_dir(&dir).map_err(PlaneError::io(&dir))?;
        let names = entries.filter_map(|e| e.ok()?.file_name().into_string().ok());
        Ok(names.filter_map(|name| name.strip_prefix("endpoint-")?.parse().ok()).collect())
    }

    /// Removes a pin. One that is not there is no failure.
    pub fn remove(path: &Path) -> Result<(), PlaneError> {
        match std::fs::remove_file(path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(PlaneError::io(path)(e)),
            _ => Ok(()),
        }
    }

    /// Directories of the maps of other ABIs.
    fn other_abis(&self) -> Result<Vec<PathBuf>, PlaneError> {
        let mut others = Vec::new();
        for entry in std::fs::read_dir(&self.root).map_err(PlaneError::io(&self.root))? {
            let path = entry.map_err(PlaneError::io(&self.root))?.path();
            let is_abi = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("abi-"));
            if is_abi && path != self.maps() {
                others.push(path);
            }
        }
        Ok(others)
    }

    /// Whether there are maps of another ABI, which links may use.
    pub fn has_other_abis(&self) -> Result<bool, PlaneError> {
        Ok(!self.other_abis()?.is_empty())
    }

    /// Removes maps of other ABIs, which no program uses any more.
    pub fn remove_other_abis(&self) -> Result<(), PlaneError> {
        for path in self.other_abis()? {
            for map in std::fs::read_dir(&path).map_err(PlaneError::io(&path))? {
                Self::remove(&map.map_err(PlaneError::io(&path))?.path())?;
            }
            std::fs::remove_dir(&path).map_err(PlaneError::io(&path))?;
            tracing::info!(path = %path.display(), "maps of another ABI removed");
        }
        Ok(())
    }
}
