//! Forms for new objects and for changes.

use crate::advice;
use crate::api::{CallError, Query, Refused, objects};
use crate::cell::{self, Link};
use crate::fault::Fault;
use crate::form::{self, Choice, Errors, Input, Look, Sent, Texts};
use crate::page::{self, Frame};
use crate::resource::text::{FIXED_IPS, joined, plain};
use crate::resource::{Field, Kind, Resource, declared};
use crate::signed::{Posted, Signed};
use actix_web::http::StatusCode;
use actix_web::web::Path;
use actix_web::{HttpRequest, HttpResponse};
use askama::Template;
use futures::future::try_join_all;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// With more than so many objects to choose from, a form asks for an id.
const CHOICES: usize = 300;

#[derive(Template)]
#[template(path = "form.html")]
struct Form {
    frame: Frame,
    title: String,
    action: String,
    submit: &'static str,
    back: Link,
    about: &'static str,
    error: Option<String>,
    help: Option<&'static str>,
    revision: Option<i64>,
    inputs: Vec<Input>,
}

fn fields(signed: &Signed, resource: &'static Resource, asked: fn(&Field) -> bool) -> Vec<&'static Field> {
    let seen = |field: &&'static Field| asked(field) && (!field.operator || signed.session.is_admin());
    resource.fields.iter().filter(seen).collect()
}

/// What references choose from; nothing where there is too much.
async fn choices(
    signed: &Signed,
    fields: &[&'static Field],
) -> Result<BTreeMap<&'static str, Option<Vec<Choice>>>, Fault> {
    let asked = fields.iter().filter_map(|field| match field.kind {
        Kind::Reference(to, _) | Kind::References(to) => Some((field, declared(to))),
        _ => None,
    });
    let lists = asked.map(|(field, of)| async move {
        let mut query = Query::new().with("limit", CHOICES + 1).with_each("fields", of.called_by());
        for (name, value) in field.among {
            query = query.with(name, value);
        }
        if field.among.is_empty() && signed.session.is_admin() {
            query = query.with("project_id", &signed.project.id);
        }
        let found = objects(&mut signed.calls.get(of.api, &query).await?, of.plural)?;
        let all = (found.len() <= CHOICES).then(|| found.iter().map(|object| choice(of, object)).collect());
        Ok::<_, Fault>((field.name, all))
    });
    Ok(try_join_all(lists).await?.into_iter().collect())
}

fn choice(of: &Resource, object: &Value) -> Choice {
    let title = (of.title)(object);
    let more = match (&object["cidr"], &object["fixed_ips"]) {
        (Value::String(cidr), _) => format!(" ({cidr})"),
        (_, ips @ Value::Array(_)) => format!(" ({})", joined(FIXED_IPS.show, ips)),
        _ => String::new(),
    };
    Choice { value: plain(&object["id"]), label: title + &more, chosen: false }
}

/// What a form is shown with.
struct Filled<'a> {
    texts: &'a Texts,
    errors: Errors,
    refused: Option<Refused>,
    /// The object that it changes.
    object: Option<&'a Value>,
    /// The revision of the object that the fields were filled from; what is saved must be a change of that one.
    revision: Option<i64>,
}

