//! The agent's local socket: what CNI plugins, VM orchestrators and `./dev` call.
//!
//! One JSON value a line, answered by one line, over a Unix stream socket (mode 0660); a
//! connection may carry any number of calls. Enums are tagged from outside
//! (`{"attach":{"port":"…","kind":{"container":{"netns":"/run/netns/x","ifname":"eth0"}}}}`,
//! `"status"`): serde's inner tags and `flatten` let unknown fields pass.

use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use uuid::Uuid;

/// A call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Call {
    /// Makes the port's interface and wires it; waits up to 10 s for the port's entry. Repeating
    /// it changes nothing.
    Attach {
        /// The port.
        port: Uuid,
        /// What to make.
        kind: AttachKind,
    },
    /// Removes the interface. Succeeds when there is none.
    Detach {
        /// The port.
        port: Uuid,
    },
    /// What the agent holds.
    Status,
    /// Everything desired, as entries, and everything in the maps, as text: for operators.
    Dump,
}

/// What an endpoint is attached to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum AttachKind {
    /// A veth, its inner end moved into a namespace and configured there.
    Container {
        /// Path of the network namespace, such as `/run/netns/x`.
        netns: String,
        /// Name of the interface inside.
        ifname: String,
    },
    /// A tap for a virtual machine; the guest configures itself by DHCP.
    Tap,
    /// A veth with both ends in the host's own namespace.
    Host {
        /// Name of the inner end.
        ifname: String,
    },
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Answer {
    /// The endpoint is wired.
    Attached(Attached),
    /// The endpoint is gone.
    Detached,
    /// The agent's state.
    Status(Status),
    /// Entries and maps.
    Dump(serde_json::Value),
    /// The call failed; nothing was left behind.
    Error {
        /// What happened and what to do.
        message: String,
    },
}

/// An endpoint as it was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attached {
    /// The port.
    pub port: Uuid,
    /// Interface on the host's side: `tap` and the first 11 characters of the port's id.
    pub host_ifname: String,
    /// MAC of the endpoint.
    pub mac: String,
    /// Bytes.
    pub mtu: u32,
    /// Addresses with their prefix lengths.
    pub addresses: Vec<ipnet::IpNet>,
    /// Default gateway.
    pub gateway: Option<IpAddr>,
    /// Microseconds that this call waited for the port's entry, its interface being there.
    pub waited_us: u64,
}

/// What `./dev status` and operators see of an agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Status {
    /// Name of the host.
    pub host: String,
    /// Its number, once registered.
    pub number: Option<u32>,
    /// Cursor in force.
    pub cursor: Option<String>,
    /// Entries in the ledger.
    pub entries: usize,
    /// Entries that could not be applied, with reasons.
    pub failures: Vec<String>,
    /// Seconds since the API last answered; `None` = never.
    pub api_seen_s: Option<u64>,
    /// Ports wired on this host.
    pub ports: Vec<Uuid>,
    /// `xdp` or `tcx`.
    pub transit_hook: String,
    /// Counters by name, this host.
    pub counters: std::collections::BTreeMap<String, u64>,
    /// Drops by reason, all ports.
    pub drops: std::collections::BTreeMap<String, u64>,
    /// Entries of each map by name.
    pub maps: std::collections::BTreeMap<String, usize>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_what_the_module_says() {
        let port = Uuid::nil();
        let kind = AttachKind::Container { netns: "/run/netns/x".into(), ifname: "eth0".into() };
        let text = r#"{"attach":{"port":"00000000-0000-0000-0000-000000000000","kind":{"container":{"netns":"/run/netns/x","ifname":"eth0"}}}}"#;
        assert_eq!(serde_json::to_string(&Call::Attach { port, kind: kind.clone() }).unwrap(), text);
        assert_eq!(serde_json::from_str::<Call>(text).unwrap(), Call::Attach { port, kind });
        assert_eq!(serde_json::to_string(&Call::Status).unwrap(), r#""status""#);
        assert_eq!(serde_json::to_string(&AttachKind::Tap).unwrap(), r#""tap""#);
    }

    #[test]
    fn unknown_fields_are_refused_at_every_level() {
        for bad in [
            r#"{"attach":{"port":"00000000-0000-0000-0000-000000000000","kind":"tap","mtu":9000}}"#,
            r#"{"attach":{"port":"00000000-0000-0000-0000-000000000000","kind":{"host":{"ifname":"a","x":1}}}}"#,
            r#"{"detach":{"port":"00000000-0000-0000-0000-000000000000","force":true}}"#,
            r#"{"detach":{"port":"no uuid"}}"#,
            r#"{"status":{"x":1}}"#,
            r#""reboot""#,
        ] {
            assert!(serde_json::from_str::<Call>(bad).is_err(), "{bad}");
        }
    }
}
