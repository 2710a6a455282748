//! The flows of a port, as its host has them at this moment.

use super::{ask, is_operator, named, own_port};
use crate::app::App;
use crate::cloud::at;
use crate::exchange::Unanswered;
use crate::frame::context::Context;
use crate::frame::fault::Fault;
use actix_web::HttpResponse;
use actix_web::web::{Data, Path, ServiceConfig};
use mizar_db::resources::seeing;
use mizar_wire::ask::{Answer, Flow, Flows, Question};
use serde_json::{Value, json};
use uuid::Uuid;

/// Who opened a flow. `unknown`: the port asked for the way of what can only be an answer.
pub const OPENERS: [&str; 4] = ["port", "peer", "both", "unknown"];

/// Of ICMP what rules judge is type and code (RFC 792).
const ICMP: u8 = 1;

/// Routes.
pub fn mount(config: &mut ServiceConfig) {
    config.service(at("/v2.0/mizar/ports/{port}/flows").get(of_port));
}

/// Asks a host for the flows of ports.
pub async fn flows(app: &App, host: i32, ports: Vec<u32>) -> Result<Flows, Unanswered> {
    match ask(app, host, &Question::Flows { ports }).await? {
        Answer::Flows(flows) => Ok(flows),
        _ => Err(Unanswered::Beside),
    }
}

/// As it is shown, with the id of its port.
pub fn view(port: Uuid, flow: &Flow) -> Value {
    let Flow { local, remote, protocol, local_port, remote_port, state, egress, ingress, idle_s, .. } = flow;
    let [by_port, by_peer, by_both, unknown] = OPENERS;
    let opened_by = match (egress, ingress) {
        (Some(_), Some(_)) => by_both,
        (Some(_), None) => by_port,
        (None, Some(_)) => by_peer,
        (None, None) => unknown,
    };
    let is_icmp = *protocol == ICMP;
    let message = egress.or(*ingress).filter(|_| is_icmp).map(u16::to_be_bytes);
    json!({
        "port_id": port, "opened_by": opened_by, "state": state.as_str(), "protocol": protocol,
        "local_address": local, "local_port": (!is_icmp).then_some(local_port),
        "remote_address": remote, "remote_port": (!is_icmp).then_some(remote_port),
        "icmp_type": message.map(|[kind, _]| kind), "icmp_code": message.map(|[_, code]| code), "idle_s": idle_s,
    })
}

async fn of_port(app: Data<App>, context: Context, path: Path<String>) -> Result<HttpResponse, Fault> {
    let mut conn = app.pool.get().await?;
    let port = own_port(&mut conn, &context, named(&path), "get_port_flows").await?;
    let hosts = seeing::hosts_of(&mut conn, port.id).await?;
    // Nobody holds a connection while the host is asked.
    drop(conn);
    let number = port.number.cast_unsigned();
    let host = hosts.iter().find(|host| host.is_own);
    let (error, told) = match host {
        None => (None, Flows::default()),
        Some(host) => match flows(&app, host.number, vec![number]).await {
            Ok(flows) => (None, flows),
            Err(error) => (Some(error.to_string()), Flows::default()),
        },
    };
    let own = told.flows.iter().filter(|flow| flow.port == number);
    let view = json!({
        "port_id": port.id, "bound": host.is_some(), "error": error, "left_out": told.left_out,
        "host": host.filter(|_| is_operator(&context)).map(|host| &host.name),
        "flows": own.map(|flow| view(port.id, flow)).collect::<Vec<_>>(),
    });
    Ok(HttpResponse::Ok().json(json!({ "flows": view })))
}
