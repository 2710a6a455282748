//! Following one real packet of a port (docs/adr/0015): its host marks the first one that fits, and every host that has it
//! then says what it did.
//!
//! - [`chain`]: the way, put together.
//! - [`places`]: how many at once.

pub mod chain;
pub mod places;

use super::trace::{self, End, ICMP, Said};
use super::{AT_ONCE, ask, own_port};
use crate::app::App;
use crate::cloud::at;
use crate::exchange::{PATIENCE, Unanswered};
use crate::frame::action::{self, Input};
use crate::frame::context::Context;
use crate::frame::decode::Decode;
use crate::frame::fault::Fault;
use crate::frame::fields::JsonBody;
use crate::frame::standard::precise_time;
use actix_web::HttpResponse;
use actix_web::web::{Data, ServiceConfig};
use chain::Step;
use chrono::DateTime;
use futures::stream::{self, StreamExt as _};
use mizar_db::resources::port::PortRow;
use mizar_db::resources::seeing;
use mizar_wire::ask::{Answer, Cause, Question};
use mizar_wire::live::{Followed, Passed, WAIT_MS, Watch};
use mizar_wire::trace::{At, Look, Then as Would};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use uuid::Uuid;

/// What becomes of the packet; `not_seen`: none came.
pub const VERDICTS: [&str; 4] = ["delivered", "dropped", "unknown", "not_seen"];

/// Seconds that a packet is waited for, unless the caller says otherwise.
const WAIT_S: u32 = 10;
/// How often its host is asked whether it has come, and the next host whether it is there.
const LOOKS: Duration = Duration::from_millis(200);
/// How long its host has to say that none came, once nobody waits any more.
const LATE: Duration = Duration::from_secs(1);
/// How long all hosts on its way together have, and how long for their reasons: who waits as long as he may has his answer
/// before proxies give up.
const WAY: Duration = Duration::from_secs(5);
const REASONS: Duration = Duration::from_secs(2);

/// Routes.
pub fn mount(config: &mut ServiceConfig) {
    config.service(at("/v2.0/mizar/live-trace").post(live));
}

/// What may be asked.
pub fn inputs() -> Vec<Input> {
    let mut inputs = trace::inputs();
    inputs.push(Input::optional::<Seconds>("wait_seconds"));
    inputs
}

/// How long somebody waits.
#[derive(Clone, Copy)]
pub struct Seconds(u32);

impl Decode for Seconds {
    fn decode(value: &Value) -> Result<Self, String> {
        let number = i64::decode(value)?;
        let most = WAIT_MS / 1_000;
        let seconds = u32::try_from(number).ok().filter(|seconds| (1..=most).contains(seconds));
        seconds.map(Self).ok_or_else(|| format!("'{number}' is not between 1 and {most}"))
    }

    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
        let number = crate::frame::decode::plain(utoipa::openapi::schema::Type::Integer);
        number.minimum(Some(1)).maximum(Some(WAIT_MS / 1_000)).into()
    }
}

/// Whether there can be such a packet.
fn check(said: &Said) -> Result<(), Fault> {
    let unfit = |name: &str, sent: bool, fits: bool, of: &str| match sent && !fits {
        true => Err(Fault::invalid(name, format!("only packets of {of} have one: name the protocol"))),
        false => Ok(()),
    };
    unfit("destination_port", said.destination_port.is_some(), said.has_ports(), "a protocol with ports")?;
    unfit("source_port", said.source_port.is_some(), said.has_ports(), "a protocol with ports")?;
    unfit("icmp_type", said.icmp_type.is_some(), said.protocol == Some(ICMP), "ICMP")?;
    unfit("icmp_code", said.icmp_code.is_some(), said.icmp_type.is_some(), "an ICMP type")
}

/// The packet that is waited for.
fn watch(said: &Said, wait_s: u32, port: &PortRow) -> Watch {
    let message = said.icmp_type.map(|kind| trace::message(kind, said.icmp_code));
    Watch {
        id: Uuid::new_v4(),
        port: port.number.cast_unsigned(),
        owner: port.project_id,
        source: said.source,
        destination: said.destination,
        protocol: said.protocol,
        source_port: said.source_port,
        destination_port: said.destination_port.or(message),
        within_ms: wait_s * 1_000,
    }
}

