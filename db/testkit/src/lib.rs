//! A real, private database for every test.
//!
//! `TestDb::create` gives the test a database of its own, copied from a template that was
//! migrated once. The server is PostgreSQL itself, never a fake: by default a cluster that the
//! first test of a process starts (socket only, no fsync) and that goes away with the process;
//! with `MIZAR_TEST_DATABASE_URL` a server that is already there, on which the role of the URL
//! may create databases.
//!
//! ```no_run
//! # async fn test() -> anyhow::Result<()> {
//! let db = mizar_testkit::TestDb::create().await?;
//! let pool = db.pool(4, mizar_db::pool::Use::Commands)?;
//! # Ok(()) }
//! ```

mod cluster;

use anyhow::{Context as _, ensure};
use diesel_async::{AsyncConnection as _, AsyncPgConnection, SimpleAsyncConnection as _};
use mizar_db::DbPool;
use mizar_db::pool::Use;
use std::future::Future;
use std::io::Write as _;
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// Begins the template's name.
const TEMPLATE: &str = "mizar_test_template";

/// Key of the advisory lock under which processes that share a server make the template.
const TEMPLATE_LOCK: i64 = 0x6d69_7a61_725f_7466;

struct Server {
    /// Any URL on the server: the database in it is replaced.
    url: String,
    template: String,
    /// Lives as long as the process.
    _cluster: Option<cluster::Cluster>,
}

/// A database of the test's own; dropped with this value, also when the test panics.
pub struct TestDb {
    name: String,
    url: String,
    /// A server of its own, which ends with it.
    own: Option<cluster::Cluster>,
}

impl TestDb {
    /// A new database with the current schema and no rows.
    pub async fn create() -> anyhow::Result<Self> {
        let server = server()?;
        let name = format!("mizar_test_{}", uuid::Uuid::new_v4().simple());
        let mut conn = maintenance(&server.url).await?;
        conn.batch_execute(&format!("CREATE DATABASE {name} TEMPLATE {}", server.template))
            .await
            .context("cannot create the test's database")?;
        let made = Self { url: with_database(&server.url, &name), name, own: None };
        // As if it had been migrated here: a copy is another database than the one that stamped it.
        made.connect().await?.batch_execute("UPDATE feed SET history = feed_history()").await?;
        Ok(made)
    }

    /// What a logical dump of it restores to on another server, which counts transactions from the
    /// beginning. The rows of `without` are left out.
    pub async fn restored(&self, without: &[&str]) -> anyhow::Result<Self> {
        let own = cluster::Cluster::start()?;
        let url = own.url();
        let dump = Command::new(cluster::binaries()?.join("pg_dump"))
            .args(without.iter().map(|table| format!("--exclude-table-data={table}")))
            .arg(&self.url)
            .output()
            .context("cannot run pg_dump")?;
        ensure!(dump.status.success(), "pg_dump failed: {}", String::from_utf8_lossy(&dump.stderr));
        let mut restore = Command::new(cluster::binaries()?.join("psql"))
            .args(["--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--output=/dev/null", &url])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot run psql")?;
        restore.stdin.take().context("psql has no input")?.write_all(&dump.stdout)?;
        let restored = restore.wait_with_output()?;
        ensure!(restored.status.success(), "psql failed: {}", String::from_utf8_lossy(&restored.stderr));
        Ok(Self { url, name: "postgres".to_owned(), own: Some(own) })
    }

    /// Where it is.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A pool of connections to it.
    pub fn pool(&self, size: usize, used_for: Use) -> anyhow::Result<DbPool> {
        Ok(DbPool::new(&self.url, size, used_for)?)
    }

    /// One connection to it.
    pub async fn connect(&self) -> anyhow::Result<AsyncPgConnection> {
        Ok(mizar_db::pool::connect(self.url.clone(), Use::Commands).await?)
    }
}

/// A server that is spoken to over TLS, and goes away with this value.
pub struct TlsServer {
    port: u16,
    _cluster: cluster::Cluster,
}

