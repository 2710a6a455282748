//! Connections: their settings, and what to do when a transaction must be tried again.

use crate::tls::Security;
use crate::turns::{self, Turn, Turns};
use diesel::result::{DatabaseErrorKind, Error};
use diesel_async::pooled_connection::deadpool::{Object, Pool};
use diesel_async::pooled_connection::{AsyncDieselConnectionManager, ManagerConfig, RecyclingMethod};
use diesel_async::{AnsiTransactionManager, TransactionManager};
use diesel_async::{AsyncPgConnection, SimpleAsyncConnection};
use futures::FutureExt;
use futures::future::BoxFuture;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;
use tokio_postgres::Socket;
use tokio_postgres::tls::MakeTlsConnect;

/// A connection that goes back to its pool when dropped, and then is whose turn it is.
pub struct Connection {
    object: Object<AsyncPgConnection>,
    /// Dropped after it, so that the next one finds it.
    _turn: Turn,
}

impl Deref for Connection {
    type Target = AsyncPgConnection;

    fn deref(&self) -> &AsyncPgConnection {
        &self.object
    }
}

impl DerefMut for Connection {
    fn deref_mut(&mut self) -> &mut AsyncPgConnection {
        &mut self.object
    }
}

/// Why no connection could be had.
#[derive(Debug, thiserror::Error)]
pub enum PoolError {
    /// All connections were in use, or the database silent, for longer than callers wait.
    #[error("no database connection in time")]
    Timeout,
    /// The database cannot be reached.
    #[error("no database connection")]
    Unavailable(#[source] diesel_async::pooled_connection::deadpool::PoolError),
    /// The pool cannot be made.
    #[error("the connection pool cannot be made")]
    Build(#[source] diesel_async::pooled_connection::deadpool::BuildError),
}

/// What the connections of a pool are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// Commands and listings: PostgreSQL may keep generic plans.
    Commands,
    /// The feed: every plan is made for its values. With a generic plan the tail scans the whole
    /// index once a transaction has been running for a while (CONTROLPLANE section 1, traps).
    Feed,
}

/// A pool of connections to one database, which those who want one share ([`turns`]).
#[derive(Clone)]
pub struct DbPool {
    pool: Pool<AsyncPgConnection>,
    turns: Arc<Turns>,
    patience: Duration,
    url: Arc<str>,
    used_for: Use,
}

impl std::fmt::Debug for DbPool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DbPool").field("status", &self.pool.status()).finish()
    }
}

/// Connections of a pool at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// At most.
    pub max: usize,
    /// Open, and nobody's.
    pub idle: usize,
    /// Somebody's.
    pub in_use: usize,
    /// Who waits for one.
    pub waiting: usize,
}

/// A waiting lock fails the request instead of the service; a transaction that its client forgot
/// is ended, since the feed's readers carry every open one in their cursors.
const SETTINGS: &str = "SET lock_timeout = '2s'; SET idle_in_transaction_session_timeout = '5s'; \
     SET default_transaction_isolation = 'read committed';";

/// Beyond [`SETTINGS`], for [`Use::Feed`].
const FEED_SETTINGS: &str = "SET plan_cache_mode = 'force_custom_plan'; SET jit = off;";

/// How long a caller waits for a free connection.
const WAIT: Duration = Duration::from_secs(5);

impl DbPool {
    /// A pool of at most `size` connections, opened when first needed.
    pub fn new(url: &str, size: usize, used_for: Use) -> Result<Self, PoolError> {
        let mut config = ManagerConfig::<AsyncPgConnection>::default();
        // A closed connection is seen without asking the server; asking costs every command a
        // round trip.
        config.recycling_method = RecyclingMethod::Fast;
        config.custom_setup = Box::new(move |url| connect(url.to_owned(), used_for).boxed());
        let pool = Pool::builder(AsyncDieselConnectionManager::new_with_config(url, config))
            .max_size(size)
            .build()
            .map_err(PoolError::Build)?;
        Ok(Self { pool, turns: Turns::new(size), patience: WAIT, url: url.into(), used_for })
    }

    /// Another pool for the same, of at most `size` connections: for what must go on however busy this one is.
    pub fn beside(&self, size: usize) -> Result<Self, PoolError> {
        Self::new(&self.url, size, self.used_for)
    }

    /// The same connections, waited for so long instead of five seconds: who would rather wait than be
    /// refused.
    #[must_use]
    pub fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// A connection, waiting up to five seconds for one, or as said.
    pub async fn get(&self) -> Result<Connection, PoolError> {
        let got = async {
            // Its sender is in the row of `turns` until it is used.
            let turn = self.turns.take(turns::party()).await.map_err(|_| PoolError::Timeout)?;
            let object = self.pool.get().await.map_err(PoolError::Unavailable)?;
            Ok(Connection { object, _turn: turn })
        };
        tokio::time::timeout(self.patience, got).await.map_err(|_| PoolError::Timeout)?
    }