async fn live(app: Data<App>, context: Context, JsonBody(body): JsonBody) -> Result<HttpResponse, Fault> {
    let mut fields = action::open(&inputs(), Some("live_trace"), &context.caller, &body)?;
    let said = Said::decode(&mut fields)?;
    let wait_s = fields.optional::<Seconds>("wait_seconds")?.map_or(WAIT_S, |Seconds(seconds)| seconds);
    fields.done()?;
    check(&said)?;
    let mut conn = app.pool.get().await?;
    let port = own_port(&mut conn, &context, &said.port.to_string(), "create_live_trace").await?;
    drop(conn);
    let watch = watch(&said, wait_s, &port);
    let _place = app.live.take(port.project_id)?;
    let way = follow(&app, &port, &watch).await?;
    let view = view(&app, &context, &port, &watch, way).await?;
    Ok(HttpResponse::Ok().json(json!({ "live_trace": view })))
}

/// The way of the packet.
struct Way {
    steps: Vec<Step>,
    /// `None`: no packet came.
    end: Option<End>,
    /// What could not be asked, of the host after the last step.
    error: Option<String>,
}

impl Way {
    fn ended(steps: Vec<Step>, end: End) -> Self {
        Self { steps, end: Some(end), error: None }
    }
}

fn left(deadline: Instant) -> u32 {
    u32::try_from(deadline.saturating_duration_since(Instant::now()).as_millis()).unwrap_or(WAIT_MS)
}

/// Asks a host, but not for longer.
async fn ask_until(app: &App, host: i32, question: &Question, until: Instant) -> Result<Answer, Unanswered> {
    tokio::time::timeout_at(until.into(), ask(app, host, question)).await.unwrap_or(Err(Unanswered::Silent))
}

fn since(moment: Instant) -> u32 {
    u32::try_from(moment.elapsed().as_millis()).unwrap_or(u32::MAX)
}

/// Waits for the packet, then goes where it went.
async fn follow(app: &App, port: &PortRow, watch: &Watch) -> Result<Way, Fault> {
    let Some(host) = port.host else {
        let about = "No host has the port: it sends nothing.".to_owned();
        return Ok(Way::ended(Vec::new(), End::Dropped { reason: "not_bound".into(), about, told: None }));
    };
    let began = Instant::now();
    let passed = match wait(app, host, watch).await? {
        Ok(Some(passed)) => passed,
        Ok(None) => return Ok(Way { steps: Vec::new(), end: None, error: None }),
        Err(error) => {
            let end = End::Unknown { why: "the source's host does not say".into() };
            return Ok(Way { error: Some(error.to_string()), ..Way::ended(Vec::new(), end) });
        }
    };
    let underlay = seeing::underlay(&mut *app.pool.get().await?, host).await?;
    let Some(at) = underlay else { return Ok(gone(Vec::new())) };
    let packet = passed.packet;
    let mut steps = vec![Step { host, at, passed }];
    let all = Instant::now() + WAY;
    loop {
        if let Some(end) = chain::end(&steps) {
            return Ok(Way::ended(steps, end));
        }
        let Some(expected) = steps.last().and_then(chain::next) else { return Ok(gone(steps)) };
        let found = seeing::host_at(&mut *app.pool.get().await?, expected.at).await?;
        let Some(host) = found else { return Ok(gone(steps)) };
        let deadline = all.min(Instant::now() + PATIENCE);
        let found = loop {
            let error = match ask_until(app, host, &Question::Followed(Followed { packet }), all).await {
                Ok(Answer::Followed(said)) => match chain::pick(&expected, said, &steps, host, since(began)) {
                    Some(passed) => break Ok(passed),
                    None => None,
                },
                Ok(_) => Some(Unanswered::Beside.to_string()),
                Err(unanswered) => Some(unanswered.to_string()),
            };
            if Instant::now() >= deadline {
                break Err(error);
            }
            tokio::time::sleep(LOOKS).await;
        };
        match found {
            Ok(passed) => steps.push(Step { host, at: expected.at, passed }),
            Err(error) => {
                let why = match error {
                    _ if Instant::now() >= all => format!(
                        "not all hosts on its way have said what they did with it within {} s: the hops are those that have, \
                         the last of which sent it on",
                        WAY.as_secs()
                    ),
                    Some(_) => "the host that it was sent to does not say".to_owned(),
                    None => format!(
                        "the host that it was sent to has not seen it within {} s: it was lost between the two",
                        PATIENCE.as_secs()
                    ),
                };
                return Ok(Way { error, ..Way::ended(steps, End::Unknown { why }) });
            }
        }
    }
}

