//! Keys that sign tokens: ECDSA over P-256 (ES256), one PEM file each.
//!
//! Every `*.pem` in the directory verifies, the newest by name signs: rotation is adding a file
//! and, when tokens of the old one have expired, removing it. Replicas share the directory's
//! content. The first start makes one key.

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The one algorithm: a token that names another (`none`, `HS256`) is refused before its signature
/// is looked at.
pub const ALGORITHM: Algorithm = Algorithm::ES256;

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The directory or a file.
    #[error("cannot access {path}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Not a P-256 key in PKCS#8 PEM.
    #[error("{path} is not an EC P-256 key in PKCS#8 PEM")]
    NoKey {
        /// Which.
        path: PathBuf,
    },
    /// The random source or the library.
    #[error("cannot make a key")]
    Generate(#[source] rcgen::Error),
}

/// All keys.
pub struct Keys {
    /// Name of the signing key.
    pub signer_id: String,
    /// Signs.
    pub signer: EncodingKey,
    /// Verify, by name.
    pub verifiers: BTreeMap<String, DecodingKey>,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys").field("signer_id", &self.signer_id).finish_non_exhaustive()
    }
}

impl Keys {
    /// Reads the keys; makes the first.
    pub fn open(state_dir: &Path) -> Result<Self, KeyError> {
        let directory = state_dir.join("token-keys");
        let at = |path: &Path| {
            let path = path.to_owned();
            move |source| KeyError::File { path, source }
        };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory).map_err(at(&directory))?;
        let mut files = pem_files(&directory).map_err(at(&directory))?;
        if files.is_empty() {
            files.push(make(&directory)?);
        }
        let mut verifiers = BTreeMap::new();
        let mut signer = None;
        for path in files {
            let pem = fs::read_to_string(&path).map_err(at(&path))?;
            let no_key = || KeyError::NoKey { path: path.clone() };
            let pair = KeyPair::from_pem(&pem).map_err(|_| no_key())?;
            if !pair.is_compatible(&PKCS_ECDSA_P256_SHA256) {
                return Err(no_key());
            }
            let id = path.file_stem().and_then(|stem| stem.to_str()).ok_or_else(no_key)?.to_owned();
            let verifier = DecodingKey::from_ec_pem(pair.public_key_pem().as_bytes()).map_err(|_| no_key())?;
            verifiers.insert(id.clone(), verifier);
            signer = Some((id, EncodingKey::from_ec_pem(pem.as_bytes()).map_err(|_| no_key())?));
        }
        let (signer_id, signer) = signer.ok_or(KeyError::NoKey { path: directory })?;
        Ok(Self { signer_id, signer, verifiers })
    }
}

/// By name, oldest first.
fn pem_files(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "pem") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Written under another name first: a replica that starts now reads a whole key or none.
fn make(directory: &Path) -> Result<PathBuf, KeyError> {
    let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(KeyError::Generate)?;
    let name = chrono::Utc::now().format("%Y%m%dT%H%M%S%6f").to_string();
    let path = directory.join(format!("{name}.pem"));
    let partial = directory.join(format!("{name}.partial"));
    let write = || {
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&partial)?;
        file.write_all(pair.serialize_pem().as_bytes())?;
        file.sync_all()?;
        fs::rename(&partial, &path)
    };
    write().map_err(|source| KeyError::File { path: path.clone(), source })?;
    Ok(path)
}
