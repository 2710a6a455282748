//! The dashboard in a real browser: Chromium does what people do, against the whole system.
//!
//! Each story is a file in `web/e2e/stories`. What a story wants done outside the browser (a container
//! attached to a port, a ping from it, a service restarted) it asks for here, by a line of JSON.

use anyhow::{Context, Result, bail, ensure};
use mizar::sandbox::endpoint::Kind;
use mizar::sandbox::process::wait_until;
use mizar::sandbox::secrets::Secrets;
use mizar::sandbox::services::Service;
use mizar::sandbox::settings::Settings;
use mizar::sandbox::traffic::{PingOptions, TcpServer, ping, tcp_exchange};
use mizar_tests::bed::{Bed, PATIENCE};
use mizar_tests::harness::Scenario;
use mizar_tests::{bed, harness};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender};
use std::time::Duration;
use uuid::Uuid;

/// The longest that a story may take; the longest of them takes a tenth of it on a busy machine.
const LIMIT: Duration = Duration::from_secs(900);

/// How long Node.js may take to close its browser.
const FAREWELL: Duration = Duration::from_secs(10);

const SCENARIOS: &[Scenario] = &[
    ("a_tenant_gets_from_nothing_to_two_ports_that_ping", |bed| story(bed, "journey", 1)),
    ("everything_is_done_without_javascript_too", |bed| story(bed, "plain", 1)),
    ("markup_forms_of_others_and_addresses_of_other_projects_do_no_harm", |bed| story(bed, "safety", 2)),
    ("who_signs_in_again_is_back_where_the_session_ended", |bed| story(bed, "session", 1)),
    ("two_people_see_each_others_changes", |bed| story(bed, "live", 1)),
    ("a_page_that_is_not_renewed_says_so", |bed| story(bed, "outage", 1)),
    ("pages_follow_changes_over_bad_lines_too", |bed| story(bed, "line", 1)),
    ("what_groups_let_through_together_is_shown_and_a_full_quota_explained", |bed| story(bed, "rules", 1)),
    ("a_trace_names_what_blocks_a_packet", |bed| story(bed, "trace", 1)),
    ("the_flow_log_of_a_port_says_what_was_let_through_and_what_was_refused", |bed| story(bed, "flow-log", 1)),
    ("lists_are_narrowed_sorted_paged_and_searched", |bed| story(bed, "lists", 1)),
    ("an_operator_sees_a_host_stop_and_come_back", |bed| story(bed, "operator", 1)),
    ("every_place_is_reached_by_keys_and_pages_rest_when_they_shall", |bed| story(bed, "places", 1)),
    ("a_map_can_be_read_and_stays_lit_while_others_change_it", |bed| story(bed, "map", 1)),
    ("a_user_of_several_projects_acts_in_one_and_a_reader_changes_nothing", |bed| story(bed, "projects", 2)),
    ("everything_is_done_by_tab_and_enter_and_nothing_moves_for_who_wants_it_so", |bed| story(bed, "keys", 1)),
    ("every_page_can_be_used_by_everybody_in_light_and_dark", |bed| story(bed, "pages", 1)),
];

/// Debian's browser, or what MIZAR_CHROMIUM names.
fn chromium() -> Result<String> {
    let named = std::env::var("MIZAR_CHROMIUM").unwrap_or_else(|_| "/usr/bin/chromium".into());
    ensure!(PathBuf::from(&named).exists(), "{named} is missing: `./dev setup` installs it");
    Ok(named)
}

