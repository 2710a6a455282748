//! An authority and what it signs.

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub pem: String,
}

/// Certificate and key, PEM.
pub struct Pair {
    pub cert: String,
    pub key: String,
}

impl Authority {
    pub fn new() -> anyhow::Result<Self> {
        let mut params = CertificateParams::new(Vec::<String>::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let key = KeyPair::generate()?;
        let pem = params.self_signed(&key)?.pem();
        Ok(Self { issuer: Issuer::new(params, key), pem })
    }

    fn issue(&self, names: Vec<SanType>) -> anyhow::Result<Pair> {
        let mut params = CertificateParams::new(Vec::<String>::new())?;
        params.subject_alt_names = names;
        let key = KeyPair::generate()?;
        let cert = params.signed_by(&key, &self.issuer)?.pem();
        Ok(Pair { cert, key: key.serialize_pem() })
    }

    pub fn server(&self) -> anyhow::Result<Pair> {
        self.issue(vec![SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST))])
    }

    /// A certificate with these SAN URIs.
    pub fn uris(&self, uris: &[&str]) -> anyhow::Result<Pair> {
        let names = uris.iter().map(|uri| Ok(SanType::URI((*uri).try_into()?)));
        self.issue(names.collect::<anyhow::Result<_>>()?)
    }

    pub fn host(&self, name: &str) -> anyhow::Result<Pair> {
        self.uris(&[&format!("mizar://host/{name}")])
    }
}

/// Files that go with the test.
pub struct Directory(PathBuf);

impl Directory {
    pub fn new() -> anyhow::Result<Self> {
        let path = std::env::temp_dir().join(format!("mizar-api-test-{}", uuid::Uuid::new_v4().simple()));
        std::fs::create_dir(&path)?;
        Ok(Self(path))
    }

    pub fn put(&self, name: &str, text: &str) -> anyhow::Result<PathBuf> {
        let path = self.0.join(name);
        std::fs::write(&path, text)?;
        Ok(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(self.path()) {
            eprintln!("{} was left behind: {error}", self.path().display());
        }
    }
}
