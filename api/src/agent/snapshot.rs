//! `GET /agent/v1/hosts/{host}/snapshot?after=KEY&limit=N`.

use super::Shared;
use super::identity::HostName;
use super::problem::{self, Problem};
use super::sync::session;
use actix_web::Resource;
use actix_web::body::MessageBody;
use actix_web::dev::{ServiceFactory, ServiceRequest, ServiceResponse};
use actix_web::middleware::Compress;
use actix_web::web::{self, Data, Json};
use mizar_db::feed::snapshot::{self as db, After, PAGE};
use mizar_wire::sync::SnapshotPage;
use serde::Deserialize;

pub(super) fn resource() -> Resource<
    impl ServiceFactory<
        ServiceRequest,
        Config = (),
        Response = ServiceResponse<impl MessageBody>,
        Error = actix_web::Error,
        InitError = (),
    >,
> {
    web::resource("/snapshot")
        .wrap(Compress::default())
        .route(web::get().to(snapshot))
        .default_service(web::to(problem::method))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    after: Option<String>,
    limit: Option<usize>,
}

async fn snapshot(
    HostName(name): HostName,
    shared: Data<Shared>,
    asked: Result<web::Query<Asked>, actix_web::Error>,
) -> Result<Json<SnapshotPage>, Problem> {
    let web::Query(Asked { after, limit }) = asked.map_err(|error| Problem::malformed(error.to_string()))?;
    let after: Option<After> = after
        .map(|text| text.parse())
        .transpose()
        .map_err(|error: db::AfterError| Problem::malformed(error.to_string()))?;
    let limit = limit.unwrap_or(PAGE);
    if !(1..=PAGE).contains(&limit) {
        return Err(Problem::malformed(format!("'limit' must be 1 to {PAGE}")));
    }
    let Ok(_one_of_few) = shared.snapshots.try_acquire() else {
        return Err(Problem::busy("too many snapshots are being read"));
    };
    let host = session(&shared, &name).await?.number;
    let page = db::page(&mut *shared.feed.pool().get().await?, host, after.as_ref(), limit).await?;
    shared.sessions.sent(&name);
    Ok(Json(page))
}
