//! Attach and detach: the steps of an interface's life, in their order.

use crate::core::{Shared, chain};
use crate::dataplane::Guard;
use crate::links::{Interface, LinkError, Links, Made};
use mizar_plan::Endpoint;
use mizar_wire::local::{AttachKind, Attached};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use uuid::Uuid;

/// How long an attach waits for the port's entry.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why a port was not attached.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// The port is attached as something else.
    #[error("the port is attached already, as {0}; detach it first")]
    Otherwise(String),
    /// Its entry did not come in time, or is not complete.
    #[error("waited {s} s: {reason}", s = PATIENCE.as_secs())]
    NotDesired {
        /// What is missing.
        reason: String,
    },
    /// It cannot be wired.
    #[error("{0}")]
    NotWired(String),
    /// Making, configuring or removing the interface.
    #[error("the interface could not be made")]
    Link(#[source] LinkError),
}

/// What a port is to be, and how long its entry was waited for.
struct Desired {
    endpoint: Endpoint,
    waited: Duration,
}

/// Attaches and detaches, one call for a port at a time.
#[derive(Clone)]
pub struct Attacher<L> {
    core: Shared,
    links: L,
    guard: Arc<dyn Guard>,
    busy: Arc<Mutex<BTreeMap<Uuid, Arc<tokio::sync::Mutex<()>>>>>,
}

impl<L: Links> Attacher<L> {
    /// Over these.
    pub fn new(core: Shared, links: L, guard: Arc<dyn Guard>) -> Self {
        Self { core, links, guard, busy: Arc::default() }
    }

    fn turn(&self, port: Uuid) -> Arc<tokio::sync::Mutex<()>> {
        let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        // Nobody else holds or waits for these.
        busy.retain(|_, turn| Arc::strong_count(turn) > 1);
        busy.entry(port).or_default().clone()
    }

    /// Attaches a port. The interface is made while its entry may still be on its way.
    pub async fn attach(&self, port: Uuid, kind: AttachKind) -> Result<Attached, AttachError> {
        let turn = self.turn(port);
        let _mine = turn.lock().await;
        let current = self.core.lock().attached().get(&port).map(|a| a.interface.clone());
        if let Some(current) = current
            && self.is_sound(&current).await
        {
            if current.kind != kind {
                return Err(AttachError::Otherwise(format!("{:?}", current.kind)));
            }
            let desired = self.endpoint(port).await?;
            return Ok(describe(&current.made, &desired));
        }
        let made = self.links.make(port, &kind).await.map_err(AttachError::Link)?;
        let interface = Interface { port, kind, made };
        match self.wire(&interface).await {
            Ok(desired) => Ok(describe(&interface.made, &desired)),
            Err(error) => {
                self.undo(&interface).await;
                Err(error)
            }
        }
    }

    /// One that is not is taken for gone: the message of it may still be on its way.
    async fn is_sound(&self, interface: &Interface) -> bool {
        let sound = self.links.is_sound(interface).await;
        if !sound {
            tracing::info!(port = %interface.port, interface = interface.made.ifname, "the interface is not what it was");
            self.undo(interface).await;
        }
        sound
    }

    async fn wire(&self, interface: &Interface) -> Result<Desired, AttachError> {
        // The program needs a grace period, the entry its way here: at the same time.
        let (guard, made) = (self.guard.clone(), interface.made.clone());
        let guarded = tokio::task::spawn_blocking(move || guard.bind(&made.ifname, made.ifindex));
        let desired = self.endpoint(interface.port).await;
        let guarded = guarded.await.map_err(|e| AttachError::NotWired(e.to_string()))?;
        guarded.map_err(|e| AttachError::NotWired(chain(&e)))?;
        let desired = desired?;
        self.links.configure(interface, &desired.endpoint).await.map_err(AttachError::Link)?;
        self.links.finish(interface).await.map_err(AttachError::Link)?;
        self.core.lock().attach(interface.clone()).map_err(AttachError::NotWired)?;
        Ok(desired)
    }

    /// Waits until the port's entry, and what it refers to, have come.
    async fn endpoint(&self, port: Uuid) -> Result<Desired, AttachError> {
        let mut changes = self.core.lock().changes();
        let asked = Instant::now();
        loop {
            changes.mark_unchanged();
            let reason = match self.core.lock().store().planner.endpoint(port) {
                Ok(endpoint) => return Ok(Desired { endpoint, waited: asked.elapsed() }),
                Err(reason) => reason,
            };
            match tokio::time::timeout_at(asked + PATIENCE, changes.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return Err(AttachError::NotDesired { reason }),
            }
        }
    }

    async fn undo(&self, interface: &Interface) {
        self.core.lock().detach(interface.port);
        self.remove(&interface.made).await;
    }

    /// Removes an interface that serves no port any more. One that stays keeps its program,
    /// which drops its packets: the next agent tries again.
    pub async fn remove(&self, made: &Made) {
        match self.links.remove(made).await {
            Ok(()) => self.core.lock().release(made),
            Err(error) => {
                tracing::error!(interface = made.ifname, error = chain(&error), "an interface could not be removed");
            }
        }
    }

    /// Detaches a port. One that is not attached is no failure.
    pub async fn detach(&self, port: Uuid) {
        let turn = self.turn(port);
        let _mine = turn.lock().await;
        let interface = self.core.lock().detach(port);
        if let Some(interface) = interface {
            self.remove(&interface.made).await;
            tracing::info!(%port, interface = interface.made.ifname, "port detached");
        }
    }

    /// Takes over what a former agent left: finished interfaces are adopted, others removed.
    pub async fn survey(&self) -> Result<Vec<Interface>, LinkError> {
        let survey = self.links.survey().await?;
        for made in survey.half {
            tracing::info!(interface = made.ifname, "an unfinished interface is removed");
            self.links.remove(&made).await?;
        }
        Ok(survey.whole)
    }
}

fn describe(made: &Made, Desired { endpoint, waited }: &Desired) -> Attached {
    Attached {
        port: endpoint.port,
        host_ifname: made.ifname.clone(),
        mac: endpoint.mac.map(|b| format!("{b:02x}")).join(":"),
        mtu: endpoint.mtu,
        addresses: endpoint.addresses.clone(),
        gateway: endpoint.gateway,
        waited_us: u64::try_from(waited.as_micros()).unwrap_or(u64::MAX),
    }
}
