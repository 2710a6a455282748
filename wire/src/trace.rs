//! Following a packet through the tables of the hosts on its way, one host at a time.
//!
//! Nothing is sent. Each host is asked what it would do with the packet, looks at its own tables by the very functions
//! that the kernel programs are made of, and says what it looked up, what it decided, and where the packet goes next. Who
//! asks then asks that host. So a trace shows what is in force, on each host, at this moment, rather than what should be.

use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;
use uuid::Uuid;

/// Looks of one answer at most.
pub const LOOKS: usize = 64;
/// Rules that one look names at most.
pub const RULES: usize = 16;

/// The packet that is followed: one that begins a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Packet {
    /// Source address.
    pub source: Ipv4Addr,
    /// Destination address.
    pub destination: Ipv4Addr,
    /// IP protocol. Of TCP it is a SYN.
    pub protocol: u8,
    /// Source port; of ICMP the id; 0 where the protocol has none.
    pub source_port: u16,
    /// Destination port; of ICMP type and code, as upper and lower byte.
    pub destination_port: u16,
}

/// Where the packet is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Question {
    /// The packet.
    pub packet: Packet,
    /// Where it is.
    pub at: At,
}

/// Where a packet is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum At {
    /// An endpoint of the host sends it.
    Leave {
        /// Number of the port.
        port: u32,
        /// What a bouncer said of the destination: the set of its security groups.
        identity: Option<u32>,
        /// Requests before, after which the way is asked for whatever flows are known.
        tries: u8,
    },
    /// It comes as a request, to be judged or passed on.
    Carry(Request),
    /// It comes for an endpoint of the host, admitted by a bouncer.
    Arrive(Admission),
    /// It comes for an endpoint of the host, straight from its sender's host.
    Direct {
        /// VNI of the destination's network.
        vni: u32,
        /// Underlay address of the sender's host.
        from: Ipv4Addr,
    },
}

/// A request, as transit hosts get it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// Outer VNI.
    pub vni: u32,
    /// Set of security groups of the sender.
    pub identity: u32,
    /// Flags of the option.
    pub flags: u8,
    /// Tries before.
    pub tries: u8,
    /// Outer source port.
    pub source_port: u16,
}

/// A bouncer's verdict, as the endpoint's host gets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Admission {
    /// Outer VNI.
    pub vni: u32,
    /// Number of the port.
    pub port: u32,
    /// Set and generation of the rules that judged.
    pub epoch: u32,
    /// More of the set.
    pub mark: u8,
    /// They did not let it in; it may still be an answer.
    pub reply_only: bool,
}

/// What a host would do, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// What was looked at, in order; at most [`LOOKS`].
    pub looks: Vec<Look>,
    /// What follows.
    pub then: Then,
}

/// One look at a table, and what it means.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Look {
    /// Name of the table.
    pub table: String,
    /// What was looked up, and what was found there: for operators, because it names hosts.
    pub entry: String,
    /// What it means, for everybody.
    pub says: String,
    /// Rules of security groups that decided; at most [`RULES`].
    pub rules: Vec<Uuid>,
}

/// Where the packet goes next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Then {
    /// To a transit host, as a request.
    Ask {
        /// Number of the host.
        host: u32,
        /// What the host is to the packet.
        role: Role,
        /// What is written.
        request: Request,
    },
    /// Back to the sender's host, which wants to know whom the packet is for.
    Identify {
        /// Set of security groups of the destination.
        identity: u32,
    },
    /// Back to the sender's host, which asks for the way anew.
    Return,
    /// To the endpoint's host.
    Admit {
        /// Number of the host.
        host: u32,
        /// What is written.
        admission: Admission,
    },
    /// Straight to the endpoint's host: the flow is known.
    Direct {
        /// Underlay address of the host.
        host: Ipv4Addr,
        /// VNI of the destination's network.
        vni: u32,
    },
    /// Into the endpoint.
    Deliver {
        /// Number of the port.
        port: u32,
    },
    /// Nowhere.
    Drop {
        /// Name of the reason.
        reason: String,
        /// What it means, for people.
        about: String,
        /// The ICMP error that the sender gets; `None` = it hears nothing.
        told: Option<Told>,
    },
}

/// What a transit host is to a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// It knows where addresses of the destination's subnet are, and judges.
    Bouncer,
    /// It knows the bouncers of all subnets of the network.
    Divider,
}

/// An ICMP error, as the network's router would send it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Told {
    /// Type 3, code 0.
    NetUnreachable,
    /// Type 3, code 1.
    HostUnreachable,
}

impl Answer {
    /// Is nothing in it longer than it may be? `short` says so of a text.
    pub(crate) fn fits(&self, short: impl Fn(&String) -> bool) -> bool {
        let look =
            |look: &Look| [&look.table, &look.entry, &look.says].into_iter().all(&short) && look.rules.len() <= RULES;
        let end = match &self.then {
            Then::Drop { reason, about, .. } => short(reason) && short(about),
            _ => true,
        };
        end && self.looks.len() <= LOOKS && self.looks.iter().all(look)
    }
}