    /// Runs `work` in a READ COMMITTED transaction and commits it; rolls back if it fails. A
    /// victim of a conflict is run again, three times in all, so `work` must have no effect
    /// outside its transaction.
    pub async fn transaction<T, E, F>(&self, work: F) -> Result<T, E>
    where
        F: for<'c> Fn(&'c mut AsyncPgConnection) -> BoxFuture<'c, Result<T, E>>,
        E: From<Error> + From<PoolError> + Conflict,
    {
        let mut conn = self.get().await?;
        let mut tries = 1;
        loop {
            match once(&mut conn, &work).await {
                Err(error) if error.is_conflict() && tries < TRIES => tries += 1,
                done => return done,
            }
            // Apart, so that the two that met do not meet again.
            tokio::time::sleep(Duration::from_millis(rand::random_range(2..20))).await;
        }
    }

    /// Its connections now.
    pub fn usage(&self) -> Usage {
        let now = self.pool.status();
        Usage {
            max: now.max_size,
            idle: now.available,
            in_use: now.size.saturating_sub(now.available),
            waiting: self.turns.waiting(),
        }
    }

    /// Ends all connections; waiting callers fail.
    pub fn close(&self) {
        self.pool.close();
    }
}

async fn once<T, E, F>(conn: &mut AsyncPgConnection, work: &F) -> Result<T, E>
where
    F: for<'c> Fn(&'c mut AsyncPgConnection) -> BoxFuture<'c, Result<T, E>>,
    E: From<Error>,
{
    AnsiTransactionManager::begin_transaction(conn).await?;
    match work(conn).await {
        Ok(value) => {
            AnsiTransactionManager::commit_transaction(conn).await?;
            Ok(value)
        }
        Err(error) => {
            // If even this fails the connection is broken and the pool drops it.
            if let Err(rollback) = AnsiTransactionManager::rollback_transaction(conn).await {
                tracing::warn!(error = %rollback, "a failed transaction could not be rolled back");
            }
            Err(error)
        }
    }
}

/// A connection of its own, outside any pool, with the server's own settings.
pub(crate) async fn connect_bare(url: &str) -> diesel::ConnectionResult<AsyncPgConnection> {
    let unreachable = |error: String| diesel::ConnectionError::BadConnection(error);
    let opened = tokio::time::timeout(WAIT, open(url)).await;
    opened.map_err(|_| unreachable(format!("no answer within {} s", WAIT.as_secs())))?
}

/// The same, with the settings of those in a pool.
pub async fn connect(url: String, used_for: Use) -> diesel::ConnectionResult<AsyncPgConnection> {
    let mut conn = connect_bare(&url).await?;
    let settings = match used_for {
        Use::Commands => SETTINGS.to_owned(),
        Use::Feed => format!("{SETTINGS} {FEED_SETTINGS}"),
    };
    conn.batch_execute(&settings).await.map_err(diesel::ConnectionError::CouldntSetupConfiguration)?;
    Ok(conn)
}

/// A primary that vanishes without a word (its machine lost power) must cost seconds: the kernel by
/// itself goes on for two hours where nothing is sent, and for a quarter of an hour where nothing is
/// acknowledged. What the URL says about it counts.
async fn open(url: &str) -> diesel::ConnectionResult<AsyncPgConnection> {
    let (url, security) = Security::take(url).map_err(diesel::ConnectionError::InvalidConnectionUrl)?;
    let mut config = bounded(&url)?;
    match security.apply(&mut config).map_err(diesel::ConnectionError::InvalidConnectionUrl)? {
        Some(tls) => dial(&config, tls).await,
        None => dial(&config, tokio_postgres::NoTls).await,
    }
}

async fn dial<T>(config: &tokio_postgres::Config, tls: T) -> diesel::ConnectionResult<AsyncPgConnection>
where
    T: MakeTlsConnect<Socket>,
    T::Stream: Send + 'static,
{
    let failed = |error: tokio_postgres::Error| diesel::ConnectionError::BadConnection(crate::chain(&error));
    let (client, connection) = config.connect(tls).await.map_err(failed)?;
    AsyncPgConnection::try_from_client_and_connection(client, connection).await
}

fn bounded(url: &str) -> diesel::ConnectionResult<tokio_postgres::Config> {
    let malformed = |error: tokio_postgres::Error| diesel::ConnectionError::InvalidConnectionUrl(crate::chain(&error));
    let mut config: tokio_postgres::Config = url.parse().map_err(malformed)?;
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(Duration::from_secs(3));
    }
    if config.get_tcp_user_timeout().is_none() {
        config.tcp_user_timeout(Duration::from_secs(5));
    }
    if config.get_keepalives_idle() == tokio_postgres::Config::new().get_keepalives_idle() {
        config.keepalives_idle(Duration::from_secs(5));
    }
    if config.get_keepalives_interval().is_none() {
        config.keepalives_interval(Duration::from_secs(2));
    }
    if config.get_keepalives_retries().is_none() {
        config.keepalives_retries(3);
    }
    Ok(config)
}

