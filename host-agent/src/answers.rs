//! Answers what the API asks of this host: a long poll of its own, beside the one for desired state, so that neither
//! waits for the other. What is asked is only looked at: nothing here writes to a map.

use crate::clock;
use crate::core::{Shared, chain};
use crate::dataplane::live::Live;
use crate::dataplane::runtime::Runtime;
use crate::dataplane::{Pins, PlaneError};
use crate::seeing::{drops, flows, trace};
use crate::sync::backoff::{Backoff, jitter};
use crate::sync::source::StateSource;
use mizar_abi::maps;
use mizar_plan::Judged;
use mizar_wire::ask::{ANSWER, Answer, Answered, Asked, Poll, Question};
use mizar_wire::sync::PROTOCOL;
use std::cell::OnceCell;
use std::convert::Infallible;
use std::time::{Duration, Instant};

/// How long a poll waits: agents do not march in step, and an idle one asks seldom.
const WAIT: (Duration, Duration) = (Duration::from_secs(20), Duration::from_secs(30));

/// Bytes of the answers that one poll carries: after so many the rest waits for the next, since what is not answered is
/// asked again.
const CARRIED: usize = 4 * ANSWER;

/// Fetches questions and answers them, for ever.
pub async fn run(core: Shared, source: impl StateSource, pins: Pins) -> Infallible {
    let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(30));
    let mut answers = Vec::new();
    loop {
        // What is to be said is said at once.
        let wait_s = if answers.is_empty() { jitter(WAIT.0, WAIT.1).as_secs() as u32 } else { 0 };
        let boot_id = core.lock().identity().boot_id.clone();
        let poll = Poll { protocol: PROTOCOL, boot_id, wait_s, answers: std::mem::take(&mut answers) };
        match source.questions(&poll).await {
            Ok(asked) => {
                backoff.reset();
                answers = answer(&core, &pins, asked.questions).await;
            }
            Err(error) => {
                // The poll for desired state meets the same trouble, and logs it.
                tracing::debug!(error = chain(&error), "questions not fetched");
                tokio::time::sleep(backoff.pause()).await;
            }
        }
    }
}

/// Answers one after the other, where it may take its time: a full table is 100,000 system calls.
async fn answer(core: &Shared, pins: &Pins, asked: Vec<Asked>) -> Vec<Answered> {
    let (core, pins) = (core.clone(), pins.clone());
    let arrived = Instant::now();
    let work = move || {
        let walked = OnceCell::new();
        each(asked, || arrived.elapsed(), |question| look(&core, &pins, &walked, question))
    };
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
        tracing::error!(%error, "a question could not be answered");
        Vec::new()
    })
}

/// Until the answers are as long as a poll may be. What nobody waits for any more, `elapsed` after it came, is left out: it
/// would only keep the others waiting.
fn each(
    asked: Vec<Asked>,
    elapsed: impl Fn() -> Duration,
    look: impl Fn(&Question) -> Result<Answer, String>,
) -> Vec<Answered> {
    let (mut answers, mut carried) = (Vec::new(), 0);
    for Asked { id, within_ms, question } in asked {
        if elapsed() > Duration::from_millis(within_ms.into()) {
            continue;
        }
        if carried > CARRIED {
            break;
        }
        let answer = Question::from_value(question).map_err(|error| chain(&error));
        let answer = answer.and_then(|question| look(&question));
        let mut answer = answer.unwrap_or_else(|reason| Answer::refused(&reason)).to_value();
        let size = answer.to_string().len();
        if size > ANSWER {
            let reason = format!("its answer has {size} bytes, and {ANSWER} are the most");
            answer = Answer::refused(&reason).to_value();
        }
        carried += size.min(ANSWER);
        answers.push(Answered { id, answer });
    }
    answers
}

/// All flows of the host, once one of the questions that came together is about flows: a walk over them is the
/// most costly look of all.
type Walked = OnceCell<Vec<(maps::FlowKey, maps::Flow)>>;

fn look(core: &Shared, pins: &Pins, walked: &Walked, question: &Question) -> Result<Answer, String> {
    let failed = |error: PlaneError| chain(&error);
    match question {
        Question::Flows { ports } => {
            let all = match walked.get() {
                Some(all) => all,
                None => {
                    let all = Runtime::open(pins).map_err(failed)?.flows();
                    walked.get_or_init(|| all)
                }
            };
            Ok(Answer::Flows(flows::read(all, ports, &clock::now())))
        }
        Question::Drops { ports } => Ok(Answer::Drops(drops::read(&Runtime::open(pins).map_err(failed)?, ports))),
        Question::Trace(question) => {
            let tables = Live::open(pins).map_err(failed)?;
            // Held only while rules are looked for, not over the whole walk: others wait for it.
            let rules = |judged: &Judged| core.lock().store().planner.rules_about(judged);
            Ok(Answer::Trace(trace::answer(&tables, &rules, question)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mizar_wire::ask::{BATCH, Dropped};
    use std::cell::Cell;
    use uuid::Uuid;

    fn asked(number: usize) -> Asked {
        let question = Question::Drops { ports: vec![] }.to_value();
        Asked { id: Uuid::from_u128(number as u128), within_ms: 60_000, question }
    }

    fn drops(count: usize) -> Answer {
        let one =
            Dropped { port: 1, reason: "spoof".into(), about: String::new(), packets: 1, bytes: 60, samples: vec![] };
        Answer::Drops(vec![one; count])
    }

    #[test]
    fn a_poll_carries_only_what_the_api_reads() {
        // Each is as long as it may be, nearly.
        let long = ANSWER / (drops(2).to_value().to_string().len() - drops(1).to_value().to_string().len()) - 1;
        let questions = || (0..BATCH).map(asked).collect::<Vec<_>>();
        let answers = each(questions(), || Duration::ZERO, |_| Ok(drops(long)));
        let bytes = serde_json::to_string(&answers).map_or(0, |text| text.len());
        assert!(!answers.is_empty() && bytes < 2 << 20, "{bytes} bytes");
        let ids: Vec<Uuid> = answers.iter().map(|answered| answered.id).collect();
        assert_eq!(ids, questions()[..ids.len()].iter().map(|asked| asked.id).collect::<Vec<_>>(), "the oldest first");
        assert_eq!(each(questions(), || Duration::ZERO, |_| Ok(drops(1))).len(), BATCH);
    }

    #[test]
    fn an_answer_that_would_be_too_long_is_refused_alone() {
        let answers = each(vec![asked(1), asked(2)], || Duration::ZERO, |_| Ok(drops(ANSWER / 20)));
        for Answered { answer, .. } in &answers {
            let read = Answer::from_value(answer.clone());
            assert!(matches!(&read, Ok(Answer::Refused { reason }) if reason.contains("are the most")), "{read:?}");
        }
        assert_eq!(answers.len(), 2);
    }

    #[test]
    fn what_nobody_waits_for_any_more_keeps_nobody_waiting() {
        let looks = Cell::new(0);
        let short = |number| Asked { within_ms: 1_500, ..asked(number) };
        // Each takes a second.
        let answers = each(
            vec![asked(1), short(2), short(3), short(4), asked(5)],
            || Duration::from_secs(looks.get()),
            |_| {
                looks.set(looks.get() + 1);
                Ok(drops(1))
            },
        );
        let ids: Vec<u128> = answers.iter().map(|answered| answered.id.as_u128()).collect();
        assert_eq!((ids, looks.get()), (vec![1, 2, 5], 3));
    }
}
