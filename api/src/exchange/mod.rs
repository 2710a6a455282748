//! Questions to hosts, whichever replica their agents poll.
//!
//! Some things only one host knows, and only now: what it drops, what its tables hold. A handler [asks](Exchange::ask), which writes
//! a row; PostgreSQL tells every replica; the one where the host's agent waits wakes its poll; the answer comes back the same
//! way (`mizar_wire::ask` is what agents see of it, `mizar_db::questions` the rows). Nothing is kept here that another
//! replica could not find in the table, and a waiting poll costs no SQL and holds no connection.
//!
//! A question is bounded in every way: how long one waits for it, how many wait for one host and from one replica, how long the
//! answer may be. A host that does not answer is something to be shown, no failure of the request: [`Unanswered`].

mod listen;

use mizar_db::pool::PoolError;
use mizar_db::questions::{self, Open};
use mizar_db::{DbPool, chain};
use mizar_wire::ask::{ANSWER, Answer, Answered, Asked, BATCH, Cause, Question};
use serde_json::Value;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinHandle;
use uuid::Uuid;

/// How long a host has for its answer: looks at tables take milliseconds, and people wait.
pub const PATIENCE: Duration = Duration::from_secs(3);

/// Questions of this replica that wait for an answer at once.
const QUESTIONS: usize = 64;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Unanswered {
    /// The host's agent is away, or older than questions.
    #[error("the host did not answer within {} s", PATIENCE.as_secs())]
    Silent,
    /// Of several that one request asks: it has not answered when the request had to.
    #[error("the host did not answer before the time of this request was over")]
    Late,
    /// This server has no agents' side.
    #[error("this server speaks to no hosts")]
    Alone,
    /// Others ask already.
    #[error("too many questions wait for an answer")]
    Busy,
    /// The agent does not want to, or cannot.
    #[error("the host refused: {reason}")]
    Refused {
        /// Why.
        reason: String,
        /// The same for programs, if it says so.
        cause: Option<Cause>,
    },
    /// The agent says what this version does not understand.
    #[error("the host's answer is not understood")]
    Strange(#[source] mizar_wire::ask::NotUnderstood),
    /// It answers another question.
    #[error("the host answered another question")]
    Beside,
    /// The question could not be put.
    #[error("the database cannot be used at the moment")]
    Database(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl From<diesel::result::Error> for Unanswered {
    fn from(error: diesel::result::Error) -> Self {
        Self::Database(Box::new(error))
    }
}

impl From<PoolError> for Unanswered {
    fn from(error: PoolError) -> Self {
        Self::Database(Box::new(error))
    }
}

#[derive(Default)]
struct State {
    /// Hosts that may have open questions. The number tells a later notice from an earlier one.
    asked: HashMap<i32, u64>,
    notices: u64,
    /// One for every host that ever polled here.
    polls: HashMap<i32, Arc<Notify>>,
    /// Who waits here for an answer.
    askers: HashMap<Uuid, Arc<Notify>>,
    stopped: bool,
}

/// See the module.
pub struct Exchange {
    state: Mutex<State>,
    pool: DbPool,
    places: Semaphore,
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange").finish_non_exhaustive()
    }
}

/// Takes part in the exchange until it is dropped.
#[derive(Debug)]
pub struct Participant {
    exchange: Arc<Exchange>,
    task: JoinHandle<()>,
}

impl Participant {
    /// Hears of questions and answers from now on.
    pub async fn start(url: &str, pool: DbPool) -> diesel::ConnectionResult<Self> {
        let exchange = Arc::new(Exchange { state: Mutex::default(), pool, places: Semaphore::new(QUESTIONS) });
        let listener = questions::Listener::connect(url).await?;
        let task = tokio::spawn(listen::listen(Arc::clone(&exchange), url.to_owned(), listener));
        Ok(Self { exchange, task })
    }

    /// What it takes part in.
    pub fn exchange(&self) -> &Arc<Exchange> {
        &self.exchange
    }

    /// Ends it; waiting polls are answered.
    pub fn stop(&self) {
        self.task.abort();
        let mut state = self.exchange.state();
        state.stopped = true;
        state.polls.values().for_each(|poll| poll.notify_waiters());
    }
}

impl Drop for Participant {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Forgets who asked: the client may hang up.
struct Asker<'a> {
    exchange: &'a Exchange,
    id: Uuid,
    woken: Arc<Notify>,
}

impl Drop for Asker<'_> {
    fn drop(&mut self) {
        self.exchange.state().askers.remove(&self.id);
    }
}

impl Exchange {
    /// Nothing between lock and unlock can panic halfway through a change that matters.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks a host, by its number.
    pub async fn ask(&self, host: i32, question: &Question) -> Result<Answer, Unanswered> {
        let _place = self.places.try_acquire().map_err(|_| Unanswered::Busy)?;
        let deadline = Instant::now() + PATIENCE;
        let asker = self.asker();
        let text = question.to_value().to_string();
        if !questions::put(&mut *self.pool.get().await?, asker.id, host, text, PATIENCE).await? {
            return Err(Unanswered::Busy);
        }
        let answer = self.answer_to(&asker, deadline).await?;
        let read = serde_json::from_str(&answer).map_err(Into::into).and_then(Answer::from_value);
        match read.map_err(Unanswered::Strange)? {
            Answer::Refused { reason, cause } => Err(Unanswered::Refused { reason, cause }),
            answer => Ok(answer),
        }
    }

    fn asker(&self) -> Asker<'_> {
        let (id, woken) = (Uuid::new_v4(), Arc::new(Notify::new()));
        self.state().askers.insert(id, Arc::clone(&woken));
        Asker { exchange: self, id, woken }
    }

    async fn answer_to(&self, asker: &Asker<'_>, deadline: Instant) -> Result<String, Unanswered> {
        while tokio::time::timeout_at(deadline.into(), asker.woken.notified()).await.is_ok() {
            if let Some(answer) = questions::take(&mut *self.pool.get().await?, asker.id).await? {
                return Ok(answer);
            }
        }
        // The notice may have been lost with a connection.
        let late = questions::give_up(&mut *self.pool.get().await?, asker.id).await?;
        late.ok_or(Unanswered::Silent)
    }

    /// What a host is asked, as soon as there is something; nothing at the deadline.
    pub async fn questions(&self, host: i32, deadline: Instant) -> Result<Vec<Asked>, Unanswered> {
        let poll = Arc::clone(self.state().polls.entry(host).or_default());
        loop {
            // Registered before looking, so that what comes after the look is heard.
            let woken = poll.notified();
            tokio::pin!(woken);
            woken.as_mut().enable();
            let notice = self.state().asked.get(&host).copied();
            if let Some(notice) = notice {
                let open = questions::open(&mut *self.pool.get().await?, host, BATCH).await?;
                if !open.is_empty() {
                    return Ok(open.into_iter().filter_map(asked).collect());
                }
                let mut state = self.state();
                if state.asked.get(&host) == Some(&notice) {
                    state.asked.remove(&host);
                }
            }
            let stopped = self.state().stopped;
            if stopped || tokio::time::timeout_at(deadline.into(), woken).await.is_err() {
                return Ok(Vec::new());
            }
        }
    }

    /// A host answers.
    pub async fn answer(&self, host: i32, answers: Vec<Answered>) -> Result<(), Unanswered> {
        if answers.is_empty() {
            return Ok(());
        }
        let row = |Answered { id, answer }: Answered| (id, bounded(&answer));
        let answers = answers.into_iter().map(row).collect();
        Ok(questions::answer(&mut *self.pool.get().await?, host, answers).await?)
    }

    fn asked(&self, host: i32) {
        let mut state = self.state();
        state.notices += 1;
        let notice = state.notices;
        state.asked.insert(host, notice);
        if let Some(poll) = state.polls.get(&host) {
            poll.notify_waiters();
        }
    }

    fn answered(&self, id: Uuid) {
        if let Some(asker) = self.state().askers.get(&id) {
            asker.notify_one();
        }
    }

    /// Notices may have been missed: whoever waits looks.
    fn look_again(&self) {
        self.state().askers.values().for_each(|asker| asker.notify_one());
    }
}

/// A row as it travels. One that is no JSON was written by nobody.
fn asked(open: Open) -> Option<Asked> {
    let within_ms = u32::try_from(open.within.as_millis()).unwrap_or(u32::MAX);
    match serde_json::from_str(&open.question) {
        Ok(question) => Some(Asked { id: open.id, within_ms, question }),
        Err(error) => {
            tracing::error!(id = %open.id, error = chain(&error), "a question in the table is no JSON");
            None
        }
    }
}

/// An answer as it is stored.
fn bounded(answer: &Value) -> String {
    let text = answer.to_string();
    if text.len() <= ANSWER {
        return text;
    }
    let reason = format!("its answer has {} bytes, and {ANSWER} are the most", text.len());
    Answer::Refused { reason, cause: None }.to_value().to_string()
}
