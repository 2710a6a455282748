//! Configuration: flags, each with an environment variable; a wrong one ends the program before
//! it connects to anything.

use clap::Parser;
use std::net::SocketAddr;
use std::time::Duration;

/// Places transit roles on hosts.
#[derive(Clone, Debug, Parser)]
#[command(name = "mizar-scheduler", version)]
pub struct Config {
    /// PostgreSQL, as `postgres://user@host/database`; its sslmode and sslrootcert are libpq's.
    #[arg(long, env = "MIZAR_DATABASE_URL", hide_env_values = true)]
    pub database_url: String,
    /// Ports of a subnet that one pair of bouncers holds on average before it is split.
    #[arg(long, env = "MIZAR_SHARD_PORTS", default_value_t = 250, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub shard_ports: u32,
    /// Dividers of a network.
    #[arg(long, env = "MIZAR_DIVIDERS", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=64))]
    pub dividers: u8,
    /// Seconds that a host may be silent before it counts as lost; the same as the API's.
    #[arg(long, env = "MIZAR_LEASE_S", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub lease_s: u32,
    /// Hours after which a new cluster key is drawn.
    #[arg(long, env = "MIZAR_KEY_ROTATION_H", default_value_t = 24, value_parser = clap::value_parser!(u32).range(1..=8760))]
    pub key_rotation_h: u32,
    /// Days for which audit events are kept, 30 at least [default: for ever].
    #[arg(long, env = "MIZAR_AUDIT_DAYS", value_parser = clap::value_parser!(u32).range(30..=36_500))]
    pub audit_days: Option<u32>,
    /// Where operators read metrics, without authentication: loopback or a management network [default: nowhere].
    #[arg(long, env = "MIZAR_OPERATOR_LISTEN")]
    pub operator_listen: Option<SocketAddr>,
}

/// What the loops go by.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Ports per shard.
    pub shard_ports: u32,
    /// Dividers per network.
    pub dividers: usize,
    /// How long a host may be silent.
    pub lease: Duration,
    /// How long a role that is no longer listed forwards at least.
    pub drain: Duration,
    /// How long a cluster key signs.
    pub key_rotation: Duration,
    /// How long the former host of a port forwards to its new one.
    pub moved: Duration,
    /// How long an include is unused before it goes.
    pub unused: Duration,
    /// How long no port has had a combination of security groups before its number is forgotten.
    pub sets: Duration,
    /// How long a tombstone is kept.
    pub tombstones: Duration,
    /// How often tombstones are collected.
    pub collection: Duration,
    /// Between two audits, in which everything is compared with what it should be.
    pub audit: Duration,
    /// Of the time of an audit one part in this many is work, the rest is rest.
    pub audit_part: u32,
    /// Days for which audit events are kept; `None`: for ever.
    pub audit_days: Option<u32>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            shard_ports: 250,
            dividers: 2,
            lease: Duration::from_secs(30),
            drain: Duration::from_secs(1),
            key_rotation: Duration::from_secs(24 * 3600),
            moved: Duration::from_secs(5 * 60),
            unused: Duration::from_secs(3600),
            // Longer than any flow stands still (RFC 5382: 2 h 4 min): a flow knows its other side by that number.
            sets: Duration::from_secs(3 * 3600),
            tombstones: Duration::from_secs(24 * 3600),
            collection: Duration::from_secs(3600),
            audit: Duration::from_secs(600),
            audit_part: 100,
            audit_days: None,
        }
    }
}

impl From<&Config> for Settings {
    fn from(config: &Config) -> Self {
        Self {
            shard_ports: config.shard_ports,
            dividers: config.dividers.into(),
            lease: Duration::from_secs(config.lease_s.into()),
            key_rotation: Duration::from_secs(u64::from(config.key_rotation_h) * 3600),
            audit_days: config.audit_days,
            ..Self::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Config, clap::Error> {
        Config::try_parse_from(["mizar-scheduler", "--database-url", "postgres://x"].iter().chain(args))
    }

    #[test]
    fn a_shard_of_no_ports_is_refused() {
        let error = parse(&["--shard-ports", "0"]).expect_err("zero").to_string();
        assert!(error.contains("--shard-ports"), "{error}");
    }

    #[test]
    fn an_audit_log_of_a_week_is_refused() {
        let error = parse(&["--audit-days", "7"]).expect_err("a week").to_string();
        assert!(error.contains("--audit-days"), "{error}");
        assert_eq!(Settings::from(&parse(&["--audit-days", "400"]).expect("valid")).audit_days, Some(400));
    }

    #[test]
    fn settings_follow_the_flags() {
        let config = parse(&["--shard-ports", "4", "--dividers", "3", "--lease-s", "5"]).expect("valid");
        let settings = Settings::from(&config);
        assert_eq!((settings.shard_ports, settings.dividers, settings.lease), (4, 3, Duration::from_secs(5)));
    }
}
