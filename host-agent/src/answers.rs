//! Answers what the API asks of this host: a long poll of its own, beside the one for desired state, so that neither
//! waits for the other. What is asked is only looked at: nothing here writes to a map, but to wait for a packet that is to be
//! followed.

use crate::clock;
use crate::core::{Shared, chain};
use crate::dataplane::live::Live;
use crate::dataplane::runtime::Runtime;
use crate::dataplane::{Pins, PlaneError, fill};
use crate::flow_log::recent::Recent;
use crate::seeing::watch::{Refusal, Watches};
use crate::seeing::{drops, flows, trace};
use crate::sync::backoff::{Backoff, jitter};
use crate::sync::source::StateSource;
use mizar_abi::maps;
use mizar_plan::Judged;
use mizar_wire::ask::{ANSWER, Answer, Answered, Asked, Fill, Poll, Question};
use mizar_wire::sync::PROTOCOL;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a poll waits: agents do not march in step, and an idle one asks seldom.
const WAIT: (Duration, Duration) = (Duration::from_secs(20), Duration::from_secs(30));

/// Bytes of the answers that one poll carries: after so many the rest waits for the next, since what is not answered is
/// asked again.
const CARRIED: usize = 4 * ANSWER;

/// How long the fill of maps is good: it says how near the end of the room is, and that does not come in a moment.
const COUNTED: Duration = Duration::from_secs(10);

/// What is looked at.
#[derive(Clone)]
struct Sight {
    core: Shared,
    pins: Pins,
    log: Recent,
    watches: Watches,
    walked: Arc<Mutex<Walked<Flows>>>,
    filled: Arc<Mutex<Walked<Vec<Fill>>>>,
}

