//! The dashboard as a browser of one user loads it, and the API with the same user's token.

use crate::http::{Answer, Connection};
use anyhow::{Context, Result, ensure};
use std::collections::HashMap;

/// What Chromium takes.
const BROWSER: &str = "Accept-Encoding: gzip, deflate, br, zstd\r\n";

/// A user who is signed in, at the dashboard and at the API.
pub struct User {
    pages: Connection,
    plain: Connection,
    api: Connection,
    /// Bytes of files that pages load, by their addresses.
    assets: HashMap<String, usize>,
}

fn between<'t>(text: &'t str, before: &str, after: &str) -> Option<&'t str> {
    Some(text.split_once(before)?.1.split_once(after)?.0)
}

/// The cookie of a new session.
fn sign_in(web: &str, name: &str, password: &str) -> Result<String> {
    let page = Connection::open(web, "")?.send("GET", "/login", "")?;
    let cookie = page.cookie.context("the page for signing in sets no cookie")?;
    let html = String::from_utf8(page.body)?;
    let csrf = between(&html, "name=\"csrf\" value=\"", "\"").context("the page for signing in has no form")?;
    let fields = [("csrf", csrf), ("user", name), ("password", password), ("domain", "Default"), ("next", "/")];
    let form = reqwest::Url::parse_with_params("http://form/", fields)?;
    let head = format!("Cookie: {cookie}\r\nContent-Type: application/x-www-form-urlencoded\r\n");
    let answer = Connection::open(web, &head)?.send("POST", "/login", form.query().unwrap_or_default())?;
    ensure!(
        answer.status == 303 && answer.location.as_deref() == Some("/"),
        "{name} cannot sign in: {}",
        answer.status
    );
    answer.cookie.with_context(|| format!("{name} gets no session"))
}

impl User {
    /// Signs in.
    pub fn new(web: &str, api: &str, name: &str, password: &str, token: &str) -> Result<Self> {
        let cookie = format!("Cookie: {}\r\n", sign_in(web, name, password)?);
        Ok(Self {
            pages: Connection::open(web, &(cookie.clone() + BROWSER))?,
            plain: Connection::open(web, &cookie)?,
            api: Connection::to_api(api, token)?,
            assets: HashMap::new(),
        })
    }

    /// A page.
    pub fn page(&mut self, path: &str) -> Result<Answer> {
        let answer = self.pages.send("GET", path, "")?;
        ensure!(answer.status == 200, "{path}: {}", answer.status);
        Ok(answer)
    }

    /// A request to the API.
    pub fn api(&mut self, path: &str) -> Result<Answer> {
        let answer = self.api.send("GET", path, "")?;
        ensure!(answer.status == 200, "{path}: {} {}", answer.status, String::from_utf8_lossy(&answer.body));
        Ok(answer)
    }

    /// Bytes of what a page loads: style, scripts, icon.
    pub fn loaded(&mut self, path: &str) -> Result<usize> {
        let page = String::from_utf8(self.plain.send("GET", path, "")?.body)?;
        let mut bytes = 0;
        for asset in page.split('"').filter(|text| text.starts_with("/static/")) {
            if !self.assets.contains_key(asset) {
                let answer = self.page(asset)?;
                self.assets.insert(asset.to_owned(), answer.body.len());
            }
            bytes += self.assets[asset];
        }
        Ok(bytes)
    }
}
