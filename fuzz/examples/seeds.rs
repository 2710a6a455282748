//! Writes the seeds of a target into a directory, a file each.

use std::path::PathBuf;

fn main() -> std::io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, directory] = &arguments[..] else {
        return Err(std::io::Error::other("usage: seeds TARGET DIRECTORY"));
    };
    let Some(target) = mizar_fuzz::TARGETS.iter().find(|target| target.name == *name) else {
        return Err(std::io::Error::other(format!("TARGET: there is no `{name}`")));
    };
    for (number, seed) in (target.seeds)().into_iter().enumerate() {
        std::fs::write(PathBuf::from(directory).join(format!("seed-{number}")), seed)?;
    }
    Ok(())
}
