//! What a change of the rules of a security group would do, before it is made: which flows there are now it would
//! cut, and which packets that were refused lately it would let pass.
//!
//! The hosts of the group's ports say which flows there are, their bouncers and they which packets were refused; the rest is
//! computed from what is stored, by the rules as they are and as they would be (`mizar_domain::policy::reach`). So
//! nothing is promised of flows that nobody has at the moment: what may pass at all, `reachable-from` says.
//!
//! A flow is judged at each of its ends by itself, as hosts do: by the egress rules of the port if it opened it, by
//! its ingress rules if the other side did; where both did, either is enough. What the other side's rules say does not change.
//! Where the port's groups are stateless, each direction of its packets is judged by itself, and a flow is cut that
//! loses either.

use super::change::Change;
use super::drops::{self, ROLES};
use super::flows::{self, flows};
use super::{AT_ONCE, is_operator, named, reach::judge};
use crate::app::App;
use crate::cloud::at;
use crate::exchange::Unanswered;
use crate::frame::caller::Access;
use crate::frame::context::Context;
use crate::frame::fault::Fault;
use crate::frame::fields::JsonBody;
use crate::resources::security_groups::{self, SecurityGroup};
use actix_web::HttpResponse;
use actix_web::web::{Data, Path, ServiceConfig};
use futures::stream::{self, StreamExt as _};
use mizar_db::listing::{self, Visibility};
use mizar_db::resources::port::Port;
use mizar_db::resources::preview::{self, Knowing};
use mizar_db::resources::reach::Deciding;
use mizar_domain::model::GroupSet;
use mizar_domain::policy::icmp;
use mizar_domain::policy::reach::{Judge, Known};
use mizar_domain::security_group::Direction;
use mizar_wire::ask::{Dropped, Flow, FlowState, Flows, Headers};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;
use uuid::Uuid;

/// Ports of an answer at most, and without a `limit`.
pub const LIMIT: (usize, usize) = (100, 20);
/// Flows that one request judges.
const FLOWS: usize = 5_000;
/// For so many seconds hosts are asked at most, and without `wait_seconds`; then those that are left are silent.
pub const WAIT_S: u64 = 10;
/// Why packets are dropped that other rules might let pass.
const REFUSALS: [&str; 3] = ["policy", "refused", "flow_denied"];
/// RFC 792.
const ICMP: u8 = 1;

/// Routes.
pub fn mount(config: &mut ServiceConfig) {
    config.service(at("/v2.0/security-groups/{security_group}/preview").post(of_group));
}

/// A group that the caller may change the rules of, or look into: to use it is not enough.
async fn own_group(app: &App, context: &Context, raw: &str) -> Result<SecurityGroup, Fault> {
    const RULE: &str = "get_security_group_preview";
    let missing = || security_groups::missing(raw);
    let id = Uuid::try_parse(raw).map_err(|_| missing())?;
    if !context.caller.has(Access::Reader) {
        return Err(Fault::forbidden(RULE));
    }
    let mut conn = app.pool.get().await?;
    let group: SecurityGroup = listing::find(&mut conn, context.view, None, id).await?.ok_or_else(missing)?;
    if context.caller.has(Access::Privileged) || Some(group.project_id) == context.caller.project() {
        Ok(group)
    } else {
        Err(Fault::forbidden(RULE))
    }
}

/// A host, and what it says.
struct Said {
    role: &'static str,
    name: String,
    /// Of which ports it was asked.
    ports: Vec<i32>,
    error: Option<String>,
    flows: Flows,
    drops: Vec<Dropped>,
}

async fn say(app: &App, host: i32, Knowing { name, own, all }: Knowing, until: Instant) -> Said {
    let numbers = |ports: &[i32]| ports.iter().map(|port| port.cast_unsigned()).collect::<Vec<u32>>();
    let is_own = !own.is_empty();
    let flows = async {
        match is_own {
            true => flows(app, host, numbers(&own)).await,
            false => Ok(Flows::default()),
        }
    };
    let (flows, drops) = futures::join!(in_time(until, flows), in_time(until, drops::drops(app, host, numbers(&all))));
    let error = flows.as_ref().err().or(drops.as_ref().err()).map(ToString::to_string);
    // A host says nothing about ports that it was not asked about. What is denied already cannot be cut.
    let mut flows = flows.unwrap_or_default();
    flows.flows.retain(|flow| {
        own.contains(&flow.port.cast_signed()) && flow.state != FlowState::Denied && v4(flow.remote).is_some()
    });
    let mut drops = drops.unwrap_or_default();
    drops.retain(|one| all.contains(&one.port.cast_signed()) && REFUSALS.contains(&one.reason.as_str()));
    Said { role: ROLES[usize::from(!is_own)], name, ports: all, error, flows, drops }
}

