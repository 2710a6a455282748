//! Builds. Under sudo they run as the owner of the checkout, so that `target/` stays theirs, whoever
//! called.

use crate::sandbox::owner_under_sudo;
use anyhow::{Context, Result, bail};
use nix::unistd::{Uid, User};
use serde::Deserialize;
use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

/// Programs of a deployment.
const SERVICES: [&str; 4] = ["mizar-api", "mizar-scheduler", "mizar-agent", "mizar-web"];

/// A command in the checkout that runs as its owner.
pub fn as_owner(root: &Path, program: &str) -> Result<Command> {
    let mut command = Command::new(program);
    command.current_dir(root);
    if let Some((uid, _)) = owner_under_sudo(root)?
        && uid != 0
    {
        let user = User::from_uid(Uid::from_raw(uid))?
            .with_context(|| format!("{} belongs to user {uid}, who does not exist", root.display()))?;
        command.uid(user.uid.as_raw()).gid(user.gid.as_raw()).env("HOME", user.dir).env("USER", user.name);
    }
    Ok(command)
}

/// `cargo`, the one that built this program where known.
pub fn cargo(root: &Path) -> Result<Command> {
    let program = std::env::var("MIZAR_CARGO").unwrap_or_else(|_| "cargo".into());
    as_owner(root, &program)
}

/// Runs a command with its output shown.
pub fn shown(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot run {:?}", command.get_program()))?;
    if !status.success() {
        bail!("{} failed ({status})", command.get_program().to_string_lossy());
    }
    Ok(())
}

/// Builds the programs of a deployment.
pub fn build_services(root: &Path) -> Result<()> {
    let mut command = cargo(root)?;
    command.arg("build").args(["--quiet"]).args(SERVICES.iter().flat_map(|name| ["-p", *name]));
    shown(&mut command)
}

/// Builds the eBPF object.
pub fn build_bpf(root: &Path) -> Result<()> {
    shown(&mut as_owner(root, "bpf/build.sh")?)
}

/// Builds for speed and measures.
pub fn bench(root: &Path, arguments: &[OsString]) -> Result<ExitCode> {
    crate::sandbox::need_root()?;
    build_bpf(root)?;
    let mut build = cargo(root)?;
    build.args(["build", "--release", "-p", "mizar-bench"]).args(SERVICES.iter().flat_map(|name| ["-p", *name]));
    shown(&mut build)?;
    let status = Command::new(root.join("target/release/mizar-bench")).args(arguments).current_dir(root).status()?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A built test program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestProgram {
    /// The package that it belongs to.
    pub package: String,
    /// Name of the target: a library's, a program's, a file's in `tests/`.
    pub target: String,
    /// Whether it is a file in `tests/`.
    pub integration: bool,
    /// Where it is.
    pub executable: PathBuf,
    /// Directory in which cargo would run it.
    pub directory: PathBuf,
}

/// A package of the workspace.
#[derive(Clone, Debug, Deserialize)]
pub struct Package {
    /// Its name.
    pub name: String,
    targets: Vec<Target>,
}

impl Package {
    /// Whether it has tests in a file of this name.
    pub fn has_test_file(&self, name: &str) -> bool {
        self.targets.iter().any(|target| target.is_test_file() && target.name == name)
    }
}

/// What cargo builds of a package.
#[derive(Clone, Debug, Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

impl Target {
    fn is_test_file(&self) -> bool {
        self.kind.iter().any(|kind| kind == "test")
    }
}

/// The packages of the workspace.
pub fn packages(root: &Path) -> Result<Vec<Package>> {
    #[derive(Deserialize)]
    struct Metadata {
        packages: Vec<Package>,
    }
    let done = cargo(root)?.args(["metadata", "--no-deps", "--format-version=1", "--offline"]).output()?;
    if !done.status.success() {
        bail!("cargo metadata: {}", String::from_utf8_lossy(&done.stderr).trim());
    }
    Ok(serde_json::from_slice::<Metadata>(&done.stdout)?.packages)
}

/// Builds the tests that `selection`, in cargo's words, means.
pub fn build_tests(root: &Path, selection: &[String]) -> Result<Vec<TestProgram>> {
    let mut command = cargo(root)?;
    command
        .args(["test", "--no-run", "--message-format=json-render-diagnostics"])
        .args(selection)
        .stdout(Stdio::piped());
    let mut child = command.spawn().context("cannot run cargo")?;
    let output = BufReader::new(child.stdout.take().expect("piped above"));
    let mut programs = Vec::new();
    for line in output.lines() {
        programs.extend(test_program(&line?)?);
    }
    if !child.wait()?.success() {
        bail!("the tests do not build");
    }
    programs.sort_by(|a, b| (&a.package, &a.target).cmp(&(&b.package, &b.target)));
    Ok(programs)
}

/// Cargo's message about a finished artifact, if the line is one and it is a test.
fn test_program(line: &str) -> Result<Option<TestProgram>> {
    #[derive(Deserialize)]
    struct Message {
        reason: String,
        manifest_path: Option<PathBuf>,
        target: Option<Target>,
        profile: Option<Profile>,
        executable: Option<PathBuf>,
    }
    #[derive(Deserialize)]
    struct Profile {
        test: bool,
    }
    let Ok(message) = serde_json::from_str::<Message>(line) else { return Ok(None) };
    let Message { reason, manifest_path: Some(manifest), target: Some(target), profile: Some(profile), executable } =
        message
    else {
        return Ok(None);
    };
    let Some(executable) = executable.filter(|_| reason == "compiler-artifact" && profile.test) else {
        return Ok(None);
    };
    let directory = manifest.parent().context("a manifest lies in a directory")?.to_owned();
    Ok(Some(TestProgram {
        package: package_name(&manifest)?,
        integration: target.is_test_file(),
        target: target.name,
        executable,
        directory,
    }))
}

/// The package's name: the first `name` of its manifest.
fn package_name(manifest: &Path) -> Result<String> {
    let text = std::fs::read_to_string(manifest)?;
    text.lines()
        .find_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"'))
        .map(str::to_owned)
        .with_context(|| format!("{} names no package", manifest.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_program_is_told_from_other_artifacts() {
        let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
        let line = |test: bool, executable: &str| {
            format!(
                r#"{{"reason":"compiler-artifact","manifest_path":"{manifest}","target":{{"name":"mizar","kind":["lib"]}},
                   "profile":{{"test":{test}}},"executable":{executable}}}"#
            )
        };
        let found = test_program(&line(true, r#""/t/mizar-1""#)).expect("understood").expect("a test");
        assert_eq!((found.package.as_str(), found.integration), ("mizar", false));
        assert_eq!(test_program(&line(false, r#""/t/mizar""#)).expect("understood"), None);
        assert_eq!(test_program(&line(true, "null")).expect("understood"), None);
        assert_eq!(test_program("Compiling something").expect("skipped"), None);
    }
}
