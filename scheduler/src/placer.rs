//! The leader's main loop: look, judge, decide, write.
//!
//! It looks every 20 ms whether commands wrote networks or subnets, so a new subnet has bouncers
//! before its first port is attached; at hosts and leases four times a second; at everything once
//! a second, or less often where that takes longer than a twentieth of the time. Each round
//! begins from what is stored, so a round that fails is simply run again.

use crate::config::Settings;
use crate::decide::{Decision, Desired, decide, written};
use crate::metrics::Metrics;
use crate::pace::Pace;
use crate::world::World;
use mizar_db::placement::changes::Watch;
use mizar_db::placement::condition::{self, State};
use mizar_db::placement::roles::{NetworkChange, Outcome, Remains, apply, bury};
use mizar_db::placement::state::{Phase, RoleKey};
use mizar_db::placement::{Error, leases};
use mizar_db::{Connection, DbPool};
use mizar_placement::failure::{Lease, Ledger, Verdict};
use mizar_wire::Scope;
use std::collections::BTreeSet;
use std::convert::Infallible;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

/// How often to look for new networks and subnets, and for acknowledgements that are waited for.
const LOOK: Duration = Duration::from_millis(20);
/// How often to look at hosts: labels and leases.
const HOSTS: Duration = Duration::from_millis(250);
/// How often to look at everything.
const EVERYTHING: Duration = Duration::from_secs(1);
/// After this long a role that does not get on is an alarm.
const STUCK: Duration = Duration::from_secs(600);

/// Gives hosts their roles.
pub struct Placer<'m> {
    /// For looking.
    reads: DbPool,
    /// For writing.
    writes: DbPool,
    fence: i64,
    since: Duration,
    settings: Settings,
    world: World,
    desired: Desired,
    ledger: Ledger,
    /// Hosts with ports that went down with them.
    down: BTreeSet<u32>,
    watch: Option<Watch>,
    hosts: Pace,
    everything: Pace,
    /// Tells that leases are doubted, or not judged yet.
    doubt: watch::Sender<bool>,
    /// What was said already.
    alarms: Alarms,
    /// What operators were told of.
    told: Option<(State, Vec<u32>)>,
    metrics: &'m Metrics,
}

#[derive(Default)]
struct Alarms {
    mass_failure: bool,
    nobody: bool,
    stuck: BTreeSet<RoleKey>,
}

impl<'m> Placer<'m> {
    /// Of a leader with this fence, since then.
    pub fn new(
        reads: DbPool,
        writes: DbPool,
        fence: i64,
        since: Duration,
        settings: Settings,
        doubt: watch::Sender<bool>,
        metrics: &'m Metrics,
    ) -> Self {
        Self {
            reads,
            writes,
            fence,
            since,
            settings,
            world: World::default(),
            desired: Desired::new(),
            ledger: Ledger::default(),
            down: BTreeSet::new(),
            watch: None,
            hosts: Pace::new(HOSTS),
            everything: Pace::new(EVERYTHING),
            doubt,
            alarms: Alarms::default(),
            told: None,
            metrics,
        }
    }

    /// Runs until another one leads.
    pub async fn run(mut self) -> Result<Infallible, Error> {
        let mut ticks = tokio::time::interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut failing = false;
        loop {
            ticks.tick().await;
            match self.round().await {
                Ok(()) => failing = false,
                Err(error @ Error::Deposed { .. }) => return Err(error),
                Err(error) => {
                    self.metrics.failed("placement");
                    if !failing {
                        tracing::error!(
                            error = mizar_db::chain(&error),
                            "a round of placement failed and will be repeated"
                        );
                    }
                    failing = true;
                    // Whatever was half known is read anew, without pressing a sick database.
                    self.watch = None;
                    tokio::time::sleep(HOSTS).await;
                }
            }
        }
    }

    async fn round(&mut self) -> Result<(), Error> {
        let started = Instant::now();
        let mut conn = self.reads.get().await?;
        if !self.look(&mut conn).await? {
            return Ok(());
        }
        let verdict = self.judge(&mut conn).await?;
        let decision = decide(&self.world, &verdict, &self.settings, &self.desired);
        self.alarm(&verdict, &decision);
        self.tell(&verdict, &decision).await?;
        let Decision { changes, remains, desired, .. } = decision;
        self.desired = desired;
        for change in changes {
            self.write(&mut conn, change).await?;
        }
        if let Some(remains) = remains {
            self.bury(remains).await?;
        }
        self.metrics.placed(started.elapsed());
        self.metrics.judged(self.world.hosts.len(), verdict.lost.len(), verdict.doubted.len());
        self.metrics.roles(self.world.roles.values().flatten().map(|role| (role.key.scope, role.phase)));
        Ok(())
    }

    /// Brings the world up to date where that is due. Whether there is anything to decide on.
    async fn look(&mut self, conn: &mut Connection) -> Result<bool, Error> {
        let started = Instant::now();
        let mut news = false;
        let changes = match &mut self.watch {
            Some(watch) => watch.changes(conn).await?,
            None => {
                // Before the full read, so that nothing falls between.
                self.watch = Some(Watch::begin(conn).await?);
                self.down = leases::down(conn).await?;
                self.everything.hurry();
                Default::default()
            }
        };
        if self.everything.is_due() || changes.everything {
            self.world.refresh(conn).await?;
            self.everything.done(started);
            news = true;
        } else if !changes.is_empty() {
            self.world.refresh_some(conn, &changes).await?;
            news = true;
        }
        if news || self.hosts.is_due() || self.world.is_unsettled() {
            self.world.refresh_hosts(conn).await?;
            self.world.refresh_receivers(conn).await?;
            self.hosts.done(started);
            news = true;
        }
        Ok(news)
    }

