//! What this host would do with a packet, by its tables as they are.
//!
//! The decisions are `mizar_packet`'s, the same functions that the programs are made of; so is the reading of the packet, of
//! which the bytes are made here. What stands here is the order in which the programs ask, step by step as in
//! `bpf/src/egress.rs` and `bpf/src/control.rs`. Nothing is written: a traced packet makes no flow, takes no token, is counted nowhere.

use super::flows;
use super::record::Recorder;
use crate::clock;
use crate::dataplane::live::Lookup;
use mizar_abi::mapped;
use mizar_abi::maps::{
    Ep, Flow, FlowKey, RouteKind, State, UNFILTERED, VniAddress, addr_flag, ep_flag, flow_flag, identity_of,
};
use mizar_abi::option::{code, flag, verdict_epoch, verdict_set};
use mizar_abi::reason::Drop;
use mizar_packet::flow::{self, Now};
use mizar_packet::ipv4::{self, Inner, proto, tcp};
use mizar_packet::path;
use mizar_packet::policy::{InForce, Question as Asked};
use mizar_packet::transit::{self, Action, Tables as _};
use mizar_plan::Judged;
use mizar_wire::ask::FlowState;
use mizar_wire::trace::{Admission, Answer, At, Packet, Question, Request, Role, Then, Told};
use std::net::Ipv4Addr;
use uuid::Uuid;

/// Answers by these tables; `rules` names those that decide.
pub fn answer(tables: &impl Lookup, rules: &dyn Fn(&Judged) -> Vec<Uuid>, question: &Question) -> Answer {
    let recorder = Recorder::new(tables, rules);
    let then = follow(&recorder, &clock::now(), question);
    Answer { looks: recorder.into_looks(), then }
}

fn follow<L: Lookup>(tables: &Recorder<'_, L>, now: &Now, Question { packet, at }: &Question) -> Then {
    let inner = match inner(packet) {
        Ok(inner) => inner,
        Err(reason) => return drop(reason),
    };
    let end = match *at {
        At::Leave { port, identity, tries } => leave(tables, now, &inner, port, identity, tries),
        At::Carry(request) => carry(tables, &inner, request),
        At::Arrive(admission) => arrive(tables, now, &inner, admission),
        At::Direct { vni, from } => direct(tables, now, &inner, vni, from),
    };
    end.unwrap_or_else(drop)
}

/// Dropped, and nobody is told.
fn drop(reason: Drop) -> Then {
    dropped(reason, None)
}

fn dropped(reason: Drop, told: Option<Told>) -> Then {
    Then::Drop { reason: reason.name().to_owned(), about: reason.about().to_owned(), told }
}

/// The packet, as the programs read it.
fn inner(packet: &Packet) -> Result<Inner, Drop> {
    let Packet { source, destination, protocol, source_port, destination_port } = *packet;
    let ([s0, s1], [d0, d1]) = (source_port.to_be_bytes(), destination_port.to_be_bytes());
    let mut bytes = [0; 40];
    bytes[..10].copy_from_slice(&[0x45, 0, 0, 40, 0, 0, 0, 0, 64, protocol]);
    bytes[12..16].copy_from_slice(&source.octets());
    bytes[16..20].copy_from_slice(&destination.octets());
    match protocol {
        // Type, code, checksum, id.
        proto::ICMP => bytes[20..26].copy_from_slice(&[d0, d1, 0, 0, s0, s1]),
        _ => bytes[20..24].copy_from_slice(&[s0, s1, d0, d1]),
    }
    if protocol == proto::TCP {
        (bytes[32], bytes[33]) = (5 << 4, tcp::SYN);
    }
    ipv4::parse(&bytes[..], 0)
}

type Step = Result<Then, Drop>;

