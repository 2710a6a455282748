//! Connections over TLS, to a server that takes no others.

use anyhow::ensure;
use diesel::QueryableByName;
use diesel::sql_types::Bool;
use diesel_async::RunQueryDsl as _;
use mizar_db::pool::{Use, connect};
use mizar_testkit::TlsServer;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use std::path::PathBuf;

/// An authority, its certificate in a file that goes away with it.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    file: PathBuf,
}

impl Authority {
    fn new() -> anyhow::Result<Self> {
        let name = format!("mizar-ca-{}", uuid::Uuid::new_v4().simple());
        let mut params = CertificateParams::new(Vec::<String>::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name.as_str());
        let key = KeyPair::generate()?;
        let file = std::env::temp_dir().join(name);
        std::fs::write(&file, params.self_signed(&key)?.pem())?;
        Ok(Self { issuer: Issuer::new(params, key), file })
    }

    /// A server's certificate and key.
    fn sign(&self, name: &str) -> anyhow::Result<(String, String)> {
        let key = KeyPair::generate()?;
        let certificate = CertificateParams::new(vec![name.to_owned()])?.signed_by(&key, &self.issuer)?;
        Ok((certificate.pem(), key.serialize_pem()))
    }

    fn root(&self) -> String {
        format!("sslrootcert={}", self.file.display())
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        // If it is not there, so much the better.
        let _ = std::fs::remove_file(&self.file);
    }
}

#[derive(QueryableByName)]
struct Encrypted {
    #[diesel(sql_type = Bool)]
    ssl: bool,
}

/// Whether a connection is encrypted, as the server says, or why there is none.
async fn encrypted(url: String) -> anyhow::Result<bool> {
    let mut conn = connect(url, Use::Commands).await?;
    let query = diesel::sql_query("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()");
    Ok(query.get_result::<Encrypted>(&mut conn).await?.ssl)
}

#[tokio::test]
async fn the_url_says_whether_a_connection_is_encrypted_and_what_the_server_has_to_show() -> anyhow::Result<()> {
    let (authority, other) = (Authority::new()?, Authority::new()?);
    let (certificate, key) = authority.sign("localhost")?;
    let server = TlsServer::start(&certificate, &key)?;
    let (own, foreign) = (authority.root(), other.root());
    for (host, parameters) in [
        ("127.0.0.1", "sslmode=prefer".to_owned()),
        ("127.0.0.1", "sslmode=require".to_owned()),
        ("127.0.0.1", format!("sslmode=require&{own}")),
        ("127.0.0.1", format!("sslmode=verify-ca&{own}")),
        ("localhost", format!("sslmode=verify-full&{own}")),
        ("localhost", own.clone()),
    ] {
        let is = encrypted(server.url(host, &parameters)).await?;
        ensure!(is, "{host} {parameters}");
    }
    for (host, parameters, says) in [
        ("127.0.0.1", String::new(), "pg_hba.conf"),
        ("127.0.0.1", "sslmode=disable".to_owned(), "pg_hba.conf"),
        ("127.0.0.1", format!("sslmode=require&{foreign}"), "UnknownIssuer"),
        ("127.0.0.1", format!("sslmode=verify-ca&{foreign}"), "UnknownIssuer"),
        ("127.0.0.1", format!("sslmode=verify-full&{own}"), "not valid for name"),
        ("localhost", format!("sslmode=verify-full&{foreign}"), "UnknownIssuer"),
        ("localhost", "sslmode=verify-full".to_owned(), "sslrootcert"),
    ] {
        let error = match encrypted(server.url(host, &parameters)).await {
            Ok(_) => anyhow::bail!("{host} {parameters} is taken"),
            Err(error) => format!("{error:#}"),
        };
        ensure!(error.contains(says), "{host} {parameters}: {error}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_schema_is_made_over_tls_too() -> anyhow::Result<()> {
    let authority = Authority::new()?;
    let (certificate, key) = authority.sign("localhost")?;
    let server = TlsServer::start(&certificate, &key)?;
    let url = server.url("localhost", &authority.root());
    ensure!(!mizar_db::migrate::migrate(&url).await?.is_empty(), "the database was empty");
    let pool = mizar_db::DbPool::new(&url, 1, Use::Commands)?;
    ensure!(mizar_db::migrate::is_current(&mut *pool.get().await?).await?, "it has the schema");
    Ok(())
}
