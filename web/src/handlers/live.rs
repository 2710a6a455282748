//! Pages that follow changes: one stream a page, which brings again what has become another.
//!
//! The parts of a page are made by the same functions as the page itself, once a second, and those sent
//! whose HTML is not what was sent before: whoever changed what, and whether by this dashboard or by any
//! other client, it shows. With every message comes the time of the data, so that a page that stopped
//! following is not taken for a quiet one.
//!
//! A page that takes long to make says in between that it is still being followed: where a page hears
//! nothing at all, something between holds the stream back, and it asks by itself (`static/app.js`).
//!
//! A stream begins whether or not the page can be made: what is in the way is told in it, so that a page that comes
//! back while the API is away says so and goes on once it is there. Only this program being away is told by the page
//! itself.

use super::{drops, list, map, operator, overview, show};
use crate::api::{CallError, Query};
use crate::fault::Fault;
use crate::held;
use crate::page::Fragment;
use crate::server::Site;
use crate::signed::Signed;
use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_ENCODING, ContentEncoding};
use actix_web::web::{Bytes, Data};
use actix_web::{HttpRequest, HttpResponse, ResponseError as _};
use askama::Template;
use chrono::{NaiveTime, Utc};
use futures::{Stream, StreamExt as _};
use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::{interval, sleep};

/// From one look to the next: at most two messages a second, and a change is seen within two.
const PACE: Duration = Duration::from_millis(1_000);

/// The same where hosts are asked for what stands on the page: that is work for them.
const HOSTS_PACE: Duration = Duration::from_secs(2);

/// A page that takes long to make is made less often: it rests for so many times as long.
const REST: u32 = 4;

/// The longest wait until an API that did not answer is asked again.
const PATIENCE: Duration = Duration::from_secs(30);

/// From one sign of life to the next, whatever else is sent: half of what a page takes for silence.
const SIGN: Duration = Duration::from_secs(5);

/// The parts of the page at an address of this dashboard.
async fn fragments(signed: &Signed, of: &str) -> Result<Vec<Fragment>, Fault> {
    let (path, query) = of.split_once('?').unwrap_or((of, ""));
    let segments: Vec<&str> = path.strip_prefix('/').ok_or(Fault::NotFound)?.split('/').collect();
    match segments.as_slice() {
        [""] => overview::fragments(signed).await,
        ["map"] => Ok(vec![map::fragment(signed).await?]),
        ["roles"] => Ok(vec![operator::matrix(signed, &operator::asked(signed, &Query::parse(query))?).await?]),
        [kind] => {
            let resource = super::kind(signed, kind)?;
            Ok(vec![list::fragment(signed, resource, &list::Ask::parse(resource, &Query::parse(query))?).await?])
        }
        [kind, id] => {
            let resource = super::kind(signed, kind)?;
            let object = show::object(signed, resource, id).await?;
            show::followed(signed, resource, &object).await
        }
        [kind, id, "drops"] => Ok(vec![drops::fragment(signed, super::kind(signed, kind)?, id).await?]),
        _ => Err(Fault::NotFound),
    }
}

#[derive(Template)]
#[template(path = "age.html")]
struct Age {
    time: String,
    problem: Option<String>,
    sign_in: Option<String>,
    /// Nothing comes any more.
    over: bool,
}

/// How a time is written, and read again when a page comes back.
const CLOCK: &str = "%H:%M:%S UTC";

impl Age {
    /// Nobody is signed in any more.
    fn ended(of: &str) -> Self {
        Self {
            time: String::new(),
            problem: Some("Your session has ended: this page is not renewed any more.".into()),
            sign_in: Some(Query::new().with("next", of).after("/login")),
            over: true,
        }
    }

    fn now() -> Self {
        Self { time: Utc::now().format(CLOCK).to_string(), problem: None, sign_in: None, over: false }
    }

