//! Housekeeping: what the core asks for, and what is to be done from time to time.

use crate::attach::Attacher;
use crate::clock;
use crate::core::{Chore, Forget, Shared, chain};
use crate::dataplane::Pins;
use crate::dataplane::runtime::Runtime;
use crate::introduce::Introduction;
use crate::links::Links;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// How often expired flows are swept, the ledger is flushed, and the maps are audited.
const SWEEP: Duration = Duration::from_secs(10);
/// How long the counts of others' ports stay after the last drop: a port that is bounced for here may be gone, and
/// nobody says so.
const DROPS: Duration = Duration::from_secs(3600);
const FLUSH: Duration = Duration::from_secs(1);
const AUDIT: Duration = Duration::from_secs(300);

/// Does the core's chores.
pub async fn do_chores<L: Links>(
    mut chores: mpsc::UnboundedReceiver<Chore>,
    attacher: Attacher<L>,
    forget: mpsc::UnboundedSender<Forget>,
    introduce: mpsc::UnboundedSender<Introduction>,
) {
    while let Some(chore) = chores.recv().await {
        match chore {
            Chore::RemoveInterface(interface) => {
                tracing::info!(port = %interface.port, interface = interface.made.ifname, "the port is no longer this host's");
                attacher.remove(&interface.made).await;
            }
            // The sweeper ends with the agent.
            Chore::Forget(what) => drop(forget.send(what)),
            // So does who introduces.
            Chore::Introduce(ports) => drop(introduce.send((Instant::now(), ports))),
        }
    }
}

/// Tells the core of interfaces that vanish, also of those whose message was lost. Ends when the
/// uplink does: nothing works without it, and the one that comes back is another.
pub async fn watch_links<L: Links>(core: Shared, links: L, mut vanished: mpsc::UnboundedReceiver<u32>) {
    let uplink = core.lock().identity().uplink;
    let mut survey = tokio::time::interval(Duration::from_secs(30));
    loop {
        tokio::select! {
            Some(ifindex) = vanished.recv() => {
                if ifindex == uplink {
                    return;
                }
                core.lock().interface_vanished(ifindex);
            }
            _ = survey.tick() => {
                let before: BTreeSet<u32> = core.lock().attached().values().map(|a| a.interface.made.ifindex).collect();
                match links.survey().await {
                    Ok(survey) => {
                        let there: BTreeSet<u32> = survey.whole.iter().map(|i| i.made.ifindex).collect();
                        for ifindex in before.difference(&there) {
                            core.lock().interface_vanished(*ifindex);
                        }
                    }
                    Err(error) => tracing::warn!(error = chain(&error), "interfaces could not be listed"),
                }
            }
        }
    }
}

/// Sweeps flows: expired ones now and then, those of removed ports and addresses at once. On a thread of its
/// own: a full table is 100,000 system calls.
pub async fn sweep(pins: Pins, mut forget: mpsc::UnboundedReceiver<Forget>) {
    let mut tick = tokio::time::interval(SWEEP);
    loop {
        let what: Option<Forget> = tokio::select! {
            _ = tick.tick() => None,
            what = forget.recv() => match what {
                Some(mut all) => {
                    while let Ok(more) = forget.try_recv() {
                        all.merge(more);
                    }
                    Some(all)
                }
                None => return,
            },
        };
        let pins = pins.clone();
        let work = move || {
            let mut runtime = Runtime::open(&pins)?;
            match what {
                Some(what) => runtime.forget(&what),
                None => {
                    runtime.expire_drops(clock::boot_ns(), DROPS)?;
                    runtime.expire_flows(&clock::now()).map(drop)
                }
            }
        };
        match tokio::task::spawn_blocking(work).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(error = chain(&error), "flows could not be swept"),
            Err(error) => tracing::error!(%error, "the sweep of flows ended badly"),
        }
    }
}

/// Flushes the ledger, follows the kernel's TAI offset, audits the maps.
pub async fn tick(core: Shared) {
    let mut flush = tokio::time::interval(FLUSH);
    let mut audit = tokio::time::interval(AUDIT);
    audit.reset();
    let mut flushed = 0;
    loop {
        tokio::select! {
            _ = flush.tick() => {
                // Signatures are off by it from the moment that somebody tells the kernel.
                match clock::tai_offset() {
                    Ok(offset) => core.lock().set_tai_offset(offset),
                    Err(error) => tracing::warn!(%error, "the TAI offset could not be read"),
                }
                let (size, file) = {
                    let core = core.lock();
                    (core.ledger_size(), core.ledger_flusher())
                };
                if size == flushed {
                    continue;
                }
                let done = match file {
                    Ok(file) => tokio::task::spawn_blocking(move || file.sync_data()).await.map_err(std::io::Error::other),
                    Err(error) => Ok(Err(error)),
                };
                match done {
                    Ok(Ok(())) => flushed = size,
                    Ok(Err(error)) | Err(error) => tracing::error!(%error, "the ledger could not be flushed"),
                }
            }
            _ = audit.tick() => {
                match core.lock().audit() {
                    Ok(0) => {}
                    Ok(repairs) => tracing::error!(repairs, "the maps were not as they should be, and were repaired"),
                    Err(error) => tracing::error!(error = chain(&error), "the maps could not be audited"),
                }
            }
        }
    }
}
