//! Packets that are followed: which are waited for, and what programs here did with those that bear the mark.
//!
//! [`Book`] knows nothing of maps; [`Watches`] writes what it says into them.

use crate::clock;
use crate::core::{Shared, chain};
use crate::dataplane::marks::Marks;
use crate::dataplane::{Pins, PlaneError, raw_hop};
use mizar_abi::maps::{self, Event, Hop, hop_flag, watch_flag};
use mizar_abi::option::{self, code, flag};
use mizar_abi::reason::Drop;
use mizar_packet::policy;
use mizar_plan::{Key, Value};
use mizar_wire::ask::{Cause, Headers};
use mizar_wire::live::{Came, Followed, Kind, PASSED, Passed, Then, Watch, Why};
use mizar_wire::trace::{Admission, Request};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use uuid::Uuid;

/// Packets that are waited for at once: each costs its port some time per packet.
pub const WATCHES: usize = 16;
/// Of those the ports of one owner have so many, that some are left to others.
const OF_OWNER: usize = 4;
/// And so many at most of his are remembered: who asks again and again waits until older ones are forgotten.
const LATELY: usize = 64;
/// How long it is remembered what became of one.
const KEPT: Duration = Duration::from_secs(60);
/// Such memories at most; the programs tell 200 a second at most, and so much only if somebody with the key forges them.
const HOPS: usize = 1_024;

/// A packet that is, or was, waited for.
#[derive(Debug)]
struct Awaited {
    port: u32,
    owner: Uuid,
    /// Its name in the map.
    number: u32,
    until: Instant,
    /// The programs still wait for it.
    open: bool,
    hop: Option<(Instant, Passed)>,
}

/// What follows from a question about a packet that is waited for.
#[derive(Debug, PartialEq)]
pub enum Turn {
    /// The programs are to wait for it, under this number.
    Arm(u32),
    /// It has not come yet.
    Wait,
    /// It has.
    Passed(Passed),
    /// It will not be waited for.
    Refuse(Refusal),
}

/// Why a packet is not waited for.
#[derive(Debug, PartialEq, Eq)]
pub struct Refusal {
    /// For programs.
    pub cause: Cause,
    /// For people.
    pub reason: String,
}

impl Refusal {
    fn of(cause: Cause, reason: impl Into<String>) -> Self {
        Self { cause, reason: reason.into() }
    }
}

/// Who waits for what, and what came by.
#[derive(Debug, Default)]
pub struct Book {
    awaited: BTreeMap<Uuid, Awaited>,
    hops: VecDeque<(Instant, Passed)>,
    serial: u64,
}

fn aged(now: Instant, (heard, passed): &(Instant, Passed)) -> Passed {
    let age_ms = u32::try_from(now.saturating_duration_since(*heard).as_millis()).unwrap_or(u32::MAX);
    Passed { age_ms, ..passed.clone() }
}

impl Book {
    /// Somebody waits for a packet; `number` names it in the map, if it is new.
    pub fn ask(&mut self, watch: &Watch, number: u32, now: Instant) -> Turn {
        if let Some(known) = self.awaited.get(&watch.id) {
            return known.hop.as_ref().map_or(Turn::Wait, |hop| Turn::Passed(aged(now, hop)));
        }
        let open = || self.awaited.values().filter(|one| one.open && one.until > now);
        if open().any(|one| one.port == watch.port) {
            let reason = "another packet of the port is waited for: try again when that has come";
            return Turn::Refuse(Refusal::of(Cause::Conflict, reason));
        }
        if open().count() >= WATCHES {
            let reason = format!("the host waits for {WATCHES} packets already: try again a little later");
            return Turn::Refuse(Refusal::of(Cause::Busy, reason));
        }
        if open().filter(|one| one.owner == watch.owner).count() >= OF_OWNER {
            let reason = format!("the host waits for {OF_OWNER} packets of the project: try again a little later");
            return Turn::Refuse(Refusal::of(Cause::Limit, reason));
        }
        if self.awaited.values().filter(|one| one.owner == watch.owner).count() >= LATELY {
            let reason = format!("the project had {LATELY} packets followed just now: try again in a minute");
            return Turn::Refuse(Refusal::of(Cause::Limit, reason));
        }
        let Watch { id, port, owner, within_ms, .. } = *watch;
        let until = now + Duration::from_millis(within_ms.into());
        self.awaited.insert(id, Awaited { port, owner, number, until, open: true, hop: None });
        Turn::Arm(number)
    }

    /// It could not be armed after all.
    pub fn forget(&mut self, id: Uuid) {
        self.awaited.remove(&id);
    }

