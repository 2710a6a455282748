//! Following a packet from a port through the hosts on its way (`mizar_wire::trace`).
//!
//! Each host is asked what it would do, and the next one is whom it names. So the walk here knows nothing of rules or routes: it
//! only carries what one host writes to the host that reads it. Rules are named to whom they belong; a tenant reads of the others
//! that there was one, as far as the verdict says so.

use super::{ask, is_operator, own_port};
use crate::app::App;
use crate::cloud::at;
use crate::exchange::Unanswered;
use crate::frame::action::{self, Input};
use crate::frame::context::Context;
use crate::frame::decode::Decode;
use crate::frame::fault::Fault;
use crate::frame::fields::{Fields, JsonBody};
use actix_web::HttpResponse;
use actix_web::web::{Data, ServiceConfig};
use diesel_async::AsyncPgConnection;
use mizar_db::resources::port::PortRow;
use mizar_db::resources::seeing::{self, Address};
use mizar_domain::security_group::Protocol;
use mizar_domain::text::Name;
use mizar_wire::ask::{Answer, Question};
use mizar_wire::trace::{self, At, Look, Packet, Role, Then, Told};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use uuid::Uuid;

/// What a host is to the packet.
pub const ROLES: [&str; 4] = ["source", "divider", "bouncer", "destination"];

/// What becomes of it.
pub const VERDICTS: [&str; 3] = ["delivered", "dropped", "unknown"];

/// Hosts that are asked at most: a packet takes six hops, and comes back twice at most.
const HOPS: usize = 16;
/// How often the way is asked for anew.
const RETURNS: u8 = 2;
/// Source ports that an endpoint would choose from (RFC 6335).
const EPHEMERAL: std::ops::Range<u16> = 49_152..65_535;
/// RFC 792.
pub(super) const ICMP: u8 = 1;
/// RFC 9293: what a packet is unless its protocol is said.
const TCP: u8 = 6;
/// Protocols that have ports: TCP, UDP, DCCP, SCTP, UDP-Lite.
const WITH_PORTS: [u8; 5] = [6, 17, 33, 132, 136];
/// Messages of ICMP that begin a conversation: echo, timestamp, information, mask.
const QUESTIONS: [u8; 4] = [8, 13, 15, 17];

/// Routes.
pub fn mount(config: &mut ServiceConfig) {
    config.service(at("/v2.0/mizar/trace").post(trace));
}

/// What may be asked.
pub fn inputs() -> Vec<Input> {
    vec![
        Input::required::<Uuid>("port_id"),
        Input::required::<Ipv4Addr>("destination"),
        Input::optional::<Name>("protocol"),
        Input::optional::<Port>("destination_port"),
        Input::optional::<Port>("source_port"),
        Input::optional::<Ipv4Addr>("source"),
        Input::optional::<Byte>("icmp_type"),
        Input::optional::<Byte>("icmp_code"),
    ]
}

/// A port of a protocol.
#[derive(Clone, Copy)]
pub struct Port(u16);

impl Decode for Port {
    fn decode(value: &Value) -> Result<Self, String> {
        let number = i64::decode(value)?;
        let port = u16::try_from(number).ok().filter(|port| *port > 0);
        port.map(Self).ok_or_else(|| format!("'{number}' is not between 1 and 65535"))
    }

    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
        crate::frame::decode::plain(utoipa::openapi::schema::Type::Integer)
            .minimum(Some(1))
            .maximum(Some(65_535))
            .into()
    }
}

/// A type or a code of ICMP.
#[derive(Clone, Copy)]
pub struct Byte(u8);

impl Decode for Byte {
    fn decode(value: &Value) -> Result<Self, String> {
        let number = i64::decode(value)?;
        u8::try_from(number).map(Self).map_err(|_| format!("'{number}' is not between 0 and 255"))
    }

    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
        crate::frame::decode::plain(utoipa::openapi::schema::Type::Integer).minimum(Some(0)).maximum(Some(255)).into()
    }
}

/// What a packet is said to be, by [`inputs`].
pub(super) struct Said {
    pub port: Uuid,
    pub source: Option<Ipv4Addr>,
    pub destination: Ipv4Addr,
    pub protocol: Option<u8>,
    pub destination_port: Option<u16>,
    pub source_port: Option<u16>,
    pub icmp_type: Option<u8>,
    pub icmp_code: Option<u8>,
}

