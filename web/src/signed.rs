//! Who asks: read from the cookie, and, for what changes something, checked by the form's own secret.

use crate::api::{Calls, Named};
use crate::fault::Fault;
use crate::form::Sent;
use crate::preferences::{self, Preferences};
use crate::server::Site;
use crate::session::Session;
use actix_web::dev::Payload;
use actix_web::http::header;
use actix_web::web::{Bytes, Data};
use actix_web::{FromRequest, HttpRequest};
use futures::FutureExt as _;
use futures::future::{LocalBoxFuture, Ready, ready};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// A form that takes longer to come is not waited for: what has come of it is held in memory.
const PATIENCE: Duration = Duration::from_secs(10);

/// Somebody who is signed in, whether for a project or not yet.
#[derive(Clone, Debug)]
pub struct Somebody {
    /// The session.
    pub session: Arc<Session>,
    /// Its name, which the cookie holds.
    pub name: String,
    /// The API with the user's token.
    pub calls: Calls,
    /// What was chosen for this browser.
    pub preferences: Preferences,
}

/// Somebody who is signed in for a project.
#[derive(Clone, Debug)]
pub struct Signed {
    /// The session.
    pub session: Arc<Session>,
    /// The API with the user's token.
    pub calls: Calls,
    /// Which project.
    pub project: Named,
    /// What was chosen for this browser.
    pub preferences: Preferences,
}

/// A form that a page of this session sent.
#[derive(Debug)]
pub struct Posted<S> {
    /// Who.
    pub signed: S,
    /// What.
    pub sent: Sent,
}

/// The address of the browser. Where a proxy of ours stands before this program, the proxy says it: each
/// appends whom it saw to `X-Forwarded-For`, so the last that is no proxy of ours is the browser.
pub fn peer(request: &HttpRequest) -> Option<IpAddr> {
    let peer = request.peer_addr()?.ip().to_canonical();
    let ours = &site(request).trusted_proxies;
    if !ours.contains(&peer) {
        return Some(peer);
    }
    let seen = request.headers().get_all("x-forwarded-for").filter_map(|value| value.to_str().ok());
    let seen: Vec<Option<IpAddr>> = seen.flat_map(|list| list.split(',')).map(forwarded).collect();
    // What no proxy of ours can have written says nothing, nor does anything left of it.
    let browser = seen.into_iter().rev().find(|seen| seen.is_none_or(|seen| !ours.contains(&seen)));
    Some(browser.flatten().unwrap_or(peer))
}

/// Some proxies write the port too.
fn forwarded(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let address = text.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()));
    address.map(|address| address.to_canonical())
}

pub(crate) fn site(request: &HttpRequest) -> &Data<Site> {
    request.app_data::<Data<Site>>().expect("the server is made with its site")
}

fn somebody(request: &HttpRequest) -> Result<Somebody, Fault> {
    let site = site(request);
    let cookie = request.cookie(site.cookie()).ok_or(Fault::SignIn)?;
    let session = site.sessions.find(cookie.value()).ok_or(Fault::SignIn)?;
    let calls = site.api.with(&session.grant.token, peer(request));
    let chosen = request.cookie(preferences::COOKIE);
    let preferences = chosen.map(|chosen| Preferences::parse(chosen.value())).unwrap_or_default();
    Ok(Somebody { session, calls, name: cookie.value().to_owned(), preferences })
}

impl TryFrom<Somebody> for Signed {
    type Error = Fault;

    fn try_from(Somebody { session, calls, preferences, .. }: Somebody) -> Result<Self, Fault> {
        let project = session.grant.project.clone().ok_or(Fault::ChooseProject)?;
        Ok(Self { session, calls, project, preferences })
    }
}

/// Who is signed in for a project, if anybody is.
pub(crate) fn signed(request: &HttpRequest) -> Result<Signed, Fault> {
    somebody(request).and_then(Signed::try_from)
}

