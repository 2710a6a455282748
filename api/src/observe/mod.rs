//! What an operator sees of a running server, and what keeps one caller from taking all of it.
//!
//! - [`request`]: names each request, logs it once, counts it.
//! - [`limits`]: requests per project, failed logins per address, bytes per body.
//! - [`logins`]: slows down who guesses passwords.
//! - [`metrics`]: what `/metrics` says, in Prometheus' text form.
//! - [`health`]: `/healthz` and `/readyz`.
//! - [`listener`]: the operators' listener, where metrics are.
//!
//! Metrics are on a listener of their own: how many requests other projects make, and how busy the
//! database is, are no tenant's business. No label has a value that a client chooses: routes are
//! patterns, methods and statuses few, and no project, user or id is ever a label.

pub mod health;
pub mod limits;
pub mod listener;
pub mod logins;
pub mod metrics;
pub mod request;

use crate::app::App;
use crate::frame::caller::Caller;
use crate::frame::fault::Fault;
use actix_web::HttpRequest;
use mizar_db::turns;

/// Who asks is known: notes it for the log and for those who share connections, and lets the request in if its
/// project may make one more. Tokens without project count by user.
pub fn admit(app: &App, request: &HttpRequest, caller: &Caller) -> Result<(), Fault> {
    request::remember(request, caller);
    let Some(key) = caller.project().or(caller.claims.user_id()) else { return Ok(()) };
    turns::request_is_of(key);
    app.limiter.project(key).map_err(|wait| {
        app.metrics.refused("project");
        Fault::too_many(wait)
    })
}
