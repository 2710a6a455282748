//! `./dev test`: builds everything once, then runs each test program itself.
//!
//! Cargo would build and run package by package; here the build is one step and its time is told
//! apart from the tests'. Programs run as root (namespaces, eBPF) while the build runs as the
//! caller.

use super::cargo::{self, Package, TestProgram};
use crate::sandbox::need_root;
use crate::sandbox::progress::{Progress, seconds};
use anyhow::{Context, Result, bail};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// The package of end-to-end tests.
const END_TO_END: &str = "mizar-tests";

/// The package of the API, whose tests use the clients too.
const API: &str = "mizar-api";

/// A program that takes longer is taken to hang: one deadlock must not hold up everything.
const PATIENCE: Duration = Duration::from_secs(1_200);

/// A part of the tests that has its own time in the summary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Functions and packages by themselves, with PostgreSQL and the kernel where they need them.
    Unit,
    /// Whole sandboxes.
    EndToEnd,
}

impl Phase {
    const ALL: [Self; 2] = [Self::Unit, Self::EndToEnd];

    fn name(self) -> &'static str {
        match self {
            Self::Unit => "unit",
            Self::EndToEnd => "e2e",
        }
    }

    fn of(program: &TestProgram) -> Self {
        if program.package == END_TO_END { Self::EndToEnd } else { Self::Unit }
    }
}

/// So many failures of a program may be the machine's. More are a fault, and nothing is tried again.
const SECOND_CHANCES: usize = 3;

/// What a test program said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Said {
    tally: Tally,
    /// The tests that failed, by name.
    failed: Vec<String>,
}

/// What test programs said in the end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    passed: usize,
    failed: usize,
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

/// Runs all tests, or those that `name` chooses. With `again`, what failed is run once more.
pub fn test(root: &Path, name: Option<&str>, again: bool) -> Result<ExitCode> {
    need_root()?;
    let progress = Progress::Shown;
    let start = Instant::now();
    progress.step("eBPF programs built", || cargo::build_bpf(root))?;
    progress.step("programs built", || cargo::build_services(root))?;
    let packages = if name.is_some() { cargo::packages(root)? } else { Vec::new() };
    let selection = selection(&packages, name);
    let programs = progress.step("tests built", || cargo::build_tests(root, &selection))?;
    let (chosen, filter) = choose(&programs, name);
    let filter = filter.as_slice();
    if chosen.iter().any(|program| uses_clients(program)) {
        progress.step("Python clients (openstack, ansible, scapy)", || clients(root))?;
    }
    if chosen.iter().any(|program| program.package == END_TO_END && program.target == BROWSER) {
        progress.step("what drives the browser (playwright, axe)", || browser(root))?;
    }
    let mut total = Tally::default();
    let mut times = Vec::new();
    let (mut broken, mut unsteady) = (Vec::new(), Vec::new());
    for phase in Phase::ALL {
        let phase_start = Instant::now();
        let mut tally = Tally::default();
        for program in chosen.iter().filter(|program| Phase::of(program) == phase) {
            let mut said = run(root, program, filter, PATIENCE)?;
            if again {
                let passed = try_again(&mut said, |name| run(root, program, &["--exact", name], PATIENCE))?;
                unsteady
                    .extend(passed.into_iter().map(|name| format!("{}::{} {name}", program.package, program.target)));
            }
            if said.tally.failed > 0 {
                broken.push(format!("{}::{}", program.package, program.target));
            }
            tally.add(said.tally);
        }
        times.push(format!(
            "{} {} ({} tests)",
            phase.name(),
            seconds(phase_start.elapsed()),
            tally.passed + tally.failed
        ));
        total.add(tally);
    }
    if total == Tally::default() {
        bail!("NAME: no test matches `{}`", name.unwrap_or_default());
    }
    println!("\ntimes: {}; all {}", times.join(", "), seconds(start.elapsed()));
    if !broken.is_empty() {
        println!("failed in: {}", broken.join(", "));
    }
    if !unsteady.is_empty() {
        println!("failed once and passed by itself, so its cause is to be found: {}", unsteady.join(", "));
    }
    println!("{} passed, {} failed", total.passed, total.failed);
    Ok(if total.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The program of tests with a browser.
const BROWSER: &str = "dashboard";

/// Installs what drives the browser, as the lock file beside it says.
fn browser(root: &Path) -> Result<()> {
    let folder = root.join("web/e2e");
    let wanted = std::fs::read_to_string(folder.join("package-lock.json"))?;
    let stamp = folder.join("node_modules/.mizar-lock.json");
    if std::fs::read_to_string(&stamp).is_ok_and(|have| have == wanted) {
        return Ok(());
    }
    let mut npm = cargo::as_owner(root, "npm")?;
    npm.current_dir(&folder).args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]);
    crate::sandbox::netns::run(&mut npm).context("npm is needed: `./dev setup`")?;
    std::fs::write(stamp, wanted)?;
    Ok(())
}

