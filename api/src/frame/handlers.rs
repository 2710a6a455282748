//! The handlers of every resource.

use super::attribute::{Json, Show, write_object};
use super::caller::{Access, Caller};
use super::fault::Fault;
use super::fields::{Envelope, Fields, JsonBody, Purpose, open_create, open_update};
use super::query::{ListQuery, fields, parameters};
use super::resource::{Context, Resource};
use crate::app::App;
use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, web};
use diesel_async::AsyncPgConnection;
use futures::FutureExt;
use mizar_db::listing::{self, Listed, Listing};
use std::collections::BTreeSet;
use std::sync::Arc;
use uuid::Uuid;

/// Mounts a resource below /v2.0.
pub fn mount<R: Resource>(config: &mut web::ServiceConfig) {
    let operations = R::OPERATIONS;
    let base = format!("/v2.0/{}", R::PATH);
    let mut collection = web::resource([base.clone(), format!("{base}/"), format!("{base}.json")])
        .default_service(web::to(method_not_allowed))
        .get(index::<R>);
    if operations.create.is_some() {
        collection = collection.post(create::<R>);
    }
    let mut item = web::resource(format!("{base}/{{id}}")).default_service(web::to(method_not_allowed)).get(show::<R>);
    if operations.update.is_some() {
        item = item.put(update::<R>);
    }
    if operations.delete.is_some() {
        item = item.delete(delete::<R>);
    }
    if operations.tags {
        config.service(
            web::resource(format!("{base}/{{id}}/tags"))
                .default_service(web::to(method_not_allowed))
                .get(super::tags::list::<R>)
                .put(super::tags::replace::<R>)
                .post(super::tags::add_all::<R>)
                .delete(super::tags::clear::<R>),
        );
        config.service(
            web::resource(format!("{base}/{{id}}/tags/{{tag}}"))
                .default_service(web::to(method_not_allowed))
                .get(super::tags::check::<R>)
                .put(super::tags::add::<R>)
                .delete(super::tags::remove::<R>),
        );
    }
    config.service(collection).service(item);
}

/// 405, for whoever has a token.
pub async fn method_not_allowed(_: Caller) -> Result<HttpResponse, Fault> {
    Err(Fault::method_not_allowed())
}

/// 404 outside of every resource.
pub async fn no_such_path() -> Result<HttpResponse, Fault> {
    Err(Fault::no_such_path())
}

fn may_read<R: Resource>(caller: &Caller) -> Result<(), Fault> {
    if R::OPERATIONS.allow(caller, R::OPERATIONS.read) {
        Ok(())
    } else {
        Err(Fault::forbidden(format!("get_{}", R::SINGULAR)))
    }
}

/// The object that a path means.
pub async fn resolve<R: Resource>(conn: &mut AsyncPgConnection, raw: &str) -> Result<Uuid, Fault> {
    let name = raw.strip_suffix(".json").unwrap_or(raw);
    // PostgreSQL takes no NUL, and nothing has one in its name.
    let id = if name.contains('\0') { None } else { R::resolve(conn, name).await? };
    id.ok_or_else(|| R::missing(name))
}

fn answer(json: Json) -> HttpResponse {
    HttpResponse::Ok().content_type(header::ContentType::json()).body(json.into_bytes())
}