impl TlsServer {
    /// With a certificate and its key, in PEM. Whoever comes without TLS is refused.
    pub fn start(certificate: &str, key: &str) -> anyhow::Result<Self> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let cluster = cluster::Cluster::start_with(Some(cluster::Tls { certificate, key, port }))?;
        Ok(Self { port, _cluster: cluster })
    }

    /// Its empty database, under whatever name, with parameters.
    pub fn url(&self, name: &str, parameters: &str) -> String {
        format!("postgres://postgres@{name}:{}/postgres?hostaddr=127.0.0.1&{parameters}", self.port)
    }
}

impl Drop for TestDb {
    fn drop(&mut self) {
        if self.own.is_some() {
            return;
        }
        let statement = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name);
        let dropped = server().and_then(|server| {
            apart(async move {
                let mut conn = maintenance(&server.url).await?;
                Ok(conn.batch_execute(&statement).await?)
            })
        });
        if let Err(error) = dropped {
            eprintln!("database {} was left behind: {error:#}", self.name);
        }
    }
}

/// Runs a future to its end on a thread of its own: callers may be inside a runtime, and `drop`
/// cannot await.
fn apart<T: Send>(future: impl Future<Output = anyhow::Result<T>> + Send) -> anyhow::Result<T> {
    std::thread::scope(|scope| {
        let run = || tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(future);
        scope.spawn(run).join().unwrap_or_else(|_| Err(anyhow::anyhow!("the thread panicked")))
    })
}

fn server() -> anyhow::Result<&'static Server> {
    static SERVER: OnceLock<Result<Server, String>> = OnceLock::new();
    let server = SERVER.get_or_init(|| apart(start()).map_err(|error| format!("{error:#}")));
    server.as_ref().map_err(|error| anyhow::anyhow!("{error}"))
}

async fn start() -> anyhow::Result<Server> {
    let (url, cluster) = match std::env::var("MIZAR_TEST_DATABASE_URL") {
        Ok(url) => (url, None),
        Err(_) => {
            let cluster = cluster::Cluster::start()?;
            (cluster.url(), Some(cluster))
        }
    };
    let template = make_template(&url).await?;
    Ok(Server { url, template, _cluster: cluster })
}

/// A migrated database to copy from, made if it is not there. It is named by the newest migration
/// and stays on a server that was given, for the next run; who edits a migration that such a
/// server has seen drops it.
async fn make_template(url: &str) -> anyhow::Result<String> {
    let name = format!("{TEMPLATE}_{}", mizar_db::migrate::newest()?);
    let mut conn = maintenance(url).await?;
    conn.batch_execute(&format!("SELECT pg_advisory_lock({TEMPLATE_LOCK})")).await?;
    if AsyncPgConnection::establish(&with_database(url, &name)).await.is_err() {
        conn.batch_execute(&format!("CREATE DATABASE {name}")).await.context("cannot create the template database")?;
    }
    mizar_db::migrate::migrate(&with_database(url, &name)).await?;
    Ok(name)
}

async fn maintenance(url: &str) -> anyhow::Result<AsyncPgConnection> {
    let url = with_database(url, "postgres");
    AsyncPgConnection::establish(&url).await.with_context(|| format!("cannot connect to {url}"))
}

/// The URL with its database replaced.
fn with_database(url: &str, name: &str) -> String {
    let (address, query) = url.split_once('?').map_or((url, None), |(address, query)| (address, Some(query)));
    let authority = address.find("://").map_or(0, |at| at + 3);
    let end = address[authority..].find('/').map_or(address.len(), |at| authority + at);
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    format!("{}/{name}{query}", &address[..end])
}

#[cfg(test)]
mod tests {
    use super::with_database;

    #[test]
    fn the_database_of_a_url_is_replaced() {
        assert_eq!(with_database("postgres://u@h:1/a", "b"), "postgres://u@h:1/b");
        assert_eq!(with_database("postgres://u@h", "b"), "postgres://u@h/b");
        assert_eq!(
            with_database("postgres://u@%2Ftmp%2Fx/a?sslmode=disable", "b"),
            "postgres://u@%2Ftmp%2Fx/b?sslmode=disable"
        );
    }
}
