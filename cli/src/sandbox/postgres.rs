//! A private PostgreSQL: its own cluster, reached by a Unix socket that only root and its own
//! user may open. No TCP port, nothing of a system-wide installation is touched.
//!
//! PostgreSQL refuses to run as root, so it runs as `postgres`. That user often cannot reach a
//! checkout (`/root` is closed), so the cluster's directory is mounted below `/run` for it.

use super::layout::Layout;
use super::mounts;
use super::netns::run;
use super::process::{Process, wait_until};
use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use nix::unistd::User;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// The process's name.
pub const NAME: &str = "postgres";
/// Database and its owner.
const DATABASE: &str = "mizar";

/// What the sandbox's services connect to.
pub fn url(layout: &Layout) -> String {
    let socket = layout.database_socket().display().to_string().replace('/', "%2F");
    format!("postgres://{DATABASE}@{socket}/{DATABASE}")
}

/// Starts it, making the cluster if there is none. `durable` false trades the disk's
/// acknowledgement for speed: for tests, whose databases need not outlive the machine.
pub fn up(layout: &Layout, durable: bool) -> Result<()> {
    let process = Process::named(layout, NAME);
    if process.pid().is_some() {
        return Ok(());
    }
    let bin = binaries()?;
    let user = User::from_name("postgres")?.context("there is no user `postgres` (package postgresql)")?;
    let (files, mounted, socket) = (layout.database(), layout.database_mount(), layout.database_socket());
    for dir in [&files, &socket] {
        std::fs::create_dir_all(dir)?;
        chown(dir, Some(user.uid.as_raw()), Some(user.gid.as_raw()))?;
        std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700))?;
    }
    mounts::bind(&files, &mounted)?;
    let as_postgres = |program: &str| {
        let mut command = Command::new(bin.join(program));
        command.uid(user.uid.as_raw()).gid(user.gid.as_raw()).current_dir("/");
        command.env_clear().env("PATH", "/usr/bin:/bin").env("LC_ALL", "C").env("TZ", "UTC");
        command
    };
    if !files.join("PG_VERSION").exists() {
        run(as_postgres("initdb").arg("-D").arg(&mounted).args([
            "-U",
            DATABASE,
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--no-locale",
            "--no-sync",
        ]))
        .context("cannot make the sandbox's database cluster")?;
    }
    // Workers of a server that was killed end a moment after it, and until then hold its memory.
    wait_until(Duration::from_secs(10), || !in_use(&mounted));
    // A server that was killed leaves its lock file, which names a process id that may be
    // somebody else's by now; that no server of ours runs is known from the record.
    remove_stale(&files.join("postmaster.pid"))?;
    let mut server = as_postgres("postgres");
    server.arg("-D").arg(&mounted).arg("-k").arg(&socket);
    for setting in
        ["listen_addresses=", "max_connections=200", "shared_buffers=64MB", "timezone=UTC", "log_line_prefix=%m [%p] "]
    {
        server.args(["-c", setting]);
    }
    if !durable {
        server.args(["-c", "fsync=off", "-c", "full_page_writes=off"]);
    }
    process.start(server)?;
    let client = |program: &str| {
        let mut command = Command::new(bin.join(program));
        command.arg("-h").arg(&socket).args(["-U", DATABASE]);
        command
    };
    process
        .wait_ready(Duration::from_secs(120), || run(client("pg_isready").args(["-q", "-d", "postgres"])).is_ok())?;
    let there = run(client("psql").args(["-d", "postgres", "-Atc", "SELECT datname FROM pg_database"]))?;
    if !there.lines().any(|name| name == DATABASE) {
        run(client("createdb").arg(DATABASE))?;
    }
    Ok(())
}

/// Stops it. At once: what would be flushed is thrown away with the sandbox, and the next start
/// recovers from the log otherwise.
pub fn down(layout: &Layout) -> Result<()> {
    Process::named(layout, NAME).stop(Signal::SIGQUIT, Duration::from_secs(20))?;
    // Workers end after the postmaster; the mount stays busy until they have.
    let files = layout.database_mount();
    wait_until(Duration::from_secs(10), || !in_use(&files));
    Ok(())
}

/// Runs SQL, for tests and `status`: one line a row, columns separated by `|`.
pub fn query(url: &str, sql: &str) -> Result<String> {
    let (url, password) = without_password(url);
    let mut psql = Command::new(binaries()?.join("psql"));
    if let Some(password) = password {
        psql.env("PGPASSWORD", password);
    }
    run(psql.args(["-XAtv", "ON_ERROR_STOP=1", "-c", sql, &url]))
}

/// A URL's password apart from the rest: everybody on the machine can read a process's arguments.
fn without_password(url: &str) -> (String, Option<OsString>) {
    let split = || {
        let (scheme, rest) = url.split_once("://")?;
        let authority = &rest[..rest.find(['/', '?']).unwrap_or(rest.len())];
        let (user_info, _) = authority.rsplit_once('@')?;
        let (user, password) = user_info.split_once(':')?;
        Some((format!("{scheme}://{user}{}", &rest[user_info.len()..]), decoded(password)))
    };
    match split() {
        Some((url, password)) => (url, Some(password)),
        None => (url.to_owned(), None),
    }
}

/// `%41` is A.
fn decoded(text: &str) -> OsString {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let code = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match code.and_then(|digits| u8::from_str_radix(digits, 16).ok()).filter(|_| *first == b'%') {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    OsString::from_vec(bytes)
}

fn remove_stale(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

fn in_use(files: &Path) -> bool {
    let Ok(processes) = std::fs::read_dir("/proc") else { return false };
    processes.flatten().any(|p| std::fs::read_link(p.path().join("cwd")).is_ok_and(|cwd| cwd == files))
}

/// The newest installed server's programs: Debian keeps them off the PATH.
fn binaries() -> Result<PathBuf> {
    let mut found: Vec<(u32, PathBuf)> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .filter(|(_, bin)| bin.join("initdb").exists())
        .collect();
    found.sort();
    if let Some((_, bin)) = found.pop() {
        return Ok(bin);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    match std::env::split_paths(&path).find(|dir| dir.join("initdb").exists()) {
        Some(bin) => Ok(bin),
        None => bail!("PostgreSQL's server is not installed: run `./dev setup`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_taken_out_of_a_url() {
        let parts = |url| without_password(url);
        assert_eq!(
            parts("postgres://me:p%40ss%3a%@db:5433/mizar?sslmode=disable"),
            ("postgres://me@db:5433/mizar?sslmode=disable".into(), Some("p@ss:%".into()))
        );
        for without in ["postgres://me@db/mizar", "postgres://db/mizar?x=a:b@c", "host=db user=me"] {
            assert_eq!(parts(without), (without.into(), None));
        }
    }
}
