//! `POST /agent/v1/hosts/{host}/questions`: what the host is asked, and what it answers.

use super::Shared;
use super::identity::HostName;
use super::problem::{Body, Problem, decode, speaks};
use super::sync::holder;
use crate::exchange::Unanswered;
use actix_web::web::{Data, Json};
use mizar_wire::ask::{BATCH, Poll, Questions, WAIT_S};
use std::time::{Duration, Instant};

pub(super) async fn questions(
    HostName(name): HostName,
    shared: Data<Shared>,
    body: Body,
) -> Result<Json<Questions>, Problem> {
    let arrived = Instant::now();
    let Poll { protocol, boot_id, wait_s, answers } = decode(body)?;
    speaks(protocol)?;
    if wait_s > WAIT_S {
        return Err(Problem::malformed(format!("'wait_s' must be at most {WAIT_S}")));
    }
    if answers.len() > BATCH {
        return Err(Problem::malformed(format!("'answers' must be at most {BATCH}")));
    }
    let host = holder(&shared, &name, &boot_id).await?.number;
    shared.exchange.answer(host, answers).await?;
    let deadline = arrived + Duration::from_secs(wait_s.into());
    let waiting = shared.waiting();
    let questions = shared.exchange.questions(host, deadline).await?;
    drop(waiting);
    Ok(Json(Questions { questions }))
}

impl From<Unanswered> for Problem {
    /// Only the database keeps it from asking and answering.
    fn from(error: Unanswered) -> Self {
        super::problem::unavailable(&error)
    }
}
