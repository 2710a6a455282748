//! Finding out why a packet does not arrive: what hosts drop, and what they would do with a packet; and
//! what may pass at all, by the rules that decide.
//!
//! Tenants see this of their own ports, operators of all. Which hosts there are, and which of them does what, is no tenant's
//! business: to tenants a host is what it is to the port, `port` or `bouncer`, and nothing more.
//!
//! The hosts are asked at this moment ([`crate::exchange`]). One that does not answer fails no request: the answer says so
//! in its place, because what the others say still helps, and that one is silent may be the very reason.

pub mod change;
pub mod drops;
pub mod flow_log;
pub mod flows;
pub mod live;
pub mod maps;
pub mod preview;
pub mod reach;
pub mod rules;
pub mod trace;

use crate::app::App;
use crate::exchange::Unanswered;
use crate::frame::caller::Access;
use crate::frame::context::Context;
use crate::frame::fault::Fault;
use crate::frame::resource::Resource;
use actix_web::web::ServiceConfig;
use diesel_async::AsyncPgConnection;
use mizar_db::listing;
use mizar_db::resources::port::{Port, PortRow};
use mizar_wire::ask::{Answer, Question};
use uuid::Uuid;

/// Hosts that one request asks at the same time: all requests share the places of the exchange.
const AT_ONCE: usize = 4;

/// Routes.
pub fn mount(config: &mut ServiceConfig) {
    config.configure(drops::mount).configure(trace::mount).configure(rules::mount).configure(reach::mount);
    config.configure(flows::mount).configure(flow_log::mount).configure(preview::mount).configure(live::mount);
    config.configure(maps::mount);
}

/// Asks a host, if this server can.
async fn ask(app: &App, host: i32, question: &Question) -> Result<Answer, Unanswered> {
    match &app.exchange {
        Some(exchange) => exchange.ask(host, question).await,
        None => Err(Unanswered::Alone),
    }
}

/// Operators are told which hosts there are.
fn is_operator(context: &Context) -> bool {
    context.caller.has(Access::Admin)
}

/// A port that the caller may look into: what it is sent says more than that it is there, so to see it is not enough.
async fn own_port(conn: &mut AsyncPgConnection, context: &Context, raw: &str, rule: &str) -> Result<PortRow, Fault> {
    let missing = || Port::missing(raw);
    let id = Uuid::try_parse(raw).map_err(|_| missing())?;
    if !context.caller.has(Access::Reader) {
        return Err(Fault::forbidden(rule));
    }
    let port: PortRow = listing::find(conn, context.view, None, id).await?.ok_or_else(missing)?;
    if context.caller.has(Access::Privileged) || Some(port.project_id) == context.caller.project() {
        Ok(port)
    } else {
        Err(Fault::forbidden(rule))
    }
}

/// What a path names, with or without the ending that old clients write.
pub(crate) fn named(raw: &str) -> &str {
    raw.strip_suffix(".json").unwrap_or(raw)
}
