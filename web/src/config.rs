//! Configuration: flags, each of which may come from the environment.

use clap::{Parser, ValueEnum};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

/// Forms of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// The dashboard of Mizar: pages for tenants and operators, made from the public API.
#[derive(Clone, Debug, Parser)]
#[command(version)]
pub struct Config {
    /// Where browsers reach the dashboard
    #[arg(long, env = "MIZAR_WEB_LISTEN", default_value = "127.0.0.1:9690")]
    pub listen: SocketAddr,
    /// Base of the network service's addresses, without /v2.0; it limits attempts to sign in by the browser's
    /// address if this program's is among its --trusted-proxies
    #[arg(long, env = "MIZAR_API_URL", default_value = "http://127.0.0.1:9696", value_parser = base)]
    pub api: String,
    /// Base of the identity service's addresses, without /v3 [default: that of the network service]
    #[arg(long, env = "MIZAR_IDENTITY_URL", value_parser = base)]
    pub identity: Option<String>,
    /// Certificates that count instead of the system's, PEM
    #[arg(long, env = "MIZAR_API_CA")]
    pub api_ca: Option<PathBuf>,
    /// How browsers name the dashboard; with https, its cookie is never sent in the clear [default: http://LISTEN]
    #[arg(long, env = "MIZAR_WEB_PUBLIC_URL", value_parser = origin)]
    pub public_url: Option<String>,
    /// Addresses of proxies whose X-Forwarded-For says who the browser is
    #[arg(long, env = "MIZAR_TRUSTED_PROXIES", value_delimiter = ',')]
    pub trusted_proxies: Vec<IpAddr>,
    /// Form of the log's lines
    #[arg(long, env = "MIZAR_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
}

/// An address that paths can follow.
fn base(text: &str) -> Result<String, String> {
    let url = reqwest::Url::parse(text).map_err(|error| error.to_string())?;
    let plain = url.query().is_none() && url.fragment().is_none() && url.username().is_empty();
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() || !plain {
        return Err("it must begin with http:// or https://, name a host, and end before any ? or #".into());
    }
    Ok(text.trim_end_matches('/').to_owned())
}

/// A base without a path: cookies and links of the dashboard are for the whole server.
fn origin(text: &str) -> Result<String, String> {
    let base = base(text)?;
    match base.split_once("://") {
        Some((_, host)) if !host.contains('/') => Ok(base),
        _ => Err("it must end with the host or its port: the dashboard has a server of its own".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_is_an_address_that_paths_can_follow() {
        assert_eq!(base("http://127.0.0.1:9696/").as_deref(), Ok("http://127.0.0.1:9696"));
        assert_eq!(base("https://cloud.example/network").as_deref(), Ok("https://cloud.example/network"));
        for wrong in ["", "127.0.0.1:9696", "ftp://x", "http://", "http://x/?a=b", "http://x/#a", "http://me@x/"] {
            assert!(base(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn browsers_name_the_dashboard_without_a_path() {
        assert_eq!(origin("https://cloud.example:8443/").as_deref(), Ok("https://cloud.example:8443"));
        assert!(origin("https://cloud.example/mizar").is_err() && origin("cloud.example").is_err());
    }

    #[test]
    fn every_flag_has_a_default() {
        assert!(Config::try_parse_from(["mizar-web"]).is_ok());
        assert!(Config::try_parse_from(["mizar-web", "--api", "nowhere"]).is_err());
    }
}