impl Said {
    pub fn decode(fields: &mut Fields<'_>) -> Result<Self, Fault> {
        Ok(Self {
            port: fields.required("port_id")?,
            destination: fields.required("destination")?,
            source: fields.optional("source")?,
            protocol: fields.optional::<Name>("protocol")?.map(|name| number(&name.into_string())).transpose()?,
            destination_port: fields.optional::<Port>("destination_port")?.map(|Port(port)| port),
            source_port: fields.optional::<Port>("source_port")?.map(|Port(port)| port),
            icmp_type: fields.optional::<Byte>("icmp_type")?.map(|Byte(kind)| kind),
            icmp_code: fields.optional::<Byte>("icmp_code")?.map(|Byte(code)| code),
        })
    }

    /// Whether its protocol has ports; of none that is said it is not known.
    pub fn has_ports(&self) -> bool {
        self.protocol.is_some_and(|number| WITH_PORTS.contains(&number))
    }
}

fn number(protocol: &str) -> Result<u8, Fault> {
    let known = Protocol::parse(protocol).ok().flatten();
    Ok(known.ok_or_else(|| Fault::invalid("protocol", format!("'{protocol}' is no protocol")))?.number)
}

/// What rules judge as port of an ICMP message; code 0 unless it is said.
pub(super) fn message(kind: u8, code: Option<u8>) -> u16 {
    u16::from_be_bytes([kind, code.unwrap_or_default()])
}

/// A packet as it is asked about; its source may be left to the port.
struct Wish {
    port: Uuid,
    source: Option<Ipv4Addr>,
    destination: Ipv4Addr,
    protocol: u8,
    ports: (u16, u16),
}

impl Wish {
    fn of(said: Said) -> Result<Self, Fault> {
        let protocol = said.protocol.unwrap_or(TCP);
        let said = Said { protocol: Some(protocol), ..said };
        let unfit = |name: &str, sent: bool| match sent {
            true => Err(Fault::invalid(name, format!("protocol {protocol} has none"))),
            false => Ok(()),
        };
        let random = || rand::random_range(EPHEMERAL);
        let has_ports = said.has_ports();
        unfit("destination_port", said.destination_port.is_some() && !has_ports)?;
        unfit("source_port", said.source_port.is_some() && !has_ports)?;
        let ports = if protocol == ICMP {
            let kind = said.icmp_type.unwrap_or(QUESTIONS[0]);
            if !QUESTIONS.contains(&kind) {
                let reason = format!("'{kind}' begins no conversation; one of {QUESTIONS:?} does");
                return Err(Fault::invalid("icmp_type", reason));
            }
            (random(), message(kind, said.icmp_code))
        } else {
            unfit("icmp_type", said.icmp_type.is_some())?;
            unfit("icmp_code", said.icmp_code.is_some())?;
            match (has_ports, said.destination_port) {
                (true, Some(port)) => (said.source_port.unwrap_or_else(random), port),
                (true, None) => {
                    return Err(Fault::invalid("destination_port", format!("protocol {protocol} needs one")));
                }
                (false, _) => (0, 0),
            }
        };
        let Said { port, source, destination, .. } = said;
        Ok(Self { port, source, destination, protocol, ports })
    }
}

async fn trace(app: Data<App>, context: Context, JsonBody(body): JsonBody) -> Result<HttpResponse, Fault> {
    let mut fields = action::open(&inputs(), Some("trace"), &context.caller, &body)?;
    let said = Said::decode(&mut fields)?;
    fields.done()?;
    let wish = Wish::of(said)?;
    let mut conn = app.pool.get().await?;
    let port = own_port(&mut conn, &context, &wish.port.to_string(), "create_trace").await?;
    let addresses = seeing::addresses(&mut conn, port.id).await?;
    drop(conn);
    let first = || addresses.first().map(|own| own.address);
    let missing = || Fault::invalid("source", "the port has no IPv4 address: name one");
    let source = wish.source.or_else(first).ok_or_else(missing)?;
    let packet = Packet {
        source,
        destination: wish.destination,
        protocol: wish.protocol,
        source_port: wish.ports.0,
        destination_port: wish.ports.1,
    };
    let walk = follow(&app, &port, packet).await?;
    let view = view(&app, &context, &port, &packet, &addresses, walk).await?;
    Ok(HttpResponse::Ok().json(json!({ "trace": view })))
}

