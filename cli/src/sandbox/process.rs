//! Long-running processes of a sandbox: started, recorded, found again, stopped.
//!
//! A record names a process by id, start time and boot, so that a process id which the kernel
//! gave to somebody else meanwhile is never signalled.

use super::layout::Layout;
use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::{Pid, setsid};
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What is written about a process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Process id.
    pub pid: i32,
    /// Start, in clock ticks since boot.
    pub started: u64,
    /// The boot it belongs to.
    pub boot_id: String,
}

/// A named process of a sandbox.
#[derive(Clone, Debug)]
pub struct Process {
    name: String,
    record: PathBuf,
    log: PathBuf,
}

impl Process {
    /// The process `name`, whether or not it runs.
    pub fn named(layout: &Layout, name: &str) -> Self {
        Self { name: name.to_owned(), record: layout.records().join(format!("{name}.json")), log: layout.log(name) }
    }

    /// Every process that is recorded.
    pub fn recorded(layout: &Layout) -> Result<Vec<Self>> {
        let Ok(entries) = std::fs::read_dir(layout.records()) else { return Ok(Vec::new()) };
        let mut found = Vec::new();
        for entry in entries {
            if let Some(name) = entry?.file_name().to_str().and_then(|n| n.strip_suffix(".json")) {
                found.push(Self::named(layout, name));
            }
        }
        found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its log.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Its id, if it runs.
    pub fn pid(&self) -> Option<i32> {
        let record: Record = serde_json::from_slice(&std::fs::read(&self.record).ok()?).ok()?;
        (observe(record.pid)? == record).then_some(record.pid)
    }

    /// Whether it runs, but another program than the one that is at `program` now: that was built
    /// anew since.
    pub fn runs_other_than(&self, program: &Path) -> bool {
        let Some(pid) = self.pid() else { return false };
        let file = |path: &Path| std::fs::metadata(path).map(|of| (of.dev(), of.ino())).ok();
        // The link leads to the running file even when nothing is at its path any more.
        file(Path::new(&format!("/proc/{pid}/exe"))) != file(program)
    }

    /// Whether it runs since before `file` was written.
    pub fn runs_since_before(&self, file: &Path) -> bool {
        let written = |path: &Path| std::fs::metadata(path).and_then(|of| of.modified()).ok();
        // The record is written when the process is started.
        self.pid().is_some() && written(&self.record) < written(file)
    }

    /// Starts it in a session of its own, its output appended to its log. `command` must not
    /// fork into the background.
    pub fn start(&self, mut command: Command) -> Result<i32> {
        if let Some(pid) = self.pid() {
            bail!("{} runs already (process {pid})", self.name);
        }
        for path in [&self.record, &self.log] {
            std::fs::create_dir_all(path.parent().expect("records and logs lie in directories"))?;
        }
        let log = OpenOptions::new().create(true).append(true).open(&self.log)?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        // SAFETY: setsid is a bare system call.
        unsafe {
            command.pre_exec(|| setsid().map(drop).map_err(std::io::Error::from));
        }
        let child =
            command.spawn().with_context(|| format!("cannot start {}", command.get_program().to_string_lossy()))?;
        let pid = i32::try_from(child.id()).expect("process ids fit");
        let record = observe(pid).with_context(|| self.ended())?;
        let file = File::create(&self.record)?;
        serde_json::to_writer(file, &record)?;
        Ok(pid)
    }

    /// Sends a signal, if it runs.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        match self.pid() {
            Some(pid) => kill(Pid::from_raw(pid), signal).with_context(|| format!("cannot signal {}", self.name)),
            None => Ok(()),
        }
    }

    /// Asks it to end by `signal`, insists by SIGKILL after `patience`, waits until it is gone,
    /// and removes the record.
    pub fn stop(&self, signal: Signal, patience: Duration) -> Result<()> {
        if let Some(pid) = self.pid() {
            self.signal(signal)?;
            if wait_until(patience, || self.pid().is_none()).is_none() {
                self.signal(Signal::SIGKILL)?;
                wait_until(Duration::from_secs(10), || self.pid().is_none())
                    .with_context(|| format!("{} (process {pid}) does not end", self.name))?;
            }
        }
        match std::fs::remove_file(&self.record) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Why it is not there: the end of its log.
    pub fn ended(&self) -> String {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines[lines.len().saturating_sub(15)..].join("\n");
        format!("{} ended; the end of {}:\n{tail}", self.name, self.log.display())
    }

    /// Waits for `ready`, but not longer than the process lives.
    pub fn wait_ready(&self, patience: Duration, ready: impl Fn() -> bool) -> Result<()> {
        let mut died = false;
        let done = wait_until(patience, || {
            died = self.pid().is_none();
            died || ready()
        });
        if died {
            bail!(self.ended());
        }
        done.with_context(|| {
            format!("{} is not ready after {} s; see {}", self.name, patience.as_secs(), self.log.display())
        })?;
        Ok(())
    }
}

