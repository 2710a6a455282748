//! The handlers of every resource.
//!
//! A write goes: find what the caller sees (404), ask whether he may (403), lock, read again,
//! compare the revision (412), decode, run the rules, write quotas and the audit event, commit.
//! Nothing that a caller may not change is ever locked for him.

use super::action::{Action, Answer};
use super::attribute::{Json, Show, write_object};
use super::caller::{Access, Caller};
use super::context::Context;
use super::fault::Fault;
use super::fields::{Envelope, Fields, JsonBody, Purpose, open_create, open_update};
use super::hold::{Right, Wish, above, find, find_at, hold, may_write, resolve, take};
use super::place::Place;
use super::query::{ListQuery, fields, parameters};
use super::resource::Resource;
use super::tx::{Above, Tx, transaction};
use crate::app::App;
use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, web};
use futures::FutureExt;
use mizar_db::listing::{self, Listed, Listing};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use utoipa::openapi::path::HttpMethod;
use uuid::Uuid;

/// Path of a resource's collection.
pub fn base<R: Resource>() -> String {
    match R::PARENT {
        Some(parent) => format!("/v2.0/{}/{{parent}}/{}", parent.path, R::PATH),
        None => format!("/v2.0/{}", R::PATH),
    }
}

/// Mounts a resource below /v2.0.
pub fn mount<R: Resource>(config: &mut web::ServiceConfig) {
    mount_at::<R>(config, &base::<R>());
    if let Some(path) = R::ALSO {
        mount_at::<R>(config, &format!("/v2.0/{path}"));
    }
}