async fn show(
    signed: &Signed,
    resource: &'static Resource,
    fields: &[&'static Field],
    filled: Filled<'_>,
) -> Result<HttpResponse, Fault> {
    let Filled { texts, mut errors, refused, object, revision } = filled;
    let choices = choices(signed, fields).await?;
    let status = match &refused {
        Some(refused) => StatusCode::from_u16(refused.status).unwrap_or(StatusCode::BAD_REQUEST),
        None if errors.is_empty() => StatusCode::OK,
        None => StatusCode::BAD_REQUEST,
    };
    let help = refused.as_ref().and_then(advice::what_to_do);
    let mut error = None;
    if let Some(refused) = &refused {
        let about = advice::attribute(refused);
        match fields.iter().find(|field| Some(field.name) == about) {
            Some(field) => _ = errors.insert(field.name, refused.message.clone()),
            None => error = Some(refused.message.clone()),
        }
    }
    if error.is_none() && !errors.is_empty() {
        error = Some("Nothing was done: look at the marked fields.".into());
    }
    let (title, action, submit, back, here) = match object {
        None => (
            format!("New {}", resource.one),
            resource.list(),
            "Create",
            link(resource.list(), resource.many),
            format!("{}/new", resource.list()),
        ),
        Some(object) => {
            let page = resource.page_of(object["id"].as_str().unwrap_or_default());
            let title = (resource.title)(object);
            let here = format!("{page}/edit");
            (format!("Change {} {title}", resource.one), page.clone(), "Save", link(page, title), here)
        }
    };
    let form = Form {
        frame: Frame::new(signed, page::title(status, &title), &here),
        title,
        action,
        submit,
        back,
        about: if object.is_none() { resource.about } else { "" },
        error,
        help,
        revision,
        inputs: form::inputs(fields, texts, &errors, &choices, object.is_none()),
    };
    page::answer(status, &form)
}

fn link(href: String, text: impl Into<String>) -> Link {
    Link { href, text: text.into() }
}

fn creating(signed: &Signed, kind: &str) -> Result<(&'static Resource, Vec<&'static Field>), Fault> {
    let resource = super::kind(signed, kind)?;
    if !resource.verbs.create {
        return Err(Fault::NotFound);
    }
    super::may_write(signed)?;
    Ok((resource, fields(signed, resource, |field| field.creates)))
}

/// The form for a new object; the address may fill fields.
pub async fn new(signed: Signed, path: Path<String>, request: HttpRequest) -> Result<HttpResponse, Fault> {
    let (resource, fields) = creating(&signed, &path)?;
    let mut sent = Sent::parse(request.query_string().as_bytes())?;
    let mut texts = form::blank(&fields);
    texts.extend(form::take(&fields, &mut sent)?.into_iter().filter(|(_, values)| !values.is_empty()));
    sent.end()?;
    let filled = Filled { texts: &texts, errors: Errors::new(), refused: None, object: None, revision: None };
    show(&signed, resource, &fields, filled).await
}

/// Makes it.
pub async fn create(posted: Posted<Signed>, path: Path<String>) -> Result<HttpResponse, Fault> {
    let Posted { signed, mut sent } = posted;
    let (resource, fields) = creating(&signed, &path)?;
    let texts = form::take(&fields, &mut sent)?;
    sent.end()?;
    let again = |errors, refused| Filled { texts: &texts, errors, refused, object: None, revision: None };
    let mut body = match form::creation(&fields, &texts) {
        Ok(body) => body,
        Err(errors) => return show(&signed, resource, &fields, again(errors, None)).await,
    };
    complete(resource, &mut body);
    match signed.calls.post(resource.api, &json!({ resource.singular: body })).await {
        Ok(answer) => {
            let mut made = crate::api::object(answer, resource.singular)?;
            // It is made, whether or not its title can say all.
            let _ = cell::complete(&signed.calls, resource, std::slice::from_mut(&mut made)).await;
            let sentence = format!("Created {} {}.", resource.one, (resource.title)(&made));
            Ok(super::done(&signed, sentence, &after(resource, &made)))
        }
        Err(CallError::Refused(refused)) if is_about_form(&refused) => {
            show(&signed, resource, &fields, again(Errors::new(), Some(refused))).await
        }
        Err(error) => Err(error.into()),
    }
}

/// What the API needs and no form asks.
fn complete(resource: &Resource, body: &mut Map<String, Value>) {
    if resource.path == "subnets" {
        body.insert("ip_version".into(), json!(4));
    }
    if resource.path == "ports" && body.get("port_security_enabled") == Some(&json!(true)) {
        // What a network says of its ports counts unless it is switched off here.
        body.remove("port_security_enabled");
    }
}

/// A rule is looked at on the page of its group, everything else on its own.
fn after(resource: &Resource, object: &Value) -> String {
    match object["security_group_id"].as_str() {
        Some(group) if resource.path == "security-group-rules" => declared("security-groups").page_of(group),
        _ => resource.page_of(object["id"].as_str().unwrap_or_default()),
    }
}

/// Whether whoever wrote the form can do something about it there. A 404 of a POST is about something
/// that the form names.
fn is_about_form(refused: &Refused) -> bool {
    matches!(refused.status, 400 | 403 | 404 | 409 | 412 | 413 | 429)
}

fn changing(signed: &Signed, kind: &str) -> Result<(&'static Resource, Vec<&'static Field>), Fault> {
    let resource = super::kind(signed, kind)?;
    if !resource.verbs.edit {
        return Err(Fault::NotFound);
    }
    super::may_write(signed)?;
    Ok((resource, fields(signed, resource, |field| field.edits)))
}

/// The form for a change.
pub async fn edit(signed: Signed, path: Path<(String, String)>) -> Result<HttpResponse, Fault> {
    let (kind, id) = path.into_inner();
    let (resource, fields) = changing(&signed, &kind)?;
    let object = super::show::object(&signed, resource, &id).await?;
    let texts = form::texts_of(&fields, &object);
    let revision = object["revision_number"].as_i64();
    let filled = Filled { texts: &texts, errors: Errors::new(), refused: None, object: Some(&object), revision };
    show(&signed, resource, &fields, filled).await
}

/// Makes the change, of the object as the form showed it.
pub async fn update(posted: Posted<Signed>, path: Path<(String, String)>) -> Result<HttpResponse, Fault> {
    let Posted { signed, mut sent } = posted;
    let (kind, id) = path.into_inner();
    let (resource, fields) = changing(&signed, &kind)?;
    let revision = match sent.take("revision")? {
        None => None,
        Some(text) => Some(text.parse::<i64>().map_err(|_| Fault::Bad("`revision` is not a number".into()))?),
    };
    let texts = form::take(&fields, &mut sent)?;
    sent.end()?;
    let object = super::show::object(&signed, resource, &id).await?;
    let again = |errors, refused| Filled { texts: &texts, errors, refused, object: Some(&object), revision };
    let body = match form::change(&fields, &texts, &object) {
        Ok(body) => body,
        Err(errors) => return show(&signed, resource, &fields, again(errors, None)).await,
    };
    let page = resource.page_of(object["id"].as_str().unwrap_or_default());
    if body.is_empty() {
        return Ok(super::done(&signed, "Nothing was different, so nothing was changed.".into(), &page));
    }
    let at = resource.api_of(object["id"].as_str().unwrap_or_default());
    match signed.calls.put(&at, Some(&json!({ resource.singular: body })), revision).await {
        Ok(answer) => {
            let changed = crate::api::object(answer, resource.singular)?;
            let sentence = format!("Changed {} {}.", resource.one, (resource.title)(&changed));
            Ok(super::done(&signed, sentence, &page))
        }
        Err(CallError::Refused(refused)) if is_about_form(&refused) => {
            show(&signed, resource, &fields, again(Errors::new(), Some(refused))).await
        }
        Err(error) => Err(error.into()),
    }
}
