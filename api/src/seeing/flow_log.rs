//! The flow log of a port: what its host has of it, and the bouncers of its addresses, which have what they refused for it.
//!
//! Hosts keep so few records of a port that one answer holds them. So which of them are wanted, and which page of these, is
//! decided here ([`wish`]), and hosts need to know nothing of it.

pub mod wish;

use self::wish::Wish;
use super::{AT_ONCE, ask, is_operator, named, own_port};
use crate::app::App;
use crate::cloud::at;
use crate::exchange::Unanswered;
use crate::frame::context::Context;
use crate::frame::fault::Fault;
use crate::frame::standard::precise_time;
use crate::seeing::drops::ROLES;
use crate::seeing::trace::{Named, known};
use actix_web::HttpResponse;
use actix_web::web::{Data, Path, ServiceConfig};
use chrono::DateTime;
use futures::stream::{self, StreamExt as _};
use mizar_db::resources::port::PortRow;
use mizar_db::resources::seeing::{self, Knowing};
use mizar_wire::ask::{Answer, FlowLog, Question};
use mizar_wire::log::Logged;
use serde_json::{Value, json};
use uuid::Uuid;

/// What a record says of its flow: whether it is the last one.
pub const RECORDS: [&str; 2] = ["final", "interim"];

/// Of ICMP what rules judge is type and code (RFC 792).
const ICMP: u8 = 1;

/// Routes.
pub fn mount(config: &mut ServiceConfig) {
    config.service(at("/v2.0/mizar/ports/{port}/flow-log").get(of_port));
}

async fn log(app: &App, host: i32, port: u32, wish: &Wish) -> Result<FlowLog, Unanswered> {
    let question = Question::FlowLog { ports: vec![port], since_ms: wish.since_ms, limit: wish.of_hosts() };
    match ask(app, host, &question).await? {
        Answer::FlowLog(log) => Ok(log),
        _ => Err(Unanswered::Beside),
    }
}

/// How far clocks of hosts may differ from the database's, ms.
const SKEW_MS: i64 = 5_000;

/// Whether it is of this port: after the database went back to an older state, numbers are given again, and hosts may
/// still have records of the port that had this one before.
fn is_of(port: &PortRow, logged: &Logged) -> bool {
    logged.port == port.number.cast_unsigned() && logged.start_ms + SKEW_MS >= port.created_at.timestamp_millis()
}

/// As it is shown, `rules` being those that the caller may know.
fn view(port: Uuid, logged: &Logged, rules: &Named, (role, host): (&str, Option<&String>)) -> Value {
    let is_icmp = logged.protocol == ICMP;
    let message = is_icmp.then(|| logged.judged.to_be_bytes());
    let time = |unix_ms| DateTime::from_timestamp_millis(unix_ms).map(precise_time);
    let [last, interim] = RECORDS;
    json!({
        "port_id": port, "record": if logged.ended.is_some() { last } else { interim }, "role": role, "host": host,
        "start": time(logged.start_ms), "end": time(logged.end_ms), "direction": logged.direction,
        "source": logged.source, "destination": logged.destination, "protocol": logged.protocol,
        "source_port": (!is_icmp).then_some(logged.source_port),
        "destination_port": (!is_icmp).then_some(logged.destination_port),
        "icmp_type": message.map(|[kind, _]| kind), "icmp_code": message.map(|[_, code]| code),
        "verdict": logged.verdict, "reason": logged.reason, "decided_by": logged.decided_by,
        "rules": logged.rules.as_ref().map(|ids| known(ids, rules)),
        "packets_out": logged.packets_out, "bytes_out": logged.bytes_out,
        "packets_in": logged.packets_in, "bytes_in": logged.bytes_in, "ended": logged.ended,
    })
}

async fn of_port(app: Data<App>, context: Context, path: Path<String>) -> Result<HttpResponse, Fault> {
    let mut conn = app.pool.get().await?;
    let port = own_port(&mut conn, &context, named(&path), "get_port_flow_log").await?;
    let wish = Wish::parse(&context.query)?;
    let hosts = seeing::hosts_of(&mut conn, port.id).await?;
    // Nobody holds a connection while hosts are asked.
    drop(conn);
    let number = port.number.cast_unsigned();
    let asked = hosts.iter().map(|host| log(&app, host.number, number, &wish));
    let answers: Vec<_> = stream::iter(asked.collect::<Vec<_>>()).buffered(AT_ONCE).collect().await;
    let (mut views, mut found, mut left_out) = (Vec::new(), Vec::new(), 0);
    for (Knowing { name, is_own, .. }, answer) in hosts.iter().zip(answers) {
        let (role, host) = (ROLES[usize::from(!is_own)], is_operator(&context).then_some(name));
        views.push(json!({"role": role, "host": host, "error": answer.as_ref().err().map(ToString::to_string)}));
        let FlowLog { records, left_out: more } = answer.unwrap_or_default();
        left_out += more;
        let own = records.into_iter().filter(|logged| is_of(&port, logged) && wish.wants(logged));
        found.extend(own.map(|logged| (logged, (role, host))));
    }
    let (found, beyond, next) = wish.page(found, left_out > 0);
    left_out += beyond;
    let named: Vec<Uuid> = found.iter().filter_map(|(logged, _)| logged.rules.as_ref()).flatten().copied().collect();
    let rules = if named.is_empty() {
        Named::new()
    } else {
        seeing::rules_of(&mut *app.pool.get().await?, &named, context.caller.own()).await?
    };
    let records: Vec<Value> = found.iter().map(|(logged, by)| view(port.id, logged, &rules, *by)).collect();
    let log = json!({
        "port_id": port.id, "hosts": views, "left_out": left_out, "next_marker": next.map(|next| next.to_string()),
        "records": records,
    });
    Ok(HttpResponse::Ok().json(json!({ "flow_log": log })))
}
