//! Certificates between agents and API: one authority, the API's certificate, one per host.
//!
//! A host's certificate names it by a SAN URI `mizar://host/NAME`; the API serves no other host
//! under it.

use super::layout::{HostPlan, Layout, UNDERLAY_API};
use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// A certificate and its key, as files.
#[derive(Clone, Debug)]
pub struct Pair {
    /// PEM.
    pub cert: PathBuf,
    /// PEM, mode 0600.
    pub key: PathBuf,
}

/// Path of the authority's certificate.
pub fn ca(layout: &Layout) -> PathBuf {
    layout.pki().join("ca.pem")
}

/// Paths of the API's pair.
pub fn server(layout: &Layout) -> Pair {
    pair(layout, "api")
}

/// Paths of a host's pair.
pub fn host(layout: &Layout, name: &str) -> Pair {
    pair(layout, name)
}

fn pair(layout: &Layout, name: &str) -> Pair {
    Pair { cert: layout.pki().join(format!("{name}.pem")), key: layout.pki().join(format!("{name}.key")) }
}

/// Issues what is missing.
pub fn up(layout: &Layout, hosts: &[HostPlan]) -> Result<()> {
    std::fs::create_dir_all(layout.pki())?;
    let issuer = authority(layout).context("cannot make the sandbox's certificate authority")?;
    issue(
        &issuer,
        &server(layout),
        "mizar-api",
        SanType::IpAddress(UNDERLAY_API.into()),
        ExtendedKeyUsagePurpose::ServerAuth,
    )?;
    for plan in hosts {
        let uri = format!("mizar://host/{}", plan.name).as_str().try_into()?;
        issue(&issuer, &host(layout, &plan.name), &plan.name, SanType::URI(uri), ExtendedKeyUsagePurpose::ClientAuth)?;
    }
    Ok(())
}

/// The authority is its parameters and its key: with the key read back it is the same one.
fn authority(layout: &Layout) -> Result<Issuer<'static, KeyPair>> {
    let mut params = CertificateParams::new(Vec::<String>::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.distinguished_name.push(DnType::CommonName, format!("Mizar sandbox {}", layout.name()));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key_path = layout.pki().join("ca.key");
    if ca(layout).exists()
        && let Ok(key) = std::fs::read_to_string(&key_path)
    {
        return Ok(Issuer::new(params, KeyPair::from_pem(&key)?));
    }
    let key = KeyPair::generate()?;
    let cert = params.self_signed(&key)?;
    write_private(&key_path, &key.serialize_pem())?;
    std::fs::write(ca(layout), cert.pem())?;
    Ok(Issuer::new(params, key))
}

fn issue(
    issuer: &Issuer<'static, KeyPair>,
    files: &Pair,
    name: &str,
    san: SanType,
    usage: ExtendedKeyUsagePurpose,
) -> Result<()> {
    if files.cert.exists() && files.key.exists() {
        return Ok(());
    }
    let mut params = CertificateParams::new(Vec::<String>::new())?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.subject_alt_names = vec![san];
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![usage];
    let key = KeyPair::generate()?;
    let cert = params.signed_by(&key, issuer)?;
    write_private(&files.key, &key.serialize_pem())?;
    std::fs::write(&files.cert, cert.pem())?;
    Ok(())
}

/// Writes a file that only its owner can read, from its first byte.
pub fn write_private(path: &Path, content: &str) -> Result<()> {
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
    file.write_all(content.as_bytes())?;
    Ok(())
}
