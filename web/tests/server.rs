//! The server by itself, with nobody signed in and no API behind it.

use mizar_web::api::Api;
use mizar_web::server::{self, Running, Site};
use reqwest::{Client, Response, StatusCode, redirect::Policy};
use std::net::TcpListener;

struct Served {
    running: Running,
    base: String,
    http: Client,
}

impl Served {
    fn start() -> anyhow::Result<Self> {
        // Nobody listens at port 1.
        let api = Api::new("http://127.0.0.1:1", None, None)?;
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let base = format!("http://{}", listener.local_addr()?);
        let running = server::start(Site::new(api, &base), listener, 1)?;
        let http = Client::builder().redirect(Policy::none()).build()?;
        Ok(Self { running, base, http })
    }

    async fn get(&self, path: &str) -> anyhow::Result<Response> {
        Ok(self.http.get(format!("{}{path}", self.base)).send().await?)
    }

    /// Sends a form, with what the page for signing in gave.
    async fn post(&self, path: &str, cookie: &str, form: &[(&str, &str)]) -> anyhow::Result<Response> {
        let request = self.http.post(format!("{}{path}", self.base)).header("cookie", cookie).form(form);
        Ok(request.send().await?)
    }
}

fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// The secret in a page.
fn secret(page: &str) -> &str {
    let at = page.find("name=\"csrf\" value=\"").expect("a form") + "name=\"csrf\" value=\"".len();
    page[at..].split('"').next().expect("it ends")
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_signed_in_is_led_there_and_back() -> anyhow::Result<()> {
    let served = Served::start()?;
    for (path, to) in [
        ("/", "/login"),
        ("/ports?status=ACTIVE&sort=name", "/login?next=%2Fports%3Fstatus%3DACTIVE%26sort%3Dname"),
        ("/networks/new", "/login?next=%2Fnetworks%2Fnew"),
        ("/hosts", "/login?next=%2Fhosts"),
    ] {
        let answer = served.get(path).await?;
        assert_eq!((answer.status(), header(&answer, "location")), (StatusCode::SEE_OTHER, to), "{path}");
    }
    let stream = served.get("/live?of=/ports").await?;
    assert_eq!(header(&stream, "content-type"), "text/event-stream");
    assert!(stream.text().await?.contains("Your session has ended"), "an open page is told, not taken away");
    served.running.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_forbids_what_is_not_ours() -> anyhow::Result<()> {
    let served = Served::start()?;
    for path in ["/", "/login", "/nothing/at/all", "/healthz", "/static/0/app.js"] {
        let answer = served.get(path).await?;
        let policy = header(&answer, "content-security-policy");
        assert!(policy.starts_with("default-src 'none'; script-src 'self';"), "{path}: {policy}");
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(header(&answer, "x-content-type-options"), "nosniff", "{path}");
        assert_eq!(header(&answer, "cache-control"), "no-store", "{path}");
    }
    let page = served.get("/login").await?.text().await?;
    let style = page.split('"').find(|text| text.ends_with("/app.css")).expect("a style");
    assert!(header(&served.get(style).await?, "cache-control").contains("immutable"));
    served.running.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_that_is_away_is_said_to_be() -> anyhow::Result<()> {
    let served = Served::start()?;
    let login = served.get("/login").await?;
    let cookie = header(&login, "set-cookie").split(';').next().expect("a cookie").to_owned();
    let page = login.text().await?;
    let form = [("csrf", secret(&page)), ("user", "ann"), ("password", "x"), ("domain", "Default"), ("next", "/")];
    let answer = served.post("/login", &cookie, &form).await?;
    assert_eq!(answer.status(), StatusCode::BAD_GATEWAY);
    let said = answer.text().await?;
    assert!(said.contains("does not answer") && !said.contains("127.0.0.1:1"), "{said}");
    served.running.stop().await;
    Ok(())
}
