//! What somebody chooses for this browser.

use crate::fault::Fault;
use crate::form::Sent;
use crate::link;
use crate::page::{self, Frame};
use crate::preferences::{COOKIE, Preferences};
use crate::server::Site;
use crate::signed::{Posted, Signed};
use actix_web::HttpResponse;
use actix_web::cookie::time::Duration;
use actix_web::cookie::{Cookie, SameSite};
use actix_web::web::Data;
use askama::Template;

/// As long as browsers keep a cookie at most.
const KEPT: Duration = Duration::days(400);

#[derive(Template)]
#[template(path = "preferences.html")]
struct Page {
    frame: Frame,
    chosen: Preferences,
}

/// The page.
pub async fn form(signed: Signed) -> Result<HttpResponse, Fault> {
    let chosen = signed.preferences;
    page::ok(&Page { frame: Frame::new(&signed, "Preferences", "/preferences"), chosen })
}

/// What is chosen then: one thing by a button of a page, or all by the form.
fn chosen(sent: &mut Sent, before: Preferences) -> Result<Preferences, Fault> {
    match sent.take("follow")?.as_deref() {
        Some("on") => Ok(Preferences { follows: true, ..before }),
        Some("off") => Ok(Preferences { follows: false, ..before }),
        Some(other) => Err(Fault::Bad(format!("`{other}` is neither on nor off"))),
        None => Ok(Preferences { follows: sent.take("follows")?.is_some(), slash: sent.take("slash")?.is_some() }),
    }
}

/// Keeps it, and goes back to the page where it was chosen.
pub async fn change(posted: Posted<Signed>, site: Data<Site>) -> Result<HttpResponse, Fault> {
    let Posted { signed, mut sent } = posted;
    let next = sent.take("next")?;
    let chosen = chosen(&mut sent, signed.preferences)?;
    sent.end()?;
    let mut response = match &next {
        Some(next) => page::go(link::own(Some(next))),
        None => super::done(&signed, "Your preferences are kept in this browser.".into(), "/preferences"),
    };
    let cookie = Cookie::build(COOKIE, chosen.text()).path("/").http_only(true).same_site(SameSite::Lax);
    let added = response.add_cookie(&cookie.secure(site.is_secure()).max_age(KEPT).finish());
    debug_assert!(added.is_ok());
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_button_changes_one_thing_and_the_form_all() {
        let before = Preferences { follows: true, slash: false };
        let after = |body: &str| {
            let mut sent = Sent::parse(body.as_bytes()).expect("a form");
            chosen(&mut sent, before).and_then(|chosen| sent.end().map(|()| (chosen.follows, chosen.slash)))
        };
        assert_eq!(after("follow=off").ok(), Some((false, false)));
        assert_eq!(after("follow=on").ok(), Some((true, false)));
        assert_eq!(after("slash=on").ok(), Some((false, true)));
        assert_eq!(after("").ok(), Some((false, false)));
        assert!(after("follow=maybe").is_err() && after("colour=red").is_err());
    }
}
