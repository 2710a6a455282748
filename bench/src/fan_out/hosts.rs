//! Hosts without a data plane: each a connection that registers, reads its snapshot, waits for news
//! and acknowledges them, as an agent does.
//!
//! They hold no entries and program nothing, so that what is measured is the control plane; what a
//! host adds to that, `revoke` measures.

use anyhow::{Context, Result, ensure};
use mizar::sandbox::{
    Sandbox,
    layout::{AGENT_PORT, HostPlan, UNDERLAY_API},
    netns::Netns,
    pki,
};
use mizar_wire::sync::{Ack, PROTOCOL, Ports, Register, Registered, SnapshotPage, SyncReply, SyncRequest};
use reqwest::{Certificate, Client, Identity, RequestBuilder, Response, StatusCode};
use serde::de::DeserializeOwned;
use std::{
    net::Ipv4Addr,
    sync::{
        Arc,
        mpsc::{Receiver, Sender, channel},
    },
    time::{Duration, Instant},
};
use tokio::sync::Semaphore;

/// As agents do.
const WAIT_S: u32 = 20;
/// Hosts that begin at the same time.
const BEGINNING: usize = 16;
/// Half of a lease: whoever asks later than this is lost to the scheduler.
const PATIENCE: Duration = Duration::from_secs(15);
/// Until a busy server is asked again.
const LATER: Duration = Duration::from_millis(100);

/// An answer that brought news.
#[derive(Debug)]
pub struct News {
    /// Index of the host.
    pub host: usize,
    /// Kinds of the entries that changed.
    pub kinds: Vec<i16>,
    /// Of the answer's body.
    pub bytes: usize,
    /// When the API had answered the acknowledgement.
    pub acknowledged: Instant,
}

/// What a host tells of itself.
pub enum Told {
    /// It is registered and has read its snapshot.
    Began,
    /// It was told something, and acknowledged it.
    News(News),
    /// It cannot go on.
    Failed(anyhow::Error),
}

/// Running hosts; they end with this value.
pub struct Hosts {
    told: Receiver<Told>,
    _stop: tokio::sync::oneshot::Sender<()>,
}

/// Name of the host with this index.
pub fn name(host: usize) -> String {
    format!("sim{}", host + 1)
}

impl Hosts {
    /// Starts `count` hosts beside those of the sandbox, and waits until all are registered.
    pub fn start(sandbox: &Sandbox, count: usize) -> Result<Self> {
        let plans = (0..count).map(plan).collect::<Result<Vec<_>>>()?;
        pki::up(sandbox.layout(), &plans).context("certificates of the simulated hosts")?;
        let authority = Certificate::from_pem(&std::fs::read(pki::ca(sandbox.layout()))?)?;
        let hosts = plans.iter().enumerate().map(|(index, plan)| Host::new(sandbox, index, plan, &authority));
        let hosts = hosts.collect::<Result<Vec<_>>>()?;
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let (tell, told) = channel();
        let underlay = Netns::named(sandbox.layout().underlay_netns());
        std::thread::spawn(move || {
            let failed = tell.clone();
            let ended = underlay.enter(move || serve(hosts, &tell, stopped));
            if let Err(error) = ended.and_then(|served| served) {
                // Nobody waits any more where it cannot be sent.
                let _ = failed.send(Told::Failed(error));
            }
        });
        let hosts = Self { told, _stop: stop };
        let mut began = 0;
        while began < count {
            match hosts.told.recv_timeout(Duration::from_secs(120)).context("the hosts do not register")? {
                Told::Began => began += 1,
                // Roles are placed on the first meanwhile.
                Told::News(_) => {}
                Told::Failed(error) => return Err(error),
            }
        }
        Ok(hosts)
    }

    /// All news until there are none for `quiet`.
    pub fn news(&self, quiet: Duration) -> Result<Vec<News>> {
        let mut news = Vec::new();
        loop {
            match self.told.recv_timeout(quiet) {
                Ok(Told::News(one)) => news.push(one),
                Ok(Told::Began) => {}
                Ok(Told::Failed(error)) => return Err(error),
                Err(_) => return Ok(news),
            }
        }
    }
}

/// Each with an address of its own, in racks of 40.
fn plan(host: usize) -> Result<HostPlan> {
    const RACKS: [&str; 4] = ["s1", "s2", "s3", "s4"];
    let [high, low] = u16::try_from(host + 1).context("HOSTS: at most 65,000")?.to_be_bytes();
    Ok(HostPlan {
        name: name(host),
        underlay: Ipv4Addr::new(172, 30, high, low),
        az: "az1",
        rack: RACKS[host % RACKS.len()],
        index: 0,
    })
}

fn serve(hosts: Vec<Host>, tell: &Sender<Told>, stopped: tokio::sync::oneshot::Receiver<()>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let turns = Arc::new(Semaphore::new(BEGINNING));
    runtime.block_on(async {
        for mut host in hosts {
            let (tell, turns) = (tell.clone(), turns.clone());
            tokio::spawn(async move {
                if let Err(error) = host.run(&tell, &turns).await {
                    let _ = tell.send(Told::Failed(error.context(host.plan.name)));
                }
            });
        }
        // Its sender goes with the value that stands for the hosts.
        let _ = stopped.await;
    });
    Ok(())
}

