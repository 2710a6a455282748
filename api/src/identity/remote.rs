//! How we ask other services.

use super::token::TokenError;
use reqwest::{Certificate, Client};
use std::error::Error;
use std::path::Path;
use std::time::Duration;

/// A caller waits for the answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// A client that believes the usual authorities, and those of a file (PEM).
pub fn client(ca_file: Option<&Path>) -> Result<Client, String> {
    let mut builder = Client::builder().timeout(PATIENCE).redirect(reqwest::redirect::Policy::none());
    if let Some(file) = ca_file {
        let named = |error: &dyn Error| format!("{}: {error}", file.display());
        let pem = std::fs::read(file).map_err(|error| named(&error))?;
        for certificate in Certificate::from_pem_bundle(&pem).map_err(|error| named(&error))? {
            builder = builder.add_root_certificate(certificate);
        }
    }
    builder.build().map_err(|error| format!("cannot make an HTTP client: {error}"))
}

/// A URL that we ask: `https`, or `http` for a service on this machine or network.
pub fn check_url(field: &str, url: &str) -> Result<(), String> {
    match reqwest::Url::parse(url) {
        Ok(parsed) if matches!(parsed.scheme(), "http" | "https") && parsed.has_host() => Ok(()),
        _ => Err(format!("{field}: it must begin with http:// or https:// and name a host")),
    }
}

/// The other service cannot be asked, or answers what we cannot use.
pub fn unavailable(cause: impl Into<Box<dyn Error + Send + Sync>>) -> TokenError {
    TokenError::Unavailable(cause.into())
}
