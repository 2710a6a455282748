//! What holds for every request and every answer, whichever page it is.
//!
//! - A page may load nothing but this server's own files, run no script and no style that stands in it,
//!   be in no frame, and send forms nowhere else.
//! - A request that changes something must come from a page of this server: browsers say so by `Origin` and
//!   `Sec-Fetch-Site`. (The form's secret says so too; this holds before anything is read.)
//! - Who must sign in is led there, and back afterwards.
//! - Who is signed in keeps the menu where something goes wrong.

use crate::api::Query;
use crate::fault::Fault;
use crate::page::{self, Frame, Wrong};
use crate::signed::site;
use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::{Method, header};
use actix_web::middleware::Next;
use actix_web::{Error, HttpRequest, HttpResponse, ResponseError as _};

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
                      form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

const HEADERS: [(&str, &str); 6] = [
    ("content-security-policy", POLICY),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "same-origin"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
];

/// Stands around every request.
pub async fn guard(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let mut response = if is_foreign(request.request()) {
        request.error_response(Fault::Forged)
    } else {
        next.call(request).await?.map_into_boxed_body()
    };
    let better = match response.response().error().and_then(|error| error.as_error::<Fault>()) {
        Some(Fault::SignIn) => Some(sign_in(response.request())),
        Some(fault) => framed(response.request(), fault),
        None => None,
    };
    if let Some(answer) = better {
        let (request, _) = response.into_parts();
        response = ServiceResponse::new(request, answer);
    }
    let secure = site(response.request()).is_secure();
    let headers = response.headers_mut();
    if secure {
        let year = header::HeaderValue::from_static("max-age=31536000");
        headers.insert(header::STRICT_TRANSPORT_SECURITY, year);
    }
    for (name, value) in HEADERS {
        headers.insert(header::HeaderName::from_static(name), header::HeaderValue::from_static(value));
    }
    // What a page shows is its user's: no cache between may keep it.
    if !headers.contains_key(header::CACHE_CONTROL) {
        headers.insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    }
    Ok(response)
}

/// Whether another site sent it. Where the browser says nothing, the form's secret decides.
fn is_foreign(request: &HttpRequest) -> bool {
    if matches!(*request.method(), Method::GET | Method::HEAD) {
        return false;
    }
    let text = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
    let crossed = text("sec-fetch-site").is_some_and(|site| !matches!(site, "same-origin" | "none"));
    let host = text("host").unwrap_or_default();
    let elsewhere = text("origin").is_some_and(|origin| {
        let named = origin.split_once("://").map(|(_, host)| host);
        named != Some(host) && origin != site(request).public
    });
    crossed || elsewhere
}

/// What went wrong, as a page with the menu: whoever is signed in goes on from there.
fn framed(request: &HttpRequest, fault: &Fault) -> Option<HttpResponse> {
    let status = fault.status_code();
    if status.is_redirection() || request.headers().contains_key("hx-request") {
        return None;
    }
    let (signed, plain) = (crate::signed::signed(request).ok()?, fault.page());
    let frame = Frame::new(&signed, page::title(status, &plain.title), "");
    page::answer(status, &Wrong { frame, plain }).ok()
}

/// To the page where one signs in, from where one goes on to the page that was asked for; after a form,
/// to the page that sent it.
fn sign_in(request: &HttpRequest) -> HttpResponse {
    let referer = || {
        let referer = request.headers().get(header::REFERER)?.to_str().ok()?;
        let (_, rest) = referer.split_once("://")?;
        Some(rest[rest.find('/')?..].to_owned())
    };
    // A part of a page is no page to go back to; its page is.
    let is_part = request.headers().contains_key("hx-request");
    let is_page = *request.method() == Method::GET && !is_part;
    let asked = if is_page { Some(request.uri().to_string()) } else { referer() };
    let had_one = request.cookie(site(request).cookie()).is_some();
    let mut query = Query::new();
    if let Some(asked) = asked.filter(|asked| asked != "/") {
        query = query.with("next", asked);
    }
    if had_one {
        query = query.with("ended", if *request.method() == Method::GET { "page" } else { "form" });
    }
    let to = query.after("/login");
    // A part of a page cannot become the page for signing in: the whole window goes there.
    if is_part {
        return HttpResponse::NoContent().insert_header(("hx-redirect", to)).finish();
    }
    page::go(&to)
}
