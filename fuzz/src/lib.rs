//! What holds for whatever bytes.
//!
//! A target takes bytes, does with them what a host does with a stranger's, and panics where something
//! is not as it must be. Two things feed targets: the tests of this crate for some seconds in every
//! run, and libFuzzer, which looks where the code branches, for as long as anybody likes (README.md).
//!
//! Frames through the kernel programs themselves are dataplane-tests' (`isolation`).

mod decisions;
mod flows;
mod input;
mod messages;
mod packets;

/// Something that takes bytes.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// As the program is named.
    pub name: &'static str,
    /// Panics where something is not as it must be.
    pub run: fn(&[u8]),
    /// Where to begin: bytes with which much is right.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// Frames of the underlay and of endpoints, parsed.
pub const PACKETS: Target = Target { name: "packets", run: packets::run, seeds: packets::seeds };
/// A flow, and all that can happen to it.
pub const FLOWS: Target = Target { name: "flows", run: flows::run, seeds: flows::seeds };
/// What transit decides, with whatever tables.
pub const DECISIONS: Target = Target { name: "decisions", run: decisions::run, seeds: decisions::seeds };
/// Texts as messages of the agents' protocol.
pub const MESSAGES: Target = Target { name: "messages", run: messages::run, seeds: messages::seeds };

/// All of them.
pub const TARGETS: [Target; 4] = [PACKETS, FLOWS, DECISIONS, MESSAGES];