/// The process as it is now; `None` when there is none, or only its zombie. A killed process
/// whose first thread is a zombie while others still end holds its sockets yet: it is not gone.
fn observe(pid: i32) -> Option<Record> {
    // A child of this process stays a zombie until it is asked for; others are init's.
    let _ = waitpid(Pid::from_raw(pid), Some(WaitPidFlag::WNOHANG));
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (state, started) = parse_stat(&stat)?;
    let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?.trim().to_owned();
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
    (!matches!(state, 'Z' | 'X') || threads > 1).then_some(Record { pid, started, boot_id })
}

/// State and start time of `/proc/PID/stat`; the name in it may hold blanks and brackets.
fn parse_stat(stat: &str) -> Option<(char, u64)> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    let started = fields.nth(18)?.parse().ok()?;
    Some((state, started))
}

/// Polls until `done`, at most for `patience`; how long it took.
pub fn wait_until(patience: Duration, mut done: impl FnMut() -> bool) -> Option<Duration> {
    let start = Instant::now();
    loop {
        if done() {
            return Some(start.elapsed());
        }
        if start.elapsed() >= patience {
            return None;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_does_not_confuse_the_start_time() {
        let stat = "7 (a) b (c)) S 1 7 7 0 -1 0 0 0 0 0 1 2 3 4 20 0 1 0 4242 9 9";
        assert_eq!(parse_stat(stat), Some(('S', 4242)));
        assert_eq!(parse_stat("7 (cut"), None);
    }

    #[test]
    fn a_process_is_found_again_and_stops_once() {
        let root = std::env::temp_dir().join(format!("mizar-process-{}", std::process::id()));
        let layout = Layout::new(&root, "unit").expect("valid");
        let process = Process::named(&layout, "sleeper");
        let mut command = Command::new("sleep");
        command.arg("60");
        let pid = process.start(command).expect("sleep starts");
        assert_eq!(Process::named(&layout, "sleeper").pid(), Some(pid));
        assert_eq!(Process::recorded(&layout).expect("readable").len(), 1);
        process.stop(Signal::SIGTERM, Duration::from_secs(5)).expect("it ends");
        assert_eq!(process.pid(), None);
        process.stop(Signal::SIGTERM, Duration::from_secs(5)).expect("stopping again changes nothing");
        std::fs::remove_dir_all(&root).expect("own directory");
    }

    #[test]
    fn a_process_whose_program_was_replaced_is_told_from_one_that_is_current() {
        let root = std::env::temp_dir().join(format!("mizar-replaced-{}", std::process::id()));
        let layout = Layout::new(&root, "unit").expect("valid");
        let (program, object) = (root.join("program"), root.join("object"));
        let place = |at: &Path| {
            std::fs::create_dir_all(&root).expect("own directory");
            let part = at.with_extension("part");
            std::fs::copy("/bin/sleep", &part).expect("there is a sleep");
            std::fs::rename(part, at).expect("own directory");
        };
        place(&object);
        place(&program);
        let process = Process::named(&layout, "sleeper");
        let outdated = || (process.runs_other_than(&program), process.runs_since_before(&object));
        assert_eq!(outdated(), (false, false), "one that does not run is not outdated");
        let mut command = Command::new(&program);
        command.arg("60");
        process.start(command).expect("it starts");
        wait_until(Duration::from_secs(10), || !process.runs_other_than(&program)).expect("it becomes the program");
        assert_eq!(outdated(), (false, false));
        place(&program);
        assert_eq!(outdated(), (true, false));
        let later = std::time::SystemTime::now() + Duration::from_secs(1);
        File::options().append(true).open(&object).and_then(|file| file.set_modified(later)).expect("own file");
        assert_eq!(outdated(), (true, true));
        process.stop(Signal::SIGTERM, Duration::from_secs(5)).expect("it ends");
        std::fs::remove_dir_all(&root).expect("own directory");
    }

    #[test]
    fn a_record_of_another_process_with_the_same_id_is_not_believed() {
        let root = std::env::temp_dir().join(format!("mizar-stale-{}", std::process::id()));
        let layout = Layout::new(&root, "unit").expect("valid");
        let process = Process::named(&layout, "other");
        let me = observe(i32::try_from(std::process::id()).expect("fits")).expect("this test runs");
        std::fs::create_dir_all(layout.records()).expect("own directory");
        let stale = Record { started: me.started + 1, ..me };
        std::fs::write(layout.records().join("other.json"), serde_json::to_vec(&stale).expect("plain"))
            .expect("own directory");
        assert_eq!(process.pid(), None);
        std::fs::remove_dir_all(&root).expect("own directory");
    }
}
