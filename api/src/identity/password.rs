//! Passwords: argon2id, on threads for blocking work, because each takes tens of milliseconds, and in turn.
//!
//! Secrets that are made here have 256 random bits. Nobody guesses these, however fast he may try, so they
//! need no slow hash: SHA-256 does, and programs that log in with one wait for nobody.

use super::turns::{Crowded, Party, Turn, Turns};
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine as _;
use sha2::{Digest as _, Sha256};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

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
    /// Of the same party, or in all, so many wait that one more would be of no use.
    #[error("too many wait for their turn to hash a password")]
    Crowded,
}

impl From<Crowded> for PasswordError {
    fn from(Crowded: Crowded) -> Self {
        Self::Crowded
    }
}

/// How long a login waits for its turn.
const PATIENCE: Duration = Duration::from_secs(10);

/// Hashes and checks passwords, in turn: each takes a core and 19 MiB, so that a flood of logins must not
/// take all. A process has one.
pub struct Passwords(Arc<Turns>);

impl std::fmt::Debug for Passwords {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Passwords").field("waiting", &self.waiting()).finish()
    }
}

impl Default for Passwords {
    fn default() -> Self {
        Self(Turns::new(Self::at_once()))
    }
}

impl Passwords {
    /// How many are hashed at once: as many as there are cores.
    pub fn at_once() -> usize {
        std::thread::available_parallelism().map_or(2, std::num::NonZero::get)
    }

    /// How many wait for a turn.
    pub fn waiting(&self) -> usize {
        self.0.waiting()
    }

    /// A turn for a party, which lasts as long as the value.
    pub async fn turn(&self, party: Party) -> Result<Turn, PasswordError> {
        let turn = tokio::time::timeout(PATIENCE, self.0.take(party)?).await.map_err(|_| PasswordError::Busy)?;
        // Its place was given to somebody who takes less.
        turn.map_err(|_| PasswordError::Crowded)
    }

    /// Runs one hash off the async threads, in turn.
    async fn in_turn<T: Send + 'static>(
        &self,
        party: Party,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, PasswordError> {
        let turn = self.turn(party).await?;
        // The turn ends with the work: a client that goes away does not end its hash.
        let work = move || {
            let _turn = turn;
            work()
        };
        tokio::task::spawn_blocking(work).await.map_err(|_| PasswordError::Interrupted)
    }

    /// Hashes, as a PHC string.
    pub async fn hash(&self, party: Party, password: String) -> Result<String, PasswordError> {
        self.in_turn(party, move || hash_now(&password)).await?
    }

    /// Whether a password fits a hash. Without a hash (no such user) the same work is done in vain, so
    /// that the time of the answer does not tell who exists.
    pub async fn verify(&self, party: Party, password: String, stored: Option<String>) -> Result<bool, PasswordError> {
        static NOBODY: LazyLock<Option<String>> = LazyLock::new(|| hash_now("nobody has this password").ok());
        let check = move || {
            let exists = stored.is_some();
            let Some(hash) = stored.or_else(|| NOBODY.clone()) else { return false };
            let fits = PasswordHash::new(&hash)
                .is_ok_and(|parsed| argon2().verify_password(password.as_bytes(), &parsed).is_ok());
            fits && exists
        };
        self.in_turn(party, check).await
    }
}

/// OWASP's least for argon2id: 19 MiB, two passes, one lane.
fn argon2() -> Argon2<'static> {
    Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::DEFAULT)
}

fn hash_now(password: &str) -> Result<String, PasswordError> {
    argon2().hash_password(password.as_bytes()).map(|hash| hash.to_string()).map_err(PasswordError::Hash)
}

/// What the hash of a secret that was made here begins with.
const GENERATED: &str = "$sha256$";

/// A new secret of 256 random bits, and its hash.
pub fn generate() -> (String, String) {
    let bytes: [u8; 32] = rand::random();
    let secret = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes);
    let hash = generated_hash(&secret);
    (secret, hash)
}

fn generated_hash(secret: &str) -> String {
    let digest = base64::engine::general_purpose::STANDARD_NO_PAD.encode(Sha256::digest(secret));
    format!("{GENERATED}{digest}")
}

/// Whether the secret was made here, so that checking it costs nothing.
pub fn is_generated(stored: &str) -> bool {
    stored.starts_with(GENERATED)
}

/// Whether a secret that was made here fits its hash. How long the comparison of digests takes tells
/// nothing of the secret.
pub fn verify_generated(secret: &str, stored: &str) -> bool {
    generated_hash(secret) == stored
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_password_fits_its_own_hash_only() {
        let passwords = Passwords::default();
        let verify = |password: &str, stored| passwords.verify(Party::default(), password.into(), stored);
        let stored = passwords.hash(Party::default(), "secret".into()).await.unwrap();
        assert!(stored.starts_with("$argon2id$") && !is_generated(&stored));
        assert!(verify("secret", Some(stored.clone())).await.unwrap());
        assert!(!verify("Secret", Some(stored.clone())).await.unwrap());
        assert!(!verify("nobody has this password", None).await.unwrap());
        assert!(!verify("secret", Some("not a hash".into())).await.unwrap());
        assert!(!verify_generated("secret", &stored));
    }

    #[tokio::test]
    async fn a_secret_made_here_fits_its_own_hash_only() {
        let ((secret, hash), (other, _)) = (generate(), generate());
        assert_eq!(secret.len(), 43);
        assert!(is_generated(&hash) && !hash.contains(&secret));
        assert!(verify_generated(&secret, &hash));
        assert!(!verify_generated(&other, &hash) && !verify_generated("", &hash));
        // Nor does its hash fit as a password's, whatever is sent.
        assert!(!Passwords::default().verify(Party::default(), secret, Some(hash)).await.unwrap());
    }
}