    /// Judges leases, and takes ports down or lets them return.
    async fn judge(&mut self, conn: &mut Connection) -> Result<Verdict, Error> {
        let lease = |h: &mizar_db::placement::state::HostState| Lease {
            host: h.number,
            az: h.az.clone(),
            seen: h.seen,
            lost: h.lost,
            gone: h.gone,
        };
        let all: Vec<Lease> = self.world.hosts.values().map(lease).collect();
        let (now, lasts) = (self.world.now, self.settings.lease);
        let verdict = self.ledger.judge(&all, now, self.since, lasts);
        self.doubt.send_replace(verdict.mass_failure());
        for host in &verdict.newly_lost {
            tracing::warn!(host = self.name(*host), lease_s = lasts.as_secs(), "host lost: its roles are replaced");
        }
        for host in &verdict.returned {
            tracing::info!(host = self.name(*host), "host returned");
        }
        if !verdict.newly_lost.is_empty() {
            let hosts: Vec<u32> = verdict.newly_lost.iter().copied().collect();
            let ports = leases::take_down(&self.writes, self.fence, hosts.clone()).await.inspect_err(|_| {
                // Judged anew in the next round.
                self.ledger.doubt(&verdict.newly_lost);
            })?;
            tracing::warn!(ports, "ports are down with their hosts");
            self.down.extend(hosts);
        }
        let back: Vec<u32> = all
            .iter()
            .filter(|l| self.down.contains(&l.host) && l.seen.is_some_and(|seen| seen + lasts > now))
            .map(|l| l.host)
            .collect();
        if !back.is_empty() {
            let ports = leases::let_return(&self.writes, self.fence, back.clone()).await?;
            tracing::info!(ports, "ports return with their hosts");
            // A lease may have ended again while a port went down late: ask the table.
            self.down = leases::down(conn).await?;
        }
        Ok(verdict)
    }

    async fn write(&mut self, conn: &mut Connection, change: NetworkChange) -> Result<(), Error> {
        let scopes: BTreeSet<Scope> = change.roles.keys().map(|key| key.scope).collect();
        let (vni, maps) = (change.vni, change.writes.len());
        let count = |phase| change.roles.values().filter(|c| c.map(|(_, phase)| phase) == phase).count();
        let counts = [Some(Phase::Pending), Some(Phase::Active), Some(Phase::Draining), None].map(count);
        let written: Vec<_> = written(&change.writes).collect();
        match apply(&self.writes, self.fence, change).await? {
            Outcome::Done => {
                let [pending, active, draining, gone] = counts;
                tracing::info!(vni, pending, active, draining, gone, maps, "roles changed");
                self.world.refresh_roles(conn, &scopes.into_iter().collect::<Vec<_>>()).await?;
                self.world.maps.extend(written);
            }
            Outcome::Outdated => self.everything.hurry(),
        }
        Ok(())
    }

    async fn bury(&mut self, remains: Remains) -> Result<(), Error> {
        let (scopes, maps) = (remains.scopes.len(), remains.writes.len());
        match bury(&self.writes, self.fence, remains).await? {
            Outcome::Done => tracing::info!(scopes, maps, "roles of deleted networks and subnets removed"),
            Outcome::Outdated => tracing::debug!("what seemed deleted is there again"),
        }
        self.everything.hurry();
        Ok(())
    }

    fn alarm(&mut self, verdict: &Verdict, decision: &Decision) {
        if verdict.mass_failure() != self.alarms.mass_failure {
            self.alarms.mass_failure = verdict.mass_failure();
            match verdict.mass_failure() {
                true => tracing::error!(
                    hosts = verdict.doubted.len(),
                    "too many leases ended together: nothing is moved until hosts return"
                ),
                false => tracing::info!("the mass failure is over"),
            }
        }
        if decision.nobody != self.alarms.nobody {
            self.alarms.nobody = decision.nobody;
            match decision.nobody {
                true => tracing::error!("no host may hold transit roles: those that do keep them"),
                false => tracing::info!("there are hosts again that may hold transit roles"),
            }
        }
        let now = self.world.now;
        let all = self.world.roles.values().flatten();
        let late = all.filter(|r| r.phase != Phase::Active && now > r.changed + STUCK);
        let stuck: BTreeSet<RoleKey> = late.map(|r| r.key).collect();
        for key in stuck.difference(&self.alarms.stuck) {
            let host = self.name(key.host);
            tracing::error!(host, scope = ?key.scope, lo = key.lo, "a role has not got on for ten minutes");
        }
        self.alarms.stuck = stuck;
    }

    /// Tells operators what can be done at present.
    async fn tell(&mut self, verdict: &Verdict, decision: &Decision) -> Result<(), Error> {
        let (state, hosts) = match (verdict.mass_failure(), decision.nobody) {
            (true, _) => (State::Frozen, verdict.doubted.iter().copied().collect()),
            (false, true) => (State::Nobody, Vec::new()),
            (false, false) => (State::Normal, Vec::new()),
        };
        // No lease is judged before one lease of leadership: until then the predecessor's word
        // stands.
        let judged = self.world.now >= self.since + self.settings.lease;
        let now = (state, hosts);
        if self.told.as_ref() == Some(&now) || (state == State::Normal && !judged) {
            return Ok(());
        }
        condition::write(&self.writes, self.fence, now.0, now.1.clone()).await?;
        self.metrics.condition(state);
        self.told = Some(now);
        Ok(())
    }

    fn name(&self, host: u32) -> String {
        self.world.hosts.get(&host).map_or_else(|| host.to_string(), |h| h.name.clone())
    }
}
