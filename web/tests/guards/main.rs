//! What guards the dashboard, at a server as it is, before a small API that remembers what it was asked.

mod following;
mod stub;

use anyhow::{Context as _, ensure};
use mizar_web::api::Api;
use mizar_web::server::{self, Running, Site};
use reqwest::header::{COOKIE, LOCATION, SET_COOKIE};
use reqwest::{RequestBuilder, Response, StatusCode};
use std::net::TcpListener;
use std::time::Duration;
use stub::{REDS, Stub};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// What does not come by then does not come.
const DEADLINE: Duration = Duration::from_secs(30);

struct World {
    api: Stub,
    web: Running,
    http: reqwest::Client,
}

/// Somebody's browser: its cookie, and the secret of its forms.
#[derive(Clone, Debug)]
struct Browser {
    cookie: String,
    csrf: String,
}

fn between<'t>(text: &'t str, before: &str, after: &str) -> anyhow::Result<&'t str> {
    let (_, rest) = text.split_once(before).with_context(|| format!("`{before}` is not in {text}"))?;
    Ok(rest.split_once(after).with_context(|| format!("`{after}` is not in {rest}"))?.0)
}

/// The secret of the forms of a page.
fn csrf(html: &str) -> anyhow::Result<String> {
    between(html, "name=\"csrf\" value=\"", "\"").map(str::to_owned)
}

/// Name and value of the cookie that an answer sets first.
fn cookie(answer: &Response) -> anyhow::Result<String> {
    let set = answer.headers().get(SET_COOKIE).context("no cookie is set")?.to_str()?;
    Ok(set.split(';').next().unwrap_or_default().to_owned())
}

fn location(answer: &Response) -> &str {
    answer.headers().get(LOCATION).and_then(|to| to.to_str().ok()).unwrap_or_default()
}

impl World {
    fn start() -> anyhow::Result<Self> {
        Self::start_as("http://dashboard.example")
    }

    fn start_as(public: &str) -> anyhow::Result<Self> {
        let api = Stub::start()?;
        let site = Site::new(Api::new(&api.url, None, None)?, public);
        let site = site.trusting(vec!["127.0.0.1".parse()?]);
        let web = server::start(site, TcpListener::bind("127.0.0.1:0")?, 1)?;
        let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).timeout(DEADLINE).build()?;
        Ok(Self { api, web, http })
    }

    async fn stop(self) {
        self.web.stop().await;
        self.api.stop().await;
    }

    fn at(&self, path: &str) -> String {
        format!("http://{}{path}", self.web.address)
    }

    fn get(&self, who: &Browser, path: &str) -> RequestBuilder {
        self.http.get(self.at(path)).header(COOKIE, &who.cookie)
    }

    fn post(&self, who: &Browser, path: &str, form: &[(&str, &str)]) -> RequestBuilder {
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        let request = self.http.post(self.at(path)).header(COOKIE, &who.cookie);
        request.header("content-type", "application/x-www-form-urlencoded").body(body)
    }

    /// The form for signing in, sent as `user`.
    async fn enter(&self, user: &str, next: &str) -> anyhow::Result<Response> {
        let page = self.http.get(self.at("/login")).send().await?;
        let who = Browser { cookie: cookie(&page)?, csrf: csrf(&page.text().await?)? };
        let form =
            [("csrf", &*who.csrf), ("user", user), ("password", "secret"), ("domain", "Default"), ("next", next)];
        let answer = self.post(&who, "/login", &form).send().await?;
        ensure!(answer.status() == StatusCode::SEE_OTHER, "{}", answer.text().await?);
        Ok(answer)
    }

    /// The browser that has this cookie now.
    async fn browser(&self, cookie: String) -> anyhow::Result<Browser> {
        let who = Browser { cookie, csrf: String::new() };
        let page = self.get(&who, "/networks/new").send().await?;
        ensure!(page.status() == StatusCode::OK, "{}", page.text().await?);
        Ok(Browser { csrf: csrf(&page.text().await?)?, ..who })
    }

    async fn sign_in(&self, user: &str) -> anyhow::Result<Browser> {
        let answer = self.enter(user, "/").await?;
        self.browser(cookie(&answer)?).await
    }
}

