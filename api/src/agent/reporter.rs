//! Stores what agents report, many reports in one transaction, and sets ports ACTIVE.
//!
//! One task. While it writes, reports gather; when it is idle a report that matters is written at
//! once. So a lone port waits for nothing, and a thousand a second share transactions of a few
//! milliseconds (CONTROLPLANE S5). Renewals of leases, and acknowledgements of nothing new, wait
//! for the next full second.
//!
//! What makes a port ACTIVE may come from elsewhere too: a bouncer that the scheduler made active,
//! one whose lease ended. Hence the look after every change of subscriptions, and every second.

use super::problem::Problem;
use super::sessions::Sessions;
use futures::FutureExt as _;
use mizar_db::agents::promote::promote;
use mizar_db::agents::report::{self, Seen, Wiring};
use mizar_db::feed::follow::Feed;
use mizar_db::pool::{Conflict, PoolError};
use mizar_db::{DbPool, chain};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

/// How often leases are stored.
const RENEWAL: Duration = Duration::from_secs(1);

/// Reports that are stored in one transaction at most.
const BATCH: usize = 1_000;

/// A transaction that takes longer will not end, and leases wait behind it. Its connection, in the
/// midst of a transaction, is thrown away.
const SILENCE: Duration = Duration::from_secs(10);

/// What one sync reported.
#[derive(Clone, Debug)]
pub(super) struct Report {
    pub host: i32,
    pub seen: Seen,
    pub wired: Vec<Wiring>,
    pub lost: Vec<Wiring>,
    /// `wired` is all that the host has.
    pub complete: bool,
    /// Failures came, changed or went.
    pub failures: bool,
}

impl Report {
    /// Whether it says something that the agent says once.
    pub fn wires(&self) -> bool {
        self.complete || !self.wired.is_empty() || !self.lost.is_empty()
    }
}

enum Message {
    /// Store it when leases are.
    Renewal(Report),
    /// Store it now; tell when it is done, if somebody asks.
    Now(Report, Option<oneshot::Sender<()>>),
}

/// Where handlers put their reports.
#[derive(Clone)]
pub(super) struct Reporter {
    sender: mpsc::UnboundedSender<Message>,
}

impl Reporter {
    /// Stores a report and returns when it is stored.
    pub async fn store(&self, report: Report) -> Result<(), Problem> {
        let (done, stored) = oneshot::channel();
        let sent = self.sender.send(Message::Now(report, Some(done)));
        match sent {
            Ok(()) => stored.await.map_err(|_| Problem::busy("the report could not be stored")),
            Err(_) => Err(Problem::busy("the server is stopping")),
        }
    }

    /// Stores a report soon, or with the next leases. If that fails the lease lapses and the
    /// agent's next acknowledgement says the same again.
    pub fn note(&self, report: Report, matters: bool) {
        let message = if matters { Message::Now(report, None) } else { Message::Renewal(report) };
        if self.sender.send(message).is_err() {
            tracing::debug!("a report came while the server was stopping");
        }
    }
}

/// Starts the task. It ends when every [`Reporter`] is gone, after storing what it has.
pub(super) fn start(
    pool: DbPool,
    feed: Arc<Feed>,
    sessions: Arc<Sessions>,
    lease: Duration,
) -> (Reporter, JoinHandle<()>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let task = Task { pool, feed, sessions, lease, renewals: BTreeMap::new() };
    (Reporter { sender }, tokio::spawn(task.run(receiver)))
}

struct Task {
    pool: DbPool,
    feed: Arc<Feed>,
    sessions: Arc<Sessions>,
    lease: Duration,
    renewals: BTreeMap<i32, Seen>,
}

/// What one transaction stores.
#[derive(Clone, Debug, Default)]
struct Batch {
    seen: BTreeMap<i32, Seen>,
    wired: BTreeSet<Wiring>,
    lost: BTreeSet<Wiring>,
    complete: BTreeMap<i32, Vec<i32>>,
    failures: HashSet<i32>,
}

/// Of two syncs of one host the later counts, with the acknowledgement of either.
fn merge(into: &mut BTreeMap<i32, Seen>, host: i32, seen: Seen) {
    match into.get_mut(&host) {
        Some(known) if known.boot_id == seen.boot_id => {
            known.at = known.at.max(seen.at);
            if seen.ack.is_some() {
                known.ack = seen.ack;
            }
        }
        _ => {
            into.insert(host, seen);
        }
    }
}

impl Batch {
    /// Of what was said about one binding the later word counts: the statements know no order.
    fn add(&mut self, report: Report) {
        let Report { host, seen, wired, lost, complete, failures } = report;
        if complete {
            self.complete.insert(host, wired.iter().map(|wiring| wiring.port).collect());
            // Whatever this one does not name is gone.
            self.wired.retain(|wiring| wiring.host != host);
        }
        for wiring in lost {
            self.wired.remove(&wiring);
            self.lost.insert(wiring);
        }
        for wiring in wired {
            self.lost.remove(&wiring);
            self.wired.insert(wiring);
        }
        if failures {
            self.failures.insert(host);
        }
        merge(&mut self.seen, host, seen);
    }
}

