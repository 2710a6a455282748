//! Programs and maps that the agents of a sandbox loaded into the kernel.
//!
//! They outlive the last pin and the last process: the kernel frees them after a grace period, and
//! what hangs on an interface goes with its namespace, which a worker of the kernel takes apart.
//! So "nothing is left" is true only once the kernel no longer lists them.

use super::layout::Layout;
use super::mounts::mounted_below;
use super::process::{Process, wait_until};
use anyhow::{Context, Result, bail};
use aya::maps::{MapInfo, loaded_maps};
use aya::programs::{ProgramInfo, loaded_programs};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Under load the kernel takes seconds; after a minute somebody else holds them.
const PATIENCE: Duration = Duration::from_secs(60);

/// Ids of objects, which the kernel does not give again soon.
#[derive(Debug, Default)]
pub struct Loaded {
    programs: BTreeSet<u32>,
    maps: BTreeSet<u32>,
}

impl Loaded {
    /// What the sandbox has pinned, and what its processes hold.
    pub fn of(layout: &Layout) -> Result<Self> {
        let mut loaded = Self::default();
        for root in mounted_below(&layout.runtime())? {
            loaded.add_pins(&root)?;
        }
        for process in Process::recorded(layout)? {
            if let Some(pid) = process.pid() {
                loaded.add_descriptors(pid);
            }
        }
        Ok(loaded)
    }

    /// The agent's directories say what is pinned in them: `programs/NAME` and `abi-N/MAP`.
    fn add_pins(&mut self, root: &Path) -> Result<()> {
        for dir in files(root) {
            let name = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
            for pin in files(&dir) {
                if name == "programs" {
                    let info = ProgramInfo::from_pin(&pin).with_context(|| format!("program {}", pin.display()))?;
                    self.programs.insert(info.id());
                } else if name.starts_with("abi-") {
                    let info = MapInfo::from_pin(&pin).with_context(|| format!("map {}", pin.display()))?;
                    self.maps.insert(info.id());
                }
            }
        }
        Ok(())
    }

    /// A process that ends meanwhile holds nothing.
    fn add_descriptors(&mut self, pid: i32) {
        for descriptor in files(Path::new(&format!("/proc/{pid}/fdinfo"))) {
            let info = std::fs::read_to_string(descriptor).unwrap_or_default();
            let id = |key: &str| info.lines().find_map(|line| line.strip_prefix(key)?.trim().parse::<u32>().ok());
            // A link's descriptor names its program too.
            self.programs.extend(id("prog_id:"));
            self.maps.extend(id("map_id:"));
        }
    }

    /// Waits until the kernel has freed them all.
    pub fn wait_freed(&self) -> Result<()> {
        let mut left = Vec::new();
        wait_until(PATIENCE, || {
            left = self.left();
            left.is_empty()
        });
        if !left.is_empty() {
            bail!("the kernel still holds {} after {} s", left.join(", "), PATIENCE.as_secs());
        }
        Ok(())
    }

    fn left(&self) -> Vec<String> {
        // One that goes between being listed and being asked is gone: it shows as an error of its own.
        let programs: BTreeSet<u32> = loaded_programs().filter_map(|info| Some(info.ok()?.id())).collect();
        let maps: BTreeSet<u32> = loaded_maps().filter_map(|info| Some(info.ok()?.id())).collect();
        let programs = self.programs.intersection(&programs).map(|id| format!("program {id}"));
        programs.chain(self.maps.intersection(&maps).map(|id| format!("map {id}"))).collect()
    }
}

/// Paths in a directory; none where there is no directory.
fn files(dir: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(dir).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path())).collect()
}
