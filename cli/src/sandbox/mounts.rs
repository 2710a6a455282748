//! Mounts of a sandbox, all below its runtime directory.

use super::layout::Layout;
use anyhow::{Context, Result};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use std::path::{Path, PathBuf};

/// A BPF filesystem for a host's pins. Not below `/sys/fs/bpf`: `ip netns exec` hides that one
/// behind a fresh `/sys`.
pub fn bpffs(at: &Path) -> Result<()> {
    std::fs::create_dir_all(at)?;
    if is_mounted(at)? {
        return Ok(());
    }
    mount(Some("mizar"), at, Some("bpf"), MsFlags::empty(), Some("mode=0700"))
        .with_context(|| format!("cannot mount a BPF filesystem at {}", at.display()))
}

/// Shows the directory `from` at `at` too.
pub fn bind(from: &Path, at: &Path) -> Result<()> {
    std::fs::create_dir_all(at)?;
    if is_mounted(at)? {
        return Ok(());
    }
    mount(Some(from), at, None::<&str>, MsFlags::MS_BIND, None::<&str>)
        .with_context(|| format!("cannot mount {} at {}", from.display(), at.display()))
}

/// Unmounts everything of the sandbox, the innermost first.
pub fn down(layout: &Layout) -> Result<()> {
    for at in mounted_below(&layout.runtime())? {
        umount2(&at, MntFlags::MNT_DETACH).with_context(|| format!("cannot unmount {}", at.display()))?;
    }
    Ok(())
}

/// Mount points at or below `dir`, the last mounted first.
pub fn mounted_below(dir: &Path) -> Result<Vec<PathBuf>> {
    // Of this thread, which may be in a mount namespace of its own.
    let table = std::fs::read_to_string("/proc/thread-self/mountinfo")?;
    let mut found: Vec<PathBuf> = mount_points(&table).filter(|at| at.starts_with(dir)).collect();
    found.reverse();
    Ok(found)
}

/// Whether something is mounted exactly there.
pub fn is_mounted(at: &Path) -> Result<bool> {
    Ok(mounted_below(at)?.iter().any(|point| point == at))
}

/// The fifth field of each line; names made by [`Layout`] need no unescaping.
fn mount_points(table: &str) -> impl Iterator<Item = PathBuf> {
    table.lines().filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_the_fifth_field() {
        let table = "36 35 0:31 / /run/mizar/a/host1 rw - bpf mizar rw\n37 35 0:31 / /x rw - tmpfs t rw\n";
        assert_eq!(mount_points(table).collect::<Vec<_>>(), [Path::new("/run/mizar/a/host1"), Path::new("/x")]);
    }
}