fn gone(steps: Vec<Step>) -> Way {
    Way::ended(steps, End::Unknown { why: "it was sent to a host that is not known any more".into() })
}

/// The first packet that fits; `None`: none came. An error of the host's is none of the request, but a refusal is.
async fn wait(app: &App, host: i32, watch: &Watch) -> Result<Result<Option<Passed>, Unanswered>, Fault> {
    let deadline = Instant::now() + Duration::from_millis(watch.within_ms.into());
    let mut known = false;
    loop {
        let within_ms = left(deadline);
        let question = Question::Watch(Watch { within_ms, ..watch.clone() });
        match ask_until(app, host, &question, deadline + LATE).await {
            Ok(Answer::Watch(Some(passed))) => return Ok(Ok(Some(passed))),
            Ok(Answer::Watch(None)) => known = true,
            Ok(_) => return Ok(Err(Unanswered::Beside)),
            Err(Unanswered::Refused { reason, cause }) => return Err(refused(cause, &reason)),
            // It may only be late, once it has said that it waits.
            Err(error) if !known || within_ms == 0 => return Ok(Err(error)),
            Err(_) => {}
        }
        if within_ms == 0 {
            return Ok(Ok(None));
        }
        tokio::time::sleep(LOOKS.min(Duration::from_millis(within_ms.into()))).await;
    }
}

/// The port's host does not wait for a packet.
fn refused(cause: Option<Cause>, reason: &str) -> Fault {
    let message = format!("No packet can be waited for: {reason}.");
    match cause {
        Some(Cause::Limit) => Fault::conflict("LiveTraceLimit", message),
        Some(Cause::Absent) => Fault::not_found("LiveTracePortNotAttached", message),
        Some(Cause::Busy | Cause::Failed) => Fault::refused(503, "LiveTraceUnavailable", message),
        // Older hosts do not say why, and this is why they mostly do it.
        Some(Cause::Conflict) | None => Fault::conflict("LiveTraceRefused", message),
    }
}

/// Why the host of a step did what it did, by its tables as they are now; nothing, if it would do something else now.
async fn looks(app: &App, steps: &[Step], number: usize, port: u32) -> Vec<Look> {
    let Step { host, passed, .. } = &steps[number];
    let (Some(packet), Some(at)) = (chain::packet(&steps[0].passed), chain::at(steps, number, port)) else {
        return Vec::new();
    };
    let Ok(answer) = trace::look(app, *host, mizar_wire::trace::Question { packet, at }).await else {
        return Vec::new();
    };
    let (mut looks, mut then) = (answer.looks, answer.then);
    if let Would::Ask { request, .. } = then
        && passed.inline
    {
        // It asked itself.
        let carried = mizar_wire::trace::Question { packet, at: At::Carry(request) };
        let Ok(answer) = trace::look(app, *host, carried).await else { return Vec::new() };
        looks.extend(answer.looks);
        then = answer.then;
    }
    let to_itself = matches!(then, Would::Admit { host: to, .. } if to == host.cast_unsigned());
    if chain::agrees(&passed.then, &then, to_itself) { looks } else { Vec::new() }
}