/// What comes until then.
async fn in_time<T>(until: Instant, said: impl Future<Output = Result<T, Unanswered>>) -> Result<T, Unanswered> {
    // Whoever's turn comes too late is not asked at all.
    if Instant::now() >= until {
        return Err(Unanswered::Late);
    }
    tokio::time::timeout_at(until.into(), said).await.unwrap_or(Err(Unanswered::Late))
}

/// A packet that was refused.
struct Refused<'s> {
    dropped: &'s Dropped,
    sample: &'s mizar_wire::ask::Sample,
    direction: Direction,
    peer: Ipv4Addr,
    headers: Headers,
    number: u16,
}

fn v4(address: IpAddr) -> Option<Ipv4Addr> {
    match address {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    }
}

/// What rules judge of a packet. Of an ICMP message a host tells the question by how far its ports are apart
/// (`mizar_packet::ipv4::message`).
fn judged(headers: &Headers) -> Option<u16> {
    if headers.protocol != ICMP {
        return Some(headers.destination_port);
    }
    const ONE_WAY: u16 = 0x4000;
    Some(match headers.destination_port.wrapping_sub(headers.source_port) {
        1 => icmp(8, 0),
        2 => icmp(13, 0),
        3 => icmp(15, 0),
        4 => icmp(17, 0),
        5 => icmp(42, 0),
        ONE_WAY => headers.source_port,
        // Answers, by how far the question's are.
        above => match above.wrapping_neg() {
            1 => icmp(0, 0),
            2 => icmp(14, 0),
            3 => icmp(16, 0),
            4 => icmp(18, 0),
            5 => icmp(43, 0),
            _ => return None,
        },
    })
}

/// The last packets of a port that were refused.
fn refused<'s>(port: &Port, said: &'s [Said]) -> Vec<Refused<'s>> {
    let is_own = |address: IpAddr| port.fixed_ips.iter().any(|own| own.address.addr() == address);
    let number = port.row.number.cast_unsigned();
    let of_port = said.iter().flat_map(|said| &said.drops).filter(|dropped| dropped.port == number);
    let packet = |(dropped, sample): (&'s Dropped, &'s mizar_wire::ask::Sample)| {
        let headers = sample.packet?;
        let (direction, peer) = match (is_own(headers.source), is_own(headers.destination)) {
            (true, _) => (Direction::Egress, headers.destination),
            (false, true) => (Direction::Ingress, headers.source),
            (false, false) => return None,
        };
        Some(Refused { dropped, sample, direction, peer: v4(peer)?, headers, number: judged(&headers)? })
    };
    of_port.flat_map(|dropped| dropped.samples.iter().map(move |sample| (dropped, sample))).filter_map(packet).collect()
}

/// Who is at the other end: by the combination of groups that he showed, else by who has the address.
struct Peers {
    sets: BTreeMap<u32, GroupSet>,
    at: BTreeMap<(Uuid, Ipv4Addr), Option<GroupSet>>,
}

impl Peers {
    fn find(&self, network: Uuid, showed: u32, address: Ipv4Addr) -> Option<&GroupSet> {
        self.sets.get(&showed).or_else(|| self.at.get(&(network, address))?.as_ref())
    }
}

/// What the rules of a port say in both directions.
struct Sides<'k> {
    egress: Judge<'k>,
    ingress: Judge<'k>,
    stateless: bool,
}

impl<'k> Sides<'k> {
    fn of(known: &'k Known, set: Option<&GroupSet>) -> Result<Self, Fault> {
        let (egress, ingress) = (judge(known, set, Direction::Egress)?, judge(known, set, Direction::Ingress)?);
        Ok(Self { egress, ingress, stateless: known.is_stateless(set) })
    }

