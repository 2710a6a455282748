//! The boot sequence: everything that lasts is taken over before anything new begins.

use crate::attach::Attacher;
use crate::config::Config;
use crate::confirm::{self, Confirmer};
use crate::core::{Core, Identity, Shared};
use crate::dataplane::counts::{self, Counts};
use crate::dataplane::kernel::{Kernel, Settings};
use crate::dataplane::runtime::{self, Runtime};
use crate::dataplane::{Dataplane as _, Pins};
use crate::events::{self, Responder};
use crate::flow_log::Logger;
use crate::flow_log::file::Files;
use crate::flow_log::recent::Recent;
use crate::introduce::Introducer;
use crate::keeper;
use crate::ledger::{Found, Ledger};
use crate::links::netlink::Netlink;
use crate::operators::Operators;
use crate::seeing::watch::Watches;
use crate::socket::{self, Server};
use crate::status::Observer;
use crate::sync::follow::{Description, Follower};
use crate::sync::source::StateSource;
use crate::{answers, clock, object};
use anyhow::Context as _;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

/// Runs until it is told to end. What it made stays: forwarding does not end with the agent.
///
/// `abi` is `mizar_abi::ABI`, but in a test that plays an agent of another version.
pub async fn run(config: Config, source: impl StateSource, abi: u32) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listening for SIGINT")?;

    let links = Netlink::open().context("opening netlink")?;
    let uplink = links.uplink(&config.uplink).await.context("--uplink")?;
    // From here on no vanishing interface is missed.
    let vanished = Netlink::vanished().context("watching interfaces")?;
    let identity = Identity {
        host: config.host.clone(),
        boot_id: clock::boot_id().context("reading the boot id")?,
        underlay: uplink.address,
        uplink: uplink.ifindex,
        mtu: uplink.mtu,
        xdp_tx: !uplink.is_veth,
    };

    let (ledger, found) = Ledger::open(&config.state_dir)
        .with_context(|| format!("--state-dir: opening the ledger in {}", config.state_dir.display()))?;
    let heard = ledger.age().context("--state-dir: looking at the ledger")?;
    let batches = match found {
        Found::Batches(batches) => batches,
        Found::Nothing => Vec::new(),
        Found::Unusable(reason) => {
            tracing::error!(
                reason,
                "the ledger is unusable and was put aside; forwarding goes on until a snapshot says more"
            );
            Vec::new()
        }
    };

    let pins = Pins::open(&config.bpffs, abi).context("--bpffs")?;
    let settings = Settings {
        uplink: config.uplink.clone(),
        uplink_ifindex: uplink.ifindex,
        uplink_is_veth: uplink.is_veth,
        transit_hook: config.transit_hook,
        flow_entries: config.flow_entries,
        flow_log_sample: config.flow_log_sample,
        flow_log_rate: config.flow_log_rate,
    };
    let object = object::read(config.bpf_object.as_deref())?;
    let kernel = Kernel::load(pins.clone(), &object, &settings).context("loading the data plane")?;
    drop(object);
    let hook = kernel.hook();
    tracing::info!(host = config.host, uplink = config.uplink, underlay = %uplink.address, mtu = uplink.mtu, hook, "data plane loaded");

    let (chores, chores_inbox) = mpsc::unbounded_channel();
    let guard = kernel.guard();
    let mut core = Core::new(identity, Box::new(kernel), ledger, &batches, chores);
    drop(batches);
    core.set_tai_offset(clock::tai_offset().context("reading the TAI offset")?);
    let core = Shared::new(core);
    let attacher = Attacher::new(core.clone(), links.clone(), guard);
    let interfaces = attacher.survey().await.context("listing interfaces")?;
    core.lock().take_over(interfaces).context("adopting the maps")?;

    give_back_memory();

    let listener =
        socket::bind(&config.socket).with_context(|| format!("--socket: binding {}", config.socket.display()))?;
    let (forget, forget_inbox) = mpsc::unbounded_channel();
    let (introduce, introduce_inbox) = mpsc::unbounded_channel();
    tokio::spawn(keeper::do_chores(chores_inbox, attacher.clone(), forget, introduce));
    tokio::spawn(keeper::sweep(pins.clone(), forget_inbox));
    let watch = tokio::spawn(keeper::watch_links(core.clone(), links, vanished));
    tokio::spawn(keeper::tick(core.clone()));
    let ring = runtime::events(&pins).context("opening the ring of events")?;
    let maps = || Runtime::open(&pins).context("opening the programs' maps");
    let (unconfirmed, unconfirmed_inbox) = mpsc::channel(confirm::QUEUE);
    let watches = Watches::open(core.clone(), &pins).context("opening the map of packets that are waited for")?;
    tokio::spawn(watches.clone().tidy());
    let responder = Responder::new(core.clone(), maps()?, uplink.address, unconfirmed, watches.clone());
    let responder = responder.context("opening sockets")?;
    let confirmer = Confirmer::new(core.clone(), maps()?, uplink.address).context("opening a socket")?;
    let rules_changed = core.lock().rules_changed();
    tokio::spawn(ends("who asks about flows", confirmer.run(rules_changed, unconfirmed_inbox)));
    let introducer = Introducer::new(core.clone(), maps()?, uplink.address, heard).context("opening a socket")?;
    tokio::spawn(ends("who introduces ports", introducer.run(introduce_inbox)));
    tokio::spawn(ends("the reader of events", responder.run(ring)));
    tokio::spawn(ends("the prober", events::probe(core.clone(), maps()?, uplink.address)));
    let size = u64::from(config.flow_log_mib) << 20;
    let files = Files::new(&config.state_dir.join("flow-log"), size, config.flow_log_files);
    let recent = Recent::of(&files);
    let logger = Logger::new(core.clone(), Counts::open(&pins).context("opening maps")?, files, recent.clone());
    let starts = counts::starts(&pins).context("opening the ring of the flow log")?;
    tokio::spawn(ends("the flow log", logger.run(starts)));
    let observer = Observer::new(Some(pins.clone()), hook).with_log(recent.clone());
    if let Some(address) = config.operator_listen {
        let listener = TcpListener::bind(address).await.with_context(|| format!("--operator-listen: {address}"))?;
        let operators = Operators::new(core.clone(), observer.clone());
        tokio::spawn(mizar_metrics::serve(listener, Arc::new(operators)));
    }
    tokio::spawn(Server { core: core.clone(), attacher, observer }.run(listener));
    let description = Description { az: config.az.clone(), rack: config.rack.clone(), transit_hook: hook.to_owned() };
    let source = Arc::new(source);
    tokio::spawn(answers::run(core.clone(), Arc::clone(&source), pins, recent, watches));
    tokio::spawn(Follower::new(core, source, description).run());

    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        _ = watch => anyhow::bail!("the uplink {} vanished: the next agent takes the new one", config.uplink),
    }
    tracing::info!("told to end; forwarding goes on");
    Ok(())
}

/// A task that must not end: without it the host would only seem to be well.
async fn ends(task: &'static str, work: impl Future<Output = std::io::Result<()>>) {
    let outcome = work.await;
    panic!("{task} has ended: {outcome:?}");
}

/// Loading the programs took some megabytes of heap for a moment: an idle host needs them for
/// something else.
fn give_back_memory() {
    // SAFETY: touches nothing but free memory of the allocator.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}