/// Fetches questions and answers them, for ever.
pub async fn run(core: Shared, source: impl StateSource, pins: Pins, log: Recent, watches: Watches) -> Infallible {
    let (walked, filled) =
        (Arc::new(Mutex::new(Walked::resting(Duration::ZERO))), Arc::new(Mutex::new(Walked::resting(COUNTED))));
    let sight = Sight { core: core.clone(), pins, log, watches, walked, filled };
    let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(30));
    let mut answers = Vec::new();
    loop {
        // What is to be said is said at once.
        let wait_s = if answers.is_empty() { jitter(WAIT.0, WAIT.1).as_secs() as u32 } else { 0 };
        let boot_id = core.lock().identity().boot_id.clone();
        sight.forget(Instant::now());
        let poll = Poll { protocol: PROTOCOL, boot_id, wait_s, answers: std::mem::take(&mut answers) };
        match source.questions(&poll).await {
            Ok(asked) => {
                backoff.reset();
                answers = answer(&sight, asked.questions).await;
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
async fn answer(sight: &Sight, asked: Vec<Asked>) -> Vec<Answered> {
    let (sight, arrived) = (sight.clone(), Instant::now());
    let work = move || each(asked, || arrived.elapsed(), |question| sight.look(question));
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

/// What a walk over whole maps saw, as of all flows of the host. Such walks are the most costly looks of all: after one, four
/// times as long passes before the next, and who asks meanwhile is told what that one saw. So no questions of a kind, however
/// many, take more than a fifth of a processor.
#[derive(Debug)]
struct Walked<T> {
    seen: Option<Arc<T>>,
    /// Not before that again.
    rest: Option<Instant>,
    /// It rests so long at least.
    least: Duration,
}

/// All flows of the host.
type Flows = Vec<(maps::FlowKey, maps::Flow)>;

impl<T> Walked<T> {
    const REST: u32 = 4;

    /// Nothing yet.
    const fn resting(least: Duration) -> Self {
        Self { seen: None, rest: None, least }
    }

    /// What the last walk saw, as long as there may be no other; else what one sees that is done now.
    fn see<E>(&mut self, clock: impl Fn() -> Instant, walk: impl FnOnce() -> Result<T, E>) -> Result<Arc<T>, E> {
        let from = clock();
        if let (Some(seen), Some(rest)) = (&self.seen, self.rest)
            && from < rest
        {
            return Ok(Arc::clone(seen));
        }
        let seen = Arc::new(walk()?);
        let now = clock();
        self.rest = Some(now + self.least.max(now.saturating_duration_since(from) * Self::REST));
        self.seen = Some(Arc::clone(&seen));
        Ok(seen)
    }

    /// What nobody is told any more takes no memory.
    fn forget(&mut self, now: Instant) {
        if self.rest.is_none_or(|rest| rest <= now) {
            self.seen = None;
        }
    }
}

/// Nobody panics with it in his hands.
fn held<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Sight {
    /// See [`Walked::forget`].
    fn forget(&self, now: Instant) {
        held(&self.walked).forget(now);
        held(&self.filled).forget(now);
    }

    fn look(&self, question: &Question) -> Result<Answer, String> {
        let Self { core, pins, log, watches, .. } = self;
        let failed = |error: PlaneError| chain(&error);
        match question {
            Question::Flows { ports } => {
                let walk = || Runtime::open(pins).map(|runtime| runtime.flows());
                let all = held(&self.walked).see(Instant::now, walk).map_err(failed)?;
                Ok(Answer::Flows(flows::read(&all, ports, &clock::now())))
            }
            Question::FlowLog { ports, since_ms, limit } => Ok(Answer::FlowLog(log.read(ports, *since_ms, *limit))),
            Question::Drops { ports } => Ok(Answer::Drops(drops::read(&Runtime::open(pins).map_err(failed)?, ports))),
            Question::Maps {} => {
                let fills = held(&self.filled).see(Instant::now, || fill::fills(pins)).map_err(failed)?;
                Ok(Answer::Maps(fills.as_ref().clone()))
            }
            Question::Trace(question) => {
                let tables = Live::open(pins).map_err(failed)?;
                // Held only while rules are looked for, not over the whole walk: others wait for it.
                let rules = |judged: &Judged| core.lock().store().planner.rules_about(judged);
                Ok(Answer::Trace(trace::answer(&tables, &rules, question)))
            }
            Question::Watch(watch) => {
                let refused = |Refusal { cause, reason }: Refusal| Answer::refused_for(cause, &reason);
                Ok(watches.ask(watch).map_or_else(refused, Answer::Watch))
            }
            Question::Followed(packet) => Ok(Answer::Followed(watches.followed(packet))),
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
    fn who_asks_for_flows_in_a_loop_has_a_fifth_of_a_processor_and_no_more() {
        let (start, elapsed, walks) = (Instant::now(), Cell::new(Duration::ZERO), Cell::new(0));
        let mut walked = Walked::resting(Duration::ZERO);
        // A walk takes 100 ms, an answer 10.
        while elapsed.get() < Duration::from_secs(10) {
            elapsed.set(elapsed.get() + Duration::from_millis(10));
            let walk = || {
                walks.set(walks.get() + 1);
                elapsed.set(elapsed.get() + Duration::from_millis(100));
                Ok::<_, ()>(vec![(
                    maps::FlowKey { lport: walks.get(), ..maps::FlowKey::default() },
                    maps::Flow::default(),
                )])
            };
            let flows = walked.see(|| start + elapsed.get(), walk).expect("the walk succeeds");
            assert_eq!(flows[0].0.lport, walks.get(), "those of the last walk");
        }
        assert!((18..=20).contains(&walks.get()), "{walks:?}");
        walked.forget(start + elapsed.get());
        assert_eq!(walked.seen.is_some(), walked.rest.is_some_and(|rest| rest > start + elapsed.get()));
        walked.forget(start + Duration::from_secs(60));
        assert!(walked.seen.is_none());
        // One that fails is no reason to wait.
        assert_eq!(walked.see(|| start + Duration::from_secs(60), || Err("no")), Err("no"));
    }

    #[test]
    fn what_changes_slowly_is_not_looked_at_again_for_a_while_however_short_the_look() {
        let (start, walks) = (Instant::now(), Cell::new(0));
        let mut walked = Walked::resting(COUNTED);
        let mut look = |after: Duration| {
            let walk = || Ok::<u32, ()>(walks.replace(walks.get() + 1) + 1);
            walked.see(|| start + after, walk).map(|seen| *seen)
        };
        let looks = [Duration::ZERO, COUNTED - Duration::from_millis(1), COUNTED].map(&mut look);
        assert_eq!(looks, [Ok(1), Ok(1), Ok(2)]);
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
            assert!(
                matches!(&read, Ok(Answer::Refused { reason, cause: None }) if reason.contains("are the most")),
                "{read:?}"
            );
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