/// What one host said.
struct Hop {
    role: &'static str,
    host: i32,
    looks: Vec<Look>,
    error: Option<String>,
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// At the port with this number.
    Delivered {
        /// Its number.
        port: u32,
    },
    /// On its way.
    Dropped {
        /// Name of the reason.
        reason: String,
        /// What it means.
        about: String,
        /// What its sender is told.
        told: Option<Told>,
    },
    /// Somewhere.
    Unknown {
        /// Why nobody knows.
        why: String,
    },
}

struct Walk {
    hops: Vec<Hop>,
    end: End,
}

/// Asks a host.
pub(super) async fn look(app: &App, host: i32, question: trace::Question) -> Result<trace::Answer, Unanswered> {
    match ask(app, host, &Question::Trace(question)).await? {
        Answer::Trace(answer) => Ok(answer),
        _ => Err(Unanswered::Beside),
    }
}

fn role(of: Role) -> &'static str {
    match of {
        Role::Divider => ROLES[1],
        Role::Bouncer => ROLES[2],
    }
}

/// Asks one host after the other.
async fn follow(app: &App, port: &PortRow, packet: Packet) -> Result<Walk, Fault> {
    let [at_source, _, _, at_destination] = ROLES;
    let mut walk = Walk { hops: Vec::new(), end: End::Unknown { why: "the packet goes round in circles".into() } };
    let Some(source) = port.host else {
        let about = "No host has the port: it sends nothing.".to_owned();
        return Ok(Walk { end: End::Dropped { reason: "not_bound".into(), about, told: None }, ..walk });
    };
    let sends = |identity, tries| At::Leave { port: port.number.cast_unsigned(), identity, tries };
    let (mut host, mut what, mut at, mut tries) = (source, at_source, sends(None, 0), 0);
    while walk.hops.len() < HOPS {
        let answer = look(app, host, trace::Question { packet, at }).await;
        let error = answer.as_ref().err().map(ToString::to_string);
        let looks = answer.as_ref().map(|answer| answer.looks.clone()).unwrap_or_default();
        walk.hops.push(Hop { role: what, host, looks, error });
        let Ok(trace::Answer { then, .. }) = answer else {
            walk.end = End::Unknown { why: format!("the {what}'s host does not say") };
            return Ok(walk);
        };
        (host, what, at) = match then {
            Then::Ask { host, role: of, request } => (host.cast_signed(), role(of), At::Carry(request)),
            Then::Identify { identity } => (source, at_source, sends(Some(identity), tries)),
            Then::Return if tries < RETURNS => {
                tries += 1;
                (source, at_source, sends(None, tries))
            }
            Then::Return => {
                walk.end = End::Unknown { why: "hosts have different rules at this moment: try again".into() };
                return Ok(walk);
            }
            Then::Admit { host, admission } => (host.cast_signed(), at_destination, At::Arrive(admission)),
            Then::Direct { host, vni } => {
                let mut conn = app.pool.get().await?;
                let (to, from) = (seeing::host_at(&mut conn, host).await?, seeing::underlay(&mut conn, source).await?);
                let (Some(to), Some(from)) = (to, from) else {
                    walk.end = End::Unknown { why: "the flow leads to a host that is not known any more".into() };
                    return Ok(walk);
                };
                (to, at_destination, At::Direct { vni, from })
            }
            Then::Deliver { port } => {
                walk.end = End::Delivered { port };
                return Ok(walk);
            }
            Then::Drop { reason, about, told } => {
                walk.end = End::Dropped { reason, about, told };
                return Ok(walk);
            }
        };
    }
    Ok(walk)
}

/// Whom an ICMP error seems to come from: the router of the source's subnet.
fn router(addresses: &[Address], source: Ipv4Addr) -> String {
    let own = addresses.iter().find(|own| own.address == source).and_then(|own| own.gateway);
    own.map_or_else(|| "the network".to_owned(), |gateway| gateway.to_string())
}