#[tokio::test]
async fn a_form_that_is_not_of_a_page_of_the_session_is_refused_before_the_api_is_asked() -> anyhow::Result<()> {
    let world = World::start()?;
    let (ann, bob) = (world.sign_in("ann").await?, world.sign_in("bob").await?);
    world.api.asked();
    let nothing = "0".repeat(128);
    for path in ["/networks", "/networks/delete", "/logout", "/projects", "/wizard"] {
        for form in [&[("name", "evil")] as &[_], &[("csrf", "")], &[("csrf", &nothing)], &[("csrf", &bob.csrf)]] {
            let answer = world.post(&ann, path, form).send().await?;
            assert_eq!(answer.status(), StatusCode::FORBIDDEN, "{path} {form:?}");
        }
        let foreign = [
            ("origin", "https://evil.example"),
            ("origin", "null"),
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
        ];
        for (name, value) in foreign {
            let form = world.post(&ann, path, &[("csrf", &ann.csrf), ("name", "evil")]).header(name, value);
            assert_eq!(form.send().await?.status(), StatusCode::FORBIDDEN, "{path} {name}: {value}");
        }
    }
    assert!(world.api.asked().is_empty(), "the API was asked for a form that was refused");
    let good = world.post(&ann, "/networks", &[("csrf", &ann.csrf), ("name", "good")]);
    let good = good.header("origin", "http://dashboard.example").header("sec-fetch-site", "same-origin");
    assert_eq!(good.send().await?.status(), StatusCode::SEE_OTHER);
    let asked = world.api.asked();
    assert_eq!(asked.iter().filter(|asked| asked.what == "POST /v2.0/networks").count(), 1, "{asked:?}");
    world.stop().await;
    Ok(())
}

#[tokio::test]
async fn who_signs_in_comes_to_a_page_of_the_dashboard_and_to_the_one_asked_for() -> anyhow::Result<()> {
    let world = World::start()?;
    let nobody = Browser { cookie: String::new(), csrf: String::new() };
    let page = world.get(&nobody, "/ports?status=ACTIVE").send().await?;
    assert_eq!((page.status(), location(&page)), (StatusCode::SEE_OTHER, "/login?next=%2Fports%3Fstatus%3DACTIVE"));
    let part = world.get(&nobody, "/wizard/ranges?cidr=10.0.0.0%2F8").header("hx-request", "true");
    let part = part.header("referer", "http://dashboard.example/wizard?name=a").send().await?;
    let to = part.headers().get("hx-redirect").context("the window goes on")?;
    assert_eq!(to, "/login?next=%2Fwizard%3Fname%3Da", "a part of a page is no page to come back to");
    for (next, to) in [
        ("/ports?status=ACTIVE", "/ports?status=ACTIVE"),
        ("//evil.example/", "/"),
        ("https://evil.example/", "/"),
        ("/live?of=%2Fports", "/"),
    ] {
        assert_eq!(location(&world.enter("ann", next).await?), to, "{next}");
    }
    world.stop().await;
    Ok(())
}

#[tokio::test]
async fn every_tab_of_a_browser_can_be_signed_in_by() -> anyhow::Result<()> {
    let world = World::start()?;
    let first = world.http.get(world.at("/login")).send().await?;
    let first = Browser { cookie: cookie(&first)?, csrf: csrf(&first.text().await?)? };
    let second = world.get(&first, "/login").send().await?;
    assert_eq!(cookie(&second)?, first.cookie);
    let form = [("csrf", &*first.csrf), ("user", "ann"), ("password", "x"), ("domain", "Default"), ("next", "/")];
    assert_eq!(world.post(&first, "/login", &form).send().await?.status(), StatusCode::SEE_OTHER);
    world.stop().await;
    Ok(())
}