/// An endpoint here sends it.
fn leave<L: Lookup>(
    tables: &Recorder<'_, L>,
    now: &Now,
    inner: &Inner,
    port: u32,
    identity: Option<u32>,
    tries: u8,
) -> Step {
    let ep = endpoint(tables, port)?;
    if inner.dst[0] >= 224 {
        tables.note("EP", String::new(), "the destination is for many, or for nobody: such packets are not carried");
        return Err(Drop::Multicast);
    }
    owner(tables, &ep, port, inner.src)?;
    let force = InForce::of(&ep, tables.epoch(ep.set));
    let key = inner.tuple.sent(ep.vni);
    let mut tries = tries;
    if tries == 0
        && identity.is_none()
        && let Some(known) = known_flow(tables, now, &key, inner, port)
    {
        if known.state == State::Denied as u8 {
            tables.note("FLOW", flow_entry(&key, &known), "the flow was denied within the last second");
            return Err(Drop::FlowDenied);
        }
        let passes = force.passes(&known, flow_flag::I_INIT);
        if flow::knows_peer(&known) && passes {
            tables.note(
                "FLOW",
                flow_entry(&key, &known),
                "the flow is known: its packets go straight to the other side's host",
            );
            return Ok(Then::Direct { host: known.peer_host.into(), vni: known.peer_vni });
        }
        let says = if passes {
            "the flow waits for an answer to its first packet"
        } else {
            "the flow is known, and not all that rules say of it now: it is judged again"
        };
        tables.note("FLOW", flow_entry(&key, &known), says);
        tries = known.tries;
    } else {
        tables.note("FLOW", no_flow(&key), "no such flow is known: this is its first packet");
    }
    let needs_identity = may_open(tables, &ep, &force, inner, identity)?;
    if force.is_stateless() {
        let says = "the port's security groups are stateless: an answer needs an ingress rule of its own";
        tables.note("EPOCHS", format!("set {} flags {}", ep.set, force.flags), says);
    }
    let from = tables.route_quietly(&VniAddress::new(ep.vni, mapped(inner.src)));
    let Some(route) = tables.route(&VniAddress::new(ep.vni, mapped(inner.dst))) else {
        return Ok(dropped(Drop::NoRoute, Some(Told::NetUnreachable)));
    };
    let routed = from.is_none_or(|own| own.subnet != route.subnet);
    if routed {
        tables.note("ROUTE", String::new(), "the packet goes from one subnet to another and loses one TTL");
    }
    let hash = path::hash(inner);
    let shard = transit::shard_on(tables, &route, inner.dst, hash >> 15).ok_or(Drop::NoTransit)?;
    let chosen = transit::choose(tables, &shard, path::sender_replica(hash, tries), 0);
    let (host, _) = chosen.ok_or(Drop::NoTransit)?;
    let mut flags = if inner.opens() { flag::OPENS } else { 0 };
    flags |= if routed { flag::ROUTED } else { 0 };
    flags |= if needs_identity { flag::NEED_ID } else { 0 };
    let request =
        Request { vni: ep.vni, identity: identity_of(ep.set), flags, tries, source_port: path::source_port(hash) };
    let role = if route.kind == RouteKind::Bouncers as u32 { Role::Bouncer } else { Role::Divider };
    Ok(Then::Ask { host, role, request })
}

fn endpoint<L: Lookup>(tables: &Recorder<'_, L>, port: u32) -> Result<Ep, Drop> {
    let Some(ep) = tables.ep(port) else {
        tables.note("EP", format!("{port} = none"), "no interface of this host is the port's: it is not attached");
        return Err(Drop::NoPort);
    };
    let entry = format!("{port} = interface {} vni {} set {} generation {}", ep.ifindex, ep.vni, ep.set, ep.generation);
    if ep.flags & ep_flag::DOWN != 0 {
        tables.note("EP", entry, "the port is administratively down");
        return Err(Drop::AdminDown);
    }
    tables.note("EP", entry, "the port is attached and up");
    Ok(ep)
}

/// May the endpoint send from this address?
fn owner<L: Lookup>(tables: &Recorder<'_, L>, ep: &Ep, port: u32, source: [u8; 4]) -> Result<(), Drop> {
    let owner = tables.addr(&VniAddress::new(ep.vni, mapped(source)));
    let found = owner.map_or("none".to_owned(), |owner| format!("port {} flags {}", owner.ep_id, owner.flags));
    let entry = format!("{} in vni {} = {found}", Ipv4Addr::from(source), ep.vni);
    let own = owner.is_some_and(|o| o.ep_id == port && o.flags & (addr_flag::OWN | addr_flag::PAIR) != 0);
    let neighbours = owner.is_some_and(|o| o.ep_id != port && o.flags & addr_flag::OWN != 0);
    let any = ep.flags & ep_flag::ANY_SOURCE != 0;
    let (allowed, says) = match (any, own, neighbours) {
        (true, _, true) => (false, "the source address is another port's of this host"),
        (true, ..) => (true, "the port has no port security: it may send from any address"),
        (false, true, _) => (true, "the source address is the port's, or one of its allowed address pairs"),
        (false, false, _) => (false, "the source address is neither the port's nor one of its allowed address pairs"),
    };
    tables.note("ADDR", entry, says);
    if allowed { Ok(()) } else { Err(Drop::Spoof) }
}

