//! What every page has around it: who is signed in, the menu, the notice.

use crate::api::{Named, Query};
use crate::fault::Fault;
use crate::held;
use crate::preferences::Preferences;
use crate::resource;
use crate::session::Notice;
use crate::signed::Signed;
use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use askama::Template;
use chrono::Utc;

/// A page without a session: an error, or a sentence.
#[derive(Debug, Template)]
#[template(path = "plain.html")]
pub struct Plain {
    /// Headline.
    pub title: String,
    /// What happened.
    pub sentence: String,
    /// What to do.
    pub help: String,
}

/// The same for somebody who is signed in, with all that is around other pages.
#[derive(Debug, Template)]
#[template(path = "wrong.html")]
pub struct Wrong {
    /// What is around it.
    pub frame: Frame,
    /// What the page says.
    pub plain: Plain,
}

/// An entry of the menu.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Where to.
    pub href: String,
    /// What is read.
    pub label: &'static str,
    /// The present page is there.
    pub here: bool,
    /// It is for administrators.
    pub operator: bool,
}

/// What is around a page.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Of the browser's window.
    pub title: String,
    /// Who.
    pub user: String,
    /// In which project.
    pub project: Named,
    /// For forms.
    pub csrf: String,
    /// The menu.
    pub menu: Vec<Entry>,
    /// The user may change things.
    pub may_write: bool,
    /// What has just been done.
    pub notice: Option<Notice>,
    /// The page's own address, if there are changes to follow.
    pub here: Option<String>,
    /// What of it is there already, for its stream.
    held: Query,
    /// What was chosen for this browser.
    pub preferences: Preferences,
    /// What the list of places leads to beside the menu.
    pub places: Vec<(String, String)>,
}

impl Frame {
    /// Around the page at `path`: its menu entry is the one that the path begins with, and the notice is the one
    /// that was left for this very page. A page about another one (its form, its deletion) has its own path.
    pub fn new(signed: &Signed, title: impl Into<String>, path: &str) -> Self {
        let session = &signed.session;
        let entry = |href: String, label, operator| Entry {
            here: href == path || (href.len() > 1 && path.starts_with(&format!("{href}/"))),
            href,
            label,
            operator,
        };
        let mut menu = vec![entry("/".into(), "Overview", false), entry("/map".into(), "Map", false)];
        // Rules are reached by their groups.
        let listed = resource::all().filter(|resource| resource.path != "security-group-rules");
        menu.extend(listed.map(|resource| entry(resource.list(), resource.many, resource.verbs.operator)));
        menu.push(entry("/roles".into(), "Transit roles", true));
        menu.retain(|entry| !entry.operator || session.is_admin());
        Self {
            title: title.into(),
            user: session.grant.user.name.clone(),
            project: signed.project.clone(),
            csrf: session.csrf.masked(),
            menu,
            may_write: session.may_write(),
            notice: session.take_notice(path),
            here: None,
            held: Query::new(),
            preferences: signed.preferences,
            places: places(session.may_write()),
        }
    }

    /// Around a page that follows the changes of `path`, an address of this dashboard, and is made of these parts now.
    #[must_use]
    pub fn following<'f>(self, path: &str, parts: impl IntoIterator<Item = &'f Fragment>) -> Self {
        let held = held::said(parts, Utc::now().timestamp_millis());
        Self { here: Some(path.to_owned()), held, ..self }
    }

    /// Where the changes come from, unless the page stays as it is.
    pub fn live(&self) -> Option<String> {
        let here = self.here.as_ref().filter(|_| self.preferences.follows)?;
        let of = Query::new().with("of", here);
        Some(self.held.pairs().iter().fold(of, |query, (name, value)| query.with(name, value)).after("/live"))
    }
}

/// Forms, and pages that the menu does not have.
fn places(may_write: bool) -> Vec<(String, String)> {
    let made = resource::all().filter(|resource| may_write && resource.verbs.create);
    let forms = made.map(|resource| (format!("{}/new", resource.list()), format!("New {}", resource.one)));
    let wizard = may_write.then(|| ("/wizard".into(), "New network with ports".into()));
    let others = [("/preferences", "Preferences"), ("/projects", "Choose a project")];
    forms.chain(wizard).chain(others.map(|(href, label)| (href.into(), label.into()))).collect()
}

/// A part of a page that is replaced when what it shows changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// Id of its element.
    pub id: String,
    /// The element.
    pub html: String,
}

impl Fragment {
    /// An element with this id, whose inside a template makes.
    pub fn of(id: impl Into<String>, inside: &impl Template) -> Result<Self, Fault> {
        let id = id.into();
        Ok(Self { html: format!("<div id=\"{id}\">{}</div>", inside.render()?), id })
    }
}

/// The title of the window of a form; a screen reader reads it first, so it says whether something is wrong.
pub fn title(status: StatusCode, title: &str) -> String {
    if status.is_success() { title.to_owned() } else { format!("Error: {title}") }
}

/// Answers with a page.
pub fn answer(status: StatusCode, page: &impl Template) -> Result<HttpResponse, Fault> {
    Ok(HttpResponse::build(status).content_type("text/html; charset=utf-8").body(page.render()?))
}

/// Answers with a page that was asked for.
pub fn ok(page: &impl Template) -> Result<HttpResponse, Fault> {
    answer(StatusCode::OK, page)
}

/// Sends the browser to another page, by GET.
pub fn go(to: &str) -> HttpResponse {
    HttpResponse::SeeOther().insert_header((actix_web::http::header::LOCATION, to)).finish()
}