async fn view(app: &App, context: &Context, port: &PortRow, watch: &Watch, way: Way) -> Result<Value, Fault> {
    let Way { steps, end, error } = way;
    let until = Instant::now() + REASONS;
    let asked =
        (0..steps.len()).map(|number| tokio::time::timeout_at(until.into(), looks(app, &steps, number, watch.port)));
    let reasons: Vec<_> = stream::iter(asked.collect::<Vec<_>>()).buffered(AT_ONCE).collect().await;
    let late = reasons.iter().any(Result::is_err);
    let late = late.then(|| format!("not all hosts have said within {} s why they did it", REASONS.as_secs()));
    let error = error.or(late);
    let reasons: Vec<Vec<Look>> = reasons.into_iter().map(Result::unwrap_or_default).collect();
    let mut conn = app.pool.get().await?;
    let addresses = seeing::addresses(&mut conn, port.id).await?;
    let rules = trace::rules(&mut conn, context, reasons.iter().flatten()).await?;
    let numbers: Vec<i32> = steps.iter().map(|step| step.host).collect();
    let names = trace::names(&mut conn, context, &numbers).await?;
    let to = match end {
        Some(End::Delivered { port }) => seeing::port_of(&mut conn, port.cast_signed(), context.caller.own()).await?,
        _ => None,
    };
    drop(conn);
    let first = steps.first().map(|step| &step.passed);
    let source = first.map_or(watch.source.map(Into::into), |passed| Some(passed.packet.source));
    let (sender_sees, receiver_sees) = match (&end, first.and_then(chain::packet)) {
        (Some(end), Some(packet)) => trace::seen(end, &packet, &addresses),
        _ => (None, None),
    };
    let is_icmp = first.map_or(watch.protocol, |passed| Some(passed.packet.protocol)) == Some(ICMP);
    let numbered = first.map_or(watch.destination_port, |passed| Some(passed.number));
    let message = numbered.filter(|number| is_icmp && *number != u16::MAX).map(u16::to_be_bytes);
    let ports = |of: Option<u16>| of.filter(|port| !is_icmp && *port != 0);
    let began = first.map_or(0, |passed| passed.at_us);
    let hop = |(number, step): (usize, &Step)| {
        json!({
            "role": chain::role(&steps, number), "host": names.get(&step.host),
            "at": DateTime::from_timestamp_micros(step.passed.at_us).map(precise_time),
            "since_us": step.passed.at_us - began, "says": chain::says(&steps, number),
            "looks": reasons[number].iter().map(|look| trace::shown(look, context, &rules)).collect::<Vec<_>>(),
        })
    };
    let [delivered, dropped, unknown, not_seen] = VERDICTS;
    let (verdict, reason, about) = match end {
        Some(End::Delivered { .. }) => (delivered, None, None),
        Some(End::Dropped { reason, about, .. }) => (dropped, Some(reason), Some(about)),
        Some(End::Unknown { why }) => (unknown, None, Some(why)),
        None => (not_seen, None, Some(unseen(watch))),
    };
    Ok(json!({
        "port_id": port.id, "source": source, "destination": watch.destination,
        "protocol": first.map_or(watch.protocol, |passed| Some(passed.packet.protocol)),
        "source_port": ports(first.map_or(watch.source_port, |passed| Some(passed.packet.source_port))),
        "destination_port": ports(numbered),
        "icmp_type": message.map(|[kind, _]| kind), "icmp_code": message.map(|[_, code]| code),
        "destination_port_id": to, "verdict": verdict, "reason": reason, "about": about, "error": error,
        "sender_sees": sender_sees, "receiver_sees": receiver_sees,
        "hops": steps.iter().enumerate().map(hop).collect::<Vec<_>>(),
    }))
}

/// What to do where no packet came.
fn unseen(watch: &Watch) -> String {
    format!(
        "The port has sent no such packet within {} s. Have it send one while it is waited for, such as `ping {}`; if it did, \
         see what its host drops before that (its drops), and whether source, protocol and ports are as asked.",
        watch.within_ms / 1_000,
        watch.destination
    )
}
