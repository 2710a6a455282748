//! The way of a packet, put together of what hosts say that they did with it. Pure.
//!
//! A host names whom it sent the packet to; that one has it from the former, as what the former sent. So nothing here believes a
//! clock, and a packet that comes to the same host again is told apart by the order in which that host saw it.

use crate::seeing::trace::End;
use mizar_wire::live::{Came, Kind, Passed, Then, Why};
use mizar_wire::trace::{At, Packet, Request, Told};
use std::net::{IpAddr, Ipv4Addr};

/// What a host is to a packet, as `trace` has it.
pub use crate::seeing::trace::ROLES;

/// Hosts that a packet is followed over at most: six hops, and two ways back.
pub const STEPS: usize = 16;

/// One host on the way.
#[derive(Clone, Debug)]
pub struct Step {
    /// Its number.
    pub host: i32,
    /// Its underlay address.
    pub at: Ipv4Addr,
    /// What it did.
    pub passed: Passed,
}

/// Where the packet must have come next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected {
    /// Underlay address of the host.
    pub at: Ipv4Addr,
    /// As what it came there.
    pub came: Came,
}

/// Where the packet was sent from here; `None`: it ended.
pub fn next(step: &Step) -> Option<Expected> {
    let (at, vni, kind) = match &step.passed.then {
        Then::Ask { host, request } => (*host, request.vni, Kind::Request),
        Then::Admit { host, admission } => (*host, admission.vni, Kind::Admission),
        Then::Direct { host, vni } => (*host, *vni, Kind::Direct),
        Then::Return { host, vni, .. } => (*host, *vni, Kind::Return),
        Then::Deny { host, vni, .. } => (*host, *vni, Kind::Denial),
        Then::Deliver { .. } | Then::Drop { .. } => return None,
    };
    Some(Expected { at, came: Came::From { host: step.at, vni, kind } })
}

/// Which of what a host did is the next step: the first that came so, is not among the steps before, and is not of a packet
/// that came by earlier, more than so long ago.
pub fn pick(expected: &Expected, said: Vec<Passed>, before: &[Step], host: i32, within_ms: u32) -> Option<Passed> {
    let is_used = |passed: &Passed| before.iter().any(|step| step.host == host && step.passed.serial == passed.serial);
    said.into_iter().find(|passed| passed.came == expected.came && passed.age_ms <= within_ms && !is_used(passed))
}

/// The request that came to a step.
fn request(steps: &[Step], number: usize) -> Option<Request> {
    match steps.get(number.checked_sub(1)?)?.passed.then {
        Then::Ask { request, .. } => Some(request),
        _ => None,
    }
}

/// What the host of a step is to the packet.
pub fn role(steps: &[Step], number: usize) -> &'static str {
    let [source, divider, bouncer, destination] = ROLES;
    match steps[number].passed.came {
        Came::Sent | Came::From { kind: Kind::Return | Kind::Denial, .. } => source,
        Came::From { kind: Kind::Admission | Kind::Direct, .. } => destination,
        Came::From { kind: Kind::Request, .. } => match steps[number].passed.then {
            // Who passes on what it got knows the bouncers; a bouncer says that it was asked already.
            Then::Ask { request: to, .. } if request(steps, number).is_some_and(|from| from.flags == to.flags) => {
                divider
            }
            _ => bouncer,
        },
    }
}

/// What happened at a step, for everybody.
pub fn says(steps: &[Step], number: usize) -> String {
    let Passed { came, inline, then, .. } = &steps[number].passed;
    let came = match came {
        Came::Sent => "the port sent it",
        Came::From { kind: Kind::Request, .. } => "it came as a question for the way",
        Came::From { kind: Kind::Admission, .. } => "it came, let in by a bouncer",
        Came::From { kind: Kind::Direct, .. } => "it came straight from its sender's host",
        Came::From { kind: Kind::Return, .. } => "it came back, and the way is asked for again",
        Came::From { kind: Kind::Denial, .. } => "it came back, refused",
    };
    let here = if *inline { "; this host is a transit host for it too" } else { "" };
    let then = match then {
        Then::Ask { .. } => match role(steps, number) {
            "source" => "its flow knows no way yet: sent to a transit host, which is asked for it".to_owned(),
            "divider" => "sent on to a bouncer of the destination".to_owned(),
            _ => "the port is not known here: sent on to the other bouncer".to_owned(),
        },
        Then::Admit { admission, .. } if admission.reply_only => {
            "no rule lets it in: sent to the destination's host in case that it is an answer".to_owned()
        }
        Then::Admit { .. } => "let in: sent to the destination's host".to_owned(),
        Then::Direct { .. } => "its flow is known: sent straight to the other side's host".to_owned(),
        Then::Return { why, .. } => {
            let why = match why {
                Why::NoFlow => "the flow is not known here",
                Why::Moved => "the port has moved",
                Why::Rules => "the rules have changed, or are not all here yet",
                Why::Identity { .. } => "the sender's rules name groups, and those of the destination are told",
            };
            format!("sent back to the sender's host: {why}")
        }
        Then::Deny { about, .. } => format!("sent back to the sender's host: {about}"),
        Then::Deliver { .. } => "delivered to the port's interface".to_owned(),
        Then::Drop { about, .. } => format!("dropped: {about}"),
    };
    format!("{came}{here}; {then}")
}

