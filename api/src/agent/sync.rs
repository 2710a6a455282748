//! `POST /agent/v1/hosts/{host}/sync`: what the agent reports, and what is new for it.

use super::Shared;
use super::identity::HostName;
use super::problem::{Body, Problem, decode, supported};
use super::reporter::Report;
use actix_web::web::{Data, Json};
use mizar_db::agents::register::{self, Known};
use mizar_db::agents::report::{Acknowledged, Seen, Wiring};
use mizar_db::feed::{Cursor, Gone, News};
use mizar_wire::sync::{Ack, PortWiring, Ports, SyncReply, SyncRequest};
use std::time::{Duration, Instant};

/// Longest wait of a poll, seconds.
const WAIT_S: u32 = 30;

/// Failures of one acknowledgement at most: what is beyond says nothing new.
const FAILURES: usize = 5_000;

/// Ports of one report at most.
const PORTS: usize = 20_000;

pub(super) async fn sync(
    HostName(name): HostName,
    shared: Data<Shared>,
    body: Body,
) -> Result<Json<SyncReply>, Problem> {
    let arrived = Instant::now();
    let asked = check(decode(body)?)?;
    let known = holder(&shared, &name, &asked.boot_id).await?;
    let deadline = arrived + asked.wait;
    let poll = (asked.epoch.clone(), asked.cursor.clone());
    report(&shared, &name, &known, arrived, asked).await?;
    let (epoch, Some(cursor)) = poll else { return Err(Problem::gone(Gone::NoCursor)) };
    let waiting = shared.waiting();
    let news = shared.feed.next(known.number, epoch.as_deref(), &cursor, deadline).await?.map_err(Problem::gone)?;
    drop(waiting);
    if !news.is_empty() {
        shared.sessions.sent(&name);
    }
    Ok(Json(reply(news)))
}

fn reply(news: News) -> SyncReply {
    let News { cursor, epoch, changes, added, dropped } = news;
    SyncReply {
        epoch,
        cursor: cursor.to_string(),
        server_ms: chrono::Utc::now().timestamp_millis(),
        changes,
        scopes_added: added,
        scopes_dropped: dropped,
    }
}

/// A request that is well formed.
struct Asked {
    boot_id: String,
    epoch: Option<String>,
    cursor: Option<Cursor>,
    wait: Duration,
    ack: Option<Acknowledged>,
    wired: Vec<(i32, i32)>,
    lost: Vec<(i32, i32)>,
    complete: bool,
}

fn check(request: SyncRequest) -> Result<Asked, Problem> {
    let SyncRequest { protocol, abi, boot_id, epoch, cursor, wait_s, ack, ports, ports_complete } = request;
    supported(protocol, abi)?;
    if wait_s > WAIT_S {
        return Err(Problem::malformed(format!("'wait_s' must be at most {WAIT_S}")));
    }
    let parse = |field: &str, text: &str| {
        text.parse::<Cursor>().map_err(|error| Problem::malformed(format!("'{field}': {error}")))
    };
    let cursor = cursor.map(|text| parse("cursor", &text)).transpose()?;
    let ack = ack
        .map(|Ack { cursor, failures }| {
            if failures.len() > FAILURES {
                return Err(Problem::malformed(format!("'ack.failures' must be at most {FAILURES}")));
            }
            let epoch = epoch.clone().ok_or_else(|| Problem::malformed("'ack' needs the 'epoch' of its cursor"))?;
            Ok(Acknowledged { epoch, cursor: parse("ack.cursor", &cursor)?, failures })
        })
        .transpose()?;
    let Ports { wired, lost } = ports;
    Ok(Asked {
        boot_id,
        epoch,
        cursor,
        wait: Duration::from_secs(wait_s.into()),
        ack,
        wired: wirings("ports.wired", wired)?,
        lost: wirings("ports.lost", lost)?,
        complete: ports_complete,
    })
}

fn wirings(field: &str, ports: Vec<PortWiring>) -> Result<Vec<(i32, i32)>, Problem> {
    if ports.len() > PORTS {
        return Err(Problem::malformed(format!("'{field}' must be at most {PORTS} ports")));
    }
    let columns = |wiring: PortWiring| {
        let number = i32::try_from(wiring.port).ok()?;
        Some((number, i32::try_from(wiring.generation).ok()?))
    };
    let read: Option<Vec<_>> = ports.into_iter().map(columns).collect();
    read.ok_or_else(|| Problem::malformed(format!("'{field}' holds a number that no port has")))
}

/// The host of that name, as this replica remembers it or the database knows it.
pub(super) async fn session(shared: &Shared, name: &str) -> Result<Known, Problem> {
    match shared.sessions.get(name) {
        Some(known) => Ok(known),
        None => reload(shared, name).await,
    }
}

async fn reload(shared: &Shared, name: &str) -> Result<Known, Problem> {
    let found = register::find(&mut *shared.pool.get().await?, name).await?;
    let known = found.ok_or_else(|| Problem::unregistered(name))?;
    shared.sessions.put(name, known.clone());
    Ok(known)
}

/// The same, if this boot holds it. What is remembered may be old: another replica may have
/// registered a new boot.
pub(super) async fn holder(shared: &Shared, name: &str, boot_id: &str) -> Result<Known, Problem> {
    let remembered = session(shared, name).await?;
    if remembered.boot_id == boot_id {
        return Ok(remembered);
    }
    let known = reload(shared, name).await?;
    if known.boot_id == boot_id {
        return Ok(known);
    }
    let lease = shared.lease.as_secs();
    Err(Problem::held(format!("boot {} holds host {name}; this is boot {boot_id}", known.boot_id), lease))
}

/// Hands over what was reported. What somebody waits for is stored before the poll is answered:
/// the agent reports it once.
async fn report(shared: &Shared, name: &str, known: &Known, at: Instant, asked: Asked) -> Result<(), Problem> {
    let Asked { boot_id, ack, wired, lost, complete, .. } = asked;
    let weight = ack.as_ref().map(|ack| shared.sessions.acked(name, &ack.cursor, !ack.failures.is_empty()));
    let host = known.number;
    let wiring = |(port, generation)| Wiring { host, port, generation };
    let report = Report {
        host,
        seen: Seen { boot_id, at, ack },
        wired: wired.into_iter().map(wiring).collect(),
        lost: lost.into_iter().map(wiring).collect(),
        complete,
        failures: weight.is_some_and(|weight| weight.failures),
    };
    if report.wires() {
        shared.reporter.store(report).await
    } else {
        shared.reporter.note(report, weight.is_some_and(|weight| weight.matters));
        Ok(())
    }
}