    /// A program did something with a packet that bears the mark; `watch` is not 0 where it got it. The port whose watch is
    /// over by that, and the watch's number.
    pub fn heard(&mut self, watch: u32, passed: Passed, now: Instant) -> Option<(u32, u32)> {
        self.serial += 1;
        let hop = (now, Passed { serial: self.serial, ..passed });
        let waits = self.awaited.values_mut().find(|one| watch != 0 && one.number == watch && one.hop.is_none());
        let port = waits.map(|awaited| {
            awaited.open = false;
            awaited.hop = Some(hop.clone());
            (awaited.port, awaited.number)
        });
        self.hops.push_back(hop);
        while self.hops.len() > HOPS {
            self.hops.pop_front();
        }
        port
    }

    /// What was done with a packet.
    pub fn followed(&self, packet: &Headers, now: Instant) -> Vec<Passed> {
        let of = self.hops.iter().filter(|(_, passed)| passed.packet == *packet);
        let mut found: Vec<Passed> = of.rev().take(PASSED).map(|hop| aged(now, hop)).collect();
        found.reverse();
        found
    }

    /// Forgets what is over. The ports and numbers of watches that are, though nothing came.
    pub fn tidy(&mut self, now: Instant) -> Vec<(u32, u32)> {
        let mut over = Vec::new();
        for awaited in self.awaited.values_mut() {
            if awaited.open && awaited.until <= now {
                awaited.open = false;
                over.push((awaited.port, awaited.number));
            }
        }
        // A question that comes late must not arm it again.
        self.awaited.retain(|_, one| now < one.until + KEPT);
        self.hops.retain(|(heard, _)| now < *heard + KEPT);
        over
    }
}

/// What a program told of a packet; `None`: nothing that this version knows.
pub fn read(event: &Event, hop: &Hop, tai_offset: i32) -> Option<Passed> {
    let packet = Headers {
        source: std::net::Ipv4Addr::from(hop.src).into(),
        destination: std::net::Ipv4Addr::from(hop.dst).into(),
        protocol: hop.proto,
        source_port: hop.sport,
        destination_port: hop.dport,
    };
    let at_us = i64::try_from(hop.tai_ns / 1_000).ok()? - i64::from(tai_offset) * 1_000_000;
    let number = policy::opened_port(hop.proto, hop.sport, hop.dport);
    let inline = hop.flags & hop_flag::INLINE != 0;
    Some(Passed { serial: 0, at_us, age_ms: 0, packet, number, came: came(hop)?, inline, then: then(event, hop)? })
}

fn came(hop: &Hop) -> Option<Came> {
    if hop.came == 0 {
        return Some(Came::Sent);
    }
    let kind = match option::Kind::from_wire(hop.came)? {
        option::Kind::Req => Kind::Request,
        option::Kind::Admitted => Kind::Admission,
        option::Kind::Ack => Kind::Direct,
        option::Kind::Return => Kind::Return,
        option::Kind::Denied => Kind::Denial,
        _ => return None,
    };
    Some(Came::From { host: hop.from.into(), vni: hop.from_vni, kind })
}

fn then(event: &Event, hop: &Hop) -> Option<Then> {
    let named = |reason: Drop| (reason.name().to_owned(), reason.about().to_owned());
    if event.reason != 0 {
        let (reason, about) = named(Drop::from_number(event.reason)?);
        return Some(Then::Drop { reason, about });
    }
    if hop.flags & hop_flag::SENT == 0 {
        return Some(Then::Deliver { port: event.ep_id });
    }
    let (host, vni) = (hop.to.into(), hop.to_vni);
    Some(match option::Kind::from_wire(hop.kind)? {
        option::Kind::Req => {
            let flags = hop.option_flags & !flag::TRACED;
            let request = Request { vni, identity: hop.identity, flags, tries: hop.code, source_port: hop.source_port };
            Then::Ask { host, request }
        }
        option::Kind::Admitted => {
            let reply_only = hop.option_flags & flag::REPLY_ONLY != 0;
            let admission = Admission { vni, port: hop.ep_id, epoch: hop.epoch, mark: hop.code, reply_only };
            Then::Admit { host, admission }
        }
        option::Kind::Ack => Then::Direct { host, vni },
        option::Kind::Return => {
            let why = match hop.code {
                code::MOVED => Why::Moved,
                code::EPOCH => Why::Rules,
                code::IDENTITY => Why::Identity { identity: hop.identity },
                _ => Why::NoFlow,
            };
            Then::Return { host, vni, why }
        }
        option::Kind::Denied => {
            let unreachable = hop.code == code::UNREACHABLE;
            let (reason, about) = named(if unreachable { Drop::Unreachable } else { Drop::Refused });
            Then::Deny { host, vni, reason, about }
        }
        _ => return None,
    })
}