/// Whether tests of the program run the Python clients.
fn uses_clients(program: &TestProgram) -> bool {
    (program.package == END_TO_END && program.target != BROWSER) || program.package == API
}

/// What of the workspace has tests that `name` can mean, in cargo's words: to run one program,
/// nobody waits until the others are built.
fn selection(packages: &[Package], name: Option<&str>) -> Vec<String> {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    let Some(name) = name else { return words(&["--workspace"]) };
    if name == Phase::Unit.name() {
        return words(&["--workspace", "--exclude", END_TO_END]);
    }
    if name == Phase::EndToEnd.name() {
        return words(&["--package", END_TO_END]);
    }
    if packages.iter().any(|package| package.name == name) {
        return words(&["--package", name]);
    }
    let mut of_files = Vec::new();
    for package in packages.iter().filter(|package| package.has_test_file(name)) {
        of_files.extend(["--package", &package.name]);
    }
    if of_files.is_empty() { words(&["--workspace"]) } else { words(&[&of_files[..], &["--test", name]].concat()) }
}

/// The programs that `name` means, and the part of a test's name to hand them: a phase, a package
/// or a target is taken whole.
fn choose<'a>(programs: &'a [TestProgram], name: Option<&'a str>) -> (Vec<&'a TestProgram>, Option<&'a str>) {
    let all: Vec<_> = programs.iter().collect();
    let Some(name) = name else { return (all, None) };
    let whole: Vec<_> = programs
        .iter()
        .filter(|p| Phase::of(p).name() == name || p.package == name || (p.integration && p.target == name))
        .collect();
    if whole.is_empty() { (all, Some(name)) } else { (whole, None) }
}

/// Runs what failed once more, each test by itself; those that pass are taken out of what failed,
/// and returned. A machine that stands still for a moment fails a test or two; where more failed,
/// or the program did not say which, it stays as it is.
fn try_again(said: &mut Said, run: impl Fn(&str) -> Result<Said>) -> Result<Vec<String>> {
    let failed = said.tally.failed;
    if failed > SECOND_CHANCES || said.failed.len() != failed {
        return Ok(Vec::new());
    }
    let mut passed = Vec::new();
    for name in &said.failed {
        println!("\n== once more: {name}");
        if run(name)?.tally == (Tally { passed: 1, failed: 0 }) {
            passed.push(name.clone());
        }
    }
    said.failed.retain(|name| !passed.contains(name));
    said.tally.add(Tally { passed: passed.len(), failed: 0 });
    said.tally.failed = said.failed.len();
    Ok(passed)
}

