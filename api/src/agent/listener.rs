//! The socket and its TLS.

use anyhow::{Context as _, ensure};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{FromRawFd as _, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where to listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listen {
    /// On an address; port 0 takes a free one.
    Address(SocketAddr),
    /// On a TCP socket that listens already, handed over by whoever started this process: the
    /// socket's network namespace need not be the process's own.
    Inherited(RawFd),
}

impl Listen {
    pub(super) fn open(self) -> anyhow::Result<TcpListener> {
        let listener = match self {
            Self::Address(address) => {
                TcpListener::bind(address).with_context(|| format!("cannot listen for agents on {address}"))?
            }
            Self::Inherited(fd) => inherited(fd)?,
        };
        listener.set_nonblocking(true)?;
        Ok(listener)
    }
}

fn inherited(fd: RawFd) -> anyhow::Result<TcpListener> {
    ensure!(fd > 2, "file descriptor {fd} is one of the standard streams, not a listening socket");
    // SAFETY: the number was given to this process by its parent as one that it is to own, and
    // it is taken once, at start.
    let owned = unsafe { OwnedFd::from_raw_fd(fd) };
    let listener = TcpListener::from(owned);
    listener.local_addr().with_context(|| format!("file descriptor {fd} is not a listening TCP socket"))?;
    Ok(listener)
}

/// PEM files.
#[derive(Clone, Debug)]
pub struct TlsPaths {
    /// The listener's certificate, and those between it and its root.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// Who signs hosts' certificates.
    pub client_ca: PathBuf,
}

impl TlsPaths {
    /// Whoever has no certificate of the CA is not let in at all.
    pub(super) fn load(&self) -> anyhow::Result<ServerConfig> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        for root in certificates(&self.client_ca)? {
            roots.add(root).with_context(|| format!("{} holds no usable CA", self.client_ca.display()))?;
        }
        let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .build()
            .with_context(|| format!("{} holds no usable CA", self.client_ca.display()))?;
        let key = PrivateKeyDer::from_pem_file(&self.key)
            .with_context(|| format!("{} holds no private key", self.key.display()))?;
        ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(clients)
            .with_single_cert(certificates(&self.cert)?, key)
            .with_context(|| format!("{} and {} do not belong together", self.cert.display(), self.key.display()))
    }
}

fn certificates(path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let read = || CertificateDer::pem_file_iter(path)?.collect::<Result<Vec<_>, _>>();
    let found = read().with_context(|| format!("cannot read certificates from {}", path.display()))?;
    ensure!(!found.is_empty(), "{} holds no certificate", path.display());
    Ok(found)
}