/// As the programs look for it.
fn pattern(watch: &Watch, id: u32, now_s: u32) -> maps::Watch {
    let given = [
        (watch.source.is_some(), watch_flag::SRC),
        (watch.protocol.is_some(), watch_flag::PROTO),
        (watch.source_port.is_some(), watch_flag::SPORT),
        (watch.destination_port.is_some(), watch_flag::PORT),
    ];
    maps::Watch {
        id,
        until: now_s.saturating_add(watch.within_ms.div_ceil(1_000)),
        src: watch.source.map_or([0; 4], |source| source.octets()),
        dst: watch.destination.octets(),
        sport: watch.source_port.unwrap_or_default(),
        port: watch.destination_port.unwrap_or_default(),
        proto: watch.protocol.unwrap_or_default(),
        given: given.into_iter().filter(|(given, _)| *given).map(|(_, flag)| flag).sum(),
        pad: 0,
    }
}

/// The book, and the maps that it is about.
#[derive(Clone)]
pub struct Watches(Arc<Inner>);

struct Inner {
    core: Shared,
    book: Mutex<Book>,
    marks: Mutex<Marks>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Watches {
    /// Over these maps.
    pub fn open(core: Shared, pins: &Pins) -> Result<Self, PlaneError> {
        let marks = {
            let _held = core.lock();
            Marks::open(pins)?
        };
        Ok(Self(Arc::new(Inner { core, book: Mutex::default(), marks: Mutex::new(marks) })))
    }

    /// Waits for a packet, unless it does; what became of it, if it has come.
    pub fn ask(&self, watch: &Watch) -> Result<Option<Passed>, Refusal> {
        let number = rand::random::<u32>() | 1;
        let turn = lock(&self.0.book).ask(watch, number, Instant::now());
        match turn {
            Turn::Wait => Ok(None),
            Turn::Passed(passed) => Ok(Some(passed)),
            Turn::Refuse(refusal) => Err(refusal),
            Turn::Arm(number) => {
                let pattern = pattern(watch, number, clock::now().s);
                let armed = self.write(|marks| marks.set(watch.port, pattern));
                if !matches!(armed, Ok(true)) {
                    lock(&self.0.book).forget(watch.id);
                }
                match armed {
                    Ok(true) => Ok(None),
                    Ok(false) => {
                        Err(Refusal::of(Cause::Absent, "no interface of the host is the port's: it is not attached"))
                    }
                    Err(error) => Err(Refusal::of(Cause::Failed, chain(&error))),
                }
            }
        }
    }

    /// What was done here with a packet.
    pub fn followed(&self, Followed { packet }: &Followed) -> Vec<Passed> {
        lock(&self.0.book).followed(packet, Instant::now())
    }

    /// A program told of a packet.
    pub fn heard(&self, event: &Event) {
        let Some(hop) = raw_hop(event) else { return };
        let tai_offset = match self.0.core.lock().store().planner.value(&Key::Cfg) {
            Some(Value::Cfg(cfg)) => cfg.tai_offset,
            _ => 0,
        };
        let Some(passed) = read(event, &hop, tai_offset) else {
            return tracing::debug!(?hop, "a packet is followed in a way that is not known here");
        };
        // The book is closed before the core is held, as everywhere here.
        let over = lock(&self.0.book).heard(hop.watch, passed, Instant::now());
        if let Some((port, number)) = over {
            self.clear(port, number);
        }
    }

    /// Ends what is over, for ever.
    pub async fn tidy(self) {
        let mut tick = tokio::time::interval(Duration::from_secs(1));
        loop {
            tick.tick().await;
            let over = lock(&self.0.book).tidy(Instant::now());
            over.into_iter().for_each(|(port, number)| self.clear(port, number));
        }
    }

    /// By now another packet of the port may be waited for: the book was closed before.
    fn clear(&self, port: u32, number: u32) {
        if let Err(error) = self.write(|marks| marks.clear(port, number)) {
            tracing::warn!(port, error = chain(&error), "the mark of a port that a packet was waited for stays");
        }
    }

    fn write<T>(&self, work: impl FnOnce(&mut Marks) -> Result<T, PlaneError>) -> Result<T, PlaneError> {
        let _held = self.0.core.lock();
        work(&mut lock(&self.0.marks))
    }
}

#[cfg(test)]
#[path = "watch_tests.rs"]
mod tests;