/// Runs one program as cargo would, shows what it prints, and adds up its result lines. One that
/// has not ended after `patience` is killed and has failed.
fn run(root: &Path, program: &TestProgram, arguments: &[&str], patience: Duration) -> Result<Said> {
    println!("\n== {} {}", program.package, program.target);
    let mut child = Command::new(&program.executable)
        .args(arguments)
        .current_dir(&program.directory)
        .env("CARGO_MANIFEST_DIR", &program.directory)
        .env("MIZAR_PYTHON", root.join(".dev/venv/bin"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {}", program.executable.display()))?;
    let (sender, lines) = channel();
    let output = BufReader::new(child.stdout.take().expect("piped above"));
    // Ends with the last holder of the pipe, which may be a process that a killed test left.
    std::thread::spawn(move || output.lines().try_for_each(|line| sender.send(line)));
    let (mut said, mut names, deadline) = (None, Vec::new(), Instant::now() + patience);
    loop {
        match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => {
                let line = line?;
                println!("{line}");
                said = parse_result(&line).or(said);
                names.extend(parse_failed(&line).map(str::to_owned));
            }
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                child.kill()?;
                child.wait()?;
                println!("{}::{} has not ended within {}: killed", program.package, program.target, seconds(patience));
                return Ok(Said::broken(said));
            }
        }
    }
    let status = child.wait()?;
    Ok(match said {
        Some(tally) if status.success() || tally.failed > 0 => Said { tally, failed: names },
        // It ended without a result, or with one that its exit contradicts.
        _ => {
            println!("{} ended with {status} and no result", program.target);
            Said::broken(said)
        }
    })
}

impl Said {
    /// Of a program that did not end as one should, after it said `so_far`.
    fn broken(so_far: Option<Tally>) -> Self {
        Self { tally: Tally { passed: so_far.unwrap_or_default().passed, failed: 1 }, failed: Vec::new() }
    }
}

/// `test some::test ... FAILED`
fn parse_failed(line: &str) -> Option<&str> {
    line.strip_prefix("test ")?.strip_suffix(" ... FAILED").map(str::trim_end)
}

/// `test result: ok. 3 passed; 0 failed; ...`
fn parse_result(line: &str) -> Option<Tally> {
    let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let count = |what: &str| counts.split("; ").find_map(|part| part.strip_suffix(what)?.trim().parse().ok());
    Some(Tally { passed: count(" passed")?, failed: count(" failed")? })
}

/// Environments of Python below `.dev`, and what is installed in them: real clients, from PyPI.
const ENVIRONMENTS: [(&str, &str); 2] =
    [("venv", "tests/requirements.txt"), ("venv-ansible", "tests/requirements-ansible.txt")];

/// Makes the environments that are missing or of other requirements. They outlive `./dev down`.
fn clients(root: &Path) -> Result<()> {
    ENVIRONMENTS.iter().try_for_each(|(name, requirements)| environment(root, name, requirements))
}