    fn side(&self, direction: Direction) -> &Judge<'k> {
        match direction {
            Direction::Egress => &self.egress,
            Direction::Ingress => &self.ingress,
        }
    }

    /// What of a flow rules let pass: what the port opened or, if its groups are stateless, sends; and the same of the
    /// other side.
    fn let_pass(&self, flow: &Flow, peer: Option<&GroupSet>, at: Ipv4Addr) -> [bool; 2] {
        let lets = |side: &Judge<'k>, number: Option<u16>| {
            number.is_some_and(|number| side.lets(peer, at, flow.protocol, number))
        };
        [lets(&self.egress, flow.egress), lets(&self.ingress, flow.ingress)]
    }

    /// Whether a flow goes on by these rules that loses what it has by `would`.
    fn loses(&self, would: &Self, flow: &Flow, peer: Option<&GroupSet>, at: Ipv4Addr) -> bool {
        let (is, would) = (self.let_pass(flow, peer, at), would.let_pass(flow, peer, at));
        if self.stateless {
            return is.iter().zip(would).any(|(is, would)| *is && !would);
        }
        // Whoever opened it must be allowed to; one of them is enough.
        is.contains(&true) && !would.contains(&true)
    }
}

/// What is found.
#[derive(Default)]
struct Found {
    flows: usize,
    left_out: u64,
    cut: Vec<Value>,
    allowed: Vec<Value>,
}

async fn of_group(
    app: Data<App>,
    context: Context,
    path: Path<String>,
    JsonBody(body): JsonBody,
) -> Result<HttpResponse, Fault> {
    let raw = named(&path);
    let group = own_group(&app, &context, raw).await?;
    let change = Change::decode(&context.caller, &body)?;
    let mut conn = app.pool.get().await?;
    let now = preview::group(&mut conn, group.id).await?.ok_or_else(|| security_groups::missing(raw))?;
    let (rules, named_addresses) = change.rules(&mut conn, &context, &now.rules).await?;
    let limit = i64::try_from(change.limit).unwrap_or(i64::MAX);
    let ports = preview::ports_with(&mut conn, group.id, context.view, change.marker, limit).await?;
    let ids = ports.iter().map(|port| port.row.id).collect();
    let hosts = preview::hosts_of(&mut conn, ids).await?;
    let sets: Vec<Option<GroupSet>> = ports.iter().map(Port::filter).collect();
    let mut deciding = Deciding::seen_as(context.view);
    deciding.read(&mut conn, sets.iter().flatten()).await?;
    // Nobody holds a connection while hosts are asked.
    drop(conn);
    let until = Instant::now() + change.patience;
    let asking = hosts.into_iter().map(|(number, knowing)| say(&app, number, knowing, until));
    let mut said: Vec<Said> = stream::iter(asking.collect::<Vec<_>>()).buffered(AT_ONCE).collect().await;
    bound(&mut said, FLOWS);

    let before = deciding.known();
    let mut after = before.clone();
    after.group(now.number, rules, true);
    for addresses in &named_addresses {
        after.addresses(addresses.number, &addresses.addresses, true);
    }
    let peers = peers(&app, &ports, &said).await?;
    let found = compare(&ports, &sets, &said, &peers, before, &after).await?;
    let next = ports.last().filter(|_| ports.len() == change.limit).map(|port| port.row.id);
    let host = |said: &Said| {
        let of = ports.iter().filter(|port| said.ports.contains(&port.row.number)).map(|port| port.row.id);
        json!({
            "role": said.role, "host": is_operator(&context).then_some(&said.name), "error": said.error,
            "ports": of.collect::<Vec<_>>(),
        })
    };
    let view = json!({
        "security_group_id": group.id, "ports": ports.len(), "next_marker": next,
        "of_all_projects": context.view == Visibility::All, "hosts": said.iter().map(host).collect::<Vec<_>>(),
        "flows": found.flows, "left_out": found.left_out, "cut": found.cut, "allowed": found.allowed,
    });
    Ok(HttpResponse::Ok().json(json!({ "preview": view })))
}

