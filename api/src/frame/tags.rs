//! Tags of every resource that has them: `/v2.0/{collection}/{id}/tags[/{tag}]`.

use super::caller::Access;
use super::decode::Decode;
use super::fault::Fault;
use super::fields::JsonBody;
use super::hold::{Right, Wish, find_at, hold};
use super::place::Place;
use super::resource::{Context, Resource};
use super::tx::transaction;
use crate::app::App;
use actix_web::{HttpResponse, web};
use diesel::sql_types::{Array, Text, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use futures::FutureExt;
use mizar_db::listing::Listed;
use mizar_domain::text::{TAGS_MAX, Tag, TagError, Tags};
use serde_json::json;
use std::collections::BTreeSet;
use std::sync::Arc;

/// What to do with the set of tags.
#[derive(Clone, Debug)]
enum Change {
    Replace(Vec<String>),
    Add(BTreeSet<String>),
    Remove(String),
}

fn not_found(tag: &str) -> Fault {
    Fault::not_found("TagNotFound", format!("Tag {tag} could not be found."))
}

impl Change {
    fn apply(&self, old: &[String]) -> Result<Vec<String>, Fault> {
        let mut tags: BTreeSet<String> = old.iter().cloned().collect();
        match self {
            Self::Replace(new) => tags = new.iter().cloned().collect(),
            Self::Add(more) => tags.extend(more.iter().cloned()),
            Self::Remove(tag) => {
                if !tags.remove(tag) {
                    return Err(not_found(tag));
                }
            }
        }
        if tags.len() > TAGS_MAX {
            return Err(Fault::invalid("tags", TagError::TooMany(tags.len())));
        }
        Ok(tags.into_iter().collect())
    }
}

async fn change<R: Resource>(app: &App, context: Context, place: Place, change: Change) -> Result<Vec<String>, Fault> {
    let right = Right::to_update::<R>(R::OPERATIONS.update.unwrap_or(Access::Admin));
    let wish = Wish { place, right, revision: None };
    let (context, wish, change) = (Arc::new(context), Arc::new(wish), Arc::new(change));
    transaction(app, &context, move |tx| {
        let (wish, change) = (Arc::clone(&wish), Arc::clone(&change));
        async move {
            let (_held, old) = hold::<R>(tx, &wish).await?;
            let tags = change.apply(old.tags())?;
            if tags != old.tags() {
                let statement = format!(
                    "UPDATE {} SET tags = $1, revision_number = revision_number + 1, updated_at = now() WHERE id = $2",
                    R::TABLE
                );
                diesel::sql_query(statement)
                    .bind::<Array<Text>, _>(&tags)
                    .bind::<SqlUuid, _>(old.row().id())
                    .execute(tx.conn)
                    .await?;
                tx.record("update", R::SINGULAR, old.row().id(), old.row().project(), json!({"tags": tags}));
            }
            Ok(tags)
        }
        .boxed()
    })
    .await
}

fn parse(tag: &str) -> Result<Tag, Fault> {
    Tag::new(tag).map_err(|error| Fault::invalid("tags", error))
}

fn body_tags(body: &serde_json::Value) -> Result<Tags, Fault> {
    let only = body.as_object().filter(|fields| fields.len() == 1).and_then(|fields| fields.get("tags"));
    let tags = only.ok_or_else(|| Fault::bad_request("Invalid tags body: {\"tags\": [...]} is expected"))?;
    Tags::decode(tags).map_err(|reason| Fault::invalid("tags", reason))
}

/// GET /tags.
pub async fn list<R: Resource>(app: web::Data<App>, context: Context, place: Place) -> Result<HttpResponse, Fault> {
    let mut conn = app.pool.get().await?;
    let item = find_at::<R>(&mut conn, &context, &place).await?;
    Ok(HttpResponse::Ok().json(json!({"tags": item.tags()})))
}

/// GET /tags/{tag}: 204 or 404.
pub async fn check<R: Resource>(app: web::Data<App>, context: Context, place: Place) -> Result<HttpResponse, Fault> {
    let tag = place.tag();
    let mut conn = app.pool.get().await?;
    let item = find_at::<R>(&mut conn, &context, &place).await?;
    if item.tags().iter().any(|own| own == tag) { Ok(HttpResponse::NoContent().finish()) } else { Err(not_found(tag)) }
}

/// PUT /tags: these and no others.
pub async fn replace<R: Resource>(
    app: web::Data<App>,
    context: Context,
    place: Place,
    JsonBody(body): JsonBody,
) -> Result<HttpResponse, Fault> {
    let tags = change::<R>(&app, context, place, Change::Replace(body_tags(&body)?.into_vec())).await?;
    Ok(HttpResponse::Ok().json(json!({"tags": tags})))
}

/// POST /tags: these too.
pub async fn add_all<R: Resource>(
    app: web::Data<App>,
    context: Context,
    place: Place,
    JsonBody(body): JsonBody,
) -> Result<HttpResponse, Fault> {
    let more = body_tags(&body)?.into_vec().into_iter().collect();
    let tags = change::<R>(&app, context, place, Change::Add(more)).await?;
    Ok(HttpResponse::Created().json(json!({"tags": tags})))
}

/// DELETE /tags: none.
pub async fn clear<R: Resource>(app: web::Data<App>, context: Context, place: Place) -> Result<HttpResponse, Fault> {
    change::<R>(&app, context, place, Change::Replace(Vec::new())).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// PUT /tags/{tag}.
pub async fn add<R: Resource>(app: web::Data<App>, context: Context, place: Place) -> Result<HttpResponse, Fault> {
    let tag = parse(place.tag())?.as_str().to_owned();
    change::<R>(&app, context, place, Change::Add([tag].into())).await?;
    Ok(HttpResponse::Created().finish())
}

/// DELETE /tags/{tag}.
pub async fn remove<R: Resource>(app: web::Data<App>, context: Context, place: Place) -> Result<HttpResponse, Fault> {
    let tag = place.tag().to_owned();
    change::<R>(&app, context, place, Change::Remove(tag)).await?;
    Ok(HttpResponse::NoContent().finish())
}