fn environment(root: &Path, name: &str, requirements: &str) -> Result<()> {
    let wanted = std::fs::read_to_string(root.join(requirements))?;
    let venv = root.join(".dev").join(name);
    let stamp = venv.join("mizar-requirements.txt");
    if std::fs::read_to_string(&stamp).is_ok_and(|have| have == wanted) {
        return Ok(());
    }
    let run = |command: &mut Command| crate::sandbox::netns::run(command).map(drop);
    run(cargo::as_owner(root, "python3")?.args(["-m", "venv", "--clear"]).arg(&venv))
        .context("python3-venv is needed: `./dev setup`")?;
    let pip = venv.join("bin/pip");
    let pip = pip.to_str().context("the checkout's path is not text")?;
    run(cargo::as_owner(root, pip)?.args(["install", "--quiet", "-r", requirements]))?;
    std::fs::write(stamp, wanted)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(package: &str, target: &str, integration: bool) -> TestProgram {
        TestProgram {
            package: package.into(),
            target: target.into(),
            integration,
            executable: "/x".into(),
            directory: "/".into(),
        }
    }

    #[test]
    fn the_result_line_is_read() {
        let line = "test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.1s";
        assert_eq!(parse_result(line), Some(Tally { passed: 3, failed: 2 }));
        assert_eq!(parse_result("test some::test ... ok"), None);
    }

    #[test]
    fn a_program_that_hangs_is_killed_and_has_failed() {
        let sleep = TestProgram { executable: "/bin/sleep".into(), ..program("mizar-domain", "sleep", true) };
        let start = Instant::now();
        let said = run(Path::new("/"), &sleep, &["300"], Duration::from_millis(50)).expect("it was run");
        assert_eq!(said, Said { tally: Tally { passed: 0, failed: 1 }, failed: vec![] });
        assert!(start.elapsed() < Duration::from_secs(60), "it was waited for");
    }

    #[test]
    fn tests_that_failed_are_named_and_run_once_more() {
        assert_eq!(parse_failed("test it_works     ... FAILED"), Some("it_works"));
        assert_eq!(parse_failed("test some::test ... ok"), None);

        let said = |passed, failed: &[&str]| Said {
            tally: Tally { passed, failed: failed.len() },
            failed: failed.iter().map(|name| (*name).to_owned()).collect(),
        };
        let only_b = |name: &str| Ok(if name == "b" { said(1, &[]) } else { said(0, &["x"]) });
        let mut first = said(7, &["a", "b"]);
        assert_eq!(try_again(&mut first, only_b).expect("they were run"), ["b"]);
        assert_eq!(first, said(8, &["a"]));

        let mut many = said(7, &["a", "b", "c", "d"]);
        assert!(try_again(&mut many, only_b).expect("none was run").is_empty(), "a fault");
        assert_eq!(many, said(7, &["a", "b", "c", "d"]));

        let mut killed = Said::broken(Some(Tally { passed: 7, failed: 0 }));
        assert!(try_again(&mut killed, only_b).expect("none was run").is_empty(), "nobody knows which");
        assert_eq!(killed.tally, Tally { passed: 7, failed: 1 });
    }

    #[test]
    fn tests_of_the_api_and_of_whole_sandboxes_have_the_clients() {
        let uses = |package| uses_clients(&program(package, "x", true));
        assert_eq!([uses(END_TO_END), uses("mizar-api"), uses("mizar-domain")], [true, true, false]);
        assert!(!uses_clients(&program(END_TO_END, BROWSER, true)), "a browser is its only client");
    }

    #[test]
    fn only_what_a_name_can_mean_is_built() {
        let metadata = r#"[{"name": "mizar-api", "targets": [{"name": "rest", "kind": ["test"]}]},
            {"name": "mizar-db", "targets": [{"name": "suite", "kind": ["test"]}, {"name": "mizar_db", "kind": ["lib"]}]},
            {"name": "mizar-scheduler", "targets": [{"name": "suite", "kind": ["test"]}]}]"#;
        let packages: Vec<Package> = serde_json::from_str(metadata).expect("as cargo says it");
        let built = |name| selection(&packages, name).join(" ");
        assert_eq!(built(None), "--workspace");
        assert_eq!(built(Some("unit")), "--workspace --exclude mizar-tests");
        assert_eq!(built(Some("e2e")), "--package mizar-tests");
        assert_eq!(built(Some("mizar-db")), "--package mizar-db");
        assert_eq!(built(Some("rest")), "--package mizar-api --test rest");
        assert_eq!(built(Some("suite")), "--package mizar-db --package mizar-scheduler --test suite");
        assert_eq!(built(Some("mizar_db")), "--workspace", "a part of a test's name");
    }

    #[test]
    fn a_name_is_a_phase_a_package_a_file_or_a_part_of_a_test() {
        let programs = [program("mizar-domain", "mizar_domain", false), program(END_TO_END, "paths", true)];
        let chosen = |name| {
            let (programs, filter) = choose(&programs, Some(name));
            (programs.iter().map(|p| p.target.as_str()).collect::<Vec<_>>(), filter)
        };
        assert_eq!(chosen("unit"), (vec!["mizar_domain"], None));
        assert_eq!(chosen("e2e"), (vec!["paths"], None));
        assert_eq!(chosen("mizar-domain"), (vec!["mizar_domain"], None));
        assert_eq!(chosen("paths"), (vec!["paths"], None));
        assert_eq!(chosen("overlap"), (vec!["mizar_domain", "paths"], Some("overlap")));
    }
}