fn mount_at<R: Resource>(config: &mut web::ServiceConfig, base: &str) {
    let operations = R::OPERATIONS;
    let mut collection = web::resource([base.to_owned(), format!("{base}/"), format!("{base}.json")])
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
    for action in R::actions() {
        let path = format!("{base}/{{id}}/{}", action.name);
        let route = match action.method {
            HttpMethod::Get => web::get(),
            HttpMethod::Post => web::post(),
            HttpMethod::Delete => web::delete(),
            _ => web::put(),
        };
        let action = Arc::new(action);
        let handler = move |app: web::Data<App>, context: Context, place: Place, body: JsonBody| {
            act::<R>(Arc::clone(&action), app, context, place, body)
        };
        config.service(web::resource(path).default_service(web::to(method_not_allowed)).route(route.to(handler)));
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

/// GET of the collection.
async fn index<R: Resource>(
    app: web::Data<App>,
    context: Context,
    place: Place,
    request: HttpRequest,
) -> Result<HttpResponse, Fault> {
    may_read::<R>(&context.caller)?;
    let query = ListQuery::<R>::parse(R::map(), &context, request.query_string())?;
    if R::LAZY {
        transaction(&app, &Arc::new(context.clone()), |tx| R::before_list(tx).boxed()).await?;
    }
    let mut conn = app.pool.get().await?;
    let above = above::<R>(&mut conn, &context, &place).await?;
    let within = || R::PARENT.zip(above).map(|(parent, above)| (parent.within)(above.id));
    let marker = match &query.marker {
        None => None,
        Some(raw) => {
            let id = resolve::<R>(&mut conn, above, raw).await?;
            let row = listing::find::<R::Row>(&mut conn, context.view, within(), id).await?;
            Some(row.ok_or_else(|| R::missing(raw))?)
        }
    };
    let has_marker = marker.is_some();
    let turned = |(key, dir): (_, listing::Dir)| (key, if query.reverse { dir.reversed() } else { dir });
    let listing = Listing {
        filters: query.filters.into_iter().chain(within()).collect(),
        sorts: query.sorts.into_iter().map(turned).collect(),
        marker,
        // One more than asked for tells whether there is another page.
        limit: query.limit.map(|limit| limit as i64 + 1),
    };
    let mut rows = listing::list::<R::Row>(&mut conn, context.view, listing).await?;
    let more = query.limit.is_some_and(|limit| rows.len() > limit);
    if let Some(limit) = query.limit {
        rows.truncate(limit);
    }
    if query.reverse {
        rows.reverse();
    }
    let ends = rows.first().zip(rows.last()).map(|(first, last)| (first.id(), last.id()));
    let items = R::complete(&mut conn, &context, rows).await?;
    drop(conn);
    let mut json = plural(&items, &R::map().selection(&context.caller, &query.fields));
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
    context: Context,
    place: Place,
    request: HttpRequest,
) -> Result<HttpResponse, Fault> {
    may_read::<R>(&context.caller)?;
    let wanted = fields(&parameters(request.query_string())?);
    let mut conn = app.pool.get().await?;
    let item = find_at::<R>(&mut conn, &context, &place).await?;
    Ok(answer(single(&item, &R::map().selection(&context.caller, &wanted))))
}

/// Whether the caller may make objects, below this one if they lie below others.
fn may_create<R: Resource>(caller: &Caller, above: Option<Above>) -> Result<(), Fault> {
    let rule = || format!("create_{}", R::SINGULAR);
    let access = R::OPERATIONS.create.ok_or_else(|| Fault::forbidden(rule()))?;
    match above {
        Some(above) => may_write::<R>(caller, access, above.project, &rule()),
        None if R::OPERATIONS.allow(caller, access) => Ok(()),
        None => Err(Fault::forbidden(rule())),
    }
}

/// The command that a body of the caller's says.
fn decoded<R: Resource>(caller: &Caller, above: Option<Above>, body: Map<String, Value>) -> Result<R::Create, Fault> {
    let mut fields = Fields::new(R::map(), Purpose::Create, caller, body)?.below(above);
    let command = R::decode_create(&mut fields)?;
    fields.done()?;
    Ok(command)
}

/// POST to the collection.
async fn create<R: Resource>(
    app: web::Data<App>,
    context: Context,
    place: Place,
    JsonBody(body): JsonBody,
) -> Result<HttpResponse, Fault> {
    R::OPERATIONS.create.ok_or_else(Fault::method_not_allowed)?;
    let above = match R::PARENT {
        Some(_) => above::<R>(&mut *app.pool.get().await?, &context, &place).await?,
        None => None,
    };
    may_create::<R>(&context.caller, above)?;
    let (bodies, bulk) = match open_create::<R>(body)? {
        Envelope::One(body) => (vec![body], false),
        Envelope::Many(bodies) => (bodies, true),
    };
    let decode = |body: &Map<String, Value>| decoded::<R>(&context.caller, above, body.clone());
    let commands: Vec<R::Create> = bodies.iter().map(decode).collect::<Result<_, Fault>>()?;
    let (commands, bodies) = (Arc::new(commands), Arc::new(bodies));
    let context = Arc::new(context);
    let made = transaction(&app, &context, move |tx| {
        let (commands, bodies) = (Arc::clone(&commands), Arc::clone(&bodies));
        make::<R>(tx, above, commands, bodies).boxed()
    })
    .await?;
    let selection = R::map().selection(&context.caller, &BTreeSet::new());
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

async fn make<R: Resource>(
    tx: &mut Tx<'_>,
    above: Option<Above>,
    commands: Arc<Vec<R::Create>>,
    bodies: Arc<Vec<Map<String, Value>>>,
) -> Result<Vec<R>, Fault> {
    tx.above = above;
    if let Some((parent, above)) = R::PARENT.zip(above) {
        (parent.hold)(tx.conn, above.id).await?;
    }
    if let Some(quota) = R::QUOTA
        && R::NAMES_OWNER
        && bodies.len() > 1
    {
        tx.foresee(quota, &projects(tx, &bodies)).await?;
    }
    let made = R::create(tx, &commands).await?;
    for (item, body) in made.iter().zip(bodies.iter()) {
        noted::<R>(tx, "create", item.row(), Value::Object(body.clone()), 1).await?;
    }
    Ok(made)
}

/// Makes an object that the caller asked for by another request, as if he had sent its body.
pub async fn create_within<R: Resource>(tx: &mut Tx<'_>, body: Map<String, Value>) -> Result<R, Fault> {
    may_create::<R>(&tx.context.caller, None)?;
    let command = decoded::<R>(&tx.context.caller, None, body.clone())?;
    let outer = tx.above;
    let made = make::<R>(tx, None, Arc::new(vec![command]), Arc::new(vec![body])).await?;
    tx.above = outer;
    made.into_iter().next().ok_or_else(|| Fault::internal("nothing was made"))
}

/// Deletes an object that goes with another request of the caller's, if he sees it and may delete it.
pub async fn delete_within<R: Resource>(tx: &mut Tx<'_>, id: Uuid) -> Result<(), Fault> {
    let right = Right::to_delete::<R>(R::OPERATIONS.delete.unwrap_or(Access::Admin));
    let (held, old) = take::<R>(tx, None, id, &right).await?;
    noted::<R>(tx, "delete", old.row(), Value::Object(Map::new()), -1).await?;
    R::delete(tx, held, old).await
}

/// How many objects of a bulk create each project gets. Its rules decode the same later.
fn projects(tx: &Tx<'_>, bodies: &[Map<String, Value>]) -> BTreeMap<Uuid, i64> {
    let named = |body: &Map<String, Value>, name| body.get(name).and_then(|id| Uuid::try_parse(id.as_str()?).ok());
    let of_path = tx.above.and_then(|above| above.project).or(tx.context.caller.project());
    let mut counts = BTreeMap::new();
    for body in bodies {
        if let Some(project) = named(body, "project_id").or(named(body, "tenant_id")).or(of_path) {
            *counts.entry(project).or_default() += 1;
        }
    }
    counts
}

/// The audit event and the charge of a write.
async fn noted<R: Resource>(
    tx: &mut Tx<'_>,
    action: &'static str,
    row: &R::Row,
    changes: Value,
    count: i64,
) -> Result<(), Fault> {
    let above = tx.above.and_then(|above| above.project);
    let project = if above.is_some() { row.project().or(above) } else { R::owner(tx.conn, row).await? };
    tx.record(action, R::SINGULAR, row.id(), project, changes);
    if let (Some(quota), Some(project)) = (R::QUOTA, project) {
        tx.charge(project, quota, count);
    }
    Ok(())
}

/// `If-Match: revision_number=7`.
pub fn if_match(request: &HttpRequest) -> Result<Option<i64>, Fault> {
    let Some(value) = request.headers().get(header::IF_MATCH) else { return Ok(None) };
    let number = value.to_str().ok().and_then(|text| text.trim().strip_prefix("revision_number="));
    let number = number.and_then(|digits| digits.trim_matches('"').parse().ok());
    number.map(Some).ok_or_else(|| Fault::bad_request("Invalid revision_number in If-Match header"))
}

/// PUT of one object.
async fn update<R: Resource>(
    app: web::Data<App>,
    context: Context,
    place: Place,
    request: HttpRequest,
    JsonBody(body): JsonBody,
) -> Result<HttpResponse, Fault> {
    let access = R::OPERATIONS.update.ok_or_else(Fault::method_not_allowed)?;
    let wish = Wish { place, right: Right::to_update::<R>(access), revision: if_match(&request)? };
    // Names and rights are checked after visibility: to a stranger the object is not there (404),
    // whatever he sends.
    let body = Arc::new(open_update::<R>(body)?);
    let (context, wish) = (Arc::new(context), Arc::new(wish));
    let item = transaction(&app, &context, move |tx| {
        let (body, wish) = (Arc::clone(&body), Arc::clone(&wish));
        change::<R>(tx, wish, body).boxed()
    })
    .await?;
    Ok(answer(single(&item, &R::map().selection(&context.caller, &BTreeSet::new()))))
}

async fn change<R: Resource>(tx: &mut Tx<'_>, wish: Arc<Wish>, body: Arc<Map<String, Value>>) -> Result<R, Fault> {
    let (held, old) = hold::<R>(tx, &wish).await?;
    let fields = Fields::new(R::map(), Purpose::Update, &tx.context.caller, (*body).clone())?;
    let mut fields = fields.below(tx.above);
    let command = R::decode_update(&mut fields, &old)?;
    fields.done()?;
    let item = R::update(tx, held, old, &command).await?;
    noted::<R>(tx, "update", item.row(), Value::Object((*body).clone()), 0).await?;
    Ok(item)
}

/// DELETE of one object.
async fn delete<R: Resource>(
    app: web::Data<App>,
    context: Context,
    place: Place,
    request: HttpRequest,
) -> Result<HttpResponse, Fault> {
    let access = R::OPERATIONS.delete.ok_or_else(Fault::method_not_allowed)?;
    let wish = Wish { place, right: Right::to_delete::<R>(access), revision: if_match(&request)? };
    let (context, wish) = (Arc::new(context), Arc::new(wish));
    transaction(&app, &context, move |tx| {
        let wish = Arc::clone(&wish);
        async move {
            let (held, old) = hold::<R>(tx, &wish).await?;
            noted::<R>(tx, "delete", old.row(), Value::Object(Map::new()), -1).await?;
            R::delete(tx, held, old).await
        }
        .boxed()
    })
    .await?;
    Ok(HttpResponse::NoContent().finish())
}

/// An action on one object.
async fn act<R: Resource>(
    action: Arc<Action<R>>,
    app: web::Data<App>,
    context: Context,
    place: Place,
    JsonBody(body): JsonBody,
) -> Result<HttpResponse, Fault> {
    let wish = Wish { place, right: Right::to_act::<R>(&action), revision: None };
    let (context, wish, body) = (Arc::new(context), Arc::new(wish), Arc::new(body));
    match transaction(&app, &context, move |tx| {
        let (action, wish, body) = (Arc::clone(&action), Arc::clone(&wish), Arc::clone(&body));
        async move { run::<R>(tx, &action, &wish, &body).await }.boxed()
    })
    .await?
    {
        Done::Object(item) => Ok(answer(single(&item, &R::map().selection(&context.caller, &BTreeSet::new())))),
        Done::Body(body) => Ok(HttpResponse::Ok().json(body)),
        Done::Empty => Ok(HttpResponse::NoContent().finish()),
    }
}

/// An [`Answer`] in full.
enum Done<R> {
    Object(R),
    Body(Value),
    Empty,
}

async fn run<R: Resource>(tx: &mut Tx<'_>, action: &Action<R>, wish: &Wish, body: &Value) -> Result<Done<R>, Fault> {
    let item = if action.only_reads() {
        if !R::OPERATIONS.allow(&tx.context.caller, action.access) {
            return Err(Fault::forbidden(wish.right.rule()));
        }
        find_at::<R>(tx.conn, tx.context, &wish.place).await?
    } else {
        hold::<R>(tx, wish).await?.1
    };
    let (id, above) = (item.row().id(), tx.above);
    // Rights come first here too: to whoever does not see the object, every body is a 404.
    let mut fields = action.open(&tx.context.caller, body)?.below(above);
    if !action.only_reads() {
        let project = item.row().project().or(above.and_then(|above| above.project));
        tx.record(action.name, R::SINGULAR, id, project, fields.sent());
    }
    let body = (action.run)(tx, item, &mut fields).await?;
    fields.done()?;
    Ok(match action.answer {
        Answer::Object => Done::Object(find::<R>(tx.conn, tx.context, above, id).await?),
        Answer::Body(_) => Done::Body(body),
        Answer::Empty => Done::Empty,
    })
}