#[tokio::test]
async fn a_session_is_of_one_project_and_its_token_ends_with_it() -> anyhow::Result<()> {
    let world = World::start()?;
    let red = world.sign_in("ann").await?;
    world.api.asked();
    let foreign = world.post(&red, "/projects", &[("csrf", &red.csrf), ("project", "green")]).send().await?;
    assert_eq!(foreign.status(), StatusCode::NOT_FOUND);
    assert!(
        world.api.asked().iter().all(|asked| !asked.what.starts_with("POST")),
        "a token for another's project was asked for",
    );
    let chosen = world.post(&red, "/projects", &[("csrf", &red.csrf), ("project", "blue")]).send().await?;
    assert_eq!(chosen.status(), StatusCode::SEE_OTHER);
    let asked = world.api.asked();
    let revoked: Vec<_> = asked.iter().filter(|asked| asked.what.starts_with("DELETE")).collect();
    assert_eq!(revoked.iter().map(|asked| asked.token.as_str()).collect::<Vec<_>>(), ["ann/red"], "{asked:?}");
    let blue = world.browser(cookie(&chosen)?).await?;
    assert_eq!(world.get(&red, "/networks").send().await?.status(), StatusCode::SEE_OTHER, "the old name is nobody's");
    let old_form = world.post(&blue, "/networks", &[("csrf", &red.csrf), ("name", "x")]).send().await?;
    assert_eq!(old_form.status(), StatusCode::FORBIDDEN, "a form of the old project acts in no other");
    assert_eq!(world.get(&blue, &format!("/networks/{REDS}")).send().await?.status(), StatusCode::NOT_FOUND);
    world.stop().await;
    Ok(())
}

#[tokio::test]
async fn what_is_of_another_project_is_not_there() -> anyhow::Result<()> {
    let world = World::start()?;
    let (ann, bob) = (world.sign_in("ann").await?, world.sign_in("bob").await?);
    let paths = [
        format!("/networks/{REDS}"),
        format!("/networks/{REDS}/edit"),
        format!("/networks/delete?id={REDS}"),
        format!("/live?of=/networks/{REDS}&once=1"),
    ];
    for path in paths {
        assert_eq!(world.get(&bob, &path).send().await?.status(), StatusCode::NOT_FOUND, "{path}");
        assert_eq!(world.get(&ann, &path).send().await?.status(), StatusCode::OK, "{path}");
    }
    // A page that follows it is told that it is gone, as of any id that nobody has.
    let follow = format!("/live?of=/networks/{REDS}");
    let told = world.get(&bob, &follow).send().await?.text().await?;
    assert!(told.contains("deleted meanwhile") && told.contains("event: end") && !told.contains("front"), "{told}");
    for path in ["/hosts", "/roles", "/live?of=/roles&once=1", "/networks/not-an-id"] {
        assert_eq!(world.get(&ann, path).send().await?.status(), StatusCode::NOT_FOUND, "{path}");
    }
    world.stop().await;
    Ok(())
}

#[tokio::test]
async fn who_is_signed_in_keeps_the_menu_where_something_goes_wrong() -> anyhow::Result<()> {
    let world = World::start()?;
    let ann = world.sign_in("ann").await?;
    let nobody = Browser { cookie: String::new(), csrf: String::new() };
    let menu = "aria-label=\"Main\"";
    for (path, status) in [("/nothing", StatusCode::NOT_FOUND), ("/ports?colour=red", StatusCode::BAD_REQUEST)] {
        let answer = world.get(&ann, path).send().await?;
        assert_eq!(answer.status(), status, "{path}");
        let html = answer.text().await?;
        assert!(html.contains(menu) && between(&html, "<title>", "</title>")?.starts_with("Error: "), "{path}: {html}");
    }
    let wrong = world.get(&nobody, "/nothing/at/all/here").send().await?;
    assert_eq!(wrong.status(), StatusCode::NOT_FOUND);
    assert!(!wrong.text().await?.contains(menu));
    world.api.away(true);
    let away = world.get(&ann, "/networks").send().await?;
    assert_eq!(away.status(), StatusCode::BAD_GATEWAY);
    assert!(away.text().await?.contains(menu), "the API is not needed for it");
    world.stop().await;
    Ok(())
}