    /// What is in the way of a page that was renewed last at `seen`.
    fn hindered(fault: &Fault, of: &str, seen: &str) -> Self {
        let told = |problem: String, over| Self { time: seen.to_owned(), problem: Some(problem), sign_in: None, over };
        match fault {
            Fault::SignIn | Fault::ChooseProject => Self { time: seen.to_owned(), ..Self::ended(of) },
            Fault::NotFound => {
                let begins_after =
                    of.split_once('?').is_some_and(|(_, query)| Query::parse(query).get("marker").is_some());
                let problem = match begins_after {
                    true => {
                        "What this page of the list began after was deleted; what you see is how it was. Reload it."
                    }
                    false => "This was deleted meanwhile; what you see is how it was.",
                };
                Self { time: Self::now().time, ..told(problem.into(), true) }
            }
            Fault::Call(CallError::Refused(refused)) if matches!(refused.status, 400 | 403) => {
                told(format!("This page is not renewed any more: {}", refused.message), true)
            }
            _ => told("The network service does not answer; this page is renewed once it does.".into(), false),
        }
    }
}

/// What a page knows, and what it is told next.
struct Follower {
    signed: Signed,
    of: String,
    /// Digests of the parts that the page has, by their ids.
    sent: HashMap<String, held::Digest>,
    /// When the page was last renewed.
    seen: String,
    ended: bool,
    /// Looks that brought nothing, in a row.
    failures: u32,
    /// How long the last look took.
    took: Duration,
    _permits: [OwnedSemaphorePermit; 2],
    /// Is gone when this is.
    _follows: oneshot::Sender<()>,
}

impl Follower {
    /// Those of the parts that the page has otherwise or not at all.
    fn changed(&mut self, fragments: Vec<Fragment>) -> String {
        let mut message = String::new();
        for Fragment { id, html } in fragments {
            let digest = held::digest(&html);
            if self.sent.get(&id) != Some(&digest) {
                message += &partial(&id, &html);
                self.sent.insert(id, digest);
            }
        }
        message
    }

    /// What has changed since, and the time; `ended` is set when there is nothing more to follow.
    async fn look(&mut self) -> Result<String, askama::Error> {
        // Who has signed out, or was, sees nothing more, even where the token still counts; and is told
        // at once, however long the page rests or takes to be made.
        let session = &self.signed.session;
        let looked = async {
            sleep(pace(&self.of, self.took, self.failures)).await;
            let begun = Instant::now();
            let found = if session.is_live() { fragments(&self.signed, &self.of).await } else { Err(Fault::SignIn) };
            (found, begun.elapsed())
        };
        let found = tokio::select! {
            () = session.closed() => Err(Fault::SignIn),
            (found, took) = looked => {
                self.took = took;
                found
            }
        };
        self.tell(found)
    }

    fn tell(&mut self, found: Result<Vec<Fragment>, Fault>) -> Result<String, askama::Error> {
        let (mut message, age) = match found {
            Ok(fragments) => {
                self.failures = 0;
                let age = Age::now();
                self.seen.clone_from(&age.time);
                (self.changed(fragments), age)
            }
            Err(fault) => {
                let age = Age::hindered(&fault, &self.of, &self.seen);
                self.ended = age.over;
                // Once for each page: while nothing answers, every page asks again and again.
                if !age.over && self.failures == 0 {
                    tracing::warn!(error = ?fault, "a page cannot be renewed");
                }
                self.failures += u32::from(!age.over);
                (String::new(), age)
            }
        };
        message += &partial("age", &age.render()?);
        Ok(message)
    }
}

/// How long to wait until the next look: what takes long to make is made less often, and what does not
/// answer is asked less and less.
fn pace(of: &str, took: Duration, failures: u32) -> Duration {
    let asks_hosts = of.ends_with("/drops") || of.starts_with("/hosts/");
    let least = if asks_hosts { HOSTS_PACE } else { PACE };
    (least.max(took * REST) * 2_u32.pow(failures.min(5))).min(PATIENCE)
}

/// A part that takes the place of the element with its id, and keeps what is typed and focused in it.
fn partial(id: &str, html: &str) -> String {
    format!("<hx-partial hx-target=\"#{id}\" hx-swap=\"outerMorph\">{html}</hx-partial>")
}

