//! What is dropped: of a port, by its host and by the bouncers of its addresses; of a host, for operators.

use super::{AT_ONCE, ask, is_operator, named, own_port};
use crate::app::App;
use crate::cloud::at;
use crate::exchange::Unanswered;
use crate::frame::caller::Access;
use crate::frame::context::Context;
use crate::frame::fault::Fault;
use crate::frame::resource::Resource;
use crate::frame::standard::precise_time;
use actix_web::HttpResponse;
use actix_web::web::{Data, Path, ServiceConfig};
use chrono::DateTime;
use futures::stream::{self, StreamExt as _};
use mizar_db::resources::host::{self, Host};
use mizar_db::resources::seeing::{self, Knowing};
use mizar_wire::ask::{Answer, Dropped, Question, Sample};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use uuid::Uuid;

/// What a host is to a port.
pub const ROLES: [&str; 2] = ["port", "bouncer"];

/// Routes.
pub fn mount(config: &mut ServiceConfig) {
    config
        .service(at("/v2.0/mizar/ports/{port}/drops").get(of_port))
        .service(at("/v2.0/mizar/hosts/{host}/drops").get(of_host));
}

/// Asks a host what it dropped of ports.
pub async fn drops(app: &App, host: i32, ports: Vec<u32>) -> Result<Vec<Dropped>, Unanswered> {
    match ask(app, host, &Question::Drops { ports }).await? {
        Answer::Drops(drops) => Ok(drops),
        _ => Err(Unanswered::Beside),
    }
}

/// A packet as it is shown.
pub fn sample(Sample { at_ms, packet }: &Sample) -> Value {
    let mut view = json!({
        "at": DateTime::from_timestamp_millis(*at_ms).map(precise_time),
        "source": null, "destination": null, "protocol": null, "source_port": null, "destination_port": null,
    });
    if let Some(packet) = packet {
        view["source"] = json!(packet.source);
        view["destination"] = json!(packet.destination);
        view["protocol"] = json!(packet.protocol);
        view["source_port"] = json!(packet.source_port);
        view["destination_port"] = json!(packet.destination_port);
    }
    view
}

/// `more` is what tells it from others of the list.
fn reason(dropped: &Dropped, more: Value) -> Value {
    let Dropped { port: _, reason, about, packets, bytes, samples } = dropped;
    let mut view = json!({
        "reason": reason, "about": about, "packets": packets, "bytes": bytes,
        "samples": samples.iter().map(sample).collect::<Vec<_>>(),
    });
    if let (Value::Object(view), Value::Object(more)) = (&mut view, more) {
        view.extend(more);
    }
    view
}

async fn of_port(app: Data<App>, context: Context, path: Path<String>) -> Result<HttpResponse, Fault> {
    let mut conn = app.pool.get().await?;
    let port = own_port(&mut conn, &context, named(&path), "get_port_drops").await?;
    let hosts = seeing::hosts_of(&mut conn, port.id).await?;
    // Nobody holds a connection while hosts are asked.
    drop(conn);
    let number = port.number.cast_unsigned();
    let asked = hosts.iter().map(|host| drops(&app, host.number, vec![number]));
    let answers: Vec<_> = stream::iter(asked.collect::<Vec<_>>()).buffered(AT_ONCE).collect().await;
    let (mut views, mut reasons) = (Vec::new(), Vec::new());
    for (Knowing { name, is_own, .. }, answer) in hosts.iter().zip(answers) {
        let (role, host) = (ROLES[usize::from(!is_own)], is_operator(&context).then_some(name));
        views.push(json!({"role": role, "host": host, "error": answer.as_ref().err().map(ToString::to_string)}));
        let own = answer.unwrap_or_default().into_iter().filter(|dropped| dropped.port == number);
        reasons.extend(own.map(|dropped| reason(&dropped, json!({"role": role, "host": host}))));
    }
    let drops = json!({"port_id": port.id, "hosts": views, "reasons": reasons});
    Ok(HttpResponse::Ok().json(json!({ "drops": drops })))
}

async fn of_host(app: Data<App>, context: Context, path: Path<String>) -> Result<HttpResponse, Fault> {
    if !context.caller.has(Access::Admin) {
        return Err(Fault::forbidden("get_host_drops"));
    }
    let raw = named(&path);
    let mut conn = app.pool.get().await?;
    let known = match host::resolve(&mut conn, raw).await? {
        Some(id) => host::numbered(&mut conn, id).await?,
        None => None,
    };
    let (number, name) = known.ok_or_else(|| Host::missing(raw))?;
    drop(conn);
    let answer = drops(&app, number, Vec::new()).await;
    let error = answer.as_ref().err().map(ToString::to_string);
    let dropped = answer.unwrap_or_default();
    let numbers: Vec<i32> = dropped.iter().map(|one| one.port.cast_signed()).collect();
    let ids: BTreeMap<i32, Uuid> = seeing::ports_numbered(&mut *app.pool.get().await?, &numbers).await?;
    let view = |one: &Dropped| reason(one, json!({"port_id": ids.get(&one.port.cast_signed())}));
    let reasons: Vec<Value> = dropped.iter().map(view).collect();
    Ok(HttpResponse::Ok().json(json!({"drops": {"host": name, "error": error, "reasons": reasons}})))
}