fn single<R: Resource>(item: &R, selection: &[(&'static str, Show<R>)]) -> Json {
    let mut json = Json::default();
    json.raw("{\"");
    json.raw(R::SINGULAR);
    json.raw("\":");
    write_object(item, selection, &mut json);
    json.raw("}");
    json
}

fn plural<R: Resource>(items: &[R], selection: &[(&'static str, Show<R>)]) -> Json {
    let mut json = Json::default();
    json.raw("{\"");
    json.raw(R::PLURAL);
    json.raw("\":[");
    for (place, item) in items.iter().enumerate() {
        if place > 0 {
            json.raw(",");
        }
        write_object(item, selection, &mut json);
    }
    json.raw("]");
    json
}

/// One object that the caller sees.
pub async fn find<R: Resource>(conn: &mut AsyncPgConnection, context: &Context, id: Uuid) -> Result<R, Fault> {
    let missing = || R::missing(&id.to_string());
    let row = listing::find::<R::Row>(conn, context.view, id).await?.ok_or_else(missing)?;
    R::complete(conn, context, vec![row]).await?.pop().ok_or_else(missing)
}

/// GET of the collection.
async fn index<R: Resource>(app: web::Data<App>, caller: Caller, request: HttpRequest) -> Result<HttpResponse, Fault> {
    may_read::<R>(&caller)?;
    let query = ListQuery::<R>::parse(R::map(), request.query_string())?;
    let mut conn = app.pool.get().await?;
    let marker = match &query.marker {
        None => None,
        Some(raw) => {
            let id = resolve::<R>(&mut conn, raw).await?;
            let row = listing::find::<R::Row>(&mut conn, caller.view(), id).await?;
            Some(row.ok_or_else(|| R::missing(raw))?)
        }
    };
    let has_marker = marker.is_some();
    let turned = |(key, dir): (_, listing::Dir)| (key, if query.reverse { dir.reversed() } else { dir });
    let listing = Listing {
        filters: query.filters,
        sorts: query.sorts.into_iter().map(turned).collect(),
        marker,
        // One more than asked for tells whether there is another page.
        limit: query.limit.map(|limit| limit as i64 + 1),
    };
    let mut rows = listing::list::<R::Row>(&mut conn, caller.view(), listing).await?;
    let more = query.limit.is_some_and(|limit| rows.len() > limit);
    if let Some(limit) = query.limit {
        rows.truncate(limit);
    }
    if query.reverse {
        rows.reverse();
    }
    let ends = rows.first().zip(rows.last()).map(|(first, last)| (first.id(), last.id()));
    let items = R::complete(&mut conn, &app.context(&caller), rows).await?;
    drop(conn);
    let mut json = plural(&items, &R::map().selection(&caller, &query.fields));
    if query.limit.is_some()
        && let Some((first, last)) = ends
    {
        // Walking backwards, what comes after the page is where the walker came from.
        let (before, after) = if query.reverse { (more, has_marker) } else { (has_marker, more) };
        let mut links = Vec::new();
        let base = format!("{}{}", app.settings.public_url, request.path());
        if after {
            links.push(
                serde_json::json!({"rel": "next", "href": page_link(&base, request.query_string(), last, false)}),
            );
        }
        if before {
            links.push(
                serde_json::json!({"rel": "previous", "href": page_link(&base, request.query_string(), first, true)}),
            );
        }
        if !links.is_empty() {
            json.raw(&format!(",\"{}_links\":", R::PLURAL));
            json.put(&links);
        }
    }
    json.raw("}");
    Ok(answer(json))
}

fn page_link(base: &str, query: &str, marker: Uuid, reverse: bool) -> String {
    let kept = query.split('&').filter(|pair| {
        let name = pair.split('=').next().unwrap_or_default();
        !pair.is_empty() && name != "marker" && name != "page_reverse"
    });
    let mut parts: Vec<String> = kept.map(str::to_owned).collect();
    parts.push(format!("marker={marker}"));
    if reverse {
        parts.push("page_reverse=True".into());
    }
    format!("{base}?{}", parts.join("&"))
}

/// GET of one object.
async fn show<R: Resource>(
    app: web::Data<App>,
    caller: Caller,
    path: web::Path<String>,
    request: HttpRequest,
) -> Result<HttpResponse, Fault> {
    may_read::<R>(&caller)?;
    let wanted = fields(&parameters(request.query_string())?);
    let mut conn = app.pool.get().await?;
    let id = resolve::<R>(&mut conn, &path).await?;
    let item = find::<R>(&mut conn, &app.context(&caller), id).await?;
    Ok(answer(single(&item, &R::map().selection(&caller, &wanted))))
}

/// POST to the collection.
async fn create<R: Resource>(
    app: web::Data<App>,
    caller: Caller,
    JsonBody(body): JsonBody,
) -> Result<HttpResponse, Fault> {
    let access = R::OPERATIONS.create.ok_or_else(Fault::method_not_allowed)?;
    if !R::OPERATIONS.allow(&caller, access) {
        return Err(Fault::forbidden(format!("create_{}", R::SINGULAR)));
    }
    let (bodies, bulk) = match open_create::<R>(body)? {
        Envelope::One(body) => (vec![body], false),
        Envelope::Many(bodies) => (bodies, true),
    };
    let decode = |body| {
        let mut fields = Fields::new(R::map(), Purpose::Create, &caller, body)?;
        let command = R::decode_create(&mut fields)?;
        fields.done()?;
        Ok(command)
    };
    let commands: Arc<Vec<R::Create>> = Arc::new(bodies.into_iter().map(decode).collect::<Result<_, Fault>>()?);
    let context = Arc::new(app.context(&caller));
    let made = app
        .pool
        .transaction(move |conn| {
            let (commands, context) = (Arc::clone(&commands), Arc::clone(&context));
            async move { R::create(conn, &context, &commands).await }.boxed()
        })
        .await?;
    let selection = R::map().selection(&caller, &BTreeSet::new());
    let json = match made.first() {
        Some(one) if !bulk => single(one, &selection),
        _ => {
            let mut json = plural(&made, &selection);
            json.raw("}");
            json
        }
    };
    Ok(HttpResponse::Created().content_type(header::ContentType::json()).body(json.into_bytes()))
}

/// `If-Match: revision_number=7`.
pub fn if_match(request: &HttpRequest) -> Result<Option<i64>, Fault> {
    let Some(value) = request.headers().get(header::IF_MATCH) else { return Ok(None) };
    let number = value.to_str().ok().and_then(|text| text.trim().strip_prefix("revision_number="));
    let number = number.and_then(|digits| digits.trim_matches('"').parse().ok());
    number.map(Some).ok_or_else(|| Fault::bad_request("Invalid revision_number in If-Match header"))
}

/// Locks an object and loads it, if the caller sees it and may change it.
pub async fn hold<R: Resource>(
    conn: &mut AsyncPgConnection,
    context: &Context,
    caller: &Caller,
    raw: &str,
    (access, rule): (Access, &str),
    revision: Option<i64>,
) -> Result<(R::Held, R), Fault> {
    let id = resolve::<R>(conn, raw).await?;
    let held = R::lock(conn, id).await?.ok_or_else(|| R::missing(&id.to_string()))?;
    let old = find::<R>(conn, context, id).await?;
    let owned = old.project().is_some() && old.project() == caller.project();
    if !R::OPERATIONS.allow(caller, access) || !(owned || caller.has(Access::Privileged)) {
        return Err(Fault::forbidden(format!("{rule}_{}", R::SINGULAR)));
    }
    match revision {
        Some(revision) if revision != old.revision() => Err(Fault::stale(revision)),
        _ => Ok((held, old)),
    }
}

/// PUT of one object.
async fn update<R: Resource>(
    app: web::Data<App>,
    caller: Caller,
    path: web::Path<String>,
    request: HttpRequest,
    JsonBody(body): JsonBody,
) -> Result<HttpResponse, Fault> {
    let access = R::OPERATIONS.update.ok_or_else(Fault::method_not_allowed)?;
    let raw: Arc<str> = path.into_inner().into();
    let revision = if_match(&request)?;
    let body = open_update::<R>(body)?;
    let context = Arc::new(app.context(&caller));
    // Names and rights are checked after visibility: to a stranger the object is not there (404),
    // whatever he sends.
    let body = Arc::new(body);
    let caller = Arc::new(caller);
    let item = {
        let caller = Arc::clone(&caller);
        app.pool
            .transaction(move |conn| {
                let (caller, context) = (Arc::clone(&caller), Arc::clone(&context));
                let (body, raw) = (Arc::clone(&body), Arc::clone(&raw));
                async move {
                    let (held, old) = hold::<R>(conn, &context, &caller, &raw, (access, "update"), revision).await?;
                    let mut fields = Fields::new(R::map(), Purpose::Update, &caller, (*body).clone())?;
                    let command = R::decode_update(&mut fields)?;
                    fields.done()?;
                    R::update(conn, &context, held, old, &command).await
                }
                .boxed()
            })
            .await?
    };
    Ok(answer(single(&item, &R::map().selection(&caller, &BTreeSet::new()))))
}

/// DELETE of one object.
async fn delete<R: Resource>(
    app: web::Data<App>,
    caller: Caller,
    path: web::Path<String>,
    request: HttpRequest,
) -> Result<HttpResponse, Fault> {
    let access = R::OPERATIONS.delete.ok_or_else(Fault::method_not_allowed)?;
    let raw: Arc<str> = path.into_inner().into();
    let revision = if_match(&request)?;
    let context = Arc::new(app.context(&caller));
    let caller = Arc::new(caller);
    app.pool
        .transaction(move |conn| {
            let (caller, context, raw) = (Arc::clone(&caller), Arc::clone(&context), Arc::clone(&raw));
            async move {
                let (held, old) = hold::<R>(conn, &context, &caller, &raw, (access, "delete"), revision).await?;
                R::delete(conn, held, old).await
            }
            .boxed()
        })
        .await?;
    Ok(HttpResponse::NoContent().finish())
}