/// What PostgreSQL says to every statement after one that failed (25P02).
const ABORTED: &str = "current transaction is aborted, commands ignored until end of transaction block";

/// Whether the transaction was the victim of a conflict (40001, 40P01) and may succeed if it is
/// run again from its beginning.
///
/// So may one that failed because of an earlier failure (25P02). Statements that are sent together may be heard
/// of in any order, and then the cause is not known: the next run succeeds or tells it.
pub fn is_conflict(error: &Error) -> bool {
    match error {
        Error::DatabaseError(DatabaseErrorKind::SerializationFailure, _) => true,
        // diesel has no kind for the others and hides the code, so the text must do.
        Error::DatabaseError(DatabaseErrorKind::Unknown, info) if info.message() == "deadlock detected" => true,
        error if is_consequence(error) => {
            // A statement whose failure nobody looked at would end every run so: then this is where to begin.
            tracing::warn!("a transaction ends with a failure whose cause came before it");
            true
        }
        // Not `RollbackErrorOnCommit`: what cannot even be rolled back cannot be begun again on its connection.
        _ => false,
    }
}

/// Whether all that is known of a failure is that another came before it (25P02).
pub fn is_consequence(error: &Error) -> bool {
    matches!(error, Error::DatabaseError(DatabaseErrorKind::Unknown, info) if info.message() == ABORTED)
}

/// What PostgreSQL says where a lock was waited for in vain (55P03).
pub(crate) const LOCK_TIMEOUT: &str = "canceling statement due to lock timeout";

/// Whether a lock was waited for in vain: the caller should try again later.
pub fn is_lock_timeout(error: &Error) -> bool {
    matches!(error, Error::DatabaseError(DatabaseErrorKind::Unknown, info)
        if info.message() == LOCK_TIMEOUT)
}

/// Whether the database could not be spoken to, or ended the connection (57P01, 57P02, 25P03).
pub fn is_disconnect(error: &Error) -> bool {
    match error {
        Error::DatabaseError(DatabaseErrorKind::UnableToSendCommand | DatabaseErrorKind::ClosedConnection, _)
        | Error::BrokenTransactionManager => true,
        Error::DatabaseError(DatabaseErrorKind::Unknown, info) => info.message().starts_with("terminating connection"),
        Error::RollbackErrorOnCommit { commit_error, .. } => is_disconnect(commit_error),
        _ => false,
    }
}

/// An error that may say: run the transaction again.
pub trait Conflict {
    /// See [`is_conflict`].
    fn is_conflict(&self) -> bool;
}

impl Conflict for Error {
    fn is_conflict(&self) -> bool {
        is_conflict(self)
    }
}

/// How often a transaction is tried.
const TRIES: u32 = 3;

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn connections_are_bounded_unless_the_url_says_how() {
        let config = bounded("postgres://mizar@127.0.0.1/mizar").expect("a URL");
        assert_eq!(config.get_connect_timeout(), Some(&Duration::from_secs(3)));
        assert_eq!(config.get_tcp_user_timeout(), Some(&Duration::from_secs(5)));
        assert_eq!(config.get_keepalives_idle(), Duration::from_secs(5));
        let config = bounded("host=127.0.0.1 connect_timeout=9 tcp_user_timeout=8 keepalives_idle=7").expect("a URL");
        assert_eq!(config.get_connect_timeout(), Some(&Duration::from_secs(9)));
        assert_eq!(config.get_tcp_user_timeout(), Some(&Duration::from_secs(8)));
        assert_eq!(config.get_keepalives_idle(), Duration::from_secs(7));
    }

    #[test]
    fn what_could_not_be_rolled_back_is_not_run_again_on_its_connection() {
        let said = |text: &str| Error::DatabaseError(DatabaseErrorKind::Unknown, Box::new(text.to_owned()));
        assert!(is_conflict(&said("deadlock detected")) && !is_consequence(&said("deadlock detected")));
        assert!(is_conflict(&said(ABORTED)) && is_consequence(&said(ABORTED)));
        let commit = || Box::new(said("deadlock detected"));
        let broken =
            Error::RollbackErrorOnCommit { rollback_error: Box::new(Error::NotInTransaction), commit_error: commit() };
        assert!(!is_conflict(&broken));
    }

    #[tokio::test]
    async fn a_server_that_takes_the_connection_and_says_nothing_is_given_up() -> std::io::Result<()> {
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("postgres://mizar@{}/mizar", silent.local_addr()?);
        let (asked, start) = (connect(url, Use::Feed), Instant::now());
        let answer = tokio::time::timeout(Duration::from_secs(30), asked).await.expect("it gives up");
        assert!(answer.is_err() && start.elapsed() >= Duration::from_secs(1), "{:?}", start.elapsed());
        Ok(())
    }
}
