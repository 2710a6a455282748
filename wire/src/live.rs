//! Following one real packet, which bears a mark from its sender's host on.
//!
//! Who asks says which packet of a port it waits for ([`Watch`]), and asks again until that has come: the same question, which
//! arms the watch once, however often it is read. The first packet that fits is marked by the sender's host, and every host that
//! it comes to remembers for a minute what it did with it ([`Passed`]). Who asks goes from host to host ([`Followed`]), as the
//! packet did.

use crate::ask::Headers;
use crate::trace::{Admission, Request};
use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;
use uuid::Uuid;

/// Milliseconds that a packet can be waited for: less than the minute after which proxies give up.
pub const WAIT_MS: u32 = 50_000;
/// Answers to [`Followed`] at most.
pub const PASSED: usize = 32;

/// A packet of a port that is waited for: the first one that fits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Watch {
    /// Names the watch.
    pub id: Uuid,
    /// Number of the port.
    pub port: u32,
    /// Whose port it is: of one owner's a host waits for a few at once.
    pub owner: Uuid,
    /// Source address, if it matters; so are the next ones.
    pub source: Option<Ipv4Addr>,
    /// Destination address.
    pub destination: Ipv4Addr,
    /// IP protocol.
    pub protocol: Option<u8>,
    /// Source port.
    pub source_port: Option<u16>,
    /// Destination port; of ICMP type and code, as upper and lower byte.
    pub destination_port: Option<u16>,
    /// Milliseconds for which it is waited yet, at most [`WAIT_MS`].
    pub within_ms: u32,
}

/// A packet that is followed, at a host that it was sent to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Followed {
    /// What tells it apart.
    pub packet: Headers,
}

/// What a host did with a packet that bears the mark.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Passed {
    /// Rises with each of a host.
    pub serial: u64,
    /// When, by the host's clock: microseconds of Unix time.
    pub at_us: i64,
    /// How long ago.
    pub age_ms: u32,
    /// The packet. Ports as flows have them: of ICMP both are made of the id.
    pub packet: Headers,
    /// What rules judge of the conversation that it opens or is part of: the destination port, or type and code of an ICMP
    /// message as upper and lower byte; 65535 of one that is no question and no answer.
    pub number: u16,
    /// As what it came.
    pub came: Came,
    /// The sender's own host was its transit host too.
    pub inline: bool,
    /// What became of it.
    pub then: Then,
}

/// As what a packet came to a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Came {
    /// An endpoint of the host sent it.
    Sent,
    /// By the underlay.
    From {
        /// Underlay address of the host that sent it.
        host: Ipv4Addr,
        /// Outer VNI.
        vni: u32,
        /// What it was.
        kind: Kind,
    },
}

/// What a packet is between hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// To a transit host: find the endpoint, and judge.
    Request,
    /// To the endpoint's host: a bouncer lets it in.
    Admission,
    /// Straight to the other side's host.
    Direct,
    /// Back to the sender's host, which asks for the way again.
    Return,
    /// Back to the sender's host: refused.
    Denial,
}

/// What became of a packet at a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Then {
    /// To a transit host, as a request.
    Ask {
        /// Underlay address of the host, as in the next ones.
        host: Ipv4Addr,
        /// What was written.
        request: Request,
    },
    /// To the endpoint's host.
    Admit {
        /// The host.
        host: Ipv4Addr,
        /// What was written.
        admission: Admission,
    },
    /// Straight to the other side's host.
    Direct {
        /// The host.
        host: Ipv4Addr,
        /// Outer VNI.
        vni: u32,
    },
    /// Back to the sender's host.
    Return {
        /// The host.
        host: Ipv4Addr,
        /// Outer VNI.
        vni: u32,
        /// Why.
        why: Why,
    },
    /// Back to the sender's host, which drops it.
    Deny {
        /// The host.
        host: Ipv4Addr,
        /// Outer VNI.
        vni: u32,
        /// Name of the reason, as drops have it.
        reason: String,
        /// What it means, for people.
        about: String,
    },
    /// Out of the endpoint's interface.
    Deliver {
        /// Number of the port.
        port: u32,
    },
    /// It ends here.
    Drop {
        /// Name of the reason, as drops have it.
        reason: String,
        /// What it means, for people.
        about: String,
    },
}

/// Why a packet goes back to its sender's host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// The host knows no such flow.
    NoFlow,
    /// The endpoint has moved.
    Moved,
    /// Rules have changed, or not all of them are there.
    Rules,
    /// The sender's rules name groups: the destination's are told.
    Identity {
        /// Their set.
        identity: u32,
    },
}

impl Passed {
    /// Is nothing in it longer than it may be? `short` says so of a text.
    pub(crate) fn fits(&self, short: impl Fn(&String) -> bool) -> bool {
        match &self.then {
            Then::Deny { reason, about, .. } | Then::Drop { reason, about } => short(reason) && short(about),
            _ => true,
        }
    }
}
