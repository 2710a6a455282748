//! Answers what the API asks of this host: a long poll of its own, beside the one for desired state, so that neither
//! waits for the other. What is asked is only looked at: nothing here writes to a map.

use crate::core::{Shared, chain};
use crate::dataplane::live::Live;
use crate::dataplane::runtime::Runtime;
use crate::dataplane::{Pins, PlaneError};
use crate::seeing::{drops, trace};
use crate::sync::backoff::{Backoff, jitter};
use crate::sync::source::StateSource;
use mizar_wire::ask::{Answer, Answered, Asked, Poll, Question};
use mizar_wire::sync::PROTOCOL;
use std::convert::Infallible;
use std::time::Duration;

/// How long a poll waits: agents do not march in step, and an idle one asks seldom.
const WAIT: (Duration, Duration) = (Duration::from_secs(20), Duration::from_secs(30));

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
    let work = move || {
        let one = |Asked { id, question, .. }: Asked| {
            let answer = Question::from_value(question).map_err(|error| chain(&error));
            let answer = answer.and_then(|question| look(&core, &pins, &question));
            let answer = answer.unwrap_or_else(|reason| Answer::Refused { reason });
            Answered { id, answer: answer.to_value() }
        };
        asked.into_iter().map(one).collect()
    };
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
        tracing::error!(%error, "a question could not be answered");
        Vec::new()
    })
}

fn look(core: &Shared, pins: &Pins, question: &Question) -> Result<Answer, String> {
    let failed = |error: PlaneError| chain(&error);
    match question {
        Question::Drops { ports } => Ok(Answer::Drops(drops::read(&Runtime::open(pins).map_err(failed)?, ports))),
        Question::Trace(question) => {
            let tables = Live::open(pins).map_err(failed)?;
            let core = core.lock();
            Ok(Answer::Trace(trace::answer(&tables, &core.store().planner, question)))
        }
    }
}