fn known_flow<L: Lookup>(tables: &Recorder<'_, L>, now: &Now, key: &FlowKey, inner: &Inner, port: u32) -> Option<Flow> {
    let flow = tables.flow(key)?;
    let counts = flow::is_live(&flow, inner.proto, now) && flow.ep_id == port && !flow::reopens(&flow, inner.opens());
    counts.then_some(flow)
}

fn flow_key(key: &FlowKey) -> String {
    let (vni, protocol) = (key.vni_proto >> 8, key.vni_proto & 0xff);
    let (local, remote) = (flows::address(key.local), flows::address(key.remote));
    format!("{local} number {} and {remote} number {}, protocol {protocol}, vni {vni}", key.lport, key.rport)
}

fn no_flow(key: &FlowKey) -> String {
    format!("{} = none", flow_key(key))
}

fn flow_entry(key: &FlowKey, flow: &Flow) -> String {
    let opened = match (flow.flags & flow_flag::I_INIT != 0, flow.flags & flow_flag::R_INIT != 0) {
        (true, true) => "opened by both",
        (true, false) => "opened here",
        (false, true) => "opened by the other side",
        (false, false) => "opened by nobody known",
    };
    let state = flows::state(flow.state).map_or("in no known state", FlowState::as_str);
    let (host, set, tries) = (Ipv4Addr::from(flow.peer_host), flow.peer_identity, flow.tries);
    format!("{} = {state}, {opened}, peer at host {host} with set {set}, requests {tries}", flow_key(key))
}

/// Does egress policy let it out? True: it depends on who the destination is.
fn may_open<L: Lookup>(
    tables: &Recorder<'_, L>,
    ep: &Ep,
    force: &InForce,
    inner: &Inner,
    identity: Option<u32>,
) -> Result<bool, Drop> {
    if ep.set == UNFILTERED {
        tables.note("EP", format!("set {}", ep.set), "the port has no port security: what it sends is not filtered");
        return Ok(false);
    }
    let question = Asked {
        policy: mizar_abi::maps::egress(ep.set),
        identity: identity.unwrap_or_default(),
        remote: mapped(inner.dst),
        proto: inner.proto,
        port: inner.judged_port(),
    };
    if tables.allows(&question) {
        return Ok(false);
    }
    if identity.is_none() && force.needs_identity() {
        tables.note(
            "EPOCHS",
            format!("set {} flags {}", ep.set, force.flags),
            "egress rules name security groups: a bouncer is asked first which of them the destination is in",
        );
        return Ok(true);
    }
    if !force.is_known() {
        tables.note(
            "EPOCHS",
            format!("set {} = none", ep.set),
            "the rules of the port are not in force on its host yet",
        );
    }
    Err(Drop::Policy)
}

/// It is a request, and this host a transit host.
fn carry<L: Lookup>(tables: &Recorder<'_, L>, inner: &Inner, request: Request) -> Step {
    let me = tables.cfg().ok_or(Drop::NoTransit)?.number;
    let Request { vni, identity, flags, tries, source_port } = request;
    let asked = transit::Request {
        vni,
        src: inner.src,
        dst: inner.dst,
        proto: inner.proto,
        port: inner.judged_port(),
        identity,
        flags,
        tries,
        source_port,
    };
    let decision = transit::decide(tables, me, &asked)?;
    let onward = |role, flags| Then::Ask {
        host: decision.number,
        role,
        request: Request { vni: decision.vni, flags, ..request },
    };
    Ok(match decision.action {
        Action::Admit => Then::Admit {
            host: decision.number,
            admission: Admission {
                vni: decision.vni,
                port: decision.ep_id,
                epoch: verdict_epoch(decision.set, decision.epoch),
                mark: verdict_set(decision.set),
                reply_only: decision.reply_only,
            },
        },
        Action::Divide => onward(Role::Bouncer, flags),
        Action::Sibling => {
            tables.note("SHARD", String::new(), "this bouncer does not know the address: the other one is asked");
            onward(Role::Bouncer, flags | flag::SIBLING)
        }
        Action::Unready => {
            tables.note(
                "EPOCHS",
                String::new(),
                "the destination's rules are not all in force here yet, and those that are do not let it in: the way is asked for again",
            );
            Then::Return
        }
        Action::Identify => Then::Identify { identity: identity_of(decision.set) },
        Action::Deny(code::POLICY) => drop(Drop::Refused),
        Action::Deny(_) => dropped(Drop::Unreachable, Some(Told::HostUnreachable)),
    })
}

