//! Who may open a connection to a port, and to whom it may: what the rules of both sides let pass
//! (`mizar_domain::policy::reach`).
//!
//! The other side is every port of the network, whatever its subnet: hosts carry packets within one
//! network, and between networks none. It is judged by its own rules, so a tenant is told only of ports
//! of its project; what everybody at an address may do, whosever it is, follows from the port's own
//! rules and is told beside them.
//!
//! Where the groups of a port are stateless (`stateful` is false), its rules are about each packet: what is told here may
//! begin a conversation, and the answers pass as far as rules of such ports let them.
//!
//! A request looks at so many ports and no more; what it has not looked at is behind `next_marker`.

use super::{named, own_port};
use crate::app::App;
use crate::cloud::at;
use crate::frame::context::Context;
use crate::frame::fault::Fault;
use crate::frame::query::parameters;
use actix_web::HttpResponse;
use actix_web::web::{Data, Path, ServiceConfig};
use ipnet::Ipv4Net;
use mizar_db::listing::Visibility;
use mizar_db::resources::port::Port;
use mizar_db::resources::reach::{self, After, Deciding};
use mizar_domain::cidr::v4;
use mizar_domain::model::GroupSet;
use mizar_domain::policy::reach::{End, Judge, Known, Line, Traffic, between};
use mizar_domain::security_group::{Direction, Protocol};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::str::FromStr;
use uuid::Uuid;

/// Ports of an answer at most, and without a `limit`.
pub const LIMIT: (usize, usize) = (1_000, 100);
/// Ports that one request looks at.
pub const LOOKED_AT: usize = 2_000;
/// Prefixes of an answer.
pub const ADDRESSES: usize = 1_000;
/// Rules of a port that a request looks at, counted by what they name: whom, and which packets.
const RULES: usize = 10_000;
/// Lines of traffic of an answer, beyond which no port and no prefix begins.
const LINES: usize = 20_000;
/// Combinations of groups and labels whose rules are kept while a request lasts.
const KEPT: usize = 16;
/// Ports that are read at once.
const BATCH: usize = 500;
/// Protocols that have ports: TCP, UDP, DCCP, SCTP, UDP-Lite.
pub(super) const WITH_PORTS: [u8; 5] = [6, 17, 33, 132, 136];

/// Routes.
pub fn mount(config: &mut ServiceConfig) {
    config.service(at("/v2.0/ports/{port}/reachable-from").get(reachable));
}

/// What is asked.
#[derive(Debug)]
struct Wish {
    direction: Direction,
    /// Only this.
    traffic: Traffic,
    limit: usize,
    marker: Option<Uuid>,
}

impl Wish {
    fn parse(query: &str) -> Result<Self, Fault> {
        let (mut direction, mut limit, mut marker) = (Direction::Ingress, LIMIT.1, None);
        let (mut protocol, mut number) = (None, None);
        for (name, value) in parameters(query)? {
            let wrong = |reason: String| Fault::bad_query(format!("{name}: {reason}"));
            match name.as_str() {
                "direction" => direction = Direction::from_str(&value).map_err(wrong)?,
                "protocol" => {
                    let known = Protocol::parse(&value).ok().flatten().map(|known| known.number);
                    protocol = Some(known.ok_or_else(|| wrong(format!("'{value}' is no protocol")))?);
                }
                "destination_port" => {
                    let port = value.parse().ok().filter(|port: &u16| *port > 0);
                    number = Some(port.ok_or_else(|| wrong(format!("'{value}' is not between 1 and 65535")))?);
                }
                "limit" => {
                    let one = value.parse().ok().filter(|limit: &usize| *limit > 0);
                    limit = one.ok_or_else(|| wrong(format!("'{value}' is no number above 0")))?.min(LIMIT.0);
                }
                "marker" => {
                    let id = Uuid::try_parse(&value).map_err(|_| wrong(format!("'{value}' is no id of a port")))?;
                    marker = Some(id);
                }
                _ => return Err(Fault::bad_query(format!("there is no parameter '{name}'"))),
            }
        }
        Ok(Self { direction, traffic: wanted(protocol, number)?, limit, marker })
    }
}

fn wanted(protocol: Option<u8>, port: Option<u16>) -> Result<Traffic, Fault> {
    let unfit = |reason: String| Err(Fault::bad_query(format!("destination_port: {reason}")));
    match (protocol, port) {
        (None, None) => Ok(Traffic::everything()),
        (None, Some(_)) => unfit("of which protocol? 'protocol' says it".into()),
        (Some(protocol), None) => Ok(Traffic::of(protocol, 0, u16::MAX)),
        (Some(protocol), Some(_)) if !WITH_PORTS.contains(&protocol) => unfit(format!("protocol {protocol} has none")),
        (Some(protocol), Some(port)) => Ok(Traffic::of(protocol, port, port)),
    }
}

/// A port as one side of a conversation.
fn end<'s>(port: &Port, set: Option<&'s GroupSet>) -> Result<End<'s>, Fault> {
    let at: Vec<Ipv4Net> = port.fixed_ips.iter().filter_map(|own| v4(own.address.addr().into())).collect();
    let from = match port.row.port_security_enabled {
        // Such a port may send from any address.
        false => vec![Ipv4Net::default()],
        true => {
            let pairs = port.row.pairs()?.into_iter().filter_map(|pair| v4(pair.cidr));
            at.iter().copied().chain(pairs).collect()
        }
    };
    Ok(End { at, from, set })
}

/// What is found of the others.
#[derive(Default)]
struct Found {
    ports: Vec<Value>,
    lines: usize,
    next: Option<Uuid>,
}

impl Found {
    fn is_full(&self, wish: &Wish) -> bool {
        self.ports.len() >= wish.limit || self.lines > LINES
    }
}

