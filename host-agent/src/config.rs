//! Settings: flags, or `MIZAR_*` in the environment. Unknown flags are refused; secrets are paths.

use clap::{Parser, ValueEnum};
use std::net::SocketAddr;
use std::path::PathBuf;

/// Where the transit role runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TransitHook {
    /// XDP, but tcx on a veth: XDP there turns off the peer's segmentation offload.
    Auto,
    /// Native XDP in front of tcx; refuses to start where the driver cannot.
    Xdp,
    /// tcx alone.
    Tcx,
}

/// The agent of a host: programs the data plane, attaches ports.
#[derive(Clone, Debug, Parser)]
#[command(name = "mizar-agent", version)]
pub struct Config {
    /// Name of this host, as the API and `binding:host_id` call it.
    #[arg(long, env = "MIZAR_HOST")]
    pub host: String,
    /// Agents' listener of the API, such as `https://192.0.2.1:9697`.
    #[arg(long, env = "MIZAR_API")]
    pub api: String,
    /// Certificates that the API's must be signed by (PEM).
    #[arg(long, env = "MIZAR_CA")]
    pub ca: PathBuf,
    /// This host's certificate, with SAN URI `mizar://host/NAME` (PEM).
    #[arg(long, env = "MIZAR_CERT")]
    pub cert: PathBuf,
    /// Its private key (PEM).
    #[arg(long, env = "MIZAR_KEY")]
    pub key: PathBuf,
    /// Interface towards the underlay.
    #[arg(long, env = "MIZAR_UPLINK")]
    pub uplink: String,
    /// Availability zone.
    #[arg(long, env = "MIZAR_AZ", default_value = "default")]
    pub az: String,
    /// Rack within the zone.
    #[arg(long, env = "MIZAR_RACK", default_value = "default")]
    pub rack: String,
    /// Directory of the ledger.
    #[arg(long, env = "MIZAR_STATE_DIR", default_value = "/var/lib/mizar")]
    pub state_dir: PathBuf,
    /// Directory for pinned programs, maps and links; a bpffs is mounted there if there is none.
    #[arg(long, env = "MIZAR_BPFFS", default_value = "/run/mizar/bpffs")]
    pub bpffs: PathBuf,
    /// Unix socket of attach, detach, status and dump.
    #[arg(long, env = "MIZAR_SOCKET", default_value = "/run/mizar/agent.sock")]
    pub socket: PathBuf,
    /// Where operators read metrics, without authentication: loopback or a management network [default: nowhere].
    #[arg(long, env = "MIZAR_OPERATOR_LISTEN")]
    pub operator_listen: Option<SocketAddr>,
    /// Where the transit role runs.
    #[arg(long, env = "MIZAR_TRANSIT_HOOK", value_enum, default_value = "auto")]
    pub transit_hook: TransitHook,
    /// Established flows that the host can hold. Takes effect when the maps are made.
    #[arg(long, env = "MIZAR_FLOW_ENTRIES", default_value_t = 131_072, value_parser = clap::value_parser!(u32).range(1024..=16_777_216))]
    pub flow_entries: u32,
    /// Of so many flows one is logged, the same at both ends; 0: none is.
    #[arg(long, env = "MIZAR_FLOW_LOG_SAMPLE", default_value_t = 1)]
    pub flow_log_sample: u32,
    /// Flows of one port, direction and verdict that are logged in a second, in the long run; ten times as many at once.
    #[arg(long, env = "MIZAR_FLOW_LOG_RATE", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub flow_log_rate: u32,
    /// Size to which a file of the flow log grows, MiB.
    #[arg(long, env = "MIZAR_FLOW_LOG_MIB", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub flow_log_mib: u32,
    /// Full files of the flow log that are kept, beside the one that grows.
    #[arg(long, env = "MIZAR_FLOW_LOG_FILES", default_value_t = 4, value_parser = clap::value_parser!(u32).range(0..=1_000))]
    pub flow_log_files: u32,
    /// eBPF object; the one built into the agent, unless given.
    #[arg(long, env = "MIZAR_BPF_OBJECT")]
    pub bpf_object: Option<PathBuf>,
}

/// Why a setting is refused.
#[derive(Debug, thiserror::Error)]
#[error("{flag}: {reason}")]
pub struct ConfigError {
    /// The flag.
    pub flag: &'static str,
    /// What is wrong, and what is expected.
    pub reason: String,
}

impl Config {
    /// What clap cannot check. Nothing was opened or bound yet.
    pub fn check(&self) -> Result<(), ConfigError> {
        let refuse = |flag, reason: &str| Err(ConfigError { flag, reason: reason.to_owned() });
        let plain = |text: &str| {
            (1..=253).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
        };
        for (flag, text) in [("--host", &self.host), ("--az", &self.az), ("--rack", &self.rack)] {
            if !plain(text) {
                return refuse(flag, "must be 1 to 253 letters, digits, '-', '.' or '_'");
            }
        }
        if !self.api.starts_with("https://") {
            return refuse("--api", "must begin with https://, for hosts prove who they are by certificate");
        }
        if self.uplink.is_empty() || self.uplink.len() > 15 {
            return refuse("--uplink", "must be an interface name of 1 to 15 bytes");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(extra: &[&str]) -> Result<Config, String> {
        let base = [
            "mizar-agent",
            "--host",
            "h1",
            "--api",
            "https://192.0.2.1:1",
            "--ca",
            "a",
            "--cert",
            "b",
            "--key",
            "c",
            "--uplink",
            "eth0",
        ];
        let config = Config::try_parse_from(base.iter().chain(extra)).map_err(|e| e.to_string())?;
        config.check().map_err(|e| e.to_string())?;
        Ok(config)
    }

    #[test]
    fn settings_have_defaults_and_bounds() {
        let config = parse(&[]).unwrap();
        assert_eq!((config.transit_hook, config.flow_entries), (TransitHook::Auto, 131_072));
        assert_eq!((config.flow_log_sample, config.flow_log_rate), (1, 50));
        assert!(parse(&["--flow-log-rate", "0"]).unwrap_err().contains("flow-log-rate"));
        assert!(parse(&["--flow-entries", "0"]).unwrap_err().contains("flow-entries"));
        assert!(parse(&["--transit-hook", "generic"]).unwrap_err().contains("transit-hook"));
        assert!(parse(&["--az", "a/b"]).unwrap_err().contains("--az"));
        assert!(parse(&["--flag-nobody-knows", "1"]).is_err());
    }
}