/// A bouncer says that the endpoint is here.
fn arrive<L: Lookup>(tables: &Recorder<'_, L>, now: &Now, inner: &Inner, admission: Admission) -> Step {
    let Admission { vni, port, epoch, mark, reply_only } = admission;
    let at = VniAddress::new(vni, mapped(inner.dst));
    let here = tables.addr(&at).is_some_and(|o| o.ep_id == port && o.flags & (addr_flag::OWN | addr_flag::PAIR) != 0);
    let ep = if here { tables.ep(port).filter(|ep| ep.vni == vni) } else { None };
    if ep.is_none() {
        let moved = tables.moved(&at).filter(|moved| moved.until > now.s && moved.host != 0);
        if let Some(moved) = moved {
            tables.note(
                "MOVED",
                format!("{} = host {}", inner_dst(inner), moved.host),
                "the port has moved: the packet follows it",
            );
            return Ok(Then::Admit { host: moved.host, admission: Admission { port: moved.ep_id, ..admission } });
        }
    }
    let ep = match ep {
        Some(_) => endpoint(tables, port)?,
        None => {
            tables.note(
                "ADDR",
                format!("{} in vni {vni} = none", inner_dst(inner)),
                "the port is bound to this host, but not attached here",
            );
            return Err(Drop::NoEndpoint);
        }
    };
    let force = InForce::of(&ep, tables.epoch(ep.set));
    if !force.counts(epoch, mark) && !force.is_young(now) {
        tables.note(
            "EPOCHS",
            format!("set {} = {}, verdict {epoch:#x}", ep.set, force.n),
            "the bouncer judged by outdated rules: the way is asked for again",
        );
        return Ok(Then::Return);
    }
    if !reply_only {
        tables.note("EP", String::new(), "the bouncer's verdict counts: the packet is delivered");
        if force.is_stateless() {
            let says = "the port's security groups are stateless: an answer needs an egress rule of its own";
            tables.note("EPOCHS", format!("set {} flags {}", ep.set, force.flags), says);
        }
        return Ok(Then::Deliver { port });
    }
    if force.is_stateless() {
        let says = "no rule lets it in, and the port's security groups are stateless: it needs one, also as an answer";
        tables.note("EPOCHS", format!("set {} flags {}", ep.set, force.flags), says);
        return Err(Drop::Refused);
    }
    let key = inner.tuple.received(vni);
    let opened = known_flow(tables, now, &key, inner, port)
        .filter(|flow| flow.flags & flow_flag::I_INIT != 0 && flow.state != State::Denied as u8);
    match opened {
        Some(flow) => {
            tables.note(
                "FLOW",
                flow_entry(&key, &flow),
                "no rule lets it in, but it answers a flow that the port opened",
            );
            Ok(Then::Deliver { port })
        }
        None => {
            tables.note("FLOW", no_flow(&key), "no rule lets it in, and it answers no flow that the port opened");
            Err(Drop::Refused)
        }
    }
}

/// It comes straight from the other side's host.
fn direct<L: Lookup>(tables: &Recorder<'_, L>, now: &Now, inner: &Inner, vni: u32, from: Ipv4Addr) -> Step {
    let key = inner.tuple.received(vni);
    let live = tables.flow(&key).filter(|flow| flow::is_live(flow, inner.proto, now));
    let Some(flow) = live.filter(|flow| flow.peer_host == from.octets() && flow.state != State::Denied as u8) else {
        tables.note(
            "FLOW",
            format!("{} of that host", no_flow(&key)),
            "the destination's host does not know the flow: the way is asked for again",
        );
        return Ok(Then::Return);
    };
    let ep = endpoint(tables, flow.ep_id)?;
    let force = InForce::of(&ep, tables.epoch(ep.set));
    let lets = force.lets(&flow, flow_flag::R_INIT);
    if force.passes(&flow, flow_flag::R_INIT) || lets && force.tolerates(&flow, now) {
        tables.note(
            "FLOW",
            flow_entry(&key, &flow),
            "the flow is known here too, and allowed: the packet is delivered",
        );
        return Ok(Then::Deliver { port: flow.ep_id });
    }
    let says = if lets {
        "the flow is of rules that have changed since, and nobody has confirmed it: the way is asked for again"
    } else {
        "the port's security groups are stateless, and no rule has let this in yet: the way is asked for again"
    };
    tables.note("FLOW", flow_entry(&key, &flow), says);
    Ok(Then::Return)
}

fn inner_dst(inner: &Inner) -> Ipv4Addr {
    inner.dst.into()
}

#[cfg(test)]
#[path = "trace_tests.rs"]
mod tests;