/// What the two ends see.
pub(super) fn seen(end: &End, packet: &Packet, addresses: &[Address]) -> (Option<String>, Option<String>) {
    let text = |text: &str| Some(text.to_owned());
    match end {
        End::Delivered { .. } => (
            text("what the destination answers, if anybody listens there"),
            Some(format!("the packet, from {}", packet.source)),
        ),
        End::Dropped { told: None, .. } => (text("nothing: it waits until it gives up"), text("nothing")),
        End::Dropped { told: Some(told), .. } => {
            let what = match told {
                Told::NetUnreachable => "network unreachable",
                Told::HostUnreachable => "host unreachable",
            };
            (Some(format!("ICMP {what} from {}", router(addresses, packet.source))), text("nothing"))
        }
        End::Unknown { .. } => (None, None),
    }
}

/// The groups of rules, by their ids: of those that the caller may know.
pub(super) type Named = BTreeMap<Uuid, Option<Uuid>>;

/// The rules that looks name.
pub(super) async fn rules(
    conn: &mut AsyncPgConnection,
    context: &Context,
    looks: impl Iterator<Item = &Look>,
) -> Result<Named, Fault> {
    let rules: Vec<Uuid> = looks.flat_map(|look| look.rules.clone()).collect();
    Ok(seeing::rules_of(conn, &rules, context.caller.own()).await?)
}

/// Names of hosts, for those who may know them.
pub(super) async fn names(
    conn: &mut AsyncPgConnection,
    context: &Context,
    hosts: &[i32],
) -> Result<BTreeMap<i32, String>, Fault> {
    Ok(if is_operator(context) { seeing::host_names(conn, hosts).await? } else { BTreeMap::new() })
}

/// Those of the rules that the caller may know.
pub(super) fn known(ids: &[Uuid], rules: &Named) -> Vec<Value> {
    ids.iter().filter_map(|id| Some(json!({"id": id, "security_group_id": rules.get(id)?}))).collect()
}

/// A look as it is shown.
pub(super) fn shown(look: &Look, context: &Context, rules: &Named) -> Value {
    json!({
        "table": look.table, "says": look.says, "entry": is_operator(context).then_some(&look.entry),
        "rules": known(&look.rules, rules),
    })
}

async fn view(
    app: &App,
    context: &Context,
    port: &PortRow,
    packet: &Packet,
    addresses: &[Address],
    Walk { hops, end }: Walk,
) -> Result<Value, Fault> {
    let (sender_sees, receiver_sees) = seen(&end, packet, addresses);
    let mut conn = app.pool.get().await?;
    let rules = rules(&mut conn, context, hops.iter().flat_map(|hop| &hop.looks)).await?;
    let numbers: Vec<i32> = hops.iter().map(|hop| hop.host).collect();
    let names = names(&mut conn, context, &numbers).await?;
    let to = match end {
        End::Delivered { port } => seeing::port_of(&mut conn, port.cast_signed(), context.caller.own()).await?,
        _ => None,
    };
    drop(conn);
    let hop = |hop: &Hop| {
        json!({
            "role": hop.role, "host": names.get(&hop.host), "error": hop.error,
            "looks": hop.looks.iter().map(|look| shown(look, context, &rules)).collect::<Vec<_>>(),
        })
    };
    let [delivered, dropped, unknown] = VERDICTS;
    let (verdict, reason, about) = match end {
        End::Delivered { .. } => (delivered, None, None),
        End::Dropped { reason, about, .. } => (dropped, Some(reason), Some(about)),
        End::Unknown { why } => (unknown, None, Some(why)),
    };
    Ok(json!({
        "port_id": port.id, "source": packet.source, "destination": packet.destination, "protocol": packet.protocol,
        "source_port": packet.source_port, "destination_port": packet.destination_port, "destination_port_id": to,
        "verdict": verdict, "reason": reason, "about": about,
        "sender_sees": sender_sees, "receiver_sees": receiver_sees,
        "hops": hops.iter().map(hop).collect::<Vec<_>>(),
    }))
}
