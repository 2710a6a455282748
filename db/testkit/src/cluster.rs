//! A PostgreSQL cluster that lives exactly as long as this process.
//!
//! A test process may end in any way (a panic, `exit`, a signal) and runs no destructors of
//! statics, so nothing in it can be trusted to stop the server. A shell supervises instead: it
//! reads a pipe whose only other end this process holds, and when that closes it stops the
//! server and removes the directory. It is its own process group, so that a Ctrl-C meant for the
//! tests does not reach it first.

use anyhow::{Context as _, bail, ensure};
use nix::unistd::{Uid, User, chown};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

/// Waits for the end of its input, then leaves nothing. `$1` = directory, the rest = the server.
const SUPERVISOR: &str = r#"
dir=$1; shift
"$@" >"$dir/log" 2>&1 </dev/null &
server=$!
cat >/dev/null
kill -QUIT $server
wait $server
rm -rf "$dir"
"#;

pub struct Cluster {
    directory: PathBuf,
    /// Closed by the kernel when this process ends.
    _lifeline: ChildStdin,
}

/// How a server is reached from the network: over TLS alone, on the loopback interface.
pub struct Tls<'a> {
    pub certificate: &'a str,
    pub key: &'a str,
    pub port: u16,
}

/// Who comes over TCP comes over TLS.
const TLS_ONLY: &str = "local all all trust\nhostssl all all 127.0.0.1/32 trust\n";

impl Cluster {
    pub fn start() -> anyhow::Result<Self> {
        Self::start_with(None)
    }

    pub fn start_with(tls: Option<Tls<'_>>) -> anyhow::Result<Self> {
        let bin = binaries()?;
        let directory = std::env::temp_dir().join(format!("mizar-pg-{}", uuid::Uuid::new_v4().simple()));
        std::fs::create_dir(&directory)?;
        let runs_as = unprivileged()?;
        if let Some(user) = &runs_as {
            chown(&directory, Some(user.uid), Some(user.gid))?;
        }
        let command = |program: &Path| {
            let mut command = Command::new(program);
            if let Some(user) = &runs_as {
                command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
            }
            command.current_dir("/").env_clear().env("PATH", "/usr/bin:/bin");
            command
        };
        let data = directory.join("data");
        let made = command(&bin.join("initdb"))
            .args(["--no-sync", "--no-locale", "--encoding=UTF8", "--auth=trust", "--username=postgres", "-D"])
            .arg(&data)
            .output()
            .context("cannot run initdb")?;
        if !made.status.success() {
            // Nothing supervises the directory yet.
            let _ = std::fs::remove_dir_all(&directory);
            bail!("initdb failed: {}", String::from_utf8_lossy(&made.stderr));
        }
        let mut settings: Vec<String> = SETTINGS.iter().map(|setting| (*setting).to_owned()).collect();
        if let Some(Tls { certificate, key, port }) = tls {
            let write = |name: &str, text: &str| {
                let file = data.join(name);
                std::fs::write(&file, text)?;
                // The server takes no key that others can read.
                std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600))?;
                if let Some(user) = &runs_as {
                    chown(&file, Some(user.uid), Some(user.gid))?;
                }
                anyhow::Ok(())
            };
            write("server.crt", certificate)?;
            write("server.key", key)?;
            write("pg_hba.conf", TLS_ONLY)?;
            settings.extend(["listen_addresses=127.0.0.1".into(), format!("port={port}"), "ssl=on".into()]);
        }
        let mut supervisor = command(Path::new("/bin/sh"))
            .args(["-c", SUPERVISOR, "supervisor"])
            .arg(&directory)
            .arg(bin.join("postgres"))
            .arg("-D")
            .arg(&data)
            .arg("-k")
            .arg(&directory)
            .args(settings.iter().flat_map(|setting| ["-c", setting]))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .context("cannot start the supervisor of PostgreSQL")?;
        let lifeline = supervisor.stdin.take().context("the supervisor has no input")?;
        let cluster = Self { directory, _lifeline: lifeline };
        cluster.wait_until_ready()?;
        Ok(cluster)
    }

    /// Of its maintenance database.
    pub fn url(&self) -> String {
        let socket = self.directory.to_string_lossy().replace('/', "%2F");
        format!("postgres://postgres@{socket}/postgres")
    }

    fn wait_until_ready(&self) -> anyhow::Result<()> {
        let deadline = Instant::now() + Duration::from_secs(30);
        // The last line of postmaster.pid says `ready` once connections are accepted.
        let pid_file = self.directory.join("data/postmaster.pid");
        while !std::fs::read_to_string(&pid_file).is_ok_and(|text| text.trim_end().ends_with("ready")) {
            let log = || std::fs::read_to_string(self.directory.join("log")).unwrap_or_default();
            ensure!(Instant::now() < deadline, "PostgreSQL did not start within 30 s: {}", log());
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}

/// Nothing outlives the process, so nothing needs to reach a disk.
const SETTINGS: &[&str] = &[
    "listen_addresses=",
    "fsync=off",
    "full_page_writes=off",
    "max_connections=300",
    "shared_buffers=128MB",
    "max_wal_size=2GB",
    "log_min_messages=warning",
];

/// PostgreSQL refuses to run as root: then it runs as its own user.
fn unprivileged() -> anyhow::Result<Option<User>> {
    if !Uid::effective().is_root() {
        return Ok(None);
    }
    let user = User::from_name("postgres")?;
    Ok(Some(
        user.context("PostgreSQL does not run as root, and there is no user `postgres`: apt-get install postgresql")?,
    ))
}

/// Debian's place of the server's binaries, newest version first.
pub fn binaries() -> anyhow::Result<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest = versions
        .map(|version| version.path().join("bin"))
        .filter(|bin| bin.join("initdb").exists() && bin.join("postgres").exists())
        .max_by_key(|bin| version(bin));
    newest.context(
        "PostgreSQL's server is not installed: run `apt-get install postgresql`, or name a server in MIZAR_TEST_DATABASE_URL",
    )
}

fn version(bin: &Path) -> u32 {
    let name = bin.parent().and_then(Path::file_name).and_then(|name| name.to_str());
    name.and_then(|name| name.parse().ok()).unwrap_or(0)
}