/// Tells a story to a browser, with so many tenants.
fn story(bed: &Bed, name: &str, tenants: usize) -> Result<()> {
    let mut secrets = Secrets::load(bed.sandbox.layout())?;
    let mut passwords = serde_json::Map::from_iter([("admin".to_owned(), json!(secrets.of("admin")?))]);
    for index in 0..tenants {
        bed.tenant()?;
        let user = format!("tenant{index}");
        passwords.insert(user.clone(), json!(Secrets::load(bed.sandbox.layout())?.of(&user)?));
    }
    let folder = mizar::devel::root().join("web/e2e");
    ensure!(folder.join("node_modules").exists(), "{}: `./dev test` installs what is needed", folder.display());
    let hosts: Vec<&str> = bed.sandbox.hosts().iter().map(|host| host.name.as_str()).collect();
    let told = json!({
        "base": bed.sandbox.web_url(), "passwords": passwords, "hosts": hosts,
        "out": bed.sandbox.layout().logs(), "chromium": chromium()?, "lease_s": bed.sandbox.settings().lease_s,
    });
    let child = Command::new("node")
        .args(["run.mjs", name])
        .current_dir(&folder)
        .env("MIZAR_E2E", told.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run node: `./dev setup` installs it")?;
    let mut teller = Teller::new(child)?;
    let questions = BufReader::new(teller.child.stdout.take().context("piped above")?);
    let mut answers = teller.child.stdin.take().context("piped above")?;
    for question in questions.lines() {
        let question: Value = serde_json::from_str(&question?).context("a question of the story")?;
        let answer = match answer(bed, &question) {
            Ok(answer) => json!({"ok": answer}),
            Err(error) => json!({"error": format!("{error:#}")}),
        };
        writeln!(answers, "{answer}")?;
    }
    let ended = teller.ended()?;
    ensure!(!teller.is_late(), "the story did not end within {} s", LIMIT.as_secs());
    ensure!(ended.success(), "the story failed; it says above where, its pictures are beside the logs");
    Ok(())
}

/// Node.js that tells a story. However the test ends, it ends, and closes its browser before; one that
/// takes far too long is ended too, so that a page that never answers fails one test and no others.
struct Teller {
    child: Child,
    /// Dropped when nothing more can come of the story.
    told: Option<Sender<()>>,
    late: Arc<AtomicBool>,
}

impl Teller {
    fn new(child: Child) -> Result<Self> {
        let pid = Pid::from_raw(i32::try_from(child.id())?);
        let (told, ended) = std::sync::mpsc::channel();
        let late = Arc::new(AtomicBool::new(false));
        let is_late = Arc::clone(&late);
        std::thread::spawn(move || {
            if ended.recv_timeout(LIMIT) == Err(RecvTimeoutError::Timeout) {
                is_late.store(true, Ordering::Relaxed);
                // It is not reaped before this channel is closed, so the number is still its own.
                let _ = kill(pid, Signal::SIGTERM);
                // Whoever does not listen to that keeps its output open, which the test reads to the end.
                if ended.recv_timeout(FAREWELL) == Err(RecvTimeoutError::Timeout) {
                    let _ = kill(pid, Signal::SIGKILL);
                }
            }
        });
        Ok(Self { child, told: Some(told), late })
    }

    /// How it ended, after it has closed its output.
    fn ended(&mut self) -> Result<ExitStatus> {
        self.told = None;
        Ok(self.child.wait()?)
    }

    fn is_late(&self) -> bool {
        self.late.load(Ordering::Relaxed)
    }
}

impl Drop for Teller {
    fn drop(&mut self) {
        self.told = None;
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        // Asked to end, it closes its browser; its questions are not answered any more.
        self.child.stdin.take();
        if let Ok(pid) = i32::try_from(self.child.id()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        if wait_until(FAREWELL, || matches!(self.child.try_wait(), Ok(Some(_)))).is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn id(value: &Value) -> Result<Uuid> {
    Ok(value.as_str().context("an id")?.parse()?)
}

fn service(name: &Value) -> Result<Service> {
    Ok(match name.as_str() {
        Some("web") => Service::Web,
        Some("api") => Service::Api,
        other => bail!("no service {other:?}"),
    })
}

fn answer(bed: &Bed, question: &Value) -> Result<Value> {
    let (what, about) = question.as_object().and_then(|q| q.iter().next()).context("a question has one member")?;
    match what.as_str() {
        "attach" => {
            let host = bed.host(usize::try_from(about["host"].as_u64().context("a host")?)?);
            let port = bed.admin.port(id(&about["port"])?)?;
            bed.sandbox.attach(&bed.admin, &port, host, Kind::Container)?;
            Ok(Value::Null)
        }
        "ping" => {
            let (from, to) = (bed.admin.port(id(&about["from"])?)?, bed.admin.port(id(&about["to"])?)?);
            bed.settle()?;
            let options = PingOptions { count: 3, patience: PATIENCE, ..PingOptions::default() };
            Ok(json!(ping(&bed.sandbox.container(&from)?, to.address()?, &options)?.all_answered()))
        }
        "knock" => {
            let (from, to) = (bed.admin.port(id(&about["from"])?)?, bed.admin.port(id(&about["to"])?)?);
            let options = PingOptions { patience: Duration::from_secs(1), ..PingOptions::default() };
            Ok(json!(ping(&bed.sandbox.container(&from)?, to.address()?, &options)?.received > 0))
        }
        "connect" => {
            let (from, to) = (bed.admin.port(id(&about["from"])?)?, bed.admin.port(id(&about["to"])?)?);
            let number = u16::try_from(about["port"].as_u64().context("a port number")?)?;
            let server =
                TcpServer::start(&bed.sandbox.container(&to)?, SocketAddr::new(to.address()?, number), "here")?;
            let said = tcp_exchange(&bed.sandbox.container(&from)?, server.address(), 1_000, Duration::from_secs(2));
            Ok(json!(said.is_ok_and(|banner| banner == "here")))
        }
        "restart" => {
            let service = service(about)?;
            bed.sandbox.stop(&service)?;
            bed.sandbox.start(&service)?;
            Ok(Value::Null)
        }
        "stop" => {
            bed.sandbox.stop(&service(about)?)?;
            Ok(Value::Null)
        }
        "start" => {
            bed.sandbox.start(&service(about)?)?;
            Ok(Value::Null)
        }
        "stop_agent" => {
            bed.sandbox.stop(&Service::Agent(about.as_str().context("a host")?.into()))?;
            Ok(Value::Null)
        }
        "start_agent" => {
            bed.sandbox.start(&Service::Agent(about.as_str().context("a host")?.into()))?;
            Ok(Value::Null)
        }
        "get" => bed.admin.get(about.as_str().context("a path")?),
        "put" => bed.admin.put(about["path"].as_str().context("a path")?, about.get("body")),
        "post" => bed.admin.post(about["path"].as_str().context("a path")?, &about["body"]),
        "delete" => {
            bed.admin.delete(about.as_str().context("a path")?)?;
            Ok(Value::Null)
        }
        "project" => {
            let found = bed.admin.get(&format!("/v3/projects?name={}", about.as_str().context("a name")?))?;
            Ok(found["projects"][0]["id"].clone())
        }
        "host" => {
            let found = bed.admin.get(&format!("/v2.0/mizar/hosts?name={}", about.as_str().context("a name")?))?;
            Ok(found["hosts"][0]["id"].clone())
        }
        other => bail!("a story cannot ask for `{other}`"),
    }
}

fn main() -> ExitCode {
    let settings = Settings { web: true, lease_s: 10, ..bed::settings() };
    harness::run("tdash", settings, &[SCENARIOS])
}
