//! Records of a host's flow log, as they travel to the API.
//!
//! A record tells of a flow from its first packet on: its counts are those of the whole flow so far, so the last record of
//! a flow says everything, and one that is lost takes nothing with it.

use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use uuid::Uuid;

/// Records of an answer at most.
pub const READ: u32 = 500;

/// A record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Logged {
    /// Number of the port.
    pub port: u32,
    /// Its first packet, by the host's clock: milliseconds of Unix time.
    pub start_ms: i64,
    /// Its last one so far.
    pub end_ms: i64,
    /// Who sent the first packet.
    pub direction: Direction,
    /// Of whoever that was.
    pub source: IpAddr,
    /// The other side's address.
    pub destination: IpAddr,
    /// IP protocol.
    pub protocol: u8,
    /// Source port; of protocols without ports, 0. Of ICMP both are made of the id.
    pub source_port: u16,
    /// Destination port.
    pub destination_port: u16,
    /// What rules judge: the destination port, or type and code of an ICMP message as upper and lower byte.
    pub judged: u16,
    /// May it pass?
    pub verdict: Verdict,
    /// If not, or not any more: the name of the reason, as packets are dropped for it.
    pub reason: Option<String>,
    /// Whose rules said so; `None`: nobody's, as for a port without port security.
    pub decided_by: Option<Decider>,
    /// The rules that let it pass; empty: none does. `None`: the host does not have those that decided.
    pub rules: Option<Vec<Uuid>>,
    /// Packets that the port sent.
    pub packets_out: u64,
    /// Bytes of them, as IP packets.
    pub bytes_out: u64,
    /// Packets that the port got.
    pub packets_in: u64,
    /// Bytes of them.
    pub bytes_in: u64,
    /// Why no packets are counted any more; `None`: they are.
    pub ended: Option<Ended>,
}

macro_rules! words { ($($(#[$doc:meta])* $name:ident[$count:literal] { $($(#[$about:meta])* $variant:ident = $word:literal,)* })*) => { $(
    $(#[$doc])*
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
    #[serde(rename_all = "snake_case")]
    pub enum $name { $($(#[$about])* $variant,)* }

    impl $name {
        /// All.
        pub const ALL: [Self; $count] = [$(Self::$variant,)*];

        /// As it is written.
        pub const fn as_str(self) -> &'static str {
            match self { $(Self::$variant => $word,)* }
        }
    }
)* }; }

words! {
    /// Who sent the first packet of a flow.
    Direction[2] {
        /// The port.
        Egress = "egress",
        /// The other side.
        Ingress = "ingress",
    }
    /// What policy says of a flow.
    Verdict[2] {
        /// Nobody refused it. (That somebody let it in, only packets that came back can tell.)
        Accept = "accept",
        /// It was refused, before anything passed.
        Deny = "deny",
    }
    /// Whose rules said so.
    Decider[3] {
        /// The port's egress rules, at its host.
        Port = "port",
        /// The port's ingress rules, at a bouncer of its address or at its host.
        Bouncer = "bouncer",
        /// The other side's ingress rules.
        Peer = "peer",
    }
    /// How a flow ended.
    Ended[6] {
        /// Both sides have finished, or one has broken it off.
        Closed = "closed",
        /// Nothing passed for as long as a flow of its protocol lives.
        TimedOut = "timed_out",
        /// It was refused, and is not tried any more.
        Denied = "denied",
        /// It was refused after it had been allowed.
        Revoked = "revoked",
        /// Another flow between the same ports took its place.
        Replaced = "replaced",
        /// The host had no place for its counts any more: they are of a moment before.
        Evicted = "evicted",
    }
}
