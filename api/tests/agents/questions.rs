//! Questions to hosts: who polls gets them, whichever replica was asked.

use crate::server::{Agent, Server, expect, until};
use anyhow::Context as _;
use diesel::QueryDsl as _;
use diesel_async::RunQueryDsl as _;
use mizar_api::exchange::{Exchange, Unanswered};
use mizar_db::schema::host_questions;
use mizar_wire::ask::{Answer, Answered, Dropped, Poll, Question, Questions};
use mizar_wire::sync::PROTOCOL;
use reqwest::StatusCode;
use serde_json::json;
use std::sync::Arc;
use std::time::{Duration, Instant};

const QUESTION: Question = Question::Drops { ports: Vec::new() };

fn poll(agent: &Agent, wait_s: u32, answers: Vec<Answered>) -> Poll {
    Poll { protocol: PROTOCOL, boot_id: agent.boot_id.clone(), wait_s, answers }
}

async fn ask_of(agent: &Agent, url: &str, poll: &Poll) -> anyhow::Result<reqwest::Response> {
    Ok(agent.client.post(format!("{url}/questions")).json(poll).send().await?)
}

/// Fetches questions from a replica until there is one, and answers each of them at another.
async fn serve(agent: &Agent, fetch: &str, post: &str, answer: &Answer) -> anyhow::Result<()> {
    loop {
        let got = expect(ask_of(agent, fetch, &poll(agent, 10, vec![])).await?, StatusCode::OK).await?;
        let Questions { questions } = got.json().await?;
        if questions.is_empty() {
            continue;
        }
        let answered = |asked: mizar_wire::ask::Asked| {
            assert_eq!(Question::from_value(asked.question).expect("a question"), QUESTION);
            assert!(asked.within_ms > 0);
            Answered { id: asked.id, answer: answer.to_value() }
        };
        let answers = questions.into_iter().map(answered).collect();
        expect(ask_of(agent, post, &poll(agent, 0, answers)).await?, StatusCode::OK).await?;
        return Ok(());
    }
}

fn dropped() -> Answer {
    Answer::Drops(vec![Dropped {
        port: 7,
        reason: "spoof".into(),
        about: "…".into(),
        packets: 3,
        bytes: 180,
        samples: vec![],
    }])
}

fn exchange(agents: &mizar_api::agent::Agents) -> Arc<Exchange> {
    Arc::clone(agents.probe().exchange())
}

#[tokio::test]
async fn a_question_put_at_one_replica_is_answered_at_another() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let other = server.replica().await?;
    let agent = server.agent("a", 1).await?;
    let elsewhere = format!("https://{}/agent/v1/hosts/a", other.address());
    let host = agent.number.cast_signed();
    let mut took = Vec::new();
    for (asks, fetch, post) in [
        (exchange(&server.agents), &agent.url, &agent.url),
        (exchange(&server.agents), &elsewhere, &elsewhere),
        (exchange(&other), &agent.url, &elsewhere),
    ] {
        let answer = dropped();
        let asked = async {
            let start = Instant::now();
            let got = asks.ask(host, &QUESTION).await;
            anyhow::Ok((got, start.elapsed()))
        };
        let (asked, served) = tokio::join!(asked, serve(&agent, fetch, post, &answer));
        served?;
        let (got, elapsed) = asked?;
        assert_eq!(got.map_err(|error| error.to_string()), Ok(answer));
        took.push(elapsed);
    }
    println!("asked and answered in {took:?}");
    let left: i64 = host_questions::table.count().get_result(&mut server.db.connect().await?).await?;
    assert_eq!(left, 0, "an answer that was read is gone");
    Ok(())
}

#[tokio::test]
async fn a_host_that_does_not_answer_is_given_up_and_said_to_be_silent() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let agent = server.agent("a", 1).await?;
    let asked = exchange(&server.agents).ask(agent.number.cast_signed(), &QUESTION).await;
    assert!(matches!(asked, Err(Unanswered::Silent)), "{asked:?}");
    // Nobody is asked any more what nobody waits for.
    let late = expect(ask_of(&agent, &agent.url, &poll(&agent, 0, vec![])).await?, StatusCode::OK).await?;
    assert_eq!(late.json::<Questions>().await?.questions, []);
    Ok(())
}