impl FromRequest for Somebody {
    type Error = Fault;
    type Future = Ready<Result<Self, Fault>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(somebody(request))
    }
}

impl FromRequest for Signed {
    type Error = Fault;
    type Future = Ready<Result<Self, Fault>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(signed(request))
    }
}

impl<S: TryFrom<Somebody, Error: Into<Fault>> + 'static> FromRequest for Posted<S> {
    type Error = Fault;
    type Future = LocalBoxFuture<'static, Result<Self, Fault>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let who = somebody(request);
        let body = read(request, payload);
        async move {
            let who = who?;
            let mut sent = body.await?;
            let secret = sent.take("csrf")?;
            if !secret.is_some_and(|secret| who.session.csrf.is_masked_as(&secret)) {
                return Err(Fault::Forged);
            }
            Ok(Self { signed: S::try_from(who).map_err(Into::into)?, sent })
        }
        .boxed_local()
    }
}

/// Reads a form.
pub fn read(request: &HttpRequest, payload: &mut Payload) -> LocalBoxFuture<'static, Result<Sent, Fault>> {
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let is_form = kind.split(';').next().is_some_and(|kind| kind.trim() == "application/x-www-form-urlencoded");
    let body = Bytes::from_request(request, payload);
    async move {
        if !is_form {
            return Err(Fault::Bad("this is not a form".into()));
        }
        let body = in_time(PATIENCE, body).await?;
        Sent::parse(&body.map_err(|error| Fault::Bad(error.to_string()))?)
    }
    .boxed_local()
}

async fn in_time<B>(patience: Duration, body: impl Future<Output = B>) -> Result<B, Fault> {
    let body = tokio::time::timeout(patience, body).await;
    body.map_err(|_| Fault::Bad("the form did not come in time".into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Api;
    use actix_web::test::TestRequest;

    fn seen(peer: &str, forwarded: &[&str]) -> anyhow::Result<Option<String>> {
        let proxies = vec!["10.0.0.1".parse()?, "10.0.0.2".parse()?];
        let site = Site::new(Api::new("http://127.0.0.1:1", None, None)?, "http://x").trusting(proxies);
        let request = TestRequest::default().app_data(Data::new(site)).peer_addr(peer.parse()?);
        let request =
            forwarded.iter().fold(request, |request, value| request.append_header(("x-forwarded-for", *value)));
        Ok(super::peer(&request.to_http_request()).map(|address| address.to_string()))
    }

    #[actix_web::test]
    async fn a_form_that_does_not_end_is_not_waited_for() {
        let never = std::future::pending::<()>();
        assert!(matches!(in_time(Duration::from_millis(1), never).await, Err(Fault::Bad(_))));
        assert!(in_time(PATIENCE, async {}).await.is_ok());
    }

    #[test]
    fn a_browser_behind_proxies_of_ours_is_known_by_its_own_address() -> anyhow::Result<()> {
        for (peer, forwarded, expected) in [
            ("192.0.2.1:7", &["198.51.100.1"] as &[&str], "192.0.2.1"),
            ("10.0.0.1:7", &["198.51.100.1"], "198.51.100.1"),
            ("10.0.0.1:7", &["198.51.100.2"], "198.51.100.2"),
            ("[::ffff:10.0.0.1]:7", &["198.51.100.1:4711"], "198.51.100.1"),
            ("10.0.0.1:7", &["203.0.113.9, 198.51.100.1, 10.0.0.2"], "198.51.100.1"),
            ("10.0.0.1:7", &["203.0.113.9", "198.51.100.1"], "198.51.100.1"),
            ("10.0.0.1:7", &["198.51.100.1, unknown"], "10.0.0.1"),
            ("10.0.0.1:7", &[], "10.0.0.1"),
        ] {
            assert_eq!(seen(peer, forwarded)?.as_deref(), Some(expected), "{peer} {forwarded:?}");
        }
        Ok(())
    }
}
