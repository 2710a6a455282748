//! Pages. Those of all kinds of objects are made by [`list`], [`show`], [`edit`], [`delete`] and [`tags`].

pub mod auth;
pub mod cuts;
pub mod delete;
pub mod drops;
pub mod edit;
pub mod extra;
pub mod flow_log;
pub mod flows;
pub mod host;
pub mod list;
pub mod live;
pub mod map;
pub mod operator;
pub mod overview;
pub mod passing;
pub mod preferences;
pub mod routers;
pub mod search;
pub mod show;
pub mod table;
pub mod tags;
pub mod trace;
pub mod wizard;

use crate::fault::Fault;
use crate::resource::Resource;
use crate::session::Notice;
use crate::signed::Signed;
use crate::{assets, page};
use actix_web::http::header::ACCEPT_ENCODING;
use actix_web::web::{self, PayloadConfig, ServiceConfig, get, head, post, resource};
use actix_web::{HttpRequest, HttpResponse};
use uuid::Uuid;

/// Bytes of the form for signing in, which anybody can send.
const LOGIN: usize = 16 << 10;

/// Every address.
pub fn routes(config: &mut ServiceConfig) {
    config
        .route("/healthz", get().to(healthz))
        .route("/healthz", head().to(healthz))
        .route("/static/{digest}/{name}", get().to(asset))
        .service(
            resource("/login")
                .app_data(PayloadConfig::new(LOGIN))
                .route(get().to(auth::form))
                .route(post().to(auth::sign_in)),
        )
        .route("/logout", post().to(auth::sign_out))
        .route("/projects", get().to(auth::projects))
        .route("/projects", post().to(auth::choose))
        .route("/preferences", get().to(preferences::form))
        .route("/preferences", post().to(preferences::change))
        .route("/", get().to(overview::page))
        .route("/live", get().to(live::stream))
        .route("/search", get().to(search::page))
        .route("/wizard", get().to(wizard::form))
        .route("/wizard/ranges", get().to(wizard::ranges))
        .route("/wizard", post().to(wizard::make))
        .route("/map", get().to(map::page))
        .route("/roles", get().to(operator::roles))
        .route("/routers/{id}/interfaces", post().to(routers::change))
        .route("/ports/{id}/trace", get().to(trace::page))
        .route("/ports/{id}/reach", get().to(passing::reach))
        .route("/ports/{id}/flows", get().to(flows::page))
        .route("/ports/{id}/flow-log", get().to(flow_log::page))
        .route("/{kind}", get().to(list::page))
        .route("/{kind}", post().to(edit::create))
        .route("/{kind}/new", get().to(edit::new))
        .route("/{kind}/delete", get().to(delete::ask))
        .route("/{kind}/delete", post().to(delete::delete))
        .route("/{kind}/{id}", get().to(show::page))
        .route("/{kind}/{id}", post().to(edit::update))
        .route("/{kind}/{id}/drops", get().to(drops::page))
        .route("/{kind}/{id}/edit", get().to(edit::edit))
        .route("/{kind}/{id}/tags", post().to(tags::change))
        .default_service(web::to(nothing));
}

async fn healthz() -> HttpResponse {
    HttpResponse::Ok().content_type("text/plain").body("ok\n")
}

async fn asset(request: HttpRequest) -> Result<HttpResponse, Fault> {
    let accepts = request.headers().get(ACCEPT_ENCODING).and_then(|accepts| accepts.to_str().ok());
    assets::serve(request.path(), accepts.unwrap_or_default()).ok_or(Fault::NotFound)
}

async fn nothing() -> Result<HttpResponse, Fault> {
    Err(Fault::NotFound)
}

/// The kind of objects of an address, if this user may see such.
pub(crate) fn kind(signed: &Signed, path: &str) -> Result<&'static Resource, Fault> {
    let resource = crate::resource::at(path).ok_or(Fault::NotFound)?;
    if resource.verbs.operator && !signed.session.is_admin() {
        return Err(Fault::NotFound);
    }
    Ok(resource)
}

/// An id of an address.
pub(crate) fn id(text: &str) -> Result<String, Fault> {
    Uuid::try_parse(text).map(|id| id.to_string()).map_err(|_| Fault::NotFound)
}

/// What was done, for the page `to`; then to it.
pub(crate) fn done(signed: &Signed, sentence: String, to: &str) -> HttpResponse {
    signed.session.notify(to, Notice { sentence, refuses: false });
    page::go(to)
}

/// What was refused, for the page `to`; then to it.
pub(crate) fn not_done(signed: &Signed, sentence: String, to: &str) -> HttpResponse {
    signed.session.notify(to, Notice { sentence, refuses: true });
    page::go(to)
}

/// Refuses who may only look.
pub(crate) fn may_write(signed: &Signed) -> Result<(), Fault> {
    if signed.session.may_write() {
        return Ok(());
    }
    Err(Fault::Forbidden(format!("your role in project {} is to read", signed.project.name)))
}
