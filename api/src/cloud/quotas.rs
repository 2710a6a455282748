//! Quotas of projects: operators set them, a project reads its own.
//!
//! They are counted and enforced by the ledger of each transaction (`frame/tx.rs`). A limit below
//! what is used is refused, as `check_limit` asks for in Neutron, unless `force` is sent: then the
//! project keeps what it has and gets nothing more.

use super::at;
use crate::app::App;
use crate::frame::caller::{Access, Caller};
use crate::frame::context::Context;
use crate::frame::decode::Decode;
use crate::frame::fault::Fault;
use crate::frame::fields::JsonBody;
use crate::frame::quota::Quotas;
use crate::frame::tx::{Tx, transaction};
use actix_web::HttpResponse;
use actix_web::web::{Data, Path, ServiceConfig};
use futures::FutureExt as _;
use mizar_db::quotas::{self, Quota};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use uuid::Uuid;

/// Largest limit, as Neutron's.
pub const MAX: i64 = i32::MAX as i64;

/// Routes.
pub fn mount(config: &mut ServiceConfig) {
    config
        .service(at("/v2.0/quotas").get(list))
        .service(at("/v2.0/quotas/tenant").get(tenant))
        .service(at("/v2.0/quotas/project").get(project))
        .service(at("/v2.0/quotas/{project}").get(show).put(update).delete(reset))
        .service(at("/v2.0/quotas/{project}/default").get(default))
        .service(at("/v2.0/quotas/{project}/details").get(details));
}

/// The project that a path names. There may be quotas of any: projects are the identity service's.
fn named(raw: &str) -> Result<Uuid, Fault> {
    let raw = raw.strip_suffix(".json").unwrap_or(raw);
    let missing = |_| Fault::not_found("ProjectNotFound", format!("Project {raw} could not be found."));
    Uuid::try_parse(raw).map_err(missing)
}

/// The project that a path names, if the caller may read its quotas.
fn readable(caller: &Caller, raw: &str) -> Result<Uuid, Fault> {
    let project = named(raw)?;
    let own = caller.project() == Some(project) && caller.has(Access::Reader);
    if own || caller.has(Access::Privileged) { Ok(project) } else { Err(Fault::forbidden("get_quota")) }
}

/// The limits that count: those of the cloud under the project's own.
fn limits(cloud: &Quotas, own: &[Quota]) -> Map<String, Value> {
    let of = |name: &str| own.iter().find(|quota| quota.resource == name).and_then(|quota| quota.max);
    cloud.iter().map(|(name, limit)| (name.to_owned(), json!(of(name).unwrap_or(limit)))).collect()
}

fn answer(quota: impl Into<Value>) -> HttpResponse {
    HttpResponse::Ok().json(json!({ "quota": quota.into() }))
}

/// Projects with limits of their own.
async fn list(app: Data<App>, caller: Caller) -> Result<HttpResponse, Fault> {
    if !caller.has(Access::Privileged) {
        return Err(Fault::forbidden("get_quota"));
    }
    let rows = quotas::limits(&mut *app.pool.get().await?).await?;
    let mut projects: BTreeMap<Uuid, Vec<Quota>> = BTreeMap::new();
    for (project, resource, max) in rows {
        projects.entry(project).or_default().push(Quota { resource, used: 0, max: Some(max) });
    }
    let view = |(project, own): (Uuid, Vec<Quota>)| {
        let mut quota = limits(&app.settings.quotas, &own);
        for name in ["project_id", "tenant_id"] {
            quota.insert(name.to_owned(), json!(project.simple()));
        }
        Value::Object(quota)
    };
    Ok(HttpResponse::Ok().json(json!({"quotas": projects.into_iter().map(view).collect::<Vec<_>>()})))
}

fn whose(caller: &Caller, name: &str) -> Result<HttpResponse, Fault> {
    let missing = || Fault::refused(400, "QuotaMissingTenant", "Tenant-id was missing from quota request.");
    let project = caller.project().ok_or_else(missing)?;
    Ok(HttpResponse::Ok().json(json!({name: {format!("{name}_id"): project.simple()}})))
}

async fn tenant(caller: Caller) -> Result<HttpResponse, Fault> {
    whose(&caller, "tenant")
}

async fn project(caller: Caller) -> Result<HttpResponse, Fault> {
    whose(&caller, "project")
}

async fn show(app: Data<App>, caller: Caller, path: Path<String>) -> Result<HttpResponse, Fault> {
    let project = readable(&caller, &path)?;
    let own = quotas::of(&mut *app.pool.get().await?, project).await?;
    Ok(answer(limits(&app.settings.quotas, &own)))
}

async fn default(app: Data<App>, caller: Caller, path: Path<String>) -> Result<HttpResponse, Fault> {
    readable(&caller, &path)?;
    Ok(answer(limits(&app.settings.quotas, &[])))
}

