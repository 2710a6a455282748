//! Every request has an id, one line in the log, and is counted.
//!
//! The id is what a user quotes and an operator finds: it is in `X-Openstack-Request-Id` of the
//! answer and, as a field of the span, in every line that the request caused. A client may bring
//! one (services of OpenStack pass theirs on); one that is not well formed is replaced, so that
//! nobody writes into our log what he likes.
//!
//! Logged are the route's pattern, the path (as it came, percent-encoded: it cannot break a line),
//! and who asked. Never the query, a header or a body: there are tokens and passwords.

use super::metrics::RequestMetrics;
use crate::app::App;
use crate::frame::caller::Caller;
use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::middleware::Next;
use actix_web::web::Data;
use actix_web::{Error, HttpMessage, HttpRequest};
use mizar_db::turns;
use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::Instant;
use tracing::Instrument;
use utoipa::openapi::PathItem;
use uuid::Uuid;

const HEADER: HeaderName = HeaderName::from_static("x-openstack-request-id");

/// Of one request; in its extensions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestId(pub String);

impl RequestId {
    /// The client's, if it is `req-` and a UUID, else a new one.
    fn of(headers: &HeaderMap) -> Self {
        let brought = headers.get(HEADER).and_then(|value| value.to_str().ok());
        match brought {
            Some(id) if well_formed(id) => Self(id.to_owned()),
            _ => Self(format!("req-{}", Uuid::new_v4())),
        }
    }
}

fn well_formed(id: &str) -> bool {
    // With hyphens, as oslo.middleware has it: the parser would also take other forms.
    id.len() == 40 && id.strip_prefix("req-").is_some_and(|uuid| Uuid::try_parse(uuid).is_ok())
}

/// Who asked, for the log; left behind by authentication.
struct Asker {
    project: Option<Uuid>,
    user: String,
}

/// Says who asked, once that is known.
pub fn remember(request: &HttpRequest, caller: &Caller) {
    let asker = Asker { project: caller.project(), user: caller.claims.sub.clone() };
    request.extensions_mut().insert(asker);
}

/// Longest part of a path that is logged.
const PATH_MAX: usize = 256;

/// Wraps everything that the public listener does.
pub async fn observe(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let id = RequestId::of(request.headers());
    request.extensions_mut().insert(id.clone());
    let metrics = request.app_data::<Data<App>>().map(|app| app.metrics.requests.clone());
    let path = request.path();
    let path = path.get(..PATH_MAX).unwrap_or(path);
    let span = tracing::info_span!("request", id = %id.0, method = %request.method(), path);
    let (started, guard) = (Instant::now(), metrics.as_ref().map(|metrics| metrics.begin()));
    let mut response = turns::request(next.call(request).instrument(span.clone())).await?;
    drop(guard);
    if let Ok(value) = HeaderValue::from_str(&id.0) {
        response.headers_mut().insert(HEADER, value);
    }
    if response.status() == StatusCode::METHOD_NOT_ALLOWED {
        allow(&mut response);
    }
    let (took, status) = (started.elapsed(), response.status().as_u16());
    let route = response.request().match_pattern();
    let route = route.as_deref().unwrap_or("none");
    if let Some(metrics) = metrics {
        metrics.answered(response.request().method(), route, status, took);
    }
    span.in_scope(|| {
        let extensions = response.request().extensions();
        let asker = extensions.get::<Asker>();
        let project = asker.and_then(|asker| asker.project).map(|project| tracing::field::display(project.simple()));
        let user = asker.map(|asker| asker.user.as_str());
        let ms = took.as_secs_f64() * 1e3;
        tracing::info!(route, status, ms, project, user, "answered");
    });
    Ok(response)
}

/// A 405 says which methods there are (RFC 9110, 15.5.6): those of the document.
fn allow(response: &mut ServiceResponse<impl MessageBody>) {
    static METHODS: LazyLock<BTreeMap<String, HeaderValue>> = LazyLock::new(|| {
        let paths = crate::openapi::document().paths.paths.into_iter();
        let methods = paths.map(|(path, item)| (path, HeaderValue::from_str(&methods(&item).join(", "))));
        methods.filter_map(|(path, methods)| Some((path, methods.ok()?))).collect()
    });
    let route = response.request().match_pattern();
    let methods = route.and_then(|route| METHODS.get(&route).cloned());
    let methods = methods.unwrap_or_else(|| HeaderValue::from_static(""));
    response.headers_mut().insert(header::ALLOW, methods);
}

fn methods(item: &PathItem) -> Vec<&'static str> {
    let all = [
        ("GET", &item.get),
        ("HEAD", &item.head),
        ("POST", &item.post),
        ("PUT", &item.put),
        ("PATCH", &item.patch),
        ("DELETE", &item.delete),
    ];
    all.into_iter().filter(|(_, operation)| operation.is_some()).map(|(name, _)| name).collect()
}

/// Counts the agents' requests; they are too many to log each.
pub async fn count(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let metrics = request.app_data::<Data<RequestMetrics>>().cloned();
    let (started, guard) = (Instant::now(), metrics.as_ref().map(|metrics| metrics.begin()));
    let response = next.call(request).await?;
    drop(guard);
    if let Some(metrics) = metrics {
        let route = response.request().match_pattern();
        let route = route.as_deref().unwrap_or("none");
        metrics.answered(response.request().method(), route, response.status().as_u16(), started.elapsed());
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_well_formed_request_id_is_taken_over() {
        let of = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(HEADER, HeaderValue::from_str(value).expect("a header"));
            RequestId::of(&headers).0
        };
        let good = "req-6f9f7c1e-3b8a-4d7f-9c5e-0123456789ab";
        assert_eq!(of(good), good);
        for bad in
            ["", "req-", "6f9f7c1e-3b8a-4d7f-9c5e-0123456789ab", "req-6f9f7c1e3b8a4d7f9c5e0123456789ab", "req-\t"]
        {
            let made = of(bad);
            assert!(made != bad && well_formed(&made), "{bad}: {made}");
        }
        assert!(!well_formed("req-{6f9f7c1e3b8a4d7f9c5e0123456789ab}xx"));
    }
}