#[tokio::test]
async fn a_form_of_an_older_state_is_refused_however_often_it_is_sent() -> anyhow::Result<()> {
    let world = World::start()?;
    let ann = world.sign_in("ann").await?;
    let path = format!("/networks/{REDS}");
    let form = world.get(&ann, &format!("{path}/edit")).send().await?.text().await?;
    let mut revision = between(&form, "name=\"revision\" value=\"", "\"")?.to_owned();
    world.api.rename("of another")?;
    for attempt in 0..2 {
        let form = [
            ("csrf", &*ann.csrf),
            ("revision", &revision),
            ("name", "front"),
            ("description", "mine"),
            ("mtu", "1400"),
        ];
        let answer = world.post(&ann, &path, &form).send().await?;
        let status = answer.status();
        let html = answer.text().await?;
        assert_eq!(status, StatusCode::PRECONDITION_FAILED, "{attempt}: {html}");
        // What the browser has next, and sends when Save is pressed again.
        assert!(between(&html, "<title>", "</title>")?.starts_with("Error: "), "{html}");
        revision = between(&html, "name=\"revision\" value=\"", "\"")?.to_owned();
    }
    let now = world.get(&ann, &path).send().await?.text().await?;
    assert!(now.contains("of another") && !now.contains("mine"), "{now}");
    world.stop().await;
    Ok(())
}

#[tokio::test]
async fn deleting_nothing_asks_nothing() -> anyhow::Result<()> {
    let world = World::start()?;
    let ann = world.sign_in("ann").await?;
    world.api.asked();
    let answer = world.post(&ann, "/networks/delete", &[("csrf", &ann.csrf)]).send().await?;
    assert_eq!((answer.status(), location(&answer)), (StatusCode::SEE_OTHER, "/networks"));
    assert!(world.api.asked().is_empty());
    world.stop().await;
    Ok(())
}

#[tokio::test]
async fn with_tls_cookies_are_of_this_server_alone() -> anyhow::Result<()> {
    let world = World::start_as("https://dashboard.example")?;
    let page = world.http.get(world.at("/login")).send().await?;
    assert!(cookie(&page)?.starts_with("__Host-mizar-login="));
    let kept = page.headers().get("strict-transport-security").context("the browser may come without TLS")?;
    assert_eq!(kept, "max-age=31536000");
    let session = world.enter("ann", "/").await?;
    let set = session.headers().get(SET_COOKIE).context("a cookie")?.to_str()?;
    assert!(set.starts_with("__Host-mizar-session=") && set.contains("Secure") && set.contains("HttpOnly"), "{set}");
    world.stop().await;
    Ok(())
}

#[tokio::test]
async fn a_list_that_began_after_what_was_deleted_begins_anew() -> anyhow::Result<()> {
    let world = World::start()?;
    let ann = world.sign_in("ann").await?;
    let gone = "6f1c2f60-0000-4000-8000-0000000000ff";
    let page = world.get(&ann, &format!("/networks?status=ACTIVE&marker={gone}")).send().await?;
    assert_eq!((page.status(), location(&page)), (StatusCode::SEE_OTHER, "/networks?status=ACTIVE"));
    world.stop().await;
    Ok(())
}

#[tokio::test]
async fn what_a_wizard_cannot_take_back_is_named() -> anyhow::Result<()> {
    let world = World::start()?;
    let ann = world.sign_in("ann").await?;
    let form = [("csrf", &*ann.csrf), ("name", "shop"), ("cidr", "10.7.0.0/24"), ("ports", "2")];
    // Subnets are refused by the stub, and so is the deletion of what the wizard has made before.
    let answer = world.post(&ann, "/wizard", &form).send().await?;
    let html = answer.text().await?;
    assert!(html.contains("could not be taken back") && !html.contains("Nothing was made"), "{html}");
    let network = between(&html, "look at network <a href=\"/networks/", "\"")?;
    ensure!(uuid::Uuid::try_parse(network).is_ok(), "{network}");
    world.stop().await;
    Ok(())
}

#[tokio::test]
async fn what_is_refused_does_not_look_like_what_was_done() -> anyhow::Result<()> {
    let world = World::start()?;
    let ann = world.sign_in("ann").await?;
    let page = format!("/networks/{REDS}");
    let tag = world.post(&ann, &format!("{page}/tags"), &[("csrf", &ann.csrf), ("add", "a/b")]).send().await?;
    assert_eq!(location(&tag), page);
    let html = world.get(&ann, &page).send().await?.text().await?;
    let notice = between(&html, "<p class=\"notice", "</p>")?;
    assert!(notice.contains("role=\"alert\"") && notice.contains("no slash"), "{notice}");
    world.stop().await;
    Ok(())
}

