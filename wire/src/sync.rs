//! Registration, sync and snapshot between agent and API (CONTROLPLANE section 7).
//!
//! Paths, on the agents' own listener with mutual TLS (the certificate's SAN URI
//! `mizar://host/NAME` must equal the host in the path):
//! - `PUT  /agent/v1/hosts/{name}`: [`Register`] -> [`Registered`]
//! - `POST /agent/v1/hosts/{name}/sync`: [`SyncRequest`] -> [`SyncReply`]
//! - `GET  /agent/v1/hosts/{name}/snapshot?after=KEY&limit=5000` -> [`SnapshotPage`]

use crate::entry::Change;
use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;

/// Version of this protocol.
pub const PROTOCOL: u32 = 2;

/// What a host says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Register {
    /// [`PROTOCOL`].
    pub protocol: u32,
    /// `mizar_abi::ABI`.
    pub abi: u32,
    /// The kernel's boot id.
    pub boot_id: String,
    /// Version of the agent, for people.
    pub version: String,
    /// Address of its uplink.
    pub underlay: Ipv4Addr,
    /// MTU of its uplink, bytes.
    pub mtu: u32,
    /// Availability zone.
    pub az: String,
    /// Rack within the zone.
    pub rack: String,
    /// `xdp` or `tcx`: where transit runs.
    pub transit_hook: String,
}

/// The answer to [`Register`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Registered {
    /// The host's number.
    pub number: u32,
    /// Seconds that a lease lasts without a sync.
    pub lease_s: u32,
}

/// An entry that could not be applied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Failure {
    /// As in [`Change`].
    pub scope: i64,
    /// As in [`Change`].
    pub kind: i16,
    /// As in [`Change`].
    pub key: String,
    /// What is wrong, for people.
    pub reason: String,
}

/// Everything up to `cursor` is in force on the host, but `failures`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ack {
    /// The cursor of the reply that was applied.
    pub cursor: String,
    /// What was not.
    pub failures: Vec<Failure>,
}

/// A port's interface on this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PortWiring {
    /// Number of the port.
    pub port: u32,
    /// Generation of the binding that was wired.
    pub generation: u32,
}

/// What changed on the host's interfaces since the last sync that was answered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ports {
    /// The interface exists, its program is attached, its map entries are written.
    pub wired: Vec<PortWiring>,
    /// The interface is gone.
    pub lost: Vec<PortWiring>,
}

/// A long poll.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SyncRequest {
    /// [`PROTOCOL`].
    pub protocol: u32,
    /// `mizar_abi::ABI`.
    pub abi: u32,
    /// The kernel's boot id.
    pub boot_id: String,
    /// Epoch of the feed that `cursor` belongs to; `None` before the first snapshot.
    pub epoch: Option<String>,
    /// Changes after this are wanted; `None` asks for 410 and so for a snapshot.
    pub cursor: Option<String>,
    /// Seconds to wait for news, at most 30; 0 answers at once.
    pub wait_s: u32,
    /// What is in force.
    pub ack: Option<Ack>,
    /// News of interfaces.
    pub ports: Ports,
    /// True in the first sync after the agent's start: `ports.wired` is complete, and what is not
    /// in it is lost.
    pub ports_complete: bool,
}

/// The answer to a long poll.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SyncReply {
    /// Epoch of the feed.
    pub epoch: String,
    /// The next cursor; also when nothing changed.
    pub cursor: String,
    /// Unix time of the server, milliseconds: the agent warns if its clock is off by over 2 s.
    pub server_ms: i64,
    /// Upserts and removals, in no particular order; within one scope a key occurs once.
    pub changes: Vec<Change>,
    /// Scopes that the host receives from now on: each arrives whole in `changes`. A scope with
    /// slots arrives as the ranges in `ranges` say.
    pub scopes_added: Vec<ScopeRange>,
    /// Scopes (or ranges) that it no longer receives: all their entries are gone.
    pub scopes_dropped: Vec<ScopeRange>,
}

/// A scope, or a range of its slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScopeRange {
    /// [`crate::Scope::to_i64`].
    pub scope: i64,
    /// First slot.
    pub lo: u16,
    /// Last slot.
    pub hi: u16,
}

/// One page of everything that a host needs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SnapshotPage {
    /// Epoch of the feed.
    pub epoch: String,
    /// Cursor of this page; the first page's is the one to sync from.
    pub cursor: String,
    /// Every scope that the host receives (the same in every page).
    pub scopes: Vec<ScopeRange>,
    /// Entries by scope, slot, kind and key; never with an empty body.
    pub entries: Vec<Change>,
    /// Give this as `after` for the next page; `None` = this was the last.
    pub next: Option<String>,
    /// The operator confirmed that over half of the host's ports may go.
    pub confirmed: bool,
}