async fn reachable(app: Data<App>, context: Context, path: Path<String>) -> Result<HttpResponse, Fault> {
    let mut conn = app.pool.get().await?;
    let row = own_port(&mut conn, &context, named(&path), "get_port_reachable_from").await?;
    let wish = Wish::parse(&context.query)?;
    let own = mizar_db::resources::port::complete(&mut conn, vec![row]).await?.pop();
    let own = own.ok_or_else(|| Fault::internal("a port is not what it was"))?;
    let set = own.filter();
    let mut deciding = Deciding::seen_as(context.view);
    deciding.read(&mut conn, &set).await?;
    drop(conn);
    let own_end = end(&own, set.as_ref())?;
    let (prefixes, more) = judge(deciding.known(), set.as_ref(), wish.direction)?.by_address(ADDRESSES);
    let (mut found, mut after, mut looked_at) = (Found::default(), wish.marker.map(After::Named), 0);
    while looked_at < LOOKED_AT {
        let limit = BATCH.min(LOOKED_AT - looked_at);
        let most = i64::try_from(limit).unwrap_or(i64::MAX);
        // What is read is judged without a connection: others wait for one.
        let mut conn = app.pool.get().await?;
        let others = reach::members(&mut conn, own.row.network_id, context.view, after, most).await?;
        let sets: Vec<Option<GroupSet>> = others.iter().map(Port::filter).collect();
        deciding.read(&mut conn, sets.iter().flatten().chain(&set)).await?;
        drop(conn);
        let is_last = others.len() < limit;
        let mine = judge(deciding.known(), set.as_ref(), wish.direction)?;
        // Many have the same groups.
        let mut judged: BTreeMap<Option<u32>, Judge<'_>> = BTreeMap::new();
        for (other, set) in others.iter().zip(&sets) {
            if found.is_full(&wish) {
                break;
            }
            after = Some(After::read(other));
            looked_at += 1;
            if other.row.id == own.row.id {
                continue;
            }
            let number = set.as_ref().map(|set| set.number);
            if judged.len() == KEPT && !judged.contains_key(&number) {
                judged.clear();
            }
            let judge = match judged.entry(number) {
                Entry::Occupied(kept) => kept.into_mut(),
                Entry::Vacant(place) => place.insert(judge(deciding.known(), set.as_ref(), opposite(wish.direction))?),
            };
            let theirs = end(other, set.as_ref())?;
            let traffic = match wish.direction {
                Direction::Ingress => between(judge, &theirs, &mine, &own_end),
                Direction::Egress => between(&mine, &own_end, judge, &theirs),
            };
            let traffic = traffic.both(&wish.traffic);
            if !traffic.is_nothing() {
                let lines = lines(&traffic);
                found.lines += lines.len();
                let stateful = !deciding.known().is_stateless(set.as_ref());
                found.ports.push(port(other, stateful, &lines));
            }
            // Others wait for this thread too.
            tokio::task::yield_now().await;
        }
        let is_through = is_last && after == others.last().map(After::read).or(after);
        found.next = after.map(After::id).filter(|_| !is_through);
        if is_through || found.is_full(&wish) {
            break;
        }
    }
    let (addresses, more) = addresses(prefixes, &wish, more);
    let view = json!({
        "port_id": own.row.id, "direction": wish.direction.as_str(), "ports": found.ports, "looked_at": looked_at,
        "stateful": !deciding.known().is_stateless(set.as_ref()),
        "next_marker": found.next, "of_all_projects": context.view == Visibility::All,
        "addresses": addresses, "more_addresses": more,
    });
    Ok(HttpResponse::Ok().json(json!({ "reachable_from": view })))
}

/// What may pass by address alone, and whether there is more than is told.
fn addresses(prefixes: BTreeMap<Ipv4Net, Traffic>, wish: &Wish, more: bool) -> (Vec<Value>, bool) {
    let (mut addresses, mut told): (Vec<Value>, usize) = (Vec::new(), 0);
    for (prefix, traffic) in prefixes {
        let traffic = traffic.both(&wish.traffic);
        if traffic.is_nothing() {
            continue;
        }
        if told > LINES {
            return (addresses, true);
        }
        let lines = lines(&traffic);
        told += lines.len();
        addresses.push(json!({"prefix": prefix, "traffic": lines}));
    }
    (addresses, more)
}

/// What the rules of a port say. Of too many nothing is said, rather than that other requests wait.
pub fn judge<'k>(known: &'k Known, set: Option<&GroupSet>, direction: Direction) -> Result<Judge<'k>, Fault> {
    let judge = Judge::of(known, set, direction);
    if judge.size() > RULES {
        let said = format!(
            "The {} rules of a port of this network name more than {RULES} others and intervals of ports: too much \
             to say what they let pass together. A trace says it of one packet.",
            direction.as_str()
        );
        return Err(Fault::conflict("TooManyRules", said));
    }
    Ok(judge)
}

const fn opposite(direction: Direction) -> Direction {
    match direction {
        Direction::Ingress => Direction::Egress,
        Direction::Egress => Direction::Ingress,
    }
}

fn port(port: &Port, stateful: bool, traffic: &[Value]) -> Value {
    let addresses = port.fixed_ips.iter().map(|own| own.address.addr());
    json!({
        "port_id": port.row.id, "name": port.row.name, "project_id": port.row.project_id,
        "addresses": addresses.collect::<Vec<_>>(), "stateful": stateful, "traffic": traffic,
    })
}

fn lines(traffic: &Traffic) -> Vec<Value> {
    let line = |Line { protocol, low, high }: Line| json!({"protocol": protocol, "port_range_min": low, "port_range_max": high});
    traffic.lines().into_iter().map(line).collect()
}