#[tokio::test]
async fn the_api_learns_which_browser_tries_to_sign_in() -> anyhow::Result<()> {
    let world = World::start()?;
    let page = world.http.get(world.at("/login")).send().await?;
    let who = Browser { cookie: cookie(&page)?, csrf: csrf(&page.text().await?)? };
    let form = [("csrf", &*who.csrf), ("user", "ann"), ("password", "x"), ("domain", "Default"), ("next", "/")];
    for browser in ["198.51.100.1", "198.51.100.2"] {
        world.api.asked();
        world.post(&who, "/login", &form).header("x-forwarded-for", browser).send().await?;
        let asked = world.api.asked();
        assert!(!asked.is_empty() && asked.iter().all(|asked| asked.from == browser), "{asked:?}");
    }
    world.stop().await;
    Ok(())
}

#[tokio::test]
async fn nobody_in_particular_can_make_the_server_keep_much() -> anyhow::Result<()> {
    let world = World::start()?;
    // A body that never ends is not waited for where the form's secret cannot be right.
    let mut line = tokio::net::TcpStream::connect(world.web.address).await?;
    let head = "POST /login HTTP/1.1\r\nHost: dashboard.example\r\nContent-Length: 9000\r\n\
                Content-Type: application/x-www-form-urlencoded\r\n\r\ncsrf=0";
    line.write_all(head.as_bytes()).await?;
    let mut answer = [0; 12];
    tokio::time::timeout(Duration::from_secs(9), line.read_exact(&mut answer)).await.context("it is waited for")??;
    assert_eq!(&answer, b"HTTP/1.1 403");
    // Nor is a large one read where it can.
    let page = world.http.get(world.at("/login")).send().await?;
    let who = Browser { cookie: cookie(&page)?, csrf: csrf(&page.text().await?)? };
    let large = "x".repeat(20 << 10);
    let form = [("csrf", &*who.csrf), ("user", &large), ("password", "x"), ("domain", "Default"), ("next", "/")];
    assert_eq!(world.post(&who, "/login", &form).send().await?.status(), StatusCode::BAD_REQUEST);
    assert!(world.api.asked().is_empty());
    world.stop().await;
    Ok(())
}

#[tokio::test]
async fn a_page_about_another_does_not_take_its_notice() -> anyhow::Result<()> {
    let world = World::start()?;
    let ann = world.sign_in("ann").await?;
    let none_chosen = world.post(&ann, "/networks/delete", &[("csrf", &ann.csrf)]).send().await?;
    assert_eq!(location(&none_chosen), "/networks");
    for (path, shown) in [("/networks/new", false), ("/networks", true), ("/networks", false)] {
        let html = world.get(&ann, path).send().await?.text().await?;
        assert_eq!(html.contains("Choose the networks to delete first."), shown, "{path}");
    }
    let tag = [("csrf", &*ann.csrf), ("add", "a/b")];
    assert_eq!(
        location(&world.post(&ann, &format!("/networks/{REDS}/tags"), &tag).send().await?),
        format!("/networks/{REDS}")
    );
    for (path, shown) in [(format!("/networks/{REDS}/edit"), false), (format!("/networks/{REDS}"), true)] {
        let html = world.get(&ann, &path).send().await?.text().await?;
        assert_eq!(html.contains("no slash and no comma"), shown, "{path}");
    }
    world.stop().await;
    Ok(())
}

#[tokio::test]
async fn name_and_tags_of_an_object_follow_its_changes_and_hold_no_secret() -> anyhow::Result<()> {
    let world = World::start()?;
    let ann = world.sign_in("ann").await?;
    world.api.rename("renamed")?;
    let parts = world.get(&ann, &format!("/live?of=/networks/{REDS}&once=1")).send().await?.text().await?;
    assert!(parts.contains("<div id=\"title\"><h1>renamed</h1></div>"), "{parts}");
    assert!(parts.contains("<div id=\"tags\">") && parts.contains("No tags."), "{parts}");
    // It would be another one each time, and so the part would never be the same.
    assert!(!parts.contains("csrf"), "{parts}");
    world.stop().await;
    Ok(())
}