/// Leaves so many flows, before anything is looked up for them: hosts may tell of twenty times as many.
fn bound(said: &mut [Said], mut most: usize) {
    for Flows { flows, left_out } in said.iter_mut().map(|said| &mut said.flows) {
        *left_out += flows.len().saturating_sub(most) as u64;
        flows.truncate(most);
        most -= flows.len();
    }
}

/// The other ends of all that was said.
async fn peers(app: &App, ports: &[Port], said: &[Said]) -> Result<Peers, Fault> {
    let networks: BTreeMap<u32, Uuid> =
        ports.iter().map(|port| (port.row.number.cast_unsigned(), port.row.network_id)).collect();
    let flows = || said.iter().flat_map(|said| &said.flows.flows);
    let showed = flows().filter(|flow| flow.peer != 0).map(|flow| flow.peer.cast_signed()).collect();
    let mut conn = app.pool.get().await?;
    let sets = preview::sets(&mut conn, showed).await?;
    let nameless = flows().filter(|flow| !sets.contains_key(&flow.peer));
    let nameless = nameless.filter_map(|flow| Some((*networks.get(&flow.port)?, v4(flow.remote)?)));
    let packets = ports.iter().flat_map(|port| {
        refused(port, said).into_iter().map(|packet| (port.row.network_id, packet.peer)).collect::<Vec<_>>()
    });
    let wanted: BTreeSet<(Uuid, Ipv4Addr)> = nameless.chain(packets).collect();
    let at = preview::sets_at(&mut conn, &wanted).await?;
    Ok(Peers { sets, at })
}

async fn compare(
    ports: &[Port],
    sets: &[Option<GroupSet>],
    said: &[Said],
    peers: &Peers,
    before: &Known,
    after: &Known,
) -> Result<Found, Fault> {
    let mut found = Found { left_out: said.iter().map(|said| said.flows.left_out).sum(), ..Found::default() };
    for (port, set) in ports.iter().zip(sets) {
        // Many of a group have the same rules, but few requests are about many ports.
        let (is, would) = (Sides::of(before, set.as_ref())?, Sides::of(after, set.as_ref())?);
        let number = port.row.number.cast_unsigned();
        for flow in said.iter().flat_map(|said| &said.flows.flows).filter(|flow| flow.port == number) {
            let Some(at) = v4(flow.remote) else { continue };
            found.flows += 1;
            let peer = peers.find(port.row.network_id, flow.peer, at);
            if is.loses(&would, flow, peer, at) {
                found.cut.push(flows::view(port.row.id, flow));
            }
            // Others wait for this thread too.
            tokio::task::yield_now().await;
        }
        for packet in refused(port, said) {
            let Refused { dropped, sample, direction, peer: at, headers, number } = packet;
            let peer = peers.find(port.row.network_id, 0, at);
            let lets = |sides: &Sides<'_>| sides.side(direction).lets(peer, at, headers.protocol, number);
            if !lets(&is) && lets(&would) {
                let mut view = drops::sample(sample);
                view["port_id"] = json!(port.row.id);
                view["direction"] = json!(direction.as_str());
                view["reason"] = json!(dropped.reason);
                found.allowed.push(view);
            }
        }
        tokio::task::yield_now().await;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(flows: usize, left_out: u64) -> Said {
        let address = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 5));
        let flow = Flow {
            port: 1,
            local: address,
            remote: address,
            protocol: 6,
            local_port: 1,
            remote_port: 2,
            state: FlowState::Established,
            egress: None,
            ingress: Some(1),
            peer: 0,
            idle_s: 0,
        };
        let flows = Flows { flows: vec![flow; flows], left_out };
        Said { role: ROLES[0], name: String::new(), ports: vec![1], error: None, flows, drops: vec![] }
    }

    #[test]
    fn flows_beyond_the_bound_are_left_out_and_counted() {
        let mut all = [said(3, 1), said(4, 0), said(2, 5)];
        bound(&mut all, 5);
        let left = all.iter().map(|said| (said.flows.flows.len(), said.flows.left_out)).collect::<Vec<_>>();
        assert_eq!(left, [(3, 1), (2, 2), (0, 7)]);
    }
}