struct Host {
    index: usize,
    plan: HostPlan,
    client: Client,
    url: String,
    epoch: String,
    cursor: String,
}

impl Host {
    fn new(sandbox: &Sandbox, index: usize, plan: &HostPlan, authority: &Certificate) -> Result<Self> {
        let pair = pki::host(sandbox.layout(), &plan.name);
        let mut pem = std::fs::read(&pair.cert)?;
        pem.extend(std::fs::read(&pair.key)?);
        let client = Client::builder()
            .tls_certs_only([authority.clone()])
            .identity(Identity::from_pem(&pem)?)
            .no_proxy()
            .timeout(Duration::from_secs(u64::from(WAIT_S)) + PATIENCE)
            .build()?;
        let url = format!("https://{UNDERLAY_API}:{AGENT_PORT}/agent/v1/hosts/{}", plan.name);
        Ok(Self { index, plan: plan.clone(), client, url, epoch: String::new(), cursor: String::new() })
    }

    async fn run(&mut self, tell: &Sender<Told>, turns: &Semaphore) -> Result<()> {
        let turn = turns.acquire().await?;
        self.register().await?;
        self.snapshot().await?;
        drop(turn);
        // Whoever measured has ended where nobody listens.
        let mut said = tell.send(Told::Began);
        while said.is_ok() {
            let Some((reply, bytes)) = self.sync(WAIT_S).await? else { continue };
            if reply.changes.is_empty() && reply.scopes_added.is_empty() && reply.scopes_dropped.is_empty() {
                continue;
            }
            // An agent acknowledges with the request that waits for the next news; when that was
            // taken in, only an answer tells.
            let next = self.sync(0).await?;
            let acknowledged = Instant::now();
            let kinds = |reply: &SyncReply| reply.changes.iter().map(|change| change.kind).collect();
            said = tell.send(Told::News(News { host: self.index, kinds: kinds(&reply), bytes, acknowledged }));
            if let Some((reply, bytes)) = next.filter(|(reply, _)| !reply.changes.is_empty()) {
                self.sync(0).await?;
                let acknowledged = Instant::now();
                said = tell.send(Told::News(News { host: self.index, kinds: kinds(&reply), bytes, acknowledged }));
            }
        }
        Ok(())
    }

    async fn register(&self) -> Result<()> {
        let said = Register {
            protocol: PROTOCOL,
            abi: mizar_abi::ABI,
            boot_id: self.plan.name.clone(),
            version: "simulated".into(),
            underlay: self.plan.underlay,
            mtu: 1500,
            az: self.plan.az.into(),
            rack: self.plan.rack.into(),
            transit_hook: "tcx".into(),
        };
        let answer = answered(self.client.put(&self.url).json(&said)).await?;
        decoded::<Registered>(answer, "registration").await.map(drop)
    }

    async fn snapshot(&mut self) -> Result<()> {
        let (mut after, mut first) = (String::new(), true);
        loop {
            let answer = answered(self.client.get(format!("{}/snapshot{after}", self.url))).await?;
            let (page, _): (SnapshotPage, _) = decoded(answer, "snapshot").await?;
            if std::mem::take(&mut first) {
                (self.epoch, self.cursor) = (page.epoch, page.cursor);
            }
            match page.next {
                Some(next) => after = format!("?after={next}"),
                None => return Ok(()),
            }
        }
    }

    /// One poll, and the size of its answer; `None` where a snapshot had to be read.
    async fn sync(&mut self, wait_s: u32) -> Result<Option<(SyncReply, usize)>> {
        let request = SyncRequest {
            protocol: PROTOCOL,
            abi: mizar_abi::ABI,
            boot_id: self.plan.name.clone(),
            epoch: Some(self.epoch.clone()),
            cursor: Some(self.cursor.clone()),
            wait_s,
            ack: Some(Ack { cursor: self.cursor.clone(), failures: vec![] }),
            ports: Ports::default(),
            ports_complete: false,
        };
        let answer = answered(self.client.post(format!("{}/sync", self.url)).json(&request)).await?;
        if answer.status() == StatusCode::GONE {
            self.snapshot().await?;
            return Ok(None);
        }
        let (reply, bytes): (SyncReply, _) = decoded(answer, "sync").await?;
        (self.epoch, self.cursor) = (reply.epoch.clone(), reply.cursor.clone());
        Ok(Some((reply, bytes)))
    }
}

/// The answer; one that tells to come back later is asked for again, as agents do.
async fn answered(request: RequestBuilder) -> Result<Response> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let again = request.try_clone().context("the body is in memory")?;
        let answer = again.send().await?;
        if answer.status() != StatusCode::SERVICE_UNAVAILABLE || Instant::now() > deadline {
            return Ok(answer);
        }
        tokio::time::sleep(LATER).await;
    }
}

async fn decoded<T: DeserializeOwned>(answer: Response, what: &str) -> Result<(T, usize)> {
    let status = answer.status();
    let body = answer.bytes().await?;
    ensure!(status.is_success(), "{what}: {status}: {}", String::from_utf8_lossy(&body));
    Ok((serde_json::from_slice(&body).with_context(|| format!("{what} cannot be read"))?, body.len()))
}
