//! What a database URL says about TLS.
//!
//! `sslmode` and `sslrootcert` mean what libpq has them mean, with three differences, all of which are stricter. Without
//! `sslmode` nothing is encrypted, unless a root is named: then the server's certificate and name are verified. A
//! root that is named is used in every mode. And the modes that verify have no root by default: there
//! is no `~/.postgresql` of a service. Over a socket file there is no TLS, whatever the URL says.

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::borrow::Cow;
use std::sync::Arc;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres_rustls::MakeRustlsConnect;

/// What `sslmode` asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Disable,
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

impl Mode {
    const ALL: [(&str, Self); 5] = [
        ("disable", Self::Disable),
        ("prefer", Self::Prefer),
        ("require", Self::Require),
        ("verify-ca", Self::VerifyCa),
        ("verify-full", Self::VerifyFull),
    ];

    fn named(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|(known, _)| *known == name);
        found.map(|(_, mode)| mode).ok_or_else(|| {
            let known = Self::ALL.map(|(known, _)| known).join(", ");
            format!("sslmode={name} in the database URL: it may be {known}")
        })
    }
}

/// The parameters of a URL that are about TLS.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Security {
    mode: Mode,
    /// `system`, or a file.
    root: Option<String>,
}

impl Security {
    /// Takes them out of a URL, or of libpq's form with words; the rest is for the driver.
    pub fn take(url: &str) -> Result<(String, Self), String> {
        let (mut mode, mut root) = (None, None);
        let mut is_ours = |name: &str, value: Cow<'_, str>| {
            let place = match name {
                "sslmode" => &mut mode,
                "sslrootcert" => &mut root,
                _ => return false,
            };
            *place = Some(value.into_owned());
            true
        };
        let rest = if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            in_url(url, &mut is_ours)?
        } else {
            in_words(url, &mut is_ours)
        };
        let mode = match (mode.as_deref(), &root) {
            (Some(name), _) => Mode::named(name)?,
            (None, Some(_)) => Mode::VerifyFull,
            (None, None) => Mode::Disable,
        };
        Ok((rest, Self { mode, root }))
    }

    /// Tells the driver's configuration, and makes what encrypts; none: nothing does.
    pub fn apply(&self, config: &mut tokio_postgres::Config) -> Result<Option<MakeRustlsConnect>, String> {
        let remote = config.get_hosts().iter().any(|host| matches!(host, Host::Tcp(_)));
        let remote = remote || !config.get_hostaddrs().is_empty();
        let mode = match self.mode {
            Mode::Disable => SslMode::Disable,
            Mode::Prefer => SslMode::Prefer,
            Mode::Require | Mode::VerifyCa | Mode::VerifyFull => SslMode::Require,
        };
        if !remote || mode == SslMode::Disable {
            config.ssl_mode(SslMode::Disable);
            return Ok(None);
        }
        config.ssl_mode(mode);
        Ok(Some(MakeRustlsConnect::new(self.client()?)))
    }

    fn client(&self) -> Result<ClientConfig, String> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = self.verifier(&provider)?;
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.map_err(|error| error.to_string())?.dangerous();
        let mut config = config.with_custom_certificate_verifier(verifier).with_no_client_auth();
        // Servers that are spoken to by `sslnegotiation=direct` ask for it.
        config.alpn_protocols = vec![b"postgresql".to_vec()];
        Ok(config)
    }

    fn verifier(&self, provider: &Arc<CryptoProvider>) -> Result<Arc<dyn ServerCertVerifier>, String> {
        let verifies = matches!(self.mode, Mode::VerifyCa | Mode::VerifyFull);
        let name = Mode::ALL.into_iter().find(|(_, mode)| *mode == self.mode).map_or("", |(name, _)| name);
        let roots = match self.root.as_deref() {
            None if verifies => {
                return Err(format!("sslmode={name} in the database URL needs sslrootcert=FILE or sslrootcert=system"));
            }
            None => return Ok(Arc::new(Lenient { root: None, provider: Arc::clone(provider) })),
            // Whoever has a name of his own has a certificate of some public authority.
            Some("system") if self.mode != Mode::VerifyFull => {
                return Err(format!("sslmode={name} is too weak for sslrootcert=system: use verify-full"));
            }
            Some("system") => system_roots()?,
            Some(file) => roots_of(file)?,
        };
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider)).build();
        let verifier = verifier.map_err(|error| format!("sslrootcert in the database URL: {error}"))?;
        if self.mode == Mode::VerifyFull {
            return Ok(verifier);
        }
        Ok(Arc::new(Lenient { root: Some(verifier), provider: Arc::clone(provider) }))
    }
}

/// The parameters of `postgres://host/database?name=value&…` without ours.
fn in_url(url: &str, is_ours: &mut impl FnMut(&str, Cow<'_, str>) -> bool) -> Result<String, String> {
    let Some((address, query)) = url.split_once('?') else { return Ok(url.to_owned()) };
    let mut kept = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = percent_encoding::percent_decode_str(value).decode_utf8();
        let value = value.map_err(|_| format!("{name} in the database URL is not UTF-8"))?;
        if !is_ours(name, value) {
            kept.push(pair);
        }
    }
    Ok(if kept.is_empty() { address.to_owned() } else { format!("{address}?{}", kept.join("&")) })
}