/// How the way ends that these steps are; `None`: it goes on.
pub fn end(steps: &[Step]) -> Option<End> {
    let last = steps.last()?;
    match &last.passed.then {
        Then::Deliver { port } => Some(End::Delivered { port: *port }),
        Then::Drop { reason, about } => {
            let denial = steps.iter().rev().nth(1).map(|step| &step.passed.then);
            // Its sender's host drops what another refused: why, that one said.
            let (reason, about) = match denial {
                Some(Then::Deny { reason, about, .. }) => (reason, about),
                _ => (reason, about),
            };
            let told = match reason.as_str() {
                _ if role(steps, steps.len() - 1) != ROLES[0] => None,
                "no_route" => Some(Told::NetUnreachable),
                "unreachable" => Some(Told::HostUnreachable),
                _ => None,
            };
            Some(End::Dropped { reason: reason.clone(), about: about.clone(), told })
        }
        _ if steps.len() >= STEPS => Some(End::Unknown { why: "the packet goes round in circles".into() }),
        _ => None,
    }
}

/// Types of ICMP messages that answer (RFC 792, RFC 950, RFC 8335).
const ANSWERS: [u8; 5] = [0, 14, 16, 18, 43];
/// Type and code of no question and no answer of ICMP.
const NEITHER: u16 = u16::MAX;
/// RFC 792.
const ICMP: u8 = 1;

/// The packet as hosts are asked about it; `None`: it is no packet that begins a conversation.
pub fn packet(passed: &Passed) -> Option<Packet> {
    let (IpAddr::V4(source), IpAddr::V4(destination)) = (passed.packet.source, passed.packet.destination) else {
        return None;
    };
    let protocol = passed.packet.protocol;
    let [kind, _] = passed.number.to_be_bytes();
    if protocol == ICMP && (passed.number == NEITHER || ANSWERS.contains(&kind)) {
        return None;
    }
    let source_port = passed.packet.source_port;
    Some(Packet { source, destination, protocol, source_port, destination_port: passed.number })
}

/// Where the host of a step is to be asked what it would do with such a packet, for the reasons: the tables are as they are
/// after it.
pub fn at(steps: &[Step], number: usize, port: u32) -> Option<At> {
    let step = &steps[number].passed;
    let sends = |identity, tries| Some(At::Leave { port, identity, tries });
    match step.came {
        // By now the flow is known: as if it were not.
        Came::Sent if step.inline || matches!(step.then, Then::Ask { .. }) => sends(None, 1),
        Came::Sent => sends(None, 0),
        Came::From { kind: Kind::Request, .. } => request(steps, number).map(At::Carry),
        Came::From { kind: Kind::Admission, .. } => match steps.get(number.checked_sub(1)?)?.passed.then {
            Then::Admit { admission, .. } => Some(At::Arrive(admission)),
            _ => None,
        },
        Came::From { kind: Kind::Direct, vni, host } => Some(At::Direct { vni, from: host }),
        Came::From { kind: Kind::Return, .. } => match steps.get(number.checked_sub(1)?)?.passed.then {
            Then::Return { why: Why::Identity { identity }, .. } => sends(Some(identity), 1),
            _ => None,
        },
        Came::From { kind: Kind::Denial, .. } => None,
    }
}

/// Would the host do what it did? Otherwise its reasons are those of another moment. `to_itself`: whom it would let the packet in
/// to is its own port, where it delivers in the same breath.
pub fn agrees(did: &Then, would: &mizar_wire::trace::Then, to_itself: bool) -> bool {
    use mizar_wire::trace::Then as Would;
    match (did, would) {
        (Then::Deliver { .. }, Would::Admit { .. }) => to_itself,
        (Then::Drop { reason: did, .. } | Then::Deny { reason: did, .. }, Would::Drop { reason: would, .. }) => {
            did == would
        }
        (Then::Return { why: Why::Identity { .. }, .. }, Would::Identify { .. }) => true,
        (Then::Return { why: Why::NoFlow | Why::Moved | Why::Rules, .. }, Would::Return) => true,
        (Then::Ask { .. }, Would::Ask { .. })
        | (Then::Admit { .. }, Would::Admit { .. })
        | (Then::Direct { .. }, Would::Direct { .. })
        | (Then::Deliver { .. }, Would::Deliver { .. }) => true,
        _ => false,
    }
}

#[cfg(test)]
#[path = "chain_tests.rs"]
mod tests;
