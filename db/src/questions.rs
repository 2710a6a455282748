//! Questions to hosts, and their answers, where every replica of the API finds them.
//!
//! The replica that asks need not be the one that the host polls. So a question is a row, and PostgreSQL tells every
//! replica of it, and of its answer ([`CHANNEL`]): questions are few, and a notice costs a commit little where
//! few commits have one.

use crate::pool::{self, Use};
use crate::statement::statement;
use diesel::QueryResult;
use diesel::sql_types::{Array, BigInt, Double, Integer, Nullable, Text, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};
use futures::StreamExt as _;
use std::time::Duration;
use uuid::Uuid;

/// Where notices are told. Their payloads are [`Notice`]s.
const CHANNEL: &str = "mizar_questions";

/// Questions that wait for one host at most.
pub const OPEN: i64 = 64;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The host of this number was asked something.
    Asked(i32),
    /// The question was answered.
    Answered(Uuid),
}

impl Notice {
    /// Of a payload; `None`: of a later version.
    fn parse(payload: &str) -> Option<Self> {
        match payload.split_once(' ')? {
            ("asked", host) => host.parse().ok().map(Self::Asked),
            ("answered", id) => id.parse().ok().map(Self::Answered),
            _ => None,
        }
    }
}

statement! {
    Put { id: Uuid as SqlUuid, host: i32 as Integer, question: String as Text, within_s: f64 as Double, open: i64 as BigInt }
        -> Text
    {
        "WITH put AS (INSERT INTO host_questions (id, host, question, until) SELECT " id ", q.host, " question
        ", clock_timestamp() + make_interval(secs => " within_s ") FROM (SELECT " host "::integer AS host) q \
         WHERE (SELECT count(*) FROM host_questions o WHERE o.host = q.host AND o.answer IS NULL \
         AND o.until > clock_timestamp()) < " open " RETURNING host) \
         SELECT pg_notify('mizar_questions', 'asked ' || host)::text FROM put"
    }
}

/// Asks a host. False: too many questions wait for it.
pub async fn put(
    conn: &mut AsyncPgConnection,
    id: Uuid,
    host: i32,
    question: String,
    within: Duration,
) -> QueryResult<bool> {
    let put = Put { id, host, question, within_s: within.as_secs_f64(), open: OPEN };
    Ok(!put.load::<String>(conn).await?.is_empty())
}

/// A question as it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Open {
    /// Names it.
    pub id: Uuid,
    /// JSON.
    pub question: String,
    /// How much longer somebody waits for it.
    pub within: Duration,
}

statement! {
    SelectOpen { host: i32 as Integer, limit: i64 as BigInt } -> (SqlUuid, Text, Double)
    {
        "SELECT id, question, extract(epoch FROM until - clock_timestamp())::double precision FROM host_questions WHERE host = "
        host " AND answer IS NULL AND until > clock_timestamp() ORDER BY asked_at LIMIT " limit ""
    }
}

/// What a host is asked and has not answered, the oldest first.
pub async fn open(conn: &mut AsyncPgConnection, host: i32, limit: usize) -> QueryResult<Vec<Open>> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows: Vec<(Uuid, String, f64)> = SelectOpen { host, limit }.load(conn).await?;
    let open = |(id, question, seconds): (Uuid, String, f64)| Open {
        id,
        question,
        within: Duration::try_from_secs_f64(seconds).unwrap_or_default(),
    };
    Ok(rows.into_iter().map(open).collect())
}

statement! {
    SelectHosts {} -> Integer
    { "SELECT DISTINCT host FROM host_questions WHERE answer IS NULL AND until > clock_timestamp()" }
}

/// Hosts that are asked something.
pub async fn hosts(conn: &mut AsyncPgConnection) -> QueryResult<Vec<i32>> {
    SelectHosts {}.load(conn).await
}