/// Why a batch was not stored.
#[derive(Debug, thiserror::Error)]
enum StoreError {
    #[error(transparent)]
    Pool(#[from] PoolError),
    #[error(transparent)]
    Database(#[from] diesel::result::Error),
    #[error("the database has not answered within {} s", SILENCE.as_secs())]
    Silent,
}

impl Conflict for StoreError {
    fn is_conflict(&self) -> bool {
        matches!(self, Self::Database(error) if error.is_conflict())
    }
}

impl Task {
    async fn run(mut self, mut receiver: mpsc::UnboundedReceiver<Message>) {
        let mut placements = self.feed.placements();
        let mut renewal = tokio::time::interval(RENEWAL);
        renewal.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut open = true;
        while open {
            let mut batch = Batch::default();
            let mut waiting = Vec::new();
            let mut act = true;
            tokio::select! {
                message = receiver.recv() => match message {
                    Some(message) => act = self.take(message, &mut batch, &mut waiting),
                    None => open = false,
                },
                _ = renewal.tick() => batch.seen = std::mem::take(&mut self.renewals),
                // The feed holds the sender, and this task the feed.
                _ = placements.changed() => {}
            }
            // Whatever came while the last batch was written.
            while batch.seen.len() < BATCH
                && let Ok(message) = receiver.try_recv()
            {
                act |= self.take(message, &mut batch, &mut waiting);
            }
            if !open {
                batch.seen.append(&mut self.renewals);
            }
            if act {
                self.act(batch, waiting).await;
            }
        }
    }

    /// Sorts a message in; says whether it is to be stored now.
    fn take(&mut self, message: Message, batch: &mut Batch, waiting: &mut Vec<oneshot::Sender<()>>) -> bool {
        match message {
            Message::Renewal(report) => {
                merge(&mut self.renewals, report.host, report.seen);
                false
            }
            Message::Now(report, done) => {
                // An older one that still waits must not undo this one later.
                if let Some(older) = self.renewals.remove(&report.host) {
                    merge(&mut batch.seen, report.host, older);
                }
                batch.add(report);
                waiting.extend(done);
                true
            }
        }
    }

    async fn act(&self, batch: Batch, waiting: Vec<oneshot::Sender<()>>) {
        let batch = Arc::new(batch);
        let written = tokio::time::timeout(SILENCE, self.write(Arc::clone(&batch))).await;
        match written.unwrap_or(Err(StoreError::Silent)) {
            Ok(lost) => {
                for host in lost {
                    tracing::info!(host, "another boot holds the host, or it is gone");
                    self.sessions.forget(host);
                }
                for done in waiting {
                    // Who does not wait any more was cut off, and reports again.
                    let _ = done.send(());
                }
            }
            // Those who wait hear of it by the drop of their senders.
            Err(error) => {
                tracing::error!(error = %chain(&error), "what agents reported could not be stored");
                self.sessions.doubt(batch.seen.keys());
            }
        }
    }

    /// Returns the hosts whose reports were refused.
    async fn write(&self, batch: Arc<Batch>) -> Result<HashSet<i32>, StoreError> {
        let (lease, epoch) = (self.lease, self.feed.epoch());
        self.pool
            .transaction(move |conn| {
                let (batch, epoch) = (Arc::clone(&batch), epoch.clone());
                async move {
                    let lost = report::store_seen(conn, &batch.seen).await?;
                    let ours = |wiring: &&Wiring| !lost.contains(&wiring.host);
                    let wired: Vec<Wiring> = batch.wired.iter().filter(ours).copied().collect();
                    let gone: Vec<Wiring> = batch.lost.iter().filter(ours).copied().collect();
                    report::store_lost(conn, &gone).await?;
                    for (&host, ports) in batch.complete.iter().filter(|(host, _)| !lost.contains(host)) {
                        report::store_complete(conn, host, ports.clone()).await?;
                    }
                    report::store_wired(conn, &wired).await?;
                    for &host in batch.failures.iter().filter(|host| !lost.contains(host)) {
                        if let Some(ack) = batch.seen.get(&host).and_then(|seen| seen.ack.as_ref()) {
                            report::store_failed(conn, host, &ack.failures).await?;
                        }
                    }
                    let active = promote(conn, lease, &epoch).await?;
                    if !active.is_empty() {
                        tracing::debug!(ports = ?active, "ports are active");
                    }
                    Ok(lost)
                }
                .boxed()
            })
            .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    fn report(wired: &[i32], lost: &[i32], complete: bool) -> Report {
        let wirings =
            |ports: &[i32]| ports.iter().map(|&port| Wiring { host: 1, port, generation: 1 }).collect::<Vec<_>>();
        let seen = Seen { boot_id: "b".into(), at: Instant::now(), ack: None };
        Report { host: 1, seen, wired: wirings(wired), lost: wirings(lost), complete, failures: false }
    }

    /// Ports that are stored as wired, and as lost.
    fn stored(reports: impl IntoIterator<Item = Report>) -> (Vec<i32>, Vec<i32>) {
        let mut batch = Batch::default();
        reports.into_iter().for_each(|report| batch.add(report));
        let ports = |wirings: &BTreeSet<Wiring>| wirings.iter().map(|wiring| wiring.port).collect();
        (ports(&batch.wired), ports(&batch.lost))
    }

    #[test]
    fn of_two_words_about_a_binding_in_one_batch_the_later_counts() {
        assert_eq!(stored([report(&[7, 8], &[], false), report(&[], &[7], false)]), (vec![8], vec![7]));
        assert_eq!(stored([report(&[], &[7], false), report(&[7], &[], false)]), (vec![7], vec![]));
    }

    #[test]
    fn what_a_complete_report_does_not_name_is_not_wired_by_an_earlier_one() {
        assert_eq!(stored([report(&[7, 8], &[], false), report(&[8], &[], true)]), (vec![8], vec![]));
    }
}