async fn details(app: Data<App>, caller: Caller, path: Path<String>) -> Result<HttpResponse, Fault> {
    let project = readable(&caller, &path)?;
    let own = quotas::of(&mut *app.pool.get().await?, project).await?;
    let used = |name: &str| own.iter().find(|quota| quota.resource == name).map_or(0, |quota| quota.used);
    // Nothing is reserved: a transaction counts what it makes when it commits.
    let view = |(name, limit): (String, Value)| {
        let details = json!({"limit": limit, "used": used(&name), "reserved": 0});
        (name, details)
    };
    Ok(answer(limits(&app.settings.quotas, &own).into_iter().map(view).collect::<Map<_, _>>()))
}

/// A new set of limits.
#[derive(Debug)]
struct Wish {
    limits: BTreeMap<String, i64>,
    /// Also below what is used.
    force: bool,
    sent: Value,
}

impl Wish {
    fn decode(body: Value, known: &Quotas) -> Result<Self, Fault> {
        let not_a_dictionary = || Fault::bad_request("The body must be a dictionary.");
        let Value::Object(mut body) = body else { return Err(not_a_dictionary()) };
        let inner = body.remove("quota").ok_or_else(|| Fault::bad_request("Unable to find 'quota' in request body"))?;
        if let Some(name) = body.keys().next() {
            return Err(Fault::bad_request(format!("Unexpected '{name}' beside 'quota' in request body")));
        }
        let sent = inner.clone();
        let Value::Object(mut inner) = inner else { return Err(not_a_dictionary()) };
        let mut flag = |name: &'static str| match inner.remove(name) {
            None | Some(Value::Null) => Ok(false),
            Some(value) => bool::decode(&value).map_err(|reason| Fault::invalid(name, reason)),
        };
        let (force, check) = (flag("force")?, flag("check_limit")?);
        if force && check {
            return Err(Fault::bad_request("'force' and 'check_limit' exclude each other"));
        }
        let unknown: Vec<&str> =
            inner.keys().map(String::as_str).filter(|name| known.iter().all(|(known, _)| known != *name)).collect();
        if !unknown.is_empty() {
            return Err(Fault::bad_request(format!("Unrecognized attribute(s) '{}'", unknown.join(", "))));
        }
        let mut limits = BTreeMap::new();
        for (name, value) in inner {
            let limit = i64::decode(&value).map_err(|reason| Fault::invalid(&name, reason))?;
            if !(-1..=MAX).contains(&limit) {
                return Err(Fault::invalid(&name, format!("'{limit}' is not between -1 and {MAX}")));
            }
            limits.insert(name, limit);
        }
        Ok(Self { limits, force, sent })
    }
}

async fn update(
    app: Data<App>,
    context: Context,
    path: Path<String>,
    JsonBody(body): JsonBody,
) -> Result<HttpResponse, Fault> {
    let project = named(&path)?;
    if !context.caller.has(Access::Admin) {
        return Err(Fault::forbidden("update_quota"));
    }
    let wish = Arc::new(Wish::decode(body, &app.settings.quotas)?);
    let set = transaction(&app, &Arc::new(context), move |tx| set(tx, project, Arc::clone(&wish)).boxed()).await?;
    Ok(answer(limits(&app.settings.quotas, &set)))
}

async fn set(tx: &mut Tx<'_>, project: Uuid, wish: Arc<Wish>) -> Result<Vec<Quota>, Fault> {
    for (resource, limit) in &wish.limits {
        let used = quotas::set(tx.conn, project, resource, *limit).await?;
        if !wish.force && (0..used).contains(limit) {
            return Err(Fault::bad_request(format!(
                "Quota limit {limit} for {resource} must be greater than or equal to already used {used}"
            )));
        }
    }
    if !wish.limits.is_empty() {
        tx.record("update", "quota", project, Some(project), wish.sent.clone());
    }
    Ok(quotas::of(tx.conn, project).await?)
}

async fn reset(app: Data<App>, context: Context, path: Path<String>) -> Result<HttpResponse, Fault> {
    let project = named(&path)?;
    if !context.caller.has(Access::Admin) {
        return Err(Fault::forbidden("delete_quota"));
    }
    transaction(&app, &Arc::new(context), move |tx| forget(tx, project).boxed()).await?;
    Ok(HttpResponse::NoContent().finish())
}

async fn forget(tx: &mut Tx<'_>, project: Uuid) -> Result<(), Fault> {
    if quotas::reset(tx.conn, project).await? == 0 {
        let message = format!("Quota for tenant {} could not be found.", project.simple());
        return Err(Fault::not_found("TenantQuotaNotFound", message));
    }
    tx.record("delete", "quota", project, Some(project), Value::Null);
    Ok(())
}