statement! {
    Answer { host: i32 as Integer, ids: Vec<Uuid> as Array<SqlUuid>, answers: Vec<String> as Array<Text> } -> Text
    {
        "WITH done AS (UPDATE host_questions q SET answer = a.answer FROM unnest(" ids ", " answers
        ") a (id, answer) WHERE q.id = a.id AND q.host = " host
        " AND q.answer IS NULL AND q.until > clock_timestamp() RETURNING q.id) \
         SELECT pg_notify('mizar_questions', 'answered ' || id)::text FROM done"
    }
}

/// A host answers; what it was not asked, or answers too late, is forgotten.
pub async fn answer(conn: &mut AsyncPgConnection, host: i32, answers: Vec<(Uuid, String)>) -> QueryResult<()> {
    let (ids, answers) = answers.into_iter().unzip();
    Answer { host, ids, answers }.load::<String>(conn).await.map(drop)
}

statement! {
    Take { id: Uuid as SqlUuid } -> Text
    { "DELETE FROM host_questions WHERE id = " id " AND answer IS NOT NULL RETURNING answer" }
}

/// The answer to a question, which is gone then; `None`: there is none yet.
pub async fn take(conn: &mut AsyncPgConnection, id: Uuid) -> QueryResult<Option<String>> {
    Ok(Take { id }.load(conn).await?.pop())
}

statement! {
    GiveUp { id: Uuid as SqlUuid } -> Nullable<Text>
    { "DELETE FROM host_questions WHERE id = " id " RETURNING answer" }
}

/// Nobody waits for an answer any more. If there is one by now, it is this.
pub async fn give_up(conn: &mut AsyncPgConnection, id: Uuid) -> QueryResult<Option<String>> {
    Ok(GiveUp { id }.load::<Option<String>>(conn).await?.pop().flatten())
}

statement! {
    Sweep {} -> SqlUuid
    { "DELETE FROM host_questions WHERE until < clock_timestamp() - interval '1 minute' RETURNING id" }
}

/// Removes what nobody waits for: whoever asked may have ended.
pub async fn sweep(conn: &mut AsyncPgConnection) -> QueryResult<usize> {
    Ok(Sweep {}.load::<Uuid>(conn).await?.len())
}

/// A connection that hears of questions and answers.
pub struct Listener(AsyncPgConnection);

/// How long the server may take to say that it is there.
const SILENCE: Duration = Duration::from_secs(5);

fn silent() -> diesel::result::Error {
    diesel::result::Error::BrokenTransactionManager
}

impl Listener {
    /// Hears from now on.
    pub async fn connect(url: &str) -> diesel::ConnectionResult<Self> {
        let mut conn = pool::connect(url.to_owned(), Use::Commands).await?;
        let listens = conn.batch_execute(&format!("LISTEN {CHANNEL}")).await;
        listens.map_err(diesel::ConnectionError::CouldntSetupConfiguration)?;
        Ok(Self(conn))
    }

    /// The hosts that are asked something at this moment: what was told before [`Listener::connect`].
    pub async fn hosts(&mut self) -> QueryResult<Vec<i32>> {
        hosts(&mut self.0).await
    }

    /// Removes what nobody waits for, by which the connection is found well. An error ends it.
    pub async fn sweep(&mut self) -> QueryResult<usize> {
        tokio::time::timeout(SILENCE, sweep(&mut self.0)).await.map_err(|_| silent())?
    }

    /// What is told next. `None`: nothing for so long, or nothing that this version knows. An error ends it.
    pub async fn next(&mut self, patience: Duration) -> QueryResult<Option<Notice>> {
        let told = {
            let stream = std::pin::pin!(self.0.notifications_stream());
            let mut stream = stream;
            tokio::time::timeout(patience, stream.next()).await
        };
        match told {
            Ok(Some(notice)) => Ok(Notice::parse(&notice?.payload)),
            Ok(None) => Err(silent()),
            Err(_) => Ok(None),
        }
    }
}