#[tokio::test]
async fn what_a_host_says_is_read_strictly_and_only_of_what_it_was_asked() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let (agent, stranger) = (server.agent("a", 1).await?, server.agent("b", 2).await?);
    let asks = exchange(&server.agents);
    let host = agent.number.cast_signed();
    let question = QUESTION;
    let long = json!({"refused": {"reason": "x".repeat(301)}});
    let huge = json!({"refused": {"reason": "x".repeat(300_000)}});
    for (answer, expected) in [
        (json!({"drops": [], "more": 1}), "not understood"),
        (json!({"drops": [{"port": 1}]}), "not understood"),
        (json!("reboot"), "not understood"),
        (json!({"refused": {"reason": "a\u{0}b"}}), "not understood"),
        (long, "not understood"),
        (huge, "are the most"),
        (json!({"refused": {"reason": "no such table"}}), "refused: no such table"),
    ] {
        let (asked, served) = tokio::join!(asks.ask(host, &question), async {
            let id = fetched(&agent).await?;
            // Another host cannot answer in its place.
            let forged = Answered { id, answer: dropped().to_value() };
            expect(ask_of(&stranger, &stranger.url, &poll(&stranger, 0, vec![forged])).await?, StatusCode::OK).await?;
            let answers = vec![Answered { id, answer }];
            expect(ask_of(&agent, &agent.url, &poll(&agent, 0, answers)).await?, StatusCode::OK).await?;
            anyhow::Ok(())
        });
        served?;
        let error = asked.err().context("an error")?.to_string();
        assert!(error.contains(expected), "{error} instead of {expected}");
    }
    Ok(())
}

async fn fetched(agent: &Agent) -> anyhow::Result<uuid::Uuid> {
    loop {
        let got = expect(ask_of(agent, &agent.url, &poll(agent, 10, vec![])).await?, StatusCode::OK).await?;
        if let Some(asked) = got.json::<Questions>().await?.questions.into_iter().next() {
            return Ok(asked.id);
        }
    }
}

#[tokio::test]
async fn a_poll_that_is_malformed_or_another_boots_is_refused() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let agent = server.agent("a", 1).await?;
    let good = poll(&agent, 0, vec![]);
    let answer = Answered { id: uuid::Uuid::nil(), answer: json!(null) };
    for (poll, status) in [
        (good.clone(), StatusCode::OK),
        (Poll { wait_s: 31, ..good.clone() }, StatusCode::BAD_REQUEST),
        (Poll { answers: vec![answer; 17], ..good.clone() }, StatusCode::BAD_REQUEST),
        (Poll { boot_id: "another".into(), ..good.clone() }, StatusCode::CONFLICT),
        (Poll { protocol: PROTOCOL + 1, ..good.clone() }, StatusCode::UPGRADE_REQUIRED),
    ] {
        expect(ask_of(&agent, &agent.url, &poll).await?, status).await?;
    }
    expect(ask_of(&agent, &format!("{}x", agent.url), &good).await?, StatusCode::FORBIDDEN).await?;
    let stranger = server.stranger("c")?;
    expect(ask_of(&stranger, &stranger.url, &poll(&stranger, 0, vec![])).await?, StatusCode::NOT_FOUND).await?;
    Ok(())
}

#[tokio::test]
async fn stopping_answers_the_polls_that_wait_for_questions() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let agent = server.agent("a", 1).await?;
    let start = Instant::now();
    let waits = poll(&agent, 30, vec![]);
    let waiting =
        tokio::spawn(async move { anyhow::Ok(ask_of(&agent, &agent.url, &waits).await?.json::<Questions>().await?) });
    let probe = server.agents.probe();
    until("the poll waits", || async { Ok(probe.polls() == 1) }).await?;
    server.agents.stop().await;
    assert_eq!(waiting.await??.questions, []);
    assert!(start.elapsed() < Duration::from_secs(20), "after {:?}", start.elapsed());
    Ok(())
}

#[tokio::test]
async fn what_nobody_waits_for_goes_even_while_others_ask() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let mut conn = server.db.connect().await?;
    let old = "INSERT INTO host_questions (id, host, question, until) \
               VALUES (gen_random_uuid(), 9, '{}', clock_timestamp() - interval '2 minutes')";
    diesel::sql_query(old).execute(&mut conn).await?;
    let start = Instant::now();
    loop {
        // As often as a page that somebody looks at asks.
        let notice = diesel::sql_query("SELECT pg_notify('mizar_questions', 'asked 9')");
        notice.execute(&mut conn).await?;
        let left: i64 = host_questions::table.count().get_result(&mut conn).await?;
        if left == 0 {
            return Ok(());
        }
        anyhow::ensure!(start.elapsed() < Duration::from_secs(30), "it is still there");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