/// A message of an event stream. Its id, which whoever comes back brings along, says when the page was renewed last.
fn message(seen: &str, data: &str) -> Bytes {
    [format!("id: {seen}\n").into(), event(None, data)].concat().into()
}

/// When a page that comes back was renewed last, if it says so in our words.
fn seen_by(request: &HttpRequest) -> String {
    let said = request.headers().get("last-event-id").and_then(|said| said.to_str().ok());
    said.filter(|said| NaiveTime::parse_from_str(said, CLOCK).is_ok()).unwrap_or_default().to_owned()
}

/// An event of a stream.
fn event(name: Option<&str>, data: &str) -> Bytes {
    let mut text = name.map(|name| format!("event: {name}\n")).unwrap_or_default();
    // A carriage return alone ends a line too: what a name holds must not begin a field of the stream.
    for line in data.lines().flat_map(|line| line.split('\r')) {
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
        // So would a proxy that collects answers before it passes them on.
        .insert_header(("x-accel-buffering", "no"))
        .streaming(events)
}

/// A stream that only tells that nobody is signed in any more.
fn ended(of: &str) -> Result<HttpResponse, Fault> {
    let told = partial("age", &Age::ended(of).render()?);
    let events = [event(None, &told), event(Some("end"), "end")];
    Ok(answer_events(futures::stream::iter(events.map(Ok))))
}

/// A page as it is now, or what is in the way.
async fn once(signed: &Signed, of: &str) -> Result<HttpResponse, Fault> {
    let (status, age, parts) = match fragments(signed, of).await {
        Ok(parts) => (StatusCode::OK, Age::now(), parts),
        Err(fault @ Fault::Bad(_)) => return Err(fault),
        Err(fault) => {
            let age = Age::hindered(&fault, of, "");
            if !age.over {
                tracing::warn!(error = ?fault, "a page cannot be renewed");
            }
            // Who looks at the page is told there that nobody is signed in, and is not taken away from it.
            let status = Some(fault.status_code()).filter(|status| !status.is_redirection());
            (status.unwrap_or(StatusCode::OK), age, Vec::new())
        }
    };
    let mut html: String = parts.iter().map(|fragment| partial(&fragment.id, &fragment.html)).collect();
    html += &partial("age", &age.render()?);
    Ok(HttpResponse::build(status).content_type("text/html; charset=utf-8").body(html))
}

/// Follows a page; with `once`, as it is now, for browsers that cannot.
pub async fn stream(
    signed: Result<Signed, Fault>,
    site: Data<Site>,
    request: HttpRequest,
) -> Result<HttpResponse, Fault> {
    let query = Query::parse(request.query_string());
    let of = query.get("of").ok_or_else(|| Fault::Bad("`of` is missing in the address".into()))?.to_owned();
    let signed = match signed {
        Ok(signed) => signed,
        // Who looks at the page is told there, and is not taken away from it.
        Err(Fault::SignIn) => {
            if query.get("once").is_some() {
                let told = partial("age", &Age::ended(&of).render()?);
                return Ok(HttpResponse::Ok().content_type("text/html; charset=utf-8").body(told));
            }
            return ended(&of);
        }
        Err(fault) => return Err(fault),
    };
    if query.get("once").is_some() {
        return once(&signed, &of).await;
    }
    let room = |streams: &Arc<Semaphore>| Arc::clone(streams).try_acquire_owned().map_err(|_| Fault::Crowded);
    let permits = [room(&signed.session.streams)?, room(&site.streams)?];
    // What the page has is not sent again, if it was made just now. Otherwise all of it is sent at once: the page may be
    // of long ago, because a browser ends the stream of a hidden page and begins another later.
    let begun = Instant::now();
    let found = match fragments(&signed, &of).await {
        // No page of ours is followed at such an address.
        Err(fault @ Fault::Bad(_)) => return Err(fault),
        found => found,
    };
    let took = begun.elapsed();
    let sent = match request.headers().contains_key("last-event-id") {
        true => HashMap::new(),
        false => held::parts(&query, Utc::now().timestamp_millis()),
    };
    let seen = seen_by(&request);
    let (follows, gone) = oneshot::channel();
    let mut follower =
        Follower { signed, of, sent, seen, ended: false, failures: 0, took, _permits: permits, _follows: follows };
    let first = follower.tell(found)?;
    let first = message(&follower.seen, &first);
    let later = futures::stream::unfold(Some(follower), async |follower| {
        let mut follower = follower?;
        if follower.ended {
            return Some((Ok::<_, Infallible>(event(Some("end"), "end")), None));
        }
        match follower.look().await {
            Ok(told) => Some((Ok(message(&follower.seen, &told)), Some(follower))),
            Err(error) => {
                tracing::error!(%error, "a part of a page could not be made");
                None
            }
        }
    });
    let signs = futures::stream::unfold(interval(SIGN), async |mut signs| {
        signs.tick().await;
        Some((Ok(event(Some("wait"), "wait")), signs))
    });
    let followed = futures::stream::select(later, signs.take_until(gone));
    Ok(answer_events(futures::stream::once(async { Ok(first) }).chain(followed)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Refused;

    #[test]
    fn a_message_keeps_its_lines() {
        assert_eq!(event(None, "<p>\na</p>"), "data: <p>\ndata: a</p>\n\n".as_bytes());
        assert_eq!(event(Some("end"), "x"), "event: end\ndata: x\n\n".as_bytes());
        assert_eq!(event(None, "a\n\nevent: b"), "data: a\ndata: \ndata: event: b\n\n".as_bytes());
        assert_eq!(
            event(None, "a\r\revent: end\rb\r\nc"),
            "data: a\ndata: \ndata: event: end\ndata: b\ndata: c\n\n".as_bytes()
        );
    }

    #[test]
    fn a_page_that_comes_back_says_when_it_was_renewed_last() {
        assert_eq!(message("12:00:01 UTC", "a"), "id: 12:00:01 UTC\ndata: a\n\n".as_bytes());
        let said = |id: &str| {
            seen_by(&actix_web::test::TestRequest::default().insert_header(("last-event-id", id)).to_http_request())
        };
        assert_eq!(said("12:00:01 UTC"), "12:00:01 UTC");
        for wrong in ["", "soon", "12:00:01 UTC<b>", "25:00:00 UTC"] {
            assert_eq!(said(wrong), "", "{wrong}");
        }
    }

    #[test]
    fn what_is_over_is_told_apart_from_what_comes_back() -> anyhow::Result<()> {
        let refused = |status| Refused { status, kind: String::new(), message: "No <b>.".into() };
        let of = |fault: Fault| Age::hindered(&fault, "/ports?marker=x", "12:00:01 UTC");
        for fault in [Fault::SignIn, Fault::NotFound, Fault::Call(CallError::Refused(refused(403)))] {
            assert!(of(fault).render()?.contains("data-over"));
        }
        let gone = of(Fault::NotFound);
        assert!(gone.problem.is_some_and(|problem| problem.contains("Reload it")));
        for fault in [CallError::Unreachable("x".into()), CallError::Refused(refused(502))] {
            let html = of(Fault::Call(fault)).render()?;
            assert!(html.contains("does not answer") && html.contains("As of 12:00:01 UTC"), "{html}");
            assert!(html.contains("stale") && !html.contains("data-over"), "{html}");
        }
        assert!(!of(Fault::Call(CallError::Refused(refused(400)))).render()?.contains("<b>"));
        Ok(())
    }

    #[test]
    fn what_does_not_answer_is_asked_less_and_less() {
        let waits: Vec<u64> = (0..7).map(|failures| pace("/ports", Duration::ZERO, failures).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30]);
        let long = Duration::from_secs(2);
        assert_eq!((pace("/", long, 0).as_secs(), pace("/", long, 9).as_secs()), (8, 30));
        for of in ["/hosts/x/drops", "/ports/x/drops", "/hosts/x"] {
            assert_eq!(pace(of, Duration::ZERO, 0).as_secs(), 2, "{of}: hosts are asked less often");
        }
        assert_eq!(pace("/hosts", Duration::ZERO, 0).as_secs(), 1, "of the list no host is asked");
    }
}