/// The same of `host=… dbname='…'`.
fn in_words(text: &str, is_ours: &mut impl FnMut(&str, Cow<'_, str>) -> bool) -> String {
    let (mut rest, mut kept) = (text.trim(), Vec::new());
    while !rest.is_empty() {
        let Some((name, after)) = rest.split_once('=') else {
            // The driver says what is wrong with it.
            kept.push(rest);
            break;
        };
        let after = after.trim_start();
        let (value, end) = word(after);
        if !is_ours(name.trim(), value.into()) {
            kept.push(&rest[..rest.len() - after.len() + end]);
        }
        rest = after[end..].trim_start();
    }
    kept.join(" ")
}

/// A value, and where it ends: in quotes, or up to a space; a backslash takes what follows as it is.
fn word(text: &str) -> (String, usize) {
    let (quoted, mut value) = (text.starts_with('\''), String::new());
    let mut rest = text.char_indices().skip(usize::from(quoted));
    while let Some((at, letter)) = rest.next() {
        match letter {
            '\\' => value.extend(rest.next().map(|(_, letter)| letter)),
            '\'' if quoted => return (value, at + 1),
            letter if !quoted && letter.is_whitespace() => return (value, at),
            letter => value.push(letter),
        }
    }
    (value, text.len())
}

fn roots_of(file: &str) -> Result<RootCertStore, String> {
    let unusable = |error: String| format!("sslrootcert={file} in the database URL: {error}");
    let read = || CertificateDer::pem_file_iter(file)?.collect::<Result<Vec<_>, _>>();
    let certificates = read().map_err(|error| unusable(error.to_string()))?;
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        roots.add(certificate).map_err(|error| unusable(error.to_string()))?;
    }
    if roots.is_empty() { Err(unusable("it holds no certificate".into())) } else { Ok(roots) }
}

fn system_roots() -> Result<RootCertStore, String> {
    let (found, mut roots) = (rustls_native_certs::load_native_certs(), RootCertStore::empty());
    // Some that this library does not take are in every system's store.
    let (taken, _) = roots.add_parsable_certificates(found.certs);
    match found.errors.first() {
        Some(error) if taken == 0 => Err(format!("sslrootcert=system in the database URL: {error}")),
        None if taken == 0 => Err("sslrootcert=system in the database URL: the system has no certificates".into()),
        _ => Ok(roots),
    }
}

/// Takes certificates of a root, whoever they are for; without a root any, which encrypts against those who listen, not
/// against those who stand in between.
#[derive(Debug)]
struct Lenient {
    root: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Lenient {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(root) = &self.root else { return Ok(ServerCertVerified::assertion()) };
        match root.verify_server_cert(certificate, between, name, ocsp, now) {
            // The name is looked at last, when the rest is found well.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(url: &str) -> (String, Mode, Option<String>) {
        let (rest, Security { mode, root }) = Security::take(url).expect(url);
        (rest, mode, root)
    }

    #[test]
    fn what_is_about_tls_is_taken_out_of_both_forms_and_the_rest_left_as_it_is() {
        let plain = "postgres://u@%2Ftmp/d?connect_timeout=9";
        assert_eq!(taken(plain), (plain.into(), Mode::Disable, None));
        assert_eq!(taken("postgres://u@h/d?sslmode=require"), ("postgres://u@h/d".into(), Mode::Require, None));
        let both = "postgresql://u@h/d?a=1&sslrootcert=%2Fca%20b.pem&sslmode=verify-ca&b=2";
        assert_eq!(taken(both), ("postgresql://u@h/d?a=1&b=2".into(), Mode::VerifyCa, Some("/ca b.pem".into())));
        let words = r"host=h password='a sslmode=x' sslmode = prefer user='it\'s'  sslrootcert='/ca b.pem' dbname=d";
        let rest = r"host=h password='a sslmode=x' user='it\'s' dbname=d";
        assert_eq!(taken(words), (rest.into(), Mode::Prefer, Some("/ca b.pem".into())));
        assert_eq!(taken("host=h sslrootcert=/ca.pem").1, Mode::VerifyFull, "who names a root wants it used");
        assert_eq!(taken("host=h user").0, "host=h user");
    }

    #[test]
    fn what_cannot_be_meant_is_refused_by_the_name_of_the_setting() {
        let refused = |url: &str| {
            let (rest, security) = Security::take(url)?;
            let mut config: tokio_postgres::Config =
                rest.parse().map_err(|error: tokio_postgres::Error| error.to_string())?;
            security.apply(&mut config).map(|_| ())
        };
        for (url, says) in [
            ("postgres://h/d?sslmode=always", "sslmode=always"),
            ("postgres://h/d?sslmode=verify-full", "sslrootcert=FILE"),
            ("postgres://h/d?sslmode=require&sslrootcert=system", "verify-full"),
            ("postgres://h/d?sslmode=require&sslrootcert=/not/there", "sslrootcert=/not/there"),
        ] {
            let error = refused(url).expect_err(url);
            assert!(error.contains(says), "{url}: {error}");
        }
        assert_eq!(refused("postgres://%2Ftmp/d?sslmode=verify-full"), Ok(()), "a socket file needs none");
    }
}
