//! Configuration: flags, each of which may come from the environment. Secrets are file paths.

use crate::app::Settings;
use crate::frame::quota::Quotas;
use crate::identity::authority::Setting;
use crate::observe::limits::Limits;
use clap::{ArgGroup, Parser, ValueEnum};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::time::Duration;

/// Forms of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// The REST server of Mizar: Neutron v2.0, identity v3, and the agents' protocol.
#[derive(Clone, Debug, Parser)]
#[command(version, group(ArgGroup::new("agents").required(true).args(["agent_listen", "agent_fd"])))]
pub struct Config {
    /// URL of the PostgreSQL database; its sslmode and sslrootcert are libpq's
    #[arg(long, env = "MIZAR_DATABASE_URL", hide_env_values = true)]
    pub database_url: String,
    /// Database connections for commands and listings; a project has half of them at most
    #[arg(long, env = "MIZAR_DATABASE_CONNECTIONS", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub database_connections: u16,
    /// Where tenants and operators reach the service
    #[arg(long, env = "MIZAR_LISTEN", default_value = "127.0.0.1:9696")]
    pub listen: SocketAddr,
    /// Where operators read metrics, without authentication: loopback or a management network [default: nowhere]
    #[arg(long, env = "MIZAR_OPERATOR_LISTEN")]
    pub operator_listen: Option<SocketAddr>,
    /// Where agents reach the service
    #[arg(long, env = "MIZAR_AGENT_LISTEN")]
    pub agent_listen: Option<SocketAddr>,
    /// An open, listening TCP socket for agents, handed over as this descriptor
    #[arg(long, env = "MIZAR_AGENT_FD", value_parser = clap::value_parser!(i32).range(3..))]
    pub agent_fd: Option<RawFd>,
    /// Certificate chain of the agents' listener, PEM
    #[arg(long, env = "MIZAR_TLS_CERT")]
    pub tls_cert: PathBuf,
    /// Its key, PEM
    #[arg(long, env = "MIZAR_TLS_KEY")]
    pub tls_key: PathBuf,
    /// Certificates that sign those of the agents, PEM
    #[arg(long, env = "MIZAR_TLS_CLIENT_CA")]
    pub tls_client_ca: PathBuf,
    /// Directory of the keys that sign tokens; made at the first start
    #[arg(long, env = "MIZAR_STATE_DIR")]
    pub state_dir: PathBuf,
    /// How clients name the service: for the catalog and links [default: http://LISTEN]
    #[arg(long, env = "MIZAR_PUBLIC_URL", value_parser = url)]
    pub public_url: Option<String>,
    /// Region in the catalog
    #[arg(long, env = "MIZAR_REGION", default_value = "RegionOne")]
    pub region: String,
    /// MTU of the underlay; networks get 102 less
    #[arg(long, env = "MIZAR_UNDERLAY_MTU", default_value_t = 1500, value_parser = clap::value_parser!(u32).range(1280..=65535))]
    pub underlay_mtu: u32,
    /// Seconds after which a silent host counts as lost
    #[arg(long, env = "MIZAR_LEASE_S", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub lease_s: u32,
    /// Seconds for which a token is valid
    #[arg(long, env = "MIZAR_TOKEN_TTL_S", default_value_t = 3600, value_parser = clap::value_parser!(u32).range(60..=86400))]
    pub token_ttl_s: u32,
    /// Requests that a project may make in a second, for long, at each replica; 0: any number
    #[arg(long, env = "MIZAR_REQUESTS_PER_S", default_value_t = 2000)]
    pub requests_per_s: u32,
    /// Logins that may fail in a minute from one address, at each replica; 0: any number
    #[arg(long, env = "MIZAR_FAILED_LOGINS_PER_MIN", default_value_t = 60)]
    pub failed_logins_per_min: u32,
    /// Tokens that Keystone does not know, in a minute from one address, at each replica; 0: any number
    #[arg(long, env = "MIZAR_UNKNOWN_TOKENS_PER_MIN", default_value_t = 300)]
    pub unknown_tokens_per_min: u32,
    /// Tokens that a user may get in a minute, at each replica; 0: any number
    #[arg(long, env = "MIZAR_TOKENS_PER_MIN", default_value_t = 600)]
    pub tokens_per_min: u32,
    /// Addresses of proxies whose X-Forwarded-For says who the client is
    #[arg(long, env = "MIZAR_TRUSTED_PROXIES", value_delimiter = ',')]
    pub trusted_proxies: Vec<IpAddr>,
    /// Bytes that a request's body may have
    #[arg(long, env = "MIZAR_BODY_BYTES", default_value_t = 1 << 20, value_parser = clap::value_parser!(u32).range(4096..=1 << 28))]
    pub body_bytes: u32,
    /// Form of the log's lines
    #[arg(long, env = "MIZAR_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
    /// Limits of projects that have no own, as RESOURCE=LIMIT,… (-1: none); Neutron's defaults otherwise
    #[arg(long, env = "MIZAR_QUOTAS", default_value = "")]
    pub quotas: Quotas,
    /// Announce extensions too that are only stored yet, because their data plane is missing
    #[arg(long, env = "MIZAR_ANNOUNCE_ALL")]
    pub announce_all_extensions: bool,
    /// Who says who somebody is: embedded, keystone=FILE or oidc=FILE
    #[arg(long, env = "MIZAR_IDENTITY", default_value = "embedded", value_parser = <Setting as std::str::FromStr>::from_str)]
    pub identity: Setting,
    /// File with the password of the user `admin`, who is made if there is none
    #[arg(long, env = "MIZAR_BOOTSTRAP_ADMIN_PASSWORD_FILE")]
    pub bootstrap_admin_password_file: Option<PathBuf>,
}

fn url(text: &str) -> Result<String, String> {
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    match rest {
        Some(host) if !host.is_empty() && !text.contains(['?', '#', ' ', '"']) => {
            Ok(text.trim_end_matches('/').to_owned())
        }
        _ => Err("it must begin with http:// or https:// and name a host".into()),
    }
}

impl Config {
    /// What handlers need to know.
    pub fn settings(&self) -> Settings {
        Settings {
            public_url: self.public_url.clone().unwrap_or_else(|| format!("http://{}", self.listen)),
            region: self.region.clone(),
            underlay_mtu: self.underlay_mtu,
            lease: Duration::from_secs(self.lease_s.into()),
            token_ttl: Duration::from_secs(self.token_ttl_s.into()),
            limits: Limits {
                project_per_s: self.requests_per_s,
                failed_logins_per_min: self.failed_logins_per_min,
                unknown_tokens_per_min: self.unknown_tokens_per_min,
                tokens_per_min: self.tokens_per_min,
                body_bytes: usize::try_from(self.body_bytes).unwrap_or(usize::MAX),
                trusted_proxies: self.trusted_proxies.clone(),
            },
            quotas: self.quotas.clone(),
            announce_all: self.announce_all_extensions,
        }
    }
}
