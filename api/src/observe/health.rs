//! `/healthz` and `/readyz`.
//!
//! Healthy is a process that answers: whoever supervises it restarts it otherwise, so nothing that
//! a restart does not mend may count. Ready is one that can serve: a balancer passes it by
//! otherwise. Tenants see which check fails, operators also why.

use crate::app::App;
use actix_web::{HttpResponse, web};
use mizar_metrics::Check;
use serde_json::json;
use std::time::{Duration, Instant};

/// A database that takes longer to say which schema it has is as good as away.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long an answer counts for everybody.
const FRESH: Duration = Duration::from_secs(1);

/// Everything that serving needs.
pub async fn checks(app: &App) -> Vec<Check> {
    let (database, migrations) = match tokio::time::timeout(PATIENCE, schema(app)).await {
        Ok(Ok(missing)) => (None, missing),
        Ok(Err(error)) => (Some(error), Some("not known".into())),
        Err(_) => (Some(format!("no answer within {} s", PATIENCE.as_secs())), Some("not known".into())),
    };
    let feed = app.agents.as_ref().filter(|agents| !agents.is_alive());
    let feed = feed.map(|agents| format!("not read for {:.1} s", agents.feed_age().as_secs_f64()));
    let keys = app.authority.self_check().err().map(|error| error.to_string());
    vec![("database", database), ("migrations", migrations), ("feed", feed), ("signing_keys", keys)]
}

/// What the database's schema lacks. One that is newer than this program is none of our business:
/// migrations keep working what the release before them does.
async fn schema(app: &App) -> Result<Option<String>, String> {
    let mut conn = app.own.get().await.map_err(|error| mizar_db::chain(&error))?;
    let there = mizar_db::migrate::is_current(&mut conn).await.map_err(|error| mizar_db::chain(&error))?;
    Ok((!there).then(|| "the schema is older than this program".into()))
}

/// GET /healthz.
pub async fn healthz() -> HttpResponse {
    HttpResponse::Ok().json(json!({"status": "ok"}))
}

fn answer(checks: &[Check], reasons: bool) -> HttpResponse {
    let (ready, body) = mizar_metrics::readiness(checks, reasons);
    let mut response = if ready { HttpResponse::Ok() } else { HttpResponse::ServiceUnavailable() };
    response.json(body)
}

/// What the checks said last. Everybody may ask, so that asking often must not take the
/// connections of those who work: all get the answer of the second.
#[derive(Debug, Default)]
pub struct Readiness(tokio::sync::Mutex<Option<(Instant, Vec<Check>)>>);

impl Readiness {
    /// Whoever comes while somebody looks waits for the same answer.
    async fn of(&self, app: &App) -> Vec<Check> {
        let mut last = self.0.lock().await;
        match &*last {
            Some((at, checks)) if at.elapsed() < FRESH => checks.clone(),
            _ => last.insert((Instant::now(), checks(app).await)).1.clone(),
        }
    }
}

/// GET /readyz, for everybody.
pub async fn readyz(app: web::Data<App>) -> HttpResponse {
    answer(&app.readiness.of(&app).await, false)
}

/// GET /readyz, for operators.
pub async fn explain(app: web::Data<App>) -> HttpResponse {
    answer(&checks(&app).await, true)
}
