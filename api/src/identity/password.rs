//! Passwords: argon2id, on threads for blocking work, because each takes tens of milliseconds.

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2, Params, Version};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::Semaphore;

/// Longest password that is looked at: hashing megabytes is a gift to whoever wants us busy.
pub const PASSWORD_MAX: usize = 4096;

/// Why a password cannot be hashed or checked.
#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    /// The library refuses.
    #[error("cannot hash a password: {0}")]
    Hash(argon2::password_hash::Error),
    /// The thread that worked on it ended early.
    #[error("hashing a password was interrupted")]
    Interrupted,
    /// So many others log in that waiting is no use.
    #[error("no turn to hash a password within {} s", PATIENCE.as_secs())]
    Busy,
}

/// Hashes at once: each takes a core and 19 MiB, so that a flood of logins must not take all.
static TURNS: LazyLock<Semaphore> =
    LazyLock::new(|| Semaphore::new(std::thread::available_parallelism().map_or(2, std::num::NonZero::get)));

/// How long a login waits for its turn.
const PATIENCE: Duration = Duration::from_secs(10);

/// Who waits for a turn.
static WAITING: AtomicUsize = AtomicUsize::new(0);

/// How many wait for a turn.
pub fn waiting() -> usize {
    WAITING.load(Ordering::Relaxed)
}

/// Counts one who waits as long as it lives: a client may go away.
struct Waiting;

impl Waiting {
    fn begin() -> Self {
        WAITING.fetch_add(1, Ordering::Relaxed);
        Self
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        WAITING.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Runs one hash off the async threads, in turn.
async fn in_turn<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, PasswordError> {
    let waiting = Waiting::begin();
    let turn = tokio::time::timeout(PATIENCE, TURNS.acquire()).await.map_err(|_| PasswordError::Busy)?;
    drop(waiting);
    let _turn = turn.map_err(|_| PasswordError::Interrupted)?;
    tokio::task::spawn_blocking(work).await.map_err(|_| PasswordError::Interrupted)
}

/// OWASP's least for argon2id: 19 MiB, two passes, one lane.
fn argon2() -> Argon2<'static> {
    Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::DEFAULT)
}

fn hash_now(password: &str) -> Result<String, PasswordError> {
    argon2().hash_password(password.as_bytes()).map(|hash| hash.to_string()).map_err(PasswordError::Hash)
}

/// Hashes, as a PHC string.
pub async fn hash(password: String) -> Result<String, PasswordError> {
    in_turn(move || hash_now(&password)).await?
}

/// Whether a password fits a hash. Without a hash (no such user) the same work is done in vain, so
/// that the time of the answer does not tell who exists.
pub async fn verify(password: String, stored: Option<String>) -> Result<bool, PasswordError> {
    static NOBODY: LazyLock<Option<String>> = LazyLock::new(|| hash_now("nobody has this password").ok());
    let check = move || {
        let exists = stored.is_some();
        let Some(hash) = stored.or_else(|| NOBODY.clone()) else { return false };
        let fits =
            PasswordHash::new(&hash).is_ok_and(|parsed| argon2().verify_password(password.as_bytes(), &parsed).is_ok());
        fits && exists
    };
    in_turn(check).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_password_fits_its_own_hash_only() {
        let stored = hash("secret".into()).await.unwrap();
        assert!(stored.starts_with("$argon2id$"));
        assert!(verify("secret".into(), Some(stored.clone())).await.unwrap());
        assert!(!verify("Secret".into(), Some(stored)).await.unwrap());
        assert!(!verify("nobody has this password".into(), None).await.unwrap());
        assert!(!verify("secret".into(), Some("not a hash".into())).await.unwrap());
    }
}
