//! Pages that follow changes: one stream a page, which brings again what has become another.
//!
//! The parts of a page are made by the same functions as the page itself, once a second, and those sent
//! whose HTML is not what was sent before: whoever changed what, and whether by this dashboard or by any
//! other client, it shows. With every message comes the time of the data, so that a page that stopped
//! following is not taken for a quiet one.

use super::{list, map, operator, overview, show};
use crate::api::Query;
use crate::fault::Fault;
use crate::page::Fragment;
use crate::signed::Signed;
use actix_web::http::header::{CONTENT_ENCODING, ContentEncoding};
use actix_web::web::Bytes;
use actix_web::{HttpRequest, HttpResponse};
use askama::Template;
use chrono::Utc;
use futures::Stream;
use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::OwnedSemaphorePermit;

/// From one look to the next: at most two messages a second, and a change is seen within two.
const PACE: Duration = Duration::from_millis(1_000);

/// A page that takes long to make is made less often: it rests for so many times as long.
const REST: u32 = 4;

/// The parts of the page at an address of this dashboard.
async fn fragments(signed: &Signed, of: &str) -> Result<Vec<Fragment>, Fault> {
    let (path, query) = of.split_once('?').unwrap_or((of, ""));
    let segments: Vec<&str> = path.strip_prefix('/').ok_or(Fault::NotFound)?.split('/').collect();
    match segments.as_slice() {
        [""] => overview::fragments(signed).await,
        ["map"] => Ok(vec![map::fragment(signed).await?]),
        ["roles"] => Ok(vec![operator::matrix(signed).await?]),
        [kind] => {
            let resource = super::kind(signed, kind)?;
            Ok(vec![list::fragment(signed, resource, &list::Ask::parse(resource, &Query::parse(query))?).await?])
        }
        [kind, id] => {
            let resource = super::kind(signed, kind)?;
            let object = show::object(signed, resource, id).await?;
            show::fragments(signed, resource, &object).await
        }
        _ => Err(Fault::NotFound),
    }
}

#[derive(Template)]
#[template(path = "age.html")]
struct Age {
    time: String,
    problem: Option<String>,
    sign_in: Option<String>,
}

impl Age {
    /// Nobody is signed in any more.
    fn ended(of: &str) -> Self {
        Self {
            time: String::new(),
            problem: Some("Your session has ended: this page is not renewed any more.".into()),
            sign_in: Some(Query::new().with("next", of).after("/login")),
        }
    }

    fn now() -> Self {
        Self { time: Utc::now().format("%H:%M:%S UTC").to_string(), problem: None, sign_in: None }
    }
}

/// What a page knows, and what it is told next.
struct Follower {
    signed: Signed,
    of: String,
    sent: HashMap<String, String>,
    seen: String,
    ended: bool,
    took: Duration,
    _permit: OwnedSemaphorePermit,
}

impl Follower {
    /// What has changed since, and the time; `ended` is set when there is nothing more to follow.
    async fn look(&mut self) -> Result<String, askama::Error> {
        let mut message = String::new();
        let mut age = Age::now();
        let begun = Instant::now();
        let now = fragments(&self.signed, &self.of).await;
        self.took = begun.elapsed();
        match now {
            Ok(fragments) => {
                self.seen.clone_from(&age.time);
                for Fragment { id, html } in fragments {
                    if self.sent.get(&id) != Some(&html) {
                        message += &partial(&id, &html);
                        self.sent.insert(id, html);
                    }
                }
            }
            Err(Fault::SignIn | Fault::ChooseProject) => {
                self.ended = true;
                age = Age { time: std::mem::take(&mut self.seen), ..Age::ended(&self.of) };
            }
            Err(Fault::NotFound) => {
                self.ended = true;
                age.problem = Some("This was deleted meanwhile; what you see is how it was.".into());
            }
            Err(error) => {
                tracing::warn!(%error, "a page cannot be renewed");
                age.time.clone_from(&self.seen);
                age.problem = Some("The network service does not answer; this page is renewed once it does.".into());
            }
        }
        message += &partial("age", &age.render()?);
        Ok(message)
    }
}

/// A part that takes the place of the element with its id, and keeps what is typed and focused in it.
fn partial(id: &str, html: &str) -> String {
    format!("<hx-partial hx-target=\"#{id}\" hx-swap=\"outerMorph\">{html}</hx-partial>")
}

/// A message of an event stream.
fn event(name: Option<&str>, data: &str) -> Bytes {
    let mut text = name.map(|name| format!("event: {name}\n")).unwrap_or_default();
    for line in data.lines() {
        text += "data: ";
        text += line;
        text.push('\n');
    }
    text.push('\n');
    text.into()
}

fn answer_events(events: impl Stream<Item = Result<Bytes, Infallible>> + 'static) -> HttpResponse {
    HttpResponse::Ok()
        .content_type("text/event-stream")
        // Compression would hold messages back until a block is full.
        .insert_header((CONTENT_ENCODING, ContentEncoding::Identity.as_str()))
        .streaming(events)
}

/// Follows a page; with `once`, as it is now, for browsers that cannot.
pub async fn stream(signed: Result<Signed, Fault>, request: HttpRequest) -> Result<HttpResponse, Fault> {
    let query = Query::parse(request.query_string());
    let of = query.get("of").ok_or_else(|| Fault::Bad("`of` is missing in the address".into()))?.to_owned();
    let signed = match signed {
        Ok(signed) => signed,
        // Who looks at the page is told there, and is not taken away from it.
        Err(Fault::SignIn) => {
            let told = partial("age", &Age::ended(&of).render()?);
            if query.get("once").is_some() {
                return Ok(HttpResponse::Ok().content_type("text/html; charset=utf-8").body(told));
            }
            let events = [event(None, &told), event(Some("end"), "end")];
            return Ok(answer_events(futures::stream::iter(events.map(Ok))));
        }
        Err(fault) => return Err(fault),
    };
    let permit = Arc::clone(&signed.session.streams).try_acquire_owned().map_err(|_| Fault::Crowded);
    if query.get("once").is_some() {
        let parts = fragments(&signed, &of).await?;
        let mut html: String = parts.iter().map(|fragment| partial(&fragment.id, &fragment.html)).collect();
        html += &partial("age", &Age::now().render()?);
        return Ok(HttpResponse::Ok().content_type("text/html; charset=utf-8").body(html));
    }
    // What cannot be shown at all is refused before the stream begins; the page has what it is now.
    let sent = fragments(&signed, &of).await?.into_iter().map(|fragment| (fragment.id, fragment.html)).collect();
    let seen = Age::now().time;
    let follower = Follower { signed, of, sent, seen, ended: false, took: Duration::ZERO, _permit: permit? };
    let events = futures::stream::unfold(Some(follower), async |follower| {
        let mut follower = follower?;
        if follower.ended {
            return Some((Ok::<_, Infallible>(event(Some("end"), "end")), None));
        }
        tokio::time::sleep(PACE.max(follower.took * REST)).await;
        match follower.look().await {
            Ok(message) => Some((Ok(event(None, &message)), Some(follower))),
            Err(error) => {
                tracing::error!(%error, "a part of a page could not be made");
                None
            }
        }
    });
    Ok(answer_events(events))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_keeps_its_lines() {
        assert_eq!(event(None, "<p>\na</p>"), "data: <p>\ndata: a</p>\n\n".as_bytes());
        assert_eq!(event(Some("end"), "x"), "event: end\ndata: x\n\n".as_bytes());
        assert_eq!(event(None, "a\n\nevent: b"), "data: a\ndata: \ndata: event: b\n\n".as_bytes());
    }
}
